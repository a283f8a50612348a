"""First use: how long the import, the first blur and compiling take, each in processes of its own.

    python benchmarks/first_use.py         measures, prints the table, writes results/first_use_<date>.json

A cold cache is an empty folder in NUMBA_CACHE_DIR. Every step is timed in a fresh process, by the clock and
by the processor time of that process: the second is hardly disturbed on a busy machine. Medians; compiling
with an empty cache takes long and is measured fewer times.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = ("blurlib", "numba", "llvmlite", "numpy", "scipy", "torch", "torchvision")

# Each step is what comes first in its process, and what is timed in it.
TORCH = "import torch, torchvision"
IMAGES = "import torch, torchvision, blurlib; image = torch.zeros(3, 224, 224, dtype=torch.uint8)"
LOADER = f"""
{IMAGES}
from torch.utils.data import DataLoader
class Photographs:
    def __len__(self):
        return 16
    def __getitem__(self, index):
        return self.blur(image)
photographs = Photographs()
"""
BATCH = "next(iter(DataLoader(photographs, batch_size=4, num_workers=2, multiprocessing_context={!r})))"
DISK = "blurlib.blur(image, blurlib.kernels.disk(8))"
WARM = {
    "import torch, torchvision": ("", TORCH),
    "import blurlib, beyond these": (TORCH, "import blurlib"),
    "first blur (D8, bytes)": (IMAGES, DISK),
    "first blur (D8, floats)": (f"{IMAGES}; image = image.float()", DISK),
    "first blur (G4, bytes)": (IMAGES, "blurlib.blur(image, blurlib.kernels.gaussian(4))"),
    "first blur (S17, bytes)": (IMAGES, "blurlib.blur(image, blurlib.kernels.bank_kernel(17))"),
    "DiskBlur()": (IMAGES, "blurlib.DiskBlur()"),
    "CameraShakeBlur()": (IMAGES, "blurlib.CameraShakeBlur()"),
    "warmup()": (IMAGES, "blurlib.warmup()"),
    "first batch, 2 forked workers": (f"{LOADER}photographs.blur = blurlib.DiskBlur()", BATCH.format("fork")),
}
COLD = {
    "first blur (D8, bytes)": (IMAGES, DISK),
    "DiskBlur()": (IMAGES, "blurlib.DiskBlur()"),
    "first batch, 2 forked workers, DiskBlur() included": (
        LOADER,
        f"photographs.blur = blurlib.DiskBlur(); {BATCH.format('fork')}",
    ),
    "first batch, 2 forked workers, after DiskBlur()": (
        f"{LOADER}photographs.blur = blurlib.DiskBlur()",
        BATCH.format("fork"),
    ),
    "warmup()": (IMAGES, "blurlib.warmup()"),
}


def timed(before: str, code: str, cache: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor, in a process of its own."""
    clocks = "import time; clock, processor = time.perf_counter(), time.process_time()"
    ends = "print(time.perf_counter() - clock, time.process_time() - processor)"
    result = subprocess.run(
        [sys.executable, "-c", f"{before}\n{clocks}\n{code}\n{ends}"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr)
    clock, processor = map(float, result.stdout.split())
    return clock, processor


def row(name: str, cache: str, times: list[tuple[float, float]]) -> dict:
    clock, processor = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name}, {cache}: {clock:.2f} s, {processor:.2f} s of the processor", file=sys.stderr)
    return {
        "step": name,
        "cache": cache,
        "seconds": round(clock, 3),
        "processor_seconds": round(processor, 3),
        "runs": len(times),
    }


def measure(runs: int, cold_runs: int) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (before, code) in COLD.items():
            empty = [Path(folder) / f"{len(rows)}-{i}" for i in range(cold_runs)]
            rows.append(row(name, "empty", [timed(before, code, cache) for cache in empty]))
        full = Path(folder) / "full"
        timed(IMAGES, "blurlib.warmup()", full)
        for name, (before, code) in WARM.items():
            rows.append(row(name, "full", [timed(before, code, full) for _ in range(runs)]))
    return rows


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


def table(run: dict) -> str:
    lines = ["| step | cache | seconds | processor seconds |", "|---|---|---:|---:|"]
    for cell in run["results"]:
        times = f"{cell['seconds']:.2f} | {cell['processor_seconds']:.2f}"
        lines.append(f"| {cell['step']} | {cell['cache']} | {times} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="processes for each step with a full cache (7)")
    parser.add_argument("--cold-runs", type=int, default=1, help="with an empty one (1)")
    parser.add_argument("--out", type=Path, help="the record (results/first_use_<date>.json)")
    options = parser.parse_args()
    run = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "commit": commit(),
        "results": measure(options.runs, options.cold_runs),
    }
    out = options.out or RESULTS / f"first_use_{run['date'][:10]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(run, indent=1) + "\n")
    print(f"{table(run)}\n\nWritten to {out}")


if __name__ == "__main__":
    main()
