"""What a reproduction costs: pieces of work, counted in views that a network is shown, and their time."""

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
    """A piece of work: a fine-tuning, or an evaluation of one network.

    Attributes:
        what: in words.
        views: how many views the network is trained on or shown, by the side of the view in px.
        training: whether it is trained on them.
        done: whether an earlier run has done it.
        restored: how many images are deblurred first, by method.

    Example:
        >>> Job(what="fine-tuning D4-256", views={224: 3_843_501}, training=True, done=False).count
        3843501
    """

    what: str
    views: Mapping[int, int]
    training: bool
    done: bool
    restored: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """All views."""
        return sum(self.views.values())


def seconds_a_view(
    model: nn.Module, *, side: int, training: bool, device: torch.device, count: int = 8
) -> float:
    """What one view takes a network, from a few steps on noise; the network is not touched.

    Args:
        model: the network.
        side: of the views in px.
        training: forwards and backwards, in training mode.
        device: where.
        count: views at once.

    Returns:
        Seconds a view, of the fastest of three steps.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> seconds_a_view(network, side=32, training=True, device=torch.device("cpu")) > 0
        True
    """
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
    """What deblurring one image takes, from a small one of noise.

    Args:
        method: (image, kernel) to image.
        side: shorter side of the images in px; the longer one is taken as 4/3 of it.
        part: the image that is timed has its sides divided by this.

    Returns:
        Seconds an image, the larger area reckoned in.

    Example:
        >>> seconds_a_restoring(lambda image, kernel: image, side=64) >= 0
        True
    """
    image = torch.randint(0, 256, (3, max(8, side // part), max(8, side * 4 // 3 // part)), dtype=torch.uint8)
    best = math.inf
    for _ in range(2):  # the first call compiles, and loads what is needed
        started = time.perf_counter()
        method(image, disk(side / part / 48))
        best = min(best, time.perf_counter() - started)
    return best * part**2


def cost_table(
    parts: Sequence[Job],
    speeds: Mapping[bool, float],
    *,
    side: int,
    restoring: Mapping[str, float] | None = None,
) -> str:
    """Pieces of work with their views and times.

    Args:
        parts: the work.
        speeds: seconds a view of `side`, by whether the network is trained on it.
        side: of the views that were timed, in px; another side costs by its area.
        restoring: seconds an image of the methods that deblur.

    Returns:
        A table of text: a line a piece, those that are done named as such, and the sum of the others.

    Example:
        >>> part = Job(what="evaluating original", views={112: 100}, training=False, done=False)
        >>> print(cost_table([part], {False: 2.0}, side=224))
                             views  about
        -------------------  -----  -----
        evaluating original    100   50 s
        together               100   50 s
    """
    rows, total = [], 0.0
    for part in parts:
        seconds = sum(
            count * speeds[part.training] * (seen / side) ** 2 for seen, count in part.views.items()
        )
        seconds += sum(count * (restoring or {}).get(method, 0.0) for method, count in part.restored.items())
        total += 0.0 if part.done else seconds
        rows.append([part.what, f"{part.count:,}", "done" if part.done else _duration(seconds)])
    rows.append(["together", f"{sum(part.count for part in parts if not part.done):,}", _duration(total)])
    return plain_table(["", "views", "about"], rows)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
