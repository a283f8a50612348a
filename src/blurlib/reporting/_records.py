"""What one evaluation measured under one condition: a record each, for every task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .. import blurs, notation
from ..metrics import Metric, Statistics
from ._text import sides_text

if TYPE_CHECKING:
    from ._report import Report

# What two evaluations must agree on before a difference between them is the networks' own.
_PROTOCOL = (
    "canonical_side", "crop", "crops", "average", "network_sides", "network_size", "resample", "border",
    "band", "boundary_ratio", "copies",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """The metrics of one evaluation under one condition: a blur at a scale setting.

    Each value is an attribute too: `record.top1`, `record.miou`.

    Attributes:
        task: "classification" or "segmentation".
        blur: short name, such as "D8".
        sides: network sides that were averaged, such as (256,) or (256, 512); or the height and width that
            every image was brought to.
        values: the metrics of the task by name, fractions or nats, None where not defined; for segmentation
            also `class_iou`, the IoU of each class, and `band_share`, the share of the labelled pixels near a
            class boundary.
        count: number of images measured.
        skipped: number of images left out because they could not be read.
        images: the statistics of each image; None in a report that was loaded without its .npz file.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="D8", sides=(256,))
        >>> record.top1, record.count
        (0.5, 2)
    """

    task: str
    blur: str
    sides: tuple[int, ...]
    values: Mapping[str, Any] = field(hash=False)
    count: int
    skipped: int = 0
    images: Statistics | None = field(default=None, repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        return value_of(self, "values", name)

    @classmethod
    def of(cls, images: Statistics, *, blur: str, sides: tuple[int, ...], skipped: int = 0) -> Record:
        """The record of at least one image.

        Args:
            images: statistics of N >= 1 images.
            blur: short name of the blur.
            sides: network sides.
            skipped: how many more images could not be read.

        Returns:
            The record.

        Raises:
            ValueError: if there is no image, or nothing labelled in any.

        Example:
            >>> import torch
            >>> from blurlib.metrics import image_values
            >>> Record.of(image_values(torch.zeros(1, 2), [0]), blur="sharp", sides=(64,)).ece
            0.5
        """
        if not len(images):
            raise ValueError(
                f"`images` must hold at least one image, got none under {blur} ({skipped} could not be read)"
            )
        return cls(
            task=images.task,
            blur=blur,
            sides=tuple(sides),
            values=images.compute(),
            count=len(images),
            skipped=skipped,
            images=images,
        )


def value_of(holder: Any, field_name: str, name: str) -> Any:
    """One of the values that a record or row holds by name, as an attribute."""
    if not name.startswith("_") and name != field_name:  # absent while a copy is being made
        values = getattr(holder, field_name)
        if name in values:
            return values[name]
    raise AttributeError(f"{type(holder).__name__!r} object has no attribute {name!r}")


class _Condition(Protocol):
    @property
    def blur(self) -> str: ...

    @property
    def sides(self) -> tuple[int, ...]: ...


_Row = TypeVar("_Row", bound=_Condition)


def find(rows: Sequence[_Row], key: str | blurs.Blur | tuple[str | blurs.Blur, int | Sequence[int]]) -> _Row:
    """Find the row of a condition.

    Args:
        rows: with `blur` and `sides`.
        key: a blur, its short name, or what one of your own is called; with the side, or the sides that were
            averaged, if there are several settings.

    Returns:
        The row.

    Raises:
        KeyError: if there is none.
        ValueError: if the blur is unknown, or was measured at several scale settings and `key` names none.

    Example:
        >>> import torch
        >>> from blurlib.metrics import image_values
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="D8", sides=(256,))
        >>> find([record], "D8") is find([record], ("D8", 256))
        True
    """
    blur, side = key if isinstance(key, tuple) else (key, None)
    name = blur if blur in {row.blur for row in rows} else str(notation.parse(blur))
    sides = None if side is None else (side,) if isinstance(side, int) else tuple(side)
    matches = [row for row in rows if row.blur == name and sides in (None, row.sides)]
    if not matches:
        known = ", ".join(f"{row.blur} at {sides_text(row.sides)}" for row in rows)
        raise KeyError(f"no condition {name}{f' at {sides_text(sides)}' if sides else ''}; there are {known}")
    if len(matches) > 1:
        raise ValueError(
            f"`key` must name the scale too, got {name!r}; it was measured at "
            f"{', '.join(sides_text(row.sides) for row in matches)}: ask for [{name!r}, {matches[0].sides}]"
        )
    return matches[0]


def shown_metrics(kind: type[Statistics], settings: Mapping[str, Any]) -> tuple[Metric, ...]:
    """The metrics of a task that say something about a network of so many classes, if that is known."""
    classes = settings.get("classes")
    return tuple(each for each in kind.metrics if not each.among or classes is None or each.among < classes)


def classes_text(settings: Mapping[str, Any]) -> str:
    """Under a class map, "200 of the network's 1000 classes"; else empty."""
    chosen, known = settings.get("class_map"), settings.get("network_outputs", "")
    return f"{len(chosen)} of the network's {known} classes".replace("  ", " ") if chosen else ""


def copies_text(settings: Mapping[str, Any]) -> str:
    """Of copies that `corrupt` made, "blurred by blurlib corrupt: D4, JPEG quality 95"; else empty."""
    copies = settings.get("copies")
    if not copies:
        return ""
    verb = "copied" if copies["blur"] == "sharp" else "blurred"
    skipped, size = copies["skipped"], "original size" if copies["size"] == "original" else ""
    missing = f"{skipped} of the source could not be read" if skipped else ""
    seed = f"seed {copies['seed']}" if notation.differs_by_image(copies["blur"]) and copies["seed"] else ""
    parts = (f"{verb} by blurlib corrupt: {copies['blur']}", seed, copies["encoding"], size, missing)
    return ", ".join(part for part in parts if part)


def left_out_text(kind: type[Statistics], settings: Mapping[str, Any]) -> str:
    """What tables leave out and why, for captions; empty where they leave out nothing."""
    shown = shown_metrics(kind, settings)
    names = " and ".join(each.title for each in kind.metrics if each not in shown)
    return f"{names} left out, 100 % by definition with {settings['classes']} classes" if names else ""


def notes_text(kind: type[Statistics], settings: Mapping[str, Any]) -> str:
    """Both of these, for one line."""
    return "; ".join(filter(None, (classes_text(settings), left_out_text(kind, settings))))


def condition_cells(rows: Sequence[_Condition], kind: type[Statistics]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the columns that name the condition: the scale only where there are several."""
    if len({row.sides for row in rows}) == 1:
        return ["blur"], [[row.blur] for row in rows]
    return ["blur", "scale"], [[row.blur, sides_text(row.sides, kind.between_sides)] for row in rows]


def condition_labels(rows: Sequence[_Condition], kind: type[Statistics]) -> list[str]:
    """Names of the conditions, such as "D8", or "D8 at 256" where there are several scales."""
    return [" at ".join(cells) for cells in condition_cells(rows, kind)[1]]


def check_same_images(reports: Sequence[Sequence[Record]]) -> None:
    """Refuse records of different images: a paired comparison would pair strangers."""
    every = [record.images for records in reports for record in records]
    first = every[0]
    if first is None or any(images is None for images in every):
        raise ValueError(
            "`other` and this report must hold the statistics of each image, got one without; "
            "load it with its .npz file beside the JSON"
        )
    for images in every:
        assert images is not None  # checked above; said for the type checker
        if images is first:
            continue
        if not np.array_equal(images.ids, first.ids):
            different = len(np.setxor1d(images.ids, first.ids))
            what = f"{different} images are in only one of them" if different else "their order differs"
            raise ValueError(
                "`other` must be of the same images as this report, "
                f"got {len(first)} and {len(images)} images of which {what}; "
                "evaluate both on the same root with the same `limit` and `seed`"
            )
        for name in first.shared:
            count = int((getattr(images, name) != getattr(first, name)).sum())
            if count:
                raise ValueError(
                    f"`other` must have the same `{name}` of each image as this report, got {count} images "
                    "that differ; evaluate both with the same classes in the same order"
                )


def check_same_settings(role: str, first: Report, other: Report) -> None:
    """Refuse reports whose difference would not be the networks' alone."""
    if other.task != first.task:
        raise ValueError(f"`{role}` must be of the task of the others, got {first.task} and {other.task}")
    own = any(map(notation.differs_by_image, {*first.blurs} & {*other.blurs}))
    names = [*_PROTOCOL, *(["seed"] if own else [])]  # it decides which kernel blurs which image
    ours, theirs = ({**each.settings, "copies": copies_text(each.settings)} for each in (first, other))
    different = [
        f"`{name}` {ours.get(name)!r} and {theirs.get(name)!r}"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]
    kernels, others = (each.settings.get("kernels", {}) for each in (first, other))
    different += [
        f"kernel {name!r} of {known} and {others[name]}"
        for name, known in kernels.items()
        if others.get(name, known) != known
    ]
    if different:
        raise ValueError(
            f"`{role}` must be evaluated as the others, got {', '.join(different)}; "
            "evaluate both with the same settings"
        )


def is_of_its_images(record: Record) -> bool:
    """Whether a record's values are those of its images; narrow types round them."""
    assert record.images is not None
    if len(record.images) != record.count:
        return False
    found = record.images.compute()
    pairs = [
        (record.values[each.name], found[each.name]) for each in type(record.images).metrics if each.compared
    ]
    return all(a == b or (None not in (a, b) and math.isclose(a, b, rel_tol=1e-4)) for a, b in pairs)
