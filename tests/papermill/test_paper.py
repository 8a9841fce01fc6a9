"""The paper: nothing in a page acts or leaves the site, captions, contents, formulas, and the same gives the same."""

import base64
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


def test_front_page_has_question_answer_and_chapters_and_a_copy_of_the_site_has_no_dead_link(repository, tmp_path):
    front, first, second = pages(repository)
    text = front.text[front.text.rindex("Our title") :]  # below the contents
    found = [text.index(words) for words in ("About all", "The claims", "a gone b", "Chapters", "Its lead has")]
    assert found == sorted(found) and "Not this" not in front.text and "More" not in front.text
    assert front.tags.count("h1") == front.tags.count("img") == 1
    assert {"01_data.html", "files/figures/smoke/a%20b.html", "files/figures/index.html#one"} < set(
        front.values("a", "href")
    )
    assert set(first.values("a", "href")) == {"index.html", "02_losses.html", "files/notebooks/01_data.py.html"}
    assert set(second.values("a", "href")) == {"index.html", "01_data.html", "files/notebooks/02_losses.py.html"}
    moved = front.path.parent.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    every = {path.resolve(): Page(path) for path in moved.rglob("*.html")}
    assert moved / "files" / "figures" / "smoke" / "a b.html" in every
    for path, page in every.items():
        ids = [value for _, name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids)), path
        for url in map(urlsplit, page.values("a", "href")):
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.is_relative_to(moved) and target.is_file(), (path, url)


def test_contents_list_every_heading_of_a_page_by_its_own_anchor(repository):
    page = pages(repository, v4.new_markdown_cell("## Same\n\n[to](#same-1) [no](#gone)\n\n## Same\n\n### Below"))[1]
    assert [url for url in page.values("a", "href") if "#" in url] == ["#same", "#same-1", "#below", "#same-1"]
    assert {"same", "same-1", "below"} < {value for _, name, value in page.attributes if name == "id"}


PNG = "iVBORw0KGgo="


def test_cell_below_a_figure_or_table_is_its_caption_with_what_made_it(repository):
    chapter = repository / "lensdet" / "chapters" / "losses"
    chapter.mkdir(parents=True)
    (chapter / "figures.py").write_text("x = 1\n\n\ndef figure_5_1(x):\n    pass\n\n\ndef roc(x):\n    pass\n")
    for name in ("fig_5_1.png", "02_roc.csv", "02_roc.md"):
        (repository / "figures" / "smoke" / name).write_text("")
    imports = v4.new_code_cell("from lensdet.chapters.losses import figures, tables\n%matplotlib inline")
    imports_too = v4.new_code_cell("from lensdet.chapters.losses import figures")
    both = v4.new_code_cell("f = figures.roc(y)", outputs=[
        v4.new_output("display_data", data={"image/png": PNG}),
        v4.new_output("execute_result", data={"text/html": "<table><tr><td>1</td></tr></table>"}),
    ])  # fmt: skip
    one = shown("image/png", PNG)
    page = pages(
        repository, imports, imports_too, one,
        v4.new_markdown_cell("**Figure 5.1.** Of *all* $x$, the first.  More."),
        both, v4.new_markdown_cell("**Figure 02_roc.** A curve."), v4.new_markdown_cell("**Table 02_roc.** Its table."),
        shown("image/png", PNG), v4.new_markdown_cell("No caption."),
        v4.new_markdown_cell("**Figure 5.2.** Of nothing."),
    )[1]  # fmt: skip
    text = page.path.read_text()
    captions = [part.partition("</figcaption>")[0] for part in text.split("<figcaption>")[1:]]
    assert len(captions) == 3 and text.count("<figure ") == 3 and 'id="figure-5.1"' in text
    assert page.values("img", "alt") == ["Of all x, the first.", "A curve.", "1. A chapter"]
    source = "files/lensdet/chapters/losses/figures.py.html#L-"
    assert f"{source}4" in captions[0] and "files/figures/smoke/fig_5_1.png" in captions[0]
    assert f"{source}8" in captions[1] and "files/figures/smoke/02_roc.csv" in captions[1]
    assert "Its table." in captions[2] and "Of nothing" not in "".join(captions) and "Of nothing" in text


def test_as_many_captions_as_pictures_of_a_cell_go_one_to_each(repository):
    six = v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", data={"image/png": PNG})] * 3)
    said = "\n\n".join(f"**Figure 7.{i}.** Picture {i}." for i in (1, 2, 3))
    page = pages(repository, six, v4.new_markdown_cell(said))[1]
    assert page.values("img", "alt") == ["Picture 1.", "Picture 2.", "Picture 3."]
    assert page.tags.count("figcaption") == 3


def test_tables_are_rounded_and_what_is_missing_is_a_dash(repository):
    cells = "".join(f"<td>{x}</td>" for x in ("81.798812", "0.00004567", "&lt;NA&gt;", "NaN", "1102", "F_beta"))
    table = f"<table><thead><tr><th></th></tr></thead><tbody><tr><th>0</th>{cells}</tr></tbody></table>"
    text = pages(repository, shown("text/html", table))[1].path.read_text()
    assert "<th>" not in text  # the number of the row
    found = [part.partition("</td>")[0].partition(">")[2] for part in text.split("<td")[1:]]
    assert found == ["81.799", "4.6e-05", "–", "–", "1102", "F_beta"]


def test_what_a_text_cites_leads_to_the_references(repository):
    (repository / "docs").mkdir()
    said = '- <a id="lipton2014"></a>**Lipton et al. 2014** Thresholding.\n- <a id="v"></a>**van Lohuizen 2021** A.\n'
    (repository / "docs" / "references.md").write_text(f"# References\n\n{said}")
    text = "As Lipton et al. (2014) `Lipton et al. 2014` say (Van Lohuizen 2021, section 3)."
    page = pages(repository, v4.new_markdown_cell(text))[1]
    links = [url for url in page.values("a", "href") if "references" in url]
    assert links == [f"files/docs/references.html#{key}" for key in ("lipton2014", "v")]
    references = Page(page.path.parent / "files" / "docs" / "references.html")
    assert {"lipton2014", "v"} < {value for _, name, value in references.attributes if name == "id"}


def test_formulas_are_mathml_and_code_is_not(repository):
    text = "Of $F_\\beta$, `$no$`, $\\nonsense{$.\n\n$$\\frac{a}{b} < 1$$\n\n| a |\n|:-:|\n| +0.1 (-0.2 to +0.2) |\n"
    page = pages(repository, v4.new_markdown_cell(text), v4.new_code_cell("'$a$'"))[1].path.read_text()
    assert "<msub><mi>F</mi><mi>β</mi></msub>" in page and '<math display="block">' in page and "<mo>&lt;</mo>" in page
    assert "<code>$no$</code>" in page and "$\\nonsense{$" in page and "'$a$'" in page
    assert '<td class="number">+0.1 (-0.2 to +0.2)</td>' in page


def test_pictures_of_a_folded_cell_are_there_and_folded(repository):
    picture = base64.b64encode(b"picture").decode()
    cell = shown("image/png", picture)
    cell.metadata["tags"] = ["folded"]
    heading, caption = v4.new_markdown_cell("## Appendix"), v4.new_markdown_cell("**Figures 7.1 and 7.2.** Each model.")
    page = pages(repository, heading, cell, caption)[1].path.read_text()
    folded = page.partition("<details><summary>Appendix</summary>")[2].partition("</details>")[0]
    assert f"data:image/png;base64,{picture}" in folded.replace("\n", "") and "Each model." in folded


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
    assert sorted(path.name for path in front.path.parent.iterdir()) == ["01_data.html", "files", "index.html"]
