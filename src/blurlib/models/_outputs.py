"""Outputs of networks: logits of an image, logits of every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._dense import Dense


def dense_log_probs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of a classifier at all positions of its input.

    Args:
        model: any classifier, or what :func:`dense` made.
        images: (B, 3, H, W), normalised.

    Returns:
        (B, C, P) log-probabilities; one position P unless the network is dense.

    Raises:
        TypeError: if there are no scores in what the network returns.
        ValueError: if it does not return a row of scores for each image.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> dense_log_probs(network, torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 1])
    """
    if isinstance(model, Dense):
        return model.positions(images).flatten(2)
    return logits(model, images).log_softmax(dim=1)[..., None]


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Run a classifier and check its output.

    Args:
        model: any classifier.
        images: (B, 3, H, W), normalised.

    Returns:
        (B, C) logits or log-probabilities: what the network returns, the first of a tuple, or "logits" or
        "out" of a mapping, as networks of Hugging Face and torchvision return them.

    Raises:
        TypeError: if there are no scores in what the network returns.
        ValueError: if it does not return a row of scores for each image.

    Example:
        >>> logits(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """
    return class_scores(model(images), len(images))


def class_scores(result: object, count: int | None = None) -> torch.Tensor:
    """The scores (B, classes) in what a classifier returns for `count` images; None does not check that."""
    found = _scores(result)
    if found is None:
        raise TypeError(
            '`model` must return a tensor of scores: alone, first in a tuple, or in a mapping as "logits" '
            f'or "out", got {_kind(result)}; wrap it in a module that returns the (batch, classes) tensor'
        )
    if found.ndim != 2 or count not in (None, len(found)):
        raise ValueError(
            f"`model` must return a row of scores for each image, ({'batch' if count is None else count}, "
            f"classes), got {tuple(found.shape)}; pool and flatten its output"
        )
    return found


def _scores(result: object) -> torch.Tensor | None:
    """The tensor of scores in what a network returns; None if there is none."""
    if isinstance(result, Mapping):
        result = next((result[name] for name in ("out", "logits") if name in result), None)
    elif isinstance(result, (tuple, list)):
        result = result[0] if result else None
    elif not isinstance(result, torch.Tensor):
        result = getattr(result, "logits", None)
    return result if isinstance(result, torch.Tensor) else None


def _kind(result: object) -> str:
    kind = type(result).__name__
    if isinstance(result, Mapping):
        return f"{kind} with {', '.join(repr(str(name)) for name in result) or 'nothing in it'}"
    return kind


@contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Iterator[torch.device]:
    """Context manager: a network in evaluation mode on a device; afterwards each module is as it was.

    Args:
        model: the network.
        device: where it shall run.

    Yields:
        Where it runs: one that is spread over several devices stays where its owner put it.

    Example:
        >>> network = nn.Dropout().train()
        >>> with eval_mode(network, torch.device("cpu")):
        ...     inside = network.training
        >>> inside, network.training
        (False, True)
    """
    # Frozen programs of TorchScript have no mode.
    modes = {module: module.training for module in model.modules() if hasattr(module, "training")}
    homes = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    moved = len(homes) == 1 and homes != {device}
    try:
        try:
            model.eval()
        except NotImplementedError:  # a program of torch.export keeps the mode in which it was exported
            for module in modes:
                module.training = False
        if moved:
            model.to(device)
        yield device if len(homes) <= 1 else next(model.parameters()).device
    finally:
        if moved:
            model.to(homes.pop())
        for module, training in modes.items():
            module.training = training


_EXCLUDED = -1e30


def pixel_logits(result: object, size: Sequence[int] | None = None) -> Tensor:
    """The logits in what a segmentation network returns.

    Args:
        result: (B, classes, h, w); a mapping with these as "out", as torchvision's networks return it, or as
            "logits", as those of Hugging Face; or a tuple, of which they are the first.
        size: (height, width) in px to which they are interpolated (bilinear); None leaves them.

    Returns:
        (B, classes, H, W) float32.

    Raises:
        TypeError: if it is something else.

    Example:
        >>> pixel_logits({"out": torch.zeros(1, 21, 8, 8)}, (32, 48)).shape
        torch.Size([1, 21, 32, 48])
    """
    logits = _scores(result)
    if logits is None or logits.ndim != 4:
        got = _kind(result) if logits is None else f"shape {tuple(logits.shape)}"
        raise TypeError(
            "`model` must return logits (B, classes, h, w): alone, first in a tuple, or in a mapping as "
            f'"out" or "logits", got {got}; wrap it in a module that does'
        )
    logits = logits.float()
    if size is not None and tuple(logits.shape[-2:]) != tuple(size):
        # A class that the network excludes (-inf) would be NaN where it has a weight of 0.
        logits = F.interpolate(logits.clamp(min=_EXCLUDED), tuple(size), mode="bilinear", align_corners=False)
    return logits
