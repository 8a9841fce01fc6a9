"""Captions of the paper: the text below a figure or table, with links to what drew it, its parameters and its files."""

import ast
import itertools
import os
import re
from pathlib import Path

from nbformat import NotebookNode

from lensdet import storage

LABEL = re.compile(r"^\*\*(Figure|Table)s? (\w[\w.]*?)(?:(?: to |, | and )[\w., ]+?)?\.\*\* ", re.MULTILINE)
_PICTURES = ("image/png", "image/jpeg")
_FILES = (".png", ".jpg", ".pdf", ".csv", ".md", ".tex")


def attach(notebook: NotebookNode, profile: str) -> None:
    """Move each caption of an executed notebook into the metadata of the output that it belongs to.

    Captions are Markdown cells directly below a cell that shows something, beginning with a label such as
    ``**Figure 5.1.**`` or, for a file of our own, ``**Table 02_matched.**``.  Those of figures go to pictures, those of
    tables to the other outputs, in their order, the last to the last.  What has no output above it stays a cell.

    Parameters
    ----------
    notebook : NotebookNode
        Changed in place: an output has ``caption``, in Markdown, ``label``, and a picture its ``alt``.
    profile : str
        Whose figures the notebook has drawn.
    """
    modules, cells = _modules(notebook.cells), []
    for is_caption, group in itertools.groupby(notebook.cells, _is_caption):
        group = list(group)
        shows = cells[-1] if is_caption and cells and cells[-1].get("outputs") else None
        texts = [text for cell in group for text in _split(cell.source)] if shows else []
        if not (shows and _place(shows, texts, modules, profile)):
            cells += group
    notebook.cells = cells


def _is_caption(cell):
    return cell.cell_type == "markdown" and LABEL.match(cell.source) is not None


def _split(source):
    """The captions of a cell, each from its label on."""
    starts = [found.start() for found in LABEL.finditer(source)]
    return [source[a:b].strip() for a, b in itertools.pairwise([*starts, len(source)])]


def _place(cell, texts, modules, profile):
    """Give captions to the outputs of a cell; False where it has none that can be shown."""
    data = [output for output in cell.outputs if "data" in output]
    for kind in ("Figure", "Table"):
        own = [text for text in texts if LABEL.match(text)[1] == kind]
        right = [output for output in data if any(name in output.data for name in _PICTURES) == (kind == "Figure")]
        outputs = (right or data)[-len(own) :] if own else []
        if own and not outputs:
            return False
        for i, text in enumerate(own):
            output = outputs[min(i, len(outputs) - 1)]
            about = f"{text}\n\n{_about(LABEL.match(text), cell.source, modules, profile)}"
            before = output.metadata.get("caption")
            output.metadata["caption"] = f"{before}\n\n{about}" if before else about
            output.metadata.setdefault("label", f"{kind}-{LABEL.match(text)[2]}".lower())
            for name in _PICTURES:
                output.metadata.setdefault(name, {"alt": first_sentence(text)})
    return True


def first_sentence(text: str) -> str:
    """The first sentence of a caption, after its label, without the signs of Markdown."""
    plain = re.sub(r"[*`$]|\]\([^)]*\)|\[", "", LABEL.sub("", text)).replace("\\", "")
    return re.split(r"(?<=[.?!])\s", " ".join(plain.split()))[0]


def _modules(cells):
    """Sources of the chapters that a notebook imports, by the name that it gives them."""
    found = {}
    for cell in cells:
        for node in ast.walk(_tree(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lensdet.chapters"):
                folder = storage.root().joinpath(*node.module.split("."))
                paths = {name.asname or name.name: folder / f"{name.name}.py" for name in node.names}
                found |= {name: path for name, path in paths.items() if path.is_file() and path.stem != "style"}
    return found


def _tree(source):
    try:
        return ast.parse(source)
    except SyntaxError:  # a magic
        return ast.Module([], [])


def _line(path, function):
    """The line of a file on which a function begins; None where it has no such function."""
    found = re.search(rf"^def {re.escape(function)}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    return path.read_text(encoding="utf-8").count("\n", 0, found.start()) + 1 if found else None


def _about(label, source, modules, profile):
    """A line of links: the functions that made a figure or table, its profile, and its files."""
    kind, number = label[1].lower(), label[2]
    tree = _tree(source)
    called = [(modules.get(node.value.id), node.attr) for node in ast.walk(tree)
              if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]  # fmt: skip
    own = f"{kind}_{number.replace('.', '_')}" if number[0].isdigit() and "." in number else number
    places = [(path, own) for path in (storage.root() / "lensdet" / "chapters").rglob("*.py") if _line(path, own)]
    functions = places or [place for place in dict.fromkeys(called) if place[0] and _line(*place)]
    words = [f"[{name}]({_relative(path)}#L-{_line(path, name)})" for path, name in functions]
    parameters = storage.root() / "docs" / "reference" / "parameters.md"
    words = [f"Made by {', '.join(words)}"] if words else []
    words.append(f"[profile {profile}]({_relative(parameters)})")
    stems = [own.replace("figure_", "fig_")]
    stems += [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    folder = storage.figures_dir() / profile
    files = [folder / f"{stem}{end}" for stem in dict.fromkeys(stems) for end in _FILES if re.fullmatch(r"\w+", stem)]
    words += [f"[{path.name}]({_relative(path)})" for path in files if path.is_file()]
    return f"*{' · '.join(words)}*"


def _relative(path):
    """A path as a link of a notebook."""
    return Path(os.path.relpath(path, storage.root() / "notebooks")).as_posix()
