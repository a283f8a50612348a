"""`blurlib doctor`: it is right where all is right, finds what is broken, and names remedies that fit."""

import json
import re
from importlib.metadata import version

import pytest
import torch
from test_cli import run

import oracles
from blurlib._cli import installation, self_check
from blurlib.notation import parse


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(self_check, "_SECONDS", 0.0)
    monkeypatch.setattr(self_check, "_PHOTOGRAPH", (24, 32, 3))


def test_a_healthy_installation(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    result = run("doctor")
    assert result.stdout.startswith(f"blurlib {version('blurlib')}, Python ")
    assert f"torch {version('torch')}" in result.stdout
    assert len(re.findall(r"^cpu (?:uint8|float32|float64) +right ", result.stdout, re.MULTILINE)) == 3
    assert result.stdout.endswith("\nblurlib works here.\n")
    assert result.stderr == ""


def test_its_json_has_all_that_the_text_has():
    found = json.loads(run("doctor", "--json").stdout)
    assert found["ok"] is True
    assert found["packages"]["torch"] == version("torch")
    assert {each["dtype"]: each["ok"] for each in found["checks"] if each["device"] == "cpu"} == {
        "uint8": True, "float32": True, "float64": True,
    }  # fmt: skip
    assert [each["blur"] for each in found["times"]] == list(self_check.TIMED)
    for each in found["times"]:
        assert each["blurlib_ms"] > 0 and (each["opencv_ms"] is None or each["opencv_ms"] > 0)
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("border", oracles.BORDERS)
def test_its_sums_are_the_definition(border):
    image = torch.arange(2 * 9 * 7).reshape(2, 9, 7).numpy() * 37 % 256
    kernel = parse("S17").kernel().numpy()
    expected = oracles.blur(image, kernel, border)
    assert abs(self_check._summed(image, kernel, border) - expected).max() < 1e-9


@pytest.mark.parametrize(
    ("dtype", "damage", "shown"),
    [
        (torch.uint8, lambda right: right + 1, "WRONG +1.5 "),
        (torch.float32, lambda right: right * (1 + 1e-5), "WRONG +0.00"),
        (torch.float64, lambda right: right * torch.nan, "WRONG +- "),
    ],
)
def test_a_wrong_engine_is_found(monkeypatch, dtype, damage, shown):
    blur = self_check.blur

    def damaged(image, kernel, **options):
        right = blur(image, kernel, **options)
        return damage(right) if isinstance(image, torch.Tensor) and image.dtype == dtype else right

    monkeypatch.setattr(self_check, "blur", damaged)
    name = str(dtype).removeprefix("torch.")
    text = run("doctor", code=1).stdout
    assert re.search(rf"cpu {name} +{shown}", text)
    assert f"The engine is WRONG: cpu {name}. " in text
    found = json.loads(run("doctor", "--json", code=1).stdout)
    assert [each["dtype"] for each in found["checks"] if not each["ok"]] == [name]


def test_an_engine_that_fails_is_found(monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(self_check, "blur", failing)
    monkeypatch.setattr(self_check, "times", list)
    assert not any(each["ok"] for each in self_check.checks())
    assert all("RuntimeError: no kernel image" in each["worst"] for each in self_check.checks())


def healthy(**changes):
    known = {"cores": 2, "threads": 2, "gpus": [], "warnings": [], "backends": {"cpu": "native v4"}}
    return known | changes


def advised(**changes):
    return "\n".join(f"{what}. {remedy}" for what, remedy in installation.advice(healthy(**changes)))


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """A machine that lacks nothing, whatever this one is."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(installation, "_SHARED", tmp_path / "absent")
    monkeypatch.setattr(installation.features, "check", lambda _: True)
    monkeypatch.setattr(installation.shutil, "which", lambda _: None)
    assert advised() == ""
    return monkeypatch


def test_a_missing_core_is_told_with_what_it_lacks(clean, tmp_path):
    by_torch = {"backends": {"cpu": "torch"}}
    clean.setattr(installation.sysconfig, "get_path", lambda _: str(tmp_path))
    clean.setattr(installation.sys, "platform", "linux")
    text = advised(**by_torch)
    assert "no C++ compiler was found and Python's headers are missing: install g++ 12, clang" in text
    clean.setattr(installation.shutil, "which", lambda name: name if name in ("apt-get", "g++") else None)
    assert "Python's headers are missing: apt install g++ python3-dev, then pip install" in advised(
        **by_torch
    )
    (tmp_path / "Python.h").touch()
    assert ". install again: pip install --force-reinstall" in advised(**by_torch)
    clean.setenv("CXX", "clang++-99 -O2")
    assert "no C++ compiler was found by CXX=clang++-99: apt install" in advised(**by_torch)


def test_what_else_is_not_right(clean, tmp_path):
    assert "OMP_NUM_THREADS=2" in advised(threads=64)
    clean.setenv("OMP_NUM_THREADS", "1")
    assert "by OMP_NUM_THREADS torch uses 1 of 2 cores" in advised(threads=1)
    clean.setattr(installation.features, "check", lambda name: name != "jpg")
    assert "Pillow cannot open JPEG files" in advised()
    clean.setattr(installation, "_version", lambda _: "1.2.3+cpu")
    assert re.search(r'torch is 1\.2\.3\+cpu, blurlib needs [\d.]+ or newer. pip install "torch>=', advised())
    clean.setattr(installation.shutil, "which", lambda name: name if name == "nvidia-smi" else None)
    assert "there is a driver for an NVIDIA GPU, but torch finds none" in advised()
    clean.setattr(installation, "_SHARED", tmp_path)
    clean.setattr(
        installation.shutil, "disk_usage", lambda _: installation.shutil._ntuple_diskusage(64e6, 0, 64e6)
    )
    assert "holds 64 MB" in advised() and "docker run --shm-size=1g" in advised()
    assert "kernels do not serve" in advised(warnings=["kernels do not serve cuda; install triton"])


def test_a_container_gives_its_share_of_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "_QUOTA", tmp_path / "cpu.max")
    every = installation.cores()
    (tmp_path / "cpu.max").write_text("max 100000\n", encoding="utf-8")
    assert installation.cores() == every
    (tmp_path / "cpu.max").write_text("50000 100000\n", encoding="utf-8")
    assert installation.cores() == 1


@pytest.mark.parametrize(
    ("version", "parts"), [("2.9.0+cpu", (2, 9)), ("11.0", (11,)), ("0", ()), ("2.14.1", (2, 14, 1))]
)
def test_versions_compare_by_their_numbers(version, parts):
    assert installation._parts(version) == parts
