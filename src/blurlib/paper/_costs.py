"""What a reproduction costs: jobs, counted in views that a network is shown, and their time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..deblurring import Deblur
from ..kernels import disk
from ..reporting import plain_table


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fine-tuning, or an evaluation of one network.

    `views` is how many views the network is trained on or shown, by the side of the view in px; `restored`
    how many images are deblurred first, by method; `done` whether an earlier run has done it.
    """

    what: str
    views: Mapping[int, int]
    training: bool
    done: bool
    restored: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of views."""
        return sum(self.views.values())


def seconds_a_view(
    model: nn.Module, *, side: int, training: bool, device: torch.device, count: int = 8
) -> float:
    """Seconds that a network takes for one view: the fastest of three steps on noise, on a copy of it."""
    network = copy.deepcopy(model).to(device).train(training)
    views = torch.rand(count, 3, side, side, device=device)
    best = math.inf
    with torch.set_grad_enabled(training):
        for _ in range(3):
            started = time.perf_counter()
            result = network(views)
            value = (result["out"] if isinstance(result, Mapping) else result).float().sum()
            if training:
                value.backward()
            value.item()  # waits for the device
            best = min(best, time.perf_counter() - started)
    return best / count


def seconds_a_restoring(method: Deblur, *, side: int, part: int = 4) -> float:
    """Seconds that deblurring takes for an image of `side` x 4/3 `side` px, from one of a `part` of these."""
    image = torch.randint(0, 256, (3, max(8, side // part), max(8, side * 4 // 3 // part)), dtype=torch.uint8)
    best = math.inf
    for _ in range(2):  # the first call loads what is needed
        started = time.perf_counter()
        method(image, disk(side / part / 48))
        best = min(best, time.perf_counter() - started)
    return best * part**2


def cost_table(
    jobs: Sequence[Job],
    speeds: Mapping[bool, float],
    *,
    side: int,
    restoring: Mapping[str, float] | None = None,
) -> str:
    """Jobs with their views and times, as a table of text.

    `speeds` are seconds per view of `side` px, by whether the network is trained on it; a view of another
    side costs by its area. `restoring` are seconds per image of the deblurring methods.
    """
    rows, total = [], 0.0
    for job in jobs:
        seconds = sum(count * speeds[job.training] * (seen / side) ** 2 for seen, count in job.views.items())
        seconds += sum(count * (restoring or {}).get(method, 0.0) for method, count in job.restored.items())
        total += 0.0 if job.done else seconds
        rows.append([job.what, f"{job.count:,}", "done" if job.done else _duration(seconds)])
    rows.append(["total", f"{sum(job.count for job in jobs if not job.done):,}", _duration(total)])
    return plain_table(["job", "views", "time"], rows)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
