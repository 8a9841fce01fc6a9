"""The paper: nothing in a page leaves it or acts, every picture has its links, and what is missing is reported."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from lensdet import storage
from lensdet.chapters import thesis
from lensdet.machinery import drawing, paper, stale

HOSTILE = """<table onclick="steal()"><tr><td>1.5</td><td><script>steal()</script><img src="https://far.example/x.png">
<a href="javascript:steal()">click</a><style>@import url(https://far.example/a.css)</style></td></tr></table>"""
DRAWS = """# %% [markdown]
# # 1. A chapter
#
# Its lead, with $\\\\alpha^2$ and `$no maths$`, and a [link](../params/bce.yaml).

# %% tags=["parameters"]
profile = None

# %%
from matplotlib import pyplot as plt
from lensdet import parameters
from lensdet.chapters import style
p = parameters.resolve({"profile": profile})
figure, axis = plt.subplots(figsize=(2, 1))
axis.plot([0, 1])
style.save(figure, "fig_5_1", p)
"""


class Page(HTMLParser):
    """Tags, text, and what each attribute says, of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.attributes = [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, tag, name):
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two notebooks, none of them run."""
    for name in ("notebooks", "params", "results/smoke"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "params" / "bce.yaml").write_text("")
    (tmp_path / "README.md").write_text("# Our title\n\nAn abstract, *short*.\n\n## How\n\nNot this.\n")
    (tmp_path / "notebooks" / "01_data.py").write_text(DRAWS)
    (tmp_path / "notebooks" / "02_losses.py").write_text("# %%\n")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    for name in ("build", "results", "figures"):
        monkeypatch.setenv(f"LENSDET_{name.upper()}", str(tmp_path / name))
    return tmp_path


def cell(source, *outputs):
    made = v4.new_code_cell(source)
    made.outputs = list(outputs)
    return made


def executed(*cells, drawn=(), notebook="01_data"):
    """Leave the executed copy of a notebook, as if it had been run."""
    path = storage.root() / "notebooks" / f"{notebook}.py"
    made = stale.made_from(path, "smoke")
    copy = stale.executed(path, "smoke")
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# 1. A chapter\n\nIts lead."), *cells]), copy)
    stale.finish(path, "smoke", made, set(drawn), set())


def told(*files):
    return v4.new_output("display_data", {storage.OUTPUTS: {"drawn": list(files)}})


def page(name="01_data"):
    paper.write("smoke", progress=lambda line: None)
    return Page(storage.build_dir() / "paper" / f"{name}.html")


def test_pages_have_no_scripts_and_load_nothing_from_elsewhere(repository):
    executed(
        v4.new_markdown_cell('Prose <script>steal()</script> ![far](https://far.example/y.png) <b onload="x()">b</b>'),
        cell("table", v4.new_output("execute_result", {"text/html": HOSTILE, "text/plain": "plain"})),
        cell("print('<script>steal()</script>')", v4.new_output("stream", text="<script>steal()</script>\n")),
        cell("1/0", v4.new_output("error", ename="E", evalue="<script>", traceback=["<script>steal()</script>"])),
        cell(
            "svg", v4.new_output("display_data", {"image/svg+xml": "<svg onload='steal()'/>", "text/plain": "an SVG"})
        ),
        cell("js", v4.new_output("display_data", {"application/javascript": "steal()", "text/plain": "a script"})),
        v4.new_raw_cell("<script>steal()</script><meta http-equiv=refresh content='0;url=https://far.example'><form>"),
        v4.new_markdown_cell(
            "[a](JaVaScript:steal\\(\\)) [b](&#106;avascript:steal) [c](data:text/html,x) <a href=' javascript:x'>d</a>"
        ),
    )
    (repository / "README.md").write_text(
        "# <script>steal()</script>\n\n<form action='https://far.example'></form><script>x</script>\n"
    )
    folder = repository / "figures" / "smoke"
    folder.mkdir(parents=True)
    (folder / "comparison.md").write_text(
        "# A\n\n| a |\n|:--|\n| <img src=x onerror=steal()><script>steal()</script> |\n"
    )
    for found in (page(), page("index")):
        assert not {"script", "link", "iframe", "object", "embed", "svg", "base", "form"} & set(found.tags)
        assert not [a for a in found.attributes if a[1].startswith("on") or a[1:] == ("http-equiv", "refresh")]
        for tag, name, value in found.attributes:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag != "a"):
                assert value.startswith("data:image/"), (tag, name, value[:80])
            assert not value.strip().lower().startswith(("javascript:", "data:text"))
        assert found.tags.count("style") == 1 and found.tags.count("meta") == 3
        policy = [v for v in found.values("meta", "content") if "default-src" in v]
        assert policy == [
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
        ]
    assert page().text.count("<script>steal()</script>") == 4  # in code, printed, raised and in a raw cell it is text


def test_each_figure_is_linked_to_notebook_parameters_and_results(repository):
    folder = repository / "figures" / "smoke"
    folder.mkdir(parents=True)
    for name in ("fig_5_1.png", "fig_5_1.pdf", "02_roc.png"):
        (folder / name).write_bytes(b"\x89PNG")
    picture = v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    executed(
        cell("shown", told("fig_5_1.png", "fig_5_1.pdf"), picture), cell("not shown", told("02_roc.png")), drawn=[]
    )
    found = page()
    hrefs = [unquote(h) for h in found.values("a", "href")]
    here = repository / "build" / "paper"
    files = {str((here / h).resolve().relative_to(repository)) for h in hrefs if h[0] == "."}
    assert files == {"figures/smoke/fig_5_1.png", "figures/smoke/fig_5_1.pdf", "figures/smoke/02_roc.png",
                     "notebooks/01_data.py", "params", "results/smoke"}  # fmt: skip
    assert {"#parameters", "#results"} <= set(hrefs)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert {"fig_5_1", "02_roc", "parameters", "results"} <= set(ids)
    assert f"Figure 5.1 {thesis.FIGURES['5.1'].title}" in found.text
    assert len(found.values("img", "src")) == 2  # one as the notebook shows it, one as it is saved
    assert set(found.values("img", "alt")) == {"Figure 5.1", "02_roc"}
    front = Page(here / "index.html")
    assert "01_data.html#fig_5_1" in front.values("a", "href")


def test_pages_have_no_local_paths_and_no_log_noise(repository):
    said = f"read {repository}/results/smoke/bce-1 and {repository}/build/banks/x\n"
    noise = "I0000 00:00:17 port.cc:1] oneDNN\nbce run 1:  50%|█████     | 1/2 [00:01]\n"
    noise += "E0000 00:00:17 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)\n"
    noise += "kept: 95%| of it\nE0000 1 a] memory\n"
    table = f"<table><tr><td>{repository}/params/bce.yaml</td></tr></table>"
    executed(
        cell("a", v4.new_output("stream", text=said), v4.new_output("stream", name="stderr", text=noise)),
        cell("b", v4.new_output("execute_result", {"text/html": table})),
        cell("c", v4.new_output("error", ename="E", evalue="e", traceback=[f"in {repository}/lensdet/x.py"])),
    )
    text = page().text
    assert "read results/smoke/bce-1 and build/banks/x" in text and "in lensdet/x.py" in text and "params/bce" in text
    assert not [noise for noise in (str(repository), "oneDNN", "50%", "cuInit") if noise in text]
    assert "kept: 95%| of it" in text and "E0000 1 a] memory" in text


def test_front_page_has_title_abstract_comparison_and_chapters(repository):
    folder = repository / "figures" / "smoke"
    folder.mkdir(parents=True)
    (folder / "comparison.md").write_text(
        "# Simulated survey: comparison\n\n| claim | here (95 %) |\n|:--|:--|\n| a > b | +0.004 (-0.2 to +0.2) |\n"
    )
    (repository / "figures" / "index.md").write_text("")
    executed()
    front = page("index")
    assert front.text.index("Our title") < front.text.index("An abstract") < front.text.index("Simulated survey")
    assert front.text.index("Simulated survey") < front.text.index("Its lead.")
    assert "Not this" not in front.text and front.tags.count("h1") == 1
    assert "+0.004\xa0(-0.2\xa0to\xa0+0.2)" in " ".join(front.words)  # an interval stays in one line
    assert "02_losses.py has not been run: tox -e figures -- --profile smoke 02" in front.text
    assert {"../../figures/smoke/comparison.md", "../../figures/index.md"} <= set(front.values("a", "href"))


def test_front_page_has_the_summary_before_the_comparison(repository):
    figures = repository / "figures"
    (figures / "smoke").mkdir(parents=True)
    (figures / "smoke" / "comparison.md").write_text("# One profile\n")
    (figures / "comparison.md").write_text(
        "# Of all budgets\n\n![Words of a picture](comparison.png)\n\n1. Six words.\n\n## Every claim\n\nNot here.\n"
    )
    Image.new("L", (2, 2)).save(figures / "comparison.png")
    executed()
    front = page("index")
    order = [front.text.index(words) for words in ("An abstract", "Of all budgets", "Six words.", "One profile")]
    assert order == sorted(order) and "Not here." not in front.text and "Words of a picture" not in front.text
    (source,) = front.values("img", "src")
    assert source.startswith("data:image/png;base64,")
    assert "../../figures/comparison.md" in front.values("a", "href")


def test_pages_say_what_is_out_of_date_or_failed(repository):
    executed()
    assert "Out of date" not in page().text
    (repository / "notebooks" / "01_data.py").write_text(DRAWS + "# more\n")
    assert "Out of date, run tox -e figures: the notebook changed" in page().text
    (repository / "build" / "paper" / "09_old.html").write_text("of a notebook that is gone")
    page()
    assert not (repository / "build" / "paper" / "09_old.html").exists()
    (repository / "build" / "smoke" / "01_data.failed.ipynb").write_text("")
    assert "01_data.py failed, see 01_data.failed.ipynb" in page("index").text


def test_maths_is_rendered_in_prose_but_not_in_code():
    text = "Of $\\alpha^2$, not `$a$`; $\\nonsense{$ stays.\n\n$$F_\\beta$$\n\n~~~\nin $x$ code\n~~~\n\n[a](https://e.org/?a=$b$)\n"
    made = paper.prose(text)
    assert made.count('<img class="maths"') == 2 and 'alt="\\alpha^2"' in made and 'alt="F_\\beta"' in made
    assert "<code>$a$</code>" in made and "in $x$ code" in made and "$\\nonsense{$" in made
    assert 'href="https://e.org/?a=$b$"' in made
    assert made == paper.prose(text)


def test_relative_links_are_rewritten_for_the_page():
    base, folder = Path("/r/figures/quick"), Path("/r/build/paper")
    text = "[a](<fig 1.png>) [a](fig%201.png) [b](HTTPS://x.org/y?a=1&b=2) [c](#d) [e](../index.md#f) [g](a?b=1&c=2)"
    made = paper.prose(text, base, folder)
    hrefs = [part.split('"')[0] for part in made.split('href="')[1:]]
    assert hrefs == ["../../figures/quick/fig%201.png", "../../figures/quick/fig%201.png", "HTTPS://x.org/y?a=1&amp;b=2",
                     "#d", "../../figures/index.md#f", "../../figures/quick/a?b=1&amp;c=2"]  # fmt: skip


def test_page_prefers_png_and_links_no_path_outside_the_figures(repository):
    (repository / "secret.png").write_bytes(b"\x89PNG")
    picture = v4.new_output(
        "display_data", {"text/latex": "$x$", "image/svg+xml": "<svg/>", "image/png": "iVBORw0KGgo="}
    )
    executed(cell("a", told("../../secret.png"), picture))
    found = page()
    assert [src[:22] for src in found.values("img", "src")] == ["data:image/png;base64,"]
    assert not [h for h in found.values("a", "href") if "secret" in h and "figures" not in h]


@pytest.mark.parametrize(
    "name, words",
    [("fig_5_1", "Figure 5.1"), ("table_5_2", "Table 5.2"), ("02_roc", "02_roc"), ("04_fig_5_9_information",) * 2],
)
def test_figure_and_table_labels_follow_from_file_names(name, words):
    assert paper.label(name) == words


def test_every_figure_and_table_file_has_the_title_of_the_thesis():
    for prefix, entries in (("fig", thesis.FIGURES), ("table", thesis.TABLES)):
        for number, entry in entries.items():
            assert paper.thesis_title(f"{prefix}_{number.replace('.', '_')}") == entry.title
    assert paper.thesis_title("02_roc") == paper.thesis_title("fig_9_9") == ""


def test_an_executed_notebook_becomes_a_page_with_figure_links(repository, capsys):
    """With a kernel: what `style.save` leaves in a cell becomes a link below the picture."""
    (repository / "notebooks" / "02_losses.py").unlink()
    assert paper.main(["--profile", "smoke"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("build/paper/index.html")
    found = Page(repository / "build" / "paper" / "01_data.html")
    assert "Drawn by notebooks/01_data.py" in found.text and "Figure 5.1" in found.text
    pictures = [src for src in found.values("img", "src") if src.startswith("data:image/png")]
    assert len(pictures) == 1
    record = json.loads((repository / "build" / "smoke" / "01_data.json").read_text())
    assert set(record["drawn"]) == {"fig_5_1.png", "fig_5_1.pdf"}
    for href in found.values("a", "href"):
        if not href.startswith("#"):
            assert (repository / "build" / "paper" / unquote(href).partition("#")[0]).exists(), href


def test_as_is_writes_the_paper_without_running_notebooks(repository, monkeypatch):
    monkeypatch.setattr(drawing, "main", lambda _: pytest.fail("ran"))
    assert paper.main(["--profile", "smoke", "--as-is"]) == 0
    assert os.listdir(repository / "build" / "paper") == ["index.html"]
