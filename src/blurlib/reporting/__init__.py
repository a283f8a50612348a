"""Reports of evaluations, comparisons of reports, and their tables and HTML pages."""

from ._comparison import Change, Comparison, ComparisonRow, compare
from ._records import Record, find
from ._report import Report
from ._show import show
from ._task_tables import class_table, confidence_table

# isort: split
# For other wings, not for users.
from ._html import (
    Code,
    Crossing,
    Family,
    Point,
    Prediction,
    Section,
    Table,
    Verdict,
    blurred_figure,
    kept_example,
    kept_kernels,
    kernels_figure,
    maps_figure,
    predictions_figure,
    recognition_figure,
    report_page,
    segmentation_figure,
    settings_table,
    sizes_figure,
    write_page,
)
from ._text import markdown_table, nats, percent, plain_table, points, sides_text, with_interval

__all__ = [
    "Change",
    "Comparison",
    "ComparisonRow",
    "Record",
    "Report",
    "class_table",
    "compare",
    "confidence_table",
    "find",
    "show",
]
