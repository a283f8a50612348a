"""What a table of few classes leaves out, and a report's files as pandas reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import blurlib
from blurlib import Report, compare
from blurlib.metrics import ImageValues, image_values
from blurlib.reporting import Record
from images import examples


def report(classes, known=True, *, seed=0, sides=((256,),), **settings):
    labels = np.random.default_rng(9).integers(0, classes, 40)
    rng = np.random.default_rng(seed)
    records = [
        Record.of(
            image_values(torch.from_numpy(rng.normal(size=(40, classes))), torch.from_numpy(labels)),
            blur=blur,
            sides=each,
            skipped=2,
        )
        for each in sides
        for blur in ("sharp", "D8")
    ]
    settings = {"model": "VGG", "top_k": min(classes, 5), **settings}
    return Report(records=records, settings={**settings, **({"classes": classes} if known else {})})


@examples(0.2)
@given(classes=st.integers(1, 9), known=st.booleans())
def test_tables_leave_top_5_out_where_it_is_always_right(classes, known):
    made = report(classes, known)
    shown = classes > 5 or not known
    compared = compare(report(classes, known, seed=1), made)
    for each in (made, compared):
        assert (f"100 % by definition with {classes} classes" in str(each)) == (not shown)
        for text in (each.table(), each.to_markdown()):
            assert ("top-5 %" in text) == shown
            assert "top-1 %" in text
            assert ("top-5 left out" in each.caption) == (not shown)
    assert ("top-5 recovered %" in compared.table()) == shown
    # What is computed stays: in the values, the JSON and the columns of the CSV.
    assert (classes > 5) or made["D8"].top5 == 1.0 == compared["D8"].after["top5"]
    assert made.to_dict()["records"][0]["top5"] == made["sharp"].top5
    assert "top5" in made.to_csv().splitlines()[0].split(",")
    assert [metric.name for metric in ImageValues.metrics] == list(made["D8"].values)


@pytest.mark.parametrize("more", [{}, {"network_outputs": 1000}])
def test_a_class_map_is_told_in_captions_and_on_pages(tmp_path, more):
    mapped = report(7, class_map=list(range(7)), **more)
    told = f"7 of the network's {'1000 ' if more else ''}classes"
    assert f"40 images on {told}" in mapped.caption
    assert told in compare(mapped, report(7, seed=1)).caption
    assert "network's" not in compare(report(7, seed=1), mapped).caption
    pytest.importorskip("jinja2")
    page = mapped.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert told.replace("'", "&#39;") in page


@pytest.mark.parametrize("classes", [5, 6])
def test_pages_leave_it_out_and_say_so(classes, tmp_path):
    made = report(classes)
    for before in (None, report(classes, seed=1)):
        page = made.to_html(tmp_path / "page.html", before=before).read_text(encoding="utf-8")
        headings = re.findall(r'<th scope="col".*?</th>', page)
        assert any("top-1" in heading for heading in headings)
        assert any("top-5" in heading for heading in headings) == (classes > 5)
        said = re.sub(r"<.*?>|\s", " ", page).count("left out, 100")
        assert said == (classes == 5) * (1 if before is None else 2)


def test_report_is_at_the_top(tmp_path):
    assert blurlib.Report is blurlib.reporting.Report
    made = report(7)
    assert blurlib.Report.load(made.save(tmp_path)) == made


@pytest.mark.parametrize("classes", [2, 9])
def test_pandas_reads_what_a_report_writes(classes, tmp_path):
    pandas = pytest.importorskip("pandas")
    made = report(classes, sides=((256,), (256, 512)), crops="center")
    made.save(tmp_path)
    made.to_csv(tmp_path / "report.csv")
    frame = pandas.read_csv(tmp_path / "report.csv")
    assert list(frame.columns) == ["blur", "sides", *made["D8", 256].values, "count", "skipped"]
    assert frame["sides"].tolist() == ["256", "256", "256+512", "256+512"]
    plain = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    records = pandas.json_normalize(plain["records"])
    for table in (frame, records):
        assert table["blur"].tolist() == ["sharp", "D8", "sharp", "D8"]
        assert table["count"].tolist() == [40] * 4
        for name in ("top1", "top5", "entropy", "cross_entropy", "ece"):
            assert table[name].tolist() == [record.values[name] for record in made.records]
    settings = pandas.json_normalize(plain["settings"])
    assert settings["classes"].item() == classes
    wide = frame.pivot(index="blur", columns="sides", values="top1")
    assert wide.loc["D8", "256+512"] == made["D8", (256, 512)].top1


def test_the_page_on_pandas_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    page = Path(__file__).parents[2] / "docs" / "imagenet.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "import pandas" in block)
    monkeypatch.chdir(tmp_path)
    made = report(7, sides=((256,), (512,)))
    Report(records=made.records[:2], settings=made.settings).save("runs/tuned")
    Report(records=made.records[:2], settings=made.settings).to_csv("runs/tuned/report.csv")
    names = {}
    exec(compile(code, str(page), "exec"), names)
    assert names["table"]["sides"].tolist() == ["256", "256"]
    assert names["settings"]["classes"].item() == 7
    assert list(names["each"].columns) == ["ids", "label", "correct", "correct5", "entropy", "cross_entropy",
                                           "confidence"]  # fmt: skip
    assert len(names["each"]) == 40
    assert "D8" in capsys.readouterr().out
