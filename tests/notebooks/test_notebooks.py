"""Every notebook runs, as a user starts it, and leaves what it promises.

Slow ones: those that train; a second time each draws the same bytes; and all run on a folder in the thesis' layout.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest

from lensdet import parameters, storage
from lensdet.chapters import style
from lensdet.data import lensing, simulation, stamps
from lensdet.network import engine, training
from lensdet.network.finders import EXPERIMENTS, export
from lensdet.runs import Run, run_folder

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LOSSES = NOTEBOOKS / "02_losses.py"
OTHERS = [path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py")) if path != LOSSES]
# two runs of three losses, the members of IDE_3, and narrow, to be quick
FEW = {"profile": "smoke", "experiments": ["bce", "fbeta", "f1"], "runs": 2, "workers": 1}
DRAWN = {
    "01": ["fig_4_1", "fig_4_2", "01_mock_lenses", "01_contaminants", "01_lrgs", "01_real_galaxies",
           "01_stamp_parameters", "01_source_parameters"],
    "02": ["fig_5_1", "fig_5_2", "02_training", "02_control", "02_roc", "02_effective_thresholds", "02_reliability",
           "02_false_positives", "02_inspected"],
    "03": ["fig_5_3", "fig_5_4", "fig_5_5", "fig_5_6", "fig_5_7", "fig_5_8", *(f"fig_7_{k}" for k in range(7, 22)),
           "03_cases_bce", "03_cases_fbeta", "03_empty_maps", "03_heat_inside", "03_left_out"],
    "04": [*(f"fig_5_{k}" for k in range(9, 15)), *(f"fig_7_{k}" for k in range(22, 31)), "04_noise", "04_importance",
           "04_fig_5_9_information", "04_selection_function"],
    "05": ["fig_5_15", "fig_5_17", "05_raw_weights", "05_baselines", "05_cascade"],
    "06": ["fig_5_19", "fig_5_20", "06_sweep", "06_arc_removed", "06_disc"],
    "07": ["07_candidates", "07_expected", "07_roc", "07_real_pixels"],
    "appendix": ["fig_7_1", "fig_7_2", "fig_7_3", "fig_7_4", "fig_7_5"],
}  # fmt: skip
TABLES = {"01": ["01_counts"], "02": ["table_5_1", "02_matched", "02_own_thresholds", "02_calibration",
                                      "02_false_positives", "02_sky", "02_protocols", "02_selection"],
          "03": ["03_empty_maps", "03_heat_inside", "03_left_out", "03_randomised"],
          "04": ["04_full_above", "04_importance", "04_explained", "04_selection_function"],
          "05": ["table_5_2", "05_weights", "05_raw_weights", "05_targets", "05_baselines", "05_against",
                 "05_bands", "05_best", "05_cascade", "05_gains"],
          "06": ["table_5_3", "06_differences", "06_sweep", "06_removed", "06_arc_removed", "06_disc",
                 "06_discs", "06_time"],
          "07": ["07_expected", "07_metrics", "07_published", "07_real_pixels"]}  # fmt: skip


def write_stamps(folder, cls, ids, p, nested=False):
    """Simulated stamps as FITS files; the sources with their keywords."""
    for i in ids:
        if cls == "source":
            pixels, truth = lensing.render_source(i, parameters=p)
            truth = {column: truth[column] for column in stamps.KEYWORDS.values()}
        else:
            (pixels, _), truth = simulation.render(cls, i, parameters=p), {}
        stamps.write_stamp(folder / f"{i}" / f"{i}.fits" if nested else folder / f"{cls}_{i}.fits", pixels, truth)


@pytest.fixture(scope="module")
def real(tmp_path_factory, smoke):
    """What stands for real stamps here: nobody need have those, and the folder's layout is all that matters."""
    folder = tmp_path_factory.mktemp("real")
    write_stamps(folder / "galaxies", "lrg", range(900, 904), smoke)
    write_stamps(folder / "lens_candidates", "contaminant", range(900, 903), smoke)
    (folder / "galaxies" / "spoilt.fits").write_text("not FITS")
    return folder


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory):
    """Results and figures of this module; kernels inherit them."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("results", "figures"):
            patch.setenv(f"LENSDET_{name.upper()}", str(folder / name))
        yield folder


@pytest.fixture(scope="module")
def few(places, smoke_bank):
    """Parameters of runs that notebooks draw from, after ``papermill notebooks/02_losses.py out.ipynb -f few.yaml``.

    They are there before, for to compile them takes minutes; the slow tests have notebooks that train.
    """
    p = parameters.resolve(FEW)
    leave_runs(p, smoke_bank, [(loss, run) for loss in (*FEW["experiments"], "IDE_3") for run in (1, 2)])
    leave_runs(p.model_copy(update={"segmentation": "text"}), smoke_bank, [("bce", 1)])
    for finder in EXPERIMENTS:
        export([run_folder(p, finder, 1, smoke_bank.data_key)], places / f"{finder}.h5")
    run_losses(FEW, places)
    return p


def leave_runs(p, bank, runs):
    """Complete run folders as trainings leave them, of networks whose last layer alone changes, and by chance."""
    rng = np.random.default_rng(0)

    def change(learner, *_):
        for variable in learner.model.get_layer("logit").weights:
            variable.assign_add(rng.normal(0, 0.1, variable.shape))
        return np.float32([0.7, 0.6])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Learner, "train_chunk", change)
        patch.setattr(engine.Learner, "validate", lambda learner, *_: rng.random(len(learner.selectors)))
        networks = training.learners_of(p, bank)

        def learners(experiment, run):  # losses differ in what is not run here, and share what is compiled
            return networks(experiment if experiment.startswith("IDE") else "bce", run)

        for experiment, run in runs:
            training.train(p, experiment, run, bank, progress=False, learners=learners)


def run_losses(given, folder):
    """Notebook 02 by the command of the README, with what is given in a file."""
    (folder / "few.yaml").write_text("\n".join(f"{k}: {v}" for k, v in given.items()))
    command = [sys.executable, "-m", "papermill", LOSSES, "out.ipynb", "-f", "few.yaml"]
    environment = {**os.environ, "LENSDET_ROOT": str(NOTEBOOKS.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def result_files(folder):
    """Bytes and time of writing of each result, by path."""
    files = (f for f in (folder / "results").rglob("*") if f.is_file() and f.name != ".lock")
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


def execute(notebook, folder, **given):
    return papermill.execute_notebook(str(notebook), str(folder / "out.ipynb"), given, progress_bar=False)


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(str(o.get("text", o.get("data", {}))) for cell in cells for o in cell.get("outputs", []))


def drawn(p):
    """The bytes of each picture and table."""
    return {f.name: f.read_bytes() for f in style.folder(p).iterdir()}


def check_drawn(number, p, more=()):
    """Every figure and table of a notebook is in its folder, not empty."""
    files = {f.name for f in style.folder(p).iterdir() if f.stat().st_size}
    expected = {f"{name}.png" for name in (*DRAWN[number], *more)}
    expected |= {f"{name}{suffix}" for name in TABLES[number] for suffix in (".csv", ".md", ".tex")}
    assert expected - files == set()


def test_the_readme_command_runs_the_losses_notebook(few, places):
    check_drawn("02", few, DRAWN["appendix"])
    said = printed(places / "out.ipynb")
    for row in (
        "Binary Cross Entropy",
        "F_beta metric",
        "Soft F_beta metric",
        "F_beta Soft Loss",
        "thesis 0.937",
        "open",  # nothing is decided with two runs
    ):
        assert row in said
    assert "F_1 Double" not in said
    assert "profile smoke: all runs are there" in said


@pytest.mark.slow
def test_running_the_losses_notebook_again_trains_nothing(few, places):
    first, pictures = result_files(places), drawn(few)
    run_losses(FEW, places)
    second, again = result_files(places), drawn(few)
    assert "profile smoke: all runs are there" in printed(places / "out.ipynb")
    assert pictures == again and {f.rpartition(".")[2] for f in pictures} >= {"png", "csv", "md", "tex"}
    assert {f: text for f, (text, _) in first.items()} == {f: text for f, (text, _) in second.items()}
    assert not [f for f in first if first[f][1] != second[f][1]]
    assert {f.name for f in first} >= {"logits.h5", "loss.weights.h5", "history.csv", "test.parquet"}


@pytest.mark.slow
def test_the_network_of_an_ensemble_is_trained_where_it_is_missing(tmp_path, places, few, smoke_bank):
    folder = run_folder(few, "IDE_3", 2, smoke_bank.data_key)
    shutil.rmtree(folder)
    execute(NOTEBOOKS / "05_ensembles.py", tmp_path, **FEW)
    assert Run(folder).is_complete


@pytest.mark.parametrize("experiment", ["fbeta", *(pytest.param(e, marks=pytest.mark.slow) for e in ("bce", "f1"))])
def test_the_losses_notebook_runs_with_one_loss_alone(experiment, tmp_path, few):
    """As params/fbeta.yaml has it: there is no cross-entropy to compare with."""
    execute(LOSSES, tmp_path, **{**FEW, "experiments": [experiment]})


@pytest.mark.slow
def test_the_losses_notebook_shows_losses_beyond_the_thesis(tmp_path):
    given = {**FEW, "experiments": ["bce", "fbeta:0.5", "focal"], "runs": 1}
    execute(LOSSES, tmp_path, **given)
    said = printed(tmp_path / "out.ipynb")
    assert "F_beta Soft Loss, beta 0.5" in said and "Focal loss" in said


def given_to(notebook, real, places):
    """Parameters of a notebook in the smoke profile: those that read trainings take what is there."""
    number = notebook.name[:2]
    if number == "06":
        return {**FEW, "experiments": ["bce"], "runs": 1}
    if number == "03":
        return {**FEW, "experiments": ["bce", "fbeta"]}
    if number in ("04", "05"):
        return FEW
    finders = {"finders": [str(places / f"{finder}.h5") for finder in EXPERIMENTS]} if number == "07" else {}
    return {"profile": "smoke", "workers": 1, "real_stamps": str(real), **finders}


@pytest.mark.parametrize("notebook", OTHERS, ids=lambda path: path.stem)
def test_notebook_runs_in_the_smoke_profile(notebook, tmp_path, real, places, few):
    given, there = given_to(notebook, real, places), set(places.rglob("run_*/logits.h5"))
    execute(notebook, tmp_path, **given)
    check_drawn(notebook.name[:2], parameters.resolve(given))
    if not notebook.stem.startswith("06"):  # which trains with the best settings of its sweep
        assert set(places.rglob("run_*/logits.h5")) == there
    if notebook.stem.startswith("07"):
        (page,) = (storage.build_dir() / "demonstration").glob("smoke*/page/index.html")
        assert "simulated survey (profile smoke)" in page.read_text()
        assert f"The page to look through: {page}" in printed(tmp_path / "out.ipynb")


def test_files_in_build_lie_in_folders_of_their_profile(few):
    """Only a lock has no folder of a profile, a survey or a bank."""
    assert {path.name for path in storage.build_dir().iterdir() if path.is_file()} <= {"sums.lock"}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", OTHERS, ids=lambda path: path.stem)
def test_notebook_draws_the_same_bytes_a_second_time(notebook, tmp_path, real, places, few):
    given = given_to(notebook, real, places)
    execute(notebook, tmp_path, **given)
    first = drawn(parameters.resolve(given))
    execute(notebook, tmp_path, **given)
    assert drawn(parameters.resolve(given)) == first


@pytest.mark.slow
def test_the_data_notebook_reads_a_folder_in_the_thesis_layout(tmp_path, smoke, real):
    """Who has the stamps of the thesis points one parameter at them."""
    data, first = tmp_path / "kids", 0
    for split, n in (("train", 24), ("validation", 8), ("test", 9)):
        for name, cls in stamps.FOLDERS.items():
            write_stamps(data / split / name, cls, range(first, first + n), smoke, nested=cls == "source")
        first += n
    (data / "train" / "negatives" / "contaminant_3.fits").write_bytes(b"SIMPLE")
    given = {"data": str(data), "profile": "smoke", "workers": 1}
    execute(NOTEBOOKS / "01_data.py", tmp_path, **given, real_stamps=str(real))
    check_drawn("01", parameters.resolve(given))
    counts = printed(tmp_path / "out.ipynb")
    assert "1 of 123 files cannot be used" in counts
    few = {"experiments": ["bce", "f1"], "runs": 1}
    execute(LOSSES, tmp_path, **given, **few)
    check_drawn("02", parameters.resolve(given | few))
    assert "F_1 Soft loss" in printed(tmp_path / "out.ipynb")
    few["experiments"] = ["f1"]
    for number in ("03", "04", "06"):  # on the same run
        execute(next(NOTEBOOKS.glob(f"{number}_*.py")), tmp_path, **given, **few, protocol="code")
