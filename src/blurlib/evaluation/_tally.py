"""What an evaluation of a classifier has measured so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from .._common.distributed import Team
from ..data import ImageRoot, Skipped
from ..metrics import TOP_K, image_values
from ..reporting import Accumulator, Report
from ._loader import ImageViews, Owner, Plan


class _Sums:
    """What is known of one image so far: sums of log-probabilities (blurs, sides, C), and of how many."""

    def __init__(self, label: int, left: int, blurs: int, sides: int) -> None:
        self.label = label
        self.left = left
        self.sums: torch.Tensor | None = None
        self.counts = torch.zeros(blurs, sides, dtype=torch.float64)

    def add(self, row: torch.Tensor, owner: Owner, positions: int) -> None:
        if self.sums is None:
            self.sums = torch.zeros(*self.counts.shape, len(row), dtype=torch.float64)
        self.sums[owner.blur, owner.side] += row
        self.counts[owner.blur, owner.side] += positions
        self.left -= 1


class _Tally:
    """Sums up the views of each image until all are there, then judges it under every condition."""

    def __init__(self, plan: Plan, listing: ImageRoot) -> None:
        self.plan = plan
        self.listing = listing
        self.accumulator = Accumulator(plan.conditions)
        self.skipped: list[Skipped] = []
        self.outputs = 0
        self.seconds = 0.0  # of restoring
        self._open: dict[int, _Sums] = {}

    def opened(self, items: Iterable[ImageViews | Skipped | Exception]) -> Iterator[ImageViews]:
        """Pass the images on, knowing from now on what is expected of each."""
        for item in items:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Skipped):
                self.skipped.append(item)
                continue
            left = sum(views.shape[0] * views.shape[1] for views in item.views)
            self.seconds += item.seconds
            self._open[item.position] = _Sums(item.label, left, len(self.plan.blurs), len(self.plan.sides))
            yield item

    def add(self, log_p: torch.Tensor, owners: list[Owner]) -> None:
        """Take in the log-probabilities (B, C, positions) of a batch."""
        if not self.outputs:
            self._check_outputs(log_p.shape[1])
        for row, owner in zip(log_p.sum(dim=2), owners, strict=True):
            image = self._open[owner.position]
            image.add(row, owner, log_p.shape[2])
            if not image.left:
                self._judge(owner.position, self._open.pop(owner.position))

    def _check_outputs(self, outputs: int) -> None:
        classes = len(self.listing.classes)
        if classes and outputs != classes:
            raise ValueError(
                f"`model` must give one score a class, got {outputs} scores for the {classes} classes of "
                "`root`; replace its last layer, or bring the folders of all classes that it knows"
            )
        self.outputs = outputs

    def _judge(self, position: int, image: _Sums) -> None:
        name = self.listing.id(position)
        if not 0 <= image.label < self.outputs:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each score of `model`, "
                f"got {image.label} for the image {name!r}"
            )
        assert image.sums is not None  # it has at least one view
        scores = self.plan.pooled(image.sums, image.counts)
        values = image_values(scores, [image.label] * len(scores), ids=[name] * len(scores))
        self.accumulator.update(position, values)

    def merge(self, team: Team) -> None:
        """Unite what the processes have seen."""
        if team.world == 1:
            return
        every = team.gather((self.accumulator, self.skipped, self.outputs, self.seconds))
        for accumulator, _, _, _ in every:
            self.accumulator.merge(accumulator)
        skipped = {item.name: item for _, items, _, _ in every for item in items}
        names = (self.listing.id(position) for position in range(len(self.listing)) if skipped)
        self.skipped = [skipped[name] for name in names if name in skipped]
        self.outputs = max(outputs for _, _, outputs, _ in every)
        self.seconds = sum(seconds for _, _, _, seconds in every)

    def report(self, settings: dict[str, Any], *, complete: bool) -> Report:
        """The report of the images judged so far."""
        if not self.accumulator:
            first = self.skipped[0]
            raise ValueError(
                f"`root` must hold an image that can be read, all {len(self.skipped)} were skipped; "
                f"the first: {first.reason}"
            )
        known = {
            "classes": self.outputs,
            "top_k": min(TOP_K, self.outputs),
            "skipped": [skipped.name for skipped in self.skipped],
            "complete": complete,
        }
        records = self.accumulator.compute(skipped=len(self.skipped))
        if "deblurring" in settings:  # a mean over images and blurs
            restored = sum(record.count for record in records) // len(self.plan.scales)
            known["deblurring"] = {**settings["deblurring"], "seconds": self.seconds / restored}
        return Report(records=records, settings={**settings, **known})
