"""Counts, precision, recall and F_beta on whole arrays (section 3.4.2), in NumPy and float64.

Networks leave logits, and `probability` turns them into probabilities here: those of float32 are exactly 1 above a
logit of some 17, so that images which the network ranks would tie.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Protocol = Literal["text", "code"]  # as the thesis describes it, or as its published runs computed

THRESHOLDS = np.linspace(0.01, 0.99, 99)  # of Fig. 5.1
OF_THE_MEAN = (np.arange(50) + 1e-4) / 50  # of the mean F_beta (Eq. 3.21), as published; the first accepts nearly all

# How the numbers of the tables are computed; an image is accepted at or above a threshold.
PROTOCOLS = {
    "text": {
        "threshold": 0.5,  # of precision, recall and F_beta (caption of Table 5.1)
        "accuracy_threshold": 0.5,
        "beta": None,  # the one asked for
    },
    "code": {
        "threshold": 0.49,  # one off in the list of thresholds
        "accuracy_threshold": math.nextafter(0.5, 1),  # Keras' binary accuracy: p > 0.5
        "beta": math.sqrt(0.03),  # 0.17^2, rounded
    },
}


class Counts(NamedTuple):
    """The confusion matrix (Table 3.1), hard or soft: four numbers, or four arrays of one shape."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def probability(logits: ArrayLike) -> NDArray:
    """Probabilities in float64 from logits of any shape and type."""
    return expit(np.asarray(logits, np.float64))


def soft_counts(labels: ArrayLike, accepted: ArrayLike, weights: ArrayLike | None = None) -> Counts:
    """Soft counts (Eqs. 3.9-3.12), summed over images.

    Parameters
    ----------
    labels : array_like, (N,)
        1 for a lens, 0 for a negative.
    accepted : array_like, (..., N)
        How far each image is accepted: its probability in [0, 1], or true and false, which gives hard counts.
    weights : array_like, (B, N), optional
        How often each image counts in each of B samples: the batches of a set, or its resamples.

    Returns
    -------
    Counts
        Arrays of shape (...), or (..., B) with weights.

    Raises
    ------
    ValueError
        If there is not one label an image.
    """
    labels, accepted = _matched(labels, accepted)

    def total(values):
        return values.sum(-1) if weights is None else values @ np.asarray(weights, np.float64).T

    tp, fp = total(accepted * labels), total(accepted * (1 - labels))
    return Counts(tp, fp, total(labels) - tp, total(1 - labels) - fp)


def hard_counts(
    labels: ArrayLike, probability: ArrayLike, thresholds: ArrayLike, weights: ArrayLike | None = None
) -> Counts:
    """Hard counts: an image is accepted where its probability is at or above the threshold (section 3.4.2).

    Parameters
    ----------
    labels, weights
        As in `soft_counts`.
    probability : array_like, (..., N)
        In float64.
    thresholds : float or array_like, (T,)
        Decision thresholds.

    Returns
    -------
    Counts
        Arrays of shape (...) for one threshold or (..., T) for many; with weights one more axis, of length B.
    """
    probability, thresholds = np.asarray(probability), np.asarray(thresholds, np.float64)
    if thresholds.ndim:
        probability = probability[..., None, :]  # (..., 1, N) against (T, 1)
    return soft_counts(labels, probability >= thresholds[..., None], weights)


def precision(counts: Counts) -> NDArray:
    """Eq. 3.6; 0 where nothing is accepted."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def recall(counts: Counts) -> NDArray:
    """Eq. 3.7; 0 where there are no lenses."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def accuracy(counts: Counts) -> NDArray:
    """Eq. 3.20; 0 where there are no images."""
    return _ratio(counts.tp + counts.tn, sum(counts))


def f_beta(counts: Counts, beta: float) -> NDArray:
    """Eq. 3.18, multiplied out as in `losses.f_beta_loss` but without an epsilon; 0 without true positives."""
    gain = (1 + beta**2) * counts.tp
    return _ratio(gain, gain + beta**2 * counts.fn + counts.fp)


def f_beta_curve(
    labels: ArrayLike, probability: ArrayLike, beta: float, thresholds: ArrayLike = THRESHOLDS
) -> tuple[NDArray, NDArray, NDArray]:
    """What Fig. 5.1 shows: F_beta, precision and recall against the threshold.

    Parameters are those of `hard_counts`.  Returns three arrays (..., T).
    """
    counts = hard_counts(labels, probability, thresholds)
    return f_beta(counts, beta), precision(counts), recall(counts)


def evaluate(
    labels: ArrayLike,
    logits: ArrayLike,
    protocol: Protocol = "text",
    beta: float = 0.17,
    weights: ArrayLike | None = None,
) -> dict[str, NDArray]:
    """The four numbers of Tables 5.1 to 5.3.

    Parameters
    ----------
    labels, weights
        As in `soft_counts`.
    logits : array_like, (..., N)
        Of one model, or of several on the same images.
    protocol : {"text", "code"}
        Thresholds and beta, see `PROTOCOLS`.
    beta : float
        Of F_beta, where the protocol has none of its own.

    Returns
    -------
    dict of numpy.ndarray
        ``accuracy``, ``f_beta``, ``precision`` and ``recall``, of shape (...), or (..., B) with weights.

    Raises
    ------
    ValueError
        If a logit is NaN.
    """
    if np.isnan(logits).any():
        raise ValueError("logits that are not numbers cannot be evaluated: the training has diverged")
    switches, p = PROTOCOLS[protocol], probability(logits)
    counts = hard_counts(labels, p, switches["threshold"], weights)
    return {
        "accuracy": accuracy(hard_counts(labels, p, switches["accuracy_threshold"], weights)),
        "f_beta": f_beta(counts, switches["beta"] or beta),
        "precision": precision(counts),
        "recall": recall(counts),
    }


def _matched(labels, predictions):
    """Both as float64 arrays, (N,) and (..., N)."""
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if labels.shape != predictions.shape[-1:]:  # (N,) and (N, 1) would quietly give (N, N)
        raise ValueError(f"labels {labels.shape} do not go with predictions {predictions.shape}: (N,) and (..., N)")
    return labels, predictions


def _ratio(part, whole):
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
