"""Images and kernels to test with, and the checker that knows what blur() promises for each dtype."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import oracles
from blurlib import blur, kernels
from blurlib._engine.core import MISSING

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_border = pytest.mark.parametrize("border", oracles.BORDERS)


def examples(share: float) -> settings:
    """A share of the profile's examples, for a property that is slow or tested for many parameters."""
    return settings(max_examples=max(1, round(share * settings().max_examples)))


# Parameters that `make test-all` adds: they take the same way through the code as others.
exhaustive = functools.partial(pytest.param, marks=pytest.mark.exhaustive)
# What torch alone does not promise: see docs/devices.md.
needs_core = pytest.mark.skipif(bool(MISSING), reason="the native core is not installed")


# The checker


def pixels(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """A repeatable image: bytes over the whole range, or floats around zero."""
    rng = np.random.default_rng(seed)
    if dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(rng.uniform(-1, 2, shape)).to(dtype)


def is_flat(kernel: torch.Tensor) -> bool:
    each = kernel.double().reshape(-1, *kernel.shape[-2:])
    return all(len(torch.unique(k[k != 0])) == 1 and abs(float(k.sum()) - 1) <= 1e-6 for k in each)


def check_values(found: torch.Tensor, image: torch.Tensor, kernel: torch.Tensor, border: str) -> None:
    """The precision that the design promises for each dtype."""
    if image.dtype == torch.uint8 and is_flat(kernel):
        flat = oracles.blur_flat(image.numpy(), kernel.double().numpy(), border)
        np.testing.assert_array_equal(found.numpy(), flat)
        return
    expected = oracles.blur(image.double().numpy(), kernel.double().numpy(), border)
    if image.dtype == torch.uint8:
        expected = expected.clip(0, 255)
        assert np.abs(found.numpy() - expected).max(initial=0) < 1.5
        sure = np.abs(expected - np.floor(expected) - 0.5) > 1e-3
        np.testing.assert_array_equal(found.numpy()[sure], np.floor(expected + 0.5)[sure])
        return
    # Of what a kernel with negative weights can make of the image; of any other that is its largest value.
    weight = float(kernel.double().abs().sum((-2, -1)).max()) if kernel.numel() else 1.0
    largest = weight * float(image.double().abs().max()) if image.numel() else 0.0
    if image.dtype == torch.float64:
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12 * largest)
        return
    atol = (1e-6 if max(kernel.shape[-2:]) <= 17 else 1e-5) * largest
    if image.dtype == torch.float32:
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=atol)
        return
    # Half types: computed in float32, rounded once. Rounding is monotonic, so it maps the interval of what
    # float32 may give to the interval of what may come out.
    low, high = (torch.from_numpy(expected + e).to(image.dtype) for e in (-atol, atol))
    assert bool(((low <= found) & (found <= high)).all())


def check(image: torch.Tensor, kernel: torch.Tensor, border: str, function=None) -> torch.Tensor:
    """Type, shape and values of one blur; inputs untouched. `function` stands in for blur()."""
    image_before, kernel_before = image.clone(), kernel.clone()
    found = (function or functools.partial(blur, border=border))(image, kernel)
    assert found.dtype == image.dtype
    assert found.shape == image.shape
    assert found.device == image.device
    assert type(found) is torch.Tensor
    assert torch.equal(image, image_before)
    assert torch.equal(kernel, kernel_before)
    check_values(found, image, kernel, border)
    return found


# Kernels and images to draw from


def normalised(weights: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(weights / weights.sum())


@st.composite
def odd_kernels(draw, largest: int = 11):
    """One kernel of each kind that a plan may single out."""
    kind = draw(
        st.sampled_from(("flat", "dense", "sparse", "rows", "rank one", "signed", "few weights", "library"))
    )
    h, w = (2 * draw(st.integers(0, largest // 2)) + 1 for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "flat":
        weights = (rng.random((h, w)) < 0.5).astype(float)
        weights[rng.integers(h), rng.integers(w)] = 1
    elif kind == "dense":
        weights = rng.random((h, w)) + 1e-3
    elif kind == "sparse":
        weights = rng.random((h, w)) * (rng.random((h, w)) < 0.15)
        weights[rng.integers(h), rng.integers(w)] = 0.5
    elif kind == "rows":
        weights = rng.random((h, 1)) + 0.1 + np.zeros((h, w))
    elif kind == "rank one":
        weights = (rng.random((h, 1)) + 0.1) * (rng.random((1, w)) + 0.1)
    elif kind == "signed":
        weights = rng.normal(size=(h, w)) / (h * w)
        weights[h // 2, w // 2] += 1.5
    elif kind == "few weights":  # a core of one weight and softer edges
        weights = rng.choice([0.0, 0.3, 1.0, 1.0, 1.0], (h, w))
        weights[rng.integers(h), rng.integers(w)] = 1
    else:
        return draw(
            st.sampled_from(
                [
                    kernels.disk(2),
                    kernels.disk(4),
                    kernels.disk(3.4, antialias=True),
                    kernels.box(4),
                    kernels.box(9, vertical=True),
                    kernels.line(8, 30),
                    kernels.line(5.5, 90),
                    kernels.gaussian(1),
                    kernels.bank_kernel(3),
                ]
            )
        )
    return normalised(weights)


LAYOUTS = ("contiguous", "interleaved", "transposed", "sliced", "expanded", "offset")


def in_layout(image: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another memory order."""
    if layout == "contiguous":
        return image.contiguous()
    if layout == "interleaved":  # HWC memory
        return image.movedim(-3, -1).contiguous().movedim(-1, -3)
    if layout == "transposed":  # columns before rows
        return image.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":  # every second pixel, every third row, of a larger one
        big = torch.full((*image.shape[:-2], 3 * image.shape[-2], 2 * image.shape[-1] + 1), 77).to(
            image.dtype
        )
        view = big[..., 1::3, 1::2][..., : image.shape[-2], : image.shape[-1]]
        view.copy_(image)
        return view
    if layout == "expanded":  # one channel's memory for all channels
        return image[..., :1, :, :].expand(image.shape)
    assert layout == "offset"
    big = torch.empty(image.numel() + 3, dtype=image.dtype)
    view = big[3:].view(image.shape)
    view.copy_(image)
    return view


# One kernel of every kind


KINDS = {
    "flat": kernels.disk(4),
    "flat, large": kernels.disk(12),
    "soft disk": kernels.disk(4.4, antialias=True),
    "shake": kernels.bank_kernel(7),
    "gaussian": kernels.gaussian(2),
    "row": kernels.box(8),
    "column": kernels.box(9, vertical=True),
    "random": normalised(np.random.default_rng(3).random((31, 31))),
    "random, huge": normalised(np.random.default_rng(3).random((61, 61))),
}


class Stripes(nn.Module):
    """Sees that there are stripes as long as their contrast is left."""

    def forward(self, images):
        contrast = images.mean(1).diff(dim=-1).abs().amax((1, 2))
        return torch.stack([0.1 - contrast, contrast - 0.1], dim=1)


def stripes(count=24, side=64):
    """Half of them flat, half with stripes of 2 to 13 px."""
    photographs = []
    for number in range(count):
        width = 2 + number // 2
        row = (
            (np.arange(side) // width % 2 * 200).astype(np.uint8)
            if number % 2
            else np.full(side, 90, np.uint8)
        )
        photographs.append((Image.fromarray(np.tile(row, (side, 1))), number % 2))
    return photographs
