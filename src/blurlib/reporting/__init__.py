"""What was measured, compared and shown: records, reports, comparisons, tables and pages."""

from ._comparison import Change, Comparison, ComparisonRow, compare_records
from ._records import Accumulator, Record, find
from ._report import BlurReport, compare
from ._segmentation_comparison import SegmentationComparison, compare_counts, defined_interval
from ._segmentation_records import METRICS, SegmentationRecord
from ._segmentation_report import SegmentationReport, compare_segmentation, is_segmentation
from ._selective import confidence_lines, confidence_table

# isort: split
# For other wings, not for users.
from ._html import (
    Code,
    Judged,
    Prediction,
    Section,
    Table,
    blurred_figure,
    judged_figure,
    kernels_figure,
    maps_figure,
    predictions_figure,
    report_page,
    scenes_figure,
    write_page,
)
from ._text import markdown_table, nats, percent, plain_table, points, sides_text, with_interval

__all__ = [
    "METRICS",
    "Accumulator",
    "BlurReport",
    "Change",
    "Comparison",
    "ComparisonRow",
    "Record",
    "SegmentationComparison",
    "SegmentationRecord",
    "SegmentationReport",
    "compare",
    "compare_counts",
    "compare_records",
    "compare_segmentation",
    "confidence_lines",
    "confidence_table",
    "defined_interval",
    "find",
    "is_segmentation",
]
