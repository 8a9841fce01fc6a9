"""Tables: what was measured, with its uncertainties, beside what was published."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lensdet import metrics, mocklens, results, statistics, thesis
from lensdet.experiments import BY_LOSS, F_BETA, NETWORKS, Experiment

METRICS = {"accuracy": "accuracy", "f_beta": "F_beta", "precision": "precision", "recall": "recall"}
FURTHER = {"focal": "Focal loss", "sigmoid_f1": "sigmoidF1 loss"}


class Scores(NamedTuple):
    """What the runs of a model say of a frozen set."""

    labels: np.ndarray  # (N,)
    logits: np.ndarray  # float32 (R, N)
    runs: np.ndarray  # (R,), their numbers: run i is paired with run i of every other model


def models(parameters):
    """`lensdet.experiments.Experiment` by name: the rows of Table 5.1 in the thesis' order, then what is beyond."""
    found = {name: network for name, network in NETWORKS.items() if network.loss in parameters.experiments}
    for loss in parameters.experiments:
        if loss not in {network.loss for network in NETWORKS.values()}:
            name = FURTHER.get(loss) or f"{F_BETA}, beta {parameters.loss(loss)['beta']:g}"
            found[name] = Experiment(name, "network", loss, BY_LOSS)
    return found


def scores(parameters, data_key, model, name="test", protocol=None):
    """Scores of the complete runs of a model on a frozen set; None without a run.

    A run that diverged (some logit of the calibration or test set is not finite) is named and left out, of all sets.
    """
    network = models(parameters)[model]
    selector = network.checkpoint[protocol or parameters.protocol]
    labels, logits, runs = None, [], []
    for folder in results.complete_runs(parameters, network.loss, data_key):
        sets = {each: results.load_logits(folder, selector, each) for each in {"calibration", "test", name}}
        if not all(np.isfinite(found).all() for _, found in sets.values()):
            print(f"{model}: run {int(folder.name[4:])} diverged (logits that are not finite) and is left out")
            continue
        labels, found = sets[name]
        logits.append(found)
        runs.append(int(folder.name[4:]))
    return Scores(labels, np.stack(logits), np.array(runs)) if logits else None


def load_truth(parameters, data_key, name="test"):
    """The truth table of a frozen set, a pandas data frame with a row an image (see `lensdet.mocklens.truth`)."""
    if name == mocklens.LARGE:
        path = mocklens.large_folder(parameters) / "truth.csv"
    else:
        path = mocklens.truth_folder(parameters, data_key) / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no truth table; run notebooks/02_losses.py, which writes it")
    return pd.read_csv(results.checked(path))


def resamples(parameters, data_key, name="test", draws=2000):
    """Resamples (B, N) of a frozen set by LRG, contaminant and source, the same for every model."""
    truth = load_truth(parameters, data_key, name)
    source = truth["source_id"].fillna(-1).astype(int) if "source_id" in truth else np.full(len(truth), -1)
    stamp = pd.factorize(truth["host"] + truth["stamp_id"].astype(str))[0]
    weights = statistics.resample(stamp, source.to_numpy(), truth["host"].to_numpy(), draws, parameters.data_seed)
    # in a set of a few stamps a draw may lose a class, and nothing is defined on it
    whole = np.all([weights @ (truth["label"] == label).to_numpy() > 0 for label in truth["label"].unique()], axis=0)
    return weights[whole]


def best_models(table):
    """The model with the highest mean of each metric of Table 5.1, by name of the metric; of equals the first."""
    return {metric: own.loc[own["mean"].idxmax(), "model"] for metric, own in table.groupby("metric", sort=False)}


def median_run(parameters, data_key, model, read):
    """Index in `Scores` of the run of median validation loss; where that diverged, of the first that did not."""
    folder = results.median_run(results.complete_runs(parameters, models(parameters)[model].loss, data_key))
    found = np.flatnonzero(read.runs == int(folder.name[4:]))
    return int(found[0]) if len(found) else 0


def collapsed(logits):
    """Runs (R,) that accept all images, or none, at p = 0.5."""
    accepted = (np.asarray(logits) >= 0).mean(-1)
    return (accepted == 0) | (accepted == 1)


def polarised(logits):
    """Share of the predictions below 0.01 or above 0.99, of each run (R,)."""
    p = metrics.probability(logits)
    return ((p < 0.01) | (p > 0.99)).mean(-1)


def table_5_1(parameters, data_key, weights, protocol=None):
    """Accuracy, F_beta, precision and recall of each model (Table 5.1).

    Collapsed runs stay in every mean.

    Parameters
    ----------
    weights : array (B, N)
        From `resamples`.
    protocol : {"text", "code"}, optional
        Without it, that of the parameters.

    Returns
    -------
    pandas.DataFrame
        A row a model and metric: the mean over runs, the seed-to-seed spread (ddof 1), the 95 % interval that the test
        images leave (bootstrap of the mean, runs fixed), n, and the thesis' mean and spread (ddof 0).
    """
    protocol, found = protocol or parameters.protocol, []
    for model in models(parameters):
        read = scores(parameters, data_key, model, protocol=protocol)
        if read is None:
            continue
        summary = statistics.summarise(read.labels, read.logits, weights, protocol, parameters.selection_beta)
        found += lines(model, read, summary)
    return pd.DataFrame(found)


def lines(model, read, summary):
    """Rows of `table_5_1` for one model: its `Scores` and what `lensdet.statistics.summarise` makes of them."""
    shared = {"runs": len(read.logits), "images": len(read.labels), "collapsed_runs": int(collapsed(read.logits).sum()),
              "polarised": float(polarised(read.logits).mean())}  # fmt: skip
    for metric, s in summary.items():
        published = thesis.TABLE_5_1.get(model, {}).get(metric, (np.nan, np.nan))
        yield {"model": model, "metric": METRICS[metric], "mean": s.mean, "seed_spread": s.spread, "test_low": s.low,
               "test_high": s.high, **shared, "thesis": published[0], "thesis_spread": published[1]}  # fmt: skip


def interval(low, high):
    """An interval as it is read; a single run has none over seeds, nor have runs that agree exactly."""
    return f"{low:+.3f} to {high:+.3f}" if np.isfinite(low) else "no interval: one run, or runs that agree exactly"


def cell(mean, spread, low, high, thesis=np.nan):
    """A cell: three numbers, each with its name, and the thesis'."""
    parts = [f"{mean:.3f}", f"seeds {spread:.3f}" if np.isfinite(spread) else "seeds –", f"test {low:.3f}–{high:.3f}"]
    return "; ".join([*parts, *([f"thesis {thesis:.3f}"] if np.isfinite(thesis) else [])])


def readable(table):
    """Table 5.1 as it is read: a row a model, in each cell the mean, spread, interval and the thesis' number."""
    if table.empty:
        return table
    wide = {
        model: {
            "n": f"{rows.runs.iloc[0]} runs, {rows.collapsed_runs.iloc[0]} collapsed",
            **{
                r.metric: cell(r["mean"], r.seed_spread, r.test_low, r.test_high, r.get("thesis", np.nan))
                for _, r in rows.iterrows()
            },
            **({"beyond 0.01 or 0.99": f"{rows.polarised.iloc[0]:.0%}"} if "polarised" in rows else {}),
            **({"mean threshold": f"{rows.threshold.iloc[0]:.3f}"} if "threshold" in rows else {}),
        }
        for model, rows in table.groupby("model", sort=False)
    }
    return pd.DataFrame(wide).T.rename_axis("model")


def protocols(parameters, data_key, weights):
    """Table 5.1 under both protocols, from the same trainings.

    Returns
    -------
    pandas.DataFrame
        A row a model and metric: mean under ``text`` and ``code``, the thesis' value, and the paired difference code -
        text with the interval over seeds and images (`lensdet.statistics.paired`).
    """
    found = []
    for model in models(parameters):
        read = {name: scores(parameters, data_key, model, protocol=name) for name in ("code", "text")}
        if None in read.values():
            continue
        common = np.intersect1d(read["code"].runs, read["text"].runs)  # one may have diverged at one checkpoint alone
        values = {}
        for name, s in read.items():
            s = s._replace(logits=s.logits[np.isin(s.runs, common)])
            beta = parameters.selection_beta
            values[name] = (metrics.evaluate(s.labels, s.logits, name, beta),
                            statistics.on_resamples(s.labels, s.logits, weights, name, beta))  # fmt: skip
        for metric, label in METRICS.items():
            (a, b), (c, d) = ([values[name][k][metric] for k in (0, 1)] for name in ("code", "text"))
            difference = statistics.paired(a, c, b, d)
            published = thesis.TABLE_5_1.get(model, {}).get(metric, (np.nan,))[0]
            found.append({"model": model, "metric": label, "text": c.mean(), "code": a.mean(), "thesis": published,
                          "code_minus_text": difference.mean, "low": difference.low, "high": difference.high,
                          "runs": difference.n_runs})  # fmt: skip
    return pd.DataFrame(found)
