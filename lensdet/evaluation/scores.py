"""What the runs of a model say of a frozen set, read from their folders."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lensdet import runs as results
from lensdet import storage
from lensdet.data import frozen_sets
from lensdet.evaluation import metrics, statistics
from lensdet.experiments import BY_LOSS, F_BETA, NETWORKS, Experiment

FURTHER = {"focal": "Focal loss", "sigmoid_f1": "sigmoidF1 loss"}


class Scores(NamedTuple):
    """What the runs of a model say of a frozen set."""

    labels: np.ndarray  # (N,)
    logits: np.ndarray  # float32 (R, N)
    runs: np.ndarray  # (R,), their numbers: run i is paired with run i of every other model


def models(parameters):
    """`experiments.Experiment` by name: the rows of Table 5.1 in the thesis' order, then what is beyond."""
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
    """The truth table of a frozen set, a pandas data frame with a row an image (see `frozen_sets.truth`)."""
    if name == frozen_sets.LARGE:
        path = frozen_sets.large_folder(parameters) / "truth.csv"
    else:
        path = frozen_sets.truth_folder(parameters, data_key) / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no truth table; run notebooks/02_losses.py, which writes it")
    return pd.read_csv(storage.checked(path))


def resamples(parameters, data_key, name="test", draws=2000):
    """Resamples (B, N) of a frozen set by LRG, contaminant and source, the same for every model."""
    truth = load_truth(parameters, data_key, name)
    source = truth["source_id"].fillna(-1).astype(int) if "source_id" in truth else np.full(len(truth), -1)
    stamp = pd.factorize(truth["host"] + truth["stamp_id"].astype(str))[0]
    weights = statistics.resample(stamp, source.to_numpy(), truth["host"].to_numpy(), draws, parameters.data_seed)
    # in a set of a few stamps a draw may lose a class, and nothing is defined on it
    whole = np.all([weights @ (truth["label"] == label).to_numpy() > 0 for label in truth["label"].unique()], axis=0)
    return weights[whole]


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
