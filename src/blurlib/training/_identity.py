"""What makes a run the same one: its settings, the network it began with, the files of its images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._common.checks import one_of
from .._common.model_config import plain_name, unwrapped
from .._common.provenance import weights_digest
from .._tasks import TrainingTask
from ..data import Listing
from ._optimisation import Optimisation
from ._validation import Validation

FORMAT = 2
"""Of checkpoints. The first had neither format nor facts, and none in the middle of an epoch."""

CHANGES = ("lr", "epochs", "weights", "architecture", "files")
"""What a resumed run may have otherwise, where it is named: see `changes` of :func:`finetune`."""


def check_changes(changes: Sequence[str] | None) -> tuple[str, ...]:
    """The names, or an error."""
    if changes is None:
        return ()
    if isinstance(changes, str) or not isinstance(changes, Sequence):
        raise TypeError(f"`changes` must be a list of names such as ['lr'], got {changes!r}")
    return tuple(one_of("changes", name, CHANGES) for name in changes)


def facts_of(model: nn.Module, listing: Listing[Any]) -> dict[str, Any]:
    """What a checkpoint tells of the network as it was given, and of the files."""
    files = listing.file_facts()
    return {
        "weights": weights_digest(model),
        "architecture": dict(_parts(model)),
        "files": None if files is None else torch.from_numpy(files),
    }


def record_of(
    task: TrainingTask,
    optimisation: Optimisation,
    model: nn.Module,
    validation: Validation | None,
    *,
    trained: list[str],
) -> dict[str, Any]:
    """What decides a run's numbers, as plain values: its settings, the network's kind, the listing."""
    settings, listing = task.settings, task.listing
    unsaid = {*task.foreign, *(() if optimisation.record is None else ("momentum", "weight_decay"))}
    # The measure of the sides follows from the task.
    sizes = {"measure", *(("network_size",) if settings.protocol.measure == "shorter" else ())}
    return {
        **{name: value for name, value in asdict(settings).items() if name not in unsaid},
        "optimizer": optimisation.record,
        "optimizer_lr": optimisation.rates,
        "protocol": {name: each for name, each in asdict(settings.protocol).items() if name not in sizes},
        "model": type(unwrapped(model)).__name__,
        "trained": trained,
        "root": listing.name,
        **task.metadata,
        "images": len(listing),
        "listing": listing.digest(),
        **({} if validation is None else validation.record),
    }


def _parts(model: nn.Module) -> Iterator[tuple[str, str]]:
    """What each layer says of itself (sizes, rates of dropout), by its name without torch's wrappers."""
    for name, module in unwrapped(model).named_modules():
        if not isinstance(getattr(module, "_orig_mod", None), nn.Module):
            text = f"{type(module).__name__}({module.extra_repr()})"
            yield plain_name(f"{name}.")[:-1], re.sub(r" at 0x[0-9a-f]+", "", text)


def check_same(
    state: Mapping[str, Any],
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    name_of: Callable[[int], str],
    allowed: Sequence[str],
    place: Path,
) -> list[dict[str, Any]]:
    """Compare a run with the one whose checkpoint this is.

    Args:
        state: the checkpoint.
        settings: of the run that goes on.
        facts: of its network and files.
        name_of: an image's name by its position.
        allowed: which differences are meant, of :data:`CHANGES`.
        place: the run's folder, for messages.

    Returns:
        The differences that are allowed: after which epoch and step, what it was and what it is now.

    Raises:
        ValueError: if there are others, which are named; if the checkpoint is of a later version.
    """
    if state.get("format", 1) > FORMAT:
        raise ValueError(
            f"`output` must hold checkpoints that this version knows, got {str(place)!r} with one of blurlib "
            f"{state.get('library')}; go on with that version"
        )
    before = state["settings"]
    found = {
        name: (f"{before.get(name)!r}", f"{settings.get(name)!r}")
        for name in sorted({*before, *settings})
        if before.get(name) != settings.get(name)
    }
    finished = len(state["history"])
    allowed = [*allowed, *(("optimizer_lr",) if "lr" in allowed else ())]
    # A curve over all epochs has another beginning with every other end: what is left follows the new one.
    phases = before["schedule"] == "steps"
    if phases and {"lr", "epochs"} & set(found) and _rates(before)[:finished] != _rates(settings)[:finished]:
        allowed = [name for name in allowed if name not in ("lr", "epochs")]
        found["epochs that are finished"] = (_shown(before, finished), _shown(settings, finished))
    if (known := state.get("facts")) is not None:
        found |= _other_facts(known, facts, name_of)
    refused = [f"{name} (was {was}, now {now})" for name, (was, now) in found.items() if name not in allowed]
    if refused:
        can = [name for name in found if name in CHANGES and name not in allowed]
        remedy = f", or allow the difference by changes={can}" if len(can) == len(refused) else ""
        raise ValueError(
            f"`resume` must go on with the run in {str(place)!r} as it began, got another "
            f"{'; '.join(refused)}; pass the same, or name another `output`{remedy}"
        )
    step = state["done"]["epoch"]["step"] if state.get("done") else 0
    return [
        {"epochs": finished, "steps": step, "what": name, "was": was, "now": now}
        for name, (was, now) in found.items()
    ]


def touched(state: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
    """How many files have another time of change than when the run began: copies have, of the same size."""
    before, now = state.get("facts", {}).get("files"), facts["files"]
    if before is None or now is None or before.shape != now.shape:
        return 0
    return int((before[:, 1::2] != now[:, 1::2]).any(dim=1).sum())


def _rates(settings: Mapping[str, Any]) -> list[float]:
    each = settings["lr"] or [0.1**phase for phase in range(len(settings["epochs"]))]
    return [lr for epochs, lr in zip(settings["epochs"], each, strict=True) for _ in range(epochs)]


def _shown(settings: Mapping[str, Any], finished: int) -> str:
    return f"at lr {', '.join(f'{lr:g}' for lr in _rates(settings)[:finished])}"


def _other_facts(
    before: Mapping[str, Any], now: Mapping[str, Any], name_of: Callable[[int], str]
) -> dict[str, tuple[str, str]]:
    found = {}
    if before["weights"] != now["weights"]:
        found["weights"] = (f"SHA-256 {before['weights'][:12]}...", f"{now['weights'][:12]}...")
    parts, others = before["architecture"], now["architecture"]
    unlike = [name for name in {**parts, **others} if parts.get(name) != others.get(name)]
    if unlike:
        more = f" and {len(unlike) - 1} more layers" if len(unlike) > 1 else ""
        name = unlike[0]
        was = f"{name or 'the network'}: {parts.get(name, 'absent')}"
        found["architecture"] = (was, f"{others.get(name, 'absent')}{more}")
    files, there = before["files"], now["files"]
    if files is not None and there is not None and files.shape == there.shape:  # else the listing differs
        other = (files[:, ::2] != there[:, ::2]).any(dim=1).nonzero().flatten().tolist()
        if other:
            more = f" and {len(other) - 1} more images" if len(other) > 1 else ""
            was, now_is = (_bytes(each[other[0], ::2].tolist()) for each in (files, there))
            found["files"] = (f"{name_of(other[0])} of {was}", f"{now_is}{more}")
    return found


def _bytes(sizes: list[int]) -> str:
    return " and ".join("absent" if size < 0 else f"{size} bytes" for size in sizes)
