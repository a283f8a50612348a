"""What the options of a step do, against torch's own: optimisers, rates, gradients, averages."""

import functools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.optim import lr_scheduler, swa_utils
from torch.utils.data import Dataset

from blurlib._common import rng
from blurlib.data import open_images
from blurlib.mixes import BlurMixSampler
from blurlib.protocol import Protocol, normalised, training_view
from blurlib.training import finetune
from processes import in_processes

SMALL = {
    "canonical_side": 24,
    "network_side": 16,
    "crop": 12,
    "batch_size": 8,
    "lr": 0.05,
    "epochs": 1,
    "blur": "sharp + D2",
    "device": "cpu",
    "workers": 0,
    "progress": False,
}
COUNT, STEPS = 21, 3  # images, and steps of an epoch, the last of five images
ADAM = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


class StopError(Exception):
    pass


class Images(Dataset):
    """Stripes that run across or along, with noise. After so many items the run stops."""

    def __init__(self, left=-1):
        self.left = left
        self.targets = [number % 2 for number in range(COUNT)]

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if self.left == 0:
            raise StopError
        self.left -= 1
        draws = np.random.default_rng(index)
        stripes = np.indices((26, 34))[index % 2] // 3 % 2 * 150
        noise = draws.integers(0, 100, (26, 34, 3))
        return Image.fromarray((stripes[..., None] + noise).astype(np.uint8)), index % 2


def network(*extra):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        *extra,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 2),
    )


def tuned(model=None, items=None, **options):
    return finetune(model or network(), items or Images(), **SMALL | options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=tolerance, atol=tolerance, msg=name)


def rows(result):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]


def batches(epoch, size=8):
    """Views and labels of each batch of an epoch, as the paper's loop has them."""
    listing, mix = open_images(Images(), split="train"), BlurMixSampler("sharp + D2")
    protocol = Protocol(canonical_side=24, network_side=16, crop=12)
    order = rng.permutation(COUNT, seed=0, key=(epoch, 22)).tolist()
    for start in range(0, COUNT, size):
        chosen = order[start : start + size]
        views = [
            training_view(
                *listing.load(i), mix.draw(i, epoch), protocol=protocol, seed=0, epoch=epoch, index=i
            )[0]
            for i in chosen
        ]
        images = normalised(torch.stack(views), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        yield images, torch.tensor([i % 2 for i in chosen])


def by_hand(model, optimizer, scheduler=None, *, epochs=1, clip=None, average=None):
    """torch's own loop. Returns the rate of each step."""
    rates = []
    for epoch in range(epochs):
        for images, labels in batches(epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            F.cross_entropy(model.train()(images), labels).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
            if scheduler is not None:
                scheduler.step()
    return rates


def resumed(tmp_path, *extra, stops=(12, 9), **options):
    """A run stopped in the middle of its first epoch, twice, equals one that was not, to the bit."""
    whole = tuned(network(*extra), output=tmp_path / "whole", **options)
    for left in stops:
        with pytest.raises(StopError):
            tuned(
                network(*extra), Images(left), output=tmp_path / "part", resume=True, checkpoint_every=0,
                **options,
            )  # fmt: skip
        state = torch.load(tmp_path / "part" / "checkpoint.pt", weights_only=True)
    assert state["done"]["epoch"]["step"] in (1, 2)
    part = tuned(network(*extra), output=tmp_path / "part", resume=True, **options)
    assert same(weights(part.model), weights(whole.model)) and rows(part) == rows(whole)
    for name in ("checkpoint.pt", "model.pt"):
        one, other = (torch.load(tmp_path / run / name, weights_only=True) for run in ("whole", "part"))
        assert same(one.get("model", one), other.get("model", other))
    return whole


def settings(folder):
    return json.loads((folder / "settings.json").read_text())["settings"]


def test_a_run_without_options_has_not_moved():
    """Its losses from before there were options, to the rounding of other machines."""
    model = network(nn.BatchNorm2d(6), nn.Dropout(0.3))
    result = tuned(model, epochs=(1, 1), lr=(0.05, 0.005), weight_decay=0.01, hflip=0.5)
    assert [row["loss"] for row in result.history] == pytest.approx(
        [0.7310215859186082, 0.6316684087117513], rel=1e-6
    )
    assert list(result.history[0]) == [
        *("epoch", "lr", "loss", "top1", "images", "skipped", "single_image_batches", "seconds")
    ]


# --- gradients and averages ------------------------------------------------------------------------------


def test_clipped_gradients_are_torchs_own():
    result = tuned(clip=0.05)
    model = network()
    by_hand(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), clip=0.05)
    close(weights(result.model), weights(model))
    assert same(weights(tuned(clip=1e6).model), weights(tuned().model))
    assert not same(weights(tuned(clip=0.5).model), weights(tuned().model))


def test_the_average_is_torchs_own(tmp_path):
    extra = nn.BatchNorm2d(6)
    result = tuned(network(extra), ema=0.7, output=tmp_path)
    model = network(nn.BatchNorm2d(6))
    average = swa_utils.AveragedModel(
        model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.7), use_buffers=True
    )
    by_hand(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), average=average)
    close(weights(result.model), weights(average.module))
    assert not result.model.training and all(each.requires_grad for each in result.model.parameters())
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    close(state["model"], weights(model))
    assert same(state["average"], weights(result.model)) and state["averaged"] == STEPS
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), weights(result.model))
    # The last weights are those of a run without.
    assert same(state["model"], weights(tuned(network(nn.BatchNorm2d(6))).model))


def test_averages_and_clipping_resume(tmp_path):
    resumed(tmp_path, nn.BatchNorm2d(6), nn.Dropout(0.3), ema=0.8, clip=0.5, epochs=2)


# --- batches in parts ------------------------------------------------------------------------------------


class Masked(Dataset):
    """Images with masks, of which one is void and others partly are."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        mask = np.full((26, 34), index % 2, np.uint8)
        mask[: 13 if index else 26, : 5 * index if index else 34] = 255
        return Images()[index][0], Image.fromarray(mask)


@pytest.mark.parametrize("parts", [2, 3, 8, 100])
@pytest.mark.parametrize("sides", [16, (10, 16)])
def test_a_batch_in_parts_gives_the_weights_of_the_whole(parts, sides):
    """Uneven parts, fewer images than parts, parts with images of two sizes."""
    whole = tuned(network_side=sides, epochs=2)
    result = tuned(network_side=sides, epochs=2, accumulate=parts)
    close(weights(result.model), weights(whole.model), 1e-6)
    for ours, theirs in zip(rows(result), rows(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def segmented(**options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return finetune(model, Masked(), task="segmentation", **SMALL | {"batch_size": 4} | options)


def test_parts_with_unlike_numbers_of_void_pixels_give_the_mean_over_all_labels():
    whole = segmented()
    for parts in (2, 3, 4):
        result = segmented(accumulate=parts)
        close(weights(result.model), weights(whole.model), 1e-6)
        assert rows(result)[0] == pytest.approx(rows(whole)[0], rel=1e-6)


def test_parts_of_one_image_are_counted():
    model = nn.Sequential(
        network()[:2], nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 2)
    )
    result = tuned(model, accumulate=3)  # 3 + 3 + 2, twice, then 1 + 2 + 2
    assert result.history[0]["single_image_batches"] == 1
    assert int(result.model[2].num_batches_tracked) == 8


def test_parts_resume(tmp_path):
    resumed(tmp_path, nn.BatchNorm2d(6), nn.Dropout(0.3), accumulate=3)


def shared(folder):
    """Runs in parts, with all that a step may do, and what they leave."""
    options = {"accumulate": 3, "clip": 0.5, "ema": 0.8, "schedule": "cosine", "epochs": 2, "warmup": 0.5}
    runs = [
        tuned(optimizer=ADAM, **options),
        tuned(batch_size=20, **options),  # the last batch has one image: one process has none
        segmented(**options),
    ]
    return [(weights(run.model), rows(run)) for run in runs]


@pytest.mark.exhaustive
def test_two_processes_share_parts_as_one_has_them(tmp_path):
    one = shared(tmp_path / "one")
    first, second = in_processes(shared, tmp_path / "two", world=2)
    for (expected, told), (ours, own), (theirs, _) in zip(one, first, second, strict=True):
        assert same(ours, theirs)
        close(ours, expected)
        for row, other in zip(own, told, strict=True):
            assert row == pytest.approx(other, rel=1e-4)


# --- precision and layout --------------------------------------------------------------------------------


def test_float16_is_torchs_own(tmp_path):
    result = tuned(amp="fp16", output=tmp_path)
    model = network()
    optimizer, scaler = (
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        torch.amp.GradScaler("cpu"),
    )
    for images, labels in batches(0):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(images).float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    close(weights(result.model), weights(model), 1e-4)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["scaler"] == scaler.state_dict()
    assert result.history[0]["overflows"] == 0 and settings(tmp_path)["amp"] == "fp16"
    with (tmp_path / "log.csv").open() as file:
        assert file.readline().strip().endswith("seconds,overflows")


class Overflowing(torch.autograd.Function):
    """Gradients that float16 does not hold at the first scale."""

    @staticmethod
    def forward(_, inputs):
        return inputs.clone()

    @staticmethod
    def backward(_, gradient):
        return (gradient.half() * 20).float()


class Steep(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network(nn.BatchNorm2d(6))

    def forward(self, images):
        return Overflowing.apply(self.inner(images).float())


def test_steps_that_overflow_are_left_out_counted_and_resumed(tmp_path):
    result = tuned(Steep(), amp="fp16", ema=0.5, epochs=2, output=tmp_path / "whole")
    left = [row["overflows"] for row in result.history]
    assert left[0] > 0
    state = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)
    assert state["scaler"]["scale"] == 65536 * 0.5 ** sum(left) and state["averaged"] == 6 - sum(left)
    with pytest.raises(StopError):
        tuned(
            Steep(), Images(12), amp="fp16", ema=0.5, epochs=2, output=tmp_path / "part", checkpoint_every=0
        )
    part = tuned(Steep(), amp="fp16", ema=0.5, epochs=2, output=tmp_path / "part", resume=True)
    assert same(weights(part.model), weights(result.model)) and rows(part) == rows(result)


def test_bf16_is_another_name_for_true(tmp_path):
    result = tuned(amp="bf16", output=tmp_path)
    assert same(weights(result.model), weights(tuned(amp=True).model)) and settings(tmp_path)["amp"] is True


def test_channels_last_changes_the_order_in_memory_alone(tmp_path):
    seen = []

    class Orders(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, images):
            last = torch.channels_last
            orders = [each.is_contiguous(memory_format=last) for each in (images, self.inner[0].weight)]
            if self.training:
                seen.append(orders)
            return self.inner(images)

    plain = tuned(Orders())
    seen.clear()
    result = tuned(Orders(), channels_last=True, ema=0.5, output=tmp_path)
    assert [True, True] in seen and seen[-1] == [True, True]
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    close(state, weights(plain.model))
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    for each in (*result.model.parameters(), *kept.values()):
        assert each.is_contiguous()
    assert same(kept, weights(result.model))


@pytest.fixture
def compiled(monkeypatch):
    """Calls of torch.compile, by a backend that needs no compiler."""
    torch._dynamo.reset()
    calls, real = [], torch.compile

    def compile_(model):
        calls.append(model)
        return real(model, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_)
    return calls


def test_a_compiled_run_keeps_the_networks_names_and_kind(tmp_path, compiled):
    result = tuned(network(nn.BatchNorm2d(6)), compile=True, ema=0.5, output=tmp_path)
    assert len(compiled) == 1 and type(result.model) is nn.Sequential
    close(weights(result.model), weights(tuned(network(nn.BatchNorm2d(6)), ema=0.5).model))
    for name in ("model.pt", "checkpoint.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert network(nn.BatchNorm2d(6)).load_state_dict(state.get("model", state))


def test_a_network_that_does_not_compile_is_one_error(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    torch._dynamo.reset()  # else other tests' networks, of the same classes, have used up its cache
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=broken))
    with pytest.raises(ValueError, match=r"`compile` must be False where .*RuntimeError: no compiler here"):
        tuned(compile=True)


@pytest.mark.slow
def test_a_run_compiled_by_inductor_gives_the_same_numbers():
    options = {"epochs": 2, "accumulate": 2, "clip": 0.5}
    close(weights(tuned(compile=True, **options).model), weights(tuned(**options).model))


# --- optimiser and rates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ({"optimizer": ADAM, "lr": None}, ADAM),
        ({"optimizer": ADAM}, lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
    ],
    ids=["SGD", "own rate", "given rate"],
)
def test_an_optimizer_is_torchs_own(options, make):
    result = tuned(**options)
    model = network()
    by_hand(model, make(model.parameters()))
    close(weights(result.model), weights(model))


def grouped(parameters):
    decay = [each for each in parameters if each.ndim > 1]
    rest = [each for each in parameters if each.ndim <= 1]
    return torch.optim.Adam([{"params": decay, "lr": 0.02}, {"params": rest}], lr=0.01)


def test_groups_keep_their_rates_and_later_phases_have_a_tenth(tmp_path):
    result = tuned(optimizer=grouped, lr=None, epochs=(1, 1), output=tmp_path)
    model = network()
    optimizer = grouped(list(model.parameters()))
    by_hand(model, optimizer, lr_scheduler.MultiStepLR(optimizer, [STEPS], gamma=0.1), epochs=2)
    close(weights(result.model), weights(model))
    assert [row["lr"] for row in result.history] == pytest.approx([0.02, 0.002])
    kept = settings(tmp_path)
    assert kept["optimizer"]["class"] == "torch.optim.adam.Adam" and kept["lr"] is None
    told = [[group[name] for name in ("parameters", "betas")] for group in kept["optimizer"]["groups"]]
    assert told == [[2, [0.9, 0.999]]] * 2 and kept["optimizer_lr"] == [0.02, 0.01]
    assert "momentum" not in kept


def _cosine(optimizer, steps):
    return lr_scheduler.CosineAnnealingLR(optimizer, steps)


def _warm(optimizer, rise, after):
    rising = lr_scheduler.LinearLR(optimizer, 1 / (rise + 1), total_iters=rise)
    return lr_scheduler.SequentialLR(optimizer, [rising, after(optimizer)], [rise])


SCHEDULES = {
    "cosine": ({"schedule": "cosine", "epochs": 3}, lambda o: _cosine(o, 9)),
    "warm cosine": (
        {"schedule": "cosine", "epochs": 3, "warmup": 4 / 3},
        lambda o: _warm(o, 4, lambda o: _cosine(o, 5)),
    ),
    "warm steps": (
        {"epochs": (2, 1), "lr": (0.05, 0.005), "warmup": 1},
        lambda o: _warm(o, 3, lambda o: lr_scheduler.MultiStepLR(o, [3], gamma=0.1)),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_torchs_own(name, monkeypatch):
    options, make = SCHEDULES[name]
    seen = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self))
    )
    result = tuned(**options)
    monkeypatch.undo()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    expected = by_hand(model, optimizer, make(optimizer), epochs=3)
    assert seen == pytest.approx(expected, rel=1e-9, abs=1e-12)
    close(weights(result.model), weights(model))
    assert [row["lr"] for row in result.history] == seen[2::3]


def test_a_cosine_takes_the_papers_epochs_and_first_rate(tmp_path):
    options = {name: value for name, value in SMALL.items() if name not in ("epochs", "lr")}
    finetune(network(), Images(), schedule="cosine", output=tmp_path, **options)
    kept = settings(tmp_path)
    assert (kept["epochs"], kept["lr"], kept["schedule"], kept["warmup"]) == ([3], [1e-3], "cosine", 0.0)


@pytest.mark.parametrize(
    "options",
    [{"optimizer": ADAM, "lr": None, "epochs": (1, 1)}, {"schedule": "cosine", "warmup": 0.5, "epochs": 2}],
    ids=["optimizer", "cosine"],
)
def test_optimisers_and_schedules_resume(tmp_path, options):
    resumed(tmp_path, nn.BatchNorm2d(6), nn.Dropout(0.3), **options)
    other = options | {"optimizer": functools.partial(torch.optim.AdamW, lr=0.02), "lr": None}
    with pytest.raises(ValueError, match=r"`resume` must go on.*optimizer \(was "):
        tuned(network(nn.BatchNorm2d(6), nn.Dropout(0.3)), output=tmp_path / "part", resume=True, **other)


def test_an_optimisers_own_rate_may_be_lowered(tmp_path):
    options = {"lr": None, "epochs": 2, "output": tmp_path}
    with pytest.raises(StopError):
        tuned(items=Images(30), optimizer=ADAM, **options)
    slower = functools.partial(ADAM, lr=0.002)
    with pytest.raises(ValueError, match=r"optimizer_lr \(was \[0.01\], now \[0.002\]\)"):
        tuned(resume=True, optimizer=slower, **options)
    result = tuned(resume=True, changes=["lr"], optimizer=slower, **options)
    assert [row["lr"] for row in result.history] == [0.01, 0.002]


def test_the_rest_of_a_cosine_may_get_another_rate(tmp_path):
    options = {"schedule": "cosine", "epochs": 2, "output": tmp_path}
    with pytest.raises(StopError):
        tuned(items=Images(30), **options)
    result = tuned(resume=True, changes=["lr"], **options | {"lr": 0.01})
    assert [row["lr"] for row in result.history] == pytest.approx([0.0375, 0.01 / 4 * (2 - 3**0.5)])


@pytest.mark.parametrize(
    ("option", "error", "told"),
    [
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be a function of a list of parameters.*'adam'"),
        ({"optimizer": lambda _: None}, TypeError, "`optimizer`.*one that returns NoneType"),
        ({"optimizer": torch.optim.LBFGS}, ValueError, "`optimizer` must need one forward pass.*LBFGS"),
        ({"optimizer": lambda p: ADAM(p[:1])}, ValueError, "`optimizer` must take each of the 4.*with 1"),
        ({"optimizer": ADAM, "momentum": 0.5}, ValueError, "`momentum` must be left out where `optimizer`"),
        ({"optimizer": ADAM, "weight_decay": 0.5}, ValueError, "`weight_decay`.*AdamW, weight_decay=0.5"),
        ({"accumulate": 0}, ValueError, "`accumulate` must be a whole number, at least 1"),
        ({"clip": 0}, ValueError, "`clip` must be above 0"),
        ({"ema": 0.0}, ValueError, "`ema` must be above 0"),
        ({"ema": 1.0}, ValueError, "`ema` must be below 1"),
        ({"amp": "fp8"}, TypeError, "`amp` must be True, 'bf16', 'fp16'"),
        ({"channels_last": 1}, TypeError, "`channels_last` must be True or False, got 1"),
        ({"compile": "max"}, TypeError, "`compile` must be True or False, got 'max'"),
        ({"model": network().half(), "amp": "fp16"}, ValueError, '`amp` must not be "fp16".*model.float'),
        ({"schedule": "linear"}, ValueError, "`schedule` must be one of steps, cosine"),
        ({"schedule": "cosine", "epochs": (1, 1), "lr": (1, 1)}, ValueError, "`epochs` and `lr`.*one number"),
        ({"warmup": -1}, ValueError, "`warmup`"),
        ({"warmup": "half"}, TypeError, "`warmup`"),
        ({"warmup": 1}, ValueError, "`warmup` must be less than all epochs, 1, got 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_options_are_named(option, error, told):
    with pytest.raises(error, match=told):
        tuned(**option)
