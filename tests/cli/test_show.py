"""`blurlib show`: the figure of the function, at the photograph's scale."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import blurlib
from blurlib._cli import main


def run(*arguments, code=0):
    result = CliRunner().invoke(main.app, ["show", *map(str, arguments)], prog_name="blurlib")
    assert result.exit_code == code and "Traceback" not in result.output, result.output
    return result


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(path)
    return path


def test_the_picture_is_that_of_the_function(photo, tmp_path):
    out = tmp_path / "new" / "blurs.png"
    text = run(photo, "--blurs", "D2", "--out", out, "--at", 48).stdout
    assert "128 x 96 px" in text and "D2 at 48 px" in text
    blurlib.show(photo, "D2", scale=2).savefig(tmp_path / "expected.png", dpi=150)
    with Image.open(out) as found, Image.open(tmp_path / "expected.png") as expected:
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    before = out.read_bytes()
    assert "--force" in run(photo, "--out", out, code=2).stderr and out.read_bytes() == before
    run(photo, "-b", "D2", "--out", out, "--at", "image", "--force")
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.png", "-o", "out.png"), "`IMAGE` must be an image file, there is no"),
        (("photo.png", "-o", "out.doc"), "a suffix such as .png or .pdf, got"),
        (("photo.png", "-o", "out"), "a suffix such as .png or .pdf, got"),
        (("photo.png", "-o", "out.png", "-b", "disc8"), "did you mean"),
        (("photo.png", "-o", "out.png", "-b", ","), "`blurs` must name at least one blur"),
        (("photo.png", "-o", "out.png", "--at", "0"), "--at"),
        (("text.png", "-o", "out.png"), "cannot read text.png"),
    ],
)
def test_it_refuses_in_one_line(photo, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("text")
    before = sorted(tmp_path.rglob("*"))
    result = run(*arguments, code=2)
    assert not result.stdout and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
