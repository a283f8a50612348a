"""A folder for a training run, which survives a stop at any moment."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .._common.files import csv_table, replacing, written
from .._common.model_config import plain_name

_FILES = ("checkpoint.pt", "log.csv", "model.pt", "settings.json", "skipped.csv")


class RunFolder:
    """A folder with settings.json, log.csv, checkpoint.pt, model.pt and, if images were broken, skipped.csv.

    Every file is written aside and renamed, so that a stop leaves whole files. Checkpoints hold tensors and
    plain containers only and load with `weights_only=True`. `settings` decide the run's numbers; `about` is
    kept with them, and a resumed run may have another.
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
        """Refuse a folder that this run may not write to: a file, or an earlier run's unless it resumes."""
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
        # Earlier versions kept them with the names of torch's wrappers.
        plain = [plain_name(name).removeprefix("module.") for name in before.get("trained") or ()]
        if plain == self.settings.get("trained"):
            before["trained"] = plain
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
        """The checkpoint that :meth:`save` wrote; None where there is none yet."""
        if not self.checkpoint.exists():
            return None
        state: dict[str, Any] = torch.load(self.checkpoint, map_location=device, weights_only=True)
        return state

    def start(self) -> None:
        """Make the folder and write settings.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
        text = json.dumps({"settings": self.settings, "about": self.about, "versions": versions}, indent=2)
        written(text, self.path / "settings.json")

    def save(
        self,
        *,
        model: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        history: Sequence[Mapping[str, float]],
        skipped: Mapping[str, str],
    ) -> None:
        """Write checkpoint.pt, then log.csv (a row an epoch) and, if images were broken, skipped.csv."""
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
        written(csv_table(list(history[0]), [list(row.values()) for row in history]), self.path / "log.csv")
        if skipped:
            written(csv_table(["image", "reason"], sorted(skipped.items())), self.path / "skipped.csv")

    def finish(self, model: Mapping[str, Any]) -> None:
        """Write model.pt, the weights alone."""
        self._write("model.pt", model)

    def _write(self, name: str, state: Mapping[str, Any]) -> None:
        with replacing(self.path / name) as aside, aside.open("wb") as stream:
            torch.save(state, stream)  # to a path, its name would be part of the bytes
