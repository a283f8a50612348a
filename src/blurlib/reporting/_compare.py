"""Comparing evaluations of the same images: a paired bootstrap over images, for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..metrics import Averaged, Metric
from ._comparison import Change, Comparison, ComparisonRow
from ._records import check_same_images
from ._report import Report
from ._text import sides_text

# What two evaluations must agree on before a difference between them is the networks' own.
_PROTOCOL = (
    "canonical_side", "crop", "crops", "average", "network_sides", "network_size", "resample", "border",
    "band", "boundary_ratio",
)  # fmt: skip


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
    names = list(_PROTOCOL)
    if "shake" in first.blurs and "shake" in other.blurs:
        names.append("seed")  # it decides which kernel shakes which image
    different = [
        f"`{name}` {first.settings.get(name)!r} and {other.settings.get(name)!r}"
        for name in names
        if first.settings.get(name) != other.settings.get(name)
    ]
    if different:
        raise ValueError(
            f"`{role}` must be evaluated as the others, got {', '.join(different)}; "
            "evaluate both with the same settings"
        )
