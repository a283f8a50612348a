"""What a task must answer; here the settings of a run that it reads."""

from __future__ import annotations

import typing

from ..protocol import Protocol


class Settings(typing.Protocol):
    """The settings of a training run, as far as a task reads them."""

    @property
    def protocol(self) -> Protocol: ...

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...

    @property
    def hflip(self) -> float: ...

    @property
    def rates(self) -> tuple[float, ...]: ...

    @property
    def batch_norm(self) -> str: ...

    @property
    def amp(self) -> bool: ...

    @property
    def seed(self) -> int: ...
