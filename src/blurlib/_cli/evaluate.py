"""The command that evaluates a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_torchrun
from ..deblurring import DeblurThenClassify
from ..evaluation import evaluate as evaluate_network
from ..models import named_network
from .options import (
    Arch,
    Json,
    Model,
    echo,
    echo_err,
    graceful_interrupt,
    network_metadata,
    option,
    options_of,
    results,
    running,
    scales_by_task,
    view_option,
)


@options_of(
    evaluate_network,
    crop=view_option("N", "Side of the crops in px. Default: 224."),
    batch_size=running("N", "Crops shown at once. Default: 64."),
    seed=running("N", "Of --limit and of shake."),
)
def evaluate(
    model: Model,
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT", help="Folder with images in val/CLASS, or in CLASS; or in Pascal VOC's layout."
        ),
    ],
    arch: Arch = None,
    classes: Annotated[int | None, option("N", "Outputs that --arch has.")] = None,
    deblur: Annotated[
        str | None,
        option("METHOD:BLUR", "Deblur first by wiener, richardson_lucy or epll, for that blur: wiener:D8."),
    ] = None,
    json: Json = False,
    **options: Any,
) -> None:
    r"""Measure a network under each blur: accuracy, entropy, cross-entropy, calibration; or mean IoU.

    Prints a table, one row a blur. With --output the report is kept, for `blurlib report`.

    For example:

        blurlib evaluate resnet18 imagenet --limit 5000
        blurlib evaluate vgg16 imagenet --blurs "sharp, D4, D8, shake" \
            --crops dense --scales 128,256,256+512,512 --output runs/original
        blurlib evaluate runs/mix/model.pt imagenet --arch vgg16
        blurlib evaluate vgg16 imagenet --blurs D8 --deblur wiener:D8
        blurlib evaluate zoomout:vgg16 voc --task segmentation
        blurlib evaluate vgg16 imagenet --blurs D8 --json > d8.json
        torchrun --nproc-per-node 4 -m blurlib evaluate vgg16 imagenet
    """
    with results(json) as show:
        network = named_network(model, arch=arch, classes=classes, seed=options["seed"], notify=echo_err)
        if deblur is not None:
            method, _, assumed_blur = deblur.partition(":")
            if not assumed_blur:
                raise ValueError(f"`--deblur` must be METHOD:BLUR, such as wiener:D8, got {deblur!r}")
            colours = {name: options.pop(name) for name in ("mean", "std")}
            network = DeblurThenClassify(network, method, assumed_blur, **colours)
        scales_by_task(options)
        output = options["output"]
        with graceful_interrupt(output):
            report = evaluate_network(
                network, root, metadata=network_metadata(model, arch), distributed=is_torchrun(), **options
            )
        show(report)
        if output is not None:
            page = shlex.join(["blurlib", "report", str(output), "--html", str(output / "report.html")])
            echo(f"\nKept in {output}. As a page: {page}")
