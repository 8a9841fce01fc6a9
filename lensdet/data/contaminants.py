"""Negatives of the broad survey, by named class: what makes a stamp one that a finder must not take for a lens.

Two sorts: objects that look like lenses (`lensdet.data.lookalikes`), and what people and pipelines stumble on
(`lensdet.data.artefacts`).  Every range that is drawn from is in the docstring of the function that draws.  All are
choices, made by looking at real stamps of KiDS and DES (``benchmarks/contact_sheets.py``), and none was fitted.
"""

import numpy as np
from numpy.typing import NDArray

from lensdet.data import artefacts, lookalikes
from lensdet.data.scene import Scene, Structure


def draw(rng: np.random.Generator, galaxy: dict[str, float], psf: NDArray, scale: float) -> Structure:
    """A contaminant around (or in the place of) a galaxy.

    Parameters
    ----------
    rng : numpy.random.Generator
    galaxy : dict
        From `lensdet.data.broad`: ``peak_snr``, ``radius`` (arcsec), ``angle`` (degrees), ``x``, ``y`` (arcsec).
    psf : array (odd, odd)
        Kernel of unit sum.
    scale : float
        arcsec a pixel.

    Returns
    -------
    Structure
        Of one of `KINDS`, drawn by their shares.
    """
    half = psf[len(psf) // 2, len(psf) // 2 :]
    fwhm = 2 * scale * np.interp(-0.5, -half / half[0], np.arange(len(half)))
    kind = str(rng.choice(list(KINDS), p=[share for share, _ in KINDS.values()]))
    return KINDS[kind][1](Scene(rng, galaxy, psf, scale, float(fwhm)))._replace(kind=kind)


def empty(s: Scene) -> Structure:
    """Sky, with neighbours as any stamp has."""
    return Structure(host=0.0)


# The share of each, and what draws it.  What people are shown most in the place of lenses has the largest; a choice.
KINDS = {
    "spiral": (0.22, lookalikes.spiral),
    "ring": (0.06, lookalikes.ring),
    "merger": (0.13, lookalikes.merger),
    "edge-on": (0.10, lookalikes.edge_on),
    "companions": (0.15, lookalikes.companions),
    "star": (0.06, artefacts.star),
    "star beside": (0.03, artefacts.star_beside),
    "trail": (0.04, artefacts.trail),
    "cosmic ray": (0.04, artefacts.cosmic_ray),
    "bad pixels": (0.03, artefacts.bad_pixels),
    "tile edge": (0.04, artefacts.tile_edge),
    "sky step": (0.02, artefacts.sky_step),
    "empty": (0.03, empty),
    "faint": (0.03, lookalikes.faint),
    "off-centre": (0.02, lookalikes.off_centre),
}
