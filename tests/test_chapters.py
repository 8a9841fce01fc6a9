"""Running the notebooks: which ones, and what a failure does to the others."""

import pytest

from lensdet import chapters

GOOD = """# %% tags=["parameters"]
profile = None

# %%
from pathlib import Path

Path("good").write_text(profile)
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two notebooks, of which the first fails; neither imports lensdet, so that their kernels start fast."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_bad.py").write_text("# %%\nraise ValueError('unlucky')\n")
    (tmp_path / "notebooks" / "02_good.py").write_text(GOOD)
    (tmp_path / "notebooks" / "other.py").write_text("# %%\nraise ValueError('no notebook of ours')\n")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "build"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["03"], ["no notebook 03", "there are 01, 02"]),
        (["02", "7", "8"], ["no notebook 7, 8"]),
        (["--profile", "quik"], ["'quik'", "'smoke', 'quick', 'lite' or 'thesis'", "did you mean 'quick'"]),
    ],
)
def test_what_cannot_be_run_is_said(repository, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        chapters.main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []
    assert not (repository / "build").exists()


def test_a_notebook_that_fails_does_not_stop_the_others(repository, capfd):
    assert chapters.main(["--profile", "smoke"]) == 1
    assert (repository / "good").read_text() == "smoke"
    said = capfd.readouterr()
    assert "01_bad: FAILED" in said.out and "unlucky" in said.out
    assert "02_good: " in said.out and "failed: 01_bad\n" in said.err
    assert (repository / "build" / "smoke" / "02_good.ipynb").exists()


def test_one_notebook_by_its_number(repository):
    assert chapters.main(["02", "--profile", "lite"]) == 0
    assert (repository / "good").read_text() == "lite"
    assert not (repository / "build" / "lite" / "01_bad.ipynb").exists()
