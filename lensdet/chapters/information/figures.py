"""The figures of notebook 04, with the thesis' axes, bins and colours."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters import style
from lensdet.chapters.information import detection_model, selection_function
from lensdet.experiments import BCE, F_1, F_BETA

SHADES = BoundaryNorm([0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1], 256)  # finer near 1, where most are
FEW = 5  # a hexagon with fewer mock lenses is marked
FRACTION = {
    "text": "fraction of the source image above 2x the noise in the lens",
    "code": "fraction of the source image above 2x 1.66 times the noise in the lens",
}
RADIUS = "Einstein radius [arcsec]"
NOWHERE = "These sources have no Einstein radius in their headers."


class Detections(NamedTuple):
    """The mock lenses of a set, and what one run says of them."""

    title: str
    radius: np.ndarray | None  # Einstein radius in arcsec (N,); None where it is not known
    alpha: np.ndarray | None  # brightness of the source (N,)
    fraction: np.ndarray  # of the stamp where the source is above the noise (N,)
    label: str  # how that fraction was measured
    probability: np.ndarray  # (N,)


def figure_5_9(found: dict[str, Detections]) -> Figure:
    """Figure 5.9: lenses found by Einstein radius and alpha, binary cross-entropy."""
    return by_radius_and_alpha(found[BCE])


def figure_5_10(found: dict[str, Detections]) -> Figure:
    """Figure 5.10: lenses found and missed by the area above the noise, binary cross-entropy."""
    return by_fraction(found[BCE])


def figure_5_11(found: dict[str, Detections]) -> Figure:
    """Figure 5.11: lenses found by Einstein radius and alpha, the F_beta soft loss."""
    return by_radius_and_alpha(found[F_BETA])


def figure_5_12(found: dict[str, Detections]) -> Figure:
    """Figure 5.12: lenses found and missed by the area above the noise, the F_beta soft loss."""
    return by_fraction(found[F_BETA])


def figure_5_13(found: dict[str, Detections]) -> Figure:
    """Figure 5.13: lenses found by Einstein radius and alpha, the F_1 soft loss."""
    return by_radius_and_alpha(found[F_1])


def figure_5_14(found: dict[str, Detections]) -> Figure:
    """Figure 5.14: lenses found and missed by the area above the noise, the F_1 soft loss."""
    return by_fraction(found[F_1])


def figure_7_22(found: dict[str, Detections]) -> Figure:
    """Figure 7.22: predictions against the area above the noise, binary cross-entropy."""
    return predictions_by_fraction(found[BCE])


def figure_7_23(found: dict[str, Detections]) -> Figure:
    """Figure 7.23: predictions against the Einstein radius, binary cross-entropy."""
    return predictions_by_radius(found[BCE])


def figure_7_24(found: dict[str, Detections]) -> Figure:
    """Figure 7.24: mean prediction by Einstein radius and alpha, binary cross-entropy."""
    return mean_prediction(found[BCE])


def figure_7_25(found: dict[str, Detections]) -> Figure:
    """Figure 7.25: predictions against the area above the noise, the F_1 soft loss."""
    return predictions_by_fraction(found[F_1])


def figure_7_26(found: dict[str, Detections]) -> Figure:
    """Figure 7.26: predictions against the Einstein radius, the F_1 soft loss."""
    return predictions_by_radius(found[F_1])


def figure_7_27(found: dict[str, Detections]) -> Figure:
    """Figure 7.27: mean prediction by Einstein radius and alpha, the F_1 soft loss."""
    return mean_prediction(found[F_1])


def figure_7_28(found: dict[str, Detections]) -> Figure:
    """Figure 7.28: predictions against the area above the noise, the F_beta soft loss."""
    return predictions_by_fraction(found[F_BETA])


def figure_7_29(found: dict[str, Detections]) -> Figure:
    """Figure 7.29: predictions against the Einstein radius, the F_beta soft loss."""
    return predictions_by_radius(found[F_BETA])


def figure_7_30(found: dict[str, Detections]) -> Figure:
    """Figure 7.30: mean prediction by Einstein radius and alpha, the F_beta soft loss."""
    return mean_prediction(found[F_BETA])


def by_radius_and_alpha(found: Detections) -> Figure:
    """Share of mock lenses found (TPR) in hexagons of Einstein radius and alpha; `Detections`."""
    return _hexagons(found, found.probability >= 0.5, "share found (TPR)")


def by_fraction(found: Detections) -> Figure:
    """TPR by the fraction above the noise with 95 % intervals, below it the mock lenses of each bin; `Detections`."""
    edges = selection_function.bins(found.fraction)
    table = selection_function.rates(found.fraction, found.probability >= 0.5, edges)
    table = table.assign(middle=(edges[1:] + edges[:-1]) / 2)
    figure, (axis, below) = plt.subplots(2, 1, figsize=(style.PAGE, 3.4), height_ratios=(2.2, 1), sharex=True)
    width, rows = 0.9 * (edges[1] - edges[0]), table[table["n"] > 0]
    error = 100 * np.array([rows["tpr"] - rows["low"], rows["high"] - rows["tpr"]]).clip(0)
    axis.bar(rows["middle"], 100 * rows["tpr"], width, color=style.SKY, label="found (TPR)")
    axis.bar(
        rows["middle"], 100 - 100 * rows["tpr"], width, bottom=100 * rows["tpr"], color="0.85", label="missed (FNR)"
    )
    axis.errorbar(rows["middle"], 100 * rows["tpr"], error, fmt="none", ecolor="black", elinewidth=0.8, label="95 %")
    axis.set(ylabel="mock lenses [%]", ylim=(0, 101), title=f"{found.title}, n = {len(found.fraction)}")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axis.grid(False)
    below.bar(rows["middle"], rows["n"], width, color=style.GREY)
    below.set(xlabel=found.label, ylabel="mock lenses", yscale="log", ylim=(0.8, None), xlim=(0, edges[-1]))
    below.locator_params(axis="x", nbins=5)
    return figure


def predictions_by_fraction(found: Detections) -> Figure:
    """Prediction of each mock lens against the fraction above the noise; `Detections`."""
    return _scatter(found, found.fraction, found.label)


def predictions_by_radius(found: Detections) -> Figure:
    """Prediction of each mock lens against its Einstein radius; `Detections`."""
    return style.empty(NOWHERE) if found.radius is None else _scatter(found, found.radius, RADIUS)


def mean_prediction(found: Detections) -> Figure:
    """Mean prediction in hexagons of Einstein radius and alpha; `Detections`."""
    return _hexagons(found, found.probability, "mean prediction")


def _hexagons(found, values, label):
    """Mean of values in [0, 1] (N,) in hexagons of Einstein radius and alpha; few images: a dot in it."""
    if found.radius is None:
        return style.empty(NOWHERE)
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.9))
    where, grid = (found.radius, found.alpha), {"gridsize": 10, "mincnt": 1}
    shown = axis.hexbin(*where, values.astype(float), cmap="cividis", norm=SHADES, **grid)
    count = axis.hexbin(*where, np.ones(len(values)), reduce_C_function=len, alpha=0, **grid)
    few = count.get_offsets()[count.get_array() < FEW]
    axis.plot(*few.T, "o", ms=3, mfc="white", mec="black", mew=0.5)
    figure.colorbar(shown, label=label)
    title = f"{found.title},\nn = {len(values)}" + f" (dot: fewer than {FEW} in it)" * bool(len(few))
    axis.set(xlabel=RADIUS, ylabel="source brightness scaling, alpha", title=title)
    axis.set(xlim=(where[0].min(), where[0].max()), ylim=(where[1].min(), where[1].max()))
    axis.grid(False)
    return figure


def _scatter(found, x, label):
    """Prediction of each mock lens against x (N,): blue from 0.5 on, orange below."""
    accepted = found.probability >= 0.5
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.8))
    for colour, chosen, name in ((style.BLUE, accepted, "p ≥ 0.5"), (style.ORANGE, ~accepted, "p < 0.5")):
        axis.plot(x[chosen], found.probability[chosen], ".", ms=3, alpha=0.6, mew=0, color=colour,
                  label=f"{name}: {chosen.sum()}")  # fmt: skip
    axis.set(xlabel=style.wrapped(label, 3), ylabel="prediction", ylim=(-0.03, 1.03))
    figure.suptitle(f"{found.title},\nn = {len(x)}, FNR {1 - accepted.mean():.3f}", fontsize=8)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, markerscale=3)
    return figure


# What is drawn of each model, by its name in files; and the thesis' figures of its three models, in that order.
DRAWN = {
    "radius_alpha": by_radius_and_alpha,
    "fraction": by_fraction,
    "prediction_fraction": predictions_by_fraction,
    "prediction_radius": predictions_by_radius,
    "mean_prediction": mean_prediction,
}
NUMBERED = {
    BCE: (figure_5_9, figure_5_10, figure_7_22, figure_7_23, figure_7_24),
    F_BETA: (figure_5_11, figure_5_12, figure_7_28, figure_7_29, figure_7_30),
    F_1: (figure_5_13, figure_5_14, figure_7_25, figure_7_26, figure_7_27),
}


def draw(kind: str, found: dict[str, Detections], model: str, name: str) -> tuple[Figure, str]:
    """A figure of `DRAWN` of one model on a set, and the name of its file.

    That is the thesis' figure where it is of the test set and of a model of `NUMBERED`.

    Parameters
    ----------
    kind : str
        Of `DRAWN`.
    found : dict of Detections
        By model.
    model, name : str
        Of the network and of the set.
    """
    if model not in NUMBERED:
        return DRAWN[kind](found[model]), f"04_{kind}_{name}"
    function = NUMBERED[model][list(DRAWN).index(kind)]
    number = function.__name__.replace("figure", "fig", 1)
    return function(found), number if name == "test" else f"04_{number}_{name}"


def noise(estimates: dict[str, NDArray], bins: int = 40) -> Figure:
    """Each estimate of the noise over the simulated sky's, of the LRGs; names with medians in the legend.

    Parameters
    ----------
    estimates : dict of arrays
        By name, over the true noise of a sky pixel.
    """
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.6))
    edges = np.linspace(0.7, 2.0, bins)
    for colour, (name, ratio) in zip(style.PALETTE, estimates.items(), strict=False):
        words = f"{name}: median {np.median(ratio):.2f}"
        axis.hist(np.clip(ratio, *edges[[0, -1]]), edges, histtype="step", color=colour, label=words)
    axis.axvline(1, color="0.4", lw=0.8)
    axis.set(xlabel="estimate over the noise of the simulated sky", ylabel="LRGs")
    axis.legend()
    return figure


def importances(found: dict[str, pd.DataFrame]) -> Figure:
    """Deviance that each parameter explains and the others cannot, by model, with 95 % intervals.

    Parameters
    ----------
    found : dict
        By model, the data frame of `detection_model.importance`.
    """
    found = {model: table for model, table in found.items() if table["importance"].notna().all()}
    figure, axis = plt.subplots(figsize=(style.PAGE, 2.8))
    names = list(detection_model.NAMES)
    for k, (colour, (model, table)) in enumerate(zip(style.PALETTE, found.items(), strict=False)):
        table = table.set_index("feature").reindex([n for n in names if n in set(table["feature"])])
        y = np.array([names.index(n) for n in table.index]) + 0.2 * (k - (len(found) - 1) / 2)
        error = np.array([table["importance"] - table["low"], table["high"] - table["importance"]]).clip(0)
        axis.errorbar(table["importance"], y, xerr=error, fmt=style.MARKERS[k], ms=4, color=colour, label=model)
    axis.set_yticks(range(len(names)), [detection_model.NAMES[n] for n in names])
    axis.invert_yaxis()
    axis.axvline(0, color="0.4", lw=0.8)
    axis.set_xlabel("share of the deviance that is lost without it")
    axis.legend()
    return figure


def selection(tables: dict[str, pd.DataFrame]) -> Figure:
    """P(detected | Einstein radius, area fraction) of each model, with the number of mock lenses in each cell.

    Parameters
    ----------
    tables : dict
        By model, the data frame of `selection_function.selection_function`.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(style.PAGE, 3.1), squeeze=False, sharey=True)
    for axis, (model, table) in zip(axes[0], tables.items(), strict=True):
        rate, n = (table.pivot(index="fraction_low", columns="radius_low", values=v) for v in ("rate", "n"))
        shown = axis.imshow(rate, cmap="cividis", norm=SHADES, origin="lower", aspect="auto")
        for (i, j), k in np.ndenumerate(n.to_numpy()):
            dark = rate.to_numpy()[i, j] < 0.6
            words = f"{k}" if k < 1000 else f"{k / 1000:.1f}k"
            axis.text(
                j, i, words, ha="center", va="center", fontsize=style.TEXT, color="white" if k and dark else "black"
            )
        axis.set_xticks(range(rate.shape[1]), [f"{r:.1f}" for r in rate.columns])
        axis.set_yticks(range(rate.shape[0]), [f"{f:g}" for f in rate.index])
        axis.set(title=model, xlabel="Einstein radius from [arcsec]")
        axis.tick_params(axis="x", rotation=90)
        axis.grid(False)
    axes[0][0].set_ylabel("area fraction from")
    figure.colorbar(shown, ax=axes, label="share detected")
    return figure
