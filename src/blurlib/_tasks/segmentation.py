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

from .._common.checks import check_integer
from .._common.model_config import unwrapped
from ..blurs import Blur
from ..data import MaskListing, Split, check_masks, open_masks, warn_of_void
from ..deblurring import DeblurThenClassify
from ..metrics import BAND, VOID, PixelCounts, boundary_band, boundary_counts, confusion_matrix
from ..models import pixel_logits
from ..protocol import Protocol, evaluation_views
from ..reporting import kept_example
from ._probe import Feed, applied, parameter_dtype, probe, score_count
from .evaluating import EvaluationTask
from .learning import TrainingTask
from .settings import EvaluationSettings, TrainingSettings, opening

BOUNDARY_RATIO = 0.02  # of the diagonal: Boundary IoU as its authors take it
_SIZES_BY = "`scales` or `network_size`"
_AUXILIARY = 0.5  # weight of a second output's loss; torchvision's networks were trained with it

_FOREIGN = {"class_map": "where the values of the masks are the numbers of the outputs"}

_FROM_ONE = "where 0 is void and classes are counted from 1, pass reduce_zero_label=True"


def _opened(
    root: Any, settings: EvaluationSettings | TrainingSettings, *, split: Split, workers: int | None
) -> MaskListing:
    del workers  # no mask is read
    masks: dict[str, Any] = {
        "ignore_index": settings.ignore_index,
        "reduce_zero_label": settings.reduce_zero_label,
    }
    return open_masks(root, split=split, **opening(settings), **masks)


def _void(listing: MaskListing) -> dict[str, Any]:
    """For the record: what the masks hold."""
    return {"ignore_index": listing.ignore_index, "reduce_zero_label": listing.reduce_zero_label}


# --- Evaluation


class SegmentationEvaluation(EvaluationTask):
    """Pixel counts of each image, at the resolution of its label image."""

    name = "segmentation"
    default_blurs = "sharp, D2, D4, D6, D8"  # table 6
    default_batch_size = 8
    foreign = MappingProxyType(
        dict.fromkeys(("crops", "crop", "average"), "where the network sees the whole image") | _FOREIGN
    )
    statistics = PixelCounts
    totals = ("pixels", "void")
    opened = staticmethod(_opened)
    listing: MaskListing

    def __init__(
        self, model: nn.Module, root: Any, settings: EvaluationSettings, *, workers: int | None = None
    ) -> None:
        if isinstance(unwrapped(model), DeblurThenClassify):
            raise TypeError("`model` must label pixels for segmentation, got a DeblurThenClassify")
        protocol = Protocol(
            measure="geometric",
            canonical_side=settings.canonical_side,
            network_side=_network_side(settings.scales),
            network_size=settings.network_size,
            resample=settings.resample,
        )
        self.band = check_integer("band", BAND if settings.band is None else settings.band, low=1, high=1000)
        super().__init__(model, root, settings, protocol, workers=workers)
        size = protocol.network_size
        sides = [size] if size is not None else [(side,) for side in protocol.network_sides]
        self.conditions = [(name, side) for side in sides for name in self._names]
        self._feed = Feed(torch.float32)

    def settings(self) -> dict[str, Any]:
        size = self.protocol.network_size
        return {
            "task": self.name,
            "network_sides": None if size else list(self.protocol.network_sides),
            "network_size": None if size is None else list(size),
            "band": self.band,
            "boundary_ratio": BOUNDARY_RATIO,
            **_void(self.listing),
            **super().settings(),
        }

    def prepare(self, *, workers: int) -> None:
        check_masks(self.listing, workers=workers)

    def probe(self, device: torch.device) -> None:
        whole = self.protocol.network_size
        sizes = [whole] if whole else [(side, side) for side in self.protocol.network_sides]
        self._feed, found = probe(
            self.networks, sizes, device, count=min(2, self.batch_size), settings=_SIZES_BY
        )
        for images, result in found:
            self.outputs = score_count(images, pixel_logits(result))

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
                found = self._predicted(views, truth.shape, device)
                counts += [self._counted(scene.position, truth, labels, near) for labels in found]
            whole = {"pixels": np.array(truth.size), "void": np.array((truth == VOID).sum())}
            yield scene.position, {key: np.stack([each[key] for each in counts]) for key in counts[0]} | whole

    def _predicted(self, views: Tensor, size: Sequence[int], device: torch.device) -> np.ndarray:
        labels, self.outputs = predicted(
            self.networks,
            views,
            size,
            self.colours,
            device,
            batch_size=self.batch_size,
            feed=self._feed,
        )
        return labels

    def examples(self, positions: Sequence[int], device: torch.device) -> list[dict[str, Any]]:
        blurs = [str(blur) for blur in self.blurs]
        kept = []
        for position in positions:
            scene = self[position]
            if isinstance(scene, Scene):
                truth, views = scene.mask.numpy(), scene.views[0]
                found = self._predicted(views, truth.shape, device)
                pictures = dict(zip(blurs, views.permute(0, 2, 3, 1).numpy(), strict=True))
                labels = dict(zip(blurs, found, strict=True))
                kept.append(kept_example(self.listing.id(position), truth, pictures, labels))
        return kept

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
                f"{self.listing.ignore_index} for void; the mask of {self.listing.id(position)!r} has others "
                f"({error}); {_FROM_ONE}"
            ) from error

    def counts(self, arrays: Mapping[str, np.ndarray]) -> bool:
        return bool(arrays["matrix"].any())

    def metadata(self, totals: Mapping[str, float]) -> dict[str, Any]:
        return {"classes": self.outputs, "void_share": totals["void"] / totals["pixels"]}

    def warn(self, totals: Mapping[str, float]) -> None:
        warn_of_void(self.listing, totals["void"] / totals["pixels"])


def predicted(
    model: nn.Module,
    views: Tensor,
    size: Sequence[int],
    colours: tuple[Sequence[float], Sequence[float]],
    device: torch.device,
    *,
    batch_size: int = 8,
    feed: Feed | None = None,
) -> tuple[np.ndarray, int]:
    """The most probable class of every pixel of a label image, and how many classes there are.

    Args:
        model: the network, in evaluation mode on the device.
        views: (B, 3, h, w) uint8, as the network sees the image.
        size: (height, width) of the label image, to which logits are interpolated.
        colours: mean and standard deviation of the network's input.
        device: where it runs.
        batch_size: how many views it sees at once.
        feed: how it takes images; None: in colour.

    Returns:
        (B, height, width) int64, and the number of the network's classes.
    """
    found, classes = [], 0
    feed = feed or Feed(parameter_dtype(model))
    with torch.inference_mode():
        for start in range(0, len(views), batch_size):
            part = views[start : start + batch_size]
            images = feed.images(part.to(device), *colours)
            logits = pixel_logits(applied(model, images, settings=_SIZES_BY), size)
            if not bool((logits < torch.inf).all()):  # -inf excludes a class
                raise ValueError(
                    "`model` must give finite scores (or -inf), got NaN or infinity; check its weights, "
                    "`mean` and `std`"
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


class SegmentationTraining(TrainingTask):
    """Training images and masks, and what a network makes of them."""

    name = "segmentation"
    foreign = MappingProxyType(_FOREIGN)
    score = "pixel_accuracy"
    epochs, lr, batch_size = (6, 2), (1e-4, 1e-5), 8  # section 5, which names no batch
    measure = "geometric"
    opened = staticmethod(_opened)
    sizes_by = "`network_side` and `crop`, or `network_size`,"
    listing: MaskListing

    @property
    def metadata(self) -> dict[str, Any]:
        return {"task": "segmentation", "classes": self.outputs, **_void(self.listing)}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        if self.protocol.network_size is not None:
            return [self.protocol.network_size]
        sides = {min(side, self.protocol.training_crop(side)) for side in self.protocol.network_sides}
        return [(side, side) for side in sorted(sides)]

    def view(self, position: int, epoch: int, image: Image.Image, target: np.ndarray) -> tuple[Tensor, Any]:
        wrong = np.unique(target[(target >= self.outputs) & (target != VOID)])
        if wrong.size:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, "
                f"or {self.listing.ignore_index} for void, got {', '.join(map(str, wrong[:5].tolist()))} in "
                f"{self.listing.id(position)}; {_FROM_ONE}"
            )
        return super().view(position, epoch, image, target)

    def prepare(self, *, workers: int) -> None:
        check_masks(self.listing, workers=workers)

    def void(self, target: Tensor) -> int:
        return int((target == VOID).sum())

    def logits(self, result: object) -> Tensor:
        return pixel_logits(result)

    def loss(self, results: list[Any], targets: list[Tensor]) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), device=targets[0].device)
        correct = torch.zeros((), dtype=torch.int64, device=targets[0].device)
        for result, labels in zip(results, targets, strict=True):
            logits = pixel_logits(result, labels.shape[-2:])
            loss = loss + F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
            if isinstance(result, Mapping) and "aux" in result:
                second = pixel_logits(result["aux"], labels.shape[-2:])
                loss = loss + _AUXILIARY * F.cross_entropy(second, labels, ignore_index=VOID, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
        return loss, correct

    def taught(self, result: object, told: object, target: Tensor) -> tuple[Tensor, Tensor]:
        own, theirs = (
            pixel_logits(each, target.shape[-2:]).float().log_softmax(1) for each in (result, told)
        )
        void = target == VOID
        each = F.kl_div(own, theirs, reduction="none", log_target=True).sum(1)
        return each.masked_fill(void, 0.0).sum(), theirs.argmax(1).masked_fill(void, VOID)
