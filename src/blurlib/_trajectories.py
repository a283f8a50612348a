"""The numba loops that draw camera-shake trajectories: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

import math

import numpy as np

from ._compile import loop

Array = np.ndarray


@loop
def _pixel(cx: Array, cy: Array, samples: int, j: int, grid: int) -> int:
    """Row and column that sample j of the curve rounds to, as one number."""
    pieces = cx.shape[1]
    t = j * (pieces / (samples - 1)) if j < samples - 1 else float(pieces)
    i = min(int(t), pieces - 1)
    s = t - i
    x = ((cx[0, i] * s + cx[1, i]) * s + cx[2, i]) * s + cx[3, i]
    y = ((cy[0, i] * s + cy[1, i]) * s + cy[2, i]) * s + cy[3, i]
    c = int(min(max(x, 0.0), grid - 1.0) + 0.5)
    r = int(min(max(y, 0.0), grid - 1.0) + 0.5)
    return r * grid + c


@loop
def _mark_visited(cx: Array, cy: Array, samples: int, visited: Array) -> None:
    """Mark every pixel that a sample rounds to, by bisection between the curve's turning points.

    Between two samples with neither coordinate turning, rounding is monotone: equal ends mean that every
    sample between them rounds to the same pixel. So all samples count, but few are computed (20 times fewer).
    """
    grid = visited.shape[0]
    pieces = cx.shape[1]
    step = pieces / (samples - 1)
    cuts = np.empty(13 * pieces + 1, np.int64)  # last sample of each monotone stretch
    n = 0
    for i in range(pieces):
        cuts[n] = int(math.ceil(i / step)) - 1  # the piece before ends here
        n += 1
        for c in (cx, cy):
            # Roots of the derivative 3 c0 s² + 2 c1 s + c2.
            qa, qb, qc = 3.0 * c[0, i], 2.0 * c[1, i], c[2, i]
            roots = (2.0, 2.0)
            if qa != 0.0:
                square = qb * qb - 4.0 * qa * qc
                if square >= 0.0:
                    root = math.sqrt(square)
                    roots = ((-qb - root) / (2.0 * qa), (-qb + root) / (2.0 * qa))
            elif qb != 0.0:
                roots = (-qc / qb, 2.0)
            for s in roots:
                if 0.0 < s < 1.0:
                    at = int((i + s) / step)
                    # One sample of slack on both sides: the roots are rounded.
                    for near in range(at - 1, at + 2):
                        cuts[n] = near
                        n += 1
    cuts[n] = samples - 1
    n += 1
    ends = np.sort(cuts[:n])
    stack = np.empty((64, 2), np.int64)
    first = 0
    for k in range(n):
        last = min(ends[k], samples - 1)
        if last < first:
            continue
        stack[0, 0], stack[0, 1] = first, last
        depth = 1
        while depth > 0:
            depth -= 1
            a, b = stack[depth, 0], stack[depth, 1]
            pa = _pixel(cx, cy, samples, a, grid)
            pb = _pixel(cx, cy, samples, b, grid)
            visited[pa // grid, pa % grid] = True
            visited[pb // grid, pb % grid] = True
            if pa != pb and b - a > 1:
                middle = (a + b) // 2
                stack[depth, 0], stack[depth, 1] = a, middle
                stack[depth + 1, 0], stack[depth + 1, 1] = middle, b
                depth += 2
        first = last + 1


@loop
def draw_trajectory(words: Array, basis: Array, grid: int, samples: int, kernel: Array) -> bool:
    """Draw one camera-shake kernel from random words; False, and nothing written, to draw again."""
    points = basis.shape[2]
    pieces = points - 1
    unit = 2.0**-53
    column = np.empty(points)
    row = np.empty(points)
    for p in range(points):
        column[p] = math.floor((words[2 * p] >> np.uint64(11)) * unit * grid)
        row[p] = math.floor((words[2 * p + 1] >> np.uint64(11)) * unit * grid)
    visited = np.zeros((grid, grid), np.bool_)
    cx = np.zeros((4, pieces))
    cy = np.zeros((4, pieces))
    for d in range(4):
        for i in range(pieces):
            for p in range(points):
                cx[d, i] += basis[d, i, p] * column[p]
                cy[d, i] += basis[d, i, p] * row[p]
    _mark_visited(cx, cy, samples, visited)
    # Weights are integers from here on, so that sums and the centroid are exact on every machine.
    weights = np.zeros((grid, grid), np.int64)
    total = 0
    moment_r = 0
    moment_c = 0
    for r in range(grid):
        for c in range(grid):
            if visited[r, c]:
                k = 2 * points + 2 * (r * grid + c)
                u = (words[k] >> np.uint64(11)) * unit
                v = (words[k + 1] >> np.uint64(11)) * unit
                n = math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)
                w = int(math.floor((1.0 + 0.5 * n) * 1048576.0 + 0.5))
                if w > 0:
                    weights[r, c] = w
                    total += w
                    moment_r += w * r
                    moment_c += w * c
    if total == 0:
        return False
    centre_r = (2 * moment_r + total) // (2 * total)
    centre_c = (2 * moment_c + total) // (2 * total)
    middle = kernel.shape[0] // 2
    if max(centre_r, grid - 1 - centre_r) > middle or max(centre_c, grid - 1 - centre_c) > middle:
        return False
    for r in range(grid):
        for c in range(grid):
            if weights[r, c] > 0:
                kernel[r - centre_r + middle, c - centre_c + middle] = weights[r, c] / total
    return True
