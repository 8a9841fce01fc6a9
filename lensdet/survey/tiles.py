"""Images of the sky in FITS files, by their headers: opened, looked over for what they are good for, and checked."""

import contextlib
import io
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from lensdet.data import images
from lensdet.data.fits import check_compressed, open_checked, packed
from lensdet.data.stamps import StampError
from lensdet.survey import arrays, headers
from lensdet.survey.headers import Options, Wanted


class Found(NamedTuple):
    """An image that stamps can be cut from, by its header."""

    hdu: int
    error: StampError | None = None  # why it cannot be used, though positions may lie on it
    wcs: WCS | None = None
    shape: tuple[int, int] = (0, 0)
    scale: float = math.nan  # arcsec a pixel in the middle
    middle: NDArray | None = None  # unit vector (ICRS)
    reach: float = 0.0  # of its corners from there, as a chord of the unit sphere, with a margin
    integers: bool = False  # perhaps a mask


@contextlib.contextmanager
def opened(
    path: str | os.PathLike, most: float = math.inf, row: int = 0
) -> Iterator[tuple[fits.HDUList, io.BufferedIOBase]]:
    """The HDUs of a file, whose pixels are not read yet, and its stream; what is wrong is a StampError.

    Parameters
    ----------
    path : path-like
        FITS, plain or packed; or an HDF5 file of stamps.
    most : float
        Pixels that the first HDU of a packed file may have, where that is to be known before it is unpacked.
    row : int
        Of the stamps of an HDF5 file.
    """
    try:
        with headers.quiet(), contextlib.ExitStack() as stack:
            if arrays.is_array(path):
                stream = stack.enter_context(arrays.as_fits(path, row))
            else:
                stream = stack.enter_context(open_checked(headers.peek(path)))
            if packed(stream) and most < math.inf:  # before astropy unpacks it all to see what follows
                sizes = headers.first_shape(path)
                if math.prod(sizes) > most:
                    raise StampError(path, "shape", f"{sizes}, too large")
            # uint=False: BLANK counts in unsigned integers
            yield stack.enter_context(fits.open(stream, memmap=False, uint=False)), stream
    except Exception as error:
        if "Empty or corrupt" in str(error) and _is_cut(path):
            raise StampError(path, "truncated", f"{type(error).__name__}: {error}") from error
        raise headers.as_stamp_error(path, error) from error


def _is_cut(path):
    """Whether a file that astropy calls corrupt is cut off: FITS comes in blocks, and a packed file has an end."""
    with contextlib.suppress(Exception), open_checked(path) as file:
        try:
            return bool(file.seek(0, os.SEEK_END) % 2880)  # in pieces, not in memory
        except EOFError:
            return True
    return False


def sky_images(
    path: str | os.PathLike,
    hdus: fits.HDUList,
    stream: io.BufferedIOBase,
    wanted: Wanted,
    size: tuple[int, int] | None = None,
) -> list[int]:
    """Numbers of the images of the sky in a file; StampError where there is none."""
    numbers, other = images.sky_images(hdus, path, wanted.band, size)
    if not numbers:
        short = not packed(stream) and os.path.getsize(path) % 2880
        reason = "companion" if other else "truncated" if short else "no image"
        raise StampError(path, reason, other or f"{len(hdus)} HDU and no pixels")
    return numbers


def plane(hdu: fits.ImageHDU, options: Options) -> tuple[int, ...] | None:
    """Index of the plane to read; None where that is not known."""
    if options.plane is not None and len(hdu.shape) == 3 and min(hdu.shape) > 1:
        return (options.plane,) if options.plane < hdu.shape[0] else None
    own = images.plane_of(hdu, options.wanted.band, tuple(options.wanted.size))
    return images.plane_of(hdu, options.wanted.band) if own is None else own


def check_file(
    path: str | os.PathLike, hdus: fits.HDUList, number: int, stream: io.BufferedIOBase, options: Options
) -> None:
    """Raise StampError for what a header says before a pixel is read: axes, length of the file, band."""
    hdu = hdus[number]
    if len(hdu.shape) < 2 or plane(hdu, options) is None:
        raise StampError(path, "shape", f"{hdu.shape}, not an image of two axes")
    where = hdu.fileinfo()  # astropy warns of a short file only where it happens to look beyond the data
    if not packed(stream) and (size := stream.seek(0, os.SEEK_END)) < (end := where["datLoc"] + where["datSpan"]):
        raise StampError(path, "truncated", f"{size} bytes, not {end}")
    if isinstance(hdu, fits.CompImageHDU):
        try:
            check_compressed(hdu, stream)
        except Exception as error:  # of this image; the other CCDs of a mosaic may be whole
            raise headers.as_stamp_error(path, error) from error
    headers.check_band(path, images.header_of(hdu, hdus), options.wanted, options.band)


def look_over(path: str | os.PathLike, options: Options) -> list[Found]:
    """What a tile is good for, by its headers: its images that are alike (the CCDs of a mosaic), or what is wrong."""
    found = []
    try:
        with opened(path) as (hdus, stream):
            for number in sky_images(path, hdus, stream, options.wanted):
                try:
                    wcs = headers.celestial(hdus[number].header, hdus)
                except Exception as error:
                    error = StampError(path, "no image", f"its WCS cannot be used: {error}")
                    found.append(Found(number, error))
                else:
                    found += [_look_over(path, hdus, number, stream, wcs, options)] if wcs is not None else []
            if not found:
                short = not packed(stream) and os.path.getsize(path) % 2880
                raise StampError(path, "truncated" if short else "no image", "no image with a celestial WCS")
    except StampError as error:
        found.append(Found(-1, error))
    return found


def _look_over(path, hdus, number, stream, wcs, options):
    hdu, wanted, error = hdus[number], options.wanted, None
    rows, columns = hdu.shape[-2:]
    scales = np.hypot(*jacobian(wcs, (columns - 1) / 2, (rows - 1) / 2))
    try:
        check_file(path, hdus, number, stream, options)
        check_scale(path, scales, wanted)
        if options.pixel_scale is not None and not headers.near(scales, options.pixel_scale):
            said = f"{scales[0]:.4g} arcsec a pixel by its WCS, stated {options.pixel_scale:g}"
            raise StampError(path, "scale", said)
    except StampError as wrong:
        error = wrong
    middle = wcs.pixel_to_world((columns - 1) / 2, (rows - 1) / 2)
    rim = wcs.pixel_to_world(np.array([0, 0, columns, columns]) - 0.5, np.array([0, rows, 0, rows]) - 0.5)
    # 1.2: a first look, as a projection need not know the other side of the sky
    reach = 2 * np.sin(np.fmin(rim.separation(middle).max().rad * 1.2, math.pi) / 2)  # a corner off the sky: all of it
    vector = np.nan_to_num(middle.icrs.cartesian.xyz.value)
    scale = float(np.sqrt(np.prod(scales)))
    return Found(number, error, wcs, (rows, columns), scale, vector, reach, hdu.header["BITPIX"] > 0)


def check_scale(name: str | os.PathLike, scales: NDArray, wanted: Wanted) -> None:
    """Raise StampError where pixels (arcsec along both axes) are too fine or too coarse to be resampled."""
    if np.isnan(scales).any():
        raise StampError(name, "no image", "by its WCS the middle is not on the sky")
    if not all(headers.FINEST <= scale / wanted.pixel_scale <= headers.COARSEST for scale in scales):
        said = " x ".join(f"{s:.4g}" for s in scales)
        raise StampError(name, "scale", f"{said} arcsec a pixel, too far from {wanted.pixel_scale:g} to be resampled")


def jacobian(wcs: WCS, x: float, y: float) -> NDArray:
    """Arcsec to the east and north of the image's frame (rows) by pixel (x and y, in columns), at a position."""
    points = np.add([x, y], [[0, 0], [-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
    lon, lat = np.deg2rad(wcs.all_pix2world(points, 0)[:, [wcs.wcs.lng, wcs.wcs.lat]].T)
    vectors = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])  # at the poles, too
    (lon, *_), (lat, *_) = lon, lat
    east = -np.sin(lon), np.cos(lon), 0.0
    north = -np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)
    return 3600 * np.rad2deg(np.array([east, north]) @ (vectors[:, [2, 4]] - vectors[:, [1, 3]]))
