"""The decorator of compiled loops, and the machine code that is kept on disk between processes.

numba's own cache has one index a function, stamped with the file that defines it. Three things make it
unsafe here: code compiled from an older version of *another* file (an inlined helper, an intrinsic) counts as
fresh; two processes that compile at once can file the code of one under the signature of the other, for
other types or even another processor; and a damaged file raises. So machine code is kept in files of our own,
one a function and signature. The name hashes all that the code depends on but the sources; those are in the
file's stamp, beside a checksum. A file that does not fit in any way is as good as none. Files appear by
renaming, and nobody waits for anybody.

They lie in the folder that `NUMBA_CACHE_DIR` names and nowhere else, where that is set; otherwise in
`__pycache__` beside the source or, where that cannot be written, in the user's own cache folder. Both are
read, whether they can be written or not: the one who prepares a container is often not the one who runs it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import re
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

Function = TypeVar("Function", bound=Callable[..., Any])

config: Any = numba.config  # its attributes come from the environment, which no type checker sees

# Typed as Any: numba has types for some of its modules only.
_dumps: Callable[[Any], bytes] = dumps
_normalize: Callable[[Any], Any] = normalize_signature
_rebuild: Callable[..., Any] = CompileResult._rebuild  # noqa: SLF001  as numba's own cache does

_log = logging.getLogger("blurlib")


def loop(function: Function) -> Function:
    """Compile to a serial loop without the GIL; its machine code is kept on disk where that can be done.

    Used as ``from ._compile import loop``, for helpers of loops too.

    What a loop computes may depend on its arguments, the processor and the sources: those of its own module
    and of the modules that this one imports from its package. Not on a closure, nor on a global that is set
    from elsewhere: such machine code would be wrong in the next process.
    """
    compiled: Any = numba.njit(nogil=True)(function)
    if compiled is not function and function.__closure__ is None:  # it is where NUMBA_DISABLE_JIT=1
        compiled._cache = _MachineCode(function)  # noqa: SLF001  as numba's own decorator does
    return cast("Function", compiled)


class _MachineCode(NullCache):
    """What numba asks for compiled code before it compiles, and gives it to afterwards."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._source = Path(function.__code__.co_filename)
        # Read now, as near as can be to the import: the file may change while this process lives.
        self._stamp = _stamp(self._source)
        self._folder: str | None = None

    @property
    def cache_path(self) -> str | None:
        """Where code of this function was last read or written; numba shows it in ``loop.stats``."""
        return self._folder

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        if self._stamp is None:
            return None
        target_context.refresh()  # as numba's own cache does
        try:
            name = self._file_name(sig, target_context.codegen())
            for folder in self._folders():
                payload = _read(folder / name, self._stamp)
                if payload is not None:
                    result = _rebuild(target_context, *pickle.loads(payload))
                    self._folder = str(folder)
                    return result
        # Whatever is wrong with what is kept, a blur must not fail: the loop is compiled anew.
        except Exception as error:
            _log.debug("machine code of %s cannot be used: %r", self._name, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function in the first folder that can be written."""
        if self._stamp is None:
            return
        if data.library.has_dynamic_globals:  # addresses of this process
            _log.debug("machine code of %s cannot be kept: it holds addresses", self._name)
            return
        try:
            payload = _dumps(data._reduce())  # noqa: SLF001  as numba's own cache does
            name = self._file_name(sig, data.codegen)
        except Exception as error:
            _log.debug("machine code of %s cannot be kept: %r", self._name, error)
            return
        stamped = self._stamp + hashlib.sha256(payload).digest() + payload
        written = (str(folder) for folder in self._folders() if _write(folder / name, stamped))
        self._folder = next(written, None)

    def _file_name(self, signature: Any, codegen: Any) -> str:
        """A name that says what the code is of, and hashes all that it depends on but the sources."""
        arguments, result = _normalize(signature)
        key = (
            [str(each) for each in (*arguments, result)],
            codegen.magic_tuple(),  # system, name and features of the processor
            (config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.BOUNDSCHECK),
            (numba.__version__, llvmlite.__version__, np.__version__),
            (sys.implementation.cache_tag, getattr(sys, "abiflags", "")),
        )
        return f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.loop"

    def _folders(self) -> list[Path]:
        # Where one source is found at a time, newer code replaces older; where several may meet, each version
        # has a folder.
        assert self._stamp is not None
        shared = f"blurlib-{self._stamp.hex()[:16]}"
        if config.CACHE_DIR:
            return [Path(config.CACHE_DIR) / shared]
        users = _users_folder()
        return [self._source.parent / "__pycache__", *([users / shared] if users else [])]


# "from .module import", or the names of "from . import names", in parentheses perhaps.
_IMPORTS = re.compile(r"^\s*from \.(?:(\w+) import| import (\([^)]*\)|.*))", re.MULTILINE)


@functools.cache
def _stamp(source: Path) -> bytes | None:
    """A hash of a module's source and of those it imports from its package; None if they cannot be read."""
    waiting, hashes = [source], {}
    while waiting:
        path = waiting.pop()
        try:
            text = path.read_bytes()
        except OSError as error:
            _log.debug("machine code is not kept, the sources cannot be read: %s", error)
            return None
        hashes[path.name] = hashlib.sha256(text).hexdigest()
        words = re.findall(r"\w+", " ".join(" ".join(found) for found in _IMPORTS.findall(text.decode())))
        named = [path.with_name(f"{word}.py") for word in words]
        waiting += [each for each in named if each.name not in hashes and each.is_file()]
    return hashlib.sha256(repr(sorted(hashes.items())).encode()).digest()


def _users_folder() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a home
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "blurlib"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "blurlib"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "blurlib"


def _read(path: Path, stamp: bytes) -> bytes | None:
    """What a file holds, if it is there, whole, and made from these sources."""
    try:
        with path.open("rb") as file:
            if file.read(32) != stamp:
                return None
            checksum, payload = file.read(32), file.read()
    except OSError:
        return None
    return payload if hashlib.sha256(payload).digest() == checksum else None


def _write(path: Path, content: bytes) -> bool:
    """Write aside and rename: readers find the old file or the whole new one. False if impossible."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `tempfile`, whose files can be read by their owner alone.
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        _log.debug("machine code is not kept in %s: %s", path.parent, error)
        return False
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return True


# A process forked while another thread compiles would find numba's lock held for ever. So forking waits for
# the compiler, and the children have what it has made.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
