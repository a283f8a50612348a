"""Files of tensors with their own digest."""

import io
import zipfile

import pytest
import torch

from blurlib._common.archives import load_tensors
from blurlib._common.seals import is_sealed, seal


@pytest.mark.parametrize("size", [1, 2**18 - 300, 2**18, 2**20])
def test_a_sealed_file_reads_as_before_and_shows_every_change(tmp_path, size):
    path = tmp_path / "weights.pt"
    stored = io.BytesIO()
    torch.save({"weight": torch.arange(size)}, stored)
    path.write_bytes(stored.getvalue())
    assert is_sealed(path) is None
    seal(path)
    data = path.read_bytes()
    assert is_sealed(path)
    seal(path)  # one is enough
    assert path.read_bytes() == data
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert torch.equal(load_tensors(path, map_location="cpu")["weight"], torch.arange(size))
    for place in (0, 70, len(data) // 2, len(data) - 82, len(data) - 80, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 8]) + data[place + 1 :])
        assert not is_sealed(path)
        with pytest.raises(ValueError, match=r"damaged|checksum|bytes are not those"):
            load_tensors(path, map_location="cpu")


def test_what_is_no_archive_is_not_sealed(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"other bytes")
    seal(path)
    assert path.read_bytes() == b"other bytes" and is_sealed(path) is None
