"""Small tables of text, for terminals and for Markdown."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._common.texts import starts_formula, visible
from ..metrics import Metric

if TYPE_CHECKING:
    from ._comparison import Change


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: the first to the left, the others to the right; no line break at the end.

    A heading of several lines is aligned at its last. Control characters are escaped.

    Example:
        >>> print(plain_table(["blur", "top-1 %"], [["sharp", "76.1"], ["D8", "40.0"]]))
        blur   top-1 %
        -----  -------
        sharp     76.1
        D8        40.0
    """
    headings = [[visible(line) for line in cell.split("\n")] for cell in header]
    height = max(map(len, headings))
    upright = zip(*([""] * (height - len(cell)) + cell for cell in headings), strict=True)
    lines = [*map(list, upright), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    lines.insert(height, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right; what has a meaning is escaped.

    Example:
        >>> print(markdown_table(["blur", "top-1 %"], [["sharp", "76.1"]]))
        | blur | top-1 % |
        |:--|--:|
        | sharp | 76.1 |
    """
    rule = "|:--|" + "--:|" * (len(header) - 1)
    lines = ["| " + " | ".join(map(_markdown_cell, line)) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table for a notebook, which brings its own style: the first column to the left; all text is escaped.

    Example:
        >>> html_table(["blur"], [["D8"]])
        '<table><thead><tr><th>blur</th></tr></thead><tbody><tr><th>D8</th></tr></tbody></table>'
    """

    def line(cells: Sequence[str], kind: str) -> str:
        texts = [html.escape(visible(cell)) for cell in cells]
        return f"<tr><th>{texts[0]}</th>{''.join(f'<{kind}>{text}</{kind}>' for text in texts[1:])}</tr>"

    body = "".join(line(row, "td") for row in rows)
    table = f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"
    return f"{table}<p>{html.escape(visible(caption))}</p>" if caption else table


def _markdown_cell(cell: str) -> str:
    """A cell whose vertical bars, control characters, and first character of a formula are escaped."""
    cell = visible(cell).replace("|", "\\|")
    return f"\\{cell}" if starts_formula(cell) else cell


def sides_text(sides: Sequence[int], between: str = "+") -> str:
    """A scale setting: "256", "256+512" where sides are averaged, "384x512" for height and width."""
    return between.join(map(str, sides))


def percent(value: float) -> str:
    """A fraction in percent, such as "40.0"."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A change of a fraction in percentage points, such as "+1.2"."""
    return f"{100 * value:+.1f}"


def nats(value: float) -> str:
    """An entropy or cross-entropy, such as "0.13"."""
    return f"{value:.2f}"


def signed_nats(value: float) -> str:
    """A change of an entropy or cross-entropy, such as "+0.13"."""
    return f"{value:+.2f}"


def share(value: float) -> str:
    """A recovered fraction in percent, such as "50"."""
    return f"{100 * value:.0f}"


def value_text(metric: Metric, value: float | None, *, unit: bool = False) -> str:
    """A value of a metric: percent, or nats with two decimals; "-" where it is not defined.

    Example:
        >>> mean_iou = Metric(name="miou", title="mIoU", label="mean IoU")
        >>> value_text(mean_iou, 0.4, unit=True), value_text(mean_iou, None)
        ('40.0 %', '-')
    """
    in_percent = metric.unit == "percent"
    text = "-" if value is None else percent(value) if in_percent else nats(value)
    return text + (" %" if in_percent else " nats") * unit


def label_text(metric: Metric) -> str:
    """The label of a metric at the beginning of a sentence."""
    return metric.label[0].upper() + metric.label[1:]


def change_text(metric: Metric, change: Change) -> str:
    """The difference of a change with its interval, such as "+1.2 [+0.4, +2.0]"."""
    style = points if metric.unit == "percent" else signed_nats
    return with_interval(change.difference, change.difference_interval, style)


def recovered_text(change: Change) -> str:
    """The recovered fraction of a change in percent with its interval, such as "50 [41, 59]"."""
    return with_interval(change.recovered, change.recovered_interval, share)


def arrow_text(metric: Metric, change: Change) -> str:
    """The values of a change, such as "40.0 -> 50.0 (41.0)": before, after, and of the control."""
    tail = "" if change.control is None else f" ({value_text(metric, change.control)})"
    return f"{value_text(metric, change.before)} -> {value_text(metric, change.after)}{tail}"


def with_interval(
    value: float | None, interval: Sequence[float | None] | None, style: Callable[[float], str]
) -> str:
    """A value and its interval in brackets; "-" where there is no value.

    An end without bound is infinite, or None where it comes from JSON.

    Example:
        >>> with_interval(0.5, (0.41, float("inf")), share), with_interval(None, None, share)
        ('50 [41, ∞]', '-')
    """
    if value is None or interval is None:
        return "-"
    low, high = interval
    first = "\u2212∞" if low is None or math.isinf(low) else style(low)
    last = "∞" if high is None or math.isinf(high) else style(high)
    return f"{style(value)} [{first}, {last}]"
