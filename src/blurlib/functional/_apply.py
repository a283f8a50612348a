"""`apply` and its short forms: a blur as a value, applied to a Pillow image, a tensor or a tv_tensor."""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast

import numpy as np
import PIL.Image
import torch
from torchvision import tv_tensors

from ..blurs import Blur, Disk, Gaussian, Line, Shake, cached_kernel
from ..kernels import Bank
from ..notation import parse
from ._blur import blur
from ._border import Constant, Outside, check_outside, value_of

Image = TypeVar("Image", torch.Tensor, PIL.Image.Image)

# Modes whose bands are amounts of light or of coverage; hues, palette indices and bits cannot be averaged.
_MODES = ("L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "F")
# Modes whose last band says how much of the others there is.
_COVERED = ("LA", "RGBA")


def apply(image: Image, blur: Blur | str, *, border: Outside = "reflect", scale: float = 1.0) -> Image:
    """Blur one image, or all images of a tensor alike.

    Args:
        image: PIL image, tensor (..., C, H, W), `tv_tensors.Image` or `Video`; uint8 or floating. Of a
            transparent PIL image (RGBA, LA) each pixel's colour counts by its alpha, which is blurred as "L"
            is; where no alpha is left the colour stays. With the border "zeros" it is transparent outside;
            a :class:`Constant` has a value for each band, or one for all, alpha included.
            Tensors have no mode: all their channels are blurred alike. A colour marked transparent
            (``image.info["transparency"]``) is blurred as any other, and the mark is dropped.
        blur: such as ``Disk(4)`` or "D4".
        border: see :func:`blurlib.blur`.
        scale: size of this image divided by the size that the blur is defined for.

    Returns:
        The same type, dtype, device and size.

    Raises:
        TypeError: if `image` is of another kind, such as an array, which :func:`blurlib.blur` takes.
        ValueError: if its PIL mode cannot be blurred, or the blur has no kernel.

    Example:
        >>> import PIL.Image
        >>> apply(PIL.Image.new("RGB", (64, 48)), "D4").size
        (64, 48)
    """
    return cast("Image", convolve(image, cached_kernel(parse(blur), scale), border))


def convolve(image: Any, kernel: torch.Tensor, border: Outside) -> Any:
    """Blur a PIL image, tensor or tv_tensor by a kernel on the CPU; `apply` with the kernel itself."""
    if isinstance(image, PIL.Image.Image):
        return _convolve_pil(image, kernel, border)
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"`image` must be a PIL image or a tensor (..., C, H, W), got {type(image).__name__}"
            + (f"; {ARRAY_REMEDY}" if isinstance(image, np.ndarray) else "")
        )
    # Compilers cannot trace a cast to the same class.
    plain = image if type(image) is torch.Tensor else image.as_subclass(torch.Tensor)
    result = blur(plain, kernel.to(image.device), border=border)
    return tv_tensors.wrap(result, like=image) if isinstance(image, tv_tensors.TVTensor) else result


ARRAY_REMEDY = (
    "use blurlib.blur(image, kernel) for an array (H, W, C), or convert it first: "
    "v2.functional.to_image(image), or torch.from_numpy(images).permute(0, 3, 1, 2) for a batch"
)


def _convolve_pil(image: PIL.Image.Image, kernel: torch.Tensor, border: Outside) -> PIL.Image.Image:
    if 0 in image.size:
        check_outside(border)
        return image.copy()
    if image.mode not in _MODES:
        remedy = "image.convert('RGB')"
        if image.mode.startswith("I"):  # which Pillow would cut off at 255
            remedy = "blurlib.protocol.to_rgb(image), or image.convert('F') to keep all levels"
        elif image.mode == "PA" or "transparency" in image.info:
            remedy = "image.convert('RGBA')"
        raise ValueError(
            f"`image` has PIL mode {image.mode!r}, whose values cannot be averaged; convert it first, "
            f"by {remedy}"
        )
    array = np.asarray(image)
    blurred = blur(array, kernel, border=border)
    if image.mode in _COVERED:
        _weigh_colours(blurred, array, kernel, border)
    result = PIL.Image.frombytes(image.mode, image.size, blurred.tobytes())
    result.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return result


def _weigh_colours(blurred: np.ndarray, array: np.ndarray, kernel: torch.Tensor, border: Outside) -> None:
    """Put right what transparent pixels have added to blurred colours; the last band is alpha.

    Where a kernel meets opaque pixels alone the colours are those of an image without alpha, to the bit.
    """
    opaque = value_of(border, -1) == 255 if isinstance(border, Constant) else border != "zeros"
    if opaque and array[..., -1].min() == 255:
        return
    alpha = array[..., -1].astype(np.float64)

    def outside(*bands: int) -> Outside:
        if not isinstance(border, Constant):
            return border
        return Constant(math.prod(value_of(border, number) for number in bands))

    weight = blur(alpha, kernel, border=outside(-1))
    soft = weight < 255 * (1 - 1e-9) * float(kernel.sum())
    if not soft.any():
        return
    seen = blurred[..., -1][soft] > 0
    for band in range(array.shape[-1] - 1):
        light = blur(array[..., band] * alpha, kernel, border=outside(band, -1))[soft]
        # Quotients of whole numbers of taps may be ties, which floating point can leave 1e-7 below.
        colour = np.floor(light / np.where(seen, weight[soft], 1.0) + (0.5 + 2.0**-20))
        blurred[..., band][soft] = np.where(seen, colour.clip(0, 255), array[..., band][soft])


def disk_blur(image: Image, radius: float, *, antialias: bool = True, border: Outside = "reflect") -> Image:
    """Defocus of one radius; see :class:`blurlib.DiskBlur` and :func:`apply`.

    Args:
        image: see :func:`apply`.
        radius: in pixels of the image.
        antialias: area coverage; False is the paper's binary disk.
        border: see :func:`blurlib.blur`.

    Returns:
        The blurred image, of the same type.

    Example:
        >>> disk_blur(torch.zeros(3, 8, 8), 2.5).shape
        torch.Size([3, 8, 8])
    """
    return apply(image, Disk(radius, antialias=antialias), border=border)


def motion_blur(image: Image, length: float, *, angle: float = 0.0, border: Outside = "reflect") -> Image:
    """Straight motion of one length and angle; see :class:`blurlib.MotionBlur` and :func:`apply`.

    Args:
        image: see :func:`apply`.
        length: in pixels of the image.
        angle: degrees counter-clockwise from +x as displayed.
        border: see :func:`blurlib.blur`.

    Returns:
        The blurred image, of the same type.

    Example:
        >>> motion_blur(torch.zeros(3, 8, 8), 5, angle=30).shape
        torch.Size([3, 8, 8])
    """
    return apply(image, Line(length, angle), border=border)


def camera_shake_blur(
    image: Image, index: int, *, bank: Bank = "train", border: Outside = "reflect"
) -> Image:
    """Camera shake by one kernel of a bank; see :class:`blurlib.CameraShakeBlur` and :func:`apply`.

    Args:
        image: see :func:`apply`.
        index: number of the kernel in the bank.
        bank: "train" (10 000 kernels) or "test" (100).
        border: see :func:`blurlib.blur`.

    Returns:
        The blurred image, of the same type.

    Example:
        >>> camera_shake_blur(torch.zeros(3, 8, 8), 17).shape
        torch.Size([3, 8, 8])
    """
    return apply(image, Shake(index, bank), border=border)


def gaussian_blur(image: Image, sigma: float, *, border: Outside = "reflect") -> Image:
    """Gaussian blur of one standard deviation; see :class:`blurlib.GaussianBlur` and :func:`apply`.

    Args:
        image: see :func:`apply`.
        sigma: in pixels of the image.
        border: see :func:`blurlib.blur`.

    Returns:
        The blurred image, of the same type.

    Example:
        >>> gaussian_blur(torch.zeros(3, 8, 8), 1.5).shape
        torch.Size([3, 8, 8])
    """
    return apply(image, Gaussian(sigma), border=border)
