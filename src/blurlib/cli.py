"""The command line: one thin command a function. `blurlib --help` lists them.

Errors are one line on stderr and exit code 2, a stop by Ctrl-C is exit code 130; `--debug` shows tracebacks.
"""

from __future__ import annotations

import io
import shlex
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import _starting
from ._finetune import finetune
from ._networks import named_network
from ._options import (
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
    floats,
    integers,
    network_metadata,
    option,
    pair,
    running,
    say,
    shown,
    stopping,
    words,
)
from ._photographs import blur_file, pairs
from ._reproduce import reproduce
from .blurs import OwnShake, own_shake, parse
from .confidence import confidence_table
from .convolution import check_border
from .deblurring import DeblurThenClassify
from .evaluation import evaluate as evaluate_network
from .kernels import check_integer
from .processes import is_first, launched
from .records import BlurReport
from .segmentation_records import SegmentationReport, is_segmentation

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """The commands, with the library's errors as one line instead of a traceback."""

    # The contexts are Any: newer typers bring a click of their own.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # `blurlib blur ... --debug` is where people add it, though the option belongs to `blurlib` itself.
        return super().parse_args(ctx, sorted(args, key=lambda word: word != "--debug"))

    def invoke(self, ctx: Any) -> Any:
        try:
            _starting.end()
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("\nstopped")
            raise typer.Exit(130) from None
        except (ImportError, OSError, TypeError, ValueError) as error:
            if ctx.params["debug"]:
                raise
            say(f"error: {_line(error)}")
            raise typer.Exit(2) from None


# Remedies that the library words for Python.
_OPTIONS = {
    "resume=True": "--resume",
    "overwrite=True": "--force",
    'on_error="skip"': "--on-error skip",
    'crops="five"': "--crops five",
}

app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line: what `blurlib` and `python -m blurlib` call."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is no text must not end a run that is done
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _warning
    app(prog_name="blurlib")


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """The library's warnings are for the user, and say all; those of others keep their place."""
    del line
    if Path(filename).parent == Path(__file__).parent:
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


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blurlib {metadata.version('blurlib')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Blur images as lenses, moving subjects and shaking hands do; see what it costs a network; win it back.

    Blurs have short names: D8 is a defocus disk of radius 8 px, H8 and V8 are a horizontal and a vertical box
    of 8 px, L12@30 is a line of length 12 at 30 degrees, G4 a Gaussian of sigma 4, S17 camera shake (kernel
    17), shake a camera shake of its own for each image, and sharp none.

    For a start:

        blurlib demo --out demo-output
        blurlib blur photo.jpg --blur D8 -o soft.png
    """


# --- demo


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="For the page; it is made.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another run.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, to see that all works.")] = False,
    progress: Annotated[bool, typer.Option(help="Show steps and progress bars.")] = True,
) -> None:
    """See it work: train a small network, blur, evaluate, fine-tune; in minutes, without data of yours.

    The photographs ship inside scikit-image and scikit-learn (pip install "blurlib[demo]"). It prints the
    accuracy under blur before and after, and writes a page with pictures.

    For example:

        blurlib demo --out demo-output
    """
    from .demo import run

    with stopping(out):
        page = run(out, seed=seed, quick=quick, progress=progress)
    if not progress:  # else it has said so
        typer.echo(f"The page: {page}")


# --- blur


@app.command()
def blur(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, or a folder of images.")],
    blur: Annotated[str, typer.Option("--blur", "-b", metavar="NAME", help="The blur, such as D8.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PATH", help="A file for a file, a folder for a folder.")
    ],
    at: Annotated[
        str,
        typer.Option(metavar="N|image", help="Shorter side in px at which the blur is as its name says."),
    ] = "384",
    border: Annotated[
        str,
        typer.Option(
            metavar="RULE", help="Beyond the image: reflect, symmetric, replicate, circular or zeros."
        ),
    ] = "reflect",
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, other shakes.")] = 0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")] = False,
) -> None:
    """Blur a photograph, or every photograph of a folder.

    A blur is scaled to the photograph: D8 has a radius of 8 px where the shorter side is 384 px, as in the
    library's tables, so 62.5 px in a photograph of 4000 x 3000 px. With --at image it has 8 px.

    The suffix of the output is its format (JPEG at quality 95). Images come out upright, as 8-bit RGB,
    transparency on white. A folder comes out with its structure; shake gives each of its images a camera
    shake of its own.

    For example:

        blurlib blur photo.jpg --blur D8 -o soft.png
        blurlib blur photo.jpg --blur L12@30 --at image -o moved.jpg
        blurlib blur photos --blur shake -o shaken
    """
    value = parse(blur)
    one = source.is_file()
    if isinstance(value, OwnShake) and one:
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
            own = own_shake(index, seed=seed) if isinstance(value, OwnShake) else value
            try:
                line = blur_file(photograph, target, own, at=side, border=rule)
            except (OSError, ValueError) as error:
                if one:
                    raise
                say(f"error: {_line(error)}")
                broken += 1
            else:
                typer.echo(line)
                done += 1
    except KeyboardInterrupt:
        say(f"\nstopped after {done} of {len(files)} images; those in {out} are whole")
        raise typer.Exit(130) from None
    if not one:
        typer.echo(f"{done} images blurred" + (f", {broken} could not be" if broken else ""))
    if broken:
        raise typer.Exit(1)


def _side(at: str) -> int:
    if not at.isdecimal():
        raise ValueError(f"`--at` must be a shorter side in px such as 384, or image, got {at!r}")
    return check_integer("--at", int(at), low=1, high=100_000)


# --- evaluate


@app.command()
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
        list[str] | None, shown("N,N+N", "Shorter sides in px; a + averages several. Default: 256.")
    ] = None,
    crops: Annotated[
        str | None, shown("center|five|dense", "Dense: the whole image. Default: center.")
    ] = None,
    crop: Annotated[int | None, shown("N", "Side of the crops in px. Default: 224.")] = None,
    average: Annotated[str | None, shown("crops|scales", "What is averaged first. Default: crops.")] = None,
    deblur: Annotated[
        str | None,
        shown("METHOD:BLUR", "Deblur first: wiener, richardson_lucy or epll, told that blur: wiener:D8."),
    ] = None,
    network_size: NetworkSize = None,
    band: Annotated[
        int | None, shown("N", "For segmentation: px around class boundaries. Default: 4.")
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
    network = named_network(model, arch=arch, classes=classes, seed=seed, tell=say)
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
        settings = [integers("--scales", [entry.replace("+", ",")]) for entry in words(scales)]
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
        "distributed": launched(),
        "progress": progress,
    }
    with stopping(output):
        report = evaluate_network(network, root, **options)
    if not is_first():
        return
    typer.echo(report)
    if output is not None:
        page = shlex.join(["blurlib", "report", str(output), "--html", str(output / "report.html")])
        typer.echo(f"\nKept in {output}. As a page: {page}")


# --- finetune

app.command()(finetune)

# --- reproduce

app.command()(reproduce)

# --- report


@app.command()
def report(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="report.json of an evaluation, or its folder.")
    ],
    before: Annotated[
        Path | None, typer.Argument(metavar="[BEFORE]", help="That of the network before fine-tuning.")
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="That of a network trained for as long on sharp images."),
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also: how accurate where the network may decline.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables.")] = None,
) -> None:
    """Show a report that `blurlib evaluate --output` kept, or compare it with one from before.

    With BEFORE it prints what changed, with intervals, and how much of the lost accuracy came back.

    For example:

        blurlib report runs/original
        blurlib report runs/tuned runs/original --html tuned.html
    """
    if control is not None and before is None:
        raise ValueError("`--control` must come with BEFORE, got no report of the network before")
    kind: Any = SegmentationReport if is_segmentation(report) else BlurReport
    after = kind.load(report)
    original = None if before is None else kind.load(before)
    other = None if control is None else kind.load(control)
    shown = after if original is None else after.compare(original, control=other)
    typer.echo(shown)
    if confidence and kind is SegmentationReport:
        raise ValueError("`--confidence` must be left out for segmentation, whose reports count pixels")
    if confidence:
        typer.echo(f"\n{confidence_table(after.records)}")
    if markdown is not None:
        shown.to_markdown(markdown)
        typer.echo(f"\nWrote {markdown}")
    if html is not None:
        after.to_html(html, before=original, control=other)
        typer.echo(f"\nWrote {html}; open it in a browser")
