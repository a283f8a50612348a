"""The command that evaluates a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_main_process, is_torchrun
from ..deblurring import DeblurThenClassify
from ..evaluation import evaluate as evaluate_network
from ..models import named_network
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
    view_option,
)


def evaluate(
    model: Model,
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Folder with images in val/CLASS; or in Pascal VOC's layout."),
    ],
    task: Task = "classification",
    blurs: Annotated[
        str | None, option("NAMES", "Blurs, with commas. Default: the paper's, twelve or five.")
    ] = None,
    output: Annotated[Path | None, option("FOLDER", "Keep the report there.", "--output", "-o")] = None,
    overwrite: Annotated[
        bool, option(None, "Write over the report of another evaluation in --output.", "--force", "-f")
    ] = False,
    arch: Arch = None,
    classes: Annotated[int | None, option("N", "Outputs that --arch has.")] = None,
    scales: Annotated[
        list[str] | None, view_option("N,N+N", "Shorter sides in px; a + averages several. Default: 256.")
    ] = None,
    crops: Annotated[
        str | None, view_option("center|five|dense", "Dense: the whole image. Default: center.")
    ] = None,
    crop: Annotated[int | None, view_option("N", "Side of the crops in px. Default: 224.")] = None,
    average: Annotated[
        str | None, view_option("crops|scales", "What is averaged first. Default: crops.")
    ] = None,
    deblur: Annotated[
        str | None,
        view_option(
            "METHOD:BLUR", "Deblur first: wiener, richardson_lucy or epll, told that blur: wiener:D8."
        ),
    ] = None,
    network_size: NetworkSize = None,
    band: Annotated[
        int | None, view_option("N", "For segmentation: px around class boundaries. Default: 4.")
    ] = None,
    canonical_side: CanonicalSide = 384,
    resample: Resample = "bilinear",
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    on_error: OnError = "raise",
    batch_size: Annotated[int | None, running("N", "Crops shown at once. Default: 64.")] = None,
    workers: Workers = None,
    device: Device = None,
    seed: Annotated[int, running("N", "Of --limit and of shake.")] = 0,
    progress: Progress = True,
) -> None:
    r"""Measure what each blur costs a network: accuracy, entropy, cross-entropy, calibration; or mean IoU.

    Prints a table, one row a blur. With --output the report is kept, for `blurlib report`.

    For example:

        blurlib evaluate resnet18 imagenet --limit 5000
        blurlib evaluate vgg16 imagenet --blurs "sharp, D4, D8, shake" \
            --crops dense --scales 128,256,256+512,512 --output runs/original
        blurlib evaluate runs/mix/model.pt imagenet --arch vgg16
        blurlib evaluate vgg16 imagenet --blurs D8 --deblur wiener:D8
        blurlib evaluate zoomout:vgg16 voc --task segmentation
        torchrun --nproc-per-node 4 -m blurlib evaluate vgg16 imagenet
    """
    network = named_network(model, arch=arch, classes=classes, seed=seed, tell=echo_err)
    colours: dict[str, Any] = {
        "mean": floats("--mean", mean) if mean else None,
        "std": floats("--std", std) if std else None,
    }
    if deblur is not None:
        method, _, told = deblur.partition(":")
        if not told:
            raise ValueError(f"`--deblur` must be METHOD:BLUR, such as wiener:D8, got {deblur!r}")
        network, colours = DeblurThenClassify(network, method, told, **colours), {}
    settings: list[Any] | None = None
    if scales:
        settings = [integers("--scales", [entry.replace("+", ",")]) for entry in split_commas(scales)]
        if task == "segmentation":  # where several scales are not averaged
            settings = [each[0] if len(each) == 1 else each for each in settings]
    options: dict[str, Any] = {  # checked there, the choices too
        "task": task,
        "blurs": blurs,
        "scales": settings,
        "network_size": pair("--network-size", network_size),
        "band": band,
        "crops": crops,
        "crop": crop,
        "average": average,
        "canonical_side": canonical_side,
        "resample": resample,
        **colours,
        "limit": limit,
        "on_error": on_error,
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "seed": seed,
        "output": output,
        "overwrite": overwrite,
        "metadata": network_metadata(model, arch),
        "distributed": is_torchrun(),
        "progress": progress,
    }
    with graceful_interrupt(output):
        report = evaluate_network(network, root, **options)
    if not is_main_process():
        return
    typer.echo(report)
    if output is not None:
        page = shlex.join(["blurlib", "report", str(output), "--html", str(output / "report.html")])
        typer.echo(f"\nKept in {output}. As a page: {page}")
