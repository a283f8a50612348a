"""What listings of images share: splits, broken images, names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch.utils.data import Subset

OnError = Literal["raise", "skip"]
Split = Literal["train", "val"]


@dataclass(frozen=True)
class Skipped:
    """What a loader hands on in place of a broken image under `on_error="skip"`.

    Attributes:
        name: the image's id: its path below the root, or its index in the dataset.
        reason: the error's text.

    Example:
        >>> Skipped("val/cat/7.jpg", "image file is truncated").name
        'val/cat/7.jpg'
    """

    name: str
    reason: str


def folder_name(folder: str | os.PathLike[str]) -> str:
    """A folder's own name, for texts: bytes that are no text are escaped."""
    return Path(folder).resolve().name.encode(errors="backslashreplace").decode()


def subset_indices(root: object) -> bytes:
    """Which items of which `Subset` a dataset takes; empty for any other."""
    if not isinstance(root, Subset):
        return b""
    return np.asarray(root.indices, dtype="<i8").tobytes() + subset_indices(root.dataset)
