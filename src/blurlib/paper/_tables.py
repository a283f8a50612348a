"""reproduce(): the paper's tables on your images, our numbers next to the paper's."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from .. import metrics
from .._common.distributed import is_main_process
from ..data import ImageListing, MaskListing
from ..protocol import normalisation_source
from ..reporting import Report, find
from . import _published
from ._cells import Condition, baseline_of, cells, settings_of, telling
from ._costs import seconds_a_view
from ._experiment import Run
from ._published import Cell
from ._results import ReproducedCell, ReproducedTable
from ._settings import ReproductionSettings


def reproduce(
    item: str,
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any],
    *,
    settings: ReproductionSettings | None = None,
    output: str | os.PathLike[str] = "reproduction",
    workers: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> ReproducedTable:
    """Measure one of the paper's tables with your network on your images.

    Networks that the table needs are fine-tuned with :func:`blurlib.finetune`, all of them are evaluated with
    :func:`blurlib.evaluate`, and everything is kept in `output`: networks, evaluations, and the table as JSON
    and Markdown. What is there already, from a run that was stopped or from another table, is not done again.

    Args:
        item: "table1" to "table5" or "tableA"; or "table6", for segmentation.
        model: the original network, trained on sharp images.
        root: a folder with `val/<class>/*` and, for the tables with fine-tuned networks, `train/<class>/*`;
            for table 6 in Pascal VOC's layout.
        settings: what decides the numbers, of the table's task; the paper's if None.
        output: a folder; it is made.
        workers: loader processes; None chooses.
        device: where the network runs; None takes an accelerator if there is one.
        progress: show progress bars.

    Returns:
        The table, with our numbers and the paper's.

    Raises:
        TypeError: if `model` is not a `torch.nn.Module`.
        ValueError: if the item is unknown or of another task than the settings, `output` holds records of
            another network, version or setting, or `root` has fewer images than asked for; and what
            `finetune` and `evaluate` raise.
        FileNotFoundError: if a folder is missing.

    Example:
        >>> reproduce("table7", nn.Identity(), "imagenet")
        Traceback (most recent call last):
        ValueError: `item` must be one of table1, table2, table3, table4, table5, tableA, table6, got 'table7'
    """
    settings = settings_of(item, settings)
    run = Run(
        model, root, settings=settings, output=output, workers=workers, device=device, progress=progress
    )
    return reproduce_table(run, item)


def reproduce_table(run: Run, item: str) -> ReproducedTable:
    """Measure a table with the networks of a run, or what is missing of it.

    Args:
        run: with the networks and evaluations.
        item: one of the settings' `items`.

    Returns:
        The table; it is kept in the run's output folder too.

    Raises:
        ValueError: if the item is not one of the task's, what is kept was measured in another setting, or no
            mask has a class boundary.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from blurlib.paper import ClassificationSettings
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in range(6)]
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6))
        >>> small = ClassificationSettings(side=32, canonical_side=48, crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=small, output=folder, workers=0, progress=False)
        ...     reproduce_table(run, "tableA")["D8", "256"].paper
        0.6614
    """
    conditions, wanted = run.conditions(item), cells(item, run.settings)
    if any(training.mix for training in conditions):
        run.training_images  # noqa: B018  missing training images stop a run at its start
    reports = {
        training: [run.report(training, seed, needed) for seed in run.seeds(training)]
        for training, needed in conditions.items()
    }
    classes = next(iter(reports.values()))[0].settings["classes"]
    wanted = [telling(cell, published, classes) for cell, published in wanted]
    only = run.deblurred_images if any(training.deblurring for training in conditions) else None
    images = {
        (training, condition): _statistics(run, reports[training], condition, only)
        for training, needed in conditions.items()
        for condition in needed
    }
    measured = metrics.averaged(images)
    timed = {} if only is None else _view_seconds(run, [cell for cell, _ in wanted])
    done = []
    for cell, published in wanted:
        own = measured[cell.training, (cell.sides, cell.blur)]
        value, draws = own.means[cell.metric], own.draws[cell.metric]
        if np.isnan(value):
            raise ValueError("`root` must have class boundaries for trimap_miou, got masks without any")
        base = baseline_of(cell, [other for other, _ in wanted])
        changed: dict[str, Any] = {}
        if base is not None:
            other = measured[base.training, (base.sides, base.blur)]
            changed = {
                "base": run.name(base.training),
                "change": value - other.means[cell.metric],
                "change_interval": metrics.interval(draws - other.draws[cell.metric]),
            }
        every = images[cell.training, (cell.sides, cell.blur)]
        done.append(
            ReproducedCell(
                # The paper's table 5 is one row; with more methods it reads better as one column.
                row=cell.row if only is None else cell.column,
                column=cell.column if only is None else cell.row,
                network=run.name(cell.training),
                sides=run.settings.sides(cell.sides),
                blur=cell.blur,
                metric=cell.metric,
                paper=published,
                value=value,
                interval=metrics.interval(draws),
                each=tuple(each.compute()[cell.metric] for each in every),
                seconds=None if only is None else _seconds(run, cell, reports[cell.training][0], timed),
                **changed,
            )
        )
    table = ReproducedTable(
        item=item,
        title=_published.TABLES[item].title,
        cells=tuple(done),
        settings=_metadata(run, item, only or run.validation, next(iter(reports.values()))[0]),
    )
    if is_main_process():
        table.to_json(run.output / f"{item}.json")
        table.to_markdown(run.output / f"{item}.md")
    run.wait()
    return table


def _statistics(
    run: Run, reports: Sequence[Report], condition: Condition, only: ImageListing | None
) -> list[Any]:
    """Of each report under a condition, of some images only where these are given."""
    sides, blur = condition
    found: list[Any] = [find(each.records, (blur, run.settings.sides(sides))).images for each in reports]
    if only is None:
        return found
    ids = [only.id(position) for position in range(len(only))]
    return [each.only(ids) for each in found]


def _view_seconds(run: Run, timed: Sequence[Cell]) -> dict[int, float]:
    """What the network takes for a view, by the side of the view in px."""
    sides = {side for cell in timed for side in run.settings.sides(cell.sides)}
    return {
        seen: seconds_a_view(run.model, side=seen, training=False, device=run.device)
        for seen in set(run.settings.seen(tuple(sides)).values())
    }


def _seconds(run: Run, cell: Cell, report: Report, view_seconds: Mapping[int, float]) -> float:
    """What an image takes: deblurring, as it was measured in the evaluation, and the network's views."""
    views = run.settings.seen(run.settings.sides(cell.sides)).values()
    network = sum(run.settings.crops_per_side * view_seconds[seen] for seen in views)
    return network + float(report.settings.get("deblurring", {}).get("seconds", 0.0))


def _metadata(run: Run, item: str, images: ImageListing | MaskListing, report: Report) -> dict[str, Any]:
    known = asdict(run.settings)
    return {
        "model": type(run.model).__name__,
        "weights": run.weights[:16],
        "network of the paper": _published.TABLES[item].network,
        "root": run.validation.source,
        "images": len(images),
        "classes": len(getattr(run.validation, "classes", ())) or report.settings["classes"],
        "classes_used": known.pop("classes", None),
        **known,
        "mean": list(run.colours[0]),
        "std": list(run.colours[1]),
        "normalisation": normalisation_source(run.model, **run.given_colours),
        "versions": {name: version(name) for name in ("blurlib", "torch", "torchvision")},
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }
