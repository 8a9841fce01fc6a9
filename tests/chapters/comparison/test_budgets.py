"""The summary over budgets, from claims that are written here."""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lensdet import storage
from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import budgets, claims
from lensdet.chapters.comparison import figures as comparison_figures
from lensdet.chapters.losses import threshold_control
from lensdet.profiles import PROFILES

BCE, F_BETA = "Binary Cross Entropy", "F_beta Soft Loss"


def stated(verdict="open", runs=5, difference=0.1):
    """A table as `claims.claims` makes it, with one verdict for all claims."""
    rows = []
    for claim in thesis.CLAIMS:
        shown = f"{claim.b}, {BCE}" if claim.b == thesis.BEST_MEMBER else claim.b
        words = f"{claims.METRICS[claim.metric]}: {claim.a} {'>' if claim.sign > 0 else '<'} {shown}"
        d = difference if runs else np.nan
        rows.append({**claim._asdict(), "b": BCE if claim.b == thesis.BEST_MEMBER else claim.b, "claim": words,
                     "question": claim.question, "thesis": claims._printed(claim), "difference": d, "low": d - 0.02,
                     "high": d + 0.02, "p": 0.5, "p_adjusted": 1.0, "runs": runs, "images": 1102,
                     "verdict": verdict if runs else claims.NO_RUN, "runs_needed": np.nan, "images_needed": np.nan,
                     "runs_needed_on_many": np.nan})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path))
    return tmp_path


def ranked(runs=5, verdict="lower"):
    """A table as `threshold_control.ranking` makes it."""
    rows = [{"model": F_BETA, "measure": measure, "cross_entropy": 0.97, "soft_loss": 0.875, "difference": -0.095,
             "low": -0.125 if runs > 1 else np.nan, "high": -0.0625 if runs > 1 else np.nan, "runs": runs,
             "images": 1102, "verdict": verdict} for measure in threshold_control.RANKING]  # fmt: skip
    return pd.DataFrame(rows)


RANKS = ranked().assign(profile="lite")


def left(here, **found):
    for profile, table in found.items():
        storage.write_csv(here / profile / "comparison_claims.csv", table)
        storage.write_csv(here / profile / "comparison_ranking.csv", ranked())


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"quick": "agrees"}, "–"),
        ({"quick": "agrees", "evening": "agrees"}, "stable"),
        ({"quick": "contradicts", "evening": "contradicts"}, "stable"),
        ({"quick": "agrees", "evening": "contradicts"}, "budget-dependent"),
        ({"quick": "agrees", "evening": "equivalent"}, "budget-dependent"),
        ({"quick": "equivalent", "evening": "equivalent"}, "equivalent"),
        ({"quick": "open", "evening": "open"}, "open"),
        ({"quick": "agrees", "evening": "open"}, "open"),
        ({"quick": "open", "evening": "agrees", "overnight": "agrees"}, "stable"),
        (
            {"evening": "agrees", "overnight": "agrees", "lite": "contradicts"},
            "stable",
        ),  # lite is no point of the trend
        ({"overnight": "agrees", "lite": "agrees"}, "–"),
    ],
)
def test_a_claim_is_stable_if_the_two_largest_budgets_decide_alike(found, expected):
    table = budgets.over({profile: stated(verdict) for profile, verdict in found.items()})
    assert set(table["over budgets"]) == {expected}
    assert all(set(table[profile]) == {verdict} for profile, verdict in found.items())


def test_budgets_of_fewer_than_five_runs_do_not_count_for_stability():
    found = {"quick": stated("agrees"), "evening": stated("agrees"), "overnight": stated("open", runs=4)}
    assert set(budgets.over(found)["over budgets"]) == {"stable"}


def test_a_sentence_counts_what_two_budgets_say_together():
    two = {"quick": stated("agrees"), "evening": stated("agrees")}
    two["evening"].loc[[0, 2, 3, 4], "verdict"] = "contradicts"
    two["quick"].loc[[2, 3], "verdict"] = "contradicts"
    two["quick"].loc[1, "runs"] = 4
    n = len(thesis.CLAIMS)
    words = f"stable, agrees: {n - 5}; budget-dependent: 2; stable, contradicts: 2"
    said = f"Of the {n} claims {n - 1} have two such budgets ({words})."
    assert budgets.counted_over_budgets(budgets.over(two)) == said and said in budgets.markdown(two, RANKS)
    one = {"quick": stated("agrees")}
    lite = {"lite": stated("agrees")}
    for found in (one, lite):
        text = budgets.markdown(found, RANKS)
        assert budgets.counted_over_budgets(budgets.over(found)) == "" and "\n\n\n" not in text and " \n" not in text


def test_a_sentence_compares_the_profile_that_counts_with_the_one_before():
    found = {"evening": stated("agrees"), "overnight": stated("contradicts", runs=1), "lite": stated("agrees")}
    found["lite"].loc[[0, 1], "verdict"] = "open"
    found["evening"].loc[[2], "verdict"] = "open"
    found["evening"].loc[[3], "verdict"] = "contradicts"
    found["lite"].loc[[4], "runs"] = 4
    for name in ("evening", "lite"):
        found[name].loc[5, "verdict"] = "open"
    found["evening"]["images"] = 20_000
    n = len(thesis.CLAIMS)
    said = budgets.compared_with_the_one_before(found)
    assert said in budgets.markdown(found, RANKS)
    assert said.startswith(f"`lite` (1,102 test images) and `evening` (20,000) both have 5 runs of {n - 1} claims; ")
    assert f"equivalent in both: {n - 6}, open in both: 1, open in `lite` alone: 2, open in `evening` alone: 1," in said
    assert "other pairs of verdicts: 1." in said
    assert budgets.compared_with_the_one_before({"lite": found["lite"], "overnight": found["overnight"]}) == ""
    found["lite"].loc[1:, "runs"], found["evening"].loc[:1, "runs"] = 4, 4
    assert budgets.compared_with_the_one_before(found) == ""


def test_images_of_networks_that_choose_weights_are_named():
    """They see fewer than those whose predictions they weigh."""
    lite = stated()
    lite.loc[lite[["a", "b"]].isin(["IDE_3", "IDE_6"]).any(axis=1), "runs"] = 0
    table = budgets.table_of_budgets({"evening": stated(), "lite": lite}).set_index("profile")
    assert table["training images of an IDE network"].to_dict() == {"`evening`": "65,536", "`lite`": "–"}


def test_each_profile_has_its_own_best_member(here):
    other = stated("agrees")
    best = other.claim.str.contains(thesis.BEST_MEMBER)
    other.loc[best, "b"] = F_BETA
    other["claim"] = other.claim.str.replace(f"{thesis.BEST_MEMBER}, {BCE}", f"{thesis.BEST_MEMBER}, {F_BETA}")
    table = budgets.over({"quick": stated(), "lite": other})
    assert table.claim[best].str.endswith("best member").all() and best.sum() == 6
    of = budgets.headlines({"quick": stated(), "lite": other})["of"]
    assert (of == "F_beta at p > 0.75: NM_6 − best member").sum() == 2


@pytest.mark.parametrize("change", [{"sign": 2}, {"a": "x"}, None])
def test_a_claims_file_with_other_claims_is_refused(here, change):
    table = stated()
    table = table.drop(columns="p") if change is None else table.assign(**change)
    left(here, quick=table)
    with pytest.raises(ValueError, match="comparison_claims.csv: of other claims .* tox -e figures -- comparison"):
        budgets.save()


def test_profiles_without_runs_are_not_read(here):
    left(here, quick=stated("agrees"), evening=stated(runs=0))
    assert list(budgets.read()) == ["quick"]
    assert budgets.save() is None and (here / "comparison.png").exists()


def test_no_comparison_is_written_without_any_run(here):
    left(here, quick=stated(runs=0))
    budgets.save()
    assert [path.name for path in here.iterdir()] == ["quick"]


def test_headlines_have_the_numbers_of_the_claims_table(here):
    found = {"quick": stated("open", 2, 0.25), "lite": stated("contradicts", 5, -0.125)}
    left(here, **found)
    table = budgets.headlines(budgets.read())
    assert len(table) == 12 and table.of.nunique() == 6
    first = table[table.of == "precision: soft F_beta − BCE"].set_index("profile")
    assert first.loc["quick", ["runs", "verdict"]].tolist() == [2, "open"]
    assert first.loc["lite", ["runs", "verdict"]].tolist() == [5, "contradicts"]
    numbers = first[["thesis", "difference", "low", "high"]].to_numpy()
    assert numbers == pytest.approx(np.array([[0.031, 0.25, 0.23, 0.27], [0.031, -0.125, -0.145, -0.105]]))
    budgets.save()
    text = (here / "comparison.md").read_text()
    assert text.index("comparison.png") < text.index("precision: soft F_beta − BCE") < text.index("## Every claim")
    n = len(thesis.CLAIMS)
    assert f"{n} claims (contradicts: {n})" in text and text.count("| 5.") == n
    assert "nan" not in text and "| `lite`    | 851,968 " in text


def test_each_profile_with_runs_is_compared_and_then_all(here, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(storage.root() / "results"))
    monkeypatch.setattr(budgets, "PROFILES", ("overnight", "thesis"))  # the second has no runs
    budgets.save_all()
    assert {path.name for path in here.iterdir()} == {"overnight", "comparison.md", "comparison.png"}
    folders = here, storage.root() / "figures"
    again, before = (pd.read_csv(folder / "overnight" / "comparison_claims.csv") for folder in folders)
    pd.testing.assert_frame_equal(again, before, rtol=1e-5)
    assert len(budgets.rankings(["overnight"])) == 2
    assert "| `overnight` | 917,504 " in (here / "comparison.md").read_text()


def test_each_claim_that_is_said_first_is_a_sentence_of_the_profile_with_most_runs():
    found = {"quick": stated("open", 5, 0.25), "lite": stated("contradicts", 5, -0.125), "overnight": stated(runs=1)}
    said = budgets.sentences(budgets.headlines(found))
    assert len(said) == len(budgets.ASKED) == 6
    first = "contradicts**, −0.125 (−0.145 to −0.105; thesis +0.031; `lite`, 5 runs of 851,968 images)."
    assert said[0] == f"*At p = 0.5 the soft F_beta loss is more precise than cross-entropy*: **{first}"
    assert all(f"\n{i}. {sentence}\n" in budgets.markdown(found, RANKS) for i, sentence in enumerate(said, 1))


def test_rankings_of_all_profiles_are_one_table_and_only_those_of_five_runs_are_counted(here):
    left(here, quick=stated(), lite=stated())
    storage.write_csv(here / "quick" / "comparison_ranking.csv", ranked(1, "open"))
    text = budgets.with_the_threshold_moved(budgets.rankings(["quick", "lite"]))
    assert "Of 2 differences with 5 runs or more: 2 lower (" in text
    lines = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("|")]
    assert lines[0] == "profile;loss;measure;BCE;soft loss;difference;low;high;runs;test images;verdict".split(";")
    measure = threshold_control.RANKING[0]
    assert lines[2] == ["quick", "soft F_beta", measure, "0.970", "0.875", "-0.095", "–", "–", "1", "1,102", "open"]
    numbers = ["0.970", "0.875", "-0.095", "-0.125", "-0.062", "5", "1,102"]
    assert lines[3] == ["lite", "soft F_beta", measure, *numbers, "lower"]
    (here / "lite" / "comparison_ranking.csv").unlink()
    with pytest.raises(FileNotFoundError, match="lite.comparison_ranking.csv: run tox -e figures -- comparison"):
        budgets.rankings(["quick", "lite"])


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"verdict": "agrees"}, ""),
        ({"verdict": "equivalent"}, ""),
        ({"verdict": claims.NO_RUN, "runs": 0}, "at least 5 runs"),
        ({"runs": 4}, "at least 5 runs"),
        ({"runs_needed": 6.0, "runs_needed_on_many": 6.0}, "6 runs in all"),
        ({"runs_needed": 6.0, "images_needed": 20_000.0}, "6 runs in all or 20,000 test images"),
        ({"runs_needed_on_many": 34.0}, "34 runs on many test images"),
        ({"p": np.nan}, "runs agree exactly"),
        ({}, "not with 1,000 runs, nor with a thousand times the images"),
    ],
)
def test_what_would_close_an_open_claim_is_said(changed, words):
    assert budgets.closing(pd.Series({**stated("open").loc[0], **changed})) == words


def test_what_would_close_a_claim_is_that_of_most_runs():
    two, five = stated(runs=2), stated().assign(runs_needed=7.0)
    assert set(budgets.over({"quick": five, "evening": two})["to close it"]) == {"quick: 7 runs in all"}
    assert set(budgets.over({"quick": five, "evening": stated("agrees")})["to close it"]) == {""}
    assert set(budgets.over({"quick": stated(runs=0)})["to close it"]) == {"at least 5 runs"}
    said = budgets.sentences(budgets.headlines({"quick": five}))
    assert all(sentence.endswith("; to close it: 7 runs in all).") for sentence in said)


def test_each_profile_says_what_its_claims_come_from(monkeypatch):
    monkeypatch.setitem(PROFILES, "evening", PROFILES["evening"] | {"learning_rates": {"bce": 3e-3, "f1": 3e-4}})
    some = stated(runs=5)
    some.loc[3:, "runs"] = 2
    table = budgets.table_of_budgets({"evening": some, "lite": stated()}).set_index("profile")
    rates = "BCE 0.003, soft F_beta 0.001, soft F1 0.0003, double F1 0.001"
    assert table["learning rates"].tolist() == [rates, "0.001"]
    assert table["runs"].tolist() == ["2 to 5", "5"] and table["test images"].tolist() == ["1,102"] * 2
    by_question = budgets.table_of_questions({"evening": some, "lite": stated("agrees")})
    assert by_question.loc["4. Does segmentation help?"].tolist() == ["open: 4", "agrees: 4"]


def test_every_claim_that_is_said_first_is_a_claim_and_each_question_has_one():
    known = {(claim.question, claim.a, claim.b, claim.metric) for claim in thesis.CLAIMS}
    assert {asked[:4] for asked in budgets.ASKED} <= known
    assert {asked[0] for asked in budgets.ASKED} == set(thesis.QUESTIONS)


def test_sentences_figure_and_table_take_the_verdict_of_the_same_profile():
    """Of five runs and more the last profile, `lite`, and not that of most images or runs."""
    found = {"overnight": stated("agrees", 6), "lite": stated("open", 5)}
    assert comparison_figures.counting(found).tolist() == ["lite"] * len(thesis.CLAIMS)
    assert all("**open**" in said and "`lite`" in said for said in budgets.sentences(budgets.headlines(found)))
    assert budgets.over(found)["to close it"].str.startswith("lite: ").all()
    some = {"overnight": stated("agrees", 5), "lite": stated("open", 4)}
    assert all("**agrees**" in said for said in budgets.sentences(budgets.headlines(some)))


def test_headlines_leave_out_claims_without_runs():
    assert budgets.headlines({"quick": stated(runs=0)}).empty
    assert "nan" not in budgets.markdown({"quick": stated(), "lite": stated(runs=0)}, RANKS)


def test_forest_plot_draws_every_claim_and_no_text_overlaps():
    style.plt.rcParams.update(style.STYLE)
    heads = ("agrees", 0.1), ("contradicts", -0.3), ("equivalent", 0.0), ("open", 0.1)
    tables = {f"{word}\nwidth 16\n918,000 images\n{d}": stated(word, difference=d) for word, d in heads}
    figure = comparison_figures.forest(tables)
    figure.set_dpi(150)  # as it is written: the width of a text in inches depends on it
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= 7.2 and figure.get_size_inches()[1] <= 10.5
    for axis, table in zip(figure.axes, tables.values(), strict=True):
        colour = comparison_figures.LOOKS[table.verdict[0]]["color"]
        points = [line for line in axis.lines if line.get_marker() in "osD" and line.get_color() == colour]
        drawn = sorted(float(line.get_xdata()[0]) for line in points)
        assert drawn == pytest.approx(sorted(table.sign * table.difference))
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.texts if text.get_text()] + [axis.title for axis in figure.axes]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 7 and box.x0 >= 2 and box.x1 <= figure.bbox.x1 - 2, text
        assert not box.overlaps(figure.axes[0].bbox) or box.x1 <= figure.axes[0].bbox.x0 + 1, text
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-1.5).overlaps(other.padded(-1.5))


def test_forest_plot_shows_where_an_interval_leaves_the_axis_and_whose_verdict_stands_at_the_right():
    style.plt.rcParams.update(style.STYLE)
    wide = stated("agrees", runs=5)
    less = wide.index[wide.sign < 0][0]  # of which the thesis' side is below 0
    wide.loc[0, ["low", "high"]] = -1.5, 1.5
    wide.loc[less, ["low", "high"]] = -0.5, 1.5
    figure = comparison_figures.forest({"quick": wide, "lite": stated("open", runs=1)}, {0})
    arrows = [(line.get_marker(), float(line.get_xdata()[0])) for line in figure.axes[0].lines
              if line.get_marker() in "<>"]  # fmt: skip
    edge = comparison_figures.EDGE
    assert sorted(arrows) == [("<", -edge), ("<", -edge), (">", edge)]
    words = [text.get_text() for text in figure.texts]
    assert words.count("agrees") == len(wide) and "open" not in words
    bold = {text.get_text() for text in figure.texts if text.get_fontweight() == "bold"}
    assert comparison_figures.describe(thesis.CLAIMS[0]) in bold
    assert comparison_figures.describe(thesis.CLAIMS[1]) not in bold


def test_budget_comparison_imports_no_network_library():
    code = "import sys, lensdet.chapters.comparison.budgets; print({'keras', 'tensorflow', 'jax'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
