"""Where tasks differ: what an item is, the loss, the statistics of an image.

The loops of evaluation and training know a task by `EvaluationTask` and `TrainingTask`.
"""

from ._batch_norm import running_statistics
from ._probe import Feed, check_network, compiler_failed, probe, said
from .classification import ClassificationEvaluation, ClassificationTraining
from .evaluating import EvaluationTask
from .learning import Batch, TrainingTask
from .segmentation import SegmentationEvaluation, SegmentationTraining, predicted
from .settings import BatchNorm, ClassNames, EvaluationSettings, Root, Schedule, TrainingSettings

__all__ = [
    "Batch",
    "BatchNorm",
    "ClassNames",
    "ClassificationEvaluation",
    "ClassificationTraining",
    "EvaluationSettings",
    "EvaluationTask",
    "Feed",
    "Root",
    "Schedule",
    "SegmentationEvaluation",
    "SegmentationTraining",
    "TrainingSettings",
    "TrainingTask",
    "check_network",
    "compiler_failed",
    "predicted",
    "probe",
    "running_statistics",
    "said",
]
