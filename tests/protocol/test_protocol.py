"""The protocol against hand-computed numbers, torchvision, Pillow and a slow reference blur."""

import copy
import io
import struct
import zlib

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision
import torchvision.transforms.v2.functional as tvf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.vgg import VGG, make_layers

from blurlib import protocol
from blurlib._common import rng
from blurlib._common.model_config import ignored_config
from blurlib.blurs import Box, Disk, PerImageShake, Shake, Sharp
from blurlib.deblurring import DeblurThenClassify
from blurlib.models import MultiScale, PerScale, ZoomOut, dense
from blurlib.protocol import Protocol

GEOMETRY = 11  # the purpose in the keys of training_view's draws


def photo(width=61, height=47, seed=0):
    """Smooth colours with some noise: neither constant nor only noise."""
    draws = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 3 % 256, y * 4 % 256, (x + y) * 2 % 256], axis=-1)
    return Image.fromarray(np.clip(base + draws.integers(-20, 20, base.shape), 0, 255).astype(np.uint8))


def slow_blur(array, blur):
    """Reference: float64 convolution channel by channel, then rounding half up."""
    kernel = blur.kernel().numpy()
    planes = [scipy.ndimage.convolve(array[..., c].astype(float), kernel, mode="mirror") for c in range(3)]
    return np.floor(np.stack(planes, axis=-1) + 0.5).astype(np.uint8)


# --- numbers -----------------------------------------------------------------------------------------------


def test_first_sides_are_the_papers_times_the_canonical_side():
    assert Protocol().first_sides == (356, 384, 410)
    assert Protocol(canonical_side=768).first_sides == (712, 768, 820)
    assert Protocol(canonical_side=183).first_sides == (170, 183, 195)  # 169.66, 183, 195.39
    assert Protocol(canonical_side=100, jitter=[90, 110]).first_sides == (90, 110)


def test_training_crop_is_the_smallest_side_where_that_is_less():
    assert Protocol().training_crop(256) == 224  # of 237
    assert Protocol().training_crop(512) == 224
    assert Protocol().training_crop(128) == 119  # 356 * 128 / 384 = 118.67
    assert Protocol(crop=100).training_crop(128) == 100


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((500, 375), 384, (512, 384)),
        ((375, 500), 384, (384, 512)),
        ((500, 333), 384, (577, 384)),  # 576.58: torchvision cuts off to 576
        ((1, 1), 384, (384, 384)),
        ((3, 2), 5, (8, 5)),  # 7.5 goes up
        ((384, 384), 384, (384, 384)),
    ],
)
def test_scaled_size(size, side, expected):
    assert protocol.scaled_size(*size, side) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600))
def test_scaled_size_is_torchvisions_rounded_up_or_not(width, height, side):
    w, h = protocol.scaled_size(width, height, side)
    assert min(w, h) == side
    longer = side * max(width, height) / min(width, height)
    assert abs(max(w, h) - longer) <= 0.5 + 1e-9
    assert max(w, h) - int(longer) in (0, 1)


@pytest.mark.parametrize(
    ("shape", "network", "canonical", "expected"),
    [
        ((356, 475), 256, 384, (237, 317)),  # 237.33, 316.67
        ((384, 512), 256, 384, (256, 341)),  # 341.33
        ((410, 547), 256, 384, (273, 365)),  # 273.33, 364.67
        ((384, 512), 128, 384, (128, 171)),
        ((384, 512), 512, 384, (512, 683)),
        ((2, 3), 1, 4, (1, 1)),  # 0.5 and 0.75 go up
        ((2, 9), 1, 8, (1, 1)),  # 0.25 does not vanish
    ],
)
def test_network_size_has_one_factor_whatever_the_first_size(shape, network, canonical, expected):
    array = np.zeros((*shape, 3), np.uint8)
    seen = protocol.to_network(array, network, protocol=Protocol(canonical_side=canonical))
    assert seen.shape == (*expected, 3)


def test_network_size_of_the_same_size_is_the_same_array():
    array = np.zeros((10, 12, 3), np.uint8)
    assert protocol.to_network(array, 384, protocol=Protocol()) is array


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 100))
def test_crops_lie_where_torchvision_puts_them(height, width, crop):
    image = torch.arange(height * width).reshape(1, height, width)
    size = min(crop, height, width)
    (top, left, side) = protocol.crop_boxes(height, width, crop)[0]
    assert side == size
    assert torch.equal(image[:, top : top + size, left : left + size], tvf.center_crop(image, [size, size]))
    ours = [
        image[:, t : t + s, x : x + s] for t, x, s in protocol.crop_boxes(height, width, crop, mode="five")
    ]
    for mine, theirs in zip(ours, tvf.five_crop(image, [size, size]), strict=True):
        assert torch.equal(mine, theirs)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_random_crop_stays_inside_and_reaches_both_ends(height, width, data):
    size = data.draw(st.integers(1, min(height, width)))
    draw = st.floats(0, 1, exclude_max=True)
    top, left = protocol.random_crop(height, width, (size, size), (data.draw(draw), data.draw(draw)))
    assert 0 <= top <= height - size and 0 <= left <= width - size
    assert protocol.random_crop(height, width, (size, size), (0.0, 0.0)) == (0, 0)
    assert protocol.random_crop(height, width, (size, size), (1 - 2**-53, 1 - 2**-53)) == (
        height - size,
        width - size,
    )


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"canonical_side": 0}, ValueError),
        ({"canonical_side": 384.0}, TypeError),
        ({"crop": -1}, ValueError),
        ({"crop": True}, TypeError),
        ({"network_side": ()}, ValueError),
        ({"network_side": (256, 0)}, ValueError),
        ({"network_side": "256"}, TypeError),
        ({"network_side": 10**9}, ValueError),
        ({"jitter": ()}, ValueError),
        ({"jitter": 384}, TypeError),
        ({"jitter": (356, 384.5)}, TypeError),
        ({"resample": "nearest"}, ValueError),
    ],
)
def test_wrong_settings_are_named(setting, error):
    with pytest.raises(error, match=f"`{next(iter(setting))}`"):
        Protocol(**setting)


# --- decoding ----------------------------------------------------------------------------------------------

# How a stored array is turned upright, by the words of the EXIF standard (row 0 and column 0 of the file
# are the picture's top and left, top and right, bottom and right, ...).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def stored(image, form="PNG", **options):
    """The image as a reader of its file gets it."""
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return Image.open(file)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}}.get(form, {})
    image = photo(13, 7)
    flat = np.array(stored(image, form, **options))
    turned = stored(image, form, exif=exif, **options)
    assert np.array_equal(np.array(protocol.to_rgb(turned)), UPRIGHT[orientation](flat))


def test_orientation_that_a_loader_kept_is_applied_and_one_that_it_applied_is_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = stored(photo(13, 7), "PNG", exif=exif)
    assert protocol.to_rgb(image.convert("RGB")).size == (7, 13)
    assert protocol.to_rgb(ImageOps.exif_transpose(image)).size == (7, 13)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_turned_once(orientation, form):
    """What is upright stays so, however often it is converted."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    once = protocol.to_rgb(stored(photo(13, 7), form, exif=exif))
    assert np.array_equal(np.array(protocol.to_rgb(once)), np.array(once))
    assert np.array_equal(np.array(ImageOps.exif_transpose(once)), np.array(once))


def test_an_image_turned_by_xmp_is_turned_once():
    """Pillow reads an orientation there too, where EXIF has none."""
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    image = stored(photo(13, 7), "JPEG", xmp=xmp)
    once = protocol.to_rgb(image)
    assert once.size == (7, 13) and protocol.to_rgb(once).size == (7, 13)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12"])
def test_broken_exif_counts_as_upright(exif):
    image = photo(13, 7)
    image.info["exif"] = exif
    assert np.array_equal(np.array(protocol.to_rgb(image)), np.array(photo(13, 7)))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_unknown_orientation_counts_as_upright(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert protocol.to_rgb(stored(photo(13, 7), exif=exif)).size == (13, 7)


def pixel(image):
    rgb = protocol.to_rgb(image)
    assert rgb.mode == "RGB"
    return rgb.getpixel((0, 0))


def palette(transparency):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([255, 0, 0, 0, 200, 100])
    image.info["transparency"] = transparency
    return image


def tinted(mode, color, **info):
    image = Image.new(mode, (2, 2), color)
    image.info.update(info)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (tinted("RGB", (1, 2, 3)), (1, 2, 3)),
        (tinted("L", 77), (77, 77, 77)),
        (tinted("1", 1), (255, 255, 255)),
        (tinted("LA", (10, 0)), (255, 255, 255)),
        (tinted("LA", (10, 255)), (10, 10, 10)),
        (tinted("LA", (10, 255)).convert("La"), (10, 10, 10)),
        (tinted("RGBA", (9, 8, 7, 255)), (9, 8, 7)),
        (tinted("RGBA", (9, 8, 7, 0)), (255, 255, 255)),
        (tinted("RGBA", (0, 100, 200, 51)), (204, 224, 244)),  # 0.2 of the colour, 0.8 of white
        (tinted("RGBA", (0, 100, 200, 255)).convert("RGBa"), (0, 100, 200)),
        (palette(1), (255, 255, 255)),
        (palette(0), (0, 200, 100)),
        (palette(bytes([0, 255])), (0, 200, 100)),
        (palette(bytes([255, 0])), (255, 255, 255)),
        (tinted("RGB", (1, 2, 3), transparency=(1, 2, 3)), (255, 255, 255)),
        (tinted("L", 9, transparency=9), (255, 255, 255)),
        (tinted("L", 9, transparency=8), (9, 9, 9)),
        (tinted("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (tinted("CMYK", (0, 0, 0, 255)), (0, 0, 0)),
        (tinted("YCbCr", (255, 128, 128)), (255, 255, 255)),
        (tinted("HSV", (0, 255, 255)), (255, 0, 0)),
        (tinted("I;16", 65535), (255, 255, 255)),
        (tinted("I;16", 128), (0, 0, 0)),  # 0.498
        (tinted("I;16", 129), (1, 1, 1)),  # 0.502
        (tinted("I;16B", 32896), (128, 128, 128)),
        (tinted("I", 32896), (128, 128, 128)),
        (tinted("I", 0), (0, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_becomes_rgb(image, expected):
    before = image.mode, image.tobytes(), dict(image.info)
    assert pixel(image) == expected
    assert (image.mode, image.tobytes(), dict(image.info)) == before


def test_sixteen_bit_png_keeps_its_range():
    levels = np.array([[0, 257, 514], [32768, 65278, 65535]], dtype=np.uint16)
    image = stored(Image.fromarray(levels))
    assert np.array(protocol.to_rgb(image))[..., 0].tolist() == [[0, 1, 2], [128, 254, 255]]


def png(levels, *transparent):
    """A PNG file of 16 bits a channel, grey or RGB, with a colour marked transparent; Pillow writes none."""
    levels = np.array(levels, dtype=">u2")
    height, width = levels.shape[:2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    parts = chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(
    ("transparent", "expected"),
    [
        (1000, [0, 255, 4, 4, 255]),  # of three that are 4 in 8 bits one alone
        (4, [0, 4, 4, 4, 255]),  # in 8 bits it would be all three
        (0, [255, 4, 4, 4, 255]),
        (65535, [0, 4, 4, 4, 255]),
    ],
)
def test_a_transparent_level_of_sixteen_bits_is_laid_on_white(transparent, expected, loaded):
    with Image.open(png([[0, 1000, 1001, 1028, 65535]], transparent)) as image:
        if loaded:
            image.load()
        assert image.info["transparency"] == transparent  # in units of the file
        assert np.asarray(protocol.to_rgb(image))[0].tolist() == [[level] * 3 for level in expected]
        assert image.info["transparency"] == transparent


def test_a_transparent_level_in_mode_i_is_one_of_sixteen_bits():
    image = Image.new("I", (2, 1), 1001)
    image.putpixel((0, 0), 1000)
    image.info["transparency"] = 1000
    assert np.asarray(protocol.to_rgb(image))[0, :, 0].tolist() == [255, 4]


def test_a_transparent_colour_of_sixteen_bits_is_laid_on_white():
    """Pillow reads such files in 8 bits, and leaves the mark in 16."""
    with Image.open(png([[[1000, 2000, 3000], [40000, 5000, 6000]]], 1000, 2000, 3000)) as image:
        before = dict(image.info)
        assert np.asarray(protocol.to_rgb(image))[0].tolist() == [[255, 255, 255], [156, 19, 23]]
        assert image.info == before


def test_cmyk_jpeg_comes_out_in_its_colours():
    red = stored(Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK"), "JPEG", quality=100)
    assert red.mode == "CMYK"
    assert np.abs(np.array(pixel(red)) - (200, 30, 40)).max() <= 4


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000), ("I", -1)])
def test_a_mode_without_range_is_refused(mode, value):
    with pytest.raises(ValueError, match=r"`image`.*8"):
        protocol.to_canonical(Image.new(mode, (4, 4), value), 8)


def test_arrays_are_refused():
    with pytest.raises(TypeError, match=r"`image`.*ndarray.*Image\.fromarray"):
        protocol.to_canonical(np.zeros((4, 4, 3), np.uint8))


# --- canonical size ----------------------------------------------------------------------------------------


def test_canonical_is_pillows_antialiased_bilinear():
    image = photo(200, 150)
    assert np.array_equal(
        protocol.to_canonical(image, 40), np.array(image.resize((53, 40), Image.Resampling.BILINEAR))
    )
    # torchvision's antialiased bilinear is the same filter; it differs by rounding only.
    theirs = tvf.resize(tvf.pil_to_tensor(image), [40, 53], antialias=True).permute(1, 2, 0).numpy()
    assert np.abs(protocol.to_canonical(image, 40).astype(int) - theirs).max() <= 1


def test_another_filter_is_used_where_asked():
    image = photo(200, 150)
    cubic = protocol.to_canonical(image, 40, resample="bicubic")
    assert np.array_equal(cubic, np.array(image.resize((53, 40), Image.Resampling.BICUBIC)))
    with pytest.raises(ValueError, match=r"`resample`.*bilinear"):
        protocol.to_canonical(image, 40, resample="nearest")


def test_one_pixel_becomes_a_constant_image():
    assert np.array_equal(
        protocol.to_canonical(Image.new("RGB", (1, 1), (3, 4, 5)), 6), np.full((6, 6, 3), (3, 4, 5))
    )


def test_extreme_aspect_ratio_works_up_to_a_limit():
    assert protocol.to_canonical(Image.new("L", (200, 1)), 8).shape == (8, 1600, 3)
    with pytest.raises(ValueError, match=r"200:1.*1 x 201 px"):
        protocol.to_canonical(Image.new("L", (1, 201)), 8)
    with pytest.raises(ValueError, match="0 x 5"):
        protocol.to_canonical(Image.new("L", (0, 5)), 8)


def test_the_canonical_array_is_the_callers_own():
    image = photo(8, 8)
    array = protocol.to_canonical(image, 8)
    array[:] = 0
    assert np.array(image).any()


# --- blur --------------------------------------------------------------------------------------------------


def test_sharp_is_the_same_array():
    array = np.array(photo())
    assert protocol.blurred(array, Sharp()) is array


@pytest.mark.parametrize("blur", [Disk(2), Disk(4), Box(8), Box(5, vertical=True)], ids=str)
def test_blur_is_the_rounded_convolution(blur):
    array = np.array(photo())
    before = array.copy()
    result = protocol.blurred(array, blur)
    assert result.dtype == np.uint8 and result.shape == array.shape
    assert np.array_equal(result, slow_blur(array, blur))
    assert np.array_equal(array, before)


def test_blur_keeps_rows_and_columns_apart():
    array = np.zeros((21, 31, 3), np.uint8)
    array[10, 15] = 255
    rows, columns = np.nonzero(protocol.blurred(array, Box(5))[..., 0])
    assert set(rows) == {10} and sorted(columns) == [13, 14, 15, 16, 17]


def test_border_is_passed_on():
    array = np.full((9, 9, 3), 200, np.uint8)
    assert protocol.blurred(array, Disk(2)).min() == 200
    assert protocol.blurred(array, Disk(2), border="zeros").min() < 200


def test_an_images_own_shake_must_be_chosen_first():
    with pytest.raises(ValueError, match="shake"):
        protocol.blurred(np.array(photo()), PerImageShake())


# --- evaluation --------------------------------------------------------------------------------------------


def test_evaluation_is_canonical_blur_round_resize_crop():
    image, blurs = photo(80, 60), [Sharp(), Disk(4), Box(8)]
    views = protocol.evaluation_views(
        image, blurs, protocol=Protocol(network_side=(32, 64), canonical_side=48, crop=28)
    )
    assert sorted(views) == [(b, s) for b in range(3) for s in (32, 64)]
    canonical = np.array(image.resize((64, 48), Image.Resampling.BILINEAR))
    for position, blur in enumerate(blurs):
        array = canonical if blur == Sharp() else slow_blur(canonical, blur)
        for side, size in ((32, (43, 32)), (64, (85, 64))):
            seen = np.array(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))
            expected = tvf.center_crop(torch.from_numpy(seen).permute(2, 0, 1), [28, 28])
            assert views[position, side].dtype == torch.uint8
            assert torch.equal(views[position, side], expected[None])


def test_a_shake_is_applied_too():
    views = protocol.evaluation_views(
        photo(), [Shake(3), Sharp()], protocol=Protocol(network_side=(47,), canonical_side=47, crop=47)
    )
    assert not torch.equal(views[0, 47], views[1, 47])


def test_crop_is_the_side_where_the_side_is_smaller():
    views = protocol.evaluation_views(
        photo(80, 60), [Sharp()], protocol=Protocol(network_side=(20,), canonical_side=40, crop=28)
    )
    assert views[0, 20].shape == (1, 3, 20, 20)


def test_five_crops_and_dense():
    image = photo(80, 60)
    five = protocol.evaluation_views(
        image, [Sharp()], protocol=Protocol(network_side=(32,), canonical_side=60, crop=28), crops="five"
    )
    dense = protocol.evaluation_views(
        image, [Sharp()], protocol=Protocol(network_side=(32,), canonical_side=60, crop=28), crops="dense"
    )
    assert dense[0, 32].shape == (1, 3, 32, 43)
    assert torch.equal(five[0, 32], torch.stack(tvf.five_crop(dense[0, 32][0], [28, 28])))


# --- training ----------------------------------------------------------------------------------------------

SMALL = Protocol(canonical_side=48, network_side=32, crop=24)


def draws(seed, epoch, index):
    return rng.uniform(5, seed=seed, key=(epoch, index, GEOMETRY)).tolist()


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("blur", [Sharp(), Disk(3)], ids=str)
def test_training_is_first_size_blur_round_resize_crop_flip(index, blur):
    """Step by step from Pillow and a slow convolution, with the same keyed numbers."""
    settings = Protocol(canonical_side=48, network_side=(32, 40), crop=24)
    first, second, row, column, flip = draws(5, 2, index)
    side = (45, 48, 51)[int(3 * first)]  # 44.5 goes up, 48, 51.25
    image = photo(80, 60)
    array = np.array(image.resize((round(side * 4 / 3), side), Image.Resampling.BILINEAR))
    array = array if blur == Sharp() else slow_blur(array, blur)
    network = (32, 40)[int(2 * second)]
    height, width = (int(n * network / 48 + 0.5) for n in array.shape[:2])
    array = np.array(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
    top, left = int(row * (height - 23)), int(column * (width - 23))
    array = array[top : top + 24, left : left + 24]
    array = array[:, ::-1] if flip < 0.5 else array
    view, _ = protocol.training_view(
        image, None, blur, protocol=settings, seed=5, epoch=2, index=index, hflip=0.5
    )
    assert view.dtype == torch.uint8 and view.is_contiguous()
    assert np.array_equal(view.permute(1, 2, 0).numpy(), array)


def test_training_depends_on_the_key_and_on_each_part_of_it():
    image = photo(80, 60)

    def view(**key):
        return protocol.training_view(
            image, None, Disk(2), protocol=SMALL, **{"seed": 1, "epoch": 2, "index": 3} | key
        )[0]

    torch.manual_seed(7)
    first = view()
    torch.manual_seed(8)
    assert torch.equal(first, view())
    for part in ("seed", "epoch", "index"):
        assert any(not torch.equal(first, view(**{part: other})) for other in (10, 11, 12))


def test_every_first_size_network_side_corner_and_flip_occurs_as_often_as_it_should():
    numbers = np.array([draws(0, 0, index) for index in range(3000)])
    for count, column in ((3, 0), (2, 1), (14, 2), (14, 3)):
        frequencies = np.bincount((numbers[:, column] * count).astype(int), minlength=count) / 3000
        assert np.abs(frequencies - 1 / count).max() < 4 * np.sqrt(1 / count / 3000)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(5)).max() < 0.08


def test_all_training_views_of_one_network_side_stack():
    small = Protocol(canonical_side=48, network_side=16, crop=24)
    shapes = {
        protocol.training_view(photo(80, 60), None, Sharp(), protocol=small, index=index)[0].shape
        for index in range(20)
    }
    assert shapes == {(3, 15, 15)}  # 45 * 16 / 48 = 15


def test_flip_follows_its_probability():
    image, sides = photo(80, 60), {}
    for hflip in (0.0, 1.0):
        sides[hflip], _ = protocol.training_view(image, None, Disk(2), protocol=SMALL, index=4, hflip=hflip)
    assert torch.equal(sides[0.0].flip(-1), sides[1.0]) and not torch.equal(sides[0.0], sides[1.0])


def test_one_blur_has_one_size_at_the_network_whatever_the_first_size():
    """A point in photographs of three first sizes is smeared over the same number of network pixels."""
    spreads = []
    for side in (356, 384, 410):
        array = np.zeros((side, side, 3), np.uint8)
        array[side // 2 - 1 : side // 2 + 1, :] = 255
        array = protocol.to_network(protocol.blurred(array, Box(96, vertical=True)), 256, protocol=Protocol())
        spreads.append(int((array[:, 100, 0] > 2).sum()))
    assert max(spreads) - min(spreads) <= 1 and 64 <= min(spreads) <= 67


# --- normalisation -----------------------------------------------------------------------------------------


class Configured(nn.Identity):
    def __init__(self, name, config):
        super().__init__()
        setattr(self, name, config)


class Config:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def own_normalisation(model, mean=None, std=None):
    return protocol.normalisation(model, mean, std)


def test_normalisation_is_the_models_then_imagenets():
    own = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    expected = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert own_normalisation(nn.Identity()) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert own_normalisation(Configured("pretrained_cfg", own)) == expected
    assert own_normalisation(Configured("default_cfg", own)) == expected
    assert own_normalisation(Configured("pretrained_cfg", Config())) == expected
    assert own_normalisation(Configured("pretrained_cfg", {"url": ""})) == own_normalisation(nn.Identity())
    mean, std = own_normalisation(Configured("pretrained_cfg", own), mean=[0.5, 0.5, 0.5])
    assert (mean, std) == ((0.5, 0.5, 0.5), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"mean": 0.5}, TypeError),
        ({"mean": "abc"}, TypeError),
        ({"mean": (0.5, 0.5)}, ValueError),
        ({"mean": (0.5, 0.5, float("nan"))}, ValueError),
        ({"std": (0.5, 0.5, 0.0)}, ValueError),
        ({"std": (0.5, 0.5, -1.0)}, ValueError),
        ({"mean": (123.7, 116.3, 103.5)}, ValueError),  # of 0 to 255
        ({"std": (58.4, 57.1, 57.4)}, ValueError),
        ({"mean": (-0.1, 0.5, 0.5)}, ValueError),
    ],
)
def test_wrong_normalisation_is_named(setting, error):
    with pytest.raises(error, match=f"`{next(iter(setting))}`"):
        own_normalisation(nn.Identity(), **setting)


OWN = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bicubic", "crop_pct": 0.9}


def configured(config=OWN):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network.pretrained_cfg = config
    return network


class Around(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(2, 3)


def vgg():
    with torch.device("meta"):  # the head of 120 million weights takes a second
        network = VGG(nn.Sequential(), init_weights=False)
    network.features = make_layers([4, "M"])
    network.classifier = nn.Sequential(nn.Linear(4 * 49, 5), nn.ReLU(), nn.Linear(5, 2))
    network.pretrained_cfg = OWN
    return network


WRAPPED = {
    "DataParallel": lambda: nn.DataParallel(configured()),
    "Sequential": lambda: nn.Sequential(configured(), nn.Softmax(1)),
    "AveragedModel": lambda: AveragedModel(configured()),
    "compile": lambda: torch.compile(configured()),
    "compile of DataParallel": lambda: torch.compile(nn.DataParallel(configured())),
    "a module of one's own": lambda: Around(nn.DataParallel(configured())),
    "MultiScale": lambda: MultiScale(configured(), (32, 48), crops="center", crop=24),
    "PerScale": lambda: PerScale({32: configured(), 48: configured()}, crops="center", crop=24),
    "DataParallel of PerScale": lambda: nn.DataParallel(WRAPPED["PerScale"]()),
    "dense": lambda: dense(vgg()),
    "dense MultiScale": lambda: MultiScale(vgg(), (32,)),
    "dense of DataParallel": lambda: dense(nn.DataParallel(vgg())),
    "ZoomOut": lambda: ZoomOut(vgg(), 3, hidden=4),
    "copy": lambda: copy.deepcopy(nn.DataParallel(configured())),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_normalisation_is_found_in_wrappers(name):
    """It was ImageNet's, without a word, in every wrapper but torch.compile's."""
    model = WRAPPED[name]()
    assert own_normalisation(model) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert protocol.normalisation_source(model, None, None) == "model"
    assert protocol.normalisation_source(model, (0.5,) * 3, None) == "mean given, std model"
    behind = DeblurThenClassify(model, "wiener", "D8")
    assert (behind.colours, behind.colours_source) == (((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), "model")


def test_where_normalisation_comes_from():
    assert protocol.normalisation_source(nn.Identity(), None, None) == "assumed"
    assert protocol.normalisation_source(nn.Identity(), (0, 0, 0), (1, 1, 1)) == "given"
    outer = Around(configured())
    outer.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.25,) * 3}  # a network hides its parts
    assert own_normalisation(outer) == ((0.5,) * 3, (0.25,) * 3)


def test_networks_with_different_normalisation_are_refused():
    both = PerScale({32: configured(), 48: configured({**OWN, "mean": [0.5] * 3})}, crops="center", crop=24)
    with pytest.raises(ValueError, match=r"`mean` must be given where the networks .*0\.1.* and \(0\.5"):
        own_normalisation(both)
    assert own_normalisation(both, mean=(0.5,) * 3) == ((0.5,) * 3, OWN["std"])


def test_a_configuration_of_0_to_255_is_refused():
    with pytest.raises(ValueError, match=r"`mean` .* divide values of 0 to 255 by 255"):
        own_normalisation(configured({"mean": (123.7, 116.3, 103.5), "std": (1, 1, 1)}))


@pytest.mark.parametrize("layer", [torchvision.transforms.Normalize, torchvision.transforms.v2.Normalize])
def test_a_network_that_normalises_by_itself_must_say_so(layer):
    network = nn.Sequential(layer([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), nn.Conv2d(3, 2, 1))
    with pytest.raises(ValueError, match=r"`mean` must be given where `model` has a layer Normalize"):
        own_normalisation(network)
    assert own_normalisation(network, (0, 0, 0), (1, 1, 1)) == ((0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match=r"`mean` must be given where `model` has a layer Normalize"):
        own_normalisation(nn.Sequential(network[0], configured()))


@pytest.mark.parametrize(
    ("shown", "ignored"),
    [
        ({"resample": "bicubic", "sides": (249,), "crop": 224}, {}),  # 224 / 0.9, as timm resizes
        ({"resample": "bicubic", "sides": (256,), "crop": 224}, {"crop_pct": 0.9}),
        ({"resample": "bilinear", "sides": (248, 249), "crop": 224}, {"interpolation": "bicubic"}),
        ({"resample": "bicubic", "sides": (249, 512), "crop": 224}, {"crop_pct": 0.9}),
        ({"resample": "bilinear", "sides": (256,)}, {"interpolation": "bicubic", "crop_pct": 0.9}),
    ],
)
def test_what_a_configuration_says_otherwise(shown, ignored):
    found = ignored_config(nn.DataParallel(configured()), **shown)
    assert found == ({"config_not_applied": ignored} if ignored else {})
    assert ignored_config(nn.Identity(), **shown) == {}


def test_a_vit_of_timm_in_wrappers():
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    for model in (network, nn.DataParallel(network), nn.Sequential(network)):
        assert own_normalisation(model) == ((0.5,) * 3, (0.5,) * 3)
        assert ignored_config(model, resample="bilinear", sides=(256,), crop=224) == {
            "config_not_applied": {"interpolation": "bicubic", "crop_pct": 0.9}
        }


def test_normalised_is_torchvisions():
    batch = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    before = batch.clone()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = protocol.normalised(batch, mean, std)
    theirs = tvf.normalize(tvf.to_dtype(batch, torch.float32, scale=True), list(mean), list(std))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(batch, before)
