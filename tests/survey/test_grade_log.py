"""The log of grades: nothing is lost, doubled or given to another."""

import csv
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensdet.survey import grade_log, tables

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WRITE = """
import sys
from lensdet.survey import grade_log
for k in range(40):
    grade_log.append(sys.argv[1], "ann", {"id": f"{sys.argv[2]}/{k}", "grade": "A", "note": 'two\\nlines, "quoted"'})
"""


@pytest.fixture
def output(tmp_path):
    grade_log.start(tmp_path, "ann")
    return tmp_path


def log_file(output):
    return output / "grades" / "ann.csv"


def test_what_is_appended_is_read_with_all_columns(output):
    grade_log.append(
        output, "ann", {"id": "a.fits", "grade": "B", "subclass": "ring", "view": "mosaic", "seconds": 1.5}
    )
    (row,) = grade_log.read(output, "ann").to_dict("records")
    assert list(row) == list(grade_log.COLUMNS)
    made = datetime.fromisoformat(row.pop("time"))
    assert made.utcoffset() == timedelta(0)
    assert np.isnan(row.pop("ra")) and np.isnan(row.pop("dec"))
    expected = {"id": "a.fits", "showing": 1, "grade": "B", "subclass": "ring", "note": "", "view": "mosaic"}
    assert row == expected | {"seconds": 1.5}
    grade_log.append(output, "ann", {"id": "b", "grade": "X", "ra": 150.123456789, "dec": -0.1})
    last = grade_log.read(output, "ann").iloc[-1]
    assert (last["ra"], last["dec"]) == (150.123456789, -0.1) and np.isnan(last["seconds"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_text_comes_back_as_it_was(tmp_path_factory, rows):
    output = tmp_path_factory.mktemp("texts")
    grade_log.start(output, "ann")
    for name, subclass, note in rows:
        grade_log.append(output, "ann", {"id": name, "grade": "A", "subclass": subclass, "note": note})
    read = grade_log.read(output, "ann")
    assert list(read[["id", "subclass", "note"]].itertuples(index=False, name=None)) == rows


def test_a_log_cut_anywhere_keeps_every_whole_row_and_takes_the_next(output):
    notes = ["plain", 'quoted "x"', "two\nlines", 'ends "\n"', ""]
    ends = []
    for k, note in enumerate(notes):
        grade_log.append(output, "ann", {"id": str(k), "grade": "A", "note": note})
        ends.append(log_file(output).stat().st_size - 1)  # the line feed may be missing; of the seconds there are none
    whole = log_file(output).read_bytes()
    for cut in range(len(whole) + 1):
        log_file(output).write_bytes(whole[:cut])
        kept = [str(k) for k, end in enumerate(ends) if end <= cut]
        assert list(grade_log.read(output, "ann")["id"]) == kept
        if cut % 3:  # each is synced to the disk
            continue
        grade_log.append(output, "ann", {"id": "next", "grade": "X"})
        assert list(grade_log.current(output, "ann")["id"]) == [*kept, "next"]


@pytest.mark.parametrize("note", ['5" arc', '"5" arc"', '"5"" arc"'])
def test_a_quotation_mark_within_a_note_loses_nothing(output, note):
    grade_ten(output, lambda text: text.replace(",n4,", f",{note},"))
    assert list(grade_log.read(output, "ann")["id"]) == [str(k) for k in range(10)]
    grade_log.append(output, "ann", {"id": "next", "grade": "X"})
    assert list(grade_log.current(output, "ann")["id"]) == [*(str(k) for k in range(10)), "next"]


def test_a_quotation_mark_that_opens_a_text_in_the_last_row_is_named(output):
    grade_ten(output, lambda text: text.replace(",n9,", ',"5 arc,'))
    for act in (grade_log.read, lambda *of: grade_log.append(*of, {"id": "next", "grade": "X"})):
        with pytest.raises(ValueError, match=r"ann\.csv: a quotation mark in row 11 "):
            act(output, "ann")


@pytest.mark.parametrize("after", ["n7", '"a, b"', '"7"" wide"', '"two\nlines"'])
@pytest.mark.parametrize("end", ["", "2025"])
def test_a_quotation_mark_that_is_left_open_is_named_and_nothing_is_cut_off(output, after, end):
    grade_ten(output, lambda text: text.replace(",n4,", ',"5 arc,').replace(",n7,", f",{after},") + end)
    before = log_file(output).read_bytes()
    with pytest.raises(ValueError, match=r"ann\.csv: (a quotation mark in )?row 6 "):
        grade_log.read(output, "ann")
    with pytest.raises(ValueError, match=r"ann\.csv: (a quotation mark in )?row 6 "):
        grade_log.append(output, "ann", {"id": "next", "grade": "X"})
    assert log_file(output).read_bytes() == before


@pytest.mark.parametrize(
    "end", [lambda text: text[:-1], lambda text: text + "\n", lambda text: text.replace("\n", "\r\n")]
)
def test_a_log_that_an_editor_saved_keeps_its_last_grade(output, end):
    grade_ten(output, end)
    assert len(grade_log.read(output, "ann")) == 10
    grade_log.append(output, "ann", {"id": "next", "grade": "X"})
    assert list(grade_log.current(output, "ann")["id"]) == [*(str(k) for k in range(10)), "next"]


def grade_ten(output, change):
    """Ten grades, and what somebody did to the file."""
    for k in range(10):
        grade_log.append(output, "ann", {"id": str(k), "grade": "A", "note": f"n{k}", "seconds": 1})
    log_file(output).write_bytes(change(log_file(output).read_text()).encode())


def test_no_cell_of_the_log_is_a_formula(output):
    grade_log.start(output, "bob", classes={"=A": ["+1"], "-": []})
    texts = {"id": '=HYPERLINK("http://x")', "grade": "=A", "subclass": "+1", "note": "\t@SUM(1)\n=2;-3"}
    grade_log.append(output, "bob", {**texts, "dec": -1.5, "ra": 1})
    grade_log.append(output, "bob", {"id": "a", "grade": "-"})
    with open(output / "grades" / "bob.csv", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if re.match(r"\s*[=+@-]", cell)] == ["-1.5"]
    assert {tables.inert(text) for text in texts.values()} < {*cells}
    assert grade_log.read(output, "bob").iloc[0][list(texts)].to_dict() == texts


def test_grades_without_their_session_ask_for_it(output):
    (output / "grades" / "ann.json").rename(output / "ann.json")
    grade_log.start(output, "ann")  # no grade is there: a session as any other
    grade_log.append(output, "ann", {"id": "a", "grade": "A"})
    (output / "grades" / "ann.json").unlink()
    for begin in (grade_log.start, grade_log.session):
        with pytest.raises(FileNotFoundError, match=r"ann\.json is not there, but grades are: copy it beside ann\.csv"):
            begin(output, "ann")
    assert not (output / "grades" / "ann.json").exists()


def test_the_session_of_another_grader_is_refused(output):
    grade_log.start(output, "bob")
    (output / "grades" / "bob.json").replace(output / "grades" / "ann.json")
    for begin in (grade_log.start, grade_log.session):
        with pytest.raises(ValueError, match=r"ann\.json is the session of 'bob', not of ann"):
            begin(output, "ann")


def test_what_holds_the_lock_may_append(output):
    held = grade_log.lock(output, "ann")
    with held:
        before = grade_log.size(output, "ann")
        begin, end = grade_log.append(output, "ann", {"id": "a", "grade": "A"}, held=held)
    assert begin == before and end == grade_log.size(output, "ann")


def test_the_last_event_of_a_showing_counts(output):
    for name, showing, grade in (("a", 1, "A"), ("b", 1, "X"), ("a", 2, "C"), ("a", 1, "B"), ("b", 1, "")):
        grade_log.append(output, "ann", {"id": name, "showing": showing, "grade": grade})
    current = grade_log.current(output, "ann")
    assert current[["id", "showing", "grade"]].to_numpy().tolist() == [["a", 2, "C"], ["a", 1, "B"]]
    assert len(grade_log.read(output, "ann")) == 5


def test_processes_of_one_grader_lose_and_double_nothing(output):
    running = [subprocess.Popen([sys.executable, "-c", WRITE, output, name]) for name in "pqr"]
    assert [process.wait() for process in running] == [0, 0, 0]
    ids = grade_log.read(output, "ann")["id"]
    assert sorted(ids) == sorted(f"{name}/{k}" for name in "pqr" for k in range(40))
    for name in "pqr":  # each in its own order
        assert [i for i in ids if i.startswith(name)] == [f"{name}/{k}" for k in range(40)]


def test_two_graders_have_logs_of_their_own(output):
    grade_log.start(output, "bob", classes={"lens": [], "none": []})
    grade_log.append(output, "ann", {"id": "a", "grade": "A"})
    grade_log.append(output, "bob", {"id": "a", "grade": "none"})
    assert grade_log.graders(output) == ["ann", "bob"]
    assert list(grade_log.current(output, "ann")["grade"]) == ["A"]
    assert list(grade_log.current(output, "bob")["grade"]) == ["none"]


@pytest.mark.parametrize(
    "name", ["", "..", ".ann", "a/b", "../ann", "a b", "a\\b", "=1", "<b>", "é", "a" * 65, "merged"]
)
def test_a_grader_whose_name_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="grader .* letters"):
        grade_log.start(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_session_is_taken_up_as_it_was_begun(output):
    assert grade_log.start(output, "ann") == grade_log.session(output, "ann")
    begun = {"classes": {"Z": ["one"], "Y": []}, "order": "shuffled", "seed": 5, "repeats": 0.1, "first": 7}
    begun["controls"] = [{"id": "painted/1", "kind": "painted arc", "host": "a"}]
    grade_log.start(output, "bob", **begun)
    there = grade_log.start(output, "bob")
    assert there == {**begun, "grader": "bob"} and list(there["classes"]) == ["Z", "Y"]
    assert grade_log.start(output, "bob", **begun) == there


@pytest.mark.parametrize(
    ("name", "value"),
    [("order", "shuffled"), ("seed", 1), ("repeats", 0.2), ("first", 3), ("classes", {"A": [], "X": []})],
)
def test_another_session_of_the_same_name_is_refused_by_its_parameter(output, name, value):
    before = (output / "grades" / "ann.json").read_bytes()
    with pytest.raises(ValueError, match=f"began with {name} .* another name of grader"):
        grade_log.start(output, "ann", **{name: value})
    assert (output / "grades" / "ann.json").read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"classes": {"A": []}}, "classes"), ({"classes": {" ": [], "X": []}}, "classes"), ({"order": "id"}, "order"),
        ({"repeats": 0.9}, "repeats"), ({"first": 0}, "first"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, asked, said):
    with pytest.raises(ValueError, match=said):
        grade_log.start(tmp_path, "ann", **asked)
    assert not list(tmp_path.iterdir())


def log_of_one(output):
    grade_log.start(output, "cid")
    grade_log.append(output, "cid", {"id": "a", "grade": "A"})
    return (output / "grades" / "cid.csv").read_text()


def test_events_that_cannot_be_are_refused_and_leave_the_log_alone(output):
    before = log_file(output).read_bytes()
    for event in (
        {"id": "a", "grade": "D"}, {"id": "a", "grade": "A", "colour": 1},
        {"id": "a", "grade": "A", "note": "x" * 10**6}, {"id": "a", "grade": "A", "note": "\n" + log_of_one(output)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="none of A, B, C, X|columns of the log|shorten"):
            grade_log.append(output, "ann", {"id": "b", "grade": "A"}, event)
    assert log_file(output).read_bytes() == before
    with pytest.raises(FileNotFoundError, match="bob has not begun"):
        grade_log.append(output, "bob", {"id": "a", "grade": "A"})


def test_a_file_that_is_no_log_is_named(output):
    log_file(output).write_text("id,grade\na,A\n")
    with pytest.raises(ValueError, match=r"ann\.csv: columns are id, grade"):
        grade_log.read(output, "ann")
    log_file(output).write_text(",".join(grade_log.COLUMNS) + "\na,A\n")
    with pytest.raises(ValueError, match=r"ann\.csv: row 2"):
        grade_log.read(output, "ann")
    (output / "grades" / "ann.json").write_text("{")
    with pytest.raises(ValueError, match=r"ann\.json is no session"):
        grade_log.session(output, "ann")


IDS = [f"{k}.fits" for k in range(1000)]


@pytest.mark.parametrize("how", ["rank", "shuffled"])
def test_each_is_shown_once_and_a_share_again_much_later(how):
    controls = [f"painted/{k}" for k in range(30)] + IDS[:5]
    shown = grade_log.order(IDS, how, 3, 0.05, controls)
    first = [name for name, showing in shown if showing == 1]
    again = [name for name, showing in shown if showing == 2]
    assert sorted(first) == sorted({*IDS, *controls}) and len(again) == len({*again}) == round(0.05 * 1030)
    assert all(shown.index((name, 2)) - shown.index((name, 1)) >= grade_log.GAP for name in again)
    among = [k for k, (name, _) in enumerate(shown) if name.startswith("painted")]
    assert among[0] < 200 and among[-1] > 880  # mixed in, not in a block
    own = [name for name in first if name in {*IDS}]
    assert (own == IDS) == (how == "rank")


def test_the_order_follows_from_the_seed_and_stays_where_candidates_are_added():
    one = [name for name, showing in grade_log.order(IDS, "shuffled", 3, 0.05) if showing == 1]
    assert grade_log.order(IDS, "shuffled", 3, 0.05) == grade_log.order(IDS[::-1], "shuffled", 3, 0.05)
    more = [name for name, showing in grade_log.order([*IDS, "new"], "shuffled", 3, 0.05) if showing == 1]
    assert [name for name in more if name != "new"] == one
    other = [name for name, showing in grade_log.order(IDS, "shuffled", 4, 0.05) if showing == 1]
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), st.sampled_from(["rank", "shuffled"]), st.integers(0, 99), st.floats(0, 0.5))
def test_a_short_list_is_shown_whole_and_no_repeat_comes_first(n, how, seed, repeats):
    shown = grade_log.order(IDS[:n], how, seed, repeats)
    assert sorted(name for name, showing in shown if showing == 1) == sorted(IDS[:n])
    for name in {name for name, showing in shown if showing == 2}:
        assert shown.index((name, 1)) < shown.index((name, 2))
    assert len(shown) - n == round(repeats * n)


def test_the_session_is_json_that_a_person_can_read(output):
    made = json.loads((output / "grades" / "ann.json").read_text())
    assert {"grader", "classes", "order", "seed", "repeats", "controls"} <= set(made)
