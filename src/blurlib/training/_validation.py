"""How good a network is during its training: on other images, under the blurs of the mix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from .._common import rng
from .._common.devices import batches, make_loader
from .._tasks import (
    ClassificationEvaluation,
    EvaluationSettings,
    EvaluationTask,
    SegmentationEvaluation,
    TrainingTask,
)
from ..blurs import Blur
from ..data import Skipped
from ..metrics import mean_iou
from ..models import eval_mode
from ._shares import Shares

_DRAW = 32  # purpose that keeps keyed draws apart from those of other modules


@dataclass(frozen=True)
class _Drawn(Blur):
    """A blur that a transform with ranges draws for each image: the same one in every epoch."""

    transform: Any
    number: int

    def of_image(self, index: int, *, seed: int = 0) -> Blur:
        drawn: Blur = self.transform.draw(rng.generator(seed=seed, key=(self.number, index, _DRAW)))
        return drawn

    def __str__(self) -> str:
        return f"range {self.number}"


class Validation:
    """The accuracy of a network under the blurs of the mix it is trained on.

    Attributes:
        name: of the number, in the history.
        record: what is kept of the images in the run's settings.

    Args:
        network: what is validated; it changes in training.
        task: of the run.
        root: the images, or None for those of `given`.
        given: what the run is trained on.
        device: of the network.
        workers: loader processes.
    """

    def __init__(
        self,
        network: nn.Module,
        task: TrainingTask,
        root: Any,
        given: Any,
        *,
        device: torch.device,
        workers: int,
    ) -> None:
        if root is None and not isinstance(given, (str, os.PathLike, Mapping)):
            raise ValueError(
                "`validation` must be given where `root` is a dataset without splits, got None; pass the "
                "dataset of the images to validate on"
            )
        segmentation = task.name == "segmentation"
        self.name, self._array = ("val_miou", "matrix") if segmentation else ("val_top1", "correct")
        members = {
            blur if isinstance(blur, Blur) else _Drawn(blur, number): share
            for number, (blur, share) in enumerate(task.mix.shares.items())
        }
        kind = SegmentationEvaluation if segmentation else ClassificationEvaluation
        try:
            self._task: EvaluationTask = kind(
                network, given if root is None else root, _settings(task, members), workers=workers
            )
        except (FileNotFoundError, TypeError, ValueError) as error:
            if root is None:
                raise
            raise type(error)(str(error).replace("`root`", "`validation`")) from error
        self._task.protocol = replace(self._task.protocol, border=task.protocol.border)
        _check_classes(self._task, task)
        self._workers = workers
        self._task.prepare(workers=workers)
        with eval_mode(self._task.networks, device):  # before the training, and not after an epoch
            self._task.probe(device)
        shares = {str(blur): share for blur, share in members.items()}
        self._weights = [shares[blur] for blur, _ in self._task.conditions]
        listing = self._task.listing
        self.record = {
            "validation": listing.source,
            "validation_images": len(listing),
            "validation_listing": listing.digest(),
        }

    def score(self, shares: Shares) -> float | None:
        """The mean over the members of the mix by their shares, and over sides; None at a request to stop."""
        task, team = self._task, shares.team
        positions = range(team.rank, len(task), team.world)
        loader = make_loader(
            task,
            workers=self._workers,
            batch_size=None,
            sampler=positions,
            prefetch_factor=None if not self._workers else 1 if task.large else 2,
        )
        total: Any = 0
        count = 0
        with eval_mode(task.networks, team.device):
            largest = -(-len(task) // team.world)
            for _, arrays in task.measure(
                _readable(shares.of(batches(loader), largest=largest)), team.device
            ):
                total, count = total + arrays[self._array].astype(np.int64), count + 1
        if shares.ended:
            return None
        parts = team.gather((total, count))
        total, count = sum(part for part, _ in parts), sum(each for _, each in parts)
        if not np.any(count):
            raise ValueError("`validation` must hold images that can be read, all were skipped; repair them")
        each = mean_iou(total) if self._array == "matrix" else total / count
        if not np.isfinite(each).all():
            raise ValueError(
                "`validation` must have masks with labelled pixels, got none; look at their values, "
                "`ignore_index` and `reduce_zero_label`"
            )
        return float(np.average(each, weights=self._weights))


def _readable(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Exception):
            raise item
        if not isinstance(item, Skipped):
            yield item


def _settings(task: TrainingTask, members: Mapping[Blur, float]) -> EvaluationSettings:
    """Images as training shows them, but whole or with their center."""
    settings, protocol = task.settings, task.protocol
    sides: dict[str, Any] = {"scales": protocol.network_sides}
    if task.name == "classification":
        sides["crop"] = protocol.crop
    elif protocol.network_size is not None:
        sides = {"network_size": protocol.network_size}
    return EvaluationSettings(
        blurs=list(members),
        canonical_side=protocol.canonical_side,
        resample=protocol.resample,
        mean=settings.mean,
        std=settings.std,
        on_error=settings.on_error,
        class_map=settings.class_map,
        columns=settings.columns,
        ignore_index=settings.ignore_index,
        reduce_zero_label=settings.reduce_zero_label,
        seed=settings.seed,
        **sides,
    )


def _check_classes(validation: EvaluationTask, task: TrainingTask) -> None:
    if not task.labelled:
        return
    ours, theirs = (getattr(each.listing, "classes", ()) for each in (task, validation))
    if ours and theirs and list(ours) != list(theirs) and task.settings.class_map is None:
        other = next(iter({*ours} ^ {*theirs}), "their order")
        raise ValueError(
            f"`validation` must have the {len(ours)} classes of `root`, got {len(theirs)} others, such as "
            f"{other!r}; give it the same folders, or pass `class_map`"
        )
