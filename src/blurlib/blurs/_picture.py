"""A kernel as a picture, and a blur as a notebook shows it."""

from __future__ import annotations

import html

import numpy as np
import torch
from PIL import Image

from .._common.inline import data_uri
from .._common.texts import visible
from ._properties import cached_kernel, describe
from ._values import Blur, PerImage

_SIDE = 96  # of a notebook's picture, about


def kernel_levels(kernel: torch.Tensor | np.ndarray) -> np.ndarray:
    """(h, w) uint8: a kernel's values, 255 where it is strongest and 0 where it is not positive."""
    taps = kernel.detach().cpu().numpy() if isinstance(kernel, torch.Tensor) else kernel
    levels: np.ndarray = np.rint(taps / taps.max() * 255)
    return levels.clip(0).astype(np.uint8)  # an own kernel may be negative


def kernel_words(blur: Blur) -> str:
    """A blur in words, for a picture of its kernel; of `shake` and others it is the first image's."""
    words = describe(blur)
    return f"{words}; here {blur.of_image(0)}, the first image's" if isinstance(blur, PerImage) else words


def blur_html(blur: Blur) -> str:
    """The kernel, the short name and the words, without anything to be installed."""
    levels = kernel_levels(cached_kernel(blur.of_image(0)))
    levels = np.pad(levels, 1)
    enlarged = max(1, round(_SIDE / max(levels.shape)))
    name, words = (html.escape(visible(text)) for text in (str(blur), kernel_words(blur)))
    height, width = (enlarged * side for side in levels.shape)
    return (
        f'<figure style="margin: 0"><img src="{data_uri(Image.fromarray(levels), "PNG")}" '
        f'alt="kernel of {name}" width="{width}" height="{height}" style="image-rendering: pixelated">'
        f"<figcaption><b>{name}</b>{f' {words}' if words != name else ''}</figcaption></figure>"
    )
