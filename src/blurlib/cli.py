"""The command line: one thin command a function. `blurlib --help` lists them.

Errors are one line on stderr and exit code 2, a stop by Ctrl-C is exit code 130; `--debug` shows tracebacks.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from PIL import Image, UnidentifiedImageError
from torch import nn
from torchvision import models
from typer.core import TyperGroup

from .blurs import Blur, OwnShake, own_shake, parse
from .convolution import Border
from .data import IMAGE_SUFFIXES
from .evaluation import PAPER_BLURS
from .evaluation import evaluate as evaluate_network
from .kernels import check_integer
from .protocol import to_rgb
from .records import BlurReport
from .training import finetune as finetune_network
from .transforms import apply

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """The commands, with the library's errors as one line instead of a traceback."""

    # The contexts are Any: newer typers bring a click of their own.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # `blurlib blur ... --debug` is where people add it, though the option belongs to `blurlib` itself.
        return super().parse_args(ctx, sorted(args, key=lambda word: word != "--debug"))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("\nstopped")
            raise typer.Exit(130) from None
        except (ImportError, OSError, TypeError, ValueError) as error:
            if ctx.params["debug"]:
                raise
            _say(f"error: {_line(error)}")
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line: what `blurlib` and `python -m blurlib` call.

    Example:
        >>> import sys
        >>> sys.argv = ["blurlib", "--version"]
        >>> main()  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        SystemExit: 0
    """
    app(prog_name="blurlib")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _line(error: Exception) -> str:
    """An error's text in one line; of one that crossed from a worker, the text that it had there."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.rsplit(f"\n{type(error).__name__}: ", 1)[-1]
    return " ".join(text.split("\n"))


@contextmanager
def _stopping(folder: Path | None) -> Iterator[None]:
    """On Ctrl-C, say what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        kept = sorted(path.name for path in folder.iterdir()) if folder and folder.is_dir() else []
        _say(f"\nstopped; {f'kept in {folder}: ' + ', '.join(kept) if kept else 'nothing was kept'}")
        raise typer.Exit(130) from None


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

    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder, got the file {str(out)!r}; name another")
    with _stopping(out):
        page = run(out, seed=seed, quick=quick, progress=progress)
    typer.echo(f"\nOpen {page} in a browser.")


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
    if border not in get_args(Border):
        raise ValueError(f"`--border` must be one of {', '.join(get_args(Border))}, got {border!r}")
    pairs = _photographs(source, out)
    there = [target for _, target in pairs if target.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise ValueError(f"{there[0]}{more} would be overwritten; name another `-o`, or add --force")
    done = broken = 0
    try:
        for index, (photograph, target) in enumerate(pairs):
            own = own_shake(index, seed=seed) if isinstance(value, OwnShake) else value
            try:
                typer.echo(_blur_file(photograph, target, own, side, border))
                done += 1
            except (OSError, ValueError) as error:
                if one:
                    raise
                _say(f"error: {_line(error)}")
                broken += 1
    except KeyboardInterrupt:
        _say(f"stopped after {done} of {len(pairs)} images; those in {out} are whole")
        raise typer.Exit(130) from None
    if not one:
        typer.echo(f"{done} images blurred" + (f", {broken} could not be" if broken else ""))
    if broken:
        raise typer.Exit(1)


def _side(at: str) -> int:
    if not at.isdigit():
        raise ValueError(f"`--at` must be a shorter side in px such as 384, or image, got {at!r}")
    return check_integer("--at", int(at), low=1, high=100_000)


def _photographs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """What to read and where to write it."""
    if not source.exists():
        raise FileNotFoundError(
            f"`INPUT` must be an image or a folder of images, there is no {str(source)!r}"
        )
    if source.is_file():
        if out.is_dir():
            raise ValueError(
                f"`-o` must be a file for a file, got the folder {str(out)!r}; say {out / source.name}"
            )
        return [(source, _writable(out))]
    if out.is_file() or out.suffix.lower() in Image.registered_extensions():
        raise ValueError(f"`-o` must be a folder for a folder, got {str(out)!r}")
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(
            f"`-o` must lie outside the folder {str(source)!r}, got {str(out)!r}; name another folder"
        )
    found = sorted(
        path.relative_to(source)
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and path.is_file()
    )
    if not found:
        raise ValueError(
            f"`INPUT` must hold images, got none in {str(source)!r} (suffixes looked for: "
            f"{' '.join(IMAGE_SUFFIXES)})"
        )
    return [(source / path, _writable(out / path)) for path in found]


def _writable(target: Path) -> Path:
    known = Image.registered_extensions()
    if known.get(target.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"`-o` must have a suffix of an image format such as .png or .jpg, got {str(target)!r}"
        )
    return target


def _blur_file(photograph: Path, target: Path, value: Blur, at: int | None, border: Any) -> str:
    """Blur one file; what was done, in a line."""
    try:
        with warnings.catch_warnings(), Image.open(photograph) as opened:
            warnings.simplefilter("ignore")  # on size and broken metadata: the file was named on purpose
            image = to_rgb(opened)
            # Other modes are converted to RGB, where their profile would be wrong.
            profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {photograph}: not an image, or of a kind that is not known") from error
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise ValueError(f"cannot read {photograph}: {_line(error)}") from error
    scale = 1.0 if at is None else min(image.size) / at
    try:
        blurred = apply(image, value, border=border, scale=scale)
    except ValueError as error:
        raise ValueError(f"cannot blur {photograph} by {value} at scale {scale:g}: {_line(error)}") from error
    kind = Image.registered_extensions()[target.suffix.lower()]
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    try:
        blurred.save(aside, kind, icc_profile=profile, **options)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    how = "in pixels of the photograph" if at is None else f"at {at} px, scaled by {scale:.3g}"
    return f"{photograph} ({image.width} x {image.height} px) -> {target}: {value} {how}"


# --- evaluate and finetune

_SHOWN, _TRAINING, _RUNNING = "How images are shown to the network", "Training", "Running"
_SIDE, _EPOCHS, _RATES = ["256"], ["2,1"], ["1e-3,1e-4"]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A network of torchvision with its default weights, such as resnet18; or timm:NAME; or a file "
        "of weights (.pt) together with --arch; or module:function, a function of yours that returns it.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The network whose weights a .pt file holds, named as MODEL."),
]
CanonicalSide = Annotated[
    int,
    typer.Option(metavar="N", help="Shorter side in px at which blurs are defined.", rich_help_panel=_SHOWN),
]
Mean = Annotated[
    list[str] | None,
    typer.Option(
        metavar="R,G,B",
        help="Of the colours, 0 to 1. Default: the model's, else ImageNet's.",
        rich_help_panel=_SHOWN,
    ),
]
Std = Annotated[list[str] | None, typer.Option(metavar="R,G,B", help="Likewise.", rich_help_panel=_SHOWN)]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", help="Take only N images, evenly from all classes.", rich_help_panel=_RUNNING),
]
OnError = Annotated[
    str,
    typer.Option(
        metavar="raise|skip", help="At a broken image: stop, or go on and count.", rich_help_panel=_RUNNING
    ),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Processes that load images.", rich_help_panel=_RUNNING)
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, ... Default: the best.", rich_help_panel=_RUNNING),
]
Progress = Annotated[bool, typer.Option(help="Show progress bars.", rich_help_panel=_RUNNING)]


@app.command()
def evaluate(
    model: Model,
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with images in val/CLASS.")],
    blurs: Annotated[str, typer.Option(metavar="NAMES", help="Blurs, with commas.")] = PAPER_BLURS,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Keep the report there.")
    ] = None,
    arch: Arch = None,
    classes: Annotated[int | None, typer.Option(metavar="N", help="Outputs that --arch has.")] = None,
    scales: Annotated[
        list[str],
        typer.Option(
            metavar="N,N+N", help="Shorter sides in px, each a table row; + averages.", rich_help_panel=_SHOWN
        ),
    ] = _SIDE,
    crops: Annotated[
        str, typer.Option(metavar="center|five|dense", help="Dense: the whole image.", rich_help_panel=_SHOWN)
    ] = "center",
    crop: Annotated[
        int, typer.Option(metavar="N", help="Side of the crops in px.", rich_help_panel=_SHOWN)
    ] = 224,
    average: Annotated[
        str, typer.Option(metavar="crops|scales", help="What is averaged first.", rich_help_panel=_SHOWN)
    ] = "crops",
    canonical_side: CanonicalSide = 384,
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    on_error: OnError = "raise",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Crops shown at once.", rich_help_panel=_RUNNING)
    ] = 64,
    workers: Workers = None,
    device: Device = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of --limit and of shake.", rich_help_panel=_RUNNING)
    ] = 0,
    progress: Progress = True,
) -> None:
    r"""Measure what each blur costs a network: accuracy, entropy, cross-entropy, calibration.

    Prints a table, one row a blur. With --output the report is kept, for `blurlib report`.

    For example:

        blurlib evaluate resnet18 imagenet --limit 5000
        blurlib evaluate vgg16 imagenet --blurs "sharp, D4, D8, shake" \
            --crops dense --scales 128,256,256+512,512 --output runs/original
        blurlib evaluate runs/mix/model.pt imagenet --arch vgg16
    """
    network = _network(model, arch, classes, seed)
    with _stopping(output):
        report = evaluate_network(
            network,
            root,
            blurs=blurs,
            scales=[_integers("--scales", [entry.replace("+", ",")]) for entry in _words(scales)],
            crops=crops,  # type: ignore[arg-type]  # checked there, like the other choices
            crop=crop,
            average=average,  # type: ignore[arg-type]
            canonical_side=canonical_side,
            mean=_floats("--mean", mean) if mean else None,
            std=_floats("--std", std) if std else None,
            limit=limit,
            on_error=on_error,  # type: ignore[arg-type]
            batch_size=batch_size,
            workers=workers,
            device=device,
            seed=seed,
            output=output,
            progress=progress,
        )
    typer.echo(report)
    if output is not None:
        typer.echo(f"\nKept in {output}. As a page: blurlib report {output} --html {output / 'report.html'}")


@app.command()
def finetune(
    model: Model,
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with images in train/CLASS.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="For the weights, checkpoints and the log."),
    ],
    blur: Annotated[
        str, typer.Option(metavar="MIX", help="Equal shares, or stated ones: 0.2 sharp + 0.8 shake.")
    ] = "sharp + D2 + D4 + D6 + D8",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    arch: Arch = None,
    classes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Outputs of the network. Where its weights have others, the last layer starts anew.",
        ),
    ] = None,
    epochs: Annotated[
        list[str], typer.Option(metavar="N,N", help="Of each phase.", rich_help_panel=_TRAINING)
    ] = _EPOCHS,
    lr: Annotated[
        list[str], typer.Option(metavar="X,X", help="Learning rate of each phase.", rich_help_panel=_TRAINING)
    ] = _RATES,
    momentum: Annotated[float, typer.Option(metavar="X", help="Of SGD.", rich_help_panel=_TRAINING)] = 0.9,
    weight_decay: Annotated[
        float, typer.Option(metavar="X", help="Of SGD.", rich_help_panel=_TRAINING)
    ] = 0.0,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Images in a batch, over all GPUs.", rich_help_panel=_TRAINING)
    ] = 128,
    hflip: Annotated[
        float, typer.Option(metavar="X", help="Probability of a mirror image.", rich_help_panel=_TRAINING)
    ] = 0.0,
    trainable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERNS",
            help="Parameters to train by name, with * for any text.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    batch_norm: Annotated[
        str, typer.Option(metavar="train|eval", help="eval keeps its statistics.", rich_help_panel=_TRAINING)
    ] = "train",
    amp: Annotated[
        bool | None,
        typer.Option("--amp/--no-amp", help="Half precision. Default: on GPUs.", rich_help_panel=_TRAINING),
    ] = None,
    network_side: Annotated[
        list[str],
        typer.Option(
            metavar="N,N", help="Shorter side in px; of several, one for each image.", rich_help_panel=_SHOWN
        ),
    ] = _SIDE,
    crop: Annotated[
        int, typer.Option(metavar="N", help="Side of the random crop in px.", rich_help_panel=_SHOWN)
    ] = 224,
    canonical_side: CanonicalSide = 384,
    jitter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,N,N",
            help="Shorter sides in px before the blur. Default: 356,384,410 at 384.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    on_error: OnError = "raise",
    workers: Workers = None,
    device: Device = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of everything that is drawn.", rich_help_panel=_RUNNING)
    ] = 0,
    progress: Progress = True,
) -> None:
    r"""Train a network on a mix of sharp and blurred images, so that it recognises both.

    The schedule is the paper's, for ImageNet. Smaller data want higher rates or more epochs.

    For example:

        blurlib finetune vgg16 imagenet --output runs/mix
        blurlib finetune resnet18 pets --classes 37 --epochs 4,2 \
            --lr 1e-2,1e-3 --blur "0.2 sharp + 0.8 shake" --output runs/pets
        torchrun --nproc-per-node 4 -m blurlib finetune vgg16 imagenet \
            --output runs/mix
    """
    network = _network(model, arch, classes, seed)
    sides = _integers("--network-side", network_side)
    with _stopping(output):
        result = finetune_network(
            network,
            root,
            blur=blur,
            epochs=_integers("--epochs", epochs),
            lr=_floats("--lr", lr),
            momentum=momentum,
            weight_decay=weight_decay,
            batch_size=batch_size,
            hflip=hflip,
            network_side=sides[0] if len(sides) == 1 else sides,
            crop=crop,
            canonical_side=canonical_side,
            jitter=_integers("--jitter", jitter) if jitter else None,
            mean=_floats("--mean", mean) if mean else None,
            std=_floats("--std", std) if std else None,
            trainable=_words(trainable) if trainable else None,
            batch_norm=batch_norm,  # type: ignore[arg-type]  # checked there, like the other choices
            amp=amp,
            limit=limit,
            on_error=on_error,  # type: ignore[arg-type]
            workers=workers,
            device=device,
            seed=seed,
            output=output,
            resume=resume,
            progress=progress,
        )
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks
        return
    for row in result.history:
        typer.echo(
            f"epoch {row['epoch']}: lr {row['lr']:g}, loss {row['loss']:.3f}, "
            f"top-1 {100 * row['top1']:.1f} %, {row['images']} images"
            + (f", {row['skipped']} skipped" if row["skipped"] else "")
        )
    hint = f"--arch {arch or model}" + (f" --classes {classes}" if classes else "")
    typer.echo(f"\nKept in {output}. To evaluate: blurlib evaluate {output / 'model.pt'} {root} {hint}")


def _words(given: Sequence[str]) -> list[str]:
    """Repeated options and lists with commas alike."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _integers(name: str, given: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(given))
    except ValueError:
        raise ValueError(f"`{name}` must be whole numbers with commas, got {','.join(given)!r}") from None


def _floats(name: str, given: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(given))
    except ValueError:
        raise ValueError(f"`{name}` must be numbers with commas, got {','.join(given)!r}") from None


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
    after = BlurReport.load(report)
    original = None if before is None else BlurReport.load(before)
    other = None if control is None else BlurReport.load(control)
    shown = after if original is None else after.compare(original, control=other)
    typer.echo(shown)
    if markdown is not None:
        shown.to_markdown(markdown)
        typer.echo(f"\nWrote {markdown}")
    if html is not None:
        after.to_html(html, before=original, control=other)
        typer.echo(f"\nWrote {html}; open it in a browser")


# --- networks by name


def _network(name: str, arch: str | None, classes: int | None, seed: int) -> nn.Module:
    """The network that MODEL, --arch and --classes describe."""
    path = Path(name)
    if path.suffix in (".pt", ".pth"):
        if arch is None:
            raise ValueError(f"`--arch` must say whose weights {name} holds, for example --arch resnet18")
        return _loaded(_built(arch, classes, pretrained=False), path, arch)
    if arch is not None:
        raise ValueError(f"`--arch` must come with a file of weights (.pt), got MODEL {name!r}; leave it out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(name, classes, pretrained=True)


def _built(name: str, classes: int | None, *, pretrained: bool) -> nn.Module:
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        timm = importlib.import_module("timm")  # its absence is an error with a text of its own
        outputs = {} if classes is None else {"num_classes": classes}
        network: nn.Module = timm.create_model(rest, pretrained=pretrained, **outputs)
        return network
    if rest:
        if classes is not None:
            raise ValueError(f"`--classes` must be left out with a function of yours, got MODEL {name!r}")
        return _called(kind, rest)
    return _torchvision(name, classes, pretrained=pretrained)


def _called(module: str, function: str) -> nn.Module:
    """What a function of the user's returns; modules of the working folder are found, as with `python -m`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        build = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(
            f"`MODEL` names the module {module!r}, which is not here; look at its spelling"
        ) from None
    except AttributeError:
        raise ValueError(f"`MODEL` names {function!r}, which is not in the module {module!r}") from None
    network = build if isinstance(build, nn.Module) else build()
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"`MODEL` must return a torch.nn.Module, got {type(network).__name__} from {module}:{function}"
        )
    return network


def _torchvision(name: str, classes: int | None, *, pretrained: bool) -> nn.Module:
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        raise ValueError(
            "`MODEL` must be a classifier of torchvision, timm:NAME, a .pt file or module:function, "
            f"got {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        )
    weights = models.get_model_weights(name).DEFAULT if pretrained else None
    if weights is None or classes is None or classes == len(weights.meta["categories"]):
        outputs = {} if classes is None else {"num_classes": classes}
        network: nn.Module = models.get_model(name, weights=weights, **outputs)
        return network
    network = models.get_model(name, weights=None, num_classes=classes)
    own, state = network.state_dict(), weights.get_state_dict(progress=True)
    fits = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    network.load_state_dict({**own, **fits})
    _say(f"note: {name} gets {classes} outputs; new, not trained yet: {', '.join(sorted(own.keys() - fits))}")
    return network


def _loaded(network: nn.Module, path: Path, arch: str) -> nn.Module:
    """The network with the weights of a file: a state dict, or a checkpoint of `finetune`."""
    if not path.is_file():
        raise FileNotFoundError(f"`MODEL` must be a file of weights, there is no {str(path)!r}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever the bytes lead to
        raise ValueError(
            f"`MODEL` must be a state dict that loads with weights_only=True, got {str(path)!r} "
            f"({_line(error).split('. ')[0]}); save model.state_dict()"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).split("\n\t")[1:2] or [_line(error)]
        raise ValueError(
            f"`--arch` {arch} must fit the weights in {str(path)!r}, but {reason[0].strip()} "
            "(--classes N sets the number of outputs)"
        ) from error
    return network
