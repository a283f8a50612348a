"""The command that shows a report, or compares two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..reporting import Report, confidence_table
from .options import Json, echo, results


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
        bool,
        typer.Option("--confidence", help="Selective prediction too: accuracy with declining."),
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables.")] = None,
    json: Json = False,
) -> None:
    """Show a report that `blurlib evaluate --output` kept, or compare it with one from before.

    With BEFORE it prints the changes with confidence intervals and the recovered fraction of the loss.

    For example:

        blurlib report runs/original
        blurlib report runs/tuned runs/original --html tuned.html
        blurlib report runs/tuned runs/original --json > change.json
    """
    if control is not None and before is None:
        raise ValueError("`--control` must come with BEFORE, got no report of the network before")
    if json and confidence:
        raise ValueError("`--confidence` must be left out with --json: it is a table of text")
    after = Report.load(report)
    original = None if before is None else Report.load(before)
    other = None if control is None else Report.load(control)
    shown = after if original is None else after.compare(original, control=other)
    with results(json) as show:
        show(shown)
        if confidence and after.task != "classification":
            raise ValueError("`--confidence` must be left out for segmentation, whose reports count pixels")
        if confidence:
            echo(f"\n{confidence_table(after.records)}")
        if markdown is not None:
            shown.to_markdown(markdown)
            echo(f"\nWrote {markdown}")
        if html is not None:
            after.to_html(html, before=original, control=other)
            echo(f"\nWrote {html}; open it in a browser")
