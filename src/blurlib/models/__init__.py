"""Networks as they are applied: dense, at several scales, by name; and what they return."""

from ._dense import Dense, dense
from ._multiscale import MultiScale, PerScale, Scales
from ._outputs import evaluating, pixel_logits, positions, scores
from ._zoomout import ZoomOut, zoom_out_layers

# isort: split
# For other wings, not for users.
from ._named import named_network

__all__ = [
    "Dense",
    "MultiScale",
    "PerScale",
    "Scales",
    "ZoomOut",
    "dense",
    "evaluating",
    "pixel_logits",
    "positions",
    "scores",
    "zoom_out_layers",
]
