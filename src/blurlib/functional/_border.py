"""What lies outside the image: the border rules by name, and a value of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from .._common.checks import check_number, one_of
from .._engine import Border, blur_array, is_interleaved
from .._engine import apply as apply_kernel

_BORDERS = get_args(Border)


@dataclass(frozen=True)
class Constant:
    """A border of one value, or of one for each channel: ``blur(image, kernel, border=Constant(1.0))``.

    For images after `Normalize`, in which 0 is not black but the mean colour: black is ``(0 - mean) / std``
    of each channel. Bytes stay exact. A copy of the image with its border is made in memory.

    Attributes:
        value: a number, or one for each channel; for bytes whole numbers from 0 to 255, for images with
            coverage (Pillow's RGBA and LA) with that of the last band.

    Raises:
        TypeError: if `value` is not a number or a sequence of numbers.
        ValueError: if one is not finite, or there is none.

    Example:
        >>> from blurlib import DiskBlur
        >>> mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        >>> black = Constant([(0 - m) / s for m, s in zip(mean, std)])
        >>> DiskBlur(4, border=black)(torch.zeros(3, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    value: float | tuple[float, ...]

    def __post_init__(self) -> None:
        given: Any = self.value
        if isinstance(given, (Tensor, np.ndarray)):
            given = given.tolist()
        each = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not each:
            raise ValueError("`value` must be a number, or one for each channel, got none")
        limit = float(np.finfo(np.float64).max)
        found = tuple(check_number("value", one, low=-limit, high=limit, unit="levels") for one in each)
        object.__setattr__(self, "value", found if each is given else found[0])


#: What `border` may be.
Outside = Border | Constant


def value_of(border: Constant, band: int) -> float:
    """The value of one channel."""
    return border.value[band] if isinstance(border.value, tuple) else border.value


def _values(border: Constant, channels: int, *, whole: bool) -> list[float]:
    """The value of each channel of an image, of bytes or not."""
    count = len(border.value) if isinstance(border.value, tuple) else channels
    if count != channels:
        raise ValueError(
            f"`border` must have one value, or one for each of the {channels} channels of `image`, got "
            f"{count} in {border!r}"
        )
    values = [value_of(border, band) for band in range(channels)]
    wrong = [value for value in values if not (value.is_integer() and 0 <= value <= 255)]
    if whole and wrong:
        raise ValueError(
            f"`border` must have whole numbers from 0 to 255 for an image of bytes, got {wrong[0]:g} in "
            f"{border!r}; round it, or convert the image to floats"
        )
    return values


def check_outside(border: object) -> Outside:
    """Return the border's rule or value, or raise an error that names both, and what was given."""
    if isinstance(border, Constant):
        return border
    number = isinstance(border, (int, float, list, tuple)) and not isinstance(border, bool)
    if number or border == "constant":
        raise TypeError(
            f"`border` must say by Constant which value lies outside, got {border!r}; use border="
            f"blurlib.functional.Constant({border if number else 0})"
        )
    return check_border(border)


def check_border(border: object, *, name: str = "border") -> Border:
    """Return the border's rule, or raise an error that names the argument, the rules and the value."""
    if not isinstance(border, str):
        raise TypeError(
            f"`{name}` must be one of {', '.join(_BORDERS)}, got {type(border).__name__}: {border!r}"
        )
    return cast("Border", one_of(name, border, _BORDERS))


def blur_inside(image: Tensor, kernel: Tensor, border: Constant, backend: str | None) -> Tensor:
    """Blur an image with a border of values around it, and cut the border off."""
    top, left = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    rows, columns = image.shape[-2:]
    values = _values(border, image.shape[-3], whole=image.dtype == torch.uint8)
    around = (left, left, top, top)
    if not image.numel():
        return apply_kernel(image, kernel, "zeros", backend)
    # One pad a value: nothing waits for a device, and compilers and derivatives know it.
    parts = [image] if len(set(values)) == 1 else torch.split(image, 1, dim=-3)
    padded = [
        torch.nn.functional.pad(part, around, value=value) for part, value in zip(parts, values, strict=False)
    ]
    bordered = padded[0] if len(padded) == 1 else torch.cat(padded, dim=-3)
    found = apply_kernel(bordered, kernel, "zeros", backend)
    found = found[..., top : top + rows, left : left + columns]
    if is_interleaved(image):
        return found.movedim(-3, -1).contiguous().movedim(-1, -3)
    return found.contiguous()


def blur_array_inside(image: np.ndarray, kernel: Tensor, border: Constant, backend: str | None) -> np.ndarray:
    """Likewise for an array (H, W) or (H, W, C)."""
    top, left = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    rows, columns, *channels = image.shape
    values = _values(border, channels[0] if channels else 1, whole=image.dtype == np.uint8)
    bordered = np.empty((rows + 2 * top, columns + 2 * left, *channels), image.dtype)
    bordered[...] = np.array(values if channels else values[0], image.dtype)
    inside = slice(top, top + rows), slice(left, left + columns)
    bordered[inside] = image
    return np.ascontiguousarray(blur_array(bordered, kernel, "zeros", backend)[inside])
