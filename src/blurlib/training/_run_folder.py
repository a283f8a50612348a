"""A folder for a training run, which survives a stop at any moment."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

_FILES = ("checkpoint.pt", "log.csv", "model.pt", "settings.json", "skipped.csv")


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
        """Refuse a folder that this run may not write to; change nothing.

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
        """Read the checkpoint.

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
        """Make the folder and write settings.json."""
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
        """Write checkpoint.pt, log.csv (a row an epoch), and skipped.csv where an image was skipped.

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
        """Write model.pt, the weights alone.

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
