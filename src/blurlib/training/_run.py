"""The epochs of a run: from where its checkpoint is, with checkpoints, to the end or to a request to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from .._common import rng
from .._common.devices import end_workers, make_loader
from .._common.distributed import ProcessGroup, rng_state, seeded_rng
from .._common.interrupts import StopRequest, stop_requests
from .._common.model_config import load_plain_state, plain_state
from .._tasks import TrainingTask
from ..data import KeyedSampler
from ._loop import Done, _epoch
from ._network import compiling
from ._norm import recalibrate, synchronised
from ._optimisation import Optimisation
from ._run_folder import RunFolder
from ._shares import Shares
from ._validation import Validation

_LOADER = 31  # purpose that keeps this key apart from those of other modules


class Run:
    """A network in training, as far as it is.

    Attributes:
        history: a row for each finished epoch.
        best: of the epoch that was best in validation: "epoch", its "score" and the weights, "model".
        skipped: the broken images, with the reasons.

    Args:
        network: what is trained.
        optimisation: of its parameters.
        task: of the run.
        team: its processes.
        folder: where checkpoints go, if any are wanted.
        every: minutes between two of them.
        validation: of the network, if one is wanted.
        state: a checkpoint to go on from.
    """

    def __init__(
        self,
        network: nn.Module,
        optimisation: Optimisation,
        task: TrainingTask,
        team: ProcessGroup,
        *,
        folder: RunFolder | None,
        every: float,
        validation: Validation | None,
        state: Mapping[str, Any] | None,
    ) -> None:
        self.network, self.optimisation, self.task, self.team = network, optimisation, task, team
        self.folder, self.every, self.validation = folder, every, validation
        self.best: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self._done, self._own = Done(), dict[str, Any]()
        self._kept, self._when = state is not None, time.monotonic()
        if state is None:
            return
        try:
            load_plain_state(network, state["model"])
        except RuntimeError as error:  # torch lists all names and shapes
            raise ValueError(
                "`model` must take the weights of the checkpoint to go on from, got a "
                f"{type(network).__name__} with others; pass the network that the run began with (`changes` "
                "allows another architecture of the same weights, such as another rate of dropout)"
            ) from error
        optimisation.load(state)
        self.history, self.skipped = list(state["history"]), dict(state["skipped"])
        self.best = state.get("best")
        self._keep_best()  # its file may have been lost, or be of epochs after this checkpoint
        if middle := state.get("done"):
            self._done, own = Done(**middle["epoch"]), middle["own"]
            # Of more processes than there were, the new ones begin as at the start of an epoch.
            self._own = own[team.rank] if team.rank < len(own) else {}

    def train(self, *, workers: int, resume: bool, progress: bool) -> None:
        """Train for what is left, and keep the weights.

        A signal that asks to stop ends it with a checkpoint, a line that says how to go on, and SystemExit or
        KeyboardInterrupt.

        Args:
            workers: loader processes.
            resume: whether the run was called so that the same call goes on, for that line.
            progress: show progress bars.
        """
        settings, team = self.task.settings, self.team
        sampler = KeyedSampler(
            len(self.task.listing),
            batch_size=settings.batch_size,
            seed=settings.seed,
            rank=team.rank,
            world=team.world,
        )
        loader = make_loader(
            self.task,
            workers=workers,
            batch_sampler=sampler,
            collate_fn=self.task.collate,
            pin_memory=team.device.type == "cuda",
            persistent_workers=workers > 0,
            generator=rng.generator(seed=settings.seed, key=(0, 0, _LOADER)),
        )
        with stop_requests() as stop:
            several = settings.batch_norm == "sync" and team.world > 1
            try:
                with (
                    synchronised(self.network, when=several),
                    compiling(team.wrap(self.network), wanted=settings.compile) as parallel,
                ):
                    whole = self._train(parallel, loader, sampler, stop, progress=progress)
            finally:
                end_workers(loader)
            if whole and settings.batch_norm == "recalibrate":
                shares = Shares(team, stop)
                whole = recalibrate(self.optimisation.result, self.task, shares, workers=workers)
            if whole and self.folder is not None and self.team.rank == 0:
                state = plain_state(self.optimisation.result)
                if settings.channels_last:
                    filters = {name: each.contiguous() for name, each in state.items() if each.ndim == 4}
                    state = {**state, **filters}
                self.folder.finish(state)
            # One may have come since, or to one process alone; this also waits for the first one's writing.
            stop.signum = max(self.team.gather(stop.signum))
        if stop:
            raise stop.told(self._place(resume=resume), show=self.team.rank == 0)

    def _train(
        self,
        parallel: nn.Module,
        loader: DataLoader[Any],
        sampler: KeyedSampler,
        stop: StopRequest,
        *,
        progress: bool,
    ) -> bool:
        """Whether all epochs were done before a request to stop."""
        seed = self.task.settings.seed
        for name, buffer in self.network.named_buffers() if "buffers" in self._own else ():
            buffer.copy_(self._own["buffers"][name])
        for epoch in range(len(self.history), len(self.task.settings.rates)):
            sampler.set_epoch(epoch, step=self._done.step)
            noise = self._own.get("noise")
            with seeded_rng(seed=seed, epoch=epoch, team=self.team, state=noise):
                row = _epoch(
                    parallel,
                    self.optimisation,
                    loader,
                    self.task,
                    epoch,
                    self.team,
                    done=self._done,
                    checkpoints=self,
                    stop=stop,
                    progress=progress,
                )
                if row is None:
                    if self._done.step:
                        self.save(self._done)
                    return False
            for each in dict.fromkeys((self.network, self.optimisation.result)):
                self.team.share_buffers(each)
            if self.validation is not None and not self._validated(row, stop):
                self.save(self._done)  # the epoch but for its validation
                return False
            self.history.append(row)
            self.skipped.update(self._done.broken)
            self._done, self._own = Done(), {}
            self.save(self._done)
            if self.best is not None and self.best["epoch"] == row["epoch"]:
                self._keep_best()
        return True

    def _validated(self, row: dict[str, Any], stop: StopRequest) -> bool:
        """Validate, if this epoch is one for it; False where a request to stop came before the end."""
        assert self.validation is not None
        settings, epoch, name = self.task.settings, row["epoch"], self.validation.name
        row[name] = None
        if epoch % settings.validate_every and epoch < len(settings.rates):
            return True
        row[name] = score = self.validation.score(Shares(self.team, stop))
        if score is None:
            return False
        if self.best is None or score > self.best["score"]:
            weights = plain_state(self.optimisation.result)
            kept = {name: each.detach().to("cpu", copy=True) for name, each in weights.items()}
            self.best = {"epoch": epoch, "score": score, "model": kept}
        return True

    def _keep_best(self) -> None:
        if self.best is not None and self.folder is not None and self.team.rank == 0:
            self.folder.keep_best(self.best["model"])

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint, by the clock of the process that writes."""
        waited = time.monotonic() - self._when
        return self.folder is not None and self.team.rank == 0 and waited >= 60 * self.every

    @property
    def kept(self) -> str:
        """What to do after a loss that is not finite."""
        if self.folder is None or not self._kept:
            return "Nothing is kept"
        return (
            f"The last checkpoint in {str(self.folder.path)!r} is kept: resume=True with changes=['lr'] and "
            "a smaller `lr` goes on from it"
        )

    def _place(self, *, resume: bool) -> str:
        """How far the run is, what is kept of it and how to go on, in words."""
        epochs, steps = len(self.task.settings.rates), self._done.step
        whole = math.ceil(len(self.task.listing) / self.task.settings.batch_size)
        place = f"after step {steps} of {whole} in epoch {len(self.history) + 1} of {epochs}"
        if len(self.history) == epochs:
            place = "after the last epoch"
        if self.folder is None:
            return f"{place}; nothing is kept, for `output` was not given"
        remedy = "the same call goes on" if resume else "add resume=True (--resume) to go on"
        kept = f"kept in {str(self.folder.checkpoint)!r}" if self._kept else "nothing to keep yet"
        return f"{place}; {kept}; {remedy}"

    def save(self, done: Done) -> None:
        """Check the weights, and keep all in a checkpoint; all processes call this."""
        self._check_weights()
        if self.folder is None:
            return
        middle: dict[str, Any] | None = None
        if done.step:
            done.broken = self.team.merge(done.broken)
            own = {"noise": rng_state(self.team.device)}
            if self.team.world > 1:  # each has its own statistics of batch norm until the epoch ends
                own["buffers"] = {name: each.cpu() for name, each in self.network.named_buffers()}
            middle = {"epoch": dict(vars(done)), "own": self.team.gather(own)}
        if self.team.rank == 0:
            self.folder.save(
                {
                    "model": plain_state(self.network),
                    **self.optimisation.state(),
                    "epoch": len(self.history),
                    "history": self.history,
                    "skipped": self.skipped,
                    "done": middle,
                    **({} if self.best is None else {"best": self.best}),
                }
            )
        self._kept, self._when = True, time.monotonic()

    def _check_weights(self) -> None:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters()):
            epoch = len(self.history) if self._done.step else len(self.history) - 1
            raise ValueError(
                f"`lr` must keep the weights finite, got some that are not in epoch {epoch + 1} of "
                f"{len(self.task.settings.rates)} at lr {self.optimisation.lr:g}; lower `lr`. {self.kept}"
            )
