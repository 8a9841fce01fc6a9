"""What to expect from a ranked list: against brute force, scikit-learn, limits, and populations of known truth."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import fbeta_score, precision_score, roc_auc_score, roc_curve

from lensdet.chapters.candidates import expectation, literature
from lensdet.chapters.candidates import figures as candidates_figures
from lensdet.chapters.style import STYLE, plt
from lensdet.evaluation.statistics import clopper_pearson

matplotlib.use("Agg")  # in this process alone: kernels have their own
levels = st.integers(-6, 6).map(lambda i: i / 2)  # few, so that there are ties
some = st.lists(levels, min_size=1, max_size=40).map(np.array)
SEEN = settings(max_examples=80, deadline=None)


def drawn(seed, n=4000, k=800, distance=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(distance, size=k)


# Expected lenses


@SEEN
@given(some, some, st.integers(1, 60), st.floats(0.01, 0.99))
def test_expected_lenses_equal_those_counted_above_the_threshold(negatives, lenses, n, prior):
    """A list made by hand: each lens and negative as often as its share says, ties shared out."""
    m = 60
    weight = np.r_[np.full(len(lenses), prior / len(lenses)), np.full(len(negatives), (1 - prior) / len(negatives))] * m
    logits = np.r_[lenses, negatives]
    left, found = float(n), 0.0
    for level in np.unique(logits)[::-1]:
        block = logits == level
        taken = min(1.0, left / weight[block].sum())
        found += taken * weight[: len(lenses)][block[: len(lenses)]].sum()
        left -= taken * weight[block].sum()
        if left <= 1e-12:
            break
    got = expectation.expected(negatives, lenses, m, n, prior)
    assert got.low - 1e-6 <= found <= got.high + 1e-6
    assert got.known == (got.false_positives >= 10)
    if got.known:
        assert got.lenses == pytest.approx(found, abs=1e-6)
    else:
        assert np.isnan(got.lenses)
    assert 0 <= got.low <= got.high <= min(n, prior * m) + 1e-6
    assert got.random == pytest.approx(n * prior)


@SEEN
@given(some, some, st.sampled_from([1e-3, 0.3]))
def test_monotonic_transforms_of_logits_change_nothing(negatives, lenses, prior):
    for change in (np.exp, np.arctan, lambda x: 3 * x - 7):
        for f in (
            lambda a, b: expectation.expected(a, b, 100, [5, 50, 100], prior),
            expectation.auroc,
            lambda a, b: expectation.tpr_before(a, b, 10)[1:],
        ):
            np.testing.assert_allclose(f(change(negatives), change(lenses)), f(negatives, lenses), atol=1e-5)


def test_inspecting_every_stamp_finds_every_lens():
    negatives, lenses = drawn(0, 300, 50)
    for prior in (0.0, 1e-4, 0.3, 1.0):
        got = expectation.expected(negatives, lenses, 1000, 1000, prior)
        np.testing.assert_allclose([got.lenses, got.low, got.high], 1000 * prior, rtol=1e-6)


def test_expected_lenses_at_a_prior_of_zero_or_one():
    negatives, lenses = drawn(0, 300, 50)
    got = expectation.expected(negatives, lenses, 1000, [10, 500], 1.0)
    np.testing.assert_allclose([got.lenses, got.low, got.high], [[10, 500]] * 3, rtol=1e-6)
    got = expectation.expected(negatives, lenses, 1000, [10, 500], 0.0)
    assert not np.any([got.lenses, got.low, got.high, got.random]) and got.known.all()


def test_expected_lenses_of_a_perfect_and_of_a_random_finder():
    rng = np.random.default_rng(1)
    negatives, lenses = rng.random(5000), 1 + rng.random(500)
    got = expectation.expected(negatives, lenses, 10_000, [5, 50, 100, 5000], 0.01)
    np.testing.assert_array_equal(got.known, [False, False, False, True])
    assert np.isnan(got.lenses[:3]).all() and got.lenses[3] == pytest.approx(100)
    np.testing.assert_allclose(got.high, [5, 50, 100, 100], rtol=1e-6)
    # a negative in 4.38/n at the most with 97.5 %, none being seen: the exact bound
    least = np.array([5, 50]) - 0.99 * 10_000 * clopper_pearson(0, 5000, 0.975)[1]
    np.testing.assert_allclose(got.low[:2], np.maximum(least, 0), atol=0.3)
    for constant in (np.zeros, lambda n: rng.random(n)):
        got = expectation.expected(constant(5000), constant(500), 10_000, [1000, 5000], 0.01)
        np.testing.assert_allclose(got.lenses, got.random, rtol=0.25)
        assert (got.low <= got.random).all() and (got.random <= got.high).all()


def test_expected_lenses_equal_the_mean_over_drawn_lists():
    """The mean over ranked lists of the same population, of which the simulated sets are a large sample."""
    m, prior, n = 2000, 0.05, 150
    rng, found = np.random.default_rng(3), []
    for _ in range(1000):
        label = rng.random(m) < prior
        found.append(label[np.argsort(-(rng.normal(size=m) + 2 * label))[:n]].sum())
    got = expectation.expected(*drawn(0, 30_000, 30_000), m, n, prior)
    assert abs(np.mean(found) - got.lenses) < 4 * np.std(found) / np.sqrt(1000) + (got.high - got.low)


@pytest.mark.parametrize("prior, n, exact", [(0.01, 600, False), (0.2, 4000, False), (0.05, 40, True)])
def test_95_percent_intervals_cover_the_true_number_of_lenses(prior, n, exact):
    m, distance = 20_000, 2.0
    accepted = lambda t: prior * norm.sf(t - distance) + (1 - prior) * norm.sf(t)  # noqa: E731
    truth = prior * m * norm.sf(brentq(lambda t: accepted(t) - n / m, -10, 10) - distance)
    got = [expectation.expected(*drawn(seed, 1000, 300), m, n, prior) for seed in range(200)]
    assert np.mean([not e.known for e in got]) > 0.9 if exact else all(e.known for e in got)
    covered = np.mean([e.low <= truth <= e.high for e in got])
    assert 0.92 <= covered  # of 200 with 95 %, two standard deviations are 0.03
    if not exact:  # nor are they much wider than they have to be
        assert np.mean([e.high - e.low for e in got]) < 1.4 * 3.92 * np.std([e.lenses for e in got])


def test_intervals_shrink_with_the_root_of_the_set_size():
    width = lambda e: e.high - e.low  # noqa: E731
    small = width(expectation.expected(*drawn(0, 2000, 400), 10_000, 500, 0.01))
    large = width(expectation.expected(*drawn(0, 50_000, 10_000), 10_000, 500, 0.01))
    assert 0.15 < large / small < 0.3  # 1 in 5


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(inspected=0), "from 1 to the 100"),
        (dict(inspected=101), "from 1 to the 100"),
        (dict(prior=1.5), "prior 1.5"),
        (dict(negatives=[]), "no negatives"),
        (dict(lenses=[np.nan]), "not finite"),
    ],
)
def test_expectation_refuses_impossible_arguments(given, words):
    with pytest.raises(ValueError, match=words):
        expectation.expected(**{"negatives": [0.0], "lenses": [1.0], "m": 100, "inspected": 5, "prior": 0.1} | given)


# The field's metrics


@SEEN
@given(some, some)
def test_auroc_equals_scikit_learn(negatives, lenses):
    labels = np.r_[np.zeros(len(negatives)), np.ones(len(lenses))]
    got = expectation.auroc(negatives, lenses)
    assert got.value == pytest.approx(roc_auc_score(labels, np.r_[negatives, lenses]))
    assert np.isnan(got.low) or 0 <= got.low <= got.value <= got.high <= 1


def test_auroc_interval_uses_the_delong_variance():
    negatives, lenses = np.round(drawn(2, 40, 25, 1.0)[0], 1), np.round(drawn(2, 40, 25, 1.0)[1], 1)
    wins = (lenses[:, None] > negatives) + 0.5 * (lenses[:, None] == negatives)
    area = wins.mean()
    spread = np.sqrt(wins.mean(1).var(ddof=1) / 25 + wins.mean(0).var(ddof=1) / 40)
    got = expectation.auroc(negatives, lenses)
    reach = 1.959964 * spread / (area * (1 - area))
    logit = np.log(np.array(got) / (1 - np.array(got)))
    np.testing.assert_allclose(logit, logit[0] + np.array([0, -reach, reach]), atol=1e-6)


def test_interval_of_the_auroc_covers_the_truth():
    truth = norm.cdf(2 / np.sqrt(2))
    got = [expectation.auroc(*drawn(seed, 300, 100)) for seed in range(400)]
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in got]) <= 0.98


def test_auroc_of_separated_classes_has_an_exact_bound():
    got = expectation.auroc(np.arange(30.0), 50 + np.arange(20.0))
    assert got == (1, clopper_pearson(20, 20)[0], 1)
    assert expectation.auroc(50 + np.arange(20.0), np.arange(30.0)) == (0, 0, clopper_pearson(0, 20)[1])


@SEEN
@given(some, some, st.sampled_from([1, 3, 10]))
def test_tpr_before_n_false_positives_equals_brute_force(negatives, lenses, fewer):
    every = np.r_[np.unique(np.r_[negatives, lenses]), np.inf]
    best = max((lenses >= t).mean() for t in every if (negatives >= t).sum() < fewer)
    got = expectation.tpr_before(negatives, lenses, fewer)
    assert got.tpr == best and got.false_positives < fewer
    assert got.tpr == (lenses >= got.threshold).mean() and got.fpr == (negatives >= got.threshold).mean()
    assert (got.tpr_low, got.tpr_high) == clopper_pearson(got.found, len(lenses))
    assert (got.fpr_low, got.fpr_high) == clopper_pearson(got.false_positives, len(negatives))


@SEEN
@given(some, some, st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]))
def test_tpr_at_an_fpr_equals_scikit_learn(negatives, lenses, fpr):
    labels = np.r_[np.zeros(len(negatives)), np.ones(len(lenses))]
    x, y, _ = roc_curve(labels, np.r_[negatives, lenses], drop_intermediate=False)
    got = expectation.tpr_at(negatives, lenses, fpr)
    assert got.tpr == pytest.approx(y[x <= fpr + 1e-12].max()) and got.fpr <= fpr + 1e-12


def test_a_lens_tied_with_the_highest_negative_is_not_counted():
    got = expectation.tpr_before([0.0, 5.0], [5.0, 5.0, 6.0, 1.0], 1)
    assert (got.tpr, got.threshold, got.false_positives) == (0.25, 6.0, 0)
    none = expectation.tpr_before([0.0, 5.0], [5.0, 5.0], 1)
    assert (none.tpr, none.threshold) == (0, np.inf)
    assert expectation.tpr_before([0.0], [1.0, -1.0], 10).tpr == 1  # there are no ten to be made


def test_fpr_interval_covers_at_a_threshold_chosen_from_the_negatives():
    for fewer in (1, 11):
        got = [expectation.tpr_before(*drawn(seed, 1000, 300), fewer) for seed in range(250)]
        true = norm.sf([cut.threshold for cut in got])
        assert 0.93 <= np.mean([cut.fpr_low <= f <= cut.fpr_high for cut, f in zip(got, true, strict=True)]) <= 0.995


def test_fpr_interval_of_10_in_100_000_is_as_documented():
    got = expectation.tpr_at(np.arange(100_000), 99_985.5 + np.arange(10), 1e-4)
    assert got.false_positives == 10 and got.tpr == pytest.approx(0.6)
    assert (round(got.fpr_low, 6), round(got.fpr_high, 6)) == (4.8e-5, 1.84e-4)  # as the docstring says


def test_precision_follows_bayes_theorem():
    got = expectation.rates([-1.0] * 90 + [1.0] * 10, [1.0] * 80 + [-1.0] * 20, 0.0)
    found = expectation.precision(got, 0.01)
    assert found.value == pytest.approx(0.008 / (0.008 + 0.099))
    assert found.low < found.value < found.high
    tpr, fpr = clopper_pearson(80, 100, 0.975), clopper_pearson(10, 100, 0.975)
    assert found.low == pytest.approx(0.01 * tpr[0] / (0.01 * tpr[0] + 0.99 * fpr[1]))
    for prior, value in ((0, 0), (1, 1)):
        assert expectation.precision(got, prior).value == value
    assert np.isnan(expectation.precision(expectation.rates([0.0], [0.0], 9.0), 0.1).value)


@pytest.mark.parametrize("f", [expectation.auroc, lambda a, b: expectation.tpr_before(a, b, 1)])
def test_empty_sets_and_infinite_logits_are_refused(f):
    with pytest.raises(ValueError, match="one of each"):
        f([], [1.0])
    with pytest.raises(ValueError, match="finite"):
        f([np.inf], [1.0])


def test_impossible_rates_are_refused():
    with pytest.raises(ValueError, match="false-positive rate of 2"):
        expectation.tpr_at([0.0], [1.0], 2)
    with pytest.raises(ValueError, match="at least 1"):
        expectation.tpr_before([0.0], [1.0], 0)


# Tables


@pytest.fixture(scope="module")
def scores():
    return {"ensemble": drawn(0, 3000, 600, 3.5), "bce": drawn(1, 3000, 600)}


def test_expected_table_has_each_finder_prior_and_list_length(scores):
    table = expectation.expected_table(scores, 1500)
    assert set(table["set"]) == {expectation.HEADING}
    assert list(table["inspected"].unique()) == [50, 100, 200, 500, 1000]  # not 2000 of 1500
    assert len(table) == 2 * 4 * 5 and set(table["negatives"]) == {3000} and set(table["mock_lenses"]) == {600}
    row = table[(table.finder == "bce") & (table.prior == 3e-3) & (table.inspected == 200)].iloc[0]
    one = expectation.expected(*scores["bce"], 1500, 200, 3e-3)
    assert (row.lenses, row.low, row.high, row.random, row.known) == (one.lenses, one.low, one.high, 0.6, True)
    shown = expectation.readable(expectation.expected_table(scores, 50_000))
    assert list(shown["finder"].unique()) == ["ensemble", "bce"]
    assert list(shown.columns[2:]) == ["1 lens in 10,000", "1 lens in 3,333", "1 lens in 1,000", "1 lens in 333"]
    assert expectation.HEADING in shown.columns[1] and shown.iloc[0, 2].startswith("a bound: ")
    assert "at random 6)" in shown.iloc[-1, -1]


def test_metrics_table_has_values_with_intervals(scores):
    table = expectation.metrics_table(scores, 1e-3)
    assert set(table["set"]) == {expectation.HEADING} and set(table["negatives"]) == {3000}
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).sum() >= len(table) - 2
    ours = table[table.finder == "bce"].set_index("metric")
    assert {"AUROC", "TPR0", "TPR10", "TPR at FPR 0.0001", "precision at prior 0.001, p = 0.5"} <= set(ours.index)
    assert ours.loc["TPR10", "value"] == expectation.tpr_before(*scores["bce"], 10).tpr
    assert ours.loc["TPR10", "false_positives"] == 9 and pd.isna(ours.loc["AUROC", "false_positives"])
    assert ours.loc["TPR0", "fpr_high"] == pytest.approx(3.69 / 3000, rel=0.01)


def test_published_numbers_name_paper_and_place():
    table = literature.table()
    assert not table.isna().any().any() and not table.duplicated(["paper", "finder", "data", "metric"]).any()
    assert (table["where"].str.len() > 0).all() and table["value"].between(0, 1).all()
    challenge = table[table["paper"].str.startswith("Metcalf")]
    assert set(challenge["metric"]) == {"AUROC", "TPR0", "TPR10"}
    wide = challenge.pivot(index=["finder", "data"], columns="metric", values="value")
    assert (wide["TPR0"] <= wide["TPR10"]).all() and (wide["TPR10"] < wide["AUROC"]).all()


# Figures


@pytest.fixture
def style():
    with plt.rc_context(STYLE):
        yield
    plt.close("all")


def test_roc_figure_marks_rates_of_fewer_than_10_false_positives(scores, style):
    figure = candidates_figures.roc(scores, {"bce": "cross-entropy"})
    axis = figure.axes[0]
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names[:2] == ["ensemble", "cross-entropy"]
    assert any("fewer than 10 of 3,000" in name for name in names)
    assert figure.get_suptitle() == expectation.HEADING and axis.get_xscale() == "log"
    solid = [line for line in axis.lines if line.get_label() in names[:2]]
    for line, (negatives, lenses) in zip(solid, scores.values(), strict=True):
        x, y = line.get_data()
        assert x[0] == pytest.approx(10 / 3000) and x[-1] == y[-1] == 1
        at = np.searchsorted(x, 0.1)
        assert abs(y[at] - (lenses >= np.quantile(negatives, 1 - x[at])).mean()) < 0.01
    figure.canvas.draw()


def test_lenses_found_figure_draws_one_line_per_prior(scores, style):
    table = expectation.expected_table({"ensemble": scores["ensemble"]}, 50_000)
    figure = candidates_figures.lenses_found(table)
    axis = figure.axes[0]
    assert figure.get_suptitle() == expectation.HEADING
    assert axis.get_xscale() == axis.get_yscale() == "log"
    lines = [line for line in axis.lines if str(line.get_label()).startswith("1 lens in")]
    assert len(lines) == 4 and "(150 in all)" in lines[0].get_label()
    rows = table[table.prior == 3e-3].sort_values("inspected")
    np.testing.assert_array_equal(lines[0].get_ydata(), rows["lenses"])  # NaN where it is not known
    assert rows["lenses"].isna().any() and rows["lenses"].notna().any()
    figure.canvas.draw()
    with pytest.raises(ValueError, match="of one finder, not of"):
        candidates_figures.lenses_found(expectation.expected_table(scores, 5000))


def test_highest_scores_include_ties_at_the_cut():
    assert expectation.highest([3.0, 1.0, 2.0, 2.0], 2).tolist() == [True, False, True, True]
    assert expectation.highest([3.0, 1.0], 5).all()


def test_purity_and_f_beta_on_a_sky_equal_those_of_a_weighted_sample():
    negatives, lenses = drawn(3)
    table = expectation.on_skies({"bce": (negatives, lenses)}, 0.17, (0.5, 0.001))
    labels, accepted = np.repeat([0, 1], [4000, 800]), np.r_[negatives, lenses] >= 0
    for row in table.itertuples():
        weight = np.where(labels == 1, row.prior / 800, (1 - row.prior) / 4000)
        assert row.purity == pytest.approx(precision_score(labels, accepted, sample_weight=weight))
        assert row.F_beta == pytest.approx(fbeta_score(labels, accepted, beta=0.17, sample_weight=weight))
