"""Classification: how a classifier is evaluated, and what it brings to the training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._common.distributed import ProcessGroup
from .._common.model_config import ignored_config, unwrapped
from ..blurs import Blur
from ..data import ImageListing, Skipped, open_images
from ..deblurring import DeblurThenClassify
from ..metrics import TOP_K, ImageValues, image_values
from ..mixes import BlurMixSampler
from ..models import Dense, Scales
from ..protocol import (
    Average,
    Crops,
    Protocol,
    evaluation_views,
    normalisation,
    normalisation_source,
    normalised,
    training_view,
)
from ..reporting import sides_text
from ._applied import choice, log_probabilities, networks, own_colours, scale_settings, seen
from ._batch_norm import needs_several
from ._views import ImageViews, ViewSums, batches
from .task import Colours, EvaluationSettings, EvaluationTask, Settings, zero_loss

# --- Evaluation


class ClassificationEvaluation(EvaluationTask):
    """What a classifier says of each image: log-probabilities, averaged over crops and scales."""

    name = "classification"
    default_blurs = "sharp, D2, D4, D6, D8, H4, H8, V4, V8, shake, G4, G8"  # table 1
    default_batch_size = 64
    foreign = MappingProxyType({"network_size": "where crops are square", "band": "which has no masks"})
    statistics = ImageValues
    networks: nn.ModuleList

    def __init__(self, model: nn.Module, root: Any, settings: EvaluationSettings) -> None:
        super().__init__(settings)
        inside = unwrapped(model)
        self._deblurrer = inside if isinstance(inside, DeblurThenClassify) else None
        if self._deblurrer is not None:
            model, inside = self._deblurrer.model, unwrapped(self._deblurrer.model)
        if isinstance(
            inside, (Dense, Scales)
        ):  # which say themselves how they see an image, in a wrapper too
            model = inside
        self.model = model
        names = ("scales", "crops", "crop", "average")
        shown = seen(model, {name: getattr(settings, name) for name in names})
        self.scales = scale_settings(shown["scales"])
        self.crops: Crops = choice("crops", shown["crops"], Crops)
        self.average: Average = choice("average", shown["average"], Average)
        # Every side once, however many settings use it.
        self.sides = tuple(dict.fromkeys(side for setting in self.scales for side in setting))
        self.protocol = Protocol(
            canonical_side=settings.canonical_side,
            network_side=self.sides,
            crop=shown["crop"],
            resample=settings.resample,
        )
        self.crop: int = shown["crop"]
        self.conditions = [(str(blur), setting) for setting in self.scales for blur in self.blurs]
        if self._deblurrer is None:
            self.colours: Colours = normalisation(model, settings.mean, settings.std)
            self._source = normalisation_source(model, settings.mean, settings.std)
        else:
            self.colours = own_colours(self._deblurrer, settings.mean, settings.std)
            self._source = self._deblurrer.colours_source
        options: dict[str, Any] = {"limit": settings.limit, "on_error": settings.on_error}
        self.listing: ImageListing = open_images(root, split="val", seed=settings.seed, **options)
        self._config = ignored_config(
            model,
            resample=settings.resample,
            sides=self.sides,
            crop=None if self.crops == "dense" else self.crop,
        )
        self.networks, self._numbers = networks(model, self.sides, dense_crops=self.crops == "dense")
        self._seconds = 0.0  # of restoring

    @property
    def large(self) -> bool:
        crops = 5 if self.crops == "five" else 1
        size = [2 * side**2 if self.crops == "dense" else min(side, self.crop) ** 2 for side in self.sides]
        return 3 * len(self.blurs) * crops * sum(size) > 2**24

    def settings(self) -> dict[str, Any]:
        known = {
            "blurs": [str(blur) for blur in self.blurs],
            "scales": [list(setting) for setting in self.scales],
            "crops": self.crops,
            "crop": self.crop,
            "average": self.average,
            "canonical_side": self.protocol.canonical_side,
            "resample": self.protocol.resample,
            "seed": self.seed,
            "border": self.protocol.border,
            "mean": list(self.colours[0]),
            "std": list(self.colours[1]),
            "normalisation": self._source,
            **self._config,
        }
        behind = self._deblurrer
        if behind is not None:
            known["deblurring"] = {"method": behind.name, "blur": str(behind.blur), "border": behind.border}
        return known

    def views(self, position: int, blurs: Sequence[Blur], image: Image.Image, target: int) -> ImageViews:
        restore, spent = None if self._deblurrer is None else self._deblurrer.restore, 0.0

        def timed(array: np.ndarray, blur: Blur) -> np.ndarray:
            nonlocal spent
            assert restore is not None
            started = time.perf_counter()
            array = restore(array, blur)
            spent += time.perf_counter() - started
            return array

        made = evaluation_views(
            image, blurs, protocol=self.protocol, crops=self.crops, restore=timed if restore else None
        )
        every = range(len(blurs))
        sides = [torch.stack([made[number, side] for number in every]) for side in self.sides]
        return ImageViews(position, target, sides, spent)

    def measure(
        self, items: Iterable[ImageViews], device: torch.device
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        unfinished: dict[int, ViewSums] = {}

        def started() -> Iterator[ImageViews]:
            for item in items:
                self._seconds += item.seconds
                unfinished[item.position] = ViewSums(item, len(self.blurs))
                yield item

        for batch, owners in batches(started(), self.batch_size, self.crop**2, self._numbers):
            network = self.networks[self._numbers[owners[0].side]]
            log_p = log_probabilities(network, batch, self.colours, device)
            if not self.outputs:
                self._check_outputs(log_p.shape[1])
            for row, owner in zip(log_p.sum(dim=2), owners, strict=True):
                image = unfinished[owner.position]
                image.add(row, owner, log_p.shape[2])
                if not image.left:
                    del unfinished[owner.position]
                    yield owner.position, self._judged(owner.position, image)

    def _check_outputs(self, outputs: int) -> None:
        classes = len(self.listing.classes)
        if classes and outputs != classes:
            raise ValueError(
                f"`model` must give one score a class, got {outputs} scores for the {classes} classes of "
                "`root`; replace its last layer, or bring the folders of all classes that it knows"
            )
        self.outputs = outputs

    def _judged(self, position: int, image: ViewSums) -> dict[str, np.ndarray]:
        name = self.listing.id(position)
        if not 0 <= image.label < self.outputs:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each score of `model`, "
                f"got {image.label} for the image {name!r}"
            )
        values = image_values(self._averaged(image), [image.label] * len(self.conditions))
        finite = np.isfinite(values.cross_entropy) & np.isfinite(values.entropy)
        if not finite.all():
            blur, sides = self.conditions[int(np.argmin(finite))]
            raise ValueError(
                f"`model` must give finite scores, got NaN or infinity under {blur} at side "
                f"{sides_text(sides)} for the image {name!r}; check its weights, `mean` and `std`"
            )
        return {key: value for key, value in vars(values).items() if key != "ids"}

    def _averaged(self, image: ViewSums) -> Tensor:
        """Mean log-probabilities (conditions, C)."""
        means = []
        for setting in self.scales:
            chosen = [self.sides.index(side) for side in setting]
            total, number = image.sums[:, chosen], image.counts[:, chosen, None]
            if self.average == "crops":
                means.append(total.sum(dim=1) / number.sum(dim=1))
            else:
                means.append((total / number).mean(dim=1))
        return torch.cat(means)

    def totals(self) -> dict[str, float]:
        return {"seconds": self._seconds}

    def facts(self, totals: Mapping[str, float]) -> dict[str, Any]:
        known: dict[str, Any] = {"classes": self.outputs, "top_k": min(TOP_K, self.outputs)}
        if self._deblurrer is not None:  # a mean over images and blurs
            seconds = totals["seconds"] / (totals["images"] * len(self.blurs))
            known["deblurring"] = {**self.settings()["deblurring"], "seconds": seconds}
        return known


# --- Training


class _Batch(NamedTuple):
    images: list[Tensor]  # uint8 (n, 3, c, c), a tensor for each crop size
    labels: Tensor  # int64, in the order of `images`
    skipped: list[Skipped]

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def void(self) -> int:
        """Every image counts."""
        return 0

    @property
    def single(self) -> bool:
        """Whether the network sees an image by itself."""
        return any(len(group) == 1 for group in self.images)


class Classifying(Dataset[Any]):
    """Training views and labels by (epoch, position), and what a network makes of them."""

    score = "top1"

    def __init__(self, listing: ImageListing, mix: BlurMixSampler, settings: Settings) -> None:
        self.listing, self.mix, self.settings, self.protocol = listing, mix, settings, settings.protocol
        self.outputs = 0
        self.needs_several = False

    @property
    def facts(self) -> dict[str, Any]:
        return {"classes": len(self.listing.classes) or self.outputs}

    def try_out(self, network: nn.Module, device: torch.device) -> None:
        """Learns the number of outputs by an empty image of every size that training will show."""
        network.eval()
        for side in sorted({self.protocol.training_crop(side) for side in self.protocol.network_sides}):
            try:
                with torch.no_grad():
                    result = network(torch.zeros(1, 3, side, side, device=device))
            except (AssertionError, RuntimeError) as error:
                raise ValueError(
                    f"`model` must take images of (B, 3, {side}, {side}), got the error "
                    f"{str(error).splitlines()[0]!r}; choose `network_side` and `crop` to fit it"
                ) from error
            self.outputs = _logits(result).shape[1]
            self.needs_several |= needs_several(network, (side, side), device)
        known = len(self.listing.classes) or int(self.listing.labels.max()) + 1
        if self.outputs != known if self.listing.classes else self.outputs < known:
            raise ValueError(
                f"`model` must have one output for each class, got {self.outputs} outputs for {known} "
                f"classes of {self.listing.name!r}; replace its last layer by one with {known} outputs, or "
                "pass a root with the classes that it was trained on"
            )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Skipped:
        epoch, position = key
        index = int(self.listing.index[position])

        def make(image: Image.Image, label: int) -> tuple[Tensor, int]:
            return training_view(
                image,
                label,
                self.mix.draw(index, epoch),
                protocol=self.protocol,
                seed=self.settings.seed,
                epoch=epoch,
                index=index,
                hflip=self.settings.hflip,
            )

        item = self.listing.view(position, make)
        if not isinstance(item, Skipped) and not 0 <= item[1] < self.outputs:
            raise ValueError(
                f"`root` must have labels from 0 to {self.outputs - 1}, one for each output of `model`, got "
                f"{item[1]} for {self.listing.id(position)}; number the classes from 0 and give the model an "
                "output for each"
            )
        return item

    def collate(self, items: list[tuple[Tensor, int] | Skipped]) -> _Batch:
        groups: dict[int, list[tuple[Tensor, int]]] = {}
        for item in items:
            if not isinstance(item, Skipped):
                groups.setdefault(item[0].shape[-1], []).append(item)
        return _Batch(
            [torch.stack([view for view, _ in group]) for group in groups.values()],
            torch.tensor([label for group in groups.values() for _, label in group], dtype=torch.int64),
            [item for item in items if isinstance(item, Skipped)],
        )

    def forward(self, parallel: nn.Module, batch: _Batch, team: ProcessGroup) -> tuple[Tensor, Tensor, int]:
        """Summed loss of this process's share of a batch, how many it had right, and of how many."""
        labels = batch.labels.to(team.device, non_blocking=True)
        groups = [group.to(team.device, non_blocking=True) for group in batch.images]
        if not groups:
            side = self.protocol.training_crop(self.protocol.network_sides[0])
            return *zero_loss(parallel, (side, side), team), 0
        with torch.autocast(team.device.type, dtype=torch.bfloat16, enabled=self.settings.amp):
            logits = torch.cat(
                [
                    _logits(parallel(normalised(group, self.settings.mean, self.settings.std)))
                    for group in groups
                ]
            ).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return loss, (logits.argmax(1) == labels).sum(), len(labels)


def _logits(result: object) -> Tensor:
    if not isinstance(result, Tensor) or result.ndim != 2:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise TypeError(
            f"`model` must return a tensor of logits (B, classes), got {got}; wrap it in a module that "
            "returns the logits alone, or switch auxiliary outputs off (aux_logits=False)"
        )
    return result
