"""The host's part of `triton_kernels.py`: memory, chunks and launches. It looks at shapes and types only.

Imported only where a CUDA tensor is blurred, since it imports Triton.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from . import triton_flat
from . import triton_kernels as kernels
from . import triton_plan as plan_kernels
from .layouts import empty_like

#: What is held in memory beside the result, unless one row of tiles needs more: the images with their border
#: and, where a kernel may be of rank one, the sums between its two passes. Little, to stay in a GPU's cache.
TEMPORARY_BYTES = 128 * 2**20

# The rows and columns of a tile, or the words of four bytes; and the warps of 32 threads that share it.
_COPY = {"ROWS": 16, "BLOCK": 512, "num_warps": 4}
_FLAT = ({"ROWS": 81, "WORDS": 64, "num_warps": 1}, {"ROWS": 81, "WORDS": 128, "num_warps": 1})
_BYTES = {"IS_BYTES": True, "ROWS": 16, "BLOCK": 32, "num_warps": 4}
_DENSE = {"ROWS": 128, "BLOCK": 32, "num_warps": 4, "num_stages": 1}
_FLOATS = {"IS_BYTES": False, "ROWS": 8, "BLOCK": 128, "num_warps": 4}
_LINES = {"ROWS": 8, "BLOCK": 128, "num_warps": 4}
_PLAN = {"BLOCK": 256, "num_warps": 4}

# Tiles at the right read beyond a row, and so beyond the last one.
_SLACK = 1024

# As _source_index has them.
_BORDERS = ("reflect", "symmetric", "replicate", "circular", "zeros")


def blur_triton(image: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Blur images of uint8, float16, bfloat16 or float32 on the device of their memory."""
    result = empty_like(image)
    if not image.numel():
        return result
    images = image.reshape(-1, *image.shape[-3:])
    results = result.view(images.shape)
    with _on(image.device):
        planned = _plan(kernel, results)
        count, channels, height, _ = images.shape
        taken = _chunk(results, planned.window)
        for start in range(0, count, taken[0]):
            for channel in range(0, channels, taken[1]):
                for top in range(0, height, taken[2]):
                    part = slice(start, start + taken[0]), slice(channel, channel + taken[1])
                    rows = min(taken[2], height - top)
                    _blur_chunk(
                        images[part], results[part][:, :, top : top + rows], planned, border, start, top
                    )
    return result


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device; the interpreter, on none."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Plan:
    """What `plan` writes on the device, and the shapes that it was made for."""

    def __init__(self, weights: Tensor, images: Tensor) -> None:
        count, *window = weights.shape
        self.window = (window[0], window[1])
        self.planes_each = len(images) // count
        # A multiple of 16 elements.
        self.pitch16 = -(-(images.shape[3] + window[1] - 1) // 16)
        size = window[0] * window[1]
        self.weights = weights
        self.heads = weights.new_empty((count, 8), dtype=torch.int32)
        self.offsets = weights.new_empty((count, 3, size), dtype=torch.int32)
        self.values = weights.new_empty((count, size))
        self.profiles = weights.new_empty((count, sum(window)))


def _plan(kernel: Tensor, images: Tensor) -> _Plan:
    weights = kernel.detach().to(torch.float32).reshape(-1, *kernel.shape[-2:]).contiguous()
    planned = _Plan(weights, images)
    plan_kernels.plan[(len(weights),)](
        weights,
        planned.heads,
        planned.offsets,
        planned.values,
        planned.profiles,
        *planned.window,
        planned.pitch16,
        int(images.dtype == torch.uint8),
        **_PLAN,
    )
    return planned


def _has_two_passes(window: tuple[int, int]) -> bool:
    return window[0] > 1 and window[1] > 1


def _chunk(images: Tensor, window: tuple[int, int]) -> tuple[int, int, int]:
    """How many images, channels and rows to take at a time."""
    count, channels, height, width = images.shape
    pitch = width + window[1] + 15
    between = 4 if _has_two_passes(window) else 0

    def size(rows: int) -> int:
        return pitch * ((rows + window[0] - 1) * images.itemsize + rows * between)

    rows = height
    while size(rows) > TEMPORARY_BYTES and rows > 64:
        rows = max(64, -(-rows // 2))
    planes = max(1, TEMPORARY_BYTES // size(rows))
    if planes >= channels:
        return min(count, planes // channels), channels, rows
    return 1, planes, rows


def _blur_chunk(images: Tensor, results: Tensor, planned: _Plan, border: str, start: int, top: int) -> None:
    count, channels, height, width = images.shape
    rows, columns = planned.window
    pitch16 = planned.pitch16
    pitch, bordered_rows = 16 * pitch16, results.shape[2] + rows - 1
    planes = count * channels
    bordered = images.new_empty(planes * bordered_rows * pitch + _SLACK)
    tiles, strips = -(-pitch // _COPY["BLOCK"]), -(-bordered_rows // _COPY["ROWS"])
    plan_kernels.copy_with_border[(planes * tiles * strips,)](
        images,
        bordered,
        height,
        width,
        columns // 2,
        rows // 2,
        top,
        channels,
        bordered_rows,
        pitch16,
        strips,
        tiles,
        *images.stride(),
        _BORDERS.index(border),
        **_COPY,
    )
    is_bytes = images.dtype == torch.uint8
    source = bordered.view(torch.int32) if is_bytes else bordered
    where = {
        "height": results.shape[2],
        "width": width,
        "channels": channels,
        "pitch16": pitch16,
        "planes_each": planned.planes_each,
        "batch_stride": results.stride(0),
        "channel_stride": results.stride(1),
        "row_stride": results.stride(2),
        "column_stride": results.stride(3),
        "start": start,
    }
    lists = {"heads": planned.heads, "offsets": planned.offsets, "size": rows * columns}
    starts = results.data_ptr(), width, *results.stride()[:3]
    packed = int(is_bytes and results.stride(3) == 1 and not any(n % 4 for n in starts))

    def grid(tile: dict[str, Any], wide: int, block: str = "BLOCK") -> dict[str, int]:
        return {"strips": -(-results.shape[2] // tile["ROWS"]), "tiles": -(-wide // tile[block])}

    def launch(kernel: Any, tile: dict[str, Any], counts: dict[str, int], **arguments: Any) -> None:
        kernel[(planes * counts["strips"] * counts["tiles"],)](**arguments, **counts, **tile)

    wide = -(-width // 4) if is_bytes else width
    if is_bytes:
        # The wide tile takes a tenth less for each pixel, and more pixels that are not there.
        flat = min(_FLAT, key=lambda tile: -(-wide // tile["WORDS"]) * (tile["WORDS"] + 14))
        launch(
            triton_flat.flat,
            flat,
            grid(flat, wide, "WORDS"),
            words=source,
            result=results,
            rows=bordered_rows,
            packed=packed,
            **lists,
            **where,
        )
    tile = _BYTES if is_bytes else _FLOATS
    launch(
        kernels.general,
        tile,
        grid(tile, wide),
        images=source,
        result=results,
        values=planned.values,
        rows=bordered_rows,
        packed=packed,
        **lists,
        **where,
    )
    if is_bytes:
        launch(
            kernels.dense,
            _DENSE,
            grid(_DENSE, width),
            images=bordered,
            result=results,
            heads=planned.heads,
            weights=planned.weights,
            rows=bordered_rows,
            kernel_height=rows,
            kernel_width=columns,
            **where,
        )
    if not _has_two_passes(planned.window):
        return
    between = images.new_empty(planes * results.shape[2] * pitch + _SLACK, dtype=torch.float32)
    profiles = {
        "heads": planned.heads,
        "profiles": planned.profiles,
        "kernel_height": rows,
        "kernel_width": columns,
    }
    launch(
        kernels.columns,
        tile,
        grid(tile, pitch // 4 if is_bytes else pitch),
        images=source,
        between=between,
        rows=bordered_rows,
        **{name: where[name] for name in ("height", "pitch16", "planes_each", "channels", "start")},
        **profiles,
    )
    launch(
        kernels.lines,
        {**_LINES, "IS_BYTES": is_bytes},
        grid(_LINES, width),
        between=between,
        result=results,
        **where,
        **profiles,
    )
