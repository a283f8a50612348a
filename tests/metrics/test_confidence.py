"""Risk and coverage against plain transcriptions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blurlib.metrics import image_values, risk_coverage
from blurlib.reporting import Record, confidence_table


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_risk_is_the_mean_over_all_orders_of_equals(pairs):
    confidence, correct = np.array([c for c, _ in pairs], float), np.array([r for _, r in pairs], float)
    found = risk_coverage(confidence, correct)
    # A group of equals is entered in random order: so many of its expected errors for each of its places.
    risk, errors, seen = [], 0.0, 0
    for value in sorted(set(confidence), reverse=True):
        group = correct[confidence == value]
        for _ in group:
            errors += 1 - group.mean()
            seen += 1
            risk.append(errors / seen)
    np.testing.assert_allclose(found.risk, risk, atol=1e-12)
    assert found.area == pytest.approx(np.mean(risk))
    assert found.accuracy(1.0) == pytest.approx(correct.mean())


def test_a_network_that_knows_its_errors_has_the_least_area():
    correct = np.repeat([1, 0], [70, 30])
    knows = risk_coverage(np.linspace(1, 0, 100), correct)
    guesses = risk_coverage(np.full(100, 0.5), correct)
    wrong = risk_coverage(np.linspace(0, 1, 100), correct)
    assert knows.area < guesses.area < wrong.area
    assert guesses.area == pytest.approx(0.3)
    assert (knows.accuracy(0.7), knows.accuracy(0.5)) == (1.0, 1.0)


def test_the_accuracy_of_the_surest_is_that_of_a_sorted_list():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(37), rng.integers(0, 2, 37)
    order = np.argsort(-confidence)
    for coverage in (0.1, 0.5, 0.8, 1.0):
        count = int(np.ceil(coverage * 37))
        expected = correct[order[:count]].mean()
        assert risk_coverage(confidence, correct).accuracy(coverage) == pytest.approx(expected)


@pytest.mark.parametrize(
    "arrays", [([], []), ([0.5], [1, 0]), ([float("nan")], [1]), ([[0.5]], [[1]])], ids=str
)
def test_confidences_that_cannot_be(arrays):
    with pytest.raises(ValueError, match="must be arrays of one length without NaN"):
        risk_coverage(*map(np.array, arrays))


@pytest.mark.parametrize("coverage", [0, -1, 1.1, float("nan")])
def test_coverages_that_cannot_be(coverage):
    with pytest.raises(ValueError, match="`coverage` must be above 0 and at most 1"):
        risk_coverage(np.array([0.5]), np.array([1])).accuracy(coverage)


def test_the_table_needs_the_values_of_the_images():
    record = Record.of(image_values(torch.randn(9, 4), [0] * 9), blur="D8", sides=(256,))
    assert confidence_table([record], markdown=True).startswith("| blur | scale | 100 % |")
    with pytest.raises(ValueError, match=r"without its \.npz"):
        confidence_table([Record(**{**vars(record), "images": None})])
