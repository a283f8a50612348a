"""Where the work runs: devices, loader processes, loaders that end their workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from .checks import check_integer
from .interrupts import leave_signals_to_parent

__all__ = ["batches", "end_workers", "make_loader", "pick_device", "pick_workers"]

T = TypeVar("T")


def make_loader(dataset: Dataset[Any], *, workers: int, **options: Any) -> DataLoader[Any]:
    """A loader whose processes, if it has any, leave Ctrl-C to this one.

    It has a generator of its own, so that the user's random numbers stay where they were.
    """
    options.setdefault("generator", torch.Generator())
    return DataLoader(dataset, num_workers=workers, worker_init_fn=leave_signals_to_parent, **options)


def end_workers(loader: DataLoader[Any]) -> None:
    """End a loader's persistent processes now.

    After an interruption the interpreter would close their queues first, and then wait for each of them.
    """
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()  # noqa: SLF001  torch has no public way
        loader._iterator = None  # noqa: SLF001  likewise


def batches(loader: DataLoader[T]) -> Iterator[T]:
    """The batches of a loader, whose workers end at once when one of them fails.

    torch raises a worker's error in a frame that the error refers to; only the garbage collector frees such a
    ring, it closes the workers' queues before the loader can say goodbye, and the process then waits 5 s for
    each worker.
    """
    try:
        yield from loader
    except Exception as error:
        if loader.num_workers == 0:
            raise
        raise error.with_traceback(None)  # noqa: B904  the same error; its text tells where the worker was


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device to work on; None takes CUDA, else Apple's, else the CPU.

    Under torchrun "cuda" without a number is the process's own GPU. A device that is unknown or absent raises
    a ValueError.
    """
    if device is None:
        best = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else best
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
        if str(picked) == "cuda":
            picked = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`device` must be a device of this machine such as 'cpu' or 'cuda', got {device!r} ({reason}); "
            "leave it out to take the best there is"
        ) from error
    return picked


def pick_workers(workers: int | None, count: int, *, world: int = 1) -> int:
    """How many loader processes to use for `count` images; 0 loads in the process itself.

    None takes one for each core that this process may use (8 at most, shared among the `world` processes of
    this machine), and none for fewer than 64 images, where starting them costs more than they save. Results
    never depend on the number.
    """
    if workers is not None:
        return check_integer("workers", workers, low=0, high=1024)
    if count < 64:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(8, cores // world)
    return share if share > 1 else 0
