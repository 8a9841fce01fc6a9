"""The image of the sky in the wanted band, of files with other bands, weights, masks: by what surveys write."""

import numpy as np
import pytest
from astropy.io import fits

from lensdet.data.stamps import StampError, read_stamps
from lensdet.survey.cutouts import Wanted, plan_folder, plan_tiles
from tests.survey.test_cutouts import DEC, RA, at, catalogue, noise, read_all, save_tile, tan

SIZE = (21, 21)
SMALL = Wanted(SIZE)
KEYWORDS = (
    "FILTER|BAND|BANDS|BAND0|FILTERX|FILT_ID|FILTER1|FILTER2|FILTNAM|FILTNAM1|FILTNAME|FILTBAND|PHYSFILT|INSFLNAM|"
    "FPA.FILTER|FPA.FILTERID|ESO INS FILT1 NAME|ESO INS FILT2 NAME"
).split("|")


def save(path, *extensions, primary=None, **cards):
    """A file with a 21 x 21 image, or with named extensions of (name, pixels, cards)."""
    header = tan(SIZE).to_header()
    header.update({f"HIERARCH {k}" if len(k) > 8 or "." in k else k: v for k, v in cards.items()})
    hdus = [fits.PrimaryHDU(None if extensions else noise(SIZE), fits.Header(primary or {}) if extensions else header)]
    for name, pixels, own in extensions:
        said = tan(pixels.shape[-2:]).to_header()
        said.update(own)
        hdus.append(fits.ImageHDU(pixels, said, name=name or None))
    fits.HDUList(hdus).writeto(path)
    return path


def reasons(folder, **options):
    """Reason by file, "used" of those that are."""
    pixels, bad = read_all(plan_folder(folder, SMALL, **options))
    return bad | dict.fromkeys(pixels, "used")


# ---- bands


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_band_is_read_from_every_usual_keyword(tmp_path, keyword):
    values = {"r_SDSS": "used", "i_SDSS": "band", "g": "band", "Halpha": "band", 3: "band", "": "used", "n/a": "used"}
    for k, value in enumerate(values):
        save(tmp_path / f"{k}.fits", **{keyword: value})
    assert reasons(tmp_path) == {f"{k}.fits": what for k, what in enumerate(values.values())}


def test_several_filter_keywords_are_taken_together(tmp_path):
    cases = {
        "hst_r": ({"FILTER1": "CLEAR1L", "FILTER2": "r"}, "used"),
        "hst_f814w": ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "band"),
        "clear": ({"FILTER": "clear"}, "band"),
        "fors": ({"ESO INS FILT1 NAME": "R_SPECIAL", "ESO INS FILT2 NAME": "free"}, "used"),
        "ztf": ({"FILTER": "ZTF_r", "FILTERID": 2}, "used"),
        "bok": ({"FILTER": "bokr", "FILTERX": "r"}, "used"),
        "two": ({"FILTER": "r", "BAND": "i"}, "band"),
        "two_wheels": ({"ESO INS FILT1 NAME": "i_SDSS", "FILTER": "r"}, "band"),
        "extension": ({"EXTNAME": "i"}, "band"),
        "chip": ({"EXTNAME": "S29"}, "used"),
        "none": ({}, "used"),
    }
    for name, (cards, _) in cases.items():
        save(tmp_path / f"{name}.fits", **cards)
    assert reasons(tmp_path) == {f"{name}.fits": what for name, (_, what) in cases.items()}
    with pytest.raises(StampError, match="FILTER2 = 'F814W'"):
        plan_tiles(catalogue(tmp_path / "c.csv", [("a", RA, DEC)]), tmp_path / "hst_f814w.fits", SMALL)


def test_a_stated_band_is_for_headers_that_are_not_understood(tmp_path):
    for name, band in {"r": "r", "other": "i_SDSS", "own": "my filter"}.items():
        save(tmp_path / f"{name}.fits", FILTER=band)
    assert reasons(tmp_path) == {"r.fits": "used", "other.fits": "band", "own.fits": "band"}
    assert reasons(tmp_path, band="r") == {"r.fits": "used", "other.fits": "band", "own.fits": "used"}


def test_of_a_cube_the_plane_of_the_band_is_taken(tmp_path):
    cube = np.stack([noise(SIZE, seed) for seed in range(3)])
    cards = {
        "grz": {"BANDS": "grz"},
        "numbered": {"BANDS": "grz", "BAND0": "g", "BAND1": "r", "BAND2": "z"},
        "one": {"BANDS": "r"},
        "without": {},
        "other": {"BANDS": "giz"},
    }
    (tmp_path / "stamps").mkdir()
    for name, own in cards.items():
        save_tile(tmp_path / "stamps" / f"{name}.fits", cube[1:2] if name == "one" else cube, **own)
    save_tile(tmp_path / "stamps" / "last.fits", np.moveaxis(cube, 0, -1), tan(SIZE))
    pixels, bad = read_all(plan_folder(tmp_path / "stamps", SMALL))
    assert bad == dict.fromkeys(("without.fits", "other.fits", "last.fits"), "shape")
    assert len(pixels) == 3 and all((p == cube[1]).all() for p in pixels.values())
    large = np.stack([noise((60, 60), seed) for seed in range(3)])
    for suffix in ("fits", "fits.gz"):
        tile = save_tile(tmp_path / f"tile.{suffix}", large, **cards["numbered"])
        pixels, _ = read_all(
            plan_tiles(catalogue(tmp_path / "c.csv", [("a", *at(tan((60, 60)), 30, 30))]), tile, SMALL)
        )
        np.testing.assert_array_equal(pixels["a"], large[1, 20:41, 20:41])


# ---- weights, masks and the like


def test_weights_masks_and_psfs_of_a_folder_are_left_out_by_name(tmp_path):
    sky = ("obj_r_sci", "weighted", "J1234_masked", "erratum", "chile_7", "depths_of_space")
    for name in sky:
        save(tmp_path / f"{name}.fits")
    by_name = "a_wht b_r_msk c-chi2-r d_psf mask1 noise_map e.unconv.wt f_r_wei g_invvar weight_map h_rms i_flags PSF_2"
    by_name += " ztf_1_q1_mskimg ztf_1_refcov ztf_1_refunc stk.r.unconv.exp stk.r.unconv.num EUC_MER_BGMOD-VIS_TILE1"
    for name in by_name.split():
        save(tmp_path / f"{name}.fits")
    cards = [("IMTYPE", "chi2"), ("IMTYPE", "galdepth"), ("IMAGETYP", "MASKBITS"), ("IMAGETYP", "INVVAR")]
    cards += [("PRODTYPE", "dqmask"), ("PRODTYPE", "wtmap"), ("PRODCATG", "ANCILLARY.WEIGHTMAP"), ("EXTNAME", "WHT")]
    cards += [("DES_EXT", "WEIGHT"), ("DES_EXT", "MASK"), ("EXTNAME", "STAT"), ("IMAGETYP", "sky background")]
    for k, (keyword, value) in enumerate(cards):
        save(tmp_path / f"header_{k}.fits", **{keyword: value})
    for k, (keyword, value) in enumerate([("IMTYPE", "image"), ("PRODTYPE", "image"), ("PRODCATG", "SCIENCE.IMAGE")]):
        save(tmp_path / f"psf_alike_{k}.fits", **{keyword: value})
    save(tmp_path / "object.fits", IMAGETYP="OBJECT")
    save(tmp_path / "subtracted.fits", IMAGETYP="sky background subtracted", EXTNAME="SKY_SUB")
    fits.CompImageHDU(noise(SIZE), tan(SIZE).to_header()).writeto(tmp_path / "j_msk.fits.fz")
    said = reasons(tmp_path)
    used = [*(f"{name}.fits" for name in sky), *(f"psf_alike_{k}.fits" for k in range(3)), "object.fits"]
    used.append("subtracted.fits")
    assert {name for name, what in said.items() if what == "used"} == set(used)
    assert {what for name, what in said.items() if name not in used} == {"companion"}


def test_weights_among_stamps_for_training_are_left_out(tmp_path):
    for name in ("1_r", "1_r_wht"):
        fits.PrimaryHDU(noise((101, 101))).writeto(tmp_path / f"{name}.fits")
    got = read_stamps([tmp_path / "1_r.fits", tmp_path / "1_r_wht.fits"], workers=1, description=None)
    assert [p.name for p in got.paths] == ["1_r.fits"] and got.rejections[0].reason == "companion"


@pytest.mark.parametrize(
    "first, image, cards",
    [
        ("t_r_msk", "t_r_sci", {}),
        ("t-chi2-r", "t-image-r", {}),
        ("a_ood", "a_ooi", {}),
        ("a", "b", {"PRODTYPE": "dqmask"}),
        ("a", "b", {"IMTYPE": "chi2"}),
        ("a", "b", None),  # known by its integers alone
    ],
)
def test_stamps_are_cut_from_the_image_and_not_from_a_map_before_it(tmp_path, first, image, cards):
    shape = (60, 60)
    (tmp_path / "tiles").mkdir()
    flags = noise(shape, 7).astype("i4") if cards is None else noise(shape, 7)
    save_tile(tmp_path / "tiles" / f"{first}.fits", flags, **(cards or {}))
    data = noise(shape)
    save_tile(tmp_path / "tiles" / f"{image}.fits", data)
    rows = catalogue(tmp_path / "c.csv", [("a", *at(tan(shape), 30, 30))])
    pixels, bad = read_all(plan_tiles(rows, tmp_path / "tiles", SMALL))
    assert bad == {}
    np.testing.assert_array_equal(pixels["a"], data[20:41, 20:41])


# ---- extensions


def test_of_several_extensions_the_image_of_the_band_is_read(tmp_path):
    sky, other, small, flags = noise(SIZE), noise(SIZE, 2), noise((15, 15)), noise(SIZE, 3).astype("i4")
    cases = {
        "weight_first": [("WHT", other, {}), ("SCI", sky, {})],
        "psf_first": [("PSF", small, {}), ("IMAGE", sky, {})],
        "preview_first": [("PREVIEW", small, {}), ("SCI", sky, {})],
        "small_first": [(None, small, {}), (None, sky, {})],
        "variance_first": [("VARIANCE", other, {}), ("MASK", flags, {}), ("IMAGE", sky, {})],
        "unnamed_first": [(None, other, {}), ("SCI", sky, {})],
        "errors_first": [("ERR", other, {}), ("DQ", flags, {}), ("SCI", sky, {})],
        "integers_first": [(None, flags, {}), (None, sky, {})],
        "typed": [("A", other, {"IMTYPE": "chi2"}), ("B", sky, {"IMTYPE": "image"})],
        "bands": [("A", other, {"FILTER": "g"}), ("B", sky, {"FILTER": "r"}), ("C", other, {"FILTER": "i"})],
        "named_bands": [("g", other, {}), ("r", sky, {}), ("i", other, {})],
    }
    for name, extensions in cases.items():
        save(tmp_path / f"{name}.fits", *extensions, primary={"OBJECT": "a"})
    pixels, bad = read_all(plan_folder(tmp_path, SMALL))
    assert bad == {} and len(pixels) == len(cases)
    assert [name for name, got in pixels.items() if not (got == sky).all()] == []
    rows = catalogue(tmp_path / "c.csv", [("a", *at(tan(SIZE), 10, 10))])
    for name in cases.keys() - {"small_first"}:
        pixels, bad = read_all(plan_tiles(rows, tmp_path / f"{name}.fits", SMALL))
        assert (pixels["a"] == sky).all(), (name, bad)


def test_a_file_with_maps_or_other_bands_alone_is_named(tmp_path):
    maps = save(tmp_path / "maps.fits", ("WHT", noise(SIZE), {}), ("MASK", noise(SIZE), {}))
    save(tmp_path / "bands.fits", ("g", noise(SIZE), {}), ("i", noise(SIZE), {}))
    assert reasons(tmp_path) == {"maps.fits": "companion", "bands.fits": "band"}
    with pytest.raises(StampError, match="companion .*WHT"):
        plan_tiles(catalogue(tmp_path / "c.csv", [("a", RA, DEC)]), maps, SMALL)
