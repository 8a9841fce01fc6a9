"""Mock lenses against Eq. 4.2 written out; the draws by their promises; and what must not tell the classes apart."""

import hashlib

import keras
import numpy as np
import pandas as pd
import pytest
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, chisquare, kstest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lensdet import parameters, storage
from lensdet.data import bank, frozen_sets, maxtree, mocklens, stamps

P = parameters.resolve({"profile": "quick"})
SIZE = mocklens.Sizes(551, 608, 10_000)  # LRGs, contaminants, sources of a thesis' test split


def merge(hosts, sources, stamp, source, alpha):
    """`mocklens.merge` as NumPy, (N, 101, 101)."""
    alpha = np.asarray(alpha, np.float32)
    merged = mocklens.merge(hosts, sources, np.asarray(stamp), np.asarray(source), alpha)
    return keras.ops.convert_to_numpy(merged)[..., 0]


# ---- Eq. 4.2


def test_without_a_source_a_mock_lens_is_its_lrg_bit_for_bit(smoke_bank):
    hosts, sources = mocklens.device_bank(smoke_bank, "train")
    lrgs = np.arange(smoke_bank.count("lrg", "train"))
    none = np.zeros(len(lrgs), np.float32)
    mock = merge(hosts, sources, lrgs, lrgs[::-1], none)
    negative = merge(hosts, sources, lrgs, np.zeros_like(lrgs), none)
    assert mock.tobytes() == negative.tobytes()
    assert mock.tobytes() == np.sqrt(smoke_bank.pixels("lrg", "train").astype(np.float32)).tobytes()


def test_normalised_again_every_stamp_spans_0_to_1_and_keeps_its_arc(smoke_bank):
    hosts, sources = mocklens.device_bank(smoke_bank, "train")
    which, alpha = np.arange(40), np.linspace(0.02, 0.3, 40, dtype=np.float32)
    ours = keras.ops.convert_to_numpy(mocklens.merge(hosts, sources, which, which, alpha, renormalise=True))[..., 0]
    assert (ours.min((1, 2)) == 0).all() and (ours.max((1, 2)) == 1).all()
    sums = hosts[:40].astype(float) + alpha[:, None, None] * sources[:40].astype(float)
    low, high = sums.min((1, 2))[:, None, None], sums.max((1, 2))[:, None, None]
    np.testing.assert_allclose(ours, np.sqrt((sums - low) / (high - low)), atol=2e-6)
    np.testing.assert_allclose(ours, mocklens.merged(hosts[:40], sources[:40], alpha, renormalise=True), atol=1e-6)
    plain = merge(hosts, sources, which, which, 0 * alpha)
    again = keras.ops.convert_to_numpy(mocklens.merge(hosts, sources, which, which, 0 * alpha, renormalise=True))
    np.testing.assert_array_equal(again[..., 0], plain)  # a negative has been normalised


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32))
def test_pairs_have_like_psfs(n_source, seed):
    rng = np.random.default_rng(seed)
    seeing, source_seeing = np.exp(rng.uniform(np.log(0.5), np.log(1.4), (2, 400)))
    found = mocklens.pairs(rng, seeing, source_seeing[:n_source])
    assert found.min() >= 0 and found.max() < n_source
    if n_source == 300:
        ratio = source_seeing[found] / seeing
        assert 0.85 < np.quantile(ratio, 0.02) and np.quantile(ratio, 0.98) < 1.18


def test_every_source_is_drawn_where_there_are_many_hosts():
    rng = np.random.default_rng(0)
    source_seeing = np.exp(rng.uniform(np.log(0.5), np.log(1.4), 200))
    seeing = np.exp(rng.uniform(np.log(0.5), np.log(1.4), 20_000))
    counts = np.bincount(mocklens.pairs(rng, seeing, source_seeing), minlength=200)
    assert counts.min() > 0 and counts.max() < 400  # 100 is the mean


def test_mock_lenses_of_the_broad_survey_are_paired_by_their_psf():
    rng = np.random.default_rng(1)
    size = mocklens.Sizes(500, 500, 4000, *(np.exp(rng.uniform(np.log(0.5), np.log(1.4), n)) for n in (500, 4000)))
    rows = mocklens.training_rows(P, 1, 0, size)[0]
    rows = np.concatenate([rows, frozen_sets.frozen_rows(P, "test", size)])
    lenses = rows[rows["label"] == 1]
    ratio = size.source_seeing[lenses["source"]] / size.seeing[lenses["stamp"]]
    assert np.abs(np.log(ratio)).max() < 0.15
    negatives = rows[rows["label"] == 0]
    assert (negatives["alpha"] == 0).all() and negatives["stamp"].max() >= 500


halves = arrays(np.float16, (2, 3, 3), elements=st.floats(0, 1, width=16))


@settings(max_examples=50, deadline=None)
@given(halves, halves, st.floats(0, 0.5, width=32))
def test_merge_equals_equation_4_2(hosts, sources, alpha):
    merged = merge(hosts, sources, [1, 0, 1], [0, 0, 1], [alpha, 0, alpha])
    for n, (stamp, source, a) in enumerate([(1, 0, alpha), (0, 0, 0.0), (1, 1, alpha)]):
        for i in range(3):
            for j in range(3):
                lens, light = float(hosts[stamp, i, j]), float(sources[source, i, j])
                expected = min(max(np.sqrt(lens + a * light), 0.0), 1.0)
                assert merged[n, i, j] == pytest.approx(expected, abs=1e-6)
    assert merged.dtype == np.float32 and merged.min() >= 0 and merged.max() <= 1


@settings(max_examples=50, deadline=None)
@given(halves, halves, arrays(np.float32, 2, elements=st.floats(0, 0.5, width=32)))
def test_merge_in_numpy_equals_equation_4_2_bit_for_bit(hosts, sources, alpha):
    """Bit for bit, written out by stamp; alpha decides the type."""
    host, light = hosts.astype(np.float32), sources.astype(np.float32)
    for alpha_of_type in (alpha, alpha.astype(float) / 3):
        found, cut = (f(hosts, sources, alpha_of_type) for f in (mocklens.added, mocklens.merged))
        assert found.dtype == cut.dtype == alpha_of_type.dtype
        for i, a in enumerate(alpha_of_type):
            assert found[i].tobytes() == (host[i] + a * light[i]).tobytes()
            assert cut[i].tobytes() == np.clip(np.sqrt(host[i] + a * light[i]), 0, 1).tobytes()
            assert mocklens.added(hosts[i], sources[i], a).tobytes() == found[i].tobytes()  # of one stamp as of many


def test_merged_pixels_above_one_are_clipped_and_not_normalised(smoke_bank):
    hosts, sources = mocklens.device_bank(smoke_bank, "train")
    merged = merge(hosts, sources, [0], [0], [0.3])[0]
    direct = hosts[0].astype(float) + np.float32(0.3) * sources[0].astype(float)
    np.testing.assert_allclose(merged, np.sqrt(np.minimum(direct, 1)), atol=1e-6)
    bright = np.full((1, 101, 101), 0.9, np.float16)
    assert np.all(merge(bright, bright, [0], [0], [0.3]) == 1)


def test_images_of_rows_equal_their_merged_stamps(smoke, smoke_bank):
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    hosts, sources = mocklens.device_bank(smoke_bank, "test")
    shown = mocklens.images(smoke_bank, "test", rows)
    assert shown.shape == (len(rows), 101, 101, 1)
    expected = merge(hosts, sources, rows["stamp"], rows["source"], rows["alpha"])
    np.testing.assert_array_equal(shown[..., 0], expected)


# ---- training rows


def test_training_rows_are_half_lenses_with_alphas_in_range():
    rows, warps = mocklens.training_rows(P, 1, 0, SIZE)
    assert len(rows) == len(warps) == P.chunk_size and warps.dtype == np.float32
    positive = rows["label"] == 1
    assert positive.sum() == P.chunk_size // 2
    assert not np.all(positive[: P.chunk_size // 2])  # shuffled
    lenses, negatives = rows[positive], rows[~positive]
    assert lenses["stamp"].min() >= 0 and lenses["stamp"].max() < SIZE[0]
    assert lenses["source"].min() >= 0 and lenses["source"].max() < SIZE[2]
    assert P.alpha[0] <= lenses["alpha"].min() and lenses["alpha"].max() <= P.alpha[1]
    assert np.all(negatives["alpha"] == 0) and np.all(negatives["label"] == 0)
    assert negatives["stamp"].min() >= 0 and negatives["stamp"].max() < SIZE[0] + SIZE[1]


def test_training_rows_draw_stamps_sources_and_alphas_uniformly():
    rows = np.concatenate([mocklens.training_rows(P, 1, chunk, SIZE)[0] for chunk in range(40)])
    lenses, negatives = rows[rows["label"] == 1], rows[rows["label"] == 0]
    contaminant = negatives["stamp"] >= SIZE[0]
    n = len(negatives)
    assert abs(contaminant.mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / n)  # binomial
    for drawn, size in (
        (lenses["stamp"], SIZE[0]),
        (negatives["stamp"][contaminant] - SIZE[0], SIZE[1]),
        (negatives["stamp"][~contaminant], SIZE[0]),
        (lenses["source"] // 100, SIZE[2] // 100),
    ):
        assert chisquare(np.bincount(drawn, minlength=size)).pvalue > 0.001
    assert kstest(lenses["alpha"], "uniform", (P.alpha[0], np.ptp(P.alpha))).pvalue > 0.01
    # lens and source are drawn apart
    assert abs(np.corrcoef(lenses["stamp"], lenses["source"])[0, 1]) < 4 / np.sqrt(len(lenses))


def test_training_rows_depend_only_on_seed_run_and_chunk():
    """The same for every loss and network, others for every seed, run and chunk."""
    rows, warps = mocklens.training_rows(P, 2, 5, SIZE)
    same = P.model_copy(update={"experiments": ("f1",), "beta": 3.0, "width": 16, "learning_rate": 0.5, "data_seed": 9})
    for _ in range(2):  # and whatever was drawn before
        again, warps_again = mocklens.training_rows(same, 2, 5, SIZE)
        assert rows.tobytes() == again.tobytes() and warps.tobytes() == warps_again.tobytes()
        mocklens.training_rows(P, 2, 6, SIZE)
    for p, run, chunk in ((P.model_copy(update={"seed": 1}), 2, 5), (P, 3, 5), (P, 2, 6), (P, 5, 2)):
        other, warps_other = mocklens.training_rows(p, run, chunk, SIZE)
        assert np.mean(other["stamp"] == rows["stamp"]) < 0.02 and np.mean(warps_other == warps) < 0.02


# ---- frozen sets


def test_frozen_sets_depend_on_the_data_seed_alone():
    for name in frozen_sets.FROZEN:
        rows = frozen_sets.frozen_rows(P, name, SIZE)
        update = {
            "seed": 4,
            "width": 16,
            "experiments": ("f1",),
            "chunk_size": 64,
            "runs": 1,
            "beta": 2.0,
            "shift": 0.0,
        }
        assert rows.tobytes() == frozen_sets.frozen_rows(P.model_copy(update=update), name, SIZE).tobytes()
        other = frozen_sets.frozen_rows(P.model_copy(update={"data_seed": 1}), name, SIZE)
        assert np.mean(other["alpha"] == rows["alpha"]) < 0.52  # the zeros of the negatives
    validation, test = (frozen_sets.frozen_rows(P, name, SIZE) for name in ("validation", "test"))
    assert np.mean(validation["stamp"] == test["stamp"]) < 0.02
    redrawn = [frozen_sets.frozen_rows(P, "validation", SIZE, (0, 1, chunk)) for chunk in (1, 2)]
    for one, two in ((redrawn[0], redrawn[1]), (redrawn[0], validation)):
        assert np.mean(one["stamp"] == two["stamp"]) < 0.02


def test_frozen_sets_have_the_sizes_of_the_thesis():
    for name in ("validation", "calibration", "test"):
        rows = frozen_sets.frozen_rows(P, name, SIZE)
        assert len(rows) == 1102 and list(rows["label"]) == [1] * 551 + [0] * 551
        contaminants = np.mean(rows["stamp"][551:] >= SIZE[0])
        assert abs(contaminants - 0.8) < 4 * np.sqrt(0.16 / 551)
    rows = frozen_sets.frozen_rows(P, "information", SIZE)
    assert len(rows) == 2000 and np.all(rows["label"] == 1) and rows["stamp"].max() < SIZE[0]


def test_no_stamp_is_drawn_twice_in_the_test_set():
    rows = frozen_sets.frozen_rows(P, "test", SIZE)
    lenses, negatives = rows[:551], rows[551:]
    for drawn in (lenses["stamp"], lenses["source"], negatives["stamp"]):
        assert len(set(drawn)) == len(drawn)
    assert set(lenses["stamp"]) == set(range(SIZE[0]))  # every LRG is a lens once


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 3).map(lambda n: mocklens.Sizes(*n)),
    st.sampled_from(["test", "information"]),
    st.integers(1, 60),
)
def test_no_stamp_is_drawn_twice_before_all_are_drawn_once(size, name, n):
    p = P.model_copy(update={"frozen_size": n, "information_size": n})
    rows = frozen_sets.frozen_rows(p, name, size)
    lenses, negatives = rows[rows["label"] == 1], rows[rows["label"] == 0]
    contaminant = negatives["stamp"] >= size[0]
    for drawn, total in (
        (lenses["stamp"], size[0]),
        (lenses["source"], size[2]),
        (negatives["stamp"][~contaminant], size[0]),
        (negatives["stamp"][contaminant] - size[0], size[1]),
    ):
        counts = np.bincount(drawn, minlength=total)
        assert len(counts) == total and np.ptp(counts) <= 1


# ---- the truth table


@pytest.fixture(scope="module")
def table(smoke, smoke_bank):
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    return rows, frozen_sets.truth(smoke_bank, "test", rows)


def test_truth_table_describes_stamp_and_source_of_each_row(table, smoke_bank):
    rows, truth = table
    assert len(truth) == len(rows) and truth.columns.is_unique
    known = {"label", "host", "kind", "stamp_id", "source_id", "alpha", "noise", "minimum", "maximum", "neighbours"}
    assert known | {"area_fraction", *stamps.KEYWORDS.values()} <= set(truth.columns)
    n_lrg = smoke_bank.count("lrg", "test")
    np.testing.assert_array_equal(truth["host"] == "lrg", rows["stamp"] < n_lrg)
    assert np.all((truth["kind"] == "lrg") == (truth["host"] == "lrg"))
    catalogues = {cls: smoke_bank.catalogue(cls, "test") for cls in bank.CLASSES}
    for row, (_, line) in zip(rows, truth.iterrows(), strict=True):
        assert line["label"] == row["label"] and line["alpha"] == row["alpha"]
        first = 0 if line["host"] == "lrg" else n_lrg
        stamp = catalogues[line["host"]].iloc[row["stamp"] - first]
        assert (line["stamp_id"], line["noise"]) == (stamp["id"], stamp["noise"])
        if row["label"]:
            source = catalogues["source"].iloc[row["source"]]
            assert line["source_id"] == source["id"] and line["einstein_radius"] == source["einstein_radius"]


def test_negatives_in_the_truth_table_have_no_source(table):
    _, truth = table
    of_source = ["source_id", "area_fraction", *stamps.KEYWORDS.values()]
    assert truth.loc[truth["label"] == 0, of_source].isna().all(axis=None)
    assert truth.loc[truth["label"] == 1, of_source].notna().all(axis=None)


def test_area_fraction_is_the_area_above_the_noise(table, smoke_bank):
    """In the units of the file, as section 5.3 has it: alpha s max(l), with s of maximum 1, over twice the noise."""
    rows, truth = table
    sources = smoke_bank.pixels("source", "test").astype(float)
    for row, (_, line) in zip(rows, truth.iterrows(), strict=True):
        if row["label"]:
            flux = float(row["alpha"]) * sources[row["source"]] * line["maximum"]
            # a pixel at the limit may fall on either side of it
            assert line["area_fraction"] == pytest.approx(np.mean(flux >= 2 * line["noise"]), abs=1.1 / 10201)
    fraction = truth["area_fraction"].dropna()
    assert fraction.between(0, 0.5).all() and fraction.max() > 0.005


def test_truth_tables_are_written_once(smoke, smoke_bank, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    frozen_sets.write_truth(smoke, smoke_bank)
    files = sorted(tmp_path.rglob("*.parquet"))
    assert [f.stem for f in files] == sorted(frozen_sets.FROZEN)
    assert {f.parent for f in files} == {storage.results_dir() / "smoke" / f"truth-{smoke_bank.data_key}"}
    before = [(f.read_bytes(), f.stat().st_mtime_ns) for f in files]
    frozen_sets.write_truth(smoke, smoke_bank)
    assert [(f.read_bytes(), f.stat().st_mtime_ns) for f in files] == before
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    read = pd.read_parquet(next(f for f in files if f.stem == "test"))
    np.testing.assert_allclose(read["alpha"], rows["alpha"], rtol=1e-7)
    assert list(read["label"]) == list(rows["label"])


# ---- the stamps of a frozen set alone


@pytest.mark.parametrize("name", ["test", "validation", "information"])
def test_a_frozen_set_is_the_same_from_a_partial_bank(smoke, smoke_bank, name, tmp_path, monkeypatch):
    """Same pixels, arcs and truth, from a bank of the stamps that it needs and no others."""
    split = frozen_sets.FROZEN[name]
    rows = frozen_sets.frozen_rows(smoke, name, mocklens.sizes(smoke_bank, split))
    opened, found = frozen_sets.frozen_bank(smoke, name)
    assert opened == smoke_bank and found.tobytes() == rows.tobytes()  # the whole bank is there
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path))
    few = smoke.model_copy(update={"frozen_size": 4, "information_size": 4})
    for p in (smoke, few):
        opened, found = frozen_sets.frozen_bank(p, name)
        rows = frozen_sets.frozen_rows(p, name, mocklens.sizes(smoke_bank, split))
        assert opened.path.parent.parent.parent == tmp_path and not bank.is_built(p)
        assert np.array_equal(mocklens.images(opened, split, found), mocklens.images(smoke_bank, split, rows))
        pd.testing.assert_frame_equal(
            frozen_sets.truth(opened, split, found), frozen_sets.truth(smoke_bank, split, rows), check_exact=True
        )
        mock, other = found[found["label"] == 1], rows[rows["label"] == 1]
        arcs = mocklens.arc_pixels(opened, split, mock), mocklens.arc_pixels(smoke_bank, split, other)
        assert np.array_equal(*arcs) and arcs[0].any()
    assert opened.count("source", split) <= 5 < smoke_bank.count("source", split)  # 4, and the one that negatives name
    assert frozen_sets.frozen_bank(few, name)[0] == opened


def test_the_large_test_set_shares_no_stamp_with_the_survey(smoke, smoke_bank):
    """The same for any number of stamps to train on; nothing of it is in the survey, in no split."""
    opened, rows = frozen_sets.frozen_bank(smoke, "large")
    assert rows["label"].sum() == smoke.large_size == len(rows) / 2
    for cls in bank.CLASSES:
        own = set(opened.catalogue(cls, "large")["id"])
        assert min(own) >= bank.FIRST_LARGE
        assert not own & {i for split in bank.SPLITS for i in smoke_bank.catalogue(cls, split)["id"]}
    truth = frozen_sets.truth(opened, "large", rows)
    assert (
        truth["source_id"].nunique() == smoke.large_size
    )  # none twice; LRGs are hosts and negatives, as in the test set
    assert (truth.groupby(["host", "stamp_id"])["label"].count() <= 2).all()
    other = smoke.model_copy(update={"n_lrg": 60, "n_source": 72, "n_contaminant": 80, "width": 16, "frozen_size": 8})
    again, same = frozen_sets.frozen_bank(other, "large")
    assert again.path != opened.path and frozen_sets.large_folder(other) == frozen_sets.large_folder(smoke)
    assert np.array_equal(mocklens.images(again, "large", same), mocklens.images(opened, "large", rows))
    for other in ({"alpha": (0.1, 0.2)}, {"hardness": 0.3}, {"large_size": 31}, {"data_seed": 1}):
        assert frozen_sets.large_folder(smoke.model_copy(update=other)) != frozen_sets.large_folder(smoke)


def test_the_large_test_set_in_blocks_equals_the_whole(smoke, monkeypatch):
    opened, rows = frozen_sets.frozen_bank(smoke, "large")
    whole = mocklens.images(opened, "large", rows)
    monkeypatch.setattr(frozen_sets, "BLOCK", 17)
    parts = [mocklens.merged(hosts[part["stamp"]], sources[part["source"]], part["alpha"])
             for part, hosts, sources in frozen_sets.blocks(opened, "large", rows)]  # fmt: skip
    assert len(parts) == 4 and np.array_equal(np.concatenate(parts), whole[..., 0])


def test_images_merged_in_numpy_equal_those_of_the_device(smoke, smoke_bank):
    opened, rows = frozen_sets.frozen_bank(smoke, "test")
    images = mocklens.images(opened, "test", rows)
    hosts, sources = mocklens.device_bank(opened, "test")
    merged = np.asarray(mocklens.merge(hosts, sources, rows["stamp"], rows["source"], rows["alpha"]))
    assert images.dtype == merged.dtype == np.float32 and images.shape == merged.shape
    np.testing.assert_allclose(images, merged, rtol=2e-7, atol=0)


# ---- shortcuts: the corners of the sky must not tell a contaminant from a mock lens


@pytest.fixture(scope="module")
def classes():
    """880 LRGs, contaminants and mock lenses of the quick survey, each stamp used once; (n, 101, 101), as trained on.

    That many give the area under the curve a standard error of 0.014: the gate is three and a half of them wide.
    """
    p = parameters.resolve({"profile": "quick", "n_lrg": 640, "n_source": 640, "n_contaminant": 640, "workers": 1})
    opened = bank.open_bank(p)
    lrg, contaminant, source = (
        np.concatenate([opened.pixels(cls, split) for split in bank.SPLITS]) for cls in ("lrg", "contaminant", "source")
    )
    each, none = np.arange(len(lrg)), np.zeros(len(lrg))
    alpha = np.random.default_rng(0).uniform(*p.alpha, len(lrg))
    return {
        "lrg": merge(lrg, source, each, each, none),
        "contaminant": merge(contaminant, source, each, each, none),
        "mock": merge(lrg, source, each, each, alpha),
    }


SKY = {
    "mean": lambda boxes: boxes.mean(2),
    "median": lambda boxes: np.median(boxes, 2),
    "sigma": lambda boxes: boxes.std(2),
    "deviation": lambda boxes: mad_std(boxes, axis=2),
    "low": lambda boxes: np.quantile(boxes, 0.05, axis=2),
    "high": lambda boxes: np.quantile(boxes, 0.95, axis=2),
}
EXTREMES = {"minimum": lambda boxes: boxes.min(2), "maximum": lambda boxes: boxes.max(2)}
CLASSIFIERS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    "gradient boosting": HistGradientBoostingClassifier(max_depth=3, learning_rate=0.05, max_iter=100),
}


def corner_sky(images, statistics, k=12):
    """Statistics of the four corner boxes, each sorted, for the corners are alike; (n, 4 per statistic)."""
    near, far = slice(k), slice(-k, None)
    boxes = np.stack([images[:, a, b].reshape(len(images), -1) for a in (near, far) for b in (near, far)], 1)
    return np.concatenate([np.sort(statistic(boxes), 1) for statistic in statistics.values()], 1)


def held_out_auc(one, other, classifier):
    """Area under the curve of five held-out folds together."""
    features, labels = np.concatenate([one, other]), np.repeat([1, 0], [len(one), len(other)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(CLASSIFIERS[classifier], features, labels, cv=folds, method="predict_proba")[:, 1]
    return roc_auc_score(labels, scores)


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_corner_sky_does_not_tell_contaminants_from_mocks(classes, classifier):
    mock, contaminant = (corner_sky(classes[name], SKY) for name in ("mock", "contaminant"))
    auc = held_out_auc(mock, contaminant, classifier)
    print(f"corner sky, contaminants against mocks, {classifier}: AUC {auc:.3f}")
    assert abs(auc - 0.5) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_corner_sky_does_not_tell_contaminants_from_lrgs(classes, classifier):
    """With the extremes: whatever these say of mocks is the merging's, not the survey's."""
    lrg, contaminant = (corner_sky(classes[name], SKY | EXTREMES) for name in ("lrg", "contaminant"))
    auc = held_out_auc(lrg, contaminant, classifier)
    print(f"corner sky and extremes, contaminants against LRGs, {classifier}: AUC {auc:.3f}")
    assert abs(auc - 0.5) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_only_the_darkest_pixel_tells_contaminants_from_mocks(classes, classifier):
    """The extremes as above, but for what is darker than any sky: 0.03, where the sky has some 0.17.

    Eq. 4.1 makes the darkest pixel of every LRG and contaminant exactly 0, and Eq. 4.2 adds the source's faint wings:
    one stamp in ten has that pixel in a corner.  It is measured in benchmarks/shortcuts.py and not corrected.
    """
    mock, contaminant = (
        corner_sky(np.maximum(classes[name], 0.03), SKY | EXTREMES) for name in ("mock", "contaminant")
    )
    auc = held_out_auc(mock, contaminant, classifier)
    print(f"corner sky and extremes above 0.03, contaminants against mocks, {classifier}: AUC {auc:.3f}")
    assert abs(auc - 0.5) < 0.05


@pytest.mark.parametrize("threads, renormalise", [(1, False), (3, False), (1, True)])
def test_masks_of_training_rows_equal_those_of_their_images(smoke, smoke_bank, threads, renormalise):
    chosen = maxtree.PRESETS["text"]._replace(tolerance=12)
    masks = mocklens.masker(chosen, *mocklens.device_bank(smoke_bank, "train"), renormalise, threads)
    rows = mocklens.training_rows(smoke, 1, 0, mocklens.sizes(smoke_bank, "train"))[0]
    pixels = mocklens.images(smoke_bank, "train", rows, renormalise)[..., 0]
    assert (masks(rows) == maxtree.masks(pixels, chosen)).all()
    assert (masks(rows[::-1][:5]) == masks(rows)[::-1][:5]).all()  # whatever the others are
    assert masks(rows[:0]).shape == (0, 101, 101)
    negatives = rows[rows["label"] == 0]
    assert (masks(negatives) == maxtree.masks(pixels[rows["label"] == 0], chosen)).all()


# ---- hosts of one's own

OWN = mocklens.Sizes(500, 300, 400, np.linspace(0.5, 1.4, 500), np.linspace(0.5, 1.4, 400), (40, 30))


def drawn(size, share, n=4000, name="training", **more):
    p = P.model_copy(update={"simulated_share": share, "chunk_size": 2 * n, "frozen_size": n, **more})
    if name == "training":
        return mocklens.training_rows(p, 1, 0, size)[0]
    return frozen_sets.frozen_rows(p, name, size)


def digest(size):
    rows = [mocklens.training_rows(P, run, chunk, size)[0] for run, chunk in ((1, 0), (2, 7))]
    rows += [frozen_sets.frozen_rows(P, name, size) for name in frozen_sets.FROZEN]
    return hashlib.sha256(np.concatenate(rows).tobytes()).hexdigest()


def test_without_hosts_of_ones_own_rows_are_those_of_committed_runs():
    assert digest(SIZE) == "b04abf878f8743400f302358a33fc62f21fff04656822c7a09b846aa77722a96"
    rng = np.random.default_rng(0)
    paired = SIZE._replace(seeing=rng.uniform(0.5, 1.4, 551), source_seeing=rng.uniform(0.5, 1.4, 10_000))
    assert digest(paired) == "5fe7d4ccece8906dd854f452785a52921c2307e85e10533416a7f106ad6e8626"


@pytest.mark.parametrize("name", ["training", "calibration"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_ones_own_stamps_have_their_share(share, name):
    rows = drawn(OWN, share, name=name)
    mocks, rest = rows[rows["label"] == 1], rows[rows["label"] == 0]
    lrg, contaminant = rest["stamp"][rest["stamp"] < 500], rest["stamp"][rest["stamp"] >= 500] - 500
    for stamps_drawn, ours, n in ((mocks["stamp"], 40, 500), (lrg, 40, 500), (contaminant, 30, 300)):
        assert stamps_drawn.min() >= 0 and stamps_drawn.max() < n
        simulated = int((stamps_drawn >= ours).sum())
        if share in (0.0, 1.0):
            assert simulated == share * len(stamps_drawn)
        else:
            assert binomtest(simulated, len(stamps_drawn), share).pvalue > 1e-4
        counts = np.bincount(stamps_drawn, minlength=n)
        for kind in (counts[:ours], counts[ours:]):  # all of a kind alike
            if name == "calibration":
                assert kind.max() - kind.min() <= 1  # nothing twice before all were once
            elif kind.mean() > 5:
                assert chisquare(kind).pvalue > 1e-4
    assert binomtest(len(contaminant), len(rest), P.contaminant_fraction).pvalue > 1e-4


def test_where_all_are_ones_own_or_none_is_the_share_does_not_count():
    rows = drawn(OWN._replace(lrg=40, contaminant=30, seeing=OWN.seeing[:40]), 0.9)
    assert rows["stamp"].max() < 70 and (rows["stamp"] < 40).any() and (rows["stamp"] >= 40).any()
    no_negatives = drawn(OWN._replace(own=(40, 0)), 0.0)
    contaminants = no_negatives["stamp"][no_negatives["stamp"] >= 500]
    assert len({*contaminants}) == 300


@pytest.mark.parametrize("name", ["training", "calibration"])
@pytest.mark.parametrize("graded", [1, 40, 100, 5000])
def test_graded_lenses_are_positives_without_a_source(graded, name):
    rows = drawn(OWN._replace(graded=graded), 0.5, name=name)
    lens = rows["stamp"] >= 800
    assert (rows["label"][lens] == 1).all() and (rows["alpha"][lens] == 0).all()
    assert rows["stamp"].max() < 800 + graded
    assert (rows["alpha"][(rows["label"] == 1) & ~lens] >= P.alpha[0]).all()
    assert binomtest(int(lens.sum()), int(rows["label"].sum()), min(0.25, graded / 400)).pvalue > 1e-4


def test_graded_lenses_leave_the_other_rows_as_they_are():
    with_them, without = drawn(OWN._replace(graded=40), 0.5, name="test"), drawn(OWN, 0.5, name="test")
    others = with_them["stamp"] < 800
    np.testing.assert_array_equal(with_them[others], without[others])
