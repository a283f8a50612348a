"""A box along the rows, as boxes of boxes: sums of 8 neighbours, of four such sums, of four of those.

A box of n pixels is made of the largest ones that fit in, side by side: for 201 pixels 8 + 4 + 4 additions
and 4 to join them, where one tap after another would take 201. Integers are exact that way, and floats lose
less than in another order: no number goes through more than 8 + 7 log4(n / 8) of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ._compile import loop
from ._tiles import STRIP, Frame, View, buffer, fill, memory, size_of
from ._vectors import add, padded, row, weigh

Array = np.ndarray


# A box of so many pixels is summed as it lies, larger ones of four boxes of the size before; of which the
# largest, of 128 bytes, is what 16 bits can hold.
FIRST, LEVELS = 8, 3


def join(total: Array, source: Array, base: int, taps: Array, weights: Array, first: int, last: int) -> None:
    """Sum up some of the taps: integers as they are, floats by their weights."""
    if total.dtype.kind == "u":
        add(total, source, base, taps, first, last)
    else:
        weigh(total, source, base, taps, weights, first, last)


@overload(join, jit_options={"nogil": True, "forceinline": True})
def _join_typed(total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any) -> Any:
    if isinstance(total.dtype, types.Integer):

        def joined(total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any) -> Any:
            add(total, source, base, taps, first, last)
    else:

        def joined(total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any) -> Any:
            weigh(total, source, base, taps, weights, first, last)

    return joined


def end(target: Array, sums: Array, n: int) -> None:
    """The row of the result: bytes are a sum's share, rounded half up as (2 S + n) // (2 n) is."""
    target[:] = sums if target.dtype != np.uint8 else (2 * sums.astype(np.int64) + n) // (2 * n)


@overload(end, jit_options={"nogil": True, "forceinline": True})
def _end_typed(target: Any, sums: Any, n: Any) -> Any:
    if target.dtype != types.uint8:

        def ended(target: Any, sums: Any, n: Any) -> Any:
            for x in range(target.size):
                target[x] = sums[x]
    else:

        def ended(target: Any, sums: Any, n: Any) -> Any:
            # As in `byte_sums`, where it says why this is exact.
            if n <= 4096:
                share32, offset = np.float32(1.0 / n), np.float32(0.25 / n + 0.5)
                for x in range(target.size):
                    target[x] = np.uint8(np.int32(np.float32(np.int32(sums[x])) * share32 + offset))
            else:
                share64 = 1.0 / n
                for x in range(target.size):
                    target[x] = np.uint8((sums[x] + 0.25) * share64 + 0.5)

    return ended


@loop
def box_sums(
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
    offset: int,
    n: int,
    weight: float,
    boxes: Array,
    total: Array,
    row_map: Array,
    column_map: Array,
) -> None:
    """The mean of n pixels of a row, beginning `offset` pixels into the kernel.

    The dtypes of `boxes` and `total`, which are empty, are those of the sums of up to 128 pixels and of all.
    Writes strips `first` to `last` - 1, counted over all planes, of an image that begins at `pixels[target]`.
    A NaN or an infinity reaches the pixels whose box it lies in and no other.
    """
    view, frame = View(source, origin, starts, stride, rows, columns, step), Frame(row_map, column_map)
    line = columns * step
    size = size_of(view, frame, pixels.itemsize, total.itemsize)
    flat = buffer(size, pixels)
    bits, peaks = memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    # Row 0: what is left over of n; then boxes of 8, 32, 128; and one more, that registers may read.
    apart = padded(size.stride, boxes.itemsize)
    levels = 0
    while levels < LEVELS and FIRST << (2 * levels) <= n:
        levels += 1
    sums, whole = np.zeros((levels + 2) * apart, boxes.dtype), np.zeros(size.length, total.dtype)
    # Taps: eight pixels side by side; at each level four boxes; the boxes that make up the whole.
    taps = np.empty(FIRST + 4 * levels + n // FIRST + 1, np.int64)
    taps[:FIRST] = np.arange(FIRST) * step
    place, count = n * step, FIRST + 4 * levels
    for level in range(levels, 0, -1):
        box = (FIRST << (2 * level - 2)) * step
        for k in range(4):
            taps[FIRST + 4 * level + k - 4] = k * box
        while place >= box:
            place -= box
            taps[count] = level * apart + place
            count += 1
    over = place // step
    if over:
        taps[count] = 0
        count += 1
    weights = np.ones(count, boxes.dtype)
    weights_of_sums = np.ones(count, whole.dtype)
    for k in range(FIRST):
        weights[k] = boxes.dtype.type(weight)  # at once: a sum of floats might overflow
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = target + (plane * view.rows + top) * line + start
            used = fill(bits, view, frame, size, plane, top, left, height, peaks)
            for y in range(height):
                here = y * size.stride + offset * step
                if over:
                    join(
                        row(sums, 0, padded(stop - start, boxes.itemsize)), flat, here, taps, weights, 0, over
                    )
                for level in range(1, levels + 1):
                    left_over = used - offset * step - ((FIRST << (2 * level - 2)) - 1) * step
                    these = row(sums, level * apart, padded(left_over, boxes.itemsize))
                    if level == 1:
                        join(these, flat, here, taps, weights, 0, FIRST)
                    else:
                        k = FIRST + 4 * (level - 2)
                        join(these, sums, (level - 1) * apart, taps, weights, k, k + 4)
                join(whole, sums, 0, taps, weights_of_sums, FIRST + 4 * levels, count)
                end(row(pixels, first_pixel + y * line, stop - start), whole, n)
