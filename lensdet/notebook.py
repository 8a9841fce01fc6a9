"""Parameters of a notebook: what its parameter cell assigns, and whether the paths that they name are there."""

import ast
import contextlib
import re
from pathlib import Path
from typing import Any

from lensdet.parameters import ParameterError, Parameters, check_names, resolve

# What is read from a path: what it must be, and folders of which it has one at least.
_READ = {
    "data": (Path.is_dir, "folder", ("train", "validation", "test")),
    "real_stamps": (Path.is_dir, "folder", ("galaxies", "lens_candidates")),
    "survey": (Path.exists, "folder or file", ()),
    "catalogue": (Path.is_file, "file", ()),
    "published": (Path.is_file, "file", ()),
    "tiles": (Path.exists, "file or folder", ()),
}


def parameters(namespace: dict[str, Any]) -> Parameters:
    """Parameters from the ``globals()`` of a notebook, after its parameter cell and papermill's.

    The names in that cell are checked; all other names of the notebook (imports, results) are passed over.

    Raises
    ------
    ParameterError
        For a name in the parameter cell that is no parameter, a bad value, or a path where nothing is.
    """
    try:
        check_names(_parameter_cell(namespace.get("In", [])))
    except ParameterError as error:
        raise ParameterError(f"{error} (in the parameter cell; names of your own go into another)") from None
    found = resolve({name: namespace[name] for name in Parameters.model_fields if name in namespace})
    check_paths(found)
    import pandas as pd  # which papermill, that imports this module at every start, does without

    pd.set_option("display.max_colwidth", None)  # tables that a notebook shows have whole labels
    return found


def _parameter_cell(cells):
    """What the parameter cell assigns: the last of the cells run, as IPython keeps them, that annotates two parameters.

    A cell without types, such as ``beta = 0.3``, is a user's own, or papermill's.
    """
    typed = (re.findall(r"^(\w+) *:.*=", cell, re.MULTILINE) for cell in cells)
    own = [cell for cell, names in zip(cells, typed, strict=True) if len({*names} & {*Parameters.model_fields}) > 1]
    return assigned(own[-1]) if own else {}


def assigned(source: str) -> dict[str, Any]:
    """The literal values that the source of a cell assigns, by name; what is computed only the kernel can judge.

    Names that begin with ``_`` are the user's own, and left out.
    """
    values = {}
    with contextlib.suppress(SyntaxError):  # no plain Python
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                with contextlib.suppress(ValueError, TypeError):
                    value = ast.literal_eval(node.value)
                    values |= {t.id: value for t in targets if isinstance(t, ast.Name) and t.id[0] != "_"}
    return values


def check_paths(parameters: Parameters) -> None:
    """Raise `ParameterError` where a parameter names a file or folder to read that is not there, or is another."""
    for name, (right, kind, folders) in _READ.items():
        value = getattr(parameters, name)
        for path in value if isinstance(value, tuple) else [value]:
            remedy = f"correct the path, or leave {name} out"
            if path is not None and not right(path):
                raise ParameterError(f"parameter {name!r}: there is no {kind} {path}; {remedy}")
            if path is not None and folders and not any((path / folder).is_dir() for folder in folders):
                listed = ", ".join(f"{folder}/" for folder in folders)
                raise ParameterError(f"parameter {name!r}: {path} has none of the folders {listed}; {remedy}")
