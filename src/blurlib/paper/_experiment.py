"""reproduce(): the paper's tables on any ImageNet-style root, our figures beside the paper's.

What a table needs is worked out first: networks (the original, and fine-tunings by mix and side) and, for
each, conditions. Then each part is done once and kept in its folder, so that a run that was stopped goes on
where it was, and a second table takes what the first one made.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from .. import metrics
from .._common.devices import pick_device
from .._common.distributed import is_main_process, is_torchrun, process_group
from .._common.provenance import check_cache_key, jsonable, weights_digest
from ..data import ImageListing, class_balanced, labelled, open_images
from ..deblurring import METHODS, DeblurThenClassify
from ..evaluation import evaluate
from ..models import PerScale, dense
from ..protocol import Crops, Protocol, normalisation, normalisation_source
from ..reporting import Report, find
from ..training import finetune
from . import _published
from ._cells import baseline_of, cells, check_item, group_by_scale, members
from ._costs import Job, cost_table, seconds_a_restoring, seconds_a_view
from ._published import Cell, Training
from ._results import ReproducedCell, ReproducedTable
from ._settings import ReproductionSettings

_EACH = 10  # images a class in table 5
# The values of images that a metric is the mean of.
_ARRAYS = {"top5": "correct5", "entropy": "entropy", "cross_entropy": "cross_entropy"}


class Run:
    """One original network, one root, one setting: what several tables share.

    Under torchrun fine-tunings and evaluations are shared out; every process must do the same, and see the
    same output folder, which the first one writes.

    Args:
        model: the original network; it is not modified.
        root: a folder with `val/<class>/*` and `train/<class>/*`; or a dataset of (PIL image, label) that
            serves for both.
        settings: what decides the numbers; the paper's if None.
        output: a folder; it is made when something is kept.
        workers: loader processes; None chooses.
        device: where the network runs; None takes an accelerator if there is one.
        progress: show progress bars.

    Raises:
        TypeError: if `model` is not a `torch.nn.Module`.
        ValueError: if `root` has fewer images or classes than asked for.
        FileNotFoundError: if a folder is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, "val", name).mkdir(parents=True)
        ...         Image.new("RGB", (40, 30)).save(f"{folder}/val/{name}/1.png")
        ...     network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        ...     run = Run(network, folder, settings=ReproductionSettings(side=32), output=f"{folder}/out")
        ...     [(part.what, part.count) for part in run.parts("tableA")]
        [('evaluating original', 100)]
    """

    def __init__(
        self,
        model: nn.Module,
        root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any],
        *,
        settings: ReproductionSettings | None = None,
        output: str | os.PathLike[str] = "reproduction",
        workers: int | None = None,
        device: str | torch.device | None = None,
        progress: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
        self.model, self.root = model, root
        self.settings = settings or ReproductionSettings()
        self.output = Path(output)
        self.running: dict[str, Any] = {"workers": workers, "device": device, "progress": progress}
        self.crops = self.settings.crops or _usual_crops(model)
        # As they are given, or None: so that records tell where they are from.
        self._colours: dict[str, Any] = {"mean": self.settings.mean, "std": self.settings.std}
        self.colours = normalisation(model, **self._colours)
        self.validation = self._listing("val", self.settings.limit)

    def _listing(self, split: Literal["train", "val"], limit: int | None) -> ImageListing:
        chosen = self.settings
        listing = open_images(self.root, split=split, on_error=chosen.on_error)
        if chosen.classes is not None or limit is not None:
            listing = labelled(listing)
        if chosen.classes is not None:
            known = len(listing.classes)
            if chosen.classes > known:
                raise ValueError(
                    f"`classes` must be at most the {known} of `root`, got {chosen.classes}; "
                    "leave it out for all"
                )
            taken = np.arange(chosen.classes) * known // chosen.classes
            listing = listing.subset(np.flatnonzero(np.isin(listing.labels, taken)))
        if limit is None:
            return listing
        if limit > len(listing):
            name = "limit" if split == "val" else "train_limit"
            raise ValueError(
                f"`{name}` must be at most the {len(listing)} {split} images of `root`, got {limit}; "
                "leave it out for all"
            )
        return listing.subset(class_balanced(listing.labels, limit))

    @cached_property
    def _deblurred(self) -> ImageListing:
        """The images of table 5."""
        listing, limit = labelled(self.validation), self.settings.deblur_limit
        if limit is None:
            limit = min(len(listing), _EACH * len(np.unique(listing.labels)))
        if limit > len(listing):
            raise ValueError(
                f"`deblur_limit` must be at most the {len(listing)} val images that are looked at, "
                f"got {limit}"
            )
        return listing.subset(class_balanced(listing.labels, limit))

    @cached_property
    def _training_images(self) -> ImageListing:
        """The listing that fine-tunings take their images from."""
        return self._listing("train", self.settings.train_limit)

    @cached_property
    def _weights(self) -> str:
        """SHA-256 of the original network's weights."""
        return weights_digest(self.model)

    # --- What is needed

    def cells(self, item: str) -> list[tuple[Cell, float | None]]:
        """The cells of a table, and what the paper found; with the control's.

        Args:
            item: one of `ITEMS`.

        Returns:
            The cells; those of the control and of deblurrings that the paper does not have with None.

        Raises:
            ValueError: if the item is unknown.
        """
        return cells(item, self.settings)

    def parts(self, *items: str) -> list[Job]:
        """The work that tables need, each piece once.

        Args:
            *items: such as "table1".

        Returns:
            Fine-tunings, each with its evaluation behind it.
        """
        needed: dict[Training, dict[tuple[tuple[int, ...], str], None]] = {}
        for item in items:
            for cell, _ in self.cells(item):
                needed.setdefault(cell.training, {})[cell.sides, cell.blur] = None
        parts: dict[str, Job] = {}
        for training, conditions in needed.items():
            for seed in self._seeds(training):
                for single in members(training):
                    part = self._fine_tuning(single, seed)
                    parts[part.what] = part
                part = self._evaluation(training, seed, list(conditions))
                parts[part.what] = part
        return list(parts.values())

    def _seeds(self, training: Training) -> tuple[int, ...]:
        return (0,) if training.mix is None else self.settings.seeds

    def _place(self, kind: str, training: Training, seed: int) -> Path:
        return self.output / kind / self.name(training) / (f"seed{seed}" if training.mix else "")

    def name(self, training: Training) -> str:
        """A network's name, which is its folder's too.

        Args:
            training: the network, with the paper's sides.

        Returns:
            Such as "defocus-256-512", with the sides that are used here, or "original-behind-epll-D8-1000",
            with the number of images.
        """
        if training.deblurring:
            behind = training.deblurring.replace(":", "-")
            return f"{self.name(replace(training, deblurring=''))}-behind-{behind}-{len(self._deblurred)}"
        if training.mix is None:
            return "original"
        sides = [str(side) for side in self.settings.sides(training.sides)]
        return "-".join([training.mix.replace(" ", "-"), *(["each"] if training.per_scale else []), *sides])

    def _fine_tuning(self, training: Training, seed: int) -> Job:
        images = sum(self.settings.epochs) * len(self._training_images)
        return Job(
            what=f"fine-tuning {self.name(training)}, seed {seed}",
            views={self.settings.crop: images},
            training=True,
            done=(self._place("networks", training, seed) / "model.pt").exists(),
        )

    def _evaluation(
        self, training: Training, seed: int, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> Job:
        missing = self._missing(self._kept(training, seed), conditions)
        views: dict[int, int] = {}
        images = len(self._images(training))
        for side, _ in {(side, blur) for sides, blur in missing or conditions for side in sides}:
            seen = self._seen(self.settings.sides((side,))[0])
            views[seen] = views.get(seen, 0) + images * (5 if self.crops == "five" else 1)
        method = training.deblurring.partition(":")[0]
        blurs = len({blur for _, blur in missing or conditions})
        seeded = f", seed {seed}" if training.mix else ""
        return Job(
            what=f"evaluating {self.name(training)}{seeded}",
            views=views,
            training=False,
            done=not missing,
            restored={method: images * blurs} if method else {},
        )

    def _seen(self, side: int) -> int:
        """Side in px of what the network is shown at a side."""
        return side if self.crops == "dense" else min(side, self.settings.crop)

    def _images(self, training: Training) -> ImageListing:
        """What a network is evaluated on."""
        return self._deblurred if training.deblurring else self.validation

    def costs(self, *items: str) -> str:
        """What tables cost, in views and in time, as a table of text.

        The time is that of the network, from a few steps on images of noise, and of deblurring in one
        process.

        Args:
            *items: such as "table1".

        Returns:
            A line a piece of work, those that are done named as such, and the sum.
        """
        parts = self.parts(*items)
        place, side = pick_device(self.running["device"]), self.settings.crop
        speeds = {
            training: seconds_a_view(self.model, side=side, training=training, device=place)
            for training in {part.training for part in parts}
        }
        restoring = {
            method: seconds_a_restoring(METHODS[method], side=self.settings.canonical_side)
            for method in {method for part in parts if not part.done for method in part.restored}
        }
        return cost_table(parts, speeds, side=side, restoring=restoring)

    # --- Doing it

    def table(self, item: str) -> ReproducedTable:
        """Measure a table, or what is missing of it.

        Args:
            item: one of `ITEMS`.

        Returns:
            The table; it is kept in the output folder too.
        """
        cells = self.cells(item)
        conditions: dict[Training, list[tuple[tuple[int, ...], str]]] = {}
        for cell, _ in cells:
            conditions.setdefault(cell.training, []).append((cell.sides, cell.blur))
        reports = {
            training: [self.report(training, seed, wanted) for seed in self._seeds(training)]
            for training, wanted in conditions.items()
        }
        only = self._deblurred if any(cell.training.deblurring for cell, _ in cells) else None
        found = {cell: self._values(cell, reports[cell.training], only) for cell, _ in cells}
        samples = metrics.means(np.stack([values.mean(axis=0) for values in found.values()], axis=1))
        drawn = dict(zip(found, samples.T, strict=True))
        outcomes = []
        for cell, published in cells:
            base = baseline_of(cell, found)
            outcomes.append(
                ReproducedCell(
                    # The paper's table 5 is one row; with more methods it reads better as one column.
                    row=cell.row if only is None else cell.column,
                    column=cell.column if only is None else cell.row,
                    network=self.name(cell.training),
                    sides=self.settings.sides(cell.sides),
                    blur=cell.blur,
                    metric=cell.metric,
                    paper=published,
                    value=float(found[cell].mean()),
                    interval=metrics.interval(drawn[cell]),
                    each=tuple(found[cell].mean(axis=1).tolist()),
                    base="" if base is None else self.name(base.training),
                    change=None if base is None else float(found[cell].mean() - found[base].mean()),
                    change_interval=None if base is None else metrics.interval(drawn[cell] - drawn[base]),
                    seconds=None if only is None else self._seconds(cell, reports[cell.training][0]),
                )
            )
        table = ReproducedTable(
            item=item,
            title=_published.TABLES[item].title,
            outcomes=tuple(outcomes),
            settings=self._facts(item, only or self.validation),
        )
        if is_main_process():
            table.to_json(self.output / f"{item}.json")
            table.to_markdown(self.output / f"{item}.md")
        self._wait()
        return table

    def _wait(self) -> None:
        """Under torchrun: until every process is here, so that none reads what is not yet written."""
        with process_group(pick_device(self.running["device"])) as team:
            team.wait()

    def _values(self, cell: Cell, reports: Sequence[Report], only: ImageListing | None) -> np.ndarray:
        """What a cell is the mean of: (seeds, images), of some images only where these are given."""
        key = (cell.blur, self.settings.sides(cell.sides))
        name = _ARRAYS[cell.metric]
        images: list[Any] = [find(report.records, key).images for report in reports]
        values = [np.asarray(getattr(each, name), np.float64) for each in images]
        if only is None:
            return np.stack(values)
        wanted = [only.id(position) for position in range(len(only))]
        taken = [np.isin(each.ids, wanted) for each in images]
        return np.stack([value[there] for value, there in zip(values, taken, strict=True)])

    @cached_property
    def _view_seconds(self) -> dict[int, float]:
        """What the network takes for a view, by its side in px: of table 5, timed once for all rows."""
        sides = {
            self._seen(side) for cell, _ in self.cells("table5") for side in self.settings.sides(cell.sides)
        }
        place = pick_device(self.running["device"])
        return {side: seconds_a_view(self.model, side=side, training=False, device=place) for side in sides}

    def _seconds(self, cell: Cell, report: Report) -> float:
        """What an image takes: deblurring, as it was measured in the evaluation, and the network's views."""
        views = 5 if self.crops == "five" else 1
        each = [views * self._view_seconds[self._seen(side)] for side in self.settings.sides(cell.sides)]
        return sum(each) + float(report.settings.get("deblurring", {}).get("seconds", 0.0))

    def _facts(self, item: str, images: ImageListing) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "weights": self._weights[:16],
            "network of the paper": _published.TABLES[item].network,
            "root": f"{self.validation.name}/val",
            "images": len(images),
            "classes": len(self.validation.classes),
            "classes_used": self.settings.classes,
            **{
                name: value
                for name, value in asdict(self.settings).items()
                if name not in ("classes", "mean", "std", "crops")
            },
            "crops": self.crops,
            "crop": self.settings.crop,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "normalisation": normalisation_source(self.model, **self._colours),
            "versions": {name: version(name) for name in ("blurlib", "torch", "torchvision")},
            "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        }

    def network(self, training: Training, seed: int) -> nn.Module:
        """A network of the paper, fine-tuned where that was not done before.

        Args:
            training: how it came about.
            seed: of the fine-tuning.

        Returns:
            The network in evaluation mode; the original one itself.
        """
        if training.deblurring:
            method, told = training.deblurring.split(":")
            behind = self.network(replace(training, deblurring=""), seed)
            return DeblurThenClassify(behind, method, told, **self._colours)
        if training.mix is None:
            return self.model
        if training.per_scale:
            return PerScale(
                {
                    self.settings.sides(single.sides)[0]: self.network(single, seed)
                    for single in members(training)
                },
                crops=self.crops,
                crop=self.settings.crop,
            )
        sides = self.settings.sides(training.sides)
        return finetune(
            self.model,
            self._training_images,
            blur=_published.MIXES.get(training.mix, training.mix),
            network_side=sides[0] if len(sides) == 1 else sides,
            **self._colours,
            on_error=self.settings.on_error,
            seed=seed,
            output=self._place("networks", training, seed),
            resume=True,
            **self.settings.training(),
            **self.running,
        ).model

    def report(
        self, training: Training, seed: int, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> Report:
        """A network's evaluation; what is missing of it is measured, and kept.

        Args:
            training: the network.
            seed: of its fine-tuning.
            conditions: network sides (the paper's) and short name of the blur.

        Returns:
            The report, of these conditions and perhaps more.

        Raises:
            ValueError: if what is kept was measured in another setting; the message says which.
        """
        report = self._kept(training, seed)
        missing = self._missing(report, conditions)
        if not missing:
            assert report is not None
            return report
        network = self.network(training, seed)
        for blurs, scales in group_by_scale(missing):
            shown: dict[str, Any] = {} if isinstance(network, PerScale) else {"crops": self.crops}
            if not isinstance(network, PerScale):
                shown |= {"scales": [self.settings.sides(sides) for sides in scales]}
                shown |= {"crop": self.settings.crop}
            found = evaluate(
                network,
                self._images(training),
                blurs=", ".join(blurs),
                canonical_side=self.settings.canonical_side,
                **self._colours,
                on_error=self.settings.on_error,
                metadata={"name": self.name(training)},
                distributed=is_torchrun(),
                **shown,
                **self.running,
            )
            records = (*(report.records if report else ()), *found.records)
            known = {**found.settings, **self._identity(training, seed)}
            report = Report(records=records, settings=known)
            if is_main_process():
                report.save(self._place("evaluations", training, seed))
            self._wait()
        assert report is not None
        return report

    def _missing(
        self, report: Report | None, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> list[tuple[tuple[int, ...], str]]:
        known = {(record.sides, record.blur) for record in (report.records if report else ())}
        wanted = dict.fromkeys(conditions)
        return [(sides, blur) for sides, blur in wanted if (self.settings.sides(sides), blur) not in known]

    def _kept(self, training: Training, seed: int) -> Report | None:
        place = self._place("evaluations", training, seed)
        if not (place / "report.json").exists():
            return None
        report = Report.load(place)
        check_cache_key(report.settings, self._identity(training, seed), place)
        return report

    def _identity(self, training: Training, seed: int) -> dict[str, Any]:
        """What a record's numbers depend on, as it stands in its settings."""
        plan = Protocol(canonical_side=self.settings.canonical_side, crop=self.settings.crop)
        identity: dict[str, Any] = {
            "weights": self._weights,
            "images": self._images(training).digest(),
            "crops": self.crops,
            "crop": self.settings.crop,
            "canonical_side": self.settings.canonical_side,
            "resample": plan.resample,
            "border": plan.border,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "versions of blurlib and torch": [version("blurlib"), version("torch")],
        }
        if training.deblurring:
            identity["deblurred as"] = training.deblurring
        if training.mix is not None:
            tuned = self.settings.training() | {
                "mix": _published.MIXES.get(training.mix, training.mix),
                "sides": self.settings.sides(training.sides),
                "per_scale": training.per_scale,
                "seed": seed,
                "images": self._training_images.digest(),
            }
            identity["training"] = tuned
        return jsonable(identity)


def _usual_crops(model: nn.Module) -> Crops:
    try:
        dense(model)
    except ValueError:
        return "five"
    return "dense"


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
    """Measure one of the paper's classification tables anew.

    Networks that the table needs are fine-tuned with :func:`blurlib.finetune`, all of them are evaluated with
    :func:`blurlib.evaluate`, and everything is kept in `output`: networks, evaluations, and the table as JSON
    and Markdown. What is there already, from a run that was stopped or from another table, is not done again.

    Args:
        item: "table1" to "table5" or "tableA".
        model: the original network, trained on sharp images.
        root: a folder with `val/<class>/*` and, for the tables with fine-tuned networks, `train/<class>/*`.
        settings: what decides the numbers; the paper's if None.
        output: a folder; it is made.
        workers: loader processes; None chooses.
        device: where the network runs; None takes an accelerator if there is one.
        progress: show progress bars.

    Returns:
        The table, with our figures and the paper's.

    Raises:
        TypeError: if `model` is not a `torch.nn.Module`.
        ValueError: if the item is unknown, `output` holds records of another network, version or setting, or
            `root` has fewer images than asked for; and what `finetune` and `evaluate` raise.
        FileNotFoundError: if a folder is missing.

    Example:
        >>> reproduce("table7", nn.Identity(), "imagenet")
        Traceback (most recent call last):
        ValueError: `item` must be one of table1, table2, table3, table4, table5, tableA, got 'table7'
    """
    check_item(item)
    run = Run(
        model, root, settings=settings, output=output, workers=workers, device=device, progress=progress
    )
    return run.table(item)
