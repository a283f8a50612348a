"""Work that processes share beside the steps of training, and that a request to stop ends for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from .._common.distributed import ProcessGroup
from .._common.interrupts import StopRequest

_T = TypeVar("_T")


class Shares:
    """Goes through this process's share of some work.

    Attributes:
        team: the processes.
        ended: whether a request to stop, to whichever process, has ended the work of all.
    """

    def __init__(self, team: ProcessGroup, stop: StopRequest) -> None:
        self.team, self._stop = team, stop
        self.ended = False

    def of(self, items: Iterable[_T], *, largest: int) -> Iterator[_T]:
        """The items of this process's share; `largest` is how many the largest share has."""
        iterator = iter(items)
        for _ in range(largest):
            asked = torch.tensor([float(bool(self._stop))], device=self.team.device)
            if self.team.sum(asked).item():
                self.ended = True
                return
            yield from _first(iterator)


def _first(iterator: Iterator[_T]) -> Iterator[_T]:
    """The next item, or none where the share has ended."""
    for item in iterator:
        yield item
        return
