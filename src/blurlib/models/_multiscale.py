"""Networks that are applied at several scales, or one a scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import nn

from .._common.checks import check_integer, one_of
from ..protocol import Average, Crops, crop_boxes, scaled_size
from ._dense import dense
from ._outputs import dense_log_probs


class Scales(nn.Module, ABC):
    """Base class of :class:`MultiScale` and :class:`PerScale`, which see an image at several scales.

    Called on images of one size it resizes them itself; :func:`blurlib.evaluate` shows it the protocol's own
    views of each side (8-bit, resized by Pillow) instead, and averages them in the same way.

    Args:
        sides: network sides in px.
        crops: "dense", "five" or "center".
        crop: side of the crops in px; where a side is smaller, that side. Not used by "dense".
        average: "crops" averages the log-probabilities of all crops of all scales, as the paper does,
            "scales" those of each scale first.

    Raises:
        TypeError: if `sides` are not whole numbers.
        ValueError: if `sides` is empty or a side is there twice, or a choice is unknown.

    Example:
        >>> isinstance(MultiScale(nn.Identity(), (256, 512), crops="center"), Scales)
        True
    """

    def __init__(
        self,
        sides: Sequence[int],
        *,
        crops: Crops = "dense",
        crop: int = 224,
        average: Average = "crops",
    ) -> None:
        super().__init__()
        self.sides = tuple(check_integer("sides", side, low=1, high=16384) for side in sides)
        if not self.sides or len(set(self.sides)) < len(self.sides):
            raise ValueError(f"`sides` must hold different sides in px, got {self.sides}")
        self.crops: Crops = one_of("crops", crops, get_args(Crops))
        self.crop = check_integer("crop", crop, low=1, high=16384)
        self.average: Average = one_of("average", average, get_args(Average))

    @abstractmethod
    def network(self, side: int) -> nn.Module:
        """The network for one of the sides.

        Args:
            side: one of `sides`.

        Returns:
            The network.
        """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Mean log-probabilities (B, C) of normalised images (B, 3, H, W).

        The shorter side is resized to each of the sides in turn, bilinear and antialiased.
        """
        sums: list[torch.Tensor] = []
        counts: list[int] = []
        for side in self.sides:
            seen = _resized(images, side)
            parts = [
                dense_log_probs(self.network(side), view) for view in _cropped(seen, self.crops, self.crop)
            ]
            sums.append(torch.stack([part.sum(dim=2) for part in parts]).sum(dim=0))
            counts.append(sum(part.shape[2] for part in parts))
        if self.average == "crops":
            return torch.stack(sums).sum(dim=0) / sum(counts)
        return torch.stack([total / count for total, count in zip(sums, counts, strict=True)]).mean(dim=0)

    def extra_repr(self) -> str:
        """What `print` shows."""
        crop = "" if self.crops == "dense" else f", crop={self.crop}"
        return f"sides={self.sides}, crops={self.crops!r}{crop}, average={self.average!r}"


def _resized(images: torch.Tensor, side: int) -> torch.Tensor:
    height, width = images.shape[-2:]
    columns, rows = scaled_size(width, height, side)
    if (rows, columns) == (height, width):
        return images
    return F.interpolate(images, size=(rows, columns), mode="bilinear", antialias=True, align_corners=False)


def _cropped(images: torch.Tensor, crops: Crops, crop: int) -> list[torch.Tensor]:
    if crops == "dense":
        return [images]
    boxes = crop_boxes(images.shape[-2], images.shape[-1], crop, mode=crops)
    return [images[..., top : top + size, left : left + size] for top, left, size in boxes]


class MultiScale(Scales):
    """One network at several scales (the paper, section 3: 256 and 512).

    Args:
        model: any classifier; where `crops` is "dense", :func:`dense` is applied to it, which copies it.
        sides: network sides in px.
        crops: "dense", "five" or "center".
        crop: side of the crops in px.
        average: "crops" or "scales", see :class:`Scales`.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: if it cannot be made dense, or a setting is out of its range.

    Example:
        >>> import torchvision
        >>> network = MultiScale(torchvision.models.alexnet(num_classes=5), sides=(128, 256)).eval()
        >>> network(torch.zeros(1, 3, 96, 128)).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        model: nn.Module,
        sides: Sequence[int] = (256, 512),
        *,
        crops: Crops = "dense",
        crop: int = 224,
        average: Average = "crops",
    ) -> None:
        super().__init__(sides, crops=crops, crop=crop, average=average)
        self.model = _applied(model, crops)

    def network(self, side: int) -> nn.Module:  # noqa: ARG002  the same for all
        """The one network."""
        return self.model


class PerScale(Scales):
    """A network for each scale (the paper, section 4.2), their log-probabilities averaged.

    Args:
        networks: the classifier of each network side in px.
        crops: "dense", "five" or "center".
        crop: side of the crops in px.
        average: "crops" or "scales", see :class:`Scales`.

    Raises:
        TypeError: if one is not a module.
        ValueError: if one cannot be made dense, or a setting is out of its range.

    Example:
        >>> import torchvision
        >>> networks = {side: torchvision.models.resnet18(num_classes=5) for side in (64, 96)}
        >>> PerScale(networks, crops="five", crop=48).eval()(torch.zeros(1, 3, 64, 80)).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        networks: Mapping[int, nn.Module],
        *,
        crops: Crops = "dense",
        crop: int = 224,
        average: Average = "crops",
    ) -> None:
        super().__init__(tuple(networks), crops=crops, crop=crop, average=average)
        self.models = nn.ModuleDict({str(side): _applied(model, crops) for side, model in networks.items()})

    def network(self, side: int) -> nn.Module:
        """The network of a side."""
        return self.models[str(side)]


def _applied(model: nn.Module, crops: Crops) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    return dense(model) if crops == "dense" else model
