"""How strongly each loss pulls on the logit of one image of a batch."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters.losses.figures import colour_of, label_of
from lensdet.evaluation.metrics import probability
from lensdet.experiments import BCE, F_1, F_BETA

LENSES, NEGATIVES = 64, 64  # of the batch that is drawn, at this recall and precision
RECALL, PRECISION = 0.8, 0.8


def cross_entropy_gradient(logit: NDArray, label: int, images: int) -> NDArray:
    """Derivative of cross-entropy (Eq. 3.5) with respect to the logit of one image of a batch.

    Parameters
    ----------
    logit : array
    label : {0, 1}
    images : int
        Of the batch.

    Returns
    -------
    array
        Of the shape of `logit`.
    """
    return (probability(logit) - label) / images


def f_beta_gradient(logit: NDArray, label: int, tp: float, fp: float, fn: float, beta: float) -> NDArray:
    """Derivative of the soft F_beta loss (Eq. 3.19) with respect to the logit of one image of a batch.

    Parameters
    ----------
    logit : array
    label : {0, 1}
    tp, fp, fn : float
        Soft counts of the batch (Eqs. 3.9-3.11).
    beta : float

    Returns
    -------
    array
        Of the shape of `logit`.
    """
    p = probability(logit)
    total = beta**2 * (tp + fn) + tp + fp  # F_beta is (1 + beta^2) tp / total
    return -(1 + beta**2) * (label * total - tp) / total**2 * p * (1 - p)


def loss_gradients(beta: float) -> Figure:
    """The pull of cross-entropy, soft F_beta and soft F1 on a lens and on a negative, against its logit."""
    z = np.linspace(-8, 8, 321)
    tp = RECALL * LENSES
    counts = tp, tp / PRECISION - tp, LENSES - tp
    figure, axes = plt.subplots(1, 2, figsize=(7.1, 2.6), sharey=True)
    for axis, label, what in zip(axes, (1, 0), ("a lens", "a negative"), strict=True):
        images = LENSES + NEGATIVES
        pulls = {BCE: cross_entropy_gradient(z, label, images)}
        pulls |= {model: f_beta_gradient(z, label, *counts, b) for model, b in ((F_BETA, beta), (F_1, 1))}
        for style, (model, pull) in zip(("-", "--", ":"), pulls.items(), strict=True):
            axis.plot(z, np.abs(pull) * images, color=colour_of(model), ls=style, label=label_of(model))
        axis.set(xlabel=f"logit of {what}", title=f"{what}: pulled {'up' if label else 'down'}", xlim=(z[0], z[-1]))
    axes[0].set_ylabel("size of the gradient x images")
    axes[1].legend()
    return figure
