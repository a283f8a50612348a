"""blurlib: visual recognition that is robust to blur.

Blurs images as lenses, moving subjects and shaking hands do, fine-tunes networks on a mix of sharp and
blurred images, and measures what blur had cost and what came back.
"""

from . import (
    blurs,
    convolution,
    data,
    evaluation,
    kernels,
    mixes,
    models,
    protocol,
    randomness,
    training,
    transforms,
)
from .convolution import blur
from .evaluation import evaluate
from .mixes import BlurMixSampler
from .training import finetune
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
    "data",
    "evaluate",
    "evaluation",
    "finetune",
    "kernels",
    "mixes",
    "models",
    "protocol",
    "randomness",
    "training",
    "transforms",
]
