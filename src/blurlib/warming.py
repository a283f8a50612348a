"""Compiling ahead: what the first blurs would otherwise wait for, and every worker process again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import _boxes, _integers, _trajectories, _weighted
from ._compile import config
from .blurs import Blur, Box, Disk, Gaussian, Line, OwnShake, Shake, Sharp
from .convolution import blur

__all__ = ["warmup"]

# Of each kind, blurs of all sizes, none included: the engine takes other loops for small ones than for large
# ones, and for flat ones than for soft ones. A binary disk of radius 2.9 is a square, a Gaussian of sigma
# 0.14 a cross, a line of odd length along the rows a box.
_RADII = (0.0, 0.6, 1.0, 1.5, 2.0, 2.9, 4.0, 8.0, 10.0, 16.0, 32.0, 80.0)
_EXAMPLES: dict[type[Blur], tuple[Blur, ...]] = {
    Sharp: (Sharp(),),
    Disk: tuple(Disk(radius, antialias=soft) for radius in _RADII for soft in (False, True)),
    Box: tuple(Box(length, vertical=vertical) for length in (1, 2, 8, 33, 300) for vertical in (False, True)),
    Line: tuple(
        Line(length, angle)
        for length in (0.0, 1.5, 4.0, 16.0, 21.0, 35.0, 60.0, 200.0)
        for angle in (0.0, 30.0, 90.0)
    ),
    Gaussian: tuple(Gaussian(sigma) for sigma in (0.0, 0.14, 0.3, 0.6, 1.0, 4.0, 20.0)),
    Shake: (Shake(0), Shake(0, "train")),
}
_EXAMPLES[OwnShake] = _EXAMPLES[Shake]

_prepared: set[tuple[type[Blur], torch.dtype]] = set()


def warmup() -> float:
    """Compile all that blurs on the CPU need, for images of every type, or load it from disk.

    Without it each loop is compiled when it is first needed: seconds each, once for a version of blurlib on
    one kind of machine. To be called when a container image is built (there ``blurlib warmup`` is the same),
    at the start of a service, or before processes that would all compile alike. The transforms and
    `BlurMixSampler` do it themselves, for what they draw, when they are made.

    Returns:
        The seconds that it took: tens where nothing was compiled before, else a fraction of one.

    Example:
        >>> seconds = warmup()
        >>> warmup() < 10
        True
    """
    start = time.perf_counter()
    named = (example.kernel() for examples in _EXAMPLES.values() for example in examples)
    dtypes = (torch.uint8, torch.float32, torch.float64)
    _blur_all(itertools.chain(named, _measured()), dtypes)
    _prepared.update(itertools.product(_EXAMPLES, dtypes))
    return time.perf_counter() - start


def prepare(kind: type[Blur], *, dtypes: Sequence[torch.dtype] = (torch.uint8, torch.float32)) -> None:
    """Compile what blurs of one kind need for images of these types; once in a process."""
    left = [dtype for dtype in dtypes if (kind, dtype) not in _prepared]
    if kind in _EXAMPLES and left:
        _blur_all((example.kernel() for example in _EXAMPLES[kind]), left)
        _prepared.update((kind, dtype) for dtype in left)


def kept_in() -> list[Path]:
    """The folders that this process's compiled loops were loaded from or written to; none if neither."""
    loops = [
        value for module in (_integers, _weighted, _boxes, _trajectories) for value in vars(module).values()
    ]
    folders = {loop.stats.cache_path for loop in loops if hasattr(loop, "stats")}
    return sorted(Path(folder) for folder in folders if folder is not None)


def _measured() -> Iterable[Tensor]:
    """Kernels as users bring them: dense, without any structure, of every size."""
    for side in (3, 9, 41, 151):
        # Weights without an order to the eye; drawing them would change somebody's random numbers.
        weights = torch.arange(1, side * side + 1, dtype=torch.float64).mul(0.618034).frac()
        yield (weights / weights.sum()).reshape(side, side)


def _blur_all(every_kernel: Iterable[Tensor], dtypes: Sequence[torch.dtype]) -> None:
    if config.DISABLE_JIT:
        return
    with torch.device("cpu"):  # whatever the user's default is
        images = [torch.zeros(3, 5, 5, dtype=dtype) for dtype in dtypes]
        broken = [image.clone() for image in images if image.is_floating_point()]
        for image in broken:
            image[0, 2, 2] = torch.nan  # takes another way around the FFT
        images += broken
        images += [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
        for kernel in every_kernel:
            for image in images:
                blur(image, kernel, border="zeros")  # the other borders are but other numbers
