"""Blur transforms for torchvision v2 pipelines, and their functional forms.

A transform draws one blur a call (one for all frames of a video, one for a whole batch tensor) from torch's
global generator, and leaves masks, boxes, keypoints and labels untouched.

What is an image follows torchvision's rule: every Pillow image, `tv_tensors.Image` and `Video` of a call;
where there is none, the first plain tensor. What that rule would leave sharp without a word is a `TypeError`:
further plain tensors, uint8 or floating, of the first one's shape but for height and width (wrap each image
in `tv_tensors.Image`, and what is none may stay plain), and a NumPy array where no image is beside it.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from . import kernels
from ._compiled import Drawn, draw_kernel
from .blurs import Blur, Disk, Gaussian, Line, Shake, kept_kernel, parse
from .convolution import Border, blur, check_border
from .kernels import Bank

__all__ = [
    "CameraShakeBlur",
    "DiskBlur",
    "GaussianBlur",
    "MotionBlur",
    "apply",
    "camera_shake_blur",
    "disk_blur",
    "gaussian_blur",
    "motion_blur",
]

Image = TypeVar("Image", Tensor, PIL.Image.Image)
Range = float | tuple[float, float]

# Modes whose bands are amounts of light or of coverage; hues, palette indices and bits cannot be averaged.
_MODES = ("L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "F")
# Modes whose last band says how much of the others there is.
_COVERED = ("LA", "RGBA")


def apply(image: Image, blur: Blur | str, *, border: Border = "reflect", scale: float = 1.0) -> Image:
    """Blur one image, or all images of a tensor alike.

    Args:
        image: PIL image, tensor (..., C, H, W), `tv_tensors.Image` or `Video`; uint8 or floating. Of a
            transparent PIL image (RGBA, LA) each pixel's colour counts by its alpha, which is blurred as "L"
            is; where no alpha is left the colour stays. With the border "zeros" it is transparent outside.
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
    value = parse(blur)
    return cast("Image", convolve(image, kept_kernel(value, scale), border))


def convolve(image: Any, kernel: Tensor, border: Border) -> Any:
    """Blur a PIL image, tensor or tv_tensor by a kernel on the CPU; `apply` with the kernel itself."""
    if isinstance(image, PIL.Image.Image):
        return _convolve_pil(image, kernel, border)
    if not isinstance(image, Tensor):
        raise TypeError(
            f"`image` must be a PIL image or a tensor (..., C, H, W), got {type(image).__name__}"
            + (f"; {_ARRAY_REMEDY}" if isinstance(image, np.ndarray) else "")
        )
    # Compilers cannot trace a cast to the same class.
    plain = image if type(image) is Tensor else image.as_subclass(Tensor)
    result = blur(plain, kernel.to(image.device), border=border)
    return tv_tensors.wrap(result, like=image) if isinstance(image, tv_tensors.TVTensor) else result


_ARRAY_REMEDY = (
    "use blurlib.blur(image, kernel) for an array (H, W, C), or convert it first: "
    "v2.functional.to_image(image), or torch.from_numpy(images).permute(0, 3, 1, 2) for a batch"
)


def _convolve_pil(image: PIL.Image.Image, kernel: Tensor, border: Border) -> PIL.Image.Image:
    if 0 in image.size:
        check_border(border)
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


def _weigh_colours(blurred: np.ndarray, array: np.ndarray, kernel: Tensor, border: Border) -> None:
    """Put right what transparent pixels have added to blurred colours; the last band is alpha.

    Where a kernel meets opaque pixels alone the colours are those of an image without alpha, to the bit.
    """
    if border != "zeros" and array[..., -1].min() == 255:
        return
    alpha = array[..., -1].astype(np.float64)
    weight = blur(alpha, kernel, border=border)
    soft = weight < 255 * (1 - 1e-9) * float(kernel.sum())
    if not soft.any():
        return
    seen = blurred[..., -1][soft] > 0
    for band in range(array.shape[-1] - 1):
        light = blur(array[..., band] * alpha, kernel, border=border)[soft]
        # Quotients of whole numbers of taps may be ties, which floating point can leave 1e-7 below.
        colour = np.floor(light / np.where(seen, weight[soft], 1.0) + (0.5 + 2.0**-20))
        blurred[..., band][soft] = np.where(seen, colour.clip(0, 255), array[..., band][soft])


def disk_blur(image: Image, radius: float, *, antialias: bool = True, border: Border = "reflect") -> Image:
    """Defocus of one radius; see :class:`DiskBlur` and :func:`apply`.

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


def motion_blur(image: Image, length: float, *, angle: float = 0.0, border: Border = "reflect") -> Image:
    """Straight motion of one length and angle; see :class:`MotionBlur` and :func:`apply`.

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


def camera_shake_blur(image: Image, index: int, *, bank: Bank = "train", border: Border = "reflect") -> Image:
    """Camera shake by one kernel of a bank; see :class:`CameraShakeBlur` and :func:`apply`.

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


def gaussian_blur(image: Image, sigma: float, *, border: Border = "reflect") -> Image:
    """Gaussian blur of one standard deviation; see :class:`GaussianBlur` and :func:`apply`.

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


def _range(name: str, value: Any, low: float, high: float, unit: str = "pixels") -> Range:
    """A number, or (low, high) with low <= high; both within bounds."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"`{name}` must be a number or (low, high), got {value!r}")
        ends = [kernels.check_number(name, end, low=low, high=high, unit=unit) for end in value]
        if ends[0] > ends[1]:
            raise ValueError(f"`{name}` must be (low, high) with low <= high, got {value!r}; swap them")
        return ends[0], ends[1]
    return kernels.check_number(name, value, low=low, high=high, unit=unit)


def _draw(value: Range, generator: torch.Generator | None) -> float:
    if not isinstance(value, tuple):
        return value
    low, high = value
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _is_plain(inpt: Any) -> bool:
    return isinstance(inpt, Tensor) and not isinstance(inpt, tv_tensors.TVTensor)


def _could_be_an_image(tensor: Tensor) -> bool:
    return tensor.ndim >= 3 and (tensor.dtype == torch.uint8 or tensor.dtype.is_floating_point)


def _check_images(flat_inputs: list[Any]) -> None:
    """Refuse what torchvision's rule for plain tensors and arrays would leave sharp without a word."""
    if any(isinstance(x, (tv_tensors.Image, tv_tensors.Video, PIL.Image.Image)) for x in flat_inputs):
        return
    plain = [x for x in flat_inputs if _is_plain(x)]
    arrays = [x for x in flat_inputs if isinstance(x, np.ndarray) and x.ndim > 1]
    if arrays and (not plain or plain[0].ndim < 3):  # else that tensor is the image
        raise TypeError(
            "`inputs` must hold a PIL image or a tensor, got none but a NumPy array of shape "
            f"{arrays[0].shape}; {_ARRAY_REMEDY}"
        )
    for array in arrays:
        if array.ndim == 3 and array.shape[2] in (3, 4) and plain[0].shape[-3:] == (1, *array.shape[:2]):
            raise TypeError(
                f"`inputs` must say which is the image, got an array of shape {array.shape} beside a plain "
                f"tensor of shape {tuple(plain[0].shape)}, which would be blurred; wrap the image in "
                "tv_tensors.Image, a mask in tv_tensors.Mask"
            )
    for other in plain[1:]:
        both = plain[0], other
        if all(map(_could_be_an_image, both)) and plain[0].shape[:-2] == other.shape[:-2]:
            shapes = " and ".join(str(tuple(x.shape)) for x in both)
            raise TypeError(
                f"`inputs` must not hold several plain tensors that could be images, got shapes {shapes}, of "
                "which only the first would be blurred; wrap what is an image in tv_tensors.Image"
            )


class BlurTransform(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """What the four transforms share: one blur a call, applied to images and videos only."""

    # The default would hand over masks and boxes too, which are tensors.
    _transformed_types = (tv_tensors.Image, tv_tensors.Video, _is_plain, PIL.Image.Image)

    def __init__(self, border: Border) -> None:
        super().__init__()
        self.border = check_border(border)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse a call of which images would be left sharp (v2's hook)."""
        _check_images(flat_inputs)

    def draw(self, generator: torch.Generator | None = None) -> Blur:
        """Draw a blur, from torch's global generator if none is given."""
        del generator
        raise TypeError(f"{type(self).__name__} draws nothing by itself; use one of its subclasses")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the blur of this call (v2's hook)."""
        del flat_inputs
        if torch.compiler.is_compiling():
            return {"kernel": draw_kernel(*self._draws())}
        drawn = self.draw()
        return {"kernel": drawn.kernel()}

    def _draws(self) -> tuple[str, Drawn] | tuple[str, Drawn, Drawn]:
        """What `draw` draws, for compilers: the kind of blur, and what its numbers are drawn from."""
        raise TypeError(f"{type(self).__name__} cannot be compiled; draw its blur outside, and use apply()")

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply the drawn blur to one image or video (v2's hook)."""
        return convolve(inpt, params["kernel"], self.border)


class DiskBlur(BlurTransform):
    """Defocus: a disk of a fixed or uniformly drawn radius (the paper, section 3).

    Args:
        radius: in pixels of the image, or (low, high).
        antialias: area coverage, so that every real radius counts; False is the paper's binary disk.
        border: see :func:`blurlib.blur`.

    Raises:
        TypeError: if `radius` is neither a number nor a pair.
        ValueError: if it is negative, not finite or above 1024, the pair is not in order, or the border
            is unknown.

    Example:
        >>> DiskBlur((1, 8))
        DiskBlur(radius=(1.0, 8.0), antialias=True, border=reflect)
        >>> DiskBlur(4)(torch.zeros(3, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    def __init__(
        self, radius: Range = (1.0, 8.0), *, antialias: bool = True, border: Border = "reflect"
    ) -> None:
        super().__init__(border)
        self.radius = _range("radius", radius, 0.0, kernels.MAX_RADIUS)
        self.antialias = antialias

    def draw(self, generator: torch.Generator | None = None) -> Disk:
        """Draw a blur.

        Args:
            generator: torch's global one if None.

        Returns:
            The blur.
        """
        return Disk(_draw(self.radius, generator), antialias=self.antialias)

    def _draws(self) -> tuple[str, Drawn]:
        return "soft disk" if self.antialias else "disk", self.radius

    def extra_repr(self) -> str:
        """All settings, for printing."""
        return f"radius={self.radius}, antialias={self.antialias}, border={self.border}"


class MotionBlur(BlurTransform):
    """Straight uniform motion of a fixed or uniformly drawn length and angle, centred (the paper, section 3).

    Args:
        length: in pixels of the image, or (low, high).
        angle: degrees counter-clockwise from +x as displayed, or (low, high).
        border: see :func:`blurlib.blur`.

    Raises:
        TypeError: if an argument is neither a number nor a pair.
        ValueError: if `length` is negative or above 2048, one is not finite, a pair is not in order, or
            the border is unknown.

    Example:
        >>> MotionBlur(8, angle=30)
        MotionBlur(length=8.0, angle=30.0, border=reflect)
    """

    def __init__(
        self, length: Range = (2.0, 16.0), angle: Range = (0.0, 180.0), *, border: Border = "reflect"
    ) -> None:
        super().__init__(border)
        self.length = _range("length", length, 0.0, 2 * kernels.MAX_RADIUS)
        self.angle = _range("angle", angle, -1e6, 1e6, "degrees")

    def draw(self, generator: torch.Generator | None = None) -> Line:
        """Draw a blur.

        Args:
            generator: torch's global one if None.

        Returns:
            The blur.
        """
        return Line(_draw(self.length, generator), _draw(self.angle, generator))

    def _draws(self) -> tuple[str, Drawn, Drawn]:
        return "line", self.length, self.angle

    def extra_repr(self) -> str:
        """All settings, for printing."""
        return f"length={self.length}, angle={self.angle}, border={self.border}"


class CameraShakeBlur(BlurTransform):
    """Camera shake by a kernel drawn from a bank (the paper, sections 3 and 4.1).

    Args:
        bank: "train" (10 000 kernels) or "test" (100, for evaluation alone).
        border: see :func:`blurlib.blur`.

    Raises:
        ValueError: if there is no such bank or border.

    Example:
        >>> CameraShakeBlur()
        CameraShakeBlur(bank=train, border=reflect)
    """

    def __init__(self, *, bank: Bank = "train", border: Border = "reflect") -> None:
        super().__init__(border)
        self.bank = Shake(0, bank).bank

    def draw(self, generator: torch.Generator | None = None) -> Shake:
        """Draw a blur.

        Args:
            generator: torch's global one if None.

        Returns:
            The blur.
        """
        size = kernels.BANK_SIZES[self.bank]
        return Shake(int(torch.randint(size, (), generator=generator)), self.bank)

    def _draws(self) -> tuple[str, Drawn]:
        return f"{self.bank} shake", range(kernels.BANK_SIZES[self.bank])

    def extra_repr(self) -> str:
        """All settings, for printing."""
        return f"bank={self.bank}, border={self.border}"


class GaussianBlur(BlurTransform):
    """Gaussian blur of a fixed or uniformly drawn standard deviation, never cut by a kernel size.

    Args:
        sigma: in pixels of the image, or (low, high).
        border: see :func:`blurlib.blur`.

    Raises:
        TypeError: if `sigma` is neither a number nor a pair.
        ValueError: if it is negative, not finite or above 256, the pair is not in order, or the border
            is unknown.

    Example:
        >>> GaussianBlur((0.5, 4))
        GaussianBlur(sigma=(0.5, 4.0), border=reflect)
    """

    def __init__(self, sigma: Range, *, border: Border = "reflect") -> None:
        super().__init__(border)
        self.sigma = _range("sigma", sigma, 0.0, kernels.MAX_RADIUS / 4)

    def draw(self, generator: torch.Generator | None = None) -> Gaussian:
        """Draw a blur.

        Args:
            generator: torch's global one if None.

        Returns:
            The blur.
        """
        return Gaussian(_draw(self.sigma, generator))

    def _draws(self) -> tuple[str, Drawn]:
        return "gaussian", self.sigma

    def extra_repr(self) -> str:
        """All settings, for printing."""
        return f"sigma={self.sigma}, border={self.border}"
