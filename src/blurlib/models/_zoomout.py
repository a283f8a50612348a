"""The zoom-out network of the paper's section 5, which labels every pixel."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG
from torchvision.models.feature_extraction import create_feature_extractor

from .._common.checks import check_integer
from .._common.model_config import inherit_config, unwrapped


class ZoomOut(nn.Module):
    """The paper's segmentation network: pixels are classified by zoom-out features of all layers of a trunk.

    After the paper's reference [16] (Mostajabi and others, CVPR 2015), in the form that the paper describes:
    activations of many layers, brought to one size and concatenated, go through two hidden layers, which are
    trained together with the trunk. The first hidden layer is linear in them, and so is the resizing: it is
    applied to each layer at that layer's own size and the results are added up, which is the same and never
    holds the thousands of channels of a VGG-16 at the size of the image.

    Our own choices, on which the paper is silent: features finer than the common grid are averaged down,
    coarser ones interpolated (bilinear); each location's feature vector of a layer is divided by its root
    mean square, or layers of a trunk that was trained on classes would differ a hundredfold; the feature of
    the whole image is the mean of the last layer.

    Args:
        trunk: a torchvision VGG (any depth, with or without batch norm, of any width), or any network with
            `layers` named. It is copied with its weights, without the layers after the last one named.
        classes: how many classes a pixel can be of.
        hidden: channels of the hidden layers.
        stride: px between the locations that are classified; logits are interpolated to the image's size.
        layers: names from `trunk.named_modules()`; None takes every convolution of a VGG, after its ReLU.
        dropout: before each of the last two layers, in training.

    Raises:
        TypeError: if `trunk` is not a module, or no VGG where `layers` is None.
        ValueError: if a layer does not exist or gives no map, or a number is out of its range.

    Example:
        >>> import torchvision
        >>> network = ZoomOut(torchvision.models.vgg11(weights=None), 21, hidden=8).eval()
        >>> network(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 21, 64, 96])
    """

    def __init__(
        self,
        trunk: nn.Module,
        classes: int,
        *,
        hidden: int = 512,
        stride: int = 4,
        layers: Sequence[str] | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not isinstance(trunk, nn.Module):
            raise TypeError(f"`trunk` must be a torch.nn.Module, got {type(trunk).__name__}")
        trunk = unwrapped(trunk)
        inherit_config(self, trunk)
        check_integer("classes", classes, low=2, high=10_000)
        check_integer("hidden", hidden, low=1, high=100_000)
        self.stride = check_integer("stride", stride, low=1, high=64)
        names = zoom_out_layers(trunk) if layers is None else list(layers)
        known = dict(trunk.named_modules())
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise ValueError(
                f"`layers` must name layers of `trunk`, got {missing[0] if missing else 'none'!r}; see "
                "trunk.named_modules()"
            )
        # Copied without the layers after the last one named, which hold nine tenths of a VGG.
        self.trunk = copy.deepcopy(
            create_feature_extractor(trunk, return_nodes=names, suppress_diff_warning=True)
        )
        modes = {module: module.training for module in self.trunk.modules()}
        self.trunk.eval()
        with torch.no_grad():
            found = self.trunk(torch.zeros(1, 3, 64, 64))
        for module, training in modes.items():
            module.training = training
        for name, features in found.items():
            if not isinstance(features, Tensor) or features.ndim != 4:
                raise ValueError(f"`layers` must give maps (B, C, h, w), {name!r} does not")
        widths = [features.shape[1] for features in found.values()]
        parts = [nn.Conv2d(width, hidden, 1, bias=False) for width in widths]
        # They are parts of one layer: their sum, and not each, is to be of the size of a single feature.
        for part in parts:
            nn.init.normal_(part.weight, std=(2.0 / sum(widths)) ** 0.5)
        self.reduce = nn.ModuleList(parts)
        self.whole = nn.Linear(widths[-1], hidden)
        self.classify = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, classes, H, W)
        """
        size = images.shape[-2:]
        grid = (-(-size[0] // self.stride), -(-size[1] // self.stride))
        found = list(self.trunk(images).values())
        total = self.whole(_scaled(found[-1].mean(dim=(2, 3))))[:, :, None, None]
        for features, reduce in zip(found, self.reduce, strict=True):
            if features.shape[-2] > grid[0] or features.shape[-1] > grid[1]:
                features = F.adaptive_avg_pool2d(features, grid)
            part = reduce(_scaled(features))
            if part.shape[-2:] != grid:
                part = F.interpolate(part, grid, mode="bilinear", align_corners=False)
            total = total + part
        logits: Tensor = F.interpolate(self.classify(total), size, mode="bilinear", align_corners=False)
        return logits


def _scaled(features: Tensor) -> Tensor:
    """Vectors of channels divided by their root mean square."""
    return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-6)


def zoom_out_layers(trunk: nn.Module) -> list[str]:
    """Names of the layers of a VGG that a zoom-out network takes: every convolution, after its ReLU.

    Args:
        trunk: a torchvision VGG of any depth.

    Returns:
        Such as "features.1", thirteen of them in VGG-16.

    Raises:
        TypeError: if it is another network.

    Example:
        >>> import torchvision
        >>> len(zoom_out_layers(torchvision.models.vgg16(weights=None)))
        13
    """
    if not isinstance(trunk, VGG):
        raise TypeError(
            f"`trunk` must be a torchvision VGG where `layers` is None, got {type(trunk).__name__}; name its "
            "layers"
        )
    return [
        f"features.{name}" for name, layer in trunk.features.named_children() if isinstance(layer, nn.ReLU)
    ]
