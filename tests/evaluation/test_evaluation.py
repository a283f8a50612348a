"""evaluate() against a plain transcription, and its promises about inputs, workers, files and errors."""

import json
import os
import random
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset
from torchvision.models.vgg import VGG, make_layers

from blurlib import data, evaluation, models
from blurlib._common.provenance import weights_digest
from blurlib.blurs import PerImageShake, shake_of_image
from blurlib.evaluation import _kept, _loop, evaluate
from blurlib.models import MultiScale, PerScale, dense
from blurlib.notation import parse_list
from blurlib.protocol import Protocol, evaluation_views, normalised
from blurlib.reporting import Report
from images import exhaustive

CLASSES = 3
SMALL = {"canonical_side": 48, "scales": (32,), "crop": 28, "device": "cpu", "workers": 0, "progress": False}


def photo(seed, size=(70, 52), mode="RGB"):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


@pytest.fixture
def root(tmp_path):
    """train/ and val/ with 3 classes of 4 images of different sizes."""
    for split in ("train", "val"):
        for label in range(CLASSES):
            folder = tmp_path / "photos" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(4):
                size = (60 + 7 * number, 50 + 9 * label)
                photo(10 * label + number, size).save(folder / f"{number}.png")
    return tmp_path / "photos"


class Net(nn.Module):
    """A random network that sees detail, so that blur changes its scores; with batch norm and dropout."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Dropout(0.5)
        )
        self.classifier = nn.Linear(54, classes)
        self.calls = []

    def forward(self, images):
        self.calls.append(tuple(images.shape))
        return 5 * self.classifier(self.features(images).flatten(1))


def transcription(model, listing, blurs, scales, *, crops="center", average="crops", settings=SMALL):
    """One image, one blur, one scale at a time, as the paper tells it."""
    model = model.eval()
    table = {}
    for sides in scales:
        for blur in parse_list(blurs):
            rows = []
            for position in range(len(listing)):
                image, _ = listing.load(position)
                own = (
                    shake_of_image(int(listing.index[position])) if isinstance(blur, PerImageShake) else blur
                )
                means, pool = [], []
                for side in sides:
                    ((_, views),) = evaluation_views(
                        image,
                        [own],
                        protocol=Protocol(
                            network_side=side,
                            canonical_side=settings["canonical_side"],
                            crop=settings["crop"],
                        ),
                        crops=crops,
                    ).items()
                    images = normalised(views, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
                    with torch.no_grad():
                        if crops == "dense":
                            log_p = model.positions(images).flatten(2)[0].T.double()
                        else:
                            log_p = model(images).double().log_softmax(dim=1)
                    means.append(log_p.mean(dim=0))
                    pool += list(log_p)
                mean = torch.stack(pool if average == "crops" else means).mean(dim=0)
                rows.append(torch.softmax(mean, dim=0))
            table[str(blur), sides] = torch.stack(rows).numpy()
    return table


def agree(report, expected, labels):
    assert [(r.blur, r.sides) for r in report.records] == list(expected)
    for record in report.records:
        p = expected[record.blur, record.sides]
        true = p[np.arange(len(p)), labels]
        assert record.images.cross_entropy == pytest.approx(-np.log(true), abs=1e-5)
        assert record.images.entropy == pytest.approx(-(p * np.log(p)).sum(axis=1), abs=1e-5)
        assert record.images.confidence == pytest.approx(p.max(axis=1), abs=1e-5)
        assert record.top1 == np.mean(p.argmax(axis=1) == labels)


LABELS = np.repeat(np.arange(CLASSES), 4)
BLURS = "sharp, D4, H8, shake"


@pytest.mark.parametrize("average", ["crops", "scales"])
@pytest.mark.parametrize("crops", ["center", "five"])
def test_evaluate_is_the_transcription(root, crops, average):
    scales = ((20,), (32,), (20, 32), (48,))
    model, listing = Net(), data.open_images(root, split="val")
    report = evaluate(
        model, root, **{**SMALL, "scales": (20, 32, (20, 32), 48)}, blurs=BLURS, crops=crops, average=average
    )
    expected = transcription(Net(), listing, BLURS, scales, crops=crops, average=average)
    agree(report, expected, LABELS)
    assert len({record.cross_entropy for record in report.records}) == len(report.records)


def small_vgg():
    widths = [4, "M", 6, "M", 8, "M", 8, "M", 8, "M"]
    with torch.device("meta"):
        model = VGG(make_layers(widths), init_weights=False)
    torch.manual_seed(2)
    model.features, model.classifier = (
        make_layers(widths),
        nn.Sequential(nn.Dropout(), nn.Linear(392, CLASSES)),
    )
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    model.classifier[1].weight.data *= 10
    return model


@pytest.mark.parametrize("average", ["crops", "scales"])
def test_dense_evaluation_pools_all_positions_of_all_scales(tmp_path, average):
    """Sides 128 (padded), 256 and both: a larger image has more positions, so more weight unless by scale."""
    photos = [
        (photo(n, size), n % CLASSES)
        for n, size in enumerate([(390, 300), (300, 300), (300, 480), (500, 300)])
    ]
    settings = {**SMALL, "canonical_side": 300, "crop": 224}
    model = small_vgg()
    report = evaluate(
        model,
        photos,
        **{**settings, "scales": (128, (128, 256))},
        blurs="sharp, D6",
        crops="dense",
        average=average,
        batch_size=2,
    )
    listing = data.open_images(photos, split="val")
    expected = transcription(
        dense(small_vgg()),
        listing,
        "sharp, D6",
        ((128,), (128, 256)),
        crops="dense",
        average=average,
        settings=settings,
    )
    agree(report, expected, np.arange(4) % CLASSES)
    assert report.settings["crops"] == "dense" and model.training


def test_dense_and_five_crops_of_networks_without_dense_layers(root):
    with pytest.raises(ValueError, match=r'cannot be made dense: its layer `features\.3`.*crops="five"'):
        evaluate(Net(), root, **SMALL, crops="dense")


def same(a, b):
    assert a.records == b.records
    for mine, theirs in zip(a.records, b.records, strict=True):
        for field in vars(mine.images):
            assert np.array_equal(getattr(mine.images, field), getattr(theirs.images, field))
    plain = [json.loads(report.to_json())["settings"] for report in (a, b)]
    for settings in plain:
        del settings["date"]
    assert plain[0] == plain[1]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on two cores
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_whole_report_does_not_depend_on_workers(root, workers):
    settings = {**SMALL, "blurs": BLURS, "batch_size": 7, "scales": (20, 32)}
    one = evaluate(Net(), root, **settings)
    same(one, evaluate(Net(), root, **{**settings, "workers": workers}))


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batch_size_changes_nothing_but_rounding(root, batch_size):
    one = evaluate(Net(), root, **SMALL, blurs=BLURS)
    other = evaluate(Net(), root, **SMALL, blurs=BLURS, batch_size=batch_size)
    for mine, theirs in zip(one.records, other.records, strict=True):
        assert mine.cross_entropy == pytest.approx(theirs.cross_entropy, abs=1e-6)


def test_batches_are_bounded_whatever_the_conditions(root):
    model = Net()
    evaluate(model, root, **{**SMALL, "scales": (24, 32, 40)}, blurs=BLURS, crops="five", batch_size=6)
    sizes = [shape[0] for shape in model.calls[2:]]  # after the empty images of 24 and 28 px
    assert max(sizes) == 6 and sum(sizes) == 12 * 4 * 5 * 3
    assert sizes.count(6) >= len(sizes) - 2  # full ones but the last of a size


def test_large_views_count_by_their_area_and_odd_sizes_do_not_pile_up():
    from blurlib._tasks._views import ImageViews, batches

    sizes = [(40, 40 + 3 * number) for number in range(30)]
    waiting, most = 0, 0

    def items():
        nonlocal waiting
        for position, size in enumerate(sizes):
            waiting += 2 * size[0] * size[1]
            yield ImageViews(position, 0, [torch.zeros(2, 1, 3, *size, dtype=torch.uint8)])

    seen = []
    for batch, owners in batches(items(), 40, 20 * 20, [0, 0]):
        pixels = len(batch) * batch[0].shape[1] * batch[0].shape[2]
        assert len(batch) == len(owners) and (pixels <= 40 * 400 or len(batch) == 1)
        most = max(most, waiting)
        waiting -= pixels
        seen += owners
    assert sorted(seen) == [(p, b, 0, 0) for p in range(30) for b in range(2)]
    assert most <= 3 * 40 * 400


def test_each_image_is_decoded_once_and_each_view_made_once(root, monkeypatch):
    opened, blurred = [], []
    image_open, convolve = Image.open, evaluation_views.__globals__["blurred"]
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(str(a[0])) or image_open(*a, **k))
    monkeypatch.setitem(
        evaluation_views.__globals__,
        "blurred",
        lambda *a, **k: blurred.append(str(a[1])) or convolve(*a, **k),
    )
    model = Net()
    evaluate(model, root, **{**SMALL, "scales": (24, 32, (24, 32))}, blurs="sharp, D4, D8")
    assert len(opened) == len(set(opened)) == 12
    assert len(blurred) == 12 * 3
    # Two probes; the averaged setting costs no further view.
    assert sum(shape[0] for shape in model.calls[2:]) == 12 * 3 * 2


def test_network_is_left_as_it_was(root):
    model = Net().train()
    model.features[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    evaluate(model, root, **SMALL, blurs="sharp")
    assert model.training and model.features.training and not model.features[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert bool((model.classifier.weight.grad == 1).all()) and model.classifier.weight.requires_grad
    with pytest.raises(ValueError, match="`model`"):
        evaluate(Net(7).train(), root, **SMALL)


def test_mode_is_restored_after_an_error(root):
    model = Net(7).train()
    with pytest.raises(ValueError, match="got 7 scores for the 3 classes"):
        evaluate(model, root, **SMALL)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("workers", [0, 1])
def test_random_numbers_of_the_user_are_left_alone(root, workers):
    model = Net()
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  the global one is meant
    evaluate(model, root, **{**SMALL, "workers": workers}, blurs="sharp, shake", limit=6)
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002  the global one is meant


class Photos(Dataset):
    classes = ("a", "b", "c")

    def __len__(self):
        return 12

    def __getitem__(self, index):
        size = (60 + 7 * (index % 4), 50 + 9 * (index // 4))
        return photo(10 * (index // 4) + index % 4, size), index // 4


def test_a_dataset_stands_for_the_folder(root):
    folder, dataset = (evaluate(Net(), r, **SMALL, blurs=BLURS) for r in (root, Photos()))
    assert folder.records == dataset.records
    assert dataset.records[0].images.ids.tolist() == [str(i) for i in range(12)]
    assert folder.records[0].images.ids[5] == "val/class1/1.png"
    assert (folder.settings["root"], dataset.settings["root"]) == ("photos/val", "Photos")
    assert str(root.parent) not in folder.to_json()


def test_shakes_follow_the_full_listing_not_the_limit(root):
    whole = evaluate(Net(), root, **SMALL, blurs="shake")["shake"].images
    part = evaluate(Net(), root, **SMALL, blurs="sharp, shake", limit=6)["shake"].images
    places = [whole.ids.tolist().index(name) for name in part.ids]
    assert len(places) == 6 and places != list(range(6))
    assert part.cross_entropy == pytest.approx(whole.cross_entropy[places], abs=1e-6)
    other = evaluate(Net(), root, **SMALL, blurs="shake", seed=1)["shake"].images
    assert not np.allclose(other.cross_entropy, whole.cross_entropy, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1x1"])
def test_unusual_images(tmp_path, mode):
    image = photo(0, (1, 1)) if mode == "1x1" else photo(0, mode="L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    report = evaluate(Net(), [(image, 0), (photo(1), 2)], **SMALL, blurs="sharp, D8, shake")
    plain = evaluate(Net(), [(image.convert("RGB"), 0), (photo(1), 2)], **SMALL, blurs="sharp, D8, shake")
    if mode != "I;16":  # Pillow's own conversion cuts 16 bits off
        assert report.records == plain.records
    else:
        grey = evaluate(Net(), [(photo(0, mode="L"), 0), (photo(1), 2)], **SMALL, blurs="sharp, D8, shake")
        assert report.records == grey.records


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_reported_or_skipped_and_counted(root, workers):
    settings = {**SMALL, "workers": workers}
    whole = evaluate(Net(), root, **settings, blurs="sharp, shake")
    (root / "val" / "class1" / "2.png").write_bytes(b"")
    cut = root / "val" / "class2" / "0.png"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cannot read .*val.class1.2\.png.*on_error=\"skip\"") as caught:
        evaluate(Net(), root, **settings)
    assert "Traceback" not in str(caught.value)
    report = evaluate(Net(), root, **settings, blurs="sharp, shake", on_error="skip")
    assert [(r.count, r.skipped) for r in report.records] == [(10, 2)] * 2
    assert report.settings["skipped"] == ["val/class1/2.png", "val/class2/0.png"]
    assert "2 more could not be read" in report.caption
    left = [i for i, name in enumerate(whole["shake"].images.ids) if name not in report.settings["skipped"]]
    expected = whole["shake"].images.cross_entropy[left]
    assert report["shake"].images.cross_entropy == pytest.approx(expected, abs=1e-6)


def test_nothing_but_broken_files(root):
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"`root`.*all 12 were skipped; the first: cannot read"):
        evaluate(Net(), root, **SMALL, on_error="skip")


def test_output_holds_the_whole_report(root, tmp_path):
    report = evaluate(Net(), root, **SMALL, blurs="sharp, D8", output=tmp_path / "runs" / "a")
    names = sorted(path.name for path in (tmp_path / "runs" / "a").iterdir())
    assert names == ["report.csv", "report.json", "report.md", "report.npz"]
    loaded = Report.load(tmp_path / "runs" / "a")
    same(loaded, report)
    assert loaded.settings["complete"] and loaded.settings["top_k"] == CLASSES
    assert torch.__version__.startswith(loaded.settings["versions"]["torch"])
    assert (tmp_path / "runs" / "a" / "report.csv").read_text(encoding="utf-8") == report.to_csv()


def test_the_record_says_which_network_it_was(root):
    """It said "ResNet", or "DataParallel"."""
    model = Net()
    report = evaluate(nn.DataParallel(model), root, **SMALL, blurs="sharp", metadata={"file": "mix.pt"})
    known = report.settings
    assert (known["model"], known["metadata"], known["normalisation"]) == (
        "Net",
        {"file": "mix.pt"},
        "assumed",
    )
    assert known["weights_sha256"] == weights_digest(model) == weights_digest(torch.compile(model))
    assert "name" not in known and "config_not_applied" not in known
    model.pretrained_cfg = {"architecture": "net", "interpolation": "bicubic", "crop_pct": 1.0}
    known = evaluate(model, root, **SMALL, blurs="sharp").settings
    assert (known["name"], known["config_not_applied"]["interpolation"]) == ("net", "bicubic")
    report = evaluate(model, root, **SMALL, blurs="sharp", metadata={"name": "net, seed 3"})
    assert report.caption.startswith("net, seed 3, 12 images")
    with pytest.raises(TypeError, match="`metadata`"):
        evaluate(model, root, **SMALL, metadata={"net": model})
    with pytest.raises(TypeError, match=r"`metadata` .* that JSON can hold, got .*nan"):
        evaluate(model, root, **SMALL, metadata={"loss": float("nan")})
    other = Net()
    other.pretrained_cfg = {"architecture": "other", "interpolation": "box"}
    settings = {name: value for name, value in SMALL.items() if name not in ("crop", "scales")}
    both = PerScale({24: model, 32: other}, crops="center", crop=20)
    known = evaluate(both, root, **settings, blurs="sharp").settings
    assert "name" not in known and known["config_not_applied"]["interpolation"] == ["bicubic", "box"]


def test_weights_of_every_kind_have_a_digest():
    quantised = torch.ao.quantization.quantize_dynamic if hasattr(torch, "ao") else None
    model = nn.Sequential(nn.Linear(3, 2))
    first = weights_digest(model)
    model.register_buffer("table", torch.eye(3).to_sparse())
    second = weights_digest(model)
    model.table = (2 * torch.eye(3)).to_sparse()
    assert len({first, second, weights_digest(model)}) == 3
    assert quantised is None or len(weights_digest(nn.Sequential(nn.Linear(3, 2)).half())) == 64


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blurs": "sharp, D4"}, r"blurs \(was \['sharp', 'D8'\], now \['sharp', 'D4'\]\)"),
        ({"scales": (48,)}, r"scales \(was \[\[32\]\], now \[\[48\]\]\)"),
        ({"limit": 6}, r"limit \(was None, now 6\)"),
        ({"crop": 20}, r"crop \(was"),
        (
            {"mean": (0.5,) * 3},
            r"mean \(was .*; normalisation \(was 'assumed', now 'mean given, std assumed'\)",
        ),
        ({"seed": 1}, r"seed \(was 0, now 1\)"),
        ({"model": Net(CLASSES).double()}, r"weights_sha256 \(was '[0-9a-f]{64}', now '[0-9a-f]{64}'\)"),
    ],
)
def test_a_report_of_another_evaluation_is_not_written_over(root, tmp_path, changes, told):
    settings = {"model": Net(), **SMALL, "blurs": "sharp, D8", "output": tmp_path / "a"}
    evaluate(root=root, **settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(
        ValueError, match=f"`output` must hold no report of another .* report.json of .*{told}"
    ):
        evaluate(root=root, **settings | changes)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    evaluate(root=root, **settings, metadata={"name": "a note"})  # the same once more may
    evaluate(root=root, **settings | changes, overwrite=True)


def test_a_report_of_other_images_is_not_written_over(root, tmp_path):
    """The names of two folders, or two parts of a dataset, may be alike."""
    dataset = [(photo(number), number % CLASSES) for number in range(8)]
    other = tmp_path / "elsewhere" / root.name
    shutil.copytree(root, other)
    next((other / "val").rglob("*.png")).unlink()
    parts = [Subset(dataset, [0, 1, 2]), Subset(dataset, [3, 4, 5])]
    for one, two in ((root, other), parts, (dataset[:3], dataset)):
        out = tmp_path / f"out{len(one) if isinstance(one, list) else type(one).__name__}"
        evaluate(Net(), one, **SMALL, blurs="D4", output=out)
        with pytest.raises(ValueError, match=r"`output` .* with report.json of another listing \(was"):
            evaluate(Net(), two, **SMALL, blurs="D4", output=out)
        evaluate(Net(), one, **SMALL, blurs="D4", output=out)


def test_what_a_kill_leaves_is_no_file_of_others(root, tmp_path):
    """The arrays are written first, then the JSON, then the tables."""
    evaluate(Net(), root, **SMALL, blurs="D4", output=tmp_path)
    for names in (["report.md"], ["report.md", "report.csv"], ["report.md", "report.csv", "report.json"]):
        for name in names:
            (tmp_path / name).unlink()
        evaluate(Net(), root, **SMALL, blurs="D4", output=tmp_path)
    assert len(list(tmp_path.glob("report.*"))) == 4


def test_a_refusal_leaves_no_folder(root, tmp_path):
    with pytest.raises(TypeError, match="`metadata`"):
        evaluate(Net(), root, **SMALL, metadata={1: {2}}, output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_partial_report_of_another_evaluation_is_kept(root, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            Stops(2, KeyboardInterrupt()), root, **SMALL, blurs="D8", batch_size=4, output=tmp_path / "a"
        )
    with pytest.raises(ValueError, match=r"with partial.json of another model \(was 'Stops', now 'Net'\)"):
        evaluate(Net(), root, **SMALL, blurs="D8", output=tmp_path / "a")
    # The same network goes on where it stopped.
    evaluate(Stops(100, KeyboardInterrupt()), root, **SMALL, blurs="D8", batch_size=4, output=tmp_path / "a")


@pytest.mark.parametrize("name", ["report.json", "report.md", "report.csv", "partial.json"])
def test_files_of_others_are_not_written_over(root, tmp_path, name):
    (tmp_path / name).write_text("[1]")
    with pytest.raises(ValueError, match=f"`output` must hold no files of others, .* with {name}"):
        evaluate(Net(), root, **SMALL, blurs="sharp", output=tmp_path)
    assert (tmp_path / name).read_text() == "[1]"


def test_wrapped_networks_of_several_scales_are_shown_their_own(root):
    """Behind DataParallel they got the default view, which they then resized themselves."""
    inside = MultiScale(Net(), (24, 32), crops="center", crop=20)
    settings = {name: value for name, value in SMALL.items() if name not in ("crop", "scales")}
    expected = evaluate(inside, root, **settings, blurs="D4")
    for wrapped in (nn.DataParallel(inside), torch.compile(inside)):
        report = evaluate(wrapped, root, **settings, blurs="D4")
        assert report["D4"] == expected["D4"] and report.settings["scales"] == [[24, 32]]


def test_captions_tell_the_crops_that_were_seen(root):
    """They told the crop asked for, 224, where the network saw 64."""
    for scales, told in (((32,), "32"), ((48,), "40"), ((24, 32, 64), "24 and 32 and 40")):
        report = evaluate(Net(), root, **{**SMALL, "crop": 40, "scales": scales}, blurs="sharp")
        assert f"crops: center of {told} px" in report.caption


class Stops(Net):
    def __init__(self, calls, error):
        super().__init__()
        self.left, self.error = calls, error

    def forward(self, images):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().forward(images)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_stop_keeps_what_was_measured(root, tmp_path, error):
    settings = {**SMALL, "blurs": "sharp, D8", "batch_size": 4}
    whole = evaluate(Net(), root, **settings)
    with pytest.raises(type(error)):
        evaluate(Stops(4, error), root, **settings, output=tmp_path / "a")
    names = ["partial", "partial.json", "partial.npz"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    partial = Report.load(tmp_path / "a" / "partial.json")
    assert partial["D8"].count == 6 and partial.settings["complete"] is False
    assert "stopped before" in partial.caption
    assert np.array_equal(partial["D8"].images.cross_entropy, whole["D8"].images.cross_entropy[:6])
    evaluate(Net(), root, **settings, output=tmp_path / "a", overwrite=True)
    assert sorted(path.suffix for path in (tmp_path / "a").iterdir()) == [".csv", ".json", ".md", ".npz"]


def test_a_stop_before_the_first_image_leaves_nothing(root, tmp_path):
    with pytest.raises(RuntimeError, match="at once"):
        evaluate(Stops(1, RuntimeError("at once")), root, **SMALL, output=tmp_path / "a")
    assert not list((tmp_path / "a").iterdir())


def test_long_evaluations_save_on_the_way(root, tmp_path, monkeypatch):
    monkeypatch.setattr(_loop, "_SAVE_EVERY", -1.0)
    saved, save = [], _kept.Kept.save
    monkeypatch.setattr(
        _kept.Kept, "save", lambda self, images: saved.append(len(images)) or save(self, images)
    )
    evaluate(Net(), root, **SMALL, blurs="sharp", batch_size=5, output=tmp_path / "a")
    assert saved == [*range(1, 13), 12]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        f"report.{ending}" for ending in ("csv", "json", "md", "npz")
    ]


def test_scores_that_are_not_finite_name_blur_and_image(root):
    class Bad(Net):
        def forward(self, images):
            scores = super().forward(images)
            scores[7:8] = torch.nan  # 4 blurs an image: image 1, the last blur
            return scores

    with pytest.raises(
        ValueError, match=r"`model`.*under shake at side 32 for the image 'val/class0/1\.png'"
    ):
        evaluate(Bad(), root, **SMALL, blurs=BLURS)


@pytest.mark.parametrize(
    ("excluded", "known"),
    [exhaustive((), True), ((2,), True), exhaustive((0, 1), True), ((0, 1, 2), False)],
)
def test_a_network_may_exclude_classes(root, tmp_path, excluded, known):
    """By -inf, whose probability is 0; where the truth is excluded the cross-entropy is infinite."""

    class Masked(Net):
        def forward(self, images):
            scores = super().forward(images)
            scores[:, list(excluded)] = -torch.inf
            return scores

    if not known:
        with pytest.raises(ValueError, match=r"finite scores \(or -inf\), got NaN or infinity"):
            evaluate(Masked(), root, **SMALL, blurs="sharp")
        return
    report = evaluate(Masked(), root, **SMALL, blurs="sharp, D2", output=tmp_path / "a")
    for record in report.records:
        gone = np.isin(record.images.label, excluded)
        assert (np.isinf(record.images.cross_entropy) == gone).all() and not record.images.correct[gone].any()
        assert np.isfinite(record.images.entropy).all()
    again = Report.load(tmp_path / "a")
    assert again.records[0].values == report.records[0].values
    assert (report.records[0].cross_entropy is None) == bool(excluded)
    whole = evaluate(Net(), root, **SMALL, blurs="sharp, D2")
    for before, after in ((again, report), (whole, report), (report, whole)):
        assert "nan" not in str(after.compare(before)) + after.compare(before).to_json()
        assert after.to_html(tmp_path / "a.html", before=before).exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_other_scores_that_are_no_numbers_are_refused(root, value):
    class Bad(Net):
        def forward(self, images):
            scores = super().forward(images)
            scores[:, 1] = value
            return scores

    with pytest.raises(ValueError, match=r"finite scores \(or -inf\), got NaN or infinity"):
        evaluate(Bad(), root, **SMALL, blurs="sharp")


class Says(nn.Module):
    def __init__(self, say):
        super().__init__()
        self.say = say

    def forward(self, images):
        return self.say(images)


@pytest.mark.parametrize(
    ("say", "error", "message"),
    [
        (lambda x: {"scores": x}, TypeError, "must return a tensor of scores: .*, got dict with 'scores'"),
        (lambda x: (None, x), TypeError, "got tuple"),
        (lambda x: {"logits": x}, ValueError, r"got \(2, 3, 28, 28\)"),
        (lambda x: x, ValueError, r"a row of scores for each image, \(2, classes\), got \(2, 3, 28, 28\)"),
        (lambda x: x.mean((0, 2, 3)), ValueError, r"got \(3,\)"),
        (lambda x: x[:1].mean((2, 3)), ValueError, r"got \(1, 3\)"),
        (lambda x: x[:, :2].mean((2, 3)), ValueError, "got 2 scores for the 3 classes"),
    ],
)
def test_networks_that_are_no_classifiers(root, say, error, message):
    with pytest.raises(error, match=message):
        evaluate(Says(say), root, **SMALL, blurs=BLURS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"blurs": "sharp, DD4"}, ValueError, "did you mean 'D4'"),
        ({"blurs": "sharp, sharp"}, ValueError, "'sharp' twice"),
        ({"blurs": ""}, ValueError, "at least one blur"),
        ({"scales": "256"}, TypeError, "`scales` must be a sequence of sides, got '256'"),
        ({"scales": (256.0,)}, TypeError, "`scales` must hold whole numbers of pixels, got 256.0"),
        ({"scales": (True,)}, TypeError, "`scales` must hold whole numbers"),
        ({"scales": (0,)}, ValueError, "`scales` must hold different sides of at least 1 px, got 0"),
        ({"scales": ((32, 32),)}, ValueError, "different sides"),
        ({"scales": ((),)}, ValueError, r"different sides of at least 1 px, got \(\)"),
        ({"scales": ()}, ValueError, "at least one setting"),
        ({"scales": (32, (32,))}, ValueError, "each once"),
        ({"crops": "ten"}, ValueError, "`crops` must be one of center, five, dense, got 'ten'"),
        ({"average": "mean"}, ValueError, "`average` must be one of crops, scales"),
        ({"crop": 0}, ValueError, "`crop`"),
        ({"canonical_side": 0}, ValueError, "`canonical_side`"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"workers": -1}, ValueError, "`workers`"),
        ({"limit": 0}, ValueError, "`limit`"),
        ({"on_error": "ignore"}, ValueError, "`on_error`"),
        ({"mean": (0.5, 0.5)}, ValueError, "`mean`"),
        ({"std": (0.5, 0.5, 0.0)}, ValueError, "`std`"),
        ({"device": "cudaa"}, ValueError, "`device`"),
    ],
)
def test_bad_options(root, change, error, message):
    with pytest.raises(error, match=message):
        evaluate(Net(), root, **{**SMALL, **change})


def test_bad_models_roots_labels_and_outputs(root, tmp_path):
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got str"):
        evaluate("vgg16", root)
    with pytest.raises(FileNotFoundError, match="`root`"):
        evaluate(Net(), tmp_path / "nowhere", **SMALL)
    with pytest.raises(FileNotFoundError, match="'val'"):
        evaluate(Net(), next((root / "val").iterdir()), **SMALL)
    with pytest.raises(ValueError, match=r"labels from 0 to 2, .* got 3 for the image '1'"):
        evaluate(Net(), [(photo(0), 0), (photo(1), 3)], **SMALL)
    with pytest.raises(ValueError, match="got -1 for the image '0'"):
        evaluate(Net(), [(photo(0), -1)], **SMALL)
    with pytest.raises(TypeError, match="PIL image, label"):
        evaluate(Net(), [(torch.zeros(3, 8, 8), 0)], **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`output` must be a folder, got the file"):
        evaluate(Net(), root, **SMALL, output=tmp_path / "file")


def test_defaults_are_the_papers():
    parsed = [str(blur) for blur in parse_list(evaluation.PAPER_BLURS)]
    assert parsed == ["sharp", "D2", "D4", "D6", "D8", "H4", "H8", "V4", "V8", "shake", "G4", "G8"]
    photos = [(photo(0), 0), (photo(1), 1)]
    settings = evaluate(Net(), photos, blurs="sharp", workers=0, progress=False, device="cpu").settings
    assert (settings["canonical_side"], settings["crop"], settings["scales"]) == (384, 224, [[256]])
    assert (settings["crops"], settings["average"]) == ("center", "crops")


def test_networks_of_other_precision_and_normalisation(root):
    seen = []

    class Half(Net):
        def forward(self, images):
            seen.append((images.dtype, images.min().item(), images.max().item()))
            return super().forward(images)

    plain = evaluate(Net(), root, **SMALL, blurs="D4")["D4"]
    report = evaluate(Half().double(), root, **SMALL, blurs="D4")
    assert seen[0][0] == torch.float64 and report["D4"].cross_entropy == pytest.approx(
        plain.cross_entropy, abs=1e-5
    )
    seen.clear()
    model = Half()
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    timm = evaluate(model, [(Image.new("RGB", (50, 50), "white"), 0)], **SMALL, blurs="sharp")
    assert seen[-1][1:] == (2.0, 2.0) and timm.settings["mean"] == [0.5, 0.5, 0.5]
    evaluate(
        model,
        [(Image.new("RGB", (50, 50), "white"), 0)],
        **SMALL,
        blurs="sharp",
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    assert seen[-1][1:] == (1.0, 1.0)


def test_progress_goes_to_stderr_only_when_asked(root, capsys):
    evaluate(Net(), root, **SMALL, blurs="sharp")
    assert capsys.readouterr() == ("", "")
    evaluate(Net(), root, **{**SMALL, "progress": True}, blurs="sharp")
    captured = capsys.readouterr()
    assert captured.out == "" and re.fullmatch(r"evaluate: 12 images, \d+\.\d s\n", captured.err)


@pytest.mark.cuda
def test_device_is_given_back(root):
    model = Net()
    report = evaluate(model, root, **{**SMALL, "device": "cuda"}, blurs=BLURS)
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    cpu = evaluate(Net(), root, **SMALL, blurs=BLURS)
    assert report["D4"].cross_entropy == pytest.approx(cpu["D4"].cross_entropy, abs=1e-3)


class Moves(Net):
    """Records where it is sent and stays where it is, so that the test needs no second device."""

    def __init__(self):
        super().__init__()
        self.moves = []

    def to(self, device):
        self.moves.append(str(device))
        return self


def test_network_is_moved_to_the_device_and_back_even_after_an_error():
    model = Moves()

    def fails():
        with models.eval_mode(model, torch.device("meta")) as device:
            assert model.moves == ["meta"] and device.type == "meta" and not model.training
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert model.moves == ["meta", "cpu"] and model.training
    with models.eval_mode(model, torch.device("cpu")):
        pass
    assert len(model.moves) == 2


def test_network_spread_over_devices_stays_where_it_is():
    model = Moves()
    model.classifier.bias = nn.Parameter(torch.zeros(CLASSES, device="meta"))
    with models.eval_mode(model, torch.device("meta")) as device:
        assert device.type == "cpu"
    assert not model.moves


def test_compare_reads_as_in_the_readme(root):
    before, after = (evaluate(net, root, **SMALL, blurs="sharp, D8") for net in (Net(), Net()))
    text = str(after.compare(before))
    assert "top-1" in text and "D8" in text
    with pytest.raises(ValueError, match="same images"):
        after.compare(evaluate(Net(), root, **SMALL, blurs="sharp, D8", limit=9))
    with pytest.raises(ValueError, match="`crop` 28 and 24"):
        after.compare(evaluate(Net(), root, **{**SMALL, "crop": 24}, blurs="sharp, D8"))


def test_output_paths_of_this_machine_stay_out_of_the_report(root, tmp_path):
    (root / "val" / "class0" / "0.png").write_bytes(b"")
    evaluate(Net(), root, **SMALL, blurs="sharp", on_error="skip", output=tmp_path / "a")
    for name in ("report.json", "report.csv", "report.md"):
        assert os.fspath(tmp_path) not in (tmp_path / "a" / name).read_text(encoding="utf-8")


def test_the_filter_is_a_named_parameter(tmp_path):
    """Another filter shows the network other pixels, and the report says which it was."""
    photographs = [
        (Image.fromarray(np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8)), i % 2)
        for i in range(4)
    ]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    settings = {
        "blurs": "sharp",
        "scales": 32,
        "crop": 32,
        "canonical_side": 48,
        "progress": False,
        "device": "cpu",
    }
    found = {name: evaluate(model, photographs, resample=name, **settings) for name in ("bilinear", "box")}
    assert found["box"].settings["resample"] == "box"
    assert found["box"]["sharp"].entropy != found["bilinear"]["sharp"].entropy
    with pytest.raises(ValueError, match="`resample` must be one of bilinear"):
        evaluate(model, photographs, resample="nearest", **settings)


# Networks of several scales


class OneClass(nn.Module):
    """One class for sure, whatever it sees."""

    def __init__(self, label):
        super().__init__()
        self.register_buffer("logits", torch.eye(CLASSES)[label] * 9)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_a_network_of_several_scales_is_shown_the_protocols_views(root):
    model = small_vgg()
    usual = {"canonical_side": 48, "device": "cpu", "workers": 0, "progress": False, "blurs": "sharp, D4"}
    expected = evaluate(model, root, scales=((32, 64),), crops="dense", **usual)
    found = evaluate(MultiScale(model, (32, 64)), root, **usual)
    assert found.settings["crops"] == "dense"
    for ours, theirs in zip(found.records, expected.records, strict=True):
        assert (ours.blur, ours.sides) == (theirs.blur, theirs.sides)
        np.testing.assert_array_equal(ours.images.cross_entropy, theirs.images.cross_entropy)


def test_each_scale_has_its_own_network_though_the_crops_are_of_one_size(root):
    networks = {32: OneClass(0), 64: OneClass(1)}
    usual = {"canonical_side": 48, "device": "cpu", "workers": 0, "progress": False, "blurs": "sharp"}
    for sides, label in (((32,), 0), ((64,), 1)):
        chosen = {side: networks[side] for side in sides}
        report = evaluate(PerScale(chosen, crops="center", crop=28), root, **usual)
        np.testing.assert_array_equal(report["sharp"].images.correct, report["sharp"].images.label == label)
    both = evaluate(PerScale(networks, crops="center", crop=28), root, **usual)["sharp"]
    assert both.sides == (32, 64)
    # Half of the votes for each of two classes: the softmax of the mean log-probability.
    mean = (torch.stack([network.logits for network in networks.values()]).log_softmax(1)).mean(0)
    expected = -mean.log_softmax(0)[torch.from_numpy(both.images.label)].double()
    np.testing.assert_allclose(both.images.cross_entropy, expected.numpy(), rtol=1e-6)


def test_a_network_of_several_scales_keeps_its_settings(root):
    network = PerScale({32: OneClass(0)}, crops="center", crop=28)
    for wrong in ({"scales": (64,)}, {"crops": "five"}, {"crop": 20}, {"average": "scales"}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be left out"):
            evaluate(network, root, canonical_side=48, progress=False, **wrong)
    evaluate(network, root, canonical_side=48, progress=False, scales=32, crops="center", workers=0)


def test_a_listing_is_taken_as_it_is(root):
    listing = data.open_images(root, split="val")
    some = listing.subset(np.array([1, 5, 9]))
    report = evaluate(OneClass(0), some, blurs="sharp", **SMALL)
    assert report["sharp"].images.ids.tolist() == [listing.id(1), listing.id(5), listing.id(9)]
    with pytest.raises(ValueError, match="must list train images"):
        data.open_images(listing, split="train")


@pytest.mark.parametrize("crops", ["center", "dense"])
def test_a_side_that_the_network_cannot_take_is_named(root, crops):
    with pytest.raises(
        ValueError,
        match=r"`model` must take images of \(2, 3, 16, 16\), float32 on cpu, got the error '.*'; it takes "
        r"32 x 32: choose `scales` and `crop`",
    ):
        evaluate(
            small_vgg(), root, blurs="sharp", scales=(16,), crops=crops, canonical_side=48, progress=False
        )
