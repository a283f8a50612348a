"""Tables of one task: selective accuracy of a classifier; the IoU of each class."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import ImageValues, risk_coverage, statistics_of
from ._records import Record, condition_labels
from ._text import markdown_table, percent, plain_table, sides_text


def confidence_table(
    records: Sequence[Record], *, coverages: Sequence[float] = (1.0, 0.8, 0.5), markdown: bool = False
) -> str:
    """Selective prediction: accuracy at several coverages and area under the risk-coverage curve, as a table.

    Args:
        records: of a report on classification, with the values of each image.
        coverages: shares of the images that it answers for.
        markdown: a Markdown table instead of an aligned one.

    Returns:
        A line a condition: top-1 accuracy in percent at each coverage; area under the risk-coverage curve by
        the probability of the most probable class, and by entropy.

    Raises:
        ValueError: if a record has no values of its images, or is not of classification.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2) * 3, [0, 1]), blur="D8", sides=(256,))
        >>> print(confidence_table([record]))
        blur  scale  100 %   80 %   50 %   AURC  by entropy
        ----  -----  -----  -----  -----  -----  ----------
        D8      256  100.0  100.0  100.0  0.000       0.000
    """
    return (markdown_table if markdown else plain_table)(*confidence_cells(records, coverages))


def confidence_cells(
    records: Sequence[Record], coverages: Sequence[float] = (1.0, 0.8, 0.5)
) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of :func:`confidence_table`."""
    rows = []
    for record in records:
        images = record.images
        if not isinstance(images, ImageValues):
            raise ValueError(  # noqa: TRY004  # of a record as it was loaded
                "`records` must have the values of their images, got a report without its .npz file beside "
                "it, or not of classification"
            )
        curve = risk_coverage(images.confidence, images.correct)
        by_entropy = risk_coverage(-images.entropy, images.correct)
        rows.append(
            [
                record.blur,
                sides_text(record.sides),
                *(percent(curve.accuracy(coverage)) for coverage in coverages),
                f"{curve.area:.3f}",
                f"{by_entropy.area:.3f}",
            ]
        )
    header = ["blur", "scale", *(f"{100 * coverage:g} %" for coverage in coverages), "AURC", "by entropy"]
    return header, rows


def class_table(records: Sequence[Record], names: Sequence[str] = (), *, markdown: bool = False) -> str:
    """IoU of each class in percent under each condition, as a table.

    Args:
        records: of a report on segmentation.
        names: of the classes; their numbers where there are none.
        markdown: a Markdown table instead of an aligned one.

    Returns:
        A line a class.

    Raises:
        ValueError: if there are names, but not one for each class.

    Example:
        >>> import numpy as np
        >>> from blurlib.metrics import PixelCounts
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.zeros((1, 2, 2), int), regions=np.array([[[1, 1], [2, 1]]]))
        >>> print(class_table([Record.of(counts, blur="D8", sides=(384,))], ["road", "sky"]))
        class    D8
        -----  ----
        road   50.0
        sky    66.7
    """
    return (markdown_table if markdown else plain_table)(*class_cells(records, names))


def class_cells(records: Sequence[Record], names: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of :func:`class_table`."""
    classes = len(records[0].class_iou)
    if len(names) not in (0, classes):
        raise ValueError(f"`names` must name each of the {classes} classes, got {len(names)}")
    header = condition_labels(records, statistics_of(records[0].task))
    rows = []
    for number, name in enumerate(names or map(str, range(classes))):
        values = [record.class_iou[number] for record in records]
        rows.append([name, *("-" if value is None else percent(value) for value in values)])
    return ["class", *header], rows
