"""Progress bars where somebody looks at them, and one line where the output is a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

__all__ = ["is_live", "progress_bar"]


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
    """Goes through items with a bar on stderr; in a log, that is no terminal, with one line at the end.

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
    with tqdm(items, desc=title, unit=unit, total=total, disable=not (show and live)) as bar:
        yield bar
    if show and not live:
        last = getattr(bar, "postfix", None)
        seconds = time.perf_counter() - started
        several = unit if count == 1 else f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        print(  # noqa: T201  a line of the log, where tqdm would draw
            f"{title}: {count} {several}{f', {last}' if last else ''}, {seconds:.1f} s", file=sys.stderr
        )
