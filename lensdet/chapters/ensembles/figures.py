"""The figures of notebook 05: arrays in, matplotlib Figure out."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lensdet.chapters.ensembles.summary import ThresholdSteps
from lensdet.chapters.ensembles.tables import Pairs
from lensdet.chapters.losses.figures import LABELS, colour_of, label_of
from lensdet.evaluation import metrics
from lensdet.experiments import ENSEMBLES, EXPERIMENTS

FBETA = r"$F_\beta$"


def figure_5_15(found: Pairs, beta: float) -> Figure:
    """Figure 5.15: F_beta against the threshold, NM_3; as `f_beta_curve`."""
    return f_beta_curve(found, "NM_3", beta)


def figure_5_16(found: Pairs, beta: float) -> Figure:
    """Figure 5.16: F_beta against the threshold, NM_6; as `f_beta_curve`."""
    return f_beta_curve(found, "NM_6", beta)


def figure_5_17(found: Pairs, beta: float) -> Figure:
    """Figure 5.17: F_beta against the threshold, IDE_3; as `f_beta_curve`."""
    return f_beta_curve(found, "IDE_3", beta)


def figure_5_18(found: Pairs, beta: float) -> Figure:
    """Figure 5.18: F_beta against the threshold, IDE_6; as `f_beta_curve`."""
    return f_beta_curve(found, "IDE_6", beta)


# Of each ensemble the figure of its curve.
CURVES = {"NM_3": figure_5_15, "NM_6": figure_5_16, "IDE_3": figure_5_17, "IDE_6": figure_5_18}


def f_beta_curve(found: Pairs, ensemble: str, beta: float) -> Figure:
    """F_beta of an ensemble with a band of one seed spread, precision and recall; its members.

    Parameters
    ----------
    found : dict
        From `ensembles.tables.load_scores`.
    ensemble : str
    beta : float
    """
    figure, axis = plt.subplots(figsize=(8, 4.6))
    t = metrics.THRESHOLDS
    for model in ENSEMBLES[ensemble].members:
        labels, logits, _ = found[model][1]
        f = metrics.f_beta_curve(labels, metrics.probability(logits), beta)[0]
        axis.plot(t, f.mean(0), color=colour_of(model), lw=1, label=label_of(model))
    labels, logits, _ = found[ensemble][1]
    f, precision, recall = metrics.f_beta_curve(labels, metrics.probability(logits), beta)
    axis.plot(t, f.mean(0), color="black", lw=2, label=rf"{label(ensemble)}: $F_\beta$, $\beta$ = {beta:g}")
    if len(f) > 1:
        spread = f.std(0, ddof=1)
        axis.fill_between(t, f.mean(0) - spread, np.minimum(1, f.mean(0) + spread), color="black", alpha=0.18, lw=0)
    axis.plot(t, precision.mean(0), color="black", ls=":", lw=1, label="precision")
    axis.plot(t, recall.mean(0), color="black", ls="--", lw=1, label="recall")
    axis.set(xlabel="decision threshold p", ylabel="score", xlim=(0, 1), ylim=(None, 1.005))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    figure, axes = plt.subplots(len(found), 2, figsize=(9.5, 2.9 * len(found) + 0.3), squeeze=False,
                                width_ratios=(1, 1.5))  # fmt: skip
    raw, used, votes = (sns.color_palette("colorblind")[i] for i in (1, 0, 2))
    for (left, right), (ensemble, b) in zip(axes, found.items(), strict=True):
        rows = tables[ensemble]
        y = np.arange(len(rows))
        left.barh(y - 0.27, rows.raw, 0.26, color=raw, label="optimum")
        left.barh(y, rows.weight, 0.26, color=used, label="its softmax, used")
        left.plot(rows.thesis, y + 0.25, "d", color="black", ms=4, label="thesis")
        left.set_yticks(y, [label_of(member) for member in rows.member], fontsize=8)
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.axvline(0, color="0.3", lw=0.8)
        left.set(xlabel="mean weight", title=label(ensemble))
        t = metrics.THRESHOLDS
        right.plot(t, b.used, color=used, lw=1.8, label="softmax")
        right.plot(t, b.raw, color=raw, lw=1.2, label="optimum")
        right.plot(t, b.votes, color=votes, lw=1.2, ls="--", label="softmax, soft members\nrounded to 0 or 1")
        for steps, style in ((b.alone, ":"), (b.veto, "-.")):
            for model, p in steps.items():
                right.axvline(p, color=colour_of(model), ls=style, lw=1)
        right.set(xlabel="decision threshold p", ylabel=r"$F_\beta$", xlim=(0, 1))
        right.set_title("dotted: a soft member's weight; dash-dotted: 1 less it", fontsize=8)
    axes[0, 0].legend(fontsize=7, loc="lower right")
    axes[0, 1].legend(fontsize=7, loc="lower right")
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
    figure, axes = plt.subplots(1, len(measures), figsize=(10, 0.23 * len(names) + 1.1), sharey=True)
    for axis, measure in zip(axes, measures, strict=True):
        for y, row in enumerate(table[table.measure == measure].itertuples()):
            shade = KINDS[kind_of(row.model)]
            axis.plot([row.test_low, row.test_high], [y, y], color=shade, lw=1.5)
            axis.plot(row.mean, y, "o", ms=5, color=shade, mec="black", mew=0.5)
        axis.set_xlabel(f"{FBETA} as in the table" if measure == "F_beta" else measure.replace("F_beta", FBETA))
    labels = [label(which) + " (uses the labels, not attainable)" * which.startswith("oracle") for which in names]
    axes[0].set_yticks(range(len(names)), labels, fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


KINDS = dict(zip(("member", "ensemble", "baseline", "same loss", "oracle"),
                 (sns.color_palette("colorblind")[i] for i in (7, 0, 1, 2, 3)), strict=True))  # fmt: skip


def kind_of(which: str) -> str:
    """What a name in `ensembles.tables.load_scores` stands for: a key of `KINDS`."""
    if which in ENSEMBLES:
        return "ensemble"
    kind = EXPERIMENTS[which].kind
    return {"network": "member", "same loss": "same loss", "oracle": "oracle"}.get(kind, "baseline")


def cascade(table: pd.DataFrame) -> Figure:
    """Precision of the cascade and of single models at its recall, a panel a way to choose its thresholds."""
    ways = list(table.thresholds.unique())
    figure, axes = plt.subplots(1, len(ways), figsize=(3.3 * len(ways), 2.9), sharey=True, squeeze=False)
    for axis, how in zip(axes[0], ways, strict=True):
        rows = table[table.thresholds == how].reset_index(drop=True)
        for y, row in rows.iterrows():
            shade = "black" if row.model == "cascade" else colour_of(row.model)
            axis.plot([row.test_low, row.test_high], [y, y], color=shade, lw=1.5)
            axis.plot(row.precision, y, "o", color=shade, mec="black", mew=0.5, ms=6)
        axis.set_yticks(range(len(rows)), [label(m) for m in rows.model], fontsize=8)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel(f"precision at recall {rows.recall[0]:.3f}")
        axis.set_title(
            f"thresholds {how.replace('F_beta', FBETA)}\n{rows.seen_by_second[0]:.0%} seen by the second stage",
            fontsize=8,
        )
    return figure
