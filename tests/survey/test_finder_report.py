"""The report of a finder: its numbers by hand and by scikit-learn; its page says them, and nothing in it acts."""

import base64
import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from lensdet.network.finders import Finder
from lensdet.survey import finder_report as report
from lensdet.survey import quality
from tests.survey.test_page import HOSTILE, Page


def row(table, what):
    found = table[table["what"].str.startswith(what)]
    assert len(found) == 1, what
    return found.iloc[0]


@pytest.fixture
def logits():
    """Calibrated ones of 50 hosts, and of 8 mock lenses of each, which share something of their host's."""
    rng = np.random.default_rng(3)
    hosts = rng.normal(-1.5, 1.5, 50)
    return hosts, 0.7 * hosts[:, None] + rng.normal(2, 1, (50, 8))


def test_what_is_held_out_is_measured_as_by_hand(logits):
    negative, positive = logits
    found = report.held_out(negative, positive)
    labels = np.r_[np.zeros(50), np.ones(400)]
    auc = roc_auc_score(labels, np.r_[negative, positive.ravel()])
    assert row(found, "area")["value"] == pytest.approx(auc)
    assert row(found, "arcs found at p = 0.5")["value"] == np.mean(positive >= 0)
    accepted = row(found, "galaxies accepted at p = 0.5")
    exact = binomtest(int((negative >= 0).sum()), 50).proportion_ci(0.95)
    assert accepted["value"] == np.mean(negative >= 0)
    assert (accepted["low"], accepted["high"]) == pytest.approx((exact.low, exact.high))
    above = row(found, "arcs found above the highest of the 50")
    assert above["value"] == np.mean(positive > negative.max())
    assert np.isnan(above["low"]) and np.isnan(above["high"])  # of a maximum, hosts drawn again give none
    none = row(found, "galaxies accepted above that")
    assert (none["value"], none["low"]) == (0, 0) and none["high"] == pytest.approx(1 - 0.025 ** (1 / 50))
    others = found.dropna()
    assert ((others["low"] <= others["value"]) & (others["value"] <= others["high"])).all() and len(others) == 4
    assert (found["n"] == 50).all()
    all_found = row(report.held_out(negative, np.full((50, 8), 9.0)), "arcs found at p = 0.5")
    assert all_found["low"] == pytest.approx(0.025 ** (1 / 50)) and all_found["high"] == 1  # as of 50 stamps


def test_hosts_are_drawn_again_with_all_that_was_made_of_them(logits):
    _, positive = logits
    together = np.repeat(np.random.default_rng(0).normal(0, 3, 50)[:, None], 8, 1)  # all 8 alike: 50 stamps, not 400
    found = [row(report.held_out(np.full(50, -9.0), p), "arcs found at") for p in (together, positive)]
    width = found[0]["high"] - found[0]["low"]
    share = found[0]["value"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 50), rel=0.15)
    host, of = np.repeat(np.arange(50), 8), np.ones(400)
    one = report.completeness("part", of, together.ravel(), host, (0.0, 2.0)).iloc[0]
    assert one["high"] - one["low"] > 0.85 * width and one["n"] == 400
    none = report.completeness("part", of, np.full(400, -1.0), host, (0.0, 2.0)).iloc[0]
    assert none["high"] == pytest.approx(1 - 0.025 ** (1 / 50)) and none["low"] == 0  # as of 50 stamps


def test_equal_logits_are_no_better_than_chance():
    found = report.held_out(np.zeros(30), np.zeros((30, 8)))
    assert row(found, "area")["value"] == 0.5 and row(found, "arcs found above")["value"] == 0
    assert report.auc(np.zeros(3), np.ones((2, 2))) == 1 and report.auc(np.ones(3), np.zeros(4)) == 0


def test_bins_hold_what_is_in_them():
    of, logits = np.array([1.0, 1.2, 1.5, 1.99, 2.0, 7.0, 0.5]), np.array([1, -1, 0, 2, -3, 1, 5.0])
    found = report.completeness("part", of, logits, np.arange(7), (1.0, 1.5, 2.0, 3.0, 4.0, np.inf), " arcsec")
    assert found["what"].tolist() == ["1 to 1.5 arcsec", "1.5 to 2 arcsec", "2 to 3 arcsec", "4 arcsec or more"]
    assert found["value"].tolist() == [0.5, 1, 0, 1] and found["n"].tolist() == [2, 2, 1, 1]  # a logit of 0 is p = 0.5
    exact = binomtest(1, 2).proportion_ci(0.95)
    assert found.iloc[0]["low"] <= exact.low and found.iloc[0]["high"] >= exact.high
    empty = report.completeness("part", of, logits, np.arange(7), (10.0, 20.0))
    assert list(empty) == report.COLUMNS and empty.empty


def test_acceptance_is_by_class():
    found = report.acceptance({"one": np.array([1.0, -1, 0, -2]), "none": np.full(9, -1.0)})
    assert found["what"].tolist() == ["one", "none"] and found["value"].tolist() == [0.5, 0]
    assert found["n"].tolist() == [4, 9]


def test_reliability_gives_each_host_the_weight_of_its_arcs(logits):
    negative, positive = logits
    found = report.reliability(negative, positive.ravel())
    scores = expit(np.r_[np.repeat(negative, 8), positive.ravel()])
    labels = np.r_[np.zeros(400), np.ones(400)]
    share, mean = calibration_curve(labels, scores, n_bins=5)
    bins = found.iloc[:-1]
    np.testing.assert_allclose(bins["value"], share)
    assert bins["what"].tolist() == [f"p = {p:.2f}" for p in mean]
    assert bins["n"].sum() == 800
    error = np.sum(bins["n"] / 800 * np.abs(share - mean))
    assert row(found, "mean error")["value"] == pytest.approx(error)


def test_shortcuts_are_found_where_they_are():
    rng = np.random.default_rng(0)
    plain, mocks = rng.uniform(0.1, 0.4, (60, 101, 101)), rng.uniform(0.1, 0.4, (480, 101, 101))
    honest = report.shortcuts(plain, mocks).set_index("what")["value"]
    assert (honest >= 0.5).all() and (honest < report.GATE).all()
    mocks[:, :12] += 0.3 * rng.random((480, 1, 1))  # a brighter sky at the edge
    mocks[:, 50, 50] = 1.0
    found = report.shortcuts(plain, mocks).set_index("what")["value"]
    labels = np.r_[np.zeros(60), np.ones(480)]
    edge = np.ones((101, 101), bool)
    edge[12:-12], edge[:, 12:-12] = False, False  # the four corners
    assert edge.sum() == 4 * 144
    values = np.r_[np.median(plain[:, edge], 1), np.median(mocks[:, edge], 1)]
    assert (
        found["sky in the corners"] == pytest.approx(roc_auc_score(labels, values))
        and found["sky in the corners"] > 0.7
    )
    assert found["pixels at the maximum"] == 1.0


def test_an_interval_holds_its_value_where_only_pairs_of_a_host_tell():
    """Mock lenses a little above their own hosts, and by chance above those of others."""
    hosts = np.random.default_rng(0).normal(size=27)
    value, low, high = report._auc_and_interval(hosts, np.repeat(hosts[:, None], 8, 1) + 1e-6)
    assert value == pytest.approx(0.5 + 0.5 / 27) and low < value < high


def test_the_gain_over_the_finder_before_is_of_the_same_hosts(logits):
    negative, positive = logits
    noise = np.random.default_rng(5)
    before = negative + noise.normal(0, 1, 50), positive + noise.normal(0, 1, (50, 8))
    found = report.held_out(negative, positive, before)
    labels = np.r_[np.zeros(50), np.ones(400)]
    now, then = (roc_auc_score(labels, np.r_[n, p.ravel()]) for n, p in ((negative, positive), before))
    assert row(found, report.BEFORE)["value"] == pytest.approx(then)
    gain = row(found, report.GAIN)
    assert gain["value"] == pytest.approx(now - then) and gain["low"] < now - then < gain["high"]
    alone = row(report.held_out(negative, positive), "area")
    pd.testing.assert_series_equal(found.iloc[0], alone)
    assert gain["high"] - gain["low"] < alone["high"] - alone["low"]  # in pairs
    same = row(report.held_out(negative, positive, (negative, positive)), report.GAIN)
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.05, "."), (-0.01, 0.07, ", which may be none."), (-0.07, -0.01, ": rank with the finder before.")],
)
def test_the_verdict_says_what_ones_own_galaxies_gave(low, high, words):
    gain = pd.DataFrame([("held out", report.GAIN, (low + high) / 2, low, high, 200)], columns=report.COLUMNS)
    said = " ".join(report.verdict(pd.concat([table(), gain])))
    assert f"a change of {(low + high) / 2:+.3f} ({low:+.3f} to {high:+.3f}){words}" in said
    assert "Before it learnt" not in " ".join(report.verdict(table()))


def table(auc=(0.97, 0.95, 0.98), n=200, shortcut=(0.52, 0.49, 0.55)):
    rows = [
        ("held out", "area under the ROC curve", *auc, n),
        ("held out", "arcs found at p = 0.5", 0.8, 0.7, 0.9, n),
        ("held out", "galaxies accepted at p = 0.5", 0.03, 0.01, 0.07, n),
        ("held out", f"arcs found above the highest of the {n} galaxies", 0.4, 0.3, 0.5, n),
        ("held out", "galaxies accepted above that", 0.0, 0.0, 0.02, n),
        ("Einstein radius", "1 to 1.5 arcsec", 0.5, 0.4, 0.6, 90),
        ("shortcuts", "sky in the corners", *shortcut, n),
    ]
    return pd.DataFrame(rows, columns=report.COLUMNS)


def test_the_verdict_says_the_numbers_and_what_they_do_not_say():
    said = " ".join(report.verdict(table()))
    assert "On 200 of your galaxies" in said and "80% of painted arcs" in said and "3% of the galaxies" in said
    assert "0.970 (0.950 to 0.980)" in said and "one in a thousand" in said
    assert "say little" not in said and "Not to be trusted" not in said
    assert "40 galaxies say little: acceptance below 9%" in " ".join(report.verdict(table(n=40)))


def test_the_verdict_warns_of_shortcuts_and_of_chance():
    said = " ".join(report.verdict(table(shortcut=(0.66, 0.61, 0.71))))
    assert "Not to be trusted as it stands: painted galaxies are told from plain ones by sky in the corners" in said
    by_chance = " ".join(report.verdict(table(shortcut=(0.66, 0.42, 0.83), n=8)))  # few galaxies
    assert "told from plain ones" not in by_chance
    assert "no better than chance" in " ".join(report.verdict(table(auc=(0.52, 0.48, 0.56))))


def test_flags_are_those_of_a_ranking():
    y, x = np.indices((101, 101))
    galaxy = 200 * np.exp(-((y - 50) ** 2 + (x - 50) ** 2) / 18)
    stamps = np.stack([galaxy + np.random.default_rng(i).standard_normal((101, 101)) for i in range(6)])
    spoilt = stamps.copy()
    spoilt[:2, 70, 30] = 1e4

    finder = Finder(None, {"pixel_scale": 0.2}, 1.0, {}, "0", (-1.0, 1.0))
    as_seen = [np.sqrt((x - x.min((1, 2), keepdims=True)) / np.ptp(x, axis=(1, 2))[:, None, None])
               for x in (stamps, np.concatenate([spoilt, stamps]))]  # fmt: skip
    found = report.flagged(*as_seen, np.r_[9.0, np.zeros(5)], np.zeros(12), finder)
    assert found["value"].tolist() == pytest.approx([1 / 6, 2 / 12]) and found["n"].tolist() == [6, 12]
    assert quality.flags(quality.measure(spoilt), {}, {})[0] == "hot pixel"


# ---- the page


@pytest.fixture
def stamps():
    rng = np.random.default_rng(0)
    return rng.random((3, 101, 101)).astype(np.float32), np.array([0.9, 0.5, 0.125])


def written(folder, stamps, heading="Finder x", notes=("200 hosts",), command="lensdet rank"):
    found = report.Measured(table(), stamps, tuple(x[:2] for x in stamps))
    return report.write(folder, found, heading, list(notes), command)


def test_the_page_says_what_the_table_has(tmp_path, stamps):
    page = written(tmp_path, stamps)
    text = re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page.read_text("utf-8"), flags=re.DOTALL))
    kept = pd.read_csv(tmp_path / "report.csv")
    pd.testing.assert_frame_equal(kept, table(), check_dtype=False)
    for one in kept.to_dict("records"):
        assert f" {one['what']} " in text and f" {one['value']:.3f} " in text and f" {one['n']:,} " in text
        assert not np.isfinite(one["low"]) or f"{one['low']:.3f} to {one['high']:.3f}" in text
    assert " nan" not in text and "None" not in text and "`" not in text
    assert all(heading in text for heading, *_ in (report.PARTS[part] for part in kept["part"].unique()))


def test_pictures_are_beside_the_page_and_have_the_first_row_at_the_bottom(tmp_path, stamps):
    page = Page(written(tmp_path, stamps))
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert pictures == [f"stamps/{name}.jpg" for name in ("accepted_01", "accepted_02", "accepted_03", "missed_01",
                                                          "missed_02")]  # fmt: skip
    shown = np.asarray(Image.open(tmp_path / pictures[0]), float)
    assert shown.shape == (101, 202)
    assert np.corrcoef(shown[:, :101].ravel(), stamps[0][0][::-1].ravel())[0, 1] > 0.9
    assert [p for p in ("0.900", "0.500", "0.125") if p in page.rest] == ["0.900", "0.500", "0.125"]


def test_nothing_in_the_page_acts(tmp_path, stamps):
    path = written(tmp_path, stamps, HOSTILE[0], HOSTILE, f"lensdet rank -p finders {HOSTILE[1]}")
    page = Page(path)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src 'self'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not {"script", "link", "iframe", "form", "object", "a"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert HOSTILE[0] in page.rest and "steal" not in "".join(a.get("src", "") for _, a in page.tags)
    assert "49" not in page.rest.split("lensdet rank")[0]  # {{ 7 * 7 }} is text


def test_without_pictures_there_is_a_page(tmp_path):
    none = np.zeros((0, 101, 101), np.float32), np.zeros(0)
    assert written(tmp_path, none).exists()
