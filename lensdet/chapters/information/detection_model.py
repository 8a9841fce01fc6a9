"""How much of what a network finds lensing parameters explain (section 5.3): the deviance of a logistic model.

`detected` is 1 where a network accepts a mock lens (logit >= 0) and 0 where it misses it.  Images that share an LRG are
not independent, and intervals mind that.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lensdet.data import stamps
from lensdet.evaluation.statistics import bootstrap_interval, resample

RIDGE = 1.0  # scikit-learn's C on standardised features: a coefficient of 1 costs half a unit of log-likelihood
LEAST = 10  # detected, and missed, without which nothing is said of deviance
NAMES = {
    "alpha": "alpha",
    "einstein_radius": "the Einstein radius",
    "lens_snr": "the lens' peak signal-to-noise",
    "source_radius": "the source's radius",
    "neighbours": "the number of neighbours",
}


def lensing_parameters(table: pd.DataFrame) -> pd.DataFrame:
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


def held_out(columns: ArrayLike, detected: ArrayLike, groups: ArrayLike, folds: int = 5, seed: int = 0) -> NDArray:
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


def deviance(detected: ArrayLike, probability: ArrayLike) -> NDArray:
    """Deviance of each image, -2 log-likelihood, averaged over runs: (N,) from (N,) or (R, N), and (N,)."""
    share, p = np.atleast_2d(np.asarray(detected, np.float64)).mean(0), np.clip(probability, 1e-12, 1 - 1e-12)
    return -2 * (share * np.log(p) + (1 - share) * np.log1p(-p))


def importance(
    table: pd.DataFrame,
    detected: ArrayLike,
    features: Iterable[str],
    groups: ArrayLike,
    folds: int = 5,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the deviance each parameter explains that the others cannot.

    A parameter is dropped and the model fitted anew; permuting it would ask the model about lenses that do not exist.
    The unit is the null deviance, that of one probability for all: an importance is a loss of explained deviance, D2.

    Parameters
    ----------
    table : pandas.DataFrame, N rows
        From `lensing_parameters`.
    detected : array_like, (N,) or (R, N)
        0 or 1, of one run or of several, which count as one: intervals are of other images for these very networks.
    features : sequence of str
        Columns of the table.
    groups : array_like, (N,)
        Id of the LRG: no LRG is on both sides of a fold, and the bootstrap resamples LRGs.  (Sources used twice would
        add a tenth to the intervals at the most.)
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


def explained(
    table: pd.DataFrame,
    detected: ArrayLike,
    fraction: ArrayLike,
    groups: ArrayLike,
    folds: int = 5,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Deviance explained, D2, by all parameters and by the area fraction alone, and their paired difference.

    The fraction enters as its logarithm, on which detection depends more evenly; a pixel is added, as some have none.

    Parameters
    ----------
    fraction : array_like, (N,)
        Such as a column of `selection_function.fractions`.
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
