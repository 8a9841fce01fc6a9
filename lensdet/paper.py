"""The paper: executed notebooks as a static HTML site that needs no network, ``python -m lensdet.paper``.

Everything that a page shows lies in it: styles, pictures, and maths, which matplotlib draws.  No page has a script, and
a content policy keeps a browser from loading anything, whatever a notebook has put in.
"""

import argparse
import base64
import html
import io
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

from lensdet import chapters, results, stale, thesis
from lensdet.figures import DRAWN
from lensdet.parameters import PROFILES

TEMPLATES = Path(__file__).parent / "paper_template"
TAGS = ("a b blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup "
        "table tbody td tfoot th thead tr ul").split()  # fmt: skip
ATTRIBUTES = {"*": ["class", "id"], "a": ["href", "title"], "img": ["alt"], "td": ["colspan", "rowspan"],
              "th": ["colspan", "rowspan"]}  # fmt: skip
# What TensorFlow's libraries log, and progress bars.
_NOISE = re.compile(r"^([IWEF]\d{4} [\d:.]+ .*|WARNING: All log messages before absl.*|.*\d+%\|.*|)$")
_MATHS = re.compile(r"(```.*?```|`[^`]*`)|\$\$(.+?)\$\$|\$(?=\S)([^$\n]+?)(?<=\S)\$", re.DOTALL)
_NUMBERS = re.compile(r"(?<=>)[-+–\d., ()%±]+(?: to [-+–\d., ()%]+)?(?=</t[dh]>)")  # not broken into two lines
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


def quiet(text):
    """What a notebook said on stderr, less the notes of libraries and progress bars."""
    return "\n".join(line for line in re.split(r"[\r\n]+", text) if not _NOISE.match(line))


def maths(formula):
    """A formula, in what of TeX matplotlib knows, as an ``<img>`` that holds its drawing; else as it stands."""
    from matplotlib import mathtext

    drawing = io.BytesIO()
    try:
        mathtext.math_to_image(f"${formula.strip()}$", drawing, format="svg")
    except ValueError:
        return html.escape(f"${formula}$")
    data = base64.b64encode(drawing.getvalue()).decode()
    return f'<img class="maths" alt="{html.escape(formula.strip())}" src="data:image/svg+xml;base64,{data}">'


def safe_html(text):
    """HTML with only what a table or prose needs: no script, style, picture from elsewhere, or handler of events."""
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    text = re.sub(r"<(style|script)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES, strip=True).sanitize_html_tags(text)


def prose(text, base=None, page_folder=None):
    """Markdown as safe HTML, with maths drawn and links that lead on from the page.

    Parameters
    ----------
    text : str
    base : Path, optional
        The folder that relative links start from.
    page_folder : Path, optional
        The folder of the page; links are left as they are without.
    """
    from nbconvert.filters import markdown2html

    drawn = []

    def put_aside(match):
        if match[1]:
            return match[0]
        drawn.append(maths(match[2] or match[3]))
        return f"xMATHSx{len(drawn) - 1}x"

    made = safe_html(markdown2html(_MATHS.sub(put_aside, text)))
    made = re.sub(r"xMATHSx(\d+)x", lambda match: drawn[int(match[1])], made)
    made = re.sub(r"<table.*?</table>", r'<div class="scroll">\g<0></div>', made, flags=re.DOTALL)
    made = _NUMBERS.sub(lambda match: match[0].replace(" ", "&nbsp;"), made)
    if page_folder is None:
        return made
    return re.sub(r'href="(?![a-z]+:|#)([^"]*)"', lambda match: f'href="{_link(base / match[1], page_folder)}"', made)


def _link(target, page_folder):
    """A link from a page to a file or folder, as part of a URL."""
    return quote(Path(os.path.relpath(target, page_folder)).as_posix(), safe="/#")


def label(name):
    """A name of a figure or table as the thesis has it: ``fig_5_1`` is Figure 5.1."""
    words = {"fig": "Figure", "table": "Table"}
    numbered = re.fullmatch(r"(fig|table)_(\d+)_(\d+)", name)
    return f"{words[numbered[1]]} {numbered[2]}.{numbered[3]}" if numbered else name


def thesis_title(name):
    """What the thesis calls the figure or table of this name, "" for what goes beyond it."""
    kind, _, number = name.partition("_")
    entry = {"fig": thesis.FIGURES, "table": thesis.TABLES}.get(kind, {}).get(number.replace("_", "."))
    return entry.title if entry else ""


def prepare(notebook, profile, page_folder):
    """Make the cells of an executed notebook fit to be shown, in place; returns names and labels of what they drew.

    Noise goes, folders become relative to the repository, each cell gets the files that it drew, and the saved pictures
    where it shows none itself.
    """
    folder, every = results.figures_dir() / profile, []
    moved = {f"{place}/": "" for place in (results.build_dir(), results.results_dir(), results.root())}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        own = {}
        for output in cell.outputs:
            for file in output.get("data", {}).pop(DRAWN, {}).get("files", []):
                own.setdefault(Path(file).stem, {})[file] = None  # drawn twice, named once
        every += [(name, label(name)) for name in own]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = _replaced(quiet(output.text) if output.name == "stderr" else output.text, moved)
            elif "data" in output:
                output.metadata["alt"] = ", ".join(map(label, own)) or "figure"
                if "text/plain" in output.data:
                    output.data["text/plain"] = _replaced(output.data["text/plain"], moved)
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
    heading = next((block for block in blocks if block.startswith("#")), "# Untitled")
    return heading.lstrip("# ").splitlines()[0], next((block for block in blocks if not block.startswith("#")), "")


def write(profile, progress=print):
    """Write the site of a profile to ``build/paper``; returns the path of its front page.

    Chapters are the notebooks with an executed copy.  One that is stale says so on its page; one without is named on
    the front page.
    """
    from nbconvert import HTMLExporter

    folder = results.build_dir() / "paper"
    exporter = HTMLExporter(template_name=TEMPLATES.name, extra_template_basedirs=[str(TEMPLATES.parent)])
    exporter.register_filter("safe_html", safe_html)
    found, missing = _chapters(profile, folder)
    commit = results.commit()
    shared = {
        "chapters": found,
        "style": (TEMPLATES / "style.css").read_text(),
        "words": f"Profile {profile}{f', commit {commit}' if commit else ''}. Self-contained: no network, no script.",
    }
    written = set()
    for chapter in found:
        path, record = chapter["path"], chapter["record"]
        links = {"notebook": path, "params": results.root() / "params", "results": results.results_dir() / profile}
        resources = {
            **shared,
            "chapter": chapter,
            "profile": profile,
            "record": record,
            "links": {name: _link(place, folder) for name, place in links.items()},
            "tables": _readable(record["made from"]) if record else {},
        }
        exporter.register_filter("prose", lambda text, base=path.parent: prose(text, base, folder))
        page, _ = exporter.from_notebook_node(chapter["content"], resources=resources)
        written.add(_write(folder / chapter["page"], page))
        progress(f"{chapter['page']}: {len(page) / 1e6:.1f} MB")
    front = exporter.environment.get_template("front.html.j2")
    page = front.render(**shared, **_front(profile, folder), missing=missing)
    written.add(_write(folder / "index.html", page))
    for old in set(folder.glob("*.html")) - written:
        old.unlink()
    return folder / "index.html"


def _chapters(profile, folder):
    """The executed notebooks, each with what its page needs, and words on those that are missing."""
    import nbformat

    found, missing, every = [], [], chapters.notebooks()
    for i, notebook in enumerate(every):
        copy, why = stale.executed(notebook, profile), stale.reasons(notebook, profile, later=every[i + 1 :])
        if not copy.is_file():
            how = f"tox -e figures -- --profile {profile} {notebook.name[:2]}"
            missing.append(f"{notebook.name} has not been run in this profile: {how}")
            continue
        content, record = nbformat.read(copy, as_version=4), stale.record_of(notebook, profile)
        title, lead = _title(content)
        found.append(
            {
                "path": notebook,
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
    # What compares all the others comes first.
    return sorted(found, key=lambda chapter: "comparison" not in chapter["page"]), missing


def _write(path, text):
    with results.atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def _front(profile, folder):
    """Title and abstract, from the README's first lines, and the comparison with the thesis where there is one."""
    readme, table = results.root() / "README.md", results.figures_dir() / profile / "comparison.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else "# lensdet"
    heading, _, rest = text.partition("\n")
    made = {"title": heading.lstrip("# "), "abstract": prose(rest.partition("\n## ")[0], readme.parent, folder)}
    if (index := results.figures_dir() / "index.md").is_file():
        made["index_link"] = _link(index, folder)
    if table.is_file():
        lower = re.sub("^#", "##", table.read_text(encoding="utf-8"), flags=re.MULTILINE)  # the page has its own title
        made["comparison"] = prose(lower, table.parent, folder)
        made |= {"comparison_link": _link(table, folder), "comparison_name": f"figures/{profile}/{table.name}"}
    return made


def main(arguments=None):
    """Run what is stale, write the site; returns the exit status, that of the notebooks."""
    parser = argparse.ArgumentParser(
        prog="tox -e paper --",
        description="Write the executed notebooks as a static HTML site that needs no network, "
        "build/paper/index.html. Notebooks that are stale run first.",
    )
    parser.add_argument("--profile", choices=PROFILES, help="as in tox -e figures")
    parser.add_argument("--as-is", action="store_true", help="run nothing; what is stale is marked as such")
    options = parser.parse_args(arguments)
    profile, words = (options.profile, None) if options.profile else chapters.best_profile()
    if words:
        print(words, flush=True)
    status = 0 if options.as_is else chapters.main(["--profile", profile])
    if status in (0, 1):  # one that failed does not stop the others
        print(write(profile, progress=lambda line: print(line, flush=True)), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
