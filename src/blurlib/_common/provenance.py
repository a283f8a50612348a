"""Under what circumstances a record came about, what its numbers depend on, whether it may be used again."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .model_config import config_values, has_config, unwrapped

__all__ = [
    "PARTIAL",
    "check_cache_key",
    "check_replaceable",
    "environment",
    "flattened",
    "jsonable",
    "model_facts",
    "network_name",
    "structure_digest",
    "weights_digest",
    "with_metadata",
]

PARTIAL = "partial"
"""Folder in an evaluation's output with what it has measured until it is whole."""

# What an evaluation finds out, or what changes from day to day: no sign of another evaluation.
_FOUND = (
    *("class_names", "classes", "complete", "date", "deblurring.seconds", "examples", "network_outputs"),
    *("skipped", "top_k", "void_share"),
)
_ABOUT = ("metadata.", "kernel_pictures.")  # of kernels, `kernels` tells which they are


def model_facts(model: nn.Module) -> dict[str, Any]:
    """Which network it is, for records: class, name where its own configuration tells, weights."""
    inside = unwrapped(model)
    names = config_values(inside, "architecture") if has_config(inside) else []
    return {
        "model": type(inside).__name__,
        **({"name": str(names[0])} if names else {}),
        "weights_sha256": weights_digest(model),
    }


def environment(model: nn.Module, device: torch.device) -> dict[str, Any]:
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
    """A record's settings and, as "metadata", what the user notes of the network."""
    if metadata is None:
        return dict(settings)
    try:
        notes = json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            "`metadata` must be a mapping from names to values that JSON can hold, got "
            f"{metadata!r} ({error})"
        ) from error
    return {**settings, "metadata": notes}


def network_name(settings: Mapping[str, Any], otherwise: str = "") -> str:
    """What a record calls its network: as the user says, as its configuration says, or its class."""
    names = (settings.get("metadata", {}).get("name"), settings.get("name"), settings.get("model"))
    return str(next((name for name in names if name), otherwise))


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


def structure_digest(model: nn.Module) -> str:
    """SHA-256 of a network's modules as they print: strides, activations and all else without weights."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(unwrapped(model)))
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def jsonable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON."""
    copied: dict[str, Any] = json.loads(json.dumps(identity))
    return copied


def check_cache_key(known: Mapping[str, Any], wanted: Mapping[str, Any], place: Path) -> None:
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


def check_replaceable(
    folder: Path, settings: Mapping[str, Any], *, overwrite: bool, partial: Mapping[str, Any] | None = None
) -> None:
    """Refuse to write over the report of another evaluation, or go on with one, naming what differs.

    Args:
        folder: where a report will be written.
        settings: of the evaluation, as far as they are known before it.
        overwrite: let it pass.
        partial: what an evaluation must share besides to be gone on with.
    """
    if overwrite:
        return
    begun = f"{PARTIAL}/settings.json"
    stored = [name for name in ("report.json", "partial.json", begun) if (folder / name).exists()]
    for name in stored:
        wanted = flattened(jsonable({**settings, **(partial or {})} if name == begun else settings))
        try:
            known = flattened(json.loads((folder / name).read_text(encoding="utf-8"))["settings"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _of_others(folder, name) from None
        different = [
            f"{key} (was {known.get(key)!r:.80}, now {wanted.get(key)!r:.80})"
            for key in dict.fromkeys([*wanted, *known])
            if known.get(key) != wanted.get(key) and key not in _FOUND and not key.startswith(_ABOUT)
        ]
        if different:
            raise ValueError(
                f"`output` must hold no report of another evaluation, got {str(folder)!r} with {name} of "
                f"another {'; '.join(different)}; name another `output`, or pass overwrite=True"
            )
    for name in ("report.csv", "report.md"):  # written after the JSON
        if not stored and (folder / name).exists():
            raise _of_others(folder, name)
    if begun not in stored and any((folder / PARTIAL).glob("[!.]*")):  # it is written before the others
        raise _of_others(folder, PARTIAL)


def _of_others(folder: Path, name: str) -> ValueError:
    return ValueError(
        f"`output` must hold no files of others, got {str(folder)!r} with {name}, which would be "
        "overwritten; name another `output`, or pass overwrite=True"
    )
