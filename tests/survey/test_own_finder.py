"""``lensdet finder``: from a folder to a finder and a report, interrupted, again, and with what users get wrong."""

import contextlib
import io
import os
import shlex
from collections import Counter
from functools import cache

import keras
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from lensdet import cli, parameters
from lensdet.data import broad
from lensdet.network import finders, training
from lensdet.parameters import ParameterError
from lensdet.runs import Run
from lensdet.survey import finder_report, hosts, own_finder, quality
from tests.survey import cases

BROAD = parameters.resolve({"simulation": "broad", "seeing": (0.7, 0.7), "peak_snr": (80, 400), "sky_gradient": (0, 0)})
SMALL = {"profile": "smoke", "workers": 1, "n_lrg": 16, "n_source": 24, "n_contaminant": 16, "frozen_size": 8,
         "information_size": 8, "batch_size": 16, "chunk_size": 32}  # fmt: skip


def write(folder, stamps, prefix="", dec=2.0, **header):
    """FITS stamps at places of their own."""
    folder.mkdir(exist_ok=True)
    for i, pixels in enumerate(stamps):
        place = {"ra": 150 + i / 10, "dec": dec} | header
        fits.PrimaryHDU(pixels.astype("f4"), cases.sky(pixels.shape, **place)).writeto(folder / f"{prefix}{i:03d}.fits")
    return folder


def galaxies(n, seed=0):
    return [cases.galaxy(seed=seed + i) for i in range(n)]


def run(*words, output, **given):
    """Exit status and what was printed."""
    given = SMALL | {"output": output} | given
    parts = [part for name, value in given.items() for part in ("-p", name, str(value))]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = cli.main(["finder", *map(str, words), *parts])
    return status, said.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finder of two networks, stopped in the first and taken up; the same at once; what was printed; the folders."""
    top = tmp_path_factory.mktemp("finder")
    own = [broad.render("lrg", 700 + i, BROAD)[0] for i in range(32)]
    write(top / "hosts <i>", own)
    write(top / "negatives", [broad.render("lrg", 900 + i, BROAD)[0] for i in range(6)], "n", dec=20.0)
    table = pd.DataFrame({"id": ["003.fits", "gone.fits", "031.fits"], "grade": ["A", "B", "X"], "class": ""})
    spirals = pd.DataFrame({"id": [f"n{i:03d}.fits" for i in range(6)], "grade": "X", "class": "spiral"})
    table = pd.concat([table, spirals])
    table.to_csv(top / "grades.csv", index=False)
    words = ("--hosts", top / "hosts <i>", "--negatives", top / "negatives", "--labels", top / "grades.csv")
    compiled, measure, said = training.learners_of, finder_report.measure, {}
    learners = cache(lambda key, p, bank, start: compiled(p, bank, start.held))
    measured = cache(lambda split, negatives, *held: measure(*held[:2], split, held[2], negatives, held[3].held))
    with pytest.MonkeyPatch.context() as patch:  # what takes long is done once, as it is the same
        patch.setattr(
            training, "learners_of", lambda p, bank, start: learners(bank.data_key, *map(_Same, (p, bank, start)))
        )
        patch.setattr(
            finder_report,
            "measure",
            lambda f, bank, split, p, negatives, before: measured(
                split, tuple(negatives), *map(_Same, (f, bank, p, before))
            ),
        )
        said["stopped"] = run(*words, "--minutes", "0", output=top / "one", psf=0.7)
        said["ended"] = run(*words, output=top / "one", psf=0.7)
        with pytest.MonkeyPatch.context() as untrained:
            untrained.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
            said["again"] = run(*words, output=top / "one", psf=0.7)
        (top / "two").mkdir()
        for bank in (top / "one").glob("bank-*.h5"):
            os.link(bank, top / "two" / bank.name)
        said["at once"] = run(*words, output=top / "two", psf=0.7)
    return top, said


class _Same:
    """Equal to all of its kind, as an argument of a cache; what it holds is another's."""

    def __init__(self, held):
        self.held = held

    def __getattr__(self, name):
        return getattr(self.held, name)

    def __eq__(self, other):
        return isinstance(other, _Same)

    def __hash__(self):
        return 0


def test_stopped_it_says_so_and_goes_on(made):
    top, said = made
    status, text = said["stopped"]
    assert status == 3 and "run_01: stopped after 0 minutes; the same command goes on" in text
    assert said["ended"] == (0, said["ended"][1]) and said["ended"][1].endswith(f"{top / 'one/report/index.html'}\n")


def test_what_was_read_is_said(made):
    for _, text in made[1].values():
        assert "30 hosts: 18 train, 3 validation, 3 calibration, 6 test\n" in text
        assert "7 negatives: " in text and "1 graded lenses: 1 train" in text
        assert (
            "stamps of 101 x 101 pixels of 0.2 arcsec, r band" in text and "PSF of 0.70 arcsec FWHM, as given" in text
        )
        assert "1 grades are of no stamp that was read, such as gone.fits" in text
        assert "negatives by class: 6 spiral\n" in text


def test_interrupted_or_not_the_finder_is_the_same(made):
    top, _ = made
    one, two = (finders.load(top / name / f"{name}.h5") for name in ("one", "two"))
    for a, b in zip((one.network, *one.others), (two.network, *two.others), strict=True):
        for mine, theirs in zip(a.variables, b.variables, strict=True):
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (mine, theirs)))
    assert one.temperature == two.temperature and one.quality == two.quality and one.calibrated == two.calibrated


def test_called_again_it_trains_nothing_and_says_the_same(made):
    assert made[1]["again"] == made[1]["ended"]


def test_the_finder_has_two_networks_and_says_what_it_is_made_of(made):
    finder = finders.load(made[0] / "one" / "one.h5")
    assert len(finder.others) == 1 and len(finder.temperatures) == 2
    assert finder.preprocessing["pixel_scale"] == 0.2 and finder.preprocessing["band"] == "r"
    assert {name: finder.made[name] for name in ("hosts", "negatives", "graded lenses", "psf")} == {
        "hosts": 30, "negatives": 7, "graded lenses": 1, "psf": 0.7}  # fmt: skip
    assert finder.quality.keys() == quality.LIMITS.keys() - {"equal"}
    folders = sorted((made[0] / "one").glob("bce-*/run_*"))
    assert [folder.name for folder in folders] == ["run_01", "run_02"] and all(Run(f).is_complete for f in folders)


def test_report_and_page_are_of_the_held_out(made):
    folder = made[0] / "one" / "report"
    table = pd.read_csv(folder / "report.csv").set_index(["part", "what"])
    n = 6
    assert table.loc[("held out", "area under the ROC curve"), "n"] == n
    assert table.loc[("acceptance", "galaxies of your own, held out"), "n"] == n
    spirals = table.loc[("acceptance", "of these: spiral")]
    assert spirals["n"] == 1 and table.loc[("acceptance", "negatives of your own, held out"), "n"] in (1, 2)
    assert table.loc["Einstein radius"]["n"].sum() == table.loc["arc signal-to-noise"]["n"].sum() == 8 * n
    assert table["value"].drop(("held out", finder_report.GAIN)).between(0, 1).all()
    page = (folder / "index.html").read_text("utf-8")
    assert "<script" not in page and "Content-Security-Policy" in page and "hosts <i>" not in page
    assert len(list((folder / "stamps").glob("accepted_*.jpg"))) == n


def test_the_command_of_the_page_ranks_with_the_finder(made, tmp_path):
    top, _ = made
    page = (top / "one" / "report" / "index.html").read_text("utf-8")
    command = shlex.split(page.split("<code>")[1].split("</code>")[0])
    assert command[:4] == ["lensdet", "rank", "-p", "survey"]
    words = [str(top / "hosts <i>") if word == "FOLDER" else word for word in command[1:]]
    assert cli.main([*words, "-p", "output", str(tmp_path / "out"), "-p", "workers", "1"]) == 0
    from astropy.table import Table

    ranked = Table.read(tmp_path / "out" / "ranked.ecsv")
    finder = finders.load(top / "one" / "one.h5")
    pixels = {path.name: fits.getdata(path) for path in (top / "hosts <i>").iterdir()}
    logits = finder.score(np.stack([pixels[i] for i in ranked["id"]])) / finder.temperature
    assert len(ranked) == 32
    np.testing.assert_allclose(ranked["logit_one"], logits, rtol=1e-4, atol=1e-4)


def test_it_goes_on_from_a_finder_and_says_what_that_gave(made):
    top, said = made
    assert "training goes on from 2 of the 2 networks of broad, of width 16\n" in said["stopped"][1]
    start, finder = finders.load("broad"), finders.load(top / "one" / "one.h5")
    assert finder.made["start"] == ["broad", start.digest]
    assert [v.shape for v in finder.network.variables] == [v.shape for v in start.network.variables]
    table = pd.read_csv(top / "one" / "report" / "report.csv").set_index("what")["value"]
    before = table[finder_report.BEFORE]
    assert table["area under the ROC curve"] - before == pytest.approx(table[finder_report.GAIN], abs=2e-5)
    assert before > 0.7  # 6 hosts and 48 arcs: a network with random weights has 0.5


def test_from_random_weights_where_it_is_asked_for(made, monkeypatch):
    top, _ = made
    trained = []
    monkeypatch.setattr(training, "train", lambda p, *_, folder, learners, **__: trained.append((p.width, folder)))
    monkeypatch.setattr(training, "learners_of", lambda p, bank, start: start)
    words = ("--hosts", top / "hosts <i>", "--minutes", 0)
    for start in ("random", "thesis/bce", "broad"):
        assert run(*words, output=top / "one", psf=0.7, start=start)[0] == 3
    assert [width for width, _ in trained] == [8, 64, 16]
    assert len({folder for _, folder in trained}) == 3


def test_a_start_that_is_not_there_is_said_before_anything_is_read(tmp_path, capsys):
    words = ("--hosts", write(tmp_path / "hosts", galaxies(1)))
    said = fails(capsys, *words, output=tmp_path / "out", start="brod")
    assert "start brod" in said and "no such finder" in said and "broad" in said
    said = fails(capsys, *words, output=tmp_path / "out", profile="own", start="random")
    assert "add -p profile finder" in said


def test_a_start_that_learnt_from_hosts_of_its_own_is_refused(made, tmp_path, capsys):
    """Splits are drawn anew where hosts are added: what it was trained on could be kept apart now."""
    top, _ = made
    own = top / "one" / "one.h5"
    said = fails(capsys, "--hosts", top / "hosts <i>", output=tmp_path / "out", start=own)
    assert f"start {own}: learnt from galaxies of its own" in said


def test_the_seed_of_the_objects_that_broad_learnt_from_is_refused(tmp_path, capsys):
    words = ("--hosts", write(tmp_path / "hosts", galaxies(1)))
    said = fails(capsys, *words, output=tmp_path / "out", profile="own", data_seed=0)
    assert "data_seed 0: broad may have learnt" in said and "leave it out" in said


def test_no_object_is_one_that_the_networks_of_broad_have_seen():
    """An object of a simulated survey is decided by the seed, its class and its id, which count from 0."""
    seen = parameters.resolve({"profile": "finder"})
    assert finders.load("broad").made["parameters"]["data"] == seen.survey_key()  # which has the seed
    assert seen.data_seed != own_finder.BROAD["data_seed"]


def test_stamps_of_another_scale_or_band_are_not_compared():
    takes = finders.PREPROCESSING
    assert own_finder.alike(takes, takes | {"pixel_scale": 0.2009})
    assert not own_finder.alike(takes, takes | {"pixel_scale": 0.21})
    assert not own_finder.alike(takes, takes | {"band": "i"})


# ---- folders and names


def given(**more):
    return parameters.resolve(SMALL | own_finder.BROAD | more)


def test_the_output_is_called_as_the_hosts(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "build"))
    names = {}
    for name in ("DR4.1", "DR4.2", "my galaxies", "星", "..a"):
        (tmp_path / name).mkdir()
        names[name] = own_finder.output_folder(given(hosts=tmp_path / name)).name
    assert list(names.values()) == ["DR4.1", "DR4.2", "my_galaxies", "_", "a"]
    (tmp_path / "stack.h5").touch()
    assert own_finder.output_folder(given(hosts=tmp_path / "stack.h5")).name == "stack"


def test_another_training_has_folders_of_its_own(tmp_path):
    names = {given(chunks=n, **more).experiment_name("bce", "0123abcd") for n in (2, 3) for more in ({}, {"width": 16})}
    assert len(names) == 4


def test_the_command_has_what_headers_did_not_say(tmp_path):
    said = own_finder.command(given(pixel_scale=0.25, band="HSC r"), tmp_path / "my finder.h5")
    assert shlex.split(said)[5:] == ["-p", "finders", str(tmp_path / "my finder.h5"), "-p", "pixel_scale", "0.25", "-p",
                                     "band", "HSC r"]  # fmt: skip
    assert "pixel_scale" not in own_finder.command(given(), tmp_path / "a.h5")


# ---- what users get wrong


def fails(capsys, *words, output, **more):
    """What is printed by a command that cannot be; its exit status is 2."""
    with pytest.raises(SystemExit) as end:
        run(*words, output=output, **more)
    assert end.value.code == 2
    return capsys.readouterr().err.partition(" error: ")[2]


def test_without_hosts_the_remedy_is_named(tmp_path, capsys):
    assert "no hosts: add --hosts FOLDER" in fails(capsys, output=tmp_path)
    assert "gone" in fails(capsys, "--hosts", tmp_path / "gone", output=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, "--hosts", tmp_path / "empty", output=tmp_path / "out")


@pytest.mark.parametrize("given", [{"simulation": "thesis"}, {"renormalise": False}, {"segmentation": "text"}])
def test_what_no_finder_of_ones_own_can_have_is_said_at_once(tmp_path, capsys, given):
    said = fails(capsys, "--hosts", write(tmp_path / "hosts", galaxies(1)), output=tmp_path / "out", **given)
    assert f"leave {next(iter(given))} out of -p" in said


def test_too_few_hosts_are_counted_with_what_was_left_out(tmp_path, capsys):
    folder = write(tmp_path / "hosts", galaxies(12))
    write(tmp_path / "small", [cases.galaxy((60, 60), i) for i in range(30)])
    write(tmp_path / "noise", [np.random.default_rng(i).standard_normal((101, 101)) for i in range(30)])
    for name, why in (("hosts", "12 galaxies can be used, 20 are needed; left out: none"),
                      ("small", "0 galaxies can be used, 20 are needed; left out: 30 shape\nshape: Smaller than"),
                      ("noise", "0 galaxies can be used, 20 are needed; left out: 30 faint centre")):  # fmt: skip
        assert why in fails(capsys, "--hosts", tmp_path / name, output=tmp_path / "out")
    (folder / "torn.fits").write_bytes((folder / "000.fits").read_bytes()[:9000])
    assert "left out: 1 truncated" in fails(capsys, "--hosts", folder, output=tmp_path / "out")


@pytest.mark.parametrize("inside", ["hosts", "negatives"])
def test_an_output_among_the_stamps_is_refused(tmp_path, capsys, inside):
    for name in ("hosts", "negatives"):
        (tmp_path / name).mkdir()
    words = ("--hosts", tmp_path / "hosts", "--negatives", tmp_path / "negatives")
    said = fails(capsys, *words, output=tmp_path / inside / "out")
    assert f"lies in {tmp_path / inside}" in said and "add -p output FOLDER" in said


def test_hosts_of_one_place_leave_none_for_tests(tmp_path, capsys):
    folder = write(tmp_path / "hosts", galaxies(24), ra=150.0)
    said = fails(capsys, "--hosts", folder, output=tmp_path / "out", psf=0.9)
    assert "24 galaxies in too few places" in said and "none is left for validation and calibration and test" in said


def test_duplicates_of_one_stamp_are_one_place(tmp_path, capsys):
    folder = write(tmp_path / "hosts", [cases.galaxy()] * 24)
    assert "too few places" in fails(capsys, "--hosts", folder, output=tmp_path / "out", psf=0.9)


def test_a_psf_that_cannot_be_measured_has_to_be_given(tmp_path, capsys):
    folder = write(tmp_path / "hosts", galaxies(24))
    assert "add -p psf FWHM, in arcsec" in fails(capsys, "--hosts", folder, output=tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a")])
def test_negatives_among_the_hosts_are_refused(tmp_path, capsys, names):
    write(tmp_path / "a", galaxies(1))
    write(tmp_path / "a" / "b", galaxies(1))
    words = ("--hosts", tmp_path / names[0], "--negatives", tmp_path / names[1])
    assert "move one folder out of the other" in fails(capsys, *words, output=tmp_path / "out")


def test_negatives_of_another_band_are_refused(tmp_path, capsys):
    folder = write(tmp_path / "hosts", galaxies(24))
    other = write(tmp_path / "negatives", galaxies(5, 50), FILTER="i", dec=20.0)
    said = fails(capsys, "--hosts", folder, "--negatives", other, output=tmp_path / "out")
    assert f"negatives {other}: none can be used (5 band); give stamps of band r" in said


def test_labels_of_no_stamp_show_an_id_as_it_should_be(tmp_path, capsys):
    folder = write(tmp_path / "hosts", galaxies(24))
    for ids, grades in ((["3", "4"], ["A", "X"]), (["003.fits", "004.fits"], ["yes", "no"])):
        pd.DataFrame({"id": ids, "grade": grades}).to_csv(tmp_path / "g.csv", index=False)
        said = fails(capsys, "--hosts", folder, "--labels", tmp_path / "g.csv", output=tmp_path / "out")
        assert "such as 000.fits" in said and "lens, a, b, 1 or non-lens" in said
    pd.DataFrame({"name": ["003.fits"], "class": ["A"]}).to_csv(tmp_path / "g.csv", index=False)
    said = fails(capsys, "--hosts", folder, "--labels", tmp_path / "g.csv", output=tmp_path / "out")
    assert "needs columns id and grade, and has name, class" in said


def test_an_id_that_two_stamps_have_cannot_be_graded(tmp_path, capsys):
    words = ("--hosts", write(tmp_path / "hosts", galaxies(24)), "--negatives")
    words = (*words, write(tmp_path / "negatives", galaxies(3, 50), dec=20.0), "--labels", tmp_path / "g.csv")
    pd.DataFrame({"id": ["001.fits", "009.fits"], "grade": ["A", "A"]}).to_csv(tmp_path / "g.csv", index=False)
    said = fails(capsys, *words, output=tmp_path / "out", psf=0.9)
    assert "1 ids are those of a host and of a negative, such as 001.fits; rename the files of one folder" in said


def test_grades_of_stamps_that_were_left_out_are_said(tmp_path):
    stamps = galaxies(25)
    stamps[24][:] = np.random.default_rng(0).standard_normal((101, 101))
    pd.DataFrame({"id": ["024.fits", "001.fits"], "grade": ["A", "A"]}).to_csv(tmp_path / "g.csv", index=False)
    p = given(hosts=write(tmp_path / "hosts", stamps), labels=tmp_path / "g.csv", psf=0.9)
    material = own_finder.read(p)
    said = "\n".join(own_finder.said(material))
    assert "left out: 1 faint centre" in said and "1 grades are of no stamp that was read, such as 024.fits" in said
    assert len(material.own["graded"].ids) == 1 and len(material.own["lrg"].ids) == 23


def test_false_positives_are_negatives_by_class_each_in_every_split(tmp_path):
    named = {f"{i:03d}.fits": name for i, name in enumerate(["ring"] * 10 + ["merger"] * 10 + [""] * 3)}
    table = pd.DataFrame({"id": named.keys(), "grade": "X", "class": named.values()})
    table.to_csv(tmp_path / "g.csv", index=False)
    p = given(hosts=write(tmp_path / "hosts", galaxies(50)), labels=tmp_path / "g.csv", psf=0.9)
    material = own_finder.read(p)
    counts = {split: Counter(material.negatives_of(split)) for split in hosts.SHARES}
    assert sum(counts.values(), Counter()) == Counter(ring=10, merger=10) + Counter([""] * 3)
    for name in ("ring", "merger"):
        assert [of[name] for of in counts.values()] == [6, 1, 1, 2]
    assert "negatives by class: 10 ring, 10 merger" in own_finder.said(material)


def test_too_many_grades_leave_too_few_hosts(tmp_path):
    pd.DataFrame({"id": [f"{i:03d}.fits" for i in range(10)], "grade": "lens"}).to_csv(tmp_path / "g.csv", index=False)
    p = given(hosts=write(tmp_path / "hosts", galaxies(24)), labels=tmp_path / "g.csv", psf=0.9)
    with pytest.raises(ParameterError, match="14 galaxies can be used, 20 are needed"):
        own_finder.read(p)


def test_without_positions_a_note_says_what_that_means(tmp_path):
    folder = tmp_path / "hosts"
    folder.mkdir()
    for i, pixels in enumerate(galaxies(21)):
        fits.PrimaryHDU(pixels, cases.bare(FILTER="r")).writeto(folder / f"{i}.fits")
    material = own_finder.read(given(hosts=folder, pixel_scale=0.2, psf=0.9))
    assert "no positions: stamps of the same sky may be in several splits" in "\n".join(own_finder.said(material))
    assert {*np.concatenate([*material.split.values()])} == set(hosts.SHARES)
