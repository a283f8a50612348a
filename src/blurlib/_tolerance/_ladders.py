"""The sizes of each kind of blur, and the metric at those that a report has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..blurs import Blur, Disk, Gaussian, PerImageLine, PerImageShake
from ..notation import is_short_name, parse
from ..reporting import Report
from ._curves import crossings

_INNER = 4  # sizes that are measured between two of the ladder


@dataclass(frozen=True)
class Ladder:
    """The sizes of a kind.

    Attributes:
        measure: what of the blur is its size, in words.
        blur: of a size.
        field: of the blur that is the size.
        sizes: coarse ones, each about twice the one before.
        step: all sizes differ from the first one by multiples of it.
        least: the smallest size that blurs.
    """

    measure: str
    blur: Callable[[float], Blur]
    field: str
    sizes: tuple[float, ...]
    step: float
    least: float

    def size(self, blur: Blur) -> float | None:
        """The size of a blur of this kind; None of another kind."""
        return float(getattr(blur, self.field)) if type(blur) is type(self.blur(self.sizes[0])) else None

    def between(self, low: float, high: float) -> list[float]:
        """A few evenly spaced sizes within two."""
        numbers = {round((size - self.sizes[0]) / self.step) for size in np.linspace(low, high, _INNER + 2)}
        sizes = sorted(self.sizes[0] + number * self.step for number in numbers)
        return [size for size in sizes if max(low, self.least - 1e-9) < size < high]


LADDERS: dict[str, Ladder] = {
    "defocus": Ladder(
        "disk, radius", lambda size: Disk(size, antialias=True), "radius", (1, 2, 4, 8, 16, 32), 0.25, 0.75
    ),
    "motion": Ladder("line, length", PerImageLine, "length", (2, 4, 8, 16, 32, 64), 0.5, 1.5),
    "shake": Ladder(
        "camera shake, side", lambda size: PerImageShake(round(size)), "size", (5, 9, 17, 33, 65, 129), 2, 5
    ),
    "gaussian": Ladder("Gaussian, sigma", Gaussian, "sigma", (0.5, 1, 2, 4, 8, 16), 0.125, 0.25),
}


class Measured(NamedTuple):
    """The sizes of a kind that a report has, rising from 0, with the blurs' names and the metric at each."""

    ladder: Ladder
    sizes: list[float]
    names: list[str]
    values: list[float]

    def crossing(self, target: float) -> float:
        """Where the curve crosses the target; infinite where it does not."""
        values = np.array([self.values])
        return float(crossings(self.sizes, values, target * values[:, 0])[0])


def measured(report: Report, kind: str) -> Measured:
    """The main metric of a report at the sizes of a kind; sharp is of every kind."""
    ladder, metric = LADDERS[kind], report.statistics.metrics[0].name
    found = {}
    for name in report.blurs:
        size = 0.0 if name == "sharp" else ladder.size(parse(name)) if is_short_name(name) else None
        if size is not None:
            found[size] = name
    if len(found) < 2 or 0.0 not in found:
        raise ValueError(
            f"`report` must have sharp images and sizes of {kind}, such as {ladder.blur(ladder.sizes[2])}, "
            f"got {', '.join(report.blurs)}; evaluate these too"
        )
    sizes = sorted(found)
    names = [found[size] for size in sizes]
    return Measured(ladder, sizes, names, [getattr(report[name], metric) for name in names])
