"""Views of images, gathered into batches of one size; and the network's outputs, summed by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch


class ImageViews(NamedTuple):
    """One image: for each side the uint8 views (blurs, crops, 3, h, w)."""

    position: int
    label: int
    views: list[torch.Tensor]
    seconds: float = 0.0  # that restoring took
    measured: bool = False  # before; the views are of the size, but empty

    @property
    def shape(self) -> np.ndarray:
        """(sides, 3): crops, height and width."""
        return np.array([(each.shape[1], *each.shape[-2:]) for each in self.views], dtype=np.int32)


def placeholder(position: int, shape: np.ndarray, blurs: int) -> ImageViews:
    """What takes a measured image's place, without its pixels."""
    one = torch.zeros(1, dtype=torch.uint8)
    sizes = [(blurs, crops, 3, height, width) for crops, height, width in shape.tolist()]
    return ImageViews(position, -1, [one.expand(size) for size in sizes], measured=True)


class Owner(NamedTuple):
    """Image, blur, side and crop of a view in a batch."""

    position: int
    blur: int
    side: int
    crop: int


def batches(
    items: Iterable[ImageViews], batch_size: int, area: int, networks: Sequence[int]
) -> Iterator[tuple[list[torch.Tensor], list[Owner]]]:
    """Gather views of one size, for one network, into batches of at most `batch_size` times `area` pixels.

    Views wait for others of their size, which bounds memory whatever the number of conditions. `networks` has
    a number for each side, the same where one network sees both.
    """
    waiting: dict[tuple[int, int, int], list[tuple[Owner, torch.Tensor]]] = {}

    def room(size: tuple[int, int, int]) -> int:
        return max(1, batch_size * area // max(area, size[0] * size[1]))

    def batch(size: tuple[int, int, int]) -> tuple[list[torch.Tensor], list[Owner]]:
        taken, rest = waiting[size][: room(size)], waiting[size][room(size) :]
        waiting[size] = rest
        if not rest:
            del waiting[size]
        return [view for _, view in taken], [owner for owner, _ in taken]

    for item in items:
        for side, views in enumerate(item.views):
            for blur, crops in enumerate(views):
                height, width = crops.shape[-2:]
                group = waiting.setdefault((height, width, networks[side]), [])
                group += [(Owner(item.position, blur, side, n), crop) for n, crop in enumerate(crops)]
        for size in [size for size, group in waiting.items() if len(group) >= room(size)]:
            while len(waiting.get(size, ())) >= room(size):
                yield batch(size)
        # Whole images come in many sizes: what waits may fill two batches before the oldest size must go.
        while sum(len(group) / room(size) for size, group in waiting.items()) > 2:
            yield batch(next(iter(waiting)))
    while waiting:
        yield batch(next(iter(waiting)))


class ViewSums:
    """Sums of the log-probabilities of one image (blurs, sides, C), and the number of terms."""

    def __init__(self, item: ImageViews, blurs: int) -> None:
        self.label, self.seconds, self.shape = item.label, item.seconds, item.shape
        self.left = sum(views.shape[0] * views.shape[1] for views in item.views)
        self.sums = torch.zeros(0)
        self.counts = torch.zeros(blurs, len(item.views), dtype=torch.float64)

    def add(self, row: torch.Tensor, owner: Owner, positions: int) -> None:
        if not len(self.sums):
            self.sums = torch.zeros(*self.counts.shape, len(row), dtype=torch.float64)
        self.sums[owner.blur, owner.side] += row
        self.counts[owner.blur, owner.side] += positions
        self.left -= 1
