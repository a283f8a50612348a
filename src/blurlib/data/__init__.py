"""Listings of the images in folders, tar shards, datasets and Pascal VOC; subsets keep the positions."""

from .._common.pictures import IMAGE_SUFFIXES
from ._corrupt import corrupt
from ._folders import ImageListing, labelled, open_images
from ._listing import Listing, OnError, Skipped
from ._sampling import KeyedSampler, class_balanced
from ._shards import TarShards
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
    "TarShards",
    "class_balanced",
    "corrupt",
    "labelled",
    "mask_array",
    "open_images",
    "open_masks",
]
