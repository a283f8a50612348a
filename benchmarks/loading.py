"""Images a second of `finetune` and `evaluate` with a network that costs nothing, by the number of images.

    python benchmarks/loading.py     writes results/loading.json, two minutes

The photographs of `pipeline.py`, in a folder of classes and in tar shards; a loader process for each core.
The time of a run should be that of its images: twice as many, twice as long.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import blurlib
import timing
from blurlib.data import open_images
from pipeline import photographs

COUNTS = (500, 1000, 2000)
CLASSES = 10
SHARD = 250  # samples
MIX, BLURS = "sharp + D2 + D4 + D6 + D8", "sharp, D4, shake"


def network() -> nn.Module:
    """As good as no work: what is left is reading, blurring, and the loop."""
    return nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3 * 7 * 7, CLASSES))


def write_folder(root: Path, files: list[bytes], count: int) -> Path:
    """Class folders of photographs for training and validation."""
    for split in ("train", "val"):
        for number in range(count):
            path = root / split / f"c{number % CLASSES}" / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[number % len(files)])
    return root


def write_shards(root: Path, files: list[bytes], count: int) -> Path:
    """The same in tar archives."""
    root.mkdir(parents=True)
    for split in ("train", "val"):
        for first in range(0, count, SHARD):
            with tarfile.open(root / f"{split}-{first // SHARD:04d}.tar", "w") as archive:
                for number in range(first, min(first + SHARD, count)):
                    label = number % CLASSES
                    for ending, content in (("jpg", files[number % len(files)]), ("cls", b"%d" % label)):
                        member = tarfile.TarInfo(f"c{label}/{number:06d}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return root


def measure(root: Path, count: int, source: str) -> dict[str, object]:
    """Seconds of the listing, of an epoch and of an evaluation."""
    workers = os.cpu_count() or 1
    start = time.perf_counter()
    assert len(open_images(root, split="train")) == count
    listed = time.perf_counter()
    result = blurlib.finetune(
        network(), root, blur=MIX, epochs=1, lr=1e-3, workers=workers, device="cpu", progress=False
    )
    trained = time.perf_counter()
    blurlib.evaluate(network(), root, blurs=BLURS, workers=workers, device="cpu", progress=False)
    return {
        "images": count,
        "source": source,
        "list_s": round(listed - start, 4),
        "epoch_s": result.history[0]["seconds"],
        "evaluate_s": round(time.perf_counter() - trained, 3),
    }


def main() -> None:
    timing.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    record, files, rows = timing.environment(), photographs(), []
    with tempfile.TemporaryDirectory() as folder:
        for count in (50, *COUNTS):  # the first one fills caches, and is left out
            for source, make in (("folder", write_folder), ("tar shards", write_shards)):
                row = measure(make(Path(folder, f"{source}-{count}"), files, count), count, source)
                if count in COUNTS:
                    print(row)
                    rows.append(row)
    settings = {"blurs": BLURS, "mix": MIX, "workers": os.cpu_count()}
    print("written:", timing.write("loading", record | settings | {"rows": rows}))


if __name__ == "__main__":
    main()
