"""Adding taps to a row with explicit vector instructions: the one place where machine code is spelled out.

A row of a blurred image is a sum of shifted, weighted rows of the image. Left to itself the compiler loads
and stores the sum for every tap (or every few, unrolled by hand); here a block of the sum stays in vector
registers while all taps pass by, in half the time of loops unrolled by hand and a third of plain ones
(benchmarks/vectors.py). What a function emits for one block of `total`, of four registers, reads in Python
(here for `add`) as::

    block = zeros
    for k in range(first, last):
        block += source[base + taps[k] + x : ...]       # four loads, four additions
    total[x : x + 4 * lanes] = block

Blocks of four registers come first, single registers for what is left of the row: `total` must be a whole
number of registers long (`padded`), and `source` readable as far. Elements are widened to the type of `total`
as they are loaded; bytes are summed in 16 bits. Integers wrap around. Where a sum becomes a row of bytes at
once, while it is in registers, the row of bytes is as long as it is, and nothing is written past its end.

`_twins.py` has the same in ordinary loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit, types

from ._twins import (
    plain_add,
    plain_add_divided,
    plain_add_groups,
    plain_row,
    plain_swap,
    plain_swap_carried,
    plain_swap_divided,
    plain_weigh,
    plain_weigh_two,
)

__all__ = [
    "LANE_BYTES",
    "add",
    "add_divided",
    "add_groups",
    "padded",
    "row",
    "swap",
    "swap_carried",
    "swap_divided",
    "weigh",
    "weigh_two",
]

Array = np.ndarray

_REGISTERS = 4  # to a block; with two rows of sums eight are busy, of sixteen or more


_TWINS = (
    plain_row,
    plain_add,
    plain_swap,
    plain_weigh,
    plain_weigh_two,
    plain_add_groups,
    plain_add_divided,
    plain_swap_divided,
    plain_swap_carried,
)


def _functions() -> tuple[Any, ...]:
    """The bytes of a register and the functions, or the plain twins where LLVM cannot be had."""
    if getattr(numba.config, "DISABLE_JIT", False):
        return 64, *_TWINS
    try:
        from llvmlite import binding, ir
        from numba.core import cgutils
        from numba.extending import intrinsic
        from numba.np import arrayobj

        alloca: Any = cgutils.alloca_once
        declared: Any = cgutils.get_or_insert_function
        loop: Any = cgutils.for_range_slice
        populate: Any = arrayobj.populate_array
        features = binding.get_host_cpu_features()
    except (ImportError, AttributeError, RuntimeError):
        return 64, *_TWINS
    lane_bytes = 64 if features.get("avx512bw") else 32 if features.get("avx2") else 16
    word, index = ir.IntType(64), types.int64

    def scalar(dtype: Any) -> Any:
        floats = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
        return floats.get(dtype) or ir.IntType(dtype.bitwidth)

    def place(builder: Any, array: Any, position: Any, kind: Any) -> Any:
        return builder.bitcast(builder.gep(array.data, [position]), kind.as_pointer())

    def load(builder: Any, array: Any, dtype: Any, position: Any, wanted: Any, lanes: int) -> Any:
        """`lanes` elements from a position on, as the type that is wanted."""
        kind = ir.VectorType(scalar(dtype), lanes)
        loaded = builder.load(place(builder, array, position, kind), align=dtype.bitwidth // 8)
        return loaded if dtype == wanted else builder.zext(loaded, ir.VectorType(scalar(wanted), lanes))

    def everywhere(builder: Any, value: Any, lanes: int) -> Any:
        """A vector of one number."""
        kind, zeros = ir.VectorType(value.type, lanes), ir.VectorType(ir.IntType(32), lanes)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(zeros, None))

    def plus_product(builder: Any, kept: Any, factor: Any, value: Any) -> None:
        # "contract": one instruction with one rounding where the processor has it.
        product = builder.fmul(factor, value, flags=("contract",))
        builder.store(builder.fadd(product, builder.load(kept), flags=("contract",)), kept)

    def emit(kind: str, rows: int = 1) -> Callable[..., Any]:
        """The code of a function: rows of sums, then source, base, lists, first and last."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            given = [
                context.make_array(t)(context, builder, a) if isinstance(t, types.Array) else a
                for t, a in zip(signature.args, arguments, strict=True)
            ]
            totals, (source, base, *lists, first, last) = given[:rows], given[rows:]
            dtype, narrow = signature.args[0].dtype, signature.args[rows].dtype
            # What the taps are added up in, before their sum is weighed.
            inner = {types.uint8: types.uint16}.get(narrow, narrow) if kind == "groups" else dtype
            lanes = lane_bytes * 8 // inner.bitwidth

            def entry(position: int, k: Any) -> Any:
                return builder.load(builder.gep(lists[position].data, [k]))

            def taken(position: int, k: Any, x: Any, register: int) -> Any:
                start = builder.add(builder.add(base, entry(position, k)), x)
                return load(builder, source, narrow, builder.add(start, word(register * lanes)), inner, lanes)

            def variables(count: int, of: Any, start: Callable[[int], Any]) -> list[Any]:
                """LLVM keeps them in registers: nobody takes their address."""
                made = [alloca(builder, ir.VectorType(scalar(of), lanes)) for _ in range(count)]
                for number, variable in enumerate(made):
                    builder.store(start(number), variable)
                return made

            def zero(of: Any) -> Any:
                return ir.Constant(ir.VectorType(scalar(of), lanes), None)

            def add_up(sums: list[Any], x: Any, start: Any, stop: Any) -> None:
                with loop(builder, start, stop, word(1), word) as (k, _):
                    for r, kept in enumerate(sums):
                        value = taken(0, k, x, r)
                        if kind == "swap":
                            value = builder.sub(value, taken(1, k, x, r))
                        builder.store(builder.add(value, builder.load(kept)), kept)

            def block(x: Any, registers: int) -> None:
                places = [
                    (total, builder.add(x, word(r * lanes))) for total in totals for r in range(registers)
                ]

                def stored(number: int) -> Any:
                    total, position = places[number]
                    return load(builder, total, dtype, position, dtype, lanes)

                fresh = kind in ("add", "weigh")
                sums = variables(len(places), dtype, lambda number: zero(dtype) if fresh else stored(number))
                if kind in ("add", "swap"):
                    add_up(sums, x, first, last)
                elif kind == "weigh":
                    with loop(builder, first, last, word(1), word) as (k, _):
                        values = [taken(0, k, x, r) for r in range(registers)]
                        for row in range(rows):
                            factor = everywhere(builder, entry(1 + row, k), lanes)
                            for r in range(registers):
                                plus_product(builder, sums[row * registers + r], factor, values[r])
                else:
                    with loop(builder, first, last, word(1), word) as (g, _):
                        parts = variables(registers, inner, lambda _: zero(inner))
                        add_up(parts, x, entry(1, g), entry(1, builder.add(g, word(1))))
                        factor = everywhere(builder, entry(2, g), lanes)
                        to_float = builder.sitofp if inner.signed else builder.uitofp
                        for part, kept in zip(parts, sums, strict=True):
                            value = to_float(builder.load(part), ir.VectorType(scalar(dtype), lanes))
                            plus_product(builder, kept, factor, value)
                for (total, position), kept in zip(places, sums, strict=True):
                    value = builder.load(kept)
                    builder.store(
                        value, place(builder, total, position, value.type), align=dtype.bitwidth // 8
                    )

            length = builder.extract_value(totals[0].shape, 0)
            whole = builder.and_(length, word(-_REGISTERS * lanes))
            for start, stop, registers in ((word(0), whole, _REGISTERS), (whole, length, 1)):
                with loop(builder, start, stop, word(registers * lanes), word) as (x, _):
                    block(x, registers)
            return context.get_dummy_value()

        return codegen

    def emit_bytes(kind: str, ending: str) -> Callable[..., Any]:
        """The same where the sums end as bytes: before the totals the row of bytes, numbers at the end."""
        lanes = lane_bytes // 2
        byte, short, long, real = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()

        def vector(of: Any) -> Any:
            return ir.VectorType(of, lanes)

        def upper_half(builder: Any, first: Any, second: Any) -> Any:
            """The upper 16 bits of products of 16-bit numbers: one instruction, which LLVM does not find."""
            name = {64: "llvm.x86.avx512.pmulhu.w.512", 32: "llvm.x86.avx2.pmulhu.w"}.get(lane_bytes)
            if name is not None:
                kind = ir.FunctionType(vector(short), [vector(short), vector(short)])
                function = declared(builder.module, kind, name)
                return builder.call(function, [first, second])
            product = builder.mul(builder.zext(first, vector(long)), builder.zext(second, vector(long)))
            return builder.trunc(builder.lshr(product, everywhere(builder, long(16), lanes)), vector(short))

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            given = [
                context.make_array(t)(context, builder, a) if isinstance(t, types.Array) else a
                for t, a in zip(signature.args, arguments, strict=True)
            ]
            end = 2 if ending == "carried" else 3
            target, total, source, base, *lists, first, last = given[:-end]
            numbers = [
                everywhere(builder, value if ending == "carried" else builder.trunc(value, short), lanes)
                for value in given[-end:]
            ]
            total_lane = vector(long if ending == "carried" else short)
            spare = alloca(builder, vector(byte))

            def taken(position: int, k: Any, x: Any) -> Any:
                tap = builder.load(builder.gep(lists[position].data, [k]))
                start = builder.add(builder.add(base, tap), x)
                return load(builder, source, types.uint8, start, types.uint16, lanes)

            def as_bytes(sums: Any) -> Any:
                if ending == "carried":
                    share, offset = numbers
                    real_sums = builder.sitofp(sums, vector(real))
                    product = builder.fmul(real_sums, share, flags=("contract",))
                    sums = builder.fptosi(builder.fadd(product, offset, flags=("contract",)), vector(long))
                else:
                    bump, factor, shift = numbers
                    sums = builder.lshr(upper_half(builder, builder.add(sums, bump), factor), shift)
                return builder.trunc(sums, vector(byte))

            def block(x: Any, registers: int, partly: bool) -> None:
                starts = [builder.add(x, word(r * lanes)) for r in range(registers)]
                sums = [alloca(builder, vector(short)) for _ in starts]
                for start, kept in zip(starts, sums, strict=True):
                    fresh = kind == "add" or ending == "carried"
                    begin = ir.Constant(vector(short), None)
                    if not fresh:
                        begin = builder.load(place(builder, total, start, total_lane), align=2)
                    builder.store(begin, kept)
                with loop(builder, first, last, word(1), word) as (k, _):
                    for start, kept in zip(starts, sums, strict=True):
                        value = taken(0, k, start)
                        if kind == "swap":
                            value = builder.sub(value, taken(1, k, start))
                        builder.store(builder.add(value, builder.load(kept)), kept)
                for start, kept in zip(starts, sums, strict=True):
                    value, where = builder.load(kept), place(builder, total, start, total_lane)
                    align = total_lane.element.width // 8
                    if ending == "carried":
                        value = builder.add(builder.sext(value, total_lane), builder.load(where, align=align))
                    builder.store(value, where, align=align)
                    if not partly:
                        builder.store(as_bytes(value), place(builder, target, start, vector(byte)), align=1)
                        continue
                    builder.store(as_bytes(value), spare)
                    first_spare = builder.bitcast(spare, byte.as_pointer())
                    with loop(builder, word(0), builder.sub(used, start), word(1), word) as (i, _):
                        one = builder.load(builder.gep(first_spare, [i]))
                        builder.store(one, builder.gep(target.data, [builder.add(start, i)]))

            used = builder.extract_value(target.shape, 0)
            length = builder.extract_value(total.shape, 0)
            blocks = builder.and_(used, word(-_REGISTERS * lanes))
            singles = builder.and_(used, word(-lanes))
            for start, stop, registers, partly in (
                (word(0), blocks, _REGISTERS, False),
                (blocks, singles, 1, False),
                (singles, length, 1, True),
            ):
                with loop(builder, start, stop, word(registers * lanes), word) as (x, _):
                    block(x, registers, partly)
            return context.get_dummy_value()

        return codegen

    def part(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        made = context.make_array(signature.return_type)(context, builder)
        itemsize = context.get_constant(types.intp, signature.args[0].dtype.bitwidth // 8)
        populate(
            made,
            data=builder.gep(array.data, [arguments[1]]),
            shape=[arguments[2]],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,  # nobody counts references: the whole outlives its part
        )
        return made._getvalue()

    @intrinsic
    def row(typing: Any, flat: Any, start: Any, length: Any) -> Any:
        return types.Array(flat.dtype, 1, "C")(flat, index, index), part

    @intrinsic
    def add(typing: Any, total: Any, source: Any, base: Any, taps: Any, first: Any, last: Any) -> Any:
        return types.void(total, source, index, taps, index, index), emit("add")

    @intrinsic
    def swap(
        typing: Any, total: Any, source: Any, base: Any, enter: Any, leave: Any, first: Any, last: Any
    ) -> Any:
        return types.void(total, source, index, enter, leave, index, index), emit("swap")

    @intrinsic
    def weigh(
        typing: Any, total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any
    ) -> Any:
        return types.void(total, source, index, taps, weights, index, index), emit("weigh")

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
        return signature, emit("weigh", rows=2)

    @intrinsic
    def add_groups(
        typing: Any,
        total: Any,
        source: Any,
        base: Any,
        taps: Any,
        starts: Any,
        weights: Any,
        first: Any,
        last: Any,
    ) -> Any:
        signature = types.void(total, source, index, taps, starts, weights, index, index)
        return signature, emit("groups")

    @intrinsic
    def add_divided(
        typing: Any,
        target: Any,
        total: Any,
        source: Any,
        base: Any,
        taps: Any,
        first: Any,
        last: Any,
        bump: Any,
        factor: Any,
        shift: Any,
    ) -> Any:
        signature = types.void(target, total, source, index, taps, index, index, index, index, index)
        return signature, emit_bytes("add", "divided")

    @intrinsic
    def swap_divided(
        typing: Any,
        target: Any,
        total: Any,
        source: Any,
        base: Any,
        enter: Any,
        leave: Any,
        first: Any,
        last: Any,
        bump: Any,
        factor: Any,
        shift: Any,
    ) -> Any:
        signature = types.void(target, total, source, index, enter, leave, index, index, index, index, index)
        return signature, emit_bytes("swap", "divided")

    @intrinsic
    def swap_carried(
        typing: Any,
        target: Any,
        wide: Any,
        source: Any,
        base: Any,
        enter: Any,
        leave: Any,
        first: Any,
        last: Any,
        share: Any,
        offset: Any,
    ) -> Any:
        real = types.float32
        signature = types.void(target, wide, source, index, enter, leave, index, index, real, real)
        return signature, emit_bytes("swap", "carried")

    return (
        lane_bytes,
        row,
        add,
        swap,
        weigh,
        weigh_two,
        add_groups,
        add_divided,
        swap_divided,
        swap_carried,
    )


#: Bytes of a vector register.
LANE_BYTES, *_made = _functions()
row, add, swap, weigh, weigh_two, add_groups, add_divided, swap_divided, swap_carried = _made


@njit(nogil=True)
def padded(length: int, itemsize: int) -> int:
    """The length of a row of sums: up to whole registers."""
    lanes: int = LANE_BYTES // itemsize
    return (length + lanes - 1) // lanes * lanes
