"""Large kernels on the CPU, by FFT in the image's precision.

SciPy's transforms, unlike torch's, do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .layouts import border_index

# From an array to its convolution with the kernel, where the kernel lies within the array.
_Convolve = Callable[[np.ndarray], np.ndarray]


def blur_planes(
    source: np.ndarray, target: np.ndarray, kernel: np.ndarray, border: str, threads: int
) -> None:
    """Blur planes (..., H, W) of uint8, float32 or float64, of any strides, into `target`.

    Whole planes go to as many threads.
    """
    height, width = source.shape[-2:]
    rows = border_index(height, kernel.shape[0] // 2, border).numpy()
    columns = border_index(width, kernel.shape[1] // 2, border).numpy()
    # A flat kernel's ties are to be told apart from what is nearly one.
    is_exact = source.dtype == np.uint8 and len(np.unique(kernel[kernel != 0])) == 1
    real = np.float64 if is_exact or source.dtype == np.float64 else np.float32
    lift = 0.25 * kernel.max() if is_exact else 0.0
    convolve = _convolution(kernel.astype(real), rows.size, columns.size)

    def blur_plane(place: tuple[int, ...]) -> None:
        sums = _blur_plane(source[place], kernel, rows, columns, convolve, real)
        target[place] = (sums + (0.5 + lift)).clip(0, 255) if source.dtype == np.uint8 else sums

    places = list(np.ndindex(source.shape[:-2]))
    if threads > 1 and len(places) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(blur_plane, places))
    else:
        for place in places:
            blur_plane(place)


def _convolution(kernel: np.ndarray, rows: int, columns: int) -> _Convolve:
    from scipy import fft

    size = [fft.next_fast_len(n, real=True) for n in (rows, columns)]
    top, left = kernel.shape[0] - 1, kernel.shape[1] - 1
    spectrum = fft.rfft2(kernel, s=size)

    def convolve(bordered: np.ndarray) -> np.ndarray:
        sums = fft.irfft2(fft.rfft2(bordered, s=size) * spectrum, s=size)
        return np.asarray(sums[top:rows, left:columns])

    return convolve


def _blur_plane(
    plane: np.ndarray,
    kernel: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    convolve: _Convolve,
    real: type,
) -> np.ndarray:
    """Around the middle of the plane's range, so that 32 bits lose less than 5e-7 of the largest number."""
    finite = np.isfinite(plane)
    is_whole = finite.all()
    known = plane if is_whole else np.where(finite, plane, 0)
    low, high = known.min(), known.max()
    # A transform adds up a whole plane: near the largest number it is shrunk before, by a power of two.
    largest = max(-float(low), float(high))
    shrunk = int(np.frexp(largest)[1]) if largest > np.sqrt(np.finfo(real).max) else 0
    if shrunk:
        known, low, high = (np.ldexp(each, -shrunk) for each in (known, low, high))
    middle = low / 2 + high / 2
    sums = convolve(_bordered((known - middle).astype(real), rows, columns, -middle)) + middle * kernel.sum()
    if shrunk:
        sums = np.ldexp(sums, shrunk)
    return sums if is_whole else _with_what_is_not_finite(sums, plane, kernel, rows, columns)


def _bordered(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray, outside: float) -> np.ndarray:
    bordered: np.ndarray = plane[np.ix_(rows, columns)]
    bordered[rows < 0], bordered[:, columns < 0] = outside, outside
    return bordered


def _with_what_is_not_finite(
    sums: np.ndarray, plane: np.ndarray, kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Where the kernel carries a NaN or an infinity; an FFT would carry it everywhere."""

    def reached(pixels: np.ndarray, taps: np.ndarray) -> np.ndarray:
        if not (pixels.any() and taps.any()):
            return np.zeros(sums.shape, bool)
        count = _convolution(taps.astype(np.float64), rows.size, columns.size)
        return count(_bordered(pixels.astype(np.float64), rows, columns, 0)) > 0.5

    high, low = plane == np.inf, plane == -np.inf
    up = reached(high, kernel > 0) | reached(low, kernel < 0)
    down = reached(low, kernel > 0) | reached(high, kernel < 0)
    sums = np.where(up, np.inf, np.where(down, -np.inf, sums))
    return np.where(reached(np.isnan(plane), kernel != 0) | (up & down), np.nan, sums)
