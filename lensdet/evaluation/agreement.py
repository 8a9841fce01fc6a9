"""Whether people agree: kappa of two and of several, and a person with himself.

Kappa is the agreement beyond that of people who grade as often as these do, but at random: 1 all agree, 0 as at random.
Intervals are of 95 %, over candidates that are drawn again; there is none of fewer than five, nor where draws
decide nothing: where all have the same kappa, or more than one in ten has none.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensdet.data.random import stream
from lensdet.evaluation.statistics import clopper_pearson

NOT_GRADED = -1
DRAWS = 1000
LEAST = 5  # candidates, of fewer of which kappa has no interval
KNOWN = 0.9  # of the draws, or an interval would be of the others alone


class Estimate(NamedTuple):
    """A number with its 95 % interval, and how many candidates it rests on; NaN what they do not decide."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def cohen(one: ArrayLike, other: ArrayLike, classes: int, weights: str | None = None) -> Estimate:
    """Cohen's kappa of two people (Cohen 1960).

    Parameters
    ----------
    one, other : int arrays (n,)
        The class of each candidate, from 0; `NOT_GRADED` where it has none.  What both graded counts.
    classes : int
        How many there are.
    weights : {None, "linear", "quadratic"}
        By how far apart two classes are a disagreement counts (Cohen 1968); None: each as much as another.

    Returns
    -------
    Estimate
        NaN where nothing was graded by both, or all of it is of one class, of which random grades agree, too.
    """
    from statsmodels.stats.inter_rater import cohens_kappa  # a second to import, for those who compare

    one, other = _both(one, other)
    n = len(one)
    if not n:
        return NOTHING
    pairs = np.bincount(one * classes + other, minlength=classes**2)

    def kappa(counts):
        return float(cohens_kappa(counts.reshape(classes, classes), wt=weights, return_results=False))

    drawn = stream(0, "agreement/cohen", n).multinomial(n, pairs / n, DRAWS)  # as candidates drawn again
    return _estimate(kappa, pairs, drawn, n)


def fleiss(grades: ArrayLike, classes: int) -> dict[int, Estimate]:
    """Fleiss' kappa of several people (Fleiss 1971), by how many of them graded a candidate.

    It needs as many grades of each candidate, not of the same people: candidates with two grades have one kappa, those
    with three another.

    Parameters
    ----------
    grades : int array (n, people)
        The class of each candidate, from 0; `NOT_GRADED` where a person gave none.
    classes : int

    Returns
    -------
    dict of Estimate
        By the number of grades, from two on, of which there are candidates.
    """
    from statsmodels.stats.inter_rater import fleiss_kappa

    grades = np.asarray(grades, int)
    counts = (grades[..., None] == np.arange(classes)).sum(1)  # (n, classes)
    found = {}
    for k in range(2, grades.shape[1] + 1):
        some = counts[counts.sum(1) == k]
        if not len(some):
            continue
        rows, times = np.unique(some, axis=0, return_counts=True)
        drawn = stream(0, "agreement/fleiss", k, len(some)).multinomial(len(some), times / len(some), DRAWS)

        def kappa(how_often, rows=rows):
            return float(fleiss_kappa(np.repeat(rows, how_often, axis=0)))

        found[k] = _estimate(kappa, times, drawn, len(some))
    return found


def consistency(first: ArrayLike, second: ArrayLike) -> Estimate:
    """The share of candidates that a person gave the same class twice, with its exact interval (`clopper_pearson`).

    Parameters
    ----------
    first, second : int arrays (n,)
        The class at each of two showings; `NOT_GRADED` where there is none.
    """
    first, second = _both(first, second)
    return share(first == second)


def share(of: ArrayLike) -> Estimate:
    """The share that is true, with its exact interval (`clopper_pearson`); NaN of none."""
    of = np.asarray(of, bool)
    if not len(of):
        return NOTHING
    low, high = clopper_pearson(of.sum(), len(of))
    return Estimate(float(of.mean()), float(low), float(high), len(of))


def _both(one: ArrayLike, other: ArrayLike) -> tuple[NDArray, NDArray]:
    """Where neither is `NOT_GRADED`."""
    one, other = np.asarray(one, int), np.asarray(other, int)
    both = (one != NOT_GRADED) & (other != NOT_GRADED)
    return one[both], other[both]


def _estimate(kappa: Callable[[NDArray], float], counts: NDArray, drawn: NDArray, n: int) -> Estimate:
    """Kappa of counts, and its interval from counts that were drawn; of one class alone it is 0 over 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value, again = kappa(counts), np.array([kappa(one) for one in drawn])
    known = again[np.isfinite(again)]
    if n < LEAST or not np.isfinite(value) or len(known) < KNOWN * len(again) or np.ptp(known) < 1e-9:
        return Estimate(value if np.isfinite(value) else np.nan, np.nan, np.nan, n)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)
