"""Pages that are one file: objects go in, sections come out."""

from .charts import risk_figure
from .evaluation_page import report_page
from .examples import kept_example
from .maps import maps_figure, segmentation_figure
from .page import Code, Figure, Section, Table, write_page
from .pictures import blurred_figure, kept_kernels, kernels_figure
from .predictions import Prediction, Verdict, predictions_figure, recognition_figure

__all__ = [
    "Code",
    "Figure",
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
    "write_page",
]
