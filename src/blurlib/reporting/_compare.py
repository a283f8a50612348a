"""Comparing evaluations of the same images: a paired bootstrap over images, for every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..metrics import Statistics
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
    measured = _measure(roles, keys, resamples=resamples, seed=seed)
    names = [each.name for each in first.statistics.metrics if each.compared]
    return Comparison(
        rows=tuple(
            ComparisonRow(
                blur=key[0],
                sides=key[1],
                count=first[key].count,
                changes={name: _change(measured, key, name, level=level) for name in names},
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


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Metrics by role and condition, averaged over the networks of a kind: exact, and of each resampling."""

    kind: type[Statistics]
    means: Mapping[_Place, Mapping[str, float]]
    draws: Mapping[_Place, Mapping[str, np.ndarray]]
    columns: Mapping[_Place, np.ndarray]  # of linear statistics: the images' values, averaged likewise


def _measure(
    roles: Mapping[str, Sequence[Report]], keys: Sequence[_Key], *, resamples: int, seed: int
) -> _Measured:
    kind = roles["after"][0].statistics
    exact: dict[_Place, list[Mapping[str, Any]]] = {}
    drawn: dict[_Place, list[Mapping[str, np.ndarray]]] = {}
    averaged: dict[_Place, np.ndarray] = {}
    order: list[_Place] = []

    def parts() -> Iterator[tuple[Statistics, np.ndarray]]:
        for place in [(role, key) for role, reports in roles.items() if reports for key in keys]:
            images: list[Any] = [report[place[1]].images for report in roles[place[0]]]
            if kind.linear:  # averaged before they are resampled: one set of columns for all networks
                columns = averaged[place] = np.mean([each.columns() for each in images], axis=0)
                found = images[0].from_means(columns.mean(axis=0, keepdims=True))
                exact[place] = [{name: value[0] for name, value in found.items()}]
                order.append(place)
                yield images[0], columns
            else:
                exact[place] = [each.compute() for each in images]
                for each in images:
                    order.append(place)
                    yield each, each.columns()

    for number, samples in enumerate(metrics.resampled(parts(), resamples=resamples, seed=seed)):
        drawn.setdefault(order[number], []).append(samples)
    means = {
        place: {
            name: float(np.mean([np.nan if each[name] is None else each[name] for each in exact[place]]))
            for name in found[0]
        }
        for place, found in drawn.items()
    }
    draws = {
        place: {name: np.mean([each[name] for each in found], axis=0) for name in found[0]}
        for place, found in drawn.items()
    }
    return _Measured(kind=kind, means=means, draws=draws, columns=averaged)


def _change(measured: _Measured, key: _Key, name: str, *, level: float) -> Change:
    means = {place: found[name] for place, found in measured.means.items()}
    draws = {place: found[name] for place, found in measured.draws.items()}
    control = means.get(("control", key))
    reference = "before" if control is None else "control"
    own, base, sharp = ("after", key), (reference, key), (reference, ("sharp", key[1]))
    sign = next(each.better for each in measured.kind.metrics if each.name == name)
    recovered = recovered_interval = None
    if sharp in means and sharp != base and sign:
        losses = sign * (draws[sharp] - draws[base])
        loss = sign * (means[sharp] - means[base])
        error = np.nanstd(losses) if np.isfinite(losses).any() else np.inf
        if measured.kind.linear:
            column = list(measured.means[base]).index(name)
            each = sign * (measured.columns[sharp] - measured.columns[base])[:, column]
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
