"""Folders of classes, and datasets of labelled images: train/<class>/*, val/<class>/*."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, Subset

from ._listing import Listing, OnError, Skipped, Split, contents, decoded, opened
from ._sampling import class_balanced

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"),
    *(".jp2", ".pbm", ".pgm", ".pnm", ".ppm"),
)


class ImageListing(Listing[int]):
    """An indexable listing of labelled images; made by :func:`open_images`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
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
    _target, _layout = "label", "with train/<class>/* and val/<class>/*"

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, classes={len(self.classes)})"

    def _list_folder(self, folder: Path) -> list[bytes]:
        inside = folder / self.split
        if not inside.is_dir():
            raise FileNotFoundError(
                f"`root` must hold a folder {self.split!r} with one folder a class, got {str(folder)!r} with "
                f"{contents(folder)}; pass the folder above train and val"
            )
        self.classes = _subfolders(inside)
        if not self.classes:
            raise ValueError(
                f"`root` must hold {self.split}/<class>/*, got no class folders in {str(inside)!r}; "
                "put the images of each class in their own folder"
            )
        _compare_classes(folder, self.split, self.classes)
        files: list[bytes] = []
        counts = []
        for name in self.classes:
            found = [os.fsencode(path) for path in _images(self.root, f"{self.split}{os.sep}{name}")]
            if not found:
                raise ValueError(
                    f"`root` must hold images of every class, got none in {str(inside / name)!r} (suffixes "
                    f"looked for: {' '.join(IMAGE_SUFFIXES)}); add some, or remove the class from both splits"
                )
            files += found
            counts.append(len(found))
        self.labels = np.repeat(np.arange(len(counts)), counts)
        return files

    def _list_dataset(self) -> None:
        classes = getattr(self.root, "classes", None)
        self.classes = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
        self.labels = _labels(self.root, len(self.root))

    def _path(self, position: int) -> Path:
        assert self._names is not None
        return Path(self.root, os.fsdecode(self._names[position]))

    def _read(self, position: int) -> tuple[Image.Image, Any]:
        return decoded(self._path(position)), self.labels[position]

    def _checked(self, image: Image.Image, target: Any) -> tuple[Image.Image, int]:
        try:
            return image, operator.index(target)
        except TypeError:
            raise TypeError(
                f"`root` must be a dataset of (PIL image, label) with whole numbers as labels, got "
                f"{target!r}; number the classes from 0"
            ) from None

    def limited(self, limit: int, *, seed: int = 0) -> ImageListing:
        listing = labelled(self) if limit < len(self) else self
        return listing.subset(class_balanced(listing.labels, limit, seed=seed))


def open_images(
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | ImageListing,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
) -> ImageListing:
    """List the images of a folder or a dataset.

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
        >>> open_images([(Image.new("L", (4, 4)), 1)], split="train")
        ImageListing('list', split='train', images=1, classes=0)
    """
    return opened(ImageListing, root, split=split, limit=limit, seed=seed, on_error=on_error)


def labelled(listing: ImageListing) -> ImageListing:
    """Read the labels of a listing where they are not known yet.

    Args:
        listing: perhaps of a dataset whose labels are known only after reading.

    Returns:
        The same, read through if it did not know them; under "skip" then without the broken images.

    Example:
        >>> listing = open_images([(Image.new("L", (4, 4)), 1)], split="val")
        >>> listing.labels, labelled(listing).labels
        (array([-1]), array([1]))
    """
    if listing.labels.min(initial=0) >= 0:
        return listing
    labels = [listing.view(position, lambda _, label: label) for position in range(len(listing))]
    found = np.flatnonzero([not isinstance(label, Skipped) for label in labels])
    listing = listing.subset(found)
    listing.labels = np.array([labels[position] for position in found], dtype=np.int64)
    return listing


def _subfolders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))


def _images(root: str, folder: str) -> Iterator[str]:
    """Paths below `root` of the images in a folder: sorted folders, and in each its files sorted by name."""
    # Strings instead of Path objects: with a million files the objects alone take half a minute.
    for place, _, names in sorted(os.walk(os.path.join(root, folder), followlinks=True)):  # noqa: PTH118  see above
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


def _labels(root: Any, count: int) -> np.ndarray:
    """Labels of a `targets` list, as torchvision's datasets have it; else -1."""
    if isinstance(root, Subset):
        whole: Any = root.dataset
        return _labels(whole, len(whole))[np.asarray(root.indices, dtype=np.int64)]
    labels = np.asarray(getattr(root, "targets", ()))
    if labels.shape == (count,) and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    return np.full(count, -1, dtype=np.int64)
