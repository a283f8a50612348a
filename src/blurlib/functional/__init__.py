"""Blur images: one same-size true convolution with a border rule, with one kernel an image or one for all.

On the CPU a native core makes a plan for the kernel and carries it out; on other devices torch convolves,
directly or by FFT. Both are implementations of one operator, whose gradient is its adjoint.
"""

from .._engine import Border
from ._apply import apply, camera_shake_blur, disk_blur, gaussian_blur, motion_blur
from ._blur import Backend, backends, blur
from ._border import Constant, Outside

# isort: split
# For other wings, not for users.
from ._apply import ARRAY_REMEDY, convolve
from ._border import check_border, check_outside

__all__ = [
    "Backend",
    "Border",
    "Constant",
    "Outside",
    "apply",
    "backends",
    "blur",
    "camera_shake_blur",
    "disk_blur",
    "gaussian_blur",
    "motion_blur",
]
