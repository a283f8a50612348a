"""Every table and figure of the paper as a command: our numbers next to the published ones."""

from ._cells import ITEMS
from ._experiment import Run
from ._figures import FIGURES, NEEDS, figure1, figure2, figure3
from ._map_figures import figure4, figure5
from ._published import (
    CLASSIFICATION,
    CONDITIONS,
    MIXES,
    NETWORKS,
    SEGMENTATION,
    TABLES,
    Cell,
    Metric,
    PaperTable,
    Recipe,
    Training,
)
from ._results import ReproducedCell, ReproducedTable
from ._settings import USUAL_SIDE, ClassificationSettings, ReproductionSettings, SegmentationSettings
from ._tables import reproduce, reproduce_table

__all__ = [
    "CLASSIFICATION",
    "CONDITIONS",
    "FIGURES",
    "ITEMS",
    "MIXES",
    "NEEDS",
    "NETWORKS",
    "SEGMENTATION",
    "TABLES",
    "USUAL_SIDE",
    "Cell",
    "ClassificationSettings",
    "Metric",
    "PaperTable",
    "Recipe",
    "ReproducedCell",
    "ReproducedTable",
    "ReproductionSettings",
    "Run",
    "SegmentationSettings",
    "Training",
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "reproduce",
    "reproduce_table",
]
