"""What a network is shown in an evaluation: the views of each image, gathered into batches of one size.

Each image is decoded once for all blurs and scales, in a loader process. Its 8-bit views then wait for others
of their size, which bounds memory whatever the number of conditions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..blurs import Blur, OwnShake, own_shake
from ..data import ImageListing, Skipped
from ..protocol import Average, Crops, Protocol, Resample, evaluation_views


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured; goes into the report's settings."""

    blurs: tuple[Blur, ...]
    scales: tuple[tuple[int, ...], ...]
    crops: Crops
    crop: int
    average: Average
    canonical_side: int
    resample: Resample
    seed: int

    def __post_init__(self) -> None:
        _ = self.protocol  # checks the numbers

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            canonical_side=self.canonical_side,
            network_side=self.sides,
            crop=self.crop,
            resample=self.resample,
        )

    @property
    def sides(self) -> tuple[int, ...]:
        """Every side once, however many settings use it."""
        return tuple(dict.fromkeys(side for setting in self.scales for side in setting))

    @property
    def conditions(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((str(blur), setting) for setting in self.scales for blur in self.blurs)

    def settings(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "blurs": [str(blur) for blur in self.blurs],
            "scales": [list(setting) for setting in self.scales],
            "border": self.protocol.border,
        }

    def pooled(self, sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Mean log-probabilities under each condition.

        Args:
            sums: (blurs, sides, C) sums of the log-probabilities of all crops or positions.
            counts: (blurs, sides) how many there were.

        Returns:
            (conditions, C)
        """
        means = []
        for setting in self.scales:
            chosen = [self.sides.index(side) for side in setting]
            total, number = sums[:, chosen], counts[:, chosen, None]
            if self.average == "crops":
                means.append(total.sum(dim=1) / number.sum(dim=1))
            else:
                means.append((total / number).mean(dim=1))
        return torch.cat(means)


Restore: TypeAlias = Callable[[np.ndarray, Blur], np.ndarray]
"""What happens to a blurred image before the network sees it; see `protocol.evaluation_views`."""


class _Views(Dataset[Any]):
    """Every view of one image, made in a loader process."""

    def __init__(self, listing: ImageListing, plan: Plan, restore: Restore | None) -> None:
        self.listing = listing
        self.plan = plan
        self.restore = restore

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, position: int) -> ImageViews | Skipped | Exception:
        plan, index = self.plan, int(self.listing.index[position])
        blurs = [own_shake(index, seed=plan.seed) if isinstance(b, OwnShake) else b for b in plan.blurs]

        spent = 0.0

        def timed(array: np.ndarray, blur: Blur) -> np.ndarray:
            nonlocal spent
            assert self.restore is not None
            started = time.perf_counter()
            array = self.restore(array, blur)
            spent += time.perf_counter() - started
            return array

        def views(image: Any, label: int) -> ImageViews:
            made = evaluation_views(
                image,
                blurs,
                protocol=plan.protocol,
                crops=plan.crops,
                restore=timed if self.restore else None,
            )
            every = range(len(blurs))
            sides = [torch.stack([made[number, side] for number in every]) for side in plan.sides]
            return ImageViews(position, label, sides, spent)

        try:
            return self.listing.view(position, views)
        except (FileNotFoundError, TypeError, ValueError) as error:
            # Handed over whole: raised in a worker it would arrive wrapped in the worker's own traceback.
            return error


class ImageViews(NamedTuple):
    """One image: for each side the uint8 views (blurs, crops, 3, h, w)."""

    position: int
    label: int
    views: list[torch.Tensor]
    seconds: float = 0.0  # that restoring took


class Owner(NamedTuple):
    """What a view in a batch shows."""

    position: int
    blur: int
    side: int


def loader(
    listing: ImageListing, plan: Plan, workers: int, positions: range, restore: Restore | None = None
) -> DataLoader[Any]:
    crops = 5 if plan.crops == "five" else 1
    size = [2 * side**2 if plan.crops == "dense" else min(side, plan.crop) ** 2 for side in plan.sides]
    heavy = 3 * len(plan.blurs) * crops * sum(size) > 2**24
    return DataLoader(
        _Views(listing, plan, restore),
        batch_size=None,
        sampler=positions,
        num_workers=workers,
        # Images in flight lie in shared memory, which containers often limit to 64 MB.
        prefetch_factor=None if not workers else 1 if heavy else 2,
        # Its own, so that the user's random numbers stay where they were.
        generator=torch.Generator(),
    )


def batches(
    items: Iterable[ImageViews], batch_size: int, area: int, networks: Sequence[int]
) -> Iterator[tuple[torch.Tensor, list[Owner]]]:
    """Gather views of one size, for one network, into batches of at most `batch_size` times `area` pixels.

    `networks` has a number for each of the plan's sides, the same where one network sees both.
    """
    waiting: dict[tuple[int, int, int], list[tuple[Owner, torch.Tensor]]] = {}

    def room(size: tuple[int, int, int]) -> int:
        return max(1, batch_size * area // max(area, size[0] * size[1]))

    def batch(size: tuple[int, int, int]) -> tuple[torch.Tensor, list[Owner]]:
        taken, rest = waiting[size][: room(size)], waiting[size][room(size) :]
        waiting[size] = rest
        if not rest:
            del waiting[size]
        return torch.stack([view for _, view in taken]), [owner for owner, _ in taken]

    for item in items:
        for side, views in enumerate(item.views):
            for blur, crops in enumerate(views):
                owner = Owner(item.position, blur, side)
                height, width = crops.shape[-2:]
                group = waiting.setdefault((height, width, networks[side]), [])
                group += [(owner, crop) for crop in crops]
        for size in [size for size, group in waiting.items() if len(group) >= room(size)]:
            while len(waiting.get(size, ())) >= room(size):
                yield batch(size)
        # Whole images come in many sizes: what waits may fill two batches before the oldest size must go.
        while sum(len(group) / room(size) for size, group in waiting.items()) > 2:
            yield batch(next(iter(waiting)))
    while waiting:
        yield batch(next(iter(waiting)))
