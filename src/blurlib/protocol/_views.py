"""What a network is shown of an image, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from .._common import rng
from .._engine import planes
from ..blurs import Blur
from ..functional import Border
from ._images import blurred, crop_boxes, random_crop, to_canonical, to_network
from ._sizes import Crops, Protocol, Resample

# The third word of the keys drawn here; the mix's draws have their own (see randomness).
_GEOMETRY = 11


def training_view(
    image: Image.Image,
    blur: Blur,
    *,
    protocol: Protocol,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
    hflip: float = 0.0,
) -> torch.Tensor:
    """One training image: first size, blur, 8 bits, network size, random crop (section 4).

    The first size, the network side, the crop and the flip depend on (seed, epoch, index) alone, and each on
    its own number, so that a change of one setting leaves the other draws as they were.

    Args:
        image: a Pillow image of any mode; it is not modified.
        blur: the blur, in px at the canonical side.
        protocol: the sizes.
        seed: any integer.
        epoch: the epoch, from 0.
        index: the image's position in the full sorted listing.
        hflip: probability of a mirror image, in [0, 1]. The flip comes last, after the blur.

    Returns:
        A uint8 tensor of shape (3, c, c) with c = `protocol.training_crop(network side)`.

    Raises:
        TypeError: see :func:`to_canonical`.
        ValueError: see :func:`to_canonical` and :func:`blurred`.

    Example:
        >>> from blurlib.blurs import Disk
        >>> training_view(Image.new("RGB", (500, 375)), Disk(4), protocol=Protocol(), index=3).shape
        torch.Size([3, 224, 224])
    """
    first, second, row, column, flip = rng.uniform(5, seed=seed, key=(epoch, index, _GEOMETRY)).tolist()
    first_side = protocol.first_sides[int(first * len(protocol.first_sides))]
    network_side = protocol.network_sides[int(second * len(protocol.network_sides))]
    array = to_canonical(image, first_side, resample=protocol.resample)
    array = blurred(array, blur, border=protocol.border)
    array = to_network(
        array, network_side=network_side, canonical_side=protocol.canonical_side, resample=protocol.resample
    )
    size = protocol.training_crop(network_side)
    top, left = random_crop(array.shape[0], array.shape[1], size, (row, column))
    array = array[top : top + size, left : left + size]
    if flip < hflip:
        array = array[:, ::-1]
    return planes(array)


def evaluation_views(
    image: Image.Image,
    blurs: Sequence[Blur],
    *,
    sides: Sequence[int] = (256,),
    canonical_side: int = 384,
    crop: int = 224,
    crops: Crops = "center",
    resample: Resample = "bilinear",
    border: Border = "reflect",
    restore: Callable[[np.ndarray, Blur], np.ndarray] | None = None,
) -> dict[tuple[int, int], torch.Tensor]:
    """What the network sees of one image under every blur at every side (section 3), decoded once.

    Args:
        image: a Pillow image of any mode; it is not modified.
        blurs: the blurs, in px at the canonical side.
        sides: network sides in px.
        canonical_side: the side at which blurs are defined, in px.
        crop: side of the crops in px; where the shorter side is smaller, the crop is that side.
        crops: "center", "five" (see :func:`crop_boxes`) or "dense", the whole image.
        resample: the filter of both resizings.
        border: what the blurs take to lie outside the image, see :func:`blurlib.blur`.
        restore: what happens to each blurred image, uint8 (H, W, 3), before it is resized; it is told the
            blur. None: nothing.

    Returns:
        For each (position in `blurs`, side) a uint8 tensor of shape (crops, 3, c, c), for "dense" (1, 3, H,
        W).

    Raises:
        TypeError: see :func:`to_canonical`.
        ValueError: see :func:`to_canonical`, :func:`blurred` and :func:`crop_boxes`.

    Example:
        >>> from blurlib.blurs import Disk, Sharp
        >>> views = evaluation_views(Image.new("RGB", (500, 375)), [Sharp(), Disk(8)], sides=(128, 256))
        >>> views[1, 256].shape, views[1, 128].shape
        (torch.Size([1, 3, 224, 224]), torch.Size([1, 3, 128, 128]))
    """
    canonical = to_canonical(image, canonical_side, resample=resample)
    views = {}
    for position, blur in enumerate(blurs):
        array = blurred(canonical, blur, border=border)
        if restore is not None:
            array = restore(array, blur)
        for side in sides:
            seen = to_network(array, network_side=side, canonical_side=canonical_side, resample=resample)
            if crops == "dense":
                views[position, side] = planes(seen)[None]
            else:
                boxes = crop_boxes(seen.shape[0], seen.shape[1], crop, mode=crops)
                cut = [planes(seen[top : top + size, left : left + size]) for top, left, size in boxes]
                views[position, side] = torch.stack(cut)
    return views
