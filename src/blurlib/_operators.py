"""blur() as torch operators: what a compiler sees, their gradients, what the transforms of torch.func do.

Two linear maps, each the other's gradient: blur and its adjoint. Each is a custom operator, which is enough
for autograd, compilation, export and vmap. Operators cannot take part in the derivatives of torch.func nor in
forward mode (torch 2.14: `grad` raises, `jvp` gives zeros), so there `apply` takes an autograd.Function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch._C import _get_tracing_state, _is_torch_function_mode_enabled, _len_torch_dispatch_stack
from torch._C._functorch import TransformType, get_interpreter_stack, peek_interpreter_stack
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import Function, forward_ad, profiler

from ._devices import blur_torch
from ._images import border_index, empty_like
from ._processor import blur_cpu


def apply(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Blur by the shortest of the ways that are right here."""
    if not torch.compiler.is_compiling() and _is_plain(image, kernel):
        return blur_cpu(image, kernel, border)
    if _is_differentiated():
        if torch.compiler.is_compiling():
            # It would look through the Function and take the operator after all.
            reason = "blur() is not compiled inside derivatives of torch.func"
            torch._dynamo.graph_break(msg=reason)  # noqa: SLF001  it has no public name
        return cast("Tensor", _Blur.apply(image, kernel, border))
    return cast("Tensor", torch.ops.blurlib.blur(image, kernel, border))


def _is_plain(image: Tensor, kernel: Tensor) -> bool:
    """Whether nothing but the CPU's kernel has a say, so that the dispatcher may be left out.

    The dispatcher goes by the keys of the tensors and of the thread: subclasses, fake tensors, modes,
    tracers, lazy negation and torch.func each have one, and are asked about here one by one: with cold caches
    that takes half the time of asking for the keys. Torch function modes and profilers
    have none. For most of them there is no public way to ask.
    """
    return bool(
        type(image) is Tensor
        and type(kernel) is Tensor
        and image.is_cpu
        and kernel.is_cpu
        and not (image.requires_grad or kernel.requires_grad)
        and image.layout is torch.strided
        and kernel.layout is torch.strided
        and not (image.is_neg() or kernel.is_neg())
        and forward_ad._current_level < 0  # noqa: SLF001  no public way to ask
        and not _len_torch_dispatch_stack()
        and not _pre_dispatch_modes()
        and not _is_torch_function_mode_enabled()
        and peek_interpreter_stack() is None
        and _get_tracing_state() is None
        and not profiler._is_profiler_enabled  # noqa: SLF001  no public way to ask
        and image.data_ptr()  # none: a tensor of C++ that stands for another, or for zeros
        and kernel.data_ptr()
    )


_pre_dispatch_modes: Callable[[], int] = _len_torch_dispatch_stack_pre_dispatch  # torch has no type for it


def _is_differentiated() -> bool:
    """Whether the call stands inside a derivative of torch.func or of forward mode."""
    if forward_ad._current_level >= 0:  # noqa: SLF001  no public way to ask
        return True
    return any(level.key() in _DERIVATIVES for level in get_interpreter_stack() or ())


_DERIVATIVES = (TransformType.Grad, TransformType.Jvp)
# A compiler may ask once while it traces: what it compiles is for the same levels only.
torch.compiler.assume_constant_result(_is_differentiated)  # type: ignore[no-untyped-call]  # torch's


# --- The operators ---


@torch.library.custom_op("blurlib::blur", mutates_args=())
def _blur(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    return blur_torch(image, kernel, border)


@_blur.register_kernel("cpu")
def _blur_on_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    return blur_cpu(image, kernel, border)


@_blur.register_fake
def _fake_blur(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    del kernel, border
    return empty_like(image)


@torch.library.custom_op("blurlib::blur_adjoint", mutates_args=())
def _adjoint(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Each output goes back along the flipped kernel, then the border folds back."""
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
            source = border_index(size, pad, border, spread.device)
            spread = spread.new_zeros(shape).index_add_(dim, source, spread)
    return cast("Tensor", spread.contiguous())


@_adjoint.register_fake
def _fake_adjoint(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
    del kernel, border
    return torch.empty(gradient.shape, dtype=gradient.dtype, device=gradient.device)


# --- Their gradients ---


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    del output
    _, kernel, border = inputs
    ctx.save_for_backward(kernel)
    ctx.save_for_forward(kernel)
    ctx.border = border
    ctx.set_materialize_grads(False)  # None, not zeros, for what has no gradient or tangent


def _refuse_kernel(wanted: bool) -> None:
    if wanted:
        raise RuntimeError("`kernel` requires a gradient, which blur does not compute; use kernel.detach()")


def _backward(
    linear: Callable[..., Tensor], ctx: Any, gradient: Tensor | None
) -> tuple[Tensor | None, None, None]:
    _refuse_kernel(ctx.needs_input_grad[1])
    back = None if gradient is None else linear(gradient, ctx.saved_tensors[0], ctx.border)
    return back, None, None


def _jvp(
    linear: Callable[..., Tensor], ctx: Any, image: Tensor | None, kernel: Tensor | None
) -> Tensor | None:
    _refuse_kernel(kernel is not None)
    return None if image is None else linear(image, ctx.saved_tensors[0], ctx.border)


def _vmap(
    linear: Callable[..., Tensor],
    info: Any,
    dims: tuple[Any, ...],
    image: Tensor,
    kernel: Tensor,
    border: str,
) -> tuple[Tensor, int]:
    """A batch of images is one larger image; a batch of kernels becomes one kernel an image."""
    if dims[1] is None:
        dim = 0 if kernel.ndim == 2 else 1  # with one kernel an image, these stay in front
        return linear(image.movedim(dims[0], dim), kernel, border), dim
    image = image.expand(info.batch_size, *image.shape) if dims[0] is None else image.movedim(dims[0], 0)
    kernel = kernel.movedim(dims[1], 0)
    if kernel.ndim == 3:
        return linear(image, kernel, border), 0
    found = linear(image.flatten(0, 1), kernel.flatten(0, 1), border)
    return found.reshape(*kernel.shape[:2], *found.shape[1:]), 0


_blur.register_autograd(functools.partial(_backward, _adjoint), setup_context=_remember)
_adjoint.register_autograd(functools.partial(_backward, _blur), setup_context=_remember)
_blur.register_vmap(functools.partial(_vmap, _blur))
_adjoint.register_vmap(functools.partial(_vmap, _adjoint))


class _Blur(Function):
    """The operator once more, for torch.func and forward-mode derivatives."""

    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(image: Tensor, kernel: Tensor, border: str) -> Tensor:
        return cast("Tensor", _blur(image, kernel, border))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _backward(_Adjoint.apply, ctx, gradient)

    @staticmethod
    def jvp(ctx: Any, image: Tensor | None, kernel: Tensor | None, _: None) -> Any:
        return _jvp(_Blur.apply, ctx, image, kernel)

    @staticmethod
    def vmap(info: Any, dims: Any, image: Tensor, kernel: Tensor, border: str) -> Any:
        return _vmap(_Blur.apply, info, dims, image, kernel, border)


class _Adjoint(Function):
    setup_context = staticmethod(_remember)

    @staticmethod
    def forward(gradient: Tensor, kernel: Tensor, border: str) -> Tensor:
        return cast("Tensor", _adjoint(gradient, kernel, border))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _backward(_Blur.apply, ctx, gradient)

    @staticmethod
    def jvp(ctx: Any, gradient: Tensor | None, kernel: Tensor | None, _: None) -> Any:
        return _jvp(_Adjoint.apply, ctx, gradient, kernel)

    @staticmethod
    def vmap(info: Any, dims: Any, gradient: Tensor, kernel: Tensor, border: str) -> Any:
        return _vmap(_Adjoint.apply, info, dims, gradient, kernel, border)
