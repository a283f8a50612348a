"""blurlib: visual recognition that is robust to blur.

Blurs images as lenses, moving subjects and shaking hands do, fine-tunes networks on a mix of sharp and
blurred images, and measures what blur had cost and what came back.
"""

from . import _starting as _starting  # first: Ctrl-C while the command imports the rest

# isort: split
from importlib.metadata import version as _version

from . import (
    blurs,
    comparison,
    convolution,
    data,
    evaluation,
    kernels,
    metrics,
    mixes,
    models,
    protocol,
    randomness,
    records,
    training,
    transforms,
)
from .convolution import backends, blur
from .evaluation import evaluate
from .mixes import BlurMixSampler
from .training import finetune
from .transforms import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur

__version__ = _version("blurlib")

__all__ = [
    "BlurMixSampler",
    "CameraShakeBlur",
    "DiskBlur",
    "GaussianBlur",
    "MotionBlur",
    "backends",
    "blur",
    "blurs",
    "comparison",
    "convolution",
    "data",
    "evaluate",
    "evaluation",
    "finetune",
    "kernels",
    "metrics",
    "mixes",
    "models",
    "protocol",
    "randomness",
    "records",
    "training",
    "transforms",
]
