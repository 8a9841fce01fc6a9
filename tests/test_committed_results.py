"""Every committed folder of results is found by its present name, whatever parameters are added later."""

import functools
import json
import subprocess
from pathlib import Path

import h5py
import pytest
from pydantic import Field

from lensdet import parameters, profiles, storage
from lensdet.chapters.candidates import domain_shift, independent_test
from lensdet.chapters.maxtree import sweep as segmentation_sweep
from lensdet.data import frozen_sets, maxtree
from lensdet.evaluation import ensembles
from lensdet.network.finders import EXPERIMENTS, load
from lensdet.runs import all_runs, complete_runs, run_folder
from lensdet.study import Study

RESULTS = Path(__file__).parents[1] / "results"
# Each folder, and what a user gives to have it found.  A folder that is added to results/ is added here; no name here
# ever changes.
RUNS = {
    "evening/IDE_3-a301b2b1": {},
    "evening/IDE_6-cc893103": {},
    "evening/bce-b3dd2d65": {"learning_rate": 1e-3},
    "evening/bce-f4037f19": {"learning_rate": 3e-3},
    "evening/bce-fd78f06a": {"learning_rate": 3e-4},
    "evening/bce-b76f194b": {"learning_rate": 3e-3, "segmentation": "text"},
    "evening/bce-b700e908": {
        "learning_rate": 3e-3,
        "segmentation": "text",
        "maxtree_area": 90,
        "maxtree_tolerance": 15,
    },
    "evening/bce-72dfe718": {"schedule": "constant", "momentum": 0.99, "learning_rate": 1e-4},
    "evening/fbeta-6c7e1389": {"schedule": "constant", "momentum": 0.99, "learning_rate": 1e-4},
    "evening/fbeta-5a93a50c": {"learning_rate": 3e-4},
    "evening/f1-5cc76739": {"learning_rate": 3e-4},
    "evening/f1_double-1a58a4e8": {"learning_rate": 3e-4},
    "evening/f1-0800745e": {"learning_rate": 1e-3},
    "evening/f1_double-c5cd5464": {"learning_rate": 1e-3},
    "evening/fbeta-851f80b2": {"learning_rate": 1e-3},
    "evening/fbeta-fd21b47d": {"learning_rate": 3e-3},
    "evening/f1-ef65fa9d": {"learning_rate": 3e-3},
    "evening/f1_double-329450eb": {"learning_rate": 3e-3},
    "lite/bce-b1d613ce": {},
    "lite/f1-d8b50331": {},
    "lite/f1_double-cb5e831c": {},
    "lite/fbeta-7da40747": {},
    "overnight/bce-ec1f4dee": {},
    "overnight/fbeta-971c916b": {},
    "quick/IDE_3-971fc920": {},
    "quick/IDE_6-c3e98acf": {},
    "quick/bce-77755574": {"learning_rate": 1e-3},
    "quick/bce-7a2482ae": {"learning_rate": 1e-3, "segmentation": "text"},
    "quick/bce-791ebde5": {"learning_rate": 1e-3, "segmentation": "code"},
    "quick/bce-41951ae6": {
        "learning_rate": 1e-3,
        "segmentation": "text",
        "maxtree_area": 90,
        "maxtree_tolerance": 15,
    },
    "quick/bce-ed05892e": {"learning_rate": 3e-3},
    "quick/bce-70e90f5b": {"learning_rate": 3e-3, "segmentation": "text"},
    "quick/bce-27710ffe": {
        "learning_rate": 3e-3,
        "segmentation": "text",
        "maxtree_area": 90,
        "maxtree_tolerance": 15,
    },
    "quick/f1-a0e58a0b": {"learning_rate": 1e-3},
    "quick/f1_double-7a899a5a": {"learning_rate": 1e-3},
    "quick/f1_double-fc587995": {"learning_rate": 3e-3},
    "quick/fbeta-26e237f0": {"learning_rate": 1e-3},
}
TRUTH = {
    "evening": "truth-95118a2e",
    "lite": "truth-6ae23edb",
    "overnight": "truth-95118a2e",
    "quick": "truth-95118a2e",
}
INDEPENDENT = "lite/independent-91c97f3b"
REAL = "lite/real-adb31bc6"
LARGE = "large-523b50d6"  # the large test set, of all profiles but smoke


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(RESULTS))


def resolved(folder):
    return parameters.resolve({"profile": folder.partition("/")[0], "workers": 1, **RUNS.get(folder, {})})


def found_folder(folder):
    """The run folders that lensdet looks for when it is given what is listed above, without ``run_01``."""
    p = resolved(folder)
    return run_folder(p, Path(folder).name.rpartition("-")[0], 1, p.survey_key()).parent


def folders_not_found():
    """Folders of runs and of truth tables that are not where lensdet looks for them."""
    lost = [folder for folder in RUNS if found_folder(folder) != RESULTS / folder]
    for profile, name in TRUTH.items():
        p = parameters.resolve({"profile": profile})
        lost += [name] if frozen_sets.truth_folder(p, p.survey_key()) != RESULTS / profile / name else []
    p = parameters.resolve({"profile": "lite"})
    finders = found_by("scores.h5", INDEPENDENT)["finders"]
    own = independent_test._made(p, finders, finders, p.independent_negatives, p.independent_lenses)
    return lost + ([] if INDEPENDENT.endswith(f"-{storage.digest(own)}") else [INDEPENDENT])


def found_by(name, folder):
    """What a file of scores says that it was made from."""
    with h5py.File(RESULTS / folder / name) as file:
        return json.loads(file.attrs["made"])


@functools.cache
def committed_files():
    """Paths in results/ of what is committed, of what is there where git is not."""
    listed = subprocess.run(["git", "-C", RESULTS, "ls-files", "-z", "."], capture_output=True, text=True)
    if listed.returncode:
        return {path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*") if path.is_file()}
    return set(filter(None, listed.stdout.split("\0")))


def test_every_committed_folder_of_results_is_listed_in_this_file():
    there = {"/".join(path.split("/")[:2]) for path in committed_files() if not path.startswith(f"{LARGE}/")}
    assert {frozen_sets.large_folder(parameters.resolve({"profile": p})).name for p in profiles.BEST} == {LARGE}
    truth = {f"{profile}/{name}" for profile, name in TRUTH.items()}
    assert there == {*RUNS, *truth, INDEPENDENT, REAL, "real_hosts.csv"}


def test_each_folder_of_results_is_found_by_its_name(committed):
    assert folders_not_found() == []


@pytest.mark.parametrize("folder", RUNS)
def test_runs_of_each_committed_folder_match_its_name(folder, committed):
    """`runs.all_runs` compares what a run says of itself with what is looked for."""
    p, experiment = resolved(folder), Path(folder).name.rpartition("-")[0]
    runs = all_runs(p, experiment, p.survey_key())
    own = {path.split("/")[2] for path in committed_files() if path.startswith(f"{folder}/")}
    assert own and own <= {run.folder.name for run in runs}
    for run in runs:
        content = run.parameters
        content.pop("run")
        assert folder.endswith(f"-{storage.digest(content)}")
        _, logits = run.logits("loss", "test")
        assert len(logits) == 2 * p.frozen_size


@pytest.mark.parametrize("folder", [folder for folder in RUNS if "/IDE_" in folder])
def test_committed_networks_of_ensembles_belong_to_the_committed_members(folder, committed):
    """`dynamic_weights` compares the members that a network was trained for with those that are there."""
    ensemble = Path(folder).name.rpartition("-")[0]
    weights = ensembles.dynamic_weights(Study(resolved(folder)), ensemble)
    assert weights.shape == (resolved(folder).runs, 2 * resolved(folder).frozen_size, int(ensemble[-1]))


def test_committed_independent_test_set_is_of_the_finders_in_weights():
    finders = found_by("scores.h5", INDEPENDENT)["finders"]
    assert finders == {name: load(f"thesis/{name}").digest for name in finders}


def test_logits_of_real_stamps_are_found_without_the_stamps(committed, monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "real_stamps", lambda _: tmp_path)
    found = {name: load(f"thesis/{name}") for name in EXPERIMENTS}
    kept = domain_shift.score(parameters.resolve({"profile": "lite"}), found, {k: f.digest for k, f in found.items()})
    assert set(kept) == set(found) and all(len(logits) for logits in kept["bce"].values())


# ---- a parameter that is added later


class LaterSimulation(parameters.Simulation):
    wobble: float = Field(0.0, description="added for this test")


class LaterSampling(parameters.Sampling):
    ghosts: tuple[int, int] = Field((0, 0), description="added for this test")


class LaterTraining(parameters.Training):
    dropout: float = Field(0.0, description="added for this test")


class LaterParameters(parameters.Parameters, LaterSimulation, LaterSampling, LaterTraining):
    pass


class LaterSettings(maxtree.Settings):
    """As `maxtree.Settings` with another field at its end."""

    def _asdict(self):
        return {**super()._asdict(), "holes": False}


@pytest.fixture
def later(monkeypatch):
    """A new parameter in each section and a new setting of the Max-Tree, none of them in `ADDED_LATER` yet."""
    for name in ("Simulation", "Sampling", "Training", "Parameters"):
        monkeypatch.setattr(parameters, name, globals()[f"Later{name}"])
    presets = {name: LaterSettings(*settings) for name, settings in maxtree.PRESETS.items()}
    for module in (maxtree, parameters):
        monkeypatch.setattr(module, "PRESETS", presets)
    return monkeypatch


def test_a_new_parameter_renames_no_folder_of_results(later, committed):
    later.setattr(
        parameters,
        "ADDED_LATER",
        parameters.ADDED_LATER | {"wobble": 0.0, "ghosts": (0, 0), "dropout": 0.0, "holes": False},
    )
    assert folders_not_found() == []
    p = parameters.resolve({"profile": "quick"})
    presets = [maxtree.Settings(*settings) for settings in maxtree.PRESETS.values()]  # as they are without it
    assert [segmentation_sweep._keyed(x) for x in maxtree.PRESETS.values()] == json.loads(json.dumps(presets))
    assert p.dropout == 0.0 and complete_runs(p, "bce", p.survey_key())  # what runs say of themselves agrees


@pytest.mark.parametrize("name", ["wobble", "ghosts", "dropout", "holes"])
def test_an_unregistered_new_parameter_would_rename_folders(later, committed, name):
    known = parameters.ADDED_LATER | {"wobble": 0.0, "ghosts": [0, 0], "dropout": 0.0, "holes": False}
    known.pop(name)
    later.setattr(parameters, "ADDED_LATER", known)
    assert folders_not_found() != []


@pytest.mark.parametrize("given", [{"wobble": 0.1}, {"ghosts": (0, 1)}, {"dropout": 0.5}])
def test_another_value_of_a_new_parameter_has_another_folder(later, committed, given):
    later.setattr(
        parameters,
        "ADDED_LATER",
        parameters.ADDED_LATER | {"wobble": 0.0, "ghosts": [0, 0], "dropout": 0.0, "holes": False},
    )
    p = parameters.resolve({"profile": "quick", **given})
    assert not run_folder(p, "bce", 1, p.survey_key()).exists()
