"""Camera-shake trajectories by their definition: for where the native core, which searches, is missing."""

from __future__ import annotations

import numpy as np

from .core import MISSING

if not MISSING:
    from . import _core


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
