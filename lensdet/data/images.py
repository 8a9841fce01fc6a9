"""Which image of a FITS file shows the sky, and in which band: what keywords, names and shapes say."""

import contextlib
import math
import os
import re
from collections import ChainMap
from itertools import pairwise

from astropy.io import fits

# Keywords that name a filter; # is a number.
_KEYWORDS = (
    *("FILTER", "FILTER#", "FILTNAME", "FILTNAM", "FILTNAM#", "BAND", "BANDS", "BAND#", "INSFLNAM"),
    *("FILTERX", "FILT_ID", "FPA.FILTER", "FPA.FILTERID"),  # Legacy Surveys; KiDS; Pan-STARRS
    *("PHYSFILT", "FILTBAND", "FILTERID", "WFFBAND", "ESO INS FILT# NAME"),  # LSST; ZTF; INT; ESO
)
_FILTER = re.compile("|".join(re.escape(keyword).replace(r"\#", r"\d+") for keyword in _KEYWORDS))
_SILENT = {"", "none", "n/a", "unknown", "undefined", "nan"}

# A filter's name is understood where its words, in any case, are the letter of one band, surveys and codes:
#   r  r'  R  rp  r+  r2  Rc  SDSS r  r_SDSS  rSDSS  OCAM_r_SDSS  HSC-R2  W-C-RC  r.MP9602  r.00000  bokr  lsst_r  r_03
#   r DECam SDSS c0002 6415.0 1480.0;  Rc and Ic are Cousins'.
# Not: V, VR, VIS, F606W, NB816 (none of the letters); g+r, gri (not one); r Halpha (a word that is not known).
LETTERS = frozenset("ugrizy")
_LETTER = re.compile(r"(?:sdss|bok)?(?:([ugrizy])(?:['+p]|prime|mag|\d\d?)?|([ri])c)(?:sdss)?")
_SURVEYS = set(
    "sdss sloan ocam omegacam vst hsc w s c suprimecam decam des bok megacam megaprime cfht ps1 panstarrs gpc1 lsst "
    "lsstcam rubin ztf skymapper gmos cousins bessel bessell harris special filter band prime sci image".split()
)

# Words that say what an image is, where it is not the sky; numbers after them do not count (chi2, mask1).
_KINDS = ("IMTYPE", "IMAGETYP", "PRODTYPE", "PRODCATG", "HDUCLAS2", "DES_EXT", "EXTNAME")
_COMPANIONS = set(
    "wht weight weights weightmap wei wgt wt wtmap invvar ivar msk mask masks maskbits dq dqmask flag flags flg bpm "
    "badpix var variance err error errors rms noisemap uncert uncertainty depth galdepth psfdepth depthmap nexp expmap "
    "exposuremap expwt coverage ctx chi chisq psf psfs psfsize preview thumbnail seg segm segmentation resid residual "
    "blobmodel bkg bgmod ood oow cov mcov refcov unc munc refunc mskimg unconvexp unconvnum".split()
)
_ALSO = set(
    "model noise sky exp area std sigma con quality background stat".split()
)  # in headers: too common in file names


def band_of(name: str) -> str:
    """Band of a filter by its name: one of `LETTERS`, or a name that is not understood, in lower case."""
    words = re.findall(r"[a-z0-9'+]+", name.lower())
    found = {match[1] or match[2] for word in words if (match := _LETTER.fullmatch(word))}
    known = all(_LETTER.fullmatch(word) or word in _SURVEYS or re.fullmatch(r"[a-z]{0,3}\d+", word) for word in words)
    return found.pop() if known and len(found) == 1 else name.strip().lower()


def value_of(header: fits.Header | ChainMap, keyword: str) -> str:
    """What a card says, as text; empty where it says nothing, or cannot be parsed."""
    with contextlib.suppress(Exception):
        if isinstance(value := header.get(keyword), str | int | float):
            return str(value).strip()
    return ""


def filters_of(header: fits.Header | ChainMap) -> dict[str, str]:
    """Names of filters by keyword of a header, or by EXTNAME where that is a band and no keyword says."""
    known = {key: value_of(header, key) for key in header if _FILTER.fullmatch(key)}
    cube = value_of(header, "NAXIS3") not in ("", "1")  # BANDS and the like are those of its planes
    said = {key: text for key, text in known.items() if text.lower() not in _SILENT and not (cube and "BAND" in key)}
    for lesser in (str.isdecimal, re.compile("(?i)clear|open|empty|free").match):  # counts where there is nothing else
        said = {key: text for key, text in said.items() if not lesser(text)} or said
    extension = value_of(header, "EXTNAME")
    return said or ({"EXTNAME": extension} if band_of(extension) in LETTERS else {})


def _words(text):
    """Words of a name, and of two that follow each other as one."""
    words = [word.rstrip("0123456789") for word in re.findall(r"[a-z0-9]+", text.lower())]
    return {*words, *map("".join, pairwise(words))}


def companion(header: fits.Header | ChainMap, path: str | os.PathLike) -> str | None:
    """What says that an image is a weight, mask, PSF or the like: the header, or else the file's name."""
    said = {keyword: value_of(header, keyword) for keyword in _KINDS}
    said = {key: text for key, text in said.items() if not re.search("(?i)subtracted|[ _-]sub", text)}  # of the sky
    if why := [f"{keyword} = {text!r}" for keyword, text in said.items() if _words(text) & (_COMPANIONS | _ALSO)]:
        return why[0]
    science = _words(" ".join(said.values()).replace("COMPRESSED_IMAGE", "")) & {"sci", "science", "image"}
    found = set() if science else _words(os.path.basename(path)) & _COMPANIONS
    return f"{min(found)!r} in its name" if found else None


def plane_of(hdu: fits.ImageHDU, band: str | None, shape: tuple[int, int] | None = None) -> tuple[int, ...] | None:
    """Index of the plane of a band, by BAND0, BAND1 ... or BANDS of a cube; None where there is none of the shape."""
    header, lead = hdu.header, hdu.shape[:-2]
    if shape and hdu.shape[-2:] != shape:
        return () if hdu.shape == (*shape, 1) else None
    if math.prod(lead) == 1:
        return (0,) * len(lead)
    numbered = sorted((key for key in header if re.fullmatch(r"BAND\d+", key)), key=lambda key: int(key[4:]))
    names = [value_of(header, key) for key in numbered] or re.findall(r"\w", value_of(header, "BANDS"))
    found = [i for i, name in enumerate(names) if band and band_of(name) == band_of(band)]
    return tuple(found) if lead == (len(names),) and len(found) == 1 else None


def header_of(hdu: fits.ImageHDU, hdus: fits.HDUList) -> fits.Header:
    """Header of an image with what the primary one adds."""
    header = hdu.header if hdu is hdus[0] else hdu.header.copy()
    header.extend(() if hdu is hdus[0] else hdus[0].header, unique=True)
    return header


def sky_images(
    hdus: fits.HDUList, path: str | os.PathLike, band: str | None = None, shape: tuple[int, int] | None = None
) -> tuple[list[int], str | None]:
    """Numbers of the images that are likeliest of the sky; and what says of the first of the others that it is none.

    They are of the shape (rows, columns), of the band or of none that is named, called SCI, or IMAGE, of floats; of
    several that are alike (the CCDs of a mosaic) all.  Of the file at `path` the name is looked at.
    """
    keys, others = {}, []
    try:
        for number, hdu in enumerate(hdus):
            if hdu.is_image and math.prod(hdu.shape or (0,)):
                header = ChainMap(hdu.header, hdus[0].header) if number else hdu.header
                others += [why] if (why := companion(header, path)) else []
                bands = {band_of(name) for name in filters_of(header).values()}
                other = (2 if bands - {band_of(band)} else not bands) if band else 0
                named = next((i for i, word in enumerate(("sci", "science", "image")) if word in _words(hdu.name)), 3)
                if not why:
                    keys[number] = plane_of(hdu, band, shape) is None, other, named, hdu.header["BITPIX"] > 0
    except Exception:  # of an HDU after an image: as if it were not there
        if not keys:
            raise
    return [n for n, key in keys.items() if key == min(keys.values())], others[0] if others else None


def mask_of(hdus: fits.HDUList, number: int) -> tuple[fits.ImageHDU, int] | None:
    """The mask beside an image as HSC and LSST write it, and its bits of pixels without data; None without one."""
    for hdu in hdus:
        if hdu.name == "MASK" and hdu.is_image and hdu.shape == hdus[number].shape:
            planes = [value_of(hdu.header, key) for key in ("MP_NO_DATA", "HIERARCH MP_NO_DATA")]
            return next(((hdu, 1 << int(plane)) for plane in planes if plane.isdecimal()), None)
    return None
