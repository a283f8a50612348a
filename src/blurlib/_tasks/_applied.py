"""How a classifier is applied in an evaluation: scales, crops, the networks that see them, their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..deblurring import DeblurThenClassify
from ..models import Dense, Scales, class_scores, dense
from ._probe import applied
from .evaluating import Colours

SIZES_BY = "`scales` and `crop`"
"""What decides the sizes that a classifier sees, for messages."""


def seen(model: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Scales and crops: as given; else those of a network of several scales; else the defaults."""
    usual: dict[str, Any] = {"scales": (256,), "crops": "center", "crop": 224, "average": "crops"}
    if not isinstance(model, Scales):
        return {name: usual[name] if value is None else value for name, value in given.items()}
    own = {"scales": (model.sides,), "crops": model.crops, "crop": model.crop, "average": model.average}
    for name, value in given.items():
        wanted = None if value is None else scale_settings(value) if name == "scales" else value
        if wanted not in (None, own[name]):
            raise ValueError(
                f"`{name}` must be left out where `model` is a {type(model).__name__}, which has its own, "
                f"{own[name]!r}, got {value!r}; give it the network inside"
            )
    return own


def own_colours(
    model: DeblurThenClassify, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Colours:
    for name, value, own in zip(("mean", "std"), (mean, std), model.colours, strict=True):
        if value is not None and tuple(value) != own:
            raise ValueError(
                f"`{name}` must be left out where `model` is a DeblurThenClassify, which has its own, {own}, "
                f"got {value!r}; give it to that"
            )
    return model.colours


def networks(model: nn.Module, sides: Sequence[int], *, dense_crops: bool) -> tuple[nn.ModuleList, list[int]]:
    """The networks as they are applied, and which of them sees each of the sides."""
    if not isinstance(model, Scales):
        return nn.ModuleList([dense(model) if dense_crops else model]), [0] * len(sides)
    every = [model.network(side) for side in sides]
    different = list({id(network): network for network in every}.values())
    places = {id(network): number for number, network in enumerate(different)}
    return nn.ModuleList(different), [places[id(network)] for network in every]


def scale_settings(scales: Any) -> tuple[tuple[int, ...], ...]:
    """(256, (256, 512)) as ((256,), (256, 512))."""
    remedy = "give sides in px, or tuples of sides to average, such as (128, 256, (256, 512), 512)"
    if isinstance(scales, (str, bytes)) or not isinstance(scales, (int, Sequence)):
        raise TypeError(f"`scales` must be a sequence of sides, got {scales!r}; {remedy}")
    settings = []
    for entry in (scales,) if isinstance(scales, int) else scales:
        sides = (entry,) if isinstance(entry, int) else entry
        whole = isinstance(sides, Sequence) and all(type(side) is int for side in sides)
        if isinstance(sides, str) or not whole:
            raise TypeError(f"`scales` must hold whole numbers of pixels, got {entry!r}; {remedy}")
        if not sides or min(sides) < 1 or len(set(sides)) < len(sides):
            raise ValueError(f"`scales` must hold different sides of at least 1 px, got {entry!r}; {remedy}")
        settings.append(tuple(sides))
    if not settings or len(set(settings)) < len(settings):
        raise ValueError(f"`scales` must name at least one setting and each once, got {scales!r}; {remedy}")
    return tuple(settings)


def log_probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Float64 log-probabilities (B, C, positions) of a network's input; one position if not dense."""
    if isinstance(model, Dense):
        positions: Tensor = applied(model, images, settings=SIZES_BY, call=model.positions)
        return positions.flatten(2).cpu().double()
    found = class_scores(applied(model, images, settings=SIZES_BY), len(images))
    # To the CPU before the precision rises: not every device has float64.
    return found.cpu().double().log_softmax(dim=1)[..., None]
