"""Tensors' data for the compiled loops, by address instead of as arrays.

The loops take arrays, but reach into them by `_vectors.row` alone, which adds to an address and looks at no
bounds. So any array of the dtype will do, an *anchor*, together with the distance from there to where the
data begin. A tensor's own array takes torch 50 µs to make when the caches are cold; its address takes one.
Where the plain twins stand in for the vectors, bounds do count, and arrays it must be.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: An array of each dtype, and the same seen as the bits of its elements: the loops copy floats by their bits.
ANCHORS: dict[torch.dtype, np.ndarray] = {
    torch.uint8: np.zeros(64, np.uint8),
    torch.float32: np.zeros(16, np.float32),
    torch.float64: np.zeros(8, np.float64),
}
BITS: dict[torch.dtype, type[np.unsignedinteger]] = {
    torch.uint8: np.uint8,
    torch.float32: np.uint32,
    torch.float64: np.uint64,
}
BIT_ANCHORS = {dtype: anchor.view(BITS[dtype]) for dtype, anchor in ANCHORS.items()}
_PLACES = {dtype: (anchor.ctypes.data, anchor.itemsize) for dtype, anchor in ANCHORS.items()}


def origin(data: Tensor | np.ndarray, dtype: torch.dtype) -> int:
    """The distance, in elements, from the anchor of the dtype to where a tensor or an array begins."""
    start, itemsize = _PLACES[dtype]
    return (address(data) - start) // itemsize


def address(data: Tensor | np.ndarray) -> int:
    place: int = data.data_ptr() if isinstance(data, Tensor) else data.__array_interface__["data"][0]
    return place
