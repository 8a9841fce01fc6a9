"""The figures of notebook 06: arrays in, matplotlib Figure out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters import style, thesis
from lensdet.chapters.losses import figures as loss_figures
from lensdet.chapters.maxtree import summary as segmentation_summary
from lensdet.chapters.maxtree import sweep as segmentation_sweep
from lensdet.data import maxtree
from lensdet.experiments import BCE, MAX_TREE

STEPS = {
    "stamp": "stamp",
    "smoothed": "8 bit, smoothed",
    "filtered": "filtered Max-Tree",
    "decayed": "after decay",
    "flood_filled": "flood-filled",
    "segmented": "segmented",
}


def figure_5_19(images: dict[str, NDArray | None], settings: maxtree.Settings) -> Figure:
    """Figure 5.19: what each step makes of some stamps; a row a stamp, grey, 0 to 1, origin below.

    Decayed and flood-filled images are dim, and stretched to their own maximum.

    Parameters
    ----------
    images : dict
        Stretched stamps (101, 101) by title; None for one that is not there, whose row says so.
    settings : lensdet.data.maxtree.Settings
    """
    figure, axes = plt.subplots(len(images), len(STEPS), figsize=(style.PAGE, 1.28 * len(images) + 0.4), squeeze=False)
    for line, (title, image) in zip(axes, images.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(style.wrapped(title, 1.25))
        if image is None:
            line[0].text(0, 0.5, "none here", transform=line[0].transAxes, va="center")
            continue
        found = {"stamp": image, **maxtree.steps(image, settings)}
        for axis, step in zip(line, STEPS, strict=True):
            shown = np.asarray(found[step], float)
            top = 1 if step in ("stamp", "segmented") else 255 if step in ("smoothed", "filtered") else shown.max() or 1
            axis.imshow(shown, cmap="gray", origin="lower", vmin=0, vmax=top, interpolation="none")
        style.scale_bar(line[0])
    for axis, words in zip(axes[0], STEPS.values(), strict=True):
        axis.set_title(words, fontsize=style.TEXT)
    return figure


def figure_5_20(found: segmentation_summary.Pairs, beta: float) -> Figure:
    """Figure 5.20: F_beta, precision and recall against the threshold, on plain and on segmented stamps.

    Parameters
    ----------
    found : dict
        From `maxtree.summary.load_scores`.
    beta : float

    Notes
    -----
    The thesis' Table 5.3 was made with the preset ``code``, and stands beside ``text`` where that is not there.
    """
    one = len({model for model, _ in found}) == 1
    names = {key: _way(key, one) for key in found}
    rows = {names[key]: test for key, (_, test) in found.items()}
    colours = {row: style.PALETTE[k % len(style.PALETTE)] for k, row in enumerate(rows)}
    preset = "code" if (BCE, "code") in names else "text"
    known = {(BCE, segmentation_summary.PLAIN): thesis.TABLE_5_1[BCE], (BCE, preset): thesis.TABLE_5_3[MAX_TREE]}
    published = {names[key]: row for key, row in known.items() if key in names}
    return loss_figures.f_beta_curves(rows, beta, colours, published)


def _way(key, one):
    """How a model on plain or segmented stamps is called, without its name where there is but one."""
    model, how = key
    way = "plain stamps" if how == segmentation_summary.PLAIN else f"Max-Tree ({how})".replace(", decay", ",\ndecay")
    return way if one else f"{loss_figures.label_of(model)},\n{way}"


def arc_removed(binned: pd.DataFrame) -> Figure:
    """Mean share of the arc that is removed against Einstein radius, with 95 % intervals over LRGs.

    Parameters
    ----------
    binned : pandas.DataFrame
        From `effect.by_radius`, with rows.
    """
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.4))
    names = list(binned["settings"].unique())
    for k, name in enumerate(names):
        rows = binned[(binned["settings"] == name) & (binned["n"] > 0)]
        x = np.sqrt(rows["radius_low"] * rows["radius_high"]) * (1 + 0.012 * (k - (len(names) - 1) / 2))
        error = np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).clip(0)
        marker, colour = style.MARKERS[k % len(style.MARKERS)], style.PALETTE[k % len(style.PALETTE)]
        axis.errorbar(x, rows["mean"], error, fmt=f"-{marker}", ms=4, lw=1, elinewidth=1.2, color=colour, label=name)
    rows = binned[binned["settings"] == names[0]]
    for r in rows.itertuples():
        axis.text(np.sqrt(r.radius_low * r.radius_high), 1.02, r.n, ha="center", fontsize=style.TEXT, color="0.35")
    ticks = np.r_[rows["radius_low"], rows["radius_high"].iloc[-1]]
    axis.set(xscale="log", ylim=(-0.02, 1.07), xlabel="Einstein radius [arcsec] (ticks: edges of bins)",
             ylabel="share of arc pixels removed")  # fmt: skip
    axis.set_xticks(ticks, [f"{t:.1f}" for t in ticks])
    axis.set_xticks([], minor=True)
    axis.set_title("mock lenses of the test set, their number above; 95 % over LRGs")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def disc(discs: dict[str, pd.DataFrame], settings: dict[str, maxtree.Settings]) -> Figure:
    """Radius of what decay and flood fill alone leave against the level of the sky, and where it was predicted.

    Parameters
    ----------
    discs : dict of pandas.DataFrame
        From `effect.disc`, by name of the settings.
    settings : dict of lensdet.data.maxtree.Settings
        The same names.
    """
    figure, axes = plt.subplots(1, len(discs), figsize=(style.PAGE, 2.9), squeeze=False, sharey=True)
    for k, (axis, (name, table)) in enumerate(zip(axes[0], discs.items(), strict=True)):
        s = settings[name]
        axis.plot(table["sky"], table["radius"], ".", ms=3, alpha=0.5, color=style.PALETTE[k], label="mock lenses")
        level = np.linspace(max(table["sky"].min(), 1), table["sky"].max(), 200)
        with np.errstate(divide="ignore"):
            predicted = np.clip(s.decay * np.log(level / s.tolerance), 0, None)
        axis.plot(level, predicted, color="black", lw=1.2, label=f"{s.decay:g} ln(sky / {s.tolerance:g})")
        axis.set(title=f"{name}, n = {len(table)}", xlabel="level of the sky [of 255]")
        axis.legend(loc="lower right")
    axes[0, 0].set_ylabel("radius of the disc left [pixels of 0.2 arcsec]")
    return figure


def sweep(swept: pd.DataFrame, chosen: int | None = None) -> Figure:
    """Arc kept against neighbours removed of all settings of a sweep, and of plain discs; presets and the best marked.

    Parameters
    ----------
    swept : pandas.DataFrame
        From `sweep.sweep`, with neighbours.
    chosen : int, optional
        Place of the best.
    """
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.8))
    trees, discs = swept[swept["disc"].isna()], swept[swept["disc"].notna()]
    decays = sorted(trees["decay"].dropna().unique())
    shades = dict(zip(decays, plt.get_cmap("viridis")(np.linspace(0, 0.6, len(decays))), strict=True))
    for place, (decay, rows) in enumerate(trees.groupby("decay", dropna=False)):
        known = decay in shades
        words = f"decay {decay:g}" if known else "no decay"
        axis.plot(rows["neighbours_removed"], rows["arc_kept"], style.MARKERS[place % len(style.MARKERS)], ms=4, lw=0,
                  alpha=0.75, color=shades[decay] if known else "0.5", label=words)  # fmt: skip
    axis.plot(discs["neighbours_removed"], discs["arc_kept"], "-", marker=".", ms=6, lw=1, color="black",
              label="plain disc (its radius in pixels)")  # fmt: skip
    for r in discs.itertuples():
        axis.annotate(f"{r.disc:g}", (r.neighbours_removed, r.arc_kept), (-4, -11), textcoords="offset points",
                      fontsize=style.TEXT, ha="right")  # fmt: skip
    marked = {f"preset {r.preset}": r for r in trees[trees["preset"] != ""].itertuples()}
    if chosen is not None:
        marked["best: " + segmentation_sweep.describe(swept.loc[chosen])] = swept.loc[chosen]
    for k, (words, r) in enumerate(marked.items()):
        axis.plot(r.neighbours_removed, r.arc_kept, style.MARKERS[k], ms=11, mfc="none", mew=1.8,
                  color=style.PALETTE[(1, 2, 4)[k]], label=words)  # fmt: skip
    axis.set(xlabel="share of neighbours' pixels removed", ylabel="share of arc pixels kept", xlim=(-0.02, 1.02),
             title="validation set, means over mock lenses; a point: one setting")  # fmt: skip
    axis.margins(y=0.08)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
