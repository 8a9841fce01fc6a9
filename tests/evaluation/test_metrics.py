"""Counts and scores against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lensdet.evaluation import metrics
from lensdet.evaluation.metrics import THRESHOLDS, Counts, evaluate, hard_counts, soft_counts

LABELS = np.r_[np.ones(551), np.zeros(551)]


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(size=1102) + 2 * LABELS - 1  # logits


@pytest.mark.parametrize("threshold", [0.01, 0.49, 0.5, 0.9])
def test_metrics_equal_scikit_learn(scores, threshold):
    p = metrics.probability(scores)
    counts = hard_counts(LABELS, p, threshold)
    accepted = p >= threshold
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == list(sk.confusion_matrix(LABELS, accepted).ravel())
    assert metrics.precision(counts) == pytest.approx(sk.precision_score(LABELS, accepted))
    assert metrics.recall(counts) == pytest.approx(sk.recall_score(LABELS, accepted))
    assert metrics.accuracy(counts) == pytest.approx(sk.accuracy_score(LABELS, accepted))
    for beta in (0.17, 1, 2):
        assert metrics.f_beta(counts, beta) == pytest.approx(sk.fbeta_score(LABELS, accepted, beta=beta))


def test_many_thresholds_and_models_are_counted_at_once(scores):
    p = metrics.probability(np.stack([scores, -scores, 0 * scores]))  # (3, N)
    many = hard_counts(LABELS, p, THRESHOLDS)
    assert many.tp.shape == (3, 99)
    for i in range(3):
        for j in (0, 49, 98):
            np.testing.assert_array_equal([c[i, j] for c in many], hard_counts(LABELS, p[i], THRESHOLDS[j]))


def test_a_probability_at_the_threshold_is_accepted():
    assert hard_counts([1, 0], [0.5, 0.5], 0.5) == Counts(1, 1, 0, 0)


def test_metrics_are_zero_where_nothing_is_accepted_or_to_be_found():
    nothing_accepted, no_lenses, empty = Counts(0, 0, 5, 5), Counts(0, 0, 0, 5), Counts(0, 0, 0, 0)
    for counts in (nothing_accepted, no_lenses, empty):
        assert metrics.precision(counts) == metrics.recall(counts) == metrics.f_beta(counts, 0.17) == 0
    assert metrics.accuracy(empty) == 0


def test_f_beta_equals_equation_3_18(scores):
    f, p, r = metrics.f_beta_curve(LABELS, metrics.probability(scores), 0.17)
    assert f.shape == p.shape == r.shape == (99,)
    assert np.all(f[r == 0] == 0)
    f, p, r = f[r > 0], p[r > 0], r[r > 0]
    np.testing.assert_allclose(f, (1 + 0.17**2) * p * r / (0.17**2 * p + r))


def test_f_beta_curve_uses_the_thresholds_of_the_thesis():
    np.testing.assert_allclose(THRESHOLDS, np.arange(1, 100) / 100)


def test_probabilities_of_large_float32_logits_stay_distinct():
    p = metrics.probability(np.float32([18, 20, 30]))
    assert np.all(np.diff(p) > 0) and p[-1] < 1


def test_logits_of_a_wrong_shape_are_an_error(scores):
    for call in (
        lambda: soft_counts(LABELS, scores[:, None]),
        lambda: evaluate(LABELS, scores[:-1]),
    ):
        with pytest.raises(ValueError, match="do not go with"):
            call()


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30),
    random=st.randoms(use_true_random=False),
)
def test_soft_counts_sum_to_the_images_whatever_their_order(images, random):
    labels, p = np.transpose(images)
    counts = soft_counts(labels, p)
    assert sum(counts) == pytest.approx(len(images))
    assert 0 <= metrics.f_beta(counts, 0.17) <= 1
    random.shuffle(images)
    np.testing.assert_allclose(soft_counts(*np.transpose(images)), counts, atol=1e-12)


def test_soft_counts_of_0_and_1_equal_hard_counts(scores):
    accepted = scores >= 0
    np.testing.assert_array_equal(soft_counts(LABELS, accepted), hard_counts(LABELS, metrics.probability(scores), 0.5))


def test_weights_in_soft_counts_equal_repeated_images(scores):
    weights = np.random.default_rng(1).integers(0, 3, (4, 1102))
    p = metrics.probability(scores)
    weighted = soft_counts(LABELS, p, weights)
    for i, w in enumerate(weights):
        np.testing.assert_allclose([c[i] for c in weighted], soft_counts(np.repeat(LABELS, w), np.repeat(p, w)))


def test_diverged_training_is_not_evaluated(scores):
    scores[3] = np.nan
    with pytest.raises(ValueError, match="diverged"):
        evaluate(LABELS, scores)


def test_text_and_code_protocols_differ_in_threshold_and_beta():
    labels, p = np.array([1, 1, 0, 0]), np.array([0.495, 0.9, 0.1, 0.5])
    logits = np.log(p / (1 - p))
    text, code = evaluate(labels, logits, beta=2), evaluate(labels, logits, "code", beta=2)
    # text: accepted 0.9 and 0.5; code: also 0.495, but 0.5 is rejected in the accuracy
    assert text["accuracy"] == 0.5 and code["accuracy"] == 0.75
    assert text["recall"] == 0.5 and code["recall"] == 1
    assert text["precision"] == 0.5 and code["precision"] == pytest.approx(2 / 3)
    assert text["f_beta"] == pytest.approx(0.5)
    assert code["f_beta"] == pytest.approx(1.03 * (2 / 3) / (0.03 * 2 / 3 + 1))
