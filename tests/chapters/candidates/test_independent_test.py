"""The independent test set: other objects than the bank's, made as the bank's are, the same however it comes about."""

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from lensdet import parameters, storage
from lensdet.chapters.candidates import independent_test
from lensdet.data import bank, contaminants, frozen_sets, lensing, mocklens, simulation, stamps

NEGATIVES, LENSES = 20, 10


class Finder(NamedTuple):
    """A finder that costs nothing: means of what it is shown."""

    scale: float = 1.0

    def logits(self, images):
        assert images.dtype == np.float32 and images.shape[1:] == (101, 101, 1)
        return self.scale * np.einsum("nij,ij->n", images[..., 0], np.linspace(-1, 1, 101**2).reshape(101, 101))


class Made(NamedTuple):
    """A finder by a function of the stamps."""

    logits: object


class Stops(NamedTuple):
    """A finder that is interrupted at its second block."""

    seen: list

    def logits(self, images):
        self.seen.append(len(images))
        if len(self.seen) == 2:
            raise KeyboardInterrupt
        return Finder().logits(images)


FINDERS = {"one": Finder(), "an/other": Finder(-2.0)}
DIGESTS = {"one": "a1", "an/other": "b2"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Results and state of each test in folders of their own; blocks so small that there are several."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(independent_test, "BLOCK", 12)
    monkeypatch.setattr(independent_test, "BATCH", 5)
    return tmp_path


def make(p, finders=FINDERS, digests=DIGESTS, negatives=NEGATIVES, lenses=LENSES):
    return independent_test.score(p, finders, digests, negatives, lenses, progress=False)


@pytest.fixture(scope="module")
def whole(smoke, tmp_path_factory):
    """A set scored without interruption, by one process: its path."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RESULTS", "BUILD"):
            patch.setenv(f"LENSDET_{name}", str(tmp_path_factory.mktemp("whole")))
        patch.setattr(independent_test, "BLOCK", 12)
        yield make(smoke)


def test_kinds_are_mock_lens_lrg_and_the_simulated_contaminants():
    known = independent_test.KINDS
    assert known[:8] == ("mock lens", "lrg", *simulation.KINDS)  # their codes are in files that are kept
    assert set(known) == {*known[:8], *contaminants.KINDS} and len(set(known)) == len(known)


def test_a_broad_survey_has_its_own_negatives_and_sources_as_wide_as_their_hosts(smoke):
    p = smoke.model_copy(
        update={"simulation": "broad", "alpha": (3.0, 3.0), "seeing": (0.5, 2.0), "sky_contaminants": 1.0}
    )
    _, rows = independent_test.render(range(30), p, 30)
    found = {independent_test.KINDS[row["kind"]] for row in rows}
    assert found <= set(contaminants.KINDS) and len(found) > 5
    for i in range(3):
        pixels, host = bank.simulated("lrg", bank.FIRST_INDEPENDENT_HOST + i, p)
        alike = p.model_copy(update={"seeing": (host["seeing"], host["seeing"])})
        light = bank.simulated("source", bank.FIRST_INDEPENDENT + i, alike)[0]
        merged = mocklens.added(*map(bank.sixteen_bits, (pixels, light)), np.float32(3))
        image = independent_test.render([i], p, 0)[0][0]
        assert image == pytest.approx(np.sqrt(stamps.normalise(merged)), abs=1e-3)


def test_scores_file_has_logits_kinds_and_lens_parameters(whole, smoke):
    found = independent_test.load(whole)
    lens = found.rows["label"] == 1
    assert len(found.rows) == NEGATIVES + LENSES and lens.sum() == LENSES and not lens[:NEGATIVES].any()
    assert list(found.logits) == list(FINDERS)
    np.testing.assert_allclose(found.logits["an/other"], -2 * found.logits["one"], rtol=1e-5)
    assert (
        set(independent_test.kinds(found)[lens]) == {"mock lens"}
        and "mock lens" not in independent_test.kinds(found)[~lens]
    )
    alpha, theta = found.rows["alpha"], found.rows["einstein_radius"]
    assert (alpha[~lens] == 0).all() and np.isnan(theta[~lens]).all() and (found.rows["source"][~lens] == -1).all()
    assert (alpha[lens] >= np.float32(smoke.alpha[0])).all() and (alpha[lens] <= np.float32(smoke.alpha[1])).all()
    low, high = np.float32(smoke.einstein_radius)
    assert (theta[lens] >= low).all() and (theta[lens] <= high).all()
    assert (found.rows["peak_snr"] >= 25).all() and len(np.unique(alpha[lens])) == LENSES
    area = found.rows["area_fraction"]
    assert np.isnan(area[~lens]).all() and (area[lens] >= 0).all() and 0 < area[lens].max() < 0.3
    assert whole.stat().st_size < 100_000
    assert whole.parent.parent.name == "smoke" and whole.parent.name.startswith("independent-")


def test_independent_test_set_shares_no_object_with_a_bank(whole, smoke, smoke_bank):
    rows = independent_test.load(whole).rows
    used = {cls: {int(i) for s in bank.SPLITS for i in smoke_bank.catalogue(cls, s)["id"]} for cls in bank.CLASSES}
    assert not set(rows["stamp"]) & (used["lrg"] | used["contaminant"])
    assert not set(rows["source"][rows["source"] >= 0]) & used["source"]
    largest = parameters.resolve({"profile": "thesis"})
    for cls in bank.CLASSES:
        assert sum(bank.split_sizes(getattr(largest, f"n_{cls}")).values()) < rows["stamp"].min()
    assert len(set(rows["stamp"])) == len(rows)  # nor is a host of a mock lens a negative


def test_a_bank_whose_ids_reach_the_independent_set_is_refused():
    huge = parameters.resolve({"profile": "smoke", "n_source": 8_000_000})
    with pytest.raises(ValueError, match="n_source: the bank has ids up to 10999999"):
        make(huge)


def test_mock_lenses_merge_as_in_training_and_normalise_as_in_a_survey(smoke):
    """Against the merge that training uses, from pixels normalised and rounded as a bank has them."""
    images, rows = independent_test.render(range(NEGATIVES, NEGATIVES + 3), smoke, NEGATIVES)
    hosts = [simulation.render("lrg", int(i), smoke)[0] for i in rows["stamp"]]
    light = [lensing.render_source(int(i), smoke)[0] for i in rows["source"]]
    hosts, light = (bank.sixteen_bits(np.stack(pixels)) for pixels in (hosts, light))
    each = np.arange(3)
    expected = np.asarray(mocklens.merge(hosts, light, each, each, rows["alpha"]))[..., 0]
    low, high = (f((hosts + rows["alpha"][:, None, None] * light).astype(float), axis=(1, 2)) for f in (np.min, np.max))
    uncut = expected < 1  # training cuts off what is above
    merged = (images.astype(float) ** 2 * (high - low)[:, None, None] + low[:, None, None]) ** 0.5
    np.testing.assert_allclose(merged[uncut], expected[uncut], atol=2e-6)
    assert images.dtype == np.float32 and (images.min((1, 2)) == 0).all() and (images.max((1, 2)) == 1).all()
    negative, row = independent_test.render([0], smoke, NEGATIVES)
    cls = "lrg" if independent_test.KINDS[row["kind"][0]] == "lrg" else "contaminant"
    pixels = bank.sixteen_bits(simulation.render(cls, int(row["stamp"][0]), smoke)[0])
    np.testing.assert_array_equal(negative[0], np.sqrt(pixels.astype(np.float32)))


def test_area_fraction_equals_that_of_the_truth_tables(smoke, smoke_bank):
    """`frozen_sets.truth` on a bank that has the objects of the set."""
    _, rows = independent_test.render(range(2), smoke, 0)

    class Own:
        def catalogue(self, cls, split):
            return smoke_bank.catalogue(cls, split).head(0 if cls == "contaminant" else 2).assign(**self.known(cls))

        def pixels(self, cls, split):
            return bank.sixteen_bits(self.raw(cls))

        def raw(self, cls):
            make = lensing.render_source if cls == "source" else lambda i, p: simulation.render("lrg", i, p)
            return np.stack([make(int(i), smoke)[0] for i in rows["source" if cls == "source" else "stamp"]])

        def known(self, cls):
            return {} if cls == "contaminant" else bank.measured(self.raw(cls))

    as_rows = np.zeros(2, mocklens.ROW)
    as_rows["stamp"] = as_rows["source"] = [0, 1]
    as_rows["alpha"], as_rows["label"] = rows["alpha"], 1
    expected = frozen_sets.truth(Own(), "train", as_rows)["area_fraction"]
    np.testing.assert_allclose(rows["area_fraction"], expected, atol=1e-4)


def test_contaminants_have_the_share_of_the_sky(smoke, monkeypatch):
    def drawn(cls, ident, parameters):
        return np.eye(101), {"kind": "ring" if cls == "contaminant" else cls, "peak_snr": 1}

    monkeypatch.setattr(simulation, "render", drawn)
    for share in (0.0, 0.8, 1.0):
        rows = independent_test.render(range(400), smoke.model_copy(update={"sky_contaminants": share}), 400)[1]
        assert abs((rows["kind"] != independent_test.KINDS.index("lrg")).mean() - share) <= 0.08 * (0 < share < 1)


def test_a_small_set_equals_the_start_of_a_larger_one(whole, smoke):
    small, large = independent_test.load(make(smoke, negatives=7, lenses=4)), independent_test.load(whole)
    kept = np.r_[:7, NEGATIVES : NEGATIVES + 4]
    assert small.rows.tobytes() == large.rows[kept].tobytes()
    np.testing.assert_allclose(small.logits["one"], large.logits["one"][kept], rtol=1e-5, atol=1e-5)


def test_two_workers_give_the_same_bytes_as_one(whole, smoke):
    path = make(smoke.model_copy(update={"workers": 2}))
    assert path.parent.name == whole.parent.name and path.read_bytes() == whole.read_bytes()


def test_an_interrupted_set_resumes_and_gives_the_same_bytes(whole, smoke, here):
    stops = Stops([])
    only = {"one": "a1"}
    reference = make(smoke, {"one": Finder()}, only).read_bytes()
    for folder in ("results", "build"):
        (here / folder).rename(here / f"first {folder}")
    with pytest.raises(KeyboardInterrupt):
        make(smoke, {"one": stops}, only)
    assert stops.seen == [12, 12] and not list((here / "results").rglob("scores.h5"))
    counting = Stops([0, 0])
    path = make(smoke, {"one": counting}, only)
    assert counting.seen == [0, 0, 12, 6]  # the first block is not made again
    assert path.read_bytes() == reference
    assert not [f for f in (here / "build").rglob("*") if f.suffix != ".lock" and f.is_file()]
    assert make(smoke, {"one": counting}, only) == path and len(counting.seen) == 4  # nor is anything now


KILLED = """
import os, signal
from lensdet import parameters
from lensdet.chapters.candidates import independent_test
independent_test.BLOCK, independent_test.BATCH = 12, 5
class Dies:
    n = 0
    def logits(self, images):
        Dies.n += 1
        if Dies.n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return images.mean((1, 2, 3))
p = parameters.resolve({"profile": "smoke", "workers": 1})
independent_test.score(p, {"one": Dies()}, {"one": "a1"}, 20, 10, progress=False)
"""


def test_a_killed_process_loses_at_most_one_block(smoke, here):
    done = subprocess.run([sys.executable, "-c", KILLED], env=os.environ, cwd=storage.root(), stderr=subprocess.PIPE)
    assert done.returncode == -9, done.stderr.decode()
    blocks = list((here / "build").rglob("????.h5"))
    assert sorted(f.name for f in blocks) == ["0000.h5", "0001.h5"]
    left, mean = [], Made(lambda images: left.append(len(images)) or images.mean((1, 2, 3)))
    path = make(smoke, {"one": mean}, {"one": "a1"})
    assert left == [6]
    (here / "results").rename(here / "first")
    again = make(smoke, {"one": mean}, {"one": "a1"})
    assert again.read_bytes() == (here / "first" / path.relative_to(here / "results")).read_bytes()


def test_key_of_the_set_changes_with_survey_finders_and_size_only(smoke):
    def key(p=smoke, digests=DIGESTS, negatives=5, lenses=5):
        return str(sorted(independent_test._made(p, FINDERS, digests, negatives, lenses).items()))

    others = [key(smoke.model_copy(update={name: value})) for name, value in
              {"hardness": 0.9, "alpha": (0.1, 0.2), "data_seed": 5, "sky_contaminants": 0.1}.items()]  # fmt: skip
    others += [key(digests=DIGESTS | {"one": "c3"}), key(negatives=6), key(lenses=6)]
    assert len({key(), *others}) == 8
    assert key() == key(smoke.model_copy(update={"workers": 7, "width": 64, "beta": 0.5}))


def test_missing_and_foreign_score_files_are_errors(here):
    with pytest.raises(FileNotFoundError, match="no independent set"):
        independent_test.load(here / "scores.h5")
    (here / "scores.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(ValueError, match="scores.h5: not an independent set"):
        independent_test.load(here / "scores.h5")


@pytest.mark.parametrize("made", [lambda x: x.mean((1, 2, 3)) * np.nan, lambda x: x[1:, 0, 0, 0], lambda x: x[:, 0, 0]])
def test_nan_or_misshapen_logits_name_the_finder(smoke, made):
    with pytest.raises(ValueError, match="finder 'bad'"):
        make(smoke, {"bad": Made(made)}, {"bad": ""}, 2, 1)


def test_mismatched_finder_names_and_empty_classes_are_refused(smoke):
    with pytest.raises(ValueError, match="same names"):
        make(smoke, FINDERS, {"one": "a1"})
    with pytest.raises(ValueError, match="same names"):
        make(smoke, {}, {})
    with pytest.raises(ValueError, match="needs negatives and lenses, not 0"):
        make(smoke, negatives=0)
