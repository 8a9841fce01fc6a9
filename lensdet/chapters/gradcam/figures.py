"""The figures of notebook 03: panels, contact sheets of errors, and what is measured."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters.gradcam import measurements
from lensdet.chapters.style import empty
from lensdet.evaluation import metrics
from lensdet.network import gradcam

GAP = 3  # white pixels between the parts of a panel


def _panel(image, heat):
    """Four rows (layers) of three columns (input, map, both): RGB, origin below."""
    rows = []
    for layer in gradcam.LAYERS:
        parts = [part[::-1] for part in gradcam.overlay(image, heat[layer].astype(np.float32))]
        white = np.ones((parts[0].shape[0], GAP, 3))
        rows.append(np.concatenate([parts[0], white, parts[1], white, parts[2]], 1))
        rows.append(np.ones((GAP, rows[0].shape[1], 3)))
    return np.concatenate(rows[:-1])


def _draw(axis, image, heat, title, letters=True):
    shown = _panel(image, heat)
    axis.imshow(shown, interpolation="none")
    size = image.shape[0] + GAP
    axis.set_yticks([(i + 0.5) * size for i in range(4)], gradcam.LAYERS, fontsize=7)
    words = ("(a) input", "(b) Grad-CAM", "(c) both") if letters else ("a", "b", "c")
    axis.set_xticks([(i + 0.5) * size for i in range(3)], words, fontsize=7)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=8)


class Cases(NamedTuple):
    """What one run says of the test set, for panels of single images."""

    model: str
    images: np.ndarray  # (N, 101, 101, 1)
    heat: dict[str, np.ndarray]  # by layer, (N, u, u)
    titles: list[str]  # N
    by_class: dict[str, list[int]]  # of each of TP, TN, FP, FN five, the most to the least confident
    named: dict[str, int | None]  # from `measurements.named_cases`


def figure_5_3(cases: Cases) -> Figure:
    """Figure 5.3: Grad-CAM of a true positive, the median in confidence."""
    return _case(cases, _ranked(cases, "TP", 2), "True positive, median")


def figure_5_4(cases: Cases) -> Figure:
    """Figure 5.4: Grad-CAM of a true negative, the least confident."""
    return _case(cases, _ranked(cases, "TN", 4), "True negative, least confident")


def figure_5_5(cases: Cases) -> Figure:
    """Figure 5.5: Grad-CAM of a true negative whose maps are empty."""
    return _named(cases, measurements.EMPTY)


def figure_5_6(cases: Cases) -> Figure:
    """Figure 5.6: Grad-CAM of a spiral that is taken for a lens."""
    return _named(cases, measurements.SPIRAL)


def figure_5_7(cases: Cases) -> Figure:
    """Figure 5.7: Grad-CAM of a faint arc that is missed."""
    return _named(cases, measurements.FAINT)


def figure_5_8(cases: Cases) -> Figure:
    """Figure 5.8: Grad-CAM of a lens among neighbours that is missed."""
    return _named(cases, measurements.CROWDED)


def figure_7_7(cases: Cases) -> Figure:
    """Figure 7.7: Grad-CAM of a true positive, most confident."""
    return _down(cases, "TP", 0)


def figure_7_8(cases: Cases) -> Figure:
    """Figure 7.8: Grad-CAM of a true positive, median in confidence."""
    return _down(cases, "TP", 2)


def figure_7_9(cases: Cases) -> Figure:
    """Figure 7.9: Grad-CAM of a true positive, least confident."""
    return _down(cases, "TP", 4)


def figure_7_10(cases: Cases) -> Figure:
    """Figure 7.10: Grad-CAM of a true negative, most confident."""
    return _down(cases, "TN", 0)


def figure_7_11(cases: Cases) -> Figure:
    """Figure 7.11: Grad-CAM of a true negative, 25 % down in confidence."""
    return _down(cases, "TN", 1)


def figure_7_12(cases: Cases) -> Figure:
    """Figure 7.12: Grad-CAM of a true negative, median in confidence."""
    return _down(cases, "TN", 2)


def figure_7_13(cases: Cases) -> Figure:
    """Figure 7.13: Grad-CAM of a true negative, 75 % down in confidence."""
    return _down(cases, "TN", 3)


def figure_7_14(cases: Cases) -> Figure:
    """Figure 7.14: Grad-CAM of a true negative, least confident."""
    return _down(cases, "TN", 4)


def figure_7_15(cases: Cases) -> Figure:
    """Figure 7.15: Grad-CAM of a false positive, most confident."""
    return _down(cases, "FP", 0)


def figure_7_16(cases: Cases) -> Figure:
    """Figure 7.16: Grad-CAM of a false positive, median in confidence."""
    return _down(cases, "FP", 2)


def figure_7_17(cases: Cases) -> Figure:
    """Figure 7.17: Grad-CAM of a false positive, least confident."""
    return _down(cases, "FP", 4)


def figure_7_18(cases: Cases) -> Figure:
    """Figure 7.18: Grad-CAM of a false negative, most confident."""
    return _down(cases, "FN", 0)


def figure_7_19(cases: Cases) -> Figure:
    """Figure 7.19: Grad-CAM of a false negative, 25 % down in confidence."""
    return _down(cases, "FN", 1)


def figure_7_20(cases: Cases) -> Figure:
    """Figure 7.20: Grad-CAM of a false negative, 75 % down in confidence."""
    return _down(cases, "FN", 3)


def figure_7_21(cases: Cases) -> Figure:
    """Figure 7.21: Grad-CAM of a false negative, least confident."""
    return _down(cases, "FN", 4)


# By what the thesis shows them of: cross-entropy's true positives and negatives, a soft loss' errors.
CHAPTER = (figure_5_3, figure_5_4, figure_5_5, figure_5_6, figure_5_7, figure_5_8)
RIGHT = (figure_7_7, figure_7_8, figure_7_9, figure_7_10, figure_7_11, figure_7_12, figure_7_13, figure_7_14)
WRONG = (figure_7_15, figure_7_16, figure_7_17, figure_7_18, figure_7_19, figure_7_20, figure_7_21)


def _down(cases, name, k):
    return _case(cases, _ranked(cases, name, k), f"{name}, {25 * k} % down in confidence")


def _ranked(cases, name, k):
    return cases.by_class[name][k] if cases.by_class[name] else None


def _named(cases, words):
    return _case(cases, cases.named[words], words[0].upper() + words[1:])


def _case(cases, i, words):
    """One case: rows add_4 to add_7; input, nearest-neighbour map, both; or the reason why there is none."""
    if i is None:
        return empty(f"{words}: none in the test set ({cases.model}).")
    figure, axis = plt.subplots(figsize=(5.6, 6.4))
    heat = {layer: maps[i] for layer, maps in cases.heat.items()}
    _draw(axis, cases.images[i], heat, f"{words}\n{cases.titles[i]}")
    return figure


def sheet(images: NDArray, heat: dict[str, NDArray], chosen: dict[str, list[int]], titles: Sequence[str]) -> Figure:
    """Three cases of each of TP, TN, FP and FN, a row each, as `_draw` has them; a class without members says so.

    Parameters
    ----------
    images : array (N, 101, 101, 1)
    heat : dict
        Layer -> array (N, u, u).
    chosen : dict
        From `measurements.cases`.
    titles : sequence of str, N
    """
    figure, axes = plt.subplots(4, 3, figsize=(9.0, 14.6))
    for row, name in zip(axes, measurements.CLASSES, strict=True):
        for axis, i in zip(row, chosen[name] or [None] * 3, strict=True):
            if i is None:
                axis.axis("off")
                axis.text(0.5, 0.5, f"no {name} in the test set", ha="center", va="center")
            else:
                _draw(axis, images[i], {layer: maps[i] for layer, maps in heat.items()}, titles[i], letters=False)
    for axis, words in zip(axes[0], ("most confident", "median", "least confident"), strict=True):
        axis.set_title(f"{words}\n{axis.get_title()}", fontsize=8)
    return figure


def errors(
    images: NDArray,
    heat: dict[str, NDArray],
    chosen: NDArray,
    titles: Sequence[str],
    layer: str = measurements.LAYER,
    columns: int = 8,
) -> Figure:
    """A contact sheet of errors: each the input and the overlay of its map at a layer, side by side.

    Parameters
    ----------
    images : array (N, 101, 101, 1)
    heat : dict
    chosen : int array
        Which to show, in that order.
    titles : sequence of str, N
    """
    if not len(chosen):
        return empty("No errors of this kind in the test set.")
    side, rows = images.shape[1], -(-len(chosen) // columns)
    tile = np.array([side + 22, 2 * side + 4 * GAP])  # with room for the title above
    canvas = np.ones((*(tile * (rows, columns)), 3))
    figure, axis = plt.subplots(figsize=(1.42 * columns, 0.84 * rows + 0.6))
    for k, i in enumerate(chosen):
        y, x = tile * divmod(k, columns)
        parts = np.repeat(images[i], 3, -1), gradcam.overlay(images[i], heat[layer][i].astype(np.float32))[2]
        for part, left in zip(parts, (x, x + side + GAP), strict=True):
            canvas[y + 22 : y + 22 + side, left : left + side] = part[::-1]
        axis.text(x + side, y + 19, titles[i], fontsize=5.5, ha="center", va="bottom")
    axis.imshow(np.clip(canvas, 0, 1), interpolation="none")
    axis.axis("off")
    return figure


def empty_share(found: dict[str, pd.DataFrame]) -> Figure:
    """Share of empty maps by class and layer, a panel a model and target; hatched: for want of a gradient.

    Parameters
    ----------
    found : dict
        Model -> data frame from `measurements.empty_maps`.
    """
    words = {"logit": "logit", "probability": "probability", "published": "as published:\nnegatives not stretched"}
    figure, axes = plt.subplots(len(found), 3, figsize=(8.4, 2.3 * len(found) + 0.4), sharey=True, squeeze=False)
    palette = sns.color_palette("colorblind")
    for row, (model, table) in zip(axes, found.items(), strict=True):
        for axis, (target, label) in zip(row, words.items(), strict=True):
            for i, layer in enumerate(gradcam.LAYERS):
                part = table[(table["layer"] == layer) & (table["target"] == target)]
                x, share = np.arange(len(part)) + 0.19 * (i - 1.5), part["share"].fillna(0)
                axis.bar(x, share, 0.18, color=palette[i], label=layer)
                axis.bar(x, part[gradcam.NO_GRADIENT] / part["images"].clip(1), 0.18, color="none", hatch="////",
                         edgecolor="k", linewidth=0)  # fmt: skip
                error = np.nan_to_num([share - part["low"], part["high"] - share]).clip(0)
                axis.errorbar(x, share, error, fmt="none", ecolor="0.25", elinewidth=0.8)
            ticks = [f"{name}\n{n}" for name, n in zip(part["class"], part["images"], strict=True)]
            axis.set_xticks(range(len(part)), ticks, fontsize=8)
            axis.set_title(f"{model}; {label}" if target != "published" else f"{model};\n{label}", fontsize=8)
            axis.set_ylim(0, 1.05)
        row[0].set_ylabel("share of empty maps")
    axes[0][0].legend(fontsize=7)
    return figure


def heat_in_arcs(
    found: dict[str, dict[str, NDArray]], truth: pd.DataFrame, layer: str = measurements.LAYER, bins: int = 6
) -> Figure:
    """Share of heat inside the arc against alpha and Einstein radius, less that of the mean map; means with 95 %.

    Parameters
    ----------
    found : dict
        Model -> what `measurements.measure` found.
    truth : pandas.DataFrame
        Of the test set.
    """
    columns = {"alpha": "alpha (source peak over lens peak)", "einstein_radius": "Einstein radius [arcsec]"}
    columns = {c: label for c, label in columns.items() if c in truth and truth[c].notna().any()}
    figure, axes = plt.subplots(1, len(columns), figsize=(7.4, 2.9), sharey=True, squeeze=False)
    palette = sns.color_palette("colorblind")
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        for colour, (model, maps) in zip(palette, found.items(), strict=False):
            gain = (maps[f"inside/{layer}"] - maps[f"mean/{layer}"]).astype(float)
            used = np.isfinite(gain) & truth[column].notna().to_numpy()
            if used.sum() < 2 * bins:
                continue
            x, y = truth[column].to_numpy()[used], gain[used]
            parts = np.array_split(np.argsort(x, kind="stable"), bins)
            error = [1.96 * y[i].std(ddof=1) / np.sqrt(len(i)) for i in parts]
            centres = [x[i].mean() for i in parts], [y[i].mean() for i in parts]
            axis.errorbar(*centres, error, fmt="o-", ms=4, color=colour, label=f"{model}, n = {used.sum()}")
        axis.axhline(0, color="0.4", lw=0.8)
        axis.set_xlabel(label)
    axes[0][0].set_ylabel(f"heat inside the arc at {layer},\nless the mean map's")
    axes[0][0].legend(fontsize=7)
    return figure


def left_out(found: dict[str, pd.DataFrame]) -> Figure:
    """Mean change of the logit without the arc or the neighbours, 95 % intervals, and decisions changed.

    Parameters
    ----------
    found : dict
        Model -> data frame from `measurements.interventions`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), sharey=True)
    palette = sns.color_palette("colorblind")
    for k, (colour, (model, table)) in enumerate(zip(palette, found.items(), strict=False)):
        table = table.dropna()
        y = table.index.to_numpy() + 0.18 * (k - (len(found) - 1) / 2)
        error = [table["change"] - table["change low"], table["change high"] - table["change"]]
        left.errorbar(table["change"], y, xerr=error, fmt="o", color=colour, label=model)
        right.plot(table["decisions changed"], y, "o", color=colour)
    any_table = next(iter(found.values()))
    words = [f"{r['left out']},\n{r.of},\nn = {r.n}" for _, r in any_table.iterrows()]
    left.set_yticks(range(len(words)), words, fontsize=8)
    left.invert_yaxis()
    left.axvline(0, color="0.4", lw=0.8)
    left.set_xlabel("mean change of the logit when left out")
    right.set_xlabel("share of decisions changed")
    right.set_xlim(left=0)
    left.legend(fontsize=7)
    return figure


def title(i: int, truth: pd.DataFrame, logits: NDArray, model: str) -> str:
    """Prediction, label and model of an image, as the thesis' titles have them.

    Parameters
    ----------
    i : int
        Its place in the test set.
    truth : pandas.DataFrame, N rows
    logits : array (N,)
    model : str
    """
    row = truth.iloc[i]
    kind = "mock lens" if row["label"] else row.get("kind", row["host"])
    words = f"{'positive' if row['label'] else 'negative'} ({kind})"
    return f"{model}: p = {metrics.probability(logits[i]):.3f}\n{words}"
