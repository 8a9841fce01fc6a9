"""The comparison with the thesis, from runs that are written here: scikit-learn, plain loops, and known verdicts."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, confusion_matrix, fbeta_score, precision_score, recall_score
from statsmodels.stats.multitest import multipletests

from lensdet import experiments, parameters, storage
from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import claims
from lensdet.chapters.ensembles import tables as ensemble_tables
from lensdet.chapters.losses import tables
from lensdet.data import frozen_sets
from lensdet.evaluation import statistics
from lensdet.evaluation.scores import Scores
from lensdet.network.checkpoints import SELECTORS
from lensdet.runs import complete_runs, run_folder, write_large, write_rows
from lensdet.study import Study
from tests.evaluation.test_ensembles import KEY, SETS, N, draw, rows_of, write_run

BCE, METRIC, SOFT_METRIC, F_BETA, F_1, DOUBLE = experiments.NETWORKS
RUNS = 6
GRID = np.arange(1, 100) / 100


def member(seed, lenses, negatives, spread=0.3):
    """Logits by set: lenses and negatives around these."""
    rng = np.random.default_rng(seed)
    centre = np.where(rows_of("test")["label"] == 1, lenses, negatives)
    return {name: (centre + spread * rng.normal(size=N)).astype("f4") for name in SETS}


def write_all(p, runs=RUNS):
    """Losses in a known order: BCE nearly right, F_beta finds a third, F_1 accepts all, its double nothing."""
    for run in range(1, runs + 1):
        checkpoints = {s: member(run, 2, -2, 1) for s in SELECTORS} | {"soft_f_beta": member(50 + run, 0.5, -0.5, 1)}
        write_run(p, "bce", run, checkpoints)
        write_run(p, "fbeta", run, few_found(run))
        write_run(p, "f1", run, member(200 + run, 6, 6))
        write_run(p, "f1_double", run, member(300 + run, -6, -6))


def few_found(run):
    """A third of the lenses, and nothing else, beyond doubt."""
    found = np.where(np.arange(N) % 3 == run % 3, 6.0, -6.0)
    return {name: np.where(rows_of(name)["label"] == 1, found, -6.0).astype("f4") for name in SETS}


@pytest.fixture
def p(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path / "figures"))
    p = parameters.resolve({"profile": "smoke", "runs": RUNS})
    for name in ("test", "validation"):
        storage.write_parquet(frozen_sets.truth_folder(p, KEY) / f"{name}.parquet", truth_of(name))
    return p


def truth_of(name):
    """Each stamp and source once; every fourth lens has a large Einstein radius."""
    rows = rows_of(name)
    lens = rows["label"] == 1
    return pd.DataFrame(
        {"label": rows["label"].astype(int), "host": np.where(lens, "lrg", "contaminant"), "stamp_id": np.arange(N),
         "source_id": np.where(lens, np.arange(N), np.nan),
         "einstein_radius": np.where(lens, np.where(np.arange(N) % 4, 1.5, 3), np.nan)}
    )  # fmt: skip


@pytest.fixture
def weights():
    """Resamples of lenses and of negatives."""
    rng, half = np.random.default_rng(0), N // 2
    return np.hstack([rng.multinomial(half, np.full(half, 1 / half), 60) for _ in range(2)]).astype(float)


def row(table, a, b, metric):
    (line,) = table[(table.a == a) & (table.b == b) & (table.metric == metric)].itertuples()
    return line


# ---- what is measured


@pytest.mark.parametrize("protocol, threshold, beta", [("text", 0.5, 0.17), ("code", 0.49, 0.03**0.5)])
def test_measures_equal_scikit_learn(p, weights, protocol, threshold, beta):
    p = p.model_copy(update={"protocol": protocol})
    rng = np.random.default_rng(2)
    labels = np.repeat([1.0, 0.0], N // 2)
    logits = 3 * (2 * labels - 1 + rng.normal(size=(2, N)))
    read = Scores(labels, logits, np.array([1, 2]))
    plain, drawn = claims.measure(p, read), claims.measure(p, read, weights)
    assert set(claims.METRICS) - set(plain) == {"f_beta_over_runs", "recall_large", "mean_f_beta", "soft_f_beta"}
    for run, b in ((0, None), (1, None), (0, 7), (1, 30)):
        q, w = expit(logits[run]), None if b is None else weights[b]
        accepted = q >= threshold
        (tn, fp), _ = confusion_matrix(labels, accepted, sample_weight=w)
        curve = np.array([fbeta_score(labels, q >= t, beta=0.17, sample_weight=w, zero_division=0) for t in GRID])
        precisions = [precision_score(labels, q >= t, sample_weight=w, zero_division=0) for t in GRID[GRID > 0.755]]
        expected = {
            "accuracy": accuracy_score(labels, q > 0.5, sample_weight=w),
            "f_beta": fbeta_score(labels, accepted, beta=beta, sample_weight=w),
            "precision": precision_score(labels, accepted, sample_weight=w),
            "recall": recall_score(labels, accepted, sample_weight=w),
            "false_positive_rate": fp / (fp + tn),
            "saturated": np.average((q < 0.01) | (q > 0.99), weights=w),
            "f_beta_high": curve[GRID > 0.755].mean(),
            "f_beta_low": curve[GRID < 0.755].mean(),
            "precision_high": np.mean(precisions),
            "f_beta_over_thresholds": np.std(curve),
        }
        got = {name: v[run] if b is None else v[run, b] for name, v in (plain if b is None else drawn).items()}
        assert got == pytest.approx(expected)


def test_f_beta_at_high_thresholds_equals_that_of_the_ensembles(p):
    read = Scores(rows_of("test")["label"], np.stack([draw(k)["test"] for k in (1, 2)]), np.array([1, 2]))
    both = ensemble_tables.values(p, read, read)["f_beta_high"]
    np.testing.assert_allclose(claims.measure(p, read)["f_beta_high"], both)


def test_runs_are_paired_by_run_number():
    rng = np.random.default_rng(0)
    values = {run: rng.normal(size=2) for run in range(1, 8)}

    def read(side, runs):
        plain = np.array([values[r][side] for r in runs])
        return np.array(runs), {"recall": plain}, {"recall": plain[:, None] + np.zeros((1, 5))}

    d = claims.compare({"a": read(0, [1, 2, 3, 5, 7]), "b": read(1, [2, 3, 4, 5, 6, 7])}, "a", "b", "recall")
    assert d.n_runs == 4
    assert d.mean == pytest.approx(np.mean([values[r][0] - values[r][1] for r in (2, 3, 5, 7)]))
    assert claims.compare({"a": read(0, [1, 2]), "b": read(1, [3])}, "a", "b", "recall") is None


def test_spreads_over_runs_compare_by_mean_distance_from_the_mean():
    rng = np.random.default_rng(0)
    tight, wide = 0.9 + 0.001 * rng.normal(size=10), 0.8 + 0.05 * rng.normal(size=10)
    shift = np.linspace(-0.1, 0.1, 4)  # images that are harder for all runs alike do not spread them
    read = {name: (np.arange(10), {"f_beta": x}, {"f_beta": x[:, None] + shift}) for name, x in
            (("tight", tight), ("wide", wide))}  # fmt: skip
    d = claims.compare(read, "tight", "wide", "f_beta_over_runs")
    assert d.mean == pytest.approx(np.mean(abs(tight - tight.mean())) - np.mean(abs(wide - wide.mean())))
    assert d.high < 0
    assert d.test_low == pytest.approx(d.mean) and d.test_high == pytest.approx(d.mean)


def test_recall_above_and_below_2_5_arcsec_is_compared(p, weights):
    write_all(p)
    line = row(claims.claims(Study(p, KEY), weights), F_BETA, thesis.SMALLER, "recall_large")
    large = truth_of("test").einstein_radius.to_numpy() > 2.5
    expected = [few_found(run)["test"][: N // 2] > 0 for run in range(1, RUNS + 1)]
    of_each = [found[large[: N // 2]].mean() - found[~large[: N // 2]].mean() for found in expected]
    assert line.question == 2 and line.difference == pytest.approx(np.mean(of_each)) and line.runs == RUNS
    assert line.claim == f"recall above 2.5 arcsec: {F_BETA} > its recall below 2.5 arcsec"
    path = frozen_sets.truth_folder(p, KEY) / "test.parquet"
    storage.write_parquet(path, truth_of("test").drop(columns="einstein_radius"))  # stamps without their keywords
    assert row(claims.claims(Study(p, KEY), weights), F_BETA, thesis.SMALLER, "recall_large").verdict == "no run"


def test_selection_metrics_on_the_test_set_equal_scikit_learn(p, weights):
    """By scikit-learn, plain and on resamples: F_beta over thresholds, and the soft counts as weighted ones."""
    write_all(p)
    for model, beta in ((METRIC, 0.17), (SOFT_METRIC, 0.5)):
        q = p.model_copy(update={"selection_beta": beta})
        read = claims.load(Study(p, KEY), model)
        plain, drawn = claims.selected_by(q, read), claims.selected_by(q, read, weights)
        grid = (np.arange(50) + 1e-4) / 50
        for run, b in ((0, None), (3, None), (1, 5), (4, 40)):
            z, w = expit(read.logits[run].astype(float)), np.ones(N) if b is None else weights[b]
            mean = np.mean(
                [fbeta_score(read.labels, z >= t, beta=beta, sample_weight=w, zero_division=0) for t in grid]
            )
            # found with weight z, missed with 1 - z
            twice, found, weight = np.tile(read.labels, 2), np.repeat([1, 0], N), np.r_[w * z, w * (1 - z)]
            expected = {"mean_f_beta": mean,
                        "soft_f_beta": fbeta_score(twice, found, beta=beta, sample_weight=weight)}  # fmt: skip
            got = {name: v[run] if b is None else v[run, b] for name, v in (plain if b is None else drawn).items()}
            assert got == pytest.approx(expected)
    table = claims.claims(Study(p, KEY), weights)
    for model, metric in ((METRIC, "mean_f_beta"), (SOFT_METRIC, "soft_f_beta")):
        own, plain = (claims.selected_by(p, claims.load(Study(p, KEY), m))[metric] for m in (model, BCE))
        line = row(table, model, BCE, metric)
        assert line.difference == pytest.approx(np.mean(own - plain)) and line.sign == -1 and line.question == 1


def test_recall_of_chosen_lenses_is_the_weighted_share_found(p, weights):
    write_all(p)
    read, chosen = claims.load(Study(p, KEY), BCE), np.arange(N) % 7 == 0
    chosen &= rows_of("test")["label"] == 1
    drawn = claims.recall_of(p, read, chosen, weights)
    for run, b in ((0, 3), (5, 11)):
        w = weights[b][chosen]
        expected = np.average(read.logits[run][chosen] >= 0, weights=w) if w.any() else np.nan
        assert drawn[run, b] == pytest.approx(expected, nan_ok=True)
    none = weights * ~chosen
    assert np.isnan(claims.recall_of(p, read, chosen, none)).all()


# ---- verdicts


def test_runs_of_known_difference_get_the_right_verdicts(p, weights):
    write_all(p)
    table = claims.claims(Study(p, KEY), weights)
    assert len(table) == len(thesis.CLAIMS)
    assert set(table.verdict) <= set(claims.VERDICTS)
    cases = {
        (BCE, F_BETA, "accuracy"): "agrees",
        (BCE, F_1, "accuracy"): "agrees",
        (F_BETA, F_1, "precision"): "open",  # 1 and 0.5 in every run, which says nothing of other seeds
        (F_BETA, BCE, "recall"): "agrees",  # claimed to be less, and is
        (F_1, BCE, "false_positive_rate"): "agrees",
        (F_1, BCE, "saturated"): "open",  # likewise 1 and 0
        (F_1, BCE, "f_beta_over_thresholds"): "agrees",
        (F_BETA, BCE, "f_beta"): "contradicts",  # found few
        (BCE, "Max-Tree Seg.", "accuracy"): "no run",
        ("IDE_6", "IDE_3", "f_beta_over_runs"): "no run",
        (BCE, "F_beta metric", "accuracy"): "open",  # the same logits
    }
    for (a, b, metric), verdict in cases.items():
        line = row(table, a, b, metric)
        assert line.verdict == verdict, (a, b, metric, line)
        assert line.runs == (0 if verdict == "no run" else RUNS)
        if verdict == "no run":
            assert np.isnan([line.difference, line.low, line.high]).all()
        elif verdict != "open":
            assert line.low > 0 or line.high < 0
            assert (np.sign(line.difference) == line.sign) == (verdict == "agrees")
        else:
            assert np.isnan([line.low, line.high]).all()
    assert row(table, F_1, BCE, "recall").thesis == pytest.approx(0.027)
    assert np.isnan(row(table, BCE, "NM_3", "accuracy").thesis)  # computed in two ways
    assert row(table, BCE, F_BETA, "accuracy").claim == f"accuracy: {BCE} > {F_BETA}"


def test_claim_differences_equal_those_of_the_tables(p, weights):
    write_all(p, 3)
    of_three = p.model_copy(update={"runs": 3})
    table = claims.claims(Study(of_three, KEY), weights)
    means = tables_of(of_three, weights)
    for line in table[table.metric.isin(["accuracy", "f_beta", "precision", "recall"])].itertuples():
        if {line.a, line.b} <= set(experiments.NETWORKS):
            name = claims.METRICS[line.metric]
            assert line.difference == pytest.approx(means[line.a, name] - means[line.b, name])
    assert "agrees" not in set(table.verdict)  # three runs decide nothing


def tables_of(p, weights):
    """Means of Table 5.1."""
    return tables.table_5_1(Study(p, KEY), weights).set_index(["model", "metric"])["mean"]


def test_p_values_are_adjusted_within_one_research_question(p, weights):
    """The p-values of all its claims, and of no others, are adjusted together."""
    write_all(p)
    table = claims.claims(Study(p, KEY), weights)
    assert set(table.question) == {1, 2, 3, 4}
    for _, family in table[table.runs > 0].groupby("question"):
        adjusted = statistics.holm(family.p)
        decided = np.where(family.sign * family.difference > 0, "agrees", "contradicts")
        close = np.maximum(-family.low, family.high) < 0.01
        other = np.where(close, "equivalent", "open")
        assert family.verdict.tolist() == np.where(adjusted < 0.05, decided, other).tolist()
    wide = claims.by_question(table)
    assert wide["claims"].sum() == len(table) and wide.loc["4. Does segmentation help?", "no run"] == 4


def test_claims_use_the_large_test_set_where_all_runs_have_it(p, weights):
    write_all(p, 2)
    folder = frozen_sets.large_folder(p)
    write_rows(folder / "rows.h5", rows_of("calibration"))
    storage.write_parquet(folder / "truth.parquet", truth_of("calibration"))
    key = folder.name.removeprefix("large-")
    assert claims.judged_on(Study(p, KEY)) == "test"
    for experiment in p.experiments:
        for run in complete_runs(p, experiment, KEY):
            logits = {s: run.logits(s, "calibration")[1] for s in ("loss", "f_beta", "soft_f_beta")}
            write_large(run.folder / "large.h5", logits, key)
    assert claims.judged_on(Study(p, KEY)) == "large"
    stated = claims.save(Study(p, KEY), weights)
    scores = {model: Study(p, KEY).scores(model, "calibration") for model in (BCE, F_1)}
    means = {model: np.mean([accuracy_score(s.labels, z >= 0) for z in s.logits]) for model, s in scores.items()}
    assert row(stated, BCE, F_1, "accuracy").difference == pytest.approx(means[BCE] - means[F_1])
    assert row(stated, BCE, F_1, "accuracy").images == N
    run = complete_runs(p, "f1", KEY)[0]
    (run.folder / "large.h5").unlink()
    assert claims.judged_on(Study(p, KEY)) == "test"


def test_best_member_is_chosen_on_the_calibration_set(p, weights):
    """One that is best on the test set alone is not taken."""
    write_all(p, 2)
    for run in (1, 2):
        right, wrong = few_found(run)["calibration"], member(run, -3, 3)["test"]
        write_run(p, "fbeta", run, {"calibration": wrong, "test": 12 * rows_of("test")["label"].astype("f4") - 6,
                                    "training": right})  # fmt: skip
    table = claims.claims(Study(p, KEY).changed(runs=2), weights)
    two = row(table, BCE, F_1, "accuracy")  # too few to decide anything, but the interval lies where it lies
    assert two.verdict == "open" and two.low > 0
    best = table[(table.a == "NM_3") & table.claim.str.contains("its best member")]
    assert len(best) == 3 and set(best.b) == {BCE}
    assert best.claim.str.endswith(f"its best member, {BCE}").all()


def test_ensembles_use_the_runs_that_all_members_have(p, weights):
    write_all(p)
    (run_folder(p, "f1", 4, KEY) / "logits.h5").unlink()
    assert list(claims.load(Study(p, KEY), "NM_3").runs) == [1, 2, 3]
    assert list(claims.load(Study(p, KEY), F_1).runs) == [1, 2, 3, 5, 6]
    (run_folder(p, "f1", 1, KEY) / "logits.h5").unlink()
    assert claims.load(Study(p, KEY), "NM_3") is None
    assert claims.load(Study(p, KEY), "IDE_3") is None
    few = p.model_copy(update={"experiments": ("bce",)})
    assert claims.load(Study(few, KEY), F_BETA) is None and claims.load(Study(few, KEY), "NM_6") is None


# ---- numbers


PUBLISHED = """
5.1|Binary Cross Entropy|.937 .005 .947 .006 .948 .007 .924 .016
5.1|F_beta metric|.929 .005 .930 .009 .930 .009 .927 .013
5.1|Soft F_beta metric|.935 .005 .947 .009 .948 .009 .921 .014
5.1|F_beta Soft Loss|.849 .008 .969 .007 .979 .008 .713 .014
5.1|F_1 Soft loss|.892 .015 .854 .029 .852 .030 .951 .015
5.1|F_1 Double Soft loss|.917 .008 .927 .012 .927 .012 .904 .013
5.2|NM_3|.890 .043 .946 .005 .947 .006 .921 .014
5.2|NM_6|.903 .037 .957 .005 .959 .005 .915 .009
5.2|IDE_6|.912 .014 .913 .010 .913 .011 .928 .008
5.2|IDE_3|.904 .014 .898 .022 .897 .023 .935 .016
5.3|Max-Tree Seg.|.898 .008 .918 .014 .919 .015 .874 .015
"""


def test_all_44_published_numbers_are_listed_without_any_run(p, weights):
    table = claims.published(Study(p, KEY), weights)  # without a run
    assert len(table) == 44 and set(table.note) == {"no run"} and table["mean"].isna().all()
    for line in PUBLISHED.split("\n")[1:-1]:
        number, model, values = line.split("|")
        own = table[(table.table == number) & (table.model == model)]
        got = own[["thesis", "thesis_spread"]].to_numpy().ravel()
        np.testing.assert_array_equal(got, np.array(values.split(), float))


def test_our_means_stand_beside_the_published_numbers(p, weights):
    write_all(p)
    segmented = p.model_copy(update={"segmentation": "text"})
    for run in (1, 2):
        write_run(segmented, "bce", run, member(run, 1, -1, 1))
    table = claims.published(Study(p, KEY), weights).set_index(["model", "metric"])
    means = tables_of(p, weights)
    for model in experiments.NETWORKS:
        assert table.loc[(model, "recall"), "mean"] == pytest.approx(means[model, "recall"])
    assert table.loc[(BCE, "recall"), ["runs", "images"]].tolist() == [RUNS, N]
    # the accuracy of an ensemble is the mean over thresholds, as published
    read = claims.load(Study(p, KEY), "NM_3")
    over = np.mean([accuracy_score(read.labels, expit(z) >= t) for z in read.logits for t in GRID])
    assert table.loc[("NM_3", ensemble_tables.OVER), "mean"] == pytest.approx(over)
    assert table.loc[("IDE_3", "recall"), "note"] == "no run"
    labels, recalls = rows_of("test")["label"], []
    for run in (1, 2):
        recalls.append(recall_score(labels, member(run, 1, -1, 1)["test"] >= 0))
    line = table.loc[("Max-Tree Seg.", "recall")]
    assert line["mean"] == pytest.approx(np.mean(recalls)) and line.runs == 2
    assert line.test_low < line["mean"] < line.test_high
    stated = claims.claims(Study(p, KEY), weights)
    d = row(stated, BCE, "Max-Tree Seg.", "recall")
    both = [run.logits("loss", "test")[1] for run in complete_runs(p, "bce", KEY)[:2]]
    whole = [recall_score(labels, z >= 0) for z in both]
    assert d.difference == pytest.approx(np.mean(whole) - np.mean(recalls)) and d.runs == 2


def test_comparison_refuses_segmented_stamps(p, weights):
    with pytest.raises(ValueError, match="leave `segmentation` at none"):
        claims.claims(Study(p, KEY).changed(segmentation="text"), weights)


def test_runs_needed_to_close_an_open_claim_follow_holm(p, weights):
    """At the level that Holm's method has left for the claims that are not decided."""
    write_all(p)
    table = claims.claims(Study(p, KEY), weights)
    family = table[(table.question == 1) & (table.runs > 0)]
    undecided = int((~family.verdict.isin(["agrees", "contradicts"])).sum())
    assert 0 < undecided < len(family)
    some = 0
    for line in family[(family.verdict == "open") & family.p.notna()].itertuples():
        d = next(c for c in thesis.CLAIMS if (c.a, c.metric, c.section) == (line.a, line.metric, line.section))
        read = claims._read(Study(p, KEY), weights, "test")
        expected = statistics.needed(claims.compare(read, d.a, line.b, d.metric), undecided)
        found = line.runs_needed, line.images_needed / N, line.runs_needed_on_many
        np.testing.assert_allclose(found, expected)
        some += 1
    assert some
    decided = family.verdict.isin(["agrees", "contradicts"])
    assert (decided == (family.p_adjusted < 0.05)).all()
    np.testing.assert_allclose(family.p_adjusted, multipletests(family.p.fillna(1), method="holm")[1])
    assert table[table.runs == 0].p_adjusted.isna().all()
    assert table[table.verdict != "open"].runs_needed.isna().all()


def test_comparison_text_counts_the_verdicts_first(p, weights):
    write_all(p)
    stated = claims.save(Study(p, KEY), weights)
    assert len(stated) == len(thesis.CLAIMS)
    text = (style.folder(p) / "comparison.md").read_text()
    table = claims.claims(Study(p, KEY), weights)
    assert text.startswith("# Simulated survey: comparison with the thesis\n")
    n = table.verdict.value_counts()
    first = next(line for line in text.splitlines() if line.startswith("**"))
    assert first.startswith(f"**{len(thesis.CLAIMS)} claims (agrees: {n['agrees']}, ")
    assert n.sum() == len(thesis.CLAIMS) and f"no run: {n['no run']}" in first and "nan" not in text
    assert text.index(first) < text.index("| section")
    lines = {line.split("|")[2].strip(): line for line in text.splitlines() if line.count("|") == 11}
    assert f"{RUNS}" in lines[f"accuracy: {BCE} > {F_BETA}"] and "+0.088" in lines[f"accuracy: {BCE} > {F_BETA}"]
    assert "thesis 0.898 ± 0.008" in text and "no run; thesis 0.935 ± 0.016" in text
    for unpaired in thesis.UNPAIRED:
        assert unpaired.words in text
    folder = style.folder(p)
    assert len(pd.read_csv(folder / "comparison_claims.csv")) == len(thesis.CLAIMS)
    assert len(pd.read_csv(folder / "comparison_numbers.csv")) == 44


def test_comparison_names_a_data_folder_and_not_the_simulation(p, weights, tmp_path):
    p = p.model_copy(update={"data": tmp_path / "kids"})
    text = claims.markdown(p, claims.published(Study(p, KEY), weights), claims.claims(Study(p, KEY), weights))
    assert text.startswith("# Stamps of kids: comparison with the thesis") and "Simulated" not in text
    assert f"**{len(thesis.CLAIMS)} claims (no run: {len(thesis.CLAIMS)})**" in text
