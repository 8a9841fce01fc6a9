"""Counts and scores against scikit-learn, and the selectors against a table of worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lensdet import metrics
from lensdet.metrics import SELECTORS, THRESHOLDS, Counts, evaluate, hard_counts, selectors, soft_counts

LABELS = np.r_[np.ones(551), np.zeros(551)]


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(size=1102) + 2 * LABELS - 1  # logits


def polarised(recall, false_positive_rate, rng):
    """Logits of p = 1e-4 or 1 - 1e-4, with this recall and false-positive rate, in random places."""
    accepted = np.zeros(1102, bool)
    accepted[rng.permutation(551)[: round(recall * 551)]] = True
    accepted[551 + rng.permutation(551)[: round(false_positive_rate * 551)]] = True
    return np.where(accepted, 1, -1) * np.log(0.9999 / 0.0001)


@pytest.mark.parametrize("threshold", [0.01, 0.49, 0.5, 0.9])
def test_scores_are_those_of_scikit_learn(scores, threshold):
    p = metrics.probability(scores)
    counts = hard_counts(LABELS, p, threshold)
    accepted = p >= threshold
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == list(sk.confusion_matrix(LABELS, accepted).ravel())
    assert metrics.precision(counts) == pytest.approx(sk.precision_score(LABELS, accepted))
    assert metrics.recall(counts) == pytest.approx(sk.recall_score(LABELS, accepted))
    assert metrics.accuracy(counts) == pytest.approx(sk.accuracy_score(LABELS, accepted))
    for beta in (0.17, 1, 2):
        assert metrics.f_beta(counts, beta) == pytest.approx(sk.fbeta_score(LABELS, accepted, beta=beta))


def test_many_thresholds_and_many_models_at_once(scores):
    p = metrics.probability(np.stack([scores, -scores, 0 * scores]))  # (3, N)
    many = hard_counts(LABELS, p, THRESHOLDS)
    assert many.tp.shape == (3, 99)
    for i in range(3):
        for j in (0, 49, 98):
            np.testing.assert_array_equal([c[i, j] for c in many], hard_counts(LABELS, p[i], THRESHOLDS[j]))


def test_at_the_threshold_is_accepted():
    assert hard_counts([1, 0], [0.5, 0.5], 0.5) == Counts(1, 1, 0, 0)


def test_zero_where_there_is_nothing():
    nothing_accepted, no_lenses, empty = Counts(0, 0, 5, 5), Counts(0, 0, 0, 5), Counts(0, 0, 0, 0)
    for counts in (nothing_accepted, no_lenses, empty):
        assert metrics.precision(counts) == metrics.recall(counts) == metrics.f_beta(counts, 0.17) == 0
    assert metrics.accuracy(empty) == 0


def test_f_beta_is_equation_3_18(scores):
    f, p, r = metrics.f_beta_curve(LABELS, metrics.probability(scores), 0.17)
    assert f.shape == p.shape == r.shape == (99,)
    assert np.all(f[r == 0] == 0)
    f, p, r = f[r > 0], p[r > 0], r[r > 0]
    np.testing.assert_allclose(f, (1 + 0.17**2) * p * r / (0.17**2 * p + r))


def test_curve_is_at_the_thresholds_of_the_thesis():
    np.testing.assert_allclose(THRESHOLDS, np.arange(1, 100) / 100)


def test_equation_3_21_by_scikit_learn(scores):
    p = metrics.probability(scores)
    expected = np.mean([sk.fbeta_score(LABELS, p >= (i + 1e-4) / 50, beta=0.17, zero_division=0) for i in range(50)])
    assert metrics.mean_f_beta(LABELS, p) == pytest.approx(expected)


def test_logits_that_float32_cannot_tell_apart():
    p = metrics.probability(np.float32([18, 20, 30]))
    assert np.all(np.diff(p) > 0) and p[-1] < 1


def test_wrong_shapes_are_an_error(scores):
    for call in (
        lambda: soft_counts(LABELS, scores[:, None]),
        lambda: metrics.training_loss(LABELS, scores[:, None], "bce"),
        lambda: selectors(LABELS, scores[:-1], "bce"),
    ):
        with pytest.raises(ValueError, match="do not go with"):
            call()


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30),
    random=st.randoms(use_true_random=False),
)
def test_soft_counts_hold(images, random):
    labels, p = np.transpose(images)
    counts = soft_counts(labels, p)
    assert sum(counts) == pytest.approx(len(images))
    assert 0 <= metrics.f_beta(counts, 0.17) <= 1
    random.shuffle(images)
    np.testing.assert_allclose(soft_counts(*np.transpose(images)), counts, atol=1e-12)


def test_soft_counts_of_certainties_are_hard(scores):
    accepted = scores >= 0
    np.testing.assert_array_equal(soft_counts(LABELS, accepted), hard_counts(LABELS, metrics.probability(scores), 0.5))


def test_weights_repeat_images(scores):
    weights = np.random.default_rng(1).integers(0, 3, (4, 1102))
    p = metrics.probability(scores)
    weighted = soft_counts(LABELS, p, weights)
    for i, w in enumerate(weights):
        np.testing.assert_allclose([c[i] for c in weighted], soft_counts(np.repeat(LABELS, w), np.repeat(p, w)))


def test_bce_is_log_loss(scores):
    expected = sk.log_loss(LABELS, metrics.probability(scores))
    assert metrics.training_loss(LABELS, scores, "bce") == pytest.approx(expected)
    assert metrics.training_loss([1, 0], [-1e4, -1e4], "bce") == 5e3


# Losses, and the F_beta metric of Eq. 3.21, of a model with this recall and false-positive rate: on batches in order
# (these depend on where the errors lie; here a mean over random places) and on the whole set.
WORKED = {
    (1, 0): {
        "f1": (0.5000, 0.0001), "f1_double": (0.4723, 0.0001), "fbeta": (0.5000, 0.0001), "metric": (0.4996, 0.9901)},
    (1, 1): {
        "f1": (0.5135, 0.3334), "f1_double": (0.7567, 0.6666), "fbeta": (0.5213, 0.4929), "metric": (0.4787, 0.5071)},
    (0.95, 0.165): {
        "f1": (0.5159, 0.1022), "f1_double": (0.5062, 0.1084), "fbeta": (0.5072, 0.1458), "metric": (0.4931, 0.8473)},
    (0.92, 0.05): {
        "f1": (0.5220, 0.0664), "f1_double": (0.4924, 0.0654), "fbeta": (0.5034, 0.0532), "metric": (0.4964, 0.9381)},
    (0.90, 0.03): {
        "f1": (0.5268, 0.0678), "f1_double": (0.4925, 0.0655), "fbeta": (0.5025, 0.0352), "metric": (0.4967, 0.9557)},
    (0.71, 0.015): {
        "f1": (0.5859, 0.1769), "f1_double": (0.5223, 0.1555), "fbeta": (0.5066, 0.0306), "metric": (0.4938, 0.9603)},
}  # fmt: skip


@pytest.mark.parametrize("rates", WORKED, ids=str)
def test_worked_examples(rates):
    rng = np.random.default_rng(0)
    models = [polarised(*rates, rng) for _ in range(40)]
    for loss, (batched, whole) in WORKED[rates].items():
        names = ("code_f_beta", "f_beta") if loss == "metric" else ("code_loss", "loss")
        values = [[selectors(LABELS, z, "bce" if loss == "metric" else loss)[name] for name in names] for z in models]
        mean = np.mean(values, axis=0)
        assert mean[0] == pytest.approx(batched, abs=1e-3 if 0 < rates[1] < 1 else 6e-5), loss
        assert mean[1] == pytest.approx(whole, abs=6e-5), loss


def test_batches_by_plain_loop(scores):
    batches = [(LABELS[i : i + 64], scores[i : i + 64]) for i in range(0, 1102, 64)]
    assert len(batches) == 18 and len(batches[-1][0]) == 14
    values = selectors(LABELS, scores, "bce", l2_penalty=0.25)
    bce = np.mean([sk.log_loss(y, metrics.probability(z), labels=[0, 1]) for y, z in batches])
    assert values["code_loss"] == pytest.approx(bce + 0.25)
    assert values["code_accuracy"] == pytest.approx(np.mean([np.mean((z > 0) == y) for y, z in batches]))
    f = [metrics.mean_f_beta(y, metrics.probability(z)) for y, z in batches]
    assert values["code_f_beta"] == pytest.approx(np.mean(f), abs=1e-6)
    for loss in ("f1", "f1_double", "fbeta"):
        expected = np.mean([metrics.training_loss(y, z, loss, 0.5) for y, z in batches])
        assert selectors(LABELS, scores, loss, loss_beta=0.5)["code_loss"] == pytest.approx(expected, abs=1e-6)


def test_whole_set_selectors(scores):
    values = selectors(LABELS, scores, "f1", beta=0.5, l2_penalty=7)
    assert set(values) == set(SELECTORS) and all(type(v) is float for v in values.values())
    assert values["loss"] == metrics.training_loss(LABELS, scores, "f1")  # no penalty here
    assert values["soft_f_beta"] == pytest.approx(1 - metrics.training_loss(LABELS, scores, "fbeta", 0.5))
    assert values["f_beta"] == metrics.mean_f_beta(LABELS, metrics.probability(scores), 0.5)


@pytest.mark.parametrize("loss", ["bce", "f1", "f1_double", "fbeta"])
def test_better_models_are_selected(scores, loss):
    # on the whole set, every selector prefers the model with less noise
    better, worse = selectors(LABELS, scores + 2 * (2 * LABELS - 1), loss), selectors(LABELS, scores, loss)
    for name in ("loss", "f_beta", "soft_f_beta", "code_accuracy"):
        assert (better[name] < worse[name]) == (SELECTORS[name] == "min")


def test_diverged_training_is_never_selected(scores):
    scores[3] = np.nan
    assert all(np.isnan(v) for v in selectors(LABELS, scores, "bce").values())
    with pytest.raises(ValueError, match="diverged"):
        evaluate(LABELS, scores)


def test_order_is_checked(scores):
    with pytest.raises(ValueError, match="lenses first"):
        selectors(LABELS[::-1], scores, "bce")


def test_protocols():
    labels, p = np.array([1, 1, 0, 0]), np.array([0.495, 0.9, 0.1, 0.5])
    logits = np.log(p / (1 - p))
    text, code = evaluate(labels, logits, beta=2), evaluate(labels, logits, "code", beta=2)
    # text: accepted 0.9 and 0.5; code: also 0.495, but 0.5 is rejected in the accuracy
    assert text["accuracy"] == 0.5 and code["accuracy"] == 0.75
    assert text["recall"] == 0.5 and code["recall"] == 1
    assert text["precision"] == 0.5 and code["precision"] == pytest.approx(2 / 3)
    assert text["f_beta"] == pytest.approx(0.5)
    assert code["f_beta"] == pytest.approx(1.03 * (2 / 3) / (0.03 * 2 / 3 + 1))
