"""The images of a folder that :func:`corrupt` copies: folders of classes, Pascal VOC's layout, COCO's."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from ..protocol import Measure
from ._files import contents, text_of
from ._folders import open_images
from ._listing import OnError
from ._splits import NAMES, Split, found_split, names_text
from ._voc import leaves, voc_folder, voc_image

Kind = Literal["classes", "voc", "coco"]
Encoding = Literal["png", "jpeg"]

_SUFFIXES: dict[Encoding, tuple[str, ...]] = {"png": (".png",), "jpeg": (".jpg", ".jpeg")}


@dataclass(frozen=True)
class Sources:
    """Images to copy, in the order in which an evaluation lists them.

    Attributes:
        kind: the layout.
        root: the folder as given.
        name: for records.
        ids: paths below the root, with forward slashes.
        names: of the copies, likewise, with the sources' suffixes.
        measure: of the images' sides.
        folders: of the copies, there even without an image.
        annotations: folders below the root that go with the images.
    """

    kind: Kind
    root: Path
    name: str
    ids: Sequence[str]
    names: Sequence[str]
    measure: Measure
    folders: Sequence[str] = ()
    annotations: Sequence[str] = field(default=())

    def digest(self) -> str:
        """SHA-256 of all names in their order, by which images have their shake."""
        return hashlib.sha256(os.fsencode("\n".join(self.ids))).hexdigest()

    def targets(self, encoding: Encoding | None, ending: str = "") -> list[str]:
        """Names of the copies; each ends in `ending` and the suffix of the encoding, or of its own.

        Raises:
            ValueError: if an annotation would name another file, or two copies had one name.
        """
        if self.kind == "coco":
            for name in self.names:
                own = encoding_of(name)
                if own is None or encoding not in (None, own):
                    raise ValueError(
                        f"`encoding` must be that of the files which annotations name, got {encoding!r} for "
                        f"{text_of(name)!r}; "
                        + ("leave it out" if own else "convert such images to PNG or JPEG first")
                    )
            return list(self.names)
        assert encoding is not None
        short = [_renamed(name, encoding, ending) for name in self.names]
        times = Counter(short)
        found = [
            each if times[each] == 1 else f"{name}{ending}{_SUFFIXES[encoding][0]}"
            for each, name in zip(short, self.names, strict=True)
        ]
        if len(set(found)) < len(found):
            name = Counter(found).most_common(1)[0][0]
            raise ValueError(
                f"`root` must hold images with names of their own, got two for {text_of(name)!r}; rename one"
            )
        return found


def encoding_of(name: str) -> Encoding | None:
    """By the suffix of a file."""
    return next((each for each, known in _SUFFIXES.items() if name.lower().endswith(known)), None)


def _renamed(name: str, encoding: Encoding, ending: str) -> str:
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    return f"{stem}{ending}{suffix if encoding_of(name) == encoding else _SUFFIXES[encoding][0]}"


def find_sources(root: Path, *, split: Split, on_error: OnError) -> Sources:
    """List the images of a split.

    Raises:
        FileNotFoundError: if the folder or its split is missing, or it has no layout of these.
        ValueError: if there is no image, or a list names one outside.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"`root` must be a folder of images, got {str(root)!r}, which is "
            f"{'a file' if root.exists() else 'not there'}"
        )
    voc = next((found for lists in ("Segmentation", "Main") if (found := voc_folder(root, lists))), None)
    if voc is not None and (voc / "JPEGImages").is_dir():
        return _voc(root, voc, split)
    if any((root / "annotations").glob("*.json")):
        return _coco(root, split)
    try:
        listing = open_images(root, split=split, on_error=on_error)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"`root` must hold {split}/<class>/*{' or <class>/*' if split == 'val' else ''}, or Pascal VOC's "
            f"layout (ImageSets, JPEGImages) or COCO's (annotations/*.json), got {str(root)!r} with "
            f"{contents(root)}; `blurlib blur` blurs the images of any folder"
        ) from None
    ids = [listing.id(position) for position in range(len(listing))]
    if not listing.files(0):
        raise ValueError(f"`root` must hold files of images, got tar archives in {str(root)!r}; unpack them")
    below = f"{listing.found}/" if listing.found else ""
    names = [each.removeprefix(below) for each in ids]
    return Sources("classes", root, listing.source, ids, names, "shorter", listing.classes)


def _voc(root: Path, folder: Path, split: Split) -> Sources:
    lists = [folder / "ImageSets" / kind for kind in ("Segmentation", "Main")]
    found = found_split(split, {path.stem for each in lists for path in each.glob("*.txt")})
    if found is None:
        raise FileNotFoundError(
            f"`root` must hold a list of its images as {names_text(split)} in ImageSets/Segmentation or "
            f"ImageSets/Main, got none in {str(folder)!r}; write one with the name of an image on each line"
        )
    names: dict[str, None] = {}  # those of Segmentation first, so that each has its position in an evaluation
    for path in (each / f"{found}.txt" for each in lists):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            listed = (line.split()[0] for line in text.splitlines() if line.strip())
            names.update(dict.fromkeys(_inside(listed, path)))
    paths = [voc_image(folder, name) for name in names]
    ids = [PurePosixPath(path.relative_to(root)).as_posix() for path in paths]
    above = folder.relative_to(root).as_posix()
    prefix = "" if above == "." else f"{above}/"
    others = [f"{prefix}{name}" for name in _folders(folder) if name != "JPEGImages"]
    return _some(Sources("voc", root, _name(root), ids, ids, "geometric", (), others))


def _coco(root: Path, split: Split) -> Sources:
    paths = sorted((root / "annotations").glob("*.json"))
    word, chosen = next(
        (
            (word, found)
            for word in NAMES[split]
            if (found := [path for path in paths if _has_word(path.stem, word)])
        ),
        ("", paths if len(paths) == 1 else []),
    )
    if not chosen:
        raise FileNotFoundError(
            f"`root` must hold annotations of {names_text(split)}, got "
            f"{', '.join(path.name for path in paths)} in {str(root / 'annotations')!r}; name one so, such "
            f"as instances_{split}.json"
        )
    names: dict[str, None] = {}
    for path in chosen:
        names.update(dict.fromkeys(_inside(_named_in(path), path)))
    listed = sorted(names)
    if not listed:
        raise ValueError(f"`root` must hold at least one image, got none in {', '.join(map(str, chosen))}")
    places = ["", *_folders(root), *(f"images/{name}" for name in _folders(root / "images"))]
    there = [place for place in places if (root / place / listed[0]).is_file()]
    if not there:
        raise FileNotFoundError(
            f"`root` must hold the images that {chosen[0].name} names, got no {text_of(listed[0])!r} in "
            f"{str(root)!r} or in {', '.join(map(repr, places[1:8]))}; put them into a folder of it"
        )
    place = next((each for each in there if word and _has_word(each, word)), there[0])
    ids = [f"{place}/{name}" if place else name for name in listed]
    return Sources("coco", root, _name(root), ids, ids, "shorter", (), ("annotations",))


def _named_in(path: Path) -> list[str]:
    """The files that annotations name."""
    try:
        return [str(each["file_name"]) for each in json.loads(path.read_text(encoding="utf-8"))["images"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "`root` must hold annotations as COCO has them, with file_name of each of its images, got "
            f"{str(path)!r} ({error!r:.200}); repair it, or move it away"
        ) from None


def _inside(names: Iterable[str], path: Path) -> list[str]:
    found = list(names)
    outside = next((name for name in found if leaves(name)), None)
    if outside is not None:
        raise ValueError(
            f"`root` must list names of images inside it, got {outside!r} in {str(path)!r}; remove it from "
            "the list"
        )
    return found


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z]){word}(?![a-z])", text.lower()) is not None


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _name(root: Path) -> str:
    return text_of(root.resolve().name)


def _some(sources: Sources) -> Sources:
    if not sources.ids:
        raise ValueError(
            f"`root` must hold at least one image, got none in the lists of {str(sources.root)!r}"
        )
    return sources
