"""kornia: an augmentation with one blur for each image of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ..blurs import Blur
from ..functional import Outside, blur
from ..mixes import BlurMixSampler
from ..transforms import BlurTransform
from ._indices import INDICES


class KorniaBlur(IntensityAugmentationBase2D):  # type: ignore[misc]  # mypy does not follow kornia
    """Blur each image of a batch by a blur of its own, as an augmentation of kornia.

    Used alone or in `AugmentationSequential`, `ImageSequential` and `VideoSequential`; masks, boxes and
    key points pass through. `_params["index"]` holds a number for each image, and ``mix.draw(number)`` is
    its blur: ``augmentation(images, params=augmentation._params)`` replays them. torch's generator of the
    CPU draws; images stay on their device.

    Args:
        mix: what :class:`blurlib.BlurMixSampler` takes: "0.5 sharp + 0.5 D4", `Disk(4)`, ``DiskBlur((1, 8))``
            for a random radius, or a mapping from such to shares.
        border: see :func:`blurlib.blur`.
        same_on_batch: one blur for all images of a call.
        p: probability that an image is blurred at all.
        keepdim: return (C, H, W) for an image (C, H, W), not (1, C, H, W).

    Raises:
        TypeError: if `mix` is none of these.
        ValueError: if a blur or the border is unknown, or the shares do not sum to 1.

    Example:
        >>> defocus = KorniaBlur("D2 + D4 + D8", p=1.0)
        >>> defocus(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        mix: str | Blur | BlurTransform | Mapping[Any, float],
        *,
        border: Outside = "reflect",
        same_on_batch: bool = False,
        p: float = 0.5,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self.mix = BlurMixSampler(mix, border=border)
        self.flags = {"mix": str(self.mix), "border": border}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw a number for each image (kornia's hook)."""
        count = batch_shape[0]
        index = torch.randint(INDICES, (1 if self.same_on_batch else count,))
        return {"index": index.expand(count)}

    def apply_transform(
        self,
        input: Tensor,  # noqa: A002  kornia's name
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Blur the images (kornia's hook)."""
        del flags, transform
        if input.shape[-1] <= 4 < min(input.shape[-3:-1]):
            raise ValueError(
                f"`input` must be (B, C, H, W), got shape {tuple(input.shape)}, which looks like "
                "(B, H, W, C); use input.permute(0, 3, 1, 2)"
            )
        kernels = _kernels(self.mix, params["index"])
        return blur(input, kernels.to(input.device), border=self.mix.border)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's
def _kernels(mix: BlurMixSampler, index: Tensor) -> Tensor:
    """The kernels, which a compiler cannot follow."""
    return mix.kernels(index)
