"""Which lensing parameters explain what a network finds (section 5.3): noise, area fractions, deviance explained.

`detected` is 1 where a network accepts a mock lens (logit >= 0) and 0 where it misses it.  Images that share an LRG are
not independent; what is said of deviance minds that, Clopper-Pearson intervals of bins and cells do not.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.stats import mad_std, sigma_clip
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lensdet import mocklens, results, stamps
from lensdet.statistics import bootstrap_interval, clopper_pearson, resample

HALF_NORMAL = 1 / np.sqrt(1 - 2 / np.pi)  # 1.659: from the standard deviation of a half-normal to sigma
FORMAT = 1  # part of the name of kept fractions: raise it when a number changes
CHUNK = 512  # stamps at once: 42 MB in float64
RIDGE = 1.0  # scikit-learn's C on standardised features: a coefficient of 1 costs half a unit of log-likelihood
LEAST = 10  # detected, and missed, without which nothing is said of deviance
NAMES = {
    "alpha": "alpha",
    "einstein_radius": "the Einstein radius",
    "lens_snr": "the lens' peak signal-to-noise",
    "source_radius": "the source's radius",
    "neighbours": "the number of neighbours",
}
# Factors of two: what is found changes with the logarithm of the fraction.  Fixed, so that surveys can be compared; the
# first bin has the zeros.
FRACTION_EDGES = (0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 1)


class FullAbove(NamedTuple):
    """Where no lens is missed any more; see `full_above`."""

    edge: float  # left edge of the first bin from which on all are detected
    missed: float  # the largest value of a missed lens
    above: int  # lenses above that
    miss_rate_high: float  # upper end of the 95 % Clopper-Pearson interval of 0 missed among them


def negative_noise(pixels, protocol="text"):
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


def clipped_noise(pixels):
    """Noise of each stamp (N, 101, 101) in its own units: 1.48 MAD of the pixels within 3 sigma of the median; (N,).

    Galaxies are clipped, round by round.  It needs no zero of the sky; faint wings widen it a little.
    """
    pixels = np.asarray(pixels, np.float64)
    clipped = sigma_clip(pixels, 3, maxiters=10, stdfunc="mad_std", axis=(-2, -1), masked=False)
    return mad_std(clipped, axis=(-2, -1), ignore_nan=True)


def area_fraction(source, alpha, limit):
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
        In [0, 1]; 0 where the limit is not a number.
    """
    alpha, limit = np.asarray(alpha, np.float32), np.asarray(limit)
    found = np.empty(len(source))
    for i in range(0, len(source), CHUNK):
        part = slice(i, i + CHUNK)
        scaled = alpha[part, None, None] * np.asarray(source[part], np.float32)
        found[part] = (scaled >= limit[part, None, None]).mean((1, 2))
    return found


def fractions(parameters, name, k=2.0):
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
        A row a mock lens, in the order of `lensdet.mocklens.truth`; columns ``negative`` and ``clipped``, and ``code``,
        which is what the published code computed (k times 1.659 in place of k).
    """
    split = mocklens.FROZEN[name]
    bank, rows = mocklens.frozen_bank(parameters, name)
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


def kept_fractions(parameters, data_key, name):
    """`fractions` above two sigma, the same data frame, computed once: kept beside the truth tables, in pixels."""
    pixels = stamps.SHAPE[0] * stamps.SHAPE[1]
    path = mocklens.truth_folder(parameters, data_key) / f"{name}_pixels-{FORMAT}.csv"
    return results.kept_table(path, lambda: (fractions(parameters, name) * pixels).round().astype(int)) / pixels


def bins(fraction, n=30):
    """Edges (n + 1,) of the bars of Figs 5.10, 5.12 and 5.14: n bins of width (max + 0.01) / n from 0."""
    return np.linspace(0, np.max(fraction) + 0.01, n + 1)


def rates(values, detected, edges):
    """True positive rate in bins: a data frame with columns ``edge`` (left), n, detected, tpr, low and high.

    Low and high are the 95 % Clopper-Pearson interval; all three are NaN in an empty bin.  A bin has its left edge, the
    last one both; what lies outside the edges does not count.
    """
    n, k = np.histogram(values, edges)[0], np.histogram(values, edges, weights=np.asarray(detected, float))[0]
    rate, low, high = _proportions(k, n)
    return pd.DataFrame({"edge": edges[:-1], "n": n, "detected": k.astype(int), "tpr": rate, "low": low, "high": high})


def full_above(values, detected, n=30):
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


def selection_function(table, detected, radius_edges=None, fraction_edges=FRACTION_EDGES, fraction="area_fraction"):
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


def lensing_parameters(table):
    """What may explain a detection, as the model takes it, from a truth table: a data frame with a row a mock lens.

    Alpha and the number of neighbours as they are; logarithms of Einstein radius, source radius (arcsec) and the lens'
    peak over its noise.  Real stamps need not have them all: columns that are missing or not finite are left out.

    Raises
    ------
    ValueError
        If there are negatives in the table: they have no source.
    """
    if (table["label"] != 1).any():
        raise ValueError("the table has negatives; give the mock lenses alone")
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "alpha": table.get("alpha"),
            "einstein_radius": np.log(table.get("einstein_radius", np.nan)),
            "lens_snr": np.log(table["maximum"] / table["noise"]),
            "source_radius": np.log(table.get("source_radius", np.nan)),
            "neighbours": table.get("neighbours"),
        }
    return pd.DataFrame({c: v for c, v in found.items() if v is not None and np.isfinite(v).all()}, table.index)


def held_out(columns, detected, groups, folds=5, seed=0):
    """Probability of detection of each image, by a logistic regression fitted to the other folds.

    Each column is standardised and enters with its square: on runs on the embedded survey squares explain 0.01 to 0.11
    more of the null deviance than lines alone, splines and products no more than squares.  A ridge (`RIDGE`) keeps
    coefficients finite where few are missed and the classes separate.  All images of a group are in one fold; folds
    have like shares of detections.

    Parameters
    ----------
    columns : array_like, (N, P)
    detected : array_like, (N,) or (R, N)
        0 or 1; of several runs, the model is of their mean.
    groups : array_like, (N,)
        Id of the LRG.
    folds, seed : int
        Number of folds, or of groups if these are fewer; of the shuffle of groups.

    Returns
    -------
    numpy.ndarray, (N,)
        NaN where nothing can be said: fewer than `LEAST` images are detected, or missed, or a fold leaves one class.
    """
    columns, share = np.asarray(columns, np.float64), np.atleast_2d(np.asarray(detected, np.float64)).mean(0)
    none, folds = np.full(len(share), np.nan), min(folds, len(np.unique(groups)))
    if min(share.sum(), (1 - share).sum()) < LEAST or folds < 2:
        return none
    model = make_pipeline(
        StandardScaler(),
        FunctionTransformer(lambda z: np.hstack([z, z**2])),
        LogisticRegression(C=RIDGE, max_iter=1000),
    )
    found_by_most = share >= 0.5
    if min(found_by_most.sum(), (~found_by_most).sum()) < folds:
        found_by_most[:] = False  # too few to share among the folds
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(columns, found_by_most, groups)
    found = none.copy()
    for train, test in split:
        if not 0 < share[train].mean() < 1:
            return none
        # an image that some runs detect is one of each class, weighed by the runs
        weights = np.r_[share[train], 1 - share[train]]
        model.fit(
            np.tile(columns[train], (2, 1)),
            np.repeat([1, 0], len(train)),
            logisticregression__sample_weight=weights,
        )
        found[test] = model.predict_proba(columns[test])[:, 1]
    return found


def deviance(detected, probability):
    """Deviance of each image, -2 log-likelihood, averaged over runs: (N,) from (N,) or (R, N), and (N,)."""
    share, p = np.atleast_2d(np.asarray(detected, np.float64)).mean(0), np.clip(probability, 1e-12, 1 - 1e-12)
    return -2 * (share * np.log(p) + (1 - share) * np.log1p(-p))


def importance(table, detected, features, groups, folds=5, draws=2000, seed=0):
    """How much of the deviance each parameter explains that the others cannot.

    A parameter is dropped and the model fitted anew.  (Permuting it would ask the full model about lenses that do not
    exist, and count what the other parameters could have told.)  The unit is the null deviance, that of one probability
    for all: an importance is a loss of explained deviance, D2.

    Parameters
    ----------
    table : pandas.DataFrame, N rows
        From `lensing_parameters`.
    detected : array_like, (N,) or (R, N)
        0 or 1, of one run or of several, which count as one: intervals are of other images for these very networks.
    features : sequence of str
        Columns of the table.
    groups : array_like, (N,)
        Id of the LRG: no LRG is on both sides of a fold, and the bootstrap resamples LRGs.  (Sources that are used
        twice add a tenth to the intervals at the most; resampled with the LRGs they would make them 1.6 times wider.)
    folds, draws, seed : int
        Number of folds and of resamples, whose predictions stay as they are; of both.

    Returns
    -------
    pandas.DataFrame
        A row a feature, the most important first: ``feature``, ``importance`` and its 95 % interval ``low``, ``high``;
        ``lead`` over the next row, with ``lead_low``, ``lead_high``, paired; ``images`` and ``detected``, their number
        and share.  NaN where `held_out` cannot say.
    """
    features = list(features)
    kept = [features] + [[other for other in features if other != f] for f in features]
    full, *without = [_explained(table[columns], detected, groups, folds, seed) for columns in kept]
    lost = np.reshape([full - each for each in without], (len(features), len(table)))
    order = np.argsort(-lost.sum(1), kind="stable")
    lost = lost[order]
    lead = lost - np.vstack([lost[1:], np.full((1, len(table)), np.nan)])  # the last leads nothing
    found = _intervals(np.vstack([lost, lead]), _null(detected), groups, draws, seed)
    rows = [(features[k], *a, *b) for k, a, b in zip(order, found[: len(order)], found[len(order) :], strict=True)]
    columns = ["feature", "importance", "low", "high", "lead", "lead_low", "lead_high"]
    return pd.DataFrame(rows, columns=columns).assign(images=len(table), detected=np.mean(detected))


def explained(table, detected, fraction, groups, folds=5, draws=2000, seed=0):
    """Deviance explained, D2, by all parameters and by the area fraction alone, and their paired difference.

    The fraction enters as its logarithm, on which detection depends more evenly; a pixel is added, as some have none.

    Parameters
    ----------
    fraction : array_like, (N,)
        Such as a column of `fractions`.
    table, detected, groups, folds, draws, seed
        As in `importance`; all columns of the table are used.

    Returns
    -------
    pandas.DataFrame
        Rows ``parameters``, ``fraction`` and ``difference`` (the first less the second) in column ``model``;
        ``explained``, ``low`` and ``high``.  D2 is of images held out: below 0 is worse than one probability for all.
    """
    alone = np.log(np.asarray(fraction, np.float64) + 1 / np.prod(stamps.SHAPE))[:, None]
    a, b = (_explained(columns, detected, groups, folds, seed) for columns in (table, alone))
    found = _intervals(np.stack([a, b, a - b]), _null(detected), groups, draws, seed)
    table = pd.DataFrame(found, columns=["explained", "low", "high"])
    table.insert(0, "model", ["parameters", "fraction", "difference"])
    return table


def answer(found):
    """What explains the performance of each model, as a Markdown list.

    Parameters
    ----------
    found : dict
        By name of the model, a pair: the data frames of `importance` and `explained`.

    Returns
    -------
    str
        A line a model, from the numbers alone: no claim without an interval that leaves out 0.
    """
    return "\n".join(f"- **{model}.** {_ranking(most)} {_compared(d2)}".rstrip() for model, (most, d2) in found.items())


def _ranking(table):
    first = table.iloc[0]
    if not np.isfinite(first.importance):
        return f"It finds {first.detected:.0%} of {first.images} mock lenses: too few missed, or found, to say why."
    if not first.low > 0:
        return f"No parameter can be shown to matter: {_without(first)} of the deviance is explained."
    name = NAMES.get(first.feature, first.feature)
    if len(table) == 1:
        return f"It depends on {name}: {_without(first)} of the deviance is explained."
    both = f"{_without(first)} of the deviance is explained, {_without(table.iloc[1])}"
    if first.lead_low > 0:
        return f"What matters most is {name}: {both}."
    gap = _range(first.lead, first.lead_low, first.lead_high)
    return f"Which parameter matters most is undecided: {both}, a difference of {gap}."


def _without(row):
    return f"without {NAMES.get(row.feature, row.feature)} {_range(row.importance, row.low, row.high)} less"


def _compared(table):
    a, b, gap = table.set_index("model").loc[["parameters", "fraction", "difference"]].itertuples(index=False)
    if not np.isfinite(gap.explained):
        return ""
    text = f"All parameters explain {_range(*a)} of the deviance, the area fraction alone {_range(*b)}"
    if gap.low <= 0 <= gap.high:
        return f"{text}; which explains more is undecided."
    more = "parameters explain" if gap.low > 0 else "fraction explains"
    return f"{text}: the {more} more, difference {_range(*gap)}."


def _range(value, low, high):
    return f"{value:.3f} (95 %: {low:.3f} to {high:.3f})"


def _null(detected):
    return deviance(detected, np.full(np.shape(detected)[-1], np.mean(detected)))


def _explained(columns, detected, groups, folds, seed):
    """Deviance of each image that the columns take away from the null deviance, (N,)."""
    if not np.shape(columns)[1]:
        return np.zeros(len(columns))
    return _null(detected) - deviance(detected, held_out(columns, detected, groups, folds, seed))


def _intervals(taken, null, groups, draws, seed):
    """Shares (K, 3) of the null deviance (N,) that are taken away (K, N), with the 95 % interval over LRGs."""
    group = pd.factorize(np.asarray(groups))[0]
    lrgs = np.arange(group.max() + 1)
    taken, null = (np.stack([np.bincount(group, row) for row in rows]) for rows in (taken, [null]))
    weights = resample(lrgs, lrgs, np.zeros(len(lrgs)), draws, seed)
    with np.errstate(invalid="ignore"):
        resampled = (taken @ weights.T) / (null @ weights.T)
    return [(t.sum() / null.sum(), *bootstrap_interval([r])) for t, r in zip(taken, resampled, strict=True)]
