"""Blurs as values: names that read back, kernels, mixes, and what is said about names that mean nothing."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import oracles
from blurlib import blurs, kernels
from blurlib.blurs import Box, Disk, Gaussian, Line, PerImageLine, PerImageShake, Shake, Sharp
from blurlib.notation import parse, parse_list, parse_mix
from images import examples

LENGTHS = st.floats(0, 1000)
SIDES = st.integers(1, 256).map(lambda half: 2 * half + 1)
BLURS = st.one_of(
    st.just(Sharp()),
    st.builds(PerImageShake, SIDES),
    st.builds(Disk, LENGTHS, st.booleans()),
    st.builds(Box, st.integers(1, 2048), st.booleans()),
    st.builds(Line, LENGTHS, st.floats(-1e6, 1e6)),
    st.builds(PerImageLine, LENGTHS),
    st.builds(Gaussian, st.floats(0, 200)),
    st.builds(Shake, st.integers(0, 99), size=SIDES),
    st.builds(Shake, st.integers(0, 9999), st.just("train")),
)
SMALL = st.one_of(
    st.just(Sharp()),
    st.builds(Disk, st.floats(0, 12), st.booleans()),
    st.builds(Box, st.integers(1, 30), st.booleans()),
    st.builds(Line, st.floats(0.01, 30), st.floats(-360, 360)),
    st.builds(Gaussian, st.floats(0, 8)),
    st.builds(Shake, st.integers(0, 99)),
    st.builds(Shake, st.integers(0, 9999), st.just("train")),
)


# Names


@examples(4)
@given(blur=BLURS)
@example(blur=Disk(2.5, antialias=True))
@example(blur=Disk(1e-7))
@example(blur=Disk(0.1 + 0.2))
@example(blur=Line(1e-300, -1e6))
@example(blur=Line(12, -30))
@example(blur=Gaussian(1e-5))
@example(blur=Disk(0.0))
@example(blur=Disk(-0.0))
def test_text_and_parse_are_inverse(blur):
    again = parse(str(blur))
    assert again == blur
    assert type(again) is type(blur)
    assert str(again) == str(blur)
    assert hash(again) == hash(blur)
    assert parse(blur) is blur


@pytest.mark.parametrize(
    ("text", "blur"),
    [
        ("sharp", Sharp()),
        ("D4", Disk(4)),
        ("D4a", Disk(4, antialias=True)),
        ("D2.5a", Disk(2.5, antialias=True)),
        ("H8", Box(8)),
        ("V8", Box(8, vertical=True)),
        ("L12@30", Line(12, 30)),
        ("G4", Gaussian(4)),
        ("S17", Shake(17)),
        ("S17@train", Shake(17, "train")),
        ("S17@41", Shake(17, size=41)),
        ("S17@train@41", Shake(17, "train", size=41)),
        ("L12@any", PerImageLine(12)),
        ("shake", PerImageShake()),
        ("shake@41", PerImageShake(41)),
    ],
)
def test_short_names_of_the_documentation(text, blur):
    assert parse(text) == blur
    assert str(blur) == text
    assert blurs.describe(blur)


@given(blur=BLURS)
def test_blurs_are_values(blur):
    assert pickle.loads(pickle.dumps(blur)) == blur
    assert eval(repr(blur), vars(blurs)) == blur
    assert {blur: 1}[parse(str(blur))] == 1
    for field in dataclasses.fields(blur):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(blur, field.name, getattr(blur, field.name))


@given(first=BLURS, second=BLURS)
def test_different_blurs_have_different_names(first, second):
    assert (first == second) == (str(first) == str(second))


def test_whole_numbers_and_floats_are_one_value():
    assert Disk(4) == Disk(4.0)
    assert str(Disk(4.0)) == "D4"
    assert str(Disk(np.float64(4))) == "D4"
    assert repr(Disk(np.float64(4))) == repr(Disk(4))


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("Sharp", "sharp"),
        ("d4", "D4"),
        ("disk4", "D4"),
        ("shak", "shake"),
        ("shrap", "sharp"),
        ("g4", "G4"),
        ("h8", "H8"),
    ],
)
def test_unknown_names_suggest_the_nearest(text, nearest):
    """Either the name is understood for what it can only mean, or the error says what was meant."""
    with pytest.raises(ValueError, match=nearest) as error:
        parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "D", "Da", "D-4", "D4b", "Dnan", "Dinf", "D1e9", "H4.5", "H0", "H-1", "L@30", "L12@",
     "L12@nan", "Gx", "G-1", "S100", "S-1", "S1.5", "S17@tset", "S10000@train", "D4 D8", "X9", "D1_0", "D 4"],
)  # fmt: skip
def test_bad_names(text):
    with pytest.raises(ValueError, match=r"`|blur"):
        parse(text)


@pytest.mark.parametrize("value", [4, None, 4.0, ["D4"], b"D4"])
def test_names_of_another_kind(value):
    with pytest.raises(TypeError):
        parse(value)


@pytest.mark.parametrize("radius", [-1, math.nan, math.inf, 1e9])
def test_bad_values(radius):
    for kind, name in ((Disk, "radius"), (Line, "length"), (Gaussian, "sigma")):
        with pytest.raises(ValueError, match=f"`{name}`"):
            kind(radius)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Disk("4"),
        lambda: Disk(None),
        lambda: Disk(True),
        lambda: Box(4.5),
        lambda: Box("4"),
        lambda: Line(4, "30"),
        lambda: Gaussian([4]),
        lambda: Shake("17"),
        lambda: Shake(1.5),
    ],
)
def test_bad_kinds(build):
    with pytest.raises(TypeError, match="`"):
        build()


@pytest.mark.parametrize(
    "build",
    [lambda: Box(0), lambda: Box(-3), lambda: Box(9999), lambda: Line(4, math.inf), lambda: Line(4, math.nan),
     lambda: Shake(1, size=16), lambda: Shake(1, size=1), lambda: PerImageShake(515),
     lambda: PerImageLine(-1),
     lambda: Shake(-1), lambda: Shake(100), lambda: Shake(10_000, "train"), lambda: Shake(1, "tests")],
)  # fmt: skip
def test_bad_settings(build):
    with pytest.raises(ValueError, match="`"):
        build()


# Kernels


def test_kernels_are_those_of_the_functions():
    pairs = [
        (Sharp(), torch.ones((1, 1), dtype=torch.float64)),
        (Disk(3.3), kernels.disk(3.3)),
        (Disk(3.3, antialias=True), kernels.disk(3.3, antialias=True)),
        (Box(8), kernels.box(8)),
        (Box(8, vertical=True), kernels.box(8, vertical=True)),
        (Line(12, 30), kernels.line(12, 30)),
        (Gaussian(4), kernels.gaussian(4)),
        (Shake(17), kernels.bank_kernel(17, "test")),
        (Shake(17, "train"), kernels.bank_kernel(17, "train")),
        (Shake(17, size=41), kernels.bank_kernel(17, size=41)),
    ]
    for blur, kernel in pairs:
        assert torch.equal(blur.kernel(), kernel)
        assert torch.equal(blur.kernel(1.0), kernel)
        assert torch.equal(blur.kernel(scale=1), kernel)


@given(blur=SMALL, scale=st.floats(0.1, 6))
def test_scaled_kernels(blur, scale):
    kernel = blur.kernel(scale).numpy()
    assert kernel.dtype == np.float64
    assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    assert kernel.min() >= 0
    assert abs(kernel.sum() - 1) < 1e-9
    original = blur.kernel().numpy()
    for angle in (0, 90):  # as wide as the scaled kernel, but for a pixel on either grid
        before, after = (math.sqrt(oracles.variance(k, angle)) for k in (original, kernel))
        assert abs(after - scale * before) <= 0.5 * scale + 0.6


@pytest.mark.parametrize("blur", [Disk(4), Disk(4, antialias=True), Gaussian(2), Line(9, 20)])
def test_a_parametric_blur_scales_its_parameter(blur):
    first, *rest = dataclasses.astuple(blur)
    assert torch.equal(blur.kernel(2.5), type(blur)(2.5 * first, *rest).kernel())


def test_a_scaled_box_is_the_centred_line():
    assert torch.equal(Box(8).kernel(2.0), kernels.line(16))
    assert torch.equal(Box(8, vertical=True).kernel(2.0), kernels.line(16, 90))


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, 1e12])
@pytest.mark.parametrize("blur", [Disk(4), Box(4), Line(4), Gaussian(4), Shake(4)])
def test_bad_scales(blur, scale):
    with pytest.raises(ValueError, match="`scale`"):
        blur.kernel(scale)


def test_kept_kernels_are_those_of_the_blurs():
    for blur in (
        Disk(3.5, antialias=True),
        Box(9, vertical=True),
        Line(12, 30),
        Gaussian(1.5),
        Shake(3),
        Sharp(),
    ):
        for scale in (1.0, 0.5):
            kept = blurs.cached_kernel(blur, scale)
            assert torch.equal(kept, blur.kernel(scale))
            assert kept is blurs.cached_kernel(blur, scale)
            assert blur.kernel(scale) is not kept  # what a user gets may be written to
    with pytest.raises(ValueError, match=r"shake_of_image|image"):
        blurs.cached_kernel(blurs.PerImageShake())


def test_kernels_of_kinds_that_others_made_are_not_kept():
    class Moody(Disk):
        def kernel(self, scale=1.0):
            calls.append(scale)
            return super().kernel(scale)

    calls = []
    for _ in range(2):
        blurs.cached_kernel(Moody(2))
    assert calls == [1.0, 1.0]


@pytest.mark.parametrize(
    ("blur", "named"),
    [(PerImageShake(), "S93"), (PerImageShake(9), "S93@9"), (PerImageLine(9), "L9@104.7")],
)
def test_blurs_of_each_image_have_no_kernel_before_an_image_is_named(blur, named):
    with pytest.raises(
        ValueError, match=f"only for a given image; name one kernel instead, for example {named}"
    ):
        blur.kernel()


# An image's own kernel


def test_own_shake_is_a_fair_assignment_of_the_test_bank():
    shakes = [blurs.shake_of_image(index) for index in range(1000)]
    assert {shake.bank for shake in shakes} == {"test"}
    counts = np.bincount([shake.index for shake in shakes], minlength=100)
    assert counts.tolist() == [10] * 100
    order = [shake.index for shake in shakes[:100]]
    assert order != sorted(order)
    assert abs(scipy.stats.spearmanr(range(1000), [shake.index for shake in shakes]).statistic) < 0.1


@given(index=st.integers(0, 10**7), seed=st.integers(0, 2**63))
def test_own_shake_depends_on_the_image_and_the_seed_alone(index, seed):
    assert blurs.shake_of_image(index, seed=seed) == blurs.shake_of_image(index, seed=seed)


def test_own_angles_are_uniform():
    angles = [PerImageLine(9).of_image(index).angle for index in range(2000)]
    assert scipy.stats.kstest(angles, scipy.stats.uniform(0, 180).cdf).pvalue > 0.01
    assert PerImageLine(9).of_image(5, seed=1) != PerImageLine(9).of_image(5)
    assert PerImageLine(9).of_image(5).angle == PerImageLine(4).of_image(5).angle


@pytest.mark.parametrize("size", [3, 5, 15, 19, 33])
def test_shakes_of_other_sizes_are_those_of_the_generator(size):
    seeds = {"test": 0x7E57_0001, "train": 0x72A1_0001}
    for bank, seed in seeds.items():
        expected = kernels.camera_shake(4, seed=seed, grid=size - 2, size=size)
        for index in range(4):
            assert torch.equal(Shake(index, bank, size=size).kernel(), expected[index])
    assert PerImageShake(size).of_image(7) == Shake(blurs.shake_of_image(7).index, size=size)


def test_own_shake_depends_on_the_seed():
    first, second = ([blurs.shake_of_image(i, seed=seed).index for i in range(100)] for seed in (0, 1))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 20


@pytest.mark.parametrize(
    ("index", "kind"), [(-1, ValueError), (1.5, TypeError), ("3", TypeError), (None, TypeError)]
)
def test_own_shake_of_no_image(index, kind):
    with pytest.raises(kind, match="`index`"):
        blurs.shake_of_image(index)


# Lists and mixes


def test_lists():
    expected = (Sharp(), Disk(4), PerImageShake())
    assert parse_list("sharp, D4, shake") == expected
    assert parse_list("sharp,D4,  shake ") == expected
    assert parse_list(["sharp", Disk(4), "shake"]) == expected
    assert parse_list(expected) == expected
    assert parse_list(Disk(4)) == (Disk(4),)
    assert parse_list("D4") == (Disk(4),)


@given(st.lists(BLURS, min_size=1, max_size=5, unique=True))
def test_list_and_text_are_inverse(values):
    assert parse_list(", ".join(map(str, values))) == tuple(values)


@pytest.mark.parametrize("text", ["", [], "sharp, D4, sharp", "D4 D8", ["D4", Disk(4)]])
def test_bad_lists(text):
    with pytest.raises(ValueError, match=r"`|blur"):
        parse_list(text)


def test_mixes():
    equal = parse_mix("sharp + D2 + D4 + D6 + D8")
    assert equal == dict.fromkeys((Sharp(), Disk(2), Disk(4), Disk(6), Disk(8)), 0.2)
    assert parse_mix("0.2 sharp + 0.8 shake") == {Sharp(): 0.2, PerImageShake(): 0.8}
    assert parse_mix({"sharp": 0.2, Disk(4): 0.8}) == {Sharp(): 0.2, Disk(4): 0.8}
    assert parse_mix("D4") == {Disk(4): 1}
    assert parse_mix(Disk(4)) == {Disk(4): 1}
    assert parse_mix("0.5 L12@30+0.5 D2.5a") == {Line(12, 30): 0.5, Disk(2.5, antialias=True): 0.5}


@given(st.lists(BLURS, min_size=1, max_size=6, unique=True), st.data())
def test_shares_sum_to_one(values, data):
    weights = data.draw(st.lists(st.integers(1, 1000), min_size=len(values), max_size=len(values)))
    shares = [weight / sum(weights) for weight in weights]
    mix = parse_mix(" + ".join(f"{share!r} {blur}" for share, blur in zip(shares, values, strict=True)))
    assert list(mix) == values
    assert abs(sum(mix.values()) - 1) < 1e-12
    np.testing.assert_allclose(list(mix.values()), shares, atol=1e-12)
    assert parse_mix(dict(zip(values, shares, strict=True))) == mix


@pytest.mark.parametrize(
    "mix",
    [
        "",
        "0.2 sharp + 0.7 shake",
        "0.2 sharp + shake",
        "-0.2 sharp + 1.2 shake",
        "0 sharp + 1 shake",
        "nan sharp + 1 shake",
        "sharp + sharp",
        "sharp + blurry",
        "sharp + + D4",
        {},
        {"sharp": 0.5},
        {"sharp": -1.0, "D4": 2.0},
        {"sharp": math.nan, "D4": 0.5},
        {"sharp": 0.0, "D4": 1.0},
        {"D4": 0.5, Disk(4): 0.5},
    ],
)
def test_bad_mixes(mix):
    with pytest.raises(ValueError, match=r"`|blur|share"):
        parse_mix(mix)


@pytest.mark.parametrize("mix", [3, None, {"sharp": "1"}, {3: 1.0}])
def test_mixes_of_another_kind(mix):
    with pytest.raises(TypeError):
        parse_mix(mix)


@given(blur=BLURS)
def test_descriptions_name_the_numbers(blur):
    words = blurs.describe(blur)
    assert words == words.strip()
    assert "\n" not in words
    if isinstance(blur, Disk):
        assert "disk" in words
        assert "px" in words
