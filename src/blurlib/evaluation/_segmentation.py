"""How a segmentation network does on sharp and blurred images (the paper, section 5).

Images go to a geometric mean side of 384 px, are blurred, rounded to 8 bits and brought to the network's
size; logits are interpolated to the size of the label image, which is never touched, and judged there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .._common.checks import check_integer
from .._common.devices import pick_device, pick_workers
from .._common.distributed import Team, joined, neighbours
from .._common.files import keep_report, output_folder
from .._common.model_config import ignored_config
from .._common.progress import progress_bar
from .._common.provenance import check_replaceable, circumstances, with_metadata
from ..blurs import Blur, OwnShake, own_shake
from ..data import MaskRoot, OnError, Skipped, check_masks, open_masks, warn_of_void
from ..metrics import VOID, PixelCounts, boundary_band, boundary_counts, confusion_matrix
from ..models import evaluating, pixel_logits
from ..notation import parse_list
from ..protocol import (
    Resample,
    SegmentationProtocol,
    normalisation,
    normalisation_source,
    normalised,
    segmentation_view,
)
from ..reporting import Record, Report

PAPER_BLURS = "sharp, D2, D4, D6, D8"
"""The conditions of the paper's table 6, in its order."""

BOUNDARY_RATIO = 0.02  # of the diagonal: Boundary IoU as its authors take it
_SAVE_EVERY = 300.0  # seconds between two writings of a partial report


def evaluate_segmentation(
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | MaskRoot,
    *,
    blurs: str | Blur | Iterable[str | Blur] = PAPER_BLURS,
    scales: int | Sequence[int] | None = None,
    network_size: tuple[int, int] | None = None,
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    band: int = 4,
    limit: int | None = None,
    on_error: OnError = "raise",
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    distributed: bool = False,
    progress: bool = True,
) -> Report:
    """Measure a segmentation network on the validation images under several blurs.

    :func:`blurlib.evaluate` with ``task="segmentation"`` does the same.

    Args:
        model: from (B, 3, H, W) to logits (B, classes, h, w), or to a mapping with these as "out".
        root: a folder in Pascal VOC's layout, or a dataset of (PIL image, mask); see
            :func:`blurlib.data.open_masks`. 255 is void.
        blurs: short names or blurs; those of the paper's table 6 by default.
        scales: network sides, the geometric mean in px, each a setting of its own; None takes the canonical
            side.
        network_size: (height, width) in px that every image is brought to instead, whatever its aspect.
        canonical_side: geometric mean of the sides in px at which blurs are defined.
        resample: filter of the image's resizings, antialiased.
        mean: of the colours, three values in [0, 1]; None takes the model's own (timm), else ImageNet's.
        std: of the colours, likewise.
        band: pixels at most this far from a class boundary are judged once more by themselves, in px of the
            label image; see :func:`blurlib.metrics.boundary_band`.
        limit: take a seeded random subset of this many images.
        on_error: "raise" at a broken image or mask, or "skip" it, count it in the records and list it in the
            settings.
        batch_size: blurred versions of an image shown to the network at once.
        workers: loader processes; None chooses. No result depends on it.
        device: where the network runs; None takes an accelerator if there is one.
        seed: of `limit` and of the images' own shakes.
        output: a folder for report.json, .npz, .csv and .md. An evaluation that stops early leaves what it
            has measured there as partial.json and partial.npz. A report of another evaluation is not written
            over.
        overwrite: write over whatever report is there.
        metadata: plain values for the report's settings, see :func:`blurlib.evaluate`.
        distributed: share the images out over the processes that torchrun started; all must call this.
        progress: show a progress bar.

    Returns:
        The report, one record a condition.

    Raises:
        TypeError: if an argument is of the wrong kind, or the network does not return logits of pixels.
        ValueError: if a value is out of its range, a blur is unknown, an image or mask is broken (under
            "raise"), a label is none of the network's classes, or its outputs are not finite.
        FileNotFoundError: if the folder or the list of its images is missing.

    Example:
        >>> network = nn.Conv2d(3, 2, 1)
        >>> photos = [(Image.new("RGB", (40, 30), "red"), Image.new("L", (40, 30), 1))]
        >>> report = evaluate_segmentation(
        ...     network, photos, blurs="sharp, D4", canonical_side=48, device="cpu", progress=False
        ... )
        >>> report["D4"].count, report.blurs
        (1, ('sharp', 'D4'))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    chosen = parse_list(blurs)
    if scales is not None and not isinstance(scales, int) and any(type(side) is not int for side in scales):
        raise TypeError(
            f"`scales` must be network sides in px for segmentation, such as (256, 384), got {scales!r}; "
            "several scales are not averaged"
        )
    if isinstance(scales, Sequence) and (not scales or len(set(scales)) < len(scales)):
        raise ValueError(f"`scales` must name different sides, at least one, got {scales!r}")
    plan = SegmentationProtocol(
        canonical_side=canonical_side,
        network_side=tuple(scales) if isinstance(scales, Sequence) else scales,
        network_size=network_size,
        resample=resample,
    )
    check_integer("batch_size", batch_size, low=1, high=2**31)
    check_integer("band", band, low=1, high=1000)
    place = pick_device(device)
    colours = normalisation(model, mean, std)
    listing = open_masks(root, split="val", limit=limit, seed=seed, on_error=on_error)
    settings = {
        "task": "segmentation",
        "blurs": [str(blur) for blur in chosen],
        "canonical_side": plan.canonical_side,
        "network_sides": None if network_size else list(plan.network_sides),
        "network_size": None if plan.network_size is None else list(plan.network_size),
        "resample": resample,
        "border": plan.border,
        "band": band,
        "boundary_ratio": BOUNDARY_RATIO,
        "mean": list(colours[0]),
        "std": list(colours[1]),
        "normalisation": normalisation_source(model, mean, std),
        **ignored_config(model, resample=resample),
        "limit": limit,
        "on_error": on_error,
        "seed": seed,
        "root": f"{listing.name}/val" if isinstance(root, (str, os.PathLike)) else listing.name,
        "listing": listing.digest(),
        **circumstances(model, place),
    }
    settings = with_metadata(settings, metadata)
    if output is not None:
        check_replaceable(Path(output), settings, overwrite=overwrite)
    with joined(place, together=distributed) as team:
        team.wait()  # nobody writes before everybody has looked
        positions = range(team.rank, len(listing), team.world)
        processes = pick_workers(workers, len(positions), world=neighbours() if distributed else 1)
        check_masks(listing, workers=processes)
        folder = None if output is None else output_folder(output)
        tally = _Tally(listing, chosen, plan, band)
        loader: DataLoader[Any] = DataLoader(
            _Scenes(listing, chosen, plan, seed),
            batch_size=None,
            sampler=positions,
            num_workers=processes,
            generator=torch.Generator(),  # its own, so that the user's random numbers stay where they were
        )
        keeping = folder if team.rank == 0 else None
        saved = time.monotonic()
        try:
            with (
                evaluating(model, place) as there,
                progress_bar(
                    loader,
                    title="evaluate",
                    unit="image",
                    show=progress and team.rank == 0,
                    whole=len(listing),
                ) as items,
            ):
                for item in items:
                    if isinstance(item, Exception):
                        raise item
                    if isinstance(item, Skipped):
                        tally.skipped.append(item)
                        continue
                    shown = [
                        predicted(model, views, item.mask.shape, colours, there, batch_size=batch_size)
                        for views in item.views
                    ]
                    tally.add(item, shown)  # at once: an image is counted whole or not at all
                    if keeping and time.monotonic() - saved > _SAVE_EVERY:
                        tally.report(settings, complete=False).save(keeping / "partial.json")
                        saved = time.monotonic()
        except BaseException:
            if keeping and tally.labelled:
                tally.report(settings, complete=False).save(keeping / "partial.json")
            raise
        tally.merge(team)
        report = tally.report(settings, complete=True)
        if team.rank == 0:
            warn_of_void(report.settings["void_share"])
        if keeping:
            keep_report(report, keeping)
        team.wait()  # nobody reads before it is written
    return report


def predicted(
    model: nn.Module,
    views: Tensor,
    size: Sequence[int],
    colours: tuple[Sequence[float], Sequence[float]],
    device: torch.device,
    *,
    batch_size: int = 8,
) -> tuple[np.ndarray, int]:
    """The most probable class of every pixel of a label image, and how many classes there are.

    Args:
        model: the network, in evaluation mode on the device.
        views: (B, 3, h, w) uint8, as the network sees the image.
        size: (height, width) of the label image, to which logits are interpolated.
        colours: mean and standard deviation of the network's input.
        device: where it runs.
        batch_size: how many views it sees at once.

    Returns:
        (B, height, width) int64, and the number of the network's classes.

    Raises:
        TypeError: if the network does not return logits of pixels.
        ValueError: if they are not finite, or it cannot take the size.

    Example:
        >>> views = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> colours = ((0.5,) * 3, (0.5,) * 3)
        >>> labels, classes = predicted(nn.Conv2d(3, 4, 1), views, (16, 12), colours, torch.device("cpu"))
        >>> labels.shape, classes
        ((2, 16, 12), 4)
    """
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    found, classes = [], 0
    with torch.inference_mode():
        for start in range(0, len(views), batch_size):
            part = views[start : start + batch_size]
            batch = normalised(part.to(device), *map(tuple, colours)).to(kind)
            logits = pixel_logits(model(batch), size)
            if not bool(torch.isfinite(logits).all()):
                raise ValueError(
                    "`model` must give finite scores, got NaN or infinity; check its weights, `mean`, `std`"
                )
            classes = logits.shape[1]
            found.append(logits.argmax(dim=1).cpu().numpy())
    return np.concatenate(found), classes


class _Scene(NamedTuple):
    """One image: its mask, and for each network side the uint8 views (blurs, 3, h, w)."""

    position: int
    mask: Tensor  # (H, W) uint8
    views: list[Tensor]


class _Scenes(Dataset[Any]):
    """Every view of one image, made in a loader process."""

    def __init__(
        self, listing: MaskRoot, blurs: Sequence[Blur], plan: SegmentationProtocol, seed: int
    ) -> None:
        self.listing, self.blurs, self.plan, self.seed = listing, blurs, plan, seed

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, position: int) -> _Scene | Skipped | Exception:
        index = int(self.listing.index[position])
        blurs = [own_shake(index, seed=self.seed) if isinstance(b, OwnShake) else b for b in self.blurs]

        def make(image: Image.Image, mask: np.ndarray) -> _Scene:
            views = [
                torch.stack(
                    [segmentation_view(image, blur, protocol=self.plan, network_side=side) for blur in blurs]
                )
                for side in self.plan.network_sides
            ]
            return _Scene(position, torch.from_numpy(mask.copy()), views)

        try:
            return self.listing.view(position, make)
        except (FileNotFoundError, TypeError, ValueError) as error:
            # Handed over whole: raised in a worker it would arrive wrapped in the worker's own traceback.
            return error


class _Tally:
    """The counts of the images judged so far, by position: all conditions of one at once."""

    def __init__(
        self, listing: MaskRoot, blurs: Sequence[Blur], plan: SegmentationProtocol, band: int
    ) -> None:
        self.listing, self.band = listing, band
        sides = [(side,) for side in plan.network_sides] if plan.network_size is None else [plan.network_size]
        self.conditions = [(str(blur), side) for side in sides for blur in blurs]
        self.skipped: list[Skipped] = []
        self.pixels = self.void = 0  # of all masks
        self._counts: dict[int, tuple[np.ndarray, ...]] = {}

    @property
    def labelled(self) -> bool:
        """Whether there is anything to report."""
        return any(matrix.any() for matrix, _, _ in self._counts.values())

    def add(self, scene: _Scene, shown: Sequence[tuple[np.ndarray, int]]) -> None:
        """Judge one image: for each network side (blurs, H, W) predicted classes, and how many there are."""
        truth, classes = scene.mask.numpy(), shown[0][1]
        near = boundary_band(truth, width=self.band)
        try:
            counts = [
                (
                    confusion_matrix(truth, found, classes=classes),
                    confusion_matrix(truth, found, classes=classes, where=near),
                    boundary_counts(truth, found, classes=classes, ratio=BOUNDARY_RATIO),
                )
                for labels, _ in shown
                for found in labels
            ]
        except ValueError as error:
            name = self.listing.id(scene.position)
            raise ValueError(
                f"`root` must have labels from 0 to {classes - 1}, one for each output of `model`, or 255 "
                f"for void; the mask of {name!r} has others ({error})"
            ) from error
        self.pixels += truth.size
        self.void += int((truth == VOID).sum())
        self._counts[scene.position] = tuple(np.stack(part) for part in zip(*counts, strict=True))

    def merge(self, team: Team) -> None:
        """Unite what the processes have seen."""
        if team.world == 1:
            return
        every: list[Any] = team.gather((self._counts, self.skipped, self.pixels, self.void))
        self._counts = {position: found for counts, *_ in every for position, found in counts.items()}
        self.pixels, self.void = (sum(part[which] for part in every) for which in (2, 3))
        skipped = {item.name: item for _, items, *_ in every for item in items}
        names = (self.listing.id(position) for position in range(len(self.listing)) if skipped)
        self.skipped = [skipped[name] for name in names if name in skipped]

    def report(self, settings: dict[str, Any], *, complete: bool) -> Report:
        """The report of the images judged so far."""
        if not self._counts:
            first = self.skipped[0]
            raise ValueError(
                f"`root` must hold an image that can be read, all {len(self.skipped)} were skipped; the "
                f"first: {first.reason}"
            )
        positions = sorted(self._counts)
        ids = np.array([self.listing.id(position) for position in positions], dtype=np.str_)
        stacked = [np.stack([self._counts[position][part] for position in positions]) for part in range(3)]
        records = tuple(
            Record.of(
                PixelCounts(
                    ids=ids,
                    matrix=stacked[0][:, number],
                    band=stacked[1][:, number],
                    regions=stacked[2][:, number],
                ),
                blur=blur,
                sides=sides,
                skipped=len(self.skipped),
            )
            for number, (blur, sides) in enumerate(self.conditions)
        )
        known = {
            "classes": stacked[0].shape[-1],
            "skipped": [skipped.name for skipped in self.skipped],
            "void_share": self.void / self.pixels,
            "complete": complete,
        }
        return Report(records=records, settings={**settings, **known})
