"""Keys of images that have names, and a data set whose images are blurred."""

import copy
import os
import pickle
from collections import namedtuple

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

from blurlib import BlurMixSampler
from blurlib.data import KeyedSampler
from blurlib.mixes import BlurredDataset, index_of

MIX = BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake", seed=3)

# printf '%s' NAME | sha256sum | cut -c-16, read as a number in base 16, without its last two bits
HASHED = {
    "a": 0xCA978112CA1BBDCA >> 2,
    "n01440764/n01440764_10026": 0xE95ACD1713BDF032 >> 2,
    "photo é": 0x83047D84CE10EFED >> 2,
}


def photos(count=6, *size):
    return torch.randint(0, 256, (count, 3, *(size or (20, 21))), dtype=torch.uint8)


@pytest.mark.parametrize("name", HASHED)
def test_a_name_has_the_index_of_its_hash(name):
    assert index_of(name) == HASHED[name]


def test_names_that_are_no_utf_8_have_an_index():
    undecodable = b"photo-\xe9.jpg".decode("utf-8", "surrogateescape")
    assert index_of(undecodable) != index_of("photo-é.jpg")


def test_names_are_spread_over_the_blurs_of_a_mix():
    mix = BlurMixSampler("sharp + D2 + D4 + D6")
    drawn = [str(mix.draw(index_of(f"photo-{number}"))) for number in range(1000)]
    assert all(210 < drawn.count(blur) < 290 for blur in ("sharp", "D2", "D4", "D6"))


@pytest.mark.parametrize("name", [None, 7, b"a", ("a",), torch.tensor(1)], ids=repr)
def test_what_is_no_name(name):
    with pytest.raises(TypeError, match=r"`name` must be the text .* got .*: "):
        index_of(name)


def test_a_sample_without_a_name():
    with pytest.raises(ValueError, match=r"`name` must not be empty.*name each"):
        index_of("")


Sample = namedtuple("Sample", "image label")

CONTAINERS = {
    "tensor": (lambda image: image, lambda item: item, {}),
    "tuple": (lambda image: (image, 1), lambda item: item[0], {}),
    "list": (lambda image: [image, 1], lambda item: item[0], {}),
    "named": (lambda image: Sample(image, 1), lambda item: item.image, {}),
    "last": (lambda image: (1, image), lambda item: item[-1], {"image": -1}),
    "mapping": (lambda image: {"label": 1, "image": image}, lambda item: item["image"], {}),
    "transformers": (lambda image: {"pixel_values": image}, lambda item: item["pixel_values"], {}),
    "other": (lambda image: {"image": 0, "img": image}, lambda item: item["img"], {"image": "img"}),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_an_item_has_the_blur_that_a_batch_has(kind):
    pack, unpack, settings = CONTAINERS[kind]
    for images in (photos(), photos().double()):
        items = [pack(image) for image in images]
        blurred = BlurredDataset(items, MIX, **settings)
        for epoch in range(2):
            blurred.set_epoch(epoch)
            expected = MIX(images, indices=range(6), epoch=epoch)
            for position in range(6):
                item = blurred[position]
                assert type(item) is type(items[position])
                assert torch.equal(unpack(item), expected[position])
                assert torch.equal(unpack(items[position]), images[position])
        assert len(blurred) == len(list(blurred)) == 6


def test_what_kinds_of_images_come_back():
    image = photos(1)[0]
    items = [v2.functional.to_pil_image(image), tv_tensors.Image(image), tv_tensors.Video(image[None])]
    blurred = BlurredDataset(items, "D2", epoch=0)
    assert [type(item) for item in blurred] == [type(item) for item in items]
    assert torch.equal(v2.functional.pil_to_tensor(blurred[0]), blurred[1])
    assert torch.equal(blurred[2][0], blurred[1])


def test_positions_are_those_of_a_list():
    blurred = BlurredDataset(photos(), MIX, epoch=1)
    assert torch.equal(blurred[-1], blurred[5])
    for position in (6, -7):
        with pytest.raises(IndexError):
            blurred[position]
    for position in ("1", 1.0, None):
        with pytest.raises(TypeError):
            blurred[position]


@pytest.mark.parametrize(
    "start",
    [
        None,
        pytest.param("fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")),
        pytest.param("spawn", marks=pytest.mark.slow),
    ],
)
def test_workers_that_persist_learn_of_the_epoch(start):
    images = photos()
    blurred = copy.deepcopy(pickle.loads(pickle.dumps(BlurredDataset([*enumerate(images)], MIX, image=1))))
    workers = (
        {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": start} if start else {}
    )
    loader = DataLoader(blurred, batch_size=4, shuffle=True, **workers)
    for epoch in (0, 1, 5):
        blurred.set_epoch(epoch)
        for indices, batch in loader:
            assert torch.equal(batch, MIX(images[indices], indices=indices, epoch=epoch))


def test_a_sampler_may_tell_the_epoch():
    images = photos()
    sampler = KeyedSampler(6, batch_size=4)
    sampler.set_epoch(7)
    loader = DataLoader(BlurredDataset([*enumerate(images)], MIX, image=1), batch_sampler=sampler)
    indices, batches = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert sorted(indices.tolist()) == [*range(6)]
    assert torch.equal(batches, MIX(images[indices], indices=indices, epoch=7))


def test_a_subset_keeps_the_keys_of_the_whole():
    blurred = BlurredDataset(photos(), MIX, epoch=2)
    assert torch.equal(Subset(blurred, [4])[0], blurred[4])


def test_an_epoch_that_nobody_told():
    blurred = BlurredDataset(photos(), MIX)
    with pytest.raises(ValueError, match=r"`epoch` must be known .*`set_epoch\(epoch\)`"):
        blurred[0]
    blurred.set_epoch(0)
    assert torch.equal(blurred[0], BlurredDataset(blurred.dataset, MIX, epoch=0)[0])
    for epoch in (-1, 1.5, True, None):
        with pytest.raises((TypeError, ValueError), match="`epoch` must be a whole number"):
            blurred.set_epoch(epoch)


def test_a_stream_is_told_how_to_draw_by_name():
    with pytest.raises(
        TypeError, match=r"`dataset` must have a length and positions, got generator.*index_of"
    ):
        BlurredDataset((image for image in photos()), MIX)


@pytest.mark.parametrize(
    ("item", "image", "error", "text"),
    [
        ({"img": photos(1)[0]}, None, ValueError, "got None for one with keys img"),
        ((photos(1)[0], 1), 2, ValueError, "got 2 for one with 2 parts"),
        ((photos(1)[0], 1), "image", ValueError, "got 'image' for one with 2 parts"),
        ((), None, ValueError, "got None for one with 0 parts"),
        ((1, photos(1)[0]), None, TypeError, "PIL image or a tensor.*got int"),
        (7, None, TypeError, "got None for an item of type int"),
        (photos(1)[0], 0, TypeError, "got 0 for an item of type Tensor"),
        ((torch.zeros(3), 1), None, ValueError, r"got 0, where a tensor of shape \(3,\) is"),
        (
            (np.zeros((20, 21, 3), np.uint8), 1),
            None,
            TypeError,
            r"blurlib\.blur\(image, kernel\) for an array",
        ),
        ((torch.zeros(32, 40, 3), 1), None, ValueError, r"looks like \(\.\.\., H, W, C\).*movedim\(-1, -3\)"),
        (PIL.Image.new("P", (20, 21)), None, ValueError, "PIL mode 'P'.*convert"),
    ],
)
def test_items_that_hold_no_image(item, image, error, text):
    with pytest.raises(error, match=text):
        BlurredDataset([item], "D2", image=image, epoch=0)[0]


def test_a_batch_with_channels_last_is_refused():
    with pytest.raises(
        ValueError, match=r"`images` must have their channels before .* got shape \(4, 32, 40, 3\)"
    ):
        MIX(photos(4, 32, 40).permute(0, 2, 3, 1), indices=range(4))
    for shape in ((2, 3, 5, 3), (2, 5, 4, 4), (1, 1, 32, 3), (2, 3, 40, 4)):
        assert MIX(torch.rand(shape), indices=range(shape[0])).shape == shape


def test_values_from_0_to_255_give_the_blur_of_those_from_0_to_1():
    images = photos().double()
    scaled = MIX(images / 255, indices=range(6))
    assert torch.allclose(MIX(images, indices=range(6)), 255 * scaled, rtol=0, atol=1e-9)
