"""The control, on runs that are written here: models whose true relation is known, plain loops, and scikit-learn."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from lensdet import parameters, runs, storage
from lensdet.chapters.losses import tables, threshold_control
from lensdet.data import frozen_sets, mocklens
from lensdet.evaluation import thresholds
from lensdet.network.checkpoints import SELECTORS
from lensdet.runs import Run
from lensdet.study import Study

KEY, N = "0123abcd", 200
SHIFT = 2.0  # the F_beta model ranks as cross-entropy does, and cuts higher
F_BETA, F_1 = "F_beta Soft Loss", "F_1 Soft loss"


@pytest.fixture
def p(tmp_path, monkeypatch):
    """Three runs: cross-entropy, the same ranking cut higher (soft F_beta), and a worse one (soft F1)."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    p = parameters.resolve({"profile": "smoke", "runs": 3, "experiments": ["bce", "fbeta", "f1"]})
    rows = np.zeros(2 * N, mocklens.ROW)
    rows["label"][:N] = 1
    for run in range(1, 4):
        rng = np.random.default_rng(run)
        ranks = {name: 2 * rows["label"] - 1 + rng.normal(size=2 * N) for name in ("calibration", "test")}
        made = {"bce": lambda z: 2 * z, "fbeta": lambda z: 20 * (2 * z - SHIFT),
                "f1": lambda z, rng=rng: z + rng.normal(size=2 * N)}  # fmt: skip
        for loss, make in made.items():
            folder = runs.run_folder(p, loss, run, KEY)
            sets = {name: make(z).astype(np.float32) for name, z in ranks.items()}
            storage.write_json(folder / "parameters.json", p.experiment(loss, KEY) | {"run": run})
            storage.write_csv(folder / "history.csv", pd.DataFrame({"chunk": [0], "loss": [run / 10]}))
            runs.write_logits(folder / "logits.h5", dict.fromkeys(SELECTORS, sets), dict.fromkeys(sets, rows))
    truth = {"label": rows["label"], "host": ["lrg"] * (N + 40) + ["contaminant"] * (N - 40),
             "stamp_id": [*range(N), *range(40), *range(N - 40)], "source_id": [*range(N), *[None] * N],
             "kind": ["lrg"] * (N + 40) + ["ring", "spiral"] * ((N - 40) // 2)}  # fmt: skip
    storage.write_parquet(frozen_sets.truth_folder(p, KEY) / "test.parquet", pd.DataFrame(truth))
    return p


@pytest.fixture
def weights(p):
    return Study(p, KEY).resamples(draws=200)


def line(table, **given):
    for column, value in given.items():
        table = table[table[column] == value]
    (found,) = table.to_dict("records")
    return found


def test_models_differing_by_a_shift_have_equal_precision_at_recall(p, weights):
    """At its own recall the F_beta model has exactly the precision of cross-entropy, which ranks alike."""
    table = threshold_control.matched(Study(p, KEY), weights)
    for model in (F_BETA, F_1):
        found = line(table, matched="recall", at=f"that of {model}", model=F_BETA)
        assert found["difference"] == pytest.approx(0, abs=1e-9)
        assert np.isnan([found["low"], found["high"]]).all() and found["verdict"] == "open"  # as both runs agree
    own = Study(p, KEY).scores(F_BETA)
    assert line(table, matched="recall", at=f"that of {F_BETA}", model=F_BETA)["mean"] == pytest.approx(
        np.mean([precision_score(own.labels, z >= 0) for z in own.logits])
    )
    assert line(table, matched="recall", at=f"that of {F_BETA}", model=F_BETA)["target"] == pytest.approx(
        np.mean([recall_score(own.labels, z >= 0) for z in own.logits])
    )
    worse = line(table, matched="recall", at=f"that of {F_BETA}", model=F_1)
    assert worse["difference"] < 0
    targets = table[table["at"].str.startswith("the thesis")].target
    assert set(targets) == {0.713, 0.924, 0.951}


def test_ranking_has_the_area_of_scikit_learn_and_the_recall_of_a_plain_search(p, weights):
    """A shift changes nothing; the noise of the soft F1 model does."""
    table = threshold_control.ranking(Study(p, KEY), weights)
    assert len(table) == 4 and set(table.runs) == {3} and set(table.images) == {2 * N}
    bce, f1 = (Study(p, KEY).scores(model) for model in ("Binary Cross Entropy", F_1))

    def recall(z, precision):  # no two images have the same logit here
        accepted = [recall_score(f1.labels, z >= cut) for cut in z if precision_score(f1.labels, z >= cut) >= precision]
        return max(accepted, default=0)

    precise = [precision_score(f1.labels, z >= 0) for z in bce.logits]
    values = (lambda z, _: roc_auc_score(f1.labels, z)), recall
    for measure, value in zip(threshold_control.RANKING, values, strict=True):
        assert line(table, model=F_BETA, measure=measure)["difference"] == pytest.approx(0, abs=1e-9)
        found = line(table, model=F_1, measure=measure)
        ours, theirs = (np.mean([*map(value, scores.logits, precise)]) for scores in (f1, bce))
        assert found["soft_loss"] == pytest.approx(ours, abs=1 / N)  # between two lenses we interpolate
        assert found["cross_entropy"] == pytest.approx(theirs, abs=1 / N)
        assert found["difference"] == pytest.approx(found["soft_loss"] - found["cross_entropy"])
        assert found["low"] < found["difference"] < found["high"] < 0 or measure != threshold_control.RANKING[0]


def test_ranking_pairs_the_runs_that_both_losses_have(p, weights):
    whole = threshold_control.ranking(Study(p, KEY), weights)
    shutil.rmtree(runs.run_folder(p, "bce", 2, KEY))
    table = threshold_control.ranking(Study(p, KEY), weights)
    assert set(table.runs) == {2} and not np.allclose(table.cross_entropy, whole.cross_entropy)
    alone = threshold_control.ranking(Study(p, KEY).changed(experiments=("fbeta", "f1")), weights)
    assert alone.empty and list(alone) == list(table)


def test_recall_of_a_model_that_never_is_so_precise_is_0(p, weights):
    for run in range(1, 4):
        with h5py.File(runs.run_folder(p, "f1", run, KEY) / "logits.h5", "r+") as file:
            file["logits/loss/test"][:] = 1 - 2 * file["rows/test"]["label"]
    table = threshold_control.ranking(Study(p, KEY), weights)
    worst = line(table, model=F_1, measure=threshold_control.RANKING[1])
    assert worst["soft_loss"] == 0
    assert worst["difference"] == -worst["cross_entropy"]


def test_where_cross_entropy_accepts_nothing_any_precision_will_do(p, weights):
    for run in range(1, 4):
        with h5py.File(runs.run_folder(p, "bce", run, KEY) / "logits.h5", "r+") as file:
            file["logits/loss/test"][:] -= 100
    table = threshold_control.ranking(Study(p, KEY), weights)
    recall = table[table.measure == threshold_control.RANKING[1]]
    assert len(recall) == 2 and (recall.soft_loss == 1).all() and (recall.cross_entropy == 1).all()


def test_effective_threshold_of_a_shifted_model_is_the_shift(p):
    table = threshold_control.effective_thresholds(Study(p, KEY))
    rows = table[table.model == F_BETA]
    assert len(rows) == 3 and set(rows.beta) == {0.17} and set(table[table.model == F_1].beta) == {1}
    # cross-entropy's logit is right as it stands (unit normals 2 apart): temperature about 1
    np.testing.assert_allclose(rows.effective, expit(SHIFT), atol=0.04)
    np.testing.assert_allclose(rows.predicted, rows.best_f / (1 + 0.17**2))


def test_best_thresholds_are_chosen_on_the_calibration_set(p, weights):
    cuts, found = threshold_control.own_thresholds(Study(p, KEY)), {}
    folders = runs.complete_runs(p, "fbeta", KEY)
    for name in ("calibration", "test"):
        pairs = [run.logits("loss", name) for run in folders]
        found[name] = np.array([thresholds.best_threshold(y, z, p.selection_beta) for y, z in pairs])
    np.testing.assert_array_equal(cuts[F_BETA], found["calibration"])
    assert (cuts[F_BETA] != found["test"]).all()
    read, table = Study(p, KEY).scores(F_BETA), threshold_control.deployed(Study(p, KEY), weights)
    expected = [recall_score(read.labels, z >= cut) for z, cut in zip(read.logits, cuts[F_BETA], strict=True)]
    assert line(table, model=F_BETA, metric="recall")["mean"] == pytest.approx(np.mean(expected))
    # the same ranking has the same threshold, whatever its scale
    np.testing.assert_allclose(cuts[F_BETA] / 20 + SHIFT, cuts["Binary Cross Entropy"], rtol=1e-4)
    assert "thesis" not in table and "mean threshold" in tables.readable(table)


def test_temperature_improves_the_calibration_of_a_polarised_model(p):
    table = threshold_control.calibrated(Study(p, KEY)).groupby("model").mean(numeric_only=True)
    assert table.temperature["Binary Cross Entropy"] == pytest.approx(1, abs=0.2)
    assert table.temperature[F_BETA] > 10
    assert table.ece_after[F_BETA] < table.ece_before[F_BETA]
    assert table.brier_after[F_BETA] < table.brier_before[F_BETA]


def test_false_positives_by_kind_equal_a_plain_count(p):
    table = threshold_control.false_positives(Study(p, KEY))
    truth, read = Study(p, KEY).truth(), Study(p, KEY).scores(F_1)
    for kind, n in (("lrg", 40), ("ring", 80), ("spiral", 80), ("contaminant", 160)):
        found = line(table, model=F_1, threshold="p = 0.5", kind=kind)
        members = (truth.label == 0) & ((truth.kind == kind) | ((kind == "contaminant") & (truth.host == kind)))
        assert found["run"] == 2  # the median validation loss
        assert found["n"] == n and found["false_positives"] == (read.logits[1][members] >= 0).sum()
        assert found["low"] <= found["rate"] <= found["high"]


def sky_rows(**recall):
    return [{"model": "m", "threshold": "own", "kind": kind, "run": 3, "rate": rate, "low": 0.5 * rate,
             "high": 2 * rate, "recall": 0.5, "recall_low": 0.4, "recall_high": 0.6}
            for kind, rate in (("lrg", 0.01), ("ring", 0.9), ("contaminant", 0.03))]  # fmt: skip


def test_purity_on_the_sky_equals_a_calculation_by_hand():
    (found,) = threshold_control.on_the_sky(pd.DataFrame(sky_rows()), prior=0.001, share=0.25).to_dict("records")
    mixed = 0.25 * 0.03 + 0.75 * 0.01
    assert found["fpr"] == pytest.approx(mixed) and found["run"] == 3
    for end, tpr, fpr in (("", 0.5, mixed), ("_worst", 0.4, 2 * mixed), ("_best", 0.6, mixed / 2)):
        assert found["purity" + end] == pytest.approx(tpr * 0.001 / (tpr * 0.001 + fpr * 0.999))
        assert found["inspected" + end] == pytest.approx(fpr * 0.999 / (tpr * 0.001))


def test_a_sky_of_contaminants_alone_needs_no_rate_of_lrgs():
    table = pd.DataFrame(sky_rows()[1:])
    (without,) = threshold_control.on_the_sky(table, prior=0.001, share=1.0).to_dict("records")
    assert without["fpr"] == pytest.approx(0.03)
    (mixed,) = threshold_control.on_the_sky(table, prior=0.001, share=0.8).to_dict("records")
    assert np.isnan(mixed["purity"])


def test_models_at_their_own_recall_are_open_below_five_runs(p, weights):
    table = threshold_control.at_own_recall(threshold_control.matched(Study(p, KEY), weights))
    assert table.model.tolist() == ["Binary Cross Entropy", F_BETA, F_1] and (table.matched == "recall").all()
    assert table.verdict[1:].tolist() == ["open", "open"]
    assert threshold_control.at_own_recall(pd.DataFrame()).empty


def test_a_run_that_accepts_nothing_has_nan_at_matched_recall(p, weights):
    folder = runs.run_folder(p, "fbeta", 2, KEY)
    rows = np.zeros(2 * N, mocklens.ROW)
    rows["label"][:N] = 1
    sets = dict.fromkeys(("calibration", "test"), np.linspace(-9, -8, 2 * N, dtype=np.float32))
    runs.write_logits(folder / "logits.h5", dict.fromkeys(SELECTORS, sets), dict.fromkeys(sets, rows))
    table = threshold_control.matched(Study(p, KEY), weights)
    assert np.isnan(line(table, matched="recall", at=f"that of {F_BETA}", model=F_1)["mean"])
    assert np.isfinite(line(table, matched="recall", at=f"that of {F_1}", model=F_BETA)["mean"])
    effective = threshold_control.effective_thresholds(Study(p, KEY))
    means = threshold_control.mean_thresholds(effective).reset_index().set_index("model")
    assert means.loc[F_BETA, ["run", "outside"]].tolist() == [3, 1]
    known = effective[(effective.model == F_BETA) & effective.effective.between(0, 1, inclusive="neither")].effective
    assert len(known) == 2 and means.effective[F_BETA] == pytest.approx(known.mean())


def test_effects_of_loss_and_of_checkpoint_selection_are_separated(p, weights):
    """Made so that the published selection adds to the recall of soft F1, and the loss takes from it."""
    for run in (1, 2, 3):
        folder = runs.run_folder(p, "f1", run, KEY)
        with h5py.File(folder / "logits.h5", "r+") as file:
            file["logits/code_loss/test"][:] += 1
            file["logits/loss/test"][:] -= 1
    found = threshold_control.selection(Study(p, KEY), weights)
    f1, bce = (np.array([[recall_score(*pair_at_zero(p, loss, run, s)) for run in (1, 2, 3)]
                         for s in ("loss", "code_loss")]) for loss in ("f1", "bce"))  # fmt: skip
    found = found.set_index("of")
    loss, selection, both = found.difference[["loss", "selection", "both"]]
    assert loss == pytest.approx((f1[0] - bce[0]).mean()) and loss < 0
    assert selection == pytest.approx((f1[1] - f1[0]).mean()) and selection > 0
    assert both == pytest.approx((f1[1] - bce[1]).mean())
    assert (found.low < found.difference).all() and (found.runs == 3).all() and set(found.verdict) == {"open"}
    without = parameters.resolve({**p.model_dump(), "experiments": ["bce", "fbeta"]})
    assert threshold_control.selection(Study(without, KEY), weights).empty


def pair_at_zero(p, loss, run, selector):
    labels, logits = Run(runs.run_folder(p, loss, run, KEY)).logits(selector, "test")
    return labels, logits >= 0


def test_readable_matched_table_labels_seeds_intervals_and_runs(p, weights):
    shown = threshold_control.readable(threshold_control.matched(Study(p, KEY), weights))
    assert {"matched", "model", "precision", "recall", "minus cross-entropy"} == set(shown)
    assert shown.precision.str.contains("seeds .*; test ").any()
    assert "3 runs" in shown["minus cross-entropy"].iloc[1]
