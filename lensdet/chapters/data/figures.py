"""The figures of notebook 01."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters import style


def figure_1_2(images: NDArray, names: Sequence[str]) -> Figure:
    """Figure 1.2: three known lenses; stretched stamps (3, 101, 101) and their names.  The thesis has gri colour."""
    return style.stamps(images, names, columns=3, size=2.2)


def figure_4_1(lrg: NDArray, source: NDArray, mock: NDArray) -> Figure:
    """Figure 4.1: an LRG, a lensed source (PSF-convolved), and the mock lens they make; (101, 101), 0 to 1 each."""
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


def figure_4_2(images: NDArray, kinds: Sequence[str]) -> Figure:
    """Figure 4.2: three contaminants; stretched stamps (3, 101, 101) and their kinds."""
    return style.stamps(images, kinds, columns=3, size=2.2)


def distributions(catalogues: dict[str, pd.DataFrame], columns: dict[str, str]) -> Figure:
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
