"""Table 5.1 from run folders that are written here, against scikit-learn and the numbers of the thesis."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score

from lensdet import experiments, parameters, storage
from lensdet.chapters.losses import tables
from lensdet.data import frozen_sets, mocklens
from lensdet.evaluation.scores import collapsed, models, saturated
from lensdet.network.checkpoints import SELECTORS
from lensdet.runs import complete_runs, run_folder, write_logits
from lensdet.study import Study

KEY = "0123abcd"
ROWS = ["Binary Cross Entropy", "F_beta metric", "Soft F_beta metric", "F_beta Soft Loss", "F_1 Soft loss",
        "F_1 Double Soft loss"]  # fmt: skip


@pytest.fixture
def p(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    return parameters.resolve({"profile": "smoke", "runs": 3, "selection_beta": 0.5})


def write_truth(p):
    """A truth table of 80 images: 40 lenses, 10 LRGs that host one each of them, 30 contaminants."""
    truth = {"label": np.repeat([1, 0], 40), "host": ["lrg"] * 50 + ["contaminant"] * 30,
             "stamp_id": [*range(40), *range(10), *range(30)], "kind": ["lrg"] * 50 + ["ring", "spiral", "star"] * 10,
             "source_id": [*range(40), *[None] * 40]}  # fmt: skip
    storage.write_parquet(frozen_sets.truth_folder(p, KEY) / "test.parquet", pd.DataFrame(truth))


def table_of(p):
    write_truth(p)
    return tables.table_5_1(Study(p, KEY), Study(p, KEY).resamples())


def write_runs(p, loss, n, collapse=()):
    """Complete run folders on 80 test images; the logits of each run and selector differ."""
    rows = np.zeros(80, mocklens.ROW)
    rows["label"][:40] = 1
    for run in range(1, n + 1):
        folder = run_folder(p, loss, run, KEY)
        rng = np.random.default_rng(run)
        logits = {s: {"test": (rows["label"] - 0.4 + rng.normal(size=80)).astype("f4")} for s in SELECTORS}
        if run in collapse:
            logits = {s: {"test": np.full(80, 3, np.float32)} for s in SELECTORS}
        storage.write_json(folder / "parameters.json", p.experiment(loss, KEY) | {"run": run})
        logits = {s: {"test": sets["test"], "calibration": sets["test"]} for s, sets in logits.items()}
        write_logits(folder / "logits.h5", logits, {"test": rows, "calibration": rows})


def found(table, row, metric):
    (line,) = table[(table.model == row) & (table.metric == metric)].itertuples()
    return line


@pytest.mark.parametrize("protocol, threshold, beta", [("text", 0.5, 0.5), ("code", 0.49, 0.03**0.5)])
def test_table_5_1_equals_scikit_learn(p, protocol, threshold, beta):
    p = parameters.resolve({**p.model_dump(), "protocol": protocol})
    for loss in ("bce", "f1"):
        write_runs(p, loss, 3)
    table = table_of(p)
    assert list(table.model.unique()) == [*ROWS[:3], ROWS[4]]  # those that were trained, in the thesis' order
    oracles = {
        "accuracy": lambda y, q: accuracy_score(y, q >= 0.5),
        "F_beta": lambda y, q: fbeta_score(y, q >= threshold, beta=beta),
        "precision": lambda y, q: precision_score(y, q >= threshold),
        "recall": lambda y, q: recall_score(y, q >= threshold),
    }
    for row in table.model.unique():
        network = experiments.NETWORKS[row]
        folders = complete_runs(p, network.loss, KEY)
        runs = [run.logits(network.checkpoint[protocol], "test") for run in folders]
        for metric, oracle in oracles.items():
            values = [oracle(labels, expit(logits.astype(float))) for labels, logits in runs]
            line = found(table, row, metric)
            assert line.mean == pytest.approx(np.mean(values))
            assert line.seed_spread == pytest.approx(np.std(values, ddof=1))
            assert line.test_low < line.mean < line.test_high
            assert (line.runs, line.images, line.collapsed_runs) == (3, 80, 0)
    # the first three rows are three checkpoints of one training: not the same numbers
    assert table[table.metric == "accuracy"]["mean"].nunique() >= 3


def test_table_5_1_has_the_published_numbers_beside_ours(p):
    for loss in parameters.LOSSES:
        write_runs(p, loss, 1)
    table = table_of(p)
    published = [(0.937, 0.947, 0.948, 0.924), (0.929, 0.930, 0.930, 0.927), (0.935, 0.947, 0.948, 0.921),
                 (0.849, 0.969, 0.979, 0.713), (0.892, 0.854, 0.852, 0.951), (0.917, 0.927, 0.927, 0.904)]  # fmt: skip
    for row, numbers in zip(ROWS, published, strict=True):
        for metric, number in zip(("accuracy", "F_beta", "precision", "recall"), numbers, strict=True):
            assert found(table, row, metric).thesis == number
    assert found(table, "F_1 Soft loss", "precision").thesis_spread == 0.030
    assert table.seed_spread.isna().all()  # one run has none


def test_best_model_of_each_metric_in_the_thesis_forms_the_ensembles(p):
    for loss in parameters.LOSSES:
        write_runs(p, loss, 1)
    table = table_of(p)
    published = table.assign(mean=table.thesis)
    best = {"accuracy": ROWS[0], "F_beta": ROWS[3], "precision": ROWS[3], "recall": ROWS[4]}
    assert tables.best_models(published) == best
    assert {*best.values()} == {*experiments.MEMBERS[3]}


def test_collapsed_runs_count_in_the_mean_and_are_marked(p):
    write_runs(p, "f1", 3, collapse=[2])
    table = table_of(parameters.resolve({**p.model_dump(), "experiments": ["f1"]}))
    line = found(table, "F_1 Soft loss", "recall")
    assert (line.runs, line.collapsed_runs) == (3, 1)
    pairs = [run.logits("loss", "test") for run in complete_runs(p, "f1", KEY)]
    recalls = [recall_score(labels, logits >= 0) for labels, logits in pairs]
    assert recalls[1] == 1
    assert line.mean == pytest.approx(np.mean(recalls))
    shown = tables.readable(table)
    assert shown.loc["F_1 Soft loss", "n"] == "3 runs, 1 collapsed"


def test_a_run_with_all_logits_on_one_side_is_collapsed():
    logits = np.array([[3, 0, 1], [-1, -2, -3], [1, -1, 0], [0, 0, -1e-7]])
    np.testing.assert_array_equal(collapsed(logits), [True, True, False, False])


def test_polarised_predictions_lie_below_0_01_or_above_0_99():
    low, high = np.log(0.01 / 0.99), np.log(0.99 / 0.01)
    logits = np.array([[low - 0.01, high + 0.01, 40, -40], [low + 0.01, high - 0.01, 0, 40]])
    np.testing.assert_array_equal(saturated(logits), [1, 0.25])


def test_rows_of_the_table_follow_the_chosen_experiments(p):
    def rows(*losses):
        return list(models(parameters.resolve({"experiments": losses})))

    assert rows("f1", "bce") == [*ROWS[:3], ROWS[4]]
    assert rows("fbeta") == [ROWS[3]]
    further = rows("sigmoid_f1", "fbeta:0.5", "fbeta", "focal")
    assert further == [ROWS[3], "sigmoidF1 loss", "F_beta Soft Loss, beta 0.5", "Focal loss"]
    write_runs(p, "bce", 1)
    write_runs(p, "f1", 1)
    assert set(table_of(parameters.resolve({**p.model_dump(), "experiments": ["f1"]})).model) == {ROWS[4]}


def test_readable_table_has_mean_seed_spread_interval_and_thesis(p):
    write_runs(p, "fbeta", 2)
    table = table_of(p)
    shown = tables.readable(table)
    assert list(shown) == ["n", "accuracy", "F_beta", "precision", "recall", "beyond 0.01 or 0.99"]
    line = found(table, "F_beta Soft Loss", "recall")
    cell = shown.loc["F_beta Soft Loss", "recall"]
    assert cell == (f"{line.mean:.3f}; seeds {line.seed_spread:.3f}; test {line.test_low:.3f}–{line.test_high:.3f}; "
                    "thesis 0.713")  # fmt: skip
    assert shown.loc["F_beta Soft Loss", "n"] == "2 runs, 0 collapsed"
    single = tables.readable(table.assign(seed_spread=np.nan))
    assert "seeds –;" in single.loc["F_beta Soft Loss", "recall"]


def test_tables_are_empty_without_any_run(p):
    table = table_of(p)
    assert isinstance(table, pd.DataFrame) and table.empty and tables.readable(table).empty
    assert Study(p, KEY).scores("Binary Cross Entropy") is None
    assert tables.protocols(Study(p, KEY), Study(p, KEY).resamples()).empty


def test_resamples_draw_stamps_so_that_an_lrg_moves_as_one(p):
    """An LRG that is a mock lens and a negative moves as one; contaminants on their own."""
    write_truth(p)
    weights = Study(p, KEY).resamples(draws=300)
    np.testing.assert_array_equal(weights[:, :10], weights[:, 40:50])
    assert (weights[:, :40].sum(1) == 40).all() and (weights[:, 50:].sum(1) == 30).all()
    assert np.ptp(weights[:, 40:50].sum(1)) > 0


def test_missing_truth_table_error_names_the_remedy(p):
    with pytest.raises(FileNotFoundError, match=r"test.parquet: no truth table; run notebooks/02_losses.py"):
        Study(p, KEY).resamples()


def test_a_diverged_run_is_named_and_left_out(p, capsys):
    write_runs(p, "f1", 3)
    folder = run_folder(p, "f1", 2, KEY)
    rows = np.zeros(80, mocklens.ROW)
    good, bad = np.zeros(80, np.float32), np.full(80, np.inf, np.float32)  # one set is enough
    logits = {s: {"test": good, "calibration": bad} for s in SELECTORS}
    write_logits(folder / "logits.h5", logits, {"test": rows, "calibration": rows})
    read = Study(p, KEY).scores("F_1 Soft loss")
    assert list(read.runs) == [1, 3] and read.logits.shape == (2, 80)
    assert "F_1 Soft loss: run 2 diverged" in capsys.readouterr().out


def test_protocols_compare_text_and_code_on_the_same_trainings(p):
    for loss in ("bce", "f1"):
        write_runs(p, loss, 3)
    write_truth(p)
    both = tables.protocols(Study(p, KEY), Study(p, KEY).resamples())
    alone = {name: tables.table_5_1(Study(p, KEY), Study(p, KEY).resamples(), name) for name in ("text", "code")}
    for name, table in alone.items():
        np.testing.assert_allclose(both[name], table["mean"])
    np.testing.assert_allclose(both["code_minus_text"], both["code"] - both["text"])
    (line,) = both[(both.model == ROWS[4]) & (both.metric == "recall")].itertuples()
    assert line.thesis == 0.951 and line.runs == 3 and line.low <= line.code_minus_text <= line.high
