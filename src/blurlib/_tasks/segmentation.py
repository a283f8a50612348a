"""Segmentation: how a network is evaluated, and what it brings to the training loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.checks import check_integer
from .._common.distributed import ProcessGroup
from .._common.model_config import ignored_config, unwrapped
from ..blurs import Blur
from ..data import MaskListing, Skipped, check_masks, open_masks, warn_of_void
from ..deblurring import DeblurThenClassify
from ..metrics import VOID, PixelCounts, boundary_band, boundary_counts, confusion_matrix
from ..mixes import BlurMixSampler
from ..models import pixel_logits
from ..protocol import (
    Protocol,
    evaluation_views,
    normalisation,
    normalisation_source,
    normalised,
    training_view,
)
from ._batch_norm import needs_several
from .task import Colours, EvaluationSettings, EvaluationTask, Settings, parameter_dtype, zero_loss

BOUNDARY_RATIO = 0.02  # of the diagonal: Boundary IoU as its authors take it
_AUXILIARY = 0.5  # weight of a second output's loss; torchvision's networks were trained with it


# --- Evaluation


class SegmentationEvaluation(EvaluationTask):
    """What a network says of each pixel: whole counts at the label image's own resolution."""

    name = "segmentation"
    default_blurs = "sharp, D2, D4, D6, D8"  # table 6
    default_batch_size = 8
    foreign = MappingProxyType(
        dict.fromkeys(("crops", "crop", "average"), "where the network sees the whole image")
    )
    statistics = PixelCounts

    def __init__(self, model: nn.Module, root: Any, settings: EvaluationSettings) -> None:
        super().__init__(settings)
        if isinstance(unwrapped(model), DeblurThenClassify):
            raise TypeError("`model` must label pixels for segmentation, got a DeblurThenClassify")
        self.protocol = Protocol(
            measure="geometric",
            canonical_side=settings.canonical_side,
            network_side=_network_side(settings.scales),
            network_size=settings.network_size,
            resample=settings.resample,
        )
        self.band = check_integer("band", 4 if settings.band is None else settings.band, low=1, high=1000)
        self.colours: Colours = normalisation(model, settings.mean, settings.std)
        self._source = normalisation_source(model, settings.mean, settings.std)
        self._config = ignored_config(model, resample=settings.resample)
        options: dict[str, Any] = {"limit": settings.limit, "on_error": settings.on_error}
        self.listing: MaskListing = open_masks(root, split="val", seed=settings.seed, **options)
        size = self.protocol.network_size
        sides = [size] if size is not None else [(side,) for side in self.protocol.network_sides]
        self.conditions = [(str(blur), side) for side in sides for blur in self.blurs]
        self.model = self.networks = model
        self._pixels = self._void = 0

    def settings(self) -> dict[str, Any]:
        size = self.protocol.network_size
        return {
            "task": self.name,
            "blurs": [str(blur) for blur in self.blurs],
            "canonical_side": self.protocol.canonical_side,
            "network_sides": None if size else list(self.protocol.network_sides),
            "network_size": None if size is None else list(size),
            "resample": self.protocol.resample,
            "border": self.protocol.border,
            "band": self.band,
            "boundary_ratio": BOUNDARY_RATIO,
            "seed": self.seed,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "normalisation": self._source,
            **self._config,
        }

    def prepare(self, *, workers: int) -> None:
        check_masks(self.listing, workers=workers)

    def views(self, position: int, blurs: Sequence[Blur], image: Image.Image, target: np.ndarray) -> Scene:
        made = evaluation_views(image, blurs, protocol=self.protocol, crops="dense")
        every = range(len(blurs))
        sides = [torch.cat([made[n, side] for n in every]) for side in self.protocol.network_sides]
        return Scene(position, torch.from_numpy(target.copy()), sides)

    def measure(
        self, items: Iterable[Scene], device: torch.device
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for scene in items:
            truth = scene.mask.numpy()
            near = boundary_band(truth, width=self.band)
            counts: list[dict[str, np.ndarray]] = []
            for views in scene.views:
                found, self.outputs = predicted(
                    self.networks, views, truth.shape, self.colours, device, batch_size=self.batch_size
                )
                counts += [self._counted(scene.position, truth, labels, near) for labels in found]
            self._pixels += truth.size
            self._void += int((truth == VOID).sum())
            yield scene.position, {key: np.stack([each[key] for each in counts]) for key in counts[0]}

    def _counted(
        self, position: int, truth: np.ndarray, labels: np.ndarray, near: np.ndarray
    ) -> dict[str, np.ndarray]:
        try:
            return {
                "matrix": confusion_matrix(truth, labels, classes=self.outputs),
                "band": confusion_matrix(truth, labels, classes=self.outputs, where=near),
                "regions": boundary_counts(truth, labels, classes=self.outputs, ratio=BOUNDARY_RATIO),
            }
        except ValueError as error:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, or "
                f"255 for void; the mask of {self.listing.id(position)!r} has others ({error})"
            ) from error

    def counts(self, arrays: Mapping[str, np.ndarray]) -> bool:
        return bool(arrays["matrix"].any())

    def totals(self) -> dict[str, float]:
        return {"pixels": self._pixels, "void": self._void}

    def facts(self, totals: Mapping[str, float]) -> dict[str, Any]:
        return {"classes": self.outputs, "void_share": totals["void"] / totals["pixels"]}

    def warn(self, totals: Mapping[str, float]) -> None:
        warn_of_void(totals["void"] / totals["pixels"])


def predicted(
    model: nn.Module,
    views: Tensor,
    size: Sequence[int],
    colours: tuple[Sequence[float], Sequence[float]],
    device: torch.device,
    *,
    batch_size: int = 8,
) -> tuple[np.ndarray, int]:
    """The most probable class of every pixel of a label image, and how many classes there are.

    Args:
        model: the network, in evaluation mode on the device.
        views: (B, 3, h, w) uint8, as the network sees the image.
        size: (height, width) of the label image, to which logits are interpolated.
        colours: mean and standard deviation of the network's input.
        device: where it runs.
        batch_size: how many views it sees at once.

    Returns:
        (B, height, width) int64, and the number of the network's classes.
    """
    found, classes = [], 0
    with torch.inference_mode():
        for start in range(0, len(views), batch_size):
            part = views[start : start + batch_size]
            batch = normalised(part.to(device), *map(tuple, colours)).to(parameter_dtype(model))
            logits = pixel_logits(model(batch), size)
            if not bool(torch.isfinite(logits).all()):
                raise ValueError(
                    "`model` must give finite scores, got NaN or infinity; check its weights, `mean`, `std`"
                )
            classes = logits.shape[1]
            found.append(logits.argmax(dim=1).cpu().numpy())
    return np.concatenate(found), classes


class Scene(NamedTuple):
    """One image: its mask, and for each network side the uint8 views (blurs, 3, h, w)."""

    position: int
    mask: Tensor  # (H, W) uint8
    views: list[Tensor]


def _network_side(scales: Any) -> int | tuple[int, ...] | None:
    if scales is None or isinstance(scales, int):
        return scales
    if any(type(side) is not int for side in scales):
        raise TypeError(
            f"`scales` must be network sides in px for segmentation, such as (256, 384), got {scales!r}; "
            "several scales are not averaged"
        )
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"`scales` must name different sides, at least one, got {scales!r}")
    return tuple(scales)


# --- Training


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

    def forward(self, parallel: nn.Module, batch: _Batch, team: ProcessGroup) -> tuple[Tensor, Tensor, int]:
        """Summed loss over the labelled pixels of this share of a batch, how many were right, of how many."""
        if not batch.pairs:
            return *zero_loss(parallel, self._size, team), 0
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
