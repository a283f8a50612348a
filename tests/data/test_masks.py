"""Images with masks: listings, what is refused, and that image and mask stay aligned through every step."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCSegmentation

from blurlib.blurs import Disk, Sharp
from blurlib.data import Skipped, check_masks, mask_array, open_masks
from blurlib.protocol import Protocol, evaluation_views, scaled_size, training_view

SIZES = [(40, 30), (31, 50), (64, 24)]


def voc(folder, year="2012", names=("one", "two", "three")):
    """The layout of VOCSegmentation; every size another, indices with a palette."""
    place = folder / "VOCdevkit" / f"VOC{year}"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in zip(names, SIZES, strict=True):
        noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "JPEGImages" / f"{name}.jpg")
        mask = Image.fromarray(rng.integers(0, 3, (size[1], size[0]), dtype=np.uint8), mode="P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
        mask.save(place / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (place / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return place


@pytest.fixture
def root(tmp_path):
    voc(tmp_path)
    return tmp_path


# torchvision leaves the files open that it reads.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_is_read_as_torchvision_reads_it(root):
    listing = open_masks(root, split="val")
    theirs = VOCSegmentation(str(root), year="2012", image_set="val")
    assert len(listing) == len(theirs) == 3
    for position in range(3):
        image, mask = listing.load(position)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(theirs[position][0]))
        np.testing.assert_array_equal(mask, np.asarray(theirs[position][1]))
    assert [listing.id(position) for position in range(3)] == ["one", "two", "three"]
    from_dataset = open_masks(theirs, split="val")
    np.testing.assert_array_equal(from_dataset.load(2)[1], listing.load(2)[1])
    assert from_dataset.id(2) == "2"


@pytest.mark.parametrize("inside", [".", "VOCdevkit/VOC2012"])
def test_the_folder_may_be_that_of_the_year(root, inside):
    assert len(open_masks(root / inside, split="train")) == 3


def test_another_year_is_found(tmp_path):
    voc(tmp_path, year="2007")
    assert len(open_masks(tmp_path, split="val")) == 3


def test_a_subset_is_seeded_and_keeps_places(root):
    some = open_masks(root, split="val", limit=2, seed=1)
    assert len(some) == 2
    assert some.index.tolist() == sorted(some.index.tolist())
    again = open_masks(some, split="val")
    assert [again.id(n) for n in range(2)] == [some.id(n) for n in range(2)]
    assert some.digest() == again.digest() != open_masks(root, split="val").digest()
    assert len(open_masks(root, split="val", limit=99)) == 3
    assert {tuple(open_masks(root, split="val", limit=1, seed=seed).index.tolist()) for seed in range(9)} > {
        (0,)
    }


# Alignment


def painted(width, height):
    """Its own coordinates: red and green tell the column and the row, in fifteenths, as the mask does."""
    rows, columns = np.indices((height, width))
    cells = (15 * rows // height) * 15 + 15 * columns // width
    picture = np.stack([255 * columns / (width - 1), 255 * rows / (height - 1), np.zeros_like(rows)], axis=-1)
    return Image.fromarray(picture.round().astype(np.uint8)), cells.astype(np.uint8)


def whole_view(image, protocol):
    """What the network sees of a sharp image."""
    (view,) = evaluation_views(image, [Sharp()], protocol=protocol, crops="dense").values()
    return view[0]


def told(picture, labels):
    """Where picture and mask say that each pixel was, in shares of the image."""
    columns, rows = picture[0].numpy() / 255, picture[1].numpy() / 255
    return (rows, columns), ((labels // 15 + 0.5) / 15, (labels % 15 + 0.5) / 15)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(measure="geometric", canonical_side=96, crop=1000),
        Protocol(measure="geometric", canonical_side=96, network_side=64, crop=40),
        Protocol(measure="geometric", canonical_side=96, network_side=(48, 80), crop=56),
        Protocol(measure="geometric", canonical_side=96, network_size=(50, 120)),
        Protocol(measure="geometric", canonical_side=96, jitter=(80, 110), crop=64),
    ],
    ids=["canonical", "smaller", "sides", "anisotropic", "jitter"],
)
@pytest.mark.parametrize("blur", [Sharp(), Disk(3)])
@pytest.mark.parametrize("size", [(120, 90), (75, 140)])
def test_masks_follow_their_images(protocol, blur, size):
    image, mask = painted(*size)
    seen = set()
    for index in range(6):
        picture, labels = training_view(image, mask, blur, protocol=protocol, index=index, hflip=0.5)
        assert picture.shape[1:] == labels.shape
        by_picture, by_mask = told(picture, labels)
        for one, other in zip(by_picture, by_mask, strict=True):
            # A cell of the mask spans a fifteenth; at the border the blur reflects.
            inner = slice(4, -4), slice(4, -4)
            assert np.abs(one[inner] - other[inner]).max() < 0.5 / 15 + 0.02
        seen.add(bool(by_picture[1][0, 0] > by_picture[1][0, -1]))
    assert seen == {True, False}  # flipped ones among them


@pytest.mark.parametrize("size", [(120, 90), (75, 140)])
def test_predictions_meet_the_label_image(size):
    """A network that reads the painted coordinates finds every cell of the mask at the mask's own size."""
    from blurlib.models import pixel_logits

    image, mask = painted(*size)
    for protocol in (
        Protocol(measure="geometric", canonical_side=96),
        Protocol(measure="geometric", canonical_side=96, network_size=(60, 77)),
    ):
        view = whole_view(image, protocol)
        back = pixel_logits(view[None].float(), mask.shape)[0]
        rows, columns = told(back, mask)[0]
        expected = told(back, mask)[1]
        assert np.abs(rows - expected[0]).max() < 0.5 / 15 + 0.02
        assert np.abs(columns - expected[1]).max() < 0.5 / 15 + 0.02


def test_labels_are_taken_and_never_mixed():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    mask = np.where(np.indices((60, 80)).sum(axis=0) // 5 % 2, 7, 200).astype(np.uint8)
    _, labels = training_view(
        image, mask, Disk(4), protocol=Protocol(measure="geometric", canonical_side=50, crop=1000)
    )
    assert set(np.unique(labels).tolist()) == {7, 200}


def test_sizes_follow_the_geometric_mean():
    protocol = Protocol(measure="geometric")
    width, height = scaled_size(500, 375, 384, measure="geometric")
    assert (width * height) ** 0.5 == pytest.approx(384, abs=1)
    assert width / height == pytest.approx(500 / 375, abs=0.01)
    view = whole_view(Image.new("RGB", (500, 375)), protocol)
    assert view.shape == (3, height, width)
    small = Protocol(measure="geometric", network_side=192)
    assert whole_view(Image.new("RGB", (500, 375)), small).shape == (3, 167, 222)


def test_draws_depend_on_seed_epoch_and_index_alone():
    image, mask = painted(120, 90)
    protocol = Protocol(measure="geometric", canonical_side=96, network_side=(48, 80), crop=40)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    pairs = [
        training_view(image, mask, Sharp(), protocol=protocol, seed=seed, epoch=epoch, index=index)
        for seed, epoch, index in [*keys, keys[0]]
    ]
    assert torch.equal(pairs[0][0], pairs[-1][0])
    assert not any(
        torch.equal(pairs[0][0], other[0]) for other in pairs[1:-1] if other[0].shape == pairs[0][0].shape
    )


# What is refused


def test_masks_of_another_size_are_named(root):
    place = root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "two.png"
    Image.new("L", (9, 9)).save(place)
    listing = open_masks(root, split="val")
    with pytest.raises(
        ValueError, match=r"cannot use .*two\.png: ValueError: a mask must have the size .* 9 x 9 .* 31 x 50"
    ):
        listing.load(1)
    listing.on_error = "skip"
    assert isinstance(listing.view(1, lambda *_: 1), Skipped)
    with pytest.raises(ValueError, match="size of its image"):
        training_view(
            Image.new("RGB", (4, 4)),
            np.zeros((5, 4), np.uint8),
            Sharp(),
            protocol=Protocol(measure="geometric"),
        )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_pictures_are_no_masks(root, mode):
    place = root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "one.png"
    Image.new(mode, SIZES[0]).save(place)
    with pytest.raises(
        ValueError, match=rf"one\.png: ValueError: a mask must hold class indices .* mode '{mode}'"
    ):
        open_masks(root, split="val").load(0)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), ValueError, r"shape \(H, W\)"),
        (np.zeros((2, 3)), ValueError, "whole numbers"),
        (np.full((2, 3), 300), ValueError, "labels from 0 to 254, .* got 300"),
        (np.full((2, 3), -1), ValueError, "got -1"),
        ([[0, 1]], TypeError, "a Pillow image, an array or a tensor, got list"),
    ],
)
def test_what_is_no_mask(mask, error, message):
    with pytest.raises(error, match=message):
        mask_array(mask)


def test_masks_of_every_kind():
    expected = [[0, 1], [2, 255]]
    array = np.array(expected)
    kinds = [Image.fromarray(array.astype(np.uint8)), array, torch.tensor(array), array.astype(np.int32)]
    kinds.append(Image.fromarray(array.astype(np.int32)))
    for mask in kinds:
        assert mask_array(mask).tolist() == expected
    assert mask_array(np.array([[True, False]])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: open_masks(p / "none", split="val"), FileNotFoundError, "not there"),
        (lambda p: open_masks(p, split="val"), FileNotFoundError, "VOCdevkit/VOC2012/ImageSets/Segmentation"),
        (lambda _: open_masks([], split="val"), ValueError, "at least one image"),
        (lambda _: open_masks([1], split="test"), ValueError, "`split`"),
        (lambda _: open_masks([1], split="val", on_error="x"), ValueError, "`on_error`"),
        (lambda _: open_masks(iter([]), split="val"), ValueError, "at least one image"),
        (lambda _: open_masks([1], split="val").load(0), TypeError, r"dataset of \(PIL image, mask\)"),
        (
            lambda _: open_masks(open_masks([1], split="val"), split="train"),
            ValueError,
            "split='train'",
        ),
        (lambda _: Protocol(measure="geometric", network_size=(3,)), ValueError, r"\(height, width\)"),
        (
            lambda _: Protocol(measure="geometric", network_size=(3, 3), network_side=4),
            ValueError,
            "left out",
        ),
        (
            lambda _: Protocol(network_size=(3, 3)),
            ValueError,
            "left out where the measure is the shorter side",
        ),
        (lambda _: Protocol(measure="longer"), ValueError, "`measure` must be one of shorter, geometric"),
        (lambda _: Protocol(measure="geometric", network_side=()), ValueError, "at least one side"),
        (lambda _: Protocol(measure="geometric", crop=0), ValueError, "`crop`"),
    ],
)
def test_bad_input_is_named(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        make(tmp_path)


def test_missing_files_are_named(root):
    place = root / "VOCdevkit" / "VOC2012"
    (place / "JPEGImages" / "one.jpg").unlink()
    (place / "SegmentationClass" / "two.png").write_bytes(b"no picture")
    listing = open_masks(root, split="val")
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/one\.jpg, which is missing"):
        listing.load(0)
    with pytest.raises(ValueError, match=r"cannot read .*two\.png"):
        listing.load(1)
    (place / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="a list of its val images"):
        open_masks(root, split="val")


# Photographs that are stored turned


def turned(image, orientation):
    """As a camera stores it that was held so: turned by its EXIF orientation, it is the image again."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(undo[orientation]) if orientation in undo else image


def opened(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Where sizes do not tell (1 to 4), a mask counts as upright; Pillow turns TIFF files as it opens them.
TURNED = [
    *(("upright", form, orientation) for form in ("JPEG", "PNG", "TIFF") for orientation in range(1, 9)),
    *(("as the photograph", form, orientation) for form in ("JPEG", "PNG") for orientation in range(5, 9)),
    *(("with an orientation of its own", "JPEG", orientation) for orientation in range(1, 9)),
]


@pytest.mark.parametrize(("stored", "form", "orientation"), TURNED)
def test_turned_photographs_meet_their_masks(stored, form, orientation):
    """Painted coordinates: image and mask say the same of each pixel, in evaluation and in training."""
    picture, cells = painted(120, 90)
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    photograph = opened(turned(picture, orientation), form, exif=exif_of(orientation), **options)
    mask = Image.fromarray(cells)
    if stored != "upright":
        exif = exif_of(orientation) if "own" in stored else None
        mask = opened(turned(mask, orientation), "PNG", **({"exif": exif} if exif else {}))
    image, labels = open_masks([(photograph, mask)], split="val").load(0)
    assert image.size == (120, 90)
    np.testing.assert_array_equal(labels, cells)
    protocol = Protocol(measure="geometric", canonical_side=96, crop=64)
    for array, found in (
        (whole_view(image, protocol), None),
        training_view(image, labels, Sharp(), protocol=protocol, hflip=0.5),
    ):
        if found is None:  # evaluation never touches the mask: brought to its size, the picture must agree
            array = torch.nn.functional.interpolate(array[None].float(), cells.shape, mode="bilinear")[0]
            found = labels
        for one, other in zip(*told(array, found), strict=True):
            assert np.abs(one - other).max() < 0.5 / 15 + 0.04


def test_a_turned_mask_of_another_size_is_named():
    photograph = opened(Image.new("RGB", (40, 30)), "JPEG", exif=exif_of(6))
    with pytest.raises(ValueError, match="got 30 x 41 px for an image of 30 x 40 px"):
        open_masks([(photograph, Image.new("L", (30, 41)))], split="val").load(0)


# Masks of 0 and 255


def masks_of(*values, size=(6, 4)):
    """Images with masks, each with its values in its first pixels."""
    pairs = []
    for each in values:
        mask = np.zeros(size[::-1], np.uint8)
        mask.flat[: len(each)] = each
        pairs.append((Image.new("RGB", size), Image.fromarray(mask)))
    return pairs


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100])
def test_masks_of_0_and_255_are_refused(count):
    with pytest.raises(ValueError, match=r"`root`.* nothing but 0 and 255 .*== 255\)\.astype\(np\.uint8\)\)"):
        check_masks(open_masks(masks_of(*[[0, 255]] * count), split="val"), workers=0)


def test_backgrounds_first_do_not_hide_masks_of_0_and_255():
    """Folders are sorted, and what has no object may come first."""
    with pytest.raises(ValueError, match="nothing but 0 and 255 in 100 masks"):
        check_masks(open_masks(masks_of(*[[0]] * 16, *[[0, 255]] * 84), split="val"), workers=0)


class Zipped(torch.utils.data.Dataset):
    """Opened where it is first read, as people do who load in workers."""

    def __init__(self, path, count):
        self.path, self.count, self.file = path, count, None

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.file is None:
            self.file = zipfile.ZipFile(self.path)
        return tuple(Image.open(io.BytesIO(self.file.read(f"{name}{index}.png"))) for name in "im")


def test_a_dataset_is_not_opened_before_the_workers_are(tmp_path):
    """Workers that inherit an open file share its place in it, and read each other's bytes."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for index, (image, mask) in enumerate(masks_of(*[[0, 1]] * 20)):
            for name, picture in (("i", image), ("m", mask)):
                stream = io.BytesIO()
                picture.save(stream, "PNG")
                file.writestr(f"{name}{index}.png", stream.getvalue())
    dataset = Zipped(tmp_path / "all.zip", 20)
    check_masks(open_masks(dataset, split="val"), workers=2)
    assert dataset.file is None
    check_masks(open_masks(dataset, split="val"), workers=0)
    assert dataset.file is not None
    dataset.file.close()


@pytest.mark.parametrize(
    "values",
    [
        [[0, 1]] * 3,
        [[0]] * 20,  # no object, and no void
        [[255] * 24] * 20,  # void alone: another error's matter
        [[0, 255]] * 15 + [[0, 1]],
        [[0, 255]] * 16 + [[0, 1]],  # looked at beyond the sixteen, since these hold nothing else
        [[0, 255]] * 60 + [[0, 1, 255]] * 40,
        [[0, 255]] * 97 + [[0, 1, 255]] + [[0, 255]] * 202,  # one alone, where nobody looks at first
    ],
)
def test_masks_with_classes_pass(values):
    check_masks(open_masks(masks_of(*values), split="val"), workers=0)


def test_few_masks_are_looked_at():
    class Counting(list):
        read = 0

        def __getitem__(self, index):
            Counting.read += 1
            return super().__getitem__(index)

    check_masks(open_masks(Counting(masks_of(*[[0, 1]] * 100)), split="val"), workers=0)
    assert Counting.read == 1
    Counting.read = 0
    check_masks(open_masks(Counting(masks_of(*[[0]] * 1000)), split="val"), workers=0)
    assert Counting.read == 16 + 48 - 1  # the first one is among those spread


def test_broken_masks_are_passed_over_where_asked():
    pairs = [(Image.new("RGB", (6, 4)), Image.new("RGB", (6, 4))), *masks_of([0, 255])]
    with pytest.raises(ValueError, match="nothing but 0 and 255"):
        check_masks(open_masks(pairs, split="val", on_error="skip"), workers=0)


# What does not count


def as_mmsegmentation(array):
    """Its LoadAnnotations with reduce_zero_label, pixel by pixel in 8 bits."""
    reduced = []
    for value in array.ravel().tolist():
        value = ((255 if value == 0 else value) - 1) % 256
        reduced.append(255 if value == 254 else value)
    return np.array(reduced).reshape(array.shape)


def test_zero_is_reduced_as_mmsegmentation_does_it():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    given_as = [every, every.astype(np.int64), torch.from_numpy(every), Image.fromarray(every)]
    for mask in given_as:
        np.testing.assert_array_equal(mask_array(mask, reduce_zero_label=True), as_mmsegmentation(every))
    assert every[0, 0] == 0  # the caller's is as it was
    assert mask_array(np.array([[True, False]]), reduce_zero_label=True).tolist() == [[0, 255]]


@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 7, 254, 255, 65535])
@pytest.mark.parametrize("reduce_zero_label", [False, True])
def test_the_number_of_void_is_what_the_caller_says(ignore_index, reduce_zero_label):
    labels = np.random.default_rng(0).integers(1, 255, (9, 11))
    labels[2:4, 3:8] = ignore_index
    found = mask_array(labels, ignore_index=ignore_index, reduce_zero_label=reduce_zero_label)
    void = labels == ignore_index
    assert found.dtype == np.uint8 and void[2, 3]
    np.testing.assert_array_equal(found[void], 255)
    np.testing.assert_array_equal(found[~void], labels[~void] - reduce_zero_label)
    if reduce_zero_label:  # 255 stays void, whatever else is
        assert mask_array(np.array([[1, 255]]), ignore_index=7, reduce_zero_label=True).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 255], {"ignore_index": 0}, "from 0 to 254, or 0 for void, got 255 to 255; .*`ignore_index`"),
        ([0, -1], {}, "from 0 to 254, or 255 for void, got -1 to 0"),
        ([0, 256], {"reduce_zero_label": True}, "from 1 to 254, or 255 for void, got 256 to 256"),
    ],
)
def test_labels_beyond_what_is_void_are_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        mask_array(np.array([labels]), **options)


def test_a_listing_knows_what_is_void(root):
    plain = open_masks(root, split="val")
    reduced = open_masks(root, split="val", reduce_zero_label=True)
    ignoring = open_masks(root, split="val", ignore_index=2)
    labels = plain.load(1)[1]
    np.testing.assert_array_equal(reduced.load(1)[1], as_mmsegmentation(labels))
    np.testing.assert_array_equal(ignoring.load(1)[1], np.where(labels == 2, 255, labels))
    for listing in (open_masks(ignoring, split="val"), open_masks(plain, split="val", ignore_index=2)):
        np.testing.assert_array_equal(listing.load(1)[1], ignoring.load(1)[1])
    np.testing.assert_array_equal(plain.load(1)[1], labels)
    for option, value in (("ignore_index", 1.5), ("ignore_index", None), ("reduce_zero_label", 1)):
        with pytest.raises(TypeError, match=f"`{option}`"):
            open_masks(root, split="val", **{option: value})


@pytest.mark.parametrize("options", [{"ignore_index": 7}, {"reduce_zero_label": True}])
def test_who_says_what_is_void_may_have_two_values(options):
    """Masks of 0 and 255 alone look like an object that is void; not where the caller has spoken."""
    halves = np.repeat([[0, 255]], 8, axis=0).repeat(4, axis=1)
    listing = open_masks([(Image.new("RGB", (8, 8)), halves)], split="val")
    with pytest.raises(ValueError, match="nothing but 0 and 255"):
        check_masks(listing, workers=0)
    check_masks(open_masks(listing, split="val", **options), workers=0)


def test_the_palette_is_to_be_mapped():
    """The remedy for a colour mask, as the message says it."""
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    expected = np.random.default_rng(0).integers(0, 3, (6, 5))
    rgb = np.array(palette, np.uint8)[expected]
    for mask in (rgb, torch.from_numpy(rgb), torch.from_numpy(rgb).permute(2, 0, 1), Image.fromarray(rgb)):
        with pytest.raises(ValueError, match=r"labels\[\(rgb == colour\)\.all\(axis=-1\)\] = index.*mode L"):
            mask_array(mask)
    labels = np.full(rgb.shape[:2], 255, np.uint8)
    for index, colour in enumerate(palette):
        labels[(rgb == colour).all(axis=-1)] = index
    np.testing.assert_array_equal(mask_array(labels), expected)


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_lists_of_other_names_are_validation_lists(root, name):
    lists = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "val.txt").rename(lists / f"{name}.txt")
    listing = open_masks(root, split="val")
    assert (len(listing), listing.found, listing.source) == (3, name, f"{root.name}/{name}")
    (lists / "val.txt").write_text("two\n")
    assert len(open_masks(root, split="val")) == 1
    (lists / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"its train images, got no train\.txt in .*; write one"):
        open_masks(root, split="train")
