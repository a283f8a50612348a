"""What share of a folder's pictures is blurred beyond what a network stands."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._common.pictures import image_paths, open_image
from .._gauge import gauge

if TYPE_CHECKING:
    from ._result import Tolerance


@dataclass(frozen=True, kw_only=True)
class BlurShare:
    """Pictures beyond and within a tolerance, by what :func:`blurlib.gauge` finds; `print` counts them.

    Attributes:
        beyond: paths below the folder, of pictures whose blur is larger than the network stands.
        within: of the others, sharp ones among them.
        unknown: of pictures that are too smooth to tell or cannot be read, or whose kind of blur was not
            measured.

    Example:
        >>> found = BlurShare(beyond=("a.jpg",), within=("b.jpg", "c.jpg", "d.jpg"), unknown=())
        >>> found.share, str(found)
        (0.25, '1 of 4 pictures beyond the tolerance, 0 unknown')
    """

    beyond: tuple[str, ...]
    within: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """Of those beyond among those that are known; None where there are none."""
        known = len(self.beyond) + len(self.within)
        return len(self.beyond) / known if known else None

    def __str__(self) -> str:
        known = len(self.beyond) + len(self.within)
        return f"{len(self.beyond)} of {known} pictures beyond the tolerance, {len(self.unknown)} unknown"


def share_of(tolerance: Tolerance, folder: str | os.PathLike[str]) -> BlurShare:
    """Gauge every picture of a folder, at any depth."""
    root = os.fspath(folder)
    if not os.path.isdir(root):  # noqa: PTH112  text, as image_paths takes it
        raise FileNotFoundError(f"`folder` must be a folder of pictures, there is none at {root!r}")
    limits = {each.kind: each.largest if each.size is None else each.size for each in tolerance.kinds}
    if "defocus" in limits:
        limits.setdefault("gaussian", limits["defocus"] / 2)  # whose variance is the same
    found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for name in image_paths(root):
        found[_is_beyond(tolerance, limits, Path(root) / name)].append(name)
    if not any(found.values()):
        raise ValueError(f"`folder` must hold pictures, got none in {root!r}; name another folder")
    return BlurShare(beyond=tuple(found[True]), within=tuple(found[False]), unknown=tuple(found[None]))


def _is_beyond(tolerance: Tolerance, limits: Mapping[str, float], path: Path) -> bool | None:
    try:
        with warnings.catch_warnings(), open_image(path) as image:
            warnings.simplefilter("ignore")  # on size and broken metadata: pictures count as they decode
            found = gauge(image)
    except (OSError, SyntaxError, TypeError, ValueError):  # of a file that is damaged, or no photograph
        return None
    if found.kind == "sharp":
        return False
    if found.size_in_image is None or found.kind not in limits:
        return None
    width, height = found.image_size
    side = math.sqrt(width * height) if tolerance.task == "segmentation" else min(width, height)
    return found.size_in_image * tolerance.canonical_side / side > limits[found.kind]
