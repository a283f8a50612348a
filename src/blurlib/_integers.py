"""Sums of integers: kernels whose taps are (nearly) all equal, over bytes and over 32-bit floats.

Each loop writes strips `first` to `last` - 1, counted over all planes, of an image that begins at
`pixels[target]`: planes, rows, columns * step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import loop
from ._endings import (
    add_carried,
    add_divided,
    add_kept,
    add_spread,
    mix_kept,
    swap_carried,
    swap_divided,
    swap_kept,
    swap_shared,
    swap_spread,
)
from ._tiles import (
    STRIP,
    Frame,
    View,
    buffer,
    copy,
    fill,
    finish,
    is_broken,
    memory,
    offsets,
    part,
    put_back,
    size_of,
    take_out,
)
from ._vectors import add, add_groups, row, swap

Array = np.ndarray

# What the largest float of a tile becomes as an integer: 256 of them fit into 32 bits, a rounding up
# included.
MOST = 2**23 - 4


class Core(NamedTuple):
    """Taps of one weight, (row, column) each, and what a step down adds to and drops from their sum."""

    taps: Array
    enter: Array
    leave: Array
    weight: float


class Ring(NamedTuple):
    """Groups of taps of one weight each: group g is `taps[starts[g]:starts[g + 1]]`, at most 256 taps."""

    taps: Array
    starts: Array
    weights: Array


@loop
def copies(
    source: Array,
    origin: int,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    pixels: Array,
    target: int,
    first: int,
    last: int,
    row_map: Array,
    column_map: Array,
) -> None:
    """No blur: the image itself, in the memory of the result."""
    view, line = View(source, origin, starts, stride, rows, columns, step), columns * step
    strips = (view.rows + STRIP - 1) // STRIP
    for unit in range(first, last):
        plane, top = unit // strips, unit % strips * STRIP
        for y in range(top, min(top + STRIP, view.rows)):
            taken = row(view.flat, view.origin + view.starts[plane] + y * view.stride, line)
            given = row(pixels, target + (plane * view.rows + y) * line, line)
            for x in range(line):
                given[x] = taken[x]


# The taps of one weight are added up as integers, without rounding errors: their sum for a row is the sum of
# the row above plus what a step down adds, minus what it drops. Narrow integers do while they can hold all of
# it; for more taps, what they hold of a row, or of its change, is carried into a wide row every 128 taps.


@part
def _carry(total: Array, wide: Array) -> None:
    for x in range(total.size):
        wide[x] += total[x]
        total[x] = 0


@part
def _start(total: Array, signed: Array, wide: Array, flat: Array, base: int, taps: Array) -> None:
    """The sum of all taps at a row; `signed` is the memory of `total` as signed integers."""
    wide[:] = 0
    if not wide.size:
        add(total, flat, base, taps, 0, taps.size)
        return
    for first in range(0, taps.size, 128):
        add(total, flat, base, taps, first, min(first + 128, taps.size))
        _carry(signed, wide)


@part
def _step(
    total: Array, signed: Array, wide: Array, flat: Array, base: int, enter: Array, leave: Array
) -> None:
    """From the sum at the row `base` to the sum at the next."""
    if not wide.size:
        swap(total, flat, base, enter, leave, 0, enter.size)
        return
    for first in range(0, enter.size, 128):
        swap(total, flat, base, enter, leave, first, min(first + 128, enter.size))
        _carry(signed, wide)


@part
def _scale(mixed: Array, total: Array, weight: float) -> None:
    factor = mixed.dtype.type(weight)
    for x in range(total.size):
        mixed[x] = mixed.dtype.type(total[x]) * factor


@part
def division(n: int) -> tuple[int, int, int]:
    """(bump, factor, shift) that divide a sum S of n <= 256 bytes in 16 bits, rounded exactly.

    ((S + bump) * factor >> 16) >> shift is (2 S + n) // (2 n) for every S that n bytes can have. The factor
    is 2^(16 + shift) / n, rounded up where that is near enough, else down, which takes one more in front.
    """
    shift = 0
    while 2 << shift <= n:
        shift += 1
    power = 65536 << shift
    factor = (power + n - 1) // n
    if factor < 65536 and (factor * n - power) * (255 * n + n // 2) < power:
        return n // 2, factor, shift
    return n // 2 + 1, factor - 1, shift


@loop
def byte_sums(
    source: Array,
    origin: int,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    pixels: Array,
    target: int,
    first: int,
    last: int,
    core_taps: Array,
    core_enter: Array,
    core_leave: Array,
    core_weight: float,
    ring_taps: Array,
    ring_starts: Array,
    ring_weights: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """Bytes under a kernel whose weights are (nearly) all equal: exact sums of the equal part, a ring on top.

    A flat kernel's sum S over n taps is divided exactly, (2 S + n) // (2 n); with a ring S is multiplied by
    the core's weight.
    """
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    core = Core(core_taps, core_enter, core_leave, core_weight)
    ring = Ring(ring_taps, ring_starts, ring_weights)
    line = columns * step
    size = size_of(view, frame, 1, 1)
    flat = buffer(size, pixels)
    taps = offsets(core.taps, size.stride, step)
    enter, leave = offsets(core.enter, size.stride, step), offsets(core.leave, size.stride, step)
    around = offsets(ring.taps, size.stride, step)
    n = taps.size
    nothing = np.zeros(size.stride, np.uint8)
    total = np.zeros(size.length, np.uint16)
    signed = total.view(np.int16)
    weights = ring.weights.astype(np.float32)
    wide = np.zeros(size.length if n > 256 else 0, np.int32)
    mixed = np.zeros(size.length if ring.weights.size else 0, np.float32)
    share32, share64 = np.float32(1.0 / n), 1.0 / n
    offset = np.float32(0.25 / n + 0.5)
    narrow = n <= 256 and not mixed.size
    bump, factor, shift = division(n) if narrow else (0, 0, 0)
    # Many taps, few changes: carried and finished in one go.
    simple = 256 < n <= 4096 and 0 < enter.size <= 128 and not mixed.size
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = target + (plane * view.rows + top) * line + start
            fill(flat, view, frame, size, plane, top, left, height + size.reach, nothing)
            for y in range(height):
                result, here = row(pixels, first_pixel + y * line, stop - start), y * size.stride
                above, k = here - size.stride, enter.size
                if narrow and (y == 0 or not k):
                    add_divided(result, total, flat, here, taps, 0, n, bump, factor, shift)
                    continue
                if narrow:
                    swap_divided(result, total, flat, above, enter, leave, 0, k, bump, factor, shift)
                    continue
                if simple and y == 0:
                    wide[:] = 0
                    for some in range(0, n, 128):
                        more = min(n, some + 128)
                        add_carried(result, wide, flat, here, taps, some, more, share32, offset)
                    continue
                if simple:
                    swap_carried(result, wide, flat, above, enter, leave, 0, k, share32, offset)
                    continue
                if mixed.size and n <= 256:
                    if y == 0 or not k:
                        add_kept(total, flat, here, taps, 0, n)
                    else:
                        swap_kept(total, flat, above, enter, leave, 0, k)
                    groups = weights.size
                    mix_kept(result, total, flat, here, around, ring.starts, weights, 0, groups, core.weight)
                    continue
                if y == 0 or not k:
                    _start(total, signed, wide, flat, here, taps)
                else:
                    _step(total, signed, wide, flat, above, enter, leave)
                if mixed.size:
                    _scale(mixed, wide, core.weight)
                    add_groups(mixed, flat, here, around, ring.starts, weights, 0, weights.size)
                    finish(result, mixed)
                # A quarter above S keeps ties up and everything else away from the next integer: its distance
                # is at least 1/(4n), more than the float32 error of 5e-5 up to n = 4096 (checked over every
                # sum by a test).
                elif n <= 4096:
                    for x in range(result.size):
                        result[x] = np.uint8(np.int32(np.float32(wide[x]) * share32 + offset))
                else:
                    for x in range(result.size):
                        result[x] = np.uint8((wide[x] + 0.25) * share64 + 0.5)


@part
def _scales(peaks: Array, scales: Array, step: int) -> bool:
    """The factors that take each channel's peak to `MOST`, a row of them; whether one is very large."""
    magnitudes = peaks.view(np.float32)
    extreme = False
    for c in range(step):
        peak = np.float32(0)
        for x in range(c, magnitudes.size, step):
            peak = max(peak, magnitudes[x])
        scales[c] = 0.0 if peak == 0 else MOST / np.float64(peak)
        extreme |= scales[c] > 1e30
    for x in range(step, scales.size):
        scales[x] = scales[x - step]
    return extreme


@part
def _quantise(flat: Array, floats: Array, stride: int, n: int, scratch: Array, scales: Array) -> None:
    """The buffer's floats times the scales as integers, in the same memory."""
    half = scales.dtype.type(0.5)
    for i in range(n):
        source, target = row(floats, i * stride, scales.size), row(flat, i * stride, scales.size)
        for x in range(scales.size):
            scratch[x] = source[x]  # by way of a third row: the compiler cannot see that the two are in step
        for x in range(scales.size):
            target[x] = np.int32(np.floor(scales.dtype.type(scratch[x]) * scales[x] + half))


@part
def _share(target: Array, total: Array, shares: Array) -> None:
    for x in range(target.size):
        target[x] = np.float32(shares.dtype.type(total[x]) * shares[x])


@loop
def fixed_sums(
    source: Array,
    origin: int,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    pixels: Array,
    target: int,
    first: int,
    last: int,
    core_taps: Array,
    core_enter: Array,
    core_leave: Array,
    core_weight: float,
    ring_taps: Array,
    ring_starts: Array,
    ring_weights: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """As `byte_sums` for 32-bit floats: in each tile they become integers, of which the largest is near 2^23.

    So the sums do not drift, whatever the radius and the height, and do not depend on their order; the error
    is about 1e-7 of the largest number in the tile and around it.
    """
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    core = Core(core_taps, core_enter, core_leave, core_weight)
    ring = Ring(ring_taps, ring_starts, ring_weights)
    line = columns * step
    size = size_of(view, frame, 4, 4)
    floats = buffer(size, pixels)
    flat, bits = floats.view(np.int32), memory(floats, view.flat)
    taps = offsets(core.taps, size.stride, step)
    enter, leave = offsets(core.enter, size.stride, step), offsets(core.leave, size.stride, step)
    around = offsets(ring.taps, size.stride, step)
    n = taps.size
    total = np.zeros(size.length, np.int32)
    weights = ring.weights.astype(np.float32)
    wide = np.zeros(size.length if n > 256 else 0, np.float64)  # of integers, exact to 2^53
    mixed = np.zeros(size.length if ring.weights.size else 0, np.float32)
    scratch = np.zeros(size.stride, np.float32)
    peaks = np.zeros(size.stride, np.uint32)
    scales = np.zeros(size.stride, np.float64)
    shares = np.zeros(size.length, np.float64)
    scales32, shares32 = np.zeros(size.stride, np.float32), np.zeros(size.length, np.float32)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = target + (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = is_broken(peaks)
            if broken:
                where, what = take_out(floats, size.stride, n_rows, used)
                peaks[:] = 0
                for i in range(n_rows):
                    again = bits[i * size.stride : i * size.stride + used]
                    copy(again, again, peaks[:used])
            # 64-bit factors where 32 bits would overflow or vanish: images of about 1e-23 and less.
            extreme = _scales(peaks[:used], scales[:used], step)
            for x in range(stop - start):
                shares[x] = 0.0 if scales[x] == 0.0 else (1.0 if mixed.size else core.weight) / scales[x]
            if extreme:
                _quantise(flat, floats, size.stride, n_rows, scratch, scales[:used])
            else:
                scales32[:], shares32[:] = scales, shares
                _quantise(flat, floats, size.stride, n_rows, scratch, scales32[:used])
            k = enter.size
            narrow = k > 0 and not (extreme or wide.size or mixed.size)
            spread = 0 < k <= 128 and wide.size and not mixed.size
            for y in range(height):
                result = row(pixels, first_pixel + y * line, stop - start)
                here, above = y * size.stride, (y - 1) * size.stride
                if y and narrow:
                    swap_shared(result, total, flat, above, enter, leave, 0, k, shares32)
                    continue
                if y and spread:
                    swap_spread(result, wide, flat, above, enter, leave, 0, k, shares)
                    continue
                if spread:
                    wide[:] = 0
                    for begin in range(0, n, 128):
                        add_spread(result, wide, flat, here, taps, begin, min(n, begin + 128), shares)
                    continue
                if y == 0 or not enter.size:
                    _start(total, total, wide, flat, here, taps)
                else:
                    _step(total, total, wide, flat, above, enter, leave)
                if mixed.size:
                    if wide.size:
                        _scale(mixed, wide, core.weight)
                    else:
                        _scale(mixed, total, core.weight)
                    add_groups(mixed, flat, here, around, ring.starts, weights, 0, weights.size)
                    if extreme:
                        _share(result, mixed, shares)
                    else:
                        _share(result, mixed, shares32)
                elif wide.size:
                    _share(result, wide, shares)
                elif extreme:
                    _share(result, total, shares)
                else:
                    _share(result, total, shares32)
            if broken:
                box = (first_pixel, line, height, stop - start)
                put_back(pixels, where, what, core.taps, np.full(n, core.weight), step, box)
                for g in range(ring.weights.size):
                    some = ring.taps[ring.starts[g] : ring.starts[g + 1]]
                    put_back(pixels, where, what, some, np.full(len(some), ring.weights[g]), step, box)
