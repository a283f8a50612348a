"""The report of an evaluation, for every task: it prints, saves, loads and compares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import blurs
from .._common.files import (
    arrays_sha256,
    csv_table,
    json_path,
    sealed_json,
    write_arrays,
    written,
)
from .._common.provenance import network_name
from .._common.texts import visible
from ..metrics import Metric, Statistics, statistics_of
from ._records import (
    Record,
    check_same_images,
    classes_text,
    condition_cells,
    copies_text,
    find,
    left_out_text,
    shown_metrics,
)
from ._stored import KIND, arrays_of, read_report
from ._text import html_table, markdown_table, percent, plain_table, sides_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of :func:`blurlib.evaluate`; `print` shows it as a table.

    Attributes:
        records: one a condition, all of the same images.
        settings: plain values: the numbers of the protocol, the names of network and root, versions, the
            date.

    Raises:
        ValueError: if there is no record, two are of the same condition, or they are of different tasks or
            images.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> values = image_values(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), [0, 1])
        >>> report = Report(records=(Record.of(values, blur="D8", sides=(256,)),))
        >>> report["D8"].top1, report["D8", 256].count
        (0.5, 2)
        >>> print(report.table())
        blur  top-1 %  top-5 %  entropy  cross-entropy  ECE %  images
        ----  -------  -------  -------  -------------  -----  ------
        D8       50.0    100.0    0.474          0.720   42.5       2
    """

    records: tuple[Record, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        if not self.records:
            raise ValueError("`records` must hold at least one record, got none")
        if len({record.task for record in self.records}) > 1:
            raise ValueError("`records` must be of one task, got several")
        conditions = [(record.blur, record.sides) for record in self.records]
        for number, (blur, sides) in enumerate(conditions):
            if (blur, sides) in conditions[:number]:
                raise ValueError(
                    f"`records` must be of different conditions, got {blur} at {sides_text(sides)} twice"
                )
        if all(record.images is not None for record in self.records):
            check_same_images([self.records])

    def __getitem__(self, key: str | blurs.Blur | tuple[str | blurs.Blur, int | Sequence[int]]) -> Record:
        return find(self.records, key)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.caption}"

    def __repr__(self) -> str:
        return visible(
            f"<Report of {self.task}: {network_name(self.settings, 'a network')}, {self.records[0].count} "
            f"images under {', '.join(self.blurs)}; print() shows the table>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_table(*self.cells(), caption=self.caption)

    @property
    def task(self) -> str:
        """Name of the task, such as "classification"."""
        return self.records[0].task

    @property
    def statistics(self) -> type[Statistics]:
        """The class of the task's statistics, with its metrics."""
        images = self.records[0].images
        return statistics_of(self.task) if images is None else type(images)

    @property
    def blurs(self) -> tuple[str, ...]:
        """Short names of the blurs, each once, in their order."""
        return tuple(dict.fromkeys(record.blur for record in self.records))

    @property
    def caption(self) -> str:
        """Number of images, crops and sizes, in one or two lines."""
        known, first = self.settings, self.records[0]
        parts = [network_name(known), f"{first.count} images"]
        parts[1] += f" of {known['root']}" if "root" in known else ""
        if classes := classes_text(known):
            parts[1] += f" on {classes}"
        if first.skipped:
            parts.append(f"{first.skipped} more could not be read")
        if "canonical_side" in known:
            measure = "geometric mean of the sides" if self.task == "segmentation" else "shorter side"
            where = f"at a {measure} of {known['canonical_side']} px"
            copies = copies_text(known)
            parts += [f"{copies}, {where}"] if copies.startswith("blurred") else [copies, f"blurred {where}"]
        if len({record.sides for record in self.records}) == 1:
            parts.append(f"seen at {sides_text(first.sides, self.statistics.between_sides)}")
        if "crops" in known:
            parts.append(f"crops: {known['crops']}{'' if known['crops'] == 'dense' else self._crop_sizes()}")
        if "band" in known:
            share = percent(first.band_share)
            parts.append(f"boundaries: within {known['band']} px of one, {share} % of the pixels")
        if known.get("void_share", 0.0) > 0.5:
            parts.append(f"{percent(known['void_share'])} % of the pixels are void and do not count")
        parts.append(left_out_text(self.statistics, known))
        if known.get("complete") is False:
            parts.append("stopped before all images were seen")
        return visible(", ".join(part for part in parts if part))

    def _crop_sizes(self) -> str:
        """The crops as the network saw them: where a side is smaller than the crop, they have that side."""
        sides = {side for record in self.records for side in record.sides}
        sizes = sorted({min(side, self.settings["crop"]) for side in sides})
        return f" of {' and '.join(map(str, sizes))} px"

    def cells(self, *, skipped: bool = False) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table: a row a condition, without top-5 for five classes or fewer.

        Args:
            skipped: also how many images could not be read.

        Returns:
            The headings, and the cells of each row.
        """
        kind = self.statistics
        metrics = shown_metrics(kind, self.settings)
        header, rows = condition_cells(self.records, kind)
        header = [*header, *(metric.heading for metric in metrics), "images"]
        for record, row in zip(self.records, rows, strict=True):
            row += [_exact(metric, record.values[metric.name]) for metric in metrics]
            row += [str(record.count), *([str(record.skipped)] if skipped else [])]
        return [*header, *(["skipped"] if skipped else [])], rows

    def table(self) -> str:
        """One line a condition, aligned for a terminal: fractions in percent, entropies in nats."""
        return plain_table(*self.cells())

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The table and its caption in Markdown.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(f"{markdown_table(*self.cells())}\n\n{self.caption}\n", path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The records as comma-separated values, one line a condition, full precision, fractions and nats.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        values = self.records[0].values
        several = [name for name, value in values.items() if isinstance(value, tuple)]
        single = [*(name for name in values if name not in several), "count", "skipped"]
        header = ["blur", "sides", *single]
        header += [f"{name} {number}" for name in several for number in range(len(values[name]))]
        rows = [
            [
                record.blur,
                sides_text(record.sides, self.statistics.between_sides),
                *(getattr(record, name) for name in single),
                *(value for name in several for value in record.values[name]),
            ]
            for record in self.records
        ]
        return written(csv_table(header, rows), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers: settings and records, without the statistics of each image."""
        records = [
            {
                "blur": record.blur,
                "sides": record.sides,
                **record.values,
                "count": record.count,
                "skipped": record.skipped,
            }
            for record in self.records
        ]
        plain = {"kind": KIND, "task": self.task, "settings": dict(self.settings), "records": records}
        copied: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
        return copied

    def to_json(self, path: str | Path | None = None) -> str:
        """Settings and records as JSON; :meth:`save` keeps the statistics of each image too.

        Besides it has SHA-256 of the content and of these statistics, which :meth:`load` compares.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        arrays = arrays_of(self)
        digest = arrays_sha256(arrays) if arrays else None
        return written(sealed_json(self.to_dict() | {"arrays_sha256": digest}), path)

    def to_html(
        self,
        path: str | Path,
        *,
        before: Report | None = None,
        control: Report | None = None,
        title: str | None = None,
    ) -> Path:
        """Write one self-contained page: the main result, tables, plots, the kernels and every setting.

        Args:
            path: the file.
            before: report of the original network; the page then compares the two, with intervals.
            control: report of a network trained for as long on sharp images; needs `before`.
            title: of the page.

        Returns:
            The file.

        Raises:
            ValueError: if `control` is given without `before`, or the reports do not compare.
            ImportError: if the extra `report` is not installed.
        """
        from ._html import report_page

        comparison = self._compared(before, control)
        return report_page(path, self, before=before, control=control, comparison=comparison, title=title)

    def _compared(self, before: Report | None, control: Report | None) -> Comparison | None:
        if control is not None and before is None:
            raise ValueError(
                "`control` must come with `before`, got it alone; give the original's report too"
            )
        return None if before is None else self.compare(before, control=control)

    def plot(self, *, before: Report | None = None, control: Report | None = None) -> Figure:
        """Draw the metrics under each blur, and against the size of the blur where a family has two sizes.

        Intervals are those of :func:`compare`, and of the metrics themselves as bands.

        Args:
            before: report of the original network; both are drawn.
            control: report of a network trained for as long on sharp images; needs `before`.

        Returns:
            A figure of matplotlib, which a notebook shows: `figure.savefig("report.pdf")` keeps it.

        Raises:
            ValueError: if `control` is given without `before`, or the reports do not compare.
            ImportError: if the extra `report` is not installed.
        """
        from ._html.evaluation_page import report_plot

        comparison = self._compared(before, control)
        return report_plot(self, before=before, control=control, comparison=comparison)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON, and the statistics of each image as .npz next to it.

        Each file is written aside and then renamed.

        Args:
            path: a file ending in .json, or a folder for report.json and report.npz.

        Returns:
            The JSON file.
        """
        target = json_path(path)
        arrays = arrays_of(self)
        if arrays:
            write_arrays(target, **arrays)
        self.to_json(target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report that :meth:`save` wrote.

        Args:
            path: the JSON file, or the folder that holds report.json.

        Returns:
            The report; without the statistics of each image where the .npz is missing, so that it does not
            compare.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a report, a file is damaged or was changed, or the .npz is of another
                report.
        """
        return read_report(cls, path)

    def compare(
        self, before: Report, *, control: Report | None = None, resamples: int = 2000, seed: int = 0
    ) -> Comparison:
        """Compare this report, of a fine-tuned network, with that of the original; see :func:`compare`.

        Args:
            before: report of the original network on the same images.
            control: report of a network trained for as long on sharp images; it takes the original's place in
                differences and recovered shares.
            resamples: of the bootstrap.
            seed: of the bootstrap.

        Returns:
            The comparison under each condition that all of them have.
        """
        from ._comparison import compare

        return compare(self, before, control=control, resamples=resamples, seed=seed)


def _exact(metric: Metric, value: float | None) -> str:
    """A value in a table of values alone: nats to three digits."""
    return "-" if value is None else percent(value) if metric.unit == "percent" else f"{value:.3f}"
