"""Folders made by somebody else: what is not a photograph, is not there, or leads elsewhere."""

import os
import random
import socket

import numpy as np
import pytest
from PIL import Image

from blurlib import data
from blurlib.blurs import PointSpread
from blurlib.data import Skipped

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")


def photograph(path, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/1.jpg", "cat/2.png", "dog/1.jpg"):
        photograph(tmp_path / "val" / name)
    return tmp_path


def listing(folder, **options):
    return data.open_images(folder, split="val", **options)


def reason(folder, name):
    """Why an image is skipped; raised it reads the same."""
    skipping = listing(folder, on_error="skip")
    position = [skipping.id(each) for each in range(len(skipping))].index(f"val/{name}")
    found = skipping.view(position, lambda image, _: image)
    assert isinstance(found, Skipped) and found.name == f"val/{name}"
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        listing(folder).load(position)
    assert str(error.value) == found.reason and str(folder / "val" / name) in found.reason
    assert "\n" not in found.reason
    return found.reason


# --- Decoding


def test_postscript_starts_no_program(folder, monkeypatch):
    import PIL.EpsImagePlugin

    def starts(*_, **__):
        raise AssertionError("Ghostscript")

    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", starts)
    (folder / "val/cat/3.jpg").write_bytes(POSTSCRIPT)
    assert "it is damaged, not an image, or none of JPEG, PNG, BMP, GIF" in reason(folder, "cat/3.jpg")
    with pytest.raises(ValueError, match="damaged, not an image, or none of"):
        PointSpread.load(folder / "val/cat/3.jpg")


@pytest.mark.parametrize("kind", ["PCX", "ICO", "TGA", "SGI"])
def test_other_formats_by_the_name_of_a_photograph_are_refused(folder, kind):
    photograph(folder / "val/cat/3.png", format=kind)
    assert "it is damaged, not an image, or none of" in reason(folder, "cat/3.png")


@pytest.mark.parametrize("suffix", data.IMAGE_SUFFIXES)
def test_every_listed_suffix_decodes_whatever_it_is_called(tmp_path, suffix):
    Image.init()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        pytest.skip("Pillow writes none here")
    photograph(tmp_path / f"val/a/1{suffix}")
    os.link(tmp_path / f"val/a/1{suffix}", tmp_path / "val/a/2.jpg")
    assert [listing(tmp_path).load(each)[0].size for each in (0, 1)] == [(8, 8), (8, 8)]


@needs_fifo
def test_what_is_no_regular_file_is_not_opened(folder, tmp_path):
    cat = folder / "val/cat"
    os.mkfifo(cat / "3.jpg")
    (cat / "4.jpg").symlink_to("/dev/zero")
    assert "it is a FIFO, not a regular file" in reason(folder, "cat/3.jpg")
    assert "it is a device, not a regular file" in reason(folder, "cat/4.jpg")
    with socket.socket(socket.AF_UNIX) as here:
        os.chdir(cat)
        here.bind("5.jpg")
        assert "it is a socket, not a regular file" in reason(folder, "cat/5.jpg")
    (cat / "6.jpg").symlink_to(cat / "1.jpg")
    assert listing(folder).load(5)[0].size == (8, 8)


def test_a_stated_limit_of_pixels(folder, monkeypatch):
    photograph(folder / "val/cat/3.png", size=(40, 26))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    text = reason(folder, "cat/3.png")
    assert (
        "it has more than 1000 pixels; shrink it, or, if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        in text
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert listing(folder).load(2)[0].size == (40, 26)


def test_cut_and_vanished_files_are_named(folder):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = folder / "val/cat/1.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:700])
    assert "truncated" in reason(folder, "cat/1.jpg")
    skipping, raising = listing(folder, on_error="skip"), listing(folder)
    path.unlink()
    assert "which is missing" in skipping.view(0, lambda image, _: image).reason
    with pytest.raises(FileNotFoundError, match=r"cat/1\.jpg, which is missing"):
        raising.load(0)
    path.mkdir()
    assert "it is a folder, not a regular file" in skipping.view(0, lambda image, _: image).reason


# --- Listing


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    photograph(folder / "val/cat/deep/1.jpg")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(OSError, match=r"cannot list the folder '.*deep' \(Permission denied\); make"):
        listing(folder)


@pytest.mark.parametrize(
    ("link", "target"),
    [("val/cat/again", "val/cat"), ("val/cat/up", "."), ("val/dog/cat", "val/cat"), ("val/cow", "val/dog")],
)
def test_a_folder_that_comes_twice_is_refused(folder, link, target):
    (folder / link).symlink_to(folder / target, target_is_directory=True)
    with pytest.raises(ValueError, match="which are the same by a link; remove the link"):
        listing(folder)


def test_links_to_other_folders_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    photograph(elsewhere / "3.jpg")
    (folder / "val/cow").symlink_to(elsewhere, target_is_directory=True)
    (folder / "val/cat/.hidden").symlink_to(folder, target_is_directory=True)
    assert [listing(folder).id(each) for each in range(4)] == [
        "val/cat/1.jpg", "val/cat/2.png", "val/cow/3.jpg", "val/dog/1.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a/../../b", "..", "..\\up", "\\\\host\\share"]
)
def test_a_list_names_no_files_outside(tmp_path, name):
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text(f"2007_000033\n{name}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must list names of images below JPEGImages, got ") as error:
        data.open_masks(tmp_path, split="val")
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a..b", "part/a"])
def test_odd_names_in_a_list_are_broken_images(tmp_path, name):
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text(name, encoding="utf-8")
    masks = data.open_masks(tmp_path, split="val", on_error="skip")
    assert isinstance(masks.view(0, lambda image, _: image), Skipped)


@pytest.mark.parametrize("count", [1, 2, 999])
def test_names_take_their_own_length(tmp_path, count):
    """One long name makes no other longer."""
    draw = random.Random(count)
    names = sorted({"".join(draw.choices("abcé\udce9", k=draw.randint(1, 9))) for _ in range(count)})
    names[draw.randrange(len(names))] += "x" * 100_000
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names), encoding="utf-8", errors="surrogateescape")
    masks = data.open_masks(tmp_path, split="val")
    assert [masks.id(position) for position in range(len(masks))] == names
    assert sum(map(len, (masks._names.block, masks._names.bounds.tobytes()))) < 100_000 + count * 40
    chosen = np.array([draw.randrange(len(names)) for _ in range(7)])
    twice = masks.subset(chosen).subset(np.array([5, -1, 0]))
    assert [twice.id(position) for position in range(3)] == [names[chosen[each]] for each in (5, 6, 0)]
    assert len(masks.subset(np.array([], dtype=np.int64))) == 0


# --- Datasets


class Breaks:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            raise self.error
        return Image.new("RGB", (8, 8)), 0


@pytest.mark.parametrize("error", [KeyError("no such entry"), IndexError("list index out of range")])
def test_a_dataset_whose_own_lookup_fails_has_a_broken_image(error):
    skipped = data.open_images(Breaks(error), split="val", on_error="skip").view(1, lambda image, _: image)
    assert skipped == Skipped("1", skipped.reason)
    with pytest.raises(ValueError, match="cannot read item 1 of the dataset: ") as raised:
        data.open_images(Breaks(error), split="val").load(1)
    assert type(error).__name__ in str(raised.value) and str(raised.value) == skipped.reason
