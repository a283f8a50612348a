"""Plots of records as SVG that takes its colours and type from the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._text import sides_text
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


def curves_figure(rows: Sequence[Mapping[str, Any]], *, level: float = 0.95) -> Figure:
    """Accuracy, entropy and cross-entropy under each blur, before and after.

    Args:
        rows: one a condition, with `blur` (short name) and `after`, a mapping with `top1` (fraction),
            `entropy` and `cross_entropy` (nats). Optional: `before` and `control` likewise; `intervals`, a
            mapping from metric to (low, high) of after minus control, or before if there is no control;
            `sides`, named where they differ.
        level: of the intervals.

    Returns:
        The figure, a panel a metric.

    Raises:
        ValueError: if there is no row.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> values = {"top1": 0.5, "entropy": 1.0, "cross_entropy": 2.0}
        >>> curves_figure([{"blur": "D8", "before": None, "after": values}]).alt
        'Top-1 accuracy, Entropy, Cross-entropy. D8: top-1 50.0 %.'
    """
    if not len(rows):
        raise ValueError("`rows` must hold at least one condition, got none")
    several = len({tuple(row.get("sides") or ()) for row in rows}) > 1
    labels = [
        f"{row['blur']} at {sides_text(row['sides'])}" if several and row.get("sides") else str(row["blur"])
        for row in rows
    ]
    panels = [("top1", "Top-1 accuracy", "%"), ("entropy", "Entropy", "nats")]
    if all("cross_entropy" in row["after"] for row in rows):
        panels.append(("cross_entropy", "Cross-entropy", "nats"))
    roles = [role for role in _MARKS if any(row.get(role) for row in rows)]
    caption = (
        "Higher accuracy is better, lower cross-entropy is better; entropy tells how unsure the network is."
    )
    if len(roles) > 1 and any(row.get("intervals") for row in rows):
        base = "control" if "control" in roles else "value before"
        caption += f" Thin blue lines: {100 * level:g} % intervals of the change from the {base}."
    words = {role: f" {role}" if len(roles) > 1 else "" for role in roles}
    told = [
        f"{label}: top-1 "
        + ", ".join(f"{100 * row[role]['top1']:.1f} %{words[role]}" for role in roles if row.get(role))
        for label, row in zip(labels, rows, strict=True)
    ]
    return Figure(
        image=markup(
            "plots",
            roles=roles,
            panels=[
                {"title": f"{title}, {unit}", "svg": _panel(rows, labels, metric)}
                for metric, title, unit in panels
            ],
        ),
        alt=f"{', '.join(title for _, title, _ in panels)}. {'; '.join(told)}.",
        caption=caption,
        wide=True,
    )


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
    roles = [role for role in _MARKS if any(role in found for found in curves.values())]
    top = max(1.0, *(100 * float(curve[_shown_from(curve) :].max()) for curve in every))
    told = []
    for name, found in curves.items():
        shares = {role: (curve[-(-len(curve) // 2) - 1], curve[-1]) for role, curve in found.items()}
        told.append(
            f"{name}: "
            + ", ".join(
                f"{100 * half:.1f} % of the surest half, {100 * whole:.1f} % of all"
                + (f" {role}" if len(roles) > 1 else "")
                for role, (half, whole) in shares.items()
            )
        )
    return Figure(
        image=markup(
            "plots",
            roles=roles,
            panels=[{"title": name, "svg": _risk_panel(found, top)} for name, found in curves.items()],
        ),
        alt=f"Share of errors among the surest images. {'; '.join(told)}.",
        caption=(
            "Errors in percent (upwards) among the images that the network is surest of, by their share in "
            "percent (to the right): at 100 it answers for all. A network that knows its errors rises late."
        ),
        wide=True,
    )


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


def _panel(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], metric: str) -> str:
    """One metric under every blur as a dot plot: a blur a line, a network a dot."""
    drawing, axes = _axes(0.55 + 0.29 * len(rows))
    factor = 100.0 if metric == "top1" else 1.0
    largest = 0.0
    for place, row in enumerate(rows):
        found = {role: factor * row[role][metric] for role in _MARKS if row.get(role) and metric in row[role]}
        largest = max(largest, *found.values())
        if "before" in found:
            axes.plot([found["before"], found["after"]], [place] * 2, color=_RULE, linewidth=4, zorder=2)
        interval = (row.get("intervals") or {}).get(metric)
        base = found.get("control", found.get("before"))
        if interval is not None and base is not None and np.isfinite(interval).all():
            ends = [base + factor * end for end in interval]
            axes.plot(ends, [place] * 2, color=_AFTER, linewidth=1.2, marker="|", markersize=6, zorder=3)
            largest = max(largest, *ends)
        for role, value in found.items():
            axes.plot([value], [place], zorder=4, **_MARKS[role])
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(0, max(100.0, largest) if metric == "top1" else 1.06 * largest or 1.0)
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
