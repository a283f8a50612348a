"""Pages that are one file: objects go in, sections come out."""

from .charts import risk_figure
from .evaluation_page import report_page
from .maps import maps_figure, scenes_figure
from .page import Code, Figure, Section, Table, write_page
from .pictures import blurred_figure, kernels_figure
from .predictions import Judged, Prediction, judged_figure, predictions_figure

__all__ = [
    "Code",
    "Figure",
    "Judged",
    "Prediction",
    "Section",
    "Table",
    "blurred_figure",
    "judged_figure",
    "kernels_figure",
    "maps_figure",
    "predictions_figure",
    "report_page",
    "risk_figure",
    "scenes_figure",
    "write_page",
]
