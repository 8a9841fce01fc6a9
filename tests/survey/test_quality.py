"""What is no galaxy is flagged, by name; what is like the training set is not."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, zoom

from lensdet.data import lensing, mocklens, simulation, stamps
from lensdet.network.finders import Finder
from lensdet.survey import quality

Y, X = np.indices((101, 101))
R = np.hypot(Y - 50, X - 50)
GALAXY = 120 * np.exp(-0.5 * (R / 2) ** 2) + 40 * np.exp(-R / 5)


def noise(i, smooth=0.0):
    made = np.random.default_rng(i).standard_normal((101, 101))
    made = gaussian_filter(made, smooth) if smooth else made
    return made / made.std()


def resampled(i):
    return zoom(np.random.default_rng(i).standard_normal((68, 68)), 1.5, order=3)[:101, :101]


def with_pixels(value, where=(70, 33)):
    made = GALAXY + noise(8)
    made[where] = value
    return made


BLOCK, COLUMN = (slice(5, 9), slice(80, 90)), (slice(None), 20)
TILES = [((Y // n + X // n) % 2) * 100 + noise(n) for n in (1, 2, 3, 5, 7, 12, 20, 34)]
HALF = np.where(X < 50, 0, noise(3))
SPOILT = {
    "white noise": ("faint centre", [noise(i) for i in range(64)]),
    "correlated noise": ("faint centre", [noise(i, 1 + i % 3 / 2) for i in range(64)]),
    "resampled noise": ("faint centre", [resampled(i) for i in range(64)]),
    "faint star": ("faint centre", [noise(i) + (2 + i % 5) * np.exp(-0.5 * (R / 1.3) ** 2) for i in range(20)]),
    "nothing beside a star": ("faint centre", [noise(i) + 2000 * np.exp(-0.5 * (np.hypot(Y - 20, X - 75) / 2) ** 2)
                                               for i in range(8)]),
    "faint galaxy": ("low contrast", [noise(i) + GALAXY / 160 * (8 + i % 4) for i in range(20)]),
    "gradient": ("faint centre", [noise(i) + (i + 1) * X / 2 for i in range(6)]),
    "galaxy on a gradient": ("low contrast", [noise(i) + GALAXY + (i + 1) * (X + Y) / 2 for i in range(6)]),
    "edge of a detector": ("low contrast", [noise(i) + GALAXY + 200 * (Y > 55 + 4 * i) for i in range(6)]),
    "chessboard": (None, TILES),
    "stripes": (None, [(X // n % 2) * 100 + noise(n) for n in (1, 2, 5, 7, 14)]),
    "dead pixel": ("dead pixel", [with_pixels(-(10.0**k)) for k in range(1, 7)]),
    "sentinels": ("dead pixel", [with_pixels(v, at) for v in (-99, -1e3, -32768) for at in ((0, 0), COLUMN)]),
    "hot pixel": ("hot pixel", [with_pixels(10.0**k, at) for k in range(1, 7) for at in ((70, 33), (100, 0))
                                if k > 1 or at == (70, 33)]),
    "cosmic ray": ("hot pixel", [with_pixels(10.0**k, (70, slice(20, 20 + n))) for k in (2, 3, 4) for n in (2, 8)]),
    "hot column": ("hot pixel", [with_pixels(10.0**k, COLUMN) for k in (2, 3, 4)]),
    "hot block": ("outshone", [with_pixels(1e5, BLOCK) + noise(1)]),
    "zeros": ("equal pixels", [np.where(X < 101 * share, 0, GALAXY + noise(2) + sky) for share in (0.05, 0.5, 0.9)
                               for sky in (0, 50)]),
    "half of it": ("equal pixels", [HALF, np.where(Y < 9, -99, GALAXY + noise(4)), with_pixels(-1e30)]),
    "faint galaxy beside a star": ("outshone", [noise(i) + GALAXY / 5 + 3000 * np.exp(-0.5 * (np.hypot(Y - 20, X - 9)
                                                                                    / 2) ** 2) for i in range(6)]),
}  # fmt: skip
FINDERS = {
    "bce": Finder(None, {}, 1.0, {}, "0", (-10.0, 20.0)),
    "older": Finder(None, {}, 1.0, {}, "1"),  # of a file that has no range
}


def flagged(pixels, **logits):
    measures = quality.measure(np.asarray(pixels, np.float32))
    return quality.flags(measures, {name: np.zeros(len(pixels)) for name in FINDERS} | logits, FINDERS)


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_no_galaxy_is_flagged_by_its_pixels(kind):
    reason, pixels = SPOILT[kind]
    found = flagged(pixels)
    assert found.shape == (len(pixels),) and (found != "").all()
    assert set(found) == {reason} if reason else set(found) <= quality.REASONS.keys()


def test_a_flag_says_the_limits_of_the_finders_that_gave_it():
    usual, own = quality.reasons(FINDERS), Finder(None, {}, 1.0, {}, "0", quality={"centre_snr": 6.27, "hot": 9.0})
    assert "below 20: nothing there" in usual["faint centre"] and "over 6 sigma" in usual["hot pixel"]
    wider = quality.reasons({**FINDERS, "own": own})
    assert "below 6.27: nothing there" in wider["faint centre"] and "over 9 sigma" in wider["hot pixel"]
    assert not [text for text in wider.values() if "{" in text]
    assert all(wider[flag] == usual[flag] for flag in usual.keys() - {"faint centre", "hot pixel"})


def test_simulated_galaxies_and_mock_lenses_are_not_flagged(smoke):
    lrgs, contaminants = (np.array([simulation.render(cls, i, smoke)[0] for i in range(700, 820)])
                          for cls in ("lrg", "contaminant"))  # fmt: skip
    sources = stamps.normalise([lensing.render_source(i, smoke)[0] for i in range(700, 820)])
    alpha = np.random.default_rng(0).uniform(*smoke.alpha, 120)
    mocks = mocklens.added(stamps.normalise(lrgs), sources, alpha)
    for pixels in (lrgs, contaminants, mocks, lrgs * 1e12 + 500):
        assert set(flagged(pixels)) == {""}


def test_measures_depend_neither_on_the_unit_nor_on_the_level_of_the_sky():
    pixels = np.stack([GALAXY + noise(1), noise(2), SPOILT["dead pixel"][1][2], SPOILT["zeros"][1][2]])
    one = quality.measure(pixels)
    for other in (pixels * 1e-35, pixels * 3e30, pixels + 1e4):
        pd.testing.assert_frame_equal(quality.measure(other), one, rtol=1e-3, atol=1e-5)


def test_logits_beyond_the_range_of_the_calibration_set_are_flagged():
    pixels = [GALAXY + noise(i) for i in range(6)]
    far = "unlike the calibration set"
    logits = np.array([-10, 20, 27, 28, -18, np.nan])  # to -17.5 and 27.5: a quarter of the width is allowed for
    assert flagged(pixels, bce=logits, older=1e6 * logits[[0] * 6]).tolist() == ["", "", "", far, far, far]
    pixels[3] = noise(3)
    assert flagged(pixels, bce=logits)[3] == "faint centre"  # what is wrong with the pixels says more


def test_no_stamps_have_no_flags():
    assert len(quality.measure(np.zeros((0, 101, 101)))) == 0 and flagged(np.zeros((0, 101, 101))).shape == (0,)


# ---- limits of a finder's own


def finder(**limits):
    return Finder(None, {}, 1.0, {}, "0", None, quality=limits)


def test_without_limits_of_their_own_finders_have_the_usual():
    assert quality.limits_of({}) == quality.limits_of(FINDERS) == quality.LIMITS


def test_limits_of_a_finders_own_are_wider_never_narrower():
    own = quality.limits_of({"ours": finder(hot=9.0, dark=3.0, centre_snr=12.0, centre_share=0.5)})
    assert own == quality.LIMITS | {"hot": 9.0, "centre_snr": 12.0}
    two = quality.limits_of({"ours": finder(hot=9.0, sky=0.4), "theirs": finder(hot=11.0, centre_snr=5.0)})
    assert two == quality.LIMITS | {"hot": 11.0, "sky": 0.4, "centre_snr": 5.0}


def test_what_a_finder_has_learnt_from_is_not_flagged():
    pixels = [noise(i) + 60 * np.exp(-0.5 * (R / 3) ** 2) + 12 * i for i in range(4)]
    pixels += [noise(i) + GALAXY / 160 * 12 for i in range(4)]
    measures = quality.measure(np.asarray(pixels, np.float32))
    usual = quality.flags(measures, {}, {})
    own = quality.flags(measures, {"ours": np.zeros(8)}, {"ours": finder(sky=0.5, spread=0.5, centre_snr=5.0)})
    assert (usual[4:] == "low contrast").all() and (own == "").all()
    dead = quality.measure(np.asarray([with_pixels(-1e3)], np.float32))
    assert quality.flags(dead, {"ours": np.zeros(1)}, {"ours": finder(sky=0.5)}).tolist() == ["dead pixel"]


def test_measured_limits_leave_one_in_two_hundred_beyond_each():
    pixels = np.stack([noise(i) + GALAXY * (1 + i % 7) for i in range(400)]).astype(np.float32)
    limits, measures = quality.measured_limits(pixels, 0.2), quality.measure(pixels)
    assert limits.keys() == quality.LIMITS.keys() - {"equal"}
    for name, limit in limits.items():
        beyond = measures[name] < limit if name in quality.LEAST else measures[name] > limit
        assert beyond.sum() <= 2, name
    larger = quality.measured_limits(pixels, 0.4)  # other pixels are the centre
    assert larger["centre_snr"] != limits["centre_snr"] and larger["hot"] == limits["hot"]
