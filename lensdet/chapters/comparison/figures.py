"""The answer in one figure: each claim of the thesis, its own difference beside ours at each number of images."""

from collections.abc import Container

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import claims
from lensdet.evaluation import statistics
from lensdet.experiments import BCE, BY_F_BETA, BY_SOFT_F_BETA, F_1, F_1_DOUBLE, F_BETA, MAX_TREE

# How a verdict is drawn.
LOOKS = {
    "agrees": {"color": style.BLUE, "marker": "o"},
    "contradicts": {"color": style.ORANGE, "marker": "s"},
    "equivalent": {"color": style.PURPLE, "marker": "D"},
    "open": {"color": style.GREY, "marker": "o", "markerfacecolor": "white"},
}
SHORT = {
    BCE: "BCE",
    BY_F_BETA: "BCE by F_beta",
    BY_SOFT_F_BETA: "BCE by soft F_beta",
    F_BETA: "soft F_beta",
    F_1: "soft F1",
    F_1_DOUBLE: "double F1",
    MAX_TREE: "segmented BCE",
    thesis.SMALLER: "rest",
    thesis.BEST_MEMBER: "best member",
}
MEASURES = {
    "false_positive_rate": "false positives",
    "saturated": "p < 0.01 or > 0.99",
    "f_beta_high": "F_beta at p > 0.75",
    "precision_high": "precision at p > 0.75",
    "f_beta_low": "F_beta at p < 0.75",
    "f_beta_over_thresholds": "spread of F_beta over p",
    "f_beta_over_runs": "spread of F_beta over runs",
    "recall_large": "recall above 2.5 arcsec",
    "mean_f_beta": "mean F_beta over p",
}
ROW = 0.112  # inches a claim
LINEAR = 0.02  # of the axis, which goes from -1 to 1; beyond it is logarithmic
EDGE = 0.93  # where the arrow of an interval beyond the axis is drawn


def forest(tables: dict[str, pd.DataFrame], first: Container[int] = ()) -> Figure:
    """Every claim in a row, by research question: left the claim, then a panel for each number of images.

    To the right of 0 is the thesis' side, whichever sign the claim has.  Intervals that leave the axis end in an arrow.

    Parameters
    ----------
    tables : dict of pandas.DataFrame
        From `claims.claims`, by what stands above the panel; each has all claims, in their order.  The
        verdict written at the right is that of `counting`.
    first : container of int
        Claims that stand out, by their place in `thesis.CLAIMS`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    places, heads, y = {}, {}, 0.0
    for question, rows in next(iter(tables.values())).groupby("question"):
        heads[question] = y
        for i in rows.index:
            y += 1
            places[i] = y
        y += 1.6
    height = 1.06 + ROW * y
    figure, axes = plt.subplots(
        1, len(tables), sharey=True, figsize=(style.PAGE, height), squeeze=False,
        gridspec_kw={"left": 0.345, "right": 0.9, "top": 1 - 0.55 / height, "bottom": 0.51 / height,
                     "wspace": 0.06},
    )  # fmt: skip
    figure.set_layout_engine("none")
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        _panel(axis, table, places)
        axis.set_title(name, fontsize=7)
    left, right = axes[0, 0], axes[0, -1]
    left.set_ylim(y - 1, -1)
    for question, place in heads.items():
        figure.text(0.01, _height(left, place), f"{question}. {thesis.QUESTIONS[question]}", fontsize=7, va="center",
                    fontweight="bold")  # fmt: skip
    counts = counting(tables)
    for i, place in places.items():
        weight = "bold" if i in first else "normal"
        words = describe(thesis.CLAIMS[i])
        figure.text(0.335, _height(left, place), words, fontsize=7, va="center", ha="right", fontweight=weight)
        verdict = tables[counts[i]].verdict[i]
        colour = LOOKS.get(verdict, {"color": style.GREY})["color"]
        figure.text(0.905, _height(right, place), verdict, fontsize=7, va="center", color=colour)
    figure.text(0.905, 1 - 0.5 / height, f"verdict\n(last with\n{statistics.LEAST_RUNS} runs)", fontsize=7, va="bottom")
    keys = [Line2D([], [], ls="", ms=3.5, label=word, **look) for word, look in LOOKS.items()]
    keys.append(Line2D([], [], ls="", marker="|", color="black", ms=5, label="the thesis"))
    figure.legend(keys, [key.get_label() for key in keys], loc="lower left", ncols=3, fontsize=7, frameon=False,
                  borderaxespad=0.2, handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    below = (
        f"difference; right: the thesis' side; grey: within {statistics.EQUIVALENT}\n"
        f"axis to ±1: linear within {LINEAR}, logarithmic beyond"
    )
    figure.text(0.62, 0.03 / height, below, fontsize=7, ha="center", va="bottom", linespacing=1.3)
    return figure


def counting(tables: dict[str, pd.DataFrame]) -> pd.Series:
    """Name of the table whose verdict counts, by claim: of most runs, to `LEAST_RUNS`; of several the last."""
    runs = pd.DataFrame({name: table.runs for name, table in reversed(tables.items())})
    return runs.clip(upper=statistics.LEAST_RUNS).idxmax(axis="columns")


def describe(claim: thesis.Claim) -> str:
    """A claim (of `thesis.CLAIMS`) in a few words, such as "recall: soft F1 > BCE"."""
    return named(claim.a, claim.b, claim.metric, ">" if claim.sign > 0 else "<")


def named(a: str, b: str, metric: str, between: str) -> str:
    """Two models and what they have more or less of, such as "recall: soft F1 − BCE"."""
    measure = MEASURES.get(metric) or claims.METRICS[metric]
    return f"{measure}: {SHORT.get(a, a)} {between} {SHORT.get(b, b)}"


def _height(axis, place):
    """Where a row lies, as a fraction of the figure."""
    low, high = axis.get_ylim()
    box = axis.get_position()
    return box.y0 + box.height * (place - low) / (high - low)


def _panel(axis, table, places):
    axis.axvspan(-statistics.EQUIVALENT, statistics.EQUIVALENT, color="0.92", lw=0)
    axis.axvline(0, color="0.5", lw=0.6)
    axis.set_xscale("symlog", linthresh=LINEAR, linscale=0.7)
    for i, place in places.items():
        claim = table.loc[i]
        if np.isfinite(claim.thesis):
            axis.plot(claim.sign * claim.thesis, place, marker="|", ms=5, color="black", mew=0.9)
        if claim.verdict not in LOOKS:
            continue
        look = LOOKS[claim.verdict]
        if np.isfinite(claim.low):
            low, high = sorted((claim.sign * claim.low, claim.sign * claim.high))
            axis.plot([low, high], [place] * 2, color=look["color"], lw=0.9)
            for beyond, end, marker in ((low < -1, -EDGE, "<"), (high > 1, EDGE, ">")):
                if beyond:
                    axis.plot(end, place, marker=marker, ms=2.8, mew=0, color=look["color"])
        axis.plot(claim.sign * claim.difference, place, ms=2.8, mew=0.7, ls="", **look)
    axis.set_xlim(-1, 1)
    axis.set_xticks([-0.5, -0.1, -0.01, 0, 0.01, 0.1, 0.5], ["", "−0.1", "", "0", "", "0.1", ""], fontsize=7)
    axis.set_yticks([])
    axis.minorticks_off()
    axis.grid(False)
