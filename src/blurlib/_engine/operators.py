"""blur() for torch: what a compiler sees, gradients, what the transforms of torch.func do.

Two linear maps, each the other's gradient: blur and its adjoint. Each is an operator, by public names of
torch alone, and a call always goes through the dispatcher: modes, subclasses, tracers and profilers see it,
and nothing reaches the core that has no memory. An operator is enough for autograd, compilers, export and
vmap. It cannot take part in the derivatives of torch.func nor in forward mode (torch 2.14: `grad` raises,
`jvp` gives zeros), so there `apply` takes an autograd.Function around it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from .cpu import blur_cpu
from .cuda import blur_cuda
from .layouts import border_index, empty_like
from .torch_backend import blur_torch

_Linear = Callable[[Tensor, Tensor, str, str | None], Tensor]


def apply(image: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    """Dispatch to the operator, or to the Function where an operator has no derivative."""
    if torch.compiler.is_dynamo_compiling():
        if _is_forward_mode():
            return cast("Tensor", _blur_uncompiled(image, kernel, border, backend))
    elif _is_derived(image) or _is_derived(kernel):
        return cast("Tensor", _Blur.apply(image, kernel, border, backend))
    return _blur(image, kernel, border, backend)


def _is_derived(tensor: Tensor) -> bool:
    """Whether a tensor belongs to a transform of torch.func or has a tangent."""
    if type(tensor) is Tensor:
        try:
            tensor.data_ptr()
        except RuntimeError:  # it stands for another one
            return tensor.layout is torch.strided and not tensor.is_meta
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]  # torch's


def _is_forward_mode() -> bool:
    """Whether a derivative in forward mode is being computed; levels of it cannot be nested."""
    try:
        with forward_ad.dual_level():
            return False
    except RuntimeError:
        return True


# A compiler may ask once while it traces: what it compiles is for the same levels only.
torch.compiler.assume_constant_result(_is_forward_mode)  # type: ignore[no-untyped-call]  # torch's


@functools.partial(torch.compiler.disable, reason="blur() is not compiled inside forward-mode derivatives")
def _blur_uncompiled(image: Tensor, kernel: Tensor, border: str, backend: str | None) -> Tensor:
    return cast("Tensor", _Blur.apply(image, kernel, border, backend))


# --- The operators ---

_library: Any = torch.library.Library("blurlib", "DEF")  # type: ignore[no-untyped-call]  # torch's
_library.define("blur(Tensor image, Tensor kernel, str border, str? backend=None) -> Tensor")
_library.define("blur_adjoint(Tensor gradient, Tensor kernel, str border, str? backend=None) -> Tensor")
_blur: _Linear = torch.ops.blurlib.blur.default
_adjoint: _Linear = torch.ops.blurlib.blur_adjoint.default


def _blur_elsewhere(image: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    del backend  # there is but one
    return blur_torch(image, kernel, border)


def _adjoint_anywhere(gradient: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    """Each output goes back along the flipped kernel, then the border folds back."""
    height, width = gradient.shape[-2:]
    top, left = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    spread = torch.nn.functional.pad(gradient, (left, left, top, top))
    spread = _blur(spread, kernel.flip(-2, -1), "zeros", backend)
    for dim, size, pad in ((-2, height, top), (-1, width, left)):
        if border == "zeros" or not size:
            spread = spread.narrow(dim, pad, size)
        else:
            shape = list(spread.shape)
            shape[dim] = size
            source = border_index(size, pad, border, spread.device)
            spread = spread.new_zeros(shape).index_add_(dim, source, spread)
    return spread.contiguous()


def _fake_blur(image: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    return empty_like(image)


def _fake_adjoint(gradient: Tensor, kernel: Tensor, border: str, backend: str | None = None) -> Tensor:
    return torch.empty(gradient.shape, dtype=gradient.dtype, device=gradient.device)


# --- Their gradients ---


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, str, str | None], output: Tensor) -> None:
    _, kernel, *ctx.rest = inputs
    ctx.save_for_backward(kernel)
    ctx.save_for_forward(kernel)
    ctx.set_materialize_grads(False)  # None, not zeros, for what has no gradient or tangent


def _refuse_kernel(wanted: bool) -> None:
    if wanted:
        raise RuntimeError("`kernel` requires a gradient, which blur does not compute; use kernel.detach()")


def _backward(linear: Callable[..., Tensor], ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    _refuse_kernel(ctx.needs_input_grad[1])
    found = None if gradient is None else linear(gradient, ctx.saved_tensors[0], *ctx.rest)
    # As many as arguments were given: the dispatcher leaves out what is as by default.
    return found, *(None for _ in ctx.needs_input_grad[1:])


def _jvp(
    linear: Callable[..., Tensor], ctx: Any, image: Tensor | None, kernel: Tensor | None
) -> Tensor | None:
    _refuse_kernel(kernel is not None)
    return None if image is None else linear(image, ctx.saved_tensors[0], *ctx.rest)


def _vmap(
    linear: Callable[..., Tensor], info: Any, dims: Any, image: Tensor, kernel: Tensor, *rest: str | None
) -> tuple[Tensor, int]:
    """Images become a larger batch, a batch of kernels becomes one kernel an image."""
    if dims[1] is None:
        dim = 0 if kernel.ndim == 2 else 1  # with one kernel an image, these stay in front
        return linear(image.movedim(dims[0], dim), kernel, *rest), dim
    image = image.expand(info.batch_size, *image.shape) if dims[0] is None else image.movedim(dims[0], 0)
    kernel = kernel.movedim(dims[1], 0)
    if kernel.ndim == 3:
        return linear(image, kernel, *rest), 0
    found = linear(image.flatten(0, 1), kernel.flatten(0, 1), *rest)
    return found.reshape(*kernel.shape[:2], *found.shape[1:]), 0


_library.impl("blur", blur_cpu, "CPU")
_library.impl("blur", blur_cuda, "CUDA")
_library.impl("blur", _blur_elsewhere, "CompositeExplicitAutograd")
_library.impl("blur_adjoint", _adjoint_anywhere, "CompositeExplicitAutograd")
for _name, _own, _other, _fake in (
    ("blurlib::blur", _blur, _adjoint, _fake_blur),
    ("blurlib::blur_adjoint", _adjoint, _blur, _fake_adjoint),
):
    torch.library.register_fake(_name, _fake, lib=_library)
    torch.library.register_vmap(_name, functools.partial(_vmap, _own), lib=_library)
    torch.library.register_autograd(
        _name, functools.partial(_backward, _other), setup_context=_remember, lib=_library
    )


class _Blur(Function):
    """The operator once more, for torch.func and forward-mode derivatives."""

    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(image: Tensor, kernel: Tensor, border: str, backend: str | None) -> Tensor:
        return _blur(image, kernel, border, backend)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _backward(_Adjoint.apply, ctx, gradient)

    @staticmethod
    def jvp(ctx: Any, image: Tensor | None, kernel: Tensor | None, *_: None) -> Any:
        return _jvp(_Blur.apply, ctx, image, kernel)

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        return _vmap(_Blur.apply, info, dims, *inputs)


class _Adjoint(Function):
    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(gradient: Tensor, kernel: Tensor, border: str, backend: str | None) -> Tensor:
        return _adjoint(gradient, kernel, border, backend)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _backward(_Blur.apply, ctx, gradient)

    @staticmethod
    def jvp(ctx: Any, gradient: Tensor | None, kernel: Tensor | None, *_: None) -> Any:
        return _jvp(_Adjoint.apply, ctx, gradient, kernel)

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        return _vmap(_Adjoint.apply, info, dims, *inputs)
