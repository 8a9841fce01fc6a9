"""The paper: executed notebooks as a static HTML site that needs no network.

All that a page shows lies in it.  No page has a script, and a content policy keeps a browser from loading anything,
whatever a notebook has put in.
"""

import base64
import functools
import html
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import jinja2
import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert_to_element
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode, v4

from lensdet import storage

_TAGS = ("a b blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup "
         "table tbody td tfoot th thead tr ul math mfrac mi mn mo mover mroot mrow mspace msqrt mstyle msub msubsup "
         "msup mtable mtd mtext mtr munder munderover").split()  # fmt: skip
_MATHS = "accent display displaystyle fence form mathvariant maxsize minsize stretchy width".split()
_ATTRIBUTES = {"*": ["class", "colspan", "rowspan", *_MATHS], "a": ["href", "title"], "img": ["src", "alt"]}
_SHOWN = ("image/png", "image/jpeg", "text/html", "text/markdown", "text/plain")
# What TensorFlow and its libraries note, on a machine without GPU as errors, and progress bars.
_NOISE = re.compile(
    r"\s*|[IW]\d{4} [\d:.]+ .*|E\d{4} .*(cuInit|oneDNN supports).*|WARNING: All log messages before absl.*|"
    r"WARNING:tensorflow:.*retracing.*|.*\d+%\|.*\|.*"
)
_NUMBERS = re.compile(r"\s*[-+–\d., ()%±]*\d[-+–\d., ()%±]*( to [-+–\d., ()%]+)?\s*")  # not broken into two lines


def write(copies: list[Path], folder: Path) -> Path:
    """Write a page for each executed notebook, and a front page; returns the path of the front page.

    Pages of notebooks that are no longer given are removed.  The same notebooks give the same bytes.

    Parameters
    ----------
    copies : list of Path
        Executed notebooks (.ipynb), in the order of the chapters; ``01_data.ipynb`` becomes ``01_data.html``.
    folder : Path
        Where the pages go.
    """
    export = HTMLExporter(template_name="basic", template_file=str(Path(__file__).with_suffix(".html.j2")))
    export.filters = {"markdown2html": _markdown_html, "clean_html": _clean}
    export.sanitize_html = export.exclude_raw = export.exclude_input_prompt = export.exclude_output_prompt = True
    pages = {"index.html": front()} | {f"{copy.stem}.html": chapter(copy) for copy in copies}
    named = [(name, page.metadata.title, page.metadata.lead) for name, page in pages.items()]
    for i, (name, page) in enumerate(pages.items()):
        text, _ = export.from_notebook_node(page, resources={"pages": named, "at": i, "folder": folder})
        with storage.atomic(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")
    for old in set(folder.glob("*.html")) - {folder / name for name in pages}:
        old.unlink()
    return folder / "index.html"


def front() -> NotebookNode:
    """The front page as a notebook: the README's first paragraphs, then the comparison with the thesis."""
    readme, comparison = storage.root() / "README.md", storage.figures_dir() / "comparison.md"
    about = readme.read_text(encoding="utf-8").partition("\n## ")[0]
    cells = [v4.new_markdown_cell(about, id="about", metadata={"base": str(readme.parent)})]
    if comparison.is_file():
        said = re.sub("^#", "##", comparison.read_text(encoding="utf-8"), flags=re.MULTILINE)  # below the page's title
        said = said.partition("\n### Every claim")[0] + "\n\n[Every claim](comparison.md), [every figure](index.md)"
        cells.append(v4.new_markdown_cell(said, id="comparison", metadata={"base": str(comparison.parent)}))
    return v4.new_notebook(cells=cells, metadata=_headed(about))


def chapter(copy: Path) -> NotebookNode:
    """An executed notebook as its page shows it: without the noise of libraries, and with what made it at its end."""
    text = copy.read_text(encoding="utf-8").replace(f"{storage.root()}/", "")  # paths relative to the repository
    notebook = nbformat.reads(text, as_version=4)
    stamp, run = (notebook.metadata.get(name, {}) for name in ("lensdet", "papermill"))
    made = {**run.get("parameters", {}), "commit": stamp.get("commit"), **stamp.get("versions", {})}
    words = ", ".join(f"{name} {value}" for name, value in made.items() if value is not None)
    notebook.cells.append(v4.new_markdown_cell(f"*Made by [{copy.stem}.py]({copy.stem}.py): {words}.*"))
    notebook.metadata = _headed("\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    heading = notebook.metadata.title
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ +(.+)", cell.source, re.MULTILINE)][-1]
        cell.id, cell.metadata = f"cell-{i}", {"alt": heading}
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                output.text = "\n".join(x for x in re.split(r"[\r\n]+", output.text) if not _NOISE.fullmatch(x))
            elif "data" in output:
                output.metadata, output.data = {}, {k: output.data[k] for k in _SHOWN if k in output.data}
        if "outputs" in cell:
            cell.outputs = [out for out in cell.outputs if out.get("text") or out.get("data") or "traceback" in out]
    return notebook


def _headed(text):
    """The first heading of a text in Markdown, and the paragraph below it."""
    found = re.search(r"^#+ +(.+)\s*((?:[^#\s].*\n?)*)", f"{text}\n\n# Untitled", re.MULTILINE)
    return {"title": found[1], "lead": found[2]}


def mathml(formula: str, display: str = "inline") -> str:
    """A formula in LaTeX as ``<math>``; one that latex2mathml cannot read as escaped text."""
    try:
        tree = convert_to_element(formula, display=display)
    except Exception:  # it has no one kind of error for what it cannot read
        return html.escape(f"${formula}$")
    for part in tree.iter():
        part.text = html.unescape(part.text or "")  # it writes signs as references
    return ElementTree.tostring(tree, encoding="unicode")


def _markdown_html(text):
    """Markdown as HTML with MathML; not safe yet."""
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    renderer.inline_math, renderer.block_math = mathml, functools.partial(mathml, display="block")
    return MarkdownWithMath(renderer).render(text)


@jinja2.pass_context
def _clean(context, text):
    """HTML with only what prose, tables and formulas need, pictures embedded, links leading on from the page."""
    base = Path(context.get("cell", {}).get("metadata", {}).get("base", storage.root() / "notebooks"))
    text = re.sub(r"<(style|script)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    sanitizer = SanitizeHTML(tags=_TAGS, attributes=_ATTRIBUTES, strip=True)
    soup = BeautifulSoup(sanitizer.sanitize_html_tags(text), "html.parser")
    for link in soup("a"):
        url = urlsplit(link.get("href", ""))
        if url.path and not url.netloc and os.path.exists(target := base / unquote(url.path)):
            moved = Path(os.path.relpath(target, context["resources"]["folder"])).as_posix()
            link["href"] = url._replace(path=quote(moved)).geturl()
        elif not url.scheme and not url.netloc:
            link.unwrap()  # it leads nowhere
    for picture in soup("img"):
        file = base / unquote(picture.get("src", ""))
        if file.suffix == ".png" and os.path.isfile(file) and file.resolve().is_relative_to(base.resolve()):
            picture["src"] = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
        else:
            picture.replace_with(picture.get("alt", ""))
    for cell in soup("td"):
        if _NUMBERS.fullmatch(cell.text):
            cell["class"] = "number"
    return str(soup)
