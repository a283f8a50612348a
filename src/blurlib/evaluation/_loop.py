"""One evaluation, whatever the task: loader, network, statistics of each image, report."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._common.agreement import united
from .._common.devices import batches, make_loader, pick_workers
from .._common.distributed import ProcessGroup, local_world_size, process_group
from .._common.folders import locked
from .._common.interrupts import stop_requests
from .._common.progress import progress_bar
from .._common.provenance import check_replaceable, structure_digest
from .._tasks import EvaluationTask
from ..data import Skipped
from ..models import eval_mode
from ..reporting import Record, Report
from ._kept import Kept

_SAVE_EVERY = 60.0  # seconds between two pieces of what is measured


def measure(
    task: EvaluationTask,
    *,
    settings: Mapping[str, Any],
    device: torch.device,
    workers: int | None,
    output: Path | None,
    overwrite: bool,
    examples: int = 0,
    distributed: bool,
    progress: bool,
) -> Report:
    """Run a task's networks on its images, and report.

    Args:
        task: the network, the images and the conditions.
        settings: for the report.
        device: where the networks run.
        workers: loader processes; None chooses.
        output: folder for the report; what is measured is kept there when the evaluation stops early.
        overwrite: write over the report of another evaluation.
        examples: how many images the report keeps with the predictions.
        distributed: share the images out over the processes that torchrun started.
        progress: show a progress bar.

    Returns:
        The report of all images.
    """
    kept = None
    with ExitStack() as stack:
        team = stack.enter_context(process_group(device, together=distributed))
        stop = stack.enter_context(stop_requests())
        watch = stack.enter_context(united(team, stop))
        first = team.rank == 0
        if output is not None:
            network = {"structure_sha256": structure_digest(task.networks)}
            check_replaceable(output, settings, overwrite=overwrite, partial=network)
            kept = Kept(output, {**settings, **network}, task.listing)
        watch.meet()  # nobody writes before everybody has looked
        if kept is not None and first:
            stack.enter_context(locked(kept.output))
            kept.begin()
        watch.meet()  # nobody reads what is there of another evaluation
        positions = range(team.rank, len(task), team.world)
        tally = _Tally(task, settings, {} if kept is None else kept.load(positions, show=first))
        todo = [position for position in positions if position not in tally.images]
        if kept is not None and first and tally.images:
            _tell(f"evaluate: goes on, with {len(tally.images)} of {len(positions)} images measured before")
        processes = pick_workers(workers, len(todo), world=local_world_size() if distributed else 1)
        task.prepare(workers=processes)
        loader = make_loader(
            task,
            workers=processes,
            batch_size=None,
            sampler=todo,
            prefetch_factor=None if not processes else 1 if task.large else 2,
            timeout=task.patience if processes else 0,
        )
        opened = stack.enter_context(closing(batches(loader)))
        saved = time.monotonic()
        show = progress and first
        try:
            with eval_mode(task.networks, device) as place:
                task.probe(place)
                with progress_bar(
                    opened, title="evaluate", unit="image", show=show, total=len(todo), whole=len(task)
                ) as bar:
                    measured = task.measure(tally.items(bar, positions), place)
                    # A signal stops the network at once, but no saving.
                    for position, arrays in stop.interruptible(measured):
                        tally.images[position] = arrays
                        watch.check()
                        if kept is not None and time.monotonic() - saved > _SAVE_EVERY:
                            kept.save(tally.images)
                            saved = time.monotonic()
            if kept is not None:
                kept.save(tally.images)  # others may take longer, or fail
            watch.meet()
            tally.merge(team)
        except BaseException:
            if kept is not None:
                kept.save(tally.images)
                if first and tally.countable:
                    with suppress(OSError):  # there is a warning already
                        tally.report(complete=False).save(kept.output / "partial.json")
            if stop:
                raise stop.told(_told(tally, positions, kept), show=first) from None
            raise
        if examples:
            chosen = np.linspace(0, len(task) - 1, min(examples, len(task))).round().astype(int).tolist()
            with eval_mode(task.networks, device) as place:
                shown = task.examples(chosen, place) if first else []
            tally.found["examples"] = team.gather(shown)[0]
        report = tally.report(complete=True)
        if first:
            task.warn(tally.totals)
        if kept is not None and first and _write(report, kept.output):
            kept.remove()
    return report


class _Tally:
    """The statistics of the images measured so far, by position."""

    def __init__(
        self, task: EvaluationTask, settings: Mapping[str, Any], images: Mapping[int, dict[str, np.ndarray]]
    ) -> None:
        self.task, self.settings = task, settings
        self.images = dict(images)
        self.skipped: list[Skipped] = []
        self.found: dict[str, Any] = {}  # for the report's settings
        self._before = frozenset(images)

    def items(self, opened: Iterable[Any], positions: Sequence[int]) -> Iterator[Any]:
        """What could be read, by position, with placeholders for what was measured before."""
        rest = iter(opened)
        for position in positions:
            if position in self._before:
                item = self.task.placeholder(position, self.images[position])
                if item is not None:
                    yield item
                continue
            item = next(rest)
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Skipped):
                self.skipped.append(item)
            else:
                yield item

    @property
    def countable(self) -> bool:
        """Whether there is anything to report."""
        return any(self.task.counts(arrays) for arrays in self.images.values())

    @property
    def totals(self) -> dict[str, float]:
        """Sums over all images."""
        every = self.images.values()
        return {"images": len(every)} | {
            name: sum(arrays[name].item() for arrays in every) for name in self.task.totals
        }

    def merge(self, team: ProcessGroup) -> None:
        """Unite what the processes have seen."""
        if team.world == 1:
            return
        every = team.gather((self.images, self.skipped, self.task.outputs))
        self.images = {position: arrays for images, *_ in every for position, arrays in images.items()}
        self.task.outputs = max(outputs for _, _, outputs in every)
        skipped = {item.name: item for _, items, _ in every for item in items}
        names = (self.task.listing.id(position) for position in range(len(self.task)) if skipped)
        self.skipped = [skipped[name] for name in names if name in skipped]

    def report(self, *, complete: bool) -> Report:
        """The report of the images measured so far."""
        if not self.images:
            first = self.skipped[0]
            raise ValueError(
                f"`root` must hold an image that can be read, all {len(self.skipped)} were skipped; "
                f"the first: {first.reason}"
            )
        positions = sorted(self.images)
        ids = np.array([self.task.listing.id(position) for position in positions], dtype=np.str_)
        rows = [self.images[position] for position in positions]
        kind = self.task.statistics
        arrays = {
            name: np.stack([row[name] for row in rows], axis=1) for name in (*kind.shared, *kind.arrays)
        }
        records = tuple(
            Record.of(
                kind(ids=ids, **{name: array[number] for name, array in arrays.items()}),
                blur=blur,
                sides=sides,
                skipped=len(self.skipped),
            )
            for number, (blur, sides) in enumerate(self.task.conditions)
        )
        names = getattr(self.task.listing, "classes", ())
        known = {
            **self.task.metadata(self.totals),
            **({"class_names": list(names)} if names else {}),
            **self.found,
            "skipped": [skipped.name for skipped in self.skipped],
            "complete": complete,
        }
        return Report(records=records, settings={**self.settings, **known})


def _told(tally: _Tally, positions: Sequence[int], kept: Kept | None) -> str:
    """What is kept at a stop, and how to go on."""
    if kept is None:
        return "; nothing is kept without `output`"
    if not tally.images:
        return f"before the first image; nothing to keep in {kept.output}"
    return (
        f"with {len(tally.images)} of {len(positions)} images measured and kept in {kept.output}; "
        "run the same again to go on"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  a line of the log


def _write(report: Report, folder: Path) -> bool:
    """A whole report with its tables; whether it is there. Where it cannot be, it is kept elsewhere."""
    try:
        report.save(folder)
        report.to_csv(folder / "report.csv")
        report.to_markdown(folder / "report.md")
    except OSError as error:
        elsewhere = "returned alone"
        with suppress(OSError):
            elsewhere = f"kept in {report.save(tempfile.mkdtemp(prefix='blurlib-')).parent}"
        warnings.warn(
            f"the report could not be written to {str(folder)!r} ({error}); it is {elsewhere}", stacklevel=2
        )
        return False
    return True
