"""Plots of records as SVG that takes its colours and type from the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...metrics import Metric
from .._comparison import Change
from .._text import label_text, value_text
from .page import REMEDY, Figure, markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# Stand-ins that matplotlib accepts as colours, and the page's colours that take their places in the SVG.
_COLOURS = {
    "#00000a": "var(--ink)",
    "#00000b": "var(--muted)",
    "#00000c": "var(--rule)",
    "#00000d": "var(--before)",
    "#00000e": "var(--after)",
    "#00000f": "var(--control)",
    "#000010": "var(--paper)",
}
_INK, _MUTED, _RULE, _BEFORE, _AFTER, _CONTROL, _PAPER = _COLOURS

# Shape and filling tell the networks apart, colour only helps.
_MARKS: dict[str, dict[str, Any]] = {
    "before": {"marker": "o", "markersize": 6.5, "color": _BEFORE, "mfc": _PAPER, "mew": 1.8},
    "control": {"marker": "D", "markersize": 5, "color": _CONTROL, "mfc": _PAPER, "mew": 1.5},
    "after": {"marker": "o", "markersize": 7, "color": _AFTER},
}

_POINTS = 150  # of a drawn curve


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


def curves_figure(rows: Sequence[Row], metrics: Sequence[Metric], *, level: float = 0.95) -> Figure:
    """Metrics under each blur, before and after.

    Args:
        rows: one a condition.
        metrics: a panel each, the main one first.
        level: of the intervals.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no row.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> row = Row(label="D8", blur="D8", sides=(64,), values={"after": {"miou": 0.5}})
        >>> curves_figure([row], [Metric(name="miou", title="mIoU", label="mean IoU")]).alt
        'Mean IoU. D8: mIoU 50.0 %.'
    """
    if not len(rows):
        raise ValueError("`rows` must hold at least one condition, got none")
    main = metrics[0]
    roles = roles_in(row.values for row in rows)
    caption = " ".join(
        f"{'Higher' if metric.better > 0 else 'Lower'} {metric.label} is better."
        for metric in metrics
        if metric.better
    )
    if len(roles) > 1 and any(row.changes for row in rows):
        base = "control" if "control" in roles else "value before"
        caption += f" Thin blue lines: {100 * level:g} % intervals of the change from the {base}."
    words = {role: f" {role}" if len(roles) > 1 else "" for role in roles}
    texts = [
        f"{row.label}: {main.title} "
        + ", ".join(
            f"{value_text(main, row.value(role, main.name), unit=True)}{words[role]}"
            for role in roles
            if role in row.values
        )
        for row in rows
    ]
    panels = {
        f"{label_text(metric)}, {'%' if metric.unit == 'percent' else 'nats'}": _panel(rows, metric)
        for metric in metrics
    }
    return _plots(roles, panels, f"{', '.join(map(label_text, metrics))}. {'; '.join(texts)}.", caption)


def risk_figure(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """What a network gets wrong of the images that it is surest of, under each blur, before and after.

    Args:
        curves: for each condition, by its name, the curves of "after" and perhaps "before" and "control":
            (N,) share of errors among the n surest images, n = 1 to N.

    Returns:
        The figure, a panel a condition, all on one scale.

    Raises:
        ValueError: if there is no condition, or an empty curve.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> risk_figure({"D8": {"after": np.array([0.0, 0.0, 0.0, 0.25])}}).alt
        'Share of errors among the surest images. D8: 0.0 % of the surest half, 25.0 % of all.'
    """
    every = [curve for found in curves.values() for curve in found.values()]
    if not every or not all(len(curve) for curve in every):
        raise ValueError("`curves` must hold at least one condition, and no empty curve")
    roles = roles_in(curves.values())
    top = max(1.0, *(100 * float(curve[_shown_from(curve) :].max()) for curve in every))
    texts = []
    for name, found in curves.items():
        shares = {role: (curve[-(-len(curve) // 2) - 1], curve[-1]) for role, curve in found.items()}
        texts.append(
            f"{name}: "
            + ", ".join(
                f"{100 * half:.1f} % of the surest half, {100 * whole:.1f} % of all"
                + (f" {role}" if len(roles) > 1 else "")
                for role, (half, whole) in shares.items()
            )
        )
    return _plots(
        roles,
        {name: _risk_panel(found, top) for name, found in curves.items()},
        f"Share of errors among the surest images. {'; '.join(texts)}.",
        "Errors in percent (upwards) among the images that the network is surest of, by their share in "
        "percent (to the right): at 100 it answers for all. A network that knows its errors rises late.",
    )


def roles_in(found: Iterable[Container[str]]) -> list[str]:
    """Which of the networks were measured under any condition, in the order of tables and legends."""
    every = list(found)
    return [role for role in _MARKS if any(role in each for each in every)]


def _plots(roles: list[str], panels: Mapping[str, str], alt: str, caption: str) -> Figure:
    shown = [{"title": title, "svg": svg} for title, svg in panels.items()]
    return Figure(image=markup("plots", roles=roles, panels=shown), alt=alt, caption=caption, wide=True)


def _shown_from(curve: np.ndarray) -> int:
    """The first point drawn: of fewer images than a twentieth one error more or less is a jump."""
    return len(curve) // 20


def _risk_panel(found: Mapping[str, np.ndarray], top: float) -> str:
    drawing, axes = _axes(2.6)
    for role, style in _MARKS.items():
        if role in found:
            curve = found[role]
            first = _shown_from(curve)
            points = np.unique(np.linspace(first, len(curve) - 1, _POINTS).round().astype(int))
            axes.plot(
                100 * (points + 1) / len(curve),
                100 * curve[points],
                color=style["color"],
                linewidth=1.8,
                linestyle="--" if role == "control" else "-",
            )
            axes.plot([100.0], [100 * curve[-1]], clip_on=False, zorder=4, **style)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.06 * top)
    _plain(axes)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    return _svg(drawing)


def _axes(height: float) -> tuple[Drawing, Axes]:
    try:
        from matplotlib.figure import Figure as Drawing
    except ImportError as error:
        raise ImportError(f"plots need matplotlib, which is not installed; {REMEDY}") from error
    drawing = Drawing(figsize=(4.0, height), layout="constrained")
    return drawing, drawing.add_subplot()


def _panel(rows: Sequence[Row], metric: Metric) -> str:
    """One metric under every blur as a dot plot: a blur a line, a network a dot."""
    drawing, axes = _axes(0.55 + 0.29 * len(rows))
    factor = 100.0 if metric.unit == "percent" else 1.0
    largest = 0.0
    for place, row in enumerate(rows):
        known = {role: row.value(role, metric.name) for role in _MARKS}
        found = {role: factor * value for role, value in known.items() if value is not None}
        largest = max([largest, *found.values()])
        if "before" in found and "after" in found:
            axes.plot([found["before"], found["after"]], [place] * 2, color=_RULE, linewidth=4, zorder=2)
        change = row.changes.get(metric.name)
        interval = None if change is None else change.difference_interval
        base = found.get("control", found.get("before"))
        if interval is not None and base is not None and np.isfinite(interval).all():
            ends = [base + factor * end for end in interval]
            axes.plot(ends, [place] * 2, color=_AFTER, linewidth=1.2, marker="|", markersize=6, zorder=3)
            largest = max(largest, *ends)
        for role, value in found.items():
            axes.plot([value], [place], zorder=4, **_MARKS[role])
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(0, max(100.0, largest) if metric.unit == "percent" else 1.06 * largest or 1.0)
    _plain(axes)
    return _svg(drawing)


def _plain(axes: Axes) -> None:
    """No frame, faint lines, labels that are text and never formulas."""
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9.5, pad=5, colors=_MUTED)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
        label.set_color(_INK)


def _svg(drawing: Drawing) -> str:
    """The drawing as SVG that lives inside a page: its colours, its type, names of its own."""
    import matplotlib as mpl

    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blurlib", "font.family": ["sans-serif"]}):
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", '<svg aria-hidden="true"', 1)  # its words are in the figure's `alt`
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # Several drawings share a page, where a name may occur once only.
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>b{own}-", svg)
    return re.sub(r">\s+<", "><", svg).strip()
