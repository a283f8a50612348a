"""What one evaluation measured under one condition: a record each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch

from .. import blurs, notation
from ..metrics import ImageValues, calibration_error, image_values
from ._text import sides_text


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one evaluation measured under one condition: a blur at a scale setting.

    Attributes:
        blur: short name, such as "D8".
        sides: network sides that were averaged, such as (256,) or (256, 512).
        top1: share of images whose most probable class is the true one, 0 to 1.
        top5: share of images whose true class is among the five most probable; 1 with five classes or fewer.
        entropy: mean entropy of the predicted distributions, in nats.
        cross_entropy: mean cross-entropy with the true class, in nats.
        ece: expected calibration error with 15 equal bins, 0 to 1.
        count: number of images measured.
        skipped: number of images left out because they could not be read.
        images: the values of each image; None in a report that was loaded without its .npz file.

    Example:
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="D8", sides=(256,))
        >>> record.top1, record.count
        (0.5, 2)
    """

    blur: str
    sides: tuple[int, ...]
    top1: float
    top5: float
    entropy: float
    cross_entropy: float
    ece: float
    count: int
    skipped: int = 0
    images: ImageValues | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, images: ImageValues, *, blur: str, sides: tuple[int, ...], skipped: int = 0) -> Record:
        """The record of at least one image.

        Args:
            images: values of N >= 1 images.
            blur: short name of the blur.
            sides: network sides that were averaged.
            skipped: how many more images could not be read.

        Returns:
            The record.

        Raises:
            ValueError: if there is no image.

        Example:
            >>> Record.of(image_values(torch.zeros(1, 2), [0]), blur="sharp", sides=(64,)).ece
            0.5
        """
        if not len(images.ids):
            raise ValueError(
                f"`images` must hold at least one image, got none under {blur} ({skipped} could not be read)"
            )
        return cls(
            blur=blur,
            sides=tuple(sides),
            top1=float(images.correct.mean(dtype=np.float64)),
            top5=float(images.correct5.mean(dtype=np.float64)),
            entropy=float(images.entropy.mean()),
            cross_entropy=float(images.cross_entropy.mean()),
            ece=calibration_error(images.confidence, images.correct),
            count=len(images.ids),
            skipped=skipped,
            images=images,
        )


class Accumulator:
    """Collects images in any order, each under all conditions at once; then computes the records.

    Args:
        conditions: (short name of the blur, network sides) of each condition.

    Example:
        >>> accumulator = Accumulator([("sharp", (64,)), ("D4", (64,))])
        >>> accumulator.update(0, "a.png", 1, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> [record.top1 for record in accumulator.compute()]
        [1.0, 0.0]
    """

    def __init__(self, conditions: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        self.conditions = tuple(conditions)
        self._seen: dict[int, tuple[str, ImageValues]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def update(self, position: int, identity: str, label: int, scores: torch.Tensor) -> None:
        """Take in one image.

        Args:
            position: of the image in the listing; it decides the order of the arrays, not the order of calls.
            identity: its name.
            label: index of its true class.
            scores: (conditions, C) log-probabilities or logits, one row a condition.

        Raises:
            ValueError: if a value is not finite; the message names the blur and the image.
        """
        values = image_values(scores, [label] * len(self.conditions))
        finite = np.isfinite(values.cross_entropy) & np.isfinite(values.entropy)
        if not finite.all():
            blur, sides = self.conditions[int(np.argmin(finite))]
            raise ValueError(
                f"`model` must give finite scores, got NaN or infinity under {blur} at side "
                f"{sides_text(sides)} for the image {identity!r}; check its weights, `mean` and `std`"
            )
        self._seen[position] = (identity, values)

    def merge(self, other: Accumulator) -> None:
        """Take in the images of another, such as that of another process.

        Args:
            other: of the same conditions.

        Raises:
            ValueError: if its conditions are others.

        Example:
            >>> mine, other = Accumulator([("D4", (64,))]), Accumulator([("D4", (64,))])
            >>> other.update(0, "a.png", 1, torch.tensor([[0.0, 1.0]]))
            >>> mine.merge(other)
            >>> len(mine)
            1
        """
        if other.conditions != self.conditions:
            raise ValueError(f"`other` must have the conditions {self.conditions}, got {other.conditions}")
        self._seen.update(other._seen)

    def compute(self, *, skipped: int = 0) -> tuple[Record, ...]:
        """The records of the images taken in so far.

        Args:
            skipped: how many more images could not be read.

        Returns:
            One record a condition, in the order of the conditions.

        Raises:
            ValueError: if there is no image.
        """
        seen = [self._seen[position] for position in sorted(self._seen)]
        ids = np.array([identity for identity, _ in seen], dtype=np.str_)

        def column(name: str, condition: int) -> np.ndarray:
            return np.array([getattr(values, name)[condition] for _, values in seen])

        names = ("label", "correct", "correct5", "entropy", "cross_entropy", "confidence")
        return tuple(
            Record.of(
                ImageValues(ids=ids, **{name: column(name, number) for name in names}),
                blur=blur,
                sides=sides,
                skipped=skipped,
            )
            for number, (blur, sides) in enumerate(self.conditions)
        )


class _Condition(Protocol):
    @property
    def blur(self) -> str: ...

    @property
    def sides(self) -> tuple[int, ...]: ...


_Row = TypeVar("_Row", bound=_Condition)


def find(rows: Sequence[_Row], key: str | blurs.Blur | tuple[str | blurs.Blur, int | Sequence[int]]) -> _Row:
    """The row of a condition.

    Args:
        rows: with `blur` and `sides`.
        key: a blur or its short name; with the side, or the sides that were averaged, if there are several
            settings.

    Returns:
        The row.

    Raises:
        KeyError: if there is none.
        ValueError: if the blur is unknown, or was measured at several scale settings and `key` names none.

    Example:
        >>> record = Record.of(image_values(torch.eye(2), [0, 0]), blur="D8", sides=(256,))
        >>> find([record], "D8") is find([record], ("D8", 256))
        True
    """
    blur, side = key if isinstance(key, tuple) else (key, None)
    name = str(notation.parse(blur))
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
