"""How far the numbers can be trusted: over test images, and over runs.

Two questions, two numbers, never mixed:

- the *test-sample interval* says how the mean over these very networks would vary had other test images been drawn
  from the same population.  It knows nothing of networks trained anew.
- the *seed spread* is the standard deviation of single runs (other initial weights and training rows) on these very
  test images.  It knows nothing of other images, and is not the error of the mean, which is smaller by sqrt(runs).

Neither tells about another survey.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from lensdet.metrics import evaluate
from lensdet.streams import stream


class Summary(NamedTuple):
    """A metric over runs."""

    mean: float
    spread: float  # seed spread; not a number for one run
    low: float  # test-sample interval of the mean
    high: float
    n_runs: int


def resample(labels, draws=2000, seed=0):
    """Bootstrap resamples of a test set, stratified by class, as weights.

    They depend on the labels, `draws` and `seed` alone, so that all models on a test set are compared on the same
    resamples, image by image.

    Parameters
    ----------
    labels : array_like, (N,)
        1 for a lens, 0 for a negative.
    draws : int
        Number of resamples B.
    seed : int
        Of the random stream.

    Returns
    -------
    numpy.ndarray, (B, N)
        How often each image is in each resample; each class keeps its size.
    """
    labels = np.asarray(labels)
    weights = np.zeros((draws, len(labels)))
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        n = len(members)
        if n:
            picks = stream(seed, "bootstrap", label).integers(n, size=(draws, n))
            picks += n * np.arange(draws)[:, None]  # a bin for each image of each resample
            weights[:, members] = np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n)
    return weights


def bootstrap_interval(resampled, level=0.95):
    """Percentile interval of the mean over runs: the test-sample interval.

    Parameters
    ----------
    resampled : array_like, (R, B)
        A metric of each of R runs on each of B resamples, from `lensdet.metrics.evaluate` with the weights of
        `resample`.  For two experiments compared run by run, their difference: it is paired in runs and in images.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    tuple of float
        Low and high.  Both are the value itself where no image makes a difference (all right, or nothing accepted):
        there `wilson_interval` says more.
    """
    low, high = np.quantile(np.mean(resampled, axis=0), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_spread(values):
    """Standard deviation over runs, with n - 1 (the thesis: n); not a number for fewer than two runs."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def wilson_interval(successes, trials, level=0.95):
    """Wilson's score interval of a proportion, such as the recall of one network: (low, high)."""
    low, high = binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(low), float(high)


def summarise(labels, logits_by_run, protocol="text", beta=0.17, level=0.95, draws=2000, seed=0):
    """The four numbers of a row of Table 5.1 with their uncertainties.

    Parameters
    ----------
    labels : array_like, (N,)
        Of the test set.
    logits_by_run : array_like, (R, N)
        Of each run on it.
    protocol, beta
        As in `lensdet.metrics.evaluate`.
    level : float
        Of the test-sample interval.
    draws, seed
        As in `resample`.

    Returns
    -------
    dict of Summary
        For ``accuracy``, ``f_beta``, ``precision`` and ``recall``.
    """
    logits = np.atleast_2d(logits_by_run)
    values = evaluate(labels, logits, protocol, beta)  # each (R,)
    resampled = evaluate(labels, logits, protocol, beta, weights=resample(labels, draws, seed))  # each (R, B)
    return {
        name: Summary(
            float(np.mean(runs)), seed_spread(runs), *bootstrap_interval(resampled[name], level), n_runs=len(runs)
        )
        for name, runs in values.items()
    }
