"""Kernels: the general promises for every parameter, and each kind against its definition in oracles.py."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

import oracles
from blurlib import blurs, kernels
from blurlib._common import checks, rng
from blurlib.notation import parse_mix
from images import exhaustive

RADII = st.floats(0, 24)
LENGTHS = st.floats(0, 40)
ANGLES = st.floats(-720, 720)
SIGMAS = st.floats(0, 12)
BOXES = st.integers(1, 60)
SEEDS = st.integers(-(2**63), 2**64 - 1)


def check_kernel(kernel: torch.Tensor, shift: float = 1e-9) -> np.ndarray:
    """What holds for every kernel: type, odd window, non-negative, sum 1, centroid within `shift`."""
    assert isinstance(kernel, torch.Tensor)
    assert kernel.dtype == torch.float64
    assert kernel.ndim == 2
    assert kernel.shape[0] % 2 == 1
    assert kernel.shape[1] % 2 == 1
    array = kernel.numpy()
    assert np.isfinite(array).all()
    assert array.min() >= 0
    assert abs(array.sum() - 1) <= 1e-6
    assert abs(array.sum() - 1) <= 1e-12  # what float64 allows
    assert np.abs(oracles.centroid(array)).max() <= shift
    return array


def assert_same(found: np.ndarray, expected: np.ndarray, atol: float) -> None:
    """Equal but for zeros around them."""
    height = max(found.shape[0], expected.shape[0])
    width = max(found.shape[1], expected.shape[1])
    np.testing.assert_allclose(
        oracles.centred(found, height, width), oracles.centred(expected, height, width), rtol=0, atol=atol
    )


# Disk


@given(radius=RADII)
@example(radius=2)
@example(radius=4)
@example(radius=6)
@example(radius=8)
@example(radius=0)
@example(radius=math.sqrt(2))
@example(radius=5.0)  # 3, 4, 5: a pixel centre on the circle
def test_binary_disk(radius):
    found = check_kernel(kernels.disk(radius))
    assert_same(found, oracles.disk(radius), 1e-15)
    assert len(np.unique(found[found > 0])) == 1  # flat to the bit: the exact integer path depends on it


@given(radius=RADII)
@example(radius=0.5)
@example(radius=0.75)
@example(radius=8.0)
@example(radius=math.sqrt(0.5))  # through the corners of the middle pixel
@example(radius=1.5)  # touches the edges of its window
@example(radius=1.5 + 1e-9)
def test_antialiased_disk(radius):
    found = check_kernel(kernels.disk(radius, antialias=True))
    if radius > 1e-3:
        assert_same(found, oracles.disk_area(radius), 1e-9)
    assert_same(found, found.T, 1e-12)
    assert_same(found, found[::-1], 1e-12)


@given(radius=st.floats(0.75, 60))
@example(radius=0.75)
def test_variance_of_antialiased_disk(radius):
    found = kernels.disk(radius, antialias=True).numpy()
    for angle in (0, 90):
        assert abs(oracles.variance(found, angle) - (radius**2 / 4 + 1 / 12)) <= 0.07


@pytest.mark.parametrize(("radius", "pixels"), [(2, 13), (4, 49), (6, 113), (8, 197)])
def test_disks_of_the_paper(radius, pixels):
    """Numbers of lattice points in a circle (Gauss's circle problem, OEIS A000328)."""
    found = kernels.disk(radius)
    assert found.shape == (2 * radius + 1, 2 * radius + 1)
    assert int((found > 0).sum()) == pixels


@pytest.mark.parametrize("antialias", [False, True])
def test_huge_disk(antialias):
    check_kernel(kernels.disk(1024, antialias=antialias))


# Box


@given(length=BOXES, vertical=st.booleans())
@example(length=4, vertical=False)
@example(length=8, vertical=True)
def test_box(length, vertical):
    found = check_kernel(kernels.box(length, vertical=vertical), shift=0.5 + 1e-9)
    x, y = oracles.centroid(found)
    along, across = (y, x) if vertical else (x, y)
    assert across == 0
    if length % 2:
        assert abs(along) <= 1e-12
    else:  # documented: an even one leans to the left, or to the top
        assert abs(along - (0.5 if vertical else -0.5)) <= 1e-12
    kept = found[:, found.any(0)][found.any(1)]
    np.testing.assert_allclose(kept, oracles.box(length, vertical), rtol=0, atol=1e-15)
    assert len(np.unique(kept)) == 1
    variance = oracles.variance(found, 90 if vertical else 0)
    assert abs(variance - (length**2 - 1) / 12) <= 1e-9 * length**2


def test_even_box_leans_as_documented():
    assert kernels.box(4).tolist() == [[0.25, 0.25, 0.25, 0.25, 0]]
    assert kernels.box(2, vertical=True).tolist() == [[0.5], [0.5], [0]]


# Line


@given(length=LENGTHS, angle=ANGLES)
@example(length=0.0, angle=0.0)
@example(length=1.0, angle=45.0)
@example(length=0.5, angle=30.0)
@example(length=7.0, angle=90.0)
@example(length=12.0, angle=30.0)
@example(length=15.0, angle=45.0)
@example(length=4.0, angle=1e-9)
@example(length=4.0, angle=1e-6)  # edges that rise by less than a ten-millionth of a pixel
@example(length=4.0, angle=5.7e-6)
@example(length=40.0, angle=90 - 1e-6)
@example(length=4.0, angle=360.0)
@example(length=6.0, angle=-135.0)
def test_line_is_the_area_of_a_rectangle(length, angle):
    found = check_kernel(kernels.line(length, angle))
    if length >= 0.01:
        assert_same(found, oracles.line(length, angle), 1e-9)
    assert_same(found, found[::-1, ::-1], 1e-12)


@given(length=st.floats(0.1, 60), angle=ANGLES)
@example(length=1.0, angle=45.0)
@example(length=2.0, angle=0.0)
@example(length=15.0, angle=0.0)
def test_second_moments_of_line(length, angle):
    found = kernels.line(length, angle).numpy()
    assert abs(oracles.variance(found, angle) - length**2 / 12) <= 0.2
    assert oracles.variance(found, angle + 90) <= 0.25


@pytest.mark.parametrize("length", range(1, 42, 2))
@pytest.mark.parametrize(
    ("angle", "vertical"), [(0, False), (90, True), (180, False), (270, True), (-90, True)]
)
def test_line_is_box_for_odd_lengths_along_an_axis(length, angle, vertical):
    assert_same(kernels.line(length, angle).numpy(), kernels.box(length, vertical=vertical).numpy(), 1e-12)


@given(length=st.floats(3, 40), angle=st.floats(0, 180, exclude_max=True))
def test_angle_is_counter_clockwise_as_displayed(length, angle):
    found = kernels.line(length, angle).numpy()
    x, y = oracles.offsets(found)
    xx, yy, xy = (found * x * x).sum(), (found * y * y).sum(), (found * x * y).sum()
    axis = math.degrees(0.5 * math.atan2(2 * xy, xx - yy))
    assert (
        abs((axis - angle + 90) % 180 - 90) <= 6
    )  # pixels are square: the axis is pulled a little towards them


def test_thirty_degrees_point_to_the_upper_right():
    found = kernels.line(12, 30).numpy()
    rows, columns = found.shape
    upper_right = found[: rows // 2, columns // 2 + 1 :].sum()
    upper_left = found[: rows // 2, : columns // 2].sum()
    assert upper_right > 0.3
    assert upper_left < 0.02


@given(length=st.floats(0.1, 40), angle=st.floats(0, 360))
@example(length=1.0, angle=1e-5)
def test_line_has_no_direction_and_whole_turns_are_none(length, angle):
    found = kernels.line(length, angle).numpy()
    assert_same(found, kernels.line(length, angle + 180).numpy(), 1e-9)
    assert_same(found, kernels.line(length, angle - 720).numpy(), 1e-9)
    assert_same(found.T[::-1, ::-1], kernels.line(length, -90 - angle).numpy(), 1e-9)


# Gaussian


@given(sigma=SIGMAS, truncate=st.floats(1, 6))
@example(sigma=0.0, truncate=4.0)
@example(sigma=1e-3, truncate=4.0)
@example(sigma=1e-300, truncate=4.0)
@example(sigma=4.0, truncate=4.0)
@example(sigma=0.375, truncate=4.0)  # truncate sigma + 1/2 is a whole number
def test_gaussian(sigma, truncate):
    found = check_kernel(kernels.gaussian(sigma, truncate=truncate))
    assert found.shape[0] == found.shape[1]
    if sigma > 0.01:
        expected = oracles.gaussian(sigma, truncate)
        assert found.shape == expected.shape
        assert_same(found, expected, 1e-12)
    else:
        assert_same(found, np.ones((1, 1)), 0)


@given(sigma=st.floats(0.8, 30))
@example(sigma=0.8)
@example(sigma=4.0)
@example(sigma=8.0)
def test_variance_of_gaussian(sigma):
    found = kernels.gaussian(sigma).numpy()
    assert found.shape == (2 * math.floor(4 * sigma + 0.5) + 1,) * 2
    for angle in (0, 90):
        assert abs(oracles.variance(found, angle) - sigma**2) <= 0.01 * sigma**2


# Camera shake


def shake_words(seed: int, index: int):
    return lambda count, draw: rng.words(count, seed=seed, key=(index, draw))


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40 + 3])
def test_shake_is_the_definition(seed):
    """The 30 000-sample definition from the same words: the same pixels, the same weights."""
    found = kernels.camera_shake(40, seed=seed).numpy()
    assert found.shape == (40, 17, 17)
    for index, kernel in enumerate(found):
        expected, _, _ = oracles.shake_from_words(shake_words(seed, index))
        np.testing.assert_array_equal(kernel > 0, expected > 0, err_msg=f"kernel {index}")
        np.testing.assert_array_equal(kernel, expected, err_msg=f"kernel {index}")


@pytest.mark.slow
def test_many_shakes_are_the_definition():
    """As above, for 3 000 kernels."""
    for index, kernel in enumerate(kernels.camera_shake(3000, seed=77).numpy()):
        np.testing.assert_array_equal(kernel, oracles.shake_from_words(shake_words(77, index))[0], f"{index}")


@given(
    seed=SEEDS,
    grid=st.integers(2, 24),
    slack=st.integers(0, 6),
    control_points=st.integers(2, 9),
)
@example(seed=0, grid=15, slack=0, control_points=2)
@example(seed=0, grid=15, slack=1, control_points=3)
@example(seed=0, grid=15, slack=1, control_points=4)
def test_shake_with_other_settings_is_the_definition(seed, grid, slack, control_points):
    size = grid + grid % 2 + 1 + 2 * slack if slack or grid % 2 == 0 else grid
    settings_ = {"grid": grid, "size": size, "control_points": control_points}
    (kernel,) = kernels.camera_shake(1, seed=seed, **settings_)
    array = check_kernel(kernel, shift=0.5 + 1e-9)
    assert array.shape == (size, size)
    expected, _, _ = oracles.shake_from_words(shake_words(seed, 0), **settings_)
    np.testing.assert_array_equal(array, expected)


def test_shakes_keep_the_general_promises():
    for kernel in kernels.camera_shake(300, seed=3):
        check_kernel(kernel, shift=0.5 + 1e-9)


@given(seed=SEEDS, count=st.integers(1, 6))
def test_shake_does_not_depend_on_the_count(seed, count):
    many = kernels.camera_shake(6, seed=seed)
    assert torch.equal(kernels.camera_shake(count, seed=seed), many[:count])


def test_no_shakes():
    assert kernels.camera_shake(0, seed=0).shape == (0, 17, 17)


@pytest.mark.parametrize(("count", "others"), [(1000, 150), exhaustive(3000, 600)])
def test_statistics_of_shakes(count, others, capsys):
    """Printed, and the same as the definition's with unrelated random numbers."""
    drawn, defined = kernels.camera_shake(count, seed=2016), oracles.shakes(others, np.random.default_rng(0))
    found = np.array([oracles.shake_statistics(kernel) for kernel in drawn.numpy()])
    reference = np.array([oracles.shake_statistics(kernel) for kernel in defined])
    names = ("pixels touched", "radius of gyration, px", "largest weight")
    with capsys.disabled():
        print(
            f"\n{f'{count} camera shakes':24}{'mean':>9}{'sd':>9}{'5 %':>9}{'median':>9}{'95 %':>9}  p (KS)"
        )
        for name, ours, theirs in zip(names, found.T, reference.T, strict=True):
            p = scipy.stats.ks_2samp(ours, theirs).pvalue
            low, middle, high = np.percentile(ours, [5, 50, 95])
            print(f"{name:24}{ours.mean():9.3f}{ours.std():9.3f}{low:9.3f}{middle:9.3f}{high:9.3f}  {p:.2f}")
            assert p > 1e-3
    acceptance = [oracles.shake_from_words(shake_words(2016, index))[1] for index in range(others // 3)]
    assert 0.3 < 1 / (1 + np.mean(acceptance)) < 0.5  # "about two draws in five pass"


def test_control_points_and_weights_are_drawn_fairly():
    """What the set of pixels does not show: weights have the clipped normal's distribution."""
    weights = np.concatenate([k[k > 0] * (k > 0).sum() for k in kernels.camera_shake(400, seed=8).numpy()])
    normal = np.maximum(0, 1 + 0.5 * np.random.default_rng(1).standard_normal(20000))
    normal = normal[normal > 0]
    assert scipy.stats.ks_2samp(weights, normal / normal.mean()).statistic < 0.03


# Banks


BANKS = {
    "test": "ab81dd6a1960d7ae56a9e1c543624738e556f5c5152740a98dd18a473f73d8bd",
    "train": "3716969bf8a7e4fde04564f3888909a770c08d2ad8f8e76a1a755285873b2f8f",
}


def test_banks_have_their_sizes():
    assert kernels.BANK_SIZES == {"test": 100, "train": 10_000}
    assert kernels.shake_bank("test").shape == (100, 17, 17)
    assert kernels.shake_bank("train").shape == (10_000, 17, 17)


@pytest.mark.parametrize("bank", ["test", "train"])
def test_banks_are_pinned(bank):
    """SHA-256 of the float64 entries, little-endian: no version of NumPy changes a bank."""
    entries = kernels.shake_bank(bank).numpy().astype("<f8").tobytes()
    assert hashlib.sha256(entries).hexdigest() == BANKS[bank]


def test_banks_are_disjoint_and_hold_no_kernel_twice():
    distinct = {k.tobytes() for bank in ("test", "train") for k in kernels.shake_bank(bank).numpy()}
    assert len(distinct) == 10_100


def test_no_kernel_of_a_bank_has_the_pixels_of_the_others():
    """Not even with other weights."""
    shapes = {(k > 0).tobytes() for bank in ("test", "train") for k in kernels.shake_bank(bank).numpy()}
    assert len(shapes) == 10_100


@pytest.mark.parametrize("bank", ["test", "train"])
def test_kernel_of_a_bank_is_the_bank_at_its_index(bank):
    whole = kernels.shake_bank(bank)
    for index in (0, 1, 17, 99, len(whole) - 1):
        assert torch.equal(kernels.bank_kernel(index, bank), whole[index])
        check_kernel(whole[index], shift=0.5 + 1e-9)
    sums = whole.sum((1, 2))
    assert float((sums - 1).abs().max()) < 1e-12
    assert float(whole.min()) >= 0


def test_a_caller_cannot_change_a_bank():
    kernel = kernels.bank_kernel(5)
    before = kernel.clone()
    kernel.zero_()
    assert torch.equal(kernels.bank_kernel(5), before)
    bank = kernels.shake_bank("test")
    bank.zero_()
    assert torch.equal(kernels.shake_bank("test")[5], before)


@pytest.mark.parametrize("index", [-1, 100, 10**9])
def test_bank_index_out_of_range(index):
    with pytest.raises(ValueError, match="`index`"):
        kernels.bank_kernel(index, "test")


def test_unknown_bank():
    with pytest.raises(ValueError, match=r"`bank`.*'tset'"):
        kernels.shake_bank("tset")
    with pytest.raises(ValueError, match="`bank`"):
        kernels.bank_kernel(0, "validation")


# Resampling


@given(
    kernel=st.one_of(
        RADII.map(kernels.disk),
        BOXES.map(kernels.box),
        st.integers(0, 99).map(kernels.bank_kernel),
        st.builds(kernels.line, LENGTHS, ANGLES),
    ),
    scale=st.floats(0.05, 8),
)
def test_resampled_kernels(kernel, scale):
    x, y = oracles.centroid(kernel.numpy())
    found = check_kernel(kernels.resample(kernel, scale), shift=np.inf)
    # Sharing a tap of side s by area moves it by up to (1 - s) / 2 below s = 1, and above by up to
    # (s - 1) (2 - s) / (2 s), which is largest at the square root of 2.
    shift = (1 - scale) / 2 + 1e-9 if scale < 1 else 1.5 - math.sqrt(2) + 1e-9
    np.testing.assert_allclose(oracles.centroid(found), (x * scale, y * scale), rtol=0, atol=shift)
    for angle in (0, 90):
        # A point is s / sqrt(12) from its tap (root mean square), and at most 1/2 from its pixel's centre.
        before, after = (math.sqrt(oracles.variance(k, angle)) for k in (kernel.numpy(), found))
        assert abs(after - scale * before) <= scale / math.sqrt(12) + 0.5


@given(st.integers(0, 99))
def test_resampling_by_one_is_nothing(index):
    kernel = kernels.bank_kernel(index)
    assert_same(kernels.resample(kernel, 1.0).numpy(), kernel.numpy(), 1e-15)


def test_a_resampled_tap_is_a_square():
    share = np.array([1, 4, 1]) / 6
    np.testing.assert_allclose(kernels.resample(kernels.disk(0), 1.5), np.outer(share, share), atol=1e-15)


def test_resampling_by_an_odd_factor_repeats_taps():
    kernel = kernels.bank_kernel(2).numpy()
    repeated = np.kron(kernel, np.full((3, 3), 1 / 9))
    assert_same(kernels.resample(torch.from_numpy(kernel), 3.0).numpy(), repeated, 1e-12)


# Bad input


NUMBERS = {
    "radius": lambda value: kernels.disk(value),
    "length": lambda value: kernels.line(value),
    "sigma": lambda value: kernels.gaussian(value),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, -math.inf, 1e6, 10**30])
def test_bad_values(name, value):
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        NUMBERS[name](value)
    assert str(value) in str(error.value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["8", None, [1.0], 1j, True])
def test_bad_kinds(name, value):
    with pytest.raises(TypeError, match=f"`{name}`"):
        NUMBERS[name](value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [np.float32(2.0), np.int64(2), 2])
def test_numbers_of_numpy_are_numbers(name, value):
    assert torch.equal(NUMBERS[name](value), NUMBERS[name](2.0))


@pytest.mark.parametrize("value", [0, -4, 10**9])
def test_bad_box_lengths(value):
    with pytest.raises(ValueError, match=f"`length`.*{value}"):
        kernels.box(value)


@pytest.mark.parametrize("value", [4.5, "4", None, True, math.nan])
def test_bad_box_kinds(value):
    with pytest.raises((TypeError, ValueError), match="`length`"):
        kernels.box(value)


@pytest.mark.parametrize("angle", [math.nan, math.inf])
def test_bad_angle(angle):
    with pytest.raises(ValueError, match="`angle`"):
        kernels.line(4, angle)


@pytest.mark.parametrize("truncate", [-1, math.nan, math.inf, 0])
def test_bad_truncation(truncate):
    if truncate == 0:
        return
    with pytest.raises(ValueError, match="`truncate`"):
        kernels.gaussian(2, truncate=truncate)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"count": -1}, "count"),
        ({"size": 16}, "size"),
        ({"size": 13}, "size"),
        ({"size": -17}, "size"),
        ({"grid": 0}, "grid"),
        ({"control_points": 1}, "control_points"),
        ({"control_points": 0}, "control_points"),
    ],
)
def test_bad_shake_settings(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        kernels.camera_shake(**{"count": 1, "seed": 0, **arguments})


@pytest.mark.parametrize(
    "arguments", [{"count": 1.5}, {"grid": "15"}, {"size": None}, {"control_points": 6.5}, {"seed": 0.5}]
)
def test_bad_shake_kinds(arguments):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"`{name}`"):
        kernels.camera_shake(**{"count": 1, "seed": 0, **arguments})


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, 1e9])
def test_bad_scales(scale):
    with pytest.raises(ValueError, match="`scale`"):
        kernels.resample(kernels.disk(2), scale)


@given(st.floats(0, 3), st.floats(0, 3))
def test_more_blur_is_wider(first, second):
    assume(abs(first - second) > 1e-3)
    small, large = sorted((first, second))
    for kernel in (lambda r: kernels.disk(r, antialias=True), kernels.gaussian):
        assert oracles.variance(kernel(small).numpy()) <= oracles.variance(kernel(large).numpy()) + 1e-9


# Messages


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: kernels.disk(-1), "`radius` must be a finite number of pixels from 0 to 1024, got -1"),
        (lambda: kernels.disk(math.nan), "a finite number of pixels, got nan"),
        (lambda: kernels.line(3, -math.inf), "a finite number of degrees, at least -1e+06, got -inf"),
        (lambda: kernels.line(3, 2e6), "a finite number of degrees, at most 1e+06, got 2000000.0"),
        (lambda: blurs.Disk(4).kernel(0), "a finite number of times, above 0, got 0"),
        (lambda: blurs.Shake(100), "`index` must be a whole number from 0 to 99, got 100"),
        (lambda: kernels.camera_shake(-1, seed=0), "`count` must be a whole number, at least 0, got -1"),
        (lambda: blurs.shake_of_image(-1), "`index` must be a whole number, at least 0, got -1"),
        (lambda: blurs.shake_of_image(2**63), f"a whole number, at most 2**62, got {2**63}"),
        (lambda: kernels.camera_shake(1, seed=2**64), "a 64-bit integer, from -2**63 to 2**64 - 1, got"),
        (
            lambda: checks.check_integer("seed", 2**64, low=-(2**63), high=2**64 - 1),
            f"a whole number, at most 2**64 - 1, got {2**64}",
        ),
        (
            lambda: checks.check_integer("seed", -(2**64), low=-(2**63), high=2**64 - 1),
            f"a whole number, at least -2**63, got -{2**64}",
        ),
        (lambda: parse_mix({"sharp": 0.0, "D2": 1.0}), "parts of 1, above 0 and at most 1, got 0.0"),
    ],
)
def test_an_error_tells_a_range_that_can_be_read(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


WHOLE = {
    "index of a bank": lambda number: kernels.bank_kernel(number),
    "Shake": lambda number: blurs.Shake(number),
    "shake_of_image": lambda number: blurs.shake_of_image(number),
    "box": lambda number: kernels.box(number),
    "Box": lambda number: blurs.Box(number),
    "count": lambda number: kernels.camera_shake(number, seed=0),
    "seed": lambda number: kernels.camera_shake(1, seed=number),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_whole_numbers_are_never_cut_off(make):
    for number in (1.0, 1.9, "1", np.float64(1), True, None, torch.tensor(1.5)):
        with pytest.raises(TypeError, match=r"must (be a|hold) whole number"):
            make(number)
    for number in (np.int64(1), np.uint8(1)):
        found, expected = make(number), make(1)
        assert repr(found) == repr(expected)
