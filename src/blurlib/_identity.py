"""Under what circumstances a record came about, what its numbers depend on, whether it may be used again."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["check_identity", "circumstances", "plain", "weights_digest"]


def circumstances(model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Network, device, versions and date of an evaluation, for its settings."""
    return {
        "model": type(model).__name__,
        "device": device.type,
        "versions": {
            **{name: version(name) for name in ("blurlib", "torch", "torchvision", "numpy", "pillow")},
            "python": platform.python_version(),
        },
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous()
        digest.update(values.view(-1).view(torch.uint8).numpy() if values.numel() else b"")
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
