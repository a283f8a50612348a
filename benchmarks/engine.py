"""The blur engine against its rivals: one image, one thread, all variants shuffled inside every round.

    python benchmarks/engine.py            measures, prints the tables, writes results/engine_<date>.json
    python benchmarks/engine.py --page     writes README.md from the newest record in results/

Times are medians of thread CPU time (`time.thread_time`), so that a busy machine disturbs them little; what
counts are the ratios within one run. Every variant's picture is compared with a float64 reference before it
is timed. A rival that wants another memory layout, or floats, pays for the conversion there and back, as its
user would.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
import scipy.signal
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tvf

import blurlib
from blurlib.blurs import Blur, Box, Disk, Gaussian, Line, Shake, describe, parse

HERE = Path(__file__).parent
RESULTS = HERE / "results"
HEIGHT, WIDTH = 384, 512
BLURS: tuple[Blur, ...] = (
    *(Disk(radius) for radius in (2, 4, 8, 16)),
    Disk(8, antialias=True),
    Shake(17),
    *(Box(length) for length in (5, 8, 17, 33)),
    *(Box(length, vertical=True) for length in (8, 17)),
    Line(16, 30),
    *(Gaussian(sigma) for sigma in (1, 4, 8)),
)
GOALS = {("D8", "cv2.filter2D"): 12.0, ("S17", "cv2.filter2D"): 5.0}
PACKAGES = ("numpy", "scipy", "torch", "torchvision", "opencv-python-headless", "numba")

Array = np.ndarray
Variant = Callable[[], object]


# --- The rivals ---


def on_hwc(function: Callable[[Array], Array], image: Array | torch.Tensor) -> Array | torch.Tensor:
    """Run a function of HWC arrays; for a CHW tensor with the conversions that its user needs."""
    if isinstance(image, np.ndarray):
        return function(image)
    blurred = function(image.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(blurred).permute(2, 0, 1).contiguous()


def on_chw(function: Callable[[torch.Tensor], torch.Tensor], image: Array | torch.Tensor) -> object:
    """Run a function of CHW tensors; for an HWC array with the conversions that its user needs."""
    if isinstance(image, torch.Tensor):
        return function(image)
    return (
        function(torch.from_numpy(image).permute(2, 0, 1).contiguous()).permute(1, 2, 0).contiguous().numpy()
    )


def engine(blur: Blur, image: Array | torch.Tensor) -> Variant:
    kernel = blur.kernel()
    if isinstance(image, torch.Tensor):
        return lambda: blurlib.blur(image, kernel)
    return lambda: blurlib.blur(torch.from_numpy(image).permute(2, 0, 1), kernel).permute(1, 2, 0).numpy()


def cv2_filter(blur: Blur, image: Array | torch.Tensor) -> Variant:
    # OpenCV correlates.
    taps = np.ascontiguousarray(blur.kernel().numpy()[::-1, ::-1]).astype(np.float32)
    return lambda: on_hwc(lambda x: cv2.filter2D(x, -1, taps, borderType=cv2.BORDER_REFLECT_101), image)


def cv2_special(blur: Blur, image: Array | torch.Tensor) -> Variant | None:
    if isinstance(blur, Gaussian):
        size = blur.kernel().shape[0]
        return lambda: on_hwc(lambda x: cv2.GaussianBlur(x, (size, size), blur.sigma), image)
    if isinstance(blur, Box):
        size, middle = (1, blur.length) if blur.vertical else (blur.length, 1), (blur.length - 1) // 2
        anchor = (0, middle) if blur.vertical else (middle, 0)
        return lambda: on_hwc(lambda x: cv2.blur(x, size, anchor=anchor), image)
    return None


def torchvision_gaussian(blur: Blur, image: Array | torch.Tensor) -> Variant | None:
    if not isinstance(blur, Gaussian):
        return None
    size = blur.kernel().shape[0]
    return lambda: on_chw(lambda x: tvf.gaussian_blur(x, [size, size], [blur.sigma, blur.sigma]), image)


def padded(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    h, w = (side // 2 for side in kernel.shape)
    return F.pad(image.float()[None], (w, w, h, h), mode="reflect")


def to_bytes(image: torch.Tensor) -> torch.Tensor:
    return image.add_(0.5).clamp_(0, 255).to(torch.uint8)


def torch_conv2d(blur: Blur, image: Array | torch.Tensor) -> Variant | None:
    kernel = blur.kernel().float()
    if kernel.numel() > 1600:  # seconds, and nobody would
        return None
    weight = kernel.flip(0, 1).expand(3, 1, *kernel.shape).contiguous()
    return lambda: on_chw(lambda x: to_bytes(F.conv2d(padded(x, kernel), weight, groups=3)[0]), image)


def torch_rfft2(blur: Blur, image: Array | torch.Tensor) -> Variant:
    kernel = blur.kernel().float()
    h, w = kernel.shape
    size = [scipy.fft.next_fast_len(n, real=True) for n in (HEIGHT + h - 1, WIDTH + w - 1)]

    def convolve(x: torch.Tensor) -> torch.Tensor:
        product = torch.fft.rfft2(padded(x, kernel), s=size) * torch.fft.rfft2(kernel, s=size)
        sums = torch.fft.irfft2(product, s=size)[0, :, h - 1 : h - 1 + HEIGHT, w - 1 : w - 1 + WIDTH]
        return to_bytes(sums.contiguous())

    return lambda: on_chw(convolve, image)


def scipy_fft(blur: Blur, image: Array | torch.Tensor) -> Variant:
    kernel = blur.kernel().numpy().astype(np.float32)[..., None]
    h, w = kernel.shape[0] // 2, kernel.shape[1] // 2

    def convolve(x: Array) -> Array:
        around = np.pad(x.astype(np.float32), ((h, h), (w, w), (0, 0)), mode="reflect")
        sums = scipy.signal.fftconvolve(around, kernel, mode="valid", axes=(0, 1))
        return np.clip(sums + 0.5, 0, 255).astype(np.uint8)

    return lambda: on_hwc(convolve, image)


def scipy_ndimage(blur: Blur, image: Array | torch.Tensor) -> Variant | None:
    # For other kernels its convolve takes a hundred times as long as the rest of the table.
    if isinstance(blur, Gaussian):
        sigma = (blur.sigma, blur.sigma, 0)

        def sums(x: Array) -> Array:
            return scipy.ndimage.gaussian_filter(x, sigma, output=np.float32, mode="mirror")
    elif isinstance(blur, Box):
        axis, origin = 0 if blur.vertical else 1, blur.length % 2 - 1

        def sums(x: Array) -> Array:
            return scipy.ndimage.uniform_filter1d(
                x, blur.length, axis, output=np.float32, mode="mirror", origin=origin
            )
    else:
        return None
    return lambda: on_hwc(lambda x: (sums(x) + 0.5).astype(np.uint8), image)


RIVALS: dict[str, Callable[[Blur, Array | torch.Tensor], Variant | None]] = {
    "blurlib": engine,
    "cv2.filter2D": cv2_filter,
    "cv2.blur, GaussianBlur": cv2_special,
    "torchvision gaussian_blur": torchvision_gaussian,
    "torch conv2d": torch_conv2d,
    "torch rfft2": torch_rfft2,
    "scipy.ndimage": scipy_ndimage,
    "scipy fftconvolve": scipy_fft,
}


# --- Measuring ---


def reference(blur: Blur, image: Array) -> Array:
    """The exact picture in float64, HWC."""
    kernel = blur.kernel().numpy()
    h, w = kernel.shape[0] // 2, kernel.shape[1] // 2
    around = np.pad(image.astype(np.float64), ((h, h), (w, w), (0, 0)), mode="reflect")
    return scipy.signal.fftconvolve(around, kernel[..., None], mode="valid", axes=(0, 1))


def as_hwc(picture: object) -> Array:
    return picture.permute(1, 2, 0).numpy() if isinstance(picture, torch.Tensor) else np.asarray(picture)


def photograph() -> Array:
    """Bytes with the long correlations of a photograph, and noise: 384 x 512 x 3."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(
        rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def prepare(chosen: tuple[Blur, ...]) -> list[dict]:
    """All variants, each run twice (compiling, caching) and compared with the reference."""
    hwc = photograph()
    layouts = {"HWC": hwc, "CHW": torch.from_numpy(hwc).permute(2, 0, 1).contiguous()}
    cells = []
    for blur in chosen:
        exact = reference(blur, hwc)
        for layout, image in layouts.items():
            for rival, make in RIVALS.items():
                run = make(blur, image)
                if run is None:
                    continue
                run()
                error = float(np.abs(as_hwc(run()) - exact).max())
                if error > (0.51 if rival == "blurlib" else 2.0):
                    raise AssertionError(
                        f"{rival} on {blur}, {layout}: {error:.2f} grey levels from the reference"
                    )
                cells.append(
                    {
                        "blur": str(blur),
                        "layout": layout,
                        "rival": rival,
                        "run": run,
                        "error": error,
                        "times": [],
                    }
                )
    return cells


def measure(cells: list[dict], rounds: int, seed: int) -> None:
    """Thread CPU seconds of every variant, once a round, in an order drawn anew for each round."""
    order = random.Random(seed)
    for done in range(rounds):
        for cell in order.sample(cells, len(cells)):
            start = time.thread_time()
            cell["run"]()
            cell["times"].append(time.thread_time() - start)
        if sys.stderr.isatty():
            print(f"round {done + 1} of {rounds}", end="\r", file=sys.stderr, flush=True)


def processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record(cells: list[dict], rounds: int, seed: int) -> dict:
    versions = {package: importlib.metadata.version(package) for package in ("blurlib", *PACKAGES)}
    results = [
        {
            **{key: cell[key] for key in ("blur", "layout", "rival")},
            "milliseconds": round(1e3 * statistics.median(cell["times"]), 4),
            "quartiles": [round(1e3 * float(q), 4) for q in np.percentile(cell["times"], [25, 75])],
            "error": round(cell["error"], 4),
        }
        for cell in cells
    ]
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions,
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "image": [3, HEIGHT, WIDTH],
        "dtype": "uint8",
        "rounds": rounds,
        "seed": seed,
        "results": results,
    }


# --- Telling ---


def cells_of(run: dict, layout: str) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for cell in run["results"]:
        if cell["layout"] == layout:
            table.setdefault(cell["blur"], {})[cell["rival"]] = cell["milliseconds"]
    return table


def layout_table(run: dict, layout: str) -> str:
    """One row a blur: the engine's time, and how many times as long each rival takes."""
    rivals = list(RIVALS)[1:]
    lines = [
        f"| blur | blurlib, ms | {' | '.join(rivals)} | best rival |",
        f"|---|---:|{'---:|' * (len(rivals) + 1)}",
    ]
    for blur, times in cells_of(run, layout).items():
        ours = times["blurlib"]
        ratios = [f"{times[rival] / ours:.1f}" if rival in times else "" for rival in rivals]
        best = min(times[rival] for rival in rivals if rival in times) / ours
        lines.append(f"| {blur} | {ours:.2f} | {' | '.join(ratios)} | **{best:.1f}** |")
    return "\n".join(lines)


def goals(run: dict) -> str:
    lines = ["| blur | rival | layout | goal | measured |", "|---|---|---|---:|---:|"]
    for (blur, rival), goal in GOALS.items():
        for layout in ("HWC", "CHW"):
            times = cells_of(run, layout).get(blur, {})
            if times:
                lines.append(
                    f"| {blur} | {rival} | {layout} | {goal:.0f} | {times[rival] / times['blurlib']:.1f} |"
                )
    return "\n".join(lines)


def geometric_mean(run: dict, layout: str) -> float:
    ratios = [
        min(t for rival, t in times.items() if rival != "blurlib") / times["blurlib"]
        for times in cells_of(run, layout).values()
    ]
    return math.exp(statistics.fmean(map(math.log, ratios)))


def page(run: dict, source: str) -> str:
    """The whole README.md of this folder."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    names = "\n".join(f"- `{blur}`: {describe(parse(blur))}" for blur in cells_of(run, "HWC"))
    channels, height, width = run["image"]
    return f"""# Benchmarks

Written from [results/{source}](results/{source}) by `python benchmarks/engine.py --page`; do not edit.

One image of {channels} x {height} x {width} bytes, border `reflect`, {run["threads"]} thread. Times are
medians of thread CPU time over {run["rounds"]} rounds; in each round all variants run once, in random order,
so that caches are cold. The other columns say how many times as long a rival takes; "best rival" is the
quickest. Before the timing each variant's picture is compared with a float64 reference: the engine's is that
reference rounded, a rival's may be up to 2 grey levels off. A rival that wants another memory layout, or
floats, pays for the conversion, as its user would.

- {run["processor"]}; {run["system"]}
- {versions}
- commit {run["commit"]}, {run["date"]}

## What was asked for

{goals(run)}

## HWC memory (a NumPy photograph)

{layout_table(run, "HWC")}

Geometric mean against the best rival: {geometric_mean(run, "HWC"):.1f}.

## CHW memory (a torch tensor)

{layout_table(run, "CHW")}

Geometric mean against the best rival: {geometric_mean(run, "CHW"):.1f}.

## The blurs

{names}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="times each variant runs (21)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (0)")
    parser.add_argument("--blurs", help="short names, comma-separated; all of the table's if left out")
    parser.add_argument("--out", type=Path, help="the record (results/engine_<date>.json)")
    parser.add_argument(
        "--page", action="store_true", help="write README.md from the newest record; nothing is measured"
    )
    options = parser.parse_args()
    if options.page:
        records = [*RESULTS.glob("engine_*.json")]
        if not records:
            parser.error(f"there is no record in {RESULTS}; run the benchmark first")
        newest = max(records, key=lambda path: json.loads(path.read_text())["date"])
        (HERE / "README.md").write_text(page(json.loads(newest.read_text()), newest.name))
        return
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    chosen = blurlib.blurs.parse_list(options.blurs) if options.blurs else BLURS
    cells = prepare(chosen)
    measure(cells, options.rounds, options.seed)
    run = record(cells, options.rounds, options.seed)
    out = options.out or RESULTS / f"engine_{run['date'][:10]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(run, indent=1) + "\n")
    for layout in ("HWC", "CHW"):
        print(f"\n{layout}\n{layout_table(run, layout)}")
    print(f"\n{goals(run)}\n\nWritten to {out}")


if __name__ == "__main__":
    main()
