"""Thresholds against scikit-learn, exact fractions, plain loops and the theory of the optimal F_beta."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from lensdet.evaluation import thresholds
from lensdet.evaluation.thresholds import (
    best_threshold,
    curve,
    effective_threshold,
    inspected_per_lens,
    mixed_fpr,
    optimal_threshold,
    purity,
)

BETAS = 0.05, 0.17, 0.5, 1, 2
LEVELS = 0.1, 0.5, 0.75, 0.9, 1


def precision_at_recall(labels, logits, recall, weights=None):
    return thresholds.precision_at_recall(curve(labels, logits, weights), recall)


def recall_at_precision(labels, logits, precision, weights=None):
    return thresholds.recall_at_precision(curve(labels, logits, weights), precision)


@pytest.fixture
def images():
    """Labels, and logits without ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    return labels, rng.normal(size=600) + 2 * labels


@st.composite
def tied(draw, max_size=14):
    """Labels of both classes, and logits of few values."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=max_size))
    labels, logits = np.transpose(pairs)
    assume(0 < labels.sum() < len(labels))
    return labels, logits


def blocks(labels, logits):
    """Lenses and negatives of each distinct logit, from the highest, by a loop."""
    for logit in sorted(set(logits), reverse=True):
        yield int(np.sum(labels[logits == logit])), int(np.sum(1 - labels[logits == logit]))


def test_curve_equals_the_roc_curve_of_scikit_learn(images):
    labels, logits = images
    for scores in (logits, np.round(logits)):  # without ties and with
        points = curve(labels, scores)
        fpr, tpr, threshold = sk.roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_array_equal(points.threshold, threshold)
        np.testing.assert_allclose(points.tp / labels.sum(), tpr)
        np.testing.assert_allclose(points.fp / (1 - labels).sum(), fpr)


@settings(max_examples=100, deadline=None)
@given(tied())
def test_curve_counts_accepted_lenses_and_negatives(images):
    labels, logits = images
    points = curve(labels, logits)
    np.testing.assert_array_equal(points.threshold, [np.inf, *sorted(set(logits), reverse=True)])
    for threshold, tp, fp in zip(*points, strict=True):
        assert (tp, fp) == (np.sum(labels[logits >= threshold]), np.sum(1 - labels[logits >= threshold]))


@settings(max_examples=100, deadline=None)
@given(tied())
def test_auc_equals_scikit_learn(images):
    """Ties counted half; of pairs of a lens and a negative, the share in order."""
    labels, logits = images
    found = thresholds.auc(curve(labels, logits))
    assert found == pytest.approx(sk.roc_auc_score(labels, logits), abs=1e-14)
    difference = np.subtract.outer(logits[labels == 1], logits[labels == 0])
    assert found == ((difference > 0) + (difference == 0) / 2).mean()
    assert thresholds.auc(curve(labels, labels)) == 1 and thresholds.auc(curve(labels, -labels)) == 0
    assert thresholds.auc(curve(labels, 0 * labels)) == 0.5


def test_auc_of_resamples_equals_scikit_learn(images):
    labels, logits = images
    weights = np.random.default_rng(1).integers(1, 4, size=(3, len(labels)))
    found = thresholds.auc(curve(labels, np.round(logits, 1), weights))
    expected = [sk.roc_auc_score(labels, np.round(logits, 1), sample_weight=w) for w in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@settings(max_examples=50, deadline=None)
@given(tied(), st.randoms(use_true_random=False))
def test_weights_of_images_equal_repeated_images(images, random):
    labels, logits = images
    weights = np.array([[random.randint(0, 3) for _ in labels] for _ in range(3)])
    weights[:, [np.argmax(labels), np.argmin(labels)]] += 1  # of both classes
    weighted = curve(labels, logits, weights)
    values = [f(labels, logits, q, weights) for f in (precision_at_recall, recall_at_precision) for q in LEVELS]
    for b, w in enumerate(weights):
        repeated = np.repeat(labels, w), np.repeat(logits, w)
        plain = curve(*repeated)
        present = np.isin(weighted.threshold, plain.threshold)
        np.testing.assert_array_equal(weighted.tp[b, present], plain.tp)
        np.testing.assert_array_equal(weighted.fp[b, present], plain.fp)
        expected = [f(*repeated, q) for f in (precision_at_recall, recall_at_precision) for q in LEVELS]
        np.testing.assert_allclose([value[b] for value in values], expected, rtol=1e-9)


def test_bootstrap_weights_give_a_value_for_each_resample(images):
    labels, rng = images[0], np.random.default_rng(1)
    weights = np.zeros((400, len(labels)))
    for members in (np.flatnonzero(labels), np.flatnonzero(1 - labels)):
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), 400)
    for at, level in ((precision_at_recall, 0.8), (recall_at_precision, 0.9)):
        values = at(*images, level, weights)
        assert values.shape == (400,) and np.ptp(values) > 0
        low, high = np.quantile(values, [0.025, 0.975])
        assert low < at(*images, level) < high


@settings(max_examples=100, deadline=None)
@given(tied(), st.sampled_from([np.exp, np.cbrt, lambda z: 1e4 * z - 7, lambda z: z.astype(np.float32) ** 3]))
def test_only_the_order_of_logits_matters(images, rising):
    labels, logits = images
    other = rising(logits)
    for a, b in zip(curve(labels, logits)[1:], curve(labels, other)[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    for level in LEVELS:
        assert precision_at_recall(labels, logits, level) == precision_at_recall(labels, other, level)
        np.testing.assert_equal(recall_at_precision(labels, logits, level), recall_at_precision(labels, other, level))
    for beta in BETAS:
        accepted, also = logits >= best_threshold(labels, logits, beta), other >= best_threshold(labels, other, beta)
        np.testing.assert_array_equal(accepted, also)


@settings(max_examples=100, deadline=None)
@given(tied(max_size=40), st.fractions(Fraction(1, 20), 1, max_denominator=20))
def test_precision_at_recall_equals_exact_fractions(images, recall):
    tp, fp, target = Fraction(0), Fraction(0), recall * int(images[0].sum())
    for lenses, negatives in blocks(*images):
        if tp + lenses >= target:
            fp += (target - tp) / lenses * negatives
            break
        tp, fp = tp + lenses, fp + negatives
    assert precision_at_recall(*images, float(recall)) == pytest.approx(float(target / (target + fp)), rel=1e-7)


@settings(max_examples=100, deadline=None)
@given(tied(max_size=40), st.fractions(Fraction(1, 20), 1, max_denominator=20))
def test_recall_at_precision_equals_brute_force(images, precision):
    tp = fp = best = 0
    for lenses, negatives in blocks(*images):
        part = np.arange(1, 1001) / 1000  # of the block
        found, false = tp + part * lenses, fp + part * negatives
        best = max(best, found[found >= float(precision) * (found + false) - 1e-9].max(initial=0))
        tp, fp = tp + lenses, fp + negatives
    recall = recall_at_precision(*images, float(precision))
    if best == 0:
        assert np.isnan(recall)
    else:
        p = images[0].sum()
        step = max(lenses for lenses, _ in blocks(*images)) / 1000 / p
        assert best / p - 1e-7 <= recall <= best / p + step + 1e-7


def test_precision_and_recall_without_ties_equal_scikit_learn(images):
    labels, logits = images
    precision, recall, _ = sk.precision_recall_curve(labels, logits)
    for k in (1, 7, 100, 250, labels.sum()):
        level = k / labels.sum()
        assert precision_at_recall(labels, logits, level) == pytest.approx(precision[np.isclose(recall, level)].max())
    for level in (0.6, 0.8, 0.95):
        highest = recall[:-1][precision[:-1] >= level].max()
        assert highest <= recall_at_precision(labels, logits, level) <= highest + 1e-9  # it cannot end inside a lens


@settings(max_examples=50, deadline=None)
@given(lenses=st.integers(1, 4), negatives=st.integers(1, 4), above=st.integers(0, 3), accepted=st.integers(1, 7))
def test_ties_are_accepted_at_random(lenses, negatives, above, accepted):
    block = [1] * lenses + [0] * negatives
    accepted = min(accepted, len(block))
    labels, logits = np.array([1, *[0] * above, *block]), np.r_[9, np.full(above, 5), np.zeros(len(block))]
    picks = list(combinations(block, accepted))  # every way to accept so many
    tp, fp = 1 + np.mean([sum(pick) for pick in picks]), above + np.mean([accepted - sum(pick) for pick in picks])
    assert precision_at_recall(labels, logits, tp / labels.sum()) == pytest.approx(tp / (tp + fp))
    if above > negatives / lenses:  # then precision rises on its way through the block, from 1 / (1 + above)
        assert recall_at_precision(labels, logits, tp / (tp + fp)) >= tp / labels.sum() - 1e-9
    if not above:  # and otherwise it falls
        assert recall_at_precision(labels, logits, tp / (tp + fp)) == pytest.approx(tp / labels.sum())


def test_images_all_tied_are_a_random_choice():
    labels, logits = [1, 0, 0, 0], np.zeros(4)
    for level in LEVELS:
        assert precision_at_recall(labels, logits, level) == pytest.approx(0.25)
    assert recall_at_precision(labels, logits, 0.25) == 1
    assert np.isnan(recall_at_precision(labels, logits, 0.2501))
    assert best_threshold(labels, logits, 0.17) == -1
    assert optimal_threshold(labels, logits, 1) == pytest.approx((0.4, 0.2))


@pytest.mark.parametrize("n", [1, 20])
def test_separable_classes_have_perfect_precision_and_recall(n):
    labels, logits = np.repeat([1, 0], n), np.r_[np.arange(n) + 1.0, -np.arange(n)]  # n = 1: two images
    for level in LEVELS:
        assert precision_at_recall(labels, logits, level) == recall_at_precision(labels, logits, level) == 1
    for beta in BETAS:
        assert best_threshold(labels, logits, beta) == 0.5
        assert optimal_threshold(labels, logits, beta) == pytest.approx((1, 1 / (1 + beta**2)))
    assert precision_at_recall(labels, -logits, 1) == 0.5  # perfectly wrong
    assert recall_at_precision(labels, -logits, 0.5) == 1
    assert np.isnan(recall_at_precision(labels, -logits, 0.51))


def test_saturated_logits_are_ranked():
    labels, logits = np.array([1, 0, 1, 0]), np.array([1e4, 200, 100, -1e4])  # probabilities 1, 1, 1, 0
    assert list(curve(labels, logits).tp) == [0, 1, 1, 2, 2]
    assert precision_at_recall(labels, logits, 0.5) == 1
    assert recall_at_precision(labels, logits, 0.9) == 0.5
    assert best_threshold(labels, logits, 0.17) == 5100


def test_rounding_does_not_lose_tied_images():
    assert 0.07 * 100 > 7 and (1 - 0.9) * 9 < 0.9 * 1
    labels, logits = np.repeat([1, 0, 1], [7, 9, 93]), np.repeat([3, 2, 1], [7, 9, 93])
    assert precision_at_recall(labels, logits, 0.07) == pytest.approx(1)
    assert recall_at_precision([1] * 9 + [0] * 2, [1] * 10 + [0], 0.9) == 1


@settings(max_examples=50, deadline=None)
@given(tied(), st.sampled_from(BETAS))
def test_best_threshold_equals_brute_force(images, beta):
    labels, logits = images
    threshold = best_threshold(labels, logits, beta)
    f = {t: sk.fbeta_score(labels, logits >= t, beta=beta) for t in np.arange(-4, 3) + 0.5}
    assert sk.fbeta_score(labels, logits >= threshold, beta=beta) == pytest.approx(max(f.values()))
    assert optimal_threshold(labels, logits, beta).f_beta == pytest.approx(max(f.values()))
    lowest = min(t for t in f if f[t] >= max(f.values()) - 1e-12)
    np.testing.assert_array_equal(logits >= threshold, logits >= lowest)  # the lowest of the best
    assert np.isfinite(threshold) and np.abs(logits - threshold).min() >= 0.5  # in the middle of a gap


def test_best_threshold_among_equals_accepts_most():
    # F1 is 2/3 after one image (tp 1, fp 0 of 2 lenses) and after four (tp 2, fp 2)
    assert best_threshold([1, 0, 0, 1, 0], [5, 4, 3, 2, 0], 1) == 1
    # F_0.1 is 1.01 / 1.25 after 1 lens of 25 and 5.05 / 6.25 after 5 and a negative, but for the last digit
    labels, logits = np.repeat([1, 1, 0, 0, 1], [1, 4, 1, 49, 20]), np.repeat([5, 4, 4, 3, 2], [1, 4, 1, 49, 20])
    assert best_threshold(labels, logits, 0.1) == 3.5


def test_best_threshold_accepts_the_same_images_in_float32(images):
    labels, logits = images
    threshold = best_threshold(labels, logits, 0.17)
    np.testing.assert_array_equal(logits >= threshold, logits.astype(np.float32) >= threshold)


def gaussian_pair(n=400):
    rng = np.random.default_rng(2)
    labels = np.arange(n) % 2
    return labels, rng.normal(size=n) + labels, rng.normal(size=n) + 2 * labels


def test_effective_threshold_gives_the_same_recall():
    labels, soft, reference = gaussian_pair()
    for shift in (-2, -0.5, 0, 0.5):
        threshold = effective_threshold(labels, soft + shift, reference)
        found = np.sum(soft[labels == 1] + shift >= 0)
        assert 0 < found < labels.sum() and np.isfinite(threshold)
        assert np.sum(reference[labels == 1] >= threshold) == found
        gaps = np.sort(np.abs(reference[labels == 1] - threshold))
        assert gaps[0] == pytest.approx(gaps[1])  # between two lenses


def test_effective_threshold_of_a_shifted_reference_is_the_shift():
    labels, _, reference = gaussian_pair(20_000)
    assert effective_threshold(labels, 7 * (reference - 1.5), reference) == pytest.approx(1.5, abs=1e-3)


def test_effective_threshold_is_infinite_where_none_or_all_are_accepted():
    labels, reference = [1, 1, 0], [3, 1, 8]  # the negative does not matter
    assert effective_threshold(labels, [-1, -2, 5], reference) == np.inf
    assert effective_threshold(labels, [0, -2, 5], reference) == 2  # at 0 is accepted
    assert effective_threshold(labels, [1, 2, -5], reference) == -np.inf
    assert effective_threshold(labels, [1, -2, 5], [4, 4, 0]) == 4  # tied


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shape", [(0.5, 0.5), (1, 3), (2, 2)])
def test_optimal_threshold_is_half_the_best_f_score(beta, shape):
    """Lipton et al. (2014), with expected counts: no noise, the threshold as fine as the probabilities."""
    n = 200_000
    p = stats.beta(*shape).ppf((np.arange(n, 0, -1) - 0.5) / n)  # descending
    f = (1 + beta**2) * np.cumsum(p) / (beta**2 * p.sum() + np.arange(1, n + 1))
    best = np.argmax(f)
    assert p[best] == pytest.approx(f[best] / (1 + beta**2), abs=2e-3)  # the grid of p, at the tails of the U shape

    labels = np.random.default_rng(3).random(n) < p
    logits = np.log(p / (1 - p))
    optimum = optimal_threshold(labels, logits, beta)
    noise = np.sqrt(f[best] * (1 - f[best]) / best)  # of a share of the images accepted
    assert optimum.f_beta == pytest.approx(f[best], abs=4 * noise)
    assert optimum.probability == optimum.f_beta / (1 + beta**2)
    predicted = np.log(optimum.probability / (1 - optimum.probability))
    at_predicted = sk.fbeta_score(labels, logits >= predicted, beta=beta)
    assert optimum.f_beta - 3 * noise <= at_predicted <= optimum.f_beta + 1e-9
    empirical = 1 / (1 + np.exp(-best_threshold(labels, logits, beta)))
    assert empirical == pytest.approx(optimum.probability, abs=0.03)  # F_beta is flat at its best


def test_purity_equals_a_plain_count():
    lenses, others, tpr, fpr = 1000, 999_000, 0.9, 0.02
    found, false = tpr * lenses, fpr * others
    assert purity(tpr, fpr, 1e-3) == pytest.approx(found / (found + false))
    assert inspected_per_lens(tpr, fpr, 1e-3) == pytest.approx(false / found)


@settings(max_examples=100, deadline=None)
@given(tied())
def test_purity_at_the_prior_of_the_sample_is_precision(images):
    labels, logits = images
    _, tp, fp = (x[1:] for x in curve(labels, logits))
    p, n = labels.sum(), (1 - labels).sum()
    rates = tp / p, fp / n, p / (p + n)
    np.testing.assert_allclose(purity(*rates), tp / (tp + fp))
    np.testing.assert_allclose(1 / (1 + inspected_per_lens(*rates)), tp / (tp + fp))


def test_purity_broadcasts_and_has_its_limits_at_zero_rates():
    tpr, fpr, prior = np.array([[0.0], [0.5], [1.0]]), np.array([0.0, 0.1]), 1e-3
    expected = [[np.nan, 0], [1, 0.0005 / (0.0005 + 0.0999)], [1, 0.001 / (0.001 + 0.0999)]]
    np.testing.assert_allclose(purity(tpr, fpr, prior), expected)
    np.testing.assert_allclose(inspected_per_lens(tpr, fpr, prior), [[np.nan, np.inf], [0, 199.8], [0, 99.9]])
    assert purity(0.5, 0.5, np.array([0, 0.3, 1])) == pytest.approx([0, 0.3, 1])
    assert np.isnan(purity(0, 0, 0.5)) and inspected_per_lens(0, 0.5, 0.5) == np.inf


def test_mixed_fpr_equals_that_of_the_mixture():
    rng = np.random.default_rng(4)
    contaminant = np.arange(1000) < 800
    accepted = rng.random(1000) < np.where(contaminant, 0.3, 0.05)
    rates = accepted[~contaminant].mean(), accepted[contaminant].mean()
    assert mixed_fpr(*rates, 0.8) == pytest.approx(accepted.mean())
    assert mixed_fpr(0.1, 0.5, [0, 1]) == pytest.approx([0.1, 0.5])


CALLS = {
    "curve": curve,
    "best_threshold": lambda y, z: best_threshold(y, z, 1),
    "optimal_threshold": lambda y, z: optimal_threshold(y, z, 1),
    "precision_at_recall": lambda y, z: precision_at_recall(y, z, 0.5),
    "recall_at_precision": lambda y, z: recall_at_precision(y, z, 0.5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_thresholds_refuse_a_missing_class_and_bad_logits(call):
    for labels, missing in (([1, 1], "negatives"), ([0, 0], "lenses"), ([], "lenses")):
        with pytest.raises(ValueError, match=f"no {missing}"):
            call(labels, np.zeros(len(labels)))
    with pytest.raises(ValueError, match="do not go with"):
        call([1, 0], [1])
    with pytest.raises(ValueError, match="not finite"):
        call([1, 0], [np.nan, 1])


def test_effective_threshold_needs_lenses():
    with pytest.raises(ValueError, match="no lenses"):
        effective_threshold([0, 0], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="do not go with"):
        effective_threshold([0, 1], [1, 2], [1, 2, 3])


def test_thresholds_refuse_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="weights .* do not go with"):
        curve([1, 0], [1, 2], [[1, 1, 1]])
    with pytest.raises(ValueError, match="no lenses.*resample"):
        precision_at_recall([1, 0], [1, 2], 0.5, [[1, 1], [0, 2]])


@pytest.mark.parametrize("level", [0, -0.1, 1.1, np.nan])
def test_recall_and_precision_levels_outside_0_to_1_are_refused(level):
    for name in ("precision", "recall"):
        at = getattr(thresholds, "precision_at_recall" if name == "recall" else "recall_at_precision")
        with pytest.raises(ValueError, match=f"{name} .* is not in"):
            at(curve([1, 0], [1, 0]), level)
