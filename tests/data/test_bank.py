"""The bank: the same bytes whoever builds it, whole or not there, and the thesis' folder read as what it was."""

import shutil
import time
from itertools import pairwise

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensdet import parameters, profiles
from lensdet.chapters.candidates import demonstration, domain_shift
from lensdet.data import bank, lensing, simulation, stamps

FOLDER = {cls: name for name, cls in stamps.FOLDERS.items()}
COUNTS = {"train": 6, "validation": 3, "test": 3}


def datasets(path):
    """Bytes of every dataset of a bank, by name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[:].tobytes()} if hasattr(item, "shape") else {}))
    return found


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


@pytest.fixture
def few(build):
    """Parameters of a survey of a dozen stamps, built where the test is."""
    return parameters.resolve({"profile": "smoke", "n_lrg": 8, "n_source": 8, "n_contaminant": 8, "workers": 1})


# ---- the embedded survey


def test_any_number_of_workers_builds_a_bank_of_the_same_bytes(smoke, smoke_bank, build, monkeypatch):
    monkeypatch.setattr(bank, "BATCH", 16)  # several batches in a split, so that two workers have work
    other = bank.open_bank(smoke.model_copy(update={"workers": 2}))
    assert other.path != smoke_bank.path and other.data_key == smoke_bank.data_key
    found, expected = datasets(other.path), datasets(smoke_bank.path)
    assert len(found) == 2 * len(bank.CLASSES) * len(bank.SPLITS) and found == expected


def test_a_built_bank_opens_again_without_a_new_simulation(smoke, smoke_bank, monkeypatch):
    monkeypatch.setattr(bank, "_simulate", None)  # would fail
    before, began = smoke_bank.path.stat(), time.perf_counter()
    assert bank.open_bank(smoke) == smoke_bank
    assert time.perf_counter() - began < 1
    assert smoke_bank.path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_partial_bank_has_the_pixels_of_the_whole_bank(smoke, smoke_bank, build, monkeypatch):
    places = {"lrg": [0, 2], "contaminant": [1], "source": [5, 3]}
    assert bank.is_built(smoke) is False
    some = bank.open_bank(smoke, ("test", places))
    assert some.path.name != "bank.h5" and some.data_key == smoke_bank.data_key
    assert len(datasets(some.path)) == 2 * len(bank.CLASSES)
    for cls, chosen in places.items():
        assert np.array_equal(some.pixels(cls, "test"), smoke_bank.pixels(cls, "test")[chosen])
        pd.testing.assert_frame_equal(
            some.catalogue(cls, "test"), smoke_bank.catalogue(cls, "test").iloc[chosen].reset_index(drop=True)
        )
    monkeypatch.setattr(bank, "_simulate", None)  # would fail
    assert bank.open_bank(smoke, ("test", places)) == some and not bank.is_built(smoke)
    with pytest.raises(TypeError):  # others are not there yet
        bank.open_bank(smoke, ("test", {**places, "source": [5, 4]}))


def test_only_survey_parameters_change_the_bank(smoke, smoke_bank):
    assert bank.open_bank(smoke.model_copy(update={"seed": 5, "width": 16, "runs": 1})) == smoke_bank
    keys = {smoke.model_copy(update={k: v}).survey_key() for k, v in (("hardness", 0.7), ("data_seed", 3), ("runs", 9))}
    assert len(keys) == 3 and smoke_bank.data_key in keys


def test_interrupted_build_leaves_no_bank(few, build, monkeypatch):
    simulate, done = bank._simulate, []

    def interrupted(cls, ids, p):
        done.append(cls)
        if cls == "source":
            raise KeyboardInterrupt
        return simulate(cls, ids, p)

    with monkeypatch.context() as patch:
        patch.setattr(bank, "_simulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bank.open_bank(few)
    assert done[0] == "lrg" and done[-1] == "source"  # in the middle
    assert not [f for f in build.rglob("*") if f.is_file() and f.suffix != ".lock"]
    assert bank.open_bank(few).count("contaminant", "test") == 1


def test_bank_pixels_are_simulated_pixels_rounded_to_16_bits(smoke, smoke_bank):
    """To the nearest, by NumPy: HDF5's own conversion halves a value that is rounded up to a power of two."""
    for cls in bank.CLASSES:
        pixels, ids = smoke_bank.pixels(cls, "train"), smoke_bank.catalogue(cls, "train")["id"]
        assert pixels.dtype == np.float16 and pixels.shape == (48, *stamps.SHAPE)
        make = lensing.render_source if cls == "source" else lambda i, p, c=cls: simulation.render(c, i, p)
        for i in range(0, 48, 4):
            expected = stamps.normalise(make(int(ids[i]), smoke)[0])
            assert np.abs(pixels[i] - expected).max() <= 2.0**-12
            np.testing.assert_array_equal(pixels[i], expected.astype(np.float16))
            assert pixels[i].min() == 0 and pixels[i].max() == 1


@settings(deadline=None)
@given(st.floats(0, 1, width=32))
def test_16_bit_rounding_is_far_below_the_sky_noise(value):
    """By at most 2.4e-4 anywhere, and in the sky (below 0.1) by a hundredth of its sigma."""
    error = abs(float(np.float16(value)) - value)
    assert error <= 2.0**-12 < 2.45e-4
    assert value > 0.1 or error < 1e-2 * 0.0066  # the smallest sigma known of a real stamp


def test_every_object_is_in_one_split(smoke_bank):
    for cls in bank.CLASSES:
        ids = np.concatenate([smoke_bank.catalogue(cls, split)["id"] for split in bank.SPLITS])
        assert len(set(ids)) == len(ids) == 48 + 3 * 6


@pytest.mark.parametrize("train, eighth", [(4411, 551), (80_000, 10_000), (4867, 608), (1, 1)])
def test_split_sizes_are_those_of_the_thesis(train, eighth):
    """Those of the thesis (section 4.2); calibration is as large as validation."""
    assert bank.split_sizes(train) == {"train": train, "validation": eighth, "calibration": eighth, "test": eighth}


def test_bank_catalogue_has_the_truth_of_each_object(smoke, smoke_bank):
    for cls in bank.CLASSES:
        table = smoke_bank.catalogue(cls, "train")
        assert len(table) == smoke_bank.count(cls, "train") == 48
        make = lensing.render_source if cls == "source" else lambda i, p, c=cls: simulation.render(c, i, p)
        for i in (0, 47):
            pixels, truth = make(int(table["id"][i]), smoke)
            row = table.iloc[i].to_dict()
            assert {name: row[name] for name in truth} == truth
            assert row["minimum"] == pixels.min() and row["maximum"] == pixels.max()
            assert row["noise"] == pytest.approx(1.4826 * np.median(np.abs(pixels - np.median(pixels))), rel=1e-4)
    assert set(smoke_bank.catalogue("contaminant", "train")["kind"]) <= set(simulation.KINDS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_file_names_of_any_language_survive_in_the_catalogue(names):
    records = bank.records(pd.DataFrame({"id": range(len(names)), "file": names}))
    assert [name.decode("utf-8") for name in records["file"]] == names


REAL_GALAXIES = 1_000_000  # far more than there are


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_test_sets_outside_the_bank_share_no_ids(profile):
    """But for the first of the large test set and those of `domain_shift`, in whatever class."""
    p = parameters.resolve({"profile": profile})
    counts = {
        0: max(sum(bank.split_sizes(n).values()) for n in (p.n_lrg, p.n_source, p.n_contaminant)),
        bank.FIRST_INDEPENDENT: max(p.independent_negatives, p.independent_lenses),
        bank.FIRST_INDEPENDENT_HOST: p.independent_lenses,
        bank.FIRST_LARGE: p.large_size,
        bank.FIRST_SHOWN: sum(demonstration.SIZES.get(profile, demonstration.SIZE)),
    }
    sets = [range(first, first + n) for first, n in counts.items()]
    shifted = range(bank.FIRST_SHIFTED, bank.FIRST_SHIFTED + domain_shift.EACH * REAL_GALAXIES)
    sets.sort(key=lambda ids: ids.start)
    assert len(sets) == 5 and all(a.stop <= b.start for a, b in pairwise(sets))
    common = [ids.start for ids in sets if max(ids.start, shifted.start) < min(ids.stop, shifted.stop)]
    assert common == ([bank.FIRST_LARGE] if p.large_size else [])


# ---- a folder in the thesis' layout


def write_folder(folder, p):
    """Simulated stamps as FITS files in the thesis' layout; returns pixels and truth by (class, split)."""
    written, first = {}, 0
    for split, n in COUNTS.items():
        for cls in bank.CLASSES:
            make = lensing.render_source if cls == "source" else lambda i, p, c=cls: simulation.render(c, i, p)
            written[cls, split] = [make(i, p) for i in range(first, first + n)]
            for i, (pixels, truth) in enumerate(written[cls, split]):
                name = f"{i}/{i}.fits" if cls == "source" else f"KiDS_{i}_r_x.fits"
                keywords = {k: truth[k] for k in stamps.KEYWORDS.values()} if cls == "source" else None
                stamps.write_stamp(folder / split / FOLDER[cls] / name, pixels, keywords)
        first += n
    return written


@pytest.fixture(scope="module")
def original(tmp_path_factory, smoke):
    folder = tmp_path_factory.mktemp("thesis")
    return folder, write_folder(folder, smoke)


@pytest.fixture
def folder(original, tmp_path):
    """A copy of the folder, to spoil; times are kept."""
    return shutil.copytree(original[0], tmp_path / "data")


def of(p, folder, **options):
    return parameters.resolve({"profile": "smoke", "workers": 1, "data": str(folder), **options})


def test_a_folder_of_fits_stamps_gives_a_bank_of_the_same_pixels(original, smoke, build, capsys):
    opened = bank.open_bank(of(smoke, original[0]))
    for (cls, split), drawn in original[1].items():
        expected = np.stack([stamps.normalise(pixels) for pixels, _ in drawn]).astype(np.float16)
        np.testing.assert_array_equal(opened.pixels(cls, split), expected)
        table = opened.catalogue(cls, split)
        assert list(table["id"]) == list(range(COUNTS[split]))
        assert table["file"][0] == ("0.fits" if cls == "source" else "KiDS_0_r_x.fits")
        np.testing.assert_array_equal(table["maximum"], [pixels.max() for pixels, _ in drawn])
        if cls == "source":
            for column in stamps.KEYWORDS.values():
                np.testing.assert_allclose(table[column], [truth[column] for _, truth in drawn], rtol=1e-12)
    # no folder for calibration: its stamps are those of validation
    np.testing.assert_array_equal(opened.pixels("lrg", "calibration"), opened.pixels("lrg", "validation"))
    assert pd.read_csv(opened.path.with_name("rejected.csv")).empty and "cannot be used" not in capsys.readouterr().out


def test_a_folder_read_once_is_opened_from_its_bank(original, smoke, build, monkeypatch):
    first = bank.open_bank(of(smoke, original[0]))
    monkeypatch.setattr(stamps, "read_stamps", None)
    assert bank.open_bank(of(smoke, original[0])) == first
    assert bank.data_key(of(smoke, original[0])) == first.data_key


def test_a_bad_fits_file_is_left_out_named_and_counted(folder, smoke, build, capsys):
    bad = folder / "train" / "lenses" / "KiDS_2_r_x.fits"
    bad.write_bytes(bad.read_bytes()[:-3000])
    with pytest.raises(stamps.StampError, match="truncated") as raised:
        bank.open_bank(of(smoke, folder, on_bad="raise"))
    assert raised.value.file == str(bad)
    opened = bank.open_bank(of(smoke, folder))  # what was raised at left no bank
    assert opened.count("lrg", "train") == COUNTS["train"] - 1 == len(opened.catalogue("lrg", "train"))
    assert "KiDS_2_r_x.fits" not in set(opened.catalogue("lrg", "train")["file"])
    rejected = pd.read_csv(opened.path.with_name("rejected.csv"))
    assert list(rejected["file"]) == [str(bad)] and list(rejected["reason"]) == ["truncated"]
    assert f"1 of {3 * sum(COUNTS.values())} files cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["remove", "empty"])
def test_a_class_without_usable_stamps_is_an_error(folder, smoke, build, spoil):
    for file in (folder / "test" / "negatives").iterdir():
        file.unlink() if spoil == "remove" else file.write_bytes(b"")
    with pytest.raises(stamps.StampError, match="empty class") as raised:
        bank.open_bank(of(smoke, folder))
    assert "negatives" in str(raised.value)
    assert not list(build.rglob("*.h5"))


def test_data_key_depends_on_pixels_and_not_on_path_or_time(original, folder, smoke, build):
    key = bank.data_key(of(smoke, original[0]))
    assert bank.data_key(of(smoke, folder)) == key  # a copy
    moved = folder.rename(folder.with_name("moved"))
    assert bank.data_key(of(smoke, moved)) == key
    (moved / "train" / "lenses" / "KiDS_0_r_x.fits").touch()
    assert bank.data_key(of(smoke, moved)) == key  # another time, the same pixels
    assert bank.data_key(of(smoke, moved, data_seed=1)) != key  # other frozen sets
    pixels = original[1]["lrg", "train"][0][0].copy()
    pixels[50, 50] *= 1.1
    stamps.write_stamp(moved / "train" / "lenses" / "KiDS_0_r_x.fits", pixels)
    assert bank.data_key(of(smoke, moved)) != key


def test_a_stamp_moved_to_another_class_changes_the_data_key(original, folder, smoke, build):
    """The last negative of the test split becomes its first lens: the same pixels in the same order, other labels."""
    key = bank.data_key(of(smoke, folder))
    last = folder / "test" / "negatives" / "KiDS_2_r_x.fits"
    last.rename(folder / "test" / "lenses" / "A_r_.fits")
    moved = bank.open_bank(of(smoke, folder))
    assert moved.catalogue("lrg", "test")["file"][0] == "A_r_.fits" and moved.count("lrg", "test") == 4
    assert moved.data_key != key
