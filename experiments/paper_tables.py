"""The patterns of the paper's tables on few real photographs, with a pretrained EfficientNet-Lite0.

The photographs are those of caltech20.py, ROOT/train/<class>/* and ROOT/val/<class>/*.

    python experiments/paper_tables.py run ROOT            everything; what is there is not done again
    python experiments/paper_tables.py run ROOT table3     one table
    python experiments/paper_tables.py table               the tables of the docs, from the records

Two networks take the part of the paper's VGG-16. For table 1 ImageNet's weights with a new last layer, fitted
to sharp photographs at the paper's 256; for the others, which fine-tune, all weights trained on sharp
photographs at 128, a quarter of the cost. Networks go to a folder outside the repository (`--work`), records
to experiments/results/paper.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import blurlib
import paper_deblurring
import paper_features
from blurlib import metrics
from blurlib.paper import ClassificationSettings, ReproducedTable, Run, figure4, reproduce_table
from blurlib.reporting import (
    Report,
    compare,
    markdown_table,
    nats,
    percent,
    points,
    sides_text,
    with_interval,
)
from caltech20 import VIEW, pretrained

RECORDS = Path(__file__).parent / "results" / "paper"
COLOURS: dict[str, Any] = {"mean": VIEW["mean"], "std": VIEW["std"]}
# As in caltech20.py, where the rates were chosen.
SHARP = {"epochs": (3, 1), "lr": (1e-2, 1e-3), "batch_size": 32}
TUNE = {"epochs": (3, 1), "lr": (3e-3, 3e-4), "batch_size": 32}
SEEDS = (0, 1, 2)
MIXES = ClassificationSettings(side=128, crops="center", seeds=SEEDS, control=True, **TUNE, **COLOURS)
# Told the true blur, and disks one and two pixels too small and too large.
DEBLUR = tuple(f"{method}{assumed}" for method in ("wiener", "richardson_lucy")
               for assumed in ("", ":D6", ":D7", ":D9", ":D10"))  # fmt: skip
SETTINGS = {
    "scales": ClassificationSettings(crops="center", limit=200, **COLOURS),
    "mixes": MIXES,
    "deblurring": replace(MIXES, deblur=DEBLUR, deblur_limit=paper_deblurring.IMAGES),
    "epll": replace(MIXES, deblur=("epll", "wiener", "richardson_lucy"), deblur_limit=paper_deblurring.FEW),
}
FOLDERS = {"deblurring": "mixes", "epll": "mixes"}  # with whom networks and evaluations are shared
ITEMS = {
    "table1": ("table1", "scales"),
    "table3": ("table3", "mixes"),
    "table4": ("table4", "mixes"),
    "table2": ("table2", "mixes"),
    "table5": ("table5", "deblurring"),
    "table5-epll": ("table5", "epll"),
    "figure4": ("figure4", "mixes"),
}


def original(kind: str, root: Path, work: Path) -> Any:
    """The network that was trained on sharp photographs."""
    usual: dict[str, Any] = {
        "blur": "sharp",
        "output": work / f"original-{kind}",
        "resume": True,
        "workers": 1,
    }
    if kind == "scales":
        schedule = {**SHARP, "lr": (1e-1, 1e-2), "trainable": ["_fc.*"], "batch_norm": "eval"}
        return blurlib.finetune(
            pretrained(0), root, network_side=256, crop=224, **schedule, **usual, **COLOURS
        ).model
    return blurlib.finetune(
        pretrained(0), root, network_side=128, crop=112, **SHARP, **usual, **COLOURS
    ).model


def run(root: Path, items: list[str], work: Path) -> None:
    """Measure tables, and copy the records."""
    runs: dict[str, Run] = {}
    for name in items:
        item, kind = ITEMS[name]
        folder = FOLDERS.get(kind, kind)
        if kind not in runs:
            network = original(folder, root, work)
            runs[kind] = Run(network, root, settings=SETTINGS[kind], output=work / folder, workers=1)
        if item == "figure4":
            continue
        print(runs[kind].dry_run(item), flush=True)
        print(f"\n{item}: {reproduce_table(runs[kind], item)}\n", flush=True)
        RECORDS.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / folder / f"{item}.json", RECORDS / f"{name}.json")
        shutil.copytree(work / folder / "evaluations", RECORDS / folder, dirs_exist_ok=True)
        if name == "table5":
            paper_deblurring.further(runs[kind], RECORDS, seeds=SEEDS, colours=COLOURS)
    if "figure4" in items:
        paper_features.measure(runs["mixes"], RECORDS, seeds=SEEDS, colours=COLOURS)
        print("maps:", figure4(runs["mixes"], layers=paper_features.LAYERS))


def tables() -> None:
    """Markdown for the docs, from the records."""
    for path in sorted(RECORDS.glob("table*.json")):
        table = ReproducedTable.load(path)
        if table.item == "table5":
            continue
        place = RECORDS.parent / f"paper-{table.item}"
        place.mkdir(exist_ok=True)
        text = table.to_markdown().split("\n", 2)[2].lstrip()
        if table.item == "table1":
            text += f"\n{scales('top1')}\n\n{scales('entropy')}\n"
        if table.item == "table4":
            text += f"\n{top1_at_scales(table)}\n"
        if table.item == "table3":
            text += f"\n{matrix('top1')}\n\n{matrix('difference')}\n"
        text = text.replace("\n## ", "\n### ")  # below the page's own headings
        (place / "table.md").write_text(text, encoding="utf-8")
    paper_deblurring.tables(RECORDS)
    paper_features.tables(RECORDS)


def top1_at_scales(table: ReproducedTable) -> str:
    """Table 4 with top-1: each network, and the change from the original at the same sides, paired."""
    folder, blurs = RECORDS / "mixes", ("sharp", "D4", "D8")
    cells = dict.fromkeys((cell.row, cell.network, cell.sides) for cell in table.cells)

    def values(network: str, sides: tuple[int, ...]) -> np.ndarray:
        places = [folder / network] if network == "original" else sorted((folder / network).glob("seed*"))
        reports = [Report.load(place) for place in places]
        return np.mean([[report[blur, sides].images.correct for blur in blurs] for report in reports], axis=0)

    rows = []
    for name, network, sides in cells:
        found = values(network, sides)
        ends = metrics.means(found.T)
        line = [with_interval(found[n].mean(), metrics.interval(ends[:, n]), percent) for n in range(3)]
        if network == "original":
            line += ["-"] * 3
        else:
            change = found - values("original", sides)
            ends = metrics.means(change.T)
            line += [with_interval(change[n].mean(), metrics.interval(ends[:, n]), points) for n in range(3)]
        rows.append([name, *line])
    header = ["", *blurs, *(f"{blur}: change" for blur in blurs)]
    return f"## Top-1 in percent, and its change from the original\n\n{markdown_table(header, rows)}"


def scales(content: str) -> str:
    """Top-1 or entropy of the original network under each blur at each scale, with intervals."""
    report = Report.load(RECORDS / "scales" / "original")
    settings = list(dict.fromkeys(record.sides for record in report.records))
    values = {
        (record.blur, record.sides): getattr(record.images, {"top1": "correct"}.get(content, content))
        for record in report.records
    }
    samples = metrics.means(np.stack(list(values.values()), axis=1).astype(float))
    style = percent if content == "top1" else nats
    rows = []
    for blur in report.blurs:
        line = [blur]
        for sides in settings:
            ends = metrics.interval(samples[:, list(values).index((blur, sides))])
            line.append(with_interval(float(values[blur, sides].mean()), ends, style))
        rows.append(line)
    title = {"top1": "## Top-1 in percent", "entropy": "## Entropy in nats"}[content]
    return f"{title}\n\n{markdown_table(['blur', *map(sides_text, settings)], rows)}"


COLUMNS = {"D4": "sharp & D4", "defocus": "sharp & D2,D4,D6,D8", "D8": "sharp & D8", "only-D8": "only D8",
           "shake": "sharp & shake"}  # fmt: skip


def matrix(content: str) -> str:
    """How far each mix reaches: top-1 under each test blur, or what it gained on the control."""
    folder = RECORDS / "mixes"
    reports = {
        name: [Report.load(place) for place in sorted((folder / f"{name}-128").glob("seed*"))]
        for name in ("sharp", *COLUMNS)
    }
    before = Report.load(folder / "original")
    compared = {name: compare(reports[name], before, control=reports["sharp"]) for name in COLUMNS}
    header = ["tested under", *(["original", "control"] if content == "top1" else []), *COLUMNS.values()]
    rows = []
    for blur in ("sharp", "D4", "D8", "shake", "H8"):
        found = {name: compared[name][blur].top1 for name in COLUMNS}
        line = [blur]
        if content == "top1":
            first = next(iter(found.values()))
            line += [percent(first.before), percent(first.control or 0.0)]
            line += [percent(change.after) for change in found.values()]
        else:
            line += [
                with_interval(change.difference, change.difference_interval, points)
                for change in found.values()
            ]
        rows.append(line)
    title = {
        "top1": "## Top-1 in percent, mean of three seeds",
        "difference": "## Top-1 minus the control's, in points, with paired 95 % intervals over images",
    }[content]
    return f"{title}\n\n{markdown_table(header, rows)}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("items", nargs="*", choices=[*ITEMS, []])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "blurlib-paper")
    arguments = parser.parse_args()
    if arguments.command == "table":
        tables()
        return
    if arguments.root is None:
        parser.error("name the folder with train and val")
    run(arguments.root, arguments.items or list(ITEMS), arguments.work)


if __name__ == "__main__":
    main()
