"""blur(): every path against the reference; batch, layout, threads and workers change no bit."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

import blurlib
import oracles
from blurlib import _devices, convolution, kernels

blur = convolution.blur
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_border = pytest.mark.parametrize("border", oracles.BORDERS)
few = settings(deadline=None, max_examples=15)


# The checker


def pixels(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """A repeatable image: bytes over the whole range, or floats around zero."""
    rng = np.random.default_rng(seed)
    if dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(rng.uniform(-1, 2, shape)).to(dtype)


def is_flat(kernel: torch.Tensor) -> bool:
    each = kernel.double().reshape(-1, *kernel.shape[-2:])
    return all(len(torch.unique(k[k != 0])) == 1 and abs(float(k.sum()) - 1) <= 1e-6 for k in each)


def check_values(
    found: torch.Tensor, image: torch.Tensor, kernel: torch.Tensor, border: str, exact: bool
) -> None:
    """The precision that the design promises for each dtype; `exact`: of equal taps to the bit."""
    expected = oracles.blur(image.double().numpy(), kernel.double().numpy(), border)
    if image.dtype == torch.uint8:
        if exact and is_flat(kernel):
            flat = oracles.blur_flat(image.numpy(), kernel.double().numpy(), border)
            np.testing.assert_array_equal(found.numpy(), flat)
            return
        expected = expected.clip(0, 255)
        assert np.abs(found.numpy() - expected).max(initial=0) < 1.5
        sure = np.abs(expected - np.floor(expected) - 0.5) > 1e-3
        np.testing.assert_array_equal(found.numpy()[sure], np.floor(expected + 0.5)[sure])
        return
    largest = float(image.double().abs().max()) if image.numel() else 0.0
    if image.dtype == torch.float64:
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12 * largest)
        return
    atol = (1e-6 if max(kernel.shape[-2:]) <= 17 else 1e-5) * largest
    if image.dtype == torch.float32:
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=atol)
        return
    # Half types: computed in float32, rounded once. Rounding is monotonic, so it maps the interval of what
    # float32 may give to the interval of what may come out.
    low, high = (torch.from_numpy(expected + e).to(image.dtype) for e in (-atol, atol))
    assert bool(((low <= found) & (found <= high)).all())


def check(image: torch.Tensor, kernel: torch.Tensor, border: str, function=None) -> torch.Tensor:
    """Type, shape and values of one blur; inputs untouched. `function` stands in for blur()."""
    image_before, kernel_before = image.clone(), kernel.clone()
    found = (function or functools.partial(blur, border=border))(image, kernel)
    assert found.dtype == image.dtype
    assert found.shape == image.shape
    assert found.device == image.device
    assert type(found) is torch.Tensor
    assert torch.equal(image, image_before)
    assert torch.equal(kernel, kernel_before)
    check_values(found, image, kernel, border, exact=function is None)
    return found


# Kernels and images to draw from


def normalised(weights: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(weights / weights.sum())


@st.composite
def odd_kernels(draw, largest: int = 11):
    """One kernel of each kind that a plan may single out."""
    kind = draw(
        st.sampled_from(("flat", "dense", "sparse", "rows", "rank one", "signed", "few weights", "library"))
    )
    h, w = (2 * draw(st.integers(0, largest // 2)) + 1 for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "flat":
        weights = (rng.random((h, w)) < 0.5).astype(float)
        weights[rng.integers(h), rng.integers(w)] = 1
    elif kind == "dense":
        weights = rng.random((h, w)) + 1e-3
    elif kind == "sparse":
        weights = rng.random((h, w)) * (rng.random((h, w)) < 0.15)
        weights[rng.integers(h), rng.integers(w)] = 0.5
    elif kind == "rows":
        weights = rng.random((h, 1)) + 0.1 + np.zeros((h, w))
    elif kind == "rank one":
        weights = (rng.random((h, 1)) + 0.1) * (rng.random((1, w)) + 0.1)
    elif kind == "signed":
        weights = rng.normal(size=(h, w)) / (h * w)
        weights[h // 2, w // 2] += 1.5
    elif kind == "few weights":  # a core of one weight and softer edges
        weights = rng.choice([0.0, 0.3, 1.0, 1.0, 1.0], (h, w))
        weights[rng.integers(h), rng.integers(w)] = 1
    else:
        return draw(
            st.sampled_from(
                [
                    kernels.disk(2),
                    kernels.disk(4),
                    kernels.disk(3.4, antialias=True),
                    kernels.box(4),
                    kernels.box(9, vertical=True),
                    kernels.line(8, 30),
                    kernels.line(5.5, 90),
                    kernels.gaussian(1),
                    kernels.bank_kernel(3),
                ]
            )
        )
    return normalised(weights)


LAYOUTS = ("contiguous", "interleaved", "transposed", "sliced", "expanded", "offset")


def in_layout(image: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another memory order."""
    if layout == "contiguous":
        return image.contiguous()
    if layout == "interleaved":  # HWC memory
        return image.movedim(-3, -1).contiguous().movedim(-1, -3)
    if layout == "transposed":  # columns before rows
        return image.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":  # every second pixel, every third row, of a larger one
        big = torch.full((*image.shape[:-2], 3 * image.shape[-2], 2 * image.shape[-1] + 1), 77).to(
            image.dtype
        )
        view = big[..., 1::3, 1::2][..., : image.shape[-2], : image.shape[-1]]
        view.copy_(image)
        return view
    if layout == "expanded":  # one channel's memory for all channels
        return image[..., :1, :, :].expand(image.shape)
    assert layout == "offset"
    big = torch.empty(image.numel() + 3, dtype=image.dtype)
    view = big[3:].view(image.shape)
    view.copy_(image)
    return view


LEADING = st.sampled_from([(1,), (3,), (2, 1), (2, 3), (1, 3), (2, 2, 3), (4,), (0,), (0, 3), (2, 0)])
SIZES = st.integers(1, 34)


@each_border
@each_dtype
@few
@given(data=st.data(), leading=LEADING, height=SIZES, width=SIZES, layout=st.sampled_from(LAYOUTS))
def test_blur_is_the_reference(dtype, border, data, leading, height, width, layout):
    """Odd and even sizes, images smaller than the kernel, empty batches, any layout, a kernel or one each."""
    one_each = len(leading) > 1 and data.draw(st.booleans(), label="one kernel each")
    if one_each:
        drawn = [data.draw(odd_kernels(9)).numpy() for _ in range(leading[0])]
        h, w = (max([k.shape[axis] for k in drawn], default=3) for axis in (0, 1))
        kernel = torch.from_numpy(np.array([oracles.centred(k, h, w) for k in drawn]).reshape(-1, h, w))
    else:
        kernel = data.draw(odd_kernels())
    image = in_layout(pixels((*leading, height, width), dtype, seed=height * 41 + width), layout)
    check(image, kernel, border)


@each_border
@each_dtype
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (2, 33), (3, 4)])
def test_images_smaller_than_the_kernel(size, dtype, border):
    """numpy.pad reflects as often as needed."""
    large = [kernels.disk(8), kernels.bank_kernel(0), kernels.gaussian(2)]
    for kernel in (*large, kernels.box(16), kernels.box(17, vertical=True)):
        check(pixels((3, *size), dtype), kernel, border)


LARGE_KERNELS = {
    "disk 8": lambda: kernels.disk(8),
    "disk 9": lambda: kernels.disk(9),
    "disk 16": lambda: kernels.disk(16),
    "soft disk 8": lambda: kernels.disk(8.3, antialias=True),
    "soft disk 16": lambda: kernels.disk(16, antialias=True),
    "row 33": lambda: kernels.box(33),
    "column 64": lambda: kernels.box(64, vertical=True),
    "line 31": lambda: kernels.line(31, 20),
    "gaussian 4": lambda: kernels.gaussian(4),
    "gaussian 8": lambda: kernels.gaussian(8),
    "shake": lambda: kernels.bank_kernel(17),
    "shake, large": lambda: kernels.camera_shake(1, seed=0, grid=39, size=41)[0],
    "random 21": lambda: normalised(np.random.default_rng(0).random((21, 21))),
    "flat random 25": lambda: normalised((np.random.default_rng(0).random((25, 25)) < 0.5).astype(float)),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", LARGE_KERNELS)
@pytest.mark.parametrize("interleaved", [False, True], ids=["CHW", "HWC"])
def test_large_kernels_on_images_of_several_strips(name, dtype, interleaved):
    image = in_layout(pixels((3, 139, 31), dtype), "interleaved" if interleaved else "contiguous")
    check(image, LARGE_KERNELS[name](), "reflect")


@pytest.mark.parametrize(("radius", "border"), [(33, "symmetric"), (64, "zeros"), (70, "reflect")])
def test_flat_disks_are_exact_for_every_radius(radius, border):
    """Noise, and a black and white edge across which a row's sum changes by all that it can."""
    edge = torch.zeros((1, 75, 9), dtype=torch.uint8)
    edge[:, :35] = 255
    for image in (pixels((1, 75, 9), torch.uint8), edge, 255 - edge):
        check(image, kernels.disk(radius), border)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize(
    "width", [*range(1, 36), 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 193, 255, 257, 300]
)
def test_every_width(width, dtype):
    """Blocks of lanes have tails, and a tail may be wrong for some widths only."""
    image = pixels((3, 5, width), dtype)
    for kernel in (
        kernels.disk(2),
        kernels.bank_kernel(5),
        kernels.disk(2.5, antialias=True),
        kernels.gaussian(0.9),
    ):
        check(image, kernel, "reflect")
        check(in_layout(image, "interleaved"), kernel, "circular")


@pytest.mark.parametrize("height", [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
def test_every_height(height):
    """Strips of rows end somewhere, and running sums start anew somewhere."""
    for dtype in (torch.uint8, torch.float32):
        image = pixels((2, height, 6), dtype)
        for kernel in (kernels.disk(8), kernels.bank_kernel(5), kernels.gaussian(1)):
            check(image, kernel, "replicate")


@pytest.mark.parametrize("taps", [254, 255, 256, 257, 258, 400])
@pytest.mark.parametrize("level", [1, 127, 128, 254, 255])
def test_many_equal_taps_do_not_overflow(taps, level):
    """256 taps of 255 are 65 280; one more step and 16 bits do not hold the sum and its rounding."""
    mask = np.zeros((21, 21))
    mask.ravel()[:taps] = 1
    image = torch.full((3, 30, 40), level, dtype=torch.uint8)
    for kernel in (normalised(mask), normalised(mask.reshape(21, 21).T.copy())):
        assert torch.equal(blur(image, kernel), image)
    noisy = image.clone()
    noisy[:, ::3, ::2] = 255
    check(noisy, normalised(mask), "reflect")


@pytest.mark.parametrize("taps", [*range(1, 260), 300, 511, 512, 513, 1000])
def test_every_sum_of_equal_taps_is_divided_exactly(taps):
    """A staircase of `taps` wide steps, on which a row of `taps` pixels has every sum from 0 to 255 taps."""
    stairs = (np.arange(257 * taps) // taps).clip(0, 255)
    reach = (taps - 1) // 2
    sums = np.convolve(
        np.pad(stairs, (taps - 1 - reach, reach), mode="edge"), np.ones(taps, np.int64), mode="valid"
    )
    assert len(np.unique(sums)) == 255 * taps + 1
    image = torch.from_numpy(stairs.astype(np.uint8)).reshape(1, 1, -1)
    found = blur(image, kernels.box(taps), border="replicate").numpy().ravel()
    # An even box leans to the left: the sum for a pixel starts at it or before it, whichever the kernel says.
    first = int(np.flatnonzero(kernels.box(taps)[0].numpy()[::-1])[0]) - kernels.box(taps).shape[1] // 2
    shift = first + taps - 1 - reach
    expected = (2 * sums + taps) // (2 * taps)
    np.testing.assert_array_equal(found[taps:-taps], expected[taps + shift : len(expected) - taps + shift])


@each_border
def test_second_opinion(border):
    """scipy.ndimage, where the image is at least as large as the kernel."""
    image = pixels((2, 21, 34), torch.float64)
    for kernel in (kernels.disk(4), kernels.bank_kernel(1), kernels.box(4), kernels.line(7, 50)):
        expected = oracles.blur_ndimage(image.numpy(), kernel.numpy(), border)
        np.testing.assert_allclose(blur(image, kernel, border=border).numpy(), expected, rtol=0, atol=1e-12)


@each_border
@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("reach", [0, 1, 3, 8, 17])
def test_oracle_pads_by_the_index_rule(border, size, reach):
    plane = np.arange(1.0, size + 1)[None]
    expected = [
        0 if (i := oracles.source_index(position, size, border)) is None else plane[0, i]
        for position in range(-reach, size + reach)
    ]
    np.testing.assert_array_equal(oracles.pad(plane, (1, 2 * reach + 1), border)[0], expected)


# One kernel of every kind, for what follows


KINDS = {
    "flat": kernels.disk(4),
    "flat, large": kernels.disk(12),
    "soft disk": kernels.disk(4.4, antialias=True),
    "shake": kernels.bank_kernel(7),
    "gaussian": kernels.gaussian(2),
    "row": kernels.box(8),
    "column": kernels.box(9, vertical=True),
    "random": normalised(np.random.default_rng(3).random((31, 31))),
    "random, huge": normalised(np.random.default_rng(3).random((61, 61))),
}


# What the words promise


@each_dtype
@pytest.mark.parametrize(
    "kernel",
    [
        kernels.disk(3),
        kernels.disk(2.6, antialias=True),
        kernels.box(4),
        kernels.box(6, vertical=True),
        kernels.line(8, 30),
        kernels.gaussian(1.2),
        kernels.bank_kernel(9),
    ],
    ids=["disk", "soft disk", "even row", "even column", "line", "gaussian", "shake"],
)
def test_one_bright_pixel_returns_the_kernel(kernel, dtype):
    image = torch.zeros((1, 31, 29), dtype=dtype)
    image[0, 15, 14] = 255 if dtype == torch.uint8 else 1
    expected = torch.zeros((31, 29), dtype=torch.float64)
    h, w = kernel.shape
    expected[15 - h // 2 : 16 + h // 2, 14 - w // 2 : 15 + w // 2] = kernel
    found = blur(image, kernel)[0].double()
    if dtype == torch.uint8:
        assert (found - 255 * expected).abs().max() <= 0.5 + 1e-9
    else:
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-6}.get(dtype, 4e-3)
        assert (found - expected).abs().max() <= tolerance


def test_a_true_convolution_turns_nothing_round():
    """An even box leans to the left (documented), so the image moves to the left."""
    image = torch.zeros((1, 1, 9), dtype=torch.float64)
    image[0, 0, 4] = 1
    assert blur(image, kernels.box(2))[0, 0].tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]


@few
@given(kernel=odd_kernels(), level=st.integers(0, 255), height=SIZES, width=SIZES, interleaved=st.booleans())
@example(kernel=kernels.disk(8), level=255, height=40, width=40, interleaved=False)
@example(kernel=kernels.gaussian(4), level=255, height=40, width=40, interleaved=True)
def test_constant_images_stay_constant(kernel, level, height, width, interleaved):
    for dtype in DTYPES:
        image = in_layout(
            torch.full((3, height, width), level).to(dtype), "interleaved" if interleaved else "offset"
        )
        for border in ("reflect", "symmetric", "replicate", "circular"):
            found = blur(image, kernel, border=border)
            if dtype in (torch.float32, torch.float64):
                assert (found - image).abs().max() <= (1e-6 if dtype == torch.float32 else 1e-12) * level
            else:  # rounded once, and the level is one of their numbers
                assert torch.equal(found, image)


@few
@given(kernel=odd_kernels(), height=SIZES, width=SIZES)
def test_symmetric_keeps_the_mean(kernel, height, width):
    """Why `symmetric` is there: under a kernel that both mirrors leave alone, no light is gained or lost."""
    kernel = (kernel + kernel.flip(0) + kernel.flip(1) + kernel.flip(0, 1)) / 4
    image = pixels((1, height, width), torch.float64)
    for border in ("symmetric", "circular"):
        assert abs(float(blur(image, kernel, border=border).mean() - image.mean())) < 1e-12


@pytest.mark.parametrize("kernel", [normalised(np.ones((1, 1))), kernels.disk(0), kernels.gaussian(0)])
def test_no_blur_is_a_copy(kernel):
    for dtype in DTYPES:
        image = pixels((3, 8, 9), dtype)
        found = blur(image, kernel)
        assert torch.equal(found, image)
        assert found.data_ptr() != image.data_ptr()


@each_dtype
def test_zeros_around_a_kernel_change_nothing(dtype):
    image = pixels((3, 20, 23), dtype)
    for kernel in (
        kernels.disk(3),
        kernels.bank_kernel(4),
        kernels.gaussian(1.1),
        kernels.disk(3.3, antialias=True),
    ):
        h, w = kernel.shape
        larger = torch.from_numpy(oracles.centred(kernel.numpy(), h + 4, w + 8))
        torch.testing.assert_close(blur(image, larger), blur(image, kernel), rtol=0, atol=0)


@each_dtype
def test_kernels_of_every_floating_dtype(dtype):
    """A float32 disk is still flat, and exact; a half-precision kernel may miss the sum by a little."""
    image = pixels((3, 20, 23), dtype)
    for kernel in (
        kernels.disk(4).float(),
        kernels.bank_kernel(3).float(),
        kernels.box(4).half(),
        kernels.box(8).bfloat16(),
    ):
        check(image, kernel, "symmetric")


def test_a_kernel_in_any_layout():
    image = pixels((3, 20, 23), torch.uint8)
    kernel = kernels.bank_kernel(4)
    strided = torch.zeros((34, 51), dtype=torch.float64)[::2, ::3]
    strided.copy_(kernel)
    for view in (kernel.t().contiguous().t(), strided):
        assert torch.equal(blur(image, view), blur(image, kernel))


def test_a_sum_within_a_thousandth_is_taken_as_it_is():
    image = pixels((3, 20, 23), torch.uint8)
    for factor in (1 - 9e-4, 1 + 9e-4):
        check(image, kernels.bank_kernel(4) * factor, "reflect")
        for kernel in (kernels.disk(1), kernels.disk(4), kernels.disk(12), kernels.box(9)):
            check(image, kernel * factor, "reflect")
            check(image.double(), kernel * factor, "reflect")
        white = torch.full((1, 20, 20), 255, dtype=torch.uint8)
        for kernel in (kernels.bank_kernel(4), kernels.disk(4), kernels.gaussian(2)):
            assert torch.equal(blur(white, kernel * factor), white)


@pytest.mark.parametrize("border", ["reflect", "zeros"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["flat", "shake", "gaussian", "column", "soft disk", "random"])
def test_one_broken_pixel_spoils_no_more_than_the_window_around_it(kind, dtype, value, border):
    kernel = KINDS[kind]
    image = pixels((2, 200, 40), dtype)
    good = blur(image, kernel, border=border)
    image[0, 100, 20] = value
    found = blur(image, kernel, border=border)
    h, w = kernel.shape
    near = torch.zeros_like(image, dtype=torch.bool)
    near[0, 100 - h // 2 : 100 + h // 2 + 1, 20 - w // 2 : 20 + w // 2 + 1] = True
    assert not found[0, 100, 20].isfinite() or kernel[h // 2, w // 2] == 0
    torch.testing.assert_close(found[~near], good[~near], rtol=0, atol=0 if dtype == torch.float16 else 1e-6)
    assert bool(found[~near].isfinite().all())


def test_a_very_bright_patch_does_not_spoil_the_dark_below_it():
    """The bound is on max|image|, but dark rows far from a bright patch should keep their own precision."""
    image = pixels((1, 400, 30), torch.float32)
    image[:, :40] *= 1e6
    found = blur(image, kernels.disk(8))[:, 200:]
    expected = oracles.blur(image.double().numpy(), kernels.disk(8).numpy(), "reflect")[:, 200:]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


# What must not change a result


@each_dtype
@pytest.mark.parametrize("kind", KINDS)
def test_bitwise_independent_of_batch_and_layout(kind, dtype):
    kernel = KINDS[kind]
    image = pixels((4, 3, 45, 37), dtype)
    image[2] *= 3 if dtype != torch.uint8 else 1  # a brighter neighbour
    whole = blur(image, kernel)
    for i in range(4):
        assert torch.equal(blur(image[i], kernel), whole[i])
        assert torch.equal(blur(image[i : i + 1], kernel)[0], whole[i])
    assert torch.equal(blur(image[[2, 0]], kernel), whole[[2, 0]])
    assert torch.equal(blur(image[:, 1:2], kernel), whole[:, 1:2])
    assert torch.equal(blur(image.reshape(2, 2, 3, 45, 37), kernel), whole.reshape(2, 2, 3, 45, 37))
    for layout in ("interleaved", "transposed", "sliced", "offset"):
        assert torch.equal(blur(in_layout(image, layout), kernel), whole), layout
        assert torch.equal(blur(in_layout(image[1], layout), kernel), whole[1]), layout
    each = torch.stack(
        [kernel, kernels.bank_kernel(0) if kernel.shape == (17, 17) else kernel.flip(0), kernel, kernel]
    )
    batch = blur(image, each)
    assert torch.equal(batch[[0, 2, 3]], whole[[0, 2, 3]])
    assert torch.equal(batch[1], blur(image[1], each[1]))


@each_dtype
@pytest.mark.parametrize("kind", KINDS)
def test_bitwise_independent_of_threads(kind, dtype):
    kernel = KINDS[kind]
    image = pixels((5, 3, 45, 37), dtype)
    big = pixels((3, 300, 37), dtype)
    each = torch.stack([kernel] * 5)
    one = [blur(image, kernel), blur(image, each), blur(big, kernel)]
    try:
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            for before, after in zip(
                one, (blur(image, kernel), blur(image, each), blur(big, kernel)), strict=True
            ):
                assert torch.equal(before, after)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_memory_layout_is_kept(dtype):
    image = pixels((3, 20, 23), dtype)
    assert blur(image, kernels.disk(3)).is_contiguous()
    interleaved = blur(in_layout(image, "interleaved"), kernels.disk(3))
    assert interleaved.permute(1, 2, 0).is_contiguous()
    batch = pixels((2, 3, 20, 23), dtype).contiguous(memory_format=torch.channels_last)
    assert blur(batch, kernels.disk(3)).is_contiguous(memory_format=torch.channels_last)
    assert blur(batch, torch.stack([kernels.disk(3)] * 2)).is_contiguous(memory_format=torch.channels_last)


def test_numpy_photograph_without_a_copy():
    """The way of a user with an HWC array: from_numpy, permute, and back."""
    array = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    found = blur(torch.from_numpy(array).permute(2, 0, 1), kernels.disk(4)).permute(1, 2, 0).numpy()
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(
        found.transpose(2, 0, 1),
        oracles.blur_flat(array.transpose(2, 0, 1), kernels.disk(4).numpy(), "reflect"),
    )


def test_calls_from_several_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    image = pixels((2, 3, 40, 50), torch.uint8)
    expected = {kind: blur(image, kernel) for kind, kernel in KINDS.items()}
    with ThreadPoolExecutor(8) as pool:
        jobs = [(kind, pool.submit(blur, image, KINDS[kind])) for _ in range(20) for kind in KINDS]
        for kind, job in jobs:
            assert torch.equal(job.result(), expected[kind])


# Worker processes


class Blurred(Dataset):
    """Image i under kernel i, as a data loader's worker makes it."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        dtype = DTYPES[index % len(DTYPES)]
        names = list(KINDS)
        image = pixels((3, 24, 31), dtype, seed=index)
        one = blur(image, KINDS[names[index % len(names)]])
        batch = blur(torch.stack([image, image]), torch.stack([kernels.bank_kernel(index)] * 2))
        return torch.cat([one[None], batch]).double()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method):
    """Also after the parent has blurred on several threads: a pool forked without care hangs here."""
    torch.set_num_threads(2)
    try:
        blur(pixels((6, 3, 40, 40), torch.uint8), kernels.disk(4))
        blur(pixels((6, 3, 40, 40), torch.float32), kernels.bank_kernel(0))
        expected = [Blurred()[i] for i in range(12)]
    finally:
        torch.set_num_threads(1)
    loader = DataLoader(
        Blurred(),
        batch_size=1,
        num_workers=2 if method == "fork" else 1,  # a spawned one imports everything anew
        multiprocessing_context=method,
        timeout=120,
        collate_fn=first_of,
    )
    for found, wanted in zip(loader, expected, strict=True):
        assert torch.equal(found, wanted)


def first_of(batch):
    return batch[0]


# Gradients, the op, compilation


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


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, for any op
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "interleaved", "sliced"])
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


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_without_a_break(backend):
    kernel = kernels.bank_kernel(3)

    def function(image):
        return blur(image * 2, kernel, border="symmetric") + 1

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    image = pixels((2, 3, 12, 13), torch.float32)
    torch.testing.assert_close(compiled(image), function(image), rtol=0, atol=1e-6)
    leaf = image.clone().requires_grad_()
    (found,) = torch.autograd.grad(compiled(leaf).sum(), leaf)
    (expected,) = torch.autograd.grad(function(leaf).sum(), leaf)
    torch.testing.assert_close(found, expected)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # right, if not fast
def test_vmap_or_a_clear_refusal():
    image = pixels((2, 3, 12, 13), torch.float32)
    try:
        found = torch.func.vmap(lambda one: blur(one, kernels.disk(2)))(image)
    except (RuntimeError, NotImplementedError):
        return
    assert torch.equal(found, blur(image, kernels.disk(2)))


# Other devices, without one


class NoCopies(TorchDispatchMode):
    """Refuses what would make a CPU wait for a device: moves between devices, and looks at values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert "_local_scalar_dense" not in name, name
        assert "nonzero" not in name, name
        if "_to_copy" in name or name.startswith("aten::copy_"):
            devices = {a.device.type for a in args if isinstance(a, torch.Tensor)}
            if (kwargs or {}).get("device") is not None:
                devices.add(torch.device(kwargs["device"]).type)
            assert len(devices) == 1, f"{name} between {devices}"
        return func(*args, **(kwargs or {}))


@each_border
@each_dtype
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("side", [3, 17, 41])
def test_fake_cuda_tensors(side, each, dtype, border):
    """No value is looked at and nothing is copied: fake tensors have none, and refuse mixed devices."""
    with FakeTensorMode(), NoCopies():
        image = torch.empty((2, 3, 33, 20), device="cuda", dtype=dtype)
        kernel = torch.empty((2, side, side) if each else (side, side), device="cuda", dtype=torch.float64)
        for function in (blur, _devices.blur_torch):
            found = function(image, kernel, border=border)
            assert found.shape == image.shape
            assert found.dtype == dtype
            assert found.device.type == "cuda"


@each_border
@pytest.mark.parametrize("each", [False, True])
def test_fake_cuda_adjoint(each, border):
    """The gradient's op; autograd itself would ask for a real device."""
    with FakeTensorMode(), NoCopies():
        gradient = torch.empty((2, 3, 33, 20), device="cuda")
        kernel = torch.empty((2, 17, 17) if each else (17, 17), device="cuda")
        for function in (torch.ops.blurlib.blur_adjoint, convolution._adjoint):
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


@each_border
@each_dtype
@few
@given(data=st.data(), height=SIZES, width=SIZES)
def test_the_path_of_other_devices_is_the_reference_too(dtype, border, data, height, width):
    kernel = data.draw(odd_kernels(19))
    function = functools.partial(_devices.blur_torch, border=border)
    check(pixels((2, 3, height, width), dtype), kernel, border, function)
    check(pixels((2, 3, height, width), dtype), torch.stack([kernel, kernel.flip(0)]), border, function)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_path_of_other_devices_agrees_with_the_loops(kind, dtype):
    """Large kernels too: within two roundings of each other."""
    image = pixels((2, 3, 70, 51), dtype)
    found = _devices.blur_torch(image, KINDS[kind], "symmetric")
    expected = blur(image, KINDS[kind], border="symmetric")
    tolerance = {
        torch.uint8: 1,
        torch.float64: 1e-11,
        torch.float32: 2e-5,
        torch.float16: 4e-3,
        torch.bfloat16: 3e-2,
    }
    assert (found.double() - expected.double()).abs().max() <= tolerance[dtype]


@pytest.mark.parametrize("kind", ["flat", "shake", "gaussian"])
def test_autocast_does_not_reach_the_sums(kind):
    image = pixels((2, 3, 20, 21), torch.float32)
    small = kernels.disk(2)
    for kernel in (small, KINDS[kind]):
        expected = blur(image, kernel), _devices.blur_torch(image, kernel, "reflect")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = blur(image, kernel), _devices.blur_torch(image, kernel, "reflect")
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.cuda
@each_border
@each_dtype
def test_cuda_is_the_reference(dtype, border):
    for kernel in (kernels.disk(2), kernels.disk(8), kernels.bank_kernel(0), kernels.gaussian(4)):
        for size in ((3, 40, 33), (2, 3, 5, 4)):
            check(
                pixels(size, dtype),
                kernel,
                border,
                lambda i, k: blur(i.cuda(), k.cuda(), border=border).cpu(),
            )


# Bad input


IMAGE = torch.zeros((3, 8, 9), dtype=torch.uint8)
KERNEL = torch.full((3, 3), 1 / 9, dtype=torch.float64)


@pytest.mark.parametrize(
    ("image", "kernel", "name"),
    [
        (IMAGE.numpy(), KERNEL, "image"),
        ([[0.0]], KERNEL, "image"),
        (None, KERNEL, "image"),
        (IMAGE.int(), KERNEL, "image"),
        (IMAGE.long(), KERNEL, "image"),
        (IMAGE.bool(), KERNEL, "image"),
        (IMAGE.to(torch.complex64), KERNEL, "image"),
        (IMAGE, KERNEL.numpy(), "kernel"),
        (IMAGE, 3, "kernel"),
        (IMAGE, "D4", "kernel"),
        (IMAGE, torch.ones((1, 1), dtype=torch.int64), "kernel"),
        (IMAGE, torch.ones((1, 1), dtype=torch.uint8), "kernel"),
        (IMAGE, torch.ones((1, 1), dtype=torch.complex64), "kernel"),
    ],
)
def test_wrong_kinds(image, kernel, name):
    with pytest.raises(TypeError, match=f"`{name}`"):
        blur(image, kernel)


@pytest.mark.parametrize(
    ("image", "kernel", "name"),
    [
        (IMAGE[0], KERNEL, "image"),
        (IMAGE[0, 0], KERNEL, "image"),
        (IMAGE, KERNEL[0], "kernel"),
        (IMAGE, KERNEL[None, None], "kernel"),
        (IMAGE, torch.tensor(1.0), "kernel"),
        (IMAGE, KERNEL[None], "kernel"),
        (IMAGE[None], KERNEL.expand(2, 3, 3), "kernel"),
        (IMAGE.expand(3, 3, 8, 9), KERNEL.expand(1, 3, 3), "kernel"),
        (IMAGE, KERNEL * 1.01, "kernel"),
        (IMAGE, KERNEL * 0.99, "kernel"),
        (IMAGE, KERNEL * 0, "kernel"),
        (IMAGE, -KERNEL, "kernel"),
        (IMAGE, KERNEL * math.nan, "kernel"),
        (IMAGE, KERNEL * math.inf, "kernel"),
        (IMAGE[None], torch.stack([KERNEL * 2]), "kernel"),
        (IMAGE.expand(2, 3, 8, 9), torch.stack([KERNEL, KERNEL * 2]), "kernel"),
    ],
)
def test_wrong_values(image, kernel, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        blur(image, kernel)


def test_one_wrong_entry_cannot_hide_behind_the_sum():
    kernel = KERNEL.clone()
    kernel[0, 0], kernel[0, 1] = math.inf, -math.inf
    with pytest.raises(ValueError, match="`kernel`"):
        blur(IMAGE, kernel)


@pytest.mark.parametrize("border", ["mirror", "", "Reflect", None, 3, "constant", "wrap"])
def test_wrong_borders(border):
    with pytest.raises((ValueError, TypeError), match="`border`"):
        blur(IMAGE, KERNEL, border=border)


def test_options_are_keywords():
    with pytest.raises(TypeError):
        blur(IMAGE, KERNEL, "reflect")


@pytest.mark.parametrize("size", [(3, 2), (2, 3), (4, 4), (0, 3), (3, 0)])
@pytest.mark.parametrize("each", [False, True])
def test_even_kernels(size, each):
    kernel = torch.full(size, 1 / max(1, math.prod(size)))
    image, kernel = (IMAGE.expand(2, 3, 8, 9), kernel.expand(2, *size)) if each else (IMAGE, kernel)
    with pytest.raises(ValueError, match=r"`kernel`.*odd"):
        blur(image, kernel)


def test_the_error_tells_the_value_and_the_remedy():
    with pytest.raises(ValueError, match="sum") as error:
        blur(IMAGE, KERNEL * 2)
    assert "2" in str(error.value)


def test_images_without_pixels():
    for shape in ((3, 0, 5), (3, 5, 0), (0, 3, 0, 0)):
        for dtype in DTYPES:
            image = torch.empty(shape, dtype=dtype)
            assert blur(image, KERNEL).shape == image.shape


def test_the_name_at_the_top():
    assert blurlib.blur is blur


def test_equal_taps_whose_sum_is_not_quite_one():
    """Such a kernel is allowed, and its result is that sum times the mean, not the mean."""
    image = torch.full((1, 19, 19), 255, dtype=torch.uint8)
    for factor, value in ((0.9991, 255 * 0.9991), (1.0009, 255.0)):
        kernel = kernels.disk(3) * factor
        assert (blurlib.blur(image, kernel) == math.floor(value + 0.5)).all()
    image = (torch.arange(361) % 256).to(torch.uint8).reshape(1, 19, 19)
    kernel = kernels.disk(3) * 0.9991
    expected = np.floor(oracles.blur(image.numpy(), kernel.numpy(), "reflect") + 0.5)
    assert (blurlib.blur(image, kernel).numpy() == expected).all()
