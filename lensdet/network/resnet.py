"""ResNet18 of the thesis (section 4.3): full pre-activation, one logit out.

The thesis cites and draws the first ResNet (He et al. 2016a); its runs used the pre-activation form (He et al. 2016b,
"v2"), and so do we.  At ``width=64`` the network has 11,181,569 parameters.
"""

import math
from typing import Literal

import keras
import numpy as np
from keras import layers
from scipy.stats import truncnorm

from lensdet.data.random import stream

STAMP = 101  # pixels a side
# Keras' he_normal cuts the normal at two sigma and widens it, so that the variance stays 2 / fan_in.
_TRUNCATED_STD = truncnorm.std(-2, 2)


def resnet18(
    width: int = 64,
    momentum: float = 0.99,
    l2: float = 1e-4,
    outputs: int = 1,
    activation: str = "sigmoid",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> keras.Model:
    """ResNet18 on stamps (N, 101, 101, 1).

    Parameters
    ----------
    width : int
        Channels of the first stage; the stages have width x 1, 2, 4, 8.  The thesis: 64.
    momentum : float
        Of the moving averages of batch normalisation.  The thesis: 0.99, which has not settled before some 500 steps.
    l2 : float
        Weight decay on the kernels of the convolutions, as a penalty in the loss.
    outputs : int
        Outputs of the last layer: 1 for a finder, m for a DE_m (section 3.6.2).
    activation : str
        Of the last layer.
    precision : {"float32", "bfloat16"}
        What convolutions, sums and rectifiers compute in.  Weights, the statistics of batch normalisation, the global
        average and the last layer are float32 either way.

    Returns
    -------
    keras.Model
        Stamps in, probabilities (N, outputs) out.  The layer before the activation is named ``logit``, the residual
        sums ``add`` ... ``add_7`` as in section 4.5.
    """
    dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    parts = _Parts(momentum, l2, dtype)
    inputs = keras.Input((STAMP, STAMP, 1), name="stamp")
    x = parts.norm_relu(parts.conv(inputs, width, 7, 2))  # (N, 51, 51, width)
    x = layers.MaxPooling2D(3, 2, "same", dtype=dtype)(x)  # (N, 26, 26, width)
    for stage in range(4):  # 26, 13, 7, 4 pixels a side
        for i in range(2):
            x = parts.block(x, width * 2**stage, 2 if stage and not i else 1, first=stage == i == 0)
    x = layers.GlobalAveragePooling2D(dtype="float32")(parts.norm_relu(x))  # (N, 8 width)
    logit = layers.Dense(outputs, kernel_initializer="he_normal", name="logit", dtype="float32")(x)
    return keras.Model(inputs, layers.Activation(activation, name="probability")(logit), name="resnet18")


class _Parts:
    """What the network is put together from: parameters as for `resnet18`, and Keras' name of what to compute in."""

    def __init__(self, momentum: float, l2: float, dtype: str) -> None:
        self.momentum, self.l2, self.dtype = momentum, l2, dtype
        self.sums = 0  # residual sums so far

    def conv(
        self, x: keras.KerasTensor, filters: int, size: int, stride: int = 1, padding: str = "same"
    ) -> keras.KerasTensor:
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None
        return layers.Conv2D(filters, size, stride, padding, kernel_initializer="he_normal",
                             kernel_regularizer=regularizer, dtype=self.dtype)(x)  # fmt: skip

    def norm_relu(self, x: keras.KerasTensor) -> keras.KerasTensor:
        # Keras casts to float32 for the statistics and back, whatever comes in
        norm = layers.BatchNormalization(momentum=self.momentum, epsilon=1e-3, dtype=self.dtype)
        return layers.ReLU(dtype=self.dtype)(norm(x))

    def block(self, x: keras.KerasTensor, filters: int, stride: int, first: bool) -> keras.KerasTensor:
        """Two convolutions and what they are added to; the first block of all comes after a rectifier already."""
        y = x if first else self.norm_relu(x)
        y = self.conv(y, filters, 3, stride)
        y = self.conv(self.norm_relu(y), filters, 3)
        if stride != 1 or x.shape[-1] != filters:
            x = self.conv(x, filters, 1, stride, "valid")
        name = f"add_{self.sums}" if self.sums else "add"
        self.sums += 1
        return layers.Add(name=name, dtype=self.dtype)([x, y])


def logit_model(model: keras.Model, name: str = "resnet18_logit") -> keras.Model:
    """The same network (shared weights) up to the layer ``logit``: what training and Grad-CAM work on."""
    return keras.Model(model.input, model.get_layer("logit").output, name=name)


def initialise(model: keras.Model, seed: int, run: int) -> None:
    """He-normal weights (truncated at two sigma) from the stream of this run, the same under every backend.

    Run i starts from the same weights whatever the loss, so that experiments can be compared in pairs.
    """
    for i, layer in enumerate(model.layers):
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        sigma = math.sqrt(2 / math.prod(kernel.shape[:-1])) / _TRUNCATED_STD
        rng = stream(seed, "weights", run, i)
        draw = truncnorm.rvs(-2, 2, scale=sigma, size=kernel.shape, random_state=rng)
        layer.set_weights([draw.astype(np.float32), np.zeros(kernel.shape[-1], np.float32)])
