"""Plots of records as SVG that takes its colours and type from the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...metrics import Metric
from .._text import label_text, value_text
from .drawing import (
    FEWEST,
    ROLES,
    Palette,
    Row,
    dots_height,
    draw_dots,
    draw_reliability,
    draw_risk,
    draw_sizes,
    new_drawing,
    new_panel,
    shown_from,
)
from .page import Figure, markup
from .sizes import Family

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# Stand-ins that matplotlib accepts as colours, and the page's colours that take their places in the SVG.
_STAND_INS = Palette(*(f"#0000{number:02x}" for number in range(10, 17)))
_COLOURS = {stand_in: f"var(--{name})" for name, stand_in in zip(Palette._fields, _STAND_INS, strict=True)}


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
    words = _words(roles)
    texts = [
        f"{row.label}: {main.title} "
        + ", ".join(
            f"{value_text(main, row.value(role, main.name), unit=True)}{words[role]}"
            for role in roles
            if role in row.values
        )
        for row in rows
    ]
    panels = {}
    for metric in metrics:
        drawing = new_drawing(4.0, dots_height(rows))
        draw_dots(drawing.add_subplot(), rows, metric, _STAND_INS)
        panels[panel_title(metric)] = _svg(drawing)
    return _plots(roles, panels, f"{', '.join(map(label_text, metrics))}. {'; '.join(texts)}.", caption)


def sizes_figure(found: Sequence[Family], metrics: Sequence[Metric], *, level: float = 0.95) -> Figure:
    """Metrics against the size of each family of blurs, before and after.

    Args:
        found: the families, a row of panels each.
        metrics: the panels of a row.
        level: of the intervals.

    Returns:
        The figure.

    Raises:
        ImportError: if the extra `report` is not installed.
    """
    main = metrics[0]
    roles = roles_in(curves for family in found for curves in family.curves.values())
    words = _words(roles)
    panels, texts, banded = {}, [], False
    for family in found:
        for metric in metrics:
            curves = family.curves.get(metric.name, {})
            if curves:
                drawing, axes = new_panel()
                marks = family.crossings if metric is main else None
                draw_sizes(axes, curves, metric, _STAND_INS, marks)
                panels[f"{panel_title(metric)}: {family.title}"] = _svg(drawing)
                banded |= any(point.interval for points in curves.values() for point in points)
        for role, points in family.curves.get(main.name, {}).items():
            values = ", ".join(
                f"{point.size:g}: {value_text(main, point.value, unit=True)}" for point in points
            )
            texts.append(f"{family.title}{words[role]}: {values}")
    caption = "Sharp images are at 0." + (
        f" Bands: {100 * level:g} % intervals over images." if banded else ""
    )
    return _plots(roles, panels, f"{label_text(main)} by the size of the blur. {'; '.join(texts)}.", caption)


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
    words = _words(roles)
    top = max(1.0, *(100 * float(curve[shown_from(curve) :].max()) for curve in every))
    texts, panels = [], {}
    for name, found in curves.items():
        shares = {role: (curve[-(-len(curve) // 2) - 1], curve[-1]) for role, curve in found.items()}
        told = (
            f"{100 * half:.1f} % of the surest half, {100 * whole:.1f} % of all{words[role]}"
            for role, (half, whole) in shares.items()
        )
        texts.append(f"{name}: {', '.join(told)}")
        drawing, axes = new_panel()
        draw_risk(axes, found, top, _STAND_INS)
        panels[name] = _svg(drawing)
    return _plots(
        roles,
        panels,
        f"Share of errors among the surest images. {'; '.join(texts)}.",
        "Errors in percent (upwards) among the images that the network is surest of, by their share in "
        "percent (to the right): at 100 it answers for all. A network that knows its errors rises late.",
    )


def reliability_figure(found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """How often a network is right when it is so sure, under each blur, before and after.

    Args:
        found: for each condition, by its name, and each network (3, bins): number of images, their mean
            confidence, their accuracy.

    Returns:
        The figure, a panel a condition.

    Raises:
        ImportError: if the extra `report` is not installed.

    Example:
        >>> reliability_figure({"D8": {"after": np.array([[3.0], [0.9], [0.5]])}}).alt
        'Accuracy by confidence. D8: mean confidence 90.0 %, accuracy 50.0 %.'
    """
    roles = roles_in(found.values())
    words = _words(roles)
    texts, panels = [], {}
    for name, networks in found.items():
        told = []
        for role, (count, confidence, accuracy) in networks.items():
            sure, right = (100 * float(np.average(each, weights=count)) for each in (confidence, accuracy))
            told.append(f"mean confidence {sure:.1f} %, accuracy {right:.1f} %{words[role]}")
        texts.append(f"{name}: {', '.join(told)}")
        drawing, axes = new_panel()
        draw_reliability(axes, networks, _STAND_INS)
        panels[name] = _svg(drawing)
    return _plots(
        roles,
        panels,
        f"Accuracy by confidence. {'; '.join(texts)}.",
        "Accuracy in percent (upwards) of the images of each bin of confidence in percent (to the right); a "
        f"mark is as large as the bin's share of the images, and bins of fewer than {FEWEST} are left out. "
        "Below the dotted line the network is surer than it should be, above it less sure.",
    )


def panel_title(metric: Metric) -> str:
    """What a panel shows, with its unit."""
    return f"{label_text(metric)}, {'%' if metric.unit == 'percent' else 'nats'}"


def roles_in(found: Iterable[Container[str]]) -> list[str]:
    """Which of the networks were measured under any condition, in the order of tables and legends."""
    every = list(found)
    return [role for role in ROLES if any(role in each for each in every)]


def _words(roles: Sequence[str]) -> dict[str, str]:
    """What tells the networks apart in a text; nothing where there is one."""
    return {role: f" {role}" if len(roles) > 1 else "" for role in roles}


def _plots(roles: list[str], panels: Mapping[str, str], alt: str, caption: str) -> Figure:
    shown = [{"title": title, "svg": svg} for title, svg in panels.items()]
    return Figure(image=markup("plots", roles=roles, panels=shown), alt=alt, caption=caption, wide=True)


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
