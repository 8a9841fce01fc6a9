"""Schematics of the network (Figs. 3.1, 3.2 and 4.3), drawn from the network itself, and the layout of Table 3.1.

The thesis draws the first ResNet; what its runs used, and what is drawn here, is full pre-activation.
"""

from itertools import groupby

import matplotlib.pyplot as plt
import pandas as pd
from keras import Model, layers
from matplotlib.axes import Axes
from matplotlib.text import Text

from lensdet.chapters import style
from lensdet.network import resnet
from lensdet.parameters import Parameters

BLUE, YELLOW = "#cfe2f3", "#ffe8b8"  # layers; what they hand on
BARE = {"frame_on": False, "xticks": [], "yticks": []}
WORDS = {
    "Conv2D": "{kernel_size[0]} × {kernel_size[1]} convolution, {filters}, stride {strides[0]}",
    "MaxPooling2D": "{pool_size[0]} × {pool_size[1]} maximum, stride {strides[0]}",
    "BatchNormalization": "batch normalisation",
    "ReLU": "ReLU",
    "GlobalAveragePooling2D": "global average",
    "Activation": "{name} ({activation})",
    "Add": "sum {name}",
}


def stages(model: Model) -> list[list[list[layers.Layer]]]:
    """The layers after the stamp: up to the pooling, residual blocks by size (each up to its sum), classifier."""
    parts = [[]]
    for layer in model.layers[1:]:
        parts[-1].append(layer)
        if isinstance(layer, (layers.MaxPooling2D, layers.Add)):
            parts.append([])
    return [list(stage) for _, stage in groupby(parts, lambda part: (type(part[-1]), part[-1].output.shape))]


def describe(layer: layers.Layer) -> str:
    """What a layer does, with its numbers, or its name."""
    return WORDS.get(type(layer).__name__, "{name}").format(**layer.get_config()).replace(", stride 1", "")


def sized(layer: layers.Layer) -> str:
    """A layer, and the pixels and channels that it hands on, such as sum add_1: 26 × 26 × 64."""
    return f"{describe(layer)}: {' × '.join(str(n) for n in layer.output.shape[1:])}"


def box(axis: Axes, x: float, y: float, text: str, colour: str, *before: Text) -> Text:
    """Draw a text in a box, with arrows from the boxes before it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    x, y : float
        Of its centre, in the units of the axis.
    text, colour : str
    *before : matplotlib.text.Text
        Boxes that were drawn.
    """
    frame = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "0.3"}
    drawn = axis.text(x, y, text, ha="center", va="center", fontsize=style.TEXT, bbox=frame)
    for other in before:
        ends = {"patchA": other.get_bbox_patch(), "patchB": drawn.get_bbox_patch(), "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (x, y), other.get_position(), arrowprops={"arrowstyle": "-|>", "color": "0.3"} | ends)
    return drawn


def draw(axis: Axes, start: Text, part: list[layers.Layer], right: float, step: float, between: str) -> Text:
    """Draw a part of the network: its layers to the right, a skip connection straight down.  Returns its last box.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    start : matplotlib.text.Text
        The box that it follows.
    part : list of keras.layers.Layer
    right, step : float
        How far the layers are to the right, and each box below the one before, in the units of the axis.
    between : str
        What stands between two layers.
    """
    texts = [describe(layer) for layer in part[:-1]]
    skip = next((text for text in texts if text.startswith("1 × 1 ")), "identity")
    branch = between.join(text for text in texts if text != skip).replace(", batch", "\nbatch")
    x, y = start.get_position()
    before = [box(axis, x + right, y - step, branch, BLUE, start)]
    if isinstance(part[-1], layers.Add):
        before.append(start)
        axis.text(x - 0.01, y - step, skip, ha="right", va="center", fontsize=style.TEXT)
    return box(axis, x, y - 2 * step, sized(part[-1]), YELLOW, *before)


def figure_3_1(model: Model) -> plt.Figure:
    """Figure 3.1: the sizes of what goes through the network, from the stamp to the probability."""
    figure, axis = plt.subplots(figsize=(style.PAGE, 3.2), layout="constrained", subplot_kw=BARE)
    [(first, *_)], *blocks, [(_, _, average, *last)] = stages(model)
    starts = {first: "convolutional base", average: "classifier"}
    for i, layer in enumerate([model.layers[0], first, *(stage[-1][-1] for stage in blocks), average, *last]):
        pixels, channels = (1, *layer.output.shape[1:])[-2:]
        axis.barh(-i, pixels, 0.035 * channels**0.5, left=-pixels / 2, color=BLUE, edgecolor="0.3")
        axis.text(-135, -i, starts.get(layer, ""), va="center", fontsize=style.TEXT)
        axis.text(65, -i, sized(layer), va="center", fontsize=style.TEXT)
    axis.set(xlim=(-140, 170), title="width: pixels a side; height: square root of the channels")
    return figure


def figure_3_2(model: Model) -> plt.Figure:
    """Figure 3.2: a block whose skip connection is the identity, and one that halves the image."""
    figure, axis = plt.subplots(figsize=(style.PAGE, 3), layout="constrained", subplot_kw=BARE)
    _, (before, keeping), (halving, _), *_ = stages(model)
    for x, above, block in ((0.11, before, keeping), (0.65, keeping, halving)):
        draw(axis, box(axis, x, 0.95, sized(above[-1]), YELLOW), block, 0.21, 0.45, between="\n↓\n")
    return figure


def figure_4_3(model: Model) -> plt.Figure:
    """Figure 4.3: the layers of ResNet18 by stages, with sizes, parameters and the names of the residual sums."""
    figure, axis = plt.subplots(figsize=(style.PAGE, 5.6), layout="constrained", subplot_kw=BARE)
    end = box(axis, 0.42, 0.97, sized(model.layers[0]), YELLOW)
    for i, stage in enumerate(stages(model)):
        name = f"stage {i}" if isinstance(stage[0][-1], layers.Add) else "classifier" if i else "first layers"
        count = sum(layer.count_params() for part in stage for layer in part)
        axis.text(0, end.get_position()[1] - 0.09, f"{name}\n{count:,} parameters", va="center", fontsize=style.TEXT)
        for part in stage:
            end = draw(axis, end, part, 0.365, 0.045, between=", ")
    axis.text(0, 0, f"{model.count_params():,} parameters in all", fontsize=style.TEXT)
    return figure


def table_3_1() -> pd.DataFrame:
    """Table 3.1: what the counts of a classifier at a threshold are called."""
    positive = ("predicted positive", "true positive (TP)", "false positive (FP)")
    negative = ("predicted negative", "false negative (FN)", "true negative (TN)")
    return pd.DataFrame([positive, negative], columns=["", "labelled positive", "labelled negative"])


def save(parameters: Parameters) -> None:
    """Draw Figures 3.1, 3.2 and 4.3 of the network of these parameters, and Table 3.1, beside the other figures."""
    model = resnet.resnet18(parameters.width)
    for name, figure in (("3_1", figure_3_1), ("3_2", figure_3_2), ("4_3", figure_4_3)):
        style.save(figure(model), f"fig_{name}", parameters)
    style.save_table(table_3_1(), "table_3_1", parameters)
