"""What is installed from a wheel works where there is no repository: slow, as it is built, installed and used."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.table import Table

from lensdet.data import simulation, stamps
from lensdet.network import finders
from lensdet.survey import grading

ROOT = Path(__file__).resolve().parents[1]
# The longest, building from an archive of the repository, takes some five minutes on two busy cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
SCORE = """
import sys
from pathlib import Path
import numpy as np
import lensdet
from lensdet.network import finders

assert Path(lensdet.__file__).is_relative_to(sys.argv[1]), lensdet.__file__
assert finders.folder() == Path(sys.argv[1]).resolve() / "lensdet" / "finders"
np.save("logits.npy", lensdet.load_finder("thesis/bce").score(np.load("pixels.npy")))
"""
NOTEBOOK = """# %% tags=["parameters"]
runs: int = 1

# %%
import lensdet

print(runs, lensdet.__file__)
"""


def call(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source, folder):
    """The wheel of a source, by pip; without a place to itself where what builds it is installed here."""
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    call(*PIP, "wheel", "--no-deps", *here, "--wheel-dir", folder, source)
    (wheel,) = folder.glob("lensdet-*.whl")
    return wheel


def sums(wheel):
    """SHA-256 of all that is in a wheel, by name."""
    with zipfile.ZipFile(wheel) as file:
        return {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    call(*PIP, "install", "--no-deps", "--target", folder, wheel)
    return folder.resolve()


@pytest.fixture
def outside(installed, tmp_path, monkeypatch):
    """An empty folder to work in, with the installed copy and one variable set for the processes that are started."""
    for name in [name for name in os.environ if name.startswith("LENSDET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "kept"))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def pixels(smoke):
    return np.array([simulation.render("lrg", 700 + i, smoke)[0] for i in range(6)])


def test_the_wheel_has_the_whole_package_and_the_finders(wheel):
    there = sums(wheel)
    if (ROOT / ".git").exists():
        tracked = call("git", "-C", ROOT, "ls-files", "-z", "lensdet", "weights").strip("\0").split("\0")
        expected = {
            name.replace("weights/", "lensdet/finders/", 1) if name.startswith("weights/") else name for name in tracked
        }
        assert expected - there.keys() == set()
    templates = {"lensdet/survey/page.html.j2", "lensdet/papermill/paper.html.j2"}
    widget = {f"lensdet/survey/{name}" for name in ("grading.css", *(f"{name}.js" for name in grading.SCRIPTS))}
    assert templates | widget <= there.keys()
    assert any(name.endswith("data/share/jupyter/labextensions/lensdet/package.json") for name in there)
    for path in (ROOT / "weights").rglob("*.h5"):
        assert (
            there[f"lensdet/finders/{path.relative_to(ROOT / 'weights')}"]
            == hashlib.sha256(path.read_bytes()).hexdigest()
        )


def test_a_source_archive_builds_the_same_wheel(wheel, tmp_path):
    """``python -m build`` makes a wheel so."""
    environment = os.environ
    if not importlib.util.find_spec("hatchling"):
        call(*PIP, "install", "--target", tmp_path / "tools", "hatchling>=1.26")
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "tools")}
    call(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT, env=environment)
    (archive,) = tmp_path.glob("lensdet-*.tar.gz")
    assert sums(build(archive, tmp_path / "again")) == sums(wheel)


def test_installed_finder_scores_like_that_of_the_repository(installed, outside, pixels):
    np.save("pixels.npy", pixels)
    call(sys.executable, "-c", SCORE, installed)
    own, found = finders.load(ROOT / "weights" / "thesis" / "bce.h5").score(pixels), np.load("logits.npy")
    assert found.shape == (6,) and np.isfinite(found).all() and np.ptp(found) > 0
    np.testing.assert_allclose(found, own, rtol=0, atol=1e-4 * np.abs(own).max())  # float32 sums, in another order


def test_installed_package_ranks_a_survey(outside, pixels):
    for i, stamp in enumerate(pixels):
        stamps.write_stamp(outside.parent / "mine" / f"{i}.fits", stamp)
    given = ["-p", "survey", outside.parent / "mine", "-p", "pixel_scale", "0.2", "-p", "workers", "1"]
    assert "6 ranked, 0 of them flagged and listed last; left out: none" in call(
        sys.executable, "-m", "lensdet", "rank", *given
    )
    folder = outside / "build" / "candidates" / "mine"
    table = Table.read(folder / "ranked.ecsv")
    assert sorted(table["id"]) == [f"{i}.fits" for i in range(6)] and (np.diff(table["p_ensemble"]) <= 0).all()
    assert "Lens candidates: mine" in (folder / "page" / "index.html").read_text()


def test_installed_package_trains(outside):
    given = {"profile": "smoke", "experiments": "bce", "runs": 1, "workers": 1}
    call(sys.executable, "-m", "lensdet", "train", *[word for item in given.items() for word in ("-p", *item)])
    (run,) = (outside.parent / "kept" / "smoke").glob("bce-*/run_01")
    with h5py.File(run / "logits.h5") as file:
        assert np.isfinite(file["logits/loss/test"][:]).all()
    assert json.loads((run / "provenance.json").read_text())["commit"] is None
    assert sorted(path.name for path in outside.iterdir()) == ["build"]  # the survey that it was trained on


def test_installed_papermill_engine_reads_scripts_and_parameters(installed, outside):
    Path("mine.py").write_text(NOTEBOOK)
    command = [sys.executable, "-m", "papermill", "mine.py", "out.ipynb", "--no-progress-bar", "-p"]
    call(*command, "runs", "3")
    assert f"3 {installed}" in Path("out.ipynb").read_text()
    wrong = subprocess.run([*command, "runz", "3"], capture_output=True, text=True)
    assert wrong.returncode and "did you mean 'runs'" in wrong.stderr
