"""Grad-CAM against finite differences and plain NumPy, receptive fields against gradients, and what must not matter."""

import importlib.util
import itertools
import logging
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers
from scipy.ndimage import zoom
from scipy.special import expit
from scipy.stats import spearmanr

from lensdet.network import gradcam, resnet
from lensdet.network.gradcam import LAYERS, heat_inside, heat_maps, receptive_field, upsample

N = 5


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((N, 101, 101, 1), np.float32)


@pytest.fixture
def network(images):
    """A narrow network that is not as at the start, with logits around 0."""
    model, rng = resnet.resnet18(width=8), np.random.default_rng(1)
    resnet.initialise(model, seed=0, run=1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + rng.uniform(0, 0.5, w.shape) for w in layer.get_weights()])
    shift(model, -logits(model, images).mean())
    return model


def logits(model, images):
    return resnet.logit_model(model)(images, training=False).numpy()[:, 0]


def shift(model, by):
    dense = model.get_layer("logit")
    dense.bias.assign(dense.bias + by)


def small(activation="sigmoid", final=False, dtype="float64"):
    """Two branches side by side, their sum, and a layer after it; double precision for finite differences."""
    keras.utils.set_random_seed(3)
    x = images = keras.Input((7, 7, 2), dtype=dtype)
    x = layers.Conv2D(3, 3, activation="relu", dtype=dtype, name="first")(x)
    left = layers.Conv2D(4, 3, 2, "same", activation="relu", dtype=dtype, name="left")(x)
    right = layers.Conv2D(4, 1, 2, activation="tanh", dtype=dtype, name="right")(x)
    x = layers.Add(dtype=dtype, name="sum")([left, right])
    x = layers.Conv2D(5, 2, activation="relu", dtype=dtype, name="last")(x)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    x = layers.Dense(1, activation="linear" if final else activation, dtype=dtype, name="dense")(x)
    return keras.Model(images, layers.Activation(activation, dtype=dtype)(x) if final else x)


def by_differences(model, images, name, step=1e-5):
    """Heat maps from central differences of the logit, feature by feature, and plain loops."""
    cut = model.get_layer(name).output
    features = keras.Model(model.input, cut)(images).numpy()
    rest = keras.Model([model.input, cut], model.output)
    found = []
    for image, maps in zip(images, features, strict=True):
        moved = maps + step * np.eye(maps.size).reshape(-1, *maps.shape) * np.r_[1, -1].reshape(2, 1, 1, 1, 1)
        moved = moved.reshape(-1, *maps.shape)
        p = rest([np.broadcast_to(image, (len(moved), *image.shape)), moved]).numpy().reshape(2, *maps.shape)
        y = np.log(p / (1 - p))
        alpha = ((y[0] - y[1]) / (2 * step)).mean((0, 1))
        heat = np.maximum(sum(a * maps[..., k] for k, a in enumerate(alpha)), 0)
        found.append(heat / heat.max() if heat.max() else heat)
    return np.array(found)


@pytest.mark.parametrize("final", [False, True], ids=["dense with sigmoid", "activation"])
def test_heat_maps_equal_finite_differences(final):
    # asked for together, with branches side by side: each has the gradient through all that comes after it
    model, names = small(final=final), ("last", "left", "first", "sum", "right")
    images = np.random.default_rng(2).normal(size=(4, 7, 7, 2)).astype(np.float32)
    maps = heat_maps(model, images, names)
    assert tuple(maps.heat) == tuple(maps.causes) == names
    for name in names:
        np.testing.assert_allclose(maps.heat[name], by_differences(model, images, name), atol=1e-5)
    assert sum((heat > 0).any() for heat in maps.heat.values()) >= 4
    np.testing.assert_allclose(expit(maps.logits), model(images).numpy()[:, 0], rtol=1e-5)


def test_heat_maps_have_their_size_peak_at_one_and_logits(network, images):
    maps = heat_maps(network, images)
    assert [maps.heat[name].shape[1:] for name in LAYERS] == [(7, 7), (7, 7), (4, 4), (4, 4)]
    np.testing.assert_allclose(maps.logits, logits(network, images), atol=1e-4)
    for heat, causes in zip(maps.heat.values(), maps.causes.values(), strict=True):
        assert heat.dtype == np.float32 and heat.min() >= 0
        assert heat.max((1, 2)).tolist() == [0 if cause else 1 for cause in causes]
    assert sum((causes == "").sum() for causes in maps.causes.values()) > 2 * N


def same(a, b, order=slice(None), atol=1e-5):
    for name in b.heat:
        np.testing.assert_allclose(a.heat[name], b.heat[name][order], atol=atol)
        assert a.causes[name].tolist() == b.causes[name][order].tolist()


def test_heat_map_of_an_image_does_not_depend_on_its_batch(network, images):
    together = heat_maps(network, images)
    for batch in (2, 3, 64):  # with padding or without
        same(heat_maps(network, images, batch=batch), together)
    order = [3, 1, 4, 0, 2]
    same(heat_maps(network, images[order], batch=2), together, order)
    same(heat_maps(network, images[2:3]), together, slice(2, 3))
    same(heat_maps(network, images, layers=["add_6"]), together._replace(heat={"add_6": together.heat["add_6"]}))


def test_heat_maps_of_many_networks_bring_no_warning_of_retracing(caplog):
    logger = logging.getLogger("tensorflow")  # which hands nothing on
    logger.addHandler(caplog.handler)
    try:
        for seed in range(6):
            layers = [keras.Input((9, 9, 1)), keras.layers.Conv2D(2, 3, name="maps"), keras.layers.GlobalMaxPooling2D()]
            tiny = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
            gradcam.heat_maps(tiny, np.ones((seed + 1, 9, 9, 1)), layers=["maps"])
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if "retracing" in record.getMessage()] == []


def test_heat_maps_leave_the_model_unchanged(network, images):
    before = network.to_json(), network.get_weights()
    heat_maps(network, images[:1])
    assert network.to_json() == before[0]
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), before[1], strict=True))


@pytest.mark.parametrize("logit", [-60, 0, 15])
def test_published_heat_maps_equal_ours_where_the_sigmoid_is_finite(network, images, logit):
    image = images[:1]
    shift(network, logit - logits(network, image))
    ours, published = (heat_maps(network, image, target=target) for target in gradcam.TARGETS)
    same(published, ours)
    assert published.logits == pytest.approx(logit, abs=1e-3) and ours.logits == pytest.approx(logit, abs=1e-3)


@pytest.mark.parametrize("logit", [-120, 40])
def test_published_heat_maps_vanish_at_a_saturated_sigmoid(network, images, logit):
    shift(network, logit)
    ours, published = (heat_maps(network, images, target=target) for target in gradcam.TARGETS)
    for name in LAYERS:
        assert set(published.causes[name]) == {"zero gradient"} and not published.heat[name].any()
        assert "zero gradient" not in ours.causes[name]
    np.testing.assert_allclose(published.logits, ours.logits)


def test_a_logit_model_has_the_heat_maps_of_its_network(network, images):
    same(heat_maps(resnet.logit_model(network), images, target="probability"), heat_maps(network, images))


def test_a_map_without_positive_evidence_is_empty_with_that_cause():
    model = small()
    kernel, bias = model.get_layer("dense").get_weights()
    model.get_layer("dense").set_weights([-np.abs(kernel), bias])
    images = np.random.default_rng(0).normal(size=(3, 7, 7, 2))
    for target in gradcam.TARGETS:
        maps = heat_maps(model, images, ["last"], target)
        assert maps.causes["last"].tolist() == ["no positive evidence"] * 3
        assert not maps.heat["last"].any()


def test_heat_maps_in_bfloat16_are_close_to_float32(images):
    exact, rounded = (resnet.resnet18(width=8, precision=precision) for precision in ("float32", "bfloat16"))
    for model in (exact, rounded):
        resnet.initialise(model, 0, 1)
    ours, expected = heat_maps(rounded, images), heat_maps(exact, images)
    for name in LAYERS:
        assert ours.heat[name].dtype == np.float32 and not any(expected.causes[name])
        # eight bits of mantissa in each of some twenty layers; single pixels differ by more
        apart = np.linalg.norm(ours.heat[name] - expected.heat[name]) / np.linalg.norm(expected.heat[name])
        assert 0 < apart < 0.2, name


def test_heat_maps_of_a_sequential_model_in_half_precision():
    def model(dtype):
        rng, steps = np.random.default_rng(0), [layers.Conv2D(3, 3, activation="relu", dtype=dtype, name="only")]
        steps += [layers.GlobalAveragePooling2D(dtype=dtype), layers.Dense(1, "sigmoid", dtype=dtype)]
        model = keras.Sequential([keras.Input((9, 9, 1)), *steps])
        model.set_weights([rng.uniform(-0.3, 1, w.shape) for w in model.weights])
        return model

    images = np.random.default_rng(1).random((3, 9, 9, 1))
    exact, ours = (heat_maps(model(dtype), images, ["only"]) for dtype in ("float32", "mixed_float16"))
    assert not any(exact.causes["only"]) and ours.heat["only"].dtype == np.float32
    np.testing.assert_allclose(ours.heat["only"], exact.heat["only"], atol=0.01)


def test_heat_maps_refuse_bad_layers_targets_and_images(network, images):
    with pytest.raises(ValueError, match="no layer add_8; it has stamp, "):
        heat_maps(network, images, ["add_8"])
    for flat in ("logit", "stamp"):
        with pytest.raises(ValueError, match=f"layer {flat} has outputs of shape .*, no feature maps"):
            heat_maps(network, images, [flat])
    with pytest.raises(ValueError, match="target is 'odds', not one of logit, probability"):
        heat_maps(network, images, target="odds")
    with pytest.raises(ValueError, match="no images"):
        heat_maps(network, images[:0])
    with pytest.raises(ValueError, match="not one .N, 1."):
        heat_maps(resnet.resnet18(width=8, outputs=3), images)
    x = network.get_layer("add_7").output
    x = layers.Reshape((1,), name="flat")(layers.GlobalMaxPooling2D()(layers.Conv2D(1, 1)(x)))
    with pytest.raises(ValueError, match="layer flat, the last, is neither Dense nor an Activation"):
        heat_maps(keras.Model(network.input, x), images)


OTHER_BACKEND = """
import sys
import numpy as np
from lensdet.network import gradcam, resnet
model = resnet.resnet18(width=8)
given = np.load(sys.argv[1] + "/given.npz")
model.set_weights([given[f"w{i}"] for i in range(len(model.weights))])
found = {}
for target in gradcam.TARGETS:
    maps = gradcam.heat_maps(model, given["images"], target=target, batch=3)
    found |= {f"{target}/{name}": heat for name, heat in maps.heat.items()} | {target: maps.logits}
    found |= {f"{target}/causes/{name}": causes for name, causes in maps.causes.items()}
np.savez(sys.argv[1] + "/found.npz", **found)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_gives_the_same_heat_maps(network, images, tmp_path):
    shift(network, 16 - np.sort(logits(network, images[:4]))[1:3].mean())  # some beyond the sigmoid's last gradient
    weights = {f"w{i}": w for i, w in enumerate(network.get_weights())}
    np.savez(tmp_path / "given.npz", images=images[:4], **weights)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
                   "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # fmt: skip
    subprocess.run([sys.executable, "-c", OTHER_BACKEND, tmp_path], env=environment, check=True)
    found = np.load(tmp_path / "found.npz")
    for target in gradcam.TARGETS:
        maps = heat_maps(network, images[:4], target=target)
        np.testing.assert_allclose(found[target], maps.logits, atol=1e-4)
        for name in LAYERS:
            np.testing.assert_allclose(found[f"{target}/{name}"], maps.heat[name], atol=1e-4)
            assert found[f"{target}/causes/{name}"].tolist() == maps.causes[name].tolist()


@pytest.mark.parametrize("u", [1, 4, 7, 13, 26, 101])
def test_upsampling_equals_nearest_neighbour_of_scipy(u):
    heat = np.random.default_rng(u).random((2, u, u))
    expected = [zoom(h, 101 / u, order=0, mode="nearest", grid_mode=True) for h in heat]
    np.testing.assert_array_equal(upsample(heat), expected)
    np.testing.assert_array_equal(upsample(heat[0], 3 * u), np.kron(heat[0], np.ones((3, 3))))
    sides = np.r_[:50, 51:101]  # the middle pixel lies between two cells, if their number is even
    mirrored = upsample(heat[:, ::-1, ::-1])[:, ::-1, ::-1]
    np.testing.assert_array_equal(mirrored[:, sides][..., sides], upsample(heat)[:, sides][..., sides])


def seen(model, layer, cell, image):
    """First and last row and column of the pixels that a cell depends on, by its gradient."""
    network = keras.Model(model.input, model.get_layer(layer).output)

    @tf.function  # eagerly, TensorFlow 2.21 crashes in the gradient of a 1 x 1 convolution of stride 2
    def gradient(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            y = tf.reduce_sum(network(image, training=False)[:, cell[0], cell[1]])
        return tape.gradient(y, image)

    support = np.argwhere(gradient(tf.constant(image)).numpy()[0, ..., 0])
    return [*support.min(0), *support.max(0)]


def positive(model):
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel, bias = layer.get_weights()
            layer.set_weights([np.abs(kernel), bias])
    return model


@pytest.mark.parametrize("layer, jump, size", [("add", 4, 27), ("add_1", 4, 43), ("add_2", 8, 67)])
def test_receptive_fields_within_a_stamp_equal_those_of_gradients(network, images, layer, jump, size):
    field = receptive_field(positive(network), layer)
    assert (field.jump, field.size) == (jump, size)
    inside = np.flatnonzero((field.centres >= size // 2) & (field.centres + size // 2 <= 100))
    for cell in ((inside[0], inside[-1]), (inside[-1], inside[1])):
        top, left, bottom, right = seen(network, layer, cell, images[:1])
        assert [(top + bottom) / 2, (left + right) / 2] == [field.centres[i] for i in cell]
        assert bottom - top + 1 == right - left + 1 == size


@pytest.fixture(scope="module")
def large():
    """The network on 101 + 32 x 16 pixels, which has the padding of 101 at every layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "STAMP", 613)
        model = resnet.resnet18(width=8)
    resnet.initialise(model, 0, 1)
    return positive(model)


@pytest.mark.parametrize("layer, jump, size", [("add_4", 16, 147), ("add_5", 16, 211), ("add_6", 32, 307),
                                               ("add_7", 32, 435)])  # fmt: skip
def test_receptive_fields_wider_than_a_stamp_equal_those_of_gradients(network, images, large, layer, jump, size):
    image = np.random.default_rng(0).random((1, 613, 613, 1), np.float32)
    stamp, field = receptive_field(network, layer), receptive_field(large, layer)
    assert (stamp.jump, stamp.size) == (field.jump, field.size) == (jump, size)
    np.testing.assert_array_equal(stamp.centres, field.centres[: len(stamp.centres)])
    cell = len(field.centres) // 2 - 1
    assert seen(large, layer, (cell, cell + 1), image) == [
        *(field.centres[[cell, cell + 1]] - size // 2), *(field.centres[[cell, cell + 1]] + size // 2)]  # fmt: skip
    # a cell at the border sees what of its field is inside
    for cell in (0, -1):
        edges = field.centres[cell] + np.r_[-1, 1] * (size // 2)
        assert seen(large, layer, (cell, cell), image) == np.clip(edges, 0, 612).repeat(2).tolist()


def test_centres_of_the_cells_of_deep_layers(network):
    assert receptive_field(network, "add_5").centres.tolist() == [4, 20, 36, 52, 68, 84, 100]
    assert receptive_field(network, "add_7").centres.tolist() == [4, 36, 68, 100]


def test_receptive_fields_of_even_pooled_and_dilated_windows():
    x = images = keras.Input((41, 41, 1))
    x = layers.Conv2D(1, 4, 3, "same", name="even")(x)  # 14 rows, two of padding
    x = layers.AveragePooling2D(2, 1, "same", name="pool")(x)  # all of it below
    x = layers.Conv2D(1, 3, dilation_rate=2, name="wide")(x)
    model = positive(keras.Model(images, x))
    image = np.random.default_rng(0).random((1, 41, 41, 1), np.float32)
    for layer, expected in {"even": (0.5, 4), "pool": (2, 7), "wide": (8, 19)}.items():
        field = receptive_field(model, layer)
        assert (field.centres[0], field.jump, field.size) == (expected[0], 3, expected[1])
        top, left, bottom, right = seen(model, layer, (4, 5), image)
        assert [(top + bottom) / 2, (left + right) / 2] == field.centres[[4, 5]].tolist()
        assert bottom - top + 1 == right - left + 1 == field.size


def test_receptive_field_that_is_not_known_is_an_error(network):
    with pytest.raises(ValueError, match="through logit .Dense. is not known"):
        receptive_field(network, "logit")
    x = keras.Input((6, 6, 1))
    y = layers.Add(name="meet")([layers.Conv2D(1, 1, 2)(x), layers.Conv2D(1, 4)(x)])
    with pytest.raises(ValueError, match="branches of strides .2, 1. meet in meet"):
        receptive_field(keras.Model(x, y), "meet")
    y = layers.Conv2D(1, (1, 3), name="flat")(x)
    with pytest.raises(ValueError, match="flat is not square"):
        receptive_field(keras.Model(x, y), "flat")


CENTRES = np.r_[4, 36, 68, 100]


def test_heat_inside_a_mask_equals_a_calculation_by_hand():
    heat, mask = np.zeros((3, 4, 4)), np.zeros((3, 101, 101), bool)
    heat[0, 0, 1] = 0.7  # rows 0 to 20, columns 21 to 52
    mask[0, :10, 21:53] = mask[0, 50:] = True
    heat[1, 3, 3] = heat[1, 0, 3] = 1  # 16 and 21 rows of 16 columns
    mask[1, 90:] = True
    np.testing.assert_allclose(heat_inside(heat, mask, CENTRES), [10 / 21, 11 / 37, np.nan])


HEAT = hnp.arrays(float, (2, 4, 4), elements=st.floats(0, 1))
PARTS = hnp.arrays(np.int8, (2, 101, 101), elements=st.integers(0, 2))


@settings(max_examples=25, deadline=None)
@given(HEAT, PARTS)
def test_heat_inside_the_parts_of_a_stamp_sums_to_one(heat, part):
    heat[:, 1, 2] = 1
    shares = [heat_inside(heat, part == i, CENTRES) for i in range(3)]
    np.testing.assert_allclose(sum(shares), 1)
    np.testing.assert_allclose(heat_inside(heat, part >= 0, CENTRES), 1)
    assert (heat_inside(heat, part < 0, CENTRES) == 0).all()
    nearest = [min(range(4), key=lambda c: abs(pixel - CENTRES[c])) for pixel in range(101)]
    spread = heat[:, nearest][..., nearest]
    np.testing.assert_allclose(shares[1], (spread * (part == 1)).sum((1, 2)) / spread.sum((1, 2)))


def test_weights_are_randomised_from_the_last_layer_down(network):
    names = [layer.name for layer in network.layers if layer.weights]

    def drawn_anew(copy):
        return {n for n in names if not all(np.array_equal(a, b) for a, b in zip(
            copy.get_layer(n).get_weights(), network.get_layer(n).get_weights(), strict=True))}  # fmt: skip

    before = network.get_weights()
    copies = [gradcam.randomised(network, 0, layer) for layer in ("logit", "add_7", "add_6", "add_5", "add_4", "stamp")]
    sets = [drawn_anew(copy) for copy in copies]
    assert sets[0] == {"logit"} and sets[-1] == set(names)
    # a final normalisation; a block of two convolutions; one with a convolution in its shortcut
    assert [len(b - a) for a, b in itertools.pairwise(sets)][:4] == [1, 4, 5, 4]
    assert all(a < b for a, b in itertools.pairwise(sets))
    for copy in copies:
        np.testing.assert_array_equal(copy.get_layer("logit").kernel, copies[0].get_layer("logit").kernel)
        assert copy.get_layer("logit") is not network.get_layer("logit")
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    # neither those of the start, nor of another seed
    start = resnet.resnet18(width=8)
    for other in (gradcam.randomised(network, 1, "stamp"), start):
        if other is start:
            resnet.initialise(start, 0, 0)
        assert not np.array_equal(other.get_layer("logit").kernel, copies[0].get_layer("logit").kernel)


def test_rank_similarity_equals_spearman_of_scipy():
    rng = np.random.default_rng(0)
    a, b = np.maximum(rng.normal(size=(2, 6, 4, 4)), 0)  # with ties
    a[4], b[5] = 0, 0.3
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a[:4], b[:4], strict=True)]
    np.testing.assert_allclose(gradcam.rank_similarity(a, b), [*expected, np.nan, np.nan])
    np.testing.assert_allclose(gradcam.rank_similarity(a, np.exp(a))[:4], 1)
