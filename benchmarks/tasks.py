"""What a rival is asked to do, and what the change of an image's layout or type costs its user.

A rival that wants another memory layout, or floats, pays for the conversion there and back, as its user
would; a kernel that it needs in another form is prepared beforehand. Threads are set outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blurlib.blurs import Blur, parse
from torch_ideas import Blurring

Array = np.ndarray
Picture = Array | Tensor
Variant = Callable[[], Picture]


@dataclass(frozen=True)
class Task:
    """What a rival is asked to do.

    Attributes:
        name: the blur's name in the grid.
        kernel: float64 (h, w), or (B, h, w) with a batch.
        image: NumPy array (H, W, C) or tensor (C, H, W), (B, C, H, W).
    """

    name: str
    kernel: Tensor
    image: Picture

    @property
    def blur(self) -> Blur | None:
        """The blur's value, or None for a kernel that has none."""
        try:
            return parse(self.name)
        except ValueError:
            return None

    @property
    def batched(self) -> bool:
        """Whether each image has a kernel of its own."""
        return self.kernel.ndim == 3


# --- The layouts' own costs ---


def on_hwc(function: Callable[[Array], Array], image: Picture) -> Picture:
    """A function of HWC arrays; a CHW tensor is converted there and back."""
    if isinstance(image, np.ndarray):
        return function(image)
    blurred = function(image.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(blurred).permute(2, 0, 1).contiguous()


def on_chw(function: Blurring, image: Picture) -> Picture:
    """A function of CHW tensors; an HWC array is converted there and back."""
    if isinstance(image, Tensor):
        return function(image)
    return (
        function(torch.from_numpy(image).permute(2, 0, 1).contiguous()).permute(1, 2, 0).contiguous().numpy()
    )


def on_either(function: Callable[[Array, int], Array], image: Picture) -> Picture:
    """A function of arrays of any layout, told where the channels are."""
    if isinstance(image, np.ndarray):
        return function(image, -1)
    return torch.from_numpy(function(image.numpy(), 0))


def in_floats(convolve: Blurring) -> Blurring:
    """A function of float images; bytes are converted there, and rounded on the way back."""

    def run(image: Tensor) -> Tensor:
        if image.dtype == torch.uint8:
            return convolve(image.float()).add_(0.5).to(torch.uint8)
        return convolve(image)

    return run


def to_kind(sums: Array, kind: np.dtype) -> Array:
    """Sums of floats as the image's kind."""
    return (sums + np.float32(0.5)).astype(kind) if kind == np.uint8 else sums.astype(kind, copy=False)


def trimmed(kernel: Tensor) -> Tensor:
    """A kernel of a batch in its own size: a caller who loops has no zeros around it."""
    margin = 0
    while margin < kernel.shape[0] // 2 and not (
        kernel[margin].any()
        or kernel[-1 - margin].any()
        or kernel[:, margin].any()
        or kernel[:, -1 - margin].any()
    ):
        margin += 1
    return kernel[margin : kernel.shape[0] - margin, margin : kernel.shape[1] - margin]


def one_by_one(make: Callable[[Task], Variant | None], task: Task) -> Variant | None:
    """A batch as a loop over its images, for rivals without batches."""
    assert isinstance(task.image, Tensor)
    runs = [make(Task("", trimmed(k), image)) for k, image in zip(task.kernel, task.image, strict=True)]
    if any(run is None for run in runs):
        return None
    return lambda: torch.stack([run() for run in runs])
