"""The log for TensorBoard, read back by TensorBoard itself."""

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurlib.training import finetune

SMALL = {
    "canonical_side": 24, "network_side": 16, "crop": 12, "batch_size": 4, "epochs": (2, 1),
    "lr": (0.1, 0.01), "blur": "sharp + D2", "device": "cpu", "workers": 0, "progress": False,
}  # fmt: skip
PHOTOS = [
    (Image.fromarray(np.random.default_rng(index).integers(0, 256, (26, 34, 3), dtype=np.uint8)), index % 2)
    for index in range(8)
]


class Photos(list):
    """Images that are stopped at after so many reads."""

    left = -1

    def __getitem__(self, index):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().__getitem__(index)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_scalars_are_those_of_the_log_and_no_step_is_there_twice(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    photos = Photos(PHOTOS)
    photos.left = 12  # in the second epoch
    with pytest.raises(KeyboardInterrupt):
        finetune(network(), photos, output=tmp_path, **SMALL)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    photos.left = -1
    result = finetune(network(), photos, output=tmp_path, resume=True, **SMALL)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    found = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.history) == 3
    assert set(found.Tags()["scalars"]) == {*rows[0]} - {"epoch"}
    for name in found.Tags()["scalars"]:
        events = found.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx(
            [float(row[name]) for row in rows], rel=1e-6
        )


def test_a_run_does_not_need_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    finetune(network(), PHOTOS, output=tmp_path, **SMALL | {"epochs": 1, "lr": 0.1})
    assert (tmp_path / "log.csv").exists() and not (tmp_path / "tensorboard").exists()


def test_what_fails_is_a_warning(tmp_path, monkeypatch):
    class Broken:
        def __init__(self, folder):
            raise TypeError("Descriptors cannot be created directly")

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Broken
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with pytest.warns(UserWarning, match=r"log for TensorBoard could not be written .*Descriptors"):
        result = finetune(network(), PHOTOS, output=tmp_path, **SMALL | {"epochs": 1, "lr": 0.1})
    assert result.weights.exists() and (tmp_path / "log.csv").exists()
