"""A folder for a training run, which survives a stop at any moment, and what cannot be written to it."""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .._common.archives import load_tensors
from .._common.distributed import ProcessGroup
from .._common.files import csv_table, replacing, written
from .._common.folders import check_writable, locked
from .._common.seals import is_sealed, seal
from ._identity import FORMAT, check_same, touched
from ._tensorboard import write_tensorboard

_LAST, _BEFORE = "checkpoint.pt", "checkpoint.previous.pt"
_FILES = (_LAST, _BEFORE, "log.csv", "model.pt", "model.safetensors", "skipped.csv", "best.pt")
_REMEDY = "put a copy in its place, or remove it to start the run anew"


class RunFolder:
    """A folder with settings.json, log.csv, skipped.csv, two checkpoints, and at the end the weights.

    Where tensorboard is installed, it has the log for that too.

    Every file is written aside and renamed, so that a stop leaves whole files. Checkpoints hold tensors and
    plain values only. What the folder does not take goes to a temporary one.

    Attributes:
        path: the folder.
        team: the processes of the run, of which the first one writes.
        settings: what decides the run's numbers.
        facts: what else must be the same in a resumed run, see :func:`facts_of`.
        name_of: an image's name by its position, for messages.
        about: what is kept with them, and may differ.
        checkpoint: where the last checkpoint is.
        weights: where the weights are, at the end.
    """

    def __init__(
        self,
        path: Path,
        team: ProcessGroup,
        settings: Mapping[str, Any],
        *,
        facts: Mapping[str, Any],
        name_of: Callable[[int], str],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.team, self.facts, self._name_of = path, team, facts, name_of
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.about = dict(about or {})
        self.checkpoint, self.weights = path / _LAST, path / "model.pt"
        self._changes: list[dict[str, Any]] = []
        self._damaged = False  # the last checkpoint, which then is not kept as the one before
        self._spare: Path | None = None

    @contextmanager
    def held(self, *, size: int) -> Iterator[None]:
        """Within the block no other run writes to the folder, which takes files; `size` is a checkpoint's."""
        if self.team.rank > 0:
            yield
            return
        with locked(self.path):
            there = sum(path.stat().st_size for path in self.path.glob("checkpoint*.pt"))
            check_writable(self.path, needed=max(0, 4 * size - there))  # with one aside, and the weights
            yield

    def load(self, *, resume: bool, changes: Sequence[str]) -> dict[str, Any] | None:
        """The checkpoint to go on from; None where there is none yet.

        Raises:
            ValueError: if the folder has a run that must not be overwritten, or is another one's; if there is
                no whole checkpoint.
        """
        there = [name for name in _FILES if (self.path / name).exists()]
        if not there:
            return None
        if not resume:
            raise ValueError(
                f"`output` must be a new folder, got {str(self.path)!r} with {', '.join(there)} of an "
                "earlier run; name another, or pass resume=True to go on with that run"
            )
        state = self._read()
        found = check_same(
            state, self.settings, self.facts, name_of=self._name_of, allowed=changes, place=self.path
        )
        self._changes = [*state.get("changes", ()), *found]
        if (count := touched(state, self.facts)) and self.team.rank == 0:
            warnings.warn(
                f"{count} of the images' files have another time of change than when the run in "
                f"{str(self.path)!r} began, but the same size; it goes on, for copies have",
                stacklevel=2,
            )
        return state

    def _read(self) -> dict[str, Any]:
        failed: ValueError | None = None
        for path in (self.path / _LAST, self.path / _BEFORE):
            if not path.exists():
                continue
            try:
                state = _checked(path)
            except ValueError as error:
                failed = failed or error
                continue
            if failed is not None:
                self._damaged = True
                if self.team.rank == 0:
                    told = str(failed).removesuffix(f"; {_REMEDY}")
                    warnings.warn(f"{told}; the run goes on from the one before, {path.name}", stacklevel=2)
            return state
        raise failed or ValueError(
            f"`output` must hold a checkpoint to go on from, got {str(self.path)!r} with files of a run but "
            "none of these; name another folder"
        )

    def start(self, state: Mapping[str, Any] | None) -> None:
        """Write settings.json, and the log as the checkpoint has it."""
        versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
        record: dict[str, Any] = {"settings": self.settings, "about": self.about, "versions": versions}
        if self._changes:
            record["changes"] = self._changes
        written(json.dumps(record, indent=2), self.path / "settings.json")
        if state is not None:
            _write_log(self.path, state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; at an epoch's end also log.csv and, if images were broken, skipped.csv."""
        whole = {
            "format": FORMAT,
            "library": version("blurlib"),
            "settings": self.settings,
            "facts": self.facts,
            "changes": self._changes,
            **state,
        }

        def write(folder: Path) -> None:
            last = folder / _LAST
            with _saved(whole, last):
                if last.exists() and not self._damaged:
                    last.replace(folder / _BEFORE)
            if not state["done"]:
                _write_log(folder, state)

        self.checkpoint = self._somewhere(write) / _LAST
        self._damaged = False

    def finish(self, model: Mapping[str, Any]) -> None:
        """Write model.pt, the weights alone, and model.safetensors, where that package is installed."""

        def write(folder: Path) -> None:
            with _saved(model, folder / "model.pt"):
                pass
            _write_safetensors(model, folder / "model.safetensors")

        self.weights = self._somewhere(write) / "model.pt"
        if self._spare is not None and self._spare not in (self.checkpoint.parent, self.weights.parent):
            shutil.rmtree(self._spare, ignore_errors=True)  # what was there has found its place since

    def keep_best(self, model: Mapping[str, Any]) -> None:
        """Write best.pt, the weights of the epoch that was best in validation."""

        def write(folder: Path) -> None:
            with _saved(model, folder / "best.pt"):
                pass

        self._somewhere(write)

    def _somewhere(self, write: Callable[[Path], None]) -> Path:
        """Where it was written: what the folder does not take must not be lost."""
        try:
            write(self.path)
            return self.path
        except OSError as error:
            reason = f"{str(self.path)!r} cannot be written to ({error.strerror or error})"
        try:
            self._spare = self._spare or Path(tempfile.mkdtemp(prefix="blurlib-"))
            write(self._spare)
        except OSError as error:
            warnings.warn(
                f"{reason}, nor can a temporary folder ({error.strerror or error}): nothing new is kept; the "
                "run goes on, make room",
                stacklevel=2,
            )
            return self.path
        warnings.warn(
            f"{reason}: the run is kept in {str(self._spare)!r} instead; copy it from there", stacklevel=2
        )
        return self._spare


def _checked(path: Path) -> dict[str, Any]:
    """A checkpoint, or a ValueError that tells what is wrong with the file."""
    # To the CPU: networks and optimisers take the tensors to their own device.
    state: Any = load_tensors(path, map_location="cpu", name="output", remedy=_REMEDY)
    keys = {"model", "optimizer", "history", "skipped", "settings"}
    if not (isinstance(state, dict) and keys <= state.keys()):
        reason = "which is another file"
    elif not is_sealed(path) and "format" in state:
        reason = "whose bytes are not those that were written"
    else:
        return state
    raise ValueError(
        f"`output` must hold checkpoints of a fine-tuning, got {str(path)!r}, {reason}; {_REMEDY}"
    )


class _Stream:
    """A file for torch to write to: torch hides a file's errors behind one of its own, this keeps them."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.flush = stream, stream.flush
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def _saved(state: Mapping[str, Any], path: Path) -> Iterator[None]:
    """Write a file of tensors aside; it has its name after the block."""
    with replacing(path) as aside:
        with aside.open("wb") as stream:  # to a path, its name would be part of the bytes
            kept = _Stream(stream)
            try:
                torch.save(state, kept)  # type: ignore[arg-type]  # write and flush are all it needs
            except RuntimeError:
                if kept.error is None:
                    raise
                raise kept.error from None
        seal(aside)
        yield


def _write_log(folder: Path, state: Mapping[str, Any]) -> None:
    # Whole, from the checkpoint's own history: after a stop and a resume no row is there twice, or missing.
    history, skipped = state["history"], state["skipped"]
    if history:
        table = csv_table(list(history[0]), [list(row.values()) for row in history])
        written(table, folder / "log.csv", durable=False)
        write_tensorboard(folder, history)
    if skipped:
        table = csv_table(["image", "reason"], sorted(skipped.items()))
        written(table, folder / "skipped.csv", durable=False)


def _write_safetensors(model: Mapping[str, Any], path: Path) -> None:
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError:
        return
    if not all(type(tensor) is torch.Tensor and tensor.layout == torch.strided for tensor in model.values()):
        return  # quantised and sparse networks, which the format does not have
    # Copies: the format has no tensors that share their memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.items()}
    with replacing(path) as aside:
        aside.write_bytes(safetensors.save(plain, metadata={"format": "pt"}))
