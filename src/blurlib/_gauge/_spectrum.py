"""Local power spectra of a picture in polar coordinates, which the network reads.

A uniform blur multiplies every local spectrum by the same transfer function, whatever the picture shows:
rings of zeros under a disk, parallel ones under a line. Spectra of windows with texture and of flat ones are
averaged by the root of their energy, at full, half and quarter size.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

WINDOW = 64
RADII = 30
ANGLES = 16
LEVELS = 3
CHANNELS = LEVELS * RADII
EXTRAS = 4

_STRIDES = (32, 32, 16)
_MOST = 24  # windows along a side
_FIRST = 2  # radius in bins; below it the window's own spectrum covers all
_FLOOR = 1e-7


def spectra(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network reads of a picture.

    Args:
        grey: uint8, (H, W), both at least 64.

    Returns:
        Log spectra, float32 (CHANNELS, ANGLES): radii of each level, angles over half a turn. And float32
        (EXTRAS,): the logarithms of the shorter side and of the mean, median and largest window energy.
    """
    level = grey.astype(np.float32)
    found, extras = [], np.empty(0, np.float32)
    for number, stride in enumerate(_STRIDES):
        if number:
            level = _halved(level)
        power, energy = _windows(level, stride)
        weight = np.sqrt(energy)
        mean = (1 / weight) @ power.reshape(len(power), -1) / weight.sum()
        found.append(np.log(_polar() @ mean + _FLOOR))
        if not number:
            parts = [min(grey.shape), weight.mean() ** 2, np.median(energy), energy.max()]
            extras = np.log(np.array(parts, np.float32))
    return np.concatenate(found).reshape(CHANNELS, ANGLES), extras


def _windows(level: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Power (K, 64, 33) and energy (K,) of windows over the whole picture; smaller ones are padded."""
    height, width = (min(n, WINDOW) for n in level.shape)
    rows, columns = (_starts(n, stride) for n in level.shape)
    view = np.lib.stride_tricks.sliding_window_view(level, (height, width))
    windows = view[np.ix_(rows, columns)].reshape(-1, height, width)
    windows = windows - windows.mean((1, 2), keepdims=True)
    windows *= np.outer(_hann(height), _hann(width))
    # NumPy's takes 20 times as long.
    transform = torch.fft.rfft2(torch.from_numpy(windows), s=(WINDOW, WINDOW)).numpy()
    power = (transform.real**2 + transform.imag**2) * _band()
    return power, power.sum((1, 2)) + 1e-3


def _starts(length: int, stride: int) -> np.ndarray:
    room = max(length - WINDOW, 0)
    return np.linspace(0, room, min(math.ceil(room / stride) + 1, _MOST)).astype(int)


def _halved(level: np.ndarray) -> np.ndarray:
    even = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2]
    return np.asarray(even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _hann(length: int) -> np.ndarray:
    return np.hanning(length + 1)[:length].astype(np.float32)


@functools.cache
def _band() -> np.ndarray:
    """Zero at the lowest frequencies, which are brightness; scaled so that energy is in levels squared."""
    rows = np.fft.fftfreq(WINDOW, 1 / WINDOW)[:, None]
    radius = np.hypot(rows, np.arange(WINDOW // 2 + 1))
    return np.asarray((radius >= _FIRST - 0.5) / WINDOW**2, np.float32)


@functools.cache
def _polar() -> np.ndarray:
    """(RADII x ANGLES, 64 x 33): bilinear interpolation of a half spectrum, averaged over arcs."""
    columns = WINDOW // 2 + 1
    arcs = np.pi * (np.arange(ANGLES)[:, None] + np.linspace(-0.4, 0.4, 5)) / ANGLES
    radii = _FIRST + np.arange(RADII)[:, None, None]
    y, x = radii * np.sin(arcs), radii * np.cos(arcs)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    matrix = np.zeros((RADII * ANGLES, WINDOW * columns), np.float32)
    target = np.broadcast_to(np.arange(RADII * ANGLES).reshape(RADII, ANGLES, 1), y.shape)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = y0 + dy, x0 + dx
            share = np.abs(1 - dy - (y - y0)) * np.abs(1 - dx - (x - x0)) / arcs.shape[1]
            mirrored = (column < 0) | (column > WINDOW // 2)  # the other half is the same, turned by 180°
            row, column = np.where(mirrored, -row, row) % WINDOW, np.where(mirrored, -column, column) % WINDOW
            np.add.at(matrix, (target, row * columns + column), share)
    return matrix
