"""What a task must answer to the training loop."""

from __future__ import annotations

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.distributed import ProcessGroup
from ..blurs import Sharp
from ..data import Listing, Skipped
from ..mixes import BlurMixSampler
from ..protocol import Measure, training_view
from ._batch_norm import batch_norms, needs_several
from ._probe import Feed, applied, probe, score_count, tensors
from .settings import TrainingSettings, check_foreign


class Batch(NamedTuple):
    """Training views of a batch: uint8 (n, 3, h, w) with their targets, a pair for each size.

    Where a teacher teaches, each has 6 channels: of the blurred view, and of the same one sharp.
    """

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
        teacher: the original network in evaluation mode, where it teaches.
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
        self.teacher: nn.Module | None = None

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

    @abstractmethod
    def taught(self, result: object, told: object, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of a group: summed KL divergence, in nats, of the outputs from the teacher's; the teacher's labels.

        What does not count in the target counts in neither.
        """

    def prepare(self, *, workers: int) -> None:
        """Check the data before the first epoch."""

    @property
    def labelled(self) -> bool:
        """Whether labels enter the loss: not where the teacher's outputs are all of it."""
        return self.settings.teacher != 1.0

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
        made = functools.partial(
            training_view,
            image,
            protocol=self.protocol,
            seed=self.settings.seed,
            epoch=epoch,
            index=index,
            hflip=self.settings.hflip,
        )
        view, target_seen = made(target, self.mix.draw(index, epoch))
        if self.settings.teacher is not None:
            view = torch.cat([view, made(None, Sharp())[0]])  # the teacher's
        return view, target_seen

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
        share, divergence = self.settings.teacher, torch.zeros((), device=team.device)
        for views, target in batch.groups:
            moved, labels = (each.to(team.device, non_blocking=True) for each in (views, target))
            with self.passing(team.device):
                result = applied(parallel, self.images(moved), settings=self.sizes_by)
            if self.teacher is not None:
                with torch.no_grad(), self.passing(team.device):
                    told = applied(self.teacher, self.images(moved[:, 3:]), settings=self.sizes_by)
                added, found = self.taught(result, told, labels)
                divergence = divergence + added
                labels = found if share == 1.0 else labels
            results.append(result)
            targets.append(labels)
        loss, correct = self.loss(results, targets)
        if share is not None:
            loss = (1 - share) * loss + share * divergence
        return loss, correct, self.counted(batch)

    def images(self, views: Tensor) -> Tensor:
        """The network's input, of views of one size on its device."""
        images = self.feed.images(views[:, :3], self.settings.mean, self.settings.std)
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
