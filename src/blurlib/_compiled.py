"""Kernels of drawn blurs where torch.compile traces a transform: one operator, opaque to it.

A compiler cannot follow how a kernel is made, and takes no tensor whose size depends on a random number. So
the numbers are drawn as tensors, in the graph, and the operator returns the kernel in a window of a fixed
size: the zeros around it change nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from .blurs import Blur, Disk, Gaussian, Line, Shake

#: A fixed number, (low, high) for a uniform one, or a range of whole numbers.
Drawn = float | tuple[float, float] | range

_MAKERS: dict[str, Callable[..., Blur]] = {
    "disk": Disk,
    "soft disk": functools.partial(Disk, antialias=True),
    "line": Line,
    "gaussian": Gaussian,
    "test shake": lambda index: Shake(int(index), "test"),
    "train shake": lambda index: Shake(int(index), "train"),
}


def draw_kernel(kind: str, *numbers: Drawn) -> Tensor:
    """Draw numbers from torch's global generator, and the kernel that they make, in a larger window."""
    drawn = torch.stack([_draw(each) for each in numbers])
    return cast("Tensor", _drawn_kernel(drawn, kind, _side_of(kind, numbers[0])))


def _draw(value: Drawn) -> Tensor:
    """The number that an uncompiled transform draws with the same state of the generator."""
    if isinstance(value, range):
        return torch.randint(len(value), ()).double()
    if not isinstance(value, tuple):
        return torch.tensor(value, dtype=torch.float64)
    low, high = value
    return low + (high - low) * torch.rand((), dtype=torch.float64)


def _side_of(kind: str, first: Drawn) -> int:
    """Rows and columns that hold every kernel of a kind, whose first number tells its size."""
    largest = first if isinstance(first, float) else first[-1]
    if kind == "line":  # at any angle
        return 2 * math.ceil(math.hypot(largest, 1) / 2) + 1
    return max(_MAKERS[kind](largest).kernel().shape)


torch.compiler.assume_constant_result(_side_of)  # type: ignore[no-untyped-call]  # torch's


@torch.library.custom_op("blurlib::drawn_kernel", mutates_args=())
def _drawn_kernel(numbers: Tensor, kind: str, side: int) -> Tensor:
    """The kernel of a blur of some kind with these numbers, in the middle of a window (side, side)."""
    kernel = _MAKERS[kind](*numbers.tolist()).kernel()
    window = torch.zeros(side, side, dtype=torch.float64)
    height, width = kernel.shape
    top, left = (side - height) // 2, (side - width) // 2
    window[top : top + height, left : left + width] = kernel
    return window


@_drawn_kernel.register_fake
def _(numbers: Tensor, kind: str, side: int) -> Tensor:
    del kind
    return numbers.new_empty((side, side))
