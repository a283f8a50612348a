"""The command that fine-tunes a network."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_main_process
from ..models import named_network
from ..training import finetune as finetune_network
from .options import (
    Arch,
    Model,
    echo,
    echo_err,
    graceful_interrupt,
    network_metadata,
    option,
    options_of,
    running,
    training,
    view_option,
)


def _validated(row: Mapping[str, Any]) -> str:
    """What an epoch's row says of validation, and of steps that overflowed."""
    shown = [
        f", {name} {100 * row[name]:.1f} %" for name in ("val_top1", "val_miou") if row.get(name) is not None
    ]
    return "".join(shown) + (f", {row['overflows']} steps overflowed" if row.get("overflows") else "")


@options_of(
    finetune_network,
    batch_size=training("N", "Images in a batch, over all GPUs. Default: 128; for segmentation 8."),
    crop=view_option("N", "Side of the random crop in px. Default: 224, or 320."),
    seed=running("N", "Of everything that is drawn."),
)
def finetune(
    model: Model,
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Folder with images in train/CLASS; or in Pascal VOC's layout."),
    ],
    output: Annotated[Path, option("FOLDER", "For the weights, checkpoints and log.", "--output", "-o")],
    arch: Arch = None,
    classes: Annotated[
        int | None,
        option("N", "Outputs of the network. Where its weights have others, the last layer starts anew."),
    ] = None,
    **options: Any,
) -> None:
    r"""Train a network on a mix of sharp and blurred images, so that it recognises both.

    The defaults are the paper's, for ImageNet. Smaller data want higher rates or more epochs.

    For example:

        blurlib finetune vgg16 imagenet --output runs/mix
        blurlib finetune zoomout:vgg16 voc --task segmentation --output runs/voc
        blurlib finetune resnet18 pets --classes 37 --epochs 4,2 \
            --lr 1e-2,1e-3 --blur "0.2 sharp + 0.8 shake" --output runs/pets
        torchrun --nproc-per-node 4 -m blurlib finetune vgg16 imagenet \
            --output runs/mix
    """
    network = named_network(model, arch=arch, classes=classes, seed=options["seed"], notify=echo_err)
    sides = options["network_side"]
    if sides and len(sides) == 1:
        options["network_side"] = sides[0]
    with graceful_interrupt(output, "; add --resume to go on"):
        result = finetune_network(
            network, root, output=output, metadata=network_metadata(model, arch), **options
        )
    if not is_main_process():
        return
    score = "pixel_accuracy" if options["task"] == "segmentation" else "top1"
    for row in result.history:
        single = row["single_image_batches"]
        echo(
            f"epoch {row['epoch']}: lr {row['lr']:g}, loss {row['loss']:.3f}, "
            f"{score} {100 * row[score]:.1f} %, {row['images']} images"
            + _validated(row)
            + (f", {row['skipped']} skipped" if row["skipped"] else "")
            + (f", batch norm's running statistics for single images: {single}" if single else "")
        )
    given = {"arch": arch or model, "classes": classes, "scales": sides}
    # The network is to see images as it did in training.
    for name in (
        *("task", "network_size", "crop", "canonical_side", "resample", "mean", "std"),
        *("class_map", "ignore_index", "reduce_zero_label"),
    ):
        default = inspect.signature(finetune_network).parameters[name].default
        if options[name] != default and (name, options["task"]) != ("crop", "segmentation"):
            given[name] = options[name]
    kept = result.weights or output / "model.pt"  # elsewhere where the disk was full
    command = ["blurlib", "evaluate", str(kept), str(root)]
    for name, value in given.items():
        option_name = f"--{name.replace('_', '-')}"
        if value is True:
            command.append(option_name)
        elif value is not None and value is not False:  # 0 may be meant
            command += [option_name, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    echo(f"\nKept in {kept.parent}. To evaluate: {shlex.join(command)}")
