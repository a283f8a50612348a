"""One self-contained HTML page: text, tables and figures, nothing fetched from anywhere."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._common.files import written
from ..._common.texts import visible

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

REMEDY = 'install the extra with: pip install "blurlib[report]"'

_NUMBER = re.compile(r"[-+\u2212]?\d[\d,]*(\.\d+|(\+\d+)+)?( ?%)?( \[.*\])?|[-\u2013\u2014]|")
_INTERVAL = re.compile(r"(.*\S) (\[[^\[\]]*\])")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with the words that belong to it.

    Attributes:
        image: a data URI ("data:image/..."), or markup (SVG or HTML) that the page takes over as it is: what
            is foreign in it must have been escaped.
        alt: what is to be seen, for those who do not see it.
        caption: what it means; `code` in backticks.
        wide: whether it may be wider than the text.

    Raises:
        ValueError: if `image` is neither a data URI nor markup, or `alt` is empty.

    Example:
        >>> Figure(image="<svg></svg>", alt="nothing").wide
        False
    """

    image: str
    alt: str
    caption: str = ""
    wide: bool = False

    def __post_init__(self) -> None:
        if not self.image.startswith(("data:image/", "<")):
            raise ValueError(
                f"`image` must be a data URI or markup, got {self.image[:40]!r}; a page fetches nothing"
            )
        if not self.alt.strip():
            raise ValueError("`alt` must say what is to be seen, got an empty text")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text.

    Attributes:
        header: one heading a column.
        rows: cells, as many in each row as there are headings. Columns of numbers are aligned to the right;
            an interval such as "[1.0, 2.0]" after a number is set small.
        caption: what it shows; `code` in backticks.
        shades: for each row and each column after the first, how the cell is tinted: from -1 (the colour of
            "before") over 0 (not at all, as None) to 1 (that of "after"). Empty tints nothing.

    Raises:
        ValueError: if a row has another number of cells, or of shades, or a shade is out of its range.

    Example:
        >>> Table(header=["blur", "top-1 %"], rows=[["D8", "40.0"]]).caption
        ''
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    shades: Sequence[Sequence[float | None]] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"`rows` must have a cell for each of the {len(self.header)} headings, got {list(row)!r}"
                )
        shape = (len(self.rows), len(self.header) - 1)
        if len(self.shades) and [len(row) for row in self.shades] != [shape[1]] * shape[0]:
            raise ValueError(
                f"`shades` must be {shape[0]} rows of {shape[1]}, one for each cell after the first, got "
                f"{[len(row) for row in self.shades]}"
            )
        for shade in (shade for row in self.shades for shade in row):
            if shade is not None and not -1 <= shade <= 1:
                raise ValueError(f"`shades` must be from -1 to 1, got {shade!r}")


@dataclass(frozen=True, kw_only=True)
class Code:
    """Lines to type or to read as they are.

    Attributes:
        text: the lines.

    Example:
        >>> Code(text="blurlib demo").text
        'blurlib demo'
    """

    text: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        text: paragraphs, separated by blank lines; `code` in backticks.
        parts: what follows the text.

    Example:
        >>> Section(title="The blurs").parts
        ()
    """

    title: str
    text: str = ""
    parts: Sequence[Figure | Table | Code] = ()


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write one HTML file that holds everything: text, styles, pictures.

    It is written aside and then renamed. All text is escaped; the page forbids itself to load anything.

    Args:
        path: the file; its folder is made.
        title: of the page.
        lead: the main finding, in a sentence or two.
        sections: of the page, in order.
        facts: short facts in its head, such as {"images": "480"}.

    Returns:
        The file.

    Raises:
        ValueError: if `path` is a folder.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     page = write_page(f"{folder}/page.html", title="Blur", lead="It costs.", sections=[])
        ...     "<h1>Blur</h1>" in page.read_text(encoding="utf-8")
        True
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(
            f"`path` must be a file, got the folder {str(path)!r}; for example {target / 'report.html'}"
        )
    page = _environment()
    page.filters.update(prose=_prose, line=_line, columns=_columns, parts=_parts)
    page.tests.update(
        figure=lambda part: isinstance(part, Figure), table=lambda part: isinstance(part, Table)
    )
    text = page.get_template("page.html.jinja").render(
        title=title, lead=lead, sections=sections, facts=dict(facts or {}), version=version("blurlib")
    )
    written(visible(text, keep="\n\t"), target)
    return target


def markup(macro: str, **values: Any) -> str:
    """HTML of a macro of `figures.html.jinja`; its values are escaped."""
    module: Any = _environment().get_template("figures.html.jinja").module
    return str(getattr(module, macro)(**values)).strip()


def switch(legend: str, panels: Mapping[str, str], *, chosen: int = 0) -> str:
    """HTML of several panels of which one is shown, by radio buttons: it takes no script.

    Args:
        legend: what is chosen among.
        panels: the markup of each by its name; the reader of paper has all of them.
        chosen: number of the one that is shown at first.
    """
    from markupsafe import Markup

    shown = [{"name": name, "body": Markup(body)} for name, body in panels.items()]
    return markup(
        "switch", legend=legend, name=own_name(*panels, *panels.values()), chosen=chosen, panels=shown
    )


def own_name(*content: str) -> str:
    """A name that no other content on the page has, the same each time."""
    return f"b{hashlib.sha256(chr(0).join(content).encode('utf-8', 'replace')).hexdigest()[:8]}"


def _environment() -> jinja2.Environment:
    """The templates; everything that they are given is escaped unless marked as markup."""
    try:
        import jinja2  # noqa: F401  to say so where it is missing
    except ImportError as error:
        raise ImportError(f"a page needs jinja2, which is not installed; {REMEDY}") from error
    return _compiled()


@functools.cache
def _compiled() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _line(text: str) -> Markup:
    """Escaped text, `code` in backticks as code, no line break within "top-1 %"."""
    from markupsafe import Markup, escape

    whole = str(escape(text)).replace(" %", "\u00a0%")
    whole = re.sub(r"`([^`]+)`", r"<code>\1</code>", whole)
    return Markup(re.sub(r"\b[a-z]+-\d\b", r'<span class="whole">\g<0></span>', whole))


def _prose(text: str) -> list[Markup]:
    return [_line(paragraph.strip()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def _columns(table: Table) -> list[dict[str, Any]]:
    """How each column is set: its heading, whether it holds numbers, the room of its widest interval."""
    columns = []
    for number, name in enumerate(table.header):
        cells = [row[number] for row in table.rows]
        room = max((_width(_parts(cell)[1]) for cell in cells), default=0.0)
        numbers = number > 0 and all(_NUMBER.fullmatch(cell) for cell in cells)
        columns.append({"name": name, "numbers": numbers, "room": room})
    return columns


def _width(text: str) -> float:
    """About how wide a text of figures is, in widths of a 0."""
    return sum(1.0 if letter.isdigit() else 1.3 if letter in "+\u2212" else 0.6 for letter in text)


def _parts(cell: str) -> tuple[str, str]:
    """A cell and the interval at its end; a true minus sign, as wide as the plus."""
    if not _NUMBER.fullmatch(cell):
        return cell, ""
    cell = re.sub(r"-(?=\d)", "\u2212", cell)
    match = _INTERVAL.fullmatch(cell)
    return (match[1], match[2]) if match else (cell, "")
