"""What a segmentation network got right under one condition, as whole counts of pixels for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import _bootstrap
from ._segmentation import mean_iou, pixel_accuracy


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Pixels counted under one condition, for each image.

    Attributes:
        ids: (N,) names of the images.
        matrix: (N, K, K) confusion matrices, a row a true class.
        band: (N, K, K) those of the pixels near a class boundary.
        rims: (N, 2, K) intersection and union of the classes' rims (Boundary IoU).

    Example:
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.zeros((1, 2, 2), int), rims=np.array([[[1, 1], [2, 1]]]))
        >>> {name: value.round(3).tolist() for name, value in counts.metrics().items()}
        {'miou': 0.583, 'miou_band': nan, 'boundary_iou': 0.75, 'accuracy': 0.75}
    """

    ids: np.ndarray
    matrix: np.ndarray
    band: np.ndarray
    rims: np.ndarray

    def metrics(self) -> dict[str, np.ndarray]:
        """The metrics of all images together: fractions, NaN where nothing was counted."""
        return _metrics(self.matrix.sum(axis=0), self.band.sum(axis=0), self.rims.sum(axis=0))

    def samples(self, *, resamples: int = 2000, seed: int = 0) -> dict[str, np.ndarray]:
        """The metrics of resampled images, the same resampling for all counts of as many images.

        Args:
            resamples: how many, R.
            seed: of the resampling.

        Returns:
            (R,) of each metric.
        """
        count, classes = self.matrix.shape[:2]
        flat = [each.reshape(count, -1) for each in (self.matrix, self.band, self.rims)]
        means = _bootstrap.means(
            np.concatenate(flat, axis=1).astype(np.float64), resamples=resamples, seed=seed
        )
        # A class that no image of a resampling has is a sum of zeros, exactly.
        matrix, band, rims = np.split(means, [classes**2, 2 * classes**2], axis=1)
        return _metrics(
            matrix.reshape(-1, classes, classes),
            band.reshape(-1, classes, classes),
            rims.reshape(-1, 2, classes),
        )


def _metrics(matrix: np.ndarray, band: np.ndarray, rims: np.ndarray) -> dict[str, np.ndarray]:
    shared, union = rims[..., 0, :], rims[..., 1, :]
    present = union > 0
    each = np.divide(shared, union, out=np.zeros(np.shape(union)), where=present)
    count = present.sum(axis=-1)
    none = np.full(np.shape(count), np.nan)
    return {
        "miou": mean_iou(matrix),
        "miou_band": mean_iou(band),
        "boundary_iou": np.divide(each.sum(axis=-1), count, out=none, where=count > 0),
        "accuracy": pixel_accuracy(matrix),
    }
