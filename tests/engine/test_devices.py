"""blur() on other devices than the CPU, shown without one.

A GPU is stood in for in two ways: fake CUDA tensors have shapes, strides and a device but no values, and
refuse mixed devices; and the code for devices runs on the CPU, against the loops and the reference.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import oracles
from blurlib import blur, kernels
from blurlib._engine import operators, torch_backend
from images import (
    DTYPES,
    KINDS,
    check,
    each_border,
    each_dtype,
    exhaustive,
    normalised,
    odd_kernels,
    pixels,
)

op = torch.ops.blurlib.blur
SHAKE = kernels.bank_kernel(3)


def on_device(image: torch.Tensor, kernel: torch.Tensor, border: str = "reflect") -> torch.Tensor:
    """The code for devices, on the CPU."""
    return torch_backend.blur_torch(image, kernel, border)


def quick_reference(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The reference for large kernels: the same border, then SciPy's FFT in float64, right to 1e-15."""
    (plane,) = image.double().numpy()
    padded = oracles.pad(plane, tuple(kernel.shape), "reflect")
    return torch.from_numpy(scipy.signal.fftconvolve(padded, kernel.numpy(), mode="valid"))[None]


# --- Values: the code for devices against the reference and the loops ---


@each_dtype
@given(
    border=st.sampled_from(oracles.BORDERS),
    data=st.data(),
    height=st.integers(1, 34),
    width=st.integers(1, 34),
    one_each=st.booleans(),
)
def test_reference(dtype, border, data, height, width, one_each):
    kernel = data.draw(odd_kernels(19))
    if one_each:
        kernel = torch.stack([kernel, kernel.flip(0)])
    check(pixels((2, 3, height, width), dtype), kernel, border, functools.partial(on_device, border=border))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_agreement_with_the_loops(kind, dtype):
    """Within two roundings of each other."""
    image = pixels((2, 3, 70, 51), dtype)
    found, expected = on_device(image, KINDS[kind], "symmetric"), blur(image, KINDS[kind], border="symmetric")
    flat = kind in ("flat", "flat, large", "row", "column")
    bounds = {torch.uint8: 0 if flat else 1, torch.float64: 1e-11, torch.float32: 1e-5}
    tolerance = {**bounds, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    assert (found.double() - expected.double()).abs().max() <= tolerance


def scenes(height: int, width: int) -> dict[str, torch.Tensor]:
    """What is hard for sums in limited precision, in float64."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.random((1, height, width)))
    bright = noise.clone()
    bright[:, : height // 2] *= 1e4
    edge = (torch.arange(width) < width // 2).double().expand(1, height, width)
    steps = torch.linspace(0.3, 1, 40, dtype=torch.float64).repeat_interleave(-(-height // 40))[:height]
    return {
        "noise": noise,
        "black and white": (noise > 0.5).double() * 2 - 1,
        "edge": edge,
        "a block of 1e4": bright,
        "flat steps": steps[:, None].expand(1, height, width),
        "far from zero": noise + 1e3,
    }


@pytest.mark.parametrize("name", scenes(1, 40))
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["32", "64"]
)
def test_precision(name, dtype, bound):
    """As blur() promises, relative to the brightest pixel, for any radius and both ways to convolve."""
    image = scenes(240, 180)[name].to(dtype)
    several = kernels.disk(3), kernels.disk(5), kernels.disk(32), SHAKE, kernels.gaussian(8)
    for kernel in (*several, kernels.box(129), kernels.box(80, vertical=True), kernels.box(150)):
        expected = quick_reference(image, kernel)
        error = (on_device(image, kernel).double() - expected).abs().max() / image.abs().max()
        assert error <= bound, (tuple(kernel.shape), float(error))


@pytest.mark.parametrize(
    "kernel", [kernels.box(129), kernels.box(129, vertical=True), torch.full((9, 9), 1 / 81)]
)
def test_direct_sums_do_not_drift_on_a_device(kernel):
    """A device adds tap by tap in float32, which the CPU here does not: the groups of taps are replayed."""
    with Convolutions() as seen:
        on_device(torch.zeros((1, 9, 9)), kernel)
    parts = [weights[0].numel() for _, weights, _ in seen.calls]
    assert sum(parts) == kernel.numel()
    levels = (
        np.linspace(0.01, 1, 5000).astype(np.float32).astype(np.float64)
    )  # constant images, the worst case
    total = np.float32(0)
    for part in parts:
        some = np.float32(0)
        for _ in range(part):
            some = (some + levels * np.float32(1 / kernel.numel())).astype(np.float32)  # fused multiply-add
        total = total + some
    assert np.abs(total - levels).max() <= 5e-7


FLAT = {f"disk {radius}": kernels.disk(radius) for radius in range(2, 17)} | {
    "disk 32": kernels.disk(32),
    "row of 2": kernels.box(2),
    "row of 128": kernels.box(128),
    "column of 200": kernels.box(200, vertical=True),
    "even 11": normalised(np.pad(np.ones((10, 11)), ((0, 1), (0, 0)))),
    "even 21": normalised(np.pad(np.ones((20, 21)), ((0, 1), (0, 0)))),
    "even 41": normalised(np.pad(np.ones((40, 41)), ((0, 1), (0, 0)))),
}


# Direct sums go up to radius 4.
@pytest.mark.parametrize(
    "name",
    [exhaustive(name) if name in {f"disk {r}" for r in (6, 7, *range(9, 16))} else name for name in FLAT],
)
def test_flat_kernels_are_exact(name):
    """(2S + n) // (2n), also by FFT: ties go up, and what is not a tie stays."""
    kernel = FLAT[name]
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (1, 90, 120))
    white = rng.integers(0, 2, (1, 90, 120)) * 255
    nearly = rng.integers(254, 256, (1, 90, 120))
    image = torch.from_numpy(np.concatenate([noise, white, nearly]).astype(np.uint8))
    expected = oracles.blur_flat(image.numpy(), kernel.numpy(), "reflect")
    np.testing.assert_array_equal(on_device(image, kernel).numpy(), expected)


def test_constant_images_stay_constant():
    for kernel in (kernels.disk(2), kernels.disk(20), SHAKE, kernels.gaussian(3), kernels.box(100)):
        for level in (0, 1, 127, 128, 254, 255):
            image = torch.full((1, 33, 20), level, dtype=torch.uint8)
            assert torch.equal(on_device(image, kernel), image)


# --- Chunks ---


# What lies outside is zero or found by its index; the border does not depend on the type.
@pytest.mark.parametrize(
    ("dtype", "border"),
    [
        *((torch.uint8, border) for border in oracles.BORDERS),
        (torch.float16, "zeros"),
        (torch.float32, "reflect"),
        *(exhaustive(d, b) for d in (torch.float16, torch.float32) for b in oracles.BORDERS),
    ],
    ids=str,
)
@pytest.mark.parametrize("allowed", [1, 400_000])
def test_chunks_change_nothing(allowed, dtype, border, monkeypatch):
    """Bands of rows, single planes, some planes, some images: as if it were done at once."""
    batch, video = pixels((5, 3, 60, 25), dtype), pixels((2, 3, 3, 40, 25), dtype)
    one = (SHAKE, kernels.disk(2), kernels.box(150), kernels.box(31, vertical=True), torch.ones((1, 1)))
    works = [(batch, kernel) for kernel in one]
    works += [
        (batch, torch.stack([kernels.bank_kernel(i) for i in range(5)])),
        (video, torch.stack([SHAKE, SHAKE.flip(0)])),
    ]
    whole = [on_device(image, kernel, border) for image, kernel in works]
    monkeypatch.setattr(torch_backend, "TEMPORARY_BYTES", allowed)
    for (image, kernel), expected in zip(works, whole, strict=True):
        found = on_device(image, kernel, border).double()
        if dtype == torch.uint8:
            assert (found != expected).sum() <= 2  # of a tie's two neighbours either is right
        torch.testing.assert_close(
            found,
            expected.double(),
            rtol=0,
            atol={torch.uint8: 1, torch.float16: 2e-3, torch.float32: 1e-6}[dtype],
        )


class Memory(TorchDispatchMode):
    """Watches how many bytes are alive at once of what is made inside."""

    def __init__(self, *inputs):
        super().__init__()
        self.inputs = {tensor.untyped_storage()._cdata for tensor in inputs}
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            storage = found.untyped_storage()
            if storage._cdata not in self.inputs:
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: (ref, size) for key, (ref, size) in self.alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return found


@pytest.mark.parametrize(
    ("dtype", "border"),
    [
        (torch.uint8, "reflect"),
        (torch.float64, "zeros"),
        *(
            exhaustive(d, b)
            for d in (torch.uint8, torch.float32, torch.float64)
            for b in ("reflect", "zeros")
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((32, 3, 384, 512), (5, 5)),
        ((32, 3, 384, 512), (33, 33)),
        ((1, 3, 4000, 6000), (7, 7)),
        ((1, 3, 4000, 6000), (65, 65)),
        ((2, 1, 4000, 6000), (1, 301)),
        ((1, 1, 4000, 6000), (301, 1)),
        ((1, 500, 300, 300), (17, 17)),
    ],
    ids=str,
)
def test_memory_stays_within_the_bound(shape, side, dtype, border):
    """Counted on fake tensors, which need none. Not seen are the FFT's scratch and workspace, a third."""
    for kernel_shape in (side, (shape[0], *side)):
        with FakeTensorMode():
            image = torch.empty(shape, dtype=dtype, device="cuda")
            kernel = torch.empty(kernel_shape, dtype=torch.float64, device="cuda")
            with Memory(image, kernel) as memory:
                result = on_device(image, kernel, border)
            temporary = memory.peak - result.untyped_storage().nbytes()
        assert temporary <= torch_backend.TEMPORARY_BYTES * 0.55
        # Nor chunks so small that a GPU would idle.
        if result.numel() * 8 > torch_backend.TEMPORARY_BYTES:
            assert temporary >= torch_backend.TEMPORARY_BYTES / 8


# --- Fake CUDA tensors ---


class NoWaiting(TorchDispatchMode):
    """Refuses what would make a CPU wait for a device: moves between devices, and looks at values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        for sign in (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "unique",
            "equal",
            "item",
            "is_nonzero",
        ):
            assert f"::{sign}" not in name, name
        if "_to_copy" in name or name.startswith("aten::copy_"):
            devices = {a.device.type for a in args if isinstance(a, torch.Tensor)}
            if (kwargs or {}).get("device") is not None:
                devices.add(torch.device(kwargs["device"]).type)
            assert len(devices) == 1, f"{name} between {devices}"
        found = func(*args, **(kwargs or {}))
        assert not isinstance(found, torch.Tensor) or found.device.type == "cuda", f"{name} on {found.device}"
        return found


@pytest.mark.parametrize(
    ("allowed", "dtype", "border"),
    [
        *((400_000, torch.uint8, border) for border in oracles.BORDERS),
        *((2**28, dtype, "reflect") for dtype in DTYPES),
        *(exhaustive(2**28, dtype, border) for dtype in DTYPES for border in oracles.BORDERS),
    ],
    ids=str,
)
def test_fake_cuda_tensors(allowed, dtype, border, monkeypatch):
    """Shape, type, strides and device of the result; no value looked at, nothing moved."""
    monkeypatch.setattr(torch_backend, "TEMPORARY_BYTES", allowed)
    with FakeTensorMode(), NoWaiting():
        planar = torch.empty((2, 3, 33, 20), device="cuda", dtype=dtype)
        last = planar.to(memory_format=torch.channels_last)
        video = torch.empty((2, 2, 20, 33, 3), device="cuda", dtype=dtype).movedim(-1, -3)
        for image in (planar, planar[0], last, video, planar[..., 1:, ::2], planar[:0]):
            expected = image if image is last or image is video else image.new_empty(image.shape)
            for h, w in ((9, 9), (17, 17), (1, 301)):
                kernel = torch.empty((h, w), device="cuda", dtype=torch.float64)
                found = [on_device(image, kernel, border), blur(image, kernel, border=border)]
                if image.ndim > 3:
                    found.append(on_device(image, kernel.half().expand(image.shape[0], h, w), border))
                for one in found:
                    assert (one.shape, one.dtype, one.device) == (image.shape, dtype, image.device)
                    assert one.stride() == expected.stride()


@each_border
@pytest.mark.parametrize("each", [False, True])
def test_fake_cuda_adjoint(each, border):
    """The gradient's op; autograd itself would ask for a real device."""
    with FakeTensorMode(), NoWaiting():
        gradient = torch.empty((2, 3, 33, 20), device="cuda")
        kernel = torch.empty((2, 17, 17) if each else (17, 17), device="cuda")
        for function in (torch.ops.blurlib.blur_adjoint, operators._adjoint_anywhere):
            back = function(gradient, kernel, border)
            assert back.shape == gradient.shape
            assert back.device.type == "cuda"


def test_fake_tensors_of_two_devices_are_refused():
    with FakeTensorMode():
        image = torch.empty((3, 8, 8), device="cuda")
        with pytest.raises(ValueError, match=r"`kernel`.*device"):
            blur(image, torch.empty((3, 3)))


@pytest.mark.parametrize("name", ["blurlib::blur", "blurlib::blur_adjoint"])
def test_there_is_a_cuda_kernel(name):
    has = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    assert has(name, "CUDA")
    assert has(name, "CPU")
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta") or has(name, "Meta")


class Convolutions(TorchDispatchMode):
    """Notes the convolutions that are asked of torch."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().startswith("aten::convolution"):
            self.calls.append((args[0], args[1], args[8]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", [(1, 1, 9, 8), (2, 3, 9, 8), (1, 20, 30)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32], ids=str)
def test_no_setting_rounds_a_direct_convolution(shape, dtype):
    """A group a plane, two at least, in float32: on CUDA torch's own kernel, which knows no TF32."""
    for each in (False, True) if len(shape) == 4 else (False,):
        with FakeTensorMode(), Convolutions() as seen:
            image = torch.empty(shape, dtype=dtype, device="cuda")
            kernel = torch.empty((shape[0], 5, 5) if each else (5, 5), device="cuda")
            on_device(image, kernel)
        assert seen.calls
        for image, kernel, groups in seen.calls:
            assert groups == image.shape[1] == kernel.shape[0] >= 2
            assert image.dtype == kernel.dtype == torch.float32


@pytest.mark.parametrize("kind", ["flat", "shake", "gaussian"])
def test_autocast_does_not_reach_the_sums(kind):
    image = pixels((2, 3, 20, 21), torch.float32)
    for kernel in (kernels.disk(2), KINDS[kind]):
        expected = blur(image, kernel), op(image, kernel, "reflect"), on_device(image, kernel)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = blur(image, kernel), op(image, kernel, "reflect"), on_device(image, kernel)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


# --- With a GPU ---


@pytest.mark.cuda
@each_border
@each_dtype
def test_cuda_is_the_reference(dtype, border):
    for kernel in (
        kernels.disk(2),
        kernels.disk(8),
        SHAKE,
        kernels.gaussian(4),
        kernels.box(8),
        kernels.box(150),
    ):
        for size in ((3, 40, 33), (2, 3, 5, 4), (1, 9, 9)):
            check(
                pixels(size, dtype),
                kernel,
                border,
                lambda i, k: blur(i.cuda(), k.cuda(), border=border).cpu(),
            )


@pytest.mark.cuda
@pytest.mark.parametrize("name", scenes(1, 40))
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["32", "64"]
)
def test_cuda_precision(name, dtype, bound):
    image = scenes(240, 180)[name].to(dtype)
    for kernel in (
        kernels.disk(3),
        kernels.disk(5),
        kernels.disk(32),
        SHAKE,
        kernels.box(129),
        kernels.box(150),
    ):
        expected = quick_reference(image, kernel)
        error = (blur(image.cuda(), kernel.cuda()).cpu().double() - expected).abs().max() / image.abs().max()
        assert error <= bound, (tuple(kernel.shape), float(error))


@pytest.mark.cuda
@pytest.mark.parametrize("name", FLAT)
def test_cuda_flat_kernels_are_exact(name):
    image = pixels((3, 90, 120), torch.uint8)
    expected = oracles.blur_flat(image.numpy(), FLAT[name].numpy(), "reflect")
    np.testing.assert_array_equal(blur(image.cuda(), FLAT[name].cuda()).cpu().numpy(), expected)


@pytest.mark.cuda
def test_cuda_batches_memory_and_waiting():
    """One kernel an image; torch reports every wait; the bound holds, the libraries' workspaces included."""
    each = torch.stack([kernels.bank_kernel(i) for i in range(8)])
    image = pixels((8, 3, 700, 900), torch.uint8)
    small, one = image[:, :, :50, :60], kernels.disk(3)
    there, kernel, one = image.cuda(), each.cuda(), one.cuda()
    blur(there, kernel), blur(there, one)  # libraries load and plan
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, _ = blur(there, kernel), blur(there, one)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    used = torch.cuda.max_memory_allocated() - before - 2 * image.numel()
    assert used <= torch_backend.TEMPORARY_BYTES
    assert (found.cpu().int() - blur(image, each).int()).abs().max() <= 1
    with torch.autocast("cuda", dtype=torch.float16):
        assert torch.equal(blur(there, kernel), found)
    half = small.cuda().half().requires_grad_()
    (back,) = torch.autograd.grad(blur(half, kernel).sum(), half)
    assert (back.dtype, back.device) == (torch.float16, half.device)
