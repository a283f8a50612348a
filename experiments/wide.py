"""The mix `wide` and what may come with it, beside the paper's mixes: top-1 under blurs, some in no mix.

    python experiments/wide.py choose ROOT        # the shares, on held-out training photographs
    python experiments/wide.py costs ROOT         # time of a step with a teacher
    python experiments/wide.py run ROOT 0         # all runs of a seed
    python experiments/wide.py run ROOT 1 2 --only control shake wide
    python experiments/wide.py between ROOT 0     # weights between the original's and those of wide
    python experiments/wide.py scenes FRAMES      # segmentation, with the network of experiments/camvid.py
    python experiments/wide.py table              # the tables of the docs, from the records

ROOT is the folder of experiments/caltech20.py. Each run goes on from the seed's network that was trained on
sharp photographs. Networks go to a folder outside the repository (`--work`); the records, which photographs
each network recognised under each blur, to experiments/results/wide.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import blurlib
import caltech20
import camvid
from blurlib import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur
from blurlib.blurs import Blur
from blurlib.metrics import ImageValues
from blurlib.reporting import Record, Report, markdown_table, percent, points, with_interval
from tolerance import read_dense, write_dense

RECORDS = Path(__file__).parent / "results" / "wide"


@dataclass(frozen=True)
class Aperture(Blur):
    """Defocus by an aperture that is no disk, of a radius in px: "hexagon", or "ring" of a mirror lens."""

    shape: str
    radius: float

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """Area coverage by 8 x 8 points in a pixel."""
        radius, fine = self.radius * scale, 8
        half = int(radius + 0.5)
        axis = (torch.arange((2 * half + 1) * fine, dtype=torch.float64) + 0.5) / fine - half - 0.5
        y, x = axis[:, None], axis[None, :]
        distance = torch.hypot(y, x)
        if self.shape == "ring":
            open_ = (distance <= radius) & (distance >= radius / 2)
        else:  # corners at `radius`
            sides = torch.deg2rad(torch.arange(0.0, 180.0, 60.0, dtype=torch.float64))[:, None, None]
            across = (x * sides.cos() + y * sides.sin()).abs()
            open_ = (across <= radius * 3**0.5 / 2).all(dim=0)
        kernel = open_.double().unfold(0, fine, fine).unfold(1, fine, fine).sum(dim=(2, 3))
        return kernel / kernel.sum()

    def __str__(self) -> str:
        return f"{self.shape}{self.radius:g}"


FAMILIES = ("D4", "D8", "D12", "H8", "V8", "L16@45", "shake", "G4")
UNSEEN = ("shake@41", Aperture("hexagon", 8), Aperture("ring", 8))  # in no mix
PAPER = {
    "defocus": caltech20.MIX,
    "shake": "0.2 sharp + 0.8 shake",
    "D8": "sharp + D8",
    "D4": "sharp + D4",
}
FEWER = (2, 1)  # epochs in the time of (3, 1) without a teacher, see `costs`
RUNS: dict[str, dict[str, Any]] = {
    "control": {"blur": "sharp"},
    **{name: {"blur": mix} for name, mix in PAPER.items()},
    "wide": {"blur": "wide"},
    "teacher": {"blur": "wide", "teacher": 0.5, "epochs": FEWER},
    "teacher-alone": {"blur": "wide", "teacher": 1.0, "epochs": FEWER},
}
MIXES = ("control", *PAPER, "wide")
PLACES = (0.25, 0.5, 0.75)  # between the weights of the original, 0, and those of wide, 1


WITH_WIDE = ("wide", "teacher", "teacher-alone", *(f"between-{share:g}" for share in PLACES))
SCENES = ("control", "defocus", "shake", "wide")  # of RUNS, for segmentation


def mix(sharp: float, disk: float, line: float, shake: float, gaussian: float) -> dict[Any, float]:
    """Shares of what `wide` is made of."""
    shares = {
        "sharp": sharp,
        DiskBlur((0.5, 8.0)): disk,
        MotionBlur((2.0, 16.0)): line,
        CameraShakeBlur(size=(9, 25)): shake,
        GaussianBlur((0.5, 3.0)): gaussian,
    }
    return {blur: share for blur, share in shares.items() if share}


CANDIDATES = {
    "no Gaussians": mix(0.2, 0.3, 0.2, 0.3, 0.0),
    "few Gaussians": mix(0.2, 0.3, 0.15, 0.3, 0.05),
    "equal": mix(0.2, 0.2, 0.2, 0.2, 0.2),
    "more shake": mix(0.15, 0.25, 0.1, 0.45, 0.05),
}


def choose(root: Path, work: Path) -> None:
    """Compare shares on the held-out photographs, under the blurs that mixes may contain."""
    learn, check = caltech20.held_out(root)
    place = work / "choose"
    sharp = caltech20.original(learn, 0, place)
    choice: dict[str, Any] = {}
    for name, shares in CANDIDATES.items():
        network = tuned(sharp, learn, {"blur": shares}, 0, place / name)
        report = blurlib.evaluate(
            network, check, blurs=["sharp", *FAMILIES], scales=(183,), output=place / f"{name}-report",
            workers=1, **caltech20.VIEW,
        )  # fmt: skip
        choice[name] = {
            "shares": {str(blur): share for blur, share in shares.items()},
            "top-1 and cross-entropy": {
                each.blur: [round(each.top1, 4), round(each.cross_entropy, 4)] for each in report.records
            },
        }
        print(name, choice[name], flush=True)
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "choice.json").write_text(json.dumps(choice, indent=1) + "\n", encoding="utf-8")


def costs(root: Path) -> None:
    """Time of a step with a teacher, and of one whose mix is `wide`, beside the paper's mix; interleaved."""
    kinds: dict[str, dict[str, Any]] = {
        "defocus": {"blur": caltech20.MIX},
        "wide": {"blur": "wide"},
        "teacher": {"blur": "wide", "teacher": 0.5},
    }
    network = caltech20.pretrained(0)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(7):
        for name, settings in kinds.items():
            result = blurlib.finetune(
                network, root, network_side=183, batch_size=32, limit=96, epochs=1, lr=1e-6, workers=1,
                progress=False, **settings, **caltech20.VIEW,
            )  # fmt: skip
            seconds[name].append(result.history[0]["seconds"])
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    found = {
        "threads": torch.get_num_threads(),
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "seconds of 3 steps": seconds,
        "ratio to defocus": {name: round(each / medians["defocus"], 3) for name, each in medians.items()},
    }
    print(json.dumps(found, indent=1))
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "costs.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def run(root: Path, seed: int, work: Path, only: list[str]) -> None:
    """The runs of a seed that have no record yet."""
    place = work / f"seed{seed}"
    sharp = caltech20.original(root, seed, place)
    record("original", sharp, root, seed, place)
    for name in only or RUNS:
        if name == "original" or (RECORDS / f"seed{seed}" / f"{name}.json").exists():
            continue
        record(name, tuned(sharp, root, RUNS[name], seed, place / name), root, seed, place)


def tuned(sharp: nn.Module, root: Any, settings: dict[str, Any], seed: int, work: Path) -> nn.Module:
    """The network of one run."""
    schedule = {**caltech20.TUNE, **settings}
    return caltech20.fitted(
        sharp, root, blur=schedule.pop("blur"), schedule=schedule, seed=seed + 1000, work=work
    )


def between(root: Path, seed: int, work: Path) -> None:
    """Weights between those of the original and those of wide: whether a better network lies there.

    Batch norm's statistics are computed anew, in a run of finetune whose steps are too small to count.
    """
    place = work / f"seed{seed}"
    sharp = caltech20.original(root, seed, place)
    wide = tuned(sharp, root, RUNS["wide"], seed, place / "wide")
    for share in PLACES:
        network = copy.deepcopy(wide)
        with torch.no_grad():
            for one, other in zip(network.parameters(), sharp.parameters(), strict=True):
                one.copy_(torch.lerp(other, one, share))
        settings = {"blur": "wide", "epochs": 1, "lr": 1e-12, "batch_norm": "recalibrate"}
        name = f"between-{share:g}"
        record(name, tuned(network, root, settings, seed, place / name), root, seed, place)


def scenes(root: Path, work: Path) -> None:
    """Segmentation: the paper's mixes, `wide` and the control, one seed."""
    sharp = camvid.original(root, work / "camvid")
    for name in ("original", *SCENES):
        place = RECORDS / "camvid" / name
        if (place / "report.json").exists():
            continue
        network = sharp
        if name != "original":
            network = blurlib.finetune(
                sharp, root, task="segmentation", seed=1000, output=work / "camvid" / name, resume=True,
                workers=0, **RUNS[name], **camvid.TUNE, **camvid.USUAL, **camvid.COLOURS,
            ).model  # fmt: skip
        report = blurlib.evaluate(
            network, root, task="segmentation", blurs=["sharp", *FAMILIES, *UNSEEN], scales=camvid.SIDE,
            output=place, workers=0, **camvid.COLOURS,
        )  # fmt: skip
        print(name, {each.blur: round(each.miou, 4) for each in report.records}, flush=True)


def record(name: str, network: nn.Module, root: Path, seed: int, place: Path) -> None:
    """Measure a network and keep which photographs it recognised."""
    path = RECORDS / f"seed{seed}" / f"{name}.json"
    if path.exists():
        return
    report = blurlib.evaluate(
        network, root, blurs=["sharp", *FAMILIES, *UNSEEN], scales=(183,), output=place / f"{name}-report",
        workers=1, **caltech20.VIEW,
    )  # fmt: skip
    print(seed, name, {each.blur: round(each.top1, 4) for each in report.records}, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dense(report, path)


def right(seeds: list[int]) -> dict[str, dict[str, np.ndarray]]:
    """Of the runs that all seeds have, which photographs were recognised under each blur: the seeds' mean."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in ("original", *dict.fromkeys((*MIXES, *WITH_WIDE))):
        paths = [RECORDS / f"seed{seed}" / f"{name}.json" for seed in seeds]
        if all(path.exists() for path in paths):
            reports = [{each.blur: _correct(each) for each in read_dense(path).records} for path in paths]
            found[name] = {blur: np.mean([each[blur] for each in reports], axis=0) for blur in reports[0]}
    return found


def _correct(each: Record) -> np.ndarray:
    assert isinstance(each.images, ImageValues)
    return each.images.correct.astype(float)


class Figures:
    """Top-1 of a run, in percent, and of 2 000 resamplings of the photographs, the same for every run."""

    def __init__(self, images: dict[str, np.ndarray], costly: list[str]) -> None:
        count = len(images["sharp"])
        drawn = np.random.default_rng(0).integers(0, count, (2000, count))
        each = np.stack(list(images.values()))
        means = 100 * np.concatenate([each.mean(axis=1)[:, None], each[:, drawn].mean(axis=2)], axis=1)
        self.of = dict(zip(images, means, strict=True))  # of each blur (1 + 2000,), the first of all images
        blurred = np.stack([self.of[blur] for blur in images if blur != "sharp"])
        self.of["mean"], self.of["worst"] = blurred.mean(axis=0), self.costly(costly).min(axis=0)

    def costly(self, blurs: list[str]) -> np.ndarray:
        """Those of some blurs."""
        return np.stack([self.of[blur] for blur in blurs])


def difference(first: np.ndarray, second: np.ndarray) -> str:
    """Points between two figures, with the paired 95 % interval."""
    change = first - second
    low, high = np.quantile(change[1:], [0.025, 0.975])
    return f"{change[0]:+.1f} [{low:+.1f}, {high:+.1f}]"


def tables() -> None:
    """Write the tables of the page."""
    parts = {
        "wide": "\n\n".join(
            [
                "### Three seeds",
                table([0, 1, 2], ("original", *MIXES)),
                "### All mixes, one seed",
                table([0], ("original", *MIXES)),
                "### With `wide`, one seed",
                table([0], ("original", *WITH_WIDE), against="wide"),
            ]
        ),
        "wide-choice": choice_table(),
        "wide-guide": guide_table(),
        "wide-scenes": scenes_table(),
    }
    for name, text in parts.items():
        place = RECORDS.parent / name
        place.mkdir(exist_ok=True)
        (place / "table.md").write_text(text + "\n", encoding="utf-8")
        print(f"{text}\n")


def guide_table() -> str:
    """Mean top-1 by kind of blur of the mixes that three seeds have, for the decision guide."""
    groups = {
        "sharp": ["sharp"],
        "defocus: `D4`, `D8`, `D12`, `hexagon8`, `ring8`": ["D4", "D8", "D12", "hexagon8", "ring8"],
        "motion: `H8`, `V8`, `L16@45`": ["H8", "V8", "L16@45"],
        "camera shake: `shake`, `shake@41`": ["shake", "shake@41"],
    }
    rows = []
    for name, images in right([0, 1, 2]).items():
        mix = name if name == "original" else f"`{RUNS[name]['blur']}`"
        top1 = [100 * np.mean([images[blur] for blur in each]) for each in groups.values()]
        worst = 100 * min(each.mean() for each in images.values())
        rows.append([mix, *(f"{value:.1f}" for value in top1), f"{worst:.1f}"])
    return markdown_table(["tuned on", *groups, "worst blur"], rows)


def choice_table() -> str:
    """Shares, and top-1 with cross-entropy on the held-out photographs."""
    choice = json.loads((RECORDS / "choice.json").read_text(encoding="utf-8"))
    rows = []
    for each in choice.values():
        shares = " + ".join(f"{share:g} {blur.partition('(')[0]}" for blur, share in each["shares"].items())
        found = each["top-1 and cross-entropy"]
        rows.append([shares, *(f"{100 * top1:.1f} ({loss:.2f})" for top1, loss in found.values())])
    return markdown_table(["shares", *found], rows)


def scenes_table() -> str:
    """Mean IoU of each run, and the differences between `wide` and the paper's mixes."""
    reports = {name: Report.load(RECORDS / "camvid" / name) for name in ("original", *SCENES)}
    names = ["defocus", "shake"]
    compared = {name: blurlib.compare(reports["wide"], reports[name]) for name in names}
    rows = []
    for each in reports["original"].records:
        changes = [compared[name][each.blur].miou for name in names]
        rows.append(
            [
                each.blur,
                *(percent(report[each.blur].miou) for report in reports.values()),
                *(with_interval(change.difference, change.difference_interval, points) for change in changes),
            ]
        )
    blurred = {name: [r.miou for r in each.records if r.blur != "sharp"] for name, each in reports.items()}
    rows.append(["mean", *(percent(float(np.mean(each))) for each in blurred.values()), "", ""])
    rows.append(["worst", *(percent(min(each)) for each in blurred.values()), "", ""])
    return markdown_table(["blur", *reports, *(f"wide - {name}" for name in names)], rows)


def table(seeds: list[int], names: Sequence[str], *, against: str | None = None) -> str:
    """Top-1 of those runs that all seeds have, and differences to one: by default the paper's best mix."""
    everything = {name: each for name, each in right(seeds).items() if name in names}
    original = {blur: 100 * each.mean() for blur, each in everything["original"].items()}
    costly = [blur for blur in original if original["sharp"] - original[blur] > 10]
    figures = {name: Figures(images, costly) for name, images in everything.items()}
    rows = [
        [each, *(f"{run.of[each][0]:.1f}" for run in figures.values())] for each in figures["original"].of
    ]
    paper = [name for name in PAPER if name in figures]
    best = against or max(paper, key=lambda name: figures[name].of["worst"][0])
    header = ["run", f"worst, against {best}", f"mean, against {best}", "sharp, against original"]
    against = [
        [
            name,
            *(difference(run.of[each], figures[best].of[each]) for each in ("worst", "mean")),
            difference(run.of["sharp"], figures["original"].of["sharp"]),
        ]
        for name, run in figures.items()
        if name not in ("original", best)
    ]
    said = (
        f"Mean: over all blurs. Worst: of {', '.join(costly)}, which cost the original more than 10 points."
    )
    return "\n\n".join([markdown_table(["blur", *figures], rows), said, markdown_table(header, against)])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("choose", "costs", "run", "between", "scenes", "table"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "blurlib-wide")
    arguments = parser.parse_args()
    if arguments.command == "table":
        tables()
    elif arguments.command == "choose":
        choose(arguments.root, arguments.work)
    elif arguments.command == "costs":
        costs(arguments.root)
    elif arguments.command == "scenes":
        scenes(arguments.root, arguments.work)
    for seed in arguments.seeds if arguments.command == "between" else ():
        between(arguments.root, seed, arguments.work)
    for seed in arguments.seeds if arguments.command == "run" else ():
        run(arguments.root, seed, arguments.work, arguments.only)


if __name__ == "__main__":
    main()
