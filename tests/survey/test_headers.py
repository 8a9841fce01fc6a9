"""FITS files whose headers say the impossible: each is named, at once, and none takes the memory.

They are read in a process of its own, whose memory is limited: where a header is believed, the test fails, and no more.
"""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, DistortionLookupTable

from lensdet.data.fits import HeaderError, check_block, open_checked
from lensdet.survey import headers
from tests.survey import cases

resource = pytest.importorskip("resource")  # not on Windows

READ = """
import json, os, resource, sys, warnings
from pathlib import Path

from lensdet.data import stamps
from lensdet.survey import catalogues, cutouts, cutting, reading, tiles

limit = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if os.path.exists("/proc/self/statm") else 3 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit + (512 << 20),) * 2)
warnings.simplefilter("ignore")
options, said = cutouts.Options(pixel_scale=0.2, band="r"), {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.name.startswith("catalogue"):
        try:
            catalogues.read_catalogue(path)
            said[path.name] = ["used"]
        except ValueError as error:
            said[path.name] = ["corrupt" if "HeaderError" in str(error) and path.name in str(error) else str(error)]
        continue
    got = stamps.read_stamps([path], workers=1, description=None)
    answers = [*(r.reason for r in got.rejections), *("used" for _ in got.paths)]
    one = ("a",), (150.0,), (2.0,)
    got = reading.read(cutouts.Unit(*one, ((cutting.Place(str(path)),),), options))
    answers += [*(r.reason for r in got.rejections), *("used" for _ in got.ids)]
    image = tiles.look_over(path, options)[0]
    answers.append("used" if image.error is None else image.error.reason)
    if image.error is None:
        got = reading.read(cutouts.Unit(*one, ((cutting.Place(str(path), image.hdu, 50.0, 50.0),),), options))
        answers[-1] = [*(r.reason for r in got.rejections), *("used" for _ in got.ids)][0]
    said[path.name] = answers
print(json.dumps(said))
"""


def answers(folder):
    """What reading each file of a folder comes to, as a stamp, of a folder of them, and as a tile; or a catalogue."""
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def good_files(folder):
    """Files that can be used, as bytes: an image alone, after a table, compressed; a table."""
    pixels = np.random.default_rng(1).normal(1000, 20, (101, 101)).astype("f4")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN-SIP", "DEC--TAN-SIP"], (150, 2), (51, 51)
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    header = wcs.to_header(relax=True)
    header.update(dict.fromkeys(("WCSAXES", "A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"), 2))
    header["WCSAXESA"] = 2
    header["CTYPE1"], header["CTYPE2"] = wcs.wcs.ctype
    table = fits.BinTableHDU(Table({"id": [1, 2], "ra": [150.0, 150.1], "dec": [2.0, 2.1]}))
    hdus = {
        "first": [fits.PrimaryHDU(pixels, header)],
        "after_table": [fits.PrimaryHDU(), table, fits.ImageHDU(pixels, header)],
        "compressed": [fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, quantize_method=1, dither_seed=42)],
        "catalogue": [fits.PrimaryHDU(), table],
    }
    for name, list_of in hdus.items():
        fits.HDUList(list_of).writeto(folder / name)
    return {name: (folder / name).read_bytes() for name in hdus}


def with_value(content, hdu, keyword, value):
    """A file with another value on a card; None where the HDU has no such card."""
    begin = [at for at in range(0, len(content), 2880) if content[at : at + 8] in (b"SIMPLE  ", b"XTENSION")]
    if hdu >= len(begin):
        return None
    end = content.index(b"END" + b" " * 77, begin[hdu])
    at = content.find(keyword.encode().ljust(8) + b"=", begin[hdu], end)
    return None if at < 0 else content[:at] + f"{keyword:8}= {value:>20}".ljust(80).encode() + content[at + 80 :]


NO_COUNT = ("-1", "2.5", "'2'", "1000", "3000000000", str(10**18), "")
NO_SIZE = ("-1", "2.5", "'2'", str(10**18))
IMPOSSIBLE = {
    **dict.fromkeys(("NAXIS", "ZNAXIS", "TFIELDS"), NO_COUNT),
    **dict.fromkeys(("NAXIS1", "ZNAXIS2", "PCOUNT", "GCOUNT"), NO_SIZE),
    **dict.fromkeys(("WCSAXES", "WCSAXESA", "A_ORDER", "BP_ORDER"), ("100", "3000000000", "3E4")),
}
PACKED = {  # what the C code of astropy would believe
    "ZVAL1": ("0", "-5", "2.5", "'2'", "", "3000000000"),  # BLOCKSIZE
    "ZVAL2": ("0", "-4", "3", "16", "1000000", "2.5", "'4'", ""),  # BYTEPIX
    "ZDITHER0": ("-5", "10001", "3000000000", "2.5", "'2'"),
}
STRANGE = {  # allowed, or looked at by astropy alone: named by one reason or another, or used
    **dict.fromkeys(("NAXIS", "ZNAXIS", "TFIELDS"), ("0", "999")),
    **dict.fromkeys(("NAXIS1", "NAXIS2", "ZNAXIS1", "PCOUNT", "GCOUNT"), ("0", "3000000000")),
    **dict.fromkeys(
        ("ZTILE1", "ZTILE2", "BITPIX", "ZBITPIX"), ("-1", "0", "2.5", "'2'", "3000000000", str(10**18), "")
    ),
}


def write_spoilt(folder, good, table):
    """A file for each HDU, keyword and value; some gzipped."""
    names = []
    for name, content in good.items():
        for hdu in range(3):
            for keyword, values in table.items():
                for k, value in enumerate(values):
                    if (spoilt := with_value(content, hdu, keyword, value)) is None:
                        continue
                    zipped = k % 3 == 2
                    names.append(f"{name}-{hdu}-{keyword}-{k}.fits" + (".gz" if zipped else ""))
                    (folder / names[-1]).write_bytes(gzip.compress(spoilt, 1) if zipped else spoilt)
    return names


def test_impossible_header_sizes_are_reported_as_corrupt(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good = good_files(tmp_path / "good")
    names = write_spoilt(tmp_path / "bad", good, IMPOSSIBLE | PACKED)
    keywords = {name.split("-")[2] for name in names}
    assert keywords == {*IMPOSSIBLE, *PACKED} and {name.split("-")[0] for name in names} == good.keys()
    for name, content in good.items():
        (tmp_path / "bad" / f"{name}.fits").write_bytes(content)
    said = answers(tmp_path / "bad")
    assert {name: said.pop(f"{name}.fits") for name in good} == {
        name: ["used"] * (1 if name == "catalogue" else 3) for name in good
    }
    assert len(said) == len(names) > 150
    assert {name: of for name, of in said.items() if set(of) != {"corrupt"}} == {}


@pytest.mark.slow
def test_files_with_strange_header_cards_are_named_or_used(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    names = write_spoilt(tmp_path / "bad", good_files(tmp_path / "good"), STRANGE)
    said = answers(tmp_path / "bad")
    assert said.keys() == set(names) and all(said.values())


def test_unusual_card_forms_and_endless_headers_are_corrupt(tmp_path):
    """Forms that astropy understands or has another parser for; HDUs after which it begins again, where gzipped."""
    (tmp_path / "bad").mkdir()
    every = good_files(tmp_path)
    good = every["first"]
    cards = [good[at : at + 80] for at in range(0, 2880, 80)]
    assert cards[0].startswith(b"SIMPLE") and cards[2].startswith(b"NAXIS ") and cards[5].startswith(b"WCSAXES ")

    def with_card(number, card):
        return b"".join(cards[:number]) + card.ljust(80) + good[80 * number + 80 :]

    forms = {
        "lower": b"naxis   =           3000000000",
        "no_space": b"NAXIS   =3000000000",
        "plus": b"NAXIS   =          +3000000000",
        "hierarch": b"HIERARCH NAXIS = 3000000000",
        "zeros": b"NAXIS   = 0000000003000000000",
        "early": b"NAXIS = 3000000000 / axes",
    }
    files = {name: with_card(2, form) for name, form in forms.items()}
    files |= {f"again_{name}": with_card(5, form) for name, form in forms.items()}
    files["not_ascii"] = with_card(2, b"NAXIS   =           3000000000 / \xe9")
    files["no_end"] = good[:80] + b" " * (2880 * 1100 - 80)
    files["no_end_zeros"] = good[:80] + bytes(2880 * 1100 - 80)
    for name, content in files.items():
        (tmp_path / "bad" / f"{name}.fits").write_bytes(content)
        (tmp_path / "bad" / f"{name}.fits.gz").write_bytes(gzip.compress(content, 1))
    for name, content in every.items():
        for value in ("F", "NaN", "'T"):
            spoilt = f"SIMPLE  = {value:>20}".ljust(80).encode() + content[80:]
            (tmp_path / "bad" / f"{name}_{value}.fits.gz").write_bytes(gzip.compress(spoilt, 1))
        if (at := content.find(b"XTENSION")) > 0:
            spoilt = content[:at] + b"XTENSION= 'IMAGE".ljust(80) + content[at + 80 :]
            (tmp_path / "bad" / f"{name}_extension.fits.gz").write_bytes(gzip.compress(spoilt, 1))
    for name, trailing in (("zeros", bytes(2880 * 1100)), ("blanks.gz", b" " * (2880 * 1100))):
        content = good + trailing
        (tmp_path / "bad" / f"good_{name}").write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    said = answers(tmp_path / "bad")
    assert said.pop("good_zeros") == said.pop("good_blanks.gz") == ["used"] * 3  # bytes after the last HDU
    assert len(said) == 2 * len(files) + 4 * 3 + 3
    assert {name: of for name, of in said.items() if set(of) != {"corrupt"}} == {}


@pytest.mark.parametrize(
    "card",
    [
        "NAXIS   =                  999",
        "NAXIS1  =      999999999999999 / rows",
        "TFIELDS =                    0",
        "WCSAXES =                  2.0",
        "A_ORDER =                    9",
        "COMMENT NAXIS = 3000000000",
        "HISTORY TFIELDS = -1",
        "MYNAXIS = 'NAXIS = 3000000000'",
        "OBSERVER= 'NAXIS = 3000000000'",
        "HIERARCH ESO DET NAXIS COUNT = 3000000000",
        "NAXISTXT=           3000000000",
    ],
)
def test_possible_header_cards_pass(card):
    check_block(card.ljust(80).encode() * 36)


@pytest.mark.parametrize("keyword, values", IMPOSSIBLE.items())
def test_header_error_names_the_card_and_the_allowed_range(keyword, values):
    for value in values:
        for comment in ("", " / \xe9"):
            card = f"{keyword:8}= {value:>20}{comment}".ljust(80).encode("latin-1")
            with pytest.raises(HeaderError, match=rf"^{keyword} = {value}, not 0 to \d+$"):
                check_block(b" " * 800 + card + b" " * 2000)
            check_block(b" " * 800 + card[:30])  # cut off: not known what it says


def test_gzipped_image_rows_of_block_size_are_not_taken_for_headers(tmp_path):
    """A gzipped image whose rows have the size of a block, read row by row."""
    data = np.tile(np.arange(720, dtype="f4"), (1200, 1))
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits.gz")
    with open_checked(tmp_path / "a.fits.gz") as file, fits.open(file, memmap=False) as hdus:
        for row in range(len(data)):
            np.testing.assert_array_equal(hdus[0].section[row], data[row])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_files_with_random_header_values_are_named_or_used(tmp_path, seed):
    rng = np.random.default_rng(seed)
    (tmp_path / "bad").mkdir()
    good = good_files(tmp_path)
    values = sorted({value for table in (IMPOSSIBLE, PACKED, STRANGE) for some in table.values() for value in some})
    values += [
        "'3000000000D'",
        "'1PE(3000000000)'",
        "'(30000,30000)'",
        "'lookup'",
        "'RA---TAB'",
        "NaN",
        "1E308",
        "(1,2)",
    ]
    for number in range(500):
        name = sorted(good)[rng.integers(len(good))]
        content = good[name]
        begin = [at for at in range(0, len(content), 2880) if content[at : at + 8] in (b"SIMPLE  ", b"XTENSION")]
        for _ in range(rng.integers(1, 4)):
            start = begin[rng.integers(len(begin))]
            cards = (content.index(b"END" + b" " * 77, start) - start) // 80 if b"END" in content[start:] else 1
            at = start + 80 * int(rng.integers(cards))
            value = values[rng.integers(len(values))]
            content = content[: at + 8] + f"= {value:>20}".ljust(72).encode() + content[at + 80 :]
        (tmp_path / "bad" / f"{name}-{number}.fits").write_bytes(content)
    said = answers(tmp_path / "bad")
    assert len(said) == 500 and all(len(of) == (1 if "catalogue" in name else 3) for name, of in said.items())


@pytest.mark.filterwarnings("ignore:.*more axes")
def test_a_wcs_has_its_lookup_tables_whatever_else_is_in_a_long_header():
    made = WCS(cases.sky((300, 300)))
    table = np.outer(np.linspace(0, 3, 10), np.ones(10)).astype("f4")
    for name in ("cpdis1", "cpdis2", "det2im1", "det2im2"):
        setattr(made, name, DistortionLookupTable(table, (1, 1), (1, 1), (30, 30)))
    hdus = made.to_fits(relax=True)  # without pixels, of which astropy warns
    for k in range(300):
        hdus[0].header[f"INP_{k:04d}"] = "file"
        hdus[0].header[f"HIERARCH FPA.TEMP.M{k}"] = 1.5
    found = headers.celestial(hdus[0].header, hdus)
    assert found.cpdis1 is not None and found.det2im2 is not None
    at = np.array([[10.0, 20.0], [250.0, 130.0]])
    np.testing.assert_array_equal(found.all_pix2world(at, 0), made.all_pix2world(at, 0))
    assert np.abs(found.all_pix2world(at, 0) - found.wcs_pix2world(at, 0)).max() > 1e-5
