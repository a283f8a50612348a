"""docs/migrating.md: its numbers, computed from both sides. What is not installed is skipped."""

import doctest
import importlib
import importlib.util
import math
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

import blurlib
from blurlib import blurs, kernels

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "migrating.md").read_text(encoding="utf-8")
PHOTO = torch.randint(0, 256, (3, 70, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
ARRAY = np.ascontiguousarray(PHOTO.permute(1, 2, 0).numpy())


def stated(*texts: str) -> None:
    """The page says so."""
    for text in texts:
        assert text in PAGE, f"docs/migrating.md does not say {text!r}"


def row(first: str, *values: str) -> str:
    return f"| {first} | " + " | ".join(values) + " |"


def spread(kernel) -> tuple[tuple[float, float], np.ndarray]:
    """Centroid (right, up) and the variances along the principal axes, the larger first."""
    weights = np.asarray(kernel, dtype=np.float64)
    weights = weights / weights.sum()
    up, right = (n // 2 - np.indices(weights.shape)[axis] for axis, n in enumerate(weights.shape))
    places = np.stack([-right, up])
    centre = (weights * places).sum((1, 2))
    away = places - centre[:, None, None]
    covariance = np.einsum("hw,ahw,bhw->ab", weights, away, away)
    return (float(centre[0]), float(centre[1])), np.linalg.eigvalsh(covariance)[::-1]


def sigma(kernel) -> float:
    return math.sqrt(spread(kernel)[1][0])


def different(one, other) -> float:
    """The share of light that lands elsewhere."""
    side = max(*np.shape(one), *np.shape(other))
    padded = [
        np.pad(np.asarray(k, dtype=np.float64), [((side - n) // 2,) * 2 for n in np.shape(k)])
        for k in (one, other)
    ]
    return float(np.abs(padded[0] / padded[0].sum() - padded[1]).sum() / 2)


def levels(one, other) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


# --- torchvision


def test_torchvision():
    point = torch.zeros(1, 81, 81)
    point[0, 40, 40] = 1
    for size, width, effective in ((5, 2.0, f"{SIGMA} 1.29"), (9, 2.0, "of 1.85"), (23, 5.0, "of 4.66")):
        found = sigma(v2.functional.gaussian_blur(point, [size] * 2, [width] * 2)[0])
        assert effective.endswith(f"{found:.2f}")
        stated(effective)
    for width in (0.7, 2.0, 3.3):
        size = 2 * int(4 * width + 0.5) + 1
        theirs = v2.functional.gaussian_blur(PHOTO, [size] * 2, [width] * 2)
        assert levels(theirs, blurlib.functional.gaussian_blur(PHOTO, width)) <= 1
        light = PHOTO / 255
        soft = blurlib.functional.gaussian_blur(light, width)
        assert (v2.functional.gaussian_blur(light, [size] * 2, [width] * 2) - soft).abs().max() < 2e-6
        assert (v1.GaussianBlur(size, width)(light) - soft).abs().max() < 2e-6
    assert torch.equal(v1.Compose([blurlib.GaussianBlur(width)])(light), soft)
    usual = v2.functional.gaussian_blur(light, [9, 9], [0.15 * 9 + 0.35] * 2)
    assert torch.equal(usual, v2.functional.gaussian_blur(light, [9, 9]))
    torch.manual_seed(0)
    theirs = v2.GaussianBlur(9, (0.5, 2)).make_params([])["sigma"][0]
    torch.manual_seed(0)
    assert theirs != blurlib.GaussianBlur((0.5, 2)).draw().sigma


# --- kornia


def test_kornia():
    kornia = pytest.importorskip("kornia")

    def motion(angle: float, direction: float = 0.0) -> np.ndarray:
        """Turned: kornia correlates."""
        return kornia.filters.get_motion_kernel2d(15, angle, direction)[0].flip(0, 1).numpy()

    for angle in (0.0, 90.0):
        assert different(motion(angle), kernels.line(15, angle)) < 1e-6
    shares = [different(motion(angle), kernels.line(15, angle)) for angle in (15.0, 30.0, 45.0)]
    stated("differ by " + "{:.0%}, {:.0%} and {:.0%}".format(*shares).replace("%", " %"))
    theirs, ours = spread(motion(30.0))[1][0], spread(kernels.line(15, 30))[1][0]
    stated(f"up to {theirs / ours - 1:.0%}".replace("%", " %"), f"variance {theirs:.1f} for {ours:.1f}")
    assert different(motion(30.0), kernels.line(15, -30)) > 0.5  # the sense of the angle
    (right, up), _ = spread(motion(0.0, 1.0))
    assert up == pytest.approx(0, abs=1e-6)
    stated(f"±1 moves the image by {abs(right):.2f} px")

    grey = torch.full((1, 1, 64, 64), 0.5)
    dark = kornia.augmentation.RandomMotionBlur(15, (0.0, 0.0), (0.0, 0.0), p=1.0)(grey)
    assert torch.allclose(dark[0], blurlib.blur(grey[0], kernels.line(15), border="zeros"), atol=1e-6)
    stated(f"0.5 falls to {float(dark.min()):.2f}")

    light = PHOTO / 255
    box = blurs.PointSpread(torch.ones(5, 5), name="box5")
    soft = kornia.filters.box_blur(light[None], (5, 5))[0]
    assert torch.allclose(soft, blurlib.functional.apply(light, box), atol=1e-6)
    soft = kornia.filters.box_blur(light[None], (1, 4))[0]
    assert torch.allclose(soft, blurlib.functional.apply(light, "H4"), atol=1e-6)
    shake = kernels.bank_kernel(3)
    for border, name in (("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")):
        soft = kornia.filters.filter2d(light[None], shake.flip(-2, -1)[None].float(), border_type=name)[0]
        assert torch.allclose(soft, blurlib.blur(light, shake, border=border), atol=1e-5)


# --- albumentations


def test_albumentations():
    albumentations = pytest.importorskip("albumentations")
    functional = importlib.import_module("albumentations.augmentations.blur.functional")

    for width, share in ((2.0, f"0.03 % at {SIGMA} = 2"), (3.0, f"0.08 % at {SIGMA} = 3")):
        found = different(functional.create_gaussian_kernel(width), kernels.gaussian(width))
        assert share.startswith(f"{found:.2%}".replace("%", " %"))
        stated(share)
        theirs = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(width, width), p=1)(image=ARRAY)
        assert levels(theirs["image"], blurlib.blur(ARRAY, kernels.gaussian(width))) <= 1

    def motion(angle: float, direction: float = 0.0) -> np.ndarray:
        """Turned: OpenCV correlates."""
        return functional.create_motion_kernel(15, angle, direction, False, random.Random(0))[::-1, ::-1]

    assert different(motion(0), kernels.line(15)) < different(motion(90), kernels.line(15, 90)) + 1e-6 < 2e-6
    share = f"{different(motion(45), kernels.line(15, -45)):.0%}".replace("%", " %")
    stated(f"length 15 has {int(motion(45).sum())} taps, and the kernels differ by {share}")
    assert different(motion(30), kernels.line(15, -30)) < 0.4 < different(motion(30), kernels.line(15, 30))
    assert abs(int(motion(0, 1.0).sum()) - 15 / 2) < 1

    drawn = albumentations.MotionBlur(p=1)
    drawn.set_random_seed(0)
    moved = [math.hypot(*spread(drawn.get_params()["kernel"])[0]) for _ in range(2000)]
    assert np.mean(moved) == pytest.approx(0.87, abs=0.04) and 2.6 < max(moved) < 2.9
    stated("by 0.87 px on average, up to 2.8 px")

    for radius in (3, 6, 10):
        assert levels(functional.defocus(ARRAY, radius, 0.1), blurlib.blur(ARRAY, kernels.disk(radius))) == 0
    spot = np.zeros((61, 61), np.float32)
    spot[30, 30] = 1
    shares, sums = {}, {}
    for radius in (3, 4, 6, 7, 8, 10):
        kernel = functional.defocus(spot, radius, 0.5)
        share = different(kernel, kernels.disk(radius, antialias=True))
        shares[radius], sums[radius] = f"{share:.0%}".replace("%", " %"), kernel.sum()
    assert [radius for radius, total in sums.items() if abs(total - 1) > 1e-3] == [7, 8, 10]
    assert f"{sums[8] - 1:.1%}" == "1.3%"
    stated(
        f"by {shares[3]} (radius 3), " + ", ".join(f"{shares[r]} ({r})" for r in (4, 6, 8, 10)),
        f"grey 200 becomes {functional.defocus(np.full((40, 40, 3), 200, np.uint8), 8, 0.5)[20, 20, 0]}",
    )
    box = blurlib.blur(ARRAY, blurs.PointSpread(np.ones((5, 5)), name="box5").kernel())
    assert levels(albumentations.Blur(blur_limit=(5, 5), p=1)(image=ARRAY)["image"], box) <= 1
    assert albumentations.GaussianBlur(p=1)(image=np.full((9, 9, 3), 5.0, np.float32))["image"].max() == 1


# --- ImageNet-C


@pytest.fixture
def corruptions(monkeypatch):
    """imagecorruptions' file, which imports what newer versions of SciPy and setuptools no longer have."""
    pytest.importorskip("cv2")
    if importlib.util.find_spec("imagecorruptions") is None:
        pytest.skip("imagecorruptions is not installed (pip install --no-deps imagecorruptions)")
    resources = types.SimpleNamespace(resource_filename=lambda *_: "")
    monkeypatch.setitem(sys.modules, "pkg_resources", resources)
    monkeypatch.setitem(sys.modules, "scipy.ndimage.interpolation", scipy.ndimage)
    return importlib.import_module("imagecorruptions.corruptions")


DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))


def test_imagenet_c_defocus(corruptions):
    disks = [corruptions.disk(radius, alias_blur=alias) for radius, alias in DEFOCUS]
    shares = [different(disk, kernels.disk(radius)) for disk, (radius, _) in zip(disks, DEFOCUS, strict=True)]
    stated(
        row("radius, `alias_blur`", *(f"{radius}, {alias}" for radius, alias in DEFOCUS)),
        row("sum of the kernel", *(f"{disk.sum():.4f}" for disk in disks)),
        row("differs from `D3`, `D4`, ... by", *(f"{share:.1%}".replace("%", " %") for share in shares)),
        row("in `evaluate`", *(f"`{blurs.Disk(1.5 * radius)}`" for radius, _ in DEFOCUS)),
    )
    (source,) = (
        each.source for each in doctest.DocTestParser().get_examples(PAGE) if "def defocus" in each.source
    )
    made = {"torch": torch, "blurlib": blurlib}
    exec(source, made)
    for disk, setting in zip(disks, DEFOCUS, strict=True):
        own = made["defocus"](*setting).kernel()
        assert different(disk, own) < 1e-6
    for severity in range(1, 6):
        theirs = np.uint8(corruptions.defocus_blur(ARRAY, severity)).astype(int)
        ours = blurlib.blur(ARRAY, made["defocus"](*DEFOCUS[severity - 1]).kernel())
        if severity < 4:  # of sum 1
            assert np.mean(theirs - ours) == pytest.approx(-0.5, abs=0.03)
            assert levels(theirs, ours) == 1


def test_imagenet_c_motion(corruptions):
    moved, lengths = [], []
    for radius, width in MOTION:
        size = corruptions.getOptimalKernelWidth1D(radius, width)
        taps = np.asarray(corruptions.getMotionBlurKernel(size, width))
        places = np.arange(len(taps))
        moved.append((taps * places).sum() / taps.sum())
        lengths.append(math.sqrt(12 * (taps * (places - moved[-1]) ** 2).sum() / taps.sum()))
    stated(
        row(f"radius, {SIGMA}", *(f"{radius}, {width}" for radius, width in MOTION)),
        row("moves the image by, px", *(f"{shift:.1f}" for shift in moved)),
        row("`MotionBlur(length, angle=(-45, 45))`", *(f"{length:.1f}" for length in lengths)),
        row("in `evaluate`, at 0°", *(f"`{blurs.Line(round(1.5 * length, 1), 0)}`" for length in lengths)),
    )


def test_imagenet_c_gaussian():
    """By the function that it calls, since its own call is of an older scikit-image."""
    gaussian = pytest.importorskip("skimage.filters").gaussian
    sigmas = (1, 2, 3, 4, 6)
    for width in sigmas:
        theirs = 255 * gaussian(ARRAY / 255.0, sigma=width, channel_axis=-1)
        ours = blurlib.blur(ARRAY.astype(np.float64), kernels.gaussian(width), border="replicate")
        assert np.abs(theirs - ours).max() < 1e-9
    stated(
        row(SIGMA, *map(str, sigmas)),
        row("in `evaluate`", *(f"`{blurs.Gaussian(1.5 * width)}`" for width in sigmas)),
    )


def test_imagenet_c_zoom(corruptions):
    """No one kernel: what it does depends on the place."""
    spots = np.zeros((65, 65, 3))
    spots[32, 32] = spots[32, 60] = 255
    soft = np.asarray(corruptions.zoom_blur(spots, 3))[..., 0]
    middle, side = soft[24:41, 24:41], soft[24:41, 48:65]
    assert different(middle, side / side.sum()) > 0.3
    steps = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    stated(f"the mean of up to {max(len(np.arange(1, most, step)) for most, step in steps)} enlargements")


# --- LeRobot


def test_lerobot():
    sharpness = (0.0, 1.0)
    smooth = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    light = PHOTO / 255
    for factor in (0.0, 0.4, 1.0):
        kernel = (1 - factor) * smooth
        kernel[1, 1] += factor
        theirs = v2.functional.adjust_sharpness(light, factor)
        ours = blurlib.functional.apply(light, blurs.PointSpread(kernel, name="soft"))
        assert torch.allclose(theirs[:, 1:-1, 1:-1], ours[:, 1:-1, 1:-1], atol=1e-6)
        assert torch.equal(theirs[:, 0], light[:, 0])
    stated(f"a blur of {SIGMA} {sigma(smooth):.2f}")
    if importlib.util.find_spec("lerobot") is None:
        pytest.skip("LeRobot is not installed: torchvision's part was compared")
    theirs = importlib.import_module("lerobot.datasets.transforms")
    jitter = theirs.SharpnessJitter(sharpness)
    assert 0 <= jitter.make_params([])["sharpness_factor"] <= 1
    default = theirs.ImageTransformsConfig().tfs.values()
    assert not [each.type for each in default if "Blur" in each.type]
    given = theirs.ImageTransformConfig(type="GaussianBlur", kwargs={"kernel_size": 5, "sigma": (0.1, 2.0)})
    assert type(theirs.make_transform_from_config(given)) is v2.GaussianBlur
    with pytest.raises(ValueError, match="not valid"):
        theirs.make_transform_from_config(theirs.ImageTransformConfig(type="MotionBlur"))
