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
from lensdet.experiments import BCE, F_1, F_BETA
from lensdet.parameters import Parameters
from lensdet.study import Study

OWN = (BCE, F_BETA, F_1)  # whose own recall and precision are matched
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


def verdict(question: str, verdicts: str, runs: int, parameters: Parameters) -> str:
    """The end of a paragraph: the verdict at this budget, or that there are too few runs for one.

    Parameters
    ----------
    question, verdicts : str
        Whole sentences.
    runs : int
        How many are behind them.
    parameters : lensdet.parameters.Parameters
    """
    if runs < statistics.LEAST_RUNS:
        return (
            f"{question} **Open**: {runs} run{'s' * (runs != 1)}, and nothing is decided below {statistics.LEAST_RUNS}."
        )
    return f"{question} At {parameters.images:,} images a run: {verdicts}"


def matched_summary(parameters: Parameters, table: pd.DataFrame) -> str:
    """What the control says, in sentences made of the numbers in the tables.

    Parameters
    ----------
    table : pandas.DataFrame
        From `matched`.
    """
    said, verdicts, runs = [], [], []
    words = {
        "higher": "more precise than",
        "lower": "less precise than",
        "equivalent": "within 0.01 of",
        "open": "not shown to differ from",
    }
    for model in OWN[1:]:
        rows = table[(table["at"] == f"that of {model}") & (table.matched == "recall")] if len(table) else table
        rows = rows.set_index("model") if len(rows) else rows
        if not {BCE, model} <= set(rows.index):
            continue
        ours, theirs = rows.loc[model], rows.loc[BCE]
        said.append(
            f"At the recall of the {model} model ({ours.target:.3f}) it has a precision of {ours['mean']:.3f} and "
            f"binary cross-entropy, read at another threshold, {theirs['mean']:.3f}: a difference of "
            f"{ours.difference:+.3f} ({interval(ours.low, ours.high)}, 95 %, over {int(ours.runs)} paired runs and the "
            "test images)."
        )
        verdicts.append(f"{model}: **{words[ours.verdict]}** cross-entropy at its own recall.")
        runs.append(int(ours.runs))
    if not said:
        return "The control needs bce beside fbeta or f1 among the experiments."
    question = "Is the loss doing more than moving the threshold?"
    return "\n\n".join([*said, verdict(question, " ".join(verdicts), min(runs), parameters)])


def effective_summary(table: pd.DataFrame) -> str:
    """Where the soft losses cut and where theory says, in a sentence a beta."""
    said = []
    for (model, beta), rows in table.groupby(["model", "beta"], sort=False) if len(table) else ():
        inside = rows[rows.effective.between(0, 1, inclusive="neither")]
        about = [f"over {style.number_of(len(inside), 'run')}"] if len(inside) else []
        if len(inside) < len(rows):
            about.append(f"{len(rows) - len(inside)} of {len(rows)} runs accept all lenses or none")
        cuts = f"{inside.effective.mean():.3f}" if len(inside) else "no threshold"
        said.append(f"{model} (beta {beta:g}) cuts where calibrated cross-entropy says {cuts}, and theory says "
                    f"{rows.predicted.mean():.3f} ({'; '.join(about)}).")  # fmt: skip
    return "\n\n".join(said) or "Effective thresholds need bce beside fbeta or f1 among the experiments."


def selection(study: Study, weights: NDArray) -> dict[str, statistics.Difference]:
    """Is the recall of soft F1 its loss, or its selection?  Recalls at p = 0.5, whatever the protocol.

    Returns
    -------
    dict of lensdet.evaluation.statistics.Difference
        ``loss``: soft F1 less cross-entropy, both selected on the whole validation set; ``selection``: soft F1 as the
        published runs selected less soft F1 as here; ``both``: soft F1 less cross-entropy, as the published runs
        selected.  Empty where one of the two was not trained.
    """
    read = {(m, p): study.scores(m, protocol=p) if m in study.models else None
            for m in (BCE, OWN[2]) for p in ("text", "code")}  # fmt: skip
    if None in read.values():
        return {}
    common = set.intersection(*(set(s.runs) for s in read.values()))
    recalls = {}
    for key, s in read.items():
        logits = s.logits[np.isin(s.runs, list(common))]
        recalls[key] = (metrics.evaluate(s.labels, logits)["recall"],
                        statistics.on_resamples(s.labels, logits, weights)["recall"])  # fmt: skip
    pairs = {"loss": ((OWN[2], "text"), (BCE, "text")), "selection": ((OWN[2], "code"), (OWN[2], "text")),
             "both": ((OWN[2], "code"), (BCE, "code"))}  # fmt: skip
    return {name: statistics.paired(recalls[a][0], recalls[b][0], recalls[a][1], recalls[b][1])
            for name, (a, b) in pairs.items()}  # fmt: skip


def selection_summary(parameters: Parameters, differences: dict[str, statistics.Difference]) -> str:
    """What `selection` found, in words."""
    if not differences:
        return "Whether selection raises the recall of soft F1 needs bce and f1 among the experiments."
    loss, chosen, both = (differences[name] for name in ("loss", "selection", "both"))
    redrawn = "redrawn for every chunk" if parameters.redraw_validation else "frozen, where theirs was redrawn"
    said = (
        f"At p = 0.5 soft F1 has a recall {loss.mean:+.3f} from that of cross-entropy "
        f"({interval(loss.low, loss.high)}) when both are selected on the whole validation set.  Selected as the "
        f"published runs were (validation set {redrawn}), it changes by {chosen.mean:+.3f} "
        f"({interval(chosen.low, chosen.high)}), and the difference to cross-entropy is {both.mean:+.3f} "
        f"({interval(both.low, both.high)}; 95 %, {loss.n_runs} paired runs)."
    )
    found = {
        "higher": "raises it",
        "lower": "lowers it",
        "equivalent": "leaves it within 0.01",
        "open": "shows no effect",
    }
    both_ways = zip(("loss", "selection"), statistics.directions([loss, chosen]), strict=True)
    words = ", ".join(f"the {name} {found[direction]}" for name, direction in both_ways)
    return said + "\n\n" + verdict("Its loss, or its selection?", f"**{words}**.", loss.n_runs, parameters)


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
