"""The page of the example."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..evaluation import predictions
from ..notation import parse, parse_list
from ..protocol import blurred, to_canonical
from ._photographs import Crops, crops
from ._training import DemoSettings, Trained


def _page(path: Path, trained: Trained, seed: int) -> Path:
    from ..reporting import Code, Section, Table, blurred_figure, predictions_figure, report_page

    numbers = trained.settings
    check = crops("val", numbers.validation_crops, sides=numbers.sides, seed=seed)
    known = parse_list(numbers.blurs)
    shown = [to_canonical(source.image, 384) for source in check.sources]
    steps = [[title, f"{seconds:.0f} s"] for title, seconds in trained.seconds.items()]
    photos = blurred_figure([shown[check.classes.index(name)] for name in _SHOWN], known, names=_SHOWN)
    values = [[f.name.replace("_", " "), _told(getattr(numbers, f.name))] for f in fields(numbers)]
    sources = [[source.name, source.credit] for source in check.sources]
    wanted, examples = _examples(trained, check)
    sections = [
        Section(
            title="The same crop, sharp and blurred",
            text=_PREDICTIONS + (_CHOSEN if wanted else _NOT_CHOSEN),
            parts=[predictions_figure(examples)],
        ),
        Section(title="Photographs under each blur", text=_PHOTOGRAPHS, parts=[photos]),
    ]
    closing = [
        Section(
            title="What was done",
            text=_DONE.format(
                side=numbers.canonical_side,
                network=numbers.network_side,
                radius=8 * numbers.network_side / numbers.canonical_side,
            ),
            parts=[
                Table(header=["Step", "Time"], rows=steps, caption="What took how long on this machine."),
                Table(header=["Setting", "Value"], rows=values, caption="Every number of the example."),
                Table(header=["Photograph", "Credit"], rows=sources, caption="The photographs."),
            ],
        ),
        Section(title="The same on your own images", text=_OWN, parts=[Code(text=_CODE)]),
    ]
    reports = trained.reports
    return report_page(
        path,
        reports["mix"],
        before=reports["original"],
        control=reports.get("control"),
        comparison=trained.comparison,
        title="Accuracy lost to blur, and recovered by fine-tuning",
        sections=sections,
        closing=closing,
    )


_SHOWN = ("cat", "temple", "coins")
_PREDICTIONS = "Predictions before and after fine-tuning, as in the paper's figure 1. "
_CHOSEN = (
    "These are the first validation crops, one a photograph, that the original network classifies correctly "
    "sharp and wrongly under D8, and the fine-tuned one correctly in both cases. They are chosen to show the "
    "effect; the table above counts all crops."
)
_NOT_CHOSEN = "No crop was lost under blur and recovered in this run: these are any three."
_PHOTOGRAPHS = """
Three of the sixteen photographs at a shorter side of 384 px, where the paper defines its blurs.
"""
_DONE = """
Sixteen photographs that ship inside scikit-image and scikit-learn are cut into crops, and a small network
learns to tell from which photograph a crop is. Training crops come from the upper left and the lower right
quarter of each photograph, validation crops from the two other quarters: no pixel is in both. Colour and mean
brightness are removed, since they would give the photograph away. The smallest photographs (page, cat, coins)
are enlarged up to 2.1 times and a little soft even where the table says sharp.

The network learns on sharp crops. From there one copy is fine-tuned on the mix, and another, the control, for
as many steps on sharp crops alone, so that more training is not mistaken for robustness. Blurs are defined at
a crop side of {side} px, and the network sees {network} px: D8 has a radius of {radius:.1f} px there.
"""
_OWN = "A folder with `train/<class>/*` and `val/<class>/*`, and any classifier:"
_CODE = """import blurlib, torchvision

model = torchvision.models.vgg16(weights="IMAGENET1K_V1")
before = blurlib.evaluate(model, "imagenet", blurs="sharp, D4, D8, shake")
result = blurlib.finetune(model, "imagenet", blur="sharp + D2 + D4 + D6 + D8")
after = blurlib.evaluate(result.model, "imagenet", blurs="sharp, D4, D8, shake")
print(after.compare(before))"""


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _examples(trained: Trained, check: Crops, count: int = 3) -> tuple[bool, list[Any]]:
    """Whether crops were known sharp, lost under D8 and known again; those, each sharp and blurred."""
    from ..reporting import Prediction

    strong = "D8" if "D8" in trained.reports["mix"].blurs else trained.reports["mix"].blurs[-1]
    right = {
        (name, blur): trained.reports[name][blur].images.correct.astype(bool)  # type: ignore[union-attr]  # evaluate() keeps them
        for name in ("original", "mix")
        for blur in ("sharp", strong)
    }
    wanted = (
        right["original", "sharp"] & ~right["original", strong] & right["mix", "sharp"] & right["mix", strong]
    )
    # One crop a photograph; where there are too few, as in a tiny run, any crop serves.
    order = [*np.flatnonzero(wanted).tolist(), *np.flatnonzero(~wanted).tolist()]
    chosen = list({check.targets[index]: index for index in reversed(order)}.values())[::-1][:count]
    predictions = [
        Prediction(
            image=_seen(check, index, blur, trained.settings),
            title=blur,
            truth=check.classes[check.targets[index]],
            before=_top(trained.networks["original"], check, index, blur, trained.settings),
            after=_top(trained.networks["mix"], check, index, blur, trained.settings),
            name=str(index),
        )
        for index in chosen
        for blur in ("sharp", strong)
    ]
    return bool(wanted.any()), predictions


def _seen(check: Crops, index: int, blur: str, numbers: DemoSettings) -> np.ndarray:
    return blurred(to_canonical(check[index][0], numbers.canonical_side), parse(blur).of_image(index))


def _top(
    model: nn.Module, check: Crops, index: int, blur: str, numbers: DemoSettings
) -> tuple[tuple[str, float], ...]:
    """The four most probable classes with their probabilities."""
    (found,) = predictions(
        model, check[index][0], blurs=[blur], names=check.classes, top=4, index=index,
        side=numbers.network_side, crop=numbers.network_side, canonical_side=numbers.canonical_side,
        mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    return found.classes
