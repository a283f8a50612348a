"""Judge `blurlib.gauge` on photographs that its training has not seen, beside two baselines.

    python experiments/gauge.py run ROOT FRAMES      # the records
    python experiments/gauge.py table                # the tables of the docs, from the records

ROOT is the folder of experiments/caltech20.py, whose validation split is used, FRAMES that of
experiments/camvid.py. Weights come from experiments/fit_gauge.py. Photographs are blurred and judged at
their own size, without enlarging; sizes are in px of the picture.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import blurlib
from blurlib import kernels
from blurlib._gauge._network import BLURS, CLASSES
from blurlib.reporting import markdown_table
from fit_gauge import TARGET, blurred, caltech_photographs, draw_kernel, draw_size, stored, training_sample

RECORDS = Path(__file__).parent / "results" / "gauge"
Row = dict[str, Any]


# -- Judging ------------------------------------------------------------------------------------------------


def judged(root: Path, frames: Path) -> Iterator[tuple[str, Path, int]]:
    """Set, picture, and how often it is blurred."""
    yield from (("photographs", path, 4) for path in sorted((root / "val").rglob("*.jpg")))
    yield from (("frames", path, 10) for path in sorted(frames.rglob("JPEGImages/*.jpg")))


def judge(name: str, path: Path, number: int) -> dict[str, Any]:
    """One picture under one blur of the test bank, with noise and JPEG; what is found, beside the truth."""
    rng = np.random.default_rng((2, _number(path), number))
    kind = CLASSES[rng.choice(5, p=(0.12, 0.24, 0.24, 0.24, 0.16))]
    array = np.asarray(Image.open(path).convert("RGB"), np.float32)
    size = 0.0
    if kind != "sharp":
        size = draw_size(kind, rng)
        array = blurred(array, draw_kernel(kind, size, rng, "test"), linear=False)
    picture = Image.fromarray(stored(array, rng, noise=2 / 3, jpeg=3 / 4))
    return {"set": name, "kind": kind, "size": size, **answer(picture), **scores(picture)}


#: What else is done to a photograph under a disk: another blur, and how cameras treat it.
OTHERS = ("a disk", "and a line", "in linear light", "sharpened", "in 32 levels", "in 32 levels, sharp")


def judge_other(name: str, path: Path) -> dict[str, Any]:
    """A photograph under a disk and something else, with JPEG: the truth is the radius, or both sizes."""
    rng = np.random.default_rng((3, _number(path)))
    array = np.asarray(Image.open(path).convert("RGB"), np.float32)
    size = float(np.exp(rng.uniform(np.log(2), np.log(12))))
    truth: dict[str, Any] = {"set": name, "kind": "defocus", "size": size}
    if name.endswith("sharp"):
        truth = {"set": name, "kind": "sharp", "size": 0.0}
    else:
        array = blurred(array, kernels.disk(size, antialias=True), linear=name == "in linear light")
    if name == "and a line":
        truth["length"] = float(np.exp(rng.uniform(np.log(4), np.log(32))))
        array = blurred(array, draw_kernel("motion", truth["length"], rng, "test"), linear=False)
    if name == "sharpened":
        array = array + 0.8 * (array - blurred(array, kernels.gaussian(1.0), linear=False))
    if name.startswith("in 32 levels"):
        array = array / 8
    return {**truth, **answer(Image.fromarray(stored(array, rng, noise=0, jpeg=1)))}


def _number(path: Path) -> int:
    return zlib.crc32(f"{path.parent.name}/{path.name}".encode())


def answer(picture: Image.Image) -> dict[str, Any]:
    """What the library says, in px of the picture."""
    found = blurlib.gauge(picture)
    scale = min(picture.size) / 384
    low, high = (None, None) if found.interval is None else (round(scale * end, 2) for end in found.interval)
    size = found.size_in_image
    return {"found": found.kind, "found size": size and round(size, 2), "low": low, "high": high}


def scores(picture: Image.Image) -> dict[str, float]:
    """What others take as a measure: variance of the Laplacian, and the gradient ratio of Crete et al."""
    from scipy.ndimage import laplace
    from skimage.measure import blur_effect

    grey = np.asarray(picture.convert("L"), np.float64)
    return {"laplacian": float(f"{laplace(grey).var():.4g}"), "effect": float(f"{blur_effect(grey):.4g}")}


def run(root: Path, frames: Path) -> None:
    """Judge, and write the records."""
    torch.set_num_threads(1)
    pictures = caltech_photographs(root, held=False)
    samples = (training_sample(pictures, [], index, 4) for index in range(4000))
    rows = [
        {
            "set": "calibration",
            "kind": sample.kind,
            "size": sample.size,
            **scores(Image.fromarray(sample.grey)),
        }
        for sample in samples
        if sample.kind in BLURS
    ]
    for name, path, times in judged(root, frames):
        rows += [judge(name, path, number) for number in range(times)]
    photographs = sorted((root / "val").rglob("*.jpg"))
    rows += [judge_other(name, path) for name in OTHERS for path in photographs[::2]]
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    columns["size"] = [round(size, 3) for size in columns["size"]]
    text = json.dumps({"columns": columns, "settings": environment()}, separators=(",", ":"))
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "judged.json").write_text(text.replace('],"', '],\n"') + "\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    """Versions, and the processor time of an estimate on one core."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (384, 512, 3), dtype=np.uint8))
    blurlib.gauge(picture)
    times = []
    for _ in range(30):
        started = time.process_time()
        blurlib.gauge(picture)
        times.append(1000 * (time.process_time() - started))
    return {
        "blurlib": blurlib.__version__, "torch": torch.__version__, "numpy": np.__version__,
        "milliseconds": round(float(np.median(times)), 1), "fastest": round(min(times), 1),
        "bytes": TARGET.stat().st_size,
    }  # fmt: skip


# -- Tables -------------------------------------------------------------------------------------------------

SETS = ("photographs", "frames")
BANDS = ((2, 3), (3, 6), (6, 12), (12, 24), (24, 66))


def table() -> None:
    """Write the tables of the page."""
    plain = json.loads((RECORDS / "judged.json").read_text(encoding="utf-8"))
    columns = plain["columns"]
    rows = [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    of = {name: [row for row in rows if row["set"] == name] for name in dict.fromkeys(columns["set"])}
    text = "\n\n".join(
        [
            summary(of),
            bands(of),
            others(of),
            "A picture of 384 x 512 px: {milliseconds} ms of one core (median), {fastest} ms (fastest). "
            "Weights: {bytes:,} bytes.".format(**plain["settings"]),
        ]
    )
    (RECORDS / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def summary(of: dict[str, list[Row]]) -> str:
    """A row for each set: errors, kinds, intervals, and the baselines, which are told the kind."""
    header = ["set", "pictures", "error of the size", "kind right", "sharp found sharp", "in the interval"]
    baselines = {"variance of the Laplacian": "laplacian", "gradient ratio": "effect"}
    calibrated = {
        (name, kind): calibration([r for r in of["calibration"] if r["kind"] == kind], name)
        for name in baselines.values()
        for kind in BLURS
    }
    cells = []
    for name in SETS:
        from_2, from_3 = ([row for row in of[name] if row["size"] >= least] for least in (2, 3))
        found = [row for row in from_2 if row["kind"] == row["found"]]
        cells.append(
            [
                name,
                str(len(of[name])),
                median_error(from_2, found_size),
                share(row["kind"] == row["found"] for row in from_3),
                share(row["found"] == "sharp" for row in of[name] if row["kind"] == "sharp"),
                share(row["low"] <= row["size"] <= row["high"] for row in found),
            ]
        )
        for score in baselines.values():
            told = {kind: calibrated[score, kind] for kind in BLURS}
            cells[-1].append(median_error(from_2, lambda row, s=score, t=told: t[row["kind"]](row[s])))
    return markdown_table([*header, *baselines], cells)


def bands(of: dict[str, list[Row]]) -> str:
    """Error and kind by size."""
    cells = []
    for name in SETS:
        for kind in BLURS:
            line = [name, kind]
            for low, high in BANDS:
                some = [row for row in of[name] if row["kind"] == kind and low <= row["size"] < high]
                right = share(row["found"] == kind for row in some) if some else ""
                line.append(f"{median_error(some, found_size)}, {right} of {len(some)}" if some else "-")
            cells.append(line)
    return markdown_table(["set", "kind", *(f"{low} to {high} px" for low, high in BANDS)], cells)


def others(of: dict[str, list[Row]]) -> str:
    """What is found under blurs that the network does not know, and in treated photographs."""
    cells = []
    for name in OTHERS:
        counts = [share(row["found"] == kind for row in of[name]) for kind in CLASSES]
        disks = [row for row in of[name] if row["found"] == row["kind"] == "defocus"]
        cells.append([name, *counts, median_error(disks, found_size) if disks else "-"])
    known = [row for row in of["and a line"] if row["found"] in ("motion", "defocus")]
    larger = share((row["length"] / 12**0.5 > row["size"] / 2) == (row["found"] == "motion") for row in known)
    return (
        markdown_table(["photographs", *CLASSES, "error of the radius"], cells)
        + f"\n\nOf two blurs, where defocus or motion is found, it is the larger one in {larger}."
    )


def calibration(rows: list[Row], name: str) -> Callable[[float], float]:
    """The median size of training pictures of one kind with such a score."""
    ordered = sorted(rows, key=lambda row: row[name])
    parts = [ordered[start : start + 40] for start in range(0, len(ordered), 40)]
    at = [float(np.median([row[name] for row in part])) for part in parts]
    sizes = [float(np.median([row["size"] for row in part])) for part in parts]
    return lambda score: float(np.interp(score, at, sizes))


def found_size(row: Row) -> float:
    """Nothing found is an error of 100 %."""
    return row["found size"] or 0.0


def median_error(rows: list[Row], size: Callable[[Row], float]) -> str:
    """Of the size, relative."""
    return f"{100 * np.median([abs(size(row) / row['size'] - 1) for row in rows]):.1f} %"


def share(cases: Iterable[bool]) -> str:
    """As a percentage."""
    return f"{100 * np.mean(list(cases)):.0f} %"


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("root", type=Path)
    running.add_argument("frames", type=Path)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.root, arguments.frames)
    else:
        table()


if __name__ == "__main__":
    main()
