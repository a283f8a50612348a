"""Files that are whole or not there, and folders that one run at a time writes to."""

import errno
import fcntl
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from blurlib._common.files import remove_stale, replacing, written
from blurlib._common.folders import check_writable, locked


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "table.csv"
    written("old", target)
    with suppress(ZeroDivisionError), replacing(target) as aside:
        aside.write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert target.read_text(encoding="utf-8") == "old"
    written("new", target)
    assert target.read_text(encoding="utf-8") == "new"
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_a_written_file_has_the_permissions_of_a_new_one(tmp_path):
    before = os.umask(0o027)
    try:
        written("text", tmp_path / "a.txt")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_nobody_foresees_the_name_of_what_is_written_aside(tmp_path):
    """It was the process's number, and a link of that name was followed."""
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "report.npz") as aside:
            names.add(aside.name)
            assert aside.suffix == ".npz" and aside.read_bytes() == b""
            with pytest.raises(FileExistsError):
                os.open(aside, os.O_CREAT | os.O_EXCL)
    assert len(names) == 3
    assert all(re.fullmatch(r"\.report\.[0-9a-f]{16}\.aside\.npz", name) for name in names)


def test_files_reach_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: done.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
    )
    written("text", tmp_path / "a.txt")
    assert len(done) == 2 and ".aside" in done[0] and done[1] == str(tmp_path.resolve())
    with replacing(tmp_path / "b.txt", durable=False):
        pass
    assert len(done) == 2


def test_what_stopped_processes_left_is_removed(tmp_path):
    keep = [".checkpoint.0123456789abcdef.aside.pt", "checkpoint.pt", ".lock", ".x.aside.pt"]
    for name in (*keep, ".checkpoint.0123456789abcdee.aside.pt", ".report.ffffffffffffffff.aside.json"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - (3 if name == keep[0] else 300)))
    remove_stale(tmp_path, now=time.time())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    rule = rf"`output` must be a folder that no other run is writing to, got '{tmp_path}', in which process"
    with locked(tmp_path):
        told = rf"{rule} {os.getpid()} on .+ has worked since 20\d\d-.* UTC; wait for that run or end it"
        with pytest.raises(ValueError, match=told), locked(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_does_not_outlive_a_crash_nor_last_in_workers(tmp_path):
    """A worker that lives on has the same open files as the run that was killed."""
    reading, writing = os.pipe()
    run = os.fork()
    if run == 0:
        with locked(tmp_path):
            worker = os.fork()
            if worker:
                os.write(writing, str(worker).encode())
            signal.pause()
    worker = int(os.read(reading, 20))
    try:
        with pytest.raises(ValueError, match=rf"process {run} on"), locked(tmp_path):
            pass
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        os.kill(worker, 0)
        with locked(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"has no locks \(No locks available\)"), locked(tmp_path):
        pass


def test_a_link_in_the_lock_s_place_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("kept", encoding="utf-8")
    with pytest.raises(OSError, match=r"\.lock"), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "kept"


def test_a_folder_that_cannot_be_written_to_is_known_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`output` must be a folder, got the file"):
        check_writable(tmp_path / "file")
    with pytest.raises(ValueError, match=r"`output` must be a folder that can be written to.*\(Not a dir"):
        check_writable(tmp_path / "file" / "inside")
    with pytest.raises(ValueError, match=r"room for 1000000000000 MB, got .* with \d+ MB free; make room"):
        check_writable(tmp_path / "new", needed=10**18)
    monkeypatch.setattr(os, "open", _read_only)
    with pytest.raises(ValueError, match=r"can be written to, got .* \(Read-only file system\); make room"):
        check_writable(tmp_path / "new")
    monkeypatch.undo()
    assert list((tmp_path / "new").iterdir()) == []


def _read_only(*_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
