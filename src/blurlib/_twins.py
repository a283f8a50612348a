"""The plain twins of the functions of `_vectors.py`: the same in ordinary loops.

They take over where LLVM's builder is not as we know it or numba's compiler is switched off, and are the
second opinion of the tests.
"""

from __future__ import annotations

import numpy as np
from numba import njit

Array = np.ndarray


@njit(nogil=True)
def plain_row(flat: Array, start: int, length: int) -> Array:
    """A part of a row, without a look at the bounds: what a slice costs is more than a row of 64 pixels."""
    return flat[start : start + length]


@njit(nogil=True)
def plain_add(total: Array, source: Array, base: int, taps: Array, first: int, last: int) -> None:
    """total[x] = sum of source[base + taps[k] + x] for k in first, ..., last - 1."""
    total[:] = 0
    for k in range(first, last):
        taken = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += total.dtype.type(taken[x])


@njit(nogil=True)
def plain_swap(
    total: Array, source: Array, base: int, enter: Array, leave: Array, first: int, last: int
) -> None:
    """total[x] += sum of source[base + enter[k] + x] - source[base + leave[k] + x]."""
    for k in range(first, last):
        new = source[base + enter[k] : base + enter[k] + total.size]
        old = source[base + leave[k] : base + leave[k] + total.size]
        for x in range(total.size):
            total[x] += total.dtype.type(new[x]) - total.dtype.type(old[x])


@njit(nogil=True)
def plain_weigh(
    total: Array, source: Array, base: int, taps: Array, weights: Array, first: int, last: int
) -> None:
    """total[x] = sum of weights[k] * source[base + taps[k] + x]."""
    total[:] = 0
    for k in range(first, last):
        taken = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += weights[k] * taken[x]


@njit(nogil=True)
def plain_weigh_two(
    total: Array,
    below: Array,
    source: Array,
    base: int,
    taps: Array,
    weights: Array,
    weights_below: Array,
    first: int,
    last: int,
) -> None:
    """Two rows of sums over the same taps, loaded once: `weights` for one, `weights_below` for the other."""
    total[:] = 0
    below[:] = 0
    for k in range(first, last):
        taken = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += weights[k] * taken[x]
            below[x] += weights_below[k] * taken[x]


@njit(nogil=True)
def plain_add_groups(
    total: Array, source: Array, base: int, taps: Array, starts: Array, weights: Array, first: int, last: int
) -> None:
    """total[x] += sum of weights[g] * sum of source[base + taps[k] + x] for k in group g.

    Group g is the taps from starts[g] to starts[g + 1] - 1; their sum is that of integers, of 16 bits for
    bytes.
    """
    for g in range(first, last):
        for x in range(total.size):
            part = 0
            for k in range(starts[g], starts[g + 1]):
                part += source[base + taps[k] + x]
            total[x] += weights[g] * total.dtype.type(part)


@njit(nogil=True)
def plain_add_divided(
    target: Array,
    total: Array,
    source: Array,
    base: int,
    taps: Array,
    first: int,
    last: int,
    bump: int,
    factor: int,
    shift: int,
) -> None:
    """`add`, and target[x] = ((total[x] + bump) * factor >> 16) >> shift, by `_integers.division`."""
    plain_add(total, source, base, taps, first, last)
    for x in range(target.size):
        target[x] = ((np.int64(total[x]) + bump) * factor >> 16) >> shift


@njit(nogil=True)
def plain_swap_divided(
    target: Array,
    total: Array,
    source: Array,
    base: int,
    enter: Array,
    leave: Array,
    first: int,
    last: int,
    bump: int,
    factor: int,
    shift: int,
) -> None:
    """`swap`, and the same division."""
    plain_swap(total, source, base, enter, leave, first, last)
    for x in range(target.size):
        target[x] = ((np.int64(total[x]) + bump) * factor >> 16) >> shift


@njit(nogil=True)
def plain_add_carried(
    target: Array,
    wide: Array,
    source: Array,
    base: int,
    taps: Array,
    first: int,
    last: int,
    share: float,
    offset: float,
) -> None:
    """Taps added to sums of 32 bits by way of 16 (at most 128 taps), target[x] = wide[x] * share + offset."""
    for k in range(first, last):
        new = source[base + taps[k] : base + taps[k] + wide.size]
        for x in range(wide.size):
            wide[x] += np.int32(new[x])
    for x in range(target.size):
        target[x] = np.uint8(np.int32(np.float32(wide[x]) * np.float32(share) + np.float32(offset)))


@njit(nogil=True)
def plain_swap_carried(
    target: Array,
    wide: Array,
    source: Array,
    base: int,
    enter: Array,
    leave: Array,
    first: int,
    last: int,
    share: float,
    offset: float,
) -> None:
    """`swap` into sums of 32 bits by way of 16 (at most 128 taps), target[x] = wide[x] * share + offset."""
    for k in range(first, last):
        new = source[base + enter[k] : base + enter[k] + wide.size]
        old = source[base + leave[k] : base + leave[k] + wide.size]
        for x in range(wide.size):
            wide[x] += np.int32(new[x]) - np.int32(old[x])
    for x in range(target.size):
        target[x] = np.uint8(np.int32(np.float32(wide[x]) * np.float32(share) + np.float32(offset)))


@njit(nogil=True)
def plain_swap_shared(
    target: Array,
    total: Array,
    source: Array,
    base: int,
    enter: Array,
    leave: Array,
    first: int,
    last: int,
    shares: Array,
) -> None:
    """`swap`, and target[x] = total[x] * shares[x]."""
    plain_swap(total, source, base, enter, leave, first, last)
    for x in range(target.size):
        target[x] = target.dtype.type(total[x]) * shares[x]


@njit(nogil=True)
def plain_weigh_into(
    target: Array, source: Array, base: int, taps: Array, weights: Array, first: int, last: int
) -> None:
    """`weigh` where the sums are what is wanted, or as bytes, rounded half up and clipped."""
    for x in range(target.size):
        total = weights.dtype.type(0)
        for k in range(first, last):
            total += weights[k] * source[base + taps[k] + x]
        if target.itemsize == 1:
            target[x] = min(max(np.int32(total + weights.dtype.type(0.5)), 0), 255)
        else:
            target[x] = total


@njit(nogil=True)
def plain_weigh_two_into(
    target: Array,
    below: Array,
    source: Array,
    base: int,
    taps: Array,
    weights: Array,
    weights_below: Array,
    first: int,
    last: int,
) -> None:
    """`weigh_two` where the sums are what is wanted, or as bytes."""
    plain_weigh_into(target, source, base, taps, weights, first, last)
    plain_weigh_into(below, source, base, taps, weights_below, first, last)


@njit(nogil=True)
def plain_mix_kept(
    target: Array,
    total: Array,
    source: Array,
    base: int,
    taps: Array,
    starts: Array,
    weights: Array,
    first: int,
    last: int,
    core: float,
) -> None:
    """target[x] = total[x] * core + `add_groups`, rounded half up and clipped."""
    for x in range(target.size):
        mixed = np.float32(total[x]) * np.float32(core)
        for g in range(first, last):
            part = 0
            for k in range(starts[g], starts[g + 1]):
                part += source[base + taps[k] + x]
            mixed += weights[g] * np.float32(part)
        target[x] = min(max(np.int32(mixed + np.float32(0.5)), 0), 255)


@njit(nogil=True)
def plain_add_spread(
    target: Array, wide: Array, source: Array, base: int, taps: Array, first: int, last: int, shares: Array
) -> None:
    """Taps added to sums in 64-bit floats, by way of 32-bit integers, and target[x] = wide[x] * shares[x]."""
    for k in range(first, last):
        for x in range(wide.size):
            wide[x] += source[base + taps[k] + x]
    for x in range(target.size):
        target[x] = wide[x] * shares[x]


@njit(nogil=True)
def plain_swap_spread(
    target: Array,
    wide: Array,
    source: Array,
    base: int,
    enter: Array,
    leave: Array,
    first: int,
    last: int,
    shares: Array,
) -> None:
    """`plain_add_spread` for taps that enter, less those that leave."""
    for k in range(first, last):
        for x in range(wide.size):
            wide[x] += np.float64(source[base + enter[k] + x]) - np.float64(source[base + leave[k] + x])
    for x in range(target.size):
        target[x] = wide[x] * shares[x]
