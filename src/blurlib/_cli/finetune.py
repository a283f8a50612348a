"""The command that fine-tunes a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .._common.distributed import is_main_process
from ..models import named_network
from ..training import finetune as finetune_network
from .options import (
    Arch,
    CanonicalSide,
    Device,
    Limit,
    Mean,
    Model,
    NetworkSize,
    OnError,
    Progress,
    Resample,
    Std,
    Task,
    Workers,
    echo_err,
    floats,
    graceful_interrupt,
    integers,
    network_metadata,
    option,
    pair,
    running,
    split_commas,
    training,
    view_option,
)


def finetune(
    model: Model,
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Folder with images in train/CLASS; or in Pascal VOC's layout."),
    ],
    output: Annotated[Path, option("FOLDER", "For the weights, checkpoints and log.", "--output", "-o")],
    task: Task = "classification",
    blur: Annotated[
        str, option("MIX", "Equal shares, or stated ones: 0.2 sharp + 0.8 shake.")
    ] = "sharp + D2 + D4 + D6 + D8",
    resume: Annotated[bool, option(None, "Go on with the run in --output.", "--resume")] = False,
    arch: Arch = None,
    classes: Annotated[
        int | None,
        option("N", "Outputs of the network. Where its weights have others, the last layer starts anew."),
    ] = None,
    epochs: Annotated[
        list[str] | None, training("N,N", "Of each phase. Default: 2,1; for segmentation 6,2.")
    ] = None,
    lr: Annotated[
        list[str] | None,
        training("X,X", "Learning rate of each phase. Default: 1e-3,1e-4; for segmentation 1e-4,1e-5."),
    ] = None,
    momentum: Annotated[float, training("X", "Of SGD.")] = 0.9,
    weight_decay: Annotated[float, training("X", "Of SGD.")] = 0.0,
    batch_size: Annotated[
        int | None, training("N", "Images in a batch, over all GPUs. Default: 128; for segmentation 8.")
    ] = None,
    hflip: Annotated[float, training("X", "Probability of a mirror image.")] = 0.0,
    trainable: Annotated[
        list[str] | None, training("PATTERNS", "Parameters to train by name, with * for any text.")
    ] = None,
    batch_norm: Annotated[str, training("train|eval", "eval keeps its statistics.")] = "train",
    amp: Annotated[bool | None, training(None, "Half precision. Default: on GPUs.", "--amp/--no-amp")] = None,
    network_side: Annotated[
        list[str] | None,
        view_option("N,N", "Shorter side in px; of several, one for each image. Default: 256."),
    ] = None,
    network_size: NetworkSize = None,
    crop: Annotated[
        int | None, view_option("N", "Side of the random crop in px. Default: 224, or 320.")
    ] = None,
    canonical_side: CanonicalSide = 384,
    resample: Resample = "bilinear",
    jitter: Annotated[
        list[str] | None,
        view_option("N,N,N", "Shorter sides in px before the blur. Default: 356,384,410 at 384."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    on_error: OnError = "raise",
    workers: Workers = None,
    device: Device = None,
    seed: Annotated[int, running("N", "Of everything that is drawn.")] = 0,
    progress: Progress = True,
) -> None:
    r"""Train a network on a mix of sharp and blurred images, so that it recognises both.

    The schedule is the paper's, for ImageNet. Smaller data want higher rates or more epochs.

    For example:

        blurlib finetune vgg16 imagenet --output runs/mix
        blurlib finetune zoomout:vgg16 voc --task segmentation --output runs/voc
        blurlib finetune resnet18 pets --classes 37 --epochs 4,2 \
            --lr 1e-2,1e-3 --blur "0.2 sharp + 0.8 shake" --output runs/pets
        torchrun --nproc-per-node 4 -m blurlib finetune vgg16 imagenet \
            --output runs/mix
    """
    network = named_network(model, arch=arch, classes=classes, seed=seed, tell=echo_err)
    sides = integers("--network-side", network_side) if network_side else None
    with graceful_interrupt(output, "; add --resume to go on"):
        result = finetune_network(
            network,
            root,
            task=task,  # type: ignore[arg-type]  # checked there, like the other choices
            blur=blur,
            epochs=integers("--epochs", epochs) if epochs else None,
            lr=floats("--lr", lr) if lr else None,
            momentum=momentum,
            weight_decay=weight_decay,
            batch_size=batch_size,
            hflip=hflip,
            network_side=sides[0] if sides and len(sides) == 1 else sides,
            network_size=pair("--network-size", network_size),
            crop=crop,
            canonical_side=canonical_side,
            resample=resample,  # type: ignore[arg-type]  # checked there
            jitter=integers("--jitter", jitter) if jitter else None,
            mean=floats("--mean", mean) if mean else None,
            std=floats("--std", std) if std else None,
            trainable=split_commas(trainable) if trainable else None,
            batch_norm=batch_norm,  # type: ignore[arg-type]  # checked there, like the other choices
            amp=amp,
            limit=limit,
            on_error=on_error,  # type: ignore[arg-type]  # likewise
            workers=workers,
            device=device,
            seed=seed,
            output=output,
            metadata=network_metadata(model, arch),
            resume=resume,
            progress=progress,
        )
    if not is_main_process():
        return
    score = "pixel_accuracy" if task == "segmentation" else "top1"
    for row in result.history:
        single = row["single_image_batches"]
        typer.echo(
            f"epoch {row['epoch']}: lr {row['lr']:g}, loss {row['loss']:.3f}, "
            f"{score} {100 * row[score]:.1f} %, {row['images']} images"
            + (f", {row['skipped']} skipped" if row["skipped"] else "")
            + (f", batch norm's running statistics for single images: {single}" if single else "")
        )
    same = {  # the network is to see images as it did in training
        "--arch": arch or model,
        "--classes": classes,
        "--task": None if task == "classification" else task,
        "--scales": network_side,
        "--network-size": network_size,
        "--crop": None if task == "segmentation" else crop,
        "--canonical-side": None if canonical_side == 384 else canonical_side,
        "--resample": None if resample == "bilinear" else resample,
        "--mean": mean,
        "--std": std,
    }
    command = ["blurlib", "evaluate", str(output / "model.pt"), str(root)]
    for name, value in same.items():
        if value:
            command += [name, ",".join(split_commas(value)) if isinstance(value, list) else str(value)]
    typer.echo(f"\nKept in {output}. To evaluate: {shlex.join(command)}")
