"""Sizes and kinds of blurs that are known, on photographs; what cannot be told; what is refused."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import data
from torchvision import tv_tensors

import blurlib
from blurlib import gauge
from blurlib._gauge import _network, _spectrum
from blurlib.functional import apply


@pytest.fixture(scope="module")
def photograph():
    """Not seen in training: it comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


# Known blurs


@pytest.mark.parametrize(
    ("blur", "kind", "size"),
    [
        ("D2a", "defocus", 2), ("D4a", "defocus", 4), ("D8a", "defocus", 8), ("D16a", "defocus", 16),
        ("L5@20", "motion", 5), ("L12@75", "motion", 12), ("L24@130", "motion", 24),
        ("S3@17", "shake", 17), ("S4@33", "shake", 33), ("G1.5", "gaussian", 1.5), ("G4", "gaussian", 4),
    ],
)  # fmt: skip
def test_a_known_blur_is_found(photograph, blur, kind, size):
    found = gauge(apply(photograph, blur, scale=427 / 384))
    assert found.kind == kind
    assert found.size == pytest.approx(size, rel=0.45 if kind == "shake" else 0.2)
    low, high = found.interval
    assert low < found.size < high < 3 * low
    assert found.size_in_image == pytest.approx(found.size * 427 / 384)
    assert 0.5 < found.probability <= 1


def test_a_sharp_photograph_is_sharp(photograph):
    found = gauge(photograph)
    assert (found.kind, found.size, found.interval[0]) == ("sharp", 0.0, 0.0)
    assert found.interval[1] < 2
    assert str(found).startswith("sharp: 0.0 px [0.0, ")


def test_angles_make_no_difference(photograph):
    sizes = [gauge(apply(photograph, f"L10@{angle}")).size_in_image for angle in (0, 20, 45, 77, 90, 130)]
    assert np.median(sizes) == pytest.approx(10, rel=0.15)
    assert max(sizes) < 1.4 * min(sizes)


@pytest.mark.parametrize("side", [100, 200, 427])
def test_sizes_are_those_of_a_side_of_384(photograph, side):
    small = photograph.resize((round(640 * side / 427), side), Image.Resampling.LANCZOS)
    found = gauge(apply(small, "D4a"))
    assert found.kind == "defocus"
    assert found.size == pytest.approx(4 * 384 / side, rel=0.3)
    assert found.size_in_image == pytest.approx(4, rel=0.3)


# Forms of one picture


def test_forms_of_a_picture_give_one_answer(photograph):
    image = apply(photograph, "D3a")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    forms = [
        array,
        array[::-1][::-1],
        tensor,
        tv_tensors.Image(tensor),
        tensor.float() / 255,
        image.convert("RGBA"),
    ]
    assert [gauge(form) for form in forms] == [gauge(image)] * len(forms)


def test_grey_pictures(photograph):
    image = apply(photograph.convert("L"), "D3a")
    array = np.asarray(image)
    forms = [array, array[..., None], torch.from_numpy(array.copy())[None], image.convert("RGB")]
    assert [gauge(form) for form in forms] == [gauge(image)] * len(forms)
    assert gauge(image).kind == "defocus"


def test_nothing_global_changes(photograph):
    _network.trained.cache_clear()
    before = torch.random.get_rng_state()
    array = np.asarray(photograph)
    copy = array.copy()
    first = gauge(array)
    assert torch.equal(before, torch.random.get_rng_state()) and (array == copy).all()
    assert gauge(array) == first


# What cannot be told


def noise(level):
    return np.random.default_rng(0).normal(128, level, (300, 400)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((300, 400), np.uint8), np.full((64, 64), 255, np.uint8), noise(1), noise(4),
        np.tile(np.linspace(40, 200, 400).astype(np.uint8), (300, 1)),
    ],
    ids=["black", "white and small", "a little noise", "noise", "a slope"],
)  # fmt: skip
def test_too_smooth_to_tell(picture):
    found = gauge(picture)
    assert (found.kind, found.size, found.interval, found.size_in_image) == ("unknown", None, None, None)
    assert str(found) == "too smooth to tell"


def test_no_kind_is_likely():
    """This one, reduced, may be sharp, or under a small Gaussian or disk."""
    found = gauge(data.astronaut())
    assert (found.kind, found.text) == ("unknown", "no kind is likely") and 0 < found.probability < 0.5


def test_too_faint_to_tell(photograph):
    levels = np.asarray(photograph)
    assert gauge(levels // 4).kind == "sharp"
    assert gauge(levels // 32).kind == "unknown"


@pytest.mark.parametrize("shape", [(63, 300), (300, 1), (1, 1)])
def test_too_small_to_tell(shape):
    found = gauge(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert (found.kind, str(found)) == ("unknown", "too small to tell")


@pytest.mark.parametrize("name", ["page", "text", "hubble_deep_field", "moon", "chelsea"])
def test_odd_pictures_get_an_answer(name):
    found = gauge(Image.fromarray(getattr(data, name)()))
    assert found.kind in ("sharp", "defocus") and found.size < 2


def test_long_pictures(photograph):
    strip = np.tile(np.asarray(apply(photograph, "D4a"))[:100], (1, 12, 1))
    assert gauge(strip).size_in_image == pytest.approx(4, rel=0.3)


# What is refused


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        ("photo.jpg", TypeError, "got str; open files by PIL.Image.open"),
        (np.zeros((100, 100), bool), TypeError, "got bool, which is a mask"),
        (Image.new("1", (100, 100)), TypeError, "got mode '1', which is a mask"),
        (
            tv_tensors.Mask(torch.zeros(1, 100, 100, dtype=torch.uint8)),
            TypeError,
            "got a Mask; give the image",
        ),
        (
            np.zeros((100, 100)),
            TypeError,
            "be uint8, or a tensor of floats, got float64; scale it to 0 to 255",
        ),
        (
            torch.zeros(3, 100, 100, dtype=torch.int64),
            TypeError,
            "got int64; scale it to 0 to 255",
        ),
        (torch.full((3, 100, 100), 2.0), ValueError, "got 2 to 2; undo the normalisation"),
        (torch.full((3, 100, 100), np.nan), ValueError, "got nan to nan"),
        (torch.zeros(2, 3, 100, 100), ValueError, r"got \(2, 3, 100, 100\); take one of a batch"),
        (np.zeros((100, 100, 4), np.uint8), ValueError, r"got \(100, 100, 4\)"),
        (np.zeros(100, np.uint8), ValueError, r"got \(100,\)"),
    ],
)
def test_refusals(image, error, words):
    with pytest.raises(error, match=f"^`image` must .*{words}"):
        gauge(image)


# Spectra


def test_spectra_show_the_transfer_function():
    """White noise under a line: its spectrum is that of the line along it, white across."""
    white = np.random.default_rng(0).normal(128, 30, (1024, 1024)).astype(np.float32)
    soft = blurlib.blur(white, blurlib.kernels.line(8)).clip(0, 255).round().astype(np.uint8)
    full = _spectrum.spectra(soft)[0][: _spectrum.RADII]
    cycles = (np.arange(_spectrum.RADII) + 2) / _spectrum.WINDOW
    expected = np.log(np.sinc(8 * cycles) ** 2 / np.sinc(cycles) ** 2 + 1e-9)
    lobe = cycles < 0.1
    assert np.ptp(full[lobe, 0] - expected[lobe]) < 0.3
    zeros = [np.argmin(np.abs(cycles - zero)) for zero in (1 / 8, 2 / 8, 3 / 8)]
    assert all(full[zero, 0] < full[zero - 3 : zero + 4, 0].max() - 1 for zero in zeros)
    assert np.ptp(full[:, _spectrum.ANGLES // 2]) < 0.5


def test_spectra_turn_with_the_picture(photograph):
    grey = np.asarray(photograph.convert("L"))[:384, :384]
    one, other = _spectrum.spectra(grey), _spectrum.spectra(np.ascontiguousarray(np.rot90(grey)))
    assert np.allclose(np.roll(one[0], _spectrum.ANGLES // 2, axis=1), other[0], atol=0.25)
    assert np.allclose(one[1], other[1], atol=0.1)


def test_polar_weights_are_means():
    assert np.allclose(_spectrum._polar().sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_time(photograph):
    image = photograph.resize((512, 384))
    gauge(image)
    times = []
    for _ in range(20):
        started = time.process_time()
        gauge(image)
        times.append(time.process_time() - started)
    assert min(times) < 0.03


# Truth from elsewhere


def test_a_photograph_from_a_moving_camera():
    """Taken by the author of scikit-image, who moved the camera about horizontally.

    The first six zeros of its spectrum along the rows are 27.8 bins of 1024 apart: 37 px.
    """
    found = gauge(Image.fromarray(data.clock()))
    assert found.kind == "motion" and found.size_in_image == pytest.approx(36.8, rel=0.35)


def test_blurs_of_scipy(photograph):
    levels = np.asarray(photograph.convert("L")).astype(float)
    soft = ndimage.gaussian_filter(levels, 3).round().astype(np.uint8)
    moved = ndimage.uniform_filter1d(levels, 15, axis=0).round().astype(np.uint8)
    found, other = gauge(soft), gauge(moved)
    assert (found.kind, other.kind) == ("gaussian", "motion")
    assert found.size_in_image == pytest.approx(3, rel=0.15)
    assert other.size_in_image == pytest.approx(15, rel=0.15)
