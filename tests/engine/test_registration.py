"""What torch may do to an operator, one case each: autograd, torch.func, compilers, modes, odd tensors.

Each is right, or refused where torch has no public way to be right; none is silently wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_operators import Seen, SeenFunctions
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torchvision import tv_tensors

import oracles
from blurlib import blur, kernels

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning",  # torch.func's own, at first use
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
)

KERNEL = kernels.disk(1.5, antialias=True)
OTHER = KERNEL.roll(1, 0)
IMAGE = torch.rand((2, 3, 12, 14), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SMALL = torch.rand((1, 4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.rand((1, 4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
# Row i: pixel i blurred, by the reference.
MATRIX = torch.from_numpy(
    oracles.blur(np.eye(20).reshape(20, 1, 4, 5), KERNEL.numpy(), "reflect").reshape(20, 20)
)
SLOPE = (MATRIX @ WEIGHTS.flatten()).reshape(1, 4, 5)


def linear(image: Tensor) -> Tensor:
    return blur(image, KERNEL)


def loss(image: Tensor) -> Tensor:
    return (linear(image) * WEIGHTS).sum()


def energy(image: Tensor) -> Tensor:
    return (linear(image) ** 2).sum() / 2


def reference(image: Tensor) -> Tensor:
    return torch.from_numpy(oracles.blur(image.numpy(), KERNEL.numpy(), "reflect"))


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=0, atol=1e-10)


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda function, **options: torch.compile(function, **{"backend": "aot_eager", **options})
    torch._dynamo.reset()


# --- Autograd and torch.func ---


def test_gradcheck():
    assert torch.autograd.gradcheck(linear, SMALL.clone().requires_grad_(), check_forward_ad=True)


def test_gradgradcheck():
    assert torch.autograd.gradgradcheck(linear, SMALL.clone().requires_grad_())


def test_a_tangent():
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(linear(forward_ad.make_dual(SMALL, WEIGHTS)))
        same(found.tangent, MATRIX.T @ WEIGHTS.flatten())


def test_no_tangent():
    with forward_ad.dual_level():
        same(linear(SMALL), reference(SMALL))


def test_func_grad():
    same(torch.func.grad(loss)(SMALL), SLOPE)


def test_func_jvp():
    same(torch.func.jvp(linear, (SMALL,), (WEIGHTS,))[1], MATRIX.T @ WEIGHTS.flatten())


def test_jacrev():
    same(torch.func.jacrev(linear)(SMALL), MATRIX.T)


def test_jacfwd():
    same(torch.func.jacfwd(linear)(SMALL), MATRIX.T)


def test_hessian():
    same(torch.func.hessian(energy)(SMALL), MATRIX @ MATRIX.T)


def test_vmap():
    same(torch.vmap(linear)(IMAGE), reference(IMAGE))
    same(torch.vmap(linear, in_dims=1, out_dims=1)(IMAGE.unsqueeze(2)), reference(IMAGE.unsqueeze(2)))


def test_vmap_over_kernels():
    found = torch.vmap(blur)(IMAGE, torch.stack([KERNEL, OTHER]))
    same(found, torch.stack([blur(IMAGE[0], KERNEL), blur(IMAGE[1], OTHER)]))


def test_vmap_of_grad():
    same(torch.vmap(torch.func.grad(loss))(torch.stack([SMALL, SMALL * 2])), torch.stack([SLOPE, SLOPE]))


def test_vmap_with_a_captured_image():
    found = torch.vmap(lambda factor: linear(IMAGE) * factor)(torch.ones(2, dtype=torch.float64))
    same(found, torch.stack([reference(IMAGE)] * 2))


def test_functionalize():
    same(torch.func.functionalize(linear)(IMAGE), reference(IMAGE))


def test_checkpoint():
    leaf = SMALL.clone().requires_grad_()
    (checkpoint(linear, leaf, use_reentrant=False) * WEIGHTS).sum().backward()
    same(leaf.grad, SLOPE)


def test_the_gradient_of_the_kernel_is_refused():
    with pytest.raises((RuntimeError, ValueError), match="`kernel` requires a gradient"):
        blur(IMAGE, KERNEL.clone().requires_grad_())


# --- Compilers ---


def test_compile(compiled):
    same(compiled(linear, fullgraph=True)(IMAGE), reference(IMAGE))


def test_compile_and_backward(compiled):
    leaf = SMALL.clone().requires_grad_()
    compiled(loss, fullgraph=True)(leaf).backward()
    same(leaf.grad, SLOPE)


def test_compile_with_dynamic_shapes(compiled):
    function = compiled(linear, fullgraph=True, dynamic=True)
    for image in (IMAGE, torch.rand(4, 1, 7, 9, dtype=torch.float64)):
        same(function(image), reference(image))


def test_compile_bytes(compiled):
    image = (IMAGE * 255).to(torch.uint8)
    assert torch.equal(compiled(linear, fullgraph=True)(image), linear(image))


def test_compile_around_func_grad(compiled):
    same(compiled(torch.func.grad(loss))(SMALL), SLOPE)


def test_compile_around_func_grad_in_one_graph_is_refused(compiled):
    with pytest.raises(torch._dynamo.exc.Unsupported, match="blurlib"):
        compiled(torch.func.grad(loss), fullgraph=True)(SMALL)


def test_compile_around_func_jvp(compiled):
    function = compiled(lambda image: torch.func.jvp(linear, (image,), (WEIGHTS,))[1])
    same(function(SMALL), MATRIX.T @ WEIGHTS.flatten())


def test_compile_around_vmap(compiled):
    same(compiled(torch.vmap(linear), fullgraph=True)(IMAGE), reference(IMAGE))


@pytest.mark.exhaustive  # test_operators compiles more to machine code
def test_inductor(compiled):
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except Exception:
        pytest.skip("no C++ compiler")
    leaf = SMALL.clone().requires_grad_()
    compiled(loss, fullgraph=True, backend="inductor")(leaf).backward()
    same(leaf.grad, SLOPE)


class Doubled(torch.nn.Module):
    def forward(self, image):
        return linear(image) * 2


def test_export():
    program = torch.export.export(Doubled(), (IMAGE,))
    same(program.module()(IMAGE * 3), reference(IMAGE * 3) * 2)
    assert any("blur" in str(node.target) for node in program.graph.nodes)


def test_export_with_dynamic_shapes():
    sizes = {0: torch.export.Dim("batch", min=2, max=64)}
    program = torch.export.export(Doubled(), (IMAGE,), dynamic_shapes=(sizes,))
    image = torch.rand(5, 3, 12, 14, dtype=torch.float64)
    same(program.module()(image), reference(image) * 2)


def test_jit_trace():
    same(torch.jit.trace(linear, (IMAGE,), check_trace=False)(IMAGE * 2), reference(IMAGE * 2))


def test_make_fx():
    same(make_fx(linear)(IMAGE)(IMAGE * 2), reference(IMAGE * 2))


def test_make_fx_with_fake_tensors():
    """The kernel too must be an argument there, for any function of torch."""
    graph = make_fx(lambda image, kernel: blur(image, kernel), tracing_mode="fake")(IMAGE, KERNEL)
    same(graph(IMAGE * 2, KERNEL), reference(IMAGE * 2))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, for any operator
def test_opcheck():
    torch.library.opcheck(torch.ops.blurlib.blur.default, (IMAGE.float(), KERNEL, "reflect"))


# --- Tensors of other kinds ---


def test_fake_tensors():
    with FakeTensorMode() as mode:
        found = blur(mode.from_tensor(IMAGE), mode.from_tensor(KERNEL))
    assert isinstance(found, FakeTensor)
    assert found.shape == IMAGE.shape


def test_fake_mode_with_real_tensors():
    """An address taken here would be that of nothing."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(linear(IMAGE), FakeTensor)


def test_meta_tensors():
    assert blur(IMAGE.to("meta"), KERNEL.to("meta")).is_meta


def test_subclasses():
    class Named(Tensor):
        pass

    found = linear(IMAGE.as_subclass(Named))
    assert type(found) is Named
    same(found.as_subclass(Tensor), reference(IMAGE))


def test_tv_tensors():
    same(torch.as_tensor(linear(tv_tensors.Image(IMAGE))).as_subclass(Tensor), reference(IMAGE))


def test_lazy_negatives():
    image = torch.complex(SMALL, WEIGHTS).conj().imag
    assert image.is_neg()
    same(linear(image), reference(-WEIGHTS))


# --- Modes ---


@pytest.mark.parametrize("mode", [Seen, SeenFunctions])
def test_modes_see_the_operator(mode):
    with mode() as seen:
        found = linear(IMAGE)
    same(found, reference(IMAGE))
    assert any("blurlib" in name for name in seen.names)


def test_a_default_device():
    with torch.device("cpu"):
        same(linear(IMAGE), reference(IMAGE))


def test_inference_mode():
    with torch.inference_mode():
        found = linear(IMAGE)
    assert found.is_inference()
    same(found, reference(IMAGE))


def test_no_grad():
    with torch.no_grad():
        found = linear(SMALL.clone().requires_grad_())
    assert not found.requires_grad
    same(found, reference(SMALL))
