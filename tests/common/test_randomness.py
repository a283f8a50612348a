"""Keyed randomness: the same words as the published generator, whatever the order or number of requests."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from blurlib._common import rng

SEEDS = st.integers(-(2**63), 2**64 - 1)
KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple)
usual = settings(deadline=None, max_examples=50)


@usual
@given(seed=SEEDS, key=KEYS, count=st.integers(0, 9))
def test_words_are_the_published_philox(seed, key, count):
    counter = (*key, 0, 0, 0)[:3]
    blocks = [oracles.philox((block, *counter), (seed % 2**64, len(key))) for block in range(1, 4)]
    expected = np.array(blocks, dtype=np.uint64).ravel()[:count]
    found = rng.words(count, seed=seed, key=key)
    assert found.dtype == np.uint64 and found.shape == (count,)
    np.testing.assert_array_equal(found, expected)


def test_philox_oracle_is_the_published_one():
    """The known answer for a counter and a key of all ones, from the generator's reference implementation."""
    ones = 2**64 - 1
    assert oracles.philox((ones,) * 4, (ones,) * 2) == (
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    )


def test_words_are_pinned():
    """A new NumPy must not change them: banks, blurs and crops hang on these numbers."""
    assert rng.words(3, seed=0).tolist() == [
        0x02F4BA6408E4D89B,
        0x3DD62B0B9CA8C5B2,
        0x1C8667A55D902E79,
    ]


@usual
@given(seed=SEEDS, key=KEYS)
def test_keys_seeds_and_lengths_of_keys_are_different_streams(seed, key):
    first = rng.words(2, seed=seed, key=key).tolist()
    others = [(seed + 1, key), (seed, (*key, 0)), (seed, (0, *key)), (seed, (1, *key)), (seed, key[:-1])]
    for other_seed, other_key in others:
        if len(other_key) <= 3 and other_key != key:
            assert first != rng.words(2, seed=other_seed, key=other_key).tolist()


def test_neighbouring_keys_do_not_share_words():
    """Blocks of one key must not run into those of the next."""
    streams = [
        rng.words(64, seed=seed, key=key)
        for seed in (0, 1)
        for key in [
            (),
            *((a,) for a in range(3)),
            *((a, b, c) for a in range(3) for b in range(3) for c in (0, 1)),
        ]
    ]
    everything = np.concatenate(streams)
    assert len(np.unique(everything)) == len(everything)


def test_uniform_is_uniform_and_in_range():
    draws = np.concatenate([rng.uniform(1, seed=1, key=(epoch, i)) for epoch in (0, 1) for i in range(2000)])
    assert draws.dtype == np.float64 and draws.min() >= 0 and draws.max() < 1
    assert scipy.stats.kstest(draws, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(draws[:2000], draws[2000:])[0, 1]) < 0.1
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.1


@usual
@given(count=st.integers(0, 200), seed=SEEDS, epoch=st.integers(0, 5))
def test_permutation_is_a_permutation(count, seed, epoch):
    order = rng.permutation(count, seed=seed, key=(epoch,))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, rng.permutation(count, seed=seed, key=(epoch,)))


def test_permutations_of_epochs_differ_and_are_fair():
    orders = np.stack([rng.permutation(5, seed=0, key=(epoch,)) for epoch in range(4000)])
    table = np.stack([np.bincount(orders[:, place], minlength=5) for place in range(5)])
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-4


def test_generator_is_a_fresh_torch_generator():
    state = torch.get_rng_state()
    first = torch.rand(3, generator=rng.generator(seed=4, key=(1, 2)))
    assert torch.equal(first, torch.rand(3, generator=rng.generator(seed=4, key=(1, 2))))
    assert not torch.equal(first, torch.rand(3, generator=rng.generator(seed=4, key=(1, 3))))
    assert torch.equal(state, torch.get_rng_state())  # the global generator is not touched


@pytest.mark.parametrize("key", [(-1,), (0, 0, 0, 0), (1, -2)])
def test_bad_keys(key):
    with pytest.raises(ValueError, match="`key`"):
        rng.words(1, seed=0, key=key)


@pytest.mark.parametrize("seed", [1.5, "0", None, True])
def test_seeds_of_another_kind(seed):
    with pytest.raises(TypeError, match="`seed`"):
        rng.words(1, seed=seed)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_of_more_than_64_bits(seed):
    with pytest.raises(ValueError, match="`seed`"):
        rng.words(1, seed=seed)


@pytest.mark.parametrize("part", [0.9, 1.0, "1", None, np.float64(1), torch.tensor(1.5)], ids=repr)
def test_parts_of_a_key_are_whole_numbers(part):
    with pytest.raises(TypeError, match="`key` must hold whole numbers"):
        rng.words(1, seed=0, key=(0, part))
    expected = rng.words(1, seed=0, key=(0, 1))
    for whole in (np.int64(1), torch.tensor(1), True):
        assert rng.words(1, seed=0, key=(0, whole)) == expected
