"""Blur images: one same-size true convolution with a border rule, with one kernel an image or one for all.

On the CPU numba loops carry out a plan made for the kernel; on other devices torch convolves, directly or by
FFT. Both stand behind one custom op, whose gradient is its adjoint.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from . import _loops
from .plans import Plan, plan

__all__ = ["Border", "blur"]

#: What lies outside the image, in torch's names; numpy.pad's reflect, symmetric, edge, wrap and constant.
Border = Literal["reflect", "symmetric", "replicate", "circular", "zeros"]

_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def blur(image: Tensor, kernel: Tensor, *, border: Border = "reflect") -> Tensor:
    """Convolve images with blur kernels: same size, same type.

    A true convolution: an image of one bright pixel returns the kernel. Bytes are rounded half up, and a
    constant image stays constant. Differentiable in the image (any number of times), not in the kernel.

    Args:
        image: (..., C, H, W), uint8 or floating, of any size, in any memory layout; CHW and HWC memory are
            taken as they are.
        kernel: (h, w) for all images or, with an image (B, ..., C, H, W), (B, h, w) for one each; floating,
            both sides odd, finite, sum 1 within 1e-3. Values are not looked at on other devices than the CPU.
        border: what lies outside the image::

                reflect     d c b | a b c d | c b a
                symmetric   c b a | a b c d | d c b
                replicate   a a a | a b c d | d d d
                circular    b c d | a b c d | a b c
                zeros       0 0 0 | a b c d | 0 0 0

            Each works for any image and any kernel size.

    Returns:
        A tensor of the image's shape, dtype and device. uint8: flat kernels (disk, box) on the CPU are exact,
        (2S + n) // (2n) for a sum S over n taps; others within 1 grey level, and right wherever the exact
        value is further than 1e-3 from a tie. float32 within 1e-6 of max|image|, float64 within 1e-12;
        float16 and bfloat16 are computed in float32 and rounded once.

    Raises:
        TypeError: if an argument is not a tensor of a supported dtype.
        ValueError: if a shape, a device, the border's name or the kernel's values are wrong, or the kernel
            requires a gradient.

    Example:
        >>> import torch, blurlib
        >>> photo = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
        >>> blurlib.blur(photo, blurlib.kernels.disk(4)).shape
        torch.Size([3, 48, 64])
        >>> kernels = torch.stack([blurlib.kernels.bank_kernel(i) for i in range(2)])
        >>> blurlib.blur(torch.rand(2, 3, 48, 64), kernels, border="symmetric").dtype
        torch.float32
    """
    _check(image, kernel, border)
    result: Tensor = torch.ops.blurlib.blur(image, kernel, border)
    return result


def _check(image: Tensor, kernel: Tensor, border: str) -> None:
    for name, value in (("image", image), ("kernel", kernel)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"`{name}` must be a torch.Tensor, got {type(value).__name__}; use torch.from_numpy(...)"
            )
    if image.dtype not in _DTYPES:
        raise TypeError(
            f"`image` must be uint8 or floating, got {image.dtype}; convert it first, e.g. image.float()"
        )
    if not kernel.dtype.is_floating_point:
        raise TypeError(f"`kernel` must be floating, got {kernel.dtype}; use kernel.double() / kernel.sum()")
    if border not in get_args(Border):
        raise ValueError(f"`border` must be one of {', '.join(get_args(Border))}; got {border!r}")
    if image.ndim < 3:
        raise ValueError(
            f"`image` must be (..., C, H, W), got shape {tuple(image.shape)}; use image[None] for one channel"
        )
    if kernel.ndim not in (2, 3):
        raise ValueError(f"`kernel` must be (h, w) or (B, h, w), got shape {tuple(kernel.shape)}")
    if kernel.shape[-1] % 2 == 0 or kernel.shape[-2] % 2 == 0:
        raise ValueError(
            f"`kernel` must have odd height and width, got {tuple(kernel.shape)}; add a row or column of "
            "zeros on the side away from which the blur should lean"
        )
    if kernel.ndim == 3 and (image.ndim < 4 or kernel.shape[0] != image.shape[0]):
        raise ValueError(
            f"`kernel` of shape {tuple(kernel.shape)} means one kernel an image, but `image` has shape "
            f"{tuple(image.shape)}; give (B, ..., C, H, W) and (B, h, w) with one B, or one kernel (h, w)"
        )
    if kernel.device != image.device:
        raise ValueError(
            f"`kernel` must be on the image's device {image.device}, got {kernel.device}; use "
            "kernel.to(image.device)"
        )
    if kernel.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "`kernel` requires a gradient, which blur does not compute; use kernel.detach(), or torch's "
            "conv2d to learn a kernel"
        )


# --- The op ---


@torch.library.custom_op("blurlib::blur", mutates_args=())
def _blur_op(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    return _blur_torch(image, kernel, border)


@_blur_op.register_kernel("cpu")
def _blur_op_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    return _blur_cpu(image, kernel, border)


@_blur_op.register_fake
def _blur_op_fake(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    del kernel, border
    return _empty_like(image)


@torch.library.custom_op("blurlib::blur_adjoint", mutates_args=())
def _adjoint_op(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
    return _adjoint(gradient, kernel, border)


@_adjoint_op.register_fake
def _adjoint_op_fake(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
    del kernel, border
    return torch.empty(gradient.shape, dtype=gradient.dtype, device=gradient.device)


def _remember(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, str], output: Tensor
) -> None:
    del output
    _, kernel, border = inputs
    ctx.save_for_backward(kernel)
    ctx.border = border  # type: ignore[attr-defined]  # torch types no fields of ctx


def _backward_by(op: str) -> Callable[..., tuple[Tensor, None, None]]:
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            raise RuntimeError(
                "`kernel` requires a gradient, which blur does not compute; use kernel.detach()"
            )
        (kernel,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return getattr(torch.ops.blurlib, op)(gradient, kernel, ctx.border), None, None  # type: ignore[attr-defined]

    return backward


# The map is linear: each op is the other's gradient.
_blur_op.register_autograd(_backward_by("blur_adjoint"), setup_context=_remember)
_adjoint_op.register_autograd(_backward_by("blur"), setup_context=_remember)


def _adjoint(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
    """The adjoint of blur: each output goes back along the flipped kernel, then the border folds back."""
    height, width = gradient.shape[-2:]
    top, left = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    spread = torch.nn.functional.pad(gradient, (left, left, top, top))
    spread = torch.ops.blurlib.blur(spread, kernel.flip(-2, -1), "zeros")
    for dim, size, pad in ((-2, height, top), (-1, width, left)):
        if border == "zeros" or not size:
            spread = spread.narrow(dim, pad, size)
        else:
            shape = list(spread.shape)
            shape[dim] = size
            source = _border_index(size, pad, border, spread.device)
            spread = spread.new_zeros(shape).index_add_(dim, source, spread)
    return cast("Tensor", spread.contiguous())


def _is_interleaved(image: Tensor) -> bool:
    """Whether the memory is HWC (also channels_last), which then needs no copy."""
    return image.shape[-3] > 1 and not image.is_contiguous() and image.movedim(-3, -1).is_contiguous()


def _empty_like(image: Tensor) -> Tensor:
    """The result's memory: HWC for an image in HWC, else contiguous."""
    if _is_interleaved(image):
        *batch, channels, height, width = image.shape
        return image.new_empty((*batch, height, width, channels)).movedim(-1, -3)
    return image.new_empty(image.shape)


def _border_index(size: int, pad: int, border: str, device: torch.device | str = "cpu") -> Tensor:
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


@functools.lru_cache(maxsize=1024)
def _border_map(size: int, pad: int, border: str) -> np.ndarray:
    return np.asarray(_border_index(size, pad, border).numpy())


# --- On the CPU ---


def _blur_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    if image.dtype in (torch.float16, torch.bfloat16):
        return _empty_like(image).copy_(_blur_cpu(image.float(), kernel, border))
    plans = [plan(each, image.dtype) for each in (kernel if kernel.ndim == 3 else kernel[None])]
    if not image.numel():
        return _empty_like(image)
    interleaved = _is_interleaved(image)
    source, result = image if interleaved else image.contiguous(), _empty_like(image)
    jobs: list[Callable[[], None]] = []
    for position, chosen in enumerate(plans):
        old, new = (source, result) if kernel.ndim == 2 else (source[position], result[position])
        if chosen.kind == "copy":
            new.copy_(old)
        else:
            jobs += _jobs(chosen, old, new, border, interleaved)
    _run(jobs)
    return result


def _jobs(chosen: Plan, old: Tensor, new: Tensor, border: str, interleaved: bool) -> list[Callable[[], None]]:
    """The work of one kernel, cut into planes (HWC: images) that threads can share."""
    channels, height, width = old.shape[-3:]
    step = channels if interleaved else 1
    shape = (-1, height, width * step)
    before, after = (t.movedim(-3, -1) if interleaved else t for t in (old, new))
    planes, out = before.detach().numpy().reshape(shape), after.numpy().reshape(shape)
    rows = _border_map(height, chosen.window[0] // 2, border)
    columns = _border_map(width, chosen.window[1] // 2, border)
    left = chosen.window[1] // 2
    borders = (rows, columns, left, step)
    loop: Callable[..., None]
    if chosen.kind == "fft":
        loop = _fft_job(chosen, borders)
        return [functools.partial(loop, planes[p : p + 1], out[p : p + 1]) for p in range(len(planes))]
    loop = _loops.weighted_sums
    settings: tuple[Any, ...] = (*chosen.arrays, *borders)
    if chosen.kind == "integer":
        loop, settings = _loops.integer_sums, (*chosen.arrays, np.float32(chosen.weight), *borders)
    elif chosen.kind == "separable":
        loop = _loops.separable_sums
    return [functools.partial(loop, planes[p : p + 1], out[p : p + 1], *settings) for p in range(len(planes))]


def _fft_job(
    chosen: Plan, borders: tuple[np.ndarray, np.ndarray, int, int]
) -> Callable[[np.ndarray, np.ndarray], None]:
    """Blur one plane by FFT in float64, on the calling thread alone."""
    from scipy import fft  # its transforms, unlike torch's, do not depend on the number of threads

    kernel, taps, weights = chosen.arrays
    rows, columns, before, step = borders
    size = [fft.next_fast_len(n.size, real=True) for n in (rows, columns)]
    spectrum = fft.rfft2(kernel, s=size)
    top, left = kernel.shape[0] - 1, kernel.shape[1] - 1

    def job(plane: np.ndarray, target: np.ndarray) -> None:
        if not np.isfinite(plane).all():  # one broken pixel would reach them all
            nothing = np.empty((0, 2), np.int64), np.empty(0)
            _loops.weighted_sums(plane, target, taps, weights, *nothing, rows, columns, before, step)
            return
        for channel in range(step):
            image = plane[0, :, channel::step]
            bordered = np.where((rows < 0)[:, None] | (columns < 0), 0.0, image[np.ix_(rows, columns)])
            sums = fft.irfft2(fft.rfft2(bordered, s=size) * spectrum, s=size)
            sums = sums[top : top + image.shape[0], left : left + image.shape[1]]
            if target.dtype == np.uint8:
                sums = (sums + 0.5).clip(0, 255)
            target[0, :, channel::step] = sums

    return job


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    # A forked child has the parent's pool object without its threads, and would wait for them for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _run(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs on torch's number of threads, on one inside a DataLoader worker."""
    global _pool
    threads = 1 if get_worker_info() else min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        for job in jobs:
            job()
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="blurlib")

    def share(first: int) -> None:
        for job in jobs[first::threads]:
            job()

    for done in [_pool.submit(share, first) for first in range(threads)]:
        done.result()


# --- On other devices ---

# Up to this many taps a direct convolution beats an FFT on the GPUs that torch supports well.
_DIRECT_TAPS = 81


def _blur_torch(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    """The same map in torch's own operations, without a look at any value: nothing waits for the device."""
    real = torch.float64 if image.dtype == torch.float64 else torch.float32
    result = _empty_like(image)
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
            source = _border_index(image.shape[dim], pad, border, image.device)
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
