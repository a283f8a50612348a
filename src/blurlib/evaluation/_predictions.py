"""Predictions of a network for an image under several blurs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import nn

from .._tasks import check_network, probe
from ..blurs import Blur
from ..models import eval_mode, logits
from ..notation import parse
from ..protocol import Protocol, evaluation_views, normalisation


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The predicted distribution for one image under one blur (the paper, figure 1).

    Attributes:
        blur: short name.
        classes: the most probable classes and their probabilities, the most probable first.
        entropy: of the whole distribution, in nats.

    Example:
        >>> Distribution(blur="D8", classes=(("cat", 0.9), ("dog", 0.1)), entropy=0.325).classes[0]
        ('cat', 0.9)
    """

    blur: str
    classes: tuple[tuple[str, float], ...]
    entropy: float


def predictions(
    model: nn.Module,
    image: Image.Image,
    *,
    blurs: Sequence[str | Blur] = ("sharp", "D8"),
    names: Sequence[str] | None = None,
    top: int = 5,
    index: int = 0,
    side: int = 256,
    crop: int = 224,
    crops: Literal["center", "five"] = "center",
    canonical_side: int = 384,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
) -> list[Distribution]:
    """Predict the most probable classes of an image under several blurs.

    Args:
        model: a classifier; it runs in evaluation mode where it is, and is left as it was. A network of one
            channel is shown grey, as by :func:`evaluate`.
        image: a Pillow image of any mode.
        blurs: short names or blurs.
        names: of the classes; None takes their numbers.
        top: how many classes.
        index: of the image, which decides its own shake.
        side: network side in px.
        crop: side of the crops in px.
        crops: "center" or "five".
        canonical_side: shorter side in px at which blurs are defined.
        mean: of the colours; None takes the model's own (timm), else ImageNet's.
        std: of the colours, likewise.
        seed: of the image's own shake.

    Returns:
        A distribution a blur.

    Raises:
        TypeError: if `model` is no network, or returns no scores.
        ValueError: if there are not as many names as the network has outputs, a blur is unknown, or the
            network does not take the image.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> found = predictions(network, Image.new("RGB", (64, 48), "red"), names=["red", "green", "blue"])
        >>> found[1].blur, found[1].classes[0][0]
        ('D8', 'red')
    """
    check_network(model)
    values = [parse(blur) if isinstance(blur, str) else blur for blur in blurs]
    owned = [value.of_image(index, seed=seed) for value in values]
    sizes = Protocol(canonical_side=canonical_side, network_side=side, crop=crop)
    views = evaluation_views(image, owned, protocol=sizes, crops=crops)
    colours = normalisation(model, mean, std)
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    found = []
    with eval_mode(model, place), torch.inference_mode():
        size = views[0, side].shape[-2:]
        feed, _ = probe(model, [size], place, count=1, settings="`side` and `crop`")
        for number, value in enumerate(values):
            shown = feed.images(views[number, side].to(place), *colours)
            log_p = logits(model, shown).cpu().double().log_softmax(dim=1).mean(dim=0).log_softmax(dim=0)
            known = range(len(log_p)) if names is None else names
            if len(log_p) != len(known):
                raise ValueError(
                    f"`names` must name each of the network's {len(log_p)} outputs, got {len(known)} names"
                )
            p = log_p.exp()
            best = p.topk(min(top, len(p)))
            classes = tuple(
                (str(known[place]), float(share))
                for share, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            )
            entropy = float(-(p * log_p).nansum())
            found.append(Distribution(blur=str(value), classes=classes, entropy=entropy))
    return found
