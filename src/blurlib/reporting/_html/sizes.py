"""A metric against the size of a blur, for each family of blurs in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ... import metrics
from ...blurs import Blur, Box, Disk, Gaussian, Line, PerImageLine, PerImageShake, number_text
from ...notation import is_short_name, parse
from .._records import Record
from .._text import sides_text
from .drawing import Crossing, Point

if TYPE_CHECKING:
    from .._report import Report

_Key = tuple[str, str, tuple[int, ...]]  # role and condition


@dataclass(frozen=True, kw_only=True)
class Family:
    """Blurs that differ in their size alone, at one scale.

    Attributes:
        title: such as "disk, radius in px".
        curves: for each metric and network the points, the smallest size first; sharp is 0.
        crossings: where the main metric of each network meets a value, to be marked.
    """

    title: str
    curves: Mapping[str, Mapping[str, Sequence[Point]]]
    crossings: Mapping[str, Crossing] = field(default_factory=dict)


def families(reports: Mapping[str, Report], *, level: float = 0.95) -> list[Family]:
    """The families of which a report has two sizes or more, for each network that was measured.

    Args:
        reports: by role; "after" is the one whose conditions are taken.
        level: of the intervals, bootstraps over images; none of a report that was loaded without its images.

    Returns:
        The families, in the order of the report.
    """
    own = reports["after"]
    plotted = [metric for metric in own.statistics.metrics if metric.plotted]
    grouped: dict[tuple[str, tuple[int, ...]], dict[float, str]] = {}
    for record in own.records:
        title, size = _family(record.blur)
        if title:
            grouped.setdefault((title, record.sides), {})[size] = record.blur
    grouped = {key: dict(sorted(sizes.items())) for key, sizes in grouped.items() if len(sizes) > 1}
    several = len({record.sides for record in own.records}) > 1
    records: dict[_Key, Record] = {
        (role, record.blur, record.sides): record
        for role, report in reports.items()
        for record in report.records
    }
    chosen: dict[tuple[str, tuple[int, ...]], dict[str, dict[float, _Key]]] = {}
    for (title, sides), sizes in grouped.items():
        for role in reports:
            keys = {size: (role, blur, sides) for size, blur in ({0.0: "sharp"} | sizes).items()}
            there = {size: key for size, key in keys.items() if key in records}
            if len(there) > 1:
                chosen.setdefault((title, sides), {})[role] = there
    intervals = _intervals(
        records, {key for one in chosen.values() for k in one.values() for key in k.values()}, level
    )
    found = []
    for (title, sides), roles in chosen.items():
        where = f" at {sides_text(sides, own.statistics.between_sides)}" if several else ""
        curves: dict[str, dict[str, list[Point]]] = {}
        for metric in plotted:
            for role, keys in roles.items():
                points = [
                    Point(size=size, value=value, interval=intervals.get(key, {}).get(metric.name))
                    for size, key in keys.items()
                    if (value := records[key].values[metric.name]) is not None
                ]
                if points:
                    curves.setdefault(metric.name, {})[role] = points
        found.append(Family(title=f"{title}{where}", curves=curves))
    return found


def _intervals(
    records: Mapping[_Key, Record], keys: set[_Key], level: float
) -> dict[_Key, dict[str, tuple[float, float]]]:
    groups: dict[int, dict[_Key, list[metrics.Statistics]]] = {}
    for key in keys:  # those of as many images share a resampling
        images = records[key].images
        if images is not None:
            groups.setdefault(len(images), {})[key] = [images]
    return {
        key: {name: metrics.interval(draws, level=level) for name, draws in found.draws.items()}
        for group in groups.values()
        for key, found in metrics.averaged(group).items()
    }


def _family(name: str) -> tuple[str, float]:
    """What blurs have in common that differ in size only, and the size; "" where there is no such family."""
    if not is_short_name(name):
        return "", 0.0
    blur: Blur = parse(name)
    match blur:
        case Disk(radius, antialias):
            return f"defocus disk{', antialiased' if antialias else ''}, radius in px", radius
        case Box(length, vertical):
            return f"{'vertical' if vertical else 'horizontal'} motion, length in px", float(length)
        case Line(length, angle):
            return f"straight motion at {number_text(angle)}°, length in px", length
        case PerImageLine(length):
            return "straight motion at any angle, length in px", length
        case Gaussian(sigma):
            return "Gaussian, sigma in px", sigma
        case PerImageShake(size):
            return "camera shake, side in px", float(size)
    return "", 0.0
