"""What a segmentation network got right under one condition, as whole counts of pixels for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._segmentation import class_iou, mean_iou, pixel_accuracy
from ._statistics import Metric, Statistics


@dataclass(frozen=True, kw_only=True)
class PixelCounts(Statistics):
    """Pixels counted under one condition, for each image.

    Attributes:
        ids: (N,) names of the images.
        matrix: (N, K, K) confusion matrices, a row a true class.
        band: (N, K, K) those of the pixels near a class boundary.
        regions: (N, 2, K) intersection and union of the classes' boundary regions (Boundary IoU).

    Example:
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.zeros((1, 2, 2), int), regions=np.array([[[1, 1], [2, 1]]]))
        >>> found = counts.compute()
        >>> found["miou"], found["trimap_miou"], found["boundary_iou"], found["accuracy"]
        (0.5833333333333333, None, 0.75, 0.75)
    """

    matrix: np.ndarray
    band: np.ndarray
    regions: np.ndarray

    task = "segmentation"
    metrics = (
        Metric(name="miou", title="mIoU", label="mean IoU"),
        Metric(name="trimap_miou", title="trimap mIoU", label="mean IoU near boundaries"),
        Metric(name="boundary_iou", title="boundary IoU", label="Boundary IoU", listed=False, plotted=False),
        Metric(name="accuracy", title="pixels", label="pixel accuracy", listed=False, plotted=False),
    )
    arrays = {"matrix": "int32", "band": "int32", "regions": "int32"}  # noqa: RUF012  # by Statistics
    between_sides = "x"
    explanation = (
        "mIoU: mean intersection over union of the classes, of one confusion matrix over all images. Trimap "
        "mIoU: the same of the pixels near a class boundary. Boundary IoU: of the classes' boundary regions. "
        "Pixels: share of the labelled pixels whose class is right. Void pixels never count."
    )

    def compute(self) -> dict[str, Any]:
        """The metrics, the IoU of each class, and the share of the labelled pixels that lie in the band.

        Raises:
            ValueError: if no pixel is labelled.
        """
        total = int(self.matrix.sum())
        if not total:
            raise ValueError(
                f"`root` must have masks with labelled pixels, got none in {len(self)} images; 255 is void"
            )
        found = self.from_means(self.columns().sum(axis=0, keepdims=True))
        each = class_iou(self.matrix.sum(axis=0))
        return {
            **{name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()},
            "class_iou": tuple(None if np.isnan(value) else value for value in each.tolist()),
            "band_share": float(self.band.sum() / total),
        }

    def columns(self) -> np.ndarray:
        """(N, 2 K K + 2 K) counts."""
        flat = [each.reshape(len(self), -1) for each in (self.matrix, self.band, self.regions)]
        return np.concatenate(flat, axis=1).astype(np.float64)

    def from_means(self, means: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics of sums or means of the counts: every one is a ratio."""
        # A class that no image of a resampling has is a sum of zeros, exactly.
        classes = self.matrix.shape[-1]
        matrix, band, regions = np.split(means, [classes**2, 2 * classes**2], axis=1)
        matrix, band = (each.reshape(-1, classes, classes) for each in (matrix, band))
        shared, union = regions[:, :classes], regions[:, classes:]
        each = np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)
        count = (union > 0).sum(axis=1)
        none = np.full(count.shape, np.nan)
        return {
            "miou": mean_iou(matrix),
            "trimap_miou": mean_iou(band),
            "boundary_iou": np.divide(each.sum(axis=1), count, out=none, where=count > 0),
            "accuracy": pixel_accuracy(matrix),
        }
