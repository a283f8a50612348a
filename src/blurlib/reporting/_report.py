"""The report of an evaluation: plain records, one a condition, that print, save, load and compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import blurs
from .._common.files import json_path, read_arrays, read_plain, write_arrays, written
from .._common.provenance import network_name
from ..metrics import ImageValues, risk_coverage
from ._comparison import Comparison, check_same_images, compare_records
from ._records import Record, find
from ._selective import confidence_lines
from ._text import csv_table, markdown_table, plain_table, sides_text

if TYPE_CHECKING:
    from ._html import Figure, Table

_KIND = "blurlib.BlurReport"
_CONFIDENCE = """
A network that is unsure can ask for another picture instead of guessing. How accurate is it on the images
that it is surest of?
"""
_CONFIDENCE_CAPTION = """Top-1 accuracy in percent on the surest images, by the probability of the most
probable class. AURC: area under the risk-coverage curve, smaller is better; by entropy in the last column."""
_PANELS = 12  # risk-coverage curves that a page shows, the first ones; its table has all conditions
_NUMBERS = ("top1", "top5", "entropy", "cross_entropy", "ece", "count", "skipped")
_ARRAYS = ("correct", "correct5", "entropy", "cross_entropy", "confidence")
# What two evaluations must agree on before a difference between them is the networks' own.
_PROTOCOL = ("canonical_side", "crop", "crops", "average", "resample", "border")


@dataclass(frozen=True, kw_only=True)
class BlurReport:
    """What :func:`blurlib.evaluate` measured; `print` shows it as a table.

    Attributes:
        records: one a condition, all of the same images.
        settings: plain values: the numbers of the protocol, the names of network and root, versions, the
            date.

    Raises:
        ValueError: if there is no record, two are of the same condition, or they are of different images.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> values = image_values(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), [0, 1])
        >>> report = BlurReport(records=(Record.of(values, blur="D8", sides=(256,)),))
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
        conditions = [(record.blur, record.sides) for record in self.records]
        for number, (blur, sides) in enumerate(conditions):
            if (blur, sides) in conditions[:number]:
                raise ValueError(
                    f"`records` must be of different conditions, got {blur} at {sides_text(sides)} twice"
                )
        if all(record.images is not None for record in self.records):
            check_same_images([[record] for record in self.records])

    def __getitem__(self, key: str | blurs.Blur | tuple[str | blurs.Blur, int | Sequence[int]]) -> Record:
        return find(self.records, key)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.caption}"

    @property
    def blurs(self) -> tuple[str, ...]:
        """Short names of the blurs, each once, in their order."""
        return tuple(dict.fromkeys(record.blur for record in self.records))

    @property
    def caption(self) -> str:
        """What was measured on what, in a line or two."""
        known = self.settings
        first = self.records[0]
        parts = [network_name(known), f"{first.count} images"]
        parts[1] += f" of {known['root']}" if "root" in known else ""
        if first.skipped:
            parts.append(f"{first.skipped} more could not be read")
        if "canonical_side" in known:
            parts.append(f"blurred at a shorter side of {known['canonical_side']} px")
        if len(self._scales()) == 1:
            parts.append(f"seen at {sides_text(first.sides)}")
        if "crops" in known:
            parts.append(f"crops: {known['crops']}{'' if known['crops'] == 'dense' else self._crop_sizes()}")
        if known.get("complete") is False:
            parts.append("stopped before all images were seen")
        return ", ".join(part for part in parts if part)

    def _crop_sizes(self) -> str:
        """The crops as the network saw them: where a side is smaller than the crop, they have that side."""
        sides = {side for record in self.records for side in record.sides}
        sizes = sorted({min(side, self.settings["crop"]) for side in sides})
        return f" of {' and '.join(map(str, sizes))} px"

    def _scales(self) -> list[tuple[int, ...]]:
        return list(dict.fromkeys(record.sides for record in self.records))

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        several = len(self._scales()) > 1
        header = ["blur", *(["scale"] if several else [])]
        header += ["top-1 %", "top-5 %", "entropy", "cross-entropy", "ECE %", "images"]
        rows = [
            [
                r.blur,
                *([sides_text(r.sides)] if several else []),
                *(f"{100 * value:.1f}" for value in (r.top1, r.top5)),
                *(f"{value:.3f}" for value in (r.entropy, r.cross_entropy)),
                f"{100 * r.ece:.1f}",
                str(r.count),
            ]
            for r in self.records
        ]
        return header, rows

    def table(self) -> str:
        """One line a condition, aligned for a terminal: accuracies and ECE in percent, entropies in nats."""
        return plain_table(*self._cells())

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The table and its caption in Markdown.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(f"{markdown_table(*self._cells())}\n\n{self.caption}\n", path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The records as comma-separated values, one line a condition, full precision, fractions and nats.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        rows = [
            [record.blur, sides_text(record.sides), *(getattr(record, name) for name in _NUMBERS)]
            for record in self.records
        ]
        return written(csv_table(["blur", "sides", *_NUMBERS], rows), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers: settings and records, without the values of each image."""
        records = [asdict(replace(record, images=None)) for record in self.records]
        for record in records:
            del record["images"]
        plain = {"kind": _KIND, "settings": dict(self.settings), "records": records}
        copied: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
        return copied

    def to_json(self, path: str | Path | None = None) -> str:
        """Settings and records as JSON; :meth:`save` keeps the values of each image too.

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
        before: BlurReport | None = None,
        control: BlurReport | None = None,
        title: str | None = None,
    ) -> Path:
        """Write one self-contained page: the finding, tables, plots, the kernels and every setting.

        Args:
            path: the file.
            before: report of the original network; the page then compares the two, with intervals.
            control: report of a network trained for as long on sharp images, beside `before`.
            title: of the page.

        Returns:
            The file.

        Raises:
            ValueError: if `control` is given without `before`, or the reports do not compare.
            ImportError: if the extra `report` is not installed.
        """
        from ._html import Section, Table, report_page

        if control is not None and before is None:
            raise ValueError(
                "`control` must come with `before`, got it alone; give the original's report too"
            )
        comparison = None if before is None else self.compare(before, control=control)
        sections = []
        if all(record.images is not None for record in self.records):
            header, rows = confidence_lines(self.records)
            parts: list[Figure | Table] = [
                self._risks(before, control),
                Table(header=header, rows=rows, caption=_CONFIDENCE_CAPTION),
            ]
            sections = [Section(title="If the network may decline", text=_CONFIDENCE, parts=parts)]
        return report_page(
            path,
            self.to_dict(),
            before=None if before is None else before.to_dict(),
            comparison=None if comparison is None else comparison.to_dict(),
            title=title,
            sections=sections,
        )

    def _risks(self, before: BlurReport | None, control: BlurReport | None) -> Figure:
        """Risk-coverage curves of the first conditions, of all networks that were measured under them."""
        from ._html import risk_figure

        several = len({record.sides for record in self.records}) > 1
        curves: dict[str, dict[str, np.ndarray]] = {}
        for record in self.records[:_PANELS]:
            title = f"{record.blur} at {sides_text(record.sides)}" if several else record.blur
            for role, report in (("before", before), ("control", control), ("after", self)):
                same = [] if report is None else report.records
                for other in same:
                    if (other.blur, other.sides) == (record.blur, record.sides) and other.images is not None:
                        curve = risk_coverage(other.images.confidence, other.images.correct)
                        curves.setdefault(title, {})[role] = curve.risk
        return risk_figure(curves)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON and, beside it, the values of each image as .npz.

        Each file is written aside and then renamed.

        Args:
            path: a file ending in .json, or a folder for report.json and report.npz.

        Returns:
            The JSON file.
        """
        target = json_path(path)
        images = [record.images for record in self.records if record.images is not None]
        if len(images) == len(self.records):
            arrays = {name: np.stack([getattr(values, name) for values in images]) for name in _ARRAYS}
            write_arrays(target, ids=images[0].ids, label=images[0].label, **arrays)
        self.to_json(target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> BlurReport:
        """Read a report that :meth:`save` wrote.

        Args:
            path: the JSON file, or the folder that holds report.json.

        Returns:
            The report; without the values of each image where the .npz is missing, so that it does not
            compare.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a report, or the .npz is of another one.
        """
        source = json_path(path)
        plain, records = read_plain(
            source,
            _KIND,
            lambda plain: [
                Record(**{**record, "sides": tuple(record["sides"])}) for record in plain["records"]
            ],
        )
        arrays = read_arrays(source, ("ids", "label", *_ARRAYS), (len(records), records[0].count))
        if arrays is not None:
            records = [
                replace(
                    record,
                    images=ImageValues(
                        ids=arrays["ids"],
                        label=arrays["label"],
                        **{name: arrays[name][number] for name in _ARRAYS},
                    ),
                )
                for number, record in enumerate(records)
            ]
        return cls(records=tuple(records), settings=plain["settings"])

    def compare(
        self, other: BlurReport, *, control: BlurReport | None = None, resamples: int = 2000, seed: int = 0
    ) -> Comparison:
        """Compare this report, of a fine-tuned network, with that of the original.

        Args:
            other: report of the original network on the same images.
            control: report of a network trained for as long on sharp images; it takes the original's place in
                differences and recovered shares.
            resamples: of the bootstrap.
            seed: of the bootstrap.

        Returns:
            The comparison under each condition that all of them have.

        Raises:
            TypeError: if one is not a report.
            ValueError: if they are of different images or settings, or share no condition.
        """
        return compare(self, other, control=control, resamples=resamples, seed=seed)


def compare(
    after: BlurReport | Sequence[BlurReport],
    before: BlurReport | Sequence[BlurReport],
    *,
    control: BlurReport | Sequence[BlurReport] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare fine-tuned networks with the original ones, averaging over several of a kind (one a seed, say).

    Intervals are paired bootstraps over images, resampled jointly for all networks and conditions.

    Args:
        after: report of the fine-tuned network, or reports of several.
        before: report of the original network, or of several.
        control: report of a network trained for as long on sharp images, or of several; it takes the
            original's place in differences and recovered shares.
        resamples: of the bootstrap.
        level: of the intervals, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        The comparison under each condition that all of them have.

    Raises:
        TypeError: if one is not a report.
        ValueError: if they are of different images or settings, or share no condition.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> reports = [
        ...     BlurReport(records=(Record.of(image_values(scores, [0, 0]), blur="D8", sides=(256,)),))
        ...     for scores in (torch.eye(2), torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        ... ]
        >>> compare(reports[1], reports[0])["D8"].top1.difference
        0.5
    """
    roles = {
        "after": _reports("after", after),
        "before": _reports("before", before),
        "control": [] if control is None else _reports("control", control),
    }
    first = roles["after"][0]
    for role, reports in roles.items():
        for report in reports:
            _check_settings(role, first, report)
    return compare_records(
        [report.records for report in roles["after"]],
        [report.records for report in roles["before"]],
        control=[report.records for report in roles["control"]],
        resamples=resamples,
        level=level,
        seed=seed,
        settings=first.settings,
    )


def _reports(name: str, given: Any) -> list[BlurReport]:
    reports = [given] if isinstance(given, BlurReport) else list(given) if isinstance(given, Sequence) else []
    if not reports or not all(isinstance(report, BlurReport) for report in reports):
        raise TypeError(f"`{name}` must be a BlurReport or a sequence of them, got {given!r:.80}")
    return reports


def _check_settings(role: str, first: BlurReport, other: BlurReport) -> None:
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
