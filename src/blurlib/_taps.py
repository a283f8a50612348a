"""What a kernel consists of: numba functions from its array to lists of taps. Nothing of torch.

NumPy would take longer over a new kernel than the loops over a small image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import loop
from ._integers import Core, Ring
from ._vectors import row
from ._weighted import Pairs

Array = np.ndarray

# Weights that differ by less, in parts of the largest, are one weight: what symmetry makes equal up to
# rounding.
_SAME = 1e-9


class Survey(NamedTuple):
    """What decides how to apply a kernel.

    `up` and `left` are half the height and width of what is not zero, `taps` the weights that are not zero,
    `changes` those of the kernel less itself one row down, `pairs` the taps under either of two neighbouring
    rows. `groups` counts the different weights; most taps (`core_taps`) have the weight `core`, and a step
    down brings `core_changes` new ones under it.
    """

    finite: bool
    total: float
    up: int
    left: int
    taps: int
    changes: int
    pairs: int
    groups: int
    core: float
    core_taps: int
    core_changes: int


@loop
def same(kernel: Array, anchor: Array, origin: int) -> bool:
    """Whether these numbers lie at a distance of `origin` elements from the anchor."""
    lying_there = row(anchor, origin, kernel.size)
    alike = True
    for k in range(kernel.size):
        alike &= kernel[k] == lying_there[k]
    return alike


@loop
def survey(kernel: Array) -> Survey:
    """Look at a kernel (h, w), both odd, in float64."""
    height, width = kernel.shape
    total, taps, up, left, finite = 0.0, 0, 0, 0, True
    for i in range(height):
        for j in range(width):
            value = kernel[i, j]
            finite &= bool(np.isfinite(value))
            if value != 0:
                total += value
                taps += 1
                up, left = max(up, abs(i - height // 2)), max(left, abs(j - width // 2))
    if not finite or not taps:
        return Survey(finite, total, up, left, taps, 0, 0, 0, 0.0, 0, 0)
    values = np.empty(taps)
    k, changes, pairs = 0, 0, 0
    for j in range(width):
        above = 0.0
        for i in range(height):
            value = kernel[i, j]
            if value != 0:
                values[k] = value
                k += 1
            changes += value != above
            pairs += value != 0 or above != 0
            above = value
        changes += above != 0
        pairs += above != 0
    values.sort()
    same = _SAME * max(abs(values[0]), abs(values[-1]))
    groups, first, core, core_taps = 0, 0, 0.0, 0
    for k in range(1, taps + 1):
        if k == taps or values[k] - values[first] > same:
            groups += 1
            if k - first > core_taps:
                core, core_taps = values[first], k - first
            first = k
    core_changes = 0
    for j in range(width):
        inside = False
        for i in range(height):
            new = 0 <= kernel[i, j] - core <= same
            core_changes += new and not inside
            inside = new
    return Survey(finite, total, up, left, taps, changes, pairs, groups, core, core_taps, core_changes)


@loop
def lying(kernel: Array, up: int, left: int) -> Array:
    """The kernel without the zeros around it, turned as it lies over the image in a true convolution."""
    height, width = kernel.shape
    window = np.empty((2 * up + 1, 2 * left + 1))
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            window[i, j] = kernel[height // 2 + up - i, width // 2 + left - j]
    return window


@loop
def tap_list(window: Array, n: int) -> tuple[Array, Array]:
    """The n taps of a window: (row, column) each, and their weights."""
    taps, weights = np.empty((n, 2), np.int64), np.empty(n)
    k = 0
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            if window[i, j] != 0:
                taps[k, 0], taps[k, 1] = i, j
                weights[k] = window[i, j]
                k += 1
    return taps, weights


@loop
def change_list(window: Array, n: int) -> tuple[Array, Array]:
    """What a step down adds: n taps of the kernel one row down less the kernel, seen from the upper row."""
    taps, weights = np.empty((n, 2), np.int64), np.empty(n)
    k, height = 0, window.shape[0]
    for i in range(height + 1):
        for j in range(window.shape[1]):
            weight = (window[i - 1, j] if i else 0.0) - (window[i, j] if i < height else 0.0)
            if weight != 0:
                taps[k, 0], taps[k, 1] = i, j
                weights[k] = weight
                k += 1
    return taps, weights


@loop
def pair_list(window: Array, n: int, real: Array) -> Pairs:
    """The n taps under either of two neighbouring rows; `real` is an array of the dtype that is wanted."""
    taps = np.empty((n, 2), np.int64)
    weights, below = np.empty(n, real.dtype), np.empty(n, real.dtype)
    k, height = 0, window.shape[0]
    for i in range(height + 1):
        for j in range(window.shape[1]):
            one = window[i, j] if i < height else 0.0
            two = window[i - 1, j] if i else 0.0
            if one != 0 or two != 0:
                taps[k, 0], taps[k, 1] = i, j
                weights[k], below[k] = one, two
                k += 1
    return Pairs(taps, weights, below)


@loop
def core_and_ring(window: Array, found: Survey, running: bool) -> tuple[Core, Ring]:
    """The taps of the most frequent weight, with their changes if `running`, and groups of the others."""
    largest = 0.0
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            largest = max(largest, abs(window[i, j]))
    same = _SAME * largest
    changes = found.core_changes if running else 0
    taps = np.empty((found.core_taps, 2), np.int64)
    enter, leave = np.empty((changes, 2), np.int64), np.empty((changes, 2), np.int64)
    others = found.taps - found.core_taps
    ring, weights = np.empty((others, 2), np.int64), np.empty(others)
    k, m = 0, 0
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            if 0 <= window[i, j] - found.core <= same:
                taps[k, 0], taps[k, 1] = i, j
                k += 1
            elif window[i, j] != 0:
                ring[m, 0], ring[m, 1] = i, j
                weights[m] = window[i, j]
                m += 1
    if running:
        k = 0
        for j in range(window.shape[1]):
            inside = False
            for i in range(window.shape[0] + 1):
                new = i < window.shape[0] and 0 <= window[i, j] - found.core <= same
                if new != inside:
                    place = leave if new else enter
                    place[k, 0], place[k, 1] = i, j
                    k += not new  # a column is left where it is entered: runs follow each other
                inside = new
    order = np.argsort(weights)
    starts, sizes = np.empty(others + 1, np.int64), np.empty(others)
    groups, first = 0, 0
    for m in range(1, others + 1):
        heavier = m < others and weights[order[m]] - weights[order[first]] > same
        if m == others or heavier or m - first == 256:
            starts[groups], sizes[groups] = first, weights[order[first]]
            groups, first = groups + 1, m
    starts[groups] = others
    return (
        Core(taps, enter, leave, found.core),
        Ring(ring[order], starts[: groups + 1].copy(), sizes[:groups].copy()),
    )


@loop
def profiles(window: Array, tolerance: float) -> tuple[bool, Array, Array]:
    """Whether the kernel is a column times a row within the tolerance (sum of errors), and these."""
    height, width = window.shape
    top, left = 0, 0
    for i in range(height):
        for j in range(width):
            if abs(window[i, j]) > abs(window[top, left]):
                top, left = i, j
    column, row = window[:, left].copy(), window[top] / window[top, left]
    error = 0.0
    for i in range(height):
        for j in range(width):
            error += abs(column[i] * row[j] - window[i, j])
        if error > tolerance:
            return False, column, row
    return True, column, row
