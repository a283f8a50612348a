"""Runs that are stopped and go on: by signals, kills and errors, in the middle of an epoch."""

import csv
import math
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from blurlib.training import finetune
from processes import METHOD, in_processes

SMALL = {
    "canonical_side": 24,
    "network_side": 16,
    "crop": 12,
    "batch_size": 4,
    "epochs": (2, 1),
    "lr": (0.1, 0.01),
    "blur": "sharp + D2",
    "hflip": 0.5,
    "device": "cpu",
    "workers": 0,
    "checkpoint_every": 0,
    "progress": False,
}
COUNT, STEPS = 22, 6  # images, and steps of an epoch, the last of two images


class StopError(Exception):
    pass


class Images(Dataset):
    """Stripes that run across or along. When that many items were read, something happens."""

    def __init__(self, after=-1, act=None, wait=0.0):
        self.left, self.act, self.wait = after, act, wait
        self.targets = [number % 2 for number in range(COUNT)]

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if self.left == 0:
            self.act()
        self.left -= 1
        time.sleep(self.wait)
        draws = np.random.default_rng(index)
        stripes = np.indices((26, 34))[index % 2] // 3 % 2 * 150
        noise = draws.integers(0, 100, (26, 34, 3))
        return Image.fromarray((stripes[..., None] + noise).astype(np.uint8)), index % 2


def stopped():
    raise StopError


class Signal:
    """Sends a signal to the process that made it, also from a loader's."""

    def __init__(self, signum):
        self.signum, self.process = signum, os.getpid()

    def __call__(self):
        os.kill(self.process, self.signum)


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.Dropout(0.3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 2),
    )


def tuned(items=None, output=None, **options):
    return finetune(network(), items or Images(), output=output, **SMALL | options)


def told(result):
    """All that a run leaves but the seconds: to the bit."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    return {name: tensor.tolist() for name, tensor in result.model.state_dict().items()}, rows


pytestmark = pytest.mark.usefixtures("usual_handlers")


@pytest.fixture(scope="module")
def whole():
    return told(tuned())


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


# --- in the middle of an epoch ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores
@pytest.mark.parametrize("images", [17, 43])
def test_a_run_goes_on_in_the_middle_of_an_epoch(whole, tmp_path, images):
    """Twice in an epoch, and each time with other workers; it began anew with the epoch."""
    with pytest.raises(StopError):
        tuned(Images(images, stopped), tmp_path)
    state = checkpoint(tmp_path)
    # The last batch of an epoch has two images.
    done = [images // COUNT, images % COUNT // 4]
    assert [state["epoch"], state["done"]["epoch"]["step"] if state["done"] else 0] == done
    with pytest.raises(StopError):
        tuned(Images(9, stopped), tmp_path, resume=True)
    assert told(tuned(output=tmp_path, resume=True, workers=images % 4)) == whole
    with (tmp_path / "log.csv").open() as file:
        assert [int(row["images"]) for row in csv.DictReader(file)] == [COUNT] * 3


def test_checkpoints_come_by_the_clock(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Ticking(Images):
        def __getitem__(self, index):
            clock[0] += 10  # a step takes 40 s, an epoch 220 s
            return super().__getitem__(index)

    kept = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, to: (kept.append(state), save(state, to)))

    def steps(**options):
        kept.clear()
        tuned(Ticking(), tmp_path / str(options), **options)
        middles = [state.get("done") for state in kept[:-1]]  # the last are the weights
        return [middle["epoch"]["step"] if middle else STEPS for middle in middles]

    assert steps(checkpoint_every=2) == [3, STEPS] * 3
    assert steps(checkpoint_every=1.0) == [2, 4, STEPS] * 3
    assert steps(checkpoint_every=0) == [1, 2, 3, 4, 5, STEPS] * 3
    assert steps(checkpoint_every=10) == steps(checkpoint_every=math.inf) == [STEPS] * 3


@pytest.mark.parametrize(
    ("option", "error", "rule"),
    [
        (
            {"checkpoint_every": -1},
            ValueError,
            "`checkpoint_every` must be a finite number of minutes, at least 0",
        ),
        ({"checkpoint_every": math.nan}, ValueError, "`checkpoint_every`"),
        ({"checkpoint_every": "10 min"}, TypeError, "`checkpoint_every`.*got str: '10 min'"),
        ({"changes": "lr"}, TypeError, r"`changes` must be a list of names such as \['lr'\], got 'lr'"),
        ({"changes": ["seed"]}, ValueError, "`changes`.*architecture.*'seed'"),
    ],
)
def test_wrong_arguments_are_named(option, error, rule):
    with pytest.raises(error, match=rule):
        tuned(**option)


def test_broken_images_of_both_parts_of_an_epoch_are_counted(tmp_path):
    class Broken(Images):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            if index % 5 == 0:
                raise ValueError("no picture")
            return item

    expected = tuned(Broken(), on_error="skip")
    with pytest.raises(StopError):
        tuned(Broken(15, stopped), tmp_path, on_error="skip")
    assert checkpoint(tmp_path)["done"]["epoch"]["broken"]
    result = tuned(Broken(), tmp_path, on_error="skip", resume=True)
    assert told(result) == told(expected) and result.skipped == expected.skipped
    assert result.history[0]["skipped"] == 5


# --- requests to stop ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signum", "error", "code", "name"),
    [
        (signal.SIGTERM, SystemExit, 143, "SIGTERM"),
        (signal.SIGHUP, SystemExit, 129, "SIGHUP"),
        (signal.SIGINT, KeyboardInterrupt, None, "Ctrl-C"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_a_run_which_then_goes_on(whole, tmp_path, capfd, workers, signum, error, code, name):
    """No step is lost, though no checkpoint was due; nothing else is said."""
    images = Images(20 if workers else 8 + COUNT, Signal(signum))  # a worker is three batches ahead at most
    with pytest.raises(error) as caught:
        tuned(images, tmp_path, workers=workers, checkpoint_every=math.inf)
    assert getattr(caught.value, "code", None) == code
    assert multiprocessing.active_children() == []  # else the program's end waits 5 s for each of them
    state = checkpoint(tmp_path)
    step = state["done"]["epoch"]["step"] if state["done"] else 0
    place = rf"after step {step} of 6 in epoch {state['epoch'] + 1} of 3"
    kept = f"kept in '{tmp_path / 'checkpoint.pt'}'; add resume=True (--resume) to go on"
    assert capfd.readouterr() == ("", f"\nstopped by {name} {place}; {kept}\n")
    if workers == 0:
        assert (state["epoch"], step) == (1, 2)
    assert told(tuned(output=tmp_path, resume=True)) == whole
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_stop_with_nothing_to_keep_says_so(tmp_path, capfd):
    with pytest.raises(SystemExit):
        tuned(Images(5, Signal(signal.SIGTERM)))
    end = "nothing is kept, for `output` was not given"
    assert capfd.readouterr().err == f"\nstopped by SIGTERM after step 1 of 6 in epoch 1 of 3; {end}\n"
    with pytest.raises(SystemExit):
        tuned(Images(2, Signal(signal.SIGTERM)), tmp_path, resume=True)
    end = "nothing to keep yet; the same call goes on"
    assert capfd.readouterr().err == f"\nstopped by SIGTERM after step 0 of 6 in epoch 1 of 3; {end}\n"


def test_a_signal_in_the_last_step_ends_the_program_after_the_work(whole, tmp_path, capfd):
    class Stopping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.left = network(), 3 * STEPS

        def forward(self, images):
            self.left -= self.training
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.inner(images)

    with pytest.raises(SystemExit, match="143"):
        finetune(Stopping(), Images(), output=tmp_path, **SMALL)
    assert "stopped by SIGTERM after the last epoch; kept in" in capfd.readouterr().err
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {name.removeprefix("inner."): tensor.tolist() for name, tensor in state.items()} == whole[0]


def shared(folder):
    """Of a run that two processes share: whole; stopped by a signal to the second one; gone on."""
    rank = int(os.environ["RANK"])
    results = [told(tuned(output=folder / "whole"))]
    for after in (7, 6):  # twice in the first epoch
        items = Images(after, Signal(signal.SIGTERM)) if rank == 1 else Images()
        with pytest.raises(SystemExit) as stop:
            tuned(items, folder / "stopped", resume=True, checkpoint_every=math.inf)
        results.append(stop.value.code)
    results.append(checkpoint(folder / "stopped")["done"]["epoch"]["step"])
    results.append(told(tuned(output=folder / "stopped", resume=True)))
    return results


def test_two_processes_stop_together_and_go_on(tmp_path):
    first, second = in_processes(shared, tmp_path, world=2)
    assert first == second
    whole, one, two, step, resumed = first
    assert (one, two) == (143, 143) and 1 < step < STEPS
    assert resumed == whole


# --- killed at random ------------------------------------------------------------------------------------


def _killed(folder, workers, begun):
    torch.set_num_threads(1)
    begun.set()
    tuned(Images(wait=0.002), folder, resume=True, workers=workers)


def _run_until_killed(folder, workers, seconds):
    """Exit code of a run that is killed so long after it has begun, and how long it took."""
    begun = multiprocessing.get_context(METHOD).Event()
    process = multiprocessing.get_context(METHOD).Process(target=_killed, args=(folder, workers, begun))
    process.start()
    assert begun.wait(120)
    started = time.perf_counter()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode, time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_survives_twenty_kills(whole, tmp_path, workers):
    """SIGKILL at a random moment, in the middle of steps and of writing; what is left goes on to the bit."""
    draws, kills, places = random.Random(workers), 0, set()
    code, seconds = _run_until_killed(tmp_path / "whole", workers, 100)
    assert code == 0
    while kills < 20:
        folder = tmp_path / str(kills)
        code = None
        while code != 0 and kills < 20:
            code, _ = _run_until_killed(folder, workers, draws.uniform(0.05, seconds))
            kills += code != 0
            if (folder / "checkpoint.pt").exists():
                state = checkpoint(folder)
                places.add((state["epoch"], state["done"]["epoch"]["step"] if state["done"] else 0))
        assert told(tuned(output=folder, resume=True)) == whole
    assert len(places) > 3
