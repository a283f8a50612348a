"""Pictures for a page: kernels, photographs under blurs, predictions; from plain values."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch

from .blurs import Blur, OwnShake, describe, own_shake, parse_list
from .page import Figure, markup
from .transforms import apply

__all__ = [
    "Prediction",
    "blurred_figure",
    "kernels_figure",
    "predictions_figure",
]

_PHOTO_SIDE = 360  # longer side of a photograph in a table; sharp on a screen of double density
_FAINT = 0.1  # a kernel's tails below this share of its peak may be cut in its picture


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What two networks said of one image.

    Attributes:
        image: (H, W, 3) uint8, as the networks saw it.
        title: what was done to it, such as "sharp" or "D8".
        truth: name of its class.
        before: the most probable classes and their probabilities, the most probable first.
        after: likewise, of the fine-tuned network; empty if there is none.

    Example:
        >>> Prediction(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...            before=[("dog", 0.6), ("cat", 0.4)], after=[("cat", 0.9), ("dog", 0.1)]).truth
        'cat'
    """

    image: np.ndarray
    title: str
    truth: str
    before: Sequence[tuple[str, float]]
    after: Sequence[tuple[str, float]] = ()


def _data_uri(image: PIL.Image.Image, kind: str) -> str:
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 86, "optimize": True} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _photo(name: str, image: Any, side: int = _PHOTO_SIDE) -> dict[str, Any]:
    """A photograph for the page: no larger than it is shown."""
    shown = PIL.Image.fromarray(_checked(name, image))
    shown.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return {"uri": _data_uri(shown, "JPEG"), "width": shown.width, "height": shown.height}


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
    values = parse_list(blurs)
    kernels = [(own_shake(0) if isinstance(blur, OwnShake) else blur).kernel().numpy() for blur in values]
    room = 2 + max(17, *(_reach(kernel) for kernel in kernels))  # a pixel of darkness around the widest
    tiles = [
        {
            "name": str(blur),
            "words": _words(blur)
            + (f"; here {own_shake(0)}, the first image's" if isinstance(blur, OwnShake) else ""),
            "uri": _data_uri(_kernel_picture(kernel, room), "PNG"),
        }
        for blur, kernel in zip(values, kernels, strict=True)
    ]
    cut = any(max(kernel.shape) > room for kernel in kernels)
    return Figure(
        image=markup("kernels", tiles=tiles, side=room * max(1, round(132 / room))),
        alt=f"Kernels of {_listed(map(str, values))}, each a small picture.",
        caption=(
            f"What a point of light becomes under each blur, in windows of {room} by {room} pixels. Each "
            "kernel is white where it is strongest."
            f"{' Tails fainter than a tenth of the peak are cut.' if cut else ''}"
        ),
        wide=True,
    )


def _words(blur: Blur) -> str:
    """The blur in words, a number and its unit on one line."""
    return describe(blur).replace(" px", "\u00a0px")


def _reach(kernel: np.ndarray) -> int:
    """Odd side of the centred window outside of which a kernel is faint."""
    rows, columns = np.nonzero(kernel >= _FAINT * kernel.max())
    height, width = kernel.shape
    away = max(np.abs(rows - height // 2).max(), np.abs(columns - width // 2).max())
    return 2 * int(away) + 1


def _kernel_picture(kernel: np.ndarray, room: int) -> PIL.Image.Image:
    levels = np.rint(kernel / kernel.max() * 255).astype(np.uint8)
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
            own = own_shake(number) if isinstance(blur, OwnShake) else blur
            cells.append(
                {
                    **_photo("images", apply(pixels, own).permute(1, 2, 0).numpy()),
                    "alt": f"{name}, {describe(own)}",
                }
            )
        rows.append({"name": "" if names is None else name, "cells": cells})
    columns = [{"name": str(blur), "words": _words(blur)} for blur in values]
    sizes = sorted({f"{image.shape[1]} by {image.shape[0]}" for image in images})
    return Figure(
        image=markup("photographs", columns=columns, rows=rows, named=names is not None),
        alt=f"Photographs{f' ({_listed(names)})' if names else ''} under {_listed(map(str, values))}.",
        caption=f"The same photographs under each blur; lengths are in pixels of {_listed(sizes)} images.",
        wide=True,
    )


def predictions_figure(examples: Sequence[Prediction]) -> Figure:
    """Images with the classes that each network finds most probable (the paper, figure 1).

    Args:
        examples: one a row; the true class is marked by a sign, its weight and its colour.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no example, a probability is not in [0, 1], or an image is not (H, W, 3).
        ImportError: if the extra `report` is not installed.

    Example:
        >>> example = Prediction(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...                      before=[("dog", 0.6), ("cat", 0.4)], after=[("cat", 0.9), ("dog", 0.1)])
        >>> predictions_figure([example]).alt
        'cat, D8: before dog (60.0 %), after cat (90.0 %).'
    """
    if not len(examples):
        raise ValueError("`examples` must hold at least one prediction, got none")
    rows: list[dict[str, Any]] = [
        {
            "title": example.title.replace(" px", "\u00a0px"),
            "truth": example.truth,
            "photo": {**_photo("image", example.image), "alt": f"{example.truth}, {example.title}"},
            "sides": _sides(example),
        }
        for example in examples
    ]
    return Figure(
        image=markup("predictions", rows=rows),
        alt="; ".join(_told(example) for example in examples) + ".",
        caption="The classes that each network finds most probable; ✓ marks the true one.",
        wide=True,
    )


def _told(example: Prediction) -> str:
    first = [("before ", example.before[0]), *(("after ", pair) for pair in example.after[:1])]
    said = ", ".join(f"{role if len(first) > 1 else ''}{name} ({_percent(p)})" for role, (name, p) in first)
    return f"{example.truth}, {example.title}: {said}"


def _sides(example: Prediction) -> list[dict[str, Any]]:
    if not len(example.after):
        return [_side("before", "Prediction", example.before, example.truth)]
    return [
        _side("before", "Before fine-tuning", example.before, example.truth),
        _side("after", "After fine-tuning", example.after, example.truth),
    ]


def _side(role: str, title: str, classes: Sequence[tuple[str, float]], truth: str) -> dict[str, Any]:
    wrong = [p for _, p in classes if not 0 <= p <= 1]
    if wrong or not len(classes):
        raise ValueError(
            f"`{role}` must hold classes with probabilities from 0 to 1, got {wrong[0] if wrong else 'none'}"
        )
    bars = [
        {"name": name, "share": f"{100 * p:.2f}", "text": _percent(p), "true": name == truth}
        for name, p in classes
    ]
    return {
        "role": role,
        "title": title,
        "bars": bars,
        "right": bars[0]["true"],
        "known": any(bar["true"] for bar in bars),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(names: Iterable[str]) -> str:
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last
