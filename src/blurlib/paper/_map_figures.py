"""The paper's figures 4 and 5: where features differ, and what a segmentation network makes of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from .._common.devices import pick_device
from .._tasks import predicted
from ..evaluation import disparity, invariance
from ..metrics import PixelCounts, pixel_accuracy
from ..models import eval_mode
from ..notation import parse
from ..protocol import Protocol, blurred, evaluation_views, normalised, to_canonical
from ..reporting import Section, Table, blurred_figure, maps_figure, segmentation_figure
from ._experiment import Run
from ._figures import DEFOCUS, STRONG, figure_page, photograph, positions, settings_as
from ._published import Training
from ._settings import USUAL_SIDE, ClassificationSettings, SegmentationSettings


def figure4(
    run: Run,
    *,
    image: str | Path | None = None,
    layers: Sequence[str] | None = None,
    limit: int | None = 100,
) -> Path:
    """Where the features of sharp and blurred images differ, before and after fine-tuning on the defocus mix.

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
        ValueError: if there is no such layer, or the run is one of segmentation.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> photos = [(Image.effect_noise((60, 50), 80).convert("RGB"), label) for label in (0, 1)]
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        >>> tiny = ClassificationSettings(side=32, canonical_side=48, epochs=(1,), lr=(0.1,), crops="center")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(network, photos, settings=tiny, output=folder, workers=0, progress=False)
        ...     figure4(run, layers=["1"]).name
        'figure4.html'
    """
    settings = settings_as(run, ClassificationSettings)
    seed = settings.seeds[0]
    networks = {"original": run.network(Training(), 0), "fine-tuned": run.network(DEFOCUS, seed)}
    if image is None:
        picture, _ = run.validation.load(0)
    else:
        picture = photograph(image)
    shown = to_canonical(picture, settings.canonical_side)
    usual, *others = settings.sides((USUAL_SIDE, USUAL_SIDE // 2, 2 * USUAL_SIDE))
    rows = {}
    for name, network in networks.items():
        for side in (usual, *(others if name == "original" else ())):
            rows[f"{name}, side {side}"] = _maps(run, network, picture, side, layers)
    limit = None if limit is None else min(limit, len(run.validation))
    averages = {
        name: invariance(
            network,
            run.validation,
            blur=STRONG,
            layers=layers,
            side=settings.side,
            canonical_side=settings.canonical_side,
            mean=run.colours[0],
            std=run.colours[1],
            limit=limit,
            on_error=settings.on_error,
            device=run.running["device"],
            progress=run.running["progress"],
        )
        for name, network in networks.items()
    }
    header, lines = averages["fine-tuned"].lines(averages["original"])
    caption = f"Sharp against {STRONG}, side {settings.side}."
    sections = [
        Section(
            title="One image",
            text=f"Sharp against {STRONG}: the share of channels, positive or not, that differ.",
            parts=[blurred_figure([shown], f"sharp, {STRONG}"), maps_figure(rows)],
        ),
        Section(
            title=f"Averages over {len(averages['original'].ids)} images",
            text="Of the change: the paired 95 % interval over images.",
            parts=[Table(header=header, rows=lines, caption=caption)],
        ),
    ]
    return figure_page(run, "figure4", "How invariant features are", sections)


def _maps(
    run: Run, network: nn.Module, picture: Image.Image, side: int, layers: Sequence[str] | None
) -> dict[str, np.ndarray]:
    place = pick_device(run.running["device"])
    views = evaluation_views(
        picture,
        [parse("sharp"), parse(STRONG)],
        protocol=Protocol(canonical_side=run.settings.canonical_side, network_side=side),
        crops="dense",
    )
    sharp, soft = (normalised(views[number, side].to(place), *run.colours) for number in (0, 1))
    home = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    found = disparity(network.to(place), sharp, soft, layers=layers)
    network.to(home)
    return {name: maps.hamming[0].cpu().numpy() for name, maps in found.items()}


def figure5(run: Run, *, count: int = 4, names: Sequence[str] = ()) -> Path:
    """Scenes sharp and under D8, their labels, and the predictions before and after fine-tuning.

    The scenes are those with the largest gain in pixel accuracy under D8. They are chosen to show the effect;
    the table covers all images.

    Args:
        run: with the networks.
        count: how many scenes.
        names: of the classes.

    Returns:
        The page, figure5.html in the run's folder.

    Raises:
        ValueError: if the run is one of classification.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> import tempfile
        >>> scenes = [(Image.effect_noise((60, 50), 80).convert("RGB"), Image.new("L", (60, 50), 1))]
        >>> tiny, quiet = SegmentationSettings(canonical_side=48, epochs=(1,), lr=(0.1,)), {"progress": False}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(nn.Conv2d(3, 2, 1), scenes, settings=tiny, output=folder, **quiet)
        ...     figure5(run).name
        'figure5.html'
    """
    settings = settings_as(run, SegmentationSettings)
    networks = {"before": (Training(), 0), "after": (Training(mix="defocus"), settings.seeds[0])}
    right = []
    for training, seed in networks.values():
        pixels = run.report(training, seed, [((), STRONG)])[STRONG].images
        assert isinstance(pixels, PixelCounts)
        right.append(pixel_accuracy(pixels.matrix))
        ids = pixels.ids.tolist()
    gained = np.nan_to_num(right[1] - right[0], nan=-1.0)
    places = positions(run)
    place = pick_device(run.running["device"])
    plan = Protocol(
        measure="geometric",
        canonical_side=settings.canonical_side,
        network_side=settings.network_side,
        network_size=settings.network_size,
    )
    rows: list[dict[str, np.ndarray]] = []
    built = {role: run.network(training, seed) for role, (training, seed) in networks.items()}
    for number in np.argsort(-gained, kind="stable")[:count].tolist():
        image, mask = run.validation.load(places[ids[number]])
        row = {"image": np.asarray(image), "truth": mask}
        blurs = ("sharp", STRONG)
        made = evaluation_views(image, list(map(parse, blurs)), protocol=plan, crops="dense")
        for blur, views in zip(blurs, made.values(), strict=True):
            for role, network in built.items():
                with eval_mode(network, place) as there:
                    labels, _ = predicted(network, views, mask.shape, run.colours, there)
                row[f"{blur}, {role}"] = labels[0].astype(np.uint8)
        canonical = to_canonical(image, plan.canonical_side, measure=plan.measure)
        row["image blurred"] = blurred(canonical, parse(STRONG))
        order = ["image", "truth", "sharp, before", "sharp, after", "image blurred"]
        rows.append({name: row[name] for name in (*order, f"{STRONG}, before", f"{STRONG}, after")})
    text = f"The scenes whose pixel accuracy under {STRONG} gains most by fine-tuning."
    section = Section(title="Sharp and blurred", text=text, parts=[segmentation_figure(rows, names=names)])
    return figure_page(run, "figure5", "Segmentation under blur", [section])
