"""Under what circumstances a record came about, what its numbers depend on, whether it may be used again."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._model_config import config_values, unwrapped

__all__ = [
    "check_identity",
    "check_replaceable",
    "circumstances",
    "flattened",
    "model_facts",
    "plain",
    "weights_digest",
    "with_metadata",
]

_REPORT_FILES = ("report.json", "report.npz", "report.csv", "report.md", "partial.json", "partial.npz")
# What an evaluation finds out, or what changes from day to day: no sign of another evaluation.
_FOUND = ("classes", "complete", "date", "deblurring.seconds", "skipped", "top_k", "void_share")


def model_facts(model: nn.Module) -> dict[str, Any]:
    """Which network it is, for records: class, name where its configuration tells, weights."""
    names, tags = config_values(model, "architecture"), config_values(model, "tag")
    name = {"name": ".".join(map(str, names + tags))} if len(names) == 1 and len(tags) <= 1 else {}
    return {"model": type(unwrapped(model)).__name__, **name, "weights_sha256": weights_digest(model)}


def circumstances(model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Network, device, versions and date of an evaluation, for its settings."""
    return {
        **model_facts(model),
        "device": device.type,
        "versions": {
            **{name: version(name) for name in ("blurlib", "torch", "torchvision", "numpy", "pillow")},
            "python": platform.python_version(),
        },
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


def with_metadata(settings: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A record's settings and what the user adds, which may name the network but replace nothing else."""
    try:
        more = plain({} if metadata is None else dict(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` must be a mapping from names to values that JSON can hold, got {metadata!r}"
        ) from error
    taken = sorted(set(more) & {*settings, *_FOUND} - {"name"})
    if taken:
        raise ValueError(
            f"`metadata` must use other names than the record's own, got {', '.join(taken)}; rename them"
        )
    return {**settings, **more}


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a network's weights, the same in any wrapper of torch's."""
    digest = hashlib.sha256()
    entry: Any  # quantised networks hold more than tensors
    for name, entry in unwrapped(model).state_dict().items():
        if type(entry) is torch.Tensor and entry.layout == torch.strided and not entry.is_quantized:
            digest.update(f"{name} {entry.dtype} {tuple(entry.shape)}".encode())
            values = entry.detach().cpu().contiguous()
            digest.update(values.view(-1).view(torch.uint8).numpy().data if values.numel() else b"")
        else:
            stored = io.BytesIO()
            torch.save(entry, stored)
            digest.update(name.encode() + stored.getvalue())
    return digest.hexdigest()


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    copied: dict[str, Any] = json.loads(json.dumps(identity))
    return copied


def check_identity(known: Mapping[str, Any], wanted: Mapping[str, Any], place: Path) -> None:
    """Refuse a record of something else, naming what differs."""
    different = [
        f"{name} (was {known.get(name)!r}, now {value!r})"
        for name, value in wanted.items()
        if known.get(name) != value
    ]
    if different:
        raise ValueError(
            f"`output` must hold records of the same network, images, settings and versions, got "
            f"{str(place)!r} with another {'; '.join(different)}; name another `output`"
        )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def check_replaceable(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse to write over the report of another evaluation, naming what differs.

    Args:
        folder: where a report will be written.
        settings: of the evaluation, as far as they are known before it.
        overwrite: let it pass.
    """
    there = [name for name in _REPORT_FILES if (folder / name).exists()]
    if overwrite or not there:
        return
    wanted = flattened(plain(settings))
    stored = [name for name in there if name.endswith(".json")]
    for name in stored:
        try:
            known = flattened(json.loads((folder / name).read_text(encoding="utf-8"))["settings"])
        except (AttributeError, KeyError, TypeError, ValueError):
            stored = []  # some other program's
            break
        different = [
            f"{key} (was {known.get(key)!r:.80}, now {wanted.get(key)!r:.80})"
            for key in dict.fromkeys([*wanted, *known])
            if known.get(key) != wanted.get(key) and key not in _FOUND
        ]
        if different:
            raise ValueError(
                f"`output` must hold no report of another evaluation, got {str(folder)!r} with {name} of "
                f"another {'; '.join(different)}; name another `output`, or pass overwrite=True"
            )
    if not stored:
        raise ValueError(
            f"`output` must hold no files of others, got {str(folder)!r} with {', '.join(there)}, which "
            "would be overwritten; name another `output`, or pass overwrite=True"
        )
