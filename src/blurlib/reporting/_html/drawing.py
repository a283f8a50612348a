"""What is drawn on matplotlib's axes, for pages and for :meth:`Report.plot` alike."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...metrics import Metric
from .._comparison import Change
from .page import REMEDY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_POINTS = 150  # of a drawn curve
FEWEST = 5  # images of a bin that is drawn: the accuracy of fewer is noise

ROLES = ("before", "control", "after")


class Palette(NamedTuple):
    """Colours by what they are for; the page has stand-ins for its own."""

    ink: str = "#1b1d20"
    muted: str = "#5a6068"
    rule: str = "#dcdbd4"
    before: str = "#b8500a"
    after: str = "#1766a6"
    control: str = "#666b72"
    paper: str = "#ffffff"

    @property
    def marks(self) -> dict[str, dict[str, Any]]:
        """How each network is drawn: shape and filling tell them apart, colour only helps."""
        return {
            "before": {"marker": "o", "markersize": 6.5, "color": self.before, "mfc": self.paper, "mew": 1.8},
            "control": {"marker": "D", "markersize": 5, "color": self.control, "mfc": self.paper, "mew": 1.5},
            "after": {"marker": "o", "markersize": 7, "color": self.after},
        }


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured under one condition.

    Attributes:
        label: of the condition, such as "D8" or "D8 at 256".
        blur: short name.
        sides: network sides.
        values: by role ("after", perhaps "before" and "control") and metric; None where not defined.
        changes: of each metric, where the networks were compared.
    """

    label: str
    blur: str
    sides: tuple[int, ...]
    values: Mapping[str, Mapping[str, Any]]
    changes: Mapping[str, Change] = field(default_factory=dict)

    def value(self, role: str, name: str) -> float | None:
        """The value of a metric; None where it was not measured or is not defined."""
        value: float | None = self.values.get(role, {}).get(name)
        return value


@dataclass(frozen=True, kw_only=True)
class Point:
    """A metric of one network at one size of blur.

    Attributes:
        size: in px, 0 for sharp.
        value: of the metric.
        interval: its ends; None where it is not known.
    """

    size: float
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where the curve of a network meets a value.

    Attributes:
        value: of the metric.
        size: in px; None where the curve does not meet it.
        interval: of the size, its ends.
    """

    value: float
    size: float | None
    interval: tuple[float, float] | None = None


def new_drawing(width: float, height: float) -> Drawing:
    """An empty figure of so many inches, outside of pyplot."""
    return _canvas()(figsize=(width, height), layout="constrained")


def new_panel() -> tuple[Drawing, Axes]:
    """A figure of one plot with room for short labels: without a layout to compute it is twice as fast."""
    drawing = _canvas()(figsize=(4.0, 2.6))
    return drawing, drawing.add_axes((0.105, 0.115, 0.865, 0.855))


def _canvas() -> type[Drawing]:
    try:
        importlib.import_module("matplotlib.figure")
        from .canvas import Canvas
    except ImportError as error:
        raise ImportError(f"plots need matplotlib, which is not installed; {REMEDY}") from error
    return Canvas


def dots_height(rows: Sequence[Row]) -> float:
    """Inches of a dot plot."""
    return 0.55 + 0.29 * len(rows)


def draw_dots(axes: Axes, rows: Sequence[Row], metric: Metric, palette: Palette) -> None:
    """One metric under every blur as a dot plot: a blur a line, a network a dot."""
    factor = _factor(metric)
    largest = 0.0
    for place, row in enumerate(rows):
        known = {role: row.value(role, metric.name) for role in ROLES}
        found = {role: factor * value for role, value in known.items() if value is not None}
        largest = max([largest, *found.values()])
        if "before" in found and "after" in found:
            axes.plot([found["before"], found["after"]], [place] * 2, color=palette.rule, lw=4, zorder=2)
        change = row.changes.get(metric.name)
        interval = None if change is None else change.difference_interval
        base = found.get("control", found.get("before"))
        if interval is not None and base is not None and np.isfinite(interval).all():
            ends = [base + factor * end for end in interval]
            axes.plot(ends, [place] * 2, color=palette.after, lw=1.2, marker="|", markersize=6, zorder=3)
            largest = max(largest, *ends)
        for role, value in found.items():
            axes.plot([value], [place], zorder=4, **palette.marks[role])
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(0, _top(metric, largest))
    _plain(axes, palette)


def draw_sizes(
    axes: Axes,
    curves: Mapping[str, Sequence[Point]],
    metric: Metric,
    palette: Palette,
    crossings: Mapping[str, Crossing] | None = None,
) -> None:
    """A metric against the size of a blur: a line a network, its interval a band, perhaps a crossing."""
    factor = _factor(metric)
    largest = 0.0
    for role, points in curves.items():
        style = palette.marks[role]
        sizes = [point.size for point in points]
        values = [factor * point.value for point in points]
        axes.plot(sizes, values, lw=1.8, ls=_line(role), clip_on=False, zorder=4, **style)
        if all(point.interval is not None for point in points):
            low, high = zip(*(point.interval for point in points if point.interval), strict=True)
            below, above = factor * np.array(low), factor * np.array(high)
            axes.fill_between(sizes, below, above, color=style["color"], alpha=0.16, lw=0, zorder=3)
            largest = max(largest, float(above.max()))
        largest = max(largest, *values)
    for role, crossing in (crossings or {}).items():
        colour, height = palette.marks[role]["color"], factor * crossing.value
        end = curves[role][-1].size if crossing.size is None else crossing.size
        axes.plot([0, end], [height] * 2, color=colour, lw=1, ls=":", zorder=5)
        if crossing.size is not None:
            axes.plot([end] * 2, [0, height], color=colour, lw=1, ls=":", zorder=5)
        if crossing.interval is not None:
            axes.plot(crossing.interval, [height] * 2, color=colour, lw=1.2, marker="|", ms=7, zorder=5)
    sizes = sorted({point.size for points in curves.values() for point in points})
    ticks = _apart(sizes, 0.07 * sizes[-1])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.04 * _top(metric, largest))
    _plain(axes, palette, along="y")


def _apart(sizes: Sequence[float], least: float) -> list[float]:
    """Those sizes, from the largest on, that lie so far apart that their labels do not touch."""
    kept: list[float] = []
    for size in reversed(sizes):
        if not kept or kept[-1] - size >= least:
            kept.append(size)
    return kept[::-1]


def draw_risk(axes: Axes, found: Mapping[str, np.ndarray], top: float, palette: Palette) -> None:
    """Risk-coverage curves; `top` is the largest percentage shown."""
    for role in ROLES:
        if role in found:
            curve = found[role]
            points = np.unique(np.linspace(shown_from(curve), len(curve) - 1, _POINTS).round().astype(int))
            style = palette.marks[role]
            axes.plot(
                100 * (points + 1) / len(curve),
                100 * curve[points],
                color=style["color"],
                lw=1.8,
                ls=_line(role),
            )
            axes.plot([100.0], [100 * curve[-1]], clip_on=False, zorder=4, **style)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.06 * top)
    _plain(axes, palette, along="y")


def shown_from(curve: np.ndarray) -> int:
    """The first point drawn: of fewer images than a twentieth one error more or less is a jump."""
    return len(curve) // 20


def draw_reliability(axes: Axes, found: Mapping[str, np.ndarray], palette: Palette) -> None:
    """Accuracy against confidence, bins of some images only; the diagonal is where both agree.

    `found` has for each network (3, bins): number of images, mean confidence, accuracy.
    """
    axes.plot([0, 100], [0, 100], color=palette.muted, lw=1, ls=":", zorder=2)
    for role in ROLES:
        if role in found:
            total = found[role][0].sum()
            count, confidence, accuracy = found[role][:, found[role][0] >= min(FEWEST, total)]
            style = palette.marks[role]
            axes.plot(
                100 * confidence, 100 * accuracy, color=style["color"], lw=1.4, ls=_line(role), zorder=3
            )
            # As large as the share of the images, for a bin of two images says little.
            axes.scatter(
                100 * confidence,
                100 * accuracy,
                s=12 + 90 * count / total,
                marker=style["marker"],
                facecolor=style.get("mfc", style["color"]),
                edgecolor=style["color"],
                linewidth=1.5,
                clip_on=False,
                zorder=4,
            )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 104)
    _plain(axes, palette, along="y")


def add_legend(drawing: Drawing, roles: Sequence[str], palette: Palette) -> None:
    """What each mark is, above a figure."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], ls=_line(role), label=role, **palette.marks[role]) for role in roles]
    drawing.legend(handles=handles, loc="outside upper left", ncols=len(roles), frameon=False)


def _line(role: str) -> str:
    return "--" if role == "control" else "-"


def _factor(metric: Metric) -> float:
    return 100.0 if metric.unit == "percent" else 1.0


def _top(metric: Metric, largest: float) -> float:
    return max(100.0, largest) if metric.unit == "percent" else 1.06 * largest or 1.0


def _plain(axes: Axes, palette: Palette, along: str = "x") -> None:
    """No frame, faint lines, labels that are text and never formulas."""
    axes.spines[:].set_visible(False)
    axes.grid(axis=along, color=palette.rule, linewidth=0.8)  # type: ignore[arg-type]  # "x" or "y"
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9.5, pad=5, colors=palette.muted)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
        if along == "x":  # names of conditions
            label.set_color(palette.ink)
