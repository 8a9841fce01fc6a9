"""FITS stamps: astropy's own writer is the oracle of the reading; Eq. 4.1 by its properties."""

import csv
import gzip
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lensdet.data import stamps
from lensdet.data.stamps import (
    KEYWORDS,
    Rejection,
    StampError,
    find_stamps,
    normalise,
    read_stamp,
    read_stamps,
    write_rejections,
    write_stamp,
)

pytestmark = pytest.mark.filterwarnings("error")

REAL = Path(os.environ.get("LENSDET_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
BITPIX = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(100, 20, (101, 101)).astype("f4")


def save(path, data, header=None, **keywords):
    hdu = fits.PrimaryHDU(data, header)
    hdu.header.update(keywords)
    hdu.writeto(path, overwrite=True)
    return path


# ---- reading


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".FIT"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bitpix", BITPIX)
def test_stamps_of_any_number_type_and_byte_order_are_read(tmp_path, image, bitpix, order, suffix):
    data = image.astype(np.dtype(BITPIX[bitpix]).newbyteorder(order))
    path = save(tmp_path / f"a{suffix}", data)
    assert fits.getheader(path)["BITPIX"] == bitpix
    pixels, header = read_stamp(path)
    assert pixels.dtype == np.float32 and pixels.dtype.isnative and pixels.flags.c_contiguous
    assert header["BITPIX"] == bitpix
    np.testing.assert_array_equal(pixels, data.astype("f4"))


@pytest.mark.parametrize("bitpix", [8, 16, 32])
def test_scaled_integer_stamps_are_read(tmp_path, image, bitpix):
    raw = image.astype(BITPIX[bitpix])
    path = save(tmp_path / "a.fits", raw, BSCALE=0.25, BZERO=-7.5)
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        assert hdus[0].data.dtype.kind in "iu" and hdus[0].header["BSCALE"] == 0.25
    np.testing.assert_array_equal(read_stamp(path)[0], raw * 0.25 - 7.5)


@pytest.mark.parametrize("kind", ["u2", "u4", "i1"])
def test_unsigned_integer_stamps_with_bzero_are_read(tmp_path, image, kind):
    data = image.astype("i2").clip(0, 127).astype(kind)
    assert "BZERO" in fits.getheader(save(tmp_path / "a.fits", data))
    np.testing.assert_array_equal(read_stamp(tmp_path / "a.fits")[0], data.astype("f4"))


@pytest.mark.parametrize(
    "kind, compression", [("i2", "RICE_1"), ("i4", "GZIP_1"), ("f4", "GZIP_2"), ("f8", "GZIP_1"), ("i2", "HCOMPRESS_1")]
)
def test_tile_compressed_stamps_are_read(tmp_path, image, kind, compression):
    data = image.astype(kind)
    lossless = {"quantize_level": 0} if kind[0] == "f" else {}
    fits.CompImageHDU(data, compression_type=compression, **lossless).writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(read_stamp(tmp_path / "a.fits.fz")[0], data.astype("f4"))


def test_a_stamp_in_an_extension_after_a_table_is_read(tmp_path, image):
    primary = fits.PrimaryHDU(header=fits.Header({"LENSER": 2.5, "OBJECT": "primary"}))
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    second = fits.ImageHDU(image, fits.Header({"OBJECT": "image"}))
    fits.HDUList([primary, table, second, fits.ImageHDU(image[:7])]).writeto(tmp_path / "a.fits")
    pixels, header = read_stamp(tmp_path / "a.fits")
    np.testing.assert_array_equal(pixels, image)
    assert (header["OBJECT"], header["LENSER"]) == ("image", 2.5)


@pytest.mark.parametrize("shape", [(101, 101, 1), (1, 101, 101)])
def test_axes_of_length_one_are_dropped(tmp_path, image, shape):
    path = save(tmp_path / "a.fits", image.reshape(shape))
    np.testing.assert_array_equal(read_stamp(path)[0], image)


def test_a_stamp_of_another_requested_shape_is_read(tmp_path, image):
    path = save(tmp_path / "a.fits", image[:25, :30])
    np.testing.assert_array_equal(read_stamp(path, (25, 30))[0], image[:25, :30])


def test_harmless_header_oddities_give_no_warning(tmp_path, image):
    path = save(tmp_path / "a.fits", image)
    raw = path.read_bytes()
    raw = raw.replace(b"EXTEND  =                    T", b"lower   = 'bad card       '   ", 1) + b"junk" * 50
    path.write_bytes(raw)
    assert b"lower" in raw
    np.testing.assert_array_equal(read_stamp(path)[0], image)


# ---- refusing


def spoilt(folder, image):
    """Ways to spoil a stamp: name of the file, and the reason that it is to be refused for."""
    plain = save(folder / "good.fits", image).read_bytes()
    zipped = gzip.compress(plain)
    fits.CompImageHDU(image, compression_type="GZIP_2", quantize_level=0).writeto(folder / "good.fits.fz")
    tiles = (folder / "good.fits.fz").read_bytes()
    extension = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)])
    extension.writeto(folder / "good_extension.fits")
    in_extension = (folder / "good_extension.fits").read_bytes()
    holed, infinite = image.copy(), image.copy()
    holed[3, 4], infinite[50, 50] = np.nan, -np.inf
    blank = image.astype("i2")
    blank[0, 0] = -99
    contents = {
        "header_cut_in_a_card.fits": (plain[:1000], "truncated"),
        "header_cut_after_80_bytes.fits": (plain[:80], "truncated"),
        "header_only.fits": (plain[:2880], "truncated"),
        "data_cut_in_half.fits": (plain[:20000], "truncated"),
        "data_lacks_a_pixel.fits": (plain[: 2880 + 4 * 101 * 101 - 4], "truncated"),
        "padding_cut.fits": (plain[:-1], "truncated"),
        "extension_header_cut.fits": (in_extension[: 2880 + 500], "truncated"),
        "extension_data_cut.fits": (in_extension[:-9000], "truncated"),
        "gzip_cut.fits.gz": (zipped[: len(zipped) // 2], "truncated"),
        "gzip_cut_in_header.fits.gz": (zipped[:60], "truncated"),
        "gzip_lacks_crc.fits.gz": (zipped[:-6], "truncated"),
        "gzip_of_cut_data.fits.gz": (gzip.compress(plain[:30000]), "truncated"),
        "gzip_spoilt.fits.gz": (zipped[:9000] + b"\0" * 400 + zipped[9400:], "corrupt"),
        "tiles_cut.fits.fz": (tiles[: len(tiles) - 6000], "truncated"),
        "tiles_without_heap.fits.fz": (tiles[:9000], "truncated"),
        "tiles_spoilt.fits.fz": (tiles[:15000] + b"\xff" * 4000 + tiles[19000:], "corrupt"),
        "empty.fits": (b"", "empty"),
        "empty.fits.gz": (gzip.compress(b""), "empty"),
        "text.fits": (b"<html>404 not found</html>", "not FITS"),
        "zeros.fits": (bytes(9000), "not FITS"),
        "bad_naxis.fits": (
            plain.replace(b"NAXIS1  =                  101", b"NAXIS1  =                 -101"),
            "corrupt",
        ),
        "bad_card.fits": (
            plain.replace(b"EXTEND  =                    T", b"LENSER  = 1.2.3 'x            "),
            "keyword",
        ),
        "bad_bitpix.fits": (
            plain.replace(b"BITPIX  =                  -32", b"BITPIX  =                  -31"),
            "corrupt",
        ),
    }
    for name, (content, _) in contents.items():
        assert content != plain  # that what was to be replaced was there
        (folder / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in contents.items()}
    hdus = {
        "no_image.fits": (fits.HDUList([fits.PrimaryHDU()]), "no image"),
        "small.fits": (fits.PrimaryHDU(image[:100]), "shape"),
        "transposed_cube.fits": (fits.PrimaryHDU(np.stack([image, image])), "shape"),
        "line.fits": (fits.PrimaryHDU(image.ravel()), "shape"),
        "nan.fits": (fits.PrimaryHDU(holed), "non-finite"),
        "infinite.fits": (fits.PrimaryHDU(infinite), "non-finite"),
        "overflow.fits": (fits.PrimaryHDU(1e300 * image.astype("f8")), "non-finite"),
        "blank.fits": (fits.PrimaryHDU(blank, fits.Header({"BLANK": -99})), "non-finite"),
        "constant.fits": (fits.PrimaryHDU(np.full_like(image, 7)), "constant"),
        "constant_in_float32.fits": (fits.PrimaryHDU(1 + 1e-12 * image.astype("f8")), "constant"),
        "keyword.fits": (fits.PrimaryHDU(image, fits.Header({"LENSER": "large"})), "keyword"),
        "keyword_complex.fits": (fits.PrimaryHDU(image, fits.Header({"SRCX": 1 + 2j})), "keyword"),
    }
    for name, (hdu, reason) in hdus.items():
        hdu.writeto(folder / name)
        reasons[name] = reason
    unsigned = image.astype("i2")
    unsigned[5, 5] = -99
    save(folder / "blank_unsigned.fits", unsigned, BZERO=32768, BSCALE=1, BLANK=-99)
    (folder / "folder.fits").mkdir()
    return reasons | {"blank_unsigned.fits": "non-finite", "folder.fits": "unreadable", "missing.fits": "unreadable"}


def test_every_spoilt_file_is_named_in_rejected_csv(tmp_path, image, capsys):
    reasons = spoilt(tmp_path, image)
    good = ["good.fits", "good.fits.fz", "good_extension.fits"]
    names = [*good[:2], *reasons, good[2]]
    result = read_stamps([tmp_path / n for n in names], rejected=tmp_path / "out" / "rejected.csv")
    assert [p.name for p in result.paths] == good
    np.testing.assert_array_equal(result.pixels, [image] * 3)
    with open(tmp_path / "out" / "rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(r["file"]).name for r in rows] == list(reasons)
    assert {Path(r["file"]).name: r["reason"] for r in rows} == reasons
    assert all(r["detail"] for r in rows)
    assert [Rejection(**r) for r in rows] == result.rejections
    assert os.listdir(tmp_path / "out") == ["rejected.csv"]
    error = capsys.readouterr().err
    assert f"{len(reasons)} of {len(names)} files left out: 14 truncated" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["good.fits", "good.fits.fz"])
def test_a_stamp_truncated_anywhere_is_refused(tmp_path, image, name):
    spoilt(tmp_path, image)
    raw = (tmp_path / name).read_bytes()
    cut = tmp_path / name.replace("good", "cut")
    for length in np.linspace(1, len(raw) - 1, 40).astype(int):
        cut.write_bytes(raw[:length])
        with pytest.raises(StampError, match="cut"):
            read_stamp(cut)


def test_a_whole_tile_is_refused_without_reading_its_pixels(tmp_path):
    path = tmp_path / "tile.fits"
    header = fits.PrimaryHDU(np.zeros((2, 2), "f4")).header
    header["NAXIS1"] = header["NAXIS2"] = 20000
    header.tofile(path)
    with open(path, "r+b") as file:
        file.truncate(2880 + 1_600_001_280)  # sparse
    tracemalloc.start()
    with pytest.raises(StampError, match=r"shape .*20000"):
        read_stamp(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path, image):
    path = save(tmp_path / "a.fits", image)
    path.chmod(0)
    with pytest.raises(StampError, match=r"unreadable .*PermissionError"):
        read_stamp(path)


def test_stamp_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(StampError(Path("a.fits"), "shape", "(3, 3)")))
    assert (str(error), error.reason) == ("a.fits: shape ((3, 3))", "shape")


# ---- many


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """300 stamps, every 50th spoilt; the value of the corner tells which it is."""
    folder = tmp_path_factory.mktemp("many")
    base = np.random.default_rng(2).random((101, 101))
    paths = []
    for i in reversed(range(300)):
        base[0, 0] = i
        write_stamp(folder / f"{i}.fits", base if i % 50 else np.zeros((101, 101)), {"einstein_radius": i})
        paths.append(folder / f"{i}.fits")
    return paths


def test_stamps_keep_the_order_of_paths_for_any_number_of_workers(many):
    one, two = (read_stamps(many, workers=n) for n in (1, 2))
    expected = [i for i in reversed(range(300)) if i % 50]
    for result in (one, two):
        assert [int(p.stem) for p in result.paths] == expected
        np.testing.assert_array_equal(result.pixels[:, 0, 0], expected)
        np.testing.assert_array_equal(result.catalogue["einstein_radius"], expected)
        assert [Path(r.file).stem for r in result.rejections] == ["250", "200", "150", "100", "50", "0"]
    np.testing.assert_array_equal(one.pixels, two.pixels)


@pytest.mark.parametrize("workers", [1, 2])
def test_on_bad_raise_stops_at_the_first_bad_file(many, tmp_path, workers):
    with pytest.raises(StampError, match=r"250\.fits: constant"):
        read_stamps(many, on_bad="raise", workers=workers, rejected=tmp_path / "rejected.csv")
    assert not (tmp_path / "rejected.csv").exists()


def test_progress_is_shown_only_for_many_files_with_a_description(many, capsys):
    read_stamps(many, workers=1, description="lenses")
    assert "lenses: 100%" in capsys.readouterr().err
    read_stamps(many[:199], workers=1)
    read_stamps(many, workers=1, description=None)
    assert "%" not in capsys.readouterr().err


def test_a_read_without_usable_stamps_is_empty_but_reported(many, tmp_path, capsys):
    result = read_stamps([p for p in many if p.stem == "50"], rejected=tmp_path / "rejected.csv")
    assert result.pixels.shape == (0, 101, 101) and len(result.catalogue) == len(result.paths) == 0
    assert "50.fits,constant" in (tmp_path / "rejected.csv").read_text()
    assert "1 of 1 files left out: 1 constant; see" in capsys.readouterr().err
    assert len(read_stamps([]).pixels) == 0
    with pytest.raises(ValueError, match="on_bad"):
        read_stamps(many, on_bad="ignore")


def test_rejected_csv_can_be_empty_and_takes_any_file_name(tmp_path):
    write_rejections(tmp_path / "rejected.csv", [])
    assert (tmp_path / "rejected.csv").read_text() == "file,reason,detail\n"
    odd = Rejection('a,"b\n\udcff.fits', "empty", "0 bytes")
    write_rejections(tmp_path / "rejected.csv", [odd])
    with open(tmp_path / "rejected.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file))[1] == list(odd)


def test_an_interrupted_write_leaves_the_old_stamp(tmp_path, image, monkeypatch):
    write_stamp(tmp_path / "a.fits", image)
    monkeypatch.setattr(stamps.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_stamp(tmp_path / "a.fits", image + 1)
    assert os.listdir(tmp_path) == ["a.fits"]
    np.testing.assert_array_equal(read_stamp(tmp_path / "a.fits")[0], image)


# ---- the folder layout

TRUTH = {column: 0.1 + i for i, column in enumerate(KEYWORDS.values())}


def layout(folder, splits=stamps.SPLITS):
    image = np.eye(101)
    for split in splits:
        for i in (1, 2, 10):
            write_stamp(folder / split / "lenses" / f"KIDS_{i}_r_x.fits", image)
            write_stamp(folder / split / "negatives" / f"{i}.FITS", image)
            write_stamp(folder / split / "sources" / f"{i}" / f"{i}.fits", i * image, TRUTH | {"shear": float("nan")})
    return folder


def test_folder_layout_of_the_thesis_is_found_in_natural_order(tmp_path):
    found = find_stamps(layout(tmp_path))
    assert list(found) == [(s, c) for s in stamps.SPLITS for c in ("lrg", "source", "contaminant")]
    assert [p.relative_to(tmp_path).as_posix() for p in found["test", "source"]] == [
        "test/sources/1/1.fits",
        "test/sources/2/2.fits",
        "test/sources/10/10.fits",
    ]
    result = read_stamps(found["train", "source"])
    np.testing.assert_array_equal(result.pixels[2], 10 * np.eye(101))
    for column, value in TRUTH.items():
        np.testing.assert_allclose(result.catalogue[column], np.nan if column == "shear" else value)
    lenses = read_stamps(found["train", "lrg"]).catalogue
    assert all(np.isnan(lenses[column]).all() for column in lenses.dtype.names)


def test_header_keywords_are_the_eleven_of_the_thesis(tmp_path):
    write_stamp(tmp_path / "a.fits", np.eye(101), TRUTH)
    header = fits.getheader(tmp_path / "a.fits")
    names = "LENSER LENSAR LENSAA LENSSH LENSSA SRCER SRCX SRCY SRCAR SRCAA SRCSI".split()
    assert list(KEYWORDS) == names
    np.testing.assert_allclose([header[n] for n in names], list(TRUTH.values()))


def test_a_calibration_folder_is_used_where_there_is_one(tmp_path):
    found = find_stamps(layout(tmp_path, (*stamps.SPLITS, "calibration")))
    assert len(found) == 12 and len(found["calibration", "lrg"]) == 3


def test_r_band_is_picked_and_the_others_are_counted(tmp_path, capsys):
    layout(tmp_path)
    write_stamp(tmp_path / "test" / "lenses" / "KIDS_1_g_x.fits", np.eye(101))
    (tmp_path / "test" / "lenses" / "._KIDS_1_r_x.fits").write_bytes(b"hidden")
    (tmp_path / "test" / "lenses" / "KIDS_1_r_x.txt").write_bytes(b"not one by name")
    assert [p.name for p in find_stamps(tmp_path)["test", "lrg"]] == [f"KIDS_{i}_r_x.fits" for i in (1, 2, 10)]
    assert "1 files without '_r_'" in capsys.readouterr().err


def test_all_fits_suffixes_are_found_down_to_one_subfolder(tmp_path):
    layout(tmp_path)
    folder = tmp_path / "train" / "negatives"
    names = ["3.fit", "4.fits.gz", "5.FITS.FZ", "6/x.fits", "7/y.Fit"]
    for name in names:
        write_stamp(folder / name, np.eye(101))
    for name in ("11.fits", "12/other.fits"):
        write_stamp(tmp_path / "train" / "sources" / name, np.eye(101))
    write_stamp(tmp_path / "train" / "sources" / "1" / "1_g.fits", np.eye(101))
    found = find_stamps(tmp_path)
    relative = [p.relative_to(folder).as_posix() for p in found["train", "contaminant"]]
    assert relative == ["1.FITS", "2.FITS", *names, "10.FITS"]
    assert [p.name for p in found["train", "source"]] == ["1.fits", "2.fits", "10.fits", "11.fits", "other.fits"]


@pytest.mark.parametrize("missing", [True, False])
def test_empty_class_is_an_error_that_names_the_folder(tmp_path, missing):
    layout(tmp_path)
    folder = tmp_path / "validation" / "negatives"
    for path in folder.iterdir():
        path.unlink()
    if missing:
        folder.rmdir()
    with pytest.raises(StampError, match=r"validation.negatives: empty class .*_r_") as error:
        find_stamps(tmp_path)
    assert error.value.file == str(folder)


# ---- Eq. 4.1


def test_normalisation_error_says_which_image(image):
    stack = np.stack([image] * 6).reshape(2, 3, 101, 101)
    stack[1, 2] = 5
    with pytest.raises(ValueError, match=r"image \(1, 2\) is constant \(5\)"):
        normalise(stack)
    for bad in (np.nan, np.inf, -np.inf):
        stack[1, 2], stack[0, 1, 0, 0] = image, bad
        with pytest.raises(ValueError, match=r"image \(0, 1\) has NaN or infinite"):
            normalise(stack)
    with pytest.raises(ValueError, match=r"image  ?is constant"):
        normalise(np.ones((101, 101)))


def test_each_image_of_a_stack_is_normalised_by_itself(image):
    stack = np.stack([image, 1e-11 * image, -(image**2)])
    result = normalise(stack)
    assert result.dtype == np.float32 and result.shape == stack.shape
    low, high = stack.min((1, 2), keepdims=True), stack.max((1, 2), keepdims=True)
    np.testing.assert_allclose(result, (stack - low) / (high - low), rtol=1e-5, atol=1e-6)
    assert normalise(stack[:0]).shape == (0, 101, 101)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (5, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_normalisation_spans_0_to_1_keeps_order_and_is_idempotent(values):
    if values.min() == values.max():
        with pytest.raises(ValueError, match="constant"):
            normalise(values)
        return
    result = normalise(values)
    assert result.min() == 0 and result.max() == 1
    order = np.argsort(values, axis=None)
    assert (np.diff(result.ravel()[order]) >= 0).all()
    np.testing.assert_array_equal(normalise(result), result)


# ---- real stamps


@pytest.mark.skipif(not (REAL / "cutouts").is_dir(), reason=f"no real stamps in {REAL}; see LENSDET_REAL_DATA")
def test_real_stamps_are_all_read_and_normalised():
    paths = sorted((REAL / "cutouts").rglob("*.fits"))
    result = read_stamps(paths, on_bad="raise", workers=1)
    assert len(result.pixels) == len(paths) >= 1
    scaled = normalise(result.pixels)
    np.testing.assert_array_equal(scaled.min((1, 2)), 0)
    np.testing.assert_array_equal(scaled.max((1, 2)), 1)
    for path, pixels in zip(paths, result.pixels, strict=True):
        np.testing.assert_array_equal(pixels, fits.getdata(path).astype("f4"))


@pytest.mark.skipif(not (REAL / "native").is_dir(), reason=f"no real images in {REAL}; see LENSDET_REAL_DATA")
def test_a_real_compressed_field_is_refused_as_a_stamp():
    with pytest.raises(StampError, match=r"kids_field_r.fits: shape .*2600"):
        read_stamp(REAL / "native" / "kids_field_r.fits")
    assert read_stamp(REAL / "native" / "kids_galaxy_r.fits")[1]["ZEROPNT"] == 0
