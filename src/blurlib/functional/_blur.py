"""`blur`: the convolution, with the checks of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, overload

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from .._engine import apply as apply_kernel
from .._engine import blur_array, cpu_backend, cuda_backend
from ._border import Constant, Outside, blur_array_inside, blur_inside, check_outside

#: What blurs instead of the fastest: torch's own operations, on the CPU too.
Backend = Literal["torch"]

_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ARRAYS = tuple(np.dtype(kind) for kind in ("uint8", "float16", "float32", "float64"))


@overload
def blur(
    image: Tensor, kernel: Tensor, *, border: Outside = ..., backend: Backend | None = ...
) -> Tensor: ...


@overload
def blur(
    image: np.ndarray, kernel: Tensor | np.ndarray, *, border: Outside = ..., backend: Backend | None = ...
) -> np.ndarray: ...


def blur(
    image: Tensor | np.ndarray,
    kernel: Tensor | np.ndarray,
    *,
    border: Outside = "reflect",
    backend: Backend | None = None,
) -> Tensor | np.ndarray:
    """Convolve images with blur kernels: same size, same type.

    A true convolution: an image of one bright pixel returns the kernel. Bytes are rounded half up, and a
    constant image stays constant. Differentiable in the image (any number of times, backward and forward),
    not in the kernel; one operator to compilers; takes part in vmap and the other transforms of torch.func.
    On other devices than the CPU a call holds at most 256 MiB besides the image and the result.

    Args:
        image: tensor (..., C, H, W), uint8 or floating, of any size, in any memory layout; CHW and HWC
            memory are taken as they are. Or a NumPy array (H, W) or (H, W, C), as OpenCV and Pillow have
            them: uint8, float16, float32 or float64; what comes back is an array then.
        kernel: (h, w) for all images or, with an image (B, ..., C, H, W), (B, h, w) for one each; floating,
            both sides odd, finite, sum 1 within 1e-3. Values are not looked at on other devices than the CPU.
            For an array a tensor or an array (h, w).
        border: what lies outside the image::

                reflect     d c b | a b c d | c b a
                symmetric   c b a | a b c d | d c b
                replicate   a a a | a b c d | d d d
                circular    b c d | a b c d | a b c
                zeros       0 0 0 | a b c d | 0 0 0

            or :class:`blurlib.functional.Constant`, a value of one's own or one for each channel: after
            `Normalize` 0 is the mean colour, and black is ``Constant([(0 - m) / s for m, s in ...])``. Each
            works for any image and any kernel size.
        backend: None for the fastest (see :func:`backends`); "torch" for torch's own operations, with the
            precision of other devices.

    Returns:
        A tensor or an array of the image's shape, dtype and device. uint8: flat kernels (disk, box) are
        exact, (2S + n) // (2n) for a sum S over n taps (on other devices than the CPU for n up to 4000);
        others within 1 grey level, and right wherever the exact value is further than 1e-3 from a tie.
        float32 within 1e-6 of max|image|, float64 within 1e-12; float16 and bfloat16 are computed in float32
        and rounded once.

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
        >>> blurlib.blur(photo.permute(1, 2, 0).numpy(), blurlib.kernels.disk(4)).shape
        (48, 64, 3)
    """
    if isinstance(image, np.ndarray) and isinstance(kernel, np.ndarray) and kernel.dtype.kind == "f":
        kernel = torch.from_numpy(kernel.astype(np.float64))
    _check_image(image)
    check_outside(border)
    if backend not in (None, "torch"):
        raise ValueError(f'`backend` must be None or "torch"; got {backend!r}')
    checked = _checked_kernel(kernel, image)
    if isinstance(border, Constant):
        if isinstance(image, np.ndarray):
            return blur_array_inside(image, checked, border, backend)
        return blur_inside(image, checked, border, backend)
    if isinstance(image, np.ndarray):
        return blur_array(image, checked, border, backend)
    return apply_kernel(image, checked, border, backend)


def backends() -> Mapping[str, str]:
    """The implementation that blurs on each kind of device.

    On the CPU it is the native core, with the widest instructions that the processor has (on x86-64 "v4" for
    AVX-512, "v3" for AVX2, else "base"); or torch, where the core could not be built: right, but slower.

    On the current CUDA device it is Triton, if its kernels compile there and blur a trial image as torch
    does, which takes some seconds at first use; else torch, as where there is no device. Kernels with a side
    above 33 (for floats above 17) and float64 images are always torch's.

    Returns:
        A mapping such as ``{"cpu": "native v4", "cuda": "triton"}``, which cannot be changed.

    Example:
        >>> backends()["cuda"] in ("triton", "torch")
        True
    """
    return MappingProxyType({"cpu": cpu_backend(), "cuda": cuda_backend()})


def _check_image(image: Any) -> None:
    is_array = isinstance(image, np.ndarray)
    if isinstance(image, PIL.Image.Image):
        raise TypeError(
            f"`image` must be a tensor or an array, got a Pillow image of mode {image.mode}; use "
            "blurlib.functional.apply(image, 'D4'), with the blur that is meant"
        )
    if not is_array and not isinstance(image, Tensor):
        raise TypeError(
            f"`image` must be a tensor (..., C, H, W) or an array (H, W, C), got {type(image).__name__}; "
            "torch.as_tensor or np.asarray makes one of numbers"
        )
    if image.dtype not in (_ARRAYS if is_array else _DTYPES):
        known = "uint8, float16, float32 or float64" if is_array else "uint8 or floating"
        # Of floating types the next that holds all of their values.
        casts = ("astype(np.float32)", "astype(np.float64)") if is_array else ("float()", "double()")
        remedy = f"convert it first, for example image.{casts[image.dtype.itemsize > 2]}"
        if "complex" in str(image.dtype):
            remedy = "blur image.real and image.imag, each by itself"
        raise TypeError(f"`image` must be {known}, got {image.dtype}; {remedy}")
    if is_array and image.ndim not in (2, 3):
        raise ValueError(
            f"`image` must be an array (H, W) or (H, W, C), got shape {image.shape}; give one image at a "
            "time, or a tensor (B, C, H, W)"
        )
    if is_array and image.ndim == 3 and image.shape[0] <= 4 < image.shape[2]:
        raise ValueError(
            f"`image` must be an array (H, W, C), got shape {image.shape}, which looks like (C, H, W); use "
            "torch.from_numpy(image)"
        )
    if not is_array and image.ndim < 3:
        raise ValueError(
            f"`image` must be (..., C, H, W), got shape {tuple(image.shape)}; use image[None] for one channel"
        )


def _checked_kernel(kernel: Any, image: Tensor | np.ndarray) -> Tensor:
    is_array = isinstance(image, np.ndarray)
    if not isinstance(kernel, Tensor):
        found, remedy = (
            type(kernel).__name__,
            "make one, for example by blurlib.notation.parse('D4').kernel()",
        )
        if isinstance(kernel, np.ndarray):
            found, remedy = (
                f"{found} of {kernel.dtype}",
                remedy if is_array else "use torch.from_numpy(kernel)",
            )
        known = "floating tensor or array" if is_array else "tensor for a tensor"
        raise TypeError(f"`kernel` must be a {known}, got {found}; {remedy}")
    if not kernel.dtype.is_floating_point:
        raise TypeError(f"`kernel` must be floating, got {kernel.dtype}; use kernel.double() / kernel.sum()")
    if kernel.ndim not in ((2,) if is_array else (2, 3)):
        known = "(h, w) for an array" if is_array else "(h, w) or (B, h, w)"
        raise ValueError(f"`kernel` must be {known}, got shape {tuple(kernel.shape)}")
    if kernel.shape[-1] % 2 == 0 or kernel.shape[-2] % 2 == 0:
        raise ValueError(
            f"`kernel` must have odd height and width, got {tuple(kernel.shape)}; add a row or column of "
            "zeros on the side away from which the blur should lean"
        )
    if kernel.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "`kernel` requires a gradient, which blur does not compute; use kernel.detach(), or torch's "
            "conv2d to learn a kernel"
        )
    if kernel.ndim == 3 and (image.ndim < 4 or kernel.shape[0] != image.shape[0]):
        raise ValueError(
            f"`kernel` of shape {tuple(kernel.shape)} means one kernel an image, but `image` has shape "
            f"{tuple(image.shape)}; give (B, ..., C, H, W) and (B, h, w) with one B, or one kernel (h, w)"
        )
    device = torch.device("cpu") if isinstance(image, np.ndarray) else image.device
    if kernel.device != device:
        raise ValueError(
            f"`kernel` must be on the image's device, {device}, got {kernel.device}; "
            f"use kernel.to({str(device)!r})"
        )
    return kernel
