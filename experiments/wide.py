"""The mix `wide` and what may come with it, beside the paper's mixes: top-1 under blurs, some in no mix.

    python experiments/wide.py choose ROOT        # the shares, on held-out training photographs
    python experiments/wide.py run ROOT 0         # all runs of a seed
    python experiments/wide.py run ROOT 1 2 --only control shake wide
    python experiments/wide.py table              # the tables of the docs, from the records

ROOT is the folder of experiments/caltech20.py. Each run goes on from the seed's network that was trained on
sharp photographs. Networks go to a folder outside the repository (`--work`); the records, which photographs
each network recognised under each blur, to experiments/results/wide.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import blurlib
import caltech20
from blurlib import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur
from blurlib.blurs import Blur
from tolerance import write_dense

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
    "teacher alone": {"blur": "wide", "teacher": 1.0, "epochs": FEWER},
    # As many steps as the others: five epochs of four fifths, whose rest chooses the place.
    "interpolated": {"blur": "wide", "interpolate": (0.25, 0.5, 0.75, 1.0), "epochs": (4, 1)},
}


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
    sharp = caltech20.fitted(
        caltech20.pretrained(0), learn, blur="sharp", schedule=caltech20.TRAIN, seed=0,
        work=place / "original",
    )  # fmt: skip
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


def run(root: Path, seed: int, work: Path, only: list[str]) -> None:
    """The runs of a seed that have no record yet."""
    place = work / f"seed{seed}"
    sharp = caltech20.fitted(
        caltech20.pretrained(seed), root, blur="sharp", schedule=caltech20.TRAIN, seed=seed,
        work=place / "original",
    )  # fmt: skip
    record("original", sharp, root, seed, place)
    for name in only or RUNS:
        if name == "original" or (RECORDS / f"seed{seed}" / f"{name}.json").exists():
            continue
        settings, images = RUNS[name], root
        if "interpolate" in settings:
            images, check = caltech20.held_out(root)
            settings = {**settings, "validation": check}
        record(name, tuned(sharp, images, settings, seed, place / name), root, seed, place)


def tuned(sharp: nn.Module, root: Any, settings: dict[str, Any], seed: int, work: Path) -> nn.Module:
    """The network of one run."""
    schedule = {**caltech20.TUNE, **settings}
    return caltech20.fitted(
        sharp, root, blur=schedule.pop("blur"), schedule=schedule, seed=seed + 1000, work=work
    )


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


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("choose", "run", "table"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "blurlib-wide")
    arguments = parser.parse_args()
    if arguments.command == "choose":
        choose(arguments.root, arguments.work)
    for seed in arguments.seeds:
        run(arguments.root, seed, arguments.work, arguments.only)


if __name__ == "__main__":
    main()
