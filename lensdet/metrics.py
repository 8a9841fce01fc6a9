"""Counts, precision, recall and F_beta on whole arrays, and what a training is selected by (sections 3.4.2 and 3.5).

NumPy in float64.  Networks leave logits, and `probability` turns them into probabilities here: those of float32 are
exactly 1 above a logit of some 17, so that images which the network ranks would tie.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import expit

THRESHOLDS = np.linspace(0.01, 0.99, 99)  # of Fig. 5.1

# What a training can be selected by, and whether the best value is the smallest or the largest; see `selectors`.
SELECTORS = {
    "loss": "min",
    "f_beta": "max",
    "soft_f_beta": "max",
    "code_loss": "min",
    "code_f_beta": "max",
    "code_accuracy": "max",
}

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


def probability(logits):
    """Probabilities in float64 from logits of any shape and type."""
    return expit(np.asarray(logits, np.float64))


def soft_counts(labels, accepted, weights=None):
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


def hard_counts(labels, probability, thresholds, weights=None):
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


def precision(counts):
    """Eq. 3.6; 0 where nothing is accepted."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def recall(counts):
    """Eq. 3.7; 0 where there are no lenses."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def accuracy(counts):
    """Eq. 3.20; 0 where there are no images."""
    return _ratio(counts.tp + counts.tn, sum(counts))


def f_beta(counts, beta):
    """Eq. 3.18, multiplied out as in `lensdet.losses.f_beta_loss` but without an epsilon; 0 without true positives."""
    gain = (1 + beta**2) * counts.tp
    return _ratio(gain, gain + beta**2 * counts.fn + counts.fp)


def f_beta_curve(labels, probability, beta, thresholds=THRESHOLDS):
    """What Fig. 5.1 shows: F_beta, precision and recall against the threshold.

    Parameters are those of `hard_counts`.  Returns three arrays (..., T).
    """
    counts = hard_counts(labels, probability, thresholds)
    return f_beta(counts, beta), precision(counts), recall(counts)


def mean_f_beta(labels, probability, beta=0.17, steps=50):
    """Mean of F_beta over thresholds, the stand-in for the area under its curve (Eq. 3.21).

    Eq. 3.21 sums S + 1 terms and divides by S; like the published code this is the mean over S = `steps` thresholds
    ``(i + 1e-4) / S``, the first of which accepts nearly everything, so that a perfect model has 0.99.

    Returns an array of the leading shape of `probability`.
    """
    return f_beta(hard_counts(labels, probability, _selection_thresholds(steps)), beta).mean(-1)


def training_loss(labels, logits, name, beta=0.17, weights=None):
    """A loss of `lensdet.losses.make_loss`, on whole arrays: Eq. 3.5, 3.14, 3.17 or 3.19, without any L2 term.

    Parameters
    ----------
    labels, weights
        As in `soft_counts`.
    logits : array_like, (..., N)
        Of the network.
    name : {"bce", "fbeta", "f1", "f1_double"}
        Which loss.
    beta : float
        Of soft F_beta.

    Returns
    -------
    numpy.ndarray
        Shape (...), or (..., B) with weights.
    """
    labels, logits = _matched(labels, logits)
    if name == "bce":
        # -log p = log(1 + exp(-z)), and likewise for 1 - p: finite for every finite logit
        loss = np.logaddexp(0, np.where(labels > 0, -logits, logits))
        if weights is None:
            return loss.mean(-1)
        weights = np.asarray(weights, np.float64)
        return loss @ weights.T / weights.sum(-1)
    counts = soft_counts(labels, probability(logits), weights)
    if name == "f1_double":
        return 1 - (f_beta(counts, 1) + f_beta(Counts(*counts[::-1]), 1)) / 2
    return 1 - f_beta(counts, {"fbeta": beta, "f1": 1}[name])


def selectors(labels, logits, loss_name, beta=0.17, loss_beta=0.17, l2_penalty=0.0, batch_size=64):
    """What a checkpoint can be selected by, under both protocols, from the logits of a validation set.

    ``text``: the training loss, Eq. 3.21 and the soft F_beta score (section 3.5.2), each on the whole set at once.
    ``code``: means over the batches that the published runs saw, which were in order (lenses first) and so nearly
    all of one class.  There soft F1, soft F_beta and the F_beta metric are constant on batches of negatives, and
    selection is almost blind to false positives.  Its loss includes the L2 penalty; what it called soft F_beta was
    the accuracy.

    Parameters
    ----------
    labels : array_like, (N,)
        Lenses first, then negatives.
    logits : array_like, (N,)
        Of the network.
    loss_name : {"bce", "fbeta", "f1", "f1_double"}
        The loss in training.
    beta : float
        Of the two F_beta selectors.
    loss_beta : float
        Of the soft F_beta loss.
    l2_penalty : float
        The L2 term of the training loss, for ``code_loss``.
    batch_size : int
        Images in a batch, for ``code``; the last may be smaller and weighs as much.

    Returns
    -------
    dict of float
        One value for each name in `SELECTORS`; all not-a-number where a logit is.

    Raises
    ------
    ValueError
        If a negative stands before a lens.
    """
    labels, logits = _matched(labels, logits)
    if np.any(np.diff(labels) > 0):
        raise ValueError("the validation set must have its lenses first, then its negatives")
    if np.isnan(logits).any():
        return dict.fromkeys(SELECTORS, math.nan)
    p = probability(logits)
    batches = np.arange(len(p)) // batch_size  # (N,), the batch that an image is in
    batches = batches == np.arange(batches[-1] + 1)[:, None]  # (B, N)
    if loss_name == "fbeta":
        code_loss = 1 - _code_f_beta(soft_counts(labels, p, batches), loss_beta)
    else:
        code_loss = training_loss(labels, logits, loss_name, weights=batches)
    values = {
        "loss": training_loss(labels, logits, loss_name, loss_beta),
        "f_beta": mean_f_beta(labels, p, beta),
        "soft_f_beta": f_beta(soft_counts(labels, p), beta),
        "code_loss": code_loss.mean() + l2_penalty,
        "code_f_beta": _code_f_beta(hard_counts(labels, p, _selection_thresholds(), batches), beta).mean(),
        "code_accuracy": accuracy(hard_counts(labels, p, math.nextafter(0.5, 1), batches)).mean(),
    }
    return {name: float(value) for name, value in values.items()}


def evaluate(labels, logits, protocol="text", beta=0.17, weights=None):
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
        If a logit is not a number.
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


def _selection_thresholds(steps=50):
    return (np.arange(steps) + 1e-4) / steps


def _code_f_beta(counts, beta):
    """Eq. 3.18 with the epsilons of the published code; they settle 0/0 in batches of one class."""
    p = counts.tp / (counts.tp + counts.fp + 1e-7)
    r = counts.tp / (counts.tp + counts.fn + 1e-7)
    return (1 + beta**2) * p * r / (beta**2 * p + r + 1e-7)


def _ratio(part, whole):
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
