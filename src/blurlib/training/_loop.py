"""One epoch of training."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .._common.devices import batches
from .._common.distributed import ProcessGroup
from .._common.interrupts import StopRequest
from .._common.progress import progress_bar
from .._tasks import Batch, TrainingTask, running_statistics
from ..data import warn_of_void
from ._optimisation import Optimisation

# Of the labels that count, how many there are, images that were read, void labels, passes of a single image,
# passes.
_SUMS = ("loss", "correct", "counted", "images", "void", "single", "passes")
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

    `sums` are those of the epoch's row, over all processes; `broken` are this process's images; `overflows`
    the steps that were left out since float16 overflowed.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    overflows: int = 0


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
) -> dict[str, Any] | None:
    """Train for what is left of an epoch; return its row of the history, or None where `stop` ends it before.

    After each step `done` tells what is done.
    """
    started = time.perf_counter() - done.seconds
    settings = task.settings
    rates, steps = len(settings.rates), done.step + len(loader)
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
            step = _Step(parallel, optimisation, task, team, batch)
            total, stopping, due = step.shown(bool(stop), checkpoints.due)
            if not math.isfinite(total["loss"]):
                raise ValueError(
                    f"`lr` must keep the loss finite, got a loss of {total['loss']} in epoch {epoch + 1} "
                    f"of {rates}, step {done.step + 1} of {steps} at lr {optimisation.lr:g}; lower `lr`, or "
                    f"look for values in the model that are not finite. {checkpoints.kept}"
                )
            if total["counted"] and not optimisation.step():
                done.overflows += 1
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
    _check(task, epoch, done, team)
    row: dict[str, Any] = {
        "epoch": epoch + 1,
        "lr": optimisation.lr,
        "loss": done.sums["loss"] / done.sums["counted"],
        task.score: done.sums["correct"] / done.sums["counted"],
        "images": int(done.sums["images"]),
        "skipped": len(done.broken),
        "single_image_batches": int(done.sums["single"]),
        "seconds": round(done.seconds, 3),
    }
    return row | {"overflows": done.overflows} if settings.amp == "fp16" else row


class _Step:
    """What a step shows to the network, and what it knows of that afterwards."""

    def __init__(
        self,
        parallel: nn.Module,
        optimisation: Optimisation,
        task: TrainingTask,
        team: ProcessGroup,
        batch: Batch,
    ) -> None:
        self.parallel, self.optimisation, self.task, self.team = parallel, optimisation, task, team
        self.batch = batch
        # Pixels are counted too, beyond what float32 holds exactly; Apple's devices have nothing more.
        self.exact = torch.float32 if team.device.type == "mps" else torch.float64

    def shown(self, stopping: bool, due: bool) -> tuple[dict[str, float], bool, bool]:
        """Add up gradients; return sums over all processes, which so agree on what is next."""
        synchronised = self.team.world > 1 and any(
            isinstance(module, nn.SyncBatchNorm) for module in self.parallel.modules()
        )
        show = self._in_parts if synchronised or self.task.settings.accumulate > 1 else self._at_once
        return show(stopping, due)

    def _at_once(self, stopping: bool, due: bool) -> tuple[dict[str, float], bool, bool]:
        # The backward pass too: a network that saves memory runs forward again in it.
        with running_statistics(
            self.parallel, when=self.task.needs_several and self.batch.single
        ) as switched:
            loss, correct, counted = self.task.forward(self.parallel, self.batch, self.team)
            known = [counted, self.batch.size, self.batch.void, switched, 1, stopping, due]
            total, stopping, due = self._sums(loss, correct, known)
            if total["counted"] and math.isfinite(total["loss"]):
                self._backward(loss, total["counted"])
        return total, stopping, due

    def _in_parts(self, stopping: bool, due: bool) -> tuple[dict[str, float], bool, bool]:
        """The same in several passes: what counts is known before the first."""
        parts = self.batch.parts(self.task.settings.accumulate)
        passes = sum(len(part.groups) for part in parts)
        known = [self.task.counted(self.batch), passes, passes**2]
        numbers = torch.tensor(known, dtype=self.exact, device=self.team.device)
        counted, all_passes, squares = self.team.sum(numbers).tolist()
        # Layers that wait for those of other processes must do so equally often.
        uneven = self.team.world * squares != all_passes**2
        loss, correct = torch.zeros(2, dtype=self.exact, device=self.team.device)
        switches = 0
        for number, part in enumerate(parts, start=1):
            single = self.task.needs_several and part.single
            with (
                self.team.apart(self.parallel, when=number < len(parts)),
                running_statistics(self.parallel, when=single or uneven, synchronised=uneven) as switched,
            ):
                own, right, _ = self.task.forward(self.parallel, part, self.team)
                if counted:
                    self._backward(own, counted)
            loss, correct, switches = loss + own.detach(), correct + right, switches + switched
        known = [known[0], self.batch.size, self.batch.void, switches, len(parts), stopping, due]
        return self._sums(loss, correct, known)

    def _sums(
        self, loss: Tensor, correct: Tensor, known: Sequence[float]
    ) -> tuple[dict[str, float], bool, bool]:
        numbers = torch.tensor([0.0, 0.0, *known], dtype=self.exact, device=self.team.device)
        numbers[0], numbers[1] = loss.detach(), correct
        *sums, stopping, due = self.team.sum(numbers).tolist()
        return dict(zip(_SUMS, sums, strict=True)), bool(stopping), bool(due)

    def _backward(self, loss: Tensor, counted: float) -> None:
        # DistributedDataParallel averages over processes: this makes it the mean over the global batch, also
        # where shares differ by an image.
        self.optimisation.backward(loss * (self.team.world / counted))


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


def _check(task: TrainingTask, epoch: int, done: Done, team: ProcessGroup) -> None:
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
        if total["single"] == total["passes"]:
            warnings.warn(
                "every batch held a single image of its size for some process, and batch norm used its "
                "running statistics throughout; a larger `batch_size` or one size for all would train them",
                stacklevel=2,
            )
        warn_of_void(task.listing, total["void"] / (total["void"] + total["counted"]))
