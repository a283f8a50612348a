"""Sums of taps on a CUDA device, in Triton: any kernels, dense ones, those of rank one in two passes.

Imported only where a CUDA tensor is blurred; what they read is described in `triton_plan.py`.
"""

import triton
import triton.language as tl

from .triton_flat import four_bytes, store_bytes, whereabouts
from .triton_plan import DENSE, GENERAL, HEAD, LARGEST, MODE, RANK_ONE, SUM, TAPS, launched

# In float32 a sum of this many does not drift (see torch_backend).
_GROUP = tl.constexpr(32)


@triton.jit
def _centred(word, BYTE: tl.constexpr):
    """One byte of a word less 128, as a float: 2^23 + byte is one without a conversion."""
    bits = ((word >> (8 * BYTE)) & 0xFF) | 0x4B000000
    return bits.to(tl.float32, bitcast=True) - 8388736.0


@triton.jit
def _add(pointers, offset, weight, b0, b1, b2, b3, IS_BYTES: tl.constexpr):
    """One tap: four bytes of a word, or a float."""
    if IS_BYTES:
        word = four_bytes(pointers, offset)
        b0 += _centred(word, 0) * weight
        b1 += _centred(word, 1) * weight
        b2 += _centred(word, 2) * weight
        b3 += _centred(word, 3) * weight
    else:
        b0 += tl.load(pointers + offset).to(tl.float32) * weight
    return b0, b1, b2, b3


@triton.jit
def _level(total, rounding):
    """A sum of centred bytes as a level."""
    return tl.minimum(tl.maximum(tl.floor(total + rounding), 0.0), 255.0).to(tl.int32)


@triton.jit
def _narrowed(total, TYPE: tl.constexpr):
    """A sum in the image's type, rounded to nearest even; the interpreter would truncate to bfloat16."""
    if TYPE == tl.bfloat16:
        bits = total.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        total = tl.where(total == total, bits.to(tl.float32, bitcast=True), total)
    return total.to(TYPE)


@launched
def general(
    images, result, heads, offsets, values, size, height, width, channels, rows, pitch16, planes_each, strips,
    tiles, batch_stride: tl.int64, channel_stride: tl.int64, row_stride: tl.int64, column_stride: tl.int64,
    start, packed, IS_BYTES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Any kernel, tap by tap, in groups that do not drift. Of bytes, `images` are words of four."""
    tile, strip, plane, image, which = whereabouts(tiles, strips, channels, start, planes_each)
    heads += which * HEAD
    if tl.load(heads + MODE) == GENERAL:
        taps = tl.load(heads + TAPS)
        offsets += which * size * 3
        values += which * size
        each: tl.constexpr = 4 if IS_BYTES else 1
        pitch = pitch16 * 16
        lane = tile * BLOCK + tl.arange(0, BLOCK)[None, :]
        row = strip * ROWS + tl.arange(0, ROWS)[:, None]
        known = (row < height) & (lane >= 0)
        place = tl.minimum(row, height - 1) * (pitch // each) + lane
        images += plane * rows * (pitch // each)
        pointers = images + place
        a0 = tl.zeros(place.shape, tl.float32)
        a1, a2, a3 = a0, a0, a0
        for group in range(0, taps, _GROUP):
            b0 = tl.zeros(place.shape, tl.float32)
            b1, b2, b3 = b0, b0, b0
            stop = tl.minimum(group + _GROUP, taps)
            whole = group + (stop - group) // 4 * 4
            for tap in range(group, whole, 4):
                for more in tl.static_range(4):
                    at = tl.load(offsets + tap + more)
                    weight = tl.load(values + tap + more)
                    b0, b1, b2, b3 = _add(pointers, at, weight, b0, b1, b2, b3, IS_BYTES)
            for tap in range(whole, stop):
                at = tl.load(offsets + tap)
                weight = tl.load(values + tap)
                b0, b1, b2, b3 = _add(pointers, at, weight, b0, b1, b2, b3, IS_BYTES)
            a0 += b0
            if IS_BYTES:
                a1 += b1
                a2 += b2
                a3 += b3
        target = result + image * batch_stride + plane % channels * channel_stride + row * row_stride
        if IS_BYTES:
            rounding = tl.load(heads + SUM).to(tl.float32, bitcast=True)
            q0, q1 = _level(a0, rounding), _level(a1, rounding)
            q2, q3 = _level(a2, rounding), _level(a3, rounding)
            store_bytes(target, lane * 4, column_stride, width, known, packed, q0, q1, q2, q3)
        else:
            tl.store(
                target + lane * column_stride,
                _narrowed(a0, result.dtype.element_ty),
                mask=known & (lane < width),
            )


@launched
def dense(
    images, result, heads, weights, height, width, channels, rows, pitch16, planes_each, strips, tiles,
    batch_stride: tl.int64, channel_stride: tl.int64, row_stride: tl.int64, column_stride: tl.int64, start,
    kernel_height, kernel_width, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bytes under many different weights, on tensor cores: a kernel's row as a band of a matrix.

    Bytes less 128 are exact in float16; a weight is the sum of two such numbers, after a power of two has
    brought the largest weight to between 1 and 2.
    """
    tile, strip, plane, image, which = whereabouts(tiles, strips, channels, start, planes_each)
    heads += which * HEAD
    if tl.load(heads + MODE) == DENSE:
        size = kernel_height * kernel_width
        weights += which * size + size - 1
        exponent = tl.load(heads + LARGEST) & 0x7F800000
        scale = (0x7F000000 - exponent).to(tl.float32, bitcast=True)
        pitch = pitch16 * 16
        lane = tile * BLOCK + tl.arange(0, BLOCK)[None, :]
        row = strip * ROWS + tl.arange(0, ROWS)[:, None]
        across = tl.arange(0, BLOCK)
        distance = across[:, None] - across[None, :]  # from a pixel of the result to one of the image
        pointers = images + plane * rows * pitch + tl.minimum(row, height - 1) * pitch + lane
        total = tl.zeros((ROWS, BLOCK), tl.float32)
        for line in range(kernel_height):
            for left in range(0, kernel_width + BLOCK - 1, BLOCK):
                levels = tl.load(pointers + line * pitch + left).to(tl.float16) - 128.0
                tap = left + distance
                inside = (tap >= 0) & (tap < kernel_width)
                weight = tl.load(weights - line * kernel_width - tap, mask=inside, other=0.0) * scale
                coarse = weight.to(tl.float16)
                fine = (weight - coarse.to(tl.float32)).to(tl.float16)
                total = tl.dot(levels, coarse, total)
                total = tl.dot(levels, fine, total)
        rounding = tl.load(heads + SUM).to(tl.float32, bitcast=True)
        found = _level(total * exponent.to(tl.float32, bitcast=True), rounding).to(tl.uint8)
        target = result + image * batch_stride + plane % channels * channel_stride + row * row_stride
        tl.store(target + lane * column_stride, found, mask=(row < height) & (lane < width))


@launched
def columns(
    images, between, heads, profiles, height, rows, pitch16, planes_each, channels, strips, tiles, start,
    kernel_height, kernel_width, IS_BYTES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rank one, first pass: down the columns, into float32."""
    tile, strip, plane, _, which = whereabouts(tiles, strips, channels, start, planes_each)
    if tl.load(heads + which * HEAD + MODE) == RANK_ONE:
        profiles += which * (kernel_height + kernel_width)
        each: tl.constexpr = 4 if IS_BYTES else 1
        pitch = pitch16 * 16
        lane = tile * BLOCK + tl.arange(0, BLOCK)[None, :]
        row = strip * ROWS + tl.arange(0, ROWS)[:, None]
        place = tl.minimum(row, height - 1) * (pitch // each) + lane
        pointers = images + plane * rows * (pitch // each) + place
        a0 = tl.zeros(place.shape, tl.float32)
        a1, a2, a3 = a0, a0, a0
        for group in range(0, kernel_height, _GROUP):
            b0 = tl.zeros(place.shape, tl.float32)
            b1, b2, b3 = b0, b0, b0
            for tap in range(group, tl.minimum(group + _GROUP, kernel_height)):
                weight = tl.load(profiles + tap)
                if weight != 0:  # else an infinity would reach where no light goes
                    found = tl.load(pointers + tap * (pitch // each))
                    if IS_BYTES:
                        word = found.to(tl.uint32, bitcast=True)
                        b0 += _centred(word, 0) * weight
                        b1 += _centred(word, 1) * weight
                        b2 += _centred(word, 2) * weight
                        b3 += _centred(word, 3) * weight
                    else:
                        b0 += found.to(tl.float32) * weight
            a0 += b0
            if IS_BYTES:
                a1 += b1
                a2 += b2
                a3 += b3
        known = (row < height) & (lane < pitch // each)
        target = between + plane * height * pitch + row * pitch + lane * each
        tl.store(target, a0, mask=known)
        if IS_BYTES:
            tl.store(target + 1, a1, mask=known)
            tl.store(target + 2, a2, mask=known)
            tl.store(target + 3, a3, mask=known)


@triton.jit
def _shifted(pointers, weight):
    """A tap of a row; nothing by a weight of 0, or an infinity would reach where no light goes."""
    return tl.load(pointers, mask=weight != 0, other=0.0) * weight


@launched
def lines(
    between, result, heads, profiles, height, width, channels, pitch16, planes_each, strips, tiles,
    batch_stride: tl.int64, channel_stride: tl.int64, row_stride: tl.int64, column_stride: tl.int64, start,
    kernel_height, kernel_width, IS_BYTES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rank one, second pass: along the rows, out of float32."""
    tile, strip, plane, image, which = whereabouts(tiles, strips, channels, start, planes_each)
    heads += which * HEAD
    if tl.load(heads + MODE) == RANK_ONE:
        profiles += which * (kernel_height + kernel_width) + kernel_height
        pitch = pitch16 * 16
        lane = tile * BLOCK + tl.arange(0, BLOCK)[None, :]
        row = strip * ROWS + tl.arange(0, ROWS)[:, None]
        known = (row < height) & (lane < width)
        pointers = between + plane * height * pitch + tl.minimum(row, height - 1) * pitch + lane
        total = tl.zeros((ROWS, BLOCK), tl.float32)
        for group in range(0, kernel_width, _GROUP):
            part = tl.zeros((ROWS, BLOCK), tl.float32)
            stop = tl.minimum(group + _GROUP, kernel_width)
            whole = group + (stop - group) // 4 * 4
            for tap in range(group, whole, 4):
                for more in tl.static_range(4):
                    part += _shifted(pointers + tap + more, tl.load(profiles + tap + more))
            for tap in range(whole, stop):
                part += _shifted(pointers + tap, tl.load(profiles + tap))
            total += part
        target = result + image * batch_stride + plane % channels * channel_stride + row * row_stride
        if IS_BYTES:
            found = _level(total, tl.load(heads + SUM).to(tl.float32, bitcast=True)).to(tl.uint8)
        else:
            found = _narrowed(total, result.dtype.element_ty)
        tl.store(target + lane * column_stride, found, mask=known)
