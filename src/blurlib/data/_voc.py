"""Images with label masks: folders in Pascal VOC's layout, datasets of (image, mask), and what a mask is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .._common import rng
from .._common.checks import check_integer
from ..metrics import VOID
from ..protocol import check_sizes, to_rgb, turn_upright
from ._listing import OnError, Skipped, Split, folder_name, subset_indices

T = TypeVar("T")

_LIMIT = 13  # purpose that keeps these draws apart from those of other modules
_REMEDY = 'repair or remove it, or pass on_error="skip" to go on without it'


def mask_array(mask: Any) -> np.ndarray:
    """A mask as labels, checked.

    Args:
        mask: a Pillow image of indices (mode P, L, 1, I), a NumPy array or a tensor (H, W) of whole numbers
            from 0 to 255. An EXIF orientation of the mask's own is applied.

    Returns:
        (H, W) uint8.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is a colour picture, has no (H, W), or values outside 0 to 255.

    Example:
        >>> mask_array(Image.new("P", (3, 2), 7)).tolist()
        [[7, 7, 7], [7, 7, 7]]
    """
    if isinstance(mask, Image.Image):
        if mask.mode not in ("P", "L", "1") and not mask.mode.startswith("I"):
            raise ValueError(
                f"a mask must hold class indices (mode P or L), got a picture of mode {mask.mode!r}; map its "
                "colours to indices first"
            )
        turn = turn_upright(mask)
        array = np.asarray(mask if turn is None else mask.transpose(turn))
    elif isinstance(mask, (np.ndarray, torch.Tensor)):
        array = np.asarray(mask)
    else:
        raise TypeError(f"a mask must be a Pillow image, an array or a tensor, got {type(mask).__name__}")
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise ValueError(
            f"a mask must be whole numbers of shape (H, W), got {array.dtype} of shape {array.shape}"
        )
    if array.size and not (array.min() >= 0 and array.max() <= VOID):
        raise ValueError(
            f"a mask must hold labels from 0 to 254, or 255 for void, got {array.min()} to {array.max()}"
        )
    return array.astype(np.uint8)


class MaskRoot:
    """An indexable listing of images with masks; made by :func:`open_masks`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
        index: int64 array, each image's position in the full listing, before any `limit`.
        on_error: "raise" or "skip".

    Example:
        >>> listing = open_masks([(Image.new("RGB", (8, 6)), Image.new("L", (8, 6)))], split="val")
        >>> len(listing), listing.load(0)[1].shape
        (1, (6, 8))
    """

    def __init__(
        self,
        root: Any,
        *,
        split: Split,
        index: np.ndarray,
        folder: Path | None = None,
        names: Sequence[str] = (),
        on_error: OnError = "raise",
    ) -> None:
        self.root, self.split, self.index, self.on_error = root, split, index, on_error
        self._folder = folder
        self._names = np.array(
            [os.fsencode(name) for name in names]
        )  # see ImageRoot: few objects for workers

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"MaskRoot({self.name!r}, split={self.split!r}, images={len(self)})"

    @property
    def name(self) -> str:
        """The folder's own name (not where it lies), or the dataset's type."""
        return type(self.root).__name__ if self._folder is None else folder_name(self.root)

    def subset(self, positions: np.ndarray) -> MaskRoot:
        """The listing of some of its images, which keep their `index`.

        Args:
            positions: int64, in the order wanted.

        Returns:
            A new listing.
        """
        other = MaskRoot(
            self.root,
            split=self.split,
            index=self.index[positions],
            folder=self._folder,
            on_error=self.on_error,
        )
        other._names = self._names[positions] if len(self._names) else self._names
        return other

    def id(self, position: int) -> str:
        """The image's name in records: its file's name without ending, or its index.

        Args:
            position: 0 to len - 1.

        Returns:
            Such as "2007_000033" or "7".
        """
        return str(int(self.index[position])) if self._folder is None else os.fsdecode(self._names[position])

    def digest(self) -> str:
        """A SHA-256 of all ids: listings that share it hold the same images in the same order.

        Returns:
            64 hexadecimal digits.
        """
        ids = "\n".join(self.id(position) for position in range(len(self)))
        return hashlib.sha256(os.fsencode(ids) + subset_indices(self.root)).hexdigest()

    def load(self, position: int) -> tuple[Image.Image, np.ndarray]:
        """Reads and decodes one image and its mask.

        Args:
            position: 0 to len - 1.

        Returns:
            The image, upright and in RGB, and its labels (H, W) uint8.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if one cannot be read or used, with its name; if their sizes differ.
            TypeError: if a dataset yields something other than (PIL image, mask).
        """
        if self._folder is None:
            return self._load_item(int(self.index[position]))
        name = self.id(position)
        image = _opened(self._folder / "JPEGImages", name, (".jpg", ".jpeg", ".png"))
        mask = _opened(self._folder / "SegmentationClass", name, (".png",))
        return _pair(image, mask, f"{self._folder / 'SegmentationClass' / name}.png")

    def _load_item(self, index: int) -> tuple[Image.Image, np.ndarray]:
        try:
            item = self.root[index]
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"cannot read item {index} of the dataset: {error}; {_REMEDY}") from error
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], Image.Image)):
            kind = (
                tuple(type(part).__name__ for part in item) if isinstance(item, (tuple, list)) else type(item)
            )
            raise TypeError(
                f"`root` must be a dataset of (PIL image, mask), got {kind} from item {index}; leave "
                "transforms out of the dataset: resizing, blur and conversion are done here"
            )
        return _pair(item[0], item[1], f"item {index} of the dataset")

    def view(self, position: int, make: Callable[[Image.Image, np.ndarray], T]) -> T | Skipped:
        """Loads one image and makes something of it; a broken one is named or skipped, as `on_error` says.

        Args:
            position: 0 to len - 1.
            make: what to do with image and mask.

        Returns:
            What it made, or :class:`~blurlib.data.Skipped`.

        Raises:
            FileNotFoundError: see :meth:`load`; not under "skip".
            ValueError: see :meth:`load`; not under "skip".
            TypeError: see :meth:`load`.
        """
        try:
            return make(*self.load(position))
        except (FileNotFoundError, ValueError) as error:
            if self.on_error == "raise":
                raise
            return Skipped(self.id(position), str(error))


def _pair(image: Image.Image, mask: Any, place: str) -> tuple[Image.Image, np.ndarray]:
    """An image, upright, and its labels, which are upright already or turned like the stored photograph."""
    try:
        upright, labels = to_rgb(image), mask_array(mask)
        turn = turn_upright(image)
        if turn is not None and labels.shape == (image.height, image.width) != (
            upright.height,
            upright.width,
        ):
            labels = np.asarray(Image.fromarray(labels).transpose(turn))
        check_sizes(upright.size, labels)
    except ValueError as error:
        raise ValueError(f"cannot use {place}: {error}; {_REMEDY}") from error
    return upright, labels


def _opened(folder: Path, name: str, endings: Sequence[str]) -> Image.Image:
    for ending in endings:
        path = folder / f"{name}{ending}"
        if path.is_file():
            break
    else:
        raise FileNotFoundError(
            f"`root` lists {name!r}, got no {folder.name}/{name}{endings[0]} in {str(folder.parent)!r}; "
            f"{_REMEDY}"
        )
    try:
        with Image.open(path) as image:
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise ValueError(f"cannot read {path}: {type(error).__name__}: {error}; {_REMEDY}") from error
    return image


def open_masks(
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | MaskRoot,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
) -> MaskRoot:
    """Lists the images and masks of a Pascal VOC folder or of a dataset.

    Photographs are turned upright by their EXIF orientation. A mask whose sides are those of the stored
    photograph, swapped against the upright one, is turned with it. Where sizes do not tell (orientations 2 to
    4, square photographs), a mask counts as upright, as annotation tools show and store it; a mask with an
    EXIF orientation of its own is turned by that.

    Args:
        root: a folder as `torchvision.datasets.VOCSegmentation` has it: `VOCdevkit/VOC2012` inside it (or
            another single year, or that folder itself) with `ImageSets/Segmentation/<split>.txt`,
            `JPEGImages` and `SegmentationClass`; or a map-style dataset of (PIL image, mask) that takes the
            split's place; or a listing, of which another is made.
        split: "train" or "val".
        limit: take a seeded random subset of this many images; None takes all.
        seed: chooses the subset.
        on_error: what to do with a broken image or mask: "raise" with its path, or "skip" and count it.

    Returns:
        The listing.

    Raises:
        FileNotFoundError: if the folder or the list of the split is missing.
        ValueError: if there is no image, or an option is unknown.
        TypeError: if `root` is neither a folder nor a dataset with a length.

    Example:
        >>> open_masks([(Image.new("RGB", (8, 6)), Image.new("L", (8, 6)))], split="train")
        MaskRoot('list', split='train', images=1)
    """
    if split not in ("train", "val"):
        raise ValueError(f"`split` must be 'train' or 'val', got {split!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}")
    if isinstance(root, MaskRoot):
        if root.split != split:
            raise ValueError(f"`root` must list {split} images, got {root!r}; open it with split={split!r}")
        listing = root.subset(np.arange(len(root)))
        listing.on_error = on_error
    elif isinstance(root, (str, os.PathLike)):
        folder = _voc_folder(Path(root))
        names = _names(folder, split)
        listing = MaskRoot(
            root, split=split, index=np.arange(len(names)), folder=folder, names=names, on_error=on_error
        )
    elif not hasattr(root, "__len__") or not hasattr(root, "__getitem__"):
        raise TypeError(
            f"`root` must be a folder or a dataset with a length, got {type(root).__name__}; store a stream "
            "first"
        )
    else:
        listing = MaskRoot(root, split=split, index=np.arange(len(root)), on_error=on_error)
    if not len(listing):
        raise ValueError(f"`root` must hold at least one image of {split!r}, got none in {listing.name!r}")
    if limit is not None:
        check_integer("limit", limit, low=1, high=2**62)
        order = rng.permutation(len(listing), seed=seed, key=(0, _LIMIT))
        listing = listing.subset(np.sort(order[:limit]))
    return listing


def _voc_folder(root: Path) -> Path:
    """The folder that holds ImageSets, JPEGImages and SegmentationClass."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"`root` must be a folder in the layout of Pascal VOC, got {str(root)!r}, which is "
            f"{'a file' if root.exists() else 'not there'}"
        )
    inside = [root, root / "VOCdevkit" / "VOC2012", root / "VOC2012"]
    inside += sorted((root / "VOCdevkit").glob("VOC*")) if (root / "VOCdevkit").is_dir() else []
    for folder in inside:
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    there = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(
        f"`root` must hold VOCdevkit/VOC2012/ImageSets/Segmentation, got {str(root)!r} with {there}; pass "
        "what torchvision.datasets.VOCSegmentation takes as its root"
    )


def _names(folder: Path, split: Split) -> list[str]:
    path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"`root` must hold a list of its {split} images, got no {path}")
    return path.read_text(encoding="utf-8", errors="surrogateescape").split()  # as the system's names
