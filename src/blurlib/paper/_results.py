"""A reproduced table: our numbers next to the paper's, as text, Markdown, JSON and HTML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .._common.files import read_plain, sealed_json, written
from .._common.texts import visible
from ..reporting import Section, Table, markdown_table, plain_table, write_page

_KIND = "blurlib.ReproducedTable"
# metric: factor and format of what is printed
_STYLES = {
    "top1": (100.0, "{:.1f}"),
    "top5": (100.0, "{:.1f}"),
    "miou": (100.0, "{:.1f}"),
    "trimap_miou": (100.0, "{:.1f}"),
    "entropy": (1.0, "{:.3f}"),
    "cross_entropy": (1.0, "{:.3f}"),
}
_LESS_IS_BETTER = ("entropy", "cross_entropy")
_USUAL_SIDE = 256
_HEADING_WIDTH = 12


@dataclass(frozen=True, kw_only=True)
class ReproducedCell:
    """One cell of a reproduced table: our value and the paper's.

    Attributes:
        row: heading of its row.
        column: heading of its column.
        network: "original", or mix and sides of the fine-tuning.
        sides: network sides that were averaged, as used here.
        blur: short name.
        metric: "top5", "entropy", "cross_entropy", "miou" or "trimap_miou" (near boundaries). With five
            classes or fewer "top1" in place of "top5", which is 1 by definition then.
        paper: the paper's value, a fraction or nats; None for a network or a metric that the paper does not
            have.
        value: ours, the mean over the seeds.
        interval: its 95 % interval, by bootstrap over images.
        each: the value of each seed.
        base: the network that it is compared with: the control, or "original" where there is no control and
            for the original after deblurring; empty in their own cells.
        change: value minus that of `base`, under the same blur at the same sides.
        change_interval: its 95 % interval, by a paired bootstrap over images.
        seconds: per image, of deblurring and network together; None where that was not measured.

    Example:
        >>> cell = ReproducedCell(row="Sharp", column="256", network="original", sides=(256,), blur="sharp",
        ...                metric="top5", paper=0.9088, value=0.9, interval=(0.89, 0.91), each=(0.9,))
        >>> round(cell.difference, 4)
        -0.0088
    """

    row: str
    column: str
    network: str
    sides: tuple[int, ...]
    blur: str
    metric: str
    paper: float | None
    value: float
    interval: tuple[float, float]
    each: tuple[float, ...]
    base: str = ""
    change: float | None = None
    change_interval: tuple[float, float] | None = None
    seconds: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.paper is None else self.value - self.paper


@dataclass(frozen=True, kw_only=True)
class ReproducedTable:
    """A table of the paper with our numbers; made by :func:`blurlib.paper.reproduce`.

    Attributes:
        item: such as "table1".
        title: what it shows.
        cells: its cells, row by row.
        settings: plain values: settings, network, images, versions.

    Example:
        >>> cell = ReproducedCell(row="Sharp", column="256", network="original", sides=(256,), blur="sharp",
        ...                metric="top5", paper=0.9088, value=0.9, interval=(0.89, 0.91), each=(0.9,))
        >>> print(ReproducedTable(item="table1", title="", cells=(cell,), settings={}).table())
                256
               ours  paper
        -----  ----  -----
        Sharp  90.0   90.9
    """

    item: str
    title: str
    cells: tuple[ReproducedCell, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """Headings of the rows."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of the columns."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    def __getitem__(self, place: tuple[str, str]) -> ReproducedCell:
        """The cell of a row and a column, by their headings."""
        for cell in self.cells:
            if (cell.row, cell.column) == place:
                return cell
        raise KeyError(f"no cell {place}; rows are {', '.join(self.rows)}; columns {', '.join(self.columns)}")

    def __str__(self) -> str:
        parts = [self.title, self.table()]
        for content in self._contents():
            if content in ("ours", "paper"):  # both are in the first one
                continue
            parts += [f"{self._heading(content)}:", self._plain(content)]
        return visible("\n\n".join([*parts, self.caption]), keep="\n")

    @property
    def caption(self) -> str:
        """Metric, network, images and settings in a line or two."""
        known = self.settings
        metrics = {cell.metric for cell in self.cells}
        what = "top-5 in percent" if metrics == {"top5"} else "entropies in nats"
        what = "mean IoU in percent" if metrics <= {"miou", "trimap_miou"} else what
        if metrics == {"top1"}:
            of = f" with {known['classes']} classes" if "classes" in known else " with so few classes"
            what = f"top-1 in percent; the paper's top-5 is 100 % by definition{of} and is left out"
        parts = [
            what,
            f"{known['model']}" if "model" in known else "",
            f"{known['images']} images of {known['root']}" if "images" in known else "",
            f"{known['classes_used']} of {known['classes']} classes" if known.get("classes_used") else "",
            f"crops: {known['crops']}" if "crops" in known else "",
            f"side {known['side']} in place of 256" if known.get("side", _USUAL_SIDE) != _USUAL_SIDE else "",
            f"mean of {len(known['seeds'])} seeds" if len(known.get("seeds", ())) > 1 else "",
        ]
        return visible(", ".join(part for part in parts if part))

    def _contents(self) -> tuple[str, ...]:
        changes = any(cell.change is not None for cell in self.cells)
        timed = any(cell.seconds is not None for cell in self.cells)
        paper = ("paper", "difference") if self._has_paper() else ()
        return ("ours", *paper, *(["change"] * changes), *(["seconds"] * timed))

    def _has_paper(self) -> bool:
        return any(cell.paper is not None for cell in self.cells)

    def _heading(self, content: str) -> str:
        if content != "change":
            return _HEADINGS[content]
        bases = self._bases()
        base = bases[0] if len(bases) == 1 else "the network named in each cell"
        return f"Ours: change from {base}, with paired 95 % intervals"

    def _bases(self) -> list[str]:
        """The networks that others are compared with."""
        return list(dict.fromkeys(cell.base for cell in self.cells if cell.base))

    def _grid(self, content: str) -> list[list[ReproducedCell]]:
        """The cells by rows; of changes only rows and columns that have one."""
        with_change = [cell for cell in self.cells if content != "change" or cell.change is not None]
        rows, columns = ({getattr(cell, name) for cell in with_change} for name in ("row", "column"))
        return [
            [self[row, column] for column in self.columns if column in columns]
            for row in self.rows
            if row in rows
        ]

    def _lines(self, content: str) -> tuple[list[str], list[list[str]]]:
        """A table of "ours", "paper", "difference", "change", or of "both" side by side."""
        grid = self._grid(content)
        header = [""]
        for cell in grid[0]:
            both = [f"{cell.column}\nours", *(["paper"] if self._has_paper() else [])]
            header += both if content == "both" else [cell.column]
        several = len(self._bases()) > 1
        return header, [
            [
                line[0].row,
                *(
                    text
                    for cell in line
                    for text in _shown(cell, content, named=several, paper=self._has_paper())
                ),
            ]
            for line in grid
        ]

    def _shades(self, content: str) -> list[list[float | None]]:
        """Tints of the cells: values of ours and the paper's on one scale; gains and losses."""
        if content in ("difference", "seconds"):
            return []
        known = [value for cell in self.cells for value in (cell.value, cell.paper) if value is not None]
        low, high = min(known), max(known)
        most = max((abs(cell.change) for cell in self.cells if cell.change is not None), default=0.0)

        def shade(cell: ReproducedCell) -> float | None:
            sign = -1 if cell.metric in _LESS_IS_BETTER else 1
            value = {"ours": cell.value, "paper": cell.paper, "change": cell.change}[content]
            if value is None:
                return None
            if content == "change":
                return sign * value / (most or 1.0)
            return sign * (value - low) / ((high - low) or 1.0)

        return [[shade(cell) for cell in line] for line in self._grid(content)]

    def table(self) -> str:
        """Ours and the paper's side by side, aligned for a terminal."""
        return self._plain("both")

    def _plain(self, content: str) -> str:
        """A table whose long headings are broken, so that it fits a terminal."""
        header, rows = self._lines(content)
        wrapped = [
            "\n".join(line for part in name.split("\n") for line in textwrap.wrap(part, _HEADING_WIDTH))
            for name in header
        ]
        return plain_table(wrapped, rows)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Tables in Markdown: ours with intervals, the paper's, the differences, the changes by fine-tuning.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        parts = [visible(f"# {self.item}: {self.title}"), self.caption]
        for content in self._contents():
            parts += [f"## {visible(self._heading(content))}", markdown_table(*self._lines(content))]
        return written("\n\n".join(parts) + "\n", path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        plain = {
            "kind": _KIND,
            "item": self.item,
            "title": self.title,
            "settings": dict(self.settings),
            "cells": [asdict(cell) | {"difference": cell.difference} for cell in self.cells],
        }
        copied: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
        return copied

    def to_json(self, path: str | Path | None = None) -> str:
        """Settings and cells as JSON.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        return written(sealed_json(self.to_dict()), path)

    def to_html(self, path: str | Path) -> Path:
        """One self-contained page: the tables, tinted by value, and every setting.

        Args:
            path: the file.

        Returns:
            The file.

        Raises:
            ImportError: if the extra `report` is not installed.
        """
        sections = []
        for content in self._contents():
            header, rows = self._lines(content)
            table = Table(header=header, rows=rows, shades=self._shades(content))
            text = self._tints().get(content, "")
            sections.append(Section(title=self._heading(content), text=text, parts=[table]))
        settings = [[f"`{name}`", _setting(value)] for name, value in self.settings.items()]
        sections.append(Section(title="Settings", parts=[Table(header=["setting", "value"], rows=settings)]))
        return write_page(
            path, title=f"{self.item}: {self.title}", lead=f"{self.caption}.", sections=sections
        )

    def _tints(self) -> dict[str, str]:
        """Legends of the colours."""
        if not any(cell.metric in _LESS_IS_BETTER for cell in self.cells):
            return {
                "ours": "A deeper blue is more accurate, on the same scale as the paper's table below.",
                "change": "Blue: more accurate than that network; orange: less accurate.",
            }
        return {
            "ours": "A deeper orange is a larger value, on the same scale as the paper's table below.",
            "change": "Blue: smaller than for that network; orange: larger.",
        }

    @classmethod
    def load(cls, path: str | Path) -> ReproducedTable:
        """Read what :meth:`to_json` wrote.

        Args:
            path: the file.

        Returns:
            The table.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is something else.
        """
        _, table = read_plain(
            Path(path),
            _KIND,
            lambda plain: cls(
                item=plain["item"],
                title=plain["title"],
                cells=tuple(map(_cell, plain["cells"])),
                settings=plain["settings"],
            ),
            by="reproduce",
        )
        return table


def _cell(plain: Mapping[str, Any]) -> ReproducedCell:
    known = {name: value for name, value in plain.items() if name != "difference"}
    for name in ("sides", "interval", "change_interval", "each"):
        known[name] = None if plain[name] is None else tuple(plain[name])
    return ReproducedCell(**known)


_HEADINGS = {
    "ours": "Ours",
    "paper": "The paper",
    "difference": "Ours minus the paper's",
    "seconds": "Seconds per image, deblurring and network",
}


def _shown(cell: ReproducedCell, content: str, *, named: bool, paper: bool) -> list[str]:
    """The text of a cell; with the network that it is compared with where these differ."""
    factor, style = _STYLES[cell.metric]
    signed = f"{{:+{style[2:]}"

    def written_as(form: str, *values: float | None) -> list[str]:
        return ["-" if value is None else form.format(factor * value) for value in values]

    def bounded(form: str, value: float | None, ends: tuple[float, float] | None) -> list[str]:
        if ends is None:
            return ["-"]
        whole, low, high = written_as(form, value, *ends)
        return [f"{whole} [{low}, {high}]"]

    if content == "both":
        return written_as(style, cell.value, *([cell.paper] if paper else []))
    if content == "seconds":
        return ["-" if cell.seconds is None else f"{cell.seconds:.2g}"]
    if content == "ours":
        return bounded(style, cell.value, cell.interval)
    if content == "change":
        (text,) = bounded(signed, cell.change, cell.change_interval)
        return [f"{text} from {cell.base}" if named and cell.base else text]
    if content == "paper":
        return written_as(style.replace(".1f", ".2f"), cell.paper)
    return written_as(signed, cell.difference)


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
