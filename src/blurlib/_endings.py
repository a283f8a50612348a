"""Rows of the result with explicit vector instructions: sums that are finished while in registers.

What a function emits for one register of a row reads in Python (here for `swap_divided`) as::

    block = total[x : x + lanes]
    for k in range(first, last):
        block += source[base + enter[k] + x : ...] - source[base + leave[k] + x : ...]
    total[x : x + lanes] = block
    target[x : x + lanes] = ((block + bump) * factor >> 16) >> shift

Totals and source are a whole number of registers long. A target is as long as it is: of the last register no
more than its elements are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from . import _llvm, _twins
from ._llvm import LANE_BYTES, alloca, constant, everywhere, index, loop, place, plus_product, vector, word
from ._vectors import REGISTERS

__all__ = ["add_divided", "swap_carried", "swap_divided", "swap_shared", "weigh_into", "weigh_two_into"]

Array = np.ndarray

# By the ending: the type of the sums, else that of the source; how many arguments come after first and last.
_SUMS = {"divided": types.uint16, "carried": types.int16, "shared": types.int32}
_NUMBERS = {"divided": 3, "carried": 2, "shared": 1, "rounded": 0}


def _emit(kind: str, ending: str, rows: int = 1) -> Callable[..., Any]:
    """The code of a function: targets, sums unless it weighs, source, base, lists, first, last, numbers."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _llvm.arrays(context, builder, signature, arguments)
        numbers = given[len(given) - _NUMBERS[ending] :]
        targets, others = given[:rows], given[rows : len(given) - _NUMBERS[ending]]
        total = others.pop(0) if kind != "weigh" else None
        source, base, *lists, first, last = others
        target_type, kinds = signature.args[0].dtype, [a.dtype for a in signature.args if hasattr(a, "dtype")]
        total_type: Any = kinds[rows] if total is not None else None
        source_type = kinds[rows + (total is not None)]
        inner: Any = _SUMS.get(ending, source_type)
        lanes = LANE_BYTES * 8 // inner.bitwidth
        if ending == "divided":
            numbers = [everywhere(builder, builder.trunc(n, _llvm.scalar(inner)), lanes) for n in numbers]
        elif ending == "carried":
            numbers = [everywhere(builder, n, lanes) for n in numbers]
        spare = alloca(builder, vector(target_type, lanes))

        def taken(position: int, k: Any, x: Any) -> Any:
            return _llvm.taken(builder, source, source_type, base, lists[position], k, x, inner, lanes)

        def ended(value: Any, x: Any) -> Any:
            """Elements of the target from sums."""
            wanted, long = vector(target_type, lanes), vector(types.int32, lanes)
            if ending == "divided":
                bump, factor, shift = numbers
                high = _llvm.upper_half(builder, builder.add(value, bump), factor, lanes)
                return builder.trunc(builder.lshr(high, shift), wanted)
            if ending == "carried":
                real = builder.sitofp(value, vector(types.float32, lanes))
                shared = plus_product(builder, numbers[1], numbers[0], real)
                return builder.trunc(builder.fptosi(shared, long), wanted)
            if ending == "shared":
                share = _llvm.load(builder, numbers[0], target_type, x, target_type, lanes)
                return builder.fmul(builder.sitofp(value, wanted), share)
            if target_type != types.uint8:
                return value
            # Rounded half up, clipped as an integer. (No NaN or infinity comes from bytes.)
            half = constant(builder, inner, 0.5, lanes)
            value = builder.fptosi(builder.fadd(value, half), long)
            for limit, worse in ((0, "<"), (255, ">")):
                bound = constant(builder, types.int32, limit, lanes)
                value = builder.select(builder.icmp_signed(worse, value, bound), bound, value)
            return builder.trunc(value, wanted)

        def write(target: Any, x: Any, value: Any, partly: bool) -> None:
            align = target_type.bitwidth // 8
            if not partly:
                builder.store(value, place(builder, target, x, value.type), align=align)
                return
            builder.store(value, spare)
            elements = builder.bitcast(spare, _llvm.scalar(target_type).as_pointer())
            with loop(builder, word(0), builder.sub(used, x), word(1), word) as (i, _):
                one = builder.load(builder.gep(elements, [i]))
                builder.store(one, builder.gep(target.data, [builder.add(x, i)]))

        def block(x: Any, registers: int, partly: bool) -> None:
            starts = [builder.add(x, word(r * lanes)) for r in range(registers)]
            sums = [[alloca(builder, vector(inner, lanes)) for _ in starts] for _ in range(rows)]
            for each in sums:
                for start, kept in zip(starts, each, strict=True):
                    begin = _llvm.zero(inner, lanes)
                    if kind == "swap" and ending != "carried":
                        begin = _llvm.load(builder, total, total_type, start, inner, lanes)
                    builder.store(begin, kept)
            with loop(builder, first, last, word(1), word) as (k, _):
                for r, start in enumerate(starts):
                    value = taken(0, k, start)
                    if kind == "swap":
                        value = builder.sub(value, taken(1, k, start))
                    for number, each in enumerate(sums):
                        before = builder.load(each[r])
                        if kind == "weigh":
                            weight = builder.load(builder.gep(lists[1 + number].data, [k]))
                            after = plus_product(builder, before, everywhere(builder, weight, lanes), value)
                        else:
                            after = builder.add(value, before)
                        builder.store(after, each[r])
            for target, each in zip(targets, sums, strict=True):
                for start, kept in zip(starts, each, strict=True):
                    value = builder.load(kept)
                    if total is not None:
                        if ending == "carried":
                            before = _llvm.load(builder, total, total_type, start, total_type, lanes)
                            value = builder.add(builder.sext(value, before.type), before)
                        where = place(builder, total, start, value.type)
                        builder.store(value, where, align=total_type.bitwidth // 8)
                    write(target, start, ended(value, start), partly)

        used = builder.extract_value(targets[0].shape, 0)
        # Sums go on to their own end: what they are of a tile that is narrower than the others, nobody reads.
        length = used if total is None else builder.extract_value(total.shape, 0)
        blocks, singles = builder.and_(used, word(-REGISTERS * lanes)), builder.and_(used, word(-lanes))
        for start, stop, registers, partly in (
            (word(0), blocks, REGISTERS, False),
            (blocks, singles, 1, False),
            (singles, length, 1, True),
        ):
            with loop(builder, start, stop, word(registers * lanes), word) as (x, _):
                block(x, registers, partly)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _add_divided(
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
    return signature, _emit("add", "divided")


@intrinsic
def _swap_divided(
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
    return signature, _emit("swap", "divided")


@intrinsic
def _swap_carried(
    typing: Any,
    target: Any,
    total: Any,
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
    signature = types.void(target, total, source, index, enter, leave, index, index, real, real)
    return signature, _emit("swap", "carried")


@intrinsic
def _swap_shared(
    typing: Any,
    target: Any,
    total: Any,
    source: Any,
    base: Any,
    enter: Any,
    leave: Any,
    first: Any,
    last: Any,
    shares: Any,
) -> Any:
    signature = types.void(target, total, source, index, enter, leave, index, index, shares)
    return signature, _emit("swap", "shared")


@intrinsic
def _weigh_into(
    typing: Any, target: Any, source: Any, base: Any, taps: Any, weights: Any, first: Any, last: Any
) -> Any:
    signature = types.void(target, source, index, taps, weights, index, index)
    return signature, _emit("weigh", "rounded")


@intrinsic
def _weigh_two_into(
    typing: Any,
    target: Any,
    below: Any,
    source: Any,
    base: Any,
    taps: Any,
    weights: Any,
    weights_below: Any,
    first: Any,
    last: Any,
) -> Any:
    signature = types.void(target, below, source, index, taps, weights, weights_below, index, index)
    return signature, _emit("weigh", "rounded", rows=2)


_there = _llvm.AVAILABLE
add_divided: Any = _add_divided if _there else _twins.plain_add_divided
swap_divided: Any = _swap_divided if _there else _twins.plain_swap_divided
swap_carried: Any = _swap_carried if _there else _twins.plain_swap_carried
swap_shared: Any = _swap_shared if _there else _twins.plain_swap_shared
weigh_into: Any = _weigh_into if _there else _twins.plain_weigh_into
weigh_two_into: Any = _weigh_two_into if _there else _twins.plain_weigh_two_into
