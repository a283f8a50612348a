"""Where tasks differ: what an item is, the loss, the statistics of an image.

The loops of evaluation and training know a task by `EvaluationTask` and by the two classes of training.
"""

from ._batch_norm import running_statistics
from .classification import ClassificationEvaluation, Classifying
from .segmentation import SegmentationEvaluation, Segmenting, predicted
from .task import EvaluationSettings, EvaluationTask

__all__ = [
    "ClassificationEvaluation",
    "Classifying",
    "EvaluationSettings",
    "EvaluationTask",
    "SegmentationEvaluation",
    "Segmenting",
    "predicted",
    "running_statistics",
]
