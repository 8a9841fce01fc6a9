"""Ensembles against a convex solver, brute force and plain means, on runs that are written here."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.special import expit, logit, softmax

from lensdet import experiments, parameters, runs, storage
from lensdet.chapters import thesis
from lensdet.data import mocklens
from lensdet.evaluation import ensembles, metrics
from lensdet.network.checkpoints import SELECTORS
from lensdet.runs import Run
from lensdet.study import Study

KEY, N = "0123abcd", 60
SETS = ("calibration", "test", "training", "validation")


def write_run(p, experiment, run, logits, rows=None, selectors=SELECTORS):
    """A complete run folder: logits by set, the same for every selector unless they go by selector."""
    folder = runs.run_folder(p, experiment, run, KEY)
    by_selector = logits if set(logits) == set(selectors) else dict.fromkeys(selectors, logits)
    rows = rows if rows is not None else {name: rows_of(name) for name in SETS}
    storage.write_json(folder / "parameters.json", p.experiment(experiment, KEY) | {"run": run})
    storage.write_csv(folder / "history.csv", pd.DataFrame({"chunk": [0], "loss": [run / 10]}))
    if experiment in thesis.TABLE_5_2:
        members = ensembles.run_members(p, KEY, experiments.ENSEMBLES[experiment].members, run)
        made_from = {"members": [member.fingerprint(selector) for member, selector in members]}
        storage.write_json(folder / "provenance.json", made_from)
    runs.write_logits(folder / "logits.h5", by_selector, rows)
    return folder


def rows_of(name):
    rows = np.zeros(N, mocklens.ROW)
    rows["label"][: N // 2] = 1
    rows["stamp"] = np.arange(N) + SETS.index(name)
    return rows


def draw(seed, scale=1.0):
    """Logits of a member that knows something, of all sets."""
    rng = np.random.default_rng(seed)
    return {name: (scale * (2 * rows_of(name)["label"] - 1 + rng.normal(size=N))).astype("f4") for name in SETS}


@pytest.fixture
def p(tmp_path, monkeypatch):
    """Two runs of four losses; the three checkpoints of cross-entropy differ in run 1, and are one in run 2."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    p = parameters.resolve({"profile": "smoke"})
    for run in (1, 2):
        own = {s: draw(10 * run + i) for i, s in enumerate(SELECTORS)} if run == 1 else draw(20)
        write_run(p, "bce", run, own)
        for i, (loss, scale) in enumerate({"fbeta": 10, "f1": 10, "f1_double": 5}.items()):
            write_run(p, loss, run, draw(100 * run + i, scale))
    return p


def convex(labels, predictions):
    """Weights on the simplex of least squared error: non-negative least squares with the sum as a heavy row."""
    m = predictions.shape[1]
    scaled = np.vstack([predictions / np.sqrt(len(labels)), np.full((1, m), 1e4)])
    weights, _ = nnls(scaled, np.r_[labels / np.sqrt(len(labels)), 1e4], maxiter=1000)
    return weights / weights.sum()


@pytest.mark.parametrize("seed", range(25))
def test_nelder_mead_finds_the_optimum_on_the_simplex(seed):
    """The weights of a convex solver, to 1e-5 in mean squared error, from any start; often at a corner or an edge."""
    rng = np.random.default_rng(seed)
    m = int(rng.integers(2, 7))
    labels = (rng.random(300) < 0.5).astype(float)
    logits = (2 * labels - 1)[:, None] * rng.uniform(0, 3, m) + rng.normal(size=(300, m)) * rng.uniform(0.3, 20, m)
    raw, used = ensembles.nelder_mead(labels, logits, "text", rng)
    assert (raw == used).all() and (used >= 0).all() and used.sum() == pytest.approx(1)

    def error(w):
        return np.mean((labels - expit(logits) @ w) ** 2)

    assert abs(error(used) - error(convex(labels, expit(logits)))) < 1e-5


def test_published_weights_are_a_softmax_of_the_optimum():
    rng = np.random.default_rng(3)
    labels = np.repeat([1.0, 0.0], 100)
    logits = (2 * labels - 1)[:, None] * [2.0, 1.0, 0.2] + rng.normal(size=(200, 3))
    raw, used = ensembles.nelder_mead(labels, logits, "code", rng)
    best = np.linalg.lstsq(expit(logits), labels, rcond=None)[0]
    assert raw == pytest.approx(best, abs=1e-2)
    assert used == pytest.approx(softmax(raw))
    assert np.mean((labels - expit(logits) @ raw) ** 2) < np.mean((labels - expit(logits) @ used) ** 2) - 1e-3


@pytest.mark.parametrize("protocol", ["text", "code"])
def test_a_repeated_member_gets_no_weight(protocol):
    rng = np.random.default_rng(1)
    labels = np.repeat([1.0, 0.0], 50)
    logits = (2 * labels - 1)[:, None] + rng.normal(size=(100, 3))
    twice = logits[:, [0, 1, 0, 2]]
    assert ensembles.distinct(twice).tolist() == [True, True, False, True]
    raw, used = ensembles.nelder_mead(labels, twice, protocol, np.random.default_rng(5))
    _, single = ensembles.nelder_mead(labels, logits, protocol, np.random.default_rng(5))
    assert raw[2] == used[2] == 0
    assert used.sum() == pytest.approx(1)
    assert used[[0, 1, 3]] == pytest.approx(single, abs=1e-3)


sensible = st.lists(st.floats(-25, 25), min_size=2, max_size=5)


@given(sensible, st.data())
def test_mix_equals_the_logit_of_the_weighted_mean(logits, data):
    weights = np.array(data.draw(st.lists(st.floats(0.05, 1), min_size=len(logits), max_size=len(logits))))
    weights /= weights.sum()
    z = np.array(logits)[None]
    mixed = ensembles.mix(z, weights)
    assert expit(mixed) == pytest.approx(expit(z) @ weights, rel=1e-9)
    assert ensembles.mix(-z, weights) == pytest.approx(-mixed, abs=1e-9)
    assert z.min() - 1e-9 <= mixed[0] <= z.max() + 1e-9


def test_mix_is_finite_and_exact_where_probabilities_saturate():
    z = np.array([[900.0, 1e4], [-900.0, -1e4], [1e4, -1e4]])
    mixed = ensembles.mix(z, [0.5, 0.5])
    assert np.isfinite(mixed).all()
    assert mixed == pytest.approx([900 + np.log(2), -900 - np.log(2), 0])
    assert ensembles.mix(z, [0.0, 1.0]) == pytest.approx(z[:, 1])
    each = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])  # weights of their own for every image
    assert ensembles.mix(z, each) == pytest.approx([900, -1e4, logit(0.25)])


def test_a_plain_mean_is_that_of_probabilities():
    z = np.array([[-3.0, 1.0, 0.5], [800.0, 900.0, 900.0]])
    assert expit(ensembles.mean(z)[0]) == pytest.approx(expit(z[0]).mean()) and ensembles.mean(z)[1] < 802
    assert ensembles.mean(z[:, :1]) == pytest.approx(z[:, 0])  # of one it is its own


def test_ensemble_of_run_i_has_the_members_of_run_i(p):
    found = ensembles.load(Study(p, KEY), experiments.MEMBERS[6], "test")
    assert found.logits.shape == (2, N, 6) and found.runs.tolist() == [1, 2]
    for i, run in enumerate((1, 2)):
        for j, row in enumerate(experiments.MEMBERS[6]):
            network = experiments.NETWORKS[row]
            folder = runs.run_folder(p, network.loss, run, KEY)
            expected = Run(folder).logits(network.checkpoint["text"], "test")[1]
            assert np.array_equal(found.logits[i, :, j], expected)
    assert [ensembles.distinct(z).sum() for z in found.logits] == [6, 4]


def test_a_missing_member_run_is_named(p):
    (runs.run_folder(p, "f1", 2, KEY) / "logits.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"f1-\w+/run_02: no complete run"):
        ensembles.scores(Study(p, KEY), "NM_3")


def test_a_diverged_member_run_is_named(p):
    bad = draw(1)
    bad["test"][3] = np.nan
    write_run(p, "fbeta", 1, bad)
    with pytest.raises(ValueError, match=r"fbeta-\w+/run_01: loss has logits of the test set that are not finite"):
        ensembles.scores(Study(p, KEY), "NM_3")


def test_members_scored_on_different_sets_are_refused(p):
    rows = {name: rows_of(name) for name in SETS}
    rows["test"] = rows["test"].copy()
    rows["test"]["stamp"][7] += 1
    write_run(p, "f1", 2, draw(1), rows)
    with pytest.raises(ValueError, match=r"f1-\w+/run_02: its test set is not that of the other members"):
        ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "test")
    write_run(p, "bce", 2, draw(2), rows)
    write_run(p, "fbeta", 2, draw(3), rows)  # all of run 2, but run 1 has another
    with pytest.raises(ValueError, match=r"run_02: its test set is not that of the other members"):
        ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "test")


def test_a_run_folder_of_another_experiment_is_refused(p):
    folder = runs.run_folder(p, "f1", 1, KEY)
    storage.write_json(folder / "parameters.json", p.experiment("bce", KEY) | {"run": 1})
    with pytest.raises(ValueError, match="holds another run: loss"):
        ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "test")


def test_nelder_mead_is_fitted_on_the_set_of_its_protocol(p):
    for protocol, name in (("text", "calibration"), ("code", "training")):
        of = parameters.resolve({**p.model_dump(), "protocol": protocol})
        weights = ensembles.nelder_mead_weights(Study(of, KEY), "NM_3")
        members = ensembles.load(Study(of, KEY), experiments.MEMBERS[3], name)
        labels = rows_of(name)["label"].astype(float)
        for raw, used, z in zip(*weights, members.logits, strict=True):
            exact = convex(labels, expit(z)) if protocol == "text" else np.linalg.lstsq(expit(z), labels, rcond=None)[0]
            assert np.mean((labels - expit(z) @ raw) ** 2) == pytest.approx(
                np.mean((labels - expit(z) @ exact) ** 2), abs=1e-5
            )
            assert used.sum() == pytest.approx(1)
        again = ensembles.nelder_mead_weights(Study(of, KEY), "NM_3")
        assert np.array_equal(weights.raw, again.raw)  # the same seed, the same start
        found = ensembles.scores(Study(of, KEY), "NM_3")
        test = ensembles.load(Study(of, KEY), experiments.MEMBERS[3], "test")
        mean = np.einsum("rnm,rm->rn", expit(test.logits), weights.used)
        assert metrics.probability(found.logits) == pytest.approx(mean)


def test_an_input_dependent_ensemble_weighs_each_image(p):
    rng = np.random.default_rng(0)
    given = {run: rng.normal(size=(N, 3)).astype("f4") for run in (1, 2)}
    for run, z in given.items():
        sets = {"loss": dict.fromkeys(SETS, z), "accuracy": dict.fromkeys(SETS, z[:, ::-1])}
        write_run(p, "IDE_3", run, sets, selectors=("loss", "accuracy"))
    found, members = (
        ensembles.scores(Study(p, KEY), "IDE_3"),
        ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "test"),
    )
    for run in (0, 1):
        mean = (softmax(given[run + 1].astype(float), -1) * expit(members.logits[run])).sum(-1)
        assert expit(found.logits[run]) == pytest.approx(mean)
    code = p.model_copy(update={"protocol": "code"})
    assert code.experiment_name("IDE_3", KEY) != p.experiment_name("IDE_3", KEY)  # it was trained on other targets
    with pytest.raises(FileNotFoundError, match="IDE_3"):
        ensembles.dynamic_weights(Study(code, KEY), "IDE_3")


def test_an_ensemble_network_of_other_members_or_sets_is_refused(p):
    z = np.zeros((N, 3), "f4")
    for run in (1, 2):
        write_run(p, "IDE_3", run, dict.fromkeys(SETS, z), selectors=("loss", "accuracy"))
    rows = {name: rows_of(name)[::-1] for name in SETS}
    folder = write_run(p, "IDE_3", 2, dict.fromkeys(SETS, z), rows, ("loss", "accuracy"))
    with pytest.raises(
        ValueError, match=rf"{folder.parent.name}/run_02: its test set is not that of the other members"
    ):
        ensembles.scores(Study(p, KEY), "IDE_3")
    write_run(p, "IDE_3", 2, dict.fromkeys(SETS, z), selectors=("loss", "accuracy"))
    ensembles.scores(Study(p, KEY), "IDE_3")
    write_run(p, "fbeta", 1, draw(77))
    with pytest.raises(ValueError, match="IDE_3.*/run_01: a member was trained anew since; remove the folder"):
        ensembles.scores(Study(p, KEY), "IDE_3")


def test_baselines_are_mean_best_member_and_oracle_of_the_members(p):
    found, members = (
        ensembles.baselines(Study(p, KEY), 3),
        ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "test"),
    )
    fit = ensembles.load(Study(p, KEY), experiments.MEMBERS[3], "calibration")
    assert expit(found["mean of 3"].logits) == pytest.approx(expit(members.logits).mean(-1))
    for run in (0, 1):
        errors = [np.mean((expit(z) - fit.labels) ** 2) for z in fit.logits[run].T]
        assert found["best member of 3"].logits[run] == pytest.approx(members.logits[run, :, np.argmin(errors)])
    distance = np.abs(expit(members.logits) - members.labels[:, None])
    oracle = expit(found["oracle of 3"].logits)
    assert np.abs(oracle - members.labels) == pytest.approx(distance.min(-1))
    # run 2 has three checkpoints that are one: its mean of six is that of four
    six = ensembles.load(Study(p, KEY), experiments.MEMBERS[6], "test").logits[1]
    kept = [0, 1, 2, 4]
    assert expit(ensembles.baselines(Study(p, KEY), 6)["mean of 6"].logits[1]) == pytest.approx(
        expit(six[:, kept]).mean(-1)
    )


def test_stacking_is_fitted_on_the_calibration_set_alone(p):
    before = ensembles.baselines(Study(p, KEY), 3)["stacking of 3"].logits
    for loss in ("bce", "fbeta", "f1"):
        other = draw(7)
        _, kept = Run(runs.run_folder(p, loss, 1, KEY)).logits("loss", "test")
        write_run(p, loss, 1, {"calibration": -other["calibration"], "test": kept, "training": other["training"]})
    after = ensembles.baselines(Study(p, KEY), 3)["stacking of 3"].logits
    assert np.corrcoef(before[0], after[0])[0, 1] < 0  # turned round with the calibration set
    assert np.array_equal(before[1], after[1])


def test_ensembles_of_one_loss_use_all_complete_runs(p):
    assert ensembles.same_loss(Study(p, KEY), "F_1 Soft loss", 3) is None
    for run in (3, 4):  # beyond `runs`
        write_run(p, "f1", run, draw(run))
    found = ensembles.same_loss(Study(p, KEY), "F_1 Soft loss", 3)
    each = [Run(runs.run_folder(p, "f1", r, KEY)).logits("loss", "test")[1] for r in (1, 2, 3, 4)]
    windows = [(0, 1, 2), (1, 2, 3), (2, 3, 0), (3, 0, 1)]
    for z, window in zip(found.logits, windows, strict=True):
        assert expit(z) == pytest.approx(np.mean([expit(each[k].astype(float)) for k in window], 0))
    assert len(ensembles.same_loss(Study(p, KEY), "F_1 Soft loss", 4).logits) == 1  # one way to take all
    assert ensembles.same_loss(Study(p, KEY), "F_1 Soft loss", 1).logits == pytest.approx(np.array(each))


def test_a_further_run_that_diverged_is_left_out(p, capsys):
    bad = draw(3)
    bad["calibration"][0] = np.inf
    write_run(p, "f1", 3, bad)
    for run in (10, 9):
        write_run(p, "f1", run, draw(run))
    found = ensembles.same_loss(Study(p, KEY), "F_1 Soft loss", 1)
    assert found.runs.tolist() == [1, 2, 9, 10]
    assert "run_03: diverged" in capsys.readouterr().out


@pytest.mark.parametrize("recall", [None, 0.5, 0.8])
def test_cascade_thresholds_are_the_best_of_all_pairs(recall):
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], 15)
    first, second = labels + rng.normal(size=(2, 30))
    cuts = ensembles.cascade_cuts(labels, first, second, 0.5, recall)

    def value(a, b):
        accepted = (first >= a) & (second >= b)
        counts = metrics.hard_counts(labels, accepted.astype(float), 0.5)
        if not accepted.any() or metrics.recall(counts) < (recall or 0) - 1e-12:
            return -1, 0
        best = metrics.f_beta(counts, 0.5) if recall is None else metrics.precision(counts)
        return round(float(best), 12), -(first >= a).sum()

    assert value(*cuts) == max(value(a, b) for a in first for b in second)
    at = ensembles.cascade(first, second, cuts[0])
    assert ((at >= cuts[1]) == ((first >= cuts[0]) & (second >= cuts[1]))).all()


def test_possible_ensembles_follow_the_chosen_experiments(p):
    assert ensembles.possible(p) == list(thesis.TABLE_5_2)
    few = parameters.resolve({"experiments": ["bce", "fbeta", "f1"]})
    assert ensembles.possible(few) == ["NM_3", "IDE_3"]
    with pytest.raises(
        ValueError, match="no ensemble can be made of the experiments f1: NM_6 bce, f1, f1_double, fbeta"
    ):
        ensembles.possible(parameters.resolve({"experiments": ["f1"], "ensembles": ["NM_6"]}))


def test_votes_are_saturated_logits_but_for_cross_entropy():
    z = np.array([[0.3, 0.2, -0.1]])
    found = ensembles.votes(z, experiments.MEMBERS[3])
    assert found[0, 0] == 0.3
    assert expit(found[0, 1:]).tolist() == [1, 0]
