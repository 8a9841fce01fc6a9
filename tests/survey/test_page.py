"""The page of candidates: it shows what it was given, nothing in it acts, and an old page survives a failure."""

import base64
import hashlib
import math
import os
import re
import weakref
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lensdet import storage
from lensdet.data import stamps
from lensdet.data.random import stream
from lensdet.survey.page import PITCH, digits, faint, remove, smooth, strip, write

REAL = storage.root().parent / "shared" / "data" / "cutouts" / "lens_candidates"
HOSTILE = [
    "<script>steal()</script>",
    "\"><img src=x onerror='steal()'>",
    "' onload='steal()",
    "javascript:steal()",
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b\u202egpj.exe\u2066\n\udcff",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "&lt;b&gt; &amp;amp;",
    "</style></article></title>",
]


class Page(HTMLParser):
    """Tags with their attributes, and the text of each article and of the rest."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.articles, self.rest, self.style, self.inside = [], {}, "", "", None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag in ("article", "style"):
            self.inside = attributes.get("id", tag)

    def handle_endtag(self, tag):
        if tag in ("article", "style"):
            self.inside = None

    def handle_data(self, data):
        if self.inside == "style":
            self.style += data
        elif self.inside:
            self.articles[self.inside] = self.articles.get(self.inside, "") + data
        else:
            self.rest += data

    def values(self, tag, name):
        return [attributes[name] for t, attributes in self.tags if t == tag and name in attributes]


def row(rank, **changed):
    empty = {"ra": math.nan, "dec": math.nan, "filled": 0, "match": "", "separation": math.nan, "reference": ""}
    scores = {"score": 1 / (1 + abs(rank)), "scores": {"bce": 0.25, "f1": 0.75}}
    return {"rank": rank, "id": f"stamp {rank}", **empty, **scores, **changed}


def batches(n, size=4, purpose="pictures"):
    """Stamps and heat of n candidates, drawn by their number: a batch at a time."""
    for first in range(0, n, size):
        numbers = range(first, min(first + size, n))
        noise = [stream(1, purpose, i).normal(0, 1, stamps.SHAPE) + 40 * np.eye(101) for i in numbers]
        heat = [stream(2, purpose, i).random((7, 7)) for i in numbers]
        yield stamps.normalise(np.stack(noise)), np.stack(heat).astype(np.float32)


def as_read(text):
    """As it is read back from HTML, where a lone surrogate is written with a backslash."""
    return text.encode("utf-8", "backslashreplace").decode()


def made(folder, rows, pictures=None, models=("bce", "f1"), heading="Candidates", **more):
    pictures = batches(len(rows)) if pictures is None else pictures
    return Page(write(folder, rows, pictures, models, heading, progress=False, **more))


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_candidates_are_in_order_each_with_its_picture_and_anchor(tmp_path):
    rows = [row(rank) for rank in range(1, 251)]
    page = made(tmp_path / "deep" / "page", rows)
    names = [f"{rank:05d}.jpg" for rank in range(1, 251)]
    assert sorted(path.name for path in (tmp_path / "deep" / "page" / "stamps").iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "deep" / "page").iterdir()) == ["index.html", "stamps"]
    assert page.values("img", "src") == [f"stamps/{name}" for name in names for _ in range(3)]
    assert set(page.values("img", "loading")) == {"lazy"}
    assert page.values("article", "id") == [f"r{rank}" for rank in range(1, 251)]
    jumps = [href for href in page.values("a", "href") if href.startswith("#r")]
    assert jumps[:3] == ["#r1", "#r101", "#r201"] and jumps[3:] == [f"#r{rank}" for rank in range(1, 251)]
    assert all(f"stamp {rank}" in page.articles[f"r{rank}"] for rank in range(1, 251))
    assert len(set(page.values("article", "id"))) == len(page.values("article", "id"))


def test_a_jump_leads_to_the_first_flagged_stamp(tmp_path):
    rows = [row(1), row(2), row(3, flag="faint centre"), row(4, flag="outshone")]
    page = made(tmp_path / "some", rows)
    assert [href for href in page.values("a", "href") if href.startswith("#r")][:2] == ["#r1", "#r3"]
    assert "flagged: faint centre" in page.articles["r3"] and "scores say nothing" in page.rest
    none = made(tmp_path / "none", rows[:2])
    assert "lagged" not in none.rest and not any("flagged" in text for text in none.articles.values())


def test_page_shows_every_value_of_a_candidate(tmp_path):
    full = row(
        7,
        ra=150.123456,
        dec=-2.5,
        score=0.987,
        filled=12,
        flag="faint centre",
        match="J1000-0230",
        separation=1.26,
        reference="Petrillo https://arxiv.org/abs/1",
    )
    told = {"notes": ["First line.", "Second line."], "summary": [("ranked", "9 of 10")]}
    page = made(tmp_path, [full, row(12)], **told)
    text = page.articles["r7"]
    for words in (
        "0.987",
        "0.250",
        "0.750",
        "bce",
        "f1",
        "12 pixels filled",
        "faint centre",
        "J1000-0230",
        "1.3″",
        "Petrillo",
    ):
        assert words in text
    assert all(words in page.rest for words in ("First line.", "Second line.", "ranked", "9 of 10", "Heat of bce"))
    degrees = re.search(r"(\d+\.\d+) ([+-]\d+\.\d+)\s", text)
    sexagesimal = re.search(r"(\d+:\d+:[\d.]+) ([+-]\d+:\d+:[\d.]+)", text)
    given = SkyCoord(full["ra"], full["dec"], unit="deg")
    assert given.separation(SkyCoord(*degrees.groups(), unit="deg")).arcsec < 0.01
    assert given.separation(SkyCoord(*sexagesimal.groups(), unit=("hourangle", "deg"))).arcsec < 0.1
    bars = page.values("i", "class")
    assert bars[:3] == ["b99", "b25", "b75"]
    assert all(f".{bar}::before {{ width: {bar[1:]}%; }}" in page.style for bar in set(bars))
    for words in ("filled", "near", "nan"):
        assert words not in page.articles["r12"]
    assert "position not known" in page.articles["r12"]


@pytest.mark.parametrize("ra, dec", [(math.nan, 3.0), (3.0, math.nan), (math.inf, 0.0)])
def test_half_a_position_is_shown_as_not_known(tmp_path, ra, dec):
    assert "position not known" in made(tmp_path, [row(1, ra=ra, dec=dec)]).articles["r1"]


def test_a_declination_beyond_the_pole_is_refused_before_any_picture(tmp_path):
    with pytest.raises(ValueError, match=r"stamp 2: dec 200"):
        write(tmp_path, [row(1), row(2, ra=1.0, dec=200.0)], iter(lambda: 1 / 0, 0), ["bce"], "A", progress=False)


def test_hostile_text_adds_no_tags_and_names_no_file(tmp_path):
    rows = [row(i + 1, id=t, match=t, reference=t, scores={"bce": 0.5, t: 0.5}) for i, t in enumerate(HOSTILE)]
    for text, one in zip(HOSTILE, rows, strict=True):
        folder = tmp_path / str(one["rank"])
        page = made(folder, [one], models=("bce", text), heading=text, notes=[text], summary=[(text, text)])
        plain = made(tmp_path / "plain", [row(one["rank"], match="a", reference="b")],
                     notes=["d"], summary=[("e", "f")])  # fmt: skip
        assert [tag for tag, _ in page.tags if tag != "bdi"] == [tag for tag, _ in plain.tags if tag != "bdi"]
        assert {name for _, attributes in page.tags for name in attributes} == {
            name for _, attributes in plain.tags for name in attributes
        }
        assert page.style == plain.style and "49" not in page.articles[f"r{one['rank']}"]
        assert page.articles[f"r{one['rank']}"].count(as_read(text)) >= 2  # id, match: all of it, and as text
        assert page.rest.count(as_read(text)) == 5  # title, heading, note, both sides of the summary
        assert set(files(folder)) == {"index.html", f"stamps/{one['rank']:05d}.jpg"}
    assert set(os.listdir(tmp_path)) == {*(str(i + 1) for i in range(len(HOSTILE))), "plain"}


def test_content_policy_allows_the_style_and_no_script(tmp_path):
    page = made(tmp_path, [row(1)])
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src 'self'", f"style-src 'sha256-{digest}'"]
    assert not {"script", "link", "iframe", "form", "object"} & {tag for tag, _ in page.tags}
    assert not any("style" in attributes for _, attributes in page.tags)
    assert "url(" not in page.style and "@import" not in page.style


@pytest.mark.parametrize(
    "word, good",
    [
        ("https://arxiv.org/abs/1", True),
        ("http://a.example/?q=1&b=%22", True),
        ("HTTPS://a.example/", True),
        ("javascript:steal()", False),
        ("JaVaScRiPt://a.example/%0asteal()", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("//a.example/", False),
        ("https:///nowhere", False),
        ("https://[", False),
        ("https://a.example/\u202egpj", False),
        ("arXiv:1911.02587", False),
    ],
)
def test_only_web_addresses_are_links(tmp_path, word, good):
    page = made(tmp_path, [row(1, reference=f"before {word}  after")])
    found = [attributes for tag, attributes in page.tags if tag == "a" and not attributes["href"].startswith("#")]
    assert [a["href"] for a in found] == ([word] if good else [])
    assert all("noreferrer" in a["rel"] for a in found)
    assert "before" in page.articles["r1"] and "after" in page.articles["r1"]


@given(st.floats(0, 1))
def test_probabilities_are_shown_to_within_half_of_the_last_digit(p):
    shown = digits(p)
    assert math.isclose(float(shown), p, abs_tol=0.50001 * 10.0 ** -len(shown.partition(".")[2]))
    assert len(shown) <= 10


def test_probabilities_near_one_stay_distinct():
    assert [digits(p) for p in (0.5, 0.99, 0.99996, 0.999987, 1.0, math.nan)] == [
        "0.500",
        "0.990",
        "0.999960",
        "0.999987",
        "1",
        "–",
    ]


def test_an_empty_candidate_list_says_so_and_removes_old_pictures(tmp_path):
    made(tmp_path, [row(1), row(2)])
    page = made(tmp_path, [], notes=["Nothing passed."])
    assert "No candidates" in page.rest and "Nothing passed." in page.rest and not page.articles
    assert set(files(tmp_path)) == {"index.html"}


def failing(how):
    first = next(batches(4))
    yield first
    if how == "raises":
        raise OSError("the disk is gone")
    if how == "stopped":
        raise KeyboardInterrupt
    changed = {"too few": None, "too many": first, "not normalised": (first[0] + 1, first[1]),
               "NaN": (first[0] * np.nan, first[1]), "hot": (first[0], first[1] + 1),
               "small": (first[0][:, :50], first[1]), "heat missing": (first[0], first[1][:2])}  # fmt: skip
    if changed[how] is not None:
        yield changed[how]
        yield first


@pytest.mark.parametrize(
    "how, error",
    [
        ("raises", OSError),
        ("stopped", KeyboardInterrupt),
        *(
            (how, ValueError)
            for how in ("too few", "too many", "not normalised", "NaN", "hot", "small", "heat missing")
        ),
    ],
)
def test_a_failure_leaves_the_old_page_unchanged(tmp_path, how, error):
    made(tmp_path, [row(rank) for rank in range(1, 7)], batches(6, purpose="old"))
    before = files(tmp_path)
    with pytest.raises(error):
        write(tmp_path, [row(rank) for rank in range(1, 9)], failing(how), ["bce", "f1"], "New", progress=False)
    assert files(tmp_path) == before and sorted(os.listdir(tmp_path)) == ["index.html", "stamps"]


def test_a_page_replaces_an_older_one_and_nothing_else(tmp_path):
    made(tmp_path, [row(rank) for rank in range(1, 10)])
    (tmp_path / ".stamps.part").mkdir()  # of a run that was killed
    (tmp_path / "grades.txt").write_text("mine")
    made(tmp_path, [row(1)])
    assert set(files(tmp_path)) == {"index.html", "stamps/00001.jpg", "grades.txt"}
    remove(tmp_path)
    assert set(files(tmp_path)) == {"grades.txt"}
    made(tmp_path, [row(2)])
    assert set(files(tmp_path)) == {"index.html", "stamps/00002.jpg", "grades.txt"}


@pytest.mark.parametrize("name", ["index.html", "stamps/mine.jpg"])
def test_files_of_others_are_neither_replaced_nor_removed(tmp_path, name):
    (tmp_path / "stamps").mkdir()
    (tmp_path / name).write_text("mine")
    for call in (lambda: made(tmp_path, [row(1)]), lambda: remove(tmp_path)):
        with pytest.raises(FileExistsError, match=re.escape(str(tmp_path / name))):
            call()
    assert files(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("ranks", [(1, 1), (2, 1), (0, 1), (-1,)])
def test_ranks_that_do_not_rise_are_refused(tmp_path, ranks):
    with pytest.raises(ValueError, match="ranks"):
        write(tmp_path / "page", [row(rank) for rank in ranks], batches(len(ranks)), ["bce"], "A", progress=False)
    assert not (tmp_path / "page").exists()


def test_page_frees_each_batch_before_the_next(tmp_path):
    held = []

    def watched():
        source = batches(12)
        for _ in range(3):
            assert not any(reference() is not None for reference in held)
            pixels, heat = next(source)
            held.extend((weakref.ref(pixels), weakref.ref(heat)))
            yield pixels, heat
            del pixels, heat

    made(tmp_path, [row(rank) for rank in range(1, 13)], watched())
    assert len(held) == 6


def panels(picture):
    return [picture[::-1, i * PITCH : i * PITCH + 101] for i in range(3)]


def close(path, drawn):
    """JPEG of quality 90 leaves noise within a few grey levels of 255."""
    with Image.open(path) as file:
        assert file.format == "JPEG"
        decoded = np.asarray(file.convert("RGB")).astype(float)
    assert decoded.shape == (101, 309, 3)
    error = decoded - drawn
    assert np.sqrt(np.mean(error[:, :205] ** 2)) < 4 and np.abs(error[:, :205]).max() < 32
    assert np.sqrt(np.mean(error**2)) < 6
    return decoded


def test_picture_shows_both_stretches_upright_and_the_heat_map(tmp_path):
    pixels, heat = (array.copy() for array in next(batches(2)))
    pixels[0, 3:9, 80:90] = 1  # bottom right: the first rows are at the bottom
    heat[0], heat[1] = 0, 0
    heat[0, 6, 0] = 1  # top left
    page = made(tmp_path, [row(1), row(2)], [(pixels, heat)])
    for i, name in enumerate(("00001.jpg", "00002.jpg")):
        drawn = strip(pixels[i], heat[i])
        first, second, third = panels(close(tmp_path / "stamps" / name, drawn))
        grey = first.mean(-1) / 255
        assert (
            np.abs(grey - np.sqrt(pixels[i])).max() < 0.15
            and np.corrcoef(grey.flat, np.sqrt(pixels[i]).flat)[0, 1] > 0.98
        )
        assert np.abs(second.mean(-1) / 255 - faint(pixels[i])).mean() < 0.03
        orange = third[..., 0] - third[..., 2]
        if i == 0:
            assert orange[-12:, :12].mean() > 80 and abs(orange[:40, 40:].mean()) < 5
        else:
            assert np.abs(third - second).mean() < 3
    assert page.values("div", "class").count("panel cold") == 1
    assert page.values("img", "alt")[5] == "No heat" and page.values("img", "alt")[2] == "Heat"


def test_smoothed_heat_keeps_its_place_and_range():
    cells = np.zeros((7, 7), np.float32)
    cells[1, 5] = 1
    warm = smooth(cells)
    assert warm.shape == (101, 101) and warm.min() == 0 and 0.9 < warm.max() <= 1
    y, x = np.unravel_index(warm.argmax(), warm.shape)
    assert abs((y + 0.5) * 7 / 101 - 1.5) < 0.1 and abs((x + 0.5) * 7 / 101 - 5.5) < 0.1  # the middle of its cell
    assert np.abs(np.diff(warm, axis=0)).max() < 0.15  # no edge of a cell
    np.testing.assert_allclose(smooth(np.full((7, 7), 0.4)), 0.4, atol=1e-6)
    np.testing.assert_allclose(smooth(cells.T), warm.T, atol=1e-6)


def test_the_second_stretch_lifts_a_faint_arc_and_keeps_the_order():
    y, x = np.indices(stamps.SHAPE) - 50
    radius = np.hypot(x, y)
    arc = (np.abs(radius - 20) < 2) & (x > 10)
    image = stream(3, "faint").normal(0, 1, stamps.SHAPE) + 2000 * np.exp(-((radius / 4) ** 2)) + 6 * arc
    pixels = stamps.normalise(image)
    sky = (radius > 30) & ~arc
    lifted, first = faint(pixels), np.sqrt(pixels)
    assert lifted[arc].mean() - lifted[sky].mean() > 5 * (first[arc].mean() - first[sky].mean())
    assert lifted.min() >= 0 and lifted.max() == 1 and (lifted[radius < 3] == 1).all()
    order = np.argsort(pixels, axis=None)
    assert (np.diff(lifted.ravel()[order]) >= 0).all()
    np.testing.assert_allclose(faint(3 * pixels.astype(float) + 7), lifted, atol=1e-5)  # no unit, no pedestal


@pytest.mark.parametrize("share", [0.0, 0.6, 0.999])
def test_the_second_stretch_of_filled_stamps_is_finite(share):
    pixels = stream(4, "filled").random(stamps.SHAPE)
    pixels.ravel()[: int(share * pixels.size)] = 0.25
    assert np.isfinite(faint(pixels)).all() and len(np.unique(faint(pixels))) > 2
    assert np.isfinite(faint(np.zeros(stamps.SHAPE))).all()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real stamps in {REAL}")
def test_page_of_real_stamps_has_a_picture_of_each(tmp_path):
    paths = stamps.fits_below(REAL)
    pixels = stamps.normalise(stamps.read_stamps(paths, workers=1, description=None).pixels)
    heat = np.zeros((len(pixels), 7, 7), np.float32)
    page = made(tmp_path, [row(i + 1, id=path.name) for i, path in enumerate(paths)], [(pixels, heat)])
    assert len(page.articles) == len(paths) >= 1
    for i, stamp in enumerate(pixels):
        close(tmp_path / "stamps" / f"{i + 1:05d}.jpg", strip(stamp, heat[i]))


@pytest.mark.parametrize(("scale", "width", "bar"), [(0.2, "20.2", "24.75"), (0.25, "25.2", "19.80")])
def test_scale_bar_and_width_are_those_of_the_finder(tmp_path, scale, width, bar):
    text = (write(tmp_path, [row(1)], batches(1), ["bce"], "A", progress=False, scale=scale)).read_text()
    assert f"{width} arcsec wide" in text and f"width: {bar}%" in text and f"({16 * scale:.1f} arcsec) wide" in text
