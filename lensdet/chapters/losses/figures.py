"""The figures of notebook 02: arrays in, matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from lensdet.chapters import style, thesis
from lensdet.chapters.losses.looks import band, colour_of, dash_of, label_of
from lensdet.evaluation import metrics, thresholds
from lensdet.evaluation.calibration import Reliability
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.experiments import BCE, BY_F_BETA, BY_SOFT_F_BETA, F_1, F_1_DOUBLE, F_BETA, NETWORKS

OneRun = dict[str, tuple[NDArray, NDArray, int]]  # labels (N,), logits (N,) and the number of a run, by model
AllRuns = dict[str, tuple[NDArray, NDArray, int]]  # labels (N,), logits (R, N) and the run that stands out, by model


def figure_5_1(rows: Mapping[str, tuple[NDArray, ...]], beta: float, colours: dict | None = None) -> Figure:
    """Figure 5.1: F_beta, precision and recall against the threshold, six models; as `f_beta_curves`."""
    return f_beta_curves(rows, beta, colours)


def f_beta_curves(
    rows: Mapping[str, tuple[NDArray, ...]],
    beta: float,
    colours: Mapping[str, ColorType] | None = None,
    published: Mapping[str, dict] = thesis.TABLE_5_1,
) -> Figure:
    """F_beta with a band over runs (`band`), precision and recall against the threshold.

    Diamonds: the thesis' values with one standard deviation, all at p = 0.49, drawn side by side.

    Parameters
    ----------
    rows : dict
        Labels (N,) and logits (R, N) by model.
    beta : float
    colours : dict, optional
        By model, other than `colour_of`, such as `thesis.COLOURS`.
    published : dict
        By model, as `thesis.TABLE_5_1`.
    """
    figure, axes = plt.subplot_mosaic(
        [["f_beta", "precision"], ["f_beta", "recall"]], figsize=(style.PAGE, 4.4), width_ratios=(1.35, 1), sharex=True
    )
    main, t = axes["f_beta"], metrics.THRESHOLDS
    for k, (row, (labels, logits, *_)) in enumerate(rows.items()):
        colour, offset = colour_of(row, colours), 0.02 * (k - (len(rows) - 1) / 2)
        curves = metrics.f_beta_curve(labels, metrics.probability(logits), beta)
        for (name, axis), curve in zip(axes.items(), curves, strict=True):
            axis.plot(t, curve.mean(0), color=colour, ls=dash_of(row, k), lw=1.3, label=label_of(row))
            if row in published:
                mean, spread = published[row][name]
                axis.errorbar(0.49 + offset, mean, spread, fmt="D", ms=3.5, mec="black", mew=0.5, color=colour,
                              ecolor="black", elinewidth=0.8, zorder=3)  # fmt: skip
        band(main, curves[0], colour)
    for name, axis in axes.items():
        axis.set(ylabel=name, xlim=(0, 1), ylim=(None, 1.005))
    main.set(xlabel="decision threshold p", ylabel=rf"$F_\beta$, $\beta$ = {beta:g}")
    axes["recall"].set_xlabel("decision threshold p")
    style.label_lines(main)
    if rows.keys() & published.keys():
        key = main.plot([], [], "D", ms=3.5, color="white", mec="black", mew=0.5)
        main.legend(key, ["the thesis, p = 0.49"], loc="lower left")
    return figure


def figure_5_2(rows: OneRun) -> Figure:
    """Figure 5.2: predictions on the test set, of lenses and of negatives, on a logarithmic axis.

    Parameters
    ----------
    rows : dict
        Labels (N,), logits (N,) and the number of the run, by model.
    """
    columns = min(3, max(1, len(rows)))
    lines = -(-len(rows) // columns)
    size = {"figsize": (style.PAGE, 1.9 * lines + 0.4), "squeeze": False, "sharex": True, "sharey": True}
    figure, axes = plt.subplots(lines, columns, **size)
    bins = np.linspace(0, 1, 41)
    for axis, (row, (labels, logits, run)) in zip(axes.flat, rows.items(), strict=False):
        p = metrics.probability(logits)
        axis.hist(p[labels == 1], bins, color=style.SKY, label="mock lenses")
        axis.hist(p[labels == 0], bins, histtype="step", color=style.BROWN, lw=1.2, label="negatives")
        beyond = ((p < 0.01) | (p > 0.99)).mean()
        axis.set_title(f"{label_of(row)}, run {run}\n{beyond:.0%} below 0.01 or above 0.99")
        axis.set(yscale="log", xlim=(0, 1), xlabel="prediction", ylabel="images")
        axis.label_outer()
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    axes.flat[0].set_ylim(bottom=0.8)
    axes.flat[0].legend(loc="upper center")
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
    figure, axis = plt.subplots(figsize=(style.COLUMN, 2.5))
    counts, _, _ = axis.hist(metrics.probability(logits), bins="auto", color="#0504aa", alpha=0.7, rwidth=0.85)
    axis.set(
        xlabel="Prediction", ylabel="Frequency", title=f"{model}, run {run}", ylim=(0, 10 * np.ceil(counts.max() / 10))
    )
    return figure


def precision_recall(models: AllRuns, forest: pd.DataFrame) -> Figure:
    """The control: precision against recall of every model, and the differences to cross-entropy at equal recall.

    Curves are of the run that stands out, circles of every run at p = 0.5, diamonds of the thesis at p = 0.49.

    Parameters
    ----------
    models : dict
        Labels (N,), logits (R, N) and the index of the run that stands out, by model.
    forest : pandas.DataFrame
        Rows of `threshold_control.matched` to show as differences.
    """
    ratios = {"width_ratios": (1.75, 1), "height_ratios": (1, 0.8)}
    figure, axes = plt.subplot_mosaic([["curve", "key"], ["curve", "forest"]], figsize=(style.PAGE, 4.2), **ratios)
    axis = axes["curve"]
    for model, (labels, logits, k) in models.items():
        c = thresholds.curve(labels, logits[k])
        precision = c.tp[1:] / (c.tp[1:] + c.fp[1:])
        axis.plot(c.tp[1:] / labels.sum(), precision, color=colour_of(model), ls=dash_of(model), lw=1.3,
                  label=label_of(model))  # fmt: skip
        for at in logits >= 0:
            if at.any():
                _point(axis, model, labels[at].sum() / labels.sum(), labels[at].mean())
        if model in thesis.TABLE_5_1:
            known = thesis.TABLE_5_1[model]
            _point(axis, model, known["recall"][0], known["precision"][0], "D", 5.5)
    axis.set(xlabel="recall", ylabel="precision (cut below 0.5)", xlim=(0, 1.01), ylim=(0.5, 1.01))
    axes["key"].axis("off")
    handles, labels = axis.get_legend_handles_labels()
    for marker, words in (("o", "each run at p = 0.5"), ("D", "the thesis at p = 0.49")):
        handles += axis.plot([], [], marker, ms=4, color="white", mec="black", mew=0.5)
        labels.append(words)
    axes["key"].legend(handles, labels, loc="upper left", borderaxespad=0, handlelength=3.5)
    _differences(axes["forest"], forest)
    return figure


def _point(axis, model, x, y, marker="o", ms=4.0):
    axis.plot(x, y, marker, mec="black", mew=0.5, ms=ms, color=colour_of(model), zorder=3)


def _differences(axis, forest):
    """Differences to cross-entropy at equal recall, a row a model."""
    shown = forest.dropna(subset=["difference"]) if "difference" in forest else forest[:0]
    if not len(shown):
        axis.axis("off")
        axis.text(0.5, 0.5, "needs cross-entropy\nand another loss", ha="center", transform=axis.transAxes)
        return
    for y, (_, row) in enumerate(shown.iterrows()):
        axis.plot([row.low, row.high], [y, y], color=colour_of(row.model), lw=1.5)
        _point(axis, row.model, row.difference, y, ms=6)
        axis.text(0.03, y - 0.25, f"{label_of(row.model)}, at recall {row.target:.3f}", fontsize=style.TEXT,
                  transform=axis.get_yaxis_transform(), va="bottom")  # fmt: skip
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set(yticks=[], ylim=(len(shown) - 0.5, -0.8))
    axis.locator_params(axis="x", nbins=4)
    known = np.isfinite(shown.low).any()
    below = "95 % over runs and images" if known else "no interval: one run,\nor runs that agree exactly"
    axis.set_xlabel(f"precision minus cross-entropy's\nat equal recall; {below}")


def roc(models: AllRuns) -> Figure:
    """Recall against the false-positive rate of the run that stands out, and each run's point at p = 0.5.

    Parameters are those of `precision_recall`.
    """
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.4))
    for model, (labels, logits, k) in models.items():
        n = len(labels) - labels.sum()
        c = thresholds.curve(labels, logits[k])
        # none of n negatives accepted is drawn at half an image, where a logarithm can show it
        axis.plot(np.maximum(c.fp / n, 0.5 / n), c.tp / labels.sum(), color=colour_of(model), ls=dash_of(model), lw=1.3,
                  label=label_of(model))  # fmt: skip
        for at in logits >= 0:
            _point(axis, model, max((1 - labels[at]).sum() / n, 0.5 / n), labels[at].sum() / labels.sum())
    axis.set(xscale="log", xlabel=f"false-positive rate (of {int(n)} negatives; none is drawn at half of one)",
             ylabel="recall (true-positive rate)", ylim=(0, 1.01))  # fmt: skip
    axis.plot([], [], "o", ms=4, color="white", mec="black", mew=0.5, label="each run at p = 0.5")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3.5)
    return figure


def effective(table: pd.DataFrame) -> Figure:
    """Where each soft model cuts, in calibrated probabilities of cross-entropy, against where theory says.

    Open: the model accepts all lenses of the calibration set or none, and cuts beyond what can be told.
    """
    figure, axis = plt.subplots(figsize=(style.COLUMN, 3.3))
    axis.plot([0, 1], [0, 1], color="0.5", lw=0.8, label="theory")
    for k, (model, rows) in enumerate(table.groupby("model", sort=False)):
        for i, row in enumerate(rows.itertuples()):
            told = 0 < row.effective < 1
            axis.plot(row.predicted, row.effective, style.MARKERS[k], color=colour_of(model), mec="black", mew=0.6,
                      clip_on=False, mfc=colour_of(model) if told else "none", zorder=3,
                      label=f"{label_of(model)}, {style.number_of(len(rows), 'run')}" if i == 0 else None)  # fmt: skip
    axis.set(xlabel=r"predicted threshold, $F^*/(1+\beta^2)$", ylabel="effective threshold\n(calibrated cross-entropy)",
             xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axis.legend(loc="lower right")
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
    figure, axes = plt.subplots(1, 2, figsize=(style.PAGE, 3.4), sharey=True)
    for axis, when, title in zip(axes, (0, 1), ("as predicted", "after temperature scaling"), strict=True):
        axis.plot([0, 1], [0, 1], color="0.5", lw=0.8)
        for model, pair in curves.items():
            bins = pair[when]
            kept = np.asarray(bins.count) >= least
            axis.plot(
                bins.mean_prediction[kept], bins.fraction[kept], color=colour_of(model), ls=dash_of(model), lw=1.1,
                label=label_of(model)
            )  # fmt: skip
            axis.scatter(bins.mean_prediction[kept], bins.fraction[kept], s=bins.count[kept] / 4, alpha=0.6, lw=0,
                         color=colour_of(model))  # fmt: skip
        axis.set(xlabel="mean prediction in bin", title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes[0].set_ylabel(f"fraction of lenses in bin\n(of at least {least} images; area: images)")
    axes[1].legend(loc="lower right", handlelength=3.5)
    return figure


def false_positive_rates(table: pd.DataFrame) -> Figure:
    """False-positive rate of LRGs and of each kind of contaminant at p = 0.5, with Clopper-Pearson intervals."""
    rows = table[table.threshold == "p = 0.5"]
    kinds, found = list(rows.kind.unique()), list(rows.model.unique())
    if set(kinds) - {"lrg", "contaminant"}:
        kinds.remove("contaminant")  # all of them together, where they are known apart
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.2))
    for j, model in enumerate(found):
        mine = rows[rows.model == model].set_index("kind").loc[kinds]
        x = np.arange(len(kinds)) + 0.8 * ((j + 0.5) / len(found) - 0.5)
        label = f"{label_of(model)}, run {mine.run.iloc[0]}"
        axis.errorbar(x, mine.rate, [mine.rate - mine.low, mine.high - mine.rate], fmt="o", ms=4, lw=1,
                      color=colour_of(model), mec="black", mew=0.4, label=label)  # fmt: skip
    n = rows[rows.model == found[0]].set_index("kind").loc[kinds, "n"]
    axis.set_xticks(range(len(kinds)), [f"{kind}\nn = {n[kind]}" for kind in kinds])
    axis.set(ylabel="false-positive rate at p = 0.5", ylim=(-0.02, 1.02))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
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
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.6))
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
        axis.plot(recall[seen], found[seen], color=colour_of(model), lw=1.3, ls=dash_of(model), label=label_of(model))
    axis.set(xlabel="recall", ylabel="false positives inspected for each lens found", yscale="log", xlim=(0, 1.01),
             title=f"1 lens in {1 / prior:,.0f}; {share:.0%} of the others contaminants as here")  # fmt: skip
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
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
        len(histories), 4, figsize=(style.PAGE, 1.35 * len(histories) + 0.4), squeeze=False, sharex=True
    )
    for line, (loss, runs) in zip(axes, histories.items(), strict=True):
        for axis, (column, label) in zip(line, shown.items(), strict=True):
            for history in runs:
                axis.plot(history["chunk"] + 1, history[column], color="0.55", lw=0.4)
            common = min(map(len, runs))
            mean = np.mean([history[column][:common] for history in runs], axis=0)
            axis.plot(runs[0]["chunk"][:common] + 1, mean, color=style.BLUE, lw=1.2)
            axis.set_title(f"{loss}: {label}", fontsize=style.TEXT)
    for axis in axes[-1]:
        axis.set_xlabel("chunk")
    return figure
