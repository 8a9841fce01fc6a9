"""Grading by keys in a real browser, through JupyterLab: slow."""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from lensdet.survey import grade_log, grades
from tests.survey import lists

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
WIDGET = ".lensdet-grading"
# Seconds from each key to the frame in which the next picture is on the screen, as the browser saw them.
CLOCK = """() => {
  const root = document.querySelector('.lensdet-grading');
  let pressed = null;
  window.waits = [];
  root.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    const from = pressed;
    pressed = null;
    if (from !== null) requestAnimationFrame(() => setTimeout(() => window.waits.push(performance.now() - from)));
  }).observe(root, { attributes: true, attributeFilter: ['data-shown'] });
}"""


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextmanager
def lab(folder):
    """JupyterLab on a folder, with a token; yields its address."""
    port, token = free_port(), os.urandom(16).hex()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "RUNTIME")} | {
        "JUPYTER_TOKEN": token
    }
    environment |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(1)
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(60)


def notebook(folder, name, code):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [cell | {"id": f"c{k}", "source": text} for k, text in enumerate([code, "print('below')"])]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / f"{name}.ipynb").write_text(json.dumps(made))


def grading(output, grader, more=""):
    """Code of a cell, which leaves the number of the kernel's process beside the list."""
    number = (
        f"import os, pathlib; pathlib.Path({str(output / grader)!r}).with_suffix('.pid').write_text(str(os.getpid()))"
    )
    return f"{number}\nimport lensdet\nlensdet.grade({str(output)!r}, {grader!r}{more})"


def run_cell(page):
    """Run the first cell, and wait for its widget."""
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=120_000)
    prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
    before = prompt.inner_text()
    for _ in range(20):  # JupyterLab passes over what is run before it has loaded all
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1000)
        if prompt.inner_text() != before:
            break
    page.wait_for_selector(f"{WIDGET}[data-shown]", timeout=60_000)
    page.locator(WIDGET).focus()


def open_notebook(page, address, name):
    base, token = address
    page.goto(f"{base}/lab/tree/{name}.ipynb?token={token}&reset")
    page.wait_for_selector(".jp-CodeCell .cm-content", timeout=120_000)
    run_cell(page)


def shown(page):
    return page.locator(WIDGET).get_attribute("data-shown")


def press(page, key, timeout=30_000):
    """Press a key, and wait for the next picture; returns whether it came."""
    before = shown(page)
    page.keyboard.press(key)
    try:
        page.wait_for_function(
            "before => (s => s && s !== before)(document.querySelector('.lensdet-grading').dataset.shown)", arg=before,
            timeout=timeout,
        )  # fmt: skip
    except sync_api.TimeoutError:
        return False
    return True


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1500, "height": 1100})
    page.alerts = []

    def answer(dialog):
        if dialog.type == "beforeunload":  # a notebook that was not saved
            return dialog.accept()
        page.alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", answer)
    yield page
    page.close()


KEYS = {"a": ("A", ""), "b": ("B", ""), "c": ("C", ""), "x": ("X", ""), "1": ("X", "ring"), "2": ("X", "spiral")}


def test_200_stamps_by_keys_with_a_kernel_killed_in_the_middle_and_a_second_grader(page, tmp_path):
    output = lists.ranked(tmp_path, 200)
    notebook(tmp_path, "ann", grading(output, "ann", ", repeats=0"))
    notebook(tmp_path, "bob", grading(output, "bob", ", repeats=0, order='shuffled'"))
    given = {"ann": {}, "bob": {}}

    def go_on(grader, items, upto, kill_at=None):
        while len(given[grader]) < upto:
            key = list(KEYS)[(len(given[grader]) * 7 + len(grader)) % 6]
            item = int(shown(page))
            if len(given[grader]) == kill_at:
                os.kill(int((output / f"{grader}.pid").read_text()), signal.SIGKILL)
            if not press(page, key, 8000 if kill_at is not None and len(given[grader]) >= kill_at else 30_000):
                if len(given[grader]) < 199:  # after the last there is none
                    return False
            given[grader][items[item][0]] = KEYS[key]
        return True

    ids = [f"{k:04d}_r.fits" for k in range(200)]
    ids[2] = "<b>0002 &amp;_r.fits"
    with lab(tmp_path) as address:
        open_notebook(page, address, "ann")
        in_order = grade_log.order(ids, "rank", 0)
        assert not go_on("ann", in_order, 200, kill_at=90)  # no key counts while the kernel is dead
        assert len(given["ann"]) == 90 == len(grade_log.current(output, "ann"))
        assert "does not answer" in page.locator(f"{WIDGET} .said").inner_text()
        page.get_by_role("button", name="OK").or_(page.get_by_role("button", name="Ok")).first.click(timeout=60_000)
        run_cell(page)
        assert "90 are graded" in page.locator(f"{WIDGET} .said").inner_text()
        assert go_on("ann", in_order, 200)
        open_notebook(page, address, "bob")
        shuffled = grade_log.order(ids, "shuffled", grade_log.seed_of("bob"))
        assert go_on("bob", shuffled, 200)
    assert grade_log.graders(output) == ["ann", "bob"]
    for grader, expected in given.items():
        current = grade_log.current(output, grader)
        assert len(grade_log.read(output, grader)) == len(current) == 200
        found = dict(zip(current["id"], zip(current["grade"], current["subclass"], strict=True), strict=True))
        assert found == expected
    merged = grades.merge(output).table.set_index("id")
    assert len(merged) == 200 and (merged["graders"] == 2).all()
    for grader, expected in given.items():
        assert merged[f"grade_{grader}"].to_dict() == {name: grade for name, (grade, _) in expected.items()}


def test_1000_stamps_the_next_picture_comes_within_a_tenth_of_a_second(page, tmp_path):
    output = lists.ranked(tmp_path, 1001)
    notebook(tmp_path, "nb", grading(output, "ann", ", repeats=0"))
    with lab(tmp_path) as address:
        open_notebook(page, address, "nb")
        page.evaluate(CLOCK)
        for k in range(1000):
            page.wait_for_timeout(150)  # a quick look
            assert press(page, "abcx"[k % 4])
        page.wait_for_timeout(500)
        waits = page.evaluate("window.waits")
    assert len(waits) == 1000 == len(grade_log.current(output, "ann"))
    median, slow = statistics.median(waits), statistics.quantiles(waits, n=100)
    print(f"key to next picture, n = {len(waits)}: median {median:.0f} ms, 95 % {slow[94]:.0f}, 99 % {slow[98]:.0f} ms")
    assert median < 100


def test_markup_is_text_keys_stay_in_the_widget_and_a_mosaic_sets_aside(page, tmp_path):
    output = lists.ranked(tmp_path, 50)
    notebook(tmp_path, "nb", grading(output, "ann", ", repeats=0, view='mosaic', mosaic=40"))
    widget, said = page.locator(WIDGET), page.locator(f"{WIDGET} .said")
    with lab(tmp_path) as address:
        open_notebook(page, address, "nb")
        page.wait_for_timeout(3000)  # until all 40 are drawn
        page.locator(f"{WIDGET} [data-item='2'] canvas").click()
        page.locator(f"{WIDGET} .aside").wait_for()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("a")
        page.wait_for_function("document.querySelectorAll('.lensdet-grading .graded').length === 1")
        assert press(page, "Enter")  # the other 38 are none
        read = grade_log.read(output, "ann")
        assert len(read) == 40 and (read["view"] == "mosaic").all()
        assert read["grade"].value_counts().to_dict() == {"X": 38, "A": 1, "": 1}
        page.keyboard.press("Backspace")
        page.wait_for_function("document.querySelectorAll('.lensdet-grading .graded').length === 1")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('.lensdet-grading').dataset.shown === 'screen 40'")
        page.keyboard.press("Shift+M")  # what was set aside comes first
        page.wait_for_function("document.querySelector('.lensdet-grading').dataset.shown === '2'")
        cells = page.locator(f"{WIDGET} .facts").inner_text()
        assert lists.NASTY in cells and "<b>0002 &amp;_r.fits" in cells
        page.keyboard.press("Shift+N")
        page.keyboard.type(f"{lists.NASTY} dd =1+1")
        page.keyboard.press("Enter")
        said.get_by_text("The note is saved").wait_for()
        page.keyboard.press("1")
        page.wait_for_function("document.querySelector('.lensdet-grading').dataset.shown !== '2'")
        last = grade_log.current(output, "ann").iloc[-1]
        assert (last["grade"], last["subclass"], last["note"]) == ("X", "ring", f"{lists.NASTY} dd =1+1")
        page.keyboard.press("ArrowLeft")
        for _ in range(60):
            if shown(page) == "2":
                break
            page.keyboard.press("ArrowLeft")
            page.wait_for_timeout(50)
        page.keyboard.press("Shift+N")
        assert page.locator(f"{WIDGET} textarea").input_value() == f"{lists.NASTY} dd =1+1"
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert page.locator(f"{WIDGET} .help").is_visible()
        page.keyboard.press("?")
        for key in ("d", "d", "z", "m", "y", "0", "0", "j", "k", "v", "Shift+L"):  # of JupyterLab: delete, cut ...
            page.keyboard.press(key)
        assert page.locator(".jp-Notebook .jp-CodeCell").count() == 2 and page.locator(".jp-MarkdownCell").count() == 0
        assert widget.locator("img, b").count() == 0 and not page.alerts


def test_two_tabs_of_one_grader_lose_and_double_nothing(browser, tmp_path):
    output = lists.ranked(tmp_path, 60)
    for name in ("one", "two"):
        notebook(tmp_path, name, grading(output, "ann", ", repeats=0"))
    with lab(tmp_path) as address:
        tabs = []
        for name in ("one", "two"):
            tabs.append(browser.new_context().new_page())
            open_notebook(tabs[-1], address, name)
        seen = []
        for k in range(40):
            tab = tabs[k % 2]
            seen.append(int(shown(tab)))
            assert press(tab, "abcx"[k % 4])
        for tab in tabs:
            tab.context.close()
    read = grade_log.read(output, "ann")
    assert [f"{k:04d}_r.fits" if k != 2 else "<b>0002 &amp;_r.fits" for k in seen] == list(read["id"])
    assert list(read["grade"]) == ["ABCX"[k % 4] for k in range(40)]
