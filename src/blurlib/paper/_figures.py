"""The paper's figures 1 to 5, drawn from the networks of a reproduction: a page each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .._common.devices import pick_device
from .._tasks import predicted
from ..blurs import PerImageShake, shake_of_image
from ..evaluation import disparity, invariance, predictions
from ..metrics import ImageValues, PixelCounts, pixel_accuracy
from ..models import eval_mode
from ..notation import parse
from ..protocol import (
    Protocol,
    blurred,
    evaluation_views,
    normalised,
    to_canonical,
)
from ..reporting import (
    Prediction,
    Section,
    Table,
    Verdict,
    blurred_figure,
    find,
    kernels_figure,
    maps_figure,
    predictions_figure,
    recognition_figure,
    segmentation_figure,
    write_page,
)
from ._experiment import Run
from ._published import CONDITIONS, Training
from ._segmentation_experiment import SegmentationRun
from ._settings import USUAL_SIDE

FIGURES = ("figure1", "figure2", "figure3", "figure4", "figure5")
"""What can be drawn."""

NEEDS = {"figure1": ("table2",), "figure3": ("table3",), "figure4": ("table2",), "figure5": ("table6",)}
"""The tables whose networks a figure shows."""

_DEFOCUS = Training(mix="defocus", sides=(USUAL_SIDE,))
_SHAKE = Training(mix="shake", sides=(USUAL_SIDE,))
_STRONG = "D8"
_CHOSEN = """
The first image that the original network knew sharp and lost under D8, and that the fine-tuned one knew
again: chosen to show the effect, which the tables count over all images.
"""
_TUNED = "before and after fine-tuning on sharp images and D2, D4, D6, D8."
_JUDGED = "as trained on sharp images, and fine-tuned on defocus (sharp, D2, D4, D6, D8) and on camera shake."
_NOT_CHOSEN = "No image was lost under blur and known again: this is the first one."
_TOP = 6  # in the paper's figure 1 the true class comes sixth


def figure1(run: Run, *, image: str | Path | None = None) -> Path:
    """Predictions for one image, sharp and under D8, before and after fine-tuning on the defocus mix.

    Args:
        run: with the networks.
        image: a file; None takes the first validation image that the original network knows sharp and loses
            under D8, and that the fine-tuned one knows again (any, where there is none).

    Returns:
        The page, figure1.html in the run's folder.

    Raises:
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from blurlib.paper import ReproductionSettings
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ReproductionSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure1(run).name
        'figure1.html'
    """
    seed = run.settings.seeds[0]
    networks = {"before": run.network(Training(), 0), "after": run.network(_DEFOCUS, seed)}
    text = "What the networks find most probable, and how sure they are."
    if image is None:
        found_again = _lost_and_found(run, seed)
        position = found_again[0] if found_again else 0
        picture, label = run.validation.load(position)
        index, truth = int(run.validation.index[position]), _class(run, label)
        text += f" {_CHOSEN if found_again else _NOT_CHOSEN}"
    else:
        picture = _photograph(image)
        index, truth = 0, Path(image).stem
    found = {
        role: predictions(
            network,
            picture,
            blurs=("sharp", _STRONG),
            names=run.validation.classes or None,
            top=_TOP,
            index=index,
            side=run.settings.side,
            crop=run.settings.crop,
            crops="center" if run.crops == "center" else "five",
            canonical_side=run.settings.canonical_side,
            mean=run.colours[0],
            std=run.colours[1],
        )
        for role, network in networks.items()
    }
    canonical = to_canonical(picture, run.settings.canonical_side)
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
    return _page(run.output / "figure1.html", "Predictions under blur (the paper's figure 1)", [section], run)


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
    """Blurred images, and which of three networks recognised them (top-5).

    The networks are the original, and those fine-tuned on the defocus mix and on camera shake.

    Args:
        run: with the networks.
        count: how many images, spread over blurs and outcomes.

    Returns:
        The page, figure3.html in the run's folder.

    Raises:
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from blurlib.paper import ReproductionSettings
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ReproductionSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure3(run).name
        'figure3.html'
    """
    seed, blurs = run.settings.seeds[0], ("sharp", "D4", _STRONG, "shake", "H8")
    networks = {"original": (Training(), 0), "defocus": (_DEFOCUS, seed), "camera shake": (_SHAKE, seed)}
    sides = run.settings.sides((USUAL_SIDE,))
    right: dict[str, dict[str, np.ndarray]] = {}
    ids: list[str] = []
    for name, (training, of) in networks.items():
        report = run.report(training, of, [((USUAL_SIDE,), blur) for blur in blurs])
        images = {blur: find(report.records, (blur, sides)).images for blur in blurs}
        right[name] = {
            blur: values.correct5.astype(bool)
            for blur, values in images.items()
            if isinstance(values, ImageValues)
        }
        ids = next(values.ids.tolist() for values in images.values() if values)
    examples, places = [], _positions(run)
    for blur, number in _spread(right, blurs, count):
        position = places[ids[number]]
        picture, label = run.validation.load(position)
        value, index = parse(blur), int(run.validation.index[position])
        own = shake_of_image(index) if isinstance(value, PerImageShake) else value
        examples.append(
            Verdict(
                image=blurred(to_canonical(picture, run.settings.canonical_side), own),
                title=blur,
                truth=_class(run, label),
                right={name: bool(known[blur][number]) for name, known in right.items()},
            )
        )
    text = "Chosen to show every combination of right and wrong that occurs; the tables count all images."
    section = Section(title="Right and wrong", text=text, parts=[recognition_figure(examples)])
    title = "Recognition under blur (the paper's figure 3)"
    return _page(run.output / "figure3.html", title, [section], run, lead=_JUDGED)


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


def figure4(
    run: Run,
    *,
    image: str | Path | None = None,
    layers: Sequence[str] | None = None,
    limit: int | None = 100,
) -> Path:
    """Where features of sharp and blurred differ, before and after fine-tuning on the defocus mix.

    Maps for one image at 256, as in the paper; for the original network at half and twice that too; and the
    averages over validation images, which the paper does not have.

    Args:
        run: with the networks.
        image: a file; None takes the first validation image.
        layers: names of the network's layers; None takes its pooling layers.
        limit: number of validation images that are averaged over; None takes all.

    Returns:
        The page, figure4.html in the run's folder.

    Raises:
        ValueError: if there is no such layer.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from blurlib.paper import ReproductionSettings
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ReproductionSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure4(run, layers=["1"]).name
        'figure4.html'
    """
    seed = run.settings.seeds[0]
    networks = {"original": run.network(Training(), 0), "fine-tuned": run.network(_DEFOCUS, seed)}
    if image is None:
        picture, _ = run.validation.load(0)
    else:
        picture = _photograph(image)
    shown = to_canonical(picture, run.settings.canonical_side)
    usual, *others = run.settings.sides((USUAL_SIDE, USUAL_SIDE // 2, 2 * USUAL_SIDE))
    rows = {}
    for name, network in networks.items():
        for side in (usual, *(others if name == "original" else ())):
            rows[f"{name}, side {side}"] = _maps(run, network, picture, side, layers)
    limit = None if limit is None else min(limit, len(run.validation))
    averages = {
        name: invariance(
            network,
            run.validation,
            blur=_STRONG,
            layers=layers,
            side=run.settings.side,
            canonical_side=run.settings.canonical_side,
            mean=run.colours[0],
            std=run.colours[1],
            limit=limit,
            on_error=run.settings.on_error,
            device=run.running["device"],
            progress=run.running["progress"],
        )
        for name, network in networks.items()
    }
    header, lines = averages["fine-tuned"].lines(averages["original"])
    caption = f"Sharp against {_STRONG}, side {run.settings.side}."
    sections = [
        Section(
            title="One image",
            text=f"Sharp against {_STRONG}: the share of channels, positive or not, that differ.",
            parts=[blurred_figure([shown], f"sharp, {_STRONG}"), maps_figure(rows)],
        ),
        Section(
            title=f"Averages over {len(averages['original'].ids)} images",
            text="Of the change: the paired 95 % interval over images.",
            parts=[Table(header=header, rows=lines, caption=caption)],
        ),
    ]
    return _page(
        run.output / "figure4.html", "How invariant features are (the paper's figure 4)", sections, run
    )


def _maps(
    run: Run, network: nn.Module, picture: Image.Image, side: int, layers: Sequence[str] | None
) -> dict[str, np.ndarray]:
    place = pick_device(run.running["device"])
    views = evaluation_views(
        picture,
        [parse("sharp"), parse(_STRONG)],
        protocol=Protocol(canonical_side=run.settings.canonical_side, network_side=side),
        crops="dense",
    )
    sharp, soft = (normalised(views[number, side].to(place), *run.colours) for number in (0, 1))
    home = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    found = disparity(network.to(place), sharp, soft, layers=layers)
    network.to(home)
    return {name: maps.hamming[0].cpu().numpy() for name, maps in found.items()}


def figure5(run: SegmentationRun, *, count: int = 4, names: Sequence[str] = ()) -> Path:
    """Scenes sharp and under D8, their labels, and what the networks make of them before and after.

    Those scenes where fine-tuning brought most back under D8, by the share of pixels that are right: chosen
    to show the effect, which the table counts over all images.

    Args:
        run: with the networks.
        count: how many scenes.
        names: of the classes.

    Returns:
        The page, figure5.html in the run's folder.

    Raises:
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> from blurlib.paper import SegmentationSettings
        >>> scenes = [(Image.effect_noise((60, 50), 80).convert("RGB"), Image.new("L", (60, 50), 1))]
        >>> tiny, quiet = SegmentationSettings(canonical_side=48, epochs=(1,), lr=(0.1,)), {"progress": False}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = SegmentationRun(nn.Conv2d(3, 2, 1), scenes, settings=tiny, output=folder, **quiet)
        ...     figure5(run).name
        'figure5.html'
    """
    seed = run.settings.seeds[0]
    right = []
    for name in ("original", "defocus"):
        pixels = run.report(name, seed)[_STRONG].images
        assert isinstance(pixels, PixelCounts)
        right.append(pixel_accuracy(pixels.matrix))
        ids = pixels.ids.tolist()
    gained = np.nan_to_num(right[1] - right[0], nan=-1.0)
    places = {run.validation.id(position): position for position in range(len(run.validation))}
    place = pick_device(run.running["device"])
    plan = Protocol(
        measure="geometric",
        canonical_side=run.settings.canonical_side,
        network_side=run.settings.network_side,
        network_size=run.settings.network_size,
    )
    rows: list[dict[str, np.ndarray]] = []
    networks = {"before": run.network("original"), "after": run.network("defocus", seed)}
    for number in np.argsort(-gained, kind="stable")[:count].tolist():
        image, mask = run.validation.load(places[ids[number]])
        row = {"image": np.asarray(image), "truth": mask}
        blurs = ("sharp", _STRONG)
        made = evaluation_views(image, list(map(parse, blurs)), protocol=plan, crops="dense")
        for blur, views in zip(blurs, made.values(), strict=True):
            for role, network in networks.items():
                with eval_mode(network, place) as there:
                    labels, _ = predicted(network, views, mask.shape, run.colours, there)
                row[f"{blur}, {role}"] = labels[0].astype(np.uint8)
        canonical = to_canonical(image, plan.canonical_side, measure=plan.measure)
        row["image blurred"] = blurred(canonical, parse(_STRONG))
        order = ["image", "truth", "sharp, before", "sharp, after", "image blurred"]
        rows.append({name: row[name] for name in (*order, f"{_STRONG}, before", f"{_STRONG}, after")})
    text = f"Where fine-tuning brought most back under {_STRONG}, by the share of pixels that are right."
    section = Section(title="Sharp and blurred", text=text, parts=[segmentation_figure(rows, names=names)])
    return write_page(
        run.output / "figure5.html",
        title="Segmentation under blur (the paper's figure 5)",
        lead=f"{type(run.model).__name__}, {_TUNED}",
        sections=[section],
        facts={
            "Network": type(run.model).__name__,
            "Images": f"{len(run.validation)} of {run.validation.name}",
        },
    )


def _lost_and_found(run: Run, seed: int) -> list[int]:
    """The images that the original network knew sharp and lost, and the fine-tuned one knew again."""
    conditions = [((USUAL_SIDE,), blur) for blur in ("sharp", _STRONG)]
    sides = run.settings.sides((USUAL_SIDE,))
    known: dict[tuple[Training, str], np.ndarray] = {}
    ids: list[str] = []
    for training, of in ((Training(), 0), (_DEFOCUS, seed)):
        report = run.report(training, of, conditions)
        for _, blur in conditions:
            values = find(report.records, (blur, sides)).images
            assert isinstance(values, ImageValues)
            known[training, blur] = values.correct.astype(bool)
            ids = values.ids.tolist()
    before, after = Training(), _DEFOCUS
    wanted = known[before, "sharp"] & ~known[before, _STRONG] & known[after, "sharp"] & known[after, _STRONG]
    places = _positions(run)
    return [places[name] for name, lost in zip(ids, wanted.tolist(), strict=True) if lost]


def _positions(run: Run) -> dict[str, int]:
    """Where the images are in the listing: records leave out those that could not be read."""
    return {run.validation.id(position): position for position in range(len(run.validation))}


def _photograph(path: str | Path) -> Image.Image:
    """A file as it is: the protocol turns it upright and into RGB."""
    with Image.open(path) as opened:
        opened.load()
    return opened


def _class(run: Run, label: int) -> str:
    return run.validation.classes[label] if run.validation.classes else str(label)


def _page(path: Path, title: str, sections: Sequence[Section], run: Run, lead: str = _TUNED) -> Path:
    facts: dict[str, Any] = {
        "Network": type(run.model).__name__,
        "Images": f"{len(run.validation)} of {run.validation.name}",
        "Side": f"{run.settings.side} px",
    }
    return write_page(
        path,
        title=title,
        lead=f"{type(run.model).__name__}, {lead}",
        sections=sections,
        facts={name: str(value) for name, value in facts.items()},
    )
