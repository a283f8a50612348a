"""Transforms and mixes: one checker for the manners of torchvision v2, and draws that depend on their key."""

from __future__ import annotations

import copy
import functools
import io
import math
import pickle
import re

import numpy as np
import PIL.Image
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

import blurlib
import oracles
from blurlib import (
    BlurMixSampler,
    CameraShakeBlur,
    DiskBlur,
    GaussianBlur,
    MotionBlur,
    blurs,
    functional,
    kernels,
    notation,
    transforms,
)
from blurlib.blurs import Disk, Gaussian, Line, Shake, Sharp
from images import exhaustive, needs_core

TRANSFORMS = {
    "disk": lambda: DiskBlur((1, 5)),
    "fixed disk": lambda: DiskBlur(3, border="symmetric"),
    "binary disk": lambda: DiskBlur((1.0, 4.0), antialias=False, border="zeros"),
    "motion": lambda: MotionBlur(),
    "motion at an angle": lambda: MotionBlur((2, 6), angle=30, border="circular"),
    "shake": lambda: CameraShakeBlur(),
    "shake of the test bank": lambda: CameraShakeBlur(bank="test", border="replicate"),
    "gaussian": lambda: GaussianBlur((0.5, 3)),
    "fixed gaussian": lambda: GaussianBlur(1.5),
}
each_transform = pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def photo(*shape: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    tensor = torch.from_numpy(values)
    return tensor if dtype == torch.uint8 else (tensor.double() / 255).to(dtype)


def picture(mode: str = "RGB", size: tuple[int, int] = (17, 11)) -> PIL.Image.Image:
    bands = len(PIL.Image.new(mode, (1, 1)).getbands())
    array = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    if mode == "F":
        return PIL.Image.fromarray(array[..., 0].astype(np.float32))
    image = PIL.Image.new(mode, size)
    image.putdata([tuple(p) if bands > 1 else int(p[0]) for p in array.reshape(-1, bands).tolist()])
    return image


def seeded(function, *inputs, seed=5):
    torch.manual_seed(seed)
    return function(*inputs)


# The checker


def check_draw(transform: v2.Transform) -> None:
    """Repeatable under torch's global seed, or from a generator that leaves the global one alone."""
    first, second = seeded(transform.draw), seeded(transform.draw)
    assert isinstance(first, blurs.Blur)
    assert first == second
    state = torch.get_rng_state()
    mine = [transform.draw(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert mine[0] == mine[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert seeded(transform.draw) == transform.draw(torch.Generator().manual_seed(5))


def check_values(transform: v2.Transform) -> None:
    """A call blurs by the blur that a draw under the same seed gives; type, dtype, shape are kept."""
    kernel = seeded(transform.draw).kernel()
    for dtype in DTYPES:
        for shape in ((3, 11, 17), (1, 17, 11), (4, 9, 9), (2, 3, 11, 17), (2, 4, 3, 11, 17), (0, 3, 11, 17)):
            image = photo(*shape, dtype=dtype)
            before = image.clone()
            expected = blurlib.blur(image, kernel, border=transform.border)
            for value in (
                (image, tv_tensors.Image(image), tv_tensors.Video(image)) if len(shape) > 3 else (image,)
            ):
                found = seeded(transform, value)
                assert type(found) is type(value)
                assert found.dtype == dtype
                assert torch.equal(found.as_subclass(torch.Tensor), expected)
            assert torch.equal(image, before)


def check_pil(transform: v2.Transform) -> None:
    """As a tensor of the same pixels."""
    kernel = seeded(transform.draw).kernel()
    for mode in ("L", "RGB", "RGBX", "RGBa", "CMYK", "YCbCr"):
        image = picture(mode)
        before = image.tobytes()
        found = seeded(transform, image)
        assert isinstance(found, PIL.Image.Image)
        assert (found.mode, found.size) == (mode, image.size)
        assert image.tobytes() == before
        array = np.atleast_3d(np.array(image)).transpose(2, 0, 1)
        expected = blurlib.blur(torch.from_numpy(array), kernel, border=transform.border).numpy()
        np.testing.assert_array_equal(np.atleast_3d(np.array(found)).transpose(2, 0, 1), expected)


def check_sample(transform: v2.Transform) -> None:
    """In a nested sample only images change, all by one draw; the rest is handed on as the same objects."""
    image = photo(3, 11, 17)
    sample = {
        "image": tv_tensors.Image(image),
        "again": (tv_tensors.Image(image), [picture()]),
        "mask": tv_tensors.Mask(torch.ones(11, 17, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes([[1, 2, 3, 4]], format="XYXY", canvas_size=(11, 17)),
        "keypoints": tv_tensors.KeyPoints([[1, 2]], canvas_size=(11, 17)),
        "label": torch.tensor(3),
        "scores": torch.rand(4, 5, 6),
        "name": "a.jpg",
        "nothing": None,
        "array": np.zeros(3),
    }
    found = seeded(transform, sample)
    assert list(found) == list(sample)
    for key in ("mask", "boxes", "keypoints", "label", "scores", "name", "nothing", "array"):
        assert found[key] is sample[key], key
    assert type(found["image"]) is tv_tensors.Image
    assert torch.equal(found["image"], found["again"][0])
    assert isinstance(found["again"][1][0], PIL.Image.Image)
    label = torch.arange(12.0).reshape(1, 3, 4)
    blurred, same = seeded(transform, image, label)  # the first plain tensor is the image, the second is not
    assert same is label
    assert torch.equal(blurred, found["image"].as_subclass(torch.Tensor))


def check_manners(transform: v2.Transform) -> None:
    """A v2 transform through and through."""
    assert isinstance(transform, v2.Transform)
    for cls in type(transform).__mro__:
        if cls is v2.Transform:
            break
        assert "forward" not in vars(cls)
        assert "__call__" not in vars(cls)
    assert transform.state_dict() == {}
    assert "\n" not in repr(transform)
    assert repr(transform).startswith(type(transform).__name__ + "(")
    assert transform.border in repr(transform)
    for again in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)):
        assert repr(again) == repr(transform)
        assert seeded(again.draw) == seeded(transform.draw)
    assert transform.eval() is transform
    assert seeded(transform.draw) == seeded(transform.train().draw)


@each_transform
@pytest.mark.parametrize("check", [check_draw, check_values, check_pil, check_sample, check_manners])
def test_checker(make, check):
    check(make())


@each_transform
def test_settings_are_printed_and_public(make):
    transform = make()
    for name, value in vars(transform).items():
        if not name.startswith("_") and name not in ("training",):
            assert f"{name}={value}" in repr(transform)


@each_transform
def test_containers_of_torchvision(make):
    image = photo(3, 20, 21)
    mask = tv_tensors.Mask(torch.zeros(20, 21, dtype=torch.uint8))
    pipeline = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.0),
            v2.RandomApply([make()], p=1.0),
            v2.RandomChoice([make(), make()]),
            v2.RandomOrder([make()]),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    found, same = seeded(pipeline, tv_tensors.Image(image), mask)
    assert type(found) is tv_tensors.Image
    assert found.dtype == torch.float32
    assert type(same) is tv_tensors.Mask
    assert torch.equal(same, mask)
    assert not torch.equal(found, v2.functional.to_dtype(tv_tensors.Image(image), torch.float32, scale=True))
    assert torch.equal(found, seeded(pipeline, tv_tensors.Image(image), mask)[0])
    never = v2.RandomApply([make()], p=0.0)
    assert never(image) is image
    pickle.loads(pickle.dumps(pipeline))


@each_transform
def test_a_call_that_holds_no_image(make):
    transform = make()
    mask = tv_tensors.Mask(torch.zeros(20, 21, dtype=torch.uint8))
    assert transform(mask) is mask


@each_transform
def test_gradient_flows_through(make):
    image = torch.rand(3, 12, 13, requires_grad=True)
    (gradient,) = torch.autograd.grad(seeded(make(), image).sum(), image)
    assert gradient.shape == image.shape
    assert bool(gradient.isfinite().all())


def test_more_than_one_draw():
    """A range is a range: calls differ."""
    torch.manual_seed(0)
    for make in (lambda: DiskBlur((1, 5)), MotionBlur, CameraShakeBlur, lambda: GaussianBlur((1, 2))):
        assert len({make().draw() for _ in range(20)}) > 15


@pytest.mark.parametrize(
    ("transform", "attribute", "low", "high"),
    [
        (DiskBlur(), "radius", 1, 8),
        (DiskBlur((2.5, 3)), "radius", 2.5, 3),
        (MotionBlur(), "length", 2, 16),
        (MotionBlur(), "angle", 0, 180),
        (MotionBlur(4, angle=(-90, 20)), "angle", -90, 20),
        (GaussianBlur((0.1, 9)), "sigma", 0.1, 9),
    ],
    ids=str,
)
def test_draws_are_uniform(transform, attribute, low, high):
    generator = torch.Generator().manual_seed(1)
    values = np.array([getattr(transform.draw(generator), attribute) for _ in range(2000)])
    assert values.min() >= low
    assert values.max() <= high
    assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_length_and_angle_are_drawn_independently():
    generator = torch.Generator().manual_seed(1)
    draws = [MotionBlur().draw(generator) for _ in range(2000)]
    assert abs(scipy.stats.spearmanr([d.length for d in draws], [d.angle for d in draws]).statistic) < 0.08


@pytest.mark.parametrize(("bank", "count"), [("test", 5000), ("train", 5000)])
def test_shakes_are_drawn_evenly(bank, count):
    generator = torch.Generator().manual_seed(1)
    drawn = [CameraShakeBlur(bank=bank).draw(generator) for _ in range(count)]
    assert {d.bank for d in drawn} == {bank}
    bins = np.bincount([d.index * 100 // kernels.BANK_SIZES[bank] for d in drawn], minlength=100)
    assert scipy.stats.chisquare(bins).pvalue > 1e-3


def test_sizes_of_shakes_are_drawn_evenly_and_apart_from_the_kernel():
    generator = torch.Generator().manual_seed(1)
    drawn = [CameraShakeBlur(size=(9, 25)).draw(generator) for _ in range(4000)]
    sizes = np.array([each.size for each in drawn])
    assert set(sizes) == set(range(9, 26, 2)) and {each.bank for each in drawn} == {"train"}
    assert scipy.stats.chisquare(np.unique(sizes, return_counts=True)[1]).pvalue > 1e-3
    assert abs(scipy.stats.spearmanr(sizes, [each.index for each in drawn]).statistic) < 0.06
    assert drawn[0].kernel().shape == (drawn[0].size,) * 2


def test_a_size_that_is_fixed_moves_no_draw():
    """A kernel of the bank is drawn by one number, whatever its size is."""
    draws = []
    for transform in (CameraShakeBlur(), CameraShakeBlur(size=17), CameraShakeBlur(size=41)):
        generator = torch.Generator().manual_seed(3)
        draws.append([transform.draw(generator).index for _ in range(9)])
    generator = torch.Generator().manual_seed(3)
    expected = [int(torch.randint(10_000, (), generator=generator)) for _ in range(9)]
    assert draws == [expected] * 3


def test_a_number_means_fixed():
    assert {DiskBlur(4).draw() for _ in range(5)} == {Disk(4, antialias=True)}
    assert {DiskBlur(4, antialias=False).draw() for _ in range(5)} == {Disk(4)}
    assert {MotionBlur(8, angle=30).draw() for _ in range(5)} == {Line(8, 30)}
    assert {GaussianBlur(2).draw() for _ in range(5)} == {Gaussian(2)}
    assert {DiskBlur((3, 3)).draw() for _ in range(5)} == {Disk(3, antialias=True)}
    assert {CameraShakeBlur(size=(9, 9)).draw().size for _ in range(5)} == {9}


# Worker processes


class Pictures(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.transform(tv_tensors.Image(photo(3, 20, 21, seed=index))), index


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", exhaustive("spawn")])
def test_worker_processes(method):
    """All transforms in one pipeline: the same workers and seed give the same pictures, and not all alike."""
    transform = v2.RandomChoice([make() for make in TRANSFORMS.values()])

    def epoch():
        loader = DataLoader(
            Pictures(transform),
            batch_size=2,
            num_workers=2 if method == "fork" else 1,  # a spawned one imports everything anew
            multiprocessing_context=method,
            generator=torch.Generator().manual_seed(3),
            timeout=120,
        )
        return torch.cat([images for images, _ in loader])

    first = epoch()
    assert first.shape == (8, 3, 20, 21)
    if method == "fork":  # once by spawn is slow enough
        assert torch.equal(first, epoch())
    sharp = torch.stack([photo(3, 20, 21, seed=index) for index in range(8)])
    assert not torch.equal(first, sharp)


# Functional forms


def test_functional_forms_are_their_blurs():
    image = photo(3, 21, 22)
    pairs = [
        (functional.disk_blur(image, 2.5), Disk(2.5, antialias=True)),
        (functional.disk_blur(image, 2.5, antialias=False), Disk(2.5)),
        (functional.motion_blur(image, 7), Line(7, 0)),
        (functional.motion_blur(image, 7, angle=30), Line(7, 30)),
        (functional.camera_shake_blur(image, 4), Shake(4, "train")),
        (functional.camera_shake_blur(image, 4, bank="test"), Shake(4, "test")),
        (functional.gaussian_blur(image, 1.2), Gaussian(1.2)),
    ]
    for found, blur in pairs:
        assert torch.equal(found, blurlib.blur(image, blur.kernel()))
        assert torch.equal(found, functional.apply(image, blur))
        assert torch.equal(found, functional.apply(image, str(blur)))


@given(scale=st.floats(0.2, 3), radius=st.floats(0.5, 4))
def test_apply_scales_the_kernel(scale, radius):
    image = photo(3, 21, 22)
    found = functional.apply(image, Disk(radius), scale=scale, border="symmetric")
    assert torch.equal(found, blurlib.blur(image, Disk(radius).kernel(scale), border="symmetric"))


def test_sharp_is_the_same_picture_but_not_the_same_memory():
    image = photo(3, 21, 22)
    found = functional.apply(image, "sharp")
    assert torch.equal(found, image)
    found.zero_()
    assert image.any()


def test_apply_keeps_the_kind_of_tensor_and_its_info():
    video = tv_tensors.Video(photo(4, 3, 21, 22))
    found = functional.apply(video, "D2")
    assert type(found) is tv_tensors.Video
    assert torch.equal(
        found[2].as_subclass(torch.Tensor), blurlib.blur(photo(4, 3, 21, 22)[2], Disk(2).kernel())
    )
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", dpi=(72, 72))
    with PIL.Image.open(buffer) as opened:
        assert functional.apply(opened, "D2").size == opened.size


# What to convert images of the other modes by.
REMEDIES = {
    "P": ["image.convert('RGB')"],
    "1": ["image.convert('RGB')"],
    "HSV": ["image.convert('RGB')"],
    "PA": ["image.convert('RGBA')"],
    "I": ["blurlib.protocol.to_rgb(image)", "image.convert('F')"],
    "I;16": ["blurlib.protocol.to_rgb(image)", "image.convert('F')"],
    "I;16B": ["blurlib.protocol.to_rgb(image)", "image.convert('F')"],
}


@pytest.mark.parametrize("mode", REMEDIES)
def test_pil_modes_that_cannot_be_averaged(mode):
    """The error names what helps, and that keeps every level: Pillow cuts 16 bits off at 255."""
    deep = mode.startswith("I")
    image = PIL.Image.new(mode, (256, 2))
    if deep:
        image.putdata([257 * level for level in range(256)] * 2)
    for call in (lambda: functional.apply(image, "D2"), lambda: DiskBlur(2)(image)):
        with pytest.raises(ValueError, match=f"`image`.*{re.escape(repr(mode))}") as error:
            call()
    for remedy in REMEDIES[mode]:
        assert remedy in str(error.value)
        converted = eval(remedy, {"image": image, "blurlib": blurlib})
        assert not deep or len(np.unique(np.asarray(converted))) == 256
        assert functional.apply(converted, "D2").size == image.size
    transparent = PIL.Image.new("P", (8, 8))
    transparent.info["transparency"] = b"\x00\xff"
    with pytest.raises(ValueError, match=r"image\.convert\('RGBA'\)"):
        functional.apply(transparent, "D2")


def covered(mode, seed=0, size=(46, 39)):
    """Noise that is here opaque, here transparent and here something between."""
    rng = np.random.default_rng(seed)
    bands = len(mode)
    array = rng.integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    array[:20, :24, -1], array[20:, 24:, -1] = 0, 255
    planes = [PIL.Image.fromarray(np.ascontiguousarray(array[..., band])) for band in range(bands)]
    return PIL.Image.merge(mode, planes)


@pytest.mark.parametrize("border", oracles.BORDERS)
@pytest.mark.parametrize("blur", ["D4", "D2.6a", "H8", "L7@30", "G1.5", "S17"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_colours_count_by_their_alpha(mode, blur, border):
    image, kernel = covered(mode), notation.parse(blur).kernel().numpy()
    before = image.tobytes()
    found = np.asarray(functional.apply(image, blur, border=border))
    assert image.tobytes() == before
    array = np.asarray(image)
    planes = array.astype(float).transpose(2, 0, 1)
    alpha = functional.apply(image.getchannel("A"), blur, border=border)
    np.testing.assert_array_equal(found[..., -1], np.asarray(alpha))
    weight = oracles.blur(planes[-1:], kernel, border)
    visible = found[..., -1] > 0
    assert visible.any() and not visible.all()
    for band, plane in enumerate(planes[:-1]):
        light = oracles.blur(plane[None] * planes[-1:], kernel, border)
        exact = (light / np.where(weight > 0, weight, 1))[0]
        np.testing.assert_array_equal(found[..., band][~visible], array[..., band][~visible])
        level = found[..., band][visible]
        clear = np.abs(exact % 1 - 0.5)[visible] > 1e-3
        np.testing.assert_array_equal(level[clear], np.floor(exact + 0.5)[visible][clear])
        assert (np.abs(level - exact[visible]) < 0.502).all()


def test_ties_of_transparent_colours_go_up():
    """Two pixels of colours 10 and 11 under one alpha: 10.5, for every alpha."""
    for alpha in range(1, 256):
        image = PIL.Image.fromarray(np.array([[[10, 0, 3, alpha], [11, 255, 4, alpha]]], np.uint8))
        assert functional.apply(image, "H2", border="circular").getpixel((0, 0)) == (11, 128, 4, alpha)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("border", oracles.BORDERS)
def test_opaque_images_are_blurred_as_if_they_had_no_alpha(mode, border):
    image = covered(mode)
    image.putalpha(255)
    for blur in ("D4", "H8", "G1.5", "S17", "sharp"):
        found = functional.apply(image, blur, border=border)
        plain = functional.apply(image.convert(mode[:-1]), blur, border=border)
        reach = (
            max(notation.parse(blur).kernel().shape) // 2 if border == "zeros" else 0
        )  # transparent outside
        inner = (reach, reach, image.width - reach, image.height - reach)
        plain.putalpha(255)
        assert found.crop(inner).tobytes() == plain.crop(inner).tobytes()


@pytest.mark.parametrize("border", oracles.BORDERS)
def test_one_colour_stays_one_colour_whatever_covers_it(border):
    image = covered("RGBA")
    for colour in ((255, 0, 0), (1, 2, 3)):
        flat = PIL.Image.new("RGB", image.size, colour)
        flat.putalpha(image.getchannel("A"))
        found = np.asarray(functional.apply(flat, "D3", border=border))
        assert (found[..., :3] == colour).all()
    assert functional.apply(image, "sharp", border=border).tobytes() == image.tobytes()


@each_transform
def test_transforms_know_transparency(make):
    image, transform = covered("RGBA"), make()
    found = seeded(transform, image)
    blur = seeded(transform.draw)
    assert found.tobytes() == functional.apply(image, blur, border=transform.border).tobytes()


def test_a_colour_marked_transparent_loses_its_mark():
    """After a blur the pixels of just that colour are others."""
    image = PIL.Image.new("RGB", (8, 8), (1, 2, 3))
    image.info.update(transparency=(1, 2, 3), dpi=(72, 72))
    assert functional.apply(image, "D2").info == {"dpi": (72, 72)}
    assert image.info["transparency"] == (1, 2, 3)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "F", "CMYK", "P", "1", "I;16"])
def test_pictures_without_pixels(mode, size):
    image = PIL.Image.new(mode, size)
    for make in TRANSFORMS.values():
        assert (make()(image).size, make()(image).mode) == (size, mode)
    for blur in ("D2", "sharp"):
        assert functional.apply(image, blur).size == size
    with pytest.raises(ValueError, match="`border`"):
        functional.apply(image, "D2", border="mirror")


# What is an image


def plain(*shape, dtype=torch.float32):
    return photo(*shape, dtype=dtype)


SECOND_VIEWS = {
    "two views": lambda lead: [plain(*lead, 3, 9, 9), plain(*lead, 3, 9, 9)],
    "in bytes": lambda lead: [plain(*lead, 3, 9, 9, dtype=torch.uint8), plain(*lead, 3, 9, 9)],
    "by names": lambda lead: {
        "a": plain(*lead, 3, 9, 9),
        "label": torch.arange(2),
        "b": plain(*lead, 3, 9, 9),
    },
    "of another size": lambda lead: [plain(*lead, 3, 9, 9), [plain(*lead, 3, 5, 4)]],
    "grey": lambda lead: [plain(*lead, 1, 9, 9), plain(*lead, 1, 9, 9)],
    "beside a mask": lambda lead: [
        plain(*lead, 3, 9, 9),
        tv_tensors.Mask(torch.zeros(9, 9)),
        plain(*lead, 3, 9, 9),
    ],
}


def others(lead):
    return {
        "labels": torch.arange(2),
        "soft labels": torch.rand(2, 5),
        "mask": torch.zeros(*lead, 9, 9, dtype=torch.int64),
        "mask with a channel": torch.zeros(*lead, 1, 9, 9, dtype=torch.uint8),
        "depth": torch.rand(*lead, 1, 9, 9),
        "one-hot": torch.rand(*lead, 21, 9, 9),
        "indices of three": torch.zeros(*lead, 3, 9, 9, dtype=torch.int64),
        "embedding": torch.rand(3, 4, 5, 6, 7),
        "array": np.zeros((9, 9, 3), np.uint8),
        "text": "a.jpg",
    }


CALLS = {name: (make, ()) for name, make in TRANSFORMS.items()}
CALLS["mix"] = (lambda: BlurMixSampler("D2 + D4"), (2,))
CALLS["keyed mix"] = (lambda: functools.partial(BlurMixSampler("D2 + D4"), indices=[0, 1]), (2,))
each_call = pytest.mark.parametrize(("make", "lead"), CALLS.values(), ids=CALLS)


@each_call
@pytest.mark.parametrize("views", SECOND_VIEWS.values(), ids=SECOND_VIEWS)
def test_a_second_view_in_a_plain_tensor_is_refused(make, lead, views):
    """torchvision takes the first plain tensor for the image; the others would stay sharp without a word."""
    inputs = views(lead)
    with pytest.raises(TypeError, match=r"`inputs`.*only the first.*tv_tensors\.Image"):
        make()(inputs)
    wrapped = torch.utils._pytree.tree_map(
        lambda x: tv_tensors.Image(x) if transforms._is_plain(x) and x.ndim > 2 else x, inputs
    )
    found = make()(wrapped)
    for before, after in zip(*map(torch.utils._pytree.tree_leaves, (wrapped, found)), strict=True):
        assert torch.equal(before, after) != isinstance(before, tv_tensors.Image)


@each_call
@pytest.mark.parametrize("name", others(()))
def test_other_tensors_beside_a_plain_image_pass_through(make, lead, name):
    image, same = plain(*lead, 3, 9, 9), others(lead)[name]
    found, handed_on = make()(image, same)
    assert handed_on is same
    assert not torch.equal(found, image)


@each_call
def test_plain_tensors_beside_an_image_pass_through(make, lead):
    image, normals = tv_tensors.Image(plain(*lead, 3, 9, 9)), plain(*lead, 3, 9, 9)
    assert make()(image, normals)[1] is normals


ARRAYS = {
    "alone": lambda array: [array],
    "with a label": lambda array: [array, 3],
    "with labels in a tensor": lambda array: [array, torch.arange(2)],
    "with a mask": lambda array: {"image": array, "mask": tv_tensors.Mask(torch.zeros(9, 8))},
}


def test_an_array_beside_a_plain_mask_is_not_left_sharp():
    """The only plain tensor would be taken for the image, and the picture handed on."""
    picture, mask = np.zeros((8, 9, 3), np.uint8), torch.zeros(1, 8, 9, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"`inputs` must say which is the image.*tv_tensors.Image"):
        blurlib.DiskBlur(2.0)(picture, mask)
    image, boxes, labels = torch.rand(1, 8, 9), np.zeros((8, 4)), np.zeros((8, 9), np.uint8)
    found = blurlib.DiskBlur(2.0)(image, boxes, labels)
    assert found[1] is boxes and found[2] is labels and not torch.equal(found[0], image)


@each_call
@pytest.mark.parametrize("inputs", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_not_handed_on_for_want_of_an_image(make, lead, inputs):
    array = np.random.default_rng(0).integers(0, 256, (*lead, 9, 8, 3), dtype=np.uint8)
    with pytest.raises(TypeError, match=r"`inputs`.*NumPy array of shape") as error:
        make()(*inputs(array)) if isinstance(inputs(array), list) else make()(inputs(array))
    if lead:
        remedies = ["torch.from_numpy(images).permute(0, 3, 1, 2)"]
    else:
        remedies = ["v2.functional.to_image(image)", "blurlib.blur(image, kernel)"]
    for remedy in remedies:
        assert remedy in str(error.value)
        names = {"image": array, "images": array, "kernel": kernels.disk(2)}
        converted = eval(remedy, names | {"v2": v2, "torch": torch, "blurlib": blurlib})
        found = converted if isinstance(converted, np.ndarray) else make()(converted)
        assert found.shape == converted.shape


@pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
def test_nothing_to_blur_is_nothing_wrong(make):
    scores = np.arange(3)
    for inputs in (["a.jpg"], [None], [3, scores], [tv_tensors.Mask(torch.zeros(3, 3))]):
        found = make()(*inputs)
        assert all(a is b for a, b in zip(found if len(inputs) > 1 else [found], inputs, strict=True))


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), [[0]], None, "photo.jpg"])
def test_images_of_another_kind(image):
    with pytest.raises(TypeError, match="`image`") as error:
        functional.apply(image, "D2")
    assert isinstance(image, np.ndarray) == ("blurlib.blur(image, kernel)" in str(error.value))


def test_a_shake_of_ones_own_has_no_kernel():
    with pytest.raises(ValueError, match="shake"):
        functional.apply(photo(3, 8, 8), "shake")


def test_one_pixel_pictures():
    for image in (photo(3, 1, 1), PIL.Image.new("RGB", (1, 1), (1, 2, 3)), PIL.Image.new("L", (1, 9), 7)):
        for make in TRANSFORMS.values():
            transform = make()
            if transform.border != "zeros":
                found = transform(image)
                assert (
                    (found == image).all()
                    if isinstance(image, torch.Tensor)
                    else found.tobytes() == image.tobytes()
                )


# Bad settings


BAD_RANGES = [-1, math.nan, math.inf, (3, 1), (-1, 3), (1, math.nan), (1, math.inf), 1e7, (0, 1e7)]
BAD_KINDS = ["4", None, (1,), (1, 2, 3), [1, "2"], {1, 2}, True, 1j]


@pytest.mark.parametrize(
    ("kind", "name"), [(DiskBlur, "radius"), (MotionBlur, "length"), (GaussianBlur, "sigma")]
)
@pytest.mark.parametrize("value", BAD_RANGES, ids=repr)
def test_bad_ranges(kind, name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        kind(value)


@pytest.mark.parametrize(
    ("kind", "name"), [(DiskBlur, "radius"), (MotionBlur, "length"), (GaussianBlur, "sigma")]
)
@pytest.mark.parametrize("value", BAD_KINDS, ids=repr)
def test_bad_kinds(kind, name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}`"):
        kind(value)


@pytest.mark.parametrize(
    ("kind", "name", "largest"),
    [(DiskBlur, "radius", 1024), (MotionBlur, "length", 2048), (GaussianBlur, "sigma", 256)],
)
def test_largest_values(kind, name, largest):
    kind(largest)
    with pytest.raises(ValueError, match=f"`{name}`"):
        kind(largest + 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, (30, 10)])
def test_bad_angles(value):
    with pytest.raises(ValueError, match="`angle`"):
        MotionBlur(4, angle=value)


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (16, ValueError, "`size` must be odd, got 16; use 17"),
        ((9, 24), ValueError, "`size` must be odd, got 24"),
        ((25, 9), ValueError, "`size` must be .*low <= high"),
        ((9, 17, 25), ValueError, "`size` must be a number or"),
        (1, ValueError, "`size` must be"),
        ((9, 515), ValueError, "`size` must be"),
        (17.0, TypeError, "`size` must be a whole number"),
        ("17", TypeError, "`size` must be a whole number"),
    ],
)
def test_bad_sizes_of_shakes(size, error, text):
    with pytest.raises(error, match=text):
        CameraShakeBlur(size=size)


def test_bad_bank_and_border():
    with pytest.raises(ValueError, match="`bank`"):
        CameraShakeBlur(bank="tset")
    for make in (lambda: DiskBlur(2, border="mirror"), lambda: BlurMixSampler("D2", border="mirror")):
        with pytest.raises(ValueError, match="`border`"):
            make()


# Mixes


FIVE = "sharp + D2 + D4 + D6 + D8"


def test_the_named_mix_draws_from_its_ranges():
    """Its text is its shares and ranges, and so is the record of a run."""
    mix = BlurMixSampler("wide", seed=5)
    assert repr(mix) == repr(BlurMixSampler(mix.shares, seed=5)) and "wide" not in repr(mix)
    drawn = [mix.draw(index) for index in range(4000)]
    kinds = {"Sharp": [], "Disk": [], "Line": [], "Shake": []}
    for blur in drawn:
        kinds[type(blur).__name__].append(blur)
    shares = list(mix.shares.values())
    observed = [len(each) for each in kinds.values()]
    assert len(shares) == 4 and abs(sum(shares) - 1) < 1e-12
    assert scipy.stats.chisquare(observed, np.array(shares) * 4000).pvalue > 1e-3
    assert all(0.5 <= blur.radius <= 8 and blur.antialias for blur in kinds["Disk"])
    assert all(2 <= blur.length <= 16 for blur in kinds["Line"])
    assert {blur.size for blur in kinds["Shake"]} == set(range(9, 26, 2))
    assert {blur.bank for blur in kinds["Shake"]} == {"train"}
    assert str(BlurMixSampler(" wide ")) == str(mix)
    for text in ("Wide", "wide + D4", "0.5 wide + 0.5 D4"):
        with pytest.raises(ValueError, match=r"`mix` must be 'wide' alone.*BlurMixSampler\('wide'\)\.shares"):
            BlurMixSampler(text)


def test_mix_of_a_transform_alone():
    transform = DiskBlur((1, 8))
    alone, mapped = BlurMixSampler(transform), BlurMixSampler({transform: 1.0})
    assert [alone.draw(index) for index in range(4)] == [mapped.draw(index) for index in range(4)]
    for wrong in (DiskBlur, 4):
        with pytest.raises(TypeError, match="`mix` must be a text such as"):
            BlurMixSampler(wrong)
    with pytest.raises(TypeError, match=r"`mix` must .*; pass its `shares`"):
        BlurMixSampler(BlurMixSampler(FIVE))


def test_mix_has_one_border():
    lone = DiskBlur(2, border="zeros")
    for mix in (lone, {"sharp": 0.5, lone: 0.5}):
        with pytest.raises(
            ValueError, match=r"`border` of a mix holds for all of its blurs, got DiskBlur.*'zeros'"
        ):
            BlurMixSampler(mix)
        assert BlurMixSampler(mix, border="zeros").border == "zeros"
    assert BlurMixSampler(DiskBlur(2), border="zeros").border == "zeros"


@needs_core
def test_each_image_of_a_batch_gets_its_own_blur():
    mix = BlurMixSampler(FIVE, seed=3, border="symmetric")
    indices = [5, 0, 17, 17, 4, 99]
    for dtype in DTYPES:
        images, labels = photo(6, 3, 20, 21, dtype=dtype), torch.arange(6)
        before = images.clone()
        found, same = mix(images, labels, indices=indices, epoch=2)
        assert same is labels
        assert found.dtype == dtype
        assert torch.equal(images, before)
        for i, index in enumerate(indices):
            expected = blurlib.blur(images[i], mix.draw(index, 2).kernel(), border="symmetric")
            assert torch.equal(found[i], expected)


def test_stacked_kernels_are_those_of_the_draws():
    mix = BlurMixSampler("sharp + D8 + L12@30 + shake")
    stack = mix.kernels(range(12), epoch=1)
    assert stack.dtype == torch.float64
    assert stack.shape[0] == 12
    assert stack.shape[1] % 2 == stack.shape[2] % 2 == 1
    for i in range(12):
        kernel = mix.draw(i, 1).kernel()
        top, left = (stack.shape[1] - kernel.shape[0]) // 2, (stack.shape[2] - kernel.shape[1]) // 2
        assert torch.equal(stack[i, top : top + kernel.shape[0], left : left + kernel.shape[1]], kernel)
        assert abs(float(stack[i].sum()) - 1) < 1e-9


def test_used_as_cutmix_is():
    """After the loader, in collate_fn, on dictionaries, on videos; what is no image is the same object."""
    mix = BlurMixSampler("D2 + D4")
    loader = DataLoader(
        Pictures(v2.Identity()), batch_size=4, collate_fn=lambda batch: mix(*default_collate(batch))
    )
    for images, labels in loader:
        assert images.shape == (4, 3, 20, 21)
        assert labels.shape == (4,)
    batch = {
        "image": tv_tensors.Image(photo(2, 3, 20, 21)),
        "mask": tv_tensors.Mask(torch.zeros(2, 20, 21, dtype=torch.uint8)),
        "label": torch.tensor([1, 2]),
        "path": "a",
    }
    found = mix(batch, indices=[0, 1])
    assert type(found["image"]) is tv_tensors.Image
    for key in ("mask", "label", "path"):
        assert found[key] is batch[key]
    video = tv_tensors.Video(photo(2, 5, 3, 20, 21))
    blurred = mix(video, indices=[3, 4])
    assert type(blurred) is tv_tensors.Video
    for i, index in enumerate((3, 4)):
        expected = blurlib.blur(video[i].as_subclass(torch.Tensor), mix.draw(index).kernel())
        assert torch.equal(blurred[i].as_subclass(torch.Tensor), expected)


def test_without_indices_torchs_generator_draws():
    mix = BlurMixSampler("D2 + D4 + shake")
    images = photo(8, 3, 20, 21)
    first = seeded(mix, images)
    assert torch.equal(first, seeded(mix, images))
    assert not torch.equal(first, seeded(mix, images, seed=6))
    spot = torch.zeros((40, 1, 41, 41))
    spot[..., 20, 20] = 1
    assert len(torch.unique(mix(spot).flatten(1), dim=0)) > 5  # one each, not one for all


def test_keyed_draws_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    mix = BlurMixSampler({"sharp": 0.2, CameraShakeBlur(): 0.4, DiskBlur((1, 3)): 0.4})
    mix(photo(4, 3, 20, 21), indices=[0, 1, 2, 3], epoch=1)
    assert torch.equal(torch.get_rng_state(), state)


@given(
    indices=st.lists(st.integers(0, 10**9), min_size=1, max_size=6),
    epoch=st.integers(0, 10**6),
    data=st.data(),
)
def test_keyed_draws_do_not_depend_on_batch_or_order(indices, epoch, data):
    mix = BlurMixSampler({"sharp": 0.1, "shake": 0.3, "L5@10": 0.2, DiskBlur((1, 3)): 0.2, MotionBlur(): 0.2})
    images = photo(len(indices), 1, 9, 9)
    whole = mix(images, indices=indices, epoch=epoch)
    order = data.draw(st.permutations(range(len(indices))))
    shuffled = mix(images[list(order)], indices=[indices[i] for i in order], epoch=epoch)
    assert torch.equal(shuffled, whole[list(order)])
    for i, index in enumerate(indices):
        assert torch.equal(mix(images[i : i + 1], indices=[index], epoch=epoch), whole[i : i + 1])
        assert mix.draw(index, epoch) == pickle.loads(pickle.dumps(mix)).draw(index, epoch)


class KeyedPictures(Dataset):
    """The sampler yields (epoch, index), which carries the key to persistent workers."""

    def __init__(self, mix):
        self.mix = mix

    def __getitem__(self, key):
        epoch, index = key
        blur = self.mix.draw(index, epoch)
        return functional.apply(photo(3, 20, 21, seed=index), blur), index, str(blur)


class Keys:
    def __init__(self, shuffled=False):
        self.epoch = 0
        self.shuffled = shuffled

    def __len__(self):
        return 12

    def __iter__(self):
        order = blurlib._common.rng.permutation(12, seed=9, key=(self.epoch,)) if self.shuffled else range(12)
        return iter([(self.epoch, int(index)) for index in order])


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning", "ignore:This DataLoader will create:UserWarning"
)
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize(("batch_size", "shuffled"), [(1, True), (5, False)])
def test_keyed_draws_do_not_depend_on_workers(workers, batch_size, shuffled):
    mix = BlurMixSampler(
        {"sharp": 0.1, "D3": 0.2, "shake": 0.3, DiskBlur((1, 3)): 0.2, MotionBlur(): 0.2}, seed=1
    )
    keys = Keys(shuffled)
    loader = DataLoader(
        KeyedPictures(mix),
        batch_size=batch_size,
        sampler=keys,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
        timeout=120 if workers else 0,
    )
    names = []
    for epoch in (0, 1):
        keys.epoch = epoch
        seen = {}
        for images, indices, texts in loader:
            for image, index, text in zip(images, indices.tolist(), texts, strict=True):
                assert text == str(mix.draw(index, epoch))
                assert torch.equal(
                    image, functional.apply(photo(3, 20, 21, seed=index), mix.draw(index, epoch))
                )
                seen[index] = text
        names.append([seen[index] for index in range(12)])
    assert names[0] != names[1]


def test_another_seed_and_another_epoch_are_other_draws():
    mixes = [BlurMixSampler(FIVE, seed=seed) for seed in (0, 1)]
    rows = [[str(mix.draw(i, epoch)) for i in range(400)] for mix in mixes for epoch in (0, 1)]
    for a in range(4):
        for b in range(a):
            agreement = np.mean([x == y for x, y in zip(rows[a], rows[b], strict=True)])
            assert 0.1 < agreement < 0.3  # one in five by chance


@pytest.mark.parametrize("keyed", [True, False])
def test_shares_are_honoured(keyed):
    mix = BlurMixSampler("0.1 sharp + 0.2 D1 + 0.3 D2 + 0.4 shake")
    expected = {"sharp": 0.1, "D1": 0.2, "D2": 0.3, "shake": 0.4}
    if keyed:
        names = [str(mix.draw(index, 7)) for index in range(4000)]
        names = ["shake" if name.startswith("S") else name for name in names]
    else:
        spot = torch.zeros((4000, 1, 5, 5), dtype=torch.float64)
        spot[..., 2, 2] = 1
        known = {
            float(blurlib.blur(spot[0], Disk(r).kernel(), border="zeros").max()): f"D{r}" for r in (1, 2)
        }
        known[1.0] = "sharp"
        largest = BlurMixSampler("0.1 sharp + 0.2 D1 + 0.3 D2 + 0.4 shake", border="zeros")(spot).amax(
            (1, 2, 3)
        )
        names = [next((n for k, n in known.items() if abs(k - v) < 1e-9), "shake") for v in largest.tolist()]
    counts = [names.count(name) for name in expected]
    assert sum(counts) == 4000
    assert scipy.stats.chisquare(counts, [4000 * share for share in expected.values()]).pvalue > 1e-3


def test_shakes_of_a_mix_come_from_the_whole_train_bank():
    mix = BlurMixSampler("shake", seed=2)
    drawn = [mix.draw(index) for index in range(4000)]
    assert {d.bank for d in drawn} == {"train"}
    assert scipy.stats.kstest([d.index / 10_000 for d in drawn], "uniform").pvalue > 1e-3
    joint = BlurMixSampler(
        "0.3 sharp + 0.7 shake", seed=2
    )  # which blur, and which shake, do not hang together
    indices = [d.index for i in range(4000) if isinstance(d := joint.draw(i), Shake)]
    assert scipy.stats.kstest(np.array(indices) / 10_000, "uniform").pvalue > 1e-3


def test_transforms_in_a_mix_draw_from_their_own_range():
    mix = BlurMixSampler({"sharp": 0.5, DiskBlur((2, 6)): 0.5})
    drawn = [mix.draw(index) for index in range(3000)]
    radii = [d.radius for d in drawn if isinstance(d, Disk)]
    assert abs(len(radii) - 1500) < 150
    assert set(map(type, drawn)) == {Sharp, Disk}
    assert scipy.stats.kstest(radii, scipy.stats.uniform(2, 4).cdf).pvalue > 1e-3


def test_an_even_mix_of_many_is_even():
    """Edges between shares add up in floating point; no blur may lose its share there."""
    mix = BlurMixSampler(" + ".join(f"D{radius}" for radius in range(1, 11)))
    counts = np.bincount([int(mix.draw(index).radius) for index in range(5000)], minlength=11)[1:]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_a_mix_prints_and_travels():
    mix = BlurMixSampler(FIVE, seed=4)
    assert FIVE in repr(mix)
    assert "seed=4" in repr(mix)
    assert repr(pickle.loads(pickle.dumps(mix))) == repr(mix)
    other = BlurMixSampler("0.2 sharp + 0.8 shake")
    assert str(other) == "0.2 sharp + 0.8 shake"
    assert BlurMixSampler(str(other)).draw(3) == other.draw(3)


def test_indices_in_any_form():
    mix = BlurMixSampler(FIVE)
    images = photo(3, 3, 20, 21)
    expected = mix(images, indices=[4, 5, 6])
    several = torch.tensor([4, 5, 6])
    for indices in (
        several,
        several.byte(),
        list(several),
        np.array([4, 5, 6], np.uint16),
        list(np.array([4, 5, 6])),
        (4, 5, 6),
        range(4, 7),
        iter([4, 5, 6]),
    ):
        assert torch.equal(mix(images, indices=indices), expected)
    assert mix.draw(several[0], torch.tensor(1)) == mix.draw(4, np.int64(1))


CUT_OFF = [
    [0.9, 1.9],
    [0.0, 1.0],
    (0, "1"),
    [True, False],
    [None, 1],
    torch.tensor([0.0, 1.0]),
    torch.tensor([True, False]),
    list(torch.tensor([0.0, 1.0])),
    np.array([0.0, 1.0]),
    np.array([True, False]),
    torch.tensor([[0, 1]]),
    torch.tensor(2),
    2,
    "01",
]


@pytest.mark.parametrize("indices", CUT_OFF, ids=repr)
def test_indices_that_are_no_whole_numbers(indices):
    """Cut off, [0.9, 1.9] would be the images 0 and 1."""
    mix = BlurMixSampler(FIVE)
    for call in (lambda: mix(photo(2, 3, 20, 21), indices=indices), lambda: mix.kernels(indices)):
        with pytest.raises(TypeError, match=r"`indices` must be (a )?whole number"):
            call()


@pytest.mark.parametrize(
    "number", [0.9, 1.0, "1", True, None, torch.tensor(1.0), torch.tensor([1])], ids=repr
)
def test_an_index_or_an_epoch_that_is_no_whole_number(number):
    mix = BlurMixSampler(FIVE)
    with pytest.raises(TypeError, match="`index` must be a whole number"):
        mix.draw(number)
    for call in (
        lambda: mix.draw(0, number),
        lambda: mix.kernels([0], number),
        lambda: mix(photo(1, 3, 8, 8), indices=[0], epoch=number),
        lambda: mix(photo(1, 3, 8, 8), epoch=number),
    ):
        with pytest.raises(TypeError, match="`epoch` must be a whole number"):
            call()
    if number is not True and not isinstance(number, torch.Tensor):
        with pytest.raises(TypeError, match="`index` must be a whole number"):
            functional.camera_shake_blur(photo(3, 8, 8), number)


@pytest.mark.parametrize("indices", [[0], [0, 1, 2, 3], [], [0, 1, -1]])
def test_bad_indices(indices):
    with pytest.raises(ValueError, match=r"`ind|`key"):
        BlurMixSampler(FIVE)(photo(3, 3, 20, 21), indices=indices)


@pytest.mark.parametrize(("index", "epoch"), [(-1, 0), (0, -1)])
def test_bad_keys(index, epoch):
    with pytest.raises(ValueError, match=r"`index`|`epoch`|`key`"):
        BlurMixSampler(FIVE).draw(index, epoch)


@pytest.mark.parametrize("value", [1.5, "3", None])
def test_keys_of_another_kind(value):
    with pytest.raises(TypeError):
        BlurMixSampler(FIVE).draw(value)


def test_what_is_no_batch():
    mix = BlurMixSampler(FIVE)
    for batch in (photo(3, 20, 21), picture(), tv_tensors.Video(photo(2, 3, 20, 21))):
        with pytest.raises((ValueError, TypeError), match="batch"):
            mix(batch)
        with pytest.raises((ValueError, TypeError), match="batch"):
            mix(batch, indices=[0, 1, 2])


def test_an_empty_batch():
    assert BlurMixSampler(FIVE)(photo(0, 3, 20, 21), indices=[]).shape == (0, 3, 20, 21)
    assert BlurMixSampler(FIVE)(photo(0, 3, 20, 21)).shape == (0, 3, 20, 21)


@pytest.mark.parametrize("mix", ["", "blurry", "0.5 sharp", {"sharp": 2.0}, {}])
def test_bad_mixes(mix):
    with pytest.raises(ValueError, match=r"`|blur|share"):
        BlurMixSampler(mix)


@pytest.mark.parametrize("mix", [3, None, {3: 1.0}])
def test_mixes_of_another_kind(mix):
    with pytest.raises(TypeError):
        BlurMixSampler(mix)


@pytest.mark.parametrize("seed", [1.5, "0", None])
def test_seeds_of_another_kind(seed):
    with pytest.raises(TypeError, match="`seed`"):
        BlurMixSampler(FIVE, seed=seed)
