"""Evaluations and reproductions that two processes share; the command as torchrun starts it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurlib._common import agreement
from blurlib.evaluation import evaluate
from blurlib.paper import ClassificationSettings, ReproducedTable, Run, reproduce_table
from blurlib.reporting import Report
from blurlib.training import finetune
from processes import in_processes

SMALL = {"canonical_side": 48, "scales": (32, (24, 32)), "crop": 28, "device": "cpu", "workers": 0}
TINY = {"side": 32, "canonical_side": 48, "epochs": (1,), "lr": (0.01,), "batch_size": 6, "crops": "center"}

TRAINED = {
    "batch_size": 5,
    "network_side": 32,
    "crop": 28,
    "canonical_side": 48,
    "workers": 0,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes of 1, 2 and 4 photographs, one of them broken: the processes have unlike shares."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, count in enumerate((1, 2, 4)):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 256, (50, 60 + number, 3), dtype=np.uint8)
                Image.fromarray(noise).save(place / f"{number}.png")
    (folder / "val" / "class2" / "broken.png").write_bytes(b"no picture")
    return folder


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    )


def evaluated(root, out, **changes):
    blurs = "sharp, D4, shake"
    return evaluate(
        network(), root, blurs=blurs, on_error="skip", output=out, progress=False, **SMALL | changes
    )


def reproduced(root, out):
    run = Run(
        network(),
        root,
        settings=ClassificationSettings(**TINY, on_error="skip"),
        output=out,
        workers=0,
        device="cpu",
        progress=False,
    )
    return reproduce_table(run, "table2")


def measured(root, out):
    rank = os.environ["RANK"]
    evaluated(root, out / "shared", distributed=True).save(out / f"mine{rank}")
    if rank == "1":
        evaluated(root, out / "alone")  # one process by itself does not wait for the others
    reproduced(root, out / "reproduction").to_json(out / f"table{rank}.json")


def test_two_processes_measure_what_one_does(root, tmp_path):
    in_processes(measured, root, tmp_path, world=2)
    whole = evaluated(root, None)
    assert whole.settings["skipped"] == ["val/class2/broken.png"]
    for name in ("shared", "mine0", "mine1", "alone"):
        report = Report.load(tmp_path / name)
        assert report.settings["skipped"] == whole.settings["skipped"]
        for record, expected in zip(report.records, whole.records, strict=True):
            assert (record.blur, record.sides, record.count, record.skipped) == (
                *(expected.blur, expected.sides),
                *(expected.count, expected.skipped),
            )
            assert record.images.ids.tolist() == expected.images.ids.tolist()
            np.testing.assert_array_equal(record.images.correct, expected.images.correct)
            np.testing.assert_allclose(record.images.entropy, expected.images.entropy, rtol=1e-4)
    tables = [ReproducedTable.load(tmp_path / f"table{rank}.json").cells for rank in (0, 1)]
    assert tables[0] == tables[1] == ReproducedTable.load(tmp_path / "reproduction" / "table2.json").cells
    for cell, expected in zip(tables[0], reproduced(root, tmp_path / "one").cells, strict=True):
        assert cell.value == pytest.approx(expected.value, rel=1e-3)


def losses(root):
    """In double precision, so that it is the images that differ, and not roundings of gradients."""
    result = finetune(network().double(), root, blur="sharp + D2", epochs=(2,), lr=(0.1,), **TRAINED)
    return [(row["loss"], row["images"]) for row in result.history]


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_processes(root):
    """Seven images in batches of five: shares of 3 and 2, or 2, 2 and 1; then of 1 and 1, or 1, 1 and 0."""
    one = losses(root)
    assert [images for _, images in one] == [7, 7]  # none twice, none left out
    for world in (2, 3):
        for found in in_processes(losses, root, world=world):
            assert [images for _, images in found] == [7, 7]
            assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in one], rel=1e-6)


class Fails:
    def __init__(self, after):
        self.left = after

    def __call__(self, *_):
        self.left -= 1
        if self.left < 0:
            raise MemoryError("no room for this image")


def failing(root):
    """The second process fails in its second step, while the first waits for its gradients."""
    agreement._LEAVING = 0.5  # the first one cannot take note before the second has ended
    net = network()
    if os.environ["RANK"] == "1":
        net[0].register_forward_hook(Fails(3))
    try:
        finetune(net, root, blur="sharp", epochs=(2,), lr=(0.1,), **TRAINED)
    except Exception as error:
        return type(error).__name__, str(error)
    return "well"


def test_a_failure_of_another_process_is_told_in_training(root):
    first, second = in_processes(failing, root, world=2, timeout=120)
    assert first == ("TeamError", "process 1 of 2 failed: MemoryError: no room for this image")
    assert second == ("MemoryError", "no room for this image")


NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
"""


def test_the_command_speaks_once(root, tmp_path):
    (tmp_path / "networks.py").write_text(NETWORK, encoding="utf-8")
    words = [
        "evaluate",
        "networks:network",
        root,
        "--blurs",
        "sharp, D4",
        "--scales",
        "32",
        "--crop",
        "28",
    ]
    words += ["--on-error", "skip", "--workers", "0", "--no-progress", "--output", tmp_path / "out"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "blurlib", *map(str, words)),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cross-entropy") == 1
    assert Report.load(tmp_path / "out").records[0].count == 7


STOPPING = """
import os, signal, torch
from torch import nn

class Stopping(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.left = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)), 5

    def forward(self, images):
        self.left -= self.training and torch.is_grad_enabled()
        if self.left == 0 and os.environ.get("STOPPED") == os.environ["RANK"]:
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun, which passes it on
        return self.inner(images)
"""


@pytest.mark.slow
def test_a_signal_to_torchrun_keeps_a_checkpoint(root, tmp_path):
    (tmp_path / "stopping.py").write_text(STOPPING, encoding="utf-8")
    words = ["finetune", "stopping:Stopping", root, "--epochs", "4", "--lr", "0.01", "--batch-size", "2"]
    words += [
        "--network-side",
        "32",
        "--crop",
        "28",
        "--canonical-side",
        "48",
        "--no-progress",
        "--workers",
        "1",
    ]

    def run(output, *more, **environment):
        return subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
                *("-m", "blurlib", *map(str, words), "--output", output, *more),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    stopped = run(tmp_path / "a", STOPPED="1")
    assert stopped.returncode != 0
    assert stopped.stderr.count("stopped by SIGTERM after step") == 1, stopped.stderr
    assert "DataLoader worker" not in stopped.stderr
    assert run(tmp_path / "a", "--resume").returncode == 0
    assert run(tmp_path / "b").returncode == 0
    one, other = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in "ab")
    assert all(torch.equal(one[name], other[name]) for name in other)
