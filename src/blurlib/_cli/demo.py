"""The command that shows the example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import echo, graceful_interrupt


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="For the page; it is made.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another run.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, to see that all works.")] = False,
    progress: Annotated[bool, typer.Option(help="Show steps and progress bars.")] = True,
) -> None:
    """Run an example: train a small network, blur, evaluate, fine-tune; in minutes, without a data set.

    The photographs ship inside scikit-image and scikit-learn (pip install "blurlib[demo]"). It prints the
    accuracy under blur before and after, and writes a page with pictures.

    For example:

        blurlib demo --out demo-output
    """
    from ..demo import run

    with graceful_interrupt(out):
        page = run(out, seed=seed, quick=quick, progress=progress)
    if not progress:  # else it has said so
        echo(f"The page: {page}")
