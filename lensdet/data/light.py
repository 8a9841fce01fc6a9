"""Light on the pixels of a stamp: the grid, Sersic profiles, PSFs."""

from functools import cache

import numpy as np
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from lensdet.parameters import Parameters

SIZE, SCALE = 101, 0.2  # pixels a side; arcsec a pixel, of the thesis' stamps
CENTRE = SIZE // 2
_SERSIC = LightModel(["SERSIC_ELLIPSE"])


@cache
def grid(scale: float = SCALE) -> tuple[NDArray, NDArray]:
    """x and y of each pixel of a stamp, arcsec from its centre, two arrays (101, 101); ``scale`` in arcsec a pixel."""
    axis = (np.arange(SIZE) - CENTRE) * scale
    x, y = np.meshgrid(axis, axis)
    x.flags.writeable = y.flags.writeable = False  # all who ask share them
    return x, y


X, Y = grid()


def moffat_psf(
    fwhm: float,
    beta: float = 2.07,
    size: int = 25,
    scale: float = SCALE,
    axis_ratio: float = 1.0,
    angle: float = 0.0,
) -> NDArray:
    """Moffat kernel (size, size) of unit sum, centred.

    Parameters
    ----------
    fwhm : float
        arcsec; of an elliptical kernel the geometric mean of both axes'.
    beta : float
        Slope of the wings.
    size : int
        Pixels a side, odd.
    scale : float
        arcsec a pixel.
    axis_ratio, angle : float
        Of an elliptical kernel; degrees from the x axis to the longer axis.
    """
    r = np.arange(size) - size // 2
    width = fwhm / scale / (2 * np.sqrt(2 ** (1 / beta) - 1))
    if axis_ratio == 1:
        squared = r[:, None] ** 2 + r**2
    else:
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        along, across = r * cos + r[:, None] * sin, r[:, None] * cos - r * sin
        squared = along**2 * axis_ratio + across**2 / axis_ratio
    kernel = (1 + squared / width**2) ** -beta
    return kernel / kernel.sum()


def draw_psf(rng: np.random.Generator, parameters: Parameters) -> dict[str, float]:
    """What the PSF of a stamp of the broad survey is: arguments of `psf_kernel`.

    FWHM log-uniform in ``seeing``, ellipticity uniform in ``psf_ellipticity``, wings from those of the thesis' KiDS PSF
    (beta 2.07) to those of good seeing (4.5).
    """
    p = parameters
    return {
        "seeing": float(np.exp(rng.uniform(*np.log(p.seeing)))),
        "psf_beta": float(rng.uniform(2.07, 4.5)),
        "psf_ellipticity": float(rng.uniform(*p.psf_ellipticity)),
        "psf_angle": float(rng.uniform(0, 180)),
    }


def psf_kernel(psf: dict[str, float], scale: float) -> NDArray:
    """The kernel, pixels odd a side, of a PSF from `draw_psf`; ``scale`` in arcsec a pixel."""
    size = 2 * int(np.ceil(3.5 * psf["seeing"] / scale)) + 1
    return moffat_psf(psf["seeing"], psf["psf_beta"], size, scale, 1 - psf["psf_ellipticity"], psf["psf_angle"])


def sersic(
    radius: float,
    index: float,
    axis_ratio: float,
    angle: float,
    x0: float = 0.0,
    y0: float = 0.0,
    x: NDArray = X,
    y: NDArray = Y,
) -> NDArray:
    """Sersic profile at ``x`` and ``y`` (arcsec), 1 at the effective radius (arcsec); the angle in degrees."""
    e1, e2 = phi_q2_ellipticity(np.deg2rad(angle), axis_ratio)
    kwargs = dict(amp=1.0, R_sersic=radius, n_sersic=index, e1=e1, e2=e2, center_x=x0, center_y=y0)
    return _SERSIC.surface_brightness(x, y, [kwargs])


def central_sersic(
    radius: float, index: float, axis_ratio: float, angle: float, x0: float, y0: float, scale: float = SCALE
) -> NDArray:
    """As `sersic`, on a stamp (101, 101), with the cusp in its middle integrated over 5 x 5 points of a pixel."""
    shape, (x, y) = (radius, index, axis_ratio, angle, x0, y0), grid(scale)
    image = sersic(*shape, x, y)
    core = slice(CENTRE - 6, CENTRE + 7)
    sub = (np.arange(5) - 2) / 5 * scale
    x, y = np.broadcast_arrays(x[core, core, None, None] + sub, y[core, core, None, None] + sub[:, None])
    image[core, core] = sersic(*shape, x=x, y=y).mean((-1, -2))
    return image


def unit(image: NDArray, psf: NDArray) -> NDArray:
    """An image (101, 101) over the peak that it has after convolution with a PSF (odd, odd) of unit sum."""
    return image / fftconvolve(image, psf, "same").max()
