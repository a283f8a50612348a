"""The paper's protocol: canonical side, blur, 8 bits, network side, crops (sections 3 and 4).

A blur has a meaning only at a stated image size. Every image is therefore brought to one canonical size
(shorter side 384 px), blurred there, rounded to 8 bits and only then resized to the side at which the network
sees it. In training the first size varies a little (356, 384 or 410 px, object-scale jitter) while the second
factor does not, so that one blur always has one size at the network.

The functions are pure: image in, array out, and every random choice is a function of (seed, epoch, index).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from .._common.checks import check_integer
from ..functional import Border, check_border

Average = Literal["crops", "scales"]
Crops = Literal["center", "five", "dense"]
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
    """Every number of the protocol (sections 3 and 4 of the paper).

    Attributes:
        canonical_side: shorter side in px at which blurs are defined.
        network_side: shorter side in px at which the network sees the image (the paper's scale); several
            sides mean that training draws one of them for each image (section 4.2).
        crop: side of the square training crop in px.
        jitter: shorter sides in px of which training takes one before the blur; None means the paper's 356,
            384 and 410, times canonical_side / 384.
        resample: filter of both resizings, antialiased. The paper does not name one; bilinear is what
            torchvision's pipelines, and so most networks, were trained with.
        border: what the blur takes to lie outside the image, see :func:`blurlib.blur` (not in the paper).

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is below 1, a tuple is empty, or the filter or the border is unknown.

    Example:
        >>> Protocol().first_sides, Protocol(canonical_side=192).first_sides
        ((356, 384, 410), (178, 192, 205))
    """

    canonical_side: int = 384
    network_side: int | tuple[int, ...] = 256
    crop: int = 224
    jitter: tuple[int, ...] | None = None
    resample: Resample = "bilinear"
    border: Border = "reflect"

    def __post_init__(self) -> None:
        """Checks every field; lists become tuples."""
        check_integer("canonical_side", self.canonical_side, low=1, high=_MAX_SIDE)
        check_integer("crop", self.crop, low=1, high=_MAX_SIDE)
        if isinstance(self.network_side, int):
            check_integer("network_side", self.network_side, low=1, high=_MAX_SIDE)
        else:
            object.__setattr__(self, "network_side", _check_sides("network_side", self.network_side))
        if self.jitter is not None:
            object.__setattr__(self, "jitter", _check_sides("jitter", self.jitter))
        _filter(self.resample)
        check_border(self.border)

    @property
    def network_sides(self) -> tuple[int, ...]:
        """The network sides as a tuple, one entry where there is one."""
        return (self.network_side,) if isinstance(self.network_side, int) else self.network_side

    @property
    def first_sides(self) -> tuple[int, ...]:
        """The shorter sides of which training takes one before the blur."""
        if self.jitter is not None:
            return self.jitter
        return tuple(max(1, round_side(side * self.canonical_side / 384)) for side in (356, 384, 410))

    def training_crop(self, network_side: int) -> int:
        """Side of the training crop at one network side.

        It is `crop`, or the smallest shorter side that the jitter can produce where that is less (119 px at
        network side 128), so that the images of one network side always stack to a batch.

        Args:
            network_side: one of `network_sides`, in px.

        Returns:
            The side in px.

        Example:
            >>> Protocol().training_crop(256), Protocol(network_side=128).training_crop(128)
            (224, 119)
        """
        return min(self.crop, _scaled(min(self.first_sides), network_side, self.canonical_side))


def _check_sides(name: str, sides: object) -> tuple[int, ...]:
    if isinstance(sides, str) or not isinstance(sides, Sequence):
        raise TypeError(f"`{name}` must hold whole numbers of pixels, such as (256, 512), got {sides!r}")
    if not sides:
        raise ValueError(f"`{name}` must hold at least one side in px, got {sides!r}")
    return tuple(check_integer(name, side, low=1, high=_MAX_SIDE) for side in sides)


def _filter(resample: str) -> Image.Resampling:
    if resample not in _FILTERS:
        raise ValueError(f"`resample` must be one of {', '.join(_FILTERS)}, got {resample!r}")
    return _FILTERS[resample]


def round_side(side: float) -> int:
    """Rounds a length in px to the nearest integer, halves up.

    Args:
        side: a length in px, at least 0.

    Returns:
        The rounded length.

    Example:
        >>> round_side(237.33), round_side(2.5)
        (237, 3)
    """
    return math.floor(side + 0.5)


def _scaled(size: int, numerator: int, denominator: int) -> int:
    # In integers, so that no side depends on how a quotient was rounded.
    return max(1, (2 * size * numerator + denominator) // (2 * denominator))


def shorter_side_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Size of an image whose shorter side becomes `side`.

    Args:
        width: width in px.
        height: height in px.
        side: the shorter side wanted, in px.

    Returns:
        (width, height) in px; the longer one is rounded to nearest, halves up (torchvision cuts it off).

    Example:
        >>> shorter_side_size(500, 375, 384)
        (512, 384)
    """
    shorter = min(width, height)
    return _scaled(width, side, shorter), _scaled(height, side, shorter)
