"""Ink of the information chapter: Figures 5.9 to 5.14 and 7.22 to 7.30, with the thesis' axes, bins and colours."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from lensdet.chapters.information import detection_model, selection_function

FEW = 5  # a hexagon with fewer mock lenses is marked
FRACTION = {
    "text": "fraction of the source image above 2x the noise in the lens",
    "code": "fraction of the source image above 2x 1.66 times the noise in the lens",
}
RADIUS = "Einstein radius [arcsec]"


def hexagons(radius, alpha, values, title, label):
    """Mean of ``values`` in hexagons of Einstein radius and alpha (Figs 5.9, 7.24 and so on); few images: a dot in it.

    Parameters
    ----------
    radius, alpha, values : arrays (N,)
        Values in [0, 1]: detected or not gives the TPR, probabilities give the mean prediction.
    title, label : str
    """
    figure, axis = plt.subplots(figsize=(5.6, 4.2))
    grid = {"gridsize": 10, "mincnt": 1}
    shown = axis.hexbin(radius, alpha, values, cmap="copper", vmin=0, vmax=1, **grid)
    count = axis.hexbin(radius, alpha, np.ones(len(radius)), reduce_C_function=len, alpha=0, **grid)
    few = count.get_offsets()[count.get_array() < FEW]
    axis.plot(*few.T, "o", ms=3, mfc="white", mec="black", mew=0.5)
    figure.colorbar(shown, label=label)
    words = f"{title}, n = {len(radius)}" + f" (dot: fewer than {FEW} in it)" * bool(len(few))
    axis.set(xlabel=RADIUS, ylabel="source brightness scaling, alpha", title=words)
    axis.grid(False)
    return figure


def bars(fraction, detected, title, label):
    """TPR (olive) and FNR by area fraction, stacked (Figs 5.10, 5.12, 5.14); no bar: an empty bin."""
    edges = selection_function.bins(fraction)
    table = selection_function.rates(fraction, detected, edges)
    figure, axis = plt.subplots(figsize=(7.6, 3.6))
    x, tpr = np.arange(len(table)), 100 * table["tpr"]
    axis.bar(x, tpr, color="olive", label="TPR")
    axis.bar(x, 100 - tpr, bottom=tpr, color="#f9bc86", label="FNR")
    for i, n in enumerate(table["n"]):
        if n:
            axis.text(i, 101, n, ha="center", fontsize=6, rotation=90 if n > 99 else 0)
    axis.set_xticks(x, [f"{edge:.3f}" for edge in table["edge"]], rotation=90, fontsize=7)
    axis.set(xlabel=f"{label} (left edge of the bin)", ylabel="percentage", ylim=(0, 109))
    axis.set_title(f"{title}, n = {len(fraction)} (above each bar: its mock lenses)")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    axis.grid(False)
    return figure


def scatter(x, probability, label, title):
    """Prediction of each mock lens against something (Figs 7.22, 7.23 and so on): blue from 0.5 on, red below."""
    accepted = probability >= 0.5
    figure, axis = plt.subplots(figsize=(5.6, 3.8))
    for colour, chosen, words in (("blue", accepted, "p ≥ 0.5"), ("red", ~accepted, "p < 0.5")):
        axis.plot(x[chosen], probability[chosen], ".", ms=3, alpha=0.6, color=colour, label=f"{words}: {chosen.sum()}")
    axis.set(xlabel=label, ylabel="prediction", ylim=(-0.03, 1.03))
    axis.set_title(f"{title}, n = {len(x)}, FNR {1 - accepted.mean():.3f}")
    axis.legend(fontsize=7, frameon=True)
    return figure


def noise(estimates, bins=40):
    """Each estimate of the noise over the simulated sky's, of the LRGs; names with medians in the legend.

    Parameters
    ----------
    estimates : dict of arrays
        By name, over the true noise of a sky pixel.
    """
    figure, axis = plt.subplots(figsize=(6.0, 3.0))
    edges = np.linspace(0.7, 2.0, bins)
    for colour, (name, ratio) in zip(sns.color_palette("colorblind"), estimates.items(), strict=False):
        words = f"{name}: median {np.median(ratio):.2f}"
        axis.hist(np.clip(ratio, *edges[[0, -1]]), edges, histtype="step", color=colour, label=words)
    axis.axvline(1, color="0.4", lw=0.8)
    axis.set(xlabel="estimate over the noise of the simulated sky", ylabel="LRGs")
    axis.legend(fontsize=7)
    return figure


def importances(found):
    """Deviance that each parameter explains and the others cannot, by model, with 95 % intervals.

    Parameters
    ----------
    found : dict
        By model, the data frame of `detection_model.importance`.
    """
    found = {model: table for model, table in found.items() if table["importance"].notna().all()}
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    names = list(detection_model.NAMES)
    for k, (colour, (model, table)) in enumerate(zip(sns.color_palette("colorblind"), found.items(), strict=False)):
        table = table.set_index("feature").reindex([n for n in names if n in set(table["feature"])])
        y = np.array([names.index(n) for n in table.index]) + 0.2 * (k - (len(found) - 1) / 2)
        error = np.array([table["importance"] - table["low"], table["high"] - table["importance"]]).clip(0)
        axis.errorbar(table["importance"], y, xerr=error, fmt="o", ms=4, color=colour, label=model)
    axis.set_yticks(range(len(names)), [detection_model.NAMES[n] for n in names])
    axis.invert_yaxis()
    axis.axvline(0, color="0.4", lw=0.8)
    axis.set_xlabel("share of the deviance that is lost without it")
    axis.legend(fontsize=7)
    return figure


def selection(tables):
    """P(detected | Einstein radius, area fraction) of each model, with the number of mock lenses in each cell.

    Parameters
    ----------
    tables : dict
        By model, the data frame of `selection_function.selection_function`.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(3.4 * len(tables) + 0.8, 3.6), squeeze=False, sharey=True)
    for axis, (model, table) in zip(axes[0], tables.items(), strict=True):
        rate, n = (table.pivot(index="fraction_low", columns="radius_low", values=v) for v in ("rate", "n"))
        shown = axis.imshow(rate, cmap="copper", vmin=0, vmax=1, origin="lower", aspect="auto")
        for (i, j), k in np.ndenumerate(n.to_numpy()):
            dark = rate.to_numpy()[i, j] < 0.6
            axis.text(j, i, k, ha="center", va="center", fontsize=6, color="white" if k and dark else "black")
        axis.set_xticks(range(rate.shape[1]), [f"{r:.1f}" for r in rate.columns])
        axis.set_yticks(range(rate.shape[0]), [f"{f:g}" for f in rate.index])
        axis.set(title=model, xlabel="Einstein radius from [arcsec]")
        axis.grid(False)
    axes[0][0].set_ylabel("area fraction from")
    figure.colorbar(shown, ax=axes, label="share detected")
    return figure
