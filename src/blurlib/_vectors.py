"""Adding taps to a row with explicit vector instructions: the one place where machine code is spelled out.

A row of a blurred image is a sum of shifted, weighted rows of the image. Left to itself the compiler loads
and stores the running sum for every tap (or every few, unrolled by hand); here a block of the sum stays in
vector registers while all taps pass by, which takes 0.4 to 0.6 of the time (benchmarks/). What a function
emits, for `add` and one block of `total`, reads in Python as::

    block = total[x : x + 4 * lanes]                    # four registers
    for k in range(first, last):
        block += source[base + taps[k] + x : ...]       # four loads, four additions
    total[x : x + 4 * lanes] = block

Blocks of four registers come first, single registers for what is left of the row: `total` must be a whole
number of registers long (`padded`), and `source` readable as far. Elements are widened to the type of `total`
as they are loaded. Integers wrap around.

The plain twins at the end do the same in ordinary loops: they take over where LLVM's builder is not as we
know it, or numba's compiler is switched off, and are the second opinion of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit, types

__all__ = ["LANE_BYTES", "add", "padded", "row", "swap", "weigh", "weigh_two"]

Array = np.ndarray

# --- The plain twins ---


@njit(nogil=True)
def plain_row(flat: Array, start: int, length: int) -> Array:
    """A part of a row, without a look at the bounds: what a slice costs is more than a row of 64 pixels."""
    return flat[start : start + length]


@njit(nogil=True)
def plain_add(total: Array, source: Array, base: int, taps: Array, first: int, last: int) -> None:
    """total[x] += source[base + taps[k] + x] for k in first, ..., last - 1."""
    for k in range(first, last):
        row = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += total.dtype.type(row[x])


@njit(nogil=True)
def plain_swap(
    total: Array, source: Array, base: int, enter: Array, leave: Array, first: int, last: int
) -> None:
    """total[x] += source[base + enter[k] + x] - source[base + leave[k] + x]."""
    for k in range(first, last):
        new = source[base + enter[k] : base + enter[k] + total.size]
        old = source[base + leave[k] : base + leave[k] + total.size]
        for x in range(total.size):
            total[x] += total.dtype.type(new[x]) - total.dtype.type(old[x])


@njit(nogil=True)
def plain_weigh(
    total: Array, source: Array, base: int, taps: Array, weights: Array, first: int, last: int
) -> None:
    """total[x] += weights[k] * source[base + taps[k] + x]."""
    for k in range(first, last):
        row = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += weights[k] * row[x]


@njit(nogil=True)
def plain_weigh_two(
    total: Array,
    below: Array,
    source: Array,
    base: int,
    taps: Array,
    weights: Array,
    weights_below: Array,
    first: int,
    last: int,
) -> None:
    """Two rows of sums over the same taps, loaded once: `weights` for one, `weights_below` for the other."""
    for k in range(first, last):
        row = source[base + taps[k] : base + taps[k] + total.size]
        for x in range(total.size):
            total[x] += weights[k] * row[x]
            below[x] += weights_below[k] * row[x]


# --- The vectors ---

_REGISTERS = 4  # to a block; with two rows of sums eight are busy, of sixteen or more


def _functions() -> tuple[int, Any, Any, Any, Any, Any]:
    """The bytes of a register and the five functions, or the plain twins where LLVM cannot be had."""
    if getattr(numba.config, "DISABLE_JIT", False):
        return 64, plain_row, plain_add, plain_swap, plain_weigh, plain_weigh_two
    try:
        from llvmlite import binding, ir
        from numba.core import cgutils
        from numba.extending import intrinsic
        from numba.np import arrayobj

        alloca: Any = cgutils.alloca_once
        populate: Any = arrayobj.populate_array
        features = binding.get_host_cpu_features()
    except (ImportError, AttributeError, RuntimeError):
        return 64, plain_row, plain_add, plain_swap, plain_weigh, plain_weigh_two
    lane_bytes = 64 if features.get("avx512bw") else 32 if features.get("avx2") else 16
    word = ir.IntType(64)

    def scalar(dtype: Any) -> Any:
        floats = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
        return floats.get(dtype) or ir.IntType(dtype.bitwidth)

    def at(builder: Any, pointer: Any, index: Any, kind: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer())

    def load(builder: Any, array: Any, dtype: Any, index: Any, wanted: Any, lanes: int) -> Any:
        """`lanes` elements from `index`, as the type that is wanted."""
        kind = ir.VectorType(scalar(dtype), lanes)
        loaded = builder.load(at(builder, array.data, index, kind), align=dtype.bitwidth // 8)
        return loaded if dtype == wanted else builder.zext(loaded, ir.VectorType(scalar(wanted), lanes))

    def everywhere(builder: Any, value: Any, lanes: int) -> Any:
        kind, zeros = ir.VectorType(value.type, lanes), ir.VectorType(ir.IntType(32), lanes)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(zeros, None))

    def emit(rows: int, kind: str) -> Callable[..., Any]:
        """The code of a function: rows of sums, then source, base, lists of one entry a tap, range."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            given = [
                context.make_array(t)(context, builder, a) if isinstance(t, types.Array) else a
                for t, a in zip(signature.args, arguments, strict=True)
            ]
            totals, (source, base, *lists, first, last) = given[:rows], given[rows:]
            dtype, narrow = signature.args[0].dtype, signature.args[rows].dtype
            size = dtype.bitwidth // 8
            lanes = lane_bytes // size

            def entry(position: int, k: Any) -> Any:
                return builder.load(builder.gep(lists[position].data, [k]))

            def taken(k: Any, position: int, x: Any, register: int) -> Any:
                start = builder.add(builder.add(base, entry(position, k)), x)
                index = builder.add(start, word(register * lanes))
                return load(builder, source, narrow, index, dtype, lanes)

            def block(x: Any, registers: int) -> None:
                places = [
                    (total, r, builder.add(x, word(r * lanes))) for total in totals for r in range(registers)
                ]
                # LLVM keeps these variables in registers: nobody takes their address.
                sums = [alloca(builder, ir.VectorType(scalar(dtype), lanes)) for _ in places]
                for (total, _, index), kept in zip(places, sums, strict=True):
                    builder.store(load(builder, total, dtype, index, dtype, lanes), kept)
                with cgutils.for_range_slice(builder, first, last, word(1), word) as (k, _):
                    rows_in = [taken(k, 0, x, r) for r in range(registers)]
                    if kind == "swap":
                        rows_in = [builder.sub(rows_in[r], taken(k, 1, x, r)) for r in range(registers)]
                    for row in range(rows):
                        if kind == "weigh":
                            factor = everywhere(builder, entry(1 + row, k), lanes)
                        for r in range(registers):
                            kept = sums[row * registers + r]
                            if kind == "weigh":
                                # "contract": one instruction with one rounding where the processor has it.
                                product = builder.fmul(factor, rows_in[r], flags=("contract",))
                                total = builder.fadd(product, builder.load(kept), flags=("contract",))
                            else:
                                total = builder.add(rows_in[r], builder.load(kept))
                            builder.store(total, kept)
                for (total, _, index), kept in zip(places, sums, strict=True):
                    value = builder.load(kept)
                    builder.store(value, at(builder, total.data, index, value.type), align=size)

            length = builder.extract_value(totals[0].shape, 0)
            whole = builder.and_(length, word(-_REGISTERS * lanes))
            for start, stop, registers in ((word(0), whole, _REGISTERS), (whole, length, 1)):
                step = word(registers * lanes)
                with cgutils.for_range_slice(builder, start, stop, step, word) as (x, _):
                    block(x, registers)
            return context.get_dummy_value()

        return codegen

    def place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        part = context.make_array(signature.return_type)(context, builder)
        itemsize = context.get_constant(types.intp, signature.args[0].dtype.bitwidth // 8)
        populate(
            part,
            data=builder.gep(array.data, [arguments[1]]),
            shape=[arguments[2]],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,  # nobody counts references: the whole outlives its part
        )
        return part._getvalue()

    index = types.int64

    @intrinsic
    def row(typing: Any, flat: Any, start: Any, length: Any) -> Any:
        return types.Array(flat.dtype, 1, "C")(flat, index, index), place

    @intrinsic
    def add(typing: Any, total: Any, source: Any, base: Any, taps: Any, first: Any, last: Any) -> Any:
        return types.void(total, source, index, taps, index, index), emit(1, "add")

    @intrinsic
    def swap(
        typing: Any, total: Any, source: Any, base: Any, enter: Any, leave: Any, first: Any, last: Any
    ) -> Any:
        return types.void(total, source, index, enter, leave, index, index), emit(1, "swap")

    @intrinsic
    def weigh(
        typing: Any, total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any
    ) -> Any:
        return types.void(total, source, index, taps, weights, index, index), emit(1, "weigh")

    @intrinsic
    def weigh_two(
        typing: Any,
        total: Any,
        below: Any,
        source: Any,
        base: Any,
        taps: Any,
        weights: Any,
        weights_below: Any,
        first: Any,
        last: Any,
    ) -> Any:
        signature = types.void(total, below, source, index, taps, weights, weights_below, index, index)
        return signature, emit(2, "weigh")

    return lane_bytes, row, add, swap, weigh, weigh_two


#: Bytes of a vector register.
LANE_BYTES, row, add, swap, weigh, weigh_two = _functions()


@njit(nogil=True)
def padded(length: int, itemsize: int) -> int:
    """The length of a row of sums: up to whole registers."""
    lanes: int = LANE_BYTES // itemsize
    return (length + lanes - 1) // lanes * lanes
