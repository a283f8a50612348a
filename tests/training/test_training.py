"""Fine-tuning against a loop written out by hand; workers, processes, stops; bad input."""

import csv
import json
import os
import re
import shutil
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from blurlib._common import rng
from blurlib._common.provenance import weights_digest
from blurlib._tasks import TrainingSettings
from blurlib.blurs import Disk
from blurlib.data import open_images
from blurlib.evaluation import evaluate
from blurlib.mixes import BlurMixSampler
from blurlib.protocol import Protocol, normalised, training_view
from blurlib.training import FinetuneResult, finetune
from processes import in_processes

SMALL = {
    "canonical_side": 24,
    "network_side": 16,
    "crop": 12,
    "batch_size": 8,
    "lr": 0.05,
    "epochs": 1,
    "device": "cpu",
    "workers": 0,
    "progress": False,
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(label, number):
    """Stripes that run across or along, with noise: learnable, and no two images alike."""
    draws = np.random.default_rng((label, number))
    stripes = np.indices((26, 34))[label] // 3 % 2 * 150
    noise = draws.integers(0, 100, (26, 34, 3))
    return Image.fromarray((stripes[..., None] + noise).astype(np.uint8))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes, 21 images: neither a multiple of the batch nor of two processes."""
    place = tmp_path_factory.mktemp("photos")
    for label, (name, count) in enumerate((("across", 11), ("along", 10))):
        folder = place / "train" / name
        folder.mkdir(parents=True)
        for number in range(count):
            picture(label, number).save(folder / f"{number:02}.png")
    return place


def network(*extra, outputs=2):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        *extra,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, outputs),
    )


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


# --- the numbers -----------------------------------------------------------------------------------------


def test_training_is_the_papers_loop(root):
    """Every step written out: order, blur, view, mean loss of the batch, momentum, decay, rates by phase."""
    result = finetune(
        network(), root, blur="sharp + D2", **SMALL | {"epochs": (2, 1), "lr": (0.05, 0.005)},
        momentum=0.9, weight_decay=0.01, hflip=0.5, seed=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4),
    )  # fmt: skip
    model = network()
    listing = open_images(root, split="train")
    mix = BlurMixSampler("sharp + D2", seed=4)
    protocol = Protocol(canonical_side=24, network_side=16, crop=12)
    velocity = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for epoch, rate in enumerate((0.05, 0.05, 0.005)):
        order = rng.permutation(21, seed=4, key=(epoch, 22)).tolist()
        losses, right = [], 0
        for batch in (order[:8], order[8:16], order[16:]):
            views = [
                training_view(
                    *listing.load(i),
                    mix.draw(i, epoch),
                    protocol=protocol,
                    seed=4,
                    epoch=epoch,
                    index=i,
                    hflip=0.5,
                )[0]
                for i in batch
            ]
            labels = torch.tensor([0 if i < 11 else 1 for i in batch])
            logits = model(normalised(torch.stack(views), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
            loss = F.cross_entropy(logits, labels)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    velocity[name] = 0.9 * velocity[name] + parameter.grad + 0.01 * parameter
                    parameter -= rate * velocity[name]
            losses += [loss.item()] * len(batch)
            right += int((logits.argmax(1) == labels).sum())
        row = result.history[epoch]
        assert (row["epoch"], row["lr"], row["images"], row["skipped"]) == (epoch + 1, rate, 21, 0)
        assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert row["top1"] == pytest.approx(right / 21)
    for name, tensor in result.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_it_learns(root):
    result = finetune(network(), root, blur="sharp + D2", **SMALL | {"epochs": 12, "lr": 0.1})
    assert isinstance(result, FinetuneResult) and result.checkpoint is None and result.skipped == ()
    assert result.history[0]["loss"] > 0.5
    assert result.history[-1]["loss"] < 0.2 and result.history[-1]["top1"] > 0.9


def test_the_callers_model_and_generators_stay_as_they_were(root):
    model = network(nn.BatchNorm2d(6), nn.Dropout(0.5)).train()
    model[0].bias.requires_grad_(False)
    before, generator = weights(model), torch.get_rng_state()
    result = finetune(model, root, **SMALL)
    assert same(weights(model), before) and model.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert not same(weights(result.model), before) and not result.model.training
    for ours, theirs in zip(result.model.parameters(), model.parameters(), strict=True):
        assert ours.requires_grad == theirs.requires_grad and ours.grad is None and theirs.grad is None
    assert torch.equal(result.model[0].bias, model[0].bias)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores
def test_results_do_not_depend_on_workers(root):
    runs = [
        finetune(network(nn.Dropout(0.3)), root, **SMALL | {"workers": workers, "epochs": 2})
        for workers in range(4)
    ]
    for run in runs[1:]:
        assert same(weights(run.model), weights(runs[0].model))
        assert without_seconds(run.history) == without_seconds(runs[0].history)


class Recorder(nn.Module):
    """A network that notes the images it is shown."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = network(), []

    def forward(self, images):
        if self.training:
            self.seen += [image.numpy().tobytes() for image in images]
        return self.inner(images)


def test_images_do_not_depend_on_the_batch_size_or_the_subset(root):
    def seen(**options):
        return Counter(finetune(Recorder(), root, **SMALL | {"epochs": 2} | options).model.seen)

    whole = seen()
    assert whole == seen(batch_size=5) == seen(batch_size=100)
    assert sum(whole.values()) == 42 and len(whole) == 42
    part = seen(limit=6)
    assert sum(part.values()) == 12 and part <= whole
    assert not seen(seed=1) & whole


def test_seed_decides_everything(root):
    first, again, other = (finetune(network(nn.Dropout(0.5)), root, seed=s, **SMALL) for s in (1, 1, 2))
    assert same(weights(first.model), weights(again.model))
    assert not same(weights(first.model), weights(other.model))


def test_a_sampler_keeps_its_own_seed_and_border(root):
    def run(mix):
        return weights(finetune(network(), root, blur=mix, seed=3, **SMALL).model)

    text = run("sharp + D2")
    assert same(text, run(BlurMixSampler("sharp + D2", seed=3)))
    assert same(text, run({"sharp": 0.5, Disk(2): 0.5}))
    assert not same(text, run(BlurMixSampler("sharp + D2", seed=4)))
    assert not same(text, run(BlurMixSampler("sharp + D2", seed=3, border="zeros")))
    assert not same(text, run("sharp"))


def test_shake_trains_on_the_train_bank(root):
    result = finetune(network(), root, blur="0.2 sharp + 0.8 shake", **SMALL | {"limit": 4})
    assert result.history[0]["images"] == 4


def test_several_network_sides_train_in_one_batch(root):
    sizes = Counter()

    class Sizes(Recorder):
        def forward(self, images):
            if self.training:
                sizes[images.shape[-1]] += len(images)
            return self.inner(images)

    options = SMALL | {"network_side": (10, 16), "epochs": 2}
    result = finetune(Sizes(), root, **options)
    # The smallest first side is 22.25, rounded to 22: 9.17 px at network side 10. Probes: two images each.
    assert set(sizes) == {9, 12} and sum(sizes.values()) == 42 + 2 * 2 and min(sizes.values()) > 8
    assert result.history[1]["images"] == 21


def test_batch_norm_policies(root):
    def run(policy):
        torch.manual_seed(0)
        model = network(nn.BatchNorm2d(6))
        return model, finetune(model, root, batch_norm=policy, **SMALL).model

    before, after = run("eval")
    assert torch.equal(before[1].running_mean, after[1].running_mean)
    assert after[1].num_batches_tracked == 0
    assert not torch.equal(before[1].weight, after[1].weight)
    before, after = run("train")
    assert not torch.equal(before[1].running_mean, after[1].running_mean)
    assert after[1].num_batches_tracked == 3


def pooled():
    """Batch norm over 1 x 1: one value a channel for each image."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )


def test_a_batch_of_one_uses_running_statistics(root):
    """As batch_norm="eval" throughout. torch refused: "Expected more than 1 value per channel"."""
    with pytest.warns(UserWarning, match="batch norm used its running statistics throughout"):
        ones = finetune(pooled(), root, **SMALL | {"batch_size": 1})
    kept = finetune(pooled(), root, batch_norm="eval", **SMALL | {"batch_size": 1})
    assert same(weights(ones.model), weights(kept.model))
    assert ones.history[0]["single_image_batches"] == 21 and kept.history[0]["single_image_batches"] == 0
    last = finetune(pooled(), root, **SMALL | {"batch_size": 10, "epochs": 2})  # 10, 10 and 1
    assert [row["single_image_batches"] for row in last.history] == [1, 1]
    assert {int(last.model[place].num_batches_tracked) for place in (1, 3, 6)} == {4}
    assert all(row["images"] == 21 for row in last.history)


def test_a_batch_of_one_of_two_sizes(root):
    """An image whose size no other of the batch has is one by itself too."""
    options = SMALL | {"batch_size": 3, "network_side": (10, 16)}
    result = finetune(pooled(), root, **options)
    assert 0 < result.history[0]["single_image_batches"] <= 7
    whole = finetune(torch.compile(pooled(), backend="eager"), root, **options)
    assert same(weights(result.model), weights(whole.model._orig_mod))
    part = finetune(nn.Sequential(torch.compile(pooled(), backend="eager")), root, **options)
    assert same(weights(result.model), weights(part.model[0]._orig_mod))


@pytest.mark.parametrize("wrap", [
    lambda model: torch.compile(model, backend="eager"),
    lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    nn.DataParallel,
], ids=["compiled", "parallel compiled", "compiled parallel", "parallel"])  # fmt: skip
def test_weights_are_kept_without_the_names_of_wrappers(root, tmp_path, wrap):
    """They were "_orig_mod.0.weight", which no network has that is not compiled."""
    plain = finetune(network(), root, **SMALL | {"epochs": 2})
    options = SMALL | {"output": tmp_path / "run"}
    result = finetune(wrap(network()), root, **options)
    assert type(result.model) is type(wrap(network()))
    for name in ("model.pt", "checkpoint.pt"):
        state = torch.load(tmp_path / "run" / name, weights_only=True)
        assert network().load_state_dict(state.get("model", state))
    # A checkpoint of an earlier version, with the wrapper's names, resumes as well.
    for older in (False, True):
        shutil.copytree(tmp_path / "run", tmp_path / f"run{older}")
        place = tmp_path / f"run{older}" / "checkpoint.pt"
        state = torch.load(place, weights_only=True)
        if older:
            names = wrap(network()).state_dict().keys()
            state["model"] = dict(zip(names, state["model"].values(), strict=True))
            for name in ("format", "library", "facts", "changes", "done"):
                del state[name]
            torch.save(state, place)
        longer = options | {"epochs": 2, "output": place.parent, "changes": ["epochs"]}
        more = finetune(wrap(network()), root, resume=True, **longer)
        assert same(weights(plain.model), torch.load(place.parent / "model.pt", weights_only=True))
        assert len(more.history) == 2


def test_a_compiled_part_is_kept_under_the_names_of_the_network(root, tmp_path):
    def parts():
        return nn.ModuleDict({"inside": network()})["inside"]

    model = nn.Sequential(torch.compile(parts(), backend="eager"))
    result = finetune(model, root, output=tmp_path, trainable=["0.4.*"], **SMALL)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert nn.Sequential(network()).load_state_dict(state)
    changed = {name for name, value in state.items() if not torch.equal(value, weights(parts())[name[2:]])}
    assert changed == {"0.4.weight", "0.4.bias"}
    assert torch.equal(result.model[0]._orig_mod[4].weight, state["0.4.weight"])


def test_batch_norm_over_maps_takes_one_image(root):
    """Where torch can normalise a single image, it does: nothing changes there."""
    result = finetune(network(nn.BatchNorm2d(6)), root, **SMALL | {"batch_size": 20})
    assert result.history[0]["single_image_batches"] == 0
    assert result.model[1].num_batches_tracked == 2


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        (None, {"0.weight", "0.bias", "4.weight", "4.bias"}),
        (["4.*"], {"4.weight", "4.bias"}),
        (["0.weight", "*.bias"], {"0.weight", "0.bias", "4.bias"}),
        ("4.weight", {"4.weight"}),
        (lambda _, parameter: parameter.ndim == 1, {"0.bias", "4.bias"}),
    ],
    ids=["all", "glob", "globs", "text", "function"],
)
def test_trainable_chooses_parameters(root, trainable, expected):
    model = network()
    after = finetune(model, root, trainable=trainable, **SMALL).model
    changed = {
        name for name, tensor in weights(after).items() if not torch.equal(tensor, model.state_dict()[name])
    }
    assert changed == expected
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_amp_is_bfloat16_in_the_forward_pass_only(root):
    kinds = set()

    class Kinds(Recorder):
        def forward(self, images):
            logits = self.inner(images)
            if self.training:
                kinds.add(logits.dtype)
            return logits

    exact = finetune(Kinds(), root, **SMALL)
    assert kinds == {torch.float32}
    kinds.clear()
    rough = finetune(Kinds(), root, amp=True, **SMALL)
    assert kinds == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in rough.model.parameters())
    for ours, theirs in zip(exact.model.parameters(), rough.model.parameters(), strict=True):
        assert 0 < (ours - theirs).abs().max() < 0.02


def test_a_models_own_normalisation_is_used(root):
    class Configured(nn.Sequential):
        pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # noqa: RUF012  as models of timm have it

    own = finetune(Configured(*network()), root, **SMALL).model
    given = finetune(network(), root, mean=(0.5,) * 3, std=(0.25,) * 3, **SMALL).model
    assert same(weights(own), weights(given))


def test_progress_is_shown_only_where_asked(root, capfd):
    finetune(network(), root, **SMALL)
    assert capfd.readouterr() == ("", "")
    finetune(network(), root, **SMALL | {"progress": True})
    out, err = capfd.readouterr()
    assert out == "" and "epoch 1/1" in err and "loss=" in err


def test_a_log_gets_a_line_an_epoch(root, capfd):
    """stderr is no terminal here; it had a redraw a batch before."""
    finetune(network(), root, **SMALL | {"progress": True, "epochs": 3, "batch_size": 1})
    err = capfd.readouterr().err
    lines = err.splitlines()
    assert "\r" not in err and len(lines) == 3
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(
            rf"epoch {number}/3: 21 batches, loss=\d\.\d{{3}}, top1=[01]\.\d{{3}}, \d+\.\d s", line
        )


# --- output and resume -----------------------------------------------------------------------------------


class StopError(Exception):
    pass


class Stopping(Dataset):
    """The images of a listing; stops the run when that many have been read."""

    def __init__(self, listing, count):
        self.listing, self.left, self.classes = listing, count, list(listing.classes)

    def __len__(self):
        return len(self.listing)

    def __getitem__(self, index):
        if self.left == 0:
            raise StopError
        self.left -= 1
        return self.listing.load(index)


def test_the_output_folder_holds_the_run(root, tmp_path):
    output = tmp_path / "runs" / "first"
    result = finetune(
        network(nn.BatchNorm2d(6)), root, output=output, **SMALL | {"epochs": (1, 1), "lr": (0.1, 0.01)}
    )
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
        "log.csv",
        "model.pt",
        "model.safetensors",
        "settings.json",
        *(["tensorboard"] if find_spec("tensorboard") else []),
    ]
    before = torch.load(output / "checkpoint.previous.pt", weights_only=True)
    assert before["epoch"] == 1 and before["history"] == result.history[:1]
    assert same(load_file(output / "model.safetensors"), weights(result.model))
    with (output / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == result.history
    numbers = ["epoch", "lr", "loss", "top1", "images", "skipped", "single_image_batches", "seconds"]
    assert list(rows[0]) == numbers
    settings = json.loads((output / "settings.json").read_text())["settings"]
    assert settings["epochs"] == [1, 1] and settings["protocol"]["canonical_side"] == 24
    assert settings["root"] == root.name and str(root) not in (output / "settings.json").read_text()
    assert result.checkpoint == output / "checkpoint.pt" and result.weights == output / "model.pt"
    state = torch.load(result.checkpoint, weights_only=True)
    assert state["epoch"] == 2 and state["history"] == result.history and state["settings"] == settings
    assert same(state["model"], weights(result.model))
    assert same(torch.load(output / "model.pt", weights_only=True), weights(result.model))


@pytest.mark.parametrize("images", [10, 21, 30, 42, 62])
def test_resume_gives_the_weights_of_a_run_that_was_never_stopped(root, tmp_path, images):
    """Stopped in the first epoch, between epochs, and in the third; with momentum, batch norm and dropout."""
    listing = open_images(root, split="train")
    options = SMALL | {"epochs": (2, 1), "lr": (0.1, 0.01), "blur": "sharp + D2", "hflip": 0.5}

    def start():
        return network(nn.BatchNorm2d(6), nn.Dropout(0.5))

    whole = finetune(start(), Stopping(listing, -1), **options)
    with pytest.raises(StopError):
        finetune(start(), Stopping(listing, images), output=tmp_path, **options)
    finished = images // 21
    assert (tmp_path / "checkpoint.pt").exists() == (finished > 0)
    if finished:
        with (tmp_path / "log.csv").open() as file:
            assert len(list(csv.DictReader(file))) == finished
    torch.manual_seed(99)
    resumed = finetune(
        start(),
        Stopping(listing, 63 - 21 * finished),
        output=tmp_path,
        resume=True,
        **options | {"workers": 0},
    )
    assert same(weights(resumed.model), weights(whole.model))
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    with (tmp_path / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    again = finetune(start(), Stopping(listing, 0), output=tmp_path, resume=True, **options)
    assert same(weights(again.model), weights(whole.model)) and again.history == resumed.history


def test_resume_starts_where_there_is_nothing(root, tmp_path):
    fresh = finetune(network(), root, output=tmp_path / "new", resume=True, **SMALL)
    assert same(weights(fresh.model), weights(finetune(network(), root, **SMALL).model))


def test_an_earlier_run_is_not_overwritten(root, tmp_path):
    finetune(network(), root, output=tmp_path, **SMALL)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"`output`.*checkpoint\.pt, log\.csv.*resume=True"):
        finetune(network(), root, output=tmp_path, **SMALL)
    for change, told in (
        ({"lr": 0.01}, r"lr \(was \[0\.05\], now \[0\.01\]\)"),
        ({"batch_size": 9, "seed": 1}, r"batch_size.*seed"),
        ({"blur": "sharp"}, "blur"),
        ({"trainable": ["4.*"]}, "trained"),
        ({"limit": 5}, "images.*limit.*listing"),
        ({"crop": 11}, "protocol"),
    ):
        with pytest.raises(ValueError, match=rf"`resume`.*{told}"):
            finetune(network(), root, output=tmp_path, resume=True, **SMALL | change)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # What does not change the numbers may change.
    finetune(network(), root, output=tmp_path, resume=True, **SMALL | {"workers": 1, "progress": False})


def test_output_must_be_a_folder(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`output`.*file"):
        finetune(network(), root, output=tmp_path / "file", **SMALL)
    with pytest.raises(ValueError, match=r"`output`.*`resume`"):
        finetune(network(), root, resume=True, **SMALL)


# --- broken images and losses ----------------------------------------------------------------------------


@pytest.fixture
def broken_root(root, tmp_path):
    for path in root.rglob("*.png"):
        target = tmp_path / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for name in ("across/03.png", "along/09.png"):
        path = tmp_path / "train" / name
        path.write_bytes(path.read_bytes()[:900])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_stops_with_its_path(broken_root, workers):
    with pytest.raises(ValueError, match=r"cannot read .*train/(across/03|along/09)\.png"):
        finetune(network(), broken_root, **SMALL | {"workers": workers})


def test_broken_images_are_skipped_counted_and_listed(broken_root, tmp_path):
    output = tmp_path / "out"
    options = SMALL | {"epochs": 2, "on_error": "skip"}
    result = finetune(network(), broken_root, output=output, **options)
    assert [(row["images"], row["skipped"]) for row in result.history] == [(19, 2), (19, 2)]
    assert [item.name for item in result.skipped] == ["train/across/03.png", "train/along/09.png"]
    assert all("cannot read" in item.reason for item in result.skipped)
    with (output / "skipped.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [item.name for item in result.skipped]
    again = finetune(network(), broken_root, output=output, resume=True, **options)
    assert again.skipped == result.skipped


def test_a_batch_of_broken_images_is_passed_over(broken_root):
    """With batches of one image, two batches are empty: as many steps as there are images."""
    steps = []
    model = network()
    model.register_forward_hook(lambda module, *_: steps.extend([1] * module.training))
    result = finetune(model, broken_root, on_error="skip", **SMALL | {"batch_size": 1})
    assert len(steps) == 19 + 1 and result.history[0]["images"] == 19


def test_only_broken_images_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.jpg").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"`root`.*got 2 that all cannot.*0\.jpg"):
        finetune(network(), tmp_path, on_error="skip", **SMALL)


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_finished(root, tmp_path):
    options = SMALL | {"epochs": (2, 3), "lr": (0.05, 1e30), "output": tmp_path}
    with pytest.raises(ValueError, match=r"`lr`.*epoch 3 of 5, step [23] of 3 at lr 1e\+30; lower `lr`"):
        finetune(network(), root, **options)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 2 and all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    good = finetune(network(), root, **SMALL | {"epochs": 2})
    assert same(state["model"], weights(good.model))


def test_weights_that_are_not_finite_after_the_last_step_are_not_saved(root, tmp_path):
    with pytest.raises(ValueError, match=r"`lr`.*weights.*epoch 1 of 1.*lower `lr`"):
        finetune(
            network(), root, output=tmp_path, weight_decay=1e30, **SMALL | {"batch_size": 21, "lr": 1e30}
        )
    assert not (tmp_path / "checkpoint.pt").exists()


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "error", "told"),
    [
        ({"epochs": 0}, ValueError, "`epochs`"),
        ({"epochs": 1.5}, TypeError, "`epochs`"),
        ({"epochs": ()}, ValueError, "`epochs`"),
        ({"epochs": "3"}, TypeError, "`epochs`"),
        ({"epochs": (1, 2)}, ValueError, "`epochs` and `lr`"),
        ({"lr": 0.0}, ValueError, "`lr`"),
        ({"lr": -1.0}, ValueError, "`lr`"),
        ({"lr": float("nan")}, ValueError, "`lr`"),
        ({"lr": float("inf")}, ValueError, "`lr`"),
        ({"lr": 1e39}, ValueError, "`lr`"),
        ({"lr": "fast"}, TypeError, "`lr`"),
        ({"momentum": 1.5}, ValueError, "`momentum`"),
        ({"weight_decay": -1e-4}, ValueError, "`weight_decay`"),
        ({"hflip": 2}, ValueError, "`hflip`"),
        ({"hflip": "half"}, TypeError, "`hflip`"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"batch_size": 2.0}, TypeError, "`batch_size`"),
        ({"batch_norm": "batch"}, ValueError, "`batch_norm`"),
        ({"network_side": 0}, ValueError, "`network_side`"),
        ({"crop": 0}, ValueError, "`crop`"),
        ({"jitter": ()}, ValueError, "`jitter`"),
        ({"mean": (0.5, 0.5)}, ValueError, "`mean`"),
        ({"std": (0.0, 1.0, 1.0)}, ValueError, "`std`"),
        ({"limit": -3}, ValueError, "`limit`"),
        ({"on_error": "ignore"}, ValueError, "`on_error`"),
        ({"workers": -1}, ValueError, "`workers`"),
        ({"device": "tpu9"}, ValueError, "`device`"),
        ({"seed": 1.5}, TypeError, "`seed`"),
        ({"amp": "yes"}, TypeError, "`amp`"),
        ({"trainable": ["head.*"]}, ValueError, r"`trainable`.*'head\.\*'.*0\.weight"),
        ({"trainable": []}, ValueError, "`trainable`"),
        ({"trainable": 3}, TypeError, "`trainable`"),
        ({"trainable": lambda *_: False}, ValueError, "`trainable`"),
        ({"blur": "D4 + Q9"}, ValueError, "Q9"),
        ({"blur": 4}, TypeError, "mix"),
    ],
    # Without addresses, which differ between the processes of a parallel run.
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_wrong_arguments_are_named(root, option, error, told):
    with pytest.raises(error, match=told):
        finetune(network(), root, **SMALL | option)


def test_the_models_outputs_must_match_the_classes(root):
    with pytest.raises(ValueError, match=r"`model`.*5 outputs for 2 classes.*with 2 outputs"):
        finetune(network(outputs=5), root, **SMALL)
    items = [(picture(0, 0), 0), (picture(1, 0), 2)]
    with pytest.raises(ValueError, match=r"`root`.*labels from 0 to 1.*got 2 for the image '1'"):
        finetune(network(), items, **SMALL)
    assert finetune(network(outputs=3), items, **SMALL).history[0]["images"] == 2


class Targets(Dataset):
    """Labels are known, images are not to be read."""

    classes = ("a", "b")

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        raise AssertionError("read")


@pytest.mark.parametrize(
    ("targets", "found"), [([1, 2, 0], "2 for the image '1'"), ([1, 0, -1], "-1 for the image '2'")]
)
def test_labels_without_an_output_are_found_before_an_image_is_read(targets, found):
    for run, options in (
        (finetune, SMALL),
        (evaluate, {"device": "cpu", "workers": 0, "progress": False}),
    ):
        with pytest.raises(ValueError, match=rf"`root`.*labels from 0 to 1, .*got {found}; number"):
            run(network(), Targets(targets), **options)


@pytest.mark.parametrize("pattern", ["4.*", "module.4.*", "module._orig_mod.4.*"])
def test_trained_parameters_have_the_names_of_the_network_inside(root, tmp_path, pattern):
    """They were "module.4.weight", which the weights that the run keeps do not have."""
    wrapped = nn.DataParallel(torch.compile(network(), backend="eager"))
    finetune(wrapped, root, trainable=[pattern], output=tmp_path, **SMALL)
    known = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert known["settings"]["trained"] == ["4.weight", "4.bias"]
    seen = []
    finetune(wrapped, root, trainable=lambda name, _: not seen.append(name), **SMALL)
    assert seen == [name for name, _ in network().named_parameters()]
    finetune(wrapped, root, trainable=[pattern], output=tmp_path, resume=True, **SMALL)
    with pytest.raises(ValueError, match=r"`resume` must go on with .*another trained"):
        finetune(wrapped, root, output=tmp_path, resume=True, **SMALL)


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, images):
        return (None, self.inner(images)) if self.training else self.inner(images)


@pytest.mark.parametrize(
    ("model", "got"),
    [(Auxiliary(), "got tuple"), (nn.Conv2d(3, 2, 1), r"\(batch, classes\), got \(2, 2, 12, 12\)")],
    ids=["tuple", "map"],
)
def test_a_model_must_return_logits(root, model, got):
    with pytest.raises((TypeError, ValueError), match=rf"`model` must return .*{got}"):
        finetune(model, root, **SMALL)


def test_a_model_that_does_not_take_the_size_is_refused(root):
    model = nn.Sequential(nn.Conv2d(3, 2, 15), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 20, 20))
    with pytest.raises(ValueError, match=r"`model`.*\(2, 3, 12, 12\).*`crop`"):
        finetune(model, root, **SMALL)


def test_what_is_no_model_is_refused(root):
    with pytest.raises(TypeError, match="`model`"):
        finetune("vgg16", root, **SMALL)


def test_settings_print_fully_and_do_not_change():
    settings = TrainingSettings(blur="sharp", epochs=[1, 2], lr=[0.1, 0.01], batch_size=8)
    assert "epochs=(1, 2)" in repr(settings) and "canonical_side=384" in repr(settings)
    with pytest.raises(AttributeError):
        settings.lr = (1.0,)


# --- several processes -----------------------------------------------------------------------------------


class WithAuxiliary(nn.Module):
    """As Inception in training: a second output, by layers of its own."""

    def __init__(self):
        super().__init__()
        self.inside, self.auxiliary = network(), nn.Conv2d(3, 1, 3)

    def forward(self, images):
        scores = self.inside(images)
        return (scores, self.auxiliary(images)) if self.training else scores


def runs(root, broken, out):
    """Weights, history and skipped images of runs that one process and two must agree on."""
    many = SMALL | {"epochs": (1, 1), "lr": (0.1, 0.01), "blur": "sharp + D2"}
    settings = {
        "plain": (root, many),
        "one left": (root, many | {"batch_size": 20}),  # the last batch has one image: one process has none
        "sides": (root, many | {"network_side": (10, 16)}),
        "skip": (broken, many | {"on_error": "skip", "batch_size": 3}),
        "frozen": (root, many | {"trainable": ["4.*"]}),
        "output": (root, many | {"output": out}),
        "resumed": (root, many | {"output": out, "resume": True}),
    }
    results = {name: finetune(network(), place, **options) for name, (place, options) in settings.items()}
    results["auxiliary"] = finetune(WithAuxiliary(), root, **many | {"batch_size": 20})
    # Statistics of batches differ with the processes: the weights must agree among these only.
    results["norm"] = finetune(network(nn.BatchNorm2d(6)), root, **many | {"network_side": (10, 16)})
    for size in (19, 20):  # the last batch: one image for each process, or for the first one alone
        results[f"norm, last {21 - size}"] = finetune(pooled(), root, **many | {"batch_size": size})
    return {
        name: (weights(result.model), result.history, [item.name for item in result.skipped])
        for name, result in results.items()
    }


def test_two_processes_compute_what_one_does(root, broken_root, tmp_path):
    one = runs(root, broken_root, tmp_path / "one")
    two, other = in_processes(runs, root, broken_root, tmp_path / "two", world=2)
    assert len(one["skip"][2]) == 2
    for name, (model, history, skipped) in one.items():
        assert same(two[name][0], other[name][0]) and two[name][2] == other[name][2] == skipped
        assert without_seconds(two[name][1]) == without_seconds(other[name][1])
        if name.startswith("norm"):
            continue
        for key, tensor in model.items():
            torch.testing.assert_close(two[name][0][key], tensor, rtol=1e-4, atol=1e-6)
        for before, after in zip(history, two[name][1], strict=True):
            assert [after[key] for key in ("images", "skipped", "top1", "lr")] == [
                before[key] for key in ("images", "skipped", "top1", "lr")
            ]
            assert after["loss"] == pytest.approx(before["loss"], rel=1e-4)
    assert one["auxiliary"][1][1]["loss"] == pytest.approx(one["one left"][1][1]["loss"])
    singles = {
        (name, count): [row["single_image_batches"] for row in found[f"norm, last {name}"][1]]
        for name in (1, 2)
        for count, found in ((1, one), (2, two))
    }
    assert singles == {(1, 1): [1, 1], (1, 2): [1, 1], (2, 1): [0, 0], (2, 2): [2, 2]}


def test_a_run_that_stopped_before_its_first_checkpoint_does_not_block_its_folder(root, tmp_path):
    with pytest.raises(ValueError, match="loss"):
        finetune(network(), root, output=tmp_path / "run", **SMALL | {"lr": 1e30})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"settings.json"}
    again = finetune(network(), root, output=tmp_path / "run", **SMALL)
    assert again.checkpoint.exists()


def test_the_record_says_which_network_it_was(root, tmp_path):
    model = network()
    model.pretrained_cfg = {
        "architecture": "tiny",
        "tag": "in1k",
        "interpolation": "bicubic",
        "crop_pct": 0.9,
    }
    known = {"file": "weights.pt"}
    finetune(nn.DataParallel(model), root, output=tmp_path, metadata=known, **SMALL)
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["settings"]["model"] == "Sequential"
    assert written["about"] == {
        "model": "Sequential",
        "name": "tiny",
        "weights_sha256": weights_digest(model),
        "metadata": {"file": "weights.pt"},
        "normalisation": "assumed",
        "config_not_applied": {"interpolation": "bicubic", "crop_pct": 0.9},
    }
    # What a run is about does not keep it from going on.
    finetune(nn.DataParallel(model), root, output=tmp_path, resume=True, **SMALL)
    with pytest.raises(TypeError, match="`metadata` must be a mapping from names to values that JSON"):
        finetune(model, root, metadata={"file": Path("weights.pt")}, **SMALL)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse names that are no text")
def test_names_that_are_no_text_survive(root, tmp_path):
    """A UnicodeEncodeError lost the run after its work was done."""
    place = tmp_path / os.fsdecode(b"data-\xe9")
    shutil.copytree(root, place)
    name = os.fsdecode(b"caf\xe9.png")
    (place / "train" / "along" / name).write_bytes(b"no picture")
    result = finetune(network(), place, on_error="skip", output=tmp_path / "run", **SMALL)
    assert [item.name for item in result.skipped] == [f"train/along/{name}"]
    table = (tmp_path / "run" / "skipped.csv").read_text(encoding="utf-8")
    assert "train/along/caf\\udce9.png" in table
    again = finetune(network(), place, on_error="skip", output=tmp_path / "run", resume=True, **SMALL)
    assert [item.name for item in again.skipped] == [f"train/along/{name}"]
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["root"] == "data-\\udce9"
