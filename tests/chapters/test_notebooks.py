"""What each notebook needs, and which profile it is drawn in."""

import h5py
import pytest

from lensdet import parameters, runs
from lensdet.chapters import notebooks


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "weights" / "thesis").mkdir(parents=True)
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    for name in ("results", "figures"):
        monkeypatch.setenv(f"LENSDET_{name.upper()}", str(tmp_path / name))
    return tmp_path


def complete(profile, but=0, experiments=None, **given):
    """Leave what tells that all runs of a profile are there, but some."""
    p = parameters.resolve({"profile": profile, **given})
    wanted = experiments or [*p.experiments, "IDE_3", "IDE_6"]
    folders = [runs.run_folder(p, e, run, p.survey_key()) for e in wanted for run in range(1, p.runs + 1)]
    for folder in folders[but:]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "logits.h5").write_text(folder.name)


def test_each_notebook_takes_the_largest_profile_that_has_its_runs(here):
    assert notebooks.best_profile("02") == "quick"
    complete("lite", but=1)
    assert notebooks.best_profile("02") == "quick"
    complete("lite", experiments=["bce"])
    assert [notebooks.best_profile(f"0{k}") for k in range(1, 7)] == [*["lite"] * 5, "quick"]
    complete("lite", experiments=["bce"], segmentation="text")
    assert notebooks.best_profile("06") == "lite"


def test_the_candidates_notebook_takes_the_profile_of_its_finders(here):
    assert notebooks.best_profile("07") == "quick"
    with h5py.File(here / "weights" / "thesis" / "bce.h5", "w") as file:
        file.attrs["about"] = '{"made": {"run": "overnight/bce-1/run_02"}}'
    assert notebooks.best_profile("07") == "overnight"


def test_files_of_a_notebook_are_its_numbered_figures_and_those_named_after_it(here):
    folder = here / "figures" / "quick"
    folder.mkdir(parents=True)
    for name in ("fig_5_1.png", "table_5_1.csv", "02_sky.csv", "fig_5_3.png", "03_cases.png", ".x.02_sky.csv"):
        (folder / name).touch()
    assert notebooks.drawn("02", "quick") == ["02_sky.csv", "fig_5_1.png", "table_5_1.csv"]
    assert notebooks.drawn("03", "quick") == ["03_cases.png", "fig_5_3.png"]
