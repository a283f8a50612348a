"""Segmentation before and after: changes with paired intervals, and how much of the loss came back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from .._common.files import written
from ._comparison import Change
from ._records import find
from ._segmentation_records import METRICS, SegmentationRecord
from ._text import markdown_table, percent, plain_table, points, share, size_text, with_interval


@dataclass(frozen=True, kw_only=True)
class SegmentationComparison:
    """Evaluations of the same images, compared condition by condition; `print` shows the table.

    Attributes:
        changes: for each (blur, sides) and metric ("miou", "miou_band", "boundary_iou", "accuracy") what
            changed.
        runs: how many reports were averaged: {"before": 1, "after": 3, "control": 3}.
        level: of the intervals.
        count: number of images.

    Example:
        >>> from blurlib.metrics import PixelCounts
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.array([[[1, 0], [0, 1]]]), rims=np.array([[[1, 1], [2, 1]]]))
        >>> records = [SegmentationRecord.of(counts, blur="D8", sides=(384,))]
        >>> compare_counts([records], [records])["D8"]["miou"].difference
        0.0
    """

    changes: Mapping[tuple[str, tuple[int, ...]], Mapping[str, Change]]
    runs: Mapping[str, int]
    level: float
    count: int

    def __getitem__(self, key: str | tuple[str, tuple[int, ...]]) -> Mapping[str, Change]:
        """The changes under a blur, by its short name; with the sides where there are several."""
        matches = [name for name in self.changes if key in (name, name[0])]
        if len(matches) != 1:
            known = ", ".join(f"{blur} at {size_text(sides)}" for blur, sides in self.changes)
            raise KeyError(f"{len(matches)} conditions {key!r}; there are {known}")
        return self.changes[matches[0]]

    def __str__(self) -> str:
        return f"{plain_table(*self.lines())}\n\n{self.caption}"

    @property
    def caption(self) -> str:
        """How the numbers came about, in a line."""
        against = "the control" if self.runs.get("control") else "the network before"
        mean = f"mean of {self.runs['after']} networks; " if max(self.runs.values()) > 1 else ""
        return (
            f"{self.count} images; {mean}changes against {against} in points, paired bootstrap "
            f"{self.level:.0%} intervals over images; -: not defined"
        )

    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells: mIoU of all pixels and of the band, their changes and recovered shares."""
        control = bool(self.runs.get("control"))
        roles = ["before", *(["control"] if control else []), "after"]
        header = ["blur"]
        for title in ("mIoU %", "band"):
            header += [f"{title} {role}" for role in roles] + ["change", "recovered %"]
        several = len({sides for _, sides in self.changes}) > 1
        rows = []
        for (blur, sides), found in self.changes.items():
            line = [f"{blur} at {size_text(sides)}" if several else blur]
            for name in ("miou", "miou_band"):
                change = found[name]
                values = [getattr(change, role) for role in roles]
                line += ["-" if value is None or np.isnan(value) else percent(value) for value in values]
                known = None if np.isnan(change.difference) else change.difference
                line.append(with_interval(known, change.difference_interval, points))
                line.append(with_interval(change.recovered, change.recovered_interval, share))
            rows.append(line)
        return header, rows

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The table in Markdown.

        Args:
            path: where to write it too; not written if None.

        Returns:
            The text.
        """
        return written(f"{markdown_table(*self.lines())}\n\n{self.caption}\n", path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; infinite ends of intervals and undefined values are None."""
        rows = [
            {"blur": blur, "sides": sides, **{name: asdict(change) for name, change in found.items()}}
            for (blur, sides), found in self.changes.items()
        ]
        plain = {"runs": dict(self.runs), "level": self.level, "count": self.count, "rows": rows}
        copied: dict[str, Any] = json.loads(json.dumps(plain), parse_constant=lambda _: None)
        return copied


def compare_counts(
    after: Sequence[Sequence[SegmentationRecord]],
    before: Sequence[Sequence[SegmentationRecord]],
    *,
    control: Sequence[Sequence[SegmentationRecord]] = (),
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> SegmentationComparison:
    """Compare the records of networks on the same images, averaging over several networks of a kind.

    In each resampling of the images the counts of every network are added up and its metrics taken; then
    networks of a kind are averaged, and kinds are subtracted: the intervals tell what other images would have
    changed, not other seeds.

    Args:
        after: records of each fine-tuned network, with the counts of their images.
        before: of each original network, usually one.
        control: of each control network, trained for as long on sharp images.
        resamples: of the bootstrap.
        level: of the percentile intervals, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        The changes under each condition that all of them have.

    Raises:
        ValueError: if they are of different images, share no condition, or lack the counts of their images.

    Example:
        >>> from blurlib.metrics import PixelCounts
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.array([[[1, 0], [0, 1]]]), rims=np.array([[[1, 1], [2, 1]]]))
        >>> records = [SegmentationRecord.of(counts, blur="D8", sides=(384,))]
        >>> compare_counts([records, records], [records]).runs
        {'before': 1, 'control': 0, 'after': 2}
    """
    roles = {"before": before, "control": control, "after": after}
    every = [records for kind in roles.values() for records in kind]
    pixels = [record.pixels for records in every for record in records]
    if any(counts is None for counts in pixels):
        raise ValueError("reports to compare must have the counts of their images, got one without its .npz")
    ids = [counts.ids.tolist() for counts in pixels if counts is not None]
    if any(each != ids[0] for each in ids):
        raise ValueError("reports to compare must be of the same images; evaluate both on the same root")
    shared = [{(record.blur, record.sides) for record in records} for records in every]
    keys = [(record.blur, record.sides) for record in after[0]]
    keys = [key for key in keys if all(key in conditions for conditions in shared)]
    if not keys:
        raise ValueError("`before` must share a condition with `after`, got none in common")
    means: dict[tuple[str, Any, str], float] = {}
    drawn: dict[tuple[str, Any, str], np.ndarray] = {}
    for role, kind in roles.items():
        for key in keys if kind else ():
            found = [counts for records in kind if (counts := find(records, key).pixels) is not None]
            exact = [counts.metrics() for counts in found]
            samples = [counts.samples(resamples=resamples, seed=seed) for counts in found]
            for name in METRICS:
                means[role, key, name] = float(np.mean([values[name] for values in exact]))
                drawn[role, key, name] = np.mean([values[name] for values in samples], axis=0)
    base = "control" if roles["control"] else "before"

    def change(key: tuple[str, tuple[int, ...]], name: str) -> Change:
        own, other, sharp = ("after", key, name), (base, key, name), (base, ("sharp", key[1]), name)
        recovered = recovered_interval = None
        if sharp in means and sharp != other:
            loss, losses = means[sharp] - means[other], drawn[sharp] - drawn[other]
            if loss > 0 and loss >= 2 * np.nanstd(losses):
                gains = drawn[own] - drawn[other]
                known = ~np.isnan(gains + losses)
                recovered = (means[own] - means[other]) / loss
                recovered_interval = metrics.interval(
                    metrics.shares(gains[known], losses[known]), level=level
                )
        return Change(
            before=means["before", key, name],
            control=means["control", key, name] if roles["control"] else None,
            after=means[own],
            sharp=means.get(sharp),
            difference=means[own] - means[other],
            difference_interval=defined_interval(drawn[own] - drawn[other], level=level),
            recovered=recovered,
            recovered_interval=recovered_interval,
        )

    return SegmentationComparison(
        changes={key: {name: change(key, name) for name in METRICS} for key in keys},
        runs={role: len(every) for role, every in roles.items()},
        level=level,
        count=after[0][0].count,
    )


def defined_interval(samples: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The interval of those resamplings in which a metric is defined: one may draw no class boundary at all.

    Args:
        samples: (R,) statistics, NaN where they are not defined.
        level: of the interval.

    Returns:
        (low, high); NaN where no resampling has a value.

    Example:
        >>> defined_interval(np.array([0.25, np.nan, 0.25]))
        (0.25, 0.25)
    """
    known = samples[~np.isnan(samples)]
    return metrics.interval(known, level=level) if known.size else (float("nan"), float("nan"))
