"""The original network as teacher, against torch's own functions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_options import (
    COUNT,
    SMALL,
    Images,
    Masked,
    batches,
    close,
    network,
    resumed,
    same,
    tuned,
    weights,
)
from torch import nn

from blurlib._common import rng
from blurlib.blurs import Sharp
from blurlib.data import open_images
from blurlib.mixes import BlurMixSampler
from blurlib.protocol import Protocol, normalised, training_view
from blurlib.training import finetune


def norm():
    return network(nn.BatchNorm2d(6))


def sharp_batches(size=8):
    """The views of `batches` of the first epoch, without their blur."""
    listing, protocol = (
        open_images(Images(), split="train"),
        Protocol(canonical_side=24, network_side=16, crop=12),
    )
    order = rng.permutation(COUNT, seed=0, key=(0, 22)).tolist()
    for start in range(0, COUNT, size):
        views = [
            training_view(*listing.load(i), Sharp(), protocol=protocol, seed=0, epoch=0, index=i)[0]
            for i in order[start : start + size]
        ]
        yield normalised(torch.stack(views), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"channels_last": True}], ids=str)
def test_the_loss_is_torchs_own(share, options):
    model, teacher = norm(), norm().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    total, agreed = 0.0, 0
    for (images, labels), sharp in zip(batches(0), sharp_batches(), strict=True):
        optimizer.zero_grad()
        half = len(labels) // 2 if "accumulate" in options else 0  # the smaller part comes first
        for part in (slice(0, half), slice(half, None))[not half :]:
            logits, right = model.train()(images[part]), labels[part]
            with torch.no_grad():
                told = teacher(sharp[part])
            divergence = F.kl_div(F.log_softmax(logits, 1), F.softmax(told, 1), reduction="sum")
            loss = (1 - share) * F.cross_entropy(logits, right, reduction="sum") + share * divergence
            (loss / len(labels)).backward()
            total += loss.item()
            agreed += int((logits.argmax(1) == (told.argmax(1) if share == 1 else right)).sum())
        optimizer.step()
    result = tuned(norm(), teacher=share, **options)
    assert result.history[0]["loss"] == pytest.approx(total / COUNT, rel=1e-4)
    assert result.history[0]["top1"] == pytest.approx(agreed / COUNT)
    close(weights(result.model), weights(model), 1e-4)


def test_labels_do_not_count_beside_a_whole_teacher(tmp_path):
    """Class folders that the network has no outputs for give the weights of the right ones."""
    for folder, classes in (("right", ("a", "b")), ("one", ("photos", "photos"))):
        for number in range(6):
            place = tmp_path / folder / "train" / classes[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Images()[number][0].save(place / f"{number % 2}{number}.png")
    found = [
        weights(finetune(norm(), tmp_path / folder, teacher=1.0, **SMALL).model)
        for folder in ("right", "one")
    ]
    assert same(*found)
    (tmp_path / "right" / "train").rename(tmp_path / "right" / "val")
    told = {"validation": tmp_path / "right", "validate_every": 1}  # which has labels
    result = finetune(norm(), tmp_path / "one", teacher=1.0, **told, **SMALL)
    assert same(weights(result.model), found[0]) and 0 <= result.history[0]["val_top1"] <= 1
    with pytest.raises(ValueError, match="`model` must have one output for each class, got 2 outputs for 1"):
        finetune(norm(), tmp_path / "one", teacher=0.5, **SMALL)


def test_nothing_is_learnt_from_the_teacher_of_sharp_images():
    """Where nothing is blurred, and batch norm is that of the teacher, both outputs are the same."""
    model = norm()
    result = tuned(model, blur="sharp", teacher=1.0, batch_norm="eval")
    assert result.history[0]["loss"] == pytest.approx(0, abs=1e-7) and result.history[0]["top1"] == 1
    close(weights(result.model), weights(model), 1e-6)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_teacher_of_pixels_leaves_void_out(share):
    """The loss is the mean over labelled pixels; what a mask has under void changes nothing."""

    def model():
        torch.manual_seed(1)
        return nn.Conv2d(3, 2, 3, padding=1)

    options = SMALL | {"task": "segmentation", "batch_size": 7, "teacher": share, "lr": 1e-9}
    items = Masked()
    result = finetune(model(), items, **options)
    listing = [items[number] for number in range(7)]
    protocol = Protocol(canonical_side=24, network_side=16, crop=12, measure="geometric")
    total = count = 0.0
    for number, (image, mask) in enumerate(listing):
        both = []
        for blur in (BlurMixSampler("sharp + D2").draw(number), Sharp()):
            view, target = training_view(image, np.asarray(mask), blur, protocol=protocol, index=number)
            both.append(model()(normalised(view[None], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))))
        labels = torch.from_numpy(target.astype(np.int64))
        own, told = (each[0].movedim(0, -1)[labels != 255] for each in both)
        divergence = F.kl_div(own.log_softmax(-1), told.softmax(-1), reduction="sum")
        loss = F.cross_entropy(own, labels[labels != 255], reduction="sum")
        total += ((1 - share) * loss + share * divergence).item()
        count += len(own)
    assert result.history[0]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_runs_with_a_teacher_resume(tmp_path):
    resumed(tmp_path, nn.BatchNorm2d(6), nn.Dropout(0.3), teacher=0.5, epochs=2)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"teacher": 0}, ValueError, "`teacher` must be above 0 and at most 1, got 0"),
        ({"teacher": 1.5}, ValueError, "`teacher` must be above 0 and at most 1, got 1.5"),
        ({"teacher": True}, TypeError, "`teacher` must be a number, got bool"),
        ({"teacher": network()}, TypeError, "`teacher` must be a number, got Sequential"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options, error, told):
    with pytest.raises(error, match=told):
        tuned(**options)
