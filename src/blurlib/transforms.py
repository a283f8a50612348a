"""Blur transforms for torchvision v2 pipelines.

A transform draws one blur a call (one for all frames of a video, one for a whole batch tensor) from torch's
global generator, and leaves masks, boxes, keypoints and labels untouched.

What is an image follows torchvision's rule: every Pillow image, `tv_tensors.Image` and `Video` of a call;
where there is none, the first plain tensor. What that rule would leave sharp without a word is a `TypeError`:
further plain tensors, uint8 or floating, of the first one's shape but for height and width (wrap each image
in `tv_tensors.Image`, and what is none may stay plain), and a NumPy array where no image is beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from . import kernels
from ._common import checks
from ._compiled import Drawn, draw_kernel
from .blurs import Blur, Disk, Gaussian, Line, Shake
from .functional import _ARRAY_REMEDY, Border, check_border, convolve
from .kernels import Bank

__all__ = ["CameraShakeBlur", "DiskBlur", "GaussianBlur", "MotionBlur"]

Range = float | tuple[float, float]


def _range(name: str, value: Any, low: float, high: float, unit: str = "pixels") -> Range:
    """A number, or (low, high) with low <= high; both within bounds."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"`{name}` must be a number or (low, high), got {value!r}")
        ends = [checks.check_number(name, end, low=low, high=high, unit=unit) for end in value]
        if ends[0] > ends[1]:
            raise ValueError(f"`{name}` must be (low, high) with low <= high, got {value!r}; swap them")
        return ends[0], ends[1]
    return checks.check_number(name, value, low=low, high=high, unit=unit)


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
