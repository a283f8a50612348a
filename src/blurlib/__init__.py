"""blurlib: visual recognition that is robust to blur.

Blurs images as lenses, moving subjects and shaking hands do, fine-tunes networks on a mix of sharp and
blurred images, and measures what blur had cost and what came back.
"""

from . import blurs, convolution, kernels, mixes, randomness, transforms
from .convolution import blur
from .mixes import BlurMixSampler
from .transforms import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur

__all__ = [
    "BlurMixSampler",
    "CameraShakeBlur",
    "DiskBlur",
    "GaussianBlur",
    "MotionBlur",
    "blur",
    "blurs",
    "convolution",
    "kernels",
    "mixes",
    "randomness",
    "transforms",
]
