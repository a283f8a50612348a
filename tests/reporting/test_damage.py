"""Reports whose files were changed, mixed up or damaged: one error, never other numbers."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from blurlib.metrics import image_values
from blurlib.reporting import Record, Report
from damage import changed

RECORDS = Path(__file__).parents[2] / "experiments" / "results"


def report(seed=0, images=9):
    torch.manual_seed(seed)
    labels = [number % 3 for number in range(images)]
    ids = [f"{number}.png" for number in range(images)]
    values = {blur: image_values(torch.randn(images, 3), labels, ids=ids) for blur in ("sharp", "D4")}
    return Report(
        records=tuple(Record.of(each, blur=blur, sides=(32,)) for blur, each in values.items()),
        settings={"root": "photos", "name": "ünet\udc80"},
    )


@pytest.mark.parametrize("times", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["report.json", "report.npz"])
def test_no_change_of_a_file_changes_a_number(tmp_path, name, times):
    report().save(tmp_path)
    whole, file = Report.load(tmp_path), tmp_path / name
    data, found = file.read_bytes(), 0
    for seed in range(times):
        file.write_bytes(changed(data, random.Random(seed)))
        try:
            loaded = Report.load(tmp_path)
        except ValueError as error:
            found += 1
            text = str(error)
            assert text.startswith("`path` must") and f"{tmp_path.name}/report." in text
            assert "pickle" not in text and "\n" not in text and len(text) < 600
            continue
        assert loaded == whole and loaded.settings == whole.settings
        for record, expected in zip(loaded.records, whole.records, strict=True):
            if record.images is not None:  # the JSON's own mark of them may be what was changed
                for field in ("ids", "label", "entropy", "cross_entropy", "correct"):
                    np.testing.assert_array_equal(
                        getattr(record.images, field), getattr(expected.images, field), strict=True
                    )
    assert found > 0.6 * times


@pytest.mark.parametrize("sealed", [True, False])
def test_arrays_of_another_report_are_refused(tmp_path, sealed):
    """Of the same images and shape: the table told 15.6 %, its comparison 28.1 %."""
    for seed in (0, 1):
        report(seed).save(tmp_path / f"{seed}.json")
    if not sealed:  # as 0.1 wrote them
        for seed in (0, 1):
            plain = report(seed).to_dict()
            (tmp_path / f"{seed}.json").write_text(json.dumps(plain))
            assert Report.load(tmp_path / f"{seed}.json").records[0].images is not None
    shutil.copy(tmp_path / "1.npz", tmp_path / "0.npz")
    with pytest.raises(
        ValueError,
        match=r"`path` must have the values of its own images beside it, got .*0\.npz.* of another report.*; "
        "move the files of one run together, or evaluate again",
    ):
        Report.load(tmp_path / "0.json")


def test_json_alone_takes_no_arrays_that_lie_there(tmp_path):
    report(0).save(tmp_path)
    (tmp_path / "report.npz").unlink()
    without = Report.load(tmp_path)
    report(1).save(tmp_path)
    without.to_json(tmp_path / "report.json")
    assert Report.load(tmp_path).records[0].images is None


def test_a_changed_value_is_told(tmp_path):
    path = report().save(tmp_path)
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    path.write_text(text.replace('"count": 9', '"count": 8'), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(
        ValueError,
        match=r"report\.json' \(its content has changed since\); take an unchanged copy, or make it",
    ):
        Report.load(tmp_path)


def test_objects_are_not_unpickled_and_nothing_advises_it(tmp_path):
    report().save(tmp_path)
    np.savez(tmp_path / "report.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"which is damaged \(it holds Python objects\); move the files"):
        Report.load(tmp_path)


@pytest.mark.skipif(not RECORDS.exists(), reason="an sdist has no records")
@pytest.mark.parametrize("name", ["paper/scales/original", "paper/deblurring/wiener-0.01-D6"])
def test_committed_records_load_with_their_images(name):
    assert Report.load(RECORDS / name).records[0].images is not None
