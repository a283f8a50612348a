"""Which cells a table of the paper has in a setting of one's own, and what each is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..notation import parse
from . import _published
from ._published import Cell, Training
from ._settings import USUAL_SIDE, ReproductionSettings

ITEMS = ("table1", "table2", "table3", "table4", "table5", "tableA")
"""What can be measured on a folder of labelled photographs."""

_CONTROLLED = ("table3", "table5")
_CONTROL = "Sharp only (control)"
_METHODS = {"wiener": "Wiener", "richardson_lucy": "Richardson-Lucy", "epll": "EPLL"}


def cells(item: str, settings: ReproductionSettings) -> list[tuple[Cell, float | None]]:
    """The cells of a table and what the paper found; with a control and deblurrings that it does not have."""
    check_item(item)
    found: list[tuple[Cell, float | None]] = [(cell, cell.value) for cell in _published.TABLES[item].cells]
    if item in _CONTROLLED and settings.control:
        network = Training(mix="sharp", sides=(USUAL_SIDE,))
        for cell in [cell for cell, _ in found if cell.training == Training()]:
            column = cell.column.replace("Original", _CONTROL)
            found.append((replace(cell, column=column, training=network), None))
    return [every for pair in found for every in _deblurred(*pair, settings)]


def _deblurred(
    cell: Cell, published: float | None, settings: ReproductionSettings
) -> list[tuple[Cell, float | None]]:
    """A cell behind a deblurring once for each of the methods asked for; others as they are."""
    if not cell.training.deblurring:
        return [(cell, published)]
    theirs, true = cell.training.deblurring.split(":")
    found: list[tuple[Cell, float | None]] = []
    for entry in settings.deblur:
        method, _, told = entry.partition(":")
        told = str(parse(told or true))
        training = replace(cell.training, deblurring=f"{method}:{told}")
        wrong = "" if told == true else f", told {told}"
        column = f"{cell.column} ({_METHODS.get(method, method)}{wrong})"
        same = method == theirs and not wrong
        found.append((replace(cell, column=column, training=training), published if same else None))
    return found


def check_item(item: str) -> None:
    if item not in ITEMS:
        raise ValueError(f"`item` must be one of {', '.join(ITEMS)}, got {item!r}")


def members(training: Training) -> list[Training]:
    """The fine-tunings that a network consists of."""
    if training.mix is None:
        return []
    if not training.per_scale:
        return [training]
    return [replace(training, sides=(side,), per_scale=False) for side in training.sides]


def baseline_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """What a cell is compared with, in the same condition.

    The original network behind a deblurring with itself; a fine-tuned network with the control, or with the
    original where there is no control.
    """
    if not cell.training.deblurring and cell.training.mix in (None, "sharp"):
        return None
    bases = (None,) if cell.training.mix is None else (None, "sharp")
    same = [
        other
        for other in cells
        if not other.training.deblurring
        and other.training.mix in bases
        and (other.sides, other.blur, other.metric) == (cell.sides, cell.blur, cell.metric)
    ]
    return max(same, key=lambda other: other.training.mix is not None, default=None)


def group_by_scale(
    conditions: Sequence[tuple[tuple[int, ...], str]],
) -> list[tuple[tuple[str, ...], list[tuple[int, ...]]]]:
    """Blurs with the scales that need just them: one evaluation each, in which an image is decoded once."""
    blurs: dict[tuple[int, ...], list[str]] = {}
    for sides, blur in conditions:
        blurs.setdefault(sides, []).append(blur)
    scales: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for sides, names in blurs.items():
        scales.setdefault(tuple(names), []).append(sides)
    return list(scales.items())
