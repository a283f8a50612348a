"""Processes that share work: the error of one, or its silence, ends all with its number and words."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

from blurlib._common import agreement
from blurlib._common.agreement import united
from blurlib._common.distributed import process_group
from blurlib._common.interrupts import stop_requests
from blurlib.evaluation import _loop, evaluate
from blurlib.reporting import Report
from processes import in_processes

CPU = torch.device("cpu")


def ended(work, *arguments):
    """How a process ended: kind and text of its error, and whether another one tells it."""
    agreement._LEAVING = 1.0
    try:
        work(*arguments)
    except BaseException as error:
        return type(error).__name__, str(error), getattr(error, "agreed", None)
    return "well"


def fails(who):
    with process_group(CPU) as team, united(team) as watch:
        watch.meet()
        if team.rank in who:
            raise ValueError(f"`root` must be whole, got {team.rank}.png")
        watch.meet()


def in_collective(who):
    """As in training, where the others wait in torch for a process that has failed."""
    with process_group(CPU) as team, united(team):
        if team.rank in who:
            raise ValueError("`lr` must be smaller")
        dist.all_reduce(torch.zeros(1))
        dist.all_reduce(torch.zeros(1))


def alike():
    with process_group(CPU) as team, united(team):
        raise ValueError("`lr` must keep the loss finite")


def several():
    """What follows an agreed failure is not disturbed by it."""
    return (
        ended(fails, (1,)),
        ended(fails, ()),
        ended(fails, (0, 2)),
        ended(alike),
        ended(in_collective, (1,)),
    )


def test_an_error_of_one_process_ends_all():
    found = in_processes(several, world=3)
    one = "process 1 of 3 failed: `root` must be whole, got 1.png"
    two = "process {} of 3 failed: `root` must be whole, got {}.png"
    assert [first for first, *_ in found] == [
        ("TeamError", one, False),
        ("ValueError", "`root` must be whole, got 1.png", True),
        ("TeamError", one, True),
    ]
    assert [second for _, second, *_ in found] == ["well"] * 3
    kind, text, agreed = found[0][2]
    assert (kind, agreed) == ("TeamError", False) and text == f"{two.format(0, 0)}; {two.format(2, 2)}"
    kind, text, agreed = found[1][2]  # what it knew when it looked
    assert (kind, agreed) == ("TeamError", True) and set(text.split("; ")) <= {
        two.format(0, 0),
        two.format(2, 2),
    }
    for rank in range(3):
        assert found[rank][3] == ("ValueError", "`lr` must keep the loss finite", rank > 0)
    for rank, told in ((0, False), (2, True)):
        assert found[rank][4] == ("TeamError", "process 1 of 3 failed: `lr` must be smaller", told)


def silent(folder):
    """The second process stops as by SIGSTOP; when the first has ended it goes on."""
    agreement.PATIENCE = 1.0
    with process_group(CPU) as team:
        place = folder / "pid"
        if team.rank == 1:
            place.write_text(str(os.getpid()))

        def work():
            with united(team) as watch:
                watch.meet()
                if team.rank == 1:
                    os.kill(os.getpid(), signal.SIGSTOP)
                watch.meet()

        found = ended(work)
        if team.rank == 0:
            os.kill(int(place.read_text()), signal.SIGCONT)
            time.sleep(0.2)
        return found


def test_a_process_that_hangs_ends_all(tmp_path):
    first, second = in_processes(silent, tmp_path, world=2)
    text = "process 1 of 2 gave no sign of life for 0.0166667 minutes; look whether it hangs, or its machine"
    assert first[0] == "TeamError" and first[1].startswith(text) and first[2] is False
    assert second == "well" or second[0] == "TeamError"


def waits():
    """A signal ends the wait for others."""
    with process_group(CPU) as team, stop_requests() as stop, united(team, stop) as watch:
        if team.rank == 0:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            watch.meet()
        while True:
            watch.check()
            time.sleep(0.01)


def test_a_signal_ends_the_wait_for_others():
    first, second = in_processes(ended, waits, world=2)
    assert first == ("SystemExit", "143", False)
    assert second == ("TeamError", "process 0 of 2 failed: it was stopped", True)


SMALL = {"canonical_side": 48, "scales": (32,), "crop": 28, "blurs": "sharp, D4", "device": "cpu"}
QUIET = {"workers": 0, "progress": False, "batch_size": 4}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    )


def evaluated(root, out):
    _loop._SAVE_EVERY = -1.0
    return ended(
        lambda: evaluate(network(), root, output=out, distributed=True, metadata={"a": 1}, **SMALL, **QUIET)
    )


def test_a_broken_image_of_another_process_is_named_and_nothing_is_lost(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(14):
        place = tmp_path / "photos" / "val" / f"class{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / f"{number:02d}.png")
    root, out = tmp_path / "photos", tmp_path / "out"
    whole = evaluate(network(), root, **SMALL, **QUIET)
    broken = sorted((root / "val").rglob("*.png"))[11]  # of the second process, its sixth
    kept = broken.read_bytes()
    broken.write_bytes(b"no picture")
    first, second = in_processes(evaluated, root, out, world=2)
    assert first[:2] == ("TeamError", f"process 1 of 2 failed: {second[1]}")
    assert second[0] == "ValueError" and str(broken) in second[1]
    assert (first[2], second[2]) == (False, True)
    pieces = len(list((out / "partial").glob("*.npz")))
    broken.write_bytes(kept)
    assert pieces > 3 and in_processes(evaluated, root, out, world=3) == ["well"] * 3
    report = Report.load(out)
    for record, expected in zip(report.records, whole.records, strict=True):
        assert record.images.ids.tolist() == expected.images.ids.tolist()
        np.testing.assert_allclose(record.images.entropy, expected.images.entropy, rtol=1e-4)
    assert not Path(out, "partial").exists()
