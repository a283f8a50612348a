"""Accuracy, predictions and features of a network under blur."""

from ._evaluate import PAPER_BLURS, evaluate
from ._features import Disparity, Invariance, disparity, invariance
from ._predictions import Distribution, predictions

__all__ = [
    "PAPER_BLURS",
    "Disparity",
    "Distribution",
    "Invariance",
    "disparity",
    "evaluate",
    "invariance",
    "predictions",
]
