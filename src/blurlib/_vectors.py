"""Adding taps to a row with explicit vector instructions, which are spelled out here and in `_endings.py`.

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
as they are loaded; bytes are summed in 16 bits. Integers wrap around.

`_twins.py` has the same in ordinary loops, for where LLVM's builder is not as we know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from . import _llvm
from ._llvm import LANE_BYTES, alloca, everywhere, index, loop, place, plus_product, vector, word
from ._twins import plain_add, plain_add_groups, plain_row, plain_swap, plain_weigh, plain_weigh_two

__all__ = ["LANE_BYTES", "REGISTERS", "add", "add_groups", "padded", "row", "swap", "weigh", "weigh_two"]

Array = np.ndarray

REGISTERS = 4  # to a block; with two rows of sums eight are busy, of sixteen or more


def _emit(kind: str, rows: int = 1) -> Callable[..., Any]:
    """The code of a function: rows of sums, then source, base, lists, first and last."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _llvm.arrays(context, builder, signature, arguments)
        totals, (source, base, *lists, first, last) = given[:rows], given[rows:]
        dtype, narrow = signature.args[0].dtype, signature.args[rows].dtype
        # What the taps are added up in, before their sum is weighed.
        inner = {types.uint8: types.uint16}.get(narrow, narrow) if kind == "groups" else dtype
        lanes = LANE_BYTES * 8 // inner.bitwidth

        def entry(position: int, k: Any) -> Any:
            return builder.load(builder.gep(lists[position].data, [k]))

        def taken(position: int, k: Any, x: Any, register: int) -> Any:
            start = builder.add(x, word(register * lanes))
            return _llvm.taken(builder, source, narrow, base, lists[position], k, start, inner, lanes)

        def variables(count: int, of: Any, start: Callable[[int], Any]) -> list[Any]:
            """LLVM keeps them in registers: nobody takes their address."""
            made = [alloca(builder, vector(of, lanes)) for _ in range(count)]
            for number, variable in enumerate(made):
                builder.store(start(number), variable)
            return made

        def add_up(sums: list[Any], x: Any, start: Any, stop: Any) -> None:
            with loop(builder, start, stop, word(1), word) as (k, _):
                for r, kept in enumerate(sums):
                    value = taken(0, k, x, r)
                    if kind == "swap":
                        value = builder.sub(value, taken(1, k, x, r))
                    builder.store(builder.add(value, builder.load(kept)), kept)

        def weigh(kept: Any, factor: Any, value: Any) -> None:
            builder.store(plus_product(builder, builder.load(kept), factor, value), kept)

        def block(x: Any, registers: int) -> None:
            places = [(total, builder.add(x, word(r * lanes))) for total in totals for r in range(registers)]

            def stored(number: int) -> Any:
                total, position = places[number]
                return _llvm.load(builder, total, dtype, position, dtype, lanes)

            zero, fresh = _llvm.zero(dtype, lanes), kind in ("add", "weigh")
            sums = variables(len(places), dtype, lambda number: zero if fresh else stored(number))
            if kind in ("add", "swap"):
                add_up(sums, x, first, last)
            elif kind == "weigh":
                with loop(builder, first, last, word(1), word) as (k, _):
                    values = [taken(0, k, x, r) for r in range(registers)]
                    for row in range(rows):
                        factor = everywhere(builder, entry(1 + row, k), lanes)
                        for r in range(registers):
                            weigh(sums[row * registers + r], factor, values[r])
            else:
                with loop(builder, first, last, word(1), word) as (g, _):
                    parts = variables(registers, inner, lambda _: _llvm.zero(inner, lanes))
                    add_up(parts, x, entry(1, g), entry(1, builder.add(g, word(1))))
                    factor = everywhere(builder, entry(2, g), lanes)
                    to_float = builder.sitofp if inner.signed else builder.uitofp
                    for part, kept in zip(parts, sums, strict=True):
                        weigh(kept, factor, to_float(builder.load(part), vector(dtype, lanes)))
            for (total, position), kept in zip(places, sums, strict=True):
                value = builder.load(kept)
                builder.store(value, place(builder, total, position, value.type), align=dtype.bitwidth // 8)

        length = builder.extract_value(totals[0].shape, 0)
        whole = builder.and_(length, word(-REGISTERS * lanes))
        for start, stop, registers in ((word(0), whole, REGISTERS), (whole, length, 1)):
            with loop(builder, start, stop, word(registers * lanes), word) as (x, _):
                block(x, registers)
        return context.get_dummy_value()

    return codegen


def _part(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    made = context.make_array(signature.return_type)(context, builder)
    itemsize = context.get_constant(types.intp, signature.args[0].dtype.bitwidth // 8)
    _llvm.populate(
        made,
        data=builder.gep(array.data, [arguments[1]]),
        shape=[arguments[2]],
        strides=[itemsize],
        itemsize=itemsize,
        meminfo=None,  # nobody counts references: the whole outlives its part
    )
    return made._getvalue()


@intrinsic
def _row(typing: Any, flat: Any, start: Any, length: Any) -> Any:
    return types.Array(flat.dtype, 1, "C")(flat, index, index), _part


@intrinsic
def _add(typing: Any, total: Any, source: Any, base: Any, taps: Any, first: Any, last: Any) -> Any:
    return types.void(total, source, index, taps, index, index), _emit("add")


@intrinsic
def _swap(
    typing: Any, total: Any, source: Any, base: Any, enter: Any, leave: Any, first: Any, last: Any
) -> Any:
    return types.void(total, source, index, enter, leave, index, index), _emit("swap")


@intrinsic
def _weigh(
    typing: Any, total: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any
) -> Any:
    return types.void(total, source, index, taps, weights, index, index), _emit("weigh")


@intrinsic
def _weigh_two(
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
    return signature, _emit("weigh", rows=2)


@intrinsic
def _add_groups(
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
    return signature, _emit("groups")


_there = _llvm.AVAILABLE
row: Any = _row if _there else plain_row
add: Any = _add if _there else plain_add
swap: Any = _swap if _there else plain_swap
weigh: Any = _weigh if _there else plain_weigh
weigh_two: Any = _weigh_two if _there else plain_weigh_two
add_groups: Any = _add_groups if _there else plain_add_groups


@njit(nogil=True)
def padded(length: int, itemsize: int) -> int:
    """The length of a row of sums: up to whole registers."""
    lanes: int = LANE_BYTES // itemsize
    return (length + lanes - 1) // lanes * lanes
