"""corrupt(): copies equal to what evaluate() sees, their manifest, stops and resumed runs, bad input."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import VOCSegmentation

import oracles
from blurlib._common import folders
from blurlib.blurs import Blur, PointSpread, shake_of_image
from blurlib.data import _copying, _manifest, corrupt, open_images
from blurlib.evaluation import evaluate
from blurlib.kernels import disk
from blurlib.metrics import ImageValues
from blurlib.reporting import Report
from blurlib.reporting._html import evaluation_page

ORIENTATION = 0x0112
QUIET = {"canonical_side": 48, "workers": 0, "progress": False}
SEEN = {**QUIET, "scales": (32,), "crop": 28, "device": "cpu"}


def photo(seed, size=(70, 52)):
    """Smooth, as photographs are, with an edge."""
    y, x = np.mgrid[: size[1], : size[0]]
    rng = np.random.default_rng(seed)
    waves = [127 + 120 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9)) for _ in range(3)]
    array = np.stack(waves, axis=-1).astype(np.uint8)
    array[size[1] // 2 :, : size[0] // 3] = rng.integers(0, 256, 3)
    return Image.fromarray(array)


@pytest.fixture
def root(tmp_path):
    """Two classes of images of several sizes, modes and file types, one of them lying on its side."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / "val" / label).mkdir(parents=True)
    cat, dog = (tmp_path / "photos" / "val" / label for label in ("cat", "dog"))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo(0).save(cat / "0.JPEG", exif=exif, quality=90)
    photo(1, (90, 60)).convert("P").save(cat / "1.png")
    photo(2, (60, 100)).convert("L").save(cat / "2.jpg")
    photo(3, (48, 48)).save(dog / "0.png")
    photo(4, (30, 40)).save(dog / "1.bmp")
    return tmp_path / "photos"


@pytest.fixture
def bench(tmp_path):
    return tmp_path / "bench"


def network(channels=5, classes=2):
    torch.manual_seed(1)
    head = [nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * channels, classes)]
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU(), *head)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


# Numbers


def test_evaluating_png_copies_is_evaluating_their_sources(root, bench):
    """Every array of every image, bit for bit: the network sees the same pixels in the same batches."""
    places = corrupt(root, bench, blurs="sharp, D4, H8, L7@30, G1.5, S3, shake", **QUIET)
    direct = {name: evaluate(network(), root, blurs=name, **SEEN)[name] for name in places}
    for name, place in places.items():
        copies = evaluate(network(), place, blurs="sharp" if name == "sharp" else None, **SEEN)
        assert copies.blurs == (name,)
        for array in (*ImageValues.shared, *ImageValues.arrays):
            found, expected = (getattr(each[name].images, array) for each in (copies, direct))
            np.testing.assert_array_equal(found, expected)
        assert copies[name].values == direct[name].values
    again = evaluate(network(), bench / "sharp" / "0", blurs="D4, shake", **SEEN)
    for name in ("D4", "shake"):  # in other batches, whose sums the network rounds otherwise
        assert again[name].entropy == pytest.approx(direct[name].entropy, abs=1e-6)


def test_a_copy_is_resized_once_blurred_and_rounded(root, bench):
    """By Pillow and a plain sum over the kernel's taps."""
    corrupt(root, bench, blurs="D4", **QUIET)
    with Image.open(root / "val" / "cat" / "0.JPEG") as image:
        upright = image.transpose(Image.Transpose.ROTATE_270).convert("RGB")
    small = np.asarray(upright.resize((48, 65), Image.Resampling.BILINEAR))
    expected = oracles.blur_flat(np.moveaxis(small, -1, 0), oracles.disk(4), "reflect")
    with Image.open(bench / "disk" / "4" / "cat" / "0.png") as copy:
        assert copy.mode == "RGB" and ORIENTATION not in copy.getexif()
        np.testing.assert_array_equal(np.moveaxis(np.asarray(copy), -1, 0), expected)


def test_jpeg_copies_differ_by_what_jpeg_loses(root, bench):
    """Their own Pillow file is the reference; the caption states the quality."""
    corrupt(root, bench, blurs="D4", **QUIET)
    corrupt(root, bench.with_name("jpeg"), blurs="D4", encoding="jpeg", quality=60, **QUIET)
    place = bench.with_name("jpeg") / "disk" / "4"
    assert files(place) == ["cat/0.JPEG", "cat/1.jpg", "cat/2.jpg", "dog/0.jpg", "dog/1.jpg", "manifest.json"]
    with Image.open(bench / "disk" / "4" / "cat" / "0.png") as image:
        image.save(bench / "own.jpg", quality=60)
    assert (bench / "own.jpg").read_bytes() == (place / "cat" / "0.JPEG").read_bytes()
    report = evaluate(network(), place, **SEEN)
    told = (
        "5 images of photos/val, blurred by blurlib corrupt: D4, JPEG quality 60, at a shorter side of 48 px"
    )
    assert told in report.caption
    assert report["D4"].entropy == pytest.approx(
        evaluate(network(), root, blurs="D4", **SEEN)["D4"].entropy, abs=0.01
    )


def test_at_original_size_files_stay_as_they_lie(root, bench):
    """The kernel is scaled to the image, and turned as it is."""
    corrupt(root, bench, blurs="V4", size="original", **QUIET)
    with (
        Image.open(root / "val" / "cat" / "0.JPEG") as image,
        Image.open(bench / "box_vertical/4/cat/0.png") as copy,
    ):
        assert copy.size == image.size and copy.getexif()[ORIENTATION] == 6
        upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270).convert("RGB"))
        taps = oracles.line(4 * 52 / 48, 90.0)
        expected = oracles.blur(np.moveaxis(upright, -1, 0).astype(float), taps, "reflect")
        found = np.moveaxis(np.asarray(copy.transpose(Image.Transpose.ROTATE_270)), -1, 0)
    assert np.abs(found - expected).max() <= 0.51
    report = evaluate(network(), bench / "box_vertical" / "4", **SEEN)
    assert "blurred by blurlib corrupt: V4, PNG, original size, at a shorter side of 48 px" in report.caption


# Folders and manifest


def test_folders_are_by_kind_and_size(root, bench):
    lens = PointSpread([[0, 1, 0], [1, 4, 1], [0, 1, 0]], name="lens")
    blurs = ["sharp", "D2.5", "D4a", "H8", "V8", "L12@-30", "G4", "S17", "S17@train", "shake", lens]
    places = corrupt(root, bench, blurs=blurs, **QUIET)
    assert [place.relative_to(bench).as_posix() for place in places.values()] == [
        *("sharp/0", "disk/2.5", "disk_antialiased/4", "box_horizontal/8", "box_vertical/8", "line/12@-30"),
        *("gaussian/4", "shake/17", "shake/17@train", "shake/each", "measured/lens"),
    ]
    names = ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "manifest.json"]
    assert {tuple(files(place)) for place in places.values()} == {tuple(names)}
    report = evaluate(network(), places["lens"], **SEEN)
    assert report.settings["kernels"] == {"lens": report.settings["copies"]["kernel"]}


def test_copies_of_an_image_side_by_side(root, bench):
    places = corrupt(root, bench, blurs="sharp, D4", layout="beside", **QUIET)
    assert places == {"sharp": bench, "D4": bench}
    assert files(bench)[:3] == ["cat/0_D4.png", "cat/0_sharp.png", "cat/1_D4.png"] and len(files(bench)) == 11
    before = {name: (bench / name).stat().st_mtime_ns for name in files(bench)[:-1]}
    corrupt(root, bench, blurs="sharp, D4", layout="beside", **QUIET)
    assert {name: (bench / name).stat().st_mtime_ns for name in before} == before
    with pytest.raises(ValueError, match=r"must hold copies of one blur, got .* with sharp, D4 side by side"):
        evaluate(network(), bench, **SEEN)
    with pytest.raises(
        ValueError, match=r"`destination` must be a new or empty folder.* with copies of the layout"
    ):
        corrupt(root, bench, blurs="D4", **QUIET)


def test_images_that_differ_in_their_suffix_alone_have_two_copies(root, bench):
    photo(9).save(root / "val" / "dog" / "1.png")
    corrupt(root, bench, blurs="D4", **QUIET)
    assert [name for name in files(bench / "disk" / "4") if name.startswith("dog")] == [
        "dog/0.png", "dog/1.bmp.png", "dog/1.png.png",
    ]  # fmt: skip


def test_the_manifest_has_hashes_kernels_and_settings(root, bench):
    place = corrupt(root, bench, blurs="D4, shake", seed=3, **QUIET)["shake"]
    found = manifest(place)
    assert found["source"] == "photos/val" and found["encodings"] == ["PNG"] and found["skipped"] == []
    assert found["settings"] == {
        "split": "val",
        "size": "canonical",
        "measure": "shorter",
        "canonical_side": 48,
        "resample": "bilinear",
        "border": "reflect",
        "seed": 3,
    }
    for position, (name, entry) in enumerate(found["files"].items()):
        assert entry["source_sha256"] == sha256(root / entry["source"])
        assert entry["sha256"] == sha256(place / name) and entry["bytes"] == (place / name).stat().st_size
        assert entry["kernel"] == str(shake_of_image(position, seed=3))
    taps = disk(4).numpy()
    digest = hashlib.sha256(b"(9, 9)" + taps.astype("<f8").tobytes()).hexdigest()[:16]
    assert manifest(bench / "disk" / "4")["kernels"] == {"D4": f"9 x 9 px, SHA-256 {digest}"}


def test_what_is_measured_stands_in_report_and_page(root, bench, tmp_path):
    place = corrupt(root, bench, blurs="D4", **QUIET)["D4"]
    report = evaluate(network(), place, output=tmp_path / "run", **SEEN)
    copies = Report.load(tmp_path / "run").settings["copies"]
    assert copies["manifest_sha256"] == manifest(place)["sha256"] and copies["blur"] == "D4"
    assert evaluation_page._facts(report, None)["Copies"] == "blurred by blurlib corrupt: D4, PNG"
    other = {**report.settings, "copies": {**copies, "encoding": "JPEG quality 60"}}
    with pytest.raises(ValueError, match=r"`copies` 'blurred by .* D4, PNG' and '.*: D4, JPEG quality 60'"):
        report.compare(replace(report, settings=other))


# Stops and later runs


@pytest.mark.usefixtures("usual_handlers")
def test_a_stopped_run_goes_on(root, bench, monkeypatch, capsys):
    """Ctrl-C leaves whole files alone, marked as unfinished; then the same as without a stop."""
    whole = corrupt(root, bench.with_name("whole"), blurs="D4, shake", **QUIET)["shake"]
    write, count = _copying.Work._written, iter(range(100))

    def stopping(*arguments):
        if next(count) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return write(*arguments)

    monkeypatch.setattr(_copying.Work, "_written", stopping)
    with pytest.raises(KeyboardInterrupt):
        corrupt(root, bench, blurs="D4, shake", **QUIET)
    told = f"stopped by Ctrl-C with 2 of 5 images copied and kept in {bench}; run the same again to go on"
    assert capsys.readouterr().err.split("\n") == ["", told, ""]
    place = bench / "shake" / "each"
    assert files(place) == ["cat/0.png", "cat/1.png", "manifest.partial.jsonl"]
    assert sorted(path.name for path in bench.iterdir()) == ["disk", "shake"]
    with pytest.raises(ValueError, match=r"`root` must hold all copies, .* has not finished; run it again"):
        evaluate(network(), place, **SEEN)
    with (place / "manifest.partial.jsonl").open("a") as file:
        file.write('{"file": "cat/2.p')  # a line that was cut
    (place / "cat" / ".2.0123456789abcdef.aside.png").touch()
    made = []
    monkeypatch.setattr(_copying.Work, "_written", lambda *each: made.append(each[1:3]) or write(*each))
    corrupt(root, bench, blurs="D4, shake", **{**QUIET, "progress": True})
    assert "corrupt: goes on, with 2 of 5 images copied before\n" in capsys.readouterr().err
    assert len(made) in (5, 6) and {position for _, position in made} == {2, 3, 4}  # one was whole, not noted
    assert files(place) == files(whole)
    for name in files(whole):
        assert (place / name).read_bytes() == (whole / name).read_bytes()


def test_a_finished_set_is_mended(root, bench):
    place = corrupt(root, bench, blurs="D4", **QUIET)["D4"]
    before = {name: (place / name).read_bytes() for name in files(place)}
    (place / "cat" / "0.png").unlink()
    (place / "cat" / "1.png").write_bytes(b"changed")
    corrupt(root, bench, blurs="D4", **QUIET)
    assert {name: (place / name).read_bytes() for name in files(place)} == before
    photo(7).save(root / "val" / "dog" / "0.png")
    corrupt(root, bench, blurs="D4, D2", **QUIET)
    assert manifest(place)["files"]["dog/0.png"]["source_sha256"] == sha256(root / "val" / "dog" / "0.png")
    after = {name: (place / name).read_bytes() for name in files(place)}
    assert [name for name in before if after[name] != before[name]] == ["dog/0.png", "manifest.json"]
    evaluate(network(), place, **SEEN)


def test_copies_do_not_depend_on_workers(root, bench):
    one = corrupt(root, bench, blurs="shake", **QUIET)["shake"]
    two = corrupt(root, bench.with_name("two"), blurs="shake", **{**QUIET, "workers": 2})["shake"]
    assert [(one / name).read_bytes() for name in files(one)] == [
        (two / name).read_bytes() for name in files(two)
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"canonical_side": 64}, "canonical_side (was 48, now 64)"),
        ({"resample": "bicubic"}, "resample (was 'bilinear', now 'bicubic')"),
        ({"encoding": "jpeg"}, "encodings (was ['PNG'], now ['JPEG quality 95'])"),
        ({"seed": 1}, "seed (was 0, now 1)"),
        ({"size": "original"}, "size (was 'canonical', now 'original')"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_other_settings_do_not_mix(root, bench, change, told):
    corrupt(root, bench, blurs="D4", **QUIET)
    before = files(bench)
    with pytest.raises(
        ValueError, match=rf"{re.escape(told)}; name another `destination`, or remove that folder"
    ):
        corrupt(root, bench, blurs="D2, D4", **{**QUIET, **change})
    assert files(bench) == before


def test_other_images_and_versions_do_not_mix(root, bench, monkeypatch):
    corrupt(root, bench, blurs="D4", **QUIET)
    monkeypatch.setattr(_copying, "version", lambda _: "9.9")
    with pytest.raises(
        ValueError, match=r"must hold copies of the same .* another blurlib \(was '.*', now '9.9'\)"
    ):
        corrupt(root, bench, blurs="D4", **QUIET)
    monkeypatch.undo()
    photo(9).save(root / "val" / "cat" / "00.png")
    with pytest.raises(ValueError, match=r"with another listing_sha256"):
        corrupt(root, bench, blurs="D4", **QUIET)
    monkeypatch.setattr(_manifest, "VERSION", 2)
    for use in (
        lambda: evaluate(network(), bench / "disk" / "4", **SEEN),
        lambda: corrupt(root, bench, blurs="D4", **QUIET),
    ):
        with pytest.raises(
            ValueError, match=r"manifest.json' \(its version is 1, of blurlib .* reads version 2\)"
        ):
            use()


# What evaluate() refuses


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda place: (place / "cat/0.png").write_bytes((place / "cat/1.png").read_bytes()),
            "which has changed since",
        ),
        (lambda place: (place / "cat/0.png").unlink(), r"got 'cat/0.png' missing \(1 such\)"),
        (
            lambda place: shutil.copy(place / "cat/0.png", place / "cat/9.png"),
            "got 'cat/9.png' which it has not",
        ),
        (
            lambda place: (place / "manifest.json").write_text(
                (place / "manifest.json").read_text().replace('"seed": 0', '"seed": 1')
            ),
            r"written by `corrupt`.* \(its content has changed since\)",
        ),
    ],
    ids=["changed", "missing", "added", "manifest"],
)
def test_changed_copies_are_not_evaluated(root, bench, damage, told):
    place = corrupt(root, bench, blurs="D4", **QUIET)["D4"]
    damage(place)
    with pytest.raises(ValueError, match=told):
        evaluate(network(), place, **SEEN)
    (place / "manifest.json").unlink()  # the remedy that messages name
    assert evaluate(network(), place, blurs="sharp", **SEEN).blurs == ("sharp",)


def test_a_changed_copy_is_skipped_where_broken_images_are(root, bench):
    place = corrupt(root, bench, blurs="D4", **QUIET)["D4"]
    photo(8).save(place / "cat" / "0.png")
    report = evaluate(network(), place, on_error="skip", **SEEN)
    assert (report["D4"].count, report["D4"].skipped) == (4, 1)
    assert report.settings["skipped"] == ["cat/0.png"]


def test_copies_are_not_blurred_again_nor_seen_at_another_scale(root, bench):
    place = corrupt(root, bench, blurs="D4", **QUIET)["D4"]
    with pytest.raises(ValueError, match=r"`blurs` must be left out .* has blurred by D4 already"):
        evaluate(network(), place, blurs="D2", **SEEN)
    for name, value in (("canonical_side", 64), ("resample", "bicubic")):
        with pytest.raises(ValueError, match=rf"`{name}` must be .*, as `blurlib corrupt` took it"):
            evaluate(network(), place, **{**SEEN, name: value})
    with pytest.raises(ValueError, match=r"`root` must hold images that are not copies"):
        corrupt(place, bench.with_name("more"), blurs="D4", **QUIET)


def test_a_manifest_of_another_program_is_none_of_ours(root):
    (root / "manifest.json").write_text('{"name": "web app"}')
    assert open_images(root, split="val").manifest is None


# Bad input


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"blurs": "D4, nonsense"}, "nonsense"),
        ({"quality": 0, "encoding": "jpeg"}, "`quality` must be a whole number from 1 to 100, got 0"),
        ({"quality": 101, "encoding": "jpeg"}, "from 1 to 100, got 101"),
        ({"quality": 95}, '`quality` must be left out for PNG, .* or pass encoding="jpeg"'),
        ({"encoding": "webp"}, "`encoding` must be one of png, jpeg, got 'webp'"),
        ({"layout": "flat"}, "`layout` must be one of imagenet-c, beside, got 'flat'"),
        ({"size": "half"}, "`size` must be one of canonical, original, got 'half'"),
        ({"split": "dev"}, "`split` must be one of"),
        ({"split": "train"}, "`root` must hold train/<class>/\\*, or Pascal VOC's layout"),
        ({"workers": -1}, "`workers`"),
        ({"on_error": "ignore"}, "`on_error` must be one of"),
        ({"resample": "nearest"}, "`resample` must be one of"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value.items())),
)
def test_a_wrong_option_writes_nothing(root, bench, options, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        corrupt(root, bench, **{"blurs": "D4", **QUIET, **options})
    assert files(bench) == []


def test_destination_and_source_are_apart(root, bench):
    (bench.parent / "link").symlink_to(root)
    for place in (root / "bench", root / "val" / "cat", root.parent, root, bench.parent / "link" / "x"):
        before = files(root.parent)
        with pytest.raises(
            ValueError, match=r"`destination` must be apart from `root`, got .* name a folder beside"
        ):
            corrupt(root, place, blurs="D4", **QUIET)
        assert files(root.parent) == before


def test_files_of_others_stay(root, bench):
    (bench / "disk" / "4").mkdir(parents=True)
    (bench / "disk" / "4" / "precious.txt").touch()
    told = (
        r"`destination` must be a new or empty folder, .* with files that `blurlib corrupt` has not written"
    )
    with pytest.raises(ValueError, match=told):
        corrupt(root, bench, blurs="D4", **QUIET)
    corrupt(root, bench.with_name("ours"), blurs="D2", **QUIET)
    shutil.copytree(bench, bench.with_name("ours"), dirs_exist_ok=True)
    told = r"`destination` must have new folders for the copies, got '.*/disk/4', in which are files"
    with pytest.raises(ValueError, match=told):
        corrupt(root, bench.with_name("ours"), blurs="D4", **QUIET)
    assert files(bench) == ["disk/4/precious.txt"]
    bench.with_name("file").touch()
    with pytest.raises(ValueError, match=r"`destination` must be a folder, got the file"):
        corrupt(root, bench.with_name("file"), blurs="D4", **QUIET)


def test_a_destination_that_cannot_be_written_to(root, bench, monkeypatch):
    bench.mkdir()

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    told = r"`destination` must be a folder that can be written to, .* \(Read-only file system\); make room"
    with pytest.raises(ValueError, match=told):
        corrupt(root, bench, blurs="D4", **QUIET)
    assert files(bench) == []


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_full_disk_keeps_what_is_whole(root, bench, monkeypatch, on_error):
    write, count = Path.write_bytes, iter(range(100))

    def full(path, content):
        if ".aside" in path.name and "write-test" not in path.name and next(count) == 3:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    told = r"^`destination` must take the copies, got 'No space left on device' at '.*/dog/0.png'; make room"
    with pytest.raises(OSError, match=told):
        corrupt(root, bench, blurs="D4", on_error=on_error, **QUIET)
    assert files(bench / "disk" / "4") == ["cat/0.png", "cat/1.png", "cat/2.png", "manifest.partial.jsonl"]
    monkeypatch.undo()
    corrupt(root, bench, blurs="D4", **QUIET)
    assert len(files(bench / "disk" / "4")) == 6


def test_a_broken_image_stops_the_run_or_is_told(root, bench):
    (root / "val" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"cannot read .*/val/cat/1.png: OSError: it is damaged, .*on_error=.skip"
    ):
        corrupt(root, bench, blurs="D4", **QUIET)
    with pytest.warns(
        UserWarning, match=r"1 of 5 images could not be read and have no copies; the first: cannot read"
    ):
        place = corrupt(root, bench, blurs="D4", on_error="skip", **QUIET)["D4"]
    assert [each["name"] for each in manifest(place)["skipped"]] == ["val/cat/1.png"]
    report = evaluate(network(), place, **SEEN)
    assert report["D4"].count == 4
    assert "D4, PNG, 1 of the source could not be read" in report.caption
    direct = evaluate(network(), root, blurs="D4", on_error="skip", **SEEN)
    np.testing.assert_array_equal(report["D4"].images.entropy, direct["D4"].images.entropy)


def test_a_class_without_a_readable_image_does_not_shift_labels(root, bench):
    for path in (root / "val" / "cat").iterdir():
        path.write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"3 of 5 images"):
        place = corrupt(root, bench, blurs="D4", on_error="skip", **QUIET)["D4"]
    with pytest.raises(ValueError, match=r"must hold images of every class, got none in .*cat"):
        evaluate(network(), place, **SEEN)


def test_a_folder_without_images_or_of_no_layout(root, bench, tmp_path):
    told = r"`root` must hold val/<class>/\* or <class>/\*, .* with 0.png, 1.bmp; `blurlib blur` blurs"
    with pytest.raises(FileNotFoundError, match=told):
        corrupt(root / "val" / "dog", bench, blurs="D4", **QUIET)
    (tmp_path / "empty" / "val" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"`root` must hold images of every class, got none"):
        corrupt(tmp_path / "empty", bench, blurs="D4", **QUIET)
    with pytest.raises(
        FileNotFoundError, match=r"`root` must be a folder of images, got .* which is not there"
    ):
        corrupt(tmp_path / "nowhere", bench, blurs="D4", **QUIET)
    for path in root.rglob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"must hold an image that can be read, all 5 were skipped"):
        corrupt(root, bench, blurs="D4", on_error="skip", **QUIET)


def test_one_run_at_a_time(root, bench):
    told = r"`destination` must be a folder that no other run is writing to"
    with folders.locked(bench), pytest.raises(ValueError, match=told):
        corrupt(root, bench, blurs="D4", **QUIET)


def test_a_blur_of_ones_own_needs_a_name_for_a_folder(root, bench):
    class Odd(Blur):
        name = "../up"

        def kernel(self, scale=1.0):
            return disk(2 * scale)

        def __str__(self):
            return self.name

    with pytest.raises(
        ValueError, match=r"`blurs` must have names that a folder can have, .* got '../up'; give Odd"
    ):
        corrupt(root, bench, blurs=[Odd()], **QUIET)
    Odd.name = "odd"
    assert corrupt(root, bench, blurs=[Odd()], **QUIET) == {"odd": bench / "own" / "odd"}


# Annotated images


@pytest.fixture
def voc(tmp_path):
    """Two images of Segmentation, one more of Main; the first lies on its side, its mask as the file."""
    place = tmp_path / "pascal" / "VOCdevkit" / "VOC2012"
    for part in (
        "JPEGImages",
        "SegmentationClass",
        "Annotations",
        "ImageSets/Segmentation",
        "ImageSets/Main",
    ):
        (place / part).mkdir(parents=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for number, (name, size) in enumerate([("b", (70, 52)), ("a", (64, 48)), ("c", (40, 60))]):
        photo(number, size).save(
            place / "JPEGImages" / f"{name}.jpg", **({"exif": exif} if name == "b" else {})
        )
        Image.fromarray(np.arange(size[0] * size[1]).reshape(size[1], -1).astype(np.uint8) % 3).save(
            place / "SegmentationClass" / f"{name}.png"
        )
    (place / "Annotations" / "b.xml").write_text("<filename>b.jpg</filename>")
    (place / "ImageSets" / "Segmentation" / "val.txt").write_text("b\na\n")
    (place / "ImageSets" / "Main" / "val.txt").write_text("a\nc\n")
    return tmp_path / "pascal"


# torchvision leaves the files open that it reads.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_pascal_voc_keeps_its_layout(voc, bench):
    copy = corrupt(voc, bench, blurs="D4, shake", **QUIET)["shake"]
    place, source = copy / "VOCdevkit" / "VOC2012", voc / "VOCdevkit" / "VOC2012"
    assert files(place / "JPEGImages") == ["a.jpg", "b.jpg", "c.jpg"]
    for name in ("Annotations", "ImageSets", "SegmentationClass"):
        assert (place / name).is_symlink() and (place / name).resolve() == (source / name).resolve()
    for name in "abc":
        with (
            Image.open(source / "JPEGImages" / f"{name}.jpg") as one,
            Image.open(place / "JPEGImages" / f"{name}.jpg") as two,
        ):
            assert one.size == two.size and one.getexif().get(ORIENTATION) == two.getexif().get(ORIENTATION)
    theirs = VOCSegmentation(str(copy), year="2012", image_set="val")
    assert [image.size for image, _ in theirs] == [(70, 52), (64, 48)]
    kernels = {Path(name).stem: entry["kernel"] for name, entry in manifest(copy)["files"].items()}
    assert kernels == {name: str(shake_of_image(index)) for index, name in enumerate("bac")}
    assert manifest(copy)["encodings"] == ["JPEG quality 95"]
    net = nn.Conv2d(3, 3, 1)
    options = {**QUIET, "task": "segmentation", "scales": 48, "device": "cpu"}
    direct = evaluate(net, voc, blurs="D4", **options)
    report = evaluate(net, bench / "disk" / "4", **options)
    assert "D4, JPEG quality 95, original size, at a geometric mean of the sides of 48 px" in report.caption
    assert report["D4"].count == 2 and report["D4"].miou == pytest.approx(direct["D4"].miou, abs=0.1)
    photo(8).save(bench / "disk" / "4" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "b.jpg")
    with pytest.raises(ValueError, match=r"has changed since"):
        evaluate(net, bench / "disk" / "4", **options)


def test_annotations_are_copied_where_links_fail(voc, bench, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    copy = corrupt(voc, bench, blurs="D4", **QUIET)["D4"] / "VOCdevkit" / "VOC2012"
    assert not (copy / "Annotations").is_symlink() and files(copy / "Annotations") == ["b.xml"]
    assert not list(bench.rglob(".*"))


def test_what_annotations_fix_cannot_be_chosen(voc, bench):
    with pytest.raises(ValueError, match=r"`size` must be 'original' for annotated images"):
        corrupt(voc, bench, blurs="D4", size="canonical", **QUIET)
    with pytest.raises(ValueError, match=r"`layout` must be 'imagenet-c' for annotated images"):
        corrupt(voc, bench, blurs="D4", layout="beside", **QUIET)
    (voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "val.txt").write_text("../../x\n")
    with pytest.raises(
        ValueError, match=r"must list names of images inside it, got '../../x' in '.*Main/val.txt'"
    ):
        corrupt(voc, bench, blurs="D4", **QUIET)
    shutil.rmtree(voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main")
    (voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"must hold at least one image, got none in the lists of"):
        corrupt(voc, bench, blurs="D4", **QUIET)
    with pytest.raises(FileNotFoundError, match=r"must hold a list of its images as 'train' in ImageSets"):
        corrupt(voc, bench, blurs="D4", split="train", **QUIET)
    assert not bench.exists()


@pytest.fixture
def coco(tmp_path):
    place = tmp_path / "coco"
    for name in ("annotations", "train2017", "val2017"):
        (place / name).mkdir(parents=True)
    for number, name in enumerate(("000000000002.jpg", "000000000001.jpg", "3.png")):
        photo(number).save(place / "val2017" / name)
        photo(number).save(place / "train2017" / name)
    images = [{"id": number, "file_name": name} for number, name in enumerate(files(place / "val2017"))]
    for name in ("instances_val2017", "captions_val2017", "instances_train2017"):
        (place / "annotations" / f"{name}.json").write_text(json.dumps({"images": images, "annotations": []}))
    return place


def test_coco_keeps_names_and_annotations(coco, bench):
    copy = corrupt(coco, bench, blurs="D4", quality=90, **QUIET)["D4"]
    assert files(copy / "val2017") == ["000000000001.jpg", "000000000002.jpg", "3.png"]
    assert not (copy / "train2017").exists()
    assert (copy / "annotations").resolve() == (coco / "annotations").resolve()
    assert manifest(copy)["encodings"] == ["JPEG quality 90", "PNG"]
    with Image.open(copy / "val2017" / "000000000001.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (70, 52))
        pixels = np.asarray(image.convert("RGB")).astype(float)
    with Image.open(coco / "val2017" / "000000000001.jpg") as image:
        sharp = np.moveaxis(np.asarray(image.convert("RGB")).astype(float), -1, 0)
    expected = oracles.blur(sharp, oracles.disk(4 * 52 / 48), "reflect")
    assert np.abs(np.moveaxis(pixels, -1, 0) - expected).mean() < 4  # of JPEG


def test_what_is_wrong_with_coco_is_told(coco, bench):
    with pytest.raises(
        ValueError, match=r"`encoding` must be that of the files which annotations name, got 'png' for"
    ):
        corrupt(coco, bench, blurs="D4", encoding="png", **QUIET)
    path = coco / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({"images": [{"file_name": "/etc/passwd.jpg"}]}))
    with pytest.raises(ValueError, match=r"must list names of images inside it, got '/etc/passwd.jpg'"):
        corrupt(coco, bench, blurs="D4", **QUIET)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"must hold annotations as COCO has them, .*instances_val2017.json"):
        corrupt(coco, bench, blurs="D4", **QUIET)
    (coco / "annotations" / "captions_val2017.json").unlink()
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(ValueError, match=r"must hold at least one image, got none in"):
        corrupt(coco, bench, blurs="D4", **QUIET)
    path.write_text(json.dumps({"images": [{"file_name": "nowhere.jpg"}]}))
    with pytest.raises(
        FileNotFoundError, match=r"must hold the images that .* names, got no 'nowhere.jpg' in"
    ):
        corrupt(coco, bench, blurs="D4", **QUIET)
    path.write_text(json.dumps({"images": [{"file_name": "3.png"}, {"file_name": "4.png"}]}))
    with pytest.raises(FileNotFoundError, match=r"lists .*4.png, which is missing"):
        corrupt(coco, bench, blurs="D4", **QUIET)
    path.rename(path.with_name("instances.json"))
    with pytest.raises(
        FileNotFoundError, match=r"must hold annotations of 'val' \(or .*got instances.json, instan"
    ):
        corrupt(coco, bench, blurs="D4", **QUIET)
