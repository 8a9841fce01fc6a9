"""Negatives of the broad survey, by named class: what makes a stamp one that a finder must not take for a lens.

Two sorts: objects that look like lenses (arms, rings, tails, shells, companions that lie like arcs), and stamps on
which people and pipelines stumble (stars, trails, cosmic rays, bad pixels, edges, empty sky).  Structure that lies
around a galaxy is as faint as arcs of mock lenses are, and wide enough for the stamp's PSF to show it.

Every range that is drawn from is in the docstring of the function that draws.  All are choices, made by looking at
real stamps of KiDS and DES (``benchmarks/contact_sheets.py``), and none was fitted.  Lengths are in arcsec, angles in
degrees; "log-uniform" is named where it is meant, other ranges are uniform.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from lensdet.data import light
from lensdet.data.light import CENTRE, SIZE

# What people are shown most often in the place of lenses has the largest shares; a choice.
KINDS = {
    "spiral": 0.20,
    "ring": 0.12,
    "merger": 0.12,
    "edge-on": 0.08,
    "companions": 0.14,
    "star": 0.06,
    "star beside": 0.03,
    "trail": 0.04,
    "cosmic ray": 0.04,
    "bad pixels": 0.03,
    "tile edge": 0.04,
    "sky step": 0.02,
    "empty": 0.03,
    "faint": 0.03,
    "off-centre": 0.02,
}
_CORE = 2.0  # arcsec from the centre: no stamp that is filled there is ranked (`lensdet.survey.cutting`)


class Structure(NamedTuple):
    """What is added to a galaxy, or put in its place."""

    kind: str = ""
    light: NDArray | float = 0.0  # (101, 101), unconvolved; 1 is the galaxy's peak after the PSF
    host: float = 1.0  # brightness of the central galaxy; 0 where there is none
    brightness: float = 1.0  # peak of the whole over that drawn for the galaxy; small for faint sources
    defect: Callable[[NDArray], NDArray] = staticmethod(lambda pixels: pixels)  # of the detector or the reduction
    seen: NDArray | float = 0.0  # as `light`, for what reaches beyond the stamp: with the PSF already in it


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
    """
    half = psf[len(psf) // 2, len(psf) // 2 :]
    fwhm = 2 * scale * np.interp(-0.5, -half / half[0], np.arange(len(half)))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    return _DRAWN[kind](_Scene(rng, galaxy, psf, scale, float(fwhm)))._replace(kind=kind)


class _Scene(NamedTuple):
    """What a contaminant is drawn with: its random numbers, the galaxy, the PSF and the pixels."""

    rng: np.random.Generator
    galaxy: dict[str, float]
    psf: NDArray
    scale: float
    fwhm: float  # arcsec, of the PSF

    @property
    def half(self):
        """Half a stamp, arcsec."""
        return CENTRE * self.scale

    def log(self, low, high):
        """A log-uniform draw; ``low`` where that is the larger."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(max(low, high)))))

    def strength(self, low=0.02, high=0.5):
        """Peak of a structure over the galaxy's, log-uniform; not below 2 sigma of the sky, where nothing is seen."""
        return self.log(np.clip(2 / self.galaxy["peak_snr"], low, high), high)

    def unit(self, image):
        return light.unit(image, self.psf) if np.any(image) else image

    def plane(self, axis_ratio, angle, x=0.0, y=0.0):
        """Radius (arcsec) and azimuth (radians) of each pixel on the plane of an inclined disc about a point."""
        along, across = self.turned(angle, x, y)
        return np.hypot(along, across / axis_ratio), np.arctan2(across / axis_ratio, along)

    def turned(self, angle, x=0.0, y=0.0):
        """Each pixel's place along and across an axis through a point, arcsec."""
        (gx, gy), cos, sin = light.grid(self.scale), np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        return (gx - x) * cos + (gy - y) * sin, (gy - y) * cos - (gx - x) * sin

    def dots(self, x: ArrayLike, y: ArrayLike, sigma: ArrayLike, weight: ArrayLike):
        """Round Gaussians of a sum each, anywhere: knots, or a stroke where they follow each other closely."""
        x, y, sigma, weight = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (x, y, sigma, weight)))
        sigma = np.maximum(sigma, 0.4 * self.scale)[:, None]
        axis = (np.arange(SIZE) - CENTRE) * self.scale
        bell = [np.exp(-0.5 * ((axis - at[:, None]) / sigma) ** 2) for at in (x, y)]
        return (bell[1] * weight[:, None] * (self.scale / sigma) ** 2).T @ bell[0]

    def sersic(self, radius, index, axis_ratio, angle, x, y):
        """A Sersic profile, its peak 1 after the PSF; about its middle integrated over 5 x 5 points of a pixel."""
        shape, (gx, gy) = (radius, index, axis_ratio, angle, x, y), light.grid(self.scale)
        image = light.sersic(*shape, gx, gy)
        column, row = (int(np.rint(v / self.scale)) + CENTRE for v in (x, y))
        core = tuple(slice(max(v - 3, 0), max(v + 4, 0)) for v in (row, column))
        if image[core].size:
            sub = (np.arange(5) - 2) / 5 * self.scale
            sx, sy = np.broadcast_arrays(gx[core][..., None, None] + sub, gy[core][..., None, None] + sub[:, None])
            image[core] = light.sersic(*shape, x=sx, y=sy).mean((-1, -2))
        return self.unit(image)

    def knots(self, where, number):
        """Regions of star formation, as likely in a pixel as ``where`` is bright; the brightest 1 after the PSF."""
        if not number:
            return 0.0
        flat = self.rng.choice(where.size, number, p=where.ravel() / where.sum())
        x, y = ((v.ravel()[flat] + self.rng.uniform(-0.5, 0.5, number) * self.scale) for v in light.grid(self.scale))
        size = self.rng.uniform(0.05, 0.2, number)
        return self.unit(self.dots(x, y, size, np.exp(0.8 * self.rng.standard_normal(number))))

    def stroke(self, x, y, heading, length, bend, width, decay):
        """A curved band from a point: 1 at its brightest after the PSF; heading and bend in radians."""
        t = np.linspace(0, 1, max(int(length / (0.4 * self.scale)), 12))
        path = np.exp(1j * (heading + bend * t + 0.15 * _wobble(self.rng, np.pi * t, 3))) * length / len(t)
        lumps = np.exp(0.4 * _wobble(self.rng, np.pi * t, 8)) * np.exp(-decay * t) * np.minimum(1, 8 * (1 - t))
        path = x + 1j * y + np.cumsum(path)
        return self.unit(self.dots(path.real, path.imag, width * (1 + t), lumps))


def _wobble(rng, angle, orders):
    """A smooth random function of an angle (radians), of unit variance: Fourier terms of falling amplitude."""
    k = np.arange(1, orders + 1)
    terms = rng.standard_normal((2, orders)) / np.sqrt(k)
    waves = np.multiply.outer(angle, k)
    return (np.cos(waves) @ terms[0] + np.sin(waves) @ terms[1]) / np.sqrt((1 / k).sum())


def _patches(rng, turn, depth, cells):
    """A smooth random field on (turn, depth): ``cells`` patches in a turn and in a unit of depth; unit variance."""
    noise = rng.standard_normal((cells[0], 64))
    return 1.4 * map_coordinates(noise, [turn % 1 * cells[0], depth * cells[1] % 64], order=3, mode="grid-wrap")


def _spiral(s):
    """Arms that are logarithmic spirals, from grand design to flocculent, with knots; around the galaxy, or a bulge.

    Arms 2 (three in five), 3 or 4; pitch 8 to 35; axis ratio 0.35 to 1.  Radius log-uniform from where adjacent arms
    are 1.8 FWHM apart (at least 2 FWHM and 0.8) to 0.6 of half a stamp; arms that would find no room are drawn again.
     Share of flocculence 0 to 1 (half: below 0.3); arms as sharp as the 1st to 3rd power of a cosine; hole 0.3 to 0.9
    and scale length 0.4 to 1 of the radius; a third have a bar of 0.4 to 0.8 of the radius; knots 0 to 30, up to the
    arms' peak. Strength 0.02 to 0.5 of the galaxy's peak.  Two in five are spirals throughout: a bulge of 0.06 to 0.25
    of the radius, and arms of 0.15 to 3 of its peak (log-uniform) on a disc of 0.2 to 1.5 of theirs.
    """
    rng = s.rng
    for _ in range(30):
        arms, pitch, ratio = int(rng.choice([2, 2, 2, 3, 4])), np.deg2rad(rng.uniform(8, 35)), rng.uniform(0.35, 1)
        apart = np.exp(2 * np.pi * np.tan(pitch) / arms) - 1
        least = max(1.8 * s.fwhm / (apart * np.sqrt(ratio)), 2 * s.fwhm, 0.8)
        if least < 0.5 * s.half:
            break
    radius, angle = s.log(least, 0.6 * s.half), s.galaxy["angle"] + rng.normal(0, 15)
    r, theta = s.plane(ratio, angle, s.galaxy["x"], s.galaxy["y"])
    hole, bar, bar_angle = radius * rng.uniform(0.3, 0.9), radius * rng.uniform(0.4, 0.8), rng.uniform(0, np.pi)
    barred = rng.random() < 1 / 3
    depth = np.log(np.maximum(r, 0.05) / radius)
    turn = (theta - bar_angle - (depth - np.log(bar / radius)) / np.tan(pitch)) / (2 * np.pi)
    bent, rough = _patches(rng, turn, depth, (3, 2)), _patches(rng, turn, depth, (int(rng.integers(6, 14)), 3))
    crest = (0.5 + 0.5 * np.cos(2 * np.pi * arms * turn + 0.5 * bent)) ** rng.uniform(1, 3)
    crest *= np.exp(0.4 * rough) * (1 + rng.uniform(0, 0.5) * np.cos(theta - rng.uniform(0, 2 * np.pi)))
    flocculence = rng.uniform(0, 0.3) if rng.random() < 0.5 else rng.uniform(0.3, 1)
    texture = (1 - flocculence) * crest + flocculence * np.exp(1.2 * rough) / 2.5
    length = radius * rng.uniform(0.4, 1.0)
    inner = 1 - np.exp(-((r / (max(hole, 0.8 * bar) if barred else hole)) ** 3))
    lit = s.unit(texture * inner * np.exp(-r / length))
    lit = lit + rng.uniform(0, 1) * s.knots(lit * (lit > 0.3 * lit.max()), rng.integers(0, 31))
    if barred:
        along, across = r * np.cos(theta - bar_angle), r * np.sin(theta - bar_angle)
        oval = np.hypot(along / bar, across / (bar * rng.uniform(0.2, 0.4)))
        lit = lit + rng.uniform(0.3, 1.2) * s.unit(np.exp(-((oval / 0.8) ** 3)))
    if rng.random() < 0.6:
        return Structure(light=s.strength() * s.unit(lit))
    disc = rng.uniform(0.2, 1.5) * s.unit(np.exp(-r / length))
    bulge = s.sersic(
        radius * rng.uniform(0.06, 0.25), rng.uniform(1, 4), ratio**0.5, angle, s.galaxy["x"], s.galaxy["y"]
    )
    return Structure(light=bulge + s.log(0.15, 3) * s.unit(lit + disc), host=0.0)


def _ring(s):
    """A ring, inclined, off-centre, uneven and broken, or what passes for one: arms wound tightly.

    Radius log-uniform from 1.3 FWHM (at least 0.8) to half of half a stamp; axis ratio 0.4 to 1; centre off by up to
    0.15 radii (collisional: 0.1 to 0.5, with an intruder at 1.2 to 3 radii in two of three); width 0.05 to 0.3 radii,
    the outer edge 1 to 3 times as sharp; out of round by up to 0.12; brightness along it over a factor of e in either
    way, half with gaps; knots 0 to 25; a quarter with 4 to 11 spokes; inner disc up to 0.8 of the ring.  A quarter are
    pseudo-rings: two arms of pitch 3 to 9 that overlap.  Strength 0.02 to 0.5 of the galaxy's peak.
    """
    rng = s.rng
    radius, ratio = s.log(max(1.3 * s.fwhm, 0.8), 0.5 * s.half), rng.uniform(0.4, 1)
    collisional, angle = rng.random() < 0.3, rng.uniform(0, 180)
    away = radius * (rng.uniform(0.1, 0.5) if collisional else rng.uniform(0, 0.15)) * np.exp(2j * np.pi * rng.random())
    r, theta = s.plane(ratio, angle, away.real, away.imag)
    rim, width = radius * (1 + rng.uniform(0, 0.12) * _wobble(rng, theta, 4)), radius * rng.uniform(0.05, 0.3)
    if rng.random() < 0.25:  # the two arms start opposite each other and are a turn or so long
        pitch, reach = np.tan(np.deg2rad(rng.uniform(3, 9))), rng.uniform(3, 5)
        image = 0.0
        for start in rng.uniform(0, 2 * np.pi) + np.array([0, np.pi]):
            along = (theta - start) % (2 * np.pi)
            for run in (along, along + 2 * np.pi):
                arm = np.exp(-0.5 * ((r - rim * np.exp(pitch * (run - np.pi))) / width) ** 2 / (0.3 + 0.7 * ratio))
                image = image + arm / (1 + np.exp((run - reach) / 0.3))
    else:
        across = (r - rim) / width
        image = np.exp(-0.5 * np.where(across > 0, across * rng.uniform(1, 3), across) ** 2)
    image = image * np.exp(rng.uniform(0.2, 1.0) * _wobble(rng, theta, 6))
    if rng.random() < 0.5:
        image = image / (1 + np.exp(-6 * (_wobble(rng, theta, 4) + rng.uniform(-0.3, 1.0))))
    image = s.unit(image) + rng.uniform(0, 1.2) * s.knots(image + 1e-9, rng.integers(0, 26))
    inside = 1 / (1 + np.exp((r - rim) / (0.1 * radius)))
    if rng.random() < 0.25:
        spokes = np.cos(rng.integers(4, 12) / 2 * (theta + rng.uniform(-1, 1) * r / radius) + _wobble(rng, theta, 3))
        image = image + rng.uniform(0.1, 0.6) * inside * spokes**8
    image = image + rng.uniform(0, 0.8) * (rng.random() < 0.5) * inside * np.exp(-r / (radius * rng.uniform(0.3, 0.8)))
    lit = s.strength() * s.unit(image)
    if collisional and rng.random() < 2 / 3:
        at = radius * rng.uniform(1.2, 3) * np.exp(2j * np.pi * rng.random())
        lit = lit + s.log(0.1, 1) * _small(s, at.real, at.imag)
    return Structure(light=lit)


def _small(s, x, y, tilt=None, ratio=(0.3, 1.0), star=0.2):
    """A galaxy of radius 0.15 to 0.8 (log-uniform) and Sersic index 0.7 to 4, or a star; its peak 1 after the PSF."""
    if s.rng.random() < star:
        return s.unit(s.dots(x, y, 0.0, 1.0))
    angle = s.rng.uniform(0, 180) if tilt is None else tilt
    return s.sersic(s.log(0.15, 0.8), s.rng.uniform(0.7, 4), s.rng.uniform(*ratio), angle, x, y)


def _merger(s):
    """A second nucleus with tails, a bridge or shells; one in four shows those around the galaxy alone.

    Distance log-uniform from 0.9 FWHM (at least 0.6) to 5; peak 0.1 to 1 of the galaxy's (log-uniform).  Tails 1 to 3,
    of 2 to 9 and no longer than 0.9 of half a stamp, turning by 0 (one in three: nearly straight) to 3 rad, 0.12 to
    0.4 wide where they start; strength 0.02 to 0.5 of the galaxy's peak, of shells (in 45 %) 0.02 to 0.2.
    """
    rng = s.rng
    gap, azimuth = s.log(max(0.9 * s.fwhm, 0.6), min(5, 0.7 * s.half)), rng.uniform(0, 2 * np.pi)
    nuclei = np.array([0j, gap * np.exp(1j * azimuth)])
    alone, image = rng.random() < 0.25, 0.0
    shells, tails = [(1, 0), (0, 1), (1, 1)][int(np.searchsorted([0.35, 0.9], rng.random()))]
    if tails:
        for side in range(rng.integers(1, 4)):
            start = nuclei[0 if alone else side % 2]
            length = s.log(min(2, 0.5 * s.half), min(9, 0.9 * s.half))
            bend = rng.uniform(-0.3, 0.3) if rng.random() < 1 / 3 else rng.choice([-1, 1]) * rng.uniform(0.5, 3)
            heading = azimuth + np.pi * (side % 2 == 0) + rng.normal(0, 0.8)
            tail = s.stroke(start.real, start.imag, heading, length, bend, rng.uniform(0.12, 0.4), rng.uniform(0.3, 2))
            image = image + rng.uniform(0.3, 1) * tail
    if not alone and rng.random() < 0.4:
        bend = rng.normal(0, 0.8)
        bridge = s.stroke(0, 0, azimuth - bend / 2, gap * 1.05, bend, rng.uniform(0.15, 0.35), 0)
        image = image + rng.uniform(0.3, 1) * bridge
    image = s.strength() * s.unit(image)
    if shells:
        image = image + s.strength(0.02, 0.2) * s.unit(_shells(s))
    if not alone:
        x, y = nuclei[1].real, nuclei[1].imag
        image = image + s.log(0.1, 1) * s.sersic(
            s.log(0.2, 1.2), rng.uniform(1, 4), rng.uniform(0.4, 1), rng.uniform(0, 180), x, y
        )
    return Structure(light=image)


def _shells(s):
    """Arcs about the galaxy, 2 to 6, on alternate sides, sharp outside and fading inwards.

    Radii 1 to 0.75 of half a stamp, 20 to 80 degrees to either side of the axis; axis ratio 0.6 to 1.
    """
    rng = s.rng
    r, theta = s.plane(rng.uniform(0.6, 1), rng.uniform(0, 180), s.galaxy["x"], s.galaxy["y"])
    image = np.zeros((SIZE, SIZE))
    radii = np.exp(rng.uniform(*np.log([min(1, 0.3 * s.half), 0.75 * s.half]), rng.integers(2, 7)))
    for i, radius in enumerate(np.sort(radii)):
        opening, fade = np.deg2rad(rng.uniform(20, 80)), radius * rng.uniform(0.05, 0.3)
        off = np.abs((theta + np.pi * (i % 2) + rng.normal(0, 0.1) + np.pi) % (2 * np.pi) - np.pi)
        shell = np.exp(np.minimum(r - radius, 0) / fade) / (1 + np.exp((r - radius) / (0.3 * s.scale)))
        image += rng.uniform(0.4, 1) * shell / (1 + np.exp((off - opening) / 0.12)) / radius
    return image


def _edge_on(s):
    """A disc seen from its edge, with a dust lane or without; or beside the galaxy and across its radius, as an arc is.

    Half are the object itself: scale length log-uniform from 0.8 to 3, thickness 0.08 to 0.25 of it and at least 0.3
    FWHM, bulge up to 0.9 of the whole, the ends warped by up to 0.1; three in five with a lane that takes 30 to 95 %
    of the light, its width 0.25 to 0.8 of the disc's, off the middle by up to 0.5 of that.  The others lie at 1 FWHM
    (at least 1) to 5 from the galaxy, log-uniform, across the radius within 20 degrees (one sigma), scale length 0.4
    to 1.2, strength 0.02 to 1.
    """
    rng = s.rng
    beside, azimuth = rng.random() < 0.5, rng.uniform(0, 360)
    away = s.log(max(s.fwhm, 1), min(5, 0.6 * s.half)) if beside else 0.0
    length = s.log(0.4, 1.2) if beside else s.log(0.8, min(3, 0.3 * s.half))
    x, y = away * np.cos(np.deg2rad(azimuth)), away * np.sin(np.deg2rad(azimuth))
    along, across = s.turned(azimuth + 90 + rng.normal(0, 20), x, y)
    thick = length * rng.uniform(0.08, 0.25)
    thick = thick if beside else max(thick, 0.3 * s.fwhm)
    across = across + rng.uniform(-0.1, 0.1) * along**2 / length * (rng.random() < 0.5 or beside)
    fall = np.exp(-2 * np.abs(across) / thick)
    image = s.unit(np.exp(-np.hypot(along, 0.2 * s.scale) / length) * fall / (1 + fall) ** 2)  # sech squared
    if beside:
        return Structure(light=s.strength(0.02, 1) * image)
    image = image + rng.uniform(0, 0.9) * s.sersic(
        length * rng.uniform(0.1, 0.4), rng.uniform(1, 4), rng.uniform(0.5, 1), azimuth + 90, 0, 0
    )
    if rng.random() < 0.6:
        width, middle = thick * rng.uniform(0.25, 0.8), thick * rng.uniform(-0.5, 0.5)
        lane = np.exp(-0.5 * ((across - middle) / width) ** 2) * np.exp(-((along / (3 * length)) ** 4))
        image = image * (1 - rng.uniform(0.3, 0.95) * lane)
    return Structure(light=image, host=0.0)


def _companions(s):
    """Small galaxies and stars close by, 1 to 4, at 0.8 to 4 (log-uniform); a third lie as images of a source would.

    Peaks 0.02 to 1 of the galaxy's, log-uniform.  Those that lie like images are 2 to 4 of about one brightness, at
    one radius within 10 %, thin (axis ratio 0.2 to 0.6) and across the radius within 15 degrees; one in four of them
    are stars, as of a quasar.
    """
    rng = s.rng
    alike, image = rng.random() < 1 / 3, 0.0
    common, radius = s.strength(0.02, 1), s.log(max(0.8, 0.8 * s.fwhm), min(4, 0.6 * s.half))
    stars = rng.random() < 0.25
    for _ in range(rng.integers(2, 5) if alike else rng.integers(1, 5)):
        azimuth = rng.uniform(0, 2 * np.pi)
        away = radius * rng.normal(1, 0.1) if alike else s.log(0.8, min(4, 0.6 * s.half))
        x, y = away * np.cos(azimuth), away * np.sin(azimuth)
        if alike:
            tilt = np.rad2deg(azimuth) + 90 + rng.normal(0, 15)
            image = image + common * rng.uniform(0.4, 1) * _small(s, x, y, tilt, (0.2, 0.6), float(stars))
        else:
            image = image + s.strength(0.02, 1) * _small(s, x, y)
    return Structure(light=image)


def _stellar(s, x, y, depth):
    """A star at a place: its light with the PSF in it, peak ``depth``; and the spikes that its mirror's supports make.

    The PSF goes on outwards as a power law, where its kernel ends.  Spikes 4 (one in five: 6), 0.003 to 0.03 of the
    peak (log-uniform), 1 to 4 FWHM long in scale; a halo of 0.0005 to 0.005 (log-uniform).
    """
    rng = s.rng
    r, theta = s.plane(1.0, rng.uniform(0, 90), x, y)
    row = s.psf[len(s.psf) // 2, len(s.psf) // 2 :]
    radii = np.arange(len(row)) * s.scale
    slope = np.log(row[-1] / row[-3]) / np.log(radii[-1] / radii[-3])
    core = np.exp(np.interp(r, radii, np.log(row / row[0])))
    core = np.where(r > radii[-1], row[-1] / row[0] * np.maximum(r / radii[-1], 1) ** slope, core)
    halo = s.log(0.0005, 0.005) * (1 + (r / (2 * s.fwhm)) ** 2) ** -rng.uniform(0.8, 1.5)
    count, fade = int(rng.choice([4, 4, 4, 4, 6])), s.fwhm * rng.uniform(1, 4)
    to_spike = np.abs(np.sin(count / 2 * theta)) * r * 2 / count  # distance from the nearest one, for the near
    spikes = s.log(0.003, 0.03) * np.exp(-0.5 * (to_spike / (0.35 * s.fwhm)) ** 2)
    return depth * (core + halo + spikes * (1 + r / fade) ** -rng.uniform(1.2, 2.5))


def _star(s):
    """A star in the centre: saturated where the stamp is deep, with spikes, a halo and a bleeding column; or a pair.

    Saturated if the peak is above 50 sigma, in seven of ten: at the peak drawn for the galaxy, the star 2 to 200 times
    as bright (log-uniform), a bleed in half.  One in four has a second star at 0.8 to 4 FWHM, of 0.1 to 1 of its
    light.
    """
    rng = s.rng
    saturated = s.galaxy["peak_snr"] > 50 and rng.random() < 0.7
    depth = s.log(2, 200) if saturated else 1.0
    x, y = rng.uniform(-0.2, 0.2, 2)
    image = _stellar(s, x, y, depth)
    if rng.random() < 0.25:
        at = s.fwhm * rng.uniform(0.8, 4) * np.exp(2j * np.pi * rng.random())
        image = image + _stellar(s, at.real, at.imag, depth * s.log(0.1, 1))
    defect = _saturation(s, x, y, depth) if saturated else Structure().defect
    return Structure(seen=image, host=0.0, brightness=depth, defect=defect)


def _star_beside(s):
    """A bright star at 3 to 14 (no further than 1.3 of half a stamp) from the galaxy: 1 to 100 times as bright.

    Brightness log-uniform; cut where the detector saturates, at 1 to 4 times the galaxy's peak, and in three of ten
    what is saturated has no data and is filled.
    """
    rng = s.rng
    at = rng.uniform(min(3, 0.4 * s.half), min(14, 1.3 * s.half)) * np.exp(2j * np.pi * rng.random())
    depth, most = s.log(1, 100), rng.uniform(1, 4)
    far = min(abs(at.real), s.half), min(abs(at.imag), s.half)
    image = _stellar(s, at.real, at.imag, depth)
    masked = rng.random() < 0.3 and np.hypot(*far) > _CORE + 2
    brightness = max(1.0, image.max())
    defect = _saturation(s, at.real, at.imag, depth / most, most, masked)
    return Structure(seen=image, brightness=brightness, defect=defect)


def _saturation(s, x, y, depth, most=1.0, masked=False):
    """Pixels cut at ``most`` galaxy's peaks, unevenly by 2 %; half of the deep ones bleed along a column or a row.

    Masked ones are filled with the sky, down to 0.1 to 1 (log-uniform) of that brightness.
    """
    rng, level = s.rng, most * s.galaxy["peak_snr"]
    along, across = s.turned(rng.choice([0, 90]), x, y)
    length, width = s.fwhm * rng.uniform(1, 5) * np.log10(max(depth, 1)), s.scale * rng.uniform(0.5, 1.6)
    bleeds = depth > 3 and rng.random() < 0.5
    column = (np.abs(across) < width) & (np.abs(along + rng.uniform(-0.5, 0.5) * length) < length) & bleeds
    uneven, lost = 1 - 0.02 * np.abs(rng.standard_normal((SIZE, SIZE))), level * s.log(0.1, 1)

    around = np.hypot(along, across) < 0.7 * np.hypot(x, y)

    def defect(pixels):
        full = (pixels > level) | column
        if masked:
            near = full | ((pixels > lost) & around)
            return np.where(near, np.median(pixels[~near]), pixels)
        return np.where(full, level * uneven, pixels)

    return defect


def _trail(s):
    """A satellite's or an aeroplane's trail across the stamp, at 0 to 0.8 of half a stamp from its centre.

    Above the sky by 2 to 100 sigma (log-uniform), no more than 3 times the galaxy's peak; as wide as the PSF, or to 3
    times that; one in four is a pair of lines 1.5 to 5 FWHM apart; one in three flashes, 1 to 6 times over the stamp.
    """
    rng = s.rng
    along, across = s.turned(rng.uniform(0, 180))
    across = across - rng.uniform(-0.8, 0.8) * s.half
    sigma = s.fwhm / 2.355 * (1 if rng.random() < 0.6 else rng.uniform(1, 3))
    image = np.exp(-0.5 * (across / sigma) ** 2)
    if rng.random() < 0.25:
        image = image + rng.uniform(0.4, 1) * np.exp(-0.5 * ((across - s.fwhm * rng.uniform(1.5, 5)) / sigma) ** 2)
    if rng.random() < 1 / 3:
        phase = np.pi * rng.uniform(1, 6) * along / s.half + rng.uniform(0, 6)
        image = image * (1 - rng.uniform(0.2, 0.9) * np.cos(phase) ** 2)
    peak = min(s.log(2, 100) / s.galaxy["peak_snr"], 3)
    return Structure(seen=peak * image / max(image.max(), 0.3))


def _cosmic_ray(s):
    """Tracks of cosmic rays, 1 to 5, at 0.4 to 8 from the centre: not blurred by the PSF.

    Length log-uniform from 1 to 30 pixels, a third slightly curved; 0.45 to 0.7 pixels wide (a sigma), as resampling
    leaves them; 5 to 300 sigma at the peak (log-uniform), no more than 3 times the galaxy's peak.
    """
    rng, tracks = s.rng, np.zeros((SIZE, SIZE))
    for _ in range(rng.integers(1, 6)):
        start = rng.uniform(0.4, min(8, 0.8 * s.half)) * np.exp(2j * np.pi * rng.random())
        length = s.log(1, 30) * s.scale
        t = np.linspace(0, 1, int(length / s.scale * 4) + 2)
        bend = rng.normal(0, 0.6) * (rng.random() < 1 / 3)
        path = start + length * np.cumsum(np.exp(1j * (rng.uniform(0, 2 * np.pi) + bend * t))) / len(t)
        sigma, uneven = s.scale * rng.uniform(0.45, 0.7), np.exp(0.3 * rng.standard_normal(len(t)))
        track = s.dots(path.real, path.imag, sigma, uneven)
        tracks += min(s.log(5, 300), 3 * s.galaxy["peak_snr"]) * track / (track.max() or 1)
    return Structure(defect=lambda pixels: pixels + tracks)


def _bad_pixels(s):
    """Hot and dead pixels, 1 to 12, and in half of the stamps a bad column or row, or a piece of one.

    Hot by 5 to 200 sigma (log-uniform), no more than 3 times the galaxy's peak; dead pixels and columns 3 to 15 sigma
    below the sky (what is lower is filled when stamps are cut); columns above it by up to 30 sigma (log-uniform from
    2).
    """
    rng, bad = s.rng, np.zeros((SIZE, SIZE))
    hot = lambda low, high: min(s.log(low, high), 3 * s.galaxy["peak_snr"])  # noqa: E731
    for _ in range(rng.integers(1, 13)):
        row, column = rng.integers(0, SIZE, 2)
        size = rng.choice([1, 1, 1, 2])
        bad[row : row + size, column : column + size] = hot(5, 200) if rng.random() < 0.6 else -rng.uniform(3, 15)
    if rng.random() < 0.5:
        ends = np.sort(rng.integers(0, SIZE, 2)) if rng.random() < 0.4 else (0, SIZE)
        line = bad if rng.random() < 0.6 else bad.T
        line[ends[0] : ends[1] + 1, rng.integers(0, SIZE - 2) :][:, : rng.integers(1, 3)] = (
            hot(2, 30) if rng.random() < 0.5 else -rng.uniform(3, 15)
        )
    return Structure(defect=lambda pixels: np.where(bad < 0, bad, pixels + np.maximum(bad, 0)))


def _tile_edge(s):
    """A part of the stamp without data, filled with the median of the others: an edge, a corner, or a gap.

    Share log-uniform from 0.004 to 0.3 (`max_filled` is 0.02, and may be raised); nothing within 2 of the centre.
     Along a row or a column, but for one in three, where an image was turned.
    """
    rng = s.rng
    angle = 90 * rng.integers(0, 4) + (rng.uniform(-45, 45) if rng.random() < 1 / 3 else rng.normal(0, 0.3))
    along, across = s.turned(angle)
    share, shape = s.log(0.004, 0.3), rng.random()
    order = along if shape < 0.6 else np.minimum(along, rng.choice([-1, 1]) * across + rng.uniform(-1, 1) * s.half)
    if shape < 0.8:
        missing = order >= np.quantile(order, 1 - share)
    else:
        place, wide = rng.uniform(0.25, 0.9) * s.half, min(share, 0.1) * s.half
        missing = np.abs(along - place) < max(wide, s.scale)
    missing &= np.hypot(*light.grid(s.scale)) > min(_CORE, 0.8 * s.half)
    return Structure(defect=lambda pixels: np.where(missing, np.median(pixels[~missing]), pixels))


def _sky_step(s):
    """The sky of two CCDs, apart by 0.7 to 6 sigma (log-uniform), at 0 to 0.8 of half a stamp from the centre.

    A third has a second step, across the first.
    """
    rng, step = s.rng, np.zeros((SIZE, SIZE))
    angle = 90 * rng.integers(0, 4) + rng.normal(0, 2)
    for turn in (0, 90)[: 1 + (rng.random() < 1 / 3)]:
        along, _ = s.turned(angle + turn)
        step += s.log(0.7, 6) * (along > rng.uniform(-0.8, 0.8) * s.half)
    return Structure(defect=lambda pixels: pixels + step)


def _empty(s):
    """Sky, with neighbours as any stamp has."""
    return Structure(host=0.0)


def _faint(s):
    """A faint source in the centre, its peak 3 to 10 sigma: a galaxy or a star, one in three with 1 to 2 more beside.

    The others are 0.5 to 1 as bright, at 0.6 to 3.
    """
    rng = s.rng
    image = _small(s, *rng.uniform(-0.4, 0.4, 2))
    for _ in range(rng.integers(1, 3) * (rng.random() < 1 / 3)):
        at = rng.uniform(0.6, min(3, 0.6 * s.half)) * np.exp(2j * np.pi * rng.random())
        image = image + rng.uniform(0.5, 1) * _small(s, at.real, at.imag)
    return Structure(light=image, host=0.0, brightness=rng.uniform(3, 10) / s.galaxy["peak_snr"])


def _off_centre(s):
    """A galaxy of any radius, index and axis ratio of the survey, 1.5 to 6 from the centre (0.7 of half a stamp)."""
    g, rng = s.galaxy, s.rng
    at = rng.uniform(min(1.5, 0.3 * s.half), min(6, 0.7 * s.half)) * np.exp(2j * np.pi * rng.random())
    image = s.sersic(g["radius"], g["sersic"], g["axis_ratio"], g["angle"], at.real, at.imag)
    return Structure(light=image, host=0.0)


_DRAWN = {
    "spiral": _spiral,
    "ring": _ring,
    "merger": _merger,
    "edge-on": _edge_on,
    "companions": _companions,
    "star": _star,
    "star beside": _star_beside,
    "trail": _trail,
    "cosmic ray": _cosmic_ray,
    "bad pixels": _bad_pixels,
    "tile edge": _tile_edge,
    "sky step": _sky_step,
    "empty": _empty,
    "faint": _faint,
    "off-centre": _off_centre,
}
