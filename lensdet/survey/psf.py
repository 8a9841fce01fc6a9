"""The PSF of some stamps, from the stars in them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, maximum_filter
from scipy.optimize import curve_fit

OBJECTS = 10  # compact ones, from which a PSF can be measured
BRIGHT, UNLIKE = 20, 0.05  # least peak of such, over the noise; most mean residual of its fit, over the peak
NARROW = 0.1  # quantile of widths that is a star's: of broad stamps within 11 % of their PSF (0.15: 17 %)


class PSF(NamedTuple):
    """FWHM of the stars in some stamps."""

    fwhm: float  # arcsec
    objects: int = 0  # compact ones, the narrowest of which it is from; 0: it was given


def measured_psf(pixels: NDArray, scale: float) -> PSF:
    """The PSF of some stamps, by the most pointlike objects beside their galaxies.

    Compact objects are fitted with a round Moffat profile.  Nothing is narrower than a star, and most are wider: the
    PSF is the `NARROW` quantile of their widths.

    Parameters
    ----------
    pixels : array (n, 101, 101)
    scale : float
        arcsec a pixel.

    Raises
    ------
    ValueError
        Fewer than `OBJECTS` objects to measure.
    """
    widths = [width for stamp in pixels for width in _widths(stamp)]
    if len(widths) < OBJECTS:
        raise ValueError(
            f"{len(widths)} compact objects to measure the PSF by in {len(pixels)} stamps, {OBJECTS} are needed; add "
            "-p psf FWHM, in arcsec"
        )
    return PSF(round(float(np.quantile(widths, NARROW)) * scale, 3), len(widths))


def _widths(stamp):
    """FWHM in pixels of the compact objects of a stamp that stand alone, away from its centre and edges."""
    half, n = 8, len(stamp)
    stamp = np.asarray(stamp, float) - np.median(stamp)
    noise = 1.4826 * np.median(np.abs(stamp)) or 1.0
    tops = (stamp == maximum_filter(stamp, 15)) & (stamp > BRIGHT * noise)
    found = []
    y, x = np.indices((2 * half + 1,) * 2) - half
    r = np.hypot(x, y)
    for row, column in np.argwhere(tops):
        off = np.hypot(row - n // 2, column - n // 2)
        if off < 15 or min(row, column) < half or max(row, column) >= n - half:
            continue
        cut = stamp[row - half : row + half + 1, column - half : column + half + 1] / stamp[row, column]
        cut = cut - np.median(cut[r > 7])
        centre = center_of_mass(np.where((r < 4) & (cut > 0), cut, 0))
        near = np.hypot(y + half - centre[0], x + half - centre[1])
        try:
            (peak, width, beta), _ = curve_fit(_moffat, near[r <= 6], cut[r <= 6], (1.0, 2.5, 3.0),
                                               bounds=([0, 0.5, 1.5], [2, 20, 10]))  # fmt: skip
        except (RuntimeError, ValueError):
            continue
        if np.abs(cut - _moffat(near, peak, width, beta))[r <= 6].mean() < UNLIKE:
            found.append(2 * width * np.sqrt(2 ** (1 / beta) - 1))
    return found


def _moffat(r, peak, width, beta):
    return peak * (1 + (r / width) ** 2) ** -beta
