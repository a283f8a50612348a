"""Names of files, as many as there are images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import overload

import numpy as np


class Names:
    """Encoded names in one block of bytes: a single long one costs no more than its length.

    A forked worker that touches an object copies its memory page, and in a list of a million strings it ends
    up with copies of all of them; here it touches three.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        self.block = b"".join(names)
        lengths = np.array([len(name) for name in names], dtype=np.int64)
        ends = np.cumsum(lengths)
        self.bounds = np.stack([ends - lengths, ends], axis=1)

    def __len__(self) -> int:
        return len(self.bounds)

    @overload
    def __getitem__(self, which: int) -> bytes: ...
    @overload
    def __getitem__(self, which: np.ndarray) -> Names: ...
    def __getitem__(self, which: int | np.ndarray) -> bytes | Names:
        """A name; or those at several positions, in the same block."""
        if not isinstance(which, np.ndarray):
            start, end = self.bounds[which]
            return self.block[start:end]
        other = copy.copy(self)
        other.bounds = self.bounds[which]
        return other
