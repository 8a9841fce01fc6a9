"""Noise, fractions and explained deviance against simulations of known truth, scikit-learn and brute force."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from lensdet.chapters.information import detection_model, selection_function
from lensdet.chapters.information.selection_function import HALF_NORMAL
from lensdet.data import frozen_sets, mocklens
from lensdet.study import Study

SKY = np.random.default_rng(0).normal(0, 2e-12, (20, 101, 101))
Y, X = np.mgrid[-50:51, -50:51]


def simulated(n=1500, seed=0, lrgs=100, slopes=(2.0, 0, 0, 0, 0), lrg_effect=0.0, intercept=0.5):
    """Parameters, detections and LRGs, where the logit of a detection is a line in the standardised parameters."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 5))
    lrg = rng.permutation(np.arange(n) % lrgs)
    logit = z @ slopes + intercept + lrg_effect * rng.normal(size=lrgs)[lrg]
    return pd.DataFrame(z, columns=list(detection_model.NAMES)), rng.random(n) < expit(logit), lrg


# ---- noise


@pytest.mark.parametrize("estimate", [selection_function.negative_noise, selection_function.clipped_noise])
def test_noise_of_a_gaussian_sky_is_sigma(estimate):
    assert estimate(SKY).mean() == pytest.approx(2e-12, rel=0.01)
    np.testing.assert_allclose(estimate(SKY), 2e-12, rtol=0.05)
    # a float32 stamp has squares below the smallest float32
    np.testing.assert_allclose(estimate(SKY.astype(np.float32)), estimate(SKY), rtol=1e-5)


@pytest.mark.parametrize("estimate", [selection_function.negative_noise, selection_function.clipped_noise])
def test_noise_estimate_hardly_changes_with_a_bright_galaxy(estimate):
    galaxy = 4e-10 * np.exp(-(X**2 + Y**2) / (2 * 5**2))
    np.testing.assert_allclose(estimate(SKY + galaxy), estimate(SKY), rtol=0.05)
    assert np.std(SKY + galaxy) > 10 * 2e-12


def test_noise_of_the_published_code_is_1_66_times_that_of_the_text():
    text, code = (selection_function.negative_noise(SKY, protocol) for protocol in ("text", "code"))
    np.testing.assert_allclose(code / text, 1.659, rtol=1e-3)
    # what the factor is right for: the standard deviation of the absolute values
    assert np.abs(SKY).std() * HALF_NORMAL == pytest.approx(2e-12, rel=0.01)
    with pytest.raises(ValueError, match="protocol"):
        selection_function.negative_noise(SKY, "both")


def test_a_stamp_without_negative_pixels_has_no_negative_noise():
    found = selection_function.negative_noise(np.stack([np.ones((9, 9)), -np.ones((9, 9))]))
    np.testing.assert_array_equal(found, [np.nan, 1])


stamps = arrays(np.float64, (2, 7, 7), elements=st.floats(-100, 100).map(lambda x: round(x, 3)))


@settings(deadline=None, max_examples=50)
@given(stamps, st.integers(-20, 20))
def test_noise_estimate_scales_with_the_pixel_values(pixels, power):
    for estimate in (selection_function.negative_noise, selection_function.clipped_noise):
        # a power of two, so that rounding does not clip another pixel
        np.testing.assert_array_equal(estimate(pixels * 2.0**power), estimate(pixels) * 2.0**power)


# ---- area fractions


def test_area_fraction_equals_a_count_of_pixels():
    rng = np.random.default_rng(1)
    source = rng.random((600, 11, 11)).astype(np.float16)  # more than a chunk
    alpha, limit = rng.uniform(0.02, 0.3, (2, 600))
    found = selection_function.area_fraction(source, alpha, limit)
    for i in (0, 511, 512, 599):
        count = sum(np.float32(alpha[i]) * np.float32(pixel) >= limit[i] for pixel in source[i].ravel())
        assert found[i] == count / 121
    one = np.ones((2, 3, 3))
    np.testing.assert_array_equal(selection_function.area_fraction(one, [0.5, 0.5], [0.5, 0.50001]), [1, 0])


def test_area_fraction_equals_that_of_the_truth_table(smoke, smoke_bank):
    rows = frozen_sets.frozen_rows(smoke, "information", mocklens.sizes(smoke_bank, "test"))
    truth = frozen_sets.truth(smoke_bank, "test", rows)
    source = smoke_bank.pixels("source", "test")[rows["source"]]
    found = selection_function.area_fraction(source, rows["alpha"], 2 * truth["noise"] / truth["maximum"])
    np.testing.assert_allclose(found, truth["area_fraction"], atol=1.5 / 101**2)


@pytest.mark.parametrize("name", ["information", "validation"])
def test_area_fractions_of_a_frozen_set_equal_direct_counts(smoke, smoke_bank, name):
    split = frozen_sets.FROZEN[name]
    rows = frozen_sets.frozen_rows(smoke, name, mocklens.sizes(smoke_bank, split))
    truth = frozen_sets.truth(smoke_bank, split, rows).query("label == 1").reset_index()
    found = selection_function.fractions(smoke, name)
    assert len(found) == len(truth) and list(found) == ["negative", "clipped", "code"]
    lrg, source = (smoke_bank.pixels(cls, split).astype(np.float64) for cls in ("lrg", "source"))
    catalogue = smoke_bank.catalogue("lrg", split)
    for i in (0, 5, len(truth) - 1):
        low, high = (float(catalogue[c][rows["stamp"][i]]) for c in ("minimum", "maximum"))
        raw = lrg[rows["stamp"][i]] * (high - low) + low
        sigma = np.sqrt(np.mean(raw[raw < 0] ** 2))
        scaled = source[rows["source"][i]] * rows["alpha"][i] * high
        for column, limit in (("negative", 2 * sigma), ("code", 2 * 1.6589 * sigma)):
            assert found[column][i] == pytest.approx(np.mean(scaled >= limit), abs=2.5 / 101**2)
    # the truth table's noise is the MAD of all pixels, LRG included: a little higher
    assert np.all(truth["area_fraction"] <= found["clipped"] + 1e-4)
    assert np.abs(truth["area_fraction"] - found["clipped"]).mean() < 0.2 * found["clipped"].mean()
    assert np.all(found["code"] <= found["negative"])
    strict = selection_function.fractions(smoke, name, k=2 * HALF_NORMAL)
    np.testing.assert_allclose(strict["negative"], found["code"], atol=1e-9)


def test_kept_area_fractions_equal_new_ones_and_are_computed_once(smoke, smoke_bank, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    for name in ("test", "information"):
        found = selection_function.kept_fractions(Study(smoke, smoke_bank.data_key), name)
        pd.testing.assert_frame_equal(found, selection_function.fractions(smoke, name), check_exact=True)
    monkeypatch.setattr(selection_function, "fractions", None)  # would fail
    assert selection_function.kept_fractions(Study(smoke, smoke_bank.data_key), "information").equals(found)


# ---- bins, rates, limits


def test_area_fraction_bins_are_those_of_the_thesis():
    fraction = np.array([0.0, 0.02, 0.29])
    edges = selection_function.bins(fraction)
    width = (fraction.max() + 0.01) / 30
    np.testing.assert_allclose(edges, [i * width for i in range(31)])
    assert edges[-1] > fraction.max()


def test_detection_rates_are_counts_with_exact_intervals():
    table = selection_function.rates([0, 0.5, 0.5, 0.9, 2.5, 7], [1, 0, 1, 0, 1, 1], [0, 0.5, 1, 2, 3])
    assert table["n"].tolist() == [1, 3, 0, 1] and table["detected"].tolist() == [1, 1, 0, 1]
    assert table["edge"].tolist() == [0, 0.5, 1, 2]
    np.testing.assert_allclose(table["tpr"], [1, 1 / 3, np.nan, 1])
    assert table[["low", "high"]].iloc[1].tolist() == pytest.approx([beta.ppf(0.025, 1, 3), beta.ppf(0.975, 2, 2)])
    assert table[["low", "high"]].iloc[2].isna().all()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=60))
def test_area_fraction_of_full_detection_equals_brute_force(lenses):
    values, detected = np.array([v for v, _ in lenses]) / 300, np.array([d for _, d in lenses])
    found = selection_function.full_above(values, detected)
    misses = [v for v, d in zip(values, detected, strict=True) if not d]
    above = [v for v in values if not misses or v > max(misses)]
    assert found.above == len(above)
    np.testing.assert_equal(found.missed, max(misses) if misses else np.nan)
    assert found.miss_rate_high == pytest.approx(1 - 0.025 ** (1 / len(above)) if above else 1)
    edges = selection_function.bins(values)
    bars = [(left, detected[(left <= values) & (values < right)]) for left, right in pairwise(edges)]
    bars = [(left, bar) for left, bar in bars if len(bar)]
    full = [left for i, (left, _) in enumerate(bars) if all(bar.all() for _, bar in bars[i:])]
    np.testing.assert_equal(found.edge, full[0] if full else np.nan)


def test_selection_function_counts_every_lens():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"einstein_radius": rng.uniform(1, 5, 400), "area_fraction": rng.exponential(0.02, 400)})
    table.iloc[0] = 0.4, 0.0  # beyond the survey's range
    detected = rng.random(400) < 0.7
    cells = selection_function.selection_function(table, detected)
    assert len(cells) == 8 * 7 and cells["n"].sum() == 400 and cells["detected"].sum() == detected.sum()
    for _, cell in cells.sample(20, random_state=0).iterrows():
        here = table["einstein_radius"].between(cell.radius_low, cell.radius_high, inclusive="left") & table[
            "area_fraction"
        ].between(cell.fraction_low, cell.fraction_high, inclusive="left")
        assert cell.n == here.sum() and cell.detected == detected[here].sum()
        if cell.n:
            assert cell.rate == pytest.approx(cell.detected / cell.n) and cell.low <= cell.rate <= cell.high
        else:
            assert np.isnan([cell.rate, cell.low, cell.high]).all()
    assert (cells["n"] == 0).any()
    own = selection_function.selection_function(
        table.rename(columns={"area_fraction": "f"}), detected, [1, 2], [0, 1], "f"
    )
    assert own["n"].tolist() == [table["einstein_radius"].between(1, 2).sum()]
    survey = selection_function.selection_function(table[1:], detected[1:])
    assert survey["radius_low"].min() == 1 and survey["radius_high"].max() == 5


# ---- deviance


def test_lensing_parameters_come_from_the_truth_table(smoke, smoke_bank):
    rows = frozen_sets.frozen_rows(smoke, "information", mocklens.sizes(smoke_bank, "test"))
    truth = frozen_sets.truth(smoke_bank, "test", rows)
    found = detection_model.lensing_parameters(truth)
    assert list(found) == list(detection_model.NAMES) and len(found) == 32
    np.testing.assert_allclose(np.exp(found["lens_snr"]), truth["maximum"] / truth["noise"], rtol=1e-5)
    np.testing.assert_allclose(np.exp(found["einstein_radius"]), truth["einstein_radius"])
    real = truth.drop(columns=["neighbours", "einstein_radius"]).assign(source_radius=np.nan)
    assert list(detection_model.lensing_parameters(real)) == ["alpha", "lens_snr"]
    with pytest.raises(ValueError, match="negatives"):
        detection_model.lensing_parameters(truth.assign(label=[0] + 31 * [1]))


@pytest.mark.parametrize("runs", [1, 3])
def test_explained_deviance_equals_scikit_learn(runs):
    table, _, lrg = simulated(300)
    detected = np.stack([simulated(300, seed)[1] for seed in range(runs)])
    fraction = expit(table["alpha"] - 3)
    found = detection_model.explained(table, detected, fraction, lrg, draws=20).set_index("model")["explained"]
    for name, columns in (("parameters", table), ("fraction", np.log(fraction + 1 / 10201).to_frame())):
        p = detection_model.held_out(columns, detected, lrg)
        every, each = detected.ravel(), np.tile(p, runs)
        assert found[name] == pytest.approx(
            1 - log_loss(every, each) / log_loss(every, np.full(300 * runs, every.mean()))
        )
    assert found["difference"] == pytest.approx(found["parameters"] - found["fraction"])


def test_held_out_predictions_equal_a_logistic_regression():
    table, detected, lrg = simulated(200, lrgs=2)  # two LRGs, thus two folds
    found = detection_model.held_out(table, detected, lrg)
    for test in (lrg == 0, lrg == 1):
        scale = StandardScaler().fit(table[~test])
        z = [np.hstack([s, s**2]) for s in (scale.transform(table[part]) for part in (~test, test))]
        p = LogisticRegression(C=1, max_iter=1000).fit(z[0], detected[~test]).predict_proba(z[1])[:, 1]
        np.testing.assert_allclose(found[test], p, atol=1e-3)


def test_no_lrg_is_in_both_training_and_held_out_folds():
    # detections that only the LRG decides, which the column gives away to whoever has seen it
    _, detected, lrg = simulated(600, lrgs=60, slopes=np.zeros(5))
    detected = np.random.default_rng(3).random(60)[lrg] < 0.5
    codes = np.random.default_rng(4).normal(size=(60, 8))[lrg]
    p = detection_model.held_out(codes, detected, lrg)
    assert 1 - log_loss(detected, p) / log_loss(detected, np.full(600, detected.mean())) < 0
    apart = detection_model.held_out(codes, detected, np.arange(600))
    assert log_loss(detected, apart) < log_loss(detected, p)


def test_importance_finds_the_one_parameter_that_decides():
    table, detected, lrg = simulated()
    found = detection_model.importance(table, detected, table.columns, lrg)
    assert found["feature"][0] == "alpha" and sorted(found["feature"]) == sorted(table.columns)
    assert found["low"][0] > 0.2 and found["lead_low"][0] > 0.2
    assert np.all(found["low"][1:] < 0.002) and np.all(found["importance"][1:].abs() < 0.01)
    assert np.all(found["low"] <= found["importance"]) and np.all(found["importance"] <= found["high"])
    assert np.all(np.diff(found["importance"]) <= 0)
    np.testing.assert_allclose(found["lead"][:-1], -np.diff(found["importance"]))
    assert found["lead"].isna().tolist() == 4 * [False] + [True]
    assert found["images"][0] == 1500 and found["detected"][0] == detected.mean()


def test_importance_is_a_loss_of_explained_deviance():
    table, detected, lrg = simulated(slopes=(1.5, 1.0, 0, 0, 0))
    found = detection_model.importance(table, detected, table.columns, lrg, draws=20).set_index("feature")["importance"]
    fraction = np.ones(len(table))
    full, without = (
        detection_model.explained(t, detected, fraction, lrg, draws=20)["explained"][0]
        for t in (table, table.drop(columns="einstein_radius"))
    )
    assert found["einstein_radius"] == pytest.approx(full - without)
    alone = detection_model.importance(table, detected, ["alpha"], lrg, draws=20)
    assert len(alone) == 1 and alone["importance"][0] > 0.1


def test_two_equal_parameters_have_no_importance_of_their_own():
    table, detected, lrg = simulated()
    table["lens_snr"] = table["alpha"]
    found = detection_model.importance(table, detected, table.columns, lrg, draws=100).set_index("feature")
    assert found["importance"].abs().max() < 0.01
    assert detection_model.explained(table, detected, np.ones(1500), lrg, draws=20)["explained"][0] > 0.2


def test_importance_intervals_resample_lrgs_and_not_images():
    # 40 LRGs, each in 25 mock lenses, with a parameter that is the LRG's and an effect that no parameter knows
    rng, lrg = np.random.default_rng(5), np.repeat(np.arange(40), 25)
    parameter, effect = rng.normal(size=(2, 40))[:, lrg]
    table, detected = pd.DataFrame({"lens_snr": parameter}), rng.random(1000) < expit(2 * parameter + 2 * effect)
    null = detection_model.deviance(detected, np.full(1000, detected.mean()))
    taken = null - detection_model.deviance(detected, detection_model.held_out(table, detected, lrg))
    (_, *by_lrg), (_, *by_image) = (
        detection_model._intervals([taken], null, groups, 2000, 0)[0] for groups in (lrg, np.arange(1000))
    )
    assert np.ptp(by_lrg) > 2 * np.ptp(by_image)
    found = detection_model.importance(table, detected, ["lens_snr"], lrg)
    assert found[["low", "high"]].to_numpy().ravel() == pytest.approx(by_lrg)
    # the delta method: residuals summed by LRG
    ratio = taken.sum() / null.sum()
    error = np.sqrt(np.sum(np.bincount(lrg, taken - ratio * null) ** 2)) / null.sum()
    assert np.ptp(by_lrg) == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize("share", [0, 1, "few", "one LRG"])
def test_too_few_missed_or_found_lenses_give_no_numbers(share):
    table, _, lrg = simulated(32, lrgs=6)
    detected = {0: np.zeros(32), 1: np.ones(32), "few": np.arange(32) < 9, "one LRG": np.arange(32) < 16}[share]
    groups = np.zeros(32) if share == "one LRG" else lrg
    most = detection_model.importance(table, detected, table.columns, groups, draws=10)
    d2 = detection_model.explained(table, detected, np.linspace(0, 0.1, 32), groups, draws=10)
    assert most[["importance", "low", "high", "lead"]].isna().all(axis=None) and len(most) == 5
    assert d2[["explained", "low", "high"]].isna().all(axis=None)


def test_importance_is_finite_for_a_small_set_and_opposite_runs():
    table, detected, lrg = simulated(32, lrgs=6)
    detected = np.stack([detected, ~detected, detected])
    most = detection_model.importance(table, detected, table.columns, lrg, draws=50)
    d2 = detection_model.explained(table, detected, np.linspace(0, 0.1, 32), lrg, draws=50)
    assert np.isfinite(most["importance"]).all() and np.isfinite(d2["explained"]).all()


def test_explained_deviance_is_finite_for_separable_detections():
    table, _, lrg = simulated(200)
    detected = table["alpha"] > 0
    found = detection_model.explained(table, detected, np.exp(table["alpha"]), lrg, draws=50)
    assert np.isfinite(found[["explained", "low", "high"]]).all(axis=None) and found["explained"][0] > 0.7
