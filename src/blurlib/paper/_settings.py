"""What decides the numbers of a reproduction, beside network and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from .._common.checks import check_integer
from ..data import OnError
from ..deblurring import METHODS
from ..notation import parse
from ..protocol import Crops
from ..training import BatchNorm
from . import _published

USUAL_SIDE = 256
"""The network side, in px, of most of the paper's experiments."""


@dataclass(frozen=True, kw_only=True)
class ReproductionSettings:
    """What decides the numbers of a reproduction, beside network and images; the defaults are the paper's.

    Attributes:
        side: network side in px that takes the place of the paper's 256; its other sides (128, 512) and the
            crop of 224 change in proportion.
        crops: "dense", "five" or "center"; None takes "dense" for networks that can be made so (VGG,
            AlexNet), "five" for others.
        canonical_side: shorter side in px at which blurs are defined.
        limit: number of validation images, evenly from all classes; None takes all.
        train_limit: number of training images, likewise.
        classes: take the images of this many classes only, evenly from the sorted ones. The network keeps its
            outputs.
        seeds: of the fine-tunings; every number is the mean over them.
        control: add a network that is fine-tuned for as long on sharp images (tables 3 and 5); the paper
            does not have it.
        epochs: of each phase of fine-tuning.
        lr: learning rate of each phase.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: images in a batch.
        batch_norm: "train" or "eval".
        mean: of the colours; None takes the model's own.
        std: of the colours, likewise.
        on_error: "raise" at a broken image, or "skip".
        deblur: for table 5, methods that deblur ("epll" in the paper, "wiener", "richardson_lucy"). They are
            told the true blur; "wiener:D7" is told another.
        deblur_limit: table 5 looks at this many of the validation images, evenly from all classes; None takes
            ten a class, as the paper does.

    Raises:
        TypeError: if a value is of the wrong kind.
        ValueError: if it is out of its range.

    Example:
        >>> small = ReproductionSettings(side=128)
        >>> small.sides((256, 512)), small.crop
        ((128, 256), 112)
    """

    side: int = USUAL_SIDE
    crops: Crops | None = None
    canonical_side: int = _published.CLASSIFICATION.canonical_side
    limit: int | None = None
    train_limit: int | None = None
    classes: int | None = None
    seeds: tuple[int, ...] = (0,)
    control: bool = False
    epochs: tuple[int, ...] = _published.CLASSIFICATION.epochs
    lr: tuple[float, ...] = _published.CLASSIFICATION.lr
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    batch_norm: BatchNorm = "train"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    on_error: OnError = "raise"
    deblur: tuple[str, ...] = ("epll",)
    deblur_limit: int | None = None

    def __post_init__(self) -> None:
        """Checks what `finetune` and `evaluate` do not; lists become tuples."""
        check_integer("side", self.side, low=8, high=16384)
        for name in ("limit", "train_limit", "classes", "deblur_limit"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), low=1, high=2**62)
        for name in ("seeds", "epochs", "lr", "mean", "std", "deblur"):
            value = getattr(self, name)
            several = (value,) if isinstance(value, str) else value
            object.__setattr__(self, name, None if several is None else tuple(several))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must hold different seeds, at least one, got {self.seeds}")
        if not self.deblur or len(set(self.deblur)) < len(self.deblur):
            raise ValueError(f"`deblur` must hold different methods, at least one, got {self.deblur}")
        for entry in self.deblur:
            method, _, told = entry.partition(":")
            if method not in METHODS or (not told and ":" in entry):
                raise ValueError(
                    f"`deblur` must hold methods of {', '.join(METHODS)}, alone or with the blur that they "
                    f"are told, such as 'wiener:D7', got {entry!r}"
                )
            if told:
                parse(told)
        if self.crops is not None and self.crops not in get_args(Crops):
            raise ValueError(f"`crops` must be one of {', '.join(get_args(Crops))}, got {self.crops!r}")

    def sides(self, published: Sequence[int]) -> tuple[int, ...]:
        """The sides that take the place of the paper's.

        Args:
            published: the paper's sides in px.

        Returns:
            In the same proportion to `side` as those are to 256, rounded.
        """
        return tuple(max(1, math.floor(side * self.side / USUAL_SIDE + 0.5)) for side in published)

    @property
    def crop(self) -> int:
        """Side of the crops in px: 224, in proportion."""
        return self.sides((_published.CLASSIFICATION.crop or 224,))[0]

    def training(self) -> dict[str, Any]:
        """What `finetune` is told, beside mix, sides and seed."""
        names = ("epochs", "lr", "momentum", "weight_decay", "batch_size", "batch_norm", "canonical_side")
        return {name: getattr(self, name) for name in names} | {"crop": self.crop}
