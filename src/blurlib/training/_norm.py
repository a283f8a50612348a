"""Batch norm beyond one process's batch: the statistics of all processes, and running ones computed anew."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from .._common.devices import batches, make_loader
from .._common.distributed import ProcessGroup, seeded_rng
from .._tasks import TrainingTask, running_statistics
from ..data import KeyedSampler
from ._shares import Shares

_EPOCH = 2**32  # whose views no training sees


def check_batch_norm(kind: str, network: nn.Module, team: ProcessGroup) -> None:
    """Refuse what the network's layers cannot do."""
    scripted = any(isinstance(each, torch.jit.ScriptModule) for each in network.modules())
    if kind in ("sync", "recalibrate") and scripted:
        raise ValueError(
            f'`batch_norm` must be "train" or "eval" where `model` is TorchScript, which does not tell its '
            f"layers, got {kind!r}; pass the network that was scripted"
        )
    if team.world == 1:
        return
    if kind == "sync" and team.device.type == "cpu":
        raise ValueError(
            f'`batch_norm` must not be "sync" for {team.world} processes on the CPU, where torch has no such '
            'layers; pass "train", or run one process'
        )
    if kind == "recalibrate" and any(isinstance(each, nn.SyncBatchNorm) for each in network.modules()):
        raise ValueError(
            '`batch_norm` must not be "recalibrate" for several processes where `model` has layers '
            'SyncBatchNorm; pass "train"'
        )


@contextmanager
def synchronised(network: nn.Module, *, when: bool) -> Iterator[None]:
    """Within the block batch norm takes the statistics of all processes; then the layers are as they were."""
    if not when:
        yield
        return
    layers = {
        name: layer
        for name, layer in network.named_modules(remove_duplicate=False)
        if name and isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm)
    }
    usual = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    others = [layer for layer in layers.values() if type(layer) not in usual]
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    if others and all(type(layer).__module__.startswith("timm.") for layer in others):
        # With its activation, which torch's function would leave out.
        convert = importlib.import_module("timm.layers").convert_sync_batchnorm
    elif others:
        raise ValueError(
            '`batch_norm` must not be "sync" where layers are of a class of their own, got '
            f'{type(others[0]).__name__}, of which torch has none for several processes; pass "train"'
        )
    convert(network)  # type: ignore[no-untyped-call]  # torch's
    try:
        yield
    finally:
        for name, layer in layers.items():
            parent, _, last = name.rpartition(".")
            network.get_submodule(parent).add_module(last, layer)


def recalibrate(network: nn.Module, task: TrainingTask, shares: Shares, *, workers: int) -> bool:
    """Give batch norm the mean statistics of all batches of an epoch of its own, each by its own weights.

    Every batch is whole: several processes take them in turn, and agree with one up to rounding.

    Returns:
        Whether it was done before a request to stop; else the statistics are of no use.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        return True
    settings, team = task.settings, shares.team
    sampler = KeyedSampler(len(task.listing), batch_size=settings.batch_size, seed=settings.seed)
    sampler.set_epoch(_EPOCH)
    loader = make_loader(
        task,
        workers=workers,
        batch_sampler=_Turns(sampler, team),
        collate_fn=task.collate,
        pin_memory=team.device.type == "cuda",
    )
    before = [[buffer.clone() for buffer in layer.buffers()] for layer in layers]

    def shown() -> Iterator[Tensor]:
        for batch in shares.of(batches(loader), largest=-(-len(sampler) // team.world)):
            for views, _ in batch.groups:
                with running_statistics(network, when=task.needs_several and len(views) == 1):
                    yield task.images(views.to(team.device, non_blocking=True))

    with seeded_rng(seed=settings.seed, epoch=_EPOCH, team=team), task.passing(team.device):
        update_bn(shown(), network)
    network.eval()
    if shares.ended:
        return False
    for layer in layers:
        _averaged(layer, team)
    if not all(bool(layer.num_batches_tracked) for layer in layers):
        for layer, buffers in zip(layers, before, strict=True):
            for buffer, old in zip(layer.buffers(), buffers, strict=True):
                buffer.copy_(old)
        warnings.warn(
            "`batch_norm` did not compute statistics anew, for every batch held a single image of its size; "
            "a larger `batch_size` would",
            stacklevel=2,
        )
    return True


def _averaged(layer: _BatchNorm, team: ProcessGroup) -> None:
    """The mean over the batches of all processes."""
    if team.world == 1:
        return
    assert layer.num_batches_tracked is not None
    count = layer.num_batches_tracked.clone()
    team.sum(layer.num_batches_tracked)
    for buffer in (layer.running_mean, layer.running_var):
        assert buffer is not None
        team.sum(buffer.mul_(count)).div_(layer.num_batches_tracked.clamp(min=1))


class _Turns:
    """Batches of which each process takes one in turn."""

    def __init__(self, sampler: KeyedSampler, team: ProcessGroup) -> None:
        self.sampler, self.team = sampler, team

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return islice(self.sampler, self.team.rank, None, self.team.world)
