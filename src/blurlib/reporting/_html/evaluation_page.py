"""The page of an evaluation, from reports and a comparison, for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._common.provenance import flattened, network_name
from ...blurs import PerImageShake, describe
from ...metrics import Metric
from ...notation import is_short_name, parse
from .._comparison import Change, Comparison
from .._records import classes_text, condition_cells, condition_labels, copies_text, left_out_text
from .._text import (
    change_text,
    label_text,
    points,
    recovered_text,
    share,
    sides_text,
    signed_nats,
    value_text,
)
from .charts import curves_figure, panel_title, roles_in, sizes_figure
from .drawing import Palette, Row, add_legend, dots_height, draw_dots, draw_sizes, new_drawing
from .page import Figure, Section, Table, write_page
from .pictures import report_kernels
from .sizes import families
from .task_sections import task_sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from .._report import Report


def report_page(
    path: str | Path,
    report: Report,
    *,
    before: Report | None = None,
    control: Report | None = None,
    comparison: Comparison | None = None,
    title: str | None = None,
    sections: Sequence[Section] = (),
    closing: Sequence[Section] = (),
) -> Path:
    """The page of an evaluation: the main result, tables, plots, kernels, every setting.

    Args:
        path: the file; its folder is made.
        report: of the fine-tuned network where there are two.
        before: of the original network.
        control: of the control; None draws it as far as `comparison` has it.
        comparison: of the two, for changes with intervals and recovered fractions.
        title: of the page.
        sections: more of them, shown after the main result.
        closing: likewise, shown last.
    """
    rows = _rows(report, before, comparison)
    metrics, settings = report.statistics.metrics, report.settings
    plotted = [metric for metric in metrics if metric.plotted]
    compared = any(row.values.get("before") for row in rows)
    plots = curves_figure(rows, plotted, level=0.95 if comparison is None else comparison.level)
    first: list[Figure | Table] = [_main_table(report, rows, plotted, comparison), plots]
    details = [_records_table(report, "after fine-tuning")]
    if not compared:
        first = [_records_table(report, "after fine-tuning" if before else ""), plots]
        details = []
    if before is not None:
        details.append(_records_table(before, "before fine-tuning"))
    if comparison is not None:
        details.append(_changes_table(report, comparison))
    sized = families(_reports(report, before, control))
    if sized:
        first.append(sizes_figure(sized, plotted))
    explanation = report.statistics.explanation
    own = task_sections(report, before=before, control=control)
    parts = [Section(title="Accuracy under blur", text=explanation, parts=first), *sections, *own]
    blurs = [blur for blur in report.blurs if blur != "sharp"]
    if blurs:
        side = settings.get("canonical_side")
        measure = "geometric mean of its sides" if report.task == "segmentation" else "shorter side"
        where = "the canonical one" if side is None else f"{side} px"
        text = f"Blurs are defined in pixels of the image when its {measure} is {where}."
        figure, absent = report_kernels(blurs, settings)
        if absent:
            text += f" Not pictured, for the report has no kernel of theirs: {', '.join(absent)}."
        parts.append(Section(title="The blurs", text=text, parts=[] if figure is None else [figure]))
    if details:
        parts.append(Section(title="All numbers", parts=details))
    table = settings_table(settings, None if before is None else before.settings)
    parts.append(Section(title="Settings", text=_SETTINGS, parts=[table]))
    alone = f"{network_name(settings, 'A network')} under blur"
    return write_page(
        path,
        title=title or ("Before and after fine-tuning on blur" if compared else alone),
        lead=_finding(report, rows),
        sections=[*parts, *closing],
        facts=_facts(report, comparison),
    )


def report_plot(
    report: Report,
    *,
    before: Report | None = None,
    control: Report | None = None,
    comparison: Comparison | None = None,
) -> Drawing:
    """See :meth:`Report.plot`: a column a metric; the blurs in the first row, then a row a family."""
    rows = _rows(report, before, comparison)
    plotted = [metric for metric in report.statistics.metrics if metric.plotted]
    sized = families(_reports(report, before, control))
    heights = [dots_height(rows), *[2.6] * len(sized)]
    palette = Palette()
    drawing = new_drawing(4.0 * len(plotted), sum(heights) + 0.4)
    grid = drawing.subplots(1 + len(sized), len(plotted), squeeze=False, height_ratios=heights)
    for metric, column in zip(plotted, grid.T, strict=True):
        draw_dots(column[0], rows, metric, palette)
        column[0].set_title(panel_title(metric), loc="left", fontsize=10)
        for family, axes in zip(sized, column[1:], strict=True):
            draw_sizes(axes, family.curves.get(metric.name, {}), metric, palette)
            axes.set_xlabel(family.title, fontsize=9.5)
    roles = roles_in(row.values for row in rows)
    if len(roles) > 1:
        add_legend(drawing, roles, palette)
    return drawing


def _reports(report: Report, before: Report | None, control: Report | None) -> dict[str, Report]:
    every = {"before": before, "control": control, "after": report}
    return {role: each for role, each in every.items() if each is not None}


_UNLISTED = ("kernel_pictures.", "class_names", "examples")  # settings that the page shows elsewhere
_SETTINGS = (
    "What the numbers depend on. The same network and images give the same numbers again under these "
    "settings, whatever the number of loader processes."
)


def _rows(report: Report, before: Report | None, comparison: Comparison | None) -> list[Row]:
    """One row a condition: values before, after and of the control, changes with intervals where compared."""
    originals = {} if before is None else {(each.blur, each.sides): each.values for each in before.records}
    compared = {} if comparison is None else {(row.blur, row.sides): row.changes for row in comparison.rows}
    rows = []
    labels = condition_labels(report.records, report.statistics)
    for label, record in zip(labels, report.records, strict=True):
        key = record.blur, record.sides
        changes: Mapping[str, Change] = compared.get(key, {})
        values: dict[str, Mapping[str, Any]] = {"after": record.values}
        if key in originals:
            values = {"before": originals[key], **values}
        if changes:
            roles = ("before", "control", "after") if comparison and comparison.runs.get("control") else (
                "before", "after"
            )  # fmt: skip
            values = {
                role: {name: getattr(change, role) for name, change in changes.items()} for role in roles
            }
        rows.append(Row(label=label, blur=record.blur, sides=record.sides, values=values, changes=changes))
    return rows


def _main_table(
    report: Report, rows: Sequence[Row], metrics: Sequence[Metric], comparison: Comparison | None
) -> Table:
    main, *others = metrics
    roles = roles_in(row.values for row in rows)
    header, lines = condition_cells(report.records, report.statistics)
    shades: list[list[float | None]] = [[None] * (len(header) - 1) for _ in rows]
    unit = ", points" if main.unit == "percent" else ""

    def values(metric: Metric) -> None:
        header.extend(f"{metric.heading} {role}" for role in roles)
        for row, line, tint in zip(rows, lines, shades, strict=True):
            line += [value_text(metric, row.value(role, metric.name)) for role in roles]
            tint += [None] * len(roles)

    values(main)
    header.append(f"change{unit}")
    for row, line, tint in zip(rows, lines, shades, strict=True):
        change = row.changes.get(main.name)
        own, base = row.value("after", main.name), row.value("before", main.name)
        if change is not None:
            line.append(change_text(main, change))
        elif own is None or base is None:
            line.append("-")
        else:
            line.append((points if main.unit == "percent" else signed_nats)(own - base))
        tint.append(_shade(main, change))
    if comparison is not None:
        header.append("recovered %")
        for row, line, tint in zip(rows, lines, shades, strict=True):
            change = row.changes.get(main.name)
            line.append("-" if change is None else recovered_text(change))
            tint.append(None)
    for metric in others:
        values(metric)
    nats = [metric.label for metric in metrics if metric.unit == "nats"]
    caption = f"{' and '.join(nats).capitalize()} in nats. " if nats else ""
    return Table(header=header, rows=lines, caption=caption + _legend(rows, comparison), shades=shades)


def _shade(metric: Metric, change: Change | None) -> float | None:
    """How a change is tinted: fully at 30 points, not where its interval holds 0."""
    if change is None or change.difference is None or change.difference_interval is None or not metric.better:
        return None
    low, high = change.difference_interval
    if low <= 0 <= high:
        return None
    return max(-1.0, min(1.0, metric.better * change.difference / 0.3))


def _legend(rows: Sequence[Row], comparison: Comparison | None) -> str:
    if comparison is not None:
        control = bool(comparison.runs.get("control"))
        against = "the control, trained for as long on sharp images" if control else "the network before"
        return (
            f"Changes are against {against}, fractions in percentage points. Recovered: share of the "
            f"{'control' if control else 'network before'}'s loss under blur that fine-tuning recovered. In "
            f"brackets: paired bootstrap {100 * comparison.level:g} % intervals over images. Tinted: the "
            "interval excludes 0. “-”: not defined, on sharp images or where the loss is under two standard "
            "errors."
        )
    missing = any("before" not in row.values for row in rows)
    return "“-”: not measured before." if missing else ""


def _records_table(report: Report, when: str) -> Table:
    header, rows = report.cells(skipped=True)
    left_out = left_out_text(report.statistics, report.settings)
    few = f" {left_out[0].upper()}{left_out[1:]}." if left_out else ""
    return Table(header=header, rows=rows, caption=f"Every number{f' {when}' if when else ''}.{few}")


def _changes_table(report: Report, comparison: Comparison) -> Table:
    further = comparison.metrics[1:]
    recovered = [metric for metric in further if metric.better]
    header, lines = condition_cells(comparison.rows, report.statistics)
    header += [f"{each.title}, points" if each.unit == "percent" else each.title for each in further]
    header += [f"{each.title} recovered %" for each in recovered]
    for row, line in zip(comparison.rows, lines, strict=True):
        line += [change_text(each, row.changes[each.name]) for each in further]
        line += [recovered_text(row.changes[each.name]) for each in recovered]
    runs = ", ".join(f"{count} {role}" for role, count in comparison.runs.items() if count)
    return Table(
        header=header,
        rows=lines,
        caption=(
            f"Further changes. Networks averaged: {runs}; {comparison.resamples} bootstrap resamples of "
            "the images. “-”: not defined, on sharp images or where the loss is under two standard errors."
        ),
    )


def _finding(report: Report, rows: Sequence[Row]) -> str:
    """The main result: the blur with the largest loss, before and after."""
    metric = report.statistics.metrics[0]
    name = metric.name
    label = label_text(metric)

    def text(row: Row, role: str) -> str:
        return value_text(metric, row.value(role, name), unit=True)

    sharp = {row.sides: row for row in rows if row.blur == "sharp"}
    blurred = [row for row in rows if row.blur != "sharp"]
    if not blurred:
        return f"{label} on sharp images is {text(rows[0], 'after')}."
    role = "before" if any("before" in row.values for row in blurred) else "after"
    measured = [row for row in blurred if row.value(role, name) is not None]
    if not measured:
        return f"{label} is not defined under any of the blurs."
    worst = min(measured, key=lambda row: (metric.better or 1) * (row.value(role, name) or 0.0))
    where = worst.blur
    if is_short_name(worst.blur):
        blur = parse(worst.blur)
        where = "camera shake" if isinstance(blur, PerImageShake) else f"{worst.blur} ({describe(blur)})"
    several = len({row.sides for row in rows}) > 1
    where += f" at side {sides_text(worst.sides, report.statistics.between_sides)}" if several else ""
    reference = sharp.get(worst.sides)
    known = None if reference is None else reference.value(role, name)
    if role == "after":
        if reference is None or known is None:
            return f"Under {where}, {metric.label} is {text(worst, 'after')}."
        lost = known - (worst.value(role, name) or 0.0)
        amount = f"{100 * lost:.1f} points" if metric.unit == "percent" else f"{lost:.2f} nats"
        return (
            f"Blur costs up to {amount}: {metric.label} is {text(reference, 'after')} "
            f"on sharp images and {text(worst, 'after')} under {where}."
        )
    found = (
        f"Under {where}, {metric.label} went from {text(worst, 'before')} to {text(worst, 'after')} "
        "by fine-tuning"
    )
    if "control" in worst.values:
        found += f", where training for as long on sharp images alone gave {text(worst, 'control')}"
    change = worst.changes.get(name)
    if change is not None and change.recovered is not None:
        found += f": {share(change.recovered)} % of the loss was recovered"
    found += "."
    if reference is not None and known is not None:
        found += f" On sharp images it was {text(reference, 'before')} and is {text(reference, 'after')}."
    return found


def _facts(report: Report, comparison: Comparison | None) -> dict[str, str]:
    settings, first = report.settings, report.records[0]
    sides = (f"{sides_text(each.sides, report.statistics.between_sides)} px" for each in report.records)
    facts = {
        "Network": network_name(settings),
        "Images": f"{first.count:,}",
        "From": settings.get("root"),
        "Copies": copies_text(settings),
        "Classes": classes_text(settings) or settings.get("classes"),
        "Sides": ", ".join(dict.fromkeys(sides)),
        "Skipped": f"{first.skipped} unreadable" if first.skipped else None,
        "State": "stopped before the end" if settings.get("complete") is False else None,
    }
    if comparison is not None and max(comparison.runs.values()) > 1:
        facts["Networks"] = f"mean of {comparison.runs['after']}"
    facts["Date"] = str(settings.get("date", ""))[:10]
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def settings_table(settings: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    """Every setting of an evaluation; of two, both values where any differs."""
    own, other = (
        {name: _text(value) for name, value in flattened(each).items() if not name.startswith(_UNLISTED)}
        for each in (settings, before or {})
    )
    both = before is not None and any(own.get(name) != other.get(name) for name in {*own, *other})
    names = list(dict.fromkeys([*own, *other]))
    rows = [[f"`{name}`", own.get(name, "-"), *([other.get(name, "-")] if both else [])] for name in names]
    return Table(
        header=["setting", "after" if both else "value", *(["before"] if both else [])],
        rows=rows,
        caption="Settings of the evaluation" + (", of both networks." if both else "."),
    )


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
