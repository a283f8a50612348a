"""Folders, datasets and Pascal VOC as listings: each image has a position that never changes."""

from ._folders import IMAGE_SUFFIXES, ImageListing, labelled, open_images
from ._listing import Listing, OnError, Skipped, Split
from ._sampling import KeyedSampler, class_balanced
from ._voc import MaskListing, mask_array, open_masks

# isort: split
# For other wings, not for users.
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
