"""evaluate(): how a network does on sharp and blurred images (the paper, sections 3 and 4).

The protocol is in `protocol`, the loading and gathering of views in `_views`, the arithmetic in `metrics`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, overload

import torch
from torch import nn
from torch.utils.data import Dataset

from .._common.checks import check_integer
from .._common.devices import pick_device, pick_workers
from .._common.distributed import joined, neighbours
from .._common.files import keep_report, output_folder
from .._common.model_config import ignored_config, unwrapped
from .._common.progress import progress_bar
from .._common.provenance import check_replaceable, circumstances, with_metadata
from ..blurs import Blur
from ..data import ImageRoot, MaskRoot, OnError, open_root
from ..deblurring import DeblurThenClassify
from ..models import Dense, Scales, dense, evaluating, scores
from ..notation import parse_list
from ..protocol import Average, Crops, Resample, normalisation, normalisation_source, normalised
from ..reporting import Report
from ._loader import Plan, batches, loader
from ._segmentation import PAPER_BLURS as SEGMENTATION_BLURS
from ._segmentation import evaluate_segmentation
from ._tally import _Tally

PAPER_BLURS = "sharp, D2, D4, D6, D8, H4, H8, V4, V8, shake, G4, G8"
"""The conditions of the paper's table 1, in its order."""

_SAVE_EVERY = 300.0  # seconds between two writings of a partial report


@overload
def evaluate(
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | ImageRoot,
    *,
    task: Literal["classification"] = ...,
    blurs: str | Blur | Iterable[str | Blur] | None = ...,
    scales: int | Sequence[int | Sequence[int]] | None = ...,
    crops: Crops | None = ...,
    crop: int | None = ...,
    average: Average | None = ...,
    canonical_side: int = ...,
    resample: Resample = ...,
    mean: Sequence[float] | None = ...,
    std: Sequence[float] | None = ...,
    limit: int | None = ...,
    on_error: OnError = ...,
    batch_size: int | None = ...,
    workers: int | None = ...,
    device: str | torch.device | None = ...,
    seed: int = ...,
    output: str | os.PathLike[str] | None = ...,
    overwrite: bool = ...,
    metadata: Mapping[str, Any] | None = ...,
    distributed: bool = ...,
    progress: bool = ...,
) -> Report: ...


@overload
def evaluate(
    model: nn.Module,
    root: str | os.PathLike[str] | Dataset[Any] | Sequence[Any] | MaskRoot,
    *,
    task: Literal["segmentation"],
    blurs: str | Blur | Iterable[str | Blur] | None = ...,
    scales: int | Sequence[int] | None = ...,
    network_size: tuple[int, int] | None = ...,
    band: int | None = ...,
    canonical_side: int = ...,
    resample: Resample = ...,
    mean: Sequence[float] | None = ...,
    std: Sequence[float] | None = ...,
    limit: int | None = ...,
    on_error: OnError = ...,
    batch_size: int | None = ...,
    workers: int | None = ...,
    device: str | torch.device | None = ...,
    seed: int = ...,
    output: str | os.PathLike[str] | None = ...,
    overwrite: bool = ...,
    metadata: Mapping[str, Any] | None = ...,
    distributed: bool = ...,
    progress: bool = ...,
) -> Report: ...


def evaluate(
    model: nn.Module,
    root: Any,
    *,
    task: Literal["classification", "segmentation"] = "classification",
    blurs: str | Blur | Iterable[str | Blur] | None = None,
    scales: int | Sequence[int | Sequence[int]] | None = None,
    network_size: tuple[int, int] | None = None,
    band: int | None = None,
    crops: Crops | None = None,
    crop: int | None = None,
    average: Average | None = None,
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    distributed: bool = False,
    progress: bool = True,
) -> Report:
    """Measure a network on the validation images under several blurs at several scales.

    Each image is brought to the canonical side, blurred, rounded to 8 bits, resized by network side /
    canonical side, cropped and shown to the network (the paper, section 3). Camera shake gives every image a
    kernel of its own from the test bank, by its position in the full sorted listing: the same in every
    setting. The network runs in evaluation mode without gradients; afterwards it is as it was, its mode and
    device included.

    Args:
        model: any classifier from (B, 3, H, W) to (B, classes) logits or log-probabilities, or a
            :class:`blurlib.deblurring.DeblurThenClassify` around one; for segmentation to logits (B, classes,
            h, w), or to a mapping with these as "out".
        root: a folder with `val/<class>/*`, or a dataset of (PIL image, label); for segmentation a folder in
            Pascal VOC's layout, or a dataset of (PIL image, mask).
        task: "classification", or "segmentation" (the paper, section 5): mean IoU of all pixels and of those
            near class boundaries, at the label image's own resolution; see
            :func:`blurlib.evaluation.evaluate_segmentation`.
        blurs: short names or blurs; None takes the paper's: twelve for classification (table 1), sharp and
            four disks for segmentation (table 6).
        scales: settings, each a network side in px or several sides to average: ``(128, 256, (256, 512),
            512)`` are the four of the paper's table 1. None takes 256, or what
            a :class:`blurlib.models.MultiScale` or :class:`~blurlib.models.PerScale` has; likewise below. For
            segmentation geometric means, None the canonical one.
        network_size: for segmentation, (height, width) in px that every image is brought to, whatever its
            aspect.
        band: for segmentation, how far from a class boundary the pixels lie that are judged once more by
            themselves, in px of the label image; None takes the paper's four.
        crops: "center" (None), "five" (corners and centre) or "dense": the whole image, the network made
            fully-convolutional by :func:`blurlib.models.dense`.
        crop: side of the crops in px, None for 224; where the network side is smaller, the crop is that side.
        average: "crops" (None) averages the log-probabilities of all crops of all scales (the paper),
            "scales" those of each scale first. Probabilities are the softmax of the mean.
        canonical_side: shorter side in px at which blurs are defined.
        resample: filter of both resizings, antialiased: "bilinear", "bicubic", "box" or "lanczos". The paper
            names none; bilinear is what torchvision's pipelines use.
        mean: of the colours, three values in [0, 1]; None takes the model's own (timm, in any wrapper), else
            ImageNet's: the settings then say "assumed".
        std: of the colours, likewise.
        limit: take an even, seeded, class-balanced subset of this many images.
        on_error: "raise" at a broken image, or "skip" it, count it in the records and list it in the
            settings.
        batch_size: crops shown to the network at once, None for 64; a larger view counts by its area. For
            segmentation versions of an image, None for 8.
        workers: loader processes; None chooses. No result depends on it.
        device: where the network runs; None takes an accelerator if there is one.
        seed: of `limit` and of the images' own shakes.
        output: a folder for report.json, .npz, .csv and .md. An evaluation that stops early leaves what it
            has measured there as partial.json and partial.npz. A report of another evaluation is not written
            over: other weights, images, settings or versions are an error that names what differs.
        overwrite: write over whatever report is there.
        metadata: plain values for the report's settings, such as {"name": "resnet18", "file": "runs/mix.pt"};
            "name" is what captions and pages call the network.
        distributed: share the images out over the processes that torchrun started. All of them must call
            this, and all get the whole report; the first one writes and shows progress. Numbers change by the
            rounding of the network's batches only.
        progress: show a progress bar.

    Returns:
        The report, one record a condition; for segmentation a
        :class:`blurlib.reporting.Report`. With fewer than five classes top-5 looks at
        all of them.

    Raises:
        TypeError: if an argument is of the wrong kind, or the network does not return a tensor.
        ValueError: if a value is out of its range, a blur is unknown, an image is broken (under "raise"), the
            network's outputs do not match the classes or are not finite, or it cannot be made dense.
        FileNotFoundError: if the folder or its `val` is missing.

    Example:
        >>> from PIL import Image
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> photos = [(Image.new("RGB", (40, 30), colour), i) for i, colour in enumerate(["red", "blue"])]
        >>> report = evaluate(network, photos, blurs="sharp, D4", scales=(32,), crop=32, canonical_side=48,
        ...                   progress=False, device="cpu")
        >>> report["D4"].count, report.blurs
        (2, ('sharp', 'D4'))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    if task == "segmentation":
        if isinstance(unwrapped(model), DeblurThenClassify):
            raise TypeError("`model` must label pixels for segmentation, got a DeblurThenClassify")
        given = {"crops": crops, "crop": crop, "average": average}
        unfit = [name for name, value in given.items() if value is not None]
        if unfit:
            raise ValueError(
                f"`{unfit[0]}` must be left out for segmentation, where the network sees the whole image, "
                f"got {given[unfit[0]]!r}"
            )
        return evaluate_segmentation(
            model,
            root,
            blurs=SEGMENTATION_BLURS if blurs is None else blurs,
            scales=scales,  # type: ignore[arg-type]  # checked there
            network_size=network_size,
            canonical_side=canonical_side,
            resample=resample,
            mean=mean,
            std=std,
            limit=limit,
            on_error=on_error,
            band=4 if band is None else band,
            batch_size=8 if batch_size is None else batch_size,
            workers=workers,
            device=device,
            seed=seed,
            output=output,
            overwrite=overwrite,
            metadata=metadata,
            distributed=distributed,
            progress=progress,
        )
    if task != "classification":
        raise ValueError(f"`task` must be 'classification' or 'segmentation', got {task!r}")
    for name, value in (("network_size", network_size), ("band", band)):
        if value is not None:
            raise ValueError(f"`{name}` must be left out for classification, got {value!r}; it is of masks")
    batch_size = 64 if batch_size is None else batch_size
    inside = unwrapped(model)
    behind = inside if isinstance(inside, DeblurThenClassify) else None
    if behind is not None:
        model, inside = behind.model, unwrapped(behind.model)
    if isinstance(inside, (Dense, Scales)):  # which say themselves how they see an image, in a wrapper too
        model = inside
    shown = _shown(model, {"scales": scales, "crops": crops, "crop": crop, "average": average})
    plan = Plan(
        blurs=parse_list(PAPER_BLURS if blurs is None else blurs),
        scales=_scale_settings(shown["scales"]),
        crops=_choice("crops", shown["crops"], Crops),
        crop=shown["crop"],
        average=_choice("average", shown["average"], Average),
        canonical_side=canonical_side,
        resample=resample,
        seed=seed,
    )
    check_integer("batch_size", batch_size, low=1, high=2**31)
    place = pick_device(device)
    colours = normalisation(model, mean, std) if behind is None else _own_colours(behind, mean, std)
    listing = open_root(root, split="val", limit=limit, seed=seed, on_error=on_error)
    settings = {
        **plan.settings(),
        "mean": list(colours[0]),
        "std": list(colours[1]),
        "normalisation": behind.colours_source if behind else normalisation_source(model, mean, std),
        **ignored_config(
            model, resample=resample, sides=plan.sides, crop=None if plan.crops == "dense" else plan.crop
        ),
        "limit": limit,
        "on_error": on_error,
        "root": f"{listing.name}/val" if isinstance(root, (str, os.PathLike)) else listing.name,
        "listing": listing.digest(),
        **circumstances(model, place),
    }
    if behind is not None:
        settings["deblurring"] = {"method": behind.name, "blur": str(behind.blur), "border": behind.border}
    networks, numbers = _networks(model, plan)
    settings = with_metadata(settings, metadata)
    if output is not None:
        check_replaceable(Path(output), settings, overwrite=overwrite)
    folder = None if output is None else output_folder(output)
    with joined(place, together=distributed) as team:
        team.wait()  # nobody writes before everybody has looked
        positions = range(team.rank, len(listing), team.world)
        processes = pick_workers(workers, len(positions), world=neighbours() if distributed else 1)
        views = loader(listing, plan, processes, positions, None if behind is None else behind.restore)
        tally = _Tally(plan, listing)
        keeping = folder if team.rank == 0 else None
        saved = time.monotonic()
        try:
            with (
                evaluating(networks, place) as there,
                progress_bar(
                    views,
                    title="evaluate",
                    unit="image",
                    show=progress and team.rank == 0,
                    whole=len(listing),
                ) as items,
            ):
                for batch, owners in batches(tally.opened(items), batch_size, plan.crop**2, numbers):
                    network = networks[numbers[owners[0].side]]
                    tally.add(_log_probabilities(network, batch, colours, there), owners)
                    if keeping and tally.accumulator and time.monotonic() - saved > _SAVE_EVERY:
                        tally.report(settings, complete=False).save(keeping / "partial.json")
                        saved = time.monotonic()
        except BaseException:
            if keeping and tally.accumulator:
                tally.report(settings, complete=False).save(keeping / "partial.json")
            raise
        tally.merge(team)
        report = tally.report(settings, complete=True)
        if keeping:
            keep_report(report, keeping)
        team.wait()  # nobody reads before it is written
    return report


def _shown(model: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """How the network sees images: as asked; as a network of several scales has it; else the defaults."""
    usual: dict[str, Any] = {"scales": (256,), "crops": "center", "crop": 224, "average": "crops"}
    if not isinstance(model, Scales):
        return {name: usual[name] if value is None else value for name, value in given.items()}
    own = {"scales": (model.sides,), "crops": model.crops, "crop": model.crop, "average": model.average}
    for name, value in given.items():
        wanted = None if value is None else _scale_settings(value) if name == "scales" else value
        if wanted not in (None, own[name]):
            raise ValueError(
                f"`{name}` must be left out where `model` is a {type(model).__name__}, which has its own, "
                f"{own[name]!r}, got {value!r}; give it the network inside"
            )
    return own


def _own_colours(
    model: DeblurThenClassify, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for name, value, own in zip(("mean", "std"), (mean, std), model.colours, strict=True):
        if value is not None and tuple(value) != own:
            raise ValueError(
                f"`{name}` must be left out where `model` is a DeblurThenClassify, which has its own, {own}, "
                f"got {value!r}; give it to that"
            )
    return model.colours


def _networks(model: nn.Module, plan: Plan) -> tuple[nn.ModuleList, list[int]]:
    """The networks as they are applied, and which of them sees each of the plan's sides."""
    if not isinstance(model, Scales):
        return nn.ModuleList([dense(model) if plan.crops == "dense" else model]), [0] * len(plan.sides)
    every = [model.network(side) for side in plan.sides]
    different = list({id(network): network for network in every}.values())
    places = {id(network): number for number, network in enumerate(different)}
    return nn.ModuleList(different), [places[id(network)] for network in every]


def _scale_settings(scales: Any) -> tuple[tuple[int, ...], ...]:
    """(256, (256, 512)) as ((256,), (256, 512))."""
    remedy = "give sides in px, or tuples of sides to average, such as (128, 256, (256, 512), 512)"
    if isinstance(scales, (str, bytes)) or not isinstance(scales, (int, Sequence)):
        raise TypeError(f"`scales` must be a sequence of sides, got {scales!r}; {remedy}")
    settings = []
    for entry in (scales,) if isinstance(scales, int) else scales:
        sides = (entry,) if isinstance(entry, int) else entry
        whole = isinstance(sides, Sequence) and all(type(side) is int for side in sides)
        if isinstance(sides, str) or not whole:
            raise TypeError(f"`scales` must hold whole numbers of pixels, got {entry!r}; {remedy}")
        if not sides or min(sides) < 1 or len(set(sides)) < len(sides):
            raise ValueError(f"`scales` must hold different sides of at least 1 px, got {entry!r}; {remedy}")
        settings.append(tuple(sides))
    if not settings or len(set(settings)) < len(settings):
        raise ValueError(f"`scales` must name at least one setting and each once, got {scales!r}; {remedy}")
    return tuple(settings)


def _choice(name: str, value: Any, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"`{name}` must be one of {', '.join(get_args(choices))}, got {value!r}")
    return value


def _log_probabilities(
    model: nn.Module,
    images: torch.Tensor,
    colours: tuple[tuple[float, ...], tuple[float, ...]],
    device: torch.device,
) -> torch.Tensor:
    """Float64 log-probabilities (B, C, positions) of uint8 images; one position if not dense."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with torch.inference_mode():
        batch = normalised(images.to(device), *colours).to(kind)
        try:
            if isinstance(model, Dense):
                return model.positions(batch).flatten(2).cpu().double()
            # To the CPU before the precision rises: not every device has float64.
            return scores(model, batch).cpu().double().log_softmax(dim=1)[..., None]
        except (AssertionError, RuntimeError) as error:
            if _runs(model, batch[:1]) or not _runs(model, batch.new_zeros(1, 3, 224, 224)):
                raise  # it is not the size
            raise ValueError(
                f"`model` must take images of {tuple(images.shape[1:])}, got the error "
                f"{str(error).splitlines()[0]!r}; choose `scales` and `crop` to fit it, larger ones perhaps"
            ) from error


def _runs(model: nn.Module, images: torch.Tensor) -> bool:
    try:
        model(images)
    except (AssertionError, RuntimeError):
        return False
    return True
