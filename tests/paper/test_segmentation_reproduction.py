"""Table 6 and figure 5: what is measured, kept, compared and refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from blurlib import paper
from blurlib._cli.main import app
from blurlib.evaluation import evaluate
from blurlib.paper import ReproducedTable, Run, SegmentationSettings, Training, _experiment, reproduce_table
from blurlib.reporting import Report, compare, segmentation_figure

TINY = {"canonical_side": 40, "epochs": (1,), "lr": (0.05,), "batch_size": 2, "crop": 24}
SHARP = [((), "sharp")]
QUIET = {"workers": 0, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    place = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((36, 48), np.uint8)
        mask[rng.integers(0, 12) :, rng.integers(0, 20) : 30] = 1
        mask[:8, 30:] = 2
        colours = np.array([[60, 60, 60], [200, 80, 60], [70, 90, 210]])
        picture = colours[mask] + rng.integers(-30, 30, (36, 48, 3))
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(
            place / "JPEGImages" / f"{number}.png"
        )
        Image.fromarray(mask).save(place / "SegmentationClass" / f"{number}.png")
    lists = place / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n4\n5\n")
    return folder


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))


def run_of(root, out, **changes):
    return Run(network(), root, settings=SegmentationSettings(**{**TINY, **changes}), output=out, **QUIET)


def test_the_table_is_what_evaluate_measures(root, tmp_path):
    run = run_of(root, tmp_path / "out", seeds=(0, 1), control=True)
    table = reproduce_table(run, "table6")
    assert len(table.cells) == 20 + 10
    before = evaluate(network(), root, task="segmentation", canonical_side=40, **QUIET)
    for row, blur in (("Sharp", "sharp"), ("Blur D8", "D8")):
        assert table[row, "Original, all"].value == before[blur].miou
        assert table[row, "Original, boundaries"].value == before[blur].trimap_miou
    assert table["Blur D8", "Original, all"].paper == 0.231
    cell = table["Blur D8", "Fine-tuned, all"]
    assert len(cell.each) == 2
    assert cell.value == pytest.approx(np.mean(cell.each))
    assert cell.base == "sharp"
    places = tmp_path / "out" / "evaluations"
    reports = {
        name: [Report.load(path) for path in sorted((places / name).glob("seed*"))]
        for name in ("defocus", "sharp")
    }
    compared = compare(reports["defocus"], Report.load(places / "original"), control=reports["sharp"])
    assert cell.change == compared["D8"].miou.difference
    assert cell.change_interval == compared["D8"].miou.difference_interval
    assert table["Sharp", "Sharp only (control), all"].paper is None
    assert "mean IoU in percent" in table.caption
    assert ReproducedTable.load(tmp_path / "out" / "table6.json").cells == table.cells
    pytest.importorskip("jinja2")
    assert "Fine-tuned, boundaries" in table.to_html(tmp_path / "t.html").read_text(encoding="utf-8")


def test_what_was_done_is_not_done_again(root, tmp_path, monkeypatch):
    run = run_of(root, tmp_path / "out")
    first = reproduce_table(run, "table6")
    assert all(part.done for part in run.jobs("table6"))
    for name in ("evaluate", "finetune"):
        monkeypatch.setattr(_experiment, name, lambda *_, **__: pytest.fail("done again"))
    assert reproduce_table(run_of(root, tmp_path / "out"), "table6").cells == first.cells
    text = run.dry_run("table6")
    assert text.count("done") == 3
    assert text.splitlines()[-1].split()[:2] == ["total", "0"]


def test_what_is_missing_of_a_network_is_measured_by_condition(root, tmp_path, monkeypatch):
    run, asked = run_of(root, tmp_path / "out"), []
    run.report(Training(), 0, [((), "D8"), ((), "sharp")])
    real = _experiment.evaluate

    def watched(*args, **kwargs):
        asked.append(kwargs["blurs"])
        return real(*args, **kwargs)

    monkeypatch.setattr(_experiment, "evaluate", watched)
    reproduce_table(run, "table6")
    assert asked == ["D2, D4, D6", "sharp, D2, D4, D6, D8"]


@pytest.mark.parametrize(
    ("changes", "different"),
    [({"limit": 2}, "images"), ({"band": 2}, "band"), ({"network_size": (24, 24)}, "network_size")],
)
def test_records_of_another_setting_are_not_mixed(root, tmp_path, changes, different):
    run_of(root, tmp_path / "out").report(Training(), 0, SHARP)
    with pytest.raises(ValueError, match=rf"with another .*{different} \(was"):
        run_of(root, tmp_path / "out", **changes).report(Training(), 0, SHARP)


def test_records_of_another_training_are_not_mixed(root, tmp_path):
    run_of(root, tmp_path / "out").report(Training(mix="defocus"), 0, SHARP)
    shutil.rmtree(tmp_path / "out" / "networks")
    with pytest.raises(ValueError, match=r"another training \(was"):
        run_of(root, tmp_path / "out", lr=(0.1,)).report(Training(mix="defocus"), 0, SHARP)


def test_the_recipe_is_the_papers():
    settings = SegmentationSettings()
    assert (settings.epochs, settings.lr, settings.canonical_side) == ((6, 2), (1e-4, 1e-5), 384)
    assert paper.MIXES["defocus"] == "sharp + D2 + D4 + D6 + D8"
    with pytest.raises(ValueError, match="`seeds`"):
        SegmentationSettings(seeds=())


def test_figure5_shows_truth_and_both_networks(root, tmp_path):
    pytest.importorskip("jinja2")
    run = run_of(root, tmp_path / "out")
    text = paper.figure5(run, count=2, names=("ground", "red", "blue")).read_text(encoding="utf-8")
    assert text.count("<img") == 2 * 7
    for words in ("truth", "sharp, before", "D8, after", "ground", "image blurred"):
        assert words in text


def test_scenes_have_a_legend_and_equal_columns():
    pytest.importorskip("jinja2")
    black = np.zeros((4, 6, 3), np.uint8)
    figure = segmentation_figure([{"image": black, "truth": np.array([[0, 2], [255, 2]])}], names=("a", "b"))
    assert "Classes: a, 2." in figure.alt
    with pytest.raises(ValueError, match="the same columns"):
        segmentation_figure([{"image": black}, {"truth": black}])


def command(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


def test_the_command(root, tmp_path, monkeypatch):
    (tmp_path / "mine_table6.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--root", root, "--model", "mine_table6:build", "--output", tmp_path / "out", "--no-progress"]
    words += ["--canonical-side", "40", "--epochs", "1", "--lr", "0.05", "--workers", "0", "--device", "cpu"]
    result = command("table6", *words, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "fine-tuning defocus, seed 0" in result.output
    assert not (tmp_path / "out").exists()
    result = command("table6", *words, "--control")
    assert result.exit_code == 0, result.output
    assert "Ours minus the paper's" in result.output
    assert json.loads((tmp_path / "out" / "table6.json").read_text())["settings"]["control"] is True
    assert (tmp_path / "out" / "table6.html").exists()
    result = command("figure5", *words)
    assert "figure5.html" in result.output
    result = command("table6", "--root", root)
    assert result.exit_code != 0
    assert "got no network" in " ".join(result.output.split())
