"""What all listings of images share: positions, names, broken images, subsets, how they are opened.

A listing gives each image a position that never changes (files sorted, or as a list or dataset has them),
because kernels, crops and shuffles are keyed by it. Nothing here decodes more than one image at a time or
looks at the protocol.
"""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from .._common.checks import check_integer, one_of
from .._common.files import file_stamp
from ._columns import USUAL, as_pair, check_columns, check_named, dataset_name
from ._files import broken, text_of
from ._manifest import Manifest, read_manifest
from ._names import Names
from ._shards import TarShards, shards_of
from ._splits import NAMES, Split, entry_of
from ._streams import StoredStream, is_stream

OnError = Literal["raise", "skip"]

Target = TypeVar("Target")
Made = TypeVar("Made")
AnyListing = TypeVar("AnyListing", bound="Listing[Any]")


@dataclass(frozen=True)
class Skipped:
    """Placeholder of a broken image under `on_error="skip"`.

    Attributes:
        name: the image's id: its path below the root, or its index in the dataset.
        reason: the error's text.

    Example:
        >>> Skipped("val/cat/7.jpg", "image file is truncated").name
        'val/cat/7.jpg'
    """

    name: str
    reason: str


class Listing(ABC, Generic[Target]):
    """An indexable listing of images with targets: labels or masks.

    It is made by :func:`open_images` or :func:`open_masks`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
        found: the name under which a folder, or a mapping of datasets, has the split, such as "validation";
            empty for a dataset.
        columns: where items are mappings, the names of image and target.
        index: int64 array, each image's position in the full listing, before any `limit`.
        labels: int64 array, one label an image; None for masks.
        on_error: "raise" or "skip".
        manifest: of :func:`corrupt`, where a folder has its copies; else None.

    Example:
        >>> from blurlib.data import open_images
        >>> isinstance(open_images([(Image.new("L", (4, 4)), 1)], split="val"), Listing)
        True
    """

    labels: np.ndarray | None = None
    found: str = ""
    manifest: Manifest | None = None
    _members: tuple[str, str]  # of a sample in a tar archive
    _target: str  # for messages, as is the layout of a folder
    _layout: str

    def __init__(
        self,
        root: Any,
        *,
        split: Split,
        on_error: OnError,
        columns: Sequence[str] | None = None,
        limit: int | None = None,  # how many items of a stream are read at most
    ) -> None:
        if columns is not None:
            check_columns(columns)
        self.split, self.on_error = split, on_error
        if isinstance(root, Mapping):
            self.found, root = entry_of(root, split)
        archives = shards_of(root, split)
        if archives is not None:
            root, columns = TarShards(archives, columns=columns or self._members), None
        self.columns = tuple(columns or USUAL)
        if is_stream(root):
            root = StoredStream(root, self.columns, limit=limit, check=self._check_first)
        self.root = root
        self._names: Names | None = None
        if isinstance(root, (str, os.PathLike)):
            self.root, folder = str(root), Path(root)
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"`root` must be a folder {self._layout}, got {self.root!r}, which is "
                    f"{'a file' if folder.exists() else 'not there'}"
                )
            if columns is not None:
                raise ValueError(f"`columns` must be left out where `root` is a folder, got {columns!r}")
            self.manifest = read_manifest(folder)
            self._names = Names(self._list_folder(folder))
        elif not (hasattr(root, "__getitem__") and hasattr(root, "__len__")) or isinstance(
            root, (bytes, Mapping)
        ):
            raise TypeError(
                f"`root` must be a folder, or a dataset or stream of (PIL image, {self._target}), got "
                f"{type(root).__name__}; a list of such pairs is a dataset"
            )
        else:
            check_named(root, self.columns)
            self._list_dataset()
        self.index = np.arange(len(root) if self._names is None else len(self._names))

    @abstractmethod
    def _list_folder(self, folder: Path) -> list[bytes]:
        """Encoded names of the images in a folder, in their order."""

    def _list_dataset(self) -> None:
        """Learn of a dataset what it holds without reading images."""

    @abstractmethod
    def _path(self, position: int) -> Path:
        """The file that errors name."""

    @abstractmethod
    def _read(self, position: int) -> tuple[Image.Image, Any]:
        """Read an image of a folder and its target."""

    @abstractmethod
    def _checked(self, image: Image.Image, target: Any) -> tuple[Image.Image, Target]:
        """An image and a target such as a folder or a dataset has them, as :meth:`load` returns them."""

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, split={self.split!r}, images={len(self)})"

    @property
    def name(self) -> str:
        """The folder's name without its path; or the dataset's name (Hugging Face), else its type."""
        if isinstance(self.root, TarShards):
            return self.root.source
        if self._names is None:
            return self.root.name if isinstance(self.root, StoredStream) else dataset_name(self.root)
        return text_of(Path(self.root).resolve().name)

    @property
    def source(self) -> str:
        """The name and the split as it is there, such as "imagenet/val"; of copies, of their sources."""
        if self.manifest is not None:
            return self.manifest.source
        if self.found:
            return f"{self.name}/{self.found}"
        if self._names is None or self.name not in NAMES["val"]:
            return self.name
        return f"{text_of(Path(self.root).resolve().parent.name)}/{self.name}"  # the split itself was given

    def subset(self: AnyListing, positions: np.ndarray) -> AnyListing:
        """Subset of the images, which keep their `index`.

        Args:
            positions: int64, in the order wanted.

        Returns:
            A new listing.
        """
        other = copy.copy(self)
        for name in ("index", "labels", "_names"):
            array = getattr(self, name)
            setattr(other, name, None if array is None else array[positions])
        return other

    @abstractmethod
    def limited(self: AnyListing, limit: int, *, seed: int = 0) -> AnyListing:
        """A seeded subset: class-balanced where there are labels.

        Args:
            limit: how many images; as many as there are or more takes all.
            seed: another seed is another choice.

        Returns:
            A new listing, in the order of this one.
        """

    def id(self, position: int) -> str:
        """The image's name in records.

        Args:
            position: 0 to len - 1.

        Returns:
            Its path below the root with forward slashes ("val/cat/7.jpg"), for Pascal VOC its file's name
            without ending ("2007_000033"), as for a sample in tar archives; for a dataset its index ("7").
        """
        if isinstance(self.root, TarShards):
            return self.root.name(int(self.index[position]))
        if self._names is None:
            return str(int(self.index[position]))
        return os.fsdecode(self._names[position]).replace(os.sep, "/")

    def files(self, position: int) -> tuple[str | Path, ...]:
        """The files that an image is read from, with its mask's.

        Args:
            position: 0 to len - 1.

        Returns:
            Their paths; none for an item of a dataset or a sample in a tar archive.
        """
        return () if self._names is None else self._files(position)

    def digest(self) -> str:
        """A SHA-256 of all ids and labels: listings that share it hold the same images in the same order.

        Of a dataset the ids are numbers; which images a `torch.utils.data.Subset` chose enters too, what
        another dataset holds does not.

        Returns:
            64 hexadecimal digits.
        """
        ids = os.fsencode("\n".join(self.id(position) for position in range(len(self))))
        labels = b"" if self.labels is None else b"\n" + self.labels.astype("<i8").tobytes()
        return hashlib.sha256(ids + labels + _subset_indices(self.root)).hexdigest()

    def file_facts(self) -> np.ndarray | None:
        """Size and time of change of each image's files, by which a replaced file shows.

        Returns:
            int64, shape (len, 2) or with a mask (len, 4): bytes and nanoseconds of each file, -1 where it is
            absent; of a sample in a tar archive those of the archive; None for a dataset.
        """
        if isinstance(self.root, TarShards):
            return self.root.file_facts()[self.index]
        if self._names is None:
            return None
        parts = [range(start, min(start + 1000, len(self))) for start in range(0, len(self), 1000)]
        with ThreadPoolExecutor(8) as pool:  # on a network file system each question waits for its answer
            return np.concatenate(list(pool.map(self._facts, parts)))

    def _facts(self, positions: range) -> np.ndarray:
        found = [file_stamp(path) for position in positions for path in self.files(position)]
        return np.array(found, dtype=np.int64).reshape(len(positions), -1)

    @abstractmethod
    def _files(self, position: int) -> tuple[str | Path, ...]:
        """All files of an image of a folder."""

    def _place(self, position: int) -> str:
        if isinstance(self.root, TarShards):
            return self.root.place(int(self.index[position]))
        if self._names is None:
            return f"item {self.index[position]} of the dataset"
        return str(self._path(position))

    def load(self, position: int) -> tuple[Image.Image, Target]:
        """Read and decode one image, and its mask where it has one.

        Args:
            position: 0 to len - 1.

        Returns:
            An image in the mode it was stored in, and its label; or an image, upright and in RGB, and its
            mask, (H, W) uint8.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if one cannot be read or used, with its path; if the sizes of image and mask differ.
            TypeError: if a dataset yields something other than (PIL image, label) or (PIL image, mask).
        """
        place = self._place(position)
        if self._names is None:
            try:
                item = self.root[int(self.index[position])]
            except (OSError, SyntaxError, ValueError, LookupError) as error:
                raise broken("read", place, error) from error
            item = self._pair(item, place)
        else:
            if self.manifest is not None:
                self.manifest.check_content(self._files(position)[0])
            item = self._read(position)
        try:
            return self._checked(item[0], item[1])
        except ValueError as error:
            raise broken("use", place, error) from error
        except TypeError as error:
            raise TypeError(f"{error} (in {place})") from None

    def _pair(self, item: Any, place: str) -> Any:
        """Image and target of an item of a dataset."""
        item = as_pair(item, self.columns, place)
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], Image.Image)):
            is_tuple = isinstance(item, (tuple, list))
            kind = tuple(type(part).__name__ for part in item) if is_tuple else type(item)
            raise TypeError(
                f"`root` must be a dataset of (PIL image, {self._target}), got {kind} from {place}; "
                "leave transforms out of the dataset: resizing, blur and conversion are done here; for "
                "one of Hugging Face pass dataset.with_format(None), with images decoded"
            )
        return item

    def _check_first(self, item: Any, place: str) -> None:
        """Refuse a stream of something else before it is read to its end."""
        image, target = self._pair(item, place)
        try:
            self._checked(image, target)
        except TypeError as error:
            raise TypeError(f"{error} (in {place})") from None

    def view(self, position: int, make: Callable[[Image.Image, Target], Made]) -> Made | Skipped:
        """Load one image and apply a function to it; a broken one raises or is skipped, see `on_error`.

        Args:
            position: 0 to len - 1.
            make: what to do with image and target; its ValueErrors count as the image's fault.

        Returns:
            What it made, or :class:`Skipped`.

        Raises:
            FileNotFoundError: see :meth:`load`; not under "skip".
            ValueError: if the image is broken, with its path; not under "skip".
            TypeError: see :meth:`load`.
        """
        try:
            item = self.load(position)
            try:
                return make(*item)
            except (OSError, ValueError) as error:
                raise broken("use", self._place(position), error) from error
        except (FileNotFoundError, ValueError) as error:
            if self.on_error == "raise":
                raise
            return Skipped(self.id(position), str(error))


def opened(
    kind: type[AnyListing],
    root: Any,
    *,
    split: Split,
    limit: int | None,
    on_error: OnError,
    columns: Sequence[str] | None,
) -> AnyListing:
    """A listing of a folder, of a dataset, of the first `limit` items of a stream or of another listing."""
    one_of("split", split, get_args(Split))
    one_of("on_error", on_error, get_args(OnError))
    if limit is not None:
        check_integer("limit", limit, low=1, high=2**62)
    if isinstance(root, kind):
        if root.split != split:
            raise ValueError(f"`root` must list {split} images, got {root!r}; open it with split={split!r}")
        listing = copy.copy(root)
        listing.on_error = on_error
        if columns is not None and tuple(columns) != listing.columns:
            raise ValueError(
                f"`columns` must be left out where `root` is a listing, which has its own, "
                f"{listing.columns}, got {columns!r}; open it with these"
            )
    else:
        listing = kind(root, split=split, on_error=on_error, columns=columns, limit=limit)
    if not len(listing):
        raise ValueError(f"`root` must hold at least one image of {split!r}, got none in {listing.name!r}")
    return listing


def _subset_indices(root: object) -> bytes:
    """Which items of which `Subset` a dataset takes; empty for any other."""
    if not isinstance(root, Subset):
        return b""
    return np.asarray(root.indices, dtype="<i8").tobytes() + _subset_indices(root.dataset)
