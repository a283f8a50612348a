"""Which images, and in which order: keyed by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .._common import rng
from .._common.checks import check_integer

_LIMIT, _SHUFFLE = 21, 22  # purposes that keep keyed draws apart from those of other modules


def class_balanced(labels: np.ndarray, limit: int, *, seed: int = 0) -> np.ndarray:
    """Choose an even, seeded subset: the counts of two classes differ by at most one where images suffice.

    Within a class the images come in a keyed random order, so a larger limit only adds images to a smaller
    one.

    Args:
        labels: int64, shape (count,).
        limit: how many images, at least 1; as many as there are or more takes all.
        seed: another seed is another choice.

    Returns:
        Sorted positions, int64, shape (min(limit, count),).

    Example:
        >>> labels = np.array([0] * 10 + [1] * 10 + [2])
        >>> np.bincount(labels[class_balanced(labels, 7)]).tolist()
        [3, 3, 1]
    """
    count = len(labels)
    if limit >= count:
        return np.arange(count)
    draws = rng.words(count, seed=seed, key=(0, _LIMIT))
    order = np.lexsort((draws, labels))
    names, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(count, dtype=np.int64)  # place within its class
    rank[order] = np.arange(count) - np.repeat(starts, sizes)
    turn = rng.permutation(len(names), seed=seed, key=(1, _LIMIT))  # which classes get the odd ones
    chosen = np.lexsort((turn[np.searchsorted(names, labels)], rank))[:limit]
    return np.sort(chosen)


class KeyedSampler(Sampler[list[tuple[int, int]]]):
    """A batch sampler that yields (epoch, position), so that persistent workers know the epoch.

    The order is a function of (seed, epoch). With several processes each takes every `world`-th image of the
    same global batch: nothing is padded or dropped, and shares of a batch differ by one image at most (the
    last batch may leave a process with an empty list).

    Args:
        count: number of images.
        batch_size: images in a global batch.
        seed: of the shuffle.
        shuffle: reshuffle for each epoch; otherwise the listing's order.
        rank: this process.
        world: number of processes.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> sampler = KeyedSampler(5, batch_size=2, shuffle=False)
        >>> sampler.set_epoch(3)
        >>> list(sampler)
        [[(3, 0), (3, 1)], [(3, 2), (3, 3)], [(3, 4)]]
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count = check_integer("count", count, low=0, high=2**62)
        self.batch_size = check_integer("batch_size", batch_size, low=1, high=2**31)
        self.world = check_integer("world", world, low=1, high=2**31)
        self.rank = check_integer("rank", rank, low=0, high=world - 1)
        self.seed, self.shuffle, self.epoch, self.step = seed, shuffle, 0, 0

    def set_epoch(self, epoch: int, *, step: int = 0) -> None:
        """Choose the order of the next iteration, and with which batch it begins.

        Args:
            epoch: from 0.
            step: how many batches of the epoch to leave out, for a run that goes on in its middle.
        """
        self.epoch = check_integer("epoch", epoch, low=0, high=2**62)
        self.step = check_integer("step", step, low=0, high=2**62)

    def __len__(self) -> int:
        return max(0, -(-self.count // self.batch_size) - self.step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.count)
        if self.shuffle:
            order = rng.permutation(self.count, seed=self.seed, key=(self.epoch, _SHUFFLE))
        for start in range(self.step * self.batch_size, self.count, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield [(self.epoch, int(position)) for position in batch[self.rank :: self.world]]
