"""Folders and datasets of labelled images as one listing, in an order that never changes.

A listing gives each image a position that never changes (classes sorted, files sorted), because kernels,
crops and shuffles are keyed by it. Nothing here decodes more than one image at a time or looks at the
protocol.
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, Subset

from .._common.checks import check_integer
from ._listing import OnError, Skipped, Split, folder_name, subset_indices
from ._sampling import class_balanced

T = TypeVar("T")

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"),
    *(".jp2", ".pbm", ".pgm", ".pnm", ".ppm"),
)


class ImageRoot:
    """An indexable listing of labelled images; made by :func:`open_root`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
        classes: class names in the order of the labels; empty where a dataset does not tell.
        labels: int64 array, one label an image; -1 where a dataset does not tell before the image is read.
        index: int64 array, each image's position in the full sorted listing, before any `limit`.
        on_error: "raise" or "skip".

    Example:
        >>> dataset = [(Image.new("RGB", (8, 8)), 0), (Image.new("RGB", (8, 8)), 1)]
        >>> listing = open_root(dataset, split="val")
        >>> len(listing), listing.load(1)[1], listing.id(1)
        (2, 1, '1')
    """

    def __init__(
        self,
        root: Any,
        *,
        split: Split,
        classes: tuple[str, ...],
        labels: np.ndarray,
        index: np.ndarray,
        files: np.ndarray | None,
        on_error: OnError,
    ) -> None:
        self.root, self.split, self.classes, self.on_error = root, split, classes, on_error
        self.labels, self.index = labels, index
        # Encoded paths in one array, not a list of strings: a forked worker that touches an object copies its
        # memory page, and in a list of a million strings it ends up with copies of all of them.
        self._files = files

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return (
            f"ImageRoot({self.name!r}, split={self.split!r}, images={len(self)}, classes={len(self.classes)})"
        )

    @property
    def name(self) -> str:
        """The folder's own name (not where it lies), or the dataset's type."""
        return type(self.root).__name__ if self._files is None else folder_name(self.root)

    @property
    def samples(self) -> list[tuple[Path | int, int]]:
        """(path, label) of every image; for a dataset (index, label)."""
        return [(self._place(position), int(label)) for position, label in enumerate(self.labels)]

    def _place(self, position: int) -> Path | int:
        if self._files is None:
            return int(self.index[position])
        return Path(self.root, os.fsdecode(self._files[position]))

    def subset(self, positions: np.ndarray) -> ImageRoot:
        """The listing of some of its images, which keep their `index`.

        Args:
            positions: int64, in the order wanted.

        Returns:
            A new listing.
        """
        return ImageRoot(
            self.root,
            split=self.split,
            classes=self.classes,
            labels=self.labels[positions],
            index=self.index[positions],
            files=None if self._files is None else self._files[positions],
            on_error=self.on_error,
        )

    def id(self, position: int) -> str:
        """The image's name in records: its path below the root with forward slashes, or its index.

        Args:
            position: 0 to len - 1.

        Returns:
            Such as "val/cat/7.jpg" or "7".
        """
        if self._files is None:
            return str(int(self.index[position]))
        return os.fsdecode(self._files[position]).replace(os.sep, "/")

    def digest(self) -> str:
        """A SHA-256 of all ids and labels: listings that share it hold the same images in the same order.

        Of a dataset the ids are numbers; which images a `torch.utils.data.Subset` chose enters too, what
        another dataset holds does not.

        Returns:
            64 hexadecimal digits.
        """
        ids = "\n".join(self.id(position) for position in range(len(self)))
        labels = self.labels.astype("<i8").tobytes()
        return hashlib.sha256(os.fsencode(ids) + b"\n" + labels + subset_indices(self.root)).hexdigest()

    def load(self, position: int) -> tuple[Image.Image, int]:
        """Reads and decodes one image.

        Args:
            position: 0 to len - 1.

        Returns:
            The image in the mode it was stored in, and its label.

        Raises:
            FileNotFoundError: if the file has gone.
            ValueError: if it cannot be read, with its path.
            TypeError: if a dataset yields something other than (PIL image, label).
        """
        return self._load_item(position) if self._files is None else self._load_file(position)

    def _load_file(self, position: int) -> tuple[Image.Image, int]:
        path = self._place(position)
        try:
            with Image.open(str(path)) as image:
                image.load()
        except FileNotFoundError:
            raise FileNotFoundError(f"`root` lists {path}, which has gone; {_REMEDY}") from None
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
            raise ValueError(f"cannot read {path}: {_text(error)}; {_REMEDY}") from error
        return image, int(self.labels[position])

    def _load_item(self, position: int) -> tuple[Image.Image, int]:
        index = int(self.index[position])
        try:
            item = self.root[index]
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"cannot read item {index} of the dataset: {_text(error)}; {_REMEDY}") from error
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], Image.Image)):
            kind = (
                tuple(type(part).__name__ for part in item) if isinstance(item, (tuple, list)) else type(item)
            )
            raise TypeError(
                f"`root` must be a dataset of (PIL image, label), got {kind} from item {index}; leave "
                "transforms out of the dataset: resizing, blur and conversion are done here"
            )
        try:
            return item[0], operator.index(item[1])
        except TypeError:
            raise TypeError(
                f"`root` must be a dataset of (PIL image, label) with whole numbers as labels, got "
                f"{item[1]!r} from item {index}; number the classes from 0"
            ) from None

    def view(self, position: int, make: Callable[[Image.Image], T]) -> tuple[T, int] | Skipped:
        """Loads one image and makes something of it; a broken one is named or skipped, as `on_error` says.

        Args:
            position: 0 to len - 1.
            make: what to do with the decoded image; its ValueErrors count as the image's fault.

        Returns:
            (result, label), or :class:`Skipped`.

        Raises:
            FileNotFoundError: see :meth:`load`; not under "skip".
            ValueError: if the image is broken, with its path; not under "skip".
            TypeError: see :meth:`load`.
        """
        try:
            image, label = self.load(position)
            try:
                return make(image), label
            except (OSError, ValueError) as error:
                place = self._place(position)
                what = f"item {place} of the dataset" if isinstance(place, int) else str(place)
                raise ValueError(f"cannot use {what}: {_text(error)}; {_REMEDY}") from error
        except (FileNotFoundError, ValueError) as error:
            if self.on_error == "raise":
                raise
            return Skipped(self.id(position), str(error))


_REMEDY = 'repair or remove it, or pass on_error="skip" to go on without it'


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def open_root(
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | ImageRoot,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
) -> ImageRoot:
    """Lists the images of a folder or a dataset.

    A folder holds `train/<class>/*` and `val/<class>/*`. Classes, then folders and files below them, are
    sorted as torchvision's `ImageFolder` sorts them; hidden files and folders are left out. Only the split
    that is asked for must be there; where both are, their classes must agree, since labels are positions in
    the sorted classes.

    Args:
        root: the folder, or a map-style dataset of (PIL image, label) that takes the split's place; or a
            listing of that split, of which another is made.
        split: "train" or "val".
        limit: take a class-balanced subset of this many images, see :func:`class_balanced`; None takes all.
        seed: chooses the subset.
        on_error: what to do with a broken image: "raise" with its path, or "skip" and count it.

    Returns:
        The listing.

    Raises:
        FileNotFoundError: if the folder or the split is missing.
        ValueError: if there are no classes or no images, a class is empty, classes differ between the splits,
            or an option is unknown.
        TypeError: if `root` is neither a folder nor a dataset with a length.

    Example:
        >>> open_root([(Image.new("L", (4, 4)), 1)], split="train")
        ImageRoot('list', split='train', images=1, classes=0)
    """
    if split not in ("train", "val"):
        raise ValueError(f"`split` must be 'train' or 'val', got {split!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}")
    if isinstance(root, ImageRoot):
        if root.split != split:
            raise ValueError(f"`root` must list {split} images, got {root!r}; open it with split={split!r}")
        listing = root.subset(np.arange(len(root)))
        listing.on_error = on_error
    elif isinstance(root, (str, os.PathLike)):
        listing = _open_folder(Path(root), split, on_error)
    else:
        listing = _open_dataset(root, split, on_error)
    if limit is None:
        return listing
    check_integer("limit", limit, low=1, high=2**62)
    if limit < len(listing):
        listing = labelled(listing)
    return listing.subset(class_balanced(listing.labels, limit, seed=seed))


def labelled(listing: ImageRoot) -> ImageRoot:
    """A listing that knows its labels.

    Args:
        listing: of a dataset, perhaps, whose labels only reading tells.

    Returns:
        The same, read through if it did not know them; under "skip" then without the broken images.

    Example:
        >>> listing = open_root([(Image.new("L", (4, 4)), 1)], split="val")
        >>> listing.labels, labelled(listing).labels
        (array([-1]), array([1]))
    """
    if listing.labels.min(initial=0) >= 0:
        return listing
    listing = listing.subset(np.arange(len(listing)))
    read = [listing.view(position, lambda image: image.size) for position in range(len(listing))]
    listing.labels = np.array([-1 if isinstance(item, Skipped) else item[1] for item in read], dtype=np.int64)
    return listing.subset(np.flatnonzero([not isinstance(item, Skipped) for item in read]))


def _open_folder(root: Path, split: Split, on_error: OnError) -> ImageRoot:
    if not root.is_dir():
        raise FileNotFoundError(
            f"`root` must be a folder with train/<class>/* and val/<class>/*, got {str(root)!r}, which is "
            f"{'a file' if root.exists() else 'not there'}"
        )
    folder = root / split
    if not folder.is_dir():
        there = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"`root` must hold a folder {split!r} with one folder a class, got {str(root)!r} with {there}; "
            "pass the folder above train and val"
        )
    classes = _subfolders(folder)
    if not classes:
        raise ValueError(
            f"`root` must hold {split}/<class>/*, got no class folders in {str(folder)!r}; "
            "put the images of each class in a folder of its own"
        )
    _compare_classes(root, split, classes)
    files: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [os.fsencode(path) for path in _images(str(root), f"{split}{os.sep}{name}")]
        if not found:
            raise ValueError(
                f"`root` must hold images of every class, got none in {str(folder / name)!r} (suffixes "
                f"looked for: {' '.join(IMAGE_SUFFIXES)}); add some, or remove the class from both splits"
            )
        files += found
        labels += [label] * len(found)
    return ImageRoot(
        str(root),
        split=split,
        classes=classes,
        labels=np.array(labels, dtype=np.int64),
        index=np.arange(len(files)),
        files=np.array(files),
        on_error=on_error,
    )


def _subfolders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))


def _images(root: str, folder: str) -> Iterator[str]:
    """Paths below `root` of the images in a folder: sorted folders, and in each its files sorted by name."""
    # Strings instead of Path objects: with a million files the objects alone take half a minute.
    for place, _, names in sorted(os.walk(os.path.join(root, folder), followlinks=True)):  # noqa: PTH118  as told above
        below = place[len(root) :].lstrip(os.sep)
        if f"{os.sep}." in below[len(folder) :]:
            continue
        for name in sorted(names):
            if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES):
                yield f"{below}{os.sep}{name}"


def _compare_classes(root: Path, split: Split, classes: tuple[str, ...]) -> None:
    other = "val" if split == "train" else "train"
    if not (root / other).is_dir():
        return
    others = _subfolders(root / other)
    if others != classes:
        here, there = sorted(set(classes) - set(others)), sorted(set(others) - set(classes))
        parts = [
            f"only in {where}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for where, names in ((split, here), (other, there))
            if names
        ]
        raise ValueError(
            f"`root` must have the same classes in train and val, got {'; '.join(parts)} in {str(root)!r}; "
            "labels are positions in the sorted classes, so make both splits agree"
        )


def _open_dataset(root: Any, split: Split, on_error: OnError) -> ImageRoot:
    if not (hasattr(root, "__getitem__") and hasattr(root, "__len__")) or isinstance(root, (bytes, dict)):
        raise TypeError(
            "`root` must be a folder or a map-style dataset (with a length) of (PIL image, label), got "
            f"{type(root).__name__}; give a stream a length and random access first"
        )
    count = len(root)
    if count == 0:
        raise ValueError("`root` must hold at least one image, got an empty dataset")
    classes = getattr(root, "classes", None)
    return ImageRoot(
        root,
        split=split,
        classes=tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else (),
        labels=_labels(root, count),
        index=np.arange(count),
        files=None,
        on_error=on_error,
    )


def _labels(root: Any, count: int) -> np.ndarray:
    """Labels told without reading images, by torchvision's habit of a `targets` list; else -1."""
    if isinstance(root, Subset):
        whole: Any = root.dataset
        return _labels(whole, len(whole))[np.asarray(root.indices, dtype=np.int64)]
    labels = np.asarray(getattr(root, "targets", ()))
    if labels.shape == (count,) and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    return np.full(count, -1, dtype=np.int64)
