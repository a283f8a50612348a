"""Measures of label images against scikit-learn, SciPy's distances, counts and the authors' recipe."""

import numpy as np
import pytest
import sklearn.metrics
from scipy import ndimage

from blurlib.metrics import (
    VOID,
    boundary_band,
    boundary_counts,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)


def labels(seed, size=(40, 53), classes=4, void=0.1, blobs=6):
    """Patches of classes, as scenes have them, with some void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (blobs, blobs))
    rows = np.sort(rng.integers(0, blobs, size[0]))
    columns = np.sort(rng.integers(0, blobs, size[1]))
    image = coarse[rows][:, columns]
    image[rng.random(size) < void / 4] = VOID
    image[: int(size[0] * void)] = VOID
    return image.astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_confusion_matrix_is_that_of_scikit_learn(seed):
    truth, predicted = labels(seed), labels(seed + 50, void=0)
    matrix = confusion_matrix(truth, predicted, classes=4)
    known = truth != VOID
    expected = sklearn.metrics.confusion_matrix(truth[known], predicted[known], labels=range(4))
    np.testing.assert_array_equal(matrix, expected)
    jaccard = sklearn.metrics.jaccard_score(truth[known], predicted[known], labels=range(4), average=None)
    np.testing.assert_allclose(class_iou(matrix), jaccard)
    assert float(mean_iou(matrix)) == pytest.approx(jaccard.mean())
    assert float(pixel_accuracy(matrix)) == pytest.approx(
        sklearn.metrics.accuracy_score(truth[known], predicted[known])
    )


def test_matrices_add_up_and_a_mean_of_images_is_something_else():
    pairs = [(labels(seed), labels(seed + 9, void=0)) for seed in range(4)]
    pairs[0] = (np.zeros((5, 5), np.uint8), np.ones((5, 5), np.uint8))
    each = np.stack([confusion_matrix(*pair, classes=4) for pair in pairs])
    flat = [np.concatenate([pair[side].ravel() for pair in pairs])[None] for side in (0, 1)]
    whole = confusion_matrix(*flat, classes=4)
    np.testing.assert_array_equal(each.sum(axis=0), whole)
    assert float(mean_iou(whole)) != pytest.approx(float(np.nanmean(mean_iou(each))))


def test_absent_classes_and_empty_matrices():
    matrix = np.zeros((3, 3), np.int64)
    assert np.isnan(mean_iou(matrix)) and np.isnan(pixel_accuracy(matrix))
    matrix[0, 0] = 5
    np.testing.assert_array_equal(class_iou(matrix), [1.0, np.nan, np.nan])
    assert float(mean_iou(matrix)) == 1.0  # the mean of those there are
    matrix[0, 2] = 5  # predicted where it is not
    np.testing.assert_array_equal(class_iou(matrix), [0.5, np.nan, 0.0])
    nothing = confusion_matrix(np.full((4, 4), VOID), np.zeros((4, 4), int), classes=3)
    assert nothing.sum() == 0


@pytest.mark.parametrize("void_edges", [True, False])
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_band_is_that_of_a_count_by_brute_force(width, void_edges):
    truth = labels(width, size=(15, 19), blobs=4)
    expected = np.zeros(truth.shape, bool)
    places = [(row, column) for row in range(15) for column in range(19)]
    for row, column in places:
        for other, across in places:
            near = (row - other) ** 2 + (column - across) ** 2 <= width**2
            mine, theirs = truth[row, column], truth[other, across]
            void = VOID in (mine, theirs)
            if near and mine != theirs and mine != VOID and (void_edges or not void):
                expected[row, column] = True
    np.testing.assert_array_equal(boundary_band(truth, width=width, void_edges=void_edges), expected)


@pytest.mark.parametrize("seed", range(3))
def test_band_is_where_the_nearest_other_label_is_near(seed):
    truth = labels(seed, size=(90, 120))
    away = np.zeros(truth.shape)
    for label in np.unique(truth):
        inside = truth == label
        away[inside] = ndimage.distance_transform_edt(inside)[inside]
    np.testing.assert_array_equal(boundary_band(truth), (away <= 4) & (truth != VOID))


def test_band_of_one_class_is_empty_and_a_line_has_one():
    assert not boundary_band(np.zeros((9, 9), np.uint8)).any()
    assert boundary_band(np.array([[0, 1]])).all()
    rim = np.zeros((9, 30), np.uint8)
    rim[:, 12:17], rim[:, 17:] = VOID, 1  # a rim of void as in VOC
    assert boundary_band(rim).sum() == 9 * 8
    assert not boundary_band(rim, void_edges=False).any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.02, 0.08])
def test_boundary_counts_follow_the_authors_recipe(seed, ratio):
    truth, predicted = labels(seed, void=0), labels(seed + 3, void=0)
    steps = max(1, round(ratio * np.hypot(*truth.shape)))
    counts = boundary_counts(truth, predicted, classes=4, ratio=ratio)
    for label in range(4):
        rims = []
        for image in (truth, predicted):
            # A border of zeros, eroded that many times by 3 by 3 ones, then cut off again.
            mask = np.pad(image == label, 1)
            eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=steps)
            rims.append((mask & ~eroded)[1:-1, 1:-1])
        assert counts[0, label] == (rims[0] & rims[1]).sum()
        assert counts[1, label] == (rims[0] | rims[1]).sum()


def test_void_belongs_to_no_rim():
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 10:] = VOID
    predicted = np.zeros((20, 20), np.uint8)
    predicted[:, 15:] = 1  # hidden by void
    counts = boundary_counts(truth, predicted, classes=2)
    assert counts[0].tolist() == counts[1].tolist()
    assert counts[0, 1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion_matrix(np.zeros((2, 2)), np.zeros((2, 3)), classes=2), "of one shape"),
        (lambda: confusion_matrix(np.full((2, 2), 7), np.zeros((2, 2)), classes=3), "from 0 to 2, .* got 7"),
        (lambda: confusion_matrix(np.zeros((2, 2)), np.full((2, 2), -1), classes=3), "`predicted` .* got -1"),
        (lambda: confusion_matrix(*np.zeros((2, 2, 2)), classes=2, where=np.ones((1, 1), bool)), "`where`"),
        (lambda: boundary_band(np.zeros((2, 2, 2))), "`truth` must be of shape"),
        (lambda: boundary_band(np.zeros((2, 2)), width=0), "`width`"),
        (lambda: boundary_counts(*np.zeros((2, 2, 2), int), classes=2, ratio=0.0), "`ratio` must be above 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
