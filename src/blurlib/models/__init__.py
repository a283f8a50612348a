"""Networks as the paper applies them: fully convolutional, at several scales, zoom-out; and their outputs."""

from ._dense import Dense, dense
from ._multiscale import MultiScale, PerScale, Scales
from ._outputs import dense_log_probs, eval_mode, logits, pixel_logits
from ._zoomout import ZoomOut, zoom_out_layers

# isort: split
# For other wings, not for users.
from ._named import named_network
from ._outputs import class_scores

__all__ = [
    "Dense",
    "MultiScale",
    "PerScale",
    "Scales",
    "ZoomOut",
    "dense",
    "dense_log_probs",
    "eval_mode",
    "logits",
    "pixel_logits",
    "zoom_out_layers",
]
