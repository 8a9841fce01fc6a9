"""Table 5.1: what was measured, with its uncertainties, beside what was published."""

import numpy as np
import pandas as pd

from lensdet import metrics, results, statistics, thesis

METRICS = {"accuracy": "accuracy", "f_beta": "F_beta", "precision": "precision", "recall": "recall"}


def test_logits(parameters, data_key, row):
    """Labels (N,) and logits (R, N) of the complete runs of a row of Table 5.1 on the test set; None without a run."""
    loss, selector = thesis.ROWS[row]
    folders = results.complete_runs(parameters, loss, data_key)
    if not folders:
        return None
    pairs = [results.load_logits(folder, selector[parameters.protocol], "test") for folder in folders]
    good = [(labels, logits) for labels, logits in pairs if not np.isnan(logits).any()]
    if len(good) < len(pairs):
        print(f"{row}: {len(pairs) - len(good)} of {len(pairs)} runs diverged (logits not numbers) and are left out")
    return (good[0][0], np.stack([logits for _, logits in good])) if good else None


def rows_of(parameters):
    """The rows of Table 5.1 that the experiments asked for fill, in the thesis' order."""
    return [row for row, (loss, _) in thesis.ROWS.items() if loss in parameters.experiments]


def collapsed(logits):
    """Runs (R,) that accept all images, or none, at p = 0.5."""
    accepted = (np.asarray(logits) >= 0).mean(-1)
    return (accepted == 0) | (accepted == 1)


def polarised(logits):
    """Share of the predictions below 0.01 or above 0.99, of each run (R,)."""
    p = metrics.probability(logits)
    return ((p < 0.01) | (p > 0.99)).mean(-1)


def table_5_1(parameters, data_key):
    """Accuracy, F_beta, precision and recall of each row (Table 5.1).

    Collapsed runs stay in every mean.

    Returns
    -------
    pandas.DataFrame
        A row a row and metric: the mean over runs, the seed-to-seed spread (ddof 1), the 95 % interval from the test
        images (stratified bootstrap of the mean, runs fixed), n, and the thesis' mean and spread (ddof 0).
    """
    found = []
    for row in rows_of(parameters):
        pair = test_logits(parameters, data_key, row)
        if pair is None:
            continue
        summary = statistics.summarise(*pair, protocol=parameters.protocol, beta=parameters.selection_beta)
        for metric, s in summary.items():
            published = thesis.TABLE_5_1[row][metric]
            found.append({
                "model": row, "metric": METRICS[metric], "mean": s.mean, "seed_spread": s.spread, "test_low": s.low,
                "test_high": s.high, "runs": s.n_runs, "images": len(pair[0]),
                "collapsed_runs": int(collapsed(pair[1]).sum()),
                "polarised": float(polarised(pair[1]).mean()), "thesis": published[0], "thesis_spread": published[1],
            })  # fmt: skip
    return pd.DataFrame(found)


def readable(table):
    """Table 5.1 as it is read: a row a model, in each cell the mean, spread, interval and the thesis' number."""

    def cell(r):
        spread = "–" if np.isnan(r.seed_spread) else f"{r.seed_spread:.3f}"
        return f"{r['mean']:.3f}; seeds {spread}; test {r.test_low:.3f}–{r.test_high:.3f}; thesis {r.thesis:.3f}"

    if table.empty:
        return table
    wide = {
        model: {
            "n": f"{rows.runs.iloc[0]} runs, {rows.collapsed_runs.iloc[0]} collapsed",
            **{r.metric: cell(r) for _, r in rows.iterrows()},
            "beyond 0.01 or 0.99": f"{rows.polarised.iloc[0]:.0%}",
        }
        for model, rows in table.groupby("model", sort=False)
    }
    return pd.DataFrame(wide).T.rename_axis("model")
