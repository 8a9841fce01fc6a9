"""What is out of date, in which profile it is drawn, and what is trained before: dodo.py, in a small repository."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from doit import doit_cmd
from doit.cmd_base import ModuleTaskLoader
from filelock import FileLock, Timeout

from lensdet import parameters, runs

DODO = Path(__file__).parents[1] / "dodo.py"
GOOD = """# %% tags=["parameters"]
profile = None

# %%
import os
from pathlib import Path

folder = Path(os.environ["LENSDET_FIGURES"]) / profile
folder.mkdir(parents=True, exist_ok=True)
(folder / "good.txt").write_text(profile)
print("fig_1_2.png is kept as it was: no real stamps")
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two notebooks, of which the first fails; neither imports lensdet, so that their kernels start fast."""
    for folder in ("notebooks", "lensdet/papermill", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "01_bad.py").write_text("# %%\nraise ValueError('unlucky')\n")
    (tmp_path / "notebooks" / "02_losses.py").write_text(GOOD)
    (tmp_path / "lensdet" / "metrics.py").write_text("")
    (tmp_path / "lensdet" / "papermill" / "engine.py").write_text("")
    (tmp_path / "dodo.py").write_text(DODO.read_text())
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    for name in ("build", "results", "figures"):
        monkeypatch.setenv(f"LENSDET_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    complete("quick")
    return tmp_path


def complete(profile, but=0, experiments=None, **given):
    """Leave what tells that all runs of a profile are there, but some."""
    p = parameters.resolve({"profile": profile, **given})
    wanted = experiments or [*p.experiments, "IDE_3", "IDE_6"]
    folders = [runs.run_folder(p, e, run, p.survey_key()) for e in wanted for run in range(1, p.runs + 1)]
    for folder in folders[but:]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "logits.h5").write_text(folder.name)


def dodo(**given):
    """The module, as doit loads it with ``name=value`` on its command line."""
    doit_cmd.reset_vars()
    for name, value in given.items():
        doit_cmd.set_var(name, value)
    spec = importlib.util.spec_from_file_location("dodo_in_test", DODO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def doit(*arguments):
    """The exit status of doit."""
    given = dict(word.split("=") for word in arguments if "=" in word)
    return doit_cmd.DoitMain(ModuleTaskLoader(dodo(**given))).run([word for word in arguments if "=" not in word])


def listed(capsys):
    """What ``doit list`` says of each task: R(un) or U(p to date)."""
    capsys.readouterr()
    assert doit("list", "--status") == 0
    return {line.split()[1]: line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_a_notebook_that_fails_stops_no_other_and_what_is_drawn_is_up_to_date(repository, capsys):
    assert doit("run", "-o", "said.txt", "01", "02") == 1
    said = Path("said.txt").read_text().splitlines()
    assert "02_losses, profile quick: runs" in said and any(line.endswith(" s") for line in said)
    assert "02_losses, profile quick: fig_1_2.png is kept as it was: no real stamps" in said
    (failed,) = [line for line in said if "FAILED" in line]
    assert failed.startswith("01_bad, profile quick: FAILED. ") and "unlucky" in failed
    assert any(f"the cell that failed is in {repository}/build/quick/01_bad.ipynb" in line for line in said)
    assert (repository / "figures" / "quick" / "good.txt").read_text() == "quick"
    assert [listed(capsys)[name] for name in ("01", "02")] == ["R", "U"]

    (repository / "lensdet" / "papermill" / "engine.py").write_text("# draws nothing")
    assert listed(capsys)["02"] == "U"
    changed = repository / "lensdet" / "metrics.py", next(iter((repository / "results").rglob("logits.h5")))
    for path in changed:
        before = path.read_bytes()
        path.write_text("something else")
        assert listed(capsys)["02"] == "R", path
        path.write_bytes(before)
    assert listed(capsys)["02"] == "U"
    (repository / "figures" / "quick" / "good.txt").unlink()
    assert listed(capsys)["02"] == "R"


def test_each_notebook_takes_the_largest_profile_that_has_its_runs(repository):
    assert dodo().profile_of("02") == "quick"
    complete("lite", but=1)
    assert dodo().profile_of("02") == "quick"
    complete("lite", experiments=["bce", "fbeta", "f1", "f1_double"])
    assert [dodo().profile_of(number) for number in ("01", "02", "04", "05", "06")] == [*["lite"] * 4, "quick"]
    complete("lite", experiments=["bce"], segmentation="text")
    assert dodo().profile_of("06") == "lite" and dodo(profile="smoke").profile_of("06") == "smoke"


def test_the_candidates_notebook_takes_the_profile_of_its_finders(repository):
    assert dodo().profile_of("07") == "quick"
    with h5py.File(repository / "weights" / "bce.h5", "w") as file:
        file.attrs["about"] = '{"made": {"run": "overnight/bce-1/run_02"}}'
    assert dodo().profile_of("07") == "overnight"


def test_missing_runs_are_trained_before_their_notebook_one_kind_after_the_other(repository):
    assert not list(dodo().task_train())
    (repository / "notebooks" / "05_ensembles.py").write_text(GOOD)
    plain, ensembles = dodo(profile="evening").task_train()
    assert plain["name"] == "evening-plain" and len(plain["targets"]) == 4 * 5
    assert plain["actions"][0].action[-4:] == ["profile", "evening", "--jobs", "2"]
    assert "--ensembles" in ensembles["actions"][0].action and ensembles["task_dep"] == ["train:evening-plain"]
    reads = {task["basename"]: set(task["file_dep"]) for task in dodo(profile="evening").task_notebook()}
    assert set(plain["targets"]) <= reads["02"] and {*plain["targets"], *ensembles["targets"]} <= reads["05"]


def test_training_anew_moves_results_aside_and_removes_none(repository):
    (task,) = dodo(profile="quick", fresh="yes").task_train()
    assert task["task_dep"] == ["aside"] and task["uptodate"] == [False]
    (put_aside,) = dodo(profile="quick", fresh="yes").task_aside()["actions"]
    there = sorted((repository / "results" / "quick").rglob("*"))
    with FileLock(there[0] / ".lock"), pytest.raises(Timeout):
        put_aside()
    put_aside()
    moved = repository / "results" / "quick-aside-1"
    assert len([*moved.rglob("logits.h5")]) == 12 and not (repository / "results" / "quick").exists()
    complete("quick")
    put_aside()
    assert (repository / "results" / "quick-aside-2").exists() and moved.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [({"profile": "quik"}, "profile is one of smoke, quick"), ({"fresh": "yes"}, "profile=quick fresh=yes")],
)
def test_a_wrong_word_is_named_with_what_is_possible(repository, given, words):
    with pytest.raises(SystemExit, match=words):
        dodo(**given)


@pytest.mark.slow
def test_an_interrupted_notebook_is_run_again_and_the_others_are_not(repository, capsys):
    (repository / "notebooks" / "01_bad.py").write_text("# %%\nimport time\ntime.sleep(100)\n")
    process = subprocess.Popen([sys.executable, "-m", "doit", "01", "02"], env=os.environ, start_new_session=True)
    while not (repository / "figures" / "quick" / "good.txt").exists():
        time.sleep(0.5)
    time.sleep(5)  # until 02 has ended
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) != 0
    assert [listed(capsys)[name] for name in ("01", "02")] == ["R", "U"]
