"""Camera-shake trajectories: their splines, and how one is drawn where the native core is missing."""

from __future__ import annotations

import functools
from fractions import Fraction

import numpy as np

from .core import MISSING

if not MISSING:
    from . import _core


@functools.lru_cache(maxsize=8)
def spline_basis(points: int) -> np.ndarray:
    """Coefficients (4, points - 1, points) of the cubic spline with not-a-knot ends, a unit of time a piece.

    The highest power first, for times from 0 to 1; linear in the values at the points. It is SciPy's
    CubicSpline, in fractions and rounded once: the same everywhere, and without SciPy's second of import.
    """
    n = points
    # Equations for the slopes s at the points, each as coefficients of s and then of the values y.
    rows = []

    def equation(first: int, slopes: tuple[int, ...], values: tuple[int, ...]) -> None:
        row = [Fraction(0)] * (2 * n)
        for k, (s, y) in enumerate(zip(slopes, values, strict=True)):
            row[first + k], row[n + first + k] = Fraction(s), Fraction(y)
        rows.append(row)

    for i in range(1, n - 1):  # second derivatives meet
        equation(i - 1, (1, 4, 1), (-3, 0, 3))
    for i in (0, max(0, n - 3)):
        if n > 3:  # third derivatives meet at the points next to the ends
            equation(i, (1, 0, -1), (-2, 4, -2))
        elif n == 3 and len(rows) < 3:  # two pieces are a parabola, ...
            equation(len(rows) - 1, (1, 1), (-2, 2))
        elif n == 2:  # ... one is a line
            equation(0, (1, 0) if len(rows) == 0 else (0, 1), (-1, 1))
    _solve(rows, n)
    slopes = [row[n:] for row in rows]
    basis = np.zeros((4, n - 1, n))
    for i in range(n - 1):
        for p in range(n):
            start, end, step = slopes[i][p], slopes[i + 1][p], Fraction((p == i + 1) - (p == i))
            basis[:, i, p] = start + end - 2 * step, 3 * step - 2 * start - end, start, p == i
    return basis


def _solve(rows: list[list[Fraction]], n: int) -> None:
    """Make the first n columns the unit matrix (Gauss and Jordan)."""
    for k in range(n):
        pivot = next(i for i in range(k, n) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        scale = rows[k][k]
        rows[k] = [value / scale if value else value for value in rows[k]]
        for i, row in enumerate(rows):
            factor = row[k]
            if factor and i != k:
                rows[i] = [a - factor * b if b else a for a, b in zip(row, rows[k], strict=True)]


def draw_trajectory_plainly(
    words: np.ndarray, basis: np.ndarray, grid: int, samples: int, kernel: np.ndarray
) -> bool:
    """Draw one camera-shake kernel from random words; False, and nothing written, to draw again.

    To the bit what the core draws: every sample is computed, by the same operations.
    """
    points = basis.shape[2]
    pieces = points - 1
    uniform = (words >> np.uint64(11)) * 2.0**-53
    control = np.floor(uniform[: 2 * points] * grid)
    parameter = np.arange(samples) * (pieces / (samples - 1))
    parameter[-1] = pieces
    piece = np.minimum(parameter.astype(np.int64), pieces - 1)
    s = parameter - piece
    pixels = []
    for coordinate in (control[1::2], control[::2]):  # rows, columns
        c = np.zeros((4, pieces))
        for p in range(points):
            c += basis[:, :, p] * coordinate[p]
        value = ((c[0, piece] * s + c[1, piece]) * s + c[2, piece]) * s + c[3, piece]
        pixels.append((value.clip(0, grid - 1) + 0.5).astype(np.int64))
    row, column = np.divmod(np.unique(pixels[0] * grid + pixels[1]), grid)
    # Weights are integers, so that sums and the centroid are exact on every machine.
    first = 2 * points + 2 * (row * grid + column)
    normal = np.sqrt(-2 * np.log(1 - uniform[first])) * np.cos(2 * np.pi * uniform[first + 1])
    weights = np.floor((1 + 0.5 * normal) * 2**20 + 0.5).astype(np.int64).clip(0)
    total = int(weights.sum())
    if total == 0:
        return False
    middle = kernel.shape[0] // 2
    down, across = ((2 * int((weights * at).sum()) + total) // (2 * total) for at in (row, column))
    if max(down, grid - 1 - down, across, grid - 1 - across) > middle:
        return False
    kernel[row - down + middle, column - across + middle] = weights / total
    return True


draw_trajectory = draw_trajectory_plainly if MISSING else _core.draw_trajectory
