"""blur() in torch's own operations, for every device that is not the CPU."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor

from ._images import border_index, empty_like

# Up to this many taps a direct convolution beats an FFT on the GPUs that torch supports well.
_DIRECT_TAPS = 81


def blur_torch(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    """The same map in torch's own operations, without a look at any value: nothing waits for the device."""
    real = torch.float64 if image.dtype == torch.float64 else torch.float32
    result = empty_like(image)
    if not image.numel():
        return result
    small = kernel.shape[-2] * kernel.shape[-1] <= _DIRECT_TAPS
    convolve = _convolve_direct if small else _convolve_fft
    sums = convolve(image.to(real), kernel.to(real), border)
    if image.dtype == torch.uint8:
        sums = (sums + 0.5).clamp(0, 255)
    return result.copy_(sums.to(image.dtype))


def _bordered(image: Tensor, top: int, left: int, border: str) -> Tensor:
    if border == "zeros":
        return torch.nn.functional.pad(image, (left, left, top, top))
    for dim, pad in ((-2, top), (-1, left)):
        if pad:
            source = border_index(image.shape[dim], pad, border, image.device)
            image = image.index_select(dim, source)
    return image


def _convolve_direct(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    height, width = kernel.shape[-2:]
    padded = _bordered(image, height // 2, width // 2, border)
    flipped = kernel.flip(-2, -1)
    count = kernel.shape[0] if kernel.ndim == 3 else 1
    # Groups share a kernel: (planes of an image, one kernel each) as channels of one picture.
    planes = padded.reshape(count, -1, *padded.shape[-2:]).transpose(0, 1)
    # Neither tf32 nor an amp block around the call may round the weights.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with exact, torch.autocast(image.device.type, enabled=False):
        sums = torch.nn.functional.conv2d(planes, flipped.reshape(count, 1, height, width), groups=count)
    return sums.transpose(0, 1).reshape(image.shape)


def _convolve_fft(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    height, width = kernel.shape[-2:]
    padded = _bordered(image, height // 2, width // 2, border)
    size = [_fast_length(n) for n in padded.shape[-2:]]
    if kernel.ndim == 3:
        kernel = kernel.reshape(kernel.shape[0], *(1,) * (image.ndim - 3), height, width)
    product = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel, s=size)
    sums = torch.fft.irfft2(product, s=size)
    rows, columns = (
        slice(height - 1, height - 1 + image.shape[-2]),
        slice(width - 1, width - 1 + image.shape[-1]),
    )
    return cast("Tensor", sums[..., rows, columns])


@functools.lru_cache(maxsize=1024)
def _fast_length(n: int) -> int:
    """The next length that has no prime factor above 7, which FFT libraries handle best."""
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
