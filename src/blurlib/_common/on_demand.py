"""Names of a wing that are imported on first use, because each needs a package that not everybody has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any


def on_demand(package: str, files: Mapping[str, str]) -> None:
    """Give a module `__getattr__` and `__dir__` (PEP 562) for names that stand in files of their own.

    Set here, not written in the module: type checkers take any name of a module that has a `__getattr__`.
    Where a package is missing, `__getattr__` raises ImportError with the command that helps.

    Args:
        package: the module's `__name__`.
        files: from each name to its file, an underscore before the extra that installs what it imports:
            ``{"KorniaBlur": "_kornia"}``.
    """
    module = sys.modules[package]

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
        setattr(module, name, value)  # the next time without this function
        return value

    vars(module).update(__getattr__=getattr_, __dir__=lambda: sorted({*vars(module), *files}))
