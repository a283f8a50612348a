"""Deblurring against fine-tuning (the paper's table 5), with wrong kernels too: records and tables.

Run by paper_tables.py, with its networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import blurlib
from blurlib import bootstrap
from blurlib.data import class_balanced
from blurlib.deblurring import DeblurThenClassify, richardson_lucy, wiener
from blurlib.outcomes import OutcomeTable
from blurlib.records import BlurReport
from blurlib.reproduction import Run
from blurlib.tables import markdown_table, percent, points, with_interval

IMAGES, FEW = 200, 100  # ten a class; five a class for EPLL
SIDE = 128
TOLD = ("D6", "D7", "D8", "D9", "D10")
# Beside the methods as they come, those that trust what they are told less.
CAREFUL: dict[str, Callable[..., Tensor]] = {
    "wiener-0.003": partial(wiener, noise=0.003),
    "wiener-0.01": partial(wiener, noise=0.01),
    "richardson_lucy-20": partial(richardson_lucy, steps=20),
}
NAMES = {
    "wiener": "Wiener",
    "wiener-0.003": "Wiener, told noise of 0.003",
    "wiener-0.01": "Wiener, told noise of 0.01",
    "richardson_lucy": "Richardson-Lucy, 200 steps",
    "richardson_lucy-20": "Richardson-Lucy, 20 steps",
    "epll": "EPLL",
}


def careful(run: Run, records: Path, *, colours: dict[str, Any]) -> None:
    """Evaluate the original network behind the careful methods; what is there is not done again."""
    listing = run.validation.subset(class_balanced(run.validation.labels, IMAGES))
    for name, method in CAREFUL.items():
        for told in TOLD:
            place = records / "deblurring" / f"{name}-{told}"
            if (place / "report.json").exists():
                continue
            behind = DeblurThenClassify(run.model, method, told, **colours)
            shown: dict[str, Any] = {"scales": run.settings.side, "crop": run.settings.crop, "workers": 1}
            report = blurlib.evaluate(behind, listing, blurs="D8", **shown)
            report.save(place)
            print(name, told, f"{report['D8'].top1:.3f}", flush=True)


def tables(records: Path) -> None:
    """The tables of the docs, from the records."""
    for name, content in (
        ("paper-table5", lambda: methods(records)),
        ("paper-table5-wrong", lambda: told_wrong(records)),
    ):
        folder = records.parent / name
        folder.mkdir(exist_ok=True)
        (folder / "table.md").write_text(content() + "\n", encoding="utf-8")


def reports(folder: Path, network: str) -> list[BlurReport]:
    """A network's evaluations, one a seed."""
    seeds = sorted((folder / network).glob("seed*"))
    return [BlurReport.load(place) for place in seeds or [folder / network]]


def correct(found: Sequence[BlurReport], blur: str, ids: np.ndarray) -> np.ndarray:
    """Whether each of the images was recognised, mean over the seeds."""
    values = []
    for report in found:
        images = report[blur, SIDE].images
        assert images is not None
        values.append(images.correct[np.isin(images.ids, ids)])
    return np.mean(values, axis=0)


def methods(records: Path) -> str:
    """Top-1, top-5 and time of every network, of ten images a class, and of fewer with EPLL."""
    parts = []
    for item, count, behind in (("table5", IMAGES, ()), ("table5-epll", FEW, ("epll",))):
        table = OutcomeTable.load(records / f"{item}.json")
        assert table.settings["images"] == count
        folder = records / "mixes"
        shown = [*behind, "wiener", "richardson_lucy"]
        reference = reports(folder, f"original-behind-wiener-D8-{count}")
        ids = reference[0].records[0].images.ids
        rows = {
            "Original on sharp": ("original", "sharp"),
            "Original on blurred (D8)": ("original", "D8"),
            **{
                f"Original on deblurred ({NAMES[name].partition(',')[0]})": (
                    f"original-behind-{name}-D8-{count}",
                    "D8",
                )
                for name in shown
            },
            "FT-Mix on blurred (D8)": ("defocus-128", "D8"),
            "FT-D8 on blurred (D8)": ("only-D8-128", "D8"),
        }
        values = {row: correct(reports(folder, name), blur, ids) for row, (name, blur) in rows.items()}
        samples = dict(zip(values, bootstrap.means(np.stack(list(values.values()), axis=1)).T, strict=True))
        base, mix = "Original on blurred (D8)", "FT-Mix on blurred (D8)"
        lines = []
        for row, each in values.items():
            line = [row, with_interval(each.mean(), bootstrap.interval(samples[row]), percent)]
            for other in (base, mix):
                change = with_interval(
                    each.mean() - values[other].mean(),
                    bootstrap.interval(samples[row] - samples[other]),
                    points,
                )
                line.append("-" if other == row else change)
            (cell,) = (cell for cell in table.outcomes if cell.row == row)
            lines.append([*line, percent(cell.value), f"{cell.seconds:.2g}"])
        header = [
            "",
            "top-1 %",
            "minus the original on D8",
            "minus FT-Mix on D8",
            "top-5 %",
            "seconds an image",
        ]
        parts.append(f"{count} photographs:\n\n{markdown_table(header, lines)}")
    return "\n\n".join(parts)


def told_wrong(records: Path) -> str:
    """Top-1 under D8 where a method is told another disk."""
    rows = []
    for name in (name for name in NAMES if name != "epll"):
        line = [NAMES[name]]
        for told in TOLD:
            place = records / "mixes" / f"original-behind-{name}-{told}-{IMAGES}"
            if name in CAREFUL:
                place = records / "deblurring" / f"{name}-{told}"
            images = BlurReport.load(place)["D8"].images
            assert images is not None
            samples = bootstrap.means(images.correct[:, None].astype(float))
            line.append(with_interval(images.correct.mean(), bootstrap.interval(samples[:, 0]), percent))
        rows.append(line)
    return markdown_table(["told", *TOLD], rows)
