"""The engine held against its definition, a sum in float64, and timed beside OpenCV."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._engine import Border
from ..blurs import Blur, Box, Gaussian
from ..functional import blur
from ..notation import parse

#: One for each way of the engine; the last one is left to an FFT.
CHECKED = ("D8", "D2.5a", "H16", "L16@30", "G4", "S17", "L150@30")
TIMED = ("D8", "H17", "L16@30", "G4", "S17")

_PAD: dict[Border, Any] = {
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
    "zeros": "constant",
}
_FIRST: list[Border] = ["reflect"]
# What docs/conventions.md states: bytes are right but for ties, floats within a share of the largest value.
_ALLOWED = {torch.uint8: 0.501, torch.float32: 1e-6 * 255, torch.float64: 1e-12 * 255}
_SIZE = (37, 45)
_PHOTOGRAPH = (384, 512, 3)
_SECONDS = 0.12  # for the calls of one blur by one library


def checks() -> Iterator[dict[str, Any]]:
    """The largest difference of each device and type from the sum, as plain values."""
    levels, kernels, expected = _references()
    # As many kinds of devices as torch has; of several of a kind the first.
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    for device in devices:
        for dtype, allowed in _ALLOWED.items():
            if device == "mps" and dtype == torch.float64:  # which it does not have
                continue
            image = torch.from_numpy(levels).to(dtype).to(device)
            worst, place = 0.0, ""
            try:
                for (name, border), exact in expected.items():
                    kernel = kernels[name].to(dtype if device == "mps" else torch.float64)
                    result = blur(image, kernel.to(device), border=border).cpu().double().numpy()
                    difference = float(np.abs(result - exact).max())
                    if not difference <= worst:  # NaN is the worst
                        worst, place = difference, f"{name}, {border}"
            except Exception as error:  # whatever a broken installation may raise
                worst, place = np.inf, f"{name}, {border}: {type(error).__name__}: {error}"
            yield {
                "device": device,
                "dtype": str(dtype).removeprefix("torch."),
                "ok": worst <= allowed,
                "difference": worst if np.isfinite(worst) else None,
                "allowed": allowed,
                "worst": place,
            }


@functools.cache
def _references() -> tuple[np.ndarray, dict[str, Tensor], dict[tuple[str, Border], np.ndarray]]:
    """Two planes of noise, the kernels, and what each makes of them under each border."""
    levels = np.random.default_rng(0).integers(0, 256, (2, *_SIZE))
    kernels = {name: parse(name).kernel() for name in CHECKED}
    expected = {
        (name, border): _summed(levels, kernel.numpy(), border)
        for name, kernel in kernels.items()
        for border in (list(_PAD) if max(kernel.shape) < 50 else _FIRST)
    }
    return levels, kernels, expected


def _summed(image: np.ndarray, kernel: np.ndarray, border: Border) -> np.ndarray:
    """The convolution as it is written: a sum over the taps of the mirrored kernel."""
    rows, columns = kernel.shape
    height, width = image.shape[-2:]
    around = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2))
    padded = np.pad(image.astype(np.float64), around, mode=_PAD[border])
    total = np.zeros(image.shape)
    for (row, column), weight in np.ndenumerate(kernel[::-1, ::-1]):
        if weight:
            total += weight * padded[:, row : row + height, column : column + width]
    return total


def times() -> Iterator[dict[str, Any]]:
    """Milliseconds of a call for a photograph in bytes, by blurlib and, where it is installed, by OpenCV."""
    photograph = np.random.default_rng(0).integers(0, 256, _PHOTOGRAPH, dtype=np.uint8)
    cv2: Any = None
    with suppress(ImportError):  # not installed, or without the libraries of the system that it needs
        cv2 = importlib.import_module("cv2")
    for name in TIMED:
        value = parse(name)
        kernel = value.kernel()
        calls: list[Callable[[], object]] = [] if cv2 is None else _by_opencv(cv2, photograph, value)
        yield {
            "blur": name,
            "blurlib_ms": _milliseconds(functools.partial(blur, photograph, kernel)),
            "opencv_ms": min(map(_milliseconds, calls)) if calls else None,
        }


def _by_opencv(cv2: Any, image: np.ndarray, value: Blur) -> list[Callable[[], object]]:
    """Its ways to the same output."""
    border = {"borderType": cv2.BORDER_REFLECT_101}
    kernel = value.kernel().numpy()
    taps, size = np.ascontiguousarray(kernel[::-1, ::-1]), kernel.shape[::-1]
    ways: list[Callable[[], object]] = [lambda: cv2.filter2D(image, -1, taps, **border)]
    if isinstance(value, Box):
        ways.append(lambda: cv2.blur(image, size, **border))
    if isinstance(value, Gaussian):
        ways.append(lambda: cv2.GaussianBlur(image, size, value.sigma, **border))
    return ways


def _milliseconds(call: Callable[[], object]) -> float:
    """The fastest of the calls that fit a time, of seven at least; the first one warms up."""
    call()
    best, end = float("inf"), time.perf_counter() + _SECONDS
    for number in range(1000):
        started = time.perf_counter()
        call()
        stopped = time.perf_counter()
        best = min(best, stopped - started)
        if stopped > end and number >= 6:
            break
    return 1000 * best
