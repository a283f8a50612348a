"""What classification brings to the training loop: views, batches, the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.distributed import Team
from ..data import ImageListing, Skipped
from ..mixes import BlurMixSampler
from ..protocol import normalised, training_view
from .task import Settings


class _Batch(NamedTuple):
    images: list[Tensor]  # uint8 (n, 3, c, c), a tensor for each crop size
    labels: Tensor  # int64, in the order of `images`
    skipped: list[Skipped]

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def void(self) -> int:
        """Every image counts."""
        return 0

    @property
    def single(self) -> bool:
        """Whether the network sees an image by itself."""
        return any(len(group) == 1 for group in self.images)


class Classifying(Dataset[Any]):
    """Training views and labels by (epoch, position), and what a network makes of them."""

    score = "top1"

    def __init__(self, listing: ImageListing, mix: BlurMixSampler, settings: Settings) -> None:
        self.listing, self.mix, self.settings, self.protocol = listing, mix, settings, settings.protocol
        self.outputs = 0
        self.needs_several = False

    @property
    def facts(self) -> dict[str, Any]:
        return {"classes": len(self.listing.classes) or self.outputs}

    def try_out(self, network: nn.Module, device: torch.device) -> None:
        """Learns the number of outputs by an empty image of every size that training will show."""
        network.eval()
        for side in sorted({self.protocol.training_crop(side) for side in self.protocol.network_sides}):
            try:
                with torch.no_grad():
                    result = network(torch.zeros(1, 3, side, side, device=device))
            except (AssertionError, RuntimeError) as error:
                raise ValueError(
                    f"`model` must take images of (B, 3, {side}, {side}), got the error "
                    f"{str(error).splitlines()[0]!r}; choose `network_side` and `crop` to fit it"
                ) from error
            self.outputs = _logits(result).shape[1]
            self.needs_several |= needs_several(network, (side, side), device)
        known = len(self.listing.classes) or int(self.listing.labels.max()) + 1
        if self.outputs != known if self.listing.classes else self.outputs < known:
            raise ValueError(
                f"`model` must have one output for each class, got {self.outputs} outputs for {known} "
                f"classes of {self.listing.name!r}; replace its last layer by one with {known} outputs, or "
                "pass a root with the classes that it was trained on"
            )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Skipped:
        epoch, position = key
        index = int(self.listing.index[position])

        def make(image: Image.Image, label: int) -> tuple[Tensor, int]:
            return training_view(
                image,
                label,
                self.mix.draw(index, epoch),
                protocol=self.protocol,
                seed=self.settings.seed,
                epoch=epoch,
                index=index,
                hflip=self.settings.hflip,
            )

        item = self.listing.view(position, make)
        if not isinstance(item, Skipped) and not 0 <= item[1] < self.outputs:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, got "
                f"{item[1]} for {self.listing.id(position)}; number the classes from 0 and give the model an "
                "output for each"
            )
        return item

    def collate(self, items: list[tuple[Tensor, int] | Skipped]) -> _Batch:
        groups: dict[int, list[tuple[Tensor, int]]] = {}
        for item in items:
            if not isinstance(item, Skipped):
                groups.setdefault(item[0].shape[-1], []).append(item)
        return _Batch(
            [torch.stack([view for view, _ in group]) for group in groups.values()],
            torch.tensor([label for group in groups.values() for _, label in group], dtype=torch.int64),
            [item for item in items if isinstance(item, Skipped)],
        )

    def forward(self, parallel: nn.Module, batch: _Batch, team: Team) -> tuple[Tensor, Tensor, int]:
        """Summed loss of this process's share of a batch, how many it had right, and of how many."""
        labels = batch.labels.to(team.device, non_blocking=True)
        groups = [group.to(team.device, non_blocking=True) for group in batch.images]
        if not groups:
            side = self.protocol.training_crop(self.protocol.network_sides[0])
            return *nothing_learnt(parallel, (side, side), team), 0
        with torch.autocast(team.device.type, dtype=torch.bfloat16, enabled=self.settings.amp):
            logits = torch.cat(
                [
                    _logits(parallel(normalised(group, self.settings.mean, self.settings.std)))
                    for group in groups
                ]
            ).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return loss, (logits.argmax(1) == labels).sum(), len(labels)


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The layers that normalise by the statistics of a process's own batch."""
    kinds: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if not (dist.is_available() and dist.is_initialized()):
        kinds += (nn.SyncBatchNorm,)  # alone it has only its own
    return [module for module in network.modules() if isinstance(module, kinds)]


def needs_several(network: nn.Module, size: tuple[int, int], device: torch.device) -> bool:
    """Whether batch norm would have one value a channel in a batch of one image, which torch refuses."""
    found = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].numel() == inputs[0].shape[1])

    hooks = [module.register_forward_pre_hook(look) for module in batch_norms(network)]
    try:
        if hooks:
            # Uncompiled: hooks would become part of what is compiled, and stay.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                network(torch.zeros(1, 3, *size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return any(found)


@contextmanager
def running_statistics(network: nn.Module, *, when: bool) -> Iterator[bool]:
    """Batch norm by its running statistics, which stay as they are: for a batch that has none of its own.

    Yields:
        Whether a layer was switched.
    """
    switched = [module for module in batch_norms(network) if module.training] if when else []
    for module in switched:
        module.training = False
    try:
        yield bool(switched)
    finally:
        for module in switched:
            module.training = True


def nothing_learnt(parallel: nn.Module, size: tuple[int, int], team: Team) -> tuple[Tensor, Tensor]:
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


def _logits(result: object) -> Tensor:
    if not isinstance(result, Tensor) or result.ndim != 2:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise TypeError(
            f"`model` must return a tensor of logits (B, classes), got {got}; wrap it in a module that "
            "returns the logits alone, or switch auxiliary outputs off (aux_logits=False)"
        )
    return result
