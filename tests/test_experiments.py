"""Each script of benchmarks and experiments has a help and is in a README; the fit of the patch prior."""

import subprocess
import sys
from pathlib import Path

import pytest

import fit_patch_prior
from blurlib.deblurring import PatchPrior

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    path
    for folder in ("benchmarks", "experiments")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and path.name != "against.py"  # a server of engine.py
]
each_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())


@each_command
def test_readme_lists_the_command(path):
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"`python {path.relative_to(ROOT).as_posix()}" in readme


@pytest.mark.slow
@each_command
def test_help_of_the_command(path):
    command = [sys.executable, str(path), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert path.name in result.stdout


def test_patch_prior_is_fitted(tmp_path, capsys):
    """Few patches and components: the likelihood rises with every step on the same patches."""
    place = tmp_path / "prior.npz"
    fit_patch_prior.main(f"--components 4 --patches 4000 --steps 6 --output {place}".split())
    likelihoods = [float(line.split()[4].rstrip(",")) for line in capsys.readouterr().out.splitlines()]
    assert likelihoods[1] < likelihoods[2] and likelihoods[3] < likelihoods[4] < likelihoods[5]
    prior = PatchPrior.load(place)
    assert prior.side == 8 and len(prior.weights) == 4
    assert (prior.weights.diff() <= 0).all()
