"""Progress bars where somebody looks at them, and a line now and then where the output is a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

__all__ = ["is_live", "progress_bar"]

_EVERY = 60.0  # seconds between two lines of a log


def is_live() -> bool:
    """Whether stderr redraws a line; a notebook is no terminal, but does."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def progress_bar(
    items: Iterable[Any],
    *,
    title: str,
    unit: str,
    show: bool,
    total: int | None = None,
    whole: int | None = None,
) -> Iterator[tqdm[Any]]:
    """Goes through items with a bar on stderr; in a log, that is no terminal, with a line a minute.

    Both have the rate and the time left. A log has one more line at the end.

    Args:
        items: what to go through.
        title: before the bar or in the line.
        unit: of an item.
        show: show anything at all.
        total: how many items; None for their length.
        whole: how many the line tells, where other processes have more of them.

    Yields:
        The bar, to iterate over; what `set_postfix_str` gave it last is in the line too.
    """
    live = is_live()
    started = time.perf_counter()
    count = next(n for n in (whole, total, getattr(items, "__len__", int)()) if n is not None)
    own = getattr(items, "__len__", int)() if total is None else total
    shown = items if live or not show else _told(items, title=title, unit=unit, total=own)
    with tqdm(shown, desc=title, unit=unit, total=own or None, disable=not (show and live)) as bar:
        yield bar
    if show and not live:
        last = getattr(bar, "postfix", None)
        seconds = time.perf_counter() - started
        _print(f"{title}: {_counted(count, unit)}{f', {last}' if last else ''}, {seconds:.1f} s")


def _told(items: Iterable[Any], *, title: str, unit: str, total: int) -> Iterator[Any]:
    """The items, with a line a minute on how far it is."""
    started = said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= _EVERY and number < total:
            said, rate = now, number / (now - started)
            left = tqdm.format_interval((total - number) / rate)
            _print(f"{title}: {number} of {_counted(total, unit)}, {rate:.3g} a second, {left} left")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit if count == 1 else f'{unit}es' if unit.endswith('ch') else f'{unit}s'}"


def _print(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201  a line of the log, where tqdm would draw
