"""Fine-tuning on a mix of sharp and blurred images (the paper, section 4): one loop in plain PyTorch.

Every image's size, crop, flip and blur, and the order of the images, are functions of (seed, epoch, index),
so a run does not depend on workers or processes and resumes to the numbers of a run that was never stopped.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from .._common.agreement import united
from .._common.checks import check_integer, check_number, one_of
from .._common.devices import pick_device, pick_workers
from .._common.distributed import local_world_size, process_group
from .._common.model_config import ignored_config
from .._common.provenance import model_facts, with_metadata
from .._tasks import (
    BatchNorm,
    ClassificationTraining,
    ClassNames,
    Root,
    Schedule,
    SegmentationTraining,
    TrainingSettings,
    TrainingTask,
    check_network,
)
from ..blurs import Blur
from ..data import OnError, Skipped
from ..functional import check_border
from ..metrics import VOID
from ..mixes import BlurMixSampler
from ..protocol import Protocol, Resample, normalisation, normalisation_source
from ._identity import check_changes, facts_of, record_of
from ._network import Trainable, check_precision, copied, finished, reordered, select
from ._norm import check_batch_norm
from ._optimisation import MakeOptimizer, Optimisation
from ._result import FinetuneResult
from ._run import Run
from ._run_folder import RunFolder
from ._validation import Validation

Task = Literal["classification", "segmentation"]

_TASKS: Mapping[str, type[TrainingTask]] = {
    "classification": ClassificationTraining,
    "segmentation": SegmentationTraining,
}


def finetune(
    model: nn.Module,
    root: Root,
    *,
    task: Task = "classification",
    blur: str | Blur | Mapping[Any, float] | BlurMixSampler = "sharp + D2 + D4 + D6 + D8",
    epochs: int | Sequence[int] | None = None,
    lr: float | Sequence[float] | None = None,
    schedule: Schedule = "steps",
    warmup: float = 0.0,
    optimizer: MakeOptimizer | None = None,
    clip: float | None = None,
    ema: float | None = None,
    teacher: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    batch_size: int | None = None,
    accumulate: int = 1,
    hflip: float = 0.0,
    network_side: int | tuple[int, ...] | None = None,
    network_size: tuple[int, int] | None = None,
    crop: int | None = None,
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    jitter: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    trainable: Trainable = None,
    batch_norm: BatchNorm = "train",
    amp: bool | Literal["bf16", "fp16"] | None = None,
    channels_last: bool = False,
    compile: bool = False,  # noqa: A002  torch's name
    limit: int | None = None,
    on_error: OnError = "raise",
    class_map: ClassNames | None = None,
    columns: Sequence[str] | None = None,
    ignore_index: int = VOID,
    reduce_zero_label: bool = False,
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    checkpoint_every: float = 10.0,
    validate_every: int = 0,
    validation: Any = None,
    resume: bool = False,
    changes: Sequence[str] | None = None,
    progress: bool = True,
) -> FinetuneResult:
    """Fine-tune a network on a mix of sharp and blurred images (sections 4 and 5 of the paper).

    The loss is cross-entropy. Under torchrun the global batch is split over the processes,
    and the numbers are those of one process wherever batch norm (each process has its own statistics; those
    of the first are kept) and dropout do not enter. All processes must see the same output folder.

    SIGTERM, SIGHUP and Ctrl-C end the run after the step in hand: a checkpoint is written, a line on stderr
    says how to go on, and SystemExit (128 + signal) or KeyboardInterrupt is raised.

    Where the paper is silent, the defaults add nothing: no weight decay, no flips.

    Args:
        model: the classifier: images (B, 3, H, W) to logits (B, classes), which may be the first of a tuple,
            or "out" or "logits" of a mapping. A network of one channel is shown grey, the luminance of the
            normalised colours. It is not modified; a copy is trained.
        root: a folder with ``train/<class>/*``, or a dataset or stream of (PIL image, label), see
            :func:`blurlib.data.open_images`; for segmentation a folder in Pascal VOC's layout, or a dataset
            of (PIL image, mask), see :func:`blurlib.data.open_masks`.
        task: "classification", or "segmentation" (the paper, section 5): `model` gives logits (B, classes, h,
            w); sides are geometric means, masks follow their images and are
            never blurred, the loss is that of labelled pixels, with half that of "aux" where
            the network returns it.
        blur: the mix: a text such as "0.2 sharp + 0.8 shake" or "wide", a mapping to shares, or a sampler
            (whose own seed then chooses the blurs), see :class:`blurlib.BlurMixSampler`. `shake` takes
            kernels of the train bank.
        epochs: epochs of each phase; None takes the paper's, 2 and 1, or 6 and 2 for segmentation.
        lr: learning rate of each phase; None takes the paper's, 1e-3 and 1e-4, or a tenth of them for
            segmentation; with an `optimizer` its own rates, a tenth of them in the second phase, and so on.
        schedule: "steps", from phase to phase; or "cosine", a single phase (of the paper's epochs in all and
            first rate where these are None), in which each step lowers the rate, to 0 after the last.
        warmup: epochs, or a part of one, in which the rate rises linearly, step by step.
        optimizer: a function of a list of parameters that returns a torch.optim.Optimizer, such as
            torch.optim.AdamW; None is SGD, as in the paper.
        clip: largest norm of all gradients together, above 0; None leaves them as they are.
        ema: decay, in (0, 1), of a moving average over the steps of weights and buffers, which then is the
            result; None takes the last weights.
        teacher: share of the loss, above 0 to 1, that is the KL divergence of the outputs from those of the
            original network, in evaluation mode, for the same view without its blur; the rest is
            cross-entropy. At 1 labels do not count, and `top1` is agreement with the teacher: `root` may have
            any class folders. A step shows each image to a second network, forward alone.
        momentum: of that SGD, 0 to 1.
        weight_decay: of that SGD, at least 0; many networks were trained with 5e-4 or 1e-4.
        batch_size: images in a global batch, None for 128 (segmentation: 8); the last batch of an epoch may
            be smaller.
        accumulate: in how many parts a process's share of a batch is shown to the network, to save memory;
            the gradient is that of the whole batch. Batch norm takes the statistics of each part.
        hflip: probability of a mirror image, 0 to 1.
        network_side: shorter side in px at which the network sees the image; several draw one for each image.
            None takes 256; for segmentation, where it is the geometric mean, the canonical side.
        network_size: for segmentation, (height, width) in px that every image is brought to instead, whatever
            its aspect.
        crop: side of the random crop in px, or of the smallest image of that network side where that is less.
            None takes 224, for segmentation 320.
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
            they are, for small batches or few images (their scale and shift are trained in both). A batch, or
            a process's share of one, of a single image runs as under "eval" where a layer would have just one
            value a channel (pooling to 1 x 1); the log counts these.
            "sync" takes the statistics of all processes (on GPUs; alone as "train"). "recalibrate" trains as
            "train", and then computes the running statistics anew, as the mean over the batches of one more
            epoch.
        amp: forward passes in bfloat16 (True or "bf16") or float16 ("fp16": the loss is scaled, a step whose
            gradients overflow is left out, and the log counts these); None: bfloat16 on CUDA devices that
            support it.
        channels_last: weights and images in torch's memory format of this name, which many GPUs prefer.
        compile: forward passes by torch.compile; weights keep their names.
        limit: train on a class-balanced subset of this many images; of a stream on the first ones.
        on_error: what to do with a broken image: "raise" with its path, or "skip" and count it.
        class_map: which of the network's outputs the classes of `root` are, see :func:`blurlib.evaluate`; the
            loss is that among these.
        columns: names of image and label or mask in a dataset's items; None for ("image", "label").
        ignore_index: for segmentation, the number of pixels that do not count, as the masks have it.
        reduce_zero_label: for segmentation, 0 does not count either, other numbers are one less.
        workers: loader processes; None chooses. Results do not depend on it.
        device: where to train; None takes a GPU if there is one.
        seed: of shuffles, crops, flips, blurs and dropout.
        output: folder for log.csv, settings.json, checkpoint.pt, the one before it, and at the end the
            weights: model.pt and, where that package is installed, model.safetensors. What it does not take
            (a full disk) is kept in a temporary folder, which a warning names.
        metadata: plain values to keep in settings.json, such as {"name": "resnet18"}.
        checkpoint_every: minutes from one checkpoint to the next within an epoch; 0 for one after each step,
            infinity for those at the ends of epochs alone.
        validate_every: epochs from one validation to the next, and one after the last; 0 for none. The
            history gets val_top1 (for segmentation val_miou): of center crops (of whole images) under the
            blurs of the mix, their mean by the shares; `shake` is that of :func:`blurlib.evaluate`, a range
            draws once for each image. best.pt has the weights of the best epoch.
        validation: the images for it, as `root` of :func:`blurlib.evaluate`; None takes the split "val" of
            `root`, where that is a folder or a mapping.
        resume: go on from the checkpoint in `output`, or start where there is none.
        changes: what may differ from the run that is resumed, which otherwise is an error: "lr" and "epochs"
            (of epochs that are not finished), "weights" (the initial ones), "architecture", "files" (their
            sizes). Each difference is recorded.
        progress: show progress bars.

    Returns:
        The fine-tuned model, the history, the checkpoint's path and the broken images.

    Raises:
        FileNotFoundError: if the folder, its train folder or the file of `class_map` is missing.
        TypeError: if an argument, a dataset's item or the model's output is of the wrong kind.
        ValueError: if an argument is out of its range, the data are not usable, the model does not take the
            images (found out by empty ones of each size, before the first epoch), its outputs do not match
            the classes, `output` cannot be written to, is written to by another run or holds one (with
            `resume`: another one's, or no whole checkpoint), or the loss is no longer finite.

    Example:
        >>> from PIL import Image
        >>> images = [(Image.new("RGB", (48, 40), "red"), 0), (Image.new("RGB", (40, 48), "blue"), 1)]
        >>> model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> result = finetune(
        ...     model, images, blur="sharp + D2", epochs=1, lr=0.1, device="cpu", progress=False,
        ...     canonical_side=32, network_side=24, crop=16,
        ... )
        >>> result.history[0]["images"]
        2
    """
    check_network(model)
    kind = _TASKS[one_of("task", task, _TASKS)]
    batch_size = kind.batch_size if batch_size is None else batch_size
    picked = pick_device(device)
    check_integer("seed", seed, low=-(2**63), high=2**64 - 1)
    mix = blur if isinstance(blur, BlurMixSampler) else BlurMixSampler(blur, seed=seed)
    means, stds = normalisation(model, mean, std)
    if optimizer is not None:
        _check_sgd(momentum=momentum, weight_decay=weight_decay)
    cosine = schedule == "cosine"
    if epochs is None:
        epochs = sum(kind.epochs) if cosine else kind.epochs
    if lr is None and optimizer is None:
        lr = kind.lr[0] if cosine else kind.lr
    settings = TrainingSettings(
        blur=repr(mix),
        epochs=epochs,  # type: ignore[arg-type]  # made a tuple there
        lr=lr,  # type: ignore[arg-type]  # likewise
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        ema=ema,
        teacher=teacher,
        accumulate=accumulate,
        validate_every=validate_every,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size,
        hflip=hflip,
        protocol=Protocol(
            measure=kind.measure,
            canonical_side=canonical_side,
            resample=resample,
            network_side=network_side,
            network_size=network_size,
            crop=crop,
            jitter=jitter,  # type: ignore[arg-type]  # made a tuple there
            border=check_border(mix.border, name="border of the mix"),
        ),
        mean=means,
        std=stds,
        batch_norm=batch_norm,
        amp=_bfloat16(picked) if amp is None else amp,
        channels_last=channels_last,
        compile=compile,
        limit=limit,
        on_error=on_error,
        class_map=class_map,
        columns=None if columns is None else tuple(columns),
        ignore_index=ignore_index,
        reduce_zero_label=reduce_zero_label,
        seed=seed,
    )
    if resume and output is None:
        raise ValueError(
            "`output` must name the run's folder when `resume` is True, got None; pass the folder"
        )
    if validation is not None and not validate_every:
        raise ValueError(
            "`validation` must be left out where `validate_every` is 0, got "
            f"{type(validation).__name__}; pass validate_every=1"
        )
    allowed = check_changes(changes)
    check_number("checkpoint_every", checkpoint_every, high=math.inf, unit="minutes")
    training = kind(root, mix, settings, workers=workers)
    listing = training.listing

    about: dict[str, Any] = with_metadata({}, metadata)
    facts: dict[str, Any] = {}
    if output is not None:
        facts = facts_of(model, listing)
        about |= model_facts(model) | {"normalisation": normalisation_source(model, mean, std)}
        about |= ignored_config(
            model,
            resample=resample,
            sides=settings.protocol.network_sides,
            crop=settings.protocol.crop if task == "classification" else None,
        )
    processes = pick_workers(workers, len(listing), world=local_world_size())
    training.prepare(workers=processes)

    with process_group(picked) as team, united(team):
        network = copied(model).to(picked)
        wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        trained = select(network, trainable)
        training.probe_outputs(network, picked)
        check_precision(training.feed.dtype, amp=settings.amp, show=team.rank == 0)
        if channels_last:
            reordered(network, torch.channels_last)
        if teacher is not None:
            training.teacher = copied(network).eval().requires_grad_(False)
        steps = -(-len(listing) // batch_size)
        optimisation = Optimisation(network, settings, steps=steps, make=optimizer)
        check_batch_norm(batch_norm, network, team)
        validated = None
        if validate_every:
            validated = Validation(
                optimisation.result, training, validation, root, device=picked, workers=processes
            )
        record = record_of(training, optimisation, model, validated, trained=trained)
        folder = None
        if output is not None:
            folder = RunFolder(Path(output), team, record, facts=facts, name_of=listing.id, about=about)
        with nullcontext() if folder is None else folder.held(size=optimisation.size):
            state = None if folder is None else folder.load(resume=resume, changes=allowed)
            team.wait()  # nobody writes before everybody has looked
            if folder is not None and team.rank == 0:
                folder.start(state)
            run = Run(
                network,
                optimisation,
                training,
                team,
                folder=folder,
                every=checkpoint_every,
                validation=validated,
                state=state,
            )
            run.train(workers=processes, resume=resume, progress=progress)

    networks = finished(optimisation.result, run.best, wanted, settings, next(model.parameters()).device)
    return FinetuneResult(
        model=networks[0],
        history=run.history,
        checkpoint=None if folder is None else folder.checkpoint,
        weights=None if folder is None else folder.weights,
        skipped=tuple(Skipped(name, reason) for name, reason in sorted(run.skipped.items())),
        best=networks[1],
    )


def _check_sgd(**given: float) -> None:
    """Refuse options of the paper's SGD beside another optimiser."""
    for name, value in given.items():
        if value != inspect.signature(finetune).parameters[name].default:
            raise ValueError(
                f"`{name}` must be left out where `optimizer` is given, got {value!r}; give it to "
                f"that, functools.partial(torch.optim.AdamW, {name}={value!r}), if it has it"
            )


def _bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
