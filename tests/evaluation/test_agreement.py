"""Kappas: worked examples from the literature, another library, and what holds of any grades."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from lensdet.evaluation import agreement
from lensdet.evaluation.agreement import NOT_GRADED, cohen, consistency, fleiss, share

FEW = 20  # draws, where the interval is not what is tested


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(agreement, "DRAWS", FEW)


def of_table(table):
    """Grades of two people from a table of counts."""
    rows, columns = np.indices(np.shape(table))
    times = np.ravel(table)
    return np.repeat(rows.ravel(), times), np.repeat(columns.ravel(), times)


def of_counts(counts):
    """Grades (n, people) from how many people chose each class."""
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts])


# Ten subjects, fourteen raters, five classes: the worked example of https://en.wikipedia.org/wiki/Fleiss'_kappa
WORKED = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
          [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip


def test_fleiss_kappa_of_the_worked_example():
    found = fleiss(of_counts(WORKED), 5)
    assert found.keys() == {14} and found[14].n == 10
    assert found[14].value == pytest.approx(0.210, abs=5e-4)
    assert found[14].low < 0.21 < found[14].high


def test_cohen_kappa_of_the_worked_example():
    """Fifty proposals, two readers, yes or no: 20, 5, 10 and 15 have a kappa of 0.4 (the same encyclopaedia)."""
    found = cohen(*of_table([[20, 5], [10, 15]]), 2)
    assert found.value == pytest.approx(0.4) and found.n == 50
    # the asymptotic standard error of Fleiss, Cohen & Everitt 1969 is 0.126
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.126, rel=0.15)


def test_weighted_kappa_is_one_less_the_steps_over_those_at_random():
    table = np.array([[3, 1, 0], [1, 3, 1], [0, 1, 2]])
    p = table / table.sum()
    steps = np.abs(np.subtract.outer(range(3), range(3)))
    by_hand = 1 - (steps * p).sum() / (steps * np.outer(p.sum(1), p.sum(0))).sum()
    assert cohen(*of_table(table), 3, "linear").value == pytest.approx(by_hand)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cohen_kappa_is_that_of_another_library_and_the_same_both_ways(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "DRAWS", FEW)
        n = data.draw(st.integers(1, 40))
        one, other = (np.array(data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))) for _ in range(2))
        both = (one >= 0) & (other >= 0)
        weights = data.draw(st.sampled_from([None, "linear", "quadratic"]))
        found, back = cohen(one, other, 4, weights), cohen(other, one, 4, weights)
    assert found.n == both.sum()
    assert found.value == pytest.approx(back.value, nan_ok=True)
    of_one_class = len({*one[both], *other[both]}) < 2
    assert np.isnan(found.value) == of_one_class
    if not of_one_class:
        theirs = cohen_kappa_score(one[both], other[both], labels=range(4), weights=weights)
        assert found.value == pytest.approx(theirs, abs=1e-12) and -1 <= found.value <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 1000))
def test_fleiss_kappa_by_the_formula_whoever_gave_the_grades(people, n, seed):
    rng = np.random.default_rng(seed)
    grades = rng.integers(-1, 3, (n, people))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "DRAWS", FEW)
        found, mixed = fleiss(grades, 3), fleiss(rng.permuted(grades, axis=1), 3)
    numbers = (grades >= 0).sum(1)
    assert found.keys() == {k for k in range(2, people + 1) if (numbers == k).any()}
    for k, estimate in found.items():
        assert estimate.value == pytest.approx(mixed[k].value, nan_ok=True)
        some = [row[row >= 0] for row in grades[numbers == k]]
        assert estimate.n == len(some)
        agree = np.mean([np.mean([a == b for i, a in enumerate(row) for j, b in enumerate(row) if i != j])
                         for row in some])  # fmt: skip
        chance = np.sum((np.bincount(np.concatenate(some), minlength=3) / (k * len(some))) ** 2)
        assert estimate.value == pytest.approx((agree - chance) / (1 - chance) if chance < 1 else np.nan, nan_ok=True)


def test_who_agrees_on_all_has_1_and_random_grades_have_0():
    same = np.arange(300) % 4
    for found in (cohen(same, same, 4), fleiss(np.stack([same] * 6, 1), 4)[6]):
        assert (found.value, found.n) == (1.0, 300) and np.isnan([found.low, found.high]).all()
    random = np.random.default_rng(0).integers(0, 4, (3000, 2))
    found = cohen(*random.T, 4)
    assert found.low < 0 < found.high and found.high - found.low < 0.1


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """People who agree on 0.8 of two equally frequent classes have a kappa of 0.6; some 95 of 100 intervals have it."""
    rng, inside = np.random.default_rng(1), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "DRAWS", 300)
        for _ in range(100):
            one = rng.integers(0, 2, 150)
            found = cohen(one, np.where(rng.random(150) < 0.8, one, 1 - one), 2)
            inside += found.low <= 0.6 <= found.high
    assert 88 <= inside <= 100


def test_what_decides_nothing_is_nan_with_its_n(few):
    nothing = [NOT_GRADED] * 3
    assert cohen(nothing, [0, 1, 2], 4).n == 0 and np.isnan(cohen(nothing, [0, 1, 2], 4).value)
    assert cohen([2, 2], [2, 2], 4).n == 2 and np.isnan(cohen([2, 2], [2, 2], 4).value)
    assert fleiss(np.zeros((5, 1), int), 4) == {} and fleiss(np.zeros((0, 3), int), 4) == {}
    assert np.isnan(share([]).value) and share([]).n == 0


@pytest.mark.parametrize(
    ("one", "other", "known"),
    [
        ([0, 1], [0, 1], False),  # every draw with both classes says 1, every other one nothing
        ([0, 1], [1, 0], False),
        ([0] * 8 + [1], [0] * 9, False),  # one draw in three does not have the last
        ([0, 0, 1, 1], [0, 1, 1, 0], False),
        ([0, 0, 1, 1, 2], [0, 1, 1, 1, 2], True),
        ([0] * 60 + [1] * 6, [0] * 63 + [1] * 3, True),
    ],
)
def test_where_draws_decide_nothing_there_is_no_interval(one, other, known):
    for found in (cohen(one, other, 3), fleiss(np.transpose([one, other]), 3)[2]):
        assert np.isfinite(found.value) and found.n == len(one)
        assert np.isfinite([found.low, found.high]).tolist() == [known] * 2
        assert not known or found.low < found.high


def test_consistency_counts_what_was_seen_twice():
    found = consistency([0, 1, 2, 3, NOT_GRADED], [0, 1, 2, 0, 1])
    assert found.value == 0.75 and found.n == 4
    # Clopper & Pearson for 3 of 4, as in tables
    assert (found.low, found.high) == pytest.approx((0.1941, 0.9937), abs=1e-4)
