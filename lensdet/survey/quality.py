"""Measured quality of stamps, and what about them is unlike the training set.

A network gives any stamp a logit, and some give noise of the sky higher ones than lenses.  What no finder has learnt to
judge is known by a few numbers of its pixels, and by logits that the calibration set never had.  `LIMITS` lie between
what was measured of stamps that should pass and of those that should not: ``benchmarks/quality.py`` prints both.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter

if TYPE_CHECKING:
    from lensdet.network.finders import Finder  # with Keras, which workers that read do not need

SMOOTHING = 5  # pixels of a box that is applied twice: about a Gaussian of 2 pixels, the seeing
LAG = 7  # pixels between which the noise of the smoothed sky is measured: noise itself has no memory so far
CENTRE, RING = 1.0, (2.5, 4.0)  # arcsec: the source to be judged, and its surroundings
SCALE = 0.2  # arcsec a pixel, of the thesis' stamps
SHARP = 0.65  # height of a hot pixel above the mean of its neighbours: of a star, at 0.5 arcsec seeing, it has 0.5
LIMITS = {  # least or most of each measure
    "equal": 0.02,  # what `max_filled` allows by default; real stamps have 0
    "dark": 8.0,  # simulated stamps have up to 5, correlated noise up to 6.3
    "hot": 6.0,  # simulated stamps have up to 4.5, noise up to 5.5
    "centre_snr": 20.0,  # simulated stamps have 28 or more, arcs on real galaxies 25 or more; noise up to 4.4
    "sky": 0.2,  # simulated stamps have up to 0.14; false lenses begin where noise makes it 0.22
    "spread": 0.25,  # simulated stamps have up to 0.15, arcs on real galaxies up to 0.18
    "centre_share": 0.05,  # simulated stamps have 0.2 or more, arcs on real galaxies 0.06 or more
}
LEAST = ("centre_snr", "centre_share")  # of them, the limits from below
REASONS = {  # of a flag: what it means, and what to do, see `reasons`; the first that applies is given
    "equal pixels": "Over {equal:.0%} of the pixels lie in areas of one value, mostly zeros: no data there."
    "  Give a tile that is complete there, or write NaN where there are no data.",
    "dead pixel": "A pixel lies over {dark:.3g} sigma below the sky: dead, or a number that stands for no "
    "data, as -99 or -32768.  A stamp is scaled by its minimum, so that one such pixel spoils it.  Write NaN there.",
    "hot pixel": "A pixel stands over {hot:.3g} sigma above its neighbours, sharper than any source: hot, or "
    "a cosmic ray.  Clean the image.",
    "faint centre": f"The signal-to-noise of the {CENTRE:g} arcsec around the centre is below "
    "{centre_snr:.3g}: nothing there, or a galaxy fainter than those in training.  Check the positions; "
    "take a deeper image.",
    "low contrast": "Noise, or an uneven sky, takes up more of the range from darkest to brightest pixel than in any "
    "training stamp.  Take a deeper image; subtract the gradient.",
    "outshone": "The centre is below {centre_share:.2g} of the brightest pixel, mostly a star's: scaled by "
    "that, the galaxy is nearly black.  Look at it by eye.",
    "unlike the calibration set": "A finder's logit lies far beyond all that its calibration set had.  Look at it by "
    "eye.",
}


def measure(pixels: ArrayLike, scale: float = SCALE) -> pd.DataFrame:
    """Plain numbers of each stamp, in which neither the unit nor a constant added to all pixels matters.

    Parameters
    ----------
    pixels : array_like, (N, 101, 101)
        Finite, in any unit.
    scale : float
        arcsec a pixel.

    Returns
    -------
    pandas.DataFrame
        A row a stamp.  ``centre_snr``: the peak within `CENTRE` above the median of `RING`, in a smoothed image, over
        the noise of that, which is honest where noise is correlated.  ``sky`` and ``spread``: median, and range from
        the 16th to the 84th percentile, of the stamp scaled to [0, 1] (Eq. 4.1).  ``equal``: share of pixels whose
        eight neighbours have the same value.  ``dark`` and ``hot``: how far the darkest pixel lies below the median,
        and how far a pixel that is sharper than a source (`SHARP`) stands above the mean of its neighbours, both over
        the noise of a pixel.  ``centre_share``: the brightest pixel within `CENTRE`, as a share of the stamp's.
    """
    columns = ["centre_snr", "sky", "spread", "equal", "dark", "hot", "centre_share"]
    return pd.DataFrame([_measure(stamp, scale) for stamp in pixels], columns=columns, dtype=float)


def _measure(stamp, scale):
    centre, ring = _geometry(stamp.shape, scale)
    stamp = np.asarray(stamp, np.float64)  # as the range of float32 may overflow
    stamp = ((stamp - stamp.min()) / max(np.ptp(stamp), np.finfo(float).tiny)).astype(np.float32)
    low, sky, high = (_quantile(stamp, q) for q in (0.16, 0.5, 0.84))
    noise = max(_sigma(stamp), 1e-9)  # 0 where most pixels are equal
    smooth = uniform_filter(uniform_filter(stamp, SMOOTHING), SMOOTHING)
    apart = [(smooth[LAG:] - smooth[:-LAG])[::2, ::2], (smooth[:, LAG:] - smooth[:, :-LAG])[::2, ::2]]
    smooth_noise = max(_sigma(np.concatenate([part.ravel() for part in apart])) / 2**0.5, 1e-9)
    snr = (smooth[centre].max() - _quantile(smooth[ring], 0.5)) / smooth_noise
    above = (stamp - uniform_filter(stamp, 3, mode="mirror")) * 9 / 8  # the mean of the eight neighbours
    hot = np.max(above, where=above > SHARP * (stamp - sky), initial=0)
    share = (stamp[centre].max() - sky) / max(1 - sky, 1e-9)
    return snr, sky, high - low, _equal(stamp), sky / noise, hot / noise, share


@cache
def _geometry(shape, scale):
    """The pixels of `CENTRE` and `RING`."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    radius = np.hypot(rows[:, None], columns) * scale
    return radius <= CENTRE, (radius >= RING[0]) & (radius <= RING[1])


def _quantile(values, q):
    k = int(q * values.size)
    return np.partition(values, k, axis=None)[k]  # ten times as fast as NumPy's own, which interpolates


def _sigma(values):
    """Standard deviation by the median absolute deviation."""
    return 1.4826 * _quantile(np.abs(values - _quantile(values, 0.5)), 0.5)


def _equal(stamp):
    """Share of pixels whose eight neighbours have the same value."""
    pairs = stamp[:, 1:] == stamp[:, :-1]
    rows = pairs[:, 1:] & pairs[:, :-1]  # three side by side
    down = stamp[1:, 1:-1] == stamp[:-1, 1:-1]
    return np.mean(rows[2:] & rows[1:-1] & rows[:-2] & down[1:] & down[:-1])


def limits_of(finders: Mapping[str, "Finder"]) -> dict[str, float]:
    """`LIMITS`, or wider ones that finders have measured on their own training stamps; of several the widest.

    None narrower: of those one in two hundred good stamps lies beyond each.
    """
    found = {}
    for name, usual in LIMITS.items():
        own = [usual, *(finder.quality.get(name, usual) for finder in finders.values())]
        found[name] = min(own) if name in LEAST else max(own)
    return found


def reasons(finders: Mapping[str, "Finder"]) -> dict[str, str]:
    """What each flag means and what to do, `REASONS` with the limits of finders."""
    limits = limits_of(finders)
    return {flag: text.format(**limits) for flag, text in REASONS.items()}


def measured_limits(pixels: ArrayLike, scale: float) -> dict[str, float]:
    """Limits for what a finder has learnt from: stamps that should pass lie within, but for one in two hundred.

    Parameters are those of `measure`.  ``equal`` is not measured: a reader fills as it fills.
    """
    m = measure(pixels, scale)
    shares = {name: 0.005 if name in LEAST else 0.995 for name in LIMITS if name != "equal"}
    return {name: float(m[name].quantile(share)) for name, share in shares.items()}


def flags(measures: pd.DataFrame, logits: Mapping[str, ArrayLike], finders: Mapping[str, "Finder"]) -> NDArray[np.str_]:
    """What about each stamp is unlike the training set: the first that applies of `REASONS`, or "" (N,).

    Parameters
    ----------
    measures : pandas.DataFrame
        From `measure`, N rows.
    logits : mapping of arrays (N,)
        By finder, as `Finder.score` gives them: not divided by its temperature.
    finders : mapping of lensdet.network.finders.Finder
    """
    m, far, limits = measures, np.zeros(len(measures), bool), limits_of(finders)
    for name, finder in finders.items():
        low, high = finder.limits
        far |= ~((np.asarray(logits[name]) >= low) & (np.asarray(logits[name]) <= high))
    found = {
        "equal pixels": m["equal"] > limits["equal"],
        "dead pixel": m["dark"] > limits["dark"],
        "hot pixel": m["hot"] > limits["hot"],
        "faint centre": m["centre_snr"] < limits["centre_snr"],
        "low contrast": (m["sky"] > limits["sky"]) | (m["spread"] > limits["spread"]),
        "outshone": m["centre_share"] < limits["centre_share"],
        "unlike the calibration set": far,
    }
    return np.select([np.asarray(one, bool) for one in found.values()], list(found), "")
