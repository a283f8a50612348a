"""What comes before the sums on a CUDA device, in Triton: the lists of taps, and images with their border.

Imported only where a CUDA tensor is blurred; `triton_flat.py` and `triton_kernels.py` have the sums,
`triton_backend.py` the host's part. Every program finds out by itself, from what `plan` wrote on the device,
which way its image takes; the others return at once. No atomics: each sum has one order, whatever else is in
the batch.

Images lie in memory as planes of rows of `pitch` elements, a multiple of 16, with their border around them.
"""

import triton
import triton.language as tl

#: What `plan` writes about each kernel. Two are a float's bits: SUM, 128 times the weights' sum and what
#: rounds it, and LARGEST, a weight.
MODE = tl.constexpr(0)
TAPS = tl.constexpr(1)
PAIRS = tl.constexpr(2)
MAGIC = tl.constexpr(3)
SHIFT = tl.constexpr(4)
SUM = tl.constexpr(5)
LARGEST = tl.constexpr(6)
HEAD = tl.constexpr(8)

#: The ways, MODE.
GENERAL = tl.constexpr(0)
FLAT = tl.constexpr(1)
RANK_ONE = tl.constexpr(2)
DENSE = tl.constexpr(3)

# A tie of the true value may come out a little below it; inside the 1e-3 in which both neighbours are right.
_LIFT = tl.constexpr(1.0 / 8192)
# Relative to a weight: what rounding to float32 leaves of rank one.
_RANK = tl.constexpr(5e-7)

# Other parameters are constants, or numbers that change from call to call and make no other version.
_POINTERS = (
    "weights", "heads", "offsets", "values", "profiles", "source", "target", "words", "images", "between",
    "result",
)  # fmt: skip


def launched(function):
    """Compiled once for all sizes, strides and alignments; only types make another version."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    constants = [name for name in names if function.__annotations__.get(name) is tl.constexpr]
    numbers = [name for name in names if name not in (*_POINTERS, *constants)]
    outside = [name for name in names if name in ("source", "result")]  # of the caller, anywhere in memory
    return triton.jit(function, do_not_specialize=numbers, do_not_specialize_on_alignment=outside)


# --- The plan ---


@launched
def plan(
    weights, heads, offsets, values, profiles, kernel_height, kernel_width, pitch16, exact,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a kernel (h, w): how it is summed, and the taps as offsets into a bordered image.

    `offsets` has three lists a kernel: all taps, those that enter a row's sum when that of the row above is
    known, and those that leave it. `exact`: bytes, whose flat sums are counted; their offsets are in bits.
    """
    this = tl.program_id(0).to(tl.int64)
    size = kernel_height * kernel_width
    pitch = pitch16 * 16
    weights += this * size
    offsets += this * size * 3
    values += this * size
    heads += this * HEAD
    profiles += this * (kernel_height + kernel_width)
    lane = tl.arange(0, BLOCK)
    # Read from the end: rotated by 180 degrees, for true convolution.
    last = size - 1

    largest = 0.0
    smallest = float("inf")
    pivot = 0
    count = 0
    total = 0.0
    for start in range(0, size, BLOCK):
        inside = start + lane < size
        value = tl.load(weights + last - start - lane, mask=inside, other=0.0)
        some = value != 0
        count += tl.sum(some.to(tl.int32))
        total += tl.sum(value)
        magnitude = tl.abs(value)
        best = tl.max(magnitude)
        place = start + tl.argmax(magnitude, 0)
        pivot = tl.where(best > largest, place, pivot)
        largest = tl.maximum(largest, best)
        smallest = tl.minimum(smallest, tl.min(tl.where(some, magnitude, float("inf"))))

    peak = tl.load(weights + last - pivot)
    pivot_row = pivot // kernel_width
    pivot_column = pivot % kernel_width
    is_flat = (largest == smallest) & (tl.abs(peak * count - 1) <= 1e-6) & (tl.abs(total - 1) <= 1e-5)

    unit = tl.where(exact != 0, 8, 1)
    counts_all = 0
    counts_in = 0
    counts_out = 0
    wrong = 0
    for start in range(0, size, BLOCK):
        at = start + lane
        inside = at < size
        row = at // kernel_width
        column = at % kernel_width
        value = tl.load(weights + last - at, mask=inside, other=0.0)
        below = tl.load(
            weights + last - at - kernel_width, mask=inside & (row < kernel_height - 1), other=0.0
        )
        above = tl.load(weights + last - at + kernel_width, mask=inside & (row > 0), other=0.0)
        some = value != 0
        offset = (row * pitch + column) * unit

        chosen = some.to(tl.int32)
        place = counts_all + tl.cumsum(chosen, 0) - chosen
        tl.store(offsets + place, offset, mask=some)
        tl.store(values + place, value, mask=some)
        counts_all += tl.sum(chosen)

        enters = some & (below == 0)
        chosen = enters.to(tl.int32)
        place = counts_in + tl.cumsum(chosen, 0) - chosen
        tl.store(offsets + size + place, offset, mask=enters)
        counts_in += tl.sum(chosen)

        leaves = some & (above == 0)
        chosen = leaves.to(tl.int32)
        place = counts_out + tl.cumsum(chosen, 0) - chosen
        tl.store(offsets + 2 * size + place, offset - pitch * unit, mask=leaves)
        counts_out += tl.sum(chosen)

        across = tl.load(weights + last - pivot_row * kernel_width - column, mask=inside, other=0.0)
        down = tl.load(weights + last - row * kernel_width - pivot_column, mask=inside, other=0.0)
        differs = tl.abs(value * peak - across * down) > tl.abs(value * peak) * _RANK
        wrong += tl.sum(differs.to(tl.int32))

    # Two passes write and read an image of float32 between them: worth about eight taps.
    is_rank_one = (wrong == 0) & (kernel_height > 1) & (kernel_width > 1) & (peak == peak)
    is_rank_one = is_rank_one & (count > kernel_height + kernel_width + 8)
    counted = is_flat & (exact != 0)
    # Tensor cores take a row of up to 33 taps for about as long as others take two to four taps.
    is_dense = (exact != 0) & (count > 2 * kernel_height * ((kernel_width + 62) // 32))
    mode = tl.where(is_rank_one, RANK_ONE, tl.where(is_dense, DENSE, GENERAL))
    mode = tl.where(counted, FLAT, mode)
    # As many leave as enter: every run of taps in a column has two ends.
    pairs = tl.where(counts_in + counts_out < count, counts_in, 0)
    tl.store(heads + MODE, mode)
    tl.store(heads + TAPS, count)
    tl.store(heads + PAIRS, pairs)

    # (2 S + n) // (2 n) = (2 S + n) * magic >> (32 + shift), exact for every sum of n bytes.
    divisor = 2 * tl.maximum(count, 1)
    shift = 0
    for bit in range(1, 31):
        shift = tl.where((divisor >> bit) > 0, bit, shift)
    shift = tl.where((1 << shift) == divisor, shift - 1, shift)
    power = tl.full((), 1, tl.int64) << (32 + shift)
    magic = (power + divisor - 1) // divisor
    tl.store(heads + MAGIC, magic.to(tl.int32))
    tl.store(heads + SHIFT, shift)
    tl.store(heads + LARGEST, largest.to(tl.int32, bitcast=True))
    tl.store(heads + SUM, (total * 128 + 0.5 + _LIFT).to(tl.int32, bitcast=True))

    if mode == RANK_ONE:
        for start in range(0, kernel_height, BLOCK):
            at = start + lane
            inside = at < kernel_height
            value = tl.load(weights + last - at * kernel_width - pivot_column, mask=inside, other=0.0)
            tl.store(profiles + at, value, mask=inside)
        for start in range(0, kernel_width, BLOCK):
            at = start + lane
            inside = at < kernel_width
            value = tl.load(weights + last - pivot_row * kernel_width - at, mask=inside, other=0.0)
            tl.store(profiles + kernel_height + at, value / peak, mask=inside)


# --- The border ---


@triton.jit
def _wrapped(position, period):
    rest = position % period  # of a negative number: negative on a device, positive in the interpreter
    return tl.where(rest < 0, rest + period, rest)


@triton.jit
def _source_index(position, size, border):
    """Where a position of the bordered image lies; -1 stands for zero. The borders as in triton_backend."""
    inside = (position >= 0) & (position < size)
    period = tl.maximum(1, 2 * size - 2)
    folded = _wrapped(position, period)
    found = tl.where(folded < size, folded, period - folded)
    both = _wrapped(position, 2 * size)
    found = tl.where(border == 1, tl.where(both < size, both, 2 * size - both - 1), found)
    found = tl.where(border == 2, tl.minimum(tl.maximum(position, 0), size - 1), found)
    found = tl.where(border == 3, _wrapped(position, size), found)
    return tl.where((border == 4) & (inside == 0), -1, found)


@launched
def copy_with_border(
    source, target, height, width, left, top, first, channels, rows, pitch16, strips, tiles,
    batch_stride: tl.int64, channel_stride: tl.int64, row_stride: tl.int64, column_stride: tl.int64,
    border, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Images of any strides into rows of `pitch` elements, from bordered row `first` on."""
    program = tl.program_id(0)
    tile = program % tiles
    strip = program // tiles % strips
    plane = (program // tiles // strips).to(tl.int64)
    pitch = pitch16 * 16
    column = tile * BLOCK + tl.arange(0, BLOCK)
    inside = column < pitch
    index = _source_index(column - left, width, border)
    source += plane // channels * batch_stride + plane % channels * channel_stride
    pointers = source + index * column_stride
    target += plane * rows * pitch
    for row in range(strip * ROWS, tl.minimum(strip * ROWS + ROWS, rows)):
        line = first + row - top
        if (line < 0) | (line >= height):
            line = _source_index(line, height, border)
        known = inside & (index >= 0) & (line >= 0)
        value = tl.load(pointers + line * row_stride, mask=known, other=0)
        tl.store(target + row * pitch + column, value, mask=inside)
