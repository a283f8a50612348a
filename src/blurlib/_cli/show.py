"""The command that shows a photograph under several blurs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._common.files import replacing
from .._common.pictures import open_image
from ..protocol import to_rgb
from ..reporting import show as drawn
from .blur import _side
from .options import echo


def show(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The picture; its suffix is its format.")
    ],
    blurs: Annotated[
        str, typer.Option("--blurs", "-b", metavar="LIST", help="Short names, separated by commas.")
    ] = "sharp,D4,D8,shake",
    at: Annotated[
        str,
        typer.Option(metavar="N|image", help="Shorter side in px at which the blurs are as their names say."),
    ] = "384",
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")] = False,
) -> None:
    """Draw a photograph under several blurs, each with its kernel below.

    Blurs are scaled to the photograph, as `blurlib blur` does. It needs matplotlib (pip install
    "blurlib[report]"), which takes the suffixes .png, .jpg, .webp, .pdf and .svg among others.

    For example:

        blurlib show photo.jpg --blurs D2,D4,shake --out blurs.png
    """
    if not image.is_file():
        raise FileNotFoundError(f"`IMAGE` must be an image file, there is no {str(image)!r}")
    if out.exists() and not force:
        raise ValueError(f"{out} would be overwritten; name another `-o`, or add --force")
    side = None if at == "image" else _side(at)
    try:
        with open_image(image) as opened:
            photograph = to_rgb(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {image}: {error}") from error
    scale = 1.0 if side is None else min(photograph.size) / side
    figure = drawn(photograph, blurs, scale=scale)
    known = figure.canvas.get_supported_filetypes()
    kind = out.suffix.lower().lstrip(".")
    if out.is_dir() or kind not in known:
        raise ValueError(
            f"`-o` must be a file with a suffix such as .png or .pdf, got {str(out)!r}; there are "
            f"{', '.join(known)}"
        )
    with replacing(out, durable=False) as aside:
        figure.savefig(aside, format=kind, dpi=150)
    how = "in pixels of the photograph" if side is None else f"at {side} px, scaled by {scale:.3g}"
    echo(f"{image} ({photograph.width} x {photograph.height} px) -> {out}: {blurs} {how}")
