"""What users feel: the CPU time of a whole pipeline, with no blur, with ours, and with others'.

    python benchmarks/pipeline.py     writes results/pipeline.json, a minute

JPEG files are decoded by Pillow, resized to a shorter side of 384, blurred, resized to 256, cropped to 224
and normalised, in one process on one thread. The files are cut out of scikit-image's photographs, 500 x
375 pixels, about ImageNet's size.
"""

from __future__ import annotations

import io
import itertools
import random
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import PIL.Image
import torch
from skimage import data
from torchvision.transforms import v2

import blurlib
import timing

Image = PIL.Image.Image
Blurring = Callable[[Image], Image]

STAGES = ("decode", "resize", "blur", "shrink", "normalise")
PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "retina",
    "rocket",
    "hubble_deep_field",
    "immunohistochemistry",
)
SIZE = (500, 375)  # width, height
ROUNDS = 11
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def blurs() -> list[tuple[str, str, Blurring]]:
    """What is blurred, by what, and a function from a PIL image to a PIL image."""
    import albumentations as al  # not at the top: the extra `bench` has it, and `--help` runs without

    taps = blurlib.kernels.disk(8).float().numpy()

    def arrays(function: Callable[[np.ndarray], np.ndarray]) -> Blurring:
        return lambda image: PIL.Image.fromarray(function(np.array(image)))

    def transform(found: Callable[..., dict[str, np.ndarray]]) -> Blurring:
        return arrays(lambda x: found(image=x)["image"])

    defocus = al.Defocus(radius=(8, 8), alias_blur=(0.1, 0.1), p=1)
    motion = al.MotionBlur(blur_limit=(17, 17), p=1)
    gaussian = al.GaussianBlur(blur_limit=0, sigma_limit=(4, 4), p=1)
    return [
        ("no blur", "", lambda image: image),
        ("disk, radius 8", "blurlib DiskBlur, not antialiased", blurlib.DiskBlur(8.0, antialias=False)),
        ("disk, radius 8", "blurlib DiskBlur", blurlib.DiskBlur(8.0)),
        ("disk, radius 8", "OpenCV filter2D", arrays(lambda x: cv2.filter2D(x, -1, taps))),
        ("disk, radius 8", "albumentations Defocus", transform(defocus)),
        ("camera shake", "blurlib CameraShakeBlur", blurlib.CameraShakeBlur()),
        ("straight motion", "blurlib MotionBlur", blurlib.MotionBlur()),
        ("straight motion", "albumentations MotionBlur, 17 px", transform(motion)),
        ("Gaussian, sigma 4", "blurlib GaussianBlur", blurlib.GaussianBlur(4.0)),
        ("Gaussian, sigma 4", "albumentations GaussianBlur", transform(gaussian)),
        ("Gaussian, sigma 4", "torchvision GaussianBlur, 33 px", v2.GaussianBlur(33, 4.0)),
    ]


def photographs(count: int = 2 * len(PHOTOGRAPHS)) -> list[bytes]:
    """JPEG files, cut at random."""
    rng, files = random.Random(0), []
    for name in itertools.islice(itertools.cycle(PHOTOGRAPHS), count):
        source = PIL.Image.fromarray(getattr(data, name)()).convert("RGB")
        scale = rng.uniform(0.6, 1.0) * min(source.width / SIZE[0], source.height / SIZE[1])
        width, height = int(scale * SIZE[0]), int(scale * SIZE[1])
        left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
        file, box = io.BytesIO(), (left, top, left + width, top + height)
        source.resize(SIZE, PIL.Image.Resampling.LANCZOS, box).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    return files


def resized(image: Image, side: int) -> Image:
    factor = side / min(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, PIL.Image.Resampling.BILINEAR)


def stages(file: bytes, blur: Blurring) -> np.ndarray:
    """CPU milliseconds of each stage for one file."""
    clock = [time.process_time()]
    image = PIL.Image.open(io.BytesIO(file)).convert("RGB")
    clock.append(time.process_time())
    image = resized(image, 384)
    clock.append(time.process_time())
    image = blur(image)
    clock.append(time.process_time())
    image = resized(image, 256)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    image = image.crop((left, top, left + 224, top + 224))
    clock.append(time.process_time())
    torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255).sub_(MEAN).div_(STD)
    clock.append(time.process_time())
    return 1e3 * np.diff(clock)


def measure(files: Sequence[bytes], chosen: Sequence[Blurring]) -> list[dict[str, float]]:
    """Milliseconds an image of each stage, for each blur: medians over rounds, means over images."""
    order = random.Random(0)
    times = np.zeros((ROUNDS, len(chosen), len(files), len(STAGES)))
    todo = [(blur, file) for blur in range(len(chosen)) for file in range(len(files))]
    for turn in range(-1, ROUNDS):  # the first one fills caches, and is overwritten
        order.shuffle(todo)
        for blur, file in todo:
            times[turn, blur, file] = stages(files[file], chosen[blur])
    medians = np.median(times, axis=0).mean(axis=1)
    return [dict(zip(STAGES, row.round(4).tolist(), strict=True)) for row in medians]


def main() -> None:
    timing.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    record = timing.environment()
    chosen = blurs()
    found = measure(photographs(), [blur for *_, blur in chosen])
    rows = [{"blur": b, "by": by, "stages": times} for (b, by, _), times in zip(chosen, found, strict=True)]
    for row in rows:
        total = sum(row["stages"].values())
        print(f"{row['blur']}, {row['by']}: {total:.2f} ms, blur {row['stages']['blur'] / total:.1%}")
    print("written:", timing.write("pipeline", record | {"rounds": ROUNDS, "rows": rows}))


if __name__ == "__main__":
    main()
