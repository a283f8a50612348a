"""Ctrl-C while the command `blurlib` is being imported: one line, not the traceback of some module of torch.

An exception would not do: on their way out of imports some become an ImportError or a RecursionError, others
are lost. Nothing has been begun yet that must be ended in order. In any other program nothing is installed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import PurePath
from types import FrameType


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


begin()
