"""The types that a user's editor and type checker see; each mistake in usage.py must be one to them too."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blurlib

USAGE = Path(__file__).parent / "typing" / "usage.py"


def run(*command, folder):
    """A checker's run on a copy away from the checkout, whose settings are not a user's."""
    shutil.copy(USAGE, folder)
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_mypy_reads_what_is_meant(tmp_path):
    pytest.importorskip("mypy")
    result = run("mypy", "--strict", "--config-file", "", USAGE.name, folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_pyright_reads_the_same(tmp_path):
    pytest.importorskip("pyright")
    settings = {
        "include": [USAGE.name],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.10",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "extraPaths": [str(Path(blurlib.__file__).parents[1])],  # an editable installation is found by a hook
        "venvPath": str(Path(sys.prefix).parent),
        "venv": Path(sys.prefix).name,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    result = run("pyright", "--outputjson", "--project", ".", folder=tmp_path)
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    assert not [
        (each["range"]["start"]["line"] + 1, each["message"]) for each in report["generalDiagnostics"]
    ]
