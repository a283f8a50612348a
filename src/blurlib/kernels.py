"""Blur kernels (point spread functions).

Every function returns a float64 tensor whose entries are non-negative and sum to 1, with an odd number of
rows and of columns; the centre of the image point is the middle pixel. Lengths are in pixels, angles in
degrees counter-clockwise from +x as displayed (rows grow downwards).
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np
import torch

from ._common import rng
from ._common.checks import check_integer, check_number, one_of
from ._engine import draw_trajectory, spline_basis

__all__ = [
    "BANK_SIDE",
    "BANK_SIZES",
    "Bank",
    "bank_kernel",
    "box",
    "camera_shake",
    "disk",
    "gaussian",
    "line",
    "resample",
    "shake_bank",
]

Bank = Literal["test", "train"]

#: How many kernels each camera-shake bank holds (the paper, sections 3 and 4.1).
BANK_SIZES: dict[str, int] = {"test": 100, "train": 10_000}

#: Side of the kernels of the banks, in pixels.
BANK_SIDE = 17

# The banks are these seeds of `camera_shake`; a test pins their SHA-256. Changing one changes every published
# number.
_BANK_SEEDS = {"test": 0x7E57_0001, "train": 0x72A1_0001}

# Beyond this a kernel is larger than any photograph it would be used on, and a typing error is more likely.
MAX_RADIUS = 1024.0
_SAMPLES_PER_POINT = 5_000
_MAX_GRID = 512
MAX_SIDE = _MAX_GRID + 1  # of a shake with a bank's seed
_TOUCH = 1e-11  # areas and reaches below are rounding: 1e-13 for the longest line, 2048 px


def disk(radius: float, *, antialias: bool = False) -> torch.Tensor:
    """The image of a point out of focus: a disk of constant intensity (the paper, section 3).

    Args:
        radius: in pixels, 0 to 1024. A radius of 0 is no blur.
        antialias: if False (the paper), a pixel counts where its centre lies in the circle, x² + y² <= r²;
            only some radii differ then. If True, each pixel holds its area inside the circle, so that every
            real radius has its own kernel, with a variance along an axis of about r²/4 + 1/12.

    Returns:
        Float64 tensor (k, k), k odd.

    Raises:
        TypeError: if `radius` is not a number.
        ValueError: if it is negative, not finite or above 1024.

    Example:
        >>> (disk(1) * 5).tolist()
        [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]
        >>> disk(2.6, antialias=True).shape
        torch.Size([7, 7])
    """
    r = check_number("radius", radius, high=MAX_RADIUS)
    if not antialias:
        offsets = np.arange(-math.floor(r), math.floor(r) + 1)
        inside = (offsets[:, None] ** 2 + offsets**2 <= r * r).astype(np.float64)
        return torch.from_numpy(inside / inside.sum())
    if r <= 0.5:  # the whole disk lies in the middle pixel
        return torch.ones(1, 1, dtype=torch.float64)
    # One quadrant, mirrored: exactly symmetric, so the centroid is exactly zero.
    edges = np.concatenate([[0.0], np.arange(math.ceil(r - 0.5) + 1) + 0.5])
    areas = np.diff(np.diff(_quadrant_area(edges[:, None], edges[None, :], r), axis=0), axis=1)
    near, far = edges[:-1] ** 2, edges[1:] ** 2
    areas[near[:, None] + near >= r * r] = 0.0
    full = far[:, None] + far <= r * r
    areas[0] *= 2
    areas[:, 0] *= 2
    areas = np.maximum(areas, 0.0)  # differences of areas round to either side of nothing
    areas[full] = 1.0  # exactly equal weights inside: the engine adds them as integers
    half = np.concatenate([areas[:0:-1], areas])
    whole = np.concatenate([half[:, :0:-1], half], axis=1)
    return torch.from_numpy(whole / whole.sum())


def _quadrant_area(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Area of the disk of radius r inside [0, x] x [0, y], for x, y >= 0."""
    x, y = np.minimum(x, r), np.minimum(y, r)
    cut = np.sqrt(np.maximum(r * r - y * y, 0.0))  # left of it the rectangle's full height lies in the disk

    def under_arc(t: Any) -> Any:
        return 0.5 * (t * np.sqrt(np.maximum(r * r - t * t, 0.0)) + r * r * np.arcsin(np.minimum(t / r, 1.0)))

    return np.asarray(np.where(x <= cut, x * y, y * cut + under_arc(x) - under_arc(cut)))


def box(length: int, *, vertical: bool = False) -> torch.Tensor:
    """Uniform motion along an axis as in the paper: `length` equal taps in one row or column (section 3).

    The paper's lengths 4 and 8 are even: their centre falls between two pixels. An even box here has one tap
    more on the left (top) of the middle pixel, so that it moves the image by half a pixel to the left (up).
    `line` is the centred kernel for every real length.

    Args:
        length: number of taps, 1 to 2048.
        vertical: one column instead of one row.

    Returns:
        Float64 tensor (1, k) or (k, 1), k odd: an even length has a zero behind its last tap.

    Raises:
        TypeError: if `length` is not a whole number.
        ValueError: if it is below 1 or above 2048.

    Example:
        >>> box(4).tolist()
        [[0.25, 0.25, 0.25, 0.25, 0.0]]
    """
    n = check_integer("length", length, low=1, high=int(2 * MAX_RADIUS))
    taps = torch.zeros(n + 1 - n % 2, dtype=torch.float64)
    taps[:n] = 1.0 / n
    return taps[:, None] if vertical else taps[None, :]


def line(length: float, angle: float = 0.0) -> torch.Tensor:
    """Uniform straight motion: the area of a `length` x 1 rectangle, centred and turned, in each pixel.

    Equals `box` for odd lengths along an axis; its centroid is zero, so that it never moves the image.

    Args:
        length: in pixels, 0 to 2048. Up to 1, along an axis, it is no blur.
        angle: in degrees, counter-clockwise from +x as displayed; -1e6 to 1e6.

    Returns:
        Float64 tensor (h, w), both odd.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if `length` is negative, not finite or above 2048, or `angle` beyond 1e6.

    Example:
        >>> line(3).tolist() == box(3).tolist()
        True
        >>> line(7, 45).shape
        torch.Size([7, 7])
    """
    half = check_number("length", length, high=2 * MAX_RADIUS) / 2
    turn = check_number("angle", angle, low=-1e6, high=1e6, unit="degrees") % 180.0
    turn = 0.0 if turn == 180.0 else turn  # what a tiny negative angle leaves in floating point
    if half < 1e-9:
        return torch.ones(1, 1, dtype=torch.float64)
    if turn % 90.0 == 0.0:  # cos(90°) is not quite zero in floating point
        cos, sin = (1.0, 0.0) if turn == 0.0 else (0.0, 1.0)
    else:
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # Corners in order, y downwards: the direction of motion is (cos, -sin), its normal (sin, cos).
    along, across = np.array([half, half, -half, -half]), np.array([-0.5, 0.5, 0.5, -0.5])
    x, y = along * cos + across * sin, -along * sin + across * cos
    reach_x, reach_y = (max(0, math.ceil(float(np.abs(v).max()) - 0.5 - _TOUCH)) for v in (x, y))
    coverage = np.abs(_polygon_coverage(x, y, reach_x, reach_y))
    coverage[coverage < _TOUCH] = 0.0  # pixels that the rectangle does not touch
    coverage += coverage[::-1, ::-1]
    return torch.from_numpy(coverage / coverage.sum())


def _polygon_coverage(x: np.ndarray, y: np.ndarray, reach_x: int, reach_y: int) -> np.ndarray:
    """Signed area of a polygon in each pixel: the sum over edges of the integral over y of x, clipped."""
    x1, y1 = np.roll(x, -1), np.roll(y, -1)
    rows = np.arange(-reach_y, reach_y + 1) - 0.5
    columns = np.arange(-reach_x, reach_x + 1) - 0.5
    # The part of each edge (first axis) inside each row of pixels (second axis).
    top = np.clip(y[:, None], rows, rows + 1)
    bottom = np.clip(y1[:, None], rows, rows + 1)
    slope = np.where(y1 == y, 0.0, (x1 - x) / np.where(y1 == y, 1.0, y1 - y))[:, None]
    xa = (x[:, None] + (top - y[:, None]) * slope)[:, :, None]
    xb = (x[:, None] + (bottom - y[:, None]) * slope)[:, :, None]
    # What lies left of the edge within a pixel, clip(x - column, 0, 1), as a mean along the edge: products of
    # differences and not differences of products, which a nearly upright edge would leave without digits.
    start, end = xa - columns, xb - columns
    inside = np.clip(start, 0.0, 1.0), np.clip(end, 0.0, 1.0)
    integral = (inside[1] - inside[0]) * (inside[0] + inside[1]) / 2
    integral += np.maximum(end, 1.0) - np.maximum(start, 1.0)
    upright = end == start
    mean = np.where(upright, inside[0], integral / np.where(upright, 1.0, end - start))
    return np.asarray(((bottom - top)[:, :, None] * mean).sum(axis=0))


def gaussian(sigma: float, *, truncate: float = 4.0) -> torch.Tensor:
    """A sampled Gaussian with unit sum, cut at `truncate` standard deviations.

    Args:
        sigma: standard deviation in pixels; 0 is no blur.
        truncate: the window reaches ⌊truncate·sigma + ½⌋ pixels from the centre, SciPy's rule; at most 1024.

    Returns:
        Float64 tensor (k, k), k odd.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if one is negative or not finite, or the window would reach further than 1024 pixels.

    Example:
        >>> gaussian(1.0).shape
        torch.Size([9, 9])
    """
    cut = check_number("truncate", truncate, low=0.5, high=64.0, unit="standard deviations")
    s = check_number("sigma", sigma, high=MAX_RADIUS / cut)
    reach = math.floor(cut * s + 0.5)
    if reach == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / s) ** 2)
    profile /= profile.sum()
    return torch.from_numpy(np.outer(profile, profile))


def camera_shake(
    count: int, *, seed: int, grid: int = 15, size: int = 17, control_points: int = 6
) -> torch.Tensor:
    """Random camera-shake kernels by the paper's generator (section 3 and its reference [1]).

    A cubic spline with not-a-knot ends runs through `control_points` integer points drawn uniformly on a
    lattice of `grid` x `grid` pixels; every pixel that one of 5 000 samples per control point rounds to gets
    a weight max(0, 1 + n/2), n standard normal. The kernel is padded so that its rounded centroid is the
    centre, and drawn again if that does not fit into `size` x `size`.

    Kernel i depends on the seed, i and the settings, not on `count`. For draw a = 0, 1, ... of kernel i the
    words are ``randomness.words(2 * control_points + 2 * grid**2, seed=seed, key=(i, a))``. With u = (word >>
    11) / 2**53, word 2p gives control point p the column ⌊u·grid⌋, word 2p + 1 its row. The pixel in row r,
    column c takes the words a, b at 2 * control_points + 2 * (r * grid + c) and the next: n = sqrt(-2 ln(1 -
    u_a)) cos(2π u_b). Weights are rounded to multiples of 2**-20 before they are divided by their sum: the
    kernel is then the same to the bit wherever the mathematics library differs in the last digit.

    Args:
        count: how many kernels.
        seed: any integer of at most 64 bits.
        grid: side of the lattice, in pixels.
        size: side of the kernels, odd, and at least `grid`.
        control_points: 2 or more.

    Returns:
        Float64 tensor (count, size, size).

    Raises:
        TypeError: if an argument is not a whole number.
        ValueError: if one is out of its range.

    Example:
        >>> camera_shake(2, seed=5).shape
        torch.Size([2, 17, 17])
    """
    rng.check_seed(seed)
    check_integer("count", count, low=0, high=10_000_000)
    check_integer("grid", grid, low=1, high=_MAX_GRID)
    check_integer("control_points", control_points, low=2, high=64)
    _odd("size", size, low=grid, high=2 * _MAX_GRID + 1)
    kernels = np.empty((count, size, size))
    for index in range(count):
        kernels[index] = _shake_kernel(index, seed, grid, size, control_points)
    return torch.from_numpy(kernels)


def _shake_kernel(index: int, seed: int, grid: int, size: int, control_points: int) -> np.ndarray:
    basis = spline_basis(control_points)
    kernel = np.zeros((size, size))
    attempt = 0
    while True:
        words = rng.words(2 * control_points + 2 * grid * grid, seed=seed, key=(index, attempt))
        samples = _SAMPLES_PER_POINT * control_points
        if draw_trajectory(words, basis, grid, samples, kernel):
            return kernel
        attempt += 1


def shake_bank(bank: Bank) -> torch.Tensor:
    """All camera-shake kernels of a bank: 100 for tests, 10 000 for training, none of them in both.

    Args:
        bank: "test" or "train".

    Returns:
        Float64 tensor (100, 17, 17) or (10000, 17, 17).

    Raises:
        ValueError: if there is no such bank.

    Example:
        >>> shake_bank("test").shape
        torch.Size([100, 17, 17])
    """
    one_of("bank", bank, BANK_SIZES)
    return torch.stack([bank_kernel(index, bank) for index in range(BANK_SIZES[bank])])


def bank_kernel(index: int, bank: Bank = "test", *, size: int = BANK_SIDE) -> torch.Tensor:
    """One camera-shake kernel of a bank, or one of another size with the bank's seed.

    Args:
        index: 0 to 99 in the test bank, 0 to 9999 in the train bank.
        bank: "test" or "train".
        size: side in pixels, odd, 3 to 513; 17 is the paper's. The lattice of :func:`camera_shake` is two
            pixels smaller. Kernels of one index and several sizes are different trajectories.

    Returns:
        Float64 tensor (size, size).

    Raises:
        TypeError: if `index` is not a whole number.
        ValueError: if there is no such bank, no such kernel in it, or the size is out of its range.

    Example:
        >>> bool((bank_kernel(3) == shake_bank("test")[3]).all())
        True
        >>> bank_kernel(3, size=41).shape
        torch.Size([41, 41])
    """
    one_of("bank", bank, BANK_SIZES)
    number = check_integer("index", index, low=0, high=BANK_SIZES[bank] - 1)
    side = check_side(size)
    if side == BANK_SIDE:
        return torch.from_numpy(_bank_array(number, bank).copy())
    return torch.from_numpy(_bank_shake(number, bank, side))


@functools.cache
def _bank_array(index: int, bank: str) -> np.ndarray:
    return _bank_shake(index, bank, BANK_SIDE)


def _bank_shake(index: int, bank: str, size: int) -> np.ndarray:
    return _shake_kernel(index, _BANK_SEEDS[bank], grid=size - 2, size=size, control_points=6)


def check_side(size: int) -> int:
    """The side of a shake with a bank's seed, checked."""
    return _odd("size", size, low=3, high=MAX_SIDE)


def _odd(name: str, value: Any, *, low: int, high: int) -> int:
    number = check_integer(name, value, low=low, high=high)
    if number % 2 == 0:
        raise ValueError(f"`{name}` must be odd, got {number}; use {number + 1}")
    return number


def resample(kernel: torch.Tensor, scale: float) -> torch.Tensor:
    """Resample a kernel for another image scale: each tap is a square that is stretched and shared out.

    Args:
        kernel: (h, w), both odd.
        scale: size of the new image divided by the size of the old one, above 0.

    Returns:
        Float64 tensor (h', w'), both odd, with the sum of the old one and, within half a pixel, its centroid
        times `scale`.

    Raises:
        TypeError: if `scale` is not a number.
        ValueError: if it is not above 0, or the result would reach further than 1024 pixels.

    Example:
        >>> resample(box(3), 2.0).tolist()[0][0] == resample(box(3), 2.0).tolist()[0][-1]
        True
    """
    reach = max(kernel.shape) / 2
    factor = check_number("scale", scale, low=1e-6, high=MAX_RADIUS / reach, unit="times")
    rows, columns = (_stretch(n, factor) for n in kernel.shape)
    return torch.from_numpy(rows @ kernel.double().numpy() @ columns.T)


def _stretch(taps: int, factor: float) -> np.ndarray:
    """Share of old tap j that falls into new pixel i: the overlap of two intervals. Columns sum to 1."""
    reach = max(0, math.ceil(taps / 2 * factor - 0.5 - 1e-9))
    new = np.arange(-reach, reach + 1)[:, None]
    old = (np.arange(taps) - taps // 2) * factor
    overlap = np.minimum(new + 0.5, old + factor / 2) - np.maximum(new - 0.5, old - factor / 2)
    share = np.maximum(overlap, 0.0)
    return np.asarray(share / share.sum(axis=0))
