"""What a task must answer to the evaluation loop."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from .._common.checks import check_integer
from .._common.devices import LONGEST_WAIT
from .._common.model_config import ignored_config
from ..blurs import Blur, fingerprints
from ..data import Listing, Skipped
from ..metrics import Statistics
from ..notation import parse_list
from ..protocol import Protocol, normalisation, normalisation_source
from ..reporting import kept_kernels
from .settings import EvaluationSettings, check_foreign

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of a network's input."""

Condition = tuple[str, tuple[int, ...]]
"""Short name of the blur, and the network sides."""


class EvaluationTask(ABC, Dataset[Any]):
    """A network and a listing of images under several conditions, as the evaluation loop sees them.

    In a loader's process an item is made of each image: its views under every blur. The network's outputs on
    an image become statistics that add up: arrays of which each row is a condition.

    Attributes:
        name: of the task.
        default_blurs: the paper's.
        default_batch_size: how many views the network sees at once.
        foreign: settings that other tasks have, and why this one does not.
        statistics: class of the statistics of many images under one condition; its fields are `ids` and the
            arrays that :meth:`measure` yields.
        totals: names of those further arrays that hold one number, whose sum over all images is for the
            record.
        opened: makes a listing of a root, of settings, `split` and `workers`.
        listing: of the images.
        conditions: what is measured.
        model: the network that the record names.
        networks: what runs, made of it.
        outputs: number of the network's classes, once it has run.

    Args:
        model: the network.
        root: the images.
        settings: as the caller gave them.
        protocol: made of these.
        colours: of the network's input, and their source; None looks them up.
        workers: loader processes, where labels must be read.
        **shown: sides and crops in px, to compare with the configuration of the network.
    """

    name: ClassVar[str]
    default_blurs: ClassVar[str]
    default_batch_size: ClassVar[int]
    foreign: ClassVar[Mapping[str, str]] = {}
    statistics: ClassVar[type[Statistics]]
    totals: ClassVar[tuple[str, ...]] = ()
    opened: ClassVar[Callable[..., Listing[Any]]]

    listing: Listing[Any]
    conditions: Sequence[Condition]
    networks: nn.Module
    outputs = 0

    def __init__(
        self,
        model: nn.Module,
        root: Any,
        settings: EvaluationSettings,
        protocol: Protocol,
        *,
        colours: tuple[Colours, str] | None = None,
        workers: int | None = None,
        **shown: Any,
    ) -> None:
        check_foreign(settings, self.foreign, self.name)
        self.seed = settings.seed
        self._columns = None if settings.columns is None else list(settings.columns)
        self.blurs = parse_list(self.default_blurs if settings.blurs is None else settings.blurs)
        self._own = fingerprints(self.blurs, seed=self.seed)
        self._pictures = kept_kernels(self.blurs, seed=self.seed)
        given = settings.batch_size
        self.batch_size = self.default_batch_size if given is None else given
        check_integer("batch_size", self.batch_size, low=1, high=2**31)
        self.model = self.networks = model
        self.protocol = protocol
        if colours is None:
            mean, std = settings.mean, settings.std
            colours = normalisation(model, mean, std), normalisation_source(model, mean, std)
        self.colours, self._source = colours
        self._config = ignored_config(model, resample=settings.resample, **shown)
        self.listing = self.opened(root, settings, split="val", workers=workers)
        self._names, copies = [str(blur) for blur in self.blurs], self.listing.manifest
        if copies is not None and copies.as_they_are(protocol, blurs_given=settings.blurs is not None):
            self.blurs, self._names, self._own = parse_list("sharp"), [copies.blur], copies.own_kernels

    def settings(self) -> dict[str, Any]:
        """Plain values for the record: the numbers of the protocol, mean and std."""
        return {
            "blurs": self._names,
            **({"copies": self.listing.manifest.facts()} if self.listing.manifest else {}),
            **({"kernels": self._own, "kernel_pictures": self._pictures} if self._own else {}),
            "canonical_side": self.protocol.canonical_side,
            "resample": self.protocol.resample,
            "border": self.protocol.border,
            "seed": self.seed,
            "columns": self._columns,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "normalisation": self._source,
            **self._config,
        }

    @property
    def patience(self) -> float:
        """Seconds within which a loader process makes an item."""
        return LONGEST_WAIT

    @property
    def large(self) -> bool:
        """Whether the views of few images fill the memory that loader processes share."""
        return False

    def prepare(self, *, workers: int) -> None:
        """Check the data before the first image is measured."""

    def probe(self, device: torch.device) -> None:
        """Learn how the networks are fed, and the number of outputs, by empty images of each size."""

    @abstractmethod
    def views(self, position: int, blurs: Sequence[Blur], image: Image.Image, target: Any) -> Any:
        """The views of an image under every blur; called in a loader process.

        An item has its `position`. A ValueError is the image's fault.
        """

    @abstractmethod
    def measure(
        self, items: Iterable[Any], device: torch.device
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Run the network: the position of each image and its arrays, all conditions at once.

        Arrays that are not of the statistics are kept with the image. Among the items may be those of
        :meth:`placeholder`, which nothing is yielded for.
        """

    def placeholder(self, position: int, measured: Mapping[str, np.ndarray]) -> Any:  # noqa: ARG002  for batches
        """What takes an image's place that was measured before, by its arrays; None: nothing need.

        Where several images share a batch, it keeps the others in the batches that they would have been in.
        """
        return None

    def examples(self, positions: Sequence[int], device: torch.device) -> list[dict[str, Any]]:  # noqa: ARG002  for tasks with pictures
        """Pictures and predictions of some images at the first scale, plain values for a report."""
        return []

    def counts(self, arrays: Mapping[str, np.ndarray]) -> bool:  # noqa: ARG002  for tasks with void
        """Whether an image has anything to count."""
        return True

    def metadata(self, totals: Mapping[str, float]) -> dict[str, Any]:  # noqa: ARG002  for those with totals
        """Plain values for the record that are known afterwards; `totals` with the number of "images"."""
        return {"classes": self.outputs}

    def warn(self, totals: Mapping[str, float]) -> None:
        """Warn of what looks wrong, once, at the end."""

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, position: int) -> Any | Skipped | Exception:
        index = int(self.listing.index[position])
        blurs = [blur.of_image(index, seed=self.seed) for blur in self.blurs]
        try:
            return self.listing.view(position, functools.partial(self.views, position, blurs))
        except (FileNotFoundError, TypeError, ValueError) as error:
            # Handed over whole: raised in a worker it would arrive wrapped in the worker's own traceback.
            return error
