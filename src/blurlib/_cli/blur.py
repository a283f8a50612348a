"""The command that blurs photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._common.checks import check_integer
from ..blurs import PerImage
from ..functional import check_border
from ..notation import parse
from . import completion
from .options import _line, echo, echo_err, option
from .photographs import blur_file, pairs


def blur(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, or a folder of images.")],
    blur: Annotated[str, option("NAME", "The blur, such as D8.", "--blur", "-b", propose=completion.blur)],
    out: Annotated[Path, option("PATH", "A file for a file, a folder for a folder.", "--out", "-o")],
    at: Annotated[
        str,
        option(
            "SIDE",
            "Shorter side in px at which the blur is as its name says; or image.",
            propose=completion.blurred_at,
        ),
    ] = "384",
    border: Annotated[
        str,
        option(
            "RULE",
            "Beyond the image: reflect, symmetric, replicate, circular or zeros.",
            propose=completion.borders,
        ),
    ] = "reflect",
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, other shakes.")] = 0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")] = False,
) -> None:
    """Blur a photograph, or every photograph of a folder.

    A blur is scaled to the photograph: D8 has a radius of 8 px where the shorter side is 384 px, as in the
    library's tables, so 62.5 px in a photograph of 4000 x 3000 px. With --at image it has 8 px.

    The suffix of the output is its format (JPEG at quality 95). Images come out upright, as 8-bit RGB,
    transparency on white. A folder comes out with its structure; shake gives each of its images a
    different camera shake.

    For example:

        blurlib blur photo.jpg --blur D8 -o soft.png
        blurlib blur photo.jpg --blur L12@30 --at image -o moved.jpg
        blurlib blur photos --blur shake -o shaken
    """
    value = parse(blur)
    one = source.is_file()
    if isinstance(value, PerImage) and one:
        value.kernel()  # an error: which image of a set this is, one file does not say
    side = None if at == "image" else _side(at)
    rule = check_border(border, name="--border")
    files = pairs(source, out)
    there = [target for _, target in files if target.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise ValueError(f"{there[0]}{more} would be overwritten; name another `-o`, or add --force")
    done = broken = 0
    try:
        for index, (photograph, target) in enumerate(files):
            own = value.of_image(index, seed=seed)
            try:
                line = blur_file(photograph, target, own, at=side, border=rule)
            except (OSError, ValueError) as error:
                if one:
                    raise
                echo_err(f"error: {_line(error)}")
                broken += 1
            else:
                echo(line)
                done += 1
    except KeyboardInterrupt:
        echo_err(f"\nstopped after {done} of {len(files)} images; those in {out} are whole")
        raise typer.Exit(130) from None
    if not one:
        echo(f"{done} images blurred" + (f", {broken} could not be" if broken else ""))
    if broken:
        raise typer.Exit(1)


def _side(at: str) -> int:
    if not at.isdecimal():
        raise ValueError(f"`--at` must be a shorter side in px such as 384, or image, got {at!r}")
    return check_integer("--at", int(at), low=1, high=100_000)
