"""Are the probabilities right?  Of the images with P(lens) = 0.9, nine in ten should be lenses.

Networks leave logits; all is computed from them in float64 (`metrics.probability`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from lensdet.evaluation.metrics import probability

TEMPERATURES = 1e-2, 1e6  # where `temperature` looks; wide, as the logits of soft losses reach 1e4


class Reliability(NamedTuple):
    """A reliability diagram, one entry for each bin that has images."""

    mean_prediction: np.ndarray
    fraction: np.ndarray  # of lenses
    count: np.ndarray


def checked(labels: ArrayLike, logits: ArrayLike) -> tuple[NDArray, NDArray]:
    """Labels and logits of one model as float64, both (N,).

    Raises
    ------
    ValueError
        If the shapes differ or are not (N,), a label is neither 0 nor 1, or a logit is not finite.
    """
    labels, logits = np.asarray(labels, np.float64), np.asarray(logits, np.float64)
    if labels.ndim != 1 or labels.shape != logits.shape:
        raise ValueError(f"labels {labels.shape} do not go with logits {logits.shape}: both are (N,)")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels are 1 for a lens and 0 for a negative")
    if not np.isfinite(logits).all():
        raise ValueError("logits that are not finite cannot be ranked: the training has diverged")
    return labels, logits


def temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """Temperature T that makes ``sigmoid(logit / T)`` most likely (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    labels : array_like, (N,)
        1 for a lens, 0 for a negative; of the calibration set, never of the test set.
    logits : array_like, (N,)
        Of one model; up to 1e4 and beyond in size.

    Returns
    -------
    float
        Where the negative log-likelihood is least between the bounds `TEMPERATURES`.  The lower bound if no logit has
        the wrong sign: the likelihood then grows for ever as T falls, and T means nothing.  The upper bound if the
        logits tell nothing, or the contrary of the truth.

    Raises
    ------
    ValueError
        As `checked`, or if a class is missing.
    """
    labels, logits = checked(labels, logits)
    if not 0 < labels.sum() < len(labels):
        raise ValueError(f"no {'lenses' if not labels.any() else 'negatives'} to calibrate on")

    # A root of the slope, not a minimum: the likelihood of saturated logits is flat to its last digit.  It is convex
    # in 1/T, so that there is one root at most.
    def slope(log_t):  # against 1/T
        wrong = np.where(labels, -1, 1) * logits
        return wrong @ expit(wrong / np.exp(log_t))

    cold, hot = np.log(TEMPERATURES)
    if slope(hot) >= 0:
        return TEMPERATURES[1]
    if slope(cold) <= 0:
        return TEMPERATURES[0]
    return float(np.exp(brentq(slope, cold, hot)))


def brier(labels: ArrayLike, logits: ArrayLike) -> float:
    """Brier score, the mean of (p - label)^2 (Brier 1950), of arrays (N,); raises as `checked`."""
    labels, logits = checked(labels, logits)
    return float(np.mean((probability(logits) - labels) ** 2))


def reliability(labels: ArrayLike, logits: ArrayLike, bins: int = 15) -> Reliability:
    """Reliability diagram: the fraction of lenses against P(lens).

    Parameters
    ----------
    labels, logits : array_like, (N,)
        As in `temperature`; one class is enough.
    bins : int
        Number of bins, equally wide in P(lens), each with its upper edge (Guo et al. 2017); the first has 0 too.

    Returns
    -------
    Reliability
        Arrays of at most `bins` entries, by increasing prediction.

    Raises
    ------
    ValueError
        As `checked`.
    """
    labels, logits = checked(labels, logits)
    p = probability(logits)
    which = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p)
    count, predicted, lenses = (np.bincount(which, values, bins) for values in (np.ones_like(p), p, labels))
    some = count > 0
    return Reliability(predicted[some] / count[some], lenses[some] / count[some], count[some].astype(int))


def expected_calibration_error(labels: ArrayLike, logits: ArrayLike, bins: int = 15) -> float:
    """Mean of |mean prediction - fraction of lenses| over bins, each weighted by its images.

    Naeini et al. (2015), on P(lens) in [0, 1]; Guo et al. (2017) use the probability of the more likely class.  Noise
    makes it positive even for a calibrated model, by up to some 0.4 sqrt(bins / N): compare models on one set.

    Parameters, their meaning and errors are those of `reliability`.  Returns a float.
    """
    diagram = reliability(labels, logits, bins)
    return float(np.average(np.abs(diagram.mean_prediction - diagram.fraction), weights=diagram.count))
