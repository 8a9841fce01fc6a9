"""The Python half of the widget, driven by messages as a browser sends them."""

import json
import shutil
import subprocess
import time

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import lensdet
from lensdet.survey import candidate_list, grade_log, grading, grading_pictures
from tests.survey import lists


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A list of 30 in three bands; its grades go to the tests' own folders."""
    return lists.ranked(tmp_path_factory.mktemp("list"), 30, "gri")


@pytest.fixture
def output(made, tmp_path):
    for path in made.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


class Tab:
    """A browser's tab: what is sent to it is kept."""

    def __init__(self, widget):
        self.widget, self.number, self.got = widget, 0, []
        widget.send = lambda message, buffers=None: self.got.append((json.loads(json.dumps(message)), buffers or []))

    def ask(self, what, **more):
        self.number += 1
        self.widget._receive(self.widget, {"ask": what, "from": "me", "number": self.number, **more}, [])
        self.widget._thread.submit(int).result()  # pictures before it are sent
        return self.got[-1][0]

    def grade(self, item, grade, **more):
        return self.ask("grade", said=[{"item": item, "grade": grade, **more}], view="single", seconds=1.2)


def tab(output, grader="ann", **asked):
    return Tab(lensdet.grade(output, grader, **asked))


def test_a_grade_is_on_the_disk_when_it_is_answered(output):
    answer = tab(output).grade(3, "B", subclass="", note="thin arc")
    assert answer["is"] == "grade" and answer["number"] == 1
    assert answer["marks"] == [[3, {"grade": "B", "subclass": "", "note": "thin arc", "aside": False}]]
    row = grade_log.current(output, "ann").iloc[0]
    assert (row["id"], row["grade"], row["note"], row["seconds"]) == ("0003_r.fits", "B", "thin arc", 1.2)


def test_a_new_widget_goes_on_where_the_last_one_was(output):
    first = tab(output, order="shuffled")
    for item, grade in ((0, "A"), (1, "X"), (2, "C")):
        first.grade(item, grade)
    ids = [name for name, _ in first.widget._session.items[:3]]
    begun = tab(output).ask("begin")
    assert begun["n"] == 32 and {k: mark["grade"] for k, mark in begun["marks"]} == {0: "A", 1: "X", 2: "C"}
    assert list(grade_log.current(output, "ann")["id"]) == ids


def test_what_begin_says_names_no_candidate_and_no_score(output):
    said = json.dumps(tab(output, controls={"painted": 2}).ask("begin"))
    assert not any(word in said for word in ("fits", "logit", "painted", "known"))


def test_undo_takes_back_step_by_step_and_leaves_a_trace(output):
    mine = tab(output)
    mine.grade(0, "A")
    mine.grade(0, "B")
    mine.grade(1, "X")
    assert mine.ask("undo") == {"is": "undo", "to": "me", "number": 4, "marks": [[1, None]], "show": 1, "done": True}
    assert mine.ask("undo")["marks"][0][1]["grade"] == "A"
    assert mine.ask("undo")["marks"] == [[0, None]]
    assert mine.ask("undo")["show"] is None
    read = grade_log.read(output, "ann")
    assert list(read["grade"]) == ["A", "B", "X", "", "A", ""]
    assert read["seconds"].isna().tolist() == [False] * 3 + [True] * 3  # nobody looked at a picture for these
    assert grade_log.current(output, "ann").empty


def test_undo_reaches_back_before_the_kernel_was_started(output):
    tab(output).grade(4, "A")
    assert tab(output).ask("undo")["marks"] == [[4, None]]
    assert grade_log.current(output, "ann").empty


def test_undo_after_a_restart_takes_back_what_the_last_step_changed(output):
    mine = tab(output)
    mine.grade(4, "B")
    mine.grade(4, "A")
    mine.grade(5, "X")
    mine.ask("undo")
    mine.ask("grade", said=[{"item": k, "grade": "X"} for k in (6, 7)], view="mosaic", seconds=1)
    again = tab(output)
    assert again.ask("undo")["marks"] == [[6, None], [7, None]]
    assert tab(output).ask("undo")["marks"][0][1]["grade"] == "B"
    assert tab(output).ask("undo")["marks"] == [[4, None]]
    assert tab(output).ask("undo")["show"] is None


def test_a_note_is_kept_before_with_and_after_the_grade(output):
    mine = tab(output)
    kept = [[3, {"grade": "", "subclass": "", "note": "odd", "aside": False}]]
    assert mine.ask("note", item=3, note="odd")["marks"] == kept == tab(output).ask("begin")["marks"]
    assert np.isnan(grade_log.read(output, "ann")["seconds"][0])
    assert mine.grade(3, "B", subclass="ring")["marks"][0][1]["note"] == "odd"
    assert mine.ask("note", item=3, note="odder")["marks"][0][1] == {
        "grade": "B", "subclass": "ring", "note": "odder", "aside": False,
    }  # fmt: skip
    mine.ask("note", item=4, note="later")
    mine.ask("grade", said=[{"item": 4, "grade": ""}], view="mosaic", seconds=1, leave="graded")
    aside = {"grade": "", "subclass": "", "note": "even later", "aside": True}
    assert mine.ask("note", item=4, note="even later")["marks"][0][1] == aside
    begun = {k: mark for k, mark in tab(output).ask("begin")["marks"]}
    assert begun[4] == aside and (begun[3]["grade"], begun[3]["note"]) == ("B", "odder")
    assert mine.ask("undo")["marks"][0][1]["note"] == "later"


def test_each_grade_has_the_place_of_its_candidate_or_of_the_galaxy_under_its_arc(output):
    mine = tab(output, controls={"painted": 1}, first=5)
    names = [name for name, _ in mine.widget._session.items]
    arc = next(k for k, name in enumerate(names) if name.startswith("painted"))
    mine.grade(names.index("0003_r.fits"), "A")
    mine.grade(arc, "B")
    (host,) = (int(of["host"][:4]) for of in grade_log.session(output, "ann")["controls"])
    read = grade_log.read(output, "ann")
    np.testing.assert_allclose(read[["ra", "dec"]], [[150.03, 2], [150 + host / 100, 2]])


def test_an_id_that_is_another_galaxy_now_is_refused(output):
    tab(output).grade(3, "A")
    shift_ids(output, "150.03,", "150.0301,")  # 0.36 arcsec: a better astrometry
    tab(output)
    shift_ids(output, "150.0301,", "150.04,")
    with pytest.raises(ValueError, match=r"1 graded ids are not where .* '0003_r.fits', then at 150.03000 2.00000"):
        tab(output)
    assert len(grade_log.read(output, "ann")) == 1


def shift_ids(output, before, after):
    text = (output / "ranked.ecsv").read_text()
    assert text.count(before) == 1
    (output / "ranked.ecsv").write_text(text.replace(before, after))


def test_controls_whose_galaxy_has_left_the_list_are_left_out(output):
    tab(output, controls={"painted": 2}, first=5)
    first = grade_log.session(output, "ann")["controls"][0]["host"]
    lines = (output / "ranked.ecsv").read_text().splitlines(keepends=True)
    (output / "ranked.ecsv").write_text("".join(line for line in lines if first not in line))
    mine = tab(output)
    assert mine.ask("begin")["lost"] == 1
    names = [name for name, _ in mine.widget._session.items if name.startswith("painted/")]
    lost, kept = (of["id"] for of in grade_log.session(output, "ann")["controls"])
    assert names == [kept] and mine.widget._session.lost == [lost]
    with pytest.raises(ValueError, match=rf"'{first}' is not in .*ranked.ecsv any more; rank"):
        mine.widget._pictures.stamp(lost)


def test_a_mosaic_sets_aside_and_is_undone_as_one(output):
    mine = tab(output)
    mine.ask("grade", said=[{"item": 5, "grade": ""}], view="mosaic", seconds=1)
    left = [{"item": k, "grade": "X"} for k in range(5)]
    mine.ask("grade", said=left, view="mosaic", seconds=0.2)
    begun = {k: mark for k, mark in tab(output).ask("begin")["marks"]}
    assert begun[5]["aside"] and all(begun[k]["grade"] == "X" for k in range(5))
    assert {k for k, mark in mine.ask("undo")["marks"] if mark is None} == {*range(5)}
    assert [k for k, _ in tab(output).ask("begin")["marks"]] == [5]
    assert mine.ask("undo")["marks"] == [[5, None]]
    assert tab(output).ask("begin")["marks"] == []


def test_another_tab_of_the_same_grader_is_taken_up(output):
    one, two = tab(output), tab(output)
    one.grade(0, "A")
    two.grade(1, "B")
    assert {k for k, _ in one.grade(2, "C")["marks"]} == {1, 2}  # the other's, and its own
    assert list(grade_log.current(output, "ann")["grade"]) == ["A", "B", "C"]


def test_a_screen_of_the_mosaic_leaves_what_another_tab_has_marked(output):
    one, two = tab(output), tab(output)
    two.grade(3, "A", note="arc")
    two.ask("grade", said=[{"item": 4, "grade": ""}], view="mosaic", seconds=1, leave="graded")
    left = [{"item": k, "grade": "X"} for k in range(2, 6)]
    marks = dict(one.ask("grade", said=left, view="mosaic", seconds=1, leave="marked")["marks"])
    assert (marks[3]["grade"], marks[3]["note"]) == ("A", "arc") and marks[4]["aside"]
    one.ask("grade", said=[{"item": 3, "grade": ""}], view="mosaic", seconds=1, leave="graded")  # a click on it
    one.ask("undo")
    begun = {k: (mark["grade"], mark["note"], mark["aside"]) for k, mark in tab(output).ask("begin")["marks"]}
    assert begun == {3: ("A", "arc", False), 4: ("", "", True)}
    assert len(grade_log.read(output, "ann")) == 6


@pytest.mark.parametrize("others", ["A", "B"])
def test_undo_leaves_what_another_tab_has_said_since_and_shows_it(output, others):
    one, two = tab(output), tab(output)
    one.grade(0, "C")
    one.grade(3, "B")
    two.grade(3, others)
    two.grade(7, "X")
    answer = one.ask("undo")
    assert (answer["done"], answer["show"]) == (False, 3)
    assert {k: mark["grade"] for k, mark in answer["marks"]} == {3: others, 7: "X"}
    assert dict(zip(*grade_log.current(output, "ann")[["id", "grade"]].to_numpy().T, strict=True)) == {
        "0000_r.fits": "C", "0003_r.fits": others, "0007_r.fits": "X",
    }  # fmt: skip
    assert one.ask("undo")["marks"] == [[0, None]]


def test_grading_goes_on_a_copy_of_the_folder_where_the_survey_lies_elsewhere(made, output, tmp_path_factory):
    stamps = made.parent / "stamps"
    about = json.loads((output / "survey.json").read_text())
    (output / "survey.json").write_text(json.dumps(about | {"folder": "/nowhere"}))
    text = (output / "ranked.ecsv").read_text()
    (output / "ranked.ecsv").write_text(text.replace(f"{stamps}/", "survey/stamps/"))
    with pytest.raises(FileNotFoundError, match=r"none of the first 5 stamps can be read: .* give survey=FOLDER"):
        tab(output, controls={"painted": 1})
    assert not (output / "grades").exists()
    copy = tmp_path_factory.mktemp("copy")
    (copy / "stamps").symlink_to(stamps)
    for survey in (copy, copy / "stamps", copy.parent / copy.name / "."):
        mine = tab(output, survey=survey, controls={"painted": 1})
        np.testing.assert_array_equal(mine.widget._pictures.stamp("0004_r.fits"), fits.getdata(stamps / "0004_r.fits"))
        assert mine.widget._pictures.picture("0004_r.fits").colour is not None
    with pytest.raises(
        FileNotFoundError,
        match=r"0000_r\.fits is not in it; .* what lay in /nowhere/survey/stamps",
    ):
        tab(output, survey=output)


def test_what_cannot_be_saved_is_said_and_changes_nothing(output, monkeypatch):
    mine = tab(output)
    mine.grade(0, "A")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(grade_log, "append", full)
    answer = mine.grade(1, "B")
    assert answer["is"] == "error" and "No space left" in answer["text"] and answer["number"] == 2
    monkeypatch.undo()
    assert mine.grade(1, "Z")["text"].startswith("grade 'Z' is none of A, B, C, X")
    assert [k for k, _ in mine.ask("begin")["marks"]] == [0]


def test_pictures_are_the_pixels_of_the_files_in_units_of_the_noise(output):
    mine = tab(output)
    answer = mine.ask("pictures", items=[4], now=True)
    grey, colour = (np.frombuffer(b, t) for b, t in zip(mine.got[-1][1], ("f2", "u1"), strict=True))
    pixels = fits.getdata(output / candidate_list.read_list(output, numbers=False)["tile"][4]).astype(float)
    noise = 1.4826 * np.median(np.abs(pixels - np.median(pixels)))
    expected = (pixels - np.median(pixels)) / noise
    np.testing.assert_allclose(grey.reshape(101, 101), expected, rtol=2e-3, atol=1e-3)
    assert colour.size == 3 * 101 * 101 and answer["item"] == 4
    np.testing.assert_allclose([answer["about"]["north"], answer["about"]["east"]], [[0, 1], [-1, 0]], atol=1e-6)
    assert dict(answer["cells"]) == {"id": "0004_r.fits", "filled": "0", "centre_snr": "100", "name": "object 4"}


@pytest.mark.parametrize("asked", [{}, {"controls": {"painted": 3}}])
def test_every_picture_is_read_whatever_was_read_before_it_was_shown(output, asked):
    mine = tab(output, **asked)
    mine.ask("pictures", items=list(range(30)), now=True)
    sent = [message for message, _ in mine.got if message["is"] == "pictures"]
    assert len(sent) == 30 and not [message["text"] for message in sent if "text" in message]


def test_what_is_looked_at_comes_before_what_was_asked_for_earlier(output):
    mine = tab(output)
    mine.widget._thread.submit(time.sleep, 0.2)  # while it is busy
    for items, now in (([1, 2, 3, 4], False), ([9], True), ([3], True), ([10], False)):
        mine.widget._receive(mine.widget, {"ask": "pictures", "from": "me", "items": items, "now": now}, [])
    mine.ask("begin")
    assert [message["item"] for message, _ in mine.got if message["is"] == "pictures"] == [3, 9, 1, 2, 4, 10]


def test_scores_are_shown_when_they_are_wanted(output):
    cells = dict(tab(output, scores=True).ask("pictures", items=[0], now=True)["cells"])
    assert {"rank", "logit_bce", "p_bce", "match"} <= set(cells) and cells["match"] == "lens one"


def test_a_file_that_is_gone_is_said_and_the_next_picture_comes(output):
    table = candidate_list.read_list(output, numbers=False)
    about = json.loads((output / "survey.json").read_text())
    (output / "moved").mkdir()
    for k in (0, 1):
        (output / "moved" / f"{k}_r.fits").write_bytes(b"" if k == 0 else open(table["tile"][k], "rb").read())
    text = (output / "ranked.ecsv").read_text()
    for k in (0, 1):
        text = text.replace(table["tile"][k], f"moved/{k}_r.fits")
    (output / "ranked.ecsv").write_text(text)
    (output / "survey.json").write_text(json.dumps(about | {"folder": str(output)}))
    mine = tab(output)
    mine.ask("pictures", items=[0, 1], now=True)
    (bad, nothing), (good, buffers) = mine.got
    assert "empty" in bad["text"] and not nothing
    assert "text" not in good and len(buffers) == 1  # without other bands beside: no colour


def test_painted_arcs_are_mixed_in_and_look_like_their_hosts_but_for_the_arc(output):
    mine = tab(output, controls={"known": 1, "painted": 2}, first=10)
    about = grade_log.session(output, "ann")
    known, *arcs = about["controls"]
    assert known["kind"] == "known lens" and known["id"] in ("0000_r.fits", "0001_r.fits")
    pictures, names = mine.widget._pictures, [name for name, _ in mine.widget._session.items]
    assert sum(name.startswith("painted/") for name in names) == 2
    for of in arcs:
        assert of["host"] not in names  # not among those that are graded themselves
        light = pictures.stamp(of["id"]) - pictures.stamp(of["host"])
        assert light.min() > -1e-3 and light.max() == pytest.approx(of["alpha"] * np.ptp(pictures.stamp(of["host"])))
        assert pictures.cells(of["id"]) == pictures.cells(of["host"])
        assert (pictures.picture(of["id"]).colour != pictures.picture(of["host"]).colour).any()
    again = tab(output, controls={"known": 1, "painted": 2})
    np.testing.assert_array_equal(again.widget._pictures.stamp(arcs[0]["id"]), pictures.stamp(arcs[0]["id"]))
    tab(output, "bob", controls={"painted": 2}, first=10)
    assert not {of["id"] for of in arcs} & {of["id"] for of in grade_log.session(output, "bob")["controls"]}
    with pytest.raises(ValueError, match="controls: ann began with .* another name"):
        tab(output, controls={"painted": 3})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"controls": {"known": 3}}, "2 of the list are matched"), ({"controls": {"painted": 99}}, "28 galaxies"),
        ({"controls": {"arcs": 1}}, "controls"), ({"mosaic": 10}, "from 40 to 100"), ({"view": "both"}, "view"),
        ({"grader": "../ann"}, "Latin letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_name(output, asked, said):
    with pytest.raises(ValueError, match=said):
        tab(output, **{"grader": "ann"} | asked)
    assert not (output / "grades").exists()


def test_a_folder_without_a_list_or_without_its_survey_says_what_to_do(output, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="give the output folder of `lensdet rank`"):
        tab(tmp_path_factory.mktemp("empty"))
    (output / "survey.json").unlink()
    with pytest.raises(FileNotFoundError, match="run `lensdet rank` with the same parameters again"):
        tab(output)


def test_classes_of_a_yaml_file_are_the_names_that_are_written_there(output):
    path = output / "classes.yaml"
    path.write_text("Yes: [ring, 1e3]\nmaybe:\nNo: [spiral]\n")
    begun = tab(output, classes=path).ask("begin")
    assert begun["classes"] == [["Yes", ["ring", "1e3"]], ["maybe", []], ["No", ["spiral"]]]
    path.write_text("- A\n")
    with pytest.raises(ValueError, match="classes.yaml: majors"):
        tab(output, "bob", classes=path)


def test_heat_is_that_of_the_page_where_it_has_it(output):
    (output / "page" / "stamps").mkdir(parents=True)
    picture = np.zeros((101, 309, 3), np.uint8)
    picture[:, 208:] = (200, 100, 0)
    Image.fromarray(picture).save(output / "page" / "stamps" / "00003.jpg", quality=95, subsampling=0)
    mine = tab(output)
    assert mine.ask("heat", items=[2], now=True)["item"] == 2
    (output / "heat.jpg").write_bytes(mine.got[-1][1][0])
    shown = np.asarray(Image.open(output / "heat.jpg")).astype(int)
    assert shown.shape == (101, 101, 3) and np.abs(shown - [200, 100, 0]).max() < 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_r.fits.gz", "a_g.fits.gz"), ("KiDS_DR4.0_1.0_r_sci.fits", "KiDS_DR4.0_1.0_g_sci.fits"),
        ("r_star_r.fits", "r_star_g.fits"), ("HSC-R-1.fits", "HSC-G-1.fits"), ("rest.fits", None), ("a_r.fit", None),
    ],
)  # fmt: skip
def test_the_file_of_another_band_has_the_same_name_but_for_the_band(tmp_path, name, expected):
    for other in (
        "a_g.fits.gz",
        "KiDS_DR4.0_1.0_g_sci.fits",
        "r_star_g.fits",
        "g_star_r.fits",
        "HSC-G-1.fits",
        "gest.fits",
    ):
        (tmp_path / other).touch()
    found = grading_pictures.band_file(str(tmp_path / name), "r", "g")
    assert found == (expected and str(tmp_path / expected))


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js to run the script")
@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({"A": [], "B": [], "X": ["ring", "star"]}, {"a": "A", "b": "B", "x": "X", "1": "X ring", "2": "X star"}),
        ({"1": [], "2": [], "0": ["ring", "star"]}, {"1": "1", "2": "2", "0": "0", "3": "0 ring", "4": "0 star"}),
        ({"A+": [], "A": [], "A-": [], "B": ["ring"]}, {"a": "A", "b": "B", "1": "B ring", "c": "A+", "d": "A-"}),
        ({"lens": [], "less": [], "линза": [], "no": []}, {"l": "lens", "e": "less", "n": "no", "a": "линза"}),
        (
            {"X": [f"s{k}" for k in range(12)], "Y": []},
            {"x": "X", "y": "Y", **{str((k + 1) % 10): f"X s{k}" for k in range(10)}},
        ),
    ],
)  # fmt: skip
def test_every_class_has_a_key_of_its_own(classes, expected):
    script = grading.Grading._esm + "console.log(JSON.stringify([...keysOf(JSON.parse(process.argv[1])).keys]));"
    command = ["node", "--input-type=module", "-e", script, json.dumps(list(classes.items()))]
    keys = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {key: " ".join(filter(None, pair)) for key, pair in keys} == expected


def test_the_script_makes_text_and_never_markup():
    script = grading.Grading._esm
    assert "textContent" in script
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval("):
        assert word not in script
