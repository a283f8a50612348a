"""A photograph under several blurs, each with its kernel, as a figure."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch

from .._common.checks import check_number
from .._common.pictures import open_image
from .._common.texts import visible
from ..blurs import Blur, describe, kernel_words
from ..functional import apply
from ..notation import parse_list
from ..protocol import to_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 8  # more blurs go on in further rows
_WIDTH = 2.6  # inches of a photograph


def show(
    image: str | os.PathLike[str] | PIL.Image.Image | np.ndarray | torch.Tensor,
    blurs: str | Blur | Iterable[str | Blur] = "sharp, D4, D8, shake",
    *,
    scale: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Draw a photograph under each blur, and below it the blur's kernel.

    Args:
        image: a file, a Pillow image, an array (H, W) or (H, W, 3), or a tensor (3, H, W) or (1, H, W);
            arrays and tensors uint8, or floating from 0 to 1.
        blurs: short names or blurs. "shake", which has a kernel only for a given image, is shown by that of
            the first image.
        scale: size of this image divided by the size that the blurs are defined for; 1 takes them in its own
            pixels.
        title: above the figure; None for none.

    Returns:
        A figure of matplotlib, which a notebook shows: ``show(photo).savefig("blurs.png")`` keeps it.

    Raises:
        TypeError: if `image` is of another kind or type.
        ValueError: if it has another shape or floating values outside 0 to 1, or a blur is unknown.
        FileNotFoundError: if there is no such file.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> figure = show(PIL.Image.new("RGB", (64, 48), "navy"), "D2, D4, shake")
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['D2', 'D4', 'shake']
    """
    from ._html.drawing import new_drawing

    photograph = _photograph(image)
    check_number("scale", scale, low=1e-6, high=1e6, unit="times")
    values = parse_list(blurs)
    kernels = [value.of_image(0).kernel(scale).detach().cpu().numpy() for value in values]
    side = max(max(kernel.shape) for kernel in kernels)
    columns = min(len(values), _COLUMNS)
    bands = -(-len(values) // columns)
    height = _WIDTH * min(2.0, photograph.height / photograph.width)
    heights = [height, 0.45 * _WIDTH] * bands
    drawing = new_drawing(_WIDTH * columns, sum(heights) + 0.5 * bands + (0.4 if title else 0.0))
    grid = drawing.subplots(2 * bands, columns, squeeze=False, height_ratios=heights)
    for number, value in enumerate(values):
        row, column = divmod(number, columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        upper.imshow(np.asarray(apply(photograph, value.of_image(0), scale=scale)))
        upper.set_title(visible(str(value)), fontsize=11, fontweight="bold", parse_math=False)
        pad = [((side - each) // 2,) * 2 for each in kernels[number].shape]
        lower.imshow(np.pad(kernels[number], pad), cmap="gray", vmin=0, interpolation="nearest")
        words = kernel_words(value) if describe(value) != str(value) else ""
        lower.set_xlabel(textwrap.fill(visible(words), 28), fontsize=8.5, parse_math=False)
    for axes in drawing.axes:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_visible(bool(axes.images))
    if title is not None:
        drawing.suptitle(title, parse_math=False)
    return drawing


def _photograph(image: Any) -> PIL.Image.Image:
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        if not path.is_file():
            raise FileNotFoundError(f"`image` must name an image file, there is no {str(path)!r}")
        try:
            with open_image(path) as opened:
                return to_rgb(opened)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"`image` must be an image that can be read, got {str(path)!r}: {error}"
            ) from error
    if isinstance(image, PIL.Image.Image):
        return to_rgb(image)
    if isinstance(image, torch.Tensor):
        array = image.detach().cpu().numpy()
        if array.ndim != 3 or array.shape[0] not in (1, 3):
            raise ValueError(
                f"`image` must be one tensor (3, H, W) or (1, H, W), got shape {tuple(image.shape)}; "
                "take one of a batch by images[0]"
            )
        array = np.moveaxis(array, 0, -1)
    elif isinstance(image, np.ndarray):
        array = image[..., None] if image.ndim == 2 else image
        if array.ndim != 3 or array.shape[2] not in (1, 3):
            remedy = "move its channels to the end" if array.shape[0] in (1, 3) else "take one of a batch"
            raise ValueError(
                f"`image` must be an array (H, W) or (H, W, 3), got shape {image.shape}; {remedy}"
            )
    else:
        raise TypeError(
            f"`image` must be a file, a Pillow image, an array or a tensor, got {type(image).__name__}"
        )
    if 0 in array.shape:
        raise ValueError(f"`image` must have at least one pixel, got shape {array.shape}")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"`image` must have floating values from 0 to 1, got {array.min():g} to {array.max():g}; "
                "undo its normalisation, or convert 0 to 255 to uint8"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise TypeError(f"`image` must be uint8, or floating from 0 to 1, got {array.dtype}")
    return PIL.Image.fromarray(np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3))))
