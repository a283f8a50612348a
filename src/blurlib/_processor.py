"""blur() on the CPU: a plan for each kernel, cut into shares that threads can carry out."""

from __future__ import annotations

import collections
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from . import _boxes, _integers, _weighted
from ._images import border_map, empty_like
from ._memory import ANCHORS, BIT_ANCHORS, BITS, address, origin
from ._tiles import STRIP, Frame, View, put_back
from ._twins import plain_row
from ._vectors import row
from ._weighted import Pairs
from .plans import Plan, plan

# Writes strips first to last - 1 of an image, counted over its planes.
Job = Callable[[int, int], None]

# Elements that are worth a second thread: about 0.1 ms of work.
_WORTH_A_THREAD = 1 << 16
# Pieces for each thread: many enough that the last ones to finish do so at about the same time.
_PIECES = 8


def blur_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    # Between two images of a real program the caches are cold, and most calls of torch's from Python then
    # take 20 to 60 µs, as long as to blur a small image: hence few of them here, and no arrays.
    dtype = image.dtype
    if dtype in _HALVES:
        return empty_like(image).copy_(blur_cpu(image.float(), kernel, border))
    plans = [plan(each, dtype) for each in kernel] if kernel.ndim == 3 else [plan(kernel, dtype)]
    layout = _layout(image.shape, image.stride())
    if layout is None:
        image = image.contiguous()
        layout = _layout(image.shape, image.stride())
        assert layout is not None
    result = torch.empty_like(image) if layout.dense else empty_like(image)
    if not layout.elements:
        return result
    if image.data_ptr() % dtype.itemsize:  # an array of somebody's, in the middle of a file
        image = image.clone(memory_format=torch.preserve_format)
        return blur_cpu(image, kernel, border)
    each = layout.starts.size // len(plans)  # planes to a kernel
    strips = -(-layout.rows // STRIP)
    jobs = []
    for position, chosen in enumerate(plans):
        job = _job(chosen, image, result, layout, range(position * each, (position + 1) * each), border)
        if chosen.kind == "fft":
            jobs.append((job, each, chosen.cost * strips))
        else:
            jobs.append((job, each * strips, chosen.cost))
    _run(jobs, layout.elements)
    return result


_HALVES = (torch.float16, torch.bfloat16)


def blur_array(image: np.ndarray, kernel: Tensor, border: str) -> np.ndarray:
    """Blur an array (H, W) or (H, W, C) without a word to torch, where its memory allows it."""
    dtype = _TYPES.get(image.dtype)
    chosen = plan(kernel, dtype or torch.float32)
    rows, columns, *channels = image.shape
    step, itemsize = channels[0] if channels else 1, image.itemsize
    stride, *inner = image.strides
    apart = inner in ([itemsize], [step * itemsize, itemsize]) and stride > 0 and stride % itemsize == 0
    if (
        not (apart and image.size and dtype is not None)
        or chosen.kind == "fft"
        or row is plain_row
        or address(image) % itemsize
    ):
        array = np.require(image, requirements=("C", "A", "W"))
        planes = torch.from_numpy(array if channels else array[..., None]).permute(2, 0, 1)
        return np.asarray(blur_cpu(planes, kernel, border).permute(1, 2, 0).numpy()).reshape(image.shape)
    result = np.empty(image.shape, image.dtype)
    view = View(BIT_ANCHORS[dtype], origin(image, dtype), _ONE, stride // itemsize, rows, columns, step)
    pixels = ANCHORS[dtype] if chosen.kind != "copy" else BIT_ANCHORS[dtype]
    job = _loop(chosen, view, pixels, origin(result, dtype), _frame(rows, columns, chosen.window, border))
    _run([(job, -(-rows // STRIP), chosen.cost)], image.size)
    return result


_ONE = np.zeros(1, np.int64)
_TYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.float32): torch.float32,
    np.dtype(float): torch.float64,
}


class Layout(NamedTuple):
    """How an image lies in memory: its view, but for the place; whether it is all of a piece; its extent."""

    starts: np.ndarray
    stride: int
    rows: int
    columns: int
    step: int
    elements: int
    dense: bool
    extent: int


@functools.lru_cache(maxsize=1024)
def _layout(shape: torch.Size, strides: tuple[int, ...]) -> Layout | None:
    """The layout, or None where the pixels of a row are not side by side."""
    *_, channels, rows, columns = shape
    elements, natural = math.prod(shape), [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    contiguous = not elements or all(
        n == 1 or stride == least for n, stride, least in zip(shape, strides, natural, strict=True)
    )
    interleaved = not contiguous and channels > 1 and strides[-3] == 1 and strides[-1] == channels
    if not (contiguous or interleaved or strides[-1] == 1 or columns == 1):
        return None
    starts = np.zeros(1, np.int64)
    for n, stride in zip(shape[: -3 if interleaved else -2], strides, strict=False):
        starts = (starts[:, None] + np.arange(n) * stride).reshape(-1)
    extent = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if elements else 0
    stride, step = strides[-2], channels if interleaved else 1
    plane = np.arange(starts.size) * rows * columns * step
    dense = contiguous or (interleaved and stride == columns * step and bool((starts == plane).all()))
    return Layout(starts, stride, rows, columns, step, elements, dense, extent)


@functools.lru_cache(maxsize=1024)
def _frame(rows: int, columns: int, window: tuple[int, int], border: str) -> Frame:
    return Frame(border_map(rows, window[0] // 2, border), border_map(columns, window[1] // 2, border))


def _job(chosen: Plan, image: Tensor, result: Tensor, layout: Layout, planes: range, border: str) -> Job:
    """What blurs some planes of an image: strips of them, or whole planes for FFT. The caller keeps both."""
    starts, stride, rows, columns, step, *_ = layout
    frame = _frame(rows, columns, chosen.window, border)
    target = planes.start * rows * columns * step
    if len(planes) < starts.size:
        starts = starts[planes.start : planes.stop]
    if chosen.kind == "fft":
        view = View(_array(image, layout.extent), 0, starts, stride, rows, columns, step)
        out = _array(result, layout.elements)[target : target + len(planes) * rows * columns * step]
        lines = out.reshape(len(planes), rows, columns * step)
        return functools.partial(_fft_sums, view, lines, frame, *chosen.arguments)
    # The loops copy floats by their bits; a copy does nothing else.
    dtype, write = image.dtype, ANCHORS if chosen.kind != "copy" else BIT_ANCHORS
    if row is plain_row:
        view = View(_array(image, layout.extent).view(BITS[dtype]), 0, starts, stride, rows, columns, step)
        return _loop(chosen, view, _array(result, layout.elements).view(write[dtype].dtype), target, frame)
    view = View(BIT_ANCHORS[dtype], origin(image, dtype), starts, stride, rows, columns, step)
    return _loop(chosen, view, write[dtype], origin(result, dtype) + target, frame)


def _loop(chosen: Plan, view: View, pixels: np.ndarray, target: int, frame: Frame) -> Job:
    loop = _LOOPS[chosen.kind]

    def job(first: int, last: int) -> None:
        loop(*view, pixels, target, first, last, *chosen.arguments, *frame)

    return job


def _array(tensor: Tensor, extent: int) -> np.ndarray:
    """The memory from a tensor's first element on."""
    return np.asarray(tensor.detach().as_strided((extent,), (1,)).numpy())


_LOOPS: dict[str, Callable[..., None]] = {
    "copy": _integers.copies,
    "bytes": _integers.byte_sums,
    "fixed": _integers.fixed_sums,
    "weighted": _weighted.weighted_sums,
    "running": _weighted.running_sums,
    "separable": _weighted.separable_sums,
    "box": _boxes.box_sums,
}


def _fft_sums(
    view: View,
    out: np.ndarray,
    frame: Frame,
    kernel: np.ndarray,
    pairs: Pairs,
    first: int,
    last: int,
) -> None:
    """Blur planes first to last - 1 by FFT, in the image's precision, on the calling thread alone.

    Around the middle of the plane's range, so that 32 bits lose less than 5e-7 of the largest number.
    """
    from scipy import fft  # its transforms, unlike torch's, do not depend on the number of threads

    rows, columns = frame
    size = [fft.next_fast_len(n.size, real=True) for n in (rows, columns)]
    real = np.float64 if out.dtype == np.float64 else np.float32
    spectrum = fft.rfft2(kernel.astype(real), s=size)
    top, left = kernel.shape[0] - 1, kernel.shape[1] - 1
    flat = view.flat.view(out.dtype)
    for plane in range(first, last):
        lines = flat[view.starts[plane] :]
        stored = np.lib.stride_tricks.as_strided(
            lines,
            (view.rows, view.columns, view.step),
            (view.stride * lines.itemsize, view.step * lines.itemsize, lines.itemsize),
            writeable=False,
        )
        for channel in range(view.step):
            image = stored[..., channel]
            broken = ~np.isfinite(image)  # one such pixel would reach all others
            spoiled = broken.any()
            finite = np.where(broken, 0, image) if spoiled else image
            middle = finite.min() / 2 + finite.max() / 2
            bordered = (finite - middle).astype(real)[np.ix_(rows, columns)]
            bordered[rows < 0], bordered[:, columns < 0] = -middle, -middle
            sums = fft.irfft2(fft.rfft2(bordered, s=size) * spectrum, s=size)
            sums = sums[top : top + view.rows, left : left + view.columns] + middle * kernel.sum()
            if out.dtype == np.uint8:
                sums = (sums + 0.5).clip(0, 255)
            out[plane, :, channel :: view.step] = sums
            if spoiled:
                everywhere = np.where((rows < 0)[:, None] | (columns < 0), 0, image[np.ix_(rows, columns)])
                where = np.ascontiguousarray(np.argwhere(~np.isfinite(everywhere)))  # one type for the loop
                what = everywhere[tuple(where.T)]
                line = view.columns * view.step
                where[:, 1] = where[:, 1] * view.step + channel
                box = (0, line, view.rows, line)
                put_back(out[plane].reshape(-1), where, what, pairs.taps, pairs.weights, view.step, box)


# --- Threads ---

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    # A forked child has the parent's pool object without its threads, and would wait for them for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _run(jobs: list[tuple[Job, int, float]], elements: int) -> None:
    """Carry out jobs, of so many units at such a cost each, on torch's number of threads; on one in a worker.

    The threads take one piece after another: shares cut beforehand would all wait for the thread that wakes
    up last, or that has to leave its core to somebody else for a while.
    """
    global _pool
    threads = min(sum(number for _, number, _ in jobs), elements // _WORTH_A_THREAD)
    if threads > 1:
        threads = min(threads, torch.get_num_threads())
    if threads <= 1 or get_worker_info():
        for job, number, _ in jobs:
            job(0, number)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="blurlib")
    pieces = collections.deque(_pieces(jobs, threads * _PIECES))
    waiting = [_pool.submit(_work, pieces) for _ in range(threads - 1)]
    _work(pieces)
    for done in waiting:
        done.result()


def _work(pieces: collections.deque[tuple[Job, int, int]]) -> None:
    while True:
        try:
            job, first, last = pieces.popleft()
        except IndexError:  # no test before: another thread may take the last one in between
            return
        job(first, last)


def _pieces(jobs: list[tuple[Job, int, float]], count: int) -> Iterator[tuple[Job, int, int]]:
    """Cut the jobs into about so many pieces of about the same cost, each of one job."""
    whole = sum(number * cost for _, number, cost in jobs)
    for job, number, cost in jobs:
        parts = min(number, max(1, round(count * number * cost / whole))) if whole else 1
        ends = [number * part // parts for part in range(parts + 1)]
        yield from ((job, first, last) for first, last in itertools.pairwise(ends))
