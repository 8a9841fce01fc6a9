"""The embedded survey: luminous red galaxies, lensed sources and contaminants as KiDS r-band stamps.

Calibrated on the few numbers known of the thesis' stamps: pixel scale 0.2 arcsec; a Moffat PSF of 2.99 pixels FWHM and
beta 2.07; sky noise 1.8e-12 (zero point 0) with a correlation of 0.2 between adjacent pixels, measured on a KiDS
stamp; a normalised sky of 0.023; neighbour counts of 208 LRG stamps; in 1 of 46 a neighbour outshines the centre.

Each object is drawn from streams of its own, by id and purpose, so that it can be made again without its neighbours
or its structure, under the same noise.  The noise is that of the whole image (sky and photons), whatever is left out.
LRGs and contaminants share sky, noise, seeing, neighbours and the distribution of peak signal-to-noise, so that none of
these tells one from the other.

Not simulated: other bands, artefacts of reduction, a varying PSF of the lensed sources (the thesis had one, too), and
the small-scale perturbations of the lens' potential in Petrillo et al. (2019a).
"""

from typing import Any, NamedTuple

import numpy as np
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, convolve1d
from scipy.signal import fftconvolve

from lensdet.data.random import stream
from lensdet.parameters import Parameters

SIZE, SCALE = 101, 0.2  # pixels a side; arcsec a pixel
CENTRE = SIZE // 2
SKY_NOISE = 1.8e-12  # flux a pixel, zero point 0
PHOTONS_PER_SIGMA = 140.0  # electrons in one sigma of sky: 20,000 electrons of sky a pixel
NOISE_CORRELATION = 0.104  # weight of each neighbour in a row or column: lag-1 correlation 0.2
NEIGHBOUR_COUNTS = np.array([101, 53, 28, 17, 8, 1]) / 208  # of 0 ... 5 bright neighbours
SOURCE_SEEING = 0.598  # arcsec, the survey's mean r-band PSF
KINDS = ("spiral", "ring", "merger", "edge-on", "star", "blend")
_KIND_SHARES = (0.36, 0.18, 0.17, 0.13, 0.05, 0.11)

_AXIS = (np.arange(SIZE) - CENTRE) * SCALE
_X, _Y = np.meshgrid(_AXIS, _AXIS)  # arcsec from the centre of the stamp, (101, 101)
_SERSIC = LightModel(["SERSIC_ELLIPSE"])
_LENS = LensModel(["SIE", "SHEAR"])


def moffat_psf(fwhm: float, beta: float = 2.07, size: int = 25) -> NDArray:
    """Round Moffat kernel (size, size) of unit sum, centred; FWHM in arcsec."""
    r = np.arange(size) - size // 2
    width = fwhm / SCALE / (2 * np.sqrt(2 ** (1 / beta) - 1))
    kernel = (1 + (r[:, None] ** 2 + r**2) / width**2) ** -beta
    return kernel / kernel.sum()


_SOURCE_PSF = moffat_psf(SOURCE_SEEING)


def render(
    cls: str, ident: int, parameters: Parameters, neighbours: bool = True, structure: bool = True
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A stamp of a luminous red galaxy or a contaminant.

    Parameters
    ----------
    cls : {"lrg", "contaminant"}
    ident : int
        The object's id; the same id and data seed give the same pixels.
    parameters : lensdet.parameters.Parameters
    neighbours, structure : bool
        Leave out the neighbours, or what makes the contaminant one, under the same noise.

    Returns
    -------
    pixels : float32 array (101, 101)
        Flux, zero point 0.
    truth : dict
        Lengths in arcsec, angles in degrees, fluxes over the noise of a sky pixel.
    """
    purposes = ("galaxy", "neighbours", "noise", "kind")
    rng = {what: stream(parameters.data_seed, f"{cls}/{what}", ident) for what in purposes}
    galaxy = _draw_galaxy(rng["galaxy"])
    psf = moffat_psf(galaxy["seeing"])
    around, n_neighbours = _neighbours(rng["neighbours"])
    kind, extra, host = "lrg", 0.0, 1.0
    if cls == "contaminant":
        kind, extra, host = _contaminant(rng["kind"], parameters.hardness)
        extra = fftconvolve(extra, psf, "same")
    body = fftconvolve(_galaxy_light(galaxy), psf, "same") * host
    peak = (body + extra).max()
    # neighbours are relative to the peak of the whole object: as bright beside a contaminant as beside an LRG
    parts = {"body": body / peak, "structure": extra / peak, "neighbours": fftconvolve(around, psf, "same")}
    parts = {name: galaxy["peak_snr"] * np.maximum(part, 0) for name, part in parts.items()}
    noise = _noise(rng["noise"], sum(parts.values()))
    shown = (
        parts["body"] + noise + (parts["structure"] if structure else 0) + (parts["neighbours"] if neighbours else 0)
    )
    flux = SKY_NOISE * galaxy["sky_noise"]
    truth = {"kind": kind, **galaxy, "sky_noise": flux, "neighbours": n_neighbours}
    return (shown * flux).astype(np.float32), truth


def _draw_galaxy(rng):
    return {
        "peak_snr": float(np.clip(130 * np.exp(0.45 * rng.standard_normal()), 25, 600)),
        "sky_noise": float(np.exp(0.1 * rng.standard_normal())),
        "seeing": float(np.clip(rng.normal(0.65, 0.06), 0.5, 0.85)),
        "radius": float(np.clip(1.1 * np.exp(0.35 * rng.standard_normal()), 0.4, 3.0)),
        "sersic": float(np.clip(rng.normal(4.0, 0.7), 2.0, 6.0)),
        "axis_ratio": float(1 - 0.5 * rng.beta(1.6, 2.2)),
        "angle": float(rng.uniform(0, 180)),
        "x": float(rng.uniform(-0.1, 0.1)),
        "y": float(rng.uniform(-0.1, 0.1)),
    }


def _sersic(radius, index, q, angle, x0=0.0, y0=0.0, x=_X, y=_Y):
    """Sersic profile, 1 at the effective radius (arcsec); the angle in degrees."""
    e1, e2 = phi_q2_ellipticity(np.deg2rad(angle), q)
    kwargs = dict(amp=1.0, R_sersic=radius, n_sersic=index, e1=e1, e2=e2, center_x=x0, center_y=y0)
    return _SERSIC.surface_brightness(x, y, [kwargs])


def _galaxy_light(galaxy):
    """The central galaxy, (101, 101), with its cusp integrated over 5 x 5 sub-pixels; the unit is its peak."""
    shape = (galaxy["radius"], galaxy["sersic"], galaxy["axis_ratio"], galaxy["angle"], galaxy["x"], galaxy["y"])
    image = _sersic(*shape)
    core = slice(CENTRE - 6, CENTRE + 7)
    sub = (np.arange(5) - 2) / 5 * SCALE
    x, y = np.broadcast_arrays(_X[core, core, None, None] + sub, _Y[core, core, None, None] + sub[:, None])
    image[core, core] = _sersic(*shape, x=x, y=y).mean((-1, -2))
    return image / fftconvolve(image, _SOURCE_PSF, "same").max()


def _noise(rng, signal):
    """Noise of sky and photons in units of the sky's sigma, correlated as in a resampled co-added image."""
    white = rng.standard_normal((SIZE + 2, SIZE + 2))
    kernel = np.array([NOISE_CORRELATION, 1, NOISE_CORRELATION])
    kernel /= np.sqrt((kernel**2).sum())
    smooth = convolve1d(convolve1d(white, kernel, 0), kernel, 1)[1:-1, 1:-1]
    return smooth * np.sqrt(1 + signal / PHOTONS_PER_SIGMA)


def _neighbours(rng):
    """Light of the other objects in the field, unconvolved, relative to the central peak; and how many bright ones."""
    bright, faint = rng.choice(6, p=NEIGHBOUR_COUNTS), rng.poisson(2.5)
    image = np.zeros((SIZE, SIZE))
    for i in range(bright + faint):
        low, high = (0.08, 1.3) if i < bright else (0.02, 0.08)
        x, y = rng.uniform(-10.5, 10.5, 2)
        if np.hypot(x, y) < 1.6:  # would be part of the object, not a neighbour
            x, y = x + np.copysign(1.6, x), y + np.copysign(1.6, y)
        peak = np.exp(rng.uniform(np.log(low), np.log(high))) * (2.0 if rng.random() < 0.06 else 1.0)
        star = rng.random() < 0.25
        radius, index, q, angle = (
            rng.uniform(0.15, 0.7),
            rng.uniform(0.7, 2.5),
            rng.uniform(0.35, 1),
            rng.uniform(0, 180),
        )
        blob = _sersic(0.12 if star else radius, 0.5 if star else index, 1.0 if star else q, angle, x, y)
        # what the seeing leaves of the peak of an object of this size, roughly: keeps "peak" a peak
        size = 0.12 if star else radius
        image += blob * peak / max(blob.max(), 1e-9) * (1 + (0.28 / size) ** 2)
    return image, int(bright)


def _arc(r, theta, radius, width, start, length):
    """A piece of a ring: Gaussian across, soft ends; radii in arcsec, angles in radians."""
    along = np.abs((theta - start + np.pi) % (2 * np.pi) - np.pi)
    return np.exp(-0.5 * ((r - radius) / width) ** 2) / (1 + np.exp((along - length / 2) * radius / 0.25))


class _Draws(NamedTuple):
    """Where a contaminant's numbers come from."""

    rng: np.random.Generator
    hardness: float

    def mix(self, easy: tuple[float, float], hard: tuple[float, float]) -> float:
        """A draw between the range of a plain structure and that of a lens-like one."""
        u, h = self.rng.random(), self.hardness
        return (1 - h) * (easy[0] + u * (easy[1] - easy[0])) + h * (hard[0] + u * (hard[1] - hard[0]))


def _contaminant(rng, hardness):
    """What makes a contaminant one.

    ``hardness`` moves every structure from plain (bright, broad, radial, symmetric) to lens-like (as faint as the arcs
    of mock lenses, thin, tangential, around a galaxy drawn as an LRG is).

    Returns
    -------
    kind : str
    image : float array (101, 101)
        Unconvolved light; 1 is about the central galaxy's peak.
    host : float
        Brightness of the central galaxy, 1 but for stars.
    """
    draws = _Draws(rng, hardness)
    kind = str(rng.choice(KINDS, p=_KIND_SHARES))
    strength, host = draws.mix((0.12, 0.6), (0.02, 0.3)), 1.0
    angle = rng.uniform(0, 2 * np.pi)
    q = rng.uniform(0.5, 1.0)
    u, v = _X * np.cos(angle) + _Y * np.sin(angle), (_Y * np.cos(angle) - _X * np.sin(angle)) / q
    r, theta = np.hypot(u, v), np.arctan2(v, u)  # on the plane of an inclined disc
    radius = np.exp(rng.uniform(np.log(1.0), np.log(3.8)))  # arcsec, of whatever is around the galaxy
    if kind == "spiral":
        image = _spiral(draws, r, theta, radius)
    elif kind == "ring":
        image = _ring(draws, r, theta, radius)
    elif kind == "merger":
        image = _merger(draws, angle, radius)
    elif kind == "edge-on":
        image = _edge_on(draws, angle, radius)
    elif kind == "star":
        image = _star(draws, angle, radius)
        strength, host = max(strength * 2, 0.2), draws.mix((0.0, 0.2), (0.8, 1.0))
    else:
        image = _blend(draws, radius)
    smeared = fftconvolve(image, _SOURCE_PSF, "same")
    return kind, strength * image / smeared.max(), host


def _spiral(draws, r, theta, radius):
    """Arms with knots on a disc, which has a hole as hardness grows."""
    rng, mix = draws.rng, draws.mix
    arms = rng.choice([2, 2, 2, 3, 4])
    pitch = np.deg2rad(mix((18, 32), (7, 16)))
    wave = 0.5 + 0.5 * np.cos(arms * (theta - np.log(np.maximum(r, 0.05) / radius) / np.tan(pitch)))
    contrast, scale = mix((0.4, 0.8), (0.85, 1.0)), 0.55 * radius
    knots = 1 + mix((0.0, 0.3), (0.2, 0.8)) * np.cos(theta * rng.integers(1, 4) + rng.uniform(0, 6))
    disc = np.exp(-r / scale) * (1 - np.exp(-((r / (0.6 * radius)) ** 3)) * draws.hardness)
    return disc * (1 - contrast + contrast * knots * wave ** mix((1, 2), (2, 5)))


def _ring(draws, r, theta, radius):
    """A ring with knots, and a disc in it."""
    rng, mix = draws.rng, draws.mix
    width = mix((0.35, 0.7), (0.15, 0.35))
    image = np.exp(-0.5 * ((r - radius) / width) ** 2)
    image *= 1 + mix((0.0, 0.3), (0.2, 0.95)) * np.cos(theta * rng.integers(1, 4) + rng.uniform(0, 6))
    image += mix((0.2, 0.8), (0.0, 0.2)) * np.exp(-r / (0.6 * radius))
    return image


def _merger(draws, angle, radius):
    """A second galaxy and tails."""
    rng, mix = draws.rng, draws.mix
    x, y = radius * 0.8 * np.cos(angle), radius * 0.8 * np.sin(angle)
    image = _unit(
        _sersic(mix((0.5, 1.0), (0.25, 0.6)), rng.uniform(1, 3), rng.uniform(0.4, 1), rng.uniform(0, 180), x, y)
    )
    for _ in range(rng.integers(1, 3)):  # tails: arcs about a point that is not the galaxy
        x, y = rng.normal(0, mix((0.8, 1.4), (0.1, 0.6)), 2)
        tail = _arc(np.hypot(_X - x, _Y - y), np.arctan2(_Y - y, _X - x), radius * rng.uniform(0.8, 1.6),
                    mix((0.35, 0.7), (0.2, 0.35)), rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 2.6))  # fmt: skip
        image = image + rng.uniform(0.3, 1.0) * tail
    return image


def _edge_on(draws, angle, radius):
    """A thin disc: the galaxy's own, or as hardness grows a companion that lies like an arc."""
    rng = draws.rng
    thin, length = rng.uniform(0.12, 0.25), draws.mix((0.9, 1.8), (0.5, 1.1))
    x, y = _place(draws, angle, radius)
    tilt = np.rad2deg(angle) + 90 + rng.normal(0, 20)
    return _sersic(length, 1.0, thin, tilt, x, y)


def _star(draws, angle, radius):
    """A point with diffraction spikes, in the middle or as hardness grows beside it."""
    rng = draws.rng
    x, y = _place(draws, angle, radius)
    dx, dy, tilt = _X - x, _Y - y, rng.uniform(0, np.pi / 2)
    image = np.exp(-0.5 * (dx**2 + dy**2) / 0.12**2)
    for a in (tilt, tilt + np.pi / 2):  # diffraction spikes
        across, along = dx * np.cos(a) + dy * np.sin(a), dx * np.sin(a) - dy * np.cos(a)
        image += rng.uniform(0.02, 0.06) * np.exp(-0.5 * (across / 0.15) ** 2 - np.abs(along) / rng.uniform(1, 3))
    return image


def _place(draws, angle, radius):
    """Where an object lies: in the middle, or as likely as hardness is at a radius, as an arc would."""
    return (radius * np.cos(angle), radius * np.sin(angle)) if draws.rng.random() < draws.hardness else (0.0, 0.0)


def _blend(draws, radius):
    """Small galaxies close by, stretched about the centre as hardness grows."""
    rng, mix = draws.rng, draws.mix
    image = np.zeros((SIZE, SIZE))
    for _ in range(rng.integers(1, 4)):
        phi = rng.uniform(0, 2 * np.pi)
        d = radius * rng.uniform(0.7, 1.2)
        tilt = np.rad2deg(phi) + 90 + rng.normal(0, 60 * (1 - draws.hardness) + 15)
        blob = _sersic(rng.uniform(0.2, 0.6), rng.uniform(0.7, 3), mix((0.5, 1.0), (0.2, 0.7)), tilt,
                       d * np.cos(phi), d * np.sin(phi))  # fmt: skip
        image += _unit(blob) * rng.uniform(0.4, 1.0)
    return image


def _unit(image):
    return image / fftconvolve(image, _SOURCE_PSF, "same").max()


def render_source(ident: int, parameters: Parameters) -> tuple[NDArray[np.float32], dict[str, float]]:
    """A lensed source: SIE and external shear, an elliptical Sersic galaxy with clumps; noiseless, PSF-convolved.

    Rays are shot with lenstronomy through pixel centres, and through ``supersampling`` x ``supersampling`` points of
    each pixel that the galaxy's light reaches.  The source lies in the disc that the tangential caustic spans, plus
    one effective radius, so that most (about 15 of 16) have more than one image.  Clumps below 0.02 arcsec are not
    resolved and not made.

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
    image = lensed_image(lens, lights, p.supersampling, 4 * truth["source_radius"])
    return fftconvolve(image, _SOURCE_PSF, "same").astype(np.float32), {k: float(v) for k, v in truth.items()}


def lensed_image(
    lens: list[dict[str, float]], lights: list[dict[str, float]], supersampling: int, bright_radius: float
) -> NDArray:
    """Ray-traced surface brightness (101, 101), unconvolved.

    Parameters
    ----------
    lens, lights : list of dict
        lenstronomy's arguments for ``["SIE", "SHEAR"]``, and for a ``SERSIC_ELLIPSE`` each.
    supersampling : int
        Sub-pixels a side in the pixels whose centre (or whose neighbour's) maps to within ``bright_radius`` (arcsec)
        of the first light.
    """
    light = LightModel(["SERSIC_ELLIPSE"] * len(lights))
    bx, by = _LENS.ray_shooting(_X.ravel(), _Y.ravel(), lens)
    image = light.surface_brightness(bx, by, lights).reshape(SIZE, SIZE)
    if supersampling > 1:
        near = np.hypot(bx - lights[0]["center_x"], by - lights[0]["center_y"]) < bright_radius
        near = binary_dilation(near.reshape(SIZE, SIZE))
        sub = ((np.arange(supersampling) + 0.5) / supersampling - 0.5) * SCALE
        x = (_X[near][:, None, None] + sub).repeat(supersampling, 1)  # (pixels, rows, columns)
        y = (_Y[near][:, None, None] + sub[:, None]).repeat(supersampling, 2)
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
