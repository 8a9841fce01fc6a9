"""FITS files as surveys, services for cutouts and their users write them: small and seeded; and what comes of them."""

import io
import math
from typing import NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from lensdet.data.stamps import Rejection
from lensdet.survey.cutouts import Plan
from lensdet.survey.reading import read

RA, DEC = 150.0, 2.0
FWHM = 0.9  # arcsec, of the galaxy


def galaxy(shape=(101, 101), seed=0, at=None, scale=0.2, sky=0.0):
    """A round galaxy, 200 times as bright in its middle as the noise of 1; at pixel (x, y), or in the middle."""
    x, y = at or ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    rows, columns = np.indices(shape, np.float32)
    light = 200 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / (FWHM / 2.35482 / scale) ** 2)
    return (np.random.default_rng(seed).standard_normal(shape) + light + sky).astype("f4")


def blanked(place, value=np.nan, **options):
    """A galaxy some of whose pixels have another value."""
    pixels = galaxy(**options)
    pixels[place] = value
    return pixels


def sky(shape=(101, 101), scale=0.2, ra=RA, dec=DEC, turn=0.0, flip=1, projection="TAN", without=(), **cards):
    """The WCS about the middle of an image, north up or turned by some degrees; cards are added, or replace."""
    c, s = (scale / 3600 * f(math.radians(turn)) for f in (math.cos, math.sin))
    header = fits.Header({"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": ra, "CRVAL2": dec})
    header.update(CRPIX1=(shape[1] + 1) / 2, CRPIX2=(shape[0] + 1) / 2)
    header.update(CD1_1=-c * flip, CD1_2=s, CD2_1=s * flip, CD2_2=c, FILTER="r")
    for keyword, value in cards.items():
        header[f"HIERARCH {keyword}" if len(keyword) > 8 else keyword] = value
    for keyword in without:
        del header[keyword]
    return header


CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
CDELT = {"CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600}


def bare(**cards):
    """A header without a WCS."""
    return fits.Header(cards)


def content(*hdus, **options):
    """HDUs as the bytes of a file."""
    file = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(file, **options)
    return file.getvalue()


def image(pixels=None, header=None, **options):
    """A file with an image, a galaxy by default, on the sky by default."""
    pixels = galaxy() if pixels is None else pixels
    return content(fits.PrimaryHDU(pixels, sky(pixels.shape[-2:]) if header is None else header), **options)


def extensions(*of, primary=None, compressed=False):
    """A file with named extensions of (name, pixels, header)."""
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    return content(fits.PrimaryHDU(header=primary), *(kind(pixels, header, name=name) for name, pixels, header in of))


def packed(pixels=None, kind="RICE_1", checksum=False, header=None, **options):
    """A tile-compressed file of one image."""
    pixels = galaxy() if pixels is None else pixels
    header = sky(pixels.shape) if header is None else header
    return content(
        fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type=kind, **options), checksum=checksum
    )


def lsst(pixels=None, no_data=(), **options):
    """Image, mask and variance as HSC and LSST write them; a bit for what was detected, one for missing pixels."""
    pixels = galaxy() if pixels is None else pixels
    mask = np.where(pixels > 5, 1 << 5, 0).astype("i4")
    for place in no_data:
        mask[place] |= 1 << 8
    wcs = sky(pixels.shape)
    planes = sky(pixels.shape, MP_BAD=0, MP_DETECTED=5, MP_NO_DATA=8)
    of = ("IMAGE", pixels, wcs), ("MASK", mask, planes), ("VARIANCE", np.ones_like(pixels), wcs)
    return extensions(*of, **options)


def with_card(of, keyword, text):
    """A file the first card of which that begins with a keyword has another text after it."""
    start = of.index(keyword.encode().ljust(8) + b"=")
    card = keyword.encode().ljust(8) + b"= " + (text if isinstance(text, bytes) else text.encode())
    return of[:start] + card.ljust(80)[:80] + of[start + 80 :]


def position(header, at):
    """RA and Dec (ICRS) of a pixel (x, y)."""
    there = WCS(header).pixel_to_world(*at).icrs
    return float(there.ra.deg), float(there.dec.deg)


def catalogue(path, positions, header=None):
    """A catalogue of RA and Dec by id, or of pixels of a header."""
    rows = {name: at if header is None else position(header, at) for name, at in positions.items()}
    path.write_text("id,ra,dec\n" + "".join(f"{name},{ra!r},{dec!r}\n" for name, (ra, dec) in rows.items()))
    return path


class Stamp(NamedTuple):
    """A stamp that is used."""

    pixels: np.ndarray
    ra: float
    dec: float
    filled: int


def outcome(plan: Plan) -> tuple[dict[str, Stamp], dict[str, Rejection]]:
    """Stamps that are used and rejections of the others, by id; each is named once, and can be scored."""
    batches = [read(unit) for unit in plan.units]
    used = [
        (i, Stamp(*rest)) for b in batches for i, *rest in zip(*b[:1], b.pixels, b.ra, b.dec, b.filled, strict=True)
    ]
    left = [(r.file, r) for r in [*plan.rejections, *(r for b in batches for r in b.rejections)]]
    assert len(used) + len(left) == plan.total == len(dict(used + left))
    assert all(np.isfinite(s.pixels).all() and s.pixels.min() < s.pixels.max() for _, s in used)
    assert all(r.reason and r.detail for _, r in left)
    return dict(used), dict(left)


def aside(pixels):
    """How far from the middle the galaxy is, in pixels, and its flux."""
    half = pixels.shape[0] // 2
    part = (pixels - np.median(pixels))[half - 15 : half + 16, half - 15 : half + 16]
    light = np.where(part > 0.1 * part.max(), part, 0)
    rows, columns = np.indices(part.shape) - 15
    return math.hypot((light * rows).sum(), (light * columns).sum()) / light.sum(), part.sum()


def separation(one, other):
    """Arcsec between two positions of RA and Dec."""
    one, other = (SkyCoord(*position, unit="deg") for position in (one, other))
    return float(one.separation(other).arcsec)
