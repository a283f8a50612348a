"""How much the features of a network change under blur (the paper, section 4.3, figure 4)."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import metrics
from .._common.devices import pick_device
from .._common.progress import progress_bar
from .._tasks import Feed, check_network, probe
from ..blurs import Blur, Sharp
from ..data import ImageListing, OnError, Skipped, open_images
from ..models import eval_mode
from ..notation import parse
from ..protocol import Protocol, Resample, evaluation_views, normalisation
from ..reporting import markdown_table, plain_table


# --- Feature invariance
@dataclass(frozen=True, kw_only=True)
class Disparity:
    """Difference of a layer's activations between two versions of the same images, at each location.

    Attributes:
        hamming: (B, h, w) share of the channels that are positive in one version only, between 0 and 1.
        cosine: (B, h, w) 1 - the cosine of the angle between the activations, between 0 and 2; 0 where both
            are zero, 1 where one is.

    Example:
        >>> Disparity(hamming=torch.zeros(1, 2, 2), cosine=torch.zeros(1, 2, 2)).hamming.shape
        torch.Size([1, 2, 2])
    """

    hamming: Tensor
    cosine: Tensor


def disparity(
    model: nn.Module, sharp: Tensor, blurred: Tensor, *, layers: Sequence[str] | None = None
) -> dict[str, Disparity]:
    """Compare a network's activations on two versions of the same images (the paper, section 4.3).

    Activations are made binary, positive or not; their Hamming distance is divided by the number of channels.
    They are compared while the network runs and not kept.

    Args:
        model: any network; it runs in evaluation mode and is left as it was.
        sharp: (B, 3, H, W), normalised; for a network of one channel (B, 1, H, W).
        blurred: likewise, blurred.
        layers: names from `model.named_modules()` whose outputs are compared, (B, C, h, w), (B, N, C) of
            tokens or (B, C). None takes the pooling layers, five of them in a VGG.

    Returns:
        For each layer the maps; of tokens (B, N, 1), of vectors (B, 1, 1).

    Raises:
        TypeError: if a layer does not return a tensor.
        ValueError: if there is no such layer (the message lists the nearest), it does not run, or the network
            has no pooling layer and `layers` is None.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3))
        >>> maps = disparity(network, torch.zeros(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
        >>> {name: tuple(found.hamming.shape) for name, found in maps.items()}
        {'2': (1, 7, 7)}
    """
    if sharp.shape != blurred.shape:
        raise ValueError(
            f"`sharp` and `blurred` must have one shape, got {tuple(sharp.shape)} and {tuple(blurred.shape)}"
        )
    names = _layers(model, layers)
    count = len(sharp)
    with eval_mode(model, sharp.device), _watched(model, names) as kept, torch.inference_mode():
        model(torch.cat([sharp, blurred]))
    missing = [name for name in names if name not in kept]
    if missing:
        raise ValueError(f"`layers` must run when the network does, {missing[0]!r} did not; leave it out")
    return {name: _compared(name, kept[name], count) for name in names}


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the layers return while the network runs."""
    kept: dict[str, Tensor] = {}
    every = dict(model.named_modules())

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001  torch calls it
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"`layers` must return tensors, {name!r} gave {type(output).__name__}; name one inside it"
                )
            # A ReLU after it may write into the same memory.
            kept[name] = output.detach().clone()

        return hook

    handles = [every[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    every = {name: module for name, module in model.named_modules() if name}
    if layers is None:
        pools = [name for name, module in every.items() if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))]
        if not pools:
            raise ValueError(
                f"`layers` must be named for {type(model).__name__}, which has no pooling layers; it has "
                f"{', '.join(list(every)[:8])}, ... (model.named_modules())"
            )
        return pools
    if isinstance(layers, str) or not len(layers):
        raise ValueError(f"`layers` must be a list of names, got {layers!r}")
    for name in layers:
        if name not in every:
            near = difflib.get_close_matches(name, every, n=3, cutoff=0.0)
            raise ValueError(
                f"`layers` must be names of the network's layers, got {name!r}; the nearest are "
                f"{', '.join(map(repr, near))}"
            )
    return list(dict.fromkeys(layers))


def _compared(name: str, both: Tensor, count: int) -> Disparity:
    if both.ndim == 2:
        both = both[:, :, None, None]
    elif both.ndim == 3:  # tokens, their features last
        both = both.transpose(1, 2)[..., None]
    elif both.ndim != 4:
        raise ValueError(
            f"`layers` must return (B, C, h, w), (B, N, C) or (B, C), {name!r} gave {tuple(both.shape)}"
        )
    one, two = both[:count].float(), both[count:].float()
    hamming = ((one > 0) != (two > 0)).float().mean(dim=1)
    lengths = one.norm(dim=1) * two.norm(dim=1)
    cosine = 1 - (one * two).sum(dim=1) / lengths.clamp_min(torch.finfo(torch.float32).tiny)
    nothing = (one.norm(dim=1) == 0) & (two.norm(dim=1) == 0)
    return Disparity(hamming=hamming, cosine=torch.where(nothing, 0.0, cosine).clamp(0, 2))


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """Mean change of each layer under a blur, over a set of images; returned by :func:`invariance`.

    Attributes:
        blur: short name.
        side: network side in px.
        layers: their names.
        ids: names of the N images.
        hamming: (N, layers) mean share of channels that are positive in one version only.
        cosine: (N, layers) mean cosine distance.
        settings: what else was set.

    Example:
        >>> found = Invariance(blur="D8", side=256, layers=("pool5",), ids=np.array(["a"]),
        ...                    hamming=np.array([[0.1]]), cosine=np.array([[0.3]]))
        >>> found["pool5"]
        (0.1, 0.3)
    """

    blur: str
    side: int
    layers: tuple[str, ...]
    ids: np.ndarray = field(repr=False)
    hamming: np.ndarray = field(repr=False)
    cosine: np.ndarray = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, layer: str) -> tuple[float, float]:
        """Mean Hamming and cosine distance of a layer."""
        number = self.layers.index(layer)
        return float(self.hamming[:, number].mean()), float(self.cosine[:, number].mean())

    def __str__(self) -> str:
        return self.table()

    def table(self, before: Invariance | None = None) -> str:
        """A line a layer, aligned for a terminal.

        Args:
            before: of the original network on the same images; adds its values, and the change of the Hamming
                distance with its paired 95 % interval.

        Returns:
            The text.

        Raises:
            ValueError: if `before` is of other images, layers, blur or side.
        """
        return plain_table(*self.lines(before))

    def to_markdown(self, before: Invariance | None = None) -> str:
        """The table in Markdown.

        Args:
            before: see :meth:`table`.

        Returns:
            The text.
        """
        return markdown_table(*self.lines(before))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: means and 95 % intervals over images for each layer, and the settings."""
        rows = []
        for number, layer in enumerate(self.layers):
            row: dict[str, Any] = {"layer": layer}
            for name, values in (("hamming", self.hamming), ("cosine", self.cosine)):
                samples = metrics.means(values[:, [number]])[:, 0]
                row |= {
                    name: float(values[:, number].mean()),
                    f"{name}_interval": metrics.interval(samples),
                }
            rows.append(row)
        known = {"blur": self.blur, "side": self.side, "images": len(self.ids)}
        return {**known, "settings": dict(self.settings), "layers": rows}

    def lines(self, before: Invariance | None = None) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table.

        Args:
            before: see :meth:`table`.

        Returns:
            The headings, and a row a layer.

        Raises:
            ValueError: see :meth:`table`.
        """
        if before is None:
            header = ["layer", "Hamming", "cosine"]
            return header, [[name, *(f"{value:.3f}" for value in self[name])] for name in self.layers]
        mine, other = ((each.blur, each.side, each.layers, each.ids.tolist()) for each in (self, before))
        if mine != other:
            raise ValueError("`before` must be of the same images, layers, blur and side; measure it again")
        samples = metrics.means(self.hamming - before.hamming)
        rows = []
        for number, name in enumerate(self.layers):
            low, high = metrics.interval(samples[:, number])
            change = self[name][0] - before[name][0]
            rows.append(
                [
                    name,
                    f"{before[name][0]:.3f}",
                    f"{self[name][0]:.3f}",
                    f"{change:+.3f} [{low:+.3f}, {high:+.3f}]",
                    f"{before[name][1]:.3f}",
                    f"{self[name][1]:.3f}",
                ]
            )
        return ["layer", "Hamming before", "after", "change", "cosine before", "after"], rows


def invariance(
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | ImageListing,
    *,
    blur: str | Blur = "D8",
    layers: Sequence[str] | None = None,
    side: int = 256,
    crops: Literal["dense", "center"] = "dense",
    crop: int = 224,
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Invariance:
    """Average a network's :func:`disparity` between sharp and blurred validation images.

    Images go through the protocol of :func:`blurlib.evaluate`, one by one; two numbers a layer and image are
    kept.

    Args:
        model: any network; it runs in evaluation mode and is left as it was. One of a single channel is shown
            grey, as by :func:`evaluate`.
        root: a folder with `val/<class>/*`, or a dataset of (PIL image, label).
        blur: short name or blur.
        layers: see :func:`disparity`.
        side: network side in px.
        crops: "dense" shows the whole image, "center" its centre, for networks of a fixed input size.
        crop: side of that centre in px.
        canonical_side: shorter side in px at which the blur is defined.
        resample: filter of both resizings.
        mean: of the colours; None takes the model's own (timm), else ImageNet's.
        std: of the colours, likewise.
        limit: take an even, seeded, class-balanced subset of this many images.
        on_error: "raise" at a broken image, or "skip" it.
        device: where the network runs; None takes an accelerator if there is one.
        seed: of `limit` and of the images' own shakes.
        progress: show a progress bar.

    Returns:
        The distances of each image, which print as means.

    Raises:
        TypeError: see :func:`disparity`.
        ValueError: see :func:`disparity`; or if no image can be read, or the network does not take them.
        FileNotFoundError: if the folder is missing.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        >>> photos = [(Image.effect_noise((40, 30), 60).convert("RGB"), 0) for _ in range(3)]
        >>> found = invariance(network, photos, blur="D4", side=32, canonical_side=48, progress=False)
        >>> found.layers, found.hamming.shape
        (('2',), (3, 1))
    """
    check_network(model)
    value = parse(blur) if isinstance(blur, str) else blur
    names = tuple(_layers(model, layers))
    colours = normalisation(model, mean, std)
    sizes = Protocol(canonical_side=canonical_side, network_side=side, crop=crop, resample=resample)
    listing = open_images(root, split="val", limit=limit, seed=seed, on_error=on_error)
    ids, hamming, cosine = [], [], []
    feed: Feed | None = None  # how the network takes images, once the size of one is known
    bar = progress_bar(range(len(listing)), title="invariance", unit="image", show=progress)
    with eval_mode(model, pick_device(device)) as place, bar as positions:
        for position in positions:
            index = int(listing.index[position])
            own = value.of_image(index, seed=seed)

            def views(image: Image.Image, _: int, own: Blur = own) -> Tensor:
                made = evaluation_views(image, [Sharp(), own], protocol=sizes, crops=crops)
                return torch.cat([made[0, side], made[1, side]])

            item = listing.view(position, views)
            if isinstance(item, Skipped):
                continue
            if feed is None:
                size = item.shape[-2:]
                feed, _ = probe(model, [size], place, count=2, settings="`side`, `crops` and `crop`")
            both = feed.images(item.to(place), *colours)
            maps = disparity(model, both[:1], both[1:], layers=names)
            ids.append(listing.id(position))
            hamming.append([float(maps[name].hamming.mean()) for name in names])
            cosine.append([float(maps[name].cosine.mean()) for name in names])
    if not ids:
        raise ValueError(f"`root` must hold an image that can be read, got none of {len(listing)}")
    return Invariance(
        blur=str(value),
        side=side,
        layers=names,
        ids=np.array(ids),
        hamming=np.array(hamming),
        cosine=np.array(cosine),
        settings={
            "model": type(model).__name__,
            "root": listing.name,
            "crops": crops,
            "crop": crop,
            "canonical_side": canonical_side,
            "resample": resample,
            "mean": list(colours[0]),
            "std": list(colours[1]),
            "limit": limit,
            "seed": seed,
        },
    )
