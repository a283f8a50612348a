"""The paper's table 6 on any folder in Pascal VOC's layout: our figures beside the paper's.

As for the other tables, each part is done once and kept: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from .. import metrics
from .._common.devices import pick_device
from .._common.distributed import is_main_process, is_torchrun, process_group
from .._common.provenance import check_cache_key, jsonable, weights_digest
from ..data import MaskListing, OnError, open_masks
from ..evaluation import evaluate
from ..protocol import normalisation, normalisation_source
from ..reporting import Report, compare
from ..training import BatchNorm, finetune
from . import _published
from ._costs import Job, cost_table, seconds_a_view
from ._results import ReproducedCell, ReproducedTable

_METRICS = ("miou", "trimap_miou")
_BLURS = ("sharp", "D2", "D4", "D6", "D8")
_CONTROL = {"miou": "Sharp only (control), all", "trimap_miou": "Sharp only (control), boundaries"}


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """What decides the numbers of a reproduction of table 6, beside network and images.

    Attributes:
        canonical_side: geometric mean of the sides in px at which blurs are defined.
        network_side: geometric mean in px at which the network sees the images; None for the canonical side.
        network_size: (height, width) in px that every image is brought to instead, as the paper's network.
        crop: of the training images in px; None takes :func:`blurlib.finetune`'s.
        band: pixels this far from a class boundary make the second column.
        limit: number of validation images; None takes all.
        train_limit: number of training images; None takes all.
        seeds: of the fine-tunings; every number is the mean over them.
        control: add a network that is fine-tuned for as long on sharp images, which the paper does not have.
        epochs: of each phase of fine-tuning; the paper's.
        lr: learning rate of each phase; the paper's.
        momentum: of SGD; the paper names none.
        weight_decay: of SGD.
        batch_size: images in a batch; the paper names none.
        hflip: probability of a mirror image in training.
        batch_norm: "train" or "eval".
        mean: of the colours; None takes the model's own.
        std: of the colours, likewise.
        on_error: "raise" at a broken image or mask, or "skip".

    Raises:
        ValueError: if `seeds` is empty or holds one twice.

    Example:
        >>> SegmentationSettings().epochs
        (6, 2)
    """

    canonical_side: int = 384
    network_side: int | None = None
    network_size: tuple[int, int] | None = None
    crop: int | None = None
    band: int = 4
    limit: int | None = None
    train_limit: int | None = None
    seeds: tuple[int, ...] = (0,)
    control: bool = False
    epochs: tuple[int, ...] = _published.SEGMENTATION.epochs
    lr: tuple[float, ...] = _published.SEGMENTATION.lr
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 8
    hflip: float = 0.0
    batch_norm: BatchNorm = "train"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        """Checks what `finetune` and `evaluate` do not; lists become tuples."""
        for name in ("seeds", "epochs", "lr", "mean", "std", "network_size"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must hold different seeds, at least one, got {self.seeds}")


class SegmentationRun:
    """One original network, one root, one setting: what table 6 and figure 5 share.

    Under torchrun fine-tunings and evaluations are shared out; every process must do the same, and see the
    same output folder, which the first one writes.

    Args:
        model: the original network, trained on sharp images; it is not modified.
        root: a folder in Pascal VOC's layout; or a dataset of (PIL image, mask) that serves for both splits.
        settings: what decides the numbers; the paper's if None.
        output: a folder; it is made when something is kept.
        workers: loader processes; None chooses.
        device: where the network runs; None takes an accelerator if there is one.
        progress: show progress bars.

    Raises:
        TypeError: if `model` is not a `torch.nn.Module`.
        ValueError: if there is no image.
        FileNotFoundError: if a folder is missing.

    Example:
        >>> from PIL import Image
        >>> scenes = [(Image.new("RGB", (40, 30)), Image.new("L", (40, 30), 1))]
        >>> run = SegmentationRun(nn.Conv2d(3, 2, 1), scenes)
        >>> [part.what for part in run.parts()][:2]
        ['evaluating original', 'fine-tuning defocus, seed 0']
    """

    def __init__(
        self,
        model: nn.Module,
        root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any],
        *,
        settings: SegmentationSettings | None = None,
        output: str | os.PathLike[str] = "reproduction",
        workers: int | None = None,
        device: Any = None,
        progress: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
        self.model, self.root = model, root
        self.settings = settings or SegmentationSettings()
        self.output = Path(output)
        self.running: dict[str, Any] = {"workers": workers, "device": device, "progress": progress}
        # As they are given, or None: so that records tell where they are from.
        self._colours: dict[str, Any] = {"mean": self.settings.mean, "std": self.settings.std}
        self.colours = normalisation(model, **self._colours)
        usual: dict[str, Any] = {"on_error": self.settings.on_error}
        self.validation: MaskListing = open_masks(root, split="val", limit=self.settings.limit, **usual)
        self.training: MaskListing = open_masks(root, split="train", limit=self.settings.train_limit, **usual)
        self._weights = weights_digest(model)

    @property
    def names(self) -> tuple[str, ...]:
        """The networks: "original", "defocus" and perhaps the control, "sharp"."""
        return ("original", "defocus", *(["sharp"] if self.settings.control else []))

    def _seeds(self, name: str) -> tuple[int, ...]:
        return (0,) if name == "original" else self.settings.seeds

    def _place(self, kind: str, name: str, seed: int) -> Path:
        return self.output / kind / name / ("" if name == "original" else f"seed{seed}")

    def parts(self) -> list[Job]:
        """The work that the table needs."""
        chosen = self.settings
        size = chosen.network_size or (chosen.network_side or chosen.canonical_side,) * 2
        side = round((size[0] * size[1]) ** 0.5)
        trained = min(side, chosen.crop or 320) if chosen.network_size is None else side
        parts = []
        for name in self.names:
            for seed in self._seeds(name):
                seeded = "" if name == "original" else f", seed {seed}"
                if name != "original":
                    count = sum(chosen.epochs) * len(self.training)
                    done = (self._place("networks", name, seed) / "model.pt").exists()
                    what, views = f"fine-tuning {name}{seeded}", {trained: count}
                    parts.append(Job(what=what, views=views, training=True, done=done))
                done = (self._place("evaluations", name, seed) / "report.json").exists()
                views = {side: len(_BLURS) * len(self.validation)}
                parts.append(Job(what=f"evaluating {name}{seeded}", views=views, training=False, done=done))
        return parts

    def costs(self) -> str:
        """What the table costs, in views and in time, as a table of text.

        Returns:
            A line a piece of work, those that are done named as such, and the sum.
        """
        parts, place, side = self.parts(), pick_device(self.running["device"]), 224
        speeds = {
            training: seconds_a_view(self.model, side=side, training=training, device=place, count=2)
            for training in (False, True)
        }
        return cost_table(parts, speeds, side=side)

    def network(self, name: str, seed: int = 0) -> nn.Module:
        """A network, fine-tuned where that was not done before.

        Args:
            name: "original", "defocus" or "sharp".
            seed: of the fine-tuning.

        Returns:
            The network in evaluation mode; the original one itself.
        """
        if name == "original":
            return self.model
        chosen = self.settings
        return finetune(
            self.model,
            self.training,
            task="segmentation",
            blur=_published.MIXES.get(name, name),
            network_side=chosen.network_side,
            network_size=chosen.network_size,
            **self._colours,
            on_error=chosen.on_error,
            seed=seed,
            output=self._place("networks", name, seed),
            resume=True,
            **self._recipe(),
            **self.running,
        ).model

    def _recipe(self) -> dict[str, Any]:
        names = ("epochs", "lr", "momentum", "weight_decay", "batch_size", "hflip", "batch_norm", "crop")
        return {name: getattr(self.settings, name) for name in (*names, "canonical_side")}

    def report(self, name: str, seed: int = 0) -> Report:
        """A network's evaluation, measured where it was not.

        Args:
            name: "original", "defocus" or "sharp".
            seed: of its fine-tuning.

        Returns:
            The report.

        Raises:
            ValueError: if what is kept was measured in another setting; the message says which.
        """
        place, identity = self._place("evaluations", name, seed), self._identity(name, seed)
        if (place / "report.json").exists():
            kept = Report.load(place)
            check_cache_key(kept.settings, identity, place)
            return kept
        chosen = self.settings
        found = evaluate(
            self.network(name, seed),
            self.validation,
            task="segmentation",
            blurs=_BLURS,
            scales=chosen.network_side,
            network_size=chosen.network_size,
            canonical_side=chosen.canonical_side,
            **self._colours,
            band=chosen.band,
            on_error=chosen.on_error,
            metadata={"name": name if name == "original" else f"{name}, seed {seed}"},
            distributed=is_torchrun(),
            **self.running,
        )
        report = replace(found, settings={**found.settings, **identity})
        if is_main_process():
            report.save(place)
        self._wait()
        return report

    def _identity(self, name: str, seed: int) -> dict[str, Any]:
        """What a record's numbers depend on, as it stands in its settings."""
        chosen = self.settings
        identity: dict[str, Any] = {
            "weights": self._weights,
            "images": self.validation.digest(),
            "network_side": chosen.network_side,
            "network_size": chosen.network_size,
            "canonical_side": chosen.canonical_side,
            "band": chosen.band,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "versions of blurlib and torch": [version("blurlib"), version("torch")],
        }
        if name != "original":
            identity["training"] = self._recipe() | {
                "mix": _published.MIXES.get(name, name),
                "seed": seed,
                "images": self.training.digest(),
            }
        return jsonable(identity)

    def _wait(self) -> None:
        """Under torchrun: until every process is here, so that none reads what is not yet written."""
        with process_group(pick_device(self.running["device"])) as team:
            team.wait()

    def table(self) -> ReproducedTable:
        """Measure table 6, or what is missing of it; it is kept in the output folder too.

        Returns:
            The table, with our figures and the paper's.

        Raises:
            ValueError: if no mask has a class boundary, or what is kept was measured in another setting.
        """
        reports = {name: [self.report(name, seed) for seed in self._seeds(name)] for name in self.names}
        base = "sharp" if self.settings.control else "original"
        compared = compare(reports["defocus"], reports["original"], control=reports.get("sharp"))
        samples = {
            (name, number): [record.images.samples() for record in each.records if record.images is not None]
            for name, every in reports.items()
            for number, each in enumerate(every)
        }
        outcomes = []
        cells: list[tuple[str, str, str, str, str, float | None]] = [
            (cell.row, cell.column, cell.training.mix or "original", cell.blur, cell.metric, cell.value)
            for cell in _published.TABLES["table6"].cells
        ]
        if self.settings.control:
            rows = dict.fromkeys((cell[0], cell[3]) for cell in cells)
            cells += [
                (row, _CONTROL[metric], "sharp", blur, metric, None)
                for row, blur in rows
                for metric in _METRICS
            ]
        for row, column, name, blur, metric, published in cells:
            each = [report[blur].values[metric] for report in reports[name]]
            if any(value is None for value in each):
                raise ValueError(
                    "`root` must have class boundaries, got masks without any; the paper's second column is "
                    "theirs"
                )
            place = [record.blur for record in reports[name][0].records].index(blur)
            drawn = np.mean([samples[name, number][place][metric] for number in range(len(each))], axis=0)
            change = compared[blur].changes[metric] if name == "defocus" else None
            outcomes.append(
                ReproducedCell(
                    row=row,
                    column=column,
                    network=name,
                    sides=reports[name][0][blur].sides,
                    blur=blur,
                    metric=metric,
                    paper=published,
                    value=float(np.mean(each)),
                    interval=metrics.interval(drawn),
                    each=tuple(each),
                    base=base if change else "",
                    change=change.difference if change else None,
                    change_interval=change.difference_interval if change else None,
                )
            )
        table = ReproducedTable(
            item="table6",
            title=_published.TABLES["table6"].title,
            outcomes=tuple(outcomes),
            settings=self._facts(reports["original"][0]),
        )
        if is_main_process():
            table.to_json(self.output / "table6.json")
            table.to_markdown(self.output / "table6.md")
        self._wait()
        return table

    def _facts(self, report: Report) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "weights": self._weights[:16],
            "network of the paper": "zoom-out network over VGG-16",
            "root": f"{self.validation.name}/val",
            "images": len(self.validation),
            "classes": report.settings["classes"],
            **asdict(self.settings),
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "normalisation": normalisation_source(self.model, **self._colours),
            "versions": {name: version(name) for name in ("blurlib", "torch", "torchvision")},
            "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        }
