"""What FITS headers say of a stamp or tile: scale, band, saturation; and what is wrong with a file, by name."""

import contextlib
import errno
import math
import os
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from astropy import log
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

from lensdet.data import images
from lensdet.data.fits import open_checked
from lensdet.data.stamps import SHAPE, StampError

SCALE_TOLERANCE = 0.01  # relative: half a pixel at the edge of a stamp
FINER = 0.8  # wanted pixels, below which a tile is averaged rather than interpolated
FINEST, COARSEST = 0.1, 3.0  # wanted pixels, that a tile's may have: memory of a window; what no network has seen
# Pixels; see REASONS["saturated"].  Not seen where co-adding has made a plateau uneven and left SATURATE above it: a
# star in a CFHTLS stack by Lanczos resampling has 4690 +- 20, spikes up to 5310, and SATURATE says 5270.
PLATEAU = 10
_FRAMES = {"J2000": "FK5", "FK5J2000": "FK5", "B1950": "FK4", "ICRF": "ICRS"}  # as some write RADESYS
_KNOWN = ("ICRS", "FK5", "FK4", "FK4-NO-E")
# How keywords of a WCS begin, distortions and old ones among them.  Of a stack's header, which has hundreds of others,
# all take five times as long to make sense of as these: two fifths of the time in which a stamp is read.
_OF_WCS = re.compile(
    "WCS|Z?NAXIS|C[DRSTU]|PC|PV|PS|PROJ|LON|LAT|[AB]P?_|C[PQ](DIS|ERR)|D[PQ]|D2IM|AXISCORR|WAT|RAD|EQUINOX|EPOCH|"
    "MJD|DATE|OBSGEO|SPECSYS|VEL|REST|AMD[XY]|PLT|PPO|CNPIX|[XY]PIXELSZ"
)
CORE = 2.0  # arcsec from the centre, within which nothing is filled

REASONS = {  # of a rejection: what it means, and what to do
    "unreadable": "The file cannot be opened.  Look at its permissions, and whether it is still there.",
    "empty": "The file has no bytes.  Fetch it again.",
    "not FITS": "The file is something else, often a web server's error page.  Fetch it again, or take it away.",
    "truncated": "The file is shorter than its header says.  Fetch it again.",
    "corrupt": "The file breaks the standard or fails its own checks.  Fetch it again; try fitsverify.  A cutout with "
    "its tile's header has the tile's DATASUM: remove that card.",
    "no image": "No HDU has pixels; for a tile: none has pixels and a celestial WCS.",
    "companion": "By its header or name a weight, mask, PSF or the like.  If it is an image of the sky, rename the "
    "file or remove that card.",
    "shape": "Smaller than the stamp that the finder takes, or as large as a tile: give a catalogue and tiles.  Or not "
    "an image of two axes: in a cube, BANDS or BAND0, BAND1 ... name the plane, or give `plane`.",
    "constant": "All pixels are equal: no data there.",
    "scale": "Pixels over 10 times finer or 3 times coarser than the finder's; for a tile, a scale other than stated; "
    "for a stamp, a scale other than the finder's and no WCS.  State `pixel_scale` where the header is right.",
    "no scale": "The header has no WCS with a scale, CD, CDELT or PIXSCALE.  State `pixel_scale` where you know it.",
    "band": "The header names another band (FILTER, BAND and the like), or one that is not understood.  Give images of "
    "the finder's band; if they are, state `band`, or correct a header that names another.",
    "saturated": f"A plateau: {PLATEAU} or more connected pixels (also by corners) at the stamp's maximum, or at or "
    "above the header's SATURATE.  A stamp is scaled by its maximum.  The thesis' finders have seen no saturated star, "
    "and may take one for a lens; `broad` has seen simulated ones alone.  Take a shorter exposure, or look at it by "
    "eye.",
    "too slow": "It was not read within minutes.  Unpack a compressed tile; check the disk.",
    "crash": "The process that read it died: a file that takes all memory, or that breaks a library.  Fetch it again.",
    "duplicate id": "An earlier row of the catalogue has the same id.  Make ids unique.",
    "no position": "RA or Dec is missing, not a number or out of range (degrees).",
    "off the tiles": "No tile covers the position.  Give the tile that does; check the unit of RA, and whether RA and "
    "Dec are swapped.",
    "masked": "Too many pixels are NaN, blank or beyond the tile's edge (raise `max_filled`), or one of those "
    f"is within {CORE:g} arcsec of the centre, on every tile that covers it.  Blocks of pixels that are all 0 have no "
    "data.",
}


class Wanted(NamedTuple):
    """What a finder takes; from the preprocessing that travels with its weights."""

    size: tuple = SHAPE  # rows, columns
    pixel_scale: float = 0.2  # arcsec
    band: str = "r"


class Options(NamedTuple):
    """How a survey's files are read."""

    wanted: Wanted = Wanted()
    pixel_scale: float | None = None  # arcsec, that the files are stated to have
    band: str | None = None  # theirs, where headers name none that is understood
    max_filled: float = 0.02  # share of a stamp's pixels that may be filled
    plane: int | None = None  # of cubes, from 0, where headers do not name it


def near(scales: ArrayLike, wanted: float) -> bool:
    """Whether all of some pixel scales are the wanted one within `SCALE_TOLERANCE`; arcsec a pixel."""
    return bool(np.all(np.abs(np.asarray(scales) / wanted - 1) <= SCALE_TOLERANCE))


def check_band(name: str | os.PathLike, header: fits.Header, wanted: Wanted, stated: str | None) -> None:
    """Raise StampError where a header names another band than `Wanted.band`, or one that is not understood.

    Parameters
    ----------
    name : str or path-like
        Of the stamp or tile, for the message.
    header : astropy.io.fits.Header
    wanted : Wanted
    stated : str or None
        Where it is given, what is not understood passes.
    """
    for keyword, text in images.filters_of(header).items():
        band = images.band_of(text)
        if band != images.band_of(wanted.band) and (band in images.LETTERS or stated is None):
            raise StampError(
                name,
                "band",
                f"{keyword} = {text!r}, {'not' if band in images.LETTERS else 'not known as'} {wanted.band!r}",
            )


def _number(header, keyword):
    """A header's finite number, or None."""
    with contextlib.suppress(Exception):  # a card that cannot be parsed
        value = header.get(keyword)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def celestial(header: fits.Header, hdus: fits.HDUList | None = None) -> WCS | None:
    """WCS of the first two axes, or None where it is not celestial.

    Raises
    ------
    Exception
        Of astropy or wcslib, or a ValueError: a WCS that cannot be used.
    """
    for key in ("CRVAL1", "CRVAL2"):  # wcslib takes a text for 0
        if key in header and _number(header, key) is None:
            raise ValueError(f"{key} = {images.value_of(header, key)!r} is no number")
    cards = [card for card in header.cards if _OF_WCS.match(card.keyword)]
    try:
        wcs = WCS(fits.Header(cards), hdus, naxis=2)
    except (ValueError, fits.VerifyError):  # of cards that cannot be written again, as with a line break
        wcs = WCS(fits.Header([card for card in cards if _writable(card)]), hdus, naxis=2)
    if not wcs.has_celestial or not (wcs.wcs.has_cd() or wcs.wcs.has_pc() or "CDELT1" in header):
        return None  # without any scale the standard's default is a degree a pixel
    said = wcs.wcs.radesys.strip(" .").upper()
    wcs.wcs.radesys = _FRAMES.get(said, said)
    kind = wcs.wcs.ctype[wcs.wcs.lng]
    if not (kind.startswith("GLON") or (kind.startswith("RA--") and wcs.wcs.radesys in _KNOWN)):
        raise ValueError(f"{kind} with RADESYS = {said!r} is not known; RA in {', '.join(_KNOWN)} and GLON are")
    return wcs


def _writable(card):
    try:
        return str(card).isprintable()
    except Exception:
        return False


def scales_of(header: fits.Header, wcs: WCS | None) -> NDArray | None:
    """Arcsec a pixel along both axes, or along one for both; None where the header does not say."""
    if wcs is not None:
        return proj_plane_pixel_scales(wcs) * 3600
    cd = [_number(header, f"CD{i}_{j}") for j in (1, 2) for i in (1, 2)]
    if None not in cd and any(cd):
        return 3600 * np.hypot(cd[::2], cd[1::2])
    cdelt = [_number(header, f"CDELT{i}") for i in (1, 2)]
    if all(cdelt) and cdelt != [1.0, 1.0]:  # 1 is the standard's default and says nothing
        return 3600 * np.abs(cdelt)
    for keyword in ("PIXSCALE", "PXSCALE", "PIXSCAL1", "SECPIX", "SECPIX1"):
        with contextlib.suppress(ValueError):  # some write it as text
            if value := abs(float(images.value_of(header, keyword))):
                return np.array([value])
    return None


def check_plateau(name: str | os.PathLike, pixels: NDArray, header: fits.Header) -> None:
    """Raise StampError where the brightest pixels (rows, columns; NaN apart) are cut off, see `PLATEAU`.

    Name and header are those of `check_band`; pixels are in the units of the file.
    """
    top, level = np.nanmax(pixels), _number(header, "SATURATE")
    over = level is not None and 0 < level <= top
    groups, n = label(pixels >= (level if over else top), np.ones((3, 3)))
    largest = np.bincount(groups.ravel())[1:].max() if n else 0
    if largest >= PLATEAU:
        detail = f"SATURATE, {level:g}, or more" if over else f"the maximum, {top:g}"
        raise StampError(name, "saturated", f"{largest} connected pixels at {detail}")


def as_stamp_error(name: str | os.PathLike, error: Exception) -> StampError:
    """What went wrong, as one of REASONS."""
    if isinstance(error, StampError):
        return error
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, EOFError) or "END card" in str(error):
        return StampError(name, "truncated", detail)
    # EINVAL is what a negative size in the header leads to; every other number is the file system's.
    return StampError(
        name, "corrupt" if getattr(error, "errno", None) in (None, errno.EINVAL) else "unreadable", detail
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what astropy and NumPy say of oddities that do no harm; the others are checked."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)
        level = log.level
        log.setLevel("WARNING")
        try:
            yield
        finally:
            log.setLevel(level)


def first_shape(path: str | os.PathLike) -> tuple[int, ...]:
    """Axes of the first HDU, by its header alone."""
    with open_checked(path) as file:
        header = fits.Header.fromfile(file)
    return tuple(int(header[f"NAXIS{i}"]) for i in range(header.get("NAXIS", 0), 0, -1))


def peek(path: str | os.PathLike) -> str | os.PathLike:
    """The path; raises StampError for what is no FITS file, after its first bytes, however large."""
    if not os.path.isfile(path):  # a folder, a pipe that would wait for ever
        raise StampError(path, "unreadable", "not a file")
    with open_checked(path) as file:
        begins = file.read(6)
    if not begins:
        raise StampError(path, "empty", "0 bytes")
    if begins != b"SIMPLE":
        raise StampError(path, "not FITS", "does not begin with SIMPLE")
    return path
