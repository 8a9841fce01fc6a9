"""The gradients that notebook 02 draws are those of the losses that networks are trained with."""

import numpy as np
import pytest
from keras import ops

from lensdet.chapters.losses import gradients
from lensdet.network import losses


@pytest.mark.parametrize("name, beta", [("bce", 1), ("fbeta", 0.17), ("f1", 1)])
@pytest.mark.parametrize("label", [0, 1])
def test_gradient_is_the_slope_of_the_loss_that_is_trained_with(name, beta, label):
    rng = np.random.default_rng(1)
    labels = np.append(rng.integers(0, 2, 31), label).astype("f8")
    logits = rng.normal(0, 2, 32)

    def loss(last):
        z = np.append(logits[:-1], last)
        if name != "bce":
            tp, fp, fn, _ = losses.soft_counts(*map(ops.convert_to_tensor, (labels, z)), from_logits=True)
            return float(losses.f_beta_loss(tp, fp, fn, beta))
        return float(np.mean(np.logaddexp(0, z) - labels * z))

    slope = (loss(logits[-1] + 1e-4) - loss(logits[-1] - 1e-4)) / 2e-4
    counts = map(float, losses.soft_counts(*map(ops.convert_to_tensor, (labels, logits)), from_logits=True))
    tp, fp, fn, _ = counts
    found = (
        gradients.cross_entropy_gradient(logits[-1], label, 32)
        if name == "bce"
        else gradients.f_beta_gradient(logits[-1], label, tp, fp, fn, beta)
    )
    np.testing.assert_allclose(found, slope, rtol=1e-4)
