"""Metrics of classification and segmentation, from statistics of each image that add up."""

from ._classification import ImageValues, calibration_error, image_values, reliability
from ._segmentation import (
    VOID,
    PixelCounts,
    boundary_band,
    boundary_counts,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from ._selective import RiskCoverage, risk_coverage
from ._statistics import Metric, Statistics

# isort: split
# For other wings, not for users.
from ._bootstrap import interval, means, shares
from ._classification import TOP_K
from ._segmentation import BAND
from ._statistics import Averaged, averaged, statistics_of

__all__ = [
    "VOID",
    "ImageValues",
    "Metric",
    "PixelCounts",
    "RiskCoverage",
    "Statistics",
    "boundary_band",
    "boundary_counts",
    "calibration_error",
    "class_iou",
    "confusion_matrix",
    "image_values",
    "mean_iou",
    "pixel_accuracy",
    "reliability",
    "risk_coverage",
]
