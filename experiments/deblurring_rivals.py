"""Filters of other packages, for deblurring.py: uint8 (3, H, W), a kernel and a weight to uint8."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


def rounded(values: Any) -> Tensor:
    """uint8 of values in [0, 1]."""
    return (torch.as_tensor(values).clamp(0, 1) * 255).round().to(torch.uint8)


def skimage_wiener(image: Tensor, kernel: Tensor, *, weight: float) -> Tensor:
    from skimage import restoration

    planes = image.numpy() / 255
    return rounded(np.stack([restoration.wiener(plane, kernel.numpy(), weight) for plane in planes]))


def skimage_richardson_lucy(image: Tensor, kernel: Tensor) -> Tensor:
    from skimage import restoration

    planes = image.numpy() / 255
    lucy = partial(restoration.richardson_lucy, psf=kernel.numpy(), num_iter=200)
    return rounded(np.stack([lucy(plane) for plane in planes]))


def deepinv_wiener(image: Tensor, kernel: Tensor, *, weight: float) -> Tensor:
    from deepinv.models import WienerDeconvolution
    from deepinv.physics import BlurFFT

    physics = BlurFFT(img_size=tuple(image.shape), filter=kernel.float()[None, None])
    with torch.no_grad():
        return rounded(WienerDeconvolution(lambda_reg=weight)(image[None].float() / 255, physics)[0])
