"""The report of an evaluation of segmentation, one record a condition: prints, saves, loads and compares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._common.files import json_path, read_arrays, read_plain, write_arrays, written
from .._common.provenance import network_name
from ..blurs import Blur
from ..metrics import PixelCounts
from ._records import find
from ._segmentation_comparison import SegmentationComparison, compare_counts
from ._segmentation_records import METRICS, SegmentationRecord
from ._text import csv_table, markdown_table, percent, plain_table, size_text

_KIND = "blurlib.SegmentationReport"
_ARRAYS = ("matrix", "band", "rims")
# What two evaluations must agree on before a difference between them is the networks' own.
_PROTOCOL = ("canonical_side", "network_sides", "network_size", "resample", "border", "band", "rim", "seed")


@dataclass(frozen=True, kw_only=True)
class SegmentationReport:
    """What :func:`blurlib.evaluate` measured of a segmentation network; `print` shows it as a table.

    Attributes:
        records: one a condition, all of the same images.
        settings: plain values: the numbers of the protocol, the names of network and root, versions, the
            date.

    Example:
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.array([[[1, 0], [0, 1]]]), rims=np.array([[[1, 1], [2, 1]]]))
        >>> report = SegmentationReport(
        ...     records=(SegmentationRecord.of(counts, blur="D8", sides=(384,)),)
        ... )
        >>> print(report.table())
        blur  mIoU %  band mIoU %  boundary IoU %  pixels %  images
        ----  ------  -----------  --------------  --------  ------
        D8      58.3        100.0            75.0      75.0       1
    """

    records: tuple[SegmentationRecord, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | Blur | tuple[str | Blur, int | Sequence[int]]) -> SegmentationRecord:
        return find(self.records, key)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.caption}"

    @property
    def blurs(self) -> tuple[str, ...]:
        """Short names of the blurs, in order."""
        return tuple(dict.fromkeys(record.blur for record in self.records))

    @property
    def caption(self) -> str:
        """What was measured, in a line."""
        known, first = self.settings, self.records[0]
        name = network_name(known)
        what = f"{name} on {known['root']}" if name and "root" in known else ""
        band = (
            f"band: within {known['band']} px of a boundary, {percent(first.band_share)} % of the pixels"
            if "band" in known
            else ""
        )
        left = f"{first.skipped} images could not be read" if first.skipped else ""
        share = known.get("void_share", 0.0)
        void = f"{percent(share)} % of the pixels are void and do not count" if share > 0.5 else ""
        return "; ".join(part for part in (what, band, left, void) if part)

    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table: a row a condition."""
        several = len({record.sides for record in self.records}) > 1
        header = ["blur", *(["side"] if several else []), *METRICS.values(), "images"]
        rows = []
        for record in self.records:
            values = [getattr(record, name) for name in METRICS]
            rows.append(
                [
                    record.blur,
                    *([size_text(record.sides)] if several else []),
                    *("-" if value is None else percent(value) for value in values),
                    str(record.count),
                ]
            )
        return header, rows

    def table(self) -> str:
        """A line a condition, aligned for a terminal."""
        return plain_table(*self.lines())

    def class_table(self, names: Sequence[str] = (), *, markdown: bool = False) -> str:
        """IoU of each class in percent under each condition.

        Args:
            names: of the classes; their numbers where there are none.
            markdown: a Markdown table instead of an aligned one.

        Returns:
            A line a class.

        Raises:
            ValueError: if there are names, but not one for each class.
        """
        classes = len(self.records[0].class_iou)
        if len(names) not in (0, classes):
            raise ValueError(f"`names` must name each of the {classes} classes, got {len(names)}")
        return (markdown_table if markdown else plain_table)(*self._class_cells(names))

    def _class_cells(self, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        several = len({record.sides for record in self.records}) > 1
        header = [
            f"{record.blur} at {size_text(record.sides)}" if several else record.blur
            for record in self.records
        ]
        rows = []
        for number in range(len(self.records[0].class_iou)):
            values = [record.class_iou[number] for record in self.records]
            shown = ["-" if value is None else percent(value) for value in values]
            rows.append([names[number] if names else str(number), *shown])
        return ["class", *header], rows

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The table in Markdown.

        Args:
            path: where to write it too; not written if None.

        Returns:
            The text.
        """
        return written(f"{markdown_table(*self.lines())}\n\n{self.caption}\n", path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Every number, a line a condition.

        Args:
            path: where to write it too; not written if None.

        Returns:
            The text.
        """
        names = [*METRICS, "band_share", "count", "skipped"]
        classes = range(len(self.records[0].class_iou))
        rows = [
            [
                record.blur,
                size_text(record.sides),
                *(getattr(record, name) for name in names),
                *record.class_iou,
            ]
            for record in self.records
        ]
        return written(csv_table(["blur", "side", *names, *(f"iou {n}" for n in classes)], rows), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers: settings and records, without the counts of each image."""
        records = [
            {name: value for name, value in vars(record).items() if name != "pixels"}
            for record in self.records
        ]
        plain = {"kind": _KIND, "settings": dict(self.settings), "records": records}
        copied: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
        return copied

    def to_json(self, path: str | Path | None = None) -> str:
        """Settings and records as JSON; :meth:`save` keeps the counts of each image too.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", path)

    def to_html(
        self,
        path: str | Path,
        *,
        before: SegmentationReport | None = None,
        control: SegmentationReport | None = None,
        title: str = "Segmentation under blur",
    ) -> Path:
        """Write one self-contained page: changes, every number, every class, the settings.

        Args:
            path: the file.
            before: report of the original network; the page then compares the two, with intervals.
            control: of a network trained for as long on sharp images, beside `before`.
            title: of the page.

        Returns:
            The file.

        Raises:
            ValueError: if `control` is given without `before`, or the reports do not compare.
            ImportError: if the extra `report` is not installed.
        """
        from ._html import Section, Table, write_page

        if control is not None and before is None:
            raise ValueError(
                "`control` must come with `before`, got it alone; give the original's report too"
            )
        sections = []
        if before is not None:
            changed = self.compare(before, control=control)
            header, rows = changed.lines()
            part = Table(header=header, rows=rows, caption=f"{changed.caption}.")
            sections.append(Section(title="What changed", parts=[part]))
        for name, report in (("before", before), ("control", control), ("", self)):
            if report is not None:
                header, rows = report.lines()
                part = Table(header=header, rows=rows, caption=f"{report.caption}.")
                sections.append(Section(title=f"Measured {name}".strip(), parts=[part]))
        header, rows = self._class_cells(())
        each = Table(header=header, rows=rows, caption="IoU of each class in percent.")
        settings = [[f"`{name}`", str(value)] for name, value in self.settings.items()]
        table = Table(header=["setting", "value"], rows=settings)
        sections += [Section(title="Classes", parts=[each]), Section(title="Settings", parts=[table])]
        return write_page(path, title=title, lead=f"{self.caption}.", sections=sections)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON and, beside it, the counts of each image as .npz.

        Args:
            path: a file ending in .json, or a folder for report.json and report.npz.

        Returns:
            The JSON file.
        """
        target = json_path(path)
        every = [record.pixels for record in self.records if record.pixels is not None]
        if len(every) == len(self.records):
            arrays = {name: np.stack([getattr(pixels, name) for pixels in every]) for name in _ARRAYS}
            narrow = {name: array.astype(np.int32) for name, array in arrays.items()}
            write_arrays(target, ids=every[0].ids, **narrow)
        self.to_json(target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> SegmentationReport:
        """Read a report that :meth:`save` wrote.

        Args:
            path: the JSON file, or the folder that holds report.json.

        Returns:
            The report; without the counts of each image where the .npz is missing, so that it does not
            compare.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not such a report, or the .npz is of another one.
        """
        source = json_path(path)
        plain, records = read_plain(
            source,
            _KIND,
            lambda plain: [
                SegmentationRecord(
                    **{**record, "sides": tuple(record["sides"]), "class_iou": tuple(record["class_iou"])}
                )
                for record in plain["records"]
            ],
        )
        arrays = read_arrays(source, ("ids", *_ARRAYS), (len(records), records[0].count))
        if arrays is not None:
            records = [
                SegmentationRecord.of(
                    PixelCounts(
                        ids=arrays["ids"],
                        **{name: arrays[name][number].astype(np.int64) for name in _ARRAYS},
                    ),
                    blur=record.blur,
                    sides=record.sides,
                    skipped=record.skipped,
                )
                for number, record in enumerate(records)
            ]
        return cls(records=tuple(records), settings=plain["settings"])

    def compare(
        self, before: SegmentationReport, *, control: SegmentationReport | None = None
    ) -> SegmentationComparison:
        """Compare with the report of the original network on the same images.

        Args:
            before: of the original network.
            control: of a network trained for as long on sharp images.

        Returns:
            The comparison; :func:`compare_segmentation` takes several networks of a kind.

        Raises:
            ValueError: see :func:`compare_segmentation`.
        """
        return compare_segmentation(self, before, control=control)


def is_segmentation(path: str | Path) -> bool:
    """Whether a file is a report of segmentation.

    Args:
        path: a JSON file, or the folder that holds report.json.

    Returns:
        True for one that :meth:`SegmentationReport.save` wrote; False for any other, or none.

    Example:
        >>> is_segmentation("nowhere")
        False
    """
    try:
        plain = json.loads(json_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(plain, dict) and plain.get("kind") == _KIND


def compare_segmentation(
    after: SegmentationReport | Sequence[SegmentationReport],
    before: SegmentationReport | Sequence[SegmentationReport],
    *,
    control: SegmentationReport | Sequence[SegmentationReport] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> SegmentationComparison:
    """Compare evaluations of the same images, averaging over several networks of a kind.

    See :func:`blurlib.reporting.compare_counts`.

    Args:
        after: report of the fine-tuned network, or of several (seeds).
        before: of the original one, or several.
        control: of networks trained for as long on sharp images.
        resamples: of the bootstrap.
        level: of the percentile intervals, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        The changes under each condition that all of them have.

    Raises:
        ValueError: if they are of different images or settings, share no condition, or lack the counts of
            their images.

    Example:
        >>> counts = PixelCounts(ids=np.array(["a"]), matrix=np.array([[[1, 0], [1, 2]]]),
        ...                      band=np.array([[[1, 0], [0, 1]]]), rims=np.array([[[1, 1], [2, 1]]]))
        >>> report = SegmentationReport(
        ...     records=(SegmentationRecord.of(counts, blur="D8", sides=(384,)),)
        ... )
        >>> compare_segmentation([report, report], report).runs
        {'before': 1, 'control': 0, 'after': 2}
    """
    roles = {"before": _several(before), "control": _several(control), "after": _several(after)}
    _check_alike([report for reports in roles.values() for report in reports])
    records = {role: [report.records for report in reports] for role, reports in roles.items()}
    return compare_counts(
        records["after"],
        records["before"],
        control=records["control"],
        resamples=resamples,
        level=level,
        seed=seed,
    )


def _several(
    reports: SegmentationReport | Sequence[SegmentationReport] | None,
) -> list[SegmentationReport]:
    if reports is None:
        return []
    return [reports] if isinstance(reports, SegmentationReport) else list(reports)


def _check_alike(reports: Sequence[SegmentationReport]) -> None:
    first = reports[-1]
    for report in reports:
        different = [
            f"`{name}` {first.settings.get(name)!r} and {report.settings.get(name)!r}"
            for name in _PROTOCOL
            if first.settings.get(name) != report.settings.get(name)
        ]
        if different:
            raise ValueError(
                f"reports to compare must be evaluated alike, got {', '.join(different)}; evaluate both with "
                "the same settings"
            )
