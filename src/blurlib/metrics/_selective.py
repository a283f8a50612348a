"""How well a network knows its own errors.

The paper suggests it in its introduction and does not measure it: a network that is unsure of a blurred image
can ask for another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """The risk-coverage curve of a classifier; made by :func:`risk_coverage`.

    Attributes:
        risk: (N,) share of errors among the n surest images, n = 1 to N.
        area: mean of `risk`, the area under the curve (AURC; Geifman and others, 2019): smaller is better.

    Example:
        >>> curve = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 1, 0, 1]))
        >>> curve.accuracy(0.5), round(curve.area, 3)
        (1.0, 0.146)
    """

    risk: np.ndarray
    area: float

    def accuracy(self, coverage: float) -> float:
        """The accuracy on the most confident images, for a coverage.

        Args:
            coverage: their share, above 0 and at most 1; rounded up to whole images.

        Returns:
            Between 0 and 1.

        Raises:
            ValueError: if the coverage is out of its range.
        """
        if not 0 < coverage <= 1:
            raise ValueError(
                f"`coverage` must be above 0 and at most 1, got {coverage!r}; 0.8 declines a fifth"
            )
        return 1.0 - float(self.risk[int(np.ceil(coverage * len(self.risk) - 1e-9)) - 1])


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Compute the error rate on the most confident images, for every coverage.

    Images of equal confidence count as if in random order: each with their mean number of errors.

    Args:
        confidence: (N,) the larger the surer, such as the probability of the most probable class, or minus
            the entropy.
        correct: (N,) 0 or 1.

    Returns:
        The curve.

    Raises:
        ValueError: if the arrays are empty or of different lengths, or a confidence is NaN.

    Example:
        >>> risk_coverage(np.array([0.5, 0.5]), np.array([1, 0])).risk
        array([0.5, 0.5])
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.shape != right.shape or sure.ndim != 1 or not sure.size or np.isnan(sure).any():
        raise ValueError(
            "`confidence` and `correct` must be arrays of one length without NaN, got "
            f"{sure.shape} and {right.shape}"
        )
    _, group = np.unique(-sure, return_inverse=True)
    errors = np.bincount(group, weights=1 - right) / np.bincount(group)
    risk = np.cumsum(errors[np.sort(group)]) / np.arange(1, sure.size + 1)
    return RiskCoverage(risk=risk, area=float(risk.mean()))
