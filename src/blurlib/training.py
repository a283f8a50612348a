"""Fine-tuning on a mix of sharp and blurred images (the paper, section 4): one loop in plain PyTorch.

Every image's size, crop, flip and blur, and the order of the images, are functions of (seed, epoch, index),
so a run does not depend on workers or processes and resumes to the numbers of a run that was never stopped.
"""

from __future__ import annotations

import copy
import fnmatch
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from . import randomness
from .blurs import Blur
from .data import ImageRoot, KeyedSampler, OnError, Skipped, batches, open_root, pick_device, pick_workers
from .kernels import check_integer
from .mixes import BlurMixSampler
from .processes import Team, joined, keyed_noise, neighbours
from .protocol import Protocol, Resample, normalisation, normalised, training_view
from .runs import BatchNorm, RunFolder, TrainingSettings

__all__ = ["FinetuneResult", "finetune"]

Trainable = Callable[[str, nn.Parameter], bool] | Sequence[str] | None

_LOADER = 31  # purpose that keeps this key apart from those of other modules
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneResult:
    """A fine-tuned network and how it came about; made by :func:`finetune`.

    Attributes:
        model: the fine-tuned copy, in evaluation mode, on the device of the model given.
        history: one dict an epoch: epoch (from 1), lr, loss (cross-entropy in nats) and top1 (a fraction),
            both of the training images as the network saw them, images, skipped, seconds.
        checkpoint: path of the last checkpoint, or None without an output folder.
        skipped: the broken images that were left out.

    Example:
        >>> FinetuneResult(model=nn.Identity(), history=[], checkpoint=None)
        FinetuneResult(history=[], checkpoint=None, skipped=())
    """

    model: nn.Module = field(repr=False)
    history: list[dict[str, float]]
    checkpoint: Path | None
    skipped: tuple[Skipped, ...] = ()


def finetune(
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | ImageRoot,
    *,
    blur: str | Blur | Mapping[Any, float] | BlurMixSampler = "sharp + D2 + D4 + D6 + D8",
    epochs: int | Sequence[int] = (2, 1),
    lr: float | Sequence[float] = (1e-3, 1e-4),
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    batch_size: int = 128,
    hflip: float = 0.0,
    network_side: int | tuple[int, ...] = 256,
    crop: int = 224,
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    jitter: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    trainable: Trainable = None,
    batch_norm: BatchNorm = "train",
    amp: bool | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> FinetuneResult:
    """Fine-tunes a classifier on a mix of sharp and blurred images (section 4 of the paper).

    The loss is cross-entropy, the optimiser SGD. Under torchrun the global batch is split over the processes,
    and the numbers are those of one process wherever batch norm (each process has statistics of its own, the
    first one's are kept) and dropout do not enter. All processes must see the same output folder.

    Where the paper is silent, the defaults add nothing: no weight decay, no flips.

    Args:
        model: the classifier: images (B, 3, H, W) to logits (B, classes). It is not modified; a copy is
            trained.
        root: a folder with ``train/<class>/*``, or a dataset of (PIL image, label).
        blur: the mix: a text such as "0.2 sharp + 0.8 shake", a mapping to shares, or a sampler (whose own
            seed then chooses the blurs). `shake` takes kernels of the train bank.
        epochs: epochs of each phase.
        lr: learning rate of each phase.
        momentum: of SGD, 0 to 1.
        weight_decay: of SGD, at least 0; many networks were trained with 5e-4 or 1e-4.
        batch_size: images in a global batch; the last batch of an epoch may be smaller.
        hflip: probability of a mirror image, 0 to 1.
        network_side: shorter side in px at which the network sees the image; several draw one for each image.
        crop: side of the random crop in px, or of the smallest image of that network side where that is less.
        canonical_side: shorter side in px at which blurs are defined.
        resample: filter of both resizings, antialiased: "bilinear", "bicubic", "box" or "lanczos". The paper
            names none; bilinear is what torchvision's pipelines use.
        jitter: shorter sides in px of which one is taken before the blur; None means the paper's 356, 384 and
            410, times canonical_side / 384.
        mean: the input's mean; None takes the model's own configuration (timm), else ImageNet's.
        std: the input's standard deviation; None likewise.
        trainable: which parameters to train: None (those that require a gradient in `model`), patterns of
            names such as ["classifier.*"], or a function of name and parameter.
        batch_norm: "train" normalises by each batch and updates the running statistics; "eval" keeps them as
            they are, for small batches or few images (their scale and shift are trained in both).
        amp: forward passes in bfloat16; None means on CUDA devices that support it.
        limit: train on a class-balanced subset of this many images.
        on_error: what to do with a broken image: "raise" with its path, or "skip" and count it.
        workers: loader processes; None chooses. Results do not depend on it.
        device: where to train; None takes a GPU if there is one.
        seed: of shuffles, crops, flips, blurs and dropout.
        output: folder for log.csv, checkpoint.pt (each epoch), settings.json and, at the end, model.pt
            (weights).
        resume: go on from the checkpoint in `output`, or start where there is none.
        progress: show progress bars.

    Returns:
        The fine-tuned model, the history, the checkpoint's path and the broken images.

    Raises:
        FileNotFoundError: if the folder or its train folder is missing.
        TypeError: if an argument, a dataset's item or the model's output is of the wrong kind.
        ValueError: if an argument is out of its range, the data are not usable, the model's outputs do not
            match the classes, `output` holds another run, or the loss is no longer finite.

    Example:
        >>> images = [(Image.new("RGB", (48, 40), "red"), 0), (Image.new("RGB", (40, 48), "blue"), 1)]
        >>> model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> result = finetune(
        ...     model, images, blur="sharp + D2", epochs=1, lr=0.1, device="cpu", progress=False,
        ...     canonical_side=32, network_side=24, crop=16,
        ... )
        >>> result.history[0]["images"]
        2
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    picked = pick_device(device)
    check_integer("seed", seed, low=-(2**63), high=2**64 - 1)
    mix = blur if isinstance(blur, BlurMixSampler) else BlurMixSampler(blur, seed=seed)
    means, stds = normalisation(model, mean, std)
    settings = TrainingSettings(
        blur=repr(mix),
        epochs=epochs,  # type: ignore[arg-type]  # __post_init__ makes tuples of numbers and lists
        lr=lr,  # type: ignore[arg-type]
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size,
        hflip=hflip,
        protocol=Protocol(
            canonical_side=canonical_side,
            resample=resample,
            network_side=network_side,
            crop=crop,
            jitter=jitter,  # type: ignore[arg-type]
            border=mix.border,
        ),
        mean=means,
        std=stds,
        batch_norm=batch_norm,
        amp=_bfloat16(picked) if amp is None else amp,
        limit=limit,
        on_error=on_error,
        seed=seed,
    )
    if resume and output is None:
        raise ValueError(
            "`output` must name the run's folder when `resume` is True, got None; pass the folder"
        )
    listing = open_root(root, split="train", limit=limit, seed=seed, on_error=on_error)

    with joined(picked) as team:
        network = copy.deepcopy(model).to(picked)
        wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        trained = _select(network, trainable)
        outputs = _count_outputs(network, settings.protocol, picked)
        _compare_outputs(outputs, listing)
        optimizer = torch.optim.SGD(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=settings.rates[0],
            momentum=momentum,
            weight_decay=weight_decay,
        )
        record = {
            **asdict(settings),
            "model": type(model).__name__,
            "trained": trained,
            "root": listing.name,
            "classes": len(listing.classes) or outputs,
            "images": len(listing),
            "listing": listing.digest(),
        }
        folder = None if output is None else RunFolder(Path(output), record)
        history: list[dict[str, float]] = []
        skipped: dict[str, str] = {}
        if folder is not None:
            folder.check(resume=resume)
            team.wait()  # nobody writes before everybody has looked
            state = folder.load(picked) if resume else None
            if state is not None:
                network.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
                history, skipped = state["history"], state["skipped"]
            if team.rank == 0:
                folder.start()
        parallel = team.wrap(network)
        sampler = KeyedSampler(
            len(listing), batch_size=batch_size, seed=seed, rank=team.rank, world=team.world
        )
        processes = pick_workers(workers, len(listing), world=neighbours())
        loader: DataLoader[_Batch] = DataLoader(
            _Views(listing, mix, settings, outputs),
            batch_sampler=sampler,
            num_workers=processes,
            collate_fn=_collate,
            pin_memory=picked.type == "cuda",
            persistent_workers=processes > 0,
            generator=randomness.generator(seed=seed, key=(0, 0, _LOADER)),
        )
        for epoch in range(len(history), len(settings.rates)):
            sampler.set_epoch(epoch)
            with keyed_noise(seed=seed, epoch=epoch, team=team):
                row, broken = _epoch(parallel, optimizer, loader, settings, epoch, team, progress=progress)
            history.append(row)
            skipped.update(broken)
            team.share_buffers(network)
            _check_weights(network, epoch, settings, folder)
            if folder is not None and team.rank == 0:
                folder.save(
                    model=network.state_dict(),
                    optimizer=optimizer.state_dict(),
                    history=history,
                    skipped=skipped,
                )
        if folder is not None and team.rank == 0:
            folder.finish(network.state_dict())
        team.wait()

    for name, parameter in network.named_parameters():
        parameter.requires_grad_(wanted[name])
        parameter.grad = None
    home = next(model.parameters()).device
    return FinetuneResult(
        model=network.to(home).eval(),
        history=history,
        checkpoint=None if folder is None else folder.checkpoint,
        skipped=tuple(Skipped(name, reason) for name, reason in sorted(skipped.items())),
    )


def _epoch(
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[_Batch],
    settings: TrainingSettings,
    epoch: int,
    team: Team,
    *,
    progress: bool,
) -> tuple[dict[str, float], dict[str, str]]:
    """Trains for one epoch; returns its row of the history and the broken images."""
    started = time.perf_counter()
    rate, rates = settings.rates[epoch], len(settings.rates)
    for group in optimizer.param_groups:
        group["lr"] = rate
    parallel.train()
    if settings.batch_norm == "eval":
        for module in parallel.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
    total_loss = total_correct = total_count = 0.0
    broken: dict[str, str] = {}
    title = f"epoch {epoch + 1}/{rates}"
    shown = progress and team.rank == 0
    with tqdm(batches(loader), total=len(loader), desc=title, unit="batch", disable=not shown) as bar:
        for step, batch in enumerate(bar):
            broken.update((item.name, item.reason) for item in batch.skipped)
            loss, correct = _forward(parallel, batch, settings, team)
            numbers = torch.stack((loss.detach(), correct, correct.new_tensor(len(batch.labels))))
            batch_loss, batch_correct, count = team.sum(numbers).tolist()
            if not math.isfinite(batch_loss):
                raise ValueError(
                    f"`lr` must keep the loss finite, got a loss of {batch_loss} in epoch {epoch + 1} of "
                    f"{rates}, step {step + 1} of {len(loader)} at lr {rate:g}; lower `lr`, or look for "
                    "values in the model that are not finite. What earlier epochs wrote is kept"
                )
            if count == 0:  # every image of the batch is broken
                continue
            optimizer.zero_grad(set_to_none=True)
            # DistributedDataParallel averages over processes: this makes it the mean over the global batch,
            # also where shares differ by an image.
            (loss * (team.world / count)).backward()
            optimizer.step()
            total_loss += batch_loss
            total_correct += batch_correct
            total_count += count
            bar.set_postfix(loss=f"{total_loss / total_count:.3f}", top1=f"{total_correct / total_count:.3f}")
    broken = team.merge(broken)
    if total_count == 0:
        raise ValueError(
            f"`root` must hold images that can be read, got {len(broken)} that all cannot, such as "
            f"{next(iter(broken.values()))!r}; repair them"
        )
    row = {
        "epoch": epoch + 1,
        "lr": rate,
        "loss": total_loss / total_count,
        "top1": total_correct / total_count,
        "images": int(total_count),
        "skipped": len(broken),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return row, broken


def _forward(
    parallel: nn.Module, batch: _Batch, settings: TrainingSettings, team: Team
) -> tuple[Tensor, Tensor]:
    """Summed loss of this process's share of a batch, and how many it had right."""
    labels = batch.labels.to(team.device, non_blocking=True)
    groups = [group.to(team.device, non_blocking=True) for group in batch.images]
    if not groups:
        if team.world == 1:
            return torch.zeros((), device=team.device), torch.zeros((), device=team.device)
        # Gradients are exchanged among all processes, so one without images must take part too: with a loss
        # that is zero, and without touching the statistics of batch norm.
        training = [module for module in parallel.modules() if module.training]
        parallel.eval()
        side = settings.protocol.training_crop(settings.protocol.network_sides[0])
        logits = _logits(parallel(torch.zeros(1, 3, side, side, device=team.device)))
        for module in training:
            module.training = True
        return logits.float().sum() * 0.0, torch.zeros((), device=team.device)
    with torch.autocast(team.device.type, dtype=torch.bfloat16, enabled=settings.amp):
        logits = torch.cat(
            [_logits(parallel(normalised(group, settings.mean, settings.std))) for group in groups]
        ).float()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return loss, (logits.argmax(1) == labels).sum().to(loss.dtype)


def _logits(result: object) -> Tensor:
    if not isinstance(result, Tensor) or result.ndim != 2:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise TypeError(
            f"`model` must return a tensor of logits (B, classes), got {got}; wrap it in a module that "
            "returns the logits alone, or switch auxiliary outputs off (aux_logits=False)"
        )
    return result


class _Batch(NamedTuple):
    images: list[Tensor]  # uint8 (n, 3, c, c), a tensor for each crop size
    labels: Tensor  # int64, in the order of `images`
    skipped: list[Skipped]


def _collate(items: list[tuple[Tensor, int] | Skipped]) -> _Batch:
    groups: dict[int, list[tuple[Tensor, int]]] = {}
    for item in items:
        if not isinstance(item, Skipped):
            groups.setdefault(item[0].shape[-1], []).append(item)
    return _Batch(
        [torch.stack([view for view, _ in group]) for group in groups.values()],
        torch.tensor([label for group in groups.values() for _, label in group], dtype=torch.int64),
        [item for item in items if isinstance(item, Skipped)],
    )


class _Views(Dataset[Any]):
    """Training views by (epoch, position)."""

    def __init__(
        self, listing: ImageRoot, mix: BlurMixSampler, settings: TrainingSettings, outputs: int
    ) -> None:
        self.listing, self.mix, self.settings, self.outputs = listing, mix, settings, outputs

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Skipped:
        epoch, position = key
        index = int(self.listing.index[position])

        def make(image: Image.Image) -> Tensor:
            return training_view(
                image,
                self.mix.draw(index, epoch),
                protocol=self.settings.protocol,
                seed=self.settings.seed,
                epoch=epoch,
                index=index,
                hflip=self.settings.hflip,
            )

        item = self.listing.view(position, make)
        if not isinstance(item, Skipped) and not 0 <= item[1] < self.outputs:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, got "
                f"{item[1]} for {self.listing.id(position)}; number the classes from 0 and give the model an "
                "output for each"
            )
        return item


def _select(network: nn.Module, trainable: Trainable) -> list[str]:
    """Freezes what is not to be trained; returns the names of the rest."""
    named = list(network.named_parameters())
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
            if not any(fnmatch.fnmatchcase(name, pattern) for name, _ in named):
                raise ValueError(
                    f"`trainable` must match names of parameters, got {pattern!r}, which matches none of "
                    f"{', '.join(name for name, _ in named[:3])}, ...; see model.named_parameters()"
                )
        chosen = [
            name for name, _ in named if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]
    if not chosen:
        raise ValueError("`trainable` must leave parameters to train, got none; choose some by name")
    for name, parameter in named:
        parameter.requires_grad_(name in set(chosen))
    return chosen


def _count_outputs(network: nn.Module, protocol: Protocol, device: torch.device) -> int:
    """Number of outputs, by trying an empty image of every size that training will show."""
    network.eval()
    outputs = 0
    for side in sorted({protocol.training_crop(side) for side in protocol.network_sides}):
        try:
            with torch.no_grad():
                result = network(torch.zeros(1, 3, side, side, device=device))
        except RuntimeError as error:
            raise ValueError(
                f"`model` must take images of (B, 3, {side}, {side}), got the error "
                f"{str(error).splitlines()[0]!r}; choose `network_side` and `crop` to fit it"
            ) from error
        outputs = _logits(result).shape[1]
    return outputs


def _compare_outputs(outputs: int, listing: ImageRoot) -> None:
    known = len(listing.classes) or int(listing.labels.max()) + 1
    if outputs != known if listing.classes else outputs < known:
        raise ValueError(
            f"`model` must have one output for each class, got {outputs} outputs for {known} classes of "
            f"{listing.name!r}; replace its last layer by one with {known} outputs, or pass a root with the "
            "classes that it was trained on"
        )


def _check_weights(
    network: nn.Module, epoch: int, settings: TrainingSettings, folder: RunFolder | None
) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
        kept = "" if folder is None else f". What earlier epochs wrote to {str(folder.path)!r} is kept"
        raise ValueError(
            f"`lr` must keep the weights finite, got some that are not after epoch {epoch + 1} of "
            f"{len(settings.rates)} at lr {settings.rates[epoch]:g}; lower `lr`{kept}"
        )


def _bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
