"""blur() on the CPU: a plan for each kernel, cut into jobs that threads can share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from . import _loops
from ._images import border_map, empty_like, is_interleaved
from .plans import Plan, plan


def blur_cpu(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    if image.dtype in (torch.float16, torch.bfloat16):
        return empty_like(image).copy_(blur_cpu(image.float(), kernel, border))
    plans = [plan(each, image.dtype) for each in (kernel if kernel.ndim == 3 else kernel[None])]
    if not image.numel():
        return empty_like(image)
    interleaved = is_interleaved(image)
    source, result = image if interleaved else image.contiguous(), empty_like(image)
    jobs: list[Callable[[], None]] = []
    for position, chosen in enumerate(plans):
        old, new = (source, result) if kernel.ndim == 2 else (source[position], result[position])
        if chosen.kind == "copy":
            new.copy_(old)
        else:
            jobs += _jobs(chosen, old, new, border, interleaved)
    _run(jobs)
    return result


def _jobs(chosen: Plan, old: Tensor, new: Tensor, border: str, interleaved: bool) -> list[Callable[[], None]]:
    """The work of one kernel, cut into planes (HWC: images) that threads can share."""
    channels, height, width = old.shape[-3:]
    step = channels if interleaved else 1
    shape = (-1, height, width * step)
    before, after = (t.movedim(-3, -1) if interleaved else t for t in (old, new))
    planes, out = before.detach().numpy().reshape(shape), after.numpy().reshape(shape)
    rows = border_map(height, chosen.window[0] // 2, border)
    columns = border_map(width, chosen.window[1] // 2, border)
    left = chosen.window[1] // 2
    borders = (rows, columns, left, step)
    loop: Callable[..., None]
    if chosen.kind == "fft":
        loop = _fft_job(chosen, borders)
        return [functools.partial(loop, planes[p : p + 1], out[p : p + 1]) for p in range(len(planes))]
    loop = _loops.weighted_sums
    settings: tuple[Any, ...] = (*chosen.arrays, *borders)
    if chosen.kind == "integer":
        loop, settings = _loops.integer_sums, (*chosen.arrays, np.float32(chosen.weight), *borders)
    elif chosen.kind == "separable":
        loop = _loops.separable_sums
    return [functools.partial(loop, planes[p : p + 1], out[p : p + 1], *settings) for p in range(len(planes))]


def _fft_job(
    chosen: Plan, borders: tuple[np.ndarray, np.ndarray, int, int]
) -> Callable[[np.ndarray, np.ndarray], None]:
    """Blur one plane by FFT in float64, on the calling thread alone."""
    from scipy import fft  # its transforms, unlike torch's, do not depend on the number of threads

    kernel, taps, weights = chosen.arrays
    rows, columns, before, step = borders
    size = [fft.next_fast_len(n.size, real=True) for n in (rows, columns)]
    spectrum = fft.rfft2(kernel, s=size)
    top, left = kernel.shape[0] - 1, kernel.shape[1] - 1

    def job(plane: np.ndarray, target: np.ndarray) -> None:
        if not np.isfinite(plane).all():  # one broken pixel would reach them all
            nothing = np.empty((0, 2), np.int64), np.empty(0)
            _loops.weighted_sums(plane, target, taps, weights, *nothing, rows, columns, before, step)
            return
        for channel in range(step):
            image = plane[0, :, channel::step]
            bordered = np.where((rows < 0)[:, None] | (columns < 0), 0.0, image[np.ix_(rows, columns)])
            sums = fft.irfft2(fft.rfft2(bordered, s=size) * spectrum, s=size)
            sums = sums[top : top + image.shape[0], left : left + image.shape[1]]
            if target.dtype == np.uint8:
                sums = (sums + 0.5).clip(0, 255)
            target[0, :, channel::step] = sums

    return job


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    # A forked child has the parent's pool object without its threads, and would wait for them for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _run(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs on torch's number of threads, on one inside a DataLoader worker."""
    global _pool
    threads = 1 if get_worker_info() else min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        for job in jobs:
            job()
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="blurlib")

    def share(first: int) -> None:
        for job in jobs[first::threads]:
            job()

    for done in [_pool.submit(share, first) for first in range(threads)]:
        done.result()
