"""Comparison with the thesis: each published number beside ours, and each of its claims with a verdict.

From saved logits.  Run i is compared with run i on the same images; see `lensdet.evaluation.statistics` for what the
intervals say.  Published values are of another survey: patterns can be compared with them, values cannot.
"""

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet import storage
from lensdet.chapters import style, thesis
from lensdet.chapters.ensembles import tables as ensemble_tables
from lensdet.chapters.losses import tables, threshold_control
from lensdet.data import frozen_sets
from lensdet.evaluation import ensembles, metrics, statistics, thresholds
from lensdet.evaluation.scores import Scores
from lensdet.experiments import (
    BCE,
    BY_F_BETA,
    BY_SOFT_F_BETA,
    ENSEMBLES,
    EXPERIMENTS,
    F_BETA,
    INPUT_DEPENDENT,
    MAX_TREE,
    NETWORKS,
    SEGMENTED,
)
from lensdet.parameters import Parameters
from lensdet.study import Study

METRICS = {
    **tables.METRICS,
    "false_positive_rate": "false-positive rate",
    "saturated": "predictions beyond 0.01 or 0.99",
    "f_beta_high": ensemble_tables.MEASURES["f_beta_high"],
    "precision_high": f"precision, mean over p > {ensemble_tables.HIGH}",
    "f_beta_low": f"F_beta, mean over p <= {ensemble_tables.HIGH}",
    "f_beta_over_thresholds": "spread of F_beta over thresholds",
    "f_beta_over_runs": "distance of F_beta from its mean over runs",
    "recall_large": f"recall above {thesis.LARGE_RADIUS} arcsec",
    "mean_f_beta": "mean F_beta over thresholds (Eq. 3.21)",
    "soft_f_beta": "soft F_beta",
}
NO_RUN = "no run"
VERDICTS = ("agrees", "contradicts", "equivalent", "open", NO_RUN)
RULE = (
    "A claim is one comparison of run i with run i, after the number of training images named above.  It *agrees* or "
    "*contradicts* where the p-value of the difference, adjusted by Holm's method for all claims of its research "
    f"question that have {statistics.LEAST_RUNS} runs, is below 0.05.  Otherwise it is *equivalent* where the 95 % "
    f"interval over seeds and images lies within {statistics.EQUIVALENT} of 0 (not adjusted), and else *open*, as "
    f"everything is below {statistics.LEAST_RUNS} runs."
)
CLOSING = (
    f"what would decide a claim that is open after {statistics.LEAST_RUNS} runs, if the difference and its spreads "
    "came out again as they were measured: so many runs in all on these images, or so many images with these runs, or "
    "so many runs on a thousand times as many images.  It is no forecast: with the true difference as measured, about "
    "every second repeat of that size would still be open, and the spread of five runs may truly be 0.6 to 2.9 times "
    "that (95 %)."
)
CELLS = (
    "The mean over runs; the seed-to-seed spread (n − 1) of single runs; the 95 % interval that the test images leave; "
    "the thesis' mean and spread (n).  Accuracies of ensembles are means, and their spreads those, over thresholds and "
    "runs together, as published."
)


def measure(parameters: Parameters, scores: Scores, weights: NDArray | None = None) -> dict[str, NDArray]:
    """Of `METRICS` what any model has, by name: arrays (R,), or (R, B) with weights from `Study.resamples`."""
    labels, p, beta = scores.labels, metrics.probability(scores.logits), parameters.selection_beta
    counts = metrics.hard_counts(labels, p, metrics.THRESHOLDS, weights)  # each (R, 99) or (R, 99, B)
    f_beta, high = metrics.f_beta(counts, beta), metrics.THRESHOLDS > ensemble_tables.HIGH + thresholds.ROUNDING
    negatives = metrics.hard_counts(labels, p, metrics.PROTOCOLS[parameters.protocol]["threshold"], weights)
    beyond = metrics.soft_counts(labels, (p < 0.01) | (p > 0.99), weights)
    return {
        **metrics.evaluate(labels, scores.logits, parameters.protocol, beta, weights),
        "false_positive_rate": negatives.fp / (negatives.fp + negatives.tn),
        "saturated": (beyond.tp + beyond.fp) / sum(beyond),
        "f_beta_high": f_beta[:, high].mean(1),
        "precision_high": metrics.precision(counts)[:, high].mean(1),
        "f_beta_low": f_beta[:, ~high].mean(1),
        "f_beta_over_thresholds": f_beta.std(1),
    }


def recall_of(parameters: Parameters, scores: Scores, chosen: NDArray, weights: NDArray | None = None) -> NDArray:
    """Recall (Eq. 3.7) on some lenses alone.

    Parameters
    ----------
    scores : lensdet.evaluation.scores.Scores
    chosen : bool array (N,)
    weights : array (B, N), optional
        From `Study.resamples`.

    Returns
    -------
    array (R,), or (R, B) with weights
        Not a number for a resample that has none of them.
    """
    p = metrics.probability(scores.logits[:, chosen])
    weights = None if weights is None else weights[:, chosen]
    threshold = metrics.PROTOCOLS[parameters.protocol]["threshold"]
    counts = metrics.hard_counts(scores.labels[chosen], p, threshold, weights)
    return np.where(counts.tp + counts.fn > 0, metrics.recall(counts), np.nan)


def selected_by(parameters: Parameters, scores: Scores, weights: NDArray | None = None) -> dict[str, NDArray]:
    """``mean_f_beta`` (Eq. 3.21) and ``soft_f_beta``, as `checkpoints.selectors` has them: (R,) or (R, B)."""
    labels, p, beta = scores.labels, metrics.probability(scores.logits), parameters.selection_beta
    counts = metrics.hard_counts(labels, p, metrics.OF_THE_MEAN, weights)
    soft = metrics.soft_counts(labels, p, weights)
    return {"mean_f_beta": metrics.f_beta(counts, beta).mean(1), "soft_f_beta": metrics.f_beta(soft, beta)}


def load(study: Study, name: str, which: str = "test") -> Scores | None:
    """`scores.Scores` of a row of Tables 5.1 to 5.3 on a frozen set; None without a run.

    An ensemble is made of as many runs as all its members have from the first on.
    """
    if name == MAX_TREE:
        return load(_segmented(study), BCE, which)
    experiment = EXPERIMENTS[name]
    if not set(experiment.losses) <= set(study.parameters.experiments):
        return None
    if name not in ENSEMBLES:
        return study.scores(name, which)
    trained = [*experiment.losses, name] if name in INPUT_DEPENDENT else experiment.losses
    common = set.intersection(*({run.number for run in study.runs(e)} for e in trained))
    n = next(k for k in range(study.parameters.runs + 1) if k + 1 not in common)
    return ensembles.scores(study.changed(runs=n), name, which) if n else None


def _segmented(study):
    if study.parameters.segmentation != "none":
        raise ValueError("the comparison starts from runs on whole stamps: leave `segmentation` at none")
    return study.changed(segmentation=study.parameters.protocol)


def published(study: Study, weights: NDArray) -> pd.DataFrame:
    """Each number of Tables 5.1 to 5.3 beside ours.

    Parameters
    ----------
    weights : array (B, N)
        From `Study.resamples`.

    Returns
    -------
    pandas.DataFrame
        A row a number: ``table``, ``model``, ``metric``, ``thesis`` and ``thesis_spread`` (ddof 0); ``mean``,
        ``seed_spread``, ``test_low``, ``test_high``, ``runs`` and ``images`` as in `losses.tables.table_5_1`; and
        ``note``, which is "no run" where there is none.  The accuracy of an ensemble is the mean over thresholds, as
        published.
    """
    found = [tables.table_5_1(study, weights)]
    pairs = {name: tuple(load(study, name, which) for which in ("calibration", "test"))
             for name in ENSEMBLES}  # fmt: skip
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    found.append(ensemble_tables.table_5_2(ensemble_tables.measure(study.parameters, pairs, weights), pairs))
    if (read := load(study, MAX_TREE)) is not None:
        summary = statistics.summarise(*read[:2], weights, study.parameters.protocol, study.parameters.selection_beta)
        found.append(pd.DataFrame(tables.to_rows(MAX_TREE, read, summary)))
    ours = {(line["model"], line["metric"]): line for table in found for line in table.to_dict("records")}
    rows = []
    for number, table in (("5.1", thesis.TABLE_5_1), ("5.2", thesis.TABLE_5_2), ("5.3", thesis.TABLE_5_3)):
        for model, values in table.items():
            for metric, (mean, spread) in values.items():
                name = ensemble_tables.OVER if (number, metric) == ("5.2", "accuracy") else METRICS[metric]
                line = ours.get((model, name), {"runs": 0, "images": 0})
                measured = {k: line.get(k, np.nan) for k in ("mean", "seed_spread", "test_low", "test_high")}
                rows.append({"table": number, "model": model, "metric": name, "thesis": mean, "thesis_spread": spread,
                             **measured, "runs": line["runs"], "images": line["images"],
                             "note": "" if line["runs"] else NO_RUN})  # fmt: skip
    return pd.DataFrame(rows)


def compare(
    read: dict[str, tuple[NDArray, dict[str, NDArray], dict[str, NDArray]]], a: str, b: str, metric: str
) -> statistics.Difference | None:
    """`statistics.paired` difference of two entries of `read`, over the runs that both have; None without one.

    A spread over runs is compared by the distances from the mean, run by run, as in Levene's test.

    Parameters
    ----------
    read : dict
        By name, the numbers of the runs (R,), and `measure` without and with weights.
    """
    common = np.intersect1d(read[a][0], read[b][0])
    if not len(common):
        return None
    values, resampled = [], []
    for runs, plain, drawn in (read[a], read[b]):
        pair = [each["f_beta" if metric == "f_beta_over_runs" else metric][np.isin(runs, common)]
                for each in (plain, drawn)]  # fmt: skip
        if metric == "f_beta_over_runs":
            pair = [np.abs(each - each.mean(0)) for each in pair]
        values.append(pair[0])
        resampled.append(pair[1])
    return statistics.paired(*values, *resampled)


def judged_on(study: Study) -> str:
    """What claims are judged on: the large test set where every run was scored on it, else the test set.

    Runs of before it was there have no logits of it, and one such run sends all claims of its profile to the test set.
    """
    ways = [study, _segmented(study)]
    experiments = [*study.parameters.experiments, *INPUT_DEPENDENT]
    runs = [run for each, e in itertools.product(ways, experiments) for run in each.runs(e)]
    key = frozen_sets.large_key(study.parameters)
    return frozen_sets.LARGE if runs and all(run.scored_on_large(key) for run in runs) else "test"


def claims(study: Study, weights: NDArray, which: str = "test") -> pd.DataFrame:
    """Each of `thesis.CLAIMS` with our difference and the verdict.

    Parameters
    ----------
    weights : array (B, N)
        From `Study.resamples`.
    which : str
        The frozen set that claims are judged on, from `judged_on`.

    Returns
    -------
    pandas.DataFrame
        A row a claim: ``section``, ``a``, ``b``, ``metric``, ``sign``, ``claim`` in words; ``thesis``, the difference
        of its published numbers, where it prints both; ``difference`` a - b with its 95 % interval ``low``, ``high``
        over seeds and images, its p-value ``p``, and that adjusted for the claims of its question, ``p_adjusted``
        (`statistics.adjusted`); ``runs``; ``images``, the size of the test set; ``question``, of `thesis.QUESTIONS`;
        ``verdict``, of `VERDICTS`; where that is open after `statistics.LEAST_RUNS`
        runs, ``runs_needed`` and ``images_needed``, how many of either alone would close it, and
        ``runs_needed_on_many``, how many runs on a thousand times the images (`statistics.needed`).
        The best member is that of the highest mean on the calibration set.
    """
    read = _read(study, weights, which)
    fitted = {name: measure(study.parameters, load(study, name, "calibration"))
              for name in read if name in NETWORKS}  # fmt: skip
    rows, found = [], {}
    for claim in thesis.CLAIMS:
        b, shown = claim.b, claim.b
        if b == thesis.BEST_MEMBER and set(ENSEMBLES[claim.a].members) <= set(fitted):
            b = max(ENSEMBLES[claim.a].members, key=lambda model: fitted[model][claim.metric].mean())
            shown = f"{shown}, {b}"
        d = compare(read, claim.a, b, claim.metric) if {claim.a, b} <= set(read) else None
        measured = (np.nan,) * 4 + (0,) if d is None else (d.mean, d.low, d.high, d.p, d.n_runs)
        words = f"{METRICS[claim.metric]}: {claim.a} {'>' if claim.sign > 0 else '<'} {shown}"
        rows.append({**claim._asdict(), "b": b, "claim": words, "question": claim.question, "thesis": _printed(claim),
                     **dict(zip(("difference", "low", "high", "p", "runs"), measured, strict=True)),
                     "p_adjusted": np.nan, "images": 0 if d is None else weights.shape[1], "verdict": NO_RUN,
                     "runs_needed": np.nan, "images_needed": np.nan, "runs_needed_on_many": np.nan})  # fmt: skip
        if d is not None:
            found.setdefault(claim.question, []).append((rows[-1], d, claim.sign))
    for family in found.values():
        _, differences, signs = zip(*family, strict=True)
        verdicts = statistics.judge(differences, signs)
        decided = sum(verdict in ("agrees", "contradicts") for verdict in verdicts)
        undecided = sum(d.n_runs >= statistics.LEAST_RUNS for d in differences) - decided
        for (row, d, _), verdict, p in zip(family, verdicts, statistics.adjusted(differences), strict=True):
            row["verdict"], row["p_adjusted"] = verdict, p
            if verdict == "open" and d.n_runs >= statistics.LEAST_RUNS:
                row["runs_needed"], times, row["runs_needed_on_many"] = statistics.needed(d, undecided)
                row["images_needed"] = times * row["images"]
    return pd.DataFrame(rows)


def _read(study, weights, which):
    """What `compare` reads: each row of Tables 5.1 to 5.3 that has a run, and `thesis.SMALLER`."""
    scored = {name: load(study, name, which) for name in NETWORKS | ENSEMBLES | SEGMENTED}
    scored = {name: scores for name, scores in scored.items() if scores is not None}
    read = {name: (scores.runs, measure(study.parameters, scores), measure(study.parameters, scores, weights))
            for name, scores in scored.items()}  # fmt: skip
    if F_BETA in scored:
        _add_recalls(study, which, read, F_BETA, scored[F_BETA], weights)
    for name in {BCE, BY_F_BETA, BY_SOFT_F_BETA} & set(scored):
        for values, w in zip(read[name][1:], (None, weights), strict=True):
            values.update(selected_by(study.parameters, scored[name], w))
    return read


def _add_recalls(study, which, read, name, scores, weights):
    """Of a row, the recall on mock lenses of large Einstein radii; beside it, as `thesis.SMALLER`, on the rest.

    Nothing where no radii are known, as of stamps without their keywords.
    """
    radius = study.truth(which).get("einstein_radius")
    if radius is None:
        return
    chosen = {name: (radius > thesis.LARGE_RADIUS), thesis.SMALLER: (radius <= thesis.LARGE_RADIUS)}
    if all(images.any() for images in chosen.values()):
        read[thesis.SMALLER] = scores.runs, {}, {}
        for row, images in chosen.items():
            for values, w in zip(read[row][1:], (None, weights), strict=True):
                values["recall_large"] = recall_of(study.parameters, scores, images.to_numpy(), w)


def _printed(claim):
    """Difference of the published numbers; NaN where one is not printed.

    An ensemble's accuracy is none: it was computed in another way than that of a single model.
    """
    rows = thesis.TABLE_5_1 | thesis.TABLE_5_2 | thesis.TABLE_5_3
    both = [rows.get(name, {}).get(claim.metric, (np.nan,))[0] for name in (claim.a, claim.b)]
    mixed = claim.metric == "accuracy" and (claim.a in ENSEMBLES) != (claim.b in ENSEMBLES)
    return np.nan if mixed else both[0] - both[1]


def counted(stated: pd.DataFrame) -> str:
    """How many claims have which verdict, from `claims`."""
    n = stated.verdict.value_counts()
    return f"{len(stated)} claims ({', '.join(f'{verdict}: {n[verdict]}' for verdict in VERDICTS if verdict in n)})"


def by_question(stated: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each research question have which verdict, a row a question, from `claims`."""
    table = pd.crosstab(stated.question, stated.verdict).reindex(columns=list(VERDICTS), fill_value=0)
    table = table.loc[:, (table > 0).any()]
    table.insert(0, "claims", table.sum(axis=1))
    return table.rename(index=lambda number: f"{number}. {thesis.QUESTIONS[number]}").rename_axis("question")


def markdown(parameters: Parameters, numbers: pd.DataFrame, stated: pd.DataFrame) -> str:
    """The comparison as text, from `published` and `claims`: the verdicts counted, then claims, then numbers."""
    data = "Simulated survey" if parameters.data is None else f"Stamps of {parameters.data.name}"
    made = style.provenance(parameters, int(numbers.runs.max()))
    shown = pd.DataFrame(
        {
            "section": stated.section,
            "claim": stated.claim,
            "thesis": [f"{d:+.3f}" if np.isfinite(d) else "–" for d in stated.thesis],
            "here (95 %)": [
                f"{r.difference:+.3f} ({tables.interval(r.low, r.high)})" if r.runs else "–"
                for r in stated.itertuples()
            ],
            "runs": stated.runs,
            "p, adjusted": ["–" if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in stated.p_adjusted],
            "verdict": stated.verdict,
        }
    )
    needed = stated[["runs_needed", "images_needed", "runs_needed_on_many"]].map("{:,.0f}".format).replace("nan", "–")
    needed.columns = ["runs needed", "or images", "or runs, with many images"]
    unpaired = [f"- {u.section}: {u.words} (notebook {u.notebook})" for u in thesis.UNPAIRED]
    parts = (
        f"# {data}: comparison with the thesis",
        f"*{made}*",
        f"**{counted(stated)}**",
        by_question(stated).to_markdown(),
        f"Claims are judged on {stated.images.max():,} test images; the numbers at the end are of "
        f"{int(numbers.images.max()):,}.",
        f"{RULE}  The last columns: {CLOSING}",
        shown.join(needed).to_markdown(index=False, disable_numparse=True),
        "Claims that no paired comparison decides:",
        "\n".join(unpaired),
        "## Numbers",
        CELLS,
        _wide(numbers).to_markdown(disable_numparse=True),
    )
    return "\n\n".join(parts)


def _wide(numbers):
    """`published` with a row a model."""
    wide = {}
    for r in numbers.itertuples():
        metric = "accuracy" if r.metric == ensemble_tables.OVER else r.metric
        ours = tables.cell(r.mean, r.seed_spread, r.test_low, r.test_high) if r.runs else r.note
        row = wide.setdefault(r.model, {"table": r.table, "runs": str(r.runs)})
        row[metric] = f"{ours}; thesis {r.thesis:.3f} ± {r.thesis_spread:.3f}"
    return pd.DataFrame(wide).T.rename_axis("model")


def save(study: Study, weights: NDArray) -> pd.DataFrame:
    """Write ``comparison.md``, and as CSV what is in it, beside the figures; returns `claims`.

    And as CSV `threshold_control.ranking`, which is shown for all profiles together.
    """
    folder, numbers = style.folder(study.parameters), published(study, weights)
    if (which := judged_on(study)) != "test":
        weights = study.resamples(which)
    stated = claims(study, weights, which)
    storage.write_csv(folder / "comparison_numbers.csv", numbers, style.DIGITS)
    storage.write_csv(folder / "comparison_claims.csv", stated, style.DIGITS)
    ranking = threshold_control.ranking(study, weights, which)
    storage.write_csv(folder / "comparison_ranking.csv", ranking, style.DIGITS)
    text = markdown(study.parameters, numbers, stated)
    with storage.atomic(folder / "comparison.md") as beside:
        beside.write_text(text + "\n")
    return stated
