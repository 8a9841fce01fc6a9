"""Catalogues: the same nine objects in every form that surveys give them; what is wrong is named, with its remedy."""

import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, QTable, Table

from lensdet.survey.catalogues import read_catalogue, read_known
from lensdet.survey.cutouts import plan_tiles

RNG = np.random.default_rng(5)
RA, DEC = 150 + RNG.uniform(0, 0.1, 9).round(7), -0.05 + RNG.uniform(0, 0.1, 9).round(7)  # on both sides of the equator
SKY = SkyCoord(RA, DEC, unit="deg")
IDS = [f"00{i}" for i in range(9)]
FRAME = pd.DataFrame({"id": IDS, "ra": RA, "dec": DEC})


def rows(separator, *more):
    return "".join(
        separator.join([i, f"{r:.7f}", f"{d:.7f}", *more]) + "\n" for i, r, d in zip(IDS, RA, DEC, strict=True)
    )


def save(path, frame=None, **columns):
    """A CSV file of columns."""
    (pd.DataFrame(columns) if frame is None else frame).to_csv(path, index=False)
    return path


def assert_nine(found, arcsec=0.001):
    there = SkyCoord(found.ra, found.dec, unit="deg")
    assert len(there) == 9 and there.separation(SKY).arcsec.max() < arcsec


TEXTS = {
    "plain.csv": "id,ra,dec\n" + rows(","),
    "bom.csv": b"\xef\xbb\xbfid,ra,dec\n" + rows(",").encode(),
    "utf16.csv": ("id,ra,dec\n" + rows(",")).encode("utf-16"),
    "crlf.csv": ("id,ra,dec\n" + rows(",")).replace("\n", "\r\n").encode(),
    "packed.csv.gz": gzip.compress(("id,ra,dec\n" + rows(",")).encode()),
    "title.csv": "Galaxies, version 2\n\nid,ra,dec\n" + rows(","),
    "spreadsheet.csv": "sep=;\nid;ra;dec\n" + rows(";"),
    "semicolon.csv": "id;ra;dec\n" + rows(";"),
    "bar.txt": "id | ra | dec\n" + rows(" | "),
    "tab.csv": "id\tra\tdec\n" + rows("\t"),
    "tab.tsv": "id\tra\tdec\n" + rows("\t"),
    "blanks.dat": "id  ra dec\n" + rows("   "),
    "hash.txt": "# made today\n# id ra dec\n" + rows(" "),
    "sextractor.cat": "#   1 NUMBER  Running number\n#   2 FLUX_APER\n#   4 ALPHA_J2000  [deg]\n#   5 DELTA_J2000\n"
    + "".join(f"   {i} 1.5 2.5 {r:.7f} {d:.7f}\n" for i, r, d in zip(IDS, RA, DEC, strict=True)),
    "hsc.csv": "# object_id,ra,dec\n" + rows(","),
    "skyserver.csv": "#Table1\nobjid,ra,dec\n" + rows(","),
    "comments.csv": "# query of 2024\n# SELECT ra, dec, id FROM x, y\nid,ra,dec\n" + rows(","),
    "quoted.csv": FRAME.to_csv(index=False, quoting=1),
    "comma_at_every_end.csv": "id,ra,dec,\n" + rows(",", ""),
    "two_ra.csv": "id,ra,dec,RA,ra\n" + rows(",", "0", "1"),
    "latin1.csv": ("id,ra,dec,name\n" + rows(",", "Muñoz")).encode("latin-1"),
    "ecsv.txt": "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: string}\n"
    "# - {name: ra, unit: deg, datatype: float64}\n# - {name: dec, unit: deg, datatype: float64}\nid ra dec\n"
    + rows(" "),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_whatever_its_separator_comments_and_encoding(tmp_path, name):
    text = TEXTS[name]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read_catalogue(tmp_path / name)
    assert_nine(found)
    assert found.ids == IDS and not found.notes


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("decimal_comma.csv", "id;ra;dec\n" + rows(";").replace(".", ","), "'150,.*a point, not a comma"),
        ("no_header.csv", rows(","), "first line is a row.*id,ra,dec"),
        ("ragged.csv", "id,ra,dec\n" + rows(",") + "x,1,2,3,4\n", "Expected 3 fields in line 11, saw 5"),
        ("comma_at_ends_of_rows.csv", "id,ra,dec\n" + rows(",", ""), "would shift them; end the line of names"),
        ("sheet.csv", "PK\x03\x04\x14\x00\x06", "no text; save a spreadsheet as CSV"),
        ("empty.csv", "", "the file is empty"),
        ("header_only.csv", "id,ra,dec\n", "has no row"),
        ("page.csv", "<!DOCTYPE html>\n<p>Busy, try again</p>\n", "no column of ra or dec"),
        ("c.fits", "id,ra,dec\n", "not FITS"),
        ("c.hdf5", "\x89HDF", "ends in none of"),
        ("c.parquet", "PAR1", "Parquet"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"(?s){name}: .*{said}"):
        read_catalogue(tmp_path / name)


NAMES = """RAJ2000 DEJ2000|ALPHA_J2000 DELTA_J2000|ALPHAWIN_J2000 DELTAWIN_J2000|ra_gal dec_gal|coord_ra coord_dec|
    TARGET_RA TARGET_DEC|raMean decMean|raStack decStack|RIGHT_ASCENSION DECLINATION|RA_ICRS DE_ICRS|
    RA(J2000) Dec(J2000)|RA[deg] DEC[deg]|i_ra i_dec|RA(deg) DEC(deg)|ALPHA DELTA|RAJ2000 DECJ2000|RAdeg DEdeg|_RA _DE|
    RA_deg Dec_deg|pos_ra pos_dec|RA_1 DEC_1|_RAJ2000 _DEJ2000|X_WORLD Y_WORLD|s_ra s_dec|RIGHT_ASCENSION_PSF_FITTING
    DECLINATION_PSF_FITTING|Ra_Mag_Gal Dec_Mag_Gal"""


@pytest.mark.parametrize("names", [pair.split() for pair in NAMES.split("|")], ids=" ".join)
def test_the_usual_names_of_columns_are_known(tmp_path, names):
    ra, dec = names
    found = read_catalogue(save(tmp_path / "c.csv", **{"objId": range(9), "ra_err": 1, ra: RA, "mag": 20, dec: DEC}))
    assert_nine(found)
    assert found.ids == [str(i) for i in range(9)]


def test_columns_are_given_as_the_message_for_missing_ones_says(tmp_path):
    path = save(tmp_path / "c.csv", **{"a": IDS, "lon": RA, "lat [deg]": DEC})
    with pytest.raises(ValueError, match=r"no column of ra or dec by any usual name; there are: a, lon, lat \[deg\].  "
                                         r"Say which: -p columns '\{ra: NAME, dec: NAME\}'"):  # fmt: skip
        read_catalogue(path)
    with pytest.raises(ValueError, match=r"no column 'b'; there are"):
        read_catalogue(path, {"ra": "lon", "dec": "lat", "id": "b"})
    found = read_catalogue(path, {"id": "A", "ra": "LON", "dec": "Lat"}, keep=["lon", "a"])
    assert_nine(found)
    assert found.ids == IDS and found.kept["a"].tolist() == IDS  # no numbers: 007 is 007
    np.testing.assert_array_equal(found.kept["lon"], RA)
    with pytest.raises(ValueError, match="no column 'z'; there are: a, lon"):
        read_catalogue(path, {"ra": "lon", "dec": "lat"}, keep=["z"])


def hms(**form):
    return SKY.ra.to_string("hour", precision=5, **form), SKY.dec.to_string(precision=5, alwayssign=True, **form)


ANGLES = {
    "colons": hms(sep=":"),
    "letters": hms(),
    "blanks": hms(sep=" "),
    "d": ([f"{v}d" for v in RA], [f"{v} deg" for v in DEC]),
    "mixed": ([*hms(sep=":")[0][:4], *map(str, RA[4:])], [*hms(sep=":")[1][:4], *map(str, DEC[4:])]),
    "one turn more": (RA + 360, DEC),
}


@pytest.mark.parametrize("name", ANGLES)
def test_sexagesimal_positions_are_read(tmp_path, name):
    ra, dec = ANGLES[name]
    assert_nine(read_catalogue(save(tmp_path / "c.csv", ra=ra, dec=dec)))
    Table({"ra": ra, "dec": dec}).write(tmp_path / "c.fits")
    assert_nine(read_catalogue(tmp_path / "c.fits"))


@pytest.mark.parametrize("names", ["RA (hours)|dec", "ra_h|dec", "ra_rad|dec_rad", "RA [radians]|Dec [rad]"])
def test_a_unit_in_a_name_is_used(tmp_path, names):
    ra, dec = names.split("|")
    values = (np.deg2rad(RA), np.deg2rad(DEC)) if "rad" in ra else (RA / 15, DEC)
    found = read_catalogue(save(tmp_path / "c.csv", **dict(zip((ra, dec), values, strict=True))))
    assert_nine(found)


def test_a_unit_that_a_table_states_is_used(tmp_path):
    Table({"ra": np.deg2rad(RA) * units.rad, "dec": np.deg2rad(DEC) * units.rad}).write(tmp_path / "c.fits")
    Table({"ra": RA / 15 * units.hourangle, "dec": DEC}).write(tmp_path / "c.ecsv")
    Table({"ra": np.deg2rad(RA) * units.rad, "dec": np.deg2rad(DEC) * units.rad}).write(tmp_path / "c.parquet")
    lines = [f"{r},{d}\n" for r, d in zip(np.deg2rad(RA), np.deg2rad(DEC), strict=True)]
    (tmp_path / "c.csv").write_text("".join(["ra,dec\nrad,rad\n", *lines]))
    for name in ("c.fits", "c.ecsv", "c.parquet"):
        assert_nine(read_catalogue(tmp_path / name))
    found = read_catalogue(tmp_path / "c.csv")
    assert found.lost == {0: "RA 'rad', Dec 'rad'"}
    np.testing.assert_allclose(found.ra[1:], RA)
    words = [fits.Column(name, "D", array=at, unit="deg (J2000)") for name, at in (("ra", RA / 9), ("dec", DEC))]
    fits.BinTableHDU.from_columns(words).writeto(tmp_path / "words.fits")
    assert (
        read_catalogue(tmp_path / "words.fits").ra.max() < 24
        and len(read_catalogue(tmp_path / "words.fits").notes) == 1
    )
    save(tmp_path / "c.csv", **{"ra [mag]": RA, "dec": DEC})
    with pytest.raises(ValueError, match=r"unit 'mag' of column 'ra \[mag\]' is no angle"):
        read_catalogue(tmp_path / "c.csv")


def test_positions_that_may_be_hours_radians_or_swapped_are_named(tmp_path):
    path = tmp_path / "c.csv"
    assert "if they are hours, call it ra_h" in read_catalogue(save(path, id=IDS, ra=RA / 15, dec=DEC)).notes[0]
    radians = read_catalogue(save(path, id=IDS, ra=np.deg2rad(RA), dec=np.deg2rad(DEC)))
    assert "if they are radians, call the columns ra_rad and dec_rad" in radians.notes[0]
    with pytest.raises(ValueError, match=r"swapped; say -p columns '\{ra: dec, dec: ra\}'"):
        read_catalogue(save(path, id=IDS, ra=DEC, dec=RA))
    assert_nine(read_catalogue(path, {"ra": "dec", "dec": "ra"}))


def test_masked_missing_and_placeholder_positions_are_none(tmp_path):
    mask = np.isin(np.arange(9), (1, 3))
    columns = {"id": IDS, **{k: MaskedColumn(v, mask=mask, unit="deg") for k, v in (("ra", RA), ("dec", DEC))}}
    for name, form in {"c.fits": "fits", "c.ecsv": "ascii.ecsv", "c.vot": "votable"}.items():
        Table(columns).write(tmp_path / name, format=form)
        assert np.isnan(read_catalogue(tmp_path / name).ra).nonzero()[0].tolist() == [1, 3], name
    for bad in (-99, -999.0, "", "nan", "null", "none known"):
        ra = [bad if gone else value for gone, value in zip(mask, RA, strict=True)]
        found = read_catalogue(save(tmp_path / "c.csv", id=IDS, ra=ra, dec=DEC))
        assert np.isnan(found.ra).nonzero()[0].tolist() == [1, 3] == list(found.lost), bad
        assert repr(str(bad)).rstrip("'") in found.lost[1]
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 9.0, "CDELT1": -5e-5, "CDELT2": 5e-5}
    fits.PrimaryHDU(np.ones((9, 9), "f4"), fits.Header(cards)).writeto(tmp_path / "tile.fits")
    rejected = plan_tiles(tmp_path / "c.csv", tmp_path / "tile.fits").rejections
    assert next(r.detail for r in rejected if r.reason == "no position").startswith("row 2: RA 'none known', Dec '")


def binary(folder):
    t = Table({"id": IDS, "ra": RA * units.deg, "dec": DEC * units.deg})
    for name in ("t.fits", "t.fits.gz", "t.ecsv", "t.parquet"):
        t.write(folder / name)
    t.write(folder / "t.vot", format="votable")
    t.write(folder / "t.xml", format="votable", tabledata_format="binary2")
    t.write(folder / "t.tbl", format="ascii.ipac")
    FRAME.set_index("id").to_parquet(folder / "index.parquet")
    (folder / "packed.parquet.gz").write_bytes(gzip.compress((folder / "index.parquet").read_bytes()))
    QTable({"id": IDS, "ra": Longitude(RA * units.deg), "dec": Latitude(DEC * units.deg)}).write(folder / "angles.ecsv")
    for name in ("skycoord.ecsv", "skycoord.fits", "skycoord.parquet"):
        QTable({"id": IDS, "place": SKY}).write(folder / name)
        QTable({"id": IDS, "place": SKY.galactic}).write(folder / f"galactic_{name}")
    objects = [fits.Column("NUMBER", "4A", array=IDS), fits.Column("ALPHA_J2000", "D", array=RA, unit="deg"),
               fits.Column("DELTA_J2000", "D", array=DEC, unit="deg"),
               fits.Column("VIGNET", "4E", array=np.ones((9, 4))),
               fits.Column("LIST", "PJ()", array=np.array([np.arange(i) for i in range(9)], object))]  # fmt: skip
    header = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", "80A", array=["SIMPLE = T"])])
    ldac = [fits.PrimaryHDU(), header, fits.BinTableHDU.from_columns(objects, name="LDAC_OBJECTS")]
    fits.HDUList(ldac).writeto(folder / "ldac.fits")
    (folder / "ldac.cat").write_bytes((folder / "ldac.fits").read_bytes())
    (folder / "named.vot").write_text(  # VizieR and TAP: an ID that is no name
        (folder / "t.vot").read_text().replace('ID="ra"', 'ID="col_1"').replace('ID="dec"', 'ID="col_2"'))  # fmt: skip


def test_tables_are_read_in_every_format(tmp_path):
    binary(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        found = read_catalogue(path)
        assert_nine(found)
        assert found.ids == IDS, path
    Table({"id": np.int64(900719925474099300) + np.arange(9), "ra": RA, "dec": DEC}).write(tmp_path / "long.fits")
    assert read_catalogue(tmp_path / "long.fits").ids[1] == "900719925474099301"
    Table({"id": np.ma.array([5, 6], mask=[0, 1]), "ra": [1.0, 2], "dec": [1.0, 2]}).write(tmp_path / "gap.ecsv")
    assert read_catalogue(tmp_path / "gap.ecsv").ids == ["5", "row 2"]
    long = pd.array([2**62 + 1, None, 2**62 + 3], "Int64")  # that no float holds
    pd.DataFrame({"objectId": long, "n": long, "ra": RA[:3], "dec": DEC[:3]}).to_parquet(tmp_path / "long.parquet")
    found = read_catalogue(tmp_path / "long.parquet", keep=["n"])
    assert found.ids == [str(2**62 + 1), "row 2", str(2**62 + 3)] and found.kept["n"][2] == str(2**62 + 3)


def test_of_several_tables_in_a_votable_that_with_positions_is_read(tmp_path):
    file = from_table(Table({"x": [1]}))
    file.resources.extend(from_table(Table.from_pandas(FRAME)).resources)
    file.to_xml(str(tmp_path / "c.vot"))
    assert_nine(read_catalogue(tmp_path / "c.vot"))


@pytest.mark.parametrize(
    "ids, expected",
    [
        ({"BRICKID": [1] * 5 + [2] * 4, "OBJID": [0, 1, 2, 3, 4, 0, 1, 2, 3]}, ["1_0", "2_3"]),
        ({"brickname": ["0001m002"] * 9, "objid": range(9)}, ["0001m002_0", "0001m002_8"]),
        ({"release": [9010] * 5 + [9011] * 4, "brickid": 7, "objid": [*range(5), *range(4)]}, ["9010_7_0", "9011_7_3"]),
        ({"NUMBER": [1, 2, 3] * 3, "TILE": list("aaabbbccc")}, ["a_1", "c_3"]),
        ({"ID": [1, 2, 3] * 3, "pointing": list("aaabbbccc")}, ["a_1", "c_3"]),
        ({"COADD_OBJECT_ID": range(77000, 77009), "NUMBER": 1}, ["77000", "77008"]),
        ({"TARGETID": range(39627000, 39627009)}, ["39627000", "39627008"]),
        ({"ID_KIDS": range(9), "KIDS_NAME": [f"KIDS J{i}" for i in range(9)]}, ["KIDS J0", "KIDS J8"]),
        ({"name": ["same"] * 9, "SOURCE_ID": range(9)}, ["0", "8"]),
    ],
)
def test_ids_tell_objects_apart(tmp_path, ids, expected):
    found = read_catalogue(save(tmp_path / "c.csv", **ids, ra=RA, dec=DEC))
    assert [found.ids[0], found.ids[-1]] == expected and len(set(found.ids)) == 9 and not found.notes


def test_row_numbers_are_ids_where_no_column_tells_objects_apart(tmp_path):
    for ids, why in (
        ({"OBJID": [1, 2, 3] * 3}, "values of OBJID occur more than once"),
        ({}, "no usual column of ids"),
    ):
        found = read_catalogue(save(tmp_path / "c.csv", **ids, ra=RA, dec=DEC))
        assert found.ids == [str(i + 1) for i in range(9)]
        assert why in found.notes[0] and "-p columns '{id: NAME}'" in found.notes[0]
    found = read_catalogue(save(tmp_path / "c.csv", OBJID=[1, 2, 3] * 3, ra=RA, dec=DEC), {"id": "objid"})
    assert found.ids == ["1", "2", "3"] * 3  # as it was asked for


def test_other_columns_are_kept_as_numbers_or_text(tmp_path):
    other = {"z": [0.5, None] + [0.25] * 7, "n": range(9), "kind": ["E, S0", ""] + ["é"] * 7, "field": ["01"] * 9}
    save(tmp_path / "c.csv", FRAME.assign(**other))
    FRAME.assign(**other).to_parquet(tmp_path / "c.parquet")
    for name in ("c.csv", "c.parquet"):
        kept = read_catalogue(tmp_path / name, keep=["Z", "n", "kind", "field"]).kept
        assert [*kept] == ["z", "n", "kind", "field"] and kept["kind"].tolist() == other["kind"]
        assert kept["n"].dtype.kind == "i" and kept["field"][0] == "01"
        np.testing.assert_array_equal(kept["z"], np.array(other["z"], float))


def test_links_and_pickles_are_refused(tmp_path):
    Table({"id": ["a"], "ra": [1.0], "dec": [2.0]}).write(tmp_path / "c.vot", format="votable")
    text = (tmp_path / "c.vot").read_text()
    begin, end = text.index("<TABLEDATA>"), text.index("</TABLEDATA>") + len("</TABLEDATA>")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"")
    link = f'<BINARY><STREAM href="file://{secret}"/></BINARY>'
    for name in ("c.vot", "c.csv"):  # known by its beginning, too
        (tmp_path / name).write_text(text[:begin] + link + text[end:])
        with pytest.raises(ValueError, match="not followed"):
            read_catalogue(tmp_path / name)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"ra": [1], "dec": [2]}))
    with pytest.raises(ValueError, match=r"c\.pkl"):
        read_catalogue(tmp_path / "c.pkl")
    for read in (read_catalogue, read_known):
        with pytest.raises(FileNotFoundError, match=r"none\.csv"):
            read(tmp_path / "none.csv")
