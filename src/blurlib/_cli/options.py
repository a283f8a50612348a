"""What the commands share: options, conversion of their values, messages."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from .._common.checks import one_of
from .._common.distributed import is_main_process
from .._common.texts import visible
from . import completion


def echo_err(text: str) -> None:
    """A note; under torchrun one process speaks."""
    if is_main_process():
        typer.echo(visible(text, keep="\n"), err=True)


def echo_error(error: Exception, *, unforeseen: bool = False) -> None:
    """An error; under torchrun one process speaks for all that agreed, others for themselves by number.

    Where all fail alike, as on a wrong option, torchrun ends the others before they speak. The text of an
    unforeseen one may say little, so its kind is told too.
    """
    text = f"error: {_line(error)}"
    if unforeseen:
        text = f"error: {type(error).__name__}: {_line(error)}; --debug shows where"
    if is_main_process():
        echo_err(text)
    elif not getattr(error, "agreed", False):
        time.sleep(2)
        typer.echo(visible(f"process {os.environ['RANK']}: {text}"), err=True)


def echo(text: object) -> None:
    """A result; under torchrun one process speaks."""
    if is_main_process():
        typer.echo(visible(str(text), keep="\n"))


@contextmanager
def results(json: bool) -> Iterator[Callable[[Any], None]]:
    """How a command shows its result: as text or, with `--json`, as the one document on stdout.

    All else that is printed meanwhile, by a network too, goes to stderr then.
    """
    if not json:
        yield echo
        return
    stdout = sys.stdout

    def document(result: Any) -> None:
        if is_main_process():
            typer.echo(result.to_json().rstrip("\n"), file=stdout)

    with redirect_stdout(sys.stderr):
        yield document


@contextmanager
def graceful_interrupt(folder: Path | None, remedy: str = "") -> Iterator[None]:
    """On Ctrl-C, SIGTERM or SIGHUP, report what is kept and how to go on, unless the work has told it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stopped:
        code = 130 if isinstance(stopped, KeyboardInterrupt) else stopped.code
        if not isinstance(code, int) or code <= 128:  # no signal's: a network's own code ends the program
            raise
        kept = sorted(path.name for path in folder.glob("[!.]*")) if folder and folder.is_dir() else []
        if not hasattr(stopped, "told"):
            echo_err(
                f"\nstopped; kept in {folder}: {', '.join(kept)}{remedy}"
                if kept
                else "\nstopped; nothing was kept"
            )
        raise typer.Exit(code) from None


Number = TypeVar("Number", int, float)


def option(
    metavar: str | None,
    text: str,
    *names: str,
    panel: str | None = None,
    propose: completion.Proposing | None = None,
) -> Any:
    if metavar and "|" in metavar:
        propose = completion.words(metavar.split("|"))
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, autocompletion=propose)


view_option = partial(option, panel="How images are shown to the network")
training = partial(option, panel="Training")
running = partial(option, panel="Running")

# Help of the options that follow a parameter of `evaluate` or `finetune`, by its name.
OPTIONS: dict[str, Any] = {
    "arch": option(
        "NAME", "The network whose weights a file holds, named as MODEL.", propose=completion.networks
    ),
    "task": option("NAME", "classification or segmentation.", propose=completion.tasks),
    "blurs": option(
        "NAMES", "Blurs, with commas. Default: the paper's, twelve or five.", propose=completion.blurs
    ),
    "blur": option(
        "MIX", "Equal shares, or stated ones: 0.2 sharp + 0.8 shake; or wide.", propose=completion.mix
    ),
    "output": option("FOLDER", "Keep the report there.", "--output", "-o"),
    "overwrite": option(None, "Write over the report of another evaluation in --output.", "--force", "-f"),
    "examples": option("N", "Keep N images with the predictions, for the page; at most 8."),
    "resume": option(None, "Go on with the run in --output.", "--resume"),
    "checkpoint_every": running("X", "Minutes between checkpoints within an epoch."),
    "validate_every": running("N", "Epochs from one validation to the next; best.pt is the best. 0: none."),
    "validation": running("FOLDER", "Images for it. Default: the split val of ROOT."),
    "changes": running(
        "CHANGES", "What may differ on --resume: lr, epochs, weights, architecture, files, with commas."
    ),
    "epochs": training("N,N", "Of each phase. Default: 2,1; for segmentation 6,2."),
    "lr": training("X,X", "Learning rate of each phase. Default: 1e-3,1e-4; for segmentation 1e-4,1e-5."),
    "schedule": training("steps|cosine", "Of the rate: by phases, or a cosine to 0, step by step."),
    "warmup": training("X", "Epochs in which the rate rises."),
    "optimizer": training("MODULE:FUNCTION", "Such as torch.optim:AdamW. Default: SGD."),
    "clip": training("X", "Largest norm of the gradients."),
    "ema": training("X", "Decay of a moving average of the weights, such as 0.999."),
    "teacher": training("X", "Share of the original network's outputs in the loss; 1: no labels."),
    "accumulate": training("N", "Show a GPU's share of a batch in N parts."),
    "momentum": training("X", "Of SGD."),
    "weight_decay": training("X", "Of SGD."),
    "hflip": training("X", "Probability of a mirror image."),
    "trainable": training("PATTERNS", "Parameters to train by name, with * for any text."),
    "batch_norm": training(
        "train|eval|sync|recalibrate",
        "eval keeps its statistics; sync takes those of all GPUs; recalibrate computes them anew at the end.",
    ),
    "amp": training("bf16|fp16|no", "Half precision. Default: bf16 on GPUs."),
    "channels_last": training(None, "Weights and images in this memory format.", "--channels-last"),
    "compile": training(None, "Forward passes by torch.compile.", "--compile"),
    "scales": view_option(
        "N,N+N", "Shorter sides in px; a + averages several. Default: 256.", propose=completion.sides
    ),
    "crops": view_option("center|five|dense", "Dense: the whole image. Default: center."),
    "average": view_option("crops|scales", "What is averaged first. Default: crops."),
    "network_side": view_option("N,N", "Shorter side in px; of several, one for each image. Default: 256."),
    "network_size": view_option(
        "H,W", "For segmentation: size that every image is brought to, whatever its aspect."
    ),
    "band": view_option("N", "For segmentation: px around class boundaries. Default: 4."),
    "canonical_side": view_option("N", "Shorter side in px at which blurs are defined."),
    "resample": view_option("FILTER", "Of both resizings: bilinear, bicubic, box or lanczos."),
    "jitter": view_option("N,N,N", "Shorter sides in px before the blur. Default: 356,384,410 at 384."),
    "mean": view_option("R,G,B", "Of the colours, 0 to 1. Default: the model's, else ImageNet's."),
    "std": view_option("R,G,B", "Likewise."),
    "limit": running("N", "Take only N images, evenly from all classes."),
    "on_error": running("raise|skip", "At a broken image: stop, or go on and count."),
    "class_map": running(
        "FILE", "Which of the network's outputs the class folders are: a name a line, or a name and a number."
    ),
    "ignore_index": running("N", "For segmentation: number in the masks of pixels that do not count."),
    "reduce_zero_label": running(
        None, "For segmentation: 0 does not count, other labels are one less.", "--reduce-zero-label"
    ),
    "workers": running("N", "Processes that load images."),
    "device": running("NAME", "cpu, cuda, ... Default: the best.", propose=completion.devices),
    "progress": running(None, "Show progress bars."),
}

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A network of torchvision with its default weights, such as resnet18; or timm:NAME; or "
        "zoomout:NAME, the paper's segmentation network over a VGG; or a file of weights (.pt, .ckpt, "
        ".safetensors, ...) together with --arch; or module:function, your function that returns it.",
        autocompletion=completion.networks,
    ),
]
Arch = Annotated[str | None, OPTIONS["arch"]]
Json = Annotated[
    bool, option(None, "Print the result as one JSON document, and all else on stderr.", "--json")
]


def options_of(
    function: Callable[..., Any], *, without: Sequence[str] = (), **own: Any
) -> Callable[[Callable[..., None]], Any]:
    """Give a command an option for each parameter of a function, with the text of `own` or OPTIONS.

    Parameters that the command declares stay as declared, those of `without` are left out. It sets `metadata`
    and `distributed` itself; what reads folders alone has no `columns`.
    """

    def decorate(command: Callable[..., None]) -> Any:
        written = inspect.signature(command, eval_str=True).parameters
        taken = {name: each for name, each in written.items() if each.kind is not each.VAR_KEYWORD}
        read = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name in (*taken, *without, "metadata", "distributed", "columns"):
                continue
            info = own.get(name) or OPTIONS[name]
            kind = _KINDS.get(info.metavar, str)
            if not isinstance(kind, type):
                read[name], kind = kind, list[str]
            taken[name] = parameter.replace(
                kind=parameter.KEYWORD_ONLY,
                annotation=Annotated[kind | None if parameter.default is None else kind, info],
            )

        @wraps(command)
        def reading(**given: Any) -> None:
            for name, reader in read.items():
                given[name] = reader(f"--{name.replace('_', '-')}", given[name]) if given[name] else None
            command(**given)

        reading.__annotations__ = {name: each.annotation for name, each in taken.items()}
        signature = inspect.Signature(list(taken.values()))
        reading.__signature__ = signature  # type: ignore[attr-defined]  # inspect and typer read it
        return reading

    return decorate


def scales_by_task(options: dict[str, Any]) -> None:
    """For segmentation, where several scales are not averaged, make numbers of lists of one."""
    if options["task"] == "segmentation" and options["scales"]:
        options["scales"] = [each[0] if len(each) == 1 else each for each in options["scales"]]


def split_commas(given: Sequence[str]) -> list[str]:
    """Repeated options and lists with commas alike."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _numbers(kind: type[Number], kinds: str, name: str, given: Sequence[str]) -> tuple[Number, ...]:
    try:
        return tuple(kind(word) for word in split_commas(given))
    except ValueError:
        raise ValueError(f"`{name}` must be {kinds} with commas, got {','.join(given)!r}") from None


integers = partial(_numbers, int, "whole numbers")
floats = partial(_numbers, float, "numbers")


def pair(name: str, given: Sequence[str] | None) -> tuple[int, int] | None:
    if not given:
        return None
    values = integers(name, given)
    if len(values) != 2:
        raise ValueError(f"`{name}` must be height and width in px, such as 384,384, got {','.join(given)!r}")
    return values[0], values[1]


def words(name: str, given: Sequence[str]) -> list[str]:
    del name
    return split_commas(given)


def function(name: str, given: Sequence[str]) -> Any:
    """A function by its name, as module:function; modules of the working folder are found."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module, _, attribute = given[-1].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be module:function, such as torch.optim:AdamW, got {given[-1]!r} ({error}); "
            "look at its spelling"
        ) from None


def precision(name: str, given: Sequence[str]) -> str | bool:
    return False if one_of(name, given[-1], ("bf16", "fp16", "no")) == "no" else given[-1]


def scales(name: str, given: Sequence[str]) -> list[tuple[int, ...]]:
    return [integers(name, [entry.replace("+", ",")]) for entry in split_commas(given)]


# Type of an option by its metavar, or the function that reads a list with commas; str if not named here.
_KINDS: dict[str | None, Any] = {
    None: bool, "N": int, "X": float, "FOLDER": Path, "FILE": Path,
    "N,N": integers, "N,N,N": integers, "N,N+N": scales, "X,X": floats, "R,G,B": floats, "H,W": pair,
    "PATTERNS": words, "METHODS": words, "CHANGES": words,
    "MODULE:FUNCTION": function, "bf16|fp16|no": precision,
}  # fmt: skip


def network_metadata(model: str, arch: str | None) -> dict[str, str]:
    """What the record calls the network: its name, and the file that its weights are from."""
    return {"name": model} if arch is None else {"name": arch, "file": model}


# Remedies that the library words for Python.
_REMEDIES = {
    "batch_size=1": "--batch-size 1",
    "resume=True": "--resume",
    "overwrite=True": "--force",
    "validate_every=1": "--validate-every 1",
    'on_error="skip"': "--on-error skip",
    'encoding="jpeg"': "--encoding jpeg",
    'crops="five"': "--crops five",
    "pass `class_map`": "pass --class-map FILE",
    "pass reduce_zero_label=True": "pass --reduce-zero-label",
    "pass `ignore_index`": "pass --ignore-index",
}


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """The library's warnings as one line; those of other packages with their place."""
    del line
    if Path(__file__).parents[1] in Path(filename).parents:
        return f"warning: {visible(str(message))}\n"
    return visible(f"{filename}:{lineno}: {category.__name__}: {message}\n", keep="\n")


def _line(error: Exception) -> str:
    """An error's text in one line; of one that crossed from a worker, the text that it had there."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.rsplit(f"\n{type(error).__name__}: ", 1)[-1]
    for argument, words_of_option in _REMEDIES.items():
        text = text.replace(argument, words_of_option)
    text = re.sub(r"changes=\[(.*?)\]", lambda found: "--changes " + re.sub("[' ]", "", found[1]), text)
    return " ".join(text.split("\n"))
