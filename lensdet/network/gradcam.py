"""Grad-CAM (sections 3.7 and 4.5): heat maps of the evidence for a lens, where their cells lie, and checks on them.

Numbers; nothing is drawn here.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from lensdet.data.random import stream
from lensdet.network import resnet

LAYERS = ("add_4", "add_5", "add_6", "add_7")
TARGETS = ("logit", "probability")
NO_EVIDENCE, NO_GRADIENT = "no positive evidence", "zero gradient"
# Layers that work on each pixel by itself (batch normalisation at prediction), and those that look through a window.
_POINTWISE = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.BatchNormalization,
    keras.layers.Dropout, keras.layers.Add, keras.layers.Average, keras.layers.Maximum, keras.layers.Multiply,
    keras.layers.Concatenate,
)  # fmt: skip
_WINDOWS = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


class Maps(NamedTuple):
    """Grad-CAM of N images."""

    logits: np.ndarray  # float32 (N,), whatever the target
    heat: dict  # layer -> float32 (N, u, v), with a maximum of 1, or 0 everywhere where the map is empty
    causes: dict  # layer -> str (N,): why the map is empty, "" where it is not


class Field(NamedTuple):
    """Where the cells of a layer lie in the image, the same in rows and columns; in pixels."""

    centres: np.ndarray  # float (u,): the middle of each cell's receptive field; 0 is the centre of the first pixel
    jump: int  # between neighbouring centres
    size: int  # of the receptive field, its corners included, with what of it lies outside of the image


def heat_maps(
    model: keras.Model,
    images: ArrayLike,
    layers: Sequence[str] = LAYERS,
    target: Literal["logit", "probability"] = "logit",
    batch: int = 64,
) -> Maps:
    """Grad-CAM of each image at several layers, from one forward and one backward pass.

    The weight alpha_k of a feature map A^k is the mean of its gradient dy/dA^k over its positions (Eq. 3.24), for each
    image by itself, where the published code also took the mean over a batch.  A heat map is the positive part of
    sum_k alpha_k A^k (Eq. 3.25), divided by its maximum.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, with one output, at prediction.  It must end in a Dense layer, of any activation, or
        in an Activation.
    images : float array (N, rows, columns, channels)
        As the model takes them.
    layers : sequence of str
        Names of layers with outputs (N, u, v, channels).  Of a layer that is called several times: the first call.
    target : {"logit", "probability"}
        What is differentiated: what comes in to the last activation, as Eq. 3.24 has it, or the model's output, as the
        published code did.  The maps differ by rounding, unless the sigmoid has no gradient in float32: logits above
        16.6 or so, and below -84 (digits get lost from -75 on).
    batch : int
        Images at a time.

    Returns
    -------
    Maps
        A map is empty for one of two causes: "no positive evidence" where the weighted sum is positive nowhere, "zero
        gradient" where dy/dA is exactly 0 everywhere.

    Raises
    ------
    ValueError
        If the model does not end in one logit, a layer has no such output or is not there, a target is unknown, or
        there are no images.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}, not one of {', '.join(TARGETS)}")
    if not len(images):
        raise ValueError("no images")
    probe, ordered = _probe(model, layers, target)
    images, n, parts = np.asarray(images, "float32"), len(images), []
    batch = min(batch, n)
    work = {"tensorflow": _tensorflow, "jax": _jax}[keras.backend.backend()](probe, (batch, *images.shape[1:]))
    for i in range(0, n, batch):
        # the last batch is padded: always the same shape, and one compilation
        part = images[np.minimum(np.arange(i, i + batch), n - 1)]
        parts.append(work(keras.ops.convert_to_tensor(part)))
    logits, *found = (np.concatenate(p)[:n] for p in zip(*[[np.asarray(x) for x in p] for p in parts], strict=True))
    heat, causes = {}, {}
    for name, total, gradient in zip(ordered, found[::2], found[1::2], strict=True):
        heat[name], causes[name] = _scaled(total, gradient)
    return Maps(logits, {name: heat[name] for name in layers}, {name: causes[name] for name in layers})


def _scaled(total, gradient):
    """Heat maps (N, u, v) from weighted sums, and why each that is empty is so (N,); see `_weighted`."""
    top = total.max((1, 2))
    empty = top <= 0
    scale = np.where(empty, 1, top)[:, None, None]
    heat = np.where(empty[:, None, None], 0, np.maximum(total, 0) / scale).astype(np.float32)
    return heat, np.where(empty, np.where(gradient, NO_EVIDENCE, NO_GRADIENT), "")


def _probe(model, layers, target):
    """A model with the same weights: images and an offset to each layer's output in; target, logit and the layers out.

    The gradient with respect to an offset of zero is that with respect to the output, under any backend.  For this the
    network is cut at the layers, and the pieces, as models, are put together with the offsets in between.
    """
    known = [layer.name for layer in model.layers]
    for name in layers:
        if name not in known:
            raise ValueError(f"{model.name} has no layer {name}; it has {', '.join(known)}")
        shape = getattr(model.get_layer(name).output, "shape", ())
        if len(shape) != 4 or isinstance(model.get_layer(name), keras.layers.InputLayer):
            raise ValueError(f"layer {name} has outputs of shape {shape}, no feature maps (N, u, v, channels)")
    logit = _logit(model)
    ordered = sorted(set(layers), key=known.index)  # a layer comes after those that it depends on
    cuts = [model.inputs[0], *(model.get_layer(name).output for name in ordered)]
    offsets = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in cuts[1:]]
    inside = [keras.Input(batch_shape=cuts[0].shape, dtype=cuts[0].dtype, name="images")]
    images = inside[0]
    for i, offset in enumerate(offsets, 1):
        piece = keras.Model(cuts[:i], cuts[i], name=f"to_{ordered[i - 1]}")
        inside.append(keras.ops.add(piece(inside), offset))
    logit, last = keras.Model(cuts, logit, name="to_logit")(inside), _made_by(model.outputs[0])
    y = logit if target == "logit" else keras.layers.Activation(last.activation, dtype=last.dtype_policy)(logit)
    return keras.Model([images, *offsets], [y, logit, *inside[1:]], name="probe"), ordered


def _logit(model):
    """What comes in to the last activation of a model with one output."""
    last = _made_by(model.outputs[0])
    if len(model.outputs) != 1 or model.outputs[0].shape[1:] != (1,):
        raise ValueError(f"{model.name} has outputs of shape {[x.shape for x in model.outputs]}, not one (N, 1)")
    if isinstance(last, keras.layers.Activation):
        return last.input
    if not isinstance(last, keras.layers.Dense):
        raise ValueError(f"the logit is not found: layer {last.name}, the last, is neither Dense nor an Activation")
    if last.activation is keras.activations.linear:
        return model.outputs[0]
    bare = keras.layers.Dense.from_config({**last.get_config(), "activation": "linear", "name": "bare"})
    logit = bare(last.input)
    bare.set_weights(last.get_weights())  # a copy: of this moment, which is all that we need
    return logit


def _made_by(tensor):
    return tensor._keras_history.operation


def _offsets(probe):
    return lambda n: [keras.ops.zeros((n, *x.shape[1:]), x.dtype) for x in probe.inputs[1:]]


def _weighted(logit, outputs, gradients):
    """Logits (N,); for each layer sum_k alpha_k A^k (N, u, v), and whether there is a gradient at all (N,)."""
    ops, found = keras.ops, [logit[:, 0]]
    for features, gradient in zip(outputs, gradients, strict=True):
        features, gradient = ops.cast(features, "float32"), ops.cast(gradient, "float32")
        alpha = ops.mean(gradient, (1, 2), keepdims=True)
        found += [ops.sum(alpha * features, -1), ops.any(gradient != 0, (1, 2, 3))]
    return found


def _tensorflow(probe, shape):
    import tensorflow as tf

    zeros = _offsets(probe)

    @tf.function
    def work(images):
        offsets = zeros(images.shape[0])
        with tf.GradientTape() as tape:
            tape.watch(offsets)
            y, logit, *outputs = probe([images, *offsets], training=False)
        return _weighted(logit, outputs, tape.gradient(y, offsets))

    # Compiled here, once for each network; at a call TensorFlow would warn of a function that is made time and again.
    return work.get_concrete_function(tf.TensorSpec(shape, tf.float32))


def _jax(probe, _):
    import jax

    zeros = _offsets(probe)

    def total(offsets, state, images):
        (y, *rest), _ = probe.stateless_call(*state, [images, *offsets], training=False)
        return y.sum(), rest  # no image has a part in another's output: the gradient of the sum is that of each

    @jax.jit
    def work(state, images):
        gradients, (logit, *outputs) = jax.grad(total, has_aux=True)(zeros(images.shape[0]), state, images)
        return _weighted(logit, outputs, gradients)

    state = tuple([v.value for v in group] for group in (probe.trainable_variables, probe.non_trainable_variables))
    return lambda images: work(state, images)


def upsample(heat: NDArray, size: int = resnet.STAMP) -> NDArray:
    """Nearest neighbour (section 4.5): maps (..., u, v) to (..., size, size), row i from row floor((i + 1/2) u / size).

    For the eye: the cells are spread evenly over the image, where `receptive_field` says that they look up to 12 pixels
    further out or in.
    """
    rows, columns = ((2 * np.arange(size) + 1) * n // (2 * size) for n in heat.shape[-2:])
    return heat[..., rows[:, None], columns]


def receptive_field(model: keras.Model, layer: str) -> Field:
    """Where the cells of a layer look, from the network's strides, windows and padding.

    Padding "same" is TensorFlow's: of an odd number of rows the larger half goes below.  Where branches are added, the
    field spans all of theirs.

    Parameters
    ----------
    model : keras.Model
        On square images, of convolutions, pooling and layers that work on each pixel by itself.
    layer : str

    Returns
    -------
    Field

    Raises
    ------
    ValueError
        If a layer on the way is of another kind, a window is not square, or branches of different strides meet.
    """
    images, found = model.inputs[0], {}

    def first(x):  # first and last pixel that the first cell sees, and the jump between cells
        if id(x) not in found:
            found[id(x)] = (0, 0, 1) if x is images else through(x)
        return found[id(x)]

    def through(x):
        operation = _made_by(x)
        if isinstance(operation, _POINTWISE):
            branches = operation.input if isinstance(operation.input, list) else [operation.input]
            low, high, jump = zip(*map(first, branches), strict=True)
            if len(set(jump)) > 1:
                raise ValueError(f"branches of strides {jump} meet in {operation.name}")
            return min(low), max(high), jump[0]
        if not isinstance(operation, _WINDOWS):
            raise ValueError(f"the receptive field through {operation.name} ({type(operation).__name__}) is not known")
        window = operation.kernel_size if isinstance(operation, keras.layers.Conv2D) else operation.pool_size
        dilation, n = getattr(operation, "dilation_rate", (1, 1)), operation.input.shape[1]
        if any(len(set(pair)) > 1 for pair in (window, operation.strides, dilation, operation.input.shape[1:3])):
            raise ValueError(f"{operation.name} is not square")
        stride, reach = operation.strides[0], (window[0] - 1) * dilation[0]
        padded = max((x.shape[1] - 1) * stride + reach + 1 - n, 0) if operation.padding == "same" else 0
        low, high, jump = first(operation.input)
        return low - padded // 2 * jump, high + (reach - padded // 2) * jump, jump * stride

    output = model.get_layer(layer).output
    low, high, jump = first(output)
    return Field((low + high) / 2 + jump * np.arange(output.shape[1]), jump, high - low + 1)


def heat_inside(heat: NDArray, mask: NDArray[np.bool_], centres: ArrayLike) -> NDArray:
    """Share of the heat that lies inside a mask, each pixel having the heat of the cell that is centred nearest to it.

    A cell of ``add_4`` and ``add_5`` is 16 pixels wide and one of ``add_6`` and ``add_7`` 32, and each sees more than
    the whole stamp is wide: the share says whether a map points to where an arc is, and cannot resolve an arc's width.

    Parameters
    ----------
    heat : float array (N, u, u)
    mask : bool array (N, n, n)
    centres : float array (u,)
        From `receptive_field`.

    Returns
    -------
    float array (N,)
        NaN where the map is empty, or hot only in cells that are nearest to no pixel.
    """
    n = mask.shape[-1]
    nearest = np.abs(np.arange(n)[:, None] - np.asarray(centres)).argmin(1)
    belongs = (nearest[:, None] == np.arange(len(centres))).astype(float)  # (n, u)
    inside = belongs.T @ mask @ belongs  # pixels of each cell inside the mask, and all
    pixels = np.outer(belongs.sum(0), belongs.sum(0))
    with np.errstate(invalid="ignore"):
        return (heat * inside).sum((1, 2)) / (heat * pixels).sum((1, 2))


def randomised(model: keras.Model, seed: int, layer: str) -> keras.Model:
    """A copy of the network, drawn anew from the top down to a layer: the sanity check of Adebayo et al. (2018).

    Maps that tell what the network has learnt change with its weights.  The layer and all that does not lead to it
    start as before a training (`resnet.initialise`), batch normalisation too, from a stream of their own: they
    are not the weights that any training started from.

    Parameters
    ----------
    model : keras.Model
        From `lensdet.network.resnet`.
    seed : int
    layer : str
        ``"logit"`` for the last layer only, ``"add_6"`` for all after its sum, the input ``"stamp"`` for all.  With one
        seed, what is drawn for one layer is in the networks of all lower ones too.
    """
    copy = keras.models.clone_model(model)
    resnet.initialise(copy, int(stream(seed, "randomised weights").integers(2**32)), run=0)
    for kept in keras.Model(model.inputs, model.get_layer(layer).output).layers:
        if kept.name != layer:
            copy.get_layer(kept.name).set_weights(kept.get_weights())
    return copy


def rank_similarity(a: NDArray, b: NDArray) -> NDArray:
    """Spearman's rank correlation between two maps of each image, at their own resolution.

    Parameters
    ----------
    a, b : arrays (N, u, v)

    Returns
    -------
    float array (N,)
        NaN where a map is the same everywhere, as an empty one is.
    """
    ranks = (rankdata(x.reshape(len(x), -1), axis=1) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
