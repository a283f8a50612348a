"""Recovered shares and their intervals against SciPy's bootstrap and the definitions."""

import json

import numpy as np
import pytest
import scipy.stats

from blurlib import metrics
from blurlib.metrics import ImageValues, _bootstrap
from blurlib.reporting import Record, Report, compare

COUNT = 150


def record(blur, accuracy, *, seed, sides=(256,), count=COUNT, loss=None):
    """A record whose images are right with a probability, harder images less often: pairs are correlated."""
    hardness = np.random.default_rng(99).uniform(size=count)
    noise = np.random.default_rng(seed).uniform(size=count)
    correct = (0.7 * hardness + 0.3 * noise < accuracy).astype(np.uint8)
    cross_entropy = (1.2 - correct + noise) if loss is None else np.full(count, loss)
    images = ImageValues(
        ids=np.array([f"val/a/{i}.jpg" for i in range(count)]),
        label=np.zeros(count, np.int64),
        correct=correct,
        correct5=np.maximum(correct, hardness < 0.9).astype(np.uint8),
        entropy=noise,
        cross_entropy=cross_entropy,
        confidence=np.full(count, 0.5),
    )
    return Record.of(images, blur=blur, sides=sides)


def compare_records(after, before, control=None, **options):
    """Compare the records of networks, a list each."""
    every = [[Report(records=records) for records in kind] for kind in (after, before, control or [])]
    return compare(every[0], every[1], control=every[2] or None, **options)


def report(sharp, d4, d8, *, seed):
    return [
        record(b, a, seed=seed + n) for n, (b, a) in enumerate({"sharp": sharp, "D4": d4, "D8": d8}.items())
    ]


BEFORE = report(0.9, 0.75, 0.4, seed=10)
AFTER = report(0.88, 0.8, 0.7, seed=20)
CONTROL = report(0.92, 0.75, 0.5, seed=30)


def column(records, number, name="correct"):
    return getattr(records[number].images, name).astype(float)


def test_values_are_the_definition():
    change = compare_records([AFTER], [BEFORE])["D8"].top1
    sharp, blurred, after = BEFORE[0].top1, BEFORE[2].top1, AFTER[2].top1
    assert (change.before, change.after, change.sharp, change.control) == (blurred, after, sharp, None)
    assert change.difference == pytest.approx(after - blurred)
    assert change.recovered == pytest.approx((after - blurred) / (sharp - blurred))
    assert change.reference == change.before


def test_control_takes_the_place_of_the_original():
    comparison = compare_records([AFTER], [BEFORE], control=[CONTROL])
    change = comparison["D8"].top1
    sharp, blurred, after = CONTROL[0].top1, CONTROL[2].top1, AFTER[2].top1
    assert change.before == BEFORE[2].top1 and change.control == change.reference == blurred
    assert change.recovered == pytest.approx((after - blurred) / (sharp - blurred))
    assert change.difference == pytest.approx(after - blurred)
    cross = comparison["D8"].cross_entropy
    assert cross.difference == pytest.approx(AFTER[2].cross_entropy - CONTROL[2].cross_entropy)
    assert "against the control" in comparison.table() and "(" in comparison.table().splitlines()[2]


@pytest.mark.parametrize(("name", "metric"), [("correct", "top1"), ("cross_entropy", "cross_entropy")])
def test_intervals_agree_with_scipy(name, metric):
    """Percentile bootstrap of ratio and difference, images paired; 0.015 is sampling error of the ends."""
    change = getattr(compare_records([AFTER], [BEFORE], resamples=20_000)["D8"], metric)
    samples = (column(AFTER, 2, name), column(BEFORE, 2, name), column(BEFORE, 0, name))

    def scipy_interval(statistic, data):
        result = scipy.stats.bootstrap(
            data, statistic, paired=True, vectorized=True, n_resamples=20_000, method="percentile",
            random_state=np.random.default_rng(1),
        )  # fmt: skip
        return tuple(result.confidence_interval)

    def share(after, before, sharp, axis=-1):
        after, before, sharp = after.mean(axis), before.mean(axis), sharp.mean(axis)
        return (after - before) / (sharp - before)

    def difference(after, before, axis=-1):
        return after.mean(axis) - before.mean(axis)

    assert change.recovered_interval == pytest.approx(scipy_interval(share, samples), abs=0.015)
    assert change.difference_interval == pytest.approx(scipy_interval(difference, samples[:2]), abs=0.015)


def test_pairing_narrows_the_interval():
    low, high = compare_records([AFTER], [BEFORE])["D8"].top1.difference_interval
    unpaired = np.sqrt(sum(column(r, 2).var() / COUNT for r in (AFTER, BEFORE)))
    assert high - low < 0.9 * 2 * 1.96 * unpaired


def test_not_defined_under_two_standard_errors():
    same = record("D4", 0.9, seed=10)  # the draws of the sharp record: no image differs
    comparison = compare_records([[AFTER[0], AFTER[1]]], [[BEFORE[0], same]])
    assert comparison["D4"].recovered is None and comparison["D4"].recovered_interval is None
    assert comparison["sharp"].recovered is None and comparison["sharp"].entropy.recovered is None
    assert comparison.table().splitlines()[-3].endswith(" -")


@pytest.mark.parametrize(("lost", "count", "defined"), [(3, 10, False), (3, 8, True), (4, 100, True)])
def test_two_standard_errors_is_the_boundary(lost, count, defined):
    """k of n images lost is sqrt(k (n - 1) / (n - k)) standard errors: 1.96, 2.05 and 2.03 of them."""

    def made(blur, wrong):
        base = record(blur, 1.1, seed=0, count=count)
        base.images.correct[:wrong] = 0
        return Record.of(base.images, blur=blur, sides=(256,))

    before = [made("sharp", 0), made("D4", lost)]
    assert (compare_records([before], [before])["D4"].recovered is not None) == defined


def test_a_gain_through_blur_is_no_loss():
    before = [record("sharp", 0.4, seed=1), record("D8", 0.9, seed=2)]
    assert compare_records([before], [before])["D8"].recovered is None


def test_without_sharp_nothing_is_recovered_but_changes_are_told():
    row = compare_records([AFTER[1:]], [BEFORE[1:]])["D8"]
    assert row.top1.sharp is None and row.recovered is None and row.top1.difference > 0


def test_several_networks_are_averaged_and_images_resampled_jointly():
    others = [report(0.88, 0.8, 0.7, seed=seed) for seed in (40, 50)]
    pooled = compare_records([AFTER, *others], [BEFORE])
    mean = np.mean([column(r, 2) for r in (AFTER, *others)], axis=0)
    assert pooled["D8"].top1.after == pytest.approx(mean.mean())
    assert pooled.runs == {"before": 1, "after": 3, "control": 0} and "mean of 3 networks" in pooled.table()
    draws = metrics.means(np.stack([mean, column(BEFORE, 2)], axis=1))
    expected = metrics.interval(draws[:, 0] - draws[:, 1])
    assert pooled["D8"].top1.difference_interval == pytest.approx(expected)
    again = compare_records([AFTER, AFTER], [BEFORE, BEFORE])
    assert again["D8"].top1 == compare_records([AFTER], [BEFORE])["D8"].top1


def test_intervals_are_repeatable_and_hold_their_level():
    first, second = (compare_records([AFTER], [BEFORE])["D8"] for _ in range(2))
    assert first == second
    other = compare_records([AFTER], [BEFORE], seed=1)["D8"]
    assert other.cross_entropy.difference_interval != first.cross_entropy.difference_interval
    wide = compare_records([AFTER], [BEFORE], level=0.99)["D8"].top1.difference_interval
    low, high = first.top1.difference_interval
    assert wide[0] < low < first.top1.difference < high < wide[1]


def test_bootstrap_draws_every_image_as_often_and_does_not_depend_on_blocks(monkeypatch):
    values = np.eye(7)
    draws = metrics.means(values, resamples=4000)
    assert np.allclose(draws.sum(axis=1), 1) and np.allclose(draws.mean(axis=0), 1 / 7, atol=0.004)
    assert np.allclose(draws.var(axis=0), 1 / 7 * 6 / 7 / 7, rtol=0.1)
    monkeypatch.setattr(_bootstrap, "_BLOCK", 7 * 30)
    assert np.allclose(draws[:100], metrics.means(values, resamples=100), atol=1e-15)


def test_bootstrap_means_do_not_depend_on_the_order_of_sums():
    """Means over three seeds are thirds: sums differ in their last bits from one processor to another."""
    values = np.random.default_rng(0).integers(0, 4, (400, 14)) / 3
    together = metrics.means(values)
    alone = np.concatenate([metrics.means(values[:, [column]]) for column in range(14)], axis=1)
    assert np.array_equal(together, alone)


def test_losses_that_reach_zero_leave_the_share_unbounded():
    shares = metrics.shares(np.array([1.0, -1, 0, 2]), np.array([0.0, -1, 0, 4]))
    assert shares.tolist() == [np.inf, -np.inf, 0, 0.5]
    assert metrics.interval(np.array([-np.inf, 0.0, np.inf, np.inf])) == (-np.inf, np.inf)
    comparison = compare_records([AFTER], [BEFORE])
    row = comparison.rows[2]
    object.__setattr__(row.top1, "recovered_interval", (0.5, np.inf))
    assert "[50, ∞]" in comparison.table()
    plain = json.loads(comparison.to_json())
    assert plain["rows"][2]["top1"]["recovered_interval"] == [0.5, None]


def test_only_shared_conditions_are_compared_scale_by_scale():
    both = [
        record(b, a, seed=3, sides=s) for s in ((128,), (128, 256)) for b, a in (("sharp", 0.9), ("D8", 0.4))
    ]
    comparison = compare_records([both], [[*both[:2], record("G4", 0.3, seed=1, sides=(128,))]])
    assert [(row.blur, row.sides) for row in comparison.rows] == [("sharp", (128,)), ("D8", (128,))]
    whole = compare_records([both], [both])
    assert whole["D8", (128, 256)].top1.sharp == both[2].top1
    assert "128+256" in whole.table() and "scale" in whole.to_markdown()
    with pytest.raises(ValueError, match=r"share a condition.*sharp at 128"):
        compare_records([both], [BEFORE])


def test_other_images_are_refused_with_their_number():
    fewer = [record("D8", 0.5, seed=1, count=COUNT - 2)]
    with pytest.raises(ValueError, match="got 150 and 148 images of which 2 images are in only one"):
        compare_records([[AFTER[2]]], [fewer])
    relabelled = record("D8", 0.5, seed=1)
    relabelled.images.label[:3] = 1
    with pytest.raises(ValueError, match="same `label` of each image as this report, got 3 images"):
        compare_records([[AFTER[2]]], [[relabelled]])
    moved = record("D8", 0.5, seed=1)
    moved.images.ids[:] = moved.images.ids[::-1].copy()
    with pytest.raises(ValueError, match="their order differs"):
        compare_records([[AFTER[2]]], [[moved]])


def test_a_single_image_has_no_standard_error():
    one = [record("sharp", 1.1, seed=1, count=1), record("D8", -0.1, seed=1, count=1)]
    assert compare_records([one], [one])["D8"].recovered is None


def test_tables_say_what_the_numbers_are(tmp_path):
    comparison = compare_records([AFTER], [BEFORE])
    assert str(comparison) == comparison.table()
    head = comparison.table().splitlines()[0]
    for word in ("top-1 %", "top-5 %", "entropy", "cross-entropy", "before -> after"):
        assert word in head
    assert "150 images" in comparison.table() and "95% intervals" in comparison.table()
    text = comparison.to_markdown(tmp_path / "c.md")
    assert (tmp_path / "c.md").read_text(encoding="utf-8") == text and text.count("| D8 |") == 2
    row = comparison["D8"]
    assert row.before["top1"] == BEFORE[2].top1 and row.after["entropy"] == pytest.approx(AFTER[2].entropy)
    assert row.recovered == row.top1.recovered and row.recovered_interval == row.top1.recovered_interval
