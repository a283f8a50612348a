"""What the page has beyond tables of all images: sizes of blur, calibration, classes, kept photographs."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.calibration import calibration_curve
from torch import nn

from blurlib import Report, evaluate
from blurlib.metrics import calibration_error, image_values, reliability
from blurlib.reporting import Record
from blurlib.reporting._html import sizes
from blurlib.reporting._html.class_losses import class_losses

HOSTILE = "<script>alert('x')</script> \"'&"


def values(seed, count=90, strength=3.0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    scores = torch.randn(count, classes, generator=generator)
    return image_values(scores + strength * nn.functional.one_hot(labels, classes), labels)


def report(blurs, seed=0, **settings):
    records = [
        Record.of(values(seed + number, strength=3.0 - number / 2), blur=blur, sides=(64,))
        for number, blur in enumerate(blurs)
    ]
    return Report(records=records, settings=settings)


def test_reliability_is_scikit_learns_curve():
    found = values(1)
    count, confidence, accuracy = reliability(found.confidence, found.correct)
    right, sure = calibration_curve(found.correct, found.confidence, n_bins=15)
    there = count > 0
    assert accuracy[there] == pytest.approx(right) and confidence[there] == pytest.approx(sure)
    assert count.sum() == 90 and (accuracy[~there] == 0).all()
    gap = (count * abs(accuracy - confidence)).sum() / 90
    assert gap == pytest.approx(calibration_error(found.confidence, found.correct))


def test_families_are_blurs_of_one_kind_from_sharp_to_the_largest():
    own = report(["D8", "sharp", "D2", "H4", "H8", "V4", "G2", "D2a", "shake", "L4@30", "L8@30", "L8"])
    found = {family.title: family.curves["top1"]["after"] for family in sizes.families({"after": own})}
    assert {title: [point.size for point in points] for title, points in found.items()} == {
        "defocus disk, radius in px": [0, 2, 8],
        "horizontal motion, length in px": [0, 4, 8],
        "straight motion at 30°, length in px": [0, 4, 8],
    }
    disks = found["defocus disk, radius in px"]
    assert [point.value for point in disks] == [own[blur].top1 for blur in ("sharp", "D2", "D8")]
    ends = np.quantile(own["D8"].images.samples()["top1"], [0.025, 0.975], method="inverted_cdf")
    assert disks[-1].interval == tuple(ends)
    assert sizes.families({"after": report(["sharp", "D8", "shake"])}) == []


def test_classes_that_lose_most_stand_first():
    before, after = (report(["sharp", "D4", "D8"], seed, class_names=[HOSTILE, "b", "c"]) for seed in (0, 10))
    table = class_losses(after, before=before)
    worst = min(("D4", "D8"), key=lambda blur: after[blur].top1)
    sharp, blurred = after["sharp"].images, after[worst].images
    expected = {}
    for label, name in enumerate([HOSTILE, "b", "c"]):
        chosen = sharp.label == label
        expected[name] = 100 * (sharp.correct[chosen].mean() - blurred.correct[chosen].mean())
    assert [row[0] for row in table.rows] == sorted(expected, key=lambda name: -expected[name])
    for row in table.rows:
        lost, low, high = map(float, re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", row[-1]).groups())
        assert lost == pytest.approx(expected[row[0]], abs=0.051) and low <= lost <= high
        assert row[1] == "30"
    assert f"top-1 % {worst} before" in table.header and f"What {worst} costs" in table.caption
    assert class_losses(report(["D4", "D8"])) is None and class_losses(report(["sharp"])) is None


def test_of_many_classes_the_worst_are_shown():
    labels = torch.arange(200) % 40
    scores = 3.0 * nn.functional.one_hot(labels, 40)
    sharp = image_values(scores, labels)
    blurred = image_values(torch.where(labels[:, None] < 35, scores, -scores), labels)
    records = [Record.of(each, blur=blur, sides=(64,)) for blur, each in (("sharp", sharp), ("D8", blurred))]
    table = class_losses(Report(records=records))
    assert len(table.rows) == 30 and {row[0] for row in table.rows[:5]} == {"35", "36", "37", "38", "39"}
    assert table.rows[0][-1] == "100.0 [100.0, 100.0]" and table.rows[-1][-1] == "0.0 [0.0, 0.0]"
    assert "The 30 of 40 classes that lose most" in table.caption


class Photos(list):
    classes = (HOSTILE, "dog")


def photos(count=5):
    draws = np.random.default_rng(0)
    arrays = draws.integers(0, 256, (count, 6, 8, 1), dtype=np.uint8)
    arrays = arrays.repeat(8, 1).repeat(8, 2).repeat(3, 3)  # grey, whose JPEG is close
    return Photos((Image.fromarray(array), number % 2) for number, array in enumerate(arrays))


OPTIONS = {"canonical_side": 48, "device": "cpu", "workers": 0, "progress": False, "blurs": "sharp, D2"}


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))


def decoded(uri):
    kind, data = uri.split(",")
    assert kind in ("data:image/jpeg;base64", "data:image/png;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_kept_photographs_are_what_the_network_saw(tmp_path):
    seen = []
    network = classifier()
    network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    options = OPTIONS | {"scales": 32, "crop": 32, "mean": [0] * 3, "std": [1] * 3}
    own = evaluate(network, photos(), examples=3, output=tmp_path, **options)
    loaded = Report.load(tmp_path)
    kept = loaded.settings["examples"]
    assert [each["name"] for each in kept] == [str(own["D2"].images.ids[number]) for number in (0, 2, 4)]
    assert [each["truth"] for each in kept] == [HOSTILE] * 3
    views = seen[-1].permute(0, 2, 3, 1).numpy() * 255  # the last batch: three images under two blurs
    for number, each in enumerate(kept):
        for place, blur in enumerate(("sharp", "D2")):
            error = np.abs(decoded(each["pictures"][blur]) - views[2 * number + place])
            assert error.mean() < 4
            p = dict(map(tuple, each["found"][blur]))
            assert p["dog"] + p[HOSTILE] == pytest.approx(1)
            image = own[blur].images
            position = list(image.ids).index(each["name"])
            assert max(p.values()) == pytest.approx(image.confidence[position], abs=1e-6)
    text = loaded.to_html(tmp_path / "page.html", before=own).read_text(encoding="utf-8")
    assert "Photographs under blur" in text and text.count('class="said before"') == 6
    assert "<script" not in text and "&lt;script" in text
    assert "settings" in text and "class_names" not in text  # shown elsewhere
    without = evaluate(classifier(), photos(), **options)
    assert "examples" not in without.settings
    again = evaluate(network, photos(), output=tmp_path, **options)  # another number is no other evaluation
    assert again["D2"] == own["D2"]


def test_kept_scenes_have_labels_and_predictions(tmp_path):
    torch.manual_seed(0)
    scenes = [(image, Image.fromarray(np.asarray(image)[..., 0] // 86)) for image, _ in photos(2)]
    own = evaluate(nn.Conv2d(3, 3, 1), scenes, task="segmentation", examples=8, **OPTIONS)
    kept = json.loads(own.to_json())["settings"]["examples"]
    assert len(kept) == 2
    assert (decoded(kept[0]["truth"]) == np.asarray(scenes[0][1])).all()
    for blur in ("sharp", "D2"):
        predicted = np.stack([decoded(each["found"][blur]) for each in kept])
        truth = np.stack([np.asarray(mask) for _, mask in scenes])
        matrix = own[blur].images.matrix.sum(axis=0)
        assert (predicted == truth).mean() == pytest.approx(np.trace(matrix) / matrix.sum())
    text = own.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count(": predicted") == 4 and text.count('class="switch"') == 2


def test_examples_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`examples` must be a whole number.* 8"):
        evaluate(classifier(), photos(), examples=9, **OPTIONS)


def test_a_picture_of_another_kind_does_not_come_onto_the_page(tmp_path):
    own = evaluate(classifier(), photos(), examples=1, scales=32, crop=32, **OPTIONS)
    own.settings["examples"][0]["pictures"]["D2"] = (
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()
    )
    with pytest.raises(OSError, match="not an image"):
        own.to_html(tmp_path / "page.html")
