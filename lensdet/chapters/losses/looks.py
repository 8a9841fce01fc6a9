"""How a model looks in every figure: its name, colour and dashes, and the band that its runs leave open."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from lensdet.chapters import style
from lensdet.evaluation import metrics
from lensdet.experiments import BCE, BY_F_BETA, BY_SOFT_F_BETA, F_1, F_1_DOUBLE, F_BETA, NETWORKS

# What is drawn as maths; any other model is drawn by its name.
LABELS = {
    BCE: "binary cross-entropy",
    BY_F_BETA: r"$F_\beta$ metric",
    BY_SOFT_F_BETA: r"soft $F_\beta$ metric",
    F_BETA: r"$F_\beta$ soft loss",
    F_1: r"$F_1$ soft loss",
    F_1_DOUBLE: r"$F_1$ double soft loss",
}

# Cross-entropy in cold colours, soft losses in warm ones; those of the thesis are in `lensdet.chapters.thesis`.
COLOURS = {
    BCE: style.BLUE,
    BY_F_BETA: style.SKY,
    BY_SOFT_F_BETA: style.PURPLE,
    F_BETA: style.ORANGE,
    F_1: style.BROWN,
    F_1_DOUBLE: style.CLAY,
    "Focal loss": "black",
    "sigmoidF1 loss": style.GREY,
    "NM_3": style.GREY,
}
_DASHES = dict(zip(NETWORKS, style.DASHES, strict=True))


def label_of(model: str) -> str:
    """How a model is called in a figure: its name, with maths where it has some."""
    return LABELS.get(model, model.replace("F_beta", r"$F_\beta$").replace("beta ", r"$\beta$ = "))


def colour_of(model: str, colours: Mapping[str, ColorType] | None = None) -> ColorType:
    """The same for a model in every figure; another beta has one by its logarithm; ``colours`` of models go before."""
    known = {**COLOURS, **(colours or {})}
    if model in known:
        return known[model]
    if model.startswith(f"{F_BETA}, beta "):
        return plt.get_cmap("viridis")(0.6 * np.clip((np.log10(float(model.split()[-1])) + 2) / 3, 0, 1))
    return "0.3"


def dash_of(model: str, k: int = 0) -> tuple | str:
    """How the line of a model is dashed, beside its colour; of the k-th where it is none of the thesis'."""
    return _DASHES.get(model, style.DASHES[k % len(style.DASHES)])


def band(axis: Axes, curves: NDArray, colour: ColorType) -> None:
    """Shade what R curves (R, 99) leave open: a standard deviation to both sides; of two runs what is between them."""
    low, high = curves.min(0), curves.max(0)
    if len(curves) > 2:
        mean, spread = curves.mean(0), curves.std(0, ddof=1)
        low, high = mean - spread, np.minimum(1, mean + spread)
    if len(curves) > 1:
        axis.fill_between(metrics.THRESHOLDS, low, high, color=colour, alpha=0.18, lw=0)
