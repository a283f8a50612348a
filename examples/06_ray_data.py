"""An evaluation spread over a cluster by Ray Data; without a cluster, over the processes of this machine.

    python -m pip install "ray[data]"
    python examples/06_ray_data.py [FOLDER]

Each task evaluates a part of the listing. A part keeps the positions of its images in the whole, by which
camera shake is keyed, so the numbers are those of one `evaluate` of all images.
"""

import sys
import tempfile
from pathlib import Path

import ray
import skimage.data
import torch
from PIL import Image
from torch import nn

import blurlib
from blurlib.data import open_images

BLURS = "sharp, D4, shake"


def network() -> nn.Module:
    """A small network without training; load yours here, once in each process."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


class Evaluate:
    """What a process of the cluster does with the positions that it is given."""

    def __init__(self, root: str) -> None:
        self.model = network()
        self.listing = open_images(root, split="val")  # every machine must see the folder

    def __call__(self, batch: dict) -> dict:
        """The statistics of each image under each blur, as columns."""
        part = self.listing.subset(batch["id"])
        report = blurlib.evaluate(self.model, part, blurs=BLURS, workers=0, progress=False)
        found: dict[str, list] = {"blur": [], "top1": [], "cross_entropy": []}
        for record in report.records:
            found["blur"] += [record.blur] * record.count
            found["top1"] += record.images.correct.tolist()
            found["cross_entropy"] += record.images.cross_entropy.tolist()
        return found


def main(root: str) -> None:
    positions = ray.data.range(len(open_images(root, split="val")), override_num_blocks=3)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=64)
    parts = positions.map_batches(Evaluate, fn_constructor_args=(root,), batch_size=4, compute=pool)
    cluster = parts.to_pandas().groupby("blur").mean()

    whole = blurlib.evaluate(network(), root, blurs=BLURS, workers=0, progress=False)
    for blur, row in cluster.iterrows():
        print(
            f"{blur}: top-1 {row.top1:.3f} by the cluster, {whole[blur].top1:.3f} by one process; "
            f"cross-entropy {row.cross_entropy:.6f} and {whole[blur].cross_entropy:.6f}"
        )


def write_photographs(folder: Path) -> None:
    """Crops of two photographs, each a class."""
    for name in ("coffee", "chelsea"):
        photograph = Image.fromarray(getattr(skimage.data, name)())
        (folder / "val" / name).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            crop = photograph.crop((20 * number, 0, 20 * number + 300, 300))
            crop.save(folder / "val" / name / f"{number}.png")


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="blurlib-"))
    if not (place / "val").is_dir():
        write_photographs(place)
    main(str(place))
