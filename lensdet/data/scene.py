"""What negatives of the broad survey are drawn with: a scene's pixels and random numbers, and shapes on them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from lensdet.data import light
from lensdet.data.light import CENTRE, SIZE


class Structure(NamedTuple):
    """What is added to a galaxy, or put in its place."""

    kind: str = ""
    light: NDArray | float = 0.0  # (101, 101), unconvolved; 1 is the galaxy's peak after the PSF
    host: float = 1.0  # brightness of the central galaxy; 0 where there is none
    brightness: float = 1.0  # peak of the whole over that drawn for the galaxy; small for faint sources
    defect: Callable[[NDArray], NDArray] = staticmethod(lambda pixels: pixels)  # of the detector or the reduction
    seen: NDArray | float = 0.0  # as `light`, for what reaches beyond the stamp: with the PSF already in it


class Scene(NamedTuple):
    """What a contaminant is drawn with: its random numbers, the galaxy, the PSF and the pixels."""

    rng: np.random.Generator
    galaxy: dict[str, float]
    psf: NDArray
    scale: float
    fwhm: float  # arcsec, of the PSF

    @property
    def half(self) -> float:
        """Half a stamp, arcsec."""
        return CENTRE * self.scale

    def log(self, low: float, high: float) -> float:
        """A log-uniform draw; ``low`` where that is the larger."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(max(low, high)))))

    def strength(self, low: float = 0.02, high: float = 0.5, sigma: float = 2.0) -> float:
        """Peak of a structure over the galaxy's, log-uniform; not below some sigma, where nothing is seen."""
        return self.log(np.clip(sigma / self.galaxy["peak_snr"], low, high), high)

    def unit(self, image: NDArray) -> NDArray:
        """An image over the peak that it has after the PSF."""
        return light.unit(image, self.psf) if np.any(image) else image

    def plane(self, axis_ratio: float, angle: float, x: float = 0.0, y: float = 0.0) -> tuple[NDArray, NDArray]:
        """Radius (arcsec) and azimuth (radians) of each pixel on the plane of an inclined disc about a point."""
        along, across = self.turned(angle, x, y)
        return np.hypot(along, across / axis_ratio), np.arctan2(across / axis_ratio, along)

    def turned(self, angle: float, x: float = 0.0, y: float = 0.0) -> tuple[NDArray, NDArray]:
        """Each pixel's place along and across an axis through a point, arcsec."""
        (gx, gy), cos, sin = light.grid(self.scale), np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        return (gx - x) * cos + (gy - y) * sin, (gy - y) * cos - (gx - x) * sin

    def dots(self, x: ArrayLike, y: ArrayLike, sigma: ArrayLike, weight: ArrayLike) -> NDArray:
        """Round Gaussians of a sum each, anywhere: knots, or a stroke where they follow each other closely."""
        x, y, sigma, weight = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (x, y, sigma, weight)))
        sigma = np.maximum(sigma, 0.4 * self.scale)[:, None]
        axis = (np.arange(SIZE) - CENTRE) * self.scale
        bell = [np.exp(-0.5 * ((axis - at[:, None]) / sigma) ** 2) for at in (x, y)]
        return (bell[1] * weight[:, None] * (self.scale / sigma) ** 2).T @ bell[0]

    def sersic(self, radius: float, index: float, axis_ratio: float, angle: float, x: float, y: float) -> NDArray:
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

    def knots(self, where: NDArray, number: int) -> NDArray | float:
        """Regions of star formation, as likely in a pixel as ``where`` is bright; the brightest 1 after the PSF."""
        if not number:
            return 0.0
        flat = self.rng.choice(where.size, number, p=where.ravel() / where.sum())
        x, y = ((v.ravel()[flat] + self.rng.uniform(-0.5, 0.5, number) * self.scale) for v in light.grid(self.scale))
        size = self.rng.uniform(0.05, 0.2, number)
        return self.unit(self.dots(x, y, size, np.exp(0.8 * self.rng.standard_normal(number))))

    def stroke(
        self, x: float, y: float, heading: float, length: float, bend: float, width: float, decay: float
    ) -> NDArray:
        """A curved band from a point: 1 at its brightest after the PSF; heading and bend in radians."""
        t = np.linspace(0, 1, max(int(length / (0.4 * self.scale)), 12))
        path = np.exp(1j * (heading + bend * t + 0.15 * wobble(self.rng, np.pi * t, 3))) * length / len(t)
        lumps = np.exp(0.4 * wobble(self.rng, np.pi * t, 8)) * np.exp(-decay * t) * np.minimum(1, 8 * (1 - t))
        path = x + 1j * y + np.cumsum(path)
        return self.unit(self.dots(path.real, path.imag, width * (1 + t), lumps))


def wobble(rng: np.random.Generator, angle: NDArray, orders: int) -> NDArray:
    """A smooth random function of an angle (radians), of unit variance: Fourier terms of falling amplitude."""
    k = np.arange(1, orders + 1)
    terms = rng.standard_normal((2, orders)) / np.sqrt(k)
    waves = np.multiply.outer(angle, k)
    return (np.cos(waves) @ terms[0] + np.sin(waves) @ terms[1]) / np.sqrt((1 / k).sum())


def patches(rng: np.random.Generator, turn: NDArray, depth: NDArray, cells: tuple[int, int]) -> NDArray:
    """A smooth random field on (turn, depth): ``cells`` patches in a turn and in a unit of depth; unit variance."""
    noise = rng.standard_normal((cells[0], 64))
    return 1.4 * map_coordinates(noise, [turn % 1 * cells[0], depth * cells[1] % 64], order=3, mode="grid-wrap")
