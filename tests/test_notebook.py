"""Parameters of a notebook: typed or injected, names and paths checked."""

import pytest

from lensdet import notebook
from lensdet.parameters import ParameterError
from lensdet.profiles import PROFILES


def test_notebook_parameters_are_typed_or_injected_values():
    cell = {"profile": "smoke", "experiments": None, "beta": 0.5, "chunks": None}
    assert notebook.parameters(cell).beta == 0.5
    assert notebook.parameters(cell).chunks == PROFILES["smoke"]["chunks"]  # None: the profile decides
    # YAML and then -p are injected after the parameter cell, as later assignments
    injected = {**cell, "beta": 2, "experiments": "fbeta, bce", "np": object(), "__name__": "__main__"}
    assert notebook.parameters(injected).beta == 2
    assert notebook.parameters(injected).experiments == ("fbeta", "bce")


@pytest.mark.parametrize("typed", ['profil: str = "smoke"', 'profil = "smoke"', "profil = None"])
def test_a_mistyped_name_in_the_parameter_cell_stops_a_notebook(typed):
    wrong, right = f"{typed}\nruns: int = 2\nbeta: float = None", "profile: str = 'smoke'\nruns: int = 2\n_mine = 3"
    others = [
        "import numpy as np",
        "p = notebook.parameters(globals())",
        "run = 3; betas = [1, 2]",
        "beta = 0.3",
        "%magic",
    ]
    with pytest.raises(ParameterError, match="unknown parameter 'profil'; did you mean 'profile'.*parameter cell"):
        notebook.parameters({"In": ["", wrong, *others], "runs": 2, "run": 3, "betas": [1, 2]})
    # corrected, and run again in the same kernel, where the wrong name still is
    assert notebook.parameters({"In": ["", wrong, *others, right, others[1]], "profil": "smoke", "runs": 2}).runs == 2


@pytest.mark.parametrize(
    "name, kind",
    [
        ("data", "folder"),
        ("real_stamps", "folder"),
        ("survey", "folder or file"),
        ("catalogue", "file"),
        ("published", "file"),
        ("tiles", "file or folder"),
    ],
)
def test_a_notebook_stops_at_a_path_where_nothing_is(tmp_path, name, kind):
    there = {"catalogue": __file__, "tiles": str(tmp_path)} if name in ("catalogue", "tiles") else {}
    missing = str(tmp_path / "missing")
    with pytest.raises(ParameterError, match=f"'{name}': there is no {kind} {missing}; .* leave {name} out"):
        notebook.parameters({**there, name: missing})


def test_a_notebook_stops_at_a_folder_of_another_kind(tmp_path):
    for name, folder in {"data": "train", "real_stamps": "galaxies"}.items():
        with pytest.raises(ParameterError, match=f"'{name}': {tmp_path} has none of the folders .*{folder}/"):
            notebook.parameters({name: str(tmp_path)})
    (tmp_path / "galaxies").mkdir()
    assert notebook.parameters({"real_stamps": str(tmp_path)}).real_stamps == tmp_path.resolve()


def test_the_default_folder_of_real_stamps_need_not_exist():
    assert notebook.parameters({"real_stamps": None}).real_stamps is None
