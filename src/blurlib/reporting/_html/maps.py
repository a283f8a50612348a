"""Pictures for a page: label maps, and activations of layers."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from ..._common.inline import data_uri
from .page import Figure, markup
from .pictures import photo_cell


def segmentation_figure(rows: Sequence[Mapping[str, np.ndarray]], *, names: Sequence[str] = ()) -> Figure:
    """Images with their labels and the predictions of networks (the paper, figure 5).

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
        >>> segmentation_figure([{"sharp": black, "truth": zeros}]).alt
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
                found |= set(np.unique(array).tolist())
                array = _PALETTE[array]
            cells.append(photo_cell("rows", array, f"image {number + 1}, {name}"))
        lines.append({"name": "", "cells": cells})
    classes = legend(found, names)
    heads = [{"name": name, "words": name} for name in columns[0]]
    return Figure(
        image=markup("scenes", columns=heads, rows=lines, classes=classes),
        alt=(
            f"Images and label images: {', '.join(columns[0])}. Classes: "
            f"{', '.join(str(each['name']) for each in classes)}."
        ),
        wide=True,
    )


def labels_cell(labels: np.ndarray, alt: str) -> dict[str, Any]:
    """A small label image (H, W) for the page, with sharp edges."""
    image = PIL.Image.fromarray(labels)
    image.putpalette(_PALETTE.tobytes())
    return {"uri": data_uri(image, "PNG"), "width": image.width, "height": image.height, "alt": alt}


def legend(labels: Iterable[int], names: Sequence[str]) -> list[dict[str, str]]:
    """Name and colour of each class, without void."""
    return [
        {
            "name": names[label] if label < len(names) else str(label),
            "colour": "rgb({}, {}, {})".format(*_PALETTE[label].tolist()),
        }
        for label in sorted({*labels} - {_VOID})
    ]


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
        The figure; the mean of each map is written below it.

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
    texts = (
        f"{name}: " + ", ".join(f"{layer} {array.mean():.2f}" for layer, array in maps.items())
        for name, maps in arrays.items()
    )
    bar = _map_uri(np.linspace(0, 1, 128)[None])
    return Figure(
        image=markup("maps", columns=layers[0], rows=lines, bar=bar, top=f"{top:.2f}", ratio=f"{ratio:.3f}"),
        alt=f"{what}. {'; '.join(texts)}.",
        caption=f"{what} at each location, dark where it is 0, all on one scale; its mean below each map.",
        wide=True,
    )


# Dark to light through blue, green and yellow, about evenly in lightness: red, green, blue of each fifth.
_SHADES = ((20, 44, 36, 120, 250), (16, 76, 138, 196, 235), (60, 138, 138, 90, 90))


def _map_uri(values: np.ndarray) -> str:
    channels = [np.interp(values, np.linspace(0, 1, 5), shades) for shades in _SHADES]
    picture = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return data_uri(PIL.Image.fromarray(picture), "PNG")
