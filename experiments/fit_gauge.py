"""Train the network of `blurlib.gauge` and write src/blurlib/_gauge/weights.npz.

    python experiments/fit_gauge.py ROOT

ROOT is the folder of experiments/caltech20.py, whose training split is used. The recipe:

1. Pictures: parts of Caltech-101 photographs, one in eight of photographs that come with scikit-image, at
   their own size or reduced. They are blurred at a size at which they are crisp: enlarged to 384 px they
   would be blurred before.
2. Truth: the library's own kernels, log-uniform in size; shakes of the train bank. Some are applied to linear
   light. "Unknown" are flat, sloping and cloudy pictures, and photographs with nothing left of them.
3. What follows in a camera and on the way: sharpening, noise, rounding to 8 bits, JPEG, reduction, each at
   random.
4. Network: cross-entropy of the kind and pinball loss of three quantiles of the log size. Spectra are turned
   and mirrored at random.
5. Intervals: widened until they hold nine of ten sizes on photographs that are kept aside, every eighth.

One thread, fixed seeds: the same file again on the same machine. About fifteen minutes.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import blurlib
from blurlib import kernels
from blurlib._gauge._network import BLURS, CLASSES, QUANTILES, RANGES, WEIGHTS, SpectrumNet
from blurlib._gauge._spectrum import spectra

TARGET = Path(blurlib.__file__).parent / "_gauge" / WEIGHTS
SKIMAGE = (
    "astronaut", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "stereo_motorcycle", "retina", "rocket", "immunohistochemistry", "moon", "page", "text",
)  # fmt: skip
SHARES = (0.14, 0.22, 0.22, 0.22, 0.13, 0.07)  # of CLASSES
SAMPLES, HELD = 40_000, 4_000
EPOCHS, BATCH = 25, 128
FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)


class Sample(NamedTuple):
    """A picture with its truth."""

    grey: np.ndarray
    kind: str
    size: float


# -- Pictures and their blurs -------------------------------------------------------------------------------


def skimage_photographs() -> list[Image.Image]:
    """Photographs that come with scikit-image."""
    from skimage import data

    found = []
    for name in SKIMAGE:
        picture = getattr(data, name)()
        found.append(Image.fromarray(picture[0] if isinstance(picture, tuple) else picture).convert("L"))
    return [*found, *(stars(count) for count in (300, 3000))]


def stars(count: int) -> Image.Image:
    """A night sky, of which there is but one among the photographs."""
    rng = np.random.default_rng(count)
    sky = np.zeros((600, 800), np.float32)
    sky[rng.integers(0, 600, count), rng.integers(0, 800, count)] = np.exp(rng.uniform(4, 8, count))
    return Image.fromarray(np.clip(blurlib.blur(sky, kernels.gaussian(0.7)) + 8, 0, 255).astype(np.uint8))


def caltech_photographs(root: Path, *, held: bool) -> list[Image.Image]:
    """Of the training split: every eighth is kept aside for the intervals."""
    paths = sorted((root / "train").rglob("*.jpg"))
    return [Image.open(path).convert("L") for number, path in enumerate(paths) if (number % 8 == 7) == held]


def draw_size(kind: str, rng: np.random.Generator) -> float:
    """Uniform in the logarithm."""
    size = float(np.exp(rng.uniform(*np.log(RANGES[kind]))))
    return 2.0 * round((size - 1) / 2) + 1 if kind == "shake" else size


def draw_kernel(kind: str, size: float, rng: np.random.Generator, bank: kernels.Bank) -> torch.Tensor:
    """A kernel of this size: at any angle, or of any shake of the bank."""
    if kind == "defocus":
        return kernels.disk(size, antialias=True)
    if kind == "motion":
        return kernels.line(size, rng.uniform(0, 180))
    if kind == "gaussian":
        return kernels.gaussian(size)
    index = int(rng.integers(kernels.BANK_SIZES[bank]))
    return kernels.bank_kernel(index, bank, size=int(size))


def stored(array: np.ndarray, rng: np.random.Generator, *, noise: float, jpeg: float) -> np.ndarray:
    """Noise of up to 5 levels and JPEG of quality 50 to 95, each with a probability; 8 bits."""
    if rng.random() < noise:
        array = array + rng.normal(0, rng.uniform(0, 5), array.shape)
    array = np.clip(np.floor(array + 0.5), 0, 255).astype(np.uint8)
    if rng.random() < jpeg:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        array = np.asarray(Image.open(buffer))
    return array


def training_sample(pictures: list[Image.Image], others: list[Image.Image], index: int, seed: int) -> Sample:
    """A part of a photograph, reduced, toned, blurred, sharpened, stored and reduced again, all at random."""
    rng = np.random.default_rng((seed, index))
    kind = CLASSES[rng.choice(len(CLASSES), p=SHARES)]
    if kind == "unknown" and rng.random() < 0.7:
        return Sample(stored(smooth(rng), rng, noise=0.6, jpeg=0.7), kind, 0.0)
    source = others if others and rng.random() < 0.12 else pictures
    picture = source[rng.integers(len(source))]
    if (factor := rng.uniform(0.4, 1.7)) < 1 or min(picture.size) > 500:
        factor = min(factor, 1) * min(1, 600 / min(picture.size))
        size = [max(round(n * factor), 110) for n in picture.size]
        picture = picture.resize((size[0], size[1]), FILTERS[rng.integers(4)])
    later = rng.uniform(0.5, 1) if rng.random() < 0.35 else 1.0  # of a picture that is reduced once blurred
    small = rng.random() < 0.1
    array = np.asarray(picture, np.float32)
    rows, columns = (
        min(n, round((rng.integers(64, 128) if small else rng.integers(128, 320)) / later))
        for n in array.shape
    )
    if rng.random() < 0.5:
        array = array[:, ::-1]
    if rng.random() < 0.5:
        gamma, contrast = np.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0.4, 1)
        array = 255 * (array / 255) ** gamma * contrast + rng.uniform(0, 1) * 255 * (1 - contrast)
    size = 0.0
    if kind in BLURS:
        size = draw_size(kind, rng)
        array = blurred(array, draw_kernel(kind, size, rng, "train"), linear=rng.random() < 0.3)
    elif kind == "unknown":
        array = blurred(array, kernels.gaussian(rng.uniform(20, 40)), linear=False)
    if rng.random() < 0.15:
        soft = blurlib.blur(array, kernels.gaussian(rng.uniform(0.5, 1.5)))
        array = array + rng.uniform(0, 0.8) * (array - soft)
    top, left = (rng.integers(n - m + 1) for n, m in zip(array.shape, (rows, columns), strict=True))
    array = array[top : top + rows, left : left + columns]
    grey = stored(array.T if rng.random() < 0.5 else array, rng, noise=0.6, jpeg=0.7)
    if later < 1:
        side = [max(round(n * later), 64) for n in grey.shape]
        grey = np.asarray(Image.fromarray(grey).resize((side[1], side[0]), Image.Resampling.BILINEAR))
    return Sample(grey, kind, size * later)


def smooth(rng: np.random.Generator) -> np.ndarray:
    """A picture without detail: flat, a slope, or a few soft clouds."""
    side = int(rng.integers(64, 320))
    contrast = np.exp(rng.uniform(np.log(2), np.log(200)))
    level = rng.uniform(0, 255 - contrast)
    if rng.random() < 0.3:
        x, y = np.meshgrid(*2 * [np.linspace(-0.5, 0.5, side)])
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
        slope = np.cos(angle) * x + np.sin(angle) * y + bend * (x * x + y * y)
        return (slope - slope.min()) / np.ptp(slope) * contrast + level
    few = int(rng.integers(1, 2 + max(side // 50, 1)))
    clouds = rng.uniform(0, 1, (few, few)).astype(np.float32)
    array = np.asarray(Image.fromarray(clouds).resize((side, side), Image.Resampling.BICUBIC))
    return array * contrast + level


def blurred(array: np.ndarray, kernel: torch.Tensor, *, linear: bool) -> np.ndarray:
    """As the library blurs; or as light does, on values to the power of 2.2."""
    array = np.ascontiguousarray(array, np.float32)
    if not linear:
        return np.asarray(blurlib.blur(array, kernel))
    light = np.asarray(blurlib.blur((array / 255) ** 2.2, kernel))
    return 255 * np.maximum(light, 0) ** (1 / 2.2)


# -- Training -----------------------------------------------------------------------------------------------


def inputs(samples: Iterator[Sample], count: int) -> tuple[torch.Tensor, ...]:
    """Spectra, extras, kinds and log sizes."""
    rows = []
    for number, sample in enumerate(samples):
        rows.append((*spectra(sample.grey), CLASSES.index(sample.kind), np.log(max(sample.size, 0.1))))
        if number % 5000 == 4999:
            print(f"{number + 1} of {count} pictures, {time.process_time():.0f} s", flush=True)
    spectrum, extra, kind, size = zip(*rows, strict=True)
    return (
        torch.from_numpy(np.stack(spectrum)), torch.from_numpy(np.stack(extra)),
        torch.tensor(kind), torch.tensor(size, dtype=torch.float32),
    )  # fmt: skip


def fit(spectrum: torch.Tensor, extra: torch.Tensor, kind: torch.Tensor, size: torch.Tensor) -> SpectrumNet:
    """Cross-entropy of the kind, and the pinball loss of the quantiles of the true kind."""
    torch.manual_seed(0)
    net = SpectrumNet()
    for name, value, axes in (("spectrum", spectrum, (0, 2)), ("extra", extra, (0,))):
        mean, std = value.mean(axes), value.std(axes)
        getattr(net, f"{name}_mean").copy_(mean.reshape(getattr(net, f"{name}_mean").shape))
        getattr(net, f"{name}_std").copy_(std.reshape(getattr(net, f"{name}_std").shape))
    steps = EPOCHS * (len(kind) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    levels = torch.tensor(QUANTILES)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(kind))[: len(kind) // BATCH * BATCH].split(BATCH):
            x = spectrum[chosen].roll(int(torch.randint(16, ())), 2)
            x = x.flip(2) if torch.rand(()) < 0.5 else x
            logits, log_sizes = net(
                x + 0.1 * torch.randn(BATCH, 1, 1), extra[chosen] + 0.2 * torch.randn(BATCH, 1)
            )
            has = (kind[chosen] > 0) & (kind[chosen] <= len(BLURS))
            missing = size[chosen][has][:, None] - log_sizes[has, kind[chosen][has] - 1]
            pinball = torch.maximum(levels * missing, (levels - 1) * missing).mean()
            loss = torch.nn.functional.cross_entropy(logits, kind[chosen]) + 6 * pinball
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * BATCH / len(kind)
        print(f"epoch {epoch}: loss {total:.3f}, {time.process_time():.0f} s", flush=True)
    return net.eval()


def widen(
    net: SpectrumNet, spectrum: torch.Tensor, extra: torch.Tensor, kind: torch.Tensor, size: torch.Tensor
) -> None:
    """Conformal: what must be added to the intervals of each kind so that nine of ten hold the size."""
    with torch.no_grad():
        log_sizes = net(spectrum, extra)[1].sort(dim=2).values
    for number in range(len(BLURS)):
        one = kind == number + 1
        low, _, high = log_sizes[one, number].T
        misses = torch.maximum(low - size[one], size[one] - high)
        net.widening[number] = torch.quantile(misses, QUANTILES[2] - QUANTILES[0])


def train(root: Path, target: Path, count: int) -> None:
    """One thread and fixed seeds: the same file again on the same machine."""
    torch.set_num_threads(1)
    pictures, others = caltech_photographs(root, held=False), skimage_photographs()
    net = fit(*inputs((training_sample(pictures, others, i, 0) for i in range(count)), count))
    aside = caltech_photographs(root, held=True)
    widen(net, *inputs((training_sample(aside, [], i, 1) for i in range(HELD)), HELD))
    state: dict[str, Any] = {name: value.half().numpy() for name, value in net.state_dict().items()}
    np.savez(target, **state)
    print(f"{target}: {target.stat().st_size} bytes, {sum(v.size for v in state.values())} numbers")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    options = parser.parse_args()
    train(options.root, options.output, options.samples)


if __name__ == "__main__":
    main()
