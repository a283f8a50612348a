"""Images with label masks: folders in Pascal VOC's layout, datasets of (image, mask), and what a mask is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .._common import rng
from .._common.checks import check_integer
from .._engine import planes
from ..blurs import Blur
from ..functional import Border, check_border
from ._images import blurred, random_crop, resized, to_rgb
from ._sizes import Resample, round_side


def check_sizes(size: tuple[int, int], mask: np.ndarray) -> None:
    """Refuse a mask (H, W) that is not of its image's (width, height)."""
    if mask.shape != (size[1], size[0]):
        raise ValueError(
            f"a mask must have the size of its image, got {mask.shape[1]} x {mask.shape[0]} px for an image "
            f"of {size[0]} x {size[1]} px"
        )


_GEOMETRY = 12  # purpose that keeps these draws apart from those of other modules
_MAX_SIDE = 16384


@dataclass(frozen=True, kw_only=True)
class SegmentationProtocol:
    """Every number of the protocol for images with masks (section 5 of the paper).

    Attributes:
        canonical_side: geometric mean of the sides in px at which blurs are defined.
        network_side: geometric mean of the sides in px at which the network sees the image; None for the
            canonical side; of several, training draws one for each image.
        network_size: (height, width) in px that every image is brought to instead, whatever its aspect: the
            input of the paper's network.
        crop: side of the square training crop in px; where the image is smaller, that side. None takes the
            whole image, and so does `network_size`.
        jitter: geometric means in px of which training takes one before the blur; None takes the canonical
            side (the paper describes no other for segmentation).
        resample: filter of the image's resizings, antialiased.
        border: what the blur takes to lie outside the image, see :func:`blurlib.blur`.

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is below 1, a tuple is empty, or the border is unknown.

    Example:
        >>> SegmentationProtocol().canonical_size(500, 375)
        (443, 333)
    """

    canonical_side: int = 384
    network_side: int | tuple[int, ...] | None = None
    network_size: tuple[int, int] | None = None
    crop: int | None = 320
    jitter: tuple[int, ...] | None = None
    resample: Resample = "bilinear"
    border: Border = "reflect"

    def __post_init__(self) -> None:
        """Checks every field; lists become tuples."""
        check_integer("canonical_side", self.canonical_side, low=1, high=_MAX_SIDE)
        check_border(self.border)
        for name in ("network_side", "network_size", "crop", "jitter"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, Sequence) and not isinstance(value, str):
                value = tuple(value)
                object.__setattr__(self, name, value)
            whole = value if isinstance(value, tuple) else (value,)
            if not whole:
                raise ValueError(f"`{name}` must hold at least one side in px, got {value!r}")
            for side in whole:
                check_integer(name, side, low=1, high=_MAX_SIDE)
        if self.network_size is not None and len(self.network_size) != 2:
            raise ValueError(f"`network_size` must be (height, width) in px, got {self.network_size!r}")
        if self.network_size is not None and self.network_side is not None:
            raise ValueError("`network_side` must be left out where `network_size` is given, got both")

    @property
    def network_sides(self) -> tuple[int, ...]:
        """The network sides; the canonical one where none is given."""
        if self.network_side is None:
            return (self.canonical_side,)
        return (self.network_side,) if isinstance(self.network_side, int) else self.network_side

    def canonical_size(self, width: int, height: int, *, side: int | None = None) -> tuple[int, int]:
        """Size of an image at the canonical side.

        Args:
            width: of the image in px.
            height: likewise.
            side: another geometric mean in px; None takes the canonical side.

        Returns:
            (width, height) in px, each rounded to nearest, halves up.
        """
        factor = (side or self.canonical_side) / math.sqrt(width * height)
        return max(1, round_side(width * factor)), max(1, round_side(height * factor))

    def network_shape(self, width: int, height: int, network_side: int) -> tuple[int, int]:
        """Size at which the network sees an image that is at the canonical side, or at one of the jitter.

        Args:
            width: before, in px.
            height: likewise.
            network_side: what a side of `canonical_side` px becomes.

        Returns:
            (width, height) in px.
        """
        if self.network_size is not None:
            return self.network_size[1], self.network_size[0]
        factor = network_side / self.canonical_side
        return max(1, round_side(width * factor)), max(1, round_side(height * factor))


def segmentation_view(
    image: Image.Image, blur: Blur, *, protocol: SegmentationProtocol, network_side: int | None = None
) -> torch.Tensor:
    """What the network sees of one image in an evaluation: canonical side, blur, 8 bits, network size.

    Args:
        image: a Pillow image of any mode; it is not modified.
        blur: in px at the canonical side.
        protocol: the sizes.
        network_side: one of `protocol.network_sides`; None takes the first.

    Returns:
        A uint8 tensor of shape (3, H, W).

    Raises:
        TypeError: if `image` is not a Pillow image.
        ValueError: if the image's mode has no defined range.

    Example:
        >>> from blurlib.blurs import Disk
        >>> view = segmentation_view(
        ...     Image.new("RGB", (500, 375)), Disk(4), protocol=SegmentationProtocol(network_size=(320, 320))
        ... )
        >>> view.shape
        torch.Size([3, 320, 320])
    """
    upright = to_rgb(image)
    array = resized(upright, protocol.canonical_size(*upright.size), resample=protocol.resample)
    array = blurred(array, blur, border=protocol.border)
    side = network_side or protocol.network_sides[0]
    array = resized(
        array, protocol.network_shape(array.shape[1], array.shape[0], side), resample=protocol.resample
    )
    return planes(array)


def training_pair(
    image: Image.Image,
    mask: np.ndarray,
    blur: Blur,
    *,
    protocol: SegmentationProtocol,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
    hflip: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One training image and its mask: first size, blur, 8 bits, network size, random crop, flip.

    The mask is taken at the nearest pixel of what the network sees, and is not blurred. The draws depend on
    (seed, epoch, index) alone.

    Args:
        image: a Pillow image of any mode; it is not modified.
        mask: (H, W) labels, of the size of the upright image.
        blur: in px at the canonical side.
        protocol: the sizes.
        seed: any integer.
        epoch: the epoch, from 0.
        index: the image's position in the full listing.
        hflip: probability of a mirror image, in [0, 1].

    Returns:
        A uint8 tensor (3, h, w) and an int64 tensor (h, w).

    Raises:
        TypeError: if `image` is not a Pillow image.
        ValueError: if the sizes of image and mask differ.

    Example:
        >>> from blurlib.blurs import Disk
        >>> picture, labels = training_pair(
        ...     Image.new("RGB", (500, 375)), np.zeros((375, 500), np.uint8), Disk(4),
        ...     protocol=SegmentationProtocol(crop=256),
        ... )
        >>> picture.shape, labels.shape
        (torch.Size([3, 256, 256]), torch.Size([256, 256]))
    """
    upright = to_rgb(image)
    check_sizes(upright.size, mask)
    draws = rng.uniform(5, seed=seed, key=(epoch, index, _GEOMETRY)).tolist()
    firsts = protocol.jitter or (protocol.canonical_side,)
    first = protocol.canonical_size(*upright.size, side=firsts[int(draws[0] * len(firsts))])
    side = protocol.network_sides[int(draws[1] * len(protocol.network_sides))]
    array = blurred(resized(upright, first, resample=protocol.resample), blur, border=protocol.border)
    seen = protocol.network_shape(*first, side)
    array = resized(array, seen, resample=protocol.resample)
    labels = np.asarray(Image.fromarray(mask).resize(seen, Image.Resampling.NEAREST))
    if protocol.crop is not None and protocol.network_size is None:
        height, width = (min(protocol.crop, size) for size in labels.shape)
        top, _ = random_crop(labels.shape[0], labels.shape[0], height, (draws[2], 0.0))
        _, left = random_crop(labels.shape[1], labels.shape[1], width, (0.0, draws[3]))
        array, labels = (each[top : top + height, left : left + width] for each in (array, labels))
    if draws[4] < hflip:
        array, labels = array[:, ::-1], labels[:, ::-1]
    return planes(array), torch.from_numpy(labels.astype(np.int64))
