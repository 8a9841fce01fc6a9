"""Writes the pages of docs/ that are made from code and from references.bib: ``python docs/generate.py``."""

import ast
import re
from pathlib import Path
from unittest import mock

from pybtex.database import Person, parse_file
from pybtex.plugin import find_plugin

import lensdet
from lensdet import cli, parameter_tables

DOCS = Path(__file__).parent
PACKAGE = Path(lensdet.__file__).parent


def pages() -> dict[str, str]:
    """Text of each page, by its path below docs/."""
    return {
        "reference/parameters.md": f"{parameter_tables.markdown_table()}\n",
        "reference/command-line.md": command_line(),
        "reference/python.md": python(),
        "references.md": references(),
    }


def command_line() -> str:
    """The help of each command, as ``--help`` prints it."""
    with mock.patch.dict("os.environ", COLUMNS="100", NO_COLOR="1"):
        top = cli.parser()
        (commands,) = [action.choices for action in top._actions if action.choices]
        helps = {"lensdet": top, **{f"lensdet {name}": command for name, command in commands.items()}}
        parts = [f"## {name}\n\n```text\n{parser.format_help().rstrip()}\n```" for name, parser in helps.items()]
    about = "What `--help` of each prints.  Parameters, which most of them take: [parameters](parameters.md)."
    return "\n\n".join([f"# Command line\n\n{about}", *parts]) + "\n"


def python() -> str:
    """The public names of lensdet with their signatures and docstrings."""
    about = "The public names, `import lensdet`; `help(lensdet.NAME)` prints the same, and `help(lensdet)` an example."
    parts = [f"# Python\n\n{about}"]
    for name in sorted(lensdet._PLACES, key=str.lower):
        *module, inner = lensdet._PLACES[name].split(".")
        path = PACKAGE.joinpath(*module).with_suffix(".py")
        source = path.read_text(encoding="utf-8")
        (node,) = [node for node in ast.parse(source).body if getattr(node, "name", None) == inner]
        link = f"*[{path.relative_to(PACKAGE.parent).as_posix()}](../../{path.relative_to(PACKAGE.parent).as_posix()})*"
        head = _signature(node, name, ast.parse(source).body)
        parts += [f"## {name}", f"```text\n{head}\n```", link, _markdown(ast.get_docstring(node) or "")]
        methods = [m for m in getattr(node, "body", []) if isinstance(node, ast.ClassDef) and _is_public(m)]
        parts += [f"**`.{_signature(m, m.name)}`**  {_summary(m)}" for m in methods]
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_public(node):
    return isinstance(node, ast.FunctionDef) and node.name[0] != "_" and ast.get_docstring(node)


def _summary(node):
    return _markdown(ast.get_docstring(node).partition("\n\n")[0])


def _signature(node, name, module=()):
    """A function's head; of a class that of its or its base's ``__init__``, the name alone where there is none."""
    if isinstance(node, ast.ClassDef):
        bases = [other for other in module if getattr(other, "name", "") in {getattr(b, "id", "") for b in node.bases}]
        found = [m for part in (node, *bases) for m in part.body if getattr(m, "name", "") == "__init__"]
        return _signature(found[0], name) if found else name
    if any(getattr(decorator, "id", "") == "property" for decorator in node.decorator_list):
        return name
    arguments = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"{name}({arguments}){returns}"


def _markdown(docstring):
    """A docstring of numpydoc as Markdown: its sections bold, an entry of one a point."""
    text, *sections = re.split(r"^(\w+)\n-{3,}\n", docstring, flags=re.MULTILINE)
    parts = [_code(text.strip())]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        entries, after = [], []
        for line in body.strip().splitlines():
            if line.startswith(" ") and entries and not after:
                entries[-1] += f" {line.strip()}"
            elif title in ("Parameters", "Returns", "Raises") and line and not after:
                name, _, kind = line.partition(" : ")
                entries.append(f"- `{name}`{f' ({kind})' if kind else ''}:")
            elif line or after:
                after.append(line)
        parts.append("\n".join([f"**{title}**", "", *(entry.rstrip(":") for entry in entries), *after]))
    return "\n\n".join(_code(part) if part == parts[0] else part.replace("``", "`") for part in parts if part)


def _code(text):
    """Literal blocks, which ``::`` announces, as code in Markdown; the rest as it is."""
    return re.sub(r"::$", ":", text.replace("``", "`"), flags=re.MULTILINE)


def label(key: str, persons: list[Person]) -> str:
    """What a text says of a reference, such as "Lipton et al. 2014"; its key ends in the year."""
    names = [" ".join([*person.prelast_names, *person.last_names]).strip("{}") for person in persons]
    who = f"{names[0]} et al." if "others" in names or len(names) > 2 else " & ".join(names)
    return f"{who} {re.search(r'[0-9]{4}[ab]?$', key)[0]}"


def references() -> str:
    """The references, each with its key as an anchor."""
    bib = parse_file(DOCS / "references.bib")
    style = find_plugin("pybtex.style.formatting", "unsrt")()
    texts = {entry.key: entry.text.render_as("text") for entry in style.format_entries(bib.entries.values())}
    labels = {key: label(key, entry.persons["author"]) for key, entry in bib.entries.items()}
    ordered = sorted(labels, key=lambda key: labels[key].lower())
    lines = [f'- <a id="{key}"></a>**{labels[key]}** {texts[key]}' for key in ordered]
    about = "What notebooks, docs and docstrings cite, made from [references.bib](references.bib)."
    return "\n".join(["# References", "", about, "", *lines, ""])


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
