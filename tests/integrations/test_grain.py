"""Grain: its generator decides, so blurs follow from its seeds, whatever the workers, and after a restore."""

import numpy as np
import pytest

import blurlib

grain = pytest.importorskip("grain")

RNG = np.random.default_rng(0)
PHOTOS = [{"image": RNG.integers(0, 256, (20, 21, 3), np.uint8), "label": i} for i in range(6)]
MIX = blurlib.BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake")


class MixedBlur(grain.transforms.RandomMap):
    """As the page has it; it also tells the number that was drawn."""

    def random_map(self, element, rng):
        number = int(rng.integers(2**62))
        image = blurlib.blur(element["image"], MIX.draw(number).kernel(), border=MIX.border)
        return {**element, "image": image, "number": number}


def assert_blurred(elements):
    for element in elements:
        image = PHOTOS[element["label"]]["image"]
        assert np.array_equal(element["image"], blurlib.blur(image, MIX.draw(element["number"]).kernel()))


def numbers(elements):
    return [(element["label"], element["number"]) for element in elements]


def dataset(seed=0):
    return grain.MapDataset.source(PHOTOS).seed(seed).shuffle().random_map(MixedBlur()).repeat(2)


def test_blurs_follow_from_the_seed():
    first = list(dataset())
    assert_blurred(first)
    assert sorted(label for label, _ in numbers(first)) == sorted([*range(6)] * 2)
    assert numbers(first) == numbers(dataset()) == numbers(dataset().to_iter_dataset())
    assert len(set(numbers(first))) == 12  # other blurs in the second epoch
    assert numbers(first) != numbers(dataset(seed=1))


def test_a_restored_iterator_goes_on_with_the_same_blurs():
    elements = iter(dataset().to_iter_dataset())
    for _ in range(5):
        next(elements)
    state, rest = elements.get_state(), numbers(elements)
    again = iter(dataset().to_iter_dataset())
    again.set_state(state)
    assert len(rest) == 7 and numbers(again) == rest


def loaded(workers):
    sampler = grain.samplers.IndexSampler(num_records=6, shuffle=True, seed=0, num_epochs=2)
    loader = grain.DataLoader(
        data_source=PHOTOS, sampler=sampler, operations=[MixedBlur()], worker_count=workers
    )
    return list(loader)


def test_a_loader_in_one_process():
    elements = loaded(0)
    assert_blurred(elements)
    assert numbers(elements) == numbers(loaded(0))


@pytest.mark.slow  # each worker imports torch
def test_workers_change_no_blur():
    assert sorted(numbers(loaded(2))) == sorted(numbers(loaded(0)))
