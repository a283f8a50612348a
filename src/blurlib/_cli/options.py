"""What the commands share: their options, how words become numbers, what is said on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .._common.distributed import is_main_process


def echo_err(text: str) -> None:
    """A note; under torchrun one process speaks."""
    if is_main_process():
        typer.echo(text, err=True)


def echo(text: str) -> None:
    """A result; under torchrun one process speaks."""
    if is_main_process():
        typer.echo(text)


@contextmanager
def graceful_interrupt(folder: Path | None, remedy: str = "") -> Iterator[None]:
    """On Ctrl-C, say what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = sorted(path.name for path in folder.iterdir()) if folder and folder.is_dir() else []
        echo_err(
            f"\nstopped; kept in {folder}: {', '.join(kept)}{remedy}"
            if kept
            else "\nstopped; nothing was kept"
        )
        raise typer.Exit(130) from None


SEEDS = ["0"]


def option(metavar: str | None, text: str, *names: str, panel: str | None = None) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


view_option = partial(option, panel="How images are shown to the network")
training = partial(option, panel="Training")
running = partial(option, panel="Running")

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A network of torchvision with its default weights, such as resnet18; or timm:NAME; or "
        "zoomout:NAME, the paper's segmentation network over a VGG; or a file of weights (.pt) together with "
        "--arch; or module:function, a function of yours that returns it.",
    ),
]
Task = Annotated[str, option("NAME", "classification or segmentation.")]
NetworkSize = Annotated[
    list[str] | None,
    view_option("H,W", "For segmentation: size that every image is brought to, whatever its aspect."),
]
Arch = Annotated[str | None, option("NAME", "The network whose weights a .pt file holds, named as MODEL.")]
CanonicalSide = Annotated[int, view_option("N", "Shorter side in px at which blurs are defined.")]
Resample = Annotated[str, view_option("FILTER", "Of both resizings: bilinear, bicubic, box or lanczos.")]
Mean = Annotated[
    list[str] | None, view_option("R,G,B", "Of the colours, 0 to 1. Default: the model's, else ImageNet's.")
]
Std = Annotated[list[str] | None, view_option("R,G,B", "Likewise.")]
Limit = Annotated[int | None, running("N", "Take only N images, evenly from all classes.")]
OnError = Annotated[str, running("raise|skip", "At a broken image: stop, or go on and count.")]
Workers = Annotated[int | None, running("N", "Processes that load images.")]
Device = Annotated[str | None, running("NAME", "cpu, cuda, ... Default: the best.")]
Progress = Annotated[bool, running(None, "Show progress bars.")]


def split_commas(given: Sequence[str]) -> list[str]:
    """Repeated options and lists with commas alike."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def integers(name: str, given: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in split_commas(given))
    except ValueError:
        raise ValueError(f"`{name}` must be whole numbers with commas, got {','.join(given)!r}") from None


def pair(name: str, given: Sequence[str] | None) -> tuple[int, int] | None:
    if not given:
        return None
    values = integers(name, given)
    if len(values) != 2:
        raise ValueError(f"`{name}` must be height and width in px, such as 384,384, got {','.join(given)!r}")
    return values[0], values[1]


def floats(name: str, given: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in split_commas(given))
    except ValueError:
        raise ValueError(f"`{name}` must be numbers with commas, got {','.join(given)!r}") from None


def network_metadata(model: str, arch: str | None) -> dict[str, str]:
    """What the record calls the network: its name, and the file that its weights are from."""
    return {"name": model} if arch is None else {"name": arch, "file": model}


# Remedies that the library words for Python.
_OPTIONS = {
    "resume=True": "--resume",
    "overwrite=True": "--force",
    'on_error="skip"': "--on-error skip",
    'crops="five"': "--crops five",
}


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """The library's warnings are for the user, and say all; those of others keep their place."""
    del line
    if Path(__file__).parents[1] in Path(filename).parents:
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _line(error: Exception) -> str:
    """An error's text in one line; of one that crossed from a worker, the text that it had there."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.rsplit(f"\n{type(error).__name__}: ", 1)[-1]
    for argument, words_of_option in _OPTIONS.items():
        text = text.replace(argument, words_of_option)
    return " ".join(text.split("\n"))
