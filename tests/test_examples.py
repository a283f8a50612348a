"""The examples run as a reader would run them, and write into the folder that they are given only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WRITTEN = {
    "01_blur_a_photograph.py": {"blurs.png", "drawn.png", "scaled.png"},
    "02_dataloader.py": {"batch.png"},
    "03_one_blur_an_image.py": {"mix.png"},
    "04_finetune_and_evaluate.py": {
        "comparison.md",
        "control.json",
        "original.json",
        "tuned.json",
        "tuned.npz",
    },
}

# All are errors but the one that tells of a missing core.
WARNINGS = ("-W", "error", "-W", "ignore:blurlib's native core is not installed")


def run(name, *arguments, folder):
    # TMPDIR stays as it is: under pytest's long folder names the loaders' sockets would have too long a path,
    # and a loader whose socket cannot be made waits for ever.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    result = subprocess.run(
        [sys.executable, *WARNINGS, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.mark.parametrize("name", WRITTEN)
def test_example_runs_and_writes_where_it_is_told(name, tmp_path):
    (tmp_path / "work").mkdir()
    options = ["--quick"] if name.startswith("04") else []
    output = run(name, tmp_path / "out", *options, folder=tmp_path / "work")
    assert WRITTEN[name] <= {path.name for path in (tmp_path / "out").iterdir()}
    assert str(tmp_path / "out") in output
    assert not [path for path in (tmp_path / "work").iterdir() if path.suffix in (".png", ".json", ".md")]


def test_real_photographs_are_asked_for(tmp_path):
    assert "name a folder" in run("05_real_photographs.py", folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_example_is_run_here():
    named = {*WRITTEN, "05_real_photographs.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == named
