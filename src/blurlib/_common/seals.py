"""A file of `torch.save` with its own digest: checksums of archives do not cover all of their bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_sealed", "seal"]

_TAG = b"blurlib sha256 "
_LENGTH = len(_TAG) + 64


def seal(path: Path) -> None:
    """Append the SHA-256 of all other bytes, as the comment of the archive, which readers pass over."""
    with path.open("rb+") as stream:
        stream.seek(-2, os.SEEK_END)  # where an archive says how long its comment is
        if stream.read(2) == b"\0\0":
            stream.seek(-2, os.SEEK_END)
            stream.write(_LENGTH.to_bytes(2, "little"))
            digest = _digest(stream, stream.tell())
            stream.write(_TAG + digest)


def is_sealed(path: Path) -> bool | None:
    """Whether a file is as it was sealed; None if it was not sealed."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END) - _LENGTH
        if size < 0:
            return None
        stream.seek(size)
        end = stream.read()
        return end == _TAG + _digest(stream, size) if end.startswith(_TAG) else None


def _digest(stream: BinaryIO, size: int) -> bytes:
    """Of the bytes before that place, where the stream is left."""
    digest = hashlib.sha256()
    stream.seek(0)
    while left := size - stream.tell():
        piece = stream.read(min(left, 2**20))
        digest.update(piece)
    return digest.hexdigest().encode()
