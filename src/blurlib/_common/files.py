"""Files that are whole or not there: written aside and then renamed; reports as JSON and .npz."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .texts import spreadsheet_cell

__all__ = [
    "arrays_sha256",
    "csv_table",
    "file_stamp",
    "json_path",
    "read_arrays",
    "read_npz",
    "read_plain",
    "remove_stale",
    "replacing",
    "sealed_json",
    "write_arrays",
    "written",
]


_T = TypeVar("_T")

_ASIDE = re.compile(r"\..+\.[0-9a-f]{16}\.aside(\.\w+)?")  # how files are called that are not yet whole
_STALE = 60  # seconds


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """An empty file beside the target, to be written, which takes the target's place at the end of the block.

    No reader ever sees half of a file, and where the block fails the target stays as it was. It has a name
    that nobody foresees, so that it follows no link that lies there. A durable one is on the disk before it
    has the target's name, and so survives a power cut; of files by the thousand that costs too much.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{secrets.token_hex(8)}.aside{target.suffix}")
    # With the permissions of any new file, unlike those of `tempfile`.
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield aside
        if durable:
            with aside.open("rb+") as stream:
                os.fsync(stream.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    if durable:
        _sync_folder(target.parent)


def remove_stale(folder: Path, *, now: float) -> None:
    """Remove what stopped processes left aside: files of :func:`replacing` not written to for a minute.

    `now` is by the clock of the folder's file system, which may be another machine's.
    """
    for path in folder.iterdir():
        if _ASIDE.fullmatch(path.name) and not path.is_symlink() and path.is_file():
            with suppress(OSError):  # its process is alive, and has renamed it
                if now - path.stat().st_mtime > _STALE:
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk, where the system can."""
    if os.name == "posix":
        with suppress(OSError):  # some network file systems
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def written(text: str, path: str | Path | None = None, *, durable: bool = True) -> str:
    """Write a text in UTF-8, unless the path is None; return it."""
    if path is not None:
        with replacing(Path(path), durable=durable) as aside:
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


def file_stamp(path: str | Path) -> tuple[int, int]:
    """A file's bytes, and time of change in nanoseconds; -1 where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  of texts without a Path
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def json_path(path: str | Path) -> Path:
    """The file itself, or report.json in a folder."""
    return Path(path) if Path(path).suffix == ".json" else Path(path) / "report.json"


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays with their names, types and shapes; no matter in which order."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file; a ValueError with the reason where it is damaged or holds something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"{broken} has changed")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and NumPy raise whatever the bytes lead to
        reason = "it holds Python objects" if "pickle" in str(error) else str(error) or type(error).__name__
        raise ValueError(reason) from None


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
        if "sha256" in plain and plain["sha256"] != _sealed(plain)["sha256"]:
            raise ValueError("its content has changed since")
        return plain, make(plain)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{error!r:.200}"
        raise ValueError(f"{rule} ({reason}); take an unchanged copy, or make it again") from error


def sealed_json(plain: Mapping[str, Any]) -> str:
    """A report as JSON with the SHA-256 of its content."""
    return json.dumps(_sealed(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _sealed(plain: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in plain.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True)
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def read_arrays(source: Path, names: Sequence[str], digest: str | None) -> dict[str, np.ndarray] | None:
    """The arrays beside a report's JSON, which names their digest unless it is None; None without a file."""
    path = source.with_suffix(".npz")
    if not path.is_file():
        return None
    rule = f"`path` must have the values of its own images beside it, got {str(path)!r}"
    remedy = "move the files of one run together, or evaluate again"
    try:
        arrays = read_npz(path)
        found = {name: arrays[name] for name in names}
    except KeyError as error:
        raise ValueError(f"{rule} without {error}; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{rule}, which is damaged ({error}); {remedy}") from error
    if digest is not None and arrays_sha256(found) != digest:
        raise ValueError(f"{rule} of another report; {remedy}")
    return found
