"""A survey to try the ranking on."""

import numpy as np
import pandas as pd
from astropy.table import Table

from lensdet import parameters, profiles
from lensdet.chapters.candidates import demonstration
from lensdet.data import bank, simulation, stamps
from lensdet.network import finders, resnet
from lensdet.survey.ranking import output_folder, run


def test_demonstration_survey_hides_mock_lenses_among_other_stamps(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path))
    folder = demonstration.survey(smoke)
    truth = pd.read_csv(folder.with_name("truth.csv"), dtype={"id": str})
    assert [f.name for f in stamps.fits_below(folder)] == truth["id"].tolist()
    assert truth["lens"].sum() == 4 and len(truth) == 28
    assert truth["alpha"].notna().sum() == truth["einstein_radius"].notna().sum() == 4
    assert set(truth["kind"][truth["lens"] == 0]) == {"lrg", "contaminant"} and set(
        truth["kind"][truth["lens"] == 1]
    ) == {"lrg"}

    i = int(np.flatnonzero(truth["lens"])[0])
    bare, _ = simulation.render("lrg", bank.FIRST_SHOWN + i, smoke)
    pixels, _ = stamps.read_stamp(folder / truth["id"][i])
    light = (pixels - bare) / np.ptp(bare)  # Eq. 4.2, on the scale of the normalised galaxy
    assert light.max() == np.float32(light.max()) and abs(light.max() - truth["alpha"][i]) < 1e-4

    first = {f: f.read_bytes() for f in stamps.fits_below(folder)}
    times = {f: f.stat().st_mtime_ns for f in first}
    assert demonstration.survey(smoke) == folder and {f: f.stat().st_mtime_ns for f in first} == times  # made once
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "again"))
    again = demonstration.survey(smoke)
    assert [f.read_bytes() for f in stamps.fits_below(again)] == list(first.values())


def test_each_profile_and_parameter_change_has_its_own_output_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(demonstration, "survey", lambda parameters: tmp_path / "stamps")  # not drawn here

    def output(**given):
        return output_folder(demonstration.parameters_of(parameters.resolve(given)))

    several = [{"profile": profile} for profile in profiles.PROFILES]
    several += [{"profile": "smoke", **more} for more in ({"hardness": 0.5}, {"data_seed": 1}, {"rank_by": "broad"})]
    assert len({output(**given) for given in several}) == len(several)
    assert output(profile="smoke", workers=1) == output(profile="smoke")  # which changes nothing
    for name in ("demonstration", "smoke"):  # what a user's survey may be called
        assert output_of_survey(tmp_path / name) not in {output(**given) for given in several}
    assert output(profile="smoke", output=tmp_path / "mine") == tmp_path / "mine"


def output_of_survey(folder):
    return output_folder(parameters.resolve({"survey": folder}))


def test_demonstration_page_and_list_say_all_stamps_are_simulated(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path))
    model = resnet.resnet18(8)
    resnet.initialise(model, 7, 0)
    made = {"parameters": {"loss": "bce", "width": 8, "chunk_size": 64}, "chunks": 2, "run": "smoke/bce/run_01"}
    finder = finders.Finder(resnet.logit_model(model), finders.PREPROCESSING, 1.0, made | {"validation_loss": 1}, "0")
    ranking = demonstration.parameters_of(smoke)
    outcome = run(ranking, {"bce": finder}, progress=False, **demonstration.about(smoke))
    page = outcome.page.read_text()
    header = page[page.index("<header") : page.index("</header>")]
    assert "<h1>Lens candidates: simulated survey (profile smoke)</h1>" in header
    assert "All stamps are simulated" in header
    assert Table.read(outcome.folder / "ranked.ecsv").meta["notes"] == demonstration.NOTE
    assert "notes: All stamps are simulated" in " ".join(Table.read(outcome.folder / "ranked.fits").meta["comments"])
    table, n = demonstration.recovered(outcome.ranked, ranking.survey), len(outcome.ranked)
    lens = pd.read_csv(ranking.survey.with_name("truth.csv"), dtype={"id": str}).set_index("id").lens
    assert table["first"].tolist() == [4, 8, 20] and table["by chance"].tolist() == [16 / n, 32 / n, 80 / n]
    assert table.lenses.tolist() == [lens[outcome.ranked["id"][:k]].sum() for k in (4, 8, 20)]

    own = smoke.model_copy(update={"survey": ranking.survey, "pixel_scale": 0.2, "output": tmp_path / "own"})
    outcome = run(own, {"bce": finder}, progress=False)
    assert "All stamps are" not in outcome.page.read_text()  # what a user's page says is up to the user's stamps
    assert "notes" not in Table.read(outcome.folder / "ranked.ecsv").meta
