"""What the segmentation does to lenses whose arc and neighbours are known; tables and sentences from drawn runs."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score, roc_auc_score

from lensdet.chapters import thesis
from lensdet.chapters.maxtree import effect as segmentation_effect
from lensdet.chapters.maxtree import figures as segmentation_figures
from lensdet.chapters.maxtree import summary as segmentation_summary
from lensdet.chapters.maxtree import sweep as segmentation_sweep
from lensdet.chapters.maxtree.effect import Lenses
from lensdet.data import frozen_sets, maxtree, mocklens
from lensdet.data.maxtree import PRESETS, Settings
from lensdet.evaluation import metrics, thresholds
from lensdet.evaluation.scores import Scores
from lensdet.experiments import MAX_TREE
from lensdet.study import Study
from tests.evaluation.test_ensembles import KEY, draw, p, write_run  # noqa: F401

BCE = "Binary Cross Entropy"
Y, X = np.indices((101, 101)) - 50
R = np.hypot(Y, X)
SOME = [*PRESETS.values(), PRESETS["text"]._replace(**segmentation_effect.NONE), 8, 20.5, 33, 50]


def made(n=6, radii=True, beside=True):
    """A galaxy on a grey sky, a ring of 10 to 45 pixels, an object in a corner 42 pixels from the centre."""
    ring = np.linspace(10, 45, n)
    arcs = np.abs(R - ring[:, None, None]) < 1.5
    light = arcs * (1 + (X > 0)).astype("f4")  # twice as bright on the right
    other = np.broadcast_to(np.hypot(Y - 30, X - 30) < 4, arcs.shape) & ~arcs
    images = np.clip(0.15 + np.exp(-R / 4) + 0.2 * light + 0.5 * other, 0, 1).astype("f4")
    truth = pd.DataFrame({"alpha": np.linspace(0.05, 0.3, n), "stamp_id": np.arange(n) // 2, "source_id": np.arange(n)})
    if radii:
        truth["einstein_radius"] = ring / 9
    return Lenses(truth, images, light, arcs, other if beside else None)


@pytest.fixture(scope="module")
def mocks(smoke, smoke_bank):
    return segmentation_effect.lenses(smoke, "test")


def test_an_arc_is_where_the_source_is_above_twice_the_noise(smoke, smoke_bank, mocks):
    """As section 5.3 has it, in the file's units; and as many pixels as the truth table's area fraction says."""
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    rows, lrg = rows[rows["label"] == 1], smoke_bank.catalogue("lrg", "test")
    source = smoke_bank.pixels("source", "test")
    for row, arc in zip(rows, mocks.arcs, strict=True):
        lens = lrg.iloc[row["stamp"]]
        flux = row["alpha"] * source[row["source"]].astype(float) * lens["maximum"]
        sure = np.abs(flux / (2 * lens["noise"]) - 1) > 1e-5  # rounding may turn what is nearly equal
        assert np.array_equal((flux >= 2 * lens["noise"])[sure], arc[sure])
    assert mocks.arcs.mean((1, 2)) == pytest.approx(mocks.truth["area_fraction"], abs=2e-4)
    assert mocks.arcs.any()


def test_neighbour_pixels_exclude_the_arc_and_the_central_galaxy(smoke, smoke_bank, monkeypatch):
    """The rule on stamps made by hand: light above twice the noise, but not in the component around the centre."""
    noise = smoke_bank.catalogue("lrg", "test")["noise"].to_numpy()
    spot, touching = np.hypot(Y - 20, X) < 5, np.hypot(Y, X - 10) < 5
    island = np.hypot(Y + 30, X) < 3

    def again(cls, ident, parameters):
        n = noise[list(smoke_bank.catalogue("lrg", "test")["id"]).index(ident)]
        light = n * (2.0 * spot + 3 * touching + 5 * island + 1.9 * (Y > 40))
        return light, n * (50 * (R < 8) + 4 * island + 1.9)

    monkeypatch.setattr(segmentation_effect, "simulated_again", again)
    rows = np.zeros(3, mocklens.ROW)
    rows["stamp"] = [2, 0, 2]
    arcs = np.stack([Y > 20, X > 9, np.zeros_like(spot)])
    found = segmentation_effect.neighbours(smoke, smoke_bank, "test", rows, arcs)
    # bright noise apart from the centre (the island) is none of the galaxy
    assert np.array_equal(found, (spot | island | (touching & (R >= 8))) & ~arcs)
    folder = smoke.model_copy(update={"data": "somewhere"})
    assert segmentation_effect.neighbours(folder, smoke_bank, "test", rows, arcs) is None


def test_neighbour_pixels_are_darker_in_the_stamp_without_neighbours(smoke, smoke_bank, mocks):
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    rows = rows[rows["label"] == 1]
    bare = mocklens.without_neighbours(smoke, smoke_bank, "test", rows)[..., 0]
    assert mocks.neighbours.any() and (mocks.images > bare)[mocks.neighbours].all()
    assert not (mocks.neighbours & mocks.arcs).any() and not mocks.neighbours[:, 50, 50].any()
    counted = mocks.truth["neighbours"].to_numpy()
    assert mocks.neighbours[counted >= 2].sum((1, 2)).mean() > mocks.neighbours[counted == 0].sum((1, 2)).mean()


def test_share_of_pixels_kept_equals_a_plain_count():
    rng = np.random.default_rng(0)
    of, masks = rng.random((2, 5, 7, 6)) < 0.4
    weights = rng.random(of.shape)
    of[3] = False
    expected, weighted = [], []
    for i in range(5):
        inside = [(y, x) for y in range(7) for x in range(6) if of[i, y, x]]
        left = [pixel for pixel in inside if masks[(i, *pixel)]]
        expected.append(len(left) / len(inside) if inside else np.nan)
        weighted.append(
            sum(weights[(i, *x)] for x in left) / sum(weights[(i, *x)] for x in inside) if inside else np.nan
        )
    assert segmentation_effect.share(of, masks) == pytest.approx(expected, nan_ok=True)
    assert segmentation_effect.share(of, masks, weights) == pytest.approx(weighted, nan_ok=True)


def test_a_plain_disc_removes_arcs_beyond_its_radius():
    found = made()
    removed = segmentation_effect.arc_removed(found, 24)
    assert removed["pixels"].tolist() == [0, 0, *[pytest.approx(np.mean(R[np.abs(R - 24) < 1.5] > 24))], 1, 1, 1]
    assert removed["neighbours"].tolist() == [1] * 6
    assert removed["arc"].tolist() == [np.sum(np.abs(R - r) < 1.5) for r in np.linspace(10, 45, 6)]
    assert removed["einstein_radius"].tolist() == found.truth["einstein_radius"].tolist()
    left_half = found._replace(arcs=found.arcs.copy())
    mask = np.broadcast_to(X <= 0, found.arcs.shape)
    light = 1 - segmentation_effect.share(left_half.arcs, mask, found.light)
    for i, value in enumerate(light):
        right = found.arcs[i] & (X > 0)
        assert value == pytest.approx(2 * right.sum() / (right.sum() + found.arcs[i].sum()))


@pytest.mark.parametrize("how", [PRESETS["text"], Settings(False, None, None, None, False, False, None, 60)])
def test_removed_arc_share_follows_the_max_tree_mask(how):
    found = made(beside=False)
    removed = segmentation_effect.arc_removed(found, how)
    for i, image in enumerate(found.images):
        gone = maxtree.steps(image, how)["segmented"] == 0
        assert removed["pixels"][i] == pytest.approx(gone[found.arcs[i]].mean())
    assert removed["neighbours"].isna().all()
    assert 0 < removed["pixels"].mean() < 1


def test_sky_level_is_measured_far_from_the_centre():
    images = np.full((3, 101, 101), 0.0, "f4") + np.array([40, 41, 200])[:, None, None] / 255 + 1e-4
    images[:, R < 40] = 1
    images[:, np.hypot(Y - 45, X - 45) < 5] = 1  # a neighbour in a corner
    assert segmentation_effect.sky(images.clip(0, 1)).tolist() == [40, 41, 200]


@pytest.mark.parametrize("level", [15, 33, 57, 80])
@pytest.mark.parametrize("decay, tolerance", [(20, 20), (20, 15), (12, 8)])
def test_disc_left_of_an_even_sky_has_the_predicted_radius(level, decay, tolerance):
    """No noise: pixel by pixel, what truncated decay leaves above the tolerance; and near the formula."""
    how = PRESETS["text"]._replace(smooth=False, decay=decay, tolerance=tolerance)
    image = np.full((1, 101, 101), (level + 0.5) / 255, "f4")
    image[0, 50, 50] = 1
    table = segmentation_effect.disc(image, how)
    decayed = np.floor(level * np.exp(-R / decay))
    left = decayed - decayed[2, 2] > tolerance
    left[50, 50] = True
    assert table["sky"][0] == level
    assert table["radius"][0] == pytest.approx(np.sqrt(left.sum() / np.pi), abs=0.7)
    expected = decay * np.log(level / tolerance)
    assert table["predicted"][0] == pytest.approx(np.clip(expected, 0, 50))
    assert table["radius"][0] <= table["predicted"][0] + 1  # truncation and the seed make it smaller
    if table["radius"][0] > 8:  # a bright object at the rim grows what is left, not the radius
        other = image.copy()
        other[0, np.hypot(Y, X - table["radius"][0] - 4) < 5] = 0.9
        assert segmentation_effect.disc(other, how)["radius"][0] == pytest.approx(table["radius"][0], abs=1)
        assert np.sum(maxtree.masks(other, how._replace(**segmentation_effect.NONE))) > left.sum() + 30


def test_disc_radius_is_at_most_that_of_the_frame():
    image = np.full((1, 101, 101), 0.9, "f4")
    image[0, :5] = image[0, :, :5] = 0
    table = segmentation_effect.disc(image, PRESETS["text"]._replace(smooth=False, decay=200.0))
    assert table.loc[0, ["radius", "predicted"]].tolist() == [50, 50]
    assert segmentation_effect.disc(image, PRESETS["text"]._replace(tolerance=0))["predicted"][0] == 50


def test_disc_radii_are_binned_by_sky_level():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"sky": rng.permutation(100), "radius": rng.random(100), "predicted": rng.random(100)})
    found = segmentation_effect.by_sky({"text": table, "code": table + 1}, bins=4)
    assert found["n"].tolist() == [25] * 8 and list(found["settings"].unique()) == ["text", "code"]
    for k in range(4):
        part = table[(table["sky"] >= 25 * k) & (table["sky"] < 25 * k + 25)]
        row = found.iloc[k]
        assert (row.sky_low, row.sky_high) == (25 * k, 25 * k + 24)
        assert (row.radius, row.predicted) == (part["radius"].median(), part["predicted"].median())
        assert (row.radius_16, row.radius_84) == tuple(np.percentile(part["radius"], [16, 84]))
    same = segmentation_effect.by_sky({"text": table.assign(sky=30)})
    assert same["n"].sum() == 100


def shares(n=400, lrgs=40, seed=0):
    """Removed shares that grow with the Einstein radius; ten mock lenses an LRG."""
    rng = np.random.default_rng(seed)
    radius = np.exp(rng.uniform(0, np.log(5), n))
    table = pd.DataFrame({"einstein_radius": radius, "pixels": np.clip(radius / 5 + rng.normal(0, 0.2, n), 0, 1)})
    table["light"], table["neighbours"] = table["pixels"] / 2, rng.random(n)
    table.loc[::7, ["pixels", "light"]] = np.nan  # no arc above the noise
    truth = pd.DataFrame({"stamp_id": np.arange(n) % lrgs, "source_id": np.arange(n)})
    return table, segmentation_effect.resamples(truth, 300)


def test_removed_arc_share_is_binned_by_einstein_radius():
    table, weights = shares()
    shuffled = table.set_index(np.random.default_rng(1).permutation(len(table)))  # rows go by place
    found = segmentation_effect.by_radius({"a": shuffled, "b": table.assign(pixels=0.3)}, weights, bins=5)
    edges = 5 ** (np.arange(6) / 5)
    assert np.r_[found["radius_low"][:5], found["radius_high"][4]] == pytest.approx(edges)
    for k, row in found.iloc[:5].iterrows():
        inside = table[(table.einstein_radius >= edges[k]) & (table.einstein_radius < edges[k + 1])]["pixels"].dropna()
        gone = int((inside > 0.5).sum())
        assert (row.n, row["mean"], row.gone) == (len(inside), pytest.approx(inside.mean()), gone)
        ends = binomtest(gone, len(inside)).proportion_ci(0.95, "exact")
        assert (row.gone_low, row.gone_high) == pytest.approx(tuple(ends))
        # about what a normal error of the mean says: LRGs have nothing to do with it here
        error = inside.std() / np.sqrt(len(inside))
        assert row.high - row.low == pytest.approx(2 * 1.96 * error, rel=0.25)
        assert row.low < row["mean"] < row.high
    assert found.iloc[5:]["n"].sum() == len(table) and (found.iloc[5:]["gone"] == 0).all()
    assert not len(segmentation_effect.by_radius({"a": table.assign(einstein_radius=np.nan)}, weights))


def test_intervals_of_removed_shares_resample_lrgs():
    """Two LRGs of 50 mock lenses each, all or nothing removed: one in four resamples has but the one, or the other."""
    truth = pd.DataFrame({"stamp_id": np.repeat([0, 1], 50), "source_id": np.arange(100)})
    table = pd.DataFrame(
        {"einstein_radius": 2.0, "pixels": np.repeat([0.0, 1.0], 50), "light": 0.5, "neighbours": np.nan}
    )
    weights = segmentation_effect.resamples(truth, 200)
    row = segmentation_effect.by_radius({"a": table}, weights, bins=1).iloc[0]
    assert (row.low, row["mean"], row.high) == (0, 0.5, 1)
    total = segmentation_effect.totals({"a": table}, weights).set_index("share")
    assert total.loc["pixels", ["mean", "low", "high", "n"]].tolist() == [0.5, 0, 1, 100]
    assert total.loc["neighbours", "n"] == 0 and np.isnan(total.loc["neighbours", "mean"])
    one = segmentation_effect.by_radius({"a": table[:1]}, weights[:, :1], bins=1).iloc[0]
    assert one.n == 1 and np.isnan(one.low) and np.isnan(one.high)


def test_sweep_grid_varies_the_settings_of_the_presets():
    grid = segmentation_sweep.grid()
    assert grid[:2] == list(PRESETS.values()) and len(set(grid)) == len(grid)
    for field, value in (("area", None), ("decay", None), ("tolerance", None), ("area", 90), ("decay", 10.0)):
        assert any(getattr(s, field) == value for s in grid[2:])
    assert all(s.box is s.rectangularity is None for s in grid if s.area is None)


def test_sweep_of_known_stamps_equals_direct_counts():
    """The rings and the object of `made`: means by counting, Youden's index by its definition."""
    found = made()
    swept = segmentation_sweep.sweep(found, SOME)
    assert swept["preset"].tolist() == ["text", "code", "", "", "", "", ""]
    assert swept["disc"].tolist()[3:] == SOME[3:] and swept["disc"][:3].isna().all()
    for k, how in enumerate(SOME):
        mask = maxtree.masks(found.images, how) if k < 3 else np.broadcast_to(R <= how, found.arcs.shape)
        kept = [m[arc].mean() for m, arc in zip(mask, found.arcs, strict=True)]
        gone = [1 - m[other].mean() for m, other in zip(mask, found.neighbours, strict=True)]
        row = swept.iloc[k]
        assert (row.arc_kept, row.neighbours_removed) == pytest.approx((np.mean(kept), np.mean(gone)))
        assert row.youden == pytest.approx(np.mean(kept) + np.mean(gone) - 1)


def hand(kept, removed, presets=None, discs=None):
    swept = pd.DataFrame({"arc_kept": kept, "neighbours_removed": removed})
    swept["youden"] = swept["arc_kept"] + swept["neighbours_removed"] - 1
    return swept.assign(preset=presets or [""] * len(kept), disc=discs or np.nan)


def test_kept_sweep_equals_a_new_one_and_is_made_once(smoke, smoke_bank, tmp_path, monkeypatch):
    """On the validation set: same rows, choices and words as the sweep itself; other ways are another sweep."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    found = segmentation_sweep.sweep(segmentation_effect.lenses(smoke, "validation"), SOME)
    kept = segmentation_sweep.kept(Study(smoke, smoke_bank.data_key), SOME)
    numbers = ["disc", "arc_kept", "light_kept", "neighbours_removed", "youden"]
    pd.testing.assert_frame_equal(kept[numbers], found[numbers], check_exact=True)
    assert segmentation_sweep.best(kept) == segmentation_sweep.best(found)
    assert segmentation_sweep.presets_and_best(kept).equals(segmentation_sweep.presets_and_best(found))
    assert [segmentation_sweep.describe(row) for _, row in kept.iterrows()] == [
        segmentation_sweep.describe(row) for _, row in found.iterrows()
    ]
    monkeypatch.setattr(segmentation_sweep, "sweep", None)  # would fail
    assert segmentation_sweep.kept(Study(smoke, smoke_bank.data_key), SOME).equals(kept)
    with pytest.raises(TypeError):
        segmentation_sweep.kept(Study(smoke, smoke_bank.data_key), SOME[1:])


def test_best_settings_of_a_sweep_are_never_a_plain_disc():
    swept = hand([0.8, 0.9, 0.7, 1, 0.9], [0.8, 0.8, 0.9, 1, 0.8], ["text", "", "", "", ""], [np.nan] * 3 + [9, np.nan])
    assert segmentation_sweep.best(swept) == 1  # the first of two equal ones
    swept = swept.assign(area=90, decay=20, tolerance=np.nan)
    table = segmentation_sweep.presets_and_best(swept)
    assert table.settings.tolist() == ["preset text", "area 90, decay 20, no flood fill"]
    assert table.beaten.tolist() == [2, 0] and table.youden.tolist() == pytest.approx([0.6, 0.7])
    unknown = swept.assign(youden=np.nan, neighbours_removed=np.nan)  # as in stamps that are not simulated
    assert segmentation_sweep.best(unknown) is None
    assert segmentation_sweep.presets_and_best(unknown).beaten.tolist() == [0]


def test_equal_disc_is_interpolated_to_remove_as_many_neighbours():
    swept = hand([1, 0.5, 0.2, 0.9], [0.2, 0.6, 1.0, 0.5], discs=[40, 20, 10, np.nan])
    found = [segmentation_sweep.equal_disc(swept, x) for x in (0.6, 0.4, 0.8, 0.2, 0.1, np.nan)]
    assert found == [20, pytest.approx(30), pytest.approx(15), 40, None, None]
    assert segmentation_sweep.equal_disc(swept[3:], 0.5) is None


def test_shown_settings_are_presets_best_and_their_equal_discs():
    ways = [*PRESETS.values(), PRESETS["text"]._replace(area=90), 40, 10]
    swept = segmentation_sweep.sweep(made(), ways)
    swept["neighbours_removed"], swept["arc_kept"] = [0.5, 0.6, 0.7, 0.1, 0.9], [0.5, 0.5, 0.9, 0.9, 0.2]
    swept["youden"] = swept["arc_kept"] + swept["neighbours_removed"] - 1
    found = segmentation_sweep.shown(dict(PRESETS), swept, ways)
    best = "area 90, decay 20, tolerance 20"
    assert list(found) == ["text", "code", best, "disc as text", "disc as code", f"disc as {best}"]
    assert found[best] == ways[2] and found["disc as text"] == pytest.approx(25)
    swept.loc[0, "youden"] = 2
    assert best not in segmentation_sweep.shown(dict(PRESETS), swept, ways)
    bare = segmentation_sweep.shown(dict(PRESETS), swept.assign(youden=np.nan, neighbours_removed=np.nan), ways)
    assert bare == PRESETS
    assert segmentation_sweep.describe(swept.iloc[3]) == "a plain disc of 40 pixels"
    nothing = pd.Series({"disc": np.nan, "preset": "", "area": None, "decay": np.nan, "tolerance": np.nan})
    assert segmentation_sweep.describe(nothing) == "no filters, no decay, no flood fill"


N = 200
LABELS = np.repeat([1.0, 0.0], N // 2)
WEIGHTS = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), 60).astype(float)


def drawn(seed, runs, scale):
    rng = np.random.default_rng(seed)
    logits = scale * (2 * LABELS - 1) + rng.normal(size=(2, len(runs), N))
    return tuple(Scores(LABELS, z, np.array(runs)) for z in logits)


def test_table_5_3_equals_scikit_learn_with_paired_differences(smoke):
    """Scikit-learn, run against run of the same number, whatever their order; the thesis' numbers beside."""
    found = {(BCE, "none"): drawn(1, [1, 2, 3], 1.0), (BCE, "text"): drawn(2, [3, 1], 1.6),
             ("Focal loss", "text"): drawn(3, [1], 1)}  # fmt: skip
    table = segmentation_summary.table_5_3(smoke, found, WEIGHTS).set_index(["model", "metric"])
    name = f"{BCE}, Max-Tree (text)"
    assert list(table.index.unique("model")) == [BCE, name, "Focal loss, Max-Tree (text)"]
    score = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score,
             "F_beta": lambda y, a: fbeta_score(y, a, beta=0.17)}  # fmt: skip
    for metric, function in score.items():
        expected = np.mean([function(LABELS, z >= 0) for z in found[BCE, "text"][1].logits])
        row = table.loc[(name, metric)]
        assert row["mean"] == pytest.approx(expected) and row.test_low < expected < row.test_high
        published = {"accuracy": 0.898, "F_beta": 0.918, "precision": 0.919, "recall": 0.874}[metric]
        assert (row.thesis, row.runs) == (published, 2)
    assert table.loc[(BCE, "accuracy")].thesis == thesis.TABLE_5_1[BCE]["accuracy"][0]
    assert table.loc["Focal loss, Max-Tree (text)"]["thesis"].isna().all()

    compared = segmentation_summary.differences(smoke, found, WEIGHTS)
    assert compared["model"].unique().tolist() == [BCE] and (compared["runs"] == 2).all()
    rows = compared.set_index("measure")
    (fit_a, a), (fit_b, b) = found[BCE, "text"], found[BCE, "none"]
    each = {}
    for run in (1, 3):
        i, j = list(a.runs).index(run), list(b.runs).index(run)
        za, zb = a.logits[i], b.logits[j]
        cuts = [thresholds.best_threshold(LABELS, f.logits[k], 0.17) for f, k in ((fit_a, i), (fit_b, j))]
        each[run] = {
            "recall": recall_score(LABELS, za >= 0) - recall_score(LABELS, zb >= 0),
            "area under the ROC curve": roc_auc_score(LABELS, za) - roc_auc_score(LABELS, zb),
            "F_beta at its own threshold": fbeta_score(LABELS, za >= cuts[0], beta=0.17)
            - fbeta_score(LABELS, zb >= cuts[1], beta=0.17),
        }
    each = pd.DataFrame(each)
    for measure, values in each.iterrows():
        row = rows.loc[measure]
        assert (row.difference, row.seed_spread) == pytest.approx((values.mean(), values.std()))
        assert row.segmented - row.plain == pytest.approx(row.difference)
        assert row.low < row.difference < row.high
    assert segmentation_summary.differences(smoke, {(BCE, "text"): found[BCE, "text"]}, WEIGHTS).empty
    apart = {(BCE, "none"): drawn(1, [1], 1), (BCE, "code"): drawn(1, [2], 1)}
    assert segmentation_summary.differences(smoke, apart, WEIGHTS).empty
    read = segmentation_summary.to_rows(compared)
    assert (
        read.loc[0, "recall"]
        == f"{rows.difference['recall']:+.3f} ({rows.low['recall']:+.3f} to {rows.high['recall']:+.3f})"
    )


def test_runs_on_plain_and_on_segmented_stamps_are_read_apart(p):  # noqa: F811
    """Plain and segmented runs lie in folders of their own; checkpoints selected otherwise do not belong here."""
    logits = draw(77)
    write_run(p.model_copy(update={"segmentation": "code"}), "bce", 2, logits)
    ways = {how: Study(p, KEY).changed(segmentation=how) for how in ("none", "text", "code")}
    found = segmentation_summary.load_scores(ways)
    losses = [BCE, "F_beta Soft Loss", "F_1 Soft loss", "F_1 Double Soft loss"]
    assert list(found) == [(BCE, "none"), (BCE, "code"), *((m, "none") for m in losses[1:])]
    fit, test = found[BCE, "code"]
    assert np.array_equal(test.logits, logits["test"][None]) and np.array_equal(fit.logits, logits["calibration"][None])
    assert test.runs.tolist() == [2] and found[BCE, "none"][1].runs.tolist() == [1, 2]


def test_complete_settings_of_the_grid_can_be_trained_with(p):  # noqa: F811
    text, code = maxtree.PRESETS["text"], maxtree.PRESETS["code"]
    for settings in segmentation_sweep.grid():
        found = segmentation_sweep.trained_with(Study(p, KEY), settings)
        whole = None not in settings and settings != code
        assert (found is not None) == whole and (not whole or found.parameters.maxtree() == settings)
    assert segmentation_sweep.trained_with(Study(p, KEY), text).parameters.experiment("bce", KEY) == (
        p.model_copy(update={"segmentation": "text"}).experiment("bce", KEY)
    )


@pytest.mark.parametrize("runs, gain, verdicts", [(5, 1.0, {"higher"}), (5, -0.5, {"lower"}), (5, 0.0, set()),
                                                  (4, 1.0, set()), (1, 1.0, set())])  # fmt: skip
def test_segmentation_needs_five_runs_for_a_verdict(smoke, runs, gain, verdicts):
    """The segmented runs are the plain ones, with a bit of the label."""
    plain = drawn(5, list(range(1, runs + 1)), 1.0)
    both = tuple(s._replace(logits=s.logits + gain * (2 * LABELS - 1)) for s in plain)
    compared = segmentation_summary.differences(smoke, {(BCE, "none"): plain, (BCE, "text"): both}, WEIGHTS)
    assert set(compared.verdict) - {"open", "equivalent"} == verdicts
    cells = segmentation_summary.to_rows(compared).iloc[0]
    assert ("images alone" in cells["recall"]) == (runs == 1 or not gain) and "nan" not in " ".join(cells)


def test_settings_are_compared_with_an_equal_plain_disc():
    """Removed shares by hand: the disc removes 0.1 more of each arc, 0.2 of its light, and 0.3 less of neighbours."""
    n = 40
    table = pd.DataFrame({"pixels": np.linspace(0.1, 0.5, n), "light": 0.3, "neighbours": 0.9})
    disc = pd.DataFrame({"pixels": table.pixels + 0.1, "light": 0.5, "neighbours": 0.6})
    removed = {"text": table, "disc as text": disc}
    weights = segmentation_effect.resamples(pd.DataFrame({"stamp_id": np.arange(n), "source_id": np.arange(n)}), 50)
    table = segmentation_summary.against_discs(removed, weights)
    assert table.share.tolist() == ["arc kept", "light kept", "neighbours removed"] and set(table.settings) == {"text"}
    for column in ("difference", "low", "high"):
        assert table[column].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert table.interval.tolist() == ["above 0"] * 3
    assert segmentation_summary.against_discs({"text": removed["text"]}, weights).empty


def test_what_segmentation_costs_is_binned_by_what_it_removes_of_the_arc():
    """Areas of scikit-learn, lenses of a bin against all negatives; a lens without an arc is in no bin."""
    plain, cut = drawn(5, [1, 2, 3, 4, 5], 1.0), np.r_[np.full(20, 0.0), np.full(30, 0.5), np.full(49, 1.0), np.nan]
    harm = np.zeros(N)
    harm[LABELS == 1] = 2 * (np.nan_to_num(cut) > 0.9)
    both = tuple(s._replace(logits=s.logits[::-1] - harm, runs=s.runs[::-1]) for s in plain)  # paired by number
    found = {(BCE, "none"): plain, (BCE, "text"): both, (BCE, "code"): plain, ("other", "text"): both}
    removed = {"text": pd.DataFrame({"pixels": cut}), "code": pd.DataFrame({"pixels": np.full(100, 0.2)})}
    table = segmentation_summary.by_arc_removed(found, removed, WEIGHTS)
    assert table.preset.tolist() == ["text", "text", "code"] and table.n.tolist() == [20, 79, 100]
    assert table.removed_low.tolist() == [0, 0.5, 0.1] and table.removed_high.tolist() == [0.01, 1, 0.5]
    few, most, whole = table.itertuples()
    some = np.r_[np.flatnonzero(cut >= 0.5), np.flatnonzero(LABELS == 0)]
    for value, scores in ((most.plain, plain), (most.segmented, both)):
        assert value == pytest.approx(np.mean([roc_auc_score(LABELS[some], z[some]) for z in scores[1].logits]))
    assert few.difference == whole.difference == 0 and most.difference == pytest.approx(most.segmented - most.plain)
    assert most.low < most.difference < most.high < 0
    assert table.verdict.tolist() == ["open", "lower", "open"]  # runs that agree exactly have no interval
    assert (table.runs == 5).all()
    alone = {"text": pd.DataFrame({"pixels": np.r_[0.3, np.ones(99)]})}  # a lens that a third of the resamples lack
    spread = np.random.default_rng(0).normal(0, 0.5, plain[1].logits.shape)  # so that runs differ in their loss
    worse = tuple(s._replace(logits=s.logits - spread) for s in plain)
    few = segmentation_summary.by_arc_removed({(BCE, "none"): plain, (BCE, "text"): worse}, alone, WEIGHTS)
    assert few.n.tolist() == [1, 99] and (few.low < few.difference).all() and (few.difference < few.high).all()
    bins = segmentation_summary.of_settings(table, "text")
    assert bins.removed_low.tolist() == [0, 0.01, 0.1, 0.5] and bins.n.fillna(0).tolist() == [20, 0, 0, 79]
    assert bins.difference[3] == most.difference and bins.plain[0] == table.plain[0]
    assert bins.part.fillna(0).tolist() == [0, 0, 0, 1]  # the first bin does not change
    nothing = segmentation_summary.by_arc_removed({(BCE, "none"): plain}, removed, WEIGHTS)
    assert nothing.empty and segmentation_summary.of_settings(nothing, "text").difference.isna().all()


def test_the_lowest_validation_loss_is_averaged_over_runs(p):  # noqa: F811
    ways = {how: Study(p, KEY).changed(segmentation=how) for how in ("none", "text")}
    table = segmentation_summary.training_time(ways).set_index("model")
    best = [run.history["loss"].argmin() + 1 for run in ways["none"].runs("bce")]
    assert table.loc[BCE, "chunk"] == np.mean(best) and table.loc[BCE, "runs"] == len(best) == 2
    assert f"{BCE}, Max-Tree (text)" not in table.index  # which has no runs


def test_figure_5_19_shows_the_steps_of_the_segmentation(mocks):
    image = mocks.images[0]
    figure = segmentation_figures.figure_5_19({"mock lens": image, "real galaxy": None}, PRESETS["text"])
    axes = np.reshape(figure.axes, (2, 6))
    stage = maxtree.steps(image, PRESETS["text"])
    assert np.array_equal(axes[0, 0].images[0].get_array(), image)
    for axis, name in zip(axes[0, 1:], ("smoothed", "filtered", "decayed", "flood_filled", "segmented"), strict=True):
        assert np.array_equal(axis.images[0].get_array(), stage[name])
    assert axes[1, 0].texts[0].get_text() == "none here" and not any(axis.images for axis in axes[1])


def test_figure_5_20_shows_curves_of_plain_and_segmented_runs():
    found = {(BCE, "none"): drawn(1, [1, 2], 1.0), (BCE, "text"): drawn(2, [1, 2], 2.0)}
    axes = segmentation_figures.figure_5_20(found, 0.17).axes
    curves = [metrics.f_beta_curve(LABELS, metrics.probability(test.logits), 0.17) for _, test in found.values()]
    for axis, both in zip(axes, zip(*curves, strict=True), strict=True):
        lines = [line for line in axis.lines if len(line.get_xdata()) == len(metrics.THRESHOLDS)]
        assert all(line.get_ydata() == pytest.approx(curve.mean(0)) for line, curve in zip(lines, both, strict=True))
        assert len({line.get_color() for line in lines}) == 2
    assert [text.get_text() for text in axes[0].texts] in (names := ["plain stamps", "Max-Tree (text)"], names[::-1])


@pytest.mark.parametrize("presets, beside", [(["text"], "text"), (["code"], "code"), (["text", "code"], "code")])
def test_table_5_3_of_the_thesis_stands_in_figure_5_20_beside_the_settings_that_it_was_made_with(presets, beside):
    found = {(BCE, how): drawn(1 + k, [1, 2], 1.0) for k, how in enumerate(["none", *presets])}
    axis = segmentation_figures.figure_5_20(found, 0.17).axes[0]
    curves = [line for line in axis.lines if len(line.get_xdata()) == len(metrics.THRESHOLDS)]
    colours = dict(zip(["none", *presets], (line.get_color() for line in curves), strict=True))
    drawn_beside = {c.lines[0].get_color(): c.lines[0].get_ydata()[0] for c in axis.containers}
    means = thesis.TABLE_5_1[BCE]["f_beta"][0], thesis.TABLE_5_3[MAX_TREE]["f_beta"][0]
    assert drawn_beside == {colours["none"]: means[0], colours[beside]: means[1]}


def test_segmentation_figures_show_the_values_of_their_tables():
    table, weights = shares()
    binned = segmentation_effect.by_radius({"text": table, "code": table.assign(pixels=0.3)}, weights)
    (axis,) = segmentation_figures.arc_removed(binned).axes
    for container, (_, rows) in zip(axis.containers, binned.groupby("settings", sort=False), strict=True):
        assert container.lines[0].get_ydata() == pytest.approx(rows["mean"])
        ends = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
        assert ends == pytest.approx(rows[["low", "high"]].to_numpy())
    assert [text.get_text() for text in axis.texts] == [str(n) for n in binned["n"][:8]]
    assert "Einstein radius [arcsec]" in axis.get_xlabel()

    lenses = made()
    discs = {name: segmentation_effect.disc(lenses.images, s) for name, s in PRESETS.items()}
    for axis, (name, found) in zip(segmentation_figures.disc(discs, PRESETS).axes, discs.items(), strict=True):
        points, line = axis.lines
        assert points.get_ydata() == pytest.approx(found["radius"]) and axis.get_title() == f"{name}, n = 6"
        x, y = line.get_data()
        assert y == pytest.approx(np.maximum(20 * np.log(x / PRESETS[name].tolerance), 0))

    ways = [*SOME[:3], PRESETS["text"]._replace(decay=None), *SOME[3:]]
    swept = segmentation_sweep.sweep(lenses, ways)
    (axis,) = segmentation_figures.sweep(swept, 2).axes
    points = {(x, y) for line in axis.lines for x, y in zip(*line.get_data(), strict=True)}
    assert points == set(zip(swept["neighbours_removed"], swept["arc_kept"], strict=True))
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert {"preset text", "preset code", "no decay", "best: no filters, decay 20, tolerance 20"} <= set(labels)


def test_numbers_of_sentences_are_missing_where_nothing_was_measured(smoke):
    nothing = segmentation_summary.by_measure(pd.DataFrame({"verdict": []}), "text")
    assert list(nothing.index) == list(segmentation_summary.MEASURES.values()) and nothing.isna().all(axis=None)
    rows = [{"model": m, "preset": h, "measure": "accuracy", "difference": d}
            for m, h, d in ((BCE, "code", 0.1), (BCE, "text", 0.2), ("other", "text", 0.3))]  # fmt: skip
    assert segmentation_summary.by_measure(pd.DataFrame(rows), "text").difference["accuracy"] == 0.2
    removed = {"x": shares()[0]}
    binned = segmentation_effect.by_radius(removed, np.ones((2, 400)))
    worst = segmentation_effect.hardest_bin(binned, "x")
    assert worst["mean"] == binned["mean"].max() and np.isnan(segmentation_effect.hardest_bin(binned, "y")["mean"])
    assert np.isnan(segmentation_effect.hardest_bin(pd.DataFrame(), "x")["gone"])
    total = segmentation_effect.totals(removed, np.ones((2, 400)))
    assert segmentation_effect.by_settings(total)["pixels"]["x"] == pytest.approx(removed["x"]["pixels"].mean())


@pytest.mark.parametrize("youden, trained", [((0, 1), True), ((1, 0), False)])
def test_the_best_settings_are_trained_where_they_are_no_preset(p, monkeypatch, youden, trained):  # noqa: F811
    asked, text = [], maxtree.PRESETS["text"]
    monkeypatch.setattr(
        Study, "train_missing", lambda study, losses: asked.append((study.parameters.maxtree(), losses))
    )
    ways = [text, text._replace(area=90)]
    swept = pd.DataFrame([w._asdict() for w in ways]).assign(preset=["text", ""], disc=np.nan, youden=youden)
    found = segmentation_sweep.train_best(Study(p, KEY), ["bce"], {"text": text}, swept, ways)
    assert list(found) == ["area 90, decay 20, tolerance 20"] * trained and asked == [(ways[1], ["bce"])] * trained
