"""Intervals against Wilson's and against the coverage that they claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lensdet.metrics import evaluate
from lensdet.statistics import bootstrap_interval, resample, seed_spread, summarise, wilson_interval

LABELS = np.r_[np.ones(551), np.zeros(551)]


def logits_of(right, labels):
    """Logits of +-3, right where `right` is true."""
    return np.where(np.asarray(right) == (labels > 0), 3.0, -3.0)


@settings(max_examples=20, deadline=None)
@given(lenses=st.integers(0, 20), negatives=st.integers(0, 20), seed=st.integers(0, 5))
def test_resamples_keep_each_class(lenses, negatives, seed):
    labels = np.r_[np.ones(lenses), np.zeros(negatives)]
    weights = resample(labels, draws=7, seed=seed)
    assert weights.shape == (7, lenses + negatives)
    assert np.all(weights @ labels == lenses) and np.all(weights @ (1 - labels) == negatives)


def test_resamples_depend_on_the_seed_alone():
    np.testing.assert_array_equal(resample(LABELS, 10, 1), resample(LABELS, 10, 1))
    assert np.any(resample(LABELS, 10, 1) != resample(LABELS, 10, 2))


def test_resamples_are_multinomial():
    weights = resample(LABELS, 2000)
    assert np.abs(weights.mean(0) - 1).max() < 5 * np.sqrt(1 / 2000)
    assert weights.var() == pytest.approx(1 - 1 / 551, abs=0.01)
    halves = weights[:, 0], weights[:, 551]  # the classes are drawn apart
    assert abs(np.corrcoef(halves)[0, 1]) < 0.1


@pytest.mark.parametrize("rate", [0.7, 0.93])
def test_accuracy_interval_is_wilsons(rate):
    right = np.tile(np.arange(551) < round(rate * 551), 2)  # as many right in each class: strata change nothing
    summary = summarise(LABELS, logits_of(right, LABELS), draws=4000)["accuracy"]
    assert (summary.low, summary.high) == pytest.approx(wilson_interval(right.sum(), 1102), abs=0.002)
    assert summary.mean == pytest.approx(right.mean())


def test_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    labels = np.r_[np.ones(100), np.zeros(100)]
    covered = []
    for seed in range(300):
        logits = logits_of(rng.random(200) < np.where(labels, 0.8, 0.9), labels)
        resampled = evaluate(labels, logits[None], weights=resample(labels, 400, seed))
        intervals = [bootstrap_interval(resampled[name], 0.9) for name in ("accuracy", "recall", "precision")]
        truth = 0.85, 0.8, 0.8 / 0.9
        covered.append([low <= t <= high for (low, high), t in zip(intervals, truth, strict=True)])
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.05)


def test_resampled_metric_is_that_of_the_repeated_images():
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(3, 1102)) + 2 * LABELS - 1
    weights = resample(LABELS, 5)
    resampled = evaluate(LABELS, logits, "code", weights=weights)
    for b, w in enumerate(weights.astype(int)):
        expected = evaluate(np.repeat(LABELS, w), np.repeat(logits, w, axis=1), "code")
        for name in expected:
            np.testing.assert_allclose(resampled[name][:, b], expected[name])


def test_runs_that_agree_do_not_narrow_the_interval():
    logits = np.random.default_rng(5).normal(size=1102) + 2 * LABELS - 1
    one, ten = summarise(LABELS, logits), summarise(LABELS, np.tile(logits, (10, 1)))
    for name in one:
        assert ten[name][2:4] == pytest.approx(one[name][2:4])
        assert ten[name].spread == pytest.approx(0, abs=1e-12) and np.isnan(one[name].spread)
        assert (one[name].n_runs, ten[name].n_runs) == (1, 10)
        assert one[name].low < one[name].mean < one[name].high


def test_interval_is_of_the_mean_over_runs():
    up = np.linspace(0, 1, 101)
    assert bootstrap_interval([up, 1 - up]) == pytest.approx((0.5, 0.5))
    assert bootstrap_interval([up, up], 0.9) == pytest.approx((0.05, 0.95))


def test_summary_over_runs():
    logits = np.random.default_rng(6).normal(size=(4, 1102)) + 2 * LABELS - 1
    summary = summarise(LABELS, logits, "code")
    assert list(summary) == ["accuracy", "f_beta", "precision", "recall"]
    for name, values in evaluate(LABELS, logits, "code").items():
        assert summary[name].mean == pytest.approx(values.mean())
        assert summary[name].spread == pytest.approx(np.sqrt(((values - values.mean()) ** 2).sum() / 3))


def test_level_widens():
    logits = np.random.default_rng(7).normal(size=1102) + 2 * LABELS - 1
    narrow, wide = (summarise(LABELS, logits, level=level)["f_beta"] for level in (0.68, 0.95))
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(norm.ppf(0.975) / norm.ppf(0.84), rel=0.1)


def test_paired_difference_is_narrower():
    rng = np.random.default_rng(8)
    a = rng.normal(size=(2, 1102)) + 2 * LABELS - 1
    b = a + 0.1 * rng.normal(size=a.shape)  # nearly the same model
    weights = resample(LABELS)
    x, y = (evaluate(LABELS, z, weights=weights)["accuracy"] for z in (a, b))
    low, high = bootstrap_interval(x - y)
    single = bootstrap_interval(x)
    assert high - low < 0.5 * (single[1] - single[0])
    assert bootstrap_interval(x - x) == (0, 0)


def test_nothing_accepted():
    precision = summarise(LABELS, np.full(1102, -9.0))["precision"]
    assert (precision.mean, precision.low, precision.high) == (0, 0, 0)


def test_wilson_by_hand():
    # centre (k + z^2/2) / (n + z^2), half width z / (n + z^2) sqrt(k (n - k) / n + z^2 / 4)
    k, n, z = 45, 50, norm.ppf(0.975)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    centre = (k + z**2 / 2) / (n + z**2)
    assert wilson_interval(k, n) == pytest.approx((centre - half, centre + half))


def test_seed_spread():
    assert seed_spread([1.0, 3.0]) == pytest.approx(np.sqrt(2))
    assert np.isnan(seed_spread([1.0]))
