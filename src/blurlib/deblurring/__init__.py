"""Non-blind deblurring, and classification of deblurred images: the paper's alternative to fine-tuning."""

from ._classifier import DeblurThenClassify
from ._methods import METHODS, ROUNDING, Deblur, deepinv_restorer, epll, richardson_lucy, wiener
from ._patch_prior import PatchPrior, default_prior

__all__ = [
    "METHODS",
    "ROUNDING",
    "Deblur",
    "DeblurThenClassify",
    "PatchPrior",
    "deepinv_restorer",
    "default_prior",
    "epll",
    "richardson_lucy",
    "wiener",
]
