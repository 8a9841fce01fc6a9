"""How many lenses to expect among the first N of a ranked list, and the field's metrics, on a large simulated set.

All of it is the tail of our simulator, not of the sky (`HEADING`, to be shown wherever these numbers are): real
contaminants are of more kinds than ours, and real lenses are not our mock lenses.

Intervals say what a finite number of simulated negatives and lenses leaves, and nothing else.  They come from binomial
likelihoods and not from a bootstrap: the tail of a good finder has few negatives, or none, and resamples of none are
none again, an interval of no width where least is known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, xlogy
from scipy.stats import chi2, norm, rankdata

from lensdet.evaluation import thresholds
from lensdet.evaluation.statistics import clopper_pearson

HEADING = "tail of our simulator, not of the sky"
INSPECTED = (50, 100, 200, 500, 1000, 2000)
PRIORS = (1e-4, 3e-4, 1e-3, 3e-3)
LEAST = 10  # negatives in a tail, below which its rate is only bounded: its 95 % interval spans a factor of 4


class Expectation(NamedTuple):
    """Lenses expected among the first N of M ranked stamps; a number or an array of each."""

    lenses: np.ndarray  # NaN where not `known`: then `low` and `high` are all that can be said
    low: np.ndarray  # of the interval that finite simulated sets leave
    high: np.ndarray
    random: np.ndarray  # found by N stamps taken at random
    false_positives: np.ndarray  # simulated negatives above the threshold, that all of it rests on
    known: np.ndarray  # bool; whether these are `LEAST` or more


class Rates(NamedTuple):
    """True and false positive rate at a threshold, each with its Clopper-Pearson interval."""

    threshold: float  # a stamp with this logit or above is accepted; +inf: none can be
    tpr: float
    tpr_low: float
    tpr_high: float
    fpr: float
    fpr_low: float
    fpr_high: float
    found: int
    lenses: int
    false_positives: int
    negatives: int


class Interval(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


def expected(
    negatives: ArrayLike, lenses: ArrayLike, m: int, inspected: ArrayLike, prior: ArrayLike, level: float = 0.95
) -> Expectation:
    """Lenses among the N highest ranked of M stamps, of which a share `prior` are lenses.

    The N-th highest lies at the threshold where ``prior TPR + (1 - prior) FPR = N / M``; above it are ``prior TPR M``
    lenses.  The interval is that of a profile likelihood, both rates binomial.  With fewer than `LEAST` negatives above
    the threshold lenses are NaN, and the interval is exact, from Clopper-Pearson intervals of both rates.  Neither has
    the Poisson spread of the lenses in the astronomer's own stamps.  Derived in docs/why/statistics.md.

    Parameters
    ----------
    negatives, lenses : array_like, (n,) and (k,)
        Logits of simulated negatives and lenses by one finder, or by an ensemble.
    m : int
        Stamps that were ranked.
    inspected, prior : array_like
        N, from 1 to M, and the share of lenses, from 0 to 1; both broadcast.
    level : float
        Of the interval.

    Returns
    -------
    Expectation
        Of the shape of `inspected` and `prior` together.

    Raises
    ------
    ValueError
        If a set is empty, a logit not finite, N not in 1 ... M, or the prior no share.
    """
    shares, priors = np.broadcast_arrays(np.asarray(inspected, float) / m, np.asarray(prior, float))
    if not (shares * m >= 1).all() or not (shares <= 1).all():
        raise ValueError(f"inspected {inspected}: from 1 to the {m} stamps that are ranked")
    if not (priors >= 0).all() or not (priors <= 1).all():
        raise ValueError(f"prior {prior}: a share of lenses is from 0 to 1")
    tp, fp = _ranked(negatives, lenses)
    k, n = tp[-1], fp[-1]
    bounds = [clopper_pearson(x, x[-1], (1 + level) / 2) for x in (tp, fp)]
    found = []
    for s, p in zip(shares.ravel(), priors.ravel(), strict=True):
        accepted = p * tp / k + (1 - p) * fp / n
        above, tpr = float(np.interp(s, accepted, fp)), float(np.interp(s, accepted, tp)) / k
        *ends, possible = _exact(s, p, *bounds)
        known = above >= LEAST or p in (0, 1)
        if known and 0 < p < 1:
            ends = _profile(s, p, tpr, ends, tp[possible], k, fp[possible], n, level)
        found.append((p * tpr * m if known else np.nan, *(p * end * m for end in ends), s * m * p, above, known))
    columns = np.array(found, float).reshape(-1, 6).T.reshape(6, *shares.shape)
    return Expectation(*(column[()] for column in columns[:5]), known=columns[5].astype(bool)[()])


def _ranked(negatives, lenses):
    """Lenses and negatives among the first 0, 1, ... of all, in proportion within a block of equal logits."""
    c = _curve(negatives, lenses)
    ranked = np.arange(len(negatives) + len(lenses) + 1)
    tp = np.interp(ranked, c.tp + c.fp, c.tp)
    return tp, ranked - tp


def _curve(negatives, lenses):
    return thresholds.curve(np.repeat([0, 1], [len(negatives), len(lenses)]), np.r_[negatives, lenses])


def _exact(share, prior, tp_bounds, fp_bounds):
    """Ends of the exact set of TPRs where `share` is accepted, and which of the thresholds can be the true one."""
    if prior == 0:
        return 0.0, 1.0, np.ones(len(tp_bounds[0]), bool)
    low = np.maximum(tp_bounds[0], (share - (1 - prior) * fp_bounds[1]) / prior)
    high = np.minimum(tp_bounds[1], (share - (1 - prior) * fp_bounds[0]) / prior)
    possible = low <= high + thresholds.ROUNDING
    return *np.clip((low[possible].min(), high[possible].max()), 0, 1), possible


def _profile(share, prior, tpr, ends, tp, k, fp, n, level):
    """Ends of the profile-likelihood interval of the TPR, within those of the exact set."""

    def excess(x):  # over what chi-squared allows, at the threshold that suits x best
        y = (share - prior * x) / (1 - prior)
        return (_deviance(tp, k, x) + _deviance(fp, n, y)).min() - chi2.ppf(level, 1)

    return [end if excess(end) <= 0 else brentq(excess, end, tpr, xtol=1e-6) for end in ends]


def _deviance(successes, trials, rate):
    rate = np.clip(rate, 1e-300, 1 - 1e-15)
    missed = trials - successes
    return 2 * (xlogy(successes, successes / (trials * rate)) + xlogy(missed, missed / (trials * (1 - rate))))


def rates(negatives: ArrayLike, lenses: ArrayLike, threshold: float, level: float = 0.95) -> Rates:
    """TPR and FPR at a threshold, each with its exact interval: `Rates`.

    Parameters
    ----------
    negatives, lenses : array_like, (n,) and (k,)
        Logits.
    threshold : float
        A logit; a stamp at or above it is accepted.
    level : float
        Of each interval.
    """
    negatives, lenses = np.asarray(negatives), np.asarray(lenses)
    counts = [(int((set_ >= threshold).sum()), len(set_)) for set_ in (lenses, negatives)]
    (found, k), (wrong, n) = counts
    bounds = [value for successes, trials in counts for value in clopper_pearson(successes, trials, level)]
    return Rates(float(threshold), found / k, *bounds[:2], wrong / n, *bounds[2:], found, k, wrong, n)


def tpr_before(negatives: ArrayLike, lenses: ArrayLike, false_positives: int, level: float = 0.95) -> Rates:
    """The highest TPR that a threshold reaches with fewer false positives than given.

    With 1 it is TPR0 of Metcalf et al. (2019, section 5.1), with 10 TPR10.  Stamps of one logit are accepted together.
    Both fall as a set of negatives grows: `Rates.negatives` says how many here.  Intervals are for this threshold,
    which another set of negatives would move (docs/why/statistics.md).

    Parameters
    ----------
    negatives, lenses : array_like, (n,) and (k,)
        Logits.
    false_positives : int
        At least 1.
    level : float
        Of each interval.

    Returns
    -------
    Rates
        At the lowest logit of a lens that is above; +inf where there is none.
    """
    if false_positives < 1:
        raise ValueError(f"fewer than {false_positives} false positives: at least 1")
    negatives, lenses = _checked(negatives, lenses)
    if len(negatives) < false_positives:
        return rates(negatives, lenses, min(negatives.min(), lenses.min()), level)
    above = lenses[lenses > np.sort(negatives)[-false_positives]]
    return rates(negatives, lenses, above.min() if len(above) else np.inf, level)


def tpr_at(negatives: ArrayLike, lenses: ArrayLike, fpr: float, level: float = 0.95) -> Rates:
    """The highest TPR that a threshold reaches with at most this FPR among these negatives: `Rates`.

    With both bounded: at an FPR of 1e-4, 100,000 negatives have 10 false positives, and the true FPR of that threshold
    is from 4.8e-5 to 1.84e-4.  Ties are as in `tpr_before`.

    Parameters
    ----------
    negatives, lenses : array_like, (n,) and (k,)
        Logits.
    fpr : float
        From 0 to 1.
    level : float
        Of each interval.
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"a false-positive rate of {fpr}: from 0 to 1")
    return tpr_before(negatives, lenses, int(fpr * len(negatives) * (1 + thresholds.ROUNDING)) + 1, level)


def precision(at: Rates, prior: float, level: float = 0.95) -> Interval:
    """Precision at a threshold where `prior` of the stamps are lenses, from `Rates`: an `Interval`.

    The interval is conservative: both rates at their worst and at their best at once, each with half of what may fail.
    NaN where nothing is accepted.
    """
    tpr = clopper_pearson(at.found, at.lenses, (1 + level) / 2)
    fpr = clopper_pearson(at.false_positives, at.negatives, (1 + level) / 2)
    ends = thresholds.purity(np.array([at.tpr, *tpr]), np.array([at.fpr, fpr[1], fpr[0]]), prior)
    return Interval(*map(float, ends))


def auroc(negatives: ArrayLike, lenses: ArrayLike, level: float = 0.95) -> Interval:
    """Area under the ROC curve, ties counted half, with the interval of DeLong et al. (1988) on the logistic scale.

    The variance is from midranks (Sun & Xu 2014), the interval that of its logit, and so within [0, 1].  Where all
    lenses are above all negatives, or all below, DeLong's variance is 0; there the interval is that of as many pairs as
    can be made of stamps used once, all of them in order: a binomial count.

    Parameters
    ----------
    negatives, lenses : array_like, (n,) and (k,)
        Logits.

    Returns
    -------
    Interval
    """
    negatives, lenses = _checked(negatives, lenses)
    n, k = len(negatives), len(lenses)
    together = rankdata(np.r_[lenses, negatives])
    below = (together[:k] - rankdata(lenses)) / n  # of each lens: the share of negatives below it
    above = 1 - (together[k:] - rankdata(negatives)) / k  # of each negative: the share of lenses above it
    area = float(thresholds.auc(_curve(negatives, lenses)))
    if area in (0, 1):
        pairs = min(n, k)
        return Interval(area, *clopper_pearson(pairs * int(area), pairs, level))
    spread = np.sqrt(sum(x.var(ddof=1) / len(x) if len(x) > 1 else np.nan for x in (below, above)))
    centre, reach = np.log(area / (1 - area)), norm.ppf((1 + level) / 2) * spread / (area * (1 - area))
    return Interval(area, float(expit(centre - reach)), float(expit(centre + reach)))


def _checked(negatives, lenses):
    negatives, lenses = np.asarray(negatives, float), np.asarray(lenses, float)
    if negatives.ndim != 1 or lenses.ndim != 1 or not len(negatives) or not len(lenses):
        raise ValueError(f"logits of negatives {negatives.shape} and lenses {lenses.shape}: (n,), one of each at least")
    if not (np.isfinite(negatives).all() and np.isfinite(lenses).all()):
        raise ValueError("logits that are not finite cannot be ranked")
    return negatives, lenses


def highest(logits: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Which stamps are among the n highest ranked (all in a block of equal logits), bool (N,)."""
    logits = np.asarray(logits)
    return logits >= np.sort(logits)[-min(n, len(logits))]


def expected_table(
    scores: dict[str, tuple[NDArray, NDArray]],
    m: int,
    inspected: Sequence[int] = INSPECTED,
    priors: Sequence[float] = PRIORS,
) -> pd.DataFrame:
    """`expected` as a table.

    Parameters
    ----------
    scores : dict of (array, array)
        Logits of negatives and lenses by finder.
    m : int
        Stamps that were ranked.
    inspected : sequence of int
        Those above M are left out; M itself where none is left.
    priors : sequence of float

    Returns
    -------
    pandas.DataFrame
        A row a finder, prior and N; see `readable` for one to be read.
    """
    inspected = [n for n in inspected if n <= m] or [m]
    tables = []
    for finder, (negatives, lenses) in scores.items():
        prior, n = (x.ravel() for x in np.meshgrid(priors, inspected, indexing="ij"))
        found = expected(negatives, lenses, m, n, prior)._asdict()
        tables.append(pd.DataFrame({"set": HEADING, "finder": finder, "prior": prior, "ranked": m, "inspected": n,
                                    **found, "negatives": len(negatives), "mock_lenses": len(lenses)}))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`expected_table` as it is read: a row a finder and N, a column a prior; "a bound" where negatives are too few."""

    def cell(row):
        if not row.known:
            return f"a bound: {row.low:.3g}–{row.high:.3g} (at random {row.random:.2g})"
        return f"{row.lenses:.3g} ({row.low:.3g}–{row.high:.3g}; at random {row.random:.2g})"

    shown = table.assign(cell=table.apply(cell, axis=1), prior=[f"1 lens in {1 / p:,.0f}" for p in table["prior"]])
    shown = shown.pivot(index=["finder", "inspected"], columns="prior", values="cell")
    columns = dict.fromkeys(f"1 lens in {1 / p:,.0f}" for p in table["prior"])
    order = dict.fromkeys(zip(table["finder"], table["inspected"], strict=True))
    shown = shown.loc[list(order), list(columns)].reset_index().rename_axis(columns=None)
    return shown.rename(columns={"inspected": f"inspected of {table['ranked'].iloc[0]:,} ({HEADING})"})


def on_skies(
    scores: dict[str, tuple[NDArray, NDArray]], beta: float, priors: Sequence[float] = (0.5, 0.01, 0.001, 0.0001)
) -> pd.DataFrame:
    """Purity and F_beta at p = 0.5 of each finder where other shares of the galaxies are lenses, by Bayes."""
    found = []
    for finder, (negatives, lenses) in scores.items():
        at = rates(negatives, lenses, 0.0)
        for prior in priors:
            purity = float(thresholds.purity(at.tpr, at.fpr, prior))
            f_beta = (1 + beta**2) * prior * at.tpr / (beta**2 * prior + prior * at.tpr + (1 - prior) * at.fpr)
            found.append((finder, prior, at.tpr, at.fpr, purity, f_beta))
    columns = ["finder", "prior", "completeness", "false-positive rate", "purity", "F_beta"]
    return pd.DataFrame(found, columns=columns)


def metrics_table(
    scores: dict[str, tuple[NDArray, NDArray]], prior: float, fprs: Sequence[float] = (1e-4, 1e-3)
) -> pd.DataFrame:
    """The field's metrics of each finder, each with its 95 % interval and the numbers of stamps.

    Parameters
    ----------
    scores : dict of (array, array)
        Logits of negatives and lenses by finder.
    prior : float
        Share of lenses that precision is stated for.
    fprs : sequence of float
        False-positive rates that the TPR, and precision, are stated at.

    Returns
    -------
    pandas.DataFrame
        A row a finder and metric: value, low, high; where it is of a threshold, this, the false-positive rate there
        with its interval, and the number of false positives.
    """
    found = []
    for finder, (negatives, lenses) in scores.items():
        cuts = {"TPR0": tpr_before(negatives, lenses, 1), "TPR10": tpr_before(negatives, lenses, 10)}
        cuts |= {f"TPR at FPR {fpr:g}": tpr_at(negatives, lenses, fpr) for fpr in fprs}
        purities = {name.replace("TPR at", f"precision at prior {prior:g},"): cut for name, cut in cuts.items()
                    if " at " in name}  # fmt: skip
        purities[f"precision at prior {prior:g}, p = 0.5"] = rates(negatives, lenses, 0.0)
        rows = [("AUROC", auroc(negatives, lenses), None)]
        rows += [(name, (cut.tpr, cut.tpr_low, cut.tpr_high), cut) for name, cut in cuts.items()]
        rows += [(name, precision(cut, prior), cut) for name, cut in purities.items()]
        for metric, (value, low, high), cut in rows:
            line = {"set": HEADING, "finder": finder, "metric": metric, "value": value, "low": low, "high": high}
            if cut is not None:
                line |= {c: getattr(cut, c) for c in ("threshold", "fpr", "fpr_low", "fpr_high", "false_positives")}
            found.append(line | {"negatives": len(negatives), "mock_lenses": len(lenses)})
    return pd.DataFrame(found).astype({"false_positives": "Int64"})
