"""What a step of training does with the loss: gradients, learning rates, optimiser, the weights' average."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .._common.model_config import load_plain_state, plain_state
from .._tasks import TrainingSettings
from ._network import copied

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimiser of the parameters that are trained, such as `torch.optim.AdamW`."""


class Optimisation:
    """The steps of a run.

    Attributes:
        average: the moving average of the weights, if one is kept.
        rates: the optimiser's own of each group, where `lr` does not set them.
        record: what is kept of the optimiser in the run's settings; None for the paper's SGD.

    Args:
        network: of which all parameters that require a gradient are trained.
        settings: of the run.
        steps: of an epoch.
        make: makes the optimiser; None for the paper's.
    """

    def __init__(
        self, network: nn.Module, settings: TrainingSettings, *, steps: int, make: MakeOptimizer | None
    ) -> None:
        self.network, self.settings, self._steps = network, settings, steps
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.record: dict[str, Any] | None = None
        if make is None:
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                trained,
                lr=settings.rates[0],
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )
        else:
            self.optimizer = _made(make, trained)
            self.record = _record(self.optimizer)
        groups = self.optimizer.param_groups
        self.average: AveragedModel | None = None
        if settings.ema is not None:
            update = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]  # torch's
            self.average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
            self.average.module = copied(network)  # TorchScript too
        self._scaler: torch.amp.GradScaler | None = None
        if settings.amp == "fp16":
            self._scaler = torch.amp.GradScaler(trained[0].device.type)
        # With `lr` None, settings.rates are what these are multiplied by.
        self.rates = [float(group["lr"]) for group in groups] if settings.lr is None else None

    @property
    def lr(self) -> float:
        """The present learning rate; of several groups the first one's."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def size(self) -> int:
        """Bytes of a checkpoint, about: the weights, and what the optimiser keeps of them."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        kept = trained * (1 if self.record is None else 2)  # momentum; of most others two moments
        copies = 1 + (self.average is not None) + (self.settings.validate_every > 0)
        whole = [*self.network.parameters(), *self.network.buffers()] * copies
        return sum(each.nbytes for each in (*whole, *kept))

    def begin(self, epoch: int, step: int) -> None:
        """Begin a step: set the learning rates, and remove the last step's gradients."""
        rate = self.settings.rates[epoch] * self._share(epoch * self._steps + step)
        groups = self.optimizer.param_groups
        for group, own in zip(groups, self.rates or [1.0] * len(groups), strict=True):
            if isinstance(group["lr"], Tensor):  # as its optimiser asks for
                group["lr"].fill_(own * rate)
            else:
                group["lr"] = own * rate
        self.optimizer.zero_grad(set_to_none=True)

    def _share(self, done: int) -> float:
        """The part of the phase's rate that is used after that many steps."""
        rise = round(self.settings.warmup * self._steps)
        if done < rise:
            return (done + 1) / (rise + 1)
        if self.settings.schedule == "steps":
            return 1.0
        whole = len(self.settings.rates) * self._steps
        return (1 + math.cos(math.pi * (done - rise) / (whole - rise))) / 2

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of this step."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch's

    def step(self) -> bool:
        """Change the weights. False where float16 overflowed in the gradients, and they stay as they are."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        if self._scaler is None:
            self.optimizer.step()
        else:
            before = self._scaler.get_scale()
            self._scaler.step(self.optimizer)
            self._scaler.update()
            if self._scaler.get_scale() < before:
                return False
        if self.average is not None:
            self.average.update_parameters(self.network)
        return True

    @property
    def result(self) -> nn.Module:
        """The network that the run is for: the average, if one is kept."""
        return self.network if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        kept: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            kept["average"] = dict(plain_state(self.average))
            kept["averaged"] = int(self.average.n_averaged)
        if self._scaler is not None:
            kept["scaler"] = self._scaler.state_dict()
        return kept

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            load_plain_state(self.average, state["average"])
            self.average.n_averaged.fill_(state["averaged"])
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


def _made(make: MakeOptimizer, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    rule = "`optimizer` must be a function of a list of parameters that returns a torch.optim.Optimizer"
    remedy = "such as torch.optim.AdamW, or functools.partial(torch.optim.AdamW, lr=1e-4)"
    if not callable(make):
        raise TypeError(f"{rule}, got {make!r}; pass one {remedy}")
    optimizer = make(list(trained))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{rule}, got one that returns {type(optimizer).__name__}; pass one {remedy}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"`optimizer` must need one forward pass a step, got {type(optimizer).__name__}, which asks for "
            f"more; pass one {remedy}"
        )
    taken = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if {*map(id, taken)} != {*map(id, trained)}:
        raise ValueError(
            f"`optimizer` must take each of the {len(trained)} parameters that it is given and no other, got "
            f"{type(optimizer).__name__} with {len(taken)}; choose those to train by `trainable`"
        )
    return optimizer


def _record(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Class and options of an optimiser, those of each group, but for the rates."""
    unsaid = {"params", "initial_lr", "lr"}
    groups = [
        {
            "parameters": len(group["params"]),
            **{name: _plain(value) for name, value in group.items() if name not in unsaid},
        }
        for group in optimizer.param_groups
    ]
    kind = type(optimizer)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "groups": groups}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
