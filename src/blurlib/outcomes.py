"""A table of the paper measured anew: our figures beside the paper's, printed, kept, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .page import Section, Table, write_page
from .tables import markdown_table, plain_table, written

__all__ = ["Outcome", "OutcomeTable"]

_KIND = "blurlib.OutcomeTable"
# metric: factor and format of what is printed
_STYLES = {"top5": (100.0, "{:.1f}"), "entropy": (1.0, "{:.3f}"), "cross_entropy": (1.0, "{:.3f}")}
_USUAL_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One cell of a table: what we found, and the paper.

    Attributes:
        row: heading of its row.
        column: heading of its column.
        network: "original", or mix and sides of the fine-tuning.
        sides: network sides that were averaged, as used here.
        blur: short name.
        metric: "top5", "entropy" or "cross_entropy".
        paper: what the paper found, a fraction or nats; None in a control's column.
        value: what we found, the mean over the seeds.
        interval: 95 % interval of it, by bootstrap over images.
        each: the value of each seed.

    Example:
        >>> cell = Outcome(row="Sharp", column="256", network="original", sides=(256,), blur="sharp",
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

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.paper is None else self.value - self.paper


@dataclass(frozen=True, kw_only=True)
class OutcomeTable:
    """A table of the paper, measured anew; made by :func:`blurlib.reproduction.reproduce`.

    Attributes:
        item: such as "table1".
        title: what it shows.
        outcomes: its cells, row by row.
        settings: plain values: settings, network, images, versions.

    Example:
        >>> cell = Outcome(row="Sharp", column="256", network="original", sides=(256,), blur="sharp",
        ...                metric="top5", paper=0.9088, value=0.9, interval=(0.89, 0.91), each=(0.9,))
        >>> print(OutcomeTable(item="table1", title="", outcomes=(cell,), settings={}).table())
               256: ours  paper
        -----  ---------  -----
        Sharp       90.0   90.9
    """

    item: str
    title: str
    outcomes: tuple[Outcome, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """Headings of the rows."""
        return tuple(dict.fromkeys(cell.row for cell in self.outcomes))

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of the columns."""
        return tuple(dict.fromkeys(cell.column for cell in self.outcomes))

    def __getitem__(self, place: tuple[str, str]) -> Outcome:
        """The cell of a row and a column, by their headings."""
        for cell in self.outcomes:
            if (cell.row, cell.column) == place:
                return cell
        raise KeyError(f"no cell {place}; rows are {', '.join(self.rows)}; columns {', '.join(self.columns)}")

    def __str__(self) -> str:
        difference = plain_table(*self._lines("difference"))
        return "\n\n".join(
            [self.title, self.table(), f"{_CONTENTS['difference']}:", difference, self.caption]
        )

    @property
    def caption(self) -> str:
        """What was measured on what, in a line or two."""
        known = self.settings
        what = (
            "top-5 in percent"
            if all(cell.metric == "top5" for cell in self.outcomes)
            else "entropies in nats"
        )
        parts = [
            what,
            f"{known['model']}" if "model" in known else "",
            f"{known['images']} images of {known['root']}" if "images" in known else "",
            f"{known['classes_used']} of {known['classes']} classes" if known.get("classes_used") else "",
            f"crops: {known['crops']}" if "crops" in known else "",
            f"side {known['side']} in place of 256" if known.get("side", _USUAL_SIDE) != _USUAL_SIDE else "",
            f"mean of {len(known['seeds'])} seeds" if len(known.get("seeds", ())) > 1 else "",
        ]
        return ", ".join(part for part in parts if part)

    def _lines(self, content: str) -> tuple[list[str], list[list[str]]]:
        """A table of "ours", of "paper", of "difference" or of "both" side by side."""
        header = [""]
        for column in self.columns:
            header += [f"{column}: ours", "paper"] if content == "both" else [column]
        rows = []
        for row in self.rows:
            line = [row]
            for column in self.columns:
                line += _shown(self[row, column], content)
            rows.append(line)
        return header, rows

    def table(self) -> str:
        """Ours and the paper's side by side, aligned for a terminal."""
        return plain_table(*self._lines("both"))

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Three tables in Markdown: ours with intervals, the paper's, the difference.

        Args:
            path: where to write them too; not written if None.

        Returns:
            The text.
        """
        parts = [f"# {self.item}: {self.title}", self.caption]
        for content, title in _CONTENTS.items():
            parts += [f"## {title}", markdown_table(*self._lines(content))]
        return written("\n\n".join(parts) + "\n", path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        plain = {
            "kind": _KIND,
            "item": self.item,
            "title": self.title,
            "settings": dict(self.settings),
            "outcomes": [asdict(cell) | {"difference": cell.difference} for cell in self.outcomes],
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
        return written(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", path)

    def to_html(self, path: str | Path) -> Path:
        """One page: the three tables and every setting.

        Args:
            path: the file.

        Returns:
            The file.

        Raises:
            ImportError: if the extra `report` is not installed.
        """
        sections = []
        for content, title in _CONTENTS.items():
            header, rows = self._lines(content)
            sections.append(Section(title=title, parts=[Table(header=header, rows=rows)]))
        settings = [[f"`{name}`", _plain(value)] for name, value in self.settings.items()]
        sections.append(Section(title="Settings", parts=[Table(header=["setting", "value"], rows=settings)]))
        return write_page(
            path, title=f"{self.item}: {self.title}", lead=f"{self.caption}.", sections=sections
        )

    @classmethod
    def load(cls, path: str | Path) -> OutcomeTable:
        """Read what :meth:`to_json` wrote.

        Args:
            path: the file.

        Returns:
            The table.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is something else.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"`path` must be a file of `reproduce`, there is no {str(source)!r}")
        try:
            plain = json.loads(source.read_text(encoding="utf-8"))
            if plain["kind"] != _KIND:
                raise KeyError("kind")
            cells = tuple(
                Outcome(
                    **{
                        **{name: value for name, value in cell.items() if name != "difference"},
                        "sides": tuple(cell["sides"]),
                        "interval": tuple(cell["interval"]),
                        "each": tuple(cell["each"]),
                    }
                )
                for cell in plain["outcomes"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"`path` must be a file of `reproduce`, got {str(source)!r} ({error!r})"
            ) from error
        return cls(item=plain["item"], title=plain["title"], outcomes=cells, settings=plain["settings"])


_CONTENTS = {"ours": "Ours", "paper": "The paper", "difference": "Ours minus the paper's"}


def _shown(cell: Outcome, content: str) -> list[str]:
    factor, style = _STYLES[cell.metric]
    known = cell.paper is not None
    if content == "both":
        return [style.format(factor * cell.value), style.format(factor * cell.paper) if known else "-"]  # type: ignore[operator]
    if content == "ours":
        low, high = (style.format(factor * end) for end in cell.interval)
        return [f"{style.format(factor * cell.value)} [{low}, {high}]"]
    if content == "paper":
        return [style.replace(".1f", ".2f").format(factor * cell.paper) if known else "-"]  # type: ignore[operator]
    return [f"{factor * cell.difference:+{style[2:-1]}}" if cell.difference is not None else "-"]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
