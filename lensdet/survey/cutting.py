"""Stamps from images: cut where the scale is the wanted one, else resampled.

A stamp is cut, pixels as they are, where the image's scale is the wanted one within 1 %.  Else it is resampled onto a
tangential projection at the position, with axes parallel to the image's:

- where a pixel of the image is smaller than 0.8 wanted ones, by an average that keeps flux (`reproject_adaptive`, Hann
  kernel, DeForest 2004): interpolation would pick single pixels, and noise and structure finer than a stamp's pixel
  would alias.  The kernel widens a PSF by no more than a detector with the larger pixels would (0.7 arcsec FWHM by 3
  %).
- elsewhere by a cubic spline (`reproject_interp`) times the ratio of pixel areas.  Near a ratio of 1 the average loses
  flux where pixels beat (3 % of a star's at 0.186 to 0.2 arcsec) and widens a PSF on larger pixels by 4 to 13 %; the
  spline keeps both within 0.5 %, and nothing can alias that a PSF of 0.5 arcsec or more has let through.

So total flux is kept in either way, and the zero point holds.  A file that is a stamp is an image like a tile, of which
the middle is wanted; where scale and size are the wanted ones it is taken as it is.
"""

import contextlib
import math
import os
import re
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.nddata import overlap_slices
from astropy.wcs import WCS
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from lensdet.data import images
from lensdet.data.fits import packed
from lensdet.data.stamps import StampError
from lensdet.survey import arrays, headers, tiles
from lensdet.survey.headers import Options

OPEN = 3  # files that are kept open: a position on several tiles needs no more
LARGEST = 6  # wanted sizes that a file of a folder of stamps may have: a tile of a degree is no stamp
DARK = 20  # times the noise below the sky, where there are no data
BRIGHTEST = 1e20  # in any unit: 1e30 and the like say that there are no data
_SOLID = [np.ones(shape, bool) for shape in ((7, 7), (1, 61), (61, 1))]  # of one value, as no noise of integers is


class Place(NamedTuple):
    """Where a stamp is cut."""

    path: str
    hdu: int = -1  # the likeliest of a file; of an HDF5 file the row
    x: float = math.nan  # pixels, from 0; the middle
    y: float = math.nan


class Stamp(NamedTuple):
    """What is cut."""

    pixels: NDArray  # float32 (rows, columns)
    filled: int  # pixels that had no data
    ra: float  # degrees (ICRS), of the header; NaN where it does not say
    dec: float
    place: Place


class Image(NamedTuple):
    """An image of an open file."""

    hdu: int
    header: fits.Header
    wcs: WCS | None
    window: "_Windows"
    scales: NDArray | None  # arcsec a pixel, of a stamp's own header


class Reader:
    """Stamps from files, of which the last few are kept open: ``reader(name, place)``; to be closed."""

    def __init__(self, options: Options) -> None:
        self.options, self.kept = options, {}

    def __call__(self, name: str, place: Place) -> Stamp:
        """The stamp at a place; raises StampError, with the name, where it cannot be used."""
        try:
            image = self.image(place)
            if image.scales is not None:
                return _own(name, image, place, self.options)
            pixels, filled = _stamp(name, image, place.x, place.y, self.options)
            return Stamp(pixels, filled, math.nan, math.nan, place)
        except Exception as error:  # of this stamp: a tile may be spoilt in one place
            error = headers.as_stamp_error(name, error)
            detail = error.detail if place.hdu < 0 else f"{os.path.basename(place.path)}: {error.detail}"
            raise StampError(name, error.reason, detail) from error

    def image(self, place: Place) -> Image:
        """The image that a place is on; raises StampError where it cannot be used."""
        key = place.path, place.hdu
        if key not in self.kept:
            while len(self.kept) >= OPEN:
                self.kept.pop(next(iter(self.kept)))[0].close()
            whole = place.hdu < 0 or arrays.is_array(place.path)
            most = math.prod(self.options.wanted.size) * (LARGEST / headers.FINEST) ** 2 if whole else math.inf
            with contextlib.ExitStack() as stack:
                hdus, stream = stack.enter_context(tiles.opened(place.path, most, place.hdu))
                if whole:
                    image = _whole(place.path, hdus, stream, self.options)
                else:
                    image = _tile(hdus, place.hdu, stream, self.options)
                self.kept[key] = stack.pop_all(), image  # closed at once where it cannot be used
        return self.kept[key][1]

    def close(self) -> None:
        """Close the files."""
        while self.kept:
            self.kept.popitem()[1][0].close()


def _tile(hdus, number, stream, options):
    """An image of which the plan knows the HDU."""
    hdu = hdus[number]
    window = _Windows(hdus, number, stream, tiles.plane(hdu, options))
    return Image(number, images.header_of(hdu, hdus), headers.celestial(hdu.header, hdus), window, None)


def _whole(path, hdus, stream, options):
    """The image of a file that is a stamp, with the WCS that its header or the user gives."""
    wanted, size = options.wanted, tuple(options.wanted.size)
    numbers = tiles.sky_images(path, hdus, stream, wanted, size)
    keys = "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"
    if len({tuple(images.value_of(hdus[n].header, key) for key in keys) for n in numbers}) > 1:
        said = f"{len(numbers)} images of other places, in HDU {', '.join(map(str, numbers[:9]))}; give a catalogue"
        raise StampError(path, "shape", f"{said} and this file as tiles, or each stamp as a file")
    number = numbers[0]
    tiles.check_file(path, hdus, number, stream, options)
    hdu = hdus[number]
    window = _Windows(hdus, number, stream, tiles.plane(hdu, options))
    header, wcs = images.header_of(hdu, hdus), None
    for whole in (True, False):  # a cutout may be without its tile's lookup tables
        with contextlib.suppress(Exception):  # a WCS that cannot be made sense of: none
            wcs = wcs or headers.celestial(header if whole else _undistorted(header), hdus)
    scales = headers.scales_of(header, wcs)
    if scales is None and (stated := options.pixel_scale) is None:
        raise StampError(path, "no scale", "no WCS, CD, CDELT or PIXSCALE")
    scales = np.broadcast_to([stated] if scales is None else scales, 2)
    if not headers.near(scales, wanted.pixel_scale):
        if wcs is None and not arrays.is_array(path) and not headers.near(scales, options.pixel_scale or math.nan):
            said = " x ".join(f"{s:.4g}" for s in scales)
            raise StampError(path, "scale", f"{said} arcsec a pixel, not {wanted.pixel_scale:g}, and no WCS")
        tiles.check_scale(path, scales, wanted)
    shares = np.multiply(window.shape, scales[::-1]) / np.multiply(size, wanted.pixel_scale)
    if np.prod(np.minimum(shares, 1)) < 1 - options.max_filled - headers.SCALE_TOLERANCE or shares.max() > LARGEST:
        said = f"{window.shape[0]} x {window.shape[1]} pixels of {scales[0]:.4g} arcsec"
        raise StampError(path, "shape", f"{said}, too {'large' if shares.max() > LARGEST else 'small'}")
    if "DATASUM" in hdu.header and not isinstance(hdu, fits.CompImageHDU) and hdu.verify_datasum() == 0:
        raise StampError(path, "corrupt", "its pixels are not those of DATASUM")
    if packed(stream):
        stream.seek(0, os.SEEK_END)  # to the end: that finds a file that is cut off, and its checksum
    return Image(number, header, wcs, window, scales)


def _undistorted(header):
    return fits.Header([card for card in header.cards if not re.match(r"(C[PQ]DIS|D[PQ]|D2IM)", card.keyword)])


def _own(name, image, place, options):
    """The stamp that a file is: as it is, its middle, or resampled about it."""
    wanted, (rows, columns) = options.wanted, image.window.shape
    x, y = (columns - 1) / 2, (rows - 1) / 2
    wcs = image.wcs
    if wcs is None:
        wcs = WCS(naxis=2)  # anywhere on the sky
        wcs.wcs.ctype, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], (x + 1, y + 1)
        wcs.wcs.cdelt = image.scales / [-3600, 3600]
    near = headers.near(image.scales, wanted.pixel_scale)
    pixels, filled = _stamp(name, image._replace(wcs=wcs), x, y, options, near)
    ra = dec = math.nan
    if image.wcs is not None:
        with contextlib.suppress(Exception):
            sky = image.wcs.pixel_to_world(x, y).icrs
            ra, dec = float(sky.ra.deg), float(sky.dec.deg)
    return Stamp(pixels, filled, ra, dec, place._replace(hdu=max(place.hdu, image.hdu), x=x, y=y))


class _Windows:
    """Windows of an image as float32, of which no more is read than is needed; pixels without data are NaN."""

    def __init__(self, hdus, number, stream, plane):
        self.hdu, self.packed, self.lead = hdus[number], packed(stream), plane
        self.last = (0,) if plane == () and len(self.hdu.shape) == 3 else ()  # an axis of length 1
        self.shape = (*self.hdu.shape, 0)[-3 - len(self.last) : -1 - len(self.last)]
        self.mask = images.mask_of(hdus, number)
        self.first, self.rows = 0, None

    def __call__(self, rows, columns):
        if self.packed:
            pixels = self._forwards(rows)[:, columns]
        else:
            pixels = self.hdu.section[(*self.lead, rows, columns, *self.last)]
        pixels = np.array(pixels, np.float32)
        pixels[~np.isfinite(pixels)] = np.nan
        if self.mask is not None:
            plane, bits = self.mask
            pixels[(plane.section[rows, columns] & bits) > 0] = np.nan
        pixels[_without_data(pixels)] = np.nan
        return pixels

    def _forwards(self, rows):
        """Whole rows; those of the last window are kept, since every step back unpacks the file from its beginning."""
        last = self.first + (0 if self.rows is None else len(self.rows))
        if self.rows is None or not self.first <= rows.start <= last:
            self.rows = self._section(rows.start, rows.stop)
        else:
            kept = self.rows[rows.start - self.first :]
            if rows.stop > last:
                kept = np.concatenate([kept, self._section(last, rows.stop)])
            self.rows = kept
        self.first = rows.start
        return self.rows[: rows.stop - rows.start]

    def _section(self, start, stop):
        return self.hdu.section[(*self.lead, slice(start, stop), slice(None), *self.last)]


def _without_data(pixels):
    """Pixels that say by their value that there are no data.

    Blocks and lines of 0, or of the lowest value, or of a highest that is no brightness; and what lies far below the
    sky, such as -99 or -32768: a stamp is normalised by its lowest and highest pixel.
    """
    known = pixels[np.isfinite(pixels)]
    if not len(known) or known.min() == known.max():
        return np.zeros(pixels.shape, bool)
    sky = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - sky))
    found = (pixels < sky - DARK * spread) if spread else np.zeros(pixels.shape, bool)
    found |= np.abs(pixels) > BRIGHTEST
    for value in {0.0, float(known.min())}:
        same = pixels == value
        if np.count_nonzero(same) < min(pixels.shape):
            continue
        near = np.logical_or.reduce([binary_dilation(binary_erosion(same, s, border_value=True), s) for s in _SOLID])
        near &= same
        rim = binary_dilation(near) & ~same
        # not where pixels reach 0 by and by: the sky of a simulation without noise
        if rim.any() and np.nanmedian(np.abs(pixels[rim] - value)) > 1e-9 * np.nanmax(np.abs(known - value)):
            found |= near
    return found


def _stamp(name, image, x, y, options, near=None):
    """Pixels of a position, and how many were filled; near: the scale is known to be the wanted one, or not to be."""
    wanted, size, window = options.wanted, tuple(options.wanted.size), image.window
    jacobian = None if near else tiles.jacobian(image.wcs, x, y)
    if near is None:
        scales = np.hypot(*jacobian)
        tiles.check_scale(name, scales, wanted)
        skew = (jacobian[:, 0] @ jacobian[:, 1]) / np.prod(scales)
        near = headers.near(scales, wanted.pixel_scale) and abs(skew) <= headers.SCALE_TOLERANCE
    if near:
        here, there = overlap_slices(window.shape, size, (y, x), mode="partial")  # as Cutout2D, but read before cut
        native = window(*here)
        pixels = np.full(size, np.nan, np.float32)
        pixels[there] = native
    else:
        pixels, native = _resample(window, image.wcs, jacobian, x, y, wanted)
    missing = ~np.isfinite(pixels)
    if n := int(np.count_nonzero(missing)):
        r, c = np.indices(size)
        core = np.hypot(r - (size[0] - 1) / 2, c - (size[1] - 1) / 2) * wanted.pixel_scale <= headers.CORE
        if n > options.max_filled * missing.size or (missing & core).any():
            inner = np.count_nonzero(missing & core)
            raise StampError(
                name, "masked", f"{n} of {missing.size} pixels, {inner} within {headers.CORE:g} arcsec of the centre"
            )
        pixels[missing] = np.median(pixels[~missing])
    if pixels.min() == pixels.max():
        raise StampError(name, "constant", f"all pixels are {pixels.flat[0]:g}")
    headers.check_plateau(name, native, image.header)  # of the file's own pixels: none that were resampled are equal
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
        pixels = reproject_adaptive(
            (native, part), target, kernel="hann", conserve_flux=True, boundary_mode="ignore", **options
        )
        return pixels.astype(np.float32), own
    # A spline spreads a NaN over the whole window: it is given the median there, and what it touches is masked after.
    solid = np.where(hole, np.nanmedian(native), native)
    pixels = reproject_interp((solid, part), target, order="bicubic", **options)
    pixels *= wanted.pixel_scale**2 / abs(np.linalg.det(jacobian))
    if hole.any():
        pixels[~(reproject_interp((hole.astype(float), part), target, order="bilinear", **options) == 0)] = np.nan
    return pixels.astype(np.float32), own
