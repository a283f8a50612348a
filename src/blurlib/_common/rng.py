"""Randomness keyed by what it is for, not by when it is asked for.

Every random number of the library that must be repeatable is a pure function of a seed and a key such as
(epoch, index of the image, purpose). It comes from raw bits of the counter-based generator Philox (Salmon et
al., 2011) by a mapping written here, so that neither the number of workers, nor the order of the images, nor
a stop and a resume, nor a new version of NumPy or torch changes it.
"""

from __future__ import annotations

import operator

import numpy as np
import torch

__all__ = ["generator", "permutation", "uniform", "words"]

_MASK = (1 << 64) - 1


def check_seed(seed: int) -> int:
    """Return the seed, or raise an error that names the rule and the value."""
    rule = "`seed` must be a whole number"
    if isinstance(seed, bool):  # in a key a yes or no may be a part
        raise TypeError(f"{rule}, got bool: {seed!r}")
    number = _whole(rule, seed)
    if not -(2**63) <= number <= _MASK:
        raise ValueError(
            f"`seed` must be a 64-bit integer, from -2**63 to 2**64 - 1, got {seed}; choose one that is"
        )
    return number


def _whole(rule: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]  # asked by trying
    except TypeError:
        raise TypeError(f"{rule}, got {type(value).__name__}: {value!r}") from None


def words(count: int, *, seed: int, key: tuple[int, ...] = ()) -> np.ndarray:
    """Raw 64-bit random words that depend on the seed and the key alone.

    Args:
        count: how many words; the first words do not depend on it.
        seed: any integer of at most 64 bits (negative ones count modulo 2**64).
        key: up to three non-negative integers, for example (epoch, index, purpose). A shorter key is another
            key than the same one with zeros behind it.

    Returns:
        A uint64 array of shape (count,).

    Raises:
        TypeError: if the seed or a part of the key is not a whole number.
        ValueError: if the seed has more than 64 bits, or the key more than three parts or one out of range.

    Example:
        >>> bool((words(5, seed=1, key=(0, 7))[:2] == words(2, seed=1, key=(0, 7))).all())
        True
    """
    parts = [_whole("`key` must hold whole numbers, such as epoch and index", part) for part in key]
    if len(parts) > 3 or any(not 0 <= part <= _MASK for part in parts):
        raise ValueError(f"`key` must be at most three integers from 0 to 2**64 - 1, got {key}")
    # The first counter word counts blocks of four words; the key fills the other three.
    counter = np.array([0, *parts, 0, 0, 0][:4], dtype=np.uint64)
    bits = np.random.Philox(
        counter=counter, key=np.array([check_seed(seed) & _MASK, len(parts)], dtype=np.uint64)
    )
    return np.asarray(bits.random_raw(count), dtype=np.uint64)


def uniform(count: int, *, seed: int, key: tuple[int, ...] = ()) -> np.ndarray:
    """Uniform float64 numbers in [0, 1), 53 bits each, from :func:`words`."""
    return np.asarray((words(count, seed=seed, key=key) >> np.uint64(11)) * 2.0**-53)


def permutation(count: int, *, seed: int, key: tuple[int, ...] = ()) -> np.ndarray:
    """A shuffle of 0 .. count - 1 as int64: the order of `count` random words.

    Example:
        >>> sorted(permutation(4, seed=0, key=(2,)).tolist())
        [0, 1, 2, 3]
    """
    return np.argsort(words(count, seed=seed, key=key), kind="stable").astype(np.int64)


def generator(*, seed: int, key: tuple[int, ...] = ()) -> torch.Generator:
    """A CPU generator of torch for one seed and key, seeded from the first word."""
    return torch.Generator().manual_seed(int(words(1, seed=seed, key=key)[0] >> np.uint64(1)))
