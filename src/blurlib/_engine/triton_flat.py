"""Bytes under equal weights, counted on a CUDA device in Triton; and what all sums of bytes there share.

Imported only where a CUDA tensor is blurred; what they read is described in `triton_plan.py`.

Four neighbours are summed as one word, in two accumulators: `even`, of its bytes 0 and 2 in 16 bits each, and
`above`, of the word without byte 0. From the second the sums of bytes 1 and 3 follow when that of byte 2 is
taken away, which costs a mask less for each tap.
"""

import triton
import triton.language as tl

from .triton_plan import FLAT, HEAD, MAGIC, MODE, PAIRS, SHIFT, TAPS, launched

# 16 bits hold the sum of this many bytes, and `above` the sum of this many words; or a difference of two sums
# of this many bytes each.
_PACKED = tl.constexpr(256)
_PAIRED = tl.constexpr(64)


@triton.jit
def whereabouts(tiles, strips, channels, start, planes_each):
    """This program's tile, strip of rows, plane and image in the chunk, and its kernel."""
    program = tl.program_id(0)
    plane = (program // tiles // strips).to(tl.int64)
    image = plane // channels
    return program % tiles, program // tiles % strips, plane, image, (image + start) // planes_each


@triton.jit
def four_bytes(words, bits):
    """Four bytes from an offset on, wherever that is: of two whole words what is needed."""
    low = tl.load(words + (bits >> 5)).to(tl.uint32, bitcast=True)
    high = tl.load(words + (bits >> 5) + 1).to(tl.uint32, bitcast=True)
    both = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    return (both >> (bits & 31).to(tl.uint64)).to(tl.uint32)


@triton.jit
def _apart(even, above):
    """The sums of the four bytes."""
    odd = above - ((even >> 16) << 8)
    return (
        (even & 0xFFFF).to(tl.int32),
        (odd & 0xFFFF).to(tl.int32),
        (even >> 16).to(tl.int32),
        (odd >> 16).to(tl.int32),
    )


@triton.jit
def _count(words, offsets, taps):
    """Sums of bytes: of the four bytes of each word apart, in 16 bits as long as these hold them."""
    first = tl.zeros(words.shape, tl.int32)
    second, third, fourth = first, first, first
    for start in range(0, taps, _PACKED):
        even = tl.zeros(words.shape, tl.uint32)
        above = even
        stop = tl.minimum(start + _PACKED, taps)
        whole = start + (stop - start) // 4 * 4
        for tap in range(start, whole, 4):
            for more in tl.static_range(4):
                word = four_bytes(words, tl.load(offsets + tap + more))
                even += word & 0x00FF00FF
                above += word >> 8
        for tap in range(whole, stop):
            word = four_bytes(words, tl.load(offsets + tap))
            even += word & 0x00FF00FF
            above += word >> 8
        s0, s1, s2, s3 = _apart(even, above)
        first, second, third, fourth = first + s0, second + s1, third + s2, fourth + s3
    return first, second, third, fourth


@triton.jit
def _step(words, enter, leave, even, more_above, less_above):
    """What one tap adds to a row's sums and another takes away."""
    more = four_bytes(words, enter)
    less = four_bytes(words, leave)
    even += (more & 0x00FF00FF) - (less & 0x00FF00FF)
    return even, more_above + (more >> 8), less_above + (less >> 8)


@triton.jit
def _steps(words, below, enters, leaves, upper, lower):
    """The same for two rows, for which the lists are read once."""
    enter, leave = tl.load(enters), tl.load(leaves)
    upper = _step(words, enter, leave, upper[0], upper[1], upper[2])
    lower = _step(below, enter, leave, lower[0], lower[1], lower[2])
    return upper, lower


@triton.jit
def _more(sums, even, more_above, less_above):
    """Sums, and differences that 0x4000 has kept positive in their 16 bits."""
    first, second, third, fourth = _apart(even, more_above - less_above)
    return (
        sums[0] + first - 0x4000,
        sums[1] + second - 0x4000,
        sums[2] + third - 0x4000,
        sums[3] + fourth - 0x4000,
    )


@triton.jit
def _changed(words, below, enters, leaves, pairs, sums):
    """The sums of two rows, from those of the row above them."""
    none = tl.zeros(words.shape, tl.int32)
    changes = none, none, none, none
    for start in range(0, pairs, _PAIRED):
        even = tl.full(words.shape, 0x40004000, tl.uint32)
        above = tl.full(words.shape, 0x40404000, tl.uint32)  # of which _apart takes a byte higher 0x4000
        upper = even, above, tl.zeros(words.shape, tl.uint32)
        lower = upper
        stop = tl.minimum(start + _PAIRED, pairs)
        whole = start + (stop - start) // 2 * 2
        for tap in range(start, whole, 2):
            upper, lower = _steps(words, below, enters + tap, leaves + tap, upper, lower)
            upper, lower = _steps(words, below, enters + tap + 1, leaves + tap + 1, upper, lower)
        if whole < stop:
            upper, lower = _steps(words, below, enters + whole, leaves + whole, upper, lower)
        sums = _more(sums, upper[0], upper[1], upper[2])
        changes = _more(changes, lower[0], lower[1], lower[2])
    both = sums[0] + changes[0], sums[1] + changes[1], sums[2] + changes[2], sums[3] + changes[3]
    return sums, both


@triton.jit
def store_bytes(result, column, stride, width, known, packed, first, second, third, fourth):
    """Four neighbours as one word, where the result's rows begin at words."""
    if packed:
        word = first | (second << 8) | (third << 16) | (fourth << 24)
        tl.store(result.to(tl.pointer_type(tl.int32)) + column // 4, word, mask=known & (column < width))
    else:
        target = result + column * stride
        tl.store(target, first.to(tl.uint8), mask=known & (column < width))
        tl.store(target + stride, second.to(tl.uint8), mask=known & (column + 1 < width))
        tl.store(target + 2 * stride, third.to(tl.uint8), mask=known & (column + 2 < width))
        tl.store(target + 3 * stride, fourth.to(tl.uint8), mask=known & (column + 3 < width))


@triton.jit
def _divided(total, taps, magic, shift):
    return (tl.umulhi((2 * total + taps).to(tl.uint32), magic) >> shift.to(tl.uint32)).to(tl.int32)


@triton.jit
def _store_row(result, lane, stride, width, known, packed, division, sums):
    """Sums of a row, divided by the number of taps: by multiplier and shift."""
    taps, magic, shift = division
    q0, q1 = _divided(sums[0], taps, magic, shift), _divided(sums[1], taps, magic, shift)
    q2, q3 = _divided(sums[2], taps, magic, shift), _divided(sums[3], taps, magic, shift)
    store_bytes(result, lane * 4, stride, width, known, packed, q0, q1, q2, q3)


@launched
def flat(
    words, result, heads, offsets, size, height, width, channels, rows, pitch16, planes_each, strips, tiles,
    batch_stride: tl.int64, channel_stride: tl.int64, row_stride: tl.int64, column_stride: tl.int64, start,
    packed, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Each row's sums are those of the row above, and what enters and leaves; two rows at a time."""
    tile, strip, plane, image, which = whereabouts(tiles, strips, channels, start, planes_each)
    heads += which * HEAD
    if tl.load(heads + MODE) == FLAT:
        taps = tl.load(heads + TAPS)
        pairs = tl.load(heads + PAIRS)
        division = taps, tl.load(heads + MAGIC).to(tl.uint32, bitcast=True), tl.load(heads + SHIFT)
        offsets += which * size * 3
        enters, leaves = offsets + size, offsets + 2 * size
        lane = tile * WORDS + tl.arange(0, WORDS)
        known = lane >= 0
        pitch4 = pitch16 * 4
        under = words + plane * rows * pitch4 + lane
        result += image * batch_stride + plane % channels * channel_stride
        top = strip * ROWS
        bottom = tl.minimum(top + ROWS, height)
        sums = _count(under + top * pitch4, offsets, taps)
        _store_row(result + top * row_stride, lane, column_stride, width, known, packed, division, sums)
        if pairs > 0:
            for row in range(top + 1, bottom, 2):
                here = under + row * pitch4
                is_two = row + 1 < bottom
                below = here + tl.where(is_two, pitch4, 0)
                upper, sums = _changed(here, below, enters, leaves, pairs, sums)
                target = result + row * row_stride
                _store_row(target, lane, column_stride, width, known, packed, division, upper)
                target += row_stride
                _store_row(target, lane, column_stride, width, known & is_two, packed, division, sums)
        else:
            for row in range(top + 1, bottom):
                sums = _count(under + row * pitch4, offsets, taps)
                target = result + row * row_stride
                _store_row(target, lane, column_stride, width, known, packed, division, sums)
