"""Which classes lose most to blur: a table, worst first, for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ... import metrics
from ...metrics import ImageValues
from .._records import Record
from .._text import percent, sides_text, with_interval
from .page import Table

if TYPE_CHECKING:
    from .._report import Report

_SHOWN = 30  # classes on the page


def class_losses(
    report: Report, *, before: Report | None = None, control: Report | None = None
) -> Table | None:
    """Accuracy or IoU of each class on sharp images and under the blur that costs most.

    Args:
        report: of the fine-tuned network where there are several; it gives the order.
        before: of the original network.
        control: of the control.

    Returns:
        The table; None where sharp images or blurred ones were not measured, or the report has no classes.
    """
    pair = _pair(report)
    if pair is None:
        return None
    sharp, blurred = pair
    networks = {"before": before, "control": control, "after": report}
    pairs = {role: found for role, each in networks.items() if each and (found := _same(each, pair))}
    values = {role: (_by_class(first), _by_class(second)) for role, (first, second) in pairs.items()}
    own_sharp, own_blurred = values["after"]
    classes = [each for each in own_sharp if each in own_blurred]
    if not classes:
        return None
    losses = {each: own_sharp[each] - own_blurred[each] for each in classes}
    classes.sort(key=lambda each: -losses[each])
    names = report.settings.get("class_names") or ()
    counted = isinstance(sharp.images, ImageValues)
    several = len(values) > 1
    what = "top-1" if counted else "IoU"
    header = ["class", *(["images"] if counted else []), f"{what} % sharp{' after' if several else ''}"]
    header += [f"{what} % {blurred.blur}{f' {role}' if several else ''}" for role in values]
    header += [f"lost{f' {role}' if several else ''}, points" for role in values]
    intervals = _intervals(pair, classes[:_SHOWN])
    rows = []
    for each in classes[:_SHOWN]:
        row = [names[each] if each < len(names) else str(each)]
        if isinstance(sharp.images, ImageValues):
            row.append(str(int((sharp.images.label == each).sum())))
        row.append(percent(own_sharp[each]))
        row += [percent(second[each]) if each in second else "-" for _, second in values.values()]
        for role, (first, second) in values.items():
            lost = first[each] - second[each] if each in first and each in second else None
            interval = intervals.get(each) if role == "after" else None
            row.append(
                "-"
                if lost is None
                else _lost(lost)
                if interval is None
                else with_interval(lost, interval, _lost)
            )
        rows.append(row)
    many = f" The {_SHOWN} of {len(classes)} classes that lose most." if len(classes) > _SHOWN else ""
    at = f" at {sides_text(blurred.sides)}" if len({each.sides for each in report.records}) > 1 else ""
    bracketed = (
        " In brackets: 95 % intervals over the images of the class." if counted and sharp.images else ""
    )
    whose = " after fine-tuning" if several else ""
    return Table(
        header=header,
        rows=rows,
        caption=f"What {blurred.blur}{at} costs each class, the largest loss{whose} first.{many}{bracketed}",
    )


def _lost(share: float) -> str:
    """A loss in points; nothing lost has no sign."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


_Pair = tuple[Record, Record]


def _pair(report: Report) -> _Pair | None:
    """Sharp, and the blur with the largest loss, at the first scale that has both."""
    name = report.statistics.metrics[0].name
    for sharp in report.records:
        others = [each for each in report.records if each.sides == sharp.sides and each.blur != "sharp"]
        known = [each for each in others if each.values[name] is not None]
        if sharp.blur == "sharp" and known:
            return sharp, min(known, key=lambda each: float(each.values[name]))
    return None


def _same(report: Report, pair: _Pair) -> _Pair | None:
    """The records of the same conditions in another report."""
    keys = {(each.blur, each.sides): each for each in report.records}
    found = [keys.get((each.blur, each.sides)) for each in pair]
    first, second = found
    return None if first is None or second is None else (first, second)


def _by_class(record: Record) -> Mapping[int, float]:
    """The main metric of each class that has any; nothing where images were not kept."""
    if isinstance(record.images, ImageValues):
        correct = record.images.correct.astype(np.float64)
        count = np.bincount(record.images.label)
        right = np.bincount(record.images.label, weights=correct)
        return {number: float(right[number] / count[number]) for number in np.flatnonzero(count).tolist()}
    found = record.values.get("class_iou", ())
    return {number: float(value) for number, value in enumerate(found) if value is not None}


def _intervals(pair: _Pair, labels: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Of the losses, by the paired bootstrap over the images of each class."""
    first, second = (each.images for each in pair)
    if not isinstance(first, ImageValues) or not isinstance(second, ImageValues):
        return {}
    groups: dict[int, dict[tuple[int, str], list[metrics.Statistics]]] = {}
    for label in labels:  # classes of as many images share a resampling
        ids = first.ids[first.label == label]
        group = groups.setdefault(len(ids), {})
        group[label, "sharp"], group[label, "blurred"] = [first.only(ids)], [second.only(ids)]
    draws = {
        key: found.draws["top1"]
        for group in groups.values()
        for key, found in metrics.averaged(group).items()
    }
    return {label: metrics.interval(draws[label, "sharp"] - draws[label, "blurred"]) for label in labels}
