"""Files of tensors: checked for damage, then read as plain values, without running what they hold."""

from __future__ import annotations

import hashlib
import importlib
import re
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

__all__ = ["file_sha256", "load_tensors"]

_ARCHIVE = b"PK\3\4"  # how a file begins that torch reads as an archive
_AGAIN = "get it again, or save it again"
# Under these names checkpoints keep the weights.
HOLDERS = ("state_dict", "model_state_dict", "model")


def load_tensors(
    path: str | Path, *, map_location: str | torch.device, name: str = "path", remedy: str = _AGAIN
) -> Any:
    """What a file of `torch.save`, or one of safetensors (by its suffix), holds: tensors and plain values.

    torch does not compare the checksums of its archives, by which changed bytes become other weights; here
    they are, before anything is read. Files in torch's format before 1.6 and of safetensors have none.

    Args:
        path: the file.
        map_location: the device of the tensors.
        name: the argument that messages name.
        remedy: what to do about a damaged file, for messages.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: if there is no such file, or it is none: a folder, a FIFO, a device.
        ValueError: if it is damaged or cut short, of another kind, or holds other objects.
        ImportError: if it needs the package safetensors, which is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`{name}` must be a file of tensors, got {str(path)!r}, which is "
            f"{'no regular file' if path.exists() else 'not there'}"
        )
    if path.suffix == ".safetensors":
        return _safetensors(path, map_location, name, remedy)
    with path.open("rb") as stream:
        reason = _damage(stream)
        if reason is None:
            stream.seek(0)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # on old formats, and what torch says of odd bytes
                    return torch.load(stream, map_location=map_location, weights_only=True)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # unpickling raises whatever the bytes lead to
                # A chain of torch's own errors would advise to load it by running what it holds.
                reason, remedy = _refused(stream, path, str(error), remedy)
    raise ValueError(
        f"`{name}` must be a whole file of tensors and plain values, got {str(path)!r} ({reason}); {remedy}"
    )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _damage(stream: BinaryIO) -> str | None:
    """What is wrong with the bytes, as far as a file tells: its checksums, and its kind."""
    start = stream.read(4)
    if not start:
        return "it is empty"
    if start == _ARCHIVE:
        try:
            with zipfile.ZipFile(stream) as archive:
                wrong = archive.testzip()
        except Exception:  # zlib's errors, struct's, EOFError, NotImplementedError, ...
            return "its archive is damaged or cut short"
        return None if wrong is None else f"the checksum of its part {wrong!r} does not match: bytes changed"
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream, mode="r:"):
            return "it is a tar archive"
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        return None


def _refused(stream: BinaryIO, path: Path, text: str, remedy: str) -> tuple[str, str]:
    """Why torch does not load a file whose archive is whole, and what to do."""
    blocked = re.search(r"GLOBAL ([\w.]+)", text)
    if blocked:
        return f"it holds a {blocked[1]}", f"save the weights alone where it was made: {_extraction(stream)}"
    if "TorchScript" in text:
        taken = f"torch.jit.load({path.name!r}).state_dict()"
        return "it is a TorchScript archive", f"keep the weights alone: torch.save({taken}, 'weights.pt')"
    return "it is damaged, or of another kind", remedy


def _extraction(stream: BinaryIO) -> str:
    """How to take the weights out of a file that holds objects: a checkpoint, or a whole network."""
    stream.seek(0)
    if stream.read(4) == _ARCHIVE:
        with zipfile.ZipFile(stream) as archive:
            pickled = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    else:
        stream.seek(0)
        pickled = stream.read(2**20)
    # As a pickle writes a key: its length in four bytes, then its letters.
    held = (each for each in HOLDERS if b"X" + len(each).to_bytes(4, "little") + each.encode() in pickled)
    holder = None if b"_forward_hooks" in pickled else next(held, None)
    taken = "model.state_dict()" if holder is None else f"checkpoint[{holder!r}]"
    return f"torch.save({taken}, 'weights.pt')"


def _safetensors(path: Path, device: str | torch.device, name: str, remedy: str) -> Any:
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError:
        raise ImportError(f"`{name}` {path} needs the package safetensors; pip install safetensors") from None
    try:
        return safetensors.load_file(path, device=str(device))
    except Exception as error:  # of its own classes
        raise ValueError(
            f"`{name}` must be a whole file of safetensors, got {str(path)!r} ({error}); {remedy}"
        ) from error
