"""Compare every rival's picture with a float64 reference, then time them all in turns."""

from __future__ import annotations

import datetime as dt
import gc
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch

import rivals as known
import tasks
from cells import LARGEST, PROBE_SIZE, Cell, kernel_of, photograph
from rivals import Rival
from tasks import Picture, Task

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "numpy", "scipy", "torch", "torchvision", "opencv-python-headless", "albumentations", "kornia",
    "deepinv", "scikit-image", "pillow",
)  # fmt: skip

COMPILED = "torch.compile"  # how the names of compiled rivals begin
LONGEST = 20.0  # seconds of one call, as predicted
AGAINST_BEST = {"1080x1920": 6.0, LARGEST: 1.5}  # times the best rival's prediction
PAUSE = 0.02  # seconds; an OpenMP thread of the call before spins for some time on the second core
SPENT = 1.5  # seconds for one variant, beyond which it joins fewer rounds
WINDOW = 256  # of an image with more than a million pixels, five windows are compared


@dataclass
class Variant:
    """One rival in one cell, ready to run."""

    cell: Cell
    rival: Rival
    run: tasks.Variant
    error: float | None  # largest difference from the reference: grey levels, or parts of the largest value
    first: float  # seconds of the first call, which may compile
    seconds: float  # of the second one
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


# --- The reference ---


def windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """The parts that are compared: all of a small image; corners and middle of a large one."""
    if height * width <= 1_000_000:
        return [(slice(0, height), slice(0, width))]
    y, x = (height - WINDOW) // 2, (width - WINDOW) // 2
    ends = [(0, 0), (0, width - WINDOW), (height - WINDOW, 0), (height - WINDOW, width - WINDOW), (y, x)]
    return [(slice(top, top + WINDOW), slice(left, left + WINDOW)) for top, left in ends]


def planes(picture: Picture) -> np.ndarray:
    """(C, H, W) in any memory."""
    return picture.numpy() if isinstance(picture, torch.Tensor) else np.moveaxis(picture, -1, 0)


def reference(image: np.ndarray, kernel: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """A part of the exact picture in float64, border `reflect`, from planes (C, H, W)."""
    block = image
    for axis, (part, taps) in enumerate(zip(window, kernel.shape, strict=True), 1):
        size, reach = image.shape[axis], taps // 2
        places = np.abs(np.arange(part.start - reach, part.stop + reach))
        block = block.take(np.where(places < size, places, 2 * (size - 1) - places), axis)
    return scipy.signal.fftconvolve(block.astype(np.float64), kernel[None], mode="valid", axes=(1, 2))


def difference(cell: Cell, rival: Rival, result: Picture) -> float:
    """The largest difference from the reference: in grey levels, or as a part of the largest value."""
    image, kernels = photograph(cell.size, cell.layout, cell.batch), kernel_of(cell.blur)
    batch = zip(image, kernels, result, strict=True) if cell.batch else [(image, kernels, result)]
    worst = 0.0
    for place, (one, kernel, blurred) in enumerate(batch):
        for window in windows(*cell.shape):
            exact = _exact(cell, place, planes(one), kernel.numpy(), window)
            off = np.abs(planes(blurred)[:, window[0], window[1]] - exact)
            if rival.inside:
                rows, columns = map(_inside, window, cell.shape, kernel.shape)
                off = off[:, rows, columns]
            worst = max(worst, float(off.max()))
    return worst


_exact_parts: dict[tuple[Any, ...], np.ndarray] = {}


def _exact(
    cell: Cell, place: int, image: np.ndarray, kernel: np.ndarray, window: tuple[slice, slice]
) -> np.ndarray:
    """The reference, remembered as long as the same blur of the same picture is looked at."""
    # HWC and CHW hold the same bytes.
    name = (cell.size, cell.blur, cell.layout.split()[1], cell.batch)
    if _exact_parts and next(iter(_exact_parts))[0] != name:
        _exact_parts.clear()
    key = (name, place, window[0].start, window[1].start)
    if key not in _exact_parts:
        _exact_parts[key] = reference(image, kernel, window)
    return _exact_parts[key]


def _inside(part: slice, size: int, taps: int) -> slice:
    """The places of a window that a border does not reach."""
    start = max(part.start, taps // 2) - part.start
    return slice(start, min(part.stop, size - taps // 2) - part.start)


def check(cell: Cell, rival: Rival, result: Picture) -> float | None:
    """What a rival differs by; an error where that is more than it may."""
    image = photograph(cell.size, cell.layout, cell.batch)
    if tuple(result.shape) != tuple(image.shape) or result.dtype != image.dtype:
        raise AssertionError(f"{rival.name} on {cell}: {result.dtype} {tuple(result.shape)}")
    if not rival.compared:
        return None
    error = difference(cell, rival, result)
    allowed = rival.floats_off if cell.layout.endswith("float32") else rival.bytes_off
    if not error <= allowed:
        raise AssertionError(f"{rival.name} on {cell}: {error:.3g} from the reference, {allowed:g} allowed")
    return error


# --- The variants ---


def use_threads(count: int) -> None:
    torch.set_num_threads(count)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(count)


def prepare(cells: Sequence[Cell], *, compiled: bool) -> tuple[list[Variant], list[dict[str, Any]]]:
    """Everything that can run, compared with the reference; and what would take too long.

    Without `compiled` torch.compile is left out, for its minutes.
    """
    variants: list[Variant] = []
    left_out: list[dict[str, Any]] = []
    seen = set()
    for number, cell in enumerate(cells):
        _tell(f"comparing {cell.size}, {cell.blur}, {cell.layout} ({number + 1} of {len(cells)})")
        use_threads(cell.threads)
        for rival, predicted in candidates(cell, compiled=compiled):
            if predicted is not None:
                left_out.append({**_named(cell), "rival": rival.name, "predicted": round(predicted, 2)})
                continue
            if rival is known.FLOOR and (cell.size, cell.layout, cell.batch, cell.threads) in seen:
                continue
            run = rival.make(_task(cell))
            if run is None:
                continue
            seen.add((cell.size, cell.layout, cell.batch, cell.threads))
            first, result = timed(run)
            seconds = first
            if first < 1:  # the second call tells more, where it is cheap
                seconds, result = timed(run)
            variants.append(Variant(cell, rival, run, check(cell, rival, result), first, seconds))
    return variants, left_out


def candidates(cell: Cell, *, compiled: bool) -> Iterator[tuple[Rival, float | None]]:
    """The rivals of a cell, with the predicted seconds where these are too many."""
    chosen = [rival for rival in known.RIVALS if rival.installed]
    if not compiled or cell.threads > 1:
        chosen = [rival for rival in chosen if not rival.name.startswith(COMPILED)]
    if cell.batch:
        chosen = [rival for rival in chosen if rival.name in known.BATCHED]
    yield known.FLOOR, None
    yield known.OURS, None
    if cell.size not in AGAINST_BEST:
        yield from ((rival, None) for rival in chosen)
        return
    probe = Cell(PROBE_SIZE, cell.blur, cell.layout)
    use_threads(1)
    predicted = {}
    for rival in chosen:
        run = rival.make(_task(probe))
        if run is not None:
            predicted[rival] = least(run) * cell.elements / probe.elements
    use_threads(cell.threads)
    best = min((s for rival, s in predicted.items() if not rival.aside), default=0.0)
    limit = min(LONGEST, AGAINST_BEST[cell.size] * best)
    yield from ((rival, seconds if seconds > limit else None) for rival, seconds in predicted.items())


def _task(cell: Cell) -> Task:
    return Task(cell.blur, kernel_of(cell.blur), photograph(cell.size, cell.layout, cell.batch))


def least(run: tasks.Variant, calls: int = 4) -> float:
    """CPU seconds of the quickest of some calls: near enough for a prediction, and quick."""
    seconds = []
    for _ in range(calls):
        start = time.thread_time()
        run()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def timed(run: tasks.Variant) -> tuple[float, Picture]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


# --- The rounds ---


def measure(variants: Sequence[Variant], rounds: int, seed: int) -> None:
    """All variants in turns, in an order drawn anew for each round; thread CPU time and wall clock of each.

    One thread's variants come before two threads' in one round and after them in the next, since a change of
    their number costs the pools something.
    """
    order = random.Random(seed)
    quota = {id(v): max(3, min(rounds, int(SPENT / max(v.seconds, 1e-9)))) for v in variants}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            _tell(f"round {turn + 1} of {rounds}: {len(variants)} variants")
            todo = [v for v in variants if turn < quota[id(v)]]
            order.shuffle(todo)
            todo.sort(key=lambda v: v.cell.threads, reverse=bool(turn % 2))
            threads = 0
            for variant in todo:
                if variant.cell.threads != threads:
                    threads = variant.cell.threads
                    use_threads(threads)
                    variant.run()  # wakes its pool
                if threads > 1:
                    time.sleep(PAUSE)
                wall, cpu = time.perf_counter(), time.thread_time()
                variant.run()
                variant.cpu.append(time.thread_time() - cpu)
                variant.wall.append(time.perf_counter() - wall)
    finally:
        gc.enable()


# --- The record ---


def rows(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """One row a cell: milliseconds of every rival, medians, with quartiles of the clock that counts."""
    found: dict[Cell, dict[str, Any]] = {}
    for variant in variants:
        times = variant.wall if variant.cell.threads > 1 else variant.cpu
        low, high = np.percentile(times, [25, 75])
        found.setdefault(variant.cell, {})[variant.rival.name] = {
            "ms": _milliseconds(statistics.median(times)),
            "quartiles": [_milliseconds(low), _milliseconds(high)],
            "wall": _milliseconds(statistics.median(variant.wall)),
            "error": None if variant.error is None else float(f"{variant.error:.3g}"),
            "runs": len(times),
        }
    return [{**_named(cell), "rivals": rivals} for cell, rivals in found.items()]


def compile_seconds(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    return [
        {**_named(v.cell), "rival": v.rival.name, "seconds": round(v.first, 1)}
        for v in variants
        if v.rival.name.startswith(COMPILED)
    ]


def _milliseconds(seconds: float) -> float:
    return float(f"{1e3 * seconds:.4g}")


def _named(cell: Cell) -> dict[str, Any]:
    named = {"size": cell.size, "blur": cell.blur, "layout": cell.layout}
    return named | {"batch": cell.batch, "threads": cell.threads}


def environment() -> dict[str, Any]:
    """What a figure depends on: machine, versions, commit, and how busy the machine was."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: _version(package) for package in ("blurlib", *PACKAGES)},
        "commit": _commit(),
        "load": [load()],
    }


def joined(path: Path, later: dict[str, Any]) -> dict[str, Any]:
    """A record with the cells of other sizes that a later run has measured; its note says so."""
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for name in ("processor", "versions"):
        if record[name] != later[name]:
            raise SystemExit(f"{path} is of another {name}: {record[name]}, now {later[name]}")
    sizes = {row["size"] for row in later["rows"]}
    if sizes & {row["size"] for row in record["rows"]}:
        raise SystemExit(f"{path} has cells of {', '.join(sorted(sizes))} already")
    for name in ("rows", "left_out", "compiled", "load"):
        record[name] = record[name] + later[name]
    told = f"{', '.join(sorted(sizes))}: from a run of its own, {later['date']}, commit {later['commit']}."
    record["note"] = f"{record['note']} {told}" if record.get("note") else told
    return record


def load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def write(kind: str, record: dict[str, Any], path: Path | None = None) -> Path:
    """The record as JSON, a row a line, in results/KIND_DATE.json."""
    target = path or RESULTS / f"{kind}_{record['date'][:10]}.json"
    lines = []
    for key, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join("  " + json.dumps(row) for row in value) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return target


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
