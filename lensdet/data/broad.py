"""The broad survey: galaxies, PSFs, neighbours and noise as varied as in surveys other than the thesis' KiDS stamps.

A finder that learnt from `lensdet.data.simulation` alone has seen one PSF, de Vaucouleurs galaxies, one neighbour, and
one depth.  Here each of these is a range (`lensdet.sections.Broad`), wide enough to take in real stamps of KiDS, DES
and Pan-STARRS1, and negatives are of named classes (`lensdet.data.contaminants`).

Galaxies and contaminants are drawn alike but for what makes the contaminant one: same sky, noise, PSFs, neighbours and
peaks.  Each object has streams of its own, as in `lensdet.data.simulation`.  Not simulated: other bands, dust, and a
PSF that varies within a stamp.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal import fftconvolve

from lensdet.data import contaminants, light
from lensdet.data.light import SIZE
from lensdet.data.random import stream
from lensdet.parameters import Parameters

_SLOPE = 0.8  # objects brighter than S are as S ** -0.8, which is 0.32 dex a magnitude; a choice
_CLOSE = 1.6  # arcsec: what is closer is part of the object, and no neighbour


def render(
    cls: str, ident: int, parameters: Parameters, neighbours: bool = True, structure: bool = True
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A stamp of a galaxy that may be a lens, or of a contaminant.

    Parameters are those of `simulation.render`.

    Returns
    -------
    pixels : float32 array (101, 101)
        Over the noise of a sky pixel.
    truth : dict
        Lengths in arcsec, angles in degrees, fluxes over the noise of a sky pixel; ``kind`` is "lrg", or one of
        `contaminants.KINDS`.
    """
    p = parameters
    rng = {
        what: stream(p.data_seed, f"broad {cls}/{what}", ident)
        for what in ("galaxy", "psf", "neighbours", "noise", "kind")
    }
    galaxy, psf = _draw_galaxy(rng["galaxy"], p), light.draw_psf(rng["psf"], p)
    kernel = light.psf_kernel(psf, p.simulated_scale)
    made = contaminants.Structure("lrg")
    if cls == "contaminant":
        made = contaminants.draw(rng["kind"], galaxy, kernel, p.simulated_scale)
    body = made.host * light.unit(_galaxy_light(galaxy, p.simulated_scale), kernel)
    body, extra = (np.maximum(fftconvolve(part, kernel, "same"), 0) for part in (body, body * 0 + made.light))
    extra += made.seen
    # as bright at its peak whatever it is; an empty sky is as empty as it would be beside this galaxy
    scale = galaxy["peak_snr"] * made.brightness / ((body + extra).max() or 1.0)
    galaxy_there = made.host > 0 and made.brightness == 1  # else what is close would be in the empty centre
    around, count = _neighbours(rng["neighbours"], kernel, galaxy["peak_snr"], p, galaxy_there)
    parts = {"body": scale * body, "structure": scale * extra, "neighbours": around}
    noise, sky = _noise(rng["noise"], sum(parts.values()), p)
    shown = parts["body"] + noise
    shown += parts["structure"] if structure else 0
    shown += parts["neighbours"] if neighbours else 0
    shown = made.defect(shown) if structure else shown
    truth = {"kind": made.kind, **galaxy, **psf, **sky, "neighbours": count}
    return shown.astype(np.float32), truth


def _draw_galaxy(rng, p):
    log_uniform = lambda low_high: float(np.exp(rng.uniform(*np.log(low_high))))  # noqa: E731
    galaxy = {
        "peak_snr": log_uniform(p.peak_snr),
        "radius": log_uniform(p.host_radius),
        "sersic": float(rng.uniform(*p.host_sersic)),
        "axis_ratio": float(rng.uniform(*p.host_axis_ratio)),
        "angle": float(rng.uniform(0, 180)),
        "disc": float(rng.uniform(*p.host_disc) * (rng.random() < 0.5)),
        "disc_radius": float(rng.uniform(1.0, 3.0)),  # over the bulge's
        "disc_sersic": float(rng.uniform(0.4, 1.1)),  # exponential, or flatter with an edge
        "disc_axis_ratio": float(rng.uniform(0.2, 1.0)),
        "disc_angle": float(rng.normal(0, 10)),  # from the bulge's
    }
    galaxy["x"], galaxy["y"] = (float(v) for v in rng.uniform(-0.2, 0.2, 2))
    return galaxy


def _galaxy_light(galaxy, scale):
    """Bulge and disc, (101, 101), unconvolved, of unit sum but for what lies beyond the stamp."""
    place = galaxy["x"], galaxy["y"]
    bulge = light.central_sersic(
        galaxy["radius"], galaxy["sersic"], galaxy["axis_ratio"], galaxy["angle"], *place, scale
    )
    image = bulge / bulge.sum()
    if galaxy["disc"]:
        angle = galaxy["angle"] + galaxy["disc_angle"]
        disc = light.central_sersic(
            galaxy["radius"] * galaxy["disc_radius"],
            galaxy["disc_sersic"],
            galaxy["disc_axis_ratio"],
            angle,
            *place,
            scale,
        )
        image = (1 - galaxy["disc"]) * image + galaxy["disc"] * disc / disc.sum()
    return image


def _neighbours(rng, kernel, peak_snr, p, galaxy_there=True):
    """Light of other objects in the field, convolved, over the noise of a sky pixel; and how many are above 4 sigma.

    Peaks are those of the sky, whatever is in the centre, up to three times as bright as that.  A quarter are stars.
    Some galaxies have one or two objects close by (``close_companions``), at 0.7 to 3 arcsec (log-uniform) and with
    peaks of 0.02 to 1 of the galaxy's (log-uniform).
    """
    bright, faint = rng.poisson(rng.uniform(*p.neighbours)), rng.poisson(3.0)
    close = int(rng.integers(1, 3)) if rng.random() < p.close_companions and galaxy_there else 0
    image, half = np.zeros((SIZE, SIZE)), light.CENTRE * p.simulated_scale
    offset = (np.arange(len(kernel)) - len(kernel) // 2) * p.simulated_scale
    for i in range(bright + faint + close):
        x, y = rng.uniform(-1.05 * half, 1.05 * half, 2)
        if np.hypot(x, y) < _CLOSE:
            x, y = x + np.copysign(_CLOSE, x), y + np.copysign(_CLOSE, y)
        peak = 4 * rng.random() ** (-1 / _SLOPE) if i < bright else rng.uniform(0.5, 4)
        if i >= bright + faint:
            away, towards = np.exp(rng.uniform(np.log(0.7), np.log(3.0))), rng.uniform(0, 2 * np.pi)
            x, y, peak = away * np.cos(towards), away * np.sin(towards), peak_snr * 0.02 ** rng.random()
        star, radius, index = rng.random() < 0.25, np.exp(rng.uniform(np.log(0.15), np.log(1.2))), rng.uniform(0.7, 4)
        shape = (0.05, 0.5, 1.0, 0.0) if star else (radius, index, rng.uniform(0.3, 1), rng.uniform(0, 180))
        # its peak after the PSF: the sum of its light about its centre with the kernel's weights
        convolved = (light.sersic(*shape, 0, 0, *np.meshgrid(offset, offset)) * kernel).sum()
        blob = light.sersic(*shape, x, y, *light.grid(p.simulated_scale))
        image += blob / convolved * min(peak, 3 * peak_snr)
    return np.maximum(fftconvolve(image, kernel, "same"), 0), int(bright)


def _noise(rng, signal, p):
    """Noise of sky and photons over the sky's sigma, correlated as resampling leaves it, with a sloping sky.

    The kernel that white noise is smoothed with is (b, a, 1, a, b) along each axis.  With b below 0 it is that of
    Lanczos: adjacent pixels alike, the next ones less than independent.
    """
    wanted, ratio = rng.uniform(*p.noise_correlation), rng.uniform(-0.4, 0.1)
    a = np.linspace(0, 0.7, 200)
    b = ratio * a
    a = np.interp(wanted, 2 * a * (1 + b) / (1 + 2 * a**2 + 2 * b**2), a)
    kernel = np.array([ratio * a, a, 1, a, ratio * a])
    kernel /= np.sqrt((kernel**2).sum())
    white = rng.standard_normal((SIZE + 4, SIZE + 4))
    smooth = convolve1d(convolve1d(white, kernel, 0), kernel, 1)[2:-2, 2:-2]
    photons = np.exp(rng.uniform(np.log(50), np.log(1000)))  # electrons in one sigma of sky: shallow to deep
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(*p.sky_gradient)
    x, y = light.grid(1 / SIZE)
    gradient = slope * (x * np.cos(angle) + y * np.sin(angle))
    drawn = {"noise_correlation": float(wanted), "sky_gradient": float(slope)}
    return smooth * np.sqrt(1 + np.maximum(signal, 0) / photons) + gradient, drawn
