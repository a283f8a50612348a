"""Plots of the speed records as small SVG files, on paper of their own so that any page may hold them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import goals
from goals import LAYOUTS, OURS, SIZE, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER, ACCENT = "#1c2733", "#5b6673", "#d9dee4", "#ffffff", "#c8412b"
OTHERS = ("#2d6a9f", "#3f8f5b", "#8a6d1f", "#7a5195", "#8b939c")
MARKS = ("o", "s", "D", "^", "v", "P")
CURVES = ("cv2.filter2D", "torch rfft2", "torch conv2d", "torch running sums", "scipy.signal fftconvolve")
LAYOUT = "CHW uint8"
STAGES = {
    "decode": "#aab4bf",
    "resize": "#8b97a5",
    "blur": ACCENT,
    "shrink": "#c3cbd4",
    "normalise": "#dbe0e6",
}


def drawings(speed: Record, pipeline: Record | None) -> dict[str, str]:
    """SVG by the file's name, of what the records hold."""
    found = {"speed-ratios.svg": ratios(speed)}
    if goals.size_exponents(speed):
        found["speed-radius.svg"] = curves(speed, "radius")
    if goals.area_exponents(speed):
        found["speed-area.svg"] = curves(speed, "area")
    if pipeline:
        found["speed-pipeline.svg"] = stages(pipeline)
    return found


def ratios(record: Record) -> str:
    """The best rival's time divided by ours, a line a blur, a mark a layout."""
    figures: dict[tuple[str, str], float | None] = dict.fromkeys(goals.RATIOS)
    for blur, layout in figures:
        row = goals.find(record, size=SIZE, blur=blur, layout=layout)
        figures[blur, layout] = row and goals.ratio(row, record)
    blurs = list(dict.fromkeys(blur for (blur, _), value in figures.items() if value))
    figure, axes = _drawing(7.2, 0.9 + 0.26 * max(1, len(blurs)))
    for layout, colour, mark in zip(LAYOUTS, (ACCENT, *OTHERS), MARKS, strict=False):
        points = [
            (figures[blur, layout], place) for place, blur in enumerate(blurs) if figures.get((blur, layout))
        ]
        if points:
            axes.plot(*zip(*points, strict=True), mark, color=colour, markersize=5.5, label=layout)
        asked = [(goals.RATIOS[blur, layout], place) for place, blur in enumerate(blurs)]
        axes.plot(*zip(*asked, strict=True), "|", color=colour, markersize=11)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(blurs)), blurs)
    axes.set_ylim(len(blurs) - 0.5, -0.5)
    axes.set_xlabel("best rival's time / ours (strokes: asked for)")
    _scale(axes, "x")
    axes.legend(
        frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9, labelcolor=INK
    )
    return _svg(figure)


def curves(record: Record, against: str) -> str:
    """Milliseconds against a disk's radius, or against the image's area for a disk of radius 8."""
    figure, axes = _drawing(7.2, 4.0)
    for name, colour, mark in zip((OURS, *CURVES), (ACCENT, *OTHERS), MARKS, strict=True):
        points = {}
        for row in goals.singles(record):
            time = goals.milliseconds(row, name)
            if time is None or row["layout"] != LAYOUT:
                continue
            if against == "radius" and row["size"] == SIZE and row["blur"] in goals.FAMILIES["disk"]:
                points[goals.FAMILIES["disk"][row["blur"]]] = time
            elif against == "area" and row["blur"] == "D8":
                points[goals.area(row["size"]) / 1e6] = time
        if points:
            places = sorted(points)
            width = 2.4 if name == OURS else 1.4
            times = [points[place] for place in places]
            axes.plot(places, times, marker=mark, markersize=4.5, color=colour, linewidth=width, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    words = {"radius": f"radius of the disk, px ({SIZE}, {LAYOUT})", "area": f"megapixels (D8, {LAYOUT})"}
    axes.set_xlabel(words[against])
    axes.set_ylabel("milliseconds, one thread")
    _scale(axes, "x")
    _scale(axes, "y")
    if against == "radius":
        axes.set_xticks(list(goals.FAMILIES["disk"].values()))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return _svg(figure)


def stages(record: Record) -> str:
    """CPU milliseconds an image, by stage."""
    rows = sorted(record["rows"], key=lambda row: sum(row["stages"].values()))
    figure, axes = _drawing(7.2, 0.9 + 0.3 * len(rows))
    starts = [0.0] * len(rows)
    longest = sorted(sum(row["stages"].values()) for row in rows)[-2 if len(rows) > 2 else -1]
    for stage, colour in STAGES.items():
        values = [row["stages"][stage] for row in rows]
        axes.barh(range(len(rows)), values, left=starts, color=colour, height=0.68, label=stage)
        starts = [start + value for start, value in zip(starts, values, strict=True)]
    for place, total in enumerate(starts):
        # The slowest one would leave no room for the others.
        axes.text(min(total, 1.2 * longest), place, f" {total:.1f}", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, 1.3 * longest)
    axes.set_yticks(range(len(rows)), [row["blur"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("CPU milliseconds an image")
    axes.legend(
        frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.4, 1.0), fontsize=9, labelcolor=INK
    )
    return _svg(figure)


def _drawing(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot(facecolor=PAPER)
    axes.spines[:].set_visible(False)
    axes.grid(color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=9, colors=MUTED)
    axes.xaxis.label.set(color=MUTED, fontsize=9.5)
    axes.yaxis.label.set(color=MUTED, fontsize=9.5)
    return figure, axes


def _scale(axes: Axes, name: str) -> None:
    """Plain numbers at 1, 2 and 5 on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    nothing: Mapping[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blurlib", "font.family": ["sans-serif"]}):
        figure.savefig(text, format="svg", metadata=dict(nothing))
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text.getvalue(), flags=re.DOTALL)
    return re.sub(r"[ \t]+\n", "\n", svg)
