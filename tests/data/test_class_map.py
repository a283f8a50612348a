"""Which outputs the classes of a root are: how a map is read, what it leaves of the scores."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import blurlib
from blurlib.data import ClassMap, class_outputs

NAMES = ("n01440764", "n02102040", "n02979186")  # of Imagenette: tench, English springer, cassette player
OF_IMAGENET = (0, 217, 482)


@pytest.mark.parametrize(
    "text",
    [
        "n01440764 0\nn02102040 217\nn02979186 482\n",
        "n02979186,482\n\nn01440764, 0\r\nn02102040,217\n",
        "\ufeffn02979186\t482\nn01440764\t0\nn02102040\t217",
    ],
    ids=["spaces", "commas", "tabs, with a byte order mark"],
)
def test_a_file_of_names_and_numbers(tmp_path, text):
    (tmp_path / "map.txt").write_text(text, encoding="utf-8")
    assert class_outputs(tmp_path / "map.txt", NAMES) == ClassMap(OF_IMAGENET, None)


def test_a_file_of_the_names_of_all_outputs(tmp_path):
    """timm's own list of ImageNet's classes, and the form of LOC_synset_mapping.txt."""
    place = Path(find_spec("timm").origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    assert class_outputs(str(place), NAMES) == ClassMap(OF_IMAGENET, 1000)
    names = place.read_text().split()
    assert class_outputs(names, NAMES) == ClassMap(OF_IMAGENET, 1000)
    described = "\n".join(f"{name} fish, fish {number % 7}" for number, name in enumerate(names))
    (tmp_path / "mapping.txt").write_text(described)
    assert class_outputs(tmp_path / "mapping.txt", NAMES) == ClassMap(OF_IMAGENET, 1000)


def test_names_with_spaces_and_numbers_are_names_where_classes_are_called_so(tmp_path):
    (tmp_path / "map.txt").write_text("bee 2\nbee 1\nAnt\n")
    assert class_outputs(tmp_path / "map.txt", ["bee 1", "bee 2"]) == ClassMap((1, 0), 3)
    (tmp_path / "map.txt").write_text("bee 2 5\nbee 1 7\n")
    assert class_outputs(tmp_path / "map.txt", ["bee 1", "bee 2"]) == ClassMap((7, 5), None)


def test_a_name_that_is_there_twice_is_of_no_output():
    assert class_outputs(["crane", "dog", "crane", "cat"], ["cat", "dog"]) == ClassMap((3, 1), 4)
    with pytest.raises(ValueError, match="without 'crane'"):
        class_outputs(["crane", "dog", "crane"], ["crane"])


@pytest.mark.parametrize(
    ("given_map", "classes", "error", "message"),
    [
        (
            "nowhere.txt",
            NAMES,
            FileNotFoundError,
            "`class_map` must be a text file.*'nowhere.txt'.*not there",
        ),
        (".", NAMES, FileNotFoundError, "a folder; write one"),
        ({"a": 0}, ("a", "b"), ValueError, r"every class of `root`.*without 'b' \(1 of 2\).*begins with 'a'"),
        ({"a": 1, "b": 1}, ("a", "b"), ValueError, "output of its own, .*got 1 for 'a' and 'b' in"),
        ({"a": 1, "b": -1}, ("a", "b"), ValueError, "counted from 0, got -1 for 'b' in"),
        ({"a": 0.5}, ("a",), TypeError, "names of classes to numbers of outputs, got {'a': 0.5}"),
        ([0, 1], ("a",), TypeError, "`class_map` must be a text file, a list .* or a mapping.*got list"),
        (7, ("a",), TypeError, "got int"),
        ({"a": 0}, (), ValueError, "got a dataset without the attribute `classes`"),
        ([], ("a",), ValueError, "a list of 0 without 'a'.*begins with nothing"),
    ],
)
def test_wrong_maps_are_named(given_map, classes, error, message):
    with pytest.raises(error, match=message):
        class_outputs(given_map, classes)


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        (ClassMap((0, 3), 4), "name all 5 outputs of `model`, got 4 names"),
        (ClassMap((0, 5), None), "hold outputs from 0 to 4 of `model`, got 5"),
    ],
)
def test_a_map_of_another_network_is_named(class_map, message):
    with pytest.raises(ValueError, match=f"`class_map` must {message}"):
        class_map.chosen(torch.zeros(2, 5))


class Scored(nn.Module):
    """Scores that differ by crop and side; of the chosen outputs only, if asked for."""

    def __init__(self, outputs, kept=None):
        super().__init__()
        generator = torch.Generator().manual_seed(outputs)
        self.weight = nn.Parameter(9 * torch.randn(outputs, 12, generator=generator))
        self.kept = kept

    def forward(self, images):
        scores = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) @ self.weight.T
        return scores if self.kept is None else scores[:, self.kept]


class Photos(list):
    def __init__(self, classes, count):
        self.classes = [f"class {number}" for number in range(classes)]
        random = np.random.default_rng(classes)
        super().__init__(
            (Image.fromarray(random.integers(0, 256, (40, 52, 3), np.uint8)), number % classes)
            for number in range(count)
        )


def outputs_of(draw_from, classes):
    return st.permutations(range(draw_from)).map(lambda order: tuple(order[:classes]))


@settings(deadline=None, max_examples=8)
@given(st.data(), st.integers(1, 6), st.sampled_from(["crops", "scales"]), st.integers(0, 3))
def test_the_numbers_are_those_of_a_network_without_the_other_outputs(data, classes, average, more):
    """Scales and crops are averaged over the classes of the root alone, whatever the others' scores are."""
    outputs = data.draw(outputs_of(classes + more, classes))
    photos, usual = Photos(classes, 7), {"blurs": "sharp, D3", "scales": ((24, 32), 24), "crop": 20}
    usual |= {"crops": "five", "average": average, "canonical_side": 36, "device": "cpu", "workers": 0}
    whole, alone = Scored(classes + more), Scored(classes + more, list(outputs))
    found = blurlib.evaluate(
        whole, photos, class_map=dict(zip(photos.classes, outputs, strict=True)), progress=False, **usual
    )
    expected = blurlib.evaluate(alone, photos, progress=False, **usual)
    assert found.settings["class_map"] == list(outputs) and found.settings["classes"] == classes
    assert f"7 images of Photos on {classes} of the network's {classes + more} classes, " in found.caption
    assert "of the network's" not in expected.caption
    for record, other in zip(found.records, expected.records, strict=True):
        np.testing.assert_array_equal(record.images.correct, other.images.correct)
        for name in ("cross_entropy", "entropy", "confidence"):
            np.testing.assert_allclose(
                getattr(record.images, name), getattr(other.images, name), rtol=1e-5, atol=1e-6
            )


def test_the_same_evaluation_writes_over_its_report(tmp_path):
    """What it finds out, such as the number of the network's outputs, is no other setting."""
    usual = {"blurs": "sharp", "scales": 24, "crop": 20, "canonical_side": 36, "device": "cpu", "workers": 0}
    photos = Photos(3, 4)
    usual |= {"class_map": {name: 2 - place for place, name in enumerate(photos.classes)}, "progress": False}
    for _ in range(2):
        report = blurlib.evaluate(Scored(5), photos, output=tmp_path, **usual)
    assert report.settings["network_outputs"] == 5


def test_training_learns_among_the_classes_of_the_root_alone(tmp_path):
    photos, usual = Photos(2, 6), {"epochs": 2, "lr": 0.01, "canonical_side": 32, "network_side": 24}
    usual |= {"crop": 16, "device": "cpu", "workers": 0, "progress": False, "batch_size": 4}
    named = {"class 0": 4, "class 1": 1}
    whole = blurlib.finetune(Scored(5), photos, class_map=named, output=tmp_path, **usual)
    alone = blurlib.finetune(Scored(5, [4, 1]), photos, **usual)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in alone.history]
    assert torch.equal(whole.model.weight, alone.model.weight)
    assert torch.equal(whole.model.weight[[0, 2, 3]], Scored(5).weight[[0, 2, 3]])
    with pytest.raises(ValueError, match=r"`resume`.*class_map \(was \[4, 1\], now \[1, 4\]\)"):
        blurlib.finetune(
            Scored(5), photos, class_map={"class 0": 1, "class 1": 4}, output=tmp_path, resume=True, **usual
        )


def test_a_map_is_of_classification():
    pair = [(Image.new("RGB", (9, 9)), Image.new("L", (9, 9)))]
    for run in (blurlib.evaluate, blurlib.finetune):
        with pytest.raises(ValueError, match="`class_map` must be left out for segmentation"):
            run(nn.Conv2d(3, 2, 1), pair, task="segmentation", class_map={"a": 0})
        for name, value in (("ignore_index", 0), ("reduce_zero_label", True)):
            with pytest.raises(ValueError, match=f"`{name}` must be left out for classification"):
                run(Scored(2), Photos(2, 2), **{name: value})
