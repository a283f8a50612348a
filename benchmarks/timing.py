"""Time of one call, hot or cold; what a figure depends on; records."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

try:
    from blurlib._engine import _core as CORE
except ImportError:  # torch blurs
    CORE = None

RESULTS = Path(__file__).parent / "results"
MODES = ("hot", "cold")  # the same call has just run; 64 MB were read since
PACKAGES = (
    "blurlib", "numpy", "scipy", "torch", "torchvision", "opencv-python-headless", "kornia", "kornia-rs",
    "albumentations", "pillow", "scikit-image",
)  # fmt: skip

Record = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script, whose docstring is the help."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def seconds(run: Callable[[], object], mode: str, clock: str, calls: int = 1) -> float:
    """Seconds of a call, with the caches as `mode` says, by a function of the module `time`.

    Args:
        run: the call.
        mode: one of `MODES`.
        clock: the function's name.
        calls: of as many hot calls, one after the other, the mean.
    """
    now = getattr(time, clock)
    if mode == "hot":
        run()
    else:
        swept().sum()
        calls = 1
    start = now()
    for _ in range(calls):
        result = run()
    took = now() - start
    del result  # its memory goes back outside of what is timed
    return took / calls


@cache
def swept() -> np.ndarray:
    """64 MB that push everything else out of the caches of a core."""
    return np.ones(8 << 20)


# --- The record ---


def environment() -> Record:
    """What a figure depends on: machine, compiler, versions, commit, and how busy the machine is."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "engine": "torch" if CORE is None else f"native {CORE.instructions()}",
        "compiler": compiler(),
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
        "commit": commit(Path(__file__).parent),
        "load": [load()],
    }


def load() -> float:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def write(kind: str, record: Mapping[str, Any], path: Path | None = None) -> Path:
    """The record as JSON, a row a line, in results/KIND.json; the load average now is its second one."""
    target = path or RESULTS / f"{kind}.json"
    lines = []
    for key, value in {**record, "load": [*record["load"], load()]}.items():
        rows = isinstance(value, list) and value and isinstance(value[0], dict)
        text = (
            "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
            if rows
            else json.dumps(value)
        )
        lines.append(f" {json.dumps(key)}: {text}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return target


def read(kind: str, folder: Path = RESULTS) -> Record | None:
    """A record, or None where there is none."""
    path = folder / f"{kind}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def commit(folder: Path) -> str:
    """The commit of a checkout, with `-dirty` where it has changes."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def compiler() -> str:
    """What compiled the core, as it stands in the core's file."""
    if CORE is None:
        return "none"
    text = Path(CORE.__file__).read_bytes()
    found = re.search(rb"clang version [\d.]+", text) or re.search(rb"GCC: \([^)]*\) [\d.]+", text)
    return found[0].decode() if found else "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
