"""Tiles of every kind that was met: stamps have the galaxy in the middle, and pixels of the sky alone.

Scales, turns and other projections are in test_cutouts; weights, masks, cubes and bands in test_images.
"""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from lensdet.data.stamps import StampError
from lensdet.survey.cutouts import plan_tiles
from tests.survey import cases
from tests.survey.cases import CD, CDELT, DEC, RA, blanked, content, extensions, galaxy, image, sky, with_card

pytestmark = pytest.mark.filterwarnings("ignore:.*RADECSYS")  # the old name, which the tests write, too

WIDE = (300, 300)
AT = (162.3, 140.8)  # x and y of the galaxy, away from the middle of the tile


def cut(folder, tiles, positions, header=None, **options):
    """Stamps and rejections by id; tiles are contents by name, positions in pixels of a header or on the sky."""
    (folder / "tiles").mkdir()
    for name, some in tiles.items():
        (folder / "tiles" / name).write_bytes(some)
    rows = cases.catalogue(folder / "c.csv", positions, header)
    return cases.outcome(plan_tiles(rows, folder / "tiles", **options))


# ---- geometry

KINDS = {  # shape, header, and whether pixels are cut as they are
    "dec_-90": (WIDE, {"dec": -90.0}, True),
    "dec_+90": (WIDE, {"dec": 90.0, "turn": 20}, True),
    "dec_89.99": (WIDE, {"dec": 89.99}, True),
    "dec_-90_finer": ((400, 400), {"dec": -90.0, "scale": 0.15}, False),
    "ra_359.99": (WIDE, {"ra": 359.999, "dec": -30.0}, True),
    "ra_negative": (WIDE, {"ra": -0.001}, True),
    "sin": (WIDE, {"projection": "SIN"}, True),
    "zea": (WIDE, {"projection": "ZEA"}, True),
    "car": (WIDE, {"projection": "CAR", "dec": 0.0}, True),
    "mirrored": (WIDE, {"flip": -1, "turn": 37}, True),
    "0.4_arcsec": (WIDE, {"scale": 0.4}, False),
    "0.59_arcsec": (WIDE, {"scale": 0.59}, False),
    "0.021_arcsec": ((1200, 1200), {"scale": 0.021}, False),
    "tpv": (WIDE, {"projection": "TPV", "PV1_1": 1.0, "PV1_4": 0.5, "PV2_1": 1.0, "PV2_5": 0.4}, True),
    "galactic": (WIDE, {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "ra": 120.0, "dec": -40.0}, True),
    "fk4": (WIDE, {"EQUINOX": 1950.0, "RADESYS": "FK4"}, True),
    "fk5": (WIDE, {"EQUINOX": 2000.0, "RADECSYS": "FK5"}, True),
    "crota": (WIDE, {"without": CD, **CDELT, "CROTA2": 30.0}, True),
    "swapped": (WIDE, {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": DEC, "CRVAL2": RA}, True),
    "far_from_its_reference": (WIDE, {"CRPIX1": -20000.0, "CRPIX2": 15000.0}, True),
}


@pytest.mark.parametrize(("shape", "options", "as_they_are"), KINDS.values(), ids=KINDS.keys())
def test_a_galaxy_on_a_tile_of_any_geometry_is_in_the_middle_of_its_stamp(tmp_path, shape, options, as_they_are):
    header, scale = sky(shape, **options), options.get("scale", 0.2)
    at = AT if shape == WIDE else (shape[1] / 2 + 12.3, shape[0] / 2 - 9.2)
    pixels = galaxy(shape, 1, at, scale)
    used, _ = cut(tmp_path, {"t.fits": image(pixels, header)}, {"a": at}, header)
    offset, flux = cases.aside(used["a"].pixels)
    assert offset < (0.71 if as_they_are else 0.1)
    assert flux == pytest.approx(cases.aside(galaxy())[1] * (0.2 / scale) ** 2, rel=0.03)
    if as_they_are:
        x, y = np.round(at).astype(int)
        np.testing.assert_array_equal(used["a"].pixels, pixels[y - 50 : y + 51, x - 50 : x + 51])


@pytest.mark.parametrize("scale", [0.7, 0.015])
def test_tiles_too_coarse_or_too_fine_are_left_out_by_their_scale(tmp_path, scale):
    good, bad = sky(WIDE), sky(WIDE, scale, ra=30.0)
    tiles = {"good.fits": image(galaxy(WIDE), good), "bad.fits": image(galaxy(WIDE), bad)}
    used, left = cut(tmp_path, tiles, {"good": (RA, DEC), "bad": (30.0, DEC)})
    assert used.keys() == {"good"} and left["bad"].reason == "scale"


def test_stamps_given_as_tiles_with_their_centres_are_all_resampled(tmp_path):
    where = {f"s{i}": (100 + 0.02 * i, 3.0) for i in range(20)}
    tiles = {f"{name}.fits": image(header=sky(scale=0.262, ra=ra, dec=dec)) for name, (ra, dec) in where.items()}
    used, left = cut(tmp_path, tiles, where)
    assert used.keys() == where.keys() and not left


# ---- pixels without data

HOLES = {"nan": np.nan, "zero": 0.0, "m99": -99.0, "m1e30": -1e30, "p1e30": 1e30, "m32768": -32768.0}


@pytest.mark.parametrize("pedestal", [0, 50])
@pytest.mark.parametrize("scale", [0.2, 0.263])
@pytest.mark.parametrize("value", HOLES.values(), ids=HOLES.keys())
def test_a_border_without_data_is_no_sky(tmp_path, value, scale, pedestal):
    """Whatever is written there: stamps that reach into it are filled up to the limit, or left out."""
    header, half = sky(WIDE, scale), round(10.1 / scale)  # pixels of half a stamp
    pixels = blanked(np.s_[:, :80], value, shape=WIDE, at=AT, scale=scale, sky=pedestal)
    positions = {"in_it": (60, 150), "beside": (90, 150), "reaches": (80 + half // 2, 120), "free": AT}
    positions |= {"touches": (80 + half - 1, 180)} if scale == 0.2 else {}
    used, left = cut(tmp_path, {"t.fits": image(pixels, header)}, positions, header)
    assert {name: r.reason for name, r in left.items()} == dict.fromkeys(("in_it", "beside", "reaches"), "masked")
    assert used["free"].filled == 0
    if scale == 0.2:
        assert used["touches"].filled == 101
        assert abs(np.median(used["touches"].pixels[:, 0]) - pedestal) < 1


@pytest.mark.parametrize("value", [np.nan, 0.0, -32768.0])
def test_a_gap_between_chips_is_no_sky(tmp_path, value):
    pixels = blanked(np.s_[:, 200:220], value, shape=WIDE, at=AT)
    used, left = cut(tmp_path, {"t.fits": image(pixels, sky(WIDE))}, {"a": AT, "b": (140, 150)}, sky(WIDE))
    assert used.keys() == {"b"} and used["b"].filled == 0
    assert left["a"].reason == "masked"


def test_counts_of_a_sky_about_zero_are_sky(tmp_path):
    counts = np.round(galaxy(WIDE, at=AT)).astype("i2")  # 38 % are 0
    used, _ = cut(tmp_path, {"t.fits": image(counts, sky(WIDE))}, {"a": AT}, sky(WIDE))
    assert used["a"].filled == 0


@pytest.mark.parametrize("form", [".fits", ".fits.fz"])
def test_missing_pixels_by_the_mask_plane_of_hsc_and_lsst_are_no_sky(tmp_path, form):
    pixels = galaxy(WIDE, at=AT)
    tile = cases.lsst(pixels, no_data=[np.s_[:, :80], (150, 200)], compressed=form != ".fits")
    positions = {"in_it": (60, 150), "touches": (129, 180), "a_pixel": AT, "on_it": (200, 150)}
    used, left = cut(tmp_path, {f"t{form}": tile}, positions, sky(WIDE))
    assert {name: r.reason for name, r in left.items()} == dict.fromkeys(("in_it", "on_it"), "masked")
    assert {name: stamp.filled for name, stamp in used.items()} == {"touches": 101, "a_pixel": 1}


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_where_a_tile_has_a_hole_the_next_that_is_whole_is_cut(tmp_path, value):
    centred, shifted = sky(WIDE), sky(WIDE, CRPIX1=90.5)
    hole = np.s_[130:150, 150:175]
    tiles = {"a.fits": image(blanked(hole, value, shape=WIDE, seed=1, sky=50), centred)}
    whole = galaxy(WIDE, 2, sky=50)
    tiles["b.fits"] = image(whole, shifted)
    used, left = cut(tmp_path, tiles, {"hole": AT, "other": (60, 200), "end": (160.0, 70.0)}, centred)
    assert not left
    x, y = round(AT[0] - 60), round(AT[1])  # b.fits begins 60 pixels further on
    np.testing.assert_array_equal(used["hole"].pixels, whole[y - 50 : y + 51, x - 50 : x + 51])
    assert used["hole"].filled == 0


def test_a_hole_in_every_tile_is_named_once(tmp_path):
    tiles = {f"{k}.fits": image(blanked(np.s_[140:142, 160:164], shape=WIDE, seed=k), sky(WIDE)) for k in range(3)}
    used, left = cut(tmp_path, tiles, {"hole": AT, "free": (80, 80)}, sky(WIDE))
    assert used.keys() == {"free"} and left["hole"].reason == "masked"


# ---- which image


def test_a_tile_of_another_band_by_any_keyword_gives_way_to_one_of_r(tmp_path):
    pixels = galaxy(WIDE, at=AT)
    tiles = {"a_i.fits": image(galaxy((500, 500), 3), sky((500, 500), without=("FILTER",), **{"FPA.FILTERID": "i.0"}))}
    tiles["b_r.fits"] = image(pixels, sky(WIDE, without=("FILTER",), **{"FPA.FILTERID": "r.00000"}))
    used, _ = cut(tmp_path, tiles, {"a": AT}, sky(WIDE))
    assert used["a"].pixels.max() == pixels.max()


def test_compressed_maps_beside_the_image_are_not_cut(tmp_path):
    """As the Legacy Surveys name them: each says what it is in the header of the extension."""
    pixels = {kind: galaxy(WIDE, seed, AT) for seed, kind in enumerate(("chi2", "depth", "image", "invvar"))}
    tiles = {
        f"legacysurvey-1500p020-{kind}-r.fits.fz": cases.packed(p, header=sky(WIDE, IMTYPE=kind))
        for kind, p in pixels.items()
    }
    used, _ = cut(tmp_path, tiles, {"a": AT}, sky(WIDE))
    x, y = np.round(AT).astype(int)
    np.testing.assert_allclose(used["a"].pixels, pixels["image"][y - 50 : y + 51, x - 50 : x + 51], atol=0.1)


@pytest.mark.parametrize("form", ["plain", "compressed", "weights"])
def test_all_ccds_of_a_tile_are_cut(tmp_path, form):
    """Two side by side with a gap, as mosaic cameras write them; a stamp across the gap is from neither."""
    place = {f"CCD{k}": sky(WIDE, ra=RA - 0.02 * k, without=("FILTER",)) for k in range(2)}
    some = [(name, galaxy(WIDE, k, AT), header) for k, (name, header) in enumerate(place.items())]
    if form == "weights":
        weights = [
            (f"WHT{k}", np.ones(WIDE, "f4") + galaxy(WIDE, 9), header) for k, header in enumerate(place.values())
        ]
        some = [hdu for pair in zip(weights, some, strict=True) for hdu in pair]
    tile = extensions(*some, primary=fits.Header({"FILTER": "r"}), compressed=form == "compressed")
    positions = {name: cases.position(header, AT) for name, header in place.items()}
    used, left = cut(tmp_path, {"t.fits": tile}, {**positions, "gap": cases.position(place["CCD0"], (297, 150))})
    assert used.keys() == place.keys() and left["gap"].reason == "masked"
    x, y = np.round(AT).astype(int)
    for name, pixels, _ in some:
        if name in used:
            cut_out = pixels[y - 50 : y + 51, x - 50 : x + 51]
            np.testing.assert_allclose(used[name].pixels, cut_out, atol=0.1)  # lossy, where compressed


def test_of_two_ccds_that_overlap_each_position_is_cut_once(tmp_path):
    place = [sky(WIDE, dec=DEC + k * 20 / 3600) for k in range(2)]  # 100 pixels further north
    pixels = [galaxy(WIDE, k) for k in range(2)]
    tile = extensions(*(("", p, header) for p, header in zip(pixels, place, strict=True)))
    used, left = cut(tmp_path, {"t.fits": tile}, {"low": (150, 100), "high": (150, 260)}, place[0])
    assert not left
    np.testing.assert_array_equal(used["low"].pixels, pixels[0][50:151, 100:201])
    np.testing.assert_array_equal(used["high"].pixels, pixels[1][110:211, 100:201])


# ---- headers


@pytest.mark.parametrize("frame", ["J2000", "icrs."])
def test_a_usual_misspelling_of_the_frame_costs_no_tile(tmp_path, frame):
    tile = image(galaxy(WIDE), sky(WIDE, RADESYS=frame))
    used, _ = cut(tmp_path, {"t.fits": tile}, {"a": (RA, DEC)})
    assert cases.aside(used["a"].pixels)[0] < 0.72


def test_a_newline_or_tab_in_a_card_costs_no_tile(tmp_path):
    for k, text in enumerate((b"'Mun\noz '", b"'Mun\toz '")):
        (tmp_path / str(k)).mkdir()
        tile = with_card(image(galaxy(WIDE), sky(WIDE, OBSERVER="x")), "OBSERVER", text)
        used, _ = cut(tmp_path / str(k), {"t.fits": tile}, {"a": (RA, DEC)})
        assert used.keys() == {"a"}


def _without_wcs():
    return content(fits.PrimaryHDU(header=sky(WIDE)), fits.ImageHDU(galaxy(WIDE)))


BAD = {  # what cannot be placed, and what the message speaks of
    "crval_text": (lambda: image(galaxy(WIDE), sky(WIDE, CRVAL1="150.0")), "CRVAL1"),
    "crval2_text": (lambda: image(galaxy(WIDE), sky(WIDE, CRVAL2="+02:00:00")), "CRVAL2"),
    "crval_nan": (lambda: with_card(image(galaxy(WIDE), sky(WIDE)), "CRVAL1", "NaN"), "CRVAL1"),
    "wcs_in_primary_only": (_without_wcs, "WCS"),
    "radesys": (lambda: image(galaxy(WIDE), sky(WIDE, RADESYS="GAPPT")), "GAPPT"),
    "ecliptic": (lambda: image(galaxy(WIDE), sky(WIDE, CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN")), "ELON"),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD.keys())
def test_a_tile_without_a_place_on_the_sky_is_named_with_its_keyword(tmp_path, make, words):
    with pytest.raises(StampError, match=words) as error:
        cut(tmp_path, {"t.fits": make()}, {"a": (RA, DEC)})
    assert error.value.reason == "no image"
    (tmp_path / "tiles" / "u.fits").write_bytes(image(galaxy(WIDE), sky(WIDE, ra=30.0)))
    rows = cases.catalogue(tmp_path / "d.csv", {"a": (RA, DEC), "b": (30.0, DEC)})
    used, left = cases.outcome(plan_tiles(rows, tmp_path / "tiles"))
    assert used.keys() == {"b"} and "t.fits" in left["a"].detail


def test_a_tile_whose_middle_or_corner_is_not_on_the_sky_costs_no_other(tmp_path):
    around = {"projection": "AIT", "scale": 3240, "ra": 0.0, "dec": 0.0}
    tiles = {"all.fits": image(galaxy(WIDE), sky(WIDE, **around)), "good.fits": image(galaxy(WIDE, at=AT), sky(WIDE))}
    tiles["off.fits"] = image(galaxy(WIDE), sky(WIDE, CRPIX1=-5000.0, **around))
    used, left = cut(tmp_path, tiles, {"a": AT, "off": cases.position(sky(ra=30.0), (50, 50))}, sky(WIDE))
    assert used.keys() == {"a"} and left.keys() == {"off"}
    with pytest.raises(StampError, match="not on the sky"):
        plan_tiles(tmp_path / "c.csv", tmp_path / "tiles" / "off.fits")


# ---- files


def test_tiles_of_the_same_pixels_are_named_and_links_are_read_once(tmp_path):
    for name, seed in {"a.fits": 1, "b_unknown.fits": 2}.items():
        (tmp_path / name).write_bytes(image(galaxy(WIDE, seed), sky(WIDE)))
    (tmp_path / "c.fits").symlink_to("a.fits")
    rows = cases.catalogue(tmp_path / "c.csv", {"a": (RA, DEC)})
    plan = plan_tiles(rows, [tmp_path, tmp_path / "a.fits"])
    assert len(plan.files) == 2 and ["a.fits and b_unknown.fits" in note for note in plan.notes] == [True]
    assert not plan_tiles(rows, [tmp_path / "a.fits", tmp_path / "c.fits"]).notes


# ---- many


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_million_positions_are_planned(tmp_path):
    rng, n = np.random.default_rng(0), 1_000_000
    ra, dec = rng.uniform(0, 360, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    ra[:9], dec[:9] = RA + np.linspace(-1e-3, 1e-3, 9), DEC
    Table({"id": np.arange(n), "ra": ra, "dec": dec}).write(tmp_path / "c.fits")
    (tmp_path / "t.fits").write_bytes(image(galaxy(WIDE), sky(WIDE)))
    plan = plan_tiles(tmp_path / "c.fits", tmp_path / "t.fits")
    assert sum(len(unit.ids) for unit in plan.units) == 9
    assert plan.total == n and len(plan.rejections) == n - 9
