"""The size that a network stands, on reports with a known answer and on networks that see what they see."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from torch import nn

import blurlib
from blurlib import Camera, Tolerance, tolerance
from blurlib._tolerance import _result
from blurlib._tolerance._curves import crossings, falling, falling_curve
from blurlib.metrics import ImageValues
from blurlib.reporting import Record, Report
from images import Stripes, stripes

SIZES = [0.75, 1, 2, 3, 4, 6, 8]


def report_of(limits, sizes=SIZES, classes=4, name="D{:g}a"):
    """Images of which each is right up to a size of its own."""
    limits, count = np.asarray(limits, dtype=float), len(limits)
    nothing = np.zeros(count)

    def record(blur, right):
        bits = right.astype(np.uint8)
        values = ImageValues(
            ids=np.arange(count).astype(str), label=np.arange(count) % classes, correct=bits, correct5=bits,
            entropy=nothing, cross_entropy=nothing, confidence=nothing,
        )  # fmt: skip
        return Record.of(values, blur=blur, sides=(64,))

    records = [record("sharp", limits >= 0)]
    records += [record(name.format(size), limits >= size) for size in sizes]
    return Report(records=tuple(records), settings={"canonical_side": 384})


# Curves


@pytest.mark.parametrize("count", [2, 3, 9])
def test_falling_curves_are_those_of_scikit_learn(count):
    values = np.random.default_rng(count).normal(size=(20, count)) - np.linspace(0, 1, count)
    expected = [IsotonicRegression(increasing=False).fit_transform(np.arange(count), row) for row in values]
    assert np.allclose(falling(values), expected)


def test_a_curve_goes_through_what_falls_and_never_rises():
    sizes, values = [0, 1, 2, 4, 8], np.array([[0.9, 0.88, 0.7, 0.3, 0.25]])
    assert np.allclose(falling_curve(sizes, values, np.array(sizes)), values)
    assert (np.diff(falling_curve(sizes, values, np.linspace(0, 8, 999))) <= 1e-12).all()


def test_crossings():
    sizes = [0.0, 2.0, 4.0]
    values = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.9], [1.0, 0.2, 0.9]])
    found = crossings(sizes, values, np.array([0.5, 0.9, 0.9, 0.9]))
    assert found[0] == pytest.approx(2.0, abs=0.01)
    assert np.isinf(found[1]) and np.isinf(found[2])
    assert 0 < found[3] < 2  # the later rise is pooled with the dip


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025])
def test_crossings_do_not_depend_on_the_block(count):
    values = np.sort(np.random.default_rng(0).random((count, 5)))[:, ::-1]
    every = crossings(range(5), values, values[:, 0] * 0.8)
    alone = [crossings(range(5), row[None], row[:1] * 0.8)[0] for row in values[:: max(1, count // 7)]]
    assert np.array_equal(every[:: max(1, count // 7)], alone)


# Of a report


def test_the_size_of_a_known_curve():
    limits = np.linspace(0, 8, 401)  # the share that is right falls from 1 to 0 in a straight line
    found = Tolerance.from_report(report_of(limits), kinds=["defocus"], target=0.6)["defocus"]
    assert found.size == pytest.approx(0.4 * 8, abs=0.05)
    assert found.at(5) == pytest.approx(1 - 5 / 8, abs=0.01)
    assert found.values[0] == 1


def test_the_interval_is_that_of_scipy():
    rng = np.random.default_rng(1)
    limits = rng.uniform(-1, 8, 200)
    found = Tolerance.from_report(report_of(limits), kinds=["defocus"], target=0.7)["defocus"]

    def size(sample):
        values = np.array([[(sample >= s).mean() for s in [0, *SIZES]]])
        return crossings([0, *SIZES], values, 0.7 * values[:, 0])[0]

    expected = stats.bootstrap(
        (limits,), size, confidence_level=0.9, n_resamples=999, method="percentile", rng=rng, vectorized=False
    ).confidence_interval
    assert found.interval[0] == pytest.approx(expected.low, abs=0.15)
    assert found.interval[1] == pytest.approx(expected.high, abs=0.15)
    assert found.interval[0] < found.size < found.interval[1]


def test_halves_agree_with_the_whole(monkeypatch):
    limits = np.random.default_rng(3).normal(3, 2, 400)
    whole = Tolerance.from_report(report_of(limits), kinds=["defocus"], target=0.9)["defocus"]
    at_or_below = 0
    monkeypatch.setattr(_result, "_RESAMPLES", 200)
    for seed in range(20):
        half = np.random.default_rng(seed).permutation(limits)[:200]
        found = Tolerance.from_report(report_of(half), kinds=["defocus"], target=0.9)["defocus"]
        at_or_below += found.interval[0] <= whole.size
    assert at_or_below >= 18


def test_a_kind_that_never_fails():
    found = Tolerance.from_report(report_of(np.full(40, 99.0)), kinds=["defocus"])
    assert found["defocus"].size is None
    assert found["defocus"].interval == (None, None)
    assert "at least 8" in str(found)


def test_a_kind_of_which_few_resamples_fail():
    limits = np.full(60, 99.0)
    limits[:4] = 5  # 93 % at the largest size
    found = Tolerance.from_report(report_of(limits), kinds=["defocus"], target=0.93)["defocus"]
    assert found.size is None
    assert found.interval[0] is not None and found.interval[1] is None


def test_reports_without_the_sizes():
    report = report_of(np.linspace(0, 8, 40))
    with pytest.raises(
        ValueError, match=r"`report` must have sharp images and sizes of motion, such as L8@any"
    ):
        Tolerance.from_report(report, kinds=["motion"])
    bare = Report(records=[Record(**{**vars(record), "images": None}) for record in report.records])
    with pytest.raises(ValueError, match="`report` must have the values of its images"):
        Tolerance.from_report(bare, kinds=["defocus"])


# The result


def test_it_is_kept_and_read(tmp_path):
    found = Tolerance.from_report(report_of(np.linspace(0, 8, 40)), kinds=["defocus"])
    text = found.to_json(tmp_path)
    assert Tolerance.load(tmp_path) == Tolerance.load(tmp_path / "tolerance.json") == found
    assert json.loads(text)["kinds"][0]["kind"] == "defocus"
    changed = (tmp_path / "tolerance.json").read_text().replace('"target": 0.95', '"target": 0.5')
    (tmp_path / "tolerance.json").write_text(changed)
    with pytest.raises(ValueError, match="its content has changed since"):
        Tolerance.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Tolerance\.to_json"):
        Tolerance.load(tmp_path / "other.json")


def test_before_and_after_in_the_words_of_a_camera():
    sizes = [2, 4, 8, 16]
    before, after = (
        Tolerance.from_report(
            report_of(np.linspace(0, end, 81), sizes=sizes, name="L{:g}@any"), kinds=["motion"], target=0.5
        )
        for end in (8, 16)
    )
    camera = Camera(focal_px=400, exposure_s=0.01, distance_m=2)
    table = after.table(before, camera=camera)
    assert "before: px at 50 % of sharp top-1" in table
    assert "4.05 [" in table and "8.10 [" in table
    assert "2 m/s, 58 °/s; after 4 m/s, 116 °/s" in table
    with pytest.raises(ValueError, match="`before` must have the target of the other"):
        after.table(Tolerance(**{**vars(before), "target": 0.9}))
    with pytest.raises(ValueError, match="`before` must have measured motion too"):
        after.table(Tolerance(**{**vars(before), "kinds": ()}))
    with pytest.raises(KeyError, match="`kind` must be one of those measured, motion"):
        after["shake"]
    with pytest.raises(ValueError, match="`size` must be from 0 to 16 px"):
        after["motion"].at(17)


# The measurement


SMALL = {
    "canonical_side": 64, "scales": 64, "crop": 64, "mean": (0.0,) * 3, "std": (1.0,) * 3,
    "device": "cpu", "workers": 0, "progress": False,
}  # fmt: skip


def test_the_sizes_lie_around_the_crossing(tmp_path, monkeypatch):
    photographs = stripes()
    monkeypatch.setattr(_result, "_RESAMPLES", 100)
    found = tolerance(Stripes(), photographs, target=0.8, output=tmp_path, **SMALL)
    assert [each.kind for each in found.kinds] == ["defocus", "motion", "shake"]
    for each in found.kinds:
        assert each.size is not None
        above = next(number for number, size in enumerate(each.sizes) if size >= each.size)
        step = {"defocus": 0.25, "motion": 0.5, "shake": 4}[each.kind]
        assert each.sizes[above] - each.sizes[above - 1] <= max(0.07 * each.sizes[above], step)
        dense = {
            "defocus": [f"D{size:g}a" for size in np.arange(0.75, each.largest, 0.25)],
            "motion": [f"L{size:g}@any" for size in np.arange(1.5, each.largest, 0.5)],
            "shake": [str(blurlib.blurs.PerImageShake(size)) for size in range(5, int(each.largest), 2)],
        }[each.kind]
        sweep = blurlib.evaluate(Stripes(), photographs, blurs=["sharp", *dense], **SMALL)
        exact = Tolerance.from_report(sweep, kinds=[each.kind], target=0.8)[each.kind]
        assert each.size == pytest.approx(exact.size, abs=0.5 if each.kind != "shake" else 2)
    assert found.settings["views"] >= found.count * (1 + 3 * 4)
    assert Tolerance.load(tmp_path) == found
    assert {path.name for path in tmp_path.iterdir()} >= {"pilot", "sizes", "tolerance.json"}
    again = tolerance(
        Stripes(), photographs, target=0.8, kinds="defocus", output=tmp_path, overwrite=True, **SMALL
    )
    assert again.kinds == found.kinds[:1]


def test_a_network_that_stands_everything():
    photographs = [
        (Image.new("RGB", (32, 32), colour), i % 2) for i, colour in enumerate(["red", "blue"] * 8)
    ]

    class Colour(nn.Module):
        def forward(self, images):
            return images[:, [0, 2]].mean((2, 3))

    settings = {**SMALL, "canonical_side": 32, "scales": 32, "crop": 32}
    found = tolerance(Colour(), photographs, kinds="gaussian", **settings)
    assert found["gaussian"].text == "at least 16"


def test_segmentation():
    rng = np.random.default_rng(0)

    class Bright(nn.Module):
        def forward(self, images):
            grey = images.mean(1, keepdim=True)
            return torch.cat([0.5 - grey, grey - 0.5], dim=1)

    pairs = []
    for _ in range(12):
        mask = np.kron(rng.integers(0, 2, (8, 8)), np.ones((8, 8))).astype(np.uint8)
        pairs.append((Image.fromarray(mask * 255).convert("RGB"), Image.fromarray(mask)))
    colours = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "device": "cpu", "workers": 0, "progress": False}
    found = tolerance(
        Bright(), pairs, task="segmentation", kinds=["defocus"], canonical_side=64, scales=64, **colours
    )
    assert found.metric.name == "miou"
    assert found["defocus"].size < 4
    assert "sharp mIoU" in found.table()


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"target": 1.0}, ValueError, "`target`"),
        ({"target": 0.0}, ValueError, "`target`"),
        ({"target": "high"}, TypeError, "`target`"),
        (
            {"target": 0.4},
            ValueError,
            r"`target` must be above 0\.\d\d, where top-1 is that of chance, 50\.0 %",
        ),
        ({"kinds": ()}, ValueError, "`kinds` must name at least one kind"),
        ({"kinds": ("motion", "motion")}, ValueError, "`kinds` must name at least one kind, each once"),
        (
            {"kinds": "zoom"},
            ValueError,
            "`kinds` must be one of defocus, motion, shake, gaussian, got 'zoom'",
        ),
        ({"blurs": "D4"}, TypeError, "`blurs` must be left out, got 'D4'; `kinds` chooses them"),
        ({"scales": (32, 64)}, ValueError, "`scales` must be one setting, got 2"),
        ({"limit": 1}, ValueError, "`root` must have at least 10 images for an interval, got 1"),
        ({"batchsize": 3}, TypeError, "batchsize"),
    ],
)
def test_bad_input(changed, error, words):
    with pytest.raises(error, match=words):
        tolerance(Stripes(), stripes(), **{"kinds": "defocus", **SMALL, **changed})


def test_a_network_no_better_than_chance():
    flat = [(Image.new("RGB", (64, 64), (90, 90, 90)), i % 2) for i in range(12)]
    with pytest.raises(
        ValueError, match=r"`model` must be better than chance on sharp images, top-1 50\.0 %"
    ):
        tolerance(Stripes(), flat, **SMALL)


def test_another_measurement_in_the_folder(tmp_path):
    tolerance(Stripes(), stripes(), kinds="defocus", output=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="`output` must hold no report of another evaluation"):
        tolerance(Stripes(), stripes(), kinds="defocus", output=tmp_path, **{**SMALL, "seed": 1})
