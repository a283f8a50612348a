"""Output folders: one run at a time writes to one, and whether it can is tried before the work."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import remove_stale, replacing

if sys.platform == "win32":
    import msvcrt
else:
    import errno
    import fcntl

    # What file systems say that have no locks: some mounts of NFS and Lustre, FUSE.
    _WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}

__all__ = ["check_writable", "locked"]

_LOCK = ".lock"
_handles: set[int] = set()  # of the locks that this process holds


@contextmanager
def locked(folder: Path, *, name: str = "output") -> Iterator[None]:
    """Within the block no other run writes to the folder, which is made; one that tries is an error.

    The lock is the system's, on a file in the folder that says who holds it: it ends with the process,
    however that ends. On network file systems it holds between machines where they have such locks (NFS 4,
    Lustre mounted with `flock`); where they have none there is a warning, and the folder is not locked. Files
    that stopped processes left aside are removed.

    Args:
        folder: where a run writes.
        name: the argument that messages name.

    Raises:
        ValueError: if it is a file, if another run is writing there, or if it cannot be written to.
    """
    check_writable(folder, name=name)
    path = folder / _LOCK
    handle = _opened(path, folder, name)
    _handles.add(handle)
    try:
        since = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        text = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(text).encode())
        remove_stale(folder, now=os.fstat(handle).st_mtime)
        yield
    finally:
        if handle in _handles:  # not in a process that was forked
            with suppress(OSError):  # Windows removes no open files
                path.unlink()
            _handles.discard(handle)
            os.close(handle)


def check_writable(folder: Path, *, needed: int = 0, name: str = "output") -> None:
    """Make a folder and write a file to it, so that what cannot be kept is known before the work.

    Args:
        folder: the folder.
        needed: bytes that must be free there.
        name: the argument that messages name.

    Raises:
        ValueError: if it is a file, cannot be made or written to, or has too little room.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{name}` must be a folder, got the file {str(folder)!r}; name another")
    try:
        with replacing(folder / ".write-test") as aside:
            aside.write_bytes(b"\0" * 4096)
        (folder / ".write-test").unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder that can be written to, got {str(folder)!r} "
            f"({error.strerror or error}); make room there or change its permissions, or name another"
        ) from error
    if free < needed:
        raise ValueError(
            f"`{name}` must have room for {needed / 1e6:.0f} MB, got {str(folder)!r} with "
            f"{free / 1e6:.0f} MB free; make room there, or name a folder on another disk"
        )


def _opened(path: Path, folder: Path, name: str) -> int:
    """A handle of the lock's file that holds the lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not _taken(handle, folder):
                raise ValueError(
                    f"`{name}` must be a folder that no other run is writing to, got {str(folder)!r}, "
                    f"in which {_holder(handle)}; wait for that run or end it, or name another folder"
                )
            os.lseek(handle, 0, os.SEEK_SET)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the run that held it has ended and removed the file: once more


def _taken(handle: int, folder: Path) -> bool:
    """Whether the lock was free, and so is now ours."""
    try:
        if sys.platform == "win32":
            os.lseek(handle, 1 << 20, os.SEEK_SET)  # not where the text is, which others want to read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(handle, 0, os.SEEK_SET)
        return False
    except OSError as error:
        if sys.platform == "win32" or error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"the file system of {str(folder)!r} has no locks ({error.strerror}): see to it that no other "
            "run writes there",
            stacklevel=2,
        )
    return True


def _holder(handle: int) -> str:
    try:
        found = json.loads(os.read(handle, 1000))
        return f"process {found['process']} on {found['host']} has worked since {found['since']}"
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return "another process works"


def _leave_to_parent() -> None:
    """In a forked process, such as a loader's: else the lock would last as long as that does."""
    for handle in _handles:
        os.close(handle)
    _handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
