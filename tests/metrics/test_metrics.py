"""Metrics against scikit-learn, SciPy and a transcription of the definition of the calibration error."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss, top_k_accuracy_score

from blurlib.metrics import calibration_error, image_values
from blurlib.reporting import Record, find


def scores(count, classes, seed=0, spread=3.0):
    random = np.random.default_rng(seed)
    return random.normal(scale=spread, size=(count, classes)), random.integers(classes, size=count)


def brute_calibration_error(confidence, correct, bins=15):
    """Guo et al., 2017, equation 3, bin by bin and image by image."""
    error = 0.0
    for number in range(bins):
        inside = [i for i, c in enumerate(confidence) if number / bins < c <= (number + 1) / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - mean)
    return error


@pytest.mark.parametrize("classes", [6, 20, 1000])
def test_record_agrees_with_scikit_learn_and_scipy(classes):
    logits, label = scores(300, classes)
    record = Record.of(image_values(torch.tensor(logits), torch.tensor(label)), blur="D4", sides=(256,))
    p = scipy.special.softmax(logits, axis=1)
    names = np.arange(classes)
    assert record.top1 == top_k_accuracy_score(label, p, k=1, labels=names)
    assert record.top5 == top_k_accuracy_score(label, p, k=5, labels=names)
    assert record.cross_entropy == pytest.approx(log_loss(label, p, labels=names), rel=1e-12)
    assert record.entropy == pytest.approx(scipy.stats.entropy(p, axis=1).mean(), rel=1e-12)
    brute = brute_calibration_error(p.max(axis=1), p.argmax(axis=1) == label)
    assert record.ece == pytest.approx(brute, rel=1e-12)
    assert record.count == 300 and record.skipped == 0


@settings(deadline=None, max_examples=60)
@given(
    confidence=hnp.arrays(np.float64, 40, elements=st.floats(1e-3, 1)),
    correct=hnp.arrays(np.uint8, 40, elements=st.integers(0, 1)),
    bins=st.sampled_from([1, 2, 15]),
)
def test_calibration_error_is_the_definition(confidence, correct, bins):
    expected = brute_calibration_error(confidence, correct, bins)
    assert calibration_error(confidence, correct, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_on_bin_edges_and_extremes():
    edges = np.arange(1, 16) / 15
    correct = np.arange(15) % 2
    assert calibration_error(edges, correct) == pytest.approx(brute_calibration_error(edges, correct))
    assert calibration_error(np.ones(4), np.ones(4)) == 0.0
    assert calibration_error(np.ones(4), np.zeros(4)) == 1.0


def test_equal_scores_rank_by_index_as_argmax_does():
    values = image_values(torch.zeros(7, 7), torch.arange(7))
    assert values.correct.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert values.correct5.tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_fewer_than_five_classes_look_at_all():
    values = image_values(torch.randn(9, 3), [0, 1, 2] * 3)
    assert values.correct5.all()


def test_shift_of_scores_changes_nothing_and_halves_are_computed_in_double():
    logits = torch.randn(20, 10)
    label = torch.arange(20) % 10
    plain, shifted = image_values(logits, label), image_values(logits.double() + 1000.0, label)
    assert np.allclose(plain.cross_entropy, shifted.cross_entropy, rtol=1e-9)
    half = image_values(logits.half(), label)
    exact = image_values(logits.half().double(), label)
    assert (half.entropy == exact.entropy).all() and half.entropy.dtype == np.float64


def test_an_excluded_class_adds_nothing():
    values = image_values(torch.tensor([[0.0, -torch.inf, 0.0]]), [0])
    assert values.entropy[0] == pytest.approx(np.log(2)) and values.cross_entropy[0] == pytest.approx(
        np.log(2)
    )


def test_certain_prediction_has_zero_entropy_without_a_sign():
    values = image_values(torch.tensor([[1000.0, 0.0]]), [0])
    assert str(values.entropy[0]) == "0.0" and str(values.cross_entropy[0]) == "0.0"


def test_no_image_no_record():
    with pytest.raises(ValueError, match="at least one image, got none"):
        Record.of(image_values(torch.zeros(0, 3), []), blur="D8", sides=(256,))


def test_find_names_what_there_is():
    records = [
        Record.of(image_values(torch.eye(2), [0, 0]), blur=blur, sides=sides)
        for sides in ((128,), (128, 256))
        for blur in ("sharp", "D4")
    ]
    assert find(records, ("D4", 128)) is records[1]
    assert find(records, ("D4", (128, 256))) is records[3]
    with pytest.raises(ValueError, match=r"name the scale too.*128, 128\+256"):
        find(records, "D4")
    with pytest.raises(KeyError, match=r"no condition D8; there are sharp at 128"):
        find(records, "D8")
    with pytest.raises(KeyError, match="D4 at 512"):
        find(records, ("D4", 512))
    with pytest.raises(ValueError, match="did you mean"):
        find(records, "Disk4")
