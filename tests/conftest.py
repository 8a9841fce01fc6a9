"""What several tests share: a tiny survey, built once, and a place to write that is not the repository."""

import pytest

from lensdet import parameters
from lensdet.data import bank


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that two processes end at about the same time."""
    items.sort(key=lambda item: item.path.stem not in ("test_notebooks", "test_training"))


@pytest.fixture(scope="session", autouse=True)
def _write_elsewhere(tmp_path_factory):
    """Results, figures and banks go to a temporary folder, in this process and in those that it starts."""
    folder = tmp_path_factory.mktemp("lensdet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BUILD", "RESULTS", "FIGURES"):
            patch.setenv(f"LENSDET_{name}", str(folder / name.lower()))
        yield folder


@pytest.fixture(scope="session")
def smoke():
    """Parameters of the profile smoke; one process, as a pool takes longer to start than the survey to draw."""
    return parameters.resolve({"profile": "smoke", "workers": 1})


@pytest.fixture(scope="session")
def smoke_bank(smoke, _write_elsewhere):
    """The bank of `smoke`, and of all parameters that differ from it in the training alone."""
    with pytest.MonkeyPatch.context() as patch:  # whatever the module that asks for it first has done
        patch.setenv("LENSDET_BUILD", str(_write_elsewhere / "build"))
        return bank.open_bank(smoke)
