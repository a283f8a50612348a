"""The zoom-out network against its definition; training, evaluation and comparison of segmentation."""

import copy
import functools
import json
import os
import sys

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageOps
from torch import nn
from torchvision.models.vgg import VGG, make_layers

import blurlib
from blurlib._common import rng
from blurlib.data import open_masks
from blurlib.evaluation import _loop
from blurlib.metrics import VOID, boundary_band
from blurlib.mixes import BlurMixSampler
from blurlib.models import ZoomOut, pixel_logits, zoom_out_layers
from blurlib.notation import parse
from blurlib.protocol import Protocol, evaluation_views, normalised, training_view
from blurlib.reporting import Report, class_table, compare
from processes import in_processes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHOWN = {"canonical_side": 48, "device": "cpu", "workers": 0, "progress": False}
evaluate_segmentation = functools.partial(blurlib.evaluate, task="segmentation")
CLASSES = 3


def scene(seed, size=(64, 48)):
    """Rectangles of classes on a ground, each class a colour with noise; a line of void."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size[1], size[0]), np.uint8)
    for label in (1, 2):
        top, left = rng.integers(4, size[1] // 2), rng.integers(4, size[0] // 2)
        mask[top - 2 : top + 18, left - 2 : left + 20] = VOID
        mask[top : top + 16, left : left + 18] = label
    colours = np.array([[70, 90, 110], [200, 60, 60], [60, 190, 80]])
    picture = colours[np.where(mask == VOID, 0, mask)] + rng.integers(-40, 40, (*mask.shape, 3))
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), Image.fromarray(mask)


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed, size) for seed, size in enumerate([(64, 48), (50, 50), (40, 72), (64, 48), (60, 44)])]


def small_vgg(batch_norm=False):
    """torchvision's class; its head of 120 million weights, which nothing here looks at, is not drawn."""
    torch.manual_seed(0)
    features = make_layers([4, "M", 6, 6, "M", 8, "M"], batch_norm=batch_norm)
    with torch.device("meta"):
        return VGG(features, num_classes=2, init_weights=False)


def pixels(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))


class Pooling(nn.Module):
    """As DeepLab looks at a whole image: features pooled to 1 x 1, normalised, and spread over all places."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.classify = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images):
        features = self.features(images)
        return self.classify(features + self.whole(features))


def pooling():
    torch.manual_seed(0)
    return Pooling()


# The zoom-out network


def test_zoom_out_is_a_classifier_of_concatenated_features():
    """All maps brought to one grid and concatenated, as the definition says, in double precision."""
    trunk = small_vgg()
    network = ZoomOut(trunk, 5, hidden=7, stride=4).double().eval()
    images = torch.rand(2, 3, 41, 52, dtype=torch.float64)
    maps, x = [], images
    for layer in copy.deepcopy(trunk.features).double():
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            maps.append(x)
    grid = (11, 13)  # rounded up

    def scaled(x):
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()

    parts = []
    for features in maps:
        if features.shape[-1] > grid[1]:
            parts.append(scaled(F.adaptive_avg_pool2d(features, grid)))
        else:
            parts.append(F.interpolate(scaled(features), grid, mode="bilinear"))
    whole = scaled(maps[-1].mean(dim=(2, 3)))[:, :, None, None].expand(-1, -1, *grid)
    together = torch.cat([*parts, whole], dim=1)
    weight = torch.cat(
        [*(part.weight for part in network.reduce), network.whole.weight[:, :, None, None]], dim=1
    )
    hidden = F.conv2d(together, weight, network.whole.bias)
    expected = F.interpolate(network.classify(hidden), (41, 52), mode="bilinear")
    torch.testing.assert_close(network(images), expected)
    assert network(images).shape == (2, 5, 41, 52)


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16", "vgg19_bn"])
def test_zoom_out_takes_every_vgg(name):
    with torch.device("meta"):  # without a head, whose 120 million weights take a second
        trunk = getattr(torchvision.models, name)(weights=None, init_weights=False)
    trunk.features.to_empty(device="cpu").apply(
        lambda layer: layer.reset_parameters() if hasattr(layer, "reset_parameters") else None
    )
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in trunk.features)
    assert len(zoom_out_layers(trunk)) == convolutions
    network = ZoomOut(trunk, 21, hidden=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 48, 40)).shape == (1, 21, 48, 40)
    first = dict(network.trunk.named_parameters())["features.0.weight"]
    assert first is not trunk.features[0].weight
    assert torch.equal(first, trunk.features[0].weight)


def test_zoom_out_takes_other_trunks_by_their_layers():
    network = ZoomOut(
        torchvision.models.resnet18(weights=None), 4, hidden=4, layers=["layer1", "layer3"]
    ).eval()
    assert network(torch.zeros(1, 3, 40, 48)).shape == (1, 4, 40, 48)
    assert len(network.reduce) == 2


def test_zoom_out_learns_its_trunk_saves_and_exports(tmp_path):
    network = ZoomOut(small_vgg(batch_norm=True), 3, hidden=6)
    network.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.trunk.parameters())
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = ZoomOut(small_vgg(batch_norm=True), 3, hidden=6)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    images = torch.rand(1, 3, 32, 40)
    torch.testing.assert_close(other.eval()(images), network.eval()(images))
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ZoomOut(torchvision.models.resnet18(weights=None), 3),
            TypeError,
            "`trunk` must be a torchvision VGG",
        ),
        (lambda: ZoomOut("vgg16", 3), TypeError, "`trunk` must be a torch.nn.Module"),
        (lambda: ZoomOut(small_vgg(), 3, layers=["features.99"]), ValueError, "got 'features.99'"),
        (lambda: ZoomOut(torchvision.models.resnet18(), 3, layers=["fc"]), ValueError, "must give maps"),
        (lambda: ZoomOut(small_vgg(), 1), ValueError, "`classes`"),
        (lambda: ZoomOut(small_vgg(), 3, stride=0), ValueError, "`stride`"),
        (lambda: pixel_logits(torch.zeros(1, 3)), TypeError, r"got shape \(1, 3\)"),
        (lambda: pixel_logits({"aux": 1}), TypeError, 'as "out" or "logits", got dict with'),
    ],
)
def test_what_is_no_zoom_out_network(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Training


class Twin(nn.Module):
    """As torchvision's segmentation networks answer."""

    def __init__(self):
        super().__init__()
        self.out, self.aux = pixels(0), pixels(1)

    def forward(self, images):
        return {"out": self.out(images), "aux": self.aux(images)[..., ::2, ::2]}


@pytest.mark.parametrize("twin", [False, True])
def test_training_is_the_papers_loop(scenes, twin):
    """Every step by hand: order, blur, pair, the mean loss of a batch's labelled pixels, rates by phase."""
    settings = {"batch_size": 3, "network_side": 40, "crop": 32, "hflip": 0.5, "seed": 5}
    model = Twin() if twin else pixels()
    result = blurlib.finetune(
        model,
        scenes,
        task="segmentation",
        blur="sharp + D3",
        epochs=(2, 1),
        lr=(0.05, 0.005),
        **settings,
        **SHOWN,
    )
    mine = Twin() if twin else pixels()
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.05, momentum=0.9)
    protocol = Protocol(measure="geometric", canonical_side=48, network_side=40, crop=32)
    mix, listing = BlurMixSampler("sharp + D3", seed=5), open_masks(scenes, split="train")
    for epoch, rate in enumerate((0.05, 0.05, 0.005)):
        optimizer.param_groups[0]["lr"] = rate
        order = rng.permutation(5, seed=5, key=(epoch, 22)).tolist()
        losses, right, count = [], 0, 0
        for batch in (order[:3], order[3:]):
            loss, labelled = 0.0, 0
            for i in batch:
                picture, mask = training_view(
                    *listing.load(i),
                    mix.draw(i, epoch),
                    protocol=protocol,
                    seed=5,
                    epoch=epoch,
                    index=i,
                    hflip=0.5,
                )
                labels = torch.from_numpy(mask.astype(np.int64))
                found = mine(normalised(picture[None], MEAN, STD))
                logits = found["out"] if twin else found
                loss = loss + F.cross_entropy(logits, labels[None], ignore_index=VOID, reduction="sum")
                if twin:
                    second = F.interpolate(found["aux"], labels.shape, mode="bilinear")
                    loss = loss + 0.5 * F.cross_entropy(
                        second, labels[None], ignore_index=VOID, reduction="sum"
                    )
                labelled += int((labels != VOID).sum())
                right += int((logits.argmax(1)[0] == labels).sum())
            optimizer.zero_grad()
            (loss / labelled).backward()
            optimizer.step()
            losses.append(loss.item())
            count += labelled
        row = result.history[epoch]
        assert row["loss"] == pytest.approx(sum(losses) / count, rel=1e-4)
        assert row["pixel_accuracy"] == pytest.approx(right / count)
        assert row["images"] == 5
    for name, tensor in mine.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_recipe_is_the_papers(scenes, tmp_path):
    blurlib.finetune(
        pixels(), scenes, task="segmentation", batch_size=5, crop=16, output=tmp_path / "run", **SHOWN
    )
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert settings["epochs"] == [6, 2]
    assert settings["lr"] == [1e-4, 1e-5]
    assert settings["task"] == "segmentation"
    assert settings["protocol"]["network_side"] is None
    assert (tmp_path / "run" / "log.csv").read_text().startswith("epoch,lr,loss,pixel_accuracy")


class StopError(Exception):
    pass


class Stopping(list):
    """A dataset that fails at its eighth reading, in the second epoch of five images."""

    def __init__(self, items, last):
        super().__init__(items)
        self.left = last

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise StopError
        return super().__getitem__(index)


def test_a_stopped_run_goes_on_to_the_same_numbers(scenes, tmp_path):
    options = {
        "task": "segmentation",
        "epochs": (1, 1),
        "batch_size": 2,
        "crop": 24,
        "lr": (0.05, 0.01),
        **SHOWN,
    }
    whole = blurlib.finetune(pixels(), scenes, **options)
    run = tmp_path / "run"
    with pytest.raises(StopError):
        blurlib.finetune(pixels(), Stopping(scenes, 7), output=run, **options)
    assert len((run / "log.csv").read_text().splitlines()) == 2  # one epoch was kept
    resumed = blurlib.finetune(pixels(), Stopping(scenes, 99), output=run, resume=True, **options)
    assert len(resumed.history) == 2
    counts = []
    for result in (whole, resumed):
        report = evaluate_segmentation(result.model, scenes, blurs="D4", **SHOWN)
        counts.append(report["D4"].images.matrix.tolist())
    assert counts[0] == counts[1]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])


def test_torchvision_networks_learn_and_are_measured(scenes):
    torch.manual_seed(0)
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    tuned = blurlib.finetune(
        network, scenes, task="segmentation", epochs=1, lr=0.01, batch_size=5, network_size=(64, 64), **SHOWN
    )
    report = blurlib.evaluate(
        tuned.model, scenes, task="segmentation", blurs="D2", network_size=(64, 64), **SHOWN
    )
    assert 0 <= report["D2"].miou <= 1
    assert report.settings["classes"] == CLASSES


def test_images_without_labels_teach_nothing(scenes):
    empty = [(image, np.full(np.asarray(mask).shape, VOID, np.uint8)) for image, mask in scenes]
    options = {"task": "segmentation", "epochs": 1, "lr": 0.1, "batch_size": 2, **SHOWN}
    with pytest.raises(ValueError, match="a labelled pixel, got 5 of void alone"):
        blurlib.finetune(pixels(), empty, **options)
    with pytest.warns(UserWarning, match=r"^8\d % of the pixels in the masks of `root` are void"):
        result = blurlib.finetune(pixels(), [*scenes[:1], *empty[1:]], **options)
    assert result.history[0]["images"] == 5
    wrong = [(image, np.full(np.asarray(mask).shape, 7, np.uint8)) for image, mask in scenes]
    with pytest.raises(ValueError, match=r"labels from 0 to 2, .* got 7 in "):
        blurlib.finetune(pixels(), wrong, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "detection"}, "`task` must be one of classification, segmentation"),
        ({"network_size": (32, 32), "task": "classification"}, "`network_size` must be left out"),
    ],
)
def test_tasks_and_their_options(scenes, changes, message):
    with pytest.raises(ValueError, match=message):
        blurlib.finetune(pixels(), scenes, **{"task": "segmentation", **changes})


# Evaluation


@pytest.mark.parametrize("network_size", [None, (40, 56)])
def test_evaluation_is_a_plain_count(scenes, network_size):
    network = pixels(3)
    report = evaluate_segmentation(
        network, scenes, blurs="sharp, D4", scales=None if network_size else 32, network_size=network_size,
        batch_size=1, **SHOWN,
    )  # fmt: skip
    protocol = Protocol(
        measure="geometric",
        canonical_side=48,
        network_side=None if network_size else 32,
        network_size=network_size,
    )
    for blur in ("sharp", "D4"):
        truths, found, near = [], [], []
        for image, mask in scenes:
            labels = np.asarray(mask)
            (view,) = evaluation_views(image, [parse(blur)], protocol=protocol, crops="dense").values()
            with torch.no_grad():
                logits = network(normalised(view, MEAN, STD))
            shown = F.interpolate(logits, labels.shape, mode="bilinear").argmax(1)[0].numpy()
            known = labels != VOID
            truths.append(labels[known])
            found.append(shown[known])
            near.append(boundary_band(labels)[known])
        truth, guess, band = (np.concatenate(part) for part in (truths, found, near))
        record = report[blur]
        jaccard = sklearn.metrics.jaccard_score(truth, guess, labels=range(3), average=None)
        assert record.class_iou == pytest.approx(jaccard)
        assert record.miou == pytest.approx(jaccard.mean())
        assert record.accuracy == pytest.approx((truth == guess).mean())
        inside = sklearn.metrics.jaccard_score(truth[band], guess[band], labels=range(3), average="macro")
        assert record.trimap_miou == pytest.approx(inside)
        assert record.band_share == pytest.approx(band.mean())
        assert record.sides == (network_size or (32,))
        assert record.count == 5


def test_evaluate_takes_the_task(scenes, tmp_path):
    report = blurlib.evaluate(
        Twin(), scenes, task="segmentation", scales=(32, 48), output=tmp_path / "out", **SHOWN
    )
    assert report.blurs == ("sharp", "D2", "D4", "D6", "D8")
    assert len(report.records) == 10
    again = Report.load(tmp_path / "out")
    assert again.records == report.records
    assert again["D8", 32].images.matrix.tolist() == report["D8", 32].images.matrix.tolist()
    assert "trimap mIoU %" in str(report)
    assert (tmp_path / "out" / "report.csv").read_text().startswith("blur,sides,miou,trimap_miou")
    assert "at 32" in class_table(report.records, ["ground", "red", "green"])
    with pytest.raises(ValueError, match="`names` must name each of the 3"):
        class_table(report.records, ["one"])


def test_nothing_depends_on_workers_batches_or_order(scenes, tmp_path):
    first = evaluate_segmentation(pixels(), scenes, blurs="sharp, shake", **SHOWN)
    for changes in ({"workers": 2}, {"batch_size": 1}):
        other = evaluate_segmentation(pixels(), scenes, blurs="sharp, shake", **{**SHOWN, **changes})
        assert other.records == first.records
        assert other["shake"].images.regions.tolist() == first["shake"].images.regions.tolist()


def measured_and_trained(out, run):
    scenes = [scene(seed) for seed in range(5)]
    shared = evaluate_segmentation(pixels(), scenes, blurs="D4", output=out, distributed=True, **SHOWN)
    alone = evaluate_segmentation(pixels(), scenes, blurs="D4", **SHOWN)
    assert shared.settings["void_share"] == alone.settings["void_share"]
    usual = {"task": "segmentation", "epochs": 1, "lr": 0.05, "batch_size": 3, "crop": 20, **SHOWN}
    history = blurlib.finetune(pooling(), scenes, **usual).history
    assert history[0]["single_image_batches"] == 3, history  # of 2 + 1 images, then of 1 + 1
    blurlib.finetune(pixels(), scenes, output=run, **usual)


def test_two_processes_count_what_one_does(tmp_path):
    in_processes(measured_and_trained, tmp_path / "out", tmp_path / "run", world=2)
    scenes = [scene(seed) for seed in range(5)]
    alone = evaluate_segmentation(pixels(), scenes, blurs="D4", **SHOWN)
    shared = Report.load(tmp_path / "out")
    for one, two in zip(alone.records, shared.records, strict=True):
        assert one == two
        for name in ("ids", "matrix", "band", "regions"):
            assert getattr(one.images, name).tolist() == getattr(two.images, name).tolist()
    trained = blurlib.finetune(
        pixels(), scenes, task="segmentation", epochs=1, lr=0.05, batch_size=3, crop=20, **SHOWN
    )
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    for name, tensor in trained.model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-6)


def test_broken_images_are_skipped_and_counted(scenes):
    broken = [*scenes[:2], (scenes[2][0], Image.new("L", (3, 3)))]
    report = evaluate_segmentation(pixels(), broken, blurs="sharp", on_error="skip", **SHOWN)
    assert (report["sharp"].count, report["sharp"].skipped) == (2, 1)
    assert report.settings["skipped"] == ["2"]
    with pytest.raises(ValueError, match=r"item 2 of the dataset: ValueError: a mask must have the size"):
        evaluate_segmentation(pixels(), broken, blurs="sharp", **SHOWN)
    with pytest.raises(ValueError, match="all 1 were skipped"):
        evaluate_segmentation(pixels(), broken[2:], blurs="sharp", on_error="skip", **SHOWN)


def test_void_images_and_empty_bands(scenes):
    void = (scenes[0][0], Image.new("L", scenes[0][0].size, VOID))
    flat = (scenes[1][0], Image.new("L", scenes[1][0].size, 1))
    with pytest.warns(UserWarning, match=r"^55 % of the pixels in the masks of `root` are void"):
        report = evaluate_segmentation(pixels(), [void, flat], blurs="sharp", **SHOWN)
    assert report.settings["void_share"] == void[1].width * void[1].height / sum(
        mask.width * mask.height for _, mask in (void, flat)
    )
    assert ", 55.1 % of the pixels are void and do not count" in report.caption
    assert report["sharp"].trimap_miou is None
    assert report["sharp"].band_share == 0
    assert report["sharp"].images.matrix[0].sum() == 0
    assert " -  " in report.table()
    with pytest.raises(ValueError, match="masks with labelled pixels, got none in 1 images"):
        evaluate_segmentation(pixels(), [void], blurs="sharp", **SHOWN)


class Nothing(nn.Module):
    def forward(self, images):
        return torch.full((len(images), 3, 4, 4), torch.nan)


@pytest.mark.parametrize(
    ("model", "changes", "error", "message"),
    [
        (pixels(), {"scales": [(32, 48)]}, TypeError, "several scales are not averaged"),
        (pixels(), {"band": 0}, ValueError, "`band`"),
        (pixels(), {"network_size": (3,)}, ValueError, "`network_size`"),
        (nn.Flatten(), {}, TypeError, "logits"),
        (nn.Conv2d(3, 2, 1), {}, ValueError, r"labels from 0 to 1, .* the mask of '0' has others"),
        (Nothing(), {}, ValueError, "finite scores"),
        ("net", {}, TypeError, "`model` must be a torch.nn.Module"),
    ],
)
def test_bad_input_is_named(scenes, model, changes, error, message):
    with pytest.raises(error, match=message):
        evaluate_segmentation(model, scenes, blurs="sharp", **{**SHOWN, **changes})
    if not isinstance(model, str) and not changes:
        return
    with pytest.raises(ValueError, match="`crops` must be left out for segmentation"):
        blurlib.evaluate(pixels(), scenes, task="segmentation", crops="five")
    with pytest.raises(ValueError, match="`network_size` must be left out"):
        blurlib.evaluate(pixels(), scenes, network_size=(3, 3))


class Excludes(nn.Module):
    """Some classes by `value`, at a quarter of the size."""

    def __init__(self, network, classes, value):
        super().__init__()
        self.network, self.classes, self.value = network, classes, value

    def forward(self, images):
        logits = nn.functional.avg_pool2d(self.network(images), 4).clone()
        logits[:, self.classes, : logits.shape[2] // 2] = self.value
        return logits


def test_a_network_may_exclude_classes(scenes):
    few, none = (
        evaluate_segmentation(Excludes(pixels(), [1], value), scenes, blurs="sharp", **SHOWN)["sharp"]
        for value in (-1e6, -torch.inf)
    )
    assert (few.images.matrix == none.images.matrix).all()
    with pytest.raises(ValueError, match=r"finite scores \(or -inf\), got NaN or infinity"):
        evaluate_segmentation(Excludes(pixels(), [1], torch.inf), scenes, blurs="sharp", **SHOWN)


# Comparison


def reports(scenes, seeds, **changes):
    return [
        evaluate_segmentation(pixels(seed), scenes, blurs="sharp, D4", **{**SHOWN, **changes})
        for seed in seeds
    ]


def test_comparison_resamples_whole_images(scenes):
    before, control, *after = reports(scenes, range(4))
    found = compare(after, before, control=control, resamples=500)
    change = found["D4"].miou
    assert change.after == pytest.approx(np.mean([report["D4"].miou for report in after]))
    assert change.difference == pytest.approx(change.after - control["D4"].miou)
    assert change.before == before["D4"].miou
    # The same resampling by hand, image by image.
    counts = rng.uniform(5, seed=0, key=(7, 0xB007)) * 5
    drawn = counts.astype(int)
    samples = []
    for report in (*after, control):
        matrix = report["D4"].images.matrix[drawn].sum(axis=0)
        union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
        samples.append(np.mean(np.diag(matrix)[union > 0] / union[union > 0]))
    mine = after[0]["D4"].images.samples(resamples=8)["miou"][7]
    assert mine == pytest.approx(samples[0])
    low, high = change.difference_interval
    assert low <= change.difference <= high
    assert found.runs == {"before": 1, "control": 1, "after": 2}
    assert "change" in str(found)
    assert json.dumps(found.to_dict())
    assert found.to_markdown().startswith("| blur |")
    assert str(after[0].compare(before)).count("\n") > 3
    with pytest.raises(KeyError, match="D8"):
        found["D8"]


def test_a_resampling_without_boundaries_is_left_out(scenes):
    flat = [(scenes[1][0], Image.new("L", scenes[1][0].size, label)) for label in (0, 1)]
    before, after = reports([scenes[0], *flat], range(2))
    assert np.isnan(before["D4"].images.samples()["trimap_miou"]).any()
    change = compare(after, before)["D4"].trimap_miou
    assert np.isfinite(change.difference_interval).all()
    void = reports(flat, range(2))
    change = compare(void[1], void[0])["D4"].trimap_miou
    assert change.difference is None and change.difference_interval is None
    assert "nan" not in str(compare(void[1], void[0]))


def test_what_does_not_compare(scenes, tmp_path):
    one, other = reports(scenes, [0]), reports(scenes[:4], [0])
    with pytest.raises(ValueError, match="of the same images"):
        compare(one, other)
    with pytest.raises(ValueError, match="`canonical_side` 48 and 40"):
        compare(one, reports(scenes, [0], canonical_side=40))
    bare = Report.load(one[0].save(tmp_path / "out"))
    (tmp_path / "out" / "report.npz").unlink()
    bare = Report.load(tmp_path / "out")
    with pytest.raises(ValueError, match="statistics of each image"):
        bare.compare(bare)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a file written by `save`"):
        Report.load(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "none.json")


def test_pages(scenes, tmp_path):
    pytest.importorskip("jinja2")
    before, control, after = reports(scenes, range(3))
    text = after.to_html(tmp_path / "page.html", before=before, control=control).read_text(encoding="utf-8")
    assert "recovered" in text and "trained for as long on sharp images" in text
    assert "IoU of each class" in text
    with pytest.raises(ValueError, match="`control` must come with `before`"):
        after.to_html(tmp_path / "page.html", control=control)


# An evaluation that stops


class Failing(nn.Module):
    """Like another network, but for what it makes of the n-th image it sees."""

    def __init__(self, network, calls):
        super().__init__()
        self.network, self.calls = network, calls

    def forward(self, images):
        self.calls -= 1
        return self.network(images) * (torch.nan if self.calls < 0 else 1)


def test_an_evaluation_that_stops_keeps_whole_images(scenes, tmp_path):
    """Stopped between two sides of the third image: two are kept, and the error is its own."""
    shown = {**SHOWN, "blurs": "sharp, D2", "scales": (32, 48)}
    with pytest.raises(ValueError, match="`model` must give finite scores"):
        evaluate_segmentation(Failing(pixels(), 7), scenes, output=tmp_path, **shown)
    partial = Report.load(tmp_path / "partial.json")
    assert partial.settings["complete"] is False
    whole = evaluate_segmentation(pixels(), scenes[:2], **shown)
    assert len(partial.records) == 4
    for record, expected in zip(partial.records, whole.records, strict=True):
        assert np.array_equal(record.images.matrix, expected.images.matrix)
    with pytest.raises(ValueError, match=r"with partial.json of another model \(was 'Failing'"):
        evaluate_segmentation(pixels(), scenes, output=tmp_path, **shown)
    evaluate_segmentation(pixels(), scenes, output=tmp_path, overwrite=True, **shown)
    assert not (tmp_path / "partial.json").exists()


@pytest.mark.parametrize("scales", [(), (32, 32)])
def test_scales_are_different_sides(scenes, scales):
    with pytest.raises(ValueError, match="`scales` must name different sides"):
        evaluate_segmentation(pixels(), scenes, **SHOWN, scales=scales)


# Faults of the field


class Red(nn.Module):
    """Knows class 1 by its colour."""

    def forward(self, images):
        red = images[:, :1]
        return torch.cat([-red, red], dim=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_perfect_network_is_perfect_on_turned_photographs(tmp_path, orientation):
    """With orientation 3 it got a mIoU of 0, with 6 and 8 one of 0.33: images were turned twice."""
    mask = np.zeros((36, 64), np.uint8)
    mask[8:24, 8:40] = 1
    upright = Image.fromarray(np.where(mask[..., None] == 1, (255, 0, 0), (0, 0, 255)).astype(np.uint8))
    undone = ImageOps.exif_transpose(upright)
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
             7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    if orientation in turns:
        undone = upright.transpose(Image.Transpose[turns[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    place = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    undone.save(place / "JPEGImages" / "a.jpg", exif=exif, quality=100, subsampling=0)
    Image.fromarray(mask).save(place / "SegmentationClass" / "a.png")
    for split in ("train", "val"):
        (place / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\n")
    shown = {**SHOWN, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    report = blurlib.evaluate(Red(), tmp_path, task="segmentation", blurs="sharp", **shown)
    assert report["sharp"].miou == 1.0

    class Learning(Red):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images):
            return self.scale * super().forward(images)

    tuned = blurlib.finetune(
        Learning(),
        tmp_path,
        task="segmentation",
        blur="sharp",
        epochs=1,
        lr=1e-3,
        crop=32,
        hflip=0.5,
        **shown,
    )
    assert tuned.history[0]["pixel_accuracy"] == 1.0


def test_masks_of_0_and_255_are_refused_before_the_work(tmp_path):
    """A network that finds nothing got a mIoU of 100 %, since 255 is void."""
    pairs = [
        (
            Image.new("RGB", (64, 36)),
            Image.fromarray(np.repeat(np.uint8([[0], [255]]), 64, axis=1).repeat(18, axis=0)),
        )
        for _ in range(3)
    ]

    class Unused(nn.Conv2d):
        def forward(self, images):
            raise AssertionError("the work has begun")

    for work in (blurlib.evaluate, blurlib.finetune):
        with pytest.raises(
            ValueError, match=r"`root` must have masks of class numbers, .* nothing but 0 and 255"
        ):
            work(Unused(3, 2, 1), pairs, task="segmentation", output=tmp_path / work.__name__, **SHOWN)


def test_a_batch_of_one_uses_running_statistics():
    """DeepLabV3 of torchvision: the last of three images ended the run, in "Expected more than 1 value"."""
    torch.manual_seed(0)
    network = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    scenes = [scene(seed) for seed in range(3)]
    options = {"task": "segmentation", "epochs": 1, "lr": 1e-3, "crop": 32, **SHOWN}
    tuned = blurlib.finetune(network, scenes, batch_size=2, **options)
    assert tuned.history[0]["single_image_batches"] == 1 and tuned.history[0]["images"] == 3
    assert tuned.model.classifier[0].convs[4][2].num_batches_tracked == 1


def test_a_batch_of_one_is_as_with_kept_statistics():
    scenes = [scene(seed) for seed in range(3)]
    options = {"task": "segmentation", "epochs": 1, "lr": 0.05, "crop": 20, "batch_size": 1, **SHOWN}
    with pytest.warns(UserWarning, match="batch norm used its running statistics throughout"):
        ones = blurlib.finetune(pooling(), scenes, **options)
    kept = blurlib.finetune(pooling(), scenes, batch_norm="eval", **options)
    for name, tensor in ones.model.state_dict().items():
        assert torch.equal(tensor, kept.model.state_dict()[name]), name
    assert ones.history[0]["single_image_batches"] == 3


def test_a_report_of_another_evaluation_is_not_written_over(scenes, tmp_path):
    usual = {**SHOWN, "task": "segmentation", "output": tmp_path, "metadata": {"name": "pixels"}}
    report = blurlib.evaluate(pixels(), scenes, blurs="D2", **usual)
    assert (
        report.caption.startswith("pixels, 5 images of list")
        and report.settings["normalisation"] == "assumed"
    )
    assert len(report.settings["weights_sha256"]) == 64
    before = (tmp_path / "report.json").read_bytes()
    for changes, told in (
        ({"blurs": "D4"}, r"blurs \(was"),
        ({"scales": 32}, r"network_sides \(was"),
        ({"band": 2}, "band"),
    ):
        with pytest.raises(ValueError, match=f"`output` must hold no report of another evaluation, .*{told}"):
            blurlib.evaluate(pixels(), scenes, **{"blurs": "D2", **usual, **changes})
    assert (tmp_path / "report.json").read_bytes() == before
    blurlib.evaluate(pixels(), scenes, blurs="D2", **usual)
    blurlib.evaluate(pixels(), scenes, blurs="D4", overwrite=True, **usual)
    assert Report.load(tmp_path).blurs == ("D4",)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse names that are no text")
def test_names_that_are_no_text_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    place = tmp_path / name
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    for number, each in enumerate((name, "plain")):
        image, mask = scene(number)
        image.save(place / "JPEGImages" / f"{each}.png")
        mask.save(place / "SegmentationClass" / f"{each}.png")
    listed = os.fsencode(f"{name}\nplain\n{name}-broken\n")
    for split in ("train", "val"):
        (place / "ImageSets" / "Segmentation" / f"{split}.txt").write_bytes(listed)
    usual = {**SHOWN, "task": "segmentation", "on_error": "skip", "output": place / "out"}
    report = blurlib.evaluate(pixels(), place, blurs="D2", **usual)
    report.to_html(place / "page.html", before=report)
    str(report).encode()  # as a terminal takes it
    kept = Report.load(place / "out")
    assert kept["D2"].images.ids.tolist() == [name, "plain"]
    assert kept.settings["skipped"] == [f"{name}-broken"] and kept.settings["root"] == "caf\\udce9/val"
    usual["output"] = place / "run"
    tuned = blurlib.finetune(pixels(), place, epochs=1, lr=0.01, crop=20, **usual)
    assert [item.name for item in tuned.skipped] == [f"{name}-broken"]


def test_void_images_do_not_stop_a_partial_report(scenes, tmp_path, monkeypatch):
    """With nothing counted yet there is nothing to save on the way."""
    monkeypatch.setattr(_loop, "_SAVE_EVERY", -1.0)
    void = (scenes[0][0], Image.fromarray(np.full(np.shape(scenes[0][1]), VOID, np.uint8)))
    report = evaluate_segmentation(pixels(), [void, *scenes[:2]], blurs="sharp", output=tmp_path, **SHOWN)
    assert report["sharp"].count == 3


# What does not count, as the masks have it


def counted_from_one(scenes):
    """The same masks as ADE20K has them: 0 is void, and classes begin at 1."""
    return [(image, (np.asarray(mask).astype(int) + 1) % 256) for image, mask in scenes]


def with_void(scenes, number):
    masks = [np.asarray(mask).astype(int) for _, mask in scenes]
    return [
        (image, np.where(mask == VOID, number, mask)) for (image, _), mask in zip(scenes, masks, strict=True)
    ]


@pytest.mark.parametrize(
    ("kept", "options"),
    [
        (counted_from_one, {"reduce_zero_label": True}),
        (functools.partial(with_void, number=-1), {"ignore_index": -1}),
        (functools.partial(with_void, number=77), {"ignore_index": 77}),
    ],
    ids=["reduce_zero_label", "-1", "77"],
)
def test_void_is_what_the_caller_says(scenes, tmp_path, kept, options):
    """Evaluation and training have the numbers of masks that were mapped beforehand, and say what was."""
    usual = {"lr": 0.05, "epochs": 1, "batch_size": 2, "crop": 24, "task": "segmentation", **SHOWN}
    reports, histories = [], []
    for photos, own, name in ((scenes, {}, "plain"), (kept(scenes), options, "own")):
        result = blurlib.finetune(pixels(), photos, output=tmp_path / name, **own, **usual)
        histories.append([{**row, "seconds": 0} for row in result.history])
        reports.append(evaluate_segmentation(result.model, photos, blurs="sharp, D4", **own, **SHOWN))
        said = json.loads((tmp_path / name / "settings.json").read_text())["settings"]
        expected = {"ignore_index": VOID, "reduce_zero_label": False, **own}
        assert expected.items() <= said.items() and expected.items() <= reports[-1].settings.items()
        assert "class_map" not in said
    assert histories[0] == histories[1]
    for record, other in zip(*(report.records for report in reports), strict=True):
        np.testing.assert_array_equal(record.images.matrix, other.images.matrix)
        np.testing.assert_array_equal(record.images.regions, other.images.regions)
    with pytest.raises(ValueError, match=r"`resume`.*(ignore_index|reduce_zero_label) \(was "):
        blurlib.finetune(pixels(), scenes, output=tmp_path / "own", resume=True, **usual)


def test_classes_counted_from_one_meet_their_remedy(scenes):
    photos = counted_from_one(scenes)
    with pytest.raises(ValueError, match=r"got 3.*counted from 1, pass reduce_zero_label=True"):
        evaluate_segmentation(pixels(), photos, blurs="sharp", **SHOWN)
    with pytest.raises(ValueError, match=r"got 3.*counted from 1, pass reduce_zero_label=True"):
        blurlib.finetune(pixels(), photos, task="segmentation", epochs=1, lr=0.1, **SHOWN)
    flat = [(image, np.zeros((image.height, image.width), int)) for image, _ in scenes]
    flat[0] = photos[0]
    with pytest.warns(UserWarning, match=r"are void \(255 and 0\).*if a class is among these, change"):
        evaluate_segmentation(pixels(), flat, blurs="sharp", reduce_zero_label=True, **SHOWN)


def test_classes_that_nobody_sees_are_left_out_of_the_mean(scenes):
    """A network with more classes than truth and prediction have has the mean IoU of those there are."""

    class Wider(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = pixels()

        def forward(self, images):
            scores = self.inner(images)
            return torch.cat([scores, scores.new_full((len(scores), 4, *scores.shape[2:]), -1e4)], dim=1)

    usual = {"blurs": "sharp", **SHOWN}
    found, expected = (evaluate_segmentation(net, scenes, **usual)["sharp"] for net in (Wider(), pixels()))
    for name in ("miou", "trimap_miou", "boundary_iou"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.class_iou[3:] == (None,) * 4
