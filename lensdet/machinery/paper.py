"""The paper: executed notebooks as a static HTML site that needs no network, ``python -m lensdet paper``.

Everything that a page shows lies in it: styles, pictures, and maths, which matplotlib draws.  No page has a script, and
a content policy keeps a browser from loading anything, whatever a notebook has put in.  Links lead to files of the
repository.
"""

import argparse
import base64
import hashlib
import html
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from lensdet import storage
from lensdet.chapters import thesis
from lensdet.machinery import drawing, stale
from lensdet.profiles import BEST, PROFILES
from lensdet.runs import commit

if TYPE_CHECKING:
    from nbformat import NotebookNode

TEMPLATES = Path(__file__).parent / "paper_template"
TAGS = ("a b blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub sup "
        "table tbody td tfoot th thead tr ul").split()  # fmt: skip
ATTRIBUTES = {"*": ["class"], "a": ["href", "title"], "td": ["colspan", "rowspan"], "th": ["colspan", "rowspan"]}
# What TensorFlow's libraries note, on a machine without GPU as errors, and progress bars.
_NOISE = re.compile(
    r"^([IW]\d{4} [\d:.]+ .*|E\d{4} .*(cuInit|oneDNN supports).*|WARNING: All log messages before absl.*|"
    r".*\d+%\|.*\|.*|)$"
)
_SHOWN = ("image/png", "image/jpeg", "text/html", "text/markdown", "text/plain")  # what the template has a place for
_NUMBERS = re.compile(r"(?<=>)[-+–\d., ()%±]+(?: to [-+–\d., ()%]+)?(?=</t[dh]>)")  # not broken into two lines
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


def quiet(text: str) -> str:
    """What a notebook said on stderr, less the notes of libraries and progress bars."""
    return "\n".join(line for line in re.split(r"[\r\n]+", text) if not _NOISE.match(line))


def maths(formula: str) -> str:
    """A formula, in what of TeX matplotlib knows, as an ``<img>`` that holds its drawing; else as it stands."""
    import matplotlib
    from matplotlib import mathtext

    picture = io.BytesIO()
    try:
        with matplotlib.rc_context({"svg.hashsalt": "lensdet"}):
            mathtext.math_to_image(f"${formula.strip()}$", picture, format="svg")
    except ValueError:
        return html.escape(f"${formula}$")
    undated = re.sub(rb"<dc:date>.*?</dc:date>", b"", picture.getvalue())  # the same formula gives the same page
    data = base64.b64encode(undated).decode()
    return f'<img class="maths" alt="{html.escape(formula.strip())}" src="data:image/svg+xml;base64,{data}">'


def safe_html(text: str) -> str:
    """HTML with only what a table or prose needs: no script, style, picture from elsewhere, or handler of events."""
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    text = re.sub(r"<(style|script)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES, strip=True).sanitize_html_tags(text)


def prose(text: str, base: Path | None = None, page_folder: Path | None = None) -> str:
    """Markdown as safe HTML, with maths drawn and links that lead on from the page.

    Parameters
    ----------
    text : str
    base : Path, optional
        The folder that relative links start from.
    page_folder : Path, optional
        The folder of the page; links are left as they are without.
    """
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    drawn, token = [], hashlib.sha256(text.encode()).hexdigest()  # which no text has in it

    class Renderer(IPythonRenderer):
        def inline_math(self, body):
            drawn.append(maths(body))
            return f"{token}-{len(drawn) - 1}-"

        block_math = inline_math

        def image(self, text, url, title=None):
            return self.escape_html(text)  # nothing is loaded

    made = safe_html(MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True)).render(text))
    made = re.sub(rf"{token}-(\d+)-", lambda match: drawn[int(match[1])], made)
    made = re.sub(r"<table.*?</table>", r'<div class="scroll">\g<0></div>', made, flags=re.DOTALL)
    made = _NUMBERS.sub(lambda match: match[0].replace(" ", "&nbsp;"), made)
    if page_folder is None:
        return made
    return re.sub(r'href="([^"]*)"', lambda match: f'href="{_moved(match[1], base, page_folder)}"', made)


def _moved(href, base, page_folder):
    """A link in HTML, relative to one folder, made relative to another; those to elsewhere and within a page stay."""
    url = urlsplit(html.unescape(href))
    if url.scheme or url.netloc or not url.path:
        return href
    moved = url._replace(path=_link(base / unquote(url.path), page_folder)).geturl()
    return html.escape(moved)


def _link(target, page_folder):
    """The path from a page to a file or folder, as part of a URL."""
    return quote(Path(os.path.relpath(target, page_folder)).as_posix())


def label(name: str) -> str:
    """A name of a figure or table as the thesis has it: ``fig_5_1`` is Figure 5.1."""
    words = {"fig": "Figure", "table": "Table"}
    numbered = re.fullmatch(r"(fig|table)_(\d+)_(\d+)", name)
    return f"{words[numbered[1]]} {numbered[2]}.{numbered[3]}" if numbered else name


def thesis_title(name: str) -> str:
    """What the thesis calls the figure or table of this name, "" for what goes beyond it."""
    kind, _, number = name.partition("_")
    entry = {"fig": thesis.FIGURES, "table": thesis.TABLES}.get(kind, {}).get(number.replace("_", "."))
    return entry.title if entry else ""


def prepare(notebook: "NotebookNode", profile: str, page_folder: Path) -> list[tuple[str, str]]:
    """Make the cells of an executed notebook fit to be shown, in place; returns names and labels of what they drew.

    Noise goes, folders become relative to the repository, each cell gets the files that it drew, and the saved pictures
    where it shows none itself.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        An executed copy.
    profile : str
        That it was run in.
    page_folder : Path
        The folder of the page, that links start from.
    """
    folder, every = storage.figures_dir() / profile, []
    places = {"build/": storage.build_dir(), "results/": storage.results_dir(), "figures/": storage.figures_dir()}
    moved = {**{f"{place}/": name for name, place in places.items()}, f"{storage.root()}/": ""}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        own = {}
        for output in cell.outputs:
            for file in map(Path, output.get("data", {}).get(storage.OUTPUTS, {}).get("drawn", [])):
                own.setdefault(file.stem, {})[file.name] = None  # drawn twice, named once
        every += [(name, label(name)) for name in own]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = _replaced(quiet(output.text) if output.name == "stderr" else output.text, moved)
            elif "data" in output:
                output.metadata["alt"] = ", ".join(map(label, own)) or "figure"
                output.data = {mime: output.data[mime] for mime in _SHOWN if mime in output.data}
                texts = [mime for mime in output.data if mime.startswith("text/")]
                output.data |= {mime: _replaced(output.data[mime], moved) for mime in texts}
            else:
                output.traceback = [_replaced(line, moved) for line in output.traceback]
        cell.outputs = [o for o in cell.outputs if o.get("text", "").strip() or o.get("data") or "traceback" in o]
        cell.metadata["drawn"] = [
            {
                "name": name,
                "label": label(name),
                "title": thesis_title(name),
                "files": [{"suffix": Path(f).suffix[1:], "link": _link(folder / f, page_folder)} for f in files],
            }
            for name, files in own.items()
        ]
        shown = any(mime in o.get("data", {}) for o in cell.outputs for mime in _PICTURES.values())
        cell.metadata["saved_pictures"] = [] if shown else _saved_pictures(folder, own)
    return every


def _saved_pictures(folder, own):
    """The saved pictures of figures, as data; a JPEG, where there is one, is as good and smaller."""
    found = []
    for name, files in own.items():
        file = next((folder / f for suffix in (".jpg", ".png") for f in files if f.endswith(suffix)), None)
        if file is not None and file.is_file():
            data = base64.b64encode(file.read_bytes()).decode()
            found.append({"name": label(name), "data": f"data:{_PICTURES[file.suffix]};base64,{data}"})
    return found


def _replaced(text, moved):
    for old, new in moved.items():
        text = text.replace(old, new)
    return text


def _readable(made):
    """What a notebook was made from, for a reader: names of runs in the place of hashes of files."""
    runs = {}
    for name in made["results"]:
        runs.setdefault(name.rpartition("/")[0], []).append(name.rpartition("/")[2])
    return {
        "parameters": made["parameters"],
        "results": {folder: ", ".join(files) for folder, files in runs.items()},
        "versions": made["versions"],
    }


def _title(notebook):
    """The first heading, and the first paragraph after it."""
    text = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    heading = next((block for block in blocks if block.strip("# \n") and block.startswith("#")), "# Untitled")
    return heading.lstrip("# ").splitlines()[0], next((block for block in blocks if not block.startswith("#")), "")


def write(profile: str | None = None, progress: Callable[[str], object] = print) -> Path:
    """Write the site to ``build/paper``; returns the path of its front page.

    Chapters are the notebooks with an executed copy, each in this profile, or in the largest that has its runs.  One
    that is stale says so on its page; one without a copy is named on the front page.
    """
    from nbconvert import HTMLExporter

    folder = storage.build_dir() / "paper"
    exporter = HTMLExporter(template_name=TEMPLATES.name, extra_template_basedirs=[str(TEMPLATES.parent)])
    exporter.register_filter("safe_html", safe_html)
    found, missing = _chapters(profile, folder)
    revision = commit()
    shared = {
        "chapters": found,
        "style": (TEMPLATES / "style.css").read_text(),
        "words": f"{f'Commit {revision}. ' if revision else ''}No network, no script; links lead into the repository.",
    }
    written = set()
    for chapter in found:
        path, record = chapter["path"], chapter["record"]
        kept = storage.results_dir() / chapter["profile"]
        links = {"notebook": path, "params": storage.root() / "params", "results": kept}
        resources = {
            **shared,
            "chapter": chapter,
            "record": record,
            "links": {name: _link(place, folder) for name, place in links.items()},
            "tables": _readable(record["made from"]) if record else {},
        }
        exporter.register_filter("prose", lambda text, base=path.parent: prose(text, base, folder))
        page, _ = exporter.from_notebook_node(chapter["content"], resources=resources)
        written.add(_write(folder / chapter["page"], page))
        progress(f"{chapter['page']}: {len(page) / 1e6:.1f} MB")
    front = exporter.environment.get_template("front.html.j2")
    first = profile or max((c["profile"] for c in found), key=lambda name: -BEST.index(name), default=BEST[-1])
    page = front.render(**shared, **_front(first, folder), missing=missing)
    written.add(_write(folder / "index.html", page))
    for old in set(folder.glob("*.html")) - written:
        old.unlink()
    return folder / "index.html"


def _chapters(given, folder):
    """The executed notebooks, each with what its page needs, and words on those that are missing."""
    import nbformat

    found, missing, every = [], [], drawing.notebooks()
    for i, notebook in enumerate(every):
        profile = given or drawing.best_profile(notebook)[0]
        copy, why = stale.executed(notebook, profile), stale.reasons(notebook, profile, later=every[i + 1 :])
        again = f"tox -e figures -- --profile {profile} {notebook.name[:2]}"
        if drawing.failed_copy(notebook, profile).is_file():
            missing.append(f"{notebook.name} failed, see {drawing.failed_copy(notebook, profile).name}; {again}")
        elif not copy.is_file():
            missing.append(f"{notebook.name} has not been run: {again}")
        if not copy.is_file():
            continue
        content, record = nbformat.read(copy, as_version=4), stale.record_of(notebook, profile)
        title, lead = _title(content)
        found.append(
            {
                "path": notebook,
                "profile": profile,
                "notebook": f"notebooks/{notebook.name}",
                "page": f"{notebook.stem}.html",
                "title": title,
                "lead": prose(lead, notebook.parent, folder),
                "notes": [f"Out of date, run tox -e figures: {'; '.join(why)}"] if why else [],
                "drawn": prepare(content, profile, folder),
                "content": content,
                "record": record,
            }
        )
    return found, missing


def _write(path, text):
    with storage.atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def _front(profile, folder):
    """Title and abstract, from the README's first lines, and the comparison with the thesis where there is one."""
    readme, table = storage.root() / "README.md", storage.figures_dir() / profile / "comparison.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else "# lensdet"
    heading, _, rest = text.partition("\n")
    made = {"title": heading.lstrip("# "), "abstract": prose(rest.partition("\n## ")[0], readme.parent, folder)}
    if (index := storage.figures_dir() / "index.md").is_file():
        made["index_link"] = _link(index, folder)
    answer = storage.figures_dir() / "comparison.md"
    if answer.is_file():
        said = answer.read_text(encoding="utf-8").partition("\n## Every claim")[0]
        said = re.sub("^#", "##", said, flags=re.MULTILINE)
        before, _, after = re.sub(r"^!\[.*$", "\f", said, flags=re.MULTILINE).partition("\f")  # where the figure goes
        made["answer"] = [prose(part, answer.parent, folder) for part in (before, after)]
        made["answer_link"] = _link(answer, folder)
        if (drawn := answer.with_suffix(".png")).is_file():
            made["answer_figure"] = base64.b64encode(drawn.read_bytes()).decode()
    if table.is_file():
        lower = re.sub("^#", "##", table.read_text(encoding="utf-8"), flags=re.MULTILINE)  # the page has its own title
        made["comparison"] = prose(lower, table.parent, folder)
        made |= {"comparison_link": _link(table, folder), "comparison_name": f"figures/{profile}/{table.name}"}
    return made


def main(arguments: list[str]) -> int:
    """Run what is stale, write the site; returns the exit status, that of the notebooks."""
    parser = argparse.ArgumentParser(
        prog="tox -e paper --",
        description="Write the executed notebooks as a static HTML site that needs no network, "
        "build/paper/index.html. Notebooks that are stale run first.",
    )
    parser.add_argument("--profile", choices=PROFILES, help="as in tox -e figures")
    parser.add_argument("--as-is", action="store_true", help="run nothing; what is stale is marked as such")
    options = parser.parse_args(arguments)
    try:
        storage.root()
    except FileNotFoundError as error:  # an installed lensdet has no notebooks
        parser.error(str(error))
    given = ["--profile", options.profile] if options.profile else []
    status = 0 if options.as_is else drawing.main(given)
    if status in (0, 1):  # one that failed does not stop the others
        print(write(options.profile, progress=lambda line: print(line, flush=True)), flush=True)
    return status
