"""The numba loops: the bits of an image in, rows of pixels out, nothing of torch.

Each loop writes strips `first` to `last` - 1 of `out` (planes, rows, columns * step), counted over all
planes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import loop
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
from ._vectors import LANE_BYTES, add, row, swap, weigh, weigh_two

Array = np.ndarray

# Taps that are added up before they join the sum of the others: rounding errors of 32-bit floats grow with
# it.
CHUNK = 64

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


class Pairs(NamedTuple):
    """Taps under either of two neighbouring rows of the output, with their weights for each of the two."""

    taps: Array
    weights: Array
    weights_below: Array


@loop
def copies(
    source: Array,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
    first: int,
    last: int,
    row_map: Array,
    column_map: Array,
) -> None:
    """No blur: the image itself, in the memory of the result."""
    view = View(source, starts, stride, rows, columns, step)
    strips = (view.rows + STRIP - 1) // STRIP
    for unit in range(first, last):
        plane, top = unit // strips, unit % strips * STRIP
        for y in range(top, min(top + STRIP, view.rows)):
            at = view.starts[plane] + y * view.stride
            source, target = row(view.flat, at, out.shape[2]), out[plane, y]
            for x in range(target.size):
                target[x] = source[x]


# --- Sums of integers ---
#
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
    total[:] = 0
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
def _add_groups(mixed: Array, group: Array, flat: Array, base: int, taps: Array, ring: Ring) -> None:
    """Add the sums of the ring's groups, weighted."""
    for g in range(ring.weights.size):
        group[:] = 0
        add(group, flat, base, taps, ring.starts[g], ring.starts[g + 1])
        factor = mixed.dtype.type(ring.weights[g])
        for x in range(group.size):
            mixed[x] += mixed.dtype.type(group[x]) * factor


@loop
def byte_sums(
    source: Array,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
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

    Writes strips first to last - 1 of `out` (planes, rows, columns * step), counted over all planes. A flat
    kernel's sum S over n taps is divided exactly, (2 S + n) // (2 n); with a ring S is multiplied by the
    core's weight.
    """
    view, frame = View(source, starts, stride, rows, columns, step), Frame(row_map, column_map)
    core = Core(core_taps, core_enter, core_leave, core_weight)
    ring = Ring(ring_taps, ring_starts, ring_weights)
    line = columns * step
    pixels = out.reshape(-1)
    size = size_of(view, frame, 1, 2)
    flat = buffer(size, out)
    taps = offsets(core.taps, size.stride, step)
    enter, leave = offsets(core.enter, size.stride, step), offsets(core.leave, size.stride, step)
    around = offsets(ring.taps, size.stride, step)
    n = taps.size
    nothing = np.zeros(size.stride, np.uint8)
    total = np.zeros(size.length, np.uint16)
    signed = total.view(np.int16)
    group = np.zeros(size.length, np.uint16)
    wide = np.zeros(size.length if n > 256 else 0, np.int32)
    mixed = np.zeros(size.length if ring.weights.size else 0, np.float32)
    share32, share64 = np.float32(1.0 / n), 1.0 / n
    offset = np.float32(0.25 / n + 0.5)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            fill(flat, view, frame, size, plane, top, left, height + size.reach, nothing)
            for y in range(height):
                if y == 0 or not enter.size:
                    _start(total, signed, wide, flat, y * size.stride, taps)
                else:
                    _step(total, signed, wide, flat, (y - 1) * size.stride, enter, leave)
                target = row(pixels, first_pixel + y * line, stop - start)
                if mixed.size:
                    if wide.size:
                        _scale(mixed, wide, core.weight)
                    else:
                        _scale(mixed, total, core.weight)
                    _add_groups(mixed, group, flat, y * size.stride, around, ring)
                    finish(target, mixed)
                # A quarter above S keeps ties up and everything else away from the next integer: its distance
                # is at least 1/(4n), more than the float32 error of 5e-5 up to n = 4096 (checked over every
                # sum by a test).
                elif not wide.size:
                    for x in range(target.size):
                        target[x] = np.uint8(np.int32(np.float32(total[x]) * share32 + offset))
                elif n <= 4096:
                    for x in range(target.size):
                        target[x] = np.uint8(np.int32(np.float32(wide[x]) * share32 + offset))
                else:
                    for x in range(target.size):
                        target[x] = np.uint8((wide[x] + 0.25) * share64 + 0.5)


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
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
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
    view, frame = View(source, starts, stride, rows, columns, step), Frame(row_map, column_map)
    core = Core(core_taps, core_enter, core_leave, core_weight)
    ring = Ring(ring_taps, ring_starts, ring_weights)
    line = columns * step
    pixels = out.reshape(-1)
    size = size_of(view, frame, 4, 4)
    floats = buffer(size, out)
    flat, bits = floats.view(np.int32), memory(floats, view.flat)
    taps = offsets(core.taps, size.stride, step)
    enter, leave = offsets(core.enter, size.stride, step), offsets(core.leave, size.stride, step)
    around = offsets(ring.taps, size.stride, step)
    n = taps.size
    total = np.zeros(size.length, np.int32)
    group = np.zeros(size.length, np.int32)
    wide = np.zeros(size.length if n > 256 else 0, np.int64)
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
            first_pixel = (plane * view.rows + top) * line + start
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
            for y in range(height):
                if y == 0 or not enter.size:
                    _start(total, total, wide, flat, y * size.stride, taps)
                else:
                    _step(total, total, wide, flat, (y - 1) * size.stride, enter, leave)
                target = row(pixels, first_pixel + y * line, stop - start)
                if mixed.size:
                    if wide.size:
                        _scale(mixed, wide, core.weight)
                    else:
                        _scale(mixed, total, core.weight)
                    _add_groups(mixed, group, flat, y * size.stride, around, ring)
                    if extreme:
                        _share(target, mixed, shares)
                    else:
                        _share(target, mixed, shares32)
                elif wide.size:
                    _share(target, wide, shares)
                elif extreme:
                    _share(target, total, shares)
                else:
                    _share(target, total, shares32)
            if broken:
                box = (top, height, start, stop - start)
                put_back(out[plane], where, what, core.taps, np.full(n, core.weight), step, box)
                for g in range(ring.weights.size):
                    some = ring.taps[ring.starts[g] : ring.starts[g + 1]]
                    put_back(out[plane], where, what, some, np.full(len(some), ring.weights[g]), step, box)


# --- Weighted sums ---


@part
def _weigh_all(total: Array, part: Array, source: Array, base: int, taps: Array, weights: Array) -> None:
    """The weighted sum of all taps at one row, in chunks."""
    total[:] = 0
    weigh(total, source, base, taps, weights, 0, min(taps.size, CHUNK))
    for first in range(CHUNK, taps.size, CHUNK):
        part[:] = 0
        weigh(part, source, base, taps, weights, first, min(taps.size, first + CHUNK))
        for x in range(total.size):
            total[x] += part[x]


@part
def _weigh_both(sums: Array, parts: Array, source: Array, base: int, taps: Array, pairs: Pairs) -> None:
    """The weighted sums of all taps at two neighbouring rows, in chunks; as long as a row of `parts`."""
    length = parts.shape[1]
    upper, lower, first_part, second_part = sums[0, :length], sums[1, :length], parts[0], parts[1]
    one, two = pairs.weights, pairs.weights_below
    upper[:] = 0
    lower[:] = 0
    weigh_two(upper, lower, source, base, taps, one, two, 0, min(taps.size, CHUNK))
    for first in range(CHUNK, taps.size, CHUNK):
        first_part[:] = 0
        second_part[:] = 0
        last = min(taps.size, first + CHUNK)
        weigh_two(first_part, second_part, source, base, taps, one, two, first, last)
        for x in range(length):
            upper[x] += first_part[x]
            lower[x] += second_part[x]


@loop
def weighted_sums(
    source: Array,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
    first: int,
    last: int,
    pair_taps: Array,
    weights: Array,
    weights_below: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """Any kernel, tap by tap, for two rows at a time; the dtype of the weights is the arithmetic's."""
    view, frame = View(source, starts, stride, rows, columns, step), Frame(row_map, column_map)
    pairs = Pairs(pair_taps, weights, weights_below)
    line = columns * step
    pixels = out.reshape(-1)
    size = size_of(view, frame, pairs.weights.itemsize, pairs.weights.itemsize)
    flat = buffer(size, pairs.weights)
    taps = offsets(pairs.taps, size.stride, step)
    sums, parts = np.zeros((2, size.length), flat.dtype), np.zeros((2, size.length), flat.dtype)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = is_broken(peaks)
            if broken:
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                _weigh_both(sums, parts, flat, y * size.stride, taps, pairs)
                for i in range(min(2, height - y)):
                    finish(row(pixels, first_pixel + (y + i) * line, stop - start), sums[i])
            if broken:
                box = (top, height, start, stop - start)
                put_back(out[plane], where, what, pairs.taps, pairs.weights, step, box)


@loop
def running_sums(
    source: Array,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
    first: int,
    last: int,
    taps: Array,
    weights: Array,
    change: Array,
    change_weights: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """A kernel that changes at few taps from row to row, in 64-bit floats."""
    view, frame = View(source, starts, stride, rows, columns, step), Frame(row_map, column_map)
    line = columns * step
    pixels = out.reshape(-1)
    size = size_of(view, frame, 8, 8)
    flat = buffer(size, weights)
    every, moved = offsets(taps, size.stride, step), offsets(change, size.stride, step)
    total, part = np.zeros(size.length), np.zeros(size.length)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = is_broken(peaks)
            if broken:
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(height):
                if y == 0:
                    _weigh_all(total, part, flat, 0, every, weights)
                else:
                    weigh(total, flat, (y - 1) * size.stride, moved, change_weights, 0, moved.size)
                finish(row(pixels, first_pixel + y * line, stop - start), total)
            if broken:
                put_back(out[plane], where, what, taps, weights, step, (top, height, start, stop - start))


@loop
def separable_sums(
    source: Array,
    starts: Array,
    stride: int,
    rows: int,
    columns: int,
    step: int,
    out: Array,
    first: int,
    last: int,
    column: Array,
    profile: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """A kernel that is a column times a row: down first, for two rows at a time, then along.

    `column` and `profile` are the two, column and row, as they lie over the image; their dtype is the
    arithmetic's.
    """
    view, frame = View(source, starts, stride, rows, columns, step), Frame(row_map, column_map)
    line = columns * step
    pixels = out.reshape(-1)
    size = size_of(view, frame, column.itemsize, column.itemsize)
    flat = buffer(size, column)
    down = np.arange(column.size + 1) * size.stride
    along = np.arange(profile.size) * step
    nothing = np.zeros(1, column.dtype)
    pairs = Pairs(np.empty((0, 2), np.int64), np.append(column, nothing), np.append(nothing, column))
    # Registers read past the end of a row.
    spare = LANE_BYTES // flat.itemsize
    middle, parts = np.zeros((2, size.stride + spare), flat.dtype), np.zeros((2, size.stride), flat.dtype)
    total, part = np.zeros(size.length, flat.dtype), np.zeros(size.length, flat.dtype)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = is_broken(peaks)
            if broken:
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                _weigh_both(middle, parts, flat, y * size.stride, down, pairs)
                for i in range(min(2, height - y)):
                    _weigh_all(total, part, middle[i], 0, along, profile)
                    finish(row(pixels, first_pixel + (y + i) * line, stop - start), total)
            if broken:
                box = (top, height, start, stop - start)
                for i in range(column.size):
                    taps = np.empty((profile.size, 2), np.int64)
                    taps[:, 0], taps[:, 1] = i, np.arange(profile.size)
                    put_back(out[plane], where, what, taps, column[i] * profile, step, box)
