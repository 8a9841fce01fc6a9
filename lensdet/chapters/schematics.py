"""Schematics of the network (Figs. 3.1, 3.2 and 4.3), drawn from the network itself, and the layout of Table 3.1.

The thesis draws the first ResNet; what its runs used, and what is drawn here, is full pre-activation.
"""

import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from keras import layers
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from lensdet.chapters import style as figures
from lensdet.network import resnet

COLOURS = {"convolution": "#cfe2f3", "other": "0.94", "sum": "#ffe8b8"}
NAMES = {"BatchNormalization": "batch normalisation", "ReLU": "rectifier (ReLU)",
         "GlobalAveragePooling2D": "global average", "InputLayer": "stamp"}  # fmt: skip
SMALL = 7  # points


class Block(NamedTuple):
    """A residual block of the network."""

    add: layers.Layer  # the sum at its end
    source: layers.Layer  # what its input comes from
    branch: tuple  # layers of the residual branch, from the input on
    shortcut: layers.Layer | None  # convolution of the skip connection; None for the identity


def blocks(model):
    """The residual blocks of a network of `resnet.resnet18`, in their order."""
    before, found = _parents(model), []
    for add in (layer for layer in model.layers if isinstance(layer, layers.Add)):
        skip, end = (model.get_layer(name) for name in before[add.name])
        shortcut = skip if isinstance(skip, layers.Conv2D) else None
        source = before[skip.name][0] if shortcut else skip.name
        branch = [end]
        while (name := before[branch[0].name][0]) != source:
            branch.insert(0, model.get_layer(name))
        found.append(Block(add, model.get_layer(source), tuple(branch), shortcut))
    return found


def _parents(model):
    """Names of the layers that each layer takes its input from, by its name."""
    return {layer["config"]["name"]: _histories(layer["inbound_nodes"]) for layer in model.get_config()["layers"]}


def _histories(content):
    if isinstance(content, dict):
        if "keras_history" in content:
            return [content["keras_history"][0]]
        content = list(content.values())
    return [name for each in content for name in _histories(each)] if isinstance(content, (list, tuple)) else []


def shape(layer):
    """Pixels and channels that a layer hands on, such as 26 x 26 x 64."""
    return " × ".join(str(n) for n in layer.output.shape[1:])


def words(layer):
    """What a layer does, in a few words."""
    if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D)):
        convolution = isinstance(layer, layers.Conv2D)
        size, stride = layer.kernel_size if convolution else layer.pool_size, layer.strides[0]
        kind = f"convolution, {layer.filters}" if convolution else "maximum"
        return f"{size[0]} × {size[1]} {kind}{f', stride {stride}' if stride > 1 else ''}"
    if isinstance(layer, layers.Dense):
        return f"dense, {layer.units}"
    if isinstance(layer, layers.Activation):
        return layer.activation.__name__
    return NAMES[type(layer).__name__]


def confusion_matrix():
    """Table 3.1: what the counts of a classifier at a threshold are called."""
    return pd.DataFrame(
        {
            "": ["predicted positive", "predicted negative"],
            "labelled positive": ["true positive (TP)", "false negative (FN)"],
            "labelled negative": ["false positive (FP)", "true negative (TN)"],
        }
    )


def stages(model):
    """Layers by column of Figure 4.3: those before the blocks, the blocks of each size, those after; a dict of lists.

    The convolution of a skip connection stands with the blocks.
    """
    found, before = blocks(model), True
    of = {layer.name: b.add for b in found for layer in (*b.branch, b.shortcut, b.add) if layer}
    sizes = list(dict.fromkeys(block.add.output.shape for block in found))
    columns = {name: [] for name in ("stem", *(f"stage {i + 1}" for i in range(len(sizes))), "head")}
    for layer in model.layers:
        if layer.name in of:
            before = False
            columns[f"stage {sizes.index(of[layer.name].output.shape) + 1}"].append(layer)
        else:
            columns["stem" if before else "head"].append(layer)
    return columns


def convolutional_network(model):
    """Figure 3.1: the sizes of what goes through the network, from the stamp to the probability."""
    first = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    sums = {block.add.output.shape: block.add for block in blocks(model)}.values()  # the last of each size
    shown = {"stamp": model.layers[0], "after the first\nconvolution": first,
             **{f"after the blocks\nto {layer.name}": layer for layer in sums}}  # fmt: skip
    figure, axis = _page(7.2, 2.7)
    x, middle, below = 0.5, 1.45, 0.62
    lefts = []
    for title, layer in shown.items():
        size, channels = layer.output.shape[1], layer.output.shape[-1]
        _slab(axis, x, middle, 1.5 * math.sqrt(size / resnet.STAMP), 0.035 * math.log2(2 * channels))
        axis.text(x, below, f"{shape(layer)}\n{title}", ha="center", va="top", fontsize=SMALL, linespacing=1.3)
        lefts.append(x)
        x += 0.92
    end = x - 0.45
    for layer in stages(model)["head"]:
        if isinstance(layer, (layers.GlobalAveragePooling2D, layers.Dense, layers.Activation)):
            n = layer.output.shape[-1]
            title = words(layer).partition(",")[0].replace(" ", "\n")
            _slab(axis, x - 0.15, middle, 1.2 if n > 1 else 0.1, 0.0)
            axis.text(x - 0.15, below, f"{n}\n{title}", ha="center", va="top", fontsize=SMALL, linespacing=1.3)
            x += 0.46
    for left, right, text in ((lefts[1] - 0.4, end - 0.05, "convolutional base"), (end + 0.05, x - 0.4, "classifier")):
        axis.plot([left, left, right, right], [2.38, 2.44, 2.44, 2.38], color="0.3", lw=1)
        axis.text((left + right) / 2, 2.56, text, ha="center", va="center", fontsize=SMALL + 1)
    return figure


def residual_block(model):
    """Figure 3.2: a block whose skip connection is the identity, and one that halves the image."""
    found = blocks(model)
    pair = [next(b for b in found[1:] if b.shortcut is None), next(b for b in found if b.shortcut is not None)]
    figure, axis = _page(7.2, 4.0)
    for x, block in zip((1.1, 4.7), pair, strict=True):
        _tall_block(axis, x, block)
    return figure


def _tall_block(axis, x, block):
    y, height, right = 3.8, 0.27, x + 1.6
    axis.text(x, y, f"{block.source.name}: {shape(block.source)}", ha="center", va="center", fontsize=SMALL + 1)
    fork, y = y - 0.22, y - 0.12
    for layer in block.branch:
        _arrow(axis, (x, y), (x, y - 0.2))
        _box(axis, x, y - 0.2, 1.9, height, words(layer), isinstance(layer, layers.Conv2D))
        y -= 0.2 + height
    _arrow(axis, (x, y), (x, y - 0.2))
    y -= 0.31
    _sum(axis, x, y, 0.11)
    axis.plot([x, right, right], [fork, fork, y], color="0.3", lw=1)
    _arrow(axis, (right, y), (x + 0.11, y))
    middle, text = (fork + y) / 2, words(block.shortcut) if block.shortcut else "identity"
    if block.shortcut:
        _box(axis, right, middle + 0.22, 1.1, 0.44, text.replace(", ", ",\n", 1), True)
    else:
        axis.text(right + 0.07, middle, text, va="center", fontsize=SMALL + 1)
    _arrow(axis, (x, y - 0.11), (x, y - 0.33))
    axis.text(x, y - 0.43, f"{block.add.name}: {shape(block.add)}", ha="center", va="center", fontsize=SMALL + 1)


def architecture(model):
    """Figure 4.3: every layer, by stages, with sizes, parameters and the names of the residual sums."""
    found, columns = blocks(model), stages(model)
    figure, axis = _page(7.2, 3.75)
    step, top = 7.2 / len(columns), 3.05
    for i, (name, own) in enumerate(columns.items()):
        x, y = (i + 0.53) * step, top
        axis.text(x, 3.55, name, ha="center", va="center", fontsize=SMALL + 1, weight="bold")
        axis.text(x, 3.35, _size(own[-1]), ha="center", va="center", fontsize=SMALL)
        if i:
            _arrow(axis, (x - step / 2 - 0.12, 3.55), (x - step / 2 + 0.12, 3.55))
        inside = [block for block in found if block.add in own]
        for block in inside:
            y = _short_block(axis, x, y, block)
        for layer in [] if inside else own:
            if y < top:
                _arrow(axis, (x, y), (x, y - 0.13))
                y -= 0.13
            _box(axis, x, y, 0.94, 0.36, _short(layer), isinstance(layer, layers.Conv2D))
            y -= 0.36
        axis.text(x, 0.17, f"{sum(layer.count_params() for layer in own):,}", ha="center", va="center", fontsize=SMALL)
    total = f"parameters of each column, {model.count_params():,} in all; norm: batch normalisation, /2: stride 2"
    axis.text(0.1, 0.38, total, va="center", fontsize=SMALL, color="0.35")
    return figure


def _size(layer):
    """Of a column's last layer; of a vector, its length."""
    n = layer.output.shape[1:]
    return shape(layer) if len(n) > 1 else f"{n[0]} output{'s' * (n[0] > 1)}"


def _short(layer):
    """`words` in two lines of a narrow box."""
    if isinstance(layer, layers.InputLayer):
        return f"{words(layer)}\n{shape(layer)}"
    if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D)):
        kind = "convolution" if isinstance(layer, layers.Conv2D) else "maximum"
        return f"{kind}\n{_numbers(layer)}"
    return words(layer).replace(" (ReLU)", "").replace(", ", " ").replace(" ", "\n", 1)


def _numbers(layer):
    return words(layer).replace(" convolution", "").replace(" maximum", "").replace("stride ", "/")


def _short_block(axis, x, y, block):
    """A block in a column: normalisation and rectifier in one box with their convolution; returns where it ends."""
    fork, left, before = y + 0.06, x - 0.53, []
    axis.plot([x, x], [y, y + 0.1], color="0.3", lw=1)
    for layer in block.branch:
        if not isinstance(layer, layers.Conv2D):
            before.append({"BatchNormalization": "norm", "ReLU": "ReLU"}[type(layer).__name__])
            continue
        text = "\n".join(filter(None, (", ".join(before), _numbers(layer))))
        _box(axis, x, y, 0.94, 0.36, text, True)
        _arrow(axis, (x, y - 0.36), (x, y - 0.49))
        y, before = y - 0.49, []
    _sum(axis, x, y - 0.09, 0.09)
    axis.text(x + 0.14, y - 0.09, block.add.name, va="center", fontsize=SMALL)
    axis.plot([x, left, left], [fork, fork, y - 0.09], color="0.3", lw=1)
    _arrow(axis, (left, y - 0.09), (x - 0.09, y - 0.09))
    if block.shortcut:
        text = _numbers(block.shortcut)
        axis.text(left - 0.05, (fork + y - 0.09) / 2, text, rotation=90, ha="right", va="center", fontsize=SMALL)
    axis.plot([x, x], [y - 0.18, y - 0.24], color="0.3", lw=1)
    return y - 0.34


def _page(width, height):
    """A figure and axes in inches."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("none")  # from the start, matplotlib would forget it when it saves
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), aspect="equal")
    axis.axis("off")
    return figure, axis


def _box(axis, x, top, width, height, text, convolution):
    """A box by the middle of its upper edge."""
    colour = COLOURS["convolution" if convolution else "other"]
    style = "round,pad=0,rounding_size=0.05"
    axis.add_patch(
        FancyBboxPatch((x - width / 2, top - height), width, height, style, fc=colour, ec="0.3", lw=0.8, zorder=3)
    )
    axis.text(x, top - height / 2 - 0.01, text, ha="center", va="center", fontsize=SMALL, linespacing=1.15, zorder=4)


def _sum(axis, x, y, radius):
    axis.add_patch(Circle((x, y), radius, fc=COLOURS["sum"], ec="0.3", lw=0.8))
    axis.text(x, y - 0.005, "+", ha="center", va="center", fontsize=SMALL + 1)


def _slab(axis, x, y, height, depth):
    """A stack of maps: its height stands for pixels, its length to the right for channels."""
    width, skew = 0.3 * height, 0.35 * 0.3 * height
    left, low = x - (width + depth) / 2, y - height / 2
    face = [(left, low), (left + width, low + skew), (left + width, low + height), (left, low + height - skew)]
    back = [(a + depth, b) for a, b in face]
    front, top = [face[0], back[0], back[3], face[3]], [face[3], face[2], back[2], back[3]]
    for corners, colour in ((front, "#9fc5e8"), (top, "#b6d4f0"), (back, COLOURS["convolution"])):
        axis.add_patch(Polygon(corners, fc=colour, ec="0.3", lw=0.8, joinstyle="round"))


def _arrow(axis, start, end):
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 1, "shrinkA": 0, "shrinkB": 0,
                                              "mutation_scale": 7})  # fmt: skip


def save(parameters):
    """Draw Figures 3.1, 3.2 and 4.3 of the network of these parameters, and Table 3.1, beside the other figures."""
    model = resnet.resnet18(parameters.width)
    for name, draw in (("3_1", convolutional_network), ("3_2", residual_block), ("4_3", architecture)):
        figures.save(draw(model), f"fig_{name}", parameters)
    figures.save_table(confusion_matrix(), "table_3_1", parameters)
