"""The paper's protocol: canonical side, blur, 8 bits, network side, crops (sections 3 and 4).

A blur has a meaning only at a stated image size. Every image is therefore brought to one canonical size
(shorter side 384 px), blurred there, rounded to 8 bits and only then resized to the side at which the network
sees it. In training the first size varies a little (356, 384 or 410 px, object-scale jitter) while the second
factor does not, so that one blur always has one size at the network.

The functions are pure: image in, array out, and every random choice is a function of (seed, epoch, index).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from . import convolution, randomness
from ._engine import planes
from ._model_config import config_values
from .blurs import Blur, Sharp, kept_kernel
from .convolution import Border, check_border
from .kernels import check_integer

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Average",
    "Crops",
    "Protocol",
    "Resample",
    "blurred",
    "crop_boxes",
    "evaluation_views",
    "normalisation",
    "normalisation_source",
    "normalised",
    "random_crop",
    "resized",
    "round_side",
    "shorter_side_size",
    "to_canonical",
    "to_network",
    "to_rgb",
    "training_view",
    "turn_upright",
]

Average = Literal["crops", "scales"]
Crops = Literal["center", "five", "dense"]
Resample = Literal["bilinear", "bicubic", "box", "lanczos"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
_NORMALISING = (transforms.Normalize, v2.Normalize)
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A 1 x 10 000 px file would become 384 x 3 840 000 px, 4 GB. At 200:1 a canonical image is under 100 MB.
_MAX_ASPECT = 200
_MAX_SIDE = 16384
# The third word of the keys drawn here; the mix's draws have their own (see randomness).
_GEOMETRY = 11


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every number of the protocol (sections 3 and 4 of the paper).

    Attributes:
        canonical_side: shorter side in px at which blurs are defined.
        network_side: shorter side in px at which the network sees the image (the paper's scale); several
            sides mean that training draws one of them for each image (section 4.2).
        crop: side of the square training crop in px.
        jitter: shorter sides in px of which training takes one before the blur; None means the paper's 356,
            384 and 410, times canonical_side / 384.
        resample: filter of both resizings, antialiased. The paper does not name one; bilinear is what
            torchvision's pipelines, and so most networks, were trained with.
        border: what the blur takes to lie outside the image, see :func:`blurlib.blur` (not in the paper).

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is below 1, a tuple is empty, or the filter or the border is unknown.

    Example:
        >>> Protocol().first_sides, Protocol(canonical_side=192).first_sides
        ((356, 384, 410), (178, 192, 205))
    """

    canonical_side: int = 384
    network_side: int | tuple[int, ...] = 256
    crop: int = 224
    jitter: tuple[int, ...] | None = None
    resample: Resample = "bilinear"
    border: Border = "reflect"

    def __post_init__(self) -> None:
        """Checks every field; lists become tuples."""
        check_integer("canonical_side", self.canonical_side, low=1, high=_MAX_SIDE)
        check_integer("crop", self.crop, low=1, high=_MAX_SIDE)
        if isinstance(self.network_side, int):
            check_integer("network_side", self.network_side, low=1, high=_MAX_SIDE)
        else:
            object.__setattr__(self, "network_side", _check_sides("network_side", self.network_side))
        if self.jitter is not None:
            object.__setattr__(self, "jitter", _check_sides("jitter", self.jitter))
        _filter(self.resample)
        check_border(self.border)

    @property
    def network_sides(self) -> tuple[int, ...]:
        """The network sides as a tuple, one entry where there is one."""
        return (self.network_side,) if isinstance(self.network_side, int) else self.network_side

    @property
    def first_sides(self) -> tuple[int, ...]:
        """The shorter sides of which training takes one before the blur."""
        if self.jitter is not None:
            return self.jitter
        return tuple(max(1, round_side(side * self.canonical_side / 384)) for side in (356, 384, 410))

    def training_crop(self, network_side: int) -> int:
        """Side of the training crop at one network side.

        It is `crop`, or the smallest shorter side that the jitter can produce where that is less (119 px at
        network side 128), so that the images of one network side always stack to a batch.

        Args:
            network_side: one of `network_sides`, in px.

        Returns:
            The side in px.

        Example:
            >>> Protocol().training_crop(256), Protocol(network_side=128).training_crop(128)
            (224, 119)
        """
        return min(self.crop, _scaled(min(self.first_sides), network_side, self.canonical_side))


def _check_sides(name: str, sides: object) -> tuple[int, ...]:
    if isinstance(sides, str) or not isinstance(sides, Sequence):
        raise TypeError(f"`{name}` must hold whole numbers of pixels, such as (256, 512), got {sides!r}")
    if not sides:
        raise ValueError(f"`{name}` must hold at least one side in px, got {sides!r}")
    return tuple(check_integer(name, side, low=1, high=_MAX_SIDE) for side in sides)


def _filter(resample: str) -> Image.Resampling:
    if resample not in _FILTERS:
        raise ValueError(f"`resample` must be one of {', '.join(_FILTERS)}, got {resample!r}")
    return _FILTERS[resample]


def round_side(side: float) -> int:
    """Rounds a length in px to the nearest integer, halves up.

    Args:
        side: a length in px, at least 0.

    Returns:
        The rounded length.

    Example:
        >>> round_side(237.33), round_side(2.5)
        (237, 3)
    """
    return math.floor(side + 0.5)


def _scaled(size: int, numerator: int, denominator: int) -> int:
    # In integers, so that no side depends on how a quotient was rounded.
    return max(1, (2 * size * numerator + denominator) // (2 * denominator))


def shorter_side_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Size of an image whose shorter side becomes `side`.

    Args:
        width: width in px.
        height: height in px.
        side: the shorter side wanted, in px.

    Returns:
        (width, height) in px; the longer one is rounded to nearest, halves up (torchvision cuts it off).

    Example:
        >>> shorter_side_size(500, 375, 384)
        (512, 384)
    """
    shorter = min(width, height)
    return _scaled(width, side, shorter), _scaled(height, side, shorter)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turns any decoded image into upright 8-bit RGB.

    - The EXIF orientation is applied, once: the camera's blur and the object are upright as people see them.
      What comes back has no orientation any more, so that converting it again changes nothing.
    - Transparent images (RGBA, LA, palettes and colours marked transparent) are laid on white, as a page
      shows them; what lies under a transparent pixel is arbitrary. A marked colour of 16 bits a channel is
      compared in 8, all that Pillow reads of such files.
    - 16-bit grey is scaled by 255 / 65535 and rounded (Pillow's own conversions cut off in some versions).
      Mode "I" counts as 16 bits: Pillow opens 16-bit PNG files as that in some versions.
    - Grey is repeated; CMYK, YCbCr and palettes are converted by Pillow's formulas, colour profiles are
      ignored.

    Args:
        image: a Pillow image; it is not modified.

    Returns:
        A Pillow image of mode RGB.

    Raises:
        TypeError: if `image` is not a Pillow image.
        ValueError: if the mode has no defined range (floating point, integers beyond 16 bits) or no
            conversion.

    Example:
        >>> to_rgb(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"`image` must be a Pillow image, got {type(image).__name__}; wrap arrays in Image.fromarray"
        )
    turn = turn_upright(image)
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.size and (levels.min() < 0 or levels.max() > 65535):
            raise ValueError(
                f"`image` of mode {image.mode!r} must hold values between 0 and 65535, got "
                f"{levels.min()} to {levels.max()}; scale it to 8 or 16 bits first"
            )
        if key is not None:
            levels[levels == key] = 65535  # here: in 8 bits other levels are no longer told from it
        image = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    elif isinstance(key, tuple) and max(key) > 255:  # of a file of 16 bits a channel
        image = image.copy()
        image.info["transparency"] = tuple(level >> 8 for level in key)  # as Pillow has done to the pixels
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        if image.mode == "La":  # Pillow has no direct way from premultiplied grey
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode == "F":
        raise ValueError(
            "`image` must have a defined range, got mode 'F' (floating point); convert it to 8 bits first"
        )
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
        image.info = {}  # the orientation with it, whichever of EXIF and XMP told it
    return image


def turn_upright(image: Image.Image) -> Image.Transpose | None:
    """What turns a decoded image upright: its orientation by EXIF.

    Args:
        image: a Pillow image; it is not modified.

    Returns:
        For `image.transpose`; None where the image is upright, or does not say.

    Example:
        >>> turn_upright(Image.new("RGB", (2, 2))) is None
        True
    """
    image.load()  # before the orientation is read: Pillow itself turns TIFF files upright as it decodes them
    return _UPRIGHT.get(_orientation(image))


def _orientation(image: Image.Image) -> int:
    # Broken EXIF is common in web photographs and says nothing about the pixels: the image counts as upright.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # Pillow's parsers raise whatever the bytes lead to
            return 1
    return orientation if isinstance(orientation, int) else 1


def to_canonical(image: Image.Image, side: int = 384, *, resample: Resample = "bilinear") -> np.ndarray:
    """Upright RGB with the shorter side at `side` px: where blurs are defined (section 3).

    Small images are enlarged, so that a blur means the same in every image. See :func:`to_rgb` for what
    happens to other colour modes.

    Args:
        image: a Pillow image of any mode; it is not modified.
        side: the shorter side in px.
        resample: the filter; antialiased where the image shrinks.

    Returns:
        A uint8 array of shape (H, W, 3).

    Raises:
        TypeError: if `image` is not a Pillow image.
        ValueError: if the image is empty, more than 200 times longer than wide, or of a mode without defined
            range.

    Example:
        >>> to_canonical(Image.new("L", (500, 375)), 384).shape
        (384, 512, 3)
    """
    image = to_rgb(image)
    width, height = image.size
    if min(width, height) < 1 or max(width, height) > _MAX_ASPECT * min(width, height):
        raise ValueError(
            f"`image` must have pixels and an aspect ratio of at most {_MAX_ASPECT}:1, "
            f"got {width} x {height} px; crop it or leave it out"
        )
    return resized(image, shorter_side_size(width, height, side), resample=resample)


def blurred(array: np.ndarray, blur: Blur, *, border: Border = "reflect") -> np.ndarray:
    """Blurs an 8-bit image and rounds to 8 bits (section 3).

    Args:
        array: uint8, shape (H, W, 3); it is not modified.
        blur: the blur, in pixels of this array.
        border: what lies outside the image, see :func:`blurlib.blur`.

    Returns:
        A uint8 array of shape (H, W, 3); for :class:`~blurlib.blurs.Sharp` the same array.

    Raises:
        ValueError: if the blur is an image's own shake, which has no kernel until one is chosen, or the
            border is unknown.

    Example:
        >>> from blurlib.blurs import Disk
        >>> int(blurred(np.full((9, 9, 3), 7, np.uint8), Disk(2)).max())
        7
    """
    if isinstance(blur, Sharp):
        check_border(border)
        return array
    return convolution.blur(array, kept_kernel(blur), border=border)


def to_network(
    array: np.ndarray, *, network_side: int, canonical_side: int = 384, resample: Resample = "bilinear"
) -> np.ndarray:
    """Resizes by network_side / canonical_side, whatever the array's own size (section 4).

    Args:
        array: uint8, shape (H, W, 3); it is not modified.
        network_side: what a side of `canonical_side` px becomes, in px.
        canonical_side: the side at which blurs are defined, in px.
        resample: the filter; antialiased where the image shrinks.

    Returns:
        A uint8 array of shape (H', W', 3), both sides rounded to nearest, halves up; the same array if the
        size is.

    Example:
        >>> to_network(np.zeros((356, 475, 3), np.uint8), network_side=256).shape
        (237, 317, 3)
    """
    height, width = array.shape[:2]
    size = (_scaled(width, network_side, canonical_side), _scaled(height, network_side, canonical_side))
    return resized(array, size, resample=resample)


def resized(
    image: np.ndarray | Image.Image, size: tuple[int, int], *, resample: Resample = "bilinear"
) -> np.ndarray:
    """Resizes an image, antialiased where it shrinks.

    Args:
        image: uint8, shape (H, W, 3), or a Pillow image of mode RGB; it is not modified.
        size: (width, height) in px.
        resample: the filter.

    Returns:
        A uint8 array of shape (height, width, 3); the same array if it has that size.

    Raises:
        ValueError: if the filter is unknown.

    Example:
        >>> resized(np.zeros((4, 6, 3), np.uint8), (3, 2)).shape
        (2, 3, 3)
    """
    if isinstance(image, np.ndarray):
        if size == (image.shape[1], image.shape[0]):
            return image
        image = Image.fromarray(image)
    return np.array(image if size == image.size else image.resize(size, _filter(resample)))


def crop_boxes(
    height: int, width: int, crop: int, *, mode: Literal["center", "five"] = "center"
) -> tuple[tuple[int, int, int], ...]:
    """Where the square crops of an evaluation lie; the same places as torchvision's CenterCrop and FiveCrop.

    Args:
        height: height of the image in px.
        width: width of the image in px.
        crop: side of the crop in px; where the shorter side is smaller, the crop is that side.
        mode: "center" for one crop, "five" for the four corners (row by row) and the centre.

    Returns:
        One (top, left, size) in px for each crop.

    Raises:
        ValueError: if `mode` is unknown.

    Example:
        >>> crop_boxes(256, 341, 224)
        ((16, 58, 224),)
    """
    size = min(crop, height, width)
    bottom, right = height - size, width - size
    # round() takes halves to even, which is torchvision's rule too.
    center = (round(bottom / 2), round(right / 2), size)
    if mode == "center":
        return (center,)
    if mode == "five":
        return ((0, 0, size), (0, right, size), (bottom, 0, size), (bottom, right, size), center)
    raise ValueError(f"`mode` must be 'center' or 'five', got {mode!r}")


def random_crop(height: int, width: int, size: int, draws: Sequence[float]) -> tuple[int, int]:
    """Corner of a random crop, every place equally likely.

    Args:
        height: height of the image in px, at least `size`.
        width: width of the image in px, at least `size`.
        size: side of the crop in px.
        draws: two numbers in [0, 1), for the row and for the column.

    Returns:
        (top, left) in px.

    Example:
        >>> random_crop(237, 317, 224, (0.0, 0.999))
        (0, 93)
    """
    return int(draws[0] * (height - size + 1)), int(draws[1] * (width - size + 1))


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
    first, second, row, column, flip = randomness.uniform(
        5, seed=seed, key=(epoch, index, _GEOMETRY)
    ).tolist()
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


def normalisation(
    model: torch.nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a network's input is normalised with, in training and in evaluation.

    Args:
        model: the network; a timm model carries both in `pretrained_cfg` (or `default_cfg`), and is found in
            any wrapper of torch's or of this library.
        mean: three values in [0, 1], or None for the model's own, and ImageNet's where it has none.
        std: three values in (0, 1], or None likewise.

    Returns:
        (mean, std), three floats each.

    Raises:
        TypeError: if one is not a sequence of numbers.
        ValueError: if one has not three values in its range, networks inside `model` have different ones, or
            `model` normalises by a layer of its own.

    Example:
        >>> normalisation(torch.nn.Identity(), None, (0.5, 0.5, 0.5))
        ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
    """
    means = _triple("mean", _chosen(model, "mean", mean, IMAGENET_MEAN), low=0.0)
    # Above 0: a number as small as 1 / 255 is the standard deviation of networks that take 0 to 255.
    stds = _triple("std", _chosen(model, "std", std, IMAGENET_STD), low=1e-9)
    return means, stds


def normalisation_source(
    model: torch.nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> str:
    """Where the values of :func:`normalisation` come from, for records.

    Args:
        model: the network.
        mean: as given to :func:`normalisation`.
        std: likewise.

    Returns:
        "given", "model" (its configuration) or "assumed" (ImageNet's, since nothing tells); both where mean
        and standard deviation differ in this: "mean given, std assumed".

    Example:
        >>> normalisation_source(torch.nn.Identity(), None, None)
        'assumed'
        >>> normalisation_source(torch.nn.Identity(), None, (0.5, 0.5, 0.5))
        'mean assumed, std given'
    """
    sources = {
        name: "given" if value is not None else "model" if config_values(model, name) else "assumed"
        for name, value in (("mean", mean), ("std", std))
    }
    if sources["mean"] == sources["std"]:
        return sources["mean"]
    return ", ".join(f"{name} {source}" for name, source in sources.items())


def _chosen(
    model: torch.nn.Module, name: str, given: Sequence[float] | None, usual: Sequence[float]
) -> Sequence[float]:
    if given is not None:
        return given
    own = config_values(model, name)
    if len(own) > 1:
        raise ValueError(
            f"`{name}` must be given where the networks inside `model` have different ones, got "
            f"{' and '.join(map(str, own))} in their configurations"
        )
    if any(isinstance(layer, _NORMALISING) for layer in model.modules()):
        raise ValueError(
            f"`{name}` must be given where `model` has a layer Normalize, got None; pass mean=(0, 0, 0) and "
            "std=(1, 1, 1) if that layer takes images in [0, 1]"
        )
    return own[0] if own else usual


def _triple(name: str, values: Any, *, low: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be three numbers, one a colour, got {values!r}") from error
    if len(numbers) != 3 or not all(low <= number <= 1 for number in numbers):  # False for NaN as well
        rule = "from 0 to 1" if low == 0 else "above 0 and at most 1"
        raise ValueError(
            f"`{name}` must be three finite numbers {rule}, one a colour, got {values!r}; images count as 0 "
            "to 1 here, so divide values of 0 to 255 by 255"
        )
    return numbers


def normalised(batch: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Turns 8-bit images into a network's input, on the device where they are.

    Args:
        batch: uint8, shape (..., 3, H, W); it is not modified.
        mean: three values of the range [0, 1].
        std: three positive values.

    Returns:
        A float32 tensor of the same shape: (batch / 255 - mean) / std.

    Example:
        >>> normalised(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3).unique()
        tensor([1.])
    """
    means = torch.tensor(mean, device=batch.device).view(3, 1, 1)
    stds = torch.tensor(std, device=batch.device).view(3, 1, 1)
    return (batch.to(torch.float32) / 255 - means) / stds
