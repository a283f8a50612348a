"""The CPU engine from inside: row sums, plans, tiles, threads, memory, and the precision of floats."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import oracles
from blurlib import _endings, _integers, _memory, _processor, _taps, _tiles, _twins, _vectors, blur, kernels
from blurlib.plans import plan

few = settings(deadline=None, max_examples=25)


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    if dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(rng.uniform(-1, 2, shape)).to(dtype)


def reference(image: torch.Tensor, kernel: torch.Tensor, border: str = "reflect") -> np.ndarray:
    """By FFT in float64: ten digits beyond float32, and quicker than the oracle for large kernels."""
    padded = np.stack([oracles.pad(plane, kernel.shape, border) for plane in image.double().numpy()])
    return scipy.signal.oaconvolve(padded, kernel.double().numpy()[None], mode="valid", axes=(1, 2))


# Row sums with vectors, and their plain twins


@njit
def vector_add(total, source, base, taps, first, last):
    _vectors.add(total, source, base, taps, first, last)


@njit
def vector_swap(total, source, base, enter, leave, first, last):
    _vectors.swap(total, source, base, enter, leave, first, last)


@njit
def vector_weigh(total, source, base, taps, weights, first, last):
    _vectors.weigh(total, source, base, taps, weights, first, last)


@njit
def vector_weigh_two(total, below, source, base, taps, weights, weights_below, first, last):
    _vectors.weigh_two(total, below, source, base, taps, weights, weights_below, first, last)


@njit
def vector_add_groups(total, source, base, taps, starts, weights, first, last):
    _vectors.add_groups(total, source, base, taps, starts, weights, first, last)


@njit
def vector_add_divided(target, total, source, base, taps, first, last, bump, factor, shift):
    _endings.add_divided(target, total, source, base, taps, first, last, bump, factor, shift)


@njit
def vector_swap_divided(target, total, source, base, enter, leave, first, last, bump, factor, shift):
    _endings.swap_divided(target, total, source, base, enter, leave, first, last, bump, factor, shift)


@njit
def vector_add_carried(target, wide, source, base, taps, first, last, share, offset):
    _endings.add_carried(target, wide, source, base, taps, first, last, share, offset)


@njit
def vector_swap_carried(target, wide, source, base, enter, leave, first, last, share, offset):
    _endings.swap_carried(target, wide, source, base, enter, leave, first, last, share, offset)


@njit
def vector_swap_shared(target, total, source, base, enter, leave, first, last, shares):
    _endings.swap_shared(target, total, source, base, enter, leave, first, last, shares)


@njit
def vector_weigh_into(target, source, base, taps, weights, first, last):
    _endings.weigh_into(target, source, base, taps, weights, first, last)


@njit
def vector_weigh_two_into(target, below, source, base, taps, weights, weights_below, first, last):
    _endings.weigh_two_into(target, below, source, base, taps, weights, weights_below, first, last)


@njit
def vector_add_kept(total, source, base, taps, first, last):
    _endings.add_kept(total, source, base, taps, first, last)


@njit
def vector_swap_kept(total, source, base, enter, leave, first, last):
    _endings.swap_kept(total, source, base, enter, leave, first, last)


@njit
def vector_mix_kept(target, total, source, base, taps, starts, weights, first, last, core):
    _endings.mix_kept(target, total, source, base, taps, starts, weights, first, last, core)


@njit
def vector_add_spread(target, wide, source, base, taps, first, last, shares):
    _endings.add_spread(target, wide, source, base, taps, first, last, shares)


@njit
def vector_swap_spread(target, wide, source, base, enter, leave, first, last, shares):
    _endings.swap_spread(target, wide, source, base, enter, leave, first, last, shares)


@njit
def vector_row(flat, start, length):
    return _vectors.row(flat, start, length).sum()


INTEGERS = [(np.uint16, np.uint8), (np.uint32, np.uint16), (np.uint16, np.uint16), (np.int32, np.int32)]
FLOATS = [(np.float64, np.float32), (np.float32, np.float32), (np.float64, np.float64)]


@pytest.mark.parametrize(("wide", "narrow"), INTEGERS)
@few
@given(registers=st.integers(0, 13), taps=st.integers(0, 20), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_integer_sums_are_their_plain_twins(wide, narrow, registers, taps, seed, data):
    rng = np.random.default_rng(seed)
    length = registers * _vectors.LANE_BYTES // np.dtype(wide).itemsize
    info = np.iinfo(narrow)
    source = rng.integers(info.min, info.max, 400 + length, dtype=narrow, endpoint=True)
    start = rng.integers(0, 2**15, length).astype(wide)
    enter, leave = rng.integers(0, 390, taps), rng.integers(0, 390, taps)
    first = data.draw(st.integers(0, taps))
    for vectors, plain, lists in (
        (vector_add, _twins.plain_add, (enter,)),
        (vector_swap, _twins.plain_swap, (enter, leave)),
    ):
        found, expected = start.copy(), start.copy()
        vectors(found, source, 7, *lists, first, taps)
        plain(expected, source, 7, *lists, first, taps)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("wide", "narrow"), FLOATS)
@few
@given(registers=st.integers(0, 13), taps=st.integers(0, 20), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_weighted_sums_are_their_plain_twins(wide, narrow, registers, taps, seed, data):
    rng = np.random.default_rng(seed)
    length = registers * _vectors.LANE_BYTES // np.dtype(wide).itemsize
    source = rng.normal(size=400 + length).astype(narrow)
    start = rng.normal(size=(2, length)).astype(wide)
    at = rng.integers(0, 390, taps)
    weights, below = rng.normal(size=(2, taps)).astype(wide)
    first = data.draw(st.integers(0, taps))
    tolerance = 40 * np.finfo(wide).eps
    found, expected = start.copy(), start.copy()
    vector_weigh(found[0], source, 7, at, weights, first, taps)
    _twins.plain_weigh(expected[0], source, 7, at, weights, first, taps)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    found, expected = start.copy(), start.copy()
    vector_weigh_two(found[0], found[1], source, 7, at, weights, below, first, taps)
    _twins.plain_weigh_two(expected[0], expected[1], source, 7, at, weights, below, first, taps)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("narrow", [np.uint8, np.int32])
@few
@given(
    registers=st.integers(0, 13),
    sizes=st.lists(st.integers(0, 9), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_weighted_groups_are_their_plain_twin(narrow, registers, sizes, seed):
    rng = np.random.default_rng(seed)
    lanes = _vectors.LANE_BYTES // (2 if narrow == np.uint8 else 4)
    source = rng.integers(0, 256, 400 + registers * lanes).astype(narrow) - narrow(narrow == np.int32) * 100
    found = rng.normal(size=registers * lanes).astype(np.float32)
    expected = found.copy()
    taps = rng.integers(0, 390, sum(sizes))
    starts, weights = np.cumsum([0, *sizes]), rng.normal(size=len(sizes)).astype(np.float32)
    first = rng.integers(0, len(sizes) + 1)
    vector_add_groups(found, source, 7, taps, starts, weights, first, len(sizes))
    _twins.plain_add_groups(expected, source, 7, taps, starts, weights, first, len(sizes))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)


lengths = given(
    length=st.integers(0, 700),
    spare=st.integers(0, 2),
    taps=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)


@few
@lengths
def test_divided_rows_of_bytes_are_their_plain_twins_and_end_where_they_end(length, spare, taps, seed):
    """Also where the sums go on for some registers, as in a tile that is narrower than the others."""
    rng = np.random.default_rng(seed)
    padded = _vectors.padded(length, 1) + spare * _vectors.LANE_BYTES
    source = rng.integers(0, 256, 1000 + padded, dtype=np.uint8)
    numbers = _integers.division(int(taps))
    results = []
    for add, swap in (
        (vector_add_divided, vector_swap_divided),
        (_twins.plain_add_divided, _twins.plain_swap_divided),
    ):
        memory, total = np.full((3, length + 100), 77, np.uint8), np.full(padded, 9, np.uint16)
        at = np.random.default_rng(seed).integers(0, 900, taps)
        add(memory[0, :length], total, source, 7, at, 0, taps, *numbers)
        for row in (1, 2):  # from the sums as they were left
            half = taps // 2
            swap(memory[row, :length], total, source, 7, at[:half] + 40 * row, at[:half], 0, half, *numbers)
            at[:half] += 40 * row
        assert (memory[:, length:] == 77).all()
        results.append(memory[:, :length])
    np.testing.assert_array_equal(*results)


@few
@lengths
def test_carried_rows_of_bytes_are_their_plain_twins(length, spare, taps, seed):
    padded = _vectors.padded(length, 1) + spare * _vectors.LANE_BYTES
    source = np.random.default_rng(seed).integers(0, 256, 1000 + padded, dtype=np.uint8)
    results = []
    for add, swap in (
        (vector_add_carried, vector_swap_carried),
        (_twins.plain_add_carried, _twins.plain_swap_carried),
    ):
        memory, total = np.full((4, length + 100), 77, np.uint8), np.zeros(padded, np.int32)
        at = np.random.default_rng(seed).integers(0, 900, 300)
        for some in range(0, 300, 100):
            add(memory[0, :length], total, source, 7, at, some, some + 100, 1 / 300, 0.5)
        for row in (1, 2, 3):  # from the sums as they were left
            swap(memory[row, :length], total, source, 7, at[:taps] + 30, at[:taps], 0, taps, 1 / 300, 0.5)
            at[:taps] += 30
        assert (memory[:, length:] == 77).all()
        results.append(memory[:, :length].astype(int))
    # A multiplication and an addition with one rounding may differ at a tie.
    np.testing.assert_allclose(*results, rtol=0, atol=1)
    assert (results[0] != results[1]).sum() <= 0.01 * length


@few
@lengths
def test_mixed_rows_of_bytes_are_their_plain_twins(length, spare, taps, seed):
    padded = _vectors.padded(length, 1) + spare * _vectors.LANE_BYTES
    rng = np.random.default_rng(seed)
    source, ring = rng.integers(0, 256, 1000 + padded, dtype=np.uint8), rng.integers(0, 900, 40)
    starts, weights = np.array([0, 1, 30, 40]), rng.normal(0, 0.01, 3).astype(np.float32)
    results = []
    for add, swap, mix in (
        (vector_add_kept, vector_swap_kept, vector_mix_kept),
        (_twins.plain_add, _twins.plain_swap, _twins.plain_mix_kept),
    ):
        memory, total = np.full((4, length + 100), 77, np.uint8), np.full(padded, 9, np.uint16)
        at = np.random.default_rng(seed).integers(0, 900, taps)
        add(total, source, 7, at, 0, taps)
        for row in range(4):
            mix(memory[row, :length], total, source, 7, ring, starts, weights, row % 2, 3, 0.9 / taps)
            swap(total, source, 7, at + 20, at, 0, taps)
            at += 20
        assert (memory[:, length:] == 77).all()
        results.append(memory[:, :length].astype(int))
    np.testing.assert_allclose(*results, rtol=0, atol=1)  # on either side of a tie
    assert (results[0] != results[1]).sum() <= 0.01 * length


@few
@given(length=st.integers(0, 300), taps=st.integers(0, 20), seed=st.integers(0, 2**32 - 1))
def test_rows_of_floats_from_integers_are_their_plain_twin(length, taps, seed):
    rng = np.random.default_rng(seed)
    padded = _vectors.padded(length, 4)
    source = rng.integers(-(2**23), 2**23, 400 + padded, dtype=np.int32)
    lists = rng.integers(0, 390, (2, taps))
    start, shares = (
        rng.integers(-(2**30), 2**30, padded, dtype=np.int32),
        rng.random(padded).astype(np.float32),
    )
    results = []
    for add, swap in (
        (vector_add_spread, vector_swap_spread),
        (_twins.plain_add_spread, _twins.plain_swap_spread),
    ):
        memory, wide = np.full((2, length + 100), 7, np.float32), start.astype(np.float64)
        add(memory[0, :length], wide, source, 7, lists[0], 0, taps, shares.astype(np.float64))
        swap(memory[1, :length], wide, source, 7, *lists, 0, taps, shares.astype(np.float64))
        assert (memory[:, length:] == 7).all()
        results.append(np.append(memory, wide))
    np.testing.assert_array_equal(*results)
    results = []
    for function in (vector_swap_shared, _twins.plain_swap_shared):
        memory, total = np.full(length + 100, 7, np.float32), start.copy()
        function(memory[:length], total, source, 7, *lists, 0, taps, shares)
        assert (memory[length:] == 7).all()
        results.append(np.append(memory, total))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("narrow", "wide"), [(np.uint8, np.float32), (np.float32, np.float32), (np.float64, np.float64)]
)
@few
@given(length=st.integers(0, 300), taps=st.integers(0, 20), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_weighed_rows_are_their_plain_twins_and_end_where_they_end(narrow, wide, length, taps, seed, data):
    rng = np.random.default_rng(seed)
    source = rng.normal(100, 80, 400 + _vectors.padded(length, 4)).astype(wide)
    at, weights, below = rng.integers(0, 390, taps), *rng.normal(0, 0.3, (2, taps)).astype(wide)
    first = data.draw(st.integers(0, taps))
    results = []
    for one, two in (
        (vector_weigh_into, vector_weigh_two_into),
        (_twins.plain_weigh_into, _twins.plain_weigh_two_into),
    ):
        memory = np.full((3, length + 100), 7, narrow)
        rows = memory[:, :length]
        one(rows[0], source, 7, at, weights, first, taps)
        two(rows[1], rows[2], source, 7, at, weights, below, first, taps)
        assert (memory[:, length:] == 7).all()
        results.append(rows.astype(float))
    limit = 1 if narrow == np.uint8 else 2000 * np.finfo(wide).eps  # bytes: on either side of a tie
    np.testing.assert_allclose(*results, rtol=0, atol=limit)
    assert narrow != np.uint8 or (results[0] != results[1]).sum() <= 1


@njit
def divisions(n, found):
    bump, factor, shift = _integers.division(n)
    for s in range(255 * n + 1):
        found[s] = ((np.int64(np.uint16(s + bump)) * factor) >> 16) >> shift
    return 0 < factor < 65536 and 255 * n + bump < 65536


def test_sixteen_bits_divide_every_sum_of_bytes_exactly():
    for n in range(1, 257):
        sums, found = np.arange(255 * n + 1), np.zeros(255 * n + 1, np.int64)
        assert divisions(n, found), n
        np.testing.assert_array_equal(found, (2 * sums + n) // (2 * n))


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


def test_a_row_is_a_slice():
    flat = np.arange(20.0)
    assert vector_row(flat, 3, 5) == _twins.plain_row(flat, 3, 5).sum() == flat[3:8].sum()
    assert vector_row(flat, 20, 0) == 0


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_padded_rows_are_whole_registers(itemsize):
    lanes = _vectors.LANE_BYTES // itemsize
    for length in range(3 * lanes):
        padded = _vectors.padded(length, itemsize)
        assert padded % lanes == 0
        assert 0 <= padded - length < lanes


def test_without_a_compiler_the_plain_twins_take_over():
    """NUMBA_DISABLE_JIT=1, as those do who step through loops in a debugger."""
    code = (
        "import torch, blurlib\n"
        "from blurlib import _twins, _vectors\n"
        "assert _vectors.add is _twins.plain_add\n"
        "image = torch.arange(12 * 9).reshape(1, 12, 9)\n"
        "for dtype in (torch.uint8, torch.float32):\n"
        "    for kernel in (blurlib.kernels.disk(2), blurlib.kernels.gaussian(0.8)):\n"
        "        found = blurlib.blur(image.to(dtype), kernel).double()\n"
        "        print(found.sum().item())\n"
    )
    out = {}
    for off in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code if off == "1" else code.replace("assert", "0 and")],
            env={**__import__("os").environ, "NUMBA_DISABLE_JIT": off},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        out[off] = [float(line) for line in done.stdout.split()]
    assert out["0"] == pytest.approx(out["1"], rel=1e-6)


# What a kernel consists of


@few
@given(height=st.integers(0, 6), width=st.integers(0, 6), seed=st.integers(0, 2**32 - 1))
def test_lists_of_taps_rebuild_the_kernel(height, width, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.choice([0.0, 0.0, 0.1, 0.25, 0.25, -0.3], (2 * height + 1, 2 * width + 1))
    kernel[rng.integers(kernel.shape[0]), rng.integers(kernel.shape[1])] = 0.5
    found = _taps.survey(kernel)
    assert found.taps == np.count_nonzero(kernel)
    assert found.total == pytest.approx(kernel.sum())
    assert found.groups == np.unique(kernel[kernel != 0]).size
    window = _taps.lying(kernel, found.up, found.left)
    h, w = window.shape
    middle = kernel[height - found.up : height + found.up + 1, width - found.left : width + found.left + 1]
    np.testing.assert_array_equal(window, middle[::-1, ::-1])
    assert np.abs(kernel).sum() == pytest.approx(np.abs(window).sum())

    def picture(taps, weights, rows=h):
        image = np.zeros((rows, w))
        np.add.at(image, tuple(np.asarray(taps).T), weights)
        return image

    np.testing.assert_array_equal(picture(*_taps.tap_list(window, found.taps)), window)
    down, up = np.pad(window, ((1, 0), (0, 0))), np.pad(window, ((0, 1), (0, 0)))
    np.testing.assert_array_equal(picture(*_taps.change_list(window, found.changes), h + 1), down - up)
    pairs = _taps.pair_list(window, found.pairs, np.empty(0))
    np.testing.assert_array_equal(picture(pairs.taps, pairs.weights, h + 1), up)
    np.testing.assert_array_equal(picture(pairs.taps, pairs.weights_below, h + 1), down)
    core, ring = _taps.core_and_ring(window, found, running=True)
    total = picture(core.taps, core.weight)
    for g, weight in enumerate(ring.weights):
        total += picture(ring.taps[ring.starts[g] : ring.starts[g + 1]], weight)
    np.testing.assert_array_equal(total, window)
    mask = picture(core.taps, 1)
    step = np.pad(mask, ((1, 0), (0, 0))) - np.pad(mask, ((0, 1), (0, 0)))
    np.testing.assert_array_equal(picture(core.enter, 1, h + 1) - picture(core.leave, 1, h + 1), step)


def test_groups_hold_what_sixteen_bits_can_sum():
    window = np.full((41, 41), 1 / 1680)
    window[20, 20] = 0.0
    found = _taps.survey(window)
    other = found._replace(core=0.0, core_taps=0, core_changes=0)
    _, ring = _taps.core_and_ring(window, other, running=False)
    sizes = np.diff(ring.starts)
    assert sizes.sum() == 1680
    assert sizes.max() == 256


@pytest.mark.parametrize(
    ("kernel", "dtype", "kind"),
    [
        (kernels.disk(8), torch.uint8, "bytes"),
        (kernels.disk(8.3, antialias=True), torch.uint8, "bytes"),
        (kernels.box(9), torch.uint8, "bytes"),
        (kernels.box(9, vertical=True), torch.uint8, "bytes"),
        (kernels.box(65), torch.uint8, "box"),
        (kernels.box(200), torch.float32, "box"),
        (kernels.box(200), torch.float64, "box"),
        (kernels.box(200, vertical=True), torch.float32, "fixed"),
        (kernels.disk(8), torch.float32, "fixed"),
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
    assert plan(kernel / kernel.sum(), dtype).kind == kind


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
        expected = oracles.blur(image.double().numpy(), PRECISE[name].double().numpy(), "reflect")
        limit = 1e-12 * float(image.abs().max())
        np.testing.assert_allclose(blur(image.double(), PRECISE[name]), expected, rtol=0, atol=limit)


@pytest.mark.parametrize("scale", [1e-44, 1e-40, 1e-30, 1e-20, 1e20, 1e37])
@pytest.mark.parametrize("name", ["disk 8", "soft disk 8.3", "disk 32"])
def test_floats_of_any_magnitude(name, scale):
    image = adversaries(80, 40)["noise"] * torch.tensor(scale)
    expected = oracles.blur(image.double().numpy(), PRECISE[name].numpy(), "reflect")
    limit = 1e-6 * float(image.double().abs().max()) + 1e-45  # half the smallest number there is
    np.testing.assert_allclose(blur(image, PRECISE[name]).double().numpy(), expected, rtol=0, atol=limit)


def test_a_bright_channel_costs_the_others_nothing():
    image = torch.stack([adversaries(90, 40)["noise"][0] * s for s in (1e-6, 1.0, 1e6)])
    for layout in (image, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        found = blur(layout, kernels.disk(8)).double().numpy()
        expected = oracles.blur(image.double().numpy(), kernels.disk(8).numpy(), "reflect")
        for channel in range(3):
            limit = 1e-6 * float(image[channel].max())
            np.testing.assert_allclose(found[channel], expected[channel], rtol=0, atol=limit)


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
    reached = oracles.blur(mask.numpy(), (kernel != 0).double().numpy(), border) > 0.5
    np.testing.assert_array_equal(~np.isfinite(found.numpy()), reached)
    assert torch.equal(found[~torch.from_numpy(reached)], expected[~torch.from_numpy(reached)])
    assert found[0, 63, 40].isnan() or found[0, 63, 40] > 0


def test_infinities_of_both_signs_meet_as_nan():
    image = torch.zeros((1, 20, 20))
    image[0, 10, 8], image[0, 10, 12] = math.inf, -math.inf
    found = blur(image, kernels.disk(3))
    assert found[0, 10, 10].isnan()
    assert found[0, 10, 7] == math.inf
    assert found[0, 10, 13] == -math.inf


# Tiles and views

KINDS = ("disk 8", "soft disk 8.3", "shake, 41 px", "gaussian 4", "row 33", "row 400", "disk 16", "dense 61")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_wide_images_are_cut_into_tiles_of_columns(name, dtype):
    image = noise((2, 70, 2 * _tiles.TILE + 37), dtype)
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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_views_are_taken_as_they_lie(name, dtype):
    view = VIEWS[name](noise((4, 3, 45, 60), dtype))
    layout = _processor._layout(view.shape, view.stride())
    assert layout is not None  # not copied
    anchor = _memory.ANCHORS[dtype].ctypes.data
    assert anchor + _memory.origin(view, dtype) * view.itemsize == view.data_ptr()
    for kernel in (kernels.disk(3), kernels.bank_kernel(0), kernels.gaussian(1)):
        assert torch.equal(blur(view, kernel), blur(view.contiguous(), kernel))


MEMORY = """
import gc, sys, torch, blurlib
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
torch.set_num_threads(2)
small = torch.zeros((3, 80, 80), dtype=torch.{dtype})
kernels = [blurlib.kernels.disk(8), blurlib.kernels.bank_kernel(0), blurlib.kernels.gaussian(4)]
for kernel in kernels:
    blurlib.blur(small, kernel)
image = torch.zeros((4000, 6000, 3), dtype=torch.{dtype}).permute(2, 0, 1)
if {planar}:
    image = image.contiguous()
for kernel in kernels:
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    result = blurlib.blur(image, kernel)
    print(peak() - before, result.numel() * result.element_size() / 2**20)
    del result
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("planar", [True, False], ids=["CHW", "HWC"])
def test_a_large_photograph_needs_the_output_and_little_more(planar):
    """24 megapixels: beside the output a buffer for a tile and each thread, whatever the image measures."""
    code = MEMORY.format(dtype="uint8", planar=planar)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "Permission" in done.stderr:
        pytest.skip("the kernel does not let a process reset its peak memory")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        extra, output = (float(word) for word in line.split())
        assert output == pytest.approx(68.7, abs=0.1)
        assert extra < output + 8


# Threads


@pytest.fixture
def threads(monkeypatch):
    """Sets torch's number of threads, and has small images shared out too."""
    monkeypatch.setattr(_processor, "_WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_threads_share_the_strips_of_an_image(name, dtype, threads):
    kernel = PRECISE[name]
    image = noise((2, 3, 300, 37), dtype)
    layouts = (image, image.contiguous(memory_format=torch.channels_last), image[0])
    each = torch.stack([kernel, torch.zeros_like(kernel)])
    each[1, kernel.shape[0] // 2, kernel.shape[1] // 2] = 1  # sharp
    expected = [blur(layout, kernel) for layout in layouts] + [blur(image, each)]
    for number in (2, 3, 8):
        threads(number)
        found = [blur(layout, kernel) for layout in layouts] + [blur(image, each)]
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


@given(
    jobs=st.lists(st.tuples(st.integers(1, 40), st.floats(1, 1e5)), min_size=1, max_size=12),
    number=st.integers(1, 9),
)
def test_pieces_are_the_whole_work_once_and_in_order(jobs, number):
    named = [(index, units, cost) for index, (units, cost) in enumerate(jobs)]
    pieces = list(_processor._pieces(named, number))
    done = [(job, unit) for job, first, last in pieces for unit in range(first, last)]
    assert done == [(index, unit) for index, units, _ in named for unit in range(units)]
    price = {index: cost for index, _, cost in named}
    whole = sum(units * cost for _, units, cost in named)
    # Twice an equal part where rounding made one piece of 1.99, and a unit, which is not cut.
    assert max((last - first) * price[job] for job, first, last in pieces) <= 2 * whole / number + max(
        price.values()
    ) * (1 + 1e-9)


def test_all_kinds_of_work_cost_nothing_at_worst():
    assert list(_processor._pieces([("copy", 3, 0.0)], 4)) == [("copy", 0, 3)]


def test_an_error_in_a_piece_reaches_the_caller(threads):
    def fail(first: int, last: int) -> None:
        raise MemoryError("no room")

    threads(2)
    with pytest.raises(MemoryError, match="no room"):
        _processor._run([(fail, 4, 1.0)], 1 << 20)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@given(
    n=st.integers(20, 700), width=st.integers(1, 80), border=st.sampled_from(["reflect", "circular", "zeros"])
)
@few
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
