"""What makes a notebook stale, and what does not."""

import json
from importlib import metadata

import pytest

from lensdet import storage
from lensdet.machinery import stale

NOTEBOOK = "# %%\nfrom lensdet import inner\n"
LOGITS = "results/smoke/bce-1/run_01/logits.h5"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with three notebooks that have been run, a package of three modules, and some results."""
    package = tmp_path / "lensdet"
    (tmp_path / "notebooks").mkdir()
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("late = 1\n")
    write(package / "deep" / "est.py", "x = 1\n")
    monkeypatch.setattr(stale, "PACKAGE", package)
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    for name in ("build", "results", "figures"):
        monkeypatch.setenv(f"LENSDET_{name.upper()}", str(tmp_path / name))
    write(tmp_path / "results" / "smoke" / "bce-1" / "run_01" / "logits.h5")
    for number in (1, 2, 3):
        (tmp_path / "notebooks" / f"0{number}_some.py").write_text(NOTEBOOK)
        run(notebook(number), drawn=[f"{number}.png"])
    return tmp_path


def notebook(number):
    return storage.root() / "notebooks" / f"0{number}_some.py"


def write(path, text="some"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(path, drawn=(), adds=(), text="some"):
    """What a run leaves: files that it drew, results that it added, its copy, its record."""
    made = stale.made_from(path, "smoke")
    stale.begin(path, "smoke", made)
    for name in drawn:
        write(storage.figures_dir() / "smoke" / name)
    for name in adds:
        write(storage.results_dir() / "smoke" / name, text)
    write(stale.executed(path, "smoke"))
    stale.finish(path, "smoke", made, set(drawn), {f"smoke/{name}" for name in adds})


def test_a_new_finder_makes_notebooks_that_load_finders_stale(place):
    notebook(3).write_text(NOTEBOOK + "load_finders\n")
    run(notebook(3), drawn=["3.png"])
    write(place / "weights" / "bce.h5")
    assert why(1) == [] and [words for words in why(3) if "bce.h5" in words]


def why(number):
    return stale.reasons(notebook(number), "smoke", [notebook(n) for n in range(number + 1, 4)])


def test_no_notebook_is_stale_after_a_run(place):
    assert [why(n) for n in (1, 2, 3)] == [[], [], []]


def test_a_notebook_without_a_readable_record_is_not_run_yet(place):
    (place / "build" / "smoke" / "01_some.json").unlink()
    assert why(1) == ["not run yet"]
    for text in ("", "{", "[]", '{"key": "of another version"}'):
        write(place / "build" / "smoke" / "01_some.json", text)
        assert why(1) == ["not run yet"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda at: write(at / "notebooks/01_some.py", NOTEBOOK + "#"), "the notebook changed"),
        (lambda at: write(at / "lensdet/inner.py", ""), "code: inner.py changed"),
        (lambda at: write(at / "lensdet/deep/est.py", ""), "code: deep/est.py changed"),
        (lambda at: write(at / "figures/smoke/1.png", "touched up"), "figures: 1.png changed"),
        (lambda at: (at / "figures/smoke/1.png").unlink(), "figures: 1.png gone"),
        (lambda at: (at / "build/smoke/01_some.ipynb").unlink(), "its executed copy is gone"),
        (lambda at: write(at / LOGITS, "again"), "results: bce-1/run_01/logits.h5 changed"),
        (lambda at: (at / LOGITS).unlink(), "results: bce-1/run_01/logits.h5 gone"),
        (lambda at: write(at / "results/smoke/bce-1/run_02/logits.h5"), "results: bce-1/run_02/logits.h5 new"),
    ],
)  # fmt: skip
def test_changed_code_figures_or_results_make_a_notebook_stale(place, change, words):
    change(place)
    assert why(1) == [words]


@pytest.mark.parametrize(
    "name",
    [
        "results/smoke/bce-1/run_01/loss.weights.h5",
        "results/smoke/bce-1/run_01/.lock",
        "results/smoke/bce-1/run_02/parameters.json",  # a run that has not ended
        "results/quick/bce-1/run_01/logits.h5",
        "figures/smoke/of_another.png",
        "lensdet/machinery/paper.py",
    ],
)
def test_other_files_leave_a_notebook_up_to_date(place, name):
    write(place / name, "other")
    assert why(1) == []


def test_another_package_version_makes_a_notebook_stale(place, monkeypatch):
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "tabulate" else known(name))
    assert why(1) == ["versions: tabulate changed"]


def test_another_keras_backend_makes_a_notebook_stale(place, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert why(1) == ["versions: backend changed"]


def test_changed_parameters_of_the_profile_make_a_notebook_stale(place, monkeypatch):
    monkeypatch.setitem(stale.resolve.__globals__["PROFILES"]["smoke"], "runs", 3)
    assert why(1) == ["parameters: runs changed"]


def test_new_real_stamps_make_only_notebooks_that_use_them_stale(place, monkeypatch):
    notebook(1).write_text(NOTEBOOK + "real_stamps = None\n")
    run(notebook(1), drawn=["1.png"])
    monkeypatch.setattr(storage, "real_stamps", lambda _: place / "stamps")
    write(place / "stamps" / "galaxies" / "a.fits")
    assert why(1) == ["real stamps: galaxies/a.fits new"]
    assert why(2) == []


def test_results_of_a_later_notebook_leave_earlier_ones_up_to_date(place):
    run(notebook(2), ["2.png"], adds=["bce-1/run_01/gradcam.h5"])
    assert why(1) == [] and why(2) == []
    assert why(3) == ["results: bce-1/run_01/gradcam.h5 new"]  # but it may be by one that follows
    run(notebook(3), ["3.png"])
    run(notebook(2), ["2.png"])  # again: it finds there what it added before
    assert [why(n) for n in (1, 2, 3)] == [[], [], []]
    write(place / "results" / "smoke" / "bce-1" / "run_07" / "logits.h5")  # this comes from elsewhere
    assert all(why(n) == ["results: bce-1/run_07/logits.h5 new"] for n in (1, 2, 3))


def test_a_result_changed_by_a_later_notebook_makes_readers_stale(place):
    run(notebook(2), ["2.png"], adds=["bce-1/run_01/real.csv"])
    run(notebook(1), ["1.png"])
    run(notebook(2), ["2.png"], adds=["bce-1/run_01/real.csv"], text="other")
    assert why(1) == ["results: bce-1/run_01/real.csv changed"]


def test_long_lists_of_changed_files_are_shortened(place):
    for k in range(2, 9):
        write(place / "results" / "smoke" / "bce-1" / f"run_0{k}" / "logits.h5")
    (reason,) = why(1)
    assert reason.endswith("run_04/logits.h5 and 4 more new")


def test_a_change_during_the_run_makes_the_notebook_stale(place):
    made = stale.made_from(notebook(1), "smoke")
    write(place / "lensdet" / "inner.py", "late = None\n")
    stale.finish(notebook(1), "smoke", made, {"1.png"}, set())
    assert why(1) == ["code: inner.py changed"]


def test_the_stale_key_changes_with_every_ingredient(place):
    made = stale.made_from(notebook(1), "smoke")
    assert stale.key(made) == stale.key(json.loads(json.dumps(made))) and len(stale.key(made)) == 64
    for kind in made:
        assert stale.key({**made, kind: {"other": 1}}) != stale.key(made)
