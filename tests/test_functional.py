"""blur() on the CPU: every path against the reference; batch, layout, threads and workers change no bit."""

from __future__ import annotations

import math
import re

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

import blurlib
import oracles
from blurlib import functional, kernels
from blurlib.deblurring import DeblurThenClassify, deepinv_restorer
from blurlib.protocol import Protocol, blurred
from images import (
    DTYPES,
    KINDS,
    LAYOUTS,
    check,
    each_border,
    each_dtype,
    exhaustive,
    in_layout,
    needs_core,
    normalised,
    odd_kernels,
    pixels,
)

blur = functional.blur

LEADING = st.sampled_from([(1,), (3,), (2, 1), (2, 3), (1, 3), (2, 2, 3), (4,), (0,), (0, 3), (2, 0)])
SIZES = st.integers(1, 34)


@each_dtype
@given(
    border=st.sampled_from(oracles.BORDERS),
    data=st.data(),
    leading=LEADING,
    height=SIZES,
    width=SIZES,
    layout=st.sampled_from(LAYOUTS),
)
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
def test_large_kernels_on_images_of_several_strips(name, dtype):
    image, kernel = pixels((3, 131, 31), dtype), LARGE_KERNELS[name]()
    found = check(image, kernel, "reflect")
    assert torch.equal(blur(in_layout(image, "interleaved"), kernel), found)


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
    total = np.cumsum(np.pad(np.pad(stairs, (taps - 1 - reach, reach), mode="edge"), (1, 0)))
    sums = total[taps:] - total[:-taps]
    assert sums[0] == 0 and sums[-1] == 255 * taps and np.diff(sums).max() == 1
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


@given(kernel=odd_kernels(), height=SIZES, width=SIZES)
def test_circular_keeps_the_mean_and_symmetric_under_kernels_that_both_mirrors_leave_alone(
    kernel, height, width
):
    image = pixels((1, height, width), torch.float64)
    assert abs(float(blur(image, kernel, border="circular").mean() - image.mean())) < 1e-12
    kernel = (kernel + kernel.flip(0) + kernel.flip(1) + kernel.flip(0, 1)) / 4
    assert abs(float(blur(image, kernel, border="symmetric").mean() - image.mean())) < 1e-12


def shares(kernel, border, height=13, width=16):
    """What each pixel of an image adds to the sum of the blurred one: the sums of the operator's columns."""
    points = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    return blur(points, kernel, border=border).sum((1, 2, 3)).reshape(height, width)


@each_border
@pytest.mark.parametrize(
    ("kernel", "mirrored"),
    [
        (kernels.disk(4), True),
        (kernels.disk(2.6, antialias=True), True),
        (kernels.box(5), True),
        (kernels.gaussian(1.5), True),
        (kernels.line(8.5), True),
        (kernels.box(4), False),
        (kernels.line(9, 45), False),  # the same when turned by 180 degrees, which is not enough
        (kernels.line(9, 30), False),
        (kernels.bank_kernel(3), False),
    ],
    ids=["disk", "soft disk", "box", "gaussian", "line", "even box", "diagonal", "oblique", "shake"],
)
def test_where_the_mean_is_kept(kernel, mirrored, border):
    found = shares(kernel, border)
    keeps = border == "circular" or (border == "symmetric" and mirrored)
    assert bool((found - 1).abs().max() < 1e-12) == keeps


def test_an_oblique_line_weighs_opposite_corners_unlike():
    corners = shares(kernels.line(9, 45), "symmetric")[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, [0.2127, 1.7873, 1.7873, 0.2127], atol=1e-4)


@pytest.mark.parametrize("kernel", [normalised(np.ones((1, 1))), kernels.disk(0), kernels.gaussian(0)])
def test_no_blur_is_a_copy(kernel):
    for dtype in DTYPES:
        image = pixels((3, 8, 9), dtype)
        found = blur(image, kernel)
        assert torch.equal(found, image)
        assert found.data_ptr() != image.data_ptr()


@needs_core
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


@needs_core
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
    # Through an FFT ("random") all other pixels feel the change of one, by less than the promised error; in
    # half precision that may turn a rounding: by one unit in the last place.
    rtol = 2**-10 if kind == "random" and dtype == torch.float16 else 0
    atol = 0 if dtype == torch.float16 else 1e-6
    torch.testing.assert_close(found[~near], good[~near], rtol=rtol, atol=atol)
    assert bool(found[~near].isfinite().all())


@needs_core
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


ARRAYS = {
    "photograph": lambda image: image,
    "crop": lambda image: image[3:40, 5:50],
    "every second row": lambda image: image[::2],
    "every second column": lambda image: image[:, ::2],
    "upside down": lambda image: image[::-1],
    "BGR": lambda image: image[..., ::-1],
    "one channel": lambda image: image[..., :1],
    "grey": lambda image: np.ascontiguousarray(image[..., 0]),
    "grey view": lambda image: image[..., 1],
    "four channels": lambda image: np.concatenate([image, image[..., :1]], -1),
    "in Fortran's order": np.asfortranarray,
    "without pixels": lambda image: image[:0],
    "one pixel": lambda image: image[:1, :1],
}


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_blurred_like_tensors(name, dtype):
    image = ARRAYS[name](pixels((45, 60, 3), torch.uint8).numpy().astype(dtype))
    image.flags.writeable = False
    before, bands = image.copy(), image.copy()[..., None] if image.ndim == 2 else image.copy()
    for kernel in (kernels.disk(3), kernels.disk(0), kernels.bank_kernel(0), kernels.gaussian(1), LARGE):
        found = blur(image, kernel, border="symmetric")
        assert isinstance(found, np.ndarray)
        assert found.dtype == image.dtype
        expected = blur(torch.from_numpy(bands).permute(2, 0, 1), kernel, border="symmetric")
        np.testing.assert_array_equal(found, expected.permute(1, 2, 0).numpy().reshape(image.shape))
        for same in (kernel.numpy(), kernel.float().numpy()):
            np.testing.assert_allclose(blur(image, same, border="symmetric"), found, rtol=1e-2, atol=1)
    np.testing.assert_array_equal(image, before)


LARGE = normalised(np.random.default_rng(0).random((41, 41)))


def test_large_arrays_are_shared_among_threads():
    image = np.random.default_rng(0).integers(0, 256, (500, 400, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = blur(image, kernels.disk(5))
        torch.set_num_threads(1)
        np.testing.assert_array_equal(blur(image, kernels.disk(5)), two)
    finally:
        torch.set_num_threads(before)


def test_numpy_photograph_without_a_copy():
    """Another way of a user with an HWC array: from_numpy, permute, and back."""
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


@needs_core
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", exhaustive("spawn")])
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


# Bad input


IMAGE = torch.zeros((3, 8, 9), dtype=torch.uint8)
KERNEL = torch.full((3, 3), 1 / 9, dtype=torch.float64)


@pytest.mark.parametrize(
    ("image", "kernel", "name"),
    [
        (IMAGE.int().permute(1, 2, 0).numpy(), KERNEL, "image"),
        (IMAGE.permute(1, 2, 0).numpy(), [[1.0]], "kernel"),
        (IMAGE.permute(1, 2, 0).numpy(), np.ones((1, 1), int), "kernel"),
        (IMAGE.permute(1, 2, 0).numpy(), torch.ones((1, 1), dtype=torch.int64), "kernel"),
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
        (IMAGE.numpy(), KERNEL, "image"),  # (C, H, W) taken for (H, W, C) would be another blur
        (IMAGE[None].numpy(), KERNEL, "image"),
        (IMAGE[0, 0].numpy(), KERNEL, "image"),
        (IMAGE[0].numpy(), KERNEL[None], "kernel"),
        (IMAGE[0].numpy(), KERNEL[:2], "kernel"),
        (IMAGE[0].numpy(), KERNEL.numpy()[:, :2], "kernel"),
        (IMAGE[0].numpy(), KERNEL * 2, "kernel"),
        (IMAGE[0].numpy(), KERNEL.clone().requires_grad_(), "kernel"),
        (IMAGE[0].numpy(), KERNEL.to("meta"), "kernel"),
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


@pytest.mark.parametrize(("border", "error"), [("mirror", ValueError), ("", ValueError), (None, TypeError)])
@pytest.mark.parametrize(
    "make",
    [
        lambda border: blurlib.DiskBlur(2, border=border),
        lambda border: blurlib.MotionBlur(border=border),
        lambda border: blurlib.CameraShakeBlur(border=border),
        lambda border: blurlib.GaussianBlur(2, border=border),
        lambda border: blurlib.BlurMixSampler("sharp + D2", border=border),
        lambda border: Protocol(border=border),
        lambda border: DeblurThenClassify(torch.nn.Identity(), "wiener", "D2", border=border),
        lambda border: deepinv_restorer(torch.nn.Identity(), border=border),
        lambda border: blurred(np.zeros((4, 4, 3), np.uint8), blurlib.blurs.Sharp(), border=border),
        lambda border: blurlib.functional.apply(IMAGE, "sharp", border=border),
        lambda border: blur(IMAGE[:, :0], KERNEL, border=border),
    ],
)
def test_a_wrong_border_is_told_where_it_is_given(make, border, error):
    with pytest.raises(error, match="`border` must be one of reflect, symmetric, replicate, circular, zeros"):
        make(border)


# Each type with the remedy that its error names.
NUMBERS = {
    torch.uint16: ([0, 300, 65535], "image.float()"),
    torch.int16: ([-5, 300, 32767], "image.float()"),
    torch.int8: ([-5, 3, 127], "image.float()"),
    torch.bool: ([0, 1, 1], "image.float()"),
    torch.int32: ([-5, 3, 2**31 - 1], "image.double()"),
    torch.int64: ([-5, 3, 2**53], "image.double()"),
    torch.uint32: ([0, 3, 2**32 - 1], "image.double()"),
}
WAYS = {
    "blur": lambda image: blur(image, KERNEL),
    "apply": lambda image: blurlib.functional.apply(image, "D1"),
    "functional": lambda image: blurlib.functional.disk_blur(image, 1),
    "transform": lambda image: blurlib.DiskBlur(1)(image),
    "wrapped": lambda image: blurlib.GaussianBlur(1)(tv_tensors.Image(image)),
    "mix": lambda image: blurlib.BlurMixSampler("D1")(image[None]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_whole_numbers_of_other_widths_are_refused_with_what_helps(dtype, way):
    values, remedy = NUMBERS[dtype]
    image = torch.tensor(values).to(dtype).reshape(1, 1, 3).expand(3, 5, 3)
    with pytest.raises(TypeError, match=f"`image` must be uint8 or floating, got {dtype}") as error:
        way(image)
    assert remedy in str(error.value)
    converted = eval(remedy, {"image": image})
    assert converted[0, 0].tolist() == values  # to the last digit
    way(converted)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64", "bool"])
def test_arrays_of_whole_numbers_are_refused_with_what_helps(dtype):
    image = np.array([[0, 1, 1]]).astype(dtype) * np.array(np.iinfo(dtype).max if dtype == "uint16" else 1)
    image = image.astype(dtype)
    with pytest.raises(TypeError, match=f"`image` must be .*{dtype}") as error:
        blur(image, KERNEL)
    remedy = re.search(r"image\.astype\(.*\)", str(error.value))[0]
    converted = eval(remedy, {"image": image, "np": np})
    np.testing.assert_array_equal(converted, image)
    blur(converted, KERNEL)


def test_complex_images_have_another_remedy():
    for image in (IMAGE.to(torch.complex64), np.zeros((4, 5), np.complex64)):
        with pytest.raises(TypeError, match=r"`image`.*complex64; blur image\.real and image\.imag"):
            blur(image, KERNEL)


def test_a_pillow_image_is_sent_to_where_it_belongs():
    image = PIL.Image.new("RGB", (9, 8), (5, 6, 7))
    with pytest.raises(TypeError, match=r"`image`.*Pillow image of mode RGB") as error:
        blur(image, KERNEL)
    remedy = "blurlib.functional.apply(image, 'D4')"
    assert remedy in str(error.value)
    assert eval(remedy, {"image": image, "blurlib": blurlib}).size == (9, 8)


@pytest.mark.parametrize("kernel", ["D4", blurlib.blurs.Disk(4), 3])
@pytest.mark.parametrize("image", [IMAGE, IMAGE[0].numpy()], ids=["tensor", "array"])
def test_what_is_no_kernel_is_told_how_to_make_one(image, kernel):
    with pytest.raises(TypeError, match=r"`kernel`.*blurlib\.notation\.parse\('D4'\)\.kernel\(\)"):
        blur(image, kernel)
    with pytest.raises(TypeError, match=r"`kernel`.*torch\.from_numpy\(kernel\)"):
        blur(IMAGE, KERNEL.numpy())


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
