"""tolerance(): the largest blur at which a network keeps a share of its sharp accuracy."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .._common.checks import check_number, one_of
from .._tasks import Root
from ..data import open_images, open_masks
from ..evaluation import evaluate
from ..metrics import interval
from ..reporting import Report, percent
from ._ladders import LADDERS, Measured, measured
from ._result import FILE, Tolerance

_PILOT = 200  # images that find about where each curve crosses its target
_ROUNDS = 3  # of sizes added on all images
_CLOSE = 0.07  # of a crossing: no closer are the sizes next to it brought
_LEAST = 10  # images
_RESAMPLES = 2000


def tolerance(
    model: nn.Module,
    root: Root,
    *,
    target: float = 0.95,
    kinds: str | Sequence[str] = ("defocus", "motion", "shake"),
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Tolerance:
    """Measure how much blur a network stands: for each kind the largest size at which it keeps its accuracy.

    A falling curve (isotonic regression, then monotone cubic interpolation) is laid through the accuracy at a
    ladder of sizes; it crosses `target` times the sharp accuracy at the size. Sizes are in pixels at the
    canonical side, 384 px: of defocus the radius of an antialiased disk, of motion the length of a line at
    each image's own angle, of shake the side of the kernel. Up to 200 images find about where each curve
    crosses. The sizes around that are measured on all images in one pass, which decodes each image once;
    further ones only where the crossing lies elsewhere.

    Args:
        model: see :func:`blurlib.evaluate`.
        root: see :func:`blurlib.evaluate`.
        target: share of the sharp top-1 accuracy, or of the mean IoU, that is kept; above 0 and below 1.
        kinds: of "defocus", "motion", "shake" and "gaussian".
        output: a folder for tolerance.json and for the reports that it was made of, with which a stopped
            measurement goes on.
        overwrite: write over what another measurement left in `output`.
        **settings: of the evaluation, such as `task`, `limit`, `scales`, `crops`, `workers` or `device`; see
            :func:`blurlib.evaluate`.

    Returns:
        The sizes with intervals: bootstrap over images, which covers other images of this kind, not another
        network.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a value is out of its range, a kind is unknown, there are fewer than 10 images, the
            network is no better than chance on sharp images, or chance reaches the target; and what
            :func:`blurlib.evaluate` raises, as where `output` holds another measurement.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> class Edges(nn.Module):  # sees stripes as long as they have not been blurred away
        ...     def forward(self, images):
        ...         contrast = images.mean(1).diff(dim=-1).abs().mean((1, 2))
        ...         return torch.stack([0.3 - contrast, contrast - 0.3], dim=1)
        >>> stripes = Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 4), (64, 8)))
        >>> photos = [(stripes if i % 2 else Image.new("L", (64, 64), 9 * i), i % 2) for i in range(12)]
        >>> found = tolerance(Edges(), photos, kinds="defocus", canonical_side=64, scales=64, crop=64,
        ...                   device="cpu", progress=False)
        >>> found["defocus"].size < 4
        True
    """
    check_number("target", target, low=1e-6, high=1 - 1e-6, unit="times the sharp accuracy")
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in wanted:
        one_of("kinds", kind, LADDERS)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"`kinds` must name at least one kind, each once, got {kinds!r}")
    if "blurs" in settings:
        raise TypeError(f"`blurs` must be left out, got {settings['blurs']!r}; `kinds` chooses them")
    run = _Run(model, root, settings, None if output is None else Path(output), overwrite=overwrite)
    pilot = run.report("pilot", {kind: LADDERS[kind].sizes for kind in wanted}, limit=_PILOT)
    _check(pilot, target)
    report = run.report("sizes", {kind: _around(measured(pilot, kind), target) for kind in wanted})
    _check(report, target)
    for number in range(_ROUNDS):
        more = {kind: _missing(measured(report, kind), target) for kind in wanted}
        if not any(more.values()):
            break
        further = run.report(f"sizes-{number + 2}", more, sharp=False)
        report = replace(report, records=(*report.records, *further.records))
    found = Tolerance.from_report(report, kinds=wanted, target=target)
    found = replace(found, settings={**found.settings, "views": run.views})
    if output is not None:
        found.to_json(Path(output) / FILE)
    return found


class _Run:
    """Evaluations of one network on one listing."""

    def __init__(
        self,
        model: nn.Module,
        root: Any,
        settings: Mapping[str, Any],
        output: Path | None,
        *,
        overwrite: bool,
    ) -> None:
        self.model, self.output, self.overwrite = model, output, overwrite
        opener = open_masks if settings.get("task") == "segmentation" else open_images
        asked = {name: settings[name] for name in inspect.signature(opener).parameters if name in settings}
        self.listing = opener(root, split="val", **asked)  # once: a stream can be read but once
        own = ("limit", "columns", "ignore_index", "reduce_zero_label")  # the listing has them
        self.settings = {name: value for name, value in settings.items() if name not in own}
        self.views = 0
        if len(self.listing) < _LEAST:
            raise ValueError(
                f"`root` must have at least {_LEAST} images for an interval, got {len(self.listing)}"
            )

    def report(
        self,
        name: str,
        sizes: Mapping[str, Sequence[float]],
        *,
        limit: int | None = None,
        sharp: bool = True,
    ) -> Report:
        """Measure blurs of these sizes."""
        blurs = [LADDERS[kind].blur(size) for kind, every in sizes.items() for size in every]
        report = evaluate(
            self.model,
            self.listing,
            blurs=["sharp", *blurs] if sharp else blurs,
            limit=limit,
            output=None if self.output is None else self.output / name,
            overwrite=self.overwrite,
            **self.settings,
        )
        scales = {record.sides for record in report.records}
        if len(scales) > 1:
            raise ValueError(f"`scales` must be one setting, got {len(scales)}; measure each for itself")
        self.views += len(report.records) * report.records[0].count
        return report


def _around(pilot: Measured, target: float) -> list[float]:
    """The ladder up to twice the crossing of the pilot, and sizes between the two next to it."""
    coarse, at = pilot.ladder.sizes, pilot.crossing(target)
    above = next((number for number, size in enumerate(coarse) if size > at), len(coarse) - 1)
    low = coarse[above - 1] if above else 0.0
    return sorted({*coarse[: above + 2], *pilot.ladder.between(low, coarse[above])})


def _missing(curve: Measured, target: float) -> list[float]:
    """Sizes that bring those next to the crossing closer together, where they are far apart."""
    sizes, at = curve.sizes, curve.crossing(target)
    if at == np.inf:
        return [size for size in curve.ladder.sizes if size > sizes[-1]][:2]
    above = next(number for number, size in enumerate(sizes) if size >= at)
    low, high = sizes[max(above - 1, 0)], sizes[above]
    if high - low <= max(_CLOSE * high, curve.ladder.step):
        return []
    return curve.ladder.between(low, high)


def _check(report: Report, target: float) -> None:
    """Refuse a network for which the target says nothing."""
    sharp = report["sharp"]
    assert sharp.images is not None
    metric = report.statistics.metrics[0]
    value, chance = getattr(sharp, metric.name), sharp.images.chance
    draws = sharp.images.samples(resamples=_RESAMPLES)[metric.name]
    if value is None or not interval(draws, level=0.9)[0] > chance:
        raise ValueError(
            f"`model` must be better than chance on sharp images, {metric.title} {percent(chance)} %, got "
            f"{percent(value or 0.0)} % of {sharp.count} images; look at the labels, `mean` and `std`"
        )
    if target * value <= chance:
        raise ValueError(
            f"`target` must be above {chance / value:.2f}, where {metric.title} is that of chance, "
            f"{percent(chance)} %, got {target:g}; raise it"
        )
