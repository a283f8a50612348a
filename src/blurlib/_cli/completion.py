"""What a shell proposes for the values of arguments and options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from .._engine import Border
from ..evaluation import PAPER_BLURS
from ..notation import parse_list
from ..paper import FIGURES, ITEMS

Proposing = Callable[[str], list[str]]

# The paper's blurs, and one of each other form.
_BLURS = tuple(dict.fromkeys([*map(str, parse_list(PAPER_BLURS)), "shake", "D4a", "G4", "L12@30", "S17"]))


def words(proposed: Iterable[str]) -> Proposing:
    """Those of some words that begin as what is typed."""
    known = tuple(proposed)
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def separated(proposed: Sequence[str], separator: str) -> Proposing:
    """Likewise after each separator, such as "sharp,D4,"; words that are there are not proposed again."""

    def propose(incomplete: str) -> list[str]:
        before, mark, last = incomplete.rpartition(separator)
        there = [word.strip() for word in before.split(separator)]
        begun = before + mark
        return [begun + word for word in proposed if word.startswith(last) and word not in there]

    return propose


def networks(incomplete: str) -> list[str]:
    """Torchvision's classifiers by name, and the prefixes of others; files are the shell's own proposals."""
    from torchvision import models

    return words([*models.list_models(module=models), "timm:", "zoomout:vgg16"])(incomplete)


blur = words(_BLURS)
blurs = separated(_BLURS, ",")
mix = separated((*_BLURS, "wide"), "+")
borders = words(get_args(Border))
devices = words(("cpu", "cuda", "mps"))
tasks = words(("classification", "segmentation"))
items = words(dict.fromkeys((*ITEMS, *FIGURES, "all")))
sides = separated(("128", "256", "384", "512"), ",")
blurred_at = words(("384", "image"))
