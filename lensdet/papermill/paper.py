"""The paper: executed notebooks, and what they link to, as a static HTML site that needs no network.

All that a page shows lies in it, and all that it links to in the site's folder, which can be copied.  No page has a
script, and a content policy keeps a browser from loading anything, whatever a notebook has put in.
"""

import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode, v4
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from lensdet import storage
from lensdet.papermill import captions, pages

_CODE = "<!-- code -->"  # where the template has it
_SHOWN = ("image/png", "image/jpeg", "text/html", "text/markdown", "text/plain")
# What TensorFlow and its libraries note, on a machine without GPU as errors, and progress bars.
_NOISE = re.compile(
    r"\s*|[IW]\d{4} [\d:.]+ .*|E\d{4} .*(cuInit|oneDNN supports).*|WARNING: All log messages before absl.*|"
    r"WARNING:tensorflow:.*retracing.*|.*\d+%\|.*\|.*"
)


def write(copies: list[Path], folder: Path) -> Path:
    """Write a page for each executed notebook, a front page, and what these link to; returns the front page's path.

    Pages of notebooks that are no longer given are removed.  The same notebooks give the same bytes.

    Parameters
    ----------
    copies : list of Path
        Executed notebooks (.ipynb), in the order of the chapters; ``01_data.ipynb`` becomes ``01_data.html``.
    folder : Path
        Where the site goes; its ``files/`` has copies of what is linked, Markdown and code as pages.
    """
    export = HTMLExporter(template_name="basic", template_file=str(Path(__file__).with_suffix(".html.j2")))
    export.filters = {"markdown2html": pages.markdown_html, "clean_html": pages.clean}
    export.sanitize_html = export.exclude_raw = export.exclude_input_prompt = export.exclude_output_prompt = True
    chapters = {"index.html": front()} | {f"{copy.stem}.html": chapter(copy) for copy in copies}
    named = [(name, page.metadata.title, page.metadata.lead) for name, page in chapters.items()]
    docs = storage.root() / "docs" / "README.md"
    linked, done = ({docs} if docs.is_file() else set()), set()

    def put(name, page):
        at = list(chapters).index(name) if name in chapters else None
        resources = {"pages": named, "at": at, "name": name, "linked": set(), "top": "../" * name.count("/"),
                     "docs": pages.page_of(docs) if docs.is_file() else None}  # fmt: skip
        text, after = export.from_notebook_node(page, resources=resources)
        linked.update(after["linked"])
        with storage.atomic(folder / name) as beside:
            code = page.metadata.get("code")  # already HTML, and long: put in last
            beside.write_text(text.replace(_CODE, code) if code else pages.finish(text), encoding="utf-8")

    shutil.rmtree(folder / pages.FILES, ignore_errors=True)
    for name, page in chapters.items():
        put(name, page)
    while left := sorted(linked - done):
        done.add(path := left[0])
        name = pages.page_of(path)
        if path.suffix == ".md" or path.suffix in pages.TEXT:
            put(name, text_page(path))
        else:
            _copy(path, folder / name)
    for old in set(folder.glob("*.html")) - {folder / name for name in chapters}:
        old.unlink()
    return folder / "index.html"


def _copy(path, place):
    """A file as it is; of a page that is an index, the folder that it leads through."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "index.html":
        shutil.copytree(path.parent, place.parent, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, place)


def front() -> NotebookNode:
    """The front page as a notebook: the README's question, the answer at a glance, then (by the template) chapters."""
    readme, comparison = storage.root() / "README.md", storage.figures_dir() / "comparison.md"
    about = re.split(r"\n## |\n!\[", readme.read_text(encoding="utf-8"))[0]
    cells = [v4.new_markdown_cell(about, id="about", metadata={"base": str(readme.parent)})]
    if comparison.is_file():
        said = re.sub("^#", "##", comparison.read_text(encoding="utf-8"), flags=re.MULTILINE)  # below the page's title
        more = "[Every claim, with its numbers](comparison.md) · [every figure and table of the thesis](index.md)"
        more += " · [documentation](../docs/README.md)"
        first = said.partition("\n### ")[0]
        cells.append(
            v4.new_markdown_cell(f"{first}\n\n{more}", id="comparison", metadata={"base": str(comparison.parent)})
        )
    return v4.new_notebook(cells=cells, metadata=_headed(about))


def chapter(copy: Path) -> NotebookNode:
    """An executed notebook as its page shows it: with captions, without noise, what made it at its end."""
    text = copy.read_text(encoding="utf-8").replace(f"{storage.root()}/", "")  # paths relative to the repository
    notebook = nbformat.reads(text, as_version=4)
    stamp, run = (notebook.metadata.get(name, {}) for name in ("lensdet", "papermill"))
    made = {**run.get("parameters", {}), "commit": stamp.get("commit"), **stamp.get("versions", {})}
    words = ", ".join(f"{name} {value}" for name, value in made.items() if value is not None)
    notebook.cells.append(v4.new_markdown_cell(f"*Made by [{copy.stem}.py]({copy.stem}.py): {words}.*"))
    notebook.metadata = _headed("\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    heading = notebook.metadata.title
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ +(.+)", cell.source, re.MULTILINE)][-1]
        folded = "folded" in cell.metadata.get("tags", [])  # many pictures, as of an appendix
        cell.metadata = {"alt": heading, "folded": folded}
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                output.text = "\n".join(x for x in re.split(r"[\r\n]+", output.text) if not _NOISE.fullmatch(x))
            elif "data" in output:
                output.metadata, output.data = {}, {k: output.data[k] for k in _SHOWN if k in output.data}
        if "outputs" in cell:
            cell.outputs = [out for out in cell.outputs if out.get("text") or out.get("data") or "traceback" in out]
    captions.attach(notebook, run.get("parameters", {}).get("profile", "quick"))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    return notebook


def text_page(path: Path) -> NotebookNode:
    """A page of Markdown as a notebook, or a file of code with an anchor ``L-7`` at its line 7."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        cell = v4.new_markdown_cell(text, id="text", metadata={"base": str(path.parent)})
        return v4.new_notebook(cells=[cell], metadata=_headed(text))
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    name = Path(pages.page_of(path)).relative_to(pages.FILES).with_suffix("").as_posix()
    code = highlight(text, lexer, HtmlFormatter(lineanchors="L", anchorlinenos=False))
    return v4.new_notebook(metadata={"title": name, "lead": "", "code": code})


def _headed(text):
    """The first heading of a text in Markdown, and the paragraph below it."""
    found = re.search(r"^#+ +(.+)\s*((?:[^#\s].*\n?)*)", f"{text}\n\n# Untitled", re.MULTILINE)
    return {"title": found[1], "lead": found[2]}
