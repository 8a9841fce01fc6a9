"""Running the notebooks: which ones, what a failure or an interruption does to the others, and training anew."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import papermill
import pytest
from filelock import FileLock

from lensdet import parameters, runs, storage
from lensdet.machinery import drawing, stale

GOOD = """# %% tags=["parameters"]
profile = None

# %%
import os
from pathlib import Path

from IPython import get_ipython

folder = Path(os.environ["LENSDET_FIGURES"]) / profile
folder.mkdir(parents=True, exist_ok=True)
(folder / "good.txt").write_text(profile)
told = {"drawn": ["good.txt"]}  # as lensdet.storage.register_outputs has it
if get_ipython():
    get_ipython().display_pub.publish({"application/vnd.lensdet.told+json": told})
"""
ADDS = """
result = folder.parents[1] / "results" / profile / "bce-1" / "heat.h5"
result.parent.mkdir(parents=True, exist_ok=True)
result.write_text(str(len(list(result.parent.glob("*")))))
told["kept"] = [f"{profile}/bce-1/heat.h5"]
"""

TRAINED = []  # what would have been trained


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two notebooks, of which the first fails; neither imports lensdet, so that their kernels start fast."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_bad.py").write_text("# %%\nraise ValueError('unlucky')\n")
    (tmp_path / "notebooks" / "02_good.py").write_text(GOOD)
    (tmp_path / "notebooks" / "other.py").write_text("# %%\nraise ValueError('no notebook of ours')\n")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    for name in ("build", "results", "figures"):
        monkeypatch.setenv(f"LENSDET_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "_train", lambda arguments, jobs: TRAINED.append((arguments, jobs)))
    TRAINED.clear()
    return tmp_path


@pytest.fixture
def no_kernel(monkeypatch):
    """Notebooks run in this process, one after the other; the list of those that did."""
    ran = []

    def one_by_one(due, jobs):
        return [named[0].stem for named in due if not drawing.draw_and_tell(*named)]

    monkeypatch.setattr(drawing, "side_by_side", one_by_one)

    def execute(notebook, copy, given, **_):
        ran.append(Path(notebook).stem)
        Path(copy).write_text("half")
        left = {}
        exec(Path(notebook).read_text().replace("profile = None", f"profile = {given['profile']!r}"), left)
        cells = [{"outputs": [{"data": {storage.OUTPUTS: left.get("told", {})}}]}]
        Path(copy).write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return ran


def complete(profile, leave_out=0, experiments=None, segmentation="none"):
    """Leave what tells that all runs of a profile are there, but some."""
    p = parameters.resolve({"profile": profile, "segmentation": segmentation})
    wanted = experiments or [*p.experiments, "IDE_3", "IDE_6"]
    folders = [runs.run_folder(p, e, run, p.survey_key()) for e in wanted for run in range(1, p.runs + 1)]
    for folder in folders[leave_out:]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "logits.h5").write_text(folder.name)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["03"], ["no notebook 03", "there are 01, 02"]),
        (["02", "7", "8"], ["no notebook 7, 8"]),
        (
            ["--profile", "quik"],
            ["'quik'", "'smoke', 'quick', 'evening', 'overnight', 'lite' or 'thesis'", "did you mean 'quick'"],
        ),
        (["--fresh"], ["say which profile", "--profile quick"]),
        (["--fresh", "--list", "--profile", "quick"], ["not allowed with"]),
    ],
)
def test_draw_command_says_what_it_cannot_run(repository, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        drawing.main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []
    assert not (repository / "build").exists()


def test_a_notebook_that_fails_does_not_stop_the_others(repository, capfd):
    assert drawing.main(["--profile", "smoke"]) == 1
    assert (repository / "figures" / "smoke" / "good.txt").read_text() == "smoke"
    said = capfd.readouterr()
    assert "01_bad: FAILED" in said.out and "unlucky" in said.out
    assert "02_good: " in said.out and "failed: 01_bad\n" in said.err
    built = repository / "build" / "smoke"
    left = {"01_bad.failed.ipynb", "01_bad.json", "02_good.ipynb", "02_good.json"}
    assert {f.name for f in built.iterdir()} == left
    assert "unlucky" in (built / "01_bad.failed.ipynb").read_text()


def test_one_notebook_is_run_by_its_number(repository, no_kernel):
    assert drawing.main(["02", "--profile", "lite"]) == 0
    assert (repository / "figures" / "lite" / "good.txt").read_text() == "lite"
    assert no_kernel == ["02_good"]


def test_only_stale_notebooks_run(repository, no_kernel, capsys):
    bad = repository / "notebooks" / "01_bad.py"
    assert drawing.main(["--profile", "smoke"]) == 1
    assert drawing.main(["--profile", "smoke"]) == 1
    assert no_kernel == ["01_bad", "02_good", "01_bad"]  # what failed is tried again
    bad.write_text("# %%\n")
    assert drawing.main(["--profile", "smoke"]) == 0
    assert not (repository / "build" / "smoke" / "01_bad.failed.ipynb").exists()
    del no_kernel[:]
    assert drawing.main(["--profile", "smoke"]) == 0 and no_kernel == []
    assert "02_good: up to date" in capsys.readouterr().out
    assert drawing.main(["--profile", "smoke", "--force", "02"]) == 0 and no_kernel == ["02_good"]


def test_list_says_why_notebooks_are_stale_and_runs_none(repository, no_kernel, capsys):
    drawing.main(["--profile", "smoke", "02"])
    (repository / "figures" / "smoke" / "good.txt").write_text("by hand")
    del no_kernel[:]
    capsys.readouterr()
    assert drawing.main(["--list", "--profile", "smoke"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["01_bad: stale: not run yet", "02_good: stale: figures: good.txt changed"]
    drawing.main(["--profile", "smoke", "01"])
    drawing.main(["--list", "--profile", "smoke", "01"])
    assert "01_bad: stale: interrupted or failed" in capsys.readouterr().out
    assert no_kernel == ["01_bad"]


def test_figures_that_are_no_longer_drawn_are_named(repository, no_kernel, capsys):
    drawing.main(["--profile", "smoke", "02"])
    notebook = repository / "notebooks" / "02_good.py"
    notebook.write_text(GOOD.replace("good.txt", "better.txt"))
    drawing.main(["--profile", "smoke", "02"])
    assert "no longer drawn, may be removed: good.txt" in capsys.readouterr().out
    assert (repository / "figures" / "smoke" / "good.txt").exists()


def test_the_largest_complete_profile_is_drawn(repository, capsys):
    losses = repository / "notebooks" / "02_good.py"
    assert drawing.best_profile(losses) == ("quick", "profile quick, 0 of 8 runs: the others are trained first")
    complete("quick")
    complete("lite", leave_out=1)
    drawing.main(["--list"])
    assert "02_good: stale: not run yet (profile quick, 8 runs)" in capsys.readouterr().out
    complete("lite")
    assert drawing.best_profile(losses)[0] == "lite"
    complete("thesis")
    assert drawing.best_profile(losses) == ("thesis", "profile thesis, 40 runs")


def test_each_notebook_takes_the_best_profile_with_the_runs_it_needs(repository):
    complete("quick")
    complete("lite", experiments=["bce", "fbeta", "f1", "f1_double"])
    best = {n: drawing.best_profile(Path(f"{n}_some.py"))[0] for n in ("01", "02", "03", "04", "05", "06")}
    assert best == {"01": "lite", "02": "lite", "03": "lite", "04": "lite", "05": "quick", "06": "quick"}
    complete("lite", experiments=["bce"], segmentation="text")
    complete("lite", experiments=["IDE_3", "IDE_6"])
    assert {drawing.best_profile(Path(f"{n}_some.py"))[0] for n in ("05", "06")} == {"lite"}


def test_the_candidates_notebook_takes_the_profile_of_its_finders(repository):
    complete("lite")
    assert drawing.best_profile(Path("07_some.py"))[0] == "quick"  # no finders
    (repository / "weights").mkdir()
    with h5py.File(repository / "weights" / "bce.h5", "w") as file:
        file.attrs["about"] = json.dumps({"made": {"run": "overnight/bce-0/run_01"}})
    assert drawing.best_profile(Path("07_some.py")) == ("overnight", "profile overnight, of the finders in weights/")


def test_fresh_moves_results_aside_and_removes_none(repository, no_kernel, capsys):
    complete("quick")
    kept = {f.relative_to(repository / "results" / "quick"): f.read_bytes() for f in _files(repository, "quick")}
    assert drawing.main(["--profile", "quick", "--fresh", "02"]) == 0
    assert "go on without --fresh" in capsys.readouterr().out
    aside = repository / "results" / "quick-aside-1"
    assert {f.relative_to(aside): f.read_bytes() for f in _files(repository, "quick-aside-1")} == kept
    assert not (repository / "results" / "quick").exists()
    complete("quick")
    assert drawing.main(["--profile", "quick", "--fresh", "02"]) == 0
    assert (repository / "results" / "quick-aside-2").is_dir() and no_kernel == ["02_good"] * 2


def _files(repository, profile):
    return [f for f in (repository / "results" / profile).rglob("*") if f.is_file()]


def test_fresh_refuses_to_move_a_training_at_work(repository, no_kernel, capsys):
    complete("quick")
    folder = next((repository / "results" / "quick").rglob("run_01"))
    with FileLock(folder / ".lock"), pytest.raises(SystemExit):
        drawing.main(["--profile", "quick", "--fresh"])
    assert "a training is at work there" in capsys.readouterr().err
    assert folder.is_dir() and no_kernel == []


def test_an_interrupted_draw_resumes_at_the_interrupted_notebook(repository, no_kernel, capsys):
    first, second = repository / "notebooks" / "01_bad.py", repository / "notebooks" / "02_good.py"
    first.write_text(GOOD.replace("good.txt", "first.txt"))
    second.write_text(GOOD + "raise KeyboardInterrupt\n")
    assert drawing.main(["--profile", "smoke"]) == 130
    assert "run the same again" in capsys.readouterr().out
    left = {f.name for f in (repository / "build" / "smoke").iterdir()}
    assert left == {"01_bad.ipynb", "01_bad.json", "02_good.json"}
    second.write_text(GOOD)
    assert drawing.main(["--profile", "smoke"]) == 0
    assert no_kernel == ["01_bad", "02_good", "02_good"]


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "raise ValueError"])
def test_results_of_an_unfinished_notebook_make_no_other_stale(repository, no_kernel, end):
    first, second = repository / "notebooks" / "01_bad.py", repository / "notebooks" / "02_good.py"
    first.write_text(GOOD.replace("good.txt", "first.txt"))
    second.write_text(GOOD + ADDS + f"{end}\n")
    assert drawing.main(["--profile", "smoke"]) in (1, 130)
    assert stale.reasons(first, "smoke", [second]) == []
    second.write_text(GOOD + ADDS)
    assert drawing.main(["--profile", "smoke"]) == 0
    assert drawing.main(["--profile", "smoke"]) == 0
    assert no_kernel == ["01_bad", "02_good", "02_good"]
    second.write_text(GOOD + ADDS + f"{end}\n")  # once it ended well, and now it does not
    drawing.main(["--profile", "smoke", "02"])
    assert stale.reasons(first, "smoke", [second]) == []


def test_results_added_by_another_process_make_a_notebook_stale(repository, no_kernel):
    notebook = repository / "notebooks" / "02_good.py"
    notebook.write_text(GOOD + ADDS + "result.with_name('run_09.csv').write_text('of a training beside it')\n")
    assert drawing.main(["--profile", "smoke", "02"]) == 0
    assert stale.reasons(notebook, "smoke") == ["results: bce-1/run_09.csv new"]
    notebook.write_text(GOOD + ADDS)
    assert drawing.main(["--profile", "smoke", "02"]) == 0
    assert stale.reasons(notebook, "smoke") == []


def test_a_comparison_that_fails_is_reported(repository, no_kernel, monkeypatch, capsys):
    def fails(profile):
        raise ValueError("logits.h5: changed or damaged")

    monkeypatch.setattr(drawing, "compare", fails)
    assert drawing.main(["--profile", "smoke", "02"]) == 1
    said = capsys.readouterr()
    assert "comparison of smoke with the thesis: FAILED\nlogits.h5: changed" in said.out
    assert said.err == "failed: comparison\n" and (repository / "figures" / "index.md").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_the_notebook_stale_and_no_half_file(repository):
    """As by Ctrl-C, with a kernel: what was up to date before is stale afterwards, and nothing is half written."""
    slow = "\nimport time\n\n(folder / 'begun').touch()\ntime.sleep(900)\n"
    complete("smoke")
    (repository / "notebooks" / "01_bad.py").unlink()
    assert drawing.main(["--profile", "smoke"]) == 0
    (repository / "notebooks" / "02_good.py").write_text(GOOD + slow)
    command = [sys.executable, "-m", "lensdet", "draw", "--profile", "smoke"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    begun, ends = repository / "figures" / "smoke" / "begun", time.monotonic() + 600
    while not begun.exists() and time.monotonic() < ends:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    notebook = repository / "notebooks" / "02_good.py"
    assert stale.reasons(notebook, "smoke") == ["interrupted or failed"]
    left = {f.name for f in (repository / "build" / "smoke").iterdir()}
    assert left == {"02_good.ipynb", "02_good.json"}  # the copy is that of the run before


@pytest.mark.slow
def test_notebooks_that_train_nothing_run_side_by_side(repository, capfd):
    """Each waits for the other to have begun; a third fails and stops neither."""
    complete("smoke")
    meets = "\nimport time\n\n(folder / 'ONE').touch()\nwhile not (folder / 'OTHER').exists():\n    time.sleep(0.1)\n"
    for name, one, other in (("02_good", "a", "b"), ("03_good", "b", "a")):
        own = GOOD.replace("good.txt", f"{name}.txt") + meets.replace("ONE", one).replace("OTHER", other)
        (repository / "notebooks" / f"{name}.py").write_text(own)
    assert drawing.main(["--profile", "smoke"]) == 1
    said = capfd.readouterr()
    assert "01_bad: FAILED" in said.out and "failed: 01_bad\n" in said.err
    assert "02_good: running; not run yet" in said.out and "03_good: running; not run yet" in said.out
    assert drawing.main(["--profile", "smoke", "02", "03"]) == 0
    assert capfd.readouterr().out.count("up to date") == 2


@pytest.mark.slow
def test_ctrl_c_interrupts_all_notebooks_that_run_side_by_side(repository):
    complete("smoke")
    slow = "\nimport time\n\n(folder / f'begun_{NAME}').touch()\ntime.sleep(900)\n"
    for name in ("01_bad", "02_good"):
        (repository / "notebooks" / f"{name}.py").write_text(GOOD + slow.replace("{NAME}", name))
    command = [sys.executable, "-m", "lensdet", "draw", "--profile", "smoke"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    begun, ends = repository / "figures" / "smoke", time.monotonic() + 600
    while len(list(begun.glob("begun_*"))) < 2 and time.monotonic() < ends:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)  # the parent alone
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130 and said.count("interrupted. What was drawn before counts") == 2, said
    for name in ("01_bad", "02_good"):
        assert stale.reasons(repository / "notebooks" / f"{name}.py", "smoke") == ["interrupted or failed"]


def test_runs_that_a_notebook_needs_are_trained_before_it(repository, no_kernel):
    """Losses for most, networks of ensembles for 05 alone, both kinds of stamps for 06, for 01 and 07 nothing."""
    notebook = {number: repository / "notebooks" / f"{number}_x.py" for number in [*drawing.TRAIN, "01", "07"]}
    own = ["-p", "profile", "smoke"]
    bce, ensembles = [*own, "-p", "experiments", "bce"], [*own, "--ensembles"]
    segmented = [*bce, "-p", "segmentation", "text"]
    expected = {"01": [], "02": [own], "03": [own], "05": [ensembles], "06": [bce, segmented], "07": []}
    assert {number: drawing.trainings(notebook[number], "smoke") for number in expected} == expected
    assert drawing.main(["--profile", "smoke", "02", "--jobs", "3"]) == 0
    assert TRAINED == [(own, 3)] and no_kernel == ["02_good"]
    complete("smoke", experiments=["bce", "fbeta", "f1", "f1_double"])
    expected |= {"02": [], "03": [], "06": [segmented]}
    assert {number: drawing.trainings(notebook[number], "smoke") for number in expected} == expected
    complete("smoke")
    assert drawing.trainings(notebook["05"], "smoke") == []


def test_training_for_a_later_notebook_makes_no_earlier_one_stale(repository, no_kernel, monkeypatch):
    def train(arguments, jobs):
        complete("smoke", experiments=["IDE_3"] if "--ensembles" in arguments else ["bce", "fbeta", "f1", "f1_double"])

    monkeypatch.setattr(drawing, "_train", train)
    for number in ("01", "02", "05"):
        (repository / "notebooks" / f"{number}_of_several.py").write_text(GOOD.replace("good", number))
    for asked in (["01"], ["02"], ["05"]):
        assert drawing.main(["--profile", "smoke", *asked]) in (0, 1)  # 01_bad fails
    every = drawing.notebooks()
    for k, notebook in enumerate(every):
        if notebook.stem.endswith("several"):
            assert stale.reasons(notebook, "smoke", every[k + 1 :]) == []
    assert drawing.main(["--profile", "smoke", "01", "02", "05"]) in (0, 1)
    assert no_kernel.count("02_of_several") == 1


@pytest.mark.slow
def test_a_training_that_fails_is_reported(repository, monkeypatch, capfd):
    monkeypatch.undo()
    drawing._train(["-p", "profile", "quik"], 2)
    said = capfd.readouterr()
    assert "did you mean 'quick'" in said.err
    assert "lensdet train -p profile quik --jobs 2: FAILED, exit status 2; the notebook tries" in said.out


@pytest.mark.slow
def test_interrupting_the_draw_command_interrupts_its_training(tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"#!{sys.executable}\nimport sys, time\nfrom pathlib import Path\nhere = Path({str(tmp_path)!r})\n"
        "(here / 'began').write_text(' '.join(sys.argv[1:]))\n"
        "try:\n    time.sleep(900)\nexcept KeyboardInterrupt:\n    (here / 'interrupted').touch()\n"
    )
    stand_in.chmod(0o755)
    begins = f"import sys\nfrom lensdet.machinery import drawing\nsys.executable = {str(stand_in)!r}\n"
    asks = f"{begins}drawing._train(['-p'], 2)\n"
    process = subprocess.Popen([sys.executable, "-c", asks], stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 600
    while not (tmp_path / "began").exists() and time.monotonic() < ends:
        time.sleep(0.1)
    time.sleep(0.3)  # into its sleep
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) != 0
    assert (tmp_path / "began").read_text() == "-m lensdet train -p --jobs 2" and (tmp_path / "interrupted").exists()
