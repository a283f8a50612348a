"""The numba loops: flat memory in, rows of pixels out, nothing of torch.

All loops are serial and release the GIL. `parallel=True` is not used on purpose: an OpenMP region in the
parent process kills forked DataLoader workers, and numba's `workqueue` layer aborts when two threads call it.

An image is a number of planes of rows. A plane of interleaved channels (HWC) is one whose pixels are `step`
apart, so HWC and CHW memory take the same loops. Work goes by *tiles* of at most 64 rows and 1024 columns of
the output: the tile and what lies around it are copied into a small buffer, the border filled in, and taps
become offsets into that buffer. Running sums start afresh in each tile, which bounds their drift and the reach
of one huge value. A NaN or an infinity is taken out before and put back afterwards, where the kernel carries it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from ._compile import loop
from ._vectors import LANE_BYTES, add, padded, row, swap, weigh, weigh_two

Array = np.ndarray

# A part of a loop: compiled into every loop that calls it, since calls that hand over arrays are slow.
part = njit(nogil=True, forceinline=True)

# Rows and columns of a tile: part of what the sums of floats are, so the same for all layouts and threads.
STRIP = 64
TILE = 1024

# Taps that are added up before they join the sum of the others: rounding errors of 32-bit floats grow with it.
CHUNK = 64

# What the largest float of a tile becomes as an integer: 256 of them fit into 32 bits, a rounding up included.
MOST = 2**23 - 4


class View(NamedTuple):
    """Planes in flat memory: `flat[starts[p] + y * stride + x * step + channel]`, x below `columns`."""

    flat: Array
    starts: Array
    stride: int
    rows: int
    columns: int
    step: int


class Frame(NamedTuple):
    """The source row and column of each row and column of the bordered image; -1 for zeros."""

    row_map: Array
    column_map: Array


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
def _size(view: View, frame: Frame, itemsize: int, total_itemsize: int) -> Size:
    strips, tiles = (view.rows + STRIP - 1) // STRIP, (view.columns + TILE - 1) // TILE
    width = (view.columns + tiles - 1) // tiles
    reach, around = frame.row_map.size - view.rows, frame.column_map.size - view.columns
    stride = padded((width + around) * view.step, itemsize)
    length = padded(width * view.step, total_itemsize)
    return Size(strips, tiles, min(STRIP, view.rows), width, reach, stride, length)


@part
def _buffer(size: Size, like: Array) -> Array:
    """Rows for a tile, one more for the second row of the last pair, and what registers read past the end."""
    rows, spare = size.height + size.reach + 1, LANE_BYTES // like.itemsize
    whole = np.empty((rows + 1) * size.stride + 2 * spare, like.dtype)
    start = -(whole.ctypes.data // like.itemsize) % spare  # rows begin on registers
    flat = whole[start : start + rows * size.stride + size.stride]
    flat[(rows - 1) * size.stride :] = 0
    return flat


@part
def _fill(
    memory: Array, view: View, frame: Frame, size: Size, plane: int, top: int, left: int, n: int, peaks: Array
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
        target = row(memory, i * size.stride, wide)
        if y < 0:
            target[:] = 0
            continue
        at = view.starts[plane] + y * view.stride
        source, inside = row(view.flat, at, view.columns * step), outer - inner
        _copy(row(target, inner, inside), row(source, shift + inner, inside), row(peaks, inner, inside))
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


def _copy(target: Array, source: Array, peaks: Array) -> None:
    """Copy a row: the bits of floats, noting the largest magnitudes, and bytes as numbers.

    This and the next functions choose by dtype, which compiled code does in the overloads below them.
    """
    target[:] = source
    if source.dtype != np.uint8:
        np.maximum(peaks, source & source.dtype.type(np.iinfo(source.dtype).max // 2), out=peaks)


@overload(_copy, jit_options={"nogil": True, "forceinline": True})
def _copy_typed(target: Any, source: Any, peaks: Any) -> Any:
    if source.dtype == types.uint8:

        def copy(target: Any, source: Any, peaks: Any) -> Any:
            for x in range(target.size):
                target[x] = source[x]
    else:
        magnitude = as_dtype(source.dtype).type(2 ** (source.dtype.bitwidth - 1) - 1)

        def copy(target: Any, source: Any, peaks: Any) -> Any:
            for x in range(target.size):
                bits = source[x]
                target[x] = bits
                peaks[x] = max(peaks[x], bits & magnitude)

    return copy


def _memory(flat: Array, pixels: Array) -> Array:
    """The buffer as `_fill` takes it: floats from bytes as they are, floats from floats as their bits."""
    return flat.view(flat.dtype if pixels.dtype == np.uint8 else pixels.dtype)


@overload(_memory, jit_options={"nogil": True, "forceinline": True})
def _memory_typed(flat: Any, pixels: Any) -> Any:
    dtype = as_dtype(flat.dtype if pixels.dtype == types.uint8 else pixels.dtype)

    def memory(flat: Any, pixels: Any) -> Any:
        return flat.view(dtype)

    return memory


def _is_broken(peaks: Array) -> bool:
    """Whether the bits of the largest magnitudes tell of a NaN or an infinity; never for bytes."""
    infinity = _INFINITY.get(peaks.itemsize * 8)
    return infinity is not None and bool((peaks >= infinity).any())


# By the number of bits of a float.
_INFINITY = {32: 0x7F800000, 64: 0x7FF0000000000000}


@overload(_is_broken, jit_options={"nogil": True, "forceinline": True})
def _is_broken_typed(peaks: Any) -> Any:
    infinity = _INFINITY.get(peaks.dtype.bitwidth)
    if infinity is None:

        def never(peaks: Any) -> Any:
            return False

        return never
    limit = as_dtype(peaks.dtype).type(infinity)

    def is_broken(peaks: Any) -> Any:
        largest = limit - limit
        for x in range(peaks.size):
            largest = max(largest, peaks[x])
        return largest >= limit

    return is_broken


@part
def _offsets(taps: Array, stride: int, step: int) -> Array:
    """Taps (row, column) as offsets into a flat buffer."""
    flat = np.empty(taps.shape[0], np.int64)
    for k in range(flat.size):
        flat[k] = taps[k, 0] * stride + taps[k, 1] * step
    return flat


def _finish(target: Array, total: Array) -> None:
    """Write a row of sums: bytes are rounded half up and clipped, floats stored (see the overload below)."""
    for x in range(target.size):
        target[x] = total[x] if target.dtype != np.uint8 else np.uint8(min(max(total[x] + 0.5, 0), 255))


@overload(_finish, jit_options={"nogil": True, "forceinline": True})
def _finish_typed(target: Any, total: Any) -> Any:
    if target.dtype == types.uint8:
        half, zero, full = as_dtype(total.dtype).type(0.5), np.int32(0), np.int32(255)

        def finish(target: Any, total: Any) -> Any:
            for x in range(target.size):
                # Clipped as an integer, which takes half the time. (No NaN or infinity comes from bytes.)
                target[x] = np.uint8(min(max(np.int32(total[x] + half), zero), full))
    else:

        def finish(target: Any, total: Any) -> Any:
            for x in range(target.size):
                target[x] = total[x]

    return finish


# --- NaN and infinity ---


@loop
def _take_out(flat: Array, stride: int, n: int, wide: int) -> tuple[Array, Array]:
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
def _put_back(
    out: Array, where: Array, what: Array, taps: Array, weights: Array, step: int, box: tuple[int, ...]
) -> None:
    """Add what was taken out to every sum that it belongs to; `box` is the tile: top, height, start, length."""
    top, height, start, length = box
    for k in range(taps.shape[0]):
        if weights[k] != 0:
            for m in range(what.size):
                y, x = where[m, 0] - taps[k, 0], where[m, 1] - taps[k, 1] * step
                if 0 <= y < height and 0 <= x < length:
                    out[top + y, start + x] += what[m] * weights[k]


@loop
def copies(view: View, out: Array, first: int, last: int, frame: Frame) -> None:
    """No blur: the image itself, in the memory of the result."""
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
# The taps of one weight are added up as integers, without rounding errors: their sum for a row is the sum of the
# row above plus what a step down adds, minus what it drops. Narrow integers do while they can hold all of it;
# for more taps, what they hold of a row, or of its change, is carried into a wide row every 128 taps.


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
def byte_sums(view: View, out: Array, first: int, last: int, core: Core, ring: Ring, frame: Frame) -> None:
    """Bytes under a kernel whose weights are (nearly) all equal: exact sums of the equal part, a ring on top.

    Writes strips first to last - 1 of `out` (planes, rows, columns * step), counted over all planes. A flat
    kernel's sum S over n taps is divided exactly, (2 S + n) // (2 n); with a ring S is multiplied by the core's
    weight.
    """
    step, line = view.step, view.columns * view.step
    pixels = out.reshape(-1)
    size = _size(view, frame, 1, 2)
    flat = _buffer(size, out)
    taps = _offsets(core.taps, size.stride, step)
    enter, leave = _offsets(core.enter, size.stride, step), _offsets(core.leave, size.stride, step)
    around = _offsets(ring.taps, size.stride, step)
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
            _fill(flat, view, frame, size, plane, top, left, height + size.reach, nothing)
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
                    _finish(target, mixed)
                # A quarter above S keeps ties up and everything else away from the next integer: its distance is
                # at least 1/(4n), more than the float32 error of 5e-5 up to n = 4096 (checked over every sum by a
                # test).
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
    """The factor for each element of a row that takes its channel's peak to `MOST`; whether one is very large."""
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
def _quantise(flat: Array, floats: Array, stride: int, n: int, copy: Array, scales: Array) -> None:
    """The buffer's floats times the scales as integers, in the same memory."""
    half = scales.dtype.type(0.5)
    for i in range(n):
        source, target = row(floats, i * stride, scales.size), row(flat, i * stride, scales.size)
        for x in range(scales.size):
            copy[x] = source[x]  # by way of a third row: the compiler cannot see that the two are in step
        for x in range(scales.size):
            target[x] = np.int32(np.floor(scales.dtype.type(copy[x]) * scales[x] + half))


@part
def _share(target: Array, total: Array, shares: Array) -> None:
    for x in range(target.size):
        target[x] = np.float32(shares.dtype.type(total[x]) * shares[x])


@loop
def fixed_sums(view: View, out: Array, first: int, last: int, core: Core, ring: Ring, frame: Frame) -> None:
    """As `byte_sums` for 32-bit floats: in each tile they become integers, of which the largest is near 2^23.

    So the sums do not drift, whatever the radius and the height, and do not depend on their order; the error is
    about 1e-7 of the largest number in the tile and around it.
    """
    step, line = view.step, view.columns * view.step
    pixels = out.reshape(-1)
    size = _size(view, frame, 4, 4)
    floats = _buffer(size, out)
    flat, bits = floats.view(np.int32), _memory(floats, view.flat)
    taps = _offsets(core.taps, size.stride, step)
    enter, leave = _offsets(core.enter, size.stride, step), _offsets(core.leave, size.stride, step)
    around = _offsets(ring.taps, size.stride, step)
    n = taps.size
    total = np.zeros(size.length, np.int32)
    group = np.zeros(size.length, np.int32)
    wide = np.zeros(size.length if n > 256 else 0, np.int64)
    mixed = np.zeros(size.length if ring.weights.size else 0, np.float32)
    copy = np.zeros(size.stride, np.float32)
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
            used = _fill(bits, view, frame, size, plane, top, left, n_rows, peaks)
            broken = _is_broken(peaks)
            if broken:
                where, what = _take_out(floats, size.stride, n_rows, used)
                peaks[:] = 0
                for i in range(n_rows):
                    again = bits[i * size.stride : i * size.stride + used]
                    _copy(again, again, peaks[:used])
            # 64-bit factors where 32 bits would overflow or vanish: images of about 1e-23 and less.
            extreme = _scales(peaks[:used], scales[:used], step)
            for x in range(stop - start):
                shares[x] = 0.0 if scales[x] == 0.0 else (1.0 if mixed.size else core.weight) / scales[x]
            if extreme:
                _quantise(flat, floats, size.stride, n_rows, copy, scales[:used])
            else:
                scales32[:], shares32[:] = scales, shares
                _quantise(flat, floats, size.stride, n_rows, copy, scales32[:used])
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
                _put_back(out[plane], where, what, core.taps, np.full(n, core.weight), step, box)
                for g in range(ring.weights.size):
                    some = ring.taps[ring.starts[g] : ring.starts[g + 1]]
                    _put_back(out[plane], where, what, some, np.full(len(some), ring.weights[g]), step, box)


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
    """The weighted sums of all taps at a row and the one below it, in chunks; as long as the rows of `parts`."""
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
def weighted_sums(view: View, out: Array, first: int, last: int, pairs: Pairs, frame: Frame) -> None:
    """Any kernel, tap by tap, for two rows at a time; the dtype of the weights is the arithmetic's."""
    step, line = view.step, view.columns * view.step
    pixels = out.reshape(-1)
    size = _size(view, frame, pairs.weights.itemsize, pairs.weights.itemsize)
    flat = _buffer(size, pairs.weights)
    taps = _offsets(pairs.taps, size.stride, step)
    sums, parts = np.zeros((2, size.length), flat.dtype), np.zeros((2, size.length), flat.dtype)
    memory, peaks = _memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = _fill(memory, view, frame, size, plane, top, left, n_rows, peaks)
            broken = _is_broken(peaks)
            if broken:
                where, what = _take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                _weigh_both(sums, parts, flat, y * size.stride, taps, pairs)
                for i in range(min(2, height - y)):
                    _finish(row(pixels, first_pixel + (y + i) * line, stop - start), sums[i])
            if broken:
                box = (top, height, start, stop - start)
                _put_back(out[plane], where, what, pairs.taps, pairs.weights, step, box)


@loop
def running_sums(
    view: View,
    out: Array,
    first: int,
    last: int,
    taps: Array,
    weights: Array,
    change: Array,
    change_weights: Array,
    frame: Frame,
) -> None:
    """A kernel that changes at few taps from row to row, in 64-bit floats."""
    step, line = view.step, view.columns * view.step
    pixels = out.reshape(-1)
    size = _size(view, frame, 8, 8)
    flat = _buffer(size, weights)
    every, moved = _offsets(taps, size.stride, step), _offsets(change, size.stride, step)
    total, part = np.zeros(size.length), np.zeros(size.length)
    memory, peaks = _memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = _fill(memory, view, frame, size, plane, top, left, n_rows, peaks)
            broken = _is_broken(peaks)
            if broken:
                where, what = _take_out(flat, size.stride, n_rows, used)
            for y in range(height):
                if y == 0:
                    _weigh_all(total, part, flat, 0, every, weights)
                else:
                    weigh(total, flat, (y - 1) * size.stride, moved, change_weights, 0, moved.size)
                _finish(row(pixels, first_pixel + y * line, stop - start), total)
            if broken:
                _put_back(out[plane], where, what, taps, weights, step, (top, height, start, stop - start))


@loop
def separable_sums(
    view: View, out: Array, first: int, last: int, column: Array, profile: Array, frame: Frame
) -> None:
    """A kernel that is a column times a row: down first, for two rows at a time, then along.

    `column` and `profile` are the two, column and row, as they lie over the image; their dtype is the arithmetic's.
    """
    step, line = view.step, view.columns * view.step
    pixels = out.reshape(-1)
    size = _size(view, frame, column.itemsize, column.itemsize)
    flat = _buffer(size, column)
    down = np.arange(column.size + 1) * size.stride
    along = np.arange(profile.size) * step
    nothing = np.zeros(1, column.dtype)
    pairs = Pairs(np.empty((0, 2), np.int64), np.append(column, nothing), np.append(nothing, column))
    # Registers read past the end of a row.
    spare = LANE_BYTES // flat.itemsize
    middle, parts = np.zeros((2, size.stride + spare), flat.dtype), np.zeros((2, size.stride), flat.dtype)
    total, part = np.zeros(size.length, flat.dtype), np.zeros(size.length, flat.dtype)
    memory, peaks = _memory(flat, view.flat), np.zeros(size.stride, view.flat.dtype)
    for unit in range(first, last):
        plane, top = unit // size.strips, unit % size.strips * STRIP
        height = min(STRIP, view.rows - top)
        for left in range(0, view.columns, size.width):
            start, stop = left * step, min(left + size.width, view.columns) * step
            first_pixel = (plane * view.rows + top) * line + start
            n_rows = height + size.reach
            used = _fill(memory, view, frame, size, plane, top, left, n_rows, peaks)
            broken = _is_broken(peaks)
            if broken:
                where, what = _take_out(flat, size.stride, n_rows, used)
            for y in range(0, height, 2):
                _weigh_both(middle, parts, flat, y * size.stride, down, pairs)
                for i in range(min(2, height - y)):
                    _weigh_all(total, part, middle[i], 0, along, profile)
                    _finish(row(pixels, first_pixel + (y + i) * line, stop - start), total)
            if broken:
                box = (top, height, start, stop - start)
                for i in range(column.size):
                    taps = np.empty((profile.size, 2), np.int64)
                    taps[:, 0], taps[:, 1] = i, np.arange(profile.size)
                    _put_back(out[plane], where, what, taps, column[i] * profile, step, box)
