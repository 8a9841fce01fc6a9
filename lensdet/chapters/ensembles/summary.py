"""What came of the ensembles: what a DE_m learns, the softmax, the cascade, the third research question in words."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from lensdet.chapters.ensembles.tables import AT, MEASURES, OVER, Measured, Pairs, gain
from lensdet.chapters.losses import tables, threshold_control
from lensdet.evaluation import ensembles, metrics, statistics, thresholds
from lensdet.experiments import BCE, ENSEMBLES, F_1, F_BETA, MEMBERS, NETWORKS, baseline, same_loss
from lensdet.parameters import Parameters
from lensdet.study import Study

CASCADE = (F_1, F_BETA)  # first stage, second stage (section 6.2)
SINGLE = (BCE, F_BETA, F_1, "NM_3")  # what a cascade is compared with
COMPARED = [MEASURES[m] for m in ("accuracy", "f_beta", "precision", "recall", "f_beta_high", "f_beta_own")]
BY_NAME = {name: which for which, name in MEASURES.items()}
FAIR = [MEASURES[m] for m in ("f_beta_own", "auc")]  # where no threshold of p = 0.5 stands between
SHOWN = [MEASURES[m] for m in ("f_beta", "f_beta_own", "auc")]


def members_by_rule(table: pd.DataFrame) -> str:
    """The models of NM_x by the rule of section 4.6, from `losses.tables.table_5_1`, in words."""
    best = tables.best_models(table)
    models = list(dict.fromkeys(best.values()))
    each = ", ".join(f"{metric} {model}" for metric, model in best.items())
    return (
        "By the rule of section 4.6 NM_x has the models that are best on accuracy, F_beta, precision and recall.  The "
        f"thesis' numbers give x = {len(MEMBERS[3])}: {', '.join(MEMBERS[3])}.  Ours give "
        f"x = {len(models)}: {each}.  The members here stay those of the thesis, so that its ensembles are compared."
    )


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


class Bumps(NamedTuple):
    """F_beta (T,) at `metrics.THRESHOLDS` of a Nelder-Mead ensemble (``code``), mean over runs."""

    used: np.ndarray  # with the softmax of the optimum
    raw: np.ndarray  # with the optimum itself
    votes: np.ndarray  # with the softmax, soft members rounded to yes or no
    alone: dict[str, float]  # up to this p the vote of a soft member alone is enough; by member, mean over runs
    veto: dict[str, float]  # above this p nothing passes without its vote


def threshold_steps(study: Study, ensemble: str, weights: ensembles.Weights) -> Bumps:
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
    return Bumps(used(members.logits), f_beta(raw), used(rounded), soft, {m: 1 - w for m, w in soft.items()})


def steps_summary(found: dict[str, Bumps]) -> str:
    """Whether the softmax makes the bumps of the curve, in sentences made of `threshold_steps` by ensemble."""
    said = []
    for ensemble, b in found.items():
        heavy, t = max(b.alone, key=b.alone.get), metrics.THRESHOLDS
        low, high = b.alone[heavy], b.veto[heavy]
        bands = {f"below p = {low:.2f}, where {heavy} alone is enough,": t < low,
                 f"above p = {high:.2f}, where it has a veto,": t > high,
                 "elsewhere": (t >= low) & (t <= high)}  # fmt: skip
        words = [f"{where} F_beta is {b.used[band].mean():.3f} (by the optimum itself {b.raw[band].mean():.3f})"
                 for where, band in bands.items() if band.any()]  # fmt: skip
        said.append(f"**{ensemble}**: {'; '.join(words)}, means over thresholds.  Rounding the soft members to yes or "
                    f"no moves the curve by {np.abs(b.used - b.votes).max():.3f} at the most.")  # fmt: skip
    return "\n\n".join(said)


def third_question(
    parameters: Parameters,
    measured: Measured,
    table: pd.DataFrame,
    compared: pd.DataFrame,
    learned: pd.DataFrame,
    cascade: pd.DataFrame,
) -> str:
    """The third research question, in sentences made of the tables.

    Parameters
    ----------
    measured : dict
        From `ensembles.tables.measure`.
    table, compared, learned, cascade : pandas.DataFrame
        From `tables.table_5_2`, `tables.compare_with_baselines`,
        `targets` (of all ensembles together; may be empty) and `cascades`.
    """
    compared = compared.set_index(["ensemble", "which", "measure"])
    said, verdicts = _against_best_members(table, compared)
    said += _diversity(measured, table, compared)
    for ensemble, rows in learned.groupby("ensemble") if len(learned) else ():
        chunk, test = (rows[rows.set == name] for name in ("training", "test"))
        said.append(
            f"**What {ensemble} learns**: for {chunk.by_label.mean():.0%} of a training chunk the closest member is "
            f"that which is mostly closest for the label; in float32 probability {chunk.ties.mean():.0%} tie.  On the "
            f"test set it names the closest for {test.named.mean():.0%}; always naming one would be right for "
            f"{test.most_frequent.mean():.0%}."
        )
    said.append("**Cascade**: precision at the recall that it has on the test set, and its own less that.")
    said.append(_list(_cascade(how, rows) for how, rows in cascade.groupby("thresholds", sort=False)))
    n = int((compared.against == "best member").sum())
    count = f"(Corrected for all {n} differences to a best member, those of means and stacking too.)"
    words = f"{' '.join(verdicts) or 'No difference to the best member is shown.'}  {count}"
    asked = "Does an ensemble do better than its members?"
    return "\n\n".join([*said, threshold_control.verdict(asked, words, int(table.runs.min()), parameters)])


def _against_best_members(table, compared):
    """Paragraphs on each ensemble beside its best member and the published accuracy; and the verdicts."""
    said, verdicts = [], []
    best = compared[compared.against == "best member"].reset_index("which")
    for ensemble in table.model.unique():
        mine = {name: best.loc[(ensemble, name)] for name in COMPARED}
        above, below = ([n for n, d in mine.items() if sign * d[end] > 0] for sign, end in ((1, "low"), (-1, "high")))
        shown = "; ".join(f"{side} 0 in {', '.join(n)}" for side, n in (("above", above), ("below", below)) if n)
        said.append(
            f"**{ensemble}** less the member that is best at each measure on the calibration set: "
            f"{f'the 95 % interval, over runs and images, is {shown}' if shown else 'no interval excludes 0'}."
        )
        said.append(_list(_beside(name, d, d.which, "low", "high") for name, d in mine.items()))
        for verdict, words in (("higher", "better"), ("lower", "worse")):
            if names := [name for name, d in mine.items() if d.verdict == verdict]:
                verdicts.append(f"{ensemble}: **{words}** than its best member in {', '.join(names)}.")
        wide = table[table.model == ensemble].set_index("metric")
        at, over = wide.loc[AT], wide.loc[OVER]
        said.append(
            f"Its accuracy at p = 0.5 is {at['mean']:.3f} and its mean over all thresholds, as published, "
            f"{over['mean']:.3f}; the thesis' {over.thesis:.3f} is the latter, and its precision and recall imply "
            f"{at.thesis:.3f}."
        )
    return said, verdicts


def _diversity(measured, table, compared):
    """Paragraphs on ensembles of several losses beside as many runs of cross-entropy."""
    said, asked = [], "**Diversity of losses, or averaging of seeds?**"
    for size in sorted({ENSEMBLES[ensemble].size for ensemble in table.model}):
        mean_of, one = baseline("mean", size), same_loss(BCE, size)
        lines = [f"{several}, {_beside(name, compared.loc[(several, one, name)], one, 'test_low', 'test_high')}"
                 for several in (mean_of, f"NM_{size}") for name in FAIR
                 if (several, one, name) in compared.index]  # fmt: skip
        if lines:
            gains = {mean_of: MEMBERS[size], one: [same_loss(BCE, 1)]}
            for name, (ensemble, parts) in itertools.product(FAIR, gains.items()):
                mean, low, high = gain(measured, ensemble, parts, BY_NAME[name])
                lines.append(f"{ensemble}, {name}: {mean:+.3f} ({tables.interval(low, high)}) on its members' average")
            said += [f"{asked}  Intervals are over images alone: ensembles of one loss share runs, among them others "
                     "than those of the members.", _list(lines)]  # fmt: skip
        else:
            said.append(f"{asked}  There are no {one} to compare the mean of {size} members with.")
    return said


def _cascade(how, rows):
    """What a cascade gains with one choice of its thresholds."""
    mine, others = rows[rows.model == "cascade"].iloc[0], rows[rows.model != "cascade"]
    precision = f"{mine.precision:.3f}" if np.isfinite(mine.precision) else "not defined, as some run accepts nothing,"
    return (f"thresholds {how}, {mine.seen_by_second:.0%} of the images seen by the second stage: {precision} at "
            f"recall {mine.recall:.3f}; {'; '.join(map(_at_its_recall, others.itertuples()))}")  # fmt: skip


def _at_its_recall(row):
    """Precision of a model at the recall of a cascade, and that of the cascade less it."""
    if not np.isfinite(row.precision):
        return f"{row.model}: not defined, as some run accepts nothing"
    return f"{row.model} {row.precision:.3f} ({row.cascade_minus_it:+.3f}, {tables.interval(row.low, row.high)})"


def _list(lines):
    return "\n".join(f"- {line}" for line in lines)


def _beside(name, row, other, low, high):
    """A measure of an ensemble, that of another, and the difference with its interval."""
    return (f"{name}: {row['mean']:.3f}, {other} {row.its_mean:.3f}; {row.difference:+.3f} "
            f"({tables.interval(row[low], row[high])})")  # fmt: skip
