"""reproduce(): what a table needs, what is kept and used again, what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from blurlib import evaluation, paper
from blurlib._cli.main import app
from blurlib.deblurring import DeblurThenClassify
from blurlib.evaluation import evaluate
from blurlib.models import PerScale
from blurlib.paper import (
    TABLES,
    ClassificationSettings,
    ReproducedTable,
    Run,
    SegmentationSettings,
    _cells,
    _costs,
    _experiment,
    _figures,
    reproduce,
    reproduce_table,
)
from blurlib.protocol import to_canonical
from blurlib.reporting import Report, compare

CLASSES = 6
TINY = {"side": 32, "canonical_side": 48, "epochs": (1,), "lr": (0.01,), "batch_size": 6, "crops": "center"}
QUIET = {"workers": 0, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(2):
                noise = rng.integers(0, 256, (50, 60 + number, 3), dtype=np.uint8)
                noise[..., label % 3] = (255 - noise[..., label % 3] // 2) // (1 + label // 3)
                Image.fromarray(noise).save(place / f"{number}.png")
    return folder


def network(classes=CLASSES):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes)
    )


def settings(**changes):
    return ClassificationSettings(**{**TINY, **changes})


# The plan


def test_sides_and_crop_change_in_proportion():
    assert ClassificationSettings().sides((128, 256, 512)) == (128, 256, 512)
    assert ClassificationSettings().crop == 224
    assert ClassificationSettings(side=183).sides((128, 256, 512)) == (92, 183, 366)
    assert ClassificationSettings(side=183).crop == 160


def test_parts_of_all_tables_are_named_once_and_shared(root, tmp_path):
    run = Run(network(), root, settings=settings(seeds=(0, 1)), output=tmp_path / "out", **QUIET)
    parts = run.jobs(*ClassificationSettings.items)
    names = [part.what for part in parts]
    assert len(set(names)) == len(names)
    trained = [part for part in parts if part.training]
    # Five mixes at the usual side, and the defocus mix at twice it and at both; for two seeds.
    assert len(trained) == 2 * 7
    assert all(part.views == {28: 12} for part in trained)
    (original,) = (part for part in parts if part.what == "evaluating original")
    # 12 conditions at sides 16, 32, 64 (crops of 16, 28, 28), an image each.
    assert original.views == {16: 12 * 12, 28: 2 * 12 * 12}
    assert not any(part.done for part in parts)


def test_the_cost_is_told_in_views_and_time(root, tmp_path):
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    lines = run.dry_run("table1", "table3").splitlines()
    assert lines[-1].startswith("total")
    assert not (tmp_path / "out").exists()


def test_costs_of_jobs_go_by_area_and_leave_out_what_is_done():
    jobs = [
        _costs.Job(what="evaluating original", views={112: 100}, training=False, done=False),
        _costs.Job(what="evaluating D4", views={224: 7}, training=False, done=True),
        _costs.Job(what="restoring", views={224: 10}, training=False, done=False, restored={"wiener": 10}),
    ]
    table = _costs.cost_table(jobs, {False: 2.0}, side=224, restoring={"wiener": 10.0})
    assert [line.split()[-2:] for line in table.splitlines()[2:]] == [
        ["50", "s"], ["7", "done"], ["2.0", "min"], ["2.8", "min"],
    ]  # fmt: skip


# The tables


def test_a_table_is_what_evaluate_measures(root, tmp_path):
    model = network()
    table = reproduce("table1", model, root, settings=settings(), output=tmp_path / "out", **QUIET)
    assert table.rows == tuple(paper.CONDITIONS.values())
    assert table.columns == ("128", "256", "256+512", "512")
    shown = {"scales": (16, 32, (32, 64), 64), "crop": 28, "canonical_side": 48}
    expected = evaluate(model, root, blurs=", ".join(paper.CONDITIONS), **shown, **QUIET)
    sides = dict(zip(table.columns, ((16,), (32,), (32, 64), (64,)), strict=True))
    for cell in table.cells:
        assert cell.value == pytest.approx(expected[cell.blur, sides[cell.column]].top5)
        assert cell.interval[0] <= cell.value <= cell.interval[1]
        assert cell.difference == pytest.approx(cell.value - cell.paper)
    assert table["Sharp", "256"].paper == 0.9088


def test_entropies_are_in_nats(root, tmp_path):
    table = reproduce("table2", network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    assert {cell.metric for cell in table.cells} == {"entropy", "cross_entropy"}
    assert table["D8", "Entropy, original"].paper == 3.8021
    assert "1.1837" not in table.table()
    assert "1.184" in table.table()
    cell = table["Sharp", "Entropy, original"]
    assert f"{cell.value - 1.1837:+.3f}" in str(table)


def test_what_was_done_is_not_done_again(root, tmp_path, monkeypatch):
    place = {"settings": settings(seeds=(0, 1)), "output": tmp_path / "out"}
    run = Run(network(), root, **place, **QUIET)
    first = reproduce_table(run, "table2")
    assert all(part.done for part in run.jobs("table2"))

    def never(*args, **kwargs):
        raise AssertionError("it is there already")

    monkeypatch.setattr(_experiment, "evaluate", never)
    monkeypatch.setattr(_experiment, "finetune", never)
    again = reproduce("table2", network(), root, **place, **QUIET)
    assert again.cells == first.cells


def test_a_stopped_evaluation_goes_on(root, tmp_path, capfd, monkeypatch):
    place = {"settings": settings(), **QUIET}
    whole = reproduce_table(Run(network(), root, output=tmp_path / "whole", **place), "table2")
    forward, left = nn.Conv2d.forward, [0]

    def fails(layer, images):
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("stopped here")
        return forward(layer, images)

    monkeypatch.setattr(nn.Conv2d, "forward", fails)
    monkeypatch.setattr(evaluation._evaluate.ClassificationEvaluation, "default_batch_size", 2)
    stops = 0
    while True:
        left[0] = 8 + stops
        try:
            table = reproduce_table(Run(network(), root, output=tmp_path / "out", **place), "table2")
            break
        except RuntimeError:
            stops += 1
    assert stops > 2 and "evaluate: goes on, with " in capfd.readouterr().err
    assert not list((tmp_path / "out").rglob("begun*"))
    for cell, expected in zip(table.cells, whole.cells, strict=True):
        assert cell.value == pytest.approx(expected.value, rel=1e-5)


def test_another_table_measures_only_what_is_missing(root, tmp_path, monkeypatch):
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    reproduce_table(run, "table2")
    asked = []
    real = evaluation.evaluate

    def watched(model, listing, *, blurs, **kwargs):
        asked.append((blurs, kwargs["scales"]))
        return real(model, listing, blurs=blurs, **kwargs)

    monkeypatch.setattr(_experiment, "evaluate", watched)
    table = reproduce_table(run, "table3")
    original, *others = asked
    assert original == ("shake, H8", [(32,)])  # sharp, D4 and D8 are there
    assert len(others) == 5
    assert len(table.cells) == 30


def test_seeds_are_averaged_and_listed(root, tmp_path):
    run = Run(network(), root, settings=settings(seeds=(0, 1)), output=tmp_path / "out", **QUIET)
    table = reproduce_table(run, "table2")
    cell = table["D8", "Cross-entropy, fine-tuned"]
    assert len(cell.each) == 2
    assert cell.each[0] != cell.each[1]
    assert cell.value == pytest.approx(np.mean(cell.each))
    assert len(table["D8", "Cross-entropy, original"].each) == 1


def test_a_control_without_published_figures(root, tmp_path):
    run = Run(network(), root, settings=settings(control=True), output=tmp_path / "out", **QUIET)
    table = reproduce_table(run, "table3")
    assert table.columns[-1] == "Sharp only (control)"
    cell = table["Sharp", "Sharp only (control)"]
    assert cell.paper is None
    assert cell.difference is None
    assert table.table().splitlines()[-1].endswith(" -")
    assert max(map(len, str(table).splitlines())) < 160


def test_changes_are_those_of_a_comparison(root, tmp_path):
    run = Run(
        network(), root, settings=settings(control=True, seeds=(3, 4)), output=tmp_path / "out", **QUIET
    )
    table = reproduce_table(run, "table3")
    places = tmp_path / "out" / "evaluations"

    def reports(name):
        return [Report.load(path) for path in sorted((places / name).glob("seed*"))]

    before, control = Report.load(places / "original"), reports("sharp-32")
    compared = compare(reports("defocus-32"), before, control=control)
    for row, blur in (("Sharp", "sharp"), ("Defocus r=8 (D8)", "D8")):
        cell = table[row, "Sharp & D2,D4,D6,D8"]
        assert cell.base == "sharp-32"
        assert cell.change == pytest.approx(compared[blur].top5.difference)
        assert cell.change_interval == pytest.approx(compared[blur].top5.difference_interval)
        assert table[row, "Original"].change is None
        assert table[row, "Sharp only (control)"].change is None

    entropies = reproduce_table(run, "table2")
    cell = entropies["D8", "Cross-entropy, fine-tuned"]
    alone = compare(reports("defocus-32"), before)["D8"].cross_entropy
    assert cell.base == "original"
    assert cell.change == pytest.approx(alone.after - alone.before)
    assert cell.change_interval == pytest.approx(alone.difference_interval)
    text = str(entropies)
    assert "change from original, with paired 95 % intervals" in text
    changes = entropies.to_markdown().split("## Ours: change")[1]
    assert "original |" not in changes.split("\n", 2)[2]  # its own cells do not change


def test_networks_for_each_scale_share_their_fine_tunings(root, tmp_path):
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    table = reproduce_table(run, "table4")
    assert len(table.cells) == 21
    folders = sorted(path.name for path in (tmp_path / "out" / "networks").iterdir())
    assert folders == ["defocus-32", "defocus-32-64", "defocus-64"]
    (each,) = {training for training in TABLES["table4"].trainings if training.per_scale}
    assert isinstance(run.network(each, 0), PerScale)


def test_a_part_of_the_classes_keeps_all_outputs(root, tmp_path):
    run = Run(network(), root, settings=settings(classes=2, limit=4), output=tmp_path / "out", **QUIET)
    assert sorted(set(run.validation.labels.tolist())) == [0, 3]
    table = reproduce_table(run, "tableA")
    assert table.settings["classes"] == CLASSES
    assert table.settings["classes_used"] == 2
    assert table.settings["images"] == 4
    assert "2 of 6 classes" in table.caption


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top_1_takes_the_place_of_a_top_5_that_is_always_right(classes, tmp_path):
    rng = np.random.default_rng(classes)
    noise = rng.integers(0, 256, (2 * classes, 50, 60, 3), dtype=np.uint8)
    photos = [(Image.fromarray(each), number % classes) for number, each in enumerate(noise)]
    run = Run(network(classes), photos, settings=settings(), output=tmp_path / "out", **QUIET)
    table = reproduce_table(run, "tableA")
    report = evaluate(network(classes), photos, blurs="sharp, D8", scales=(32,), crop=28, canonical_side=48,
                      **QUIET)  # fmt: skip
    assert json.loads(table.to_json())["cells"][0]["metric"] == ("top5" if classes > 5 else "top1")
    page = table.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    kept = ReproducedTable.load(tmp_path / "out" / "tableA.json")
    if classes > 5:
        assert table["D8", "256"].value == pytest.approx(report["D8"].top5)
        assert table["D8", "256"].paper == 0.6614
        for text in (str(table), table.to_markdown()):
            assert "Ours minus the paper's" in text and "top-5 in percent" in text
        assert "Ours minus the paper" in page
        return
    reason = (
        f"top-1 in percent; the paper's top-5 is 100 % by definition with {classes} classes and is left out"
    )
    for each in (table, kept):
        assert each["D8", "256"].value == pytest.approx(report["D8"].top1)
        assert {cell.paper for cell in each.cells} == {cell.difference for cell in each.cells} == {None}
        for text in (str(each), each.to_markdown()):
            assert reason in text
            assert "minus" not in text and "The paper\n" not in text
        assert [line.split()[0] for line in each.table().splitlines()[3:]] == [
            "Sharp",
            "D2",
            "D4",
            "D6",
            "D8",
        ]
        assert "paper" not in each.table()
    assert "by definition" in page and "minus" not in page


def test_a_row_of_top_5_is_named_for_what_it_shows():
    cell = TABLES["table5"].cells[0]
    assert _cells.telling(cell, 0.9, 6) == (cell, 0.9)
    few, published = _cells.telling(cell, 0.9, 5)
    assert (few.row, few.metric, published) == ("Top-1 accuracy", "top1", None)
    nats = TABLES["table2"].cells[0]
    assert _cells.telling(nats, 1.1, 2) == (nats, 1.1)


# What is refused


@pytest.mark.parametrize(
    ("changes", "different"),
    [({"crops": "five"}, "crops"), ({"limit": 6}, "images"), ({"canonical_side": 40}, "canonical_side")],
)
def test_records_of_another_setting_are_not_mixed(root, tmp_path, changes, different):
    reproduce("tableA", network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    with pytest.raises(ValueError, match=rf"with another .*{different} \(was"):
        reproduce("tableA", network(), root, settings=settings(**changes), output=tmp_path / "out", **QUIET)


def test_records_of_another_network_or_version_are_not_mixed(root, tmp_path):
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    reproduce_table(run, "tableA")
    other = network()
    other[0].bias.data[0] += 1
    with pytest.raises(ValueError, match=r"another weights \(was"):
        reproduce("tableA", other, root, settings=settings(), output=tmp_path / "out", **QUIET)
    path = tmp_path / "out" / "evaluations" / "original" / "report.json"
    record = json.loads(path.read_text())
    record["settings"]["versions of blurlib and torch"][0] = "0.0.1"
    del record["sha256"]  # else it is told first that the file was changed
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"versions of blurlib and torch \(was \['0\.0\.1'"):
        reproduce_table(run, "tableA")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 99}, "`limit` must be at most the 12 val images"),
        ({"classes": 9}, "`classes` must be at most the 6"),
        ({"seeds": ()}, "`seeds` must hold different seeds"),
        ({"seeds": (1, 1)}, "`seeds` must hold different seeds"),
        ({"crops": "six"}, "`crops` must be one of"),
        ({"side": 1}, "`side`"),
        ({"deblur_limit": 13}, "`deblur_limit` must be at most the 12 val images"),
        ({"deblur": ()}, "`deblur` must hold different methods"),
        ({"deblur": "magic"}, "`deblur` must hold methods of wiener, richardson_lucy, epll"),
        ({"deblur": "wiener:"}, "`deblur` must hold methods"),
        ({"deblur": "wiener:D8x"}, "D8x"),
        ({"train_limit": 99}, "`train_limit` must be at most the 12 train images"),
    ],
)
def test_settings_that_cannot_be(root, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        reproduce(
            "table5" if "deblur_limit" in changes else "table2",
            network(),
            root,
            settings=settings(**changes),
            output=tmp_path / "out",
            **QUIET,
        )


def test_an_unknown_table_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="`item` must be one of table1"):
        reproduce("table9", network(), "nowhere")
    with pytest.raises(ValueError, match=r"`item` must be one of table6 for SegmentationSettings.*Classific"):
        reproduce("table1", network(), "nowhere", settings=SegmentationSettings())


def test_missing_training_images_stop_a_run_at_its_start(root, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "val").symlink_to(root / "val")
    monkeypatch.setattr(_experiment, "evaluate", None)  # nothing is measured first
    with pytest.raises(FileNotFoundError, match="'train'"):
        reproduce("table2", network(), tmp_path / "photos", settings=settings(), output=tmp_path, **QUIET)


# Table 5


def test_deblurring_against_fine_tuning(root, tmp_path, monkeypatch):
    chosen = settings(deblur=("wiener", "wiener:D6"), deblur_limit=6)
    run = Run(network(), root, settings=chosen, output=tmp_path / "out", **QUIET)
    parts = {part.what: part for part in run.jobs("table5")}
    assert parts["evaluating original-deblurred-wiener-D6-6"].restored == {"wiener": 6}
    assert parts["evaluating original"].restored == {}
    assert "original-deblurred-wiener-D8-6" in run.dry_run("table5")
    table = reproduce_table(run, "table5")
    assert table.rows == (
        "Original on sharp",
        "Original on blurred (D8)",
        "Original on deblurred (Wiener)",
        "Original on deblurred (Wiener, assumed D6)",
        "FT-Mix on blurred (D8)",
        "FT-D8 on blurred (D8)",
    )
    assert [cell.paper for cell in table.cells] == [0.906, 0.6157, None, None, 0.8715, 0.883]
    assert table.settings["images"] == 6 and len(run.validation) == 12
    # Each figure from its own evaluation, of the six images alone.
    listing = run.deblurred_images
    names = [listing.id(position) for position in range(6)]
    assert [int(label) for label in listing.labels] == list(range(6))
    shown = {"scales": (32,), "crop": 28, "canonical_side": 48}
    networks = {
        "Original on sharp": (network(), "sharp"),
        "Original on deblurred (Wiener)": (DeblurThenClassify(network(), "wiener", "D8"), "D8"),
        "Original on deblurred (Wiener, assumed D6)": (DeblurThenClassify(network(), "wiener", "D6"), "D8"),
    }
    for row, (model, blur) in networks.items():
        report = evaluate(model, listing, blurs=blur, **shown, **QUIET)
        assert report[blur].images.ids.tolist() == names
        assert table[row, "Top-5 accuracy"].value == pytest.approx(report[blur].top5)
    kept = Report.load(tmp_path / "out" / "evaluations" / "original-deblurred-wiener-D6-6")
    deblurring = evaluate(
        networks["Original on deblurred (Wiener, assumed D6)"][0], listing, blurs="D8", **shown, **QUIET
    )
    np.testing.assert_allclose(kept["D8"].images.cross_entropy, deblurring["D8"].images.cross_entropy)
    # Time and change stand beside.
    for cell in table.cells:
        assert cell.seconds > 0
        behind = cell.row.startswith("Original on deblurred")
        assert (cell.base == "original") == (behind or cell.row.startswith("FT"))
    assert "Seconds per image" in str(table) and "## Seconds per image" in table.to_markdown()
    monkeypatch.setattr(_experiment, "evaluate", None)
    again = reproduce("table5", network(), root, settings=chosen, output=tmp_path / "out", **QUIET)
    assert [cell.value for cell in again.cells] == [cell.value for cell in table.cells]
    assert ReproducedTable.load(tmp_path / "out" / "table5.json").cells == again.cells
    again.to_html(tmp_path / "table5.html")
    assert "assumed D6" in (tmp_path / "table5.html").read_text()


def test_deblurring_with_a_control(root, tmp_path):
    chosen = settings(deblur=("wiener",), deblur_limit=6, control=True)
    table = reproduce("table5", network(), root, settings=chosen, output=tmp_path / "out", **QUIET)
    bases = {cell.row: cell.base for cell in table.cells}
    assert bases == {
        "Original on sharp": "",
        "Original on blurred (D8)": "",
        "Original on deblurred (Wiener)": "original",
        "FT-Mix on blurred (D8)": "sharp-32",
        "FT-D8 on blurred (D8)": "sharp-32",
        "Sharp only (control) on sharp": "",
        "Sharp only (control) on blurred (D8)": "",
    }
    values = {cell.row: cell.value for cell in table.cells}
    assert {cell.row: cell.change for cell in table.cells if cell.base} == {
        row: pytest.approx(
            values[row]
            - values[
                "Original on blurred (D8)" if base == "original" else "Sharp only (control) on blurred (D8)"
            ]
        )
        for row, base in bases.items()
        if base
    }
    changes = table.to_markdown().split("## Ours: change")[1].split("## Seconds")[0]
    assert "from the network named in each cell" in changes
    (mixed,) = [line for line in changes.splitlines() if line.startswith("| FT-Mix")]
    assert mixed.endswith("from sharp-32 |")


def test_table_5_takes_ten_images_a_class(tmp_path):
    photos = [(Image.new("RGB", (40, 30)), label) for label in (0, 1) for _ in range(12 + label)]
    run = Run(network(2), photos, settings=settings(), output=tmp_path / "out", **QUIET)
    assert np.bincount(run.deblurred_images.labels).tolist() == [10, 10]
    assert {part.what for part in run.jobs("table5")} >= {"evaluating original-deblurred-epll-D8-20"}


# Figures


def page_of(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("<img") >= 2
    return text


def test_the_four_figures(root, tmp_path):
    pytest.importorskip("jinja2")
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    text = page_of(paper.figure1(run))
    assert "class0" in text
    assert "After fine-tuning" in text
    assert "radius 8" in page_of(paper.figure2(tmp_path / "out"))
    text = page_of(paper.figure3(run, count=7))
    assert text.count('class="tile"') == 7
    assert "camera shake" in text
    text = page_of(paper.figure4(run, layers=["0", "1"], limit=3))
    assert "original, side 16" in text
    assert "fine-tuned, side 32" in text
    assert "Averages over 3 images" in text


def test_figures_of_a_photograph_of_ones_own(root, tmp_path):
    pytest.importorskip("jinja2")
    Image.new("L", (90, 70), 120).save(tmp_path / "mine.png")
    run = Run(network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    assert "mine" in page_of(paper.figure1(run, image=tmp_path / "mine.png"))
    page_of(paper.figure4(run, image=tmp_path / "mine.png", layers=["1"], limit=2))
    with pytest.raises(ValueError, match="nearest"):
        paper.figure4(run, layers=["pool5"])


def test_a_photograph_of_ones_own_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (90, 70)).save(tmp_path / "turned.jpg", exif=exif)
    assert to_canonical(_figures.photograph(tmp_path / "turned.jpg"), 70).shape == (90, 70, 3)


def test_images_are_chosen_from_every_outcome():
    right = {
        "a": {"D4": np.array([1, 1, 0, 0], bool), "D8": np.array([1, 0, 0, 0], bool)},
        "b": {"D4": np.array([1, 1, 1, 1], bool), "D8": np.array([1, 0, 1, 0], bool)},
    }
    chosen = _figures._spread(right, ("D4", "D8"), 6)
    assert len(chosen) == len({position for _, position in chosen}) == 4
    outcomes = [tuple(bool(known[blur][position]) for known in right.values()) for blur, position in chosen]
    assert len(set(outcomes[:3])) == 3


# Files and the command line


def test_a_table_reads_back_and_prints(root, tmp_path):
    table = reproduce("table2", network(), root, settings=settings(), output=tmp_path / "out", **QUIET)
    assert ReproducedTable.load(tmp_path / "out" / "table2.json").cells == table.cells
    text = (tmp_path / "out" / "table2.md").read_text(encoding="utf-8")
    assert "## Ours minus the paper's" in text
    pytest.importorskip("jinja2")
    page = table.to_html(tmp_path / "table2.html").read_text(encoding="utf-8")
    assert "Cross-entropy, fine-tuned" in page
    assert "var(--before) 45%" in page  # the largest entropy of all, the paper's or ours
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a file written by `reproduce`"):
        ReproducedTable.load(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError, match="which is not there"):
        ReproducedTable.load(tmp_path / "none.json")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n    torch.manual_seed(0)\n"
        "    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()\n"
        "    return nn.Sequential(*layers, nn.Linear(24, 6))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "mine:build"


def command(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


def test_the_command_tells_the_cost_measures_and_says_where(root, weights, tmp_path):
    words = (
        "tableA",
        "--root",
        root,
        "--model",
        weights,
        "--side",
        32,
        "--canonical-side",
        48,
        "--crops",
        "center",
    )
    words += ("--output", tmp_path / "out", "--workers", 0, "--device", "cpu", "--no-progress")
    planned = command(*words, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "evaluating original" in planned.output
    assert not (tmp_path / "out").exists()
    done = command(*words)
    assert done.exit_code == 0, done.output
    assert "92.9" in done.output
    assert (tmp_path / "out" / "tableA.md").exists()
    assert "done" in command(*words, "--dry-run").output
    shutil.rmtree(tmp_path / "out")


def test_the_command_deblurs(root, weights, tmp_path):
    words = ("table5", "--root", root, "--model", weights, "--side", 32, "--canonical-side", 48)
    words += ("--deblur", "wiener,wiener:D9", "--deblur-limit", 3, "--output", tmp_path / "out")
    planned = command(*words, "--dry-run", "--workers", 0, "--device", "cpu", "--no-progress")
    assert planned.exit_code == 0, planned.output
    assert "evaluating original-deblurred-wiener-D9-3" in planned.output
    refused = command(*words, "--deblur", "magic")
    assert refused.exit_code == 2 and "must hold methods of wiener" in refused.output


def test_the_command_refuses_what_is_no_table(root):
    result = command("table9", "--root", root)
    assert result.exit_code == 2
    assert "`ITEM` must be one of table1" in result.output


def test_the_command_draws_the_kernels_without_photographs(tmp_path):
    pytest.importorskip("jinja2")
    result = command("figure2", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "figure2.html").exists()
    refused = command("figure3", "--output", tmp_path)
    assert refused.exit_code == 2
    assert "`--root` must name a folder" in refused.output
