"""How much blur a network stands, before and after fine-tuning, and how close `blurlib.tolerance` comes.

    python experiments/tolerance.py run ROOT    # networks of experiments/caltech20.py, seed 0; a dense sweep
    python experiments/tolerance.py table       # the tables of the docs, from the records

ROOT is the folder of experiments/caltech20.py. The records lie in experiments/results/tolerance: the results
of both networks, and which photographs the original recognised at every size of a dense sweep.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import blurlib
import caltech20
from blurlib import Camera, Tolerance
from blurlib.metrics import ImageValues
from blurlib.reporting import Record, Report, markdown_table

RECORDS = Path(__file__).parent / "results" / "tolerance"
KINDS = ("defocus", "motion", "shake")
DENSE = {  # in two parts, since the crossing under motion lies at the end of the first
    "dense": [
        *(f"D{size:g}a" for size in np.arange(0.75, 8.1, 0.25)),
        *(f"L{size:g}@any" for size in np.arange(1.5, 16.1, 0.5)),
        *(f"shake@{size}" for size in range(5, 34, 2) if size != 17),
        "shake",
    ],
    "dense-motion": [f"L{size:g}@any" for size in np.arange(16.5, 24.1, 0.5)],
}
VIEW: dict[str, Any] = {"scales": 183, "workers": 1, **caltech20.VIEW}


def run(root: Path, work: Path) -> None:
    """Train as caltech20 does, measure both networks, and sweep the original's sizes densely."""
    sharp = caltech20.original(root, 0, work)
    mix = caltech20.fitted(
        sharp, root, blur=caltech20.MIX, schedule=caltech20.TUNE, seed=1000, work=work / "mix"
    )
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name, network in {"original": sharp, "mix": mix}.items():
        if not (RECORDS / f"{name}.json").exists():
            print(blurlib.tolerance(network, root, kinds=KINDS, output=work / f"tolerance-{name}", **VIEW))
            shutil.copy(work / f"tolerance-{name}" / "tolerance.json", RECORDS / f"{name}.json")
    parts = []
    for name, blurs in DENSE.items():
        if not (work / name / "report.json").exists():
            blurlib.evaluate(sharp, root, blurs=["sharp", *blurs], output=work / name, **VIEW)
        parts.append(Report.load(work / name))
    first, *others = parts
    records = [record for part in others for record in part.records if record.blur != "sharp"]
    write_dense(Report(records=(*first.records, *records), settings=first.settings), RECORDS / "dense.json")


def write_dense(report: Report, path: Path) -> None:
    """Which images were right under each blur, as hexadecimal digits of their bits."""
    images = {record.blur: record.images for record in report.records}
    first = images["sharp"]
    assert isinstance(first, ImageValues)
    right = {}
    for blur, each in images.items():
        assert isinstance(each, ImageValues)
        right[blur] = np.packbits(each.correct).tobytes().hex()
    plain = {"labels": first.label.tolist(), "right": right, "settings": dict(report.settings)}
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def read_dense(path: Path = RECORDS / "dense.json") -> Report:
    """The report of the sweep, as far as top-1 goes."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    label = np.array(plain["labels"])
    nothing = np.zeros(len(label))
    records = []
    for blur, digits in plain["right"].items():
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8))[: len(label)]
        images = ImageValues(
            ids=np.arange(len(label)).astype(str), label=label, correct=bits, correct5=bits,
            entropy=nothing, cross_entropy=nothing, confidence=nothing,
        )  # fmt: skip
        records.append(Record.of(images, blur=blur, sides=(183,)))
    return Report(records=tuple(records), settings=plain["settings"])


def chosen(report: Report, blurs: set[str], images: np.ndarray | None = None) -> Report:
    """Some of the conditions, of some of the images."""
    records = []
    for record in report.records:
        if record.blur in blurs:
            values = record.images
            assert values is not None
            values = values if images is None else values.only(images.astype(str))
            records.append(Record.of(values, blur=record.blur, sides=record.sides))
    return Report(records=tuple(records), settings=report.settings)


def checks(original: Tolerance, dense: Report) -> dict[str, Any]:
    """The result beside the dense sweep, and what halves of the images say.

    Halves are drawn 20 times; each is measured at the sizes that the whole was.
    """
    everything = Tolerance.from_report(dense, kinds=KINDS, target=original.target)
    asked = {"sharp"} | {blur for blur in original.settings["blurs"] if blur in dense.blurs}
    sparse = chosen(dense, asked)
    found: dict[str, Any] = {}
    generator = np.random.default_rng(0)
    count = dense.records[0].count
    halves = [generator.permutation(count)[: count // 2] for _ in range(20)]
    of_halves = [
        Tolerance.from_report(chosen(dense, asked, half), kinds=KINDS, target=original.target)
        for half in halves
    ]
    whole = Tolerance.from_report(sparse, kinds=KINDS, target=original.target)
    for kind in KINDS:
        exact, guess = everything[kind], whole[kind]
        inside = [
            (size, value)
            for size, value in zip(exact.sizes, exact.values, strict=True)
            if size not in guess.sizes and size <= guess.largest
        ]
        errors = [abs(guess.at(size) - value) for size, value in inside]
        lows = [half[kind].interval[0] for half in of_halves]
        assert exact.size is not None and guess.size is not None
        found[kind] = {
            "size": guess.size,
            "dense": exact.size,
            "median error of top-1": float(np.median(errors)),
            "largest error of top-1": max(errors),
            "sizes not measured": len(errors),
            "halves at or below": sum(low is not None and low <= guess.size for low in lows),
        }
    return found


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("root", type=Path)
    running.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "blurlib-tolerance")
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.root, arguments.work)
    else:
        table()


def table() -> None:
    """Write the tables of the page."""
    original, mix = (Tolerance.load(RECORDS / f"{name}.json") for name in ("original", "mix"))
    phone = Camera(
        focal_px=1440, image_side=1080, exposure_s=1 / 60, distance_m=2.0, focal_mm=4.3, f_number=1.8
    )
    header, rows = mix.cells(original, camera=phone)
    found = checks(original, read_dense())
    names = list(next(iter(found.values())))
    checked = [[kind, *(_text(name, each[name]) for name in names)] for kind, each in found.items()]
    before, after = original.settings["views"], mix.settings["views"]
    views = f"{before:,} views of the network for the original, {after:,} for the other"
    text = "\n\n".join(
        [
            markdown_table(header, rows),
            f"{mix.count} photographs; {views}.",
            markdown_table(["kind", *names], checked),
        ]
    )
    (RECORDS / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def _text(name: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value} of 20" if "halves" in name else str(value)
    return f"{100 * value:.1f} points" if "error" in name else f"{value:.2f} px"


if __name__ == "__main__":
    main()
