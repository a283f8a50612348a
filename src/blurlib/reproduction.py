"""reproduce(): the paper's tables on any ImageNet-style root, our figures beside the paper's.

What a table needs is worked out first: networks (the original, and fine-tunings by mix and side) and, for
each, conditions. Then each part is done once and kept in its folder, so that a run that was stopped goes on
where it was, and a second table takes what the first one made.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from . import bootstrap, paper
from ._identity import check_identity, plain, weights_digest
from .data import ImageRoot, class_balanced, open_root, pick_device
from .evaluation import evaluate
from .metrics import find
from .models import PerScale, dense
from .outcomes import Outcome, OutcomeTable
from .paper import Cell, Training
from .processes import is_first, joined, launched
from .protocol import Crops, Protocol, normalisation
from .records import BlurReport
from .reproduction_costs import Part, cost_table, seconds_a_view
from .reproduction_settings import USUAL_SIDE, ReproductionSettings
from .training import finetune

__all__ = ["ITEMS", "Run", "reproduce"]

ITEMS = ("table1", "table2", "table3", "table4", "tableA")
"""What can be measured on a folder of labelled photographs."""

_CONTROL = "Sharp only (control)"
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
        self.colours = normalisation(model, self.settings.mean, self.settings.std)
        self.validation = self._listing("val", self.settings.limit)

    def _listing(self, split: Literal["train", "val"], limit: int | None) -> ImageRoot:
        chosen = self.settings
        listing = open_root(self.root, split=split, on_error=chosen.on_error)
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
    def _training_images(self) -> ImageRoot:
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
            item: "table1", "table2", "table3", "table4" or "tableA".

        Returns:
            The cells; those of the control, which the paper does not have, with None.

        Raises:
            ValueError: if the item is unknown.
        """
        _check_item(item)
        cells: list[tuple[Cell, float | None]] = [(cell, cell.value) for cell in paper.TABLES[item].cells]
        if item == "table3" and self.settings.control:
            network = Training(mix="sharp", sides=(USUAL_SIDE,))
            first = [cell for cell, _ in cells if cell.training == Training()]
            cells += [(replace(cell, column=_CONTROL, training=network), None) for cell in first]
        return cells

    def parts(self, *items: str) -> list[Part]:
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
        parts: dict[str, Part] = {}
        for training, conditions in needed.items():
            for seed in self._seeds(training):
                for single in _singles(training):
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
            Such as "defocus-256-512", with the sides that are used here.
        """
        if training.mix is None:
            return "original"
        sides = [str(side) for side in self.settings.sides(training.sides)]
        return "-".join([training.mix.replace(" ", "-"), *(["each"] if training.per_scale else []), *sides])

    def _fine_tuning(self, training: Training, seed: int) -> Part:
        images = sum(self.settings.epochs) * len(self._training_images)
        return Part(
            what=f"fine-tuning {self.name(training)}, seed {seed}",
            views={self.settings.crop: images},
            training=True,
            done=(self._place("networks", training, seed) / "model.pt").exists(),
        )

    def _evaluation(
        self, training: Training, seed: int, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> Part:
        missing = self._missing(self._kept(training, seed), conditions)
        views: dict[int, int] = {}
        for side, _ in {(side, blur) for sides, blur in missing or conditions for side in sides}:
            used = self.settings.sides((side,))[0]
            seen = used if self.crops == "dense" else min(used, self.settings.crop)
            views[seen] = views.get(seen, 0) + len(self.validation) * (5 if self.crops == "five" else 1)
        seeded = f", seed {seed}" if training.mix else ""
        return Part(
            what=f"evaluating {self.name(training)}{seeded}", views=views, training=False, done=not missing
        )

    def costs(self, *items: str) -> str:
        """What tables cost, in views and in time, as a table of text.

        The time is that of the network alone, from a few steps on images of noise.

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
        return cost_table(parts, speeds, side=side)

    # --- Doing it

    def table(self, item: str) -> OutcomeTable:
        """Measure a table, or what is missing of it.

        Args:
            item: "table1", "table2", "table3", "table4" or "tableA".

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
        found = {cell: self._values(cell, reports[cell.training]) for cell, _ in cells}
        samples = bootstrap.means(np.stack([values.mean(axis=0) for values in found.values()], axis=1))
        drawn = dict(zip(found, samples.T, strict=True))
        outcomes = []
        for cell, published in cells:
            base = _base(cell, found)
            outcomes.append(
                Outcome(
                    row=cell.row,
                    column=cell.column,
                    network=self.name(cell.training),
                    sides=self.settings.sides(cell.sides),
                    blur=cell.blur,
                    metric=cell.metric,
                    paper=published,
                    value=float(found[cell].mean()),
                    interval=bootstrap.interval(drawn[cell]),
                    each=tuple(found[cell].mean(axis=1).tolist()),
                    base="" if base is None else self.name(base.training),
                    change=None if base is None else float(found[cell].mean() - found[base].mean()),
                    change_interval=None if base is None else bootstrap.interval(drawn[cell] - drawn[base]),
                )
            )
        table = OutcomeTable(
            item=item, title=paper.TABLES[item].title, outcomes=tuple(outcomes), settings=self._facts(item)
        )
        if is_first():
            table.to_json(self.output / f"{item}.json")
            table.to_markdown(self.output / f"{item}.md")
        self._wait()
        return table

    def _wait(self) -> None:
        """Under torchrun: until every process is here, so that none reads what is not yet written."""
        with joined(pick_device(self.running["device"])) as team:
            team.wait()

    def _values(self, cell: Cell, reports: Sequence[BlurReport]) -> np.ndarray:
        """What a cell is the mean of: (seeds, images)."""
        key = (cell.blur, self.settings.sides(cell.sides))
        name = _ARRAYS[cell.metric]
        return np.stack(
            [np.asarray(getattr(find(report.records, key).images, name), np.float64) for report in reports]
        )

    def _facts(self, item: str) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "weights": self._weights[:16],
            "network of the paper": paper.TABLES[item].network,
            "root": f"{self.validation.name}/val",
            "images": len(self.validation),
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
        if training.mix is None:
            return self.model
        if training.per_scale:
            return PerScale(
                {
                    self.settings.sides(single.sides)[0]: self.network(single, seed)
                    for single in _singles(training)
                },
                crops=self.crops,
                crop=self.settings.crop,
            )
        sides = self.settings.sides(training.sides)
        return finetune(
            self.model,
            self._training_images,
            blur=paper.MIXES.get(training.mix, training.mix),
            network_side=sides[0] if len(sides) == 1 else sides,
            mean=self.colours[0],
            std=self.colours[1],
            on_error=self.settings.on_error,
            seed=seed,
            output=self._place("networks", training, seed),
            resume=True,
            **self.settings.training(),
            **self.running,
        ).model

    def report(
        self, training: Training, seed: int, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> BlurReport:
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
        for blurs, scales in _grouped(missing):
            shown: dict[str, Any] = {} if isinstance(network, PerScale) else {"crops": self.crops}
            if not isinstance(network, PerScale):
                shown |= {"scales": [self.settings.sides(sides) for sides in scales]}
                shown |= {"crop": self.settings.crop}
            found = evaluate(
                network,
                self.validation,
                blurs=", ".join(blurs),
                canonical_side=self.settings.canonical_side,
                mean=self.colours[0],
                std=self.colours[1],
                on_error=self.settings.on_error,
                distributed=launched(),
                **shown,
                **self.running,
            )
            records = (*(report.records if report else ()), *found.records)
            known = {**found.settings, **self._identity(training, seed)}
            report = BlurReport(records=records, settings=known)
            if is_first():
                report.save(self._place("evaluations", training, seed))
            self._wait()
        assert report is not None
        return report

    def _missing(
        self, report: BlurReport | None, conditions: Sequence[tuple[tuple[int, ...], str]]
    ) -> list[tuple[tuple[int, ...], str]]:
        known = {(record.sides, record.blur) for record in (report.records if report else ())}
        wanted = dict.fromkeys(conditions)
        return [(sides, blur) for sides, blur in wanted if (self.settings.sides(sides), blur) not in known]

    def _kept(self, training: Training, seed: int) -> BlurReport | None:
        place = self._place("evaluations", training, seed)
        if not (place / "report.json").exists():
            return None
        report = BlurReport.load(place)
        check_identity(report.settings, self._identity(training, seed), place)
        return report

    def _identity(self, training: Training, seed: int) -> dict[str, Any]:
        """What a record's numbers depend on, as it stands in its settings."""
        plan = Protocol(canonical_side=self.settings.canonical_side, crop=self.settings.crop)
        identity: dict[str, Any] = {
            "weights": self._weights,
            "images": self.validation.digest(),
            "crops": self.crops,
            "crop": self.settings.crop,
            "canonical_side": self.settings.canonical_side,
            "resample": plan.resample,
            "border": plan.border,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "versions of blurlib and torch": [version("blurlib"), version("torch")],
        }
        if training.mix is not None:
            tuned = self.settings.training() | {
                "mix": paper.MIXES.get(training.mix, training.mix),
                "sides": self.settings.sides(training.sides),
                "per_scale": training.per_scale,
                "seed": seed,
                "images": self._training_images.digest(),
            }
            identity["training"] = tuned
        return plain(identity)


def _check_item(item: str) -> None:
    if item not in ITEMS:
        raise ValueError(f"`item` must be one of {', '.join(ITEMS)}, got {item!r}")


def _usual_crops(model: nn.Module) -> Crops:
    try:
        dense(model)
    except ValueError:
        return "five"
    return "dense"


def _singles(training: Training) -> list[Training]:
    """The fine-tunings that a network consists of."""
    if training.mix is None:
        return []
    if not training.per_scale:
        return [training]
    return [replace(training, sides=(side,), per_scale=False) for side in training.sides]


def _base(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """What a cell is compared with: the control's, else the original's of the same condition."""
    if cell.training.mix in (None, "sharp"):
        return None
    same = [
        other
        for other in cells
        if other.training.mix in (None, "sharp")
        and (other.sides, other.blur, other.metric) == (cell.sides, cell.blur, cell.metric)
    ]
    return max(same, key=lambda other: other.training.mix is not None, default=None)


def _grouped(
    conditions: Sequence[tuple[tuple[int, ...], str]],
) -> list[tuple[tuple[str, ...], list[tuple[int, ...]]]]:
    """Blurs with the scales that need just them: one evaluation each, in which an image is decoded once."""
    blurs: dict[tuple[int, ...], list[str]] = {}
    for sides, blur in conditions:
        blurs.setdefault(sides, []).append(blur)
    scales: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for sides, names in blurs.items():
        scales.setdefault(tuple(names), []).append(sides)
    return list(scales.items())


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
) -> OutcomeTable:
    """Measure one of the paper's classification tables anew.

    Networks that the table needs are fine-tuned with :func:`blurlib.finetune`, all of them are evaluated with
    :func:`blurlib.evaluate`, and everything is kept in `output`: networks, evaluations, and the table as JSON
    and Markdown. What is there already, from a run that was stopped or from another table, is not done again.

    Args:
        item: "table1", "table2", "table3", "table4" or "tableA".
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
        ValueError: `item` must be one of table1, table2, table3, table4, tableA, got 'table7'
    """
    _check_item(item)
    run = Run(
        model, root, settings=settings, output=output, workers=workers, device=device, progress=progress
    )
    return run.table(item)
