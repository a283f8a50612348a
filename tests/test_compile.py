"""Machine code on disk: found again, never stale, never another's, and never in the way.

Most tests make a small package that has the decorator in it, and run it in processes of its own.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest
from numba.core.registry import cpu_target

from blurlib import _compile

OUTER = """
from ._compile import loop
from ._middle import twice

@loop
def outer(x):
    return twice(x) + 1

@loop
def alone(x):
    return x - 1
"""
MIDDLE = """
from . import (
    _inner,
)
from ._compile import loop

inner = _inner.inner

@loop
def twice(x):
    return 2 * inner(x)
"""
INNER = """
from numba import njit
@njit
def inner(x):
    return x * 10
"""
# Prints the result, then what was found on disk and what had to be compiled.
CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from package import _outer
print(_outer.outer(3))
stats = _outer.outer.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
FIRST, AGAIN, CHANGED = ["61", "0 1"], ["61", "1 0"], ["121", "0 1"]
ALL = ["_middle.twice", "_outer.outer"]


@pytest.fixture
def place(tmp_path):
    """A folder with the package in it, and a home folder."""
    package = tmp_path / "package"
    package.mkdir()
    for name, text in {"__init__": "", "_outer": OUTER, "_middle": MIDDLE, "_inner": INNER}.items():
        (package / f"{name}.py").write_text(text)
    shutil.copy(_compile.__file__, package)
    (tmp_path / "home").mkdir()
    return tmp_path


def surroundings(place, **environment):
    """The variables of a user whose home is in `place`."""
    home = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA"), str(place / "home"))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "XDG_"))}
    return {**inherited, **home, **environment}


def start(place, code=CALL, **environment):
    """Start Python, without byte code on disk: what is found there must come from the decorator."""
    return subprocess.Popen(
        [sys.executable, "-B", "-W", "error", "-c", code, str(place)],
        env=surroundings(place, **environment),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert not errors
    return output.split("\n")[:-1]


def run(place, code=CALL, **environment):
    """The lines that a process prints which has not seen the package before."""
    if not hasattr(os, "fork"):
        return finish(start(place, code, **environment))
    # A fork of this process has numba loaded, which takes longer than all the rest.
    cpu_target.target_context.refresh()
    ours, theirs = multiprocessing.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process that has threads
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=forked, args=(theirs, code, place, surroundings(place, **environment)))
        process.start()
    process.join(100)
    assert process.exitcode == 0
    return ours.recv().split("\n")[:-1]


def forked(pipe, code, place, environment):
    sys.dont_write_bytecode = True
    sys.argv = ["-c", str(place)]
    os.environ.clear()
    os.environ.update(environment)
    numba.config.reload_config()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    pipe.send(output.getvalue())


def kept(folder):
    """Everything in a folder that is not Python's own: file names without what is hashed."""
    files = [
        path for path in Path(folder).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    return sorted(path.name.split("-")[0] for path in files)


def test_code_is_found_again_beside_the_source(place):
    assert run(place) == FIRST
    assert kept(place / "package" / "__pycache__") == kept(place) == ALL
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert run(place) == AGAIN
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*")}, "reading writes nothing"


@pytest.mark.parametrize("module", ["_inner", "_middle"])
def test_changed_source_of_another_module(place, module):
    """Neither the date nor the size of the file changes, and the file with the loop not at all."""
    assert run(place) == FIRST
    path = place / "package" / f"{module}.py"
    date = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("x * 10", "x * 20").replace("2 * inner", "4 * inner"))
    os.utime(path, ns=(date, date))
    assert run(place) == CHANGED
    assert kept(place) == ALL, "the old code is replaced"
    assert run(place) == ["121", "1 0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:16],
        lambda content: content[:50],
        lambda content: content[:-1],
        lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        lambda content: b"\0" * len(content),
    ],
    ids=["empty", "cut in the stamp", "cut in the checksum", "cut at the end", "one bit", "zeros"],
)
def test_damaged_files_are_replaced(place, damage):
    assert run(place) == FIRST
    for path in place.rglob("*.loop"):
        path.write_bytes(damage(path.read_bytes()))
    assert run(place) == FIRST
    assert run(place) == AGAIN


def test_whole_file_that_cannot_be_loaded(place):
    """As another build of the same version of numba might have written it."""
    assert run(place) == FIRST
    for path in place.rglob("*.loop"):
        payload = b"not a pickle"
        path.write_bytes(path.read_bytes()[:32] + _compile.hashlib.sha256(payload).digest() + payload)
    assert run(place) == FIRST
    assert run(place) == AGAIN


def no_folder(path):
    """Make it impossible to write into a folder, for the superuser too."""
    path.write_text("a file, where a folder is wanted")


def test_package_that_cannot_be_written(place):
    no_folder(place / "package" / "__pycache__")
    assert run(place) == FIRST
    assert kept(place / "home") == ALL
    assert run(place) == AGAIN
    path = place / "package" / "_inner.py"
    path.write_text(path.read_text().replace("x * 10", "x * 20"))
    assert run(place) == CHANGED
    assert kept(place / "home") == sorted(2 * ALL), "several versions may have one home: none is removed"


def test_nothing_can_be_written(place):
    no_folder(place / "package" / "__pycache__")
    no_folder(place / "home" / "file")
    nowhere = str(place / "home" / "file")
    environment = {"HOME": nowhere, "USERPROFILE": nowhere, "LOCALAPPDATA": nowhere}
    assert run(place, **environment) == run(place, **environment) == FIRST
    telling = (
        CALL
        + """
import logging
logging.getLogger("blurlib").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("blurlib").setLevel(logging.DEBUG)
_outer.outer(2.5)
"""
    )
    told = run(place, telling, **environment)
    assert any("is not kept in" in line for line in told)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser writes anywhere")
def test_code_in_a_read_only_package_is_found(place):
    assert run(place) == FIRST
    folders = [place / "package" / "__pycache__", place / "package", place / "home"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert run(place) == AGAIN
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_user_without_a_home(place, monkeypatch):
    """A container's user may have neither HOME nor an entry in the list of users."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(_compile.Path, "home", no_home)
    assert _compile._users_folder() is None


def test_folder_named_by_the_user_is_the_only_one(place):
    assert run(place) == FIRST
    assert run(place, NUMBA_CACHE_DIR=str(place / "mine")) == FIRST
    assert kept(place / "mine") == ALL
    assert run(place, NUMBA_CACHE_DIR=str(place / "mine")) == AGAIN
    no_folder(place / "file")
    assert run(place, NUMBA_CACHE_DIR=str(place / "file")) == FIRST


def test_other_processor_other_file(place):
    assert run(place) == FIRST
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert finish(start(place, **generic)) == FIRST
    assert kept(place) == sorted(2 * ALL)
    assert finish(start(place, **generic)) == run(place) == AGAIN


def test_processes_that_start_together(place):
    """Of two kinds, each with a type of its own: numba's cache may give one the other's code."""
    calls = [CALL, CALL.replace("outer(3)", "outer(2.5)")]
    processes = [start(place, calls[i % 2]) for i in range(4)]
    assert [finish(process)[0] for process in processes] == ["61", "51.0", "61", "51.0"]
    assert kept(place) == sorted(2 * ALL), "nothing is left beside"
    assert run(place) == AGAIN
    assert run(place, calls[1]) == ["51.0", "1 0"]


def test_closure_is_not_kept(place):
    code = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from package._compile import loop
    def make(n):
        def times(x):
            return n * x
        return loop(times)
    print(make(2)(5), make(3)(5))
    """.replace("\n    ", "\n")
    assert run(place, code) == ["10 15"]
    assert kept(place) == []


def test_without_the_compiler(place):
    code = CALL.split("stats")[0]
    assert finish(start(place, code, NUMBA_DISABLE_JIT="1")) == FIRST[:1]
    assert kept(place) == []


def test_import_leaves_numba_as_it_is():
    code = """
    import numba, torchvision.transforms.v2
    from numba.core import caching
    def state():
        settings = {k: v for k, v in vars(numba.config).items() if k.isupper()}
        return repr(settings), repr(caching.CacheImpl._locator_classes), vars(caching.FunctionCache)
    before = state()
    import blurlib
    assert state() == before
    """.replace("\n    ", "\n")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork_while_another_thread_compiles(place):
    """The child has that thread's lock, but not the thread."""
    code = """
    import os, signal, sys, threading, time, warnings
    warnings.simplefilter("ignore")  # newer versions of Python warn of exactly this
    sys.path.insert(0, sys.argv[1])
    from numba.core.compiler_lock import global_compiler_lock
    from package import _outer
    locked = threading.Event()
    def compile():
        with global_compiler_lock:
            locked.set()
            time.sleep(0.5)
    threading.Thread(target=compile).start()
    locked.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(_outer.alone(3))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), _outer.alone(4))
    """.replace("\n    ", "\n")
    assert finish(start(place, code)) == ["2 3"]
