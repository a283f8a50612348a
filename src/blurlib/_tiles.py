"""Tiles of an image for the numba loops: copied into a buffer with their border, without NaN and infinity.

All loops are serial and release the GIL. `parallel=True` is not used on purpose: an OpenMP region in the
parent process kills forked DataLoader workers, and numba's `workqueue` layer aborts when two threads call it.

An image is a number of planes of rows. A plane of interleaved channels (HWC) is one whose pixels are `step`
apart, so HWC and CHW memory take the same loops. Work goes by *tiles* of at most 64 rows and 1024 columns of
the output: the tile and what lies around it are copied into a small buffer, the border filled in, and taps
become offsets into that buffer. Running sums start afresh in each tile, which bounds their drift and the
reach of one huge value. A NaN or an infinity is taken out before and put back afterwards, where the kernel
carries it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from ._compile import loop
from ._vectors import LANE_BYTES, padded, row

Array = np.ndarray

# A part of a loop: compiled into every loop that calls it, since calls that hand over arrays are slow.
part = njit(nogil=True, forceinline=True)

# Rows and columns of a tile: part of what the sums of floats are, so the same for all layouts and threads.
STRIP = 64
TILE = 1024


# What belongs together among the arguments of the loops. They take the fields one by one, since to hand a
# tuple to compiled code costs more than to blur a row.


class View(NamedTuple):
    """Planes in memory: `flat[origin + starts[p] + y * stride + x * step + channel]`, x below `columns`."""

    flat: Array
    origin: int
    starts: Array
    stride: int
    rows: int
    columns: int
    step: int


class Frame(NamedTuple):
    """The source row and column of each row and column of the bordered image; -1 for zeros."""

    row_map: Array
    column_map: Array


class Size(NamedTuple):
    """Tiles of a view: how many, how large, and the length of the buffer's and the sums' rows."""

    strips: int
    tiles: int
    height: int
    width: int
    reach: int
    stride: int
    length: int


# --- Tiles ---


@part
def size_of(view: View, frame: Frame, itemsize: int, total_itemsize: int) -> Size:
    strips, tiles = (view.rows + STRIP - 1) // STRIP, (view.columns + TILE - 1) // TILE
    width = (view.columns + tiles - 1) // tiles
    reach, around = frame.row_map.size - view.rows, frame.column_map.size - view.columns
    stride = padded((width + around) * view.step, itemsize)
    length = padded(width * view.step, total_itemsize)
    return Size(strips, tiles, min(STRIP, view.rows), width, reach, stride, length)


@part
def buffer(size: Size, like: Array) -> Array:
    """Rows for a tile, one more for the second row of the last pair, and what registers read past the end."""
    rows, spare = size.height + size.reach + 1, LANE_BYTES // like.itemsize
    whole = np.empty((rows + 1) * size.stride + 2 * spare, like.dtype)
    start = -(whole.ctypes.data // like.itemsize) % spare  # rows begin on registers
    flat = whole[start : start + rows * size.stride + size.stride]
    flat[(rows - 1) * size.stride :] = 0
    return flat


@part
def fill(
    bits: Array, view: View, frame: Frame, size: Size, plane: int, top: int, left: int, n: int, peaks: Array
) -> int:
    """Copy n rows of the bordered image, from row `top` and column `left`; returns the elements of a row.

    The bits of floats are copied as integers, and the largest magnitude of each column noted in `peaks`.
    """
    step, before = view.step, (frame.column_map.size - view.columns) // 2
    wide = min(size.width + 2 * before, frame.column_map.size - left) * step
    inner, outer = max(0, before - left) * step, min(wide, (view.columns + before - left) * step)
    shift = (left - before) * step
    edge = _edge(frame, left, inner, outer, wide, step)
    peaks[:] = 0
    for i in range(n):
        y = frame.row_map[top + i]
        target = row(bits, i * size.stride, wide)
        if y < 0:
            target[:] = 0
            continue
        at = view.origin + view.starts[plane] + y * view.stride
        source, inside = row(view.flat, at, view.columns * step), outer - inner
        copy(row(target, inner, inside), row(source, shift + inner, inside), row(peaks, inner, inside))
        if edge.size and frame.column_map[0] < 0:
            for x in range(inner):
                target[x] = 0
            for x in range(outer, wide):
                target[x] = 0
        else:
            for x in range(inner):
                target[x] = source[edge[x]]
            for x in range(outer, wide):
                target[x] = source[edge[x - outer + inner]]
    return wide


@part
def _edge(frame: Frame, left: int, inner: int, outer: int, wide: int, step: int) -> Array:
    """Where in the source the elements come from that lie left and right of the image."""
    edge = np.empty(inner + wide - outer, np.uint64)  # unsigned: numba would look for negative indices
    for k in range(edge.size):
        x = k if k < inner else k - inner + outer
        edge[k] = max(0, frame.column_map[left + x // step]) * step + x % step
    return edge


def copy(target: Array, source: Array, peaks: Array) -> None:
    """Copy a row: the bits of floats, noting the largest magnitudes, and bytes as numbers.

    This and the next functions choose by dtype, which compiled code does in the overloads below them.
    """
    target[:] = source
    if source.dtype != np.uint8:
        np.maximum(peaks, source & source.dtype.type(np.iinfo(source.dtype).max // 2), out=peaks)


@overload(copy, jit_options={"nogil": True, "forceinline": True})
def _copy_typed(target: Any, source: Any, peaks: Any) -> Any:
    if source.dtype == types.uint8:

        def copied(target: Any, source: Any, peaks: Any) -> Any:
            for x in range(target.size):
                target[x] = source[x]
    else:
        magnitude = as_dtype(source.dtype).type(2 ** (source.dtype.bitwidth - 1) - 1)

        def copied(target: Any, source: Any, peaks: Any) -> Any:
            for x in range(target.size):
                bits = source[x]
                target[x] = bits
                peaks[x] = max(peaks[x], bits & magnitude)

    return copied


def memory(flat: Array, pixels: Array) -> Array:
    """The buffer as `fill` takes it: floats from bytes as they are, floats from floats as their bits."""
    return flat.view(flat.dtype if pixels.dtype == np.uint8 else pixels.dtype)


@overload(memory, jit_options={"nogil": True, "forceinline": True})
def _memory_typed(flat: Any, pixels: Any) -> Any:
    dtype = as_dtype(flat.dtype if pixels.dtype == types.uint8 else pixels.dtype)

    def viewed(flat: Any, pixels: Any) -> Any:
        return flat.view(dtype)

    return viewed


def is_broken(peaks: Array) -> bool:
    """Whether the bits of the largest magnitudes tell of a NaN or an infinity; never for bytes."""
    infinity = _INFINITY.get(peaks.itemsize * 8)
    return infinity is not None and bool((peaks >= infinity).any())


# By the number of bits of a float.
_INFINITY = {32: 0x7F800000, 64: 0x7FF0000000000000}


@overload(is_broken, jit_options={"nogil": True, "forceinline": True})
def _is_broken_typed(peaks: Any) -> Any:
    infinity = _INFINITY.get(peaks.dtype.bitwidth)
    if infinity is None:

        def never(peaks: Any) -> Any:
            return False

        return never
    limit = as_dtype(peaks.dtype).type(infinity)

    def found(peaks: Any) -> Any:
        largest = limit - limit
        for x in range(peaks.size):
            largest = max(largest, peaks[x])
        return largest >= limit

    return found


@part
def offsets(taps: Array, stride: int, step: int) -> Array:
    """Taps (row, column) as offsets into a flat buffer."""
    flat = np.empty(taps.shape[0], np.int64)
    for k in range(flat.size):
        flat[k] = taps[k, 0] * stride + taps[k, 1] * step
    return flat


def finish(target: Array, total: Array) -> None:
    """Write a row of sums: bytes are rounded half up and clipped, floats stored (see the overload below)."""
    for x in range(target.size):
        target[x] = total[x] if target.dtype != np.uint8 else np.uint8(min(max(total[x] + 0.5, 0), 255))


@overload(finish, jit_options={"nogil": True, "forceinline": True})
def _finish_typed(target: Any, total: Any) -> Any:
    if target.dtype == types.uint8:
        half, zero, full = as_dtype(total.dtype).type(0.5), np.int32(0), np.int32(255)

        def finished(target: Any, total: Any) -> Any:
            for x in range(target.size):
                # Clipped as an integer, which takes half the time. (No NaN or infinity comes from bytes.)
                target[x] = np.uint8(min(max(np.int32(total[x] + half), zero), full))
    else:

        def finished(target: Any, total: Any) -> Any:
            for x in range(target.size):
                target[x] = total[x]

    return finished


# --- NaN and infinity ---


@loop
def take_out(flat: Array, stride: int, n: int, wide: int) -> tuple[Array, Array]:
    """Put zeros for what is not finite; returns where it was, (row, element) each, and what it was."""
    count = 0
    for i in range(n):
        for x in range(wide):
            count += not np.isfinite(flat[i * stride + x])
    where, what = np.empty((count, 2), np.int64), np.empty(count, flat.dtype)
    count = 0
    for i in range(n):
        for x in range(wide):
            value = flat[i * stride + x]
            if not np.isfinite(value):
                where[count, 0], where[count, 1] = i, x
                what[count] = value
                flat[i * stride + x] = 0
                count += 1
    return where, what


@loop
def put_back(
    out: Array, where: Array, what: Array, taps: Array, weights: Array, step: int, box: tuple[int, ...]
) -> None:
    """Add what was taken out to the sums that it belongs to.

    `box`: where in `out` the tile begins, the distance of its rows, their number and length.
    """
    first, line, height, length = box
    for k in range(taps.shape[0]):
        if weights[k] != 0:
            for m in range(what.size):
                y, x = where[m, 0] - taps[k, 0], where[m, 1] - taps[k, 1] * step
                if 0 <= y < height and 0 <= x < length:
                    target = row(out, first + y * line, length)
                    target[x] += what[m] * weights[k]
