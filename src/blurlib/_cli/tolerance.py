"""The command that measures how much blur a network stands."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_main_process, is_torchrun
from .._tolerance import Camera, Tolerance
from .._tolerance import tolerance as measure
from ..evaluation import evaluate
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
    split_commas,
    view_option,
)


@options_of(
    evaluate,
    without=("blurs", "examples"),
    scales=view_option("N,N+N", "Shorter side in px; a + averages several. Default: 256."),
    crop=view_option("N", "Side of the crops in px. Default: 224."),
    batch_size=running("N", "Crops shown at once. Default: 64."),
    seed=running("N", "Of --limit and of each image's blur."),
)
def tolerance(
    model: Model,
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Images, as `blurlib evaluate` takes them.")],
    target: Annotated[float, option("X", "Share of the sharp accuracy that is kept.")] = 0.95,
    kinds: Annotated[
        str, option("NAMES", "Of defocus, motion, shake and gaussian, with commas.")
    ] = "defocus,motion,shake",
    before: Annotated[
        Path | None, option("FILE", "tolerance.json of the network before fine-tuning, or its folder.")
    ] = None,
    html: Annotated[Path | None, option("FILE", "Write a page with figures.")] = None,
    focal_px: Annotated[float | None, option("X", "Of a camera: focal length in px.")] = None,
    exposure: Annotated[str | None, option("S", "Of a camera: seconds, such as 1/60.")] = None,
    image_side: Annotated[
        float | None, option("X", "Of a camera: shorter side of its pictures in px. Default: the canonical.")
    ] = None,
    distance: Annotated[float, option("M", "Of a camera: metres to what it looks at.")] = 2.0,
    focal_mm: Annotated[float | None, option("X", "Of a camera: focal length in mm, for depth.")] = None,
    f_number: Annotated[float | None, option("X", "Of a camera: of its aperture, for depth.")] = None,
    arch: Arch = None,
    classes: Annotated[int | None, option("N", "Outputs that --arch has.")] = None,
    json: Json = False,
    **options: Any,
) -> None:
    """Measure how much blur a network stands: the largest size at which it keeps its accuracy.

    Prints for each kind of blur a size in px at the canonical side, with its 90 % interval; with a camera
    also what it means in metres a second, degrees a second and metres.

    For example:

        blurlib tolerance resnet50 imagenet --limit 1000
        blurlib tolerance runs/mix/model.pt imagenet --arch resnet50 --before runs/original/tolerance.json
        blurlib tolerance resnet50 imagenet --kinds motion --focal-px 500 --exposure 1/60
    """
    camera = _camera(
        focal_px, exposure, image_side=image_side, distance=distance, focal_mm=focal_mm, f_number=f_number
    )
    original = None if before is None else Tolerance.load(before)
    with results(json) as show:
        network = named_network(model, arch=arch, classes=classes, seed=options["seed"], notify=echo_err)
        scales_by_task(options)
        with graceful_interrupt(options["output"]):
            found = measure(
                network, root, target=target, kinds=split_commas([kinds]),
                metadata=network_metadata(model, arch), distributed=is_torchrun(), **options,
            )  # fmt: skip
        if json:
            show(found)
        else:
            echo(f"{found.table(original, camera=camera)}\n\n{found.caption}")
        if html is not None and is_main_process():
            found.to_html(html, before=original, camera=camera)
            echo(f"\nWrote {html}; open it in a browser")


def _camera(
    focal_px: float | None, exposure: str | None, *, distance: float, **lens: float | None
) -> Camera | None:
    if focal_px is None and exposure is None and not any(lens.values()):
        return None
    if focal_px is None or exposure is None:
        raise ValueError("`--focal-px` and `--exposure` must come together: a camera needs both; give both")
    try:
        seconds = float(Fraction(exposure))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"`--exposure` must be seconds, such as 1/60 or 0.02, got {exposure!r}") from None
    return Camera(focal_px=focal_px, exposure_s=seconds, distance_m=distance, **lens)
