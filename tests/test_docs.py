"""README and docs: their links, tables, Python and commands, and what they list of the code."""

import re
import runpy
import shlex
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from lensdet.data import stamps
from lensdet.papermill import pages
from lensdet.parameters import Parameters, read_yaml, resolve
from lensdet.profiles import PROFILES
from lensdet.survey import candidate_list, grade_log, grades, headers, quality
from tests.survey import graded

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = [
    DOCS / "references.md",
    *(DOCS / "reference" / f"{page}.md" for page in ("parameters", "command-line", "python")),
]
PROGRAMS = {"bash", "conda", "doit", "git", "jupyter", "lensdet", "papermill", "pip", "pytest", "python", "ssh", "tox"}
# What no test runs: what the words before it have to say of it.
NOT_RUN = {
    "jupyter lab": "stopped|network",
    "jupyter labextension": "extension",
    "nvidia-cuda-mps-control": "GPU",
    "python -m ipykernel install": "environment",
    "ssh": "network",
}
TOX = ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini")


def name(path):
    return path.relative_to(ROOT).as_posix()


def paragraphs(text):
    """Paragraphs of a page, those of code indented, as Markdown has them; fenced blocks are left out."""
    text = re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [part for part in re.split(r"\n\n+", text) if part.strip()]


def commands(path):
    """Each command of a page as words, with the text that leads to it."""
    found, before = [], ""
    for part in paragraphs(path.read_text()):
        lines = part.splitlines()
        if all(line.startswith("    ") for line in lines):
            found += [(line, before) for line in lines]
        else:
            before = " ".join(part.split())
            found += [(code, before) for code in re.findall(r"`([^`]+)`", before)]
    for line, text in found:
        for command in line.partition("  #")[0].split("&&"):
            words = shlex.split(command)
            while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
                words = words[1:]
            if len(words) > 1 and (words[0] in PROGRAMS or " ".join(words).startswith(tuple(NOT_RUN))):
                yield words, text


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_and_pictures_of_a_page_exist(path):
    text = re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = path.parent / file if file else path
        assert there.exists(), f"{name(path)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings], target


def test_index_of_docs_leads_to_every_page():
    """In one step, so that none is lost."""
    linked = {
        (DOCS / link.partition("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)\s]+)\)", (DOCS / "README.md").read_text())
    }
    assert set(PAGES) - {ROOT / "README.md", DOCS / "README.md"} <= linked


def test_generated_pages_are_up_to_date():
    written = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
    assert {DOCS / page for page in written} == set(GENERATED)
    for page, text in written.items():
        assert (DOCS / page).read_text() == text, f"{page}: python docs/generate.py"


def test_what_pages_and_notebooks_cite_is_among_the_references():
    known = "|".join(pages.citation(label) for label in pages.citations())
    names = r"\b[A-Z][\w'-]+(?: (?:&|and) [A-Z][\w'-]+| et al\.)"
    others = [path for folder in ("notebooks", "lensdet", "params") for path in (ROOT / folder).rglob("*.[py]*")]
    others = [path for path in others if path.suffix in (".py", ".yaml")]
    for path in [*others, *(path for path in PAGES if path.name != "references.md")]:
        text = re.sub(known, "", re.sub(r"\s*\n[# ]*", " ", path.read_text()))
        unknown = re.findall(rf"{names},?\s\(?(?:19|20)\d\d[ab]?\b", text)
        assert not unknown, f"{name(path)} cites {unknown}, which docs/references.bib lacks"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_are_short_and_their_tables_have_whole_rows(path):
    longest = 130 if path == ROOT / "README.md" else 200
    assert path in GENERATED or len(path.read_text().splitlines()) <= longest
    for part in paragraphs(path.read_text()):
        lines = part.splitlines()
        if lines[0].startswith("|"):
            cells = [len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) for line in lines]
            assert re.fullmatch(r"[|:\- ]+", lines[1]) and len(set(cells)) == 1, f"{name(path)}: {lines[0]}"


@pytest.fixture(scope="module")
def help_pages():
    """The help page of a command of ``lensdet``, computed once."""
    pages = {}

    def page(command, capsys):
        if command not in pages:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
                patch.setattr(sys, "argv", ["lensdet", command, "--help"])
                runpy.run_module("lensdet", run_name="__main__")
            assert end.value.code == 0, command
            pages[command] = capsys.readouterr().out
        return pages[command]

    return page


def given(words, folder):
    """Parameters of a command, and its other options; words in capitals stand for what a user has."""
    (folder / "FILE.csv").write_text("id,ra,dec\n")
    stands_in = {"FOLDER": str(folder), "FILE": str(folder / "FILE.csv"), "NAME": "focal"}
    values, options, words = {}, [], list(words)
    while words:
        word = words.pop(0)
        if word == "-f":
            values |= read_yaml(ROOT / words.pop(0))
        elif word == "-p":
            key, value = words.pop(0), words.pop(0)
            values[key] = stands_in.get(value, value.replace("NAME", stands_in["NAME"]))
        elif word.startswith("-"):
            options.append(word)
    return values, options


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_of_a_page_exist_with_their_options_and_parameters(path, tmp_path, help_pages, capsys):
    """Each is run by another test, with other values; here are those that a reader types."""
    for words, before in commands(path):
        command = " ".join(words)
        if words[:3] == ["python", "-m", "lensdet"]:
            words = words[2:]
        reason = next((text for start, text in NOT_RUN.items() if f"{command} ".startswith(f"{start} ")), None)
        if reason:
            assert re.search(reason, before), f"{name(path)}: {command}: say what it needs ({reason})"
        elif words[0] == "lensdet":
            values, options = given(words[2:], tmp_path)
            resolve(values)
            page = help_pages(words[1], capsys)
            assert all(option in page for option in options), command
        elif words[0] == "papermill":
            values, options = given(words[3:], tmp_path)
            resolve(values)
            cell = (ROOT / words[1]).read_text().partition('tags=["parameters"]')[2].partition("# %%")[0]
            used = set(re.findall(r"^(\w+):", cell, re.MULTILINE))
            assert {key for key in values if key in used} or not values, command
            assert set(options) <= {"-k"}, command
        elif words[0] == "tox":
            environments = re.findall(r"-e (\S+)", command)
            assert all(f"testenv:{env}" in TOX for env in environments), command
            if environments == ["figures"] and "--" in words:  # arguments of doit
                known = {"list", "info", "index", "comparison", "fresh=yes", *(f"profile={p}" for p in PROFILES)}
                known |= {path.name[:2] for path in (ROOT / "notebooks").glob("[0-9]*.py")}
                assert set(words[words.index("--") + 1 :]) <= known, command
        elif words[:2] == ["pip", "install"]:
            extras = set(re.findall(r"\.\[([\w,-]+)\]", command))
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extras <= set(project["optional-dependencies"]), command
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), command
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests/")), command
        else:
            assert words[:3] in (["python", "-m", "zipfile"], ["python", "-m", "venv"]), (
                f"{name(path)}: no test knows `{command}`"
            )


def python_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def test_python_code_of_the_readme_scores_stamps_of_a_folder(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(2):
        stamps.write_stamp(tmp_path / f"{i}.fits", rng.normal(size=(101, 101)).astype(np.float32))
    (block,) = python_blocks(ROOT / "README.md")
    namespace = {}
    exec(block.replace("FOLDER", str(tmp_path)), namespace)
    assert namespace["logits"].shape == (2,) and np.isfinite(namespace["logits"]).all()
    assert capsys.readouterr().out.strip() == str(tmp_path / f"{namespace['logits'].argmax()}.fits")


@pytest.mark.slow
def test_python_code_of_the_docs_trains_and_makes_a_table(tmp_path, monkeypatch, capsys):
    """In the order in which it stands there, with the profile smoke in the place of quick."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    blocks = python_blocks(DOCS / "how-to" / "jupyter.md")
    assert len(blocks) == 3
    assert not [
        path for path in PAGES if python_blocks(path) and path.name not in ("README.md", "jupyter.md", "formats.md")
    ]
    namespace = {}
    for block in blocks:
        exec(block.replace('"quick"', '"smoke"'), namespace)
    said = capsys.readouterr().out
    assert "F_beta Soft Loss" in said and "recall" in said and "..." not in said
    assert namespace["loss"].beta == 0.17 and namespace["scores"].logits.shape == (1, 48)


def table_after(path, start):
    """First cells of the table that follows some words of a page."""
    lines = path.read_text().partition(start)[2].partition("\n|")[2].split("\n\n")[0].splitlines()
    return [line.strip("|").split("|")[0].strip() for line in lines[2:]]


def test_page_of_formats_lists_the_columns_of_a_ranked_list_and_reads_it(tmp_path, monkeypatch):
    ranked = pd.DataFrame({"rank": [1], "id": ["a"], "ra": [1.0], "dec": [1.0], "filled": [0], "ensemble": [1.0],
                           "broad": [1.0], "match": [""], "separation": [np.nan],
                           "reference": [""], "tile": [""], "hdu": [0], "x": [1.0], "y": [1.0], "centre_snr": [1.0],
                           "flag": [""]})  # fmt: skip
    candidate_list.write(tmp_path, ranked, [], ["broad"], {})
    listed = table_after(DOCS / "reference" / "formats.md", "Columns of `ranked.ecsv`")
    listed = [column for cell in listed for column in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(Table.read(tmp_path / "ranked.ecsv").colnames)
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(DOCS / "reference" / "formats.md")
    *first, last = block.strip().splitlines()
    namespace = {}
    exec("\n".join(first), namespace)
    assert list(eval(last, namespace)["id"]) == ["a"]


def test_page_of_formats_lists_the_columns_of_grades(tmp_path):
    page = DOCS / "reference" / "formats.md"
    listed = [column for cell in table_after(page, "## Grades") for column in re.findall(r"`(\w+)`", cell)]
    assert listed == list(grade_log.COLUMNS)
    folder = graded.ranked(tmp_path, ["a", "b"], pictures=0)
    graded.grade(folder, "anna", {"a": "A"})
    merged = grades.merge(folder)
    listed = table_after(page, "Columns of `graded/grades.csv`")
    listed = {column for cell in listed for column in re.findall(r"`([\w.]+)`", cell)}
    added = {*merged.table} - {*candidate_list.read_list(folder)}
    assert listed == {name.replace("grade_anna", "grade_...") for name in added}
    listed = table_after(page, "Columns of `graded/agreement.csv`")
    assert [column for cell in listed for column in re.findall(r"`(\w+)`", cell)] == grades.COLUMNS


def test_troubleshooting_lists_every_reason_and_flag_of_a_stamp():
    listed = table_after(DOCS / "troubleshooting.md", "## A stamp is left out")
    assert [cell.strip("`") for cell in listed] == list(headers.REASONS)
    listed = table_after(DOCS / "troubleshooting.md", "## A stamp is flagged")
    assert [cell.strip("`") for cell in listed] == list(quality.REASONS)


def test_speed_page_has_the_profiles_with_their_chunks_and_runs():
    text = (DOCS / "why" / "speed.md").read_text()
    rows = {profile: re.search(rf"^\| `{profile}`.*$", text, re.MULTILINE)[0] for profile in PROFILES}
    for profile, row in rows.items():
        p: Parameters = resolve({"profile": profile})
        assert row.rstrip(" |").endswith(f"| {p.runs}"), row
        assert profile == "smoke" or f"{p.chunks} chunks of {p.chunk_size}" in row, row
