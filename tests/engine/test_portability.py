"""The core on other compilers, processors and systems, without Python: slow, `make portable` runs them.

tests/native/check.cpp blurs with kernels of every kind. Its results are compared, most of them to the bit.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "src" / "blurlib" / "_engine" / "native"
IS_X86 = platform.machine() in ("x86_64", "AMD64")
FLAT = ("disk", "box", "column", "rectangle", "shift")  # kernels of one weight: sums of integers
# Without multiplications and additions in one, as which products of weights and pixels are rounded once.
UNFUSED = "base" if IS_X86 else None

pytestmark = pytest.mark.slow


class Result(NamedTuple):
    kind: str  # as which the kernel was applied
    values: np.ndarray


def built(folder: Path, compiler: str, *options: str) -> Path:
    """The check program by a compiler, or by `compiler` for another machine; a warning is an error."""
    if not NATIVE.is_dir():
        pytest.skip("no checkout")
    for program in (compiler, "cmake"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    settings = [f"-DCMAKE_CXX_COMPILER={compiler}", "-DBLURLIB_CHECK=ON", "-DBLURLIB_STRICT=ON", *options]
    if shutil.which("ninja"):
        settings += ["-G", "Ninja"]
    run("cmake", "-S", ROOT, "-B", folder, *settings)
    run("cmake", "--build", folder, "--parallel", os.cpu_count() or 1)
    return folder / "check"


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def results(folder: Path, *command: object) -> dict[str, Result]:
    data = folder / "results"
    table = run(*command, data)
    found, content, at = {}, data.read_bytes(), 0
    for line in table.splitlines():
        name, kind, size, _ = line.split("\t")
        dtype = next(dtype for dtype in ("uint8", "float32", "float64") if dtype in name)
        piece = content[at : at + int(size)]
        found[name], at = Result(kind, np.frombuffer(piece, dtype)), at + int(size)
    data.unlink()
    assert len(content) == at
    assert len(found) > 1000
    return found


def assert_same(found: dict[str, Result], expected: dict[str, Result]) -> None:
    different = [
        name
        for name, (kind, values) in expected.items()
        if found[name].kind != kind or found[name].values.tobytes() != values.tobytes()
    ]
    assert found.keys() == expected.keys()
    assert not different, f"{len(different)} of {len(expected)} differ: {different[:10]}"


def assert_close(found: dict[str, Result], expected: dict[str, Result]) -> None:
    """What rounding once instead of twice may change."""
    off = elements = 0
    for name, (kind, values) in expected.items():
        other = found[name].values
        assert found[name].kind == kind, name
        if kind in ("copy", "box", "drawn", "refused") or (
            values.dtype == np.uint8 and name.startswith(FLAT)
        ):
            np.testing.assert_array_equal(other, values, err_msg=name)
        elif values.dtype == np.uint8:
            apart = np.abs(other.astype(int) - values)
            assert apart.max() <= 1, name
            off, elements = off + np.count_nonzero(apart), elements + apart.size
        else:
            largest = np.abs(values[np.isfinite(values)]).max(initial=0)
            limit = 32 * np.spacing(largest)
            np.testing.assert_allclose(other, values, rtol=0, atol=limit, err_msg=name)
    print(f"{off} of {elements} bytes of weighted sums are the next one")
    assert off < 1e-4 * elements


@functools.cache
def compiled(folder: Path, compiler: str) -> Path:
    return built(folder / compiler, compiler)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def best(home) -> dict[str, Result]:
    """By the processor's best instructions."""
    program = compiled(home, "g++")
    found = results(home, program, "best")
    if IS_X86 and not is_there(program, "v3"):
        pytest.skip("this processor has no v3: its sums are not those of others")
    return found


def is_there(program: Path, instructions: str) -> bool:
    return instructions in run(program, "list").split()


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("instructions", ["v4", "v3", "base"])
def test_instruction_sets_and_compilers(instructions, compiler, home, best):
    program = compiled(home, compiler)
    if not is_there(program, instructions):
        pytest.skip(f"this processor has no {instructions}")
    found = results(home, program, instructions)
    (assert_close if instructions == UNFUSED else assert_same)(found, best)


def test_aarch64(home, best):
    """64-bit ARM, emulated: the same bits."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    target = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
    folder = home / "aarch64"
    program = built(folder, "aarch64-linux-gnu-g++", *target, "-DCMAKE_EXE_LINKER_FLAGS=-static")
    assert_same(results(folder, "qemu-aarch64", program, "base"), best)


@pytest.mark.skipif(not IS_X86, reason="processors with x86-64")
@pytest.mark.parametrize(("processor", "levels"), [("Nehalem", ["base"]), ("Haswell", ["v3", "base"])])
def test_older_processors(processor, levels, home):
    """Emulated: no instruction that they lack is chosen, nor in what all levels share."""
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not installed")
    program = compiled(home, "g++")
    emulated = ("qemu-x86_64", "-cpu", processor, program)
    assert run(*emulated, "list").split() == levels
    if levels == ["base"]:  # others take minutes
        assert_same(results(home, *emulated, "best"), results(home, program, levels[0]))


@pytest.mark.parametrize("source", ["engine", "plan", "trajectory", "loops base", "loops v3", "loops v4"])
@pytest.mark.parametrize(
    "target", ["aarch64-macos", "x86_64-macos", "x86_64-windows-gnu", "aarch64-linux-gnu"]
)
def test_other_systems_compile_without_a_warning(target, source, tmp_path):
    """By clang with the headers of those systems; the hosted jobs build and run there."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed (pip install ziglang)")
    name, *level = source.split()
    options = ["-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror"]
    if target.startswith("x86_64"):
        options += ["-DBLUR_X86", *(f"-mcpu=x86_64_{word}" for word in level if word != "base")]
    elif level not in ([], ["base"]):
        pytest.skip("instructions of x86-64")
    options += [f"-DBLUR_ISA={word}" for word in level]
    compiler = (sys.executable, "-m", "ziglang", "c++", "-target", target)
    run(*compiler, *options, "-c", NATIVE / f"{name}.cpp", "-o", tmp_path / "object.o")
