"""Every version of a kernel that blur() asks for on a CUDA device compiles, for GPUs that are not there."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed: nothing compiles its kernels")

import gpu_model

VERSIONS = gpu_model.versions()


def test_versions_are_few():
    """Borders, strides, sizes and alignments are numbers at run time."""
    assert len({version.name for version in VERSIONS}) == len(VERSIONS) == 20


@pytest.mark.parametrize(
    ("version", "capability"),
    [
        pytest.param(
            version,
            capability,
            id=f"{version.name}, sm_{capability}",
            marks=() if capability == 90 else pytest.mark.slow,
        )
        for version in VERSIONS
        for capability in (80, 90, 100)
    ],
)
def test_it_compiles_without_spills(version, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # or a version of yesterday's would be found
    cubin = version.compiled(capability).asm["cubin"]
    used = gpu_model.resources(cubin)
    assert used["spilled"] == 0
    assert used["registers"] <= 168
