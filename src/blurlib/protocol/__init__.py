"""The paper's protocol: canonical side, blur, 8 bits, network side, crops; a mask follows its image."""

from ._images import blurred, crop_boxes, random_crop, resized, to_canonical, to_network, to_rgb, turn_upright
from ._normalisation import IMAGENET_MEAN, IMAGENET_STD, normalisation, normalisation_source, normalised
from ._segmentation import SegmentationProtocol, segmentation_view, training_pair
from ._sizes import Average, Crops, Protocol, Resample, round_side, shorter_side_size
from ._views import evaluation_views, training_view

# isort: split
# For other wings, not for users.
from ._segmentation import check_sizes

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Average",
    "Crops",
    "Protocol",
    "Resample",
    "SegmentationProtocol",
    "blurred",
    "crop_boxes",
    "evaluation_views",
    "normalisation",
    "normalisation_source",
    "normalised",
    "random_crop",
    "resized",
    "round_side",
    "segmentation_view",
    "shorter_side_size",
    "to_canonical",
    "to_network",
    "to_rgb",
    "training_pair",
    "training_view",
    "turn_upright",
]
