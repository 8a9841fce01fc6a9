"""A notebook's cells can be run again in the same kernel, as in JupyterLab: names keep what they stand for."""

import ast
from collections import defaultdict

import jupytext
import nbformat
import papermill
import pytest

from lensdet import parameters
from tests.notebooks.test_notebooks import FEW, NOTEBOOKS, real  # noqa: F401

ALL = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))


def code_cells(notebook):
    """The code cells of a script, without that of the parameters."""
    cells = [cell for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
    return [cell for cell in cells if "parameters" not in cell.metadata.get("tags", [])]


class Bound(ast.NodeVisitor):
    """What the global names of a notebook are bound to: "definition" (of a function or an import) or "value"."""

    def __init__(self):
        self.kinds = defaultdict(set)

    def visit_FunctionDef(self, node):
        self.kinds[node.name].add("definition")  # its own names are local

    visit_ClassDef = visit_FunctionDef

    def visit_Import(self, node):
        for alias in node.names:
            self.kinds[(alias.asname or alias.name).split(".")[0]].add("definition")

    visit_ImportFrom = visit_Import

    def visit_Lambda(self, node):
        pass

    def visit_comprehension(self, node):  # its targets are local
        self.visit(node.iter)
        for condition in node.ifs:
            self.visit(condition)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.kinds[node.id].add("value")


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_no_notebook_name_is_used_for_two_kinds_of_things(notebook):
    bound = Bound()
    bound.visit(ast.parse("\n".join(cell.source for cell in code_cells(notebook))))
    assert [name for name, kinds in bound.kinds.items() if len(kinds) > 1] == []
    # what is named like a parameter would be taken for it when the cell that reads them is run again
    assert sorted(set(bound.kinds) & set(parameters.Parameters.model_fields)) == []


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_no_notebook_calls_exit(notebook):
    """SystemExit in a kernel comes with advice on how to leave IPython."""
    tree = ast.parse("\n".join(cell.source for cell in code_cells(notebook)))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert names & {"SystemExit", "exit", "quit"} == set()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Results and figures of all notebooks here, which train what the ones before them have not."""
    folder = tmp_path_factory.mktemp("again")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("results", "figures"):
            patch.setenv(f"LENSDET_{name.upper()}", str(folder / name))
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_every_cell_can_be_run_again_in_the_same_kernel(notebook, places, real):  # noqa: F811
    losses = ["bce"] if notebook.name.startswith("06") else ["bce", "fbeta", "f1"]  # it trains, on segmented stamps
    given = {**FEW, "experiments": losses, "runs": 1, "real_stamps": str(real)}
    twice = jupytext.read(notebook)
    twice.cells += [nbformat.v4.new_code_cell(cell.source) for cell in code_cells(notebook)]
    nbformat.write(twice, places / "twice.ipynb")
    papermill.execute_notebook(
        str(places / "twice.ipynb"), str(places / "out.ipynb"), given, progress_bar=False
    )  # it raises what a cell raises
