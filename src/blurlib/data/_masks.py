"""Masks that look as if 255 were an object, and those that are mostly void."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .._common.devices import make_loader
from ..metrics import VOID
from ._listing import Listing, Skipped
from ._voc import MaskListing


class _Values(Dataset[Any]):
    """The labels that each mask holds."""

    def __init__(self, listing: MaskListing) -> None:
        self.listing = listing

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, position: int) -> set[int] | Exception:
        try:
            values = self.listing.view(position, lambda _, mask: set(np.unique(mask).tolist()))
        except (FileNotFoundError, TypeError, ValueError) as error:
            return error  # whole: raised in a worker it would come with the worker's traceback
        return set() if isinstance(values, Skipped) else values


def check_masks(listing: MaskListing, *, workers: int) -> None:
    """Refuse masks of 0 and 255, whose 255 is an object and would count as void.

    The first 16 masks are looked at and 48 spread over the listing; where these hold nothing but 0 and 255,
    the others too, until one has another label. Where the listing says what is void, nothing is looked at.

    Args:
        listing: of images and masks.
        workers: loader processes of the work. With some, one reads the masks here: what a dataset opens when
            it is first read must not be opened before the workers are started, who would share it.
    """
    if listing.reduce_zero_label or listing.ignore_index != VOID:
        return
    count = len(listing)
    spread = np.linspace(0, count - 1, 48).astype(np.int64).tolist()
    first = list(dict.fromkeys([*range(min(16, count)), *spread]))
    rest = sorted(set(range(count)) - set(first))
    found: set[int] = set()
    for positions in (first, rest):
        for values in make_loader(
            _Values(listing), workers=min(workers, 1), batch_size=None, sampler=positions
        ):
            if isinstance(values, Exception):
                raise values
            found |= values
            if found - {0, VOID}:
                return
        if found != {0, VOID}:
            return
    raise ValueError(
        f"`root` must have masks of class numbers, with {VOID} only for void, got nothing but 0 and {VOID} "
        f"in {count} masks; if {VOID} marks an object, store it as 1, for example as "
        f"Image.fromarray((np.asarray(mask) == {VOID}).astype(np.uint8)); if none of these images has "
        "an object, take more images"
    )


def warn_of_void(listing: Listing[Any], share: float) -> None:
    """Warns where more than half of the pixels do not count."""
    if share > 0.5 and isinstance(listing, MaskListing):
        void, remedy = str(VOID), f"if {VOID} marks a class, give it a number below"
        if listing.reduce_zero_label or listing.ignore_index != VOID:
            void = f"{listing.ignore_index}{' and 0' if listing.reduce_zero_label else ''}"
            remedy = "if a class is among these, change `ignore_index` or `reduce_zero_label`"
        warnings.warn(
            f"{100 * share:.0f} % of the pixels in the masks of `root` are void ({void}) and do not count; "
            f"{remedy}",
            stacklevel=3,
        )
