"""evaluate(): the accuracy of a network on sharp and blurred images (the paper, sections 3 to 5)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from .._common.checks import check_integer, one_of
from .._common.devices import pick_device
from .._common.provenance import environment, with_metadata
from .._tasks import (
    ClassificationEvaluation,
    ClassNames,
    EvaluationSettings,
    Root,
    SegmentationEvaluation,
    check_network,
)
from ..blurs import Blur
from ..data import Listing, OnError
from ..metrics import VOID
from ..protocol import Average, Crops, Resample
from ..reporting import Report
from ._loop import measure

PAPER_BLURS = ClassificationEvaluation.default_blurs
"""The conditions of the paper's table 1, in its order."""

_TASKS: Mapping[str, Any] = {
    "classification": ClassificationEvaluation,
    "segmentation": SegmentationEvaluation,
}


def evaluate(
    model: nn.Module,
    root: Root,
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
    class_map: ClassNames | None = None,
    columns: Sequence[str] | None = None,
    ignore_index: int = VOID,
    reduce_zero_label: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    examples: int = 0,
    distributed: bool = False,
    progress: bool = True,
) -> Report:
    """Measure a network on the validation images under several blurs at several scales.

    Each image is brought to the canonical side, blurred, rounded to 8 bits, resized by network side /
    canonical side, cropped and shown to the network (the paper, section 3). Camera shake gives every image
    a different kernel of the test bank, by its position in the full sorted listing: the same in every
    setting. The network runs in evaluation mode without gradients; afterwards it is as it was, its mode and
    device included.

    Args:
        model: any classifier from (B, 3, H, W) to (B, classes) logits or log-probabilities, or a
            :class:`blurlib.deblurring.DeblurThenClassify` around one; for segmentation to logits (B, classes,
            h, w). They may be the first of a tuple, or "out" or "logits" of a mapping. A network of one
            channel is shown grey, the luminance of the normalised colours.
        root: a folder with `val/<class>/*` (else `validation`, `valid` or `test`), or with `<class>/*` alone;
            or a dataset of (PIL image, label), Hugging Face's and streams included, or a mapping of these by
            split; for segmentation a folder in Pascal VOC's layout, or a dataset of (PIL image, mask). See
            :func:`blurlib.data.open_images` and :func:`~blurlib.data.open_masks`.
        task: "classification", or "segmentation" (the paper, section 5): mean IoU of all pixels and of those
            near class boundaries, at the label image's own resolution, to which logits are interpolated.
        blurs: short names or blurs, of which one may be a measured kernel
            (:class:`blurlib.blurs.PointSpread`); None takes the paper's: twelve for classification (table 1),
            sharp and four disks for segmentation (table 6). Left out where `root` has copies that
            :func:`blurlib.data.corrupt` has blurred: they are shown as they are, under their blur's name.
        scales: settings, each a network side in px or several sides to average: ``(128, 256, (256, 512),
            512)`` are the four of the paper's table 1. None takes 256, or what
            a :class:`blurlib.models.MultiScale` or :class:`~blurlib.models.PerScale` has; likewise below. For
            segmentation geometric means, None the canonical one.
        network_size: for segmentation, (height, width) in px that every image is brought to, whatever its
            aspect.
        band: for segmentation, width in px of the region around class boundaries over which the trimap mean
            IoU is computed, in the label image; None takes the paper's four.
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
        limit: take an even, seeded, class-balanced subset of this many images; of a stream the first ones.
        on_error: "raise" at a broken image, or "skip" it, count it in the records and list it in the
            settings.
        class_map: where `root` has some of the classes that the network knows (ImageNet-A and -R on a network
            for ImageNet): a text file with the name of the class folder that each output stands for, in the
            order of the outputs, or with a name and the number of its output a line; or a list or a mapping.
            Scores of other outputs are left out, and probabilities are those among the classes of `root`.
        columns: where items of a dataset are mappings, the names of image and label or mask; None for
            ("image", "label").
        ignore_index: for segmentation, the number of pixels that do not count, as the masks have it.
        reduce_zero_label: for segmentation, 0 does not count either, and every other number of the masks is
            one less (ADE20K in mmsegmentation).
        batch_size: crops shown to the network at once, None for 64; a larger view counts by its area. For
            segmentation versions of an image, None for 8.
        workers: loader processes; None chooses. No result depends on it.
        device: where the network runs; None takes an accelerator if there is one.
        seed: of `limit` and of each image's camera shake.
        output: a folder for report.json, .npz, .csv and .md. What is measured is kept there every minute and
            at a stop (in `partial`; at a stop also as a report, partial.json and .npz), and the same
            evaluation goes on from it, to the same report. What is there of another evaluation is neither
            gone on with nor written over: other weights, images, settings or versions are an error that
            names what differs. SIGTERM and SIGHUP end it by SystemExit, 128 + signal.
        overwrite: write over whatever report is there; the same evaluation goes on all the same.
        metadata: plain values for the report's settings, such as {"name": "resnet18", "file": "runs/mix.pt"};
            "name" is what captions and pages call the network.
        examples: how many images, at most 8, the report keeps as small pictures under each blur, with the
            predictions; its page shows them. They are taken evenly from the listing. 0 keeps none: a report
            may go to others than the images do.
        distributed: share the images out over the processes that torchrun started. All of them must call
            this, and all get the whole report; the first one writes and shows progress. Numbers change by the
            rounding of the network's batches only.
        progress: show a progress bar.

    Returns:
        The report, one record a condition. For five classes or fewer top-5 is 1 by definition, and tables
        leave it out.

    Raises:
        TypeError: if an argument is of the wrong kind, or the network returns no scores.
        ValueError: if a value is out of its range, the network does not take the images (found out by empty
            ones of each size, before any is opened), a blur is unknown, an image is broken (under "raise"),
            the network's outputs do not match the classes or are not finite, or it cannot be made dense.
        FileNotFoundError: if the folder, its `val` or the file of `class_map` is missing.

    Example:
        >>> from PIL import Image
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> photos = [(Image.new("RGB", (40, 30), colour), i) for i, colour in enumerate(["red", "blue"])]
        >>> report = evaluate(network, photos, blurs="sharp, D4", scales=(32,), crop=32, canonical_side=48,
        ...                   progress=False, device="cpu")
        >>> report["D4"].count, report.blurs
        (2, ('sharp', 'D4'))
    """
    check_network(model)
    one_of("task", task, _TASKS)
    check_integer("examples", examples, low=0, high=8)
    place = pick_device(device)
    evaluation = _TASKS[task](
        model,
        root,
        EvaluationSettings(
            blurs=blurs,
            scales=scales,
            network_size=network_size,
            band=band,
            crops=crops,
            crop=crop,
            average=average,
            canonical_side=canonical_side,
            resample=resample,
            mean=mean,
            std=std,
            limit=limit,
            on_error=on_error,
            class_map=class_map,
            columns=columns,
            ignore_index=ignore_index,
            reduce_zero_label=reduce_zero_label,
            batch_size=batch_size,
            seed=seed,
        ),
        workers=workers,
    )
    listing = evaluation.listing
    settings = {
        **evaluation.settings(),
        "limit": limit,
        "on_error": on_error,
        "root": listing.name if isinstance(root, Listing) else listing.source,
        "listing": listing.digest(),
        **environment(evaluation.model, place),
    }
    return measure(
        evaluation,
        settings=with_metadata(settings, metadata),
        device=place,
        workers=workers,
        output=None if output is None else Path(output),
        overwrite=overwrite,
        examples=examples,
        distributed=distributed,
        progress=progress,
    )
