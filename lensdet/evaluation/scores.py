"""What the runs of a model say of a frozen set, read from their folders."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensdet.evaluation import metrics
from lensdet.experiments import BY_LOSS, F_BETA, FURTHER, NETWORKS, Experiment
from lensdet.parameters import Parameters


class Scores(NamedTuple):
    """What the runs of a model say of a frozen set."""

    labels: np.ndarray  # (N,)
    logits: np.ndarray  # float32 (R, N)
    runs: np.ndarray  # (R,), their numbers: run i is paired with run i of every other model


def models(parameters: Parameters) -> dict[str, Experiment]:
    """`experiments.Experiment` by name: the rows of Table 5.1 in the thesis' order, then what is beyond."""
    found = {name: network for name, network in NETWORKS.items() if network.loss in parameters.experiments}
    for loss in parameters.experiments:
        if loss not in {network.loss for network in NETWORKS.values()}:
            name = FURTHER.get(loss) or f"{F_BETA}, beta {parameters.loss(loss)['beta']:g}"
            found[name] = Experiment(name, "network", loss, BY_LOSS)
    return found


def collapsed(logits: ArrayLike) -> NDArray[np.bool_]:
    """Runs (R,) that accept all images, or none, at p = 0.5."""
    accepted = (np.asarray(logits) >= 0).mean(-1)
    return (accepted == 0) | (accepted == 1)


def saturated(logits: ArrayLike) -> NDArray:
    """Share of the predictions below 0.01 or above 0.99, of each run (R,)."""
    p = metrics.probability(logits)
    return ((p < 0.01) | (p > 0.99)).mean(-1)
