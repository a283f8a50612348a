"""Names of a wing that are imported on first use, because each needs a package that not everybody has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, files: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a module (PEP 562) whose names stand in files of their own.

    Args:
        package: the module's `__name__`.
        files: from each name to its file, an underscore before the extra that installs what it imports:
            ``{"KorniaBlur": "_kornia"}``.

    Returns:
        The two functions. The first raises ImportError, with the command that helps, where a package is
        missing.
    """

    def getattr_(name: str) -> Any:
        if name not in files:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(f"{package}.{files[name]}"), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            if missing == package.split(".")[0]:  # a file of ours: a mistake, not a choice
                raise
            raise ImportError(
                f"`{package}.{name}` needs the package {missing!r}, which is not installed; use "
                f'pip install "blurlib[{files[name].removeprefix("_")}]"',
                name=missing,
            ) from error
        setattr(sys.modules[package], name, value)  # the next time without this function
        return value

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *files})

    return getattr_, dir_
