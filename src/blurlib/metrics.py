"""Metrics of classification: values of each image, accumulated, then one record a condition.

Everything is computed in float64 on the CPU, so that a record does not depend on the precision of the
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch

from . import blurs
from .tables import sides_text

__all__ = ["Accumulator", "ImageValues", "Record", "calibration_error", "find", "image_values"]

BINS = 15
TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class ImageValues:
    """What a network did with each image under one condition; every array has shape (N,).

    Attributes:
        ids: names of the images, unicode.
        label: index of the true class, int64.
        correct: 1 where the most probable class is the true one, uint8.
        correct5: 1 where the true class is among the five most probable ones, uint8.
        entropy: of the predicted distribution, in nats, float64.
        cross_entropy: minus the log-probability of the true class, in nats, float64.
        confidence: probability of the most probable class, float64.

    Example:
        >>> image_values(torch.zeros(1, 2), [0], ids=["a.png"]).confidence
        array([0.5])
    """

    ids: np.ndarray
    label: np.ndarray
    correct: np.ndarray
    correct5: np.ndarray
    entropy: np.ndarray
    cross_entropy: np.ndarray
    confidence: np.ndarray


def image_values(
    scores: torch.Tensor, labels: Sequence[int] | torch.Tensor, *, ids: Sequence[str] | None = None
) -> ImageValues:
    """Judge predicted distributions one by one.

    Classes of equal score are ranked by their index, as argmax does; a network that gives every class the
    same score is therefore right only on class 0.

    Args:
        scores: (N, C) logits or (mean) log-probabilities; the probabilities are their softmax.
        labels: (N,) indices of the true classes.
        ids: names of the N images; their positions if None.

    Returns:
        The values of the N images. With C < 5 classes `correct5` looks at all C and is therefore always 1.

    Example:
        >>> values = image_values(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), [0, 0])
        >>> values.correct, values.ids
        (array([1, 0], dtype=uint8), array(['0', '1'], dtype='<U1'))
    """
    log_p = scores.detach().cpu().double().log_softmax(dim=1)
    label = torch.as_tensor(labels, dtype=torch.int64)
    true = log_p.gather(1, label[:, None])
    before = torch.arange(log_p.shape[1]) < label[:, None]
    rank = ((log_p > true) | ((log_p == true) & before)).sum(dim=1)
    p = log_p.exp()
    # A class that the network excludes (log-probability -inf) adds 0 to the entropy, not 0 * inf.
    entropy = -torch.where(p > 0, p * log_p, torch.zeros_like(p)).sum(dim=1)
    return ImageValues(
        ids=np.array([str(i) for i in (range(len(label)) if ids is None else ids)], dtype=np.str_),
        label=label.numpy(),
        correct=(rank < 1).to(torch.uint8).numpy(),
        correct5=(rank < TOP_K).to(torch.uint8).numpy(),
        # Adding 0 turns "-0.0", which would print as such, into 0.
        entropy=torch.where(p.isnan().any(dim=1), torch.nan, entropy + 0.0).numpy(),
        cross_entropy=(-true[:, 0] + 0.0).numpy(),
        confidence=p.amax(dim=1).numpy(),
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over bins of confidence.

    The bins are equal in width, (0, 1/bins], (1/bins, 2/bins], ...; each counts by its number of images
    (Naeini et al., 2015; Guo et al., 2017).

    Args:
        confidence: (N,) probabilities of the most probable class, in [0, 1].
        correct: (N,) 0 or 1.
        bins: number of bins.

    Returns:
        The error, between 0 and 1.

    Example:
        >>> calibration_error(np.array([0.75, 0.75]), np.array([1, 0]))
        0.25
    """
    edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    place = np.searchsorted(edges, confidence, side="left")
    gaps = np.bincount(place, weights=np.asarray(correct, dtype=np.float64) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


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
    name = str(blurs.parse(blur))
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
