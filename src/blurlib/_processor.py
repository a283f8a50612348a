"""blur() on the CPU: a plan for each kernel, cut into shares that threads can carry out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from . import _integers, _weighted
from ._images import border_map, empty_like, is_interleaved
from ._tiles import STRIP, Frame, View, put_back
from ._weighted import Pairs
from .plans import Plan, plan

# Writes strips first to last - 1 of an image, counted over its planes.
Job = Callable[[int, int], None]

# Elements that are worth a second thread: about 0.1 ms of work.
_WORTH_A_THREAD = 1 << 16


def blur_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    # Between two images of a real program the caches are cold, and every call of torch's from Python then
    # takes 10 to 50 µs: hence few of them here, and NumPy's and cached answers instead.
    if image.dtype in _HALVES:
        return empty_like(image).copy_(blur_cpu(image.float(), kernel, border))
    plans = [plan(each, image.dtype) for each in kernel] if kernel.ndim == 3 else [plan(kernel, image.dtype)]
    view, result = _view(image.detach() if image.requires_grad else image)
    out = result.numpy()
    if not out.size:
        return result
    if view.step > 1:
        out = np.moveaxis(out, -3, -1)
    out = out.reshape(view.starts.size, view.rows, view.columns * view.step)
    each = view.starts.size // len(plans)
    strips = -(-view.rows // STRIP)
    jobs = []
    for position, chosen in enumerate(plans):
        mine, target = view, out
        if len(plans) > 1:
            part = slice(position * each, (position + 1) * each)
            mine, target = view._replace(starts=view.starts[part]), out[part]
        job = _job(chosen, mine, target, border)
        jobs.append(
            (job, each, chosen.cost * strips) if chosen.kind == "fft" else (job, each * strips, chosen.cost)
        )
    _run(jobs, out.size)
    return result


_HALVES = (torch.float16, torch.bfloat16)


def _view(image: Tensor) -> tuple[View, Tensor]:
    """The image's memory, copied only where the pixels of a row are not side by side; and the result."""
    if image.is_contiguous():
        pixels, result = image.numpy(), torch.empty_like(image)
        *_, height, width = pixels.shape
        flat, starts, stride, step = (
            pixels.reshape(-1),
            _every(pixels.size // (height * width or 1), height * width),
            width,
            1,
        )
    else:
        result = empty_like(image)
        interleaved = is_interleaved(image)
        if not interleaved and image.stride(-1) != 1 and image.shape[-1] > 1:
            image = image.contiguous()
        *_, channels, height, width = image.shape
        extent, starts = _places(image.shape, image.stride(), interleaved)
        flat, stride, step = (
            image.as_strided((extent,), (1,)).numpy(),
            image.stride(-2),
            channels if interleaved else 1,
        )
    if flat.dtype != np.uint8:
        flat = flat.view(_BITS[flat.itemsize])  # the loops copy floats by their bits
    return View(flat, starts, stride, height, width, step), result


_BITS = {4: np.uint32, 8: np.uint64}


@functools.lru_cache(maxsize=1024)
def _every(count: int, distance: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * distance


@functools.lru_cache(maxsize=1024)
def _places(shape: torch.Size, strides: tuple[int, ...], interleaved: bool) -> tuple[int, np.ndarray]:
    """The length of the memory from the first element to the last, and where in it each plane starts."""
    starts = np.zeros(1, np.int64)
    for size, stride in zip(shape[: -3 if interleaved else -2], strides, strict=False):
        starts = (starts[:, None] + np.arange(size) * stride).reshape(-1)
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)), starts


@functools.lru_cache(maxsize=1024)
def _frame(rows: int, columns: int, window: tuple[int, int], border: str) -> Frame:
    return Frame(border_map(rows, window[0] // 2, border), border_map(columns, window[1] // 2, border))


def _job(chosen: Plan, view: View, out: np.ndarray, border: str) -> Job:
    frame = _frame(view.rows, view.columns, chosen.window, border)
    if chosen.kind == "fft":
        return functools.partial(_fft_sums, view, out, frame, *chosen.arguments)
    loop = _LOOPS[chosen.kind]
    if chosen.kind == "copy":
        out = out.view(view.flat.dtype)

    def job(first: int, last: int) -> None:
        loop(*view, out, first, last, *chosen.arguments, *frame)

    return job


_LOOPS: dict[str, Callable[..., None]] = {
    "copy": _integers.copies,
    "bytes": _integers.byte_sums,
    "fixed": _integers.fixed_sums,
    "weighted": _weighted.weighted_sums,
    "running": _weighted.running_sums,
    "separable": _weighted.separable_sums,
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
    flat = view.flat if out.dtype == np.uint8 else view.flat.view(out.dtype)
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
                box = (0, view.rows, 0, view.columns * view.step)
                where[:, 1] = where[:, 1] * view.step + channel
                put_back(out[plane], where, what, pairs.taps, pairs.weights, view.step, box)


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

    Each thread gets a run of consecutive units of about the same cost: neighbours in memory stay together.
    """
    global _pool
    units = sum(number for _, number, _ in jobs)
    threads = min(units, elements // _WORTH_A_THREAD)
    threads = 1 if threads <= 1 or get_worker_info() else min(threads, torch.get_num_threads())
    if threads <= 1:
        for job, number, _ in jobs:
            job(0, number)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="blurlib")
    first, *others = _shares(jobs, threads)
    waiting = [_pool.submit(_work, share) for share in others]
    _work(first)
    for done in waiting:
        done.result()


def _work(share: list[tuple[Job, int, int]]) -> None:
    for job, first, last in share:
        job(first, last)


def _shares(jobs: list[tuple[Job, int, float]], threads: int) -> list[list[tuple[Job, int, int]]]:
    """Cut the jobs, end to end, into as many stretches of about the same cost."""
    whole = sum(number * cost for _, number, cost in jobs)
    shares: list[list[tuple[Job, int, int]]] = [[] for _ in range(threads)]
    spent, current = 0.0, 0
    for job, number, cost in jobs:
        first = 0
        while first < number:
            left = (current + 1) * whole / threads - spent
            take = number - first if current == threads - 1 else round(left / cost)
            take = min(take, number - first)
            if take > 0:
                shares[current].append((job, first, first + take))
                spent += take * cost
                first += take
            if first < number:
                current += 1
    return shares
