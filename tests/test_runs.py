"""Run folders: nothing half-written, nothing taken for what it is not, no digit lost."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lensdet import parameters, runs, storage
from lensdet.chapters import style
from lensdet.data import mocklens
from lensdet.network.checkpoints import SELECTORS
from lensdet.papermill import engine as papermill_engine
from lensdet.runs import Run
from lensdet.survey import ranking

KEY = "0123abcd"

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """An empty folder to work in, as if lensdet were installed, with no repository around and no variable set."""
    for name in [name for name in os.environ if name.startswith("LENSDET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(storage, "__file__", str(tmp_path / "site-packages" / "lensdet" / "storage.py"))
    folder = (tmp_path / "work").resolve()
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write_run(p, loss, run, best=1.0):
    """A complete run folder with three test images."""
    folder = runs.run_folder(p, loss, run, KEY)
    storage.write_json(folder / "parameters.json", p.experiment(loss, KEY) | {"run": run})
    storage.write_csv(folder / "history.csv", pd.DataFrame({"chunk": [0, 1], "loss": [best + 1, best]}))
    rows = np.zeros(3, mocklens.ROW)
    rows["label"] = [1, 1, 0]
    logits = {selector: {"test": np.arange(3, dtype=np.float32) + run} for selector in SELECTORS}
    runs.write_logits(folder / "logits.h5", logits, {"test": rows})
    return folder


# ---- atomic writes


def test_atomic_write_makes_folders_and_replaces_the_file(tmp_path):
    path = tmp_path / "a" / "b.txt"
    for text in ("first", "second"):
        with storage.atomic(path) as beside:
            assert beside.parent == path.parent and beside != path
            assert beside.name.endswith(".b.txt")  # h5py, NumPy and Keras go by the end of a name
            beside.write_text(text)
        assert path.read_text() == text
    assert [f.name for f in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_atomic_write_leaves_the_old_file_only(tmp_path, error):
    path = tmp_path / "b.txt"
    path.write_text("old")
    with pytest.raises(error), storage.atomic(path) as beside:
        beside.write_text("half")
        raise error
    assert [f.name for f in tmp_path.iterdir()] == ["b.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("write", [storage.write_json, storage.write_csv, runs.write_logits])
def test_writers_leave_no_half_written_file(tmp_path, write):
    broken = {
        storage.write_json: ({"fine": 1, "not JSON": object()},),
        storage.write_csv: ("no data frame",),
        runs.write_logits: ({"loss": {"test": np.zeros(2)}, "other": None}, {}),
    }[write]
    with pytest.raises((TypeError, AttributeError)):
        write(tmp_path / "file", *broken)
    assert list(tmp_path.iterdir()) == []


# ---- round trips


def test_floats_written_to_csv_are_read_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=50) * 10.0 ** rng.integers(-300, 300, 50), [0.1, 1 / 3, 5e-324, np.nan]])
    frame = pd.DataFrame({"chunk": np.arange(len(values)), "loss": values})
    storage.write_csv(tmp_path / "history.csv", frame)
    read = Run(tmp_path).history
    assert read["loss"].to_numpy().tobytes() == values.tobytes()
    assert read["chunk"].dtype == int
    content = {"b": list(values[:-1]), "a": None}
    storage.write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
    assert (tmp_path / "a.json").read_text().endswith("\n")


def test_a_parquet_table_is_read_back_as_from_csv(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"alpha": rng.random(50, np.float32), "x": rng.normal(size=50), "n": np.arange(50),
                          "host": ["lrg", "contaminant"] * 25, "gap": [np.nan, 0.1] * 25})  # fmt: skip
    frame.loc[3, "alpha"] = np.nan
    storage.write_csv(tmp_path / "a.csv", frame)
    storage.write_parquet(tmp_path / "a.parquet", frame)
    expected = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), expected, check_exact=True)


def test_written_logits_are_read_back_exactly(here, smoke):
    folder = write_run(smoke, "bce", 3)
    labels, logits = Run(folder).logits("code_loss", "test")
    assert labels.dtype == logits.dtype == np.float32
    np.testing.assert_array_equal(labels, [1, 1, 0])
    np.testing.assert_array_equal(logits, [3, 4, 5])
    with h5py.File(folder / "logits.h5") as file:
        assert file["rows/test"].dtype == mocklens.ROW


# ---- whose run it is


def test_run_folder_is_named_by_profile_experiment_and_run(here, smoke):
    folder = runs.run_folder(smoke, "fbeta", 3, KEY)
    assert folder == here / "smoke" / smoke.experiment_name("fbeta", KEY) / "run_03"
    assert folder.parent.name.startswith("fbeta-")


def test_only_complete_runs_count(here, smoke):
    p = smoke.model_copy(update={"runs": 3})
    folders = [write_run(p, "bce", run) for run in (1, 2, 3, 4)]
    (folders[1] / "logits.h5").unlink()
    assert not Run(folders[1]).is_complete
    assert runs.complete_runs(p, "bce", KEY) == [Run(folders[0]), Run(folders[2])]
    assert runs.complete_runs(p, "f1", KEY) == []
    with pytest.raises(FileNotFoundError, match="run_02.*no complete run; train it"):
        Run(folders[1]).logits("loss", "test")


def test_runs_of_other_parameters_or_data_are_never_loaded(here, smoke):
    write_run(smoke, "fbeta", 1)
    for given in ({"beta": 0.5}, {"seed": 1}, {"width": 16}, {"momentum": 0.99}, {"zoom": (1.0, 1.1)}):
        other = parameters.resolve({**smoke.model_dump(), **given})
        assert runs.complete_runs(other, "fbeta", KEY) == []
    assert runs.complete_runs(smoke, "fbeta", "another0") == []
    assert len(runs.complete_runs(smoke, "fbeta", KEY)) == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"width": 16}, "width differ"),
        ({"run": 2}, "run differ"),
        ({"data": "another0", "learning_rate": 5.0}, "data, learning_rate differ"),
        ({"added": 1}, "added differ"),
    ],
)
def test_a_run_that_differs_names_the_differing_parameters(here, smoke, change, words):
    folder = write_run(smoke, "bce", 1)
    Run(folder).check(smoke, "bce", 1, KEY)
    found = json.loads((folder / "parameters.json").read_text())
    storage.write_json(folder / "parameters.json", found | change)
    with pytest.raises(ValueError, match=f"{folder} holds another run: {words}"):
        runs.complete_runs(smoke, "bce", KEY)


def test_a_run_that_lacks_a_parameter_is_refused(here, smoke):
    folder = write_run(smoke, "bce", 1)
    found = json.loads((folder / "parameters.json").read_text())
    del found["patience"]
    storage.write_json(folder / "parameters.json", found)
    with pytest.raises(ValueError, match="patience differ"):
        Run(folder).check(smoke, "bce", 1, KEY)


@pytest.mark.parametrize("best, median", [([3.0], 1), ([3.0, 1.0], 2), ([3.0, 1.0, 2.0], 3), ([4.0, 1.0, 3.0, 2.0], 4)])
def test_median_run_is_that_of_the_median_validation_loss(here, smoke, best, median):
    several = [Run(write_run(smoke, "bce", run, value)) for run, value in enumerate(best, 1)]
    assert runs.median_run(several).number == median


# ---- places and provenance


def test_root_is_the_clone_of_the_working_folder_or_lensdet_root(tmp_path, monkeypatch):
    monkeypatch.delenv("LENSDET_ROOT", raising=False)
    for part in ("notebooks", "lensdet"):
        (tmp_path / "clone" / part).mkdir(parents=True)
    (tmp_path / "clone" / "notebooks" / "02_losses.py").touch()
    monkeypatch.chdir(tmp_path / "clone" / "notebooks")  # where JupyterLab runs a notebook
    assert storage.root() == (tmp_path / "clone").resolve()
    (tmp_path / "other" / "notebooks").mkdir(parents=True)  # somebody's own project
    (tmp_path / "other" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "other")
    assert storage.root() == ROOT
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    assert storage.root() == tmp_path.resolve()


PLACES = {"RESULTS": storage.results_dir, "BUILD": storage.build_dir, "FIGURES": storage.figures_dir}


@pytest.mark.parametrize("name", PLACES)
def test_output_folders_follow_environment_variables(tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"LENSDET_{name}", str(tmp_path / "x"))
    assert PLACES[name]() == tmp_path / "x"
    monkeypatch.delenv(f"LENSDET_{name}")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    assert PLACES[name]() == tmp_path / name.lower()


@pytest.mark.parametrize("name", PLACES)
def test_without_the_repository_output_goes_to_the_current_folder(outside, monkeypatch, name):
    monkeypatch.setenv(f"LENSDET_{name}", str(outside / "x"))
    assert PLACES[name]() == outside / "x"
    monkeypatch.delenv(f"LENSDET_{name}")
    assert PLACES[name]() == outside / name.lower()
    with pytest.raises(FileNotFoundError, match="set LENSDET_ROOT"):
        storage.root()


def test_an_installed_package_works_outside_the_repository(outside):
    subprocess.run(["git", "init", "-q"], check=True)
    words = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null", "commit", "--allow-empty"]
    subprocess.run(["git", *words, "-qm", "a"], check=True)
    assert runs.commit() is None  # that of somebody's own project is not ours
    assert runs.provenance()["commit"] is None and papermill_engine.stamp()["commit"] is None
    p = parameters.resolve({})
    assert storage.real_stamps(p) == outside.parent / "shared" / "data" / "cutouts"
    assert runs.run_folder(p, "bce", 1, KEY).is_relative_to(outside / "results" / "quick")
    assert style.folder(p) == outside / "figures" / "quick"
    ranked = parameters.resolve({"survey": outside / "mine"})
    assert ranking.output_folder(ranked) == outside / "build" / "candidates" / "mine"
    (outside / "DR4.1").mkdir()
    ranked = parameters.resolve({"survey": outside / "DR4.1"})  # not in the folder of DR4.2
    assert ranking.output_folder(ranked) == outside / "build" / "candidates" / "DR4.1"


def test_real_stamps_folder_is_shared_data_unless_given(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path / "clone"))
    assert storage.real_stamps(parameters.resolve({})) == tmp_path / "shared" / "data" / "cutouts"
    assert storage.real_stamps(parameters.resolve({"real_stamps": str(tmp_path)})) == tmp_path


def test_commit_is_the_short_hash_with_a_plus_if_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["-c", "core.hooksPath=/dev/null", "commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert runs.commit() == head[:12]
    (tmp_path / "untracked").touch()
    assert runs.commit() == head[:12]
    (tmp_path / "a").write_text("2")
    assert runs.commit() == head[:12] + "+"


def test_provenance_has_versions_backend_and_device(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    storage.write_json(tmp_path / "provenance.json", runs.provenance())
    found = json.loads((tmp_path / "provenance.json").read_text())
    assert found["versions"]["numpy"] == np.__version__
    assert found["backend"] and found["device"] and found["python"] and found["onednn"] == "0"


def test_a_kept_table_is_made_once_and_read_back_exactly(tmp_path):
    table = pd.DataFrame({"x": np.random.default_rng(0).random(50) / 3, "n": range(50)})
    path, made = tmp_path / "kept" / "table.csv", []

    def make():
        made.append(1)
        return table

    for _ in range(2):
        pd.testing.assert_frame_equal(storage.kept_table(path, make), table, check_exact=True)
    assert made == [1] and path.exists()
