"""Blur transforms for torchvision v2 pipelines.

A transform draws one blur a call (one for all frames of a video, one for a whole batch tensor) from torch's
global generator, and leaves masks, boxes, keypoints and labels untouched. `draw()` returns such a blur.

What is an image follows torchvision's rule: every Pillow image, `tv_tensors.Image` and `Video` of a call;
where there is none, the first plain tensor. What that rule would leave sharp without a word is a `TypeError`:
further plain tensors, uint8 or floating, of the first one's shape but for height and width (wrap each image
in `tv_tensors.Image`, and what is none may stay plain), and a NumPy array without an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from . import kernels
from ._common import checks
from .blurs import Blur, Disk, Gaussian, Line, Shake
from .functional import ARRAY_REMEDY, Outside, check_outside, convolve
from .kernels import Bank

__all__ = ["CameraShakeBlur", "DiskBlur", "GaussianBlur", "MotionBlur"]

Range = float | tuple[float, float]
#: A fixed number, (low, high) for a uniform one, or a range of whole numbers.
Drawn = Range | range


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


def _draw(value: Drawn, generator: torch.Generator | None = None) -> Tensor:
    """A drawn number, as a tensor: so compilers keep the draw in the graph."""
    if isinstance(value, range):
        return value.start + value.step * torch.randint(len(value), (), generator=generator).double()
    if not isinstance(value, tuple):
        return torch.tensor(value, dtype=torch.float64)
    low, high = value
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64)


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
            f"{arrays[0].shape}; {ARRAY_REMEDY}"
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


# --- Kernels of drawn blurs
# A compiler cannot follow how a kernel is made, and takes no tensor whose size depends on a random number.
# So one operator, opaque to it, returns the kernel in a window of a fixed size; the zeros change nothing.

_MAKERS: dict[str, Callable[..., Blur]] = {
    "disk": Disk,
    "soft disk": functools.partial(Disk, antialias=True),
    "line": Line,
    "gaussian": Gaussian,
    "test shake": lambda size, index: Shake(int(index), "test", size=int(size)),
    "train shake": lambda size, index: Shake(int(index), "train", size=int(size)),
}


def _side_of(kind: str, first: Drawn) -> int:
    """Rows and columns that hold every kernel of a kind, whose first number determines its size."""
    largest = first if isinstance(first, float) else first[-1]
    if kind == "line":  # at any angle
        return 2 * math.ceil(math.hypot(largest, 1) / 2) + 1
    if kind.endswith("shake"):
        return int(largest)
    return max(_MAKERS[kind](largest).kernel().shape)


torch.compiler.assume_constant_result(_side_of)  # type: ignore[no-untyped-call]  # torch's


@torch.library.custom_op("blurlib::drawn_kernel", mutates_args=())
def _drawn_kernel(numbers: Tensor, kind: str, side: int) -> Tensor:
    """The kernel of a blur of some kind with these numbers, in the middle of a window (side, side)."""
    kernel = _MAKERS[kind](*numbers.tolist()).kernel()
    window = torch.zeros(side, side, dtype=torch.float64)
    height, width = kernel.shape
    top, left = (side - height) // 2, (side - width) // 2
    window[top : top + height, left : left + width] = kernel
    return window


@_drawn_kernel.register_fake
def _(numbers: Tensor, kind: str, side: int) -> Tensor:
    del kind
    return numbers.new_empty((side, side))


class BlurTransform(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """What the four transforms share: one blur a call, applied to images and videos only."""

    # The default would hand over masks and boxes too, which are tensors.
    _transformed_types = (tv_tensors.Image, tv_tensors.Video, _is_plain, PIL.Image.Image)

    def __init__(self, border: Outside) -> None:
        super().__init__()
        self.border = check_outside(border)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse a call of which images would be left sharp (v2's hook)."""
        _check_images(flat_inputs)

    def _draws(self) -> tuple[str, tuple[Drawn, ...]]:
        """The kind of blur, and what its numbers are drawn from."""
        raise TypeError(f"{type(self).__name__} draws nothing by itself; use one of its subclasses")

    def draw(self, generator: torch.Generator | None = None) -> Blur:
        """Draw a blur.

        Args:
            generator: torch's global one if None.

        Returns:
            The blur.
        """
        kind, numbers = self._draws()
        return _MAKERS[kind](*(_draw(each, generator).item() for each in numbers))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the blur of this call (v2's hook)."""
        del flat_inputs
        if not torch.compiler.is_compiling():
            return {"kernel": self.draw().kernel()}
        kind, numbers = self._draws()
        drawn = torch.stack([_draw(each) for each in numbers])
        return {"kernel": _drawn_kernel(drawn, kind, _side_of(kind, numbers[0]))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply the drawn blur to one image or video (v2's hook)."""
        return convolve(inpt, params["kernel"], self.border)

    def extra_repr(self) -> str:
        """All settings, for printing."""
        named = ((name, value) for name, value in vars(self).items() if not name.startswith("_"))
        own = [f"{name}={value}" for name, value in named if name not in ("training", "border")]
        return ", ".join([*own, f"border={self.border}"])


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
        self, radius: Range = (1.0, 8.0), *, antialias: bool = True, border: Outside = "reflect"
    ) -> None:
        super().__init__(border)
        self.radius = _range("radius", radius, 0.0, kernels.MAX_RADIUS)
        self.antialias = antialias

    def _draws(self) -> tuple[str, tuple[Drawn, ...]]:
        return "soft disk" if self.antialias else "disk", (self.radius,)


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
        self, length: Range = (2.0, 16.0), angle: Range = (0.0, 180.0), *, border: Outside = "reflect"
    ) -> None:
        super().__init__(border)
        self.length = _range("length", length, 0.0, 2 * kernels.MAX_RADIUS)
        self.angle = _range("angle", angle, -1e6, 1e6, "degrees")

    def _draws(self) -> tuple[str, tuple[Drawn, ...]]:
        return "line", (self.length, self.angle)


class CameraShakeBlur(BlurTransform):
    """Camera shake by a kernel drawn from a bank (the paper, sections 3 and 4.1).

    Args:
        bank: "train" (10 000 kernels) or "test" (100, for evaluation alone).
        size: side of the kernels in pixels of the image, odd, 3 to 513, or (low, high), of which an odd one
            is drawn; 17 is the paper's.
        border: see :func:`blurlib.blur`.

    Raises:
        TypeError: if `size` is neither a whole number nor a pair of such.
        ValueError: if it is even or out of its range, the pair is not in order, or there is no such bank or
            border.

    Example:
        >>> CameraShakeBlur(size=(9, 25))
        CameraShakeBlur(bank=train, size=(9, 25), border=reflect)
    """

    def __init__(
        self,
        *,
        bank: Bank = "train",
        size: int | tuple[int, int] = kernels.BANK_SIDE,
        border: Outside = "reflect",
    ) -> None:
        super().__init__(border)
        self.bank = Shake(0, bank).bank
        self.size: int | tuple[int, int]
        if isinstance(size, (tuple, list)):
            _range("size", size, 3, kernels.MAX_SIDE)
            self.size = kernels.check_side(size[0]), kernels.check_side(size[1])
        else:
            self.size = kernels.check_side(size)

    def _draws(self) -> tuple[str, tuple[Drawn, ...]]:
        size = range(self.size[0], self.size[1] + 1, 2) if isinstance(self.size, tuple) else float(self.size)
        return f"{self.bank} shake", (size, range(kernels.BANK_SIZES[self.bank]))


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

    def __init__(self, sigma: Range, *, border: Outside = "reflect") -> None:
        super().__init__(border)
        self.sigma = _range("sigma", sigma, 0.0, kernels.MAX_RADIUS / 4)

    def _draws(self) -> tuple[str, tuple[Drawn, ...]]:
        return "gaussian", (self.sigma,)
