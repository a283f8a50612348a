"""Deblurring with a known kernel, against linear algebra, SciPy, deepinv and photographs of scikit-image."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import nn

import blurlib
import oracles
from blurlib import blurs, deblurring, kernels, notation, protocol
from blurlib.deblurring import (
    ROUNDING,
    DeblurThenClassify,
    PatchPrior,
    deepinv_restorer,
    default_prior,
    epll,
    richardson_lucy,
    wiener,
)

LINEAR = {"wiener": wiener, "richardson_lucy": richardson_lucy}
each_border = pytest.mark.parametrize("border", oracles.BORDERS)
# A mirror image of itself, and not.
LEANING = torch.from_numpy(np.random.default_rng(5).dirichlet(np.ones(15)).reshape(5, 3))
KERNELS = {"D2": kernels.disk(2), "leaning": LEANING}


@functools.cache
def photograph(name: str = "coffee", side: int = 160) -> torch.Tensor:
    from skimage import data

    return torch.from_numpy(protocol.to_canonical(Image.fromarray(getattr(data, name)()), side)).permute(
        2, 0, 1
    )


def psnr(found: torch.Tensor, true: torch.Tensor, *, where=slice(None)) -> float:
    error = (found.double() - true.double())[..., where].square().mean()
    return float(10 * torch.log10(255**2 / error))


def matrix(kernel: torch.Tensor, size: tuple[int, int], border: str) -> np.ndarray:
    """The blur as a matrix, a column for each pixel, from the definition."""
    height, width = size
    points = np.eye(height * width).reshape(-1, height, width)
    return oracles.blur(points[:, None], kernel.double().numpy(), border)[:, 0].reshape(len(points), -1).T


def differences(size: tuple[int, int]) -> np.ndarray:
    """Differences of neighbours, row by row, as a matrix."""
    places = np.arange(size[0] * size[1]).reshape(size)
    pairs = [*zip(places[:-1].flat, places[1:].flat, strict=True)]
    pairs += zip(places[:, :-1].flat, places[:, 1:].flat, strict=True)
    found = np.zeros((len(pairs), places.size))
    for row, (one, other) in enumerate(pairs):
        found[row, one], found[row, other] = -1, 1
    return found


def ends_count_half(length: int) -> np.ndarray:
    weights = np.ones(length)
    weights[[0, -1]] = 0.5
    return weights


def by_algebra(image: np.ndarray, kernel: torch.Tensor, border: str, noise: float) -> np.ndarray:
    """The Wiener filter of one plane by its definition: normal equations, solved densely."""
    size = image.shape
    blurring, gradient = matrix(kernel, size, border), differences(size)
    rows, columns = (np.diff(image, axis=axis) for axis in (0, 1))
    energy = ((rows**2).sum() + (columns**2).sum()) / image.size
    weight = 4 * noise**2 * float((kernel.double() ** 2).sum()) / max(energy - 4 * noise**2, energy / 5)
    mirrored = all(torch.equal(kernel, kernel.flip(dim)) for dim in (0, 1))
    if border == "circular":  # differences across the border too
        places = np.arange(image.size).reshape(size)
        gradient = np.concatenate(
            [np.eye(image.size)[np.roll(places, 1, axis).ravel()] - np.eye(image.size) for axis in (0, 1)]
        )
    # A reflected image has its outermost pixels once in a period and the others twice.
    each, between = np.ones(image.size), np.ones(len(gradient))
    if border == "reflect" and mirrored:
        tall, wide = (ends_count_half(length) for length in size)
        each = np.outer(tall, wide).ravel()
        between = np.concatenate(
            [np.outer(np.ones(size[0] - 1), wide).ravel(), np.outer(tall, np.ones(size[1] - 1)).ravel()]
        )
    normal = blurring.T @ (each[:, None] * blurring) + weight * gradient.T @ (between[:, None] * gradient)
    return np.linalg.solve(normal, blurring.T @ (each * image.ravel())).reshape(size)


# The Wiener filter


@each_border
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(9, 10), (10, 7)])
def test_wiener_is_the_solution_of_its_equations(border, name, size):
    sharp = np.random.default_rng(0).uniform(0.3, 0.7, size)
    image = oracles.blur(sharp, KERNELS[name].numpy(), border)
    expected = by_algebra(image, KERNELS[name], border, noise=0.01)
    assert expected.min() > 0 and expected.max() < 1, "the comparison must not be about clamping"
    found = wiener(torch.from_numpy(image)[None], KERNELS[name], noise=0.01, border=border)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-7)


@each_border
def test_kernel_larger_than_the_image(border):
    """It has an answer like any other: the blur of such an image is a linear map too."""
    image = np.random.default_rng(0).uniform(0.4, 0.6, (6, 5))
    kernel = kernels.disk(5)
    expected = by_algebra(image, kernel, border, noise=0.1).clip(0, 1)
    found = wiener(torch.from_numpy(image)[None], kernel, noise=0.1, border=border)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    restored = richardson_lucy(torch.from_numpy(image)[None], kernel, steps=3, border=border)
    assert restored.isfinite().all()


@each_border
@pytest.mark.parametrize("name", ["D4", "S7"])
@pytest.mark.parametrize("method", LINEAR)
def test_borders_do_not_decide(border, name, method):
    """Near each border the gain is about that of the middle: nothing rings."""
    sharp, kernel = photograph(), notation.parse(name).kernel()
    blurred = blurlib.blur(sharp, kernel, border=border)
    restored = LINEAR[method](blurred, kernel, border=border)
    assert restored.dtype == torch.uint8 and restored.shape == sharp.shape
    mask = torch.ones(sharp.shape[-2:], dtype=torch.bool)
    mask[12:-12, 12:-12] = False

    def gain(where: torch.Tensor) -> float:
        return psnr(restored[:, where], sharp[:, where]) - psnr(blurred[:, where], sharp[:, where])

    assert gain(~mask) > 5
    assert gain(mask) > 5
    assert psnr(restored[:, mask], sharp[:, mask]) > psnr(restored[:, ~mask], sharp[:, ~mask]) - 3


def test_borders_would_decide():
    """What the test above holds is not so by itself: told the wrong border, the filter rings."""
    sharp, kernel = photograph(), kernels.disk(4)
    blurred = blurlib.blur(sharp, kernel, border="zeros")
    right, wrong = (psnr(wiener(blurred, kernel, border=b), sharp) for b in ("zeros", "circular"))
    assert wrong < psnr(blurred, sharp) < right - 5


@pytest.mark.parametrize(
    "method", [functools.partial(wiener, noise=0.003), functools.partial(richardson_lucy, steps=100)]
)
def test_wrong_kernel_costs_more_the_more_it_is_wrong(method):
    sharp = photograph(side=192)
    blurred = blurlib.blur(sharp, kernels.disk(6))
    found = {radius: psnr(method(blurred, kernels.disk(radius)), sharp) for radius in (4, 5, 6, 7, 8)}
    assert found[6] > found[5] + 1 > found[4] + 2
    assert found[6] > found[7] + 1 > found[8] + 2


def test_wrong_kernel_wants_more_noise():
    """Told of rounding alone, the filter trusts a wrong kernel too much; noise stands for what is wrong."""
    sharp = photograph(side=192)
    blurred = blurlib.blur(sharp, kernels.disk(6))
    wrong = kernels.disk(5)
    found = [psnr(wiener(blurred, wrong, noise=level), sharp) for level in (ROUNDING, 0.003, 0.01)]
    assert found[0] < psnr(blurred, sharp) < found[2]
    assert found == sorted(found)


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_noise_told_is_noise_held_down(noise):
    sharp, kernel = photograph(), kernels.disk(4)
    image = blurlib.blur(sharp.float() / 255, kernel)
    image = image + noise * torch.randn_like(image)
    told, untold = (255 * wiener(image, kernel, noise=level) for level in (noise, ROUNDING))
    assert psnr(told, sharp) > psnr(255 * image, sharp) + 0.5
    assert psnr(told, sharp) > psnr(untold, sharp) + 5


# Richardson and Lucy


@each_border
@pytest.mark.parametrize("name", KERNELS)
def test_richardson_lucy_against_matrices(border, name):
    sharp = np.random.default_rng(1).uniform(0.2, 0.8, (9, 8))
    image = oracles.blur(sharp, KERNELS[name].numpy(), border)
    blurring, expected = matrix(KERNELS[name], image.shape, border), image.ravel()
    for _ in range(7):
        ratio = blurring.T @ (image.ravel() / (blurring @ expected))
        expected = expected * ratio / (blurring.T @ np.ones(image.size))
    found = richardson_lucy(torch.from_numpy(image)[None], KERNELS[name], steps=7, border=border)
    np.testing.assert_allclose(found[0].numpy().ravel(), expected.clip(0, 1), atol=1e-7)


def test_richardson_lucy_of_black_and_negative_values():
    image = torch.zeros(1, 20, 20)
    image[0, 10, 10] = 1
    restored = richardson_lucy(blurlib.blur(image, kernels.disk(2)) - 0.001, kernels.disk(2), steps=50)
    assert restored.isfinite().all() and restored.min() >= 0
    assert restored[0, 10, 10] > 0.5


# EPLL


def mixture(side: int, components: int = 3) -> PatchPrior:
    rng = np.random.default_rng(0)
    size = side * side
    roots = (
        rng.normal(size=(components, size, size)) / size * np.geomspace(0.05, 1, components)[:, None, None]
    )
    covariances = torch.from_numpy(roots @ roots.transpose(0, 2, 1) + 1e-4 * np.eye(size))
    return PatchPrior(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), covariances)


@pytest.mark.parametrize("size", [(8, 7), (3, 5)])
def test_denoising_patch_by_patch(size):
    """Each patch by the definition: the likeliest component by SciPy's density, then its Wiener filter."""
    prior, variance = mixture(3), 0.002
    image = np.random.default_rng(2).uniform(0.2, 0.8, size)
    total, count = np.zeros_like(image), np.zeros_like(image)
    eye = np.eye(9)
    for top, left in itertools.product(range(size[0] - 2), range(size[1] - 2)):
        patch = image[top : top + 3, left : left + 3].ravel()
        centred = patch - patch.mean()
        densities = [
            math.log(weight)
            + scipy.stats.multivariate_normal(cov=covariance + variance * eye).logpdf(centred)
            for weight, covariance in zip(prior.weights.numpy(), prior.covariances.numpy(), strict=True)
        ]
        covariance = prior.covariances[int(np.argmax(densities))].numpy()
        clean = covariance @ np.linalg.solve(covariance + variance * eye, centred) + patch.mean()
        total[top : top + 3, left : left + 3] += clean.reshape(3, 3)
        count[top : top + 3, left : left + 3] += 1
    found = prior.denoise(torch.from_numpy(image)[None], variance=variance)[0].numpy()
    # Directions of which less than a hundredth survives are left out.
    np.testing.assert_allclose(found, total / count, atol=2e-3)
    assert abs(found - image).max() > 0.02


def test_denoising_in_bands_is_seamless():
    image = torch.rand(2, 90, 20, dtype=torch.float64)
    prior = mixture(4)
    found = prior.denoise(image, variance=0.01)
    for top in (0, 27, 50):  # of the crops one band holds all
        crop = prior.denoise(image[:, top : top + 30], variance=0.01)
        torch.testing.assert_close(crop[:, 3:-3], found[:, top + 3 : top + 27], rtol=0, atol=1e-12)


def test_epll_beats_wiener():
    sharp, kernel = photograph(side=96), notation.parse("S7").kernel()
    blurred = blurlib.blur(sharp, kernel)
    first, restored = wiener(blurred, kernel), epll(blurred, kernel)
    assert psnr(restored, sharp) > psnr(first, sharp) + 0.5 > psnr(blurred, sharp) + 8


@each_border
def test_epll_at_each_border(border):
    sharp, kernel = photograph(side=64), kernels.disk(2)
    blurred = blurlib.blur(sharp, kernel, border=border)
    restored = epll(blurred, kernel, border=border, betas=(200, 800, 3200, 12800))
    edge = torch.ones(sharp.shape[-2:], dtype=torch.bool)
    edge[8:-8, 8:-8] = False
    assert psnr(restored[:, edge], sharp[:, edge]) > psnr(blurred[:, edge], sharp[:, edge]) + 5


def test_epll_channels():
    sharp, kernel = photograph(side=64), kernels.disk(2)
    blurred = blurlib.blur(sharp, kernel)
    settings = {"betas": (200, 3200)}
    each, luminance = (epll(blurred, kernel, channels=way, **settings) for way in ("each", "luminance"))
    for channel in range(3):
        alone = epll(blurred[channel : channel + 1], kernel, **settings)
        assert torch.equal(alone[0], each[channel])
    assert not torch.equal(each, luminance)
    # Colours are those of the Wiener filter, but for the rounding of both, where nothing was clamped.
    first = wiener(blurred, kernel)
    inside = ((luminance > 0) & (luminance < 255) & (first > 0) & (first < 255)).all(dim=0)
    tints = [(image[0].int() - image[2].int())[inside] for image in (luminance, first)]
    assert (tints[0] - tints[1]).abs().max() <= 2


def test_epll_against_deepinv(monkeypatch):
    """The same prior, schedule, noise; deepinv's patches keep their mean, which a broad direction allows."""
    deepinv = pytest.importorskip("deepinv")
    from deepinv.optim.utils import GaussianMixtureModel

    prior = default_prior()
    few = PatchPrior(prior.weights[:8] / prior.weights[:8].sum(), prior.covariances[:8])
    theirs = GaussianMixtureModel(8, 64)
    theirs.set_weights(few.weights)
    theirs.mu.data.zero_()
    theirs.set_cov(few.covariances + torch.ones(64, 64) / 64)
    # Its linear systems are solved to 1e-5 only; to the end, the results agree.
    solve = functools.partial(deepinv.optim.utils.conjugate_gradient, max_iter=300, tol=1e-12)
    monkeypatch.setattr(deepinv.optim.epll, "conjugate_gradient", lambda op, rhs, **_: solve(op, rhs))
    method = deepinv.optim.EPLL(GMM=theirs, pretrained=None, patch_size=8)
    sharp, kernel = photograph(side=48)[:1], kernels.disk(2)
    blurred = blurlib.blur(sharp.float() / 255, kernel, border="circular")
    noise, betas = 0.004, (50.0, 400.0, 3200.0, 25600.0)
    start = wiener(blurred, kernel, noise=noise, border="circular")
    model = Reconstruction(method, start[None], noise, betas)
    expected = deepinv_restorer(model, noise=noise, border="circular")(blurred, kernel)
    found = epll(blurred, kernel, noise=noise, border="circular", prior=few, betas=betas)
    assert psnr(255 * found, 255 * start) < 45, "both did something"
    assert psnr(255 * found, 255 * expected) > 60
    assert abs(psnr(255 * found, sharp) - psnr(255 * expected, sharp)) < 0.2


class Reconstruction(nn.Module):
    """deepinv's EPLL with a start and a schedule, as one that `deepinv_restorer` takes."""

    def __init__(self, method, start, noise, betas):
        super().__init__()
        self.method, self.start, self.noise, self.betas = method, start, noise, betas

    def forward(self, observed, physics):
        return self.method(observed, physics, sigma=self.noise, x_init=self.start, betas=list(self.betas))


def test_prior_is_small_and_a_mixture():
    from importlib.resources import files

    assert (files("blurlib.deblurring") / "patch_prior.npz").stat().st_size < 2_000_000
    prior = default_prior()
    assert prior.side == 8 and len(prior.weights) == 100
    assert torch.linalg.eigvalsh(prior.covariances.double()).min() > 0
    flat = torch.ones(64) / 8  # patches have no mean
    assert (prior.covariances @ flat @ flat).abs().max() < 1e-4


def test_prior_is_kept(tmp_path):
    prior = mixture(3)
    prior.save(tmp_path / "prior.npz")
    again = PatchPrior.load(tmp_path / "prior.npz")
    torch.testing.assert_close(again.covariances, prior.covariances.float())
    torch.testing.assert_close(again.weights, prior.weights.float())


@pytest.mark.parametrize(
    ("weights", "covariances", "message"),
    [
        (torch.ones(1), torch.ones(1, 8, 8), "patches of s x s px"),
        (torch.ones(2), torch.ones(2, 9, 9), "sum 1"),
        (torch.ones(1), torch.full((1, 9, 9), torch.nan), "`covariances` must be finite"),
        (torch.ones(0), torch.ones(0, 9, 9), "`weights`"),
        ([1.0], torch.ones(1, 9, 9), "`weights` must be a floating tensor"),
    ],
)
def test_prior_refuses(weights, covariances, message):
    with pytest.raises((TypeError, ValueError), match=message):
        PatchPrior(weights, covariances)


def test_prior_refuses_files(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"`path` must be a file that PatchPrior\.save wrote"):
        PatchPrior.load(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError):
        PatchPrior.load(tmp_path / "none.npz")


# Shapes, types, bad input

ALL = {
    "wiener": wiener,
    "richardson_lucy": lambda *a, **k: richardson_lucy(*a, steps=5, **k),
    "epll": lambda *a, **k: epll(*a, prior=mixture(3), betas=(100, 1000), **k),
}
each_method = pytest.mark.parametrize("method", ALL.values(), ids=ALL)


@each_method
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_come_back(method, dtype):
    image = photograph(side=24)
    image = image if dtype == torch.uint8 else (image.double() / 255).to(dtype)
    found = method(image, kernels.disk(2))
    assert found.dtype == dtype and found.shape == image.shape
    if dtype != torch.uint8:
        assert found.min() >= 0 and found.max() <= 1


@each_method
@each_border
def test_an_image_does_not_depend_on_its_batch(method, border):
    images = torch.rand(2, 3, 3, 12, 14, dtype=torch.float64)  # two videos of three frames
    two = torch.stack([kernels.disk(1), LEANING[1:4] / LEANING[1:4].sum()])
    found = method(images, two, border=border)
    for video, frame in itertools.product(range(2), range(3)):
        alone = method(images[video, frame], two[video], border=border)
        torch.testing.assert_close(found[video, frame], alone, rtol=0, atol=1e-9)
    flat = method(images, two[0], border=border)
    torch.testing.assert_close(flat[0], found[0], rtol=0, atol=1e-9)


@each_method
def test_flat_images_stay(method):
    image = torch.full((3, 20, 21), 100, dtype=torch.uint8)
    for border in ("reflect", "replicate"):
        assert (method(image, kernels.disk(3), border=border) == 100).all()


@each_method
@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        (torch.full((3, 16, 16), torch.nan), kernels.disk(2), "`image` must be finite"),
        (torch.rand(3, 16, 16) * 255, kernels.disk(2), r"`image` must hold values in \[0, 1\]"),
        (torch.rand(3, 0, 16), kernels.disk(2), "`image` must have pixels"),
        (torch.rand(16, 16), kernels.disk(2), r"`image` must be \(\.\.\., C, H, W\)"),
        (np.zeros((16, 16, 3), np.uint8), kernels.disk(2), "for an array"),
        (torch.zeros(3, 16, 16, dtype=torch.int64), kernels.disk(2), "`image` must be uint8 or floating"),
        (torch.rand(3, 16, 16), torch.ones(4, 4) / 16, "odd height and width"),
        (torch.rand(3, 16, 16), torch.ones(3, 3), "`kernel`"),
        (torch.rand(3, 16, 16), torch.full((3, 3), torch.nan), "`kernel`"),
        (torch.rand(2, 3, 16, 16), torch.ones(3, 3, 3) / 9, "one kernel an image"),
    ],
)
def test_bad_input(method, image, kernel, message):
    with pytest.raises((TypeError, ValueError), match=message):
        method(image, kernel)


@pytest.mark.parametrize("method", [wiener, epll])
@pytest.mark.parametrize("noise", [0, -0.1, math.nan, 2, "much"])
def test_noise_must_be_some(method, noise):
    with pytest.raises((TypeError, ValueError), match="`noise` must be"):
        method(torch.rand(1, 16, 16), kernels.disk(2), noise=noise)
    if noise == 0:
        with pytest.raises(ValueError, match="rounding of 8-bit images"):
            method(torch.rand(1, 16, 16), kernels.disk(2), noise=noise)


def test_other_refusals():
    image, kernel = torch.rand(3, 16, 16), kernels.disk(2)
    with pytest.raises(ValueError, match="`steps`"):
        richardson_lucy(image, kernel, steps=0)
    with pytest.raises(ValueError, match="at least 8 x 8 px"):
        epll(image[:, :7], kernel)
    with pytest.raises(ValueError, match="`channels`"):
        epll(image, kernel, channels="all")
    with pytest.raises(TypeError, match="`prior` must be a PatchPrior"):
        epll(image, kernel, prior="prior.npz")
    with pytest.raises(ValueError, match="`betas`"):
        epll(image, kernel, betas=(0,))
    with pytest.raises(ValueError, match="`border` must be one of"):
        wiener(image, kernel, border="edge")


# deepinv


def test_deepinv_sees_our_blur():
    pytest.importorskip("deepinv")
    seen = {}

    def model(observed, physics):
        seen["observed"], seen["noise"] = observed, float(physics.noise_model.sigma)
        seen["again"] = physics.A(observed)
        seen["dot"] = (physics.A(observed) * observed.flip(-1)).sum() - (
            observed * physics.A_adjoint(observed.flip(-1))
        ).sum()
        return observed

    image, kernel = photograph(side=32), notation.parse("S7").kernel()
    assert torch.equal(deepinv_restorer(model, noise=0.01, border="replicate")(image, kernel), image)
    assert seen["observed"].shape == (1, 3, *image.shape[1:]) and seen["noise"] == pytest.approx(0.01)
    expected = blurlib.blur(image.float()[None] / 255, kernel, border="replicate")
    torch.testing.assert_close(seen["again"], expected)
    assert abs(float(seen["dot"])) < 1e-2


def test_a_reconstruction_of_deepinv_deblurs():
    """Plug-and-play with total variation, which needs no weights."""
    deepinv = pytest.importorskip("deepinv")
    model = deepinv.optim.HQS(
        data_fidelity=deepinv.optim.L2(), prior=deepinv.optim.TVPrior(n_it_max=20), stepsize=100.0,
        lambda_reg=2e-6, max_iter=8,
    )  # fmt: skip
    sharp, kernel = photograph(side=64), kernels.disk(3)
    blurred = blurlib.blur(sharp, kernel)
    restored = deepinv_restorer(model)(blurred, kernel)
    assert psnr(restored, sharp) > psnr(blurred, sharp) + 3


def test_what_deepinv_returns_is_looked_at():
    pytest.importorskip("deepinv")
    image, kernel = torch.rand(3, 16, 16), kernels.disk(2)
    with pytest.raises(ValueError, match="`model` must return a floating tensor of the image's shape"):
        deepinv_restorer(lambda y, _: y[..., 1:])(image, kernel)
    with pytest.raises(TypeError, match="`model` must return a tensor"):
        deepinv_restorer(lambda *_: None)(image, kernel)
    with pytest.raises(TypeError, match="`model` must be a reconstruction"):
        deepinv_restorer("DPIR")


def test_without_deepinv(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "deepinv.physics", None)
    with pytest.raises(ImportError, match=r"pip install \"blurlib\[deblur\]\""):
        deepinv_restorer(lambda y, _: y)


# Deblur, then classify


def classifier(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, classes)
    ).eval()


def photographs() -> list[tuple[Image.Image, int]]:
    from skimage import data

    return [
        (Image.fromarray(getattr(data, name)()), n)
        for n, name in enumerate(("coffee", "chelsea", "astronaut"))
    ]


SMALL = {"canonical_side": 96, "scales": (64,), "crop": 56, "progress": False, "device": "cpu"}


def by_hand(network: nn.Module, image: Image.Image, true: str, told: str) -> torch.Tensor:
    array = protocol.blurred(protocol.to_canonical(image, 96), notation.parse(true))
    restored = wiener(torch.from_numpy(array).permute(2, 0, 1), notation.parse(told).kernel())
    seen = protocol.to_network(
        restored.permute(1, 2, 0).numpy(), 64, protocol=protocol.Protocol(canonical_side=96)
    )
    ((top, left, size),) = protocol.crop_boxes(*seen.shape[:2], 56)
    view = torch.from_numpy(seen[top : top + size, left : left + size].copy()).permute(2, 0, 1)
    colours = (protocol.IMAGENET_MEAN, protocol.IMAGENET_STD)
    with torch.no_grad():
        return network(protocol.normalised(view[None], *colours)).double().log_softmax(1)[0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("true", "told"), [("D4", "D4"), ("D4", "D3")])
def test_evaluate_behind_a_deblurring(workers, true, told):
    network = classifier()
    model = DeblurThenClassify(network, "wiener", told)
    report = blurlib.evaluate(model, photographs(), blurs=f"sharp, {true}", workers=workers, **SMALL)
    expected = [float(-by_hand(network, image, true, told)[label]) for image, label in photographs()]
    assert report[true].images.cross_entropy == pytest.approx(expected, abs=1e-5)
    known = report.settings["deblurring"]
    assert (known["method"], known["blur"]) == ("wiener", told) and 0 < known["seconds"] < 5
    plain = blurlib.evaluate(network, photographs(), blurs=true, workers=0, **SMALL)
    assert "deblurring" not in plain.settings
    assert abs(plain[true].cross_entropy - report[true].cross_entropy) > 1e-6


def test_each_images_own_shake_is_told():
    network = classifier()
    model = DeblurThenClassify(network, "wiener", "shake")
    report = blurlib.evaluate(model, photographs(), blurs="shake", workers=0, **SMALL)
    for index, (image, label) in enumerate(photographs()):
        own = str(blurs.shake_of_image(index))
        expected = float(-by_hand(network, image, own, own)[label])
        assert report["shake"].images.cross_entropy[index] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="`blur` must name one kernel"):
        blurlib.evaluate(model, photographs(), blurs="D4", workers=0, **SMALL)


def test_module_on_images():
    network = classifier()
    image = torch.from_numpy(protocol.to_canonical(photographs()[0][0], 300)).permute(2, 0, 1)
    blurred = blurlib.blur(image, kernels.disk(6))
    model = DeblurThenClassify(network, "wiener", "D6")
    seen = blurlib.models.MultiScale(network, (256,), crops="center", crop=224)
    colours = (protocol.IMAGENET_MEAN, protocol.IMAGENET_STD)
    with torch.no_grad():
        expected = seen(protocol.normalised(wiener(blurred, kernels.disk(6))[None], *colours))
        torch.testing.assert_close(model(blurred[None]), expected)
        torch.testing.assert_close(model(blurred[None].float() / 255), expected, atol=1e-3, rtol=0)
    assert model.state_dict().keys() == {f"model.{name}" for name in network.state_dict()}


def test_method_as_a_callable():
    def halved(image, kernel):
        assert image.dtype == torch.float32 and image.shape[0] == 3 and kernel.shape == (9, 9)
        return image / 2

    model = DeblurThenClassify(classifier(), halved, "D4")
    array = np.full((20, 30, 3), 200, np.uint8)
    assert (model.restore(array) == 100).all() and (array == 200).all()
    report = blurlib.evaluate(model, photographs(), blurs="D4", workers=0, **SMALL)
    assert report.settings["deblurring"]["method"] == "halved"


def test_classifier_behind_refuses():
    network = classifier()
    with pytest.raises(ValueError, match="`method` must be one of wiener, richardson_lucy, epll"):
        DeblurThenClassify(network, "magic", "D8")
    with pytest.raises(TypeError, match="`method` must be a name or a callable"):
        DeblurThenClassify(network, 3, "D8")
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module"):
        DeblurThenClassify("vgg16", "wiener", "D8")
    with pytest.raises(ValueError, match="D8"):
        DeblurThenClassify(network, "wiener", "D8x")
    model = DeblurThenClassify(network, "wiener", "D4")
    with pytest.raises(ValueError, match="`mean` must be left out"):
        blurlib.evaluate(model, photographs(), blurs="D4", mean=(0.5, 0.5, 0.5), **SMALL)
    for result, message in (
        (torch.zeros(3, 4, 4), "shape"),
        (None, "tensor"),
        (torch.full((3, 9, 9), torch.nan), "finite"),
    ):
        model = DeblurThenClassify(network, lambda *_, result=result: result, "D2")
        with pytest.raises((TypeError, ValueError), match=f"`method`.*{message}"):
            model.restore(np.zeros((9, 9, 3), np.uint8))


def test_segmentation_is_not_behind():
    with pytest.raises(TypeError, match="`model` must label pixels"):
        blurlib.evaluate(DeblurThenClassify(classifier(), "wiener", "D4"), photographs(), task="segmentation")


def test_names_of_methods():
    assert set(deblurring.METHODS) == {"wiener", "richardson_lucy", "epll"}
    assert "method='epll', blur='D8'" in repr(DeblurThenClassify(classifier(), "epll", "D8"))
