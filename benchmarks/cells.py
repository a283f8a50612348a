"""The grid: which blur of which picture, in which memory, how many at once, on how many threads.

A cell is one question that every rival answers; its name in tables and records is made of plain texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from blurlib import kernels
from blurlib.blurs import describe, parse

SIZES = ("224x224", "384x512", "1080x1920", "4000x6000")  # height x width
LARGEST = SIZES[-1]
PROBE_SIZE = SIZES[0]  # what a call takes here tells what it takes on larger images
LAYOUTS = ("CHW uint8", "HWC uint8", "CHW float32")  # CHW: a torch tensor; HWC: a NumPy array

DISKS = ("D2", "D4", "D8", "D16", "D32")
SOFT_DISKS = ("D4a", "D8a")
BOXES = ("H5", "H8", "H17", "H33", "V5", "V8", "V17", "V33")
LINES = ("L8@30", "L16@30", "L32@30")
SHAKES = ("S17", "shake41")
GAUSSIANS = ("G1", "G4", "G8")
BLURS = (*DISKS, *SOFT_DISKS, *BOXES, *LINES, *SHAKES, *GAUSSIANS)

# A part of the blurs is enough where one call of a rival takes seconds, and for a first look.
LARGEST_BLURS = ("D2", "D8", "D32", "H17", "V17", "S17", "G4")
QUICK_BLURS = ("D8", "D8a", "H17", "L16@30", "S17", "G4")
QUICK_SIZES = SIZES[:2]

BATCH = 32
BATCH_SIZES = SIZES[:2]
BATCH_BLURS = ("disks", "shakes")  # 32 radii from 2 to 12; 32 kernels of the test bank
BATCH_LAYOUTS = ("CHW uint8", "CHW float32")
THREADED_BLURS = ("D8", "S17", "G4")  # single images on two threads
THREADED_SIZES = ("384x512", "1080x1920")
THREADED_LAYOUTS = ("CHW uint8", "HWC uint8")


@dataclass(frozen=True)
class Cell:
    """One question of the grid.

    Attributes:
        size: height x width, such as "384x512".
        blur: short name of a blur, "shake41", or a name of `BATCH_BLURS`.
        layout: one of `LAYOUTS`.
        batch: how many images, each with a kernel of its own; 0 for one image.
        threads: how many threads a call may use.
    """

    size: str
    blur: str
    layout: str
    batch: int = 0
    threads: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return sides(self.size)

    @property
    def elements(self) -> int:
        """How many numbers the picture, or the batch, holds."""
        height, width = self.shape
        return 3 * height * width * max(1, self.batch)


def sides(size: str) -> tuple[int, int]:
    height, width = size.split("x")
    return int(height), int(width)


def grid(
    sizes: Sequence[str] = SIZES, blurs: Sequence[str] | None = None, *, quick: bool = False
) -> list[Cell]:
    """All cells of some sizes; `blurs` narrows the single images, and leaves the batches out."""
    chosen = blurs or (QUICK_BLURS if quick else BLURS)
    cells = []
    for size in sizes:
        names = [blur for blur in chosen if blurs or size != LARGEST or blur in LARGEST_BLURS]
        cells += [Cell(size, blur, layout) for blur in names for layout in LAYOUTS]
        if size in THREADED_SIZES and not quick:
            threaded = [blur for blur in names if blur in THREADED_BLURS]
            cells += [Cell(size, blur, layout, threads=2) for blur in threaded for layout in THREADED_LAYOUTS]
    if blurs is None:
        cells += [
            Cell(size, blur, layout, BATCH, threads)
            for size in sizes
            if size in BATCH_SIZES[: 1 if quick else None]
            for blur in BATCH_BLURS
            for layout in BATCH_LAYOUTS[: 1 if quick else None]
            for threads in (1, 2)
        ]
    return cells


@cache
def kernel_of(blur: str) -> torch.Tensor:
    """Float64 (h, w) or, for a name of `BATCH_BLURS`, (32, h, w)."""
    if blur == "shake41":
        return kernels.camera_shake(1, seed=1, grid=39, size=41)[0]
    if blur == "shakes":
        return torch.stack([kernels.bank_kernel(index) for index in range(BATCH)])
    if blur == "disks":
        disks = [kernels.disk(2 + 10 * index / (BATCH - 1)) for index in range(BATCH)]
        side = max(disk.shape[0] for disk in disks)
        return torch.stack([_centred(disk, side) for disk in disks])
    return parse(blur).kernel()


def _centred(kernel: torch.Tensor, side: int) -> torch.Tensor:
    margin = (side - kernel.shape[0]) // 2
    return torch.nn.functional.pad(kernel, (margin, margin, margin, margin))


def taps(blur: str) -> float:
    """How many numbers of the kernel are not zero; the mean of a batch."""
    kernel = kernel_of(blur)
    return int(torch.count_nonzero(kernel)) / (kernel.shape[0] if kernel.ndim == 3 else 1)


def words(blur: str) -> str:
    """What the name means."""
    if blur == "shake41":
        return f"camera shake, 41 x 41 px, {taps(blur):.0f} pixels of its trace"
    if blur == "disks":
        return f"{BATCH} images, defocus disks of {BATCH} radii from 2 to 12 px"
    if blur == "shakes":
        return f"{BATCH} images, {BATCH} camera-shake kernels of the test bank"
    return describe(parse(blur))


@cache
def photograph(size: str, layout: str, batch: int = 0) -> np.ndarray | torch.Tensor:
    """Pixels with the long correlations of a photograph, and noise; as many different ones as asked."""
    height, width = sides(size)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(max(1, batch)):
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, height // 16, width // 16)).astype(np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        noise = torch.from_numpy(rng.standard_normal((3, height, width), dtype=np.float32))
        images.append(smooth.add_(noise, alpha=12).clamp_(0, 255).to(torch.uint8))
    chw = torch.stack(images) if batch else images[0]
    if layout == "HWC uint8":
        return np.ascontiguousarray(chw.movedim(-3, -1).numpy())
    return chw.float().div_(255) if layout == "CHW float32" else chw
