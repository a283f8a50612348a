"""One epoch of training."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from .._common.devices import batches
from .._common.distributed import ProcessGroup
from .._common.interrupts import StopRequest
from .._common.progress import progress_bar
from .._tasks import TrainingTask, running_statistics
from ..data import warn_of_void
from ._optimisation import Optimisation

# Of the labels that count, how many there are, images that were read, void labels, passes of a single image.
_SUMS = ("loss", "correct", "counted", "images", "void", "single")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Checkpoints(Protocol):
    """Keeps what is done of an epoch."""

    @property
    def kept(self) -> str:
        """What is, for messages."""

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""

    def save(self, done: Done) -> None:
        """Write one; all processes call this."""


@dataclass
class Done:
    """What is done of an epoch: whole in a checkpoint, so that the epoch goes on from there.

    `sums` are those of the epoch's row, over all processes; `broken` are this process's images.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def _epoch(
    parallel: nn.Module,
    optimisation: Optimisation,
    loader: DataLoader[Any],
    task: TrainingTask,
    epoch: int,
    team: ProcessGroup,
    *,
    done: Done,
    checkpoints: Checkpoints,
    stop: StopRequest,
    progress: bool,
) -> dict[str, float] | None:
    """Train for what is left of an epoch; return its row of the history, or None where `stop` ends it before.

    After each step `done` tells what is done.
    """
    started = time.perf_counter() - done.seconds
    settings = task.settings
    rates, steps = len(settings.rates), done.step + len(loader)
    # Pixels are counted too, beyond what float32 holds exactly; Apple's devices have nothing more.
    exact = torch.float32 if team.device.type == "mps" else torch.float64
    parallel.train()
    if settings.batch_norm == "eval":
        for module in parallel.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
    title = f"epoch {epoch + 1}/{rates}"
    shown = progress and team.rank == 0
    items = _awaited(loader, stop, team)
    with progress_bar(items, total=len(loader), title=title, unit="batch", show=shown) as bar:
        for batch in bar:
            done.broken.update((item.name, item.reason) for item in batch.skipped)
            optimisation.begin(epoch, done.step)
            # The backward pass too: a network that saves memory runs forward again in it.
            with running_statistics(parallel, when=task.needs_several and batch.single) as switched:
                loss, correct, counted = task.forward(parallel, batch, team)
                known = [counted, batch.size, batch.void, switched, bool(stop), checkpoints.due]
                numbers = torch.tensor([0.0, 0.0, *known], dtype=exact, device=team.device)
                numbers[0], numbers[1] = loss.detach(), correct
                # Over all processes, which so agree on whether this step is the last and what to keep.
                *sums, stopping, due = team.sum(numbers).tolist()
                total = dict(zip(_SUMS, sums, strict=True))
                if not math.isfinite(total["loss"]):
                    raise ValueError(
                        f"`lr` must keep the loss finite, got a loss of {total['loss']} in epoch {epoch + 1} "
                        f"of {rates}, step {done.step + 1} of {steps} at lr {optimisation.lr:g}; lower `lr`, "
                        f"or look for values in the model that are not finite. {checkpoints.kept}"
                    )
                if total["counted"]:  # else every image of the batch is broken, or without a label
                    # DistributedDataParallel averages over processes: this makes it the mean over the global
                    # batch, also where shares differ by an image.
                    optimisation.backward(loss * (team.world / total["counted"]))
            if total["counted"]:
                optimisation.step()
            done.step += 1
            done.sums = {name: done.sums[name] + value for name, value in total.items()}
            done.seconds = time.perf_counter() - started
            if seen := done.sums["counted"]:
                score = f"{done.sums['correct'] / seen:.3f}"
                bar.set_postfix({"loss": f"{done.sums['loss'] / seen:.3f}", task.score: score})
            if stopping and team.world > 1:
                break
            if due and done.step < steps:
                checkpoints.save(done)
    if done.step < steps:
        return None
    done.broken = team.merge(done.broken)
    _check(task, epoch, done, team, passes=team.world * steps)
    return {
        "epoch": epoch + 1,
        "lr": optimisation.lr,
        "loss": done.sums["loss"] / done.sums["counted"],
        task.score: done.sums["correct"] / done.sums["counted"],
        "images": int(done.sums["images"]),
        "skipped": len(done.broken),
        "single_image_batches": int(done.sums["single"]),
        "seconds": round(done.seconds, 3),
    }


def _awaited(loader: DataLoader[Any], stop: StopRequest, team: ProcessGroup) -> Iterator[Any]:
    """The batches. A single process ends them at a request to stop, also while it waits for one.

    Several end together, see :func:`_epoch`.
    """
    if team.world > 1:
        yield from batches(loader)
        return
    try:
        yield from stop.interruptible(batches(loader))
    except (KeyboardInterrupt, SystemExit):
        if not stop:
            raise


def _check(task: TrainingTask, epoch: int, done: Done, team: ProcessGroup, *, passes: int) -> None:
    """Refuse an epoch without images, and warn after the first of what looks wrong."""
    total, broken = done.sums, done.broken
    if total["images"] == 0:
        raise ValueError(
            f"`root` must hold images that can be read, got {len(broken)} that all cannot, such as "
            f"{next(iter(broken.values()))!r}; repair them"
        )
    if total["counted"] == 0:
        raise ValueError(
            f"`root` must hold masks with a labelled pixel, got {int(total['images'])} of void alone; "
            "look at their values"
        )
    if epoch == 0 and team.rank == 0:
        if total["single"] == passes:
            warnings.warn(
                "every batch held a single image of its size for some process, and batch norm used its "
                "running statistics throughout; a larger `batch_size` or one size for all would train them",
                stacklevel=2,
            )
        warn_of_void(task.listing, total["void"] / (total["void"] + total["counted"]))
