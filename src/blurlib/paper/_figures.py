"""The paper's figures 1 to 3, drawn from the networks of a reproduction: a page each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from .._common.pictures import open_image
from ..evaluation import predictions
from ..metrics import TOP_K, ImageValues
from ..notation import parse
from ..protocol import (
    blurred,
    to_canonical,
)
from ..reporting import (
    Prediction,
    Section,
    Verdict,
    find,
    kernels_figure,
    predictions_figure,
    recognition_figure,
    write_page,
)
from ._experiment import Run
from ._published import CONDITIONS, Training
from ._settings import USUAL_SIDE, ClassificationSettings, ReproductionSettings

FIGURES = ("figure1", "figure2", "figure3", "figure4", "figure5")
"""The figures that can be drawn; 4 and 5 are maps."""

NEEDS = {"figure1": ("table2",), "figure3": ("table3",), "figure4": ("table2",), "figure5": ("table6",)}
"""The tables whose networks a figure shows."""

DEFOCUS = Training(mix="defocus", sides=(USUAL_SIDE,))
_SHAKE = Training(mix="shake", sides=(USUAL_SIDE,))
STRONG = "D8"
_CHOSEN = """
The first image that the original network classifies correctly when it is sharp and wrongly under D8, and
that the fine-tuned network classifies correctly in both cases. It is chosen to show the effect; the tables
cover all images.
"""
_NOT_CHOSEN = "No image was lost under blur and recovered: this is the first one."
TUNED = "before and after fine-tuning on sharp images and D2, D4, D6, D8."
_THREE = "as trained on sharp images, and fine-tuned on defocus (sharp, D2, D4, D6, D8) and on camera shake."
_Kind = TypeVar("_Kind", bound=ReproductionSettings)

_TOP = 6  # in the paper's figure 1 the true class comes sixth


def figure1(run: Run, *, image: str | Path | None = None) -> Path:
    """Predictions for one image, sharp and under D8, before and after fine-tuning on the defocus mix.

    Args:
        run: with the networks.
        image: a file; None takes the first validation image that the original network classifies correctly
            sharp and wrongly under D8, and that the fine-tuned one classifies correctly in both cases; the
            first of all, where there is none.

    Returns:
        The page, figure1.html in the run's folder.

    Raises:
        ValueError: if the run is one of segmentation.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ClassificationSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure1(run).name
        'figure1.html'
    """
    settings = settings_as(run, ClassificationSettings)
    seed = settings.seeds[0]
    networks = {"before": run.network(Training(), 0), "after": run.network(DEFOCUS, seed)}
    text = "What the networks find most probable, and how sure they are."
    if image is None:
        recovered = _recovered(run, seed)
        position = recovered[0] if recovered else 0
        picture, label = run.validation.load(position)
        index, truth = int(run.validation.index[position]), _class(run, label)
        text += f" {_CHOSEN if recovered else _NOT_CHOSEN}"
    else:
        picture = photograph(image)
        index, truth = 0, Path(image).stem
    found = {
        role: predictions(
            network,
            picture,
            blurs=("sharp", STRONG),
            names=run.validation.classes or None,
            top=_TOP,
            index=index,
            side=settings.side,
            crop=settings.crop,
            crops="center" if settings.crops == "center" else "five",
            canonical_side=settings.canonical_side,
            mean=run.colours[0],
            std=run.colours[1],
        )
        for role, network in networks.items()
    }
    canonical = to_canonical(picture, settings.canonical_side)
    examples = [
        Prediction(
            image=blurred(canonical, parse(before.blur)),
            title=f"{before.blur}, entropy {before.entropy:.2f} and {after.entropy:.2f} nats",
            truth=truth,
            before=before.classes,
            after=after.classes,
        )
        for before, after in zip(found["before"], found["after"], strict=True)
    ]
    section = Section(
        title="The same image, sharp and blurred", text=text, parts=[predictions_figure(examples)]
    )
    return figure_page(run, "figure1", "Predictions under blur", [section])


def figure2(output: str | Path = "reproduction") -> Path:
    """The kernels of the paper's experiments.

    Args:
        output: a folder; it is made.

    Returns:
        The page, figure2.html.

    Raises:
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure2(folder).name
        'figure2.html'
    """
    shakes = [f"S{number}" for number in range(12)]
    names = [name for name in CONDITIONS if name not in ("sharp", "shake")]
    sections = [
        Section(title="Defocus, motion, Gaussian", parts=[kernels_figure(", ".join(names))]),
        Section(
            title="Camera shake",
            text="The first kernels of the test bank; each image is shaken by one of a hundred.",
            parts=[kernels_figure(", ".join(shakes))],
        ),
    ]
    return write_page(
        Path(output) / "figure2.html",
        title="The blur kernels (the paper's figure 2)",
        lead="What a point of light becomes, in pixels of an image whose shorter side is 384.",
        sections=sections,
    )


def figure3(run: Run, *, count: int = 12) -> Path:
    """Blurred images, and which of three networks recognised them (top-5; top-1 for five classes or fewer).

    The networks are the original, and those fine-tuned on the defocus mix and on camera shake.

    Args:
        run: with the networks.
        count: how many images, spread over blurs and outcomes.

    Returns:
        The page, figure3.html in the run's folder.

    Raises:
        ValueError: if the run is one of segmentation.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ClassificationSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure3(run).name
        'figure3.html'
    """
    settings = settings_as(run, ClassificationSettings)
    seed, blurs = settings.seeds[0], ("sharp", "D4", STRONG, "shake", "H8")
    networks = {"original": (Training(), 0), "defocus": (DEFOCUS, seed), "camera shake": (_SHAKE, seed)}
    sides = run.settings.sides((USUAL_SIDE,))
    right: dict[str, dict[str, np.ndarray]] = {}
    ids: list[str] = []
    few = False
    for name, (training, of) in networks.items():
        report = run.report(training, of, [((USUAL_SIDE,), blur) for blur in blurs])
        images = {blur: find(report.records, (blur, sides)).images for blur in blurs}
        few = report.settings["classes"] <= TOP_K
        right[name] = {
            blur: (values.correct if few else values.correct5).astype(bool)
            for blur, values in images.items()
            if isinstance(values, ImageValues)
        }
        ids = next(values.ids.tolist() for values in images.values() if values)
    examples, places = [], positions(run)
    for blur, number in _spread(right, blurs, count):
        position = places[ids[number]]
        picture, label = run.validation.load(position)
        value, index = parse(blur), int(run.validation.index[position])
        own = value.of_image(index)
        examples.append(
            Verdict(
                image=blurred(to_canonical(picture, settings.canonical_side), own),
                title=blur,
                truth=_class(run, label),
                right={name: bool(known[blur][number]) for name, known in right.items()},
            )
        )
    text = "Chosen to show every combination of right and wrong that occurs; the tables count all images."
    section = Section(
        title="Right and wrong", text=text, parts=[recognition_figure(examples, among=1 if few else TOP_K)]
    )
    return figure_page(run, "figure3", "Recognition under blur", [section], lead=_THREE)


def _spread(
    right: Mapping[str, Mapping[str, np.ndarray]], blurs: Sequence[str], count: int
) -> list[tuple[str, int]]:
    """Images in turn from every blur, each time of the outcome that was shown least."""
    shown: dict[tuple[bool, ...], int] = {}
    taken: set[int] = set()
    chosen: list[tuple[str, int]] = []
    for number in range(count):
        blur = blurs[number % len(blurs)]
        outcomes = np.stack([known[blur] for known in right.values()], axis=1)
        free = [position for position in range(len(outcomes)) if position not in taken]
        if not free:
            break
        best = min(free, key=lambda position: shown.get(tuple(outcomes[position].tolist()), 0))
        key = tuple(outcomes[best].tolist())
        shown[key] = shown.get(key, 0) + 1
        taken.add(best)
        chosen.append((blur, best))
    return chosen


def _recovered(run: Run, seed: int) -> list[int]:
    """The images that only the original network under blur classifies wrongly."""
    conditions = [((USUAL_SIDE,), blur) for blur in ("sharp", STRONG)]
    sides = run.settings.sides((USUAL_SIDE,))
    known: dict[tuple[Training, str], np.ndarray] = {}
    ids: list[str] = []
    for training, of in ((Training(), 0), (DEFOCUS, seed)):
        report = run.report(training, of, conditions)
        for _, blur in conditions:
            values = find(report.records, (blur, sides)).images
            assert isinstance(values, ImageValues)
            known[training, blur] = values.correct.astype(bool)
            ids = values.ids.tolist()
    before, after = Training(), DEFOCUS
    wanted = known[before, "sharp"] & ~known[before, STRONG] & known[after, "sharp"] & known[after, STRONG]
    places = positions(run)
    return [places[name] for name, lost in zip(ids, wanted.tolist(), strict=True) if lost]


def settings_as(run: Run, kind: type[_Kind]) -> _Kind:
    """The run's settings, which must be of the figure's task."""
    if not isinstance(run.settings, kind):
        raise ValueError(  # noqa: TRY004  the run is one, but of the other task
            f"`run` must have {kind.__name__} for this figure, got {type(run.settings).__name__}"
        )
    return run.settings


def positions(run: Run) -> dict[str, int]:
    """Where the images are in the listing: records leave out those that could not be read."""
    return {run.validation.id(position): position for position in range(len(run.validation))}


def photograph(path: str | Path) -> Image.Image:
    """A file as it is: the protocol turns it upright and into RGB."""
    with open_image(path) as opened:
        opened.load()
    return opened


def _class(run: Run, label: int) -> str:
    return run.validation.classes[label] if run.validation.classes else str(label)


def figure_page(run: Run, name: str, title: str, sections: Sequence[Section], lead: str = TUNED) -> Path:
    facts = {
        "Network": type(run.model).__name__,
        "Images": f"{len(run.validation)} of {run.validation.name}",
    }
    if isinstance(run.settings, ClassificationSettings):
        facts["Side"] = f"{run.settings.side} px"
    return write_page(
        run.output / f"{name}.html",
        title=f"{title} (the paper's figure {name[-1]})",
        lead=f"{facts['Network']}, {lead}",
        sections=sections,
        facts=facts,
    )
