"""blur() on the CPU: memory for the core, FFT for what is too large for it, torch where there is no core."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from . import fft
from .core import MISSING, warn_of_missing_core
from .layouts import empty_like, is_interleaved
from .torch_backend import blur_torch

if not MISSING:
    from . import _core

# The types that the core knows, in its letters; images of half precision are blurred in float32.
_CODES = {torch.uint8: "u", torch.float32: "f", torch.float64: "d"}
_ARRAY_CODES = {np.dtype(np.uint8): "u", np.dtype(np.float32): "f", np.dtype(np.float64): "d"}


def blur_cpu(image: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    """The operator on the CPU. The dispatcher calls it, and so with tensors only that have memory."""
    if backend == "torch" or MISSING:
        if backend is None:
            warn_of_missing_core()
        _check_values(kernel)
        return blur_torch(image, kernel, border)
    code = _CODES.get(image.dtype)
    if code is None:
        if image.dtype not in (torch.float16, torch.bfloat16):
            raise TypeError(f"`image` must be uint8 or floating, got {image.dtype}; convert it first")
        return empty_like(image).copy_(blur_cpu(image.float(), kernel, border))
    shape, strides = image.shape, image.stride()
    interleaved = is_interleaved(image)
    if not (interleaved or strides[-1] == 1 or shape[-1] < 2):
        image = image.contiguous()
        strides = image.stride()
    address = image.data_ptr()
    if address % image.itemsize:  # an array of somebody's, in the middle of a file
        image = image.clone(memory_format=torch.preserve_format)
        address, strides = image.data_ptr(), image.stride()
    kernel = _plain(kernel)
    # When the caches are cold, each of torch's functions takes as long as blurring some rows.
    result = (
        empty_like(image) if interleaved else torch.empty_like(image, memory_format=torch.contiguous_format)
    )
    left = _core.blur(
        address,
        result.data_ptr(),
        code,
        shape,
        strides,
        interleaved,
        kernel.data_ptr(),
        _CODES[kernel.dtype],
        kernel.shape,
        border,
        _threads(),
    )
    for index in left:
        one, weights = (index, kernel[index]) if kernel.ndim == 3 else (..., kernel)
        source, target = image.detach()[one].numpy(), result[one].numpy()
        fft.blur_planes(source, target, weights.detach().numpy(), border, _threads())
    return result


def blur_array(image: np.ndarray, kernel: Tensor, border: str, backend: str | None = None) -> np.ndarray:
    """Blur an array (H, W) or (H, W, C) without a word to torch, where its memory allows it."""
    code, itemsize = _ARRAY_CODES.get(image.dtype), image.itemsize
    rows, columns, *channels = image.shape
    stride, *inner = image.strides
    step = channels[0] if channels else 1
    in_rows = inner[0] == step * itemsize and (step == 1 or inner[1] == itemsize)
    in_rows = in_rows and stride >= 0 and stride % itemsize == 0 and image.flags.aligned
    if backend is not None or MISSING or code is None or not in_rows:
        array = np.require(image, requirements=("C", "A", "W"))
        bands = torch.from_numpy(array if channels else array[..., None]).permute(2, 0, 1)
        return np.asarray(blur_cpu(bands, kernel, border, backend).permute(1, 2, 0).numpy()).reshape(
            image.shape
        )
    kernel = _plain(kernel)
    result = np.empty(image.shape, image.dtype)
    left = _core.blur(
        _core.address(image),
        _core.address(result),
        code,
        (step, rows, columns),
        (1, stride // itemsize, step),
        step > 1,
        kernel.data_ptr(),
        _CODES[kernel.dtype],
        kernel.shape,
        border,
        _threads(),
    )
    if left:
        source, target = (np.moveaxis(a, 2, 0) if channels else a[None] for a in (image, result))
        fft.blur_planes(source, target, kernel.detach().numpy(), border, _threads())
    return result


def _plain(kernel: Tensor) -> Tensor:
    """The kernel as the core takes it: in one piece, float32 or float64."""
    if kernel.dtype not in (torch.float32, torch.float64):
        kernel = kernel.double()
    if not kernel.is_contiguous():
        kernel = kernel.contiguous()
    return kernel.clone() if kernel.data_ptr() % kernel.itemsize else kernel


def _threads() -> int:
    """Torch's number; one in a worker of a DataLoader, of which there are as many as were asked for."""
    return 1 if get_worker_info() else torch.get_num_threads()


def _check_values(kernel: Tensor) -> None:
    """What the core checks itself."""
    total = kernel.double().sum((-2, -1))
    if not total.isfinite().all():
        raise ValueError("`kernel` must be finite, got NaN or infinity in it; look at how it was made")
    wrong = total[(total - 1).abs() > 1e-3]
    if wrong.numel():
        raise ValueError(
            f"`kernel` must have a sum of 1 within 1e-3, got {float(wrong[0]):g}; use kernel / kernel.sum()"
        )
