"""Lensed sources: ray tracing through an SIE with external shear, on the pixels of a stamp."""

import numpy as np
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.signal import fftconvolve

from lensdet.data.light import SCALE, SIZE, draw_psf, grid, moffat_psf, psf_kernel
from lensdet.data.random import stream
from lensdet.parameters import Parameters

SOURCE_SEEING = 0.598  # arcsec, the mean r-band PSF of the thesis' survey
SOURCE_PSF = moffat_psf(SOURCE_SEEING)
_LENS = LensModel(["SIE", "SHEAR"])


def render_source(ident: int, parameters: Parameters) -> tuple[NDArray[np.float32], dict[str, float]]:
    """A lensed source: SIE and external shear, an elliptical Sersic galaxy with clumps; noiseless, PSF-convolved.

    Rays are shot with lenstronomy through pixel centres, and through ``supersampling`` x ``supersampling`` points of
    each pixel that the galaxy's light reaches.  The source lies in the disc that the tangential caustic spans, plus
    one effective radius, so that most (about 15 of 16) have more than one image.  Clumps below 0.02 arcsec are not
    resolved and not made.  In the broad survey each has a PSF of its own: `mocklens.pairs` finds like hosts.

    Returns
    -------
    pixels : float32 array (101, 101)
        Arbitrary flux.
    truth : dict
        The eleven quantities of the thesis' source headers (see `stamps.KEYWORDS`) and the number of clumps;
        lengths in arcsec, angles in degrees.  Einstein radius and axis ratio as lenstronomy defines them for its SIE.
    """
    p, rng = parameters, stream(parameters.data_seed, "source", ident)
    log_uniform = lambda low_high: float(np.exp(rng.uniform(*np.log(low_high))))  # noqa: E731
    truth = {
        "einstein_radius": log_uniform(p.einstein_radius),
        "lens_axis_ratio": rng.uniform(*p.lens_axis_ratio),
        "lens_angle": rng.uniform(0, 180),
        "shear": rng.uniform(*p.shear),
        "shear_angle": rng.uniform(0, 180),
        "source_radius": log_uniform(p.source_radius),
        "source_axis_ratio": rng.uniform(*p.source_axis_ratio),
        "source_angle": rng.uniform(0, 180),
        "source_sersic": rng.uniform(*p.source_sersic),
    }
    lens = _lens_kwargs(truth)
    reach = _caustic_reach(truth, lens) + truth["source_radius"]
    distance, phi = reach * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    truth["source_x"], truth["source_y"] = distance * np.cos(phi), distance * np.sin(phi)
    lights = [_light(truth["source_radius"], truth["source_sersic"], truth["source_axis_ratio"], truth["source_angle"],
                     truth["source_x"], truth["source_y"], 1.0)]  # fmt: skip
    truth["source_clumps"] = int(rng.integers(p.source_clumps[0], p.source_clumps[1] + 1))
    for _ in range(truth["source_clumps"]):
        radius = max(0.02, truth["source_radius"] * rng.uniform(0.01, 0.1))
        x, y = rng.normal(0, 0.6 * truth["source_radius"], 2)
        share = rng.uniform(0.01, 0.06)  # of the galaxy's flux, exact where both Sersic indices agree
        amplitude = share * (truth["source_radius"] / radius) ** 2
        lights.append(_light(radius, rng.uniform(*p.source_sersic), 1.0, 0.0, truth["source_x"] + x,
                             truth["source_y"] + y, amplitude))  # fmt: skip
    psf, scale = SOURCE_PSF, SCALE
    if p.simulation == "broad":
        drawn, scale = draw_psf(stream(p.data_seed, "broad source/psf", ident), p), p.simulated_scale
        psf, truth["source_seeing"] = psf_kernel(drawn, scale), drawn["seeing"]
    image = lensed_image(lens, lights, p.supersampling, 4 * truth["source_radius"], scale)
    return fftconvolve(image, psf, "same").astype(np.float32), {k: float(v) for k, v in truth.items()}


def lensed_image(
    lens: list[dict[str, float]],
    lights: list[dict[str, float]],
    supersampling: int,
    bright_radius: float,
    scale: float = SCALE,
) -> NDArray:
    """Ray-traced surface brightness (101, 101), unconvolved.

    Parameters
    ----------
    lens, lights : list of dict
        lenstronomy's arguments for ``["SIE", "SHEAR"]``, and for a ``SERSIC_ELLIPSE`` each.
    supersampling : int
        Sub-pixels a side in the pixels whose centre (or whose neighbour's) maps to within ``bright_radius`` (arcsec)
        of the first light.
    scale : float
        arcsec a pixel.
    """
    light, (grid_x, grid_y) = LightModel(["SERSIC_ELLIPSE"] * len(lights)), grid(scale)
    bx, by = _LENS.ray_shooting(grid_x.ravel(), grid_y.ravel(), lens)
    image = light.surface_brightness(bx, by, lights).reshape(SIZE, SIZE)
    if supersampling > 1:
        near = np.hypot(bx - lights[0]["center_x"], by - lights[0]["center_y"]) < bright_radius
        near = binary_dilation(near.reshape(SIZE, SIZE))
        sub = ((np.arange(supersampling) + 0.5) / supersampling - 0.5) * scale
        x = (grid_x[near][:, None, None] + sub).repeat(supersampling, 1)  # (pixels, rows, columns)
        y = (grid_y[near][:, None, None] + sub[:, None]).repeat(supersampling, 2)
        bx, by = _LENS.ray_shooting(x.ravel(), y.ravel(), lens)
        image[near] = light.surface_brightness(bx, by, lights).reshape(x.shape).mean((1, 2))
    return image


def _light(radius, index, q, angle, x, y, amplitude):
    e1, e2 = phi_q2_ellipticity(np.deg2rad(angle), q)
    return dict(amp=amplitude, R_sersic=radius, n_sersic=index, e1=e1, e2=e2, center_x=x, center_y=y)


def _lens_kwargs(truth):
    e1, e2 = phi_q2_ellipticity(np.deg2rad(truth["lens_angle"]), truth["lens_axis_ratio"])
    g1, g2 = shear_polar2cartesian(np.deg2rad(truth["shear_angle"]), truth["shear"])
    sie = dict(theta_E=truth["einstein_radius"], e1=e1, e2=e2, center_x=0.0, center_y=0.0)
    return [sie, dict(gamma1=g1, gamma2=g2, ra_0=0.0, dec_0=0.0)]


def _caustic_reach(truth, lens):
    """Largest distance of the tangential caustic from the lens' centre (arcsec).

    The tangential critical curve of an SIE is the ellipse where the convergence is one half; a shear of some per cent
    moves it by as much, which the margin of one effective radius covers.
    """
    q, phi = truth["lens_axis_ratio"], np.deg2rad(truth["lens_angle"])
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    u, v = truth["einstein_radius"] / np.sqrt(q) * np.cos(t), truth["einstein_radius"] * np.sqrt(q) * np.sin(t)
    bx, by = _LENS.ray_shooting(u * np.cos(phi) - v * np.sin(phi), u * np.sin(phi) + v * np.cos(phi), lens)
    return np.hypot(bx, by).max()
