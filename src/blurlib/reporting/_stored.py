"""A report as files: the statistics of each image as arrays, and how both files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.files import json_path, read_arrays, read_plain
from ..metrics import Statistics, statistics_of
from ._records import Record, is_of_its_images

if TYPE_CHECKING:
    from ._report import Report

KIND = "blurlib.Report"
_FIELDS = ("task", "blur", "sides", "count", "skipped")


def arrays_of(report: Report) -> dict[str, np.ndarray]:
    """The statistics of each image as a file holds them; none where a record is without."""
    images = [record.images for record in report.records if record.images is not None]
    if len(images) < len(report.records):
        return {}
    kind = report.statistics
    arrays = {name: getattr(images[0], name) for name in ("ids", *kind.shared)}
    for name, stored in kind.arrays.items():
        arrays[name] = np.stack([getattr(each, name) for each in images]).astype(stored)
    return arrays


def read_report(cls: type[Report], path: str | Path) -> Report:
    """See :meth:`Report.load`."""
    source = json_path(path)
    plain, report = read_plain(
        source,
        KIND,
        lambda plain: cls(
            records=tuple(_record(plain["task"], each) for each in plain["records"]),
            settings=plain["settings"],
        ),
    )
    kind, records = report.statistics, report.records
    sealed, digest = "sha256" in plain, plain.get("arrays_sha256")  # those of 0.1 name no arrays
    names = ("ids", *kind.shared, *kind.arrays)
    arrays = None if sealed and digest is None else read_arrays(source, names, digest)
    if arrays is None:
        return report

    def images(number: int) -> Statistics:
        each = {name: arrays[name][number] for name in kind.arrays}
        # Counts are stored narrow and added up wide.
        wide = {name: a.astype(np.int64) if a.dtype.kind == "i" else a for name, a in each.items()}
        return kind(**{name: arrays[name] for name in ("ids", *kind.shared)}, **wide)

    try:
        filled = tuple(replace(record, images=images(number)) for number, record in enumerate(records))
        if not sealed and not all(map(is_of_its_images, filled)):
            raise ValueError("their values are others")
        return cls(records=filled, settings=plain["settings"])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"`path` must have the values of its own images beside it, got {source.stem}.npz of another "
            f"report ({error}); move the files of one run together, or evaluate again"
        ) from error


def _record(task: str, plain: Mapping[str, Any]) -> Record:
    """A record from its JSON."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plain.items()
        if name not in _FIELDS
    }
    return Record(
        task=task,
        blur=plain["blur"],
        sides=tuple(plain["sides"]),
        values={**{metric.name: values[metric.name] for metric in statistics_of(task).metrics}, **values},
        count=plain["count"],
        skipped=plain["skipped"],
    )
