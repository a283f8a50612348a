"""What a network is shown of an image, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from .._common import rng
from .._common.checks import check_indices, check_integer, check_whole, one_of
from .._common.devices import sent
from .._engine import planes
from ..blurs import Blur
from ._images import blurred, check_sizes, crop_boxes, random_crop, to_canonical, to_network, to_rgb
from ._sizes import Crops, Measure, Protocol

Target = TypeVar("Target")

# The third word of the keys drawn here, by measure; the mix's draws have their own (see rng).
_GEOMETRY = {"shorter": 11, "geometric": 12}


def training_view(
    image: Image.Image,
    target: Target,
    blur: Blur,
    *,
    protocol: Protocol,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
    hflip: float = 0.0,
) -> tuple[torch.Tensor, Target]:
    """One training image: first size, blur, 8 bits, network size, random crop, flip (section 4).

    The first size, the network side, the crop and the flip depend on (seed, epoch, index) alone, and each on
    its own number, so that a change of one setting leaves the other draws as they were. A mask follows its
    image, at the nearest pixel of what the network sees, and is never blurred.

    Args:
        image: a Pillow image of any mode; it is not modified.
        target: a mask, (H, W) uint8 of the upright image's size; a label, or anything else, is returned as it
            is.
        blur: the blur, in px at the canonical side.
        protocol: the sizes.
        seed: any integer.
        epoch: the epoch, from 0.
        index: the image's position in the full sorted listing.
        hflip: probability of a mirror image, in [0, 1]. The flip comes last, after the blur.

    Returns:
        A uint8 tensor of shape (3, h, w), see :meth:`Protocol.training_crop`, and the target, a mask of shape
        (h, w).

    Raises:
        TypeError: see :func:`to_canonical`.
        ValueError: see :func:`to_canonical` and :func:`blurred`; if the sizes of image and mask differ.

    Example:
        >>> from blurlib.blurs import Disk
        >>> photo, mask = Image.new("RGB", (500, 375)), np.zeros((375, 500), np.uint8)
        >>> view, label = training_view(photo, 7, Disk(4), protocol=Protocol(), index=3)
        >>> view.shape, label
        (torch.Size([3, 224, 224]), 7)
        >>> view, labels = training_view(photo, mask, Disk(4), protocol=Protocol(measure="geometric"))
        >>> view.shape, labels.shape
        (torch.Size([3, 320, 320]), (320, 320))
    """
    first, second, *corner, flip = _draws(seed, epoch, index, protocol.measure)
    first_side = protocol.first_sides[int(first * len(protocol.first_sides))]
    network_side = protocol.network_sides[int(second * len(protocol.network_sides))]
    array = to_canonical(image, first_side, measure=protocol.measure, resample=protocol.resample)
    array = to_network(blurred(array, blur, border=protocol.border), network_side, protocol=protocol)
    height, width = array.shape[:2]
    crop = protocol.training_crop(network_side)
    size = min(crop, height), min(crop, width)
    top, left = random_crop(height, width, size, corner)

    def cut(whole: np.ndarray) -> np.ndarray:
        part = whole[top : top + size[0], left : left + size[1]]
        return part[:, ::-1] if flip < hflip else part

    if isinstance(target, np.ndarray):
        check_sizes(to_rgb(image).size, target)
        seen = Image.fromarray(target).resize((width, height), Image.Resampling.NEAREST)
        target = cut(np.asarray(seen))  # type: ignore[assignment]  # an array as well
    return planes(cut(array)), target


def _draws(seed: int, epoch: int, index: int, measure: Measure) -> list[float]:
    """For the first size, the network side, the crop's row and column, the flip."""
    draws: list[float] = rng.uniform(5, seed=seed, key=(epoch, index, _GEOMETRY[measure])).tolist()
    return draws


def training_crops(
    images: torch.Tensor,
    indices: Iterable[int],
    *,
    crop: int,
    seed: int = 0,
    epoch: int = 0,
    hflip: float = 0.0,
    measure: Measure = "shorter",
) -> torch.Tensor:
    """Random crops of a batch on its device, at the places that :func:`training_view` draws for these images.

    Nothing waits for a GPU where `indices` are on the CPU. Masks are cropped alike by a second call.

    Args:
        images: shape (B, ..., H, W), of any type; not modified.
        indices: of the images in the listing, as in :meth:`blurlib.BlurMixSampler.__call__`.
        crop: side in px; where a side of the images is less, it is that side.
        seed: any integer.
        epoch: from 0.
        hflip: probability of a mirror image, in [0, 1].
        measure: the protocol's.

    Returns:
        A tensor (B, ..., h, w) of the same type, on the same device; its memory is channels last.

    Raises:
        TypeError: if `images` is not a tensor, or `indices`, `crop` or `epoch` are not whole numbers.
        ValueError: if the images are not a batch, `indices` are not one each, or a number is out of range.

    Example:
        >>> training_crops(torch.zeros(2, 3, 256, 256, dtype=torch.uint8), [7, 8], crop=224).shape
        torch.Size([2, 3, 224, 224])
    """
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"`images` must be a tensor (B, ..., H, W), got {type(images).__name__}")
    if images.ndim < 3:
        raise ValueError(f"`images` must be a batch (B, ..., H, W), got shape {tuple(images.shape)}")
    numbers = check_indices(indices)
    if len(numbers) != len(images):
        raise ValueError(f"`indices` must name each of the {len(images)} images, got {len(numbers)}")
    epoch = check_whole("epoch", epoch)
    if not 0 <= hflip <= 1:
        raise ValueError(f"`hflip` must be a probability from 0 to 1, got {hflip!r}; 0.5 mirrors half")
    one_of("measure", measure, _GEOMETRY)
    check_integer("crop", crop, low=1, high=2**20)
    height, width = images.shape[-2:]
    high, wide = min(crop, height), min(crop, width)
    places = []
    for number in numbers:
        _, _, *corner, flip = _draws(seed, epoch, number, measure)
        top, left = random_crop(height, width, (high, wide), corner)
        places.append((top, left + wide - 1, -1) if flip < hflip else (top, left, 1))
    tops, firsts, steps = sent(torch.tensor(places, dtype=torch.int64).view(-1, 3, 1), images.device).unbind(
        1
    )
    rows = (tops + torch.arange(high, device=images.device))[:, :, None]
    columns = (firsts + steps * torch.arange(wide, device=images.device))[:, None]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    planes_of = images.unsqueeze(1).flatten(1, -3)
    cut = planes_of[which, :, rows, columns].movedim(-1, 1)
    return cut.reshape(*images.shape[:-2], high, wide)


def evaluation_views(
    image: Image.Image,
    blurs: Sequence[Blur],
    *,
    protocol: Protocol,
    crops: Crops = "center",
    restore: Callable[[np.ndarray, Blur], np.ndarray] | None = None,
) -> dict[tuple[int, int], torch.Tensor]:
    """The network's views of one image under every blur at every network side (section 3).

    Args:
        image: a Pillow image of any mode; it is not modified.
        blurs: the blurs, in px at the canonical side.
        protocol: the sizes; where the shorter side is smaller than `crop`, the crop is that side.
        crops: "center", "five" (see :func:`crop_boxes`) or "dense", the whole image.
        restore: what happens to each blurred image, uint8 (H, W, 3), before it is resized; it is given the
            blur too. None: nothing.

    Returns:
        For each (position in `blurs`, network side) a uint8 tensor of shape (crops, 3, c, c), for "dense" (1,
        3, H, W).

    Raises:
        TypeError: see :func:`to_canonical`.
        ValueError: see :func:`to_canonical`, :func:`blurred` and :func:`crop_boxes`.

    Example:
        >>> from blurlib.blurs import Disk, Sharp
        >>> photo, protocol = Image.new("RGB", (500, 375)), Protocol(network_side=(128, 256))
        >>> views = evaluation_views(photo, [Sharp(), Disk(8)], protocol=protocol)
        >>> views[1, 256].shape, views[1, 128].shape
        (torch.Size([1, 3, 224, 224]), torch.Size([1, 3, 128, 128]))
    """
    canonical = to_canonical(
        image, protocol.canonical_side, measure=protocol.measure, resample=protocol.resample
    )
    views = {}
    for position, blur in enumerate(blurs):
        array = blurred(canonical, blur, border=protocol.border)
        if restore is not None:
            array = restore(array, blur)
        for side in protocol.network_sides:
            seen = to_network(array, side, protocol=protocol)
            height, width = seen.shape[:2]
            if crops == "dense":
                views[position, side] = planes(seen)[None]
            else:
                assert protocol.crop is not None  # filled in
                boxes = crop_boxes(height, width, protocol.crop, mode=crops)
                cut = [planes(seen[top : top + size, left : left + size]) for top, left, size in boxes]
                views[position, side] = torch.stack(cut)
    return views
