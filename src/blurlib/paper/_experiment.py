"""The networks and evaluations that tables and figures share: each is made once and kept.

What a table needs is worked out first: networks (the original, and fine-tunings by mix and side) and, for
each, conditions. Then each job is done once and kept in its folder, so that a run that was stopped goes on
where it was, and a second table takes what the first one made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from .._common.devices import pick_device
from .._common.distributed import is_main_process, is_torchrun, process_group
from .._common.provenance import check_cache_key, jsonable, weights_digest
from ..data import labelled
from ..deblurring import METHODS, DeblurThenClassify
from ..evaluation import evaluate
from ..models import PerScale
from ..protocol import normalisation
from ..reporting import Report
from ..training import finetune
from . import _published
from ._cells import Condition, cells, group_by_scale, members
from ._costs import Job, cost_table, seconds_a_restoring, seconds_a_view
from ._published import Training
from ._settings import ClassificationSettings, ReproductionSettings, limited

_EACH = 10  # images a class in table 5
_TIMED_SIDE = 224  # px


class Run:
    """One original network, one root, one setting: what several tables and figures share.

    Under torchrun fine-tunings and evaluations are shared out; every process must do the same, and see the
    same output folder, which the first one writes.

    Args:
        model: the original network, trained on sharp images; it is not modified.
        root: a folder with `val/<class>/*` and `train/<class>/*`, for segmentation in Pascal VOC's layout; or
            a dataset of (PIL image, label) or (PIL image, mask) that serves for both.
        settings: what decides the numbers, and with its class the task; None for those of
            :class:`ClassificationSettings`.
        output: a folder; it is made when something is kept.
        workers: loader processes; None chooses.
        device: where the network runs; None takes an accelerator if there is one.
        progress: show progress bars.

    Attributes:
        settings: as given; `crops` of the network's kind where that was None.
        colours: mean and standard deviation of the network's input.
        given_colours: those of the settings, None where the model's own are taken.
        validation: the :class:`blurlib.data.ImageListing` or :class:`~blurlib.data.MaskListing` that networks
            are evaluated on.

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
        ...     run = Run(network, folder, settings=ClassificationSettings(side=32), output=f"{folder}/out")
        ...     [(job.what, job.count) for job in run.jobs("tableA")]
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
        self.settings = settings = (settings or ClassificationSettings()).for_model(model)
        self.output = Path(output)
        self.running: dict[str, Any] = {"workers": workers, "device": device, "progress": progress}
        # As they are given, or None: so that records name their source.
        self.given_colours: dict[str, Any] = {"mean": settings.mean, "std": settings.std}
        self.colours = normalisation(model, **self.given_colours)
        self.validation: Any = limited(settings.listing(root, "val"), "limit", settings.limit)

    @cached_property
    def training_images(self) -> Any:
        """The listing that fine-tunings take their images from."""
        listing = self.settings.listing(self.root, "train")
        return limited(listing, "train_limit", self.settings.train_limit)

    @cached_property
    def deblurred_images(self) -> Any:
        """The images of table 5."""
        listing, limit = labelled(self.validation), getattr(self.settings, "deblur_limit", None)
        if limit is None:
            limit = min(len(listing), _EACH * len(np.unique(listing.labels)))
        return limited(listing, "deblur_limit", limit)

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the original network's weights."""
        return weights_digest(self.model)

    # --- What is needed

    def conditions(self, *items: str) -> dict[Training, list[Condition]]:
        """The networks of tables, and the conditions that each is evaluated under.

        Args:
            *items: tables of the settings' `items`.

        Returns:
            Network sides (the paper's) and blurs of each network.

        Raises:
            ValueError: if an item is not one of the task's.
        """
        found: dict[Training, dict[Condition, None]] = {}
        for item in items:
            for cell, _ in cells(item, self.settings):
                found.setdefault(cell.training, {})[cell.sides, cell.blur] = None
        return {training: list(conditions) for training, conditions in found.items()}

    def jobs(self, *items: str) -> list[Job]:
        """The work that tables need, each piece once.

        Args:
            *items: such as "table1".

        Returns:
            Fine-tunings, each followed by its evaluation.
        """
        jobs: dict[str, Job] = {}
        for training, conditions in self.conditions(*items).items():
            for seed in self.seeds(training):
                needed = [self._fine_tuning(member, seed) for member in members(training)]
                jobs |= {job.what: job for job in (*needed, self._evaluation(training, seed, conditions))}
        return list(jobs.values())

    def seeds(self, training: Training) -> tuple[int, ...]:
        """The seeds of a network's fine-tunings; 0 for the original.

        Args:
            training: the network.

        Returns:
            The seeds.
        """
        return (0,) if training.mix is None else self.settings.seeds

    def _place(self, kind: str, training: Training, seed: int) -> Path:
        return self.output / kind / self.name(training) / (f"seed{seed}" if training.mix else "")

    def name(self, training: Training) -> str:
        """A network's name, which is its folder's too.

        Args:
            training: the network, with the paper's sides.

        Returns:
            Such as "defocus-256-512", with the sides that are used here, or
            "original-deblurred-epll-D8-1000", with the number of images.
        """
        if training.deblurring:
            classifier, method = self.name(replace(training, deblurring="")), training.deblurring
            return f"{classifier}-deblurred-{method.replace(':', '-')}-{len(self.deblurred_images)}"
        if training.mix is None:
            return "original"
        sides = self.settings.sides(training.sides) if training.sides else ()
        each = ["each"] if training.per_scale else []
        return "-".join([training.mix.replace(" ", "-"), *each, *map(str, sides)])

    def _fine_tuning(self, training: Training, seed: int) -> Job:
        images = sum(self.settings.epochs) * len(self.training_images)
        return Job(
            what=f"fine-tuning {self.name(training)}, seed {seed}",
            views={self.settings.trained_side: images},
            training=True,
            done=(self._place("networks", training, seed) / "model.pt").exists(),
        )

    def _evaluation(self, training: Training, seed: int, conditions: Sequence[Condition]) -> Job:
        missing = self._missing(self._kept(training, seed), conditions)
        wanted, images = missing or conditions, len(self._images(training))
        shown = {
            (side, seen, blur)
            for sides, blur in wanted
            for side, seen in self.settings.seen(self.settings.sides(sides)).items()
        }
        views: dict[int, int] = {}
        for _, seen, _ in sorted(shown):
            views[seen] = views.get(seen, 0) + images * self.settings.crops_per_side
        method = training.deblurring.partition(":")[0]
        return Job(
            what=f"evaluating {self.name(training)}{f', seed {seed}' if training.mix else ''}",
            views=views,
            training=False,
            done=not missing,
            restored={method: images * len({blur for _, blur in wanted})} if method else {},
        )

    def _images(self, training: Training) -> Any:
        """What a network is evaluated on."""
        return self.deblurred_images if training.deblurring else self.validation

    @property
    def device(self) -> torch.device:
        """Where networks run."""
        return pick_device(self.running["device"])

    def dry_run(self, *items: str) -> str:
        """The work that tables need, in views and in time, as a table of text; nothing is done.

        The time is that of the network, from a few steps on images of noise, and of deblurring in one
        process.

        Args:
            *items: such as "table1".

        Returns:
            A line for each job, those that are done marked as such, and the sum.
        """
        jobs, side = self.jobs(*items), min(self.settings.trained_side, _TIMED_SIDE)
        timed: dict[str, Any] = {"side": side, "device": self.device, "count": self.settings.timed_views}
        speeds = {
            training: seconds_a_view(self.model, training=training, **timed)
            for training in {job.training for job in jobs}
        }
        restoring = {
            method: seconds_a_restoring(METHODS[method], side=self.settings.canonical_side)
            for method in {method for job in jobs if not job.done for method in job.restored}
        }
        return cost_table(jobs, speeds, side=side, restoring=restoring)

    # --- Doing it

    def wait(self) -> None:
        """Under torchrun: until every process is here, so that none reads what is not yet written."""
        with process_group(self.device) as team:
            team.wait()

    def network(self, training: Training, seed: int = 0) -> nn.Module:
        """A network of the paper, fine-tuned where that was not done before.

        Args:
            training: how it is made from the original.
            seed: of the fine-tuning.

        Returns:
            The network in evaluation mode; the original one itself.
        """
        if training.deblurring:
            method, assumed = training.deblurring.split(":")
            classifier = self.network(replace(training, deblurring=""), seed)
            return DeblurThenClassify(classifier, method, assumed, **self.given_colours)
        if training.mix is None:
            return self.model
        if training.per_scale:
            networks = {
                self.settings.sides(member.sides)[0]: self.network(member, seed)
                for member in members(training)
            }
            shown = self.settings.evaluation([])
            return PerScale(networks, crops=shown["crops"], crop=shown["crop"])
        return finetune(
            self.model,
            self.training_images,
            task=self.settings.task,
            blur=_published.MIXES.get(training.mix, training.mix),
            **self.settings.training(self.settings.sides(training.sides)),
            **self.settings.recipe(),
            **self.given_colours,
            on_error=self.settings.on_error,
            seed=seed,
            output=self._place("networks", training, seed),
            resume=True,
            **self.running,
        ).model

    def report(self, training: Training, seed: int, conditions: Sequence[Condition]) -> Report:
        """A network's evaluation; what is missing of it is measured, and kept.

        Args:
            training: the network.
            seed: of its fine-tuning.
            conditions: network sides (the paper's) and short name of the blur.

        Returns:
            The report, of these conditions and perhaps more.

        Raises:
            ValueError: if what is kept was measured in another setting; the message names it.
        """
        report = self._kept(training, seed)
        missing = self._missing(report, conditions)
        network = self.network(training, seed) if missing else self.model
        for blurs, scales in group_by_scale(missing):
            shown: dict[str, Any] = {}
            if not isinstance(network, PerScale):  # which has its own scales and crops
                shown = self.settings.evaluation([self.settings.sides(sides) for sides in scales])
            key = hashlib.sha256(repr((list(blurs), list(scales))).encode()).hexdigest()[:12]
            begun = self._place("evaluations", training, seed) / f"begun-{key}"
            found = evaluate(
                network,
                self._images(training),
                task=self.settings.task,
                blurs=", ".join(blurs),
                canonical_side=self.settings.canonical_side,
                **self.given_colours,
                on_error=self.settings.on_error,
                metadata={"name": self.name(training)},
                distributed=is_torchrun(),
                output=begun,
                overwrite=True,
                **shown,
                **self.running,
            )
            records = (*(report.records if report else ()), *found.records)
            report = Report(records=records, settings={**found.settings, **self._identity(training, seed)})
            if is_main_process():
                report.save(begun.parent)
                shutil.rmtree(begun, ignore_errors=True)
            self.wait()
        assert report is not None
        return report

    def _missing(self, report: Report | None, conditions: Sequence[Condition]) -> list[Condition]:
        known = {(record.sides, record.blur) for record in (report.records if report else ())}
        return [
            (sides, blur)
            for sides, blur in dict.fromkeys(conditions)
            if (self.settings.sides(sides), blur) not in known
        ]

    def _kept(self, training: Training, seed: int) -> Report | None:
        place = self._place("evaluations", training, seed)
        if not (place / "report.json").exists():
            return None
        report = Report.load(place)
        check_cache_key(report.settings, self._identity(training, seed), place)
        return report

    def _identity(self, training: Training, seed: int) -> dict[str, Any]:
        """What a record's numbers depend on, as it stands in its settings."""
        shown = self.settings.evaluation([])
        identity: dict[str, Any] = {
            "weights": self.weights,
            "images": self._images(training).digest(),
            "canonical_side": self.settings.canonical_side,
            **{name: value for name, value in shown.items() if name != "scales"},
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "versions of blurlib and torch": [version("blurlib"), version("torch")],
        }
        if training.deblurring:
            identity["deblurred as"] = training.deblurring
        if training.mix is not None:
            sides = self.settings.sides(training.sides)
            identity["training"] = {
                **self.settings.training(sides),
                **self.settings.recipe(),
                "mix": _published.MIXES.get(training.mix, training.mix),
                "sides": sides,
                "per_scale": training.per_scale,
                "seed": seed,
                "images": self.training_images.digest(),
            }
        return jsonable(identity)
