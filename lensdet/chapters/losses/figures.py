"""The figures of notebook 02: arrays in, matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from lensdet.chapters import thesis
from lensdet.evaluation import metrics, thresholds
from lensdet.evaluation.calibration import Reliability
from lensdet.evaluation.statistics import clopper_pearson
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


_BEYOND = {
    "Focal loss": "black",
    "sigmoidF1 loss": "purple",
    "NM_3": "0.5",
}  # the thesis' colours are in `lensdet.chapters.thesis`

OneRun = dict[str, tuple[NDArray, NDArray, int]]  # labels (N,), logits (N,) and the number of a run, by model
AllRuns = dict[str, tuple[NDArray, NDArray, int]]  # labels (N,), logits (R, N) and the run that stands out, by model


def label_of(model: str) -> str:
    """How a model is called in a figure: its name, with maths where it has some."""
    return LABELS.get(model, model.replace("F_beta", r"$F_\beta$").replace("beta ", r"$\beta$ = "))


def colour_of(model: str) -> ColorType:
    """The same for a model in every figure; another beta has one by its logarithm."""
    known = {**thesis.COLOURS, **_BEYOND}
    if model in known:
        return known[model]
    if model.startswith(f"{F_BETA}, beta "):
        return plt.get_cmap("viridis")(np.clip((np.log10(float(model.split()[-1])) + 2) / 3, 0, 1))
    return "saddlebrown"


def _width(i, k):
    """Run k stands out, the others are thin."""
    return {"lw": 1.3, "alpha": 1.0, "zorder": 2.5} if i == k else {"lw": 0.5, "alpha": 0.4}


def figure_5_1(rows: Mapping[str, tuple[NDArray, ...]], beta: float) -> Figure:
    """Figure 5.1: F_beta, precision and recall against the threshold, six models; as `f_beta_curves`."""
    return f_beta_curves(rows, beta)


def f_beta_curves(
    rows: Mapping[str, tuple[NDArray, ...]], beta: float, colours: dict[str, ColorType] | None = None
) -> Figure:
    """F_beta with a band of one seed spread, precision (dotted) and recall (dashed) against the threshold.

    Parameters
    ----------
    rows : dict
        Labels (N,) and logits (R, N) by model.
    beta : float
    colours : dict, optional
        By model, other than `colour_of`.
    """
    figure, axis = plt.subplots(figsize=(8, 5))
    for row, (labels, logits, *_) in rows.items():
        f, precision, recall = metrics.f_beta_curve(labels, metrics.probability(logits), beta)
        colour, t = colours[row] if colours else colour_of(row), metrics.THRESHOLDS
        axis.plot(t, f.mean(0), color=colour, label=label_of(row), lw=1.6)
        if len(f) > 1:
            spread = f.std(0, ddof=1)
            axis.fill_between(t, f.mean(0) - spread, np.minimum(1, f.mean(0) + spread), color=colour, alpha=0.18, lw=0)
        axis.plot(t, precision.mean(0), color=colour, ls=":", lw=1)
        axis.plot(t, recall.mean(0), color=colour, ls="--", lw=1)
    for style, name in (("-", rf"$F_\beta$, $\beta$ = {beta:g}"), (":", "precision"), ("--", "recall")):
        axis.plot([], [], color="0.3", ls=style, label=name)
    axis.set(xlabel="decision threshold p", ylabel="score", xlim=(0, 1), ylim=(None, 1.005))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def figure_5_2(rows: OneRun) -> Figure:
    """Figure 5.2: predictions on the test set, lenses and negatives stacked.

    Parameters
    ----------
    rows : dict
        Labels (N,), logits (N,) and the number of the run, by model.
    """
    columns = min(3, max(1, len(rows)))
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.7 * columns + 0.4, 2.3 * lines + 0.4), squeeze=False)
    lens, negative = sns.color_palette("colorblind")[:2]
    for axis, (row, (labels, logits, run)) in zip(axes.flat, rows.items(), strict=False):
        p = metrics.probability(logits)
        axis.hist(
            [p[labels == 1], p[labels == 0]],
            bins=np.linspace(0, 1, 41),
            stacked=True,
            color=[lens, negative],
            label=["mock lenses", "negatives"],
        )
        beyond = ((p < 0.01) | (p > 0.99)).mean()
        axis.set_title(f"{label_of(row)}, run {run}\n{beyond:.0%} beyond 0.01 or 0.99")
        axis.set(xlabel="prediction", ylabel="images")
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=7)
    return figure


def figure_7_1(rows: OneRun) -> Figure:
    """Figure 7.1: predictions on the test set, binary cross-entropy; as `histogram`."""
    return histogram(rows, BCE)


def figure_7_2(rows: OneRun) -> Figure:
    """Figure 7.2: predictions on the test set, its F_beta metric; as `histogram`."""
    return histogram(rows, BY_F_BETA)


def figure_7_3(rows: OneRun) -> Figure:
    """Figure 7.3: predictions on the test set, its soft F_beta metric; as `histogram`."""
    return histogram(rows, BY_SOFT_F_BETA)


def figure_7_4(rows: OneRun) -> Figure:
    """Figure 7.4: predictions on the test set, the F_beta soft loss; as `histogram`."""
    return histogram(rows, F_BETA)


def figure_7_5(rows: OneRun) -> Figure:
    """Figure 7.5: predictions on the test set, the F_1 soft loss; as `histogram`."""
    return histogram(rows, F_1)


def figure_7_6(rows: OneRun) -> Figure:
    """Figure 7.6: predictions on the test set, the F_1 double soft loss; as `histogram`."""
    return histogram(rows, F_1_DOUBLE)


# Of each model the figure of its predictions.
PREDICTIONS = dict(zip(NETWORKS, (figure_7_1, figure_7_2, figure_7_3, figure_7_4, figure_7_5, figure_7_6), strict=True))


def histogram(rows: OneRun, model: str) -> Figure:
    """All predictions of one model, drawn as the thesis draws them; ``rows`` as for `figure_5_2`."""
    _, logits, run = rows[model]
    figure, axis = plt.subplots(figsize=(6, 4))
    counts, _, _ = axis.hist(metrics.probability(logits), bins="auto", color="#0504aa", alpha=0.7, rwidth=0.85)
    axis.set(
        xlabel="Prediction", ylabel="Frequency", title=f"{model}, run {run}", ylim=(0, 10 * np.ceil(counts.max() / 10))
    )
    return figure


def precision_recall(models: AllRuns, forest: pd.DataFrame) -> Figure:
    """The control: precision against recall of every model, and the differences to cross-entropy at equal recall.

    Parameters
    ----------
    models : dict
        Labels (N,), logits (R, N) and the index of the run that stands out, by model.
    forest : pandas.DataFrame
        Rows of `threshold_control.matched` to show as differences.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), width_ratios=(1.25, 1))
    for model, (labels, logits, k) in models.items():
        for i, z in enumerate(logits):
            c = thresholds.curve(labels, z)
            precision = c.tp[1:] / (c.tp[1:] + c.fp[1:])
            left.plot(c.tp[1:] / labels.sum(), precision, color=colour_of(model), **_width(i, k),
                      label=label_of(model) if i == k else None)  # fmt: skip
            at = z >= 0
            if at.any():
                left.plot(labels[at].sum() / labels.sum(), labels[at].mean(), "o", mec="black", mew=0.6,
                          ms=7 if i == k else 3.5, color=colour_of(model), zorder=3)  # fmt: skip
    left.set(xlabel="recall", ylabel="precision (cut below 0.5)", xlim=(0, 1.01), ylim=(0.5, 1.01))
    left.set_title("test curves; points: p = 0.5; thick: the run of median loss")
    left.legend(fontsize=7, loc="lower left")
    shown = forest.dropna(subset=["difference"]) if "difference" in forest else forest[:0]
    names = []
    for y, (_, row) in enumerate(shown.iterrows()):
        right.plot([row.low, row.high], [y, y], color=colour_of(row.model), lw=1.5)
        right.plot(row.difference, y, "o", color=colour_of(row.model), mec="black", mew=0.6, ms=6)
        names.append(f"{label_of(row.model)}\nat recall {row.target:.3f}")
    right.axvline(0, color="0.3", lw=0.8)
    right.set_yticks(range(len(names)), names, fontsize=7)
    right.set_ylim(max(len(names), 1) - 0.5, -0.5)
    right.locator_params(axis="x", nbins=6)
    right.set_xlabel("precision minus that of cross-entropy")
    right.set_title("at equal recall; 95 % over runs and images")
    if not names:
        right.axis("off")
        right.text(0.5, 0.5, "needs cross-entropy and another loss", ha="center", transform=right.transAxes)
    elif not np.isfinite(shown.low).any():
        right.text(
            0.5,
            0.02,
            "no interval: one run, or runs that agree exactly",
            ha="center",
            transform=right.transAxes,
            fontsize=8,
        )
    return figure


def roc(models: AllRuns) -> Figure:
    """Recall against the false-positive rate, one curve a run, with each model's p = 0.5 point.

    Parameters are those of `precision_recall`.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    for model, (labels, logits, k) in models.items():
        n = len(labels) - labels.sum()
        for i, z in enumerate(logits):
            c = thresholds.curve(labels, z)
            # none of n negatives accepted is drawn at half an image, where a logarithm can show it
            axis.plot(np.maximum(c.fp / n, 0.5 / n), c.tp / labels.sum(), color=colour_of(model), **_width(i, k),
                      label=label_of(model) if i == k else None)  # fmt: skip
            at = z >= 0
            axis.plot(max((1 - labels[at]).sum() / n, 0.5 / n), labels[at].sum() / labels.sum(), "o", mew=0.6,
                      ms=7 if i == k else 3.5, color=colour_of(model), mec="black", zorder=3)  # fmt: skip
    axis.set(xscale="log", xlabel=f"false-positive rate (of {int(n)} negatives; none is drawn at half of one)",
             ylabel="recall (true-positive rate)", ylim=(0, 1.01), title="points: p = 0.5")  # fmt: skip
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def effective(table: pd.DataFrame) -> Figure:
    """Where each soft model cuts, in calibrated probabilities of cross-entropy, against where theory says.

    Open: the model accepts all lenses of the calibration set or none, and cuts beyond what can be told.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4.4))
    axis.plot([0, 1], [0, 1], color="0.5", lw=0.8, label="theory")
    for model, rows in table.groupby("model", sort=False):
        for i, row in enumerate(rows.itertuples()):
            told = 0 < row.effective < 1
            axis.plot(row.predicted, row.effective, "o", color=colour_of(model), mec="black", mew=0.6, clip_on=False,
                      mfc=colour_of(model) if told else "none", label=label_of(model) if i == 0 else None)  # fmt: skip
    axis.set(xlabel=r"predicted threshold, $F^*/(1+\beta^2)$", ylabel="effective threshold\n(calibrated BCE)",
             xlim=(0, 1.02), ylim=(0, 1.02))  # fmt: skip
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def reliability(curves: Mapping[str, Sequence[Reliability]], least: int = 10) -> Figure:
    """Fraction of lenses against prediction, before and after temperature scaling.

    Parameters
    ----------
    curves : dict of (before, after)
        `calibration.Reliability` of one run, by model.
    least : int
        A bin with fewer images is left out.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    for axis, when, title in zip(axes, (0, 1), ("as predicted", "after temperature scaling"), strict=True):
        axis.plot([0, 1], [0, 1], color="0.5", lw=0.8)
        for model, pair in curves.items():
            bins = pair[when]
            kept = np.asarray(bins.count) >= least
            axis.plot(
                bins.mean_prediction[kept], bins.fraction[kept], color=colour_of(model), lw=0.9, label=label_of(model)
            )
            axis.scatter(bins.mean_prediction[kept], bins.fraction[kept], s=bins.count[kept] / 4, alpha=0.6, lw=0,
                         color=colour_of(model))  # fmt: skip
        axis.set(xlabel="mean prediction in bin", title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes[0].set_ylabel(f"fraction of lenses in bin\n(of at least {least} images; area: images)")
    axes[1].legend(fontsize=7, loc="lower right")
    return figure


def false_positive_rates(table: pd.DataFrame) -> Figure:
    """False-positive rate of LRGs and of each kind of contaminant at p = 0.5, with Clopper-Pearson intervals."""
    rows = table[table.threshold == "p = 0.5"]
    kinds, found = list(rows.kind.unique()), list(rows.model.unique())
    if set(kinds) - {"lrg", "contaminant"}:
        kinds.remove("contaminant")  # all of them together, where they are known apart
    figure, axis = plt.subplots(figsize=(8, 3.6))
    for j, model in enumerate(found):
        mine = rows[rows.model == model].set_index("kind").loc[kinds]
        x = np.arange(len(kinds)) + 0.8 * ((j + 0.5) / len(found) - 0.5)
        label = f"{label_of(model)}, run {mine.run.iloc[0]}"
        axis.errorbar(x, mine.rate, [mine.rate - mine.low, mine.high - mine.rate], fmt="o", ms=4, lw=1,
                      color=colour_of(model), mec="black", mew=0.4, label=label)  # fmt: skip
    n = rows[rows.model == found[0]].set_index("kind").loc[kinds, "n"]
    axis.set_xticks(range(len(kinds)), [f"{kind}\nn = {n[kind]}" for kind in kinds])
    axis.set(ylabel="false-positive rate at p = 0.5", ylim=(-0.02, 1.02))
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def inspected(models: AllRuns, contaminant: NDArray[np.bool_], share: float, prior: float) -> Figure:
    """False positives that are looked at for each true lens, against the recall.

    Where a kind of negative has no false positive its rate is taken as the upper end of its 95 % interval, dotted: the
    curve then is what cannot be excluded, not what was seen.

    Parameters
    ----------
    models : dict
        As in `precision_recall`; the run that stands out is drawn.
    contaminant : bool array (N,)
        Which images are contaminants.
    share, prior : float
        As in `threshold_control.on_the_sky`.
    """
    figure, axis = plt.subplots(figsize=(6.6, 4.2))
    for model, (labels, logits, k) in models.items():
        cuts = np.unique(logits[k][labels == 1])[::-1]
        accepted = logits[k] >= cuts[:, None]  # (T, N)
        rates, seen = [], np.ones(len(cuts), bool)
        for members, part in (((labels == 0) & ~contaminant, 1 - share), (contaminant, share)):
            wrong, n = accepted[:, members].sum(1), members.sum()
            least = clopper_pearson(0, n)[1]
            rates.append(np.where(wrong > 0, wrong / max(n, 1), least) if n else np.full(len(cuts), np.nan))
            seen &= (wrong > 0) | (part == 0)
        recall = accepted[:, labels == 1].mean(1)
        found = thresholds.inspected_per_lens(recall, thresholds.mixed_fpr(*rates, share), prior)
        axis.plot(recall, found, ":", color=colour_of(model), lw=1)
        axis.plot(recall[seen], found[seen], color=colour_of(model), lw=1.3, label=label_of(model))
    axis.set(xlabel="recall", ylabel="false positives inspected for each lens found", yscale="log", xlim=(0, 1.01),
             title=f"1 lens in {1 / prior:,.0f}; {share:.0%} of the others contaminants as here")  # fmt: skip
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def training_curves(histories: dict[str, list[pd.DataFrame]]) -> Figure:
    """Training and validation loss, F_beta and soft F_beta against chunks: each run thin, the mean bold.

    Parameters
    ----------
    histories : dict of list of pandas.DataFrame
        Of the runs, by loss.
    """
    shown = {
        "training_loss": "training loss (with L2)",
        "loss": "validation loss",
        "f_beta": r"mean $F_\beta$ (Eq. 3.21)",
        "soft_f_beta": r"soft $F_\beta$",
    }
    figure, axes = plt.subplots(
        len(histories), 4, figsize=(9.5, 1.8 * len(histories) + 0.4), squeeze=False, sharex=True
    )
    for line, (loss, runs) in zip(axes, histories.items(), strict=True):
        for axis, (column, label) in zip(line, shown.items(), strict=True):
            for history in runs:
                axis.plot(history["chunk"] + 1, history[column], color="0.65", lw=0.6)
            common = min(map(len, runs))
            mean = np.mean([history[column][:common] for history in runs], axis=0)
            axis.plot(runs[0]["chunk"][:common] + 1, mean, color="#0504aa", lw=1.5)
            axis.set_title(f"{loss}: {label}", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("chunk")
    return figure
