"""The embedded example: photographs that are there, crops without a shared pixel, a page of the records."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from blurlib import demo
from blurlib.demo import _page, _photographs


def test_sixteen_photographs_with_credits():
    found = _photographs.photographs()
    assert len(found) == len({photograph.name for photograph in found}) == 16
    for photograph in found:
        assert photograph.image.mode == "RGB"
        assert min(photograph.image.size) == 400
        assert photograph.credit


def test_training_and_validation_crops_share_no_pixel():
    learn, check = demo.crops("train", 800), demo.crops("val", 800)
    for label in range(16):
        width, height = learn.sources[label].image.size
        covered = []
        for dataset in (learn, check):
            mask = np.zeros((height, width), bool)
            for (left, top, right, bottom), own in zip(dataset.boxes, dataset.targets, strict=True):
                if own == label:
                    assert 0 <= left < right <= width
                    assert 0 <= top < bottom <= height
                    mask[top:bottom, left:right] = True
            covered.append(mask)
        assert not (covered[0] & covered[1]).any()
        assert min(mask.mean() for mask in covered) > 0.2  # both see most of their half


def test_crops_are_even_and_keyed():
    first, again, other = demo.crops("val", 64), demo.crops("val", 32), demo.crops("val", 64, seed=1)
    assert first.boxes[:32] == again.boxes
    assert first.boxes != other.boxes
    assert np.bincount(first.targets).tolist() == [4] * 16
    image, label = first[17]
    assert label == 1
    assert image.size[0] == image.size[1]
    assert 96 <= image.size[0] <= 160


def test_crops_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match=r"`split` must be one of train, val, got 'test'"):
        demo.crops("test", 4)
    with pytest.raises(ValueError, match=r"`count` must be a whole number, at least 1"):
        demo.crops("val", 0)


def test_neither_colour_nor_brightness_reaches_the_network():
    network = demo.network(5).eval()
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    shuffled = images[:, [2, 0, 1]] + 0.3
    with torch.inference_mode():
        assert torch.allclose(network(images), network(shuffled), atol=1e-4)
        assert not torch.allclose(network(images), network(images.flip(-1)), atol=1e-4)


def test_initial_weights_are_the_seeds_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = demo.network(4, seed=3), demo.network(4, seed=3), demo.network(4, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_quick_run_writes_one_page_and_its_records(tmp_path, capsys):
    page = demo.run(tmp_path / "out", quick=True)
    text = page.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "Training on sharp crops" in said
    assert str(page) in said
    report = json.loads((tmp_path / "out" / "reports" / "mix" / "report.json").read_text(encoding="utf-8"))
    for record in report["records"]:
        assert f"{100 * record['top1']:.1f}" in text
    for photograph in _photographs.photographs():
        assert photograph.credit.split(",")[0].replace("'", "&#39;") in text
    assert 'src="http' not in text
    assert "<script" not in text
    assert text.count("data:image/") > 10


def test_a_file_in_the_way_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"`out` must be a folder, got the file"):
        demo.run(tmp_path / "out", quick=True)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_examples_are_crops_that_were_lost_and_came_back():
    """The page says that its examples are chosen so: right sharp, wrong blurred, right again."""
    settings = dataclasses.replace(demo.DemoSettings(), training_crops=16, validation_crops=16)
    settings = dataclasses.replace(settings, epochs=(1,), lr=(0.1,), tuning_epochs=(1,), tuning_lr=(0.1,))
    trained = demo.train(dataclasses.replace(settings, blurs="sharp, D8"), progress=False)
    check = demo.crops("val", 16)

    def pretend(name, blur, right):
        report = trained.reports[name]
        images = dataclasses.replace(report[blur].images, correct=np.array(right, np.uint8))
        records = tuple(
            dataclasses.replace(r, images=images) if r.blur == blur else r
            for r in trained.reports[name].records
        )
        trained.reports[name] = dataclasses.replace(report, records=records)

    none = [0] * 16
    pretend("original", "sharp", [1] * 16)
    pretend("original", "D8", none)
    pretend("mix", "sharp", [1] * 16)
    pretend("mix", "D8", [int(index in (5, 9)) for index in range(16)])
    wanted, found = _page._examples(trained, check)
    assert wanted
    assert [prediction.truth for prediction in found[:4]] == [check.classes[5]] * 2 + [check.classes[9]] * 2
    assert [prediction.title for prediction in found[:2]] == ["sharp", "D8"]
