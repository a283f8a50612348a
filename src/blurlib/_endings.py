"""Rows of the result with explicit vector instructions: sums that are finished while in registers.

What a function emits for one register of a row reads in Python (here for `swap_shared`) as::

    block = total[x : x + lanes]
    for k in range(first, last):
        block += source[base + enter[k] + x : ...] - source[base + leave[k] + x : ...]
    total[x : x + lanes] = block
    target[x : x + lanes] = float(block) * shares[x : x + lanes]

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

# How many arguments come after first and last, by the ending.
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
        inner: Any = total_type or source_type
        lanes = LANE_BYTES * 8 // inner.bitwidth
        spare = alloca(builder, vector(target_type, lanes))

        def taken(position: int, k: Any, x: Any) -> Any:
            return _llvm.taken(builder, source, source_type, base, lists[position], k, x, inner, lanes)

        def ended(value: Any, x: Any) -> Any:
            """Elements of the target from sums."""
            wanted, long = vector(target_type, lanes), vector(types.int32, lanes)
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

        def block(x: Any, registers: int, partly: bool) -> None:
            starts = [builder.add(x, word(r * lanes)) for r in range(registers)]
            sums = [[alloca(builder, vector(inner, lanes)) for _ in starts] for _ in range(rows)]
            for each in sums:
                for start, kept in zip(starts, each, strict=True):
                    begin = _llvm.zero(inner, lanes)
                    if kind == "swap":
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
                        where = place(builder, total, start, value.type)
                        builder.store(value, where, align=total_type.bitwidth // 8)
                    _write(
                        builder,
                        target,
                        target_type,
                        start,
                        ended(value, start),
                        spare if partly else None,
                        used,
                    )

        used = builder.extract_value(targets[0].shape, 0)
        # Sums go on to their own end: what they are of a tile that is narrower than the others, nobody reads.
        length = used if total is None else builder.extract_value(total.shape, 0)
        _blocks(builder, used, length, lanes, block)
        return context.get_dummy_value()

    return codegen


def _emit_bytes(kind: str, ending: str) -> Callable[..., Any]:
    """The code of the functions that end "divided" or "carried", which take every byte where it lies.

    To widen a register of bytes takes a shuffle for each half, more than there are ports for. So pairs of
    bytes are taken as the 16-bit numbers that they are in memory, even + 256 odd, and summed twice: whole,
    and shifted down to their odd bytes. 256 times the second sum taken from the first leaves the sum of the
    even ones: 16 bits hold both, whatever overflows on the way. `total` has the two in turns.
    """
    lanes, narrow = LANE_BYTES // 2, types.uint16
    kept_type: Any = types.int32 if ending == "carried" else narrow
    bits = 4 if ending == "carried" else 2

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _llvm.arrays(context, builder, signature, arguments)
        (target, total, source, base), others = given[:4], given[4:]
        *lists, first, last = others[: -_NUMBERS[ending]]
        numbers = others[-_NUMBERS[ending] :]
        if ending == "divided":
            numbers = [builder.trunc(number, _llvm.scalar(narrow)) for number in numbers]
        numbers = [everywhere(builder, number, lanes) for number in numbers]
        eight = constant(builder, narrow, 8, lanes)
        spare = alloca(builder, vector(narrow, lanes))

        def taken(position: int, k: Any, x: Any) -> Any:
            tap = builder.load(builder.gep(lists[position].data, [k]))
            start = builder.add(builder.add(base, tap), x)
            return builder.load(place(builder, source, start, vector(narrow, lanes)), align=1)

        def quotient(value: Any) -> Any:
            if ending == "carried":
                real = builder.sitofp(value, vector(types.float32, lanes))
                shared = plus_product(builder, numbers[1], numbers[0], real)
                return builder.trunc(builder.fptosi(shared, value.type), vector(narrow, lanes))
            bump, factor, shift = numbers
            return builder.lshr(_llvm.upper_half(builder, builder.add(value, bump), factor, lanes), shift)

        def block(x: Any, registers: int, partly: bool) -> None:
            starts = [builder.add(x, word(r * LANE_BYTES)) for r in range(registers)]
            sums = [[alloca(builder, vector(narrow, lanes)) for _ in (0, 1)] for _ in starts]
            for kept in (kept for each in sums for kept in each):
                builder.store(_llvm.zero(narrow, lanes), kept)
            with loop(builder, first, last, word(1), word) as (k, _):
                for start, (whole, odd) in zip(starts, sums, strict=True):
                    value = taken(0, k, start)
                    upper = builder.lshr(value, eight)
                    if kind == "swap":
                        leaving = taken(1, k, start)
                        value = builder.sub(value, leaving)
                        upper = builder.sub(upper, builder.lshr(leaving, eight))
                    builder.store(builder.add(value, builder.load(whole)), whole)
                    builder.store(builder.add(upper, builder.load(odd)), odd)
            for start, each in zip(starts, sums, strict=True):
                whole, odd = (builder.load(kept) for kept in each)
                shares = []
                for part, value in enumerate((builder.sub(whole, builder.shl(odd, eight)), odd)):
                    position = builder.add(start, word(part * lanes))
                    at = place(builder, total, position, vector(kept_type, lanes))
                    if ending == "carried":
                        value = builder.sext(value, vector(kept_type, lanes))
                    if kind == "swap" or ending == "carried":
                        value = builder.add(value, builder.load(at, align=bits))
                    builder.store(value, at, align=bits)
                    shares.append(quotient(value))
                pairs = builder.or_(shares[0], builder.shl(shares[1], eight))
                _write(builder, target, types.uint8, start, pairs, spare if partly else None, used)

        used, length = builder.extract_value(target.shape, 0), builder.extract_value(total.shape, 0)
        _blocks(builder, used, length, LANE_BYTES, block)
        return context.get_dummy_value()

    return codegen


def _write(builder: Any, target: Any, dtype: Any, x: Any, value: Any, spare: Any, used: Any) -> None:
    """Write a register to the row, by way of `spare` where no more than `used` elements may be written."""
    if spare is None:
        builder.store(value, place(builder, target, x, value.type), align=dtype.bitwidth // 8)
        return
    builder.store(value, spare)
    elements = builder.bitcast(spare, _llvm.scalar(dtype).as_pointer())
    with loop(builder, word(0), builder.sub(used, x), word(1), word) as (i, _):
        one = builder.load(builder.gep(elements, [i]))
        builder.store(one, builder.gep(target.data, [builder.add(x, i)]))


def _blocks(builder: Any, used: Any, length: Any, step: int, block: Callable[[Any, int, bool], None]) -> None:
    """Blocks of several registers, of one, and what is left of the row, to the end of its sums."""
    many, singles = builder.and_(used, word(-REGISTERS * step)), builder.and_(used, word(-step))
    for start, stop, registers, partly in (
        (word(0), many, REGISTERS, False),
        (many, singles, 1, False),
        (singles, length, 1, True),
    ):
        with loop(builder, start, stop, word(registers * step), word) as (x, _):
            block(x, registers, partly)


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
    return signature, _emit_bytes("add", "divided")


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
    return signature, _emit_bytes("swap", "divided")


@intrinsic
def _add_carried(
    typing: Any,
    target: Any,
    total: Any,
    source: Any,
    base: Any,
    taps: Any,
    first: Any,
    last: Any,
    share: Any,
    offset: Any,
) -> Any:
    real = types.float32
    signature = types.void(target, total, source, index, taps, index, index, real, real)
    return signature, _emit_bytes("add", "carried")


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
    return signature, _emit_bytes("swap", "carried")


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
add_carried: Any = _add_carried if _there else _twins.plain_add_carried
swap_carried: Any = _swap_carried if _there else _twins.plain_swap_carried
swap_shared: Any = _swap_shared if _there else _twins.plain_swap_shared
weigh_into: Any = _weigh_into if _there else _twins.plain_weigh_into
weigh_two_into: Any = _weigh_two_into if _there else _twins.plain_weigh_two_into
