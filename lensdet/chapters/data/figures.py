"""The figures of notebook 01."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lensdet.chapters import style

# Of the public stamps those whose arcs are seen in one band, and how they are called.
CLEAR = {
    "sw_021408.1-053533_g3.0": "CFHTLS J021408.1−053533\n(from a colour picture)",
    "sw_022151.1-064732_g2.7": "CFHTLS J022151.1−064732\n(from a colour picture)",
    "cfhtls_J1434+5228": "CFHTLS J1434+5228",
}
SURVEYS = {"KiDS": "KiDS", "ProFound": "ProFound", "deeplenstronomy": "DES"}  # by what a manifest has


def clear_candidates(files: Sequence[Path]) -> dict[Path, str]:
    """Three files of lens candidates for Figure 1.2, with titles: those of `CLEAR`, or else the first."""
    known = {path: CLEAR[path.stem] for path in files if path.stem in CLEAR}
    return known if len(known) == 3 else {path: path.stem for path in files[:3]}


def origins(files: Sequence[Path]) -> list[str]:
    """Survey and native pixels of each stamp, by ``manifest.csv`` in the folder above; else the name of its file."""
    manifest = files[0].parents[1] / "manifest.csv" if files else Path()
    if not manifest.is_file():
        return [path.stem for path in files]
    known = pd.read_csv(manifest).set_index("file")
    rows = (known.loc[f"{path.parent.name}/{path.name}"] for path in files)
    return [
        f"{next((v for k, v in SURVEYS.items() if k in row.survey), row.survey)}, {row.native_pixel_arcsec:.2g}″/px"
        for row in rows
    ]


def figure_1_2(images: NDArray, names: Sequence[str]) -> Figure:
    """Figure 1.2: three known lenses; stretched stamps (3, 101, 101) and their names.  The thesis has gri colour."""
    return style.stamps(images, names, columns=3)


def figure_4_1(lrg: NDArray, source: NDArray, mock: NDArray) -> Figure:
    """Figure 4.1: an LRG, a lensed source (PSF-convolved), and the mock lens they make; (101, 101), 0 to 1 each."""
    figure, axes = plt.subplots(1, 3, figsize=(style.PAGE, 2.4))
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
    return style.stamps(images, kinds, columns=3)


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
    figure, axes = plt.subplots(rows, 4, figsize=(style.PAGE, 1.6 * rows + 0.4), squeeze=False)
    for axis, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for colour, ls, (name, table) in zip(style.PALETTE, ("-", "--"), catalogues.items(), strict=False):
            if column in table:
                axis.hist(table[column].dropna(), bins=30, histtype="step", density=True, color=colour, ls=ls,
                          label=name)  # fmt: skip
        axis.set_xlabel(label)
        axis.set_yticks([])
    for axis in axes.flat[len(columns) :]:
        axis.axis("off")
    axes.flat[0].set_ylabel("density")
    if len(catalogues) > 1:
        axes.flat[1].legend(loc="upper right")
    return figure
