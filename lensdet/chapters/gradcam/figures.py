"""The figures of notebook 03: panels, contact sheets of errors, and what is measured."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters import style
from lensdet.chapters.gradcam import measurements
from lensdet.evaluation import metrics
from lensdet.network import gradcam

GAP = 3  # white pixels between the parts of a panel
HEAT = plt.get_cmap("cividis")
TINT = np.array(matplotlib.colors.to_rgb(style.ORANGE))  # of what is hot
NAMES = {"TP": "true positive", "TN": "true negative", "FP": "false positive", "FN": "false negative"}
PLACES = ("most confident", "upper quartile in confidence", "median in confidence", "lower quartile in confidence",
          "least confident")  # fmt: skip


def _grey(image):
    return np.repeat(np.clip(image, 0, 1), 3, -1)


def _tinted(image, heat):
    """A stamp (n, n, 1) in grey, orange where a map (u, v) is hot: RGB."""
    part = 0.6 * gradcam.upsample(heat.astype(np.float32), image.shape[-2])[..., None]
    return (1 - part) * _grey(image) + part * TINT


def _beside(parts):
    """Images (n, n, 3) side by side."""
    white = np.ones((len(parts[0]), GAP, 3))
    return np.concatenate([piece for part in parts for piece in (part, white)][:-1], 1)


def _show(axis, canvas):
    axis.imshow(canvas, interpolation="none", origin="lower")
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    style.scale_bar(axis)


def _strip(axis, image, heat, words):
    """A stamp, and tinted by the map of each layer beside it; the words on the left."""
    _show(axis, _beside([_grey(image), *(_tinted(image, heat[layer]) for layer in gradcam.LAYERS)]))
    axis.set_xticks([])
    axis.set_yticks([image.shape[0] / 2], [words])


class Cases(NamedTuple):
    """What one run says of the test set, for panels of single images."""

    model: str
    images: np.ndarray  # (N, 101, 101, 1)
    heat: dict[str, np.ndarray]  # by layer, (N, u, u)
    titles: list[str]  # N
    by_class: dict[str, list[int]]  # of each of TP, TN, FP, FN five, by `PLACES`
    named: dict[str, measurements.Named]  # from `measurements.named_cases`


def figure_5_3(cases: Cases) -> Figure:
    """Figure 5.3: Grad-CAM of a true positive, the median in confidence."""
    return _ranked(cases, "TP", 2)


def figure_5_4(cases: Cases) -> Figure:
    """Figure 5.4: Grad-CAM of a true negative whose heat lies at the borders."""
    return _named(cases, measurements.BORDER)


def figure_5_5(cases: Cases) -> Figure:
    """Figure 5.5: Grad-CAM of a true negative whose maps are empty, or how often maps are."""
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
    return _ranked(cases, "TP", 0)


def figure_7_8(cases: Cases) -> Figure:
    """Figure 7.8: Grad-CAM of a true positive, median in confidence."""
    return _ranked(cases, "TP", 2)


def figure_7_9(cases: Cases) -> Figure:
    """Figure 7.9: Grad-CAM of a true positive, least confident."""
    return _ranked(cases, "TP", 4)


def figure_7_10(cases: Cases) -> Figure:
    """Figure 7.10: Grad-CAM of a true negative, most confident."""
    return _ranked(cases, "TN", 0)


def figure_7_11(cases: Cases) -> Figure:
    """Figure 7.11: Grad-CAM of a true negative, upper quartile in confidence."""
    return _ranked(cases, "TN", 1)


def figure_7_12(cases: Cases) -> Figure:
    """Figure 7.12: Grad-CAM of a true negative, median in confidence."""
    return _ranked(cases, "TN", 2)


def figure_7_13(cases: Cases) -> Figure:
    """Figure 7.13: Grad-CAM of a true negative, lower quartile in confidence."""
    return _ranked(cases, "TN", 3)


def figure_7_14(cases: Cases) -> Figure:
    """Figure 7.14: Grad-CAM of a true negative, least confident."""
    return _ranked(cases, "TN", 4)


def figure_7_15(cases: Cases) -> Figure:
    """Figure 7.15: Grad-CAM of a false positive, most confident."""
    return _ranked(cases, "FP", 0)


def figure_7_16(cases: Cases) -> Figure:
    """Figure 7.16: Grad-CAM of a false positive, median in confidence."""
    return _ranked(cases, "FP", 2)


def figure_7_17(cases: Cases) -> Figure:
    """Figure 7.17: Grad-CAM of a false positive, least confident."""
    return _ranked(cases, "FP", 4)


def figure_7_18(cases: Cases) -> Figure:
    """Figure 7.18: Grad-CAM of a false negative, most confident."""
    return _ranked(cases, "FN", 0)


def figure_7_19(cases: Cases) -> Figure:
    """Figure 7.19: Grad-CAM of a false negative, upper quartile in confidence."""
    return _ranked(cases, "FN", 1)


def figure_7_20(cases: Cases) -> Figure:
    """Figure 7.20: Grad-CAM of a false negative, lower quartile in confidence."""
    return _ranked(cases, "FN", 3)


def figure_7_21(cases: Cases) -> Figure:
    """Figure 7.21: Grad-CAM of a false negative, least confident."""
    return _ranked(cases, "FN", 4)


# By what the thesis shows them of: cross-entropy's true positives and negatives, a soft loss' errors.
CHAPTER = (figure_5_3, figure_5_4, figure_5_5, figure_5_6, figure_5_7, figure_5_8)
RIGHT = (figure_7_7, figure_7_8, figure_7_9, figure_7_10, figure_7_11, figure_7_12, figure_7_13, figure_7_14)
WRONG = (figure_7_15, figure_7_16, figure_7_17, figure_7_18, figure_7_19, figure_7_20, figure_7_21)


def _ranked(cases, name, k):
    i = cases.by_class[name][k] if cases.by_class[name] else None
    return _case(cases, i, f"{NAMES[name]}, {PLACES[k]}", "")


def _named(cases, words):
    i, often, blank = cases.named[words]
    return _case(cases, i, words, f"\n{often}", blank)


def _case(cases, i, words, often, blank=False):
    """One case: its maps at add_4 to add_7, the stamp and the stamp tinted by each below; or why there is none."""
    words = words[0].upper() + words[1:]
    if i is None:
        return style.empty(f"{words}: none in the test set ({cases.model}).{often}")
    image = cases.images[i]
    heat = [(0 if blank else 1) * cases.heat[layer][i].astype(np.float32) for layer in gradcam.LAYERS]
    maps = [HEAT(gradcam.upsample(h, image.shape[-2]))[..., :3] for h in heat]
    rows = [[_grey(image), *(_tinted(image, h) for h in heat)], [np.ones_like(maps[0]), *maps]]
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.2))
    rows = [_beside(row) for row in rows]
    _show(axis, np.concatenate([rows[0], np.ones((GAP, *rows[0].shape[1:])), rows[1]]))
    size = image.shape[0] + GAP
    axis.set_xticks((np.arange(5) + 0.5) * size, ["stamp", *gradcam.LAYERS])
    axis.set_yticks([0.5 * size, 1.5 * size], ["stamp,\ntinted", "Grad-CAM"])
    axis.text(1, 1.5 * size, style.wrapped(cases.titles[i].replace(": ", ":\n"), 1.2), fontsize=style.TEXT, va="center")
    axis.set_title(style.wrapped(words + often, 5.5))
    shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), HEAT)
    figure.colorbar(shades, ax=axis, label="heat, of its maximum", shrink=0.8, pad=0.01)
    return figure


def sheet(images: NDArray, heat: dict[str, NDArray], chosen: dict[str, list[int]], titles: Sequence[str]) -> Figure:
    """Three cases of each of TP, TN, FP and FN, a row a case: the stamp, and tinted by its maps at add_4 to add_7.

    Parameters
    ----------
    images : array (N, 101, 101, 1)
    heat : dict
        Layer -> array (N, u, u).
    chosen : dict
        From `measurements.cases`; a class without members says so.
    titles : sequence of str, N
    """
    figure, axes = plt.subplots(12, 1, figsize=(style.PAGE, 14.6), subplot_kw={"anchor": "E"})
    cases = [(name, PLACES[k], i) for name in NAMES for k, i in zip((0, 2, 4), chosen[name] or [None] * 3, strict=True)]
    for axis, (name, place, i) in zip(axes, cases, strict=True):
        if i is None:
            axis.axis("off")
            axis.text(0.5, 0.5, f"no {NAMES[name]} in the test set", ha="center", va="center")
        else:
            words = style.wrapped(f"{NAMES[name]} ({name}),\n{place}\n{titles[i]}", 1.35)
            _strip(axis, images[i], {layer: maps[i] for layer, maps in heat.items()}, words)
    axes[0].set_xticks((np.arange(5) + 0.5) * (images.shape[1] + GAP), ["stamp", *gradcam.LAYERS])
    axes[0].tick_params(labeltop=True, labelbottom=False)
    return figure


def errors(
    images: NDArray,
    heat: dict[str, NDArray],
    chosen: NDArray,
    titles: Sequence[str],
    layer: str = measurements.LAYER,
    columns: int = 6,
) -> Figure:
    """A contact sheet of errors: each the stamp and the stamp tinted by its map at a layer, side by side.

    Parameters
    ----------
    images : array (N, 101, 101, 1)
    heat : dict
    chosen : int array
        Which to show, in that order.
    titles : sequence of str, N
    """
    if not len(chosen):
        return style.empty("No errors of this kind in the test set.")
    side, rows = images.shape[1], -(-len(chosen) // columns)
    tile = np.array([side + 28, 2 * side + 4 * GAP])  # with room for the title above
    canvas = np.ones((*(tile * (rows, columns)), 3))
    scale = style.PAGE / (columns * tile[1])  # inches a pixel
    figure, axis = plt.subplots(figsize=(style.PAGE, rows * tile[0] * scale + 0.6))
    for k, i in enumerate(chosen):
        y, x = tile * ((rows - 1, 0) + np.array([-1, 1]) * divmod(k, columns))
        canvas[y : y + side, x : x + 2 * side + GAP] = _beside([_grey(images[i]), _tinted(images[i], heat[layer][i])])
        axis.text(x + side, y + side + 3, titles[i], fontsize=style.TEXT, ha="center", va="bottom")
    _show(axis, np.clip(canvas, 0, 1))
    axis.set(xticks=[], yticks=[])
    return figure


def empty_share(found: dict[str, pd.DataFrame]) -> Figure:
    """Share of empty maps by class and layer, a panel a model and target; hatched: for want of a gradient.

    Parameters
    ----------
    found : dict
        Model -> data frame from `measurements.empty_maps`.
    """
    words = {"logit": "logit", "probability": "probability", "published": "as published:\nnegatives not stretched"}
    figure, axes = plt.subplots(len(found), 3, figsize=(style.PAGE, 2.1 * len(found) + 0.5), sharey=True, squeeze=False)
    for row, (model, table) in zip(axes, found.items(), strict=True):
        for axis, (target, label) in zip(row, words.items(), strict=True):
            for i, layer in enumerate(gradcam.LAYERS):
                part = table[(table["layer"] == layer) & (table["target"] == target)]
                x, share = np.arange(len(part)) + 0.19 * (i - 1.5), part["share"].fillna(0)
                axis.bar(x, share, 0.18, color=style.PALETTE[i], label=layer)
                axis.bar(x, part[gradcam.NO_GRADIENT] / part["images"].clip(1), 0.18, color="none", hatch="//////",
                         edgecolor="white", linewidth=0)  # fmt: skip
                error = np.nan_to_num([share - part["low"], part["high"] - share]).clip(0)
                axis.errorbar(x, share, error, fmt="none", ecolor="0.25", elinewidth=0.8)
            ticks = [f"{name}\n{n}" for name, n in zip(part["class"], part["images"], strict=True)]
            axis.set_xticks(range(len(part)), ticks)
            axis.set_title(f"{model}; {label}" if target != "published" else f"{model};\n{label}")
            axis.set_ylim(0, 1.05)
        row[0].set_ylabel("share of empty maps")
    handles, labels = axes[0][0].get_legend_handles_labels()
    handles.append(matplotlib.patches.Patch(facecolor=style.GREY, edgecolor="white", hatch="//////", lw=0))
    figure.legend(handles, [*labels, "of these: the gradient is zero"], loc="outside upper center", ncols=5)
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
    figure, axes = plt.subplots(1, len(columns), figsize=(style.PAGE, 2.8), sharey=True, squeeze=False)
    for axis, (column, label) in zip(axes[0], columns.items(), strict=True):
        for colour, marker, (model, maps) in zip(style.PALETTE, style.MARKERS, found.items(), strict=False):
            gain = (maps[f"inside/{layer}"] - maps[f"mean/{layer}"]).astype(float)
            used = np.isfinite(gain) & truth[column].notna().to_numpy()
            if used.sum() < 2 * bins:
                continue
            x, y = truth[column].to_numpy()[used], gain[used]
            parts = np.array_split(np.argsort(x, kind="stable"), bins)
            error = [1.96 * y[i].std(ddof=1) / np.sqrt(len(i)) for i in parts]
            centres = [x[i].mean() for i in parts], [y[i].mean() for i in parts]
            axis.errorbar(*centres, error, fmt=f"{marker}-", ms=4, color=colour, label=f"{model}, n = {used.sum()}")
        axis.axhline(0, color="0.4", lw=0.8)
        axis.set_xlabel(label)
    axes[0][0].set_ylabel(f"heat inside the arc at {layer},\nless the mean map's")
    axes[0][0].legend()
    return figure


def left_out(found: dict[str, pd.DataFrame]) -> Figure:
    """Mean change of the logit without the arc or the neighbours, 95 % intervals, and decisions changed.

    Parameters
    ----------
    found : dict
        Model -> data frame from `measurements.interventions`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE, 3.2), sharey=True)
    for k, (colour, (model, table)) in enumerate(zip(style.PALETTE, found.items(), strict=False)):
        table = table.dropna()
        y = table.index.to_numpy() + 0.18 * (k - (len(found) - 1) / 2)
        error = [table["change"] - table["change low"], table["change high"] - table["change"]]
        left.errorbar(table["change"], y, xerr=error, fmt=style.MARKERS[k], ms=5, color=colour, label=model)
        right.plot(table["decisions changed"], y, style.MARKERS[k], ms=5, color=colour)
    any_table = next(iter(found.values()))
    words = [f"{r['left out']},\n{r.of},\nn = {r.n}" for _, r in any_table.iterrows()]
    left.set_yticks(range(len(words)), words)
    left.invert_yaxis()
    left.axvline(0, color="0.4", lw=0.8)
    left.set_xlabel("mean change of the logit when left out")
    right.set_xlabel("share of decisions changed")
    right.set_xlim(left=0)
    left.legend()
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
