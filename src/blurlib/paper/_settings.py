"""What decides the numbers of a reproduction: what both tasks share, and what each has in addition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from torch import nn

from .._common.checks import check_integer
from .._tasks import BatchNorm
from ..data import ImageListing, MaskListing, OnError, Split, labelled, open_images, open_masks
from ..deblurring import METHODS
from ..metrics import BAND
from ..models import dense
from ..notation import parse
from ..protocol import Crops
from . import _published

USUAL_SIDE = 256
"""The network side, in px, of most of the paper's experiments."""

_Own = TypeVar("_Own", bound="ReproductionSettings")


@dataclass(frozen=True, kw_only=True)
class ReproductionSettings(ABC):
    """What the settings of both tasks share; the defaults are the paper's.

    Attributes:
        canonical_side: side in px at which blurs are defined: the shorter one, for segmentation the geometric
            mean of both.
        limit: number of validation images; None takes all. Labelled images are taken evenly from all classes.
        train_limit: number of training images, likewise.
        seeds: of the fine-tunings; every number is the mean over them.
        control: add a network that is fine-tuned for as long on sharp images (tables 3, 5 and 6); the paper
            does not have it.
        epochs: of each phase of fine-tuning.
        lr: learning rate of each phase.
        momentum: of SGD; the paper gives none for segmentation.
        weight_decay: of SGD.
        batch_size: images in a batch; the paper gives none for segmentation.
        batch_norm: "train" or "eval".
        mean: of the colours; None takes the model's own.
        std: of the colours, likewise.
        on_error: "raise" at a broken image or mask, or "skip".

    Raises:
        TypeError: if a value is of the wrong kind.
        ValueError: if it is out of its range.

    Example:
        >>> issubclass(ClassificationSettings, ReproductionSettings)
        True
    """

    task: ClassVar[Literal["classification", "segmentation"]]
    items: ClassVar[tuple[str, ...]]
    timed_views: ClassVar[int] = 8  # at once, for the estimate of the time

    canonical_side: int = 384
    limit: int | None = None
    train_limit: int | None = None
    seeds: tuple[int, ...] = (0,)
    control: bool = False
    epochs: tuple[int, ...]
    lr: tuple[float, ...]
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int
    batch_norm: BatchNorm = "train"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        """Checks what `finetune` and `evaluate` do not; lists become tuples."""
        for name in ("limit", "train_limit", "classes", "deblur_limit"):
            if getattr(self, name, None) is not None:
                check_integer(name, getattr(self, name), low=1, high=2**62)
        for name in ("seeds", "epochs", "lr", "mean", "std", "deblur", "network_size"):
            value = getattr(self, name, None)
            if value is not None:
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for name, what in (("seeds", "seeds"), ("deblur", "methods")):
            values = getattr(self, name, (0,))
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must hold different {what}, at least one, got {values}")

    def for_model(self: _Own, model: nn.Module) -> _Own:  # noqa: ARG002  for the task that asks the model
        """The settings with what None leaves to the network.

        Args:
            model: the original network.

        Returns:
            The settings.
        """
        return self

    @abstractmethod
    def listing(self, root: Any, split: Split) -> ImageListing | MaskListing:
        """The images of a split, before any limit.

        Args:
            root: a folder or a dataset.
            split: "train" or "val".

        Returns:
            The listing of the task.
        """

    @abstractmethod
    def sides(self, published: Sequence[int]) -> tuple[int, ...]:
        """The network sides that take the place of the paper's.

        Args:
            published: the paper's sides in px.

        Returns:
            The sides in px, as a record names them.
        """

    @abstractmethod
    def evaluation(self, scales: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """Arguments of :func:`blurlib.evaluate` that only this task has.

        Args:
            scales: for each scale setting its network sides in px.

        Returns:
            The arguments; all but `scales` decide every record.
        """

    @abstractmethod
    def training(self, sides: tuple[int, ...]) -> dict[str, Any]:
        """Arguments of :func:`blurlib.finetune` that only this task has.

        Args:
            sides: network sides in px, one of them at random for each image.

        Returns:
            The arguments.
        """

    @abstractmethod
    def seen(self, sides: tuple[int, ...]) -> dict[int, int]:
        """The side of the views that are shown to the network.

        Args:
            sides: network sides in px.

        Returns:
            Side of the view in px at each of them.
        """

    @property
    def crops_per_side(self) -> int:
        """Views of an image at one side."""
        return 1

    @property
    @abstractmethod
    def trained_side(self) -> int:
        """Side in px of the training images as the network sees them."""

    def recipe(self) -> dict[str, Any]:
        """Arguments of :func:`blurlib.finetune` that both tasks have, the same for every network."""
        names = ("epochs", "lr", "momentum", "weight_decay", "batch_size", "batch_norm", "canonical_side")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(ReproductionSettings):
    """Settings of tables 1 to 5 and A; the defaults are the paper's.

    Attributes:
        canonical_side, limit, train_limit, seeds, control, epochs, lr, momentum, weight_decay, batch_size,
            batch_norm, mean, std, on_error: see :class:`ReproductionSettings`.
        side: network side in px that takes the place of the paper's 256; its other sides (128, 512) and the
            crop of 224 change in proportion.
        crops: "dense", "five" or "center"; None takes "dense" for networks that can be made so (VGG,
            AlexNet), "five" for others.
        classes: take the images of this many classes only, evenly from the sorted ones. The network keeps its
            outputs.
        deblur: for table 5, deblurring methods ("epll" in the paper, "wiener", "richardson_lucy"). They
            assume the true blur; "wiener:D7" assumes another.
        deblur_limit: table 5 takes this many of the validation images, evenly from all classes; None takes
            ten a class, as the paper does.

    Raises:
        TypeError: if a value is of the wrong kind.
        ValueError: if it is out of its range.

    Example:
        >>> small = ClassificationSettings(side=128)
        >>> small.sides((256, 512)), small.crop
        ((128, 256), 112)
    """

    task = "classification"
    items = ("table1", "table2", "table3", "table4", "table5", "tableA")

    side: int = USUAL_SIDE
    crops: Crops | None = None
    classes: int | None = None
    epochs: tuple[int, ...] = _published.CLASSIFICATION.epochs
    lr: tuple[float, ...] = _published.CLASSIFICATION.lr
    batch_size: int = 128
    deblur: tuple[str, ...] = ("epll",)
    deblur_limit: int | None = None
    crop: int = field(init=False)

    def __post_init__(self) -> None:
        """See the base class; the crop follows from the side."""
        super().__post_init__()
        check_integer("side", self.side, low=8, high=16384)
        object.__setattr__(self, "crop", self.sides((_published.CLASSIFICATION.crop or 224,))[0])
        for entry in self.deblur:
            method, _, assumed = entry.partition(":")
            if method not in METHODS or (not assumed and ":" in entry):
                raise ValueError(
                    f"`deblur` must hold methods of {', '.join(METHODS)}, alone or with the blur that they "
                    f"assume, such as 'wiener:D7', got {entry!r}"
                )
            if assumed:
                parse(assumed)
        if self.crops is not None and self.crops not in get_args(Crops):
            raise ValueError(f"`crops` must be one of {', '.join(get_args(Crops))}, got {self.crops!r}")

    def for_model(self, model: nn.Module) -> ClassificationSettings:
        """The settings with the crops of the network's kind."""
        if self.crops is not None:
            return self
        try:
            dense(model)
        except ValueError:
            return replace(self, crops="five")
        return replace(self, crops="dense")

    def listing(self, root: Any, split: Split) -> ImageListing:
        """The images of a split, of `classes` only where that is given."""
        listing = open_images(root, split=split, on_error=self.on_error)
        if self.classes is None:
            return listing
        listing, known = labelled(listing), len(listing.classes)
        if self.classes > known:
            raise ValueError(
                f"`classes` must be at most the {known} of `root`, got {self.classes}; leave it out for all"
            )
        taken = np.arange(self.classes) * known // self.classes
        return listing.subset(np.flatnonzero(np.isin(listing.labels, taken)))

    def sides(self, published: Sequence[int]) -> tuple[int, ...]:
        """In the same proportion to `side` as the paper's to 256, rounded."""
        return tuple(max(1, math.floor(side * self.side / USUAL_SIDE + 0.5)) for side in published)

    def evaluation(self, scales: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """Scales and crops."""
        return {"scales": scales, "crops": self.crops, "crop": self.crop}

    def training(self, sides: tuple[int, ...]) -> dict[str, Any]:
        """Network side and crop."""
        return {"network_side": sides[0] if len(sides) == 1 else sides, "crop": self.crop}

    def seen(self, sides: tuple[int, ...]) -> dict[int, int]:
        """Side of the crops, or the shorter one of the image."""
        return {side: side if self.crops == "dense" else min(side, self.crop) for side in sides}

    @property
    def crops_per_side(self) -> int:
        """Views of an image at one side."""
        return 5 if self.crops == "five" else 1

    @property
    def trained_side(self) -> int:
        """The crop."""
        return self.crop


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(ReproductionSettings):
    """Settings of table 6; the defaults are the paper's.

    Attributes:
        canonical_side, limit, train_limit, seeds, control, epochs, lr, momentum, weight_decay, batch_size,
            batch_norm, mean, std, on_error: see :class:`ReproductionSettings`.
        network_side: geometric mean in px at which the network sees the images; None for the canonical side.
        network_size: (height, width) in px that every image is brought to instead, as the paper's network.
        crop: of the training images in px; None takes :func:`blurlib.finetune`'s.
        band: pixels this far from a class boundary make the second column.
        hflip: probability of a mirror image in training.

    Raises:
        ValueError: if `seeds` is empty or holds one twice.

    Example:
        >>> SegmentationSettings().epochs
        (6, 2)
    """

    task = "segmentation"
    items = ("table6",)
    timed_views = 2

    network_side: int | None = None
    network_size: tuple[int, int] | None = None
    crop: int | None = None
    band: int = BAND
    epochs: tuple[int, ...] = _published.SEGMENTATION.epochs
    lr: tuple[float, ...] = _published.SEGMENTATION.lr
    batch_size: int = 8
    hflip: float = 0.0

    def listing(self, root: Any, split: Split) -> MaskListing:
        """The images of a split with their masks."""
        return open_masks(root, split=split, on_error=self.on_error)

    def sides(self, published: Sequence[int]) -> tuple[int, ...]:  # noqa: ARG002  the paper gives none
        """The network side, or height and width."""
        return self.network_size or (self.network_side or self.canonical_side,)

    def evaluation(self, scales: Sequence[tuple[int, ...]]) -> dict[str, Any]:  # noqa: ARG002  one alone
        """Side or size, and the band."""
        return {"scales": self.network_side, "network_size": self.network_size, "band": self.band}

    def training(self, sides: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002  likewise
        """Side or size, crop and flips."""
        names = ("network_side", "network_size", "crop", "hflip")
        return {name: getattr(self, name) for name in names}

    def seen(self, sides: tuple[int, ...]) -> dict[int, int]:
        """Side of a square of the image's area."""
        side = round(math.prod(sides) ** (1 / len(sides)))
        return {side: side}

    @property
    def trained_side(self) -> int:
        """Side of the crop, or of a square of the image's area."""
        (side,) = self.seen(self.sides(()))
        return side if self.network_size else min(side, self.crop or 320)


def limited(listing: Any, name: str, limit: int | None) -> Any:
    """So many images of a listing, which must have them."""
    if limit is None:
        return listing
    if limit > len(listing):
        raise ValueError(
            f"`{name}` must be at most the {len(listing)} {listing.split} images of `root`, got {limit}; "
            "leave it out for all"
        )
    return listing.limited(limit)
