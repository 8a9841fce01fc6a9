"""The look of every figure: widths, colours, sizes of text; and how one is written."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensdet import storage

COLUMN, PAGE = 3.5, 7.1  # inches: the widths of one column and of a page; every figure has one of them
DPI = 200  # of a PNG
TEXT = 7  # points, of the smallest text
# Contrast to white of at least 3; told apart with deuteranopia and protanopia too, and from black and `GREY`.
BLUE, ORANGE, PURPLE, SKY, BROWN, CLAY = PALETTE = ("#0044cc", "#dd7700", "#552266", "#3399dd", "#662211", "#bb6644")
GREY = "0.45"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.title_fontsize": TEXT,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}


def write(figure: Figure, path: Path) -> None:
    """Write a figure, atomically, in the format that the path's suffix says and without dates."""
    undated = {
        ".png": {"Software": None, "Description": figure.get_supxlabel().replace("\n", " ")},
        ".pdf": {"CreationDate": None, "Producer": None},
    }
    with storage.atomic(path) as beside:
        figure.savefig(beside, dpi=DPI, metadata=undated.get(path.suffix), format=path.suffix[1:])


def scale_bar(axis: Axes, pixel: float = 0.2, length: float = 5) -> None:
    """Draw a white bar in the lower left corner of a stamp, and its length in arcsec above it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        With the stamp.
    pixel : float
        Arcsec of a unit of the axis.
    length : float
        Arcsec.
    """
    x, y = axis.get_xlim()[0] + 1.4 / pixel, axis.get_ylim()[0] + 1.4 / pixel
    axis.plot([x, x + length / pixel], [y, y], "-", color="white", lw=1.5, solid_capstyle="butt")
    axis.text(x, y + 0.6 / pixel, f"{length:g}″", color="white", fontsize=TEXT, va="bottom")
