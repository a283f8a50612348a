"""Evaluations of the same images: what changed, with which interval, and the recovered fraction of the loss.

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
from ..metrics import Averaged, Metric
from ..notation import differs_by_image
from ._records import (
    check_same_images,
    condition_cells,
    find,
    notes_text,
    shown_metrics,
    value_of,
)
from ._report import Report
from ._text import change_text, markdown_table, plain_table, recovered_text, sides_text, value_text

# What two evaluations must agree on before a difference between them is the networks' own.
_PROTOCOL = (
    "canonical_side", "crop", "crops", "average", "network_sides", "network_size", "resample", "border",
    "band", "boundary_ratio",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """One metric under one condition, before and after; a value is None where it is not defined.

    Fractions or nats. The *reference* is the control where one was given, else the network before.

    Attributes:
        before: value of the original network.
        control: value of the control, a network trained for as long on sharp images; None if there is none.
        after: value of the fine-tuned network.
        sharp: value of the reference on sharp images at the same sides; None if they were not evaluated.
        difference: after minus reference.
        difference_interval: its interval.
        recovered: (after - reference) / (sharp - reference), 1 where all of the reference's loss was
            recovered. None where it is not defined: on sharp images, for a metric of which neither more nor
            less is better (entropy), and where the loss is under two standard errors.
        recovered_interval: its interval; None with `recovered`. An end is infinite where resampled losses
            reach 0.

    Example:
        >>> change = Change(before=0.2, control=None, after=0.5, sharp=0.6, difference=0.3,
        ...                 difference_interval=(0.2, 0.4), recovered=0.75, recovered_interval=(0.5, 0.9))
        >>> change.reference
        0.2
    """

    before: float | None
    control: float | None
    after: float | None
    sharp: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    recovered: float | None
    recovered_interval: tuple[float, float] | None

    @property
    def reference(self) -> float | None:
        """Value of the control, or of the original network if there is no control."""
        return self.before if self.control is None else self.control


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """The changes under one condition; each is an attribute too: `row.top1`, `row.miou`.

    Attributes:
        blur: short name, such as "D8".
        sides: network sides.
        count: number of images.
        changes: of each metric by its name, the main one first.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> from blurlib.reporting import Record, Report, compare
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="sharp", sides=(64,))
        >>> row = compare(Report(records=[record]), Report(records=[record]))["sharp"]
        >>> row.top1.difference, row.after["top1"]
        (0.0, 0.5)
    """

    blur: str
    sides: tuple[int, ...]
    count: int
    changes: Mapping[str, Change] = field(hash=False)

    def __getattr__(self, name: str) -> Any:
        return value_of(self, "changes", name)

    @property
    def before(self) -> dict[str, float | None]:
        """The metrics of the original network."""
        return {name: change.before for name, change in self.changes.items()}

    @property
    def after(self) -> dict[str, float | None]:
        """The metrics of the fine-tuned network."""
        return {name: change.after for name, change in self.changes.items()}

    @property
    def recovered(self) -> float | None:
        """Recovered fraction of the main metric; None where it is not defined."""
        return next(iter(self.changes.values())).recovered

    @property
    def recovered_interval(self) -> tuple[float, float] | None:
        """Interval of `recovered`."""
        return next(iter(self.changes.values())).recovered_interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Evaluations of the same images, compared condition by condition; `print` shows the tables.

    Attributes:
        rows: one a condition, in the order of the fine-tuned network's report.
        runs: how many reports were averaged: {"before": 1, "after": 3, "control": 3}.
        level: of the intervals, such as 0.95.
        resamples: of the bootstrap.
        settings: of the fine-tuned network's evaluation.
        task: "classification" or "segmentation".

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> from blurlib.reporting import Record, Report, compare
        >>> report = Report(records=[Record.of(image_values(torch.eye(2), [0, 0]), blur="D4", sides=(64,))])
        >>> compare(report, report)["D4"].recovered is None
        True
    """

    rows: tuple[ComparisonRow, ...]
    runs: Mapping[str, int]
    level: float
    resamples: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    task: str = "classification"

    def __getitem__(self, key: str | tuple[str, int | tuple[int, ...]]) -> ComparisonRow:
        return find(self.rows, key)

    def __str__(self) -> str:
        return self.table()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the tables, in their order; top-5 is left out for five classes or fewer."""
        shown = shown_metrics(metrics.statistics_of(self.task), self.settings)
        return tuple(each for each in shown if each.compared)

    @property
    def caption(self) -> str:
        """Number of images, reference and intervals, in one line."""
        mean = f"mean of {self.runs['after']} networks; " if max(self.runs.values()) > 1 else ""
        against = "the control" if self.runs.get("control") else "the network before"
        notes = notes_text(metrics.statistics_of(self.task), self.settings)
        return (
            f"{self.rows[0].count} images; {mean}changes and recovered shares against {against}, "
            f"paired bootstrap {self.level:.0%} intervals; "
            "-: not defined, the loss is under two standard errors" + (f"; {notes}" if notes else "")
        )

    def table(self) -> str:
        """Two tables for a terminal: the values before and after, and the changes with their intervals."""
        return "\n\n".join([*(plain_table(*cells) for cells in self._tables()), self.caption])

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Both tables in Markdown.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        parts = [*(markdown_table(*cells) for cells in self._tables()), self.caption]
        return written("\n\n".join(parts) + "\n", path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; infinite ends of intervals are None."""
        rows = [
            {name: value for name, value in asdict(row).items() if name != "changes"}
            | {name: asdict(change) for name, change in row.changes.items()}
            for row in self.rows
        ]
        plain = json.dumps({**asdict(self), "rows": rows})
        copied: dict[str, Any] = json.loads(plain, parse_constant=lambda _: None)
        return copied

    def to_json(self, path: str | Path | None = None) -> str:
        """All numbers as JSON; infinite ends of intervals are null.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(json.dumps(self.to_dict(), indent=1) + "\n", path)

    def _tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Headings and cells of the values, then of the changes."""
        shown, listed = self.metrics, [each for each in self.metrics if each.listed]
        recovered = [each for each in listed if each.unit == "percent"]
        arrow = "before -> after (control)" if self.runs.get("control") else "before -> after"
        header, cells = condition_cells(self.rows, metrics.statistics_of(self.task))
        values = [[*line, *(_arrow(each, row.changes[each.name]) for each in shown)]
                  for line, row in zip(cells, self.rows, strict=True)]  # fmt: skip
        changes = [
            [
                *line,
                *(change_text(each, row.changes[each.name]) for each in listed),
                *(recovered_text(row.changes[each.name]) for each in recovered),
            ]
            for line, row in zip(cells, self.rows, strict=True)
        ]
        titles = [f"{shown[0].heading}: {arrow}", *(each.heading for each in shown[1:])]
        units = [f"{each.title} points" if each.unit == "percent" else each.title for each in listed]
        units += [f"{each.title} recovered %" for each in recovered]
        return [([*header, *titles], values), ([*header, *units], changes)]


def _arrow(metric: Metric, change: Change) -> str:
    tail = "" if change.control is None else f" ({value_text(metric, change.control)})"
    return f"{value_text(metric, change.before)} -> {value_text(metric, change.after)}{tail}"


def compare(
    after: Report | Sequence[Report],
    before: Report | Sequence[Report],
    *,
    control: Report | Sequence[Report] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare reports of fine-tuned networks with those of the original ones, with confidence intervals.

    Several reports of a kind, such as one a seed, are averaged. Intervals are paired bootstraps over images,
    resampled jointly for all networks and conditions: they cover other images, not other seeds.

    Args:
        after: report of the fine-tuned network, or reports of several.
        before: report of the original network, or of several.
        control: report of a network trained for as long on sharp images, or of several; it takes the
            original's place in differences and recovered shares.
        resamples: of the bootstrap.
        level: of the percentile intervals, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        The comparison under each condition that all of them have.

    Raises:
        TypeError: if one is not a report.
        ValueError: if they are of different tasks, images or settings, share no condition, or lack the
            statistics of their images.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> from blurlib.reporting import Record
        >>> reports = [
        ...     Report(records=[Record.of(image_values(scores, [0, 0]), blur="D8", sides=(256,))])
        ...     for scores in (torch.eye(2), torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        ... ]
        >>> compare(reports[1], reports[0])["D8"].top1.difference
        0.5
    """
    roles = {
        "before": _reports("before", before),
        "control": [] if control is None else _reports("control", control),
        "after": _reports("after", after),
    }
    first = roles["after"][0]
    for role, reports in roles.items():
        for report in reports:
            _check_settings(role, first, report)
    every = [report for reports in roles.values() for report in reports]
    shared = [{(record.blur, record.sides) for record in report.records} for report in every]
    keys = [(record.blur, record.sides) for record in first.records]
    keys = [key for key in keys if all(key in conditions for conditions in shared)]
    if not keys:
        known = ", ".join(f"{record.blur} at {sides_text(record.sides)}" for record in first.records)
        raise ValueError(f"`before` must share a condition with `after` ({known}), got none in common")
    check_same_images([report.records for report in (first, *every)])
    images: dict[_Place, list[Any]] = {
        (role, key): [report[key].images for report in reports]
        for role, reports in roles.items()
        if reports
        for key in keys
    }
    measured = metrics.averaged(images, resamples=resamples, seed=seed)
    compared = [metric for metric in first.statistics.metrics if metric.compared]
    return Comparison(
        rows=tuple(
            ComparisonRow(
                blur=key[0],
                sides=key[1],
                count=first[key].count,
                changes={each.name: _change(measured, key, each, level=level) for each in compared},
            )
            for key in keys
        ),
        runs={role: len(reports) for role, reports in roles.items()},
        level=level,
        resamples=resamples,
        settings=dict(first.settings),
        task=first.task,
    )


_Key = tuple[str, tuple[int, ...]]
_Place = tuple[str, _Key]


def _change(measured: Mapping[_Place, Averaged], key: _Key, metric: Metric, *, level: float) -> Change:
    means = {place: found.means[metric.name] for place, found in measured.items()}
    draws = {place: found.draws[metric.name] for place, found in measured.items()}
    control = means.get(("control", key))
    reference = "before" if control is None else "control"
    own, base, sharp = ("after", key), (reference, key), (reference, ("sharp", key[1]))
    sign = metric.better
    recovered = recovered_interval = None
    if sharp in means and sharp != base and sign:
        losses = sign * (draws[sharp] - draws[base])
        loss = sign * (means[sharp] - means[base])
        error = np.nanstd(losses) if np.isfinite(losses).any() else np.inf
        before, after = measured[sharp].columns, measured[base].columns
        if before is not None and after is not None:
            each = sign * (before - after)[:, list(measured[base].means).index(metric.name)]
            loss = each.mean()
            error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.inf
        if loss > 0 and loss >= 2 * error:
            recovered = float((means[own] - means[base]) / (means[sharp] - means[base]))
            gains = sign * (draws[own] - draws[base])
            recovered_interval = metrics.interval(metrics.shares(gains, losses), level=level)
    interval = metrics.interval(draws[own] - draws[base], level=level)
    return Change(
        before=_defined(means["before", key]),
        control=_defined(control),
        after=_defined(means[own]),
        sharp=_defined(means.get(sharp)),
        difference=_defined(means[own] - means[base]),
        difference_interval=None if np.isnan(interval[0]) else interval,
        recovered=_defined(recovered),
        recovered_interval=recovered_interval,
    )


def _defined(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _reports(name: str, given: Any) -> list[Report]:
    reports = [given] if isinstance(given, Report) else list(given) if isinstance(given, Sequence) else []
    if not reports or not all(isinstance(report, Report) for report in reports):
        raise TypeError(f"`{name}` must be a Report or a sequence of them, got {given!r:.80}")
    return reports


def _check_settings(role: str, first: Report, other: Report) -> None:
    if other.task != first.task:
        raise ValueError(f"`{role}` must be of the task of the others, got {first.task} and {other.task}")
    own = any(map(differs_by_image, {*first.blurs} & {*other.blurs}))
    names = [*_PROTOCOL, *(["seed"] if own else [])]  # it decides which kernel blurs which image
    different = [
        f"`{name}` {first.settings.get(name)!r} and {other.settings.get(name)!r}"
        for name in names
        if first.settings.get(name) != other.settings.get(name)
    ]
    kernels, others = (each.settings.get("kernels", {}) for each in (first, other))
    different += [
        f"kernel {name!r} of {known} and {others[name]}"
        for name, known in kernels.items()
        if others.get(name, known) != known
    ]
    if different:
        raise ValueError(
            f"`{role}` must be evaluated as the others, got {', '.join(different)}; "
            "evaluate both with the same settings"
        )
