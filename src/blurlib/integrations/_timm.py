"""timm: a blur at the right place of what `create_transform` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torchvision.transforms import Compose

from ..blurs import Blur, cached_kernel
from ..functional import Outside
from ..mixes import BlurMixSampler
from ..transforms import BlurTransform
from ._indices import INDICES

# What makes a tensor of an image, in timm and in torchvision. By name: timm itself need not be there.
_TO_TENSOR = ("MaybePILToTensor", "MaybeToTensor", "PILToTensor", "ToImage", "ToNumpy", "ToTensor")


class _MixBlur(BlurTransform):
    """One blur a call, drawn from a mix by torch's generator."""

    def __init__(self, mix: BlurMixSampler) -> None:
        super().__init__(mix.border)
        self.mix = mix

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        del flat_inputs
        index = int(torch.randint(INDICES, ()))
        return {"kernel": cached_kernel(self.mix.draw(index))}


def insert_blur(
    transform: Any, mix: str | Blur | BlurTransform | Mapping[Any, float], *, border: Outside = "reflect"
) -> Any:
    """Insert a blur into a transform of timm: after cropping, flips and colours, before the tensor.

    There the image has the network's size and is one of bytes, whatever follows: `ToTensor` and `Normalize`,
    random erasing, or the prefetcher's normalisation on the GPU.

    Args:
        transform: what `timm.data.create_transform` returns: a `Compose`, or with ``separate=True`` three of
            them, of which the second gets the blur.
        mix: what :class:`blurlib.BlurMixSampler` takes: "0.5 sharp + 0.5 D4", `Disk(4)`, ``DiskBlur((1, 8))``
            for a random radius, or a mapping from such to shares. torch's generator draws, one blur an image.
        border: see :func:`blurlib.blur`.

    Returns:
        A transform of the same form, with the blur; the one given is not changed.

    Raises:
        TypeError: if `transform` or `mix` is none of these.
        ValueError: if no step of `transform` makes a tensor, a blur or the border is unknown, or the shares
            do not sum to 1.

    Example:
        >>> from torchvision.transforms import CenterCrop, Compose, ToTensor
        >>> insert_blur(Compose([CenterCrop(224), ToTensor()]), "0.5 sharp + 0.5 D4")
        Compose(
            CenterCrop(size=(224, 224))
            _MixBlur(mix=sharp + D4, border=reflect)
            ToTensor()
        )
    """
    blur = _MixBlur(BlurMixSampler(mix, border=border))
    if isinstance(transform, tuple) and len(transform) == 3:
        primary, secondary, final = transform
        return primary, Compose([*_steps(secondary), blur]), final
    steps = _steps(transform)
    names = [type(step).__name__ for step in steps]
    found = [place for place, name in enumerate(names) if name in _TO_TENSOR]
    if not found:
        raise ValueError(
            f"`transform` must have a step that makes a tensor, such as ToTensor, got {', '.join(names)}; "
            "put the blur where it belongs by hand: Compose([..., blurlib.DiskBlur((1, 8)), ...])"
        )
    return Compose([*steps[: found[0]], blur, *steps[found[0] :]])


def _steps(transform: Any) -> list[Any]:
    if not isinstance(getattr(transform, "transforms", None), list):
        raise TypeError(
            "`transform` must be what timm.data.create_transform returns, a Compose or three of them, got "
            f"{type(transform).__name__}; without tf_preprocessing=True, which has steps of its own"
        )
    return list(transform.transforms)
