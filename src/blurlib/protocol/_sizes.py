"""The paper's protocol: canonical side, blur, 8 bits, network side, crops (sections 3 and 4).

A blur has a meaning only at a stated image size. Every image is therefore brought to one canonical size
(shorter side 384 px), blurred there, rounded to 8 bits and only then resized to the side at which the network
sees it. In training the first size varies a little (356, 384 or 410 px, object-scale jitter) while the second
factor does not, so that one blur always has one size at the network. For segmentation the sizes are geometric
means of the sides (section 5).

The functions are pure: image in, array out, and every random choice is a function of (seed, epoch, index).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

from .._common.checks import check_integer, one_of
from ..functional import Border, check_border

Average = Literal["crops", "scales"]
Crops = Literal["center", "five", "dense"]
Measure = Literal["shorter", "geometric"]
Resample = Literal["bilinear", "bicubic", "box", "lanczos"]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_SIDE = 16384


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every number of the protocol (sections 3 to 5 of the paper); the defaults are the paper's.

    Attributes:
        measure: which length of an image the sides state: "shorter" side (classification), or "geometric"
            mean of both sides (segmentation).
        canonical_side: side in px at which blurs are defined.
        network_side: side in px at which the network sees the image (the paper's scale); several sides mean
            that training draws one of them for each image (section 4.2). None takes 256, for "geometric" the
            canonical side.
        network_size: for "geometric", (height, width) in px that every image is brought to instead, whatever
            its aspect, and which is not cropped: the input of the paper's network.
        crop: side of the square training crop in px, see :meth:`training_crop`; None takes 224, for
            "geometric" 320.
        jitter: sides in px of which training takes one before the blur. None means the paper's 356, 384 and
            410, times canonical_side / 384; for "geometric", where the paper describes none, the canonical
            side.
        resample: filter of both resizings, antialiased. The paper does not name one; bilinear is what
            torchvision's pipelines, and so most networks, were trained with.
        border: what the blur takes to lie outside the image, see :func:`blurlib.blur` (not in the paper).

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is below 1, a tuple is empty, an option is unknown, or `network_size` is given
            for "shorter" or beside `network_side`.

    Example:
        >>> Protocol().first_sides, Protocol(canonical_side=192).first_sides
        ((356, 384, 410), (178, 192, 205))
        >>> Protocol(measure="geometric").network_sides, Protocol(measure="geometric").crop
        ((384,), 320)
    """

    measure: Measure = "shorter"
    canonical_side: int = 384
    network_side: int | tuple[int, ...] | None = None
    network_size: tuple[int, int] | None = None
    crop: int | None = None
    jitter: tuple[int, ...] | None = None
    resample: Resample = "bilinear"
    border: Border = "reflect"

    def __post_init__(self) -> None:
        """Check every field; lists become tuples, and what a measure has a number for is filled in."""
        one_of("measure", self.measure, get_args(Measure))
        shorter = self.measure == "shorter"
        if self.network_size is not None and (shorter or self.network_side is not None):
            given = "the measure is the shorter side" if shorter else "`network_side` is given"
            raise ValueError(f"`network_size` must be left out where {given}, got {self.network_size!r}")
        if self.network_side is None and shorter:
            object.__setattr__(self, "network_side", 256)
        if self.crop is None:
            object.__setattr__(self, "crop", 224 if shorter else 320)
        for name in ("canonical_side", "crop"):
            check_integer(name, getattr(self, name), low=1, high=_MAX_SIDE)
        for name in ("network_side", "network_size", "jitter"):
            sides = getattr(self, name)
            if name == "network_side" and isinstance(sides, int):
                check_integer(name, sides, low=1, high=_MAX_SIDE)
            elif sides is not None:
                object.__setattr__(self, name, _check_sides(name, sides))
        if self.network_size is not None and len(self.network_size) != 2:
            raise ValueError(f"`network_size` must be (height, width) in px, got {self.network_size!r}")
        _filter(self.resample)
        check_border(self.border)

    @property
    def network_sides(self) -> tuple[int, ...]:
        """The network sides as a tuple, one entry where there is one."""
        side = self.canonical_side if self.network_side is None else self.network_side
        return (side,) if isinstance(side, int) else side

    @property
    def first_sides(self) -> tuple[int, ...]:
        """The sides of which training takes one before the blur."""
        if self.jitter is not None:
            return self.jitter
        if self.measure == "geometric":
            return (self.canonical_side,)
        return tuple(_scaled(side, self.canonical_side, 384) for side in (356, 384, 410))

    def network_shape(self, width: int, height: int, network_side: int) -> tuple[int, int]:
        """Size at which the network sees an image of the canonical side, or of one of the jitter.

        Args:
            width: before, in px.
            height: likewise.
            network_side: what a side of `canonical_side` px becomes.

        Returns:
            (width, height) in px, each rounded to nearest, halves up.
        """
        if self.network_size is not None:
            return self.network_size[1], self.network_size[0]
        width, height = (_scaled(side, network_side, self.canonical_side) for side in (width, height))
        return width, height

    def training_crop(self, network_side: int) -> int:
        """Side of the training crop at one network side; where an image's side is less, it is that side.

        For "shorter" it is the smallest side that the jitter can produce where that is less than `crop` (119
        px at network side 128), so that the images of one network side always stack to a batch.

        Args:
            network_side: one of `network_sides`, in px.

        Returns:
            The side in px.

        Example:
            >>> Protocol().training_crop(256), Protocol(network_side=128).training_crop(128)
            (224, 119)
        """
        assert self.crop is not None  # filled in
        if self.measure == "geometric":
            return self.crop if self.network_size is None else max(self.network_size)
        return min(self.crop, _scaled(min(self.first_sides), network_side, self.canonical_side))


def _check_sides(name: str, sides: object) -> tuple[int, ...]:
    if isinstance(sides, str) or not isinstance(sides, Sequence):
        raise TypeError(f"`{name}` must hold whole numbers of pixels, such as (256, 512), got {sides!r}")
    if not sides:
        raise ValueError(f"`{name}` must hold at least one side in px, got {sides!r}")
    return tuple(check_integer(name, side, low=1, high=_MAX_SIDE) for side in sides)


def _filter(resample: str) -> Image.Resampling:
    return _FILTERS[one_of("resample", resample, _FILTERS)]


def _scaled(size: int, numerator: int, denominator: int) -> int:
    # In integers, so that no side depends on how a quotient was rounded.
    return max(1, (2 * size * numerator + denominator) // (2 * denominator))


def scaled_size(width: int, height: int, side: int, *, measure: Measure = "shorter") -> tuple[int, int]:
    """Size of an image that is brought to a side.

    Args:
        width: width in px.
        height: height in px.
        side: what the shorter side, or the geometric mean of both, becomes in px.
        measure: "shorter" or "geometric".

    Returns:
        (width, height) in px, each rounded to nearest, halves up (torchvision cuts off).

    Example:
        >>> scaled_size(500, 375, 384), scaled_size(500, 375, 384, measure="geometric")
        ((512, 384), (443, 333))
    """
    if measure == "shorter":
        shorter = min(width, height)
        return _scaled(width, side, shorter), _scaled(height, side, shorter)
    factor = side / math.sqrt(width * height)
    return max(1, math.floor(width * factor + 0.5)), max(1, math.floor(height * factor + 0.5))
