"""Paired bootstrap over images: one resampling of the images serves every network and every condition."""

from __future__ import annotations

import numpy as np

from .._common import rng

_BLOCK = 4_000_000  # numbers held at once, 32 MB
_DIGITS = 12  # after the point: a matrix product's last bits differ between processors
_PURPOSE = 0xB007  # keeps these draws apart from those of other modules


def means(values: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """(R, M) means of resampled images, the same resampling for each of the M columns of `values` (N, M).

    They are rounded to 12 digits after the point: the same on every machine, and equal where columns are.
    """
    count = len(values)
    # How often each image was drawn, times the values: one matrix product a block, the block bounded in
    # memory.
    block = max(1, _BLOCK // count)
    found = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, block):
        times = np.stack(
            [
                np.bincount(_draw(count, seed, number), minlength=count)
                for number in range(start, min(start + block, resamples))
            ]
        )
        found[start : start + len(times)] = times @ values / count
    return found.round(_DIGITS)


def _draw(count: int, seed: int, number: int) -> np.ndarray:
    return (rng.uniform(count, seed=seed, key=(number, _PURPOSE)) * count).astype(np.int64)


def interval(samples: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples: two of them, or NaN where all are.

    Infinite samples count as very large or very small; NaN is left out, for a resampling may draw no class
    boundary at all.

    Example:
        >>> interval(np.arange(100.0), level=0.9)
        (4.0, 94.0)
    """
    # A quantile that is one of the samples: interpolation between two infinite ones would give NaN.
    known = samples[~np.isnan(samples)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def shares(gain: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Recovered fractions gain / loss of resamplings: the gain by fine-tuning, the loss by blur.

    Where a loss is not above 0 the fraction is unbounded on the side of the gain (0 where there is no gain
    either); NaN where either is.

    Example:
        >>> shares(np.array([1.0, 1.0, 0.0]), np.array([2.0, 0.0, 0.0]))
        array([0.5, inf, 0. ])
    """
    unbounded = np.where(gain > 0, np.inf, np.where(gain < 0, -np.inf, 0.0))
    unbounded[np.isnan(gain + loss)] = np.nan
    bounded: np.ndarray = np.divide(gain, loss, out=unbounded, where=loss > 0)
    return bounded
