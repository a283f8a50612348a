"""Batch norm over processes and computed anew; validation between epochs, against `evaluate`."""

import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from test_options import (
    COUNT,
    SMALL,
    Images,
    StopError,
    close,
    network,
    rows,
    same,
    settings,
    tuned,
    weights,
)
from torch import nn
from torch.optim import swa_utils

from blurlib._common import rng
from blurlib.data import open_images
from blurlib.evaluation import evaluate
from blurlib.mixes import BlurMixSampler
from blurlib.protocol import Protocol, normalised, training_view
from blurlib.training import _finetune, finetune
from blurlib.training._norm import synchronised
from blurlib.transforms import DiskBlur
from processes import in_processes


def norm():
    return network(nn.BatchNorm2d(6), nn.Dropout(0.3))


# --- batch norm ------------------------------------------------------------------------------------------


def test_recalibrated_statistics_are_torchs_own(tmp_path):
    model = network(nn.BatchNorm2d(6))
    result = tuned(model, batch_norm="recalibrate", output=tmp_path, ema=0.5)
    plain = tuned(model, ema=0.5).model
    assert not same(weights(result.model), weights(plain))
    listing, mix = open_images(Images(), split="train"), BlurMixSampler("sharp + D2")
    protocol, epoch = Protocol(canonical_side=24, network_side=16, crop=12), 2**32
    order = rng.permutation(COUNT, seed=0, key=(epoch, 22)).tolist()
    views = [
        training_view(*listing.load(i), mix.draw(i, epoch), protocol=protocol, epoch=epoch, index=i)[0]
        for i in order
    ]
    images = normalised(torch.stack(views), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    swa_utils.update_bn(images.split(8), plain)
    close(weights(result.model), weights(plain), 1e-6)
    assert [layer.momentum for layer in result.model if isinstance(layer, nn.BatchNorm2d)] == [0.1]
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), weights(result.model))
    again = tuned(model, batch_norm="recalibrate", output=tmp_path, ema=0.5, resume=True)
    assert same(weights(again.model), weights(result.model))


@pytest.mark.filterwarnings("ignore:every batch held a single image:UserWarning")
def test_statistics_that_no_batch_has_stay():
    model = nn.Sequential(
        network()[:2], nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 2)
    )
    with pytest.warns(UserWarning, match="did not compute statistics anew.*larger `batch_size`"):
        result = tuned(model, batch_norm="recalibrate", batch_size=1)
    kept = result.model[2]
    assert not kept.running_mean.any() and bool((kept.running_var == 1).all())


def test_one_process_has_nothing_to_synchronise():
    assert same(weights(tuned(norm(), batch_norm="sync").model), weights(tuned(norm()).model))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["sync", "recalibrate"])
def test_torchscript_does_not_tell_its_layers(kind):
    with pytest.raises(ValueError, match=rf"`batch_norm` must be .*TorchScript.*'{kind}'; pass the network"):
        tuned(torch.jit.script(network(nn.BatchNorm2d(6))), batch_norm=kind)


def test_layers_are_as_they_were_after_synchronising():
    timm = pytest.importorskip("timm")
    model = nn.Sequential(norm(), nn.Sequential(timm.layers.BatchNormAct2d(3)))
    names, before = [name for name, _ in model.named_modules()], list(model.modules())
    with synchronised(model, when=True):
        assert type(model[0][1]) is nn.SyncBatchNorm and type(model[1][0]) is timm.layers.SyncBatchNormAct
        assert model[0][1].running_mean is before[3].running_mean
    assert list(model.modules()) == before and [name for name, _ in model.named_modules()] == names

    class Own(nn.BatchNorm2d):
        pass

    with (
        pytest.raises(ValueError, match=r'`batch_norm` must not be "sync".*got Own.*pass "train"'),
        synchronised(nn.Sequential(Own(3)), when=True),
    ):
        pass


class Summed(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(_, inputs):
        total = inputs.clone()
        torch.distributed.all_reduce(total)
        return total

    backward = forward


class OnCPU:
    """What torch has for GPUs alone."""

    usual = nn.SyncBatchNorm.forward

    def forward(self, images):
        if not self.training:
            return OnCPU.usual(self, images)
        self.num_batches_tracked.add_(1)
        ones = torch.ones(1, dtype=images.dtype) * images[:, 0].numel()
        axes = [0, *range(2, images.ndim)]
        sums = Summed.apply(torch.cat([images.sum(axes), (images**2).sum(axes), ones]))
        count, half = sums[-1], len(sums) // 2
        mean = sums[:half] / count
        variance = sums[half:-1] / count - mean**2
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        shape = (1, -1, *[1] * (images.ndim - 2))
        scaled = (images - mean.view(shape)) / (variance.view(shape) + self.eps).sqrt()
        return scaled * self.weight.view(shape) + self.bias.view(shape)


def shared(folder):
    runs = {"recalibrate": tuned(network(nn.BatchNorm2d(6)), batch_norm="recalibrate", lr=1e-9)}
    if os.environ.get("WORLD_SIZE"):
        with pytest.raises(ValueError, match=r'`batch_norm` must not be "sync" for 2 processes on the CPU'):
            tuned(norm(), batch_norm="sync")
    nn.SyncBatchNorm.forward = OnCPU.forward
    nn.parallel.DistributedDataParallel._passing_sync_batchnorm_handle = lambda *_: None
    _finetune.check_batch_norm = lambda *_: None
    for name, options in {
        "sync": {"epochs": 2},
        "parts": {"accumulate": 2},
        "few": {"batch_size": 20},  # the last batch has one image: one process has none
        "sides": {"network_side": (10, 16)},
    }.items():
        runs[name] = tuned(network(nn.BatchNorm2d(6)), batch_norm="sync", **options)
    images = [Images()[number] for number in range(5)]
    options = {"validate_every": 1, "validation": images, "epochs": 3, "lr": 0.1, "output": folder}
    runs["validated"] = tuned(**options)
    runs["taught"] = tuned(teacher=0.5)
    return {name: (weights(run.model), rows(run), type(run.model[1])) for name, run in runs.items()}


def test_two_processes_synchronise_recalibrate_and_validate(tmp_path):
    first, second = in_processes(shared, tmp_path / "two", world=2)
    for name, (ours, own, _) in first.items():
        assert same(ours, second[name][0]) and own == second[name][1]
    assert {first[name][2] for name in ("sync", "parts", "few", "sides")} == {nn.BatchNorm2d}
    close(first["sync"][0], weights(tuned(network(nn.BatchNorm2d(6)), epochs=2).model), 1e-4)
    close(
        first["recalibrate"][0],
        weights(tuned(network(nn.BatchNorm2d(6)), batch_norm="recalibrate", lr=1e-9).model),
        1e-4,
    )
    assert (
        first["few"][1][0]["single_image_batches"] == 2 and first["sync"][1][0]["single_image_batches"] == 0
    )
    images = [Images()[number] for number in range(5)]
    alone = tuned(validate_every=1, validation=images, epochs=3, lr=0.1)
    assert [row["val_top1"] for row in first["validated"][1]] == [row["val_top1"] for row in alone.history]
    close(first["taught"][0], weights(tuned(teacher=0.5).model), 1e-4)


# --- validation ------------------------------------------------------------------------------------------

HELD_OUT = [Images()[number] for number in range(9)]
VALIDATED = {"validate_every": 2, "validation": HELD_OUT, "epochs": (4, 1), "lr": (0.1, 0.01)}
SEEN = {"canonical_side": 24, "device": "cpu", "workers": 0, "progress": False}


def test_validation_is_evaluate_under_the_mix_and_moves_no_number(tmp_path):
    mix = {"sharp": 0.25, "D4": 0.5, "shake": 0.25}
    result = tuned(norm(), blur=mix, output=tmp_path, ema=0.5, **VALIDATED)
    plain = tuned(norm(), blur=mix, ema=0.5, epochs=(4, 1), lr=(0.1, 0.01))
    assert same(weights(result.model), weights(plain.model))
    scores = [row["val_top1"] for row in result.history]
    assert [score is None for score in scores] == [True, False, True, False, False]
    options = {"blurs": "sharp, D4, shake", "scales": 16, "crop": 12, **SEEN}
    for model, expected in ((result.model, scores[-1]), (result.best, max(filter(None, scores)))):
        report = evaluate(model, HELD_OUT, **options)
        top1 = [report[blur].top1 for blur in ("sharp", "D4", "shake")]
        assert np.average(top1, weights=(0.25, 0.5, 0.25)) == pytest.approx(expected, abs=1e-12)
        assert not model.training
    assert same(torch.load(tmp_path / "best.pt", weights_only=True), weights(result.best))
    kept = settings(tmp_path)
    assert (kept["validate_every"], kept["validation"], kept["validation_images"]) == (2, "list", 9)
    header, *lines = (tmp_path / "log.csv").read_text().splitlines()
    assert header.endswith(",val_top1") and [line.endswith(",") for line in lines] == [True, False] * 2 + [
        False
    ]


def test_validation_of_segmentation_is_evaluate_too():
    def masked(index):
        mask = np.full((26, 34), index % 2, np.uint8)
        mask[:, : 5 * index] = 255
        return Images()[index][0], Image.fromarray(mask)

    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    train, held_out = [masked(index) for index in range(6)], [masked(index) for index in range(1, 5)]
    options = SMALL | {"batch_size": 3, "network_side": (20, 24)}
    result = finetune(
        model, {"train": train, "val": held_out}, task="segmentation", validate_every=1, **options
    )
    report = evaluate(result.model, held_out, task="segmentation", blurs="sharp, D2", scales=(20, 24), **SEEN)
    expected = np.mean([report[blur, side].miou for blur in ("sharp", "D2") for side in (20, 24)])
    assert result.history[0]["val_miou"] == pytest.approx(expected, abs=1e-12)


def test_ranges_draw_the_same_blurs_in_every_epoch():
    mix = {"sharp": 0.5, DiskBlur((1, 5)): 0.5}
    result = tuned(blur=mix, lr=1e-12, validation=HELD_OUT, validate_every=1, epochs=3)
    assert len({row["val_top1"] for row in result.history}) == 1


@pytest.mark.parametrize("left", [2 * COUNT + 3, 4 * COUNT])
def test_the_best_is_remembered(tmp_path, left):
    whole = tuned(output=tmp_path / "whole", **VALIDATED)
    with pytest.raises(StopError):
        tuned(items=Images(left), output=tmp_path / "part", **VALIDATED)
    (tmp_path / "part" / "best.pt").unlink()
    part = tuned(output=tmp_path / "part", resume=True, **VALIDATED)
    assert rows(part) == rows(whole) and same(weights(part.best), weights(whole.best))
    for name in ("model.pt", "best.pt"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class Stopping(list):
    stop = True

    def __getitem__(self, index):
        if index == 4 and self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def test_a_stop_during_validation_loses_no_step(tmp_path, capfd):
    images = Stopping(HELD_OUT)
    options = VALIDATED | {"validation": images}
    whole = tuned(norm(), **VALIDATED)
    with pytest.raises(SystemExit, match="143"):
        tuned(norm(), output=tmp_path / "part", **options)
    images.stop = False
    assert "after step 3 of 3 in epoch 2 of 5; kept in" in capfd.readouterr().err
    items = Images(3 * COUNT)  # no image of the second epoch again
    part = tuned(norm(), items, output=tmp_path / "part", resume=True, **options)
    assert items.left == 0 and rows(part) == rows(whole)
    assert same(weights(part.model), weights(whole.model))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"validate_every": 1}, "`validation` must be given where `root` is a dataset without splits"),
        ({"validation": HELD_OUT}, "`validation` must be left out where `validate_every` is 0, got list"),
        ({"validate_every": -1}, "`validate_every` must be a whole number from 0"),
        ({"validate_every": 1, "validation": [(HELD_OUT[0][0], 7)]}, "labels from 0 to 1"),
    ],
)
def test_wrong_validations_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        tuned(**options)


def test_a_folder_is_validated_on_its_own_split(tmp_path):
    for split, count in (("train", 4), ("valid", 2)):
        for label in ("across", "along"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for number in range(count):
                Images()[number][0].save(tmp_path / "photos" / split / label / f"{number}.png")
    result = finetune(network(), tmp_path / "photos", validate_every=1, output=tmp_path / "run", **SMALL)
    assert result.history[0]["val_top1"] is not None
    assert settings(tmp_path / "run")["validation"] == "photos/valid"
    shutil.copytree(tmp_path / "photos" / "valid", tmp_path / "others" / "val")
    (tmp_path / "others" / "val" / "along").rename(tmp_path / "others" / "val" / "up")
    with pytest.raises(
        ValueError, match=r"`validation` must have the 2 classes of `root`.*such as '(along|up)'"
    ):
        finetune(network(), tmp_path / "photos", validate_every=1, validation=tmp_path / "others", **SMALL)
    with pytest.raises(FileNotFoundError, match="`validation` must be a folder"):
        finetune(network(), tmp_path / "photos", validate_every=1, validation=tmp_path / "no", **SMALL)
