"""Comparison with the thesis: each published number beside ours, and each of its claims with a verdict.

From saved logits.  Run i is compared with run i on the same images; see `lensdet.statistics` for what the intervals
say.  Published values are of another survey: patterns can be compared with them, values cannot.
"""

import numpy as np
import pandas as pd

from lensdet import (
    control,
    ensemble_tables,
    ensembles,
    figures,
    metrics,
    results,
    statistics,
    tables,
    thesis,
    thresholds,
)

METRICS = {
    **tables.METRICS,
    "false_positive_rate": "false-positive rate",
    "polarised": "predictions beyond 0.01 or 0.99",
    "f_beta_high": ensemble_tables.MEASURES["f_beta_high"],
    "precision_high": f"precision, mean over p > {ensemble_tables.HIGH}",
    "f_beta_low": f"F_beta, mean over p <= {ensemble_tables.HIGH}",
    "f_beta_over_thresholds": "spread of F_beta over thresholds",
    "f_beta_over_runs": "distance of F_beta from its mean over runs",
}
VERDICTS = ("reproduced", "not reproduced", "undecided", "undecided (not converged)", "no run")
NO_RUN = "no run"
RULE = (
    "A claim is one comparison.  It is *reproduced* where the 95 % interval of the paired difference, over seeds and "
    "images, lies on the thesis' side of 0, *not reproduced* where it lies on the other, else *undecided*; so it is "
    "below five runs, and where a training has not plateaued.  Not corrected for the number of claims."
)
CELLS = (
    "The mean over runs; the seed-to-seed spread (n − 1) of single runs; the 95 % interval that the test images leave; "
    "the thesis' mean and spread (n).  Accuracies of ensembles are means, and their spreads those, over thresholds and "
    "runs together, as published."
)


def measure(parameters, scores, weights=None):
    """All of `METRICS` but the last, by name: arrays (R,), or (R, B) with weights from `lensdet.tables.resamples`."""
    labels, p, beta = scores.labels, metrics.probability(scores.logits), parameters.selection_beta
    counts = metrics.hard_counts(labels, p, metrics.THRESHOLDS, weights)  # each (R, 99) or (R, 99, B)
    f_beta, high = metrics.f_beta(counts, beta), metrics.THRESHOLDS > ensemble_tables.HIGH + thresholds.ROUNDING
    negatives = metrics.hard_counts(labels, p, metrics.PROTOCOLS[parameters.protocol]["threshold"], weights)
    beyond = metrics.soft_counts(labels, (p < 0.01) | (p > 0.99), weights)
    return {
        **metrics.evaluate(labels, scores.logits, parameters.protocol, beta, weights),
        "false_positive_rate": negatives.fp / (negatives.fp + negatives.tn),
        "polarised": (beyond.tp + beyond.fp) / sum(beyond),
        "f_beta_high": f_beta[:, high].mean(1),
        "precision_high": metrics.precision(counts)[:, high].mean(1),
        "f_beta_low": f_beta[:, ~high].mean(1),
        "f_beta_over_thresholds": f_beta.std(1),
    }


def load(parameters, data_key, name, which="test"):
    """`lensdet.tables.Scores` of a row of Tables 5.1 to 5.3 on a frozen set; None without a run.

    An ensemble is made of as many runs as all its members have from the first on.
    """
    if name == thesis.MAX_TREE:
        return load(_segmented(parameters), data_key, control.BCE, which)
    if not set(_experiments(name)) - set(thesis.TABLE_5_2) <= set(parameters.experiments):
        return None
    if name not in thesis.TABLE_5_2:
        return tables.scores(parameters, data_key, name, which)
    runs = [{f.name for f in results.complete_runs(parameters, e, data_key)} for e in _experiments(name)]
    common = set.intersection(*runs)
    n = next(k for k in range(parameters.runs + 1) if f"run_{k + 1:02d}" not in common)
    return ensembles.scores(parameters.model_copy(update={"runs": n}), data_key, name, which) if n else None


def _segmented(parameters):
    if parameters.segmentation != "none":
        raise ValueError("the comparison starts from runs on whole stamps: leave `segmentation` at none")
    return parameters.model_copy(update={"segmentation": parameters.protocol})


def _experiments(name):
    """What has to be trained for a row of Tables 5.1 to 5.3."""
    if name in thesis.TABLE_5_2:
        losses = sorted({thesis.ROWS[model][0] for model in thesis.members(name)})
        return [*losses, name] if name.startswith("IDE") else losses
    return [thesis.ROWS[control.BCE if name == thesis.MAX_TREE else name][0]]


def published(parameters, data_key, weights):
    """Each number of Tables 5.1 to 5.3 beside ours.

    Parameters
    ----------
    weights : array (B, N)
        From `lensdet.tables.resamples`.

    Returns
    -------
    pandas.DataFrame
        A row a number: ``table``, ``model``, ``metric``, ``thesis`` and ``thesis_spread`` (ddof 0); ``mean``,
        ``seed_spread``, ``test_low``, ``test_high``, ``runs`` and ``images`` as in `lensdet.tables.table_5_1`; and
        ``note``, which is "no run" where there is none.  The accuracy of an ensemble is the mean over thresholds, as
        published.
    """
    found = [tables.table_5_1(parameters, data_key, weights)]
    pairs = {name: tuple(load(parameters, data_key, name, which) for which in ("calibration", "test"))
             for name in thesis.TABLE_5_2}  # fmt: skip
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    found.append(ensemble_tables.table_5_2(ensemble_tables.measure(parameters, pairs, weights), pairs))
    if (read := load(parameters, data_key, thesis.MAX_TREE)) is not None:
        summary = statistics.summarise(*read[:2], weights, parameters.protocol, parameters.selection_beta)
        found.append(pd.DataFrame(tables.lines(thesis.MAX_TREE, read, summary)))
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


def compare(read, a, b, metric):
    """`lensdet.statistics.paired` difference of two entries of `read`, over the runs that both have; None without one.

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


def claims(parameters, data_key, weights):
    """Each of `lensdet.thesis.CLAIMS` with our difference and the verdict.

    Parameters
    ----------
    weights : array (B, N)
        From `lensdet.tables.resamples`.

    Returns
    -------
    pandas.DataFrame
        A row a claim: ``section``, ``a``, ``b``, ``metric``, ``sign``, ``claim`` in words; ``thesis``, the difference
        of its published numbers, where it prints both; ``difference`` a - b with its 95 % interval ``low``, ``high``
        over seeds and images; ``runs``; ``interval``, what that interval alone says, of however few runs, and
        ``verdict``, both of `VERDICTS`.  The best member is that of the highest mean on the calibration set.
    """
    names = (*thesis.TABLE_5_1, *thesis.TABLE_5_2, *thesis.TABLE_5_3)
    read, fitted = {}, {}
    for name in names:
        if (scores := load(parameters, data_key, name)) is not None:
            read[name] = scores.runs, measure(parameters, scores), measure(parameters, scores, weights)
            if name in thesis.ROWS:
                fitted[name] = measure(parameters, load(parameters, data_key, name, "calibration"))
    open_ends, rows = _open_ends(parameters, data_key, read), []
    for claim in thesis.CLAIMS:
        b, shown = claim.b, claim.b
        if b == thesis.BEST_MEMBER and set(thesis.members(claim.a)) <= set(fitted):
            b = max(thesis.members(claim.a), key=lambda model: fitted[model][claim.metric].mean())
            shown = f"{shown}, {b}"
        d = compare(read, claim.a, b, claim.metric) if {claim.a, b} <= set(read) else None
        interval = verdict = NO_RUN
        if d is not None:
            interval = statistics.verdict(d, claim.sign, least_runs=2)
            left = open_ends[claim.a] or open_ends[b]
            verdict = "undecided (not converged)" if left else statistics.verdict(d, claim.sign)
        measured = (np.nan, np.nan, np.nan, 0) if d is None else (d.mean, d.low, d.high, d.n_runs)
        words = f"{METRICS[claim.metric]}: {claim.a} {'>' if claim.sign > 0 else '<'} {shown}"
        rows.append({**claim._asdict(), "b": b, "claim": words, "thesis": _printed(claim),
                     **dict(zip(("difference", "low", "high", "runs"), measured, strict=True)),
                     "interval": interval, "verdict": verdict})  # fmt: skip
    return pd.DataFrame(rows)


def _open_ends(parameters, data_key, names):
    """By name of a row, what of it has not plateaued, in words (`lensdet.control.open_ends`)."""
    found, by_name = {}, {}
    for name in names:
        own = _segmented(parameters) if name == thesis.MAX_TREE else parameters
        for experiment in _experiments(name):
            key = experiment, own.segmentation
            if key not in found:
                folders = results.complete_runs(own, experiment, data_key)
                found[key] = control.open_ends(own, {experiment: [results.load_history(f) for f in folders]})
        by_name[name] = ", ".join(words for e in _experiments(name) if (words := found[e, own.segmentation]))
    return by_name


def _printed(claim):
    """Difference of the published numbers; not a number where one is not printed.

    An ensemble's accuracy is none: it was computed in another way than that of a single model.
    """
    rows = thesis.TABLE_5_1 | thesis.TABLE_5_2 | thesis.TABLE_5_3
    both = [rows.get(name, {}).get(claim.metric, (np.nan,))[0] for name in (claim.a, claim.b)]
    mixed = claim.metric == "accuracy" and (claim.a in thesis.TABLE_5_2) != (claim.b in thesis.TABLE_5_2)
    return np.nan if mixed else both[0] - both[1]


def counted(stated):
    """How many claims have which verdict, in words, from `claims`."""
    numbers = [(int((stated.verdict == verdict).sum()), verdict) for verdict in VERDICTS]
    return f"{len(stated)} claims: {', '.join(f'{n} {verdict}' for n, verdict in numbers if n)}."


def apart(stated):
    """What the intervals say of networks that have not converged, in words, from `claims`; "" where all have.

    It is about these networks, and decides no claim.
    """
    # one run has no interval, nor do runs that agree exactly
    own = stated[stated.verdict.str.contains("converged") & np.isfinite(stated.low)]
    if own.empty:
        return ""
    sides = {"on the thesis' side": "reproduced", "on the other": "not reproduced", "on neither": "undecided"}
    counts = [f"{int((own.interval == verdict).sum())} {words}" for words, verdict in sides.items()]
    return f"Of these networks, which have not converged, {len(own)} intervals lie: {', '.join(counts)}."


def markdown(parameters, numbers, stated):
    """The comparison as text, from `published` and `claims`: the verdicts counted, then claims, then numbers."""
    data = "Simulated survey" if parameters.data is None else f"Stamps of {parameters.data.name}"
    made = figures.made_of(parameters, int(numbers.runs.max()), not stated.verdict.str.contains("converged").any())
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
            "verdict": stated.verdict,
        }
    )
    unpaired = [f"- {u.section}: {u.words} (notebook {u.notebook})" for u in thesis.UNPAIRED]
    parts = (
        f"# {data}: comparison with the thesis",
        f"*{made}*",
        f"**{counted(stated)}**  {apart(stated)}".rstrip(),
        RULE,
        shown.to_markdown(index=False, disable_numparse=True),
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


def save(parameters, data_key, weights):
    """Write ``comparison.md``, and as CSV what is in it, beside the figures; returns `claims`."""
    folder, numbers = figures.folder(parameters), published(parameters, data_key, weights)
    stated = claims(parameters, data_key, weights)
    results.write_csv(folder / "comparison_numbers.csv", numbers)
    results.write_csv(folder / "comparison_claims.csv", stated)
    text = markdown(parameters, numbers, stated)
    with results.atomic(folder / "comparison.md") as beside:
        beside.write_text(text + "\n")
    return stated
