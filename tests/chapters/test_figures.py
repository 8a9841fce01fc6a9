"""Every drawing function, as its figure is saved: widths, height of text, nothing covered, contrast of lines."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.text import Text
from PIL import Image
from skimage.color import rgb2lab

from lensdet import parameters, storage
from lensdet.chapters import schematics, style
from lensdet.chapters.candidates import domain_shift, expectation
from lensdet.chapters.candidates import figures as candidates_figures
from lensdet.chapters.comparison import figures as comparison_figures
from lensdet.chapters.data import figures as data_figures
from lensdet.chapters.ensembles import figures as ensemble_figures
from lensdet.chapters.ensembles.summary import SHOWN, ThresholdSteps
from lensdet.chapters.gradcam import figures as gradcam_figures
from lensdet.chapters.gradcam import measurements
from lensdet.chapters.information import detection_model
from lensdet.chapters.information import figures as information_figures
from lensdet.chapters.losses import figures as loss_figures
from lensdet.chapters.maxtree import effect, sweep
from lensdet.chapters.maxtree import figures as maxtree_figures
from lensdet.data.maxtree import PRESETS
from lensdet.experiments import BCE, ENSEMBLES, F_1, F_BETA, NETWORKS
from lensdet.network import gradcam, resnet
from tests.chapters.comparison.test_budgets import stated
from tests.chapters.maxtree.test_segmentation import SOME, made, shares
from tests.chapters.test_style import CONTAMINANT, FALSE_POSITIVES, RELIABILITY, history, images

matplotlib.use("Agg")
RNG = np.random.default_rng(0)
LABELS = np.repeat([1.0, 0.0], 30)
LOGITS = {model: (LABELS, 2 * LABELS - 1 + RNG.normal(size=(3, 60)), 1) for model in NETWORKS}
ONE = {model: (labels, logits[0], 2) for model, (labels, logits, _) in LOGITS.items()}
FOREST = pd.DataFrame({"model": [F_BETA, F_1], "target": 0.7, "difference": [0.02, -0.1], "low": -0.2, "high": 0.1})
STAMPS = images(4)[..., None]
HEAT = {layer: RNG.random((4, side, side)) for layer, side in zip(gradcam.LAYERS, (7, 7, 4, 4), strict=True)}
TITLES = ["Binary Cross Entropy: p = 0.999\nnegative (contaminant)"] * 4
OFTEN = "none of 509 true negatives; by the gradient of the probability 32 of 512 true positives (here)"
CASES = gradcam_figures.Cases(
    "bce", STAMPS, HEAT, TITLES, {"TP": [0, 1, 2, 3, 0], "TN": [], "FP": [1] * 5, "FN": [2] * 5},
    {measurements.BORDER: measurements.Named(0, OFTEN), measurements.EMPTY: measurements.Named(1, OFTEN, empty=True)}
)  # fmt: skip
EMPTY = pd.DataFrame(
    [{"layer": layer, "target": t, "class": c, "images": 512, "share": 0.5, "low": 0.4, "high": 0.6,
      gradcam.NO_GRADIENT: 100} for layer in gradcam.LAYERS for t in measurements.TARGETS for c in measurements.CLASSES]
)  # fmt: skip
TRUTH = pd.DataFrame({"alpha": RNG.random(60), "einstein_radius": 1 + 4 * RNG.random(60)})
INSIDE = {f"{kind}/{measurements.LAYER}": RNG.random(60) for kind in ("inside", "mean")}
LEFT_OUT = pd.DataFrame({"left out": ["arc", "neighbours"], "of": "mock lenses with neighbours", "n": 295,
                         "change": 1.0, "change low": 0.5, "change high": 1.5, "decisions changed": 0.2})  # fmt: skip
FOUND = information_figures.Detections(
    "Binary Cross Entropy, information set", TRUTH.einstein_radius.to_numpy(), TRUTH.alpha.to_numpy(),
    0.15 * RNG.random(60), information_figures.FRACTION["code"], RNG.random(60)
)  # fmt: skip
IMPORTANCE = pd.DataFrame({"feature": list(detection_model.NAMES), "importance": 0.1, "low": 0.05, "high": 0.2})
CELLS = pd.DataFrame(
    [
        {"fraction_low": f, "radius_low": r, "n": 398, "rate": 0.9}
        for f in (0, 0.0025, 0.01)
        for r in np.arange(1, 5, 0.5)
    ]
)
SCORES = {"ensemble": (RNG.normal(-5, 2, 3000), RNG.normal(3, 2, 300)), "bce": (RNG.normal(-4, 2, 3000), np.ones(9))}
GROUPS = {g: RNG.normal(size=20) for g in (*domain_shift.STEPS.values(), *domain_shift.STEPS, domain_shift.CANDIDATES)}
TWO = {"quick\nwidth 16\n66,000 images": stated("agrees"), "lite\nwidth 64\n852,000 images": stated("open")}
PAIRS = {m: (None, LOGITS[m]) for m in NETWORKS} | {"NM_6": (None, LOGITS[BCE])}
WEIGHTS = pd.DataFrame({"ensemble": "NM_6", "member": ENSEMBLES["NM_6"].members, "weight": 0.2, "thesis": 0.13,
                        "raw": 0.3})  # fmt: skip
STEPS = ThresholdSteps(*RNG.random((3, 99)), alone={F_BETA: 0.2}, veto={F_1: 0.8})
MEANS = pd.DataFrame([{"model": m, "measure": s, "mean": 0.9, "test_low": 0.85, "test_high": 0.95}
                      for m in (*NETWORKS, "NM_6", "IDE_3", "oracle of 3") for s in SHOWN])  # fmt: skip
CASCADE = pd.DataFrame(
    [{"thresholds": t, "model": m, "recall": 0.7, "precision": 0.8, "test_low": 0.7, "test_high": 0.9,
      "seen_by_second": 0.4}
     for t in ("of the best F_beta", "of recall 0.5", "of recall 0.7") for m in ("cascade", BCE, "NM_3")]
)  # fmt: skip


def segmented():
    ways = ("none", "text", "code", "area 90, decay 20, tolerance 15")
    return maxtree_figures.figure_5_20({(BCE, how): (None, LOGITS[BCE]) for how in ways}, 0.17)


def arcs():
    table, weights = shares()
    return maxtree_figures.arc_removed(
        effect.by_radius({"text": table, "area 90, decay 20, tolerance 15": table}, weights)
    )


DRAW = {
    "stamps": lambda: style.stamps(images(30), ["a name that is longer than its stamp", *("α 0.14, θ 2.5″",) * 29]),
    "small stamps": lambda: style.stamps(images(9), ["12: 0482.fits\n9.85"] * 9, columns=8),
    "empty": lambda: style.empty("There is nothing to see. " * 8),
    "3.1": lambda: schematics.figure_3_1(resnet.resnet18(64)),
    "3.2": lambda: schematics.figure_3_2(resnet.resnet18(64)),
    "4.3": lambda: schematics.figure_4_3(resnet.resnet18(64)),
    "1.2": lambda: data_figures.figure_1_2(images(3), list(data_figures.CLEAR.values())),
    "4.1": lambda: data_figures.figure_4_1(*images(3)),
    "distributions": lambda: data_figures.distributions(
        {"lrg": history(50), "contaminant": history(40, 1)},
        {"loss": "log10 of peak over noise", "f_beta": "normalised zero level", "soft_f_beta": "bright neighbours"},
    ),
    "5.1": lambda: loss_figures.figure_5_1(LOGITS, 0.17),
    "5.2": lambda: loss_figures.figure_5_2(ONE),
    "7.1": lambda: loss_figures.figure_7_1(ONE),
    "control": lambda: loss_figures.precision_recall(LOGITS, FOREST),
    "control of one": lambda: loss_figures.precision_recall(LOGITS, FOREST[:0]),
    "roc": lambda: loss_figures.roc(LOGITS),
    "effective": lambda: loss_figures.effective(
        pd.DataFrame({"model": [F_BETA, F_1], "predicted": [0.9, 0.5], "effective": [1, 0.6]})
    ),
    "reliability": lambda: loss_figures.reliability(RELIABILITY),
    "false positives": lambda: loss_figures.false_positive_rates(FALSE_POSITIVES),
    "inspected": lambda: loss_figures.inspected(LOGITS, CONTAMINANT, 0.8, 0.001),
    "training": lambda: loss_figures.training_curves({name: [history(5)] for name in ("bce", "f1", "f1_double")}),
    "5.3": lambda: gradcam_figures.figure_5_3(CASES),
    "5.4": lambda: gradcam_figures.figure_5_4(CASES),
    "5.5": lambda: gradcam_figures.figure_5_5(CASES),
    "7.10": lambda: gradcam_figures.figure_7_10(CASES),
    "sheet": lambda: gradcam_figures.sheet(
        STAMPS, HEAT, {"TP": [0, 1, 2], "TN": [], "FP": [1, 1, 1], "FN": [0, 0, 3]}, TITLES
    ),
    "errors": lambda: gradcam_figures.errors(STAMPS, HEAT, np.arange(20) % 4, ["0.999 (edge-on)"] * 4),
    "empty maps": lambda: gradcam_figures.empty_share({"bce": EMPTY, "fbeta": EMPTY}),
    "heat in arcs": lambda: gradcam_figures.heat_in_arcs({"bce": INSIDE, "fbeta": INSIDE}, TRUTH),
    "left out": lambda: gradcam_figures.left_out({"bce": LEFT_OUT, "fbeta": LEFT_OUT}),
    **{kind: lambda draw=draw: draw(FOUND) for kind, draw in information_figures.DRAWN.items()},
    "noise": lambda: information_figures.noise({"negative pixels": 1 + RNG.random(60), "as published": RNG.random(60)}),
    "importances": lambda: information_figures.importances({BCE: IMPORTANCE, F_1: IMPORTANCE}),
    "selection": lambda: information_figures.selection({BCE: CELLS, F_BETA: CELLS, F_1: CELLS}),
    "roc of finders": lambda: candidates_figures.roc(SCORES),
    "expected": lambda: candidates_figures.lenses_found(
        expectation.expected_table({"ensemble": SCORES["ensemble"]}, 50_000)
    ),
    "real pixels": lambda: candidates_figures.logits({"ensemble": GROUPS, "bce": GROUPS, "fbeta": GROUPS}),
    "forest": lambda: comparison_figures.forest(TWO),
    "5.16": lambda: ensemble_figures.figure_5_16(PAIRS, 0.17, WEIGHTS),
    "raw weights": lambda: ensemble_figures.raw_weights({"NM_6": WEIGHTS}, {"NM_6": STEPS}),
    "compared": lambda: ensemble_figures.compared(MEANS, SHOWN),
    "cascade": lambda: ensemble_figures.cascade(CASCADE),
    "5.19": lambda: maxtree_figures.figure_5_19({"mock lens": images(1)[0], "none there": None}, PRESETS["text"]),
    "5.20": segmented,
    "arc removed": arcs,
    "disc": lambda: maxtree_figures.disc({k: effect.disc(made().images, s) for k, s in PRESETS.items()}, PRESETS),
    "sweep": lambda: maxtree_figures.sweep(sweep.sweep(made(), [*SOME[:3], *SOME[3:]]), 2),
}


def contrast(colour):
    """To white (WCAG)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def line_colours(axis):
    """Of the lines, points and error bars of an axis: what of each is darkest, as white points have a dark edge."""
    for line in (line for line in axis.lines if len(line.get_xdata()) and line.get_visible()):
        points = [line.get_markerfacecolor(), line.get_markeredgecolor()] if line.get_marker() != "None" else []
        lines = [line.get_color()] if line.get_linestyle() != "None" else []
        yield from (max(found, key=contrast) for found in (points, lines) if found)
    for several in axis.collections:
        if isinstance(several, LineCollection):
            yield from several.get_colors()


def faults(figure, drawn):
    """What a journal would return: a list of words."""
    renderer, frame = figure.canvas.get_renderer(), figure.bbox
    if figure.get_figwidth() not in (style.COLUMN, style.PAGE):
        yield f"{figure.get_figwidth()} inches wide"
    boxes = {text: Text.get_window_extent(text, renderer) for text in drawn}  # without arrows
    for text, box in boxes.items():
        if text.get_fontsize() < style.TEXT:
            yield f"{text.get_fontsize()} points: {text.get_text()}"
        if box.x0 < -1 or box.y0 < -1 or box.x1 > frame.x1 + 1 or box.y1 > frame.y1 + 1:
            yield f"cut off: {text.get_text()}"
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        if first.padded(-1.5).overlaps(second.padded(-1.5)):
            yield f"one over the other: {one.get_text()!r} and {other.get_text()!r}"
    for axis in figure.axes:
        if not axis.images:  # white on stamps
            yield from (f"too light: {c}" for c in line_colours(axis) if contrast(c) < 3)


@pytest.mark.parametrize("name", DRAW)
def test_every_figure_can_be_printed(name, monkeypatch):
    drawn, draw = {}, Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[text] = None
        draw(text, renderer)

    with matplotlib.rc_context(style.STYLE):
        figure = DRAW[name]()
        if name != "forest":  # the forest plot has none, and no caption
            style.caption(figure, parameters.resolve({"profile": "lite"}), 5, hardware="NVIDIA H200")
        figure.set_dpi(style.DPI)
        monkeypatch.setattr(Text, "draw", record)
        figure.draw_without_rendering()
        found = list(faults(figure, drawn))
    style.plt.close("all")
    assert drawn and not found, "\n".join(found)


# Machado, Oliveira & Fernandes (2009), of severity 1, on linear RGB
EYES = {
    "usual": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart_by_every_eye(eyes):
    colours = [*style.PALETTE, style.GREY, "black"]
    assert all(is_color_like(c) and contrast(c) >= 3 for c in colours)
    rgb = np.array([to_rgb(c) for c in colours])
    linear = np.clip(
        np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.transpose(EYES[eyes]), 0, 1
    )
    lab = rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 20  # CIE 1976
    assert len(set(style.DASHES)) == len(set(style.PALETTE)) == 6


def test_committed_figures_have_one_of_two_widths():
    found = [path for path in (storage.root() / "figures").rglob("*") if path.suffix in (".png", ".jpg")]
    widths = {path.name: Image.open(path).width / style.DPI for path in found}
    assert widths and {name: w for name, w in widths.items() if w not in (style.COLUMN, style.PAGE)} == {}
