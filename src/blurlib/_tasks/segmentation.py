"""What segmentation brings to the training loop: images with masks, batches, the loss of labelled pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.distributed import Team
from ..data import MaskListing, Skipped
from ..metrics import VOID
from ..mixes import BlurMixSampler
from ..models import pixel_logits
from ..protocol import normalised, training_view
from .classification import needs_several, nothing_learnt
from .task import Settings

_AUXILIARY = 0.5  # weight of a second output's loss; torchvision's networks were trained with it


class _Batch(NamedTuple):
    pairs: list[tuple[Tensor, Tensor]]  # uint8 (n, 3, h, w) and int64 (n, h, w), a pair for each size
    skipped: list[Skipped]

    @property
    def size(self) -> int:
        return sum(len(masks) for _, masks in self.pairs)

    @property
    def void(self) -> int:
        """Pixels that do not count."""
        return sum(int((masks == VOID).sum()) for _, masks in self.pairs)

    @property
    def single(self) -> bool:
        """Whether the network sees an image by itself."""
        return any(len(masks) == 1 for _, masks in self.pairs)


class Segmenting(Dataset[Any]):
    """Training images and masks by (epoch, position), and what a network makes of them."""

    score = "pixel_accuracy"

    def __init__(self, listing: MaskListing, mix: BlurMixSampler, settings: Settings) -> None:
        self.listing, self.mix, self.settings, self.protocol = listing, mix, settings, settings.protocol
        self.outputs = 0
        self.needs_several = False

    @property
    def facts(self) -> dict[str, Any]:
        return {"task": "segmentation", "classes": self.outputs}

    @property
    def _size(self) -> tuple[int, int]:
        """Of an image such as training shows."""
        if self.protocol.network_size is not None:
            return self.protocol.network_size
        side = min(self.protocol.network_sides)
        side = min(side, self.protocol.training_crop(side))
        return side, side

    def try_out(self, network: nn.Module, device: torch.device) -> None:
        """Learns the number of outputs by an empty image."""
        network.eval()
        size = self._size
        try:
            with torch.no_grad():
                result = network(torch.zeros(1, 3, *size, device=device))
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"`model` must take images of (B, 3, {size[0]}, {size[1]}), got the error "
                f"{str(error).splitlines()[0]!r}; choose `network_side` and `crop` to fit it"
            ) from error
        self.outputs = pixel_logits(result).shape[1]
        self.needs_several = needs_several(network, size, device)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, np.ndarray] | Skipped:
        epoch, position = key
        index = int(self.listing.index[position])

        def make(image: Image.Image, mask: np.ndarray) -> tuple[Tensor, np.ndarray]:
            wrong = np.unique(mask[(mask >= self.outputs) & (mask != VOID)])
            if wrong.size:
                raise ValueError(
                    f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, "
                    f"or {VOID} for void, got {', '.join(map(str, wrong[:5].tolist()))} in "
                    f"{self.listing.id(position)}"
                )
            return training_view(
                image,
                mask,
                self.mix.draw(index, epoch),
                protocol=self.protocol,
                seed=self.settings.seed,
                epoch=epoch,
                index=index,
                hflip=self.settings.hflip,
            )

        return self.listing.view(position, make)

    def collate(self, items: list[tuple[Tensor, np.ndarray] | Skipped]) -> _Batch:
        groups: dict[tuple[int, ...], list[tuple[Tensor, np.ndarray]]] = {}
        for item in items:
            if not isinstance(item, Skipped):
                groups.setdefault(item[1].shape, []).append(item)
        return _Batch(
            [
                (
                    torch.stack([image for image, _ in group]),
                    torch.from_numpy(np.stack([mask for _, mask in group]).astype(np.int64)),
                )
                for group in groups.values()
            ],
            [item for item in items if isinstance(item, Skipped)],
        )

    def forward(self, parallel: nn.Module, batch: _Batch, team: Team) -> tuple[Tensor, Tensor, int]:
        """Summed loss over the labelled pixels of this share of a batch, how many were right, of how many."""
        if not batch.pairs:
            return *nothing_learnt(parallel, self._size, team), 0
        loss = torch.zeros((), device=team.device)
        correct = torch.zeros((), dtype=torch.int64, device=team.device)
        for images, masks in batch.pairs:
            labels = masks.to(team.device, non_blocking=True)
            views = normalised(
                images.to(team.device, non_blocking=True), self.settings.mean, self.settings.std
            )
            with torch.autocast(team.device.type, dtype=torch.bfloat16, enabled=self.settings.amp):
                result = parallel(views)
            logits = pixel_logits(result, labels.shape[-2:])
            loss = loss + F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
            if isinstance(result, Mapping) and "aux" in result:
                second = pixel_logits(result["aux"], labels.shape[-2:])
                loss = loss + _AUXILIARY * F.cross_entropy(second, labels, ignore_index=VOID, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
        counted = sum(masks.numel() for _, masks in batch.pairs) - batch.void
        return loss, correct, counted
