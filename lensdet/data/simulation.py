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
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal import fftconvolve

from lensdet.data import light
from lensdet.data.lensing import SOURCE_PSF
from lensdet.data.light import SIZE, X, Y, moffat_psf, sersic
from lensdet.data.random import stream
from lensdet.parameters import Parameters

SKY_NOISE = 1.8e-12  # flux a pixel, zero point 0
PHOTONS_PER_SIGMA = 140.0  # electrons in one sigma of sky: 20,000 electrons of sky a pixel
NOISE_CORRELATION = 0.104  # weight of each neighbour in a row or column: lag-1 correlation 0.2
NEIGHBOUR_COUNTS = np.array([101, 53, 28, 17, 8, 1]) / 208  # of 0 ... 5 bright neighbours
KINDS = ("spiral", "ring", "merger", "edge-on", "star", "blend")
_KIND_SHARES = (0.36, 0.18, 0.17, 0.13, 0.05, 0.11)


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


def _galaxy_light(galaxy):
    """The central galaxy, (101, 101); the unit is its peak."""
    shape = (galaxy["radius"], galaxy["sersic"], galaxy["axis_ratio"], galaxy["angle"], galaxy["x"], galaxy["y"])
    return light.unit(light.central_sersic(*shape), SOURCE_PSF)


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
        blob = sersic(0.12 if star else radius, 0.5 if star else index, 1.0 if star else q, angle, x, y)
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
    u, v = X * np.cos(angle) + Y * np.sin(angle), (Y * np.cos(angle) - X * np.sin(angle)) / q
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
    smeared = fftconvolve(image, SOURCE_PSF, "same")
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
    image = light.unit(
        sersic(mix((0.5, 1.0), (0.25, 0.6)), rng.uniform(1, 3), rng.uniform(0.4, 1), rng.uniform(0, 180), x, y),
        SOURCE_PSF,
    )
    for _ in range(rng.integers(1, 3)):  # tails: arcs about a point that is not the galaxy
        x, y = rng.normal(0, mix((0.8, 1.4), (0.1, 0.6)), 2)
        tail = _arc(np.hypot(X - x, Y - y), np.arctan2(Y - y, X - x), radius * rng.uniform(0.8, 1.6),
                    mix((0.35, 0.7), (0.2, 0.35)), rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 2.6))  # fmt: skip
        image = image + rng.uniform(0.3, 1.0) * tail
    return image


def _edge_on(draws, angle, radius):
    """A thin disc: the galaxy's own, or as hardness grows a companion that lies like an arc."""
    rng = draws.rng
    thin, length = rng.uniform(0.12, 0.25), draws.mix((0.9, 1.8), (0.5, 1.1))
    x, y = _place(draws, angle, radius)
    tilt = np.rad2deg(angle) + 90 + rng.normal(0, 20)
    return sersic(length, 1.0, thin, tilt, x, y)


def _star(draws, angle, radius):
    """A point with diffraction spikes, in the middle or as hardness grows beside it."""
    rng = draws.rng
    x, y = _place(draws, angle, radius)
    dx, dy, tilt = X - x, Y - y, rng.uniform(0, np.pi / 2)
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
        blob = sersic(rng.uniform(0.2, 0.6), rng.uniform(0.7, 3), mix((0.5, 1.0), (0.2, 0.7)), tilt,
                       d * np.cos(phi), d * np.sin(phi))  # fmt: skip
        image += light.unit(blob, SOURCE_PSF) * rng.uniform(0.4, 1.0)
    return image
