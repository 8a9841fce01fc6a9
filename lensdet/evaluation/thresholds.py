"""Where to cut, and what that means on the sky, where one galaxy in a thousand is a lens.

Thresholds are logits: saturated probabilities tie.  An image is accepted at or above the threshold.  Images of one
logit cannot be told apart; numbers read between two thresholds accept a random part of such a block, so that tp and
fp grow in proportion (Fawcett 2006 for ROC curves, Davis & Goadrich 2006 for precision and recall).  A model that
saturates is thus neither favoured nor punished.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from lensdet.evaluation import metrics
from lensdet.evaluation.calibration import checked

ROUNDING = 1e-9  # relative: 0.1 * 30 lenses are 3, though not in float64


class Curve(NamedTuple):
    """Accepted lenses and negatives at each threshold, from none to all."""

    threshold: np.ndarray  # (T,), descending
    tp: np.ndarray  # (T,) or (B, T)
    fp: np.ndarray


class Optimum(NamedTuple):
    """The best F_beta, and the probability at which theory cuts to reach it."""

    f_beta: float
    probability: float


def curve(labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Curve:
    """Counts at each distinct logit.

    Parameters
    ----------
    labels : array_like, (N,)
        1 for a lens, 0 for a negative.
    logits : array_like, (N,)
        Of one model.
    weights : array_like, (B, N), optional
        How often each image counts in each of B resamples (`statistics.resample`).

    Returns
    -------
    Curve
        The first threshold is +inf, where nothing is accepted; the others are the distinct logits.

    Raises
    ------
    ValueError
        As `calibration.checked`; if a class is missing, in any of the resamples; if weights are not (B, N).
    """
    labels, logits = checked(labels, logits)
    weights = np.ones_like(labels) if weights is None else np.asarray(weights, np.float64)
    if weights.shape[-1:] != labels.shape:
        raise ValueError(f"weights {weights.shape} do not go with labels {labels.shape}: (B, N) and (N,)")
    order = np.argsort(-logits)
    ranked, labels, weights = logits[order], labels[order], weights[..., order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # of each block of equal logits

    def accepted(counted):  # (..., N) -> (..., T)
        return np.insert(np.cumsum(counted, axis=-1)[..., last], 0, 0, axis=-1)

    tp, fp = accepted(weights * labels), accepted(weights * (1 - labels))
    for counts, images in ((tp, "lenses"), (fp, "negatives")):
        if not counts[..., -1].all():
            raise ValueError(f"no {images}: thresholds need both classes, in each resample")
    return Curve(np.r_[np.inf, ranked[last]], tp, fp)


def best_threshold(labels: ArrayLike, logits: ArrayLike, beta: float) -> float:
    """Threshold with the highest F_beta on these images: the calibration set, before the network is deployed.

    Parameters are as in `curve`, with beta that of F_beta (Eq. 3.18); errors too.

    Returns
    -------
    float
        A finite logit, halfway between the last that is accepted and the next, so that rounding changes nothing; one
        below the lowest where all are accepted.  The lowest of several as good: it finds the most lenses.
    """
    points = curve(labels, logits)
    f = _f_beta(points, beta)
    best = np.flatnonzero(f >= f.max() * (1 - ROUNDING))[-1]  # equal F_beta differ in their last digits
    below = np.r_[points.threshold, points.threshold[-1] - 2]
    return float((below[best] + below[best + 1]) / 2)


def optimal_threshold(labels: ArrayLike, reference_logits: ArrayLike, beta: float) -> Optimum:
    """The best F_beta that thresholds on the reference reach, and where theory puts that of a soft F_beta loss.

    With calibrated probabilities the most expected F_beta, soft or hard, comes from accepting p >= F*/(1 + beta^2),
    F* being that very F_beta (Lipton et al. 2014 for F1, F*/2).  F* is in-sample and a little too high.

    Parameters are as in `best_threshold`, the logits those of a calibrated model; errors too.

    Returns
    -------
    Optimum
        F* and F*/(1 + beta^2).
    """
    f = float(_f_beta(curve(labels, reference_logits), beta).max())
    return Optimum(f, f / (1 + beta**2))


def auc(points: Curve) -> NDArray:
    """Area under the ROC curve: of a lens and a negative, how often the lens is ranked higher (Mann & Whitney 1947).

    Where both have the same logit, that counts half.

    Parameters
    ----------
    points : Curve
        From `curve`.

    Returns
    -------
    numpy.float64, or numpy.ndarray (B,) of a curve with weights
        In [0, 1]: exactly 1 where all lenses are above all negatives, exactly 0 where all are below.
    """
    return trapezoid(points.tp, points.fp, axis=-1) / (points.tp[..., -1] * points.fp[..., -1])


def precision_at_recall(points: Curve, recall: float) -> NDArray:
    """Precision where exactly this share of the lenses is accepted, ties interpolated.

    Parameters
    ----------
    points : Curve
        From `curve`.
    recall : float
        In (0, 1].

    Returns
    -------
    numpy.float64, or numpy.ndarray (B,) of a curve with weights
        With the fewest false positives at that recall.

    Raises
    ------
    ValueError
        If the recall is outside (0, 1].
    """
    tp, fp = _counts(points, "recall", recall)
    target = recall * tp[..., -1]
    after = np.argmax(tp >= target[..., None] * (1 - ROUNDING), axis=-1)  # the first; at least 1, as tp[0] = 0
    part = (target - _at(tp, after - 1)) / (_at(tp, after) - _at(tp, after - 1))
    return target / (target + _between(fp, after - 1, after, np.minimum(part, 1)))


def recall_at_precision(points: Curve, precision: float) -> NDArray:
    """The highest recall with at least this precision, ties interpolated.

    Parameters
    ----------
    points : Curve
        From `curve`.
    precision : float
        In (0, 1].

    Returns
    -------
    numpy.float64, or numpy.ndarray (B,) of a curve with weights
        NaN where that precision is never reached.

    Raises
    ------
    ValueError
        If the precision is outside (0, 1].
    """
    tp, fp = _counts(points, "precision", precision)
    margin = (1 - precision) * tp - precision * fp  # linear between points; not negative where precise enough
    margin = np.where(np.abs(margin) <= ROUNDING * (tp + fp), 0, margin)
    last = margin.shape[-1] - 1
    before = last - np.argmax(margin[..., ::-1] >= 0, axis=-1)
    after = np.minimum(before + 1, last)
    start, end = _at(margin, before), _at(margin, after)
    part = np.divide(start, start - end, out=np.zeros_like(start), where=end < 0)  # to where the margin is used up
    found = _between(tp, before, after, part)
    return np.where(found > 0, found, np.nan)[()] / tp[..., -1]


def effective_threshold(labels: ArrayLike, logits: ArrayLike, reference_logits: ArrayLike) -> float:
    """Threshold at which the reference finds as many lenses as a soft model, which decides at logit 0.

    Parameters
    ----------
    labels : array_like, (N,)
        1 for a lens, 0 for a negative; of the calibration set.
    logits, reference_logits : array_like, (N,)
        Of the soft model, and of the reference (binary cross-entropy) on the same images.

    Returns
    -------
    float
        A logit of the reference, halfway between the last lens that it accepts and the next; if these tie, theirs.
        Only bounded from one side, and given as +inf or -inf, where the soft model accepts no lens or all of them.

    Raises
    ------
    ValueError
        As `calibration.checked`, or if there are no lenses.
    """
    (labels, logits), (_, reference) = checked(labels, logits), checked(labels, reference_logits)
    lenses = labels == 1
    if not lenses.any():
        raise ValueError("no lenses: recall is not defined")
    found = np.count_nonzero(logits[lenses] >= 0)
    ranked = np.r_[np.inf, np.sort(reference[lenses])[::-1], -np.inf]
    return float((ranked[found] + ranked[found + 1]) / 2)


def purity(tpr: ArrayLike, fpr: ArrayLike, prior: ArrayLike) -> NDArray:
    """Precision on a sky where `prior` of the galaxies are lenses (Bayes); arrays broadcast.

    From the true and false positive rates; NaN where nothing is accepted (0/0).
    """
    found, false = _accepted(tpr, fpr, prior)
    with np.errstate(invalid="ignore"):
        return found / (found + false)


def inspected_per_lens(tpr: ArrayLike, fpr: ArrayLike, prior: ArrayLike) -> NDArray:
    """False positives to inspect for each lens found, 1/purity - 1; arrays broadcast.

    inf where no lens is found among those accepted, NaN where nothing is accepted.
    """
    found, false = _accepted(tpr, fpr, prior)
    with np.errstate(divide="ignore", invalid="ignore"):
        return false / found


def mixed_fpr(fpr_lrg: ArrayLike, fpr_contaminant: ArrayLike, share: ArrayLike) -> NDArray:
    """False positive rate where `share` of the non-lenses are contaminants, the others LRGs; arrays broadcast.

    A rate that is NaN does no harm where it has no share.
    """
    fpr_lrg, fpr_contaminant, share = map(np.asarray, (fpr_lrg, fpr_contaminant, share))
    return np.where(share > 0, share * fpr_contaminant, 0) + np.where(share < 1, (1 - share) * fpr_lrg, 0)


def _accepted(tpr, fpr, prior):
    """Shares of the sky: lenses accepted, and non-lenses."""
    tpr, fpr, prior = map(np.asarray, (tpr, fpr, prior))
    return tpr * prior, fpr * (1 - prior)


def _f_beta(points, beta):
    tp, fp = points.tp, points.fp
    return metrics.f_beta(metrics.Counts(tp, fp, tp[-1] - tp, fp[-1] - fp), beta)


def _counts(points, name, value):
    """Counts of a curve, at a recall or precision that has to be in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} {value} is not in (0, 1]")
    return points.tp, points.fp


def _at(values, index):
    """One of (..., T) for each index (...)."""
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def _between(values, before, after, part):
    return _at(values, before) + part * (_at(values, after) - _at(values, before))
