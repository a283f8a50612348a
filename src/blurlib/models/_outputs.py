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
        TypeError: if the network does not return a tensor.
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
        (B, C) logits or log-probabilities.

    Raises:
        TypeError: if the network does not return a tensor.
        ValueError: if it does not return a row of scores for each image.

    Example:
        >>> logits(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """
    found = model(images)
    if not isinstance(found, torch.Tensor):
        raise TypeError(
            f"`model` must return a tensor of scores, got {type(found).__name__}; "
            "wrap it in a module that returns the (batch, classes) tensor alone"
        )
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(
            f"`model` must return a row of scores for each image, ({len(images)}, classes), "
            f"got {tuple(found.shape)}; pool and flatten its output"
        )
    return found


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
    modes = {module: module.training for module in model.modules()}
    homes = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    moved = len(homes) == 1 and homes != {device}
    try:
        model.eval()
        if moved:
            model.to(device)
        yield device if len(homes) <= 1 else next(model.parameters()).device
    finally:
        if moved:
            model.to(homes.pop())
        for module, training in modes.items():
            module.training = training


def pixel_logits(result: object, size: Sequence[int] | None = None) -> Tensor:
    """The logits in what a segmentation network returns.

    Args:
        result: (B, classes, h, w), or a mapping with these as "out", as torchvision's networks return it.
        size: (height, width) in px to which they are interpolated (bilinear); None leaves them.

    Returns:
        (B, classes, H, W) float32.

    Raises:
        TypeError: if it is something else.

    Example:
        >>> pixel_logits({"out": torch.zeros(1, 21, 8, 8)}, (32, 48)).shape
        torch.Size([1, 21, 32, 48])
    """
    logits = result.get("out") if isinstance(result, Mapping) else result
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(result).__name__
        raise TypeError(
            f'`model` must return logits (B, classes, h, w), or a mapping with them as "out", got {got}; '
            "wrap it in a module that does"
        )
    logits = logits.float()
    if size is not None and tuple(logits.shape[-2:]) != tuple(size):
        logits = F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)
    return logits
