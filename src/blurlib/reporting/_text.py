"""Small tables of text, for terminals and for Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..metrics import Metric

if TYPE_CHECKING:
    from ._comparison import Change


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: the first to the left, the others to the right.

    Args:
        header: one heading a column; one of several lines stands on its last.
        rows: cells, as many in each row as there are headings.

    Returns:
        Lines of equal structure, a rule under the heading; no line break at the end.

    Example:
        >>> print(plain_table(["blur", "top-1 %"], [["sharp", "76.1"], ["D8", "40.0"]]))
        blur   top-1 %
        -----  -------
        sharp     76.1
        D8        40.0
    """
    headings = [cell.split("\n") for cell in header]
    height = max(map(len, headings))
    upright = zip(*([""] * (height - len(cell)) + cell for cell in headings), strict=True)
    lines = [*map(list, upright), *map(list, rows)]
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
    """A Markdown table: the first column to the left, the others to the right.

    Args:
        header: one heading a column.
        rows: cells; a vertical bar in one is escaped.

    Returns:
        The table; no line break at the end.

    Example:
        >>> print(markdown_table(["blur", "top-1 %"], [["sharp", "76.1"]]))
        | blur | top-1 % |
        |:--|--:|
        | sharp | 76.1 |
    """
    rule = "|:--|" + "--:|" * (len(header) - 1)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def csv_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    r"""Comma-separated values; a number is written so that it reads back to the same one.

    Args:
        header: one heading a column.
        rows: cells, text or numbers.

    Returns:
        The text, with a line break at the end of each line.

    Example:
        >>> csv_table(["blur", "top1"], [["D8", 0.1]])
        'blur,top1\nD8,0.1\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def sides_text(sides: Sequence[int], between: str = "+") -> str:
    """A scale setting in one word.

    Args:
        sides: network sides in pixels.
        between: "+" where they are averaged, "x" for height and width.

    Returns:
        Such as "256" or "256+512", as the paper's table 1 writes it, or "384x512".

    Example:
        >>> sides_text((256, 512)), sides_text((384, 512), "x")
        ('256+512', '384x512')
    """
    return between.join(map(str, sides))


def percent(value: float) -> str:
    """A fraction in percent.

    Args:
        value: a fraction.

    Returns:
        Such as "40.0", one decimal.

    Example:
        >>> percent(0.4)
        '40.0'
    """
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A change of a fraction in percentage points.

    Args:
        value: a change of a fraction.

    Returns:
        Such as "+1.2", one decimal.

    Example:
        >>> points(0.012)
        '+1.2'
    """
    return f"{100 * value:+.1f}"


def nats(value: float) -> str:
    """An entropy or cross-entropy.

    Args:
        value: in nats.

    Returns:
        Such as "0.13", two decimals.

    Example:
        >>> nats(0.128)
        '0.13'
    """
    return f"{value:.2f}"


def signed_nats(value: float) -> str:
    """A change of an entropy or cross-entropy.

    Args:
        value: in nats.

    Returns:
        Such as "+0.13", two decimals.

    Example:
        >>> signed_nats(0.128)
        '+0.13'
    """
    return f"{value:+.2f}"


def value_text(metric: Metric, value: float | None) -> str:
    """A value of a metric: percent or nats.

    Args:
        metric: the metric.
        value: a fraction or nats; None where it is not defined.

    Returns:
        Such as "40.0", "0.13" or "-".

    Example:
        >>> value_text(Metric(name="miou", title="mIoU", label="mean IoU"), None)
        '-'
    """
    return "-" if value is None else percent(value) if metric.unit == "percent" else nats(value)


def change_text(metric: Metric, change: Change) -> str:
    """The difference of a change, with its interval.

    Args:
        metric: the metric.
        change: of it.

    Returns:
        Such as "+1.2 [+0.4, +2.0]".
    """
    style = points if metric.unit == "percent" else signed_nats
    return with_interval(change.difference, change.difference_interval, style)


def recovered_text(change: Change) -> str:
    """The recovered fraction of a change in percent, with its interval.

    Args:
        change: of a metric.

    Returns:
        Such as "50 [41, 59]".
    """
    return with_interval(change.recovered, change.recovered_interval, share)


def share(value: float) -> str:
    """A recovered share in percent.

    Args:
        value: a fraction.

    Returns:
        Such as "50", no decimals.

    Example:
        >>> share(0.5)
        '50'
    """
    return f"{100 * value:.0f}"


def with_interval(
    value: float | None, interval: Sequence[float | None] | None, style: Callable[[float], str]
) -> str:
    """A value and its interval in brackets.

    Args:
        value: the value; None where it is not defined.
        interval: its ends; an end without bound is infinite, or None where it comes from JSON.
        style: how a number is written.

    Returns:
        Such as "50 [41, 59]", or "-" where there is no value.

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
