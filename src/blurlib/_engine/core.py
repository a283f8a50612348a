"""The native core, or why it is not there.

`pip install` builds it from `native/` with a C++ compiler, and installs the package without it where that
fails. Then torch's own operations blur on the CPU too.
"""

from __future__ import annotations

import functools
import warnings

from torch.utils.data import get_worker_info

#: Why the core cannot be used; empty where it can.
MISSING = ""
try:
    from ._core import instructions
except ModuleNotFoundError:
    MISSING = "not built"
except ImportError as error:  # one that was built elsewhere
    MISSING = str(error)


@functools.cache
def warn_of_missing_core() -> None:
    """Once, at the first blur on the CPU; of a DataLoader's workers only the first one says it."""
    worker = get_worker_info()
    if worker and worker.id:
        return
    warnings.warn(
        "blurlib's native core is not installed, so torch blurs on the CPU: right, but several times slower. "
        "It is built when blurlib is installed where a C++ compiler (g++ 12 or clang 14, or newer) and "
        "Python's headers (python3-dev) are: `pip install .` in a checkout, else "
        "`pip install --force-reinstall --no-deps --no-cache-dir blurlib`. "
        f"(Why it is missing: {MISSING})",
        stacklevel=2,
    )


def cpu_backend() -> str:
    """What blurs on the CPU: the core, with the name of its instruction set, or torch."""
    return "torch" if MISSING else f"native {instructions()}"
