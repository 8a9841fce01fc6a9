"""What people and pipelines stumble on: stars, trails, cosmic rays, bad pixels, edges of tiles, steps of the sky.

Lengths are in arcsec, angles in degrees; "log-uniform" is named where it is meant, other ranges are uniform.
"""

import numpy as np

from lensdet.data import light
from lensdet.data.light import SIZE
from lensdet.data.scene import Scene, Structure

CORE = 2.0  # arcsec from the centre: no stamp that is filled there is ranked (`lensdet.survey.cutting`)


def star(s: Scene) -> Structure:
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


def star_beside(s: Scene) -> Structure:
    """A bright star at 3 to 14 (no further than 1.3 of half a stamp) from the galaxy: 1 to 100 times as bright.

    Brightness log-uniform; cut where the detector saturates, at 1 to 4 times the galaxy's peak (at least 60 sigma),
    and in three of ten what is saturated has no data and is filled.
    """
    rng = s.rng
    at = rng.uniform(min(3, 0.4 * s.half), min(14, 1.3 * s.half)) * np.exp(2j * np.pi * rng.random())
    depth, most = s.log(1, 100), max(rng.uniform(1, 4), 60 / s.galaxy["peak_snr"])
    far = min(abs(at.real), s.half), min(abs(at.imag), s.half)
    image = _stellar(s, at.real, at.imag, depth)
    masked = rng.random() < 0.3 and depth > most and np.hypot(*far) > CORE + 2
    brightness = max(1.0, image.max())
    defect = _saturation(s, at.real, at.imag, depth / most, most, masked)
    return Structure(seen=image, brightness=brightness, defect=defect)


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


def _saturation(s, x, y, depth, most=1.0, masked=False):
    """Pixels cut at ``most`` galaxy's peaks, unevenly by 2 %; half of the deep ones bleed along a column or a row.

    A bleed begins with 0.3 to 1 of that brightness and fades to its ends.  Masked stars are filled with the sky, down
    to 0.1 to 1 (log-uniform) of that brightness.
    """
    rng, level = s.rng, most * s.galaxy["peak_snr"]
    along, across = s.turned(rng.choice([0, 90]), x, y)
    length, width = s.fwhm * rng.uniform(1, 5) * np.log10(max(depth, 1)), s.scale * rng.uniform(0.5, 1.6)
    off = np.abs(along + rng.uniform(-0.5, 0.5) * length) / (length or 1)
    bleed = (np.abs(across) < width) * np.sqrt(np.maximum(1 - off, 0)) * rng.uniform(0.3, 1)
    bleed *= level * (depth > 3 and rng.random() < 0.5)
    uneven, lost = 1 - 0.02 * np.abs(rng.standard_normal((SIZE, SIZE))), level * s.log(0.1, 1)
    around = np.hypot(along, across) < 0.7 * np.hypot(x, y)

    def defect(pixels):
        if masked:
            gone = ((pixels > lost) | (bleed > lost)) & around
            return np.where(gone, np.median(pixels[~gone]), pixels)
        return np.minimum(np.where((bleed > 0) & (bleed > pixels), bleed, pixels), level * uneven)

    return defect


def trail(s: Scene) -> Structure:
    """A satellite's or an aeroplane's trail across the stamp, at 0 to 0.8 of half a stamp from its centre.

    Above the sky by 2 to 100 sigma (log-uniform), no more than 3 times the galaxy's peak; as wide as the PSF, or to 3
    times that; one in four is a pair of lines 1.5 to 5 FWHM apart; one in three flashes, 1 to 6 times over the stamp;
    one in ten is dark, 0.3 times as strong and by no more than 10 sigma, where it was subtracted too well.
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
    if rng.random() < 0.1:
        peak = -min(0.3 * peak, 10 / s.galaxy["peak_snr"])
    return Structure(seen=peak * image / max(image.max(), 0.3))


def cosmic_ray(s: Scene) -> Structure:
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


def bad_pixels(s: Scene) -> Structure:
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


def tile_edge(s: Scene) -> Structure:
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
    missing &= np.hypot(*light.grid(s.scale)) > min(CORE, 0.8 * s.half)
    return Structure(defect=lambda pixels: np.where(missing, np.median(pixels[~missing]), pixels))


def sky_step(s: Scene) -> Structure:
    """The sky of two CCDs, apart by 0.7 to 6 sigma (log-uniform), at 0 to 0.8 of half a stamp from the centre.

    A third has a second step, across the first; half are of another depth on one side: with further noise of 0.5 to
    1.7 sigma, or in one of three along a seam 1 to 6 pixels wide.
    """
    rng, step = s.rng, np.zeros((SIZE, SIZE))
    angle = 90 * rng.integers(0, 4) + rng.normal(0, 2)
    for turn in (0, 90)[: 1 + (rng.random() < 1 / 3)]:
        along, _ = s.turned(angle + turn)
        place = rng.uniform(-0.8, 0.8) * s.half
        step += s.log(0.7, 6) * (along > place)
    if rng.random() < 0.5:
        wide = rng.uniform(1, 6) * s.scale if rng.random() < 1 / 3 else np.inf
        shallow = (along > place) & (along < place + wide)
        step += rng.uniform(0.5, 1.7) * rng.standard_normal((SIZE, SIZE)) * shallow
    return Structure(defect=lambda pixels: pixels + step)
