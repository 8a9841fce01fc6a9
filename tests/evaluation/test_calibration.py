"""Calibration against scikit-learn, closed forms and plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from lensdet.evaluation.calibration import TEMPERATURES, brier, expected_calibration_error, reliability, temperature


@pytest.fixture
def calibrated():
    """Labels drawn with the probabilities that the logits say."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 2000)
    return (rng.random(2000) < expit(logits)).astype(int), logits


@pytest.mark.parametrize("scale", [0.3, 1, 5])
def test_temperature_minimises_the_log_loss(calibrated, scale):
    labels, logits = calibrated[0], scale * calibrated[1]

    def loss(t):
        return log_loss(labels, expit(logits / t))

    low, high = 0.02, 50
    for _ in range(4):  # brute force, closer each time
        grid = np.geomspace(low, high, 31)
        best = np.argmin([loss(t) for t in grid])
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 30)]
    t = temperature(labels, logits)
    assert low <= t <= high and high / low < 1.01
    assert t == pytest.approx(scale, rel=0.15)  # 3 standard errors


def test_temperature_equals_a_logistic_regression(calibrated):
    labels, logits = calibrated
    fit = LogisticRegression(C=1e12, fit_intercept=False, tol=1e-10).fit(logits[:, None], labels)
    assert temperature(labels, logits) == pytest.approx(1 / fit.coef_[0, 0], rel=1e-5)


@pytest.mark.parametrize("size", [1e-1, 17, 40, 1e4])
@pytest.mark.parametrize("wrong", [1, 30, 49])
def test_temperature_of_saturated_logits_is_exact(size, wrong):
    labels = np.tile([1, 0], 50)
    logits = np.float32(size) * (2 * labels - 1)
    logits[:wrong] *= -1  # p must be 1 - wrong/100, so size/T is its logit
    assert temperature(labels, logits) == pytest.approx(size / np.log((100 - wrong) / wrong), rel=1e-6)


def test_saturated_correct_logits_do_not_change_the_temperature(calibrated):
    labels, logits = np.r_[calibrated[0], 1, 0], np.r_[calibrated[1], 1e4, -1e4]  # right, and too sure to matter
    assert temperature(labels, logits) == pytest.approx(temperature(*calibrated), rel=1e-9)
    assert temperature(labels, np.r_[calibrated[1], -1e4, 1e4]) > 100  # wrong


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(10, 40), scale=st.floats(0.5, 100))
def test_temperature_scales_with_the_logits(seed, n, scale):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    logits = rng.normal(size=n) + 2 * labels - 1
    logits[:2] = 1, -1  # wrong: not separable
    t = temperature(labels, logits)
    if t < TEMPERATURES[1]:
        assert temperature(labels, scale * logits) == pytest.approx(scale * t, rel=1e-6)
        assert temperature(labels, logits / t) == pytest.approx(1, rel=1e-6)
        assert temperature(1 - labels, -logits) == pytest.approx(t, rel=1e-6)
    else:  # the logits point the wrong way, at every temperature
        assert (2 * labels - 1) @ logits <= 0.001


@pytest.mark.parametrize("size", [0.1, 3, 1e4, 1e5])
def test_temperature_is_at_its_bounds_for_separable_or_useless_logits(size):
    assert temperature([1, 0], [size, -size]) == TEMPERATURES[0]  # separable
    assert temperature([1, 0, 0], [size, -size, 0]) == TEMPERATURES[0]
    assert temperature([1, 0], [-size, size]) == TEMPERATURES[1]  # all wrong
    assert temperature([1, 0], [size, size]) == TEMPERATURES[1]  # nothing known
    assert temperature([1, 0], [0, 0]) == TEMPERATURES[1]


def test_brier_score_equals_scikit_learn(calibrated):
    assert brier(*calibrated) == pytest.approx(brier_score_loss(calibrated[0], expit(calibrated[1])))
    assert brier([1, 0, 1, 0], [1e4, -1e4, -1e4, 0]) == pytest.approx((0 + 0 + 1 + 0.25) / 4)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_reliability_diagram_equals_scikit_learn(calibrated, bins):
    labels, logits = np.r_[calibrated[0], 0, 1], np.r_[calibrated[1], 0, 1e4]  # and p at an edge, and at 1
    diagram = reliability(labels, logits, bins)
    fraction, mean = calibration_curve(labels, expit(logits), n_bins=bins)
    np.testing.assert_allclose(diagram.fraction, fraction)
    np.testing.assert_allclose(diagram.mean_prediction, mean)
    edges = np.linspace(0, 1, bins + 1)
    edges[0] = -1
    inside = [np.sum((expit(logits) > a) & (expit(logits) <= b)) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(diagram.count, [n for n in inside if n])


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(st.tuples(st.booleans(), st.floats(-40, 40)), min_size=1, max_size=30),
    bins=st.integers(1, 20),
)
def test_expected_calibration_error_equals_a_plain_loop(images, bins):
    labels, logits = np.transpose(images)
    total = 0
    for b in range(bins):
        inside = [
            (label, p)
            for label, p in zip(labels, expit(logits), strict=True)
            if (p > b / bins or b == 0) and p <= (b + 1) / bins
        ]
        total += abs(sum(p - label for label, p in inside))
    error = expected_calibration_error(labels, logits, bins)
    assert error == pytest.approx(total / len(images), abs=1e-12)
    overall = abs(np.mean(expit(logits)) - np.mean(labels))
    assert error >= overall - 1e-12  # bins cannot hide a bias
    assert expected_calibration_error(labels, logits, 1) == pytest.approx(overall, abs=1e-12)


def test_expected_calibration_error_tells_calibrated_from_not():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 20_000)
    labels = rng.random(20_000) < expit(logits)
    assert expected_calibration_error(labels, logits) < 0.4 * np.sqrt(15 / 20_000)  # noise alone
    assert expected_calibration_error(labels, 3 * logits) > 0.1
    assert expected_calibration_error([1, 0], np.log([9, 9])) == pytest.approx(0.4)  # 0.9 predicted, 0.5 true
    assert expected_calibration_error([0, 1], [1e4, -1e4]) == 1


@pytest.mark.parametrize("score", [temperature, brier, reliability, expected_calibration_error])
def test_calibration_refuses_bad_labels_and_logits(score):
    with pytest.raises(ValueError, match="do not go with"):
        score([1, 0], [[1], [2]])
    with pytest.raises(ValueError, match="do not go with"):
        score([1, 0], [1, 2, 3])
    with pytest.raises(ValueError, match="1 for a lens"):
        score([1, -1], [1, 2])
    for logit in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            score([1, 0], [logit, 0])


def test_temperature_needs_both_classes():
    for labels, missing in (([1, 1], "negatives"), ([0, 0], "lenses"), ([], "lenses")):
        with pytest.raises(ValueError, match=f"no {missing}"):
            temperature(labels, np.ones(len(labels)))
    assert brier([0, 0], [-1e4, -1e4]) == expected_calibration_error([0, 0], [-1e4, -1e4]) == 0
