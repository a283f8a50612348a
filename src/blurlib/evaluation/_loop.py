"""One evaluation, whatever the task: loader, network, statistics of each image, report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._common.devices import make_loader, pick_workers
from .._common.distributed import ProcessGroup, local_world_size, process_group
from .._common.progress import progress_bar
from .._common.provenance import check_replaceable
from .._tasks import EvaluationTask
from ..data import Skipped
from ..models import eval_mode
from ..reporting import Record, Report

_SAVE_EVERY = 300.0  # seconds between two writings of a partial report


def measure(
    task: EvaluationTask,
    *,
    settings: Mapping[str, Any],
    device: torch.device,
    workers: int | None,
    output: Path | None,
    overwrite: bool,
    distributed: bool,
    progress: bool,
) -> Report:
    """Run a task's networks on its images, and report.

    Args:
        task: the network, the images and the conditions.
        settings: for the report.
        device: where the networks run.
        workers: loader processes; None chooses.
        output: folder for the report; what is measured is written there when the evaluation stops early.
        overwrite: write over the report of another evaluation.
        distributed: share the images out over the processes that torchrun started.
        progress: show a progress bar.

    Returns:
        The report of all images.
    """
    if output is not None:
        check_replaceable(output, settings, overwrite=overwrite)
    with process_group(device, together=distributed) as team:
        team.wait()  # nobody writes before everybody has looked
        folder = None if output is None else _output_folder(output)
        keeping = folder if team.rank == 0 else None
        positions = range(team.rank, len(task), team.world)
        processes = pick_workers(workers, len(positions), world=local_world_size() if distributed else 1)
        task.prepare(workers=processes)
        tally = _Tally(task, settings)
        loader = make_loader(
            task,
            workers=processes,
            batch_size=None,
            sampler=positions,
            # Images in flight are in shared memory, which containers often limit to 64 MB.
            prefetch_factor=None if not processes else 1 if task.large else 2,
        )
        saved = time.monotonic()
        show = progress and team.rank == 0
        try:
            with eval_mode(task.networks, device) as place:
                task.probe(place)
                bar = progress_bar(loader, title="evaluate", unit="image", show=show, whole=len(task))
                with bar as items:
                    for position, arrays in task.measure(tally.readable(items), place):
                        tally.images[position] = arrays
                        if keeping and time.monotonic() - saved > _SAVE_EVERY and tally.countable:
                            tally.report(complete=False).save(keeping / "partial.json")
                            saved = time.monotonic()
        except BaseException:
            if keeping and tally.countable:
                tally.report(complete=False).save(keeping / "partial.json")
            raise
        tally.merge(team)
        report = tally.report(complete=True)
        if team.rank == 0:
            task.warn(tally.totals)
        if keeping:
            _keep(report, keeping)
        team.wait()  # nobody reads before it is written
    return report


class _Tally:
    """The statistics of the images measured so far, by position."""

    def __init__(self, task: EvaluationTask, settings: Mapping[str, Any]) -> None:
        self.task, self.settings = task, settings
        self.images: dict[int, dict[str, np.ndarray]] = {}
        self.skipped: list[Skipped] = []
        self._others: dict[str, float] = {}  # totals of the other processes

    def readable(self, items: Iterable[Any]) -> Iterator[Any]:
        """Pass on what could be read."""
        for item in items:
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
        """Of all processes."""
        own = self.task.totals()
        return {"images": len(self.images)} | {
            name: value + self._others.get(name, 0) for name, value in own.items()
        }

    def merge(self, team: ProcessGroup) -> None:
        """Unite what the processes have seen."""
        if team.world == 1:
            return
        every = team.gather((self.images, self.skipped, self.task.outputs, self.task.totals()))
        self.images = {position: arrays for images, *_ in every for position, arrays in images.items()}
        self.task.outputs = max(outputs for _, _, outputs, _ in every)
        for rank, (_, _, _, totals) in enumerate(every):
            for name, value in totals.items() if rank != team.rank else ():
                self._others[name] = self._others.get(name, 0) + value
        skipped = {item.name: item for _, items, _, _ in every for item in items}
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
        arrays = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
        records = tuple(
            Record.of(
                self.task.statistics(ids=ids, **{name: array[number] for name, array in arrays.items()}),
                blur=blur,
                sides=sides,
                skipped=len(self.skipped),
            )
            for number, (blur, sides) in enumerate(self.task.conditions)
        )
        known = {
            **self.task.metadata(self.totals),
            "skipped": [skipped.name for skipped in self.skipped],
            "complete": complete,
        }
        return Report(records=records, settings={**self.settings, **known})


def _output_folder(output: Path) -> Path:
    """The folder for a report, made before hours of work and not after."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"`output` must be a folder, got the file {str(output)!r}")
    output.mkdir(parents=True, exist_ok=True)
    return output


def _keep(report: Report, folder: Path) -> None:
    """A whole report with its tables; what an evaluation that stopped had left there goes."""
    report.save(folder)
    report.to_csv(folder / "report.csv")
    report.to_markdown(folder / "report.md")
    for name in ("partial.json", "partial.npz"):
        (folder / name).unlink(missing_ok=True)
