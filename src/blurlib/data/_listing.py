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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from .._common.checks import check_integer, one_of
from ._columns import USUAL, as_pair, check_columns, check_named
from ._splits import Split, entry_of

OnError = Literal["raise", "skip"]

Target = TypeVar("Target")
Made = TypeVar("Made")
AnyListing = TypeVar("AnyListing", bound="Listing[Any]")

_REMEDY = 'repair or remove it, or pass on_error="skip" to go on without it'


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

    Example:
        >>> from blurlib.data import open_images
        >>> isinstance(open_images([(Image.new("L", (4, 4)), 1)], split="val"), Listing)
        True
    """

    labels: np.ndarray | None = None
    found: str = ""
    _target: str  # for messages, as is the layout of a folder
    _layout: str

    def __init__(
        self, root: Any, *, split: Split, on_error: OnError, columns: Sequence[str] | None = None
    ) -> None:
        if columns is not None:
            check_columns(columns)
        self.split, self.on_error = split, on_error
        if isinstance(root, Mapping):
            self.found, root = entry_of(root, split)
        self.root, self.columns = root, tuple(columns or USUAL)
        # Encoded names in one array, not a list of strings: a forked worker that touches an object copies its
        # memory page, and in a list of a million strings it ends up with copies of all of them.
        self._names: np.ndarray | None = None
        if isinstance(root, (str, os.PathLike)):
            self.root, folder = str(root), Path(root)
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"`root` must be a folder {self._layout}, got {self.root!r}, which is "
                    f"{'a file' if folder.exists() else 'not there'}"
                )
            if columns is not None:
                raise ValueError(f"`columns` must be left out where `root` is a folder, got {columns!r}")
            self._names = np.array(self._list_folder(folder))
        elif not (hasattr(root, "__getitem__") and hasattr(root, "__len__")) or isinstance(
            root, (bytes, Mapping)
        ):
            raise TypeError(
                f"`root` must be a folder or a map-style dataset (with a length) of (PIL image, "
                f"{self._target}), got {type(root).__name__}; an image's blur and crop follow from its "
                "position, which a stream has not: load it whole (Hugging Face: without streaming=True), or "
                "give a part of it as a list, list(itertools.islice(stream, 1000))"
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
        if self._names is None:
            named = getattr(getattr(self.root, "info", None), "dataset_name", None)
            return named if isinstance(named, str) else type(self.root).__name__
        # For texts: bytes that are no text are escaped.
        return Path(self.root).resolve().name.encode(errors="backslashreplace").decode()

    @property
    def source(self) -> str:
        """The name and the split as it is there, such as "imagenet/val"; for records."""
        return f"{self.name}/{self.found}" if self.found else self.name

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
            without ending ("2007_000033"), for a dataset its index ("7").
        """
        if self._names is None:
            return str(int(self.index[position]))
        return os.fsdecode(self._names[position]).replace(os.sep, "/")

    def files(self, position: int) -> list[Path]:
        """The files that an image is read from, with its mask's.

        Args:
            position: 0 to len - 1.

        Returns:
            Their paths; none for an item of a dataset.
        """
        return [] if self._names is None else [self._path(position)]

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

    def _place(self, position: int) -> str:
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
            except (OSError, SyntaxError, ValueError) as error:
                raise _broken("read", place, error) from error
            item = as_pair(item, self.columns, place)
            if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], Image.Image)):
                is_tuple = isinstance(item, (tuple, list))
                kind = tuple(type(part).__name__ for part in item) if is_tuple else type(item)
                raise TypeError(
                    f"`root` must be a dataset of (PIL image, {self._target}), got {kind} from {place}; "
                    "leave transforms out of the dataset: resizing, blur and conversion are done here; of "
                    "Hugging Face's pass dataset.with_format(None), with images decoded"
                )
        else:
            item = self._read(position)
        try:
            return self._checked(item[0], item[1])
        except ValueError as error:
            raise _broken("use", place, error) from error
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
                raise _broken("use", self._place(position), error) from error
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
    seed: int,
    on_error: OnError,
    columns: Sequence[str] | None,
) -> AnyListing:
    """A listing of a folder, of a dataset or of another listing."""
    one_of("split", split, get_args(Split))
    one_of("on_error", on_error, get_args(OnError))
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
        listing = kind(root, split=split, on_error=on_error, columns=columns)
    if not len(listing):
        raise ValueError(f"`root` must hold at least one image of {split!r}, got none in {listing.name!r}")
    if limit is None:
        return listing
    return listing.limited(check_integer("limit", limit, low=1, high=2**62), seed=seed)


def decoded(path: Path) -> Image.Image:
    """The image in a file; errors name it."""
    try:
        with Image.open(str(path)) as image:
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"`root` lists {path}, which is missing; {_REMEDY}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise _broken("read", str(path), error) from error
    return image


def contents(folder: Path) -> str:
    """What a folder holds, for messages."""
    return ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"


def _broken(verb: str, place: str, error: BaseException) -> ValueError:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ValueError(f"cannot {verb} {place}: {text}; {_REMEDY}")


def _subset_indices(root: object) -> bytes:
    """Which items of which `Subset` a dataset takes; empty for any other."""
    if not isinstance(root, Subset):
        return b""
    return np.asarray(root.indices, dtype="<i8").tobytes() + _subset_indices(root.dataset)
