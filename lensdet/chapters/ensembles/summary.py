"""What a DE_m learns, what the softmax does to the curve of an ensemble, and the cascade, as tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from lensdet.chapters.ensembles.tables import MEASURES, Pairs, weights_table
from lensdet.evaluation import ensembles, metrics, statistics, thresholds
from lensdet.experiments import BCE, ENSEMBLES, F_1, F_BETA, NETWORKS
from lensdet.parameters import Parameters
from lensdet.study import Study

CASCADE = (F_1, F_BETA)  # first stage, second stage (section 6.2)
SINGLE = (BCE, F_BETA, F_1, "NM_3")  # what a cascade is compared with
FAIR = [MEASURES[m] for m in ("f_beta_own", "auc")]  # where no threshold of p = 0.5 stands between
SHOWN = [MEASURES[m] for m in ("f_beta", "f_beta_own", "auc")]


def targets(study: Study, ensemble: str) -> pd.DataFrame:
    """What a DE_m was to learn, the member closest to the label, and whether it did: a training chunk and the test set.

    Returns
    -------
    pandas.DataFrame
        A row a run and set.  ``ties``: images with several members equally close in float32 probability, copies apart.
        ``by_label``: images whose closest member is the most frequent one of their label, so that label and a habit
        say it all.  ``named``: images for which DE_m names the closest member; ``most_frequent``: what naming one
        member for all would reach.  Targets are those of the protocol.
    """
    from lensdet.network import ensemble_network  # with Keras, which nothing else here needs

    rows = []
    for name in ("training", "test"):
        members = ensembles.load(study, ENSEMBLES[ensemble].members, name)
        given = ensembles.dynamic_weights(study, ensemble, name)
        for labels, logits, weights, run in zip(np.broadcast_to(members.labels, members.logits.shape[:-1]),
                                                members.logits, given, members.runs, strict=True):  # fmt: skip
            target = np.asarray(ensemble_network.closest(labels, logits.astype(np.float32), study.parameters.protocol))
            single = expit(logits[:, ensembles.distinct(logits)].astype(np.float32))
            extreme = np.where(labels > 0, single.max(-1), single.min(-1))
            counts = {y: np.bincount(target[labels == y], minlength=logits.shape[-1]) for y in (0, 1)}
            rows.append({"ensemble": ensemble, "set": name, "run": run, "images": len(labels),
                         "ties": float(((single == extreme[:, None]).sum(-1) > 1).mean()),
                         "by_label": sum(c.max() for c in counts.values()) / len(labels),
                         "of_lenses": ENSEMBLES[ensemble].members[counts[1].argmax()],
                         "of_negatives": ENSEMBLES[ensemble].members[counts[0].argmax()],
                         "named": float((weights.argmax(-1) == target).mean()),
                         "most_frequent": sum(counts.values()).max() / len(labels)})  # fmt: skip
    return pd.DataFrame(rows)


def cascades(
    parameters: Parameters, found: Pairs, weights: NDArray, recalls: Sequence[float] = (0.5, 0.7)
) -> pd.DataFrame:
    """The cascade against single models at the recall that it has on the test set.

    Thresholds of both stages are from the calibration set: those of the best F_beta, and those of the highest precision
    at `recalls`.  The single models' precision is read off their test curves, and so is that of the cascade, as a
    function of its second threshold: a diagnosis, as in `threshold_control.matched`.

    Parameters
    ----------
    found, weights
        As in `tables.measure`.

    Returns
    -------
    pandas.DataFrame
        A row a way to choose the thresholds and model: its precision at the cascade's recall, and the cascade's less
        that with the interval over seeds and images; the share of images that the second stage sees.
    """
    (fit_a, test_a), (fit_b, test_b) = (found[model] for model in CASCADE)
    beta, rows, compared = parameters.selection_beta, [], []
    for recall in (None, *recalls):
        logits, seen, at = [], [], []
        for k in range(len(test_a.logits)):
            first, second = ensembles.cascade_cuts(fit_a.labels, fit_a.logits[k], fit_b.logits[k], beta, recall)
            logits.append(ensembles.cascade(test_a.logits[k], test_b.logits[k], first))
            seen.append(float((test_a.logits[k] >= first).mean()))
            at.append(float((logits[-1] >= second)[test_a.labels == 1].mean()))
        models = {"cascade": np.stack(logits), **{m: s.logits for m, (_, s) in found.items() if m in SINGLE}}

        def precise(z, r, w=None):
            if r == 0:  # nothing is accepted, and there is no precision
                return np.nan if w is None else np.full(len(w), np.nan)
            return thresholds.precision_at_recall(thresholds.curve(test_a.labels, z, w), r)

        precisions = {m: np.array([precise(z, r) for z, r in zip(zs, at, strict=True)]) for m, zs in models.items()}
        drawn = {m: np.stack([precise(z, r, weights) for z, r in zip(zs, at, strict=True)]) for m, zs in models.items()}
        for model in models:
            low, high = statistics.bootstrap_interval(drawn[model])
            line = {"thresholds": "of the best F_beta" if recall is None else f"of recall {recall:g}",
                    "model": model, "recall": np.mean(at), "precision": precisions[model].mean(), "test_low": low,
                    "test_high": high, "runs": len(at)}  # fmt: skip
            if model == "cascade":
                line["seen_by_second"] = np.mean(seen)
            else:
                d = statistics.paired(precisions["cascade"], precisions[model], drawn["cascade"], drawn[model])
                line |= {"cascade_minus_it": d.mean, "low": d.low, "high": d.high}
                compared.append((line, d))
            rows.append(line)
    for (line, _), word in zip(compared, statistics.directions([d for _, d in compared]), strict=True):
        line["verdict"] = word
    return pd.DataFrame(rows)


class ThresholdSteps(NamedTuple):
    """F_beta (T,) at `metrics.THRESHOLDS` of a Nelder-Mead ensemble (``code``), mean over runs."""

    used: np.ndarray  # with the softmax of the optimum
    raw: np.ndarray  # with the optimum itself
    votes: np.ndarray  # with the softmax, soft members rounded to yes or no
    alone: dict[str, float]  # up to this p the vote of a soft member alone is enough; by member, mean over runs
    veto: dict[str, float]  # above this p nothing passes without its vote


def threshold_steps(study: Study, ensemble: str, weights: ensembles.Weights) -> ThresholdSteps:
    """The curve of an ensemble with its weights before and after the softmax (thesis, sections 5.4 and 5.6).

    A member that says 0 or 1 adds a step: below its weight it is enough alone, above 1 less its weight it has a veto.

    Parameters
    ----------
    weights : lensdet.evaluation.ensembles.Weights
        Of the ``code`` protocol.
    """
    models = ENSEMBLES[ensemble].members
    members, beta = ensembles.load(study, models), study.parameters.selection_beta

    def f_beta(p):
        return metrics.f_beta_curve(members.labels, p, beta)[0].mean(0)

    def used(logits):
        return f_beta(metrics.probability(ensembles.mix(logits, weights.used[:, None])))

    raw = np.einsum("rnm,rm->rn", metrics.probability(members.logits), weights.raw)
    soft = {model: weights.used[:, j].mean() for j, model in enumerate(models) if NETWORKS[model].loss != "bce"}
    rounded = ensembles.votes(members.logits, models)
    return ThresholdSteps(used(members.logits), f_beta(raw), used(rounded), soft, {m: 1 - w for m, w in soft.items()})


def around_softmax(study: Study, names: Sequence[str]) -> tuple[dict[str, pd.DataFrame], dict[str, ThresholdSteps]]:
    """Rows of `tables.weights_table` and `threshold_steps` of Nelder-Mead ensembles, by name.

    Parameters
    ----------
    study : lensdet.study.Study
        Of the ``code`` protocol, which takes a softmax after the optimum.
    names : sequence of str
        Of ``NM_3`` and ``NM_6``.
    """
    raw = {name: ensembles.nelder_mead_weights(study, name) for name in names}
    rows = {name: weights_table({name: weights}) for name, weights in raw.items()}
    return rows, {name: threshold_steps(study, name, weights) for name, weights in raw.items()}


def bands(found: dict[str, ThresholdSteps]) -> pd.DataFrame:
    """F_beta between the steps that the heaviest soft member of each ensemble makes, from `threshold_steps`.

    Returns
    -------
    pandas.DataFrame
        A row an ensemble and band of thresholds: mean F_beta with the ``softmax`` and with the ``optimum`` itself, and
        ``votes``, the most that rounding the soft members to yes or no changes it.
    """
    rows = []
    for ensemble, b in found.items():
        member, t = max(b.alone, key=b.alone.get), metrics.THRESHOLDS
        low, high = b.alone[member], b.veto[member]
        parts = ((f"p < {low:.2f}: it alone is enough", t < low), (f"p > {high:.2f}: it has a veto", t > high),
                 ("between", (t >= low) & (t <= high)))  # fmt: skip
        for band, inside in parts:
            if inside.any():
                rows.append({"ensemble": ensemble, "soft member": member, "thresholds": band,
                             "softmax": b.used[inside].mean(), "optimum": b.raw[inside].mean(),
                             "votes": np.abs(b.used - b.votes)[inside].max()})  # fmt: skip
    return pd.DataFrame(rows)
