"""Ink: one function a figure, arrays in, matplotlib Figure out; and where figures and tables are kept."""

import hashlib
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from lensdet import metrics, results, thesis
from lensdet.parameters import resolve

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}
LABELS = {
    "Binary Cross Entropy": "binary cross-entropy",
    "F_beta metric": r"$F_\beta$ metric",
    "Soft F_beta metric": r"soft $F_\beta$ metric",
    "F_beta Soft Loss": r"$F_\beta$ soft loss",
    "F_1 Soft loss": r"$F_1$ soft loss",
    "F_1 Double Soft loss": r"$F_1$ double soft loss",
}


def folder(parameters):
    """Where the figures of these parameters go: ``figures/<profile>``, or beside it where they are not the profile's.

    ``papermill -f params/fbeta.yaml`` draws one experiment: its figures go to ``figures/quick-fbeta`` and leave those
    of the whole profile alone.  ``LENSDET_FIGURES`` moves them all.
    """
    plain = resolve({"profile": parameters.profile})
    ignored = {"workers", "on_bad", "real_stamps"}
    changed = {k: v for k, v in parameters.model_dump(mode="json").items() if k not in ignored}
    changed = {k: v for k, v in changed.items() if v != plain.model_dump(mode="json")[k]}
    parts = [parameters.profile, *changed.pop("experiments", [])]
    if changed:
        parts.append(hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8])
    return Path(os.environ.get("LENSDET_FIGURES", results.root() / "figures")) / "-".join(parts)


def save(figure, name, parameters):
    """Write a figure as PNG and PDF into `folder`, without dates: the same figure gives the same bytes."""
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None, "Producer": None})):
        with results.atomic(folder(parameters) / f"{name}{suffix}") as beside:
            figure.savefig(beside, dpi=150, metadata=metadata, format=suffix[1:])


def save_table(table, name, parameters, readable=None):
    """Write a table as CSV (all digits), Markdown and LaTeX (booktabs); the last two of ``readable`` where given."""
    shown = table if readable is None else readable
    index = shown.index.name is not None
    results.write_csv(folder(parameters) / f"{name}.csv", table)
    for suffix, text in ((".md", shown.to_markdown(index=index)), (".tex", shown.to_latex(index=index, escape=True))):
        with results.atomic(folder(parameters) / f"{name}{suffix}") as beside:
            beside.write_text(text + "\n")


def face(figure, parameters, runs=None):
    """State on a figure what made it: data, profile, runs, and that nothing has converged where nothing has."""
    data = "simulated survey" if parameters.data is None else f"stamps of {parameters.data.name}"
    words = [data, f"profile {parameters.profile}", f"protocol {parameters.protocol}"]
    if runs is not None:
        words.append(f"{runs} run" + "s" * (runs != 1))
        words.append(f"{parameters.chunks} chunks of {parameters.chunk_size}, width {parameters.width}")
        if parameters.chunks * parameters.chunk_size < 800 * 4096:  # less than `lite`
            words.append("NOT CONVERGED")
    figure.supxlabel(" · ".join(words), fontsize=7, color="0.35")


def stamps(images, titles=None, columns=6, size=1.25, vmin=0.0, vmax=1.0):
    """A contact sheet of stamps (n, 101, 101), grey, origin below, 20 arcsec a side."""
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * (size + 0.2 * (titles is not None)) + 0.3), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(image, cmap="gray", origin="lower", vmin=vmin, vmax=vmax, interpolation="none")
        if titles is not None:
            axis.set_title(titles[i], fontsize=7, pad=2)
    return figure


def mock_lens(lrg, source, mock):
    """Figure 4.1: an LRG, a lensed source (PSF-convolved), and the mock lens they make; (101, 101) each."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
    titles = ("luminous red galaxy", "lensed source", "mock lens (square root)")
    for axis, image, title in zip(axes, (lrg, source, mock), titles, strict=True):
        shown = axis.imshow(
            image, cmap="gray", origin="lower", vmin=0, vmax=1, interpolation="none", extent=(-10.1, 10.1, -10.1, 10.1)
        )
        axis.set(title=title, xlabel="x [arcsec]", ylabel="y [arcsec]" if axis is axes[0] else "")
        axis.grid(False)
    figure.colorbar(shown, ax=axes, label="normalised flux", shrink=0.8)
    return figure


def distributions(catalogues, columns):
    """Histograms of catalogue columns.

    Parameters
    ----------
    catalogues : dict of pandas.DataFrame
        By the name in the legend.
    columns : dict of str
        Axis label, with unit, by column name.
    """
    rows = -(-len(columns) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(8.2, 1.9 * rows + 0.4), squeeze=False)
    palette = sns.color_palette("colorblind")
    for axis, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for colour, (name, table) in zip(palette, catalogues.items(), strict=False):
            if column in table:
                axis.hist(table[column].dropna(), bins=30, histtype="step", density=True, color=colour, label=name)
        axis.set_xlabel(label, fontsize=8)
        axis.set_yticks([])
    for axis in axes.flat[len(columns) :]:
        axis.axis("off")
    axes.flat[0].set_ylabel("density")
    if len(catalogues) > 1:
        axes.flat[1].legend(fontsize=7, loc="upper right")
    return figure


def f_beta_curves(rows, beta):
    """Figure 5.1: F_beta with a band of one seed spread, precision (dotted) and recall (dashed) against the threshold.

    Parameters
    ----------
    rows : dict
        Labels (N,) and logits (R, N) by row of Table 5.1.
    beta : float
    """
    figure, axis = plt.subplots(figsize=(8, 5))
    for row, (labels, logits) in rows.items():
        f, precision, recall = metrics.f_beta_curve(labels, metrics.probability(logits), beta)
        colour, t = thesis.COLOURS[row], metrics.THRESHOLDS
        axis.plot(t, f.mean(0), color=colour, label=LABELS[row], lw=1.6)
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


def histograms(rows):
    """Figure 5.2: predictions on the test set, lenses and negatives stacked.

    Parameters
    ----------
    rows : dict
        Labels (N,), logits (N,) and the number of the run, by row of Table 5.1.
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
        axis.set_title(f"{LABELS[row]}, run {run}\n{beyond:.0%} beyond 0.01 or 0.99")
        axis.set(xlabel="prediction", ylabel="images")
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=7)
    return figure


def training_curves(histories):
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


def empty(words):
    """A panel that says why there is nothing to see."""
    figure, axis = plt.subplots(figsize=(6, 1.2))
    axis.axis("off")
    axis.text(0.5, 0.5, words, ha="center", va="center", wrap=True)
    return figure
