"""The embedded example: what blur costs a small network, and what fine-tuning on a mix brings back.

Sixteen photographs that ship inside scikit-image and scikit-learn are cut into crops; the task is to tell
from which photograph a crop is. Training crops come from two opposite quarters of each photograph, validation
crops from the two others. A small network learns it on sharp crops, is evaluated under blur, fine-tuned on
the paper's mix, and evaluated again; a control is fine-tuned for as long on sharp crops alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluation import evaluate
from ..reporting import Comparison, Report
from ..training import finetune
from ._photographs import crops


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Every number of the example.

    Attributes:
        canonical_side: shorter side of a crop in px at which blurs are defined.
        network_side: side at which the network sees it.
        crop: side of the random training crop at the network.
        sides: smallest and largest side of a crop in the photograph, whose shorter side is 400 px.
        training_crops: how many, over all photographs.
        validation_crops: how many, over all photographs.
        epochs: of training, in two phases.
        lr: of training, for the two phases.
        tuning_epochs: of fine-tuning and of the control.
        tuning_lr: likewise.
        batch_size: crops in a batch.
        mix: blurs of fine-tuning.
        blurs: conditions of evaluation.

    Example:
        >>> DemoSettings().mix
        'sharp + D2 + D4 + D6 + D8'
    """

    canonical_side: int = 192
    network_side: int = 64
    crop: int = 56
    sides: tuple[int, int] = (96, 160)
    training_crops: int = 1280
    validation_crops: int = 640
    epochs: tuple[int, ...] = (8, 2)
    lr: tuple[float, ...] = (0.05, 0.005)
    tuning_epochs: tuple[int, ...] = (4, 2)
    tuning_lr: tuple[float, ...] = (0.02, 0.002)
    batch_size: int = 64
    mix: str = "sharp + D2 + D4 + D6 + D8"
    blurs: str = "sharp, D2, D4, D8, H8, shake"


class _Grey(nn.Module):
    """Grey values without their mean: neither colour nor brightness gives the photograph away."""

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return grey - grey.mean((2, 3), keepdim=True)


def network(classes: int, *, seed: int = 0) -> nn.Module:
    """The small convolutional network of the example: four blocks, 0.4 million weights.

    Args:
        classes: number of outputs.
        seed: of the initial weights; torch's global generator is left as it was.

    Returns:
        From (B, 3, H, W) to (B, classes) logits, for any size from 16 px.

    Example:
        >>> network(16)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 16])
    """
    widths = (1, 32, 64, 128, 256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [_Grey()]
        for before, after in pairwise(widths):
            # The first block halves the image by its stride: at full size it would cost as much as all
            # others.
            size, stride = (5, 2) if before == 1 else (3, 1)
            layers += [nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()] if after in (widths[1], widths[-1]) else [nn.ReLU(), nn.MaxPool2d(2)]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))
    return model.to(memory_format=torch.channels_last)  # the faster one on CPUs


_QUICK = DemoSettings(
    training_crops=32,
    validation_crops=32,
    epochs=(1,),
    lr=(0.05,),
    tuning_epochs=(1,),
    tuning_lr=(0.02,),
    blurs="sharp, D8, shake",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """Networks and reports of one seed of the example; returned by :func:`train`.

    Attributes:
        networks: "original", "mix" and "control".
        reports: their evaluations.
        comparison: the mix against the original, and against the control.
        settings: of the example.
        seconds: of each step.

    Example:
        >>> sorted(Trained.__dataclass_fields__)
        ['comparison', 'networks', 'reports', 'seconds', 'settings']
    """

    networks: dict[str, nn.Module] = field(repr=False)
    reports: dict[str, Report]
    comparison: Comparison
    settings: DemoSettings
    seconds: dict[str, float]


def train(settings: DemoSettings | None = None, *, seed: int = 0, progress: bool = True) -> Trained:
    """Train on sharp crops, fine-tune on the mix and, as a control, on sharp crops; evaluate all three.

    Args:
        settings: every number; None takes the defaults.
        seed: of the crops, the weights and everything drawn in training.
        progress: print the steps and show progress bars.

    Returns:
        Networks, reports and their comparison.

    Example:
        >>> tiny = DemoSettings(
        ...     training_crops=16, validation_crops=16, blurs="sharp, D8",
        ...     epochs=(1,), lr=(0.1,), tuning_epochs=(1,), tuning_lr=(0.1,),
        ... )
        >>> train(tiny, progress=False).reports["mix"]["D8"].count
        16
    """
    numbers = settings or DemoSettings()
    learn = crops("train", numbers.training_crops, sides=numbers.sides, seed=seed)
    check = crops("val", numbers.validation_crops, sides=numbers.sides, seed=seed)
    view: dict[str, Any] = {"canonical_side": numbers.canonical_side, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    seconds: dict[str, float] = {}

    def step(title: str, work: Any) -> Any:
        if progress:
            print(f"\n{title}", flush=True)
        started = time.perf_counter()
        result = work()
        seconds[title] = round(time.perf_counter() - started, 1)
        return result

    def tuned(model: nn.Module, blur: str, epochs: tuple[int, ...], lr: tuple[float, ...], draw: int) -> Any:
        return finetune(
            model,
            learn,
            blur=blur,
            epochs=epochs,
            lr=lr,
            batch_size=numbers.batch_size,
            weight_decay=5e-4,
            hflip=0.5,
            network_side=numbers.network_side,
            crop=numbers.crop,
            seed=draw,
            progress=progress,
            **view,
        ).model

    def measured(model: nn.Module) -> Report:
        return evaluate(
            model, check, blurs=numbers.blurs, scales=(numbers.network_side,), crop=numbers.network_side,
            progress=progress, **view,
        )  # fmt: skip

    start = network(len(learn.classes), seed=seed)
    again = (numbers.tuning_epochs, numbers.tuning_lr, seed + 1)
    networks = {
        "original": step(
            "Training on sharp crops", lambda: tuned(start, "sharp", numbers.epochs, numbers.lr, seed)
        )
    }
    original = networks["original"]
    networks["mix"] = step(f"Fine-tuning on {numbers.mix}", lambda: tuned(original, numbers.mix, *again))
    networks["control"] = step(
        "The control: as many steps on sharp crops", lambda: tuned(original, "sharp", *again)
    )
    reports = {
        name: step(f"Evaluating: {name}", lambda model=model: measured(model))
        for name, model in networks.items()
    }
    comparison = reports["mix"].compare(reports["original"], control=reports["control"])
    return Trained(
        networks=networks, reports=reports, comparison=comparison, settings=numbers, seconds=seconds
    )
