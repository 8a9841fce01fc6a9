"""From simulated to real pixels: one thing changes at a time, and intervals are over galaxies."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lensdet import storage
from lensdet.chapters.candidates import domain_shift
from lensdet.chapters.candidates.domain_shift import (
    CANDIDATES,
    EACH,
    ON_REAL_GALAXIES,
    PICTURES,
    QUANTITIES,
    REAL,
    RENORMALISED,
    SIMULATED,
    STEPS,
    TRAINED,
)
from lensdet.data import bank, lensing, simulation, stamps


@pytest.fixture(scope="module")
def made(smoke):
    galaxies = np.stack([simulation.render("contaminant", 700 + i, smoke)[0] * 3e5 for i in range(3)])
    candidates = np.stack([simulation.render("lrg", 800 + i, smoke)[0] for i in range(2)])
    return galaxies, domain_shift.make(smoke, galaxies, candidates, candidates[:0])


def test_groups_of_mock_lenses_share_sources_and_alphas(made, smoke):
    galaxies, images = made
    mocks = dict.fromkeys((SIMULATED, TRAINED, RENORMALISED, ON_REAL_GALAXIES), 24)
    assert {name: len(x) for name, x in images.items()} == {**mocks, REAL: 3, CANDIDATES: 2, PICTURES: 0}
    assert all(x.dtype == np.float32 and x.shape[1:] == (101, 101, 1) for x in images.values())
    squared = {name: x[..., 0].astype(float) ** 2 for name, x in images.items()}
    light = squared[TRAINED] - squared[SIMULATED]  # where nothing was cut off at 1
    uncut = squared[TRAINED] < 1
    assert light[uncut].min() > -1e-6
    ids = range(bank.FIRST_SHIFTED, bank.FIRST_SHIFTED + 24)
    drawn = stamps.normalise(np.stack([lensing.render_source(i, smoke)[0] for i in ids]))
    alpha = np.array([light[i][uncut[i]] @ drawn[i][uncut[i]] / (drawn[i][uncut[i]] ** 2).sum() for i in range(24)])
    assert alpha.min() > smoke.alpha[0] - 1e-3 and alpha.max() < smoke.alpha[1] + 1e-3 and np.ptp(alpha) > 0.1
    np.testing.assert_allclose(light[uncut], (alpha[:, None, None] * drawn)[uncut], atol=2e-5)
    again = stamps.normalise(stamps.normalise(galaxies)[7 // EACH] + alpha[7] * drawn[7])
    np.testing.assert_allclose(squared[ON_REAL_GALAXIES][7], again, atol=2e-5)


def test_stamps_of_a_survey_are_normalised_and_training_stamps_are_not(made):
    _, images = made
    for name in (SIMULATED, REAL, RENORMALISED, ON_REAL_GALAXIES, CANDIDATES):  # of no picture there is nothing to ask
        assert (images[name].min((1, 2, 3)) == 0).all() and (images[name].max((1, 2, 3)) == 1).all()
    assert (images[TRAINED].min((1, 2, 3)) >= 0).all() and images[TRAINED].min((1, 2, 3)).max() > 0


def logits(rng, shift, n=12):
    sizes = {
        SIMULATED: n * EACH,
        REAL: n,
        TRAINED: n * EACH,
        RENORMALISED: n * EACH,
        ON_REAL_GALAXIES: n * EACH,
        CANDIDATES: 5,
    }
    centre = {SIMULATED: -2, REAL: -2, TRAINED: 2, RENORMALISED: 2, ON_REAL_GALAXIES: 2 - shift, CANDIDATES: 0}
    return {name: rng.normal(centre[name], 1.5, size) for name, size in sizes.items()}


def test_steps_have_recall_acceptance_auc_and_interval_of_the_change():
    found = logits(np.random.default_rng(1), shift=3)
    table = domain_shift.steps(found).set_index(["step", "quantity"])
    for step, negatives in STEPS.items():
        assert table.loc[(step, QUANTITIES.recall), "value"] == (found[step] >= 0).mean()
        assert table.loc[(step, QUANTITIES.accepted), "value"] == (found[negatives] >= 0).mean()
        labels = np.repeat([0, 1], [len(found[negatives]), len(found[step])])
        auc = roc_auc_score(labels, np.r_[found[negatives], found[step]])
        assert table.loc[(step, QUANTITIES.auc), "value"] == pytest.approx(auc)
    row = table.loc[(ON_REAL_GALAXIES, QUANTITIES.recall)]
    assert row["difference"] == pytest.approx((found[ON_REAL_GALAXIES] >= 0).mean() - (found[RENORMALISED] >= 0).mean())
    assert row["low"] <= row["difference"] <= row["high"] < 0
    assert np.isnan(table.loc[(TRAINED, QUANTITIES.recall), "difference"])


def test_steps_of_all_finders_are_of_logits_over_temperature():
    found = logits(np.random.default_rng(4), shift=3)
    finders = {"bce": SimpleNamespace(temperature=2.0, limits=(-99, 99))}
    by_finder = domain_shift.calibrated({"bce": found}, finders)
    assert list(by_finder) == ["ensemble", "bce"] and by_finder["bce"][REAL] == pytest.approx(found[REAL] / 2)
    table = domain_shift.all_steps(by_finder)
    assert list(table.columns) == domain_shift.STEP_COLUMNS and set(table.finder) == {"ensemble", "bce"}
    assert domain_shift.calibrated({}, finders) == {} and domain_shift.all_steps({}).columns.equals(table.columns)


def test_equal_groups_differ_by_exactly_zero():
    found = logits(np.random.default_rng(2), shift=0)
    found[RENORMALISED] = found[TRAINED]
    row = domain_shift.steps(found).set_index(["step", "quantity"]).loc[(RENORMALISED, QUANTITIES.recall)]
    assert row["difference"] == row["low"] == row["high"] == 0


def test_interval_resamples_galaxies_and_not_their_mock_lenses():
    """Galaxies that are all found or all missed: the interval is that of galaxies, not of their mock lenses."""
    found = logits(np.random.default_rng(3), shift=0)
    found[ON_REAL_GALAXIES] = np.repeat(np.where(np.arange(12) % 2, 3.0, -3.0), EACH)
    found[RENORMALISED] = np.full(12 * EACH, 3.0)
    row = domain_shift.steps(found).set_index(["step", "quantity"]).loc[(ON_REAL_GALAXIES, QUANTITIES.recall)]
    galaxies = np.sqrt(0.25 / 12)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * galaxies, rel=0.25)


def test_accepted_stamps_are_counted_in_each_group():
    table = domain_shift.accepted({"none": np.zeros(0), "half": np.array([-1.0, 1.0])})
    assert table["accepted"].tolist() == [0, 1] and table["share"].isna().tolist() == [True, False]
    assert (table["low"] <= table["high"]).all()


class Mean:
    """A finder that counts what it is asked."""

    asked, sign = 0, 1

    def logits(self, images):
        self.asked += len(images)
        return self.sign * images.mean((1, 2, 3)).astype(np.float32)


def test_kept_logits_are_used_where_the_real_stamps_are_missing(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(storage, "real_stamps", lambda p: p.real_stamps or tmp_path / "stamps")
    for name in ("galaxies/a", "galaxies/b", "lens_candidates/c"):
        stamps.write_stamp(tmp_path / "stamps" / f"{name}.fits", simulation.render("lrg", len(name), smoke)[0])
    finders, digests = {"one": Mean(), "two": Mean()}, {"one": "1", "two": "2"}
    finders["two"].sign = -1
    found = domain_shift.score(smoke, finders, digests)
    images = domain_shift.make(smoke, *domain_shift.read(tmp_path / "stamps"))
    assert {g: len(x) for g, x in found["two"].items()} == {g: len(x) for g, x in images.items()}
    np.testing.assert_array_equal(found["one"][ON_REAL_GALAXIES], images[ON_REAL_GALAXIES].mean((1, 2, 3)))
    asked = finders["one"].asked
    again = domain_shift.score(smoke, finders, digests)
    assert finders["one"].asked == asked and all((again["one"][g] == x).all() for g, x in found["one"].items())
    backwards = {name: finders[name] for name in ("two", "one")}
    assert list(domain_shift.score(smoke, backwards, digests)) == ["two", "one"]
    again = domain_shift.score(smoke, backwards, digests)
    assert all((again[f][g] == x).all() for f, by_group in found.items() for g, x in by_group.items())
    (tmp_path / "stamps").rename(tmp_path / "away")
    assert (domain_shift.score(smoke, finders, digests)["two"][REAL] == found["two"][REAL]).all()
    assert domain_shift.score(smoke, finders, digests | {"two": "3"}) == {}  # of other finders nothing is known
    assert domain_shift.score(smoke.model_copy(update={"real_stamps": tmp_path / "mine"}), finders, digests) == {}
    stamps.write_stamp(tmp_path / "mine" / "galaxies" / "own.fits", simulation.render("lrg", 98, smoke)[0])
    own = domain_shift.score(smoke.model_copy(update={"real_stamps": tmp_path / "mine"}), finders, digests)
    assert len(own["one"][REAL]) == 1 and len(domain_shift.score(smoke, finders, digests)["one"][REAL]) == 2
    stamps.write_stamp(tmp_path / "stamps" / "galaxies" / "other.fits", simulation.render("lrg", 99, smoke)[0])
    assert len(domain_shift.score(smoke, finders, digests)["one"][REAL]) == 1  # other stamps, scored anew
    assert finders["one"].asked > asked


def test_real_stamps_are_read_as_galaxies_candidates_and_pictures(smoke, tmp_path):
    for name in ("galaxies/a", "galaxies/b", "lens_candidates/c", "lens_candidates/sw_1"):
        stamps.write_stamp(tmp_path / f"{name}.fits", simulation.render("lrg", len(name), smoke)[0])
    (tmp_path / "galaxies" / "torn.fits").write_bytes(b"SIMPLE")
    galaxies, candidates, pictures = domain_shift.read(tmp_path)
    assert [len(x) for x in (galaxies, candidates, pictures)] == [2, 1, 1]
    np.testing.assert_array_equal(pictures[0], stamps.read_stamp(tmp_path / "lens_candidates" / "sw_1.fits")[0])
    assert [len(x) for x in domain_shift.read(tmp_path / "none")] == [0, 0, 0]
