"""Tar archives as a dataset: the numbers of the folder that they were made of."""

import gzip
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import blurlib
from blurlib.data import TarShards, open_images, open_masks

SMALL = {"canonical_side": 32, "crop": 24, "device": "cpu", "progress": False}


def encoded(image, kind="png"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def photograph(number, size=(40, 36)):
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def archive(path, *members):
    with tarfile.open(path, "w") as written:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve photographs in class folders, and the same in three archives in another order."""
    root = tmp_path_factory.mktemp("photographs")
    members = []
    for number in range(12):
        label, content = number % 3, encoded(photograph(number))
        for split in ("train", "val"):
            path = root / "folder" / split / f"c{label}" / f"{number // 3}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        key = f"c{label}/{number // 3}-{number}"
        members.append([(f"{key}.json", b"{}"), (f"{key}.png", content), (f"{key}.cls", b" %d\n" % label)])
    members.reverse()
    (root / "tars").mkdir()
    for shard in range(3):
        chosen = [each for sample in members[shard::3] for each in sample]
        for split in ("train", "val"):
            archive(root / "tars" / f"set-{split}-{shard:03d}.tar", *chosen)
    return root


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def test_archives_give_the_numbers_of_the_folder(folder, network):
    reports = [
        blurlib.evaluate(network, folder / kind, blurs="sharp, shake, D2", scales=28, **SMALL)
        for kind in ("folder", "tars")
    ]
    for blur in ("sharp", "shake", "D2"):
        first, second = (report[blur] for report in reports)
        np.testing.assert_array_equal(first.images.cross_entropy, second.images.cross_entropy)
    assert list(reports[1]["D2"].images.ids[:2]) == ["c0/0-0", "c0/1-3"]
    assert reports[1].settings["root"].startswith("set-val-000.tar to set-val-002.tar")
    weights = [
        blurlib.finetune(
            network, folder / kind, epochs=1, lr=0.1, batch_size=5, network_side=28, workers=workers, **SMALL
        ).model.state_dict()
        for kind, workers in (("folder", 0), ("tars", 0), ("tars", 2))
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])
        assert torch.equal(value, weights[2][name])


@pytest.mark.parametrize(
    "root",
    [
        "tars/set-val-{000..002}.tar",
        "tars/set-val-*.tar",
        ["tars/set-val-002.tar", "tars/set-val-000.tar", "tars/set-val-001.tar"],
        "tars",
    ],
)
def test_the_order_of_the_archives_does_not_matter(folder, root, monkeypatch):
    monkeypatch.chdir(folder)
    listing = open_images(root, split="val")
    expected = open_images(folder / "folder", split="val")
    np.testing.assert_array_equal(listing.labels, expected.labels)
    assert [f"val/{listing.id(n)}.png" for n in range(12)] == [expected.id(n) for n in range(12)]
    for position in range(12):
        assert listing.load(position)[0].tobytes() == expected.load(position)[0].tobytes()
    assert listing.limited(3).labels.tolist() == [0, 1, 2]
    sizes = {path.stat().st_size for path in (folder / "tars").glob("*val*")}
    assert set(listing.limited(3).file_facts()[:, 0].tolist()) <= sizes


def test_names_that_each_archive_begins_anew_are_told_apart(tmp_path):
    for shard in range(2):
        members = [("0.png", encoded(photograph(shard))), ("0.cls", b"%d" % shard)]
        archive(tmp_path / f"{shard}.tar", *members)
    shards = TarShards(str(tmp_path / "*.tar"))
    assert [shards.name(n) for n in range(2)] == ["0/0", "1/0"]
    assert shards.targets.tolist() == [0, 1]
    assert repr(shards) == "TarShards('0.tar to 1.tar', archives=2, samples=2)"


def test_masks_in_archives(tmp_path):
    mask = Image.new("L", (40, 36), 1)
    members = [
        *[("b.jpg", encoded(photograph(1), "jpeg")), ("b.seg.png", encoded(mask)), ("b.png", encoded(mask))],
        *[("a.jpg", encoded(photograph(2), "jpeg")), ("a.seg.png", encoded(mask)), ("a.png", encoded(mask))],
    ]
    path = archive(tmp_path / "train.tar", *members)
    for columns in (None, ("jpg", "seg.png")):
        listing = open_masks(path, split="val", columns=columns)
        assert [listing.id(n) for n in range(2)] == ["a", "b"]
        image, found = listing.load(1)
        assert image.size == (40, 36)
        assert (found == 1).all()


def test_processes_read_the_same_archives(folder):
    shards = open_images(folder / "tars", split="val").root
    expected = sorted(image.tobytes() for image, _ in map(shards.__getitem__, range(12)))
    loader = torch.utils.data.DataLoader(pickle.loads(pickle.dumps(shards)), batch_size=None, num_workers=2)
    assert sorted(image.tobytes() for image, _ in loader) == expected


def test_another_opener(folder):
    opened = []

    def open_file(path):
        opened.append(path)
        return io.BytesIO((folder / "tars" / path.removeprefix("memory://")).read_bytes())

    shards = TarShards("memory://set-val-{000..002}.tar", open_file=open_file, workers=0)
    assert len(open_images(shards, split="val")) == 12
    assert set(opened) == set(shards.paths)
    assert shards[0][0].size == (40, 36)


GOOD = ("a.png", encoded(Image.new("RGB", (4, 4))))


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ([GOOD], r"`columns` must name members that every sample has, got 'cls', which a in .*x.tar has not"),
        ([("a.cls", b"1")], r"`columns` must name members with images, got 'jpg;jpeg;png;webp', which no"),
        (
            [GOOD, ("a.cls", b"cat")],
            r"labels as whole numbers, got b'cat' in a in .*x.tar; number the classes",
        ),
        ([], "which no sample"),
    ],
)
def test_archives_without_what_is_needed_are_refused(tmp_path, members, error):
    with pytest.raises(ValueError, match=error):
        TarShards(archive(tmp_path / "x.tar", *members))


def test_damaged_missing_and_compressed_archives_are_refused(tmp_path):
    whole = archive(tmp_path / "x.tar", GOOD, ("a.cls", b"1"))
    (tmp_path / "z.tar").write_bytes(gzip.compress(whole.read_bytes()))
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:600])
    (tmp_path / "no.tar").write_bytes(b"no archive " * 100)
    for name in ("z.tar", "no.tar", "cut.tar"):
        with pytest.raises(ValueError, match=f"not compressed, got '.*{name}'"):
            TarShards(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"not compressed, got '.*gone.tar', which is not there"):
        TarShards(tmp_path / "gone.tar")
    with pytest.raises(FileNotFoundError, match=r"which matches none"):
        TarShards(f"{tmp_path}/gone-*.tar")
    with pytest.raises(ValueError, match="at least one"):
        TarShards([])
    with pytest.raises(TypeError, match="`columns` must be two endings"):
        TarShards(whole, columns="jpg")


def test_a_broken_sample_is_named_and_can_be_skipped(tmp_path, network):
    members = [
        ("b.png", encoded(photograph(1), "png")[:90]),
        ("b.cls", b"0"),
        *[("c.png", GOOD[1]), ("c.cls", b"2")],
    ]
    path = archive(tmp_path / "x.tar", *members)
    with pytest.raises(ValueError, match=r"cannot read b in .*x.tar"):
        blurlib.evaluate(network, path, blurs="sharp", scales=28, **SMALL)
    report = blurlib.evaluate(network, path, blurs="sharp", scales=28, on_error="skip", **SMALL)
    assert report.settings["skipped"] == ["b"]
    assert report["sharp"].count == 1
    shards = TarShards(path)
    os.truncate(path, 1024)  # since it was listed
    with pytest.raises(ValueError, match="ends within the sample"):
        shards[1]


def test_shards_that_webdataset_wrote(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(f"{tmp_path}/train-%02d.tar", maxcount=2, verbose=0) as sink:
        for number in range(3):
            key = f"{'long/' * 30}{number}"  # with times and such names its headers are extended
            sink.write({"__key__": key, "jpg": photograph(number), "cls": number, "json": {"a": 1}})
    listing = open_images(tmp_path, split="train")
    assert listing.labels.tolist() == [0, 1, 2]
    assert listing.id(2) == f"{'long/' * 30}2"
    assert listing.load(2)[0].size == (40, 36)
