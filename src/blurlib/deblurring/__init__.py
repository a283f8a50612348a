"""Deblurring by a known blur, and a classifier behind it: the paper's other way to robustness."""

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
