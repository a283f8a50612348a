"""Deblurring with a known kernel: how near the sharp photograph it comes, and how long it takes.

    python experiments/deblurring.py run         # measure: results/deblurring/quality.json, half an hour
    python experiments/deblurring.py epll        # its part on deepinv's EPLL alone
    python experiments/deblurring.py camera      # its part on images whose surroundings are not known alone
    python experiments/deblurring.py table       # the tables of the docs, from the record
    python experiments/deblurring.py picture     # docs/results/deblurring.webp

Two photographs that scikit-image ships and that the patch prior was not fitted on, shorter side 384 px,
blurred by `blurlib.blur` and rounded to 8 bits. Quality is the peak signal-to-noise ratio (PSNR) of the whole
image in dB. The other packages' filters have a weight to choose; each takes the best of WEIGHTS, chosen with
the sharp photograph at hand. Times are medians over rounds in which all take turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import blurlib
from blurlib import blurs, notation
from blurlib.deblurring import ROUNDING, default_prior, epll, richardson_lucy, wiener
from blurlib.functional import Border
from blurlib.protocol import to_canonical
from blurlib.reporting import markdown_table
from deblurring_rivals import deepinv_wiener, rounded, skimage_richardson_lucy, skimage_wiener

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "experiments" / "results" / "deblurring" / "quality.json"
PICTURE = ROOT / "docs" / "results" / "deblurring.webp"
PHOTOGRAPHS = ("coffee", "chelsea")
CASES: tuple[tuple[str, Border], ...] = (
    ("D4", "reflect"),
    ("D8", "reflect"),
    ("S42", "reflect"),
    ("D8", "circular"),
)
BORDERS: tuple[Border, ...] = ("reflect", "symmetric", "replicate", "circular", "zeros")
WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
EDGE = 16  # px from the border that count as near it
ROUNDS = 3
NAMES = {
    "blurred": "blurred",
    "wiener": "**blurlib** `wiener`",
    "richardson_lucy": "**blurlib** `richardson_lucy`",
    "epll": "**blurlib** `epll`",
    "scikit-image wiener": "scikit-image `wiener`, best weight",
    "scikit-image richardson_lucy": "scikit-image `richardson_lucy`, 200 steps",
    "deepinv Wiener": "deepinv `WienerDeconvolution`, best weight",
}


def environment() -> dict[str, Any]:
    """Machine, versions and date, as the benchmarks record them."""
    sys.path.append(str(ROOT / "benchmarks"))
    import timing

    return timing.environment()


def photograph(name: str, side: int = 384) -> Tensor:
    """uint8 (3, side, W)."""
    from skimage import data

    return (
        torch.from_numpy(to_canonical(Image.fromarray(getattr(data, name)()), side))
        .permute(2, 0, 1)
        .contiguous()
    )


def psnr(found: Tensor, true: Tensor) -> float:
    """Of two uint8 images, in dB."""
    error = (found.double() - true.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


# --- Measuring ---


def methods(sharp: Tensor, image: Tensor, kernel: Tensor, border: Any) -> dict[str, Callable[[], Tensor]]:
    """Every method on one blurred image; those with a weight at their best one."""

    def best(filtered: Callable[..., Tensor]) -> Callable[[], Tensor]:
        tried = {weight: psnr(filtered(image, kernel, weight=weight), sharp) for weight in WEIGHTS}
        return partial(filtered, image, kernel, weight=max(tried, key=lambda weight: tried[weight]))

    return {
        "blurred": lambda: image,
        "wiener": partial(wiener, image, kernel, border=border),
        "richardson_lucy": partial(richardson_lucy, image, kernel, border=border),
        "epll": partial(epll, image, kernel, border=border),
        "scikit-image wiener": best(skimage_wiener),
        "scikit-image richardson_lucy": partial(skimage_richardson_lucy, image, kernel),
        "deepinv Wiener": best(deepinv_wiener),
    }


def compared() -> list[dict[str, Any]]:
    """PSNR and time of every method on every photograph under every blur."""
    rows = []
    for name in PHOTOGRAPHS:
        sharp = photograph(name)
        for blur, border in CASES:
            kernel = notation.parse(blur).kernel()
            image = blurlib.blur(sharp, kernel, border=border)
            quality: dict[str, float] = {}
            times: dict[str, list[float]] = {}
            for number in range(ROUNDS):
                for method, restore in methods(sharp, image, kernel, border).items():
                    if method == "epll" and number:
                        continue
                    started = time.perf_counter()
                    restored = restore()
                    times.setdefault(method, []).append(time.perf_counter() - started)
                    quality[method] = psnr(restored, sharp)
            seconds = {
                method: float(np.median(each)) for method, each in times.items() if method != "blurred"
            }
            case = {"photograph": name, "blur": blur, "border": border}
            rows.append({**case, "psnr": quality, "seconds": seconds})
            print(rows[-1], flush=True)
    return rows


WRONG: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "`wiener`": wiener,
    "`wiener`, noise 0.003": partial(wiener, noise=0.003),
    "`wiener`, noise 0.01": partial(wiener, noise=0.01),
    "`richardson_lucy`": richardson_lucy,
    "`richardson_lucy`, 20 steps": partial(richardson_lucy, steps=20),
}


def wrong_radius() -> list[dict[str, Any]]:
    """PSNR where the assumed radius is off by one or two pixels."""
    rows = []
    for name in PHOTOGRAPHS:
        sharp = photograph(name)
        for radius in (4, 8):
            image = blurlib.blur(sharp, blurs.Disk(radius).kernel())
            quality = {
                method: {
                    str(off): psnr(restore(image, blurs.Disk(radius + off).kernel()), sharp)
                    for off in (-2, -1, 0, 1, 2)
                }
                for method, restore in WRONG.items()
            }
            row = {"photograph": name, "blur": f"D{radius}", "blurred": psnr(image, sharp), "psnr": quality}
            rows.append(row)
            print(row, flush=True)
    return rows


def at_borders() -> list[dict[str, Any]]:
    """PSNR near the border and in the middle, before and after, under each border."""
    rows = []
    for blur in ("D8", "S42"):
        kernel = notation.parse(blur).kernel()
        for border in BORDERS:
            gains: dict[str, list[float]] = {}
            for name in PHOTOGRAPHS:
                sharp = photograph(name)
                image = blurlib.blur(sharp, kernel, border=border)
                middle = torch.zeros(sharp.shape[1:], dtype=torch.bool)
                middle[EDGE:-EDGE, EDGE:-EDGE] = True
                for method, restore in (("wiener", wiener), ("richardson_lucy", richardson_lucy)):
                    found = restore(image, kernel, border=border)
                    for place, where in (("edge", ~middle), ("middle", middle)):
                        gain = psnr(found[:, where], sharp[:, where]) - psnr(image[:, where], sharp[:, where])
                        gains.setdefault(f"{method} {place}", []).append(gain)
            row = {"blur": blur, "border": border, **{key: float(np.mean(v)) for key, v in gains.items()}}
            rows.append(row)
            print(row, flush=True)
    return rows


def keep(**parts: Any) -> None:
    """Add parts to the record, or replace them."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({**record, **parts}, indent=1) + "\n", encoding="utf-8")


def run() -> None:
    """Measure, and keep the record."""
    torch.set_num_threads(1)
    keep(**environment(), compared=compared(), wrong_radius=wrong_radius(), at_borders=at_borders())
    from_a_camera()
    against_deepinv()


MARGIN = 40  # px cut off, so that what was outside the image is what was there


def from_a_camera() -> None:
    """PSNR of images cut from larger blurred ones, by the border that is assumed; added to the record."""
    torch.set_num_threads(1)
    rows = []
    for blur in ("D4", "D8", "S42"):
        kernel = notation.parse(blur).kernel()
        for name in PHOTOGRAPHS:
            inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
            whole = photograph(name)
            sharp, image = whole[inner], blurlib.blur(whole, kernel)[inner].contiguous()
            quality = {border: psnr(wiener(image, kernel, border=border), sharp) for border in BORDERS}
            rows.append({"photograph": name, "blur": blur, "blurred": psnr(image, sharp), "psnr": quality})
            print(rows[-1], flush=True)
    keep(from_a_camera=rows)


def against_deepinv() -> None:
    """Time and PSNR of our EPLL and deepinv's, with one prior and one schedule; added to the record."""
    from deepinv.optim import EPLL
    from deepinv.optim.utils import GaussianMixtureModel
    from deepinv.physics import BlurFFT

    torch.set_num_threads(1)
    prior, kernel = default_prior(), blurs.Disk(3).kernel()
    theirs = GaussianMixtureModel(len(prior.weights), prior.side**2)
    theirs.set_weights(prior.weights)
    theirs.mu.data.zero_()
    theirs.set_cov(prior.covariances + torch.ones(64, 64) / 64)  # its patches keep their means
    sharp = photograph("coffee", 96)[:1]
    image = blurlib.blur(sharp, kernel, border="circular")
    start = wiener(image.float() / 255, kernel, border="circular")
    physics = BlurFFT(img_size=tuple(image.shape), filter=kernel.float()[None, None])
    betas = (50.0, 400.0, 3200.0, 25600.0)
    method = EPLL(GMM=theirs, pretrained=None, patch_size=prior.side)
    both: dict[str, Callable[[], Tensor]] = {
        "blurlib": lambda: epll(image, kernel, border="circular", betas=betas),
        "deepinv": lambda: rounded(
            method(image.float()[None] / 255, physics, sigma=ROUNDING, x_init=start[None], betas=list(betas))[
                0
            ]
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in both}
    quality = {}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, restore in both.items():
                started = time.perf_counter()
                restored = restore()
                times[name].append(time.perf_counter() - started)
                quality[name] = psnr(restored, sharp)
    found = {
        "picture": list(sharp.shape),
        "blur": "D3",
        "date": environment()["date"],
        "psnr": quality,
        "seconds": {name: float(np.median(each)) for name, each in times.items()},
    }
    print(found)
    keep(epll=found)


# --- Tables and picture ---


def tables() -> None:
    """Markdown for the docs, from the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = record["compared"]
    body = []
    for method, name in NAMES.items():
        line = [name]
        for case in CASES:
            found = [row["psnr"][method] for row in rows if (row["blur"], row["border"]) == case]
            line.append(f"{np.mean(found):.1f}")
        seconds = [row["seconds"][method] for row in rows if method in row["seconds"]]
        body.append([*line, f"{np.median(seconds):.2g}" if seconds else "-"])
    wrong = []
    for blur in ("D4", "D8"):
        chosen = [row for row in record["wrong_radius"] if row["blur"] == blur]
        before = np.mean([row["blurred"] for row in chosen])
        for method in chosen[0]["psnr"]:
            every = [row["psnr"][method] for row in chosen]
            each = [np.mean([found[off] for found in every]) for off in ("-2", "-1", "0", "1", "2")]
            wrong.append([f"{blur} ({before:.1f})", method, *(f"{value:.1f}" for value in each)])
    places = {"Wiener": "wiener", "Richardson-Lucy": "richardson_lucy"}
    edges = [
        [
            row["blur"],
            f'"{row["border"]}"',
            *(f"{row[f'{key} {place}']:+.1f}" for key in places.values() for place in ("edge", "middle")),
        ]
        for row in record["at_borders"]
    ]
    packages = ("blurlib", "torch", "scikit-image", "deepinv")
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in packages)
    header = ["", *(f"{blur}, {border}" for blur, border in CASES), "seconds"]
    write = {
        "deblurring-methods": f"{markdown_table(header, body)}\n\nPSNR in dB, mean of both photographs; "
        f"{record['date'][:10]}, {record['processor']}, one thread, {versions}." + epll_rival(record),
        "deblurring-wrong": markdown_table(
            ["blur (PSNR)", "method", "-2 px", "-1 px", "true", "+1 px", "+2 px"], wrong
        ),
        "deblurring-borders": markdown_table(
            ["blur", "border", *(f"{name}, {place}" for name in places for place in ("edge", "middle"))],
            edges,
        ),
    }
    cut = []
    for blur in dict.fromkeys(row["blur"] for row in record["from_a_camera"]):
        chosen = [row for row in record["from_a_camera"] if row["blur"] == blur]
        each = [np.mean([row["psnr"][border] for row in chosen]) for border in BORDERS]
        cut.append([blur, f"{np.mean([row['blurred'] for row in chosen]):.1f}", *(f"{v:.1f}" for v in each)])
    write["deblurring-camera"] = markdown_table(
        ["blur", "blurred", *(f'"{border}"' for border in BORDERS)], cut
    )
    for name, text in write.items():
        folder = RECORD.parents[1] / name
        folder.mkdir(exist_ok=True)
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")


def epll_rival(record: dict[str, Any]) -> str:
    """A sentence on deepinv's EPLL."""
    found = record.get("epll")
    if not found:
        return ""
    seconds, quality = found["seconds"], found["psnr"]
    size = " x ".join(map(str, found["picture"][1:]))
    return (
        f"\n\nWith our prior, schedule and start deepinv's `EPLL` takes "
        f"{seconds['deepinv'] / seconds['blurlib']:.1f} times as long as `epll` on one channel of {size} px "
        f"({found['blur']}, circular), for {quality['deepinv']:.1f} dB to {quality['blurlib']:.1f}."
    )


def picture() -> None:
    """A part of one photograph: sharp, blurred, and what each method makes of it."""
    torch.set_num_threads(1)
    sharp, disk = photograph("coffee"), blurs.Disk(8).kernel()
    image, shake = blurlib.blur(sharp, disk), notation.parse("S42").kernel()
    shaken = blurlib.blur(sharp, shake)
    tiles = {
        "sharp": sharp,
        "D8": image,
        "D8, Wiener": wiener(image, disk),
        "D8, EPLL": epll(image, disk),
        "camera shake (S42)": shaken,
        "S42, Wiener": wiener(shaken, shake),
        "S42, EPLL": epll(shaken, shake),
        "D8, Wiener with D7": wiener(image, blurs.Disk(7).kernel()),
    }
    side, label, gap, (top, left) = 220, 24, 8, (60, 190)
    sheet = Image.new("RGB", (4 * side + 3 * gap, 2 * (side + label) + gap), "white")
    for number, (name, tile) in enumerate(tiles.items()):
        row, column = divmod(number, 4)
        corner = (column * (side + gap), row * (side + label + gap))
        window = tile[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous().numpy()
        sheet.paste(Image.fromarray(window), corner)
        text = name if tile is sharp else f"{name}: {psnr(tile, sharp):.1f} dB"
        ImageDraw.Draw(sheet).text(
            (corner[0], corner[1] + side + 5), text, "black", ImageFont.load_default(13)
        )
    sheet.save(PICTURE, quality=88, method=6)
    print(PICTURE.name, f"{PICTURE.stat().st_size // 1024} kB; rounding {ROUNDING:.5f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "epll", "camera", "table", "picture"))
    {"run": run, "epll": against_deepinv, "camera": from_a_camera, "table": tables, "picture": picture}[
        parser.parse_args().command
    ]()


if __name__ == "__main__":
    main()
