"""How far the numbers can be trusted: over test images, over runs, and over both.

Three questions, three numbers, never mixed:

- the *test-sample interval* says how the mean over these very networks would vary had other stamps been drawn from the
  same population.  It knows nothing of networks trained anew.
- the *seed spread* is the standard deviation of single runs (other initial weights and training rows) on these very
  test images.  It knows nothing of other images, and is not the error of the mean, which is smaller by sqrt(runs).
- the *combined interval* of a paired difference says whether new seeds and new images together would agree.

None tells about another survey.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta as beta_distribution
from scipy.stats import t

from lensdet.data.random import stream
from lensdet.evaluation.metrics import Protocol, evaluate


class Summary(NamedTuple):
    """A metric over runs."""

    mean: float
    spread: float  # seed spread; NaN for one run
    low: float  # test-sample interval of the mean; NaN without resamples
    high: float
    n_runs: int


class Difference(NamedTuple):
    """A metric of experiment a less that of experiment b; see `paired`."""

    mean: float
    seed_spread: float  # of the R differences
    seed_low: float  # other seeds, these images; NaN where all runs agree
    seed_high: float
    test_low: float  # other images, these seeds
    test_high: float
    low: float  # other seeds and other images; NaN where all runs agree
    high: float
    n_runs: int
    p: float = np.nan  # two-sided, of no difference: below 0.05 where the combined interval of 95 % leaves out 0
    image_error: float = np.nan  # standard error of the mean that the test images leave


LEAST_RUNS = 5  # Student's t leans on a normality that fewer cannot show
EQUIVALENT = 0.01  # a choice, made before the runs (docs/why/plan.md)


def resample(stamp: ArrayLike, source: ArrayLike, stratum: ArrayLike, draws: int = 2000, seed: int = 0) -> NDArray:
    """Bootstrap resamples of a test set, as weights of its images.

    Hosts are drawn with replacement in each stratum and images follow their host; where a source is used twice, sources
    are drawn likewise, and a mock lens weighs host count times source count, which errs on the wide side
    (docs/why/statistics.md).  One resample serves all runs of all models: their differences are paired image by image.

    Parameters
    ----------
    stamp, source : array_like of int, (N,)
        Ids of the host, unique over classes, and of the source; below 0 for a negative.  (Rows of
        `frozen_sets.frozen_rows` have 0 for negatives, too: ``np.where(rows["label"] == 1, rows["source"], -1)``.)
    stratum : array_like, (N,)
        Class of the host, such as "lrg" and "contaminant": never the label, which would tear an LRG in two.
    draws, seed : int
        Number of resamples B; of the random stream.

    Returns
    -------
    numpy.ndarray, (B, N), float64
        How often each image is in each resample; 8 B N bytes.  A stratum keeps its number of distinct hosts;
        the number of images of a class may vary.

    Raises
    ------
    ValueError
        If the three are not of one shape, or a host is in two strata.
    """
    stamp, source, stratum = np.asarray(stamp), np.asarray(source), np.asarray(stratum)
    if not stamp.shape == source.shape == stratum.shape == (len(stamp),):
        raise ValueError(f"ids and strata must be (N,): {stamp.shape}, {source.shape}, {stratum.shape}")
    members = [stratum == name for name in np.unique(stratum)]
    if sum(len(np.unique(stamp[m])) for m in members) > len(np.unique(stamp)):
        raise ValueError("a stamp is in two strata: strata are classes of hosts, not labels")
    weights = np.empty((draws, len(stamp)))
    for k, m in enumerate(members):
        weights[:, m] = _counts(stream(seed, "bootstrap", 0, k), stamp[m], draws)
    mock = source >= 0
    if len(np.unique(source[mock])) < mock.sum():
        weights[:, mock] *= _counts(stream(seed, "bootstrap", 1), source[mock], draws)
    return weights


def _counts(rng, ids, draws):
    """How often the id of each image is drawn, where as many ids are drawn as there are: (draws, len(ids))."""
    distinct, each = np.unique(ids, return_inverse=True)
    n = len(distinct)
    return rng.multinomial(n, np.full(n, 1 / n), size=draws)[:, each]


def on_resamples(
    labels: ArrayLike, logits: ArrayLike, weights: ArrayLike, protocol: Protocol = "text", beta: float = 0.17
) -> dict[str, NDArray]:
    """`metrics.evaluate`, whose parameters it has, on resamples: a dict of arrays (..., B).

    Not a number for a draw that has lost a class of the test set, where `evaluate` says 0.
    """
    labels, weights = np.asarray(labels), np.asarray(weights)
    resampled = evaluate(labels, logits, protocol, beta, weights)
    whole = np.all([weights @ (labels == label) > 0 for label in np.unique(labels)], axis=0)  # (B,)
    return {name: np.where(whole, values, np.nan) for name, values in resampled.items()}


def _mean_over_runs(resampled):
    """(R, B) -> (B,), or fewer: without the draws that are not numbers in some run."""
    means = np.mean(resampled, axis=0)
    return means[~np.isnan(means)]


def bootstrap_interval(resampled: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean over runs: the test-sample interval.

    Parameters
    ----------
    resampled : array_like, (R, B)
        A metric of each of R runs on each of B resamples, from `on_resamples`; or the difference of two, which is
        paired in runs and in images.  A draw that is NaN in some run is left out of all: the interval is that
        of test sets on which the metric is defined.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    tuple of float
        Low and high; not numbers if no draw is left.  Both are the value itself where no image makes a difference (all
        right, or nothing accepted): there `clopper_pearson` says more.
    """
    means = _mean_over_runs(resampled)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) if len(means) else (np.nan, np.nan)
    return float(low), float(high)


def mean_interval(values: NDArray, weights: NDArray) -> tuple[float, float, float]:
    """Mean of the values (N,) that are numbers, and its 95 % interval over resamples (B, N); NaN if none is."""
    used = np.isfinite(values)
    if not used.any():
        return (np.nan,) * 3
    values, weights = values[used].astype(float), weights[:, used]
    weights = weights[weights.sum(1) > 0]
    return values.mean(), *bootstrap_interval([weights @ values / weights.sum(1)])


def seed_spread(values: ArrayLike) -> float:
    """Standard deviation over runs, with n - 1 (the thesis: n); NaN for fewer than two runs."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[NDArray, NDArray]:
    """Exact interval of a proportion, such as the recall of one network: (low, high) (Clopper & Pearson 1934).

    Arrays broadcast; counts need not be whole.  It covers at least `level` for independent images, thus not where
    stamps are used twice; (0, 1) without a trial.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    low = np.where(k > 0, beta_distribution.ppf((1 - level) / 2, k, n - k + 1), 0.0)
    high = np.where(k < n, beta_distribution.ppf((1 + level) / 2, k + 1, n - k), 1.0)
    return low[()], high[()]


def paired(
    values_a: ArrayLike, values_b: ArrayLike, resampled_a: ArrayLike, resampled_b: ArrayLike, level: float = 0.95
) -> Difference:
    """Mean difference of two experiments, a - b, with intervals over seeds, over test images, and over both.

    Run i of both has the same initial weights and training rows, and all are tested on the same images.  The combined
    interval is mean +- t sqrt(s^2 / R + se_images^2): s is the spread of the R differences, se_images the standard
    deviation of their mean over resamples, t of the degrees of freedom of Satterthwaite (1946).  It is never narrower
    than the interval of the seeds alone.  Derived, with its limits, in docs/why/statistics.md.

    Parameters
    ----------
    values_a, values_b : array_like, (R,)
        A metric of each run on the test set, in the same order of runs.
    resampled_a, resampled_b : array_like, (R, B)
        From `on_resamples`, with the same weights for both; draws that are not numbers as in `bootstrap_interval`.
    level : float
        Of all three intervals.

    Returns
    -------
    Difference
        The seed interval is Student's t on R - 1 degrees of freedom, the test-sample interval `bootstrap_interval`.
        A single run, or runs whose differences are the same to rounding, give no s and have the latter only; the others
        are not numbers.  The p-value is 1 less the level at which the combined interval begins to hold 0.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    """
    a, b, resampled_a, resampled_b = arrays = [np.asarray(x) for x in (values_a, values_b, resampled_a, resampled_b)]
    if not (a.shape == b.shape == resampled_a.shape[:-1] and resampled_a.shape == resampled_b.shape):
        raise ValueError(f"runs must be paired, (R,) and (R, B): {[x.shape for x in arrays]}")
    difference, resampled = a - b, resampled_a - resampled_b
    n, mean, spread = len(difference), float(np.mean(difference)), seed_spread(difference)
    agree = np.ptp(difference) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max())  # a - b is rounded; so does one run
    of_seeds = np.nan if agree else spread**2 / n  # variances of the mean
    of_images = seed_spread(_mean_over_runs(resampled)) ** 2
    freedom = (n - 1) * (1 + of_images / of_seeds) ** 2
    quantile = t.ppf((1 + level) / 2, [n - 1, freedom])
    seeds, both = (float(half) for half in quantile * np.sqrt([of_seeds, of_seeds + of_images]))
    both = float(np.maximum(both, seeds))  # NaN where either is none
    p = 2 * np.max(t.sf(abs(mean) / np.sqrt([of_seeds, of_seeds + of_images]), [n - 1, freedom]))
    test = bootstrap_interval(resampled, level)
    intervals = (mean - seeds, mean + seeds, *test, mean - both, mean + both)
    return Difference(mean, spread, *intervals, n, float(p), float(np.sqrt(of_images)))


def holm(p: ArrayLike) -> NDArray:
    """P-values (m,) of one family of comparisons, adjusted for their number (Holm 1979).

    Where they are compared with 0.05, the probability that any of the comparisons without a difference is decided is at
    most that, whatever they have in common.  NaN stays so, and does not count.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)  # numbers first
    left = np.isfinite(p).sum() - np.arange(len(p))
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.maximum(left, 1)), 1)
    return adjusted


def adjusted(differences: Sequence[Difference]) -> NDArray:
    """P-values (m,) of a family of differences, adjusted by `holm`.

    Of fewer than `LEAST_RUNS` runs there is none (NaN), and they do not count among the comparisons; runs that agree
    exactly count, with a p-value of 1.
    """
    enough = [d.n_runs >= LEAST_RUNS for d in differences]
    return holm([np.nan_to_num(d.p, nan=1.0) if each else np.nan for d, each in zip(differences, enough, strict=True)])


def directions(differences: Sequence[Difference], level: float = 0.05) -> list[str]:
    """In which direction each of a family of differences is shown to lie, such as those of a table.

    Parameters
    ----------
    differences : list of Difference
        With fewer than `LEAST_RUNS` runs all is open, and nothing of it counts among the comparisons.
    level : float
        The probability that any direction is shown where there is no difference at all.

    Returns
    -------
    list of str
        *higher* or *lower*, where the p-value of `adjusted` is below `level`; *equivalent* where it is not and the
        combined interval lies within `EQUIVALENT` of 0, which is not adjusted; else *open*.
    """
    found = []
    for d, p in zip(differences, adjusted(differences), strict=True):
        if p < level:
            found.append("higher" if d.mean > 0 else "lower")
        else:
            found.append("equivalent" if d.n_runs >= LEAST_RUNS and max(-d.low, d.high) < EQUIVALENT else "open")
    return found


def side_of_zero(low: ArrayLike, high: ArrayLike) -> NDArray[np.str_]:
    """Where each interval lies: "above 0", "below 0", "holds 0", or "–" where there is none.

    For intervals over images alone, which say nothing of networks trained anew and give no verdict: that is from
    `directions`, over runs.  Not corrected for their number.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    return np.select([low > 0, high < 0, np.isfinite(low)], ["above 0", "below 0", "holds 0"], "–")


def needed(
    difference: Difference, comparisons: int, level: float = 0.05, most: int = 1000
) -> tuple[float, float, float]:
    """How many runs, or how many times as many test images, would close what is open.

    If the difference and its spreads came out again as they were measured (docs/why/statistics.md).

    Parameters
    ----------
    difference : Difference
        Of at least two runs.
    comparisons : int
        Claims of the family that are not decided, itself among them.
    level : float
        As in `directions`.
    most : int
        Beyond it nothing is looked for.

    Returns
    -------
    tuple of float
        The least number of runs on these images; the least number of times as many images with these runs; and the
        least number of runs on `most` times as many images: that show a direction or that both are equivalent.  Not a
        number where none does, or where runs agree exactly.
    """
    d, numbers = difference, np.arange(1, most + 1)
    if np.isnan(d.p):
        return (np.nan,) * 3

    def least(numbers, runs, times):
        of_seeds, of_images = d.seed_spread**2 / runs, d.image_error**2 / times
        freedom, error = (runs - 1) * (1 + of_images / of_seeds) ** 2, np.sqrt(of_seeds + of_images)

        def half(level):
            seeds = t.ppf(1 - level / 2, runs - 1) * np.sqrt(of_seeds)
            return np.maximum(t.ppf(1 - level / 2, freedom) * error, seeds)

        closed = (half(level / comparisons) < abs(d.mean)) | (abs(d.mean) + half(level) < EQUIVALENT)
        return float(numbers[closed][0]) if closed.any() else np.nan

    runs = numbers[numbers > d.n_runs]
    return least(runs, runs, 1), least(numbers, d.n_runs, numbers), least(runs, runs, most)


def judge(differences: Sequence[Difference], signs: Sequence[int], level: float = 0.05) -> list[str]:
    """Verdicts on the claims of a research question at one budget: that sign (a - b) > 0 for each difference a - b.

    Parameters
    ----------
    differences : list of Difference
    signs : list of {1, -1}
        1 if a is claimed to be larger than b, -1 if smaller.
    level : float
        As in `directions`.

    Returns
    -------
    list of str
        *agrees*, *contradicts*, and as in `directions` *equivalent* and *open*.
    """
    words = {
        ("higher", 1): "agrees",
        ("lower", -1): "agrees",
        ("higher", -1): "contradicts",
        ("lower", 1): "contradicts",
    }
    return [words.get(pair, pair[0]) for pair in zip(directions(differences, level), signs, strict=True)]


def summarise(
    labels: ArrayLike,
    logits_by_run: ArrayLike,
    weights: ArrayLike | None,
    protocol: Protocol = "text",
    beta: float = 0.17,
    level: float = 0.95,
) -> dict[str, Summary]:
    """The four numbers of a row of Table 5.1 with their uncertainties.

    Parameters
    ----------
    labels : array_like, (N,)
        Of the test set.
    logits_by_run : array_like, (R, N)
        Of each run on it.
    weights : array_like, (B, N), or None
        From `resample`; without them there is no test-sample interval.
    protocol, beta
        As in `metrics.evaluate`.
    level : float
        Of the test-sample interval.

    Returns
    -------
    dict of Summary
        For ``accuracy``, ``f_beta``, ``precision`` and ``recall``.
    """
    logits = np.atleast_2d(logits_by_run)
    values = evaluate(labels, logits, protocol, beta)  # each (R,)
    intervals = dict.fromkeys(values, (float("nan"), float("nan")))
    if weights is not None:
        resampled = on_resamples(labels, logits, weights, protocol, beta)  # each (R, B)
        intervals = {name: bootstrap_interval(draws, level) for name, draws in resampled.items()}
    return {
        name: Summary(float(np.mean(runs)), seed_spread(runs), *intervals[name], n_runs=len(runs))
        for name, runs in values.items()
    }
