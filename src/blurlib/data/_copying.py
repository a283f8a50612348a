"""The copies of each image under each blur, made in a loader's process."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from .. import functional
from .._common.checks import check_integer
from .._common.files import replacing
from ..blurs import (
    Blur,
    Box,
    Disk,
    Gaussian,
    Line,
    PerImage,
    PerImageLine,
    PerImageShake,
    PointSpread,
    Shake,
    Sharp,
    describe,
    fingerprint,
    number_text,
)
from ..protocol import Protocol, blurred, to_canonical, to_rgb, turn_upright
from ._files import broken, decoded
from ._listing import OnError, Skipped
from ._manifest import KIND, VERSION, Copies, Entry
from ._sources import Encoding, Sources, encoding_of
from ._splits import Split

Layout = Literal["imagenet-c", "beside"]
Size = Literal["canonical", "original"]

_QUALITY = 95
_ORIENTATION = 0x0112  # the EXIF tag
_STORED = {  # of what turns an image upright: the tag's value, and the way back
    Image.Transpose.FLIP_LEFT_RIGHT: (2, Image.Transpose.FLIP_LEFT_RIGHT),
    Image.Transpose.ROTATE_180: (3, Image.Transpose.ROTATE_180),
    Image.Transpose.FLIP_TOP_BOTTOM: (4, Image.Transpose.FLIP_TOP_BOTTOM),
    Image.Transpose.TRANSPOSE: (5, Image.Transpose.TRANSPOSE),
    Image.Transpose.ROTATE_270: (6, Image.Transpose.ROTATE_90),
    Image.Transpose.TRANSVERSE: (7, Image.Transpose.TRANSVERSE),
    Image.Transpose.ROTATE_90: (8, Image.Transpose.ROTATE_270),
}


@dataclass
class Work(Dataset[Any]):
    """The copies of each image, made in a loader's process."""

    sources: Sources
    blurs: Sequence[Blur]
    places: Sequence[Path]  # the folder of each blur's copies
    targets: Sequence[Sequence[str]]  # their names in it
    encoding: Encoding | None
    quality: int
    size: Size
    protocol: Protocol
    on_error: OnError
    seed: int
    known: list[dict[str, Entry]]

    @classmethod
    def of(
        cls,
        sources: Sources,
        blurs: Sequence[Blur],
        layout: Layout,
        encoding: Encoding | None,
        quality: int | None,
        size: Size | None,
        protocol: Protocol,
        destination: Path,
        on_error: OnError,
        seed: int,
    ) -> Work:
        """With the defaults of the sources' layout; what does not go with it is refused."""
        annotated = sources.kind != "classes"
        if annotated and size == "canonical":
            raise ValueError(
                "`size` must be 'original' for annotated images, whose annotations count their pixels, got "
                f"{size!r} for {str(sources.root)!r}; leave it out"
            )
        if annotated and layout == "beside":
            raise ValueError(
                "`layout` must be 'imagenet-c' for annotated images, whose annotations name their files, "
                f"got {layout!r} for {str(sources.root)!r}; leave it out"
            )
        if encoding is None and sources.kind != "coco":
            encoding = "jpeg" if sources.kind == "voc" else "png"
        beside = layout == "beside"
        targets = [sources.targets(encoding, f"_{blur}" if beside else "") for blur in blurs]
        found = {encoding_of(name) for name in targets[0]}
        if quality is not None:
            check_integer("quality", quality, low=1, high=100)
            if "jpeg" not in found:
                raise ValueError(
                    f"`quality` must be left out for PNG, which loses nothing, got {quality}; or pass "
                    'encoding="jpeg"'
                )
        places = [destination if beside else destination.joinpath(*_place(blur)) for blur in blurs]
        return cls(
            sources,
            blurs,
            places,
            targets,
            encoding,
            _QUALITY if quality is None else quality,
            size or ("original" if annotated else "canonical"),
            protocol,
            on_error,
            seed,
            [],
        )

    @property
    def several(self) -> int:
        """How many blurs share a folder."""
        return len(self.blurs) // len(set(self.places))

    def sets(self, split: Split) -> list[Copies]:
        """The folders of copies with what their manifests tell."""
        found = []
        for number in range(0, len(self.blurs), self.several):
            blurs = self.blurs[number : number + self.several]
            encodings = sorted({str(encoding_of(name)) for name in self.targets[number]})
            texts = {"png": "PNG", "jpeg": f"JPEG quality {self.quality}"}
            header = {
                "kind": KIND,
                "version": VERSION,
                "blurlib": version("blurlib"),
                "source": self.sources.name,
                "layout": self.sources.kind,
                "listing_sha256": self.sources.digest(),
                "kernels": {str(blur): _kernel_text(blur, self.seed) for blur in blurs},
                "encodings": [texts[each] for each in encodings],
                "settings": {
                    "split": split,
                    "size": self.size,
                    "measure": self.protocol.measure,
                    "canonical_side": self.protocol.canonical_side,
                    "resample": self.protocol.resample,
                    "border": self.protocol.border,
                    "seed": self.seed,
                },
                "made_with": {name: version(name) for name in ("numpy", "pillow", "torch")},
            }
            found.append(Copies(self.places[number], header, self.sources.folders))
        return found

    def __len__(self) -> int:
        return len(self.sources.ids)

    def __getitem__(self, position: int) -> list[tuple[int, Entry]] | Skipped | Exception:
        name = self.sources.ids[position]
        path = self.sources.root / name
        try:
            digest = _digest(path)
            found = {number: self._there(number, position, digest) for number in range(len(self.blurs))}
            todo = [number for number, entry in found.items() if entry is None]
            if todo:
                image = decoded(path)  # its errors name the file and the remedy
                try:
                    made = self._encoded(image, position, todo)
                except ValueError as error:
                    raise broken("use", str(path), error) from error
                for number, (content, kernel) in made.items():
                    found[number] = self._written(number, position, content, (name, digest, kernel))
        except (FileNotFoundError, ValueError) as error:
            return Skipped(name, str(error)) if self.on_error == "skip" else error
        except NotWrittenError as error:
            return error  # whole: raised in a worker it would come with the worker's traceback
        return [(number, entry) for number, entry in found.items() if entry is not None]

    def _there(self, number: int, position: int, digest: str) -> Entry | None:
        """The copy of an earlier run, of the same source and unchanged."""
        name = self.targets[number][position]
        entry = self.known[number // self.several].get(name)
        if entry is None or entry.source_sha256 != digest:
            return None
        return entry if _digest(self.places[number] / name) == entry.sha256 else None

    def _encoded(
        self, image: Image.Image, position: int, numbers: Sequence[int]
    ) -> dict[int, tuple[bytes, str | None]]:
        """Files of the copies under these blurs, and the names of kernels that are the image's own."""
        turn = None
        if self.size == "canonical":
            protocol = self.protocol
            whole = to_canonical(
                image, protocol.canonical_side, measure=protocol.measure, resample=protocol.resample
            )
            scale = 1.0
        else:
            turn, upright = turn_upright(image), to_rgb(image)
            whole = np.asarray(upright)
            width, height = upright.size
            side = min(width, height) if self.protocol.measure == "shorter" else math.sqrt(width * height)
            scale = side / self.protocol.canonical_side
        found: dict[int, tuple[bytes, str | None]] = {}
        for number in numbers:
            given = self.blurs[number]
            blur = given.of_image(position, seed=self.seed)
            if scale == 1.0:
                copy = Image.fromarray(blurred(whole, blur, border=self.protocol.border))
            else:
                copy = functional.apply(
                    Image.fromarray(whole), blur, border=self.protocol.border, scale=scale
                )
            content = self._file(copy, turn, self.targets[number][position])
            found[number] = content, None if blur == given else str(blur)
        return found

    def _file(self, copy: Image.Image, turn: Image.Transpose | None, name: str) -> bytes:
        options: dict[str, Any] = {"compress_level": 1}  # others take three times as long as the blur
        if encoding_of(name) == "jpeg":
            options = {"quality": self.quality}
        if turn is not None:
            exif = Image.Exif()
            exif[_ORIENTATION], back = _STORED[turn]
            copy, options["exif"] = copy.transpose(back), exif
        stream = io.BytesIO()
        copy.save(stream, str(encoding_of(name)), **options)
        return stream.getvalue()

    def _written(
        self, number: int, position: int, content: bytes, about: tuple[str, str, str | None]
    ) -> Entry:
        target = self.places[number] / self.targets[number][position]
        try:
            with replacing(target, durable=False) as aside:
                aside.write_bytes(content)
        except OSError as error:
            raise NotWrittenError(
                f"`destination` must take the copies, got {error.strerror!r} at {str(target)!r}; make room "
                "there, or mend what is wrong, and run the same again to go on",
            ) from error
        source, digest, kernel = about
        return Entry(source, digest, hashlib.sha256(content).hexdigest(), len(content), kernel)


class NotWrittenError(OSError):
    """A copy that could not be written: not the image's fault."""


def _digest(path: Path) -> str:
    """SHA-256; none where the file cannot be read, of which its opening tells."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""


def _kernel_text(blur: Blur, seed: int) -> str:
    if isinstance(blur, PerImage):
        return describe(blur)
    return fingerprint(blur.of_image(0, seed=seed))


def _place(blur: Blur) -> tuple[str, str]:
    """Kind and size, as the folders of a blur are called."""
    match blur:
        case Sharp():
            return "sharp", "0"
        case Disk(radius, antialias):
            return f"disk{'_antialiased' if antialias else ''}", number_text(radius)
        case Box(length, vertical):
            return f"box_{'vertical' if vertical else 'horizontal'}", str(length)
        case Line(length, angle):
            return "line", f"{number_text(length)}@{number_text(angle)}"
        case Gaussian(sigma):
            return "gaussian", number_text(sigma)
        case Shake():
            return "shake", str(blur).removeprefix("S")
        case PerImageLine(length):
            return "line", f"{number_text(length)}@any"
        case PerImageShake():
            return "shake", str(blur).replace("shake", "each")
    name = str(blur)
    if not re.fullmatch(r"\w[\w@+.-]*", name):
        raise ValueError(
            "`blurs` must have names that a folder can have, of letters, digits and @ + . _ -, got "
            f"{name!r}; give {type(blur).__name__} such a name"
        )
    return "measured" if isinstance(blur, PointSpread) else "own", name
