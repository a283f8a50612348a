"""Folders of classes, and datasets of labelled images: train/<class>/*, val/<class>/*."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, Subset

from .._common.devices import make_loader, pick_workers
from .._common.distributed import local_world_size
from .._common.pictures import IMAGE_SUFFIXES, Seen, image_paths
from .._common.texts import visible
from ._columns import column_classes, column_values
from ._files import contents, decoded
from ._listing import Listing, OnError, Skipped, opened
from ._sampling import class_balanced
from ._shards import LABELLED
from ._splits import NAMES, Split, found_split, names_text


class ImageListing(Listing[int]):
    """An indexable listing of labelled images; made by :func:`open_images`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
        found: the folder's or the mapping's name of the split, such as "validation"; empty for a dataset.
        columns: where items are mappings, the names of image and label.
        classes: class names in the order of the labels; empty where a dataset has none.
        labels: int64 array, one label an image; -1 where they are known only after the image is read.
        index: int64 array, each image's position in the full sorted listing, before any `limit`.
        on_error: "raise" or "skip".

    Example:
        >>> dataset = [(Image.new("RGB", (8, 8)), 0), (Image.new("RGB", (8, 8)), 1)]
        >>> listing = open_images(dataset, split="val")
        >>> len(listing), listing.load(1)[1], listing.id(1)
        (2, 1, '1')
    """

    classes: tuple[str, ...] = ()
    labels: np.ndarray
    _members = LABELLED
    _target, _layout = "label", "with train/<class>/* and val/<class>/*"

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, classes={len(self.classes)})"

    def _list_folder(self, folder: Path) -> list[bytes]:
        found = found_split(self.split, subfolders := _subfolders(folder))
        inside = folder / (found or "")
        if found is not None:
            self.found, self.classes = found, _subfolders(inside)
            if not self.classes:
                raise ValueError(
                    f"`root` must hold {found}/<class>/*, got no class folders in {str(inside)!r}; "
                    "put the images of each class in their own folder"
                )
            _compare_classes(folder, self.split, found, self.classes, subfolders)
        elif self._without_split(folder, subfolders):
            self.classes = subfolders
        else:
            raise FileNotFoundError(
                f"`root` must hold a folder {names_text(self.split)} with one folder a class, got "
                f"{str(folder)!r} with {contents(folder)}; pass the folder above train and val, or "
                + ("move" if self.split == "train" else "the folder that holds")
                + f" the class folders{' into a folder train' if self.split == 'train' else ''}"
            )
        files: list[bytes] = []
        seen: Seen = {}
        counts = []
        for name in self.classes:
            below = name if found is None else f"{found}{os.sep}{name}"
            images = [os.fsencode(path) for path in image_paths(self.root, below, seen=seen)]
            if not images:
                raise ValueError(
                    f"`root` must hold images of every class, got none in {str(inside / name)!r} (suffixes "
                    f"looked for: {' '.join(IMAGE_SUFFIXES)}); add some, or remove "
                    + ("the folder" if found is None else "the class from both splits")
                )
            files += images
            counts.append(len(images))
        self.labels = np.repeat(np.arange(len(counts)), counts)
        if self.manifest is not None:
            self.manifest.check_listed(os.fsdecode(name).replace(os.sep, "/") for name in files)
        return files

    def _without_split(self, folder: Path, subfolders: Sequence[str]) -> bool:
        """Whether a folder has the classes themselves, to measure: who trains says what is held out."""
        if self.split == "train" or found_split("train", subfolders):
            return False
        return any(_holds_images(folder / name) for name in subfolders)

    def _list_dataset(self) -> None:
        classes = getattr(self.root, "classes", None)
        own = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
        self.classes = own or column_classes(self.root, self.columns[1])
        self.labels = _labels(self.root, len(self.root), self.columns[1])

    def _path(self, position: int) -> Path:
        assert self._names is not None
        return Path(self.root, os.fsdecode(self._names[position]))

    def _files(self, position: int) -> tuple[str | Path, ...]:
        assert self._names is not None
        return (f"{self.root}{os.sep}{os.fsdecode(self._names[position])}",)  # twice as fast as a Path

    def _read(self, position: int) -> tuple[Image.Image, Any]:
        return decoded(self._path(position)), self.labels[position]

    def _checked(self, image: Image.Image, target: Any) -> tuple[Image.Image, int]:
        try:
            return image, operator.index(target)
        except TypeError:
            raise TypeError(
                f"`root` must be a dataset of (PIL image, label) with whole numbers as labels, got "
                f"{target!r}; number the classes from 0 (Hugging Face: class_encode_column)"
            ) from None

    def limited(self, limit: int, *, seed: int = 0) -> ImageListing:
        listing = labelled(self) if limit < len(self) else self
        return listing.subset(class_balanced(listing.labels, limit, seed=seed))


def open_images(
    root: str | os.PathLike[str] | Dataset[Any] | Iterable[Any] | Mapping[str, Any] | ImageListing,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
    columns: Sequence[str] | None = None,
    workers: int | None = None,
) -> ImageListing:
    """List the images of a folder or a dataset.

    A folder holds `train/<class>/*` and `val/<class>/*`. Classes, then folders and files below them, are
    sorted as torchvision's `ImageFolder` sorts them; hidden files and folders are left out. Only the split
    that is asked for must be there; where both are, their classes must agree, since labels are positions in
    the sorted classes. Where there is no `val`, `validation`, `valid` or `test` is taken, in this order; of a
    folder without any split, `<class>/*` in it, for "val" alone.

    The items of a stream (a generator, torch's `IterableDataset`, Hugging Face's `streaming=True`) are read
    once, here, and kept in a temporary file in the order in which they come, as encoded files where the
    stream has these, else as pixels; their positions in the stream are their positions in the listing. Under
    torchrun each process does so. Give the listing instead of the stream to what needs the images again.

    Args:
        root: the folder; or tar shards (:class:`TarShards`, or their path or pattern, or a folder with
            ``*train*.tar`` and ``*val*.tar``); or a dataset or stream of (PIL image, label) that takes the
            split's place, of mappings with these too, as Hugging Face's are; or a mapping of such datasets
            (`DatasetDict`) by the names of the splits; or a listing of that split, of which another is made.
        split: "train" or "val".
        limit: take a class-balanced subset of this many images, see :func:`class_balanced`; None takes all.
            Where only reading tells the labels (no `targets`, no column), every image is read for it, once.
            Of a stream the first ones are taken, and no more is read.
        seed: chooses the subset.
        on_error: what to do with a broken image: "raise" with its path, or "skip" and count it.
        columns: where items are mappings, the names of image and label; None for ("image", "label").
        workers: loader processes that read labels; None chooses.

    Returns:
        The listing.

    Raises:
        FileNotFoundError: if the folder or the split is missing.
        ValueError: if there are no classes or no images, a class is empty, classes differ between the splits,
            or an option is unknown.
        TypeError: if `root` is neither a folder nor a dataset nor a stream, or an item of a stream is no
            image with a label.

    Example:
        >>> open_images([(Image.new("L", (4, 4)), 1)], split="train")
        ImageListing('list', split='train', images=1, classes=0)
    """
    listing = opened(ImageListing, root, split=split, limit=limit, on_error=on_error, columns=columns)
    if limit is None:
        return listing
    if limit < len(listing):
        listing = labelled(listing, workers=workers)
    return listing.limited(limit, seed=seed)


def labelled(listing: ImageListing, *, workers: int | None = None) -> ImageListing:
    """Read the labels of a listing where they are not known yet.

    Args:
        listing: perhaps of a dataset whose labels are known only after reading.
        workers: loader processes that read; None chooses.

    Returns:
        The same, read through if it did not know them; under "skip" then without the broken images.

    Example:
        >>> listing = open_images([(Image.new("L", (4, 4)), 1)], split="val")
        >>> listing.labels, labelled(listing).labels
        (array([-1]), array([1]))
    """
    if listing.labels.min(initial=0) >= 0:
        return listing
    processes = pick_workers(workers, len(listing), world=local_world_size())
    loader = make_loader(_Read(listing), workers=processes, batch_size=64, collate_fn=list)
    labels: list[int | Skipped] = []
    for batch in loader:
        for label in batch:
            if isinstance(label, Exception):
                raise label
            labels.append(label)
    found = np.flatnonzero([not isinstance(label, Skipped) for label in labels])
    listing = listing.subset(found)
    listing.labels = np.array([labels[position] for position in found], dtype=np.int64)
    return listing


class _Read(Dataset[Any]):
    """The label of each image."""

    def __init__(self, listing: ImageListing) -> None:
        self.listing = listing

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, position: int) -> int | Skipped | Exception:
        try:
            return self.listing.view(position, lambda _, label: label)
        except (FileNotFoundError, TypeError, ValueError) as error:
            return error  # whole: raised in a worker it would come with the worker's traceback


def _subfolders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name[0] != "." and entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries)


def _compare_classes(
    root: Path, split: Split, found: str, classes: tuple[str, ...], there: Sequence[str]
) -> None:
    other = found_split("train" if split == "val" else "val", there)
    if other is None or other == NAMES["val"][-1]:  # what people call test is often without classes
        return
    others = _subfolders(root / other)
    if others != classes:
        here, absent = sorted(set(classes) - set(others)), sorted(set(others) - set(classes))
        parts = [
            f"only in {where}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for where, names in ((found, here), (other, absent))
            if names
        ]
        raise ValueError(
            f"`root` must have the same classes in train and val, got {visible('; '.join(parts))} in "
            f"{str(root)!r}; labels are positions in the sorted classes, so make both splits agree"
        )


def _labels(root: Any, count: int, column: str) -> np.ndarray:
    """Labels of a `targets` list, as torchvision's datasets have it, or of a column; else -1."""
    if isinstance(root, Subset):
        whole: Any = root.dataset
        return _labels(whole, len(whole), column)[np.asarray(root.indices, dtype=np.int64)]
    values = column_values(root, column)
    labels = np.asarray(getattr(root, "targets", ())) if values is None else values
    if labels.shape == (count,) and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    return np.full(count, -1, dtype=np.int64)
