"""What blur costs a network and how much fine-tuning brings back, on a folder in the form of ImageNet's.

    python examples/04_finetune_and_evaluate.py [FOLDER] [--quick]

The task: from which photograph is this crop? Training crops come from other regions than validation crops. A
small network learns it on sharp crops, is evaluated under blur, fine-tuned on a mix and, as a control, for as
long on sharp crops. `blurlib demo` is the same in full; --quick shows the calls alone.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

import blurlib
from blurlib.demo import crops

BLURS = "sharp, D2, D4, D8"  # D8 is wider than anything in the mix below
# Small numbers for a small task. Blurs are defined at a side of 96 px here: D4 is what D16 is at 384.
VIEW = {"canonical_side": 96, "crop": 40, "mean": (0.5,) * 3, "std": (0.25,) * 3, "progress": False}


def network(classes: int) -> nn.Module:
    """Four convolution blocks and an average: small enough for two cores."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if after < 128 else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, classes))


def write_root(root: Path, split: str, count: int) -> None:
    """Crops as root/<split>/<class>/<number>.png, grey: colour would give the photograph away."""
    dataset = crops(split, count)
    for number, (image, label) in enumerate(dataset):
        place = root / split / dataset.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        image.convert("L").save(place / f"{number:04}.png")


def main(folder: Path, *, quick: bool) -> None:
    torch.manual_seed(0)
    root = folder / "crops"
    write_root(root, "train", 64 if quick else 640)
    write_root(root, "val", 32 if quick else 320)
    steps = {"network_side": 48, "batch_size": 32, "epochs": (1,) if quick else (6, 2), "lr": (0.05, 0.005)}
    steps["lr"] = steps["lr"][: len(steps["epochs"])]

    start = network(16)
    original = blurlib.finetune(start, root, blur="sharp", seed=0, **steps, **VIEW).model
    tuned = blurlib.finetune(original, root, blur="sharp + D2 + D4", seed=1, **steps, **VIEW)
    control = blurlib.finetune(original, root, blur="sharp", seed=1, **steps, **VIEW).model
    for row in tuned.history:
        print("epoch {epoch}: lr {lr:g}, loss {loss:.3f}, top-1 {top1:.3f}".format(**row))

    before, after, other = (
        blurlib.evaluate(model, root, blurs=BLURS, scales=48, **{**VIEW, "crop": 48})
        for model in (original, tuned.model, control)
    )
    comparison = after.compare(before, control=other)
    print(f"\n{comparison}")
    after.save(folder / "tuned.json")
    before.save(folder / "original.json")
    other.save(folder / "control.json")
    comparison.to_markdown(folder / "comparison.md")
    print(f"\nReports are in {folder}. As a page, from there:")
    print("blurlib report tuned.json original.json --control control.json --html tuned.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    given = parser.parse_args()
    place = given.folder or Path(tempfile.mkdtemp(prefix="blurlib-"))
    place.mkdir(parents=True, exist_ok=True)
    main(place, quick=given.quick)
