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

__all__ = [
    "add_carried",
    "add_divided",
    "add_kept",
    "add_spread",
    "mix_kept",
    "swap_carried",
    "swap_divided",
    "swap_kept",
    "swap_shared",
    "swap_spread",
    "weigh_into",
    "weigh_two_into",
]

Array = np.ndarray

# How many arguments come after first and last, by the ending.
_NUMBERS = {"divided": 3, "carried": 2, "shared": 1, "spread": 1, "rounded": 0, "kept": 0}


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
        inner: Any = types.int32 if ending == "spread" else total_type or source_type
        lanes = LANE_BYTES * 8 // inner.bitwidth
        spare = alloca(builder, vector(target_type, lanes))

        def taken(position: int, k: Any, x: Any) -> Any:
            return _llvm.taken(builder, source, source_type, base, lists[position], k, x, inner, lanes)

        def ended(value: Any, x: Any) -> Any:
            """Elements of the target from sums."""
            wanted = vector(target_type, lanes)
            if ending == "spread":
                share = _llvm.load(builder, numbers[0], total_type, x, total_type, lanes)
                return builder.fptrunc(builder.fmul(value, share), wanted)
            if ending == "shared":
                share = _llvm.load(builder, numbers[0], target_type, x, target_type, lanes)
                return builder.fmul(builder.sitofp(value, wanted), share)
            if target_type != types.uint8:
                return value
            return builder.trunc(_rounded(builder, value, inner, lanes), wanted)

        def block(x: Any, registers: int, partly: bool) -> None:
            starts = [builder.add(x, word(r * lanes)) for r in range(registers)]
            sums = [[alloca(builder, vector(inner, lanes)) for _ in starts] for _ in range(rows)]
            for each in sums:
                for start, kept in zip(starts, each, strict=True):
                    begin = _llvm.zero(inner, lanes)
                    if kind == "swap" and ending != "spread":
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
                    if ending == "spread":
                        before = _llvm.load(builder, total, total_type, start, total_type, lanes)
                        value = builder.fadd(builder.sitofp(value, before.type), before)
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


# Sums of bytes take every byte where it lies. To widen a register of bytes takes a shuffle for each half,
# more than there are ports for. So pairs of bytes are taken as the 16-bit numbers that they are in memory,
# even + 256 odd, and summed twice: whole, and shifted down to their odd bytes. 256 times the second sum taken
# from the first leaves the sum of the even ones: 16 bits hold both, whatever overflows on the way. Where such
# sums are kept, in `total`, the two lie in turns, a register of each.

_PAIRS = types.uint16
_LANES = LANE_BYTES // 2


def _sum_pairs(builder: Any, sums: Any, starts: Any, source: Any, base: Any, lists: Any, span: Any) -> None:
    """Add up what lies under the taps of one list, less what lies under those of another."""

    def taken(position: int, k: Any, x: Any) -> Any:
        tap = builder.load(builder.gep(lists[position].data, [k]))
        start = builder.add(builder.add(base, tap), x)
        return builder.load(place(builder, source, start, vector(_PAIRS, _LANES)), align=1)

    eight = constant(builder, _PAIRS, 8, _LANES)
    with loop(builder, *span, word(1), word) as (k, _):
        for start, (whole, odd) in zip(starts, sums, strict=True):
            value = taken(0, k, start)
            upper = builder.lshr(value, eight)
            if len(lists) == 2:
                leaving = taken(1, k, start)
                value = builder.sub(value, leaving)
                upper = builder.sub(upper, builder.lshr(leaving, eight))
            builder.store(builder.add(value, builder.load(whole)), whole)
            builder.store(builder.add(upper, builder.load(odd)), odd)


def _even_and_odd(builder: Any, sums: Any) -> tuple[Any, Any]:
    whole, odd = (builder.load(each) for each in sums)
    return builder.sub(whole, builder.shl(odd, constant(builder, _PAIRS, 8, _LANES))), odd


def _pairs(builder: Any, even: Any, odd: Any) -> Any:
    return builder.or_(even, builder.shl(odd, constant(builder, _PAIRS, 8, _LANES)))


def _fresh(builder: Any, count: int) -> list[Any]:
    """Two variables, of zeros, for each of some registers. LLVM keeps them in registers."""
    made = [[alloca(builder, vector(_PAIRS, _LANES)) for _ in (0, 1)] for _ in range(count)]
    for variable in (variable for each in made for variable in each):
        builder.store(_llvm.zero(_PAIRS, _LANES), variable)
    return made


def _emit_bytes(kind: str, ending: str) -> Callable[..., Any]:
    """The code of the functions that end "divided" or "carried", or in no bytes at all but "kept" sums."""
    kept_type: Any = types.int32 if ending == "carried" else _PAIRS
    bits = 4 if ending == "carried" else 2

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _llvm.arrays(context, builder, signature, arguments)
        target = given.pop(0) if ending != "kept" else None
        end = len(given) - _NUMBERS[ending]
        total, source, base, *lists, first, last = given[:end]
        numbers = given[end:]
        if ending == "divided":
            numbers = [builder.trunc(number, _llvm.scalar(_PAIRS)) for number in numbers]
        numbers = [everywhere(builder, number, _LANES) for number in numbers]
        spare = alloca(builder, vector(_PAIRS, _LANES))

        def quotient(value: Any) -> Any:
            if ending == "carried":
                real = builder.sitofp(value, vector(types.float32, _LANES))
                shared = plus_product(builder, numbers[1], numbers[0], real)
                return builder.trunc(builder.fptosi(shared, value.type), vector(_PAIRS, _LANES))
            bump, factor, shift = numbers
            return builder.lshr(_llvm.upper_half(builder, builder.add(value, bump), factor, _LANES), shift)

        def block(x: Any, registers: int, partly: bool) -> None:
            starts = [builder.add(x, word(r * LANE_BYTES)) for r in range(registers)]
            sums = _fresh(builder, registers)
            _sum_pairs(builder, sums, starts, source, base, lists, (first, last))
            for start, each in zip(starts, sums, strict=True):
                halves = []
                for part, value in enumerate(_even_and_odd(builder, each)):
                    position = builder.add(start, word(part * _LANES))
                    at = place(builder, total, position, vector(kept_type, _LANES))
                    if ending == "carried":
                        value = builder.sext(value, vector(kept_type, _LANES))
                    if kind == "swap" or ending == "carried":
                        value = builder.add(value, builder.load(at, align=bits))
                    builder.store(value, at, align=bits)
                    halves.append(value)
                if target is not None:
                    pairs = _pairs(builder, *(quotient(value) for value in halves))
                    _write(builder, target, types.uint8, start, pairs, spare if partly else None, used)

        length = builder.extract_value(total.shape, 0)
        used = length if target is None else builder.extract_value(target.shape, 0)
        _blocks(builder, used, length, LANE_BYTES, block)
        return context.get_dummy_value()

    return codegen


def _mix_kept(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The code of `mix_kept`."""
    given = _llvm.arrays(context, builder, signature, arguments)
    target, total, source, base, taps, starts_of, weights, first, last, core = given
    core, real = everywhere(builder, core, _LANES), vector(types.float32, _LANES)
    spare = alloca(builder, vector(_PAIRS, _LANES))

    def block(x: Any, registers: int, partly: bool) -> None:
        starts = [builder.add(x, word(r * LANE_BYTES)) for r in range(registers)]
        mixed = [[alloca(builder, real) for _ in (0, 1)] for _ in starts]
        for start, each in zip(starts, mixed, strict=True):
            for part, kept in enumerate(each):
                position = builder.add(start, word(part * _LANES))
                value = _llvm.load(builder, total, _PAIRS, position, _PAIRS, _LANES)
                builder.store(builder.fmul(builder.uitofp(value, real), core), kept)
        with loop(builder, first, last, word(1), word) as (g, _):
            span = [builder.load(builder.gep(starts_of.data, [builder.add(g, word(i))])) for i in (0, 1)]
            weight = everywhere(builder, builder.load(builder.gep(weights.data, [g])), _LANES)
            sums = _fresh(builder, registers)
            _sum_pairs(builder, sums, starts, source, base, [taps], span)
            for each, group in zip(mixed, sums, strict=True):
                for kept, value in zip(each, _even_and_odd(builder, group), strict=True):
                    product = plus_product(builder, builder.load(kept), weight, builder.uitofp(value, real))
                    builder.store(product, kept)
        for start, each in zip(starts, mixed, strict=True):
            rounded = [_rounded(builder, builder.load(kept), types.float32, _LANES) for kept in each]
            pairs = _pairs(builder, *(builder.trunc(value, vector(_PAIRS, _LANES)) for value in rounded))
            _write(builder, target, types.uint8, start, pairs, spare if partly else None, used)

    used, length = builder.extract_value(target.shape, 0), builder.extract_value(total.shape, 0)
    _blocks(builder, used, length, LANE_BYTES, block, REGISTERS // 2)  # the sums take four registers for one
    return context.get_dummy_value()


def _rounded(builder: Any, value: Any, dtype: Any, lanes: int) -> Any:
    """Rounded half up, and clipped as integers to what bytes can be: no NaN or infinity comes from bytes."""
    half = constant(builder, dtype, 0.5, lanes)
    value = builder.fptosi(builder.fadd(value, half), vector(types.int32, lanes))
    for limit, worse in ((0, "<"), (255, ">")):
        bound = constant(builder, types.int32, limit, lanes)
        value = builder.select(builder.icmp_signed(worse, value, bound), bound, value)
    return value


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


def _blocks(
    builder: Any,
    used: Any,
    length: Any,
    step: int,
    block: Callable[[Any, int, bool], None],
    most: int = REGISTERS,
) -> None:
    """Blocks of several registers, of one, and what is left of the row, to the end of its sums."""
    many, singles = builder.and_(used, word(-most * step)), builder.and_(used, word(-step))
    for start, stop, registers, partly in (
        (word(0), many, most, False),
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
def _add_kept(typing: Any, total: Any, source: Any, base: Any, taps: Any, first: Any, last: Any) -> Any:
    return types.void(total, source, index, taps, index, index), _emit_bytes("add", "kept")


@intrinsic
def _swap_kept(
    typing: Any, total: Any, source: Any, base: Any, enter: Any, leave: Any, first: Any, last: Any
) -> Any:
    return types.void(total, source, index, enter, leave, index, index), _emit_bytes("swap", "kept")


@intrinsic
def _mix_kept_sums(
    typing: Any,
    target: Any,
    total: Any,
    source: Any,
    base: Any,
    taps: Any,
    starts: Any,
    weights: Any,
    first: Any,
    last: Any,
    core: Any,
) -> Any:
    real = types.float32
    signature = types.void(target, total, source, index, taps, starts, weights, index, index, real)
    return signature, _mix_kept


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
def _add_spread(
    typing: Any,
    target: Any,
    total: Any,
    source: Any,
    base: Any,
    taps: Any,
    first: Any,
    last: Any,
    shares: Any,
) -> Any:
    signature = types.void(target, total, source, index, taps, index, index, shares)
    return signature, _emit("add", "spread")


@intrinsic
def _swap_spread(
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
    return signature, _emit("swap", "spread")


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
add_kept: Any = _add_kept if _there else _twins.plain_add
swap_kept: Any = _swap_kept if _there else _twins.plain_swap
mix_kept: Any = _mix_kept_sums if _there else _twins.plain_mix_kept
swap_shared: Any = _swap_shared if _there else _twins.plain_swap_shared
add_spread: Any = _add_spread if _there else _twins.plain_add_spread
swap_spread: Any = _swap_spread if _there else _twins.plain_swap_spread
weigh_into: Any = _weigh_into if _there else _twins.plain_weigh_into
weigh_two_into: Any = _weigh_two_into if _there else _twins.plain_weigh_two_into
