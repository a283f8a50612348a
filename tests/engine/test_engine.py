"""The CPU engine: plans, precision of floats, tiles and views, memory, threads."""

from __future__ import annotations

import gc
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from blurlib import blur, kernels
from blurlib._engine import cpu
from images import exhaustive, needs_core
from processes import in_processes


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    if dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(rng.uniform(-1, 2, shape)).to(dtype)


def reference(image: torch.Tensor, kernel: torch.Tensor, border: str = "reflect") -> np.ndarray:
    """By FFT in float64: ten digits beyond float32, and quicker than the oracle for large kernels."""
    padded = np.stack([oracles.pad(plane, kernel.shape, border) for plane in image.double().numpy()])
    return scipy.signal.oaconvolve(padded, kernel.double().numpy()[None], mode="valid", axes=(1, 2))


# Memory


def test_a_kernel_that_changes_in_place_is_another_kernel():
    """What is known of a tensor's address is looked at again, also where another tensor has come to lie."""
    image, kernel = noise((1, 30, 30), torch.uint8), kernels.disk(3)
    for _ in range(3):
        expected = blur(image, kernel.clone())
        assert torch.equal(blur(image, kernel), expected)
        kernel.copy_(kernel.roll(1, 0))
    kernel.numpy()[:] = kernels.disk(3).numpy()
    assert torch.equal(blur(image, kernel), blur(image, kernels.disk(3)))
    kernel[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        blur(image, kernel)


def test_memory_in_the_middle_of_an_element():
    data = np.zeros(4 * 3 * 20 * 20 + 1, np.uint8)
    image = torch.from_numpy(data[1:].view(np.float32).reshape(3, 20, 20))
    assert image.data_ptr() % 4 == 1
    image.copy_(noise((3, 20, 20), torch.float32))
    for view in (image, image.permute(1, 2, 0).permute(2, 0, 1), image[:, ::2]):
        assert torch.equal(blur(view, kernels.disk(3)), blur(view.clone(), kernels.disk(3)))
    kernel = torch.from_numpy(np.zeros(8 * 25 + 1, np.uint8)[1:].view(np.float64).reshape(5, 5))
    kernel.copy_(kernels.disk(2))
    assert torch.equal(blur(image, kernel), blur(image, kernels.disk(2)))


# Plans


@needs_core
@pytest.mark.parametrize(
    ("kernel", "dtype", "kind"),
    [
        (kernels.disk(8), torch.uint8, "equal"),
        (kernels.disk(8.3, antialias=True), torch.uint8, "equal"),
        (kernels.box(9), torch.uint8, "equal"),
        (kernels.box(9, vertical=True), torch.uint8, "equal"),
        (kernels.box(65), torch.uint8, "box"),
        (kernels.box(200), torch.float32, "box"),
        (kernels.box(200), torch.float64, "box"),
        (kernels.box(200, vertical=True), torch.float32, "equal"),
        (kernels.disk(8), torch.float32, "equal"),
        (kernels.disk(1), torch.float32, "weighted"),
        (kernels.disk(8), torch.float64, "running"),
        (kernels.bank_kernel(0), torch.uint8, "weighted"),
        (kernels.gaussian(3), torch.uint8, "separable"),
        (kernels.gaussian(3).float(), torch.float32, "separable"),
        (kernels.disk(0), torch.uint8, "copy"),
        (torch.rand(61, 61, generator=torch.Generator().manual_seed(0)).double(), torch.uint8, "fft"),
    ],
)
def test_the_cheapest_plan(kernel, dtype, kind):
    letter = cpu._CODES[dtype]
    assert cpu._core.kind_of((kernel / kernel.sum()).double().numpy(), letter) == kind


# Precision of floats


def worst(image: torch.Tensor, kernel: torch.Tensor, border: str) -> float:
    """The largest error in parts of the image's largest magnitude."""
    expected = reference(image, kernel, border)
    error = np.abs(blur(image, kernel, border=border).double().numpy() - expected).max()
    return float(error / image.double().abs().max())


def adversaries(height: int, width: int) -> dict[str, torch.Tensor]:
    """Images that make sums drift: large offsets, steps, extremes side by side, one very large number."""
    rng = np.random.default_rng(0)
    board = np.indices((height, width)).sum(0) % 2
    some = {
        "noise": rng.random((height, width)),
        "offset": 1e4 + rng.random((height, width)),
        "constant": np.full((height, width), 0.7),
        "checkerboard": np.where(board, 1.0, -1.0) * 0.9,
        "stripes": np.where(np.arange(height)[:, None] % 2, 1e3, -1e3) + rng.random((height, width)),
        "ramp": np.linspace(0, 1, height)[:, None] + np.zeros(width),
        "bright top": np.where(np.arange(height)[:, None] < 3, 1e4, rng.random((height, width))),
        "negative": -rng.random((height, width)) - 3.0,
    }
    return {name: torch.from_numpy(image.astype(np.float32))[None] for name, image in some.items()}


PRECISE = {
    **{f"disk {r}": kernels.disk(r) for r in (2, 8, 16, 32, 64)},
    **{f"soft disk {r}": kernels.disk(r, antialias=True) for r in (2.3, 8.3, 16.3, 32.3)},
    **{f"gaussian {s}": kernels.gaussian(s) for s in (1, 4, 16)},
    "line 32": kernels.line(32, 30),
    "row 33": kernels.box(33),
    "row 200": kernels.box(200),
    "row 400": kernels.box(400),
    "column 257": kernels.box(257, vertical=True),
    "shake, 41 px": kernels.camera_shake(1, seed=0, grid=39, size=41)[0],
    "dense 61": torch.from_numpy(np.random.default_rng(1).dirichlet(np.ones(3721)).reshape(61, 61)),
    "dense": torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(625)).reshape(25, 25)),
}


@pytest.mark.parametrize("name", PRECISE)
def test_float32_is_within_a_millionth_at_any_radius(name):
    for adversary, image in adversaries(150, 70).items():
        assert worst(image, PRECISE[name], "reflect") <= 1e-6, adversary


@pytest.mark.parametrize("name", ["disk 8", "soft disk 8.3", "shake, 41 px", "gaussian 4"])
def test_float32_does_not_drift_down_a_long_image(name):
    for adversary, image in adversaries(3000, 20).items():
        assert worst(image, PRECISE[name], "replicate") <= 1e-6, adversary


@pytest.mark.parametrize(
    "name", ["disk 8", "soft disk 8.3", "shake, 41 px", "gaussian 4", "column 257", "row 200"]
)
def test_float64_is_within_a_part_in_a_trillion(name):
    for image in adversaries(300, 40).values():
        expected = reference(image, PRECISE[name])
        limit = 1e-12 * float(image.abs().max())
        np.testing.assert_allclose(blur(image.double(), PRECISE[name]), expected, rtol=0, atol=limit)


@needs_core
@pytest.mark.parametrize("scale", [1e-44, 1e-40, 1e-30, 1e-20, 1e20, 1e37])
@pytest.mark.parametrize("name", ["disk 8", "soft disk 8.3", "disk 32"])
def test_floats_of_any_magnitude(name, scale):
    image = adversaries(80, 40)["noise"] * torch.tensor(scale)
    expected = oracles.blur(image.double().numpy(), PRECISE[name].numpy(), "reflect")
    limit = 1e-6 * float(image.double().abs().max()) + 1e-45  # half the smallest number there is
    np.testing.assert_allclose(blur(image, PRECISE[name]).double().numpy(), expected, rtol=0, atol=limit)


@needs_core
def test_a_bright_channel_costs_the_others_nothing():
    image = torch.stack([adversaries(90, 40)["noise"][0] * s for s in (1e-6, 1.0, 1e6)])
    for layout in (image, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        found = blur(layout, kernels.disk(8)).double().numpy()
        expected = oracles.blur(image.double().numpy(), kernels.disk(8).numpy(), "reflect")
        for channel in range(3):
            limit = 1e-6 * float(image[channel].max())
            np.testing.assert_allclose(found[channel], expected[channel], rtol=0, atol=limit)


@needs_core
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("border", ["reflect", "circular", "zeros"])
@pytest.mark.parametrize(
    "name",
    [
        "disk 8",
        "soft disk 8.3",
        "shake, 41 px",
        "gaussian 4",
        "line 32",
        "disk 16",
        "dense 61",
        "row 33",
        "row 200",
    ],
)
def test_what_is_not_finite_goes_where_the_kernel_carries_it(name, border, dtype):
    """Those pixels and no others, across tiles and borders; the others as if it had been zero, to the bit."""
    kernel = PRECISE[name]
    image = noise((2, 150, 90), dtype)
    places = [(0, 0, 0), (0, 63, 40), (1, 64, 89), (1, 149, 30)]
    without, mask = image.clone(), torch.zeros(image.shape, dtype=torch.float64)
    for place, value in zip(places, (math.nan, math.inf, -math.inf, math.nan), strict=True):
        image[place] = value
        without[place], mask[place] = 0, 1
    found, expected = blur(image, kernel, border=border), blur(without, kernel, border=border)
    reached = reference(mask, kernel != 0, border) > 0.5
    np.testing.assert_array_equal(~np.isfinite(found.numpy()), reached)
    assert torch.equal(found[~torch.from_numpy(reached)], expected[~torch.from_numpy(reached)])
    assert found[0, 63, 40].isnan() or found[0, 63, 40] > 0


@needs_core
@pytest.mark.parametrize("name", ["disk 8", "dense 61"])  # the second by FFT
def test_infinities_of_both_signs_meet_as_nan(name):
    kernel = PRECISE[name]
    reach = kernel.shape[-1] // 2
    image = torch.zeros((1, 6 * reach, 6 * reach))
    left, right = 3 * reach - 2, 3 * reach + 2
    image[0, 10, left], image[0, 10, right] = math.inf, -math.inf
    found = blur(image, kernel)
    assert found[0, 10, 3 * reach].isnan()
    assert found[0, 10, left - reach] == math.inf
    assert found[0, 10, right + reach] == -math.inf


# Tiles and views

KINDS = ("disk 8", "soft disk 8.3", "shake, 41 px", "gaussian 4", "row 33", "row 400", "disk 16", "dense 61")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_wide_images_are_cut_into_tiles_of_columns(name, dtype):
    image = noise((2, 70, 2 * 1024 + 37), dtype)
    kernel = PRECISE[name]
    found = blur(image, kernel)
    expected = reference(image, kernel)
    if dtype == torch.uint8:
        assert np.abs(found.numpy() - expected).max() < 0.501
    else:
        limit = {torch.float32: 2e-6, torch.float64: 2e-12}[dtype]
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=limit)
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(blur(interleaved, kernel), found)
    for start in (0, 1000):
        part = image[:, 3:66, start : start + 1030]
        assert torch.equal(blur(part, kernel), blur(part.contiguous(), kernel))


VIEWS = {
    "crop": lambda image: image[:, :, 3:40, 5:50],
    "crop of HWC": lambda image: image.contiguous(memory_format=torch.channels_last)[:, :, 3:40, 5:50],
    "every second image": lambda image: image[::2],
    "some channels": lambda image: image[:, 1:],
    "expanded": lambda image: image[:1].expand(3, -1, -1, -1),
    "every second row": lambda image: image[:, :, ::2],
    "channels before images": lambda image: image.transpose(0, 1),
}


@needs_core
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_views_are_taken_as_they_lie(name, dtype, monkeypatch):
    view = VIEWS[name](noise((4, 3, 45, 60), dtype))
    sources, run = [], cpu._core.blur
    monkeypatch.setattr(cpu._core, "blur", lambda *args: sources.append(args[0]) or run(*args))
    blur(view, kernels.disk(3))
    assert sources == [view.data_ptr()]  # not copied
    for kernel in (kernels.disk(3), kernels.bank_kernel(0), kernels.gaussian(1)):
        assert torch.equal(blur(view, kernel), blur(view.contiguous(), kernel))


def peak() -> float:
    """The largest memory of this process so far, in MiB."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def memory_of_large_blurs(height: int, width: int) -> list[tuple[float, float]]:
    """Megabytes that each takes, and those of its output."""
    torch.set_num_threads(2)
    small = torch.zeros((3, 80, 80), dtype=torch.uint8)
    each = [kernels.disk(8), kernels.bank_kernel(0), kernels.gaussian(4)]
    for kernel in each:
        blur(small, kernel)
    found = []
    image = torch.zeros((height, width, 3), dtype=torch.uint8).permute(2, 0, 1)
    for layout in (image, image.contiguous()):
        for kernel in each:
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            before = peak()
            result = blur(layout, kernel)
            found.append((peak() - before, result.numel() / 2**20))
            del result
    return found


@needs_core
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("height", "width"), [(2000, 3000), exhaustive(4000, 6000)])
def test_a_large_photograph_needs_the_output_and_little_more(height, width):
    """Beside the output a buffer for a tile and each thread, whatever the image measures."""
    try:
        (found,) = in_processes(memory_of_large_blurs, height, width)
    except torch.multiprocessing.ProcessRaisedException as error:
        if "PermissionError" in str(error):
            pytest.skip("the kernel does not let a process reset its peak memory")
        raise
    assert len(found) == 6
    for extra, output in found:
        assert output == pytest.approx(3 * height * width / 2**20)
        assert extra < output + 8


# Threads


@pytest.fixture
def threads():
    """Sets torch's number of threads."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_core
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_threads_share_the_strips_of_an_image(name, dtype, threads):
    kernel = PRECISE[name]
    image = noise((2, 3, 900, 300), dtype)  # small images are not worth a second thread
    layouts = (image, image.contiguous(memory_format=torch.channels_last), image[0])
    each = torch.stack([kernel, torch.zeros_like(kernel)])
    each[1, kernel.shape[0] // 2, kernel.shape[1] // 2] = 1  # sharp
    expected = [blur(layout, kernel) for layout in layouts] + [blur(image, each)]
    for number in (3, 8):
        threads(number)
        found = [blur(layout, kernel) for layout in layouts] + [blur(image, each)]
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@given(
    n=st.integers(20, 700), width=st.integers(1, 80), border=st.sampled_from(["reflect", "circular", "zeros"])
)
def test_long_boxes_of_every_length(dtype, n, width, border):
    """Against a running sum: of bytes exactly, of floats within their precision."""
    image = noise((2, 2, width), dtype)
    kernel = kernels.box(n)
    first = int(np.flatnonzero(kernel[0].numpy()[::-1])[0])
    bordered = np.stack([oracles.pad(plane, kernel.shape, border) for plane in image.double().numpy()])
    sums = np.cumsum(np.pad(bordered, ((0, 0), (0, 0), (1, 0))), axis=-1)
    expected = sums[..., first + n :][..., :width] - sums[..., first : first + width]
    found = blur(image, kernel, border=border).double().numpy()
    if dtype == torch.uint8:
        np.testing.assert_array_equal(found, (2 * expected + n) // (2 * n))
    else:
        limit = {torch.float32: 3e-7, torch.float64: 1e-13}[dtype]
        np.testing.assert_allclose(found, expected / n, rtol=0, atol=limit * float(image.abs().max()))
