"""Ensembles in tables: Table 5.2, and differences to members and baselines (section 5.4)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lensdet.chapters import thesis
from lensdet.evaluation import ensembles, metrics, statistics, thresholds
from lensdet.evaluation.scores import Scores, collapsed, saturated
from lensdet.experiments import (
    BCE,
    BY_LOSS,
    ENSEMBLES,
    EXPERIMENTS,
    INPUT_DEPENDENT,
    MEMBERS,
    NETWORKS,
    baseline,
    same_loss,
)
from lensdet.parameters import Parameters
from lensdet.study import Study

# What is measured, and how it is named in tables.
MEASURES = {
    "accuracy": "accuracy",
    "accuracy_all": "accuracy, mean over thresholds",
    "f_beta": "F_beta",
    "precision": "precision",
    "recall": "recall",
    "f_beta_high": "F_beta, mean over p > 0.75",
    "f_beta_own": "F_beta at its own threshold",
    "auc": "area under the ROC curve",
}
# The two accuracies of Table 5.2, with what stands beside them of the thesis, or is their spread.
AT = "accuracy at p = 0.5 (thesis: implied by its precision and recall at 0.49)"
OVER = "accuracy, mean over thresholds (spread: over thresholds and runs)"
HIGH = 0.75  # above which the thesis finds the ensembles better (section 5.4)

Pairs = dict[str, tuple[Scores, Scores]]  # on the calibration set and on the test set, by model or ensemble
Measured = dict[str, dict[str, tuple[NDArray, NDArray]]]  # (R,) and (R, B), by model or ensemble, then by measure


def values(
    parameters: Parameters, calibration: Scores, test: Scores, weights: NDArray | None = None
) -> dict[str, NDArray]:
    """All of `MEASURES` of a model or ensemble, by name: arrays (R,), or (R, B) with weights.

    Parameters
    ----------
    calibration, test : lensdet.evaluation.scores.Scores
        Of the same runs; its own threshold, of the best F_beta, comes from the former.
    weights : array (B, N), optional
        From `Study.resamples`.
    """
    beta, labels, logits = parameters.selection_beta, test.labels, np.asarray(test.logits, np.float64)
    p = metrics.probability(logits)
    cuts = [thresholds.best_threshold(calibration.labels, z, beta) for z in calibration.logits]
    own = metrics.hard_counts(labels, logits - np.array(cuts)[:, None], 0.0, weights)
    everywhere = metrics.hard_counts(labels, p, metrics.THRESHOLDS, weights)
    high = metrics.Counts(*(count[:, metrics.THRESHOLDS > HIGH + thresholds.ROUNDING] for count in everywhere))
    return {
        **metrics.evaluate(labels, logits, parameters.protocol, beta, weights),
        "accuracy_all": metrics.accuracy(everywhere).mean(1),
        "f_beta_high": metrics.f_beta(high, beta).mean(1),
        "f_beta_own": metrics.f_beta(own, beta),
        "auc": np.stack([thresholds.auc(thresholds.curve(labels, z, weights)) for z in logits]),
    }


def load_scores(study: Study) -> Pairs:
    """`scores.Scores` on the calibration and test sets of ensembles, members and baselines, by name."""
    wanted, found = ensembles.possible(study.parameters), {}
    sizes = sorted({ENSEMBLES[ensemble].size for ensemble in wanted})

    def twice(function, *arguments):
        return tuple(function(study, *arguments, name) for name in ("calibration", "test"))

    for model in MEMBERS[sizes[-1]]:
        members = twice(ensembles.load, [model])
        found[model] = tuple(Scores(m.labels, m.logits[..., 0], m.runs) for m in members)
    for ensemble in wanted:
        found[ensemble] = twice(ensembles.scores, ensemble)
    for size in sizes:
        fit, test = twice(ensembles.baselines, size)
        found |= {name: (fit[name], test[name]) for name in test}
        for model in [m for m in MEMBERS[size] if NETWORKS[m].checkpoint == BY_LOSS]:
            fit, test = twice(ensembles.same_loss, model, size)
            if test is not None:
                found[same_loss(model, 1)] = twice(ensembles.same_loss, model, 1)  # all there are, one by one
                found[same_loss(model, size)] = fit, test
    return found


def measure(parameters: Parameters, found: Pairs, weights: NDArray) -> Measured:
    """`values` on the test set of all that `load_scores` has, by name: dicts of (array (R,), array (R, B)).

    Parameters
    ----------
    found : dict
        From `load_scores`.
    weights : array (B, N)
        From `Study.resamples`, of the test set.
    """
    measured = {}
    for name, pair in found.items():
        plain, resampled = values(parameters, *pair), values(parameters, *pair, weights)
        measured[name] = {which: (plain[which], resampled[which]) for which in MEASURES}
    return measured


def summary(measured: Measured) -> pd.DataFrame:
    """Means over runs of all that `measure` has, with the interval that the test images leave, as one data frame."""
    rows = []
    for name, measures in measured.items():
        for which, (plain, resampled) in measures.items():
            low, high = statistics.bootstrap_interval(resampled)
            overlap = EXPERIMENTS[name].kind == "same loss" and EXPERIMENTS[name].size > 1  # they share runs
            rows.append({"model": name, "measure": MEASURES[which], "mean": plain.mean(),
                         "seed_spread": np.nan if overlap else statistics.seed_spread(plain), "test_low": low,
                         "test_high": high, "runs": len(plain)})  # fmt: skip
    return pd.DataFrame(rows)


def implied_accuracy(precision: float, recall: float) -> float:
    """Accuracy on a set of as many lenses as negatives, from precision and recall."""
    return (1 + recall - recall * (1 - precision) / precision) / 2


def table_5_2(measured: Measured, found: Pairs) -> pd.DataFrame:
    """Table 5.2: accuracy at p = 0.5 and as its published column was computed, F_beta, precision and recall.

    Returns
    -------
    pandas.DataFrame
        As `losses.tables.table_5_1`.  The thesis' accuracy stands beside the mean over
        thresholds, which it is; beside the accuracy at p = 0.5 stands what the thesis' precision and recall imply.
    """
    rows = []
    for ensemble in thesis.TABLE_5_2:
        if ensemble not in measured:
            continue
        s, published = found[ensemble][1], thesis.TABLE_5_2[ensemble]
        implied = implied_accuracy(published["precision"][0], published["recall"][0])
        theirs = {**published, "accuracy": (implied, np.nan), "accuracy_all": published["accuracy"]}
        names = {**MEASURES, "accuracy": AT, "accuracy_all": OVER}
        for name in ("accuracy", "accuracy_all", "f_beta", "precision", "recall"):
            values, resampled = measured[ensemble][name]
            low, high = statistics.bootstrap_interval(resampled)
            spread = statistics.seed_spread(values)
            if name == "accuracy_all":  # the published spread is over thresholds and runs together
                each = metrics.hard_counts(s.labels, metrics.probability(s.logits), metrics.THRESHOLDS)
                spread = float(np.std(metrics.accuracy(each)))
            rows.append({"model": ensemble, "metric": names[name], "mean": values.mean(), "seed_spread": spread,
                          "test_low": low, "test_high": high, "runs": len(values), "images": len(s.labels),
                          "collapsed_runs": int(collapsed(s.logits).sum()),
                          "saturated": float(saturated(s.logits).mean()), "thesis": theirs[name][0],
                          "thesis_spread": theirs[name][1]})  # fmt: skip
    return pd.DataFrame(rows)


def used_weights(study: Study, names: Sequence[str]) -> dict[str, ensembles.Weights | NDArray]:
    """Weights of ensembles by name, as `weights_table` takes them: of a run, or of a run and image."""
    return {
        name: (ensembles.dynamic_weights if name in INPUT_DEPENDENT else ensembles.nelder_mead_weights)(study, name)
        for name in names
    }


def before_softmax(weights: ArrayLike) -> NDArray[np.float64]:
    """What became these weights in a softmax, if its sum was 1: the softmax leaves that open alone."""
    found = np.log(np.asarray(weights, float))
    return found + (1 - found.sum()) / len(found)


def weights_table(read: Mapping[str, ensembles.Weights | NDArray]) -> pd.DataFrame:
    """Mean weights of each member, with the thesis' (captions of Figs. 5.15 and 5.16).

    Parameters
    ----------
    read : dict
        `ensembles.Weights` of ``NM_3`` and ``NM_6`` or an array (R, N, m) of ``IDE_3`` and ``IDE_6``.
    """
    rows = []
    for ensemble, weights in read.items():
        nelder_mead = isinstance(weights, ensembles.Weights)
        used = weights.used if nelder_mead else weights.mean(1)
        published = thesis.WEIGHTS.get(ensemble, (np.nan,) * used.shape[1])
        for j, member in enumerate(ENSEMBLES[ensemble].members):
            rows.append({"ensemble": ensemble, "member": member, "weight": used[:, j].mean(),
                          "seed_spread": statistics.seed_spread(used[:, j]),
                          "raw": weights.raw[:, j].mean() if nelder_mead else np.nan, "runs": len(used),
                          "thesis": published[j]})  # fmt: skip
    return pd.DataFrame(rows)


def copies(study: Study, size: int) -> tuple[int, int]:
    """Members that are the same network as an earlier one of the ensemble: how many, of all runs."""
    members = ensembles.load(study, MEMBERS[size], "calibration")
    return int(sum((~ensembles.distinct(z)).sum() for z in members.logits)), members.logits.shape[0] * size


def compare(measured: Measured, name: str, other: str, measure: str) -> statistics.Difference:
    """`statistics.paired` difference of two entries of `measure` in one measure.

    A same-loss ensemble shares its members with others and goes by no run: against it there is an interval over images
    alone, between means.

    Parameters
    ----------
    measured : dict
        From `measure`.
    name, other : str
        Of the entries; the difference is the first less the second.
    measure : str
        Of `MEASURES`.
    """
    (a, resampled_a), (b, resampled_b) = measured[name][measure], measured[other][measure]
    if EXPERIMENTS[other].kind == "same loss":
        difference = a.mean() - b.mean()
        low, high = statistics.bootstrap_interval((resampled_a.mean(0) - resampled_b.mean(0))[None])
        nothing = np.nan
        return statistics.Difference(difference, nothing, nothing, nothing, low, high, nothing, nothing, len(a))
    return statistics.paired(a, b, resampled_a, resampled_b)


def gain(measured: Measured, name: str, members: Sequence[str], which: str) -> tuple[float, float, float]:
    """How much a mean of members has more of a measure than they have on average: (mean, low, high), over images alone.

    Members that are weak give a weak mean; what averaging does is this difference.

    Parameters
    ----------
    measured : dict
        From `measure`.
    name : str
        Of the ensemble.
    members : sequence of str
    which : str
        Of `MEASURES`.
    """
    ensemble, parts = measured[name][which], [measured[member][which] for member in members]
    resampled = ensemble[1].mean(0) - np.mean([part[1].mean(0) for part in parts], 0)
    mean = ensemble[0].mean() - np.mean([part[0].mean() for part in parts])
    return float(mean), *statistics.bootstrap_interval(resampled[None])


def gains(measured: Measured, sizes: Sequence[int]) -> pd.DataFrame:
    """`gain` of averaging several losses, and as many seeds of cross-entropy, where they are there.

    Returns
    -------
    pandas.DataFrame
        A row an ensemble and measure that needs no threshold of p = 0.5: ``gain`` over the members' average, its 95 %
        interval over images and where that lies (`statistics.side_of_zero`).
    """
    rows = []
    for size in sizes:
        for ensemble, members in ((baseline("mean", size), MEMBERS[size]), (same_loss(BCE, size), [same_loss(BCE, 1)])):
            for which in ("f_beta_own", "auc") if {ensemble, *members} <= set(measured) else ():
                rows.append((ensemble, MEASURES[which], *gain(measured, ensemble, members, which)))
    table = pd.DataFrame(rows, columns=["ensemble", "measure", "gain", "low", "high"])
    return table.assign(interval=statistics.side_of_zero(table.low, table.high))


def compare_with_baselines(parameters: Parameters, found: Pairs, measured: Measured) -> pd.DataFrame:
    """Every ensemble, mean and stacking against the member that is best at each measure, and against means.

    Which member is best is decided on the calibration set, by its mean over runs.

    Parameters
    ----------
    found, measured : dict
        From `load_scores` and `measure`.

    Returns
    -------
    pandas.DataFrame
        A row an ensemble, measure and comparison: both means, the difference with the interval over seeds and images
        (over images alone for a same-loss ensemble), and its direction (`statistics.directions` of all against
        the same).
    """
    rows, compared = [], {}
    for ensemble in [n for n in measured if n in ENSEMBLES or EXPERIMENTS[n].kind in ("mean", "stacking")]:
        size = EXPERIMENTS[ensemble].size
        fitted = {model: values(parameters, *[found[model][0]] * 2) for model in MEMBERS[size]}
        others = [n for n in (baseline("mean", size), same_loss(BCE, size)) if n in measured]
        for which in MEASURES:
            best = max(fitted, key=lambda model: fitted[model][which].mean())
            for role, other in [("best member", best), *((o, o) for o in others if o != ensemble)]:
                d = compare(measured, ensemble, other, which)
                rows.append({"ensemble": ensemble, "measure": MEASURES[which], "against": role, "which": other,
                             "mean": measured[ensemble][which][0].mean(), "its_mean": measured[other][which][0].mean(),
                             "difference": d.mean, "low": d.low, "high": d.high, "test_low": d.test_low,
                             "test_high": d.test_high, "runs": d.n_runs})  # fmt: skip
                compared.setdefault(role, []).append((rows[-1], d))
    for pairs in compared.values():
        for (row, _), word in zip(pairs, statistics.directions([d for _, d in pairs]), strict=True):
            row["verdict"] = word
    return pd.DataFrame(rows)


def by_ensemble(compared: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Of `compare_with_baselines` each ensemble less its best member in one of `MEASURES`; NaN for one not there."""
    rows = compared[(compared.against == "best member") & (compared.measure == MEASURES[measure])]
    return rows.set_index("ensemble").reindex(ENSEMBLES)
