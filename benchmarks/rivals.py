"""The table of rivals: a library's blur each, called as its users call it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import rivals_numpy as arrays
import rivals_torch as tensors
import torch_ideas
from tasks import Task, Variant


@dataclass(frozen=True)
class Rival:
    """One way to blur.

    Attributes:
        name: in tables and records.
        make: from a task to a function without arguments, or None if it cannot do it.
        package: what has to be installed.
        aside: why it never counts as the best rival; empty if it counts.
        compared: whether its picture is compared with the reference; else it blurs by another kernel.
        bytes_off: how far it may be from the reference, in grey levels.
        floats_off: the same for floats, as a part of the largest value.
        inside: compared only where the border is out of reach, since it has another border rule.
    """

    name: str
    make: Callable[[Task], Variant | None]
    package: str = "torch"
    aside: str = ""
    compared: bool = True
    bytes_off: float = 1.01
    floats_off: float = 1e-5
    inside: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.package) is not None


_OTHER = "another kernel: timing only"
_CONSTANT = "compiled anew, for seconds, for each kernel and each size"

OURS = Rival("blurlib", tensors.engine, bytes_off=0.502, floats_off=1e-6)
FLOOR = Rival("copy", tensors.copy, aside="copies the image, blurs nothing", compared=False)
RIVALS = (
    Rival("cv2.filter2D", arrays.cv2_filter, "cv2"),
    Rival("cv2.GaussianBlur", arrays.cv2_gaussian, "cv2"),
    Rival("cv2.blur", arrays.cv2_blur, "cv2"),
    Rival(
        "cv2, plane by plane", arrays.cv2_planes, "cv2", aside="not how a user of CHW tensors calls OpenCV"
    ),
    Rival("albumentations", arrays.albumentations_blur, "albumentations", aside=_OTHER, compared=False),
    Rival("kornia filter2d", tensors.kornia_filter, "kornia"),
    Rival("kornia box_blur, gaussian_blur2d", tensors.kornia_special, "kornia"),
    Rival("kornia motion_blur", tensors.kornia_motion, "kornia", aside=_OTHER, compared=False),
    Rival("torchvision gaussian_blur", tensors.torchvision_gaussian, "torchvision"),
    Rival("deepinv conv2d", tensors.deepinv_convolution, "deepinv"),
    Rival("deepinv conv2d_fft", tensors.deepinv_fft, "deepinv"),
    Rival("scipy.ndimage gaussian, uniform", arrays.ndimage_special, "scipy"),
    Rival("scipy.ndimage convolve", arrays.ndimage_convolve, "scipy"),
    Rival("scipy.signal fftconvolve", arrays.scipy_fft, "scipy"),
    Rival("skimage gaussian", arrays.skimage_gaussian, "skimage"),
    Rival(
        "Pillow GaussianBlur", arrays.pillow_gaussian, "PIL", aside="approximate: timing only", compared=False
    ),
    Rival("Pillow BoxBlur", arrays.pillow_box, "PIL", inside=True),
    Rival("torch conv2d", tensors.plain(tensors.convolution)),
    Rival("torch conv2d, separable", tensors.plain(tensors.separable_convolution)),
    Rival("torch rfft2", tensors.plain(tensors.spectrum)),
    Rival("torch running sums", tensors.idea(torch_ideas.running_sums), floats_off=5e-4),
    Rival("torch shifts", tensors.idea(torch_ideas.shifts)),
    Rival("torch shifts, separable", tensors.idea(torch_ideas.separable_shifts)),
    Rival("torch.compile conv2d", tensors.compiled(tensors.convolution)),
    Rival("torch.compile conv2d, separable", tensors.compiled(tensors.separable_convolution)),
    Rival(
        "torch.compile running sums",
        tensors.compiled(lambda task: torch_ideas.running_sums(task.kernel)),
        floats_off=5e-4,
        aside=_CONSTANT,
    ),
    Rival(
        "torch.compile shifts",
        tensors.compiled(lambda task: torch_ideas.shifts(task.kernel, most=20)),  # a minute for 65, slow too
        aside=_CONSTANT,
    ),
)
BATCHED = (
    "cv2.filter2D",
    "kornia filter2d",
    "deepinv conv2d_fft",
    "torch conv2d",
    "torch rfft2",
    "torch running sums",
    "torch shifts",
)
