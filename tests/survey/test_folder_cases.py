"""Folders of stamps of every kind that was met: each file is used as it should be, or left out for the right reason.

Bands, cubes, weights and extensions are in test_images, impossible sizes of headers in test_headers.
"""

import bz2
import gzip
import lzma
import math
import os
import tracemalloc

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable

from lensdet.data.stamps import normalise
from lensdet.survey.cutouts import plan_folder
from lensdet.survey.headers import REASONS
from tests.survey import cases
from tests.survey.cases import CD, CDELT, DEC, RA, bare, blanked, galaxy, image, sky, with_card

NAMED = set(REASONS)  # any of them will do
UNKNOWN = (math.nan, math.nan)  # RA is not known
WIDE = np.s_[:, :5]  # 5 % of a stamp
CTYPES = ("CTYPE1", "CTYPE2")
ZEROS = np.zeros((101, 101), "f4")


def one(folder, content, name="a.fits", **options):
    """The stamp of a folder with one file, or its rejection."""
    (folder / name).write_bytes(content)
    used, left = cases.outcome(plan_folder(folder, **options))
    assert used.keys() | left.keys() == {name}
    return used.get(name) or left[name]


def check(got, expected):
    """A reason or several; "used"; how many pixels are filled; or where on the sky."""
    if isinstance(got, cases.Rejection):
        assert got.reason in ({expected} if isinstance(expected, str | int | tuple) else expected), got.detail
        return
    ra, dec = float(got.ra), float(got.dec)
    if isinstance(expected, str | set):
        assert "used" in expected
        assert math.isnan(ra) or cases.separation((ra, dec), (RA, DEC)) < 0.15  # nowhere, or there: never elsewhere
    elif expected is UNKNOWN:
        assert math.isnan(ra)
    elif isinstance(expected, tuple):
        assert cases.separation((ra, dec), expected) < 0.15
    else:
        assert int(got.filled) == expected


def parametrised(table):
    return pytest.mark.parametrize(("make", "expected"), table.values(), ids=table.keys())


# ---- pixels without data

PADDING = {
    **{f"zeros_{n}": (lambda n=n: image(blanked(np.s_[:, :n], 0)), "masked") for n in (5, 20, 50, 90)},
    **{f"zeros_on_sky_{n}": (lambda n=n: image(blanked(np.s_[:, :n], 0, sky=50)), "masked") for n in (5, 50, 90)},
    "zeros_a_column": (lambda: image(blanked(np.s_[:, 0], 0)), 101),
    "zeros_a_corner": (lambda: image(np.where(np.add(*np.indices((101, 101))) < 40, 0, galaxy())), "masked"),
    "zeros_a_hole": (lambda: image(blanked(np.s_[10:40, 10:40], 0, sky=50)), "masked"),
    "zeros_a_hole_on_the_galaxy": (lambda: image(blanked(np.s_[48:63, 48:63], 0)), "masked"),
    "three_zeros_inside": (lambda: image(blanked((30, [20, 40, 60]), 0)), 0),
    "counts_about_zero": (lambda: image(np.round(galaxy()).astype("i2")), 0),  # 38 % are 0, as the sky around
    "m99_border": (lambda: image(blanked(WIDE, -99)), "masked"),
    "m32768_border": (lambda: image(blanked(WIDE, -32768)), "masked"),
    "m1e30_border": (lambda: image(blanked(WIDE, -1e30)), "masked"),
    "p1e30_border": (lambda: image(blanked(WIDE, 1e30)), "masked"),
    "m99_column": (lambda: image(blanked(np.s_[:, 0], -99)), 101),
    "nan_1": (lambda: image(blanked((5, 5))), 1),
    "nan_9": (lambda: image(blanked(np.s_[:3, :3])), 9),
    "infinite_1": (lambda: image(blanked((5, 5), np.inf)), 1),
    "nan_12_rows": (lambda: image(blanked(np.s_[:12])), "masked"),
    "nan_in_the_middle": (lambda: image(blanked((50, 50))), "masked"),
    "nan_at_1.8_arcsec": (lambda: image(blanked((50, 59))), "masked"),
    "nan_at_2.2_arcsec": (lambda: image(blanked((50, 61))), 1),
    "nan_everywhere": (lambda: image(ZEROS * np.nan), NAMED),
    "nan_1_compressed": (lambda: cases.packed(blanked((4, 4))), 1),
    "nan_1_finer": (lambda: image(blanked((4, 4), shape=(202, 202), scale=0.1), sky((202, 202), 0.1)), "used"),
    "blank_1": (lambda: image(blanked((3, 3), -32768).astype("i2"), sky(BLANK=-32768)), 1),
    "blank_unused": (lambda: image(blanked((3, 3), 7).astype("i2"), sky(BLANK=-32768)), 0),
    "lsst_mask": (lambda: cases.lsst(no_data=[np.s_[:, 0]]), 101),
    "lsst_mask_wide": (lambda: cases.lsst(no_data=[WIDE]), "masked"),
    "lsst_mask_middle": (lambda: cases.lsst(no_data=[(50, 50)]), "masked"),
    "lsst_no_mask": (lambda: cases.lsst(), 0),
    "lsst_compressed": (lambda: cases.lsst(no_data=[np.s_[:, 0]], compressed=True), 101),
}


@parametrised(PADDING)
def test_a_stamp_with_pixels_without_data_is_filled_or_left_out(tmp_path, make, expected):
    check(one(tmp_path, make()), expected)


def test_what_may_be_filled_of_a_stamp_is_given(tmp_path):
    content = image(blanked(np.s_[:, :5]))
    assert one(tmp_path, content, max_filled=0.05).filled == 505
    assert one(tmp_path, image(blanked((5, 5))), max_filled=0.0).reason == "masked"


@pytest.mark.parametrize("value", [-99, -9999, -32768, -1e30, 1e30])
def test_a_single_sentinel_pixel_is_not_taken_for_light(tmp_path, value):
    got = one(tmp_path, image(blanked((10, 10), value)))
    held = isinstance(got, cases.Stamp) and bool(got.pixels[10, 10] == np.float32(value))
    assert not held


# ---- numbers

COUNTS = np.round(galaxy(seed=1) * 50).astype("i4")


def _scaled(kind, **options):
    """Integers that BSCALE and BZERO make numbers of."""
    hdu = kind(COUNTS.astype("i2"), sky())
    hdu.header.update(BSCALE=0.02, BZERO=5.0)
    return cases.content(*([hdu] if kind is fits.PrimaryHDU else [fits.PrimaryHDU(), hdu]), **options)


NUMBERS = {  # and what float32 rounds, as a share of the range
    "float64": (lambda: image(COUNTS.astype("f8")), 1e-6),
    "int16": (lambda: image(COUNTS.astype("i2")), 1e-6),
    "int32": (lambda: image(COUNTS), 1e-6),
    "int64": (lambda: image(COUNTS.astype("i8")), 1e-6),
    "uint16": (lambda: image((COUNTS - COUNTS.min()).astype("u2")), 1e-6),
    "scaled": (lambda: _scaled(fits.PrimaryHDU), 1e-6),
    "scaled_compressed": (lambda: _scaled(fits.CompImageHDU), 1e-6),
    "float_with_blank": (lambda: image(COUNTS.astype("f4"), sky(BLANC=0)).replace(b"BLANC =", b"BLANK ="), 1e-6),
    "tiny": (lambda: image(COUNTS * 1e-35, sky(BUNIT="W/m2/Hz")), 1e-6),
    "denormal": (lambda: image(COUNTS * 1e-43), 1e-4),
    "pedestal": (lambda: image(COUNTS / 50 + 1e7), 0.01),
    "negative": (lambda: image(COUNTS.astype("f4") - 1e5), 1e-5),
    "unit_not_understood": (lambda: image(COUNTS.astype("f4"), sky(BUNIT="10**-29 erg s/cm^2?")), 1e-6),
}


@pytest.mark.parametrize(("make", "tolerance"), NUMBERS.values(), ids=NUMBERS.keys())
def test_number_types_and_units_do_not_change_a_stamp(tmp_path, make, tolerance):
    got = one(tmp_path, make())
    np.testing.assert_allclose(normalise(got.pixels), normalise(COUNTS), atol=tolerance)


def test_what_float32_cannot_hold_is_named(tmp_path):
    assert one(tmp_path, image(COUNTS * 1e36)).reason in NAMED


# ---- compression

PLAIN = galaxy(seed=1)


def _des():
    of = ("SCI", PLAIN, sky()), ("MSK", ZEROS.astype("i4"), sky()), ("WGT", ZEROS + 1, sky())
    return cases.extensions(*of, compressed=True)


def _members(content):
    return gzip.compress(content[:2880]) + gzip.compress(content[2880:])


COMPRESSED = {
    "a.fits.fz": lambda: cases.packed(PLAIN),
    "hcompress.fits.fz": lambda: cases.packed(PLAIN, "HCOMPRESS_1"),
    "gzip_1.fits.fz": lambda: cases.packed(PLAIN, "GZIP_1"),
    "gzip_2.fits.fz": lambda: cases.packed(PLAIN, "GZIP_2", quantize_level=0),
    "des.fits.fz": _des,
    "in_fits.fits": lambda: cases.packed(PLAIN),
    "a.fits.gz": lambda: gzip.compress(image(PLAIN)),
    "gzipped.fits": lambda: gzip.compress(image(PLAIN)),
    "two_members.fits.gz": lambda: _members(image(PLAIN)),
    "not_gzipped.fits.gz": lambda: image(PLAIN),
    "a.fits.bz2": lambda: bz2.compress(image(PLAIN)),
    "a.fit.xz": lambda: lzma.compress(image(PLAIN)),
    "a.fts": lambda: image(PLAIN),
    "A.FTS.GZ": lambda: gzip.compress(image(PLAIN)),
}


@pytest.mark.parametrize(("name", "make"), COMPRESSED.items(), ids=COMPRESSED.keys())
def test_compressed_stamps_are_those_that_went_in(tmp_path, name, make):
    got = one(tmp_path, make(), name)
    np.testing.assert_allclose(got.pixels, PLAIN, atol=0.1)  # lossy: steps of 1/16 of the noise, which is 1
    assert cases.separation((got.ra, got.dec), (RA, DEC)) < 0.15


@pytest.mark.parametrize("suffix", ["bz2", "xz", "gz"])
def test_compressed_stamps_that_are_cut_or_spoilt_are_named(tmp_path, suffix):
    packed = {"bz2": bz2, "xz": lzma, "gz": gzip}[suffix].compress(image(PLAIN))
    half = len(packed) // 2
    assert one(tmp_path, packed[:half], f"a.fits.{suffix}").reason in {"truncated", "corrupt"}
    spoilt = packed[:half] + bytes(b ^ 255 for b in packed[half : half + 400]) + packed[half + 400 :]
    # bzip2 gives what a spoilt block holds before it has looked at the block's checksum
    assert one(tmp_path, spoilt, f"a.fits.{suffix}").reason in {"truncated", "corrupt", "not FITS"}


# ---- scale and position

SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-7, "B_0_2": 1e-7}
RADESYS = {name: (lambda name=name: image(header=sky(RADESYS=name)), (RA, DEC)) for name in ("J2000", "icrs.")}
SEXTUPLE = {"CRVAL1": RA * 3600, "CRVAL2": DEC * 3600, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}
POSITIONS = RADESYS | {
    "pixscale": (lambda: image(header=bare(PIXSCALE=0.2)), UNKNOWN),
    "pixscale_degrees": (lambda: image(header=bare(PIXSCALE=0.2 / 3600)), "scale"),
    "pixscale_0.262": (lambda: image(header=bare(PIXSCALE=0.262)), "scale"),  # a keyword alone: to be stated
    "secpix": (lambda: image(header=bare(SECPIX=0.2)), UNKNOWN),
    "cdelt": (lambda: image(header=bare(**CDELT)), UNKNOWN),
    "cdelt_arcsec": (lambda: image(header=bare(CDELT1=-0.2, CDELT2=0.2)), {"scale", "no scale"}),
    "cdelt_minus_1": (lambda: image(header=bare(CDELT1=-1.0, CDELT2=1.0)), {"scale", "no scale"}),
    "nothing": (lambda: image(header=bare()), "no scale"),
    "cdelt_cunit": (lambda: image(header=sky(without=CD, **SEXTUPLE, CDELT1=-0.2, CDELT2=0.2)), (RA, DEC)),
    "crota": (lambda: image(header=sky(without=CD, **CDELT, CROTA2=30.0)), (RA, DEC)),
    "pc001001": (lambda: image(header=sky(without=CD, **CDELT, PC001001=1.0, PC002002=1.0)), (RA, DEC)),
    "cd_and_cdelt_1": (lambda: image(header=sky(CDELT1=1.0, CDELT2=1.0)), (RA, DEC)),
    "cd_and_other_cdelt": (lambda: image(header=sky(CDELT1=-0.262 / 3600, CDELT2=0.262 / 3600)), (RA, DEC)),
    "sip": (lambda: image(header=sky(projection="TAN-SIP", **SIP)), (RA, DEC)),
    "sip_without_ctype": (lambda: image(header=sky(**SIP)), (RA, DEC)),
    "tpv": (lambda: image(header=sky(projection="TPV", PV1_1=1.0, PV2_1=1.0)), (RA, DEC)),
    "scamp": (lambda: image(header=sky(PV1_0=0.0, PV1_1=1.0, PV1_4=1e-6, PV2_1=1.0)), (RA, DEC)),
    "zpx": (lambda: image(header=sky(projection="ZPX", WAT0_001="system=image")), "used"),
    "galactic": (lambda: image(header=sky(CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")), (63.371029, 53.894701)),
    "swapped": (
        lambda: image(header=sky(CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=DEC, CRVAL2=RA)),
        (RA, DEC),
    ),
    "fk4": (lambda: image(header=sky(EQUINOX=1950.0, RADESYS="FK4")), (150.645123, 1.758129)),
    "mirrored": (lambda: image(header=sky(flip=-1)), (RA, DEC)),
    "cd_without_ctype": (lambda: image(header=sky(without=CTYPES)), "used"),
    "ra_0": (lambda: image(header=sky(ra=0.0)), (0.0, DEC)),
    "ra_negative": (lambda: image(header=sky(ra=-10.0)), (350.0, DEC)),
    "pole": (lambda: image(header=sky(dec=90.0)), (RA, 90.0)),
    "south_pole": (lambda: image(header=sky(dec=-90.0)), (RA, -90.0)),
    "crval_text": (lambda: image(header=sky(CRVAL1="150.0")), UNKNOWN),
    "crval2_text": (lambda: image(header=sky(CRVAL2="+02:00:00")), UNKNOWN),
    "crval_nan": (lambda: with_card(image(), "CRVAL1", "NaN"), UNKNOWN),
    "crval_infinite": (lambda: with_card(image(), "CRVAL1", "1E400"), UNKNOWN),
}


@parametrised(POSITIONS)
def test_scale_and_position_are_read_from_every_usual_header(tmp_path, make, expected):
    check(one(tmp_path, make()), expected)


@pytest.mark.parametrize("cards", [{"PIXSCALE": "0.2"}, {"PXSCALE": 0.2}])
def test_a_scale_in_an_unusual_form_is_used_or_its_keyword_is_named(tmp_path, cards):
    got = one(tmp_path, image(header=bare(**cards)))
    check(got, {"used", "no scale"})
    assert isinstance(got, cases.Stamp) or next(iter(cards)) in got.detail
    assert one(tmp_path, image(header=bare(**cards)), pixel_scale=0.2).pixels.shape == (101, 101)


SIZES = {  # rows, columns and scale
    **{f"scale_{s}": ((101, 101), s, "used") for s in (0.2, 0.2001, 0.2019, 0.2021, 0.25, 0.262, 0.2637, 0.396, 0.59)},
    **{f"scale_{s}": ((101, 101), s, "shape") for s in (0.1, 0.168, 0.186)},
    **{f"scale_{s}": ((101, 101), s, "scale") for s in (0.7, 0.015)},
    **{f"size_{n}": ((n, n), 0.2, "used") for n in (102, 105, 202)},
    **{f"size_{n}": ((n, n), 0.2, "shape") for n in (41, 64, 96)},
    "oblong": ((101, 140), 0.2, "used"),
    "low": ((60, 202), 0.2, "shape"),
    "hubble": ((420, 420), 0.05, "used"),
    "pan_starrs": ((120, 120), 0.25, "used"),
    "hsc": ((124, 124), 0.168, "used"),
    "cfhtls": ((112, 110), 0.186, "used"),
}


@pytest.mark.parametrize(("shape", "scale", "expected"), SIZES.values(), ids=SIZES.keys())
def test_stamps_of_any_scale_and_size_keep_the_galaxy_in_the_middle(tmp_path, shape, scale, expected):
    """Cut where the scale is the wanted one within 1 %, else resampled; too small is no size."""
    content = image(galaxy(shape, 1, scale=scale), sky(shape, scale))
    check(got := one(tmp_path, content), expected)
    if expected == "used":
        offset, flux = cases.aside(got.pixels)
        assert offset < (0.71 if abs(scale / 0.2 - 1) < 0.01 else 0.1)
        assert flux == pytest.approx(cases.aside(galaxy())[1] * (0.2 / scale) ** 2, rel=0.03)


@pytest.mark.parametrize("name", ["scale_0.2019", "scale_0.262", "scale_0.168", "hubble", "size_202"])
def test_a_scale_that_is_stated_does_as_one_by_wcs(tmp_path, name):
    shape, scale, expected = SIZES[name]
    pixels = galaxy(shape, 1, scale=scale)
    for header in (bare(PIXSCALE=scale), bare()):
        got = one(tmp_path, image(pixels, header), pixel_scale=scale)
        check(got, UNKNOWN if expected == "used" else expected)
        if expected == "used":
            of_wcs = one(tmp_path, image(pixels, sky(shape, scale)))
            np.testing.assert_allclose(got.pixels, of_wcs.pixels, atol=0.2)  # of 200


@pytest.mark.parametrize("tables", [True, False])
def test_a_stamp_with_lookup_tables_or_without_those_of_its_tile_is_used(tmp_path, tables):
    wcs = WCS(sky())
    wcs.cpdis1 = wcs.cpdis2 = DistortionLookupTable(np.full((5, 5), 0.1, "f4"), (1, 1), (1, 1), (100, 100))
    hdus = wcs.to_fits(relax=True)
    hdus[0].data = galaxy()
    check(one(tmp_path, cases.content(*(hdus if tables else hdus[:1]))), (RA, DEC))


def test_a_scale_that_a_header_says_stands(tmp_path):
    content = image(galaxy((120, 120), scale=0.25), sky((120, 120), 0.25))
    got = one(tmp_path, content, pixel_scale=0.2)
    assert cases.aside(got.pixels)[1] == pytest.approx(cases.aside(galaxy())[1] * 0.64, rel=0.03)


def test_planes_and_pixels_that_are_not_square_are_resampled(tmp_path):
    cube = np.stack([galaxy(seed=i) + 1000 * i for i in range(3)])
    got = one(tmp_path, image(cube, sky(scale=0.262, BANDS="grz", without=("FILTER",))))
    assert np.median(got.pixels) == pytest.approx(1000 * (0.2 / 0.262) ** 2, rel=0.01)
    oblong = sky((101, 101), CD1_1=-0.25 / 3600, CD2_2=0.21 / 3600)
    assert cases.aside(one(tmp_path, image(header=oblong)).pixels)[0] < 0.1


def test_memory_of_a_whole_tile_in_a_folder_is_that_of_a_stamp(tmp_path):
    header = fits.PrimaryHDU(np.zeros((2, 2), "f4"), sky((20000, 20000))).header
    header["NAXIS1"] = header["NAXIS2"] = 20000
    header.tofile(tmp_path / "a.fits")
    with open(tmp_path / "a.fits", "r+b") as file:
        start = file.seek(0, 2)
        file.truncate(start + -(-1_600_000_000 // 2880) * 2880)  # sparse
        file.seek(start + 4 * 20000 * 9900)
        file.write(np.random.default_rng(1).standard_normal((200, 20000)).astype(">f4").tobytes())
    tracemalloc.start()
    used, left = cases.outcome(plan_folder(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()
    assert used or left["a.fits"].reason == "shape"


# ---- headers


def _observed(text, comment=b""):
    return with_card(image(header=sky(OBSERVER="Munoz")), "OBSERVER", b"'" + text.ljust(8) + b"'" + comment)


def _spoilt(content):
    """A byte of the pixels is another."""
    at = len(content) - 20000
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def _long_header():
    header = sky(LONGSTR="x" * 300)
    for i in range(3000):
        header.add_history(f"line {i}")
    return image(header=header)


HEADERS = {
    "latin_1": (lambda: _observed(b"Mu\xf1oz"), (RA, DEC)),
    "utf_8": (lambda: _observed(b"Munoz", " / čt".encode()), (RA, DEC)),
    "newline": (lambda: _observed(b"Mun\noz"), (RA, DEC)),
    "tab": (lambda: _observed(b"Mun\toz"), (RA, DEC)),
    "zero_byte": (lambda: _observed(b"Mun\0oz"), (RA, DEC)),
    "newline_in_comment": (lambda: _observed(b"Munoz", b" / of\n2024"), (RA, DEC)),
    "nan_card": (lambda: with_card(_observed(b""), "OBSERVER", "NaN"), (RA, DEC)),
    "no_quotes": (lambda: with_card(_observed(b""), "OBSERVER", "Munoz"), (RA, DEC)),
    "lower_case": (lambda: _observed(b"Munoz").replace(b"OBSERVER", b"observer"), (RA, DEC)),
    "long": (_long_header, (RA, DEC)),
    "trailing_bytes": (lambda: image() + bytes(100), (RA, DEC)),
    "checksum": (lambda: image(checksum=True), (RA, DEC)),
    "datasum": (lambda: image(checksum="datasum"), (RA, DEC)),
    "checksum_compressed": (lambda: cases.packed(checksum=True), (RA, DEC)),
    "checksum_gzipped": (lambda: gzip.compress(image(checksum=True)), (RA, DEC)),
    "checksum_scaled": (lambda: _scaled(fits.PrimaryHDU, checksum=True), (RA, DEC)),
    "checksum_wrong": (lambda: _spoilt(image(checksum=True)), "corrupt"),
    "checksum_wrong_gzipped": (lambda: gzip.compress(_spoilt(image(checksum=True))), "corrupt"),
    "datasum_wrong": (lambda: _spoilt(image(checksum="datasum")), "corrupt"),
    "simple_f": (lambda: with_card(image(), "SIMPLE", f"{'F':>20}"), NAMED),
    "bitpix_8": (lambda: with_card(image(), "BITPIX", f"{8:>20}"), NAMED),
    "naxis_999": (lambda: with_card(image(), "NAXIS", f"{999:>20}"), NAMED),
    "naxis_0": (lambda: with_card(image(), "NAXIS", f"{0:>20}"), NAMED),
    "no_end": (lambda: image().replace(b"END" + b" " * 77, b" " * 80, 1), NAMED),
}


@parametrised(HEADERS)
def test_odd_headers_cost_no_position_and_wrong_checksums_are_named(tmp_path, make, expected):
    check(one(tmp_path, make()), expected)


NO_STAMPS = {
    "json": (lambda: b'{"error": "no overlap"}', "not FITS"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\nsize 46080\n", "not FITS"),
    "no_overlap": (lambda: cases.content(fits.PrimaryHDU(header=sky(OVERLAP=False))), "no image"),
    "table": (
        lambda: cases.content(fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=[1.0])])),
        "no image",
    ),
    "zeros": (lambda: image(ZEROS), {"constant", "masked"}),
    "line": (lambda: image(galaxy()[50], bare(PIXSCALE=0.2)), "shape"),
    "spectra": (lambda: image(galaxy((101, 3)), bare(PIXSCALE=0.2)), "shape"),
    "points": (lambda: image(np.ones((1, 1), "f4"), bare(PIXSCALE=0.2)), {"shape", "constant"}),
}


@parametrised(NO_STAMPS)
def test_what_is_no_stamp_is_named(tmp_path, make, expected):
    check(one(tmp_path, make()), expected)


# ---- folders


@pytest.mark.skipif(os.name != "posix", reason="names, links and pipes of POSIX")
def test_every_name_and_link_in_a_folder_is_used_or_named(tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    content = image()
    names = [
        "with space.fits",
        "été 星.fits",
        "J1234+5678(1).fits",
        "semi;colon,comma.fits",
        "quote\"s'.fits",
        "<b>x.fits",
    ]
    names += ["percent%20.fits", "-dash.fits", "new\nline.fits", "UPPER.FITS", "two.dots.v2.fits", "$HOME`id`.fits"]
    names += ["[1].fits", "x.fit", "latin\udce9.fits", "sub/a.fits", "sub/deep er/a.fits", "a.fits"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)
    elsewhere.mkdir()
    (elsewhere / "inside.fits").write_bytes(content)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "sub" / "round").symlink_to(folder)  # back to where it came from
    (folder / "sub" / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "link.fits").symlink_to(folder / "a.fits")
    (folder / "dangling.fits").symlink_to("nowhere.fits")
    (folder / "folder.fits").mkdir()
    os.mkfifo(folder / "pipe.fits")  # to open it would wait for ever
    (folder / "empty.fits").write_bytes(b"")
    for name in (".hidden.fits", "._a.fits"):
        (folder / name).write_bytes(b"x")
    used, left = cases.outcome(plan_folder(folder))
    assert used.keys() == {*names, "link.fits", "linked/inside.fits"}
    assert left.keys() == {"dangling.fits", "folder.fits", "empty.fits", "pipe.fits"}


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_folder_linked_twice_is_read_once(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.fits").write_bytes(image())
    folder = tmp_path / "survey"
    folder.mkdir()
    for name, to in {"tile1": "data", "tile2": "data", "tile3": "data/deep"}.items():
        (folder / name).symlink_to(tmp_path / to)
    used, left = cases.outcome(plan_folder(folder))
    assert len(used) == 1 and not left


def test_files_that_are_passed_over_are_named(tmp_path):
    other = ["e.fits.Z", "f.fits.zip", "g.npy", "h.fits.1", "j.jpg", "k.png", "l.fits.part", "m", "sub/n.txt"]
    (tmp_path / "sub").mkdir()
    for name in other:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.fits").write_bytes(image())
    plan = plan_folder(tmp_path)
    assert sorted(plan.passed_over) == other
    assert plan.remarks[-1].startswith(f"{len(other)} files whose names are not those of FITS are passed over: ")
    assert plan.total == 1


def test_equal_stamps_in_several_places_are_all_used(tmp_path):
    for name, content in {"t1/a.fits": image(), "t1/a.fits.gz": gzip.compress(image()), "t2/a.fits": image()}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    used, left = cases.outcome(plan_folder(tmp_path))
    assert len(used) == 3 and not left


def test_a_gzipped_file_that_the_header_rules_out_is_not_unzipped(tmp_path):
    """450 million pixels of no scale: the last member of the file is spoilt, which nobody who stops early sees."""
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": 30000, "NAXIS2": 15000})
    some = gzip.compress(bytes(20_000_000))
    spoilt = gzip.compress(b"x" * 100)[:-8] + b"checksum"
    content = gzip.compress(header.tostring().encode()) + some * 89 + gzip.compress(bytes(20_001_600 - 100)) + spoilt
    assert one(tmp_path, content, "a.fits.gz").reason in {"no scale", "shape"}


def test_a_file_of_several_stamps_is_named_with_what_to_do(tmp_path):
    """By its first it would be one galaxy; images of the same place are maps, or other bands."""
    several = cases.extensions(*(("", galaxy(seed=k), sky(ra=RA + k)) for k in range(3)))
    left = one(tmp_path, several, "several.fits")
    assert left.reason == "shape" and "catalogue" in left.detail
    (tmp_path / "several.fits").unlink()
    assert one(tmp_path, cases.extensions(*(("", galaxy(seed=k), sky()) for k in range(3)))).filled == 0


def test_a_text_of_any_length_in_a_header_is_cut_in_the_list(tmp_path):
    left = one(tmp_path, image(header=sky(FILTER="x" * 60000)))
    assert left.reason == "band" and len(left.detail) == 1000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list all")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(ValueError, match="Permission denied"):
        plan_folder(tmp_path)


# ---- stamps in an HDF5 file


def test_stamps_of_an_hdf5_file_are_those_of_files(tmp_path):
    shape = (120, 130)
    pixels = np.stack([galaxy(shape, i, scale=0.25) for i in range(3)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=pixels).attrs["pixel_scale"] = 0.25
        file["id"], file["ra"], file["dec"] = [b"one", b"two", b"three"], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]
    stamps, left = cases.outcome(plan_folder(tmp_path / "a.h5"))
    assert list(stamps) == ["one", "two", "three"] and not left
    assert [s.ra for s in stamps.values()] == [1.0, 2.0, 3.0]
    for i, stamp in enumerate(stamps.values()):
        (tmp_path / f"{i}").mkdir()
        of_file = one(tmp_path / f"{i}", image(pixels[i], sky(shape, 0.25)))
        np.testing.assert_allclose(stamp.pixels, of_file.pixels, atol=0.2)


def test_hdf5_files_say_band_and_scale_and_are_refused_by_name(tmp_path):
    def written(attributes, **datasets):
        with h5py.File(tmp_path / "b.hdf5", "w") as file:
            for name, data in datasets.items():
                file[name] = data
            file.attrs.update(attributes)
        return tmp_path / "b.hdf5"

    two = np.stack([galaxy(seed=i) for i in range(2)])
    reasons = {
        r.reason for r in cases.outcome(plan_folder(written({"pixel_scale": 0.2, "band": "i"}, x=two)))[1].values()
    }
    assert reasons == {"band"}
    assert {r.reason for r in cases.outcome(plan_folder(written({}, x=two)))[1].values()} == {"no scale"}
    stamps, _ = cases.outcome(plan_folder(written({}, x=two), pixel_scale=0.2))
    assert list(stamps) == ["1", "2"] and np.isnan(stamps["1"].ra)
    for datasets in ({"x": two, "y": two}, {"x": two[0]}, {"x": two, "id": [1, 2, 3]}):
        with pytest.raises(ValueError, match=r"b\.hdf5"):
            plan_folder(written({}, **datasets))


LAYOUTS = {  # what is written, and ids of the stamps or words of the message
    "one_plane": (lambda f, two: f.create_dataset("x", data=two[:, None]), ["1", "2"]),
    "one_channel": (lambda f, two: f.create_dataset("x", data=two[..., None]), ["1", "2"]),
    "band_as_bytes": (lambda f, two: f.create_dataset("x", data=two).attrs.create("band", np.bytes_("r")), ["1", "2"]),
    "scales": (lambda f, two: f.create_dataset("x", data=two).attrs.create("pixel_scale", [0.2, 0.2]), ["1", "2"]),
    "group_id": (lambda f, two: (f.create_dataset("x", data=two), f.create_group("id")), ["1", "2"]),
    "link_nowhere": (
        lambda f, two: (f.create_dataset("x", data=two), f.update({"id": h5py.SoftLink("/y")})),
        ["1", "2"],
    ),
    "same_ids": (lambda f, two: f.update({"x": np.concatenate([two, two[:1]]), "id": [b"a", b"a", b"a 2"]}),
                 ["a 1", "a 2", "a 2 3"]),
    "text_ra": (lambda f, two: f.update({"x": two, "ra": [b"150", b"x"]}), "could not convert"),
    "scale_text": (lambda f, two: f.create_dataset("x", data=two).attrs.create("pixel_scale", "0.2 arcsec"), "arcsec"),
    "in_a_group": (lambda f, two: f.create_dataset("data/x", data=two), "outside of groups"),
    "two": (lambda f, two: f.update({"x": two, "y": two}), "/y"),
    "no_stamp": (lambda f, two: f.update({"x": two[:0]}), "not one dataset"),
    "complex": (lambda f, two: f.update({"x": two * 1j}), "not one dataset"),
    "elsewhere": (lambda f, two: _virtual(f), "not one dataset"),
}  # fmt: skip


def _virtual(file):
    layout = h5py.VirtualLayout((2, 101, 101), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, 101, 101))
    file.create_virtual_dataset("x", layout)


@parametrised(LAYOUTS)
def test_hdf5_files_of_other_layouts_are_read_or_named_with_what_is_in_them(tmp_path, make, expected):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["pixel_scale"] = 0.2
        make(file, np.stack([galaxy(seed=i) for i in range(2)]))
    if isinstance(expected, list):
        used, left = cases.outcome(plan_folder(tmp_path / "b.h5"))
        assert list(used) == expected and not left
    else:
        with pytest.raises(ValueError, match=rf"b\.h5: .*{expected}"):
            plan_folder(tmp_path / "b.h5")


def test_a_file_that_is_not_hdf5_is_named(tmp_path):
    (tmp_path / "b.h5").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"b\.h5"):
        plan_folder(tmp_path / "b.h5")
