"""Images of the protocol: decoded to RGB, upright; resized, blurred at the canonical side; crop boxes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from .. import functional
from ..blurs import Blur, Sharp, cached_kernel
from ..functional import Border, check_border
from ._sizes import Measure, Protocol, Resample, _filter, scaled_size

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


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any decoded image to upright 8-bit RGB.

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
            levels[levels == key] = 65535  # here: in 8 bits it cannot be separated from other levels
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
    """The transposition that turns a decoded image upright, from its EXIF orientation.

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


def check_sizes(size: tuple[int, int], mask: np.ndarray) -> None:
    """Refuse a mask (H, W) that is not of its image's (width, height)."""
    if mask.shape != (size[1], size[0]):
        raise ValueError(
            f"a mask must have the size of its image, got {mask.shape[1]} x {mask.shape[0]} px for an image "
            f"of {size[0]} x {size[1]} px"
        )


def to_canonical(
    image: Image.Image, side: int = 384, *, measure: Measure = "shorter", resample: Resample = "bilinear"
) -> np.ndarray:
    """Convert an image to upright RGB at the canonical side, where blurs are defined (section 3).

    Small images are enlarged, so that a blur means the same in every image. See :func:`to_rgb` for what
    happens to other colour modes.

    Args:
        image: a Pillow image of any mode; it is not modified.
        side: the shorter side in px, or the geometric mean of both.
        measure: "shorter" or "geometric".
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
    return resized(image, scaled_size(width, height, side, measure=measure), resample=resample)


def blurred(array: np.ndarray, blur: Blur, *, border: Border = "reflect") -> np.ndarray:
    """Blur an 8-bit image and round to 8 bits (section 3).

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
    return functional.blur(array, cached_kernel(blur), border=border)


def to_network(array: np.ndarray, network_side: int, *, protocol: Protocol) -> np.ndarray:
    """Resize by network_side / canonical_side, whatever the size of the array (section 4).

    Args:
        array: uint8, shape (H, W, 3); it is not modified.
        network_side: what a side of `protocol.canonical_side` px becomes, in px.
        protocol: the sizes; its `network_size` comes first.

    Returns:
        A uint8 array of shape (H', W', 3), see :meth:`Protocol.network_shape`; the same array if the size is.

    Example:
        >>> to_network(np.zeros((356, 475, 3), np.uint8), 256, protocol=Protocol()).shape
        (237, 317, 3)
    """
    size = protocol.network_shape(array.shape[1], array.shape[0], network_side)
    return resized(array, size, resample=protocol.resample)


def resized(
    image: np.ndarray | Image.Image, size: tuple[int, int], *, resample: Resample = "bilinear"
) -> np.ndarray:
    """Resize an image, antialiased where it shrinks.

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
    """Positions of an evaluation's square crops, those of torchvision's CenterCrop and FiveCrop.

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


def random_crop(height: int, width: int, size: tuple[int, int], draws: Sequence[float]) -> tuple[int, int]:
    """Corner of a random crop, uniformly distributed.

    Args:
        height: height of the image in px.
        width: width of the image in px.
        size: (height, width) of the crop in px, at most the image's.
        draws: two numbers in [0, 1), for the row and for the column.

    Returns:
        (top, left) in px.

    Example:
        >>> random_crop(237, 317, (224, 224), (0.0, 0.999))
        (0, 93)
    """
    return int(draws[0] * (height - size[0] + 1)), int(draws[1] * (width - size[1] + 1))
