"""The command line: one thin command a function. `blurlib --help` lists them.

Errors are one line on stderr and exit code 2, or 70 where blurlib did not foresee them; a stop by Ctrl-C is
exit code 130; `--debug` shows tracebacks.
"""

from __future__ import annotations

import io
import sys
import warnings
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .._common import interrupts
from .blur import blur
from .corrupt import corrupt
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .finetune import finetune
from .gauge import gauge
from .options import _warning, echo, echo_err, echo_error
from .report import report
from .reproduce import reproduce
from .show import show
from .tolerance import tolerance

_UNFORESEEN = 70  # EX_SOFTWARE of BSD's sysexits


class _Commands(TyperGroup):
    """The commands, with the library's errors as one line instead of a traceback."""

    # The contexts are Any: newer typers bring their own click.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # `blurlib blur ... --debug` is where people add it, though the option belongs to `blurlib` itself.
        return super().parse_args(ctx, sorted(args, key=lambda word: word != "--debug"))

    def invoke(self, ctx: Any) -> Any:
        try:
            interrupts.end()
            return super().invoke(ctx)
        except KeyboardInterrupt:
            echo_err("\nstopped")
            raise typer.Exit(130) from None
        except (ImportError, OSError, TypeError, ValueError) as error:
            if ctx.params["debug"]:
                raise
            echo_error(error)
            raise typer.Exit(2) from None
        except Exception as error:  # of torch, a network, or a mistake in the library
            if (
                ctx.params["debug"]
                or isinstance(error, (typer.Exit, typer.Abort))
                or hasattr(error, "exit_code")
            ):
                raise
            echo_error(error, unforeseen=True)
            raise typer.Exit(_UNFORESEEN) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
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


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"blurlib {metadata.version('blurlib')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Blur images as lenses, motion and camera shake do; measure the accuracy lost, and recover it.

    Blurs have short names: D8 is a defocus disk of radius 8 px, H8 and V8 are a horizontal and a vertical box
    of 8 px, L12@30 is a line of length 12 at 30 degrees, G4 a Gaussian of sigma 4, S17 camera shake (kernel
    17), shake a different camera shake for each image, and sharp none.

    For a start:

        blurlib doctor
        blurlib demo --out demo-output
        blurlib blur photo.jpg --blur D8 -o soft.png

    Exit codes: 0 done; 1 done in part, or `doctor` found the engine wrong; 2 an error, which is one line on
    stderr; 70 an error that blurlib did not foresee; 128 + signal stopped, 130 by Ctrl-C.
    """


for _command in (demo, blur, show, corrupt, gauge, evaluate, tolerance, finetune, reproduce, report, doctor):
    app.command()(_command)
