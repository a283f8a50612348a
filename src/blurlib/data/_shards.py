"""Tar shards in WebDataset's layout as a map-style dataset: an index of the archives, read in any order."""

from __future__ import annotations

import functools
import glob
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from .._common.devices import make_loader, pick_workers
from .._common.distributed import local_world_size
from .._common.files import file_stamp
from .._common.pictures import open_image
from ._names import Names
from ._splits import NAMES, Split

Opener = Callable[[str], BinaryIO]

_IMAGES = ("jpg", "jpeg", "png", "webp")
LABELLED = (";".join(_IMAGES), "cls")
MASKED = ("jpg;jpeg;webp", "png")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class TarShards(Dataset[Any]):
    """A map-style dataset of the samples in tar archives, for storage that dislikes millions of small files.

    Members of an archive whose names agree up to the first dot of the file's name are one sample, as
    `WebDataset <https://github.com/webdataset/webdataset>`_ has it: ``cat/0001.jpg`` and ``cat/0001.cls``.
    The archives' headers are read once, in parallel; then each sample is read where it lies. So shuffles,
    crops and blurs follow from a sample's position among the sorted names, as they do for a folder: not from
    the shards, processes or workers. Shards that were made of a folder give the numbers of the folder.

    Args:
        root: a path, a pattern such as ``val-{000..049}.tar`` or ``val-*.tar``, or several of them. The
            archives must not be compressed.
        columns: endings of the members with image and label or mask, such as ("jpg", "seg.png"); of several
            with semicolons the first that a sample has. A label is a whole number as text, in a member that
            does not end like an image.
        classes: names of the classes in the order of the labels, where a class map needs them.
        open_file: opens a path for reading at any position; None for local files. With `fsspec` for example
            ``lambda path: fsspec.open(path, "rb").open()``.
        workers: processes that read the headers; None chooses.

    Attributes:
        paths: of the archives, in their order.
        targets: int64 array, the samples' labels; empty for masks.
        classes: names of the classes.

    Raises:
        FileNotFoundError: if an archive is missing, or none matches a pattern.
        ValueError: if an archive is compressed, damaged or has no sample, a sample has no label, or a label
            is no whole number.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = f"{folder.name}/val-000.tar"
        >>> with tarfile.open(path, "w") as archive:
        ...     for name, content in [("a.png", _png()), ("a.cls", b"1")]:
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(content)
        ...         archive.addfile(member, io.BytesIO(content))
        >>> shards = TarShards(path)
        >>> len(shards), shards.name(0), shards[0][1], shards[0][0].size
        (1, 'a', 1, (4, 3))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        columns: Sequence[str] = LABELLED,
        classes: Sequence[str] = (),
        open_file: Opener | None = None,
        workers: int | None = None,
    ) -> None:
        self.columns = _endings(columns)
        self.classes = tuple(classes)
        self.paths = _expanded(root, local=open_file is None)
        self._open = open_file or _open_local
        headers = _Headers(self.paths, self.columns, self._open)
        processes = pick_workers(workers, 8 * len(self.paths), world=local_world_size())
        keys: list[str] = []
        places: list[np.ndarray] = []
        for shard, found in enumerate(make_loader(headers, workers=processes, batch_size=None)):
            if isinstance(found, Exception):
                raise found
            names, where = found
            keys += names
            places.append(np.column_stack([np.full(len(where), shard), where]))
        if len(set(keys)) < len(keys):  # numbered anew in each shard
            stems = [Path(path).stem for path in self.paths]
            counts = [len(where) for where in places]
            shard_of = np.repeat(np.arange(len(counts)), counts)
            keys = [f"{stems[shard]}/{key}" for shard, key in zip(shard_of, keys, strict=True)]
        order = sorted(range(len(keys)), key=lambda number: os.path.split(keys[number]))
        self._names = Names([os.fsencode(keys[number].rpartition(".")[0]) for number in order])
        #: shard, then offset and size of the image, then label, or offset and size of the mask
        self._places = np.concatenate(places)[order]
        self.targets = self._places[:, 3] if self._places.shape[1] == 4 else np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> tuple[Image.Image, Any]:
        shard, offset, size, *target = self._places[position].tolist()
        image = self._image(shard, offset, size)
        return image, target[0] if len(target) == 1 else self._image(shard, *target)

    def __repr__(self) -> str:
        return f"TarShards({self.source!r}, archives={len(self.paths)}, samples={len(self)})"

    @property
    def source(self) -> str:
        """File name of the archive, or of the first and the last; for records."""
        names = [Path(path).name for path in self.paths]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def name(self, position: int) -> str:
        """A sample's name, without ending; with the archive's before it where archives share names.

        Args:
            position: 0 to len - 1.

        Returns:
            Such as "n01440764/n01440764_10026".
        """
        return os.fsdecode(self._names[position])

    def place(self, position: int) -> str:
        """A sample's name and its archive, for messages.

        Args:
            position: 0 to len - 1.

        Returns:
            Such as "a in val-000.tar".
        """
        return f"{self.name(position)} in {self.paths[self._places[position, 0]]}"

    def file_facts(self) -> np.ndarray:
        """Size and time of change of each sample's archive, see :meth:`Listing.file_facts`.

        Returns:
            int64, shape (len, 2).
        """
        facts = np.array([file_stamp(path) for path in self.paths], dtype=np.int64)
        return np.asarray(facts[self._places[:, 0]])

    def _image(self, shard: int, offset: int, size: int) -> Image.Image:
        with self._open(self.paths[shard]) as stream:  # an open one could not be shared by processes
            stream.seek(offset)
            content = stream.read(size)
        if len(content) < size:
            raise ValueError(f"{self.paths[shard]} ends within the sample")
        with open_image(io.BytesIO(content)) as image:
            image.load()
        return image


class _Headers(Dataset[Any]):
    """Of each archive the names of its samples, and where their members lie."""

    def __init__(self, paths: Sequence[str], columns: tuple[tuple[str, ...], ...], open_file: Opener) -> None:
        self.paths, self.columns, self.open_file = paths, columns, open_file

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, shard: int) -> tuple[list[str], np.ndarray] | Exception:
        try:
            return self._read(self.paths[shard])
        except (OSError, ValueError) as error:
            return error  # whole: raised in a worker it would come with the worker's traceback

    def _read(self, path: str) -> tuple[list[str], np.ndarray]:
        images, targets = self.columns
        as_text = not any(name.rpartition(".")[2] in _IMAGES for name in targets)
        names: list[str] = []
        rows: list[list[int]] = []
        rule = f"`root` must name tar archives that are not compressed, got {path!r}"
        try:
            with self.open_file(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                for key, members in _samples(archive):
                    image = next((members[name] for name in images if name in members), None)
                    if image is None:
                        continue
                    target = next((members[name] for name in targets if name in members), None)
                    if target is None:
                        raise ValueError(
                            f"`columns` must name members that every sample has, got {';'.join(targets)!r}, "
                            f"which {key} in {path} has not ({', '.join(members)}); pass columns=(image, "
                            "label or mask) with the endings that are meant"
                        )
                    label = (
                        [_label(stream, target, f"{key} in {path}")]
                        if as_text
                        else [target.offset_data, target.size]
                    )
                    names.append(f"{key}.{image.name.rpartition('.')[2]}")
                    rows.append([image.offset_data, image.size, *label])
        except tarfile.TarError as error:
            raise ValueError(
                f"{rule} ({error}); unpack a compressed one with gunzip, fetch a damaged one again"
            ) from error
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{rule}, which is not there") from error
        if not rows:
            raise ValueError(
                f"`columns` must name members with images, got {';'.join(images)!r}, which no sample in "
                f"{path} has; pass columns=(image, label or mask) with the endings that are meant"
            )
        return names, np.array(rows, dtype=np.int64)


def shards_of(root: Any, split: Split) -> str | list[str] | None:
    """The archives that a root names: a path or pattern of .tar, or a folder with some of the split."""
    if (
        isinstance(root, (list, tuple))
        and root
        and all(isinstance(each, (str, os.PathLike)) for each in root)
    ):
        paths = [os.fspath(each) for each in root]
        return paths if all(each.endswith(".tar") for each in paths) else None
    if not isinstance(root, (str, os.PathLike)):
        return None
    text = os.fspath(root)
    if text.endswith(".tar"):
        return text
    folder = Path(text)
    if not folder.is_dir():
        return None
    for name in NAMES[split]:
        inside = [folder / name, folder]
        named = re.compile(rf"(^|[^a-z]){name}([^a-z]|$)")
        for place in inside:
            found = sorted(place.glob("*.tar"))
            if place is folder:
                found = [path for path in found if named.search(path.name.lower())]
            if found:
                return [str(path) for path in found]
    return None


def _open_local(path: str) -> BinaryIO:
    return cast("BinaryIO", Path(path).open("rb"))


def _endings(columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    words = not isinstance(columns, str) and all(isinstance(name, str) for name in columns)
    if not words or len(columns) != 2:
        raise TypeError(
            "`columns` must be two endings of members, the images' and the labels' or masks', such as "
            f"('jpg;png', 'cls'), got {columns!r}"
        )
    return tuple(tuple(name.lower().split(";")) for name in columns)


def _expanded(paths: Any, *, local: bool) -> list[str]:
    """Paths of all archives that patterns mean."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: list[str] = []
    for path in paths:
        for each in _unbraced(os.fspath(path)):
            matched = sorted(glob.glob(each)) if local and glob.has_magic(each) else [each]  # noqa: PTH207  text, not Path
            if not matched:
                raise FileNotFoundError(f"`root` must name tar archives, got {each!r}, which matches none")
            found += matched
    if not found:
        raise ValueError("`root` must name at least one tar archive, got none")
    return found


def _unbraced(text: str) -> Iterator[str]:
    """All texts that braces such as {000..049} stand for."""
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _unbraced(f"{text[: match.start()]}{number:0{len(first)}d}{text[match.end() :]}")


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Names of the samples in an archive, and their members by ending; a sample's follow each other."""
    key, members = "", dict[str, tarfile.TarInfo]()
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
        folder, _, file = member.name.rpartition("/")
        stem, dot, ending = file.partition(".")
        if not member.isreg() or not stem or not dot:
            continue
        name = f"{folder}/{stem}" if folder else stem
        if name != key and members:
            yield key, members
            members = {}
        key = name
        members[ending.lower()] = member
    if members:
        yield key, members


def _label(stream: BinaryIO, member: tarfile.TarInfo, place: str) -> int:
    stream.seek(member.offset_data)
    text = stream.read(min(member.size, 32))
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"`columns` must name members with labels as whole numbers, got {text!r} in {place}; number the "
            "classes from 0"
        ) from None


@functools.cache
def _png() -> bytes:
    """A small picture, for the example above."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3)).save(stream, "png")
    return stream.getvalue()
