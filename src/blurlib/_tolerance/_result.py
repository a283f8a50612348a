"""The result: for each kind of blur the size that a network stands, with the curve that it was read from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._common.files import json_path, read_plain, sealed_json, written
from .._common.provenance import jsonable, network_name
from .._common.texts import visible
from ..metrics import Metric, Statistics, averaged, interval, statistics_of
from ..reporting import Report, percent, plain_table
from ._camera import Camera
from ._curves import crossings, falling_curve
from ._ladders import LADDERS, measured
from ._share import BlurShare, share_of

FILE = "tolerance.json"
"""The name of a result in its folder."""

_FORMAT = "blurlib.Tolerance"
_NO_WORDS = "-"  # a camera has none for this kind
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class KindTolerance:
    """How much of one kind of blur a network stands.

    Attributes:
        kind: "defocus", "motion", "shake" or "gaussian".
        size: in px at the canonical side, the largest at which the metric keeps the target share of its sharp
            value; None where it still does at the largest size that was measured.
        interval: of the size, 90 %: its lower end is that of a one-sided 95 % interval. The upper end is None
            where it lies beyond the largest size; the lower one too where `size` and all resamples do.
        sizes: that were measured, in px, rising from 0, which is sharp.
        values: of the metric at these, as shares.
        bands: (low, high) of each value: 95 % intervals.

    Example:
        >>> one = KindTolerance(kind="defocus", size=2.5, interval=(2.0, 3.0), sizes=(0.0, 2.0, 4.0),
        ...                     values=(0.9, 0.88, 0.7), bands=((0.9, 0.9), (0.86, 0.9), (0.6, 0.8)))
        >>> one.text, round(one.at(3.0), 2)
        ('2.50 [2.00, 3.00]', 0.82)
    """

    kind: str
    size: float | None
    interval: tuple[float | None, float | None]
    sizes: tuple[float, ...]
    values: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]

    @property
    def largest(self) -> float:
        """The largest size that was measured."""
        return self.sizes[-1]

    @property
    def short(self) -> str:
        """The size, such as "2.50" or "at least 64"."""
        return f"at least {self.largest:g}" if self.size is None else f"{self.size:.2f}"

    @property
    def text(self) -> str:
        """The size with its interval, such as "2.50 [2.00, 3.00]" or "at least 64"."""
        if self.size is None:
            return self.short
        low, high = (f"> {self.largest:g}" if end is None else f"{end:.2f}" for end in self.interval)
        return f"{self.short} [{low}, {high}]"

    def at(self, size: float) -> float:
        """The metric at a size that may lie between those that were measured.

        Args:
            size: in px at the canonical side.

        Returns:
            The value of the curve.

        Raises:
            ValueError: if it lies beyond the largest size.
        """
        if not 0 <= size <= self.largest:
            raise ValueError(
                f"`size` must be from 0 to {self.largest:g} px, as measured of {self.kind}, got {size!r}"
            )
        return float(falling_curve(self.sizes, np.array([self.values]), np.array([size]))[0, 0])


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The result of :func:`blurlib.tolerance`; `print` shows it as a table.

    Attributes:
        kinds: one result a kind.
        target: share of the sharp metric that is kept.
        sharp: the metric on sharp images.
        count: of images.
        task: "classification" or "segmentation".
        settings: plain values, as a report has them: network, images, sizes, versions, and `views`, how many
            blurred views were measured.

    Example:
        >>> one = KindTolerance(kind="defocus", size=None, interval=(None, None), sizes=(0.0, 8.0),
        ...                     values=(0.9, 0.9), bands=((0.9, 0.9), (0.9, 0.9)))
        >>> print(Tolerance(kinds=(one,), target=0.95, sharp=0.9, count=50))
        kind          measure  px at 95 % of sharp top-1
        -------  ------------  -------------------------
        defocus  disk, radius                 at least 8
        <BLANKLINE>
        50 images, top-1 90.0 % sharp; px at a shorter side of 384 px; brackets: 90 % bootstrap intervals
    """

    kinds: tuple[KindTolerance, ...]
    target: float
    sharp: float
    count: int
    task: str = "classification"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_report(cls, report: Report, *, kinds: Sequence[str], target: float = 0.95) -> Tolerance:
        """What a report says that has sharp images and several sizes of each kind.

        Args:
            report: of :func:`blurlib.evaluate`, of one scale, under "sharp" and blurs such as "D2a" and "D4a"
                (defocus), "L8@any" (motion), "shake@17" (shake) or "G2" (Gaussian).
            kinds: which to read.
            target: share of the sharp metric that is kept.

        Returns:
            The sizes with intervals.

        Raises:
            ValueError: if the report lacks the statistics of its images, or sizes of a kind.
        """
        metric = report.statistics.metrics[0].name
        drawn = averaged({name: [_images(report, name)] for name in report.blurs}, resamples=_RESAMPLES)
        found = []
        for kind in kinds:
            curve = measured(report, kind)
            samples = np.stack([drawn[name].draws[metric] for name in curve.names], axis=1)
            low, high = interval(crossings(curve.sizes, samples, target * samples[:, 0]), level=0.9)
            found.append(
                KindTolerance(
                    kind=kind,
                    size=_finite(curve.crossing(target)),
                    interval=(_finite(low), _finite(high)),
                    sizes=tuple(curve.sizes),
                    values=tuple(curve.values),
                    bands=tuple(interval(column) for column in samples.T),
                )
            )
        return cls(
            kinds=tuple(found),
            target=target,
            sharp=getattr(report["sharp"], metric),
            count=report["sharp"].count,
            task=report.task,
            settings={**jsonable(report.settings), "blurs": list(report.blurs)},
        )

    def __getitem__(self, kind: str) -> KindTolerance:
        for each in self.kinds:
            if each.kind == kind:
                return each
        known = ", ".join(each.kind for each in self.kinds)
        raise KeyError(f"`kind` must be one of those measured, {known}, got {kind!r}")

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.caption}"

    @property
    def metric(self) -> Metric:
        """The metric whose share is kept: top-1 or mean IoU."""
        return statistics_of(self.task).metrics[0]

    @property
    def canonical_side(self) -> float:
        """The side of the images that sizes are in pixels of."""
        return float(self.settings.get("canonical_side", 384))

    @property
    def caption(self) -> str:
        """Network, images and what the numbers are."""
        side = "geometric mean of the sides" if self.task == "segmentation" else "shorter side"
        images = f"{self.count} images"
        images += f" of {self.settings['root']}" if "root" in self.settings else ""
        parts = [
            network_name(self.settings),
            images,
            f"{self.metric.title} {percent(self.sharp)} % sharp",
        ]
        notes = f"px at a {side} of {self.canonical_side:g} px; brackets: 90 % bootstrap intervals"
        return visible(f"{', '.join(part for part in parts if part)}; {notes}")

    def table(self, before: Tolerance | None = None, *, camera: Camera | None = None) -> str:
        """A line a kind: the size that the network stands.

        Args:
            before: of the network before fine-tuning; None for one network.
            camera: to say the sizes in its words too.

        Returns:
            Aligned text.

        Raises:
            ValueError: if `before` has another target, task or other kinds.
        """
        return plain_table(*self.cells(before, camera=camera))

    def cells(
        self, before: Tolerance | None = None, *, camera: Camera | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of :meth:`table`.

        Args:
            before: of the network before fine-tuning.
            camera: to say the sizes in its words too.

        Returns:
            The headings, and a list of texts for each kind.

        Raises:
            ValueError: if `before` has another target, task or other kinds.
        """
        if before is not None:
            self._check(before)
        title = f"px at {100 * self.target:.3g} % of sharp {self.metric.title}"
        header = ["kind", "measure", *([f"before: {title}", "after"] if before is not None else [title])]
        header += [] if camera is None else [f"at {camera}"]
        rows = []
        for each in self.kinds:
            sizes = [each.text] if before is None else [before[each.kind].text, each.text]
            words = [] if camera is None else [self._words(each, before, camera)]
            rows.append([each.kind, LADDERS[each.kind].measure, *sizes, *words])
        return header, rows

    def _words(self, each: KindTolerance, before: Tolerance | None, camera: Camera) -> str:
        now = words(each, camera, self.canonical_side)
        if before is None or now == _NO_WORDS:
            return now
        return f"{words(before[each.kind], camera, before.canonical_side)}; after {now}"

    def _check(self, before: Tolerance) -> None:
        for name in ("target", "task", "canonical_side"):
            if getattr(before, name) != getattr(self, name):
                raise ValueError(
                    f"`before` must have the {name} of the other, {getattr(self, name)!r}, got "
                    f"{getattr(before, name)!r}; measure both alike"
                )
        there = {each.kind for each in before.kinds}
        missing = [each.kind for each in self.kinds if each.kind not in there]
        if missing:
            raise ValueError(f"`before` must have measured {missing[0]} too, got {', '.join(sorted(there))}")

    def to_html(
        self, path: str | Path, *, before: Tolerance | None = None, camera: Camera | None = None
    ) -> Path:
        """Write a page: the sizes, the curves with bands and crossings, every setting.

        Args:
            path: the file; its folder is made.
            before: of the network before fine-tuning.
            camera: to say the sizes in its words too.

        Returns:
            The file.

        Raises:
            ValueError: if `before` has another target, task or other kinds, or `path` is a folder.
            ImportError: if the extra `report` is not installed.
        """
        from ._page import tolerance_page

        return tolerance_page(path, self, before=before, camera=camera)

    def share(self, folder: str | os.PathLike[str]) -> BlurShare:
        """Which pictures of a folder are blurred beyond the sizes, as :func:`blurlib.gauge` finds it.

        Where the Gaussian was not measured it counts as a disk of the same variance.

        Args:
            folder: of pictures, at any depth.

        Returns:
            Their paths, and the share.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if it holds no pictures.
        """
        return share_of(self, folder)

    def to_json(self, path: str | Path | None = None) -> str:
        """All numbers as JSON, which :meth:`load` reads.

        Args:
            path: where to write them too, a file or a folder; not written if None.

        Returns:
            The text.
        """
        plain = {"kind": _FORMAT, **asdict(self)}
        return written(sealed_json(json.loads(json.dumps(plain))), None if path is None else _file(path))

    @classmethod
    def load(cls, path: str | Path) -> Tolerance:
        """Read what :meth:`to_json` wrote.

        Args:
            path: the file, or its folder.

        Returns:
            An equal result.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is something else, or was changed.
        """

        def made(plain: dict[str, Any]) -> Tolerance:
            kinds = tuple(
                KindTolerance(
                    **{
                        **each,
                        **{name: tuple(each[name]) for name in ("interval", "sizes", "values")},
                        "bands": tuple((low, high) for low, high in each["bands"]),
                    }
                )
                for each in plain["kinds"]
            )
            rest = {name: plain[name] for name in ("target", "sharp", "count", "task", "settings")}
            return cls(kinds=kinds, **rest)

        return read_plain(_file(path), _FORMAT, made, by="Tolerance.to_json")[1]


def _images(report: Report, name: str) -> Statistics:
    images = report[name].images
    if images is None:
        raise ValueError(
            "`report` must have the values of its images, got none; load it with its .npz beside it"
        )
    return images


def _finite(size: float) -> float | None:
    return None if size == np.inf else size


def _file(path: str | Path) -> Path:
    place = Path(path)
    return place / FILE if place.is_dir() else json_path(place)


def words(each: KindTolerance, camera: Camera, canonical_side: float) -> str:
    """A size in the words of a camera, such as "0.40 m/s, 11 °/s"."""
    size, least = (each.largest, "at least ") if each.size is None else (each.size, "")
    if each.kind == "motion":
        speed = camera.speed(size, canonical_side=canonical_side)
        rotation = camera.rotation(size, canonical_side=canonical_side)
        return f"{least}{_two_digits(speed)} m/s, {_two_digits(rotation)} °/s"
    if each.kind == "defocus" and camera.focal_mm is not None:
        near, far = camera.depth(size, canonical_side=canonical_side)
        return f"{least}{near:.3g} m to {'infinity' if math.isinf(far) else f'{far:.3g} m'}"
    return _NO_WORDS


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
