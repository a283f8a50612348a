"""The engine's ideas in plain torch, as well as we can write them; nobody ships these.

Each function takes a kernel and returns a function of CHW images (uint8 or float32, border `reflect`), or
None where the idea does not fit the kernel. Planes go one by one, because a plane stays in the cache where an
image does not: 1.2 to 1.6 times as fast.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Blurring = Callable[[Tensor], Tensor]
MOST_SHIFTS = 400  # seconds beyond


def running_sums(kernel: Tensor) -> Blurring | None:
    """Flat kernels: cumulative sums along rows (or columns), and two differences a row of the kernel."""
    count = int(torch.count_nonzero(kernel))
    if not bool((kernel[kernel > 0] == kernel.max()).all()):
        return None
    across, down = _runs(kernel), _runs(kernel.T)
    if across is None or down is None:
        return None
    along_rows = len(across) <= len(down)
    runs = across if along_rows else down

    def sums(plane: Tensor, kind: torch.dtype) -> Tensor:
        height, width = plane.shape
        around = _around(plane.to(kind), kernel)
        total = F.pad(around, (1, 0) if along_rows else (0, 0, 1, 0)).cumsum(int(along_rows), dtype=kind)
        result: Tensor | None = None
        for line, start, stop in runs:
            for edge, sign in ((stop, 1), (start, -1)):
                y, x = (line, edge) if along_rows else (edge, line)
                part = total[y : y + height, x : x + width]
                result = part.clone() if result is None else result.add_(part, alpha=sign)
        assert result is not None
        return result

    return _planes(sums, count)


def shifts(kernel: Tensor, most: int = MOST_SHIFTS) -> Blurring | None:
    """Sparse kernels: one shifted, weighted copy of the image a tap, of `most` taps."""
    taps = torch.nonzero(kernel.flip(0, 1)).tolist()
    if len(taps) > most:
        return None
    weights = [float(kernel.flip(0, 1)[y, x]) for y, x in taps]
    flat = len(set(weights)) == 1

    def sums(plane: Tensor, kind: torch.dtype) -> Tensor:
        height, width = plane.shape
        around = _around(plane.to(kind), kernel)
        parts = (around[y : y + height, x : x + width] for y, x in taps)
        if flat:
            result = next(parts).clone()
            for part in parts:
                result.add_(part)
            return result
        result = next(parts) * weights[0]
        for part, weight in zip(parts, weights[1:], strict=True):
            result.add_(part, alpha=weight)
        return result

    return _planes(sums, len(taps) if flat else None)


def separable_shifts(kernel: Tensor) -> Blurring | None:
    """Rank-one kernels with two sides: shifted copies along columns, then along rows."""
    factors = rank_one(kernel)
    if factors is None:
        return None
    down, across = (list(reversed(factor.tolist())) for factor in factors)

    def sums(plane: Tensor, kind: torch.dtype) -> Tensor:
        height, width = plane.shape
        result = _around(plane.to(kind), kernel)
        for weights, dim, size in ((down, 0, height), (across, 1, width)):
            source, result = result, result.narrow(dim, 0, size) * weights[0]
            for place, weight in enumerate(weights[1:], 1):
                result.add_(source.narrow(dim, place, size), alpha=weight)
        return result

    return _planes(sums, None)


def rank_one(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """The column and the row whose product is the kernel, or None."""
    down, across = kernel.sum(1), kernel.sum(0)
    if min(kernel.shape) == 1 or not torch.allclose(torch.outer(down, across), kernel, rtol=0, atol=1e-12):
        return None
    return down, across


def _runs(kernel: Tensor) -> list[tuple[int, int, int]] | None:
    """(row, start, stop) of the taps in each row of the flipped kernel, or None if a row has a gap."""
    runs = []
    for y, row in enumerate(kernel.flip(0, 1)):
        places = torch.nonzero(row)[:, 0].tolist()
        if places and places[-1] - places[0] + 1 != len(places):
            return None
        if places:
            runs.append((y, places[0], places[-1] + 1))
    return runs


def _around(plane: Tensor, kernel: Tensor) -> Tensor:
    y, x = kernel.shape[0] // 2, kernel.shape[1] // 2
    return F.pad(plane[None, None], (x, x, y, y), mode="reflect")[0, 0]


def _planes(sums: Callable[[Tensor, torch.dtype], Tensor], count: int | None) -> Blurring:
    """Blur plane by plane; `count` equal taps (None: the sums are weighted already)."""

    def run(image: Tensor) -> Tensor:
        return torch.stack([plane_of(plane) for plane in image])

    def plane_of(plane: Tensor) -> Tensor:
        if count is None:
            result = sums(plane, torch.float32)
            return result.add_(0.5).to(torch.uint8) if plane.dtype == torch.uint8 else result
        if plane.dtype != torch.uint8:
            return sums(plane, plane.dtype).mul_(1 / count)
        if count <= 257:  # modulo 2**16 the sums of so many bytes are exact, at half the traffic
            result = sums(plane, torch.int16).view(torch.uint16).float()
        else:
            result = sums(plane, torch.int32).float()
        return result.mul_(1 / count).add_(0.5).to(torch.uint8)

    return run
