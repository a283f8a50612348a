"""blur() on CUDA devices: Triton's kernels where they serve, torch's operations elsewhere.

What serves follows from types and shapes, and from one trial a device and type; no value is looked at later.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from .torch_backend import blur_torch

#: Up to this many rows and columns a kernel is summed tap by tap. Modelled, not measured, by
#: benchmarks/gpu_model.py: bytes under a disk of 33 and camera shakes, mostly zeros, take less than an FFT.
_LONGEST_SIDE = {torch.uint8: 33, torch.float16: 17, torch.bfloat16: 17, torch.float32: 17}

# A tie's neighbours are both right, and half types are rounded once more.
_ALLOWED = {torch.uint8: 1.0, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-5}


def blur_cuda(image: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    """The operator on a CUDA device. The dispatcher calls it, and so with tensors only that have memory."""
    side = _LONGEST_SIDE.get(image.dtype, 0)
    if backend == "torch" or max(kernel.shape[-2:]) > side or not image.numel() or not _serves(image):
        return blur_torch(image, kernel, border)
    from .triton_backend import blur_triton

    return blur_triton(image, kernel, border)


def cuda_backend() -> str:
    """What blurs bytes on the current CUDA device; torch, where there is none."""
    if not torch.cuda.is_available() or torch.version.hip:
        return "torch"
    device = torch.device("cuda", torch.cuda.current_device())
    return "torch" if _trouble(device, torch.uint8) else "triton"


class _CapturingError(RuntimeError):
    """A trial waits for the device, which nothing may while a CUDA graph is captured."""


def _is_capturing() -> bool:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's
        return False
    return torch.cuda.is_current_stream_capturing()


def _serves(image: Tensor) -> bool:
    try:
        return not torch.version.hip and not _trouble(image.device, image.dtype)
    except _CapturingError:  # which is not remembered: torch serves this once
        return False


@functools.cache
def _trouble(device: torch.device, dtype: torch.dtype) -> str:
    """Why Triton cannot serve a device, with a warning; empty where it can. It compiles all kernels."""
    if _is_capturing():
        raise _CapturingError
    try:
        from .triton_backend import blur_triton

        with torch.no_grad():
            reason = _difference(blur_triton, device, dtype)
    except Exception as error:  # whatever a compiler, a driver or another version of Triton may raise
        first = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
    if reason:
        warnings.warn(
            f"blurlib's kernels for CUDA do not serve {device} with {dtype}, so torch blurs there: right, "
            "but more slowly. Triton comes with torch on Linux, else `pip install triton`; "
            f'blur(..., backend="torch") is silent. (Why they do not: {reason})',
            stacklevel=2,
        )
    return reason


def _difference(blur_triton: object, device: torch.device, dtype: torch.dtype) -> str:
    """Blur small images in every way and layout, by tiles of every size, and compare with torch's way."""
    assert callable(blur_triton)
    disk = torch.ones((7, 7), device=device)
    disk[::6, ::6] = 0
    row = torch.arange(1.0, 8.0, device=device)
    several = torch.stack([disk, torch.outer(row, row.flip(0).sqrt()), disk * row])
    several /= several.sum((-2, -1), keepdim=True)
    for width, layout in ((13, torch.channels_last), (301, torch.contiguous_format)):
        levels = torch.arange(3 * 3 * 10 * width, device=device).reshape(3, 3, 10, width) * 89 % 256
        image = levels.to(dtype) if dtype == torch.uint8 else (levels / 256).to(dtype)
        image = image.contiguous(memory_format=layout)
        expected = blur_torch(image, several, "reflect").double()
        largest = float((blur_triton(image, several, "reflect").double() - expected).abs().max())
        if not largest <= _ALLOWED[dtype]:
            return f"a trial image differs by {largest:g} from what torch computes"
    return ""
