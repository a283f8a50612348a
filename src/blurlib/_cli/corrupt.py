"""The command that writes blurred copies of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..data import corrupt as corrupt_folder
from .options import echo, graceful_interrupt, option, options_of, running


@options_of(
    corrupt_folder,
    blurs=option("NAMES", "Blurs, with commas, such as D2,D4,shake."),
    layout=option(
        "imagenet-c|beside",
        "A folder for each blur, by kind and size; or the copies of an image side by side.",
    ),
    encoding=option("png|jpeg", "Of the copies. Default: png; for annotated images what their names say."),
    quality=option("N", "Of JPEG, 1 to 100. Default: 95."),
    size=option(
        "canonical|original",
        "canonical: resized to the side at which blurs are defined, so that evaluate gives the same "
        "numbers. original: as it is, under a kernel scaled to it. Default: canonical; for annotated images "
        "original.",
    ),
    split=option("val|train", "Which images."),
    seed=running("N", "Of shake."),
)
def corrupt(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT",
            help="Folder with images in val/CLASS, or in CLASS; or in Pascal VOC's layout, or in COCO's.",
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="A new folder outside of ROOT.")],
    **options: Any,
) -> None:
    r"""Write blurred copies of a folder: a benchmark set that stays as it is.

    D4 is written to DESTINATION/disk/4/CLASS/FILE, as ImageNet-C has it; annotations are linked. `blurlib
    evaluate` on such a folder gives what it gives on ROOT with --blurs D4. A manifest in it has the hash of
    each image, the kernel and all settings. Run the same again after a stop, and it goes on.

    For example:

        blurlib corrupt imagenet imagenet-blur --blurs D2,D4,D6,D8,shake
        blurlib evaluate resnet18 imagenet-blur/disk/4
        blurlib corrupt imagenet imagenet-jpeg --blurs D4 --encoding jpeg --quality 85
        blurlib corrupt coco coco-blur --blurs D4,H8,shake --workers 8
    """
    with graceful_interrupt(None):
        places = corrupt_folder(root, destination, **options)
    for name, place in places.items():
        echo(f"{name}: {place}")
