"""What is out of date, what is trained before, and what a failure or an end does to the others: dodo.py, in a small
repository.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from doit import doit_cmd
from doit.cmd_base import ModuleTaskLoader
from filelock import FileLock, Timeout

from tests.chapters.test_notebooks import complete

DODO = Path(__file__).parents[1] / "dodo.py"
GOOD = """# %% tags=["parameters"]
profile = None

# %%
import os
from pathlib import Path

folder = Path(os.environ["LENSDET_FIGURES"]) / profile
folder.mkdir(parents=True, exist_ok=True)
(folder / "02_good.txt").write_text(profile)
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


def dodo(*arguments, **given):
    """The module, as doit loads it with ``name=value`` on its command line."""
    doit_cmd.reset_vars()
    for name, value in given.items():
        doit_cmd.set_var(name, value)
    spec = importlib.util.spec_from_file_location("dodo_in_test", DODO)
    module = importlib.util.module_from_spec(spec)
    handler, hook = signal.getsignal(signal.SIGTERM), sys.excepthook
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["doit", *arguments])
        spec.loader.exec_module(module)
    signal.signal(signal.SIGTERM, handler)
    sys.excepthook = hook
    return module


def doit(*arguments):
    """The exit status of doit."""
    given = dict(word.split("=") for word in arguments if "=" in word)
    return doit_cmd.DoitMain(ModuleTaskLoader(dodo(*arguments, **given))).run([w for w in arguments if "=" not in w])


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
    assert failed.startswith("01_bad, profile quick: FAILED: ") and "unlucky" in failed
    assert any(f"the cell that failed is in {repository}/build/quick/01_bad.ipynb" in line for line in said)
    assert (repository / "figures" / "quick" / "02_good.txt").read_text() == "quick"
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
    (repository / "figures" / "quick" / "02_good.txt").unlink()
    assert listed(capsys)["02"] == "R"
    doit("info", "02")
    assert "Whether all that a notebook drew is still there" in capsys.readouterr().out


def test_code_that_changes_while_a_notebook_runs_leaves_it_out_of_date(repository, capsys):
    code = GOOD + f"Path({str(repository / 'lensdet' / 'metrics.py')!r}).write_text('newer')\n"
    (repository / "notebooks" / "02_losses.py").write_text(code)
    assert doit("run", "-o", "said.txt", "02") == 0
    assert listed(capsys)["02"] == "R"


def test_missing_runs_are_trained_before_their_notebook_one_kind_after_the_other(repository):
    assert not list(dodo().task_train())
    for number in ("05", "06"):
        (repository / "notebooks" / f"{number}_more.py").write_text(GOOD)
    plain, _, ensembles = dodo(profile="evening").task_train()
    assert plain["name"] == "evening-plain" and len(plain["targets"]) == 4 * 5
    assert plain["actions"][0].action[-4:] == ["profile", "evening", "--jobs", "2"]
    assert "--ensembles" in ensembles["actions"][0].action and ensembles["task_dep"] == ["train:evening-segmented"]
    reads = {task["basename"]: set(task["file_dep"]) for task in dodo(profile="evening").task_notebook()}
    assert set(plain["targets"]) <= reads["02"] and {*plain["targets"], *ensembles["targets"]} <= reads["05"]
    assert [task["name"] for task in dodo("05", profile="evening").task_train()] == [
        "evening-plain",
        "evening-ensembles",
    ]


def test_runs_that_no_notebook_of_a_profile_needs_are_not_trained(repository):
    """02 is drawn in lite, where the segmented runs of 06 are missing; 06 is drawn in quick."""
    complete("lite")
    complete("quick", experiments=["bce"], segmentation="text")
    (repository / "notebooks" / "06_maxtree.py").write_text(GOOD)
    assert dodo().PROFILE_OF["02"] == "lite" and dodo().PROFILE_OF["06"] == "quick"
    assert not list(dodo().task_train())


def test_a_notebook_whose_training_failed_is_named_as_not_run(repository):
    module = dodo("02", profile="smoke")
    (repository / "build" / "smoke").mkdir()
    (repository / "build" / "smoke" / "02_losses.ipynb").write_text('"output_type": "error"')  # of an earlier run
    (train,) = module.task_train()
    fails = {"basename": "train", "actions": ["exit 1"], "targets": train["targets"]}
    tasks = {"DOIT_CONFIG": module.DOIT_CONFIG, "task_train": lambda: fails, "task_notebook": module.task_notebook}
    assert doit_cmd.DoitMain(ModuleTaskLoader(tasks)).run(["run", "-o", "said.txt", "02"]) != 0
    said = Path("said.txt").read_text()
    assert "train: FAILED: " in said and "02_losses, profile smoke: not run: " in said
    assert "the cell that failed" not in said


def test_training_anew_moves_results_aside_and_removes_none(repository):
    (task,) = dodo(profile="quick", fresh="yes").task_train()
    assert task["task_dep"] == ["aside"] and task["uptodate"] == [False]
    (move_results,) = dodo(profile="quick", fresh="yes").task_aside()["actions"]
    there = sorted((repository / "results" / "quick").rglob("*"))
    with FileLock(there[0] / ".lock"), pytest.raises(Timeout):
        move_results()
    move_results()
    moved = repository / "results" / "quick-aside-1"
    before = sum(path.name == "logits.h5" for path in there)
    assert len([*moved.rglob("logits.h5")]) == before > 0 and not (repository / "results" / "quick").exists()
    complete("quick")
    move_results()
    assert (repository / "results" / "quick-aside-2").exists() and moved.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [({"profile": "quik"}, "profile is one of smoke, quick"), ({"fresh": "yes"}, "profile=quick fresh=yes")],
)
def test_a_wrong_word_is_named_with_what_is_possible(repository, given, words):
    with pytest.raises(SystemExit, match=words):
        dodo(**given)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_notebook_is_run_again_and_the_others_are_not(repository, capsys, how):
    after = "import pathlib, time\ntime.sleep(40)\npathlib.Path('late').touch()\n"
    (repository / "notebooks" / "01_bad.py").write_text(f"# %%\n{after}")
    command = [sys.executable, "-m", "doit", "01", "02"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background of a shell ignore Ctrl-C
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True, preexec_fn=heard)
    while not (repository / "figures" / "quick" / "02_good.txt").exists():
        assert process.poll() is None
        time.sleep(0.5)
    time.sleep(5)  # until 02 has ended
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.terminate()
    said, wrong = process.communicate(timeout=60)
    assert process.returncode and said.endswith("interrupted; the same command goes on\n") and "Traceback" not in wrong
    assert [listed(capsys)[name] for name in ("01", "02")] == ["R", "U"]
    time.sleep(45)
    assert not list(repository.rglob("late"))  # the kernel has ended, too
