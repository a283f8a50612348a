"""A metric against the size of a blur: a falling curve through what was measured, and its crossing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GRID = 4096  # places at which a curve is looked at for its crossing


def falling(values: np.ndarray) -> np.ndarray:
    """The closest curves, in least squares, that never rise.

    Args:
        values: (R, M), each row a curve over M sizes.

    Returns:
        (R, M).
    """
    from scipy.optimize import isotonic_regression

    return np.array([isotonic_regression(row, increasing=False).x for row in values]).reshape(values.shape)


def falling_curve(sizes: Sequence[float], values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Falling curves at any size: monotone cubic interpolation (Fritsch and Carlson 1980) of :func:`falling`.

    Args:
        sizes: (M,), rising.
        values: (R, M).
        at: (N,), within the sizes.

    Returns:
        (R, N).
    """
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(np.asarray(sizes, dtype=float), falling(values), axis=1)(at))


def crossings(sizes: Sequence[float], values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The largest size at which each curve has not fallen below its threshold.

    Args:
        sizes: (M,), rising.
        values: (R, M).
        thresholds: (R,).

    Returns:
        (R,); infinite where the curve is not below it at the largest size, the first size where it is below
        everywhere.
    """
    at = np.linspace(sizes[0], sizes[-1], _GRID)
    found = np.empty(len(values))
    block = max(1, 2**22 // _GRID)
    for start in range(0, len(values), block):
        part = slice(start, start + block)
        drawn, least = falling_curve(sizes, values[part], at), thresholds[part, None]
        below = drawn < least
        first = np.where(below.any(axis=1), below.argmax(axis=1), _GRID)
        inside = np.clip(first, 1, _GRID - 1)
        rows = np.arange(len(drawn))
        high, low = drawn[rows, inside - 1], drawn[rows, inside]
        share = np.divide(high - least[:, 0], high - low, out=np.zeros(len(drawn)), where=high > low)
        place = at[inside - 1] + np.clip(share, 0.0, 1.0) * (at[1] - at[0])
        found[part] = np.where(first == _GRID, np.inf, np.where(first == 0, sizes[0], place))
    return found
