"""Every table and figure of the paper as a command: what it published, and ours beside it."""

from ._cells import ITEMS
from ._experiment import Run, reproduce
from ._figures import FIGURES, NEEDS, figure1, figure2, figure3, figure4, figure5
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
from ._segmentation_experiment import SegmentationRun, SegmentationSettings
from ._settings import USUAL_SIDE, ReproductionSettings

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
    "Metric",
    "PaperTable",
    "Recipe",
    "ReproducedCell",
    "ReproducedTable",
    "ReproductionSettings",
    "Run",
    "SegmentationRun",
    "SegmentationSettings",
    "Training",
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "reproduce",
]
