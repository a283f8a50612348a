"""What a task must answer: to the evaluation loop, and to the training loop."""

from __future__ import annotations

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.checks import check_integer
from .._common.devices import LONGEST_WAIT
from .._common.distributed import ProcessGroup
from .._common.model_config import ignored_config
from ..blurs import Blur, fingerprints
from ..data import Listing, Skipped
from ..metrics import Statistics
from ..mixes import BlurMixSampler
from ..notation import parse_list
from ..protocol import Measure, Protocol, normalisation, normalisation_source, training_view
from ..reporting import kept_kernels
from ._batch_norm import batch_norms, needs_several
from ._probe import Feed, applied, probe, score_count, tensors
from .settings import EvaluationSettings, TrainingSettings, check_foreign

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of a network's input."""

Condition = tuple[str, tuple[int, ...]]
"""Short name of the blur, and the network sides."""


# --- Evaluation


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

    def settings(self) -> dict[str, Any]:
        """Plain values for the record: the numbers of the protocol, mean and std."""
        return {
            "blurs": [str(blur) for blur in self.blurs],
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


# --- Training


class Batch(NamedTuple):
    """Training views of a batch: uint8 (n, 3, h, w) with their targets, a pair for each size."""

    groups: list[tuple[Tensor, Tensor]]
    skipped: list[Skipped]
    void: int  # how many labels do not count

    @property
    def size(self) -> int:
        return sum(len(views) for views, _ in self.groups)

    @property
    def single(self) -> bool:
        """Whether the network sees an image by itself."""
        return any(len(views) == 1 for views, _ in self.groups)

    def parts(self, count: int) -> list[Batch]:
        """At most that many batches, as even as can be; one where this is empty. They do not count void."""
        count = max(1, min(count, self.size))
        edges = [self.size * number // count for number in range(count + 1)]
        found = []
        for low, high in itertools.pairwise(edges):
            groups, before = [], 0
            for views, targets in self.groups:
                chosen = slice(max(0, low - before), max(0, high - before))
                if len(views[chosen]):
                    groups.append((views[chosen], targets[chosen]))
                before += len(views)
            found.append(Batch(groups, [], 0))
        return found


class TrainingTask(ABC, Dataset[Any]):
    """Training views and targets by (epoch, position), and what a network makes of them.

    Attributes:
        name: of the task.
        foreign: settings that other tasks have, and why this one does not.
        score: name of the share of labels that the network has right.
        epochs: the paper's, of each phase.
        lr: likewise.
        batch_size: default size of a batch.
        measure: of the sides in px.
        opened: makes a listing of a root, of settings, `split` and `workers`.
        sizes_by: the arguments that decide the sizes, for messages.
        feed: how the network takes images, once it has run.
        outputs: number of the network's classes, likewise.
        needs_several: whether batch norm cannot take the statistics of a single image.
    """

    name: ClassVar[str]
    foreign: ClassVar[Mapping[str, str]] = {}
    score: ClassVar[str]
    epochs: ClassVar[tuple[int, ...]]
    lr: ClassVar[tuple[float, ...]]
    batch_size: ClassVar[int]
    measure: ClassVar[Measure]
    opened: ClassVar[Callable[..., Listing[Any]]]
    sizes_by: ClassVar[str]

    listing: Listing[Any]
    feed: Feed

    def __init__(
        self, root: Any, mix: BlurMixSampler, settings: TrainingSettings, *, workers: int | None = None
    ) -> None:
        check_foreign(settings, self.foreign, self.name)
        self.mix, self.settings, self.protocol = mix, settings, settings.protocol
        self.listing = self.opened(root, settings, split="train", workers=workers)
        self.outputs = 0
        self.needs_several = False

    @property
    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Plain values for the record."""

    @property
    @abstractmethod
    def sizes(self) -> list[tuple[int, int]]:
        """Sizes (height, width) of image to probe the network with."""

    @abstractmethod
    def logits(self, result: object) -> Tensor:
        """The logits (B, classes, ...) in what the network returns."""

    @abstractmethod
    def loss(self, results: list[Any], targets: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Summed loss of what the network returned for each group, and how many labels it had right."""

    def prepare(self, *, workers: int) -> None:
        """Check the data before the first epoch."""

    def void(self, target: Tensor) -> int:  # noqa: ARG002  for tasks with void
        """How many of the labels do not count."""
        return 0

    def passing(self, device: torch.device) -> AbstractContextManager[Any]:
        """What a forward pass of the run is in."""
        half = torch.float16 if self.settings.amp == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype=half, enabled=bool(self.settings.amp))

    def probe_outputs(self, network: nn.Module, device: torch.device) -> None:
        """Learn how the network is fed, and the number of outputs, by empty images of each size."""
        probed = copy.deepcopy(network).train()  # training changes the statistics of batch norm
        count = min(2, self.settings.batch_size)
        if self.settings.batch_norm == "eval" or count == 1:
            for module in batch_norms(probed):
                module.eval()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.feed, found = probe(
                probed,
                self.sizes,
                device,
                count=count,
                settings=self.sizes_by,
                context=functools.partial(self.passing, device),
            )
        for images, result in found:
            self.outputs = score_count(images, self.logits(result))
            self.needs_several |= needs_several(probed.eval(), self.feed.empty(1, images.shape[2:], device))

    def view(self, position: int, epoch: int, image: Image.Image, target: Any) -> tuple[Tensor, Any]:
        """View and target; a ValueError is the image's fault."""
        index = int(self.listing.index[position])
        return training_view(
            image,
            target,
            self.mix.draw(index, epoch),
            protocol=self.protocol,
            seed=self.settings.seed,
            epoch=epoch,
            index=index,
            hflip=self.settings.hflip,
        )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Any] | Skipped:
        epoch, position = key
        return self.listing.view(position, functools.partial(self.view, position, epoch))

    def collate(self, items: Sequence[tuple[Tensor, Any] | Skipped]) -> Batch:
        """Items of a batch by their size."""
        groups: dict[torch.Size, list[tuple[Tensor, Any]]] = {}
        for item in items:
            if not isinstance(item, Skipped):
                groups.setdefault(item[0].shape, []).append(item)
        pairs = []
        for group in groups.values():
            views, targets = zip(*group, strict=True)
            pairs.append((torch.stack(views), torch.from_numpy(np.stack(targets).astype(np.int64))))
        return Batch(
            pairs,
            [item for item in items if isinstance(item, Skipped)],
            sum(self.void(target) for _, target in pairs),
        )

    def forward(self, parallel: nn.Module, batch: Batch, team: ProcessGroup) -> tuple[Tensor, Tensor, int]:
        """Summed loss of this process's share of a batch, how many labels it had right, and of how many."""
        if not batch.groups:
            return *self.zero_loss(parallel, team), 0
        results, targets = [], []
        for views, target in batch.groups:
            images = self.images(views, team.device)
            with self.passing(team.device):
                results.append(applied(parallel, images, settings=self.sizes_by))
            targets.append(target.to(team.device, non_blocking=True))
        return *self.loss(results, targets), self.counted(batch)

    def images(self, views: Tensor, device: torch.device) -> Tensor:
        """The network's input, of views of one size."""
        moved = views.to(device, non_blocking=True)
        images = self.feed.images(moved, self.settings.mean, self.settings.std)
        return images.contiguous(memory_format=torch.channels_last) if self.settings.channels_last else images

    def counted(self, batch: Batch) -> int:
        """How many labels of a batch count."""
        return sum(targets.numel() for _, targets in batch.groups) - batch.void

    def zero_loss(self, parallel: nn.Module, team: ProcessGroup) -> tuple[Tensor, Tensor]:
        """The loss of a process that has no image of a batch.

        Gradients are exchanged among all processes, so it must take part too: with a loss that is zero, and
        without touching the statistics of batch norm.
        """
        zero = torch.zeros((), device=team.device)
        if team.world == 1:
            return zero, zero
        training = [module for module in parallel.modules() if module.training]
        parallel.eval()
        result = parallel(self.feed.empty(1, self.sizes[0], team.device))
        for module in training:
            module.training = True
        # Also those parameters that only training uses, as auxiliary outputs have them.
        parts = [*tensors(result), *(part for part in parallel.parameters() if part.requires_grad)]
        return torch.stack([part.float().sum() for part in parts]).sum() * 0.0, zero
