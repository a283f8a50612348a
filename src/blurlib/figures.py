"""Pictures for a page: kernels, photographs under blurs, predictions; from plain values."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch

from .blurs import Blur, OwnShake, describe, own_shake, parse_list
from .page import Figure, markup
from .transforms import apply

__all__ = [
    "Judged",
    "Prediction",
    "blurred_figure",
    "judged_figure",
    "kernels_figure",
    "maps_figure",
    "predictions_figure",
    "scenes_figure",
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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An image, and which networks recognised it.

    Attributes:
        image: (H, W, 3) uint8.
        title: what was done to it, such as "D8".
        truth: name of its class.
        right: for each network, by its name, whether it was right.

    Example:
        >>> black = np.zeros((2, 2, 3), np.uint8)
        >>> Judged(image=black, title="D8", truth="cat", right={"original": False}).truth
        'cat'
    """

    image: np.ndarray
    title: str
    truth: str
    right: Mapping[str, bool]


def judged_figure(examples: Sequence[Judged]) -> Figure:
    """Images with the networks that recognised them and those that did not (the paper, figure 3).

    Args:
        examples: a tile each; all of the same networks, at most three.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no example, their networks differ, or an image is not (H, W, 3).
        ImportError: if the extra `report` is not installed.

    Example:
        >>> example = Judged(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...                  right={"original": False, "fine-tuned": True})
        >>> judged_figure([example]).alt
        'cat, D8: original wrong, fine-tuned right.'
    """
    if not len(examples):
        raise ValueError("`examples` must hold at least one image, got none")
    names = tuple(examples[0].right)
    if not 1 <= len(names) <= len(_ROLES) or any(tuple(example.right) != names for example in examples):
        raise ValueError(
            f"`examples` must be judged by the same networks, one to {len(_ROLES)}, got {names} and others"
        )
    tiles: list[dict[str, Any]] = [
        {
            "title": example.title,
            "truth": example.truth,
            "photo": {**_photo("image", example.image), "alt": f"{example.truth}, {example.title}"},
            "marks": [
                {"name": name, "role": role, "right": example.right[name]}
                for name, role in zip(names, _ROLES, strict=False)
            ],
        }
        for example in examples
    ]
    told = (
        f"{example.truth}, {example.title}: "
        + ", ".join(f"{name} {'right' if right else 'wrong'}" for name, right in example.right.items())
        for example in examples
    )
    return Figure(
        image=markup("judged", tiles=tiles),
        alt="; ".join(told) + ".",
        caption="✓: the true class is among the five that the network finds most probable; ✗: it is not.",
        wide=True,
    )


_ROLES = ("before", "after", "control")


def scenes_figure(rows: Sequence[Mapping[str, np.ndarray]], *, names: Sequence[str] = ()) -> Figure:
    """Images beside their labels and what networks made of them (the paper, figure 5).

    Args:
        rows: for each image, by what it is ("sharp", "truth", "before", ...), pictures (H, W, 3) uint8 and
            label images (H, W) of whole numbers; the same columns in every row. 255 is void, shown white.
        names: of the classes.

    Returns:
        The figure, with a legend of the classes that occur.

    Raises:
        TypeError: if a picture is not uint8.
        ValueError: if there is no row, or their columns differ.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> black, zeros = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
        >>> scenes_figure([{"sharp": black, "truth": zeros}]).alt
        'Images and label images: sharp, truth. Classes: 0.'
    """
    columns = [tuple(row) for row in rows]
    if not columns or any(names_of != columns[0] for names_of in columns):
        raise ValueError(f"`rows` must hold images with the same columns, got {columns}")
    found: set[int] = set()
    lines = []
    for number, row in enumerate(rows):
        cells = []
        for name, image in row.items():
            array = np.asarray(image)
            if array.ndim == 2:
                found |= set(np.unique(array).tolist()) - {_VOID}
                array = _PALETTE[array]
            cells.append({**_photo("rows", array), "alt": f"image {number + 1}, {name}"})
        lines.append({"name": "", "cells": cells})
    classes = [
        {
            "name": names[label] if label < len(names) else str(label),
            "colour": "rgb({}, {}, {})".format(*_PALETTE[label].tolist()),
        }
        for label in sorted(found)
    ]
    heads = [{"name": name, "words": name} for name in columns[0]]
    return Figure(
        image=markup("scenes", columns=heads, rows=lines, classes=classes),
        alt=(
            f"Images and label images: {', '.join(columns[0])}. Classes: "
            f"{', '.join(str(each['name']) for each in classes)}."
        ),
        wide=True,
    )


_VOID = 255


def _palette() -> np.ndarray:
    """A colour for each label, far from those before it: hues a golden angle apart, in three lightnesses."""
    colours = [
        colorsys.hls_to_rgb((0.58 + 0.381966 * label) % 1, (0.45, 0.62, 0.33)[label % 3], 0.55)
        for label in range(256)
    ]
    palette: np.ndarray = np.rint(255 * np.array(colours)).astype(np.uint8)
    palette[_VOID] = 255
    return palette


_PALETTE = _palette()


def maps_figure(rows: Mapping[str, Mapping[str, np.ndarray]], *, what: str = "Hamming distance") -> Figure:
    """Maps of a distance at every location, a row a network, a column a layer (the paper, figure 4).

    Args:
        rows: for each network, by its name, the maps of its layers: (h, w) values from 0 to 1, of any size,
            all drawn in one size and on one scale.
        what: is drawn.

    Returns:
        The figure; below each map stands its mean.

    Raises:
        ValueError: if there is no map, the layers differ, or a value is not from 0 to 1.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> maps_figure({"original": {"pool5": np.full((7, 7), 0.25)}}).alt
        'Hamming distance. original: pool5 0.25.'
    """
    layers = [tuple(maps) for maps in rows.values()]
    if not layers or not layers[0] or any(names != layers[0] for names in layers):
        raise ValueError(f"`rows` must hold maps of the same layers for each network, got {layers}")
    arrays = {name: {layer: np.asarray(values, np.float64) for layer, values in maps.items()}
              for name, maps in rows.items()}  # fmt: skip
    every = [array for maps in arrays.values() for array in maps.values()]
    if any(array.ndim != 2 or not array.size or not ((array >= 0) & (array <= 1)).all() for array in every):
        raise ValueError("`rows` must hold maps (h, w) of values from 0 to 1")
    top = max(float(array.max()) for array in every) or 1.0
    ratio = every[0].shape[1] / every[0].shape[0]
    lines = [
        {
            "name": name,
            "cells": [
                {"uri": _map_uri(array / top), "alt": f"{name}, {layer}", "mean": f"{array.mean():.2f}"}
                for layer, array in maps.items()
            ],
        }
        for name, maps in arrays.items()
    ]
    told = (
        f"{name}: " + ", ".join(f"{layer} {array.mean():.2f}" for layer, array in maps.items())
        for name, maps in arrays.items()
    )
    bar = _map_uri(np.linspace(0, 1, 128)[None])
    return Figure(
        image=markup("maps", columns=layers[0], rows=lines, bar=bar, top=f"{top:.2f}", ratio=f"{ratio:.3f}"),
        alt=f"{what}. {'; '.join(told)}.",
        caption=f"{what} at each location, dark where it is 0, all on one scale; its mean below each map.",
        wide=True,
    )


# Dark to light through blue, green and yellow, about evenly in lightness: red, green, blue of each fifth.
_SHADES = ((20, 44, 36, 120, 250), (16, 76, 138, 196, 235), (60, 138, 138, 90, 90))


def _map_uri(values: np.ndarray) -> str:
    channels = [np.interp(values, np.linspace(0, 1, 5), shades) for shades in _SHADES]
    picture = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return _data_uri(PIL.Image.fromarray(picture), "PNG")


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
