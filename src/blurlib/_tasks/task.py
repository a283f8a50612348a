"""What a task must answer: to the evaluation loop, and to the training loop."""

from __future__ import annotations

import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.checks import check_integer
from .._common.distributed import ProcessGroup
from ..blurs import Blur
from ..data import Listing, OnError, Skipped
from ..metrics import Statistics
from ..notation import parse_list
from ..protocol import Average, Crops, Protocol, Resample

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of a network's input."""

Condition = tuple[str, tuple[int, ...]]
"""Short name of the blur, and the network sides."""


# --- Evaluation


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What decides the numbers of an evaluation, beside network and images; see :func:`blurlib.evaluate`.

    None takes the task's default.
    """

    blurs: str | Blur | Iterable[str | Blur] | None = None
    scales: int | Sequence[int | Sequence[int]] | None = None
    network_size: tuple[int, int] | None = None
    band: int | None = None
    crops: Crops | None = None
    crop: int | None = None
    average: Average | None = None
    canonical_side: int = 384
    resample: Resample = "bilinear"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    limit: int | None = None
    on_error: OnError = "raise"
    batch_size: int | None = None
    seed: int = 0


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
        listing: of the images.
        conditions: what is measured.
        model: the network that the record names.
        networks: what runs, made of it.
        outputs: number of the network's classes, once it has run.
    """

    name: ClassVar[str]
    default_blurs: ClassVar[str]
    default_batch_size: ClassVar[int]
    foreign: ClassVar[Mapping[str, str]] = {}
    statistics: ClassVar[type[Statistics]]

    listing: Listing[Any]
    conditions: Sequence[Condition]
    model: nn.Module
    networks: nn.Module
    outputs = 0

    def __init__(self, settings: EvaluationSettings) -> None:
        for name, reason in self.foreign.items():
            value = getattr(settings, name)
            if value is not None:
                raise ValueError(f"`{name}` must be left out for {self.name}, {reason}, got {value!r}")
        self.seed = settings.seed
        self.blurs = parse_list(self.default_blurs if settings.blurs is None else settings.blurs)
        given = settings.batch_size
        self.batch_size = self.default_batch_size if given is None else given
        check_integer("batch_size", self.batch_size, low=1, high=2**31)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Plain values for the record: the numbers of the protocol, mean and std."""

    @property
    def large(self) -> bool:
        """Whether the views of few images fill the memory that loader processes share."""
        return False

    def prepare(self, *, workers: int) -> None:
        """Refuse what would be measured in vain; called once before the work."""

    @abstractmethod
    def views(self, position: int, blurs: Sequence[Blur], image: Image.Image, target: Any) -> Any:
        """What the network is shown of an image under every blur; called in a loader process.

        An item has its `position`. A ValueError is the image's fault.
        """

    @abstractmethod
    def measure(
        self, items: Iterable[Any], device: torch.device
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Run the network: the position of each image and its arrays, all conditions at once."""

    def counts(self, arrays: Mapping[str, np.ndarray]) -> bool:  # noqa: ARG002  for tasks with void
        """Whether there is anything to report of an image."""
        return True

    def totals(self) -> dict[str, float]:
        """Numbers of all images that are not of one condition; they add up over processes."""
        return {}

    def facts(self, totals: Mapping[str, float]) -> dict[str, Any]:  # noqa: ARG002  for those with totals
        """Plain values for the record that are known afterwards; `totals` with the number of "images"."""
        return {"classes": self.outputs}

    def warn(self, totals: Mapping[str, float]) -> None:
        """Say what looks wrong, once, at the end."""

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


def parameter_dtype(model: nn.Module) -> torch.dtype:
    """The type in which a network computes."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


# --- Training


class Settings(typing.Protocol):
    """The settings of a training run, as far as a task reads them."""

    @property
    def protocol(self) -> Protocol: ...

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...

    @property
    def hflip(self) -> float: ...

    @property
    def rates(self) -> tuple[float, ...]: ...

    @property
    def batch_norm(self) -> str: ...

    @property
    def amp(self) -> bool: ...

    @property
    def seed(self) -> int: ...


def zero_loss(parallel: nn.Module, size: tuple[int, int], team: ProcessGroup) -> tuple[Tensor, Tensor]:
    """The loss of a process that has no image of a batch.

    Gradients are exchanged among all processes, so it must take part too: with a loss that is zero, and
    without touching the statistics of batch norm.
    """
    zero = torch.zeros((), device=team.device)
    if team.world == 1:
        return zero, zero
    training = [module for module in parallel.modules() if module.training]
    parallel.eval()
    result = parallel(torch.zeros(1, 3, *size, device=team.device))
    for module in training:
        module.training = True
    parts = result.values() if isinstance(result, dict) else (result,)
    return torch.stack([part.float().sum() for part in parts]).sum() * 0.0, zero
