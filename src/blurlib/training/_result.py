"""What a fine-tuning returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Skipped


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneResult:
    """A fine-tuned network and its training history; returned by :func:`finetune`.

    Attributes:
        model: the fine-tuned copy, in evaluation mode, on the device of the model given.
        history: one dict an epoch: epoch (from 1), lr, loss (cross-entropy in nats) and top1 (a fraction; for
            segmentation pixel_accuracy), both of the training images as the network saw them, images,
            skipped, single_image_batches (see `batch_norm` of :func:`finetune`), seconds; under float16
            overflows; with validation val_top1 or val_miou, a fraction, None after epochs without.
        checkpoint: path of the last checkpoint, or None without an output folder.
        weights: path of the weights, model.pt, likewise.
        best: a copy with the weights of the epoch that was best in validation, or None without.
        skipped: the broken images that were left out.

    Example:
        >>> FinetuneResult(model=nn.Identity(), history=[], checkpoint=None)
        FinetuneResult(history=[], checkpoint=None, weights=None, skipped=())
    """

    model: nn.Module = field(repr=False)
    history: list[dict[str, Any]]
    checkpoint: Path | None
    weights: Path | None = None
    skipped: tuple[Skipped, ...] = ()
    best: nn.Module | None = field(default=None, repr=False)
