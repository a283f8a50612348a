"""Images with label masks: folders in Pascal VOC's layout, datasets of (image, mask), and what a mask is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .._common import rng
from ..metrics import VOID
from ..protocol import check_sizes, to_rgb, turn_upright
from ._listing import Listing, OnError, Split, contents, decoded, opened

_LIMIT = 13  # purpose that keeps these draws apart from those of other modules


def mask_array(mask: Any) -> np.ndarray:
    """Convert a mask to an array of labels, and check it.

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


class MaskListing(Listing[np.ndarray]):
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

    _target, _layout = "mask", "in the layout of Pascal VOC"
    _folder: Path  # with ImageSets, JPEGImages and SegmentationClass

    def _list_folder(self, folder: Path) -> list[bytes]:
        self._folder = _voc_folder(folder)
        path = self._folder / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"`root` must hold a list of its {self.split} images, got no {path}")
        names = path.read_text(encoding="utf-8", errors="surrogateescape").split()  # as the system's names
        return [os.fsencode(name) for name in names]

    def _path(self, position: int) -> Path:
        return self._folder / "SegmentationClass" / f"{self.id(position)}.png"

    def _read(self, position: int) -> tuple[Image.Image, Any]:
        name = self._folder / "JPEGImages" / self.id(position)
        paths = [name.with_name(f"{name.name}{ending}") for ending in (".jpg", ".jpeg", ".png")]
        path = next((path for path in paths if path.is_file()), paths[0])
        return decoded(path), decoded(self._path(position))

    def _checked(self, image: Image.Image, target: Any) -> tuple[Image.Image, np.ndarray]:
        """Both upright: a mask may be already, or be turned as the photograph is stored."""
        upright, labels = to_rgb(image), mask_array(target)
        turn, stored = turn_upright(image), (image.height, image.width)
        if turn is not None and labels.shape == stored != (upright.height, upright.width):
            labels = np.asarray(Image.fromarray(labels).transpose(turn))
        check_sizes(upright.size, labels)
        return upright, labels

    def limited(self, limit: int, *, seed: int = 0) -> MaskListing:
        order = rng.permutation(len(self), seed=seed, key=(0, _LIMIT))
        return self.subset(np.sort(order[:limit]))


def open_masks(
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | MaskListing,
    *,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    on_error: OnError = "raise",
) -> MaskListing:
    """List the images and masks of a Pascal VOC folder or of a dataset.

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
        MaskListing('list', split='train', images=1)
    """
    return opened(MaskListing, root, split=split, limit=limit, seed=seed, on_error=on_error)


def _voc_folder(root: Path) -> Path:
    inside = [root, root / "VOCdevkit" / "VOC2012", root / "VOC2012", *sorted(root.glob("VOCdevkit/VOC*"))]
    for folder in inside:
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    raise FileNotFoundError(
        f"`root` must hold VOCdevkit/VOC2012/ImageSets/Segmentation, got {str(root)!r} with "
        f"{contents(root)}; pass what torchvision.datasets.VOCSegmentation takes as its root"
    )
