"""Classifiers as they are applied to whole images: linear layers become convolutions."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VGG, AlexNet

from .._common.model_config import inherit_config, unwrapped

# Layers that treat every number by itself, so that they mean the same on a vector and on a map of vectors.
_ELEMENTWISE = (
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
)


class Dense(nn.Module):
    """A fully-convolutional classifier; :func:`dense` makes it from a network with dense layers.

    Args:
        features: (B, 3, H, W) to (B, F, h, w), without padding the input to a fixed size.
        head: (B, F, h, w) to (B, C, h - window + 1, w - window + 1) scores.
        window: how many rows and columns of the features one score sees. Smaller features are padded to it
            with zeros, evenly on both sides (the odd one at the end), as the paper does at side 128.

    Example:
        >>> network = Dense(nn.AvgPool2d(2), nn.Conv2d(3, 10, 3), window=3)
        >>> network(torch.zeros(1, 3, 8, 10)).shape, network.positions(torch.zeros(1, 3, 8, 10)).shape
        (torch.Size([1, 10]), torch.Size([1, 10, 2, 3]))
    """

    def __init__(self, features: nn.Module, head: nn.Module, *, window: int) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.window = window

    def positions(self, images: torch.Tensor) -> torch.Tensor:
        """Log-probabilities at every position, at a stride of 32 px.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, C, h, w) log-probabilities; one position where the image is at most as large as the receptive
            field.
        """
        features = self.features(images)
        rows = max(0, self.window - features.shape[-2])
        columns = max(0, self.window - features.shape[-1])
        if rows or columns:
            pad = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            features = F.pad(features, pad)
        log_p: torch.Tensor = self.head(features).log_softmax(dim=1)
        return log_p

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log-probabilities averaged over the positions, (B, C)."""
        return self.positions(images).mean(dim=(2, 3))


def dense(model: nn.Module) -> Dense:
    """Make a network with dense layers fully convolutional (the paper, section 3).

    The first dense layer becomes a convolution as large as the map that it was trained on (7x7 in VGG, 6x6 in
    AlexNet), the others become 1x1 convolutions. The adaptive average pooling that torchvision puts before
    them is left out: on images of the training size it changes nothing, on larger ones it would squeeze all
    positions into one. At 224 x 224 the result therefore equals `model`; on larger images every position
    equals `model` on the window of features below it, 32 px from the next; below the receptive field the
    features are padded with zeros.

    Args:
        model: a torchvision VGG (any depth, with or without batch norm) or AlexNet; its last layers may have
            been replaced, for example for other classes. It is not modified.

    Returns:
        A new network with copied weights, in the same mode (training or evaluation) as `model`.

    Raises:
        TypeError: if `model` is not a `torch.nn.Module`.
        ValueError: if it cannot be made dense; the message names the layer and why.

    Example:
        >>> import torchvision
        >>> network = dense(torchvision.models.alexnet(num_classes=5))
        >>> network.positions(torch.zeros(1, 3, 224, 256)).shape
        torch.Size([1, 5, 1, 2])
        >>> dense(torchvision.models.resnet18())
        Traceback (most recent call last):
        ValueError: `model` (ResNet) cannot be made dense: its layer `avgpool` (AdaptiveAvgPool2d) ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    model = unwrapped(model)
    if isinstance(model, Dense):
        return copy.deepcopy(model)
    # A subclass with its own forward may do anything between these layers.
    if type(model).forward not in (VGG.forward, AlexNet.forward):
        raise _refusal(model, *_obstacle(model))
    features, pool, classifier = (_child(model, name) for name in ("features", "avgpool", "classifier"))
    window = _window(model, pool)
    layers: list[nn.Module] = []
    for name, layer in _flat(classifier, "classifier"):
        first = not any(isinstance(done, nn.Conv2d) for done in layers)
        if isinstance(layer, nn.Linear):
            layers.append(_convolution(model, name, layer, window if first else 1))
        elif isinstance(layer, _ELEMENTWISE) or (isinstance(layer, nn.LogSoftmax) and layer.dim in (1, -3)):
            layers.append(copy.deepcopy(layer))
        elif not (isinstance(layer, nn.Flatten) and first and layer.start_dim == 1):
            raise _refusal(
                model, name, layer, "is neither a dense layer nor one that treats each number alone"
            )
    if not any(isinstance(layer, nn.Conv2d) for layer in layers):
        raise _refusal(model, "classifier", classifier, "has no dense layer")
    network = Dense(copy.deepcopy(features), nn.Sequential(*layers), window=window)
    inherit_config(network, model)
    for ours, theirs in ((network, model), (network.head, classifier)):
        ours.training = theirs.training
    return network


def _flat(layer: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """The layers of nested sequences in their order, with their full names."""
    if not isinstance(layer, nn.Sequential):
        return [(name, layer)]
    return [pair for key, child in layer.named_children() for pair in _flat(child, f"{name}.{key}")]


def _child(model: nn.Module, name: str) -> nn.Module:
    child = getattr(model, name)
    assert isinstance(child, nn.Module)  # both classes build it in their constructor
    return child


def _window(model: nn.Module, pool: nn.Module) -> int:
    """Side of the map that the first dense layer sees: what torchvision's pooling before it produces."""
    size = getattr(pool, "output_size", None)
    size = (size, size) if isinstance(size, int) else size
    if not isinstance(pool, nn.AdaptiveAvgPool2d) or size is None or size[0] is None or size[0] != size[1]:
        raise _refusal(model, "avgpool", pool, "does not give a square map of known size")
    if size[0] == 1:
        raise _refusal(model, "avgpool", pool, "pools all positions into one")
    return int(size[0])


def _convolution(model: nn.Module, name: str, layer: nn.Linear, window: int) -> nn.Conv2d:
    """A dense layer as a convolution of the same weights."""
    channels, rest = divmod(layer.in_features, window * window)
    if rest:
        raise _refusal(model, name, layer, f"does not take maps of {window}x{window} features")
    weight = layer.weight.detach()
    shape = (channels, layer.out_features, window)
    # Made without storage first: drawing initial weights as large as VGG's takes seconds.
    convolution = nn.Conv2d(*shape, bias=layer.bias is not None, device="meta", dtype=weight.dtype)
    convolution = convolution.to_empty(device=weight.device)
    with torch.no_grad():
        convolution.weight.copy_(weight.view(layer.out_features, channels, window, window))
        convolution.weight.requires_grad_(layer.weight.requires_grad)
        if convolution.bias is not None:
            convolution.bias.copy_(layer.bias)
            convolution.bias.requires_grad_(layer.bias.requires_grad)
    convolution.training = layer.training
    return convolution


def _obstacle(model: nn.Module) -> tuple[str, nn.Module, str]:
    """The first layer that forbids dense application, and why."""
    for name, layer in model.named_modules():
        kind = type(layer).__name__
        if "Attention" in kind:
            return name, layer, "mixes all positions of the image"
        if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)) or "AdaptivePool" in kind:
            return name, layer, "pools all positions into one"
        if isinstance(layer, (nn.Linear, nn.Flatten)):
            return name, layer, "takes an input of fixed size, and how the network reaches it is not known"
    return "", model, "has its own `forward`; VGG and AlexNet of torchvision are known"


def _refusal(model: nn.Module, name: str, layer: nn.Module, reason: str) -> ValueError:
    where = f"its layer `{name}` ({type(layer).__name__})" if name else "it"
    return ValueError(
        f"`model` ({type(model).__name__}) cannot be made dense: {where} {reason}; "
        'evaluate it with crops="five" instead'
    )
