"""Listings of the images in folders, datasets and Pascal VOC; an image keeps its position in all subsets."""

from .._common.pictures import IMAGE_SUFFIXES
from ._folders import ImageListing, labelled, open_images
from ._listing import Listing, OnError, Skipped
from ._sampling import KeyedSampler, class_balanced
from ._splits import Split
from ._voc import MaskListing, mask_array, open_masks

# isort: split
# For other wings, not for users.
from ._class_map import ClassMap, class_outputs
from ._masks import check_masks, warn_of_void

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageListing",
    "KeyedSampler",
    "Listing",
    "MaskListing",
    "OnError",
    "Skipped",
    "Split",
    "class_balanced",
    "labelled",
    "mask_array",
    "open_images",
    "open_masks",
]
