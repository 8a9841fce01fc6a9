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
                     "high": d + 0.02, "p": 0.5, "runs": runs, "images": 1102,
                     "verdict": verdict if runs else claims.NO_RUN})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path))
    return tmp_path


def left(here, **found):
    for profile, table in found.items():
        storage.write_csv(here / profile / "comparison_claims.csv", table)


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"quick": "agrees"}, "–"),
        ({"quick": "agrees", "evening": "agrees"}, "stable"),
        ({"quick": "contradicts", "evening": "contradicts"}, "stable"),
        ({"quick": "agrees", "evening": "contradicts"}, "not stable"),
        ({"quick": "open", "evening": "open"}, "not stable"),
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


def test_each_profile_has_its_own_best_member(here):
    other = stated("agrees")
    best = other.claim.str.contains(thesis.BEST_MEMBER)
    other.loc[best, "b"] = F_BETA
    other["claim"] = other.claim.str.replace(f"{thesis.BEST_MEMBER}, {BCE}", f"{thesis.BEST_MEMBER}, {F_BETA}")
    table = budgets.over({"quick": stated(), "lite": other})
    assert table.claim[best].str.endswith(thesis.BEST_MEMBER).all() and best.sum() == 6
    of = budgets.headlines({"quick": stated(), "lite": other})["of"]
    assert (of == f"{claims.METRICS['f_beta_high']}: NM_6 − {thesis.BEST_MEMBER}").sum() == 2


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
    first = table[table.of == f"precision: {F_BETA} − {BCE}"].set_index("profile")
    assert first.loc["quick", ["runs", "verdict"]].tolist() == [2, "open"]
    assert first.loc["lite", ["runs", "verdict"]].tolist() == [5, "contradicts"]
    numbers = first[["thesis", "difference", "low", "high"]].to_numpy()
    assert numbers == pytest.approx(np.array([[0.031, 0.25, 0.23, 0.27], [0.031, -0.125, -0.145, -0.105]]))
    budgets.save()
    text = (here / "comparison.md").read_text()
    assert text.index("comparison.png") < text.index(f"precision: {F_BETA} − {BCE}") < text.index("## Every claim")
    n = len(thesis.CLAIMS)
    assert f"{n} claims (contradicts: {n})" in text and text.count("\n| 5.") == n
    assert "nan" not in text and "`lite`, 851,968 images a run" in text


def test_each_profile_with_runs_is_compared_and_then_all(here, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(storage.root() / "results"))
    monkeypatch.setattr(budgets, "PROFILES", ("overnight", "thesis"))  # the second has no runs
    budgets.save_all()
    assert {path.name for path in here.iterdir()} == {"overnight", "comparison.md", "comparison.png"}
    folders = here, storage.root() / "figures"
    again, before = (pd.read_csv(folder / "overnight" / "comparison_claims.csv") for folder in folders)
    pd.testing.assert_frame_equal(again, before, rtol=1e-5)
    assert "## `overnight`" in (here / "comparison.md").read_text()


def test_each_claim_that_is_said_first_is_a_sentence_of_the_profile_with_most_runs():
    found = {"quick": stated("open", 5, 0.25), "lite": stated("contradicts", 5, -0.125), "overnight": stated(runs=1)}
    said = budgets.sentences(budgets.headlines(found))
    assert len(said) == len(budgets.ASKED) == 6
    first = "contradicts**, −0.125 (−0.145 to −0.105; thesis +0.031; `lite`, 5 runs of 851,968 images)."
    assert said[0] == f"*At p = 0.5 the soft F_beta loss is more precise than cross-entropy*: **{first}"
    assert all(f"\n{i}. {sentence}\n" in budgets.markdown(found) for i, sentence in enumerate(said, 1))


def test_headlines_leave_out_claims_without_runs():
    assert budgets.headlines({"quick": stated(runs=0)}).empty
    assert "nan" not in budgets.markdown({"quick": stated(), "lite": stated(runs=0)})


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


def test_budget_comparison_imports_no_network_library():
    code = "import sys, lensdet.chapters.comparison.budgets; print({'keras', 'tensorflow', 'jax'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
