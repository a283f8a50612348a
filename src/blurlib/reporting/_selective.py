"""How accurate a network is where it may decline, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import risk_coverage
from ._records import Record
from ._text import markdown_table, plain_table, sides_text


def confidence_lines(
    records: Sequence[Record], *, coverages: Sequence[float] = (1.0, 0.8, 0.5)
) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of :func:`confidence_table`.

    Args:
        records: of a report, with the values of each image.
        coverages: shares of the images that the network answers for.

    Returns:
        The headings, and a row a condition.

    Raises:
        ValueError: if a record has no values of its images.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2) * 3, [0, 1]), blur="D8", sides=(256,))
        >>> confidence_lines([record], coverages=[0.5])
        (['blur', 'scale', '50 %', 'AURC', 'by entropy'], [['D8', '256', '100.0', '0.000', '0.000']])
    """
    rows = []
    for record in records:
        images = record.images
        if images is None:
            raise ValueError(
                "`records` must have the values of their images, got a report without its .npz file beside it"
            )
        curve = risk_coverage(images.confidence, images.correct)
        other = risk_coverage(-images.entropy, images.correct)
        rows.append(
            [
                record.blur,
                sides_text(record.sides),
                *(f"{100 * curve.accuracy(coverage):.1f}" for coverage in coverages),
                f"{curve.area:.3f}",
                f"{other.area:.3f}",
            ]
        )
    header = ["blur", "scale", *(f"{100 * coverage:g} %" for coverage in coverages), "AURC", "by entropy"]
    return header, rows


def confidence_table(
    records: Sequence[Record], *, coverages: Sequence[float] = (1.0, 0.8, 0.5), markdown: bool = False
) -> str:
    """What a network knows about its own errors: accuracy when it may decline, and the area under the curve.

    Args:
        records: of a report, with the values of each image.
        coverages: shares of the images that it answers for.
        markdown: a Markdown table instead of an aligned one.

    Returns:
        A line a condition: top-1 accuracy in percent at each coverage; area under the risk-coverage curve by
        the probability of the most probable class, and by entropy.

    Raises:
        ValueError: if a record has no values of its images.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2) * 3, [0, 1]), blur="D8", sides=(256,))
        >>> print(confidence_table([record]))
        blur  scale  100 %   80 %   50 %   AURC  by entropy
        ----  -----  -----  -----  -----  -----  ----------
        D8      256  100.0  100.0  100.0  0.000       0.000
    """
    header, rows = confidence_lines(records, coverages=coverages)
    return markdown_table(header, rows) if markdown else plain_table(header, rows)
