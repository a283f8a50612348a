"""Signals that ask to stop: while the command is being imported, and while a run has work to keep.

An exception would not do during imports: on their way out some become an ImportError or a RecursionError,
others are lost. Nothing has been begun yet that must be ended in order, so the process exits. In any other
program nothing is installed then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")


def _is_command() -> bool:
    """Whether this process was started as `blurlib` or `python -m blurlib`."""
    started = sys.argv[0] if sys.argv else ""
    if started == "-m":  # the module is still being looked for: it is this package, or imports it
        return any(word.endswith("blurlib") for word in sys.orig_argv)
    # Processes that a command spawns show its name, but were not started by it.
    return PurePath(started).stem == "blurlib" and started in sys.orig_argv


def _stop(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    os.write(2, b"\nstopped\n")
    os._exit(130)


def begin() -> None:
    """Stop at once on Ctrl-C, if this is the command and nobody else has a say."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def end() -> None:
    """Ctrl-C raises KeyboardInterrupt again: from here on the command knows what to do."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What a terminal, a scheduler and a lost connection send; not all systems have all.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """Whether a signal has asked this process to stop, and which; yielded by :func:`stop_requests`."""

    def __init__(self) -> None:
        self.signum = 0
        self._when = 0.0
        self._waiting = False
        self._children: Any = None  # torch's handler of SIGCHLD
        self._lost: Exception | None = None  # what it raised while an item was worked on

    def __bool__(self) -> bool:
        return self.signum != 0

    def exception(self) -> BaseException:
        """What ends the work: KeyboardInterrupt for Ctrl-C, else SystemExit with 128 + signal."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + self.signum)

    def told(self, what: str, *, show: bool = True) -> BaseException:
        """The same, after a line on stderr about what is kept and how to go on; the command adds none."""
        error = self.exception()
        if show:
            name = "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name
            print(f"\nstopped by {name} {what}", file=sys.stderr)  # noqa: T201  a warning would show the code
        error.told = True  # type: ignore[attr-defined]  # any exception takes attributes
        return error

    def interruptible(self, items: Iterable[_T]) -> Iterator[_T]:
        """Go through items, such as a loader's batches, until a signal comes: then the exception is raised.

        While the next item is awaited it is raised at once, but never while the caller works on an item.
        """
        iterator = iter(items)
        while True:
            try:
                self._waiting = True
                if self:
                    raise self.exception()
                if self._lost is not None:
                    raise self._lost
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = False
                self._take_over()
            yield item

    def _take_over(self) -> None:
        """Let torch's handler raise its error of a loader's process that ended while an item is awaited only.

        It raises wherever the main process is, and again for each process: also in the middle of saving.
        """
        handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        if not getattr(handler, "__module__", "").startswith("torch."):
            return
        while threading.current_thread() is threading.main_thread() and self._children is None:
            try:
                signal.signal(signal.SIGCHLD, self._child)
                self._children = handler
            except RuntimeError as error:  # noqa: PERF203  torch's, for a signal that came just before
                self._lost = worker_ended(error)

    def leave(self) -> None:
        """Put torch's handler back."""
        if self._children is not None:
            signal.signal(signal.SIGCHLD, self._children)

    def _child(self, signum: int, frame: FrameType | None) -> None:
        try:
            self._children(signum, frame)
        except RuntimeError as error:
            if self._waiting:
                self._waiting = False  # what ends another of them meanwhile must not be raised in its place
                raise worker_ended(error) from None
            self._lost = worker_ended(error)

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Take a signal, as its handler."""
        del frame
        now = time.monotonic()
        # Launchers pass a signal on that their processes have got already: such an echo is no second signal.
        again = bool(self) and (signum != self.signum or now - self._when > 1)
        if not self or again:
            self.signum, self._when = signum, now
        if self._waiting or again:
            raise self.exception()


def worker_ended(cause: RuntimeError | int) -> ChildProcessError:
    """Of a loader's process that a signal has ended: torch's error, or the signal's number."""
    names = {signal.strsignal(each): signal.Signals(each).name for each in set(signal.Signals)}
    if isinstance(cause, int):
        name = signal.Signals(cause).name
    else:
        text = str(cause).rpartition("signal: ")[2].partition(".")[0]
        name = names.get(text, text or str(cause))
    remedies = {
        "SIGKILL": ", as the system does when memory runs out; take fewer `workers`",
        "SIGBUS": ": the shared memory is full; make /dev/shm larger (docker run --shm-size=1g), or take "
        "fewer `workers`",
    }
    return ChildProcessError(
        f"a loader's process was ended by {name}{remedies.get(name, '; workers=0 does without')}"
    )


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, SIGINT, SIGTERM and SIGHUP do not end the process but make a request.

    A second signal, of another kind or more than a second later, ends it at once. Signals that are ignored,
    or that the program handles itself, stay so; in a thread that is not the main one, where Python allows no
    handlers, all do.
    """
    request = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for each in _SIGNALS:
            if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
                before[each] = signal.signal(each, request.receive)
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        request.leave()


def leave_signals_to_parent(worker: int = 0) -> None:
    """In a loader's process: a signal to the whole group of processes stops the parent, which ends this one.

    SIGTERM ends it 10 s later all the same, for that is what the parent sends to a process that hangs. A
    parent that stops while it takes a batch is no news here.
    """
    del worker
    sys.excepthook = _unless_the_parent_left
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, _end_soon)


def _unless_the_parent_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What the thread calls that hands batches over; other errors go to the parent with their item."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _end_soon(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    signal.setitimer(signal.ITIMER_REAL, 10)  # SIGALRM, which nobody handles


begin()
