"""The whole example as one call."""

from __future__ import annotations

import time
from pathlib import Path

from ._page import _page
from ._training import _QUICK, train


def run(out: str | Path, *, seed: int = 0, quick: bool = False, progress: bool = True) -> Path:
    """Run the whole example: train, print the table, write the page and its records.

    Args:
        out: folder for index.html and the reports; it is made where it is missing.
        seed: of everything random.
        quick: a run of seconds that learns nothing, to see that all works.
        progress: print the steps and show progress bars.

    Returns:
        Path of the page.

    Raises:
        ImportError: if an extra is missing, with the remedy.
        ValueError: if `out` is a file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(folder, quick=True, progress=False).name
        'index.html'
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, got the file {str(folder)!r}; name another")
    folder.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    started = time.perf_counter()
    trained = train(_QUICK if quick else None, seed=seed, progress=progress)
    for name, report in trained.reports.items():
        report.save(folder / "reports" / name)
    page = _page(folder / "index.html", trained, seed)
    if progress:
        print(f"\n{trained.comparison.table()}\n")
        print(f"{time.perf_counter() - started:.0f} s")
        print(f"The page: {page}")
    return page
