"""Reports: lookup, tables, files, comparison of settings."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from blurlib.blurs import Disk
from blurlib.metrics import image_values
from blurlib.reporting import Record, Report, compare

SETTINGS = {"canonical_side": 384, "crop": 224, "crops": "center", "average": "crops", "seed": 0}


def made(seed=0, *, count=12, scales=((256,),), blurs=("sharp", "D8"), shift=0.0, **settings):
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 6
    records = []
    for sides in scales:
        for blur in blurs:
            logits = torch.randn(count, 6, generator=random)
            logits[torch.arange(count), label] += shift
            ids = [f"val/ä/{i}.jpg" for i in range(count)]
            records.append(Record.of(image_values(logits, label, ids=ids), blur=blur, sides=sides))
    return Report(records=tuple(records), settings={**SETTINGS, **settings})


def test_lookup():
    report = made(scales=((128,), (128, 256)))
    assert report["D8", 128] is report.records[1] and report["D8", (128, 256)] is report.records[3]
    assert report[Disk(8), 128] is report.records[1] and report.blurs == ("sharp", "D8")
    assert made()["D8"].blur == "D8"


def test_json_csv_and_markdown_hold_the_numbers(tmp_path):
    report = made(scales=((128,), (128, 256)), model="VGG", root="imagenet/val")
    plain = json.loads(report.to_json(tmp_path / "r.json"))
    assert plain["records"][3]["top1"] == report.records[3].top1 and plain["records"][3]["sides"] == [
        128,
        256,
    ]
    assert "images" not in plain["records"][0] and plain["settings"]["canonical_side"] == 384
    rows = list(csv.DictReader(io.StringIO(report.to_csv(tmp_path / "r.csv"))))
    assert [row["sides"] for row in rows] == ["128", "128", "128+256", "128+256"]
    assert float(rows[1]["cross_entropy"]) == report.records[1].cross_entropy
    text = report.to_markdown(tmp_path / "r.md")
    assert f"| D8 | 128+256 | {100 * report.records[3].top1:.1f} |" in text
    assert "VGG, 12 images of imagenet/val, blurred at a shorter side of 384 px" in text
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == text
    assert report.caption in str(report) and report.table() in str(report)


@pytest.mark.parametrize("name", ["run", "run/before.json"])
def test_saved_report_loads_and_compares(tmp_path, name):
    report, other = made(1), made(2)
    path = report.save(tmp_path / name)
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".npz"]
    loaded = Report.load(tmp_path / name)
    assert loaded == report and loaded.settings == report.settings
    for mine, theirs in zip(loaded.records, report.records, strict=True):
        for field in vars(theirs.images):
            array, expected = getattr(mine.images, field), getattr(theirs.images, field)
            assert array.dtype == expected.dtype and np.array_equal(array, expected)
    assert loaded.compare(other).to_json() == report.compare(other).to_json()


def test_without_the_values_of_each_image_a_report_prints_but_does_not_compare(tmp_path):
    report = made()
    path = report.save(tmp_path)
    path.with_suffix(".npz").unlink()
    loaded = Report.load(path)
    assert loaded.table() == report.table() and loaded["D8"].images is None
    with pytest.raises(ValueError, match=r"load it with its \.npz file"):
        loaded.compare(report)
    loaded.save(tmp_path / "again")
    assert not (tmp_path / "again" / "report.npz").exists()


def test_files_that_are_no_reports(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must be a file written by `save`"):
        Report.load(tmp_path)
    for number, text in enumerate(
        ["{", "[]", '{"kind": "x"}', '{"kind": "blurlib.Report", "task": "classification", "records": [{}]}']
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(ValueError, match="`path` must be a file written by `save`"):
            Report.load(path)
    made(count=12).save(tmp_path / "a.json")
    made(count=11).save(tmp_path / "b.json")
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="values of its own images"):
        Report.load(tmp_path / "a.json")


def test_report_refuses_what_is_no_report():
    record = made().records[0]
    with pytest.raises(ValueError, match="at least one record"):
        Report(records=())
    with pytest.raises(ValueError, match="sharp at 256 twice"):
        Report(records=(record, record))
    other = made(count=11).records[1]
    with pytest.raises(ValueError, match="same images"):
        Report(records=(record, other))


def test_compare_refuses_other_settings_and_names_them():
    with pytest.raises(ValueError, match="`canonical_side` 384 and 192, `crops` 'center' and 'five'"):
        made().compare(made(canonical_side=192, crops="five"))
    with pytest.raises(ValueError, match="`control` must be evaluated as the others"):
        made().compare(made(), control=made(average="scales"))
    # The seed decides about shakes only: other reports compare all the same.
    assert made().compare(made(seed=5)).rows
    shaken = made(blurs=("sharp", "shake")).settings
    assert shaken["seed"] == 0
    with pytest.raises(ValueError, match="`seed` 0 and 1"):
        compare(
            made(blurs=("sharp", "shake")),
            Report(records=made(blurs=("sharp", "shake")).records, settings={**SETTINGS, "seed": 1}),
        )


def test_compare_takes_one_report_or_several():
    before, after = made(1), [made(seed, shift=2.0) for seed in (2, 3, 4)]
    pooled = compare(after, before, control=[made(5), made(6)])
    assert pooled.runs == {"before": 1, "after": 3, "control": 2} and pooled.settings["crop"] == 224
    mean = np.mean([report["D8"].top1 for report in after])
    assert pooled["D8"].top1.after == pytest.approx(mean)
    assert compare(after[0], before).to_json() == after[0].compare(before).to_json()
    for wrong in ([], "report", [before, 3], None):
        with pytest.raises(TypeError, match="`before` must be a Report"):
            compare(after, wrong)
    with pytest.raises(TypeError, match="`before`"):
        after[0].compare({"records": []})


def test_a_report_cannot_be_changed():
    with pytest.raises(AttributeError):
        made().records = ()


def test_page_of_one_report_and_of_two(tmp_path):
    before, after, control = made(1, model="VGG", root="imagenet/val"), made(2, shift=2.0), made(3)
    page = before.to_html(tmp_path / "new" / "one.html", title="Before <all>")
    text = page.read_text(encoding="utf-8")
    assert (
        "Before &lt;all&gt;" in text and f"{100 * before['D8'].top1:.1f}" in text and "imagenet/val" in text
    )
    two = after.to_html(tmp_path / "two.html", before=before, control=control).read_text(encoding="utf-8")
    assert "Share of errors among the surest images." in two
    change = after.compare(before, control=control)["D8"].top1
    assert f"{100 * change.difference:+.1f}" in two and f"{100 * change.control:.1f}" in two
    with pytest.raises(ValueError, match="`control` must come with `before`"):
        after.to_html(tmp_path / "x.html", control=control)
    with pytest.raises(ValueError, match="`crop` 224 and 64"):
        after.to_html(tmp_path / "x.html", before=made(1, crop=64))
    assert not (tmp_path / "x.html").exists()
