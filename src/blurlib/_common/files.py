"""Files that are whole or not there: written aside and then renamed; reports as JSON and .npz."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .texts import spreadsheet_cell

__all__ = [
    "csv_table",
    "json_path",
    "read_arrays",
    "read_plain",
    "replacing",
    "write_arrays",
    "written",
]


_T = TypeVar("_T")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside the target, whose file takes the target's place at the end of the block.

    No reader ever sees half of a file, and where the block fails the target stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def written(text: str, path: str | Path | None = None) -> str:
    """Write a text in UTF-8, unless the path is None; return it."""
    if path is not None:
        with replacing(Path(path)) as aside:
            # Names of files need not be text; such bytes become \udcxx, which JSON reads back as they were.
            aside.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return text


def csv_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values; a number reads back to the same one, a text as `spreadsheet_cell` writes it."""
    lines = []
    for row in (header, *rows):
        text = io.StringIO(newline="")
        csv.writer(text).writerow(map(spreadsheet_cell, row))  # with its own line end it quotes returns
        lines.append(text.getvalue().removesuffix("\r\n"))
    return "\n".join([*lines, ""])


def json_path(path: str | Path) -> Path:
    """The file itself, or report.json in a folder."""
    return Path(path) if Path(path).suffix == ".json" else Path(path) / "report.json"


def write_arrays(target: Path, **arrays: np.ndarray) -> None:
    """The arrays beside a report's JSON, written aside and then renamed."""
    with replacing(target.with_suffix(".npz")) as aside:
        np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]  # not its option `allow_pickle`


def read_plain(
    source: Path, kind: str, make: Callable[[dict[str, Any]], _T], *, by: str = "save"
) -> tuple[dict[str, Any], _T]:
    """The JSON of a report or table, and what `make` makes of it; anything else is refused."""
    rule = f"`path` must be a file written by `{by}`, got {str(source)!r}"
    if not source.is_file():
        raise FileNotFoundError(f"{rule}, which is not there")
    try:
        plain = json.loads(source.read_text(encoding="utf-8"))
        if plain["kind"] != kind:
            raise KeyError("kind")
        return plain, make(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{rule} ({error!r})") from error


def read_arrays(source: Path, names: Sequence[str], shape: tuple[int, int]) -> dict[str, np.ndarray] | None:
    """The arrays beside a report's JSON, the last of (conditions, images); None where there are none."""
    if not source.with_suffix(".npz").is_file():
        return None
    with np.load(source.with_suffix(".npz"), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in names}
    found = arrays[names[-1]].shape[:2]
    if found != shape:
        raise ValueError(
            f"`path` must have the values of its own images beside it, got {source.stem}.npz of {found} "
            "(conditions, images); move the files of one run together"
        )
    return arrays
