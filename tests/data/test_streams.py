"""Streams: generators, torch's and Hugging Face's, of which the first items are read once and kept."""

import copy
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import IterableDataset

import blurlib
from blurlib.data import ImageListing, Skipped, labelled, open_images, open_masks

SMALL = {"canonical_side": 36, "device": "cpu", "progress": False}
NAMES = ("cat", "dog", "eel")


def picture(seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def pairs(count):
    return [(picture(number), number % 3) for number in range(count)]


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, outputs))


class Torch(IterableDataset):
    """As torch has them: with `__getitem__`, which says that there is none."""

    def __init__(self, items):
        self.items, self.taken = items, 0

    def __iter__(self):
        for item in self.items:
            self.taken += 1
            yield item


class Picture:
    """The feature of an image."""

    decode = True

    def decode_example(self, value):
        image = Image.open(io.BytesIO(value["bytes"]))
        image.load()
        return image


class Label:
    names = NAMES


class Imitation(Torch):
    """What is used of Hugging Face's class, where that is not installed."""

    def __init__(self, items):
        super().__init__(items)
        self.features = {"image": Picture(), "label": Label(), "more": None}
        self.column_names = list(self.features)

    def select_columns(self, names):
        return Imitation([{name: item[name] for name in names} for item in self.items])

    def with_format(self, kind):
        return self

    def decode(self, on):
        assert not on
        return self


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def imitated(count):
    return Imitation([{"image": encoded(i), "label": label, "more": "x"} for i, label in pairs(count)])


def hugging_face(count):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    images, labels = zip(*pairs(count), strict=True)
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


STREAMS = {
    "generator": lambda count: iter(pairs(count)),
    "torch": lambda count: Torch(pairs(count)),
    "imitation": imitated,
    "hugging_face": lambda count: hugging_face(count).to_iterable_dataset(),
    "mapped": lambda count: hugging_face(count).to_iterable_dataset().map(lambda item: item),
    "tensors": lambda count: hugging_face(count).to_iterable_dataset().with_format("torch"),
}
each_stream = pytest.mark.parametrize("kind", STREAMS)


@each_stream
@pytest.mark.parametrize("limit", [None, 1, 6, 7, 8])
def test_a_stream_is_a_dataset_of_its_first_items(kind, limit):
    listing = open_images(STREAMS[kind](7), split="val", limit=limit)
    count = min(7, limit or 7)
    assert len(listing) == count and listing.index.tolist() == list(range(count))
    assert listing.labels.tolist() == [number % 3 for number in range(count)]
    for number in reversed(range(count)):  # in any order, and again
        image, label = listing.load(number)
        assert (image.tobytes(), label) == (picture(number).tobytes(), number % 3)
    assert listing.digest() == labelled(open_images(pairs(count), split="val"), workers=0).digest()
    if kind in ("imitation", "hugging_face", "tensors"):
        assert listing.classes == NAMES


@each_stream
def test_a_stream_gives_the_numbers_of_a_list(kind):
    usual = {"blurs": "sharp, shake", "scales": 24, "crop": 20, **SMALL}
    expected = blurlib.evaluate(network(), pairs(5), workers=0, **usual)
    for workers in (0, 2) if kind == "hugging_face" else (0,):
        found = blurlib.evaluate(network(), STREAMS[kind](9), limit=5, workers=workers, **usual)
        for record, other in zip(found.records, expected.records, strict=True):
            np.testing.assert_array_equal(record.images.cross_entropy, other.images.cross_entropy)
            assert record.images.ids.tolist() == ["0", "1", "2", "3", "4"]


def test_fine_tuning_takes_the_same_steps_on_a_stream():
    usual = {"epochs": 2, "lr": 0.1, "network_side": 24, "crop": 20, "batch_size": 2, **SMALL}
    found = blurlib.finetune(network(), {"train": imitated(5), "test": Torch([])}, workers=2, **usual)
    expected = blurlib.finetune(network(), pairs(5), workers=0, **usual)
    assert [row["loss"] for row in found.history] == [row["loss"] for row in expected.history]


def test_no_more_is_read_than_is_asked_for():
    stream = Torch(pairs(9))
    open_images(stream, split="val", limit=4)
    assert stream.taken == 4
    with pytest.raises(TypeError, match="`limit`"):
        open_images(stream, split="val", limit="4")
    assert stream.taken == 4


def test_splits_and_columns_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    stream = hugging_face(4).rename_columns({"image": "img", "label": "fine"}).to_iterable_dataset()
    splits = datasets.IterableDatasetDict(validation=stream)
    listing = open_images(splits, split="val", columns=("img", "fine"))
    assert (listing.source, listing.labels.tolist()) == ("IterableDataset/validation", [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"`columns`.*where `root` has 'img', 'fine'; pass"):
        open_images(splits, split="val")


@pytest.mark.parametrize("reduce_zero_label", [False, True])
def test_masks_of_streams(reduce_zero_label):
    masks = [np.full((36, 40), number, np.uint8) for number in (1, 3, 5)]
    stream = iter([(picture(number), mask) for number, mask in enumerate(masks)])
    listing = open_masks(stream, split="val", limit=2, reduce_zero_label=reduce_zero_label)
    assert [int(listing.load(number)[1].max()) for number in (1, 0)] == [
        3 - reduce_zero_label,
        1 - reduce_zero_label,
    ]
    assert len(listing) == 2


def test_masks_of_hugging_faces_streams():
    datasets = pytest.importorskip("datasets")
    masks = [Image.fromarray(np.full((36, 40), number, np.uint8)) for number in (1, 3, 5)]
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    data = {"image": [picture(number) for number in range(3)], "annotation": masks}
    stream = datasets.Dataset.from_dict(data, features=features).to_iterable_dataset()
    listing = open_masks(stream, split="val", columns=("image", "annotation"))
    assert [int(listing.load(number)[1].max()) for number in (2, 0, 1)] == [5, 1, 3]
    report = blurlib.evaluate(
        nn.Conv2d(3, 6, 1), listing, task="segmentation", blurs="sharp", scales=24, workers=1, **SMALL
    )
    assert report.records[0].count == 3


def test_images_in_archives_and_folders(tmp_path):
    """Hugging Face names a file's place; one that is not a file here is fetched once."""
    datasets = pytest.importorskip("datasets")
    picture(3).save(tmp_path / "3.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "3.png", "3.png")
    paths = [str(tmp_path / "3.png"), f"zip://3.png::{tmp_path / 'a.zip'}"]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = {"image": [{"bytes": None, "path": path} for path in paths], "label": [1, 2]}
    stream = datasets.Dataset.from_dict(data, features=features).to_iterable_dataset()
    listing = open_images(stream, split="val")
    (tmp_path / "a.zip").unlink()
    assert [listing.load(n)[0].tobytes() for n in (0, 1)] == [picture(3).tobytes()] * 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16", "F"])
def test_decoded_images_are_kept_as_they_are(mode):
    image = picture(1, "L").convert("I").convert("I;16") if mode == "I;16" else picture(1, mode)
    exif = Image.Exif()
    exif[274] = 6  # to be turned
    image.info["exif"] = exif.tobytes()
    kept = open_images(iter([(image, 0)]), split="val").load(0)[0]
    assert (kept.mode, kept.size, kept.tobytes()) == (image.mode, image.size, image.tobytes())
    assert kept.getexif()[274] == 6 and kept.getpalette() == image.getpalette()


def test_a_broken_image_is_skipped_or_named():
    stream = imitated(3)
    for place in (0, 2):
        stream.items[place]["image"] = {"bytes": b"no picture", "path": None}
    skipped = open_images(stream, split="val", on_error="skip").view(2, lambda *_: None)
    assert isinstance(skipped, Skipped) and skipped.name == "2"
    with pytest.raises(ValueError, match=r"^cannot read item 0 of the dataset: UnidentifiedImageError"):
        open_images(stream, split="val").load(0)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (
            [(torch.zeros(3), 1)],
            TypeError,
            r"\('Tensor', 'int'\) from item 0 of the stream; leave transforms",
        ),
        ([(picture(), "cat")], TypeError, r"got 'cat'; number the classes.*\(in item 0 of the stream\)"),
        ([3], TypeError, "<class 'int'> from item 0 of the stream"),
        ([{"img": picture(), "label": 1}], TypeError, "`columns`.*where item 0 of the stream has 'img'"),
        ([], ValueError, "at least one image of 'val', got none in 'Torch'"),
    ],
)
def test_streams_of_something_else_are_refused_at_their_first_item(items, error, message):
    stream = Torch(items + pairs(3) * bool(items))
    with pytest.raises(error, match=message):
        open_images(stream, split="val")
    assert stream.taken <= 1


@pytest.mark.parametrize("count", [0, 2])
def test_a_stream_that_stops_says_how_many_came(count):
    def stream():
        yield from pairs(count)
        raise ConnectionError("gone")

    rest = (
        "after 2 items; repair its source, or pass limit=2 to take those before"
        if count
        else "after 0 items; repair its source$"
    )
    with pytest.raises(ValueError, match=rf"^`root` must be a stream.*ConnectionError \(gone\) {rest}"):
        open_images(stream(), split="val")
    assert len(open_images(stream(), split="val", limit=count)) == 2 if count else True


def test_a_full_disk_says_what_to_do(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pickle, "dump", full)
    with pytest.raises(
        OSError, match=r"must fit into .*'No space left on device' after 0; pass `limit`.*TMPDIR"
    ):
        open_images(iter(pairs(2)), split="val")


def test_the_file_goes_with_its_owner():
    listing = open_images(iter(pairs(2)), split="val")
    path = listing.root._path
    worker = pickle.loads(pickle.dumps(listing))  # as a loader process has it
    part = copy.copy(listing).subset(np.array([1]))
    assert isinstance(worker, ImageListing) and worker.load(1)[0].tobytes() == picture(1).tobytes()
    del worker, listing
    assert path.exists() and part.load(0)[1] == 1
    del part
    assert not Path(path).exists()
