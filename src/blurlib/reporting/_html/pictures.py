"""Pictures for a page: kernels, and photographs under blurs; from plain values."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch

from ...blurs import Blur, PerImage, describe, has_short_name
from ...functional import apply
from ...notation import is_short_name, parse, parse_list
from .page import Figure, markup

_PHOTO_SIDE = 360  # longer side of a photograph in a table; sharp on a screen of double density
_LARGEST = 255  # rows and columns of a kernel that a report keeps
_FAINT = 0.1  # a kernel's tails below this share of its peak may be cut in its picture


def data_uri(image: PIL.Image.Image, kind: str) -> str:
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 86, "optimize": True} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def photo_cell(name: str, image: Any, alt: str) -> dict[str, Any]:
    """A photograph for the page: no larger than it is shown."""
    shown = PIL.Image.fromarray(_checked(name, image))
    shown.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE), PIL.Image.Resampling.LANCZOS)
    return {"uri": data_uri(shown, "JPEG"), "width": shown.width, "height": shown.height, "alt": alt}


def _checked(name: str, image: Any) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise TypeError(f"`{name}` must be uint8 arrays (H, W, 3), got {array.dtype} values")
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"`{name}` must be arrays (H, W, 3) of at least one pixel, got shape {array.shape}")
    return np.ascontiguousarray(array)


def kernels_figure(blurs: str | Blur | Iterable[str | Blur]) -> Figure:
    """Each blur's kernel as a small picture, all on one pixel scale (the paper, figure 2).

    Args:
        blurs: short names or blurs. "shake", which has a kernel only for a given image, is shown by that of
            the first image.

    Returns:
        The figure. Each kernel is white where it is strongest; faint tails of wide ones may be cut.

    Raises:
        ValueError: if a blur is unknown or there is none.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> kernels_figure("D4, H8").alt
        'Kernels of D4 and H8, each a small picture.'
    """
    return _kernels_figure([_tile(blur) for blur in parse_list(blurs)])


class _Tile(NamedTuple):
    """A blur and its kernel, float or levels from 0 to 255."""

    name: str
    words: str
    kernel: np.ndarray


def _tile(blur: Blur) -> _Tile:
    own = f"; here {blur.of_image(0)}, the first image's" if isinstance(blur, PerImage) else ""
    return _Tile(str(blur), describe(blur) + own, blur.of_image(0).kernel().detach().numpy())


def _kernels_figure(blurs: Sequence[_Tile], note: str = "") -> Figure:
    room = 2 + max(17, *(_reach(blur.kernel) for blur in blurs))  # a pixel of darkness around the widest
    tiles = [
        {
            "name": blur.name,
            "words": no_break(blur.words),
            "uri": data_uri(_kernel_picture(blur.kernel, room), "PNG"),
        }
        for blur in blurs
    ]
    cut = any(max(blur.kernel.shape) > room for blur in blurs)
    return Figure(
        image=markup("kernels", tiles=tiles, side=room * max(1, round(132 / room))),
        alt=f"Kernels of {_listed(blur.name for blur in blurs)}, each a small picture.",
        caption=(
            f"What a point of light becomes under each blur, in windows of {room} by {room} pixels. Each "
            "kernel is white where it is strongest."
            f"{' Tails fainter than a tenth of the peak are cut.' if cut else ''}{note}"
        ),
        wide=True,
    )


def kept_kernels(blurs: Iterable[Blur], *, seed: int = 0) -> dict[str, str]:
    """For a report: the kernels that no short name tells, in 256 levels, by the blur's name.

    Each is its width and its levels, row by row, as base64; of wide ones the middle is kept, and those that
    are not faint outside of it are left out.
    """
    found = {}
    for blur in blurs:
        if has_short_name(blur):
            continue
        levels = _levels(blur.of_image(0, seed=seed).kernel().detach().cpu().numpy())
        if _reach(levels) <= _LARGEST:
            top, left = (max(0, (side - _LARGEST) // 2) for side in levels.shape)
            levels = np.ascontiguousarray(levels[top : top + _LARGEST, left : left + _LARGEST])
            found[str(blur)] = f"{levels.shape[1]} {base64.b64encode(levels.tobytes()).decode('ascii')}"
    return found


def report_kernels(names: Iterable[str], settings: Mapping[str, Any]) -> tuple[Figure | None, list[str]]:
    """The kernels of a report, of short names and as it keeps them; and the names of those it does not."""
    tiles, absent = [], []
    for name in names:
        kept = settings.get("kernel_pictures", {}).get(name)
        if is_short_name(name):
            tiles.append(_tile(parse(name)))
        elif kept is None:
            absent.append(name)
        else:
            width, levels = kept.split()
            kernel = np.frombuffer(base64.b64decode(levels), np.uint8).reshape(-1, int(width))
            size = settings.get("kernels", {}).get(name, "").split(",")[0]
            tiles.append(_Tile(name, f"own kernel, {size}" if size else name, kernel))
    note = " Of an own blur that changes from image to image, the first image's is shown."
    own = any(not is_short_name(tile.name) for tile in tiles)
    return _kernels_figure(tiles, note if own else "") if tiles else None, absent


def no_break(text: str) -> str:
    """The text with each number of pixels and its unit on one line."""
    return text.replace(" px", "\u00a0px")


def _reach(kernel: np.ndarray) -> int:
    """Odd side of the centred window outside of which a kernel is faint."""
    rows, columns = np.nonzero(kernel >= _FAINT * kernel.max())
    height, width = kernel.shape
    away = max(np.abs(rows - height // 2).max(), np.abs(columns - width // 2).max())
    return 2 * int(away) + 1


def _levels(kernel: np.ndarray) -> np.ndarray:
    levels: np.ndarray = np.rint(kernel / kernel.max() * 255)
    return levels.clip(0).astype(np.uint8)  # an own kernel may be negative


def _kernel_picture(kernel: np.ndarray, room: int) -> PIL.Image.Image:
    levels = _levels(kernel)
    levels = np.pad(levels, [(max(0, (room - side) // 2),) * 2 for side in levels.shape])
    top, left = ((side - room) // 2 for side in levels.shape)
    return PIL.Image.fromarray(levels[top : top + room, left : left + room])


def blurred_figure(
    images: Sequence[np.ndarray],
    blurs: str | Blur | Iterable[str | Blur],
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """Photographs under each blur: a row a photograph, a column a blur.

    Args:
        images: (H, W, 3) uint8 arrays, blurred in their own pixels and then shown small.
        blurs: short names or blurs; "shake" gives each photograph a kernel of its own.
        names: of the photographs.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no image, one is not (H, W, 3), the names are not as many, or a blur is
            unknown.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> blurred_figure([np.zeros((24, 32, 3), np.uint8)], "sharp, D4", names=["black"]).alt
        'Photographs (black) under sharp and D4.'
    """
    values = parse_list(blurs)
    if not len(images):
        raise ValueError("`images` must hold at least one photograph, got none")
    if names is not None and len(names) != len(images):
        raise ValueError(f"`names` must name each of the {len(images)} images, got {len(names)}")
    rows = []
    for number, image in enumerate(images):
        pixels = torch.from_numpy(_checked("images", image).copy()).permute(2, 0, 1)
        name = f"photograph {number + 1}" if names is None else names[number]
        cells = []
        for blur in values:
            own = blur.of_image(number)
            blurred = apply(pixels, own).permute(1, 2, 0).numpy()
            cells.append(photo_cell("images", blurred, f"{name}, {describe(own)}"))
        rows.append({"name": "" if names is None else name, "cells": cells})
    columns = [{"name": str(blur), "words": no_break(describe(blur))} for blur in values]
    sizes = sorted({f"{image.shape[1]} by {image.shape[0]}" for image in images})
    return Figure(
        image=markup("photographs", columns=columns, rows=rows, named=names is not None),
        alt=f"Photographs{f' ({_listed(names)})' if names else ''} under {_listed(map(str, values))}.",
        caption=f"The same photographs under each blur; lengths are in pixels of {_listed(sizes)} images.",
        wide=True,
    )


def _listed(names: Iterable[str]) -> str:
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last
