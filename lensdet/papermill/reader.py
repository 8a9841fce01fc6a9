"""Lets papermill read the percent scripts of ``notebooks/`` as notebooks.

Papermill chooses a reader by the *prefix* of a path, so that no entry point can stand for "ends in .py".  It imports
this module when it starts (entry point in the group ``papermill.io``), and the import wraps the one handler that serves
all plain local paths.  What does not end in ``.py`` passes through untouched.
"""

import difflib
import re
import warnings
from pathlib import Path

import click
from papermill.exceptions import PapermillException

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
_TOLD = {".py": "notebooks", ".yaml": "params", ".yml": "params"}  # kinds of files, and where ours lie
_CELL = re.compile(r"^# %%", re.MULTILINE)


class Stop(click.ClickException, PapermillException):
    """Ends papermill's command with a message and no traceback; in Python it is an exception of papermill."""


class NoSuchFile(click.ClickException, FileNotFoundError):
    """The same, for a file that is not there."""


def to_ipynb(source: str, path: str) -> str:
    """A percent script as the JSON text of a notebook.

    Parameters
    ----------
    source : str
        Text of the script.
    path : str
        Where it came from, for the message.

    Raises
    ------
    Stop
        If the text has no cell: a module given by mistake would run as a single one.
    """
    import jupytext

    if not _CELL.search(source):
        raise Stop(f"{path} is not a notebook: it has no '# %%' cell (jupytext's percent format)")
    notebook = jupytext.reads(source, fmt="py:percent")
    # Papermill stops without a kernel's name and language.
    notebook.metadata["kernelspec"] = {**KERNELSPEC, **notebook.metadata.get("kernelspec", {})}
    # The executed copy is paired with nothing.
    notebook.metadata.pop("jupytext", None)
    return jupytext.writes(notebook, fmt="ipynb")


def _nearest(path):
    """Words on the file that may have been meant, in the same folder or where ours lie below it."""
    folder, pattern = path.parent, f"*{path.suffix}"
    known = {found.name: found for found in [*folder.glob(pattern), *folder.glob(f"{_TOLD[path.suffix]}/{pattern}")]}
    near = difflib.get_close_matches(path.name, known, 1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def install() -> None:
    """Teach papermill's local handler to read scripts and never to write them; a second call does nothing."""
    from papermill.iorw import papermill_io

    local = papermill_io.get_handler("local")
    if hasattr(local, "reads_scripts"):
        return
    read, write = local.read, local.write

    def read_script(path):
        try:
            text = read(path)
        except FileNotFoundError:
            if Path(path).suffix not in _TOLD:
                raise
            raise NoSuchFile(f"{path}: no such file{_nearest(Path(path))}") from None
        return to_ipynb(text, path) if path.endswith(".py") else text

    def write_notebook(text, path):
        if path.endswith(".py"):
            raise Stop(f"{path} is a script, not overwritten with a notebook: name an .ipynb output")
        write(text, path)

    local.read, local.write, local.reads_scripts = read_script, write_notebook, True
    warnings.filterwarnings("ignore", r"The specified file \(.*\.py\) does not end in one of", UserWarning)


install()
