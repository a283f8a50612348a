"""blurlib: visual recognition that is robust to blur.

Blurs images as lenses, moving subjects and shaking hands do, fine-tunes networks on a mix of sharp and
blurred images, and measures the accuracy lost to each blur and recovered by fine-tuning.
"""

from ._common import interrupts as _interrupts  # first: Ctrl-C while the command imports the rest

# isort: split
from importlib.metadata import version as _version

from . import (
    blurs,
    data,
    deblurring,
    evaluation,
    functional,
    integrations,
    kernels,
    metrics,
    mixes,
    models,
    notation,
    protocol,
    reporting,
    training,
    transforms,
)
from ._gauge import BlurEstimate, gauge
from ._tolerance import BlurShare, Camera, KindTolerance, Tolerance, tolerance
from .evaluation import evaluate
from .functional import backends, blur
from .mixes import BlurMixSampler
from .reporting import Report, compare, show
from .training import finetune
from .transforms import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur

__version__ = _version("blurlib")

__all__ = [
    "BlurEstimate",
    "BlurMixSampler",
    "BlurShare",
    "Camera",
    "CameraShakeBlur",
    "DiskBlur",
    "GaussianBlur",
    "KindTolerance",
    "MotionBlur",
    "Report",
    "Tolerance",
    "backends",
    "blur",
    "blurs",
    "compare",
    "data",
    "deblurring",
    "evaluate",
    "evaluation",
    "finetune",
    "functional",
    "gauge",
    "integrations",
    "kernels",
    "metrics",
    "mixes",
    "models",
    "notation",
    "protocol",
    "reporting",
    "show",
    "tolerance",
    "training",
    "transforms",
]
