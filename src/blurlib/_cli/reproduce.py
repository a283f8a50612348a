"""The command that reproduces the paper's tables and figures."""

from __future__ import annotations

import inspect
import json as plain_json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_main_process
from ..models import named_network
from ..paper import (
    FIGURES,
    ITEMS,
    NEEDS,
    TABLES,
    ClassificationSettings,
    ReproducedTable,
    Run,
    SegmentationSettings,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    reproduce_table,
)
from . import completion
from .options import (
    OPTIONS,
    Arch,
    Json,
    echo,
    echo_err,
    floats,
    graceful_interrupt,
    integers,
    option,
    options_of,
    results,
    running,
    split_commas,
    training,
    view_option,
)

SEGMENTATION = (*SegmentationSettings.items, "figure5")


@options_of(
    ClassificationSettings,
    classes=running("N", "Take the images of only N classes, evenly."),
    side=view_option("N", "Network side in place of the paper's 256; 128, 512 and the crop in proportion."),
    crops=view_option("dense|five|center", "Default: dense for VGG and AlexNet, else five."),
    deblur=option(
        "METHODS",
        "For table5: epll, wiener, richardson_lucy assume the true blur; wiener:D7 assumes D7.",
    ),
    deblur_limit=option("N", "For table5: look at N images only. Default: ten a class, as the paper."),
)
@options_of(
    SegmentationSettings,
    limit=running("N", "Take only N validation images, evenly from all classes."),
    train_limit=running("N", "Take only N training images, likewise."),
    seeds=training("N,N", "Of the fine-tunings; the tables show means."),
    control=training(
        None, "Add to tables 3, 5 and 6 a network fine-tuned on sharp images alone.", "--control"
    ),
    network_side=view_option("N", "For table6: geometric mean of the sides. Default: the canonical side."),
    crop=view_option("N", "For table6: side of the random crop in px. Default: 320."),
    band=view_option("N", "For table6: px around class boundaries."),
    hflip=training("X", "For table6: probability of a mirror image."),
)
def reproduce(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ITEM",
            help="table1 to table5, tableA, figure1 to figure4; or all of these: all. table6, figure5.",
            autocompletion=completion.items,
        ),
    ],
    root: Annotated[
        Path | None,
        option(
            "FOLDER", "Folder with val/CLASS and train/CLASS; for table6 and figure5 Pascal VOC's layout."
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "MODEL",
            "The original network, as for evaluate. Default: the paper's.",
            propose=completion.networks,
        ),
    ] = None,
    output: Annotated[
        Path, option("FOLDER", "For networks, evaluations and tables.", "--output", "-o")
    ] = Path("reproduction"),
    arch: Arch = None,
    outputs: Annotated[
        int | None, option("N", "Number of the network's outputs, if it differs from that of its weights.")
    ] = None,
    dry_run: Annotated[
        bool, option(None, "Print the work that is left and its estimated time, and do nothing.", "--dry-run")
    ] = False,
    epochs: Annotated[list[str] | None, training("N,N", "Of each phase. Default: the paper's.")] = None,
    lr: Annotated[
        list[str] | None, training("X,X", "Learning rate of each phase. Default: the paper's.")
    ] = None,
    batch_size: Annotated[
        int | None, training("N", "Images in a batch. Default: 128; for segmentation 8.")
    ] = None,
    image: Annotated[
        Path | None, option("FILE", "For figure1 and figure4: a photograph. Default: a validation image.")
    ] = None,
    layers: Annotated[
        list[str] | None, option("NAMES", "For figure4: layers. Default: the pooling layers.")
    ] = None,
    workers: Annotated[int | None, OPTIONS["workers"]] = None,
    device: Annotated[str | None, OPTIONS["device"]] = None,
    progress: Annotated[bool, OPTIONS["progress"]] = True,
    json: Json = False,
    **options: Any,
) -> None:
    r"""Reproduce a table or figure of the paper on your photographs, next to the published numbers.

    It fine-tunes the networks that the table needs, evaluates them, and keeps all of it, so that a second run
    continues where the first one stopped. First it prints the work that is left and its estimated time. Under
    torchrun the work is shared out.

    For example:

        blurlib reproduce table1 --root imagenet
        blurlib reproduce all --root imagenet --output runs/paper --dry-run
        blurlib reproduce table1 --root imagenet --json > table1.json
        blurlib reproduce table6 --root voc --model runs/sharp/model.pt --arch zoomout:vgg16
        blurlib reproduce table3 --root pets --model runs/pets/model.pt \
            --arch resnet18 --outputs 37 --side 128 --seeds 0,1,2 --control
    """
    if json and dry_run:
        raise ValueError("`--json` must be left out with --dry-run, whose estimates are text")
    known = dict.fromkeys((*ITEMS, *FIGURES))
    items = [name for name in known if name not in SEGMENTATION] if item == "all" else [item]
    if not set(items) <= set(known):
        raise ValueError(f"`ITEM` must be one of {', '.join(known)} or all, got {item!r}")
    own = {  # what is left out takes the default of the task
        "epochs": integers("--epochs", epochs) if epochs else None,
        "lr": floats("--lr", lr) if lr else None,
        "batch_size": batch_size,
    }
    options |= {name: value for name, value in own.items() if value is not None}
    kind = SegmentationSettings if item in SEGMENTATION else ClassificationSettings
    if kind is SegmentationSettings and (root is None or model is None):
        raise ValueError(
            "`--root` and `--model` must name a folder in Pascal VOC's layout and a network that was "
            f"trained on it sharp, for {item}, got {'no root' if root is None else 'no network'}; the "
            "paper's was published for another framework. To train one: blurlib finetune zoomout:vgg16 "
            "VOC --task segmentation --blur sharp --epochs 30,10 --lr 1e-3,1e-4 --output runs/sharp"
        )
    settings = kind(**{name: options[name] for name in inspect.signature(kind).parameters if name in options})
    done = _Reproduced()
    with results(json) as show:
        if "figure2" in items and not dry_run:
            done.figures["figure2"] = figure2(output)
            echo(f"figure2: {done.figures['figure2']}")
        items = [name for name in items if name != "figure2"]
        if root is None:
            if items:
                raise ValueError(f"`--root` must name a folder of photographs for {items[0]}, got none")
            root = Path()
        # A network of one's own serves all tables; else each table has the paper's, in a folder of its own.
        groups: dict[str, list[str]] = {}
        for name in items:
            needed = NEEDS.get(name, (name,))
            groups.setdefault(model or TABLES[needed[0]].network, []).append(name)
        processes: dict[str, Any] = {"workers": workers, "device": device, "progress": progress}
        runs = {}
        for network, names in groups.items():
            built = named_network(network, arch=arch, classes=outputs, seed=0, notify=echo_err)
            place = output if model else output / network
            runs[network] = Run(built, root, settings=settings, output=place, **processes)
            tables = dict.fromkeys(table for name in names for table in NEEDS.get(name, (name,)))
            echo_err(runs[network].dry_run(*tables))
        if dry_run:
            return
        drawn: dict[str, Callable[[Run], Path]] = {
            "figure1": lambda run: figure1(run, image=image),
            "figure3": figure3,
            "figure4": lambda run: figure4(run, image=image, layers=split_commas(layers) if layers else None),
            "figure5": figure5,
        }
        for network, names in groups.items():
            run = runs[network]
            for name in names:
                with graceful_interrupt(run.output, "; the same command goes on"):
                    if name in drawn:
                        done.figures[name] = drawn[name](run)
                        echo(f"\n{name}: {done.figures[name]}")
                        continue
                    table = done.tables[name] = reproduce_table(run, name)
                    echo(f"\n{name}: {table}\n\nKept as {run.output / name}.md and .json")
                    _page(table, run.output / f"{name}.html")
        if json:
            show(done)


@dataclass
class _Reproduced:
    """What a command has made, in its order: tables, and the files of figures."""

    tables: dict[str, ReproducedTable] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)

    def to_json(self) -> str:
        tables = {name: table.to_dict() for name, table in self.tables.items()}
        return plain_json.dumps(
            {"tables": tables, "figures": {name: str(path) for name, path in self.figures.items()}}, indent=1
        )


def _page(table: ReproducedTable, path: Path) -> None:
    try:
        if is_main_process():
            table.to_html(path)
    except ImportError as error:  # the numbers are there without it
        echo_err(f"note: no page, {error}")
