"""The network of section 4.3: counts that were found with the thesis' own, Keras' own initialiser, and NumPy."""

import keras
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import ks_2samp

from lensdet.network import resnet

STAGES = [(26, 26, 1), (13, 13, 2), (7, 7, 4), (4, 4, 8)]  # rows, columns, channels over the width


@pytest.fixture(scope="module")
def full():
    """The network at the thesis' width, in run 1."""
    model = resnet.resnet18()
    resnet.initialise(model, seed=0, run=1)
    return model


@pytest.fixture
def narrow():
    return resnet.resnet18(width=8)


def layers(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def count(variables):
    return sum(np.prod(v.shape) for v in variables)


def test_network_has_the_parameter_counts_of_the_thesis(full):
    assert full.count_params() == 11_181_569
    assert count(full.trainable_variables) == 11_173_761
    assert len(layers(full, keras.layers.Conv2D)) == 20
    assert len(layers(full, keras.layers.BatchNormalization)) == 17


@pytest.mark.parametrize("outputs, parameters", [(3, 11_182_595), (6, 11_184_134)])
def test_ensemble_networks_have_the_parameter_counts_of_the_thesis(outputs, parameters):
    model = resnet.resnet18(outputs=outputs, activation="softmax")
    assert model.count_params() == parameters
    assert model.output.shape == (None, outputs)


@pytest.mark.parametrize("width", [8, 64])
def test_residual_sums_have_the_names_and_shapes_of_the_thesis(full, width):
    model = full if width == 64 else resnet.resnet18(width=width)
    sums = layers(model, keras.layers.Add)
    assert [s.name for s in sums] == ["add", *(f"add_{i}" for i in range(1, 8))]
    assert [s.output.shape[1:] for s in sums] == [(r, c, k * width) for r, c, k in STAGES for _ in range(2)]


def test_bfloat16_is_used_in_hidden_layers_only(narrow):
    model = resnet.resnet18(width=8, precision="bfloat16")
    assert {v.dtype for v in model.variables} == {"float32"}
    for layer in model.layers:
        exact = layer.name in ("stamp", "logit", "probability") or isinstance(
            layer, keras.layers.GlobalAveragePooling2D
        )
        assert layer.compute_dtype == ("float32" if exact else "bfloat16"), layer.name
    for twin in (narrow, model):
        resnet.initialise(twin, seed=0, run=1)
    images = np.random.default_rng(0).random((4, 101, 101, 1), np.float32)
    exact, rounded = (np.asarray(resnet.logit_model(m)(images, training=True)) for m in (narrow, model))
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.ptp(exact))


def test_layer_names_do_not_depend_on_earlier_networks():
    first, second = resnet.resnet18(width=8), resnet.resnet18(width=8)
    for name in ("add", "add_7", "logit", "probability"):
        assert first.get_layer(name) is not second.get_layer(name)


def test_residual_blocks_use_full_pre_activation(narrow):
    """Into each sum go a convolution and the block's own input, nothing normalised or activated (He et al. 2016b)."""
    for i, layer in enumerate(layers(narrow, keras.layers.Add)):
        shortcut, branch = (tensor._keras_history.operation for tensor in layer.input)
        assert isinstance(branch, keras.layers.Conv2D)
        expected = keras.layers.MaxPooling2D if i == 0 else keras.layers.Conv2D if i in (2, 4, 6) else keras.layers.Add
        assert isinstance(shortcut, expected)
        if i in (2, 4, 6):
            assert shortcut.kernel_size == (1, 1) and shortcut.use_bias and shortcut.padding == "valid"
            assert isinstance(shortcut.input._keras_history.operation, keras.layers.Add)


def test_batch_normalisation_has_the_given_momentum():
    for layer in layers(resnet.resnet18(width=8, momentum=0.9), keras.layers.BatchNormalization):
        assert (layer.momentum, layer.epsilon) == (0.9, 1e-3)


def test_l2_penalty_is_on_convolution_kernels_only():
    model = resnet.resnet18(width=8, l2=0.5)
    resnet.initialise(model, 0, 1)
    penalised = [layer for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    assert penalised == layers(model, keras.layers.Conv2D)
    assert not any(getattr(layer, "bias_regularizer", None) for layer in model.layers)
    expected = sum(0.5 * np.sum(np.square(layer.kernel.numpy())) for layer in penalised)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)
    assert not resnet.resnet18(width=8, l2=0.0).losses


def test_initial_l2_penalty_is_that_of_the_thesis(full):
    # variance 2 / fan_in: each filter has an expected square of 2, and there are 4800 filters
    np.testing.assert_allclose(float(sum(full.losses)), 0.96, rtol=0.01)


def test_probability_equals_the_sigmoid_of_the_logit(narrow):
    resnet.initialise(narrow, 0, 1)
    images = np.random.default_rng(0).random((3, 101, 101, 1), np.float32)
    network = resnet.logit_model(narrow)
    before = narrow(images, training=False).numpy()
    np.testing.assert_allclose(before, expit(network(images, training=False).numpy()), rtol=1e-5)
    assert len(np.unique(before)) == 3
    # the weights are shared: what is learnt on the logit is in the probability
    dense = network.get_layer("logit")
    dense.bias.assign([50.0])
    assert (narrow(images, training=False).numpy() == 1).all()


def test_initial_kernels_are_he_normal(full):
    for i, layer in enumerate(layers(full, keras.layers.Conv2D | keras.layers.Dense)):
        kernel = layer.kernel.numpy()
        sigma = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        assert np.abs(kernel).max() <= 2 * sigma / 0.879625  # the deviation of a unit normal that is cut at 2
        assert np.abs(kernel.mean()) < 5 * sigma / np.sqrt(kernel.size)
        np.testing.assert_allclose(kernel.std(), sigma, rtol=4 / np.sqrt(kernel.size))
        assert not layer.bias.numpy().any()
        if kernel.size < 50_000:
            keras_own = keras.initializers.HeNormal(seed=i)(kernel.shape)
            assert ks_2samp(kernel.ravel(), np.ravel(keras_own)).pvalue > 1e-4


def test_initial_weights_follow_seed_and_run(narrow):
    def weights(seed, run):
        resnet.initialise(narrow, seed, run)
        return [layer.kernel.numpy() for layer in layers(narrow, keras.layers.Conv2D | keras.layers.Dense)]

    first = weights(0, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, weights(0, 1), strict=True))
    for other in (weights(0, 2), weights(1, 1)):
        assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    # layers of one shape do not share their draws
    assert len({a.tobytes() for a in first}) == len(first)
