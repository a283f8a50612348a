"""Memory: how many bytes one call adds at its peak, on the largest image. Linux only.

    python benchmarks/memory.py             writes results/memory_<date>.json, three minutes
    python benchmarks/memory.py --quick     a small image, blurlib and two rivals; nothing is written

Each rival has a process of its own. A call on a small image comes first, so that imports, compiled code and
pools are not counted; then the kernel's mark of the process's highest memory is set back, and read after.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import measure
from cells import LARGEST, LAYOUTS, PROBE_SIZE, kernel_of, photograph, sides
from rivals import OURS, RIVALS, Rival
from tasks import Picture, Task

BLURS = ("D8", "S17", "G4")
ASKED = (
    "cv2.filter2D",
    "cv2.GaussianBlur",
    "albumentations",
    "kornia filter2d",
    "kornia box_blur, gaussian_blur2d",
    "torchvision gaussian_blur",
    "deepinv conv2d_fft",
    "scipy.signal fftconvolve",
    "torch conv2d",
    "torch rfft2",
    "torch running sums",
    "torch shifts",
)
QUICK = ("cv2.filter2D", "torch rfft2")
# Freed memory goes back at once, or a call would find what an earlier one has left, and add nothing.
RETURNED = {
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MKL_DISABLE_FAST_MM": "1",
}
LONGEST = 6.0  # seconds of one call, as predicted; slower rivals are left out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="where the record goes")
    parser.add_argument("--rival", help=argparse.SUPPRESS)  # this is the process of one rival
    parser.add_argument("--size", default=LARGEST, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rival:
        for row in rows_of(options.rival, options.size):
            print(json.dumps(row), flush=True)
        return
    size = "1080x1920" if options.quick else LARGEST
    record = {**measure.environment(), "size": size, "longest": LONGEST, "rows": []}
    for rival in (OURS.name, *(QUICK if options.quick else ASKED)):
        command = [sys.executable, __file__, "--rival", rival, "--size", size]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | RETURNED)
        if done.returncode:
            raise SystemExit(f"{rival}: {done.stderr}")
        for line in done.stdout.splitlines():
            row = json.loads(line)
            record["rows"].append(row)
            print(f"{rival}, {row['blur']}, {row['layout']}: {row['extra'] / row['output']:.2f} outputs")
    record["load"].append(measure.load())
    if options.out or not options.quick:
        print("written:", measure.write("memory", record, options.out))


def rows_of(name: str, size: str) -> list[dict[str, object]]:
    """Peaks of one rival, in the process that this is."""
    torch.set_grad_enabled(False)
    measure.use_threads(1)
    rival = next(rival for rival in (OURS, *RIVALS) if rival.name == name)
    if not rival.installed:
        return []
    rows: list[dict[str, object]] = []
    for layout in LAYOUTS:
        image = noise(size, layout)
        for blur in BLURS:
            extra = peak(rival, blur, image, layout)
            if extra is not None:
                row = {"rival": name, "blur": blur, "layout": layout, "extra": extra, "output": image.nbytes}
                rows.append(row)
    return rows


def noise(size: str, layout: str) -> Picture:
    shape = (*sides(size), 3) if layout.startswith("HWC") else (3, *sides(size))
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if layout == "HWC uint8":
        return values
    tensor = torch.from_numpy(values)
    return tensor.float().div_(255) if layout == "CHW float32" else tensor


def peak(rival: Rival, blur: str, image: Picture, layout: str) -> int | None:
    """Bytes above what was there before the call, at its highest; the output is among them."""
    kernel, small = kernel_of(blur), photograph(PROBE_SIZE, layout)
    warm = rival.make(Task(blur, kernel, small))
    if warm is None:
        return None
    seconds = measure.least(warm) * image.nbytes / small.nbytes
    run = rival.make(Task(blur, kernel, image))
    if run is None or seconds > LONGEST:
        return None
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # "highest" begins anew at what there is now
    before = _status("VmRSS")
    result = run()
    after = _status("VmHWM")
    del result
    return after - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
