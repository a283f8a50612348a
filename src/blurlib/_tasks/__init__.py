"""Where classification and segmentation differ: what an item is, how a batch is made, the loss."""

from .classification import Classifying, running_statistics
from .segmentation import Segmenting

__all__ = ["Classifying", "Segmenting", "running_statistics"]
