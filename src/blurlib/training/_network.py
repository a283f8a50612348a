"""The network that is trained: a copy, of which some parameters are chosen; and as it is returned."""

from __future__ import annotations

import copy
import fnmatch
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from .._common.model_config import load_plain_state, plain_name, unwrapped
from .._tasks import TrainingSettings, compiler_failed, said

Trainable = Callable[[str, nn.Parameter], bool] | Sequence[str] | None


def copied(model: nn.Module) -> nn.Module:
    """A network like another, with weights of its own."""
    if any(isinstance(part, torch.fx.GraphModule) and "train" in vars(part) for part in model.modules()):
        raise ValueError(
            "`model` must have a training mode, got a program of torch.export, whose mode is fixed; pass the "
            "network that was exported"
        )
    try:
        if isinstance(model, torch.jit.ScriptModule):  # copied otherwise, its parameters cannot be trained
            stored = io.BytesIO()
            torch.jit.save(model, stored)
            stored.seek(0)
            return cast("nn.Module", torch.jit.load(stored))  # type: ignore[no-untyped-call]  # torch's
        return copy.deepcopy(model)
    except Exception as error:
        raise ValueError(
            f"`model` must be one that copy.deepcopy copies, for a copy is trained, got the error "
            f"{said(error)!r}; look for tensors that it keeps from forward passes"
        ) from error


def check_precision(dtype: torch.dtype, *, amp: bool | str, show: bool) -> None:
    """Refuse or warn of weights in half precision, which `show` does for all processes."""
    if dtype not in (torch.float16, torch.bfloat16):
        return
    if amp == "fp16":
        raise ValueError(
            f'`amp` must not be "fp16" where the weights of `model` are of {dtype}, whose gradients are not '
            "scaled; pass model.float()"
        )
    if show:
        warnings.warn(
            f"`model` is of {dtype}, in which small steps of training are lost; model.float() keeps them, "
            "and amp=True is as fast",
            stacklevel=3,
        )


def reordered(network: nn.Module, order: torch.memory_format) -> None:
    """Change the order in memory of weights that are images' filters."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


@contextmanager
def compiling(network: nn.Module, *, wanted: bool) -> Iterator[nn.Module]:
    """A network by torch.compile, if wanted; within the block a compiler that fails is a ValueError."""
    try:
        yield cast("nn.Module", torch.compile(network)) if wanted else network
    except Exception as error:
        if not (wanted and compiler_failed(error)):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        told = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        raise ValueError(
            f"`compile` must be False where torch.compile does not compile the network, got the error "
            f"{told!r}; leave it out, or mend what its compiler lacks"
        ) from error


def select(network: nn.Module, trainable: Trainable) -> list[str]:
    """Freeze what is not to be trained; return the names of the rest, without those of torch's wrappers."""
    named = [(plain_name(name), parameter) for name, parameter in unwrapped(network).named_parameters()]
    # Patterns may have the wrappers' names too.
    whole = {plain: name for (plain, _), (name, _) in zip(named, network.named_parameters(), strict=True)}

    def matches(name: str, pattern: str) -> bool:
        return any(
            fnmatch.fnmatchcase(each, pattern) for each in (name, whole[name], plain_name(whole[name]))
        )

    if trainable is None:
        chosen = [name for name, parameter in named if parameter.requires_grad]
    elif callable(trainable):
        chosen = [name for name, parameter in named if trainable(name, parameter)]
    elif not isinstance(trainable, Sequence):
        raise TypeError(
            "`trainable` must be None, patterns of parameter names such as ['classifier.*'] or a function of "
            f"name and parameter, got {trainable!r}"
        )
    else:
        patterns = [trainable] if isinstance(trainable, str) else trainable
        for pattern in patterns:
            if not any(matches(name, pattern) for name, _ in named):
                raise ValueError(
                    f"`trainable` must match names of parameters, got {pattern!r}, which matches none of "
                    f"{', '.join(name for name, _ in named[:3])}, ...; see model.named_parameters()"
                )
        chosen = [name for name, _ in named if any(matches(name, pattern) for pattern in patterns)]
    if not named:
        raise ValueError(
            f"`model` must have parameters to train, got a {type(network).__name__} without any; pass the "
            "network from before it was frozen"
        )
    if not chosen:
        raise ValueError("`trainable` must leave parameters to train, got none; choose some by name")
    for name, parameter in named:
        parameter.requires_grad_(name in set(chosen))
    return chosen


def finished(
    network: nn.Module,
    best: Mapping[str, Any] | None,
    wanted: Mapping[str, bool],
    settings: TrainingSettings,
    home: torch.device,
) -> tuple[nn.Module, nn.Module | None]:
    """The network and a copy with the best weights, as the network was given: `wanted` which gradients."""
    other = None if best is None else copied(network)
    if other is not None and best is not None:
        load_plain_state(other, best["model"])
    for each in (network, other):
        if each is None:
            continue
        if settings.channels_last:
            reordered(each, torch.contiguous_format)
        for name, parameter in each.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
        each.to(home).eval()
    return network, other
