"""What one evaluation of segmentation measured under one condition."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..metrics import PixelCounts, class_iou

METRICS = {
    "miou": "mIoU %",
    "miou_band": "band mIoU %",
    "boundary_iou": "boundary IoU %",
    "accuracy": "pixels %",
}
"""The metrics of a record and their headings."""


@dataclass(frozen=True, kw_only=True)
class SegmentationRecord:
    """What was measured under one condition.

    Attributes:
        blur: short name, such as "D8".
        sides: the network side, or the height and width that every image was brought to.
        miou: mean IoU of the classes, of one confusion matrix over the data set; a fraction.
        miou_band: the same of the pixels near a class boundary alone; None where there are none.
        boundary_iou: mean Boundary IoU of the classes.
        accuracy: share of pixels whose class is right.
        class_iou: IoU of each class; None for one that neither truth nor prediction has.
        band_share: share of the labelled pixels that lie in the band.
        count: number of images.
        skipped: number of images left out because they could not be read.
        pixels: the counts of each image; None in a report that was loaded without its .npz file.

    Example:
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.zeros((1, 2, 2), int), rims=np.array([[[1, 1], [2, 1]]]))
        >>> record = SegmentationRecord.of(counts, blur="D8", sides=(384,))
        >>> record.class_iou, record.miou_band
        ((0.5, 0.6666666666666666), None)
    """

    blur: str
    sides: tuple[int, ...]
    miou: float
    miou_band: float | None
    boundary_iou: float
    accuracy: float
    class_iou: tuple[float | None, ...]
    band_share: float
    count: int
    skipped: int = 0
    pixels: PixelCounts | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, pixels: PixelCounts, *, blur: str, sides: tuple[int, ...], skipped: int = 0
    ) -> SegmentationRecord:
        """The record of images of which at least one has a labelled pixel.

        Args:
            pixels: the counts.
            blur: short name of the blur.
            sides: of the network's input.
            skipped: how many more images could not be read.

        Returns:
            The record.

        Raises:
            ValueError: if no pixel is labelled.

        Example:
            >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
            ...                      band=np.zeros((1, 2, 2), int), rims=np.array([[[1, 1], [2, 1]]]))
            >>> SegmentationRecord.of(counts, blur="sharp", sides=(384,)).accuracy
            0.75
        """
        total = int(pixels.matrix.sum())
        if not total:
            raise ValueError(
                f"`root` must have masks with labelled pixels, got none in {len(pixels.ids)} images "
                f"({skipped} could not be read); 255 is void"
            )
        found = {name: float(value) for name, value in pixels.metrics().items()}
        each = class_iou(pixels.matrix.sum(axis=0))
        return cls(
            blur=blur,
            sides=tuple(sides),
            miou=found["miou"],
            miou_band=None if np.isnan(found["miou_band"]) else found["miou_band"],
            boundary_iou=found["boundary_iou"],
            accuracy=found["accuracy"],
            class_iou=tuple(None if np.isnan(value) else value for value in each.tolist()),
            band_share=float(pixels.band.sum() / total),
            count=len(pixels.ids),
            skipped=skipped,
            pixels=pixels,
        )
