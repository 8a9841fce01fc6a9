"""A survey, ranked: nothing lost, nothing twice, the same after an interruption, and the exit status tells."""

import json
import os
import shutil
from urllib.parse import unquote

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from scipy.special import expit

from lensdet import cli, parameters, storage
from lensdet.data import simulation, stamps
from lensdet.data.stamps import Rejection
from lensdet.network import finders as network_finders
from lensdet.network import resnet
from lensdet.survey import candidate_list, catalogues, cutouts, ranking, reading, scoring
from tests.survey import spoilt_reader


@pytest.fixture(scope="module")
def finders():
    made = {"parameters": {"loss": "bce", "width": 8, "chunk_size": 64}, "chunks": 2, "run": "smoke/bce/run_01",
            "validation_loss": 0.5}  # fmt: skip
    found = {}
    for run, (name, temperature) in enumerate({"bce": 2.0, "fbeta": 0.5}.items()):
        model = resnet.resnet18(8)
        resnet.initialise(model, 7, run)
        told = network_finders.Finder(
            resnet.logit_model(model), network_finders.PREPROCESSING, temperature, made, f"{run}" * 64
        )
        found[name] = told
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke):
    """Twelve stamps and three that cannot be used."""
    made = tmp_path_factory.mktemp("survey")
    for i in range(12):
        stamps.write_stamp(made / f"field_{i % 2}" / f"{i}.fits", simulation.render("lrg", 600 + i, smoke)[0])
    (made / "torn.fits").write_bytes((made / "field_0" / "0.fits").read_bytes()[:9000])
    (made / "text.fits").write_text("no image\n" * 400)
    stamps.write_stamp(made / "flat.fits", np.ones((101, 101)))
    return made


def given(folder, output, **more):
    return parameters.resolve({"survey": folder, "pixel_scale": 0.2, "output": output, "workers": 1, **more})


def scored(job, finders, output, workers=1, **more):
    """Table and rejections of a plan; all is scored."""
    parts = scoring.score(job, finders, output, workers, progress=False, **more)
    table, rejections, missing = scoring.collect(job, parts, finders)
    assert not missing
    return table, rejections


def test_scores_equal_those_of_each_stamp_alone(folder, finders, tmp_path):
    p = given(folder, tmp_path)
    job = ranking.plan(p, finders)
    table, rejections = scored(job, finders, tmp_path)
    logits = {name: table[f"logit/{name}"] for name in finders}
    table = table.assign(**ranking.calibrated(logits, finders))
    assert sorted([*table["id"], *(r.file for r in rejections)]) == sorted(
        f.relative_to(folder).as_posix() for f in stamps.fits_below(folder)
    )
    assert {r.file: r.reason for r in rejections} == {"torn.fits": "truncated", "text.fits": "not FITS",
                                                      "flat.fits": "constant"}  # fmt: skip
    for row in table.to_dict("records"):
        pixels, _ = stamps.read_stamp(folder / row["id"])
        alone = {name: finder.score(pixels[None])[0] / finder.temperature for name, finder in finders.items()}
        assert row["bce"] == pytest.approx(alone["bce"], rel=1e-5, abs=1e-5)
        assert row["ensemble"] == pytest.approx((alone["bce"] + alone["fbeta"]) / 2, rel=1e-5, abs=1e-5)


def test_no_wild_logit_decides_the_ensemble(finders):
    ranged = {name: finder._replace(calibrated=(-8.0, 16.0)) for name, finder in finders.items()}  # limits -14 and 22
    wild, sane = np.array([1e3, 66, 22, 4]), np.array([-2.0, -2, -2, 3])
    found = ranking.calibrated({"bce": wild, "fbeta": sane}, ranged)["ensemble"]
    assert found[0] == found[1] == found[2] < found[3] == pytest.approx((4 / 2 + 3 / 0.5) / 2)


def test_an_interrupted_ranking_resumes_where_it_stopped(folder, finders, tmp_path, monkeypatch):
    monkeypatch.setattr(cutouts, "BATCH", 4)
    job = cutouts.plan_folder(folder, ranking.wanted(finders), 0.2)
    assert len(job.units) == 4
    read, asked = reading.read, []

    def dies(unit):
        asked.append(unit.ids)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return read(unit)

    monkeypatch.setattr(reading, "read", dies)
    with pytest.raises(KeyboardInterrupt):
        scored(job, finders, tmp_path / "a")
    parts = scoring.scores_folder(job, finders, tmp_path / "a")
    assert scoring.collect(job, parts, finders)[2] == 7
    first = list(asked)
    asked.clear()
    asked += [None] * 3  # dies no more
    again = scored(job, finders, tmp_path / "a")
    assert asked[3:] == [job.units[2].ids, job.units[3].ids] and first[2] == job.units[2].ids
    monkeypatch.undo()
    whole = scored(job, finders, tmp_path / "b")
    pd.testing.assert_frame_equal(again[0], whole[0], check_exact=True)
    assert again[1] == whole[1] and [f.name for f in parts.glob(".*")] == [".lock-1-1"]


def test_two_worker_processes_give_the_same_scores(folder, finders, tmp_path, monkeypatch):
    monkeypatch.setattr(cutouts, "BATCH", 2)
    job = cutouts.plan_folder(folder, ranking.wanted(finders), 0.2)
    one, two = (scored(job, finders, tmp_path / f"{n}", n) for n in (1, 2))
    pd.testing.assert_frame_equal(one[0], two[0], check_exact=True)
    assert one[1] == two[1]
    assert Parallel(2)(delayed(abs)(i) for i in range(-3, 0)) == [3, 2, 1]  # joblib's own processes are left alone


def test_stamps_that_were_added_or_changed_are_scored_alone(folder, finders, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    before = scored(cutouts.plan_folder(mine, pixel_scale=0.2), finders, tmp_path)[0].set_index("id")
    shutil.copy(mine / "field_0" / "2.fits", mine / "field_0" / "added.fits")
    shutil.copy(mine / "field_0" / "4.fits", mine / "field_1" / "1.fits")  # another galaxy in its place
    (mine / "field_1" / "3.fits").unlink()
    asked, read = [], reading.read
    monkeypatch.setattr(reading, "read", lambda unit: (asked.extend(unit.ids), read(unit))[1])
    after = scored(cutouts.plan_folder(mine, pixel_scale=0.2), finders, tmp_path)[0].set_index("id")
    assert sorted(asked) == ["field_0/added.fits", "field_1/1.fits"]
    assert set(before.index) ^ set(after.index) == {"field_0/added.fits", "field_1/3.fits"}
    for name, same in {"field_0/added.fits": "field_0/2.fits", "field_1/1.fits": "field_0/4.fits"}.items():
        assert after.loc[name, "logit/bce"] == pytest.approx(before.loc[same, "logit/bce"], rel=1e-5)
    both = [i for i in before.index.intersection(after.index) if i != "field_1/1.fits"]
    pd.testing.assert_frame_equal(before.loc[both].drop(columns="tile"), after.loc[both].drop(columns="tile"))


def test_shards_score_each_stamp_once_and_merge_to_the_whole(folder, finders, tmp_path):
    job = cutouts.plan_folder(folder, ranking.wanted(finders), 0.2)
    for n in (1, 2, 5, 15, 40):
        assert [r for i in range(n) for r in scoring.Shard(i + 1, n).rows(15)] == list(range(15))
    for i in (3, 1):
        parts = scoring.score(job, finders, tmp_path / "s", 1, False, shard=scoring.Shard(i, 3))
    assert scoring.collect(job, parts, finders)[2] == 5 and scoring.shards_to_run(parts) == "2/3"
    (parts / "shard-1-of-1000000").touch()  # of another number of shards: the latest counts
    assert scoring.shards_to_run(parts).endswith(" 21/1000000 and 999979 more")
    scoring.score(job, finders, tmp_path / "s", 1, False, shard=scoring.Shard(2, 3))
    merged, whole = scoring.collect(job, parts, finders), scored(job, finders, tmp_path / "w")
    pd.testing.assert_frame_equal(merged[0], whole[0])
    assert merged[1] == whole[1] and merged[2] == 0 and scoring.shards_to_run(parts).startswith("all 3 again")


@pytest.mark.slow
def test_a_file_that_kills_or_stops_its_reader_costs_itself_alone(folder, finders, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    for name in ("kills", "hangs"):
        shutil.copy(mine / "field_0" / "2.fits", mine / "field_1" / f"{name}.fits")
    monkeypatch.setattr(cutouts, "BATCH", 6)
    monkeypatch.setattr(reading, "BATCH_SECONDS", 30)
    monkeypatch.setattr(reading, "read", spoilt_reader.read)
    job = cutouts.plan_folder(mine, pixel_scale=0.2)
    table, rejections = scored(job, finders, tmp_path, 2)
    why = {r.file: r.reason for r in rejections}
    assert why.pop("field_1/kills.fits") == "crash" and why.pop("field_1/hangs.fits") == "too slow"
    assert len(table) == 12 and sorted(why) == ["flat.fits", "text.fits", "torn.fits"]


def test_another_finder_has_its_own_kept_scores(folder, finders, tmp_path):
    job = cutouts.plan_folder(folder, ranking.wanted(finders), 0.2)
    other = {"bce": finders["bce"]._replace(digest="f" * 64)}
    assert scoring.scores_folder(job, other, tmp_path) != scoring.scores_folder(job, finders, tmp_path)


@pytest.mark.parametrize(("key", "value"), [("pixel_scale", 0.17), ("size", [64, 64]), ("band", "i")])
def test_finders_that_take_other_stamps_are_refused_by_name(finders, monkeypatch, key, value):
    other = finders["fbeta"]._replace(preprocessing={**network_finders.PREPROCESSING, key: value})
    monkeypatch.setattr(ranking, "load_finder", lambda name: {"bce": finders["bce"], "fbeta": other}[name])
    with pytest.raises(ValueError, match=f"bce and fbeta take different stamps .*{key}"):
        ranking.load_finders(["bce", "fbeta"])


def test_candidates_are_ranked_by_score_and_ties_by_id():
    table = pd.DataFrame({"id": ["c", "a", "b"], "ensemble": [1.0, 1.0, 2.0], "bce": [3.0, 2.0, 1.0]})
    assert ranking.rank(table)["id"].tolist() == ["b", "a", "c"]
    assert ranking.rank(table, "bce")["id"].tolist() == ["c", "a", "b"]
    assert ranking.rank(table)["rank"].tolist() == [1, 2, 3]


def test_known_lenses_are_matched_on_the_sky(tmp_path):
    rng = np.random.default_rng(5)
    ra, dec = np.r_[359.9999, 10.0, rng.uniform(0, 360, 20)], np.r_[0.0, 60.0, rng.uniform(-80, 80, 20)]
    ranked = pd.DataFrame({"ra": np.r_[ra, np.nan], "dec": np.r_[dec, np.nan]})
    offset = np.r_[0.0002, 0.0004 / np.cos(np.deg2rad(60)), np.full(20, 0.5)]  # 0.7, 1.4 arcsec, far
    known = pd.DataFrame({"name": [f"L{i}" for i in range(22)], "RA [deg]": (ra + offset) % 360, "DEC [deg]": dec})
    known = known.assign(id=range(22), ref="https://a.b/c")
    known.loc[22] = ["nowhere", 10.0, -99.0, 22, ""]
    known.to_csv(tmp_path / "known.csv", index=False)
    known = catalogues.read_known(tmp_path / "known.csv")
    assert len(known) == 22
    found = candidate_list.match(ranked, known, radius=2.0)
    assert found["reference"].tolist() == ["https://a.b/c"] * 2 + [""] * 21
    assert found["match"].tolist() == ["L0", "L1", *[""] * 21]
    here, there = (SkyCoord(x[:2] * units.deg, dec[:2] * units.deg) for x in (ra, ra + offset[:1].repeat(22)))
    assert found["separation"][0] == pytest.approx(here[0].separation(there[0]).arcsec, rel=1e-6)
    assert found["separation"][1] == pytest.approx(1.44, rel=1e-3) and found["separation"][2:].isna().all()
    assert (candidate_list.match(ranked, known, radius=1.0)["match"] != "").sum() == 1


def test_ecsv_and_fits_tables_have_ranked_and_rejected_stamps(finders, tmp_path):
    ranked = pd.DataFrame({"rank": [1, 2], "id": ["ü/<b>", "b"], "ra": [10.0, np.nan], "dec": [-5.0, np.nan],
                           "filled": [0, 3], "ensemble": [40.0, -1.0], "bce": [39.0, 0.0], "fbeta": [41.0, -2.0],
                           "match": ["L", ""], "separation": [1.5, np.nan], "reference": ["r", ""]})  # fmt: skip
    bad = [Rejection("c", "masked", "80 %"), Rejection("d", "truncated", "9000 bytes")]
    candidate_list.write(tmp_path, ranked, bad, finders, {"rank_by": "ensemble", "finder bce": "0" * 64})
    ecsv, fits = Table.read(tmp_path / "ranked.ecsv"), Table.read(tmp_path / "ranked.fits")
    for table in (ecsv, fits):
        assert len(table) == 4 and [str(x).strip() for x in table["rejected"][2:]] == ["masked", "truncated"]
        assert np.ma.is_masked(table["p_bce"][2]) or np.isnan(table["p_bce"][2])
        np.testing.assert_allclose(table["p_ensemble"][:2], expit([40.0, -1.0]))
        assert table["logit_fbeta"][0] == 41 and table["ra"].unit == units.deg
    assert ecsv["id"].tolist() == ["ü/<b>", "b", "c", "d"] and ecsv.meta["rank_by"] == "ensemble"
    assert [str(i).strip() for i in fits["id"]] == ["%C3%BC/<b>", "b", "c", "d"]
    assert pd.read_csv(tmp_path / "rejected.csv")["reason"].tolist() == ["masked", "truncated"]


def exported(finders, folder):
    """The finders as files, for the command."""
    for name, finder in finders.items():
        arrays = [np.asarray(v) for v in finder.network.variables]
        arrays = [a.astype(np.float16) if a.ndim > 1 else a for a in arrays]
        told = {
            "format": network_finders.FORMATS[0],
            "architecture": {"name": "resnet18", "width": 8},
            "preprocessing": finder.preprocessing,
            "temperature": finder.temperature,
            "made": finder.made,
        }
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for i, array in enumerate(arrays):
                file[f"{i:03d}"] = array
            file.attrs["about"] = json.dumps(told, sort_keys=True)
            file.attrs["sha256"] = network_finders._digest(told, arrays)
    return [str(folder / f"{name}.h5") for name in finders]


def test_exit_status_of_the_rank_command_tells_the_outcome(folder, finders, tmp_path, capsys):
    names = exported(finders, tmp_path)
    common = [
        "-p",
        "finders",
        json.dumps(names),
        "-p",
        "pixel_scale",
        "0.2",
        "-p",
        "workers",
        "1",
        "-p",
        "page_size",
        "5",
    ]

    def command(survey, output, *more):
        return cli.main(["rank", *common, "-p", "survey", str(survey), "-p", "output", str(tmp_path / output), *more])

    assert command(folder, "some") == 3
    said = capsys.readouterr().out
    assert "12 ranked, 0 of them flagged and listed last; left out: 1 " in said
    table = Table.read(tmp_path / "some" / "ranked.ecsv")
    assert table["rank"][:12].tolist() == list(range(1, 13)) and (np.diff(table["p_ensemble"][:12]) <= 0).all()
    page = (tmp_path / "some" / "page" / "index.html").read_text()
    shown = [page.index(name) for name in table["id"][:5]]
    assert shown == sorted(shown) and table["id"][6] not in page
    assert command(folder, "some") == 3  # ranked again: its own page is replaced
    assert (tmp_path / "some" / "page" / "index.html").read_text() == page

    assert command(folder / "field_0", "all") == 0
    shutil.copytree(folder / "field_0", tmp_path / "more")
    (tmp_path / "more" / "stamp.npy").write_bytes(b"x")
    capsys.readouterr()
    assert command(tmp_path / "more", "passed") == 3  # a small survey, too, says what it passes over
    assert "1 file whose name is not that of FITS is passed over: 'stamp.npy'" in capsys.readouterr().out
    shutil.copytree(folder, tmp_path / "bad", ignore=shutil.ignore_patterns("field_*"))
    assert command(tmp_path / "bad", "none") == 1
    assert "none of 3 stamps can be scored" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "none" / "rejected.csv")) == 3
    assert command(folder, "first", "-p", "on_bad", "raise") == 1
    for wrong in (
        ["-p", "rank_by", "f1"],
        ["-p", "page_sise", "5"],
        ["-p", "pixel_scale", "0.7"],
    ):
        with pytest.raises(SystemExit) as left:
            command(folder, "wrong", *wrong)
        assert left.value.code == 2


def test_ranking_without_a_survey_asks_for_one(finders):
    with pytest.raises(ValueError, match="give the parameter survey"):
        ranking.plan(parameters.resolve({}), finders)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"survey": "a", "catalogue": "b", "tiles": "c"}, "not both"),
        ({"tiles": "c"}, "a catalogue needs tiles"),
        ({"rank_by": "f1"}, "rank_by is 'ensemble' or one of the finders broad"),
        ({"columns": {"z": "x"}}, "columns"),
    ],
)
def test_contradictory_ranking_parameters_are_refused(wrong, words):
    with pytest.raises(parameters.ParameterError, match=words):
        parameters.resolve(wrong)


def test_a_catalogue_off_every_tile_is_an_error_that_says_so(finders, tmp_path):
    """The commonest mistake: hours for degrees.  The list says so of each row."""
    header = WCS(naxis=2)
    header.wcs.ctype, header.wcs.crval, header.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [60.5, 60.5]
    header.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    pixels = np.random.default_rng(0).normal(size=(120, 120)).astype(np.float32)
    fits.PrimaryHDU(pixels, header.to_header()).writeto(tmp_path / "tile.fits")
    pd.DataFrame({"id": ["a", "b"], "ra": [10.0, 10.1], "dec": [2.0, 2.0]}).to_csv(tmp_path / "list.csv", index=False)
    p = parameters.resolve({"catalogue": tmp_path / "list.csv", "tiles": [tmp_path / "tile.fits"],
                            "output": tmp_path / "out", "workers": 1})  # fmt: skip
    with pytest.raises(ranking.NothingUsable, match="2 off the tiles"):
        ranking.run(p, finders, progress=False)
    assert pd.read_csv(tmp_path / "out" / "rejected.csv")["file"].tolist() == ["a", "b"]
    assert len(Table.read(tmp_path / "out" / "ranked.ecsv")) == 2


def test_wrong_ranking_arguments_fail_before_any_scoring(folder, finders, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "score", None)  # nothing is scored
    with pytest.raises(FileNotFoundError, match="no such catalogue"):
        ranking.run(given(folder, tmp_path, published=tmp_path / "none.csv"), finders)
    with pytest.raises(ValueError, match="whose files are read; add -p output FOLDER"):
        ranking.run(given(folder, folder / "out"), finders)


def test_on_bad_raise_stops_the_ranking_at_a_bad_stamp(folder, finders, tmp_path):
    with pytest.raises(stamps.StampError):
        ranking.run(given(folder, tmp_path, on_bad="raise"), finders, progress=False)
    assert not (tmp_path / "ranked.ecsv").exists()


def test_an_interrupted_new_ranking_removes_the_outdated_page(folder, finders, tmp_path, monkeypatch):
    outcome = ranking.run(given(folder, tmp_path), finders, progress=False)
    assert outcome.page.exists() and outcome.plan.total == 15

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(candidate_list, "pictures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ranking.run(given(folder, tmp_path, finders=list(finders), rank_by="fbeta"), finders, progress=False)
    assert not outcome.page.exists()


def test_two_rankings_into_one_folder_write_one_after_the_other(folder, finders, tmp_path, monkeypatch):
    def held(*_):
        FileLock(tmp_path / "out" / ".lock", timeout=0).acquire()

    for module, name in ((ranking.candidate_list, "write"), (ranking, "_write_page")):
        with monkeypatch.context() as patch, pytest.raises(Timeout):
            patch.setattr(module, name, held)
            ranking.run(given(folder, tmp_path / "out"), finders, progress=False)


def test_unreadable_stamps_are_read_again_on_the_next_run(folder, finders, tmp_path, monkeypatch):
    job = cutouts.plan_folder(folder, ranking.wanted(finders), 0.2)
    read = reading.read

    def closed(unit):
        batch = read(unit)
        return batch._replace(rejections=[r._replace(reason="unreadable") for r in batch.rejections])

    monkeypatch.setattr(reading, "read", closed)
    assert {r.reason for r in scored(job, finders, tmp_path)[1]} == {"unreadable"}
    monkeypatch.undo()
    assert "unreadable" not in {r.reason for r in scored(job, finders, tmp_path)[1]}


@pytest.mark.parametrize("name", ["ensemble", "ra", "é", "a b"])
def test_a_finder_name_that_cannot_be_a_column_is_refused(name):
    with pytest.raises(ValueError, match="rename the file"):
        ranking.load_finders([f"some/{name}.h5"])


def test_a_list_is_read_back_as_it_was_written(finders, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_list, "_ROWS", 4)  # written in several parts
    ids = ['a"b', "x\ny", "é ü, z", "100 %", "#c", "b,c;d\te"]
    ranked = pd.DataFrame({"rank": [1, 2, 3, 4, 5, 999_999], "id": ids, "ra": [1 / 3, np.nan] * 3, "dec": 0.1,
                           "filled": 0, "ensemble": np.arange(6) / 3, "bce": np.arange(6) / 7, "fbeta": np.arange(6.0),
                           "tile": ["t é.fits", None] * 3, "x": np.full(6, 1.1, "f4"), "flag": [True, False] * 3,
                           "número": pd.array([1, None] * 3, "Int64"), "z": [np.nan, 0.3] * 3})  # fmt: skip
    bad = [Rejection(f"bad {i}", "masked", "80 %") for i in range(6)]
    candidate_list.write(tmp_path, ranked, bad, finders, {"rank_by": "ensemble"})
    scores = [f"{of}_{name}" for name in ("ensemble", "bce", "fbeta") for of in ("p", "logit")]
    order = ["rank", "id", "ra", "dec", *scores, "filled", "tile", "x", "flag", "número", "z", "rejected", "detail"]
    for form in ("ecsv", "fits"):
        table = Table.read(tmp_path / f"ranked.{form}")
        assert [unquote(name) for name in table.colnames] == order and table["ra"].unit == units.deg
        table.rename_columns(table.colnames, order)
        masked = {name: np.ma.getmaskarray(table[name]).tolist() for name in order}
        assert not any(masked["rank"][:6]) and all(
            all(masked[name][6:]) for name in ("rank", "dec", "p_bce", "x", "flag")
        )
        assert masked["ra"][:6] == masked["número"][:6] == [False, True] * 3 and masked["z"][:6] == [True, False] * 3
        text = {name: [unquote(str(v)) for v in table[name].astype(str)] for name in ("id", "tile", "detail")}
        assert text["id"] == [*ids, *(f"bad {i}" for i in range(6))] and text["tile"][0] == "t é.fits"
        assert masked["tile"][1] and masked["detail"][0] and text["detail"][6] == "80 %"
        for name, values in {"logit_ensemble": ranked["ensemble"], "p_bce": expit(ranked["bce"]), "x": ranked["x"],
                             "rank": ranked["rank"], "flag": ranked["flag"]}.items():  # fmt: skip
            np.testing.assert_array_equal(np.ma.getdata(table[name])[:6], values)
    fits.open(tmp_path / "ranked.fits").verify("exception")


def test_file_names_that_are_no_text_stay_readable(folder, finders, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(folder / "field_0" / "0.fits", os.fsdecode(os.fsencode(tmp_path / "in") + b"/a\xff.fits"))
    job = cutouts.plan_folder(tmp_path / "in", ranking.wanted(finders), 0.2)
    table, _ = scored(job, finders, tmp_path)
    table = table.assign(**ranking.calibrated({name: table[f"logit/{name}"] for name in finders}, finders))
    bad = [Rejection(name, "empty", "0 bytes") for name in ("b\udcfe", "line\n\n# more\u2028")]
    candidate_list.write(tmp_path, ranking.rank(table), bad, finders, {})
    read = Table.read(tmp_path / "ranked.ecsv")["id"].tolist()
    assert read == ["a\\xff.fits", "b\\xfe", "line\\n\\n# more\\u2028"]


NATIVE = storage.root().parent / "shared" / "data" / "native"
real = pytest.mark.skipif(not NATIVE.is_dir(), reason="the real survey images are not here")


@real
def test_published_lenses_of_kids_are_matched():
    known = catalogues.read_known(NATIVE / "kids_lens_candidates.csv")
    assert len(known) == 2194 and known.loc[0, "name"] == "083409-001653"
    assert known.loc[0, "reference"].startswith("https://arxiv.org/abs/")
    ranked = pd.DataFrame({"ra": known["ra"][:3] + 1e-4, "dec": known["dec"][:3]})
    assert candidate_list.match(ranked, known, radius=1.0)["match"].tolist() == known["name"][:3].tolist()


@real
def test_a_real_tile_and_catalogue_give_a_candidate_page(finders, tmp_path):
    rows = {"name": ["SL2SJ142209+524652", "obj1", "corner", "off"], "RA": [215.53864, 215.5326, 215.5563, 216.5],
            "DEC": [52.78114, 52.7750, 52.7899, 52.78]}  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    p = parameters.resolve({"catalogue": tmp_path / "list.csv", "tiles": [NATIVE / "cfhtls_field_r.fits"],
                            "published": tmp_path / "list.csv", "output": tmp_path / "out", "workers": 1})  # fmt: skip
    outcome = ranking.run(p, finders, progress=False)
    assert {r.file: r.reason for r in outcome.rejections} == {"corner": "masked", "off": "off the tiles"}
    assert set(outcome.ranked["id"]) == {"SL2SJ142209+524652", "obj1"}
    assert (outcome.ranked["match"] == outcome.ranked["id"]).all() and (outcome.ranked["separation"] < 0.01).all()
    page = outcome.page.read_text()
    assert "14:22:09" in page and "off the tiles" in page and len(list((tmp_path / "out/page/stamps").iterdir())) == 2
