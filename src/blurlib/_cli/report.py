"""The command that shows a report, or compares two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..reporting import BlurReport, SegmentationReport, confidence_table, is_segmentation


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
