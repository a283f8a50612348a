"""Datasets as people have them: named columns (Hugging Face), mappings of splits, unknown labels."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset

import blurlib
from blurlib.data import Skipped, labelled, open_images, open_masks

SMALL = {"blurs": "sharp, D3", "canonical_side": 36, "device": "cpu", "progress": False}


def picture(seed=0, size=(40, 36)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, outputs))


def items(count, image="image", label="label"):
    return [{image: picture(number), label: number % 3, "more": "text"} for number in range(count)]


# --- items with named columns


def test_items_are_read_by_the_names_of_their_columns():
    for names, columns in ((("image", "label"), None), (("img", "fine"), ["img", "fine"])):
        listing = open_images(items(4, *names), split="val", columns=columns)
        assert [listing.load(number)[1] for number in range(4)] == [0, 1, 2, 0]
        assert listing.load(2)[0].tobytes() == picture(2).tobytes()
        assert listing.columns == names
        assert open_images(listing, split="val").columns == names
        assert open_images(listing, split="val", columns=names).columns == names
    masks = [{"image": picture(), "label": np.full((36, 40), 3), "scene": 1}]
    assert open_masks(masks, split="train").load(0)[1].max() == 3


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_columns_that_are_not_there_are_named(on_error):
    listing = open_images(items(2, "img", "fine"), split="val", on_error=on_error)
    with pytest.raises(
        TypeError, match=r"`columns`.*\('image', 'label'\) where item 1.*has 'img', 'fine', 'more'; pass"
    ):
        listing.view(1, lambda *_: None)


@pytest.mark.parametrize("columns", ["image", ("image",), ("a", "b", "c"), 3, (1, 2), {"image"}])
def test_columns_are_two_names(columns):
    with pytest.raises(TypeError, match="`columns` must be the names of two columns"):
        open_images(items(2), split="val", columns=columns)


def test_columns_are_of_datasets(tmp_path):
    with pytest.raises(ValueError, match="`columns` must be left out where `root` is a folder"):
        open_images(tmp_path, split="val", columns=("a", "b"))
    with pytest.raises(ValueError, match=r"`columns`.*where `root` is a listing.*\('image', 'label'\)"):
        open_images(open_images(items(2), split="val"), split="val", columns=("a", "b"))


# --- mappings of splits


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("val", "validation", "test", "train"), "val"),
        (("test", "valid", "validation"), "validation"),
        (("test", "valid"), "valid"),
        (("train", "test", "extra"), "test"),
    ],
)
def test_a_mapping_has_the_split_under_one_of_its_names(there, found):
    splits = {name: items(1 + number) for number, name in enumerate(there)}
    listing = open_images(splits, split="val")
    assert (len(listing), listing.found) == (1 + there.index(found), found)
    assert listing.source == f"list/{found}"
    report = blurlib.evaluate(network(), splits, scales=24, crop=20, **SMALL)
    assert report.settings["root"] == f"list/{found}"
    assert report.records[0].count == len(listing)


def test_a_mapping_without_the_split_is_named():
    with pytest.raises(
        TypeError, match=r"`root`.*'val' \(or 'validation', .*got dict with 'train', 'dev'; pass"
    ):
        open_images({"train": items(1), "dev": items(2)}, split="val")
    with pytest.raises(TypeError, match=r"a mapping with one as 'train', got dict with nothing"):
        open_images({}, split="train")
    with pytest.raises(TypeError, match=r"dataset or stream of.*got int"):
        open_images({"val": 3}, split="val")


# --- labels that only reading tells


class Unlabelled(Dataset):
    """Labels stand in the items alone; which process read an item is kept."""

    def __init__(self, count, broken=(), folder=None):
        self.count, self.broken, self.folder = count, broken, folder

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.folder is not None:
            with (self.folder / f"{index} {os.getpid()}").open("a") as seen:
                seen.write("x")
        if index in self.broken:
            raise OSError("broken")
        return Image.new("L", (4, 4)), index // 7


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 64, 65, 129])  # a batch holds 64
def test_labels_are_read_once_whoever_reads_them(tmp_path, count, workers):
    dataset = Unlabelled(count, folder=tmp_path)
    before = torch.random.get_rng_state()
    listing = labelled(open_images(dataset, split="val"), workers=workers)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert listing.labels.tolist() == [index // 7 for index in range(count)]
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {1}
    names = [path.name.split() for path in tmp_path.iterdir()]
    assert sorted(int(index) for index, _ in names) == list(range(count))
    assert (str(os.getpid()) in {process for _, process in names}) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_items_are_left_out_or_named_without_a_workers_traceback(workers):
    dataset = Unlabelled(70, broken=(3, 66))
    listing = open_images(dataset, split="val", limit=69, on_error="skip", workers=workers)
    assert listing.index.tolist() == [index for index in range(70) if index not in (3, 66)]
    with pytest.raises(ValueError, match=r"^cannot read item 3 of the dataset: OSError: broken"):
        open_images(dataset, split="val", limit=69, workers=workers)


def test_the_run_says_how_many_workers_read(tmp_path):
    usual = {"scales": 24, "crop": 20, **SMALL}
    for workers, here in ((0, True), (1, False)):
        folder = tmp_path / str(workers)
        folder.mkdir()
        blurlib.evaluate(network(), Unlabelled(21, folder=folder), limit=6, workers=workers, **usual)
        processes = {path.name.split()[1] for path in folder.iterdir()}
        assert (str(os.getpid()) in processes) == here


# --- Hugging Face's datasets


@pytest.fixture(scope="module")
def hugging():
    return pytest.importorskip("datasets")


def of_hugging_face(hugging, count, image="image", label="label", start=0):
    names = hugging.ClassLabel(names=["cat", "dog", "eel"])
    return hugging.Dataset.from_dict(
        {
            image: [picture(start + number) for number in range(count)],
            label: [number % 3 for number in range(count)],
        },
        features=hugging.Features({image: hugging.Image(), label: names}),
    )


def test_classes_and_labels_of_hugging_face_are_known_without_decoding(hugging, monkeypatch):
    dataset = of_hugging_face(hugging, 70)
    with monkeypatch.context() as patch:
        patch.setattr(hugging.Image, "decode_example", None)
        listing = open_images(dataset, split="val")
        part = open_images(dataset, split="val", limit=7)
    assert listing.classes == ("cat", "dog", "eel")
    assert listing.labels.tolist() == [number % 3 for number in range(70)]
    assert sorted(np.bincount(part.labels).tolist()) == [2, 2, 3]
    part = open_images(dataset.select(range(60, 70)).shuffle(seed=1), split="val")
    assert part.labels.tolist() == [part.load(number)[1] for number in range(10)]
    assert open_images(Subset(dataset, [5, 1]), split="val").labels.tolist() == [2, 1]


def test_the_numbers_of_hugging_face_are_those_of_a_list(hugging):
    dataset, pairs = of_hugging_face(hugging, 9), [(picture(number), number % 3) for number in range(9)]
    usual = {"scales": 24, "crop": 20, **SMALL}
    found = blurlib.evaluate(network(), dataset, workers=2, **usual)
    expected = blurlib.evaluate(network(), pairs, workers=0, **usual)
    for record, other in zip(found.records, expected.records, strict=True):
        np.testing.assert_array_equal(record.images.cross_entropy, other.images.cross_entropy)
    with pytest.raises(ValueError, match="got 5 scores for the 3 classes of `root`"):
        blurlib.evaluate(network(5), dataset, **usual)
    report = blurlib.evaluate(network(5), dataset, class_map={"eel": 4, "cat": 0, "dog": 2}, **usual)
    assert report.settings["class_map"] == [0, 2, 4]


def test_splits_and_columns_of_hugging_face(hugging):
    splits = hugging.DatasetDict(
        train=of_hugging_face(hugging, 6, "img", "fine"), test=of_hugging_face(hugging, 4, "img", "fine", 6)
    )
    columns = ("img", "fine")
    training = {"epochs": 1, "lr": 0.1, "network_side": 24, "crop": 20, "limit": 5, "columns": columns}
    training |= {name: value for name, value in SMALL.items() if name != "blurs"}
    result = blurlib.finetune(network(), splits, **training)
    assert result.history[0]["images"] == 5
    report = blurlib.evaluate(result.model, splits, columns=columns, scales=24, crop=20, **SMALL)
    assert (report.settings["root"], report.settings["columns"]) == ("Dataset/test", list(columns))
    with pytest.raises(
        ValueError, match=r"`columns`.*\('image', 'label'\) where `root` has 'img', 'fine'; pass"
    ):
        blurlib.evaluate(network(), splits, **SMALL)


def test_masks_of_hugging_face(hugging):
    masks = [Image.fromarray(np.full((36, 40), number, np.uint8)) for number in range(3)]
    dataset = hugging.Dataset.from_dict(
        {"image": [picture(number) for number in range(3)], "annotation": masks},
        features=hugging.Features({"image": hugging.Image(), "annotation": hugging.Image()}),
    )
    listing = open_masks(dataset, split="val", columns=("image", "annotation"), reduce_zero_label=True)
    assert [int(listing.load(number)[1].max()) for number in range(3)] == [255, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, _: d.with_format("torch"), r"'Tensor', 'Tensor'.*with_format\(None\)"),
        (lambda d, h: d.cast_column("image", h.Image(decode=False)), "'dict', 'int'.*images decoded"),
        (lambda d, h: d.cast_column("label", h.Value("string")), "got '0'; number.*class_encode_column"),
    ],
    ids=["tensors", "undecoded", "words"],
)
def test_formats_of_hugging_face_that_cannot_be_used_are_named(hugging, change, message):
    listing = open_images(change(of_hugging_face(hugging, 3), hugging), split="val", on_error="skip")
    with pytest.raises(TypeError, match=message):
        listing.view(0, lambda *_: None)


def test_a_broken_image_of_hugging_face_is_skipped(hugging):
    dataset = hugging.Dataset.from_dict(
        {"image": [{"bytes": b"no picture", "path": None}], "label": [0]},
        features=hugging.Features({"image": hugging.Image(), "label": hugging.Value("int64")}),
    )
    skipped = open_images(dataset, split="val", on_error="skip").view(0, lambda *_: None)
    assert isinstance(skipped, Skipped) and skipped.name == "0"
