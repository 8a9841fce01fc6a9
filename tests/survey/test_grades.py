"""Grades of several people: nothing lost, nothing twice, numbers by hand, and nothing in a text that acts."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lensdet import cli
from lensdet.data import stamps
from lensdet.evaluation import agreement
from lensdet.survey import candidate_list, grade_log, grade_report, grades, hosts, page, tables
from tests.survey import lists
from tests.survey.graded import grade, ranked
from tests.survey.test_page import HOSTILE, Page

IDS = ["a.fits", "b.fits", "c.fits", "d.fits", "e.fits"]
SCORE = {"A": 3, "B": 2, "C": 1, "X": 0}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Draws for intervals, which are tested elsewhere."""
    monkeypatch.setattr(agreement, "DRAWS", 5)


@pytest.fixture
def folder(tmp_path):
    return ranked(tmp_path / "out", IDS)


def part(merged, name):
    return merged.agreement[merged.agreement["part"] == name].set_index("what")


# ---- merging


def test_a_row_a_candidate_with_every_grade_its_mean_and_its_scatter(folder):
    grade(folder, "anna", {"a.fits": "A", "b.fits": "B", "c.fits": "X"})
    grade(folder, "ben", {"a.fits": "B", "c.fits": "X", "d.fits": "C"})
    merged = grades.merge(folder)
    table = merged.table.set_index("id")
    assert merged.graders == ["anna", "ben"] and merged.scale == "A 3, B 2, C 1, X 0"
    assert list(table.index) == ["a.fits", "b.fits", "d.fits", "c.fits"]  # by mean, then by rank
    assert table["mean"].tolist() == [2.5, 2, 1, 0] and table["graders"].tolist() == [2, 1, 1, 2]
    assert table.loc["a.fits", "scatter"] == pytest.approx(np.std([3, 2], ddof=1))
    assert np.isnan(table.loc["b.fits", "scatter"]) and table.loc["c.fits", "scatter"] == 0
    assert table.loc["a.fits", ["grade_anna", "grade_ben", "grade"]].tolist() == ["A", "B", "B"]  # halves go down
    assert table.loc["b.fits", ["grade_anna", "grade_ben"]].tolist() == ["B", ""]
    listed = candidate_list.read_list(folder).set_index("id")
    assert table[["rank", "ra", "dec", "p_ensemble"]].equals(
        listed.loc[table.index, ["rank", "ra", "dec", "p_ensemble"]]
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whoever_grades_what_no_grade_is_lost_doubled_or_given_to_another(tmp_path_factory, data):
    folder = ranked(tmp_path_factory.mktemp("any") / "out", IDS, pictures=0)
    said = data.draw(st.dictionaries(
        st.sampled_from(["anna", "ben", "c.3"]),
        st.dictionaries(st.sampled_from(IDS), st.sampled_from("ABCX"), min_size=1), min_size=1,
    ))  # fmt: skip
    for name, events in said.items():
        grade(folder, name, events)
    merged = grades.merge(folder)
    found = {name: {row["id"]: row[f"grade_{name}"] for row in merged.table.to_dict("records") if row[f"grade_{name}"]}
             for name in merged.graders}  # fmt: skip
    assert found == said
    for row in merged.table.to_dict("records"):
        numbers = [SCORE[events[row["id"]]] for events in said.values() if row["id"] in events]
        assert row["mean"] == pytest.approx(np.mean(numbers)) and row["graders"] == len(numbers)
        assert abs(SCORE[row["grade"]] - row["mean"]) <= 0.5


def test_the_last_grade_counts_and_what_was_taken_back_does_not(folder):
    grade(folder, "anna", {"a.fits": "A", "b.fits": "A"})
    grade_log.append(folder, "anna", {"id": "a.fits", "grade": "X"}, {"id": "b.fits", "grade": ""})
    table = grades.merge(folder).table
    assert table["id"].tolist() == ["a.fits"] and table["grade_anna"].tolist() == ["X"]


def test_the_second_showing_says_how_consistent_a_person_is_and_changes_no_grade(folder):
    grade(folder, "anna", {"a.fits": ["A", "X"], "b.fits": ["B", "B"], "c.fits": ["X", "X"], "d.fits": "C"})
    merged = grades.merge(folder)
    assert merged.table.set_index("id").loc[IDS[:4], "grade_anna"].tolist() == ["A", "B", "X", "C"]
    found = part(merged, "consistency").loc["anna"]
    assert found["value"] == pytest.approx(2 / 3) and found["n"] == 3


def test_kappas_rest_on_what_both_graded(folder):
    grade(folder, "anna", dict(zip(IDS, "AXXXA", strict=True)))
    grade(folder, "ben", dict(zip(IDS[:4], "AXXA", strict=True)))
    grade(folder, "carla", {"a.fits": "A"})
    merged = grades.merge(folder)
    kappa = part(merged, "Cohen's kappa")
    assert kappa["n"].to_dict() == {"anna and ben": 4, "anna and carla": 1, "ben and carla": 1}
    # agreement 3 of 4; at random 1/4 * 1/2 + 3/4 * 1/2
    assert kappa.loc["anna and ben", "value"] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert np.isnan(kappa.loc["ben and carla", "value"])
    assert part(merged, "Fleiss' kappa")["n"].to_dict() == {"2 grades each": 3, "3 grades each": 1}


def test_one_grader_alone_has_a_table_and_no_kappa(folder):
    grade(folder, "anna", {"a.fits": "A", "b.fits": "X"})
    merged, index = grade_report.write(folder)
    assert not part(merged, "Cohen's kappa").size and not part(merged, "Fleiss' kappa").size
    assert merged.table["scatter"].isna().all() and index.exists()


def test_controls_give_completeness_and_painted_arcs_are_no_candidates(folder):
    painted = [{"id": f"painted/{k}", "kind": "painted arc", "host": "a.fits", "source": k} for k in range(4)]
    other = [painted[0] | {"source": 9}, *painted[1:]]  # of another seed: it only has the same name
    known = [{"id": "b.fits", "kind": "known lens"}]
    arcs = {f"painted/{k}": grade for k, grade in enumerate("ABCX")}
    grade(folder, "anna", {"a.fits": "X", "b.fits": "A"} | arcs, controls=painted + known)
    grade(folder, "ben", {"b.fits": "X"} | dict.fromkeys(arcs, "A"), controls=other)
    merged = grades.merge(folder)
    assert sorted(merged.table["id"]) == ["a.fits", "b.fits"] and not any(
        "not in the list" in r for r in merged.remarks
    )
    assert merged.table.set_index("id")["control"].to_dict() == {"a.fits": "", "b.fits": "known lens"}
    found = part(merged, "completeness")
    assert found[["value", "n"]].to_dict("index") == {
        "known lens, anna": {"value": 1.0, "n": 1},
        "known lens, ben": {"value": pytest.approx(np.nan, nan_ok=True), "n": 0},
        "known lens, merged": {"value": 0.0, "n": 1},  # A and X: 1.5, which is C
        "painted arc, anna": {"value": 0.5, "n": 4},
        "painted arc, ben": {"value": 1.0, "n": 4},
        "painted arc, merged": {"value": pytest.approx(2 / 3), "n": 3},  # B, C and X with A: 2.5, 2 and 1.5
    }
    # Clopper & Pearson for 2 of 4, as in tables
    assert tuple(found.loc["painted arc, anna", ["low", "high"]]) == pytest.approx((0.0676, 0.9324), abs=1e-4)
    assert part(merged, "Cohen's kappa")["n"].tolist() == [1]  # the known lens: arcs are no candidates


def test_purity_counts_what_was_graded_of_the_first(tmp_path):
    ids = [f"{k}.fits" for k in range(30)]
    folder = ranked(tmp_path, ids)
    grade(folder, "anna", {i: "A" if k < 6 else "X" for k, i in enumerate(ids) if k != 3})
    found = part(grades.merge(folder), "purity")
    assert found.index.tolist() == ["first 10", "first 20", "first 50"] and found["n"].tolist() == [9, 19, 29]
    assert found["value"].tolist() == pytest.approx([5 / 9, 5 / 19, 5 / 29])
    assert ((found["low"] < found["value"]) & (found["value"] < found["high"])).all()


def test_a_log_that_was_cut_off_loses_no_whole_row(folder):
    grade(folder, "anna", {"a.fits": "A", "b.fits": {"grade": "X", "note": 'a "ring",\nor not'}})
    log = folder / "grades" / "anna.csv"
    whole = log.read_bytes()
    grade_log.append(folder, "anna", {"id": "c.fits", "grade": "B", "note": 'torn,\n"quoted"'})
    torn = log.read_bytes()
    for end in (*range(len(whole), len(torn) - 9, 9), *range(len(torn) - 9, len(torn) - 1)):  # the line feed
        log.write_bytes(torn[:end])
        assert grades.merge(folder).table["id"].tolist() == ["a.fits", "b.fits"]


# ---- what cannot be


def test_no_grades_and_no_list_say_what_to_do(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no grades yet; lensdet.grade\("):
        grades.merge(folder)
    grade_log.start(folder, "anna")
    with pytest.raises(FileNotFoundError, match="no grades yet"):
        grades.merge(folder)
    with pytest.raises(FileNotFoundError, match="ranked.ecsv is not there: give the output folder"):
        grades.merge(tmp_path)


def test_a_grader_without_a_grade_is_left_out(folder):
    grade(folder, "anna", {"a.fits": "A"})
    grade_log.start(folder, "ben", classes={"yes": [], "no": []})
    assert grades.merge(folder).graders == ["anna"]


def test_graders_with_other_classes_are_named(folder):
    grade(folder, "anna", {"a.fits": "A"})
    grade(folder, "ben", {"a.fits": "yes"}, classes={"yes": [], "no": []})
    with pytest.raises(ValueError, match=r"anna has the classes A, B, C, X, ben yes, no; .* move ben.csv and ben.json"):
        grades.merge(folder)


def test_a_grade_that_is_no_class_is_named_with_its_file(folder):
    grade(folder, "anna", {"a.fits": "A"})
    log = folder / "grades" / "anna.csv"
    log.write_text(log.read_text().replace(",A,", ",Z,"))
    with pytest.raises(ValueError, match=r"anna.csv: 'Z' is none of the classes A, B, C, X"):
        grades.merge(folder)


def test_ids_of_another_list_are_said_and_left_out(folder):
    grade(folder, "anna", {"a.fits": "A", "gone.fits": "B"})
    merged = grades.merge(folder)
    assert merged.table["id"].tolist() == ["a.fits"]
    assert any("1 graded ids are not in the list, such as gone.fits" in line for line in merged.remarks)


@pytest.mark.parametrize(
    ("classes", "lenses"),
    [
        ("A B C X", ["A", "B"]),
        ("lens maybe no", ["lens"]),
        ("sure likely unlikely no", ["sure"]),
        ("1 0", ["1"]),
        ("3 2 1 0", ["3"]),
        ("A+ A A- none", ["A+", "A"]),
    ],
)
def test_which_classes_are_lenses(classes, lenses):
    assert grades.lens_classes(classes.split()) == lenses


# ---- labels


def test_labels_are_what_a_finder_takes_with_the_class_of_negatives(folder):
    one = {"a.fits": "A", "b.fits": "C", "c.fits": {"grade": "X", "subclass": "spiral"}, "d.fits": "X"}
    grade(folder, "anna", one)
    grade(folder, "ben", {"c.fits": {"grade": "X", "subclass": "ring"}, "d.fits": {"grade": "C", "subclass": "odd"}})
    grade(folder, "carla", {"c.fits": {"grade": "X", "subclass": "ring"}, "a.fits": "B"})
    merged, _ = grade_report.write(folder)
    made = grades.labels(merged).set_index("id")
    assert made["grade"].to_dict() == {"a.fits": "lens", "c.fits": "non-lens", "d.fits": "non-lens"}
    assert made["class"].to_dict() == {"a.fits": "", "c.fits": "ring", "d.fits": ""}  # odd was said of a C
    assert merged.table.set_index("id").loc["c.fits", "subclasses"] == "ring 2, spiral 1"
    for name in ("labels.csv", "grades.csv"):
        read = hosts.grades(folder / "graded" / name)
        assert {i: said for i, said in read.items()} == {"a.fits": 1, "c.fits": 0, "d.fits": 0}, name


def test_labels_of_other_classes_are_in_words_of_a_finder(folder):
    classes = {"sure": [], "perhaps": [], "nothing": ["star"]}
    grade(
        folder, "anna", dict(zip(IDS, ("sure", "perhaps", "nothing", "sure", "nothing"), strict=True)), classes=classes
    )
    grade_report.write(folder)
    assert hosts.grades(folder / "graded" / "labels.csv") == {"a.fits": 1, "d.fits": 1, "c.fits": 0, "e.fits": 0}


# ---- files


def test_tables_are_read_back_as_they_were(folder):
    grade(folder, "anna", {"a.fits": {"grade": "A", "note": '=1+1\nsecond, "line" | # no comment'}, "b.fits": "X"})
    grade(folder, "ben", {"a.fits": "B"})
    merged, _ = grade_report.write(folder)
    made = folder / "graded"
    ecsv = Table.read(made / "grades.ecsv")
    assert ecsv.meta["scale"] == "A 3, B 2, C 1, X 0" and ecsv["ra"].unit == "deg"
    again = pd.read_csv(made / "grades.csv", keep_default_na=False, na_values={"mean": [""], "scatter": [""]})
    for read in (ecsv.to_pandas(), again):
        assert read["id"].tolist() == merged.table["id"].tolist()
        np.testing.assert_allclose(read["mean"], merged.table["mean"])
        np.testing.assert_allclose(read["scatter"].astype(float), merged.table["scatter"])
    assert ecsv["notes"][0] == merged.table["notes"][0] == 'anna: =1+1\nsecond, "line" | # no comment'
    found = pd.read_csv(made / "agreement.csv")
    assert found.columns.tolist() == grades.COLUMNS and len(found) == len(merged.agreement)


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    ids = ["=cmd|' /C calc'!A0", "+1", "-1.fits", "@SUM(1)", "a;=1+1", "plain - one.fits", "'=x"]
    folder = ranked(tmp_path, ids)
    note = '=HYPERLINK("http://x")\n=1;=2\t=3'
    grade(folder, "anna", {i: {"grade": "A", "note": note, "subclass": "=ring"} for i in ids})
    grade(folder, "ben", {i: {"grade": "A", "note": note} for i in ids})
    grade_report.write(folder)
    for name in ("grades.csv", "labels.csv", "agreement.csv"):
        text = (folder / "graded" / name).read_text()
        with open(folder / "graded" / name, newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        # whichever separator a spreadsheet takes, and wherever it ends a line
        cells += [cell for cell in re.split(r"[,;\t\r\n|]", text) if not cell.startswith('"')]
        acts = [cell for cell in cells if re.match(r"\s*[=+@-]", cell) and not re.fullmatch(r"-?[\d.e+-]+", cell)]
        assert not acts, name
    assert hosts.grades(folder / "graded" / "labels.csv") == dict.fromkeys(ids, 1)


@settings(max_examples=500)
@given(st.text("=+-@'; \n|\ta", max_size=9))
def test_a_text_without_formulas_can_be_read_back(text):
    assert tables.as_before(tables.inert(text)) == text
    assert not re.search(r"(^|[;|\t\r\n])\s*[=+\-@]", tables.inert(text))


def test_hostile_text_is_text_on_the_page_in_figures_and_in_latex(tmp_path):
    """Of ids, cells of the list, classes, subclasses and notes."""
    ids = [candidate_list.as_text(text) for text in HOSTILE]
    folder = ranked(tmp_path / "out", ids, match=ids)
    plain = ranked(tmp_path / "plain", [f"c{k}" for k in range(len(ids))], match=["m"] * len(ids))
    major = "$<b>&amp; {{ 7 * 7 }}"
    for out, classes in ((folder, {major: HOSTILE, "none": []}), (plain, {"yes": list("abcdefghij"), "none": []})):
        kind, subclasses = next(iter(classes.items()))
        names = candidate_list.read_list(out)["id"]
        said = [{"grade": kind, "subclass": text, "note": text} for text in subclasses]
        grade(out, "anna", dict(zip(names, said, strict=True)), classes=classes)
    made = {out: Page(grade_report.write(out)[1]) for out in (folder, plain)}
    assert [tag for tag, _ in made[folder].tags] == [tag for tag, _ in made[plain].tags]
    said = " ".join([made[folder].rest, *made[folder].articles.values()])
    for text, i in zip(HOSTILE, ids, strict=True):
        kept = text.encode("utf-8", "backslashreplace").decode()  # as the log has it
        assert said.count(kept) >= 3 and said.count(i) >= 2  # class, subclasses and note; id and match
    assert major in said and "49" not in said
    files = [{path.name for path in (out / "graded").rglob("*")} for out in (folder, plain)]
    assert files[0] == files[1]
    latex = (folder / "graded" / "grades.tex").read_text()
    rows = latex.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
    assert len(rows) == len(ids) and all(len(re.findall(r"(?<!\\)&", row)) == 9 for row in rows)
    assert not re.search(r"(?<!\\)[$%#]", latex)


def test_the_page_loads_its_pictures_and_nothing_else(folder):
    grade(folder, "anna", {"a.fits": "A", "b.fits": "X"})
    _, path = grade_report.write(folder)
    found = Page(path)
    policy = next(
        a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src 'self'; style-src 'sha256-")
    assert not {"script", "link", "iframe", "form", "object"} & {tag for tag, _ in found.tags}
    assert found.values("img", "src") == ["stamps/00001.jpg", "stamps/00002.jpg"]
    for source, k in (("00001", 1), ("00002", 2)):
        copied = (path.parent / "stamps" / f"{k:05d}.jpg").read_bytes()
        assert copied == (folder / "page" / "stamps" / f"{source}.jpg").read_bytes()


def test_pictures_follow_the_candidate_not_its_place(folder):
    grade(folder, "anna", {"a.fits": "C", "d.fits": "A"})
    _, path = grade_report.write(folder)
    first = (path.parent / "stamps" / "00001.jpg").read_bytes()
    assert first == (folder / "page" / "stamps" / "00004.jpg").read_bytes()


def test_what_the_page_of_the_list_does_not_have_is_drawn_from_the_survey(tmp_path):
    folder = lists.ranked(tmp_path, 4)  # without a page
    ids = candidate_list.read_list(folder)["id"].tolist()
    grade(folder, "anna", {ids[1]: "A", ids[3]: "X"})
    _, path = grade_report.write(folder)
    assert Page(path).values("img", "src") == ["stamps/00001.jpg", "stamps/00002.jpg"]
    drawn = np.asarray(Image.open(path.parent / "stamps" / "00001.jpg"), float)
    expected = page.strip(stamps.normalise(lists.stamp(1)), np.zeros((2, 2)))
    assert drawn.shape == expected.shape and np.abs(drawn - expected).mean() < 4  # as a JPEG
    (tmp_path / "stamps" / ids[1]).unlink()
    _, path = grade_report.write(folder)
    assert Page(path).values("img", "src") == ["stamps/00002.jpg"] and "no picture" in path.read_text("utf-8")


def test_a_list_is_read_as_it_was_written(tmp_path):
    names = ["007", "null", "a,b.fits", 'say "hi".fits', "#1", " x", "é.fits"]
    folder = ranked(tmp_path, names, pictures=0, match=["", "m", *[""] * 5], catalogue_z=[0.5, np.nan, *range(5)])
    read, written = candidate_list.read_list(folder), Table.read(folder / "ranked.ecsv").to_pandas()
    assert read["id"].tolist() == names and read.columns.tolist() == written.columns.tolist()
    for name in ("rank", "ra", "dec", "p_bce", "catalogue_z"):
        np.testing.assert_array_equal(read[name], written[name])
    assert read["match"].tolist() == ["", "m", *[""] * 5]
    texts = candidate_list.read_list(folder, numbers=False)
    assert texts["id"].tolist() == names and texts["rank"].tolist() == list("1234567")


def test_figures_have_widths_of_a_paper_and_text_that_can_be_read(folder):
    for name, said in {"anna": "ABXXA", "ben": "AXXCA"}.items():
        grade(folder, name, dict(zip(IDS, said, strict=True)))
    grade_report.write(folder)
    for name in ("grades", "best"):
        assert Image.open(folder / "graded" / f"{name}.png").width == 7.1 * 200
        assert (folder / "graded" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_again_replaces_all_and_a_failure_leaves_what_was_there(folder, monkeypatch):
    grade(folder, "anna", {"a.fits": "A"})
    grade_report.write(folder)
    made = folder / "graded"
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    grade_report.write(folder)
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == before
    grade(folder, "anna", {"b.fits": "A"})

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(grade_report.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        grade_report.write(folder)
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == before


# ---- the command


def test_the_command_merges_and_says_what_it_found(folder, capsys):
    grade(folder, "anna", dict(zip(IDS, "ABXXA", strict=True)))
    grade(folder, "ben", dict(zip(IDS, "AXXCA", strict=True)))
    assert cli.main(["grades", str(folder), "--best", "2"]) == 0
    said = capsys.readouterr().out
    assert (
        "5 candidates graded by anna, ben: 2 A, 0 B, 1 C, 2 X" in said and "A and B count as lenses, X as none" in said
    )
    assert re.search(r"Cohen's kappa, anna and ben: 0\.\d\d \(.* to .*\), n = 5", said)
    assert said.endswith(f"{folder / 'graded' / 'index.html'}\n")
    assert (folder / "graded" / "grades.tex").read_text().count("fits &") == 2


def test_the_command_names_what_is_missing(folder, capsys):
    for arguments, words in (
        ([str(folder)], "no grades yet"),
        ([str(folder), "--best", "0"], "0: give a whole number"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["grades", *arguments])
        assert end.value.code == 2 and words in capsys.readouterr().err
