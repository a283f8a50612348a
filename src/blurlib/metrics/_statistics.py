"""What every task shares: an image gives a statistic that adds up, a metric is a function of the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from . import _bootstrap

_TOGETHER = 16_000_000  # numbers resampled in one matrix product, 128 MB

_Key = TypeVar("_Key", bound=Hashable)
_Own = TypeVar("_Own", bound="Statistics")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a task and how it is shown.

    Attributes:
        name: in records and files, such as "top1".
        title: in tables, such as "top-1".
        label: in sentences, such as "top-1 accuracy".
        unit: "percent" for a fraction, or "nats".
        better: 1 where more is better, -1 where less is, 0 where neither; the recovered fraction of a metric
            with 0 is not defined.
        compared: whether it is a function of the columns' means, so that it can be resampled.
        listed: whether the printed table of changes has it.
        plotted: whether the page plots it and has it in its first table.
        among: how many classes it looks at; with as many or fewer it is 100 % by definition, and tables leave
            it out. 0 for other metrics.

    Example:
        >>> Metric(name="miou", title="mIoU", label="mean IoU").heading
        'mIoU %'
    """

    name: str
    title: str
    label: str
    unit: Literal["percent", "nats"] = "percent"
    better: Literal[-1, 0, 1] = 1
    compared: bool = True
    listed: bool = True
    plotted: bool = True
    among: int = 0

    @property
    def heading(self) -> str:
        """The title with the unit that a table's heading names."""
        return f"{self.title} %" if self.unit == "percent" else self.title


@dataclass(frozen=True, kw_only=True)
class Statistics(ABC):
    """The statistics of N images under one condition; a task is one class of these.

    The first of `metrics` is the main one. Where the metrics are the columns' means themselves, `linear` is
    True.

    Attributes:
        ids: (N,) names of the images, unicode.
        task: name of the task.
        metrics: in the order of the tables.
        arrays: names of the arrays (N, ...) and their types in a file.
        shared: names of further arrays (N, ...) that belong to the images, the same under every condition.
        linear: whether `from_means` returns the columns as they are.
        between_sides: what separates the sides of a scale in text: "+" where they are averaged, "x" for
            height and width.
        explanation: of the metrics, for the page.

    Example:
        >>> from blurlib.metrics import ImageValues
        >>> issubclass(ImageValues, Statistics), ImageValues.metrics[0].name
        (True, 'top1')
    """

    ids: np.ndarray

    task: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    arrays: ClassVar[Mapping[str, str]]
    shared: ClassVar[Mapping[str, str]] = {}
    linear: ClassVar[bool] = False
    between_sides: ClassVar[str] = "+"
    explanation: ClassVar[str] = ""

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """The metrics of all images together, None where not defined, and what else a record keeps."""

    @property
    def chance(self) -> float:
        """The main metric of a network that always says the most frequent class; 0 where there is none."""
        return 0.0

    @abstractmethod
    def columns(self) -> np.ndarray:
        """(N, M) float64: what of each image adds up."""

    @abstractmethod
    def from_means(self, means: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of resampled images.

        Args:
            means: (R, M) means of the columns.

        Returns:
            (R,) of each compared metric, NaN where not defined.
        """

    def only(self: _Own, ids: Iterable[str]) -> _Own:
        """The statistics of some of the images.

        Args:
            ids: their names.

        Returns:
            These, in their order here.
        """
        there = np.isin(self.ids, list(ids))
        return replace(
            self, **{name: getattr(self, name)[there] for name in ("ids", *self.arrays, *self.shared)}
        )

    def samples(self, *, resamples: int = 2000, seed: int = 0) -> dict[str, np.ndarray]:
        """The metrics of resampled images, the same resampling for all statistics of as many images.

        Args:
            resamples: how many, R.
            seed: of the resampling.

        Returns:
            (R,) of each metric.
        """
        return dict(averaged({0: [self]}, resamples=resamples, seed=seed)[0].draws)


def statistics_of(task: str) -> type[Statistics]:
    """The class of a task's statistics.

    Args:
        task: its name.

    Returns:
        The class.

    Raises:
        ValueError: if there is none of this name.

    Example:
        >>> statistics_of("segmentation").__name__
        'PixelCounts'
    """
    known = {each.task: each for each in Statistics.__subclasses__()}
    if task not in known:
        raise ValueError(f"`task` must be one of {', '.join(known)}, got {task!r}")
    return known[task]


def _resampled(
    parts: Iterable[tuple[Statistics, np.ndarray]], *, resamples: int = 2000, seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """The metrics of resampled images, one resampling for all parts.

    Columns of several parts go into one matrix product, up to a bound of memory: drawing takes longer than
    the product.

    Args:
        parts: statistics of the same images, each with its columns or their mean over several networks.
        resamples: how many, R.
        seed: of the resampling.

    Yields:
        For each part (R,) of each metric.
    """
    batch: list[tuple[Statistics, np.ndarray]] = []

    def drawn() -> Iterator[dict[str, np.ndarray]]:
        together = np.concatenate([columns for _, columns in batch], axis=1)
        means = _bootstrap.means(together, resamples=resamples, seed=seed)
        ends = np.cumsum([columns.shape[1] for _, columns in batch])[:-1]
        for (statistics, _), own in zip(batch, np.split(means, ends, axis=1), strict=True):
            yield statistics.from_means(own)
        batch.clear()

    for statistics, columns in parts:
        if batch and sum(each.size for _, each in batch) + columns.size > _TOGETHER:
            yield from drawn()
        batch.append((statistics, columns))
    if batch:
        yield from drawn()


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """The metrics of several networks under one condition, averaged over the networks.

    Attributes:
        means: of each compared metric, NaN where it is not defined.
        draws: (R,) of each compared metric: those of resampled images.
        columns: (N, M) the images' columns, averaged likewise; None where the statistics are not linear.

    Example:
        >>> from blurlib.metrics import image_values
        >>> import torch
        >>> averaged({"D8": [image_values(torch.eye(2), [0, 0])]})["D8"].means["top1"]
        0.5
    """

    means: Mapping[str, float]
    draws: Mapping[str, np.ndarray]
    columns: np.ndarray | None


def averaged(
    images: Mapping[_Key, Sequence[Statistics]], *, resamples: int = 2000, seed: int = 0
) -> dict[_Key, Averaged]:
    """Metrics averaged over networks, exact and of resampled images: one resampling for all conditions.

    Args:
        images: for each condition the statistics of the same images, one for each network.
        resamples: how many, R.
        seed: of the resampling.

    Returns:
        The averages of each condition.
    """
    exact: dict[_Key, list[Mapping[str, Any]]] = {}
    drawn: dict[_Key, list[Mapping[str, np.ndarray]]] = {}
    columns: dict[_Key, np.ndarray] = {}
    order: list[_Key] = []

    def parts() -> Iterator[tuple[Statistics, np.ndarray]]:
        for key, every in images.items():
            if every[0].linear:  # averaged before they are resampled: one set of columns for all networks
                columns[key] = np.mean([each.columns() for each in every], axis=0)
                found = every[0].from_means(columns[key].mean(axis=0, keepdims=True))
                exact[key] = [{name: value[0] for name, value in found.items()}]
                order.append(key)
                yield every[0], columns[key]
            else:
                exact[key] = [each.compute() for each in every]
                for each in every:
                    order.append(key)
                    yield each, each.columns()

    for number, samples in enumerate(_resampled(parts(), resamples=resamples, seed=seed)):
        drawn.setdefault(order[number], []).append(samples)
    return {
        key: Averaged(
            means={
                name: float(np.mean([np.nan if each[name] is None else each[name] for each in exact[key]]))
                for name in found[0]
            },
            draws={name: np.mean([each[name] for each in found], axis=0) for name in found[0]},
            columns=columns.get(key),
        )
        for key, found in drawn.items()
    }
