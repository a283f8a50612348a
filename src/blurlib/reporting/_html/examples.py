"""Photographs that a report keeps, under each blur and with what the network made of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from ..._common.inline import data_uri
from ..._common.pictures import open_image
from ...blurs import describe
from ...notation import is_short_name, parse
from .maps import labels_cell, legend
from .page import Figure, markup, switch
from .pictures import no_break, photo_cell
from .predictions import Prediction, predictions_figure

if TYPE_CHECKING:
    from .._report import Report

_SIDE = 288  # longer side of a picture that is kept


def kept_example(
    name: str, truth: str | np.ndarray, pictures: Mapping[str, np.ndarray], found: Mapping[str, Any]
) -> dict[str, Any]:
    """An image for a report, as plain values.

    Args:
        name: of the image.
        truth: its class, or label image (H, W).
        pictures: (h, w, 3) uint8 by the blur's name, as the network saw the image.
        found: by the blur's name the most probable classes with their probabilities, or a label image.
    """
    return {
        "name": name,
        "truth": truth if isinstance(truth, str) else _labels_uri(truth),
        "pictures": {blur: _uri(picture, "JPEG") for blur, picture in pictures.items()},
        "found": {
            blur: _labels_uri(each) if isinstance(each, np.ndarray) else [[str(n), float(p)] for n, p in each]
            for blur, each in found.items()
        },
    }


def _labels_uri(labels: np.ndarray) -> str:
    return _uri(labels.astype(np.uint8), "PNG")


def _uri(array: np.ndarray, kind: str) -> str:
    image = PIL.Image.fromarray(array)
    filtered = PIL.Image.Resampling.NEAREST if array.ndim == 2 else PIL.Image.Resampling.LANCZOS
    image.thumbnail((_SIDE, _SIDE), filtered)
    return data_uri(image, kind)


def _decoded(uri: str) -> np.ndarray:
    """The picture of a report's file: decoded, so that nothing else comes onto the page."""
    with open_image(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def examples_figures(report: Report, before: Report | None) -> list[Figure]:
    """The kept images under each blur, which is chosen on the page; with the predictions before and after.

    Args:
        report: of the fine-tuned network where there are two.
        before: of the original network; what it kept of the same images is shown too.
    """
    others = {each["name"]: each for each in (before.settings.get("examples") or () if before else ())}
    kept: Sequence[Mapping[str, Any]] = report.settings.get("examples") or ()
    if not kept:
        return []
    if report.task == "segmentation":
        return [_scenes(each, others.get(each["name"]), report) for each in kept]
    examples = []
    for each in kept:
        other = others.get(each["name"])
        for blur, uri in each["pictures"].items():
            own, first = each["found"][blur], other and other["found"].get(blur)
            pair = {"before": first, "after": own} if first else {"before": own}
            named = {role: [(name, p) for name, p in found] for role, found in pair.items()}
            examples.append(
                Prediction(image=_decoded(uri), title=blur, truth=each["truth"], name=each["name"], **named)
            )
    return [predictions_figure(examples)]


def _scenes(each: Mapping[str, Any], other: Mapping[str, Any] | None, report: Report) -> Figure:
    """An image with its labels and the predicted ones."""
    truth = _decoded(each["truth"])
    present = set(np.unique(truth).tolist())
    panels = {}
    for blur, uri in each["pictures"].items():
        maps = {"labels": truth}
        if other is not None and blur in other["found"]:
            maps["before"] = _decoded(other["found"][blur])
        maps["after" if "before" in maps else "predicted"] = _decoded(each["found"][blur])
        present |= {label for labels in maps.values() for label in np.unique(labels).tolist()}
        alt = f"{each['name']}, {blur}"
        photos = [photo_cell("examples", _decoded(uri), alt) | {"name": blur}]
        photos += [labels_cell(labels, f"{alt}: {role}") | {"name": role} for role, labels in maps.items()]
        words = no_break(describe(parse(blur))) if is_short_name(blur) else blur
        panels[blur] = markup("under", words=words, photos=photos, named=True)
    classes = legend(present, report.settings.get("class_names") or ())
    return Figure(
        image=switch("Blur", panels, chosen=len(panels) // 2) + markup("class_legend", classes=classes),
        alt=f"{each['name']} with its labels and the predicted ones, under {', '.join(panels)}.",
        caption=f"`{each['name']}` as the network saw it, its labels, and the predicted ones.",
        wide=True,
    )
