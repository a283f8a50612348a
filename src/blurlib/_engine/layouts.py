"""How an image lies in memory, and what lies outside it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

#: What lies outside the image, in torch's names; numpy.pad's reflect, symmetric, edge, wrap and constant.
Border = Literal["reflect", "symmetric", "replicate", "circular", "zeros"]


def is_interleaved(image: Tensor) -> bool:
    """Whether the memory is HWC (channels_last, or a part of such an image), which then needs no copy."""
    channels = image.shape[-3]
    return (
        channels > 1 and image.stride(-3) == 1 and image.stride(-1) == channels and not image.is_contiguous()
    )


def empty_like(image: Tensor) -> Tensor:
    """The result's memory: HWC for an image in HWC, else contiguous."""
    if is_interleaved(image):
        *batch, channels, height, width = image.shape
        return image.new_empty((*batch, height, width, channels)).movedim(-1, -3)
    return image.new_empty(image.shape)


def planes(array: np.ndarray) -> Tensor:
    """An array (H, W, C) as a contiguous tensor (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def border_index(size: int, pad: int, border: str, device: torch.device | str = "cpu") -> Tensor:
    """The source index of each of `pad` + `size` + `pad` positions; -1 stands for zero."""
    position = torch.arange(-pad, size + pad, device=device)
    if border == "zeros":
        return torch.where((position >= 0) & (position < size), position, -1)
    if border == "replicate":
        return position.clamp(0, size - 1)
    if border == "circular":
        return position % size
    period = 2 * size if border == "symmetric" else max(1, 2 * size - 2)
    folded = position % period
    return torch.where(folded < size, folded, period - folded - int(border == "symmetric"))
