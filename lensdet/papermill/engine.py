"""Makes papermill strict about the parameters of our notebooks, and stamps what made the executed copy.

Papermill alone only logs an unknown parameter and finds a bad value after minutes of running.  It imports this module
when it starts (entry point in the group ``papermill.engine``) and takes it as the engine that runs notebooks, by the
name ``lensdet`` and, as the command of the README names none, by default.  Papermill offers no way to be asked for some
notebooks alone: those that are not ours go on, untouched, to the engine that was the default before.
"""

import importlib.metadata
import re
import sys
from typing import TYPE_CHECKING, Any

from papermill.engines import papermill_engines
from papermill.log import logger

from lensdet.papermill.reader import Stop

if TYPE_CHECKING:
    from nbformat import NotebookNode

_IMPORT = re.compile(r"^\s*(import|from) lensdet\b", re.MULTILINE)
_default = papermill_engines.get_engine(None)
nb_kernel_name, nb_language = _default.nb_kernel_name, _default.nb_language


def execute_notebook(nb: "NotebookNode", kernel_name: str, **kwargs: Any) -> "NotebookNode":
    """Check the parameters of one of our notebooks, then run it; run any other as papermill does.

    Raises
    ------
    lensdet.papermill.reader.Stop
        Before a kernel starts, for a parameter that does not exist, has a value that it cannot have, or names a file or
        folder that is not there.
    """
    if is_ours(nb, kwargs.get("input_path")):
        check_parameters(nb)
        nb.metadata["lensdet"] = stamp()
        # ipykernel 7.4 warns at every start that local TCP is not encrypted, across the progress bar.
        kwargs.setdefault("extra_arguments", ["--log-level=CRITICAL"])
    return _default.execute_notebook(nb, kernel_name, **kwargs)


def is_ours(nb: "NotebookNode", input_path: str | None) -> bool:
    """Whether a notebook was read from a script that imports lensdet."""
    code = (cell.source for cell in nb.cells if cell.cell_type == "code")
    return str(input_path).endswith(".py") and any(_IMPORT.search(source) for source in code)


def check_parameters(nb: "NotebookNode") -> None:
    """Resolve the parameters as the notebook will: what its parameter cell says, then what papermill was given."""
    from lensdet import notebook, parameters

    typed, given = {}, nb.metadata.papermill.get("parameters", {})
    for cell in nb.cells:
        # ``batch_size`` may be right with the ``chunk_size`` typed there and wrong without
        if "parameters" in cell.metadata.get("tags", []):
            typed |= notebook.assigned(cell.source)
    given = {name: value for name, value in given.items() if not name.startswith("PAPERMILL_")}  # --inject-paths
    try:
        parameters.check_names({**typed, **given})
        resolved = parameters.resolve({**typed, **given})
        notebook.check_paths(resolved)
    except parameters.ParameterError as error:
        raise Stop(str(error)) from None
    # Papermill has just called those that are not in the parameter cell unknown; say that they count.
    if given:
        logger.info("Parameters checked: " + ", ".join(f"{name} = {getattr(resolved, name)!r}" for name in given))


def stamp() -> dict[str, Any]:
    """Version, commit (with ``+`` where tracked files differ from it) and versions of the packages that matter."""
    from lensdet import runs

    found = importlib.metadata.version("lensdet")
    return {"version": found, "commit": runs.commit(), "versions": runs.versions()}


papermill_engines.register(None, sys.modules[__name__])  # None: without --engine
