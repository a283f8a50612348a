"""The numba loops: NumPy arrays in, NumPy arrays out, nothing of torch.

All loops are serial and release the GIL. `parallel=True` is not used on purpose: an OpenMP region in the
parent process kills forked DataLoader workers, and numba's `workqueue` layer aborts when two threads call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import overload
from numba.np.numpy_support import as_dtype

Array = np.ndarray
Function = TypeVar("Function", bound=Callable[..., Any])


def loop(function: Function) -> Function:
    """Compile to a serial loop without the GIL, kept on disk where a folder for that can be written."""
    try:
        compiled: Any = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba: "no locator available", as in a read-only container without a home
        compiled = njit(nogil=True)(function)
    return cast("Function", compiled)


# --- Convolution ---
#
# An image is (planes, rows, length): a plane of interleaved channels is one long row whose pixels are `step`
# apart, so HWC and CHW memory take the same loops. Work goes by strips of output rows: the strip and the rows
# around it are copied into a small buffer with the border filled in, and taps become plain offsets into that
# buffer. Running sums start afresh in each strip, which bounds their drift and the reach of a NaN.

# Output rows of a strip: part of what the sums of floats are, so one number for all layouts.
STRIP = 64


@loop
def _fill(
    buffer: Array, plane: Array, top: int, row_map: Array, column_map: Array, before: int, step: int
) -> None:
    """Copy rows top, top + 1, ... of the bordered image into the buffer; map entries of -1 are zeros."""
    length = plane.shape[1]
    columns = length // step
    for i in range(buffer.shape[0]):
        y = row_map[top + i]
        target = buffer[i]
        if y < 0:
            target[:] = 0
            continue
        source = plane[y]
        inside = target[before * step : before * step + length]
        for x in range(length):
            inside[x] = source[x]
        for side in range(2):
            for j in range(0 if side == 0 else before + columns, before if side == 0 else column_map.size):
                at = column_map[j]
                for c in range(step):
                    target[j * step + c] = 0 if at < 0 else source[at * step + c]


@loop
def _is_finite(rows: Array, probe: Array) -> bool:
    """Whether every number of the rows is finite; a row of sums, since one sum alone would not vectorise."""
    probe[:] = 0
    nothing = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        row = rows[i]
        for x in range(row.size):
            probe[x] += row[x] * nothing
    broken = 0
    for x in range(probe.size):
        broken += probe[x] != 0  # NaN is not equal to 0 either
    return broken == 0


@loop
def _row(flat: Array, start: int, n: int) -> Array:
    return flat[start : start + n]  # both ends given: numba's open-ended slices cost as much as the sums


@loop
def _add_1(total: Array, flat: Array, a: int, n: int) -> None:
    a0 = flat[a : a + n]
    for x in range(n):
        total[x] = np.uint16(total[x] + np.uint16(a0[x]))


@loop
def _add_8(total: Array, flat: Array, a: Array, k: int, base: int, n: int) -> None:
    # Eight taps a pass: the running total is loaded and stored once for all of them.
    a0, a1 = _row(flat, base + a[k], n), _row(flat, base + a[k + 1], n)
    a2, a3 = _row(flat, base + a[k + 2], n), _row(flat, base + a[k + 3], n)
    a4, a5 = _row(flat, base + a[k + 4], n), _row(flat, base + a[k + 5], n)
    a6, a7 = _row(flat, base + a[k + 6], n), _row(flat, base + a[k + 7], n)
    for x in range(n):
        # Each sum is cast back: numba would widen to 64 bits, and the vectoriser with it.
        s = np.uint16(np.uint16(a0[x]) + np.uint16(a1[x]))
        s = np.uint16(s + np.uint16(a2[x]))
        s = np.uint16(s + np.uint16(a3[x]))
        s = np.uint16(s + np.uint16(a4[x]))
        s = np.uint16(s + np.uint16(a5[x]))
        s = np.uint16(s + np.uint16(a6[x]))
        s = np.uint16(s + np.uint16(a7[x]))
        total[x] = np.uint16(total[x] + s)


@loop
def _swap_1(total: Array, flat: Array, enter: int, leave: int, n: int) -> None:
    a0, b0 = flat[enter : enter + n], flat[leave : leave + n]
    for x in range(n):
        s = np.uint16(np.uint16(a0[x]) - np.uint16(b0[x]))
        total[x] = np.uint16(total[x] + s)


@loop
def _swap_4(total: Array, flat: Array, enter: Array, leave: Array, k: int, base: int, n: int) -> None:
    a0, a1 = _row(flat, base + enter[k], n), _row(flat, base + enter[k + 1], n)
    a2, a3 = _row(flat, base + enter[k + 2], n), _row(flat, base + enter[k + 3], n)
    b0, b1 = _row(flat, base + leave[k], n), _row(flat, base + leave[k + 1], n)
    b2, b3 = _row(flat, base + leave[k + 2], n), _row(flat, base + leave[k + 3], n)
    for x in range(n):
        s = np.uint16(np.uint16(a0[x]) + np.uint16(a1[x]))
        s = np.uint16(s + np.uint16(a2[x]))
        s = np.uint16(s + np.uint16(a3[x]))
        s = np.uint16(s - np.uint16(b0[x]))
        s = np.uint16(s - np.uint16(b1[x]))
        s = np.uint16(s - np.uint16(b2[x]))
        s = np.uint16(s - np.uint16(b3[x]))
        total[x] = np.uint16(total[x] + s)


@loop
def _weigh_1(total: Array, flat: Array, a: int, w: float, n: int) -> None:
    a0 = flat[a : a + n]
    for x in range(n):
        total[x] += w * a0[x]


@loop
def _weigh_8(total: Array, flat: Array, a: Array, w: Array, k: int, base: int, n: int) -> None:
    a0, a1 = _row(flat, base + a[k], n), _row(flat, base + a[k + 1], n)
    a2, a3 = _row(flat, base + a[k + 2], n), _row(flat, base + a[k + 3], n)
    a4, a5 = _row(flat, base + a[k + 4], n), _row(flat, base + a[k + 5], n)
    a6, a7 = _row(flat, base + a[k + 6], n), _row(flat, base + a[k + 7], n)
    w0, w1, w2, w3, w4, w5, w6, w7 = (
        w[k],
        w[k + 1],
        w[k + 2],
        w[k + 3],
        w[k + 4],
        w[k + 5],
        w[k + 6],
        w[k + 7],
    )
    for x in range(n):
        left = (w0 * a0[x] + w1 * a1[x]) + (w2 * a2[x] + w3 * a3[x])
        right = (w4 * a4[x] + w5 * a5[x]) + (w6 * a6[x] + w7 * a7[x])
        total[x] += left + right


@loop
def _weigh(total: Array, flat: Array, a: Array, w: Array, base: int, n: int) -> None:
    """Add every tap, weighted, to the row of totals."""
    whole = a.size - a.size % 8
    for k in range(0, whole, 8):
        _weigh_8(total, flat, a, w, k, base, n)
    for k in range(whole, a.size):
        _weigh_1(total, flat, base + a[k], w[k], n)


def _finish(target: Array, total: Array) -> None:
    """Write a row of sums: bytes are rounded half up and clipped, floats stored (see the overload below)."""
    raise TypeError(f"only compiled code calls this, got {type(target)} and {type(total)}")


@overload(_finish, jit_options={"nogil": True}, inline="never")
def _finish_typed(target: Any, total: Any) -> Any:
    if target.dtype == types.uint8:
        half, low, high = (as_dtype(total.dtype).type(v) for v in (0.5, 0.0, 255.0))

        def finish(target: Any, total: Any) -> Any:
            for x in range(target.size):
                target[x] = np.uint8(min(max(total[x] + half, low), high))
    else:

        def finish(target: Any, total: Any) -> Any:
            for x in range(target.size):
                target[x] = total[x]

    return finish


@loop
def _offsets(taps: Array, stride: int, step: int) -> Array:
    """Taps (row, column) as offsets into a flat buffer."""
    flat = np.empty(taps.shape[0], np.int64)
    for k in range(flat.size):
        flat[k] = taps[k, 0] * stride + taps[k, 1] * step
    return flat


@loop
def integer_sums(
    image: Array,
    out: Array,
    taps: Array,
    enter: Array,
    leave: Array,
    ring: Array,
    ring_weights: Array,
    weight: np.float32,
    row_map: Array,
    column_map: Array,
    before: int,
    step: int,
) -> None:
    """Bytes under a kernel whose weights are (nearly) all equal: exact sums of the equal part, a ring on top.

    `image` and `out` are uint8 (planes, rows, length). `taps` (n, 2) are the positions of the equal weights
    in the window, `enter` and `leave` (m, 2) what a step down adds and drops; with m = 0 every row sums all
    taps. `ring` and `ring_weights` (float32) are the other taps, none for a flat kernel, whose sum S is
    divided exactly, (2 S + n) // (2 n); else S is multiplied by `weight`. `row_map` and `column_map` give the
    source row and column of each row and column of the bordered image, -1 for zeros, with `before` columns of
    border on the left; `step` is the distance between pixels.
    """
    planes, rows, length = image.shape
    n = taps.shape[0]
    reach = row_map.size - rows
    stride = column_map.size * step
    buffer = np.empty((min(STRIP, rows) + reach, stride), np.uint8)
    flat = buffer.reshape(-1)
    a, e = _offsets(taps, stride, step), _offsets(enter, stride, step)
    d, g = _offsets(leave, stride, step), _offsets(ring, stride, step)
    # Sums modulo 2^16 are exact while 255 n < 2^16; above, the same arithmetic gives a row's difference
    # (chunks of at most 128 pairs stay within ±2^15), which is then added to a 32-bit row.
    wide = n > 257
    small = np.zeros(length, np.uint16)
    large = np.zeros(length if wide else 0, np.int32)
    mixed = np.zeros(length if ring_weights.size else 0, np.float32)
    share32, share64 = np.float32(1.0 / n), 1.0 / n
    for p in range(planes):
        for top in range(0, rows, STRIP):
            height = min(STRIP, rows - top)
            _fill(buffer[: height + reach], image[p], top, row_map, column_map, before, step)
            for y in range(height):
                base = y * stride
                if y == 0 or e.size == 0:
                    small[:] = 0
                    large[:] = 0
                    done = 0
                    while done < n:
                        stop = min(n, done + 256) if wide else n
                        whole = done + (stop - done) - (stop - done) % 8
                        for k in range(done, whole, 8):
                            _add_8(small, flat, a, k, base, length)
                        for k in range(whole, stop):
                            _add_1(small, flat, base + a[k], length)
                        if wide:
                            for x in range(length):
                                large[x] += np.int32(small[x])
                            small[:] = 0
                        done = stop
                else:
                    base -= stride
                    done = 0
                    while done < e.size:
                        stop = min(e.size, done + 128) if wide else e.size
                        whole = done + (stop - done) - (stop - done) % 4
                        for k in range(done, whole, 4):
                            _swap_4(small, flat, e, d, k, base, length)
                        for k in range(whole, stop):
                            _swap_1(small, flat, base + e[k], base + d[k], length)
                        if wide:
                            for x in range(length):
                                large[x] += np.int32(np.int16(small[x]))
                            small[:] = 0
                        done = stop
                    base += stride
                target = out[p, top + y]
                if ring_weights.size:
                    if wide:
                        for x in range(length):
                            mixed[x] = np.float32(large[x]) * weight
                    else:
                        for x in range(length):
                            mixed[x] = np.float32(small[x]) * weight
                    _weigh(mixed, flat, g, ring_weights, base, length)
                    _finish(target, mixed)
                elif not wide:
                    # A quarter above S keeps ties up and everything else away from the next integer: its
                    # distance is at least 1/(4n), the float32 error below 4e-5 (checked over every sum by a
                    # test).
                    for x in range(length):
                        target[x] = np.uint8(
                            (np.float32(small[x]) + np.float32(0.25)) * share32 + np.float32(0.5)
                        )
                else:
                    for x in range(length):
                        target[x] = np.uint8((large[x] + 0.25) * share64 + 0.5)


@loop
def weighted_sums(
    image: Array,
    out: Array,
    taps: Array,
    weights: Array,
    change: Array,
    change_weights: Array,
    row_map: Array,
    column_map: Array,
    before: int,
    step: int,
) -> None:
    """Any kernel, tap by tap, or by the change from one row to the next where that has fewer taps.

    `image` and `out` are (planes, rows, length), both uint8 or both float; the dtype of `weights` is the
    arithmetic's. `change` and its weights are the taps of the difference to the row above, none to sum every
    row by itself. The rest as for `integer_sums`.
    """
    planes, rows, length = image.shape
    reach = row_map.size - rows
    stride = column_map.size * step
    buffer = np.empty((min(STRIP, rows) + reach, stride), weights.dtype)
    flat = buffer.reshape(-1)
    a, d = _offsets(taps, stride, step), _offsets(change, stride, step)
    total = np.zeros(length, weights.dtype)
    probe = np.zeros(stride, weights.dtype)
    for p in range(planes):
        for top in range(0, rows, STRIP):
            height = min(STRIP, rows - top)
            _fill(buffer[: height + reach], image[p], top, row_map, column_map, before, step)
            # A running sum would carry a NaN or an infinity down the strip: where there is one, tap by tap.
            running = d.size > 0 and _is_finite(buffer[: height + reach], probe)
            for y in range(height):
                if y == 0 or not running:
                    total[:] = 0
                    _weigh(total, flat, a, weights, y * stride, length)
                else:
                    _weigh(total, flat, d, change_weights, (y - 1) * stride, length)
                _finish(out[p, top + y], total)


@loop
def separable_sums(
    image: Array,
    out: Array,
    column: Array,
    row: Array,
    row_map: Array,
    column_map: Array,
    before: int,
    step: int,
) -> None:
    """A kernel that is a column times a row: down first, then along.

    `column` and `row` are the two profiles as they lie over the image; their dtype is the arithmetic's. The
    rest as for `integer_sums`.
    """
    planes, rows, length = image.shape
    reach = row_map.size - rows
    stride = column_map.size * step
    buffer = np.empty((min(STRIP, rows) + reach, stride), column.dtype)
    flat = buffer.reshape(-1)
    down = np.arange(column.size) * stride
    along = np.arange(row.size) * step
    middle = np.zeros(stride, column.dtype)
    total = np.zeros(length, column.dtype)
    for p in range(planes):
        for top in range(0, rows, STRIP):
            height = min(STRIP, rows - top)
            _fill(buffer[: height + reach], image[p], top, row_map, column_map, before, step)
            for y in range(height):
                middle[:] = 0
                _weigh(middle, flat, down, column, y * stride, stride)
                total[:] = 0
                _weigh(total, middle, along, row, 0, length)
                _finish(out[p, top + y], total)
