"""Processes that share work end together: the error of one, or its silence, becomes an error of all."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import torch.distributed as dist

from .distributed import PATIENCE, ProcessGroup
from .interrupts import StopRequest

__all__ = ["TeamError", "Watch", "united"]

_LEAVING = 5.0  # seconds that a process that failed waits for the others to take note

_blocks = itertools.count()  # of this process; all processes enter the same ones


class TeamError(ChildProcessError):
    """Another process that shares the work has failed or is silent."""


class Watch:
    """What a process of a united block asks and tells; of a process alone, nothing."""

    def check(self) -> None:
        """Raise an error if another process has failed, or shows no life for `PATIENCE` seconds."""

    def meet(self) -> None:
        """Wait until every process is here; a signal or another's error ends the wait."""


@contextmanager
def united(team: ProcessGroup, stop: StopRequest | None = None) -> Iterator[Watch]:
    """Within the block an error of one process ends all, before they wait for it in a collective operation.

    The others raise a :class:`TeamError` with the error's text and the number of its process: at their next
    `check` or `meet`, or when a collective operation fails. Where several failed, the first process tells
    all. A process that shows no life, stopped by SIGSTOP or lost with its machine, ends the others.

    Args:
        team: the processes, all of which enter the block.
        stop: a request that ends the waiting for others.

    Yields:
        To be asked between pieces of work.
    """
    if team.world == 1:
        yield Watch()
        return
    watch = _Watch(team, stop)
    try:
        yield watch
        watch.meet()
    except BaseException as error:
        watch.leave(error)
        raise watch.agreed(error) from error
    finally:
        watch.end()


class _Watch(Watch):
    def __init__(self, team: ProcessGroup, stop: StopRequest | None) -> None:
        self._team, self._stop, self._met = team, stop, 0
        self._others = [rank for rank in range(team.world) if rank != team.rank]
        store = dist.distributed_c10d._get_default_store()  # noqa: SLF001  nothing else has it
        prefix = f"blurlib/{next(_blocks)}"
        self._store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]  # torch's stubs lack it
        self._silent: list[int] = []
        self._told, self._lost = False, ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _named(self, rank: int) -> str:
        return f"process {rank} of {self._team.world}"

    def _has(self, name: str, rank: int) -> bool:
        found: bool = self._store.check([f"{name} {rank}"])
        return found

    def _set(self, name: str, value: str = "") -> None:
        self._store.set(f"{name} {self._team.rank}", value)

    def _listen(self) -> None:
        """In a thread of its own, for an image or a step may take long."""
        seen = dict.fromkeys(self._others, (b"", time.monotonic()))
        try:
            for beat in itertools.count():
                self._set("alive", str(beat))
                for rank in self._others:
                    value = self._store.get(f"alive {rank}") if self._has("alive", rank) else b""
                    if value != seen[rank][0]:
                        seen[rank] = value, time.monotonic()
                    elif time.monotonic() - seen[rank][1] > PATIENCE and not self._has("left", rank):
                        self._silent = sorted({*self._silent, rank})
                    self._told |= self._has("failed", rank)
                if self._end.wait(max(0.5, self._team.world / 64)):
                    return
        except Exception as error:
            self._lost = str(error) or type(error).__name__

    def check(self) -> None:
        if self._told or self._silent or self._lost:
            raise TeamError(self._reason())

    def _reason(self) -> str:
        if self._silent:
            names = " and ".join(map(self._named, self._silent))
            return (
                f"{names} gave no sign of life for {PATIENCE / 60:g} minutes; look whether it hangs, or its "
                "machine is lost, and run the same again"
            )
        if self._lost:
            return f"the processes that share the work cannot be reached ({self._lost})"
        return self._told_by(self._failures())

    def _failures(self) -> dict[int, str]:
        """What other processes told, by number."""
        with suppress(RuntimeError):  # the store is gone
            return {
                rank: self._store.get(f"failed {rank}").decode()
                for rank in self._others
                if self._has("failed", rank)
            }
        return {}

    def _told_by(self, failures: Mapping[int, str]) -> str:
        return "; ".join(f"{self._named(rank)} failed: {text}" for rank, text in sorted(failures.items()))

    def meet(self) -> None:
        self._met += 1
        here, pause, rest = f"here {self._met}", 0.002, self._others
        self._set(here)
        while rest := [rank for rank in rest if not self._has(here, rank)]:
            if self._stop:
                raise self._stop.exception()
            self.check()
            if any(self._has("left", rank) and not self._has(here, rank) for rank in rest):
                raise TeamError(self._reason() or "another process has ended")
            time.sleep(pause)
            pause = min(0.2, 1.5 * pause)

    def leave(self, error: BaseException) -> None:
        """Tell the others of an error, and wait until they know."""
        end = time.monotonic() + _LEAVING
        with suppress(RuntimeError):  # the store is gone
            if self._silent or (not isinstance(error, TeamError) and not self._is_echo(error)):
                self._set("failed", _text(error))
            self._set("left")
            while time.monotonic() < end and not all(
                self._has("left", rank) for rank in self._others if rank not in self._silent
            ):
                time.sleep(0.02)

    def agreed(self, error: BaseException) -> BaseException:
        """The error that this process ends with; `agreed` on it says that another one tells it."""
        if not isinstance(error, (TeamError, KeyboardInterrupt, SystemExit)):
            failures = self._failures()
            if isinstance(error, RuntimeError) and self._silent:
                error = TeamError(self._reason())
            elif self._is_echo(error):
                error = TeamError(self._told_by(failures))
            elif set(failures.values()) - {_text(error)}:  # else all fail alike
                error = TeamError(self._told_by({**failures, self._team.rank: _text(error)}))
        speaker = min({*range(self._team.world)} - {*self._silent})
        error.agreed = speaker != self._team.rank  # type: ignore[attr-defined]  # any exception takes it
        return error

    def _is_echo(self, error: BaseException) -> bool:
        """Whether it is what torch says when another process has left a collective operation."""
        return isinstance(error, RuntimeError) and bool(self._failures())

    def end(self) -> None:
        self._end.set()
        with suppress(RuntimeError):
            self._set("left")
        self._thread.join(timeout=1)


def _text(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "it was stopped"
    kind = "" if isinstance(error, (TypeError, ValueError, OSError)) else type(error).__name__
    return ": ".join(part for part in (kind, str(error)) if part)
