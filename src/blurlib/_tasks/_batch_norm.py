"""Batch norm where a process sees a single image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The layers that normalise by the statistics of a process's own batch."""
    kinds: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if not (dist.is_available() and dist.is_initialized()):
        kinds += (nn.SyncBatchNorm,)  # alone it has only its own
    return [module for module in network.modules() if isinstance(module, kinds)]


def needs_several(network: nn.Module, image: Tensor) -> bool:
    """Whether batch norm would have one value a channel in a batch of one image, which torch refuses."""
    found = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].numel() == inputs[0].shape[1])

    hooks = [module.register_forward_pre_hook(look) for module in batch_norms(network)]
    try:
        if hooks:
            # Uncompiled: hooks would become part of what is compiled, and stay.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return any(found)


@contextmanager
def running_statistics(network: nn.Module, *, when: bool, synchronised: bool = False) -> Iterator[bool]:
    """Batch norm by its running statistics, which are not updated: for a batch without statistics.

    Layers that take those of all processes are switched with `synchronised`, which all processes must do.

    Yields:
        Whether a layer was switched.
    """
    found = batch_norms(network) if when else []
    if when and synchronised:
        found = [*found, *(each for each in network.modules() if isinstance(each, nn.SyncBatchNorm))]
    switched = [module for module in found if module.training]
    for module in switched:
        module.training = False
    try:
        yield bool(switched)
    finally:
        for module in switched:
            module.training = True
