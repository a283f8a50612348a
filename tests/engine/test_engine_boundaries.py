"""The CPU engine at every boundary of its implementation, against float64, with huge next to tiny values.

Tiles are 64 rows and at most 1024 columns; registers have 16 to 64 bytes, of which up to four are taken at
a time; sums of bytes change their type at 256 taps and their division at 4096; floats are added in chunks.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from blurlib import blur, kernels
from blurlib._engine.core import MISSING
from images import examples, exhaustive, in_layout, needs_core, normalised

if not MISSING:
    from blurlib._engine import _core

each_type = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)

# Kernels of n equal taps about where their sums change type, and such as take every other loop.
FLAT = (1, 2, 63, 64, 65, 255, 256, 257, 258, 4095, 4096, 4097)
KERNELS = {
    **{f"row of {n}": kernels.box(n) for n in (2, 16, 33, *FLAT[3:9])},
    **{f"column of {n}": kernels.box(n, vertical=True) for n in (2, 17, *FLAT[3:9])},
    **{f"disk {r}": kernels.disk(r) for r in (1, 4, 9, 9.1, 36)},  # 9.1: 261 taps, 36: 4049
    "disk 36.2": kernels.disk(36.2),
    **{f"soft disk {r}": kernels.disk(r, antialias=True) for r in (0.8, 2.3, 8.3, 12.4)},
    **{f"gaussian {s}": kernels.gaussian(s) for s in (0.6, 4, 8.2, 9)},
    "line": kernels.line(16, 30),
    "shake": kernels.bank_kernel(17),
    # Two weights of more taps than 16 bits hold the sum of.
    "ring of 300": normalised(np.repeat([1.0, 0.6, 0.0], [400, 300, 29]).reshape(27, 27)),
    "large shake": kernels.camera_shake(1, seed=0, grid=39, size=41)[0],
}


def heap(n: int) -> torch.Tensor:
    """n equal taps without any order, in a window that is as small as can be."""
    side = max(3, int(np.ceil(np.sqrt(1.3 * n))) | 1)
    mask = np.zeros(side * side)
    mask[np.random.default_rng(n).permutation(side * side)[:n]] = 1
    return normalised(mask.reshape(side, side))


KERNELS |= {f"heap of {n}": heap(n) for n in FLAT[3:]}

HEIGHTS = st.one_of(st.integers(1, 6), st.integers(60, 68), st.integers(125, 131))
WIDTHS = st.one_of(
    st.integers(1, 70),
    st.integers(120, 135),
    st.integers(250, 260),
    st.integers(1016, 1032),
    st.integers(2044, 2054),
)


def picture(shape: tuple[int, ...], dtype: torch.dtype, kind: str, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    if dtype == torch.uint8:
        levels = {
            "noise": (0, 256),
            "black and white": (0, 2),
            "bright": (250, 256),
            "huge next to tiny": (0, 256),
        }
        image = rng.integers(*levels[kind], shape) * (255 if kind == "black and white" else 1)
        return torch.from_numpy(image.astype(np.uint8))
    image = rng.normal(size=shape)
    if kind == "huge next to tiny":
        image *= 10.0 ** rng.integers(-18, 19, shape[-1])
    elif kind == "black and white":
        image = np.sign(image)
    elif kind == "bright":
        image = image + 1e3
    return torch.from_numpy(image).to(dtype)


def reference(image: torch.Tensor, kernel: torch.Tensor, border: str) -> np.ndarray:
    """By FFT in float64, within 1e-14 of the largest number."""
    planes = image.double().numpy().reshape(-1, *image.shape[-2:])
    padded = np.stack([oracles.pad(plane, kernel.shape, border) for plane in planes])
    found = scipy.signal.oaconvolve(padded, kernel.double().numpy()[None], mode="valid", axes=(1, 2))
    return found.reshape(image.shape)


def check(image: torch.Tensor, kernel: torch.Tensor, border: str) -> None:
    check_values(blur(image, kernel, border=border), image, kernel, reference(image, kernel, border))


def check_values(
    found: torch.Tensor, image: torch.Tensor, kernel: torch.Tensor, expected: np.ndarray
) -> None:
    assert found.shape == image.shape
    weights = kernel[kernel != 0]
    if image.dtype == torch.uint8 and (weights == weights[0]).all():
        n = len(weights)
        sums = np.rint(expected * n).astype(np.int64)
        np.testing.assert_array_equal(found.numpy(), (2 * sums + n) // (2 * n))
    elif image.dtype == torch.uint8:
        sure = np.abs(expected - np.floor(expected) - 0.5) > 1e-3
        np.testing.assert_array_equal(found.numpy()[sure], np.floor(expected + 0.5)[sure])
        assert np.abs(found.numpy() - expected).max() < 0.502
    else:
        limit = {torch.float32: 1e-6, torch.float64: 1e-12}[image.dtype] * float(image.abs().max())
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=limit)


def test_no_sum_overflows():
    white = torch.full((1, 70, 40), 255, dtype=torch.uint8)
    for name, kernel in KERNELS.items():
        assert torch.equal(blur(white, kernel), white), name


@needs_core
@each_type
@pytest.mark.parametrize("name", KERNELS)
@examples(0.06)
@given(
    border=st.sampled_from(oracles.BORDERS),
    height=HEIGHTS,
    width=WIDTHS,
    channels=st.sampled_from([1, 2, 3, 4]),
    layout=st.sampled_from(["contiguous", "interleaved", "offset"]),
    kind=st.sampled_from(["noise", "black and white", "bright", "huge next to tiny"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_loop_at_every_boundary(name, border, dtype, height, width, channels, layout, kind, seed):
    image = in_layout(picture((channels, height, width), dtype, kind, seed), layout)
    check(image, KERNELS[name], border)


@needs_core
@pytest.mark.parametrize(("width", "border"), [(37, "reflect"), (1030, "zeros"), exhaustive(331, "circular")])
@each_type
@pytest.mark.parametrize("name", KERNELS)
def test_every_instruction_set(name, dtype, width, border):
    before, image = _core.instructions(), picture((3, 67, width), dtype, "noise", width)
    expected = reference(image, KERNELS[name], border)
    try:
        for instructions in _core.instruction_sets():
            _core.use(instructions)
            for layout in ("contiguous", "interleaved"):
                found = blur(in_layout(image, layout), KERNELS[name], border=border)
                check_values(found, image, KERNELS[name], expected)
    finally:
        _core.use(before)


@needs_core
@pytest.mark.parametrize("width", [1025, 1500, 2049])
@pytest.mark.parametrize("kernel", [kernels.disk(4), kernels.disk(12), kernels.disk(4, antialias=True)])
def test_a_tile_feels_the_border_from_the_far_edge(kernel, width):
    """Its largest number may lie in another tile, which `circular` puts beside it."""
    image = picture((2, 40, width), torch.float32, "noise", 0)
    image[..., -3:] *= 1e6
    check(image, kernel, "circular")
    image[0, 5, -2] = torch.inf
    found = blur(image, kernel, border="circular")
    assert int((~torch.isfinite(found)).sum()) == int((kernel > 0).sum())


@pytest.mark.parametrize("length", [3, 9, 100, 300])
@pytest.mark.parametrize("vertical", [False, True])
def test_a_kernel_s_own_weights_count(length, vertical):
    """One in float32 is not 1 / n, which an image in float64 shows."""
    for kernel in (kernels.box(length, vertical=vertical).float(), kernels.disk(length % 20).float()):
        check(picture((1, 70, 40), torch.float64, "bright", 0), kernel, "reflect")


def test_nearly_equal_weights_are_not_equal_to_doubles():
    for size in ((1, 9), (9, 1), (1, 301), (9, 9)):
        weights = np.ones(size)
        weights[: size[0] // 2 + 1, : size[1] // 2 + 1] += 8e-10
        check(picture((1, 70, 40), torch.float64, "noise", 0), normalised(weights), "reflect")


@needs_core
@pytest.mark.parametrize("side", [2049, 2901])
def test_flat_kernels_of_millions_of_taps(side):
    """From 2^23 taps on 32 bits do not hold the sum."""
    image = picture((1, 3, 5), torch.uint8, "bright", 0)
    kernel = torch.full((side, side), 1 / side**2, dtype=torch.float64)
    rows, columns = (
        [
            np.bincount(np.pad(np.arange(n), side // 2, mode="wrap")[i : i + side], minlength=n)
            for i in range(n)
        ]
        for n in (3, 5)
    )
    sums = np.array(rows) @ image[0].numpy().astype(np.int64) @ np.array(columns).T
    expected = (2 * sums + side**2) // (2 * side**2)
    np.testing.assert_array_equal(blur(image, kernel, border="circular")[0].numpy(), expected)
