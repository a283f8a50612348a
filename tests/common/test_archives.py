"""Files of tensors: what is damaged, or holds more than values, is refused in one line."""

import os
import random
import tarfile
from pathlib import Path

import pytest
import torch

from blurlib._common.archives import load_tensors

STATE = {
    "model": {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(7, dtype=torch.bfloat16)},
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(9)}}},
    "epoch": 3,
    "settings": {"lr": (1e-3, 1e-4), "name": "run"},
}
FORBIDDEN = (
    "BadZipFile", "zlib", "EOFError", "KeyError", "Unpickling", "allow_pickle", "weights_only", "Errno",
    "Error -3", "report a bug", "\n",
)  # fmt: skip


def loaded(path, **options):
    return load_tensors(path, map_location="cpu", **options)


def refusal(path, **options):
    with pytest.raises(ValueError, match="must be a whole file") as error:
        loaded(path, **options)
    text = str(error.value)
    assert repr(str(path)) in text and not [word for word in FORBIDDEN if word in text], text
    # Nor does a traceback show torch's advice.
    assert path.suffix == ".safetensors" or error.value.__context__ is None
    return text


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("kind", ["zip", "legacy", "stream"])
def test_what_was_saved_comes_back(tmp_path, kind):
    path = tmp_path / "a.pt"
    if kind == "stream":
        with path.open("wb") as stream:
            torch.save(STATE, stream)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    assert equal(loaded(path), STATE) and equal(loaded(str(path)), STATE)


def test_changed_bytes_never_load_as_other_values(tmp_path):
    """Of torch's archives: each byte is under a checksum, or of no consequence."""
    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    whole, draw, refused = path.read_bytes(), random.Random(3), 0
    for _ in range(400):
        bytes_ = bytearray(whole)
        for _ in range(draw.choice((1, 1, 3))):
            bytes_[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        path.write_bytes(bytes_)
        try:
            held = loaded(path)
        except ValueError:
            held = None
        assert held is None or equal(held, STATE)
        if held is None:
            refusal(path)
            refused += 1
    assert refused > 100


def test_cut_and_grown_files_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    whole, draw = path.read_bytes(), random.Random(4)
    for length in [0, 1, 3, 4, 5, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(40))]:
        path.write_bytes(whole[:length])
        text = refusal(path)
        assert text.endswith("; get it again, or save it again")
    path.write_bytes(b"")
    assert "(it is empty)" in refusal(path, name="MODEL", remedy="look elsewhere")


@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", b"PK", b"PK\3\4" + bytes(90), bytes(4000), b"\x80\x02."]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert refusal(path).startswith("`path` must be a whole file of tensors and plain values, got ")


def test_what_a_file_holds_is_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "a.ckpt"
    for zipped in (True, False):
        torch.save(
            {"state_dict": STATE["model"], "other": Runs()}, path, _use_new_zipfile_serialization=zipped
        )
        text = refusal(path)
        assert "it holds a posix.mkdir)" in text or "it holds a nt.mkdir)" in text
        assert text.endswith(
            "save the weights alone where it was made: torch.save(checkpoint['state_dict'], 'weights.pt')"
        )
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "a.ckpt", "storages")
    assert "(it is a tar archive)" in refusal(path)
    assert not (tmp_path / "made").exists()


def test_only_regular_files_are_opened(tmp_path):
    for make in (os.mkdir, *([os.mkfifo] if hasattr(os, "mkfifo") else [])):
        make(path := tmp_path / f"{make.__name__}.pt")
        with pytest.raises(FileNotFoundError, match="no regular file"):
            loaded(path)
    with pytest.raises(FileNotFoundError, match=r"`resume` .*not there"):
        loaded(tmp_path / "no.pt", name="resume")


def test_safetensors_with_other_headers_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "a.safetensors"
    safetensors.save_file(STATE["model"], path)
    whole = path.read_bytes()
    assert equal(loaded(path), STATE["model"])
    for changed in (
        b"",
        whole[:40],
        whole[:-1],
        whole + b"\0",
        whole.replace(b"F32", b"F64"),
        b"\xff" * 8 + whole[8:],
    ):
        path.write_bytes(changed)
        assert "whole file of safetensors" in refusal(path)
    assert Path(path).exists()
