"""Where the work runs: devices, loader processes, loaders that end their workers."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, default_collate, default_convert

from .checks import check_integer
from .interrupts import leave_signals_to_parent, worker_ended
from .passing import Passing, Piped

__all__ = ["batches", "end_workers", "make_loader", "pick_device", "pick_workers", "sent"]

LONGEST_WAIT = 600.0
"""Seconds without a batch from loader processes that hang."""

T = TypeVar("T")


def make_loader(dataset: Dataset[Any], *, workers: int, **options: Any) -> DataLoader[Any]:
    """A loader whose processes, if it has any, leave Ctrl-C to this one.

    It has a generator of its own, so that the user's random numbers stay where they were. Its batches are to
    be taken by :func:`batches`, unless they have no tensors.
    """
    options.setdefault("generator", torch.Generator())
    if workers:
        usual = (
            default_collate if options.get("batch_size", 1) or "batch_sampler" in options else default_convert
        )
        options["collate_fn"] = Passing(options.get("collate_fn") or usual, workers)
        options.setdefault("timeout", LONGEST_WAIT)
    return DataLoader(dataset, num_workers=workers, worker_init_fn=leave_signals_to_parent, **options)


def end_workers(loader: DataLoader[Any]) -> None:
    """End a loader's persistent processes now.

    After an interruption the interpreter would close their queues first, and then wait for each of them.
    """
    iterator = getattr(loader, "_iterator", None)
    _end_workers(iterator, list(getattr(iterator, "_workers", ())))


def batches(loader: DataLoader[T]) -> Generator[T, None, None]:
    """The batches of a loader, whose workers end at once when one of them fails, or the work stops.

    torch raises a worker's error in a frame that the error refers to; only the garbage collector frees such a
    ring, it closes the workers' queues before the loader can say goodbye, and the process then waits 5 s for
    each worker.
    """
    iterator, warned = iter(loader), False
    try:
        for batch in iterator:
            if isinstance(batch, Piped):
                if not warned:
                    warnings.warn(
                        f"/dev/shm has {batch.free / 1e6:.0f} MB free, too little for batches of "
                        f"{batch.size / 1e6:.0f} MB from {loader.num_workers} loader processes: these pass "
                        "through pipes, which takes longer; make it larger (docker run --shm-size=1g)",
                        stacklevel=2,
                    )
                    warned = True
                batch = batch.opened()
            yield batch
    except BaseException as error:
        workers = list(getattr(iterator, "_workers", ()))
        # The end of its pipe may be known before the process's own.
        codes = _killed(workers, wait=isinstance(error, (EOFError, ConnectionError)))
        _end_workers(iterator, workers)
        if not workers or not isinstance(error, Exception) or isinstance(error, ChildProcessError):
            raise
        if codes:
            raise worker_ended(-codes[0]) from None
        if "DataLoader timed out" in str(error):
            raise TimeoutError(
                f"no batch came from the {loader.num_workers} loader processes for {loader.timeout / 60:g} "
                "minutes; look whether the disk or network with the images hangs, or the dataset waits for "
                "something, and try workers=0, which does without them"
            ) from None
        raise error.with_traceback(None)  # noqa: B904  the same error; its text tells where the worker was


def _killed(workers: Sequence[Any], *, wait: bool) -> list[int]:
    """Exit codes of processes that a signal has ended; `wait` gives them a second to do so."""
    end = time.monotonic() + wait
    while True:
        codes = [process.exitcode for process in workers if (process.exitcode or 0) < 0]
        if codes or time.monotonic() >= end:
            return codes
        time.sleep(0.01)


def _end_workers(iterator: Any, workers: Sequence[Any]) -> None:
    """Let a loader's processes end; those that are busy with an item for more than 2 s are killed."""
    if not workers:
        return
    own = attrgetter("_workers_done_event", "_index_queues", "_shutdown_workers")
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # other versions of torch
        attrgetter("_C._remove_worker_pids")(torch)(id(iterator))  # whose end is no error from here on
        done, queues, shut_down = own(iterator)
        done.set()
        for queue in queues:
            queue.put(None)
        end = time.monotonic() + 2
        for process in workers:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
        shut_down()


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


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device, without waiting for it: from pinned memory, kept until it is over."""
    if device.type != "cuda":
        return tensor.to(device)
    if torch.cuda.is_available():  # else the device is one of a fake tensor
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
