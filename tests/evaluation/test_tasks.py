"""A third task goes through the same evaluation, comparison and page by adding a class."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from blurlib._tasks import EvaluationSettings, EvaluationTask
from blurlib.data import open_images
from blurlib.evaluation import _loop
from blurlib.metrics import Metric, Statistics
from blurlib.protocol import Protocol, evaluation_views
from blurlib.reporting import Report, compare


@dataclass(frozen=True, kw_only=True)
class BrightPixels(Statistics):
    """How many pixels a network finds bright in each image, of how many."""

    counts: np.ndarray

    task = "counting"
    metrics = (Metric(name="bright", title="bright", label="share of bright pixels"),)
    arrays = {"counts": "int64"}  # noqa: RUF012  a class variable by Statistics

    def compute(self):
        return {"bright": float(self.counts[:, 0].sum() / self.counts[:, 1].sum())}

    def columns(self):
        return self.counts.astype(np.float64)

    def from_means(self, means):
        return {"bright": means[:, 0] / means[:, 1]}


class CountingBrightPixels(EvaluationTask):
    name = "counting"
    default_blurs = "sharp, D4"
    default_batch_size = 1
    statistics = BrightPixels
    opened = staticmethod(lambda root, _settings, *, split, **_: open_images(root, split=split))

    def __init__(self, model, root, settings):
        super().__init__(model, root, settings, Protocol(canonical_side=48, network_side=32))
        self.conditions = [(str(blur), (32,)) for blur in self.blurs]

    def views(self, position, blurs, image, target):
        views = evaluation_views(image, blurs, protocol=self.protocol, crops="dense")
        return position, torch.cat(list(views.values()))

    def measure(self, items, device):
        for position, views in items:
            bright = self.networks(views.to(device)).flatten(1)
            yield position, {"counts": np.stack([bright.sum(1).cpu(), [bright.shape[1]] * len(bright)], 1)}


class Brighter(nn.Module):
    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, images):
        return (images.float().mean(1) > self.level).long()


def test_a_third_task_is_a_class(tmp_path):
    random = np.random.default_rng(0)
    photos = [(Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)), 0) for _ in range(8)]
    usual = {"settings": {"model": "Brighter"}, "device": torch.device("cpu"), "distributed": False}
    running = {"workers": 0, "overwrite": False, "progress": False}

    def measured(level, output):
        task = CountingBrightPixels(Brighter(level), photos, EvaluationSettings())
        return _loop.measure(task, output=output, **usual, **running)

    before, after = measured(150, tmp_path / "before"), measured(120, tmp_path / "after")
    assert (before["sharp"].count, before.blurs) == (8, ("sharp", "D4"))
    assert 0 < before["D4"].bright < before["sharp"].bright < after["sharp"].bright
    assert Report.load(tmp_path / "after") == after
    found = compare(after, before)
    assert found["D4"].bright.difference == after["D4"].bright - before["D4"].bright
    assert "bright points" in found.table()
    page = after.to_html(tmp_path / "page.html", before=before).read_text(encoding="utf-8")
    assert "Share of bright pixels" in page
