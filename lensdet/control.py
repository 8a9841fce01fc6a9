"""The control that the thesis lacks: is a soft loss doing more than moving the threshold?

Soft F_beta is a ratio of linear functions of the outputs.  Its optimum is a thresholded posterior, at F*/(1 + beta^2)
where F* is the best F_beta there is (Lipton et al. 2014): near 0.94 for beta = 0.17, while soft F1 sits at F*/2.  So
cross-entropy, read at that threshold, should do the same.  Everything here reads saved logits: thresholds and
temperatures come from the calibration set, numbers from the test set, and run i is compared with run i.
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from lensdet import calibration, metrics, results, statistics, thesis, thresholds
from lensdet.tables import cell, lines, load_truth, models, scores

BCE = "Binary Cross Entropy"
OWN = (BCE, "F_beta Soft Loss", "F_1 Soft loss")  # whose own recall and precision are matched
THESIS_RECALLS = {thesis.TABLE_5_1[model]["recall"][0]: model for model in OWN}
PLATEAU = 0.02


def plateaued(history, parameters):
    """Whether a training has come to an end of its own.

    The rule: patience has stopped it, or the learning rate is constant and the best validation loss of the last third
    of its chunks is better than the best before by less than 2 % of all the way it has come since the first chunk.
    A schedule that brings the rate to nothing flattens every curve, so that none that has one is called a plateau.
    """
    if len(history) < parameters.chunks:
        return True
    best = history["loss"].cummin().to_numpy()
    before = best[max(0, 2 * len(best) // 3 - 1)]
    return parameters.schedule == "constant" and bool(before - best[-1] < PLATEAU * (best[0] - best[-1]))


def own_thresholds(parameters, data_key):
    """Logit thresholds (R,) by model: those of the best F_beta on the calibration set, one a run."""
    found = {}
    for model in models(parameters):
        if (read := scores(parameters, data_key, model, "calibration")) is not None:
            beta = parameters.selection_beta
            found[model] = np.array([thresholds.best_threshold(read.labels, z, beta) for z in read.logits])
    return found


def deployed(parameters, data_key, weights):
    """Table 5.1 again, every model at its own threshold from the calibration set, the mean of which stands beside."""
    found = []
    for model, cut in own_thresholds(parameters, data_key).items():
        read = scores(parameters, data_key, model)
        shifted = read._replace(logits=read.logits.astype(float) - cut[:, None])
        summary = statistics.summarise(*shifted[:2], weights, beta=parameters.selection_beta)
        found += [{**line, "threshold": float(expit(cut).mean())} for line in lines(model, shifted, summary)]
    return pd.DataFrame(found).drop(columns="polarised", errors="ignore")


def _targets(parameters, read):
    """What is matched: the metric, a name, and the value of each run (a dictionary), or of all (a number)."""
    for model in (m for m in OWN if m in read):
        s = read[model]
        values = metrics.evaluate(s.labels, s.logits, parameters.protocol, parameters.selection_beta)
        for metric in ("recall", "precision"):
            yield metric, f"that of {model}", dict(zip(s.runs, values[metric], strict=True))
    for recall, model in THESIS_RECALLS.items():
        yield "recall", f"the thesis' {recall} ({model})", dict.fromkeys(range(1, parameters.runs + 1), recall)


def matched(parameters, data_key, weights):
    """Precision at matched recall and recall at matched precision, of each model and against cross-entropy.

    Read from the test curves, with ties interpolated (see `lensdet.thresholds`); a diagnosis, not a way to deploy.

    Returns
    -------
    pandas.DataFrame
        A row a target and model: the target, the mean over runs, seed spread and test interval, and the paired
        difference to binary cross-entropy with the interval over seeds and images (`lensdet.statistics.paired`).
        Not a number where no threshold of some run reaches the target.
    """
    read = {model: s for model in models(parameters) if (s := scores(parameters, data_key, model)) is not None}
    common = set.intersection(*(set(s.runs) for s in read.values())) if read else set()
    found = []
    for metric, name, target in _targets(parameters, read) if common else ():
        at = thresholds.precision_at_recall if metric == "recall" else thresholds.recall_at_precision
        measured = {}
        for model, s in read.items():
            pairs = [(z, target[run]) for z, run in zip(s.logits, s.runs, strict=True) if run in common]
            values = np.array([at(s.labels, z, wanted) for z, wanted in pairs])
            measured[model] = values, np.stack([at(s.labels, z, wanted, weights) for z, wanted in pairs])
        for model, (values, resampled) in measured.items():
            low, high = statistics.bootstrap_interval(resampled)
            line = {"matched": metric, "at": name, "target": np.mean([target[run] for run in common]), "model": model,
                    "mean": values.mean(), "seed_spread": statistics.seed_spread(values), "test_low": low,
                    "test_high": high, "runs": len(values)}  # fmt: skip
            if BCE in measured and model != BCE:
                d = statistics.paired(values, measured[BCE][0], resampled, measured[BCE][1])
                line |= {"difference": d.mean, "low": d.low, "high": d.high, "verdict": statistics.verdict(d, 1)}
            found.append(line)
    return pd.DataFrame(found)


def effective_thresholds(parameters, data_key):
    """Where soft F_beta and soft F1 cut, in calibrated probabilities of cross-entropy, and where theory says.

    Returns
    -------
    pandas.DataFrame
        A row a model and run: beta; the calibrated BCE probability at which BCE has the recall that the soft model has
        at p = 0.5, on the calibration set; F* of BCE there, and F*/(1 + beta^2).
    """
    reference = scores(parameters, data_key, BCE, "calibration") if BCE in models(parameters) else None
    found = []
    for model, (experiment, _) in models(parameters).items():
        loss = parameters.loss(experiment)
        beta = {"fbeta": loss.get("beta"), "f1": 1.0}.get(loss["name"])
        read = scores(parameters, data_key, model, "calibration") if beta and reference is not None else None
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


def calibrated(parameters, data_key):
    """Expected calibration error and Brier score on the test set, before and after temperature scaling.

    Returns
    -------
    pandas.DataFrame
        A row a model and run; the temperature is fitted on the calibration set.
    """
    found = []
    for model in models(parameters):
        fit, read = (scores(parameters, data_key, model, name) for name in ("calibration", "test"))
        for run, z, before in zip(read.runs, read.logits, fit.logits, strict=True) if read is not None else ():
            t, z = calibration.temperature(fit.labels, before), z.astype(float)
            line = {"model": model, "run": run, "temperature": t}
            for when, logits in (("before", z), ("after", z / t)):
                line[f"ece_{when}"] = calibration.expected_calibration_error(read.labels, logits)
                line[f"brier_{when}"] = calibration.brier(read.labels, logits)
            found.append(line)
    return pd.DataFrame(found)


def false_positives(parameters, data_key):
    """False positives by kind of negative, of the run of median validation loss of each model (Clopper-Pearson).

    Returns
    -------
    pandas.DataFrame
        A row a model, threshold (p = 0.5, and the model's own) and kind: run, n, false positives, rate and 95 %
        interval.  The kind is "lrg", a kind of contaminant, or "contaminant" for all of them.
    """
    truth, own, found = load_truth(parameters, data_key), own_thresholds(parameters, data_key), []
    kinds = truth["kind"] if "kind" in truth else truth["host"]
    negative = truth["label"] == 0
    groups = {kind: negative & (kinds == kind) for kind in sorted(kinds[negative].unique())}
    groups["contaminant"] = negative & (truth["host"] == "contaminant")
    for model, (experiment, _) in models(parameters).items():
        read = scores(parameters, data_key, model)
        if read is None:
            continue
        median = int(results.median_run(results.complete_runs(parameters, experiment, data_key)).name[4:])
        i = list(read.runs).index(median if median in read.runs else read.runs[0])
        for name, cut in (("p = 0.5", 0.0), ("own", own[model][i])):
            accepted = read.logits[i] >= cut
            recall = accepted[read.labels == 1].mean()
            for kind, members in groups.items():
                n, wrong = int(members.sum()), int(accepted[members].sum())
                low, high = statistics.clopper_pearson(wrong, n)
                found.append({"model": model, "threshold": name, "kind": kind, "run": read.runs[i], "n": n,
                              "false_positives": wrong, "rate": wrong / n if n else np.nan, "low": low, "high": high,
                              "recall": recall})  # fmt: skip
    return pd.DataFrame(found)


def on_the_sky(table, prior, share):
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
        A row a model and threshold: recall, false-positive rate of the mix, purity, false positives inspected for each
        true lens; bounds from both rates' intervals at once, which is wider than 95 %.
    """
    found = []
    for (model, name), rows in table.groupby(["model", "threshold"], sort=False):
        rates = {k: rows[rows.kind == k].iloc[0] for k in ("lrg", "contaminant") if (rows.kind == k).any()}
        recall = rows.recall.iloc[0]
        line = {"model": model, "threshold": name, "recall": recall}
        for bound, column in (("", "rate"), ("_low", "low"), ("_high", "high")):
            mixed = thresholds.mixed_fpr(rates["lrg"][column] if "lrg" in rates else np.nan,
                                         rates["contaminant"][column], share)  # fmt: skip
            line["fpr" + bound] = mixed
            flip = {"": "", "_low": "_high", "_high": "_low"}[bound]  # the fewer false positives, the purer
            line["purity" + flip] = thresholds.purity(recall, mixed, prior)
            line["inspected" + bound] = thresholds.inspected_per_lens(recall, mixed, prior)
        found.append(line)
    return pd.DataFrame(found)


def answer(parameters, histories, table):
    """What the control says, in sentences made of the numbers in the tables.

    Parameters
    ----------
    histories : dict of list of pandas.DataFrame
        Of the runs, by experiment.
    table : pandas.DataFrame
        From `matched`.
    """
    said = []
    for model, metric in ((OWN[1], "recall"), (OWN[2], "recall")):
        rows = table[(table["at"] == f"that of {model}") & (table.matched == metric)] if len(table) else table
        rows = rows.set_index("model") if len(rows) else rows
        if not {BCE, model} <= set(rows.index) or "difference" not in rows:
            continue
        ours, theirs = rows.loc[model], rows.loc[BCE]
        interval = f"{ours.low:+.3f} to {ours.high:+.3f}" if np.isfinite(ours.low) else "no interval from one run"
        said.append(
            f"At the recall of the {model} model ({ours.target:.3f}) it has a precision of {ours['mean']:.3f} and "
            f"binary cross-entropy, read at another threshold, {theirs['mean']:.3f}: a difference of "
            f"{ours.difference:+.3f} ({interval}, 95 %, over {int(ours.runs)} paired runs and the test images)."
        )
    open_ends = {e: sum(not plateaued(h, parameters) for h in found) for e, found in histories.items()}
    if any(open_ends.values()):
        n = ", ".join(f"{e} {k} of {len(histories[e])}" for e, k in open_ends.items() if k)
        said.append(
            f"Is the loss doing more than moving the threshold? **Not answerable at {parameters.chunks} chunks of "
            f"{parameters.chunk_size}**: not every training has plateaued (not: {n} runs)."
        )
    elif said and (table.runs < 5).any():
        said.append(f"**Not decided**: {int(table.runs.min())} runs, and no verdict is given below five.")
    elif said:
        rows = table[(table["at"] == f"that of {OWN[1]}") & (table.matched == "recall") & (table.model == OWN[1])]
        word = {"reproduced": "Yes", "not reproduced": "No: less", "undecided": "Not shown"}[rows.verdict.iloc[0]]
        said.append(f"Is the F_beta loss doing more than moving the threshold, at its own recall? **{word}.**")
    return "\n\n".join(said)


def selection_answer(both):
    """Is the high recall of soft F1 its loss, or its selection?  A sentence from `lensdet.tables.protocols`."""
    rows = both[(both.model == OWN[2]) & (both.metric == "recall")] if len(both) else both
    if not len(rows):
        return "Soft F1 is not among the experiments: nothing to say of its selection."
    r = rows.iloc[0]
    interval = f"{r.low:+.3f} to {r.high:+.3f}" if np.isfinite(r.low) else "no interval from one run"
    lead = (
        f"Soft F1 has a recall of {r.text:.3f} by whole-set selection and {r.code:.3f} as the published runs selected"
    )
    word = (
        "undecided below five runs" if r.n_runs < 5 else ("the selection" if r.low > 0 else "not the selection alone")
    )
    return f"{lead}: {r['mean']:+.3f} ({interval}, {int(r.n_runs)} runs). What raises its recall: **{word}**."


def readable(table):
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
            line["minus cross-entropy"] = f"{r.difference:+.3f} ({r.low:+.3f} to {r.high:+.3f}), {int(r.runs)} runs"
        found.append(line)
    return pd.DataFrame(found).fillna("–")
