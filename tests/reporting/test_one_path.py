"""One path for every task: a third statistic, and what the two tasks' reports had not in common before."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from blurlib.metrics import Metric, PixelCounts, Statistics, _statistics, image_values
from blurlib.reporting import Record, Report, compare


@dataclass(frozen=True, kw_only=True)
class BrightPixels(Statistics):
    """How many pixels of each image are bright, of how many."""

    counts: np.ndarray

    task = "brightness"
    metrics = (
        Metric(name="bright", title="bright", label="share of bright pixels"),
        Metric(name="dark", title="dark", label="share of dark pixels", better=-1, plotted=False),
    )
    arrays = {"counts": "int32"}  # noqa: RUF012  a class variable by Statistics
    explanation = "Bright: share of the pixels above one half."

    def compute(self):
        return {name: float(value[0]) for name, value in self.from_means(self.columns().sum(0)[None]).items()}

    def columns(self):
        return self.counts.astype(np.float64)

    def from_means(self, means):
        bright = means[:, 0] / means[:, 1]
        return {"bright": bright, "dark": 1 - bright}


def bright(seed, levels=(("sharp", 60), ("D4", 30)), **settings):
    random = np.random.default_rng(seed)
    ids = np.array([f"{number}.png" for number in range(40)])
    records = []
    for blur, level in levels:
        counts = np.stack([level + random.integers(-5, 6, 40), np.full(40, 100)], axis=1)
        records.append(Record.of(BrightPixels(ids=ids, counts=counts), blur=blur, sides=(64,)))
    return Report(records=records, settings={"seed": seed, "model": "Lamp", **settings})


def test_a_third_task_is_one_class(tmp_path):
    before, after = bright(0), bright(1, (("sharp", 60), ("D4", 48)))
    assert after["D4"].bright == after["D4"].images.counts[:, 0].sum() / 4000
    assert "bright %" in after.table()
    found = compare([after, after], before)
    change = found["D4"].bright
    assert change.difference == pytest.approx(after["D4"].bright - before["D4"].bright)
    low, high = change.difference_interval
    assert low < change.difference < high
    assert change.recovered == pytest.approx(found["D4"].dark.recovered)
    assert "bright points" in found.table()
    assert json.loads(found.to_json())["rows"][1]["bright"]["after"] == change.after
    again = Report.load(after.save(tmp_path / "run"))
    assert again == after
    assert again.compare(before).to_json() == after.compare(before).to_json()
    page = after.to_html(tmp_path / "page.html", before=before).read_text(encoding="utf-8")
    for words in (
        "Share of bright pixels",
        "share of the pixels above one half",
        "of the loss was recovered",
    ):
        assert words in page


def test_memory_bounds_a_product_and_no_result(monkeypatch):
    before, after = bright(0), bright(1)
    whole = compare(after, before).to_json()
    monkeypatch.setattr(_statistics, "_TOGETHER", 1)
    assert compare(after, before).to_json() == whole


def segmented(draw, blurs=("sharp", "D4"), count=6, **settings):
    random = np.random.default_rng(draw)
    ids = np.array([f"{number}.png" for number in range(count)])
    records = []
    for blur in blurs:
        matrix = random.integers(1, 50, (count, 2, 2)) + np.eye(2, dtype=int) * (
            90 if blur == "sharp" else 30
        )
        regions = np.sort(random.integers(1, 50, (count, 2, 2)), axis=1)
        counts = PixelCounts(ids=ids, matrix=matrix, band=matrix // 2, regions=regions)
        records.append(Record.of(counts, blur=blur, sides=(96, 128)))
    return Report(records=records, settings=settings)


def test_a_comparison_of_segmentation_has_what_classification_has():
    found = segmented(1).compare(segmented(0))
    assert "mIoU %: before -> after" in found.table()
    assert json.loads(found.to_json())["rows"][0]["trimap_miou"]["before"] is not None


def test_the_seed_matters_to_shakes_alone():
    assert segmented(1, seed=1).compare(segmented(0, seed=0)).rows
    with pytest.raises(ValueError, match="`seed` 1 and 0"):
        segmented(1, ("sharp", "shake"), seed=1).compare(segmented(0, ("sharp", "shake"), seed=0))


def test_a_report_of_segmentation_checks_its_records():
    record, other = segmented(0).records[0], segmented(0, count=5).records[1]
    for records, message in (
        ((), "at least one record"),
        ((record, record), "different conditions, got sharp"),
        ((record, other), "same images"),
    ):
        with pytest.raises(ValueError, match=message):
            Report(records=records)
    image = Record.of(image_values(torch.zeros(1, 2), [0]), blur="D4", sides=(64,))
    with pytest.raises(ValueError, match="of one task"):
        Report(records=(record, image))


def test_the_page_of_segmentation_shows_settings_as_a_table(tmp_path):
    versions = {"torch": "2.9", "numpy": "2"}
    report = segmented(1, versions=versions)
    text = report.to_html(tmp_path / "page.html", before=segmented(0)).read_text(encoding="utf-8")
    assert "versions.torch" in text
    assert "{&#39;" not in text
    assert "var(--after)" in text
    assert "96x128" in text


def test_the_mean_near_boundaries_has_one_name():
    report = segmented(0)
    assert report["D4"].trimap_miou > 0
    assert "trimap mIoU %" in report.table()
    assert "trimap_miou" in report.to_csv()
    assert not hasattr(report["D4"], "miou_band")
