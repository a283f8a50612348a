"""blur() as an operator: gradients, compilers, vmap and the other transforms, modes, subclasses, tracers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functionalize, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import tv_tensors

import oracles
from blurlib import blur, kernels
from blurlib._engine import operators
from images import KINDS, each_border, exhaustive, in_layout, normalised, pixels

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # torch.func's own, at first use
op, adjoint = torch.ops.blurlib.blur, torch.ops.blurlib.blur_adjoint
SHAKE = kernels.bank_kernel(3)
EACH = torch.stack([kernels.bank_kernel(i) for i in range(2)])


# --- Gradients ---


@each_border
@pytest.mark.parametrize("size", [(9, 7), (1, 1), (2, 3), (5, 1)])
@pytest.mark.parametrize("kind", ["shake", "flat", "row", "gaussian", "soft disk"])
def test_gradient_is_the_adjoint(kind, size, border):
    """<A x, y> = <x, A' y>, also where the kernel is larger than the image."""
    kernel = KINDS[kind]
    x, y = pixels((2, 2, *size), torch.float64, 1), pixels((2, 2, *size), torch.float64, 2)
    x.requires_grad_()
    out = blur(x, kernel, border=border)
    (back,) = torch.autograd.grad(out, x, y)
    assert abs(float(((out * y).sum() - (x * back).sum()).detach())) < 1e-11
    assert back.shape == x.shape
    assert back.dtype == x.dtype


@each_border
def test_gradient_is_the_transposed_matrix_of_the_reference(border):
    kernel = normalised(np.random.default_rng(1).random((5, 3)))
    height, width = 4, 3
    basis = np.eye(height * width).reshape(-1, height, width)
    matrix = oracles.blur(basis, kernel.numpy(), border).reshape(height * width, -1)  # row i: pixel i blurred
    x = torch.zeros((1, height, width), dtype=torch.float64, requires_grad=True)
    y = pixels((1, height, width), torch.float64)
    (back,) = torch.autograd.grad(blur(x, kernel, border=border), x, y)
    np.testing.assert_allclose(back.numpy().ravel(), matrix @ y.numpy().ravel(), atol=1e-12)


@each_border
@pytest.mark.parametrize("size", [(4, 3), (1, 2)])
def test_gradcheck(border, size):
    image = pixels((2, 1, *size), torch.float64).requires_grad_()
    each = torch.stack([normalised(np.random.default_rng(i).random((3, 5))) for i in range(2)])
    for kernel in (each[0], each):
        function = functools.partial(blur, kernel=kernel, border=border)
        assert torch.autograd.gradcheck(function, (image,))
        assert torch.autograd.gradgradcheck(function, (image,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_gradients_of_other_floats(dtype):
    image = pixels((2, 3, 12, 13), dtype).requires_grad_()
    weights = pixels((2, 3, 12, 13), dtype, 5)
    kernel = kernels.bank_kernel(2)
    (found,) = torch.autograd.grad(blur(image, kernel), image, weights)
    double = image.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(blur(double, kernel), double, weights.double())
    assert found.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_gradient_reaches_only_its_own_image():
    image = pixels((2, 1, 6, 6), torch.float64).requires_grad_()
    (back,) = torch.autograd.grad(
        blur(
            image,
            torch.stack([kernels.disk(1), kernels.disk(2)[1:-1, 1:-1] / kernels.disk(2)[1:-1, 1:-1].sum()]),
        )[0].sum(),
        image,
    )
    assert back[1].count_nonzero() == 0


@pytest.mark.parametrize("each", [False, True])
def test_gradient_of_the_kernel_is_refused(each):
    kernel = kernels.disk(2).requires_grad_()
    image = pixels((2, 3, 8, 8), torch.float32)
    with pytest.raises(ValueError, match=r"`kernel`.*gradient"):
        blur(image, torch.stack([kernel, kernel]) if each else kernel)
    assert torch.equal(blur(image, kernel.detach()), blur(image, kernels.disk(2)))


def test_the_op_itself_refuses_the_gradient_of_the_kernel():
    """Not silently zero for those who reach the op by another way than blur()."""
    kernel = kernels.disk(2).requires_grad_()
    image = pixels((1, 8, 8), torch.float64).requires_grad_()
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=r"kernel|grad"):
        torch.ops.blurlib.blur(image, kernel, "reflect").sum().backward()


# --- Compilers ---


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, for any op
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (torch.uint8, "contiguous"),
        (torch.float32, "interleaved"),
        (torch.float64, "sliced"),
        *(exhaustive(torch.uint8, layout) for layout in ("interleaved", "sliced")),
        *(exhaustive(torch.float32, layout) for layout in ("contiguous", "sliced")),
        *(exhaustive(torch.float64, layout) for layout in ("contiguous", "interleaved")),
    ],
    ids=str,
)
def test_opcheck(dtype, layout, each):
    image = in_layout(pixels((2, 3, 9, 8), dtype), layout)
    if dtype.is_floating_point:
        image = image.detach().requires_grad_()
    kernel = torch.stack([kernels.line(4, 20)] * 2) if each else kernels.line(4, 20)
    torch.library.opcheck(torch.ops.blurlib.blur.default, (image, kernel, "reflect"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_strides_are_those_that_the_fake_promises(dtype):
    """Of a cropped or transposed photograph too: a compiler reads memory by the fake's strides."""
    hwc = pixels((20, 22, 3), dtype)
    batch = pixels((4, 9, 8, 3), dtype)
    views = [hwc[::2, ::2], hwc[1:, 2:], hwc[:1], hwc[:, :1], hwc[..., :1], hwc.transpose(0, 1), hwc[..., :2]]
    for image in (
        *(view.permute(2, 0, 1) for view in views),
        batch[::2].permute(0, 3, 1, 2),
        batch.permute(1, 3, 0, 2),
    ):
        with FakeTensorMode() as mode:
            fake = blur(mode.from_tensor(image), mode.from_tensor(kernels.disk(2)))
        assert blur(image, kernels.disk(2)).stride() == fake.stride()


class Blurred(torch.nn.Module):
    """A kernel among other operations, in a layout that a compiler may want to change."""

    def __init__(self):
        super().__init__()
        self.before = torch.nn.Conv2d(3, 3, 1)
        self.register_buffer("kernel", SHAKE)

    def forward(self, image):
        return blur(self.before(image) * 2, self.kernel, border="symmetric").relu() + 1


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def check_compiled(compiled: Callable, function: Callable, image: torch.Tensor) -> None:
    torch.testing.assert_close(compiled(image), function(image), rtol=0, atol=1e-5)
    leaf = image.clone().requires_grad_()
    (found,) = torch.autograd.grad(compiled(leaf).square().sum(), leaf)
    (expected,) = torch.autograd.grad(function(leaf).square().sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("backend", "all_layouts"),
    [("aot_eager", True), exhaustive("inductor", False), exhaustive("inductor", True)],
)
def test_compile_without_a_break(backend, all_layouts):
    if backend == "inductor":
        torch._inductor = pytest.importorskip("torch._inductor")
        try:
            torch._inductor.cpp_builder.get_cpp_compiler()
        except Exception:
            pytest.skip("no C++ compiler")
    function = Blurred()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    image = pixels((2, 3, 12, 13), torch.float32)
    check_compiled(compiled, function, image.to(memory_format=torch.channels_last))
    if all_layouts:
        check_compiled(compiled, function, image)
        check_compiled(compiled, function, pixels((3, 3, 20, 15), torch.float32))  # dynamic from here on


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16], ids=str)
def test_compile_with_dynamic_shapes(dtype):
    """One graph for all sizes, with one kernel an image."""
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    compiled = torch.compile(blur, fullgraph=True, dynamic=True, backend=backend)
    for batch, height, width in ((2, 12, 13), (3, 40, 9), (5, 5, 31)):
        image = pixels((batch, 3, height, width), dtype)
        each = torch.stack([kernels.bank_kernel(i) for i in range(batch)])
        assert torch.equal(compiled(image, each), blur(image, each))
        last = image.to(memory_format=torch.channels_last)
        assert compiled(last, each).stride() == blur(last, each).stride()
    assert len(seen) <= 2  # one a memory layout


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    image = pixels((2, 3, 12, 13), torch.float32)
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(Blurred(), (image,), strict=strict, dynamic_shapes=({**sizes, 1: None},))
    assert "blurlib.blur.default" in [str(node.target) for node in program.graph.nodes]
    module = program.module()
    other = pixels((4, 3, 30, 7), torch.float32)
    weights = Blurred()
    weights.load_state_dict(program.state_dict)
    for one in (image, other):
        torch.testing.assert_close(module(one), weights(one))


# --- vmap and the derivatives of torch.func ---


def looped(function: Callable, dims: tuple[int | None, ...], *inputs: torch.Tensor) -> torch.Tensor:
    """What vmap is defined to be."""
    count = next(t.shape[dim] for t, dim in zip(inputs, dims, strict=True) if dim is not None)

    def pick(t, dim, i):
        return t if dim is None else t.select(dim, i)

    return torch.stack(
        [function(*(pick(t, dim, i) for t, dim in zip(inputs, dims, strict=True))) for i in range(count)]
    )


BANK = torch.stack([kernels.bank_kernel(i) for i in range(6)])
VMAPS = {
    "images": ((3, 2, 9, 8), (17, 17), (0, None)),
    "images, last": ((2, 9, 8, 3), (17, 17), (3, None)),
    "batches": ((4, 3, 2, 9, 8), (17, 17), (1, None)),
    "batches, one kernel an image": ((3, 2, 1, 9, 8), (2, 17, 17), (0, None)),
    "kernels": ((2, 9, 8), (3, 17, 17), (None, 0)),
    "kernels, last": ((2, 2, 9, 8), (17, 17, 3), (None, 2)),
    "sets of kernels": ((2, 1, 9, 8), (3, 2, 17, 17), (None, 0)),
    "sets of kernels, inside": ((2, 1, 9, 8), (2, 3, 17, 17), (None, 1)),
    "both": ((3, 2, 9, 8), (3, 17, 17), (0, 0)),
    "both, apart": ((2, 9, 3, 8), (17, 3, 17), (2, 1)),
    "both, one kernel an image": ((2, 3, 1, 9, 8), (3, 2, 17, 17), (1, 0)),
}


@pytest.mark.parametrize("name", VMAPS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64], ids=str)
@pytest.mark.parametrize("way", ["blur", "op", "adjoint", "function"])
def test_vmap_is_a_loop(way, dtype, name):
    """Without torch's slow fallback: its warning would be an error here."""
    shape, kernel_shape, dims = VMAPS[name]
    image = pixels(shape, dtype)
    sides = [dim for dim, size in enumerate(kernel_shape) if size == 17]
    kernel = BANK[: int(np.prod(kernel_shape)) // 289].reshape(*(n for n in kernel_shape if n != 17), 17, 17)
    kernel = kernel.movedim((-2, -1), sides)
    function = {
        "blur": lambda i, k: blur(i, k, border="symmetric"),
        "op": lambda i, k: op(i, k, "symmetric"),
        "adjoint": lambda i, k: adjoint(i, k, "symmetric"),
        "function": lambda i, k: operators._Blur.apply(i, k, "symmetric", None),
    }[way]
    if way == "adjoint" and dtype == torch.uint8:
        image = image.double()
    torch.testing.assert_close(
        vmap(function, in_dims=dims)(image, kernel), looped(function, dims, image, kernel), rtol=0, atol=0
    )


def test_vmap_in_vmap():
    """All pairs of images and kernels; and all of them as one of two batches."""
    images, several = pixels((4, 3, 9, 8), torch.float64), BANK[:3]
    pairs = vmap(lambda k: vmap(lambda i: blur(i, k))(images))(several)
    for k, kernel in enumerate(several):
        assert torch.equal(pairs[k], blur(images, kernel))
    other = vmap(lambda i: vmap(lambda k: blur(i, k))(several))(images)
    assert torch.equal(other, pairs.transpose(0, 1))
    deep = vmap(vmap(vmap(blur, in_dims=(0, None)), in_dims=(None, 0)), in_dims=(0, None))
    assert torch.equal(
        deep(images.reshape(2, 2, 3, 9, 8), several), pairs.reshape(3, 2, 2, 3, 9, 8).transpose(0, 1)
    )


def test_vmap_keeps_the_checks():
    image, wrong = pixels((3, 2, 9, 8), torch.float32), torch.rand(3, 4, 4)
    with pytest.raises(ValueError, match=r"`kernel`.*odd"):
        vmap(blur)(image, wrong)
    with pytest.raises(ValueError, match=r"`image`"):
        vmap(lambda one: blur(one, SHAKE))(image[0])
    with pytest.raises(ValueError, match=r"`kernel`.*sum"):
        vmap(blur)(image, BANK[:3] * 2)


def energy(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return blur(image, kernel, border="symmetric").pow(3).sum()


def test_derivatives_of_torch_func():
    """Against autograd, which test_gradcheck checks."""
    image, tangent = pixels((1, 5, 4), torch.float64, 1), pixels((1, 5, 4), torch.float64, 2)
    kernel = kernels.line(4, 20)
    linear = functools.partial(blur, kernel=kernel, border="symmetric")
    leaf = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(leaf, kernel), leaf)
    matrix = torch.stack([linear(basis.reshape(1, 5, 4)).flatten() for basis in torch.eye(20).double()], 1)
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(grad(energy)(image, kernel), slope)
    close(jvp(linear, (image,), (tangent,))[1], linear(tangent))
    close(vjp(linear, image)[1](tangent)[0].flatten(), matrix.T @ tangent.flatten())
    for jacobian in (jacrev, jacfwd):
        close(jacobian(linear)(image).reshape(20, 20), matrix)
    close(
        hessian(energy)(image, kernel).reshape(20, 20),
        matrix.T @ torch.diag(6 * linear(image).flatten()) @ matrix,
    )
    product = jvp(lambda i: grad(energy)(i, kernel), (image,), (tangent,))[1]
    close(product.flatten(), hessian(energy)(image, kernel).reshape(20, 20) @ tangent.flatten())


def test_derivatives_in_vmap_and_around_it():
    images, several = pixels((3, 2, 9, 8), torch.float64), BANK[:3]
    expected = torch.stack([grad(energy)(i, k) for i, k in zip(images, several, strict=True)])
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(vmap(grad(energy))(images, several), expected)
    close(
        vmap(grad(energy), in_dims=(0, None))(images, SHAKE), looped(grad(energy), (0, None), images, SHAKE)
    )
    close(grad(lambda i: vmap(energy)(i, several).sum())(images), expected)
    leaf = images.clone().requires_grad_()
    close(torch.autograd.grad(vmap(energy)(leaf, several).sum(), leaf)[0], expected)
    moved = vmap(lambda i, t, k: jvp(lambda x: blur(x, k), (i,), (t,))[1])(images, images.flip(0), several)
    close(moved, blur(images.flip(0), several))
    close(jvp(lambda i: vmap(blur)(i, several), (images,), (images.flip(0),))[1], moved)


def test_forward_mode():
    image, tangent = pixels((2, 3, 9, 8), torch.float64, 1), pixels((2, 3, 9, 8), torch.float64, 2)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(blur(forward_ad.make_dual(image, tangent), EACH))
        assert torch.equal(found.primal, blur(image, EACH))
        assert torch.equal(found.tangent, blur(tangent, EACH))
        assert forward_ad.unpack_dual(blur(image, EACH)).tangent is None
    assert torch.autograd.gradcheck(
        functools.partial(blur, kernel=kernels.line(4, 20)),
        (image[:1, :1, :3, :2].clone().requires_grad_(),),
        check_forward_ad=True,
        check_batched_grad=True,
    )


def test_no_derivative_of_the_kernel_is_silently_zero():
    image, kernel = pixels((1, 9, 8), torch.float64), kernels.disk(2)

    def by_kernel(k):
        return blur(image, k).sum()

    for attempt in (
        lambda: grad(by_kernel)(kernel),
        lambda: grad(energy, argnums=(0, 1))(image, kernel),
        lambda: jacrev(by_kernel)(kernel),
        lambda: vmap(grad(by_kernel))(torch.stack([kernel, kernel])),
        lambda: jvp(by_kernel, (kernel,), (kernel,)),
        lambda: jacfwd(by_kernel)(kernel),
    ):
        with pytest.raises((ValueError, RuntimeError), match=r"`kernel` requires a gradient"):
            attempt()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=r"`kernel` requires a gradient"):
        blur(image, forward_ad.make_dual(kernel, kernel))


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_transforms():
    """vmap is compiled; derivatives of torch.func are refused, or done uncompiled where a break may be."""
    images = pixels((3, 2, 9, 8), torch.float64)
    linear = functools.partial(blur, kernel=SHAKE)
    whole = functools.partial(torch.compile, fullgraph=True, backend="aot_eager")
    assert torch.equal(whole(vmap(linear))(images), vmap(linear)(images))
    for function, reason in (
        (vmap(grad(lambda i: energy(i, SHAKE))), "blurlib.blur"),
        (lambda i: jvp(linear, (i,), (i,))[1], "not compiled inside forward-mode"),
    ):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=reason):
            whole(function)(images)
        torch._dynamo.reset()
        found = torch.compile(function, backend="aot_eager")(images)
        torch.testing.assert_close(found, function(images), rtol=0, atol=1e-12)


# --- Through the dispatcher ---


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class SeenFunctions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A subclass that sees what is done to it."""

    names: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.names.append(str(func))
        return super().__torch_function__(func, types, args, kwargs)


IMAGE, EXPECTED = pixels((3, 12, 13), torch.float32), blur(pixels((3, 12, 13), torch.float32), SHAKE)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.enable_grad,
        torch.inference_mode,
        functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
        functools.partial(torch.autograd.graph.save_on_cpu),
    ],
)
def test_ordinary_calls_are_the_operator(context):
    with context():
        for image in (
            IMAGE,
            IMAGE.clone(),
            IMAGE[:, ::2, 1:],
            IMAGE.movedim(0, -1).contiguous().movedim(-1, 0),
        ):
            found = blur(image, SHAKE)
            assert torch.equal(found, op(image, SHAKE, "reflect"))
            assert found.is_inference() == torch.is_inference_mode_enabled()
            assert not found.requires_grad


def test_inference_tensors_outside_of_inference_mode():
    with torch.inference_mode():
        image = IMAGE.clone()
    assert torch.equal(blur(image, SHAKE), EXPECTED)
    assert not blur(image, SHAKE).is_inference()


def test_modes_and_subclasses_see_the_operator():
    with Seen() as seen:
        assert torch.equal(blur(IMAGE, SHAKE), EXPECTED)
    assert "blurlib::blur" in seen.names
    with SeenFunctions() as functions:
        assert torch.equal(blur(IMAGE, SHAKE), EXPECTED)
    assert any("blurlib" in name for name in functions.names)
    Wrapped.names.clear()
    found = blur(IMAGE.as_subclass(Wrapped), SHAKE)
    assert type(found) is Wrapped
    assert any("blurlib" in name for name in Wrapped.names)
    assert torch.equal(blur(tv_tensors.Image(IMAGE), SHAKE), EXPECTED)
    with torch.device("cpu"):
        assert torch.equal(blur(IMAGE, SHAKE), EXPECTED)
    two = TwoTensor(IMAGE, IMAGE + 1)
    found = blur(two, SHAKE)
    assert torch.equal(found.a, EXPECTED)
    assert torch.equal(found.b, blur(IMAGE + 1, SHAKE))


def test_autograd_sees_the_operator():
    leaf = IMAGE.clone().requires_grad_()
    assert blur(leaf, SHAKE).requires_grad
    assert blur(leaf * 1, SHAKE).requires_grad
    assert blur(torch.nn.Parameter(IMAGE), SHAKE).requires_grad
    with torch.no_grad():
        assert not blur(leaf, SHAKE).requires_grad
        assert torch.equal(blur(IMAGE, SHAKE.clone().requires_grad_().detach()), EXPECTED)


def test_lazy_views_are_resolved():
    """A tensor that says of itself that its memory holds the negative."""
    negative = torch.complex(torch.zeros(3, 12, 13), IMAGE).conj().imag
    assert negative.is_neg()
    assert torch.equal(blur(negative, SHAKE), blur(-IMAGE, SHAKE))
    assert torch.equal(blur(torch._efficientzerotensor((3, 12, 13)), SHAKE), torch.zeros(3, 12, 13))


def test_profilers_see_the_operator():
    with torch.profiler.profile() as profile:
        blur(IMAGE, SHAKE)
    assert "blurlib::blur" in {event.key for event in profile.key_averages()}


def test_fake_meta_and_functional_tensors():
    with FakeTensorMode() as mode:
        found = blur(mode.from_tensor(IMAGE), mode.from_tensor(SHAKE))
        assert type(found).__name__ == "FakeTensor"
        assert (found.shape, found.dtype, found.device) == (IMAGE.shape, IMAGE.dtype, IMAGE.device)
    found = blur(IMAGE.to("meta"), SHAKE.to("meta"))
    assert (found.shape, found.device.type) == (IMAGE.shape, "meta")
    assert torch.equal(functionalize(lambda i: blur(i, SHAKE).add_(1))(IMAGE), EXPECTED + 1)


@pytest.mark.parametrize("pre_dispatch", [False, True])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_sees_the_operator(mode, pre_dispatch):
    graph = make_fx(lambda i, k: blur(i, k), tracing_mode=mode, pre_dispatch=pre_dispatch)(IMAGE, SHAKE)
    assert [str(n.target) for n in graph.graph.nodes if n.op == "call_function"] == ["blurlib.blur.default"]
    assert torch.equal(graph(IMAGE, SHAKE), EXPECTED)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the checks look at shapes
def test_jit_trace_sees_the_operator():
    traced = torch.jit.trace(lambda i, k: blur(i, k), (IMAGE, SHAKE))
    assert "blurlib::blur" in str(traced.graph)
    other = pixels((3, 12, 13), torch.float32, 9)
    assert torch.equal(traced(other, SHAKE), blur(other, SHAKE))
