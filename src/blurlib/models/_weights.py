"""Files of weights, as people keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from .._common.archives import HOLDERS, load_tensors
from .._common.model_config import plain_name

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors")
# What wrappers and training modules put before names.
_PREFIXES = ("", "module.", "model.", "module.model.", "model.module.")

Shapes = dict[str, tuple[int, ...]]


def load_weights(
    network: nn.Module,
    path: Path,
    *,
    arch: str,
    nearest: Callable[[int], Iterator[tuple[str, nn.Module]]],
    notify: Callable[[str], None],
) -> nn.Module:
    """The network with the weights of a file.

    The file is a state dict or a checkpoint with one; names may have the prefixes of wrappers. `nearest`
    yields networks of about so many numbers, with their names, to suggest one where the weights do not fit.
    """
    state = _state(load_tensors(path, map_location="cpu", name="MODEL"), path)
    try:
        network.load_state_dict(state)
        return network
    except (RuntimeError, TypeError, AttributeError):  # other names, or another network
        state = {plain_name(name): value for name, value in state.items()}
    own = network.state_dict()
    fits, others = _bare(own, state)
    reasons = _differences(_shapes(own), _shapes(fits))
    if reasons:
        raise ValueError(
            f"`--arch` {arch} must fit the weights in {str(path)!r}, got {'; '.join(reasons)}; "
            + _remedy(own, state, nearest, arch)
        )
    others += [name for name in fits if name not in own]
    if others:
        notify(f"note: not of {arch} and left out: {_first(others)}")
    new = [name for name in own if name not in fits and _optional(name) == "auxiliary"]
    if new:
        notify(f"note: not in {path.name}, and new: {_first(new)}")
    try:
        network.load_state_dict({**own, **{name: value for name, value in fits.items() if name in own}})
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`--arch` {arch} must fit the weights in {str(path)!r}, got the error "
            f"{str(error).strip().splitlines()[-1].strip()[:200]!r}; save model.state_dict() of that network"
        ) from error
    return network


def _state(loaded: Any, path: Path) -> dict[str, Any]:
    """The state dict in what a file holds."""
    state = loaded
    while isinstance(state, Mapping):
        inside = next((state[name] for name in HOLDERS if isinstance(state.get(name), Mapping)), None)
        if inside is None:
            break
        state = inside
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not any(isinstance(value, Tensor) for value in state.values()):
        kind = type(state).__name__
        got = f"a {kind} with {_first(list(map(str, state)))}" if isinstance(state, Mapping) else f"a {kind}"
        raise ValueError(
            "`MODEL` must be a state dict (names and tensors), or hold one as "
            f"{', '.join(map(repr, HOLDERS))}, got {got} in {str(path)!r}; save model.state_dict()"
        )
    return cast("dict[str, Any]", state)  # itself: it carries the versions of its layers


def _bare(own: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a file has for a network, without the prefix by which it has most; and the names without it."""
    prefix = max(_PREFIXES, key=lambda prefix: sum(prefix + name in state for name in own))
    fits = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    return fits, [name for name in state if not name.startswith(prefix)]


def _shapes(state: Mapping[str, Any]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}


def _optional(name: str) -> str | None:
    """Why an entry may be missing, or be left out."""
    if name.endswith("num_batches_tracked"):
        return "count"  # of batches, which files of old torch do not have
    # Auxiliary outputs, which torchvision's networks have or not, by how they are made.
    return "auxiliary" if name.lower().startswith("aux") else None


def _differences(own: Shapes, given: Shapes) -> list[str]:
    """What is missing, what is too many, and what has another shape: the first ones by name."""
    missing = [name for name in own if name not in given and not _optional(name)]
    others = [name for name in given if name not in own and not _optional(name)]
    shapes = [
        f"{name} of {given[name]} instead of {shape}"
        for name, shape in own.items()
        if given.get(name, shape) != shape
    ]
    kinds = (("missing", missing), ("unexpected", others), ("other shapes,", shapes))
    return [f"{kind} {_first(names)}" for kind, names in kinds if names]


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more if names else "nothing"


def _outputs(own: Shapes, given: Shapes) -> int | None:
    """The number of outputs with which the weights fit, 0 for the network's own; None where none helps."""
    if any(not _optional(name) for name in own.keys() ^ given.keys()):
        return None
    other = [(given[name], shape) for name, shape in own.items() if given.get(name, shape) != shape]
    sizes = {found[0] for found, _ in other if found}
    alike = all(found[1:] == shape[1:] and found for found, shape in other)
    return (max(sizes, default=0) if len(sizes) < 2 else None) if alike else None


def _remedy(
    own: Mapping[str, Any],
    state: Mapping[str, Any],
    nearest: Callable[[int], Iterator[tuple[str, nn.Module]]],
    arch: str,
) -> str:
    """The option that makes the weights fit, or the network that comes nearest."""

    def likeness(network: Mapping[str, Any]) -> tuple[float, int | None]:
        shapes, given = _shapes(network), _shapes(_bare(network, state)[0])
        same = sum(given.get(name) == shape for name, shape in shapes.items())
        return same / len(shapes.keys() | given.keys()), _outputs(shapes, given)

    best, outputs = likeness(own)
    if outputs:
        mine = ":" in arch and not arch.startswith(("timm:", "zoomout:"))
        option = f"let {arch} return such a network" if mine else f"--classes {outputs}"
        return f"the weights are of a network with {outputs} outputs: {option}"
    count = sum(value.numel() for value in state.values() if isinstance(value, Tensor))
    found = None
    for name, network in nearest(count):
        like, outputs = likeness(network.state_dict())
        if outputs is not None:
            return f"they fit --arch {name}" + (f" --classes {outputs}" if outputs else "")
        if like > max(best, 0.5):
            best, found = like, name
    remedy = "name the network that they were saved from as --arch, or give module:function of yours"
    if found is None:
        return remedy
    return f"{remedy}; {found} comes nearest, with {best:.0%} of names and shapes"
