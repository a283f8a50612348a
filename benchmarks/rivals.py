"""Other libraries' ways to the same picture, each called as its users call it.

A library that wants another memory layout, or floats, pays for the conversion there and back, as its user
would; a kernel that it needs in another form is prepared beforehand. Which of them give the right picture is
measured, not known here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise
os.environ.setdefault("RAYON_NUM_THREADS", "1")  # kornia-rs's

import albumentations as al
import cv2
import kornia.filters
import kornia_rs.imgproc
import numpy as np
import PIL.Image
import PIL.ImageFilter
import scipy.fft
import scipy.ndimage
import scipy.signal
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from blurlib.blurs import Blur, Box, Disk, Gaussian, Line
from blurlib.notation import parse
from cells import Cell, Picture, kernel_of, picture, trimmed

Array = np.ndarray
Run = Callable[[], Picture]
Functions = dict[str, Run]  # by name

MOST_TAPS = 1100  # of a dense convolution: beyond, it takes seconds and nobody would
BORDER = cv2.BORDER_REFLECT_101


@dataclass(frozen=True)
class Task:
    """What a library is asked to do: a blur (None: only its kernel is known), kernel, image."""

    blur: Blur | None
    kernel: Tensor
    image: Picture


def functions(cell: Cell) -> Iterator[tuple[str, str, Run]]:
    """(library, function, call) for a cell; a batch is a loop over its images."""
    kernel, image = kernel_of(cell.blur), picture(cell.size, cell.layout, cell.batch)
    if not cell.batch:
        for library, make in LIBRARIES.items():
            for name, run in make(Task(parse(cell.blur), kernel, image)).items():
                yield library, name, run
        return
    tasks = [Task(None, trimmed(k), one) for k, one in zip(kernel, image, strict=True)]
    for library in BATCHED:
        runs = [next(iter(LIBRARIES[library](task).values())) for task in tasks]
        yield library, "one by one", lambda runs=runs: torch.stack([run() for run in runs])


# --- The layouts' own costs ---


def on_hwc(function: Callable[[Array], Array], image: Picture) -> Run:
    """A function of HWC arrays; a CHW tensor is converted there and back."""
    if isinstance(image, np.ndarray):
        return lambda: function(image).reshape(image.shape)

    def run() -> Tensor:
        array = image.permute(1, 2, 0).contiguous().numpy()
        return torch.from_numpy(function(array).reshape(array.shape)).permute(2, 0, 1).contiguous()

    return run


def on_chw(function: Callable[[Tensor], Tensor], image: Picture) -> Run:
    """A function of CHW tensors; an HWC array is converted there and back."""
    if isinstance(image, Tensor):
        return lambda: function(image)

    def run() -> Array:
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        return function(tensor).permute(1, 2, 0).contiguous().numpy()

    return run


def in_floats(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of float images (1, C, H, W); bytes are converted there, and rounded on the way back."""

    def run(image: Tensor) -> Tensor:
        blurred = function(image[None].float())[0]
        return blurred.add_(0.5).to(torch.uint8) if image.dtype == torch.uint8 else blurred

    return run


# --- The libraries ---


def opencv(task: Task) -> Functions:
    return {
        name: on_hwc(lambda x, f=function: f(x, None), task.image) for name, function in _opencv(task).items()
    }


def opencv_planes(task: Task) -> Functions:
    """Plane by plane: no change of layout, and a loop that a user has to write."""
    image = task.image
    if isinstance(image, np.ndarray):
        return {}

    def by_planes(function: Callable[[Array, Array], Array]) -> Run:
        def run() -> Tensor:
            result = torch.empty_like(image)
            for plane, out in zip(image.numpy(), result.numpy(), strict=True):
                function(plane, out)
            return result

        return run

    return {name: by_planes(function) for name, function in _opencv(task).items()}


def _opencv(task: Task) -> dict[str, Callable[[Array, Array | None], Array]]:
    """Functions of an image and of where the result goes."""
    blur, size = task.blur, task.kernel.shape[::-1]
    taps = np.ascontiguousarray(task.kernel.numpy()[::-1, ::-1]).astype(np.float32)  # OpenCV correlates
    found = {"filter2D": lambda x, out: cv2.filter2D(x, -1, taps, out, borderType=BORDER)}
    if isinstance(blur, Box):
        found["blur"] = lambda x, out: cv2.blur(x, size, out, borderType=BORDER)
    if isinstance(blur, Gaussian):
        found["GaussianBlur"] = lambda x, out: cv2.GaussianBlur(x, size, blur.sigma, out, borderType=BORDER)
    return found


def torch_fft(task: Task) -> Functions:
    """Product of real FFTs, in sizes that are quick."""
    kernel, (height, width) = task.kernel.float(), task.kernel.shape

    def convolve(image: Tensor) -> Tensor:
        around = F.pad(image, (width // 2, width // 2, height // 2, height // 2), mode="reflect")
        size = [scipy.fft.next_fast_len(side, real=True) for side in around.shape[-2:]]
        product = torch.fft.rfft2(around, s=size).mul_(torch.fft.rfft2(kernel, s=size))
        sums = torch.fft.irfft2(product, s=size)
        return sums[..., height - 1 : around.shape[-2], width - 1 : around.shape[-1]].contiguous()

    return {"rfft2": on_chw(in_floats(convolve), task.image)}


def in_kornia(task: Task) -> Functions:
    size, kernel, blur, filters = (
        tuple(task.kernel.shape),
        task.kernel.float()[None],
        task.blur,
        kornia.filters,
    )
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    if isinstance(blur, Gaussian):
        found["gaussian_blur2d"] = lambda x: filters.gaussian_blur2d(x, size, (blur.sigma, blur.sigma))
    elif math.prod(size) <= MOST_TAPS:
        found["filter2d"] = lambda x: filters.filter2d(x, kernel, behaviour="conv")
    if isinstance(blur, Box):
        found["box_blur"] = lambda x: filters.box_blur(x, size)
    return {name: on_chw(in_floats(function), task.image) for name, function in found.items()}


def in_kornia_rs(task: Task) -> Functions:
    size, blur, imgproc = task.kernel.shape[::-1], task.blur, kornia_rs.imgproc
    if task.image.dtype not in (np.uint8, torch.uint8):
        return {}
    if isinstance(blur, Box):
        return {"box_blur": on_hwc(lambda x: imgproc.box_blur(x, size), task.image)}
    if isinstance(blur, Gaussian):
        sigma = (blur.sigma, blur.sigma)
        return {"gaussian_blur": on_hwc(lambda x: imgproc.gaussian_blur(x, size, sigma), task.image)}
    return {}


def in_albumentations(task: Task) -> Functions:
    match task.blur:
        case Disk(radius):
            transform = al.Defocus(radius=(int(radius), int(radius)), alias_blur=(0.1, 0.1), p=1)
        case Box(length, vertical):
            transform = _motion(length, 90 if vertical else 0)
        case Line(length, angle):
            transform = _motion(int(length) | 1, angle)  # odd sizes only
        case Gaussian(sigma):
            transform = al.GaussianBlur(blur_limit=task.kernel.shape, sigma_limit=(sigma, sigma), p=1)
        case _:
            return {}
    return {type(transform).__name__: on_hwc(lambda x: transform(image=x)["image"], task.image)}


def _motion(size: int, angle: float) -> Any:
    line = {"angle_range": (angle, angle), "direction_range": (0, 0), "allow_shifted": False}
    return al.MotionBlur(blur_limit=(size, size), **line, p=1)


def in_torchvision(task: Task) -> Functions:
    if not isinstance(task.blur, Gaussian):
        return {}
    size, sigma = list(task.kernel.shape), [task.blur.sigma] * 2
    return {"gaussian_blur": on_chw(lambda x: tvf.gaussian_blur(x, size, sigma), task.image)}


def in_scipy(task: Task) -> Functions:
    image, blur, kernel = task.image, task.blur, task.kernel.numpy().astype(np.float32)
    channels = 2 if isinstance(image, np.ndarray) else 0
    rows, columns = axes = (0, 1) if channels else (1, 2)
    reach = [(0, 0) if axis == channels else (kernel.shape[axis - rows] // 2,) * 2 for axis in range(3)]
    options: Any = {"output": np.float32, "mode": "mirror"}

    def fft(x: Array) -> Array:
        around, taps = np.pad(x.astype(np.float32), reach, mode="reflect"), np.expand_dims(kernel, channels)
        return scipy.signal.fftconvolve(around, taps, mode="valid", axes=axes)

    found = {"fftconvolve": fft}
    if isinstance(blur, Gaussian):
        found["gaussian_filter"] = lambda x: scipy.ndimage.gaussian_filter(
            x, blur.sigma, axes=axes, **options
        )
    if isinstance(blur, Box):
        axis = rows if blur.vertical else columns
        found["uniform_filter1d"] = lambda x: scipy.ndimage.uniform_filter1d(x, blur.length, axis, **options)

    def on_either(function: Callable[[Array], Array]) -> Run:
        def run() -> Picture:
            blurred = function(np.asarray(image))
            if image.dtype in (np.uint8, torch.uint8):
                blurred = (blurred + np.float32(0.5)).astype(np.uint8)
            return blurred if channels else torch.from_numpy(blurred)

        return run

    return {name: on_either(function) for name, function in found.items()}


def in_pillow(task: Task) -> Functions:
    if task.image.dtype not in (np.uint8, torch.uint8):
        return {}  # it has no colour images of floats
    match task.blur:
        case Box(length, vertical):
            filtering: Any = PIL.ImageFilter.BoxBlur((0, length // 2) if vertical else (length // 2, 0))
        case Gaussian(sigma):
            filtering = PIL.ImageFilter.GaussianBlur(sigma)
        case _:
            return {}
    name = type(filtering).__name__
    return {name: on_hwc(lambda x: np.array(PIL.Image.fromarray(x).filter(filtering)), task.image)}


LIBRARIES: dict[str, Callable[[Task], Functions]] = {
    "OpenCV": opencv,
    "OpenCV, by planes": opencv_planes,
    "albumentations": in_albumentations,
    "torch FFT": torch_fft,
    "kornia": in_kornia,
    "kornia-rs": in_kornia_rs,
    "torchvision": in_torchvision,
    "SciPy": in_scipy,
    "Pillow": in_pillow,
}
BATCHED = ("OpenCV", "OpenCV, by planes", "torch FFT")
OTHER_BORDER = ("kornia-rs", "Pillow")  # compared where no border reaches
