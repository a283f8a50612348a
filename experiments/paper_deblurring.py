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
from blurlib import metrics
from blurlib.deblurring import DeblurThenClassify, richardson_lucy, wiener
from blurlib.paper import ReproducedTable, Run, Training
from blurlib.reporting import Report, markdown_table, percent, points, with_interval

IMAGES, FEW = 200, 100  # ten a class; five a class for EPLL
SIDE = 128
BASE, MIX = "Original on blurred (D8)", "FT-Mix on blurred (D8)"
ASSUMED = ("D6", "D7", "D8", "D9", "D10")
# Settings that rely less on the assumed kernel than the defaults.
CAREFUL: dict[str, Callable[..., Tensor]] = {
    "wiener-0.003": partial(wiener, noise=0.003),
    "wiener-0.01": partial(wiener, noise=0.01),
    "richardson_lucy-20": partial(richardson_lucy, steps=20),
}
NAMES = {
    "wiener": "Wiener",
    "wiener-0.003": "Wiener, noise 0.003",
    "wiener-0.01": "Wiener, noise 0.01",
    "richardson_lucy": "Richardson-Lucy, 200 steps",
    "richardson_lucy-20": "Richardson-Lucy, 20 steps",
    "epll": "EPLL",
}


def further(run: Run, records: Path, *, seeds: Sequence[int], colours: dict[str, Any]) -> None:
    """Evaluate what table 5 does not have; records that exist are not measured again.

    The original network after the careful methods; after the Wiener filter the control, which was trained on
    sharp photographs for as long as the mix, and the network of the mix itself.
    """
    listing = run.validation.limited(IMAGES)
    tuned = {name: Training(mix=name, sides=(256,)) for name in ("sharp", "defocus")}
    tasks: list[tuple[str, Training, int, str, str]] = []
    for assumed in ASSUMED:
        tasks += [(f"{name}-{assumed}", Training(), 0, name, assumed) for name in CAREFUL]
        for seed in seeds:
            pairs = [("defocus", "wiener"), ("defocus", "wiener-0.01")]
            pairs += [("sharp", "wiener")] if assumed == "D8" else []
            for mix, name in pairs:
                tasks.append(
                    (f"{mix}-deblurred-{name}-{assumed}/seed{seed}", tuned[mix], seed, name, assumed)
                )
    shown: dict[str, Any] = {"scales": run.settings.side, "crop": run.settings.crop, "workers": 1}
    for folder, training, seed, name, assumed in tasks:
        place = records / "deblurring" / folder
        if (place / "report.json").exists():
            continue
        network, method = run.network(training, seed), CAREFUL.get(name, name)
        deblurring = DeblurThenClassify(network, method, assumed, **colours)
        report = blurlib.evaluate(deblurring, listing, blurs="D8", **shown)
        report.save(place)
        print(folder, f"{report['D8'].top1:.3f}", flush=True)


def tables(records: Path) -> None:
    """The tables of the docs, from the records."""
    for name, content in (
        ("paper-table5", lambda: methods(records)),
        ("paper-table5-wrong", lambda: wrong_kernel(records)),
    ):
        folder = records.parent / name
        folder.mkdir(exist_ok=True)
        (folder / "table.md").write_text(content() + "\n", encoding="utf-8")


def reports(place: Path) -> list[Report]:
    """A network's evaluations, one a seed."""
    return [Report.load(folder) for folder in sorted(place.glob("seed*")) or [place]]


def correct(found: Sequence[Report], blur: str, ids: np.ndarray, *, top: int = 1) -> np.ndarray:
    """Whether each of the images was recognised, mean over the seeds."""
    values = []
    for report in found:
        images = report[blur, SIDE].images
        assert images is not None
        right = images.correct if top == 1 else images.correct5
        values.append(right[np.isin(images.ids, ids)])
    return np.mean(values, axis=0)


def methods(records: Path) -> str:
    """Top-1, top-5 and time of every network, of ten images a class, and of fewer with EPLL."""
    parts = []
    for item, count, slow in (("table5", IMAGES, ()), ("table5-epll", FEW, ("epll",))):
        table = ReproducedTable.load(records / f"{item}.json")
        assert table.settings["images"] == count
        seconds = {cell.row: cell.seconds for cell in table.cells}
        # Of each row where it is recorded, under which blur, and which row of the table takes as long.
        rows: dict[str, tuple[Path, str, str]] = {}
        for row, network, blur in (
            ("Original on sharp", "original", "sharp"),
            (BASE, "original", "D8"),
            *(
                (
                    f"Original on deblurred ({NAMES[name].partition(',')[0]})",
                    f"original-deblurred-{name}-D8-{count}",
                    "D8",
                )
                for name in (*slow, "wiener", "richardson_lucy")
            ),
            (MIX, "defocus-128", "D8"),
            ("FT-D8 on blurred (D8)", "only-D8-128", "D8"),
            ("Sharp only (control) on blurred (D8)", "sharp-128", "D8"),
        ):
            rows[row] = (records / "mixes" / network, blur, row)
        if count == IMAGES:
            filtered = "Original on deblurred (Wiener)"
            for name, mix in (("Sharp only (control)", "sharp"), ("FT-Mix", "defocus")):
                place = records / "deblurring" / f"{mix}-deblurred-wiener-D8"
                rows[f"{name} on deblurred (Wiener)"] = (place, "D8", filtered)
        (reference,) = reports(records / "mixes" / f"original-deblurred-wiener-D8-{count}")
        ids = reference.records[0].images.ids
        values = {row: correct(reports(place), blur, ids) for row, (place, blur, _) in rows.items()}
        samples = dict(zip(values, metrics.means(np.stack(list(values.values()), axis=1)).T, strict=True))
        lines = []
        for row, each in values.items():
            line = [row, with_interval(each.mean(), metrics.interval(samples[row]), percent)]
            for other in (BASE, MIX):
                change = with_interval(
                    each.mean() - values[other].mean(),
                    metrics.interval(samples[row] - samples[other]),
                    points,
                )
                line.append("-" if other == row else change)
            place, blur, twin = rows[row]
            top5 = correct(reports(place), blur, ids, top=5).mean()
            lines.append([*line, percent(top5), f"{seconds[twin]:.2g}"])
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


def wrong_kernel(records: Path) -> str:
    """Top-1 under D8 where a method assumes another disk, of the original and of the network of the mix."""
    rows = []
    methods = [name for name in NAMES if name != "epll"]
    for network, name in (
        *(("original", name) for name in methods),
        ("defocus", "wiener"),
        ("defocus", "wiener-0.01"),
    ):
        line = [NAMES[name] if network == "original" else f"{NAMES[name]}; FT-Mix"]
        for assumed in ASSUMED:
            place = records / "deblurring" / f"{network}-deblurred-{name}-{assumed}"
            if network == "original":
                place = records / "deblurring" / f"{name}-{assumed}"
                if name not in CAREFUL:
                    place = records / "mixes" / f"original-deblurred-{name}-{assumed}-{IMAGES}"
            found = reports(place)
            images = found[0]["D8"].images
            assert images is not None
            right = correct(found, "D8", images.ids)
            samples = metrics.means(right[:, None])
            line.append(with_interval(right.mean(), metrics.interval(samples[:, 0]), percent))
        rows.append(line)
    return markdown_table(["assumed blur", *ASSUMED], rows)
