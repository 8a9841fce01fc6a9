"""HTML of the paper: formulas, what prose and tables need and nothing else, links that stay in the site, contents."""

import base64
import functools
import html
import os
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import jinja2
from bs4 import BeautifulSoup
from latex2mathml.converter import convert_to_element
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.sanitize import SanitizeHTML

from lensdet import storage

_TAGS = ("a b blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup "
         "table tbody td tfoot th thead tr ul math mfrac mi mn mo mover mroot mrow mspace msqrt mstyle msub msubsup "
         "msup mtable mtd mtext mtr munder munderover").split()  # fmt: skip
_MATHS = "accent display displaystyle fence form mathvariant maxsize minsize stretchy width".split()
_ATTRIBUTES = {"*": ["class", "colspan", "rowspan", *_MATHS], "a": ["href", "id", "title"], "img": ["src", "alt"]}
_NUMBERS = re.compile(r"\s*[-+–\d., ()%±]*\d[-+–\d., ()%±]*( to [-+–\d., ()%]+)?\s*")  # not broken into two lines
_MISSING = ("<NA>", "NA", "NaN", "nan", "NaT", "None")
FILES = "files"  # folder of the site with what its pages link to
TEXT = (".bib", ".cff", ".ini", ".j2", ".lock", ".py", ".sbatch", ".sh", ".tex", ".toml", ".yaml", ".yml", "")


def mathml(formula: str, display: str = "inline") -> str:
    """A formula in LaTeX as ``<math>``; one that latex2mathml cannot read as escaped text."""
    try:
        tree = convert_to_element(formula, display=display)
    except Exception:  # it has no one kind of error for what it cannot read
        return html.escape(f"${formula}$")
    for part in tree.iter():
        part.text = html.unescape(part.text or "")  # it writes signs as references
    return ElementTree.tostring(tree, encoding="unicode")


def markdown_html(text: str) -> str:
    """Markdown as HTML with MathML; not safe yet."""
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    renderer.inline_math, renderer.block_math = mathml, functools.partial(mathml, display="block")
    return MarkdownWithMath(renderer).render(text)


@jinja2.pass_context
def clean(context: jinja2.runtime.Context, text: str) -> str:
    """HTML with only what prose, tables and formulas need, pictures embedded, links to the site's copies of files.

    What is linked is added to the resource ``linked``.
    """
    resources = context["resources"]
    base = Path(context.get("cell", {}).get("metadata", {}).get("base", storage.root() / "notebooks"))
    text = re.sub(r"<(style|script)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    sanitizer = SanitizeHTML(tags=_TAGS, attributes=_ATTRIBUTES, strip=True)
    soup = BeautifulSoup(sanitizer.sanitize_html_tags(text), "html.parser")
    for link in soup("a", href=True):
        url = urlsplit(link["href"])
        target = base / unquote(url.path)
        target = target / "README.md" if url.path and target.is_dir() else target
        place = page_of(target) if url.path and not url.netloc and target.is_file() else None
        if place:
            resources["linked"].add(target.resolve())
            moved = os.path.relpath(place, Path(resources["name"]).parent)
            link["href"] = url._replace(path=quote(Path(moved).as_posix())).geturl()
        elif not url.scheme and not url.netloc and (url.path or not url.fragment):
            link.unwrap()  # it leads nowhere
    _embed(soup, base)
    _cite(soup, resources)
    for table in soup("table"):
        _drop_row_numbers(table)
    for cell in soup("td"):
        _make_readable(cell)
    return str(soup)


def page_of(path: Path) -> str | None:
    """Where the site has a file of the repository, of ``figures/`` or of ``build/``; None for any other."""
    roots = {"": storage.root(), "figures": storage.figures_dir(), "build": storage.build_dir()}
    for name, root in roots.items():
        if path.resolve().is_relative_to(root.resolve()):
            inside = Path(FILES, name, path.resolve().relative_to(root.resolve()))
            if path.suffix == ".md":
                return inside.with_suffix(".html").as_posix()
            return f"{inside.as_posix()}.html" if path.suffix in TEXT else inside.as_posix()
    return None


def _embed(soup, base):
    """Pictures of `base` and of figures/ become part of the page, others their text."""
    for picture in soup("img"):
        file = base / unquote(picture.get("src", ""))
        ours = any(file.resolve().is_relative_to(folder.resolve()) for folder in (base, storage.figures_dir()))
        if file.suffix == ".png" and ours and os.path.isfile(file):
            picture["src"] = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
        else:
            picture.replace_with(picture.get("alt", ""))


def citations() -> dict[str, str]:
    """Keys of the references in ``docs/references.md`` by what a text says, such as "Lipton et al. 2014"."""
    path = storage.root() / "docs" / "references.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {label: key for key, label in re.findall(r'^- <a id="([^"]+)"></a>\*\*(.+?)\*\*', text, re.MULTILINE)}


def citation(label: str) -> str:
    """A pattern of what a text may say for a label: the year in brackets or after a comma, too."""
    names, _, year = label.rpartition(" ")
    return rf"{re.escape(names).replace('van', '[Vv]an')},?\s\(?{year}\b"


def _cite(soup, resources):
    """Link what a text cites to the references; nothing in links, headings and code."""
    known = citations()
    if not known or resources["name"] == f"{FILES}/docs/references.html":
        return
    every = re.compile("|".join(map(citation, known)))
    page = os.path.relpath(f"{FILES}/docs/references.html", Path(resources["name"]).parent)
    for text in soup.find_all(string=every):
        if text.find_parent(["a", "code", "pre", "h1", "h2", "h3", "math"]):
            continue
        linked = html.escape(text, quote=False)
        for label, key in known.items():
            linked = re.sub(citation(label), rf'<a href="{page}#{key}">\g<0></a>', linked)
        text.replace_with(BeautifulSoup(linked, "html.parser"))
        resources["linked"].add((storage.root() / "docs" / "references.md").resolve())


def _drop_row_numbers(table):
    """A table of pandas without its first column where that numbers the rows from 0, of several joined each its own."""
    rows, head = [row.th for row in table.select("tbody > tr")], table.select_one("thead th")
    said = [int(th.text) if th and th.text.isdecimal() else None for th in rows]
    counts = said[:1] == [0] and all(b in (0, a + 1) for a, b in pairwise(said) if None not in (a, b))
    if head and not head.text.strip() and counts and None not in said:
        for th in [*rows, head]:
            th.decompose()


def _make_readable(cell):
    """A cell of a table: numbers have three decimals at most and are not broken, what is missing is a dash."""
    said = cell.text.strip()
    if said in _MISSING:
        cell.string = "–"
    elif re.fullmatch(r"-?\d+\.\d{4,}(e[-+]\d+)?", said):
        number = float(said)
        cell.string = f"{number:.3f}" if number == 0 or abs(number) >= 0.01 else f"{number:.2g}"
    if _NUMBERS.fullmatch(cell.text):
        cell["class"] = "number"


def finish(text: str) -> str:
    """A page with an id of its own for each heading, no id twice, and its headings in its list of contents."""
    soup = BeautifulSoup(text, "html.parser")
    taken = set()
    for tag in soup.find_all(id=True):
        if tag["id"] in taken:
            del tag["id"]
        else:
            taken.add(tag["id"])
    headings = soup.main.find_all(["h2", "h3"])
    for heading in headings:
        heading["id"] = _free(re.sub(r"[^\w\- ]", "", heading.text.strip().lower()).replace(" ", "-"), taken)
    for link in soup("a", href=re.compile("^#")):
        if unquote(link["href"][1:]) not in taken:
            link.unwrap()
    contents = soup.find(class_="contents")
    if contents and len(headings) > 1:
        for heading in headings:
            entry, link = soup.new_tag("li", attrs={"class": heading.name}), soup.new_tag("a")
            link["href"], link.string = f"#{quote(heading['id'])}", " ".join(heading.text.split())
            entry.append(link)
            contents.ul.append(entry)
    elif contents:
        contents.decompose()
    return str(soup)


def _free(slug, taken):
    """The slug as GitHub has it: of two equal ones the second ends in -1."""
    name, n = slug, 0
    while name in taken:
        n += 1
        name = f"{slug}-{n}"
    taken.add(name)
    return name
