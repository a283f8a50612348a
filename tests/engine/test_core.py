"""The native core: what it refuses, how it is built, and that blurlib works where it is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.interpolate
import torch

import blurlib
from blurlib import kernels
from blurlib._common import rng
from blurlib._engine import trajectories
from blurlib._engine.core import MISSING
from processes import in_processes

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "src" / "blurlib" / "_engine" / "native"
if MISSING:
    pytest.skip("the native core is not installed", allow_module_level=True)

from blurlib._engine import _core  # noqa: E402  after the question whether it is there

IMAGE, KERNEL = np.zeros((3, 8, 9), np.uint8), kernels.disk(2).numpy()


def call(**changed):
    result = np.empty_like(IMAGE)
    given = {
        "source": IMAGE.ctypes.data,
        "target": result.ctypes.data,
        "type": "u",
        "shape": (3, 8, 9),
        "strides": (72, 9, 1),
        "interleaved": False,
        "kernels": KERNEL.ctypes.data,
        "kernel_type": "d",
        "kernel_shape": (5, 5),
        "border": "reflect",
        "threads": 1,
    } | changed
    return _core.blur(*given.values())


def test_a_call_as_it_should_be():
    assert call() == []


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "i"},
        {"kernel_type": "x"},
        {"shape": (8, 9), "strides": (9, 1)},
        {"strides": (72, 9)},
        {"strides": (72, 9, 2)},
        {"interleaved": True},
        {"shape": (3, -8, 9)},
        {"shape": (3, 8, 2**31)},
        {"kernel_shape": (5, 4)},
        {"kernel_shape": (25,)},
        {"kernel_shape": (1, 5, 5)},
        {"kernel_shape": (-5, 5)},
        {"border": "mirror"},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changed):
    """Addresses cannot be checked; all else is, before anything is read."""
    with pytest.raises(ValueError, match=r"must|rule"):
        call(**changed)


@pytest.mark.parametrize(
    ("words", "basis", "grid", "kernel"),
    [
        (np.zeros(10, np.uint64), np.zeros((4, 5, 6)), 15, np.zeros((17, 17))),
        (np.zeros(462, np.uint64), np.zeros((4, 6, 6)), 15, np.zeros((17, 17))),
        (np.zeros(462, np.uint64), np.zeros((4, 5, 6)), 15, np.zeros((13, 13))),
        (np.zeros(462, np.uint64), np.zeros((4, 5, 6)), 15, np.zeros((17, 15))),
        (np.zeros(462, np.uint64), np.zeros((4, 5, 6)), 0, np.zeros((17, 17))),
    ],
)
def test_trajectories_that_do_not_fit_are_refused(words, basis, grid, kernel):
    with pytest.raises(ValueError, match="fit together"):
        _core.draw_trajectory(words, basis, grid, 30000, kernel)


@pytest.mark.parametrize(("grid", "size", "points"), [(15, 17, 6), (39, 41, 6), (5, 5, 2), (9, 15, 12)])
def test_trajectories_are_those_of_the_definition(grid, size, points):
    """To the bit, and drawn again where they are."""
    basis, drawn = trajectories.spline_basis(points), 0
    for index in range(60):
        words = rng.words(2 * points + 2 * grid**2, seed=3, key=(index,))
        found, expected = np.zeros((2, size, size))
        samples = 5000 * points
        fits = _core.draw_trajectory(words, basis, grid, samples, found)
        assert fits == trajectories.draw_trajectory_plainly(words, basis, grid, samples, expected)
        np.testing.assert_array_equal(found, expected)
        drawn += fits
    assert drawn > 3


@pytest.mark.parametrize("points", [2, 3, 4, 5, 6, 7, 20, 64])
def test_the_spline_is_that_of_scipy(points):
    expected = scipy.interpolate.CubicSpline(np.arange(points), np.eye(points), bc_type="not-a-knot").c
    np.testing.assert_allclose(trajectories.spline_basis(points), expected, rtol=0, atol=1e-14)


def test_instruction_sets():
    assert _core.instruction_sets()[-1] == "base"
    assert blurlib.backends()["cpu"] == f"native {_core.instructions()}"
    with pytest.raises(ValueError, match="v9"):
        _core.use("v9")
    with pytest.raises(TypeError):
        blurlib.backends()["cpu"] = "torch"


def test_torch_can_be_chosen():
    image, kernel = torch.randint(0, 256, (3, 20, 21), dtype=torch.uint8), kernels.disk(4)
    found = blurlib.blur(image, kernel, backend="torch")
    assert torch.equal(found, blurlib.blur(image, kernel))
    array = image.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(
        blurlib.blur(array, kernel, backend="torch"), found.permute(1, 2, 0).numpy()
    )
    with pytest.raises(ValueError, match=r"`kernel`.*sum"):
        blurlib.blur(image, kernel * 2, backend="torch")
    with pytest.raises(ValueError, match=r"`kernel`.*finite"):
        blurlib.blur(image, kernel * torch.nan, backend="torch")
    leaf = torch.rand((1, 9, 8), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i: blurlib.blur(i, kernel, backend="torch"), (leaf,))
    with pytest.raises(ValueError, match="`backend`"):
        blurlib.blur(image, kernel, backend="native")


def blur_without_memory():
    import resource

    torch.set_num_threads(2)
    image, kernel = torch.rand(1, 256, 1024), torch.full((20001, 1), 1 / 20001, dtype=torch.float64)
    blurlib.blur(image[:, :, :8], kernel)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)
    try:
        blurlib.blur(image, kernel)  # 80 MB a thread
    except MemoryError:
        return "told"
    return "not told"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
def test_a_failure_in_a_thread_is_raised():
    assert in_processes(blur_without_memory) == ["told"]


WITHOUT = """
import sys, warnings
sys.modules["blurlib._engine._core"] = None
import torch
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import blurlib  # silent
    transform = blurlib.DiskBlur(4, antialias=False)
assert blurlib.backends()["cpu"] == "torch"
image = torch.arange(3 * 40 * 41).reshape(3, 40, 41).to(torch.uint8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = transform(image)
    blurlib.blur(image, blurlib.kernels.bank_kernel(3, "train"))
assert len(caught) == 1, caught
print(caught[0].message)
print(found.double().sum().item(), blurlib.kernels.shake_bank("test").square().sum().item())
"""


def test_without_the_core():
    """One warning, at the first blur, that names the remedy; and the same numbers."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warning, numbers = done.stdout.strip().split("\n")
    assert "native core is not installed" in warning
    assert "pip install" in warning
    image = torch.arange(3 * 40 * 41).reshape(3, 40, 41).to(torch.uint8)
    found = blurlib.blur(image, kernels.disk(4)).double().sum().item()
    assert [float(n) for n in numbers.split()] == [found, kernels.shake_bank("test").square().sum().item()]


def test_instruction_sets_share_no_function():
    """What two object files define would be linked once, for whichever processor came first."""
    files = sorted(ROOT.glob("build/*/CMakeFiles/loops_*.dir/**/loops.cpp.o"))
    if not files or shutil.which("nm") is None:
        pytest.skip("no object files of the core, or no nm")
    defined = {}
    for path in files:
        done = subprocess.run(
            ["nm", "--extern-only", "--defined-only", path], capture_output=True, text=True, check=True
        )
        level = next(part for part in path.parts if part.startswith("loops_"))
        # V: the handle of the language's exceptions, which is data and the same everywhere.
        symbols = [line.split()[-1] for line in done.stdout.splitlines() if line.split()[-2] != "V"]
        assert len(symbols) == 1, f"{level} defines {symbols}: put all but `run` in the anonymous namespace"
        defined.setdefault(level, set()).update(symbols)
    assert len(set.union(*defined.values())) == len(defined)


def test_no_file_of_the_core_is_long():
    files = sorted([*NATIVE.glob("*.cpp"), *NATIVE.glob("*.hpp")])
    if not files:
        pytest.skip("no checkout")
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 600
