"""Papermill on numbered scripts: what a user types, what stops it, and what it leaves alone.

The notebook is written here, so that nothing depends on what is in ``notebooks/``.  A kernel takes seconds to start:
only three tests start one.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
from click.testing import CliRunner
from ipykernel.kernelspec import get_kernel_dict
from papermill.cli import papermill as papermill_command
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import papermill_engines

from lensdet.papermill import engine
from lensdet.papermill.reader import KERNELSPEC

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
SCRIPT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A small notebook

# %% tags=["parameters"]
profile: str = None  # how much is computed
experiments = None  # losses to show
beta: float = None  # of the soft loss

# %%
from lensdet import notebook

P = notebook.parameters(globals())
print(P.profile, P.experiments, P.beta, P.chunks)

# %%
assert P.beta != 13, "unlucky"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ``notebooks/02_small.py`` and ``params/fbeta.yaml``, and the working directory."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_small.py").write_text(SCRIPT)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "fbeta.yaml").write_text("experiments: [fbeta]\nbeta: 1e-1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_kernel(monkeypatch):
    """Makes a notebook that gets as far as a kernel fail."""

    def execute(self, **kwargs):
        raise AssertionError("a kernel was about to start")

    monkeypatch.setattr(PapermillNotebookClient, "execute", execute)


def run(path="notebooks/02_small.py", output="out.ipynb", **parameters):
    return papermill.execute_notebook(path, output, parameters, progress_bar=False)


def sources(path, tag):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]


def test_the_readme_command_runs_a_script_with_parameters(folder):
    given = ["-f", "params/fbeta.yaml", "-p", "profile", "smoke", "-p", "chunks", "7"]
    command = [sys.executable, "-m", "papermill", "notebooks/02_small.py", "out.ipynb", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "TCP" not in done.stderr
    notebook = nbformat.read("out.ipynb", as_version=4)
    nbformat.validate(notebook)
    printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert printed == "smoke ('fbeta',) 0.1 7\n"  # YAML reads 1e-1 as text; chunks is not in the parameter cell
    tags = [cell.metadata.tags for cell in notebook.cells]
    assert tags.index(["injected-parameters"]) == tags.index(["parameters"]) + 1
    assert "jupytext" not in notebook.metadata
    stamp = notebook.metadata["lensdet"]
    assert stamp["version"] == importlib.metadata.version("lensdet")
    assert stamp["versions"]["tensorflow"] == importlib.metadata.version("tensorflow")
    assert "commit" in stamp


def test_a_failing_cell_fails_the_run_and_is_in_the_output(folder):
    with pytest.raises(papermill.PapermillExecutionError, match="unlucky"):  # the command's status is then 1
        run("./notebooks/02_small.py", beta=13)
    assert "unlucky" in Path("out.ipynb").read_text()


def test_a_notebook_without_lensdet_runs_as_in_plain_papermill(folder):
    cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell("a, b")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), "foreign.ipynb")
    notebook = run("foreign.ipynb", a="x", betta=2, b=3)
    assert notebook.cells[-1].outputs[0]["data"]["text/plain"] == "('x', 3)"
    assert "lensdet" not in notebook.metadata


@pytest.mark.parametrize("prefix", ["", "./", "{}/"], ids=["relative", "dot", "absolute"])
def test_relative_and_absolute_paths_of_a_script_work(folder, prefix):
    path = prefix.format(folder) + "notebooks/02_small.py"
    papermill.execute_notebook(path, "out.ipynb", {"beta": 2}, prepare_only=True)
    assert sources("out.ipynb", "injected-parameters") == ["# Parameters\nbeta = 2\n"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_help_has_a_text_for_each_parameter(path):
    found = papermill.inspect_notebook(path)
    assert "profile" in found and [name for name, about in found.items() if not about["help"]] == []


def test_a_notebook_that_is_not_ours_runs_by_the_engine_that_was_the_default(monkeypatch):
    given = []
    monkeypatch.setattr(engine._default, "execute_notebook", lambda *args, **kwargs: given.append((args, kwargs)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import lensdet")])
    engine.execute_notebook(notebook, "python3", input_path="foreign.ipynb", progress_bar=False)
    assert given == [((notebook, "python3"), {"input_path": "foreign.ipynb", "progress_bar": False})]
    assert "lensdet" not in notebook.metadata and engine._default is papermill_engines.get_engine("nbclient")


def test_help_lists_the_parameters(folder):
    done = CliRunner().invoke(papermill_command, ["--help-notebook", "./notebooks/02_small.py"])
    assert done.exit_code == 0
    assert "beta: float (default None)      of the soft loss" in done.output
    assert "experiments" in done.output and "profile: str" in done.output


@pytest.mark.parametrize(
    "given, message",
    [
        ({"experimets": "bce"}, "unknown parameter 'experimets'; did you mean 'experiments'"),
        ({"experimets": None}, "unknown parameter 'experimets'"),
        ({"beta": "abc"}, "'beta'.*valid number.*'abc'"),
        ({"beta": -1}, "'beta'.*greater than 0"),
        ({"experiments": ["fbta"]}, "'experiments'.*did you mean 'fbeta'"),
        ({"profile": "quik"}, "'profile'.*did you mean 'quick'"),
        ({"chunk_size": 100}, "chunk_size 100 must be"),
        ({"data": "/nonexistent"}, "'data': there is no folder /nonexistent; correct the path, or leave data out"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_parameters_stop_before_a_kernel_starts(folder, no_kernel, given, message):
    with pytest.raises(papermill.PapermillException, match=message):
        run(**given)
    assert not Path("out.ipynb").exists()


@pytest.mark.parametrize(
    "command, message",
    [
        ("notebooks/02_small.py out.ipynb -p betta 2", "unknown parameter 'betta'; did you mean 'beta'?"),
        ("notebooks/02_small.py out.ipynb -p beta abc", "parameter 'beta'"),
        (
            "notebooks/02_small.py out.ipynb -f fbetta.yaml",
            "fbetta.yaml: no such file; did you mean params/fbeta.yaml?",
        ),
        ("02_smal.py out.ipynb", "02_smal.py: no such file; did you mean notebooks/02_small.py?"),
        ("notebooks/02_small.py notebooks/02_small.py", "notebooks/02_small.py is a script"),
    ],
)
def test_the_command_ends_with_a_message_and_no_traceback(folder, no_kernel, command, message):
    done = CliRunner().invoke(papermill_command, command.split())
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)  # what else is raised Python shows with a traceback
    assert f"Error: {message}" in done.output.splitlines()[-1]


def test_values_typed_in_the_parameter_cell_are_checked(folder, no_kernel):
    script = Path("notebooks/02_small.py")
    script.write_text(SCRIPT.replace("profile: str = None", 'profile: str = "smoke"'))
    with pytest.raises(AssertionError, match="about to start"):  # smoke has batches of 16
        run(chunk_size=32)
    script.write_text(SCRIPT.replace("beta: float = None", "beta: float = -2"))
    with pytest.raises(papermill.PapermillException, match="'beta'.*-2"):
        run()
    script.write_text(SCRIPT.replace("profile: str = None", 'profil: str = "smoke"'))
    with pytest.raises(papermill.PapermillException, match="unknown parameter 'profil'; did you mean 'profile'"):
        run()


def test_only_scripts_that_import_lensdet_are_handled():
    notebook = jupytext.reads(SCRIPT, fmt="py:percent")
    assert engine.is_ours(notebook, "notebooks/02_small.py")
    assert not engine.is_ours(notebook, "out.ipynb")
    foreign = jupytext.reads("# %% [markdown]\n# import lensdet\n\n# %%\nimport lensdetector\n", fmt="py:percent")
    assert not engine.is_ours(foreign, "02_foreign.py")


def test_output_never_overwrites_a_script(folder, no_kernel):
    with pytest.raises(papermill.PapermillException, match=r"02_small\.py is a script, not overwritten"):
        run(output="notebooks/02_small.py")
    assert Path("notebooks/02_small.py").read_text() == SCRIPT


def test_a_script_that_is_no_notebook_is_refused(folder, no_kernel):
    Path("notebooks/module.py").write_text("x = 1\n")
    with pytest.raises(papermill.PapermillException, match=r"module\.py is not a notebook"):
        run("notebooks/module.py")


def test_a_script_without_a_header_gets_a_kernel(folder):
    Path("bare.py").write_text("# %%\nx = 1\n")
    papermill.execute_notebook("bare.py", "out.ipynb", prepare_only=True)
    assert json.loads(Path("out.ipynb").read_text())["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_the_python3_kernel_as_jupyterlab_does(path):
    # Without it neither jupytext nor papermill finds a kernel in a virtual environment.  Otherwise named, JupyterLab
    # would change it when the kernel starts, and ask whether to save a notebook that nobody touched.
    kernel = get_kernel_dict()
    named = {"name": "python3", "display_name": kernel["display_name"], "language": kernel["language"]}
    assert jupytext.read(path).metadata.kernelspec == named


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saving_in_jupyterlab_leaves_the_text_alone(path, tmp_path):
    check_round_trip(path.read_text(), tmp_path)


def test_saving_a_small_notebook_leaves_the_text_alone(tmp_path):
    check_round_trip(SCRIPT, tmp_path)


def check_round_trip(text, folder):
    """Open and save a script as JupyterLab does, with the configuration of the repository."""
    shutil.copy(ROOT / "jupytext.toml", folder)
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "01_copy.py").write_text(text)
    manager = jupytext.TextFileContentsManager(root_dir=str(folder))
    model = manager.get("notebooks/01_copy.py", type="notebook")
    manager.save(model, "notebooks/01_copy.py")
    assert (folder / "notebooks" / "01_copy.py").read_text() == text
    assert (folder / "ipynb" / "01_copy.ipynb").exists()
