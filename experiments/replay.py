"""Whether a change of the code moved a number: a digest of everything that a few small runs measure.

    python experiments/replay.py BEFORE.json                          # some minutes on one core
    python experiments/replay.py AFTER.json --compare BEFORE.json     # names what differs, and ends with 1

The runs are commands of `blurlib`, on the photographs of the demo, on twenty of ROOT/caltech20 and on twenty
frames of ROOT/camvid-voc (`--data ROOT`). Digested are the numbers of each JSON and CSV file, one digest a
name, the arrays of each .npz and the weights of each model, but no version, date, duration or path.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# Names that have changed since the first digests, old to new: both are digested under the new one.
RENAMED = {
    "miou_band": "trimap_miou",
    "boundary_miou": "trimap_miou",
    "outcomes": "cells",
    "rims": "regions",
    "rim": "boundary_ratio",
    "side": "sides",
    **{f"iou {number}": f"class_iou {number}" for number in range(11)},
}
# Neither measured nor a setting; digests of files and weights are text and no numbers anyway.
LEFT_OUT = {"versions", "versions of blurlib and torch", "date", "seconds"}

VIEW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
RUNNING = ["--workers", "0", "--device", "cpu", "--no-progress"]
TRAINING = ["--epochs", "1,1", "--lr", "0.02,0.002", "--batch-size", "8", *VIEW, *RUNNING]
SMALL = [*TRAINING, "--seeds", "0,1", "--control", "--limit", "12", "--train-limit", "16"]


def commands(data: Path, out: Path) -> Iterator[list[str]]:
    """What is run, in this order."""
    photographs, frames = str(data / "caltech20"), str(data / "camvid-voc")
    classifier, segmenter = str(out / "tuned" / "model.pt"), str(out / "masks" / "model.pt")
    yield ["demo", "--seed", "0", "--quick", "--no-progress", "--out", f"{out}/demo"]
    yield [
        "finetune", "replay:classifier", photographs, "--limit", "32",
        "--blur", "0.4 sharp + 0.4 D4 + 0.2 shake", "--network-side", "96,128", "--crop", "80",
        "--hflip", "0.5", *TRAINING, "--output", f"{out}/tuned",
    ]  # fmt: skip
    shown = ["--limit", "20", "--scales", "96,96+128", "--crop", "80", *VIEW, *RUNNING]
    blurs = ["--blurs", "sharp, D4, L12@30, G4, shake"]
    for name, model in (
        ("before", ["replay:classifier"]),
        ("after", [classifier, "--arch", "replay:classifier"]),
    ):
        yield ["evaluate", *model, photographs, *blurs, *shown, "--output", f"{out}/{name}"]
    yield [
        "evaluate", "replay:alexnet", photographs, "--limit", "20", "--blurs", "sharp, D8",
        "--crops", "dense", "--scales", "128,128+256", "--average", "scales", *VIEW, *RUNNING,
        "--output", f"{out}/dense",
    ]  # fmt: skip
    yield [
        "evaluate", "replay:classifier", photographs, "--blurs", "D8", "--deblur", "wiener:D8",
        "--crops", "five", *shown, "--output", f"{out}/deblurred",
    ]  # fmt: skip
    masks = ["--task", "segmentation"]
    yield [
        "finetune", "replay:segmenter", frames, *masks, "--limit", "16", "--blur", "sharp + D4",
        "--network-side", "96", "--crop", "80", "--hflip", "0.5", *TRAINING, "--output", f"{out}/masks",
    ]  # fmt: skip
    shown = [*masks, "--limit", "20", "--blurs", "sharp, D4, shake", "--scales", "96", *VIEW, *RUNNING]
    for name, model in (
        ("masks-before", ["replay:segmenter"]),
        ("masks-after", [segmenter, "--arch", "replay:segmenter"]),
    ):
        yield ["evaluate", *model, frames, *shown, "--output", f"{out}/{name}"]
    for kind in ("", "masks-"):
        yield [
            "report",
            f"{out}/{kind}after",
            f"{out}/{kind}before",
            "--markdown",
            f"{out}/{kind}compared.md",
        ]
    mine = ["--model", classifier, "--arch", "replay:classifier", "--side", "64", "--crops", "center", *SMALL]
    for item in ("table1", "table3"):
        yield ["reproduce", item, "--root", photographs, "--classes", "4", *mine, "--output", f"{out}/paper"]
    yield [
        "reproduce", "table6", "--root", frames, "--model", segmenter, "--arch", "replay:segmenter",
        "--network-side", "96", *SMALL, "--output", f"{out}/table6",
    ]  # fmt: skip


def classifier() -> nn.Module:
    """A small network of twenty classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 5, 2, 2), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 20))


def alexnet() -> nn.Module:
    """A network that can be applied to whole images."""
    from torchvision.models import alexnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return alexnet(num_classes=20)


def segmenter() -> nn.Module:
    """A zoom-out network of eleven classes over a small one."""
    try:
        from blurlib.models import ZoomOut
    except ImportError:  # where it was when the first digests were made
        from blurlib.segmentation import ZoomOut

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ZoomOut(classifier(), 11, hidden=16, layers=("2", "5", "8"))


def renamed(what: str) -> str:
    """A digest's "FILE: NAME" or "FILE: settings.NAME" with the name as it is now."""
    file, name = what.split(": ", 1)
    part = "settings." if name.startswith("settings.") else ""
    name = name.removeprefix("settings.")
    return f"{file}: {part}{RENAMED.get(name, name)}"


def digest(value: Any) -> str:
    """Of numbers, as JSON writes them to the last digit, or of an array."""
    if isinstance(value, np.ndarray):
        kind = f"{value.dtype.str} {value.shape} ".encode()
        return hashlib.sha256(kind + np.ascontiguousarray(value).tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def numbers(value: Any, name: str = "", part: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a JSON file in their order, each with its name; settings by themselves."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in LEFT_OUT:
                new = RENAMED.get(key, key)
                yield from numbers(item, new, "settings." if "settings" in (key, part[:-1]) else "")
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, name, part)
    elif isinstance(value, int | float):
        yield part + name, float(value)


def named(path: Path) -> Iterator[tuple[str, Any]]:
    """What a file holds: names with lists of numbers, or with arrays."""
    if path.suffix == ".json":
        found: dict[str, list[float]] = defaultdict(list)
        for name, number in numbers(json.loads(path.read_text(encoding="utf-8"))):
            found[name].append(number)
        yield from found.items()
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        for key in rows[0]:
            if key not in LEFT_OUT:
                yield RENAMED.get(key, key), [row[key] for row in rows]
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            for key in arrays.files:
                yield RENAMED.get(key, key), arrays[key]
    elif path.suffix == ".md":
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        yield "numbers", re.findall(r"[-+\u2212]?\d+\.\d+", "\n".join(rows))
    elif path.name == "model.pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        yield "weights", [[key, digest(tensors[key].numpy())] for key in sorted(tensors)]


def replay(data: Path, out: Path) -> dict[str, str]:
    """Run everything; digests by file and name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    for command in commands(data, out):
        print("blurlib", *command[:2], flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "blurlib", *command],
            cwd=Path(__file__).parent,  # where the networks are
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"blurlib {' '.join(command)}\n{done.stdout}{done.stderr}")
    return {
        f"{path.relative_to(out).as_posix()}: {name}": digest(value)
        for path in sorted(out.rglob("*"))
        if path.is_file()
        for name, value in named(path)
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="the digests, as JSON")
    parser.add_argument("--compare", type=Path, metavar="BEFORE", help="digests of an earlier state")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with caltech20 and camvid-voc")
    parser.add_argument("--keep", type=Path, help="folder for the runs; else they are deleted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = replay(arguments.data.resolve(), (arguments.keep or Path(folder)).resolve())
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} digests in {arguments.output}")
    if arguments.compare is None:
        return
    before = {
        renamed(what): value
        for what, value in json.loads(arguments.compare.read_text(encoding="utf-8")).items()
    }
    differ = {
        what: "only before" if what not in found else "only now" if what not in before else "differs"
        for what in sorted({*before, *found})
        if before.get(what) != found.get(what)
    }
    for what, how in differ.items():
        print(f"{how}: {what}")
    if differ:
        raise SystemExit(1)
    print("nothing differs")


if __name__ == "__main__":
    main()
