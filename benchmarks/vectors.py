"""What the explicit vectors of `_vectors.py` earn against the plain loops that say the same.

    python benchmarks/vectors.py          picoseconds for a tap and an element, and the ratio

Both add 32 taps to each of 64 rows of 512 elements; outputs are compared; the runs of the two alternate, and
the minimum of each counts. "Unrolled" adds eight taps at a time by hand, as far as plain numba goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import njit

from blurlib import _twins, _vectors

Array = np.ndarray
ROWS, LENGTH, STRIDE, TAPS, RUNS = 64, 512, 528, 32, 200


@njit(nogil=True)
def vectors_of_bytes(totals: Array, flat: Array, taps: Array, _weights: Array) -> None:
    for y in range(ROWS):
        _vectors.add(totals[y], flat, y * STRIDE, taps, 0, taps.size)


@njit(nogil=True)
def plain_of_bytes(totals: Array, flat: Array, taps: Array, _weights: Array) -> None:
    for y in range(ROWS):
        _twins.plain_add(totals[y], flat, y * STRIDE, taps, 0, taps.size)


@njit(nogil=True)
def unrolled_of_bytes(totals: Array, flat: Array, taps: Array, _weights: Array) -> None:
    for y in range(ROWS):
        total = totals[y]
        total[:] = 0
        for k in range(0, taps.size, 8):
            at = y * STRIDE
            a, b = (
                flat[at + taps[k] : at + taps[k] + LENGTH],
                flat[at + taps[k + 1] : at + taps[k + 1] + LENGTH],
            )
            c, d = (
                flat[at + taps[k + 2] : at + taps[k + 2] + LENGTH],
                flat[at + taps[k + 3] : at + taps[k + 3] + LENGTH],
            )
            e, f = (
                flat[at + taps[k + 4] : at + taps[k + 4] + LENGTH],
                flat[at + taps[k + 5] : at + taps[k + 5] + LENGTH],
            )
            g, h = (
                flat[at + taps[k + 6] : at + taps[k + 6] + LENGTH],
                flat[at + taps[k + 7] : at + taps[k + 7] + LENGTH],
            )
            for x in range(LENGTH):
                s = np.uint16(np.uint16(a[x]) + np.uint16(b[x]))
                s = np.uint16(s + np.uint16(c[x]))
                s = np.uint16(s + np.uint16(d[x]))
                s = np.uint16(s + np.uint16(e[x]))
                s = np.uint16(s + np.uint16(f[x]))
                s = np.uint16(s + np.uint16(g[x]))
                s = np.uint16(s + np.uint16(h[x]))
                total[x] = np.uint16(total[x] + s)


@njit(nogil=True)
def vectors_of_floats(totals: Array, flat: Array, taps: Array, weights: Array) -> None:
    for y in range(0, ROWS, 2):
        below = weights[::-1].copy()
        _vectors.weigh_two(totals[y], totals[y + 1], flat, y * STRIDE, taps, weights, below, 0, taps.size)


@njit(nogil=True)
def plain_of_floats(totals: Array, flat: Array, taps: Array, weights: Array) -> None:
    for y in range(0, ROWS, 2):
        below = weights[::-1].copy()
        _twins.plain_weigh_two(totals[y], totals[y + 1], flat, y * STRIDE, taps, weights, below, 0, taps.size)


def compare(name: str, functions: dict[str, Callable[..., None]], total: type, source: type) -> None:
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 256, (ROWS + 20) * STRIDE).astype(source)
    taps = rng.integers(0, 17, TAPS) * STRIDE + rng.integers(0, 17, TAPS)
    weights = rng.dirichlet(np.ones(TAPS)).astype(np.float32)
    totals = {key: np.zeros((ROWS, LENGTH), total) for key in functions}
    times: dict[str, list[float]] = {key: [] for key in functions}
    for _ in range(RUNS):
        for key, function in functions.items():
            start = time.thread_time()
            function(totals[key], flat, taps, weights)
            times[key].append(time.thread_time() - start)
    first, *others = totals.values()
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-5)
    least = {key: min(values) * 1e12 / (ROWS * LENGTH * TAPS) for key, values in times.items()}
    fastest = least["vectors"]
    print(f"{name}: " + ", ".join(f"{key} {ps:.1f} ps ({ps / fastest:.2f}x)" for key, ps in least.items()))


if __name__ == "__main__":
    compare(
        "bytes",
        {"vectors": vectors_of_bytes, "plain": plain_of_bytes, "unrolled": unrolled_of_bytes},
        np.uint16,
        np.uint8,
    )
    compare(
        "floats, two rows",
        {"vectors": vectors_of_floats, "plain": plain_of_floats},
        np.float32,
        np.float32,
    )
