"""The paper's protocol: canonical side, blur, 8 bits, network side, crops; a mask follows its image."""

from ._images import blurred, crop_boxes, random_crop, resized, to_canonical, to_network, to_rgb, turn_upright
from ._normalisation import IMAGENET_MEAN, IMAGENET_STD, normalisation, normalisation_source, normalised
from ._sizes import Average, Crops, Measure, Protocol, Resample, scaled_size
from ._views import evaluation_views, training_crops, training_view

# isort: split
# For other wings, not for users.
from ._images import check_sizes

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Average",
    "Crops",
    "Measure",
    "Protocol",
    "Resample",
    "blurred",
    "crop_boxes",
    "evaluation_views",
    "normalisation",
    "normalisation_source",
    "normalised",
    "random_crop",
    "resized",
    "scaled_size",
    "to_canonical",
    "to_network",
    "to_rgb",
    "training_crops",
    "training_view",
    "turn_upright",
]
