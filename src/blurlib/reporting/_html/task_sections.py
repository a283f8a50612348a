"""Sections of the page that not every task has: calibration, risk and coverage of a classifier; classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...metrics import ImageValues, reliability, risk_coverage
from .._records import condition_labels
from .._task_tables import class_cells, confidence_cells
from .charts import reliability_figure, risk_figure
from .class_losses import class_losses
from .examples import examples_figures
from .page import Figure, Section, Table

if TYPE_CHECKING:
    from .._report import Report

_PANELS = 12  # conditions whose curves a page shows, the first ones; its table has all conditions
_SELECTIVE = """
A network that is unsure can ask for another picture instead of guessing. How accurate is it on the images
that it is surest of?
"""
_EXAMPLES = """
Images of the evaluation as the network saw them. They were taken evenly from the listing, not for what they
show.
"""
_CALIBRATION = """
A network is calibrated if of the images to which it gives a probability of 0.8 it gets 80 % right.
"""
_SELECTIVE_CAPTION = """Top-1 accuracy in percent on the surest images, by the probability of the most
probable class. AURC: area under the risk-coverage curve, smaller is better; by entropy in the last column."""


def task_sections(
    report: Report, *, before: Report | None = None, control: Report | None = None
) -> list[Section]:
    """What the page of a report has beyond that of every task."""
    sections = []
    pictures = examples_figures(report, before)
    if pictures:
        sections.append(Section(title="Photographs under blur", text=_EXAMPLES, parts=pictures))
    if all(isinstance(record.images, ImageValues) for record in report.records):
        header, rows = confidence_cells(report.records)
        table = Table(header=header, rows=rows, caption=_SELECTIVE_CAPTION)
        risks = _curves(
            report, before, control, lambda images: risk_coverage(images.confidence, images.correct).risk
        )
        parts: list[Figure | Table] = [risk_figure(risks), table]
        bins = _curves(report, before, control, lambda images: reliability(images.confidence, images.correct))
        sections.append(Section(title="Calibration", text=_CALIBRATION, parts=[reliability_figure(bins)]))
        sections.append(Section(title="Selective prediction", text=_SELECTIVE, parts=parts))
    classes: list[Table] = []
    lost = class_losses(report, before=before, control=control)
    if lost is not None:
        classes.append(lost)
    if "class_iou" in report.records[0].values:
        names = report.settings.get("class_names") or ()
        header, rows = class_cells(report.records, names)
        classes.append(Table(header=header, rows=rows, caption="IoU of each class in percent."))
    if classes:
        sections.append(Section(title="Losses by class", parts=classes))
    return sections


def _curves(
    report: Report,
    before: Report | None,
    control: Report | None,
    curve: Callable[[ImageValues], np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
    """What is drawn of the first conditions, of all networks that were measured under them."""
    curves: dict[str, dict[str, np.ndarray]] = {}
    titles = condition_labels(report.records, report.statistics)
    for title, record in list(zip(titles, report.records, strict=True))[:_PANELS]:
        for role, each in (("before", before), ("control", control), ("after", report)):
            for other in () if each is None else each.records:
                same = (other.blur, other.sides) == (record.blur, record.sides)
                if same and isinstance(other.images, ImageValues):
                    curves.setdefault(title, {})[role] = curve(other.images)
    return curves
