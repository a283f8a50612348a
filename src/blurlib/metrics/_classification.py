"""Metrics of classification: values of each image, and what they add up to.

Everything is computed in float64 on the CPU, so that a record does not depend on the precision of the
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._statistics import Metric, Statistics

BINS = 15
TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class ImageValues(Statistics):
    """Correctness, confidence and entropy of each image under one condition; every array has shape (N,).

    Attributes:
        ids: names of the images, unicode.
        label: index of the true class, int64.
        correct: 1 where the most probable class is the true one, uint8.
        correct5: 1 where the true class is among the five most probable ones, uint8.
        entropy: of the predicted distribution, in nats, float64.
        cross_entropy: minus the log-probability of the true class, in nats, float64.
        confidence: probability of the most probable class, float64.

    Example:
        >>> image_values(torch.zeros(1, 2), [0], ids=["a.png"]).confidence
        array([0.5])
    """

    label: np.ndarray
    correct: np.ndarray
    correct5: np.ndarray
    entropy: np.ndarray
    cross_entropy: np.ndarray
    confidence: np.ndarray

    task = "classification"
    metrics = (
        Metric(name="top1", title="top-1", label="top-1 accuracy"),
        Metric(name="top5", title="top-5", label="top-5 accuracy", plotted=False, among=TOP_K),
        Metric(name="entropy", title="entropy", label="entropy", unit="nats", better=0, listed=False),
        Metric(name="cross_entropy", title="cross-entropy", label="cross-entropy", unit="nats", better=-1),
        Metric(
            name="ece", title="ECE", label="expected calibration error", better=-1, compared=False,
            listed=False, plotted=False,
        ),
    )  # fmt: skip
    arrays = {  # noqa: RUF012  # a class variable by Statistics
        "correct": "uint8", "correct5": "uint8", "entropy": "float64", "cross_entropy": "float64",
        "confidence": "float64",
    }  # fmt: skip
    shared = {"label": "int64"}  # noqa: RUF012  likewise
    linear = True
    explanation = (
        "Top-1 and top-5: share of images whose true class is the most probable one, or among the five most "
        "probable. Entropy of the predicted distribution: how unsure the network is. Cross-entropy with the "
        "true class: minus the log-probability of the truth, smaller is better. Both are in nats. ECE: "
        "expected calibration error."
    )

    def compute(self) -> dict[str, Any]:
        """Means over the images, and the calibration error with 15 equal bins.

        The cross-entropy is None, not defined, where the network excludes an image's true class (-inf).
        """
        loss = float(self.cross_entropy.mean())
        return {
            "top1": float(self.correct.mean(dtype=np.float64)),
            "top5": float(self.correct5.mean(dtype=np.float64)),
            "entropy": float(self.entropy.mean()),
            "cross_entropy": None if loss == np.inf else loss,
            "ece": calibration_error(self.confidence, self.correct),
        }

    @property
    def chance(self) -> float:
        """The share of the most frequent class."""
        return float(np.unique(self.label, return_counts=True)[1].max() / len(self))

    def columns(self) -> np.ndarray:
        """(N, 4): top-1, top-5, entropy, cross-entropy; that is NaN where its mean is not defined."""
        loss = (
            self.cross_entropy if np.isfinite(self.cross_entropy).all() else np.full(len(self.label), np.nan)
        )
        found = (self.correct, self.correct5, self.entropy, loss)
        return np.stack(found, axis=1).astype(np.float64)

    def from_means(self, means: np.ndarray) -> dict[str, np.ndarray]:
        """The columns by their names."""
        return dict(zip(("top1", "top5", "entropy", "cross_entropy"), means.T, strict=True))


def image_values(
    scores: torch.Tensor, labels: Sequence[int] | torch.Tensor, *, ids: Sequence[str] | None = None
) -> ImageValues:
    """Compute the metrics of each image from its predicted distribution.

    Classes of equal score are ranked by their index, as argmax does; a network that gives every class the
    same score is therefore right only on class 0.

    Args:
        scores: (N, C) logits or (mean) log-probabilities; the probabilities are their softmax.
        labels: (N,) indices of the true classes.
        ids: names of the N images; their positions if None.

    Returns:
        The values of the N images. With C < 5 classes `correct5` looks at all C and is therefore always 1.

    Example:
        >>> values = image_values(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), [0, 0])
        >>> values.correct, values.ids
        (array([1, 0], dtype=uint8), array(['0', '1'], dtype='<U1'))
    """
    log_p = scores.detach().cpu().double().log_softmax(dim=1)
    label = torch.as_tensor(labels, dtype=torch.int64)
    true = log_p.gather(1, label[:, None])
    before = torch.arange(log_p.shape[1]) < label[:, None]
    rank = ((log_p > true) | ((log_p == true) & before)).sum(dim=1)
    p = log_p.exp()
    # A class that the network excludes (log-probability -inf) adds 0 to the entropy, not 0 * inf.
    entropy = -torch.where(p > 0, p * log_p, torch.zeros_like(p)).sum(dim=1)
    return ImageValues(
        ids=np.array([str(i) for i in (range(len(label)) if ids is None else ids)], dtype=np.str_),
        label=label.numpy(),
        correct=(rank < 1).to(torch.uint8).numpy(),
        correct5=(rank < TOP_K).to(torch.uint8).numpy(),
        # Adding 0 turns "-0.0", which would print as such, into 0.
        entropy=torch.where(p.isnan().any(dim=1), torch.nan, entropy + 0.0).numpy(),
        cross_entropy=(-true[:, 0] + 0.0).numpy(),
        confidence=p.amax(dim=1).numpy(),
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over bins of confidence.

    The bins are equal in width, (0, 1/bins], (1/bins, 2/bins], ...; each counts by its number of images
    (Naeini et al., 2015; Guo et al., 2017).

    Args:
        confidence: (N,) probabilities of the most probable class, in [0, 1].
        correct: (N,) 0 or 1.
        bins: number of bins.

    Returns:
        The error, between 0 and 1.

    Example:
        >>> calibration_error(np.array([0.75, 0.75]), np.array([1, 0]))
        0.25
    """
    gaps = np.bincount(
        _bin(confidence, bins),
        weights=np.asarray(correct, dtype=np.float64) - confidence,
        minlength=bins,
    )
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> np.ndarray:
    """The reliability diagram: what the bins of :func:`calibration_error` hold.

    Args:
        confidence: (N,) probabilities of the most probable class, in [0, 1].
        correct: (N,) 0 or 1.
        bins: number of bins.

    Returns:
        (3, bins): number of images, their mean confidence, their accuracy; 0 in an empty bin.

    Example:
        >>> reliability(np.array([0.75, 0.75]), np.array([1, 0]), bins=2)
        array([[0.  , 2.  ],
               [0.  , 0.75],
               [0.  , 0.5 ]])
    """
    place = _bin(confidence, bins)
    count = np.bincount(place, minlength=bins).astype(np.float64)
    sums = [np.bincount(place, weights=each, minlength=bins) for each in (confidence, correct)]
    return np.stack([count, *(each / np.maximum(count, 1) for each in sums)])


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left")
