"""What a network carries about itself, in any wrapper: its class and timm's configuration of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

__all__ = [
    "config_values",
    "has_config",
    "ignored_config",
    "inherit_config",
    "load_plain_state",
    "plain_name",
    "plain_state",
    "unwrapped",
]

_HOLDERS = ("pretrained_cfg", "default_cfg")  # timm's names, new and old
_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch's wrappers, torch.compile's included."""
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "")


def plain_state(model: nn.Module) -> Mapping[str, Any]:
    """The weights of a network, by the names that they have without torch's wrappers."""
    state = unwrapped(model).state_dict()
    if all(name == plain_name(name) for name in state):
        return state
    return {plain_name(name): value for name, value in state.items()}


def load_plain_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give a network weights by these names; or by a wrapper's, as runs of earlier versions kept them."""
    inside = unwrapped(model)
    own = {plain_name(name): name for name in inside.state_dict()}

    def name_inside(name: str) -> str:
        plain = plain_name(name)
        return own.get(plain, own.get(plain.removeprefix("module."), name))

    inside.load_state_dict({name_inside(name): value for name, value in state.items()})


def config_values(model: nn.Module, name: str) -> list[Any]:
    """The different values of an entry, such as "mean", in the configurations inside a network.

    There are several where networks inside (those of a `PerScale`) differ. Lists become tuples.
    """
    values: list[Any] = []
    for config in _configs(model):
        value = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
        value = tuple(value) if isinstance(value, list) else value
        if value is not None and value not in values:
            values.append(value)
    return values


def has_config(model: nn.Module) -> bool:
    """Whether a network carries a configuration itself."""
    return any(getattr(model, holder, None) for holder in _HOLDERS)


def _configs(model: nn.Module) -> list[Any]:
    """The outermost configurations: that of a network hides those of its parts."""
    if has_config(model):
        return [next(config for holder in _HOLDERS if (config := getattr(model, holder, None)))]
    return [config for child in model.children() for config in _configs(child)]


def inherit_config(network: nn.Module, source: nn.Module) -> None:
    """Give a network that was built from the parts of another the configuration of that one."""
    configs = _configs(source)
    if len(configs) == 1:
        network.pretrained_cfg = configs[0]


def ignored_config(
    model: nn.Module, *, resample: str, sides: Sequence[int] = (), crop: int | None = None
) -> dict[str, Any]:
    """Where a network's configuration of resizing and cropping differs from the protocol.

    It is recorded and never applied: the protocol is the same for every network. The result, for a record, is
    such as {"config_not_applied": {"interpolation": "bicubic", "crop_pct": 0.9}}, or empty.
    """
    found = {}
    filters = [name for name in config_values(model, "interpolation") if name != resample]
    # A side is a whole number of pixels: 248 px is what 0.9 means for a crop of 224.
    shown = [(side, side if crop is None else min(crop, side)) for side in sides or (1000,)]
    parts = [
        part
        for part in config_values(model, "crop_pct")
        if any(abs(seen / part - side) > 1 for side, seen in shown)
    ]
    for name, values in (("interpolation", filters), ("crop_pct", parts)):
        if values:
            found[name] = values[0] if len(values) == 1 else values
    return {"config_not_applied": found} if found else {}
