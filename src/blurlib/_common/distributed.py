"""The processes that work together, as torchrun starts them, and torch's own random numbers in them."""

from __future__ import annotations

import atexit
import datetime as dt
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import rng

__all__ = [
    "PATIENCE",
    "ProcessGroup",
    "is_main_process",
    "is_torchrun",
    "local_world_size",
    "process_group",
    "rng_state",
    "seeded_rng",
]

PATIENCE = 600.0
"""Seconds that processes wait for one that shows no life."""

_T = TypeVar("_T")

_NOISE = 41  # purpose that keeps these draws apart from those of other modules


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes that work together: `world` of them, this one of number `rank`, computing on `device`.

    A single process, without torchrun, is a group of one.
    """

    rank: int
    world: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, or a module around it by which processes average their gradients.

        All start from the first process's weights and buffers.
        """
        if self.world == 1:
            return network
        wrapped = DistributedDataParallel(network)
        # Else each forward pass exchanges buffers, and processes with unlike numbers of passes (batches of
        # several sizes) wait for each other for ever. Set here because torch has renamed the argument.
        wrapped.broadcast_buffers = False
        return wrapped

    @contextmanager
    def apart(self, parallel: nn.Module, *, when: bool) -> Iterator[None]:
        """Within the block gradients add up in each process, and are not yet averaged over all."""
        wrapped = (part for part in parallel.modules() if isinstance(part, DistributedDataParallel))
        outer = next(wrapped, None) if when else None
        with nullcontext() if outer is None else outer.no_sync():
            yield

    def sum(self, numbers: Tensor) -> Tensor:
        """Add up a tensor over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(numbers)
        return numbers

    def merge(self, texts: dict[str, str]) -> dict[str, str]:
        """Unite a small dict over the processes."""
        return {name: text for part in self.gather(texts) for name, text in part.items()}

    def gather(self, part: _T) -> list[_T]:
        """Collect what each process has, by rank; it must pickle."""
        if self.world == 1:
            return [part]
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, part)
        return parts

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the first one's buffers (batch norm's statistics)."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            dist.barrier()


def is_torchrun() -> bool:
    """Whether torchrun started this process together with others."""
    return dist.is_available() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_world_size() -> int:
    """How many processes torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process prints and writes for all; True without torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(device: torch.device, *, together: bool = True) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, unless that is done; they stay together until they end.

    With `together=False` this process stays alone.
    """
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        if together and is_torchrun() and not dist.is_initialized():
            dist.init_process_group(timeout=dt.timedelta(seconds=PATIENCE))
            # Not at the end of this block: torchrun's store remembers a group, a second cannot meet there.
            atexit.register(_leave)
        if together and dist.is_available() and dist.is_initialized():
            yield ProcessGroup(rank=dist.get_rank(), world=dist.get_world_size(), device=device)
        else:
            yield ProcessGroup(rank=0, world=1, device=device)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def seeded_rng(
    *, seed: int, epoch: int, team: ProcessGroup, state: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Seed torch's generators (dropout draws from them) by (seed, epoch, rank); restore them afterwards.

    With the state that :func:`rng_state` told in the middle of an epoch they go on from there.
    """
    word = int(rng.words(1, seed=seed, key=(epoch, team.rank, _NOISE))[0] >> 1)
    kind = team.device.type
    # Not torch.manual_seed: it also seeds the other GPUs, which nobody would put back.
    with torch.random.fork_rng(devices=[team.device] if kind == "cuda" else []):
        torch.default_generator.manual_seed(word)
        if kind == "cuda":
            torch.cuda.manual_seed(word)
        elif kind == "mps":
            torch.mps.manual_seed(word)
        if state is not None:
            torch.set_rng_state(state["cpu"].cpu())
            if kind == "cuda" and "cuda" in state:
                torch.cuda.set_rng_state(state["cuda"].cpu(), team.device)
            elif kind == "mps" and "mps" in state:
                torch.mps.set_rng_state(state["mps"].cpu())
        yield


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Where torch's generators are, by the type of their device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state
