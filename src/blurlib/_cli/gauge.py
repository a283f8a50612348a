"""The command that says how blurred photographs are."""

from __future__ import annotations

import json as encoding
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from .._common.pictures import image_paths, open_image
from .._gauge import BlurEstimate
from .._gauge import gauge as estimate
from ..reporting import plain_table
from .options import Json, results


@dataclass(frozen=True)
class _Gauged:
    found: dict[str, BlurEstimate]

    def to_json(self) -> str:
        rows = [
            {"path": path, **asdict(each), "size_in_image": each.size_in_image}
            for path, each in self.found.items()
        ]
        return encoding.dumps({"kind": "blurlib.gauge", "images": rows}, indent=1)

    def __str__(self) -> str:
        cells = [
            [
                path,
                each.kind,
                each.text,
                "-" if each.size_in_image is None else f"{each.size_in_image:.1f} px",
            ]
            for path, each in self.found.items()
        ]
        return plain_table(["photograph", "kind", "size at 384 px", "in the photograph"], cells)


def gauge(
    photographs: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="Photographs, or folders of them.")
    ],
    json: Json = False,
) -> None:
    """Estimate how blurred photographs are: kind, and size with a 90 % interval.

    Sizes are in px where the shorter side has 384: of defocus the radius of a disk, of motion the length of a
    line, of shake the side of the kernel.

    For example:

        blurlib gauge photo.jpg
        blurlib gauge photos --json > gauged.json
    """
    with results(json) as show:
        show(_Gauged({str(path): _estimated(path) for path in _paths(photographs)}))


def _paths(given: list[Path]) -> Iterator[Path]:
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"`PHOTO` must be a photograph or a folder, there is no {str(path)!r}")
        found = [path / name for name in image_paths(str(path))] if path.is_dir() else [path]
        if not found:
            raise ValueError(f"`PHOTO` must hold photographs, got none in {str(path)!r}; name another folder")
        yield from found


def _estimated(path: Path) -> BlurEstimate:
    try:
        with warnings.catch_warnings(), open_image(path) as image:
            warnings.simplefilter("ignore")  # on size and broken metadata: the file was named on purpose
            return estimate(image)
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise ValueError(f"cannot read {path}: {error}") from error
