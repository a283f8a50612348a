"""Checks of arguments: errors that name the argument, the rule, the value and the unit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

# Ends of ranges from here on, or so close to 0, only keep nonsense out: a message tells the one that is met.
_FAR, _NEAR = 10**6, 1e-6


def check_number(name: str, value: object, *, high: float, low: float = 0.0, unit: str = "pixels") -> float:
    """Return `value` as a float, or raise an error that names the argument, the rule and the value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number ({unit}), got {type(value).__name__}: {value!r}")
    number = float(value)
    if not low <= number <= high:  # False for NaN as well
        rule = "" if math.isnan(number) else _rule(number, low, high)
        raise ValueError(
            f"`{name}` must be a finite number of {unit}{rule}, got {value!r}; choose one that is"
        )
    return number


def check_integer(name: str, value: object, *, low: int, high: int) -> int:
    """Return `value` as an int, or raise an error that names the argument, the rule and the value."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be a whole number, got {type(value).__name__}: {value!r}")
    if not low <= value <= high:
        rule = _rule(int(value), low, high)
        raise ValueError(f"`{name}` must be a whole number{rule}, got {value}; choose one that is")
    return int(value)


def check_whole(name: str, value: Any) -> int:
    """A number of an image or an epoch; a tensor of one is what a loop over `indices` gives."""
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        value = value.item()
    return check_integer(name, value, low=0, high=2**62)


def check_indices(indices: Any) -> list[int]:
    """Return the numbers of several images, from any iterable, array or tensor of whole numbers."""
    values = indices.tolist() if isinstance(indices, (torch.Tensor, np.ndarray)) else indices
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"`indices` must be whole numbers, one for each image, got {indices!r}")
    return [check_whole("indices", value) for value in values]


def one_of(name: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value`, or raise an error that names the argument, the choices and the value."""
    if value not in (known := tuple(choices)):
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}")
    return value


def _rule(value: float, low: float, high: float) -> str:
    """The range in words; where an end is far away, the end that the value is beyond."""
    from_zero = 0 < low <= _NEAR
    least, most = "above 0" if from_zero else f"at least {_end(low)}", f"at most {_end(high)}"
    if low <= -_FAR or high >= _FAR:
        return f", {least if value < low else most}"
    return f", {least} and {most}" if from_zero else f" from {_end(low)} to {_end(high)}"


def _end(value: float) -> str:
    """A bound: powers of two as such, others in digits."""
    for power, text in ((value, ""), (value + 1, " - 1")) if math.isfinite(value) else ():
        whole = abs(int(power))
        if whole >= _FAR and whole & (whole - 1) == 0 and whole == abs(power):
            return f"{'-' * (value < 0)}2**{whole.bit_length() - 1}{text}"
    return f"{value:g}"
