"""Measured kernels and blurs of users: values, mixes, evaluations, reports and pages; text stays closed."""

from __future__ import annotations

import base64
import copy
import pickle
import re
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import blurlib
from blurlib import BlurMixSampler, Report, blurs, evaluate, finetune, kernels
from blurlib.blurs import Blur, Disk, PointSpread, describe
from blurlib.deblurring import DeblurThenClassify
from blurlib.evaluation import predictions
from blurlib.functional import apply
from blurlib.notation import parse, parse_list, parse_mix
from blurlib.reporting import blurred_figure, kept_kernels, kernels_figure
from blurlib.reporting._html.pictures import report_kernels
from images import examples

RNG = np.random.default_rng(0)
SPREAD = RNG.random((5, 7))
QUIET = {"device": "cpu", "workers": 0, "progress": False}
SEEN = {"scales": (32,), "crop": 32, "canonical_side": 48}


@dataclass(frozen=True)
class Ghost(Blur):
    """A second, fainter image to the right: a user's own class."""

    offset: int

    def kernel(self):  # without a scale, which only `apply(..., scale=...)` asks for
        kernel = torch.zeros(1, 2 * self.offset + 1, dtype=torch.float64)
        kernel[0, self.offset], kernel[0, -1] = 0.75, 0.25
        return kernel

    def __str__(self):
        return f"ghost{self.offset}"


@dataclass(frozen=True)
class Returns(Blur):
    """A user's mistake."""

    what: object = field(hash=False)

    def kernel(self, scale=1.0):
        return self.what

    def __str__(self):
        return "mistake"


class Nameless(Blur):
    def kernel(self, scale=1.0):
        return torch.ones(1, 1)


# The value


@examples(0.3)
@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]))
def test_a_point_spread_is_its_array_over_its_sum(rows, columns, dtype):
    array = np.random.default_rng(7).integers(0, 200, (2 * rows + 1, 2 * columns + 1)).astype(dtype)
    array[rows, columns] = 9
    lens = PointSpread(array, name="lens")
    found = lens.kernel()
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), array.astype(float) / array.sum(dtype=float), rtol=1e-14)
    image = torch.from_numpy(RNG.random((3, 12, 11)))
    assert torch.equal(apply(image, lens), blurlib.blur(image, found))
    found += 1  # a copy
    assert float(lens.kernel().sum()) == pytest.approx(1)


def test_a_point_spread_is_a_value():
    lens = PointSpread(SPREAD, name="lens")
    same = PointSpread(torch.from_numpy(3 * SPREAD.copy()), name="lens")
    other = SPREAD.copy()
    other[0, 0] += 1e-6
    assert lens == lens
    assert lens != PointSpread(other, name="lens") != PointSpread(other, name="lens2")
    assert lens != PointSpread(SPREAD.T, name="lens")
    assert lens != Disk(4)
    twos = PointSpread([[1, 2, 1]], name="a"), PointSpread(np.array([[2.0, 4.0, 2.0]]), name="a")
    assert twos[0] == twos[1]
    assert len(set(twos)) == 1
    assert same.name == lens.name
    for copied in (pickle.loads(pickle.dumps(lens)), copy.deepcopy(lens)):
        assert copied == lens
        assert hash(copied) == hash(lens)
        assert torch.equal(copied.kernel(), lens.kernel())
    assert str(lens) == "lens"
    assert repr(lens) == f"PointSpread(name='lens', digest={lens.digest!r})"
    assert describe(lens) == "measured kernel, 7 x 5 px"
    array = SPREAD.copy()
    kept = PointSpread(array, name="lens")
    array[:] = 0
    assert kept == lens


@pytest.mark.parametrize("scale", [0.3, 0.5, 2.0, 3.7])
def test_a_point_spread_scales_as_a_shake_does(scale):
    lens = PointSpread(SPREAD, name="lens")
    assert torch.equal(lens.kernel(scale), kernels.resample(lens.kernel(), scale))
    assert float(lens.kernel(scale).sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("array", "kind", "says"),
    [
        (np.ones((4, 5)), ValueError, "`array` must have odd height and width, got shape (4, 5); add a row"),
        (np.ones((5, 4)), ValueError, "odd height and width"),
        (np.ones((0, 5)), ValueError, "odd height and width"),
        (np.ones(5), ValueError, "`array` must be (h, w), got shape (5,)"),
        (RNG.random((5, 5, 3)), ValueError, "take one channel, such as array[..., 1] for green"),
        (np.ones((1, 2051)), ValueError, "at most 2049 rows and columns"),
        (np.full((3, 3), np.nan), ValueError, "`array` must be finite, got NaN or infinity"),
        (np.array([[1.0, -0.25, 1.0]]), ValueError, "`array` must not be negative, got -0.25; cut off"),
        (np.zeros((3, 3)), ValueError, "`array` must have a sum above 0, got zeros alone"),
        (np.ones((3, 3), complex), TypeError, "`array` must hold numbers, got complex128"),
        ([["a"]], TypeError, "`array` must hold numbers"),
    ],
)
def test_what_is_no_point_spread_is_refused(array, kind, says):
    with pytest.raises(kind) as caught:
        PointSpread(array, name="lens")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["", "my lens", "a,b", "a+b", "a\nb", "a|b"])
def test_names_are_one_word(name):
    with pytest.raises(ValueError, match=r"`name` must be of letters, digits and . _ - only"):
        PointSpread(SPREAD, name=name)
    with pytest.raises(TypeError, match=r"`name` must be a text"):
        PointSpread(SPREAD, name=3)


# Files


@pytest.mark.parametrize(("mode", "dtype", "ending"), [("L", np.uint8, "png"), ("I;16", np.uint16, "png"),
                                                       ("F", np.float32, "tiff")])  # fmt: skip
def test_images_are_read_with_all_their_levels(tmp_path, mode, dtype, ending):
    array = RNG.integers(0, 256 if dtype == np.uint8 else 60000, (5, 7)).astype(dtype)
    PIL.Image.fromarray(array).save(tmp_path / f"lens-50mm.{ending}")
    with PIL.Image.open(tmp_path / f"lens-50mm.{ending}") as image:
        assert image.mode in (mode, "I")
    found = PointSpread.load(tmp_path / f"lens-50mm.{ending}")
    assert found.name == "lens-50mm"
    assert found == PointSpread(array, name="lens-50mm")


def test_files_of_numpy_and_grey_in_colours_are_read(tmp_path):
    np.save(tmp_path / "a b.npy", SPREAD)
    with pytest.raises(ValueError, match=r"`name` must be of letters.*got 'a b'; for example name='a-b'"):
        PointSpread.load(tmp_path / "a b.npy")
    assert PointSpread.load(str(tmp_path / "a b.npy"), name="lens") == PointSpread(SPREAD, name="lens")
    grey = RNG.integers(0, 256, (5, 5), dtype=np.uint8)
    for mode in ("RGB", "RGBA"):
        PIL.Image.fromarray(grey).convert(mode).save(tmp_path / "grey.png")
        assert PointSpread.load(tmp_path / "grey.png") == PointSpread(grey, name="grey")


def test_files_that_hold_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must name a file .npy or an image, got"):
        PointSpread.load(tmp_path / "nothing.npy")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    PIL.Image.fromarray(np.eye(5, dtype=np.uint8)).convert("P").save(tmp_path / "palette.png")
    for name in ("text.png", "text.npy", "objects.npy", "palette.png"):
        with pytest.raises(ValueError, match=f"`path` must name a file .npy or a grey image, got .*{name}"):
            PointSpread.load(tmp_path / name)


# Text stays closed


def test_no_text_reads_back_to_it():
    lens = PointSpread(SPREAD, name="lens")
    assert parse(lens) is lens
    assert parse_list([lens, "D4", Ghost(2)]) == (lens, Disk(4), Ghost(2))
    assert parse_mix(Ghost(2)) == {Ghost(2): 1.0}
    for text in ("lens", "ghost2"):
        with pytest.raises(ValueError, match="`blur` must be one of the forms"):
            parse(text)


@pytest.mark.parametrize("read", [parse, parse_list, parse_mix, lambda blur: parse_mix({blur: 1.0})])
def test_what_it_is_called_must_tell_it_apart(read):
    for name in ("D4", "sharp", "L3", "S500"):
        with pytest.raises(ValueError, match=f"short name of another one, got PointSpread shown as '{name}'"):
            read(PointSpread(SPREAD, name=name))

    class Lens(Disk):  # which prints as its parent
        pass

    with pytest.raises(ValueError, match="got Lens shown as 'D3'; give it another name, or a `__str__`"):
        read(Lens(3))
    with pytest.raises(TypeError, match="one line of text that says what it is, got Nameless shown as '<"):
        read(Nameless())


def test_two_blurs_of_one_name_are_refused():
    pair = PointSpread(SPREAD, name="lens"), PointSpread(SPREAD[::-1], name="lens")
    with pytest.raises(ValueError, match="`blurs` must name each blur once, got 'lens' twice"):
        parse_list(pair)
    with pytest.raises(ValueError, match=r"got 'lens' twice; .* give one of your own another name"):
        parse_mix(dict.fromkeys(pair, 0.5))


@pytest.mark.parametrize(
    ("kernel", "kind", "says"),
    [
        (np.ones((1, 1)), TypeError, "got ndarray; torch.from_numpy makes one of an array"),
        (torch.ones(1, 1, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.full((1, 2), 0.5), ValueError, "got shape (1, 2)"),
        (torch.ones(1, 1, 1), ValueError, "got shape (1, 1, 1)"),
        (torch.ones(3, 3), ValueError, "got the sum 9; return kernel / kernel.sum()"),
        (torch.full((1, 1), torch.nan), ValueError, "got the sum nan"),
    ],
)
def test_kernels_of_users_are_checked_before_the_work(kernel, kind, says):
    blur = Returns(kernel)
    rule = "`kernel` of Returns must return a floating tensor (h, w) of odd sides with sum 1, "
    tries = (
        lambda: apply(torch.zeros(1, 3, 3), blur),
        lambda: BlurMixSampler({"sharp": 0.5, blur: 0.5}),
        lambda: evaluate(network(), photos(), blurs=[blur], **SEEN, **QUIET),
    )
    for attempt in tries:
        with pytest.raises(kind) as caught:
            attempt()
        assert str(caught.value).startswith(rule)
        assert says in str(caught.value)


# Where blurs go


def network(classes=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))


def photos(count=4):
    return [
        (PIL.Image.fromarray(np.random.default_rng(n).integers(0, 256, (50, 60, 3), dtype=np.uint8)), n % 2)
        for n in range(count)
    ]


def test_mixes_draw_them():
    lens = PointSpread(SPREAD, name="lens")
    mix = BlurMixSampler({"sharp": 0.25, lens: 0.25, Ghost(2): 0.5}, seed=3)
    drawn = {mix.draw(index) for index in range(40)}
    assert drawn == {blurs.Sharp(), lens, Ghost(2)}
    assert str(mix) == "0.25 sharp + 0.25 lens + 0.5 ghost2"
    assert f"'lens': '7 x 5 px, SHA-256 {lens.digest}'" in repr(mix)
    images = torch.from_numpy(RNG.random((8, 3, 9, 9)))
    out = mix(images, indices=range(8))
    for index in range(8):
        assert torch.allclose(out[index], blurlib.blur(images[index], mix.draw(index).kernel()), atol=1e-12)


def test_fine_tuning_on_another_lens_is_another_run(tmp_path):
    train = {"network_side": 32, "crop": 32, "canonical_side": 48, "epochs": 1, "lr": 0.1, "output": tmp_path}
    shares = {"sharp": 0.5, PointSpread(SPREAD, name="lens"): 0.5}
    first = finetune(network(), photos(), blur=shares, **train, **QUIET)
    again = finetune(network(), photos(), blur=shares, resume=True, **train, **QUIET)
    assert again.history == first.history
    other = {"sharp": 0.5, PointSpread(SPREAD.T, name="lens"): 0.5}
    with pytest.raises(ValueError, match=r"blur.*'lens': '5 x 7 px, SHA-256"):
        finetune(network(), photos(), blur=other, resume=True, **train, **QUIET)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    shown = ["sharp", "D2", PointSpread(SPREAD, name="lens"), Ghost(3)]
    return folder, evaluate(network(), photos(), blurs=shown, output=folder, **SEEN, **QUIET)


def test_a_report_shows_them_when_made_and_when_loaded(measured, tmp_path):
    folder, made = measured
    lens = PointSpread(SPREAD, name="lens")
    for report in (made, Report.load(folder)):
        assert report.blurs == ("sharp", "D2", "lens", "ghost3")
        assert report["lens"] is report[lens] is report["lens", 32]
        assert report[Ghost(3)] is report["ghost3"]
        assert report.settings["kernels"]["lens"] == f"7 x 5 px, SHA-256 {lens.digest}"
        assert [line.split()[0] for line in report.table().splitlines()[2:]] == list(report.blurs)
        with pytest.raises(ValueError, match="`blur` must be one of the forms"):
            report["lense"]
        compared = report.compare(made)
        assert compared["lens"].top1.difference == 0
        for number, other in enumerate((None, made)):
            text = report.to_html(tmp_path / f"{number}.html", before=other).read_text(encoding="utf-8")
            assert "Kernels of D2, lens and ghost3, each a small picture" in text
            assert "own kernel, 7 x 5\u00a0px" in text
            assert "Not pictured" not in text and "kernel_pictures" not in text
            assert lens.digest in text
            pictures = re.findall(r'src="(data:image/png[^"]*)" alt="kernel of (\w+)"', text)
            direct = kernels_figure(["D2", lens, Ghost(3)]).image
            assert [name for _, name in pictures] == ["D2", "lens", "ghost3"]
            assert all(uri in direct for uri, _ in pictures)


def test_a_report_without_kernels_says_what_is_not_pictured(measured, tmp_path):
    made = measured[1]
    older = Report(
        records=made.records,
        settings={name: value for name, value in made.settings.items() if name != "kernel_pictures"},
    )
    text = older.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not pictured, for the report has no kernel of theirs: lens, ghost3." in text
    assert "Kernels of D2" in text


@pytest.mark.parametrize("side", [1, 17, 19, 253, 255, 257])
@pytest.mark.parametrize("strong", [False, True])
def test_kept_kernels_are_as_large_as_needed(side, strong):
    """Of wide ones the middle is kept, where the rest is faint."""
    spread = np.full((side, 3), 1.0 if strong else 0.01)
    spread[side // 2, 1] = 2.0
    kept = kept_kernels([PointSpread(spread, name="lens"), *parse_list("D4, shake")])
    assert list(kept) == (["lens"] if side <= 255 or not strong else [])
    for text in kept.values():
        figure, absent = report_kernels(["lens"], {"kernel_pictures": kept})
        assert figure is not None and not absent
        width, levels = text.split()
        levels = np.frombuffer(base64.b64decode(levels), np.uint8).reshape(-1, int(width))
        assert levels.shape == (min(side, 255), 3)
        expected = np.rint(spread / 2 * 255)
        np.testing.assert_array_equal(levels, expected[max(0, side - 255) // 2 :][:255])


def test_pages_of_nothing_else_have_no_pictures(tmp_path):
    made = evaluate(network(), photos(), blurs=[Ghost(3)], **SEEN, **QUIET)
    text = made.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Under ghost3, " in text and "Kernels of ghost3, each a small picture" in text
    text = Report(records=made.records).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Kernels of" not in text


def test_records_tell_lenses_of_one_name_apart(measured):
    folder, made = measured
    others = ["sharp", "D2", PointSpread(SPREAD.T, name="lens"), Ghost(3)]
    with pytest.raises(ValueError, match=r"kernels\.lens \(was '7 x 5 px, SHA-256 .*, now '5 x 7 px"):
        evaluate(network(), photos(), blurs=others, output=folder, **SEEN, **QUIET)
    other = evaluate(network(), photos(), blurs=others, **SEEN, **QUIET)
    with pytest.raises(ValueError, match=r"must be evaluated as the others, got kernel 'lens' of 5 x 7 px"):
        other.compare(made)
    fewer = evaluate(network(), photos(), blurs="sharp, D2", **SEEN, **QUIET)
    assert len(fewer.compare(made).rows) == 2


def test_they_are_assumed_in_deblurring_and_seen_by_predictions():
    lens = PointSpread(SPREAD, name="lens")
    deblurring = DeblurThenClassify(network(), "wiener", lens)
    report = evaluate(deblurring, photos(), blurs=[lens, "D4"], **SEEN, **QUIET)
    assert report.settings["deblurring"]["kernels"] == report.settings["kernels"]
    plain = evaluate(DeblurThenClassify(network(), "wiener", "D4"), photos(), blurs="D4", **SEEN, **QUIET)
    assert "kernels" not in {**plain.settings, **plain.settings["deblurring"]}
    found = predictions(network(), photos()[0][0], blurs=[lens, "sharp"], canonical_side=48, side=32)
    assert [each.blur for each in found] == ["lens", "sharp"]


def test_pictures_of_values_show_them():
    figure = kernels_figure([PointSpread(SPREAD, name="lens"), Ghost(3), "D4"])
    assert figure.alt == "Kernels of lens, ghost3 and D4, each a small picture."
    image = np.zeros((24, 32, 3), np.uint8)
    assert "lens" in blurred_figure([image], [PointSpread(SPREAD, name="lens"), "sharp"]).alt
