"""Mean and standard deviation that a network wants its input to have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import transforms
from torchvision.transforms import v2

from .._common.model_config import config_values

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_NORMALISING = (transforms.Normalize, v2.Normalize)


def normalisation(
    model: torch.nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a network's input, in training and in evaluation.

    Args:
        model: the network; a timm model carries both in `pretrained_cfg` (or `default_cfg`), and is found in
            any wrapper of torch's or of this library.
        mean: three values in [0, 1], of which one may stand for all, or None for the model's own, and
            ImageNet's where it has none.
        std: three values in (0, 1], or None likewise.

    Returns:
        (mean, std), three floats each.

    Raises:
        TypeError: if one is not a sequence of numbers.
        ValueError: if one has not three values in its range, networks inside `model` have different ones, or
            `model` normalises by a layer of its own.

    Example:
        >>> normalisation(torch.nn.Identity(), None, (0.5, 0.5, 0.5))
        ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
    """
    means = _triple("mean", _chosen(model, "mean", mean, IMAGENET_MEAN), low=0.0)
    # Above 0: a number as small as 1 / 255 is the standard deviation of networks that take 0 to 255.
    stds = _triple("std", _chosen(model, "std", std, IMAGENET_STD), low=1e-9)
    return means, stds


def normalisation_source(
    model: torch.nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> str:
    """Source of the values of :func:`normalisation`, for records.

    Args:
        model: the network.
        mean: as given to :func:`normalisation`.
        std: likewise.

    Returns:
        "given", "model" (its configuration) or "assumed" (ImageNet's, since nothing tells); both where mean
        and standard deviation differ in this: "mean given, std assumed".

    Example:
        >>> normalisation_source(torch.nn.Identity(), None, None)
        'assumed'
        >>> normalisation_source(torch.nn.Identity(), None, (0.5, 0.5, 0.5))
        'mean assumed, std given'
    """
    sources = {
        name: "given" if value is not None else "model" if config_values(model, name) else "assumed"
        for name, value in (("mean", mean), ("std", std))
    }
    if sources["mean"] == sources["std"]:
        return sources["mean"]
    return ", ".join(f"{name} {source}" for name, source in sources.items())


def _chosen(
    model: torch.nn.Module, name: str, given: Sequence[float] | None, usual: Sequence[float]
) -> Sequence[float]:
    if given is not None:
        return given
    own = config_values(model, name)
    if len(own) > 1:
        raise ValueError(
            f"`{name}` must be given where the networks inside `model` have different ones, got "
            f"{' and '.join(map(str, own))} in their configurations"
        )
    if any(isinstance(layer, _NORMALISING) for layer in model.modules()):
        raise ValueError(
            f"`{name}` must be given where `model` has a layer Normalize, got None; pass mean=(0, 0, 0) and "
            "std=(1, 1, 1) if that layer takes images in [0, 1]"
        )
    return own[0] if own else usual


def _triple(name: str, values: Any, *, low: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be three numbers, one for each colour, got {values!r}") from error
    numbers = 3 * numbers if len(numbers) == 1 else numbers  # of a grey network
    if len(numbers) != 3 or not all(low <= number <= 1 for number in numbers):  # False for NaN as well
        rule = "from 0 to 1" if low == 0 else "above 0 and at most 1"
        raise ValueError(
            f"`{name}` must be three finite numbers {rule}, one for each colour, got {values!r}; images "
            "count as 0 to 1 here, so divide values of 0 to 255 by 255"
        )
    return numbers


def normalised(batch: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalise 8-bit images to a network's input, on their device.

    Args:
        batch: uint8, shape (..., 3, H, W); it is not modified.
        mean: three values of the range [0, 1].
        std: three positive values.

    Returns:
        A float32 tensor of the same shape: (batch / 255 - mean) / std.

    Example:
        >>> normalised(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3).unique()
        tensor([1.])
    """
    means = torch.tensor(mean, device=batch.device).view(3, 1, 1)
    stds = torch.tensor(std, device=batch.device).view(3, 1, 1)
    return (batch.to(torch.float32) / 255 - means) / stds
