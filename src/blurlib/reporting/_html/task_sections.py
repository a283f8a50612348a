"""Sections of the page that one task has: risk and coverage of a classifier, the IoU of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...metrics import ImageValues, risk_coverage
from .._records import condition_labels
from .._task_tables import class_cells, confidence_cells
from .charts import risk_figure
from .page import Figure, Section, Table

if TYPE_CHECKING:
    from .._report import Report

_PANELS = 12  # risk-coverage curves that a page shows, the first ones; its table has all conditions
_SELECTIVE = """
A network that is unsure can ask for another picture instead of guessing. How accurate is it on the images
that it is surest of?
"""
_SELECTIVE_CAPTION = """Top-1 accuracy in percent on the surest images, by the probability of the most
probable class. AURC: area under the risk-coverage curve, smaller is better; by entropy in the last column."""


def task_sections(
    report: Report, *, before: Report | None = None, control: Report | None = None
) -> list[Section]:
    """What the page of a report has beyond that of every task."""
    sections = []
    if all(isinstance(record.images, ImageValues) for record in report.records):
        header, rows = confidence_cells(report.records)
        table = Table(header=header, rows=rows, caption=_SELECTIVE_CAPTION)
        parts: list[Figure | Table] = [_risks(report, before, control), table]
        sections.append(Section(title="Selective prediction", text=_SELECTIVE, parts=parts))
    if "class_iou" in report.records[0].values:
        header, rows = class_cells(report.records)
        each = Table(header=header, rows=rows, caption="IoU of each class in percent.")
        sections.append(Section(title="Classes", parts=[each]))
    return sections


def _risks(report: Report, before: Report | None, control: Report | None) -> Figure:
    """Risk-coverage curves of the first conditions, of all networks that were measured under them."""
    curves: dict[str, dict[str, np.ndarray]] = {}
    titles = condition_labels(report.records, report.statistics)
    for title, record in list(zip(titles, report.records, strict=True))[:_PANELS]:
        for role, each in (("before", before), ("control", control), ("after", report)):
            for other in () if each is None else each.records:
                same = (other.blur, other.sides) == (record.blur, record.sides)
                if same and isinstance(other.images, ImageValues):
                    curve = risk_coverage(other.images.confidence, other.images.correct)
                    curves.setdefault(title, {})[role] = curve.risk
    return risk_figure(curves)
