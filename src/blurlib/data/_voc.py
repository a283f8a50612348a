"""Images with label masks: folders in Pascal VOC's layout, datasets of (image, mask), and what a mask is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .._common import rng
from .._common.checks import check_integer
from ..metrics import VOID
from ..protocol import check_sizes, to_rgb, turn_upright
from ._files import contents, decoded
from ._listing import Listing, OnError, opened
from ._shards import MASKED
from ._splits import NAMES, Split, found_split

_LIMIT = 13  # purpose that keeps these draws apart from those of other modules

_COLOURS = (
    "map each colour of the palette to an index, labels[(rgb == colour).all(axis=-1)] = index, and "
    "store these (H, W) uint8 labels in mode L"
)


def mask_array(mask: Any, *, ignore_index: int = VOID, reduce_zero_label: bool = False) -> np.ndarray:
    """Convert a mask to an array of labels, and check it.

    Args:
        mask: a Pillow image of indices (mode P, L, 1, I), a NumPy array or a tensor (H, W) of whole numbers.
            An EXIF orientation of the mask's own is applied.
        ignore_index: the number, as the mask has it, of pixels that do not count.
        reduce_zero_label: 0 and 255 do not count either, and every other number is one less, as
            mmsegmentation does it for ADE20K.

    Returns:
        (H, W) uint8: labels from 0 to 254, 255 where a pixel does not count.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is a colour picture, has no (H, W), or labels outside 0 to 254.

    Example:
        >>> mask_array(Image.new("P", (3, 2), 7)).tolist()
        [[7, 7, 7], [7, 7, 7]]
        >>> mask_array(np.array([[0, 1, 150, 255]]), reduce_zero_label=True).tolist()
        [[255, 0, 149, 255]]
    """
    if isinstance(mask, Image.Image):
        if mask.mode not in ("P", "L", "1") and not mask.mode.startswith("I"):
            raise ValueError(
                "a mask must hold class indices (mode P or L), got a picture of mode "
                f"{mask.mode!r}; {_COLOURS}"
            )
        turn = turn_upright(mask)
        array = np.asarray(mask if turn is None else mask.transpose(turn))
    elif isinstance(mask, (np.ndarray, torch.Tensor)):
        array = np.asarray(mask)
    else:
        raise TypeError(f"a mask must be a Pillow image, an array or a tensor, got {type(mask).__name__}")
    if array.ndim != 2 or array.dtype.kind not in "biu":
        coloured = array.ndim == 3 and (array.shape[0] in (3, 4) or array.shape[-1] in (3, 4))
        raise ValueError(
            f"a mask must be whole numbers of shape (H, W), got {array.dtype} of shape {array.shape}"
            + (f"; {_COLOURS}" if coloured else "")
        )
    if array.dtype == np.uint8 and (ignore_index, reduce_zero_label) == (VOID, False):
        return array.copy()
    void = array == ignore_index
    if reduce_zero_label:
        void |= (array == 0) | (array == VOID)
    labels, lowest = array[~void], int(reduce_zero_label)
    if labels.size and not (lowest <= labels.min() and labels.max() < VOID):
        raise ValueError(
            f"a mask must hold labels from {lowest} to {VOID - 1}, or {ignore_index} for void, got "
            f"{labels.min()} to {labels.max()}; renumber it, or pass `ignore_index` if another number is void"
        )
    found = array.astype(np.uint8) - np.uint8(lowest)
    found[void] = VOID
    return found


class MaskListing(Listing[np.ndarray]):
    """An indexable listing of images with masks; made by :func:`open_masks`.

    Attributes:
        root: the folder as given, or the dataset.
        split: "train" or "val".
        found: the folder's or the mapping's name of the split, such as "validation"; empty for a dataset.
        columns: where items are mappings, the names of image and mask.
        ignore_index: the number of void, as the masks have it; :meth:`load` gives 255.
        reduce_zero_label: whether 0 is void, and other numbers one less.
        index: int64 array, each image's position in the full listing, before any `limit`.
        on_error: "raise" or "skip".

    Example:
        >>> listing = open_masks([(Image.new("RGB", (8, 6)), Image.new("L", (8, 6)))], split="val")
        >>> len(listing), listing.load(0)[1].shape
        (1, (6, 8))
    """

    _members = MASKED
    _target, _layout = "mask", "in the layout of Pascal VOC"
    ignore_index: int = VOID
    reduce_zero_label: bool = False
    _folder: Path  # with ImageSets, JPEGImages and SegmentationClass

    def _list_folder(self, folder: Path) -> list[bytes]:
        self._folder = _voc_folder(folder)
        lists = self._folder / "ImageSets" / "Segmentation"
        found = found_split(self.split, {path.stem for path in lists.glob("*.txt")})
        if found is None:
            raise FileNotFoundError(
                f"`root` must hold a list of its {self.split} images, got no "
                f"{', '.join(f'{name}.txt' for name in NAMES[self.split])} in {str(lists)!r}; write one "
                "with the name of an image, without its file extension, on each line"
            )
        self.found, path = found, lists / f"{found}.txt"
        names = path.read_text(encoding="utf-8", errors="surrogateescape").split()  # as the system's names
        outside = next((name for name in names if leaves(name)), None)
        if outside is not None:
            raise ValueError(
                f"`root` must list names of images below JPEGImages, got {outside!r} in {str(path)!r}; "
                "remove it from the list"
            )
        return [os.fsencode(name) for name in names]

    def _path(self, position: int) -> Path:
        return self._folder / "SegmentationClass" / f"{self.id(position)}.png"

    def _files(self, position: int) -> tuple[Path, ...]:
        return voc_image(self._folder, self.id(position)), self._path(position)

    def _read(self, position: int) -> tuple[Image.Image, Any]:
        image, mask = self._files(position)
        return decoded(image), decoded(mask)

    def _checked(self, image: Image.Image, target: Any) -> tuple[Image.Image, np.ndarray]:
        """Both upright: a mask may be already, or be turned as the photograph is stored."""
        upright, labels = (
            to_rgb(image),
            mask_array(target, ignore_index=self.ignore_index, reduce_zero_label=self.reduce_zero_label),
        )
        turn, stored = turn_upright(image), (image.height, image.width)
        if turn is not None and labels.shape == stored != (upright.height, upright.width):
            labels = np.asarray(Image.fromarray(labels).transpose(turn))
        check_sizes(upright.size, labels)
        return upright, labels

    def limited(self, limit: int, *, seed: int = 0) -> MaskListing:
        order = rng.permutation(len(self), seed=seed, key=(0, _LIMIT))
        return self.subset(np.sort(order[:limit]))


def open_masks(
    root: str | os.PathLike[str] | Dataset[Any] | Iterable[Any] | Mapping[str, Any] | MaskListing,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
    columns: Sequence[str] | None = None,
    ignore_index: int = VOID,
    reduce_zero_label: bool = False,
) -> MaskListing:
    """List the images and masks of a Pascal VOC folder or of a dataset.

    Photographs are turned upright by their EXIF orientation. A mask whose sides are those of the stored
    photograph, swapped against the upright one, is turned with it. Where sizes do not tell (orientations 2 to
    4, square photographs), a mask counts as upright, as annotation tools show and store it; a mask with an
    EXIF orientation of its own is turned by that.

    Args:
        root: a folder as `torchvision.datasets.VOCSegmentation` has it: `VOCdevkit/VOC2012` inside it (or
            another single year, or that folder itself) with `ImageSets/Segmentation/<split>.txt` (of val else
            validation.txt, valid.txt or test.txt), `JPEGImages` and `SegmentationClass`; or a dataset or
            stream (see :func:`open_images`) of (PIL image, mask) that takes the split's place, of mappings
            with these too, as Hugging Face's are; or tar shards, likewise; or a mapping of such datasets by
            the names of the splits; or a listing, of which another is made.
        split: "train" or "val".
        limit: take a seeded random subset of this many images, of a stream the first ones; None takes all.
        seed: chooses the subset.
        on_error: what to do with a broken image or mask: "raise" with its path, or "skip" and count it.
        columns: where items are mappings, the names of image and mask; None for ("image", "label").
        ignore_index: the number of pixels that do not count, as the masks have it, such as 0 or -1. Where
            `root` is a listing, that keeps its own unless another number is given; likewise below.
        reduce_zero_label: 0 and 255 do not count either, and every other number is one less, as
            mmsegmentation does it (ADE20K).

    Returns:
        The listing.

    Raises:
        FileNotFoundError: if the folder or the list of the split is missing.
        ValueError: if there is no image, or an option is unknown.
        TypeError: if `root` is neither a folder nor a dataset nor a stream, or an item of a stream is no
            image with a mask.

    Example:
        >>> open_masks([(Image.new("RGB", (8, 6)), Image.new("L", (8, 6)))], split="train")
        MaskListing('list', split='train', images=1)
    """
    check_integer("ignore_index", ignore_index, low=-(2**31), high=2**31)
    if not isinstance(reduce_zero_label, bool):
        raise TypeError(f"`reduce_zero_label` must be True or False, got {reduce_zero_label!r}")
    listing = opened(MaskListing, root, split=split, limit=limit, on_error=on_error, columns=columns)
    if limit is not None:
        listing = listing.limited(limit, seed=seed)
    if ignore_index != VOID:
        listing.ignore_index = ignore_index
    if reduce_zero_label:
        listing.reduce_zero_label = True
    return listing


def leaves(name: str) -> bool:
    """Whether a name leads out of the folder that it is joined to."""
    return ".." in re.split(r"[/\\]", name) or name[:1] in "/\\" or bool(os.path.splitdrive(name)[0])


def voc_image(folder: Path, name: str) -> Path:
    """The file of an image below `JPEGImages`; where there is none, the usual name."""
    path = folder / "JPEGImages" / name
    paths = [path.with_name(f"{path.name}{ending}") for ending in (".jpg", ".jpeg", ".png")]
    # Of a name that no system takes, Path.is_file would raise what it says.
    return next((path for path in paths if os.path.isfile(path)), paths[0])  # noqa: PTH113  see above


def voc_folder(root: Path, lists: str) -> Path | None:
    """The folder in Pascal VOC's layout, with lists of images in `ImageSets/<lists>`."""
    inside = [root, root / "VOCdevkit" / "VOC2012", root / "VOC2012", *sorted(root.glob("VOCdevkit/VOC*"))]
    return next((folder for folder in inside if (folder / "ImageSets" / lists).is_dir()), None)


def _voc_folder(root: Path) -> Path:
    folder = voc_folder(root, "Segmentation")
    if folder is not None:
        return folder
    raise FileNotFoundError(
        f"`root` must hold VOCdevkit/VOC2012/ImageSets/Segmentation, got {str(root)!r} with "
        f"{contents(root)}; pass what torchvision.datasets.VOCSegmentation takes as its root"
    )
