"""The selectors against scikit-learn, plain loops in float64, and a table of worked examples."""

import functools

import keras
import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sk

from lensdet.network.checkpoints import SELECTORS
from lensdet.network.checkpoints import selectors as on_device
from lensdet.network.losses import make_loss
from tests.network.test_losses import LOSSES, training_loss

LABELS = np.r_[np.ones(551), np.zeros(551)]


@functools.cache
def compiled(loss):
    """The selectors of one loss, a function of logits, compiled as in training: for many sets of logits."""
    of_loss = make_loss(loss, 0.17)

    def values(logits):
        return on_device(np.float32(LABELS), logits, of_loss)

    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    return tf.function(values)


def selectors(logits, loss="bce", loss_beta=0.17, **given):
    return named(on_device(np.float32(LABELS), np.float32(logits), make_loss(loss, loss_beta), **given))


def named(values):
    return dict(zip(SELECTORS, keras.ops.convert_to_numpy(values).tolist(), strict=True))


def equation_3_21(labels, logits, beta=0.17):
    p = expit(logits)
    return np.mean([sk.fbeta_score(labels, p >= (i + 1e-4) / 50, beta=beta, zero_division=0) for i in range(50)])


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(size=1102) + 2 * LABELS - 1  # logits


def saturated(recall, false_positive_rate, rng):
    """Logits of p = 1e-4 or 1 - 1e-4, with this recall and false-positive rate, in random places."""
    accepted = np.zeros(1102, bool)
    accepted[rng.permutation(551)[: round(recall * 551)]] = True
    accepted[551 + rng.permutation(551)[: round(false_positive_rate * 551)]] = True
    return np.where(accepted, 1, -1) * np.log(0.9999 / 0.0001)


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
def test_selectors_of_worked_examples_have_the_tabled_values(rates):
    rng = np.random.default_rng(0)
    models = [saturated(*rates, rng) for _ in range(20)]
    for loss, (batched, whole) in WORKED[rates].items():
        names = ("code_f_beta", "f_beta") if loss == "metric" else ("code_loss", "loss")
        of_loss = compiled("bce" if loss == "metric" else loss)
        values = [named(of_loss(keras.ops.convert_to_tensor(np.float32(z)))) for z in models]
        values = [[value[name] for name in names] for value in values]
        mean = np.mean(values, axis=0)
        assert mean[0] == pytest.approx(batched, abs=2e-3 if 0 < rates[1] < 1 else 6e-5), loss
        assert mean[1] == pytest.approx(whole, abs=6e-5), loss


def test_batched_selectors_equal_a_plain_loop(scores):
    batches = [(LABELS[i : i + 64], scores[i : i + 64]) for i in range(0, 1102, 64)]
    assert len(batches) == 18 and len(batches[-1][0]) == 14
    values = selectors(scores, l2_penalty=0.25)
    bce = np.mean([sk.log_loss(y, expit(z), labels=[0, 1]) for y, z in batches])
    assert values["code_loss"] == pytest.approx(bce + 0.25)
    assert values["code_accuracy"] == pytest.approx(np.mean([np.mean((z > 0) == y) for y, z in batches]))
    f = [equation_3_21(y, z) for y, z in batches]
    assert values["code_f_beta"] == pytest.approx(np.mean(f), abs=1e-5)
    for loss in LOSSES:
        expected = np.mean([training_loss(y, z, loss, 0.5) for y, z in batches])
        assert selectors(scores, loss, loss_beta=0.5)["code_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_whole_set_selectors_equal_plain_numpy(scores, loss):
    values = selectors(scores, loss, beta=0.5, l2_penalty=7)
    assert set(values) == set(SELECTORS)
    assert values["loss"] == pytest.approx(training_loss(LABELS, scores, loss), abs=1e-5)  # no penalty here
    assert values["soft_f_beta"] == pytest.approx(1 - training_loss(LABELS, scores, "fbeta", 0.5), abs=1e-5)
    assert values["f_beta"] == pytest.approx(equation_3_21(LABELS, scores, 0.5), abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_selectors_prefer_the_model_with_less_noise(scores, loss):
    # on the whole set, every selector prefers the model with less noise
    better, worse = selectors(scores + 2 * (2 * LABELS - 1), loss), selectors(scores, loss)
    for name in ("loss", "f_beta", "soft_f_beta", "code_accuracy"):
        assert (better[name] < worse[name]) == (SELECTORS[name] == "min")


def test_diverged_training_is_never_selected(scores):
    scores[3] = np.nan
    assert all(np.isnan(v) for v in selectors(scores).values())


def test_selectors_of_saturated_logits_are_finite(scores):
    assert all(np.isfinite(v) for v in selectors(1e4 * scores, "bce").values())
