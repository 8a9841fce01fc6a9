"""Makes papermill strict about the parameters of our notebooks, and stamps what made the executed copy.

Papermill alone only logs an unknown parameter and finds a bad value after minutes of running.  It imports this module
when it starts (entry point in the group ``papermill.engine``), which puts an engine in the place of its default one.
Only scripts that import lensdet are treated differently; other notebooks in the environment run as ever.
"""

import ast
import contextlib
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException
from papermill.log import logger

if TYPE_CHECKING:
    from nbformat import NotebookNode

_IMPORT = re.compile(r"^\s*(import|from) lensdet\b", re.MULTILINE)


class LensdetEngine(NBClientEngine):
    """Papermill's default engine, strict, quiet and stamping for our notebooks."""

    @classmethod
    def execute_notebook(
        cls, nb: "NotebookNode", kernel_name: str, input_path: str | None = None, **kwargs: Any
    ) -> "NotebookNode":
        """Check the parameters of one of our notebooks, then run it; run any other as papermill does.

        Raises
        ------
        papermill.exceptions.PapermillException
            Before a kernel starts, for a parameter that does not exist or has a value that it cannot have.
        """
        if is_ours(nb, input_path):
            check_parameters(nb)
            nb.metadata["lensdet"] = stamp()
            # ipykernel 7.4 warns at every start that local TCP is not encrypted, across the progress bar.
            kwargs.setdefault("extra_arguments", ["--log-level=CRITICAL"])
        return super().execute_notebook(nb, kernel_name, input_path=input_path, **kwargs)


def is_ours(nb: "NotebookNode", input_path: str | None) -> bool:
    """Whether a notebook was read from a script that imports lensdet."""
    code = (cell.source for cell in nb.cells if cell.cell_type == "code")
    return str(input_path).endswith(".py") and any(_IMPORT.search(source) for source in code)


def check_parameters(nb: "NotebookNode") -> None:
    """Resolve the parameters as the notebook will: what its parameter cell says, then what papermill was given."""
    from lensdet.parameters import ParameterError, Parameters, resolve

    typed = {name: value for name, value in typed_values(nb).items() if name in Parameters.model_fields}
    given = nb.metadata.papermill.get("parameters", {})
    try:
        resolved = resolve({**typed, **given})
    except ParameterError as error:
        raise PapermillException(str(error)) from None
    # Papermill has just called those that are not in the parameter cell unknown; say that they count.
    if given:
        logger.info("Parameters checked: " + ", ".join(f"{name} = {getattr(resolved, name)!r}" for name in given))


def typed_values(nb: "NotebookNode") -> dict[str, Any]:
    """The literal values that the cell tagged "parameters" assigns, by name.

    They matter to what is given: ``batch_size`` may be right with the ``chunk_size`` typed there and wrong without.
    """
    values = {}
    for cell in nb.cells:
        # What is computed, or no plain Python, only the kernel can judge.
        if "parameters" in cell.metadata.get("tags", []):
            with contextlib.suppress(SyntaxError):
                for node in ast.parse(cell.source).body:
                    if isinstance(node, ast.Assign | ast.AnnAssign):
                        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                        with contextlib.suppress(ValueError):
                            values[ast.unparse(target)] = ast.literal_eval(node.value)
    return values


def stamp() -> dict[str, Any]:
    """Version, commit (with ``+`` where tracked files differ from it) and versions of the packages that matter."""
    from lensdet import runs

    found = importlib.metadata.version("lensdet")
    return {"version": found, "commit": runs.commit(), "versions": runs.versions()}


# None is the engine used without --engine.
for _name in (None, "nbclient"):
    papermill_engines.register(_name, LensdetEngine)
# Papermill registers this module itself under the entry point's name, so that `--engine lensdet` looks for these here.
execute_notebook = LensdetEngine.execute_notebook
nb_kernel_name, nb_language = LensdetEngine.nb_kernel_name, LensdetEngine.nb_language
