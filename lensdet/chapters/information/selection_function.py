"""Which mock lenses a network finds, by area above the noise, Einstein radius and alpha (section 5.3).

`detected` is 1 where a network accepts a mock lens (logit >= 0) and 0 where it misses it.  Clopper-Pearson intervals of
bins and cells take images that share an LRG as independent.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.stats import mad_std, sigma_clip
from numpy.typing import ArrayLike, NDArray

from lensdet import storage
from lensdet.data import frozen_sets, stamps
from lensdet.evaluation.metrics import Protocol
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.parameters import Parameters
from lensdet.study import Study

HALF_NORMAL = 1 / np.sqrt(1 - 2 / np.pi)  # 1.659: from the standard deviation of a half-normal to sigma
FORMAT = 1  # part of the name of kept fractions: raise it when a number changes
CHUNK = 512  # stamps at once: 42 MB in float64


# Factors of two: what is found changes with the logarithm of the fraction.  Fixed, so that surveys can be compared; the
# first bin has the zeros.
FRACTION_EDGES = (0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 1)


class FullAbove(NamedTuple):
    """Where no lens is missed any more; see `full_above`."""

    edge: float  # left edge of the first bin from which on all are detected
    missed: float  # the largest value of a missed lens
    above: int  # lenses above that
    miss_rate_high: float  # upper end of the 95 % Clopper-Pearson interval of 0 missed among them


def negative_noise(pixels: ArrayLike, protocol: Protocol = "text") -> NDArray:
    """Noise of each stamp from its negative pixels, as in section 5.3: sigma = sqrt(mean(negative^2)).

    Right where the sky has a mean of zero and a symmetric noise: half of it is below zero, and squares to sigma^2.
    The light of a galaxy hardly counts, as it leaves few pixels below zero; a wide halo lowers it (LRGs of the embedded
    survey: by 6 %; the MAD of all pixels is 17 % too high, that of `clipped_noise` 8 %).

    Parameters
    ----------
    pixels : array_like, (N, 101, 101)
        In their own units, not normalised.
    protocol : {"text", "code"}
        The published code multiplied by 1/sqrt(1 - 2/pi) = 1.659, which leads from the *standard deviation* of a
        half-normal to sigma; from its root mean square, which this is, it leads to 1.659 sigma.

    Returns
    -------
    numpy.ndarray, (N,)
        NaN for a stamp without a negative pixel.

    Raises
    ------
    ValueError
        If the protocol is neither.
    """
    if protocol not in ("text", "code"):
        raise ValueError(f"protocol is 'text' or 'code', not {protocol!r}")
    pixels = np.asarray(pixels)
    negative = np.minimum(pixels, 0, dtype=np.float64)  # the squares of 1e-12 are too small for float32
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt((negative**2).sum((-2, -1)) / (pixels < 0).sum((-2, -1)))
    return sigma * HALF_NORMAL if protocol == "code" else sigma


def clipped_noise(pixels: ArrayLike) -> NDArray:
    """Noise of each stamp (N, 101, 101) in its own units: 1.48 MAD of the pixels within 3 sigma of the median; (N,).

    Galaxies are clipped, round by round.  It needs no zero of the sky; faint wings widen it a little.
    """
    pixels = np.asarray(pixels, np.float64)
    clipped = sigma_clip(pixels, 3, maxiters=10, stdfunc="mad_std", axis=(-2, -1), masked=False)
    return mad_std(clipped, axis=(-2, -1), ignore_nan=True)


def area_fraction(source: NDArray, alpha: ArrayLike, limit: ArrayLike) -> NDArray:
    """Fraction of the pixels of each stamp where alpha times the source is at or above the limit.

    In section 5.3 that is where s / max(s) max(l) alpha >= 2 RMS, thus limit = 2 sigma / max(l).

    Parameters
    ----------
    source : array_like, (N, 101, 101)
        Normalised to a peak of 1.
    alpha : array_like, (N,)
    limit : array_like, (N,)
        k sigma over the peak of the lens.

    Returns
    -------
    numpy.ndarray, (N,)
        In [0, 1]; 0 where the limit is NaN.
    """
    alpha, limit = np.asarray(alpha, np.float32), np.asarray(limit)
    found = np.empty(len(source))
    for i in range(0, len(source), CHUNK):
        part = slice(i, i + CHUNK)
        scaled = alpha[part, None, None] * np.asarray(source[part], np.float32)
        found[part] = (scaled >= limit[part, None, None]).mean((1, 2))
    return found


def fractions(parameters: Parameters, name: str, k: float = 2.0) -> pd.DataFrame:
    """`area_fraction` of the mock lenses of a frozen set, by the estimate of the noise.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    name : {"validation", "calibration", "test", "information"}
    k : float
        The source counts where it is above k sigma.

    Returns
    -------
    pandas.DataFrame
        A row a mock lens, in the order of `frozen_sets.truth`; columns ``negative`` and ``clipped``, and ``code``,
        which is what the published code computed (k times 1.659 in place of k).
    """
    split = frozen_sets.FROZEN[name]
    bank, rows = frozen_sets.frozen_bank(parameters, name)
    rows = rows[rows["label"] == 1]
    lrg, pixels = bank.catalogue("lrg", split), bank.pixels("lrg", split)
    low, high = (lrg[c].to_numpy(np.float64)[:, None, None] for c in ("minimum", "maximum"))
    noise = {"negative": [], "clipped": []}
    for i in range(0, len(pixels), CHUNK):
        part = slice(i, i + CHUNK)
        raw = pixels[part] * (high[part] - low[part]) + low[part]  # Eq. 4.1 undone
        noise["negative"].append(negative_noise(raw))
        noise["clipped"].append(clipped_noise(raw))
    noise = {estimator: np.concatenate(parts) for estimator, parts in noise.items()}
    noise["code"] = noise["negative"] * HALF_NORMAL
    sources, found = bank.pixels("source", split), {estimator: [] for estimator in noise}
    for i in range(0, len(rows), CHUNK):
        part = rows[i : i + CHUNK]
        light, host = sources[part["source"]], part["stamp"]
        for estimator, sigma in noise.items():
            limit = k * sigma[host] / high[host, 0, 0]
            found[estimator].append(area_fraction(light, part["alpha"], limit))
    return pd.DataFrame({estimator: np.concatenate(parts) for estimator, parts in found.items()})


def kept_fractions(study: Study, name: str) -> pd.DataFrame:
    """`fractions` above two sigma, the same data frame, computed once: kept beside the truth tables, in pixels."""
    pixels = stamps.SHAPE[0] * stamps.SHAPE[1]
    path = frozen_sets.truth_folder(study.parameters, study.key) / f"{name}_pixels-{FORMAT}.csv"
    return storage.kept_table(path, lambda: (fractions(study.parameters, name) * pixels).round().astype(int)) / pixels


def bins(fraction: ArrayLike, n: int = 30) -> NDArray:
    """Edges (n + 1,) of the bars of Figs 5.10, 5.12 and 5.14: n bins of width (max + 0.01) / n from 0."""
    return np.linspace(0, np.max(fraction) + 0.01, n + 1)


def rates(values: ArrayLike, detected: ArrayLike, edges: NDArray) -> pd.DataFrame:
    """True positive rate in bins: a data frame with columns ``edge`` (left), n, detected, tpr, low and high.

    Low and high are the 95 % Clopper-Pearson interval; all three are NaN in an empty bin.  A bin has its left edge, the
    last one both; what lies outside the edges does not count.

    Parameters
    ----------
    values : array_like, (N,)
        Such as area fractions, or Einstein radii in arcsec.
    detected : array_like of 0 and 1, (N,)
    edges : array (n + 1,)
        Of the bins, rising.
    """
    n, k = np.histogram(values, edges)[0], np.histogram(values, edges, weights=np.asarray(detected, float))[0]
    rate, low, high = _proportions(k, n)
    return pd.DataFrame({"edge": edges[:-1], "n": n, "detected": k.astype(int), "tpr": rate, "low": low, "high": high})


def full_above(values: ArrayLike, detected: ArrayLike, n: int = 30) -> FullAbove:
    """From where on no mock lens is missed: the thesis' 0.043, 0.074 and 0.017, which are left edges of bins.

    Parameters
    ----------
    values : array_like, (N,)
        Area fractions, or another number that should make a lens easier to find; not below 0.
    detected : array_like of 0 and 1, (N,)
    n : int
        Of `bins`.

    Returns
    -------
    FullAbove
        Edge is NaN where a lens is missed in the last bin that has any, missed where none is missed (then all are
        above).  The interval is that of a limit fixed beforehand: read off the same lenses, as here, it flatters.
    """
    values, detected = np.asarray(values), np.asarray(detected) > 0
    table = rates(values, detected, bins(values, n))
    broken, filled = np.flatnonzero(table["detected"] < table["n"]), np.flatnonzero(table["n"])
    full = filled[filled > broken[-1]] if len(broken) else filled
    missed = values[~detected].max(initial=-np.inf)
    above = int((values > missed).sum())
    edge = float(table["edge"][full[0]]) if len(full) else np.nan
    return FullAbove(edge, float(missed) if len(broken) else np.nan, above, clopper_pearson(0, above)[1])


def selection_function(
    table: pd.DataFrame,
    detected: ArrayLike,
    radius_edges: ArrayLike | None = None,
    fraction_edges: ArrayLike = FRACTION_EDGES,
    fraction: str = "area_fraction",
) -> pd.DataFrame:
    """Share of the mock lenses that are detected, by Einstein radius and area fraction.

    Parameters
    ----------
    table : pandas.DataFrame, N rows
        With columns ``einstein_radius`` (arcsec) and that of the fraction.
    detected : array_like of 0 and 1, (N,)
    radius_edges : array_like, optional
        Without it eight bins from 1 to 5 arcsec, or further where the table goes: logarithmic, as radii are drawn.
    fraction_edges : array_like
    fraction : str
        Column of the table.

    Returns
    -------
    pandas.DataFrame
        A row a cell, with its edges ``radius_low``, ``radius_high``, ``fraction_low`` and ``fraction_high``, n,
        ``detected``, and ``rate`` with its 95 % Clopper-Pearson interval ``low``, ``high``.  Cells without a lens are
        there, with NaN.
    """
    radius = table["einstein_radius"].to_numpy()
    if radius_edges is None:
        radius_edges = np.geomspace(np.nanmin([1, *radius]), np.nanmax([5, *radius]), 9)
    edges = [np.asarray(radius_edges, float), np.asarray(fraction_edges, float)]
    values = radius, table[fraction].to_numpy()
    n, k = (np.histogram2d(*values, edges, weights=w)[0].ravel() for w in (None, np.asarray(detected, float)))
    rate, low, high = _proportions(k, n)
    left, right = (np.meshgrid(edges[0][part], edges[1][part], indexing="ij") for part in (np.s_[:-1], np.s_[1:]))
    return pd.DataFrame(
        {"radius_low": left[0].ravel(), "radius_high": right[0].ravel(), "fraction_low": left[1].ravel(),
         "fraction_high": right[1].ravel(), "n": n.astype(int), "detected": k.astype(int), "rate": rate, "low": low,
         "high": high}
    )  # fmt: skip


def _proportions(k, n):
    """Rates k / n and both ends of their Clopper-Pearson intervals, (3, N); NaN without a trial."""
    found = [(a / b, *clopper_pearson(int(a), int(b))) if b else (np.nan,) * 3 for a, b in zip(k, n, strict=True)]
    return np.array(found).reshape(-1, 3).T
