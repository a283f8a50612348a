"""What an evaluation has measured, kept in its output folder, so that the same one goes on after a stop.

Each process writes the images that it has measured since its last piece; a piece is whole or not there. All
processes read all pieces, so that another number of them goes on too.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .._common.files import arrays_sha256, file_stamp, read_npz, replacing, written
from .._common.provenance import PARTIAL, jsonable
from ..data import Listing

Arrays = dict[str, np.ndarray]

_OWN = ("positions", "files", "evaluation", "sha256")  # arrays of a piece that are not the images'


class Kept:
    """The folder `partial` of an output folder: settings.json and pieces with the arrays of images.

    Args:
        output: the folder of the report.
        settings: of the evaluation.
        listing: its images.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], listing: Listing[Any]) -> None:
        self.output, self.folder = output, output / PARTIAL
        self.settings, self.listing = jsonable(settings), listing
        told = {name: value for name, value in self.settings.items() if name not in ("date", "metadata")}
        self._evaluation = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        self._there: set[int] = set()  # positions that a piece has

    @property
    def _named(self) -> Path:
        """The file that names the evaluation, which is there before any piece."""
        return self.folder / "settings.json"

    def begin(self) -> None:
        """Remove what is there of another evaluation."""
        if self._named.exists():
            try:
                if json.loads(self._named.read_text(encoding="utf-8"))["evaluation"] == self._evaluation:
                    return
            except (KeyError, TypeError, ValueError):
                pass
            self.remove()

    def load(self, positions: Sequence[int], *, show: bool) -> dict[int, Arrays]:
        """The images of a process that are measured already; those whose files have changed are not.

        Args:
            positions: of the process.
            show: warn of a piece that is damaged; its images are measured again.
        """
        wanted, found = set(positions), {}
        for path in sorted(self.folder.glob("[!.]*.npz")):
            try:
                piece = read_npz(path)
                if piece.pop("sha256") != arrays_sha256(piece):
                    raise ValueError("its content has changed")
                if piece.pop("evaluation") != self._evaluation:
                    raise ValueError("it is of another evaluation")
                where, files = piece.pop("positions"), piece.pop("files")
            except (KeyError, ValueError) as error:
                if show:
                    warnings.warn(
                        f"{str(path)!r} is damaged ({error}); its images are measured again", stacklevel=2
                    )
                continue
            for row, position in enumerate(where.tolist()):
                if position in wanted and self._unchanged(position, files[row]):
                    found[position] = {name: array[row] for name, array in piece.items()}
        self._there = set(found)
        return found

    def save(self, images: Mapping[int, Arrays]) -> None:
        """Keep what is new among the images; where that fails there is a warning, and the work goes on."""
        new = [position for position in images if position not in self._there]
        if not new:
            return
        piece = {name: np.stack([images[position][name] for position in new]) for name in images[new[0]]}
        piece |= {
            "positions": np.array(new),
            "files": np.array([self._files(position) for position in new]),
            "evaluation": np.array(self._evaluation),
        }
        try:
            if not self._named.exists():
                text = json.dumps({"settings": self.settings, "evaluation": self._evaluation}, indent=1)
                written(text + "\n", self._named)
            with replacing(self.folder / f"{secrets.token_hex(8)}.npz") as aside:
                np.savez_compressed(aside, **piece, sha256=arrays_sha256(piece))  # type: ignore[arg-type]  # as in files
        except OSError as error:
            warnings.warn(
                f"what was measured could not be kept in {str(self.folder)!r} ({error}); make room there: it "
                "is tried again every minute, and at the end",
                stacklevel=2,
            )
        else:
            self._there.update(new)

    def remove(self) -> None:
        """All of it, when the report is written."""
        for path in self.folder.glob("*"):
            if path.suffix == ".npz" or path.name == "settings.json" or ".aside" in path.name:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # there are files of others in it
            self.folder.rmdir()
        for name in ("partial.json", "partial.npz"):
            (self.output / name).unlink(missing_ok=True)

    def _files(self, position: int) -> list[int]:
        """Size, time and digest of an image's files."""
        return [
            number for path in self.listing.files(position) for number in (*file_stamp(path), _digest(path))
        ]

    def _unchanged(self, position: int, known: np.ndarray) -> bool:
        """By size and time; where a copy of the files has other times, by their contents."""
        for path, (size, time, digest) in zip(
            self.listing.files(position), known.reshape(-1, 3).tolist(), strict=True
        ):
            now = file_stamp(path)
            if now != (size, time) and (now[0] != size or _digest(path) != digest):
                return False
        return True


def _digest(path: str | Path) -> int:
    try:
        contents = Path(path).read_bytes()
    except OSError:
        return -1
    return int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest(), "little", signed=True)
