"""albumentations and AlbumentationsX, by one class: both import as `albumentations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from albumentations import ImageOnlyTransform

from ..blurs import Blur, cached_kernel
from ..functional import Outside, blur
from ..mixes import BlurMixSampler
from ..transforms import BlurTransform
from ._indices import INDICES


class AlbumentationsBlur(ImageOnlyTransform):  # type: ignore[misc]  # mypy does not follow albumentations
    """Blur as a transform of albumentations or AlbumentationsX.

    Args:
        mix: what :class:`blurlib.BlurMixSampler` takes: "0.5 sharp + 0.5 D4", `Disk(4)`, ``DiskBlur((1, 8))``
            for a random radius, or a mapping from such to shares.
        border: see :func:`blurlib.blur`.
        p: probability that a call blurs at all.

    Example:
        >>> import albumentations
        >>> pipeline = albumentations.Compose([AlbumentationsBlur("D4", p=1.0)], seed=0)
        >>> pipeline(image=np.zeros((48, 64, 3), np.uint8))["image"].shape
        (48, 64, 3)
    """

    def __init__(
        self,
        mix: str | Blur | BlurTransform | Mapping[Any, float],
        *,
        border: Outside = "reflect",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.sampler = BlurMixSampler(mix, border=border)
        self.mix, self.border = mix, border

    def get_params(self) -> dict[str, Any]:
        """Draw a number, by the pipeline's own generator (albumentations' hook)."""
        return {"index": self.py_random.randrange(INDICES)}

    def apply(self, img: np.ndarray, *args: Any, index: int = 0, **params: Any) -> np.ndarray:
        """Blur an image (albumentations' hook)."""
        del args, params
        return blur(img, cached_kernel(self.sampler.draw(index)), border=self.border)
