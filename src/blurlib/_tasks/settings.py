"""The settings that decide the numbers of an evaluation, and of a fine-tuning run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch.utils.data import Dataset

from .._common.checks import check_integer, check_number, one_of
from ..blurs import Blur
from ..data import ImageListing, MaskListing, OnError
from ..metrics import VOID
from ..protocol import IMAGENET_MEAN, IMAGENET_STD, Average, Crops, Protocol, Resample

BatchNorm = Literal["train", "eval", "sync", "recalibrate"]
Schedule = Literal["steps", "cosine"]

Root = str | os.PathLike[str] | Dataset[Any] | Iterable[Any] | Mapping[str, Any] | ImageListing | MaskListing
"""What images are taken from: a folder, a dataset or stream, a mapping of these by split, or a listing."""

ClassNames = str | os.PathLike[str] | Mapping[str, int] | Sequence[str]
"""Which of a network's outputs each class of a root is: a file, a mapping, or the names of all outputs."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What decides the numbers of an evaluation, apart from network and images; see :func:`blurlib.evaluate`.

    None takes the task's default.
    """

    blurs: str | Blur | Iterable[str | Blur] | None = None
    scales: int | Sequence[int | Sequence[int]] | None = None
    network_size: tuple[int, int] | None = None
    band: int | None = None
    crops: Crops | None = None
    crop: int | None = None
    average: Average | None = None
    canonical_side: int = 384
    resample: Resample = "bilinear"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    limit: int | None = None
    on_error: OnError = "raise"
    class_map: ClassNames | None = None
    columns: Sequence[str] | None = None
    ignore_index: int = VOID
    reduce_zero_label: bool = False
    batch_size: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that decides the numbers of a fine-tuning run, as it stands in the run's record.

    Attributes:
        blur: the mix, as text.
        epochs: epochs of each phase.
        lr: learning rate of each phase; None where the optimiser has rates of its own.
        batch_size: images in a global batch.
        schedule: of the rate: "steps" from phase to phase, or "cosine".
        warmup: epochs of linear rise.
        clip: largest norm of the gradients, or None.
        ema: decay of the moving average of the weights, or None.
        teacher: share of the original network's outputs in the loss, or None.
        validate_every: epochs from one validation to the next; 0 for none.
        accumulate: in how many parts a process's share of a batch is shown to the network.
        momentum: of SGD.
        weight_decay: of SGD.
        hflip: probability of a mirror image.
        protocol: the sizes.
        mean: the input's mean.
        std: the input's standard deviation.
        batch_norm: "train", "eval", "sync" or "recalibrate".
        amp: forward passes in bfloat16; "fp16" for float16.
        channels_last: the order of weights and images in memory.
        compile: forward passes by torch.compile.
        limit: size of a class-balanced subset, or None.
        on_error: "raise" or "skip".
        class_map: which outputs the classes are, or None.
        columns: names of image and target in a dataset's items, or None.
        ignore_index: the number of void in masks.
        reduce_zero_label: 0 is void too, and other numbers are one less.
        seed: of everything random.

    Raises:
        TypeError: if a value is of the wrong kind.
        ValueError: if a value is out of its range.

    Example:
        >>> TrainingSettings(blur="sharp + D4", epochs=(2, 1), lr=(1e-3, 1e-4), batch_size=128).rates
        (0.001, 0.001, 0.0001)
    """

    blur: str
    epochs: tuple[int, ...]
    lr: tuple[float, ...] | None
    batch_size: int
    schedule: Schedule = "steps"
    warmup: float = 0.0
    clip: float | None = None
    ema: float | None = None
    teacher: float | None = None
    accumulate: int = 1
    validate_every: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    hflip: float = 0.0
    protocol: Protocol = field(default_factory=Protocol)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    batch_norm: BatchNorm = "train"
    amp: bool | Literal["bf16", "fp16"] = False
    channels_last: bool = False
    compile: bool = False
    limit: int | None = None
    on_error: OnError = "raise"
    class_map: ClassNames | None = None
    columns: Sequence[str] | None = None
    ignore_index: int = VOID
    reduce_zero_label: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field; single numbers and lists become tuples."""
        object.__setattr__(self, "epochs", _several("epochs", self.epochs))
        for epochs in self.epochs:
            check_integer("epochs", epochs, low=1, high=100_000)
        if self.lr is not None:
            object.__setattr__(self, "lr", _several("lr", self.lr))
            for lr in self.lr:
                _check("lr", lr, above=0.0)
            if len(self.epochs) != len(self.lr):
                raise ValueError(
                    f"`epochs` and `lr` must have one entry for each phase, got {self.epochs} and "
                    f"{self.lr}; give both the same length"
                )
        if one_of("schedule", self.schedule, get_args(Schedule)) == "cosine" and len(self.epochs) > 1:
            raise ValueError(
                f"`epochs` and `lr` must be one number each where `schedule` is 'cosine', got {self.epochs} "
                f"and {self.lr}; give the sum of the epochs, and the first rate"
            )
        check_number("warmup", self.warmup, high=100_000, unit="epochs")
        if self.warmup >= sum(self.epochs):
            raise ValueError(
                f"`warmup` must be less than all epochs, {sum(self.epochs)}, got {self.warmup!r}; lower it"
            )
        _check("momentum", self.momentum, high=1.0)
        _check("weight_decay", self.weight_decay)
        _check("hflip", self.hflip, high=1.0)
        check_integer("batch_size", self.batch_size, low=1, high=2**31)
        check_integer("accumulate", self.accumulate, low=1, high=2**31)
        check_integer("validate_every", self.validate_every, low=0, high=100_000)
        if self.clip is not None:
            _check("clip", self.clip, above=0.0)
        if self.ema is not None:
            _check("ema", self.ema, high=1.0, above=0.0)
            if self.ema == 1.0:
                raise ValueError(
                    "`ema` must be below 1, got 1.0, which keeps the first weights; 0.999 is usual"
                )
        if self.teacher is not None:
            _check("teacher", self.teacher, high=1.0, above=0.0)
        if self.amp == "bf16":
            object.__setattr__(self, "amp", True)
        if not isinstance(self.amp, bool) and self.amp != "fp16":
            raise TypeError(
                "`amp` must be True, 'bf16', 'fp16', False or None (bfloat16 where the device supports it), "
                f"got {self.amp!r}"
            )
        for name in ("channels_last", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        one_of("batch_norm", self.batch_norm, get_args(BatchNorm))

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rate of every epoch, before warm-up and cosine.

        Where `lr` is None, by what the optimiser's own rates are multiplied.
        """
        each = [0.1**phase for phase in range(len(self.epochs))] if self.lr is None else self.lr
        return tuple(lr for epochs, lr in zip(self.epochs, each, strict=True) for _ in range(epochs))


def opening(settings: EvaluationSettings | TrainingSettings) -> dict[str, Any]:
    """The settings by which images are listed, whatever their targets are."""
    return {name: getattr(settings, name) for name in ("limit", "seed", "on_error", "columns")}


def check_foreign(
    settings: EvaluationSettings | TrainingSettings, foreign: Mapping[str, str], task: str
) -> None:
    """Refuse settings of another task; `foreign` has them with the reason why this one has not."""
    for name, reason in foreign.items():
        value = getattr(settings, name)
        if value != type(settings).__dataclass_fields__[name].default:
            raise ValueError(f"`{name}` must be left out for {task}, {reason}, got {value!r}")


def _several(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (int, float)):
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"`{name}` must be a number or one for each phase, got {value!r}")
    if not value:
        raise ValueError(f"`{name}` must have at least one phase, got {value!r}")
    return tuple(value)


def _check(name: str, value: Any, *, low: float = 0.0, high: float = 1e30, above: float = -1.0) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}: {value!r}")
    if not (low <= value <= high and value > above):  # False for NaN as well
        rule = f"above {above:g} and at most" if above >= low else f"from {low:g} to"
        raise ValueError(
            f"`{name}` must be {rule} {high:g}, got {value!r}; the paper's values are the defaults"
        )
