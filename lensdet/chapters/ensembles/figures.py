"""The figures of notebook 05: arrays in, matplotlib Figure out."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lensdet.chapters import style
from lensdet.chapters.ensembles.summary import ThresholdSteps
from lensdet.chapters.ensembles.tables import Pairs
from lensdet.chapters.losses.looks import LABELS, band, colour_of, dash_of, label_of
from lensdet.evaluation import metrics
from lensdet.experiments import ENSEMBLES, EXPERIMENTS

FBETA = r"$F_\beta$"


def figure_5_15(found: Pairs, beta: float, weights: pd.DataFrame | None = None) -> Figure:
    """Figure 5.15: F_beta against the threshold, NM_3; as `f_beta_curve`."""
    return f_beta_curve(found, "NM_3", beta, weights)


def figure_5_16(found: Pairs, beta: float, weights: pd.DataFrame | None = None) -> Figure:
    """Figure 5.16: F_beta against the threshold, NM_6; as `f_beta_curve`."""
    return f_beta_curve(found, "NM_6", beta, weights)


def figure_5_17(found: Pairs, beta: float, weights: pd.DataFrame | None = None) -> Figure:
    """Figure 5.17: F_beta against the threshold, IDE_3; as `f_beta_curve`."""
    return f_beta_curve(found, "IDE_3", beta, weights)


def figure_5_18(found: Pairs, beta: float, weights: pd.DataFrame | None = None) -> Figure:
    """Figure 5.18: F_beta against the threshold, IDE_6; as `f_beta_curve`."""
    return f_beta_curve(found, "IDE_6", beta, weights)


# Of each ensemble the figure of its curve.
CURVES = {"NM_3": figure_5_15, "NM_6": figure_5_16, "IDE_3": figure_5_17, "IDE_6": figure_5_18}


def f_beta_curve(found: Pairs, ensemble: str, beta: float, weights: pd.DataFrame | None = None) -> Figure:
    """F_beta of an ensemble with a band over runs and of its members; precision and recall of the ensemble.

    Parameters
    ----------
    found : dict
        From `ensembles.tables.load_scores`.
    ensemble : str
    beta : float
    weights : pandas.DataFrame, optional
        From `ensembles.tables.weights_table`; the mean weight of each member stands beside its curve.
    """
    figure, (axis, beside) = plt.subplots(1, 2, figsize=(style.PAGE, 3.6), width_ratios=(1.6, 1))
    t = metrics.THRESHOLDS
    known = {} if weights is None else weights[weights.ensemble == ensemble].set_index("member")
    for model in ENSEMBLES[ensemble].members:
        labels, logits, _ = found[model][1]
        f = metrics.f_beta_curve(labels, metrics.probability(logits), beta)[0]
        words = label_of(model) + (f"\nweight {_weight(known.loc[model])}" if len(known) else "")
        axis.plot(t, f.mean(0), color=colour_of(model), ls=dash_of(model), lw=1.1, label=words)
    labels, logits, _ = found[ensemble][1]
    f, precision, recall = metrics.f_beta_curve(labels, metrics.probability(logits), beta)
    axis.plot(t, f.mean(0), color="black", lw=1.8, label=label(ensemble))
    band(axis, f, "black")
    low = min(line.get_ydata().min() for line in axis.lines)
    axis.set(xlabel="decision threshold p", ylabel=rf"$F_\beta$, $\beta$ = {beta:g}", xlim=(0, 1),
             ylim=(max(0, min(0.6, low - 0.02)), 1))  # fmt: skip
    style.label_lines(axis)
    for curve, ls, name in ((precision, ":", "precision"), (recall, "--", "recall")):
        beside.plot(t, curve.mean(0), color="black", ls=ls, lw=1.3, label=name)
    beside.set(xlabel="decision threshold p", ylabel=f"score of {label(ensemble)}", xlim=(0, 1), ylim=(0, 1.005))
    beside.legend(loc="lower left")
    return figure


def _weight(row):
    return f"{row.weight:.2f}" + (f" (thesis {row.thesis:.2f})" if np.isfinite(row.thesis) else "")


def label(method: str) -> str:
    """How a method, or a row of Table 5.1, is written in a figure."""
    if method in LABELS:
        return LABELS[method]
    return rf"{method.partition('_')[0]}$_{ENSEMBLES[method].size}$" if method in ENSEMBLES else method


def raw_weights(tables: dict[str, pd.DataFrame], found: dict[str, ThresholdSteps]) -> Figure:
    """Weights before and after the softmax, and the curve that each makes; a row an ensemble.

    Parameters
    ----------
    tables : dict of pandas.DataFrame
        Rows of `ensembles.tables.weights_table`, by ensemble, of the ``code`` protocol.
    found : dict of lensdet.chapters.ensembles.summary.ThresholdSteps
        By ensemble.
    """
    figure, axes = plt.subplots(len(found), 2, figsize=(style.PAGE, 2.5 * len(found) + 0.9), squeeze=False,
                                width_ratios=(1, 1.5))  # fmt: skip
    raw, used, votes = style.ORANGE, style.BLUE, style.PURPLE
    for (left, right), (ensemble, b) in zip(axes, found.items(), strict=True):
        rows = tables[ensemble]
        y = np.arange(len(rows))
        left.barh(y - 0.27, rows.raw, 0.26, color=raw, label="optimum")
        left.barh(y, rows.weight, 0.26, color=used, label="its softmax, used")
        left.plot(rows.thesis, y + 0.25, "d", color="black", ms=4, label="thesis")
        left.set_yticks(y, [label_of(member) for member in rows.member])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.axvline(0, color="0.3", lw=0.8)
        left.set(xlabel="mean weight", title=label(ensemble))
        t = metrics.THRESHOLDS
        right.plot(t, b.used, color=used, lw=1.8, label="softmax")
        right.plot(t, b.raw, color=raw, lw=1.2, label="optimum")
        right.plot(t, b.votes, color=votes, lw=1.2, ls="--", label="softmax, soft members\nrounded to 0 or 1")
        for steps, ls in ((b.alone, ":"), (b.veto, "-.")):
            for model, p in steps.items():
                right.axvline(p, color=colour_of(model), ls=ls, lw=1)
        right.set(xlabel="decision threshold p", ylabel=r"$F_\beta$", xlim=(0, 1))
        right.set_title("dotted: a soft member's weight; dash-dotted: 1 less it", fontsize=style.TEXT)
    for axis in axes[-1]:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return figure


def compared(table: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Members, ensembles and baselines side by side: means over runs with the 95 % interval that the images leave.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ensembles.tables.summary`.
    measures : list of str
        A panel each.
    """
    names = list(table.model.unique())
    figure, axes = plt.subplots(1, len(measures), figsize=(style.PAGE, 0.19 * len(names) + 1.2), sharey=True)
    for axis, measure in zip(axes, measures, strict=True):
        for y, row in enumerate(table[table.measure == measure].itertuples()):
            shade = KINDS[kind_of(row.model)]
            axis.plot([row.test_low, row.test_high], [y, y], color=shade, lw=1.5)
            axis.plot(row.mean, y, "o", ms=5, color=shade, mec="black", mew=0.5)
        axis.set_xlabel(f"{FBETA} as in the table" if measure == "F_beta" else measure.replace("F_beta", FBETA))
    labels = [label(which) + "\n(uses the labels, not attainable)" * which.startswith("oracle") for which in names]
    axes[0].set_yticks(range(len(names)), labels)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    keys = [
        Line2D([], [], ls="-", marker="o", color=shade, mec="black", mew=0.5, label=kind)
        for kind, shade in KINDS.items()
    ]
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))
    return figure


KINDS = {
    "member": style.GREY,
    "ensemble": style.BLUE,
    "baseline": style.ORANGE,
    "same loss": style.PURPLE,
    "oracle": style.BROWN,
}


def kind_of(which: str) -> str:
    """What a name in `ensembles.tables.load_scores` stands for: a key of `KINDS`."""
    if which in ENSEMBLES:
        return "ensemble"
    kind = EXPERIMENTS[which].kind
    return {"network": "member", "same loss": "same loss", "oracle": "oracle"}.get(kind, "baseline")


def cascade(table: pd.DataFrame) -> Figure:
    """Precision of the cascade and of single models at its recall, a panel a way to choose its thresholds."""
    ways = list(table.thresholds.unique())
    figure, axes = plt.subplots(1, len(ways), figsize=(style.PAGE, 2.6), sharey=True, squeeze=False)
    for axis, how in zip(axes[0], ways, strict=True):
        rows = table[table.thresholds == how].reset_index(drop=True)
        for y, row in rows.iterrows():
            shade = "black" if row.model == "cascade" else colour_of(row.model)
            axis.plot([row.test_low, row.test_high], [y, y], color=shade, lw=1.5)
            axis.plot(row.precision, y, "o", color=shade, mec="black", mew=0.5, ms=6)
        axis.set_yticks(range(len(rows)), [label(m) for m in rows.model])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel(f"precision at recall {rows.recall[0]:.3f}")
        axis.set_title(
            f"thresholds {how.replace('F_beta', FBETA)}\n{rows.seen_by_second[0]:.0%} seen by the second stage",
            fontsize=style.TEXT,
        )
    return figure
