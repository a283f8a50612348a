"""Deblurring with a known kernel: how near the sharp photograph it comes, and how long it takes.

    python benchmarks/deblurring.py run         # measure: records/deblurring/quality.json, half an hour
    python benchmarks/deblurring.py table       # the tables of the docs, from the record
    python benchmarks/deblurring.py picture     # docs/results/deblurring.webp

Two photographs that scikit-image ships and that the patch prior was not fitted on, shorter side 384 px,
blurred by `blurlib.blur` and rounded to 8 bits. Quality is the peak signal-to-noise ratio (PSNR) of the whole
image in dB. The other packages' filters have a weight to choose; each takes the best of WEIGHTS, chosen with
the sharp photograph at hand. Times are medians over rounds in which all take turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
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
import measure
from blurlib import blurs
from blurlib.deblurring import ROUNDING, epll, richardson_lucy, wiener
from blurlib.protocol import to_canonical
from blurlib.tables import markdown_table

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "deblurring" / "quality.json"
PICTURE = ROOT / "docs" / "results" / "deblurring.webp"
PHOTOGRAPHS = ("coffee", "chelsea")
CASES = (("D4", "reflect"), ("D8", "reflect"), ("S42", "reflect"), ("D8", "circular"))
BORDERS = ("reflect", "symmetric", "replicate", "circular", "zeros")
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


def photograph(name: str) -> Tensor:
    """uint8 (3, 384, W)."""
    from skimage import data

    return (
        torch.from_numpy(to_canonical(Image.fromarray(getattr(data, name)()))).permute(2, 0, 1).contiguous()
    )


def psnr(found: Tensor, true: Tensor) -> float:
    """Of two uint8 images, in dB."""
    error = (found.double() - true.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def rounded(values: Any) -> Tensor:
    """uint8 of values in [0, 1]."""
    return (torch.as_tensor(values).clamp(0, 1) * 255).round().to(torch.uint8)


# --- The other packages: uint8 (3, H, W), kernel and weight to uint8 ---


def skimage_wiener(image: Tensor, kernel: Tensor, *, weight: float) -> Tensor:
    from skimage import restoration

    planes = image.numpy() / 255
    return rounded(np.stack([restoration.wiener(plane, kernel.numpy(), weight) for plane in planes]))


def skimage_richardson_lucy(image: Tensor, kernel: Tensor) -> Tensor:
    from skimage import restoration

    planes = image.numpy() / 255
    lucy = partial(restoration.richardson_lucy, psf=kernel.numpy(), num_iter=200)
    return rounded(np.stack([lucy(plane) for plane in planes]))


def deepinv_wiener(image: Tensor, kernel: Tensor, *, weight: float) -> Tensor:
    from deepinv.models import WienerDeconvolution
    from deepinv.physics import BlurFFT

    physics = BlurFFT(img_size=tuple(image.shape), filter=kernel.float()[None, None])
    with torch.no_grad():
        return rounded(WienerDeconvolution(lambda_reg=weight)(image[None].float() / 255, physics)[0])


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
            kernel = blurs.parse(blur).kernel()
            image = blurlib.blur(sharp, kernel, border=border)  # type: ignore[arg-type]
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


def told_wrong() -> list[dict[str, Any]]:
    """PSNR where the radius that a method is told is off by one or two pixels."""
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
        kernel = blurs.parse(blur).kernel()
        for border in BORDERS:
            gains: dict[str, list[float]] = {}
            for name in PHOTOGRAPHS:
                sharp = photograph(name)
                image = blurlib.blur(sharp, kernel, border=border)  # type: ignore[arg-type]
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


def run() -> None:
    """Measure, and keep the record."""
    torch.set_num_threads(1)
    record = {
        **measure.environment(),
        "compared": compared(),
        "told_wrong": told_wrong(),
        "at_borders": at_borders(),
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


# --- Tables and picture ---


def tables() -> None:
    """Markdown for the docs, from the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = record["compared"]
    header = ["", *(f"{row['photograph']}, {row['blur']}, {row['border']}" for row in rows), "seconds"]
    body = []
    for method, name in NAMES.items():
        seconds = [row["seconds"][method] for row in rows if method in row["seconds"]]
        body.append(
            [
                name,
                *(f"{row['psnr'][method]:.1f}" for row in rows),
                f"{np.median(seconds):.2g}" if seconds else "-",
            ]
        )
    wrong = record["told_wrong"]
    offs = ("-2", "-1", "0", "1", "2")
    told = []
    for row in wrong:
        for method, found in row["psnr"].items():
            line = [f"{row['photograph']}, {row['blur']} ({row['blurred']:.1f})", method]
            told.append([*line, *(f"{found[off]:.1f}" for off in offs)])
    places = ("wiener edge", "wiener middle", "richardson_lucy edge", "richardson_lucy middle")
    edges = [
        [row["blur"], f'"{row["border"]}"', *(f"{row[place]:+.1f}" for place in places)]
        for row in record["at_borders"]
    ]
    packages = ("blurlib", "torch", "scikit-image", "deepinv")
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in packages)
    write = {
        "deblurring-methods": f"{markdown_table(header, body)}\n\nPSNR in dB; {record['date'][:10]}, "
        f"{record['processor']}, one thread, {versions}.",
        "deblurring-wrong": markdown_table(
            [
                "photograph, blur (PSNR blurred)",
                "method",
                *(f"{int(off):+d} px" if off != "0" else "true" for off in offs),
            ],
            told,
        ),
        "deblurring-borders": markdown_table(
            ["blur", "border", *(place.replace("_", "-").replace(" ", ", ") for place in places)], edges
        ),
    }
    for name, text in write.items():
        folder = RECORD.parents[1] / name
        folder.mkdir(exist_ok=True)
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")


def picture() -> None:
    """A part of one photograph: sharp, blurred, and what each method makes of it."""
    torch.set_num_threads(1)
    sharp, disk = photograph("coffee"), blurs.Disk(8).kernel()
    image, shake = blurlib.blur(sharp, disk), blurs.parse("S42").kernel()
    shaken = blurlib.blur(sharp, shake)
    tiles = {
        "sharp": sharp,
        "D8": image,
        "D8, Wiener": wiener(image, disk),
        "D8, EPLL": epll(image, disk),
        "camera shake (S42)": shaken,
        "S42, Wiener": wiener(shaken, shake),
        "S42, EPLL": epll(shaken, shake),
        "D8, Wiener told D7": wiener(image, blurs.Disk(7).kernel()),
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
    parser.add_argument("command", choices=("run", "table", "picture"))
    {"run": run, "table": tables, "picture": picture}[parser.parse_args().command]()


if __name__ == "__main__":
    main()
