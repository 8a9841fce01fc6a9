"""The figures of notebook 07, beside the ranked list."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from lensdet.chapters import style
from lensdet.chapters.candidates import domain_shift, expectation
from lensdet.evaluation import thresholds

WORDS = {domain_shift.REAL: "real galaxies, unvetted"}
COLUMN = 120  # pixels of a curve across the axis: no more points are drawn than can be seen


def roc(scores: dict[str, tuple[NDArray, NDArray]], names: dict[str, str] | None = None) -> Figure:
    """Recall against the false-positive rate on a logarithmic axis from 1e-5 to 1.

    Left of the grey edge fewer than ten negatives are accepted, and how large the rate is is not known; the curves are
    dotted there.  None of n negatives is drawn at half of one.

    Parameters
    ----------
    scores : dict of (array, array)
        Logits of negatives and lenses by finder; an ensemble named so is drawn in black.
    names : dict of str, optional
        What to call a finder in the legend.
    """
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.8))
    palette = itertools.cycle(style.PALETTE)
    colours = {finder: "black" if finder == "ensemble" else next(palette) for finder in scores}
    least = max(expectation.LEAST / len(negatives) for negatives, _ in scores.values())
    left = min(1e-5, *(0.5 / len(negatives) for negatives, _ in scores.values()))
    counts = sorted({len(negatives) for negatives, _ in scores.values()})
    few = f"fewer than {expectation.LEAST} of {' or '.join(f'{n:,}' for n in counts)}\nnegatives: not known"
    for finder, (negatives, lenses) in scores.items():
        labels = np.r_[np.zeros(len(negatives)), np.ones(len(lenses))]
        c = thresholds.curve(labels, np.r_[negatives, lenses])
        rate, tpr = np.maximum(c.fp, 0.5) / len(negatives), c.tp / len(lenses)
        kept = _visible(rate, tpr)
        rate, tpr, sure = rate[kept], tpr[kept], c.fp[kept] >= expectation.LEAST
        first = max(int(np.argmax(sure)), 1) if sure.any() else len(rate)
        axis.plot(rate[: first + 1], tpr[: first + 1], ":", color=colours[finder], lw=1)
        label = (names or {}).get(finder, finder)
        axis.plot(rate[first:], tpr[first:], color=colours[finder], lw=1.4, label=label)
    grid = np.geomspace(left, 1, 200)
    axis.plot(grid, grid, color="0.5", lw=0.8, ls="--", label="at random")
    axis.axvspan(left, least, color="0.93", lw=0, zorder=0, label=few)
    axis.axvline(least, color="0.5", lw=0.8)
    axis.set(xscale="log", xlim=(left, 1), ylim=(0, 1.01), xlabel="false-positive rate",
             ylabel="recall (true-positive rate)")  # fmt: skip
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(expectation.HEADING, fontsize=9)
    return figure


def lenses_found(table: pd.DataFrame) -> Figure:
    """Lenses expected among the first N of a ranked list, one line a prior, with its interval; dashed: N at random.

    Where fewer than ten simulated negatives are above the threshold there is no line, but the interval alone.

    Parameters
    ----------
    table : pandas.DataFrame
        From `expectation.expected_table`, of one finder.
    """
    finders, ranked = table["finder"].unique(), int(table["ranked"].iloc[0])
    if len(finders) != 1:
        raise ValueError(f"a table of one finder, not of {', '.join(finders)}")
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.8))
    priors = sorted(table["prior"].unique(), reverse=True)
    for colour, prior in zip(itertools.cycle(style.PALETTE), priors, strict=False):
        rows = table[table["prior"] == prior].sort_values("inspected")
        n = rows["inspected"]
        axis.fill_between(n, np.maximum(rows["low"], 1e-6), rows["high"], color=colour, alpha=0.3, lw=0.5)
        label = f"1 lens in {1 / prior:,.0f} ({prior * ranked:,.0f} in all)"
        axis.plot(n, rows["lenses"], "o-", ms=2.5, color=colour, lw=1.3, label=label)
        axis.plot(n, rows["random"], "--", color=colour, lw=0.9)
    drawn = table[table["high"] > 0]
    low = min(drawn["random"].min(), drawn["high"].min())
    axis.set(xscale="log", yscale="log", ylim=(low / 1.3, drawn["high"].max() * 1.5),
             xlabel=f"stamps inspected, the highest ranked of {ranked:,}",
             ylabel="lenses expected among them")  # fmt: skip
    axis.plot([], [], "--", color="0.4", lw=0.9, label="inspected at random")
    axis.fill_between([], [], [], color="0.4", alpha=0.3, lw=0.5, label="95 %, of the simulated sets")
    plain = FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value:,.0f}")
    axis.xaxis.set_major_formatter(plain)
    axis.yaxis.set_major_formatter(plain)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), title=f"{finders[0]}: one curve,\ntimes the number of lenses")
    figure.suptitle(expectation.HEADING, fontsize=9)
    return figure


def _visible(x, y):
    """Indices of the points of a rising curve that differ where it is drawn."""
    place = np.stack([np.round(np.log10(x) * COLUMN), np.round(y * 4 * COLUMN)], axis=1)
    changed = np.any(np.diff(place, axis=0) != 0, axis=1)
    return np.flatnonzero(np.r_[True, changed] | np.r_[changed, True])


def logits(found: dict[str, dict[str, NDArray]]) -> Figure:
    """Logits of each group of stamps by each finder: every stamp a point, a box from quartile to quartile.

    Parameters
    ----------
    found : dict of dict of float arrays
        By finder, then by group (`domain_shift.make`).
    """
    groups = list(next(iter(found.values())))
    size = {"figsize": (style.PAGE, 3.4), "squeeze": False}
    figure, axes = plt.subplots(1, len(found), sharex=True, sharey=True, **size)
    positive = {*domain_shift.STEPS, domain_shift.CANDIDATES, domain_shift.PICTURES}
    rng = np.random.default_rng(0)  # moves points aside, nothing else
    for axis, (name, by_group) in zip(axes[0], found.items(), strict=True):
        for i, group in enumerate(groups):
            values = np.asarray(by_group[group])
            colour = style.ORANGE if group in positive else style.BLUE
            aside = i + 0.32 * (rng.random(len(values)) - 0.5)
            size, alpha = (2.5, 0.35) if len(values) > 200 else (5, 0.6)
            axis.plot(values, aside, ".", ms=size, color=colour, alpha=alpha, mew=0, rasterized=True)
            if len(values):
                axis.boxplot([values], positions=[i], widths=0.55, orientation="horizontal", showfliers=False, whis=0,
                             showcaps=False, manage_ticks=False, medianprops={"color": "black"})  # fmt: skip
        axis.axvline(0, color="0.4", lw=0.8, ls="--")
        axis.set_xscale("asinh", linear_width=2)  # a few lie far beyond the others
        axis.set_xticks([-10, -2, 0, 2, 10, 50], ["−10", "−2", "0", "2", "10", "50"])
        axis.minorticks_off()
        axis.set(title=name, xlabel="logit (0: p = 0.5)", yticks=range(len(groups)))
        axis.set_yticklabels([style.wrapped(f"{WORDS.get(g, g)}\nn = {len(by_group[g])}", 1.6) for g in groups])
        axis.grid(False, axis="y")
        axis.margins(y=0.08)
    axes[0, 0].invert_yaxis()
    return figure


def real_hosts(table: pd.DataFrame, names: dict[str, str]) -> Figure:
    """Finders on real galaxies with and without painted arcs: each number with its interval, a row a finder.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``benchmarks/real_hosts.py`` writes it, of one variant of arcs and one set of hosts.
    names : dict of str
        What to call a finder, in the order of the rows, from above; others are not drawn.
    """
    shown = {
        "AUROC": "area under\nthe ROC curve",
        "hosts accepted, p = 0.5": "hosts accepted,\np = 0.5",
        "arcs found, p = 0.5": "arcs found,\np = 0.5",
        "arcs found, 10 % of hosts accepted": "arcs found, 10 %\nof hosts accepted",
    }
    height = 0.9 + 0.24 * len(names)
    figure, axes = plt.subplots(1, len(shown), sharey=True, figsize=(style.PAGE, height))
    for axis, (quantity, label) in zip(axes, shown.items(), strict=True):
        rows = table[table["quantity"] == quantity].set_index("finder").loc[list(names)]
        place = np.arange(len(rows))
        axis.hlines(place, rows["low"], rows["high"], color=style.BLUE, lw=1.4)
        axis.plot(rows["value"], place, "o", ms=4, color=style.BLUE)
        axis.set(xlabel=label, yticks=place, ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticklabels(names.values())
        axis.xaxis.set_major_locator(plt.MaxNLocator(4, prune="both"))
    axes[0].axvline(0.5, color="0.6", lw=0.8, ls="--")
    return figure
