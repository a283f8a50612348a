"""First use: what is compiled ahead is all that is needed; processes and threads get on with each other."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import blurlib
from blurlib import kernels, plans, warming
from blurlib.blurs import Disk, Gaussian, Line

fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
# Newer versions of Python warn of forking a process that has threads, which is what is tested here.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

# Counts the machine code of all loops in a process: kinds of arguments for which one is ready.
READY = """
import itertools, os, sys
import torch, blurlib
from blurlib import kernels
torch.manual_seed(0)

def ready():
    modules = [m for name, m in sorted(sys.modules.items()) if name.startswith("blurlib.")]
    loops = {f"{m.__name__}.{k}": v for m in modules for k, v in vars(m).items() if hasattr(v, "py_func")}
    assert loops
    return {(name, str(arguments)) for name, loop in loops.items() for arguments in loop.signatures}
"""

# Everything that can be blurred on a CPU, with little of it alike: on purpose not the warm-up's own list.
EVERYTHING = (
    READY
    + """
def images(dtype):
    generator = torch.Generator().manual_seed(1)
    photo = (torch.rand(2, 3, 40, 50, generator=generator) * 255).to(dtype)
    yield photo
    yield photo[0, :1]
    yield photo[:, :, :1, :1]
    yield photo.contiguous(memory_format=torch.channels_last)
    yield photo[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    yield photo[:, :, ::2, 5:-7]
    yield photo[..., ::3]
    yield photo.transpose(-1, -2)
    yield photo.flip(-1)
    yield photo[:1].expand(2, -1, -1, -1)
    yield photo[:, :0]
    yield photo[None].expand(2, -1, -1, -1, -1)
    yield (torch.rand(1, 3, 70, 1100, generator=generator) * 255).to(dtype)
    if dtype.is_floating_point:
        broken = photo.clone()
        broken[0, 0, 5, 6], broken[1, 1, 7, 8] = torch.nan, torch.inf
        yield broken
        yield torch.zeros_like(photo)
        yield -1e4 * photo[0]

def shapes():
    identity = torch.zeros(3, 3, dtype=torch.float64)
    identity[1, 1] = 1
    yield identity
    shifted = torch.zeros(5, 5, dtype=torch.float64)
    shifted[0, 3] = 1
    yield shifted
    for radius in (0, 0.7, 1, 2, 3, 6, 9.3, 12, 23):
        yield kernels.disk(radius)
        yield kernels.disk(radius, antialias=True)
    for length in (3, 16, 40):
        yield kernels.box(length)
        yield kernels.box(length, vertical=True)
        yield kernels.line(length, 30)
        yield kernels.line(length + 0.4, 117)
    for sigma in (0.4, 1.5, 7, 30):
        yield kernels.gaussian(sigma)
    yield kernels.bank_kernel(17)
    yield kernels.camera_shake(1, seed=3, grid=41, size=61)[0]
    generator = torch.Generator().manual_seed(2)
    for height, width in ((1, 5), (3, 3), (7, 5), (31, 21), (1, 141), (141, 1), (1, 1), (135, 135)):
        dense = torch.rand(height, width, generator=generator, dtype=torch.float64)
        yield dense / dense.sum()
        sparse = dense * (dense > 0.9)
        sparse[0, 0] = 0.01
        yield sparse / sparse.sum()
    sharper = torch.full((3, 3), -0.1, dtype=torch.float64)
    sharper[1, 1] = 1.8
    yield sharper
    a, b = torch.rand(2, 9, generator=generator, dtype=torch.float64)
    yield torch.outer(a / a.sum(), b / b.sum())

def everything():
    dtypes = torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64
    borders = itertools.cycle(["reflect", "symmetric", "replicate", "circular", "zeros"])
    for dtype in dtypes:
        for place, kernel in enumerate(shapes()):
            for number, image in enumerate(images(dtype)):
                # Not all with all, for time's sake: every image with every third kernel.
                if (place + number) % 3 and number:
                    continue
                taken = kernel.float() if number == 1 else kernel
                blurlib.blur(image, taken, border=next(borders))
                if image.ndim > 3 and number % 2:
                    other = torch.zeros_like(kernel)
                    other[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
                    stack = torch.stack([kernel, other])[: len(image)]
                    blurlib.blur(image, stack, border=next(borders))
    photo = torch.rand(3, 20, 21, requires_grad=True)
    blurlib.blur(photo, kernels.disk(3)).sum().backward()
    kernels.camera_shake(2, seed=5)
    kernels.camera_shake(1, seed=5, grid=5, size=9, control_points=4)
"""
)


def python(code):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_warmup_compiles_all_that_is_ever_needed():
    code = EVERYTHING + "blurlib.warmup(); before = ready(); everything(); print(sorted(ready() - before))"
    assert python(code) == "[]\n"


def test_warmup_takes_no_time_the_second_time():
    first = blurlib.warmup()
    assert 0 < min(blurlib.warmup() for _ in range(3)) < max(2.0, first)


@fork_only
def test_transforms_compile_what_they_need_when_they_are_made():
    """Each in a process of its own, on pictures of bytes and of floats in both layouts."""
    code = (
        READY
        + """
import warnings
import numpy as np, PIL.Image
from numba.core.registry import cpu_target
cpu_target.target_context.refresh()  # slow, and the same for all
warnings.simplefilter("ignore", DeprecationWarning)  # of forking
photo = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
pillow = PIL.Image.fromarray(photo.permute(1, 2, 0).contiguous().numpy())
makers = [
    lambda: blurlib.DiskBlur((0.0, 12.0)),
    lambda: blurlib.DiskBlur((0.0, 40.0), antialias=False),
    lambda: blurlib.DiskBlur((0.0, 0.1)),
    lambda: blurlib.MotionBlur((0.0, 40.0)),
    lambda: blurlib.MotionBlur((0.0, 0.001)),
    lambda: blurlib.CameraShakeBlur(),
    lambda: blurlib.GaussianBlur((0.0, 9.0)),
    lambda: blurlib.GaussianBlur((0.0, 0.1)),
    lambda: blurlib.BlurMixSampler("sharp + D2 + D8a + H8 + V3 + L12@30 + G2 + shake"),
    lambda: blurlib.BlurMixSampler({"sharp": 0.2, "S17": 0.2, blurlib.DiskBlur(): 0.6}),
]
for make in makers:
    sys.stdout.flush()
    if os.fork() == 0:
        transform = make()
        before = ready()
        assert before
        for _ in range(12):
            if isinstance(transform, blurlib.BlurMixSampler):
                transform(photo.expand(4, -1, -1, -1))
                transform(torch.rand(4, 3, 30, 31))
            else:
                transform(photo), transform(pillow), transform(photo.float() / 255)
        print(transform, sorted(ready() - before))
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""
    )
    lines = python(code).splitlines()
    assert len(lines) == 10
    late = [line for line in lines if not line.endswith(" []")]
    assert not late, "\n".join(late)


def test_a_transform_compiles_once_in_a_process(monkeypatch):
    calls = []
    monkeypatch.setattr(warming, "blur", lambda image, *_, **__: calls.append(image.dtype))
    monkeypatch.setattr(warming, "_prepared", set())
    blurlib.DiskBlur((1.0, 2.0))
    count = len(calls)
    assert count and set(calls) == {torch.uint8, torch.float32}
    blurlib.DiskBlur(3.0, antialias=False)
    blurlib.BlurMixSampler("sharp + D2")
    sharp = len(calls) - count
    blurlib.BlurMixSampler("sharp + D4")
    assert len(calls) == count + sharp < 2 * count
    blurlib.GaussianBlur(2.0)
    assert len(calls) > count + sharp


def test_fine_tuning_compiles_for_8_bit_images_alone(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(warming, "blur", lambda image, *_, **__: calls.append(image.dtype))
    monkeypatch.setattr(warming, "_prepared", set())
    images = [(Image.new("RGB", (40, 40)), number % 2) for number in range(4)]
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    seen = {"network_side": 32, "crop": 32, "batch_size": 2, "epochs": (1,), "lr": (0.1,)}
    blurlib.finetune(network, images, blur="sharp + D2", workers=0, progress=False, **seen)
    assert set(calls) == {torch.uint8}
    blurlib.BlurMixSampler("sharp + D2")
    assert calls[-1] == torch.float32


def test_making_a_transform_draws_nothing_and_stays_on_the_cpu(monkeypatch):
    monkeypatch.setattr(warming, "_prepared", set())
    state = torch.get_rng_state()
    with torch.device("meta"):
        for make in (blurlib.DiskBlur, blurlib.MotionBlur, blurlib.CameraShakeBlur):
            make()
        blurlib.warmup()
    assert torch.equal(state, torch.get_rng_state())
    assert {(Disk, dtype) for dtype in (torch.uint8, torch.float32, torch.float64)} < warming._prepared


# Processes and threads


def pool_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("blurlib")]


def batch(seed=0, count=8):
    images = torch.randint(
        0, 256, (count, 3, 192, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return images, torch.stack([kernels.bank_kernel(i) for i in range(count)])


def compiled():
    """How many times machine code was read from disk, and how many times made, in this process."""
    loops = [
        loop
        for name, module in list(sys.modules.items())
        if name.startswith("blurlib.")
        for loop in vars(module).values()
        if hasattr(loop, "py_func")
    ]
    return tuple(
        sum(sum(getattr(loop.stats, field).values()) for loop in set(loops))
        for field in ("cache_hits", "cache_misses")
    )


class Blurred(Dataset):
    """Each sample is a batch blurred in the worker: large enough for several threads, were they allowed."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        before = compiled()
        torch.set_num_threads(2)  # as a careless user might
        images, own = batch(index)
        blurred = blurlib.blur(images, own)
        alike = self.transform(images)
        return blurred, alike, len(pool_threads()), torch.tensor([before, compiled()])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@forks
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.usefixtures("two_threads")
def test_workers_of_a_parent_that_has_used_its_threads(method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method}")
    transform = blurlib.DiskBlur(8)
    blurlib.blur(*batch())
    assert pool_threads(), "the parent was to have threads that a fork would lose"
    own = compiled()
    loader = DataLoader(
        Blurred(transform),
        batch_size=None,
        num_workers=2 if method == "fork" else 1,  # another imports everything anew
        multiprocessing_context=method,
        timeout=100,  # a worker that waits for ever is an error
    )
    for index, (blurred, alike, threads, counts) in enumerate(loader):
        images, own_kernels = batch(index)
        assert torch.equal(blurred, blurlib.blur(images, own_kernels))
        assert torch.equal(alike, transform(images))
        assert threads == 0, "a worker has one thread: there are as many workers as the user wanted"
        before, after = counts.tolist()
        assert after[1] == before[1], "a worker compiled"
        if method == "fork":
            assert tuple(before) == tuple(after) == own, "a worker read what its parent had"
        else:
            assert after[0] > 0


@forks
@fork_only
@pytest.mark.usefixtures("two_threads")
def test_fork_of_a_process_with_threads_makes_its_own():
    """A process of the user's own, not a DataLoader's: it may use threads, but not its parent's."""
    images, own = batch()
    expected = blurlib.blur(images, own).numpy()
    assert pool_threads()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        # Compared by NumPy: torch's own threads do not survive a fork.
        right = np.array_equal(blurlib.blur(images, own).numpy(), expected)
        os._exit(0 if right and pool_threads() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.usefixtures("two_threads")
def test_several_threads_at_once():
    work = [batch(seed, count) for seed, count in ((1, 2), (2, 4), (3, 8), (4, 3))]
    expected = [blurlib.blur(*each) for each in work]
    with ThreadPoolExecutor(4) as callers:
        for _ in range(3):
            found = [callers.submit(blurlib.blur, *each) for each in work]
            for result, right in zip(found, expected, strict=True):
                assert torch.equal(result.result(timeout=60), right)


def test_threads_that_use_it_first():
    """Nothing is loaded yet when all of them begin."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
import torch, blurlib
torch.set_num_threads(2)
image = torch.randint(0, 256, (4, 3, 150, 160), dtype=torch.uint8)
shapes = blurlib.kernels.disk(5), blurlib.kernels.gaussian(2)
jobs = [(x, k) for x in (image, image.float()) for k in shapes]
start = threading.Barrier(8)
def first(job):
    start.wait()
    return blurlib.blur(*job)
with ThreadPoolExecutor(8) as callers:
    found = list(callers.map(first, jobs + jobs))
print(all(torch.equal(a, blurlib.blur(*job)) for a, job in zip(found, jobs + jobs)))
"""
    assert python(code) == "True\n"


def test_without_the_compiler():
    """NUMBA_DISABLE_JIT=1, for finding errors: slow, but right."""
    code = """
import os, warnings
os.environ["NUMBA_DISABLE_JIT"] = "1"
warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of integers that wrap around as they are to
import torch, blurlib
transform = blurlib.DiskBlur(2)
assert blurlib.warmup() < 1
point = torch.zeros(1, 7, 8, dtype=torch.float64)
point[0, 3, 4] = 1
from blurlib.kernels import disk, gaussian, line
for kernel in (disk(2), disk(1.5, antialias=True), gaussian(0.6), line(5, 40)):
    h, w = (side // 2 for side in kernel.shape)
    expected = torch.zeros(7, 8, dtype=torch.float64)
    expected[3 - h : 4 + h, 4 - w : 5 + w] = kernel
    assert torch.allclose(blurlib.blur(point, kernel)[0], expected, rtol=0, atol=1e-12)
    assert torch.allclose(blurlib.blur(point.float(), kernel)[0].double(), expected, rtol=0, atol=1e-6)
    found = blurlib.blur((255 * point).to(torch.uint8), kernel)[0]
    assert (found - 255 * expected).abs().max() <= 0.5 + 1e-6
print("right")
"""
    assert python(code) == "right\n"


def loops_of(every, dtype):
    """The loops that blurs are carried out by, each with the kinds of its arguments, and a blur of each."""
    found = {}
    for blur in every:
        planned = plans.plan(blur.kernel(), dtype)
        kinds = [
            (type(part).__name__, getattr(part, "dtype", None), getattr(part, "ndim", None))
            for part in planned.arguments
        ]
        found.setdefault((planned.kind, *map(str, kinds)), blur)
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("kind", [Disk, Gaussian, Line], ids=lambda kind: kind.__name__)
def test_the_examples_of_a_kind_need_all_its_loops(kind, dtype):
    """Over the whole range that transforms draw from, closely where kernels are small."""
    steps = [*np.arange(0, 4, 0.02), *np.arange(4, 40, 0.5)]
    every = {
        Disk: [Disk(float(radius), antialias=soft) for radius in steps for soft in (False, True)],
        Gaussian: [Gaussian(float(sigma)) for sigma in [*steps[:200], 4.0, 7.0, 9.0, 0.125, 0.15]],
        Line: [Line(float(n), float(angle)) for n in (*range(41), 0.3, 7.7) for angle in range(0, 180, 15)],
    }[kind]
    drawn, known = loops_of(every, dtype), loops_of(warming._EXAMPLES[kind], dtype)
    assert not {loop: str(blur) for loop, blur in drawn.items() if loop not in known}
