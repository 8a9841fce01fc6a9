"""How figures and tables look, where they are kept, and what each says of how it was made."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lensdet import storage
from lensdet.parameters import Parameters, resolve
from lensdet.plotting import (  # noqa: F401 - chapters have all of them from here
    BLUE,
    BROWN,
    CLAY,
    COLUMN,
    DPI,
    GREY,
    ORANGE,
    PAGE,
    PALETTE,
    PURPLE,
    SKY,
    STYLE,
    TEXT,
    scale_bar,
    write,
)
from lensdet.storage import digest

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DIGITS = 6  # of numbers in tables: processors differ in the 16th


def folder(parameters: Parameters) -> Path:
    """Where the figures of these parameters go: ``figures/<profile>``, or beside it where they are not the profile's.

    ``papermill -f params/fbeta.yaml`` draws one experiment: its figures go to ``figures/quick-fbeta`` and leave those
    of the whole profile alone.  ``LENSDET_FIGURES`` moves them all.
    """
    plain = resolve({"profile": parameters.profile})
    ignored = {"workers", "on_bad", "real_stamps"}
    changed = {k: v for k, v in parameters.model_dump(mode="json").items() if k not in ignored}
    changed = {k: v for k, v in changed.items() if v != plain.model_dump(mode="json")[k]}
    parts = [parameters.profile, *(e.replace(":", "_") for e in changed.pop("experiments", []))]
    if changed:
        parts.append(digest(changed))
    return storage.figures_dir() / "-".join(parts)


def publish(
    figure: Figure,
    name: str | Callable[..., Figure],
    parameters: Parameters,
    runs: int | None = None,
    data: str | None = None,
    hardware: str | None = None,
    suffix: str = "png",
) -> None:
    """State on a figure what made it, see `provenance`, and `save` it.

    Parameters
    ----------
    name : str
        Of the file, such as "fig_5_1", or the function that drew it: `figure_5_1`.
    runs, data, hardware
        As in `provenance`.
    suffix : str
        As in `save`.
    """
    caption(figure, parameters, runs, data, hardware)
    save(figure, name, parameters, suffix)


def caption(
    figure: Figure,
    parameters: Parameters,
    runs: int | None = None,
    data: str | None = None,
    hardware: str | None = None,
) -> None:
    """State below a figure what made it; parameters are those of `provenance`."""
    below(figure, provenance(parameters, runs, data, hardware))


def below(figure: Figure, words: str) -> None:
    """Write a line below a figure, wrapped at its width."""
    figure.supxlabel(wrapped(words, figure.get_figwidth()), fontsize=TEXT, color="0.35")


def wrapped(words: str, width: float) -> str:
    """Words of the smallest text, in lines of at most ``width`` inches."""
    lines = words.replace(" · ", "\N{NO-BREAK SPACE}· ").split("\n")
    return "\n".join(textwrap.fill(line, max(int(width * 17), 8)) for line in lines).replace("\N{NO-BREAK SPACE}", " ")


def save(figure: Figure, name: str | Callable[..., Figure], parameters: Parameters, suffix: str = "png") -> None:
    """Write a figure into `folder`, without dates: the same figure gives the same bytes.

    A PNG has what made it among its texts too, for `read_provenance`.  Large sheets of noisy stamps are better off as
    "jpg".  With ``LENSDET_PDF=yes`` in the environment there is a PDF, too.  Parameters are those of `publish`.
    """
    for each in (suffix, "pdf")[: 1 + (os.environ.get("LENSDET_PDF") == "yes")]:
        write(figure, folder(parameters) / f"{_stem(name)}.{each}")


def keep(name: str | Callable[..., Figure], parameters: Parameters, lacks: str) -> None:
    """Leave a figure as it is where what it shows is not there, and say so.

    Parameters
    ----------
    name
        As in `publish`.
    lacks : str
        What is not there, and how to give it.
    """
    path = folder(parameters) / f"{_stem(name)}.png"
    print(f"{path.name} {'is kept as it was' if path.exists() else 'is not drawn'}: {lacks}")


def _stem(name):
    return name if isinstance(name, str) else name.__name__.replace("figure", "fig", 1)


def save_table(
    table: pd.DataFrame,
    name: str,
    parameters: Parameters,
    readable: pd.DataFrame | None = None,
    runs: int | None = None,
    hardware: str | None = None,
    protocol: str | None = None,
) -> None:
    """Write a table as CSV (six digits), Markdown and LaTeX (booktabs); the last two of ``readable`` where given.

    Both have below or above them what made the table, as `publish` has it on a figure.

    Parameters
    ----------
    name : str
        Of the files.
    readable : pandas.DataFrame, optional
        The table as it is to be read.
    runs, hardware, protocol
        As in `provenance`.
    """
    shown = table if readable is None else readable
    index, words = shown.index.name is not None, provenance(parameters, runs, hardware=hardware, protocol=protocol)
    storage.write_csv(folder(parameters) / f"{name}.csv", table, DIGITS)
    about = words.replace("_", r"\_").replace("%", r"\%")
    latex = shown.to_latex(index=index, escape=True, float_format=f"%.{DIGITS}g", caption=about)
    for suffix, text in ((".md", f"{shown.to_markdown(index=index)}\n\n*{words}*"), (".tex", latex)):
        with storage.atomic(folder(parameters) / f"{name}{suffix}") as beside:
            beside.write_text(text + "\n")


def number_of(n: int, noun: str) -> str:
    """A number and what it is of, as ``1 run`` and ``2 runs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def provenance(
    parameters: Parameters,
    runs: int | None = None,
    data: str | None = None,
    hardware: str | None = None,
    protocol: str | None = None,
) -> str:
    """What made a figure or table: data, profile, protocol, runs, and how many images each run was trained on at most.

    Parameters
    ----------
    runs : int, optional
        How many are behind each number; None where none are.
    data : str, optional
        What is shown, where it is not the data of the parameters.
    hardware : str, optional
        What the runs were trained on, from `runs.hardware`, where there is room for it.
    protocol : str, optional
        Of the numbers, where it is not that of the parameters.
    """
    data = data or ("simulated survey" if parameters.data is None else f"stamps of {parameters.data.name}")
    words = [data, f"profile {parameters.profile}", f"protocol {protocol or parameters.protocol}"]
    if runs is not None:
        words.append(number_of(runs, "run"))
        words.append(f"{parameters.images:,} images a run, width {parameters.width}")
        if hardware:
            words.append(hardware)
    return " · ".join(words)


def read_provenance(path: Path) -> str | None:
    """What made a figure or table, as it says itself: the text of a PNG, the last line of Markdown.

    "" where it depends on no data, as a schematic; None where it does not say.
    """
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.text.get("Description")
    last = path.read_text().rstrip().rpartition("\n")[2] if path.suffix == ".md" else ""
    return last.strip("*") if last.startswith("*") else None


def stamps(
    images: NDArray, titles: Sequence[str] | None = None, columns: int = 6, vmin: float = 0.0, vmax: float = 1.0
) -> Figure:
    """A contact sheet of stamps as wide as a page, grey, origin below; the first has a bar of 5 arcsec.

    Parameters
    ----------
    images : array (n, 101, 101)
        20 arcsec a side.
    titles : sequence of str, n, optional
        Wrapped at the width of a stamp.
    columns : int
    vmin, vmax : float
        What is drawn black and white.
    """
    rows, size = max(1, -(-len(images) // columns)), PAGE / columns
    titles = [wrapped(title, size - 0.1) for title in titles or [""] * len(images)]
    lines = max((title.count("\n") + 1 for title in titles if title), default=0)
    figure, axes = plt.subplots(rows, columns, figsize=(PAGE, rows * (size + 0.13 * lines) + 0.25), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray", origin="lower", vmin=vmin, vmax=vmax, interpolation="none")
        axis.set_title(title, fontsize=TEXT, pad=2)
    if len(images):
        scale_bar(axes.flat[0])
    return figure


def label_lines(axis: Axes, step: float = 0.04) -> None:
    """Write the label of each line right of its end, in its colour; ``step``: the height of a line of text."""
    lines = sorted((line for line in axis.lines if line.get_label()[0] != "_"), key=lambda line: line.get_ydata()[-1])
    low, high = axis.get_ylim()
    ends = np.array([(line.get_ydata()[-1] - low) / (high - low) for line in lines])
    heights = step * np.array([line.get_label().count("\n") + 1.3 for line in lines])
    apart = np.cumsum(heights) - heights / 2
    places = np.maximum.accumulate(ends - apart) + apart
    places -= np.maximum(places - (1 - (heights.sum() - apart)), 0)  # the highest at the top at most
    for line, place, end in zip(lines, places, ends, strict=True):
        axis.annotate(line.get_label(), (1, end), (1.05, place), xycoords="axes fraction", va="center",
                      fontsize=TEXT, color=line.get_color(), annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": line.get_color(), "lw": 0.6, "shrinkA": 0, "shrinkB": 0,
                                  "relpos": (0, 0.5)})  # fmt: skip


def empty(words: str) -> Figure:
    """A panel that says why there is nothing to see."""
    figure, axis = plt.subplots(figsize=(PAGE, 0.9))
    axis.axis("off")
    axis.text(0.5, 0.5, wrapped(words, PAGE), ha="center", va="center")
    return figure
