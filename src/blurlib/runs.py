"""A training run on paper: the settings that decide it, and a folder that survives a stop at any moment."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from .data import OnError
from .kernels import check_integer
from .protocol import IMAGENET_MEAN, IMAGENET_STD, Protocol
from .segmentation_protocol import SegmentationProtocol

__all__ = ["BatchNorm", "RunFolder", "TrainingSettings"]

BatchNorm = Literal["train", "eval"]

_FILES = ("checkpoint.pt", "log.csv", "model.pt", "settings.json", "skipped.csv")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that decides the numbers of a fine-tuning run, as it stands in the run's record.

    Attributes:
        blur: the mix, as text.
        epochs: epochs of each phase.
        lr: learning rate of each phase.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: images in a global batch.
        hflip: probability of a mirror image.
        protocol: the sizes.
        mean: the input's mean.
        std: the input's standard deviation.
        batch_norm: "train" or "eval".
        amp: forward passes in bfloat16.
        limit: size of a class-balanced subset, or None.
        on_error: "raise" or "skip".
        seed: of everything random.

    Raises:
        TypeError: if a value is of the wrong kind.
        ValueError: if a value is out of its range.

    Example:
        >>> TrainingSettings(blur="sharp + D4", epochs=(2, 1), lr=(1e-3, 1e-4)).rates
        (0.001, 0.001, 0.0001)
    """

    blur: str
    epochs: tuple[int, ...] = (2, 1)
    lr: tuple[float, ...] = (1e-3, 1e-4)
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    hflip: float = 0.0
    protocol: Protocol | SegmentationProtocol = field(default_factory=Protocol)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    batch_norm: BatchNorm = "train"
    amp: bool = False
    limit: int | None = None
    on_error: OnError = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every field; single numbers and lists become tuples."""
        object.__setattr__(self, "epochs", _several("epochs", self.epochs))
        object.__setattr__(self, "lr", _several("lr", self.lr))
        for epochs in self.epochs:
            check_integer("epochs", epochs, low=1, high=100_000)
        for lr in self.lr:
            _check("lr", lr, above=0.0)
        if len(self.epochs) != len(self.lr):
            raise ValueError(
                f"`epochs` and `lr` must have one entry for each phase, got {self.epochs} and "
                f"{self.lr}; give both the same length"
            )
        _check("momentum", self.momentum, high=1.0)
        _check("weight_decay", self.weight_decay)
        _check("hflip", self.hflip, high=1.0)
        check_integer("batch_size", self.batch_size, low=1, high=2**31)
        if not isinstance(self.amp, bool):
            raise TypeError(
                f"`amp` must be True, False or None (where the device supports it), got {self.amp!r}"
            )
        if self.batch_norm not in ("train", "eval"):
            raise ValueError(f"`batch_norm` must be 'train' or 'eval', got {self.batch_norm!r}")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rate of every epoch."""
        return tuple(lr for epochs, lr in zip(self.epochs, self.lr, strict=True) for _ in range(epochs))


def _several(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (int, float)):
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"`{name}` must be a number or one for each phase, got {value!r}")
    if not value:
        raise ValueError(f"`{name}` must have at least one phase, got {value!r}")
    return tuple(value)


def _check(name: str, value: Any, *, low: float = 0.0, high: float = 1e30, above: float = -1.0) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}: {value!r}")
    if not (low <= value <= high and value > above):  # False for NaN as well
        rule = f"above {above:g} and at most" if above >= low else f"from {low:g} to"
        raise ValueError(
            f"`{name}` must be {rule} {high:g}, got {value!r}; the paper's values are the defaults"
        )


class RunFolder:
    """A folder with settings.json, log.csv, checkpoint.pt, model.pt and, if images were broken, skipped.csv.

    Every file is written aside and renamed, so that a stop leaves whole files. Checkpoints hold tensors and
    plain containers only and load with `weights_only=True`.

    Args:
        path: the folder; it is made when the first file is written.
        settings: what decides the run's numbers; plain values that JSON can hold.
        about: more to know of the run, kept with the settings; a resumed run may have another.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     folder = RunFolder(Path(place, "run"), {"lr": 0.1})
        ...     folder.start()
        ...     folder.check(resume=True)
        ...     folder.load(torch.device("cpu")) is None
        True
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, about: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.about = dict(about or {})

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.path / "checkpoint.pt"

    def check(self, *, resume: bool) -> None:
        """Refuses a folder that this run may not write to; changes nothing.

        Args:
            resume: whether the run goes on with an earlier one.

        Raises:
            ValueError: if the path is a file, or holds an earlier run and `resume` is False, or one with
                other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`output` must be a folder, got the file {str(self.path)!r}; name another")
        there = [name for name in _FILES if (self.path / name).exists()]
        if set(there) <= {"settings.json"}:
            return  # a run that stopped before its first checkpoint has left nothing to lose
        if not resume:
            raise ValueError(
                f"`output` must be a new folder, got {str(self.path)!r} with {', '.join(there)} of an "
                "earlier run; name another, or pass resume=True to go on with that run"
            )
        if "settings.json" not in there:
            return
        before = json.loads((self.path / "settings.json").read_text(encoding="utf-8"))["settings"]
        changed = [
            f"{name} (was {before.get(name)!r}, now {self.settings.get(name)!r})"
            for name in sorted({*before, *self.settings})
            if before.get(name) != self.settings.get(name)
        ]
        if changed:
            raise ValueError(
                f"`resume` must go on with the settings of the run in {str(self.path)!r}, got others: "
                f"{', '.join(changed)}; pass the same, or name another `output`"
            )

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Reads the checkpoint.

        Args:
            device: where its tensors shall be.

        Returns:
            What :meth:`save` was given, or None where there is no checkpoint yet.
        """
        if not self.checkpoint.exists():
            return None
        state: dict[str, Any] = torch.load(self.checkpoint, map_location=device, weights_only=True)
        return state

    def start(self) -> None:
        """Makes the folder and writes settings.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
        text = json.dumps({"settings": self.settings, "about": self.about, "versions": versions}, indent=2)
        self._write("settings.json", text.encode())

    def save(
        self,
        *,
        model: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        history: Sequence[Mapping[str, float]],
        skipped: Mapping[str, str],
    ) -> None:
        """Writes checkpoint.pt, then log.csv (a row an epoch) and, if there is something to say, skipped.csv.

        Args:
            model: the network's state.
            optimizer: the optimiser's state.
            history: one dict for each finished epoch.
            skipped: reasons by the names of broken images.
        """
        state = {
            "model": model,
            "optimizer": optimizer,
            "epoch": len(history),
            "history": [dict(row) for row in history],
            "skipped": dict(skipped),
            "settings": self.settings,
        }
        self._write("checkpoint.pt", state)
        # Whole, from the checkpoint's own history: after a stop and a resume no row is there twice.
        self._write("log.csv", _table([list(history[0]), *(list(row.values()) for row in history)]))
        if skipped:
            self._write("skipped.csv", _table([["image", "reason"], *map(list, sorted(skipped.items()))]))

    def finish(self, model: Mapping[str, Any]) -> None:
        """Writes model.pt, the weights alone.

        Args:
            model: the network's state.
        """
        self._write("model.pt", model)

    def _write(self, name: str, content: bytes | Mapping[str, Any]) -> None:
        aside = self.path / f"{name}.partial"
        if isinstance(content, bytes):
            aside.write_bytes(content)
        else:
            torch.save(content, aside)
        aside.replace(self.path / name)


def _table(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")  # names of files need not be text
