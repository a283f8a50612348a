"""Pages that are one file: objects go in, sections come out."""

from .charts import risk_figure, sizes_figure
from .drawing import Crossing, Point
from .evaluation_page import report_page, settings_table
from .examples import kept_example
from .maps import maps_figure, segmentation_figure
from .page import Code, Figure, Section, Table, write_page
from .pictures import blurred_figure, kept_kernels, kernels_figure
from .predictions import Prediction, Verdict, predictions_figure, recognition_figure
from .sizes import Family

__all__ = [
    "Code",
    "Crossing",
    "Family",
    "Figure",
    "Point",
    "Prediction",
    "Section",
    "Table",
    "Verdict",
    "blurred_figure",
    "kept_example",
    "kept_kernels",
    "kernels_figure",
    "maps_figure",
    "predictions_figure",
    "recognition_figure",
    "report_page",
    "risk_figure",
    "segmentation_figure",
    "settings_table",
    "sizes_figure",
    "write_page",
]
