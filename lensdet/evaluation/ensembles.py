"""Ensembles of finders (sections 3.6 and 4.6), and what they are to be compared with; all from saved logits.

Members are rows of Table 5.1, and ensemble i is made of their runs i.  Every ensemble but stacking, oracle and cascade
is a weighted mean of its members' probabilities (Eqs. 3.22 and 3.23); what is handed on is the logit of that mean.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lensdet.data.random import stream
from lensdet.evaluation import metrics, thresholds
from lensdet.evaluation.metrics import Protocol
from lensdet.evaluation.scores import Scores
from lensdet.experiments import ENSEMBLES, INPUT_DEPENDENT, MEMBERS, NETWORKS, baseline
from lensdet.parameters import ParameterError, Parameters
from lensdet.runs import Run, all_runs, run_folder

if TYPE_CHECKING:
    from lensdet.study import Study

TOLERANCE, ITERATIONS = 1e-6, 200  # of Nelder-Mead; iterations for each member (section 4.6)
REJECTED = -1e9  # the logit of what the first stage of a cascade leaves out: below any of the second


class Members(NamedTuple):
    """What the members of an ensemble say of a frozen set."""

    labels: np.ndarray  # (N,)
    logits: np.ndarray  # float64 (R, N, m)
    runs: np.ndarray  # (R,), their numbers


class Weights(NamedTuple):
    """Weights of an ensemble, one row a run (R, m): what the optimiser left, and what is used."""

    raw: np.ndarray
    used: np.ndarray


def possible(parameters: Parameters) -> list[str]:
    """The ensembles asked for whose members are all among the experiments.

    Raises
    ------
    ValueError
        Where there is none, naming what is missing.
    """
    wanted = {e: ENSEMBLES[e].losses for e in parameters.ensembles}
    found = [e for e, losses in wanted.items() if set(losses) <= set(parameters.experiments)]
    if not found:
        needs = "; ".join(f"{e} {', '.join(losses)}" for e, losses in wanted.items())
        raise ParameterError(f"no ensemble can be made of the experiments {', '.join(parameters.experiments)}: {needs}")
    return found


def dynamic(parameters: Parameters) -> list[str]:
    """The input-dependent ones of `possible`: those that have a network to train."""
    return [ensemble for ensemble in possible(parameters) if ensemble in INPUT_DEPENDENT]


def load(study: "Study", models: Sequence[str], name: str = "test") -> Members:
    """`Members` of a frozen set: those rows of Table 5.1, runs 1 ... ``runs``.

    Parameters
    ----------
    study : lensdet.study.Study
    models : sequence of str
        Names of the rows, in `experiments.NETWORKS`; the members in this order.
    name : {"validation", "calibration", "test", "large", "training"}
        The set.  "training" is the chunk after those of the training, another in each run: labels are then (R, N).

    Raises
    ------
    FileNotFoundError
        Where a run of a member is not there.
    ValueError
        Where its logits are not finite, or it was scored on another set than the others.  Both name the run.
    """
    numbers = np.arange(1, study.parameters.runs + 1)
    runs = [run_members(study.parameters, study.key, models, int(i)) for i in numbers]
    found = [read(members, name) for members in runs]
    for i, members in zip(numbers, runs, strict=True):
        for (run, _), model in zip(members, models, strict=True):
            run.check(study.parameters, NETWORKS[model].loss, int(i), study.key)
    if name != "training":  # of that every run has its own
        for members, (rows, _) in zip(runs, found, strict=True):
            _same_rows(members[0][0], rows, found[0][0], name)
    labels = found[0][0]["label"] if name != "training" else np.stack([rows["label"] for rows, _ in found])
    return Members(labels, np.stack([logits for _, logits in found]), numbers)


def read(members: Sequence[tuple[Run, str]], name: str) -> tuple[np.ndarray, NDArray[np.float64]]:
    """Rows (N,) and logits, float64 (N, m), of some members on one set: pairs of `Run` and selector.

    Raises as `load`.
    """
    rows, logits = None, []
    for run, selector in members:
        if not run.is_complete:
            raise FileNotFoundError(f"{run.folder}: no complete run, and an ensemble needs run i of every member; "
                                    "train it with notebooks/02_losses.py, or ask for fewer `runs`")  # fmt: skip
        these = run.rows(name)
        rows = these if rows is None else rows
        _same_rows(run, these, rows, name)
        logits.append(run.logits(selector, name)[1].astype(float))
        if not np.isfinite(logits[-1]).all():
            raise ValueError(f"{run.folder}: {selector} has logits of the {name} set that are not finite: the training "
                             "diverged; leave the run out with fewer `runs`, or train it anew")  # fmt: skip
    return rows, np.stack(logits, -1)


def _same_rows(run, rows, others, name):
    if not np.array_equal(rows, others):
        raise ValueError(
            f"{run.folder}: its {name} set is not that of the other members; remove the folder to train it anew"
        )


def distinct(logits: NDArray) -> NDArray[np.bool_]:
    """Members (m,) that are not a copy of an earlier one: two selectors may have chosen the same checkpoint."""
    m = logits.shape[-1]
    return np.array([not any(np.array_equal(logits[..., i], logits[..., j]) for j in range(i)) for i in range(m)])


def mix(logits: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Logits (..., N) of the weighted mean of the members' probabilities (Eqs. 3.22 and 3.23).

    Parameters
    ----------
    logits : array_like, (..., N, m)
    weights : array_like, (m,) or (..., N, m)
        Not negative, their sum over the members 1: then 1 - p is the same mean of what members leave to 1, and the
        logit is exact where p is 0 or 1 to the last digit.
    """
    logits, weights = np.asarray(logits, np.float64), np.asarray(weights, np.float64)
    weights = np.broadcast_to(weights, logits.shape)
    return logsumexp(log_expit(logits), -1, weights) - logsumexp(log_expit(-logits), -1, weights)


def mean(logits: ArrayLike) -> NDArray[np.float64]:
    """Logits (..., N) of the plain mean of the members' probabilities; parameter as in `mix`."""
    members = np.shape(logits)[-1]
    return mix(logits, np.full(members, 1 / members))


def nelder_mead(
    labels: ArrayLike, logits: ArrayLike, protocol: Protocol, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Weights (m,) of least mean squared error, by Nelder & Mead (1965) from a random start: (raw, used).

    A member that is a copy of an earlier one has the weight 0, under either protocol.

    Parameters
    ----------
    labels : array_like, (N,)
    logits : array_like, (N, m)
        Of the members, on the calibration set (text) or on a training chunk (code).
    protocol : {"text", "code"}
        text: the weights are on the simplex inside the objective, as v^2 / sum(v^2), and Nelder-Mead's steps are those
        of Gao & Han (2012).  code: the objective knows no constraint, and the optimum goes through a softmax
        afterwards, which no longer minimises anything.
    rng : numpy.random.Generator
    """
    kept = distinct(np.asarray(logits))
    labels, p = np.asarray(labels, np.float64), metrics.probability(np.asarray(logits)[:, kept])
    simplex = {"text": lambda v: v**2 / np.sum(v**2), "code": lambda v: v}[protocol]
    options = {"maxiter": ITERATIONS * len(kept), "adaptive": protocol == "text"}
    found = minimize(lambda v: np.mean((labels - p @ simplex(v)) ** 2), rng.random(kept.sum()), method="Nelder-Mead",
                     tol=TOLERANCE, options=options)  # fmt: skip
    raw, used = np.zeros(len(kept)), np.zeros(len(kept))
    raw[kept] = simplex(found.x)
    used[kept] = softmax(raw[kept]) if protocol == "code" else raw[kept]
    return raw, used


def nelder_mead_weights(study: "Study", ensemble: str) -> Weights:
    """`Weights` of ``NM_3`` or ``NM_6`` for each run."""
    protocol = study.parameters.protocol
    fit = load(study, ENSEMBLES[ensemble].members, {"text": "calibration", "code": "training"}[protocol])
    labels = np.broadcast_to(fit.labels, fit.logits.shape[:-1])
    found = [
        nelder_mead(y, z, protocol, stream(study.parameters.seed, f"nelder-mead/{ensemble}", int(run)))
        for y, z, run in zip(labels, fit.logits, fit.runs, strict=True)
    ]
    return Weights(*map(np.stack, zip(*found, strict=True)))


def dynamic_weights(study: "Study", ensemble: str, name: str = "test") -> NDArray:
    """Weights (R, N, m) that the trained DE_m of ``IDE_3`` or ``IDE_6`` gives the members for each image.

    Parameters are those of `scores`.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load`; and where a member was trained anew since.
    """
    selector, found = {"text": "loss", "code": "accuracy"}[study.parameters.protocol], []
    for i in range(1, study.parameters.runs + 1):
        run = Run(run_folder(study.parameters, ensemble, i, study.key))
        rows, logits = read([(run, selector)], name)
        run.check(study.parameters, ensemble, i, study.key)
        members = run_members(study.parameters, study.key, ENSEMBLES[ensemble].members, i)
        _same_rows(run, rows, members[0][0].rows(name), name)
        if run.provenance["members"] != [member.fingerprint(by) for member, by in members]:
            raise ValueError(f"{run.folder}: a member was trained anew since; remove the folder to train it for these")
        found.append(logits[..., 0])
    return softmax(np.stack(found), -1)


def run_members(parameters: Parameters, data_key: str, models: Sequence[str], run: int) -> list[tuple[Run, str]]:
    """`Run` and selector of some rows of Table 5.1, for their runs of one number.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    data_key : str
        Of the data, as from `bank.data_key`.
    models : sequence of str
        Names of the rows.
    run : int
        The number, from 1; the run need not be there.
    """
    networks = [NETWORKS[model] for model in models]
    return [(Run(run_folder(parameters, network.loss, run, data_key)), network.checkpoint[parameters.protocol])
            for network in networks]  # fmt: skip


def scores(study: "Study", ensemble: str, name: str = "test") -> Scores:
    """`scores.Scores` of ``NM_3``, ``NM_6``, ``IDE_3`` or ``IDE_6``: what the members say, weighed.

    Parameters
    ----------
    study : lensdet.study.Study
    ensemble : str
        Of `experiments.ENSEMBLES`.
    name : {"validation", "calibration", "test", "large"}
        The frozen set.
    """
    members = load(study, ENSEMBLES[ensemble].members, name)
    if ensemble in INPUT_DEPENDENT:
        weights = dynamic_weights(study, ensemble, name)
    else:
        weights = nelder_mead_weights(study, ensemble).used[:, None]
    return Scores(members.labels, mix(members.logits, weights), members.runs)


def baselines(study: "Study", size: int, name: str = "test") -> dict[str, Scores]:
    """`Scores` of what an ensemble of that size has to beat, by name; what is fitted is fitted on the calibration set.

    ``mean``: equal weights.  ``best member``: the one of least mean squared error, of each run.  ``stacking``: logistic
    regression on the standardised logits.  ``oracle``: for each image the member closest to its label, which uses the
    labels and cannot be attained.

    Parameters
    ----------
    study : lensdet.study.Study
    size : {3, 6}
    name : {"validation", "calibration", "test", "large"}
        The frozen set.
    """
    fit, members = (load(study, MEMBERS[size], each) for each in ("calibration", name))
    once = np.stack([distinct(z) for z in fit.logits]).astype(float)
    error = np.mean((metrics.probability(fit.logits) - fit.labels[:, None]) ** 2, 1)  # (R, m)
    best = np.eye(size)[error.argmin(-1)]
    stacked = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(before, fit.labels).decision_function(z)
        for before, z in zip(fit.logits, members.logits, strict=True)
    ]
    oracle = np.where(members.labels > 0, members.logits.max(-1), members.logits.min(-1))
    found = {
        "mean": mix(members.logits, (once / once.sum(-1, keepdims=True))[:, None]),
        "best member": mix(members.logits, best[:, None]),
        "stacking": np.stack(stacked),
        "oracle": oracle,
    }
    return {baseline(kind, size): Scores(members.labels, logits, members.runs) for kind, logits in found.items()}


def same_loss(study: "Study", model: str, size: int, name: str = "test") -> Scores | None:
    """`Scores` of the mean of ``size`` runs of one row of Table 5.1: runs i ... i + size - 1, and round again.

    All complete runs in results/ serve, also beyond ``runs``; one that diverged is named and left out.  These ensembles
    share members: they say nothing of other seeds.  None where there are too few runs.

    Parameters are those of `baselines`, but that any size will do; ``model`` is the name of the row.
    """
    network, runs = NETWORKS[model], []
    selector = network.checkpoint[study.parameters.protocol]
    for run in all_runs(study.parameters, network.loss, study.key):
        if all(np.isfinite(run.logits(selector, each)[1]).all() for each in ("calibration", "test")):
            runs.append(run)
        else:
            print(f"{run.folder}: diverged (logits that are not finite), in no ensemble of several runs of {model}")
    if len(runs) < size:
        return None
    rows, logits = read([(run, selector) for run in runs], name)
    starts = range(len(runs)) if len(runs) > size else range(1)
    parts = [logits[:, [(i + j) % len(runs) for j in range(size)]] for i in starts]
    numbers = np.array([runs[i].number for i in starts])
    return Scores(rows["label"], np.stack([mean(part) for part in parts]), numbers)


def cascade(first: ArrayLike, second: ArrayLike, cut: float) -> NDArray[np.float64]:
    """Logits (N,) of a cascade: those of the second member for what passes the first at `cut`, else `REJECTED`.

    Parameters
    ----------
    first, second : array_like, (N,)
        Logits of the two members on the same images.
    cut : float
        A logit of the first, as from `cascade_cuts`.
    """
    return np.where(np.asarray(first) >= cut, np.asarray(second, np.float64), REJECTED)


def cascade_cuts(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, beta: float, recall: float | None = None
) -> tuple[float, float]:
    """Thresholds of the two stages, from the calibration set: (of the first, of the second).

    Parameters
    ----------
    labels, first, second : array_like, (N,)
        Labels, and logits of the two members.
    beta : float
        The best F_beta is sought ...
    recall : float, optional
        ... or, where it is given, the highest precision with at least this recall.

    Returns
    -------
    tuple of float
        Of several as good, those with which the second stage sees the fewest images.
    """
    labels, best = np.asarray(labels), (-1.0, np.nan, np.nan)
    for cut in np.unique(np.asarray(first)[labels == 1])[::-1]:
        logits = cascade(first, second, cut)
        t, tp, fp = thresholds.curve(labels, logits)
        counts = metrics.Counts(tp, fp, tp[-1] - tp, fp[-1] - fp)
        value = metrics.f_beta(counts, beta) if recall is None else metrics.precision(counts)
        allowed = (t > REJECTED) & (metrics.recall(counts) >= (recall or 0))
        if allowed.any():
            k = np.flatnonzero(allowed)[np.argmax(value[allowed])]
            if value[k] > best[0] * (1 + thresholds.ROUNDING):
                below = t[k + 1] if k + 1 < len(t) and t[k + 1] > REJECTED else t[k] - 2
                best = value[k], cut, (t[k] + below) / 2
    return best[1:]


def votes(logits: ArrayLike, models: Sequence[str]) -> NDArray:
    """Logits (..., m) of members with those of soft losses rounded to a yes or no (p = 0.5), rows of Table 5.1."""
    soft = np.array([NETWORKS[model].loss != "bce" for model in models])
    return np.where(soft, np.where(np.asarray(logits) >= 0, -REJECTED, REJECTED), logits)
