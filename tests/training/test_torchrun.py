"""Evaluations and reproductions that two processes share; the command as torchrun starts it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurlib.evaluation import evaluate
from blurlib.paper import ClassificationSettings, ReproducedTable, Run, reproduce_table
from blurlib.reporting import Report
from processes import in_processes

SMALL = {"canonical_side": 48, "scales": (32, (24, 32)), "crop": 28, "device": "cpu", "workers": 0}
TINY = {"side": 32, "canonical_side": 48, "epochs": (1,), "lr": (0.01,), "batch_size": 6, "crops": "center"}


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
