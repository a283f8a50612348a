"""What is asked of any blur, one of a user too: its kernel, its words, its fingerprint."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch

from .. import kernels
from ._measured import PointSpread, digest_of
from ._values import Blur, Box, Disk, Gaussian, Line, PerImageLine, PerImageShake, Shake, Sharp, number_text

_TOLERANCE = 1e-3  # of a kernel's sum, as `blurlib.blur` has it
# Those that are nothing but their kernel; who knows what blurs of others do.
_OWN_KINDS = (Sharp, Disk, Box, Line, Gaussian, Shake, PointSpread)


def has_short_name(blur: Blur) -> bool:
    """Whether text reads back to it: not for measured kernels and blurs of users."""
    return type(blur) in (Sharp, Disk, Box, Line, Gaussian, Shake, PerImageShake, PerImageLine)


def cached_kernel(blur: Blur, scale: float = 1.0) -> torch.Tensor:
    """`blur.kernel(scale)`, cached for the latest blurs: the tensor must not be written to."""
    if type(blur) in _OWN_KINDS:
        return _cached(blur, scale)
    return _checked(blur, blur.kernel() if scale == 1.0 else blur.kernel(scale))


@functools.lru_cache(maxsize=64)
def _cached(blur: Blur, scale: float) -> torch.Tensor:
    with torch.device("cpu"):
        return blur.kernel(scale)


def _checked(blur: Blur, kernel: Any) -> torch.Tensor:
    """What the method of a user's class has returned; those for each image have raised their own error."""
    rule = f"`kernel` of {type(blur).__name__} must return a floating tensor (h, w) of odd sides with sum 1"
    if not isinstance(kernel, torch.Tensor):
        raise TypeError(f"{rule}, got {type(kernel).__name__}; torch.from_numpy makes one of an array")
    if not kernel.dtype.is_floating_point:
        raise TypeError(f"{rule}, got {kernel.dtype}; use kernel.double() / kernel.sum()")
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f"{rule}, got shape {tuple(kernel.shape)}; add rows or columns of zeros")
    total = float(kernel.detach().double().sum())
    if not abs(total - 1) <= _TOLERANCE:
        raise ValueError(f"{rule}, got the sum {total:g}; return kernel / kernel.sum()")
    return kernel


def fingerprints(blurs: Iterable[Any], *, seed: int = 0) -> dict[str, str]:
    """Size and digest of each kernel that no short name tells, by the blur's name; that of the first image.

    A name alone does not say which lens was measured: a record with this does.
    """
    found = {}
    for blur in blurs:
        if isinstance(blur, Blur) and not has_short_name(blur):
            found[str(blur)] = fingerprint(blur.of_image(0, seed=seed))
    return found


def fingerprint(blur: Blur) -> str:
    """Size and digest of a kernel."""
    taps = cached_kernel(blur).detach().cpu().double().numpy()
    return f"{taps.shape[1]} x {taps.shape[0]} px, SHA-256 {digest_of(taps)}"


def describe(blur: Blur) -> str:
    """A blur in words, for tables and pictures.

    Args:
        blur: any blur.

    Returns:
        Such as "defocus disk, radius 8 px"; for a blur of a user's class its ``str()``.

    Example:
        >>> describe(Disk(8)), describe(PointSpread([[1.0]], name="lens"))
        ('defocus disk, radius 8 px', 'measured kernel, 1 x 1 px')
    """
    match blur:
        case Sharp():
            return "sharp"
        case Disk(radius, antialias):
            return f"defocus disk, radius {number_text(radius)} px{', antialiased' if antialias else ''}"
        case Box(length, vertical):
            return f"{'vertical' if vertical else 'horizontal'} motion, length {length} px"
        case Line(length, angle):
            return f"straight motion, length {number_text(length)} px at {number_text(angle)}°"
        case Gaussian(sigma):
            return f"Gaussian, sigma {number_text(sigma)} px"
        case Shake(index, bank, size=size):
            bank_words = f"the {bank} bank" if size == kernels.BANK_SIDE else f"the {bank} seed, {size} px"
            return f"camera shake, kernel {index} of {bank_words}"
        case PerImageLine(length):
            return f"straight motion, length {number_text(length)} px, an angle for each image"
        case PerImageShake(size):
            size_words = "" if size == kernels.BANK_SIDE else f" of {size} px"
            return f"camera shake, a kernel{size_words} for each image"
        case PointSpread():
            height, width = blur.kernel().shape
            return f"measured kernel, {width} x {height} px"
    return str(blur)
