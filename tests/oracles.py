"""Slow, obvious references: what every number of the library is defined to be.

Nothing here is shared with the library. Each function follows a definition in the documentation as literally
as it can, without a thought for speed, so that a reader can check the oracle against the words by eye.

Letters: H, W image height and width; h, w kernel height and width. Row 0 is the top row, so an angle that is
counter-clockwise as displayed has its positive y on the smaller rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy.integrate
import scipy.interpolate
import scipy.ndimage
import scipy.signal

# Borders by numpy.pad's and scipy.ndimage's names; the latter's "reflect" is everybody else's "symmetric".
NUMPY_PAD = {
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
    "zeros": "constant",
}
NDIMAGE = {
    "reflect": "mirror",
    "symmetric": "reflect",
    "replicate": "nearest",
    "circular": "grid-wrap",
    "zeros": "grid-constant",
}
BORDERS = tuple(NUMPY_PAD)


# Randomness


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of Philox 4x64 with ten rounds (Salmon et al., 2011, section 3.3), in integers."""
    mask = (1 << 64) - 1
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = (right >> 64) ^ b ^ k0, right & mask, (left >> 64) ^ d ^ k1, left & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return a, b, c, d


# Kernels


def centred(kernel: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel in the middle of a larger odd window; zeros around it change nothing."""
    rows, columns = height - kernel.shape[0], width - kernel.shape[1]
    assert min(rows, columns) >= 0
    assert rows % 2 == columns % 2 == 0
    return np.pad(kernel, ((rows // 2,) * 2, (columns // 2,) * 2))


def offsets(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y upwards of every tap, seen from the middle of the window."""
    rows, columns = np.indices(kernel.shape)
    return columns - (kernel.shape[1] - 1) / 2, (kernel.shape[0] - 1) / 2 - rows


def centroid(kernel: np.ndarray) -> tuple[float, float]:
    """Mean x (to the right) and y (upwards), in pixels, of a kernel of sum one."""
    x, y = offsets(kernel)
    return float((kernel * x).sum()), float((kernel * y).sum())


def variance(kernel: np.ndarray, angle: float = 0.0) -> float:
    """Variance (square pixels) along a direction, degrees counter-clockwise from +x as displayed."""
    x, y = offsets(kernel)
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    mean = (kernel * along).sum()
    return float((kernel * (along - mean) ** 2).sum())


def disk(radius: float) -> np.ndarray:
    """One where the pixel's centre is inside the circle, divided by the count."""
    side = 2 * math.floor(radius) + 1
    inside = np.zeros((side, side))
    x, y = offsets(inside)
    inside[x**2 + y**2 <= radius**2] = 1
    return inside / inside.sum()


def disk_area(radius: float) -> np.ndarray:
    """Every pixel's area inside the circle, over the sum; adaptive quadrature of the overlap's height."""
    reach = math.ceil(radius + 0.5)
    area = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row, column in np.ndindex(reach + 1, reach + 1):  # one quadrant; the circle is symmetric
        top, bottom = row + 0.5, row - 0.5
        left, right = column - 0.5, column + 0.5

        def height(x: float, top: float = top, bottom: float = bottom) -> float:
            half = math.sqrt(max(radius**2 - x**2, 0.0))
            return max(min(half, top) - max(-half, bottom), 0.0)

        corners = [math.sqrt(radius**2 - y**2) for y in (top, bottom) if abs(y) < radius] + [radius]
        kinks = sorted({left, right, *(x for c in corners for x in (c, -c) if left < x < right)})
        area[reach + row, reach + column] = sum(
            scipy.integrate.quad(height, a, b, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
            for a, b in itertools.pairwise(kinks)
        )
    area[:reach] = area[:reach:-1]
    area[:, :reach] = area[:, :reach:-1]
    return area / area.sum()


def box(length: int, vertical: bool) -> np.ndarray:
    """`length` equal taps in a row: the bare run, without the zero that makes an even one odd."""
    return np.full((length, 1) if vertical else (1, length), 1 / length)


def clip_polygon(
    polygon: list[tuple[float, float]], a: float, b: float, c: float
) -> list[tuple[float, float]]:
    """The part of a convex polygon where a x + b y <= c (Sutherland and Hodgman)."""
    kept = []
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        d0, d1 = a * x0 + b * y0 - c, a * x1 + b * y1 - c
        if d0 <= 0:
            kept.append((x0, y0))
        if d0 * d1 < 0:
            t = d0 / (d0 - d1)
            kept.append((x0 + t * (x1 - x0), y0 + t * (y1 - y0)))
    return kept


def polygon_area(polygon: list[tuple[float, float]]) -> float:
    """Shoelace formula; zero for fewer than three corners."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def line(length: float, angle: float) -> np.ndarray:
    """Area of the centred, turned `length` x 1 rectangle inside each pixel, over its sum."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    reach = math.ceil(math.hypot(length, 1) / 2 + 0.5)
    area = np.zeros((2 * reach + 1, 2 * reach + 1))
    x, y = offsets(area)
    for pixel in np.ndindex(area.shape):
        px, py = x[pixel], y[pixel]
        square = [(px + dx, py + dy) for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]
        for a, b, c in ((cos, sin, length), (-cos, -sin, length), (-sin, cos, 1.0), (sin, -cos, 1.0)):
            square = clip_polygon(square, a, b, c / 2)
        area[pixel] = polygon_area(square)
    return area / area.sum()


def gaussian(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """The density at pixel centres, cut at floor(truncate sigma + 1/2), over its sum."""
    reach = math.floor(truncate * sigma + 0.5)
    x, y = offsets(np.zeros((2 * reach + 1, 2 * reach + 1)))
    density = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return density / density.sum()


def visited(points: np.ndarray, grid: int) -> np.ndarray:
    """Pixels that the spline through integer control points (2, n) visits: (m, 2) distinct rows and columns.

    The definition: not-a-knot cubic splines over equally spaced parameters, sampled at 5 000 points for each
    control point, both ends among them, clipped to the lattice, rounded half up.
    """
    count = points.shape[1]
    parameters = np.arange(count, dtype=float)
    samples = np.linspace(0, count - 1, 5000 * count)
    path = scipy.interpolate.CubicSpline(parameters, points, axis=1, bc_type="not-a-knot")(samples)
    rows, columns = np.floor(np.clip(path, 0, grid - 1) + 0.5).astype(int)
    return np.stack(np.divmod(np.unique(rows * grid + columns), grid), axis=1)


def shake_from(lattice: np.ndarray, size: int) -> np.ndarray | None:
    """Normalise, pad one side of each axis to centre the rounded centroid, pad to size; None is a redraw."""
    if lattice.sum() == 0:
        return None
    lattice = lattice / lattice.sum()
    for axis in (0, 1):
        side = lattice.shape[axis]
        profile = lattice.sum(axis=1 - axis)
        centre = math.floor(float((profile * np.arange(side)).sum()) + 0.5)
        before, after = centre, side - 1 - centre
        padding = [(0, 0), (0, 0)]
        padding[axis] = (max(after - before, 0), max(before - after, 0))
        lattice = np.pad(lattice, padding)
    if max(lattice.shape) > size:
        return None
    return centred(lattice, size, size)


def shakes(
    count: int, rng: np.random.Generator, *, grid: int = 15, size: int = 17, control_points: int = 6
) -> Iterator[np.ndarray]:
    """Camera-shake kernels by the definition with NumPy's own random numbers: for statistics."""
    while count:
        pixels = visited(rng.integers(0, grid, (2, control_points)), grid)
        lattice = np.zeros((grid, grid))
        lattice[tuple(pixels.T)] = np.maximum(0.0, 1.0 + 0.5 * rng.standard_normal(len(pixels)))
        kernel = shake_from(lattice, size)
        if kernel is not None:
            count -= 1
            yield kernel


def shake_from_words(
    words: Callable[[int, int], np.ndarray], *, grid: int = 15, size: int = 17, control_points: int = 6
) -> tuple[np.ndarray, int, int]:
    """One kernel, the number of its draw and the pixels visited, from `words(count, draw)`: raw 64-bit words.

    The mapping is the one that `camera_shake` documents, pixel by pixel.
    """
    for draw in itertools.count():
        raw = words(2 * control_points + 2 * grid**2, draw)
        u = np.array([(int(word) >> 11) / 2**53 for word in raw])
        points = np.floor(u[: 2 * control_points] * grid).astype(int).reshape(control_points, 2).T
        pixels = visited(points[::-1], grid)  # word 2 p is the column, rows come first here
        lattice = np.zeros((grid, grid))
        for row, column in pixels:
            a, b = u[2 * control_points + 2 * (row * grid + column) :][:2]
            normal = math.sqrt(-2 * math.log(1 - a)) * math.cos(2 * math.pi * b)
            lattice[row, column] = round(max(0.0, 1 + 0.5 * normal) * 2**20) / 2**20
        kernel = shake_from(lattice, size)
        if kernel is not None:
            return kernel, draw, len(pixels)
    raise AssertionError


def shake_statistics(kernel: np.ndarray) -> tuple[int, float, float]:
    """Pixels touched, radius of gyration (pixels) and largest weight."""
    return int((kernel > 0).sum()), math.sqrt(variance(kernel, 0) + variance(kernel, 90)), float(kernel.max())


# Convolution


def source_index(position: int, size: int, border: str) -> int | None:
    """Where a border rule looks for the pixel at `position` outside 0 .. size - 1; None is a zero."""
    if 0 <= position < size:
        return position
    if border == "zeros":
        return None
    if border == "replicate":
        return 0 if position < 0 else size - 1
    if border == "circular":
        return position % size
    if border == "symmetric":
        position %= 2 * size
        return position if position < size else 2 * size - 1 - position
    assert border == "reflect"
    if size == 1:
        return 0
    position %= 2 * (size - 1)
    return position if position < size else 2 * (size - 1) - position


def pad(plane: np.ndarray, kernel_shape: tuple[int, int], border: str) -> np.ndarray:
    """An H x W plane with half a kernel around it, by numpy.pad's rule."""
    h, w = kernel_shape
    return np.pad(plane, ((h // 2,) * 2, (w // 2,) * 2), mode=NUMPY_PAD[border])


def per_plane(
    image: np.ndarray,
    kernel: np.ndarray,
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    dtype: type,
) -> np.ndarray:
    """`function` on each plane of (..., C, H, W), with one kernel (h, w) or one for each leading entry."""
    out = np.zeros(image.shape, dtype)
    for place in np.ndindex(image.shape[:-2]):
        out[place] = function(image[place], kernel if kernel.ndim == 2 else kernel[place[0]])
    return out


def blur(image: np.ndarray, kernel: np.ndarray, border: str) -> np.ndarray:
    """The reference: pad by the index rule, then a true convolution in float64, directly summed."""

    def one(plane: np.ndarray, taps: np.ndarray) -> np.ndarray:
        padded = pad(plane.astype(np.float64), taps.shape, border)
        return scipy.signal.convolve(padded, taps, mode="valid", method="direct")

    return per_plane(image, kernel.astype(np.float64), one, np.float64)


def blur_ndimage(image: np.ndarray, kernel: np.ndarray, border: str) -> np.ndarray:
    """A second opinion, right only where the image is at least as large as the kernel."""

    def one(plane: np.ndarray, taps: np.ndarray) -> np.ndarray:
        return scipy.ndimage.convolve(plane.astype(np.float64), taps, mode=NDIMAGE[border])

    return per_plane(image, kernel.astype(np.float64), one, np.float64)


def blur_flat(image: np.ndarray, taps: np.ndarray, border: str) -> np.ndarray:
    """The exact 8-bit result of n equal taps: (2 S + n) // (2 n), in integers."""
    taps = (taps != 0).astype(np.int64)

    def one(plane: np.ndarray, where: np.ndarray) -> np.ndarray:
        padded = pad(plane.astype(np.int64), where.shape, border)
        total = scipy.signal.convolve(padded, where, mode="valid", method="direct")
        return (2 * total + where.sum()) // (2 * where.sum())

    return per_plane(image, taps, one, np.int64).astype(np.uint8)
