"""What blurlib runs on: packages, devices, threads; what is not right there, and its remedy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from PIL import features

from .._engine import MISSING
from ..functional import backends

#: Extras for those who work on the library.
_OWN_EXTRAS = ("bench", "dev", "neighbours")
_CODECS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "libtiff": "compressed TIFF"}
_SHARED = Path("/dev/shm")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LITTLE_SHARED = 256e6

# How to get a compiler; docs/installing.md has the same table.
_COMPILERS = {
    "apt-get": "apt install g++ python3-dev",
    "dnf": "dnf install gcc-c++ python3-devel",
    "xcode-select": "xcode-select --install",
}
_ANY = "install g++ 12, clang 14 or newer, and Python's headers"


def facts() -> dict[str, Any]:
    """Versions, devices and threads, as plain values."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = dict(backends())
    return {
        "blurlib": metadata.version("blurlib"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "packages": {name: _version(name) for name, _, extra in _requirements() if not extra},
        "extras": _extras(),
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "backends": found,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "warnings": [str(each.message) for each in said],
    }


def cores() -> int:
    """How many cores this process may use; in a container its share, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # another system, or "max": no limit
        quota, period = map(int, _QUOTA.read_text(encoding="utf-8").split())
        count = min(count, -(-quota // period))
    return count


def advice(known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is not right, each with its remedy."""
    if known["backends"]["cpu"] == "torch":
        yield "the native core is missing, so torch blurs on the CPU, several times slower", _core_remedy()
    elif known["backends"]["cpu"] == "native base" and platform.machine().lower() in ("x86_64", "amd64"):
        yield (
            "the processor shows no AVX2, without which blurs take longer",
            "in a virtual machine let it see the host's instructions (QEMU: -cpu host)",
        )
    for name, bound, extra in _requirements():
        version = None if extra else _version(name)
        if version and _parts(version) < _parts(bound):
            yield f"{name} is {version}, blurlib needs {bound} or newer", f'pip install "{name}>={bound}"'
    for feature, name in _CODECS.items():
        if not features.check(feature):
            yield (
                f"Pillow cannot open {name} files",
                "take its wheel: pip install --force-reinstall --only-binary :all: pillow",
            )
    for said in known["warnings"]:
        what, _, remedy = said.partition("; ")
        yield what, remedy or "look at the message"
    if not known["gpus"] and shutil.which("nvidia-smi"):
        without = torch.version.cuda is None
        yield (
            "there is a driver for an NVIDIA GPU, but torch finds none",
            f"torch {torch.__version__} was built without CUDA: install its build for CUDA"
            if without
            else "look whether nvidia-smi lists it; in a container pass it on (docker run --gpus all)",
        )
    threads = known["threads"]
    if threads > known["cores"]:
        yield (
            f"torch runs {threads} threads, but this process may use {known['cores']} cores",
            f"set OMP_NUM_THREADS={known['cores']} before Python starts",
        )
    elif threads < known["cores"] and "OMP_NUM_THREADS" in os.environ:
        yield (
            f"by OMP_NUM_THREADS torch uses {threads} of {known['cores']} cores",
            "unset it, unless several processes share the machine; loader processes take one core each",
        )
    with suppress(OSError):
        size = shutil.disk_usage(_SHARED).total
        if size < _LITTLE_SHARED:
            yield (
                f"{_SHARED} holds {size / 1e6:.0f} MB: batches of loader processes pass through slower pipes",
                "docker run --shm-size=1g",
            )


def _core_remedy() -> str:
    """What the core's build lacks, as far as it can be seen."""
    lacking = []
    named = os.environ.get("CXX", "").split()[:1]
    if not any(shutil.which(name) for name in named or ("c++", "g++", "clang++", "cl")):
        lacking.append(f"no C++ compiler was found{f' by CXX={named[0]}' if named else ''}")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        lacking.append("Python's headers are missing")
    install = next((line for tool, line in _COMPILERS.items() if shutil.which(tool)), _ANY)
    if sys.platform == "win32":
        install = 'install Visual Studio\'s "C++ Clang Compiler" and "MSBuild support for LLVM (clang-cl)"'
    again = "pip install --force-reinstall --no-deps --no-cache-dir blurlib (in a checkout: pip install .)"
    if not lacking:
        return f"install again: {again}; with -v it shows why the core was not built ({MISSING})"
    return f"{' and '.join(lacking)}: {install}, then {again}"


def _requirements() -> Iterator[tuple[str, str, str]]:
    """(name, lower bound, extra or nothing) of what blurlib depends on."""
    for line in metadata.requires("blurlib") or ():
        name, bound = re.match(r"([\w.-]+)(?:.*?>=\s*([\d.]+))?", line).groups("0")  # type: ignore[union-attr]  # each begins so
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        yield name, bound, extra[1] if extra else ""


def _extras() -> dict[str, list[str]]:
    """Which packages of each extra are missing."""
    missing: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra and extra not in _OWN_EXTRAS:
            missing.setdefault(extra, []).extend([] if _version(name) else [name])
    return missing


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    """The numbers of a release; "2.9.0+cpu" is (2, 9)."""
    parts = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
