"""Weighted sums in floating point: any kernel, kernels of rank one, and such as change little between rows.

Each loop writes strips `first` to `last` - 1, counted over all planes, of an image that begins at
`pixels[target]`: planes, rows, columns * step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import loop
from ._endings import weigh_into, weigh_two_into
from ._tiles import (
    STRIP,
    Frame,
    View,
    buffer,
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
from ._vectors import LANE_BYTES, row, weigh, weigh_two

Array = np.ndarray

# Taps that are added up before they join the sum of the others: rounding errors of 32-bit floats grow with
# it. The rows and columns of Gaussians up to sigma 8 are one.
CHUNK = 66


class Pairs(NamedTuple):
    """Taps under either of two neighbouring rows of the output, with their weights for each of the two."""

    taps: Array
    weights: Array
    weights_below: Array


@part
def _weigh_all(total: Array, part: Array, source: Array, base: int, taps: Array, weights: Array) -> None:
    """The weighted sum of all taps at one row, in chunks."""
    weigh(total, source, base, taps, weights, 0, min(taps.size, CHUNK))
    for first in range(CHUNK, taps.size, CHUNK):
        weigh(part, source, base, taps, weights, first, min(taps.size, first + CHUNK))
        for x in range(total.size):
            total[x] += part[x]


@part
def _weigh_both(sums: Array, parts: Array, source: Array, base: int, taps: Array, pairs: Pairs) -> None:
    """The weighted sums of all taps at two neighbouring rows, in chunks; as long as a row of `parts`."""
    length = parts.shape[1]
    upper, lower, first_part, second_part = sums[0, :length], sums[1, :length], parts[0], parts[1]
    one, two = pairs.weights, pairs.weights_below
    weigh_two(upper, lower, source, base, taps, one, two, 0, min(taps.size, CHUNK))
    for first in range(CHUNK, taps.size, CHUNK):
        last = min(taps.size, first + CHUNK)
        weigh_two(first_part, second_part, source, base, taps, one, two, first, last)
        for x in range(length):
            upper[x] += first_part[x]
            lower[x] += second_part[x]


@loop
def weighted_sums(
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
    pair_taps: Array,
    weights: Array,
    weights_below: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """Any kernel, tap by tap, for two rows at a time; the dtype of the weights is the arithmetic's."""
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    pairs = Pairs(pair_taps, weights, weights_below)
    line = columns * step
    size = size_of(view, frame, pairs.weights.itemsize, pairs.weights.itemsize)
    flat = buffer(size, pairs.weights)
    taps = offsets(pairs.taps, size.stride, step)
    sums, parts = np.zeros((2, size.length), flat.dtype), np.zeros((2, size.length), flat.dtype)
    nowhere = np.zeros(size.length, pixels.dtype)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
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
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                if taps.size <= CHUNK:
                    upper = row(pixels, first_pixel + y * line, stop - start)
                    lower = row(pixels, first_pixel + (y + 1) * line, stop - start)
                    if y + 1 == height:
                        lower = row(nowhere, 0, stop - start)
                    weigh_two_into(
                        upper,
                        lower,
                        flat,
                        y * size.stride,
                        taps,
                        pairs.weights,
                        pairs.weights_below,
                        0,
                        taps.size,
                    )
                    continue
                _weigh_both(sums, parts, flat, y * size.stride, taps, pairs)
                for i in range(min(2, height - y)):
                    finish(row(pixels, first_pixel + (y + i) * line, stop - start), sums[i])
            if broken:
                box = (first_pixel, line, height, stop - start)
                put_back(pixels, where, what, pairs.taps, pairs.weights, step, box)


@loop
def running_sums(
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
    taps: Array,
    weights: Array,
    change: Array,
    change_weights: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """A kernel that changes at few taps from row to row, in 64-bit floats."""
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    line = columns * step
    size = size_of(view, frame, 8, 8)
    flat = buffer(size, weights)
    every, moved = offsets(taps, size.stride, step), offsets(change, size.stride, step)
    total, part, change_of_row = np.zeros(size.length), np.zeros(size.length), np.zeros(size.length)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
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
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(height):
                if y == 0:
                    _weigh_all(total, part, flat, 0, every, weights)
                else:
                    weigh(change_of_row, flat, (y - 1) * size.stride, moved, change_weights, 0, moved.size)
                    for x in range(total.size):
                        total[x] += change_of_row[x]
                finish(row(pixels, first_pixel + y * line, stop - start), total)
            if broken:
                put_back(pixels, where, what, taps, weights, step, (first_pixel, line, height, stop - start))


@loop
def separable_sums(
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
    column: Array,
    profile: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """A kernel that is a column times a row: down first, for two rows at a time, then along.

    `column` and `profile` are the two, column and row, as they lie over the image; their dtype is the
    arithmetic's.
    """
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    line = columns * step
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
            first_pixel = target + (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = is_broken(peaks)
            if broken:
                where, what = take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                _weigh_both(middle, parts, flat, y * size.stride, down, pairs)
                for i in range(min(2, height - y)):
                    result = row(pixels, first_pixel + (y + i) * line, stop - start)
                    if along.size <= CHUNK:
                        weigh_into(result, middle[i], 0, along, profile, 0, along.size)
                        continue
                    _weigh_all(total, part, middle[i], 0, along, profile)
                    finish(result, total)
            if broken:
                box = (first_pixel, line, height, stop - start)
                for i in range(column.size):
                    taps = np.empty((profile.size, 2), np.int64)
                    taps[:, 0], taps[:, 1] = i, np.arange(profile.size)
                    put_back(pixels, where, what, taps, column[i] * profile, step, box)
