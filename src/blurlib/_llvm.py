"""A few words of LLVM's language, in which `_vectors.py` and `_endings.py` spell out vector instructions.

`builder` everywhere is LLVM's: each of its methods appends an instruction. An array is numba's, with a
pointer `data`; positions in it are 64-bit numbers.
"""

from __future__ import annotations

from typing import Any

import numba
from numba import types

__all__ = [
    "AVAILABLE",
    "LANE_BYTES",
    "alloca",
    "arrays",
    "everywhere",
    "index",
    "loop",
    "place",
    "plus_product",
    "taken",
    "vector",
    "word",
]

_features: Any = {}
try:
    from llvmlite import binding, ir
    from numba.core import cgutils
    from numba.np import arrayobj

    alloca: Any = cgutils.alloca_once
    declared: Any = cgutils.get_or_insert_function
    loop: Any = cgutils.for_range_slice
    populate: Any = arrayobj.populate_array
    _features = binding.get_host_cpu_features()
    word: Any = ir.IntType(64)
    #: Whether all of that is there, and numba compiles at all.
    AVAILABLE = not getattr(numba.config, "DISABLE_JIT", False)
except (ImportError, AttributeError, RuntimeError):
    AVAILABLE = False

#: Bytes of a vector register.
LANE_BYTES = 64 if not AVAILABLE or _features.get("avx512bw") else 32 if _features.get("avx2") else 16

index = types.int64


def scalar(dtype: Any) -> Any:
    """LLVM's type for numba's, as it lies in memory."""
    floats = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
    return floats.get(dtype) or ir.IntType(dtype.bitwidth)


def vector(dtype: Any, lanes: int) -> Any:
    return ir.VectorType(scalar(dtype), lanes)


def place(builder: Any, array: Any, position: Any, kind: Any) -> Any:
    """A pointer to a vector in an array."""
    return builder.bitcast(builder.gep(array.data, [position]), kind.as_pointer())


def load(builder: Any, array: Any, dtype: Any, position: Any, wanted: Any, lanes: int) -> Any:
    """`lanes` elements from a position on, as the type that is wanted."""
    loaded = builder.load(place(builder, array, position, vector(dtype, lanes)), align=dtype.bitwidth // 8)
    if dtype == wanted:
        return loaded
    widen = builder.zext if isinstance(dtype, types.Integer) else builder.fpext
    return widen(loaded, vector(wanted, lanes))


def taken(
    builder: Any, source: Any, dtype: Any, base: Any, taps: Any, k: Any, x: Any, wanted: Any, lanes: int
) -> Any:
    """What lies under tap k of a list."""
    tap = builder.load(builder.gep(taps.data, [k]))
    return load(builder, source, dtype, builder.add(builder.add(base, tap), x), wanted, lanes)


def everywhere(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of one number."""
    kind, zeros = ir.VectorType(value.type, lanes), ir.VectorType(ir.IntType(32), lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(zeros, None))


def constant(builder: Any, dtype: Any, value: float, lanes: int) -> Any:
    return everywhere(builder, ir.Constant(scalar(dtype), value), lanes)


def zero(dtype: Any, lanes: int) -> Any:
    return ir.Constant(vector(dtype, lanes), None)


def plus_product(builder: Any, total: Any, factor: Any, value: Any) -> Any:
    """One instruction with one rounding where the processor has it: hence "contract"."""
    return builder.fadd(builder.fmul(factor, value, flags=("contract",)), total, flags=("contract",))


def upper_half(builder: Any, first: Any, second: Any, lanes: int) -> Any:
    """The upper 16 bits of products of 16-bit numbers: one instruction, which LLVM does not find itself."""
    short, long = vector(types.uint16, lanes), vector(types.uint32, lanes)
    name = {64: "llvm.x86.avx512.pmulhu.w.512", 32: "llvm.x86.avx2.pmulhu.w"}.get(LANE_BYTES)
    if name is not None:
        function = declared(builder.module, ir.FunctionType(short, [short, short]), name)
        return builder.call(function, [first, second])
    product = builder.mul(builder.zext(first, long), builder.zext(second, long))
    return builder.trunc(builder.lshr(product, constant(builder, types.uint32, 16, lanes)), short)


def arrays(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """The arguments of an intrinsic, arrays with their fields."""
    return [
        context.make_array(kind)(context, builder, argument) if isinstance(kind, types.Array) else argument
        for kind, argument in zip(signature.args, arguments, strict=True)
    ]
