"""Which cells a table of the paper has in a setting of one's own, and what each is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..metrics import TOP_K
from ..notation import parse
from . import _published
from ._published import Cell, Training
from ._settings import ClassificationSettings, ReproductionSettings, SegmentationSettings

ITEMS = (*ClassificationSettings.items, *SegmentationSettings.items)
"""The tables that can be measured."""

Condition = tuple[tuple[int, ...], str]
"""The paper's network sides, and the short name of a blur."""

_CONTROLLED = ("table3", "table5", "table6")
_CONTROL = "Sharp only (control)"
_METHODS = {"wiener": "Wiener", "richardson_lucy": "Richardson-Lucy", "epll": "EPLL"}


def settings_of(item: str, settings: ReproductionSettings | None) -> ReproductionSettings:
    """The settings of a table: those given, which must be of its task, or the paper's."""
    if item not in ITEMS:
        raise ValueError(f"`item` must be one of {', '.join(ITEMS)}, got {item!r}")
    kinds = (ClassificationSettings, SegmentationSettings)
    kind = next(kind for kind in kinds if item in kind.items)
    if settings is not None and not isinstance(settings, kind):
        raise ValueError(
            f"`item` must be one of {', '.join(settings.items)} for {type(settings).__name__}, got {item!r}; "
            f"it is measured with {kind.__name__}"
        )
    return settings or kind()


def cells(item: str, settings: ReproductionSettings) -> list[tuple[Cell, float | None]]:
    """The cells of a table and what the paper found; with a control and deblurrings that it does not have."""
    settings_of(item, settings)
    found: list[tuple[Cell, float | None]] = [(cell, cell.value) for cell in _published.TABLES[item].cells]
    if item in _CONTROLLED and settings.control:
        tuned = next(cell.training for cell, _ in found if cell.training.mix)
        for cell in [cell for cell, _ in found if cell.training == Training()]:
            column = cell.column.replace("Original", _CONTROL)
            found.append((replace(cell, column=column, training=replace(tuned, mix="sharp")), None))
    if not isinstance(settings, ClassificationSettings):
        return found
    return [every for pair in found for every in _deblurred(*pair, settings)]


def _deblurred(
    cell: Cell, published: float | None, settings: ClassificationSettings
) -> list[tuple[Cell, float | None]]:
    """A cell with deblurring once for each of the methods asked for; others as they are."""
    if not cell.training.deblurring:
        return [(cell, published)]
    theirs, true = cell.training.deblurring.split(":")
    found: list[tuple[Cell, float | None]] = []
    for entry in settings.deblur:
        method, _, assumed = entry.partition(":")
        assumed = str(parse(assumed or true))
        training = replace(cell.training, deblurring=f"{method}:{assumed}")
        wrong = "" if assumed == true else f", assumed {assumed}"
        column = f"{cell.column} ({_METHODS.get(method, method)}{wrong})"
        same = method == theirs and not wrong
        found.append((replace(cell, column=column, training=training), published if same else None))
    return found


def telling(cell: Cell, published: float | None, classes: int) -> tuple[Cell, float | None]:
    """A cell that says something about a network of so many classes: top-1 where top-5 is always right.

    The paper's top-5, of 1000 classes, is left out then: it is no measure for that.
    """
    if cell.metric != "top5" or classes > TOP_K:
        return cell, published
    return replace(cell, metric="top1", row=cell.row.replace("Top-5", "Top-1")), None


def members(training: Training) -> list[Training]:
    """The fine-tunings that a network consists of."""
    if training.mix is None:
        return []
    if not training.per_scale:
        return [training]
    return [replace(training, sides=(side,), per_scale=False) for side in training.sides]


def baseline_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """What a cell is compared with, in the same condition.

    The original network after deblurring with itself; a fine-tuned network with the control, or with the
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
    conditions: Sequence[Condition],
) -> list[tuple[tuple[str, ...], list[tuple[int, ...]]]]:
    """Blurs with the scales that need just them: one evaluation each, in which an image is decoded once."""
    blurs: dict[tuple[int, ...], list[str]] = {}
    for sides, blur in conditions:
        blurs.setdefault(sides, []).append(blur)
    scales: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for sides, names in blurs.items():
        scales.setdefault(tuple(names), []).append(sides)
    return list(scales.items())
