"""The manifest of a folder of blurred copies: what :func:`corrupt` writes, and every listing reads."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from .._common.files import read_plain, sealed_json, written
from ..notation import is_short_name
from ..protocol import Protocol
from ._files import text_of

KIND = "blurlib.corrupt"
VERSION = 1  # of the file

_WHOLE, _PARTIAL = "manifest.json", "manifest.partial.jsonl"
_INFORMATIVE = ("made_with", "skipped", "source")  # those that may differ where work goes on


class Entry(NamedTuple):
    """A copy: its source, both SHA-256, its bytes; the kernel's name where images have their own."""

    source: str
    source_sha256: str
    sha256: str
    bytes: int
    kernel: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Manifest:
    """What a folder of copies is, for those who read it.

    Args:
        folder: with the copies.
        plain: the manifest's content.
    """

    def __init__(self, folder: Path, plain: Mapping[str, Any]) -> None:
        self.folder, self.sha256 = folder, str(plain["sha256"])
        self.settings: dict[str, Any] = dict(plain["settings"])
        self.source, self.blurlib, self.blurs = (
            str(plain["source"]),
            str(plain["blurlib"]),
            dict(plain["kernels"]),
        )
        self.encodings = [str(each) for each in plain["encodings"]]
        self.skipped = len(plain["skipped"])
        self._digests = {name: bytes.fromhex(entry["sha256"]) for name, entry in plain["files"].items()}

    @property
    def blur(self) -> str:
        """The name of the one blur."""
        return str(next(iter(self.blurs)))

    @property
    def _remedy(self) -> str:
        return (
            "run `blurlib corrupt` again, which makes what is missing or changed, or remove "
            f"{str(self.folder / _WHOLE)!r} to take it as any other folder"
        )

    def facts(self) -> dict[str, Any]:
        """Plain values for the record of an evaluation."""
        return {
            "blur": self.blur,
            "encoding": " and ".join(self.encodings),
            **{
                name: self.settings[name] for name in ("size", "canonical_side", "resample", "border", "seed")
            },
            "kernel": self.blurs[self.blur],
            "skipped": self.skipped,
            "blurlib": self.blurlib,
            "manifest_sha256": self.sha256,
        }

    def check_listed(self, names: Iterable[str]) -> None:
        """Refuse a folder with other images than the manifest's, by their paths below it."""
        found = set(names)
        for different, what in (
            (found - self._digests.keys(), "which it has not written"),
            (self._digests.keys() - found, "missing"),
        ):
            if different:
                raise ValueError(
                    "`root` must hold the copies that `blurlib corrupt` wrote, got "
                    f"{text_of(min(different))!r} {what} ({len(different)} such) in {str(self.folder)!r}; "
                    f"{self._remedy}"
                )

    def check_content(self, path: str | Path) -> None:
        """Refuse a copy that has changed."""
        name = os.path.relpath(path, self.folder).replace(os.sep, "/")
        known = self._digests.get(name)
        if not os.path.isfile(path):  # noqa: PTH113  of a name that no system takes, Path raises
            return  # whoever opens it tells so
        if known != hashlib.sha256(Path(path).read_bytes()).digest():
            raise ValueError(
                f"`root` must hold the copies as `blurlib corrupt` wrote them, got {text_of(str(path))!r}, "
                f"which {'it has not written' if known is None else 'has changed since'}; {self._remedy}"
            )

    @property
    def own_kernels(self) -> dict[str, str]:
        """Fingerprint of the kernel where no short name tells it."""
        return {} if is_short_name(self.blur) else {self.blur: self.blurs[self.blur]}

    def as_they_are(self, protocol: Protocol, *, blurs_given: bool) -> bool:
        """Whether an evaluation shows the copies without another blur, under the name of theirs.

        Sharp ones take any blur. What would make the name wrong is refused.

        Args:
            protocol: of the evaluation.
            blurs_given: whether its caller names blurs.
        """
        if len(self.blurs) > 1:
            raise ValueError(
                f"`root` must hold copies of one blur, got {str(self.folder)!r} with {', '.join(self.blurs)} "
                "side by side; make them by `blurlib corrupt` in its usual layout, a folder each"
            )
        if blurs_given and self.blur != "sharp":
            raise ValueError(
                f"`blurs` must be left out for {str(self.folder)!r}, whose images `blurlib corrupt` has "
                f"blurred by {self.blur} already; pass the folder with their sources for other blurs"
            )
        names = (
            ("canonical_side", "resample") if self.settings["size"] == "canonical" else ("canonical_side",)
        )
        for name in names:
            known, value = self.settings[name], getattr(protocol, name)
            if value != known:
                raise ValueError(
                    f"`{name}` must be {known!r}, as `blurlib corrupt` took it for {str(self.folder)!r}, got "
                    f"{value!r}; leave it at that, or make copies with the other"
                )
        return self.blur != "sharp"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a folder; None in a folder without one, or with another program's file of that name."""
    if (folder / _PARTIAL).exists():
        raise ValueError(
            f"`root` must hold all copies, got {str(folder)!r}, which `blurlib corrupt` has not finished; "
            "run it again to go on"
        )
    if not _is_ours(folder / _WHOLE):
        return None
    return read_plain(folder / _WHOLE, KIND, lambda plain: Manifest(folder, _current(plain)), by="corrupt")[1]


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return f'"{KIND}"'.encode() in stream.read(200)  # `kind` comes first
    except OSError:
        return False


def holds_files(folder: Path) -> bool:
    """Whether a folder has more than hidden files."""
    return any(entry.name[0] != "." for entry in folder.iterdir())


def is_copies(folder: Path) -> bool:
    """Whether a folder has copies, finished or not."""
    return (folder / _PARTIAL).exists() or _is_ours(folder / _WHOLE)


def _current(plain: dict[str, Any]) -> dict[str, Any]:
    if plain["version"] != VERSION:
        raise ValueError(
            f"its version is {plain['version']}, of blurlib {plain['blurlib']}; this one reads version "
            f"{VERSION}"
        )
    return plain


class Copies:
    """A folder of copies in the making, whose manifest grows line by line until it is whole.

    Args:
        folder: for the copies.
        header: what the manifest tells of them; its `settings` must stay the same where work goes on.
        folders: names of folders below that are there even without an image.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], folders: Iterable[str]) -> None:
        self.folder, self.header, self._folders = folder, dict(header), list(folders)
        self.entries: dict[str, Entry] = {}
        self._known = False  # there is something of an earlier run
        self._partial: IO[str] | None = None

    def check(self) -> None:
        """Read what is there of an earlier run; refuse what is of others, or was made otherwise."""
        if (self.folder / _PARTIAL).exists():
            lines = _lines(self.folder / _PARTIAL)
            known = next(lines, None)
            files = {line.pop("file"): line for line in lines if line and "file" in line}
        elif _is_ours(self.folder / _WHOLE):
            known, _ = read_plain(self.folder / _WHOLE, KIND, _current, by="corrupt")
            files = known["files"]
        elif self.folder.exists() and (not self.folder.is_dir() or holds_files(self.folder)):
            raise ValueError(
                f"`destination` must have new folders for the copies, got {str(self.folder)!r}, in which are "
                "files that `blurlib corrupt` has not written; name another `destination`, or move them"
            )
        else:
            return
        if known is None:  # ended before its first line was whole
            return
        flat = _flat(known)
        different = [
            f"{name} (was {flat.get(name)!r:.80}, now {value!r:.80})"
            for name, value in _flat(self.header).items()
            if flat.get(name) != value
        ]
        if different:
            raise ValueError(
                "`destination` must hold copies of the same images, settings and version, got "
                f"{str(self.folder)!r} with another {'; '.join(different)}; name another `destination`, or "
                "remove that folder"
            )
        self.entries = {name: Entry(**entry) for name, entry in files.items()}
        self._known = True

    def begin(self) -> None:
        """Mark the folder, so that nobody takes it for finished and the next run knows it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not _is_ours(self.folder / _WHOLE):
            self._open()
        for name in self._folders:
            (self.folder / name).mkdir(exist_ok=True)

    def keep(self, name: str, entry: Entry) -> None:
        """Note a copy that is there."""
        if self.entries.get(name) == entry:
            return
        if self._partial is None:
            self._open()
            (self.folder / _WHOLE).unlink(missing_ok=True)
        self.entries[name] = entry
        self._write({"file": name, **entry.plain()})

    def _open(self) -> None:
        goes_on = self._known and (self.folder / _PARTIAL).exists()
        self._partial = (self.folder / _PARTIAL).open("a" if goes_on else "w", encoding="utf-8", newline="\n")
        if not goes_on:
            self._write(self.header)
            for name, entry in self.entries.items():
                self._write({"file": name, **entry.plain()})
        else:
            self._partial.write("\n")  # after a line that was cut

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._partial is not None
        self._partial.write(json.dumps(line) + "\n")
        self._partial.flush()

    def close(self) -> None:
        """Leave the folder as it is."""
        if self._partial is not None:
            self._partial.close()
            self._partial = None

    def finish(self, names: Iterable[str], skipped: Iterable[Any]) -> None:
        """Write the manifest of these copies."""
        self.close()
        files = {name: self.entries[name].plain() for name in names if name in self.entries}
        left_out = [{"name": each.name, "reason": each.reason} for each in skipped]
        whole = {**self.header, "skipped": left_out, "files": files}
        written(sealed_json(whole), self.folder / _WHOLE)
        (self.folder / _PARTIAL).unlink(missing_ok=True)


def _flat(header: Mapping[str, Any]) -> dict[str, Any]:
    settings = header.get("settings", {})
    rest = {name: header.get(name) for name in header if name not in ("settings", *_INFORMATIVE)}
    return {**rest, **(settings if isinstance(settings, dict) else {})}


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Each line's content; None for one that is cut."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        yield found if isinstance(found, dict) else None
