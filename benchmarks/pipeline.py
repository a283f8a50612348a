"""What users feel: images per second of a whole pipeline, with no blur, with ours, and with others'.

    python benchmarks/pipeline.py             writes results/pipeline_<date>.json, five minutes
    python benchmarks/pipeline.py --quick     a first look; nothing is written

JPEG files are decoded by Pillow, resized to a shorter side of 384, blurred, resized to 256, cropped to 224
and normalised, in a DataLoader with 0, 1 and 2 workers. The files are made from the photographs of
scikit-image, about 500 x 375 pixels as ImageNet's, in a temporary folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from skimage import data
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

import blurlib
import measure

Image = PIL.Image.Image
Blurring = Callable[[Image], Image]

STAGES = ("decode", "resize", "blur", "shrink", "normalise")
WORKERS = (0, 1, 2)
PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "retina",
    "rocket",
    "immunohistochemistry",
)
SIZE = (500, 375)  # width, height
BATCH = 8
SECONDS = 1.5  # of one measurement, about
QUICK_BLURS = ("no blur", "blurlib D8", "blurlib shake", "cv2.filter2D D8", "albumentations Defocus 8")
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


# --- The blurs, each from a PIL image to a PIL image ---


def blurs() -> dict[str, Blurring | None]:
    """By name; None blurs nothing. Rivals that are not installed are left out."""
    found: dict[str, Blurring | None] = {
        "no blur": None,
        "blurlib D8": blurlib.DiskBlur(8.0, antialias=False),
        "blurlib D8a": blurlib.DiskBlur(8.0),
        "blurlib shake": blurlib.CameraShakeBlur(),
        "blurlib motion": blurlib.MotionBlur(),
        "blurlib G4": blurlib.GaussianBlur(4.0),
        "torchvision GaussianBlur 4": v2.GaussianBlur(33, 4.0),
    }
    for package, add in (("cv2", _opencv), ("albumentations", _albumentations), ("kornia", _kornia)):
        if importlib.util.find_spec(package) is None:
            print(f"not installed, left out: {package} (pip install 'blurlib[bench]')")
        else:
            found |= add()
    return found


def _opencv() -> dict[str, Blurring]:
    import cv2

    taps = blurlib.kernels.disk(8).float().numpy()
    return {
        "cv2.filter2D D8": _arrays(lambda x: cv2.filter2D(x, -1, taps, borderType=cv2.BORDER_REFLECT_101))
    }


def _albumentations() -> dict[str, Blurring]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise
    import albumentations as al

    transforms = {
        "albumentations Defocus 8": al.Defocus(radius=(8, 8), alias_blur=(0.1, 0.1), p=1),
        "albumentations MotionBlur 17": al.MotionBlur(blur_limit=(17, 17), p=1),
        "albumentations GaussianBlur 4": al.GaussianBlur(blur_limit=0, sigma_limit=(4, 4), p=1),
    }
    return {name: _arrays(lambda x, t=t: t(image=x)["image"]) for name, t in transforms.items()}


def _kornia() -> dict[str, Blurring]:
    from kornia.filters import filter2d

    kernel = blurlib.kernels.disk(8).float()[None]

    def convolve(x: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(x).permute(2, 0, 1).contiguous().float()
        blurred = filter2d(image[None], kernel)[0].add_(0.5).to(torch.uint8)
        return blurred.permute(1, 2, 0).contiguous().numpy()

    return {"kornia filter2d D8": _arrays(convolve)}


def _arrays(function: Callable[[np.ndarray], np.ndarray]) -> Blurring:
    return lambda image: PIL.Image.fromarray(function(np.array(image)))


# --- The pipeline ---


def write_photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files cut at random out of scikit-image's photographs."""
    rng = random.Random(0)
    sources = [PIL.Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        scale = rng.uniform(0.6, 1.0) * min(source.width / SIZE[0], source.height / SIZE[1])
        width, height = int(scale * SIZE[0]), int(scale * SIZE[1])
        left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
        cut = source.resize(SIZE, PIL.Image.Resampling.LANCZOS, (left, top, left + width, top + height))
        paths.append(folder / f"{number:03}.jpg")
        cut.save(paths[-1], quality=92)
    return paths


def resized(image: Image, side: int) -> Image:
    factor = side / min(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, PIL.Image.Resampling.BILINEAR)


def cropped(image: Image, side: int) -> Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def prepared(path: Path, blur: Blurring | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The network's input, and the CPU seconds of each stage."""
    clock = [time.thread_time()]
    image = PIL.Image.open(path).convert("RGB")
    clock.append(time.thread_time())
    image = resized(image, 384)
    clock.append(time.thread_time())
    if blur is not None:
        image = blur(image)
    clock.append(time.thread_time())
    image = cropped(resized(image, 256), 224)
    clock.append(time.thread_time())
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255).sub_(MEAN).div_(STD)
    clock.append(time.thread_time())
    return tensor, torch.tensor(clock, dtype=torch.float64).diff()


class Photographs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The files' images, prepared."""

    def __init__(self, paths: Sequence[Path], blur: Blurring | None) -> None:
        self.paths, self.blur = paths, blur

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return prepared(self.paths[index], self.blur)


class Turns(Sampler[int]):
    """The files in turns, as many as `count` says when a pass begins."""

    def __init__(self, files: int, count: int) -> None:
        self.files, self.count = files, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter([number % self.files for number in range(self.count)])


# --- Measuring ---


def stage_times(
    paths: Sequence[Path], chosen: dict[str, Blurring | None], rounds: int
) -> dict[str, dict[str, float]]:
    """CPU milliseconds an image of each stage: medians over rounds, means over images."""
    order = random.Random(0)
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):  # the first one compiles and fills caches
        todo = [(name, number) for name in chosen for number in range(len(paths))]
        order.shuffle(todo)
        times = {name: np.zeros((len(paths), len(STAGES))) for name in chosen}
        for name, number in todo:
            times[name][number] = prepared(paths[number], chosen[name])[1].numpy()
        if turn:
            for name in chosen:
                found[name].append(times[name])
    return {
        name: dict(zip(STAGES, (1e3 * np.median(each, axis=0).mean(axis=0)).round(4).tolist(), strict=True))
        for name, each in found.items()
    }


def rate(
    paths: Sequence[Path], blur: Blurring | None, workers: int, milliseconds: float, seconds: float
) -> tuple[float, float]:
    """Images per second of a DataLoader that is warm, and CPU milliseconds an image in its workers.

    An image takes about `milliseconds`; as many are loaded as take about `seconds`.
    """
    batches = max(2 * max(1, workers), round(seconds * 1e3 / milliseconds * max(1, workers) / BATCH))
    turns = Turns(len(paths), BATCH * max(1, workers))
    loader = DataLoader(
        Photographs(paths, blur),
        batch_size=BATCH,
        sampler=turns,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
    )
    for _ in loader:  # starts the workers, which stay for the next pass
        pass
    turns.count = count = BATCH * batches
    cpu = 0.0
    start = time.perf_counter()
    for _, stages in loader:
        cpu += float(stages.sum())
    wall = time.perf_counter() - start
    return count / wall, 1e3 * cpu / count


def _one_thread(_: int) -> None:
    measure.use_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="where the record goes")
    options = parser.parse_args()
    images, rounds, repeats, seconds = (7, 2, 1, 0.3) if options.quick else (28, 5, 3, SECONDS)
    measure.use_threads(1)
    torch.set_grad_enabled(False)
    record = measure.environment()
    chosen = {name: blur for name, blur in blurs().items() if not options.quick or name in QUICK_BLURS}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), images)
        size = statistics.fmean(path.stat().st_size for path in paths)
        stages = stage_times(paths, chosen, rounds)
        todo = [(name, workers) for name in chosen for workers in WORKERS] * repeats
        random.Random(1).shuffle(todo)
        rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for name, workers in todo:
            measured = rate(paths, chosen[name], workers, sum(stages[name].values()), seconds)
            rates.setdefault((name, workers), []).append(measured)
    rows = []
    for name in chosen:
        row: dict[str, Any] = {"blur": name, "stages": stages[name]}
        for key, place in (("rates", 0), ("cpu", 1)):
            row[key] = {
                str(workers): round(statistics.median(entry[place] for entry in rates[name, workers]), 3)
                for workers in WORKERS
            }
        rows.append(row)
        total = sum(stages[name].values())
        print(
            f"{name}: {total:.2f} ms, blur {stages[name]['blur'] / total:.0%}, images/s "
            + ", ".join(f"{row['rates'][str(w)]:.0f} with {w}" for w in WORKERS)
        )
    record |= {
        "images": len(paths),
        "bytes": round(size),
        "rows": rows,
        "load": [*record["load"], measure.load()],
    }
    if options.out or not options.quick:
        print("written:", measure.write("pipeline", record, options.out))


if __name__ == "__main__":
    main()
