"""The widget's script in a real browser without JupyterLab: the Python half answers it directly.  Slow."""

import base64

import numpy as np
import pytest

import lensdet
from lensdet.survey import grade_log, grading
from tests.survey import lists

pytestmark = pytest.mark.slow
# Stands in for Jupyter's comm: what the script sends is answered by Python before the next.
SHOW = """async (code) => {
  const listeners = [], url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  let last = Promise.resolve();
  const send = (message) => { last = last.then(async () => {
    const answers = await window.kernel(message);
    for (const [answer, buffers] of answers) listeners.forEach((f) => f(answer, buffers.map(bytes)));
  }); };
  const model = { send, on: (_, f) => listeners.push(f), off: () => {} };
  (await import(url)).default.render({ model, el: document.body });
}"""


@pytest.fixture
def output(tmp_path):
    """A list of 45, of which the files of two are damaged."""
    output = lists.ranked(tmp_path, 45)
    for k in (5, 42):
        (tmp_path / "stamps" / f"{k:04d}_r.fits").write_bytes(b"")
    return output


@pytest.fixture
def show(browser):
    pages = []

    def show(output, **asked):
        widget, sent = lensdet.grade(output, "ann", **{"repeats": 0} | asked), []
        widget.send = lambda message, buffers=(): sent.append((message, buffers or ()))

        def kernel(message):
            widget._receive(widget, message, [])
            widget._thread.submit(int).result()  # pictures before it are sent
            answers, sent[:] = [[m, [base64.b64encode(b).decode() for b in buffers]] for m, buffers in sent], []
            return answers

        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        pages.append(page)
        page.expose_function("kernel", kernel)
        page.evaluate(SHOW, grading.Grading._esm)
        page.wait_for_selector(".lensdet-grading[data-shown]")
        page.wait_for_timeout(500)
        page.locator(".lensdet-grading").focus()
        return page

    yield show
    for page in pages:
        page.close()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(300)


def said(page):
    return page.locator(".said").inner_text()


def current(output):
    found = grade_log.current(output, "ann")
    places = found["id"].str.extract(r"(\d{4})")[0].astype(int)
    return dict(zip(places, zip(found["grade"], found["note"], strict=True), strict=True))


def test_enter_gives_no_grade_to_what_cannot_be_read_and_says_so(show, output):
    page = show(output, view="mosaic", mosaic=40)
    tile = page.locator("[data-item='5'] span")
    assert "Cannot be read" in tile.inner_text() and "empty" in tile.inner_text()
    press(page, "Enter")
    assert current(output) == {k: ("X", "") for k in range(40) if k != 5}
    assert "1 of the last screen cannot be read" in said(page)
    press(page, "Enter")
    assert current(output) == {k: ("X", "") for k in range(45) if k not in (5, 42)}
    assert "All were looked at, 2 have no grade yet" in said(page)
    press(page, "Shift+M", "b")  # one by one somebody may grade it, who knows it
    assert current(output)[42] == ("B", "")


def test_a_click_or_space_leaves_a_graded_stamp_as_it_is(show, output):
    page = show(output, view="mosaic", mosaic=40)
    press(page, "ArrowRight", "a", "ArrowLeft", "Space")
    page.locator("[data-item='1'] canvas").click()
    press(page)
    assert current(output) == {1: ("A", "")}
    page.locator("[data-item='3'] canvas").click()
    page.wait_for_timeout(300)
    assert page.locator(".aside").count() == 1
    page.locator("[data-item='3'] canvas").click()  # again: none
    page.wait_for_timeout(300)
    assert current(output) == {1: ("A", ""), 3: ("X", "")}


def test_a_note_is_never_dropped(show, output):
    page = show(output)
    press(page, "Shift+N")
    page.keyboard.type("typed")
    page.locator(".classes button", has_text="B").first.click()
    page.wait_for_timeout(300)
    assert current(output) == {0: ("B", "typed")}
    press(page, "Shift+N")
    page.keyboard.type("kept")
    press(page, "Enter", "ArrowRight", "Shift+N")
    assert page.locator("textarea").input_value() == ""
    page.keyboard.type("not kept")
    press(page, "Escape", "Shift+N")
    page.keyboard.type("open")
    page.get_by_role("button", name="mosaic").click()
    page.wait_for_timeout(500)
    page.locator("[data-item='1'] canvas").click()  # sets it aside
    page.wait_for_timeout(300)
    read = grade_log.read(output, "ann")
    assert read[["id", "grade", "note"]].to_numpy().tolist() == [
        ["0000_r.fits", "B", "typed"], ["0001_r.fits", "", "kept"], ["<b>0002 &amp;_r.fits", "", "open"],
        ["0001_r.fits", "", "kept"],
    ]  # fmt: skip
    assert np.isnan(read["seconds"]).tolist() == [False, True, True, False]
    press(page, "Enter")  # what has a note was not left alone
    assert {0, 1, 2} & current(output).keys() == {0}
    press(page, "Shift+M")
    assert page.locator(".lensdet-grading").get_attribute("data-shown") == "1"
    press(page, "c")
    assert current(output)[1] == ("C", "kept")


def test_classes_that_are_numbers_have_keys(show, output):
    page = show(output, classes={"1": [], "2": [], "0": ["ring"]})
    press(page, "2", "0", "3")
    assert current(output) == {0: ("2", ""), 1: ("0", ""), 2: ("0", "")}
    assert grade_log.read(output, "ann")["subclass"].tolist() == ["", "", "ring"]
    press(page, "Backspace")
    assert said(page) == "Taken back." and set(current(output)) == {0, 1}
