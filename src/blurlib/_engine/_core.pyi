"""The native core: native/bindings.cpp."""

from collections.abc import Sequence

import numpy as np

def address(array: np.ndarray, /) -> int: ...
def blur(
    source: int,
    target: int,
    type: str,  # noqa: A002  positional only, in C++
    shape: Sequence[int],
    strides: Sequence[int],
    interleaved: bool,
    kernels: int,
    kernel_type: str,
    kernel_shape: Sequence[int],
    border: str,
    threads: int,
    /,
) -> list[int]: ...
def kind_of(kernel: np.ndarray, type: str, /) -> str: ...  # noqa: A002  likewise
def draw_trajectory(
    words: np.ndarray, basis: np.ndarray, grid: int, samples: int, kernel: np.ndarray, /
) -> bool: ...
def instruction_sets() -> list[str]: ...
def instructions() -> str: ...
def use(instructions: str, /) -> None: ...
