"""The index of figures and tables, of the repository and of folders that are written here."""

import re
import zlib
from pathlib import Path

import pandas as pd
import pytest

from lensdet import parameters
from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import index
from lensdet.profiles import BEST

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path))
    return tmp_path


def draw(name, parameters, **made):
    figure = style.empty("nothing")
    style.publish(figure, name, parameters, **made)


def test_every_figure_and_table_of_the_thesis_is_in_the_repository():
    table = index.found(ROOT / "figures")
    assert len(table) == len(thesis.FIGURES) + len(thesis.TABLES)
    names = table.kind + " " + table.number
    assert set(names[table.status.str.startswith("outside")]) == {"Figure 1.1", "Figure 2.1"}
    assert not set(names[table.status == "missing"])
    for row in table[table.status == "here"].itertuples():
        assert (ROOT / "figures" / row.file).stat().st_size > 0


def test_no_figure_or_table_has_a_number_that_the_thesis_lacks():
    drawn = [f for profile in BEST for f in (ROOT / "figures" / profile).glob("*")]
    files = {f.stem for f in drawn if re.match("(fig|table)_", f.name)}
    assert files
    known = {f"fig_{n.replace('.', '_')}" for n in thesis.FIGURES} | {
        f"table_{n.replace('.', '_')}" for n in thesis.TABLES
    }
    assert files <= known


def test_index_marks_missing_figures_as_missing(here, smoke):
    draw("fig_5_1", smoke, runs=2)
    index.save(("smoke",))
    table = index.found(here, ("smoke",)).set_index(["kind", "number"])
    assert table.loc[("Figure", "5.1"), "status"] == "here"
    assert (table.status == "missing").sum() == 62 - 2 - 1
    lines = {line.split("|")[1].strip(): line for line in (here / "index.md").read_text().splitlines() if "| " in line}
    assert "**missing**" in lines["Figure 5.2"] and "02_losses" in lines["Figure 5.2"]
    assert "Galaxy Zoo" in lines["Figure 1.1"] and "missing" not in lines["Figure 1.1"]
    for words in ("[fig_5_1.png](smoke/fig_5_1.png)", "(../notebooks/02_losses.py)", "smoke", "| 2 "):
        assert words in lines["Figure 5.1"]
    assert "1 here, 2 illustrations of others, 59 missing: Figure 1.2, Figure 3.1" in (here / "index.md").read_text()


def test_links_in_the_index_point_to_existing_files():
    text = index.markdown(index.found(ROOT / "figures"))
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) > 100
    assert all((ROOT / "figures" / link).exists() for link in links)


def test_each_figure_and_table_has_one_function_named_by_its_number():
    """A stranger greps for figure_5_9 and finds one line; its docstring begins with what it is."""
    table = index.found(ROOT / "figures")
    table = table[~table.status.str.startswith("outside")]
    for row in table.itertuples():
        name = f"{row.kind.lower()}_{row.number.replace('.', '_')}"
        (head,) = re.findall(rf'(?m)^def {name}\(.*:\n    """(.*)$', (ROOT / "lensdet" / row.function).read_text())
        assert head.startswith(f"{row.kind} {row.number}: "), name
    sources = [path.read_text() for path in (ROOT / "lensdet").rglob("*.py")]
    assert sum(len(re.findall(r"(?m)^def (?:figure|table)_\d", source)) for source in sources) == len(table)


def test_index_takes_each_figure_from_the_best_profile(here):
    quick, lite = (parameters.resolve({"profile": name}) for name in ("quick", "lite"))
    for p, n in ((quick, 2), (lite, 10)):
        draw("fig_5_1", p, runs=n)
    draw("fig_5_2", quick, runs=1)
    draw("fig_4_1", lite)
    table = index.found(here).set_index(["kind", "number"])
    assert table.loc[("Figure", "5.1"), "file"] == "lite/fig_5_1.png"
    assert table.loc[("Figure", "5.1"), "profile"] == "lite"
    assert table.loc[("Figure", "5.1"), "runs"] == "10"
    assert table.loc[("Figure", "5.2"), "file"] == "quick/fig_5_2.png"
    assert table.loc[("Figure", "5.2"), "runs"] == "1"
    assert table.loc[("Figure", "4.1"), "runs"] == "no training"


def test_run_count_is_read_whatever_the_data_folder_is_called():
    """A folder may be called after runs."""
    p = parameters.resolve({"profile": "lite", "data": "/data/3 runs"})
    assert index.runs(style.provenance(p, 10)) == "10"
    assert index.runs(style.provenance(p)) == "no training"
    assert index.runs(None) == "not recorded"


# ---- how a figure says what made it


def chunks(png):
    """Type and content of each chunk of a PNG, by the standard."""
    found, at = [], 8
    while at < len(png):
        n, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        content = png[at + 8 : at + 8 + n]
        assert zlib.crc32(kind + content) == int.from_bytes(png[at + 8 + n : at + 12 + n])
        found.append((kind, content))
        at += 12 + n
    return found


def test_figure_file_says_what_made_it(here, smoke):
    draw("fig_5_1", smoke, runs=2)
    path = here / "smoke" / "fig_5_1.png"
    words = style.provenance(smoke, 2)
    assert style.read_provenance(path) == words and "2 runs" in words
    assert (b"tEXt", b"Description\0" + words.encode("latin-1")) in chunks(path.read_bytes())


def test_table_file_says_what_made_it(here, smoke):
    table = pd.DataFrame({"model": ["F_1 *"], "mean": [0.5]})
    style.save_table(table, "table_5_1", smoke, runs=2)
    path = here / "smoke" / "table_5_1.md"
    assert style.read_provenance(path) == style.provenance(smoke, 2)
    path.write_text(table.to_markdown())
    assert style.read_provenance(path) is None


def test_schematic_has_an_empty_provenance(here, smoke):
    style.save(style.empty("a schematic"), "fig_3_1", smoke)
    assert style.read_provenance(here / "smoke" / "fig_3_1.png") == ""
    assert index.runs("") == "no training"
    style.empty("old").savefig(here / "old.png")
    assert style.read_provenance(here / "old.png") is None
