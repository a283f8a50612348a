"""Two evaluations of the same images: what changed, how surely, and how much of the lost accuracy came back.

Every interval is a paired bootstrap over images: one resampling of the images serves all networks and all
conditions, so that what is common to both networks (which images are hard) does not widen it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from .._common.files import written
from ._records import Record, find
from ._text import (
    markdown_table,
    nats,
    percent,
    plain_table,
    points,
    share,
    sides_text,
    signed_nats,
    with_interval,
)

# metric: (array of the record's images, +1 where more is better, -1 where less is)
_METRICS = {
    "top1": ("correct", 1),
    "top5": ("correct5", 1),
    "entropy": ("entropy", 0),
    "cross_entropy": ("cross_entropy", -1),
}
_TITLES = {"top1": "top-1 %", "top5": "top-5 %", "entropy": "entropy", "cross_entropy": "cross-entropy"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric under one condition, before and after.

    Fractions for the accuracies, nats for entropy and cross-entropy. The *reference* is the control where one
    was given, else the network before.

    Attributes:
        before: value of the original network.
        control: value of the control, a network trained for as long on sharp images; None if there is none.
        after: value of the fine-tuned network.
        sharp: value of the reference on sharp images at the same sides; None if they were not evaluated.
        difference: after minus reference.
        difference_interval: its interval.
        recovered: (after - reference) / (sharp - reference), 1 where all of the reference's loss came back.
            None where it is not defined: on sharp images, for entropy, and where the loss is under two
            standard errors.
        recovered_interval: its interval; None with `recovered`. An end is infinite where resampled losses
            reach 0.

    Example:
        >>> change = Change(before=0.2, control=None, after=0.5, sharp=0.6, difference=0.3,
        ...                 difference_interval=(0.2, 0.4), recovered=0.75, recovered_interval=(0.5, 0.9))
        >>> change.reference
        0.2
    """

    before: float
    control: float | None
    after: float
    sharp: float | None
    difference: float
    difference_interval: tuple[float, float]
    recovered: float | None
    recovered_interval: tuple[float, float] | None

    @property
    def reference(self) -> float:
        """Value of the control, or of the original network if there is no control."""
        return self.before if self.control is None else self.control


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """The changes under one condition.

    Attributes:
        blur: short name, such as "D8".
        sides: network sides that were averaged.
        count: number of images.
        top1: change of the top-1 accuracy.
        top5: change of the top-5 accuracy.
        entropy: change of the mean entropy.
        cross_entropy: change of the mean cross-entropy.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="sharp", sides=(64,))
        >>> row = compare_records([[record]], [[record]])["sharp"]
        >>> row.top1.difference, row.after["top1"]
        (0.0, 0.5)
    """

    blur: str
    sides: tuple[int, ...]
    count: int
    top1: Change
    top5: Change
    entropy: Change
    cross_entropy: Change

    @property
    def before(self) -> dict[str, float]:
        """The four metrics of the original network."""
        return {name: getattr(self, name).before for name in _METRICS}

    @property
    def after(self) -> dict[str, float]:
        """The four metrics of the fine-tuned network."""
        return {name: getattr(self, name).after for name in _METRICS}

    @property
    def recovered(self) -> float | None:
        """Recovered share of the top-1 accuracy; None where it is not defined."""
        return self.top1.recovered

    @property
    def recovered_interval(self) -> tuple[float, float] | None:
        """Interval of `recovered`."""
        return self.top1.recovered_interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Evaluations of the same images, compared condition by condition; `print` shows the tables.

    Attributes:
        rows: one a condition, in the order of the fine-tuned network's report.
        runs: how many reports were averaged: {"before": 1, "after": 3, "control": 3}.
        level: of the intervals, such as 0.95.
        resamples: of the bootstrap.
        settings: of the fine-tuned network's evaluation.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="sharp", sides=(64,))
        >>> comparison = compare_records([[record]], [[record]])
        >>> comparison["sharp"].recovered is None
        True
    """

    rows: tuple[ComparisonRow, ...]
    runs: Mapping[str, int]
    level: float
    resamples: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, int | tuple[int, ...]]) -> ComparisonRow:
        return find(self.rows, key)

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Two tables for a terminal: the values before and after, and the changes with their intervals."""
        return "\n\n".join([plain_table(*self._values()), plain_table(*self._changes()), self._caption()])

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Both tables in Markdown.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        text = "\n\n".join(
            [markdown_table(*self._values()), markdown_table(*self._changes()), self._caption()]
        )
        return written(text + "\n", path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; infinite ends of intervals are None."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)
        return plain

    def to_json(self, path: str | Path | None = None) -> str:
        """All numbers as JSON; infinite ends of intervals are null.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(json.dumps(self.to_dict(), indent=1) + "\n", path)

    def _caption(self) -> str:
        several = max(self.runs.values()) > 1
        mean = f"mean of {self.runs['after']} networks; " if several else ""
        against = "the control" if self.runs.get("control") else "the network before"
        return (
            f"{self.rows[0].count} images; {mean}changes and recovered shares against {against}, "
            f"paired bootstrap {self.level:.0%} intervals; "
            "-: not defined, the loss is under two standard errors"
        )

    def _conditions(self) -> tuple[list[str], list[list[str]]]:
        """Heading and cells of the columns that name the condition."""
        if len({row.sides for row in self.rows}) == 1:
            return ["blur"], [[row.blur] for row in self.rows]
        return ["blur", "scale"], [[row.blur, sides_text(row.sides)] for row in self.rows]

    def _values(self) -> tuple[list[str], list[list[str]]]:
        header, cells = self._conditions()
        control = bool(self.runs.get("control"))
        arrow = "before -> after (control)" if control else "before -> after"
        header += [f"{title}{': ' + arrow if name == 'top1' else ''}" for name, title in _TITLES.items()]
        for row, line in zip(self.rows, cells, strict=True):
            for name in _METRICS:
                change, style = getattr(row, name), percent if name.startswith("top") else nats
                tail = "" if change.control is None else f" ({style(change.control)})"
                line.append(f"{style(change.before)} -> {style(change.after)}{tail}")
        return header, cells

    def _changes(self) -> tuple[list[str], list[list[str]]]:
        header, cells = self._conditions()
        header += ["top-1 points", "top-5 points", "cross-entropy", "top-1 recovered %", "top-5 recovered %"]
        for row, line in zip(self.rows, cells, strict=True):
            for name, style in (("top1", points), ("top5", points), ("cross_entropy", signed_nats)):
                change = getattr(row, name)
                line.append(with_interval(change.difference, change.difference_interval, style))
            for change in (row.top1, row.top5):
                line.append(with_interval(change.recovered, change.recovered_interval, share))
        return header, cells


def compare_records(
    after: Sequence[Sequence[Record]],
    before: Sequence[Sequence[Record]],
    *,
    control: Sequence[Sequence[Record]] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare the records of networks on the same images, averaging over several networks of a kind.

    With several networks (fine-tuned with several seeds, say) each image's values are averaged over them
    before the images are resampled: the intervals tell what other images would have changed, not other seeds.

    Args:
        after: records of each fine-tuned network.
        before: records of each original network, usually one.
        control: records of each control network, trained for as long on sharp images.
        resamples: of the bootstrap.
        level: of the percentile intervals, between 0 and 1.
        seed: of the bootstrap.
        settings: of the evaluation, kept with the result.

    Returns:
        A row for each condition that all of them have.

    Raises:
        ValueError: if they have no condition in common, the images differ, or values of the images are
            missing.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> good, bad = (Record.of(image_values(s, [0, 0]), blur="D8", sides=(64,)) for s in (
        ...     torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])))
        >>> compare_records([[good]], [[bad]])["D8"].top1.difference
        1.0
    """
    roles = {"before": before, "control": control or [], "after": after}
    shared = [_conditions(records) for runs in roles.values() for records in runs]
    keys = [key for key in shared[-1] if all(key in conditions for conditions in shared)]
    if not keys:
        names = ", ".join(f"{blur} at {sides_text(sides)}" for blur, sides in shared[-1])
        raise ValueError(f"`other` must share a condition with this report ({names}), got none in common")
    check_same_images([*after, *before, *(control or [])])

    columns = {
        (role, key, metric): number
        for number, (role, key, metric) in enumerate(
            (role, key, metric) for role in roles if roles[role] for key in keys for metric in _METRICS
        )
    }
    values = np.stack(
        [
            np.mean([_values(_conditions(records)[key], metric) for records in roles[role]], axis=0)
            for role, key, metric in columns
        ],
        axis=1,
    )
    means = values.mean(axis=0)
    draws = metrics.means(values, resamples=resamples, seed=seed)
    reference = "control" if control else "before"

    def change(key: tuple[str, tuple[int, ...]], metric: str) -> Change:
        own, base = columns["after", key, metric], columns[reference, key, metric]
        sharp = columns.get((reference, ("sharp", key[1]), metric))
        recovered = recovered_interval = None
        sign = _METRICS[metric][1]
        if sharp is not None and sign:
            loss = sign * (values[:, sharp] - values[:, base])
            error = loss.std(ddof=1) / np.sqrt(len(loss)) if len(loss) > 1 else np.inf
            if loss.mean() > 0 and loss.mean() >= 2 * error:
                recovered = float((means[own] - means[base]) / (means[sharp] - means[base]))
                gain = sign * (draws[:, own] - draws[:, base])
                losses = sign * (draws[:, sharp] - draws[:, base])
                recovered_interval = metrics.interval(metrics.shares(gain, losses), level=level)
        return Change(
            before=float(means[columns["before", key, metric]]),
            control=float(means[columns["control", key, metric]]) if control else None,
            after=float(means[own]),
            sharp=None if sharp is None else float(means[sharp]),
            difference=float(means[own] - means[base]),
            difference_interval=metrics.interval(draws[:, own] - draws[:, base], level=level),
            recovered=recovered,
            recovered_interval=recovered_interval,
        )

    rows = tuple(
        ComparisonRow(
            blur=key[0],
            sides=key[1],
            count=len(values),
            **{metric: change(key, metric) for metric in _METRICS},
        )
        for key in keys
    )
    runs = {role: len(reports) for role, reports in roles.items()}
    return Comparison(rows=rows, runs=runs, level=level, resamples=resamples, settings=dict(settings or {}))


def check_same_images(reports: Sequence[Sequence[Record]]) -> None:
    """Refuse records of different images: a paired comparison would pair strangers."""
    if any(record.images is None for records in reports for record in records):
        raise ValueError(
            "`other` and this report must hold the values of each image, got one without; "
            "load it with its .npz file beside the JSON"
        )
    first = reports[0][0].images
    assert first is not None  # checked above; said for the type checker
    for records in reports:
        images = records[0].images
        assert images is not None
        if not np.array_equal(images.ids, first.ids):
            different = len(np.setxor1d(images.ids, first.ids))
            what = f"{different} images are in only one of them" if different else "their order differs"
            raise ValueError(
                "`other` must be of the same images as this report, "
                f"got {len(first.ids)} and {len(images.ids)} images of which {what}; "
                "evaluate both on the same root with the same `limit` and `seed`"
            )
        if not np.array_equal(images.label, first.label):
            count = int((images.label != first.label).sum())
            raise ValueError(
                f"`other` must have the same labels as this report, got {count} images labelled differently; "
                "evaluate both with the same classes in the same order"
            )


def _conditions(records: Sequence[Record]) -> dict[tuple[str, tuple[int, ...]], Record]:
    return {(record.blur, record.sides): record for record in records}


def _values(record: Record, metric: str) -> np.ndarray:
    values: np.ndarray = getattr(record.images, _METRICS[metric][0])
    return values.astype(np.float64)
