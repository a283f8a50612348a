"""blur()'s kernels for CUDA without a GPU: in Triton's interpreter, which is chosen when they are imported.

So each test of values runs in a process of its own. `test_triton_compile.py` compiles them.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import warnings

import numpy as np
import pytest
import torch

import oracles
from blurlib import backends, blur, kernels
from blurlib._engine import cuda, operators
from images import check, in_layout, normalised, pixels
from processes import in_processes

triton = pytest.importorskip("triton", reason="Triton is not installed")

TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
# Flat, of rank one, neither, flat with no fewer changes from row to row than taps, sparse.
RING = normalised(
    np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]])
)
RAMPS = normalised(np.outer([1, 2, 3, 4, 5], [1, 2, 4, 0, 2]))
NOISE = normalised(np.random.default_rng(0).random((5, 5)))
LINE = normalised(np.pad(np.ones((1, 4)), ((2, 2), (1, 0))))
SPARSE = normalised(np.diag([1.0, 2.0, 0.0, 4.0, 3.0])[:, ::-1].copy())
SEVERAL = torch.stack([RING, RAMPS, NOISE, LINE, SPARSE])
GENERAL, FLAT, RANK_ONE, DENSE = range(4)


def interpreted():
    """The module that launches the kernels, on the CPU. Only for a process of its own."""
    os.environ["TRITON_INTERPRET"] = "1"
    for name in [name for name in sys.modules if name.split(".")[0] == "triton" and "._C" not in name]:
        del sys.modules[name]
    warnings.simplefilter("ignore")  # the interpreter computes what a device would leave out
    from blurlib._engine import triton_backend

    return triton_backend


def alone(function):
    """Runs a test without fixtures in a process of its own."""

    @functools.wraps(function)
    def test(*args, **kwargs):
        in_processes(_run, function.__name__, args, kwargs)

    return test


def _run(name, args, kwargs):
    globals()[name].__wrapped__(*args, **kwargs)


def modes(module, weights: torch.Tensor, dtype: torch.dtype) -> list[int]:
    return module._plan(weights, torch.empty((len(weights), 1, 9, 9), dtype=dtype)).heads[:, 0].tolist()


# --- Values ---


def check_each_way(module, dtype, border, layout, size) -> None:
    """Five images by four ways; with others in the batch or not; one kernel for several images."""
    ways = [GENERAL, RANK_ONE, GENERAL, GENERAL, GENERAL]
    if dtype == torch.uint8:
        ways = [FLAT, RANK_ONE, DENSE, FLAT, GENERAL]
    assert modes(module, SEVERAL, dtype) == ways
    image = in_layout(pixels((5, 2, *size), dtype), layout)
    found = check(image, SEVERAL, border, functools.partial(module.blur_triton, border=border))
    assert torch.equal(module.blur_triton(image[1:2], RAMPS, border), found[1:2])
    assert found.stride() == blur(image, SEVERAL).stride()


@alone
def test_each_image_takes_its_own_way():
    """Smaller than the kernel, too: five rows of it for one or two of the image."""
    module = interpreted()
    check_each_way(module, torch.uint8, "reflect", "interleaved", (2, 3))
    function = functools.partial(module.blur_triton, border="replicate")
    column = normalised(
        np.pad(np.ones((5, 1)), ((0, 0), (1, 3)))
    )  # few taps: one too many shows in a byte of five
    check(pixels((2, 1, 5, 9), torch.uint8), torch.stack([NOISE, column]), "replicate", function)
    check_each_way(module, torch.float32, "circular", "contiguous", (1, 2))
    for border in ("symmetric", "zeros"):
        function = functools.partial(module.blur_triton, border=border)
        check(pixels((1, 1, 2), torch.float32), normalised(np.arange(1.0, 8.0)[None]), border, function)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@alone
def test_each_way_in_each_type(dtype):
    module = interpreted()
    check_each_way(module, dtype, "symmetric", "sliced", (3, 9))


@pytest.mark.slow
@alone
def test_borders_of_images_smaller_than_the_kernel():
    module = interpreted()
    for border in oracles.BORDERS:
        function = functools.partial(module.blur_triton, border=border)
        for size, shape in (((2, 3), (1, 9)), ((1, 1), (5, 1)), ((3, 2), (11, 1))):
            check(pixels((1, *size), torch.float32), normalised(np.ones(shape)), border, function)


@pytest.mark.slow
@alone
def test_empty_batches():
    module = interpreted()
    for shape in ((0, 3, 5, 4), (2, 0, 5, 4), (2, 3, 0, 4)):
        assert module.blur_triton(torch.empty(shape), RING, "reflect").shape == shape


@pytest.mark.slow
@alone
def test_gradient_by_the_same_kernels():
    module = interpreted()
    gradient = pixels((3, 2, 4, 3), torch.float32)
    for border in oracles.BORDERS:
        expected = torch.ops.blurlib.blur_adjoint(gradient, SEVERAL[:3], border)
        usual, operators._blur = operators._blur, lambda *given: module.blur_triton(*given[:3])
        found = operators._adjoint_anywhere(gradient, SEVERAL[:3], border)
        operators._blur = usual
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@alone
def test_what_is_not_finite_reaches_its_footprint():
    module = interpreted()
    for kernel in (RAMPS, torch.where(NOISE.mean() < NOISE, NOISE, 0.0)):
        image = torch.zeros(1, 9, 14)
        image[0, 4, 4], image[0, 3, 11] = float("inf"), float("nan")
        kernel = normalised(kernel.numpy())
        found, expected = module.blur_triton(image, kernel, "zeros"), blur(image, kernel, border="zeros")
        torch.testing.assert_close(found, expected, equal_nan=True)


def _oblong(h: int, w: int, seed: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    flat = (rng.random((h, w)) < 0.6).astype(float)
    flat[h // 2, w // 2] = 1
    ranks = np.outer(rng.random(h) + 0.1, rng.random(w) + 0.1)
    return [
        normalised(weights) for weights in (flat, ranks, rng.random((h, w)), rng.normal(size=(h, w)) + 0.5)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("border", oracles.BORDERS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@alone
def test_sizes_and_layouts(dtype, border):
    """Across the edges of words and tiles, with kernels larger than the image too; all in turns."""
    module = interpreted()
    turn = len(oracles.BORDERS) * TYPES.index(dtype) + oracles.BORDERS.index(border)
    rng = np.random.default_rng(turn)
    layouts = ("contiguous", "interleaved", "transposed", "sliced", "expanded", "offset")
    function = functools.partial(module.blur_triton, border=border)
    h, w = (2 * int(rng.integers(0, 5)) + 1 for _ in range(2))
    height, width = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    image = in_layout(pixels((4, 3, height, width), dtype, turn), layouts[turn % 6])
    check(image, torch.stack(_oblong(h, w, turn)), border, function)
    library = [kernels.disk(4), kernels.gaussian(1.5), kernels.bank_kernel(3), kernels.line(8, 30)]
    check(pixels((1, 2, 11, 17), dtype), library[turn % 4], border, function)
    edges = [(83, 5), (3, 259), (2, 515)]
    for kernel in (normalised(np.ones((3, 3))), kernels.gaussian(0.5), normalised(rng.random((3, 3)))):
        check(pixels((1, *edges[turn % 3]), dtype), kernel, border, function)


@pytest.mark.slow
@alone
def test_large_flat_kernels_are_exact():
    """More taps than 16 bits hold the bytes of; a full range of levels, ties among them."""
    module = interpreted()
    rng = np.random.default_rng(0)
    for kernel in (
        kernels.disk(10),
        normalised(np.pad(np.ones((18, 19)), ((0, 1), (0, 0)))),
        kernels.box(32),
    ):
        for image in (rng.integers(0, 256, (1, 5, 30)), rng.integers(0, 2, (1, 5, 30)) * 255):
            check(
                torch.from_numpy(image.astype(np.uint8)),
                kernel,
                "reflect",
                functools.partial(module.blur_triton, border="reflect"),
            )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@alone
def test_chunks_change_nothing(dtype):
    module = interpreted()
    for layout in ("contiguous", "interleaved"):
        image = in_layout(pixels((5, 2, 70, 5), dtype), layout)
        expected = module.blur_triton(image, SEVERAL, "symmetric")
        for allowed in (1, 3000, 20_000):
            module.TEMPORARY_BYTES = allowed
            assert torch.equal(module.blur_triton(image, SEVERAL, "symmetric"), expected)
        module.TEMPORARY_BYTES = 2**27


@pytest.mark.slow
@alone
def test_dense_kernels():
    """On tensor cores: columns across blocks of 32, rows across tiles of 128, weights large and small."""
    module = interpreted()
    rng = np.random.default_rng(0)
    for (h, w), size in (((3, 33), (2, 65)), ((15, 15), (131, 3)), ((9, 31), (4, 40)), ((5, 5), (1, 1))):
        for weights in (rng.random((h, w)), rng.random((h, w)) ** 9, rng.normal(size=(h, w)) + 1.0):
            kernel = normalised(weights)
            assert modes(module, kernel[None], torch.uint8) == [DENSE]
            function = functools.partial(module.blur_triton, border="symmetric")
            check(pixels((2, *size), torch.uint8), kernel, "symmetric", function)


@pytest.mark.slow
@alone
def test_exact_division():
    """The plan's multiplier and shift, for every sum of n bytes near a step."""
    module = interpreted()
    for n in (1, 2, 3, 4, 5, 64, 197, 255, 256, 797, 961, 1089):
        side = 33
        weights = np.zeros(side * side)
        weights[:n] = 1 / n
        head = (
            module._plan(
                torch.from_numpy(weights.reshape(1, side, side)), torch.empty((1, 1, 9, 9), dtype=torch.uint8)
            )
            .heads[0]
            .tolist()
        )
        magic, shift = head[3] & 0xFFFFFFFF, head[4]
        total = np.arange(255 * n + 1, dtype=np.int64)
        assert np.array_equal((2 * total + n) * magic >> (32 + shift), (2 * total + n) // (2 * n))


# --- The choice ---


@pytest.fixture
def fresh():
    cuda._trouble.cache_clear()
    yield
    cuda._trouble.cache_clear()


IMAGE = pixels((2, 3, 9, 8), torch.uint8)


@pytest.mark.usefixtures("fresh")
def test_without_triton_torch_serves_with_one_warning(monkeypatch):
    for name in ("triton_backend", "triton_flat", "triton_kernels", "triton_plan"):
        monkeypatch.delitem(sys.modules, f"blurlib._engine.{name}", raising=False)
        monkeypatch.delattr(f"blurlib._engine.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.warns(UserWarning, match=r"ModuleNotFoundError.*triton"):
        found = cuda.blur_cuda(IMAGE, RING, "reflect")
    assert torch.equal(found, blur(IMAGE, RING, backend="torch"))
    assert torch.equal(cuda.blur_cuda(IMAGE, RING, "reflect"), found)  # a second warning would be an error


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("failure", ["launch", "compilation", "values"])
def test_where_the_trial_fails_torch_serves(failure, monkeypatch):
    from blurlib._engine import triton_backend

    def instead(image, kernel, border):
        if failure == "compilation":
            raise RuntimeError("ptxas: no such architecture\nand much more")
        return image.clone()

    if failure != "launch":  # else Triton itself: there is no driver
        monkeypatch.setattr(triton_backend, "blur_triton", instead)
    causes = {"compilation": "RuntimeError: ptxas: no such architecture", "values": "trial image differs by"}
    with pytest.warns(UserWarning, match=causes.get(failure, r"do not serve cpu")):
        found = cuda.blur_cuda(IMAGE, RING, "reflect")
    assert torch.equal(found, blur(IMAGE, RING, backend="torch"))


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_after_the_trial_triton_serves(dtype, monkeypatch):
    from blurlib._engine import torch_backend, triton_backend

    shapes = []

    def instead(image, kernel, border):
        shapes.append(tuple(image.shape))
        return torch_backend.blur_torch(image, kernel, border)

    monkeypatch.setattr(triton_backend, "blur_triton", instead)
    image = IMAGE.to(dtype)
    for _ in range(2):
        cuda.blur_cuda(image, RING, "reflect")
    assert shapes[-2:] == [(2, 3, 9, 8)] * 2
    asked = len(shapes)
    # Never: another backend, large kernels, nothing to do, float64.
    cuda.blur_cuda(image, RING, "reflect", "torch")
    cuda.blur_cuda(image, torch.full((35, 35), 1 / 35**2), "reflect")
    cuda.blur_cuda(image[:0], RING, "reflect")
    cuda.blur_cuda(image.double(), RING, "reflect")
    assert len(shapes) == asked


@pytest.mark.usefixtures("fresh")
def test_no_trial_while_a_graph_is_captured(monkeypatch):
    """It would wait for the device. The next call tries; afterwards Triton serves in graphs too."""
    from blurlib._engine import torch_backend, triton_backend

    calls = []

    def instead(*args):
        calls.append(args)
        return torch_backend.blur_torch(*args)

    monkeypatch.setattr(triton_backend, "blur_triton", instead)
    monkeypatch.setattr(cuda, "_is_capturing", lambda: True)
    found = cuda.blur_cuda(IMAGE, RING, "reflect")
    assert torch.equal(found, blur(IMAGE, RING, backend="torch"))
    assert not calls
    monkeypatch.setattr(cuda, "_is_capturing", lambda: False)
    cuda.blur_cuda(IMAGE, RING, "reflect")
    monkeypatch.setattr(cuda, "_is_capturing", lambda: True)
    before = len(calls)
    cuda.blur_cuda(IMAGE, RING, "reflect")
    assert len(calls) == before + 1 > 1


def test_backends_without_a_device():
    if not torch.cuda.is_available():
        assert backends()["cuda"] == "torch"


@pytest.mark.cuda
def test_triton_serves_a_device():
    assert backends()["cuda"] == "triton"
    for dtype, layout in itertools.product(TYPES, ("contiguous", "interleaved", "sliced")):
        for kernel in (kernels.disk(8), kernels.gaussian(2), kernels.bank_kernel(3), SEVERAL):
            image = in_layout(pixels((5, 3, 70, 301), dtype), layout)
            check(image, kernel, "symmetric", lambda i, k: blur(i.cuda(), k.cuda(), border="symmetric").cpu())
