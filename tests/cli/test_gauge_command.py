"""The command on photographs under known blurs."""

import json

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from test_cli import run

from blurlib.functional import apply


@pytest.fixture
def folder(tmp_path, monkeypatch):
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    (tmp_path / "photos").mkdir()
    apply(photograph, "D4a").save(tmp_path / "photos" / "soft.bmp")
    Image.new("RGB", (90, 90)).save(tmp_path / "photos" / "flat.bmp")
    photograph.save(tmp_path / "sharp.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_for_each_photograph(folder):
    lines = run("gauge", "sharp.jpg", "photos").stdout.splitlines()
    assert "photograph" in lines[0] and "size at 384 px" in lines[0]
    names = [line.split()[:2] for line in lines[2:]]
    assert names == [["sharp.jpg", "sharp"], ["photos/flat.bmp", "unknown"], ["photos/soft.bmp", "defocus"]]
    assert "too smooth to tell" in lines[3]


def test_json(folder):
    images = json.loads(run("gauge", "photos", "--json").stdout)["images"]
    assert [image["kind"] for image in images] == ["unknown", "defocus"]
    assert images[0]["size"] is None
    assert images[1]["size_in_image"] == pytest.approx(4, rel=0.25)
    assert images[1]["interval"][0] < images[1]["size"] < images[1]["interval"][1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing.jpg", "there is no 'nothing.jpg'"),
        ("empty", "got none in 'empty'"),
        ("text.jpg", "cannot read text.jpg: it is damaged"),
    ],
)
def test_refusals_are_one_line(folder, path, words):
    (folder / "empty").mkdir()
    (folder / "text.jpg").write_text("no image")
    result = run("gauge", path, code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1
