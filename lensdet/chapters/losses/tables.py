"""Table 5.1: losses and selection, with uncertainties, beside what was published."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet.chapters import style, thesis
from lensdet.evaluation import metrics, statistics
from lensdet.evaluation.metrics import Protocol
from lensdet.evaluation.scores import Scores, collapsed, saturated
from lensdet.study import Study

METRICS = {"accuracy": "accuracy", "f_beta": "F_beta", "precision": "precision", "recall": "recall"}


def best_models(table: pd.DataFrame) -> dict[str, str]:
    """The model with the highest mean of each metric of Table 5.1, by name of the metric; of equals the first."""
    return {metric: own.loc[own["mean"].idxmax(), "model"] for metric, own in table.groupby("metric", sort=False)}


def table_5_1(study: Study, weights: NDArray, protocol: Protocol | None = None) -> pd.DataFrame:
    """Table 5.1: accuracy, F_beta, precision and recall of each model.

    Collapsed runs stay in every mean.

    Parameters
    ----------
    weights : array (B, N)
        From `Study.resamples`.
    protocol : {"text", "code"}, optional
        Without it, that of the parameters.

    Returns
    -------
    pandas.DataFrame
        A row a model and metric: the mean over runs, the seed-to-seed spread (ddof 1), the 95 % interval that the test
        images leave (bootstrap of the mean, runs fixed), n, and the thesis' mean and spread (ddof 0).
    """
    protocol, found = protocol or study.parameters.protocol, []
    for model in study.models:
        read = study.scores(model, protocol=protocol)
        if read is None:
            continue
        summary = statistics.summarise(read.labels, read.logits, weights, protocol, study.parameters.selection_beta)
        found += to_rows(model, read, summary)
    return pd.DataFrame(found)


def to_rows(model: str, read: Scores, summary: dict[str, statistics.Summary]) -> Iterator[dict[str, Any]]:
    """Rows of `table_5_1` for one model: its `Scores` and what `statistics.summarise` makes of them."""
    shared = {"runs": len(read.logits), "images": len(read.labels), "collapsed_runs": int(collapsed(read.logits).sum()),
              "saturated": float(saturated(read.logits).mean())}  # fmt: skip
    for metric, s in summary.items():
        published = thesis.TABLE_5_1.get(model, {}).get(metric, (np.nan, np.nan))
        yield {"model": model, "metric": METRICS[metric], "mean": s.mean, "seed_spread": s.spread, "test_low": s.low,
               "test_high": s.high, **shared, "thesis": published[0], "thesis_spread": published[1]}  # fmt: skip


def interval(low: float, high: float) -> str:
    """An interval as it is read; a single run has none over seeds, nor have runs that agree exactly."""
    return f"{low:+.3f} to {high:+.3f}" if np.isfinite(low) else "no interval: one run, or runs that agree exactly"


def cell(mean: float, spread: float, low: float, high: float, thesis: float = np.nan) -> str:
    """A cell: three numbers, each with its name, and the thesis'.

    Parameters
    ----------
    mean, spread : float
        Over runs; the spread is that from seed to seed.
    low, high : float
        The interval that the test images leave.
    thesis : float
        Its mean.
    """
    parts = [f"{mean:.3f}", f"seeds {spread:.3f}" if np.isfinite(spread) else "seeds –", f"test {low:.3f}–{high:.3f}"]
    return "; ".join([*parts, *([f"thesis {thesis:.3f}"] if np.isfinite(thesis) else [])])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Table 5.1 as it is read: a row a model, in each cell the mean, spread, interval and the thesis' number."""
    if table.empty:
        return table
    wide = {
        model: {
            "n": f"{style.number_of(rows.runs.iloc[0], 'run')}, {rows.collapsed_runs.iloc[0]} collapsed",
            **{
                r.metric: cell(r["mean"], r.seed_spread, r.test_low, r.test_high, r.get("thesis", np.nan))
                for _, r in rows.iterrows()
            },
            **({"beyond 0.01 or 0.99": f"{rows.saturated.iloc[0]:.0%}"} if "saturated" in rows else {}),
            **({"mean threshold": f"{rows.threshold.iloc[0]:.3f}"} if "threshold" in rows else {}),
        }
        for model, rows in table.groupby("model", sort=False)
    }
    return pd.DataFrame(wide).T.rename_axis("model")


def protocols(study: Study, weights: NDArray) -> pd.DataFrame:
    """Table 5.1 under both protocols, from the same trainings.

    Returns
    -------
    pandas.DataFrame
        A row a model and metric: mean under ``text`` and ``code``, the thesis' value, and the paired difference code -
        text with the interval over seeds and images (`statistics.paired`).
    """
    found = []
    for model in study.models:
        read = {name: study.scores(model, protocol=name) for name in ("code", "text")}
        if None in read.values():
            continue
        common = np.intersect1d(read["code"].runs, read["text"].runs)  # one may have diverged at one checkpoint alone
        values = {}
        for name, s in read.items():
            s = s._replace(logits=s.logits[np.isin(s.runs, common)])
            beta = study.parameters.selection_beta
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
