"""Listings against torchvision's ImageFolder, broken files, keyed order, subsets."""

import gc
import io
import multiprocessing
import os
import pickle
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder

from blurlib._common import devices
from blurlib.data import KeyedSampler, Skipped, class_balanced, open_images


def write(path, color=(10, 20, 30), size=(9, 7)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def root(tmp_path):
    """Two splits, three classes whose names sort unlike they were made, nested folders and distractors."""
    place = tmp_path / "photos"
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(["zebra", "Ant", "bee 2"]):
            for number in range(count):
                write(place / split / name / f"{number}.png", (label * 50, number * 20, 0))
        write(place / split / "bee 2" / "deeper" / "a.JPG")
        write(place / split / "bee 2" / "b.webp")
        write(place / split / "bee 2" / ".hidden" / "no.png")
        write(place / split / "bee 2" / ".no.png")
        write(place / split / ".thumbnails" / "no.png")
        write(place / split / "loose.png")
        (place / split / "zebra" / "notes.txt").write_text("not an image")
    return place


class Items(Dataset):
    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def picture(value=0):
    return Image.new("L", (4, 4), value)


# --- folders ---------------------------------------------------------------------------------------------


def test_the_order_is_imagefolders_without_hidden_files(root):
    listing = open_images(root, split="train")
    theirs = ImageFolder(str(root / "train"))
    expected = [(path, label) for path, label in theirs.samples if "/." not in path[len(str(root)) :]]
    assert listing.classes == ("Ant", "bee 2", "zebra")
    assert [(os.path.relpath(path, root), label - 1) for path, label in expected] == [
        (listing.id(position), listing.load(position)[1]) for position in range(14)
    ]
    assert len(listing) == 14 and listing.index.tolist() == list(range(14))
    assert listing.labels.tolist() == [0] * 4 + [1] * 6 + [2] * 4


def test_ids_are_paths_below_the_root(root):
    listing = open_images(str(root), split="val")
    assert [listing.id(position) for position in range(5)] == [
        "val/Ant/0.png",
        "val/Ant/1.png",
        "val/bee 2/0.png",
        "val/bee 2/1.png",
        "val/bee 2/b.webp",
    ]
    assert listing.name == "photos"
    assert repr(listing) == "ImageListing('photos', split='val', images=8, classes=3)"


def test_load_gives_the_image_and_its_label(root):
    listing = open_images(root, split="train")
    image, label = listing.load(12)
    assert (image.getpixel((0, 0)), label, listing.id(12)) == ((0, 40, 0), 2, "train/zebra/2.png")
    image, label = listing.load(2)
    assert (image.getpixel((0, 0)), label) == ((50, 40, 0), 0)


def test_a_relative_root_with_a_slash_and_names_beyond_ascii(root, monkeypatch):
    write(root / "val" / "Ant" / "Größe 象.png", (1, 2, 3))
    monkeypatch.chdir(root.parent)
    listing = open_images("photos/", split="val")
    assert listing.id(2) == "val/Ant/Größe 象.png"
    assert listing.load(2)[0].getpixel((0, 0)) == (1, 2, 3)
    assert open_images("photos/../photos", split="val").digest() == listing.digest()


def test_links_are_followed(root, tmp_path):
    write(tmp_path / "elsewhere" / "x.png")
    (root / "val" / "Ant" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "val/Ant/link/x.png" in ids(open_images(root, split="val"))


def ids(listing):
    return [listing.id(position) for position in range(len(listing))]


def test_only_the_split_asked_for_must_be_there(tmp_path):
    write(tmp_path / "train" / "a" / "0.png")
    assert len(open_images(tmp_path, split="train")) == 1
    with pytest.raises(FileNotFoundError, match=r"`root`.*'val'.*with train; pass the folder above"):
        open_images(tmp_path, split="val")


def test_missing_roots_are_named(tmp_path, root):
    with pytest.raises(FileNotFoundError, match=r"`root`.*nowhere.*not there"):
        open_images(tmp_path / "nowhere", split="train")
    with pytest.raises(FileNotFoundError, match=r"`root`.*loose\.png.*a file"):
        open_images(root / "val" / "loose.png", split="train")
    with pytest.raises(FileNotFoundError, match=r"'train'.*with .*Ant, bee 2"):
        open_images(root / "train", split="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="with nothing"):
        open_images(tmp_path / "empty", split="train")


def test_a_split_without_classes_or_with_an_empty_class_is_refused(tmp_path):
    write(tmp_path / "train" / "0.png")
    with pytest.raises(ValueError, match=r"`root`.*no class folders.*their own folder"):
        open_images(tmp_path, split="train")
    write(tmp_path / "train" / "a" / "0.png")
    (tmp_path / "train" / "b").mkdir()
    (tmp_path / "train" / "b" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"`root`.*every class.*none in '.*b'.*\.png.*remove"):
        open_images(tmp_path, split="train")


def test_classes_that_differ_are_listed(root):
    write(root / "val" / "cat" / "0.png")
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=r"`root`.*same classes.*only in val: cat in"):
            open_images(root, split=split)
    write(root / "train" / "dog" / "0.png")
    with pytest.raises(ValueError, match=r"only in train: dog; only in val: cat"):
        open_images(root, split="train")


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_a_validation_split_of_another_name_is_found(root, name):
    (root / "val").rename(root / name)
    listing = open_images(root, split="val")
    assert listing.id(0) == f"{name}/Ant/0.png" and listing.load(0)[1] == 0
    assert (listing.found, listing.source) == (name, f"photos/{name}")
    write(root / "val" / "Ant" / "9.png")
    (root / "train").rename(root / "elsewhere")
    assert ids(open_images(root, split="val")) == ["val/Ant/9.png"]


def test_folders_of_classes_without_a_split_are_measured(root):
    listing, whole = open_images(root / "val", split="val"), open_images(root, split="val")
    assert (listing.found, listing.source, whole.source) == ("", "photos/val", "photos/val")
    assert (listing.classes, listing.labels.tolist()) == (whole.classes, whole.labels.tolist())
    assert [f"val/{name}" for name in ids(listing)] == ids(whole)  # in the same order: the same shakes
    assert listing.load(2)[0].tobytes() == whole.load(2)[0].tobytes()
    (root / "val").rename(root / "imagenet-a")
    assert open_images(root / "imagenet-a", split="val").source == "imagenet-a"
    (root / "imagenet-a" / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"images of every class, got none in '.*empty'.*or remove the folder$"
    ):
        open_images(root / "imagenet-a", split="val")


@pytest.mark.parametrize("path", ["train/a/0.png", "sets/one/val/a/0.png", "photos/.hidden.png", "0.png"])
def test_other_folders_are_not_taken_for_classes(tmp_path, path):
    write(tmp_path / path)
    with pytest.raises(FileNotFoundError, match=r"a folder 'val' \(or .*one folder a class"):
        open_images(tmp_path, split="val")


def test_training_needs_a_split(root):
    with pytest.raises(FileNotFoundError, match="move the class folders into a folder train"):
        open_images(root / "train", split="train")


def test_validation_comes_before_test(root):
    (root / "val").rename(root / "test")
    for name in ("zebra", "Ant", "bee 2"):
        write(root / "validation" / name / "9.png")
    assert ids(open_images(root, split="val"))[0] == "validation/Ant/9.png"


def test_a_test_folder_without_the_classes_does_not_keep_from_training(root):
    (root / "val").rename(root / "test")
    write(root / "test" / "unknown" / "0.png")
    assert len(open_images(root, split="train")) == 14
    with pytest.raises(ValueError, match=r"same classes.*only in test: unknown in"):
        open_images(root, split="val")
    (root / "test").rename(root / "valid")
    with pytest.raises(ValueError, match=r"same classes.*only in valid: unknown in"):
        open_images(root, split="train")


def test_many_files_take_a_few_bytes_each(tmp_path):
    """A listing holds one array of names; a list of strings or paths would be copied into every worker."""
    (tmp_path / "val" / "a").mkdir(parents=True)
    for number in range(3000):
        (tmp_path / "val" / "a" / f"{number:08d}.png").touch()
    tracemalloc.start()
    listing = open_images(tmp_path, split="val")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(listing) == 3000 and held < 3000 * 60


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"split": "test"}, ValueError),
        ({"on_error": "ignore"}, ValueError),
        ({"limit": 0}, ValueError),
        ({"limit": 2.5}, TypeError),
        ({"limit": True}, TypeError),
    ],
)
def test_wrong_options_are_named(root, option, error):
    with pytest.raises(error, match=f"`{next(iter(option))}`"):
        open_images(root, **({"split": "train"} | option))


def test_a_listing_pickles_and_digests_what_it_lists(root):
    listing = open_images(root, split="train")
    again = pickle.loads(pickle.dumps(listing))
    assert ids(again) == ids(listing) and again.digest() == listing.digest()
    assert open_images(root, split="val").digest() != listing.digest()
    (root / "train" / "zebra" / "3.png").rename(root / "train" / "zebra" / "4.png")
    assert open_images(root, split="train").digest() != listing.digest()


# --- broken files ----------------------------------------------------------------------------------------


def jpeg():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def png_with_wrong_checksum():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + b"\0\0\0\0"

    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(20)))


BROKEN = {
    "truncated": jpeg()[:2000],
    "truncated in its header": jpeg()[:20],
    "empty": b"",
    "text": b"<html>404</html>",
    "checksum": png_with_wrong_checksum(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(root, content):
    (root / "val" / "Ant" / "1.png").write_bytes(content)
    listing = open_images(root, split="val")
    for read in (listing.load, lambda position: listing.view(position, lambda image, _: image)):
        with pytest.raises(ValueError, match=r'cannot read .*val/Ant/1\.png: \w+.*on_error="skip"'):
            read(1)
    skipping = open_images(root, split="val", on_error="skip")
    skipped = skipping.view(1, lambda image, _: image.size)
    assert (
        isinstance(skipped, Skipped) and skipped.name == "val/Ant/1.png" and "cannot read" in skipped.reason
    )
    assert skipping.view(0, lambda image, label: (image.size, label)) == ((9, 7), 0)
    assert pickle.loads(pickle.dumps(skipped)) == skipped


def test_a_file_that_has_gone_is_named(root):
    listing, skipping = (open_images(root, split="val", on_error=mode) for mode in ("raise", "skip"))
    (root / "val" / "Ant" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"val/Ant/0\.png.*missing"):
        listing.load(0)
    assert isinstance(skipping.view(0, lambda image, _: image), Skipped)


def test_an_image_that_cannot_be_used_is_named_and_a_mistake_of_ours_is_not_hidden(root):
    def refuse(image, label):
        raise ValueError("`image` is too long")

    def slip(image, label):
        raise KeyError("slip")

    with pytest.raises(ValueError, match=r"cannot use .*val/Ant/1\.png: ValueError: `image` is too long"):
        open_images(root, split="val").view(1, refuse)
    skipping = open_images(root, split="val", on_error="skip")
    assert isinstance(skipping.view(1, refuse), Skipped)
    with pytest.raises(KeyError):
        skipping.view(1, slip)


# --- datasets --------------------------------------------------------------------------------------------


def test_a_dataset_takes_the_splits_place():
    dataset = Items([(picture(5), 1), (picture(6), torch.tensor(0)), (picture(7), np.int64(2))])
    listing = open_images(dataset, split="val")
    assert listing.classes == () and listing.labels.tolist() == [-1, -1, -1]
    assert [listing.load(i)[1] for i in range(3)] == [1, 0, 2]
    assert all(type(listing.load(i)[1]) is int for i in range(3))
    assert listing.name == "Items" and listing.id(2) == "2"


def test_a_dataset_tells_its_classes_and_targets(root):
    folder = ImageFolder(str(root / "train"))
    listing = open_images(folder, split="train")
    assert listing.classes == (".thumbnails", "Ant", "bee 2", "zebra")
    assert listing.labels.tolist() == folder.targets
    part = open_images(Subset(folder, [9, 2, 0]), split="train")
    assert part.labels.tolist() == [folder.targets[i] for i in (9, 2, 0)]
    assert part.load(0)[0].tobytes() == folder[9][0].tobytes()


@pytest.mark.parametrize(
    ("item", "got"),
    [
        ((torch.zeros(3, 4, 4), 0), "Tensor"),
        (picture(), "Image"),
        ((picture(), 0, 1), "int"),
        ((picture(), 0.5), "0.5"),
        ((picture(), "cat"), "'cat'"),
        ((picture(), torch.zeros(2)), "tensor"),
    ],
)
def test_items_of_another_kind_are_refused_whatever_on_error_says(item, got):
    for on_error in ("raise", "skip"):
        listing = open_images(Items([item]), split="val", on_error=on_error)
        with pytest.raises(TypeError, match=rf"`root`.*\(PIL image, label\).*{got}.*item 0"):
            listing.view(0, lambda image, _: image)


def test_a_broken_item_is_named_by_its_index():
    dataset = Items([(picture(), 0), OSError("image file is truncated")])
    with pytest.raises(ValueError, match=r"item 1 of the dataset.*truncated"):
        open_images(dataset, split="val").load(1)
    skipped = open_images(dataset, split="val", on_error="skip").view(1, lambda image, _: image)
    assert isinstance(skipped, Skipped) and skipped.name == "1"


@pytest.mark.parametrize(
    "root", [None, 3, b"ab", {"a": 1}, {3, 4}, iter("ab")], ids=lambda root: type(root).__name__
)
def test_what_is_no_dataset_is_refused(root):
    with pytest.raises(TypeError, match="`root`"):
        open_images(root, split="train")


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match=r"`root`.*at least one image of 'train'"):
        open_images(Items([]), split="train")


# --- subsets ---------------------------------------------------------------------------------------------

each_labels = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(lambda x: np.array(x, dtype=np.int64))


@settings(deadline=None, max_examples=60)
@given(each_labels, st.integers(1, 90), st.integers(0, 5))
def test_a_subset_is_even_and_grows_by_adding(labels, limit, seed):
    chosen = class_balanced(labels, limit, seed=seed)
    assert len(chosen) == min(limit, len(labels)) and np.all(np.diff(chosen) > 0)
    have, took = np.bincount(labels, minlength=7), np.bincount(labels[chosen], minlength=7)
    open_classes = took[took < have]  # classes that could have given more
    if len(open_classes):
        assert took.max() <= open_classes.min() + 1
    assert set(chosen) <= set(class_balanced(labels, limit + 1, seed=seed))


def test_a_subset_is_seeded_and_takes_every_image_as_often():
    labels = np.repeat(np.arange(4), 10)
    chosen = [class_balanced(labels, 6, seed=seed) for seed in range(400)]
    assert np.array_equal(chosen[3], class_balanced(labels, 6, seed=3))
    counts = np.bincount(np.concatenate(chosen), minlength=40)
    assert abs(counts - 60).max() < 35  # four and a half standard deviations


def test_limit_keeps_each_images_position(root):
    whole, part = open_images(root, split="train"), open_images(root, split="train", limit=5, seed=2)
    assert len(part) == 5 and sorted(np.bincount(part.labels)) == [1, 2, 2]
    assert ids(part) == [whole.id(int(index)) for index in part.index]
    assert part.load(4)[0].tobytes() == whole.load(int(part.index[4]))[0].tobytes()
    assert len(open_images(root, split="train", limit=999)) == 14


def test_limit_reads_the_labels_that_a_dataset_does_not_tell():
    items = [(picture(), index // 8) for index in range(24)]
    assert np.bincount(open_images(Items(items), split="val", limit=6).labels).tolist() == [2, 2, 2]
    items[0] = OSError("broken")
    listing = open_images(Items(items), split="val", limit=23, on_error="skip")
    assert listing.index.tolist() == list(range(1, 24))
    with pytest.raises(ValueError, match="item 0"):
        open_images(Items(items), split="val", limit=6)


# --- order -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3))
def test_shares_of_processes_are_the_global_batch(count, batch_size, world, epoch):
    alone = KeyedSampler(count, batch_size=batch_size, seed=3)
    ranks = [KeyedSampler(count, batch_size=batch_size, seed=3, rank=r, world=world) for r in range(world)]
    for sampler in (alone, *ranks):
        sampler.set_epoch(epoch)
    batches = list(alone)
    assert len(batches) == len(alone) == -(-count // batch_size)
    assert sorted(position for batch in batches for _, position in batch) == list(range(count))
    assert {e for batch in batches for e, _ in batch} <= {epoch}
    for batch, shares in zip(batches, zip(*ranks, strict=True), strict=True):
        assert sorted(key for share in shares for key in share) == sorted(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_order_changes_with_epoch_and_seed_only():
    def order(epoch, **options):
        sampler = KeyedSampler(50, **({"batch_size": 7, "seed": 1} | options))
        sampler.set_epoch(epoch)
        return [position for batch in sampler for _, position in batch]

    assert order(0) == order(0) == order(0, batch_size=50)
    assert order(0) != order(1) != order(2)
    assert order(0) != order(0, seed=2)
    assert order(5, shuffle=False) == list(range(50))


class Keys(Dataset):
    def __getitem__(self, key):
        return *key, os.getpid()


def test_persistent_workers_get_each_epochs_key():
    sampler = KeyedSampler(6, batch_size=2)
    loader = DataLoader(
        Keys(), batch_sampler=sampler, num_workers=2, persistent_workers=True, collate_fn=lambda items: items
    )
    seen, processes = [], set()
    for epoch in (4, 5):
        sampler.set_epoch(epoch)
        for batch in loader:
            seen += [item[0] for item in batch]
            processes |= {item[2] for item in batch}
    assert seen == [4] * 6 + [5] * 6
    assert len(processes) == 2 and os.getpid() not in processes


class Failing(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            raise ValueError("number three")
        return index


def test_workers_end_at_once_when_one_fails(monkeypatch):
    # How long torch waits for a worker that was not told to end: far longer than a busy machine takes here.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 100.0)
    started = time.perf_counter()
    with pytest.raises(ValueError, match="number three"):
        list(devices.batches(DataLoader(Failing(), num_workers=2, persistent_workers=True)))
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.perf_counter() - started < 60


def test_a_failure_without_workers_keeps_its_place():
    with pytest.raises(ValueError, match="number three") as caught:
        list(devices.batches(DataLoader(Failing())))
    assert caught.traceback[-1].name == "__getitem__"


@pytest.mark.parametrize(
    "option", [{"batch_size": 0}, {"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}, {"count": -1}], ids=str
)
def test_wrong_numbers_of_the_sampler_are_named(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}`"):
        KeyedSampler(**({"count": 4, "batch_size": 2} | option))


# --- where the work runs ---------------------------------------------------------------------------------


def test_pick_device():
    assert devices.pick_device("cpu") == torch.device("cpu") == devices.pick_device(torch.device("cpu"))
    best = devices.pick_device()
    assert best.type == ("cuda" if torch.cuda.is_available() else best.type)
    for wrong in ("gpu", "cuda:99", 1.5):
        with pytest.raises(ValueError, match="`device`"):
            devices.pick_device(wrong)


def test_pick_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)), raising=False)
    assert devices.pick_workers(None, 10_000) == 8
    assert devices.pick_workers(None, 10_000, world=4) == 6
    assert devices.pick_workers(None, 63) == 0
    assert devices.pick_workers(0, 10_000) == 0 and devices.pick_workers(5, 1) == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert devices.pick_workers(None, 10_000) == 0
    with pytest.raises(ValueError, match="`workers`"):
        devices.pick_workers(-1, 10)
    with pytest.raises(TypeError, match="`workers`"):
        devices.pick_workers(1.5, 10)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_a_sampler_begins_at_a_step(count, world):
    sampler = KeyedSampler(count, batch_size=3, seed=5, rank=world - 1, world=world)
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        whole = list(sampler)
        for step in range(len(whole) + 2):
            sampler.set_epoch(epoch, step=step)
            assert list(sampler) == whole[step:] and len(sampler) == len(whole[step:])
        sampler.set_epoch(epoch)
        assert list(sampler) == whole


@pytest.mark.parametrize("count", [1, 1001])
def test_sizes_and_times_of_files_are_known(tmp_path, count):
    (tmp_path / "train" / "a").mkdir(parents=True)
    for number in range(count):
        (tmp_path / "train" / "a" / f"{number:04}.png").write_bytes(b"x" * number)
    os.utime(tmp_path / "train" / "a" / "0000.png", ns=(0, 12345))
    listing = open_images(str(tmp_path), split="train")
    facts = listing.file_facts()
    assert facts.dtype == np.int64 and facts[:, 0].tolist() == list(range(count)) and facts[0, 1] == 12345
    (tmp_path / "train" / "a" / "0000.png").unlink()
    assert listing.subset(np.array([0])).file_facts().tolist() == [[-1, -1]]
    assert open_images([(Image.new("L", (4, 4)), 1)], split="train").file_facts() is None
