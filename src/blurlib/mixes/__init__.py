"""Mixes of blurs: a sampler that draws a blur for each image, of a batch or of a data set.

Keyed draws are functions of (seed, epoch, index of the image). Where images have names and no numbers, as in
streams, :func:`index_of` makes the index from the name.
"""

from ._dataset import BlurredDataset
from ._names import index_of
from ._sampler import BlurMixSampler

# isort: split
# For other wings, not for users.
from ._items import check_channels_first, replace_image

__all__ = ["BlurMixSampler", "BlurredDataset", "index_of"]
