"""What a release is made by: the lower bounds as constraints, and the check of its tag."""

import re
import runpy
import shutil
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"
if not WORKFLOWS.is_dir():
    pytest.skip("an sdist has no workflows", allow_module_level=True)


def test_every_lower_bound_of_users_is_a_constraint():
    """The hosted job "lowest" takes them from pyproject.toml; here they come from the installed package."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    constraints = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"](project)
    of_developers = re.compile(r"""extra == ['"](bench|dev|neighbours)['"]""")
    lines = [line for line in requires("blurlib") if not of_developers.search(line)]
    found = [re.match(r"([\w.-]+)(?:\[[\w,]+\])?.*?>=([\d.]+)", line) for line in lines]
    assert set(constraints) == {f"{each[1]}=={each[2]}" for each in found if each}
    assert len(constraints) > 8


@pytest.mark.parametrize(
    ("tag", "passes"), [(f"v{version('blurlib')}", True), ("v9.9.9", False), ("v0", False)]
)
def test_a_tag_is_released_if_it_is_the_version(tmp_path, tag, passes):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    script = re.search(r"^ {8}run: \|\n((?: {10}.*\n)+)", text, re.MULTILINE)[1]
    result = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env={"TAG": tag, "PATH": "/usr/bin:/bin"}, check=False
    )
    assert (result.returncode == 0) == passes
    if passes:
        assert "## [" not in (tmp_path / "notes.md").read_text(encoding="utf-8")
