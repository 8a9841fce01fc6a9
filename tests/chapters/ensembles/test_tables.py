"""Tables and sentences on ensembles, from runs that are written here: scikit-learn, plain loops and the thesis."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score, roc_auc_score

from lensdet import experiments
from lensdet.chapters import thesis
from lensdet.chapters.ensembles import figures as ensemble_figures
from lensdet.chapters.ensembles import summary as ensemble_summary
from lensdet.chapters.ensembles import tables as ensemble_tables
from lensdet.chapters.ensembles.tables import MEASURES
from lensdet.evaluation import ensembles, metrics, thresholds
from lensdet.evaluation.scores import Scores
from lensdet.study import Study
from tests.evaluation.test_ensembles import KEY, SETS, N, draw, p, rows_of, write_run  # noqa: F401

BCE, F_BETA, F_1 = experiments.MEMBERS[3]


@pytest.fixture
def runs(p):  # noqa: F811
    """All four ensembles and, of cross-entropy, enough runs for ensembles of three."""
    write_run(p, "bce", 3, draw(30))
    for ensemble, m in (("IDE_3", 3), ("IDE_6", 6)):
        for run in (1, 2):
            z = np.random.default_rng(run + m).normal(size=(N, m)).astype("f4")
            write_run(p, ensemble, run, dict.fromkeys(SETS, z), selectors=("loss", "accuracy"))
    return p


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    half = N // 2
    return np.hstack([rng.multinomial(half, np.full(half, 1 / half), 50) for _ in range(2)]).astype(float)


@pytest.fixture
def found(runs):
    return ensemble_tables.load_scores(Study(runs, KEY))


@pytest.fixture
def measured(runs, found, weights):
    return ensemble_tables.measure(runs, found, weights)


def test_accuracy_follows_from_published_precision_and_recall():
    """Of some confusion matrices with as many lenses as negatives; and the four of thesis-facts, to three digits."""
    for tp, fp in ((500, 20), (551, 551), (10, 400)):
        precision, recall = tp / (tp + fp), tp / 551
        assert ensemble_tables.implied_accuracy(precision, recall) == pytest.approx((tp + 551 - fp) / 1102)
    implied = {
        e: ensemble_tables.implied_accuracy(r["precision"][0], r["recall"][0]) for e, r in thesis.TABLE_5_2.items()
    }
    assert implied == pytest.approx({"NM_3": 0.935, "NM_6": 0.938, "IDE_6": 0.920, "IDE_3": 0.914}, abs=6e-4)


def test_ensemble_measures_equal_scikit_learn(runs, weights):
    rng = np.random.default_rng(2)
    labels = np.repeat([1.0, 0.0], N // 2)
    fit, test = (Scores(labels, 2 * labels - 1 + rng.normal(size=(2, N)), np.array([1, 2])) for _ in range(2))
    plain = ensemble_tables.values(runs, fit, test)
    drawn = ensemble_tables.values(runs, fit, test, weights)
    grid = np.arange(1, 100) / 100
    for run, z in enumerate(test.logits):
        accepted = {t: expit(z) >= t for t in grid}
        cut = thresholds.best_threshold(labels, fit.logits[run], runs.selection_beta)
        for b in (None, 7):
            w = None if b is None else weights[b]
            score = {"f_beta": lambda a, w=w: fbeta_score(labels, a, beta=0.17, sample_weight=w),
                     "precision": lambda a, w=w: precision_score(labels, a, sample_weight=w),
                     "recall": lambda a, w=w: recall_score(labels, a, sample_weight=w),
                     "accuracy": lambda a, w=w: accuracy_score(labels, a, sample_weight=w)}  # fmt: skip
            expected = {name: f(z >= 0) for name, f in score.items()}
            expected["accuracy_all"] = np.mean([score["accuracy"](a) for a in accepted.values()])
            high = [score["f_beta"](a) if a.any() else 0 for t, a in accepted.items() if t > 0.755]
            expected |= {"f_beta_high": np.mean(high), "f_beta_own": score["f_beta"](z >= cut),
                         "auc": roc_auc_score(labels, z, sample_weight=w)}  # fmt: skip
            got = {name: v[run] if b is None else v[run, b] for name, v in (plain if b is None else drawn).items()}
            assert got == pytest.approx(expected)
            assert set(got) == set(MEASURES)


def test_ensembles_and_their_baselines_are_read_in_order(found):
    size_3 = ["mean of 3", "best member of 3", "stacking of 3", "oracle of 3", f"3 runs of {BCE}"]
    size_6 = [n.replace("3", "6") for n in size_3[:-1]]
    assert list(found) == [
        *experiments.MEMBERS[6],
        *thesis.TABLE_5_2,
        *size_3[:-1],
        f"single runs of {BCE}",
        size_3[-1],
        *size_6,
    ]
    labels = rows_of("test")["label"]
    for name, (_, test) in found.items():
        if name.startswith("oracle"):  # nothing beats it, image by image
            size = int(name[-1])
            for other in (*experiments.MEMBERS[size], f"NM_{size}", f"IDE_{size}", f"mean of {size}"):
                better = np.abs(labels - expit(found[other][1].logits)) - np.abs(labels - expit(test.logits))
                assert better.min() > -1e-9


def test_table_5_2_has_both_accuracies_beside_the_thesis(runs, found, measured):
    table = ensemble_tables.table_5_2(measured, found).set_index(["model", "metric"])
    assert list(table.index.unique("model")) == list(thesis.TABLE_5_2)
    s = found["NM_6"][1]
    every = np.array([[accuracy_score(s.labels, expit(z) >= t) for t in np.arange(1, 100) / 100] for z in s.logits])
    row = table.loc[("NM_6", ensemble_tables.OVER)]
    assert (row["mean"], row.seed_spread) == pytest.approx((every.mean(), every.std()))
    assert (row.thesis, row.thesis_spread) == (0.903, 0.037)
    row = table.loc[("NM_6", ensemble_tables.AT)]
    assert row["mean"] == pytest.approx(np.mean([accuracy_score(s.labels, z >= 0) for z in s.logits]))
    assert row.thesis == pytest.approx(0.938, abs=1e-3) and row.test_low <= row["mean"] <= row.test_high
    assert table.loc[("IDE_3", "recall")].thesis == 0.935


def test_weights_table_has_means_beside_those_of_the_captions(runs):
    used = np.array([[0.5, 0.3, 0.2], [0.7, 0.1, 0.2]])
    nelder_mead = ensembles.Weights(np.array([[2.0, -1, 0], [1, 0, 0]]), used)
    read = {"NM_3": nelder_mead, "IDE_3": np.full((2, N, 3), 1 / 3)}
    table = ensemble_tables.weights_table(read).set_index(["ensemble", "member"])
    row = table.loc[("NM_3", BCE)]
    assert (row.weight, row.raw, row.thesis, row.runs) == pytest.approx((0.6, 1.5, 0.55, 2))
    assert row.seed_spread == pytest.approx(0.2 / np.sqrt(2))
    assert table.loc["IDE_3"].weight.tolist() == pytest.approx([1 / 3] * 3)
    assert ensemble_tables.copies(Study(runs, KEY), 6) == (2, 12)
    assert ensemble_tables.copies(Study(runs, KEY), 3) == (0, 6)


def test_the_best_member_is_chosen_on_the_calibration_set(runs, found, measured):
    """Test logits may say otherwise."""
    table = ensemble_tables.compare_with_baselines(runs, found, measured)
    rows = table[(table.ensemble == "NM_3") & (table.against == "best member")].set_index("measure")
    for which in ("accuracy", "recall", "auc"):
        values = {
            m: ensemble_tables.values(runs, found[m][0], found[m][0])[which].mean() for m in experiments.MEMBERS[3]
        }
        assert rows.loc[MEASURES[which]].which == max(values, key=values.get)
    turned = {
        m: (pair[0], pair[1]._replace(logits=-pair[1].logits))
        for m, pair in found.items()
        if m in experiments.MEMBERS[6]
    }
    again = ensemble_tables.compare_with_baselines(runs, found | turned, measured)
    assert (again.which == table.which).all()


def test_differences_to_members_and_baselines_are_paired(runs, found, measured):
    table = ensemble_tables.compare_with_baselines(runs, found, measured)
    assert set(table.ensemble) == {*thesis.TABLE_5_2, "mean of 3", "mean of 6", "stacking of 3", "stacking of 6"}
    assert ((table.difference - (table["mean"] - table.its_mean)).abs() < 1e-12).all()
    same = table[table.which == f"3 runs of {BCE}"]
    assert len(same) == 4 * len(MEASURES)  # NM_3, IDE_3, mean and stacking of three
    assert same.low.isna().all() and (same.verdict == "open").all()
    a, b = measured["NM_3"]["auc"][1].mean(0), measured[f"3 runs of {BCE}"]["auc"][1].mean(0)
    row = same[(same.ensemble == "NM_3") & (same.measure == MEASURES["auc"])].iloc[0]
    assert (row.test_low, row.test_high) == pytest.approx(np.quantile(a - b, [0.025, 0.975]))
    assert not table[(table.ensemble == table.which)].size


def test_summary_table_has_means_with_test_set_intervals(measured):
    table = ensemble_tables.summary(measured).set_index(["model", "measure"])
    values, drawn = measured["mean of 3"]["recall"]
    row = table.loc[("mean of 3", "recall")]
    assert row["mean"] == pytest.approx(values.mean())
    assert (row.test_low, row.test_high) == pytest.approx(np.quantile(drawn.mean(0), [0.025, 0.975]))


@pytest.mark.parametrize("protocol", ["text", "code"])
def test_targets_that_only_repeat_the_label_are_reported(p, protocol):  # noqa: F811
    """The first member is always closest for lenses, the last for negatives; DE_m names the first for all."""
    for loss, sign in (("bce", 2), ("fbeta", 0), ("f1", -1)):
        for run in (1, 2):
            sets = {name: np.full(N, 100 * sign, "f4") for name in SETS}
            write_run(p, loss, run, sets)
    p = p.model_copy(update={"protocol": protocol})
    for run in (1, 2):
        write_run(
            p, "IDE_3", run, dict.fromkeys(SETS, np.tile(np.float32([2, 1, 0]), (N, 1))), selectors=("loss", "accuracy")
        )
    table = ensemble_summary.targets(Study(p, KEY), "IDE_3")
    assert (table.by_label == 1).all() and (table.ties == 0).all()
    assert (table.of_lenses == BCE).all() and (table.of_negatives == F_1).all()
    assert (table.named == 0.5).all() and (table.most_frequent == 0.5).all()


def test_ties_of_targets_are_counted_in_float32_probabilities(p):  # noqa: F811
    for loss, value in (("bce", 40), ("fbeta", 90), ("f1", 2)):  # 40 and 90 are both 1
        for run in (1, 2):
            write_run(p, loss, run, {name: np.full(N, value, "f4") for name in SETS})
    for run in (1, 2):
        write_run(p, "IDE_3", run, dict.fromkeys(SETS, np.zeros((N, 3), "f4")), selectors=("loss", "accuracy"))
    assert ensemble_summary.targets(Study(p, KEY), "IDE_3").ties.tolist() == [0.5] * 4  # lenses tie, negatives do not


def test_cascade_is_compared_with_single_models_at_its_recall(runs, found, weights):
    table = ensemble_summary.cascades(runs, found, weights, recalls=(0.5,))
    assert list(table.thresholds.unique()) == ["of the best F_beta", "of recall 0.5"]
    rows = table[table.thresholds == "of recall 0.5"].set_index("model")
    (fit_1, test_1), (fit_2, test_2) = found[F_1], found[F_BETA]
    labels, seen, recalls, precisions, others = test_1.labels, [], [], [], []
    for k in (0, 1):
        cuts = ensembles.cascade_cuts(labels, fit_1.logits[k], fit_2.logits[k], runs.selection_beta, 0.5)
        first = test_1.logits[k] >= cuts[0]
        accepted = first & (test_2.logits[k] >= cuts[1])
        seen.append(first.mean())
        recalls.append(recall_score(labels, accepted))
        precisions.append(precision_score(labels, accepted))
        others.append(thresholds.precision_at_recall(thresholds.curve(labels, found[BCE][1].logits[k]), recalls[-1]))
    assert rows.loc["cascade"].seen_by_second == pytest.approx(np.mean(seen))
    assert rows.loc["cascade"].recall == pytest.approx(np.mean(recalls))
    assert rows.loc["cascade"].precision == pytest.approx(np.mean(precisions))  # logits do not tie here
    assert rows.loc[BCE].precision == pytest.approx(np.mean(others))
    assert rows.loc[BCE].cascade_minus_it == pytest.approx(np.mean(precisions) - np.mean(others))


def test_saturated_members_vote_and_step_the_f_beta_curve(p):  # noqa: F811
    """Cross-entropy is at 0 everywhere; the F_beta member is always right and the F1 member always wrong."""
    label = rows_of("test")["label"]
    for loss, z in (("bce", 0 * label), ("fbeta", 80 * label - 40), ("f1", 40 - 80 * label)):
        for run in (1, 2):
            write_run(p, loss, run, dict.fromkeys(SETS, z.astype("f4")))
    used = np.tile([0.4, 0.405, 0.195], (2, 1))
    b = ensemble_summary.threshold_steps(
        Study(p, KEY), "NM_3", ensembles.Weights(np.tile([0.0, 1.0, 0.0], (2, 1)), used)
    )
    assert b.alone == pytest.approx({F_BETA: 0.405, F_1: 0.195})
    assert b.veto == pytest.approx({F_BETA: 0.595, F_1: 0.805})
    low, high, t = metrics.f_beta(metrics.Counts(30, 30, 0, 0), 0.17), 1.0, metrics.THRESHOLDS
    # lenses have 0.2 + 0.405, negatives 0.2 + 0.195
    assert b.used == pytest.approx(np.where(t < 0.395, low, np.where(t < 0.605, high, 0)), abs=1e-9)
    assert b.raw == pytest.approx(np.ones(99))
    assert b.votes == pytest.approx(b.used)
    table = ensemble_summary.bands({"NM_3": b})
    assert (table["soft member"] == F_BETA).all()  # of the two the heavier
    assert table.thresholds.tolist() == ["p < 0.41: it alone is enough", "p > 0.59: it has a veto", "between"]
    inside = t < 0.405, t > 0.595, (t >= 0.405) & (t <= 0.595)
    assert table.softmax.tolist() == pytest.approx([b.used[i].mean() for i in inside])
    assert table.optimum.tolist() == pytest.approx([1, 1, 1]) and table.votes.tolist() == pytest.approx([0, 0, 0])
    only = np.tile([0.0, 0.996, 0.004], (2, 1))  # no threshold is above 1 less the one weight, or below the other
    steps = ensemble_summary.threshold_steps(Study(p, KEY), "NM_3", ensembles.Weights(only, only))
    table = ensemble_summary.bands({"NM_3": steps})
    assert "between" not in set(table.thresholds) and table.notna().all(axis=None)


def test_a_softmax_can_be_undone_up_to_its_sum():
    published = np.array(thesis.WEIGHTS["NM_3"])
    before = ensemble_tables.before_softmax(published)
    assert before.sum() == pytest.approx(1) and softmax(before) == pytest.approx(published)
    assert ensemble_tables.before_softmax(softmax([1.2, -0.2, 0.0])) == pytest.approx([1.2, -0.2, 0.0])


def test_an_ensemble_that_is_not_there_has_no_difference_to_its_best_member(runs, found, measured):
    compared = ensemble_tables.compare_with_baselines(runs, found, measured)
    there = ensemble_tables.by_ensemble(compared[compared.ensemble != "IDE_6"], "auc")
    assert list(there.index) == list(experiments.ENSEMBLES) and there.difference.isna().tolist().count(True) == 1
    row = compared[(compared.ensemble == "NM_3") & (compared.against == "best member")].set_index("measure")
    assert there.difference["NM_3"] == row.difference[MEASURES["auc"]]


def test_gain_of_averaging_is_the_difference_to_the_mean_member(measured):
    mean, low, high = ensemble_tables.gain(measured, "mean of 3", experiments.MEMBERS[3], "auc")
    alone = np.mean([measured[m]["auc"][0].mean() for m in experiments.MEMBERS[3]])
    assert mean == pytest.approx(measured["mean of 3"]["auc"][0].mean() - alone) and low <= mean <= high
    assert ensemble_tables.gain(measured, BCE, [BCE], "auc") == (0, 0, 0)


def test_gains_are_of_means_and_of_seeds_where_they_are_there(measured):
    table = ensemble_tables.gains(measured, [3, 6])
    assert table.ensemble.tolist() == ["mean of 3"] * 2 + [f"3 runs of {BCE}"] * 2 + ["mean of 6"] * 2
    row = table.iloc[1]
    expected = ensemble_tables.gain(measured, "mean of 3", experiments.MEMBERS[3], "auc")
    assert (row.gain, row.low, row.high) == expected and row.measure == MEASURES["auc"]
    assert ensemble_tables.gains({}, [3]).empty


def test_ensemble_figures_show_the_values_of_their_tables(runs, found, measured, weights):
    known = ensemble_tables.weights_table({"NM_3": ensembles.nelder_mead_weights(Study(runs, KEY), "NM_3")})
    figure = ensemble_figures.figure_5_15(found, 0.17, known)
    axis, beside = figure.axes
    curve = metrics.f_beta_curve(found["NM_3"][1].labels, metrics.probability(found["NM_3"][1].logits), 0.17)
    black = {
        line.get_linestyle(): line.get_ydata() for line in (*axis.lines, *beside.lines) if line.get_color() == "black"
    }
    assert [black[s] == pytest.approx(c.mean(0)) for s, c in zip(("-", ":", "--"), curve, strict=True)] == [True] * 3
    assert len(axis.lines) == 4 and len(beside.lines) == 2
    written = " ".join(text.get_text() for text in axis.texts)
    assert all(f"weight {row.weight:.2f} (thesis {row.thesis:.2f})" in written for row in known.itertuples())

    summary = ensemble_tables.summary(measured)
    figure = ensemble_figures.compared(summary, ensemble_summary.SHOWN)
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert "oracle of 3\n(uses the labels, not attainable)" in names and "NM$_3$" in names
    assert len(figure.axes) == 3 and all(len(axis.lines) == 2 * len(names) for axis in figure.axes)

    rows, steps = ensemble_summary.around_softmax(Study(runs, KEY).changed(protocol="code"), ["NM_3"])
    left, right = ensemble_figures.raw_weights(rows, steps).axes
    bars = [patch.get_width() for patch in left.patches]
    assert bars == pytest.approx([*rows["NM_3"].raw, *rows["NM_3"].weight])
    assert right.lines[0].get_ydata() == pytest.approx(steps["NM_3"].used)

    table = ensemble_summary.cascades(runs, found, weights)
    figure = ensemble_figures.cascade(table)
    assert [axis.get_title().split("\n")[1] for axis in figure.axes] == [
        f"{seen:.0%} seen by the second stage" for seen in table.seen_by_second.dropna()
    ]
