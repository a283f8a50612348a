"""Figures for the page: kernels, blurred photographs, predictions and curves, from plain values.

Pictures and bars are HTML, plots are SVG by matplotlib; both take their colours and type from the page, so
that they follow its light and dark dress.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch

from .blurs import Blur, OwnShake, describe, own_shake, parse_list
from .tables import sides_text
from .transforms import apply

if TYPE_CHECKING:
    import jinja2
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = [
    "Figure",
    "Prediction",
    "blurred_figure",
    "curves_figure",
    "kernels_figure",
    "predictions_figure",
]

_REMEDY = 'install the extra with: pip install "blurlib[report]"'
_PHOTO_SIDE = 360  # longer side of a photograph in a table; sharp on a screen of double density
_FAINT = 0.1  # a kernel's tails below this share of its peak may be cut in its picture

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


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with the words that belong to it.

    Attributes:
        image: a data URI ("data:image/..."), or markup (SVG or HTML) that the page takes over as it is: whoever
            writes it escapes what is foreign in it.
        alt: what is to be seen, for those who do not see it.
        caption: what it means; `code` in backticks.
        wide: whether it may be wider than the text.

    Raises:
        ValueError: if `image` is neither a data URI nor markup, or `alt` is empty.

    Example:
        >>> Figure(image="<svg></svg>", alt="nothing").wide
        False
    """

    image: str
    alt: str
    caption: str = ""
    wide: bool = False

    def __post_init__(self) -> None:
        if not self.image.startswith(("data:image/", "<")):
            raise ValueError(
                f"`image` must be a data URI or markup, got {self.image[:40]!r}; a page fetches nothing"
            )
        if not self.alt.strip():
            raise ValueError("`alt` must say what is to be seen, got an empty text")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What two networks said of one image.

    Attributes:
        image: (H, W, 3) uint8, as the networks saw it.
        title: what was done to it, such as "sharp" or "D8".
        truth: name of its class.
        before: the most probable classes and their probabilities, the most probable first.
        after: likewise, of the fine-tuned network; empty if there is none.

    Example:
        >>> Prediction(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...            before=[("dog", 0.6), ("cat", 0.4)], after=[("cat", 0.9), ("dog", 0.1)]).truth
        'cat'
    """

    image: np.ndarray
    title: str
    truth: str
    before: Sequence[tuple[str, float]]
    after: Sequence[tuple[str, float]] = ()


def environment() -> jinja2.Environment:
    """The templates of the page; everything that they are given is escaped unless marked as markup.

    Returns:
        The environment.

    Raises:
        ImportError: if jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(f"a page needs jinja2, which is not installed; {_REMEDY}") from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _markup(macro: str, **values: Any) -> str:
    module: Any = environment().get_template("figures.html.jinja").module
    return str(getattr(module, macro)(**values)).strip()


def _data_uri(image: PIL.Image.Image, kind: str) -> str:
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 86, "optimize": True} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _photo(name: str, image: Any, side: int = _PHOTO_SIDE) -> dict[str, Any]:
    """A photograph for the page: no larger than it is shown."""
    shown = PIL.Image.fromarray(_checked(name, image))
    shown.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return {"uri": _data_uri(shown, "JPEG"), "width": shown.width, "height": shown.height}


def _checked(name: str, image: Any) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise TypeError(f"`{name}` must be uint8 arrays (H, W, 3), got {array.dtype} values")
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"`{name}` must be arrays (H, W, 3) of at least one pixel, got shape {array.shape}")
    return np.ascontiguousarray(array)


def kernels_figure(blurs: str | Blur | Iterable[str | Blur]) -> Figure:
    """Each blur's kernel as a small picture, all on one pixel scale (the paper, figure 2).

    Args:
        blurs: short names or blurs. "shake", which has a kernel only for a given image, is shown by that of
            the first image.

    Returns:
        The figure. Each kernel is white where it is strongest; faint tails of wide ones may be cut.

    Raises:
        ValueError: if a blur is unknown or there is none.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> kernels_figure("D4, H8").alt
        'Kernels of D4 and H8, each a small picture.'
    """
    values = parse_list(blurs)
    kernels = [(own_shake(0) if isinstance(blur, OwnShake) else blur).kernel().numpy() for blur in values]
    room = max(17, *(_reach(kernel) for kernel in kernels))
    tiles = [
        {
            "name": str(blur),
            "words": describe(blur)
            + (f"; here {own_shake(0)}, the first image's" if isinstance(blur, OwnShake) else ""),
            "uri": _data_uri(_kernel_picture(kernel, room), "PNG"),
        }
        for blur, kernel in zip(values, kernels, strict=True)
    ]
    cut = any(max(kernel.shape) > room for kernel in kernels)
    return Figure(
        image=_markup("kernels", tiles=tiles, side=room * max(1, round(132 / room))),
        alt=f"Kernels of {_listed(map(str, values))}, each a small picture.",
        caption=(
            f"What a point of light becomes under each blur, in windows of {room} × {room} pixels. Each kernel is "
            f"white where it is strongest.{' Tails fainter than a tenth of the peak are cut.' if cut else ''}"
        ),
        wide=True,
    )


def _reach(kernel: np.ndarray) -> int:
    """Odd side of the centred window outside of which a kernel is faint."""
    rows, columns = np.nonzero(kernel >= _FAINT * kernel.max())
    height, width = kernel.shape
    away = max(np.abs(rows - height // 2).max(), np.abs(columns - width // 2).max())
    return 2 * int(away) + 1


def _kernel_picture(kernel: np.ndarray, room: int) -> PIL.Image.Image:
    levels = np.rint(kernel / kernel.max() * 255).astype(np.uint8)
    levels = np.pad(levels, [(max(0, (room - side) // 2),) * 2 for side in levels.shape])
    top, left = ((side - room) // 2 for side in levels.shape)
    return PIL.Image.fromarray(levels[top : top + room, left : left + room])


def blurred_figure(
    images: Sequence[np.ndarray],
    blurs: str | Blur | Iterable[str | Blur],
    names: Sequence[str] | None = None,
) -> Figure:
    """Photographs under each blur: a row a photograph, a column a blur.

    Args:
        images: (H, W, 3) uint8 arrays, blurred in their own pixels and then shown small.
        blurs: short names or blurs; "shake" gives each photograph a kernel of its own.
        names: of the photographs.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no image, one is not (H, W, 3), the names are not as many, or a blur is
            unknown.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> blurred_figure([np.zeros((24, 32, 3), np.uint8)], "sharp, D4", ["black"]).alt
        'Photographs (black) under sharp and D4.'
    """
    values = parse_list(blurs)
    if not len(images):
        raise ValueError("`images` must hold at least one photograph, got none")
    if names is not None and len(names) != len(images):
        raise ValueError(f"`names` must name each of the {len(images)} images, got {len(names)}")
    rows = []
    for number, image in enumerate(images):
        pixels = torch.from_numpy(_checked("images", image).copy()).permute(2, 0, 1)
        name = f"photograph {number + 1}" if names is None else names[number]
        cells = []
        for blur in values:
            own = own_shake(number) if isinstance(blur, OwnShake) else blur
            cells.append(
                {
                    **_photo("images", apply(pixels, own).permute(1, 2, 0).numpy()),
                    "alt": f"{name}, {describe(own)}",
                }
            )
        rows.append({"name": "" if names is None else name, "cells": cells})
    columns = [{"name": str(blur), "words": describe(blur)} for blur in values]
    sizes = sorted({f"{image.shape[1]} × {image.shape[0]}" for image in images})
    return Figure(
        image=_markup("photographs", columns=columns, rows=rows, named=names is not None),
        alt=f"Photographs{f' ({_listed(names)})' if names else ''} under {_listed(map(str, values))}.",
        caption=f"The same photographs under each blur; lengths are in pixels of {_listed(sizes)} images.",
        wide=True,
    )


def predictions_figure(examples: Sequence[Prediction]) -> Figure:
    """Images with the classes that each network finds most probable (the paper, figure 1).

    Args:
        examples: one a row; the true class is marked by a sign, its weight and its colour.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no example, a probability is not in [0, 1], or an image is not (H, W, 3).
        ImportError: if the extra `report` is not installed.

    Example:
        >>> example = Prediction(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...                      before=[("dog", 0.6), ("cat", 0.4)], after=[("cat", 0.9), ("dog", 0.1)])
        >>> predictions_figure([example]).alt
        'cat, D8: before dog (60.0 %), after cat (90.0 %).'
    """
    if not len(examples):
        raise ValueError("`examples` must hold at least one prediction, got none")
    rows = []
    for example in examples:
        sides = [("before", example.before), *([("after", example.after)] if len(example.after) else [])]
        rows.append(
            {
                "title": example.title,
                "truth": example.truth,
                "photo": {**_photo("image", example.image), "alt": f"{example.truth}, {example.title}"},
                "sides": [_side(role, classes, example.truth) for role, classes in sides],
            }
        )
    told = [
        f"{row['truth']}, {row['title']}: "
        + ", ".join(
            f"{side['role']} {side['bars'][0]['name']} ({side['bars'][0]['text']})" for side in row["sides"]
        )
        for row in rows
    ]
    return Figure(
        image=_markup("predictions", rows=rows),
        alt="; ".join(told) + ".",
        caption="The classes that each network finds most probable; ✓ marks the true one.",
        wide=True,
    )


def _side(role: str, classes: Sequence[tuple[str, float]], truth: str) -> dict[str, Any]:
    wrong = [p for _, p in classes if not 0 <= p <= 1]
    if wrong or not len(classes):
        raise ValueError(
            f"`{role}` must hold classes with probabilities from 0 to 1, got {wrong[0] if wrong else 'none'}"
        )
    bars = [
        {"name": name, "share": round(100 * p, 2), "text": _percent(p), "true": name == truth}
        for name, p in classes
    ]
    return {"role": role, "bars": bars, "right": bars[0]["true"], "known": any(bar["true"] for bar in bars)}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(names: Iterable[str]) -> str:
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last


def curves_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy, entropy and cross-entropy under each blur, before and after.

    Args:
        rows: one a condition, with `blur` (short name) and `after`, a mapping with `top1` (fraction),
            `entropy` and `cross_entropy` (nats). Optional: `before` and `control` likewise; `intervals`, a
            mapping from metric to (low, high) of after minus control, or before if there is no control;
            `sides`, named where they differ.

    Returns:
        The figure, a panel a metric.

    Raises:
        ValueError: if there is no row.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> values = {"top1": 0.5, "entropy": 1.0, "cross_entropy": 2.0}
        >>> curves_figure([{"blur": "D8", "before": None, "after": values}]).alt
        'Top-1 accuracy, entropy and cross-entropy. D8: top-1 50.0 %.'
    """
    if not len(rows):
        raise ValueError("`rows` must hold at least one condition, got none")
    several = len({tuple(row.get("sides") or ()) for row in rows}) > 1
    labels = [
        f"{row['blur']} at {sides_text(row['sides'])}" if several and row.get("sides") else str(row["blur"])
        for row in rows
    ]
    panels = [("top1", "Top-1 accuracy, %", 100.0), ("entropy", "Entropy, nats", 1.0)]
    if all("cross_entropy" in row["after"] for row in rows):
        panels.append(("cross_entropy", "Cross-entropy, nats", 1.0))
    roles = [role for role in ("before", "control", "after") if any(row.get(role) for row in rows)]
    intervals = any(row.get("intervals") for row in rows)
    told = [
        f"{label}: top-1 "
        + (f"{_percent(row['before']['top1'])} before, " if row.get("before") else "")
        + (f"{_percent(row['control']['top1'])} control, " if row.get("control") else "")
        + f"{_percent(row['after']['top1'])}{' after' if row.get('before') else ''}"
        for label, row in zip(labels, rows, strict=True)
    ]
    base = "control" if "control" in roles else "value before"
    return Figure(
        image=_markup(
            "plots",
            roles=roles,
            panels=[
                {"title": title, "svg": _panel(rows, labels, metric, factor)}
                for metric, title, factor in panels
            ],
        ),
        alt=f"{_listed(title.split(',')[0] if n == 0 else title.split(',')[0].lower() for n, (_, title, _) in enumerate(panels))}. "
        + "; ".join(told)
        + ".",
        caption=(
            "Higher accuracy is better, lower cross-entropy is better; entropy tells how unsure the network is."
            + (f" Thin lines: 95 % interval of the change from the {base}." if intervals else "")
        ),
        wide=True,
    )


def _panel(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], metric: str, factor: float) -> str:
    """One metric under every blur as a dot plot: a line of the plot a blur, a dot a network."""
    try:
        from matplotlib.figure import Figure as Drawing
    except ImportError as error:
        raise ImportError(f"plots need matplotlib, which is not installed; {_REMEDY}") from error
    drawing = Drawing(figsize=(4.0, 0.55 + 0.29 * len(rows)), layout="constrained")
    axes = drawing.add_subplot()
    largest = 0.0
    for place, row in enumerate(rows):
        found = {
            role: factor * row[role][metric]
            for role in ("before", "control", "after")
            if row.get(role) and metric in row[role]
        }
        largest = max(largest, *found.values())
        if "before" in found:
            axes.plot([found["before"], found["after"]], [place] * 2, color=_RULE, linewidth=4, zorder=2)
        interval = (row.get("intervals") or {}).get(metric)
        if interval is not None and len(found) > 1:
            base = found.get("control", found.get("before", 0.0))
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


_MARKS: dict[str, dict[str, Any]] = {
    "before": {"marker": "o", "markersize": 6.5, "markerfacecolor": _PAPER, "markeredgecolor": _BEFORE, "markeredgewidth": 1.8},
    "control": {"marker": "D", "markersize": 5, "markerfacecolor": _PAPER, "markeredgecolor": _CONTROL, "markeredgewidth": 1.5},
    "after": {"marker": "o", "markersize": 7, "markerfacecolor": _AFTER, "markeredgecolor": _AFTER},
}  # fmt: skip


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
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # Several drawings share a page, where a name may occur once only.
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>b{own}-", svg)
    return re.sub(r">\s+<", "><", svg).strip()
