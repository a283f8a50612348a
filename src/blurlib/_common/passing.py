"""How a loader's processes pass batches on: in shared memory, or through pipes where it has little room."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Passing", "Piped"]

_SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Piped:
    """A batch as bytes, and why: its size, and the free shared memory, in bytes."""

    content: bytes
    size: int
    free: int

    def opened(self) -> Any:
        """The batch."""
        return pickle.loads(self.content)


class Passing:
    """Collates a batch in a loader's process and, if need be, packs it for a pipe.

    Tensors are passed in shared memory. Where that is full, torch does not say so: the process waits for
    ever, or is killed. So what could fill more than half of what is free, if all processes passed as much at
    once, is sent through a pipe, which takes two copies more.

    Args:
        collate: makes a batch of items.
        workers: how many processes pass batches.
    """

    def __init__(self, collate: Callable[[Any], Any], workers: int) -> None:
        self.collate, self.workers = collate, workers

    def __call__(self, items: Any) -> Any:
        """The batch itself, or :class:`Piped`."""
        batch = self.collate(items)
        try:
            found = os.statvfs(_SHARED)
        except (AttributeError, OSError):
            return batch  # another system, without such a folder
        free, size = found.f_bavail * found.f_frsize, _size(batch)
        if 2 * self.workers * size <= free:
            return batch
        stream = io.BytesIO()
        _Packer(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(batch)
        return Piped(stream.getvalue(), size, free)


class _Packer(pickle.Pickler):
    """With tensors as plain bytes."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor:
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


class _Counter(pickle.Pickler):
    """Adds up the tensors instead of writing them."""

    size = 0

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            self.size += value.untyped_storage().nbytes()
            return int, ()
        return NotImplemented


def _size(batch: Any) -> int:
    counter = _Counter(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL)
    counter.dump(batch)
    return counter.size
