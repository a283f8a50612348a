"""From a kernel to a plan: which taps, added in which way, blur an image on the CPU at the least cost.

A kernel is a short list of taps, often shorter still as the change from one row to the next: a disk of radius
r has πr² taps but changes at 2 (2r + 1). Taps of one weight are added as integers, a kernel of rank one goes
down and then along, and what would still take too many taps goes through an FFT.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one kernel is applied on the CPU.

    Attributes:
        kind: which loop carries it out, with `arrays` as its arguments.
        window: height and width of the kernel without zeros around it; taps are (row, column) in it as it
            lies over the image.
        arrays: taps and weights.
        weight: the weight of the taps that are summed as integers, where others come on top.

    Example:
        >>> Plan(kind="copy", window=(1, 1)).arrays
        ()
    """

    kind: Literal["copy", "integer", "weighted", "separable", "fft"]
    window: tuple[int, int]
    arrays: tuple[np.ndarray, ...] = ()
    weight: float = 0.0


# Cost of one tap for one element in picoseconds and of the FFT, measured on one AVX-512 core (benchmarks/);
# only their ratios matter. A float64 lane costs two float32 lanes.
_PS_INTEGER, _PS_FLOAT32, _PS_FLOAT64, _PS_FFT = 17.0, 35.0, 75.0, 60_000.0


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
        ('integer', 'separable')
    """
    window = kernel.detach().double().contiguous().numpy()
    arithmetic = "integer" if dtype == torch.uint8 else "double" if dtype == torch.float64 else "single"
    # Planning a large kernel costs little beside using it, and hundreds of such plans would fill the memory.
    make = _kept_plan_of if window.size <= _KEPT_SIZE else _plan_of
    return make(window.tobytes(), window.shape[-2], window.shape[-1], arithmetic)


def _plan_of(data: bytes, height: int, width: int, arithmetic: str) -> Plan:
    kernel = np.frombuffer(data, np.float64).reshape(height, width)
    if not np.isfinite(kernel).all():
        raise ValueError("`kernel` must be finite, got NaN or infinity in it; look at how it was made")
    total = kernel.sum()
    if abs(total - 1.0) > 1e-3:
        raise ValueError(
            f"`kernel` must have a sum of 1 within 1e-3, got {total:g}; use kernel / kernel.sum()"
        )
    # Zeros around a kernel (they come from stacking kernels of several sizes) need no border.
    rows, columns = np.nonzero(kernel)
    top = max(abs(rows - height // 2)) if rows.size else 0
    left = max(abs(columns - width // 2)) if rows.size else 0
    kernel = kernel[height // 2 - top : height // 2 + top + 1, width // 2 - left : width // 2 + left + 1]
    size = kernel.shape
    lying = np.ascontiguousarray(kernel[::-1, ::-1])  # true convolution: the window over the image is flipped
    taps = np.argwhere(lying)
    weights = lying[lying != 0]
    if size == (1, 1) and weights[0] == 1.0:
        return Plan(kind="copy", window=size)
    # Row i of the change: what a step down takes off row i - 1 of the strip.
    change = np.diff(np.pad(lying, ((1, 1), (0, 0))), axis=0)
    moves = np.argwhere(change)
    real = np.float64 if arithmetic == "double" or max(size) > 128 else np.float32
    tap_cost = _PS_FLOAT64 if real is np.float64 else _PS_FLOAT32
    costs = {"weighted": tap_cost * len(taps), "running": _PS_FLOAT64 * len(moves), "fft": _PS_FFT}
    # A kernel made in float32 is of rank one to that precision only, which is enough for all but float64
    # images.
    profile = _profiles(lying, 1e-13 if arithmetic == "double" else 2e-7)
    if profile and min(size) > 1:
        costs["separable"] = tap_cost * sum(size) + tap_cost * 4
    if arithmetic == "integer":
        integer, cost = _integer_plan(lying)
        if integer and (not len(integer.arrays[4]) or cost < min(costs.values())):
            return integer
    best = min(costs, key=lambda name: costs[name])
    if best == "fft":
        return Plan(kind="fft", window=size, arrays=(kernel.copy(), taps, weights))
    if best == "separable":
        return Plan(kind="separable", window=size, arrays=tuple(v.astype(real) for v in profile))
    if best == "running":
        # Running sums are kept in double precision: one rounding at the end, whatever the order of the rows.
        arrays = (taps, weights, moves, -change[tuple(moves.T)])
        return Plan(kind="weighted", window=size, arrays=arrays)
    many = real if len(taps) <= 300 else np.float64  # float32 sums of more taps would leave the promised 1e-6
    nothing = np.empty((0, 2), np.int64), np.empty(0, many)
    return Plan(kind="weighted", window=size, arrays=(taps, weights.astype(many), *nothing))


_KEPT_SIZE = 41 * 41
_kept_plan_of = functools.lru_cache(maxsize=512)(_plan_of)


def _integer_plan(lying: np.ndarray) -> tuple[Plan | None, float]:
    """The taps that share one weight, as exact sums of bytes; the few others as a weighted ring."""
    weights = lying[lying != 0]
    values, counts = np.unique(weights, return_counts=True)
    weight, n = values[counts.argmax()], counts.max()
    flat = len(values) == 1 and abs(weight * n - 1.0) <= 1e-6
    if weight < 0 or (not flat and n < 16):
        return None, np.inf
    core = (lying == weight).astype(np.int8)
    change = np.diff(np.pad(core, ((1, 1), (0, 0))), axis=0)
    leave, enter = np.argwhere(change > 0), np.argwhere(change < 0)
    if 2 * len(enter) >= n:
        leave = enter = np.empty((0, 2), np.int64)
    ring_image = np.where(core != 0, 0.0, lying)
    ring, ring_weights = np.argwhere(ring_image), ring_image[ring_image != 0].astype(np.float32)
    if not flat and not len(ring):  # equal taps whose sum is not quite 1: their mean would be another result
        return None, np.inf
    cost = _PS_INTEGER * (2 * len(enter) or n) + _PS_FLOAT32 * len(ring)
    arrays = (np.argwhere(core), enter, leave, ring, ring_weights)
    return Plan(kind="integer", window=lying.shape, arrays=arrays, weight=float(weight)), cost


def _profiles(kernel: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray] | tuple[()]:
    """A column and a row whose outer product is the kernel, or nothing."""
    i, j = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    column, row = kernel[:, j], kernel[i] / kernel[i, j]
    return (column, row) if np.abs(np.outer(column, row) - kernel).sum() <= tolerance else ()
