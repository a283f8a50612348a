"""Metrics of segmentation: pixel counts of each image, from confusion matrices, boundary band and regions.

All counts are whole numbers of pixels that add up, so that nothing depends on batches, order or processes,
and a mean over classes is taken once, at the end (VOC's mean IoU, never a mean of values of single images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._common.checks import check_integer
from ._statistics import Metric, Statistics

VOID = 255
"""The label of pixels that do not count, as in Pascal VOC."""

BAND = 4  # px from a class boundary within which a pixel counts for the trimap mIoU, as in the paper


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
                f"`root` must have masks with labelled pixels, got none in {len(self)} images; look at their "
                "values and at what is void: `ignore_index`, `reduce_zero_label`"
            )
        found = self.from_means(self.columns().sum(axis=0, keepdims=True))
        each = class_iou(self.matrix.sum(axis=0))
        return {
            **{name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()},
            "class_iou": tuple(None if np.isnan(value) else value for value in each.tolist()),
            "band_share": float(self.band.sum() / total),
        }

    @property
    def chance(self) -> float:
        """The mean IoU where every pixel is said to be of the most frequent class."""
        pixels = self.matrix.sum(axis=(0, 2))
        return float(pixels.max() / pixels.sum() / np.count_nonzero(pixels))

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


def confusion_matrix(
    truth: np.ndarray, predicted: np.ndarray, *, classes: int, where: np.ndarray | None = None
) -> np.ndarray:
    """Count pixels by true and predicted class; void pixels of the truth do not count.

    Args:
        truth: (H, W) labels from 0 to classes - 1, or `VOID`.
        predicted: (H, W) classes from 0 to classes - 1.
        classes: how many there are.
        where: (H, W) bool, the pixels to count; None counts all.

    Returns:
        (classes, classes) int64, a row a true class.

    Raises:
        ValueError: if the shapes differ, or a label is out of its range.

    Example:
        >>> confusion_matrix(np.array([[0, 1, 255]]), np.array([[0, 0, 0]]), classes=2)
        array([[1, 0],
               [1, 0]])
    """
    _check_pair(truth, predicted)
    if where is not None and where.shape != truth.shape:
        raise ValueError(f"`where` must have the shape of `truth`, {truth.shape}, got {where.shape}")
    counted = truth != VOID if where is None else (truth != VOID) & where
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("truth", rows), ("predicted", columns)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            wrong = sorted({int(value) for value in (values.min(), values.max()) if not 0 <= value < classes})
            raise ValueError(
                f"`{name}` must hold labels from 0 to {classes - 1}, or {VOID} where the truth is void, got "
                f"{', '.join(map(str, wrong))}"
            )
    counts = np.bincount(classes * rows + columns, minlength=classes**2)
    return counts.reshape(classes, classes)


def _check_pair(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(
            f"`truth` and `predicted` must be of one shape (H, W), got {truth.shape} and {predicted.shape}"
        )


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class.

    Args:
        matrix: (..., K, K) confusion matrices.

    Returns:
        (..., K) float64 fractions; NaN for a class that neither truth nor prediction has.

    Example:
        >>> class_iou(np.array([[1, 0, 0], [1, 2, 0], [0, 0, 0]])).round(3)
        array([0.5  , 0.667,   nan])
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    union = matrix.sum(axis=-1) + matrix.sum(axis=-2) - hits
    found: np.ndarray = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return found


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes that truth or prediction has (VOC's measure; there all are present).

    Args:
        matrix: (..., K, K) confusion matrices of whole data sets.

    Returns:
        (...) float64 fractions; NaN where nothing was counted.

    Example:
        >>> float(mean_iou(np.array([[1, 0], [1, 2]])).round(3))
        0.583
    """
    each = class_iou(matrix)
    present = ~np.isnan(each)
    total, count = np.where(present, each, 0.0).sum(axis=-1), present.sum(axis=-1)
    found: np.ndarray = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    return found


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of the counted pixels whose class is right.

    Args:
        matrix: (..., K, K) confusion matrices.

    Returns:
        (...) float64 fractions; NaN where nothing was counted.

    Example:
        >>> float(pixel_accuracy(np.array([[1, 0], [1, 2]])))
        0.75
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).sum(axis=-1).astype(np.float64)
    total = matrix.sum(axis=(-2, -1))
    found: np.ndarray = np.divide(hits, total, out=np.full(np.shape(hits), np.nan), where=total > 0)
    return found


def boundary_band(truth: np.ndarray, *, width: int = BAND, void_edges: bool = True) -> np.ndarray:
    """Mark the pixels within `width` px of another label (the paper's table 6: four).

    Distances are Euclidean, between centres of pixels; the edge of the image is no boundary. Void counts as
    another label here although void pixels are never scored: in VOC a line of void, about five pixels wide,
    lies along every object, and without it almost no boundary would be left.

    Args:
        truth: (H, W) labels.
        width: in px, at least 1.
        void_edges: False takes void for no label, so that only two classes make a boundary.

    Returns:
        (H, W) bool; void pixels are never part of it.

    Raises:
        ValueError: if `truth` is not (H, W), or `width` is out of its range.

    Example:
        >>> boundary_band(np.array([[0, 0, 0, 1, 1]]), width=1)
        array([[False, False,  True,  True, False]])
    """
    if truth.ndim != 2:
        raise ValueError(f"`truth` must be of shape (H, W), got {truth.shape}")
    check_integer("width", width, low=1, high=1000)
    height, length = truth.shape
    band = np.zeros(truth.shape, dtype=bool)
    for down in range(min(width, height - 1) + 1):
        for right in range(-min(width, length - 1), min(width, length - 1) + 1):
            # Each pair of pixels once: an offset stands for its opposite too.
            if (down, right) <= (0, 0) or down**2 + right**2 > width**2:
                continue
            here = slice(0, height - down), slice(max(0, -right), length - max(0, right))
            there = slice(down, height), slice(max(0, right), length - max(0, -right))
            differ = truth[here] != truth[there]
            if not void_edges:
                differ &= (truth[here] != VOID) & (truth[there] != VOID)
            band[here] |= differ
            band[there] |= differ
    band &= truth != VOID
    return band


def boundary_counts(
    truth: np.ndarray, predicted: np.ndarray, *, classes: int, ratio: float = 0.02
) -> np.ndarray:
    """Intersection and union of the boundary regions of each class (Boundary IoU; Cheng et al., CVPR 2021).

    A boundary region holds the pixels of a mask from which the outside, beyond the image's edge too, is at
    most d pixels away (chessboard distance), d being `ratio` of the image's diagonal. Void pixels of the
    truth belong to no mask on either side.

    Args:
        truth: (H, W) labels from 0 to classes - 1, or `VOID`.
        predicted: (H, W) classes.
        classes: how many there are.
        ratio: of the diagonal, above 0; the authors' 2 %.

    Returns:
        (2, classes) int64: intersections and unions, to be added up over the data set and then divided.

    Raises:
        ValueError: if the shapes differ or `ratio` is not above 0.

    Example:
        >>> square = np.zeros((6, 6), int)
        >>> square[1:5, 1:5] = 1
        >>> boundary_counts(square, square, classes=2).tolist()
        [[20, 12], [20, 12]]
    """
    _check_pair(truth, predicted)
    if not ratio > 0:
        raise ValueError(f"`ratio` must be above 0, got {ratio!r}; the authors take 0.02")
    depth = max(1, round(ratio * float(np.hypot(*truth.shape))))
    known = truth != VOID
    counts = np.zeros((2, classes), dtype=np.int64)
    present = np.union1d(np.unique(truth[known]), np.unique(predicted[known]))
    for label in present.astype(np.int64).tolist():
        own, other = (_boundary_region((each == label) & known, depth) for each in (truth, predicted))
        counts[:, label] = (own & other).sum(), (own | other).sum()
    return counts


def _boundary_region(mask: np.ndarray, depth: int) -> np.ndarray:
    from scipy import ndimage

    inside = ndimage.minimum_filter(mask.view(np.uint8), size=2 * depth + 1, mode="constant", cval=0)
    region: np.ndarray = mask & (inside == 0)
    return region
