"""The paper: nothing in a page leaves it or acts, formulas are read, no link is dead, and the same gives the same."""

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from lensdet.papermill import paper

HOSTILE = r"""<script>steal()</script><table onclick="steal()"><tr><td>1.5 (-0.2 to +0.2)</td><td>
<img src="https://far.example/x.png" onerror="steal()" alt="far"><iframe src="https://far.example"></iframe>
<a href="javascript:steal()">click</a><style>@import url(https://far.example/a.css)</style><svg onload="steal()"/>
<form action="https://far.example"></form><meta http-equiv=refresh content='0;url=https://far.example'></td></tr></table>
<math href="javascript:steal()"><mtext><img src=x onerror="steal()"></mtext></math>

![far](https://far.example/y.png) ![outside](../secret.png) [a](JaVaScript:steal\(\)) [b](&#106;avascript:steal)
$\href{javascript:steal()}{x} \style{background:url(https://far.example)}{y} \text{<script>steal()</script>}$
"""


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.path, self.tags, self.text, self.attributes = path, [], "", []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.text += data

    def values(self, tag, name):
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a README, a comparison and its picture, and two notebooks."""
    for name in ("notebooks", "build", "figures/smoke"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("notebooks/01_data.py", "notebooks/02_losses.py", "figures/index.md", "figures/smoke/a b.md"):
        (tmp_path / name).write_text("")
    Image.new("L", (2, 2)).save(tmp_path / "figures" / "comparison.png")
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "README.md").write_text("# Our title\n\nAbout [all](figures/index.md#one).\n\n## How\n\nNot this.\n")
    said = "# The claims\n\n[a](<smoke/a b.md>) [gone](gone.md) [b](#c)\n\n![Picture](comparison.png)\n\n"
    (tmp_path / "figures" / "comparison.md").write_text(f"{said}## Every claim\n\nNot this.\n")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path / "figures"))
    return tmp_path


def pages(repository, *cells, names=("01_data", "02_losses")):
    """The front page, and the pages of executed notebooks that have these cells."""
    lead = v4.new_markdown_cell("# 1. A chapter\n\nIts lead has $x$.\n\nMore.")
    notebook = v4.new_notebook(cells=[lead, *cells])
    notebook.metadata = {"papermill": {"parameters": {"profile": "smoke"}}, "lensdet": {"commit": "abc"}}
    copies = [repository / "build" / f"{name}.ipynb" for name in names]
    for copy in copies:
        nbformat.write(notebook, copy)
    site = paper.write(copies, repository / "build" / "paper").parent
    return [Page(site / f"{name}.html") for name in ("index", *names)]


def output(kind, **content):
    return v4.new_code_cell("code()", outputs=[v4.new_output(kind, **content)])


def shown(kind, content, **metadata):
    return output("display_data", data={kind: content, "text/plain": "in words"}, metadata=metadata)


def test_hostile_notebooks_and_texts_leave_nothing_that_acts_or_loads(repository):
    for name in ("README.md", "figures/comparison.md"):
        (repository / name).write_text(f"# <script>steal()</script>\n\n{HOSTILE}")
    every = pages(
        repository,
        v4.new_markdown_cell(f"# <b onload='steal()'>b</b>\n\n{HOSTILE}"),
        v4.new_raw_cell(HOSTILE, metadata={"raw_mimetype": "text/html"}),
        output("stream", text=HOSTILE),
        output("error", ename="E", evalue="e", traceback=[HOSTILE]),
        shown("text/html", HOSTILE, **{"text/html": {"isolated": True}}),
        shown("text/markdown", HOSTILE),
        shown("image/png", '"><script>steal()</script>', **{"image/png": {"width": "1 onload=steal()"}}),
        shown("application/javascript", "steal()"),
        shown("image/svg+xml", "<svg onload='steal()'/>"),
    )
    for page in every:
        assert not {"script", "link", "iframe", "object", "embed", "svg", "base", "form"} & set(page.tags)
        assert page.tags.count("style") == 1 and page.tags.count("meta") == 3
        for tag, name, value in page.attributes:
            assert not name.startswith("on") and name not in ("srcset", "action", "style"), (tag, name)
            assert name != "src" or value.startswith("data:image/png;base64,"), value
            assert name != "href" or (tag == "a" and urlsplit(value).scheme in ("", "https")), value
        (policy,) = [value for value in page.values("meta", "content") if "default-src" in value]
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert every[1].text.count("in words") == 2 and "far outside" in every[1].text


def test_front_page_has_title_comparison_and_chapters_and_no_link_is_dead(repository):
    front, first, second = every = pages(repository)
    found = [front.text.index(words) for words in ("About all", "The claims", "a gone b", "Chapters", "Its lead has")]
    assert found == sorted(found) and "Not this" not in front.text and "More" not in front.text
    assert front.tags.count("h1") == front.tags.count("img") == 1
    for page in every:
        for href in page.values("a", "href"):
            assert (page.path.parent / unquote(urlsplit(href).path)).exists(), href
    assert {"01_data.html", "../../figures/smoke/a%20b.md", "../../figures/index.md#one"} < set(
        front.values("a", "href")
    )
    assert set(first.values("a", "href")) == {"index.html", "02_losses.html", "../../notebooks/01_data.py"}
    assert set(second.values("a", "href")) == {"index.html", "01_data.html", "../../notebooks/02_losses.py"}


def test_formulas_are_mathml_and_code_is_not(repository):
    text = "Of $F_\\beta$, `$no$`, $\\nonsense{$.\n\n$$\\frac{a}{b} < 1$$\n\n| a |\n|:-:|\n| +0.1 (-0.2 to +0.2) |\n"
    page = pages(repository, v4.new_markdown_cell(text), v4.new_code_cell("'$a$'"))[1].path.read_text()
    assert "<msub><mi>F</mi><mi>β</mi></msub>" in page and '<math display="block">' in page and "<mo>&lt;</mo>" in page
    assert "<code>$no$</code>" in page and "$\\nonsense{$" in page and "'$a$'" in page
    assert '<td class="number">+0.1 (-0.2 to +0.2)</td>' in page


def test_pages_have_what_made_them_and_neither_noise_nor_local_paths(repository):
    noise = "I0000 00:00:17 port.cc:1] oneDNN\r\nbce run 1:  50%|█████     | 1/2 [00:01]\r    \r"
    noise += "E0000 00:00:17 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\n"
    noise += "WARNING:tensorflow:5 out of the last 5 calls triggered tf.function retracing.\nkept: 95%| of it\n"
    said = f"{noise}read {repository}/results/smoke/bce-1\n"
    page = pages(repository, output("stream", name="stderr", text=said))[1]
    assert "kept: 95%| of it\nread results/smoke/bce-1" in page.text and "profile smoke, commit abc" in page.text
    assert not [word for word in (str(repository), "oneDNN", "50%", "cuInit", "retracing") if word in page.text]


def test_same_notebooks_give_the_same_bytes_and_one_that_is_gone_no_page(repository):
    picture = shown("image/png", "iVBORw0KGgo=")
    before = [page.path.read_bytes() for page in pages(repository, picture)]
    assert [page.path.read_bytes() for page in pages(repository, picture)] == before
    front, _ = pages(repository, names=("01_data",))
    assert sorted(path.name for path in front.path.parent.iterdir()) == ["01_data.html", "index.html"]
