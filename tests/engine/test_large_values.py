"""Floats near the largest: sums on the way to a result that is a float must be floats too."""

import numpy as np
import pytest
import torch

import blurlib
import oracles
from blurlib import kernels

KERNELS = {
    "disk": kernels.disk(6),
    "gauss": kernels.gaussian(2),
    "line": kernels.line(9, 30),
    "row": torch.full((1, 9), 1 / 9, dtype=torch.float64),
    "shake": kernels.bank_kernel(3),
    "dense": torch.rand(31, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("backend", [None, "torch"])
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("value", [1.0, 1e18, 1e20, 1e36, 3e38])
def test_large_values_are_no_infinity(name, value, backend):
    kernel = KERNELS[name] / KERNELS[name].sum()
    draw = torch.rand(2, 33, 40, generator=torch.Generator().manual_seed(1))
    for image in (draw, 2 * draw - 1, 0.5 + draw / 2):
        image = image * value
        found = blurlib.blur(image, kernel, backend=backend) if backend else blurlib.blur(image, kernel)
        exact = np.stack([oracles.blur(plane, kernel.numpy(), "reflect") for plane in image.double().numpy()])
        assert np.abs(found.double().numpy() - exact).max() < 2e-6 * value


@pytest.mark.parametrize("backend", [None, "torch"])
def test_large_doubles_too(backend):
    kernel = KERNELS["dense"] / KERNELS["dense"].sum()
    image = torch.rand(1, 33, 40, dtype=torch.float64) * 1e307
    found = blurlib.blur(image, kernel, backend=backend) if backend else blurlib.blur(image, kernel)
    exact = blurlib.blur(image / 2.0**1000, kernel)
    assert (found / 2.0**1000 - exact).abs().max() < 1e-12 * exact.abs().max()


def test_a_broken_pixel_in_a_large_image_stays_local():
    kernel = KERNELS["dense"] / KERNELS["dense"].sum()
    image = torch.full((1, 80, 80), 1e37)
    image[0, 3, 3] = torch.nan
    (found,) = blurlib.blur(image, kernel)
    assert found[:19, :19].isnan().all() and found[19:, 19:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_each_plane_has_its_own_scale_on_a_device(dtype):
    """Large, small, broken and half-broken planes of one call: the FFT of devices, on the CPU."""
    kernel = KERNELS["dense"] / KERNELS["dense"].sum()
    plane = torch.rand(33, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([torch.finfo(dtype).max / 2, 1e-3, torch.nan, 1e18], dtype=torch.float64)
    image = (plane * sizes[:, None, None]).to(dtype)
    found = blurlib.blur(torch.stack([image, image.flip(0)]), kernel, backend="torch")
    assert torch.equal(found[0, [0, 1, 3]], found[1, [3, 2, 0]])
    assert found[0, 2].isnan().all()
    for number in (0, 1, 3):
        exact = blurlib.blur(image[number][None].double() / sizes[number], kernel)[0]
        bound = {torch.bfloat16: 4e-3, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
        assert (found[0, number].double() / sizes[number] - exact).abs().max() < bound
