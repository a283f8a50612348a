"""What is measured: a blur of an image in memory of some layout, and the picture that is right.

A cell is one question, which every library answers; its name in tables and records is made of plain texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import scipy.signal
import torch
from torch import Tensor

from blurlib import kernels
from blurlib.blurs import describe
from blurlib.notation import parse

Picture = np.ndarray | Tensor

SIZES = ("384x512", "224x224")  # height x width
LAYOUTS = ("CHW uint8", "HWC uint8", "CHW float32")  # CHW: a torch tensor; HWC: a NumPy array
BLURS = ("D2", "D4", "D8", "D16", "D32", "D8a", "H5", "H17", "V17", "H101", "L16@30", "S17", "G1", "G4", "G8")
QUICK_BLURS = ("D8", "H17", "S17", "G4")

BATCH = 32  # images, each with a kernel of its own
BATCH_BLURS = {"disks": "defocus disks of 32 radii from 2 to 12 px", "shakes": "32 camera shakes"}
BATCH_LAYOUTS = ("CHW uint8", "CHW float32")

TINY = "8x8"  # one channel: what a call costs where there is next to nothing to blur
CHANNELS = {TINY: 1}


@dataclass(frozen=True)
class Cell:
    """One question: a size such as "384x512", a short name of a blur, a layout, how many images (0: one)."""

    size: str
    blur: str
    layout: str
    batch: int = 0

    @property
    def modes(self) -> tuple[str, ...]:
        """A batch is larger than a cache, and so never hot."""
        return ("cold",) if self.batch else ("hot", "cold")

    @property
    def clock(self) -> str:
        """CPU time, which a busy machine disturbs little; the wall clock of threads, and of microseconds."""
        return "perf_counter" if self.batch or self.size == TINY else "process_time"

    @property
    def calls(self) -> int:
        """How many hot calls make one measurement: of microseconds many."""
        return 100 if self.size == TINY else 1


def grid(*, quick: bool = False) -> list[Cell]:
    """All cells; `quick` for a first look."""
    sizes, blurs = (SIZES[:1], QUICK_BLURS) if quick else (SIZES, BLURS)
    return [
        *(Cell(TINY, "D2", layout) for layout in LAYOUTS),
        *(Cell(size, blur, layout) for size in sizes for blur in blurs for layout in LAYOUTS),
        *(
            Cell(size, blur, layout, BATCH)
            for size in SIZES[1 if quick else 0 :]
            for blur in BATCH_BLURS
            for layout in BATCH_LAYOUTS
        ),
    ]


@cache
def kernel_of(blur: str) -> Tensor:
    """Float64 (h, w) or, for a batch, (32, h, w)."""
    if blur == "shakes":
        return torch.stack([kernels.bank_kernel(index) for index in range(BATCH)])
    if blur == "disks":
        disks = [kernels.disk(2 + 10 * index / (BATCH - 1)) for index in range(BATCH)]
        side = max(disk.shape[0] for disk in disks)
        margins = [(side - disk.shape[0]) // 2 for disk in disks]
        return torch.stack(
            [torch.nn.functional.pad(d, (m,) * 4) for d, m in zip(disks, margins, strict=True)]
        )
    return parse(blur).kernel()


def trimmed(kernel: Tensor) -> Tensor:
    """A square kernel of a batch in its own size: a caller who loops over images has no zeros around it."""
    rows, columns = torch.nonzero(kernel, as_tuple=True)
    margin = min(int(at) for where in (rows, columns) for at in (where.min(), len(kernel) - 1 - where.max()))
    return kernel[margin : len(kernel) - margin, margin : len(kernel) - margin]


def words(blur: str) -> str:
    """What a name of a blur means."""
    return BATCH_BLURS[blur] if blur in BATCH_BLURS else describe(parse(blur))


@cache
def picture(size: str, layout: str, batch: int = 0) -> Picture:
    """Pixels with the long correlations of a photograph, and noise; as many different ones as asked."""
    height, width = map(int, size.split("x"))
    channels = CHANNELS.get(size, 3)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(max(1, batch)):
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, channels, height // 16 + 2, width // 16 + 2)))
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        noisy = smooth + 50 * torch.from_numpy(rng.standard_normal((channels, height, width)))
        images.append(noisy.clamp_(0, 255).to(torch.uint8))
    chw = torch.stack(images) if batch else images[0]
    if layout == "HWC uint8":
        return np.ascontiguousarray(chw.movedim(-3, -1).numpy())
    return chw.float().div_(255) if layout == "CHW float32" else chw


# --- The right picture ---


def planes(image: Picture) -> np.ndarray:
    """(C, H, W) in any memory."""
    return image.numpy() if isinstance(image, Tensor) else np.moveaxis(image, -1, 0)


def reference(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The exact picture in float64, border `reflect`, of planes (C, H, W)."""
    reach = [side // 2 for side in kernel.shape]
    around = np.pad(image.astype(np.float64), [(0, 0), *((r, r) for r in reach)], mode="reflect")
    return scipy.signal.fftconvolve(around, kernel[None], mode="valid", axes=(1, 2))


@lru_cache(maxsize=2)
def exact(size: str, blur: str, kind: str, batch: int = 0) -> list[np.ndarray]:
    """The exact pictures of a cell's images; `kind`: "uint8" or "float32"."""
    image, kernel = picture(size, f"CHW {kind}", batch), kernel_of(blur)
    pairs = zip(image, kernel, strict=True) if batch else [(image, kernel)]
    return [reference(planes(one), weights.numpy()) for one, weights in pairs]


def difference(cell: Cell, result: Picture, *, inside: bool = False) -> float:
    """The largest difference from the exact picture, in grey levels or, of floats, in parts of their range.

    Args:
        cell: whose image was blurred.
        result: the blurred image, or batch.
        inside: look only at pixels that no border reaches.
    """
    image = picture(cell.size, cell.layout, cell.batch)
    if tuple(result.shape) != tuple(image.shape) or result.dtype != image.dtype:
        raise ValueError(
            f"{cell} must give {image.dtype} {tuple(image.shape)}, got {result.dtype} {tuple(result.shape)}"
        )
    y, x = (side // 2 if inside else 0 for side in kernel_of(cell.blur).shape[-2:])
    rights = exact(cell.size, cell.blur, cell.layout.split()[1], cell.batch)
    worst = 0.0
    for blurred, right in zip(result if cell.batch else [result], rights, strict=True):
        off = np.abs(planes(blurred) - right)[:, y : right.shape[1] - y, x : right.shape[2] - x]
        worst = max(worst, float(off.max()))
    return worst
