"""The Keras losses against Keras' Tversky loss, finite differences in float64, and what must always hold."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensdet import parameters
from lensdet.evaluation.metrics import Counts, f_beta, probability, soft_counts
from lensdet.network.losses import DoubleSoftF1, SigmoidF1, SoftF1, SoftFBeta, make_loss

LOSSES = (*parameters.LOSSES, *parameters.FURTHER)
SOFT = [SoftF1, DoubleSoftF1, SoftFBeta]
NAMES = {SoftF1: "f1", DoubleSoftF1: "f1_double", SoftFBeta: "fbeta"}
N = 8  # images in a drawn batch: one shape, so that nothing is traced twice


def value(loss, y, prediction, weight=None):
    return float(keras.ops.convert_to_numpy(loss(np.float32(y), np.float32(prediction), weight)))


def training_loss(labels, logits, name, beta=0.17):
    """The losses in NumPy and float64, of labels (N,) and logits (..., N)."""
    labels, logits = np.asarray(labels, float), np.asarray(logits, float)
    right = np.where(labels > 0, logits, -logits)
    bce = np.logaddexp(0, -right)
    if name in ("bce", "focal"):  # Lin et al. 2017, gamma 2
        return (bce if name == "bce" else bce * probability(-right) ** 2).mean(-1)
    counts = soft_counts(labels, probability(2 * logits if name == "sigmoid_f1" else logits))
    if name == "f1_double":
        return 1 - (f_beta(counts, 1) + f_beta(Counts(*counts[::-1]), 1)) / 2
    return 1 - f_beta(counts, beta if name == "fbeta" else 1)


def gradient(loss, y, prediction):
    y, prediction = np.float32(y), np.float32(prediction)
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: loss(y, x))(prediction))
    import tensorflow as tf

    x = tf.Variable(prediction)
    with tf.GradientTape() as tape:
        result = loss(y, x)
    return tape.gradient(result, x).numpy()


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    y = rng.permutation(np.r_[np.ones(39), np.zeros(25)])
    return y, rng.normal(size=64) + y  # labels, logits


@pytest.mark.parametrize("beta", [0.17, 1.0, 2.0])
def test_soft_f_beta_equals_the_tversky_loss_of_keras(batch, beta):
    y, z = batch
    p = 1 / (1 + np.exp(-z))
    # Keras calls y (1 - p) "fp": its alpha weighs what are false negatives here.
    tversky = keras.losses.Tversky(alpha=beta**2 / (1 + beta**2), beta=1 / (1 + beta**2))
    assert value(SoftFBeta(beta), y, p) == pytest.approx(value(tversky, y[:, None], p[:, None]), abs=1e-5)


def test_soft_f1_equals_the_dice_loss_of_keras(batch):
    y, z = batch
    p = 1 / (1 + np.exp(-z))
    dice = value(keras.losses.Dice(), y[:, None], p[:, None])
    assert value(SoftF1(), y, p) == pytest.approx(dice, abs=1e-5)
    swapped = value(keras.losses.Dice(), 1 - y[:, None], 1 - p[:, None])
    assert value(DoubleSoftF1(), y, p) == pytest.approx((dice + swapped) / 2, abs=1e-5)


def test_soft_losses_equal_a_calculation_by_hand():
    y, p = [1, 1, 0, 0], [0.75, 0.5, 0.25, 0.0]  # TP 1.25, FN 0.75, FP 0.25, TN 1.75
    assert value(SoftF1(), y, p) == pytest.approx(1 - 2.5 / 3.5)
    assert value(DoubleSoftF1(), y, p) == pytest.approx(1 - (2.5 / 3.5 + 3.5 / 4.5) / 2)
    precision, recall, b2 = 1.25 / 1.5, 1.25 / 2, 0.17**2
    assert value(SoftFBeta(), y, p) == pytest.approx(1 - (1 + b2) * precision * recall / (b2 * precision + recall))


@pytest.mark.parametrize("name", LOSSES)
def test_keras_losses_equal_those_in_numpy(batch, name):
    y, z = batch
    assert value(make_loss(name, 0.5), y, z) == pytest.approx(training_loss(y, z, name, 0.5), abs=1e-5)


@pytest.mark.parametrize("cls", SOFT)
def test_soft_losses_take_probabilities_too(batch, cls):
    y, z = batch
    expected = training_loss(y, z, NAMES[cls])
    assert value(cls(), y, 1 / (1 + np.exp(-z))) == pytest.approx(expected, abs=1e-5)


def test_sigmoid_f1_of_slope_1_equals_soft_f1(batch):
    assert value(SigmoidF1(1.0, 0.0), *batch) == value(make_loss("f1"), *batch)
    y, z = batch
    shifted = value(make_loss("sigmoid_f1", slope=3, offset=0.5), y, z)
    assert shifted == pytest.approx(value(make_loss("f1"), y, 3 * (z + 0.5)), abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_equals_finite_differences(batch, name):
    y, z = batch
    step = 1e-5 * np.eye(64)
    expected = (training_loss(y, z + step, name) - training_loss(y, z - step, name)) / 2e-5
    np.testing.assert_allclose(gradient(make_loss(name), y, z), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_flat_and_column_arrays(batch, name):
    y, z = np.float32(batch)
    loss = make_loss(name)
    values = [value(loss, a, b) for a in (y, y[:, None]) for b in (z, z[:, None])]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    assert loss(y, z[:, None]).shape == ()


@pytest.mark.parametrize("cls", SOFT)
def test_losses_refuse_two_outputs(cls):
    with pytest.raises(ValueError, match=r"\(N, 1\), not \(4, 2\)"):
        cls()(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32))


@pytest.mark.parametrize("cls", SOFT)
def test_sample_weights_equal_repeated_images(batch, cls):
    y, z = batch
    weight = np.random.default_rng(2).integers(0, 4, 64)
    repeated = value(cls(from_logits=True), np.repeat(y, weight), np.repeat(z, weight))
    assert value(cls(from_logits=True), y, z, weight) == pytest.approx(repeated, abs=1e-5)
    assert value(cls(from_logits=True), y, z) != pytest.approx(repeated, abs=1e-3)


@pytest.mark.parametrize("cls", SOFT)
def test_sample_weights_reach_the_loss_through_keras(batch, cls):
    y, z = np.float32(batch)
    weight = np.linspace(0, 2, 64, dtype=np.float32)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile(loss=cls(from_logits=True))
    reported = model.evaluate(z[:, None], y, sample_weight=weight, batch_size=64, verbose=0)
    assert reported == pytest.approx(value(cls(from_logits=True), y, z, weight), abs=1e-5)


@pytest.mark.parametrize("cls", SOFT)
def test_losses_of_bfloat16_logits_are_float32(batch, cls):
    y, z = batch
    half = keras.ops.cast(np.float32(z), "bfloat16")
    result = cls(from_logits=True)(np.int64(y), half)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    assert float(keras.ops.convert_to_numpy(result)) == pytest.approx(training_loss(y, rounded, NAMES[cls]), abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_survive_keras_serialisation(batch, name):
    y, z = batch
    loss = make_loss(name, beta=0.3)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert value(again, y, z) == value(loss, y, z)


def test_an_unknown_loss_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'f2'.*f1_double"):
        make_loss("f2")


labels = st.lists(st.sampled_from([0, 1]), min_size=N, max_size=N)
logits = st.lists(st.one_of(st.floats(-30, 30, width=32), st.sampled_from([-1e4, 1e4])), min_size=N, max_size=N)


@settings(max_examples=40, deadline=None)
@given(y=labels, z=logits, order=st.permutations(range(N)))
@pytest.mark.parametrize("cls", SOFT)
def test_soft_losses_are_within_0_and_1_and_ignore_order(cls, y, z, order):
    loss = cls(from_logits=True)
    assert 0 <= value(loss, y, z) <= 1
    assert value(loss, np.take(y, order), np.take(z, order)) == pytest.approx(value(loss, y, z), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(y=st.one_of(labels, st.sampled_from([[0] * N, [1] * N])), z=logits)
@pytest.mark.parametrize("cls", SOFT)
def test_soft_loss_gradients_are_finite(cls, y, z):
    assert np.isfinite(gradient(cls(from_logits=True), y, z)).all()
    p = np.clip(1 / (1 + np.exp(-np.clip(z, -700, 700))), 0, 1).round(3)  # many exactly 0 and 1
    assert np.isfinite(gradient(cls(), y, p)).all()


@pytest.mark.parametrize("cls", SOFT)
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_soft_losses_of_one_saturated_class_have_known_values(cls, label, logit):
    y, z = np.full(N, label), np.full(N, logit)
    assert np.isfinite(gradient(cls(from_logits=True), y, z)).all()
    assert np.isfinite(gradient(cls(), y, logit > np.zeros(N))).all()
    right = label == (logit > 0)
    # A class that is absent has no true member to find: its F score is 0, and its loss 1.
    expected = {SoftF1: 1 - right * label, SoftFBeta: 1 - right * label, DoubleSoftF1: 1 - right / 2}[cls]
    assert value(cls(from_logits=True), y, z) == pytest.approx(expected, abs=1e-5)


def test_a_very_confident_lens_still_has_a_gradient():
    # 1 - sigmoid(20) is 0 in float32; through sigmoid(-20) the false negatives still pull.
    assert 0 > gradient(SoftF1(from_logits=True), [1, 0], [20.0, 0.0])[0] > -1e-8
