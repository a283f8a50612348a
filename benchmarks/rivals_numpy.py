"""Rivals that take NumPy arrays: OpenCV, albumentations, SciPy, scikit-image, Pillow."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.signal
import torch
from torch import Tensor

from blurlib.blurs import Box, Disk, Gaussian, Line
from tasks import Array, Picture, Task, Variant, on_either, on_hwc, one_by_one, to_kind

MOST_TAPS_NDIMAGE = 200  # of its general convolution, which is slow

# --- OpenCV ---


def cv2_filter(task: Task) -> Variant | None:
    import cv2

    if task.batched:
        return one_by_one(cv2_filter, task)
    taps = np.ascontiguousarray(task.kernel.numpy()[::-1, ::-1]).astype(np.float32)  # OpenCV correlates
    return lambda: on_hwc(lambda x: cv2.filter2D(x, -1, taps, borderType=cv2.BORDER_REFLECT_101), task.image)


def cv2_planes(task: Task) -> Variant | None:
    import cv2

    image = task.image
    if task.batched or not isinstance(image, Tensor):
        return None
    taps = np.ascontiguousarray(task.kernel.numpy()[::-1, ::-1]).astype(np.float32)
    blur = task.blur

    def run() -> Tensor:
        result = torch.empty_like(image)
        for plane, out in zip(image.numpy(), result.numpy(), strict=True):
            if isinstance(blur, Gaussian):
                cv2.GaussianBlur(plane, taps.shape[::-1], blur.sigma, dst=out)
            elif isinstance(blur, Box):
                cv2.blur(plane, _box_size(blur), dst=out, anchor=_box_anchor(blur))
            else:
                cv2.filter2D(plane, -1, taps, dst=out, borderType=cv2.BORDER_REFLECT_101)
        return result

    return run


def _box_size(box: Box) -> tuple[int, int]:
    """Width and height, as OpenCV wants them."""
    return (1, box.length) if box.vertical else (box.length, 1)


def _box_anchor(box: Box) -> tuple[int, int]:
    middle = (box.length - 1) // 2  # of an even box: the side to which ours leans
    return (0, middle) if box.vertical else (middle, 0)


def cv2_gaussian(task: Task) -> Variant | None:
    import cv2

    blur = task.blur
    if not isinstance(blur, Gaussian):
        return None
    size = tuple(task.kernel.shape)
    return lambda: on_hwc(lambda x: cv2.GaussianBlur(x, size, blur.sigma), task.image)


def cv2_blur(task: Task) -> Variant | None:
    import cv2

    blur = task.blur
    if not isinstance(blur, Box):
        return None
    size, anchor = _box_size(blur), _box_anchor(blur)
    return lambda: on_hwc(lambda x: cv2.blur(x, size, anchor=anchor), task.image)


# --- albumentations: its kernels are others ---


def albumentations_blur(task: Task) -> Variant | None:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise
    import albumentations as al

    match task.blur:
        case Disk(radius) if radius >= 1:
            transform = al.Defocus(radius=(int(radius), int(radius)), alias_blur=(0.1, 0.1), p=1)
        case Box(length, vertical):
            transform = _albumentations_motion(al, length, 90 if vertical else 0)
        case Line(length, angle):
            transform = _albumentations_motion(al, int(length), angle)
        case Gaussian(sigma):
            transform = al.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1)
        case _:
            return None
    return lambda: on_hwc(lambda x: transform(image=x)["image"], task.image)


def _albumentations_motion(al: Any, length: int, angle: float) -> Any:
    size = max(3, length | 1)  # odd sizes only
    return al.MotionBlur(
        blur_limit=(size, size), allow_shifted=False, angle_range=(angle, angle), direction_range=(0, 0), p=1
    )


# --- SciPy, scikit-image, Pillow ---


def ndimage_special(task: Task) -> Variant | None:
    blur = task.blur
    if isinstance(blur, Gaussian):

        def sums(x: Array, channels: int) -> Array:
            sigma = [blur.sigma] * 3
            sigma[channels] = 0
            return scipy.ndimage.gaussian_filter(x, sigma, output=np.float32, mode="mirror")
    elif isinstance(blur, Box):

        def sums(x: Array, channels: int) -> Array:
            axis = (0 if blur.vertical else 1) + (channels == 0)
            origin = blur.length % 2 - 1
            return scipy.ndimage.uniform_filter1d(
                x, blur.length, axis, output=np.float32, mode="mirror", origin=origin
            )
    else:
        return None
    return lambda: on_either(lambda x, channels: to_kind(sums(x, channels), x.dtype), task.image)


def ndimage_convolve(task: Task) -> Variant | None:
    if task.batched or task.kernel.numel() > MOST_TAPS_NDIMAGE:
        return None
    kernel = task.kernel.numpy()

    def convolve(x: Array, channels: int) -> Array:
        sums = scipy.ndimage.convolve(
            x, np.expand_dims(kernel, channels % 3), output=np.float32, mode="mirror"
        )
        return to_kind(sums, x.dtype)

    return lambda: on_either(convolve, task.image)


def scipy_fft(task: Task) -> Variant | None:
    if task.batched:
        return None
    kernel = task.kernel.numpy().astype(np.float32)
    y, x = kernel.shape[0] // 2, kernel.shape[1] // 2

    def convolve(image: Array, channels: int) -> Array:
        pads, axes = [(y, y), (x, x)], (0, 1) if channels else (1, 2)
        pads.insert(channels % 3, (0, 0))
        around = np.pad(image.astype(np.float32), pads, mode="reflect")
        sums = scipy.signal.fftconvolve(around, np.expand_dims(kernel, channels % 3), mode="valid", axes=axes)
        return to_kind(sums, image.dtype)

    return lambda: on_either(convolve, task.image)


def skimage_gaussian(task: Task) -> Variant | None:
    from skimage.filters import gaussian

    blur = task.blur
    if not isinstance(blur, Gaussian):
        return None

    def run(x: Array, channels: int) -> Array:
        sums = gaussian(
            x, blur.sigma, mode="mirror", preserve_range=True, truncate=4.0, channel_axis=channels
        )
        return to_kind(sums, x.dtype)

    return lambda: on_either(run, task.image)


def _pillow(filtering: Any, image: Picture) -> Variant | None:
    import PIL.Image

    if isinstance(image, Tensor) and image.dtype != torch.uint8:
        return None  # it has no colour pictures of floats
    return lambda: on_hwc(lambda x: np.array(PIL.Image.fromarray(x).filter(filtering)), image)


def pillow_gaussian(task: Task) -> Variant | None:
    import PIL.ImageFilter

    blur = task.blur
    return (
        _pillow(PIL.ImageFilter.GaussianBlur(blur.sigma), task.image) if isinstance(blur, Gaussian) else None
    )


def pillow_box(task: Task) -> Variant | None:
    import PIL.ImageFilter

    blur = task.blur
    if not isinstance(blur, Box) or blur.length % 2 == 0:
        return None
    reach = blur.length // 2
    return _pillow(PIL.ImageFilter.BoxBlur((0, reach) if blur.vertical else (reach, 0)), task.image)
