"""From a kernel to a plan: which taps, added in which way, blur an image on the CPU at the least cost.

A kernel is a short list of taps, often shorter still as the change from one row to the next: a disk of radius
r has πr² taps but changes at 2 (2r + 1). Taps of one weight are added as integers, long rows of them as sums
of sums, a kernel of rank one goes down and then along, and what would still take too many taps goes through
an FFT.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import _taps
from ._memory import ANCHORS, origin
from ._twins import plain_row
from ._vectors import row

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one kernel is applied on the CPU.

    Attributes:
        kind: which loop carries it out, with `arguments`.
        window: height and width of the kernel without zeros around it.
        arguments: taps and weights, as the loop takes them.
        cost: what it takes, in picoseconds for an element of the image, about.

    Example:
        >>> Plan(kind="copy", window=(1, 1)).arguments
        ()
    """

    kind: Literal["copy", "bytes", "fixed", "weighted", "running", "separable", "box", "fft"]
    window: tuple[int, int]
    arguments: tuple[Any, ...] = ()
    cost: float = 0.0


# What an element costs, in picoseconds: fitted to benchmarks/kinds.py on one AVX-512 core, of which
# only the ratios matter. `_START`: everything but the taps, by kind, for images of bytes and of floats; what
# a ring of other weights adds to it. A tap of a sum of bytes, of 32-bit integers; the weighing of a group's
# sum; a tap that is loaded once for two rows; a tap down, where all loads are aligned, and along; the whole
# of an FFT.
_START = {
    "bytes": (130.0, 0.0),
    "fixed": (0.0, 850.0),
    "weighted": (250.0, 420.0),
    "separable": (560.0, 700.0),
    "box": (340.0, 980.0),
}
_RING = 110.0
_COPY = 60.0
_BYTE, _FIXED, _GROUP, _PAIR, _DOWN, _ALONG, _FFT = 9.0, 31.0, 60.0, 19.0, 15.0, 32.0, 14_000.0
_BOX = (2.1, 5.5)  # a pixel of a long box along the rows, of bytes and of floats


def plan(kernel: Tensor, dtype: torch.dtype) -> Plan:
    """The cheapest way to apply a kernel to images of a dtype; plans of the latest kernels are kept.

    Args:
        kernel: (h, w) on the CPU, both odd.
        dtype: of the images: uint8 (integer arithmetic), float64, or another floating type.

    Returns:
        The plan.

    Raises:
        ValueError: if the kernel is not finite or does not sum to 1 within 1e-3.

    Example:
        >>> import torch
        >>> from blurlib import kernels
        >>> plan(kernels.disk(8), torch.uint8).kind, plan(kernels.gaussian(4), torch.uint8).kind
        ('bytes', 'separable')
    """
    if kernel.dtype != torch.float64:
        kernel = kernel.detach().double()
    height, width = kernel.shape
    if not kernel.is_contiguous():
        kernel = kernel.contiguous()
    arithmetic = _ARITHMETIC.get(dtype, "single")
    # Planning a large kernel costs little beside using it, and hundreds of such plans would fill the memory.
    make = _kept_plan_of if height * width <= _KEPT_SIZE else _plan_of
    # By its address: the kernel's array would take torch longer to make than the plan to find.
    place = kernel.data_ptr(), height, width, arithmetic
    before = _latest.get(place)
    if before is not None and _taps.same(before[0], ANCHORS[torch.float64], origin(kernel, torch.float64)):
        return before[1]
    data = ctypes.string_at(place[0], kernel.nbytes)
    found = make(data, height, width, arithmetic)
    if height * width <= _KEPT_SIZE and row is not plain_row:
        if len(_latest) >= _KEPT:
            _latest.clear()
        _latest[place] = np.frombuffer(data, np.float64), found
    return found


_ARITHMETIC = {torch.uint8: "bytes", torch.float64: "double"}


def _plan_of(data: bytes, height: int, width: int, arithmetic: str) -> Plan:
    kernel = np.frombuffer(bytearray(data), np.float64).reshape(height, width)
    found = _taps.survey(kernel)
    if not found.finite:
        raise ValueError("`kernel` must be finite, got NaN or infinity in it; look at how it was made")
    if abs(found.total - 1.0) > 1e-3:
        raise ValueError(
            f"`kernel` must have a sum of 1 within 1e-3, got {found.total:g}; use kernel / kernel.sum()"
        )
    # Zeros around a kernel (they come from stacking kernels of several sizes) need no border.
    window = _taps.lying(kernel, found.up, found.left)
    size = (window.shape[0], window.shape[1])
    if size == (1, 1) and window[0, 0] == 1.0:
        return Plan(kind="copy", window=size, cost=_COPY)
    double, integer = arithmetic == "double", "bytes" if arithmetic == "bytes" else "fixed"
    start = {kind: both[arithmetic != "bytes"] for kind, both in _START.items()}
    # 64-bit floats are half as many to a register.
    costs = {
        "weighted": start["weighted"] + _PAIR * found.pairs * (1 + double),
        "fft": _FFT * (1 + double),
    }
    if double:
        costs["running"] = start["weighted"] + 2 * _ALONG * found.changes
    # Equal taps whose sum is not quite 1 would be divided by their number, which is another result.
    flat = found.groups == 1 and abs(found.core * found.taps - 1.0) <= 1e-6
    running = 2 * found.core_changes < found.core_taps
    if not double and (flat or found.groups > 1):
        added = min(2 * found.core_changes, found.core_taps) + found.taps - found.core_taps
        weighed = 0.0 if flat else _RING + _GROUP * found.groups
        costs[integer] = start[integer] + (_BYTE if integer == "bytes" else _FIXED) * added + weighed
    # A kernel made in float32 is of rank one to that precision only: enough for all but float64 images.
    if min(size) > 1 and found.taps == size[0] * size[1]:
        separable, column, row = _taps.profiles(window, 1e-13 if double else 2e-7)
        if separable:
            costs["separable"] = start["separable"] + (_DOWN * size[0] + _ALONG * size[1]) * (1 + double)
    along = np.flatnonzero(window[0]) if flat and size[0] == 1 else np.empty(0)
    if along.size and along[-1] - along[0] == along.size - 1:
        costs["box"] = start["box"] + _BOX[arithmetic != "bytes"] * found.taps * (1 + double)
    if flat and arithmetic == "bytes":
        costs = {
            kind: cost for kind, cost in costs.items() if kind in ("bytes", "box")
        }  # ties are exact there
    best = min(costs, key=lambda name: costs[name])
    cost = costs[best]
    if best == "box":
        return Plan(kind="box", window=size, arguments=_box_sums(along, arithmetic), cost=cost)
    if best in ("bytes", "fixed"):
        equal, ring = _taps.core_and_ring(window, found, running)
        arguments = (*equal, *ring)
        kind: Literal["bytes", "fixed"] = "bytes" if best == "bytes" else "fixed"
        return Plan(kind=kind, window=size, arguments=arguments, cost=cost)
    if best == "separable":
        real = np.float64 if double else np.float32
        return Plan(
            kind="separable", window=size, arguments=(column.astype(real), row.astype(real)), cost=cost
        )
    if best == "running":
        taps = (*_taps.tap_list(window, found.taps), *_taps.change_list(window, found.changes))
        return Plan(kind="running", window=size, arguments=taps, cost=cost)
    pairs = _taps.pair_list(
        window, found.pairs, np.empty(0, np.float64 if double or best == "fft" else np.float32)
    )
    if best == "fft":
        return Plan(kind="fft", window=size, arguments=(window[::-1, ::-1].copy(), pairs), cost=cost)
    return Plan(kind="weighted", window=size, arguments=tuple(pairs), cost=cost)


def _box_sums(along: np.ndarray, arithmetic: str) -> tuple[Any, ...]:
    """Where the box begins, its length and weight, and arrays of the types of its sums, of few and of all."""
    n = along.size
    some = {"bytes": "uint16", "single": "float32", "double": "float64"}[arithmetic]
    # What 16 bits can hold; the rounding errors of 32 bits grow with the number of additions.
    every = some if n <= 256 else "uint32" if arithmetic == "bytes" else "float64"
    return int(along[0]), n, 1.0 / n, np.empty(0, some), np.empty(0, every)


_KEPT_SIZE, _KEPT = 41 * 41, 512
_kept_plan_of = functools.lru_cache(maxsize=_KEPT)(_plan_of)

# What was found at an address of late, and what lay there: mostly a kernel is the same tensor as last time.
_latest: dict[tuple[int, int, int, str], tuple[np.ndarray, Plan]] = {}
