"""blur() in torch's own operations: for every other device than the CPU, and for the CPU without the core.

No value is looked at, so that nothing waits for the device: what is done follows from shapes and dtypes.
Small kernels are convolved directly, others by FFT, in float32 (in float64 for float64 images).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from .layouts import border_index, empty_like

#: What one call may hold in memory beside its arguments and its result: more images are taken in turn, and
#: tall ones in bands of rows. Exceeded only where a band as high as the kernel does not fit.
TEMPORARY_BYTES = 256 * 2**20

# Live copies of a chunk at the worst moment of an FFT: the bordered image, its spectrum, the inverse
# transform's scratch and result, and the library's workspace, which is about one more.
_COPIES = 6

# Up to this many taps a direct convolution does less work than an FFT, by a count of operations and of passes
# over memory; no GPU was timed. A longer row or column is still direct, because its sums stay local: one NaN
# or very bright pixel reaches its neighbours alone.
_DIRECT_TAPS, _DIRECT_ROW = 81, 129

# A device may add one tap after another in float32: for 81 equal taps and a bright image that drifts by
# 1.2e-6, more than blur() promises. Summed apart in groups of this many, 129 taps drift by 4e-7.
_GROUP = 32

# The sums of a flat kernel of n taps are multiples of 1/n, with a tie among them where n is even. A lift of
# 1/(4n) is more than the arithmetic's error up to n of about 4000, so ties go up as they should, and too
# little to move any other sum. For other kernels it stays well inside the 1e-3 around a tie in which both
# neighbours are right.
_LIFT = 5e-4

# Bytes are convolved as their distance from this, which halves the arithmetic's error.
_GREY = 127.5

# What may hold numbers near the largest of the arithmetic; bytes and float16 do not.
_UNBOUNDED = (torch.bfloat16, torch.float32, torch.float64)

# From blocks (n, c, rows, columns), bordered, to the valid part of their convolution with a kernel each.
_Convolve = Callable[[Tensor], Tensor]


def blur_torch(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Any image and kernel that blur() takes, on any device, in TEMPORARY_BYTES beside the result."""
    result = empty_like(image)
    if not image.numel():
        return result
    real = torch.float64 if image.dtype == torch.float64 else torch.float32
    images = image.reshape(-1, *image.shape[-3:])
    results = result.view(images.shape)
    kernels = kernel.to(real).reshape(-1, *kernel.shape[-2:])
    each = kernel.ndim == 3
    if each:  # the frames of a video share one
        kernels = kernels.repeat_interleave(len(images) // len(kernels), 0)
    window = (kernel.shape[-2], kernel.shape[-1])
    direct = window[0] * window[1] <= (_DIRECT_ROW if 1 in window else _DIRECT_TAPS)
    chunk, size = _chunk((*images.shape,), window, direct, real.itemsize)
    frame = _frame(images, window, border, chunk[2], size)
    with _no_autocast(image.device.type):
        for some in _slices(len(images), chunk[0]):
            if each or some.start == 0:
                weights = kernels[some] if each else kernels
                convolve = _direct(weights) if direct else _fft(weights, size, image.dtype in _UNBOUNDED)
                to_bytes = _to_bytes(weights) if image.dtype == torch.uint8 else None
            for channels in _slices(images.shape[1], chunk[1]):
                for rows in _slices(images.shape[2], chunk[2]):
                    block = _cut(images[some, channels], frame, rows.start).to(real)
                    sums = convolve(block if to_bytes is None else block.sub_(_GREY))
                    del block
                    sums = sums[..., : rows.stop - rows.start, : images.shape[3]]
                    if to_bytes is not None:
                        sums = sums.add_(to_bytes).clamp_(0, 255)
                    results[some, channels, rows].copy_(sums)
                    del sums  # or it would lie beside the next block
    return result


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """An amp block around the call may not round the weights."""
    if torch.amp.is_autocast_available(device):
        return cast("AbstractContextManager[object]", torch.autocast(device, enabled=False))
    return nullcontext()


def _to_bytes(kernels: Tensor) -> Tensor:
    """What turns sums of distances from _GREY into numbers to truncate: grey, a half, the lift of ties."""
    lift = (kernels.amax((-2, -1)) / 4).clamp(max=_LIFT)
    return (kernels.sum((-2, -1)) * _GREY + 0.5 + lift)[:, None, None, None]


# --- Chunks, and the border around them ---


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _chunk(
    shape: tuple[int, ...], window: tuple[int, int], direct: bool, itemsize: int
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """How many images, channels and rows to take at a time, and the rows and columns of their blocks."""
    count, channels, height, width = shape

    def size(rows: int) -> tuple[int, int]:
        high, wide = rows + window[0] - 1, width + window[1] - 1
        if direct:
            return high, wide
        return (high if window[0] == 1 else _fast_length(high)), (
            wide if window[1] == 1 else _fast_length(wide)
        )

    rows, allowed = height, TEMPORARY_BYTES // (_COPIES * itemsize)
    while 2 * (block := size(rows))[0] * block[1] > allowed and rows > window[0]:
        rows = max(window[0], -(-rows // 2))
    planes = max(2, allowed // (block[0] * block[1]))  # a kernel needs as much as a plane
    if planes > channels:
        return (min(count, planes // (channels + 1)), channels, rows), block
    return (1, planes - 1, rows), block


class _Frame(NamedTuple):
    """How a block is cut out of an image with its border."""

    before: tuple[int, int]  # rows and columns of border before the image
    size: tuple[int, int]  # of a block
    rows: Tensor | None  # where each row and column of the bordered image lies; None: where it is, or zero
    columns: Tensor | None


def _frame(images: Tensor, window: tuple[int, int], border: str, rows: int, size: tuple[int, int]) -> _Frame:
    before = window[0] // 2, window[1] // 2
    last_band = (images.shape[2] - 1) // rows * rows
    sources: list[Tensor | None] = [None, None]
    for axis, length in ((0, last_band + size[0]), (1, size[1])):
        inside = images.shape[2 + axis]
        if before[axis] and border != "zeros":
            # An FFT's length is more than the border needs; the rule goes on for ever, so why not copy by it.
            reach = max(before[axis], length - before[axis] - inside)
            index = border_index(inside, reach, border, images.device)
            sources[axis] = index[reach - before[axis] :][:length]
    return _Frame(before, size, *sources)


def _cut(images: Tensor, frame: _Frame, first: int) -> Tensor:
    """The block from bordered row `first` on; a view where there is no border."""
    if frame.rows is not None:
        images = images.index_select(-2, frame.rows[first : first + frame.size[0]])
        above = below = 0
    else:
        start, stop = first - frame.before[0], first - frame.before[0] + frame.size[0]
        above = max(0, -start)
        images = images[..., max(0, start) : max(0, stop), :]
        below = frame.size[0] - above - images.shape[-2] if frame.before[0] else 0
    left = right = 0
    if frame.columns is not None:
        images = images.index_select(-1, frame.columns)
    elif frame.before[1]:
        left, right = frame.before[1], frame.size[1] - frame.before[1] - images.shape[-1]
    return pad(images, (left, right, above, below)) if left or right or above or below else images


# --- Convolutions ---


def _direct(kernels: Tensor) -> _Convolve:
    high, wide = kernels.shape[-2:]
    flipped = kernels.flip(-2, -1)[:, None]

    def convolve(block: Tensor) -> Tensor:
        count, channels, rows, columns = block.shape
        planes = block.reshape(1, -1, rows, columns)
        weights = flipped.expand(count, channels, high, wide).reshape(-1, 1, high, wide)
        if len(weights) == 1:
            # A group a plane, and at least two groups: what CUDA then runs is torch's own kernel, which adds
            # in float32 whatever is set for TF32. To set that here would be neither safe between threads
            # nor possible for those who use torch's newer settings.
            planes, weights = planes.expand(-1, 2, -1, -1), weights.expand(2, -1, -1, -1)
        rows, columns = rows - high + 1, columns - wide + 1
        sums = None
        for top in range(0, high, max(1, _GROUP // wide)):
            for left in range(0, wide, _GROUP):
                taps = weights[..., top : top + max(1, _GROUP // wide), left : left + _GROUP]
                under = planes[
                    ..., top : top + rows + taps.shape[-2] - 1, left : left + columns + taps.shape[-1] - 1
                ]
                term = conv2d(under, taps, groups=len(weights))
                sums = term if sums is None else sums.add_(term)
        assert sums is not None
        return sums[:, : count * channels].reshape(count, channels, rows, columns)

    return convolve


def _fft(kernels: Tensor, size: tuple[int, int], may_be_large: bool) -> _Convolve:
    """Along those sides that are longer than one tap; `may_be_large`: pixels near the largest number."""
    high, wide = kernels.shape[-2:]
    dims = [dim for dim in (-2, -1) if kernels.shape[dim] > 1]
    lengths = [size[dim] for dim in dims]
    spectrum = torch.fft.rfftn(kernels[:, None], s=lengths, dim=dims)

    def convolve(block: Tensor) -> Tensor:
        scale = _scale(block) if may_be_large else None
        product = torch.fft.rfftn(block if scale is None else block * scale, dim=dims).mul_(spectrum)
        sums: Tensor = torch.fft.irfftn(product, s=lengths, dim=dims)
        if scale is not None:
            sums = sums.div_(scale)
        return sums[..., high - 1 :, wide - 1 :]

    return convolve


def _scale(block: Tensor) -> Tensor:
    """A power of two for each plane, 1 as a rule, less where the sum of a plane could be infinite.

    Found on the device. A plane that is not finite leaves the others as they are.
    """
    real = torch.finfo(block.dtype)
    largest = torch.linalg.vector_norm(block, torch.inf, dim=(-2, -1), keepdim=True)
    return torch.ones_like(largest).masked_fill_(largest > real.max**0.5, real.tiny**0.5)


@functools.lru_cache(maxsize=1024)
def _fast_length(n: int) -> int:
    """The next even length without a prime factor above 7, which FFT libraries handle best."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
