"""The control that the thesis lacks: is a soft loss doing more than moving the threshold?

Soft F_beta is a ratio of linear functions of the outputs.  Its optimum is a thresholded posterior, at F*/(1 + beta^2)
where F* is the best F_beta there is (Lipton et al. 2014): near 0.94 for beta = 0.17, while soft F1 sits at F*/2.  So
cross-entropy, read at that threshold, should do the same.  Everything here reads saved logits: thresholds and
temperatures come from the calibration set, numbers from the test set, and run i is compared with run i.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from lensdet.chapters import style, thesis
from lensdet.chapters.losses.tables import cell, interval, to_rows
from lensdet.evaluation import calibration, metrics, statistics, thresholds
from lensdet.experiments import BCE, F_1, F_1_DOUBLE, F_BETA
from lensdet.study import Study

OWN = (BCE, F_BETA, F_1)  # whose own recall and precision are matched
RANKING = ("area under the ROC curve", "recall at the precision of cross-entropy")
THESIS_RECALLS = {thesis.TABLE_5_1[model]["recall"][0]: model for model in OWN}


def own_thresholds(study: Study) -> dict[str, NDArray]:
    """Logit thresholds (R,) by model: those of the best F_beta on the calibration set, one a run."""
    found = {}
    for model in study.models:
        if (read := study.scores(model, "calibration")) is not None:
            beta = study.parameters.selection_beta
            found[model] = np.array([thresholds.best_threshold(read.labels, z, beta) for z in read.logits])
    return found


def deployed(study: Study, weights: NDArray) -> pd.DataFrame:
    """Table 5.1 again, every model at its own threshold from the calibration set, the mean of which stands beside."""
    found = []
    for model, cut in own_thresholds(study).items():
        read = study.scores(model)
        shifted = read._replace(logits=read.logits.astype(float) - cut[:, None])
        summary = statistics.summarise(*shifted[:2], weights, beta=study.parameters.selection_beta)
        found += [{**line, "threshold": float(expit(cut).mean())} for line in to_rows(model, shifted, summary)]
    # neither belongs to these thresholds
    return pd.DataFrame(found).drop(columns=["saturated", "thesis", "thesis_spread"], errors="ignore")


def _targets(parameters, read):
    """What is matched: the metric, a name, and the value by number of the run."""
    for model in (m for m in OWN if m in read):
        s = read[model]
        values = metrics.evaluate(s.labels, s.logits, parameters.protocol, parameters.selection_beta)
        for metric in ("recall", "precision"):
            yield metric, f"that of {model}", dict(zip(s.runs, values[metric], strict=True))
    for recall, model in THESIS_RECALLS.items():
        yield "recall", f"the thesis' {recall} ({model})", dict.fromkeys(range(1, parameters.runs + 1), recall)


def matched(study: Study, weights: NDArray) -> pd.DataFrame:
    """Precision at matched recall and recall at matched precision, of each model and against cross-entropy.

    Read from the test curves, with ties interpolated (see `thresholds`); a diagnosis, not a way to deploy.

    Returns
    -------
    pandas.DataFrame
        A row a target and model: the target, the mean over runs, seed spread and test interval, and the paired
        difference to binary cross-entropy with the interval over seeds and images (`statistics.paired`), and
        its direction (`statistics.directions` of the models at a target).
        NaN where no threshold of some run reaches the target.
    """
    read = {model: s for model in study.models if (s := study.scores(model)) is not None}
    common = set.intersection(*(set(s.runs) for s in read.values())) if read else set()
    targets = list(_targets(study.parameters, read)) if common else []
    measured = {model: _at_targets(s, common, targets, weights) for model, s in read.items()}
    found = []
    for i, (metric, name, target) in enumerate(targets):
        compared = []
        for model, (every, resamples) in measured.items():
            values, resampled = every[:, i], resamples[:, i]
            low, high = statistics.bootstrap_interval(resampled)
            line = {"matched": metric, "at": name, "target": np.mean([target[run] for run in common]), "model": model,
                    "mean": values.mean(), "seed_spread": statistics.seed_spread(values), "test_low": low,
                    "test_high": high, "runs": len(values)}  # fmt: skip
            if BCE in measured and model != BCE:
                d = statistics.paired(values, measured[BCE][0][:, i], resampled, measured[BCE][1][:, i])
                line |= {"difference": d.mean, "low": d.low, "high": d.high}
                compared.append((line, d))
            found.append(line)
        for (line, _), word in zip(compared, statistics.directions([d for _, d in compared]), strict=True):
            line["verdict"] = word
    return pd.DataFrame(found)


def _at_targets(found, common, targets, weights):
    """What the curves of a model's `scores.Scores` say at each target: (R, T), and with weights (R, T, B).

    A run that accepts nothing has a recall of 0, at which there is no precision.
    """
    at = {"recall": thresholds.precision_at_recall, "precision": thresholds.recall_at_precision}
    plain, drawn = [], []
    for logits, run in zip(found.logits, found.runs, strict=True):
        if run not in common:
            continue
        wanted = [(at[metric], target[run]) for metric, _, target in targets]
        for kept, given in ((plain, None), (drawn, weights)):
            points = thresholds.curve(found.labels, logits, given)
            nothing = np.full(np.shape(points.tp)[:-1], np.nan)
            kept.append([value(points, w) if w > 0 else nothing for value, w in wanted])
    return np.array(plain), np.array(drawn)


def ranking(study: Study, weights: NDArray, which: str = "test") -> pd.DataFrame:
    """Whether a soft loss ranks images as well as cross-entropy does, which no threshold can change.

    Parameters
    ----------
    weights : array (B, N)
        From `Study.resamples`.
    which : str
        The frozen set, as for `Study.scores`.

    Returns
    -------
    pandas.DataFrame
        A row a soft loss and ``measure``, the area under the ROC curve or the recall at the precision that the run of
        cross-entropy has at p = 0.5: means over common ``runs`` of ``cross_entropy`` and of the ``soft_loss``; their
        paired ``difference`` with its interval over seeds and images (`statistics.paired`); ``images``, the size of
        the set; and the ``verdict`` (`statistics.directions` of all rows).  That precision
        is the same in all resamples.  Where it is never reached the recall is 0; where cross-entropy accepts nothing
        the precision is 0, and both recalls are 1.  No row without runs of cross-entropy.
    """
    names = [name for name in (BCE, F_BETA, F_1, F_1_DOUBLE) if name in study.models]
    read = {name: s for name in names if (s := study.scores(name, which)) is not None}
    rows, found = [], []
    if reference := read.pop(BCE, None):
        precise = metrics.evaluate(reference.labels, reference.logits, study.parameters.protocol)["precision"]
        precise = dict(zip(reference.runs, precise, strict=True))
        plain, drawn = _ranked(reference, precise, weights)
    for name, scores in read.items() if reference else ():
        theirs = np.isin(reference.runs, scores.runs)
        if not theirs.any():
            continue
        soft, soft_drawn = _ranked(scores, precise, weights)
        for i, measure in enumerate(RANKING):
            a, b = soft[i], plain[i, theirs]
            found.append(statistics.paired(a, b, soft_drawn[i], drawn[i, theirs]))
            rows.append((name, measure, b.mean(), a.mean(), found[-1].mean, found[-1].low, found[-1].high, len(a),
                         weights.shape[1]))  # fmt: skip
    columns = "model measure cross_entropy soft_loss difference low high runs images".split()
    return pd.DataFrame(rows, columns=columns).assign(verdict=statistics.directions(found))


def _ranked(scores, precise, weights, slices=20):
    """`RANKING` of each run in ``precise``, its precision by number: (2, R), and on resamples (2, R, B).

    In slices, as the curve of a draw has as many points as there are images.
    """
    plain, drawn = [], []
    for logits, run in zip(scores.logits, scores.runs, strict=True):
        if run not in precise:
            continue
        target = max(precise[run], np.finfo(float).tiny)  # 0 where cross-entropy accepts nothing
        points = (thresholds.curve(scores.labels, logits, w) for w in (None, *np.array_split(weights, slices)))
        first, *parts = ([thresholds.auc(each), np.nan_to_num(thresholds.recall_at_precision(each, target))]
                         for each in points)  # fmt: skip
        plain.append(first)
        drawn.append(np.concatenate(parts, axis=1))
    return np.transpose(plain), np.moveaxis(drawn, 0, 1)


def effective_thresholds(study: Study) -> pd.DataFrame:
    """Where soft F_beta and soft F1 cut, in calibrated probabilities of cross-entropy, and where theory says.

    Returns
    -------
    pandas.DataFrame
        A row a model and run: beta; the calibrated BCE probability at which BCE has the recall that the soft model has
        at p = 0.5, on the calibration set; F* of BCE there, and F*/(1 + beta^2).
    """
    reference = study.scores(BCE, "calibration") if BCE in study.models else None
    found = []
    for model, network in study.models.items():
        loss = study.parameters.loss(network.loss)
        beta = {"fbeta": loss.get("beta"), "f1": 1.0}.get(loss["name"])
        read = study.scores(model, "calibration") if beta and reference is not None else None
        for run, logits in zip(read.runs, read.logits, strict=True) if read is not None else ():
            if run not in reference.runs:
                continue
            plain = reference.logits[list(reference.runs).index(run)].astype(float)
            scaled = plain / calibration.temperature(reference.labels, plain)
            best, predicted = thresholds.optimal_threshold(reference.labels, scaled, beta)
            cut = thresholds.effective_threshold(reference.labels, logits, scaled)
            found.append({"model": model, "beta": beta, "run": run, "effective": float(expit(cut)), "best_f": best,
                          "predicted": predicted})  # fmt: skip
    return pd.DataFrame(found)


def calibrated(study: Study) -> pd.DataFrame:
    """Expected calibration error and Brier score on the test set, before and after temperature scaling.

    Returns
    -------
    pandas.DataFrame
        A row a model and run; the temperature is fitted on the calibration set.
    """
    found = []
    for model in study.models:
        fit, read = (study.scores(model, name) for name in ("calibration", "test"))
        for run, z, before in zip(read.runs, read.logits, fit.logits, strict=True) if read is not None else ():
            t, z = calibration.temperature(fit.labels, before), z.astype(float)
            line = {"model": model, "run": run, "temperature": t}
            for when, logits in (("before", z), ("after", z / t)):
                line[f"ece_{when}"] = calibration.expected_calibration_error(read.labels, logits)
                line[f"brier_{when}"] = calibration.brier(read.labels, logits)
            found.append(line)
    return pd.DataFrame(found)


def false_positives(study: Study) -> pd.DataFrame:
    """False positives by kind of negative, of the run of median validation loss of each model (Clopper-Pearson).

    Returns
    -------
    pandas.DataFrame
        A row a model, threshold (p = 0.5, and the model's own) and kind: run, n, false positives, rate and 95 %
        interval.  The kind is "lrg", a kind of contaminant, or "contaminant" for all of them.
    """
    truth, own, found = study.truth(), own_thresholds(study), []
    kinds = truth["kind"] if "kind" in truth else truth["host"]
    negative = truth["label"] == 0
    groups = {kind: negative & (kinds == kind) for kind in sorted(kinds[negative].unique())}
    groups["contaminant"] = negative & (truth["host"] == "contaminant")
    for model in study.models:
        read = study.scores(model)
        if read is None:
            continue
        i = study.median_run(model, read)
        for name, cut in (("p = 0.5", 0.0), ("own", own[model][i])):
            accepted = read.logits[i] >= cut
            lenses = accepted[read.labels == 1]
            recalls = statistics.clopper_pearson(int(lenses.sum()), len(lenses))
            for kind, members in groups.items():
                n, wrong = int(members.sum()), int(accepted[members].sum())
                low, high = statistics.clopper_pearson(wrong, n)
                found.append({"model": model, "threshold": name, "kind": kind, "run": read.runs[i], "n": n,
                              "false_positives": wrong, "rate": wrong / n if n else np.nan, "low": low, "high": high,
                              "recall": lenses.mean(), "recall_low": recalls[0],
                              "recall_high": recalls[1]})  # fmt: skip
    return pd.DataFrame(found)


def on_the_sky(table: pd.DataFrame, prior: float, share: float) -> pd.DataFrame:
    """Purity where one object in ``1 / prior`` is a lens, for a mix of negatives.

    Parameters
    ----------
    table : pandas.DataFrame
        From `false_positives`.
    prior : float
        Share of lenses.
    share : float
        Share of contaminants, as simulated here, among what is no lens; the others are LRGs.

    Returns
    -------
    pandas.DataFrame
        A row a model and threshold: run, recall, false-positive rate of the mix, purity, false positives inspected for
        each true lens; with bounds from the 95 % intervals of all rates at their worst and at their best at once.
        NaN where the mix has LRGs and the test set has none.
    """
    found = []
    for (model, name), rows in table.groupby(["model", "threshold"], sort=False):
        kinds = rows.set_index("kind")
        line = {"model": model, "run": rows.run.iloc[0], "threshold": name}
        # the worst for the purity has the highest rates of false positives and the lowest recall
        for end, rate, recall in (
            ("", "rate", "recall"),
            ("_worst", "high", "recall_low"),
            ("_best", "low", "recall_high"),
        ):
            lrg = kinds.loc["lrg", rate] if "lrg" in kinds.index else np.nan
            fpr, tpr = thresholds.mixed_fpr(lrg, kinds.loc["contaminant", rate], share), rows[recall].iloc[0]
            line |= {"recall" + end: tpr, "fpr" + end: fpr, "purity" + end: thresholds.purity(tpr, fpr, prior),
                     "inspected" + end: thresholds.inspected_per_lens(tpr, fpr, prior)}  # fmt: skip
        found.append(line)
    return pd.DataFrame(found)


def at_own_recall(table: pd.DataFrame) -> pd.DataFrame:
    """Of `matched` each model at its own recall, against cross-entropy read at another threshold."""
    return table[(table["at"] == "that of " + table["model"]) & (table["matched"] == "recall")] if len(table) else table


def mean_thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """`effective_thresholds` over runs, by model.

    Returns
    -------
    pandas.DataFrame
        Means of ``effective`` over the runs where it is between 0 and 1, and of ``predicted``; how many runs there are,
        ``run``, and how many of them accept all lenses of the calibration set or none, ``outside``.
    """
    inside = table["effective"].between(0, 1, inclusive="neither")
    table = table.assign(effective=table["effective"].where(inside), outside=~inside)
    return table.groupby(["model", "beta"], sort=False).agg(
        {"effective": "mean", "predicted": "mean", "run": "count", "outside": "sum"}
    )


def selection(study: Study, weights: NDArray) -> pd.DataFrame:
    """Is the recall of soft F1 its loss, or its selection?  Differences of recalls at p = 0.5, whatever the protocol.

    Returns
    -------
    pandas.DataFrame
        A row a difference: ``loss``, soft F1 less cross-entropy, both selected on the whole validation set;
        ``selection``, soft F1 as the published runs selected less soft F1 as here; ``both``, soft F1 less
        cross-entropy, as the published runs selected.  With its interval over seeds and images, runs, and direction
        (`statistics.directions` of all three).  Empty where one of the two was not trained.
    """
    read = {(m, p): study.scores(m, protocol=p) if m in study.models else None
            for m in (BCE, OWN[2]) for p in ("text", "code")}  # fmt: skip
    if None in read.values():
        return pd.DataFrame()
    common = set.intersection(*(set(s.runs) for s in read.values()))
    recalls = {}
    for key, s in read.items():
        logits = s.logits[np.isin(s.runs, list(common))]
        recalls[key] = (metrics.evaluate(s.labels, logits)["recall"],
                        statistics.on_resamples(s.labels, logits, weights)["recall"])  # fmt: skip
    pairs = {"loss": ((OWN[2], "text"), (BCE, "text")), "selection": ((OWN[2], "code"), (OWN[2], "text")),
             "both": ((OWN[2], "code"), (BCE, "code"))}  # fmt: skip
    found = [statistics.paired(recalls[a][0], recalls[b][0], recalls[a][1], recalls[b][1]) for a, b in pairs.values()]
    rows = [(name, d.mean, d.low, d.high, d.n_runs) for name, d in zip(pairs, found, strict=True)]
    table = pd.DataFrame(rows, columns=["of", "difference", "low", "high", "runs"])
    return table.assign(verdict=statistics.directions(found))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`matched` as it is read: a row a target and model, in each cell numbers with their names."""
    if not len(table):
        return table
    found = []
    for _, r in table.iterrows():
        line = {
            "matched": f"{r.matched} {r.target:.3f}, {r['at']}",
            "model": r.model,
            "precision" if r.matched == "recall" else "recall": cell(r["mean"], r.seed_spread, r.test_low, r.test_high),
        }
        if np.isfinite(r.get("difference", np.nan)):
            line["minus cross-entropy"] = (
                f"{r.difference:+.3f} ({interval(r.low, r.high)}), {style.number_of(int(r.runs), 'run')}"
            )
        found.append(line)
    return pd.DataFrame(found).fillna("–")
