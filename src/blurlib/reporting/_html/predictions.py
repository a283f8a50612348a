"""Pictures for a page: predictions of networks on an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._text import percent
from .page import Figure, markup, own_name, switch
from .pictures import no_break, photo_cell


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predictions of two networks on one image.

    Attributes:
        image: (H, W, 3) uint8, as the networks saw it.
        title: what was done to it, such as "sharp" or "D8".
        truth: name of its class.
        before: the most probable classes and their probabilities, the most probable first.
        after: likewise, of the fine-tuned network; empty if there is none.
        name: of the photograph: those of one name are shown in one place, chosen by their titles; each on its
            own where it is empty.

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
    name: str = ""


def predictions_figure(examples: Sequence[Prediction]) -> Figure:
    """Images with the classes that each network finds most probable (the paper, figure 1).

    Args:
        examples: the true class is marked by a sign, its weight and its colour.

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
    _check_some(examples)
    caption = "The classes that each network finds most probable; ✓ marks the true one."
    groups: dict[tuple[str, int], dict[str, str]] = {}
    for number, example in enumerate(examples):
        row = markup("prediction", row={**_example(example), "sides": _sides(example)})
        groups.setdefault((example.name, 0 if example.name else number), {})[example.title] = row
    return _figure(
        "predictions",
        {"groups": [_group(panels) for panels in groups.values()], "choice": _choice(examples)},
        examples,
        map(_first, examples),
        caption,
    )


def _group(panels: Mapping[str, str]) -> Any:
    from markupsafe import Markup

    several = len(panels) > 1
    return Markup(switch("Blur", panels, chosen=len(panels) // 2) if several else next(iter(panels.values())))


def _choice(examples: Sequence[Prediction]) -> str:
    """Name of the choice of a network; none where there is one."""
    both = any(len(example.after) for example in examples)
    return own_name(*map(repr, ((each.title, each.truth, each.before) for each in examples))) if both else ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An image, and which networks recognised it.

    Attributes:
        image: (H, W, 3) uint8.
        title: what was done to it, such as "D8".
        truth: name of its class.
        right: for each network, by its name, whether it was right.

    Example:
        >>> black = np.zeros((2, 2, 3), np.uint8)
        >>> Verdict(image=black, title="D8", truth="cat", right={"original": False}).truth
        'cat'
    """

    image: np.ndarray
    title: str
    truth: str
    right: Mapping[str, bool]


def recognition_figure(examples: Sequence[Verdict], *, among: int = 5) -> Figure:
    """Images with the networks that recognised them and those that did not (the paper, figure 3).

    Args:
        examples: a tile each; all of the same networks, at most three.
        among: how many of the most probable classes count as right, 1 or 5.

    Returns:
        The figure.

    Raises:
        TypeError: if an image is not uint8.
        ValueError: if there is no example, their networks differ, or an image is not (H, W, 3).
        ImportError: if the extra `report` is not installed.

    Example:
        >>> example = Verdict(image=np.zeros((2, 2, 3), np.uint8), title="D8", truth="cat",
        ...                  right={"original": False, "fine-tuned": True})
        >>> recognition_figure([example]).alt
        'cat, D8: original wrong, fine-tuned right.'
    """
    _check_some(examples)
    names = tuple(examples[0].right)
    if not 1 <= len(names) <= len(_ROLES) or any(tuple(example.right) != names for example in examples):
        raise ValueError(
            f"`examples` must be judged by the same networks, one to {len(_ROLES)}, got {names} and others"
        )
    tiles = [
        {
            **_example(example),
            "marks": [
                {"name": name, "role": role, "right": example.right[name]}
                for name, role in zip(names, _ROLES, strict=False)
            ],
        }
        for example in examples
    ]
    found = (
        ", ".join(f"{name} {'right' if right else 'wrong'}" for name, right in example.right.items())
        for example in examples
    )
    place = "the one" if among == 1 else "among the five"
    caption = f"✓: the true class is {place} that the network finds most probable; ✗: it is not."
    return _figure("verdicts", {"tiles": tiles}, examples, found, caption)


def _check_some(examples: Sequence[object]) -> None:
    if not len(examples):
        raise ValueError("`examples` must hold at least one image, got none")


def _example(example: Prediction | Verdict) -> dict[str, Any]:
    """The image with its title and class."""
    photo = photo_cell("image", example.image, f"{example.truth}, {example.title}")
    return {"title": no_break(example.title), "truth": example.truth, "photo": photo}


def _figure(
    macro: str,
    values: Mapping[str, Any],
    examples: Sequence[Prediction | Verdict],
    found: Iterable[str],
    caption: str,
) -> Figure:
    texts = (f"{each.truth}, {each.title}: {text}" for each, text in zip(examples, found, strict=True))
    return Figure(image=markup(macro, **values), alt="; ".join(texts) + ".", caption=caption, wide=True)


_ROLES = ("before", "after", "control")


def _first(example: Prediction) -> str:
    """The most probable class before and after."""
    first = [("before ", example.before[0]), *(("after ", pair) for pair in example.after[:1])]
    return ", ".join(f"{role if len(first) > 1 else ''}{name} ({percent(p)} %)" for role, (name, p) in first)


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
        {"name": name, "share": f"{100 * p:.2f}", "text": f"{percent(p)} %", "true": name == truth}
        for name, p in classes
    ]
    return {
        "role": role,
        "title": title,
        "bars": bars,
        "right": bars[0]["true"],
        "known": any(bar["true"] for bar in bars),
    }
