"""The command on stripes, which a network sees until they are blurred away."""

import json

import pytest
from test_cli import run

from images import stripes

SEEN = [
    *("--canonical-side", 64, "--scales", 64, "--crop", 64, "--mean", "0,0,0", "--std", "1,1,1"),
    *("--device", "cpu", "--workers", 0, "--no-progress", "--target", 0.8, "--kinds", "motion"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number, (image, label) in enumerate(stripes()):
        place = tmp_path / "data" / "val" / "ab"[label]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:02}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sizes_pages_and_cameras(folder):
    first = run("tolerance", "images:Stripes", "data", *SEEN, "--output", "before").stdout
    assert "px at 80 % of sharp top-1" in first and "24 images" in first
    camera = ["--focal-px", 500, "--exposure", "1/100", "--before", "before", "--html", "page.html"]
    second = run("tolerance", "images:Stripes", "data", *SEEN, *camera).stdout
    assert "before: px at" in second and "at 1/100 s, 2 m" in second and "m/s" in second
    assert "Wrote page.html" in second
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "motion" in page and "<svg" in page
    result = run("tolerance", "images:Stripes", "data", *SEEN, "--json")
    assert json.loads(result.stdout)["kinds"][0]["kind"] == "motion"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--focal-px", 500], "`--focal-px` and `--exposure` must come together"),
        (
            ["--focal-px", 500, "--exposure", "fast"],
            "`--exposure` must be seconds, such as 1/60 or 0.02, got 'fast'",
        ),
        (["--focal-px", 500, "--exposure", "1/0"], "`--exposure` must be seconds"),
        (["--before", "nothing.json"], "which is not there"),
        (["--kinds", "zoom"], "must be one of defocus, motion, shake, gaussian, got 'zoom'"),
        (["--target", 2], "target"),
    ],
)
def test_refusals_are_one_line(folder, options, words):
    result = run("tolerance", "images:Stripes", "data", *SEEN, *options, code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1
