"""The examples run as a reader would run them, and write into the folder that they are given only."""

import contextlib
import io
import os
import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest

from processes import in_processes

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WRITTEN = {
    "01_blur_a_photograph.py": {"blurs.png", "drawn.png", "scaled.png"},
    "02_dataloader.py": {"batch.png"},
    "03_one_blur_an_image.py": {"mix.png"},
    "07_on_the_gpu.py": {"views.png"},
    "04_finetune_and_evaluate.py": {
        "comparison.md",
        "control.json",
        "original.json",
        "tuned.json",
        "tuned.npz",
    },
}


def run(name, *arguments, folder):
    """What an example prints, in a process of its own that has imported blurlib and no more."""
    # TMPDIR stays as it is: under pytest's long folder names the loaders' sockets would have too long a path,
    # and a loader whose socket cannot be made waits for ever.
    (shown,) = in_processes(run_here, name, arguments, folder)
    return shown


def run_here(name, arguments, folder):
    os.chdir(folder)
    script = str(EXAMPLES / name)
    sys.argv = [script, *map(str, arguments)]
    sys.path.insert(0, str(EXAMPLES))
    # All are errors but the one that tells of a missing core.
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "blurlib's native core is not installed")
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        runpy.run_path(script, run_name="__main__")
    assert "Traceback" not in errors.getvalue(), errors.getvalue()
    return out.getvalue()


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


@pytest.mark.slow
def test_a_cluster_gives_the_numbers_of_one_process(tmp_path):
    pytest.importorskip("ray")
    shown = run("06_ray_data.py", tmp_path, folder=tmp_path)
    lines = re.findall(
        r"top-1 (\S+) by the cluster, (\S+) by one process; cross-entropy (\S+) and (\S+)", shown
    )
    assert len(lines) == 3
    for cluster, one, *entropies in lines:
        assert cluster == one
        assert float(entropies[0]) == pytest.approx(float(entropies[1]), abs=2e-6)


def test_every_example_is_run_here():
    named = {*WRITTEN, "05_real_photographs.py", "06_ray_data.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == named
