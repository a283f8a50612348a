"""Classification: how a classifier is evaluated, and what it brings to the training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .._common.checks import one_of
from .._common.model_config import unwrapped
from ..blurs import Blur, fingerprints
from ..data import ClassMap, ImageListing, Skipped, Split, class_outputs, open_images
from ..deblurring import DeblurThenClassify
from ..metrics import TOP_K, ImageValues, image_values
from ..mixes import BlurMixSampler
from ..models import Dense, Scales, class_scores
from ..protocol import (
    Average,
    Crops,
    Protocol,
    evaluation_views,
)
from ..reporting import kept_example, sides_text
from ._applied import SIZES_BY, log_probabilities, networks, own_colours, scale_settings, seen
from ._probe import Feed, probe, tensors
from ._views import ImageViews, Owner, ViewSums, batches, placeholder
from .evaluating import EvaluationTask
from .learning import TrainingTask
from .settings import EvaluationSettings, TrainingSettings, opening

_LABELS = "where targets are labels, not masks"
_FOREIGN = dict.fromkeys(("ignore_index", "reduce_zero_label"), _LABELS)


def _opened(
    root: Any, settings: EvaluationSettings | TrainingSettings, *, split: Split, workers: int | None
) -> ImageListing:
    return open_images(root, split=split, workers=workers, **opening(settings))


def _class_map(settings: EvaluationSettings | TrainingSettings, listing: ImageListing) -> ClassMap | None:
    return None if settings.class_map is None else class_outputs(settings.class_map, listing.classes)


def _check_label(label: int, outputs: int, name: str) -> None:
    if not 0 <= label < outputs:
        raise ValueError(
            f"`root` must have labels from 0 to {outputs - 1}, one for each output of `model`, got {label} "
            f"for the image {name!r}; number the classes from 0, and give the model an output for each"
        )


def _check_labels(listing: ImageListing, outputs: int) -> None:
    """Refuse labels without an output before the work, where labels are known: one that is not is -1."""
    if listing.labels.max(initial=-1) >= 0:
        wrong = np.flatnonzero((listing.labels < 0) | (listing.labels >= outputs))
        for position in wrong[:1]:
            _check_label(int(listing.labels[position]), outputs, listing.id(position))


# --- Evaluation


class ClassificationEvaluation(EvaluationTask):
    """Log-probabilities of each image, averaged over crops and scales."""

    name = "classification"
    default_blurs = "sharp, D2, D4, D6, D8, H4, H8, V4, V8, shake, G4, G8"  # table 1
    default_batch_size = 64
    foreign = MappingProxyType(
        {"network_size": "where crops are square (`crop`)", "band": _LABELS, **_FOREIGN}
    )
    statistics = ImageValues
    totals = ("seconds",)
    opened = staticmethod(_opened)
    listing: ImageListing
    networks: nn.ModuleList

    def __init__(
        self, model: nn.Module, root: Any, settings: EvaluationSettings, *, workers: int | None = None
    ) -> None:
        inside = unwrapped(model)
        self._deblurrer = inside if isinstance(inside, DeblurThenClassify) else None
        colours = None
        if self._deblurrer is not None:
            own = own_colours(self._deblurrer, settings.mean, settings.std)
            colours = own, self._deblurrer.colours_source
            model, inside = self._deblurrer.model, unwrapped(self._deblurrer.model)
        if isinstance(inside, (Dense, Scales)):  # these have settings for how they see an image
            model = inside
        names = ("scales", "crops", "crop", "average")
        shown = seen(model, {name: getattr(settings, name) for name in names})
        self.scales = scale_settings(shown["scales"])
        self.crops: Crops = one_of("crops", shown["crops"], get_args(Crops))
        self.average: Average = one_of("average", shown["average"], get_args(Average))
        self.crop: int = shown["crop"]
        # Every side once, however many settings use it.
        self.sides = tuple(dict.fromkeys(side for setting in self.scales for side in setting))
        protocol = Protocol(
            canonical_side=settings.canonical_side,
            network_side=self.sides,
            crop=self.crop,
            resample=settings.resample,
        )
        crop = None if self.crops == "dense" else self.crop
        super().__init__(
            model, root, settings, protocol, colours=colours, workers=workers, sides=self.sides, crop=crop
        )
        self.class_map = _class_map(settings, self.listing)
        self.conditions = [(name, setting) for setting in self.scales for name in self._names]
        self.networks, self._numbers = networks(model, self.sides, dense_crops=self.crops == "dense")
        self._feeds: list[Feed] = []  # of each network
        self._all_outputs = 0  # of the network, where a class map chooses some

    @property
    def patience(self) -> float:
        return super().patience * (1 if self._deblurrer is None else len(self.blurs))

    @property
    def large(self) -> bool:
        crops = 5 if self.crops == "five" else 1
        size = [2 * side**2 if self.crops == "dense" else min(side, self.crop) ** 2 for side in self.sides]
        return 3 * len(self.blurs) * crops * sum(size) > 2**24

    def settings(self) -> dict[str, Any]:
        known = {
            "scales": [list(setting) for setting in self.scales],
            "crops": self.crops,
            "crop": self.crop,
            "average": self.average,
            "class_map": None if self.class_map is None else list(self.class_map.outputs),
            **super().settings(),
        }
        deblurrer = self._deblurrer
        if deblurrer is not None:
            known["deblurring"] = {
                "method": deblurrer.name,
                "blur": str(deblurrer.blur),
                **({"kernels": own} if (own := fingerprints([deblurrer.blur])) else {}),
                "border": deblurrer.border,
            }
        return known

    def probe(self, device: torch.device) -> None:
        count = min(2, self.batch_size)
        for number, network in enumerate(self.networks):
            own = [side for side, seen_by in zip(self.sides, self._numbers, strict=True) if seen_by == number]
            sides = own if self.crops == "dense" else sorted({min(side, self.crop) for side in own})
            feed, found = probe(
                network, [(side, side) for side in sides], device, count=count, settings=SIZES_BY
            )
            self._feeds.append(feed)
            for images, result in found:
                scores = class_scores(result, len(images))
                self._all_outputs = scores.shape[1]
                scores = scores if self.class_map is None else self.class_map.chosen(scores)
                self._check_outputs(scores.shape[1])

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
        for position, image in self._summed(items, device):
            yield position, self._statistics(position, image)

    def examples(self, positions: Sequence[int], device: torch.device) -> list[dict[str, Any]]:
        items = {n: item for n in positions if isinstance(item := self[n], ImageViews)}
        side, names = self.sides.index(self.scales[0][-1]), self.listing.classes
        blurs = [str(blur) for blur in self.blurs]
        kept = []
        for position, image in sorted(self._summed(items.values(), device)):
            best = self._averaged(image)[: len(blurs)].softmax(dim=1).topk(min(TOP_K, self.outputs), dim=1)
            views = items[position].views[side][:, -1].permute(0, 2, 3, 1).numpy()  # the last crop is central
            found = [
                [(names[label] if names else str(label), p) for label, p in zip(*each, strict=True)]
                for each in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            truth = names[image.label] if names else str(image.label)
            pictures = dict(zip(blurs, views, strict=True))
            kept.append(
                kept_example(self.listing.id(position), truth, pictures, dict(zip(blurs, found, strict=True)))
            )
        return kept

    def _summed(self, items: Iterable[ImageViews], device: torch.device) -> Iterator[tuple[int, ViewSums]]:
        """Each image, once all of its views were seen."""
        unfinished: dict[int, ViewSums] = {}
        again: dict[int, Any] = {}

        def started() -> Iterator[ImageViews]:
            for item in items:
                if not item.measured:
                    unfinished[item.position] = ViewSums(item, len(self.blurs))
                yield item

        for views, owners in batches(started(), self.batch_size, self.crop**2, self._numbers):
            measured = {owner.position for owner in owners} - unfinished.keys()
            if measured:
                if all(owner.position in measured for owner in owners):
                    continue
                again = {position: again.get(position) or self[position] for position in sorted(measured)}
                views = [_seen_again(view, owner, again) for view, owner in zip(views, owners, strict=True)]
            number = self._numbers[owners[0].side]
            with torch.inference_mode():
                images = self._feeds[number].images(torch.stack(views).to(device), *self.colours)
                log_p = log_probabilities(self.networks[number], images)
            if self.class_map is not None:  # their mean renormalised is the mean over these classes alone
                log_p = self.class_map.chosen(log_p)
            for row, owner in zip(log_p.sum(dim=2), owners, strict=True):
                if owner.position in measured:
                    continue
                image = unfinished[owner.position]
                image.add(row, owner, log_p.shape[2])
                if not image.left:
                    del unfinished[owner.position]
                    yield owner.position, image

    def _check_outputs(self, outputs: int) -> None:
        classes = len(self.listing.classes)
        if classes and outputs != classes:
            raise ValueError(
                f"`model` must give one score a class, got {outputs} scores for the {classes} classes of "
                "`root`; replace its last layer, or pass `class_map` to say which output each class is"
            )
        _check_labels(self.listing, outputs)
        self.outputs = outputs

    def _statistics(self, position: int, image: ViewSums) -> dict[str, np.ndarray]:
        name = self.listing.id(position)
        _check_label(image.label, self.outputs, name)
        values = image_values(self._averaged(image), [image.label] * len(self.conditions))
        # NaN comes of NaN, of infinity, and where every class is excluded (-inf); of some it has no harm.
        known = ~(np.isnan(values.cross_entropy) | np.isnan(values.entropy))
        if not known.all():
            blur, sides = self.conditions[int(np.argmin(known))]
            raise ValueError(
                f"`model` must give finite scores (or -inf), got NaN or infinity under {blur} at side "
                f"{sides_text(sides)} for the image {name!r}; check its weights, `mean` and `std`"
            )
        known = {key: value for key, value in vars(values).items() if key != "ids"}
        return {**known, "shape": image.shape, "seconds": np.array(image.seconds)}

    def placeholder(self, position: int, measured: Mapping[str, np.ndarray]) -> ImageViews:
        return placeholder(position, measured["shape"], len(self.blurs))

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

    def metadata(self, totals: Mapping[str, float]) -> dict[str, Any]:
        known: dict[str, Any] = {"classes": self.outputs, "top_k": min(TOP_K, self.outputs)}
        if self.class_map is not None:
            known["network_outputs"] = self._all_outputs
        if self._deblurrer is not None:  # a mean over images and blurs
            seconds = totals["seconds"] / (totals["images"] * len(self.blurs))
            known["deblurring"] = {**self.settings()["deblurring"], "seconds": seconds}
        return known


def _seen_again(view: Tensor, owner: Owner, again: Mapping[int, Any]) -> Tensor:
    """A view of an image that is read anew, so that the others of its batch have the company they had.

    Networks quantised on the fly take their range from the whole batch; for all others its size decides.
    """
    item = again.get(owner.position)
    if isinstance(item, Exception):
        raise item
    return item.views[owner.side][owner.blur, owner.crop] if isinstance(item, ImageViews) else view


# --- Training


class ClassificationTraining(TrainingTask):
    """Training views and labels, and what a classifier makes of them."""

    name = "classification"
    foreign = MappingProxyType(_FOREIGN)
    score = "top1"
    epochs, lr, batch_size = (2, 1), (1e-3, 1e-4), 128  # section 4
    measure = "shorter"
    opened = staticmethod(_opened)
    sizes_by = "`network_side` and `crop`"
    listing: ImageListing

    def __init__(
        self, root: Any, mix: BlurMixSampler, settings: TrainingSettings, *, workers: int | None = None
    ) -> None:
        super().__init__(root, mix, settings, workers=workers)
        self.class_map = _class_map(settings, self.listing)

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "classes": (self.labelled and len(self.listing.classes)) or self.outputs,
            "class_map": None if self.class_map is None else list(self.class_map.outputs),
        }

    @property
    def sizes(self) -> list[tuple[int, int]]:
        sides = {self.protocol.training_crop(side) for side in self.protocol.network_sides}
        return [(side, side) for side in sorted(sides)]

    def probe_outputs(self, network: nn.Module, device: torch.device) -> None:
        super().probe_outputs(network, device)
        if not self.labelled:
            return
        known = len(self.listing.classes) or int(self.listing.labels.max()) + 1
        if self.outputs != known if self.listing.classes else self.outputs < known:
            raise ValueError(
                f"`model` must have one output for each class, got {self.outputs} outputs for {known} "
                f"classes of {self.listing.name!r}; replace its last layer by one with {known} outputs, or "
                "pass `class_map` to say which output each class is"
            )
        _check_labels(self.listing, self.outputs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Skipped:
        item = super().__getitem__(key)
        if self.labelled and not isinstance(item, Skipped):
            _check_label(item[1], self.outputs, self.listing.id(key[1]))
        return item

    def loss(self, results: list[Any], targets: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, labels = torch.cat([self.logits(result) for result in results]).float(), torch.cat(targets)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        # Auxiliary outputs are not trained, but processes that exchange gradients must have all of them.
        others = [part for result in results if not isinstance(result, Tensor) for part in tensors(result)]
        loss = sum((part.float().sum() * 0.0 for part in others), loss)
        return loss, (logits.argmax(1) == labels).sum()

    def taught(self, result: object, told: object, target: Tensor) -> tuple[Tensor, Tensor]:
        del target
        own, theirs = (self.logits(each).float().log_softmax(1) for each in (result, told))
        return F.kl_div(own, theirs, reduction="sum", log_target=True), theirs.argmax(1)

    def logits(self, result: object) -> Tensor:
        found = class_scores(result)
        return found if self.class_map is None else self.class_map.chosen(found)
