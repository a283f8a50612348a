"""One convolution, fast: the operator, what carries it out, and how images lie in memory."""

from .core import MISSING, cpu_backend
from .cpu import blur_array
from .cuda import cuda_backend
from .layouts import Border, is_interleaved, planes
from .operators import apply
from .trajectories import draw_trajectory, spline_basis

__all__ = [
    "MISSING",
    "Border",
    "apply",
    "blur_array",
    "cpu_backend",
    "cuda_backend",
    "draw_trajectory",
    "is_interleaved",
    "planes",
    "spline_basis",
]
