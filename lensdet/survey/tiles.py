"""Stamps from tiles: cut where the scale is the wanted one, else resampled.

A stamp is cut, pixels as they are, where the tile's scale is the wanted one within 1 %.  Else it is resampled onto a
tangential projection at the position, with axes parallel to the tile's:

- where a pixel of the tile is smaller than 0.8 wanted ones, by an average that keeps flux (`reproject_adaptive`, Hann
  kernel, DeForest 2004): interpolation would pick single pixels, and noise and structure finer than a stamp's pixel
  would alias.  The kernel widens a PSF by no more than a detector with the larger pixels would (0.7 arcsec FWHM by 3
  %).
- elsewhere by a cubic spline (`reproject_interp`) times the ratio of pixel areas.  Near a ratio of 1 the average loses
  flux where pixels beat (3 % of a star's at 0.186 to 0.2 arcsec) and widens a PSF on larger pixels by 4 to 13 %; the
  spline keeps both within 0.5 %, and nothing can alias that a PSF of 0.5 arcsec or more has let through.

So total flux is kept in either way, and the zero point holds.
"""

import contextlib
import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import overlap_slices
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from numpy.typing import NDArray

from lensdet.data import images
from lensdet.data.fits import open_checked
from lensdet.data.stamps import StampError
from lensdet.survey import headers

if TYPE_CHECKING:
    from lensdet.survey.cutouts import TileUnit, Wanted


@contextlib.contextmanager
def _opened(path):
    """The HDUs of a tile, whose pixels are not read yet, and whether it is gzipped; what is wrong is a StampError."""
    gzipped = False
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", AstropyWarning)
            gzipped = headers.peek(path)
            # uint=False: BLANK counts in unsigned integers
            with open_checked(path) as file, fits.open(file, memmap=False, uint=False) as hdus:
                yield hdus, gzipped
    except Exception as error:
        if "Empty or corrupt" in str(error) and _is_cut(path, gzipped):
            raise StampError(path, "truncated", f"{type(error).__name__}: {error}") from error
        raise headers.as_stamp_error(path, error) from error


def _is_cut(path, gzipped):
    """Whether a file that astropy calls corrupt is cut off: FITS comes in blocks, and gzip has an end."""
    if not gzipped:
        return bool(os.path.getsize(path) % 2880)
    with contextlib.suppress(OSError, zlib.error), gzip.open(path) as file:
        try:
            file.seek(0, os.SEEK_END)  # in pieces, not in memory
        except EOFError:
            return True
    return False


def look_over(
    path: Path, sky: SkyCoord, wanted: "Wanted", pixel_scale: float | None, band: str | None
) -> tuple[StampError | None, tuple[int, NDArray, NDArray, NDArray, NDArray, bool] | None]:
    """What a tile is good for, by its headers.

    Parameters
    ----------
    path : Path
    sky : astropy.coordinates.SkyCoord, (n,)
        Positions that stamps are wanted of.
    wanted : lensdet.survey.cutouts.Wanted
    pixel_scale : float or None
        Arcsec a pixel that the tile is stated to have.
    band : str or None
        The tile's, where its header names none that is understood.

    Returns
    -------
    error : StampError or None
    where : None, or HDU, indices of positions on it, their pixels x and y, distance from the edge (arcsec), if integers
    """
    where = None
    try:
        with _opened(path) as (hdus, gzipped):
            number, wcs = _find_image(path, hdus, wanted.band)
            if wcs is None:
                short = not gzipped and os.path.getsize(path) % 2880
                raise StampError(path, "truncated" if short else "no image", "no image with a celestial WCS")
            hdu = hdus[number]
            rows, columns = hdu.shape[-2:]
            scales = np.hypot(*_jacobian(wcs, (columns - 1) / 2, (rows - 1) / 2))
            where = number, *_inside(wcs, (rows, columns), sky, scales), hdu.header["BITPIX"] > 0
            if images.plane_of(hdu, wanted.band) is None:
                raise StampError(path, "shape", f"{hdu.shape}, not an image of two axes")
            file = hdu.fileinfo()
            if not gzipped and os.path.getsize(path) < (expected := file["datLoc"] + file["datSpan"]):
                raise StampError(path, "truncated", f"{os.path.getsize(path)} bytes, not {expected}")
            _check_tile_scale(path, scales, wanted)
            if pixel_scale is not None and not headers.near(scales, pixel_scale):
                raise StampError(path, "scale", f"{scales[0]:.4g} arcsec a pixel by its WCS, stated {pixel_scale:g}")
            headers.check_band(path, images.header_of(hdu, hdus), wanted, band)
    except StampError as error:
        return error, where
    return None, where


def _find_image(path, hdus, band):
    """Number and WCS of the likeliest image with a celestial WCS; those after it are not looked at."""
    numbers, other = images.sky_images(hdus, path, band)
    for number in numbers:
        if len(hdus[number].shape) > 1 and (wcs := headers.celestial(hdus[number].header, hdus)) is not None:
            return number, wcs
    if other:
        raise StampError(path, "companion", other)
    return None, None


def _check_tile_scale(name, scales, wanted):
    if not all(
        headers.FINEST <= scale / wanted.pixel_scale <= headers.COARSEST for scale in scales
    ):  # not a number fails, too
        said = " x ".join(f"{s:.4g}" for s in scales)
        raise StampError(name, "scale", f"{said} arcsec a pixel, too far from {wanted.pixel_scale:g} to be resampled")


def _jacobian(wcs, x, y):
    """Arcsec (longitude and latitude of the tile's frame, in rows) by pixel (x and y, in columns), at a position."""
    points = np.add([x, y], [[0, 0], [-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
    lon, lat = wcs.all_pix2world(points, 0)[:, [wcs.wcs.lng, wcs.wcs.lat]].T
    d_lon = (lon[[2, 4]] - lon[[1, 3]] + 180) % 360 - 180
    return 3600 * np.array([d_lon * np.cos(np.deg2rad(lat[0])), lat[[2, 4]] - lat[[1, 3]]])


def _inside(wcs, shape, sky, scales):
    """Positions on a tile: indices, x, y, distance from the nearest edge."""
    rows, columns = shape
    middle = wcs.pixel_to_world((columns - 1) / 2, (rows - 1) / 2)
    rim = wcs.pixel_to_world(np.array([0, 0, columns, columns]) - 0.5, np.array([0, rows, 0, rows]) - 0.5)
    reach = rim.separation(middle).max() * 1.2  # a first look, as a projection need not know the other side of the sky
    close = np.flatnonzero(~(middle.separation(sky) > reach))
    if not len(close):
        return close, *np.zeros((3, 0))
    x, y = (np.atleast_1d(p) for p in wcs.world_to_pixel(sky[close]))
    distance = np.min([x + 0.5, columns - 0.5 - x, y + 0.5, rows - 0.5 - y], axis=0)
    on = distance > 0
    return close[on], x[on], y[on], distance[on] * np.sqrt(np.prod(scales))


def read(unit: "TileUnit") -> Iterator[tuple[NDArray[np.float32], float, float, int] | StampError]:
    """Of each position: pixels, RA, Dec, number of pixels filled; or a StampError."""
    done = 0
    try:
        with _opened(unit.path) as (hdus, gzipped):
            hdu = hdus[unit.hdu]
            wcs, header = headers.celestial(hdu.header, hdus), images.header_of(hdu, hdus)
            window = _Windows(hdu, gzipped, images.plane_of(hdu, unit.wanted.band))
            for name, ra, dec, x, y in zip(unit.ids, unit.ra, unit.dec, unit.x, unit.y, strict=True):
                try:
                    got = _stamp(name, window, wcs, header, x, y, unit)
                    got = (got[0], ra, dec, got[1])
                except Exception as error:  # of this stamp: a tile may be spoilt in one place
                    got = headers.as_stamp_error(name, error)
                    got = StampError(name, got.reason, f"{Path(unit.path).name}: {got.detail}")
                done += 1
                yield got
    except StampError as error:  # the tile is no longer what it was at the time of the plan
        for name in unit.ids[done:]:
            yield StampError(name, error.reason, f"{Path(unit.path).name}: {error.detail}")


class _Windows:
    """Windows of an image as float32, of which no more is read than is needed; infinite pixels are NaN."""

    def __init__(self, hdu, gzipped, plane):
        self.hdu, self.gzipped, self.lead, self.shape = hdu, gzipped, plane, hdu.shape[-2:]
        self.first, self.rows = 0, None

    def __call__(self, rows, columns):
        if self.gzipped:
            pixels = self._forwards(rows)[:, columns]
        else:
            pixels = self.hdu.section[(*self.lead, rows, columns)]
        pixels = np.array(pixels, np.float32)
        pixels[~np.isfinite(pixels)] = np.nan
        return pixels

    def _forwards(self, rows):
        """Whole rows; those of the last window are kept, since every step back unzips the file from its beginning."""
        last = self.first + (0 if self.rows is None else len(self.rows))
        if self.rows is None or not self.first <= rows.start <= last:
            self.rows = self.hdu.section[(*self.lead, rows, slice(None))]
        else:
            kept = self.rows[rows.start - self.first :]
            more = slice(last, max(last, rows.stop))
            if more.stop > more.start:
                kept = np.concatenate([kept, self.hdu.section[(*self.lead, more, slice(None))]])
            self.rows = kept
        self.first = rows.start
        return self.rows[: rows.stop - rows.start]


def _stamp(name, window, wcs, header, x, y, unit):
    """Pixels of a position, and how many were filled."""
    wanted, size = unit.wanted, tuple(unit.wanted.size)
    jacobian = _jacobian(wcs, x, y)
    scales = np.hypot(*jacobian)
    _check_tile_scale(name, scales, wanted)
    skew = (jacobian[:, 0] @ jacobian[:, 1]) / np.prod(scales)
    if headers.near(scales, wanted.pixel_scale) and abs(skew) <= headers.SCALE_TOLERANCE:
        here, there = overlap_slices(window.shape, size, (y, x), mode="partial")  # as Cutout2D, but read before cut
        native = window(*here)
        pixels = np.full(size, np.nan, np.float32)
        pixels[there] = native
    else:
        pixels, native = _resample(window, wcs, jacobian, x, y, wanted)
    missing = ~np.isfinite(pixels)
    if n := int(np.count_nonzero(missing)):
        r, c = np.indices(size)
        core = np.hypot(r - (size[0] - 1) / 2, c - (size[1] - 1) / 2) * wanted.pixel_scale <= headers.CORE
        if n > unit.max_filled * missing.size or (missing & core).any():
            inner = np.count_nonzero(missing & core)
            raise StampError(
                name, "masked", f"{n} of {missing.size} pixels, {inner} within {headers.CORE:g} arcsec of the centre"
            )
        pixels[missing] = np.median(pixels[~missing])
    if pixels.min() == pixels.max():
        raise StampError(name, "constant", f"all pixels are {pixels.flat[0]:g}")
    headers.check_plateau(name, native, header)  # of the file's own pixels: none that were resampled are equal
    return pixels, n


def _resample(window, wcs, jacobian, x, y, wanted):
    """A stamp on a tangential projection, axes parallel to the tile's; and the tile's own pixels of that area."""
    from reproject import reproject_adaptive, reproject_interp  # a second to import, and not all need it

    scales = np.hypot(*jacobian)
    first = jacobian[:, 0] / scales[0]
    second = np.array([-first[1], first[0]]) * np.sign(np.linalg.det(jacobian))
    axes = np.stack([first, second], axis=1) * wanted.pixel_scale  # arcsec by pixel of the stamp
    rows, columns = wanted.size
    target = WCS(naxis=2)
    target.wcs.ctype = [f"{wcs.wcs.ctype[i][:5]}TAN" for i in (wcs.wcs.lng, wcs.wcs.lat)]
    target.wcs.crval = wcs.all_pix2world([[x, y]], 0)[0][[wcs.wcs.lng, wcs.wcs.lat]]
    target.wcs.crpix = (columns + 1) / 2, (rows + 1) / 2
    target.wcs.cd = axes / 3600
    target.wcs.radesys, target.wcs.equinox = wcs.wcs.radesys, wcs.wcs.equinox
    target.wcs.set()

    extent = np.abs(np.linalg.solve(jacobian, axes)) @ [columns, rows]  # pixels of the tile, (x, y)
    margin = 2 * (4 * wanted.pixel_scale / scales + 4)  # what kernel and spline look at beyond the edge
    boxes = [tuple(math.ceil(v) for v in box[::-1]) for box in (extent + margin, extent)]
    here, area = (overlap_slices(window.shape, box, (y, x), mode="partial")[0] for box in boxes)
    native = window(*here)
    own = native[tuple(slice(a.start - h.start, a.stop - h.start) for a, h in zip(area, here, strict=True))]
    hole = np.isnan(native)
    if hole.all():
        return np.full(wanted.size, np.nan, np.float32), own
    part = HighLevelWCSWrapper(SlicedLowLevelWCS(wcs, here))
    options = {"shape_out": tuple(wanted.size), "return_footprint": False, "roundtrip_coords": False}
    if scales.min() < headers.FINER * wanted.pixel_scale:
        pixels = reproject_adaptive((native, part), target, kernel="hann", conserve_flux=True, **options)
        return pixels.astype(np.float32), own
    # A spline spreads a NaN over the whole window: it is given the median there, and what it touches is masked after.
    solid = np.where(hole, np.nanmedian(native), native)
    pixels = reproject_interp((solid, part), target, order="bicubic", **options)
    pixels *= wanted.pixel_scale**2 / abs(np.linalg.det(jacobian))
    if hole.any():
        pixels[~(reproject_interp((hole.astype(float), part), target, order="bilinear", **options) == 0)] = np.nan
    return pixels.astype(np.float32), own
