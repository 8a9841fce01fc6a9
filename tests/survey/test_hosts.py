"""Hosts of one's own: the same sky stays in one split, PSFs are measured, headers and labels are understood."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from lensdet import parameters
from lensdet.data import broad, lensing, mocklens
from lensdet.survey import cutouts, hosts, psf
from tests.survey import cases

P = parameters.resolve({"workers": 1})


# ---- splits


def stamps_at(places, seed=0):
    """Positions (n,) and different pixels of each."""
    ra, dec = np.asarray(places, float).T
    return ra, dec, np.random.default_rng(seed).random((len(ra), 6, 6), np.float32)


def field(n, seed=0):
    rng = np.random.default_rng(seed)
    return stamps_at(np.stack([rng.uniform(150, 153, n), rng.uniform(1, 4, n)], 1), seed)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 150), st.integers(0, 10_000))
def test_shares_are_met_to_a_stamp_where_no_two_overlap(n, seed):
    rng = np.random.default_rng(seed)
    grid = rng.choice(2500, n, replace=False)  # 0.05 degrees apart
    ra, dec, pixels = stamps_at(np.stack([150 + grid % 50 / 20, grid // 50 / 20], 1), seed)
    found = hosts.splits(ra, dec, pixels, 28.6)
    for split, share in hosts.SHARES.items():
        assert abs((found == split).sum() - share * n) <= 1, split


def test_the_same_sky_is_never_in_two_splits():
    ra, dec, pixels = field(400)  # a square of three degrees: many have a neighbour
    found, apart = hosts.splits(ra, dec, pixels, 200.0), 200.0 / 3600
    x, y = ra * np.cos(np.deg2rad(dec.mean())), dec  # flat, in the place of the sphere
    near = np.hypot(x[:, None] - x, y[:, None] - y) < 0.995 * apart
    assert near.sum() > len(ra) + 100
    assert (found[:, None] == found)[near].all()
    assert set(found) == set(hosts.SHARES)


def test_a_chain_of_overlapping_stamps_is_one_and_the_sky_closes_at_0_and_at_the_pole():
    step = 20 / 3600
    chain = [(150 + i * step, 0.0) for i in range(6)]
    around_zero = [(359.999, 0.0), (0.001, 0.0)]
    pole = [(0.0, 89.9995), (180.0, 89.9995)]
    far = [(10.0 + i, 30.0) for i in range(40)]
    found = hosts.splits(*stamps_at(chain + around_zero + pole + far), 25.0)
    assert len(set(found[:6])) == len(set(found[6:8])) == len(set(found[8:10])) == 1


def test_the_same_pixels_are_never_in_two_splits_with_and_without_positions():
    ra, dec, pixels = field(60)
    pixels[30:] = pixels[:30]
    for positions in ((ra, dec), (np.full(60, np.nan), np.full(60, np.nan))):
        found = hosts.splits(*positions, pixels, 1.0)
        assert (found[:30] == found[30:]).all() and set(found) == set(hosts.SHARES)


def test_another_order_of_the_stamps_gives_the_same_splits():
    ra, dec, pixels = field(120)
    ra[::5], dec[::7] = np.nan, np.nan
    pixels[100:] = pixels[:20]
    found, order = hosts.splits(ra, dec, pixels, 60.0), np.random.default_rng(1).permutation(120)
    np.testing.assert_array_equal(hosts.splits(ra[order], dec[order], pixels[order], 60.0), found[order])


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_leave_the_shares_as_they_should_be(seed):
    ra, dec, pixels = field(200, seed)
    ra[:50], dec[:50] = 10.0, 10.0  # a fifth, and a tenth, at two places
    ra[50:70], dec[50:70] = 20.0, 10.0
    found = hosts.splits(ra, dec, pixels, 1.0)
    for split, share in hosts.SHARES.items():
        assert abs((found == split).mean() - share) < 0.02, split


def test_each_kind_is_split_by_the_shares():
    ra, dec, pixels = field(140)
    kinds = np.repeat([0, 1, 2], [100, 30, 10])
    found = hosts.splits(ra, dec, pixels, 1.0, kinds)
    for kind in range(3):
        for split, share in hosts.SHARES.items():
            assert abs((found[kinds == kind] == split).sum() - share * (kinds == kind).sum()) <= 1
    order = np.random.default_rng(1).permutation(140)
    np.testing.assert_array_equal(hosts.splits(ra[order], dec[order], pixels[order], 1.0, kinds[order]), found[order])


# ---- PSF


def star(fwhm, scale, seed):
    """A galaxy, and three stars beside it: Moffat profiles of known FWHM over noise of 1."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((101, 101))
    made = rng.standard_normal((101, 101)) + 300 * np.exp(-np.hypot(y - 50, x - 50) * scale / 0.8)
    for row, column in ((20, 25), (78, 22), (30, 80)):
        row, column = row + rng.uniform(-0.5, 0.5), column + rng.uniform(-0.5, 0.5)
        width = fwhm / scale / 2 / np.sqrt(2 ** (1 / 3) - 1)
        made += rng.uniform(100, 900) * (1 + ((y - row) ** 2 + (x - column) ** 2) / width**2) ** -3.0
    return made


@pytest.mark.parametrize(("fwhm", "scale"), [(0.6, 0.2), (1.1, 0.2), (1.2, 0.263), (0.16, 0.05)])
def test_the_psf_of_stars_is_measured(fwhm, scale):
    found = psf.measured_psf(np.stack([star(fwhm, scale, i) for i in range(10)]), scale)
    assert found.fwhm == pytest.approx(fwhm, rel=0.04) and found.objects >= 15


@pytest.mark.parametrize(("fwhm", "scale"), [(0.7, 0.2), (1.3, 0.25)])
def test_the_psf_of_broad_stamps_is_measured_though_most_objects_are_galaxies(fwhm, scale):
    p = parameters.resolve({"simulation": "broad", "simulated_scale": scale, "seeing": (fwhm, fwhm)})
    found = psf.measured_psf(np.stack([broad.render("lrg", i, p)[0] for i in range(1000, 1150)]), scale)
    assert found.fwhm == pytest.approx(fwhm, rel=0.1)


def test_neither_unit_nor_sky_changes_the_psf():
    pixels = np.stack([star(0.8, 0.2, i) for i in range(8)])
    assert psf.measured_psf(1e-11 * (pixels + 500), 0.2) == psf.measured_psf(pixels, 0.2)


def test_without_compact_objects_the_remedy_is_named():
    y, x = np.indices((101, 101))
    alone = 300 * np.exp(-np.hypot(y - 50, x - 50) / 4)
    pixels = np.stack([alone + np.random.default_rng(i).standard_normal((101, 101)) for i in range(25)])
    with pytest.raises(ValueError, match=r"0 compact objects .* in 25 stamps, 10 are needed; add -p psf FWHM"):
        psf.measured_psf(pixels, 0.2)
    with pytest.raises(ValueError, match="-p psf FWHM"):
        psf.measured_psf(np.zeros((3, 101, 101)), 0.2)  # without noise, too


# ---- headers


def write(folder, n, header, shape=(101, 101), first=0):
    folder.mkdir(exist_ok=True)
    for i in range(first, first + n):
        fits.PrimaryHDU(cases.galaxy(shape, i), header).writeto(folder / f"{i:03d}.fits")
    return folder


def asked(folder, **given):
    return hosts.wanted(folder, parameters.resolve({"workers": 1, **given}))


@pytest.mark.parametrize("scale", [0.05, 0.1, 0.168, 0.2, 0.263, 0.55])
def test_scale_and_band_are_those_of_the_headers_whatever_the_size_of_the_stamps(tmp_path, scale):
    folder = write(tmp_path / "hosts", 5, cases.sky(scale=scale, FILTER="g"))
    assert asked(folder) == cutouts.Wanted((101, 101), scale, "g")


def test_a_scale_and_a_band_that_are_given_win(tmp_path):
    folder = write(tmp_path / "hosts", 4, cases.sky(scale=0.263, FILTER="strange"))
    assert asked(folder, band="i") == cutouts.Wanted((101, 101), 0.263, "i")
    assert asked(folder, pixel_scale=0.2, band="r") == cutouts.Wanted((101, 101), 0.2, "r")


def test_without_a_scale_the_remedy_is_named(tmp_path):
    folder = write(tmp_path / "hosts", 4, cases.bare(FILTER="r"))
    with pytest.raises(ValueError, match=r"hosts .*: no header of 4 says the pixel scale; add -p pixel_scale ARCSEC"):
        asked(folder)
    assert asked(folder, pixel_scale=0.25) == cutouts.Wanted((101, 101), 0.25, "r")


def test_a_scale_without_a_wcs_is_said_with_the_remedy(tmp_path):
    folder = write(tmp_path / "hosts", 4, cases.bare(FILTER="r", PIXSCALE=0.25))
    with pytest.raises(ValueError, match=r"0.25 x 0.25 arcsec a pixel.*and no WCS\); add -p pixel_scale ARCSEC"):
        asked(folder)
    own, bad = hosts.read(folder, "hosts", asked(folder, pixel_scale=0.25), P.model_copy(update={"pixel_scale": 0.25}))
    assert len(own.ids) == 4 and not bad


def test_what_is_no_image_says_so(tmp_path):
    (tmp_path / "a.fits").write_text("no image\n" * 400)
    with pytest.raises(ValueError, match="not FITS"):
        asked(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        asked(tmp_path / "none")


def test_of_several_bands_r_is_taken_and_of_g_alone_g(tmp_path):
    for i, band in enumerate("gri" * 40):  # in the order of the names
        write(tmp_path / "several", 1, cases.sky(FILTER=band), first=i)
    assert asked(tmp_path / "several").band == "r"
    for i, band in enumerate("ggg" * 20 + "r"):
        write(tmp_path / "most", 1, cases.sky(FILTER=band), first=i)
    assert asked(tmp_path / "most").band == "g"


def test_of_two_scales_that_are_as_frequent_one_is_taken_and_the_other_resampled(tmp_path):
    folder = write(tmp_path / "hosts", 4, cases.sky(scale=0.2))
    write(folder, 4, cases.sky((101, 101), 0.25), first=4)
    wanted = asked(folder)
    own, bad = hosts.read(folder, "hosts", wanted, P)
    assert wanted.pixel_scale == 0.2 and len(own.ids) == 8 and not bad


def test_an_hdf5_file_is_read(tmp_path):
    import h5py

    path = tmp_path / "hosts.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.stack([cases.galaxy(seed=i) for i in range(6)])
        file["ra"], file["dec"] = 150 + np.arange(6.0), np.zeros(6)
        file.attrs["pixel_scale"], file.attrs["band"] = 0.168, "i"
    wanted = asked(path)
    assert wanted == cutouts.Wanted((101, 101), 0.168, "i")
    own, bad = hosts.read(path, "hosts", wanted, P)
    assert len(own.ids) == 6 and not bad and own.ra.tolist() == [150, 151, 152, 153, 154, 155]


# ---- reading


def test_what_has_no_galaxy_or_no_data_is_left_out_by_name(tmp_path):
    rng = np.random.default_rng(0)
    folder = write(tmp_path / "hosts", 3, cases.sky())
    many, few = cases.galaxy(), cases.galaxy(seed=9)
    many[:20], few[70, 20] = np.nan, np.nan
    y, x = np.indices((101, 101))
    shallow = rng.standard_normal((101, 101)) + 9 * np.exp(-((y - 50) ** 2 + (x - 50) ** 2) / 40)  # yet significant
    for name, pixels in {"noise": rng.standard_normal((101, 101)), "many": many, "few": few, "shallow": shallow,
                         "hot": cases.blanked((70, 33), 1e4), "small": cases.galaxy((60, 60)),
                         "flat": np.ones((101, 101))}.items():  # fmt: skip
        fits.PrimaryHDU(pixels.astype("f4"), cases.sky(pixels.shape)).writeto(folder / f"{name}.fits")
    own, bad = hosts.read(folder, "hosts", cutouts.Wanted(), P)
    assert {*own.ids} == {"000.fits", "001.fits", "002.fits", "few.fits", "shallow.fits"}
    assert {r.file: r.reason for r in bad} == {"noise.fits": "faint centre", "many.fits": "masked", "hot.fits":
                                               "hot pixel", "small.fits": "shape", "flat.fits": "constant"}  # fmt: skip
    assert np.isfinite(own.pixels).all() and own.pixels.shape == (5, 101, 101)
    negatives, bad = hosts.read(folder, "negatives", cutouts.Wanted(), P, every=True)  # which may be just that
    assert {*negatives.ids} == {*own.ids, "noise.fits", "hot.fits"}
    assert {r.reason for r in bad} == {"masked", "shape", "constant"}


# ---- grades

ROWS = [("a.fits", "A"), ("b.fits", " lens "), ("c.fits", "X"), ("d.fits", "Non-Lens"), ("007", "0"), ("e.fits", "C"),
        ("f.fits", "")]  # fmt: skip
KNOWN = {"a.fits": 1, "b.fits": 1, "c.fits": 0, "d.fits": 0, "007": 0}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_grades_of_any_usual_text(tmp_path, encoding, separator):
    head = separator.join(["who", " ID ", "Grade"])
    lines = [head, *(separator.join(["Zoë" if encoding != "utf-8" else "me", *row]) for row in ROWS)]
    (tmp_path / "g.csv").write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    assert hosts.grades(tmp_path / "g.csv") == KNOWN


def test_grades_of_a_fits_table(tmp_path):
    Table(rows=ROWS, names=["id", "grade"]).write(tmp_path / "g.fits")
    assert hosts.grades(tmp_path / "g.fits") == KNOWN


def test_people_who_do_not_agree_say_nothing(tmp_path):
    pd.DataFrame({"id": [*"aabbccd"], "grade": ["A", "X", "A", "B", "C", "X", "1"]}).to_csv(tmp_path / "g.csv")
    assert hosts.grades(tmp_path / "g.csv") == {"b": 1, "c": 0, "d": 1}


def test_classes_are_of_those_that_are_no_lenses(tmp_path):
    rows = [
        ("a", "X", "spiral"),
        ("a", "X", "ring"),
        ("b", "0", ""),
        ("b", "X", "star"),
        ("c", "A", "ring"),
        ("d", "C", "odd"),
    ]
    pd.DataFrame(rows, columns=["ID", "grade", "Class"]).to_csv(tmp_path / "g.csv", index=False)
    assert hosts.classes(tmp_path / "g.csv") == {"a": "spiral", "b": "star"}
    pd.DataFrame(rows, columns=["id", "grade", "other"]).to_csv(tmp_path / "g.csv", index=False)
    assert hosts.classes(tmp_path / "g.csv") == {}


@pytest.mark.parametrize("columns", [["name", "grade"], ["id", "label"]])
def test_labels_without_the_columns_say_what_there_is(tmp_path, columns):
    pd.DataFrame([["a", "A"]], columns=columns).to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(ValueError, match=rf"labels .*g.csv: needs columns id and grade, and has {', '.join(columns)}"):
        hosts.grades(tmp_path / "g.csv")


def test_labels_that_are_no_table_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        hosts.grades(tmp_path / "none.csv")
    (tmp_path / "g.csv").write_bytes(b"\x00\x01\x02" * 50)
    with pytest.raises(ValueError, match=r"g.csv"):
        hosts.grades(tmp_path / "g.csv")


def own(ids):
    n = len(ids)
    return hosts.Own(list(ids), np.arange(n, dtype=np.float32)[:, None, None], np.arange(n) + 0.0, np.zeros(n))


def test_graded_stamps_go_where_people_put_them():
    given = {"lrg": own("abcd"), "contaminant": own("xyz")}
    found, unknown = hosts.by_grade(given, {"b": 1, "c": 0, "y": 1, "x": 0, "nobody": 1})
    assert {cls: some.ids for cls, some in found.items()} == {"lrg": ["a", "d"], "contaminant": ["c", "x", "z"],
                                                              "graded": ["b", "y"]}  # fmt: skip
    assert unknown == ["nobody"]
    assert found["contaminant"].pixels.ravel().tolist() == [2, 0, 2]  # each with its own pixels
    assert sum(len(some.ids) for some in found.values()) == 7


# ---- the bank


def test_the_broad_survey_is_simulated_at_the_scale_and_around_the_psf():
    p = hosts.around(P, cutouts.Wanted(pixel_scale=0.25), 1.2)
    assert p.simulated_scale == 0.25 and p.seeing == pytest.approx((0.8, 1.8))
    assert p.einstein_radius == P.einstein_radius


@pytest.mark.parametrize("scale", [0.03, 0.05, 0.1])
def test_arcs_lie_within_stamps_of_fine_pixels(scale):
    p = hosts.around(P.model_copy(update={"simulation": "broad"}), cutouts.Wanted(pixel_scale=scale), 0.15)
    assert p.einstein_radius[0] < p.einstein_radius[1] <= 0.3 * 101 * scale
    for i in range(25):
        row, column = np.unravel_index(lensing.render_source(i, p)[0].argmax(), (101, 101))
        assert 3 < row < 97 and 3 < column < 97


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A bank with 30 hosts, 5 negatives and 4 graded lenses, and what it was made of."""
    p = parameters.resolve({"profile": "smoke", "workers": 1, "simulation": "broad", "n_lrg": 16, "n_source": 40,
                            "n_contaminant": 16})  # fmt: skip
    parts, made = {}, 0
    for cls, n in (("lrg", 30), ("contaminant", 5), ("graded", 4)):
        pixels = np.stack([cases.galaxy(seed=made + i) for i in range(n)])
        parts[cls] = hosts.Own([f"{cls}{i}" for i in range(n)], pixels, np.full(n, np.nan), np.full(n, np.nan))
        made += n
    split = {"lrg": np.array(["train"] * 20 + ["validation"] * 3 + ["calibration"] * 3 + ["test"] * 4),
             "contaminant": np.array(["train"] * 5), "graded": np.array(["train"] * 3 + ["test"])}  # fmt: skip
    p = hosts.around(p, cutouts.Wanted(), 0.9)
    return hosts.open_bank(tmp_path_factory.mktemp("bank"), parts, split, 0.9, p), parts, split, p


def test_own_stamps_come_first_in_their_split(opened):
    bank, parts, split, _ = opened
    for cls, name in (("lrg", "train"), ("lrg", "test"), ("contaminant", "train"), ("graded", "train")):
        ours = parts[cls].pixels[split[cls] == name]
        n, table = len(ours), bank.catalogue(cls, name)
        scaled = (ours - ours.min((1, 2), keepdims=True)) / np.ptp(ours, axis=(1, 2))[:, None, None]
        np.testing.assert_allclose(bank.pixels(cls, name)[:n], scaled, atol=3e-4)
        assert table["own"].tolist() == [True] * n + [False] * (len(table) - n)
        assert (table["seeing"][:n] == 0.9).all() and (table["id"][:n] < 0).all() and table["id"].is_unique
    assert not bank.has("graded", "validation") and bank.count("contaminant", "test") == 2
    seeing = bank.catalogue("lrg", "train")["seeing"][20:]
    assert seeing.between(0.6, 1.35).all() and seeing.nunique() == 16


def test_sizes_count_ones_own(opened):
    bank = opened[0]
    train, test = mocklens.sizes(bank, "train"), mocklens.sizes(bank, "test")
    assert train[:3] == (36, 21, 40) and train.own == (20, 5) and train.graded == 3
    assert test[:3] == (6, 2, 5) and test.own == (4, 0) and test.graded == 1
    assert len(mocklens.device_bank(bank, "train")[0]) == 36 + 21 + 3


def test_graded_lenses_enter_as_they_are(opened):
    bank, parts, _, p = opened
    size = mocklens.sizes(bank, "train")
    rows = mocklens.training_rows(p.model_copy(update={"chunk_size": 6400}), 1, 0, size)[0]
    graded = rows["stamp"] >= size.lrg + size.contaminant
    assert (rows["label"][graded] == 1).all() and (rows["alpha"][graded] == 0).all() and graded.any()
    assert (rows["alpha"][(rows["label"] == 1) & ~graded] > 0).all()
    one = rows[graded][:1]
    pixels = parts["graded"].pixels[one["stamp"][0] - 57]
    scaled = (pixels - pixels.min()) / np.ptp(pixels)
    np.testing.assert_allclose(mocklens.images(bank, "train", one, True)[0, ..., 0] ** 2, scaled, atol=1e-3)


def test_the_same_stamps_give_the_same_bank_and_others_another(opened):
    bank, parts, split, p = opened
    before = bank.path.stat().st_mtime_ns
    assert hosts.open_bank(bank.path.parent, parts, split, 0.9, p) == bank
    assert bank.path.stat().st_mtime_ns == before
    keys = set()
    for changed in (
        (parts | {"lrg": parts["lrg"]._replace(pixels=parts["lrg"].pixels * 2)}, split, 0.9, p),
        (parts, split | {"lrg": split["lrg"][::-1].copy()}, 0.9, p),
        (parts, split, 0.8, p),
        (parts, split, 0.9, p.model_copy(update={"simulated_share": 0.3})),
    ):
        folder = bank.path.parent / str(len(keys))
        with pytest.MonkeyPatch.context() as patch:  # its name alone
            patch.setattr(hosts, "_fill", lambda file, *_: file.attrs.create("empty", 1))
            keys.add(hosts.open_bank(folder, *changed).data_key)
    assert len(keys) == 4 and bank.data_key not in keys


def test_own_and_simulated_hosts_have_sources_of_like_psf(opened):
    bank, _, _, p = opened
    rows = mocklens.training_rows(p.model_copy(update={"chunk_size": 6400}), 1, 0, mocklens.sizes(bank, "train"))[0]
    mocks = rows[(rows["label"] == 1) & (rows["alpha"] > 0) & (rows["stamp"] < 20)]
    sources = bank.catalogue("source", "train")["source_seeing"].to_numpy()
    near = np.sort(np.abs(np.log(sources / 0.9)))[:12]
    assert np.abs(np.log(sources[mocks["source"]] / 0.9)).max() <= near.max() + 1e-9
    assert ks_2samp(sources[mocks["source"]], sources).pvalue < 0.01  # not of all
