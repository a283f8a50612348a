"""Copies of photographs under five sizes of defocus: `blurlib.data.corrupt`, and ImageNet-C's way.

    pip install --no-deps imagecorruptions==1.1.2
    python benchmarks/corrupt.py                       writes results/corrupt.json, ten minutes
    python benchmarks/corrupt.py --photographs 200     two minutes

ImageNet-C's way is that of its script: for each size a DataLoader over the folder, torchvision's Resize(256)
and CenterCrop(224), the corruption, JPEG of quality 85, optimised; the corruption is that of imagecorruptions
(defocus_blur, severities 1 to 5: radii 3, 4, 6, 8 and 10 px). Each job in new processes, in turns, twice,
with a loader process for each core. The photographs of `pipeline.py`, 500 x 375 px, each crop another.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import timing
from blurlib.blurs import Sharp
from blurlib.data import corrupt, open_images
from blurlib.notation import parse_list
from blurlib.protocol import Protocol, evaluation_views
from pipeline import photographs

BLURS = "D3, D4, D6, D8, D10"
ROUNDS = 2
# What each job makes of a photograph; the canonical side of 224 gives a blur the size that ImageNet-C's has.
JOBS: dict[str, dict[str, Any] | None] = {
    "ImageNet-C's way: 224 x 224, JPEG 85": None,
    "blurlib: shorter side 224, JPEG 85": {"canonical_side": 224, "encoding": "jpeg", "quality": 85},
    "blurlib: shorter side 384, JPEG 85": {"encoding": "jpeg", "quality": 85},
    "blurlib: shorter side 384, PNG": {},
}
REFERENCE = next(iter(JOBS))
# What a network sees of other copies than PNG at the canonical size, against what it sees of the sources.
DIFFERENT: dict[str, dict[str, Any]] = {
    "JPEG, quality 95": {"encoding": "jpeg", "quality": 95},
    "JPEG, quality 85": {"encoding": "jpeg", "quality": 85},
    "original size, PNG": {"size": "original"},
}
COMPARED = "sharp, D2, D4, D8, shake"


def write_photographs(root: Path, count: int) -> None:
    """Into ten classes."""
    for number, content in enumerate(photographs(count)):
        path = root / "val" / f"c{number % 10}" / f"{number:06d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Distorted(Dataset[int]):
    """Writes a copy of each photograph, as ImageNet-C's script does."""

    def __init__(self, root: Path, target: Path, severity: int) -> None:
        self.paths = sorted(root.glob("val/*/*.JPEG"))
        self.target, self.severity = target / "defocus_blur" / str(severity), severity
        self.resize = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> int:
        from imagecorruptions.corruptions import defocus_blur

        path = self.paths[number]
        with Image.open(path) as image:
            view = self.resize(image.convert("RGB"))
        target = self.target / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = np.uint8(defocus_blur(view, self.severity))
        Image.fromarray(copy).save(target, quality=85, optimize=True)
        return 0


def distort(root: Path, target: Path, workers: int) -> None:
    """All severities, each a pass over the photographs."""
    # Two modules that imagecorruptions imports are gone; its defocus needs neither.
    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(resource_filename=None))  # type: ignore[arg-type]  # see above
    sys.modules.setdefault("scipy.ndimage.interpolation", scipy.ndimage)
    import imagecorruptions.corruptions  # noqa: F401  once, before the processes

    for severity in range(1, 6):
        for _ in DataLoader(Distorted(root, target, severity), batch_size=100, num_workers=workers):
            pass


def run_job(job: str, root: Path) -> None:
    """In this process: prints seconds and CPU seconds."""
    torch.set_num_threads(1)
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "copies"
        options = JOBS[job]
        start, before = time.perf_counter(), _cpu()
        if options is None:
            distort(root, target, workers)
        else:
            corrupt(root, target, blurs=BLURS, workers=workers, progress=False, **options)
        found = {"seconds": time.perf_counter() - start, "cpu_seconds": _cpu() - before}
        files = [path for path in target.rglob("*") if path.suffix.lower() in (".jpeg", ".png")]
        found |= {"copies": len(files), "mb": sum(path.stat().st_size for path in files) / 1e6}
    print(json.dumps(found))


def differences(root: Path, count: int) -> list[dict[str, object]]:
    """Mean absolute difference of views at side 256, in grey levels, by copies and blur."""
    protocol, rows = Protocol(), []
    sources = open_images(root, split="val", limit=count)
    blurs = parse_list(COMPARED)
    for copies, options in {"PNG": {}, **DIFFERENT}.items():
        row: dict[str, object] = {"copies": copies}
        with tempfile.TemporaryDirectory() as folder:
            places = corrupt(root, Path(folder) / "copies", blurs=blurs, progress=False, **options)
            for blur in blurs:
                found = open_images(places[str(blur)], split="val", limit=count)
                total = 0.0
                for position in range(count):
                    own = blur.of_image(int(sources.index[position]))
                    pair = zip((sources, found), (own, Sharp()), strict=True)
                    one, two = (
                        evaluation_views(listing.load(position)[0], [each], protocol=protocol)[0, 256].float()
                        for listing, each in pair
                    )
                    total += float((one - two).abs().mean())
                row[str(blur)] = round(total / count, 3)
        rows.append(row)
    return rows


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(job: str, root: Path) -> dict[str, float]:
    """What a new process finds."""
    command = [sys.executable, __file__, "--job", job, "--root", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--photographs", type=int, default=1000, metavar="N")
    parser.add_argument("--job", choices=JOBS, help="run this one alone, in this process")
    parser.add_argument("--root", type=Path, help="the photographs of --job")
    given = parser.parse_args()
    if given.job:
        run_job(given.job, given.root)
        return
    record = timing.environment()
    record["versions"]["imagecorruptions"] = version("imagecorruptions")
    found: dict[str, list[dict[str, float]]] = {job: [] for job in JOBS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        write_photographs(root, given.photographs)
        few = Path(folder) / "few"
        write_photographs(few, 24)
        apart = differences(few, 24)
        for _ in range(ROUNDS):
            for job in JOBS:
                found[job].append(measured(job, root))
                print(job, found[job][-1], flush=True)
    rows = [_row(job, runs, found[REFERENCE], given.photographs) for job, runs in found.items()]
    for row in rows:
        print(row)
    record |= {"photographs": given.photographs, "blurs": BLURS, "workers": os.cpu_count(), "rounds": ROUNDS}
    print("written:", timing.write("corrupt", {**record, "rows": rows, "differences": apart}))


def _row(
    job: str, runs: list[dict[str, float]], reference: list[dict[str, float]], count: int
) -> dict[str, object]:
    """Medians, and the reference's over them."""

    def median(rows: list[dict[str, float]], name: str) -> float:
        return statistics.median(each[name] for each in rows)

    row: dict[str, object] = {"job": job}
    for name in ("seconds", "cpu_seconds"):
        row[name] = round(median(runs, name), 2)
        row[f"{name}_each"] = [round(each[name], 2) for each in runs]
        row[f"{name}_ratio"] = round(median(reference, name) / median(runs, name), 2)
    row["cpu_ms_a_copy"] = round(1000 * median(runs, "cpu_seconds") / (5 * count), 2)
    return {**row, "copies": int(runs[0]["copies"]), "mb": round(runs[0]["mb"], 1)}


if __name__ == "__main__":
    main()
