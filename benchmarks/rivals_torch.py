"""Rivals that take torch tensors: blurlib, kornia, torchvision, deepinv, and torch itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor

import blurlib
from blurlib.blurs import Box, Gaussian, Line
from tasks import Task, Variant, in_floats, on_chw, one_by_one
from torch_ideas import Blurring, rank_one

MOST_TAPS_CONVOLVED = 1700  # of a direct convolution: beyond, it takes seconds and nobody would
COMPILED_BLURS, COMPILED_SIZE = ("D8", "H17", "S17", "G4"), (384, 512)

# --- blurlib ---


def engine(task: Task) -> Variant:
    """The public function, on the image's memory as it is."""
    image, kernel = task.image, task.kernel
    return lambda: blurlib.blur(image, kernel)


def copy(task: Task) -> Variant:
    image = task.image
    return image.copy if isinstance(image, np.ndarray) else image.clone


# --- kornia ---


def kornia_filter(task: Task) -> Variant | None:
    from kornia.filters import filter2d

    if math.prod(task.kernel.shape[-2:]) > MOST_TAPS_CONVOLVED:
        return None
    kernel = task.kernel.float().reshape(-1, *task.kernel.shape[-2:])

    def convolve(x: Tensor) -> Tensor:
        return filter2d(x if x.ndim == 4 else x[None], kernel, behaviour="conv").reshape(x.shape)

    return lambda: on_chw(in_floats(convolve), task.image)


def kornia_special(task: Task) -> Variant | None:
    from kornia.filters import box_blur, gaussian_blur2d

    blur, size = task.blur, tuple(task.kernel.shape)
    if isinstance(blur, Gaussian):
        return lambda: on_chw(
            in_floats(lambda x: gaussian_blur2d(x[None], size, (blur.sigma, blur.sigma))[0]), task.image
        )
    if isinstance(blur, Box) and blur.length % 2:
        return lambda: on_chw(in_floats(lambda x: box_blur(x[None], size)[0]), task.image)
    return None


def kornia_motion(task: Task) -> Variant | None:
    from kornia.filters import motion_blur

    match task.blur:
        case Box(length, vertical):
            angle = 90.0 if vertical else 0.0
        case Line(length, angle):
            pass
        case _:
            return None
    size = max(3, int(length) | 1)  # odd sizes only
    return lambda: on_chw(
        in_floats(lambda x: motion_blur(x[None], size, angle, 0.0, border_type="reflect")[0]), task.image
    )


# --- torchvision ---


def torchvision_gaussian(task: Task) -> Variant | None:
    from torchvision.transforms.v2 import functional as tvf

    blur, size = task.blur, list(task.kernel.shape)
    if not isinstance(blur, Gaussian):
        return None
    return lambda: on_chw(lambda x: tvf.gaussian_blur(x, size, [blur.sigma, blur.sigma]), task.image)


# --- deepinv ---


def deepinv_convolution(task: Task) -> Variant | None:
    from deepinv.physics.functional import conv2d

    if math.prod(task.kernel.shape[-2:]) > MOST_TAPS_CONVOLVED:
        return None
    return _deepinv(conv2d, task)


def deepinv_fft(task: Task) -> Variant | None:
    from deepinv.physics.functional import conv2d_fft

    return _deepinv(conv2d_fft, task)


def _deepinv(function: Callable[..., Tensor], task: Task) -> Variant:
    kernel = task.kernel.float().reshape(-1, 1, *task.kernel.shape[-2:])

    def convolve(x: Tensor) -> Tensor:
        return function(x if x.ndim == 4 else x[None], kernel, padding="reflect").reshape(x.shape)

    return lambda: on_chw(in_floats(convolve), task.image)


# --- torch ---


def around(image: Tensor, kernel: Tensor) -> Tensor:
    """The image (B, C, H, W) with its border."""
    y, x = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    return F.pad(image if image.ndim == 4 else image[None], (x, x, y, y), mode="reflect")


def convolution(task: Task) -> Blurring | None:
    """Depthwise conv2d, with one group an image and channel."""
    if math.prod(task.kernel.shape[-2:]) > MOST_TAPS_CONVOLVED:
        return None
    kernel = task.kernel.float().reshape(-1, 1, 1, *task.kernel.shape[-2:])
    weight = kernel.flip(-2, -1).expand(-1, 3, -1, -1, -1).flatten(0, 1).contiguous()

    def convolve(x: Tensor) -> Tensor:
        grouped = around(x, kernel).flatten(0, 1)
        return F.conv2d(grouped[None], weight, groups=len(weight)).reshape(x.shape)

    return in_floats(convolve)


def separable_convolution(task: Task) -> Blurring | None:
    """Two depthwise conv2d, along columns and along rows."""
    factors = None if task.batched else rank_one(task.kernel)
    if factors is None:
        return None
    down = factors[0].float().flip(0).view(1, 1, -1, 1).expand(3, -1, -1, -1).contiguous()
    across = factors[1].float().flip(0).view(1, 1, 1, -1).expand(3, -1, -1, -1).contiguous()
    kernel = task.kernel

    def convolve(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(around(x, kernel), down, groups=3), across, groups=3)[0]

    return in_floats(convolve)


def spectrum(task: Task) -> Blurring:
    """Product of real FFTs in sizes that are quick."""
    kernel = task.kernel.float()
    height, width = kernel.shape[-2:]

    def convolve(x: Tensor) -> Tensor:
        image = around(x, kernel)
        size = [scipy.fft.next_fast_len(side, real=True) for side in image.shape[-2:]]
        factor = torch.fft.rfft2(kernel.reshape(-1, 1, height, width), s=size)
        sums = torch.fft.irfft2(torch.fft.rfft2(image, s=size).mul_(factor), s=size)
        valid = sums[..., height - 1 : image.shape[-2], width - 1 : image.shape[-1]]
        return valid.reshape(x.shape).contiguous()

    return in_floats(convolve)


def plain(build: Callable[[Task], Blurring | None]) -> Callable[[Task], Variant | None]:
    """A rival of a function that builds one for CHW tensors."""

    def make(task: Task) -> Variant | None:
        blurring = build(task)
        return None if blurring is None else lambda: on_chw(blurring, task.image)

    return make


def compiled(build: Callable[[Task], Blurring | None]) -> Callable[[Task], Variant | None]:
    """The same through torch.compile: for few cells, since each takes it seconds."""

    def make(task: Task) -> Variant | None:
        blurring = build(task) if task.name in COMPILED_BLURS and isinstance(task.image, Tensor) else None
        if blurring is None or task.image.shape[-2:] != COMPILED_SIZE:
            return None
        faster = torch.compile(blurring, dynamic=False)
        return lambda: faster(task.image)

    return make


def idea(build: Callable[[Tensor], Blurring | None]) -> Callable[[Task], Variant | None]:
    """A rival of one of our own formulations."""

    def make(task: Task) -> Variant | None:
        return one_by_one(make, task) if task.batched else plain(lambda task: build(task.kernel))(task)

    return make
