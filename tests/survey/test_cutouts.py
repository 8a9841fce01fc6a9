"""Cutouts: Cutout2D, analytic stars and counting are the oracles; every stamp is named once, every reason occurs."""

import gzip
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from scipy.optimize import curve_fit

from lensdet import storage
from lensdet.data.images import band_of
from lensdet.data.stamps import StampError
from lensdet.survey.cutouts import Wanted, plan_folder, plan_tiles
from lensdet.survey.headers import REASONS
from lensdet.survey.reading import read

REAL = storage.root().parent / "shared" / "data"
SMALL = Wanted((21, 21))
RA, DEC = 150.0, 2.0


def tan(shape, scale=0.2, ra=RA, dec=DEC, turn=0.0, stretch=(1.0, 1.0), parity=-1):
    """A tangential WCS about the middle of an image; the turn in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    wcs.wcs.cd = scale / 3600 * np.array([[c, -s], [s, c]]) @ np.diag([parity * stretch[0], stretch[1]])
    wcs.wcs.set()
    return wcs


def noise(shape, seed=1):
    return np.random.default_rng(seed).normal(100, 20, shape).astype("f4")


def save_tile(path, data, wcs=None, **keywords):
    header = (tan(data.shape[-2:]) if wcs is None else wcs).to_header(relax=True)
    header.update(keywords)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    return path


def catalogue(path, rows):
    """Rows of id, RA, Dec."""
    path.write_text("id,ra,dec\n" + "".join(f"{i},{ra!r},{dec!r}\n" for i, ra, dec in rows))
    return path


def at(wcs, x, y):
    """RA and Dec of a pixel."""
    return tuple(float(v) for v in wcs.all_pix2world([[x, y]], 0)[0])


def in_parts(plan, n):
    """A plan in units of n stamps."""
    rows = np.arange(len(plan.ids))
    return [plan.unit(rows[i : i + n]) for i in range(0, len(rows), n)]


def read_all(plan):
    """Pixels by id, and reason by id."""
    batches = [read(unit) for unit in plan.units]
    pixels = {i: p for b in batches for i, p in zip(b.ids, b.pixels, strict=True)}
    bad = {r.file: r.reason for r in [*plan.rejections, *(r for b in batches for r in b.rejections)]}
    return pixels, bad


def named(plan):
    """How often each stamp is named."""
    batches = [read(unit) for unit in plan.units]
    names = [i for b in batches for i in b.ids] + [r.file for b in batches for r in b.rejections]
    return Counter(names + [r.file for r in plan.rejections])


def one(tmp_path, tile, position, wanted=SMALL, **options):
    """The stamp at one position, or its rejection."""
    plan = plan_tiles(catalogue(tmp_path / "one.csv", [("a", *position)]), tile, wanted, **options)
    batch = read(plan.units[0]) if plan.units else None
    if batch and batch.ids:
        return batch.pixels[0]
    return (plan.rejections + (batch.rejections if batch else []))[0]


# ---- cutting


def test_cutouts_at_the_tile_scale_equal_astropy_cutout2d(tmp_path):
    data = noise((300, 400))
    wcs = tan(data.shape, turn=30)
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    xy = np.random.default_rng(3).uniform([51, 51], [348, 248], (40, 2))
    rows = [(k, *at(wcs, *p)) for k, p in enumerate(xy)]
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows), tile)
    assert [len(u.ids) for u in plan.units] == [40] and plan.total == 40
    pixels, bad = read_all(plan)
    assert not bad
    for k, p in enumerate(xy):
        np.testing.assert_array_equal(pixels[str(k)], Cutout2D(data, tuple(p), (101, 101), mode="strict").data)
    batch = read(plan.units[0])
    assert batch.pixels.dtype == np.float32 and batch.pixels.flags.c_contiguous and not batch.filled.any()
    np.testing.assert_array_equal(batch.ra, [rows[int(i)][1] for i in batch.ids])
    np.testing.assert_array_equal(batch.dec, [rows[int(i)][2] for i in batch.ids])


def star(wcs, shape, ra, dec, fwhm=0.8, flux=1000.0):
    """A round Gaussian in arcsec on any tile; flux in units of the file."""
    y, x = np.indices(shape)
    sky = SkyCoord(ra, dec, unit="deg")
    lon, lat = sky.spherical_offsets_to(wcs.pixel_to_world(x, y))
    r2 = lon.to_value("arcsec") ** 2 + lat.to_value("arcsec") ** 2
    area = abs(np.linalg.det(wcs.pixel_scale_matrix)) * 3600**2
    s = fwhm / 2.35482
    return (flux * area / (2 * np.pi * s**2) * np.exp(-r2 / 2 / s**2)).astype("f4")


def fit(pixels, scale=0.2):
    """Centre (x, y), both FWHM in arcsec and the sum of a star."""

    def model(p, a, x, y, sx, sy):
        return a * np.exp(-((p[1] - x) ** 2) / 2 / sx**2 - (p[0] - y) ** 2 / 2 / sy**2)

    yy, xx = np.indices(pixels.shape)
    peak = np.unravel_index(pixels.argmax(), pixels.shape)
    p = curve_fit(model, (yy.ravel(), xx.ravel()), pixels.ravel(), [pixels.max(), peak[1], peak[0], 2, 2])[0]
    return p[1], p[2], 2.35482 * scale * abs(p[3]), 2.35482 * scale * abs(p[4]), pixels.sum()


@pytest.mark.parametrize("turn, parity", [(0, -1), (37, -1), (200, 1)])
@pytest.mark.parametrize("scale, wider", [(0.05, 0.025), (0.12, 0.025), (0.168, 0.01), (0.186, 0.01), (0.263, 0.01)])
def test_a_resampled_star_keeps_position_width_and_flux(tmp_path, scale, wider, turn, parity):
    shape = (int(40 / scale), int(36 / scale))
    wcs = tan(shape, scale, turn=turn, parity=parity)
    x, y = shape[1] / 2 + 7.3, shape[0] / 2 - 11.8
    position = at(wcs, x, y)
    tile = save_tile(tmp_path / "t.fits", star(wcs, shape, *position), wcs)
    stamp = one(tmp_path, tile, position, Wanted())
    cx, cy, wx, wy, flux = fit(stamp)
    assert (cx, cy) == pytest.approx((50, 50), abs=0.1)
    assert [wx, wy] == pytest.approx([0.8 * (1 + wider)] * 2, rel=0.01)  # the average widens as larger pixels do
    assert flux == pytest.approx(1000, rel=0.005)
    # axes are the tile's: asked for 3 pixels further along its x, and 5 back along y, the star is seen as much aside
    cx, cy, *_ = fit(one(tmp_path, tile, at(wcs, x + 3, y - 5), Wanted()))
    assert (cx, cy) == pytest.approx((50 - 3 * scale / 0.2, 50 + 5 * scale / 0.2), abs=0.1)


def test_resampling_of_finer_pixels_does_not_alias(tmp_path):
    shape = (800, 800)
    wcs = tan(shape, 0.05)
    x = np.arange(shape[1])
    for k, period in enumerate((2, 4)):  # of 0.1 and 0.2 arcsec: all beyond what 0.2 arcsec pixels can show
        data = np.sin(2 * np.pi * (x + 0.25) / period).astype("f4") + 1e-3 * noise(shape)  # broadcasts
        stamp = one(tmp_path, save_tile(tmp_path / f"{k}.fits", data, wcs), (RA, DEC), Wanted())
        assert np.std(stamp / 16) < 0.03  # 16 pixels of the tile in one: a pixel's amplitude was 0.7


@pytest.mark.parametrize(
    "kind", ["non-square", "skewed", "sip", "cube", "galactic", "extension", "pole", "antimeridian"]
)
def test_tiles_in_unusual_projections_are_cut_correctly(tmp_path, kind):
    shape, scale = (300, 260), 0.2
    dec = 89.9 if kind == "pole" else DEC
    wcs = tan(shape, ra=0.0 if kind == "antimeridian" else RA, dec=dec)
    if kind == "non-square":
        wcs = tan(shape, stretch=(1.0, 1.4))
    elif kind == "skewed":
        wcs.wcs.cd = wcs.wcs.cd @ [[1, 0.2], [0, 1]]
    elif kind == "galactic":
        wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    elif kind == "sip":
        header = wcs.to_header()
        header.update(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, A_2_0=3e-4, B_ORDER=2, B_1_1=2e-4)
        wcs = WCS(header)
    x, y = 190.0, 180.0
    sky = wcs.pixel_to_world(x, y).icrs
    position = float(sky.ra.deg), float(sky.dec.deg)
    if kind == "galactic":
        yy, xx = np.indices(shape)
        data = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) * scale**2 / 2 / (0.8 / 2.35482) ** 2).astype("f4")
        data *= 1000 / data.sum()
    else:
        data = star(wcs, shape, *position)
    header = wcs.to_header(relax=True)
    if kind == "cube":
        data = data[None]
    hdus = [fits.PrimaryHDU(data, header)]
    if kind == "extension":
        other = fits.ImageHDU(np.ones((9, 9)), name="WEIGHT")
        hdus = [
            fits.PrimaryHDU(header=fits.Header({"FILTER": "r"})),
            other,
            fits.ImageHDU(data, header),
            hdus[0].copy(),
        ]
        hdus[3] = fits.ImageHDU(np.ones_like(data), header)
    fits.HDUList(hdus).writeto(tmp_path / "t.fits")
    stamp = one(tmp_path, tmp_path / "t.fits", position, Wanted((51, 51)))
    cx, cy, wx, wy, flux = fit(stamp)
    assert (cx, cy) == pytest.approx((25, 25), abs=0.1)
    assert (wx, wy) == pytest.approx((0.8, 0.8), rel=0.015)
    if kind != "sip":  # whose pixels are not of one size
        assert flux == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("form", ["gz", "RICE_1", "GZIP_2", "i2", "u2", "f8", "scaled"])
def test_tiles_are_read_in_every_usual_fits_format(tmp_path, form):
    data = noise((160, 150))
    wcs, path = tan(data.shape), tmp_path / "t.fits"
    if form in ("i2", "u2", "f8"):
        data = data.astype(form)
    if form == "scaled":
        hdu = fits.PrimaryHDU(data.astype("i2"), wcs.to_header())
        hdu.header.update(BSCALE=0.5, BZERO=7)
        hdu.writeto(path)
        data = data.astype("i2") * 0.5 + 7
    elif form in ("RICE_1", "GZIP_2"):
        data = data.astype("i2") if form == "RICE_1" else data
        options = {"compression_type": form, "quantize_level": 0, "tile_shape": (16, 64)}
        fits.CompImageHDU(data, wcs.to_header(), **options).writeto(path := tmp_path / "t.fits.fz")
    else:
        save_tile(path, data, wcs)
        if form == "gz":
            (tmp_path / "t.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
            path = tmp_path / "t.fits.gz"
    rows = [(f"{x} {y}", *at(wcs, x, y)) for y in (15, 16, 90, 20, 149) for x in (12, 100)]
    pixels, bad = read_all(plan_tiles(catalogue(tmp_path / "c.csv", rows), path, SMALL, max_filled=0.1))
    assert not bad and len(pixels) == 10
    for name, stamp in pixels.items():
        x, y = map(int, name.split())
        expected = data[y - 10 : y + 11, x - 10 : x + 11].astype("f4")
        np.testing.assert_array_equal(stamp[: len(expected)], expected)


def test_a_gzipped_tile_is_unzipped_once_per_batch(tmp_path, monkeypatch):
    data = noise((400, 100))
    wcs, path = tan(data.shape, 0.195), tmp_path / "t.fits.gz"
    save_tile(path, data, wcs)
    rows = [(y, *at(wcs, 50 + y % 7, y)) for y in range(15, 380, 5)]
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows[::-1]), path, SMALL)
    offsets, seek = [], gzip.GzipFile.seek

    def record(self, offset, whence=0):
        offsets.append(offset)
        return seek(self, offset, whence)

    monkeypatch.setattr(gzip.GzipFile, "seek", record)
    batch = read(plan.units[0])
    assert len(batch.ids) == len(rows) and offsets
    assert np.count_nonzero(np.diff(offsets) < 0) <= 1  # astropy may look for an extension first
    monkeypatch.undo()
    save_tile(tmp_path / "t.fits", data, wcs)
    plain = read(plan_tiles(tmp_path / "c.csv", tmp_path / "t.fits", SMALL).units[0])
    np.testing.assert_array_equal(batch.pixels, plain.pixels)


def test_blank_integer_pixels_are_masked(tmp_path):
    data = noise((60, 60)).astype("i2")
    data[30, 30] = -99
    tile = save_tile(tmp_path / "t.fits", data, BLANK=-99)
    assert one(tmp_path, tile, at(tan(data.shape), 30, 30)).reason == "masked"


@pytest.mark.parametrize("scale", [0.2, 0.263, 0.1])
def test_masked_pixels_and_edges_are_filled_or_rejected(tmp_path, scale):
    shape = (280, 280)
    data, wcs = noise(shape), tan(shape, scale)
    data[100, 100] = np.nan
    data[40, 40] = np.inf
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    far = round(4 / scale)  # pixels in 4 arcsec: outside the core, inside the stamp
    rows = {"hit": (100, 100), "core": (100 + far // 4, 100), "inf": (40, 40), "edge": (2, 120), "free": (210, 210)}
    rows["beside"] = (100 + far, 100)
    rows = [(name, *at(wcs, *p)) for name, p in rows.items()]
    path = catalogue(tmp_path / "c.csv", rows)
    plan = plan_tiles(path, tile, Wanted((51, 51)), max_filled=0.02)
    batch = read(plan.units[0])
    assert {r.file: r.reason for r in batch.rejections} == dict.fromkeys(("hit", "core", "inf", "edge"), "masked")
    filled = dict(zip(batch.ids, batch.filled.tolist(), strict=True))
    assert filled["free"] == 0 and 1 <= filled["beside"] <= 16
    stamp = batch.pixels[batch.ids.index("beside")]
    assert np.isfinite(batch.pixels).all()
    assert np.unique(stamp, return_counts=True)[1].max() >= filled["beside"]
    if scale == 0.2:
        gone = np.zeros((51, 51), bool)
        gone[25, 25 - far] = True
        assert filled["beside"] == 1 and stamp[gone] == np.float32(np.median(stamp[~gone]))
    assert read(plan_tiles(path, tile, Wanted((51, 51)), max_filled=0).units[0]).ids == ["free"]


def test_an_edge_is_filled_up_to_the_limit(tmp_path):
    shape = (200, 200)
    data, wcs = noise(shape), tan(shape)
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    for cut, share in ((1, 0.02), (2, 0.04), (3, 0.04)):
        rows = [("a", *at(wcs, 100, 50 - cut))]
        batch = read(plan_tiles(catalogue(tmp_path / "c.csv", rows), tile, max_filled=share).units[0])
        assert batch.filled.tolist() == ([cut * 101] if cut * 101 <= share * 101**2 else [])
        if batch.ids:
            np.testing.assert_array_equal(batch.pixels[0, cut:], data[: 101 - cut, 50:151])
            assert (batch.pixels[0, :cut] == np.median(batch.pixels[0, cut:])).all()


def test_of_overlapping_tiles_the_one_with_most_margin_is_cut(tmp_path):
    shape = (100, 100)
    wcs = [tan(shape), tan(shape, dec=DEC + 30 * 0.2 / 3600), tan(shape, dec=DEC + 60 * 0.2 / 3600)]
    for k, w in enumerate(wcs):
        save_tile(tmp_path / f"{k}.fits", noise(shape, k), w, FILTER="r" if k < 2 else "g")
    rows = [(y, *at(wcs[0], 50, y)) for y in (20, 40, 60, 75, 88, 140)]
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows), tmp_path, SMALL)
    where = {i: os.path.basename(p[0].path) for u in plan.units for i, p in zip(u.ids, u.places, strict=True)}
    # 88: the r tile, though deeper in the one of g; 140: in that of g alone
    assert where == {"20": "0.fits", "40": "0.fits", "60": "0.fits", "75": "1.fits", "88": "1.fits"}
    assert [(r.file, r.reason) for r in plan.rejections] == [("140", "band")]
    assert "2.fits" in plan.rejections[0].detail


# ---- what is left out


def save_stamp(path, data, **keywords):
    header = fits.Header({"PIXSCALE": 0.2})
    header.update(keywords)
    fits.PrimaryHDU(data, header).writeto(path)


def cuts(folder, data, header):
    """Six ways to cut a FITS file short: content by name."""
    fits.PrimaryHDU(data, header).writeto(folder / "whole.fits", overwrite=True)
    plain = (folder / "whole.fits").read_bytes()
    fits.CompImageHDU(data, header, compression_type="GZIP_2", quantize_level=0).writeto(
        folder / "whole.fits.fz", overwrite=True
    )
    tiles = (folder / "whole.fits.fz").read_bytes()
    zipped = gzip.compress(plain)
    return {
        "header.fits": plain[:1000],
        "data.fits": plain[: len(plain) // 2],
        "padding.fits": plain[:-1],
        "zipped.fits.gz": zipped[: len(zipped) // 2],
        "compressed.fits.fz": tiles[: -len(tiles) // 2],
        "nothing.fits": b"",
    }


def test_every_rejection_reason_of_a_folder_occurs(tmp_path):
    data = noise((21, 21))
    holed, plateau, corner = data.copy(), data.copy(), data.copy()
    holed[:2] = np.nan
    plateau[:2, :5] = data.max()
    corner[[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8]] = data.max() + 1  # 9 by their corners
    scattered = data.copy()
    scattered[::2, ::2] = data.max()
    for name, content in cuts(tmp_path, data, fits.Header({"PIXSCALE": 0.2})).items():
        (tmp_path / f"cut_{name}").write_bytes(content)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    save_stamp(tmp_path / "deep" / "er" / "good.FIT", data, FILTER="r.MP9601", SATURATE=0)
    save_stamp(tmp_path / "nine.fits", corner)
    save_stamp(tmp_path / "scattered.fits", scattered, SATURATE=1e5)
    save_stamp(tmp_path / "wcs.fits", data, **tan(data.shape).to_header(), PIXSCALE=7)
    save_stamp(tmp_path / "cd.fits", data, CD1_1=-0.2 / 3600, CD1_2=0, CD2_1=0, CD2_2=0.2 / 3600)
    save_stamp(tmp_path / "cdelt.fits", data, CDELT1=-0.2 / 3600, CDELT2=0.2 / 3600)
    save_stamp(tmp_path / "scale.fits", data, PIXSCALE=0.2021)
    save_stamp(tmp_path / "scale_wcs.fits", data, **tan(data.shape, 0.7).to_header())
    fits.PrimaryHDU(data, fits.Header({"CDELT1": 1.0, "CDELT2": 1.0})).writeto(tmp_path / "no_scale.fits")
    save_stamp(tmp_path / "band.fits", data, FILTER="HSC-I2")
    save_stamp(tmp_path / "own_band.fits", data, FILTER="our filter")
    save_stamp(tmp_path / "good_wht.fits", data)
    save_stamp(tmp_path / "saturated.fits", plateau)
    save_stamp(tmp_path / "saturate.fits", data, SATURATE=80.0)
    save_stamp(tmp_path / "shape.fits", noise((20, 20)))
    save_stamp(tmp_path / "nan.fits", holed)
    save_stamp(tmp_path / "constant.fits", np.ones_like(data))
    fits.PrimaryHDU().writeto(tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("<html>404</html>")
    (tmp_path / "corrupt.fits").write_bytes((tmp_path / "whole.fits").read_bytes().replace(b"-32", b"-31", 1))
    (tmp_path / "folder.fits").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.fits")  # to open it would wait for ever
    else:
        (tmp_path / "pipe.fits").mkdir()
    good = {"deep/er/good.FIT", "whole.fits", "whole.fits.fz", "nine.fits", "scattered.fits", "wcs.fits"}
    expected = {
        **{f"cut_{n}": "truncated" for n in ("header.fits", "data.fits", "padding.fits", "zipped.fits.gz")},
        "cut_compressed.fits.fz": "truncated",
        "cut_nothing.fits": "empty",
        "scale.fits": "scale",
        "scale_wcs.fits": "scale",
        "no_scale.fits": "no scale",
        "band.fits": "band",
        "own_band.fits": "band",
        "good_wht.fits": "companion",
        "saturated.fits": "saturated",
        "saturate.fits": "saturated",
        "shape.fits": "shape",
        "nan.fits": "masked",
        "constant.fits": "constant",
        "none.fits": "no image",
        "text.fits": "not FITS",
        "corrupt.fits": "corrupt",
        "folder.fits": "unreadable",
        "pipe.fits": "unreadable",
    }
    plan = plan_folder(tmp_path, SMALL)
    pixels, bad = read_all(plan)
    assert bad == expected and set(pixels) == good | {"cd.fits", "cdelt.fits"}
    assert plan.total == len(bad) + len(pixels) and set(named(plan).values()) == {1}
    np.testing.assert_array_equal(pixels["deep/er/good.FIT"], data)
    of_tiles = {"duplicate id", "no position", "off the tiles", "too slow", "crash"}
    assert set(expected.values()) | of_tiles == set(REASONS)  # test_every_rejection_reason_of_a_catalogue_occurs

    batches = [read(unit) for unit in plan.units]
    positions = {i: (ra, dec) for b in batches for i, ra, dec in zip(b.ids, b.ra, b.dec, strict=True)}
    assert positions["wcs.fits"] == pytest.approx((RA, DEC)) and np.isnan(positions["cd.fits"]).all()
    assert all(r.detail for b in batches for r in b.rejections)
    pixels, bad = read_all(plan_folder(tmp_path, SMALL, pixel_scale=0.2, band="r"))
    assert {"no_scale.fits", "own_band.fits"} <= pixels.keys()
    assert {bad["scale.fits"], bad["scale_wcs.fits"]} == {"scale"}  # what a header says stands
    assert bad["band.fits"] == "band"


def test_every_rejection_reason_of_a_catalogue_occurs(tmp_path):
    shape = (120, 120)
    (tmp_path / "tiles").mkdir()
    data, wcs = noise(shape), tan(shape)
    data[20:23, 20:24] = 5000
    data[80:, 80:] = 3
    data[20, 90] = np.nan
    good = save_tile(tmp_path / "tiles" / "good.fits", data, wcs, FILTER="r_SDSS")
    others = {  # tiles elsewhere in the sky, each with one fault
        "scale": (noise((60, 60)), tan((60, 60), 0.7, ra=10), {}),
        "band": (noise((60, 60)), tan((60, 60), ra=20), {"BAND": "i"}),
        "shape": (noise((2, 60, 60)), tan((60, 60), ra=30), {}),
        "saturated": (noise((60, 60)), tan((60, 60), ra=40), {"SATURATE": 90.0}),
    }
    rows = [("good", *at(wcs, 60, 60)), ("good", *at(wcs, 60, 60)), ("nan", math.nan, 2.0), ("dec", 10.0, 91.0)]
    rows += [("ra", 721.0, 2.0), ("off", 150.1, 2.0), ("plateau", *at(wcs, 25, 25)), ("flat", *at(wcs, 100, 100))]
    rows += [("hole", *at(wcs, 90, 20)), ("edge", *at(wcs, 60, 3)), ("antipode", RA + 180, -DEC)]
    for k, (name, (pixels, where, keywords)) in enumerate(others.items()):
        save_tile(tmp_path / "tiles" / f"{name}.fits", pixels, where, **keywords)
        rows.append((f"tile {name}", 10.0 * (k + 1), DEC))
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows), [tmp_path / "tiles", good], SMALL, {"id": "id"})
    assert plan.total == len(rows) == sum(named(plan).values())
    assert [r.reason for r in plan.rejections if r.file == "good"] == ["duplicate id"]
    pixels, bad = read_all(plan)
    assert list(pixels) == ["good"]
    assert bad == {
        "good": "duplicate id",
        **dict.fromkeys(("nan", "dec", "ra"), "no position"),
        **dict.fromkeys(("off", "antipode"), "off the tiles"),
        "plateau": "saturated",
        "flat": "constant",
        **dict.fromkeys(("hole", "edge"), "masked"),
        **{f"tile {name}": name for name in others},
    }
    assert "scale.fits" not in next(r.detail for r in plan.rejections if r.file == "tile band")
    # stated to be what it is not
    assert one(tmp_path, good, (RA, DEC), band="r").shape == (21, 21)
    with pytest.raises(StampError, match=r"good.fits: scale .*stated 0\.3"):
        one(tmp_path, good, (RA, DEC), pixel_scale=0.3)
    with pytest.raises(StampError, match="band.fits: band .*BAND = 'i'"):
        one(tmp_path, tmp_path / "tiles" / "band.fits", (20.0, DEC), band="r")


def test_saturation_is_seen_through_resampling(tmp_path):
    shape = (120, 120)
    data, wcs = noise(shape), tan(shape, 0.186)
    data[60:64, 60:64] = 900
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    assert one(tmp_path, tile, at(wcs, 62, 58)).reason == "saturated"
    assert one(tmp_path, tile, at(wcs, 77, 62)).shape == (21, 21)  # beyond its edge, though within what a spline reads


def test_truncated_tiles_are_named_and_others_are_still_cut(tmp_path):
    """Each is named, and the others go on."""
    shape = (120, 120)
    rows, expected = [], {}
    (tmp_path / "tiles").mkdir()
    data = noise(shape)
    for k, name in enumerate(cuts(tmp_path, data, tan(shape).to_header())):
        (tmp_path / name.split(".")[0]).mkdir()
        wcs = tan(shape, ra=10.0 * k)
        content = cuts(tmp_path / name.split(".")[0], data, wcs.to_header())[name]
        (tmp_path / "tiles" / name).write_bytes(content)
        rows += [(f"{name} {y}", *at(wcs, 60, y)) for y in (15, 105)]
        # where the header cannot be read nobody knows which stamps are there
        reason = "off the tiles" if name in ("header.fits", "nothing.fits") else "truncated"
        expected |= {f"{name} {y}": reason for y in (15, 105)}
    save_tile(tmp_path / "tiles" / "good.fits", data, tan(shape, ra=200))
    rows.append(("good", 200.0, DEC))
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows), tmp_path / "tiles", SMALL)
    pixels, bad = read_all(plan)
    assert bad == expected and set(pixels) == {"good"}
    detail = next(r.detail for r in plan.rejections if r.file == "header.fits 15")
    assert "header.fits, truncated" in detail and detail.endswith("and 2 more")
    for name, reason in {"header.fits": "truncated", "nothing.fits": "empty"}.items():
        with pytest.raises(StampError) as error:
            plan_tiles(tmp_path / "c.csv", tmp_path / "tiles" / name, SMALL)
        assert error.value.reason == reason


def test_a_tile_lost_or_spoilt_after_planning_is_reported(tmp_path):
    shape = (200, 100)
    data, wcs = noise(shape), tan(shape)
    options = {"compression_type": "GZIP_1", "quantize_level": 0, "tile_shape": (20, 100)}
    path = tmp_path / "t.fits.fz"
    fits.CompImageHDU(data, wcs.to_header(), **options).writeto(path)
    rows = [(y, *at(wcs, 50, y)) for y in (20, 90, 180)]
    plan = plan_tiles(catalogue(tmp_path / "c.csv", rows), path, SMALL)
    raw = bytearray(path.read_bytes())
    middle = len(raw) * 55 // 100
    raw[middle : middle + 3000] = bytes(3000)
    path.write_bytes(raw)
    pixels, bad = read_all(plan)
    assert set(pixels) == {"20", "180"} and bad == {"90": "corrupt"}
    path.unlink()
    assert read_all(plan)[1] == dict.fromkeys(("20", "90", "180"), "unreadable")


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "../../etc/passwd", "/dev/zero", "é", "7", "07"]),
        st.one_of(st.floats(149.99, 150.01), st.sampled_from([math.nan, math.inf, 400.0, -170.0, 150.0])),
        st.one_of(st.floats(1.99, 2.01), st.sampled_from([math.nan, -91.0, 2.0])),
    ),
    min_size=1,
    max_size=30,
)


@pytest.fixture(scope="module")
def two_tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    for k, scale in enumerate((0.2, 0.25)):
        shape = (120, 140)
        data = noise(shape, k)
        data[50:60, 20:30] = np.nan
        save_tile(folder / f"{k}.fits", data, tan(shape, scale, ra=RA - 0.005 * k))
    return folder


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, batch=st.integers(1, 5))
def test_every_catalogue_row_is_cut_or_rejected_exactly_once(two_tiles, rows, batch):
    path = two_tiles / "c.ecsv"
    names, ra, dec = zip(*rows, strict=True)
    Table({"ID": np.array(names, "U20"), "RA": np.array(ra, float), "Dec": np.array(dec, float)}).write(
        path, overwrite=True
    )
    if np.mean(np.abs(dec) > 90) > 0.5 and np.mean(np.abs(dec) <= 360) > 0.5:
        return  # taken for RA: test_catalogues
    plan = plan_tiles(path, two_tiles / "0.fits" if batch == 1 else two_tiles, SMALL, {"id": "ID"})
    assert named(plan) == Counter(names) and plan.total == len(rows)
    assert all(r.reason in REASONS and r.detail for r in plan.rejections)
    paths = [places[0].path for unit in plan.units for places in unit.places]
    assert paths == sorted(paths)
    for unit in in_parts(plan, batch):
        got = read(unit)
        assert np.isfinite(got.pixels).all() and len(got.pixels) == len(got.ids) == len(got.ra) == len(got.filled)


# ---- plans


@pytest.mark.parametrize(
    "text",
    "r|R|r'|rp|r2|r.MP9601|r_SDSS|SDSS r|rSDSS|OCAM_r_SDSS|HSC-R|HSC-R2|SLOAN r|r DECam SDSS c0002 6415.0 1480.0|"
    "DECam r|r.00000|bokr|ZTF_r|lsst_r|r_57|MegaCam r|r_s1|r_G0303|W-S-R+|Rc|W-C-RC|R#BES655|R_SPECIAL".split("|"),
)
def test_usual_spellings_of_the_r_band_are_recognised(text):
    assert band_of(text) == "r" == band_of(text.upper())
    swapped = text.replace("r", "i", 1) if text[0] == "r" else text.replace("R", "I", 1)
    assert text[0].lower() != "r" or band_of(swapped) == "i"


@pytest.mark.parametrize(
    "text",
    "g|i.MP9702|HSC-I2|z_SDSS|SLOAN u|F814W|F606W|clear|g+r|gri|r_i|VR|VIS|V|3|NB816|zd DECam k1038|r Halpha|white|"
    "OCAM_g_SDSS|OCAM_i_SDSS|i.00000|".split("|"),
)
def test_other_bands_are_not_taken_for_r(text):
    assert band_of(text) != "r"


@pytest.mark.parametrize("text, band", [("F814W", "F814W"), ("VIS", "vis"), ("Y", "y")])
def test_a_requested_other_band_is_recognised(text, band):
    assert band_of(text) == band_of(band)


def test_job_digest_changes_with_tiles_catalogue_and_options(tmp_path):
    data, wcs = noise((60, 60)), tan((60, 60))
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    path = catalogue(tmp_path / "c.csv", [("a", RA, DEC), ("b", math.nan, DEC)])
    plan = plan_tiles(path, tile, SMALL)
    again = plan_tiles(path, [tile, tile], SMALL)
    assert plan.digest == again.digest and int(plan.digest, 16)
    digests = [plan.digest]
    options = [{"band": "r"}, {"pixel_scale": 0.2}, {"max_filled": 0.1}]
    digests += [plan_tiles(path, tile, SMALL, **o).digest for o in options]
    digests += [plan_tiles(path, tile, Wanted((23, 21))).digest]
    os.utime(tile, ns=(1, 1))
    digests.append(plan_tiles(path, tile, SMALL).digest)
    catalogue(path, [("a", RA, DEC), ("c", math.nan, DEC)])
    digests.append(plan_tiles(path, tile, SMALL).digest)
    digests.append(plan_folder(tmp_path, SMALL).digest)
    tile.rename(tmp_path / "u.fits")
    digests.append(plan_folder(tmp_path, SMALL).digest)
    with open(tmp_path / "u.fits", "ab") as file:
        file.write(b" ")
    os.utime(tmp_path / "u.fits", ns=(1, 1))
    digests.append(plan_folder(tmp_path, SMALL).digest)
    assert len(set(digests)) == len(digests) == 10


def test_wrong_arguments_of_a_plan_are_errors_that_name_them(tmp_path):
    tile = save_tile(tmp_path / "t.fits", noise((60, 60)))
    path = catalogue(tmp_path / "c.csv", [("a", RA, DEC)])
    (tmp_path / "empty").mkdir()
    wrong = [
        (lambda: plan_folder(tmp_path / "missing"), "missing: no such folder"),
        (lambda: plan_folder(tmp_path / "empty"), "no FITS file"),
        (lambda: plan_folder(tmp_path, pixel_scale=0.7), "pixel_scale: 0.7 arcsec"),
        (lambda: plan_folder(tmp_path, band="g"), "band.*'g'"),
        (lambda: plan_tiles(path, tmp_path / "missing"), "no such file or folder"),
        (lambda: plan_tiles(path, tile, max_filled=2), "max_filled"),
        (lambda: plan_tiles(path, path), "c.csv: not FITS"),
    ]
    for call, message in wrong:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            call()
        assert isinstance(error.value, FileNotFoundError) == ("no such" in message)


@pytest.mark.slow
def test_other_processes_read_equal_cutouts_without_network_library(tmp_path):
    data, wcs = noise((120, 120)), tan((120, 120), 0.263)
    tile = save_tile(tmp_path / "t.fits", data, wcs)
    path = catalogue(tmp_path / "c.csv", [(k, *at(wcs, 40 + k, 50)) for k in range(6)])
    plan = plan_tiles(path, tile, SMALL)
    mine = [read(unit) for unit in in_parts(plan, 3)]
    theirs = Parallel(2, backend="loky")(delayed(read)(unit) for unit in in_parts(plan, 3))
    for a, b in zip(mine, theirs, strict=True):
        assert a.ids == b.ids
        np.testing.assert_array_equal(a.pixels, b.pixels)
    (tmp_path / "unit.pkl").write_bytes(pickle.dumps(in_parts(plan, 3)[0]))
    code = (
        "import pickle, sys; from lensdet.survey.reading import read; "
        f"print(len(read(pickle.load(open({str(tmp_path / 'unit.pkl')!r}, 'rb'))).ids)); "
        "print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras', 'jax', 'torch')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["3", "[]"]


def test_memory_grows_with_cutouts_and_not_with_the_tile(tmp_path):
    header = fits.PrimaryHDU(np.zeros((2, 2), "f4"), tan((20000, 20000), 0.186).to_header()).header
    header["NAXIS1"] = header["NAXIS2"] = 20000
    header.tofile(tmp_path / "t.fits")
    patch = noise((200, 20000))
    with open(tmp_path / "t.fits", "r+b") as file:
        file.truncate(2880 * (file.seek(0, 2) // 2880) + 1_600_001_280)  # sparse
        file.seek(2880 + 4 * 20000 * 9900)
        file.write(patch.astype(">f4").tobytes())
    rows = [(k, *at(tan((20000, 20000), 0.186), 1000 * k + 900, 10000)) for k in range(19)]
    path = catalogue(tmp_path / "c.csv", rows)
    with open(tmp_path / "x.fits", "wb") as file:
        file.truncate(20_000_000_000)
    tracemalloc.start()
    plan = plan_tiles(path, tmp_path / "t.fits")
    batch = read(plan.units[0])
    assert len(batch.ids) == 19
    (tmp_path / "t.fits").rename(tmp_path / "t.dat")
    plan = plan_folder(tmp_path)
    assert [r.reason for r in read(plan.units[0]).rejections] == ["not FITS"]
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


# ---- a real field


@pytest.mark.skipif(not (REAL / "native").is_dir(), reason=f"no real images in {REAL}")
def test_a_real_cfhtls_field_is_cut_around_its_lens(tmp_path):
    path = REAL / "native" / "cfhtls_field_r.fits"
    (tmp_path / "c.csv").write_text("name,RA [deg],DEC [deg]\nSL2SJ142209+524652,215.53864,52.78114\n")
    plan = plan_tiles(tmp_path / "c.csv", path)
    batch = read(plan.units[0])
    # four pixels beside a star are 35 to 330 times the noise below the sky
    assert batch.ids == ["SL2SJ142209+524652"] and 4 <= batch.filled[0] <= 20
    middle = batch.pixels[0, 40:61, 40:61]
    assert np.unravel_index(middle.argmax(), middle.shape) == pytest.approx((10, 10), abs=1)  # the lens galaxy
    native, (x, y) = fits.getdata(path), (round(v) for v in batch.places[0][2:])
    aperture = np.hypot(*np.indices((101, 101)) - 50) * 0.2 < 2
    other = np.hypot(*np.indices((61, 61)) - 30) * 0.186 < 2
    flux = native[y - 30 : y + 31, x - 30 : x + 31][other].sum()
    assert batch.pixels[0][aperture].sum() == pytest.approx(flux, rel=0.02)


@pytest.mark.skipif(not (REAL / "cutouts").is_dir(), reason=f"no real images in {REAL}")
def test_real_stamps_are_usable_but_for_saturated_pictures():
    plan = plan_folder(REAL / "cutouts")
    pixels, bad = read_all(plan)
    assert len(pixels) + len(bad) == plan.total
    assert set(bad.values()) == {"saturated"} and all("sw_" in name for name in bad)  # recovered from pictures
