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

from ._model_config import config_value, unwrapped

__all__ = [
    "check_identity",
    "check_replaceable",
    "circumstances",
    "flattened",
    "model_facts",
    "plain",
    "weights_digest",
]

_REPORT_FILES = ("report.json", "report.npz", "report.csv", "report.md", "partial.json", "partial.npz")
# What an evaluation finds out, or what changes from day to day: no sign of another evaluation.
_FOUND = ("classes", "complete", "date", "deblurring.seconds", "skipped", "top_k", "void_share")


def model_facts(model: nn.Module, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Which network it is, for records: class, name where known, weights, and what the caller adds."""
    facts: dict[str, Any] = {"model": type(unwrapped(model)).__name__}
    parts = [config_value(model, name) for name in ("architecture", "tag")]
    if parts[0]:
        facts["name"] = ".".join(str(part) for part in parts if part)
    facts["weights_sha256"] = weights_digest(model)
    if metadata is None:
        return facts
    try:
        return facts | plain(dict(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` must be a mapping from names to values that JSON can hold, got {metadata!r}"
        ) from error


def circumstances(
    model: nn.Module, device: torch.device, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Network, device, versions and date of an evaluation, for its settings."""
    return {
        **model_facts(model, metadata),
        "device": device.type,
        "versions": {
            **{name: version(name) for name in ("blurlib", "torch", "torchvision", "numpy", "pillow")},
            "python": platform.python_version(),
        },
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


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
